"""What came of many conversations: counts and latencies."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from polysync.scenarios.outcome import Outcome

__all__ = ["KINDS", "PERCENTILES", "Report", "percentile"]

#: The latencies that are measured, and what they mean.
KINDS = {
    "connect": "until the agent is there and has greeted",
    "receipt": "message sent until its echo",
    "first": "message sent until the first piece of the reply",
    "reply": "message sent until the whole reply",
}

#: The percentiles that reports show.
PERCENTILES = (50, 90, 95, 99, 100)


def percentile(values: Sequence[float], rank: float) -> float | None:
    """Return the smallest value that ``rank`` percent of all do not exceed.

    Args:
        values: In any order; for none of them, ``None`` is returned.
        rank: Above 0, up to 100.
    """
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(rank / 100 * len(ordered)) - 1)]


@attrs.frozen(kw_only=True)
class Report:
    """The outcomes of a run, in the order of scripts and repetitions.

    Attributes:
        outcomes: One for each conversation.
        planned: How many there were to be: more, if the run was interrupted.
        started: When the run began, in seconds since the epoch.
        seconds: How long it took.
        parallel: How many conversations were held at the same time.
    """

    outcomes: tuple[Outcome, ...]
    planned: int = 0
    started: float = 0.0
    seconds: float = 0.0
    parallel: int = 1

    @property
    def passed(self) -> bool:
        """Whether all conversations were held and passed."""
        return len(self.outcomes) >= self.planned and not self.failures

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The outcomes that did not pass."""
        return tuple(each for each in self.outcomes if not each.passed)

    @property
    def rate(self) -> float:
        """Conversations per second."""
        return len(self.outcomes) / self.seconds if self.seconds > 0 else 0.0

    def by_script(self) -> dict[str, tuple[Outcome, ...]]:
        """Return the outcomes by the names of their scripts."""
        found: dict[str, list[Outcome]] = {}
        for outcome in self.outcomes:
            found.setdefault(outcome.script, []).append(outcome)
        return {name: tuple(each) for name, each in found.items()}

    def latencies(
        self, kind: str, outcomes: Sequence[Outcome] | None = None
    ) -> list[float]:
        """Return all latencies of a kind, in seconds.

        Args:
            kind: One of `KINDS`.
            outcomes: Of these only; default: of all.
        """
        chosen = self.outcomes if outcomes is None else outcomes
        if kind == "connect":
            values = [each.connect for each in chosen]
        else:
            values = [getattr(turn, kind) for each in chosen for turn in each.turns]
        return [value for value in values if value is not None]
