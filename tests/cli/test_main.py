"""The command as such: help, exit codes, errors in a sentence, debugging."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import polysync
from polysync import cli
from polysync.cli import main
from polysync.cli.reporting import CommandError
from polysync.errors import AuthenticationError, ConfigurationError
from tests.cli.conftest import TIMEOUT, Run

TOKEN = "a-token-that-must-not-show"


def test_version(run: Run) -> None:
    """The version is that of the package."""
    assert run("--version").out == f"polysync {polysync.__version__}\n"


@pytest.mark.parametrize("command", [(), *((name,) for name in cli.COMMANDS)])
def test_help_has_examples(run: Run, command: tuple[str, ...]) -> None:
    """The help of everything shows how it is used."""
    outcome = run(*command, "--help")
    assert outcome.code == 0
    assert "examples:\n  polysync " in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 100


def test_no_command_is_wrong_usage(run: Run) -> None:
    """Without a command, the help and exit code 2."""
    outcome = run()
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("usage: polysync ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nope",),
        ("chat", "--json", "--plain"),
        ("chat", "--timeout", "0"),
        ("chat", "--timeout", "soon"),
        ("chat", "--connector-token", TOKEN),
        ("chat", "--env", "sandbox"),
        ("chat", "--resume", "x", "--environment", "uk-1"),
        ("chat", "--environment", "nowhere", "--plain"),
        ("sandbox", "--port", "x"),
        ("sandbox", "--port", "65536"),
        ("sandbox", "--chunk-delay", "-1"),
        ("sandbox", "--agent", "nope"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """Mistakes in the arguments and settings are told apart from failures."""
    monkeypatch.setenv("POLYSYNC_CONNECTOR_TOKEN", TOKEN)
    monkeypatch.setenv("POLYSYNC_HOST", "https://www.example.com")
    outcome = run(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert "Traceback" not in outcome.err


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Add a command ``fail`` that raises."""

    def add(error: BaseException) -> None:
        def run(arguments: argparse.Namespace) -> int:
            raise error

        module = SimpleNamespace(
            SUMMARY="fail", EXAMPLES="", configure=lambda parser: None, run=run
        )
        monkeypatch.setitem(cli.COMMANDS, "fail", module)

    return add


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CommandError("It is so."), 1, "polysync: It is so.\n"),
        (CommandError("Not like this.", 2), 2, "polysync: Not like this.\n"),
        (ConfigurationError("wrong"), 2, "polysync: wrong\n"),
        (
            AuthenticationError(f"connector_token={TOKEN} is refused"),
            1,
            "polysync: connector_token=*** is refused\n",
        ),
        (PermissionError(13, "Denied"), 1, "polysync: [Errno 13] Denied\n"),
        (
            RuntimeError("oops"),
            1,
            "polysync: an unforeseen RuntimeError: oops; --debug shows where\n",
        ),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 1, ""),
    ],
)
def test_error_becomes_sentence_and_code(
    run: Run,
    command: Callable[[BaseException], None],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    said: str,
) -> None:
    """No traceback and no secret, whatever a command raises."""
    monkeypatch.setattr(cli, "hush_stdout", lambda: None)
    command(error)
    outcome = run("fail")
    assert (outcome.code, outcome.out, outcome.err) == (code, "", said)


def test_debug_shows_the_traceback(
    run: Run, command: Callable[[BaseException], None]
) -> None:
    """With --debug, where it happened, still without secrets."""
    command(RuntimeError(f"access_token={TOKEN}"))
    outcome = run("fail", "--debug")
    assert outcome.code == 1
    assert "Traceback (most recent call last)" in outcome.err
    assert TOKEN not in outcome.err


def test_debug_logs_without_secrets(
    run: Run, credentials: Callable[[Any], None], sandbox: Any
) -> None:
    """The log tells what goes on, and holds neither of the tokens."""
    credentials(sandbox)
    outcome = run("chat", "--debug", "--json", stdin="Hello")
    assert outcome.code == 0
    assert " DEBUG " in outcome.err
    assert " INFO " in outcome.err
    assert sandbox.connector_token not in outcome.err + outcome.out
    assert "eyJ" not in outcome.err + outcome.out
    for line in outcome.out.splitlines():
        json.loads(line)


@pytest.mark.subprocess
def test_module_runs_as_the_command() -> None:
    """``python -m polysync`` is the command."""
    result = subprocess.run(
        [sys.executable, "-m", "polysync", "--version"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert result.stdout == f"polysync {polysync.__version__}\n"


@pytest.mark.subprocess
def test_command_imports_no_extra() -> None:
    """The frame, plain lines and JSON work without a single extra."""
    code = (
        "import sys; from polysync.cli import main, plain, jsonlines\n"
        "print({'rich', 'prompt_toolkit', 'aiohttp', 'jinja2', 'yaml'} "
        "& set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert result.stdout == "set()\n"


@pytest.mark.subprocess
def test_reader_that_goes_away_is_no_error(
    spawn: Callable[..., subprocess.Popen[str]],
) -> None:
    """After ``| head -1`` nothing is complained about, and the chat ends."""
    process = spawn("chat", "--json")
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdin.write("Hello\n" * 20)
    process.stdin.close()
    assert process.wait(TIMEOUT) == 1
    assert "Error" not in process.stderr.read()


@pytest.mark.subprocess
def test_interrupt_ends_the_conversation(
    spawn: Callable[..., subprocess.Popen[str]], sandbox: Any
) -> None:
    """The conversation is ended on the server, quietly, before the process is."""
    process = spawn(
        "chat",
        "--plain",
        env={
            **os.environ,
            "POLYSYNC_ENVIRONMENT": sandbox.base_url,
            "POLYSYNC_CONNECTOR_TOKEN": sandbox.connector_token,
            "POLYSYNC_HOST": sandbox.host,
        },
    )
    assert process.stdout is not None
    assert process.stderr is not None
    while "Harbour Table: " not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == 130
    assert process.stdout.read().endswith("has ended: you ended it.\n")
    assert process.stderr.read() == ""


def test_main_outside_the_main_thread(run: Run) -> None:
    """A program may call it from any thread: signals are then left alone."""
    import threading

    codes: list[int] = []
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=lambda: codes.append(main(["chat", "--json"])))
    outcome = None
    run._monkeypatch.setattr(sys, "stdin", None)
    thread.start()
    thread.join(TIMEOUT)
    assert codes == [0]
    assert signal.getsignal(signal.SIGTERM) is before
    assert outcome is None
