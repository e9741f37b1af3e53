"""The Django app behind real servers, with several processes."""

from __future__ import annotations

import http.client
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest

from polysync.sandbox import Sandbox
from tests.web.conftest import GUNICORN_OPTIONS, ROOT, TIMEOUT, Server, Visitor, kill

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]

FILES = "django.core.cache.backends.filebased.FileBasedCache"
REDIS = "django.core.cache.backends.redis.RedisCache"
GUNICORN = [
    *[sys.executable, "-m", "gunicorn", "django.core.wsgi:get_wsgi_application()"],
    *[*GUNICORN_OPTIONS, "--no-control-socket"],
]
UVICORN = [
    *[sys.executable, "-m", "uvicorn", "django.core.asgi:get_asgi_application"],
    *["--factory", "--port", "0", "--lifespan", "off", "--log-level", "info"],
]
RUNSERVER = [sys.executable, "-m", "django", "runserver", "127.0.0.1:0", "--noreload"]

SERVERS = {
    "gthread": (
        [*GUNICORN, "--workers", "2", "--worker-class", "gthread", "--threads", "8"],
        r"Listening at: http://127.0.0.1:(\d+)",
    ),
    "sync": (
        [*GUNICORN, "--workers", "2", "--worker-class", "sync"],
        r"Listening at: http://127.0.0.1:(\d+)",
    ),
    "uvicorn": (UVICORN, r"running on http://127.0.0.1:(\d+)"),
    "runserver": (RUNSERVER, r"server at http://127.0.0.1:(\d+)"),
}


class Guest(Visitor):
    """A visitor with Django's two cookies: the session, and the CSRF token."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.cookies: dict[str, str] = {}

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        read: bool = True,
        **headers: str,
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        connection.request(method, path, body, named)
        response = connection.getresponse()
        for header in response.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(header).items():
                self.cookies[name] = morsel.value
        self.process = response.getheader("X-Process") or ""
        self.processes.add(self.process)
        if not read:
            return response.status, (connection, response)
        with closing(connection), response:
            return response.status, response.read().decode()

    def open(self) -> Guest:
        status, page = self.request("GET", "/chat/")
        assert status == 200, page
        self.token = self.cookies["csrftoken"]
        return self

    def stats(self) -> dict[str, Any]:
        return dict(json.loads(self.request("GET", "/stats")[1]))


class Site:
    """A server with the site."""

    def __init__(self, server: Server, pattern: str) -> None:
        self.server = server
        self.port = int(server.wait_for(pattern)[1])

    def guest(self) -> Guest:
        return Guest(self.port)


Starter = Callable[..., Site]


@pytest.fixture
def serve(servers: list[Server], echo: Sandbox, tmp_path: Path) -> Starter:
    """Start a server: ``serve("gthread", CACHE=…, STREAM_SECONDS=…)``."""

    def start(kind: str, **settings: Any) -> Site:
        chosen = {
            "CONNECTOR_TOKEN": echo.connector_token,
            "HOST": echo.host,
            "ENVIRONMENT": echo.base_url,
            "CACHE": {"BACKEND": FILES, "LOCATION": f"{tmp_path}/cache"},
            "STREAM_SECONDS": 0.5,
            "KEEP_ALIVE": 0.2,
            **settings,
        }
        command, pattern = SERVERS[kind]
        environment = {
            "DJANGO_SETTINGS_MODULE": "tests.integrations.django.settings",
            "TEST_SETTINGS": json.dumps(chosen),
            "TEST_DATABASE": f"{tmp_path}/database",
            "PYTHONPATH": str(ROOT),
        }
        server = Server(command, environment)
        servers.append(server)
        return Site(server, pattern)

    return start


def converse(guest: Guest, turns: int = 3) -> None:
    """Have a whole conversation, and be sure that all of it arrives, once."""
    guest.open()
    guest.start()
    said = [f"turn {number} of {id(guest)}" for number in range(turns)]
    for number, text in enumerate(said):
        status, answer = guest.post("messages", text=text, client_id=f"m{number}")
        assert status == 200, answer
        guest.hear(*said[: number + 1])
    assert guest.post("end")[0] == 200
    guest.listen(lambda visitor: visitor.events[-1]["type"] == "end")
    assert guest.start()["ended"]
    assert guest.post("messages", text="too late")[0] == 409


def chat_at_once(site: Site, echo: Sandbox, guests: int) -> None:
    """Have several conversations at the same time."""
    visitors = [site.guest() for _ in range(guests)]
    with ThreadPoolExecutor(guests) as threads:
        list(threads.map(converse, visitors))
    assert len(echo.sessions) == guests
    for session in echo.sessions.values():
        assert len(session.user_messages) == 3


@pytest.mark.parametrize("kind", SERVERS)
def test_conversations(serve: Starter, echo: Sandbox, kind: str) -> None:
    """Each server, with a cache of files that its workers share."""
    chat_at_once(serve(kind), echo, 3)


@pytest.mark.redis
@pytest.mark.parametrize("kind", ["gthread", "uvicorn"])
def test_conversations_are_kept_in_redis(
    serve: Starter, echo: Sandbox, kind: str, redis_url: str
) -> None:
    """The same with Django's own Redis cache, encrypted."""
    from cryptography.fernet import Fernet
    from redis import Redis

    keys = [Fernet.generate_key().decode()]
    cache = {"BACKEND": REDIS, "LOCATION": redis_url}
    chat_at_once(serve(kind, CACHE=cache, ENCRYPTION_KEYS=keys), echo, 4)
    with Redis.from_url(redis_url) as client:
        stored = b"".join(client.get(name) or b"" for name in client.keys("*"))
    assert stored
    for session in echo.sessions.values():
        assert session.id.encode() not in stored


@pytest.mark.parametrize("kind", ["gthread", "uvicorn", "runserver"])
def test_pieces_are_sent_as_they_come(serve: Starter, echo: Sandbox, kind: str) -> None:
    """What is said now is there now, not when the stream ends."""
    guest = serve(kind, STREAM_SECONDS=25, KEEP_ALIVE=1).guest().open()
    guest.start()
    _, (connection, response) = guest.request(
        "GET", "/chat/events", read=False, Accept_Encoding="gzip"
    )
    assert response.getheader("Content-Encoding") == "identity"
    with closing(connection), response:
        began = time.monotonic()
        for number in range(3):
            text = f"news {number}"
            echo.session.push("SYSTEM_MESSAGE", {"level": "INFO", "message": text})
            while text.encode() not in response.readline():
                pass
        assert time.monotonic() - began < TIMEOUT / 2


@pytest.mark.parametrize("kind", ["gthread", "uvicorn", "runserver"])
def test_browsers_that_leave_free_their_threads(
    serve: Starter, echo: Sandbox, kind: str
) -> None:
    """In mid-stream: nothing waits for them, and the worker serves the others."""
    site = serve(kind, STREAM_SECONDS=25, KEEP_ALIVE=0.1)
    guest = site.guest().open()
    guest.start()
    leaving = [guest.request("GET", "/chat/events", read=False)[1] for _ in range(4)]
    for connection, response in leaving:
        assert response.readline().startswith(b"retry")
        response.close()
        connection.close()
    deadline = time.monotonic() + TIMEOUT
    for _ in range(4):  # whichever process answers
        while (stats := guest.stats())["streams"] or stats["in_use"]:
            assert time.monotonic() < deadline
    assert guest.post("messages", text="Hello?")[0] == 200


@pytest.mark.parametrize("kind", ["gthread", "sync"])
def test_worker_killed_between_turns(serve: Starter, echo: Sandbox, kind: str) -> None:
    """The next one goes on, whichever it is."""
    site = serve(kind)
    guest = site.guest().open()
    guest.start()
    said: list[str] = []
    for number in range(3):
        said.append(f"turn {number}")
        assert guest.post("messages", text=said[-1])[0] == 200
        guest.hear(*said)
        kill(guest.process)
        site.server.wait_for(r"Booting worker")
    assert len(echo.sessions) == 1
    assert [message.text for message in echo.session.user_messages] == said


@pytest.mark.parametrize("arrives", [True, False])
def test_worker_killed_during_a_turn(
    serve: Starter, echo: Sandbox, arrives: bool
) -> None:
    """The page posts again, and the message is one, had it arrived before or not."""
    site = serve("gthread")
    guest = site.guest().open()
    guest.start()
    workers = {guest.process}
    while len(workers) < 2:
        guest.stats()
        workers.add(guest.process)
    fault = (
        echo.faults.withhold("USER_MESSAGE", times=1)
        if arrives
        else echo.faults.swallow_messages(times=1)
    )
    message = {"text": "Hi", "client_id": "m1"}
    failed: list[BaseException] = []

    def first_attempt() -> None:
        try:
            guest.post("messages", **message)
        except OSError as error:
            failed.append(error)

    attempt = threading.Thread(target=first_attempt)
    attempt.start()
    echo.wait_until(lambda: fault.fired)
    for worker in workers:
        kill(worker)
    attempt.join(TIMEOUT)
    assert failed
    status, answer = guest.post("messages", **message)
    assert status == 200, answer
    assert [message.text for message in echo.session.user_messages] == ["Hi"]
    guest.hear("Hi")


@pytest.mark.parametrize("kind", ["gthread", "uvicorn"])
def test_bad_requests(serve: Starter, echo: Sandbox, kind: str) -> None:
    """Each has its status and JSON, by whichever server; the worker goes on."""
    guest = serve(kind).guest().open()
    guest.start()
    json_type = {"Content_Type": "application/json"}
    good = {**json_type, "X_CSRFToken": guest.token}
    cases: list[tuple[bytes, dict[str, str], int, str]] = [
        (b"", good, 400, "bad_json"),
        (b"nonsense", good, 400, "bad_json"),
        (b'{"text": ""}', good, 422, "empty"),
        (b"x" * 300_000, good, 413, "too_large"),
        (b"x" * 3_000_000, good, 413, "too_large"),
        (b"text=a", {"X_CSRFToken": guest.token}, 415, "bad_type"),
        (b'{"text": "a"}', json_type, 403, "csrf"),
        (b'{"text": "a"}', {**json_type, "X_CSRFToken": "x" * 32}, 403, "csrf"),
    ]
    for body, headers, expected, code in cases:
        try:
            status, answer = guest.request("POST", "/chat/messages", body, **headers)
        except (BrokenPipeError, ConnectionResetError):
            assert expected == 413  # it was not even read
            continue
        assert (status, json.loads(answer)["error"]["code"]) == (expected, code)
    stranger = serve_nobody(guest)
    status, answer = stranger.request("GET", f"/chat/events?after={guest.cursor}")
    assert (status, json.loads(answer)["error"]["code"]) == (410, "not_found")
    assert guest.post("messages", text="Hello?")[0] == 200
    assert len(echo.session.user_messages) == 1


def serve_nobody(guest: Guest) -> Guest:
    return Guest(guest.port)


def test_asgi_server_goes_down_with_streams_open(
    serve: Starter, echo: Sandbox, servers: list[Server]
) -> None:
    """A deployment does not wait for the browsers: streams are bounded."""
    site = serve("uvicorn", STREAM_SECONDS=1)
    guest = site.guest().open()
    guest.start()
    _, (connection, response) = guest.request("GET", "/chat/events", read=False)
    with closing(connection), response:
        assert response.readline().startswith(b"retry")
        servers.remove(site.server)
        began = time.monotonic()
        written = site.server.stop()
    assert time.monotonic() - began < 8
    assert not re.search("Traceback|never awaited", written), written
