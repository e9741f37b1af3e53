"""Play all scripts of a folder against an agent, and write the reports.

With ``POLYSYNC_CONNECTOR_TOKEN`` and ``POLYSYNC_HOST`` it is your agent; without them
the sandbox's. ``polysync run`` does the same; this is for those who want more than its
options, such as an executor of their own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from polysync.scenarios import (
    Outcome,
    html_report,
    junit_report,
    load_scripts,
    percentile,
    run_scripts,
)

HERE = Path(__file__).resolve().parent


def tell(outcome: Outcome) -> None:
    """Print what did not pass, as it happens."""
    if outcome.failure is not None:
        print(f"{outcome.where}: {outcome.failure.message}")


def main(folder: Path) -> int:
    """Play, and leave ``junit.xml`` and ``report.html`` in the folder."""
    options = {}
    if "POLYSYNC_CONNECTOR_TOKEN" not in os.environ:
        options["environment"] = "sandbox"
    report = run_scripts(
        load_scripts(HERE / "scripts"),
        options=options,
        parallel=20,
        repeat=5,
        on_outcome=tell,
    )
    (folder / "junit.xml").write_text(junit_report(report), encoding="utf-8")
    (folder / "report.html").write_text(html_report(report), encoding="utf-8")
    slow = percentile(report.latencies("reply"), 95)
    print(
        f"{len(report.outcomes)} conversations, 95 % of the replies within {slow:.2f} s"
    )
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
