"""Tests of `polysync.protocol.inbound`."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from polysync.events import (
    Event,
    Heartbeat,
    LanguageChanged,
    SessionStart,
    UnknownEvent,
)
from polysync.protocol import inbound as rules
from polysync.protocol.inbound import (
    BEGINNING_WAIT,
    GAP_WAIT,
    HASTY_WAIT,
    SETTLE_LIMIT,
    SETTLE_WAITS,
    WINDOW,
    Inbound,
)


def event(sequence: int | None, id: str | None = "") -> Event:
    """An event; by default its id is its sequence."""
    key = f"id-{sequence}" if id == "" else id
    return LanguageChanged(id=key, sequence=sequence)


def start(sequence: int | None = 1) -> Event:
    return SessionStart(id=f"id-{sequence}", sequence=sequence)


class Listener:
    """Takes frames in and keeps what is delivered."""

    def __init__(self, inbound: Inbound) -> None:
        self.inbound = inbound
        self.events: list[Event] = []

    def one(self, *events: Event, now: float = 0.0) -> None:
        for single in events:
            self.events += self.inbound.accept([single], False, now)

    def batch(self, *events: Event, now: float = 0.0) -> None:
        # The codec hands on a batch in order.
        ordered = sorted(events, key=lambda e: (e.sequence is None, e.sequence or 0))
        self.events += self.inbound.accept(ordered, True, now)

    def due(self, now: float) -> None:
        self.events += self.inbound.due(now)

    @property
    def got(self) -> list[int | None]:
        return [item.sequence for item in self.events]


def new() -> Listener:
    """A session that was created a moment ago, connected."""
    listener = Listener(Inbound())
    listener.inbound.opened(0.0, fresh=True)
    return listener


def live(cursor: int = 10) -> Listener:
    """A conversation that is settled and has delivered up to a cursor."""
    listener = Listener(Inbound(cursor))
    listener.inbound.opened(0.0, fresh=False)
    listener.due(SETTLE_WAITS[0])
    return listener


def reconnected(cursor: int = 10) -> Listener:
    """A conversation that has a new connection, whose replay begins."""
    listener = Listener(Inbound(cursor))
    listener.inbound.opened(0.0, fresh=False)
    return listener


# A new session


def test_a_new_session_has_little_replay_to_wait_for():
    listener = new()
    listener.batch(start())
    assert listener.got == [1]
    assert listener.inbound.replaying
    listener.due(BEGINNING_WAIT)
    assert not listener.inbound.replaying
    assert listener.inbound.deadline is None


def test_the_beginning_goes_on_while_something_comes():
    listener = new()
    listener.batch(start(1))
    for number in range(2, 6):
        listener.batch(event(number), now=BEGINNING_WAIT * (number - 1) * 0.9)
        assert listener.inbound.live
        assert listener.inbound.replaying
    assert listener.got == [1, 2, 3, 4, 5]
    listener.due(BEGINNING_WAIT * 5)
    assert not listener.inbound.replaying


def test_a_new_session_that_decides_nothing_begins_at_once():
    listener = new()
    listener.batch(start())
    listener.inbound.begun(0.0)
    assert not listener.inbound.replaying
    assert listener.inbound.deadline is None


def test_a_gap_in_the_beginning_is_held_open_as_long_as_any():
    listener = new()
    listener.one(start(1), event(3))
    listener.due(BEGINNING_WAIT)
    assert listener.got == [1]
    assert listener.inbound.deadline == BEGINNING_WAIT + GAP_WAIT
    listener.one(event(2), now=BEGINNING_WAIT + GAP_WAIT / 2)
    assert listener.got == [1, 2, 3]
    assert listener.inbound.deadline is None


def test_its_first_sequence_may_be_any():
    listener = new()
    listener.one(start(700), event(701))
    assert listener.got == [700, 701]


def test_what_overtakes_its_start_waits():
    listener = new()
    listener.one(event(2), start(1), event(3))
    assert listener.got == [1, 2, 3]


def test_a_start_without_a_sequence_starts_it_all_the_same():
    listener = new()
    listener.one(start(None), event(5), event(6))
    assert listener.got == [None, 5, 6]


def test_one_whose_start_is_late_still_begins_with_it():
    listener = new()
    listener.due(SETTLE_WAITS[0])
    assert not listener.inbound.replaying
    listener.one(event(2), start(1), event(3), now=5.0)
    assert listener.got == [1, 2, 3]


def test_one_whose_start_does_not_come_begins_without_it():
    listener = new()
    listener.due(SETTLE_WAITS[0])
    listener.one(event(2), now=5.0)
    assert listener.got == []
    listener.due(5.0 + GAP_WAIT)
    assert listener.got == [2]


def test_one_that_never_says_that_it_starts_goes_on_after_a_while():
    listener = new()
    listener.one(event(None))
    assert listener.got == []
    listener.due(SETTLE_WAITS[0])
    assert listener.got == [None]
    assert not listener.inbound.replaying


# Live


def test_events_that_follow_are_delivered_at_once():
    listener = live()
    listener.one(event(11), event(12), event(None), event(13))
    assert listener.got == [11, 12, None, 13]
    assert listener.inbound.cursor == 13
    assert listener.inbound.deadline is None


def test_the_cursor_moves_over_unknown_types_and_beyond_32_bits():
    listener = live(2**40)
    listener.one(UnknownEvent("EVENT_TYPE_NEW", {}, sequence=2**40 + 1))
    assert listener.inbound.cursor == 2**40 + 1


def test_an_event_that_came_before_is_dropped():
    listener = live()
    listener.one(event(11), event(11))
    listener.batch(event(11), event(12))
    listener.batch(event(12))
    assert listener.got == [11, 12]


def test_the_id_is_what_counts():
    listener = live()
    listener.one(event(11, "a"), event(12, "a"), event(12, "b"))
    assert [item.id for item in listener.events] == ["a", "b"]


def test_without_an_id_the_sequence_does():
    listener = live()
    listener.one(event(11, None), event(11, None), event(None, None))
    listener.one(event(None, None))
    assert listener.got == [11, None, None]


def test_two_frames_that_are_swapped_are_put_in_order():
    listener = live()
    listener.one(event(12), event(None), event(11))
    assert listener.got == [11, 12, None]
    assert listener.inbound.deadline is None


def test_a_gap_is_held_open_for_a_moment():
    listener = live()
    listener.one(event(13), event(14), now=5.0)
    assert listener.got == []
    assert listener.inbound.deadline == 5.0 + GAP_WAIT
    listener.due(5.0 + GAP_WAIT / 2)
    assert listener.got == []
    listener.due(5.0 + GAP_WAIT)
    assert listener.got == [13, 14]


def test_if_in_vain_no_other_is():
    listener = live()
    listener.one(event(13), now=5.0)
    listener.due(6.0)
    listener.one(event(20), event(30), now=7.0)
    assert listener.got == [13, 20, 30]


def test_until_what_was_missing_comes_after_all():
    listener = live()
    listener.one(event(12), now=5.0)
    listener.due(6.0)
    listener.one(event(11), now=7.0)
    assert listener.got == [12, 11]
    listener.one(event(14), event(13), now=8.0)
    assert listener.got == [12, 11, 13, 14]


def test_an_event_with_the_sequence_of_another_is_no_sign_of_that():
    listener = live()
    listener.one(event(12), now=5.0)
    listener.due(6.0)
    listener.one(event(12, "another"), event(14), now=7.0)
    assert listener.got == [12, 12, 14]


def test_a_gap_that_closes_partly_keeps_the_rest_waiting():
    listener = live()
    listener.one(event(12), event(15), now=5.0)
    listener.one(event(11), now=5.0)
    assert listener.got == [11, 12]
    listener.due(5.0 + GAP_WAIT)
    assert listener.got == [11, 12, 15]


def test_negative_sequences_are_odd_and_not_lost():
    listener = Listener(Inbound())
    listener.inbound.opened(0.0, fresh=False)
    listener.one(event(-7), event(-3))
    listener.due(SETTLE_WAITS[0])
    assert listener.got == [-7, -3]


# The replay


def test_an_event_of_the_replay_that_follows_is_delivered_at_once():
    listener = reconnected()
    listener.batch(event(11), event(12))
    assert listener.got == [11, 12]
    assert listener.inbound.replaying


def test_live_frames_that_overtake_the_replay_are_held_back():
    listener = reconnected()
    listener.one(event(14), event(None))
    listener.batch(event(11))
    listener.batch(event(12), event(13))
    assert listener.got == [11, 12, 13, 14]
    listener.due(SETTLE_LIMIT)
    assert listener.got == [11, 12, 13, 14, None]


def test_single_frames_are_a_replay_too():
    listener = reconnected()
    listener.one(event(13), event(12), event(11))
    assert listener.got == [11, 12, 13]


def test_a_replay_that_overlaps_is_cut_where_it_was_known():
    """An invalid cursor makes the server replay everything."""
    listener = reconnected()
    listener.batch(*(event(n) for n in range(1, 14)))
    assert listener.got == [11, 12, 13]


def test_it_settles_the_sooner_the_more_signs_there_are():
    for signs, wait in enumerate(SETTLE_WAITS):
        listener = reconnected()
        if signs > 0:
            listener.inbound.barrier(0.0)
        if signs > 1:
            listener.batch()
        assert listener.inbound.deadline == wait
        listener.due(wait / 2)
        assert listener.inbound.replaying
        listener.due(wait)
        assert not listener.inbound.replaying
        assert listener.inbound.barrier_passed is (signs > 0)


def test_where_nothing_is_decided_by_it_both_signs_are_enough():
    listener = Listener(Inbound(10))
    listener.inbound.opened(0.0, fresh=False, hasty=True)
    assert listener.inbound.deadline == SETTLE_WAITS[0]
    listener.batch()
    assert listener.inbound.deadline == SETTLE_WAITS[1]
    listener.inbound.barrier(0.0)
    assert listener.inbound.deadline == HASTY_WAIT


def test_not_though_while_something_is_missing():
    listener = Listener(Inbound(10))
    listener.inbound.opened(0.0, fresh=False, hasty=True)
    listener.inbound.barrier(0.0)
    listener.batch(event(12))
    listener.one(event(13))
    assert listener.inbound.deadline == SETTLE_WAITS[2]


def test_what_is_passing_and_an_echo_that_is_repeated_do_not_put_it_off():
    listener = reconnected()
    listener.inbound.barrier(0.0)
    listener.one(event(None), now=0.3)
    listener.inbound.barrier(0.4)
    assert listener.inbound.deadline == SETTLE_WAITS[1]


def test_everything_else_that_comes_puts_it_off():
    listener = reconnected()
    listener.batch(event(11), now=0.4)
    assert listener.inbound.deadline == 0.4 + SETTLE_WAITS[1]
    listener.batch(event(12), now=0.8)
    assert listener.inbound.deadline == 0.8 + SETTLE_WAITS[1]


def test_but_not_for_ever():
    listener = reconnected()
    now = 0.0
    while now < SETTLE_LIMIT:
        listener.one(event(11 + int(now * 10)), now=now)
        now += 0.1
    assert listener.inbound.deadline == SETTLE_LIMIT
    listener.due(SETTLE_LIMIT)
    assert not listener.inbound.replaying


def test_what_is_held_is_delivered_in_order_when_it_has_settled():
    listener = reconnected()
    listener.one(event(20), event(None), event(15))
    listener.due(SETTLE_WAITS[0])
    assert listener.got == [15, 20, None]
    assert listener.inbound.cursor == 20


def test_a_replay_without_a_cursor_waits_for_its_start():
    listener = Listener(Inbound())
    listener.inbound.opened(0.0, fresh=False)
    listener.one(event(3))
    assert listener.got == []
    listener.batch(start(2))
    assert listener.got == [2, 3]
    assert listener.inbound.replaying


def test_a_barrier_that_is_passed_late_is_known():
    listener = reconnected()
    listener.due(SETTLE_WAITS[0])
    assert not listener.inbound.barrier_passed
    listener.inbound.barrier(3.0)
    assert listener.inbound.barrier_passed
    assert listener.inbound.deadline is None


# Lost connections


def test_what_is_held_survives_its_connection():
    listener = reconnected()
    listener.one(event(13))
    listener.inbound.lost()
    assert listener.inbound.deadline is None
    assert listener.inbound.cursor == 10
    listener.inbound.opened(5.0, fresh=False)
    listener.batch(event(11), event(12), event(13), now=5.0)
    assert listener.got == [11, 12, 13]


def test_a_gap_that_was_passed_over_is_asked_for_again():
    listener = live()
    listener.one(event(13), now=5.0)
    listener.due(6.0)
    listener.one(event(16), now=6.0)
    assert listener.inbound.cursor == 16
    assert listener.inbound.replay_from == 10
    listener.inbound.lost()
    listener.inbound.opened(7.0, fresh=False)
    listener.batch(*(event(n) for n in range(11, 18)), now=7.0)
    assert listener.got == [13, 16, 11, 12, 14, 15, 17]


def test_a_leap_is_no_gap_that_holds_anything():
    """Sequences may exceed 32 bits, and leap there."""
    listener = live()
    listener.one(event(2**40), now=5.0)
    listener.due(5.0 + GAP_WAIT)
    assert listener.got == [2**40]
    assert listener.inbound.cursor == listener.inbound.replay_from == 2**40


def test_but_not_once_a_whole_replay_has_shown_what_is_there():
    listener = live()
    listener.one(event(13), now=5.0)
    listener.due(6.0)
    listener.inbound.lost()
    listener.inbound.opened(7.0, fresh=False)
    listener.inbound.barrier(7.0)
    listener.batch(event(13), event(14), now=7.0)
    assert listener.inbound.replay_from == 10
    listener.due(8.0)
    assert listener.inbound.replay_from == 14


def test_a_replay_of_which_there_is_no_sign_shows_nothing():
    listener = live()
    listener.one(event(13), now=5.0)
    listener.due(6.0)
    listener.inbound.lost()
    listener.inbound.opened(7.0, fresh=False)
    listener.due(7.0 + SETTLE_WAITS[0])
    assert not listener.inbound.replaying
    assert listener.inbound.replay_from == 10


# Bounded memory


def test_memory_of_what_was_delivered_is_bounded():
    listener = live(0)
    for number in range(1, 5 * WINDOW):
        listener.one(event(number), event(None, f"passing-{number}"))
        assert len(listener.inbound._seen) <= 2 * WINDOW
    listener.events.clear()
    listener.batch(*(event(number) for number in range(1, 5 * WINDOW)))
    assert listener.got == []


def test_what_is_held_back_is_not_forgotten():
    listener = reconnected(0)
    ahead = [event(n) for n in range(2, 3 * WINDOW)]
    listener.one(*ahead)
    listener.inbound.lost()
    listener.inbound.opened(0.0, fresh=False)
    listener.one(*ahead)
    listener.one(event(1))
    assert listener.got == list(range(1, 3 * WINDOW))


def test_nothing_is_forgotten_of_a_replay_that_has_not_begun_to_be_delivered():
    listener = Listener(Inbound())
    listener.inbound.opened(0.0, fresh=False)
    ahead = [event(n) for n in range(2, 3 * WINDOW)]
    listener.one(*ahead, *ahead)
    listener.one(start(1))
    assert listener.got == list(range(1, 3 * WINDOW))


def test_the_cost_of_an_event_does_not_grow_with_what_is_held_or_known():
    """Counted in comparisons of the heap, for a shuffled replay of single frames."""

    class Counted(int):
        compared = 0

        def __lt__(self, other: object) -> bool:
            Counted.compared += 1
            return int(self) < int(other)  # type: ignore[call-overload]

    numbers = list(range(1, 4001))
    random.Random(1).shuffle(numbers)
    listener = reconnected(0)
    for number in numbers:
        item = LanguageChanged(id=str(number), sequence=Counted(number))
        listener.one(item)
    assert listener.got == list(range(1, 4001))
    assert Counted.compared < 4000 * 40


# Whatever the order


@st.composite
def schedules(draw: st.DrawFn) -> tuple[list[int], list[tuple[object, ...]]]:
    """A history, and how a faulty network brings it over several connections."""
    length = draw(st.integers(1, 25))
    gaps = draw(st.booleans())
    step = st.integers(1, 4) if gaps else st.just(1)
    sequences = [draw(st.integers(1, 5))]
    for _ in range(length - 1):
        sequences.append(sequences[-1] + draw(step))
    actions = draw(
        st.lists(
            st.one_of(
                st.tuples(st.just("wait"), st.sampled_from((0.01, 0.2, 0.6, 2.5))),
                st.tuples(st.just("live"), st.integers(0, 3)),
                st.tuples(
                    st.just("drop"),
                    st.randoms(use_true_random=False),
                    st.integers(0, 3),  # how much of the replay comes
                    st.booleans(),
                ),
            ),
            max_size=20,
        )
    )
    return sequences, actions


def splits(items: list[Event], seed: random.Random) -> list[tuple[bool, list[Event]]]:
    """Cut a replay into batches and single frames, some of them twice, shuffled."""
    frames = []
    at = 0
    while at < len(items):
        size = seed.choice((1, 1, 2, 5))
        part = items[at : at + size]
        frames.append((size > 1, part))
        if seed.random() < 0.2:
            frames.append((True, part))
        at += size
    if seed.random() < 0.3:
        seed.shuffle(frames)
    return frames


@given(schedules())
def test_every_event_comes_once_whatever_the_network_does(
    schedule: tuple[list[int], list[tuple[object, ...]]],
):
    """Batches split, shuffled and doubled; frames that overtake; replays cut short."""
    sequences, actions = schedule
    history = [event(n) for n in sequences]
    listener = Listener(Inbound(sequences[0] - 1))
    inbound, now = listener.inbound, 0.0
    done = 0  # how much of the history there is
    cursors: list[int | None] = []

    def connect(seed: random.Random, parts: int, overtaken: bool) -> None:
        inbound.lost()
        inbound.opened(now, fresh=False)
        floor = inbound.replay_from
        assert floor is not None
        replay = [e for e in history[:done] if (e.sequence or 0) > floor]
        frames = splits(replay, seed)
        if overtaken and done < len(history):
            listener.one(history[done], now=now)
        for is_batch, part in frames if parts == 3 else frames[:parts]:
            if is_batch:
                listener.batch(*part, now=now)
            else:
                listener.one(*part, now=now)

    inbound.opened(now, fresh=False)
    for action in actions:
        match action:
            case ("wait", float(seconds)):
                now += seconds
                listener.due(now)
                deadline = inbound.deadline
                assert deadline is None or deadline > now
            case ("live", int(number)):
                listener.one(*history[done : done + number], now=now)
                done = min(done + number, len(history))
            case ("drop", random.Random() as seed, int(parts), bool(overtaken)):
                connect(seed, parts, overtaken)
        cursors.append(inbound.cursor)

    # In the end the network behaves, and everything is there.
    done = len(history)
    connect(random.Random(0), 3, False)
    inbound.barrier(now)
    listener.due(now + SETTLE_LIMIT)
    assert sorted(n for n in listener.got if n is not None) == sequences
    assert inbound.cursor == sequences[-1]
    if sequences[-1] - sequences[0] == len(sequences) - 1:
        assert inbound.replay_from == inbound.cursor
    known = [cursor for cursor in cursors if cursor is not None]
    assert known == sorted(known)


@given(
    length=st.integers(1, 30),
    seed=st.randoms(use_true_random=False),
    passing=st.integers(0, 3),
)
def test_a_replay_that_is_read_before_it_settles_is_delivered_in_order(
    length: int, seed: random.Random, passing: int
):
    """However it is shuffled; what has no place in the order comes last."""
    items = [event(n) for n in range(11, 11 + length)]
    items += [Heartbeat(id=f"passing-{n}") for n in range(passing)]
    seed.shuffle(items)
    listener = reconnected()
    for is_batch, part in splits(items, seed):
        if is_batch:
            listener.batch(*part)
        else:
            listener.one(*part)
    listener.due(SETTLE_LIMIT)
    assert listener.got == [*range(11, 11 + length), *[None] * passing]


def test_the_waits_are_what_a_reader_would_expect():
    assert list(rules.SETTLE_WAITS) == sorted(rules.SETTLE_WAITS, reverse=True)
    assert rules.SETTLE_WAITS[0] < rules.SETTLE_LIMIT
