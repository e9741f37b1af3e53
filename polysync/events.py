"""The events of the Messaging API, an immutable class for each type.

A class is named after its type: ``EVENT_TYPE_POLY_AGENT_MESSAGE`` is
`PolyAgentMessage`. The envelope (`Event`) and the payload are flat, and the payload's
fields have the names that they have on the wire. Everything has a default, so that
events are easy to make in tests: ``PolyAgentMessage(text="Hi")``.

Classes compare by value, can be hashed and pickled, and match in ``match``
statements.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar

from attrs import field, fields, frozen

from polysync.models import (
    Agent,
    Attachment,
    Capabilities,
    ChatCallAction,
    HandoffReason,
    ResponseSuggestion,
    SessionEndReason,
    SystemMessageLevel,
    TypingState,
    Value,
)

__all__ = [
    "CLIENT_EVENT_TYPES",
    "EVENT_TYPES",
    "ClientHandoffRequired",
    "CsatResponse",
    "Event",
    "EventBatch",
    "HandoffAccepted",
    "HandoffFailed",
    "HandoffQueueStatus",
    "HandoffTimeout",
    "Heartbeat",
    "LanguageChanged",
    "LiveAgentJoined",
    "LiveAgentLeft",
    "LiveAgentMessage",
    "LiveAgentReadMessage",
    "LiveAgentReceivedMessage",
    "LiveAgentTyping",
    "Message",
    "PolyAgentJoined",
    "PolyAgentLeft",
    "PolyAgentMessage",
    "PolyAgentMessageChunk",
    "PolyAgentReadMessage",
    "PolyAgentReceivedMessage",
    "PolyAgentThinking",
    "PolyAgentTriggeredHandoff",
    "RequestPolyAgentJoin",
    "SessionEnd",
    "SessionIdleWarning",
    "SessionStart",
    "ShowCsatRequest",
    "SystemMessage",
    "UnknownEvent",
    "UserEndSession",
    "UserMessage",
    "UserReadMessage",
    "UserReceivedMessage",
    "UserTyping",
]


@frozen(eq=False, repr=False, weakref_slot=False, kw_only=True)
class Event(Value):
    """What all events have in common: the envelope.

    Attributes:
        type: The type on the wire, ``EVENT_TYPE_…``; fixed by the class.
        id: The server's identifier, by which repetitions are known.
        sequence: The place in the permanent history; None for what is passing, such
            as typing, and for what was not received from the server.
        timestamp: When it happened, by the server's clock; always with a time zone.
        metadata: The ``custom`` part of the metadata. An echo, or a system message
            about a client's event, repeats what the client sent.
        extra: The fields of the payload that this version does not know, as they came.
    """

    type: ClassVar[str] = ""

    id: str | None = None
    sequence: int | None = None
    timestamp: datetime | None = None
    # Mappings cannot be hashed; equal events still have equal hashes without them.
    metadata: Mapping[str, str] = field(factory=dict, hash=False)
    extra: Mapping[str, Any] = field(factory=dict, hash=False)

    @classmethod
    def _fields(cls) -> tuple[Any, ...]:
        # The payload first: it is what people look for when they read a repr.
        every = fields(cls)
        envelope = len(fields(Event))
        return (*every[envelope:], *every[:envelope])


# An event without fields of its own has nothing for attrs to add: it inherits all that
# attrs made for `Event`, and importing the package stays quick. For the same reason,
# those that differ in nothing but their type have a base in common.


@frozen(eq=False, repr=False, weakref_slot=False)
class _WithReason(Event):
    reason: str | None = None


@frozen(eq=False, repr=False, weakref_slot=False)
class SessionStart(Event):
    """The session has begun; the first event of every history.

    Attributes:
        capabilities: What the server allows and advises.
        context_id: What a backend signs to hand verified context to the agent.
    """

    type: ClassVar[str] = "EVENT_TYPE_SESSION_START"

    capabilities: Capabilities = Capabilities()
    context_id: str | None = None


@frozen(eq=False, repr=False, weakref_slot=False)
class SessionEnd(Event):
    """The session is over, for `reason`; nothing follows."""

    type: ClassVar[str] = "EVENT_TYPE_SESSION_END"

    reason: SessionEndReason | str | None = None


class SessionIdleWarning(Event):
    """The session will end soon unless the user does something."""

    __slots__ = ()
    type: ClassVar[str] = "EVENT_TYPE_SESSION_IDLE_WARNING"


@frozen(eq=False, repr=False, weakref_slot=False)
class EventBatch(Event):
    """Several events in one frame; `polysync.decode` gives these instead."""

    type: ClassVar[str] = "EVENT_TYPE_EVENT_BATCH"

    events: tuple[Event, ...] = ()


# From the client; the server echoes all but the typing


class RequestPolyAgentJoin(Event):
    """The client asks the agent to join."""

    __slots__ = ()
    type: ClassVar[str] = "EVENT_TYPE_REQUEST_POLY_AGENT_JOIN"


@frozen(eq=False, repr=False, weakref_slot=False)
class UserMessage(Event):
    """A message of the user; received, it is the server's receipt."""

    type: ClassVar[str] = "EVENT_TYPE_USER_MESSAGE"

    text: str = ""
    message_id: str | None = None


@frozen(eq=False, repr=False, weakref_slot=False)
class UserTyping(Event):
    """The user has started or stopped typing: `state` says which."""

    type: ClassVar[str] = "EVENT_TYPE_USER_TYPING"

    state: TypingState | str = TypingState.STARTED


class UserEndSession(Event):
    """The user ends the session."""

    __slots__ = ()
    type: ClassVar[str] = "EVENT_TYPE_USER_END_SESSION"


class Heartbeat(Event):
    """A sign of life."""

    __slots__ = ()
    type: ClassVar[str] = "EVENT_TYPE_HEARTBEAT"


# The agent


@frozen(eq=False, repr=False, weakref_slot=False)
class PolyAgentJoined(Event):
    """The agent has joined.

    Attributes:
        agent_name: The name to show.
        agent_avatar_url: The address of the portrait; older servers call it
            ``avatar_url``.
    """

    type: ClassVar[str] = "EVENT_TYPE_POLY_AGENT_JOINED"

    agent_name: str | None = None
    agent_avatar_url: str | None = field(default=None, metadata={"alias": "avatar_url"})


class PolyAgentThinking(Event):
    """The agent prepares a message: show it as typing until the message comes."""

    __slots__ = ()
    type: ClassVar[str] = "EVENT_TYPE_POLY_AGENT_THINKING"


@frozen(eq=False, repr=False, weakref_slot=False)
class _AgentMessage(Event):
    message_id: str | None = None
    text: str = ""
    attachments: tuple[Attachment, ...] = ()
    response_suggestions: tuple[ResponseSuggestion, ...] = ()
    chat_call_actions: tuple[ChatCallAction, ...] = ()
    agent_name: str | None = None
    avatar_url: str | None = None
    end_conversation: bool = False
    assembled: bool = field(default=False, kw_only=True, metadata={"local": True})
    complete: bool = field(default=True, kw_only=True, metadata={"local": True})

    @property
    def is_live_agent(self) -> bool:
        """Whether a human wrote it."""
        return isinstance(self, LiveAgentMessage)


class PolyAgentMessage(_AgentMessage):
    """A whole message of the agent.

    Attributes:
        message_id: The message's identifier, which its chunks share.
        text: What the agent says; it may hold Markdown and HTML.
        attachments: The cards beside the text.
        response_suggestions: The answers that the agent proposes.
        chat_call_actions: The phone numbers that the agent offers.
        agent_name: The name to show.
        avatar_url: The address of the portrait.
        end_conversation: Whether the conversation is over with this message.
        assembled: Whether the client put it together from chunks; then `id` is its
            `message_id` and `sequence` that of the last chunk.
        complete: False if the reply broke off and this is only a part of it.
    """

    __slots__ = ()
    type: ClassVar[str] = "EVENT_TYPE_POLY_AGENT_MESSAGE"


@frozen(eq=False, repr=False, weakref_slot=False)
class PolyAgentMessageChunk(Event):
    """A piece of a message of the agent, while it is being written.

    Attributes:
        message_id: The message that it belongs to.
        text: The piece, with its own spaces.
        attachments: The cards that came with it.
        response_suggestions: The answers that came with it.
        chunk_index: Its place in the message, from 1.
        is_complete: Whether it is the last.
    """

    type: ClassVar[str] = "EVENT_TYPE_POLY_AGENT_MESSAGE_CHUNK"

    message_id: str | None = None
    text: str = ""
    attachments: tuple[Attachment, ...] = ()
    response_suggestions: tuple[ResponseSuggestion, ...] = ()
    chunk_index: int | None = None
    is_complete: bool = False


class PolyAgentLeft(_WithReason):
    """The agent has left, often because a human takes over; `reason` says why."""

    __slots__ = ()
    type: ClassVar[str] = "EVENT_TYPE_POLY_AGENT_LEFT"


# The handoff to a human


class PolyAgentTriggeredHandoff(Event):
    """The agent has asked for a human to take over."""

    __slots__ = ()
    type: ClassVar[str] = "EVENT_TYPE_POLY_AGENT_TRIGGERED_HANDOFF"


@frozen(eq=False, repr=False, weakref_slot=False)
class HandoffAccepted(Event):
    """The handoff is accepted: a human will join; `queue_name` is the user's queue."""

    type: ClassVar[str] = "EVENT_TYPE_HANDOFF_ACCEPTED"

    queue_name: str | None = None


@frozen(eq=False, repr=False, weakref_slot=False)
class HandoffQueueStatus(Event):
    """Where the user stands in the queue; comes again and again.

    Attributes:
        queue_name: The queue that the user is in.
        position_in_queue: The user's place; some servers call it ``position``.
        estimated_wait_seconds: How long the wait may still be, in seconds.
        display_message: A sentence for the user.
    """

    type: ClassVar[str] = "EVENT_TYPE_HANDOFF_QUEUE_STATUS"

    queue_name: str | None = None
    position_in_queue: int | None = field(default=None, metadata={"alias": "position"})
    estimated_wait_seconds: float | None = None
    display_message: str | None = None


@frozen(eq=False, repr=False, weakref_slot=False)
class ClientHandoffRequired(Event):
    """The application itself must route the user to a human.

    Attributes:
        reason: Why a human is needed.
        queue_name: The queue that is meant.
        route: Where to send the user.
    """

    type: ClassVar[str] = "EVENT_TYPE_CLIENT_HANDOFF_REQUIRED"

    reason: HandoffReason | str | None = None
    queue_name: str | None = None
    route: str | None = None


class HandoffFailed(_WithReason):
    """No human could be reached; `reason` says why."""

    __slots__ = ()
    type: ClassVar[str] = "EVENT_TYPE_HANDOFF_FAILED"


class HandoffTimeout(_WithReason):
    """No human answered in time; `reason` says why."""

    __slots__ = ()
    type: ClassVar[str] = "EVENT_TYPE_HANDOFF_TIMEOUT"


# The live agent


@frozen(eq=False, repr=False, weakref_slot=False)
class LiveAgentJoined(Event):
    """A human has joined.

    Attributes:
        agent: Who; some servers send ``agent_id``, ``agent_name`` and ``avatar_url``
            instead.
    """

    type: ClassVar[str] = "EVENT_TYPE_LIVE_AGENT_JOINED"

    agent: Agent = field(
        default=Agent(),
        metadata={
            "flat": {"agent_id": "id", "agent_name": "name", "avatar_url": "avatar_url"}
        },
    )


@frozen(eq=False, repr=False, weakref_slot=False)
class LiveAgentTyping(Event):
    """The live agent has started or stopped typing: `state` says which."""

    type: ClassVar[str] = "EVENT_TYPE_LIVE_AGENT_TYPING"

    state: TypingState | str = TypingState.STARTED
    agent_id: str | None = None
    agent_name: str | None = None


@frozen(eq=False, repr=False, weakref_slot=False)
class LiveAgentMessage(_AgentMessage):
    """A message of the live agent `agent_id`, else as `PolyAgentMessage`."""

    type: ClassVar[str] = "EVENT_TYPE_LIVE_AGENT_MESSAGE"

    agent_id: str | None = None


@frozen(eq=False, repr=False, weakref_slot=False)
class LiveAgentLeft(Event):
    """The live agent has left, for `reason`; the session goes on."""

    type: ClassVar[str] = "EVENT_TYPE_LIVE_AGENT_LEFT"

    agent_id: str | None = None
    agent_name: str | None = None
    reason: str | None = None


# Around the conversation


@frozen(eq=False, repr=False, weakref_slot=False)
class LanguageChanged(Event):
    """The conversation goes on in `language_code` (BCP 47: ``"en-GB"``).

    It may come again with a replay: the latest counts.
    """

    type: ClassVar[str] = "EVENT_TYPE_LANGUAGE_CHANGED"

    language_code: str | None = None


@frozen(eq=False, repr=False, weakref_slot=False)
class SystemMessage(Event):
    """What the server itself has to say: `message`, as serious as `level` says."""

    type: ClassVar[str] = "EVENT_TYPE_SYSTEM_MESSAGE"

    level: SystemMessageLevel | str | None = None
    message: str = ""


# Reserved: the server sends none of these today, and their payloads are in `extra`


class UserReceivedMessage(Event):
    """Reserved: a message reached the user."""

    __slots__ = ()
    type: ClassVar[str] = "EVENT_TYPE_USER_RECEIVED_MESSAGE"


class UserReadMessage(Event):
    """Reserved: the user read a message."""

    __slots__ = ()
    type: ClassVar[str] = "EVENT_TYPE_USER_READ_MESSAGE"


class PolyAgentReceivedMessage(Event):
    """Reserved: a message reached the agent."""

    __slots__ = ()
    type: ClassVar[str] = "EVENT_TYPE_POLY_AGENT_RECEIVED_MESSAGE"


class PolyAgentReadMessage(Event):
    """Reserved: the agent read a message."""

    __slots__ = ()
    type: ClassVar[str] = "EVENT_TYPE_POLY_AGENT_READ_MESSAGE"


class LiveAgentReceivedMessage(Event):
    """Reserved: a message reached the live agent."""

    __slots__ = ()
    type: ClassVar[str] = "EVENT_TYPE_LIVE_AGENT_RECEIVED_MESSAGE"


class LiveAgentReadMessage(Event):
    """Reserved: the live agent read a message."""

    __slots__ = ()
    type: ClassVar[str] = "EVENT_TYPE_LIVE_AGENT_READ_MESSAGE"


class ShowCsatRequest(Event):
    """Reserved: the user is to be asked how satisfied they are."""

    __slots__ = ()
    type: ClassVar[str] = "EVENT_TYPE_SHOW_CSAT_REQUEST"


class CsatResponse(Event):
    """Reserved: how satisfied the user is."""

    __slots__ = ()
    type: ClassVar[str] = "EVENT_TYPE_CSAT_RESPONSE"


# What this version does not know


@frozen(eq=False, repr=False, weakref_slot=False)
class UnknownEvent(Event):
    """An event of a type that this version does not know.

    Attributes:
        type: The type on the wire.
        payload: What came with it, as it came.
    """

    type: str = ""  # type: ignore[misc]  # the one class whose instances differ in it
    payload: Mapping[str, Any] = field(factory=dict, hash=False)


#: What the agent or the live agent said: alike in use.
Message = PolyAgentMessage | LiveAgentMessage

#: The five that a client may send, by their type on the wire.
CLIENT_EVENT_TYPES: Mapping[str, type[Event]] = MappingProxyType(
    {
        cls.type: cls
        for cls in (
            RequestPolyAgentJoin,
            UserMessage,
            UserTyping,
            UserEndSession,
            Heartbeat,
        )
    }
)

#: All classes, by their type on the wire.
EVENT_TYPES: Mapping[str, type[Event]] = MappingProxyType(
    {
        cls.type: cls
        for cls in list(globals().values())
        if isinstance(cls, type) and issubclass(cls, Event) and cls is not UnknownEvent
        if cls.type
    }
)
