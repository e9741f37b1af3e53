"""One scripted conversation, ready to be played."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from polysync.scenarios.steps import Choose, Expect, Say, Step

if TYPE_CHECKING:
    from polysync.scenarios.talk import Talk

__all__ = ["WITHIN", "Script"]

#: How long an expectation waits unless something else is said, in seconds.
WITHIN = 30.0


@attrs.frozen(kw_only=True)
class Script:
    """A conversation as a list of steps; it can be pickled and sent elsewhere.

    Attributes:
        name: What it is called in reports.
        steps: What happens, in order.
        path: The file that it comes from, if any.
        line: Where it begins there.
        variables: What ``${name}`` stands for.
        within: How long each expectation waits, in seconds.
        greeting: Whether the agent speaks first.
        streaming: Whether replies come in chunks.
    """

    name: str
    steps: tuple[Step, ...] = ()
    path: str = ""
    line: int = 0
    variables: dict[str, str] = attrs.field(factory=dict)
    within: float = WITHIN
    greeting: bool = True
    streaming: bool = True

    def perform(self, talk: Talk) -> None:
        """Hold the conversation.

        Raises:
            Unmet: An expectation is not met.
            PolysyncError: The conversation failed.
        """
        for step in self.steps:
            talk.line = step.line
            if isinstance(step, Say):
                talk.say(step.text)
            elif isinstance(step, Choose):
                talk.choose(step.suggestion)
            elif isinstance(step, Expect):
                talk.check(step)
