"""When to ask for the agent: after the replay, once a connection, until it is there.

The request counts as done when any event shows an agent. One that was lost with its
connection is made again on the next. After an error that says the agent is gone or did
not start, it is made again too, but only twice in all and not at once: a server in
trouble is not helped by more of the same.
"""

from __future__ import annotations

__all__ = ["REJOINS", "REJOIN_AFTER", "Joining"]

#: How often an error may make the client ask again.
REJOINS = 2

#: Seconds between such an error and the new request.
REJOIN_AFTER = 2.0


class Joining:
    """Decides when REQUEST_POLY_AGENT_JOIN goes out; times in monotonic seconds."""

    __slots__ = ("_asked_on", "_rejoins", "deadline", "wanted")

    def __init__(self) -> None:
        #: Whether an agent is wanted and none has been seen since it was asked for.
        self.wanted = False
        self.deadline: float | None = None
        # The connection that the request was sent on.
        self._asked_on: int | None = None
        self._rejoins = 0

    @property
    def pending(self) -> bool:
        """Whether a request is on its way."""
        return self.wanted and self._asked_on is not None

    def begin(self, wanted: bool) -> None:
        """A start, or a new one after a failure, of which nothing is remembered."""
        self.wanted = wanted
        self.deadline = self._asked_on = None
        self._rejoins = 0

    def ask(self) -> None:
        """The agent is wanted (again)."""
        self.wanted = True
        self._asked_on = None
        self.deadline = None

    def due(self, generation: int) -> bool:
        """Whether to send the request on the connection, now that it can speak."""
        if not self.wanted or self._asked_on is not None or self.deadline is not None:
            return False
        self._asked_on = generation
        return True

    def lost(self, generation: int | None = None) -> None:
        """A connection is gone, or all are, and with it perhaps the request."""
        if generation is None or self._asked_on == generation:
            self._asked_on = None

    def seen(self) -> None:
        """An agent is there."""
        self.wanted = False
        self.deadline = None

    def failed(self, now: float) -> bool:
        """The server says that no agent is there; false if asking again is no use."""
        if self.deadline is not None:
            return True
        if self._rejoins >= REJOINS:
            self.wanted = False
            return False
        self._rejoins += 1
        self.wanted = True
        self._asked_on = None
        self.deadline = now + REJOIN_AFTER
        return True

    def wake(self, now: float) -> None:
        """The wait after an error may be over."""
        if self.deadline is not None and now >= self.deadline:
            self.deadline = None
