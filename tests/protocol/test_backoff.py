"""Tests of `polysync.protocol.backoff`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysync.protocol.backoff import JITTER, RETRY_AFTER_MAX, Backoff


def middle() -> float:
    return 0.5


def test_delays_double_from_the_first_to_the_longest():
    backoff = Backoff(1.0, 30.0, 10, middle)
    delays = [backoff.next() for _ in range(8)]
    assert delays == pytest.approx([1, 2, 4, 8, 16, 30, 30, 30])


def test_the_budget_is_a_number_of_attempts_in_a_row():
    backoff = Backoff(1.0, 30.0, 2, middle)
    assert [backoff.next() is None for _ in range(4)] == [False, False, True, True]
    assert backoff.attempt == 2


def test_a_budget_of_none_never_tries():
    assert Backoff(1.0, 30.0, 0, middle).next() is None


def test_a_reset_gives_the_budget_and_the_short_delays_back():
    backoff = Backoff(1.0, 30.0, 2, middle)
    backoff.next()
    backoff.next()
    backoff.reset()
    assert backoff.next() == pytest.approx(1.0)


def test_a_budget_that_the_server_changes_counts_from_now_on():
    backoff = Backoff(1.0, 30.0, 10, middle)
    backoff.next()
    backoff.budget = 1
    assert backoff.next() is None


def test_the_server_may_ask_for_a_longer_wait_but_not_for_a_shorter_one():
    backoff = Backoff(1.0, 30.0, 10, middle)
    assert backoff.next(7.5) == 7.5
    assert backoff.next(0.1) == pytest.approx(2.0)


def test_the_server_may_not_ask_for_a_wait_that_no_session_survives():
    assert Backoff(1.0, 30.0, 10, middle).next(86_400.0) == RETRY_AFTER_MAX


@given(
    delay=st.floats(0.001, 1e6),
    delay_max=st.floats(0.001, 1e6),
    budget=st.integers(1, 2000),
    numbers=st.lists(st.floats(0, 1, exclude_max=True), min_size=1),
    asked=st.none() | st.floats(0, 1e9),
)
def test_every_delay_lies_within_the_jitter_of_its_nominal_value(
    delay: float, delay_max: float, budget: int, numbers: list[float], asked: float
):
    turn = iter(numbers * (budget // len(numbers) + 1))
    backoff = Backoff(delay, delay_max, budget, lambda: next(turn))
    for attempt in range(budget):
        wait = backoff.next(asked)
        nominal = min(delay * 2.0 ** min(attempt, 60), delay_max)
        least, most = nominal * (1 - JITTER), nominal * (1 + JITTER)
        floor = min(asked or 0.0, RETRY_AFTER_MAX)
        assert wait is not None
        assert max(least, floor) * 0.999 <= wait <= max(most, floor) * 1.001
    assert backoff.next(asked) is None
