"""The Flask application behind real servers, with several processes."""

from __future__ import annotations

import http.client
import json
import re
import selectors
import socket
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from polysync.sandbox import Sandbox
from tests.web.conftest import (
    TIMEOUT,
    GunicornStarter,
    Server,
    Visitor,
    kill,
)

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]

WORKERS = {
    "sync": ["--worker-class", "sync"],
    "gthread": ["--worker-class", "gthread", "--threads", "8"],
    "gevent": ["--worker-class", "gevent"],
}


def converse(visitor: Visitor, turns: int = 3) -> None:
    """Have a whole conversation, and be sure that all of it arrives, once."""
    visitor.open()
    visitor.start()
    said = [f"turn {number} of {id(visitor)}" for number in range(turns)]
    for number, text in enumerate(said):
        status, answer = visitor.post("messages", text=text, client_id=f"m{number}")
        assert status == 200, answer
        visitor.hear(*said[: number + 1])
    assert visitor.post("end")[0] == 200
    visitor.listen(lambda visitor: visitor.events[-1]["type"] == "end")
    assert visitor.start()["ended"]
    assert visitor.post("messages", text="too late")[0] == 409


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("kind", WORKERS)
def test_conversations_through_gunicorn(
    gunicorn: GunicornStarter, echo: Sandbox, kind: str, workers: int
) -> None:
    """Every worker class, several workers, two browsers at once."""
    server = gunicorn(workers, *WORKERS[kind])
    visitors = [Visitor(server.port) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(converse, visitors))
    assert len(echo.sessions) == 2
    for session in echo.sessions.values():
        assert len(session.user_messages) == 3


@pytest.mark.redis
def test_conversations_are_kept_in_redis(
    gunicorn: GunicornStarter, echo: Sandbox, redis_url: str
) -> None:
    """Two workers behind each other share them, encrypted."""
    from cryptography.fernet import Fernet
    from redis import Redis

    key = Fernet.generate_key().decode()
    server = gunicorn(
        2, *WORKERS["gthread"], store=redis_url, encryption_keys=json.dumps([key])
    )
    visitors = [Visitor(server.port) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(converse, visitors))
    assert len(echo.sessions) == 4
    with Redis.from_url(redis_url) as client:
        stored = b"".join(client.get(name) or b"" for name in client.keys("*"))
    assert stored
    for session in echo.sessions.values():
        assert session.id.encode() not in stored


def test_flasks_own_server_will_do(
    servers: list[Server], environment: dict[str, str], echo: Sandbox
) -> None:
    """For development, with nothing set but the credentials."""
    del environment["FLASK_POLYSYNC_STORE"]
    server = Server(
        [sys.executable, "-m", "flask", "--app", "tests.web.flask_site", "run"]
        + ["--port", "0"],
        environment,
    )
    servers.append(server)
    port = int(server.wait_for(r"Running on http://127.0.0.1:(\d+)")[1])
    converse(Visitor(port))
    assert "chat.js" in Visitor(port).request("GET", "/chat/")[1]


def test_a_worker_killed_between_turns_loses_nothing(
    gunicorn: GunicornStarter, echo: Sandbox
) -> None:
    """The next one goes on, whichever it is."""
    server = gunicorn(2, *WORKERS["gthread"])
    visitor = Visitor(server.port).open()
    visitor.start()
    said = []
    for number in range(4):
        said.append(f"turn {number}")
        assert visitor.post("messages", text=said[-1])[0] == 200
        visitor.hear(*said)
        kill(visitor.process)
        server.next_worker()
    assert len(echo.sessions) == 1
    assert [m.text for m in echo.session.user_messages] == said


@pytest.mark.parametrize("arrives", [True, False])
def test_a_worker_killed_during_a_turn_loses_nothing(
    gunicorn: GunicornStarter, echo: Sandbox, arrives: bool
) -> None:
    """The page posts again, and the message is one, had it arrived before or not."""
    server = gunicorn(1, *WORKERS["gthread"])
    visitor = Visitor(server.port).open()
    visitor.start()
    victim = visitor.process
    if arrives:
        fault = echo.faults.withhold("USER_MESSAGE")
    else:
        fault = echo.faults.swallow_messages()
    post: dict[str, Any] = {"text": "Hi", "client_id": "m1"}
    failed: list[BaseException] = []

    def first_attempt() -> None:
        try:
            visitor.post("messages", **post)
        except OSError as error:
            failed.append(error)

    attempt = threading.Thread(target=first_attempt)
    attempt.start()
    echo.wait_until(lambda: fault.fired)
    kill(victim)
    attempt.join(TIMEOUT)
    assert failed
    server.next_worker()
    status, answer = visitor.post("messages", **post)
    assert status == 200, answer
    assert len(echo.session.user_messages) == 1
    visitor.hear("Hi")


@pytest.mark.redis
def test_a_lock_in_redis_dies_with_its_worker(
    gunicorn: GunicornStarter, echo: Sandbox, redis_url: str
) -> None:
    """After ten seconds at most, which the next attempt waits out."""
    server = gunicorn(1, *WORKERS["gthread"], store=redis_url)
    visitor = Visitor(server.port).open()
    visitor.start()
    fault = echo.faults.withhold("USER_MESSAGE")
    with ThreadPoolExecutor(1) as threads:
        attempt = threads.submit(visitor.post, "messages", text="Hi", client_id="m1")
        echo.wait_until(lambda: fault.fired)
        kill(server.workers[0])
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            attempt.result()
    server.next_worker()
    status, answer = visitor.post("messages", text="Hi", client_id="m1")
    assert status == 200, answer
    assert len(echo.session.user_messages) == 1


def test_a_browser_that_leaves_frees_its_thread(
    gunicorn: GunicornStarter,
) -> None:
    """In mid-stream: it is noticed with the next comment."""
    server = gunicorn(1, *WORKERS["gthread"], stream_seconds="25", keep_alive="0.1")
    visitor = Visitor(server.port).open()
    visitor.start()
    leaving = [visitor.request("GET", "/chat/events", read=False)[1] for _ in range(3)]
    for _, response in leaving:
        assert response.readline().startswith(b"retry")
    assert stats(server.port)["streams"] == 3
    for connection, response in leaving:
        response.close()
        connection.close()
    deadline = time.monotonic() + TIMEOUT
    while stats(server.port)["streams"]:
        assert time.monotonic() < deadline
    assert stats(server.port)["in_use"] == 0
    visitor.post("messages", text="Hi")


def test_streams_leave_threads_for_the_others(gunicorn: GunicornStarter) -> None:
    """More browsers listen than the worker has threads, and posts are answered."""
    server = gunicorn(
        1,
        *["--worker-class", "gthread", "--threads", "4"],
        stream_seconds="25",
        max_streams="2",
    )
    visitors = [Visitor(server.port).open() for _ in range(6)]
    for visitor in visitors:
        visitor.start()
    open_streams = [
        visitor.request("GET", f"/chat/events?after={visitor.cursor}", read=False)[1]
        for visitor in visitors
    ]
    began = time.monotonic()
    for visitor in visitors:
        assert visitor.post("messages", text="Hi")[0] == 200
    assert time.monotonic() - began < 5
    for connection, response in open_streams:
        response.close()
        connection.close()


def test_200_conversations_through_4_workers(
    gunicorn: GunicornStarter, echo: Sandbox
) -> None:
    """No reply is lost or reaches another; each has one session."""
    server = gunicorn(
        4, *["--worker-class", "gthread", "--threads", "10"], stream_seconds="0.3"
    )

    def visit(number: int) -> set[str]:
        visitor = Visitor(server.port).open()
        visitor.start()
        said = [f"visitor {number}, turn {turn}" for turn in range(2)]
        for turn, text in enumerate(said):
            status, answer = visitor.post("messages", text=text, client_id=f"m{turn}")
            assert status == 200, answer
            visitor.hear(*said[: turn + 1])
        return visitor.processes

    with ThreadPoolExecutor(40) as threads:
        processes = set().union(*threads.map(visit, range(200)))
    assert len(processes) == 4
    assert len(echo.sessions) == 200
    assert {len(s.user_messages) for s in echo.sessions.values()} == {2}


def test_1000_requests_at_once_are_all_answered(
    gunicorn: GunicornStarter, echo: Sandbox
) -> None:
    """Good ones and bad ones; each has a status and JSON, and the site goes on."""
    server = gunicorn(2, *WORKERS["gthread"])
    visitor = Visitor(server.port).open()
    visitor.start()
    good = {"Cookie": visitor.cookie, "X-CSRFToken": visitor.token}
    kinds = [
        (good, b'{"text": "Hi", "client_id": "m1"}', 200),
        ({**good, "X-CSRFToken": "x"}, b"{}", 403),
        ({}, b"{}", 403),
        (good, b"nonsense", 400),
    ]
    requests = []
    for number in range(1000):
        headers, body, _ = kinds[number % 4]
        lines = [b"POST /chat/messages HTTP/1.1", b"Host: x", b"Connection: close"]
        lines += [f"{name}: {value}".encode() for name, value in headers.items()]
        lines += [b"Content-Type: application/json"]
        lines += [b"Content-Length: %d" % len(body), b"", body]
        requests.append(b"\r\n".join(lines))
    answers = at_once(server.port, requests)
    for number, answer in enumerate(answers):
        head, _, body = answer.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        assert status in (kinds[number % 4][2], 429), answer
        assert b"application/json" in head
        json.loads(body)
    statuses = Counter(int(answer.split(b" ", 2)[1]) for answer in answers)
    assert statuses[403] == 500
    assert statuses[400] == 250
    assert statuses[200] >= 1
    assert len(echo.session.user_messages) == 1
    assert visitor.post("messages", text="still there?")[0] == 200


def test_bodies_that_are_too_large_are_not_read(gunicorn: GunicornStarter) -> None:
    """The answer comes before the body, and the worker is not held up."""
    server = gunicorn(1, *WORKERS["sync"])
    visitor = Visitor(server.port).open()
    visitor.start()
    head = (
        "POST /chat/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Cookie: {visitor.cookie}\r\nX-CSRFToken: {visitor.token}\r\n"
        "Content-Length: 100000000\r\n\r\n"
    )
    (answer,) = at_once(server.port, [head.encode()])
    assert re.match(rb"HTTP/1.1 413 ", answer)
    assert b'"too_large"' in answer
    assert visitor.post("messages", text="Hi")[0] == 200


def stats(port: int) -> dict[str, int]:
    return dict(json.loads(Visitor(port).request("GET", "/stats")[1]))


def at_once(port: int, requests: list[bytes]) -> list[bytes]:
    """Send all requests before the first answer is read, and return the answers."""
    answers = [b""] * len(requests)
    with selectors.DefaultSelector() as selector:
        for number, request in enumerate(requests):
            sock = socket.create_connection(("127.0.0.1", port), TIMEOUT)
            sock.sendall(request)
            selector.register(sock, selectors.EVENT_READ, number)
        deadline = time.monotonic() + TIMEOUT
        while selector.get_map():
            assert time.monotonic() < deadline, Counter(map(len, answers))
            for key, _ in selector.select(1.0):
                sock = key.fileobj  # type: ignore[assignment]
                data = sock.recv(65536)
                answers[key.data] += data
                if not data:
                    selector.unregister(sock)
                    sock.close()
    return answers
