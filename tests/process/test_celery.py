"""A real Celery worker with forked children, over a broker made of files."""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polysync.sandbox import Sandbox, Turn
from tests.web.conftest import TIMEOUT, Server

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()"),
]


TASKS = Path(__file__).with_name("celery_tasks.py")


class Agent:
    """Repeats what was said; holds its answer to "wait" back until it is let go."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, turn: Turn) -> str:
        if turn.text == "wait":
            self.asked.set()
            assert self.let_go.wait(TIMEOUT)
        return turn.text


@pytest.fixture
def agent() -> Iterator[Agent]:
    agent = Agent()
    yield agent
    agent.let_go.set()


@pytest.fixture
def server(agent: Agent) -> Iterator[Sandbox]:
    with Sandbox(agent) as sandbox:
        yield sandbox


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The tasks, to be sent from here, in an application of the test's own."""
    monkeypatch.setattr(sys, "argv", ["pytest"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Celery's and its dependencies'
        found = SimpleNamespace(**runpy.run_path(str(TASKS)))
    found.configure(tmp_path)
    yield found
    found.app.close()


@pytest.fixture
def worker(server: Sandbox, tasks: Any, tmp_path: Path) -> Iterator[Server]:
    """A worker with two children, each of which ends after two tasks."""
    process = Server(
        [sys.executable, "-m", "celery", "-A", "tests.process.celery_tasks", "worker"]
        + ["--pool", "prefork", "--concurrency", "2", "--max-tasks-per-child", "2"]
        + ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        + ["--loglevel", "INFO"],
        {
            "TASKS_FOLDER": str(tmp_path),
            "POLYSYNC_ENVIRONMENT": server.base_url,
            "POLYSYNC_CONNECTOR_TOKEN": server.connector_token,
            "POLYSYNC_HOST": server.host,
        },
    )
    try:
        process.wait_for(r"celery@.* ready\.")
        yield process
    finally:
        process.stop()


def send(task: Any, *arguments: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return task.delay(*arguments)


def result(job: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return job.get(timeout=TIMEOUT, interval=0.05)


def alive(process: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


def test_prefork_children_talk_beside_their_parent(
    worker: Server, server: Sandbox, tasks: Any
) -> None:
    """Children that come and go leave nothing, and the parent's client alone."""
    (parents,) = server.sessions.values()
    assert parents.platform == "custom"

    error = result(send(tasks.ask_as_parent))
    assert error.startswith("ForkedError: ")
    assert "fork" in error

    assert result(send(tasks.ask_agent, "as in the manual")) == "as in the manual"
    jobs = [send(tasks.ask_in_child, f"question {n}") for n in range(8)]
    answers = [result(job) for job in jobs]
    assert [text for text, _ in answers] == [f"question {n}" for n in range(8)]
    children = {child for _, child in answers}
    assert len(children) > 2
    assert worker.process.pid not in children

    # The parent still reads, tells its callback, and is the only one to do so.
    parents.say("who is there?")
    server.wait_until(lambda: parents.user_messages, TIMEOUT)
    assert [m.text for m in parents.user_messages] == [f"process {worker.process.pid}"]
    assert (parents.connection_total, parents.connections) == (1, 1)

    worker.stop()
    assert worker.process.returncode == 0, "".join(worker.lines)
    assert not [child for child in children if alive(child)]
    others = [s for s in server.sessions.values() if s is not parents]
    assert len(others) == 9
    assert {session.end_reason for session in others} == {"REASON_USER_END"}
    server.wait_until(
        lambda: not any(s.connections for s in server.sessions.values()), TIMEOUT
    )


def test_warm_shutdown_lets_a_task_end(
    worker: Server, server: Sandbox, tasks: Any, agent: Agent
) -> None:
    """It has its answer and ends its session; then the worker is gone, in time."""
    job = send(tasks.ask_in_child, "wait")
    assert agent.asked.wait(TIMEOUT)
    worker.process.terminate()
    worker.wait_for("Warm shutdown")
    agent.let_go.set()
    assert worker.process.wait(TIMEOUT) == 0
    text, child = result(job)
    assert text == "wait"
    assert not alive(child)
    asked = [s for s in server.sessions.values() if s.platform != "custom"]
    assert [session.end_reason for session in asked] == ["REASON_USER_END"]
