"""Tests of `polysync.protocol.lifeline`."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from polysync.errors import (
    AuthenticationError,
    ConnectionLostError,
    ProtocolError,
    SessionNotFoundError,
    SessionTokenError,
)
from polysync.models import Capabilities, ConnectionChange
from polysync.protocol.backoff import USEFUL_LIFE
from polysync.protocol.effects import Connect, Disconnect, Effects, Upgrade
from polysync.protocol.lifeline import (
    CONNECTION_LIFE,
    RENEW_AGAIN,
    RENEW_PATIENCE,
    Fate,
    Lifeline,
)
from polysync.protocol.loss import Loss
from polysync.protocol.settings import Settings
from polysync.protocol.states import Happening, Phase

LOST = Loss(close_code=1006, reason="cut off", opened=True)


class Life:
    """A lifeline and what it has ordered."""

    def __init__(self, *, random: float = 0.5, **settings: Any) -> None:
        self.effects = Effects()
        self.line = Lifeline(Settings(**settings), self.effects, lambda: random, 0)

    def connecting(self, *, resumed: bool = False) -> Life:
        self.line.session_id = "session-1"
        self.line.resumed = resumed
        self.line.begin()
        self.line.upgrade(Happening.RESUME, None)
        return self

    def opened(self, now: float = 0.0, *, fresh: bool = True) -> Life:
        assert self.line.generation is not None
        assert self.line.opened(self.line.generation, now, fresh=fresh)
        return self

    def settled(self, now: float = 0.0) -> Life:
        self.opened(now).line.move(Happening.REPLAY_SETTLED)
        return self

    def lost(self, loss: Loss = LOST, now: float = 1.0) -> Fate:
        assert self.line.generation is not None
        return self.line.lost(self.line.generation, loss, now, fresh=False)

    def renewing(self, now: float = CONNECTION_LIFE) -> Life:
        """An open connection whose successor has been ordered."""
        self.connecting().settled()
        self.line.heartbeat_echoed(1, 0.0)
        self.line.wake(now, 7)
        assert self.line.successor == 2
        return self

    @property
    def beats(self) -> list[int]:
        """The connections that a heartbeat was written on."""
        names = [json.loads(text)["type"] for _, text in self.effects.frames]
        assert set(names) <= {"EVENT_TYPE_HEARTBEAT"}
        return [generation for generation, _ in self.effects.frames]

    @property
    def changes(self) -> list[ConnectionChange]:
        return [n for n in self.effects.news if isinstance(n, ConnectionChange)]

    @property
    def statuses(self) -> list[str]:
        return [change.status.value for change in self.changes]


# Opening


def test_a_connection_is_ordered_and_then_takes_up_the_session():
    life = Life()
    life.line.dial()
    assert life.effects.orders == [Connect(1)]
    life.line.session_id = "session-1"
    life.line.upgrade(Happening.RESUME, 42)
    assert life.effects.orders == [Connect(1), Upgrade(1, 42)]
    assert life.line.phase is Phase.CONNECTING


def test_one_that_was_lost_before_there_was_a_session_is_ordered_again():
    life = Life()
    life.line.begin()
    life.line.dial()
    life.line.move(Happening.START)
    assert life.lost(Loss(reason="refused")) is Fate.NOTHING
    life.line.upgrade(Happening.RESUME, None)
    assert life.effects.orders[1:] == [Connect(2), Upgrade(2, None)]


def test_numbers_go_on_from_those_of_the_conversation_before():
    line = Lifeline(Settings(), Effects(), lambda: 0.5, 41)
    line.dial()
    assert line.generation == 42


def test_users_see_each_change_of_the_status_once():
    life = Life().connecting().settled()
    life.lost()
    life.line.wake(10.0, None)
    life.opened(10.0)
    life.line.move(Happening.REPLAY_SETTLED)
    assert life.statuses == ["connecting", "open", "reconnecting", "open"]


def test_each_attempt_is_announced_with_its_delay_and_reason():
    life = Life(reconnect_delay=2.0).connecting()
    for now in (0.0, 10.0):
        life.lost(Loss(reason="no route"), now)
        life.line.wake(now + 9.0, None)
    attempts = [(c.attempt, c.delay, c.reason) for c in life.changes if c.attempt]
    assert attempts == [(1, 2.0, "no route"), (2, 4.0, "no route")]
    assert life.line.last_loss == "no route"


# Heartbeats


def test_a_new_session_gets_its_first_heartbeat_after_30_seconds():
    life = Life().connecting().opened()
    assert life.beats == []
    assert life.line.deadline == 30.0
    life.line.wake(30.0, None)
    assert life.beats == [1]


def test_one_with_a_history_gets_it_at_once():
    life = Life().connecting().opened(fresh=False)
    assert life.beats == [1]


def test_a_connection_without_an_echo_counts_as_dead():
    life = Life(heartbeat_timeout=3.0).connecting().opened(fresh=False)
    assert not life.line.dead(2.9)
    assert life.line.dead(3.0)
    loss = life.line.bury(3.0)
    assert loss.close_code == 1006
    assert loss.opened
    assert life.effects.orders[-1] == Disconnect(1, abort=True)
    assert life.lost(loss, 3.0) is Fate.RETRYING


def test_its_echo_keeps_it_alive():
    life = Life().connecting().opened(fresh=False)
    assert life.line.heartbeat_echoed(1, 1.0)
    assert not life.line.dead(1e9)


def interval(asked: float | None, **settings: Any) -> float | None:
    life = Life(**settings).connecting().opened()
    life.line.configure(Capabilities(heartbeat_interval_seconds=asked), 0.0)
    deadline = life.line.deadline
    return None if deadline is None or deadline > 1000.0 else deadline


def test_the_server_says_how_often():
    assert interval(12.5) == 12.5
    assert interval(None) == 30.0
    assert interval(0.0001) == 30.0


def test_0_turns_heartbeats_off_and_they_stay_off_after_a_reconnection():
    life = Life().connecting().settled()
    life.line.configure(Capabilities(heartbeat_interval_seconds=0), 0.0)
    assert not life.line.echoes
    life.lost()
    life.line.wake(10.0, None)
    life.opened(10.0, fresh=False)
    life.line.move(Happening.REPLAY_SETTLED)
    life.line.wake(1000.0, None)
    assert life.beats == []
    assert not life.line.probe(1000.0)
    assert not life.line.dead(1e9)


@pytest.mark.parametrize("odd", [-1, -0.5, math.inf, math.nan, 86_400.0, 1e300])
def test_a_negative_or_odd_interval_means_the_default(odd: float):
    assert interval(odd) == 30.0


def test_what_the_user_says_goes_before_what_the_server_says():
    assert interval(12.5, heartbeat_interval=7.0) == 7.0
    assert interval(12.5, heartbeat_interval=0.0) is None


def test_an_echo_can_be_asked_for_at_any_time():
    life = Life().connecting().opened()
    assert life.line.probe(5.0)
    assert life.beats == [1]
    assert life.line.dead(15.0)


def test_without_a_connection_there_is_nobody_to_ask():
    life = Life()
    assert life.line.probe(5.0)
    assert life.beats == []


# Reconnecting


def test_a_lost_connection_is_made_again_after_a_delay_with_the_same_session():
    life = Life().connecting().settled()
    assert life.lost(now=100.0) is Fate.RETRYING
    assert life.line.phase is Phase.LOST
    assert life.line.deadline == 101.0
    life.line.wake(100.9, 5)
    assert life.line.phase is Phase.LOST
    life.line.wake(101.0, 5)
    assert life.effects.orders[-2:] == [Connect(2), Upgrade(2, 5)]
    assert life.line.session_id == "session-1"


def budget(asked: int | None, **settings: Any) -> int:
    """How many attempts are made when the server cannot be reached."""
    life = Life(**settings).connecting().settled()
    life.line.configure(Capabilities(max_reconnect_attempts=asked), 0.0)
    now, attempts, fate = 1.0, 0, life.lost(now=1.0)
    while fate is Fate.RETRYING:
        attempts += 1
        now += 100.0
        life.line.wake(now, None)
        fate = life.lost(Loss(reason="refused"), now)
    assert fate is Fate.FAILED
    return attempts


def test_the_budget_is_the_servers_else_10():
    assert budget(None) == 10
    assert budget(3) == 3
    assert budget(0) == 0
    assert budget(-4) == 10


def test_the_users_budget_goes_before_the_servers():
    assert budget(3, max_reconnects=5) == 5
    assert budget(3, max_reconnects=0) == 0


def test_a_server_that_accepts_and_drops_at_once_uses_the_budget_up():
    life = Life(max_reconnects=4).connecting().settled()
    now, opens = 0.0, 0
    while life.lost(now=now) is Fate.RETRYING:
        now += 60.0
        life.line.wake(now, None)
        life.opened(now, fresh=False)
        opens += 1
        assert opens < 100
    assert opens == 4


@pytest.mark.parametrize("useful", [True, False])
def test_some_seconds_of_life_or_useful_traffic_give_it_back(useful: bool):
    life = Life(max_reconnects=1).connecting().settled()
    now = 0.0
    for _ in range(10):
        life.line.useful = useful
        now += 0.1 if useful else USEFUL_LIFE
        assert life.lost(now=now) is Fate.RETRYING
        now += 60.0
        life.line.wake(now, None)
        life.opened(now, fresh=False)
    assert life.lost(now=now + 0.1) is Fate.FAILED


def test_a_spent_budget_is_an_error_that_says_what_to_do():
    life = Life(max_reconnects=0).connecting().settled()
    assert life.lost() is Fate.FAILED
    error = life.line.failure
    assert isinstance(error, ConnectionLostError)
    assert error.close_code == 1006
    assert error.attempts == 0
    assert "switched off" in str(error)
    assert "connect()" in str(error)
    assert life.effects.news[-1] is error


def test_it_counts_the_attempts():
    life = Life(max_reconnects=1).connecting().settled()
    life.lost()
    life.line.wake(10.0, None)
    assert life.lost(Loss(reason="refused"), 10.0) is Fate.FAILED
    assert "1 attempt to reconnect failed" in str(life.line.failure)


def test_a_new_try_after_a_failure_has_the_whole_budget():
    life = Life(max_reconnects=1).connecting().settled()
    life.lost()
    life.line.wake(10.0, None)
    life.lost(now=10.0)
    life.line.begin()
    assert life.line.failure is None
    life.line.upgrade(Happening.RESUME, 5)
    assert life.lost(now=11.0) is Fate.RETRYING


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 302, 418, None])
def test_a_refusal_that_may_pass_is_waited_out_on_the_same_session(
    status: int | None,
):
    life = Life().connecting()
    assert life.lost(Loss(status=status, reason="not now")) is Fate.RETRYING
    assert life.line.session_id == "session-1"


def test_a_server_that_says_how_long_to_wait_is_obeyed():
    life = Life().connecting()
    life.lost(Loss(status=429, retry_after=7.0), 100.0)
    assert life.line.deadline == 107.0


def test_what_cannot_help_is_not_tried_at_the_first_start():
    life = Life().connecting()
    loss = Loss(reason="certificate refused", retryable=False)
    assert life.lost(loss) is Fate.FAILED
    assert "trying again cannot help" in str(life.line.failure)


def test_what_has_worked_before_is_waited_for():
    """TLS trouble, too, is waited out once the conversation is open."""
    life = Life().connecting().settled()
    loss = Loss(reason="certificate refused", retryable=False)
    assert life.lost(now=0.0) is Fate.RETRYING
    life.line.wake(60.0, None)
    assert life.lost(loss, 60.0) is Fate.RETRYING


@pytest.mark.parametrize("code", [1001, 1005, 1006, 1011, 1012, 1013, 1014, 4002, 4003])
def test_other_close_codes_mean_lost(code: int):
    life = Life().connecting().settled()
    assert life.lost(Loss(close_code=code, opened=True)) is Fate.RETRYING


# For good


def test_1000_is_the_end_of_the_conversation():
    for life in (Life().connecting().opened(), Life().connecting().settled()):
        assert life.lost(Loss(close_code=1000, opened=True)) is Fate.OVER


def test_the_first_handshake_refused_with_401_is_about_the_credentials():
    life = Life().connecting()
    assert life.lost(Loss(status=401, reason="authentication failed")) is Fate.FAILED
    error = life.line.failure
    assert isinstance(error, AuthenticationError)
    assert not isinstance(error, SessionNotFoundError)
    assert (error.status, error.reason) == (401, "authentication failed")
    assert life.line.session_id is None  # the next start makes another one


@pytest.mark.parametrize("resumed", [True, False])
def test_a_later_one_means_that_the_session_cannot_be_resumed(resumed: bool):
    life = Life().connecting(resumed=resumed)
    if not resumed:
        life.settled()
        life.lost()
        life.line.wake(10.0, None)
    assert life.lost(Loss(status=401, reason="no")) is Fate.FAILED
    error = life.line.failure
    assert isinstance(error, SessionTokenError)
    assert error.session_id == "session-1"
    assert life.line.session_id == "session-1"


@pytest.mark.parametrize("loss", [Loss(status=404), Loss(close_code=4001, opened=True)])
def test_an_unknown_session_cannot_be_resumed(loss: Loss):
    life = Life().connecting(resumed=True)
    assert life.lost(loss) is Fate.FAILED
    assert type(life.line.failure) is SessionNotFoundError


def test_a_session_that_the_server_disowns_cannot_be_resumed():
    life = Life().connecting().settled()
    life.line.disown()
    assert life.line.phase is Phase.FAILED
    assert isinstance(life.line.failure, SessionNotFoundError)
    assert life.effects.orders[-1] == Disconnect(1)


def test_400_is_a_bug_of_ours():
    life = Life().connecting()
    assert life.lost(Loss(status=400, reason="invalid parameters")) is Fate.FAILED
    assert isinstance(life.line.failure, ProtocolError)
    assert "bug of polysync" in str(life.line.failure)


# Stale connections


def test_what_comes_from_an_older_connection_is_stale():
    life = Life().connecting().settled()
    life.lost()
    life.line.wake(10.0, None)
    assert life.line.generation == 2
    assert not life.line.heard(1)
    assert not life.line.opened(1, 10.0, fresh=False)
    assert life.line.lost(1, LOST, 10.0, fresh=False) is Fate.RETIRED
    assert life.line.phase is Phase.CONNECTING
    assert life.line.heard(2)


def test_a_connection_opens_once():
    life = Life().connecting().settled()
    assert not life.line.opened(1, 0.0, fresh=True)


def test_nothing_is_expected_of_a_connection_that_was_left():
    life = Life().connecting().settled()
    life.line.disconnect(abort=True)
    assert life.effects.orders[-1] == Disconnect(1, abort=True)
    assert life.line.deadline is None
    assert not life.line.heard(1)


# Renewal


@pytest.mark.parametrize("random", [0.0, 0.999])
def test_a_connection_is_renewed_before_the_front_door_cuts_it(random: float):
    """The new one is opened first, and not all clients do so at once."""
    life = Life(random=random, heartbeat_interval=0.0).connecting().settled()
    deadline = life.line.deadline
    assert deadline is not None
    assert 0.95 * CONNECTION_LIFE <= deadline <= CONNECTION_LIFE < 7200 - 600 + 1
    life.line.wake(deadline, 7)
    assert life.effects.orders[-2:] == [Connect(2), Upgrade(2, 7)]
    assert life.line.generation == 1
    assert life.line.phase is Phase.OPEN


def test_the_new_one_takes_over_when_its_echo_has_come():
    life = Life().renewing()
    now = CONNECTION_LIFE
    assert not life.line.opened(2, now, fresh=False)
    assert life.beats[-1] == 2
    life.line.hand_over(now, busy=False)
    assert life.line.generation == 1
    assert not life.line.heartbeat_echoed(2, now + 0.1)
    life.line.hand_over(now + 0.1, busy=False)
    assert life.line.generation == 2
    assert life.line.successor is None
    assert life.effects.orders[-1] == Disconnect(1, 4000)
    assert life.statuses == ["connecting", "open"]


def test_it_waits_for_what_is_on_its_way_but_not_for_long():
    life = Life().renewing()
    now = CONNECTION_LIFE
    life.line.opened(2, now, fresh=False)
    life.line.heartbeat_echoed(2, now)
    life.line.heartbeat_echoed(2, now + 1.0)
    life.line.hand_over(now + 1.0, busy=True)
    assert life.line.generation == 1
    life.line.hand_over(now + RENEW_PATIENCE, busy=True)
    assert life.line.generation == 2


def test_the_renewed_connection_is_renewed_in_its_turn():
    life = Life().renewing()
    now = CONNECTION_LIFE
    life.line.opened(2, now, fresh=False)
    life.line.heartbeat_echoed(2, now)
    life.line.hand_over(now, busy=False)
    life.line.wake(2 * CONNECTION_LIFE, 9)
    assert life.line.successor == 3


def test_without_heartbeats_it_is_given_a_moment():
    life = Life(heartbeat_interval=0.0).renewing()
    life.line.opened(2, CONNECTION_LIFE, fresh=False)
    assert life.beats == []
    assert life.line.deadline == CONNECTION_LIFE + RENEW_PATIENCE
    life.line.hand_over(CONNECTION_LIFE, busy=False)
    assert life.line.generation == 2


def test_a_renewal_that_fails_is_tried_again_and_troubles_nobody():
    life = Life(heartbeat_interval=0.0).renewing()
    news = len(life.effects.news)
    assert life.line.lost(2, Loss(status=503), CONNECTION_LIFE, fresh=False) is (
        Fate.NOTHING
    )
    assert life.line.phase is Phase.OPEN
    assert life.line.deadline == CONNECTION_LIFE + RENEW_AGAIN
    life.line.wake(CONNECTION_LIFE + RENEW_AGAIN, 7)
    assert life.line.successor == 3
    assert len(life.effects.news) == news


def test_a_connection_that_is_not_settled_when_its_time_comes_is_renewed_later():
    life = Life(heartbeat_interval=0.0).connecting().opened(fresh=False)
    life.line.wake(CONNECTION_LIFE, None)
    assert life.line.successor is None
    assert life.line.deadline == CONNECTION_LIFE + RENEW_AGAIN


def test_when_the_old_one_is_lost_the_new_one_takes_over_at_once():
    life = Life().renewing()
    life.line.opened(2, CONNECTION_LIFE, fresh=False)
    assert life.lost(now=CONNECTION_LIFE + 1.0) is Fate.REPLACED
    assert life.line.phase is Phase.REPLAYING
    assert life.line.generation == 2
    assert life.beats[-2:] == [2, 2]


def test_but_not_before_it_is_open():
    life = Life().renewing()
    assert life.lost(now=CONNECTION_LIFE + 1.0) is Fate.RETRYING
    assert life.line.phase is Phase.CONNECTING
    assert life.line.generation == 2
    orders = len(life.effects.orders)
    assert life.line.opened(2, CONNECTION_LIFE + 2.0, fresh=False)
    assert life.line.phase is Phase.REPLAYING
    assert len(life.effects.orders) == orders


def test_and_if_it_never_opens_another_one_is_tried():
    life = Life().renewing()
    life.lost(now=CONNECTION_LIFE)
    assert life.lost(Loss(status=503), CONNECTION_LIFE) is Fate.RETRYING
    assert life.line.phase is Phase.LOST
    assert life.line.deadline == CONNECTION_LIFE + 1.0


def test_a_clean_close_of_the_old_one_leaves_the_word_to_the_new_one():
    life = Life().renewing()
    life.line.opened(2, CONNECTION_LIFE, fresh=False)
    clean = Loss(close_code=1000, opened=True)
    assert life.lost(clean, CONNECTION_LIFE) is Fate.REPLACED
    assert life.lost(clean, CONNECTION_LIFE) is Fate.OVER


def test_leaving_leaves_both():
    life = Life().renewing()
    life.line.disconnect()
    assert life.effects.orders[-2:] == [Disconnect(1), Disconnect(2)]
    assert life.line.successor is None
    assert not life.line.heard(2)
