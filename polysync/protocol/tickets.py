"""What a call waits for: a `Ticket` that the rules settle, once.

A ticket knows nothing of threads. Whoever waits puts a function into `wake`; the
runtime calls it, outside its lock, when the rules have settled the ticket.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

import attrs

from polysync.events import (
    Event,
    LiveAgentMessage,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    SessionEnd,
    UserMessage,
)

__all__ = [
    "ConnectTicket",
    "Delivery",
    "EndTicket",
    "EventTicket",
    "MessageTicket",
    "ReplyTicket",
    "Ticket",
]


@attrs.define(eq=False)
class Ticket:
    """Something that is settled once, with or without an error."""

    wake: Callable[[], object] | None = attrs.field(default=None, kw_only=True)
    done: bool = attrs.field(default=False, init=False)
    error: Exception | None = attrs.field(default=None, init=False)


@attrs.define(eq=False)
class ConnectTicket(Ticket):
    """Settled when the conversation has come as far as ``wait`` says."""

    wait: str


@attrs.define(eq=False)
class EndTicket(Ticket):
    """Settled when the conversation is over."""

    result: SessionEnd | None = None


@attrs.define(eq=False)
class MessageTicket(Ticket):
    """Settled with the next whole message that nobody else has claimed."""

    result: PolyAgentMessage | LiveAgentMessage | None = None


@attrs.define(eq=False)
class EventTicket(Ticket):
    """Settled with the next event of the wanted types."""

    types: tuple[type[Event], ...]
    result: Event | None = None


@attrs.define(eq=False)
class Delivery(Ticket):
    """A message of the user on its way; settled with its echo, the receipt."""

    #: The UUID under which the message finds its echo again.
    id: str
    text: str
    metadata: Mapping[str, str]
    frame: str
    #: Seconds that the echo may take once the frame has been written on a connection
    #: whose replay has settled. ``None`` when the caller keeps the time.
    patience: float | None = None
    #: What waits for the agent's answer to this message, if anything does.
    reply: ReplyTicket | None = None
    #: Connection that the frame was last written on, while its fate is open.
    generation: int | None = None
    #: When the call was made, in monotonic seconds.
    asked_at: float = 0.0
    #: Whether the frame may have reached the server.
    uncertain: bool = False
    #: When the patience is over, in monotonic seconds.
    expires_at: float | None = None
    result: UserMessage | None = None


@attrs.define(eq=False)
class ReplyTicket(Ticket):
    """Settled with the agent's whole reply; on the way its chunks are collected."""

    delivery: Delivery | None = None
    #: Whether to wake the waiter for each chunk too.
    streaming: bool = False
    #: The message that answers, once it has begun.
    message_id: str | None = None
    chunks: deque[PolyAgentMessageChunk] = attrs.field(factory=deque)
    result: PolyAgentMessage | LiveAgentMessage | None = None
