"""What a pool knows of a conversation, of a request, and of itself."""

from __future__ import annotations

import threading

import attrs

from polysync.client import Client
from polysync.runtime.clock import Deadline

__all__ = ["Entry", "PoolStatistics", "Wish"]


@attrs.define
class PoolStatistics:
    """What a pool has done in this process."""

    #: Clients that are connected now.
    live: int = 0
    #: Requests that have a client now.
    in_use: int = 0
    #: How often the live client of this process served.
    hits: int = 0
    #: How often a conversation was taken up from the store.
    resumed: int = 0
    #: How often a conversation was begun.
    created: int = 0
    #: How often a client was detached, as it was idle or there were too many.
    detached: int = 0


@attrs.define(eq=False)
class Entry:
    """A conversation that this process is busy with, or has a live client of."""

    key: str
    client: Client | None = None
    users: int = 0
    used_at: float = 0.0
    saved_at: float = float("-inf")
    #: Held by whoever has the conversation for itself.
    turn: threading.Lock = attrs.field(factory=threading.Lock)
    #: Held while the client is being looked for or connected.
    opening: threading.Lock = attrs.field(factory=threading.Lock)


@attrs.frozen
class Wish:
    """What a request wants of a conversation."""

    exclusive: bool
    create: bool
    new: bool
    ended: bool
    deadline: Deadline

    @property
    def left(self) -> float:
        """Seconds that the request may still wait."""
        return self.deadline.remaining() or 0.0
