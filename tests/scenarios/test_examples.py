"""The examples of scripted conversations run as their page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from polysync.scenarios import load_scripts

ROOT = Path(__file__).resolve().parent.parent.parent
BATCH = ROOT / "examples" / "batch"


def test_scripts_have_no_mistakes() -> None:
    """All files are found: two cases, two documents, two functions."""
    scripts = load_scripts(BATCH / "scripts")
    assert len(scripts) == 6
    assert len({script.name for script in scripts}) == 6


@pytest.mark.subprocess
def test_nightly_run(tmp_path: Path) -> None:
    """The program plays everything on the sandbox and leaves both reports."""
    done = subprocess.run(
        [sys.executable, str(BATCH / "nightly.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("30 conversations, 95 % of the replies within")
    assert (tmp_path / "junit.xml").is_file()
    assert (tmp_path / "report.html").is_file()
