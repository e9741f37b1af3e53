"""Tests of `polysync.protocol.heartbeat`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from polysync.protocol.heartbeat import Heartbeat


def test_the_first_heartbeat_of_a_new_session_comes_after_one_interval():
    heartbeat = Heartbeat(30.0, 10.0)
    assert not heartbeat.start(100.0, at_once=False)
    assert heartbeat.deadline == 130.0
    assert not heartbeat.due(129.9)
    assert heartbeat.due(130.0)


def test_on_a_session_with_a_history_it_is_sent_at_once():
    heartbeat = Heartbeat(30.0, 10.0)
    assert heartbeat.start(100.0, at_once=True)
    assert heartbeat.deadline == 110.0


def test_a_connection_counts_as_dead_when_the_echo_is_late():
    heartbeat = Heartbeat(30.0, 10.0)
    heartbeat.start(0.0, at_once=True)
    assert not heartbeat.overdue(9.9)
    assert heartbeat.overdue(10.0)


def test_an_echo_in_time_saves_it_until_the_next_one():
    heartbeat = Heartbeat(30.0, 10.0)
    heartbeat.start(0.0, at_once=True)
    heartbeat.echoed()
    assert heartbeat.deadline == 30.0
    assert not heartbeat.overdue(1000.0)
    assert heartbeat.due(30.0)
    assert heartbeat.overdue(40.0)


def test_an_interval_below_the_timeout_does_not_put_off_the_end():
    heartbeat = Heartbeat(1.0, 10.0)
    heartbeat.start(0.0, at_once=True)
    for second in range(1, 10):
        assert heartbeat.due(float(second))
    assert heartbeat.overdue(10.0)


def test_an_interval_of_0_turns_heartbeats_off():
    """And they stay off on every later connection."""
    heartbeat = Heartbeat(0.0, 10.0)
    for now in (0.0, 1000.0):
        assert not heartbeat.start(now, at_once=True)
        assert heartbeat.deadline is None
        assert not heartbeat.due(now + 1e9)
        assert not heartbeat.overdue(now + 1e9)
        assert not heartbeat.probe(now)
        heartbeat.stop()
    assert not heartbeat.on


def test_turning_heartbeats_off_forgets_the_echo_that_is_missing():
    heartbeat = Heartbeat(30.0, 10.0)
    heartbeat.start(0.0, at_once=True)
    heartbeat.set_interval(0.0, 1.0)
    assert heartbeat.deadline is None
    assert not heartbeat.overdue(1e9)


def test_another_interval_counts_from_when_it_is_known():
    heartbeat = Heartbeat(30.0, 10.0)
    heartbeat.start(0.0, at_once=False)
    heartbeat.set_interval(5.0, 2.0)
    assert heartbeat.deadline == 7.0


def test_the_same_interval_again_changes_nothing():
    heartbeat = Heartbeat(30.0, 10.0)
    heartbeat.start(0.0, at_once=False)
    heartbeat.set_interval(30.0, 20.0)
    assert heartbeat.deadline == 30.0


def test_heartbeats_can_be_turned_on_while_connected():
    heartbeat = Heartbeat(0.0, 10.0)
    heartbeat.start(0.0, at_once=False)
    heartbeat.set_interval(30.0, 5.0)
    assert heartbeat.deadline == 35.0


def test_without_a_connection_nothing_is_due():
    heartbeat = Heartbeat(30.0, 10.0)
    heartbeat.set_interval(5.0, 0.0)
    assert heartbeat.deadline is None
    heartbeat.start(0.0, at_once=True)
    heartbeat.stop()
    assert heartbeat.deadline is None
    assert not heartbeat.due(1e9)
    assert not heartbeat.overdue(1e9)
    assert not heartbeat.probe(1e9)


def test_a_probe_is_sent_at_once_and_its_echo_awaited():
    heartbeat = Heartbeat(30.0, 10.0)
    heartbeat.start(0.0, at_once=False)
    assert heartbeat.probe(4.0)
    assert heartbeat.deadline == 14.0
    heartbeat.echoed()
    assert heartbeat.deadline == 34.0


@given(
    interval=st.floats(0.1, 100),
    timeout=st.floats(0.1, 100),
    waits=st.lists(st.floats(0, 50)),
)
def test_a_mute_connection_is_noticed_within_an_interval_and_a_timeout(
    interval: float, timeout: float, waits: list[float]
):
    """However the echoes come, the last one starts the clock."""
    heartbeat = Heartbeat(interval, timeout)
    heartbeat.start(0.0, at_once=False)
    now = 0.0
    for wait in waits:
        now += wait
        heartbeat.due(now)
        heartbeat.echoed()
    since = now
    while not heartbeat.overdue(now):
        deadline = heartbeat.deadline
        assert deadline is not None
        assert now <= deadline
        now = deadline
        if not heartbeat.overdue(now):
            assert heartbeat.due(now)
    assert now - since <= interval + timeout + 1e-6
