"""Monotonic time, and how much of it is left for a call."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock", "Deadline", "monotonic"]

#: Something that tells the time in seconds and never goes backwards.
Clock = Callable[[], float]


def monotonic() -> float:
    """Return the monotonic time in seconds, the clock of everything here."""
    return time.monotonic()


class Deadline:
    """An instant that a call must not outlive, made from a timeout.

    Args:
        timeout: Seconds from now, or ``None`` for a call that may take for ever.
        clock: What tells the time.
    """

    __slots__ = ("_clock", "at")

    def __init__(self, timeout: float | None, clock: Clock = monotonic) -> None:
        self._clock = clock
        #: The instant on the clock, or ``None`` for never.
        self.at: float | None = None if timeout is None else clock() + timeout

    def remaining(self) -> float | None:
        """Return the seconds that are left, never below 0; ``None`` is for ever."""
        if self.at is None:
            return None
        left = self.at - self._clock()
        return left if left > 0.0 else 0.0

    @property
    def expired(self) -> bool:
        """Whether the time is over."""
        return self.at is not None and self._clock() >= self.at

    def within(self, timeout: float) -> Deadline:
        """Return a deadline for one step: at most ``timeout`` s, and not past this."""
        left = self.remaining()
        return Deadline(timeout if left is None else min(left, timeout), self._clock)
