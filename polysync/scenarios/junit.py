"""The report in JUnit's XML, which every CI server reads."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from xml.etree import ElementTree as Xml

from polysync.scenarios.outcome import Outcome
from polysync.scenarios.report import Report

__all__ = ["junit_report"]

# What XML 1.0 cannot hold, even escaped.
_UNFIT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_report(report: Report) -> str:
    """Return the report as XML: a suite for each script, a case for each repetition."""
    root = Xml.Element("testsuites", _counts(report.outcomes), name="polysync")
    root.set("time", f"{report.seconds:.3f}")
    for name, outcomes in report.by_script().items():
        suite = Xml.SubElement(
            root, "testsuite", _counts(outcomes), name=_fit(name), skipped="0"
        )
        suite.set("time", f"{sum(each.seconds for each in outcomes):.3f}")
        started = min(each.started for each in outcomes)
        suite.set(
            "timestamp",
            datetime.fromtimestamp(started, timezone.utc).isoformat(timespec="seconds"),
        )
        for outcome in outcomes:
            _case(suite, outcome)
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(
        root, encoding="unicode"
    )


def _case(suite: Xml.Element, outcome: Outcome) -> None:
    case = Xml.SubElement(
        suite,
        "testcase",
        name=_fit(f"{outcome.script} #{outcome.number}"),
        classname=_fit(re.sub(r"\.(ya?ml|py)$", "", outcome.path) or "polysync"),
        time=f"{outcome.seconds:.3f}",
    )
    if outcome.path:
        case.set("file", _fit(outcome.path))
    failure = outcome.failure
    if failure is not None:
        tag = "failure" if failure.kind == "failed" else "error"
        child = Xml.SubElement(
            case, tag, message=_fit(failure.message), type=failure.kind
        )
        child.text = _fit(f"{outcome.where}\n{failure.step}: {failure.message}")
    if outcome.transcript:
        said = "\n".join(f"{line.role}: {line.text}" for line in outcome.transcript)
        Xml.SubElement(case, "system-out").text = _fit(said)


def _counts(outcomes: tuple[Outcome, ...]) -> dict[str, str]:
    kinds = [each.failure.kind for each in outcomes if each.failure is not None]
    return {
        "tests": str(len(outcomes)),
        "failures": str(kinds.count("failed")),
        "errors": str(kinds.count("error")),
    }


def _fit(text: str) -> str:
    return _UNFIT.sub("\ufffd", text)
