"""Take the picture of the report that ``polysync run --html`` writes.

``python -m docs.pictures.reports`` takes that of the manual; with a directory, it takes
it there, to be looked at. Needs chromium and chromedriver on PATH.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from docs.pictures.browser import chromium, look, take
from docs.pictures.terminal import sandbox
from docs.pictures.waiting import ROOT, directory

# What the agent of the sandbox does not say.
MISTAKEN = """\
name: terrace
steps:
  - say: Is there a terrace?
    expect: Yes, by the water
"""


def report(page: Path) -> None:
    """Play the examples and a script that fails, as a command."""
    script = page.with_name("terrace.yaml")
    script.write_text(MISTAKEN, encoding="utf-8")
    with sandbox() as environment:
        done = subprocess.run(
            [sys.executable, "-m", "polysync", "run", "examples/batch/scripts", script]
            + ["--parallel", "50", "--repeat", "40", "--html", page],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    if done.returncode != 1:
        raise SystemExit(f"the run ended with {done.returncode} instead of 1")


def main() -> None:
    """Take it."""
    place = directory()
    with (
        tempfile.TemporaryDirectory(prefix="polysync-pictures-") as home,
        chromium() as driver,
    ):
        page = Path(home) / "report.html"
        report(page)
        look(driver, 1000, 895)
        driver.get(page.as_uri())
        take(driver, place / "run-report.png")


if __name__ == "__main__":
    main()
