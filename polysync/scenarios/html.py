"""The report as one HTML page, with plots, that loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from polysync.errors import ConfigurationError
from polysync.scenarios.outcome import Outcome
from polysync.scenarios.plot import Point, distribution, scatter
from polysync.scenarios.report import KINDS, PERCENTILES, Report, percentile

__all__ = ["html_report"]

#: More failures than these are counted, not shown.
_MOST_FAILURES = 100


def html_report(report: Report, *, title: str = "Scripted conversations") -> str:
    """Return the report as a page.

    Args:
        report: What came of the run.
        title: What to call it.

    Raises:
        ConfigurationError: Jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ConfigurationError(
            "reports in HTML need Jinja2; install it with: pip install 'polysync[run]'"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("polysync.scenarios"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["seconds"] = _seconds
    page: str = environment.get_template("report.html").render(
        title=title,
        report=report,
        started=datetime.fromtimestamp(report.started, timezone.utc),
        heads=[_head(rank) for rank in PERCENTILES],
        rows=[_row(report, kind) for kind in KINDS],
        kinds=KINDS,
        over_time=_over_time(report),
        shares=distribution(
            {kind: report.latencies(kind) for kind in KINDS}, x_name="seconds"
        ),
        scripts=[_script(report, *item) for item in report.by_script().items()],
        failures=report.failures[:_MOST_FAILURES],
        hidden=max(0, len(report.failures) - _MOST_FAILURES),
        samples=_samples(report),
        places=len({each.place for each in report.outcomes if each.place}),
    )
    # Agents can send halves of pairs, which no encoding holds.
    return page.encode(errors="replace").decode()


def _head(rank: int) -> str:
    return "max" if rank == 100 else f"p{rank}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _row(report: Report, kind: str) -> dict[str, Any]:
    values = report.latencies(kind)
    return {
        "kind": kind,
        "count": len(values),
        "values": [percentile(values, rank) for rank in PERCENTILES],
    }


def _script(report: Report, name: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    replies = report.latencies("reply", outcomes)
    return {
        "name": name,
        "path": outcomes[0].path,
        "count": len(outcomes),
        "failed": sum(not each.passed for each in outcomes),
        "p50": percentile(replies, 50),
        "p95": percentile(replies, 95),
        "length": percentile([each.seconds for each in outcomes], 50),
    }


def _over_time(report: Report) -> str:
    points = []
    for outcome in report.outcomes:
        title = f"{outcome.script} #{outcome.number}"
        for turn in outcome.turns:
            if turn.reply is not None:
                at = max(0.0, turn.at - report.started)
                points.append(Point(at, turn.reply, True, title))
        if not outcome.passed:
            at = max(0.0, outcome.started + outcome.seconds - report.started)
            points.append(Point(at, 0.0, False, f"{title} did not pass"))
    replies = report.latencies("reply")
    return scatter(
        points,
        x_name="seconds since the run began",
        y_name="reply, seconds",
        lines={f"p{rank}": percentile(replies, rank) for rank in (50, 95)},
    )


def _samples(report: Report) -> list[Outcome]:
    """Return one conversation of each script that passed, to see what was said."""
    passed = {each.script: each for each in reversed(report.outcomes) if each.passed}
    return [passed[name] for name in report.by_script() if name in passed]
