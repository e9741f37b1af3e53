"""gunicorn that imports the application, and lets it connect, before it forks."""

from __future__ import annotations

import os
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from polysync.sandbox import Sandbox, Turn
from tests.web.conftest import GUNICORN_OPTIONS, TIMEOUT, Server

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()"),
]


class Agent:
    """Repeats what was said; answers "both" only when two have said it."""

    def __init__(self) -> None:
        self.both = threading.Barrier(2, timeout=TIMEOUT)

    def __call__(self, turn: Turn) -> str:
        if turn.text == "both":
            self.both.wait()
        return turn.text


@pytest.fixture
def server() -> Iterator[Sandbox]:
    with Sandbox(Agent()) as sandbox:
        yield sandbox


@pytest.fixture
def gunicorn(server: Sandbox, tmp_path: Path) -> Iterator[Server]:
    process = Server(
        [sys.executable, "-m", "gunicorn", "tests.process.preloaded_site:app"]
        + ["--preload", "--workers", "2", "--worker-class", "sync"]
        + GUNICORN_OPTIONS,
        {
            "STORE_FOLDER": str(tmp_path),
            "POLYSYNC_ENVIRONMENT": server.base_url,
            "POLYSYNC_CONNECTOR_TOKEN": server.connector_token,
            "POLYSYNC_HOST": server.host,
        },
    )
    try:
        yield process
    finally:
        process.stop()


def test_workers_talk_beside_what_was_made_before_the_fork(
    gunicorn: Server, server: Sandbox
) -> None:
    """A pool works in each worker; the parent's own client goes on in the parent."""
    port = gunicorn.wait_for(r"Listening at: http://127.0.0.1:(\d+)")[1]
    workers = {gunicorn.wait_for(r"Booting worker with pid: (\d+)")[1] for _ in "12"}

    def get(path: str) -> list[str]:
        address = f"http://127.0.0.1:{port}{path}"
        with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:
            return str(answer.read().decode()).split(" ", 1)

    # Neither is answered before both are asked, so each worker has one of them.
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(get, [f"/pool?key={key}&text=both" for key in "ab"]))
    assert {text for _, text in answers} == {"both"}
    assert {worker for worker, _ in answers} == workers
    # Whichever worker is asked goes on with a conversation, the parent's too.
    for key in ("a", "b", "parent"):
        for number in range(3):
            assert get(f"/pool?key={key}&text=turn+{number}")[1] == f"turn {number}"
    by_parent, _, *sessions = server.sessions.values()
    assert by_parent.platform == "custom"
    assert len(sessions) == 2

    assert get("/parent")[1].startswith("ForkedError: ")

    by_parent.say("who is there?")
    server.wait_until(lambda: by_parent.user_messages, TIMEOUT)
    said = [message.text for message in by_parent.user_messages]
    assert said == [f"process {gunicorn.process.pid}"]
    assert (by_parent.connection_total, by_parent.connections) == (1, 1)

    gunicorn.stop()
    assert gunicorn.process.returncode == 0, "".join(gunicorn.lines)
    server.wait_until(
        lambda: not any(s.connections for s in server.sessions.values()), TIMEOUT
    )
