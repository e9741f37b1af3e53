"""`polysync run`: what it prints and writes, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from polysync.cli import main
from polysync.cli.progress import LiveProgress, PlainProgress, progress_for
from polysync.sandbox import EchoAgent, Moment, Sandbox, SilentAgent
from polysync.scenarios import Failure, Outcome, Turn

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples" / "batch" / "scripts"
PATIENCE = 20.0 * float(os.environ.get("POLYSYNC_TEST_UNIT", "1"))


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox that echoes, to which the environment points."""
    with Sandbox(EchoAgent) as server:
        monkeypatch.setenv("POLYSYNC_ENVIRONMENT", server.base_url)
        monkeypatch.setenv("POLYSYNC_CONNECTOR_TOKEN", server.connector_token)
        monkeypatch.setenv("POLYSYNC_HOST", server.host)
        yield server


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """A script that passes with an agent that echoes."""
    path = tmp_path / "talk.yaml"
    path.write_text(
        "name: Echo\nvariables: {word: hello}\n"
        "steps: [{say: '${word}', expect: hello}]\n"
    )
    return path


def test_examples_pass(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The example scripts hold with the built-in sandbox, and give both reports."""
    junit, page = tmp_path / "out" / "junit.xml", tmp_path / "report.html"

    code = main(
        [
            *("run", str(EXAMPLES), "--repeat", "2", "--parallel", "6"),
            *("--junit", str(junit), "--html", str(page), "--max-p95", "60"),
        ]
    )

    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert re.match(r"12 passed, 0 did not: 12 conversations in [\d.]+ s", printed.out)
    assert re.search(r"^reply +\d+( +\d+\.\d{3}){5}$", printed.out, re.MULTILINE)
    assert "12 of 12: 12 passed" in printed.err
    assert ElementTree.parse(junit).getroot().get("tests") == "12"
    assert "Book a table [people=two, shown=2]" in page.read_text(encoding="utf-8")


def test_failure_is_told_and_is_code_1(
    capsys: pytest.CaptureFixture[str], sandbox: Sandbox, talk: Path
) -> None:
    """A conversation that does not pass is shown at once, and again at the end."""
    code = main(["run", str(talk), "--repeat", "2", "--var", "word=bye"])

    printed = capsys.readouterr()
    assert code == 1
    where = f"{talk}:3"
    assert f"failed: Echo #1 ({where}): 'hello' is missing, in: 'bye'" in printed.err
    assert f"Echo: 2 of 2 did not pass; first at {where}: 'hello'" in printed.out
    assert sandbox.connector_token not in printed.out + printed.err


def test_mistakes_are_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """All mistakes are listed, and nothing is played."""
    (tmp_path / "a.yaml").write_text("steps:\n  - sya: x\n")
    (tmp_path / "b.yaml").write_text("steps:\n  - say: ${x}\n")
    assert main(["run", str(tmp_path), str(tmp_path / "c.yaml")]) == 2
    errors = capsys.readouterr().err
    assert f"{tmp_path}/a.yaml:2: a step has no 'sya' (did you mean 'say'?)" in errors
    assert f"{tmp_path}/b.yaml:2: there is no variable 'x'" in errors
    assert f"{tmp_path}/c.yaml: there is no such file" in errors


def test_check_plays_nothing(
    capsys: pytest.CaptureFixture[str], sandbox: Sandbox, talk: Path
) -> None:
    """Scripts can be looked at without a server."""
    assert main(["run", "--check", str(talk)]) == 0
    assert capsys.readouterr().out == "1 conversations, no mistakes\n"
    assert not sandbox.sessions


def test_slow_replies_are_code_1(
    capsys: pytest.CaptureFixture[str], sandbox: Sandbox, talk: Path
) -> None:
    """A limit for the 95th percentile makes a load test fail."""
    assert main(["run", str(talk), "--max-p95", "0.000001"]) == 1
    assert "replies are too slow: p95 is 0.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        ["--parallel", "0"],
        ["--repeat", "x"],
        ["--var", "novalue"],
        ["--var", "a-b=1"],
        ["--max-p95", "-1"],
    ],
)
def test_wrong_arguments_are_code_2(talk: Path, wrong: list[str]) -> None:
    """Numbers that make no sense are refused before anything happens."""
    with pytest.raises(SystemExit) as caught:
        main(["run", str(talk), *wrong])
    assert caught.value.code == 2


def test_unwritable_report_is_told_before(
    capsys: pytest.CaptureFixture[str], sandbox: Sandbox, talk: Path
) -> None:
    """Not after the run, when it is too late."""
    assert main(["run", str(talk), "--html", str(talk / "report.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert not sandbox.sessions


@pytest.mark.subprocess
def test_interrupt_leaves_a_report(sandbox: Sandbox, tmp_path: Path) -> None:
    """^C stops a run at once, writes what there is, and ends with code 130."""
    sandbox.agent = SilentAgent()
    (tmp_path / "wait.yaml").write_text(
        "steps: [{say: x}, {expect: {text: y, within: 600}}]\n"
    )
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "polysync", "run", str(tmp_path / "wait.yaml")),
            *("--repeat", "20", "--html", str(tmp_path / "report.html")),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        said = sandbox.wait_until(
            lambda: len(sandbox.received.events("USER_MESSAGE")) >= 10, PATIENCE
        )
        assert said
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "20 were not played to their end" in out
    assert "0 of 20 played" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_unreachable_server_is_an_error_each(
    capsys: pytest.CaptureFixture[str], sandbox: Sandbox, talk: Path
) -> None:
    """A server that refuses is told for each conversation, not as a crash."""
    sandbox.faults.refuse(Moment.SESSION, 401, times=None)
    assert main(["run", str(talk)]) == 1
    assert "error: Echo #1" in capsys.readouterr().err


def outcome(reply: float, failure: Failure | None = None) -> Outcome:
    return Outcome(
        script="Echo", failure=failure, turns=(Turn(at=0, first=reply, reply=reply),)
    )


def test_plain_progress_has_a_line_for_each_tenth(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where there is no terminal, a run of any length writes a dozen lines."""
    with progress_for(200) as progress:
        assert isinstance(progress, PlainProgress)
        for _ in range(200):
            progress.tell(outcome(0.5))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1] == (
        "polysync: 200 of 200: 200 passed, reply p50 0.50 s, p95 0.50 s"
    )


def test_very_many_failures_are_not_all_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first are enough to see what is wrong."""
    bad = outcome(1, Failure(kind="failed", message="no\x1b[31m"))
    with PlainProgress(1000) as progress:
        for _ in range(100):
            progress.tell(bad)
    errors = capsys.readouterr().err
    assert errors.count("failed: Echo #1 (Echo): no\n") == 20
    assert "more do not pass" in errors


def test_live_progress_shows_how_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a terminal, a bar counts, and failures stay above it."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress_for(3) as progress:
        assert isinstance(progress, LiveProgress)
        for reply in (0.1, 0.2, 0.3):
            progress.tell(outcome(reply))
        progress.tell(outcome(9, Failure(kind="error", message="it [red] broke")))
    errors = capsys.readouterr().err
    assert "error: Echo #1 (Echo): it [red] broke" in errors
    assert "3 passed, 1 did not, reply p50 0.20 s" in errors
