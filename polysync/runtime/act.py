"""What a step of the rules leaves to be done once the lock is released."""

from __future__ import annotations

import logging
from collections.abc import Callable

from polysync.protocol.tickets import Ticket
from polysync.runtime.websocket import Connection

__all__ = ["Act"]

logger = logging.getLogger(__name__)


class Act:
    """What is left to do when the lock is released, in this order."""

    __slots__ = ("connections", "records", "settled", "steps")

    def __init__(self, first: Callable[[], object] | None = None) -> None:
        self.connections: list[Connection] = []
        self.steps: list[Callable[[], object]] = [] if first is None else [first]
        self.settled: list[Ticket] = []
        self.records: list[tuple[int, str, tuple[object, ...]]] = []

    def perform(self) -> None:
        """Send, carry out, wake, log.

        Never waits for the server: what the system does not take at once is sent by
        another thread, as the caller of this one has a timeout to keep.
        """
        try:
            for connection in self.connections:
                connection.flush()
            for step in self.steps:
                step()
        finally:
            for ticket in self.settled:
                if ticket.wake is not None:
                    ticket.wake()
            for level, message, values in self.records:
                logger.log(level, message, *values)
