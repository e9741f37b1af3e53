"""The values inside events and on the client: attachments, agents, transcripts.

Everything here is immutable, compares by value and can be pickled. Enumerations are
strings: a member equals the word on the wire, and a word that this version does not
know stays a plain `str`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, overload

from attrs import field, fields, frozen

__all__ = [
    "Agent",
    "Attachment",
    "AttachmentContentType",
    "Capabilities",
    "ChatCallAction",
    "ConnectionChange",
    "ConnectionStatus",
    "Handoff",
    "HandoffReason",
    "HandoffStatus",
    "ResponseSuggestion",
    "SessionEndReason",
    "SystemMessageLevel",
    "Transcript",
    "TranscriptItem",
    "TypingState",
]


class _Word(str, Enum):
    """An enumeration whose members are, and print as, the word itself."""

    # Without these two, str() and format() differ between Python 3.10, 3.11 and 3.12.
    def __str__(self) -> str:
        return str.__str__(self)

    def __format__(self, specification: str) -> str:
        return str.__format__(self, specification)


class SessionEndReason(_Word):
    """Why a session ended."""

    USER_END = "REASON_USER_END"
    USER_ABANDONED = "REASON_USER_ABANDONED"
    NATURAL_END = "REASON_NATURAL_END"


class TypingState(_Word):
    """Whether somebody has started or stopped typing."""

    STARTED = "TYPING_STATE_STARTED"
    STOPPED = "TYPING_STATE_STOPPED"


class AttachmentContentType(_Word):
    """What an attachment's `content_url` leads to."""

    URL = "ATTACHMENT_CONTENT_TYPE_URL"
    IMAGE = "ATTACHMENT_CONTENT_TYPE_IMAGE"


class SystemMessageLevel(_Word):
    """How serious a message of the server is."""

    INFO = "SYSTEM_MESSAGE_LEVEL_INFO"
    WARNING = "SYSTEM_MESSAGE_LEVEL_WARNING"
    ERROR = "SYSTEM_MESSAGE_LEVEL_ERROR"


class HandoffReason(_Word):
    """Why the application is asked to route the user to a human."""

    COMPLEX_QUERY = "COMPLEX_QUERY"
    AGENT_DECISION = "AGENT_DECISION"
    POLICY = "POLICY"


class HandoffStatus(_Word):
    """How far the handoff to a human has come."""

    REQUESTED = "requested"
    QUEUED = "queued"
    ACCEPTED = "accepted"
    CONNECTED = "connected"
    CLIENT_REQUIRED = "client_required"
    FAILED = "failed"
    TIMED_OUT = "timed_out"


class ConnectionStatus(_Word):
    """What a client's connection is doing."""

    IDLE = "idle"
    CONNECTING = "connecting"
    OPEN = "open"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"
    FAILED = "failed"


class Value:
    """What the attrs classes here and of the events have in common.

    attrs would write these methods for each class, which takes most of the time of
    importing the package; they are needed too seldom for that.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        names = (f.name for f in self._fields())
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def __hash__(self) -> int:
        names = (f.name for f in self._fields() if f.hash is not False)
        return hash((self.__class__, *(getattr(self, name) for name in names)))

    def __repr__(self) -> str:
        """Show what is not at its default, and no secret."""
        shown = []
        for f in self._fields():
            value = getattr(self, f.name)
            # The default of a mapping is an empty one.
            if f.repr and value != f.default and value != {}:
                shown.append(f"{f.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    @classmethod
    def _fields(cls) -> tuple[Any, ...]:
        every: tuple[Any, ...] = fields(cls)  # type: ignore[arg-type]
        return every


@frozen(eq=False, repr=False, weakref_slot=False)
class Attachment(Value):
    """A card with a picture or a link, shown beside the text of a message.

    Attributes:
        title: The heading.
        preview_image_url: The address of a picture to show.
        content_url: Where a click leads.
        content_type: What is found there.
        call_to_action_text: The label of the button.
    """

    title: str | None = None
    preview_image_url: str | None = None
    content_url: str | None = None
    content_type: AttachmentContentType | str | None = None
    call_to_action_text: str | None = None


@frozen(eq=False, repr=False, weakref_slot=False)
class ResponseSuggestion(Value):
    """An answer that the agent proposes; to pick it, send its `message_text`.

    Attributes:
        message_text: What to show, and to send when it is picked.
        payload: What some servers add; any JSON value.
    """

    message_text: str = field(default="", metadata={"required": True})
    payload: Any = field(default=None, hash=False)


@frozen(eq=False, repr=False, weakref_slot=False)
class ChatCallAction(Value):
    """A phone number that the agent offers to call.

    Attributes:
        title: The label of the button.
        contact_number: The number to call, as the server writes it.
    """

    title: str | None = None
    contact_number: str | None = None


@frozen(eq=False, repr=False, weakref_slot=False)
class Agent(Value):
    """Who answers: the PolyAI agent or a human.

    Attributes:
        id: The server's identifier; the PolyAI agent has none.
        name: The name to show.
        avatar_url: The address of the portrait.
    """

    id: str | None = None
    name: str | None = None
    avatar_url: str | None = None


@frozen(eq=False, repr=False, weakref_slot=False)
class Capabilities(Value):
    """What the server allows and advises at the start of a session.

    Attributes:
        streaming: Whether replies come in chunks.
        max_message_size_bytes: The largest frame a client may send, in bytes; 0 for
            no limit.
        max_reconnect_attempts: How often to try to reconnect.
        heartbeat_interval_seconds: The time between heartbeats, in seconds; 0 for
            none at all.
    """

    streaming: bool | None = None
    max_message_size_bytes: int | None = None
    max_reconnect_attempts: int | None = None
    heartbeat_interval_seconds: float | None = None


@frozen(eq=False, repr=False, weakref_slot=False)
class Handoff(Value):
    """Where the handoff to a human stands.

    Attributes:
        status: How far it has come.
        queue_name: The queue that the user waits in.
        position_in_queue: The user's place in it; 1 is the next.
        estimated_wait_seconds: How long the wait may still be, in seconds.
        display_message: A sentence for the user.
        reason: Why it is needed, or why it failed.
        route: Where the application should send the user.
    """

    status: HandoffStatus
    queue_name: str | None = None
    position_in_queue: int | None = None
    estimated_wait_seconds: float | None = None
    display_message: str | None = None
    reason: HandoffReason | str | None = None
    route: str | None = None


@frozen(eq=False, repr=False, weakref_slot=False)
class ConnectionChange(Value):
    """What `Client.on_connection_change` is told; it is not an event of the server.

    Attributes:
        status: The new status.
        attempt: Which attempt to reconnect this is, from 1; 0 outside reconnecting.
        delay: The time until the attempt, in seconds.
        reason: Why the status changed, for people to read.
    """

    status: ConnectionStatus
    attempt: int = 0
    delay: float = 0.0
    reason: str = ""


_SPEAKERS = {
    "user": "User",
    "agent": "Agent",
    "live_agent": "Live agent",
    "system": "System",
}


@frozen(eq=False, repr=False, weakref_slot=False)
class TranscriptItem(Value):
    """One message of a conversation, whoever wrote it.

    Attributes:
        role: ``"user"``, ``"agent"``, ``"live_agent"`` or ``"system"``.
        text: The message.
        timestamp: When the server recorded it; None while it has not.
        agent_name: The name of the agent or live agent.
        message_id: The server's identifier of the message.
        attachments: The cards beside the text.
        response_suggestions: The answers that the agent proposes.
        chat_call_actions: The phone numbers that the agent offers.
        complete: False if only a part of a streamed reply came.
        delivery: For the user's messages ``"pending"``, ``"sent"`` or ``"failed"``.
        level: For the server's messages their level.
    """

    role: str
    text: str = ""
    timestamp: datetime | None = None
    agent_name: str | None = None
    message_id: str | None = None
    attachments: tuple[Attachment, ...] = ()
    response_suggestions: tuple[ResponseSuggestion, ...] = ()
    chat_call_actions: tuple[ChatCallAction, ...] = ()
    complete: bool = True
    delivery: str | None = None
    level: SystemMessageLevel | str | None = None

    def __str__(self) -> str:
        note = {"pending": " (sending)", "failed": " (not sent)"}.get(
            self.delivery or "", "" if self.complete else " (incomplete)"
        )
        lines = [f"{_SPEAKERS.get(self.role, self.role)}: {self.text}{note}"]
        for card in self.attachments:
            address = card.content_url or card.preview_image_url
            lines.append("  " + ": ".join(filter(None, (card.title, address))))
        for action in self.chat_call_actions:
            parts = filter(None, (action.title, action.contact_number))
            lines.append("  " + ": ".join(parts))
        return "\n".join(line.rstrip() for line in lines if line.strip())


class Transcript(Sequence[TranscriptItem]):
    """The messages of a conversation in their order, for people to read.

    An immutable sequence: index it, slice it, iterate over it. ``str(transcript)`` is
    plain text, one message a line. What the agent wrote is in it as it came, HTML
    and Markdown included.
    """

    __slots__ = ("_items",)

    _items: tuple[TranscriptItem, ...]

    def __init__(self, items: Iterable[TranscriptItem] = ()) -> None:
        self._items = tuple(items)

    @overload
    def __getitem__(self, index: int) -> TranscriptItem: ...
    @overload
    def __getitem__(self, index: slice) -> Transcript: ...
    def __getitem__(self, index: int | slice) -> TranscriptItem | Transcript:
        if isinstance(index, slice):
            return Transcript(self._items[index])
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Transcript):
            return self._items == other._items
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return f"Transcript({list(self._items)!r})"

    def __str__(self) -> str:
        return "\n".join(map(str, self._items))
