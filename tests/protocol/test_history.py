"""Tests of `polysync.protocol.history`."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from polysync.events import (
    Event,
    Heartbeat,
    LanguageChanged,
    LiveAgentMessage,
    PolyAgentJoined,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    PolyAgentThinking,
    SystemMessage,
    UserMessage,
)
from polysync.models import Agent, Attachment, SystemMessageLevel
from polysync.protocol.history import History, transcript
from polysync.protocol.tickets import Delivery


def message(sequence: int, text: str = "") -> PolyAgentMessage:
    return PolyAgentMessage(
        sequence=sequence, text=text or str(sequence), message_id=f"m{sequence}"
    )


def chunk(
    sequence: int, message_id: str, index: int, *, last: bool = False
) -> PolyAgentMessageChunk:
    return PolyAgentMessageChunk(
        sequence=sequence,
        message_id=message_id,
        chunk_index=index,
        text=f"{message_id}.{index} ",
        is_complete=last,
    )


def filled(sequences: Iterable[int], limit: int | None = None) -> History:
    history = History(limit)
    for sequence in sequences:
        history.add(message(sequence))
    return history


def kept(history: History) -> list[int | None]:
    return [event.sequence for event in history.events()]


# Keeping


def test_what_is_permanent_is_kept_in_order():
    assert kept(filled([1, 2, 4, 8])) == [1, 2, 4, 8]


def test_what_is_late_finds_its_place():
    assert kept(filled([1, 4, 3, 2, 5])) == [1, 2, 3, 4, 5]


def test_what_is_passing_is_not_kept():
    history = History()
    history.add(Heartbeat())
    assert history.events() == ()


def test_a_limit_keeps_the_latest():
    history = filled(range(1, 1001), limit=10)
    assert kept(history) == list(range(991, 1001))


def test_a_limit_of_0_keeps_nothing():
    assert kept(filled(range(100), limit=0)) == []


@given(st.lists(st.integers(0, 10**12), unique=True), st.none() | st.integers(0, 30))
def test_the_order_of_arrival_makes_no_difference_without_a_limit(
    sequences: list[int], limit: int | None
):
    assert kept(filled(sequences)) == sorted(sequences)
    history = filled(sorted(sequences), limit)
    expected = sorted(sequences)
    assert kept(history) == (expected[-limit:] if limit else expected[: limit and 0])


@given(st.integers(0, 50), st.integers(0, 500))
def test_a_limited_history_takes_bounded_memory(limit: int, number: int):
    history = filled(range(number), limit)
    assert len(history._events) <= limit + limit // 4 + 16


# The transcript


def told(*events: Event) -> list[str]:
    return [f"{i.role}: {i.text}" for i in transcript(events, (), None)]


def test_it_has_who_said_what():
    assert told(
        PolyAgentJoined(sequence=1, agent_name="Ada"),
        PolyAgentThinking(sequence=2),
        message(3, "Hi!"),
        UserMessage(sequence=4, text="Hello"),
        LanguageChanged(sequence=5, language_code="en"),
        LiveAgentMessage(sequence=6, text="Bob here"),
        SystemMessage(sequence=7, message="Busy"),
    ) == ["agent: Hi!", "user: Hello", "live_agent: Bob here", "system: Busy"]


def test_it_repeats_all_that_belongs_to_a_message():
    card = Attachment(title="Menu")
    item = transcript(
        [LiveAgentMessage(text="x", agent_name="Bob", attachments=(card,))], (), None
    )[0]
    assert item.agent_name == "Bob"
    assert item.attachments == (card,)
    system = SystemMessage(message="x", level=SystemMessageLevel.ERROR)
    assert transcript([system], (), None)[0].level is SystemMessageLevel.ERROR


def test_chunks_are_one_message_where_the_last_of_them_is():
    assert told(
        chunk(1, "a", 1),
        UserMessage(sequence=2, text="Hello"),
        chunk(3, "a", 2, last=True),
    ) == ["user: Hello", "agent: a.1 a.2 "]


def test_a_message_that_is_not_whole_stands_where_it_broke_off():
    items = transcript(
        [chunk(1, "a", 1), chunk(2, "a", 2), message(3, "Sorry")], (), None
    )
    assert [(item.text, item.complete) for item in items] == [
        ("a.1 a.2 ", False),
        ("Sorry", True),
    ]


def test_a_message_whose_beginning_was_cut_off_stays_in_its_place():
    assert told(chunk(7, "a", 6), message(8, "And now?")) == [
        "agent: a.6 ",
        "agent: And now?",
    ]


def test_a_whole_message_replaces_its_chunks():
    whole = PolyAgentMessage(sequence=2, message_id="a", text="all of it")
    assert told(chunk(1, "a", 1), whole) == ["agent: all of it"]


def test_the_same_message_twice_is_one():
    twice = [
        PolyAgentMessage(id=str(n), sequence=n, message_id="a", text="x")
        for n in (1, 2)
    ]
    assert told(*twice) == ["agent: x"]


def test_a_streamed_message_has_the_name_of_who_joined():
    events = [PolyAgentJoined(agent_name="Ada"), chunk(2, "a", 1, last=True)]
    assert transcript(events, (), None)[0].agent_name == "Ada"
    known = transcript(events[1:], (), Agent(name="Bob"))
    assert known[0].agent_name == "Bob"


def test_what_has_not_arrived_comes_last_and_says_so():
    def delivery(text: str) -> Delivery:
        return Delivery(id=text, text=text, metadata={}, frame="")

    given_up, pending = delivery("given up"), delivery("pending")
    given_up.done = True
    items = transcript([UserMessage(text="sent")], [given_up, pending], None)
    assert [(item.text, item.delivery) for item in items] == [
        ("sent", "sent"),
        ("given up", "failed"),
        ("pending", "pending"),
    ]
