"""polysync and what people would use instead, each as one class with the same methods.

All speak to ``server.py``, send the same words and get the same events, and all of them
parse the JSON. Each is used the way its documentation shows: a loop around ``recv()``,
or a listener that the library calls.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import threading
import time
import uuid
from typing import Any

from address import Address

#: Seconds after which something is wrong.
PATIENCE = 5.0


def message(text: str) -> dict[str, Any]:
    """Return a user's message as every contender sends it."""
    own = str(uuid.uuid4())
    return {
        "type": "EVENT_TYPE_USER_MESSAGE",
        "payload": {"text": text},
        "metadata": {"custom": {"local_id": own, "client_event_id": own}},
    }


def compact(data: object) -> str:
    """Return JSON without blanks."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


class Contender:
    """One connected client of the server."""

    #: The name in the tables, and the module that has to be installed.
    name = ""
    needs = ""
    #: The most events that may come at a time.
    burst = 1_000_000
    #: Whether it can be measured over TLS.
    tls = True

    def __init__(self, address: Address) -> None:
        raise NotImplementedError

    def turn(self) -> None:
        """Send a message and have its echo and the reply."""
        raise NotImplementedError

    def blast(self, count: int) -> float:
        """Take in ``count`` events as fast as possible; return the seconds it took."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave nothing behind."""
        raise NotImplementedError


class Bare(Contender):
    """The floor: a loop around `websocket-client`, which answers nobody meanwhile."""

    name, needs = "websocket-client", "websocket"
    checks_utf8 = False

    def __init__(self, address: Address) -> None:
        import websocket

        options = {"ca_certs": address.authority} if address.authority else {}
        self._ws = websocket.create_connection(
            address.url("ws", "/ws"),
            sslopt=options,
            skip_utf8_validation=not self.checks_utf8,
        )
        self._recv()

    def _recv(self) -> Any:
        return json.loads(self._ws.recv())

    def _send(self, text: str) -> None:
        self._ws.send(compact(message(text)))

    def turn(self) -> None:
        self._send("x")
        self._recv()
        self._recv()

    def blast(self, count: int) -> float:
        self._send(f"blast {count}")
        self._recv()  # the echo
        start = time.perf_counter()
        for _ in range(count):
            self._recv()
        return time.perf_counter() - start

    def close(self) -> None:
        self._ws.close()


class BareChecked(Bare):
    """The same as it comes, with its own check of UTF-8."""

    name = "websocket-client, default"
    checks_utf8 = True


class Websockets(Bare):
    name, needs = "websockets.sync", "websockets"

    def __init__(self, address: Address) -> None:
        from websockets.sync.client import connect

        self._ws = connect(
            address.url("ws", "/ws"), ssl=address.context(), compression=None
        )
        self._recv()


class Listening(Contender):
    """What the libraries have in common that call a listener for each event."""

    # Shared, so that they do not count as the memory of a client.
    _events = threading.Semaphore(0)
    _lock = threading.Lock()
    _all = threading.Event()
    _ready = threading.Event()
    _left = 0
    _started = 0.0

    def __init__(self, address: Address) -> None:
        self._ready.clear()
        self._open(address)

    def _open(self, address: Address) -> None:
        raise NotImplementedError

    def _send(self, data: dict[str, Any]) -> None:
        raise NotImplementedError

    def _heard(self, data: Any) -> None:
        """Take an event; some libraries call this on several threads at a time."""
        with self._lock:
            if self._left:
                self._started = self._started or time.perf_counter()
                self._left -= 1
                if not self._left:
                    self._all.set()
                return
        self._events.release()

    def turn(self) -> None:
        self._send(message("x"))
        for _ in range(2):
            if not self._events.acquire(timeout=PATIENCE):
                raise TimeoutError(self.name)

    def blast(self, count: int) -> float:
        self._started = 0.0
        self._all.clear()
        self._left = count + 1  # the echo
        self._send(message(f"blast {count}"))
        if not self._all.wait(PATIENCE):
            raise TimeoutError(self.name)
        return time.perf_counter() - self._started


class Azure(Listening):
    name = "azure-messaging-webpubsubclient"
    needs = "azure.messaging.webpubsubclient"

    def _open(self, address: Address) -> None:
        from azure.messaging.webpubsubclient import WebPubSubClient
        from azure.messaging.webpubsubclient.models import WebPubSubDataType

        self._kind = WebPubSubDataType.JSON
        self._client = WebPubSubClient(address.url("ws", "/azure"))
        self._client.subscribe("server-message", lambda e: self._heard(e.data))
        self._client.subscribe("connected", lambda _: self._ready.set())
        self._client.open()
        if not self._ready.wait(PATIENCE):
            raise TimeoutError(self.name)

    def _send(self, data: dict[str, Any]) -> None:
        self._client.send_event("turn", data, self._kind, ack=False)

    def close(self) -> None:
        self._client.close()


class Slack(Listening):
    name, needs = "slack_sdk, built-in", "slack_sdk"
    module = "slack_sdk.socket_mode.builtin.client"
    # More at full speed, and it loses its place in the stream.
    burst = 200
    tls = False  # but on port 443 ("only for library testing")

    def _open(self, address: Address) -> None:
        from slack_sdk.web import WebClient

        module = importlib.import_module(self.module)
        web = WebClient(
            "xoxb", base_url=address.url("http", "/api/"), ssl=address.context()
        )
        self._client = module.SocketModeClient("xapp", web_client=web)
        self._client.message_listeners.append(
            lambda _, data, __: self._heard(data) if "payload" in data else None
        )
        self._client.connect()
        deadline = time.monotonic() + PATIENCE
        while not self._client.is_connected():
            if time.monotonic() > deadline:
                raise TimeoutError(self.name)
            time.sleep(0.01)

    def _send(self, data: dict[str, Any]) -> None:
        self._client.send_message(compact(data))

    def close(self) -> None:
        self._client.close()


class SlackWebsocketClient(Slack):
    name, needs = "slack_sdk, websocket-client", "slack_sdk"
    module = "slack_sdk.socket_mode.websocket_client"
    burst = 1_000_000
    tls = True


class SocketIO(Listening):
    name, needs = "python-socketio", "socketio"

    def _open(self, address: Address) -> None:
        import socketio

        self._client = socketio.Client(
            reconnection=False,
            websocket_extra_options={"sslopt": {"ca_certs": address.authority}}
            if address.authority
            else None,
        )
        self._client.on("message", self._heard)
        self._client.connect(address.url("http"), transports=["websocket"])

    def _send(self, data: dict[str, Any]) -> None:
        self._client.emit("message", data)

    def close(self) -> None:
        self._client.disconnect()


class Polysync(Contender):
    """polysync with the JSON parser of the standard library."""

    name, needs = "polysync", "polysync"
    fast = False
    _all = threading.Event()
    _left = 0
    _started = 0.0

    def __init__(self, address: Address) -> None:
        from polysync import Client

        self._parser()
        self.client = Client(
            "connector-token",
            "https://www.example.com",
            environment=address.url("http"),
            ca_certs=address.authority,
        ).connect()
        self.client.on_message_chunk(self._heard)

    def _parser(self) -> None:
        # All contenders take turns in one process, so the parser is chosen for each.
        from polysync.protocol import codec

        codec._loads = codec._loads_plain
        if self.fast:
            import orjson

            codec._loads = orjson.loads

    def turn(self) -> None:
        self.client.ask("x")

    def _heard(self, chunk: object) -> None:
        if not self._started:
            self._started = time.perf_counter()
        self._left -= 1
        if not self._left:
            self._all.set()

    def blast(self, count: int) -> float:
        self._parser()
        self._started = 0.0
        self._all.clear()
        self._left = count
        self.client.submit_message(f"blast {count}")
        if not self._all.wait(PATIENCE):
            raise TimeoutError(self.name)
        seconds = time.perf_counter() - self._started
        while self.client._engine.conversation.dialogue.replies.mailbox:
            self.client.receive()
        return seconds

    def close(self) -> None:
        self.client.close()


class PolysyncFast(Polysync):
    """polysync with the extra ``fast``."""

    name, needs = "polysync, orjson", "orjson"
    fast = True


ALL: tuple[type[Contender], ...] = (
    Bare,
    Polysync,
    PolysyncFast,
    BareChecked,
    Websockets,
    Slack,
    SlackWebsocketClient,
    SocketIO,
    Azure,
)


def installed(contenders: tuple[type[Contender], ...] = ALL) -> list[type[Contender]]:
    """Return those whose libraries are there."""
    there = []
    for contender in contenders:
        with contextlib.suppress(ModuleNotFoundError):
            if importlib.util.find_spec(contender.needs):
                there.append(contender)
    return there


def named(name: str) -> type[Contender]:
    """Return the contender of that name."""
    return next(contender for contender in ALL if contender.name == name)


def trust(address: Address) -> None:
    """Let the libraries that take no certificates trust the server's."""
    if address.authority:
        os.environ["SSL_CERT_FILE"] = address.authority
        os.environ["WEBSOCKET_CLIENT_CA_BUNDLE"] = address.authority
