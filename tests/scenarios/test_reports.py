"""The reports in XML and HTML."""

from __future__ import annotations

import html
import re
from xml.etree import ElementTree

import pytest

from polysync.scenarios import (
    Failure,
    Line,
    Outcome,
    Report,
    Turn,
    html_report,
    junit_report,
)
from polysync.scenarios.plot import Point, distribution, scatter, ticks

EVIL = "<script>alert('x')</script> & \x00\x1b\ud800 \"quoted\""


def report(*more: Outcome, planned: int = 0) -> Report:
    good = Outcome(
        script="Book",
        path="scripts/book.yaml",
        started=1_790_000_000.0,
        seconds=1.5,
        connect=0.25,
        turns=(Turn(at=1_790_000_001.0, receipt=0.01, first=0.1, reply=0.4),),
        transcript=(Line("agent", "Hello"), Line("user", "A table")),
        place="host:1",
    )
    outcomes = (good, *more)
    return Report(
        outcomes=outcomes,
        planned=planned or len(outcomes),
        started=1_790_000_000.0,
        seconds=3.0,
        parallel=2,
    )


FAILED = Outcome(
    script="Book",
    path="scripts/book.yaml",
    number=2,
    started=1_790_000_000.5,
    seconds=0.5,
    failure=Failure(kind="failed", message="'x' is missing", step="expect 'x'", line=7),
    session_id="session-7",
    place="host:2",
)
ERROR = Outcome(
    script=f"Evil {EVIL}",
    path="scripts/evil.py",
    started=1_790_000_000.5,
    failure=Failure(kind="error", message=EVIL),
    transcript=(Line("agent", EVIL),),
)


def test_junit_has_suites_and_cases() -> None:
    """A suite for each script, with what CI servers count and show."""
    root = ElementTree.fromstring(junit_report(report(FAILED, ERROR)).encode())

    assert (root.get("tests"), root.get("failures"), root.get("errors")) == (
        "3",
        "1",
        "1",
    )
    book, evil = root.findall("testsuite")
    assert (book.get("name"), book.get("tests")) == ("Book", "2")
    assert book.get("timestamp", "").startswith("2026-09-2")
    passed, failed = book.findall("testcase")
    assert passed.get("classname") == "scripts/book"
    assert passed.get("time") == "1.500"
    assert passed.findtext("system-out") == "agent: Hello\nuser: A table"
    assert passed.find("failure") is None
    failure = failed.find("failure")
    assert failure is not None
    assert failure.get("message") == "'x' is missing"
    assert (failure.text or "").startswith("scripts/book.yaml:7\n")
    assert evil.find("testcase/error") is not None


def test_html_says_all() -> None:
    """Verdict, counts, percentiles, plots, failures with their place and talk."""
    page = html_report(report(FAILED, ERROR), title="Nightly")

    assert page.startswith("<!DOCTYPE html>")
    assert "<h1>Nightly</h1>" in page
    assert "3 of 3 played" in page
    assert "400 ms" in page
    assert "scripts/book.yaml:7" in page
    assert "session-7" in page
    assert page.count("<svg") == 2
    assert "in 2 processes" in page
    assert '<circle class="dot bad"' in page


def test_html_loads_nothing_and_runs_nothing() -> None:
    """What agents say is text in the page, and the page needs no other file."""
    page = html_report(report(ERROR), title=EVIL)

    assert "<script" not in page
    assert html.escape("<script>alert(", quote=False) in page
    assert not re.search(r"\b(?:src|href)\s*=|url\(|@import", page)
    assert "default-src 'none'" in page


def test_html_of_nothing() -> None:
    """A run that was interrupted before anything came of it has a page too."""
    empty = Report(outcomes=(), planned=5, started=1_790_000_000.0)
    page = html_report(empty)
    assert "0 of 5 played" in page
    assert not empty.passed


def test_html_can_be_written_as_utf8() -> None:
    """Halves of pairs, which no encoding holds, do not spoil the page."""
    html_report(report(ERROR)).encode()
    junit_report(report(ERROR)).encode()


@pytest.mark.parametrize(
    ("highest", "expected"),
    [
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.034, [0, 0.01, 0.02, 0.03, 0.04]),
        (23.0, [0, 5, 10, 15, 20, 25]),
        (0.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (float("nan"), [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ],
)
def test_ticks_are_round(highest: float, expected: list[float]) -> None:
    """Axes have round numbers, and cover everything."""
    assert ticks(highest) == pytest.approx(expected)


def test_plots_stay_small_and_keep_what_is_bad() -> None:
    """Of very many dots only so many are drawn, but every bad one."""
    points = [Point(float(n), 1.0, n % 1000 != 0, "<&>") for n in range(50_000)]
    svg = scatter(points, x_name="x", y_name="y", lines={"p50": 1.0, "p95": None})
    assert svg.count("dot bad") == 50
    assert svg.count("<circle") < 5000
    assert "<title>&lt;&amp;&gt;</title>" in svg
    ElementTree.fromstring(svg)
    curve = distribution({"a": [float(n) for n in range(9000)], "b": []}, x_name="s")
    assert len(curve) < 30_000
    ElementTree.fromstring(curve)
