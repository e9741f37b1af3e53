"""A scripted Messaging API: regular, except where a test says otherwise.

::

    def captive(conn, head):
        conn.answer(200, b"<html>Welcome to the hotel</html>")

    with api(token=captive) as peer:
        Client(..., environment=peer.url)

A client opens its WebSocket connection beside the REST calls, so what a connection is
for shows only in its request: behaviours are given by request, not by connection.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

from polysync import Client
from tests.clients import QUICK
from tests.peers import Conn, Head, Peer

__all__ = [
    "START",
    "api",
    "client_of_peer",
    "echo",
    "event",
    "gone",
    "greet",
    "replay",
    "serve",
    "session",
    "token",
]

Answer = Callable[[Conn, Head], object]

START = {
    "id": "start",
    "sequence": 1,
    "timestamp": "2026-11-01T12:00:00Z",
    "type": "EVENT_TYPE_SESSION_START",
    "payload": {"capabilities": {"streaming": True}},
}


def client_of_peer(peer: Peer, **options: Any) -> Client:
    """Return a client of a peer, not connected."""
    settings = {**QUICK, "environment": peer.url, **options}
    return Client("connector-1", "https://www.example.com", **settings)


def event(type: str, sequence: int | None = None, **payload: Any) -> dict[str, Any]:
    """Return a server's event; its id is made of its sequence, or of its payload."""
    return {
        "id": f"event-{sequence}" if sequence else f"event-{json.dumps(payload)}",
        "sequence": sequence,
        "timestamp": "2026-11-01T12:00:00Z",
        "type": f"EVENT_TYPE_{type}",
        "payload": payload,
    }


def gone() -> None:
    """End the behaviour of a connection here."""
    raise EOFError


def token(conn: Conn, head: Head) -> None:
    conn.answer(200, {"access_token": "access.token", "expires_in": 86400})


def session(conn: Conn, head: Head) -> None:
    conn.answer(200, {"session_id": "session-1"})


def replay(conn: Conn, *events: dict[str, Any]) -> None:
    """Send a batch of events."""
    conn.write_text(
        json.dumps(
            {
                "id": "batch",
                "sequence": None,
                "type": "EVENT_TYPE_EVENT_BATCH",
                "payload": {"events": list(events)},
            }
        )
    )


def greet(conn: Conn, head: Head) -> None:
    """Upgrade, send the history of a session whose agent has greeted already."""
    conn.upgrade(head)
    replay(
        conn,
        START,
        event("POLY_AGENT_JOINED", 2, agent_name="Ana"),
        event("POLY_AGENT_MESSAGE", 3, message_id="greeting", text="Hello!"),
    )


def echo(conn: Conn) -> None:
    """Answer what the client sends as a server does, until it leaves."""
    sequence = 100_000
    while True:
        frame = conn.read_message()
        if frame.opcode == 0x8:
            conn.write_close(1000)
            gone()
        sent = json.loads(frame.payload)
        kind = sent["type"].removeprefix("EVENT_TYPE_")
        answer = {**event(kind), **sent}
        if kind != "HEARTBEAT":
            sequence += 1
            answer.update(id=f"echo-{sequence}", sequence=sequence)
        conn.write_text(json.dumps(answer))
        if kind == "USER_END_SESSION":
            sequence += 1
            end = event("SESSION_END", sequence, reason="REASON_USER_END")
            conn.write_text(json.dumps(end))


def serve(conn: Conn, head: Head) -> None:
    """A whole regular conversation without replies."""
    greet(conn, head)
    echo(conn)


@contextlib.contextmanager
def api(
    *upgrades: Answer,
    token: Answer = token,
    session: Answer = session,
    **options: Any,
) -> Iterator[Peer]:
    """Run a server.

    Args:
        *upgrades: What to do with each request for a WebSocket in turn; the last
            serves all the others. By default `serve`.
        token: What to do with a request for an access token.
        session: What to do with a request for a session.
        **options: As for `Peer`.
    """
    lock = threading.Lock()
    count = 0

    def behave(conn: Conn) -> None:
        nonlocal count
        while True:
            head = conn.read_head()
            if head.path.endswith("/access-token"):
                token(conn, head)
            elif head.path.endswith("/sessions"):
                session(conn, head)
            else:
                with lock:
                    number, count = count, count + 1
                behaviours = upgrades or (serve,)
                behaviours[min(number, len(behaviours) - 1)](conn, head)
                return

    with Peer(behave, **options) as peer:
        yield peer
