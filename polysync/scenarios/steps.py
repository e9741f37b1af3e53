"""What a script is made of: say, choose, expect."""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from polysync.scenarios.variables import names_in

__all__ = ["ENDS", "HANDOFFS", "SPEAKERS", "Choose", "Expect", "Say", "Step"]

#: What can be expected of a handoff to a human.
HANDOFFS = ("requested", "accepted", "joined", "failed", "timeout", "required")
#: Why a conversation can be expected to end.
ENDS = ("any", "natural", "user", "abandoned")
#: Whose message can be expected.
SPEAKERS = ("agent", "live_agent")


@attrs.frozen
class Say:
    """Send a message.

    Attributes:
        text: What the user says.
        line: Where it stands in its file, from 1; 0 if nowhere.
    """

    text: str
    line: int = attrs.field(default=0, eq=False)

    def __str__(self) -> str:
        return f"say {self.text!r}"

    def texts(self) -> Iterator[str]:
        """Yield what may have variables in it."""
        yield self.text


@attrs.frozen
class Choose:
    """Send one of the suggestions that the agent has offered last.

    Attributes:
        suggestion: Its text, or a part of it; or its number, from 1.
        line: Where it stands in its file, from 1; 0 if nowhere.
    """

    suggestion: str | int
    line: int = attrs.field(default=0, eq=False)

    def __str__(self) -> str:
        return f"choose {self.suggestion!r}"

    def texts(self) -> Iterator[str]:
        """Yield what may have variables in it."""
        if isinstance(self.suggestion, str):
            yield self.suggestion


@attrs.frozen(kw_only=True)
class Expect:
    """Wait for what the agent is to do, and compare.

    Without ``handoff`` and ``end`` it is about the agent's next message, which must
    fulfil all that is given.

    Attributes:
        text: Texts that the message must contain; case and white space do not matter.
        pattern: A regular expression to be found in the message. Its named groups
            become variables.
        suggestion: Texts of suggestions that must be offered.
        attachment: Titles or addresses of attachments that must be there, or parts.
        by: ``"agent"`` or ``"live_agent"``.
        handoff: A step of a handoff instead of a message, one of `HANDOFFS`.
        end: The end of the conversation instead of a message, one of `ENDS`.
        within: Seconds since the step before; ``None`` for the script's own.
        eventually: Whether messages that do not fit may come before one that does.
        line: Where it stands in its file, from 1; 0 if nowhere.
    """

    text: tuple[str, ...] = ()
    pattern: str | None = None
    suggestion: tuple[str, ...] = ()
    attachment: tuple[str, ...] = ()
    by: str | None = None
    handoff: str | None = None
    end: str | None = None
    within: float | None = None
    eventually: bool = False
    line: int = attrs.field(default=0, eq=False)

    def __str__(self) -> str:
        wanted = [
            f"{name} {', '.join(map(repr, value))}"
            for name, value in (
                ("text", self.text),
                ("suggestion", self.suggestion),
                ("attachment", self.attachment),
            )
            if value
        ]
        if self.pattern is not None:
            wanted.append(f"pattern {self.pattern!r}")
        for name in ("by", "handoff", "end"):
            if getattr(self, name) is not None:
                wanted.append(f"{name} {getattr(self, name)}")
        return f"expect {', '.join(wanted) or 'a message'}"

    def texts(self) -> Iterator[str]:
        """Yield what may have variables in it."""
        yield from (*self.text, *self.suggestion, *self.attachment)
        if self.pattern is not None:
            yield self.pattern

    def captures(self) -> frozenset[str]:
        """Return the names of the variables that the pattern sets."""
        if self.pattern is None:
            return frozenset()
        # Variables in it are not known yet; for the groups any value will do.
        plain = self.pattern
        for name in set(names_in(plain)):
            plain = plain.replace("${" + name + "}", "x")
        return frozenset(re.compile(plain).groupindex)


Step = Say | Choose | Expect
