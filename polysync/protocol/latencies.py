"""How long the server takes to confirm a message, and the agent to begin its reply."""

from __future__ import annotations

__all__ = ["Latencies", "Times"]


class Times:
    """Sums up how long something took; in seconds."""

    __slots__ = ("count", "last", "longest", "total")

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0
        self.total = 0.0
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        """It has taken so long once more."""
        self.count += 1
        self.last = seconds
        self.total += seconds
        if seconds > self.longest:
            self.longest = seconds


class Latencies:
    """The times from the call that sends a message."""

    __slots__ = ("echo", "first_chunk")

    def __init__(self) -> None:
        #: Until the echo has come.
        self.echo = Times()
        #: Until the reply has begun.
        self.first_chunk = Times()
