"""What a client shows of its conversation: the properties of `Client`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polysync.events import Event, Message
from polysync.models import (
    Agent,
    Capabilities,
    ConnectionStatus,
    Handoff,
    SessionEndReason,
    Transcript,
)
from polysync.protocol.history import transcript
from polysync.runtime.engine import Engine

if TYPE_CHECKING:
    from polysync.sessions.state import SessionState
    from polysync.statistics import ClientStatistics

__all__ = ["ConversationView"]


class ConversationView:
    """Properties that tell where the conversation stands; reading them never waits."""

    _engine: Engine

    @property
    def status(self) -> ConnectionStatus:
        """What the connection is doing."""
        return self._engine.conversation.lifeline.status

    @property
    def session_id(self) -> str | None:
        """The session's id, a UUID, once there is one."""
        return self._engine.conversation.lifeline.session_id

    @property
    def state(self) -> SessionState | None:
        """What `resume` takes, as of now; ``None`` before there is a session.

        Holds the access token: for server-side stores only.
        """
        from polysync.sessions.handover import save  # 1 ms that few need

        self._engine.check()
        return self._engine.read(lambda c: save(self._engine))

    @property
    def greeting(self) -> Message | None:
        """The first message of the session, once it is there."""
        return self._engine.conversation.dialogue.replies.greeting

    @property
    def agent(self) -> Agent | None:
        """The agent's name and avatar, once it has joined."""
        return self._engine.conversation.situation.agent

    @property
    def live_agent(self) -> Agent | None:
        """The human who has taken over, while one is there."""
        return self._engine.conversation.situation.live_agent

    @property
    def handoff(self) -> Handoff | None:
        """How far a handoff to a human has come, once there was one."""
        return self._engine.conversation.situation.handoff

    @property
    def capabilities(self) -> Capabilities | None:
        """What the server said of the session at its start."""
        return self._engine.conversation.situation.capabilities

    @property
    def context_id(self) -> str | None:
        """What a backend signs to give the agent verified context."""
        return self._engine.conversation.situation.context_id

    @property
    def language(self) -> str | None:
        """The conversation's language (BCP 47), once it was changed."""
        return self._engine.conversation.situation.language

    @property
    def agent_is_typing(self) -> bool:
        """Whether the agent or the live agent is preparing a message."""
        return self._engine.conversation.situation.typing

    @property
    def ended(self) -> bool:
        """Whether the conversation has ended on the server."""
        return self._engine.conversation.end is not None

    @property
    def end_reason(self) -> SessionEndReason | str | None:
        """Why the conversation ended, if the server said so."""
        end = self._engine.conversation.end
        return None if end is None else end.reason

    @property
    def history(self) -> tuple[Event, ...]:
        """All events of the permanent history, in order, as the server sent them."""
        self._engine.check()
        return self._engine.read(lambda c: c.dialogue.history.events())

    @property
    def statistics(self) -> ClientStatistics:
        """Counters of connections, frames, bytes and latencies, as of now.

        They go on over reconnects and `restart`.
        """
        from polysync.statistics import snapshot

        return snapshot(self._engine)

    @property
    def transcript(self) -> Transcript:
        """The messages so far, for people to read, the unconfirmed ones last."""
        self._engine.check()
        return self._engine.read(
            lambda c: transcript(
                c.dialogue.history.events(), list(c.dialogue.outbox), c.situation.agent
            )
        )
