"""The user's typing indicator: not too often, and never left on."""

from __future__ import annotations

from polysync.models import TypingState

__all__ = ["TypingIndicator"]

#: At most one STARTED in this many seconds, as the vendor's SDKs do.
STARTED_EVERY = 3.0

#: STOPPED by itself this many seconds after the last sign of typing.
STOPPED_AFTER = 5.0


class TypingIndicator:
    """Decides what of the user's typing is sent; times in monotonic seconds."""

    __slots__ = ("_started_at", "deadline")

    def __init__(self) -> None:
        self._started_at: float | None = None
        self.deadline: float | None = None

    def typed(self, state: TypingState, now: float) -> TypingState | None:
        """The user types or has stopped; return what is to be sent, if anything."""
        if state is TypingState.STOPPED:
            if self.deadline is None:
                return None
            self.deadline = None
            return state
        if self._started_at is not None and now < self._started_at + STARTED_EVERY:
            if self.deadline is not None:
                self.deadline = now + STOPPED_AFTER
            return None
        self._started_at = now
        self.deadline = now + STOPPED_AFTER
        return state

    def due(self, now: float) -> bool:
        """Whether STOPPED is to be sent now."""
        if self.deadline is None or now < self.deadline:
            return False
        self.deadline = None
        return True

    def reset(self) -> None:
        """The connection is gone, and with it what it knew."""
        self._started_at = self.deadline = None
