"""Rounds of measurements, and what is made of them: medians, spreads, ratios.

In a round every contender is measured once, so that a slow moment of the machine hits
all of them alike. A ratio is the median of the rounds' own ratios.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import TypeVar

_T = TypeVar("_T")

#: The values of each contender, one for each round.
Rounds = dict[str, list[float]]

#: How often a peer may fail in one round. polysync may not.
TRIES = 4

#: What a reader of the figures has to know: who was left out, who was tried again.
NOTES: list[str] = []


def note(text: str) -> None:
    """Print what a reader has to know, and keep it for the results."""
    print(text, flush=True)
    NOTES.append(text)


def turns_of(contenders: Iterable[_T], rounds: int | None = None) -> Iterator[list[_T]]:
    """Give the contenders for each round, another one first each time.

    Else the same one would always follow what another leaves behind. Without a number
    the rounds do not end.
    """
    order = deque(contenders)
    for _ in itertools.count() if rounds is None else range(rounds):
        yield list(order)
        order.rotate(-1)


def tried(name: str, measure: Callable[..., float], *args: object) -> float:
    """Measure a contender; a peer again if it fails, polysync not."""
    tries = 1 if name.startswith("polysync") else TRIES
    for left in reversed(range(tries)):
        try:
            return measure(*args)
        except Exception:
            if not left:
                raise
            note(f"measured again: {name}, which failed")
    raise AssertionError("it is measured or fails")


@dataclass
class Section:
    """Measurements of one kind."""

    title: str
    rounds: Rounds = field(default_factory=dict)
    #: The one whose values the others' are divided by.
    floor: str | None = None

    def add(self, name: str, value: float) -> None:
        """Add what a contender took in this round."""
        self.rounds.setdefault(name, []).append(value)

    def median(self, name: str) -> float | None:
        """Return the median of the rounds; None for what was not measured."""
        values = self.rounds.get(name)
        return median(values) if values else None

    def spread(self, name: str) -> float | None:
        """Return half the distance between the quartiles; None for a single value."""
        values = self.rounds[name]
        if len(values) < 2:
            return None
        low, _, high = quantiles(values, n=4)
        return (high - low) / 2

    def ratio(self, name: str, floor: str | None = None) -> float | None:
        """Return how much it is of the floor; None if one of the two is missing."""
        mine = self.rounds.get(name)
        base = self.rounds.get(floor or self.floor or "")
        if not mine or not base:
            return None
        return median(m / b for m, b in zip(mine, base, strict=True))

    def rows(self) -> dict[str, dict[str, float]]:
        """Return what the tables say of each contender."""
        rows = {}
        for name in self.rounds:
            figures = {
                "median": self.median(name),
                "spread": self.spread(name),
                "ratio": self.ratio(name),
            }
            rows[name] = {k: v for k, v in figures.items() if v is not None}
        return rows

    def __str__(self) -> str:
        heads = ["median", "spread", "ratio"] if self.floor else ["median", "spread"]
        lines = [f"{self.title:40}" + "".join(f"{head:>10}" for head in heads)]
        for name, row in self.rows().items():
            cells = (f"{row[h]:10.2f}" if h in row else " " * 10 for h in heads)
            lines.append(f"  {name:38}{''.join(cells)}".rstrip())
        return "\n".join(lines)
