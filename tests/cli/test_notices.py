"""The sentences for what is no message."""

from __future__ import annotations

import pytest

from polysync import events
from polysync.cli.notices import Notice, connection_notice, notice
from polysync.models import (
    Agent,
    ConnectionChange,
    ConnectionStatus,
    HandoffReason,
    SessionEndReason,
    SystemMessageLevel,
)

QUEUED = events.HandoffQueueStatus


@pytest.mark.parametrize(
    ("event", "kind", "text"),
    [
        (events.PolyAgentJoined(agent_name="Ann"), "session", "Ann has joined."),
        (events.PolyAgentJoined(), "session", "The agent has joined."),
        (events.PolyAgentLeft(), "session", "The agent has left."),
        (events.PolyAgentLeft(reason="x"), "session", "The agent has left: x."),
        (
            events.PolyAgentTriggeredHandoff(),
            "handoff",
            "The agent asks a human to take over.",
        ),
        (events.HandoffAccepted(), "handoff", "A human will take over."),
        (
            events.HandoffAccepted(queue_name="Q"),
            "handoff",
            "A human will take over (queue: Q).",
        ),
        (QUEUED(display_message="Hold on."), "handoff", "Hold on."),
        (QUEUED(), "handoff", "Waiting for a human."),
        (
            QUEUED(position_in_queue=2, estimated_wait_seconds=240),
            "handoff",
            "Waiting for a human, position 2, about 4 min.",
        ),
        (
            QUEUED(estimated_wait_seconds=30),
            "handoff",
            "Waiting for a human, about 30 s.",
        ),
        (
            events.ClientHandoffRequired(
                reason=HandoffReason.POLICY, queue_name="Q", route="sip:1"
            ),
            "handoff",
            "This application is to route you to a human: the rules say so, queue Q, "
            "route sip:1.",
        ),
        (events.HandoffFailed(), "handoff", "No human could be reached."),
        (
            events.HandoffTimeout(reason="late"),
            "handoff",
            "No human answered in time: late.",
        ),
        (
            events.LiveAgentJoined(agent=Agent(name="Sam")),
            "handoff",
            "Sam, a human, has joined.",
        ),
        (events.LiveAgentLeft(), "handoff", "The human has left."),
        (
            events.LanguageChanged(language_code="es-ES"),
            "session",
            "The conversation goes on in es-ES.",
        ),
        (events.SystemMessage(message="<b>Hi</b>"), "system", "Hi"),
        (
            events.SessionEnd(reason=SessionEndReason.USER_ABANDONED),
            "end",
            "The conversation has ended: nobody wrote for too long.",
        ),
        (
            events.SessionEnd(reason="NEW"),
            "end",
            "The conversation has ended: NEW.",
        ),
        (events.SessionEnd(), "end", "The conversation has ended."),
        (
            events.SessionIdleWarning(),
            "system",
            "The conversation will end soon unless you write.",
        ),
    ],
)
def test_event_in_words(event: events.Event, kind: str, text: str) -> None:
    """Each event that a person should know of has a sentence."""
    shown = notice(event)
    assert shown is not None
    assert (shown.kind, shown.text) == (kind, text)


@pytest.mark.parametrize(
    "event",
    [
        events.Heartbeat(),
        events.PolyAgentThinking(),
        events.UserMessage(text="x"),
        events.SessionStart(),
        events.UnknownEvent("EVENT_TYPE_NEW", {}),
    ],
)
def test_events_without_words(event: events.Event) -> None:
    """What is shown in other ways, or is of no interest, has none."""
    assert notice(event) is None


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (SystemMessageLevel.INFO, "info"),
        (SystemMessageLevel.WARNING, "warning"),
        (SystemMessageLevel.ERROR, "error"),
        ("SYSTEM_MESSAGE_LEVEL_NEW", "info"),
        (None, "info"),
    ],
)
def test_level_of_system_messages(level: str | None, shown: str) -> None:
    """A system message keeps its level, an unknown one counts as information."""
    assert notice(events.SystemMessage(level=level, message="m")) == Notice(
        "system", "m", shown
    )


def test_connection_in_words() -> None:
    """A loss and its end have a sentence, the usual course has none."""
    lost = ConnectionChange(
        ConnectionStatus.RECONNECTING, attempt=2, delay=1.25, reason="reset\x1b[2J."
    )
    shown = connection_notice(lost, False)
    assert shown is not None
    assert shown.text == "Connection lost (reset); attempt 2 in 1.2 s."
    opened = ConnectionChange(ConnectionStatus.OPEN)
    assert connection_notice(opened, False) is None
    assert connection_notice(opened, True) == Notice("session", "Connected again.")
