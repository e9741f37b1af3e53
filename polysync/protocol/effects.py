"""What the rules ask of the world: words for users, frames, orders, settled calls."""

from __future__ import annotations

from typing import Any, NamedTuple

from polysync.protocol.tickets import Ticket

__all__ = ["Connect", "CreateSession", "Disconnect", "Effects", "Order", "Upgrade"]


# Named tuples: attrs takes five times as long to make a class, at every import.


class CreateSession(NamedTuple):
    """Get an access token and a session."""


class Connect(NamedTuple):
    """Open a connection to the server, as far as it goes without a session."""

    #: The number of the connection; what comes of an older one is stale.
    generation: int


class Upgrade(NamedTuple):
    """Let a connection take up the session."""

    generation: int
    #: Replay what comes after this sequence; ``None`` for everything.
    cursor: int | None


class Disconnect(NamedTuple):
    """Close a connection; what it was given to send goes out before."""

    generation: int
    #: WebSocket close code.
    code: int = 1000
    #: Whether to leave at once, as nothing can be expected of the peer any more.
    abort: bool = False


Order = CreateSession | Connect | Upgrade | Disconnect


class Effects:
    """Collects what one step of the rules leads to; the runtime empties it."""

    __slots__ = ("frames", "news", "orders", "records", "settled")

    def __init__(self) -> None:
        #: What users are told, in order: events, `ConnectionChange`, errors.
        self.news: list[Any] = []
        #: Text for the wire, each with the number of its connection.
        self.frames: list[tuple[int, str]] = []
        #: What to do with connections and the session.
        self.orders: list[Order] = []
        #: Tickets whose waiters are to be woken.
        self.settled: list[Ticket] = []
        #: What goes into the log; not at once, as handlers are foreign code.
        self.records: list[tuple[int, str, tuple[object, ...]]] = []

    def log(self, level: int, message: str, *values: object) -> None:
        """Have something logged."""
        self.records.append((level, message, values))

    def settle(self, ticket: Ticket, error: Exception | None = None) -> None:
        """Settle a ticket, unless it is settled or given up."""
        if not ticket.done:
            ticket.done = True
            ticket.error = error
            self.settled.append(ticket)
