"""A page that loses its stream again and again has everything once in the end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysync.events import (
    Event,
    Heartbeat,
    LanguageChanged,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    PolyAgentThinking,
    SessionEnd,
    SessionStart,
    UserMessage,
)
from polysync.integrations.web.feed import (
    Feed,
    delivered,
    last_event_id,
    snapshot,
)
from polysync.integrations.web.wire import CLIENT_ID_KEY, RETRY, conversation_tag
from polysync.models import (
    Attachment,
    Capabilities,
    ConnectionChange,
    ConnectionStatus,
    ResponseSuggestion,
    SessionEndReason,
)

SESSION = "the-session"
TAG = conversation_tag(SESSION)


class Page:
    """What a browser does with the stream, and what the widget shows of it."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.seen: set[str] = set()
        self.texts: dict[str, str] = {}
        self.chunks: dict[str, dict[int, str]] = {}
        self.shown: list[str] = []

    def read(self, blocks: bytes) -> None:
        for block in blocks.decode().split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.split("\n") if line)
            if "data" in lines:
                self.receive(json.loads(lines["data"]))
            self.last_id = lines.get("id", self.last_id)

    def receive(self, event: dict[str, Any]) -> None:
        if event["id"] is not None:
            if event["id"] in self.seen:
                return
            self.seen.add(event["id"])
        if event["type"] == "message":
            if event["message_id"] not in self.texts:
                self.shown.append(event["message_id"])
            self.texts[event["message_id"]] = event["html"]
        elif event["type"] == "user":
            self.shown.append(event["message_id"])


def chunk(
    sequence: int, message_id: str, index: int, text: str, *, last: bool = False
) -> PolyAgentMessageChunk:
    return PolyAgentMessageChunk(
        id=f"e{sequence}",
        sequence=sequence,
        message_id=message_id,
        chunk_index=index,
        text=text,
        is_complete=last,
    )


def user(sequence: int, text: str = "x") -> UserMessage:
    return UserMessage(
        id=f"e{sequence}", sequence=sequence, message_id=f"u{sequence}", text=text
    )


def message(sequence: int, message_id: str, text: str) -> PolyAgentMessage:
    return PolyAgentMessage(
        id=f"e{sequence}", sequence=sequence, message_id=message_id, text=text
    )


def pages(blocks: bytes) -> list[dict[str, Any]]:
    lines = blocks.decode().split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]


def ids(blocks: bytes) -> list[str]:
    return [x[4:] for x in blocks.decode().split("\n") if x.startswith("id: ")]


def conversation(turns: list[int]) -> list[Event]:
    """Make events: 0 is the user, any other number the next piece of that reply.

    The pieces of odd replies come in order, those of even ones the other way round.
    """
    events: list[Event] = []
    for at, turn in enumerate(turns):
        if not turn:
            events.append(user(at + 1))
            continue
        size = turns.count(turn)
        index = turns[:at].count(turn) + 1 if turn % 2 else turns[at:].count(turn)
        name = f"m{turn}"
        text = f"{name}.{index};"
        events.append(chunk(at + 1, name, index, text, last=index == size))
    return events


conversations = st.lists(st.integers(0, 4), max_size=14).map(conversation)
replies = st.lists(st.integers(1, 4), max_size=14).map(conversation)
# How many events come by a stream, and what becomes of the last: it is shown, or
# the stream breaks and nobody knows, or it happens while nobody listens.
streams = st.lists(
    st.tuples(st.integers(1, 5), st.sampled_from(["shown", "unsure", "missed"])),
    max_size=8,
)


@given(conversations, streams)
def test_breaks_lose_and_double_nothing(
    events: list[Event], breaks: list[tuple[int, str]]
) -> None:
    """Wherever the stream breaks, the page ends with each message once and whole."""
    check_breaks(events, breaks, whole_history=True)


@given(replies, streams)
def test_what_came_after_the_cursor_is_enough(
    events: list[Event], breaks: list[tuple[int, str]]
) -> None:
    """A server that has only what came after the page's id can still go on."""
    check_breaks(events, breaks, whole_history=False)


def check_breaks(
    events: list[Event], breaks: list[tuple[int, str]], *, whole_history: bool
) -> None:
    page = Page()
    at = 0
    for count, fate in breaks:
        feed = Feed(SESSION, page.last_id)
        page.read(feed.open())
        assert feed.known
        known = 0 if whole_history else int((page.last_id or "-0").rpartition("-")[2])
        for event in events[known : at + count - 1]:
            page.read(feed.send(event))
        at += count
        for event in events[at - 1 : at]:
            blocks = feed.send(event)
            if fate == "unsure":
                blocks = blocks[: blocks.rfind(b"id: ")] if b"id: " in blocks else b""
            if fate != "missed":
                page.read(blocks)
    feed = Feed(SESSION, page.last_id)
    known = 0 if whole_history else int((page.last_id or "-0").rpartition("-")[2])
    for event in events[known:]:
        page.read(feed.send(event))

    expected: dict[str, str] = {}
    for event in events:
        if isinstance(event, PolyAgentMessageChunk):
            expected[event.message_id or ""] = ""
    for name in expected:
        parts = sorted(
            (e.chunk_index or 0, e.text)
            for e in events
            if isinstance(e, PolyAgentMessageChunk) and e.message_id == name
        )
        expected[name] = f"<p>{''.join(text for _, text in parts)}</p>"
    assert page.texts == expected
    users = [e.message_id for e in events if isinstance(e, UserMessage)]
    assert sorted(page.shown) == sorted([*expected, *map(str, users)])


@given(conversations)
def test_a_snapshot_and_its_cursor_fit_together(events: list[Event]) -> None:
    """What the snapshot shows is not sent again, and the rest is."""
    for cut in range(len(events) + 1):
        start = snapshot(SESSION, events[:cut])
        page = Page()
        for event in start["events"]:
            page.receive(event)
        feed = Feed(SESSION, start["cursor"])
        for event in events:
            page.read(feed.send(event))
        whole = Page()
        for event in snapshot(SESSION, events)["events"]:
            whole.receive(event)
        assert page.texts == whole.texts
        assert sorted(page.shown) == sorted(whole.shown)


def test_the_pieces_of_a_reply_do_not_move_the_id() -> None:
    """Only the whole reply does; a page that missed it gets all pieces again."""
    feed = Feed(SESSION, None)
    assert ids(feed.send(user(1))) == [f"{TAG}-1"]
    assert ids(feed.send(chunk(2, "m", 1, "a"))) == []
    assert ids(feed.send(user(3))) == []
    blocks = feed.send(chunk(4, "m", 2, "b", last=True))
    assert [page["type"] for page in pages(blocks)] == ["chunk", "message"]
    assert ids(blocks) == [f"{TAG}-4"]
    assert blocks.rindex(b"id: ") > blocks.index(b"chunk")


def test_a_reply_that_the_client_has_put_together_comes_once() -> None:
    """The client's own assembled message adds nothing to the feed's."""
    feed = Feed(SESSION)
    feed.send(chunk(1, "m", 1, "a", last=True))
    assembled = PolyAgentMessage(
        id="m", sequence=1, message_id="m", text="a", assembled=True
    )
    assert feed.send(assembled) == b""


def test_a_whole_message_takes_the_place_of_its_pieces() -> None:
    """In a snapshot the pieces are left out."""
    events = [chunk(1, "m", 1, "a"), message(2, "m", "a b"), chunk(3, "m", 2, " b")]
    start = snapshot(SESSION, events)
    assert [page["type"] for page in start["events"]] == ["message"]
    assert start["cursor"] == f"{TAG}-3"


def test_an_abandoned_reply_holds_nothing_up() -> None:
    """Once the talk has gone on, the part that came is shown as one, incomplete."""
    events: list[Event] = [
        chunk(1, "m", 1, "half"),
        user(2),
        message(3, "n", "Where were we?"),
    ]
    start = snapshot(SESSION, events)
    assert start["cursor"] == f"{TAG}-3"
    broken = [page for page in start["events"] if page.get("message_id") == "m"]
    assert [(page["type"], page["complete"]) for page in broken] == [("message", False)]
    feed = Feed(SESSION, start["cursor"])
    for event in events:
        assert feed.send(event) == b""
    late = feed.send(chunk(4, "m", 2, " and half", last=True))
    assert pages(late)[-1]["html"] == "<p>half and half</p>"
    assert pages(late)[-1]["complete"] is True


def test_the_end_cuts_off_what_was_coming() -> None:
    """The page hears of the part before it hears of the end."""
    feed = Feed(SESSION)
    feed.send(chunk(1, "m", 1, "half"))
    blocks = feed.send(SessionEnd(id="e2", sequence=2))
    assert [page["type"] for page in pages(blocks)] == ["message", "end"]
    assert ids(blocks) == [f"{TAG}-2"]


def test_cards_and_suggestions_of_all_pieces_are_kept() -> None:
    """They are appended in the order of the pieces, not of their arrival."""
    first = PolyAgentMessageChunk(
        sequence=2,
        message_id="m",
        chunk_index=1,
        attachments=(Attachment(title="A"),),
        response_suggestions=(ResponseSuggestion(message_text="1"),),
    )
    last = PolyAgentMessageChunk(
        sequence=1,
        message_id="m",
        chunk_index=2,
        is_complete=True,
        attachments=(Attachment(title="B"),),
        response_suggestions=(ResponseSuggestion(message_text="2"),),
    )
    feed = Feed(SESSION)
    feed.send(last)
    page = pages(feed.send(first))[-1]
    assert page["suggestions"] == ["1", "2"]
    assert [each["title"] for each in page["attachments"]] == ["A", "B"]


def test_passing_events_go_through_without_an_id() -> None:
    """Typing and the state of the connection are for whoever is there."""
    feed = Feed(SESSION, f"{TAG}-7")
    assert feed.open() == RETRY
    for event in (PolyAgentThinking(), ConnectionChange(ConnectionStatus.OPEN)):
        blocks = feed.send(event)
        assert len(pages(blocks)) == 1
        assert ids(blocks) == []
    assert feed.send(Heartbeat()) == b""
    assert feed.cursor == f"{TAG}-7"


@pytest.mark.parametrize(
    "stale",
    [
        *["", "7", f"{TAG}-", f"{TAG}-x", f"{TAG}-" + "9" * 99],
        f"{conversation_tag('other')}-7",
    ],
)
def test_an_id_of_something_else_is_answered_with_a_reset(stale: str) -> None:
    """A page that shows an old conversation is told to start again."""
    feed = Feed(SESSION, stale)
    assert not feed.known
    assert [page["type"] for page in pages(feed.open())] == ["reset"]


def test_a_snapshot_tells_what_the_conversation_is() -> None:
    """Language, capabilities and end; nothing secret."""
    history: list[Event] = [
        SessionStart(
            sequence=1,
            capabilities=Capabilities(streaming=True, max_message_size_bytes=9),
        ),
        LanguageChanged(sequence=2, language_code="de"),
        LanguageChanged(sequence=3, language_code="he"),
        SessionEnd(sequence=4, reason=SessionEndReason.NATURAL_END),
    ]
    start = snapshot(SESSION, history)
    assert SESSION not in json.dumps(start)
    assert start["language"] == "he"
    assert start["ended"] is True
    assert start["end_reason"] == "natural_end"
    assert start["capabilities"] == {"streaming": True, "max_message_size_bytes": 9}
    assert snapshot(SESSION, [])["cursor"] == f"{TAG}-0"
    assert snapshot(SESSION, [])["ended"] is False
    ending = PolyAgentMessage(sequence=1, message_id="m", end_conversation=True)
    assert snapshot(SESSION, [ending])["ended"] is True


def test_a_snapshot_tells_of_typing_only_at_its_end() -> None:
    """An agent that thought before it answered thinks no more."""

    def types(*history: Event) -> list[str]:
        return [page["type"] for page in snapshot(SESSION, history)["events"]]

    thinking = PolyAgentThinking(id="e1", sequence=1)
    assert types(thinking) == ["typing"]
    assert types(thinking, user(2)) == ["user"]


def test_a_message_posted_twice_is_found() -> None:
    """By the page's own id, in the history."""
    echo = UserMessage(text="x", metadata={CLIENT_ID_KEY: "c"})
    history = [user(1), echo]
    assert delivered(history, "c") is echo
    assert delivered(history, "d") is None
    assert delivered(history, None) is None


def test_the_header_counts_more_than_the_address() -> None:
    """A browser repeats the address of its first request each time."""
    header, query = {"Last-Event-ID": "t-9"}, {"after": "t-3"}
    assert last_event_id(header, query) == "t-9"
    assert last_event_id({}, query) == "t-3"
    assert last_event_id({}, {}) is None
