"""Where a command connects to, and where it has the credentials from."""

from __future__ import annotations

import argparse
import getpass
import io
import sys

import pytest

from polysync.cli import connection
from polysync.cli.connection import HOST, TOKEN, Target, target_of
from polysync.cli.reporting import CommandError

SECRET = "connector-secret"
SITE = "https://www.example.com"


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    connection.add_connection_options(parser)
    return parser.parse_args(arguments)


class Typist(io.StringIO):
    """A standard input with somebody at it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def typist(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Somebody who types the token and the host; gives what was asked."""
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return f"{SECRET}\n"

    monkeypatch.setattr(getpass, "getpass", answer)
    monkeypatch.setattr(sys, "stdin", Typist(f"{SITE}\n"))
    return asked


def test_without_credentials_it_is_the_sandbox(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is set: the sandbox, and a word about it."""
    target = target_of(parsed(), {})
    assert target == Target("the sandbox", True, {"environment": "sandbox"})
    assert "no credentials" in capsys.readouterr().err


def test_sandbox_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    """Who asks for the sandbox needs no explanation, and sends it no real token."""
    target = target_of(parsed("--environment", "sandbox"), {TOKEN: SECRET})
    assert target.sandboxed
    assert SECRET not in target.options.values()
    assert capsys.readouterr().err == ""


def test_credentials_of_the_environment() -> None:
    """Both are set: nobody is asked, and the default cluster is meant."""
    target = target_of(parsed("--timeout", "7"), {TOKEN: SECRET, HOST: SITE})
    assert target.options == {
        "connector_token": SECRET,
        "host": SITE,
        "environment": "us-1",
        "timeout": 7.0,
        "reply_timeout": 7.0,
    }
    assert (target.name, target.sandboxed) == ("us-1", False)
    assert SECRET not in repr(target)


def test_argument_goes_before_the_environment() -> None:
    """--environment is nearer than $POLYSYNC_ENVIRONMENT."""
    environ = {TOKEN: SECRET, HOST: SITE, connection.ENVIRONMENT: "sandbox"}
    assert target_of(parsed("--environment", "uk-1"), environ).name == "uk-1"


def test_token_is_asked_for_in_the_dark(
    typist: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """An environment without a token: somebody at a terminal is asked for it."""
    target = target_of(parsed("--environment", "euw-1"), {})
    assert typist == ["Connector token for euw-1: "]
    assert target.options["connector_token"] == SECRET
    assert target.options["host"] == SITE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert SECRET not in captured.err


@pytest.mark.parametrize("error", [EOFError, None])
def test_no_answer(
    typist: list[str],
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException] | None,
) -> None:
    """An empty answer and ^D are wrong usage."""

    def answer(question: str) -> str:
        if error is not None:
            raise error
        return ""

    monkeypatch.setattr(getpass, "getpass", answer)
    with pytest.raises(CommandError, match=TOKEN) as caught:
        target_of(parsed("--environment", "euw-1"), {})
    assert caught.value.code == 2


def test_interrupt_at_the_question(
    typist: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """^C passes through, and leaves the cursor at the beginning of a line."""

    def answer(question: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(getpass, "getpass", answer)
    with pytest.raises(KeyboardInterrupt):
        target_of(parsed("--environment", "euw-1"), {})
    assert capsys.readouterr().err == "\n"


@pytest.mark.parametrize(
    ("environ", "missing"),
    [({connection.ENVIRONMENT: "uk-1"}, TOKEN), ({TOKEN: SECRET}, HOST)],
)
def test_nobody_to_ask(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], missing: str
) -> None:
    """Without a terminal, the missing variable is named."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(CommandError, match=rf"\${missing} is not set") as caught:
        target_of(parsed(), environ)
    assert caught.value.code == 2
