"""Tests of `polysync.protocol.situation`."""

from __future__ import annotations

import pytest

from polysync.events import (
    EVENT_TYPES,
    ClientHandoffRequired,
    Event,
    HandoffAccepted,
    HandoffFailed,
    HandoffQueueStatus,
    HandoffTimeout,
    LanguageChanged,
    LiveAgentJoined,
    LiveAgentLeft,
    LiveAgentMessage,
    LiveAgentTyping,
    PolyAgentJoined,
    PolyAgentLeft,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    PolyAgentThinking,
    PolyAgentTriggeredHandoff,
    SessionEnd,
    SessionStart,
    SystemMessage,
    UserMessage,
)
from polysync.models import (
    Agent,
    Capabilities,
    Handoff,
    HandoffReason,
    HandoffStatus,
    TypingState,
)
from polysync.protocol.situation import AGENT_EVENTS, Situation


def after(*events: Event) -> Situation:
    situation = Situation()
    for event in events:
        situation.follow(event)
    return situation


def test_the_start_tells_what_the_session_allows():
    capabilities = Capabilities(streaming=True)
    situation = after(SessionStart(capabilities=capabilities, context_id="c"))
    assert situation.capabilities == capabilities
    assert situation.context_id == "c"


def test_a_start_that_is_repeated_without_a_context_does_not_forget_it():
    assert after(SessionStart(context_id="c"), SessionStart()).context_id == "c"


def test_the_agent_has_the_name_it_joined_under():
    situation = after(PolyAgentJoined(agent_name="Ada", agent_avatar_url="a.png"))
    assert situation.joined
    assert situation.agent == Agent(name="Ada", avatar_url="a.png")


@pytest.mark.parametrize("kind", sorted(AGENT_EVENTS, key=lambda kind: kind.type))
def test_every_event_of_an_agent_shows_that_one_is_there(kind: type[Event]):
    assert after(kind()).joined


def test_no_other_event_does():
    """Nor does the departure of one."""
    for kind in EVENT_TYPES.values():
        assert after(kind()).joined is (kind in AGENT_EVENTS)


def test_the_agent_is_typing_from_its_thinking_to_its_message():
    situation = after(PolyAgentThinking())
    assert situation.typing
    situation.follow(PolyAgentMessageChunk())
    assert situation.typing
    situation.follow(PolyAgentMessage())
    assert not situation.typing


@pytest.mark.parametrize(
    "event",
    [
        LiveAgentMessage(),
        LiveAgentLeft(),
        LiveAgentTyping(state=TypingState.STOPPED),
        PolyAgentLeft(),
        SystemMessage(),
        SessionEnd(),
    ],
)
def test_it_is_no_longer_typing_when_that_is_over_otherwise(event: Event):
    assert not after(PolyAgentThinking(), event).typing


def test_a_live_agent_who_types_is_typing():
    assert after(LiveAgentTyping()).typing
    assert after(LiveAgentTyping(state="TYPING_STATE_WHATEVER")).typing


def test_a_handoff_goes_its_way():
    situation = after(PolyAgentTriggeredHandoff())
    assert situation.handoff == Handoff(status=HandoffStatus.REQUESTED)
    situation.follow(HandoffAccepted(queue_name="sales"))
    assert situation.handoff == Handoff(
        status=HandoffStatus.ACCEPTED, queue_name="sales"
    )
    situation.follow(HandoffQueueStatus(position_in_queue=3, display_message="Soon"))
    assert situation.handoff == Handoff(
        status=HandoffStatus.QUEUED,
        queue_name="sales",
        position_in_queue=3,
        display_message="Soon",
    )
    bob = Agent(id="7", name="Bob")
    situation.follow(LiveAgentJoined(agent=bob))
    assert situation.handoff == Handoff(
        status=HandoffStatus.CONNECTED, queue_name="sales"
    )
    assert situation.live_agent == bob


def test_a_status_of_a_queue_may_come_first():
    situation = after(HandoffQueueStatus(queue_name="sales"))
    assert situation.handoff == Handoff(status=HandoffStatus.QUEUED, queue_name="sales")


def test_a_live_agent_may_come_without_a_handoff():
    situation = after(LiveAgentJoined(agent=Agent(name="Bob")))
    assert situation.handoff == Handoff(status=HandoffStatus.CONNECTED)


def test_a_handoff_may_fail_take_too_long_or_be_the_clients():
    assert after(HandoffFailed(reason="full")).handoff == Handoff(
        status=HandoffStatus.FAILED, reason="full"
    )
    assert after(HandoffTimeout(reason="late")).handoff == Handoff(
        status=HandoffStatus.TIMED_OUT, reason="late"
    )
    required = ClientHandoffRequired(
        reason=HandoffReason.POLICY, queue_name="sales", route="tel:1"
    )
    assert after(required).handoff == Handoff(
        status=HandoffStatus.CLIENT_REQUIRED,
        reason=HandoffReason.POLICY,
        queue_name="sales",
        route="tel:1",
    )


def test_who_speaks_as_a_live_agent_is_one():
    message = LiveAgentMessage(agent_id="7", agent_name="Bob", avatar_url="b.png")
    bob = Agent(id="7", name="Bob", avatar_url="b.png")
    assert after(message).live_agent == bob


def test_who_joined_is_not_renamed_by_a_message():
    bob = Agent(id="7", name="Bob")
    situation = after(LiveAgentJoined(agent=bob), LiveAgentMessage(agent_name="B."))
    assert situation.live_agent == bob


def test_a_live_agent_who_leaves_is_gone_and_the_conversation_is_not():
    situation = after(LiveAgentJoined(agent=Agent(name="Bob")), LiveAgentLeft())
    assert situation.live_agent is None
    assert situation.joined


def test_the_latest_language_wins():
    situation = after(
        LanguageChanged(language_code="en"), LanguageChanged(language_code="de-CH")
    )
    assert situation.language == "de-CH"


def test_what_the_user_says_changes_nothing():
    assert vars(after(UserMessage(text="x"))) == vars(Situation())
