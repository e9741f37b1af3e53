"""Servers that answer HTML, close, stall or lie: a clear error, in time."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from polysync import (
    AuthenticationError,
    ConfigurationError,
    ConnectionLostError,
    ConnectTimeoutError,
    PolysyncError,
    ProtocolError,
    RateLimitError,
    ServerError,
    SessionNotFoundError,
)
from polysync.runtime import rest
from tests.clients import NOISE, PATIENCE, SHORT, Task, threads_of_polysync
from tests.peers import TEXT, Conn, Head, frame
from tests.wire import scripted
from tests.wire.scripted import (
    START,
    api,
    client_of_peer,
    echo,
    event,
    gone,
    greet,
    replay,
    serve,
)

PORTAL = b"<!DOCTYPE html><html><body>Welcome to the hotel</body></html>"


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "BASE_DELAY", 0.002)


# What a server can do wrong. Each is done to every request of its step.


def portal(conn: Conn, head: Head) -> None:
    conn.answer(200, PORTAL, {"Content-Type": "text/html"})


def portal_error(conn: Conn, head: Head) -> None:
    conn.answer(502, PORTAL, {"Content-Type": "text/html"})


def redirect(conn: Conn, head: Head) -> None:
    conn.answer(302, b"", {"Location": "https://portal.example/login"})


def close(conn: Conn, head: Head) -> None:
    gone()


def reset(conn: Conn, head: Head) -> None:
    conn.reset()
    gone()


def cut(conn: Conn, head: Head) -> None:
    conn.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"acc')
    gone()


def cut_head(conn: Conn, head: Head) -> None:
    conn.write(b"HTTP/1.1 200 OK\r\nContent-Ty")
    gone()


def babble(conn: Conn, head: Head) -> None:
    conn.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    gone()


def stall(conn: Conn, head: Head) -> None:
    conn.wait_closed()
    gone()


def stall_in_the_middle(conn: Conn, head: Head) -> None:
    conn.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    stall(conn, head)


def trickle(conn: Conn, head: Head) -> None:
    conn.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not conn.peer.released.wait(0.01):
        conn.write(b" ")


def trickle_headers(conn: Conn, head: Head) -> None:
    conn.write(b"HTTP/1.1 200 OK\r\n")
    while not conn.peer.released.wait(0.01):
        conn.write(b"a: b\r\n")


def empty(conn: Conn, head: Head) -> None:
    conn.answer(200, b"")


def nothing(conn: Conn, head: Head) -> None:
    conn.answer(204, b"")


def flood(conn: Conn, head: Head) -> None:
    conn.answer(200, b"x" * (2 << 20))


def flood_headers(conn: Conn, head: Head) -> None:
    conn.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(100_000):
        conn.write(f"x-{number}: {'y' * 100}\r\n".encode())
    gone()


def answering(status: int, body: Any, **headers: str) -> Callable[[Conn, Head], None]:
    def answer(conn: Conn, head: Head) -> None:
        conn.answer(status, body, {k.replace("_", "-"): v for k, v in headers.items()})

    return answer


# Test the REST calls.

NO_API = "captive portal|proxy|Messaging API"
REST_CASES: list[tuple[Any, type[PolysyncError], str]] = [
    (portal, ProtocolError, "not JSON.*captive portal"),
    (portal_error, ServerError, "502"),
    (redirect, ProtocolError, "redirects elsewhere"),
    (close, ConnectionLostError, "closed the connection"),
    (reset, ConnectionLostError, "broke"),
    (cut, ConnectionLostError, "without a whole answer"),
    (babble, ProtocolError, "did not answer in HTTP"),
    (stall, ConnectTimeoutError, "did not|not finish"),
    (stall_in_the_middle, ConnectTimeoutError, "did not|not finish"),
    (trickle, ConnectTimeoutError, "did not|not finish"),
    (trickle_headers, PolysyncError, ""),
    (empty, ProtocolError, "not JSON"),
    (nothing, ProtocolError, "not JSON"),
    (flood, ProtocolError, "more than 1048576 bytes"),
    (flood_headers, PolysyncError, ""),
    (answering(200, []), ProtocolError, NO_API),
    (answering(200, {}), ProtocolError, "with no (access_token|session_id)"),
    (answering(200, {"access_token": None, "session_id": None}), ProtocolError, "no"),
    (answering(200, {"access_token": 5, "session_id": 5}), ProtocolError, "unusable"),
    (answering(200, {"access_token": "", "session_id": ""}), ProtocolError, "no"),
    (answering(200, b'{"access_token": "a'), ProtocolError, "not JSON"),
    (answering(200, b"[" * 100_000), ProtocolError, "not JSON"),
    (answering(400, {"error": "Error parsing request"}), ProtocolError, "report this"),
    (answering(401, {"error": "Invalid access token"}), AuthenticationError, "fresh"),
    (answering(401, b"<html>"), AuthenticationError, "check the connector token"),
    (answering(403, {"error": "no"}), AuthenticationError, "credentials"),
    (answering(404, b"<html>"), ConfigurationError, "check the environment"),
    (answering(407, b""), ConfigurationError, "proxy"),
    (answering(418, {"message": "tea"}), ProtocolError, "418.*tea"),
    (answering(429, b"", Retry_After="60"), RateLimitError, "less often"),
    (answering(429, b""), RateLimitError, "less often"),
    (answering(500, {"error": "Failed to create session"}), ServerError, "Failed to"),
    (answering(503, b"", Retry_After="nonsense"), ServerError, "503"),
]


def time_for(wrong: Any, error: type[PolysyncError]) -> float:
    """Return a timeout: short where it is to pass, and ample where it is not."""
    if error is ConnectTimeoutError or wrong is trickle_headers:
        return 4 * SHORT
    # Less than the wait that a 429 asks for, which is then not begun.
    return 40 * SHORT if error is RateLimitError else PATIENCE


def name_of(case: Any) -> str:
    return getattr(case, "__name__", "") if callable(case) else ""


@pytest.mark.parametrize("step", ["token", "session"])
@pytest.mark.parametrize(("wrong", "error", "words"), REST_CASES, ids=name_of)
def test_a_rest_call_that_goes_wrong(
    step: str, wrong: Any, error: type[PolysyncError], words: str
) -> None:
    steps: dict[str, Any] = {step: wrong}
    with api(**steps) as peer:
        client = client_of_peer(peer)
        timeout = time_for(wrong, error)
        task = Task(client.connect, timeout=timeout)
        failure = task.outcome(2 * PATIENCE)
        assert isinstance(failure, error), failure
        assert task.took < min(timeout, 3 * NOISE) + 1.0 + NOISE
        assert client.status == "idle"
        assert threads_of_polysync() == []
        assert re.search(words, str(failure)), failure
        assert "access.token" not in str(failure)
        client.close()


@pytest.mark.parametrize("step", ["token", "session"])
@pytest.mark.parametrize(
    "wrong", [portal_error, close, reset, cut, answering(500, b""), answering(503, b"")]
)
def test_a_rest_call_that_goes_wrong_once_is_made_again(step: str, wrong: Any) -> None:
    right = getattr(scripted, step)
    calls = []

    def once(conn: Conn, head: Head) -> None:
        calls.append(head)
        (wrong if len(calls) == 1 else right)(conn, head)

    steps: dict[str, Any] = {step: once}
    with api(**steps) as peer, client_of_peer(peer) as client:
        assert client.greeting is not None
        assert client.greeting.text == "Hello!"
        assert len(calls) == 2


def test_every_request_has_a_correlation_id_of_its_own() -> None:
    with api(session=answering(500, b"")) as peer:
        client = client_of_peer(peer)
        with pytest.raises(ServerError) as caught:
            client.connect()
        ids = [head.headers["x-polyai-correlation-id"] for head in peer.requests]
        assert len(ids) == 5
        assert len(set(ids)) == 5
        assert caught.value.correlation_id == ids[-1]


def test_the_wait_that_a_server_asks_for_is_kept() -> None:
    calls = []

    def busy_once(conn: Conn, head: Head) -> None:
        calls.append(head)
        if len(calls) == 1:
            conn.answer(429, b"", {"Retry-After": str(2 * SHORT)})
        else:
            scripted.token(conn, head)

    with api(token=busy_once) as peer:
        client = client_of_peer(peer)
        task = Task(client.connect)
        task.result()
        assert 2 * SHORT * 0.99 <= task.took < 2 * SHORT + NOISE
        client.close()


# Test the upgrade.

UPGRADE_CASES: list[tuple[Any, type[PolysyncError], str]] = [
    (portal, ConnectionLostError, "answered 200 instead.*captive portal"),
    (portal_error, ConnectionLostError, r"refused the connection \(502\)"),
    (redirect, ConnectionLostError, r"redirects elsewhere \(302\)"),
    (close, ConnectionLostError, "closed the connection instead of upgrading"),
    (reset, ConnectionLostError, "broke during the upgrade"),
    (cut, ConnectionLostError, "200"),
    (cut_head, ConnectionLostError, "upgrad"),
    (babble, ConnectionLostError, "is not HTTP"),
    (stall, ConnectTimeoutError, "not open yet"),
    (trickle_headers, PolysyncError, ""),
    (nothing, ConnectionLostError, "204"),
    (flood, ConnectionLostError, "200|longer than"),
    (flood_headers, ConnectionLostError, "longer than 65536"),
    (answering(400, {"error": "invalid connection parameters"}), ProtocolError, "bug"),
    (answering(401, {"error": "authentication failed"}), AuthenticationError, "mint"),
    (answering(404, {"error": "session not found"}), SessionNotFoundError, "start a"),
    (answering(429, {"error": "connection limit"}), ConnectionLostError, "429.*limit"),
    (answering(503, b""), ConnectionLostError, "503"),
]


def bad_accept(conn: Conn, head: Head) -> None:
    head.headers["sec-websocket-key"] = "another"
    conn.upgrade(head)
    gone()


def not_a_websocket(conn: Conn, head: Head) -> None:
    conn.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n")
    gone()


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        *UPGRADE_CASES,
        (bad_accept, ConnectionLostError, "not a valid WebSocket handshake"),
        (not_a_websocket, ConnectionLostError, "not a valid WebSocket handshake"),
    ],
    ids=name_of,
)
def test_an_upgrade_that_goes_wrong(
    wrong: Any, error: type[PolysyncError], words: str
) -> None:
    with api(wrong) as peer:
        client = client_of_peer(peer, max_reconnects=2)
        timeout = time_for(wrong, error)
        task = Task(client.connect, timeout=timeout)
        failure = task.outcome(2 * PATIENCE)
        assert isinstance(failure, error), failure
        assert task.took < min(timeout, 3 * NOISE) + 1.0 + NOISE
        assert threads_of_polysync() == []
        assert re.search(words, str(failure)), failure
        assert "access.token" not in str(failure)
        client.close()


@pytest.mark.parametrize(
    "wrong",
    [
        portal,
        portal_error,
        redirect,
        close,
        reset,
        cut,
        cut_head,
        babble,
        nothing,
        flood,
        bad_accept,
        not_a_websocket,
        answering(429, b"", Retry_After="0"),
        answering(503, b""),
    ],
    ids=name_of,
)
def test_an_upgrade_that_goes_wrong_once_is_tried_again(wrong: Any) -> None:
    with api(wrong, serve) as peer, client_of_peer(peer) as client:
        assert client.greeting is not None
        sessions = [h for h in peer.requests if h.path.endswith("/sessions")]
        assert len(sessions) == 1


def test_a_first_connection_that_fails_for_lack_of_time_says_why() -> None:
    with api(portal) as peer:
        client = client_of_peer(peer, reconnect_delay=60.0, reconnect_delay_max=60.0)
        with pytest.raises(ConnectTimeoutError, match="tried again.*captive portal"):
            client.connect(timeout=4 * SHORT)


def test_a_stalled_upgrade_is_given_up_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("polysync.runtime.orders.OPEN_TIMEOUT", 2 * SHORT)
    with api(stall, serve) as peer, client_of_peer(peer) as client:
        assert client.greeting is not None


# Test what comes after the upgrade.


def test_a_server_that_says_nothing_at_all() -> None:
    def mute(conn: Conn, head: Head) -> None:
        conn.upgrade(head)
        conn.wait_closed()

    with api(mute) as peer:
        client = client_of_peer(peer)
        with pytest.raises(ConnectTimeoutError):
            client.connect(timeout=4 * SHORT)
        assert threads_of_polysync() == []


def test_a_session_may_begin_in_single_frames() -> None:
    def single(conn: Conn, head: Head) -> None:
        conn.upgrade(head)
        conn.write_text(json.dumps(START))
        conn.write_text(json.dumps(event("POLY_AGENT_JOINED", 2, agent_name="Ana")))
        conn.write_text(
            json.dumps(event("POLY_AGENT_MESSAGE", 3, message_id="g", text="Hi"))
        )
        echo(conn)

    with api(single) as peer, client_of_peer(peer) as client:
        assert client.greeting is not None
        assert client.greeting.text == "Hi"


def test_an_agent_that_is_there_in_a_later_frame_is_not_asked_for() -> None:
    heard: list[str] = []

    def split(conn: Conn, head: Head) -> None:
        history = (
            START,
            event("POLY_AGENT_JOINED", 2, agent_name="Ana"),
            event("POLY_AGENT_MESSAGE", 3, message_id="g", text="Hi"),
        )
        batches = [
            {"type": "EVENT_TYPE_EVENT_BATCH", "payload": {"events": [each]}}
            for each in history
        ]
        data = [frame(TEXT, json.dumps(batch).encode()) for batch in batches]
        conn.upgrade(head, then=b"".join(data))
        heard.append(json.loads(conn.read_message().payload)["type"])

    with api(split) as peer, client_of_peer(peer, max_reconnects=0) as client:
        assert client.greeting is not None
        client.submit_message("Hello?")
        client.close()
    assert heard == ["EVENT_TYPE_USER_MESSAGE"]


def test_the_history_may_come_right_behind_the_upgrade() -> None:
    """In one packet with the answer, as fast servers send it."""

    def quick(conn: Conn, head: Head) -> None:
        events = [
            START,
            event("POLY_AGENT_JOINED", 2),
            event("POLY_AGENT_MESSAGE", 3, message_id="g", text="Hi"),
        ]
        batch = {"type": "EVENT_TYPE_EVENT_BATCH", "payload": {"events": events}}
        conn.upgrade(head, then=frame(TEXT, json.dumps(batch).encode()))
        echo(conn)

    with api(quick) as peer, client_of_peer(peer) as client:
        assert client.greeting is not None


def test_a_client_of_one_server_knows_nothing_of_another() -> None:
    """Cookies are neither kept nor sent."""

    def baking(conn: Conn, head: Head) -> None:
        conn.upgrade(head, extra="Set-Cookie: a=b\r\n")
        replay(conn, START, event("POLY_AGENT_JOINED", 2))
        echo(conn)

    with api(baking) as peer:
        for _ in range(2):
            client = client_of_peer(peer).connect(wait="agent")
            client.close()
        upgrades = [h for h in peer.requests if h.path.startswith("/ws")]
        assert len(upgrades) == 2
        assert all("cookie" not in head.headers for head in upgrades)


def test_a_slow_server_is_only_slow() -> None:
    never = threading.Event()

    def slow(conn: Conn, head: Head) -> None:
        never.wait(2 * SHORT)
        scripted.token(conn, head)

    with api(greet, token=slow) as peer:
        client = client_of_peer(peer).connect()
        assert client.greeting is not None
        client.close()
