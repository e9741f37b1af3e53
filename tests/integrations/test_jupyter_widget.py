"""The chat widget, as the browser sees its traits and sends its messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import ipywidgets
import pytest

from polysync import Client, ConfigurationError, ConnectionStatus
from polysync.integrations.jupyter import ChatWidget, cells
from polysync.sandbox import EchoAgent, Handoff, Reply, Sandbox

TIMEOUT = 10.0  # s


class Screen:
    """What a browser would show of some chats, and what it would send."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.chats: list[ChatWidget] = []
        self.threads: set[str] = set()
        self.values: list[tuple[str, str]] = []

    def show(self, chat: ChatWidget) -> ChatWidget:
        self.chats.append(chat)
        for widget in self.inside(chat):
            widget.observe(self._notice)
        return chat

    def _notice(self, change: Any) -> None:
        with self._changed:
            if isinstance(change["owner"], ipywidgets.HTML):
                self.threads.add(threading.current_thread().name)
                self.values.append((change["name"], change["new"]))
            self._changed.notify_all()

    @staticmethod
    def inside(box: Any) -> list[Any]:
        found = [box]
        for child in getattr(box, "children", ()):
            found += Screen.inside(child)
        return found

    def text(self, chat: ChatWidget) -> str:
        """Return the HTML of all parts, without the style sheet."""
        parts = [w.value for w in self.inside(chat) if isinstance(w, ipywidgets.HTML)]
        return "\n".join(parts[1:])

    def wait_for(self, chat: ChatWidget, *words: str) -> str:
        self.wait_until(lambda: all(word in self.text(chat) for word in words), words)
        return self.text(chat)

    def wait_until(self, condition: Callable[[], object], what: object = "") -> None:
        with self._changed:
            if not self._changed.wait_for(condition, TIMEOUT):
                shown = "\n".join(map(self.text, self.chats))
                pytest.fail(f"did not come: {what}; there is: {shown}")

    def buttons(self, chat: ChatWidget) -> dict[str, Any]:
        """Return the visible buttons by their labels."""
        return {
            widget.description: widget
            for widget in self.inside(chat)
            if isinstance(widget, ipywidgets.Button) and widget.layout.display != "none"
        }

    def field(self, chat: ChatWidget) -> Any:
        (field,) = (w for w in self.inside(chat) if isinstance(w, ipywidgets.Text))
        return field

    def click(self, chat: ChatWidget, label: str) -> None:
        self.wait_until(lambda: label in self.buttons(chat), label)
        # As the message of a browser is taken in.
        self.buttons(chat)[label]._handle_custom_msg({"event": "click"}, [])

    def press_enter(self, chat: ChatWidget, text: str | None = None) -> None:
        """Do as the browser does: first Enter is told, then the text, if it is new."""
        field = self.field(chat)
        field._handle_custom_msg({"event": "submit"}, [])
        if text is not None:
            field.value = text


@pytest.fixture
def screen(polysync_sandbox: Sandbox) -> Iterator[Screen]:
    """What is shown; closed before the server is."""
    screen = Screen()
    yield screen
    for chat in screen.chats:
        chat.close()
    for chat in screen.chats:
        if chat._thread is not None:  # it ends the conversation first
            chat._thread.join(TIMEOUT)


@pytest.fixture
def chat(
    screen: Screen,
    polysync_sandbox: Sandbox,
    polysync_new_client: Callable[..., Client],
) -> ChatWidget:
    """A chat with an agent that echoes, started."""
    polysync_sandbox.agent = EchoAgent
    chat = screen.show(ChatWidget(polysync_new_client()))
    chat.start()
    screen.wait_for(chat, "Hello! How can I help you today?")
    return chat


# Talking.


def test_making_one_starts_nothing(
    screen: Screen, polysync_new_client: Callable[..., Client]
) -> None:
    """A chat that is not displayed has no thread and no conversation."""
    before = threading.active_count()
    chat = screen.show(ChatWidget(polysync_new_client()))

    assert threading.active_count() == before
    assert chat.client.status is ConnectionStatus.IDLE
    assert "not connected" in screen.text(chat)
    assert list(screen.buttons(chat)) == ["Send", "Start"]
    assert screen.field(chat).disabled


def test_display_starts_the_conversation(
    screen: Screen, polysync_new_client: Callable[..., Client]
) -> None:
    """At the end of a cell a chat connects and shows the greeting."""
    chat = screen.show(ChatWidget(polysync_new_client()))
    bundle = chat._repr_mimebundle_()

    assert "application/vnd.jupyter.widget-view+json" in bundle
    screen.wait_for(chat, "online", "Would you like to book a table?")
    assert not screen.field(chat).disabled


def test_start_button_starts_it(
    screen: Screen, polysync_new_client: Callable[..., Client]
) -> None:
    """Inside of another layout, a button does."""
    chat = screen.show(ChatWidget(polysync_new_client()))
    screen.click(chat, "Start")

    screen.wait_for(chat, "online", "Would you like to book a table?")
    screen.wait_until(lambda: "Start" not in screen.buttons(chat))


def test_connected_client_is_taken_as_it_is(
    screen: Screen, polysync_client: Client
) -> None:
    """What was said before is shown at once, what is said elsewhere as it comes."""
    polysync_client.ask("A table for two")
    chat = screen.show(ChatWidget(polysync_client))
    assert "A table for two" in screen.text(chat)

    polysync_client.ask("Tonight at 7 pm")
    screen.wait_for(chat, "Tonight at 7 pm", "Shall I book it?")


def test_send_button_sends_the_field(chat: ChatWidget, screen: Screen) -> None:
    """The text of the field is sent, and the field is empty again."""
    screen.field(chat).value = "Nice weather"
    screen.click(chat, "Send")

    assert screen.field(chat).value == ""
    screen.wait_for(chat, ">You", "Nice weather", ">Echo")


def test_enter_sends_the_text_that_follows(chat: ChatWidget, screen: Screen) -> None:
    """The browser tells of Enter first and of the text afterwards."""
    screen.press_enter(chat, "first")
    screen.press_enter(chat, "second")

    screen.wait_until(
        lambda: (
            [m.text for m in chat.client.transcript if m.role == "user"]
            == ["first", "second"]
        )
    )


def test_enter_sends_a_text_that_is_known(chat: ChatWidget, screen: Screen) -> None:
    """Enter in a field that was left before sends what it holds."""
    screen.field(chat).value = "known"  # without Enter: the field was left
    assert screen.field(chat).value == "known"
    screen.press_enter(chat)

    screen.wait_until(lambda: screen.field(chat).value == "")
    screen.wait_for(chat, "known")


def test_empty_text_is_not_sent(chat: ChatWidget, screen: Screen) -> None:
    """Enter and Send without a text do nothing."""
    screen.click(chat, "Send")
    screen.press_enter(chat, "   ")
    chat.say("over")

    screen.wait_for(chat, "over")
    assert [m.text for m in chat.client.transcript if m.role == "user"] == ["over"]


def test_suggestions_are_buttons(
    screen: Screen,
    polysync_sandbox: Sandbox,
    polysync_new_client: Callable[..., Client],
) -> None:
    """A click sends the suggestion; then it is gone."""
    polysync_sandbox.agent = lambda turn: (
        Reply("Really?", suggestions=["Yes <b>", "No"])
        if turn.text == "start"
        else f"Said: {turn.text}"
    )
    chat = screen.show(ChatWidget(polysync_new_client())).start()
    chat.say("start")

    screen.click(chat, "Yes <b>")
    screen.wait_for(chat, "Said: Yes")
    screen.wait_until(lambda: list(screen.buttons(chat)) == ["Send"])


def test_handler_never_waits(
    chat: ChatWidget, screen: Screen, polysync_sandbox: Sandbox
) -> None:
    """A click returns at once, even if the server does not answer at all."""
    polysync_sandbox.faults.half_open()
    start = time.monotonic()
    for _ in range(20):
        screen.field(chat).value = "hello?"
        screen.click(chat, "Send")

    assert time.monotonic() - start < 5.0
    screen.wait_for(chat, "sending")


def test_reply_streams(
    screen: Screen,
    polysync_sandbox: Sandbox,
    polysync_new_client: Callable[..., Client],
) -> None:
    """A part of a reply is shown before the rest has come."""
    go_on = threading.Event()

    def agent(turn: Any) -> Iterator[str]:
        yield "The first half, "
        assert go_on.wait(TIMEOUT)
        yield "and the second."

    polysync_sandbox.agent = agent
    chat = screen.show(ChatWidget(polysync_new_client())).start()
    chat.say("Go")

    screen.wait_for(chat, "The first half", "incomplete")
    go_on.set()
    screen.wait_for(chat, "and the second.")
    screen.wait_until(lambda: "incomplete" not in screen.text(chat))


def test_handoff_is_told(
    screen: Screen,
    polysync_sandbox: Sandbox,
    polysync_new_client: Callable[..., Client],
) -> None:
    """The steps of a handoff and who is there are shown."""
    polysync_sandbox.agent = lambda turn: [
        Reply("One moment."),
        Handoff(agent_name="Sam", queue=(2, 1)),
    ]
    chat = screen.show(ChatWidget(polysync_new_client())).start()
    chat.say("A human, please")

    screen.wait_for(chat, "<strong>Sam</strong> · online", "this is Sam")


def test_typing_is_shown(
    chat: ChatWidget, screen: Screen, polysync_sandbox: Sandbox
) -> None:
    """While the agent prepares a message, a notice says so."""
    polysync_sandbox.session.push("POLY_AGENT_THINKING")
    screen.wait_for(chat, "typing …")
    polysync_sandbox.session.say("Well.")
    screen.wait_for(chat, "Well.")
    screen.wait_until(lambda: "typing" not in screen.text(chat))


def test_what_the_agent_writes_does_nothing(
    chat: ChatWidget, screen: Screen, polysync_sandbox: Sandbox
) -> None:
    """Scripts of the agent and of the user are shown as text or not at all."""
    attack = "<img src=x onerror=alert(1)><script>alert(1)</script>Done"
    chat.say(attack)
    screen.wait_for(chat, "Done", ">Echo")

    assert not [v for name, v in screen.values if "<img" in str(v)]
    assert not [v for name, v in screen.values if "<script" in str(v)]


def test_one_thread_paints(chat: ChatWidget, screen: Screen) -> None:
    """All that the browser is sent comes from the widget's own thread."""
    chat.say("one")
    chat.client.ask("two")
    screen.wait_for(chat, "one", "two")

    (name,) = screen.threads
    assert name.startswith("polysync-chat-widget-")


# Trouble and ends.


def test_error_is_shown(
    screen: Screen, polysync_new_client: Callable[..., Client]
) -> None:
    """A refused token is told in words, and may be tried again; it is not shown."""
    client = polysync_new_client(connector_token="wrong-token<b>")
    chat = screen.show(ChatWidget(client)).start()

    text = screen.wait_for(chat, 'role="alert"')
    assert "wrong-token" not in text
    assert "Start" in screen.buttons(chat)


def test_end_is_shown_and_another_begins(
    chat: ChatWidget, screen: Screen, polysync_sandbox: Sandbox
) -> None:
    """After the end nothing can be typed, and a button begins another conversation."""
    chat.say("the first conversation")
    screen.wait_for(chat, "the first conversation", ">Echo")
    polysync_sandbox.session.end()
    screen.wait_for(chat, "The conversation is over.", "ended")
    screen.wait_until(lambda: screen.field(chat).disabled)

    screen.click(chat, "Start again")
    screen.wait_for(chat, "online", "How can I help")
    screen.wait_until(lambda: not screen.field(chat).disabled)
    assert "the first conversation" not in screen.text(chat)


def test_lost_connection_is_shown(
    chat: ChatWidget, screen: Screen, polysync_sandbox: Sandbox
) -> None:
    """A drop and the way back are seen in the heading."""
    with polysync_sandbox.outage():
        screen.wait_for(chat, "reconnecting …")


# Many, and closing.


def test_several_at_once(screen: Screen, polysync_environment: dict[str, str]) -> None:
    """Chats do not get in each other's way."""
    chats = [screen.show(ChatWidget()).start() for _ in range(4)]
    for number, chat in enumerate(chats):
        chat.say(f"I am number {number}")
    for number, chat in enumerate(chats):
        text = screen.wait_for(chat, f"I am number {number}")
        assert f"I am number {(number + 1) % 4}" not in text


def test_own_conversation_is_ended(
    screen: Screen, polysync_environment: dict[str, str], polysync_sandbox: Sandbox
) -> None:
    """Closing a chat that made its client ends the conversation on the server."""
    chat = screen.show(ChatWidget()).start()
    screen.wait_for(chat, "book a table")
    session = polysync_sandbox.session
    chat.close()
    chat.close()

    polysync_sandbox.wait_until(lambda: session.ended)
    chat.say("too late")  # does nothing


def test_foreign_client_is_left_open(screen: Screen, polysync_client: Client) -> None:
    """Closing a chat leaves a client that it was given as it was."""
    chat = screen.show(ChatWidget(polysync_client)).start()
    chat.close()

    assert polysync_client.ask("Still there?").text


def test_closing_does_not_wait_for_connect(
    screen: Screen, polysync_environment: dict[str, str], polysync_sandbox: Sandbox
) -> None:
    """A chat that hangs on connecting is closed at once, its threads with it."""
    from polysync.sandbox import Moment

    stalled = polysync_sandbox.faults.stall(Moment.SESSION)
    chat = screen.show(ChatWidget()).start()
    polysync_sandbox.wait_until(lambda: stalled.fired)
    start = time.monotonic()
    chat.close()

    chat._thread.join(TIMEOUT)
    assert not chat._thread.is_alive()
    assert time.monotonic() - start < 10.0


def run_cell(monkeypatch: pytest.MonkeyPatch, cell: str | None, run: str) -> None:
    monkeypatch.setattr(cells, "_here", lambda: (cell, run))


def test_cell_run_again_closes_its_chats(
    screen: Screen,
    polysync_new_client: Callable[..., Client],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All chats of a cell's former run are closed, those of other cells are not."""
    run_cell(monkeypatch, "a", "1")
    first = [screen.show(ChatWidget(polysync_new_client())) for _ in range(2)]
    run_cell(monkeypatch, "b", "2")
    other = screen.show(ChatWidget(polysync_new_client()))
    run_cell(monkeypatch, "a", "3")
    again = [screen.show(ChatWidget(polysync_new_client())) for _ in range(2)]

    assert [chat.comm is None for chat in first] == [True, True]
    assert other.comm is not None
    assert [chat.comm is None for chat in again] == [False, False]


def test_name_is_taken_over(
    screen: Screen,
    polysync_new_client: Callable[..., Client],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A chat takes the place of the one of its name, in whichever cell."""
    run_cell(monkeypatch, None, "1")
    first = screen.show(ChatWidget(polysync_new_client(), name="desk"))
    other = screen.show(ChatWidget(polysync_new_client(), name="bar"))
    second = screen.show(ChatWidget(polysync_new_client(), name="desk"))

    assert [chat.comm is None for chat in (first, other, second)] == [
        True,
        False,
        False,
    ]


def test_client_and_options_exclude_each_other(
    polysync_new_client: Callable[..., Client],
) -> None:
    """Options would be ignored beside a client, so they are refused."""
    with pytest.raises(ConfigurationError, match="streaming"):
        ChatWidget(polysync_new_client(), streaming=False)
    with pytest.raises(ConfigurationError):
        ChatWidget(environment="http://example.com")


def test_repr_names_the_client(
    screen: Screen, polysync_new_client: Callable[..., Client]
) -> None:
    """Where no widgets are shown, the plain text says what it is."""
    chat = screen.show(ChatWidget(polysync_new_client()))
    assert repr(chat).startswith("<ChatWidget of <polysync.Client http://127")
