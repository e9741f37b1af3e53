"""Tests of `polysync.protocol.streams`."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from polysync.events import PolyAgentMessage, PolyAgentMessageChunk
from polysync.models import Agent, Attachment, ResponseSuggestion
from polysync.protocol.streams import ABANDONED_AFTER, FINISHED, Streams


def chunk(
    index: int | None,
    text: str = "",
    *,
    of: str | None = "m",
    last: bool = False,
    sequence: int | None = None,
) -> PolyAgentMessageChunk:
    return PolyAgentMessageChunk(
        id=f"chunk-{of}-{index}",
        sequence=sequence,
        message_id=of,
        chunk_index=index,
        text=text,
        is_complete=last,
    )


class Listener:
    """Adds chunks and keeps what comes out."""

    def __init__(self) -> None:
        self.streams = Streams()
        self.chunks: list[PolyAgentMessageChunk] = []
        self.messages: list[PolyAgentMessage] = []

    def add(self, *chunks: PolyAgentMessageChunk, now: float = 0.0) -> None:
        for part in chunks:
            due, whole = self.streams.add(part, now)
            self.chunks += due
            if whole is not None:
                self.messages.append(whole)

    def take(
        self, given_up: list[tuple[list[PolyAgentMessageChunk], PolyAgentMessage]]
    ) -> None:
        for due, partial in given_up:
            self.chunks += due
            self.messages.append(partial)

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.messages]

    @property
    def complete(self) -> list[bool]:
        return [message.complete for message in self.messages]


# In order


def test_chunks_are_joined_as_they_are():
    """The text is concatenated: a chunk carries its own spaces."""
    listener = Listener()
    listener.add(chunk(1, "Good "), chunk(2, "mor"), chunk(3, "ning.", last=True))
    assert listener.texts == ["Good morning."]
    assert listener.complete == [True]
    assert [c.text for c in listener.chunks] == ["Good ", "mor", "ning."]


def test_a_message_of_one_chunk_is_whole_at_once():
    listener = Listener()
    listener.add(chunk(1, "Yes.", last=True))
    assert listener.texts == ["Yes."]


def test_the_last_chunk_may_be_empty():
    listener = Listener()
    listener.add(chunk(1, "Yes."), chunk(2, "", last=True))
    assert listener.texts == ["Yes."]


def test_the_whole_has_the_place_of_the_last_chunk_and_the_name_of_the_message():
    listener = Listener()
    listener.add(chunk(1, "a", sequence=7), chunk(2, "b", last=True, sequence=9))
    (whole,) = listener.messages
    assert (whole.id, whole.message_id, whole.sequence) == ("m", "m", 9)
    assert whole.assembled


def test_the_whole_has_all_attachments_and_suggestions_and_the_agents_name():
    listener = Listener()
    listener.streams.agent = Agent(name="Ada", avatar_url="https://a.example/a.png")
    cards = [Attachment(title=t) for t in "ab"]
    picks = [ResponseSuggestion(message_text=t) for t in "cd"]
    for index in (1, 2):
        listener.add(
            PolyAgentMessageChunk(
                message_id="m",
                chunk_index=index,
                attachments=(cards[index - 1],),
                response_suggestions=(picks[index - 1],),
                is_complete=index == 2,
            )
        )
    (whole,) = listener.messages
    assert whole.attachments == tuple(cards)
    assert whole.response_suggestions == tuple(picks)
    assert (whole.agent_name, whole.avatar_url) == ("Ada", "https://a.example/a.png")


# Out of order, twice, interleaved


def test_the_last_chunk_may_come_first():
    listener = Listener()
    listener.add(chunk(3, "c", last=True), chunk(1, "a"))
    assert [c.text for c in listener.chunks] == ["a"]
    listener.add(chunk(2, "b"))
    assert [c.text for c in listener.chunks] == ["a", "b", "c"]
    assert listener.texts == ["abc"]


def test_a_chunk_that_comes_again_counts_once():
    listener = Listener()
    listener.add(chunk(1, "a"), chunk(1, "a"), chunk(3, "c", last=True))
    listener.add(chunk(3, "c", last=True), chunk(2, "b"), chunk(2, "b"))
    assert listener.texts == ["abc"]
    assert [c.text for c in listener.chunks] == ["a", "b", "c"]


def test_chunks_that_come_after_their_message_is_whole_are_late_copies():
    listener = Listener()
    listener.add(chunk(1, "a", last=True), chunk(1, "a", last=True), chunk(2, "b"))
    assert listener.texts == ["a"]
    assert len(listener.chunks) == 1


def test_two_messages_may_interleave():
    listener = Listener()
    listener.add(chunk(1, "a", of="x"), chunk(1, "c", of="y"))
    listener.add(chunk(2, "b", of="x", last=True), chunk(2, "d", of="y", last=True))
    assert listener.texts == ["ab", "cd"]
    assert listener.complete == [True, True]


def test_chunks_without_an_index_are_taken_as_they_come():
    listener = Listener()
    listener.add(chunk(None, "a"), chunk(None, "b"), chunk(None, "c", last=True))
    assert listener.texts == ["abc"]


def test_a_chunk_without_an_index_goes_where_one_is_missing():
    listener = Listener()
    listener.add(chunk(2, "b"), chunk(None, "a"), chunk(None, "c", last=True))
    assert listener.texts == ["abc"]


def test_a_chunk_with_an_impossible_index_is_taken_as_it_comes():
    listener = Listener()
    listener.add(chunk(0, "a", last=True), chunk(-5, "b", of="y", last=True))
    assert listener.texts == ["a", "b"]


def test_a_chunk_beyond_the_last_is_no_part_of_the_message():
    listener = Listener()
    listener.add(chunk(5, "e"), chunk(2, "b", last=True), chunk(1, "a"))
    assert listener.texts == ["ab"]


def test_chunks_without_a_message_id_are_one_message_after_the_other():
    listener = Listener()
    listener.add(chunk(1, "a", of=None), chunk(2, "b", of=None, last=True))
    listener.add(chunk(1, "c", of=None, last=True))
    assert listener.texts == ["ab", "c"]
    assert [m.id for m in listener.messages] == ["chunk-None-2", "chunk-None-1"]
    assert listener.messages[0].message_id is None


# Superseded


def test_a_whole_message_replaces_its_chunks():
    listener = Listener()
    listener.add(chunk(1, "a"))
    assert listener.streams.supersede("m")
    listener.add(chunk(2, "b", last=True))
    assert listener.messages == []
    assert listener.streams.finish() == []


def test_the_same_message_again_is_none():
    listener = Listener()
    listener.add(chunk(1, "a", last=True))
    assert not listener.streams.supersede("m")
    assert listener.streams.supersede("other")
    assert not listener.streams.supersede("other")


def test_a_message_without_an_id_is_always_another_one():
    streams = Streams()
    assert streams.supersede(None)
    assert streams.supersede(None)


# Abandoned


def test_a_message_that_goes_on_alone_is_never_abandoned():
    listener = Listener()
    listener.add(chunk(1, "a"))
    assert listener.streams.deadline is None
    assert listener.streams.due(1e9) == []


def test_one_that_stops_while_another_goes_on_is_given_up_as_incomplete():
    listener = Listener()
    listener.add(chunk(1, "a", of="x"))
    listener.add(chunk(1, "b", of="y"), now=10.0)
    assert listener.streams.deadline == 10.0 + ABANDONED_AFTER
    assert listener.streams.due(14.9) == []
    listener.take(listener.streams.due(15.0))
    assert listener.texts == ["a"]
    assert listener.complete == [False]
    assert listener.streams.deadline is None


def test_what_was_held_back_of_it_is_delivered_too():
    listener = Listener()
    listener.add(chunk(1, "a", of="x"), chunk(4, "d", of="x"), chunk(3, "c", of="x"))
    listener.add(chunk(1, "b", of="y"))
    listener.take(listener.streams.due(ABANDONED_AFTER))
    assert listener.texts == ["acd"]
    assert [c.text for c in listener.chunks] == ["a", "b", "c", "d"]


def test_one_that_goes_on_after_a_pause_is_not_abandoned():
    listener = Listener()
    listener.add(chunk(1, "a", of="x"), chunk(1, "b", of="y"))
    listener.add(chunk(2, "a", of="x"), now=4.0)
    assert listener.streams.deadline == 4.0 + ABANDONED_AFTER  # and that is y
    listener.add(chunk(2, "b", of="y"), now=6.0)
    assert listener.streams.deadline == 6.0 + ABANDONED_AFTER


def test_one_that_goes_on_when_the_other_is_whole_is_not_abandoned():
    listener = Listener()
    listener.add(chunk(1, "a", of="x"), chunk(1, "b", of="y", last=True))
    listener.add(chunk(2, "a", of="x"), now=4.0)
    assert listener.streams.deadline is None
    listener.add(chunk(3, "a", of="x", last=True), now=8.0)
    assert listener.texts == ["b", "aaa"]


def test_chunks_that_come_after_it_was_given_up_are_not_delivered():
    listener = Listener()
    listener.add(chunk(1, "a", of="x"), chunk(1, "b", of="y"))
    listener.take(listener.streams.due(ABANDONED_AFTER))
    listener.add(chunk(2, "a", of="x", last=True))
    assert listener.texts == ["a"]


def test_a_whole_message_still_replaces_one_that_was_given_up():
    listener = Listener()
    listener.add(chunk(1, "a"))
    listener.take(listener.streams.finish())
    assert listener.streams.supersede("m")
    assert not listener.streams.supersede("m")


def test_silence_while_there_is_no_connection_is_not_the_agents():
    listener = Listener()
    listener.add(chunk(1, "a", of="x"), chunk(1, "b", of="y"))
    listener.streams.lost()
    assert listener.streams.deadline is None
    assert listener.streams.due(1e9) == []


def test_the_end_delivers_all_there_is():
    listener = Listener()
    listener.add(chunk(1, "a", of="x"), chunk(2, "b", of="y"))
    listener.take(listener.streams.finish())
    assert listener.texts == ["a", "b"]
    assert listener.complete == [False, False]
    assert listener.streams.finish() == []


# What an heir needs


def test_the_earliest_chunk_of_what_is_not_whole_is_known():
    listener = Listener()
    assert listener.streams.earliest is None
    listener.add(chunk(1, "a", sequence=5), chunk(1, "b", of="y", sequence=7))
    listener.add(chunk(3, "c", of="y", sequence=6), chunk(2, "a", last=True))
    assert listener.streams.earliest == 6


def test_memory_of_finished_messages_is_bounded():
    listener = Listener()
    for number in range(3 * FINISHED):
        listener.add(chunk(1, "a", of=str(number), last=True))
    assert len(listener.streams._finished) == FINISHED
    assert listener.streams._streams == {}


# Whatever the order

LENGTHS = st.lists(st.integers(1, 8), min_size=1, max_size=4)


@given(
    lengths=LENGTHS, seed=st.randoms(use_true_random=False), copies=st.integers(1, 3)
)
def test_however_chunks_are_permuted_doubled_and_mixed_each_message_comes_once(
    lengths: list[int], seed: random.Random, copies: int
):
    chunks = [
        chunk(index, f"{number}.{index} ", of=str(number), last=index == length)
        for number, length in enumerate(lengths)
        for index in range(1, length + 1)
    ] * copies
    seed.shuffle(chunks)
    listener = Listener()
    listener.add(*chunks)
    whole = {
        str(number): "".join(f"{number}.{i} " for i in range(1, length + 1))
        for number, length in enumerate(lengths)
    }
    assert {m.message_id: m.text for m in listener.messages} == whole
    assert len(listener.messages) == len(lengths)
    assert all(listener.complete)
    # And the chunks by themselves make the same text, in order.
    for name, text in whole.items():
        assert "".join(c.text for c in listener.chunks if c.message_id == name) == text


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("x", "y", "", None)),
            st.none() | st.integers(-2, 6),
            st.booleans(),
            st.floats(0, 7),
            st.sampled_from(("chunk", "whole", "due", "lost")),
        )
    )
)
def test_no_order_of_odd_chunks_raises_or_tells_a_message_twice(
    steps: list[tuple[str | None, int | None, bool, float, str]],
):
    listener, now = Listener(), 0.0
    for of, index, last, wait, what in steps:
        now += wait
        if what == "chunk":
            listener.add(chunk(index, "t", of=of, last=last), now=now)
        elif what == "whole":
            listener.streams.supersede(of)
        elif what == "due":
            listener.take(listener.streams.due(now))
            deadline = listener.streams.deadline
            assert deadline is None or deadline > now
        else:
            listener.streams.lost()
    listener.take(listener.streams.finish())
    named = [m.message_id for m in listener.messages if m.message_id is not None]
    assert len(named) == len(set(named))
    assert listener.streams.earliest is None
    assert listener.streams.deadline is None


def test_who_counts_from_zero_loses_nothing():
    listener = Listener()
    listener.add(chunk(0, "A "), chunk(2, "it."), chunk(1, "table, "))
    listener.add(chunk(3, "", last=True))
    assert [part.text for part in listener.chunks] == ["A ", "table, ", "it.", ""]
    assert [(m.text, m.complete) for m in listener.messages] == [("A table, it.", True)]


def test_a_zero_in_the_middle_says_as_little_as_no_index():
    listener = Listener()
    listener.add(chunk(1, "A "), chunk(0, "table."), chunk(3, "", last=True))
    assert [message.text for message in listener.messages] == ["A table."]
