"""Shows a run while it goes on: a live line at a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from polysync.cli.readable import readable_line
from polysync.cli.reporting import report
from polysync.scenarios.outcome import Outcome
from polysync.scenarios.report import percentile

__all__ = ["Progress", "progress_for"]

#: How many failures are shown while the run goes on; the rest is in the reports.
_MOST_FAILURES = 20


class Progress(AbstractContextManager["Progress"], ABC):
    """Is told of each outcome.

    Args:
        total: How many there will be.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.failed = 0
        self.replies: list[float] = []

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def tell(self, outcome: Outcome) -> None:
        """Show an outcome."""
        self.done += 1
        self.replies += [each.reply for each in outcome.turns if each.reply is not None]
        if outcome.failure is not None:
            self.failed += 1
            if self.failed <= _MOST_FAILURES:
                self.write(
                    f"{outcome.failure.kind}: {outcome.script} #{outcome.number} "
                    f"({outcome.where}): {readable_line(outcome.failure.message)}"
                )
            elif self.failed == _MOST_FAILURES + 1:
                self.write("more do not pass; they are in the reports")
        self.update()

    @property
    def facts(self) -> str:
        """How it stands, in a few words."""
        words = [f"{self.done - self.failed} passed"]
        if self.failed:
            words.append(f"{self.failed} did not")
        if self.replies:
            words.append(f"reply p50 {percentile(self.replies, 50) or 0:.2f} s")
            words.append(f"p95 {percentile(self.replies, 95) or 0:.2f} s")
        return ", ".join(words)

    @abstractmethod
    def write(self, text: str) -> None:
        """Write a line that stays."""

    @abstractmethod
    def update(self) -> None:
        """Show how it stands now."""

    def close(self) -> None:
        """There will be no more."""


class PlainProgress(Progress):
    """A line for each tenth."""

    def write(self, text: str) -> None:
        report(text)

    def update(self) -> None:
        tenth = self.done * 10 // self.total
        if tenth != (self.done - 1) * 10 // self.total:
            report(f"{self.done} of {self.total}: {self.facts}")


class LiveProgress(Progress):
    """A bar at the foot of the terminal."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.progress import Progress as Bar

        self._bar: Any = Bar(
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True, highlight=False),
            # Drawn when there is news, and at most so often a second.
            refresh_per_second=8,
        )
        self._task = self._bar.add_task("", total=total, facts="")

    def __enter__(self) -> LiveProgress:
        self._bar.start()
        return self

    def write(self, text: str) -> None:
        from rich.text import Text

        self._bar.console.print(Text(text, style="red"))

    def update(self) -> None:
        # Percentiles of all replies cost a sort: not for each one of many.
        every = max(1, self.total // 200)
        if self.done % every == 0 or self.done == self.total:
            self._bar.update(self._task, completed=self.done, facts=self.facts)

    def close(self) -> None:
        self._bar.update(self._task, completed=self.done, facts=self.facts)
        self._bar.stop()


def progress_for(total: int) -> Progress:
    """Return what suits where standard error goes."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        try:
            return LiveProgress(total)
        except ImportError:
            report("for a live display: pip install 'polysync[run]'")
    return PlainProgress(total)
