"""When to send a heartbeat, and when a missing echo means a dead connection.

A half-open connection takes what is written and gives nothing back, so only the echo
tells. It is noticed within one interval and one timeout. Silence of the conversation
itself means nothing: a heartbeat keeps a session alive through an hour in a queue.
"""

from __future__ import annotations

__all__ = ["Heartbeat"]


class Heartbeat:
    """The heartbeat of the latest connection; times in monotonic seconds."""

    __slots__ = ("_connected", "_interval", "_next_at", "_overdue_at", "_timeout")

    def __init__(self, interval: float, timeout: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._connected = False
        self._next_at: float | None = None
        self._overdue_at: float | None = None

    @property
    def on(self) -> bool:
        """Whether heartbeats are sent at all."""
        return bool(self._interval)

    def set_interval(self, interval: float, now: float) -> None:
        """Follow what the session asks for; 0 turns heartbeats off."""
        if interval == self._interval:
            return
        self._interval = interval
        if self._connected:
            self._next_at = now + interval if interval else None
        if not interval:
            self._overdue_at = None

    def start(self, now: float, *, at_once: bool) -> bool:
        """A connection is open; true if a heartbeat is to be sent at once."""
        self.stop()
        self._connected = True
        if not self._interval:
            return False
        if at_once:
            self._sent(now)
            return True
        self._next_at = now + self._interval
        return False

    def stop(self) -> None:
        """The connection is gone."""
        self._connected = False
        self._next_at = self._overdue_at = None

    def echoed(self) -> None:
        """The echo has come: the connection lives."""
        self._overdue_at = None

    @property
    def deadline(self) -> float | None:
        """When there is something to do."""
        if self._overdue_at is None or self._next_at is None:
            return self._next_at
        return min(self._next_at, self._overdue_at)

    def overdue(self, now: float) -> bool:
        """Whether the connection counts as dead."""
        return self._overdue_at is not None and now >= self._overdue_at

    def due(self, now: float) -> bool:
        """Whether a heartbeat is to be sent now."""
        if self._next_at is None or now < self._next_at:
            return False
        self._sent(now)
        return True

    def probe(self, now: float) -> bool:
        """Something hangs on an echo; true if a heartbeat is to be sent at once."""
        if self._next_at is None:
            return False
        self._sent(now)
        return True

    def _sent(self, now: float) -> None:
        self._next_at = now + self._interval
        # An echo still awaited keeps its deadline: interval may be below timeout.
        if self._overdue_at is None:
            self._overdue_at = now + self._timeout
