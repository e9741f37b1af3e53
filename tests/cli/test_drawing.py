"""How the parts of a chat look."""

from __future__ import annotations

import io
from datetime import datetime, timezone

import pytest
from rich.console import Console, RenderableType

from polysync import events
from polysync.cli.drawing import (
    USER,
    draw_item,
    draw_message,
    draw_notice,
    draw_said,
)
from polysync.cli.notices import Notice
from polysync.models import (
    Attachment,
    ChatCallAction,
    ResponseSuggestion,
    TranscriptItem,
)


def drawn(what: RenderableType, width: int = 60, color: bool = False) -> str:
    """Return what a terminal of this width shows, line by line."""
    file = io.StringIO()
    console = Console(
        file=file, width=width, force_terminal=color, highlight=False, emoji=False
    )
    console.print(what)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def test_text_stands_beside_the_name() -> None:
    """Further lines begin where the first does."""
    shown = drawn(draw_said("You", USER, "one two three four"), width=16)
    assert shown == "You › one two\n      three four"


def test_long_name_leaves_room_for_the_text() -> None:
    """A name of any length is cut."""
    shown = drawn(draw_said("N" * 200, USER, "text"))
    assert shown == "N" * 23 + "… › text"


def test_text_is_no_markup() -> None:
    """What rich would take for markup, an emoji or a link is shown as it is."""
    text = "[red]a[/red] :smile: [link=https://x]y[/link] \x1b[31mz"
    shown = drawn(draw_said("[b]N[/b]", USER, text), width=80, color=False)
    assert shown == "[b]N[/b] › [red]a[/red] :smile: [link=https://x]y[/link] z"


def test_simple_markdown() -> None:
    """Bold, code, headings and links are rendered; a link shows where it leads."""
    text = "# Title\n**bold** `code` [us](https://x.example) 2 * 3 * 4\n- item"
    assert drawn(draw_said("A", USER, text)) == (
        "A › Title\n    bold code us (https://x.example) 2 * 3 * 4\n    - item"
    )
    assert "\x1b[1mbold\x1b[0m" in drawn(draw_said("A", USER, text), color=True)


def test_message_with_all_that_goes_with_it() -> None:
    """Cards, numbers to call and suggestions stand below the text."""
    message = events.PolyAgentMessage(
        text="Hi",
        attachments=(
            Attachment(title="Menu", content_url="https://x.example/m"),
            Attachment(preview_image_url="https://x.example/p"),
            Attachment(),
        ),
        chat_call_actions=(ChatCallAction(title="Us", contact_number="+1"),),
        response_suggestions=(
            ResponseSuggestion("Yes, please"),
            ResponseSuggestion("\x1b[2JNo"),
        ),
        complete=False,
    )
    lines = drawn(draw_message(message, "Ann")).replace("\u00a0", " ").splitlines()
    assert [line.strip() for line in lines] == [
        "Ann › Hi",
        "▪ Menu  https://x.example/m",
        "▪ https://x.example/p",
        "☎ Us  +1",
        "1  Yes, please    2  No",
        "(the reply broke off here)",
    ]


def test_suggestions_that_are_numbers_have_none() -> None:
    """A number typed then is the answer itself."""
    message = events.PolyAgentMessage(
        text="How many?",
        response_suggestions=(ResponseSuggestion("2"), ResponseSuggestion("4")),
    )
    assert drawn(draw_message(message, "Ann")).splitlines()[1].strip() == "2 · 4"


def test_humans_look_different() -> None:
    """A live agent's name has another colour than the agent's."""
    agent = drawn(draw_message(events.PolyAgentMessage(text="x"), "N"), color=True)
    human = drawn(draw_message(events.LiveAgentMessage(text="x"), "N"), color=True)
    assert agent != human


@pytest.mark.parametrize(
    ("notice", "shown"),
    [
        (Notice("handoff", "Wait."), "⇄ Wait."),
        (Notice("system", "Noon."), "▌System  Noon."),
        (Notice("system", "Slow.", "warning"), "▌Warning  Slow."),
        (Notice("system", "No.", "error"), "▌Error  No."),
        (Notice("session", "Ann."), "· Ann."),
        (Notice("end", "Over."), "· Over."),
    ],
)
def test_notices_have_their_own_look(notice: Notice, shown: str) -> None:
    """Each kind can be told from the others, without colours too."""
    assert drawn(draw_notice(notice)) == shown


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        (TranscriptItem(role="user", text="Hi", delivery="sent"), "You › Hi"),
        (TranscriptItem(role="user", text="Hi", delivery="failed"), "(not sent)"),
        (TranscriptItem(role="user", text="Hi", delivery="pending"), "(sending)"),
        (TranscriptItem(role="agent", text="Hi"), "Agent › Hi"),
        (TranscriptItem(role="agent", agent_name="A\nB", text="Hi"), "A B › Hi"),
        (TranscriptItem(role="live_agent", text="Hi"), "Live agent › Hi"),
        (TranscriptItem(role="system", text="Hi"), "System › Hi"),
        (TranscriptItem(role="agent", text="Hi", complete=False), "broke off"),
        (
            TranscriptItem(role="agent", text="Hi", attachments=(Attachment("T"),)),
            "▪ T",
        ),
    ],
)
def test_history(item: TranscriptItem, shown: str) -> None:
    """Each message of the past says who, what and how it went."""
    assert shown in drawn(draw_item(item))


def test_history_has_times() -> None:
    """In the local time zone."""
    when = datetime(2026, 1, 1, 12, 34, tzinfo=timezone.utc)
    item = TranscriptItem(role="user", text="Hi", timestamp=when)
    assert drawn(draw_item(item)).strip() == (f"{when.astimezone():%H:%M}  You › Hi")
