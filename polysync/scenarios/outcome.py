"""What came of one conversation: plain data that can be pickled."""

from __future__ import annotations

import attrs

__all__ = ["Failure", "Line", "Outcome", "Turn"]


@attrs.frozen
class Line:
    """A line of the transcript.

    Attributes:
        role: ``"user"``, ``"agent"``, ``"live_agent"`` or ``"system"``.
        text: What was said.
    """

    role: str
    text: str


@attrs.frozen(kw_only=True)
class Turn:
    """A message of the user and how long things took, in seconds since it was sent.

    Attributes:
        at: When it was sent, in seconds since the epoch.
        receipt: Until its echo, which is the server's receipt.
        first: Until the first piece of the reply; ``None`` if there was none.
        reply: Until the whole reply; ``None`` if there was none.
    """

    at: float
    receipt: float | None = None
    first: float | None = None
    reply: float | None = None


@attrs.frozen(kw_only=True)
class Failure:
    """Why a conversation did not pass.

    Attributes:
        kind: ``"failed"`` for an expectation that is not met, ``"error"`` for a
            conversation that could not be held.
        message: What happened, in words; without secrets.
        step: The step, in words.
        line: Where the step stands in the script's file; 0 if nowhere.
    """

    kind: str
    message: str
    step: str = ""
    line: int = 0


@attrs.frozen(kw_only=True)
class Outcome:
    """What came of one conversation.

    Attributes:
        script: The script's name.
        path: The script's file.
        number: Which repetition it was, from 1.
        failure: Why it did not pass; ``None`` if it did.
        started: When it began, in seconds since the epoch.
        seconds: How long it took.
        connect: Until the agent was there, with its greeting if the script has one;
            ``None`` if that failed.
        turns: The messages of the user.
        transcript: What was said.
        session_id: The server's name of the session.
        place: Where it was played: host and process.
    """

    script: str
    path: str = ""
    number: int = 1
    failure: Failure | None = None
    started: float = 0.0
    seconds: float = 0.0
    connect: float | None = None
    turns: tuple[Turn, ...] = ()
    transcript: tuple[Line, ...] = ()
    session_id: str | None = None
    place: str = ""

    @property
    def passed(self) -> bool:
        """Whether all went as the script says."""
        return self.failure is None

    @property
    def where(self) -> str:
        """The file and line that a failure is about."""
        if self.failure is None or not self.failure.line:
            return self.path or self.script
        return f"{self.path or self.script}:{self.failure.line}"
