"""Tests of `polysync.protocol.joining`."""

from __future__ import annotations

from polysync.protocol.joining import REJOIN_AFTER, REJOINS, Joining


def wanted() -> Joining:
    joining = Joining()
    joining.begin(True)
    return joining


def test_nobody_is_asked_for_who_is_not_wanted():
    joining = Joining()
    assert not joining.due(1)
    joining.begin(False)
    assert not joining.due(1)


def test_the_request_goes_out_once_a_connection():
    joining = wanted()
    assert joining.due(1)
    assert not joining.due(1)
    assert joining.pending


def test_a_request_that_was_lost_with_its_connection_is_made_again():
    joining = wanted()
    joining.due(1)
    joining.lost()
    assert not joining.pending
    assert joining.due(2)


def test_the_loss_of_a_connection_that_it_was_not_made_on_changes_nothing():
    joining = wanted()
    joining.due(2)
    joining.lost(1)
    assert not joining.due(2)
    joining.lost(2)
    assert joining.due(2)


def test_an_agent_that_is_seen_is_asked_for_no_more():
    joining = wanted()
    joining.due(1)
    joining.seen()
    joining.lost()
    assert not joining.wanted
    assert not joining.pending
    assert not joining.due(2)


def test_after_an_error_it_is_made_again_in_a_while():
    joining = wanted()
    joining.due(1)
    assert joining.failed(10.0)
    assert not joining.due(1)
    assert joining.deadline == 10.0 + REJOIN_AFTER
    joining.wake(11.9)
    assert not joining.due(1)
    joining.wake(12.0)
    assert joining.deadline is None
    assert joining.due(1)


def test_two_errors_at_a_time_are_one():
    joining = wanted()
    assert joining.failed(10.0)
    assert joining.failed(11.0)
    assert joining.deadline == 12.0


def test_after_two_more_attempts_it_is_given_up():
    joining, now = wanted(), 0.0
    for _ in range(REJOINS):
        assert joining.due(1)
        assert joining.failed(now)
        now += REJOIN_AFTER
        joining.wake(now)
    assert joining.due(1)
    assert not joining.failed(now)
    assert not joining.wanted
    assert not joining.due(1)


def test_an_agent_that_comes_by_itself_makes_the_wait_unnecessary():
    joining = wanted()
    joining.failed(0.0)
    joining.seen()
    assert joining.deadline is None
    assert not joining.due(1)


def test_the_user_need_not_wait_to_ask_again():
    joining = wanted()
    joining.due(1)
    joining.failed(0.0)
    joining.ask()
    assert joining.deadline is None
    assert joining.due(1)


def test_a_new_start_remembers_nothing_of_a_failed_one():
    joining = wanted()
    for now in (0.0, 10.0, 20.0):
        joining.wake(now)
        joining.failed(now)
    joining.begin(True)
    assert joining.due(1)
    assert joining.failed(30.0)
    joining.begin(False)
    assert joining.deadline is None
    assert not joining.due(1)
