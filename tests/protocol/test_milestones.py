"""Tests of `polysync.protocol.milestones`."""

from __future__ import annotations

import pytest

from polysync.errors import AgentError
from polysync.events import PolyAgentJoined, PolyAgentMessage, SessionStart
from polysync.protocol.dialogue import Dialogue
from polysync.protocol.effects import Effects
from polysync.protocol.milestones import Milestones
from polysync.protocol.settings import Settings
from polysync.protocol.tickets import ConnectTicket

START = SessionStart(sequence=1)
JOINED = PolyAgentJoined(sequence=2)
GREETING = PolyAgentMessage(sequence=3, message_id="hi")


class Course:
    """Milestones along a dialogue."""

    def __init__(self, *, resumed: bool = False) -> None:
        self.effects = Effects()
        self.dialogue = Dialogue(Settings(), self.effects)
        self.milestones = Milestones(self.effects)
        self.resumed = resumed

    def wait(self, wait: str) -> ConnectTicket:
        ticket = ConnectTicket(wait)
        self.milestones.add(ticket)
        self.check()
        return ticket

    def take(self, *events: SessionStart | PolyAgentJoined | PolyAgentMessage) -> None:
        for event in events:
            self.dialogue.take(event, 0.0, live=True)
            self.check()

    def check(self) -> None:
        self.milestones.check(self.dialogue, resumed=self.resumed)


def test_each_call_waits_for_its_own_milestone():
    course = Course()
    tickets = [course.wait(name) for name in ("session", "agent", "greeting")]
    done = []
    for event in (START, JOINED, GREETING):
        course.take(event)
        done.append([ticket.done for ticket in tickets])
    assert done == [[True, False, False], [True, True, False], [True, True, True]]
    assert not any(ticket.error for ticket in tickets)
    assert not course.milestones


def test_what_is_behind_is_not_waited_for():
    course = Course()
    course.take(START, JOINED, GREETING)
    assert all(course.wait(name).done for name in ("session", "agent", "greeting"))


def test_on_a_session_of_an_earlier_life_the_greeting_is_behind():
    course = Course(resumed=True)
    session, greeting = course.wait("session"), course.wait("greeting")
    assert (session.done, greeting.done) == (True, False)
    course.take(JOINED)
    assert greeting.done


def test_without_an_agent_those_fail_who_wait_for_one():
    course = Course()
    agent, greeting = course.wait("agent"), course.wait("greeting")
    session = ConnectTicket("session")
    course.milestones.add(session)
    course.dialogue.agentless = error = AgentError("no agent", transient=True)
    course.take(START)
    assert agent.error is greeting.error is error
    assert session.done
    assert session.error is None


def test_that_is_not_remembered():
    course = Course()
    course.dialogue.agentless = AgentError("no agent", transient=True)
    course.check()
    ticket = course.wait("agent")
    assert not ticket.done


@pytest.mark.parametrize("known", [True, False])
def test_who_has_left_is_told_nothing(known: bool):
    course = Course()
    ticket = ConnectTicket("session")
    if known:
        course.milestones.add(ticket)
    course.milestones.forget(ticket)
    course.take(START)
    assert not ticket.done


def test_all_fail_when_nothing_can_be_reached_any_more():
    course = Course()
    tickets = [course.wait(name) for name in ("session", "agent", "greeting")]
    error = ConnectionError("gone")
    course.milestones.fail(error)
    assert [ticket.error for ticket in tickets] == [error] * 3
    assert not course.milestones
