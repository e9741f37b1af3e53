"""What the server has sent of permanence, in order, and the transcript made of it."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from operator import itemgetter

from polysync.events import (
    Event,
    LiveAgentMessage,
    PolyAgentJoined,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    SystemMessage,
    UserMessage,
)
from polysync.models import Agent, Transcript, TranscriptItem
from polysync.protocol.streams import Streams
from polysync.protocol.tickets import Delivery

__all__ = ["History", "transcript"]


class History:
    """The permanent events of a conversation.

    Args:
        limit: How many of the latest to keep; ``None`` keeps all.
    """

    __slots__ = ("_events", "_last", "_limit")

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._events: list[Event] = []
        self._last = -1

    def add(self, event: Event) -> None:
        """Keep the event, if it is a permanent one."""
        sequence = event.sequence
        if sequence is None:
            return
        if sequence > self._last:
            self._last = sequence
            self._events.append(event)
        else:
            insort(self._events, event, key=_sequence)
        # Cut in strides, so that the cost of an event does not depend on the limit.
        limit = self._limit
        if limit is not None and len(self._events) > limit + limit // 4 + 16:
            del self._events[: -limit or None]

    def events(self) -> tuple[Event, ...]:
        """Return what is kept, in the order of the sequences."""
        if self._limit is None:
            return tuple(self._events)
        return tuple(self._events[max(0, len(self._events) - self._limit) :])


def _sequence(event: Event) -> int:
    return event.sequence or 0


def transcript(
    events: Iterable[Event], undelivered: Iterable[Delivery], agent: Agent | None
) -> Transcript:
    """Make the messages of a conversation, for people to read, out of its events.

    Args:
        events: The history, in order.
        undelivered: The user's messages that no echo has confirmed, in order.
        agent: Who speaks, where the history does not go back to the join.
    """
    placed: list[tuple[int, TranscriptItem]] = []
    chunked: dict[str | None, int] = {}  # where the latest chunk of a message is
    streams = Streams()
    streams.agent = agent
    for place, event in enumerate(events):
        if isinstance(event, PolyAgentJoined):
            streams.agent = Agent(
                name=event.agent_name, avatar_url=event.agent_avatar_url
            )
        elif isinstance(event, PolyAgentMessageChunk):
            chunked[event.message_id] = place
            whole = streams.add(event, 0.0)[1]
            if whole is not None:
                placed.append((place, _agent_item(whole)))
        elif isinstance(event, (PolyAgentMessage, LiveAgentMessage)):
            if streams.supersede(event.message_id):
                placed.append((place, _agent_item(event)))
        elif isinstance(event, UserMessage):
            placed.append((place, _user_item(event)))
        elif isinstance(event, SystemMessage):
            placed.append((place, _system_item(event)))
    for _, partial in streams.finish():
        placed.append((chunked[partial.message_id], _agent_item(partial)))
    placed.sort(key=itemgetter(0))
    items = [item for _, item in placed]
    for delivery in undelivered:
        items.append(
            TranscriptItem(
                role="user",
                text=delivery.text,
                delivery="failed" if delivery.done else "pending",
            )
        )
    return Transcript(items)


def _user_item(event: UserMessage) -> TranscriptItem:
    return TranscriptItem(
        role="user",
        text=event.text,
        timestamp=event.timestamp,
        message_id=event.message_id,
        delivery="sent",
    )


def _system_item(event: SystemMessage) -> TranscriptItem:
    return TranscriptItem(
        role="system",
        text=event.message,
        timestamp=event.timestamp,
        level=event.level,
    )


def _agent_item(message: PolyAgentMessage | LiveAgentMessage) -> TranscriptItem:
    return TranscriptItem(
        role="live_agent" if message.is_live_agent else "agent",
        text=message.text,
        timestamp=message.timestamp,
        agent_name=message.agent_name,
        message_id=message.message_id,
        attachments=message.attachments,
        response_suggestions=message.response_suggestions,
        chat_call_actions=message.chat_call_actions,
        complete=message.complete,
    )
