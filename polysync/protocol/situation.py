"""What the events so far add up to: who is there, what is going on, which language."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from polysync.events import (
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
)
from polysync.models import Agent, Capabilities, Handoff, HandoffStatus, TypingState

__all__ = ["AGENT_EVENTS", "Situation"]

#: What only an agent that is there brings about.
AGENT_EVENTS = frozenset(
    {
        LiveAgentJoined,
        LiveAgentMessage,
        LiveAgentTyping,
        PolyAgentJoined,
        PolyAgentMessage,
        PolyAgentMessageChunk,
        PolyAgentThinking,
        PolyAgentTriggeredHandoff,
    }
)


class Situation:
    """Follows the events of one conversation, in their order."""

    def __init__(self) -> None:
        self.capabilities: Capabilities | None = None
        self.context_id: str | None = None
        #: Whether an agent has joined, in this or an earlier life of the session, and
        #: the server has not said since that there is none.
        self.joined = False
        self.agent: Agent | None = None
        self.live_agent: Agent | None = None
        self.handoff: Handoff | None = None
        self.language: str | None = None
        self.typing = False

    def follow(self, event: Event) -> None:
        """Take the next event into account."""
        step = _STEPS.get(type(event))
        if step is not None:
            step(self, event)

    def _started(self, event: SessionStart) -> None:
        self.capabilities = event.capabilities
        self.context_id = event.context_id or self.context_id

    def _agent_joined(self, event: PolyAgentJoined) -> None:
        self.joined = True
        self.agent = Agent(name=event.agent_name, avatar_url=event.agent_avatar_url)

    def _thinking(self, event: PolyAgentThinking) -> None:
        self.joined = True
        self.typing = True

    def _spoke(self, event: PolyAgentMessage) -> None:
        self.joined = True
        self.typing = False

    def _streamed(self, chunk: PolyAgentMessageChunk) -> None:
        self.joined = True

    def _agent_left(self, event: PolyAgentLeft) -> None:
        self.typing = False

    def _handoff_requested(self, event: PolyAgentTriggeredHandoff) -> None:
        self.joined = True
        self.handoff = Handoff(status=HandoffStatus.REQUESTED)

    def _handoff_accepted(self, event: HandoffAccepted) -> None:
        self.handoff = Handoff(
            status=HandoffStatus.ACCEPTED, queue_name=event.queue_name
        )

    def _queued(self, event: HandoffQueueStatus) -> None:
        before = self.handoff.queue_name if self.handoff else None
        self.handoff = Handoff(
            status=HandoffStatus.QUEUED,
            queue_name=event.queue_name or before,
            position_in_queue=event.position_in_queue,
            estimated_wait_seconds=event.estimated_wait_seconds,
            display_message=event.display_message,
        )

    def _client_required(self, event: ClientHandoffRequired) -> None:
        self.handoff = Handoff(
            status=HandoffStatus.CLIENT_REQUIRED,
            queue_name=event.queue_name,
            reason=event.reason,
            route=event.route,
        )

    def _handoff_failed(self, event: HandoffFailed) -> None:
        self.handoff = Handoff(status=HandoffStatus.FAILED, reason=event.reason)

    def _handoff_timed_out(self, event: HandoffTimeout) -> None:
        self.handoff = Handoff(status=HandoffStatus.TIMED_OUT, reason=event.reason)

    def _live_agent_joined(self, event: LiveAgentJoined) -> None:
        self.joined = True
        self.live_agent = event.agent
        self.handoff = Handoff(
            status=HandoffStatus.CONNECTED,
            queue_name=self.handoff.queue_name if self.handoff else None,
        )

    def _live_agent_typing(self, event: LiveAgentTyping) -> None:
        self.joined = True
        self.typing = event.state != TypingState.STOPPED

    def _live_agent_spoke(self, event: LiveAgentMessage) -> None:
        self.joined = True
        self.typing = False
        if self.live_agent is None:
            self.live_agent = Agent(
                id=event.agent_id, name=event.agent_name, avatar_url=event.avatar_url
            )

    def _live_agent_left(self, event: LiveAgentLeft) -> None:
        self.live_agent = None
        self.typing = False

    def _language_changed(self, event: LanguageChanged) -> None:
        self.language = event.language_code

    def _stopped(self, event: SessionEnd | SystemMessage) -> None:
        self.typing = False


_STEPS: dict[type[Event], Callable[[Situation, Any], None]] = {
    SessionStart: Situation._started,
    PolyAgentJoined: Situation._agent_joined,
    PolyAgentThinking: Situation._thinking,
    PolyAgentMessage: Situation._spoke,
    PolyAgentMessageChunk: Situation._streamed,
    PolyAgentLeft: Situation._agent_left,
    PolyAgentTriggeredHandoff: Situation._handoff_requested,
    HandoffAccepted: Situation._handoff_accepted,
    HandoffQueueStatus: Situation._queued,
    ClientHandoffRequired: Situation._client_required,
    HandoffFailed: Situation._handoff_failed,
    HandoffTimeout: Situation._handoff_timed_out,
    LiveAgentJoined: Situation._live_agent_joined,
    LiveAgentTyping: Situation._live_agent_typing,
    LiveAgentMessage: Situation._live_agent_spoke,
    LiveAgentLeft: Situation._live_agent_left,
    LanguageChanged: Situation._language_changed,
    SessionEnd: Situation._stopped,
    SystemMessage: Situation._stopped,
}
