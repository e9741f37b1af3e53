"""What a call waits for: a `Ticket` that the rules settle, once.

A ticket knows nothing of threads. Whoever waits puts a function into `wake`; the
runtime calls it, outside its lock, when the rules have settled the ticket.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from polysync.events import (
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
    "MessageTicket",
    "ReplyTicket",
    "Ticket",
]


class Ticket:
    """Something that is settled once, with or without an error."""

    __slots__ = ("done", "error", "wake")

    def __init__(self) -> None:
        self.wake: Callable[[], object] | None = None
        self.done = False
        self.error: Exception | None = None


class ConnectTicket(Ticket):
    """Settled when the conversation has come as far as ``wait`` says."""

    __slots__ = ("wait",)

    def __init__(self, wait: str) -> None:
        super().__init__()
        self.wait = wait


class EndTicket(Ticket):
    """Settled when the conversation is over."""

    __slots__ = ("result",)

    def __init__(self) -> None:
        super().__init__()
        self.result: SessionEnd | None = None


class MessageTicket(Ticket):
    """Settled with the next whole message that nobody else has claimed."""

    __slots__ = ("result",)

    def __init__(self) -> None:
        super().__init__()
        self.result: PolyAgentMessage | LiveAgentMessage | None = None


class Delivery(Ticket):
    """A message of the user on its way; settled with its echo, the receipt."""

    __slots__ = (
        "asked_at",
        "expires_at",
        "frame",
        "generation",
        "id",
        "metadata",
        "patience",
        "reply",
        "result",
        "text",
        "uncertain",
    )

    def __init__(
        self,
        id: str,
        text: str,
        metadata: Mapping[str, str],
        frame: str,
        patience: float | None = None,
        reply: ReplyTicket | None = None,
    ) -> None:
        super().__init__()
        #: The UUID under which the message finds its echo again.
        self.id = id
        self.text = text
        self.metadata = metadata
        self.frame = frame
        #: Seconds that the echo may take once the frame has been written on a
        #: connection whose replay has settled. ``None`` when the caller keeps the time.
        self.patience = patience
        #: What waits for the agent's answer to this message, if anything does.
        self.reply = reply
        #: Connection that the frame was last written on, while its fate is open.
        self.generation: int | None = None
        #: When the call was made, in monotonic seconds.
        self.asked_at = 0.0
        #: Whether the frame may have reached the server.
        self.uncertain = False
        #: When the patience is over, in monotonic seconds.
        self.expires_at: float | None = None
        self.result: UserMessage | None = None


class ReplyTicket(Ticket):
    """Settled with the agent's whole reply; on the way its chunks are collected."""

    __slots__ = ("chunks", "delivery", "message_id", "result", "streaming")

    def __init__(self, *, streaming: bool = False) -> None:
        super().__init__()
        self.delivery: Delivery | None = None
        #: Whether to wake the waiter for each chunk too.
        self.streaming = streaming
        #: The message that answers, once it has begun.
        self.message_id: str | None = None
        self.chunks: deque[PolyAgentMessageChunk] = deque()
        self.result: PolyAgentMessage | LiveAgentMessage | None = None
