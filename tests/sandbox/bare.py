"""A client of bare sockets: it sends what it is told and judges nothing."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import urllib3
import websocket

from polysync.sandbox import Sandbox

TIMEOUT = 5.0

Event = dict[str, Any]


class Bare:
    """One conversation with a sandbox, made by hand.

    Args:
        sandbox: Whom to talk to.
        streaming: What to ask for when the session is made.
        join: Whether to connect, ask for the agent and read its greeting.
    """

    def __init__(
        self, sandbox: Sandbox, *, streaming: bool = True, join: bool = False
    ) -> None:
        self.sandbox = sandbox
        self.http = urllib3.PoolManager(retries=False, timeout=TIMEOUT)
        self.sockets: list[websocket.WebSocket] = []
        answer = self.post(
            "access-token",
            {"X-Token": sandbox.connector_token, "X-Host": sandbox.host},
        )
        self.token: str = answer.json()["access_token"]
        self.session_id: str = self.post(
            "sessions",
            {"Authorization": f"Bearer {self.token}"},
            {"streaming_enabled": streaming},
        ).json()["session_id"]
        self.session = sandbox.sessions[self.session_id]
        if join:
            self.connect()
            self.join()

    def __enter__(self) -> Bare:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for sock in self.sockets:
            sock.shutdown()
        self.http.clear()

    def post(
        self, path: str, headers: dict[str, str], body: Any = None
    ) -> urllib3.BaseHTTPResponse:
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        return self.http.request(
            "POST",
            f"{self.sandbox.base_url}/api/v1/{path}",
            headers={"Content-Type": "application/json", **headers},
            body=data,
        )

    def connect(self, cursor: object = None, **query: object) -> websocket.WebSocket:
        """Open a socket; it becomes the one that is talked on."""
        asked = {"session_id": self.session_id, "access_token": self.token, **query}
        if cursor is not None:
            asked["cursor"] = cursor
        url = self.sandbox.base_url.replace("http", "ws", 1) + "/ws?"
        url += urlencode({k: v for k, v in asked.items() if v is not None})
        self.ws = websocket.create_connection(url, timeout=TIMEOUT)
        self.sockets.append(self.ws)
        return self.ws

    def refused(self, **query: object) -> tuple[int, Any]:
        """Try to connect; return the status and the error's text."""
        try:
            self.connect(**query)
        except websocket.WebSocketBadStatusException as error:
            body = error.resp_body
            try:
                return error.status_code, json.loads(body)["error"]
            except ValueError:
                return error.status_code, body
        raise AssertionError("the handshake was not refused")

    def send(self, name: str, payload: Any = None, custom: Any = None) -> None:
        event: Event = {"type": f"EVENT_TYPE_{name}", "payload": payload or {}}
        if custom is not None:
            event["metadata"] = {"custom": custom}
        self.ws.send(json.dumps(event))

    def receive(self) -> Event:
        event: Event = json.loads(self.ws.recv())
        return event

    def replay(self) -> list[Event]:
        """Read one batch and return its events."""
        event = self.receive()
        assert event["type"] == "EVENT_TYPE_EVENT_BATCH"
        events: list[Event] = event["payload"]["events"]
        return events

    def until(self, name: str) -> list[Event]:
        """Read until an event of this type, and return all that was read."""
        events = [self.receive()]
        while events[-1]["type"] != f"EVENT_TYPE_{name}":
            events.append(self.receive())
        return events

    def reply(self) -> list[Event]:
        """Read until the end of a message of the agent."""
        events = [self.receive()]
        while not (
            events[-1]["payload"].get("is_complete")
            or events[-1]["type"].endswith("AGENT_MESSAGE")
        ):
            events.append(self.receive())
        return events

    def join(self) -> list[Event]:
        self.replay()
        self.send("REQUEST_POLY_AGENT_JOIN")
        return self.reply()

    def say(self, text: str, custom: Any = None) -> list[Event]:
        self.send("USER_MESSAGE", {"text": text}, custom)
        return self.reply()

    def lost(self) -> bool:
        """Read until the connection ends; say whether it did so without a close."""
        while True:
            try:
                opcode, _ = self.ws.recv_data()
            except (websocket.WebSocketConnectionClosedException, ConnectionError):
                return True
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return False

    def close_code(self) -> int:
        """Read until the server closes, and return its code."""
        while True:
            opcode, data = self.ws.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(data[:2], "big")


def types(events: list[Event]) -> list[str]:
    return [event["type"].removeprefix("EVENT_TYPE_") for event in events]


def text(events: list[Event]) -> str:
    return "".join(
        event["payload"]["text"]
        for event in events
        if "_AGENT_MESSAGE" in event["type"]
    )
