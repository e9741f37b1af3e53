"""Tests of `polysync.protocol.states`: every step of the table is one that is taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from polysync.models import ConnectionStatus
from polysync.protocol import lifeline
from polysync.protocol.lifeline import CONNECTION_LIFE
from polysync.protocol.states import STATUS, TABLE, Happening, Phase, advance
from tests.protocol.script import Script, error

P, H = Phase, Happening
GONE = error("Error: Session not found")


# How to get a conversation into each phase, as straight as it goes.


def idle() -> Script:
    return Script()


def starting() -> Script:
    script = Script()
    script.connect()
    return script


def connecting() -> Script:
    script = starting()
    script.create()
    return script


def replaying() -> Script:
    script = connecting()
    script.accept()
    return script


def is_open() -> Script:
    script = Script()
    script.greet()
    return script


def lost() -> Script:
    script = is_open()
    script.drop()
    return script


def failed() -> Script:
    script = is_open()
    script.drop(4001)
    return script


def ended() -> Script:
    script = is_open()
    script.hear("SESSION_END")
    return script


def closed() -> Script:
    script = idle()
    script.close()
    return script


PHASES: dict[Phase, Callable[[], Script]] = {
    P.IDLE: idle,
    P.STARTING: starting,
    P.CONNECTING: connecting,
    P.REPLAYING: replaying,
    P.OPEN: is_open,
    P.LOST: lost,
    P.FAILED: failed,
    P.ENDED: ended,
    P.CLOSED: closed,
}


# What makes each step happen, whatever the phase it begins in.


def resume_what_is_known(script: Script) -> None:
    if script.phase is P.IDLE:
        script.resume()
    if script.phase is P.STARTING:
        script.create()
    else:
        script.connect()


def give_up_the_start(script: Script) -> None:
    script.conversation.abandon_start(TimeoutError("too slow"))


def refuse(script: Script) -> None:
    if script.phase is P.CONNECTING:
        script.refuse(404)
    else:
        script.drop(4001)


def spend_the_budget(script: Script) -> None:
    script.conversation.lifeline._backoff.budget = 0
    script.drop(1006)


def start(script: Script) -> None:
    # A session that the server refused before it was ever open is forgotten.
    script.conversation.lifeline.session_id = None
    script.connect()


HAPPENINGS: dict[Happening, Callable[[Script], None]] = {
    H.START: start,
    H.RESUME: resume_what_is_known,
    H.START_FAILED: give_up_the_start,
    H.SOCKET_OPENED: Script.accept,
    H.REPLAY_SETTLED: lambda script: script.later(10.0),
    H.SOCKET_LOST: Script.drop,
    H.RETRY: lambda script: script.later(2.0),
    H.REFUSED: refuse,
    H.BUDGET_SPENT: spend_the_budget,
    H.SESSION_ENDED: lambda script: script.drop(1000),
    H.CLOSE: Script.close,
}

STEPS = [(phase, happening) for phase in TABLE for happening in TABLE[phase]]


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_is_one_that_a_conversation_gets_into(phase: Phase):
    assert PHASES[phase]().phase is phase


@pytest.mark.parametrize(
    ("phase", "happening"), STEPS, ids=[f"{p.name}-{h.name}" for p, h in STEPS]
)
def test_every_step_is_one_that_a_conversation_takes(
    phase: Phase, happening: Happening, monkeypatch: pytest.MonkeyPatch
):
    script = PHASES[phase]()
    taken: list[tuple[Phase, Happening]] = []

    def recorded(before: Phase, step: Happening) -> Phase:
        taken.append((before, step))
        return advance(before, step)

    monkeypatch.setattr(lifeline, "advance", recorded)
    HAPPENINGS[happening](script)
    assert taken[0] == (phase, happening)


@pytest.mark.parametrize("phase", Phase)
def test_what_the_table_does_not_know_is_a_bug(phase: Phase):
    for happening in Happening:
        if happening in TABLE[phase]:
            assert advance(phase, happening) is TABLE[phase][happening]
        else:
            with pytest.raises(AssertionError, match=f"{happening.name} in"):
                advance(phase, happening)


def test_a_conversation_can_be_closed_in_every_phase():
    for begin in PHASES.values():
        script = begin()
        ended = script.phase is P.ENDED
        script.close()
        script.close()
        assert script.phase is (P.ENDED if ended else P.CLOSED)
        assert script.conversation.deadline is None


def test_a_start_can_be_given_up_in_every_phase():
    for begin in PHASES.values():
        script = begin()
        before = script.phase
        give_up_the_start(script)
        begun = before not in (P.IDLE, P.FAILED, P.ENDED, P.CLOSED)
        assert script.phase is (P.IDLE if begun else before)


def test_the_end_is_final():
    assert TABLE[P.ENDED] == {}
    assert TABLE[P.CLOSED] == {}


def test_a_failure_is_not():
    assert TABLE[P.FAILED][H.RESUME] is P.CONNECTING
    assert TABLE[P.FAILED][H.START] is P.STARTING


def test_every_phase_shows_users_a_status():
    assert STATUS.keys() == TABLE.keys() == set(Phase)
    assert set(STATUS.values()) == set(ConnectionStatus)


def test_every_phase_is_reached_from_the_first():
    reached, edge = set(), {P.IDLE}
    while edge:
        reached |= edge
        edge = {target for phase in edge for target in TABLE[phase].values()} - reached
    assert reached == set(Phase)


def test_nothing_happens_in_a_final_phase_whatever_is_late():
    for begin in (ended, closed):
        script = begin()
        phase, written = script.phase, len(script.written)
        for generation in range(4):
            script.accept(generation)
            script.hear("HEARTBEAT", generation=generation)
            script.drop(generation=generation)
        script.create("another")
        script.later(CONNECTION_LIFE)
        assert script.phase is phase
        assert len(script.written) == written
