"""Tests of `polysync.protocol.typing_indicator`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from polysync.models import TypingState
from polysync.protocol.typing_indicator import (
    STARTED_EVERY,
    STOPPED_AFTER,
    TypingIndicator,
)

STARTED, STOPPED = TypingState.STARTED, TypingState.STOPPED


def test_the_first_key_is_shown_at_once():
    indicator = TypingIndicator()
    assert indicator.typed(STARTED, 0.0) is STARTED


def test_more_keys_are_not_shown_for_3_seconds():
    indicator = TypingIndicator()
    indicator.typed(STARTED, 0.0)
    assert indicator.typed(STARTED, 2.9) is None
    assert indicator.typed(STARTED, 3.0) is STARTED


def test_stopped_follows_5_seconds_after_the_last_key():
    indicator = TypingIndicator()
    indicator.typed(STARTED, 0.0)
    indicator.typed(STARTED, 2.0)
    assert indicator.deadline == 7.0
    assert not indicator.due(6.9)
    assert indicator.due(7.0)
    assert not indicator.due(8.0)
    assert indicator.deadline is None


def test_stopped_is_shown_at_once_when_it_is_said():
    indicator = TypingIndicator()
    indicator.typed(STARTED, 0.0)
    assert indicator.typed(STOPPED, 1.0) is STOPPED
    assert indicator.deadline is None


def test_who_has_not_started_cannot_stop():
    indicator = TypingIndicator()
    assert indicator.typed(STOPPED, 0.0) is None
    indicator.typed(STARTED, 1.0)
    indicator.typed(STOPPED, 2.0)
    assert indicator.typed(STOPPED, 2.1) is None


def test_starting_again_soon_after_stopping_waits_for_its_3_seconds():
    indicator = TypingIndicator()
    indicator.typed(STARTED, 0.0)
    indicator.typed(STOPPED, 1.0)
    assert indicator.typed(STARTED, 2.0) is None
    assert indicator.deadline is None
    assert indicator.typed(STARTED, 3.0) is STARTED


def test_a_new_connection_knows_nothing_of_the_typing():
    indicator = TypingIndicator()
    indicator.typed(STARTED, 0.0)
    indicator.reset()
    assert indicator.deadline is None
    assert indicator.typed(STARTED, 0.5) is STARTED


@given(
    st.lists(st.tuples(st.floats(0, 10), st.sampled_from((STARTED, STOPPED, None)))),
)
def test_started_is_never_sent_twice_in_3_seconds_nor_left_on(
    steps: list[tuple[float, TypingState | None]],
):
    """Whatever is typed when: a server shows no typing that ended 5 s ago."""
    indicator, now = TypingIndicator(), 0.0
    sent: list[tuple[float, TypingState]] = []
    for wait, state in [*steps, (STOPPED_AFTER, None)]:
        until = now + wait
        if indicator.deadline is not None and indicator.deadline <= until:
            now = indicator.deadline
            assert indicator.due(now)
            sent.append((now, STOPPED))
        now = until
        news = None if state is None else indicator.typed(state, now)
        if news is not None:
            sent.append((now, news))
    started = [at for at, state in sent if state is STARTED]
    for first, second in zip(started, started[1:], strict=False):
        assert second - first >= STARTED_EVERY - 1e-6
    assert not sent or sent[-1][1] is STOPPED
