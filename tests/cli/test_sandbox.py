"""``polysync sandbox``."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polysync import Client
from polysync.cli import main
from tests.cli.conftest import TIMEOUT, Run

Spawn = Callable[..., "subprocess.Popen[str]"]


def variables(process: subprocess.Popen[str]) -> dict[str, str]:
    """Read the lines that tell how to connect."""
    assert process.stdout is not None
    lines = [process.stdout.readline().split() for _ in range(3)]
    assert [line[0] for line in lines] == ["export"] * 3
    return dict(line[1].split("=", 1) for line in lines)


@pytest.mark.subprocess
def test_others_can_talk_to_it(spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it prints is what a client in another process needs."""
    process = spawn("sandbox", "--agent", "echo")
    for name, value in variables(process).items():
        monkeypatch.setenv(name, value)
    with Client() as client:
        assert client.ask("Hello").text == "Hello"
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT) == 143
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the server was made of; it is not started."""
    import polysync.sandbox

    arguments: dict[str, Any] = {}

    def make(agent: Any, **settings: Any) -> Any:
        arguments.update(settings, agent=agent)
        raise TypeError("that is enough")

    monkeypatch.setattr(polysync.sandbox, "Sandbox", make)
    return arguments


def test_options_reach_the_server(run: Run, made: dict[str, Any]) -> None:
    """Port and pauses are those of the arguments."""
    run("sandbox", "--port", "81", "--chunk-delay", "0", "--reply-delay", "1.5")
    assert (made["port"], made["chunk_delay"], made["reply_delay"]) == (81, 0, 1.5)


def test_agent_of_ones_own(
    run: Run, made: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module of the current directory will do."""
    (tmp_path / "an_agent_of_mine.py").write_text("def answer(turn): return 'ok'\n")
    monkeypatch.chdir(tmp_path)
    run("sandbox", "--agent", "an_agent_of_mine:answer")
    assert made["agent"](None) == "ok"


def test_recording_is_played(run: Run, made: dict[str, Any], tmp_path: Path) -> None:
    """--play takes what chat --record has kept."""
    from polysync.sandbox import RecordedAgent

    file = tmp_path / "r.json"
    file.write_text('{"version": 1, "events": []}')
    run("sandbox", "--play", str(file))
    assert isinstance(made["agent"], RecordedAgent)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--agent", "nobody"), "no agent 'nobody'"),
        (("--agent", "no_such_module:x"), "no_such_module"),
        (("--agent", "json:nothing"), "nothing"),
        (("--agent", "json:__name__"), "an agent is"),
        (("--play", "no-such-file"), "cannot be read"),
        (("--play", __file__), "is no recording"),
    ],
)
def test_wrong_agent(run: Run, arguments: tuple[str, ...], said: str) -> None:
    """The mistake is named."""
    outcome = run("sandbox", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_port_that_is_taken(run: Run) -> None:
    """The port is named."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        outcome = run("sandbox", "--port", str(port))
    assert outcome.code == 1
    assert f"port {port} cannot be listened on: Address already in use" in outcome.err


def test_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server stops however the wait ends."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    event = SimpleNamespace(wait=interrupted)
    module = SimpleNamespace(Event=lambda: event)
    monkeypatch.setattr("polysync.cli.sandbox.threading", module)
    assert main(["sandbox"]) == 130
