"""The chat without a terminal: plain lines and JSON, from beginning to end."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polysync.cli import chat, main
from polysync.cli.plain import PlainView
from polysync.sandbox import (
    Drop,
    EchoAgent,
    Fail,
    Moment,
    Push,
    Reply,
    Sandbox,
    SilentAgent,
)
from tests.cli.conftest import TIMEOUT, Run, Written

Credentials = Callable[[Any], None]


def test_conversation_in_plain_lines(run: Run) -> None:
    """Each line is sent and answered; the end of the input ends the session."""
    outcome = run("chat", stdin="Book a table\n2\n1\n2\nthe menu\n")
    assert outcome.code == 0
    assert outcome.out == (
        "* Harbour Table has joined.\n"
        "Harbour Table: Hello, this is the Harbour Table. "
        "Would you like to book a table?\n"
        "  1) Book a table\n"
        "  2) See the menu\n"
        "  3) Talk to a human\n"
        "You: Book a table\n"
        "Harbour Table: With pleasure. For how many people?\n"
        "  (2 | 4 | 6)\n"
        "You: 2\n"
        "Harbour Table: A table for 2. When would you like to come?\n"
        "  1) Tonight at 7 pm\n"
        "  2) Tomorrow at 8 pm\n"
        "You: Tonight at 7 pm\n"
        "Harbour Table: A table for 2, Tonight at 7 pm. Shall I book it?\n"
        "  1) Yes, please\n"
        "  2) No, thank you\n"
        "You: No, thank you\n"
        "Harbour Table: Alright, nothing is booked. Is there anything else?\n"
        "You: the menu\n"
        "Harbour Table: Here is our menu.\n"
        "  - Menu: https://www.example.com/menu\n"
        "  - Today's catch: https://www.example.com/menu/catch.png\n"
        "* The conversation has ended: you ended it.\n"
    )
    assert outcome.err == (
        "polysync: no credentials ($POLYSYNC_CONNECTOR_TOKEN is not set), "
        "so this is the built-in sandbox\n"
    )


def test_conversation_in_json(run: Run) -> None:
    """One event a line, whole messages too, and nothing else on standard output."""
    outcome = run("chat", "--json", stdin="1\n")
    found = [json.loads(line) for line in outcome.out.splitlines()]

    assert outcome.code == 0
    assert found[0]["type"] == "EVENT_TYPE_SESSION_START"
    assert found[-1]["type"] == "EVENT_TYPE_SESSION_END"
    [said] = [e for e in found if e["type"] == "EVENT_TYPE_USER_MESSAGE"]
    assert said["payload"]["text"] == "1"
    whole = [e for e in found if e["type"] == "EVENT_TYPE_POLY_AGENT_MESSAGE"]
    assert [e["assembled"] for e in whole] == [True, True]
    chunks = [e for e in found if e["type"] == "EVENT_TYPE_POLY_AGENT_MESSAGE_CHUNK"]
    for message in whole:
        parts = [
            e["payload"]["text"]
            for e in chunks
            if e["payload"]["message_id"] == message["payload"]["message_id"]
        ]
        assert len(parts) > 1
        assert "".join(parts) == message["payload"]["text"]


def test_no_streaming(run: Run) -> None:
    """Then replies come in one piece."""
    outcome = run("chat", "--json", "--no-streaming", stdin="Hello")
    assert "CHUNK" not in outcome.out
    assert '"assembled"' not in outcome.out


def test_agent_ends_the_conversation(run: Run) -> None:
    """A line says so, and it is no failure; lines that are left are not sent."""
    outcome = run("chat", stdin="goodbye\nand another\nand more\n")
    assert outcome.code == 0
    assert outcome.out.endswith("* The conversation has ended: the agent ended it.\n")
    assert "polysync: the conversation is over; not sent: 2 lines\n" in outcome.err
    assert "another" not in outcome.out


def test_agent_ends_the_conversation_while_nothing_is_typed(
    monkeypatch: pytest.MonkeyPatch,
    credentials: Credentials,
    sandbox: Sandbox,
) -> None:
    """The chat ends although standard input is still open."""
    credentials(sandbox)
    out = Written()
    monkeypatch.setattr(sys, "stdout", out)
    reading, writing = os.pipe()
    with open(reading) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        codes: list[int] = []
        thread = threading.Thread(target=lambda: codes.append(main(["chat"])))
        thread.start()
        out.wait_for("3) Talk to a human\n")
        sandbox.session.push("SESSION_END", {"reason": "REASON_USER_ABANDONED"})
        thread.join(TIMEOUT)
    os.close(writing)
    assert codes == [0]
    out.wait_for("has ended: nobody wrote for too long.\n")


def test_handoff_in_plain_lines(run: Run) -> None:
    """The steps to a human are told."""
    outcome = run("chat", stdin="Talk to a human\nthanks\ngoodbye\n")
    for line in (
        "* The agent asks a human to take over.",
        "* A human will take over (queue: Front of house).",
        "* Sam, a human, has joined.",
        "Sam: Hello, this is Sam. How can I help?",
        "Sam: You are welcome. Have a good day!",
    ):
        assert line in outcome.out.splitlines()


def test_commands_in_a_pipe(run: Run) -> None:
    """Commands work there too, and a wrong one is a failure in the end."""
    outcome = run("chat", stdin="/help\n/nope\n//etc\n/history\n/end\nnever\n")
    assert outcome.code == 1
    assert "/detach FILE" in outcome.err
    assert "no command /nope" in outcome.err
    assert "\nYou: /etc\n" in outcome.out
    assert "* The conversation so far:\nHarbour Table: Hello," in outcome.out
    assert "never" not in outcome.out


def test_history_beside_json(run: Run) -> None:
    """What is for people goes to standard error, with escapes made harmless."""
    outcome = run("chat", "--json", stdin="a\x1b[2Jb\n/history\n")
    assert "polysync: User: a\\u001b[2Jb\n" in outcome.err
    assert "\x1b" not in outcome.out + outcome.err


class Odd:
    """Says everything that is hard to show."""

    def greeting(self, turn: Any) -> Any:
        return Reply(
            "<p>Hi <b>there</b></p>\n\x1b[2Jsecond line",
            suggestions=["\x1b]0;x\x07one\ntwo"],
            call_actions=[{"title": "Us", "contact_number": "+1"}],
        )

    def reply(self, turn: Any) -> Any:
        yield Push(
            "SYSTEM_MESSAGE",
            {"level": "SYSTEM_MESSAGE_LEVEL_WARNING", "message": "Slow\x1b[31m today"},
        )
        yield Push("BRAND_NEW", {"a": 1})
        yield turn.text


def test_odd_text_in_plain_lines(run: Run, credentials: Credentials) -> None:
    """HTML becomes text, escapes disappear, further lines are indented."""
    with Sandbox(Odd) as sandbox:
        credentials(sandbox)
        outcome = run("chat", stdin="one\n")
    assert outcome.code == 0
    assert outcome.out == (
        "* PolyAI has joined.\n"
        "PolyAI: Hi there\n"
        "\n"
        "  second line\n"
        "  - Us: +1\n"
        "  1) one two\n"
        "You: one\n"
        "* system: warning: Slow today\n"
        "PolyAI: one\n"
        "* The conversation has ended: you ended it.\n"
    )


def test_failed_reply_is_told_and_survived(run: Run, credentials: Credentials) -> None:
    """An error in answer to a message: the next is sent, and the code is 1."""
    with Sandbox(EchoAgent) as sandbox:
        credentials(sandbox)
        sandbox.faults.arm(
            Moment.REPLY, Fail("Sorry, I encountered an error. Please try again.")
        )
        outcome = run("chat", stdin="one\ntwo\n")
    assert outcome.code == 1
    assert "* system: error: Sorry, I encountered an error." in outcome.out
    assert "the server answered with an error" in outcome.err
    assert "\nEcho: two\n" in outcome.out


def test_reply_that_does_not_come(run: Run, credentials: Credentials) -> None:
    """The wait is bounded by --timeout."""
    with Sandbox(SilentAgent) as sandbox:
        credentials(sandbox)
        outcome = run("chat", "--timeout", "0.3", stdin="one\n")
    assert outcome.code == 1
    assert "no whole reply came within 0.3 s" in outcome.err


def test_reconnection_is_told(
    run: Run, credentials: Credentials, sandbox: Sandbox
) -> None:
    """A lost connection and its return are status lines; nothing is lost."""
    credentials(sandbox)
    sandbox.faults.arm(Moment.RECEIVE, Drop(), type="USER_MESSAGE")
    outcome = run("chat", "--json", stdin="hello\n")
    assert outcome.code == 0
    assert "polysync: Connection lost (" in outcome.err
    assert "polysync: Connected again.\n" in outcome.err
    assert outcome.out.count("EVENT_TYPE_USER_MESSAGE") == 1


def test_connection_that_is_lost_for_good(run: Run, credentials: Credentials) -> None:
    """What it means for the messages, the reason, and code 1."""
    with Sandbox(EchoAgent, max_reconnect_attempts=0) as sandbox:
        credentials(sandbox)
        sandbox.faults.arm(Moment.RECEIVE, Drop(), type="USER_MESSAGE")
        outcome = run("chat", stdin="hello\nmore\n")
    assert outcome.code == 1
    delivery, unsent, reason = outcome.err.splitlines()
    assert "it may have been delivered" in delivery
    assert unsent == "polysync: the conversation is over; not sent: 1 line"
    assert reason.startswith("polysync: the connection failed and ")


def test_wrong_credentials(
    run: Run, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    """A refused token is one sentence, without the token."""
    monkeypatch.setenv("POLYSYNC_CONNECTOR_TOKEN", "not-the-token")
    monkeypatch.setenv("POLYSYNC_HOST", "https://www.example.com")
    outcome = run("chat", "--environment", sandbox.base_url, stdin="hello")
    assert (outcome.code, outcome.out) == (1, "")
    assert len(outcome.err.splitlines()) == 1
    assert "not-the-token" not in outcome.err


def test_leaving_and_coming_back(
    run: Run, credentials: Credentials, sandbox: Sandbox, tmp_path: Path
) -> None:
    """/detach leaves the conversation open, --resume goes on with it."""
    file = tmp_path / "my state.json"
    credentials(sandbox)
    first = run("chat", stdin=f"Book a table\n/detach {file}\nnever\n")
    assert first.code == 0
    assert f"polysync chat --resume '{file}'" in first.err
    assert file.stat().st_mode & 0o777 == 0o600
    assert not sandbox.session.ended
    assert json.loads(file.read_text())["access_token"] not in first.out + first.err

    record = tmp_path / "r.json"
    second = run("chat", "--resume", str(file), "--record", str(record), stdin="4\n")
    assert second.code == 0
    assert "* The conversation so far:\nHarbour Table: Hello," in second.out
    assert "You: 4\nHarbour Table: A table for 4. When" in second.out
    assert sandbox.session.ended
    assert len(sandbox.sessions) == 1
    types = [e["type"] for e in json.loads(record.read_text())["events"]]
    assert types[0] == "EVENT_TYPE_SESSION_START"
    assert types.count("EVENT_TYPE_USER_MESSAGE") == 2

    third = run("chat", "--resume", str(file), stdin="5\n")
    assert third.code == 1
    assert "* The conversation has ended: you ended it." in third.out
    assert "polysync: the conversation has ended, " in third.err


def test_detaching_from_what_ends_with_the_program(run: Run, tmp_path: Path) -> None:
    """The built-in sandbox cannot be come back to, so the chat goes on."""
    outcome = run("chat", stdin=f"/detach {tmp_path}/s.json\nHello\n")
    assert outcome.code == 1
    assert "ends with this program" in outcome.err
    assert "You: Hello" in outcome.out
    assert list(tmp_path.glob("s.json*")) == []


def test_detaching_to_where_nothing_can_be_written(
    run: Run, credentials: Credentials, sandbox: Sandbox
) -> None:
    """The conversation goes on, and nothing is lost."""
    credentials(sandbox)
    outcome = run("chat", stdin="/detach /no/such/place\nHello\n")
    assert "/no/such/place cannot be written: No such file" in outcome.err
    assert "You: Hello" in outcome.out


@pytest.mark.parametrize("content", [None, "{}", "no JSON", '{"version": 1}'])
def test_file_that_holds_no_conversation(
    run: Run, tmp_path: Path, content: str | None
) -> None:
    """A wrong file is wrong usage, and nothing of it is shown."""
    file = tmp_path / "state.json"
    if content is not None:
        file.write_text(content)
        file.chmod(0o600)
    outcome = run("chat", "--resume", str(file))
    assert outcome.code == 2
    assert str(file) in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_state_that_others_can_read(run: Run, tmp_path: Path) -> None:
    """A state file is a secret: a word about its mode."""
    file = tmp_path / "state.json"
    file.write_text("{}")
    file.chmod(0o644)
    assert f"chmod 600 {file}" in run("chat", "--resume", str(file)).err


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("missing", ["rich", "prompt_toolkit"])
def test_missing_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    """At a terminal without the extra: how to get it, and plain lines."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == missing else find(name),
    )
    monkeypatch.setattr(sys, "stdin", Terminal("Hello\n/quit\n"))
    monkeypatch.setattr(sys, "stdout", out := Terminal())
    assert main(["chat"]) == 0
    err = capsys.readouterr().err
    assert f"{missing} missing" in err
    assert "pip install 'polysync[cli]'" in err
    assert "Harbour Table: Hello, this is the Harbour Table." in out.getvalue()
    # What was typed stands on the terminal already.
    assert "You: " not in out.getvalue()


def test_dumb_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal without any abilities gets plain lines."""
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    parser = __import__("argparse").ArgumentParser()
    chat.configure(parser)
    assert isinstance(chat._view(parser.parse_args([])), PlainView)


def test_plain_lines_typed_at_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    credentials: Credentials,
) -> None:
    """What somebody types is sent at once, without waiting for an answer."""
    with Sandbox(SilentAgent) as sandbox:
        credentials(sandbox)
        monkeypatch.setattr(sys, "stdin", Terminal("one\ntwo\n" + "x" * 140_000))
        assert main(["chat", "--plain"]) == 0
        said = [
            event["payload"]["text"]
            for event in sandbox.session.events
            if event["type"] == "EVENT_TYPE_USER_MESSAGE"
        ]
    captured = capsys.readouterr()
    assert said == ["one", "two"]
    assert "connected to http://127.0.0.1" in captured.err
    assert "bytes" in captured.err  # of the third, which was too long


def test_sandbox_without_its_library(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without aiohttp, how to get it."""
    monkeypatch.setitem(sys.modules, "polysync.sandbox", None)
    outcome = run("chat", stdin="Hello")
    assert outcome.code == 1
