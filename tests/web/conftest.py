"""Real servers with the chat, and a visitor that talks HTTP to them."""

from __future__ import annotations

import http.client
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from polysync.sandbox import EchoAgent, Sandbox

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 20.0 * float(os.environ.get("POLYSYNC_TEST_UNIT", "1"))  # s


# A worker that is still booting, in the place of one that was killed, does not hear
# that it is to stop; gunicorn then kills it, by default after 30 s.
GUNICORN_OPTIONS = [
    *["--bind", "127.0.0.1:0", "--worker-tmp-dir", "/dev/shm"],
    *["--graceful-timeout", "5"],
]


class Server:
    """A server in a process of its own, and what it writes."""

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        timeout: float = TIMEOUT,
    ) -> None:
        self._timeout = timeout
        self.lines: list[str] = []
        self._news: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._news.put(line)
        self._news.put(None)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait for a line, and return the match."""
        deadline = time.monotonic() + self._timeout
        while True:
            line = self._news.get(timeout=max(0.0, deadline - time.monotonic()))
            assert line is not None, "".join(self.lines)
            self.lines.append(line)
            found = re.search(pattern, line)
            if found is not None:
                return found

    def stop(self) -> str:
        """Stop it, and return all that it has written; once more does no harm."""
        self.process.terminate()
        try:
            self.process.wait(self._timeout)
        finally:
            self.process.kill()
            self._reader.join()
            if self.process.stdout is not None:
                self.process.stdout.close()
        while (line := self._news.get()) is not None:
            self.lines.append(line)
        self._news.put(None)
        return "".join(self.lines)


class Gunicorn(Server):
    """gunicorn with the site, as soon as all its workers are there."""

    def __init__(
        self, environment: dict[str, str], workers: int, *options: str
    ) -> None:
        super().__init__(
            [sys.executable, "-m", "gunicorn", "tests.web.flask_site:app"]
            + ["--workers", str(workers), *options]
            + GUNICORN_OPTIONS,
            environment,
        )
        self.port = int(self.wait_for(r"Listening at: http://127.0.0.1:(\d+)")[1])
        self.workers = [self.next_worker() for _ in range(workers)]

    def next_worker(self) -> int:
        return int(self.wait_for(r"Booting worker with pid: (\d+)")[1])


class Visitor:
    """A browser without a screen: cookies, the page's token, one connection a call."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookie = ""
        self.token = ""
        self.cursor: str | None = None
        self.processes: set[str] = set()
        self.process = ""
        self.events: list[dict[str, Any]] = []

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
        if self.cookie:
            named["Cookie"] = self.cookie
        connection.request(method, path, body, named)
        response = connection.getresponse()
        if found := response.getheader("Set-Cookie"):
            self.cookie = found.partition(";")[0]
        self.process = response.getheader("X-Process") or ""
        self.processes.add(self.process)
        if not read:
            return response.status, (connection, response)
        with closing(connection), response:
            return response.status, response.read().decode()

    def open(self) -> Visitor:
        status, page = self.request("GET", "/chat/")
        assert status == 200, page
        found = re.search(r'data-csrf-token="([^"]+)"', page)
        assert found is not None
        self.token = found[1]
        return self

    def post(self, path: str, **body: Any) -> tuple[int, Any]:
        status, answer = self.request(
            "POST",
            f"/chat/{path}",
            json.dumps(body).encode(),
            Content_Type="application/json",
            X_CSRFToken=self.token,
        )
        return status, json.loads(answer) if answer else None

    def start(self, **body: Any) -> dict[str, Any]:
        status, answer = self.post("start", **body)
        assert status == 200, answer
        self.cursor = answer["cursor"]
        self.events = list(answer["events"])
        return dict(answer)

    def listen(self, enough: Callable[[Visitor], bool]) -> None:
        """Read one stream after the other, as a browser does, until it is enough."""
        deadline = time.monotonic() + TIMEOUT
        pause = threading.Event()
        while not enough(self):
            assert time.monotonic() < deadline, self.events
            status, text = self.request(
                "GET", f"/chat/events?after={self.cursor}", Last_Event_ID=self.cursor
            )
            if status == 204:
                return
            assert status == 200, text
            seen = len(self.events)
            self.take(text)
            if len(self.events) == seen and "retry: 1000" in text:
                pause.wait(0.05)  # the server has said that it wants to be asked

    def take(self, text: str) -> None:
        known = {event["id"] for event in self.events if event["id"]}
        for line in text.splitlines():
            if line.startswith("id: "):
                self.cursor = line.removeprefix("id: ")
            elif line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                if event["id"] is None or event["id"] not in known:
                    known.add(event["id"])
                    self.events.append(event)

    @property
    def replies(self) -> list[str]:
        """What the agent has said, without the greeting."""
        said = [e["html"] for e in self.events if e["type"] == "message"]
        return [html.removeprefix("<p>").removesuffix("</p>") for html in said[1:]]

    def hear(self, *replies: str) -> None:
        """Listen until the agent has said exactly this."""
        self.listen(lambda visitor: len(visitor.replies) >= len(replies))
        assert self.replies == list(replies)


@pytest.fixture
def echo() -> Iterator[Sandbox]:
    with Sandbox(EchoAgent) as sandbox:
        yield sandbox


@pytest.fixture
def environment(echo: Sandbox, tmp_path: Path) -> dict[str, str]:
    """The site's settings, with files as the store."""
    return {
        "FLASK_POLYSYNC_CONNECTOR_TOKEN": echo.connector_token,
        "FLASK_POLYSYNC_HOST": echo.host,
        "FLASK_POLYSYNC_ENVIRONMENT": echo.base_url,
        "FLASK_POLYSYNC_STORE": f"file://{tmp_path}/store",
        "FLASK_POLYSYNC_STREAM_SECONDS": "0.5",
        "FLASK_POLYSYNC_KEEP_ALIVE": "0.2",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
    }


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    """Servers that are stopped after the test; none may have written a traceback."""
    running: list[Server] = []
    yield running
    written = "".join([server.stop() for server in running])
    assert "Traceback" not in written, written


GunicornStarter = Callable[..., Gunicorn]


@pytest.fixture
def gunicorn(servers: list[Server], environment: dict[str, str]) -> GunicornStarter:
    """Start gunicorn: ``gunicorn(workers, *options)``."""

    def start(workers: int, *options: str, **settings: str) -> Gunicorn:
        more = {f"FLASK_POLYSYNC_{n.upper()}": v for n, v in settings.items()}
        server = Gunicorn({**environment, **more}, workers, *options)
        servers.append(server)
        return server

    return start


@pytest.fixture
def redis_url() -> Iterator[str]:
    """A redis-server on a socket of its own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = f"{directory}/redis.sock"
        server = Server(
            [str(shutil.which("redis-server")), "--port", "0", "--unixsocket", path]
            + ["--save", "", "--appendonly", "no"],
            {},
        )
        server.wait_for("eady to accept connections")
        yield f"unix://{path}"
        server.stop()


def kill(process: int | str) -> None:
    """End a process as the kernel does when memory is short."""
    os.kill(int(process), signal.SIGKILL)
