"""The chat at a terminal."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output

from polysync.cli import main
from polysync.sandbox import (
    Drop,
    EchoAgent,
    Handoff,
    Moment,
    Push,
    Sandbox,
    SilentAgent,
)
from tests.cli.conftest import TIMEOUT, Pseudoterminal, Written, seen

Credentials = Callable[[Any], None]


class _Keyboard(io.StringIO):
    def isatty(self) -> bool:
        return True


class _Screen(Written):
    """A terminal that answers the question where its cursor is."""

    def __init__(self, keys: PipeInput) -> None:
        super().__init__(terminal=True)
        self._keys = keys

    def write(self, text: str) -> int:
        if "\x1b[6n" in text:
            self._keys.send_text("\x1b[1;1R")
        return super().write(text)


class Chat:
    """A chat in a thread of its own, with somebody at the terminal."""

    def __init__(self, keys: PipeInput, *arguments: str) -> None:
        self._keys = keys
        self.screen = _Screen(keys)
        self.code: int | None = None
        self._arguments = arguments
        self._thread = threading.Thread(target=self._run, name="chat")

    def start(self) -> Chat:
        self._thread.start()
        return self

    def _run(self) -> None:
        size = Size(rows=30, columns=100)
        output = Vt100_Output(self.screen, lambda: size, term="xterm")
        with create_app_session(input=self._keys, output=output):
            self.code = main(["chat", *self._arguments])

    def type(self, text: str) -> None:
        self._keys.send_text(text)

    def see(self, text: str) -> str:
        return self.screen.wait_for(text)

    def end(self) -> int | None:
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()
        return self.code

    @property
    def lines(self) -> list[str]:
        """What a person sees, without empty lines."""
        lines = [line.strip() for line in seen(self.screen.getvalue())]
        return [line for line in lines if line]


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Chat]]:
    """Start a chat; it has ended when the test has."""
    with create_pipe_input() as keys:
        chats: list[Chat] = []

        def start(*arguments: str) -> Chat:
            new = Chat(keys, *arguments)
            monkeypatch.setenv("COLUMNS", "100")
            monkeypatch.setattr(sys, "stdin", _Keyboard())
            monkeypatch.setattr(sys, "stdout", new.screen)
            chats.append(new)
            return new.start()

        yield start
        for each in chats:
            if each._thread.is_alive():
                each.type("\x03")
            each.end()


def test_conversation(
    chat: Callable[..., Chat], credentials: Credentials, sandbox: Sandbox
) -> None:
    """Greeting, a suggestion by its number, the history, and a proper end."""
    credentials(sandbox)
    it = chat()
    it.see("Talk\u00a0to\u00a0a\u00a0human")
    it.type("1\r")
    it.see("For how many people?")
    it.see("2 · 4 · 6")
    it.type("4\r")
    it.see("Tomorrow\u00a0at\u00a08\u00a0pm")
    it.type("/history\r")
    it.see("The conversation so far")
    it.see("That was it.")
    it.type("/help\r")
    it.see("/detach FILE")
    it.type("/nope\r")
    it.see("There is no command /nope.")
    it.type("/end\r")
    assert it.end() == 0
    assert [m.text for m in sandbox.session.user_messages] == ["Book a table", "4"]
    assert sandbox.session.ended
    shown = [re.sub(r"^\d\d:\d\d", "00:00", line) for line in it.lines]
    greeting = "Hello, this is the Harbour Table. Would you like to book a table?"
    assert shown[:-10] == [
        f"· Connected to {sandbox.base_url}. "
        "/help lists the commands, ^D ends the chat.",
        "· Harbour Table has joined.",
        f"Harbour Table › {greeting}",
        "1  Book a table    2  See the menu    3  Talk to a human",
        "You › Book a table",
        "Harbour Table › With pleasure. For how many people?",
        "2 · 4 · 6",
        "You › 4",
        "Harbour Table › A table for 4. When would you like to come?",
        "1  Tonight at 7 pm    2  Tomorrow at 8 pm",
        "· The conversation so far:",
        f"00:00  Harbour Table › {greeting}",
        "00:00  You › Book a table",
        "00:00  Harbour Table › With pleasure. For how many people?",
        "00:00  You › 4",
        "00:00  Harbour Table › A table for 4. When would you like to come?",
    ]
    assert shown[-10] == "· That was it."
    assert shown[-1] == "· The conversation has ended: you ended it."


def test_reply_grows(chat: Callable[..., Chat], credentials: Credentials) -> None:
    """Who types is shown, then what has come so far, then the whole."""
    begin, go_on = threading.Event(), threading.Event()

    def agent(turn: Any) -> Any:
        begin.wait(TIMEOUT)
        yield "one "
        yield "two "
        go_on.wait(TIMEOUT)
        yield "three"

    with Sandbox(agent) as sandbox:
        credentials(sandbox)
        it = chat()
        it.see("How can I help you today?")
        it.type("count\r")
        it.see("is typing …")
        begin.set()
        it.see("one")
        it.see("two")
        assert "three" not in it.screen.getvalue()
        go_on.set()
        it.see("three")
        it.type("\x04")
        assert it.end() == 0
    assert "PolyAI › one two three" in it.lines


def test_handoff_and_words_of_the_system(
    chat: Callable[..., Chat], credentials: Credentials
) -> None:
    """They have their own look; the toolbar says who is there."""

    def agent(turn: Any) -> Any:
        yield Push(
            "SYSTEM_MESSAGE",
            {"level": "SYSTEM_MESSAGE_LEVEL_WARNING", "message": "Slow \x1b[2Jtoday"},
        )
        yield Handoff(greeting="Here I am")

    with Sandbox(agent) as sandbox:
        credentials(sandbox)
        it = chat()
        it.see("How can I help you today?")
        it.type("human\r")
        it.see("Here I am")
        it.see("Sam (human)")
        # What is typed is shown to the human at the other end.
        it.type("x")
        sandbox.wait_until(
            lambda: (
                "EVENT_TYPE_USER_TYPING"
                in [frame.type for frame in sandbox.received.frames]
            ),
            TIMEOUT,
        )
        it.type("\x7f\x04")
        assert it.end() == 0
    for line in (
        "▌Warning  Slow today",
        "⇄ The agent asks a human to take over.",
        "⇄ Sam, a human, has joined.",
        "Sam › Here I am",
    ):
        assert line in it.lines


def test_agent_ends_the_conversation(
    chat: Callable[..., Chat], credentials: Credentials, sandbox: Sandbox
) -> None:
    """The chat ends with a line, whatever is being typed."""
    credentials(sandbox)
    it = chat()
    it.see("Talk\u00a0to\u00a0a\u00a0human")
    it.type("half a sente")
    it.see("sente")
    sandbox.session.end()
    assert it.end() == 0
    assert it.lines[-1] == "· The conversation has ended: the agent ended it."


@pytest.mark.parametrize(("key", "code"), [("\x03", 130), ("\x04", 0)])
def test_keys_that_end_it(
    chat: Callable[..., Chat],
    credentials: Credentials,
    sandbox: Sandbox,
    key: str,
    code: int,
) -> None:
    """^C and ^D end the conversation on the server, too."""
    credentials(sandbox)
    it = chat()
    it.see("You › ")
    it.type(key)
    assert it.end() == code
    assert sandbox.session.ended
    assert "· The conversation has ended: you ended it." in it.lines


def test_connection_comes_back(
    chat: Callable[..., Chat], credentials: Credentials
) -> None:
    """The state shows, and a message waits for its receipt in sight."""
    with Sandbox(EchoAgent) as sandbox:
        credentials(sandbox)
        sandbox.faults.arm(Moment.RECEIVE, Drop(), type="USER_MESSAGE")
        it = chat()
        it.see("How can I help you today?")
        it.type("hello?\r")
        it.see("Connection lost (")
        it.see("hello? …")
        it.see("reconnecting, attempt 1")
        it.see("Connected again.")
        it.see("Echo › ")
        it.type("\x04")
        assert it.end() == 0
    assert "You › hello?" in it.lines
    assert "Echo › hello?" in it.lines


def test_connection_that_is_lost_for_good(
    chat: Callable[..., Chat],
    credentials: Credentials,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What was not sent is said, and why it is over."""
    with Sandbox(EchoAgent, max_reconnect_attempts=0) as sandbox:
        credentials(sandbox)
        sandbox.faults.arm(Moment.RECEIVE, Drop(), type="USER_MESSAGE")
        it = chat()
        it.see("How can I help you today?")
        it.type("hello?\r")
        assert it.end() == 1
    assert "(not sent)" in it.lines
    assert "the connection failed" in capsys.readouterr().err


def test_message_that_is_too_long(
    chat: Callable[..., Chat], credentials: Credentials
) -> None:
    """The chat says so and goes on."""
    with Sandbox(SilentAgent, max_message_size_bytes=400) as sandbox:
        credentials(sandbox)
        it = chat()
        it.see("How can I help you today?")
        it.type("x" * 500 + "\r")
        it.see("▌Error")
        it.type("\x04")
        assert it.end() == 0


def test_built_in_sandbox(
    chat: Callable[..., Chat],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without credentials it is the sandbox, at a pace to be watched."""
    monkeypatch.setattr("polysync.cli.chat._PACE", {"chunk_delay": 0.001})
    it = chat()
    it.see("Connecting to the sandbox …")
    it.see("Connected to the sandbox.")
    it.see("Talk\u00a0to\u00a0a\u00a0human")
    it.type("/detach x\r")
    it.see("ends with this program")
    it.type("/quit\r")
    assert it.end() == 0
    assert "no credentials" in capsys.readouterr().err


def test_leaving_and_coming_back(
    chat: Callable[..., Chat],
    credentials: Credentials,
    sandbox: Sandbox,
    tmp_path: Path,
) -> None:
    """A conversation that was left open is shown and gone on with."""
    credentials(sandbox)
    file = tmp_path / "state.json"
    first = chat()
    first.see("Talk\u00a0to\u00a0a\u00a0human")
    first.type(f"/detach {file}\r")
    assert first.end() == 0
    second = chat("--resume", str(file))
    second.see("The conversation so far:")
    second.see("Hello, this is the Harbour Table.")
    # The suggestions of the last message can still be picked.
    second.type("/1\r")
    second.see("For how many people?")
    second.type("\x04")
    assert second.end() == 0


@pytest.mark.parametrize("variable", ["NO_COLOR", "UNRELATED"])
def test_no_color(
    chat: Callable[..., Chat],
    credentials: Credentials,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    """$NO_COLOR takes the colours away, from the prompt and from what is printed."""
    credentials(sandbox)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv(variable, "1")
    it = chat()
    it.see("Talk\u00a0to\u00a0a\u00a0human")
    it.see("You › ")
    it.type("\x04")
    it.end()
    colored = re.search(r"\x1b\[(\d+;)*(3[1-7]|9[0-7])m", it.screen.getvalue())
    assert (colored is None) == (variable == "NO_COLOR")


@pytest.mark.subprocess
def test_process_at_a_terminal(
    terminal: Callable[..., Pseudoterminal], sandbox: Sandbox
) -> None:
    """A real one: token typed in the dark, a conversation, a tidy end."""
    it = terminal("chat", "--environment", sandbox.base_url, POLYSYNC_HOST=sandbox.host)
    it.wait_for("Connector token for http://127.0.0.1")
    it.type(sandbox.connector_token + "\n")
    it.wait_for("Harbour Table")
    it.wait_for("You › ")
    it.type("1\r")
    it.wait_for("For how many people?")
    it.type("/end\r")
    it.wait_for("has ended: you ended it.")
    assert it.ends() == 0
    assert sandbox.connector_token not in it.output.getvalue()
    it.close()
    assert it.tidy


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_signal_leaves_the_terminal_tidy(
    terminal: Callable[..., Pseudoterminal],
    sandbox: Sandbox,
    number: int,
    code: int,
) -> None:
    """A signal in the middle of typing: session ended, terminal as it was."""
    it = terminal(
        "chat",
        POLYSYNC_ENVIRONMENT=sandbox.base_url,
        POLYSYNC_CONNECTOR_TOKEN=sandbox.connector_token,
        POLYSYNC_HOST=sandbox.host,
    )
    it.wait_for("You › ")
    it.type("half a sente")
    it.wait_for("sente")
    os.kill(it.process.pid, number)
    assert it.ends() == code
    assert sandbox.session.ended
    it.close()
    assert it.tidy


@pytest.mark.subprocess
def test_log_stays_above_the_prompt(
    terminal: Callable[..., Pseudoterminal], sandbox: Sandbox
) -> None:
    """With --debug the log goes through the prompt, and holds no secret."""
    it = terminal(
        "chat",
        "--debug",
        POLYSYNC_ENVIRONMENT=sandbox.base_url,
        POLYSYNC_CONNECTOR_TOKEN=sandbox.connector_token,
        POLYSYNC_HOST=sandbox.host,
    )
    it.wait_for("You › ")
    sandbox.session.drop()
    it.wait_for("Connection lost")
    it.wait_for("Connected again.")
    it.wait_for("You › ")
    it.type("\x03")
    assert it.ends() == 130
    assert sandbox.connector_token not in it.output.getvalue()
    it.close()
    logged = [line for line in seen(it.output.getvalue()) if "polysync-" in line]
    assert [line for line in logged if "reconnecting" in line]
    assert not [line for line in logged if "›" in line]
