"""``polysync run``: scripted conversations, many at the same time."""

from __future__ import annotations

import argparse
import contextlib
import re
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from polysync.cli.connection import (
    add_connection_options,
    built_in_sandbox,
    seconds,
    target_of,
)
from polysync.cli.progress import progress_for
from polysync.cli.readable import readable_line
from polysync.cli.reporting import FAILURE, INTERRUPTED, USAGE, CommandError, report
from polysync.scenarios.batch import PARALLEL, run_scripts
from polysync.scenarios.html import html_report
from polysync.scenarios.junit import junit_report
from polysync.scenarios.loading import load_scripts
from polysync.scenarios.report import KINDS, PERCENTILES, Report, percentile
from polysync.scenarios.script import Script

__all__ = ["EXAMPLES", "SUMMARY", "configure", "run"]

SUMMARY = "play scripted conversations, to test an agent or to load it"
EXAMPLES = """\
examples:
  polysync run scripts/*.yaml            each script once, ten at a time
  polysync run scripts --parallel 50 --repeat 10
  polysync run scripts --junit junit.xml --html report.html
  polysync run scripts --var city=Leeds --max-p95 4
  polysync run scripts --parallel 500 --dask tcp://scheduler:8786
  polysync run scripts --check           look for mistakes, and play nothing

exit codes: 0 all passed, 1 some did not, 2 mistakes in scripts, 130 interrupted by ^C
"""


def count(text: str) -> int:
    """Read a number from 1 in an argument."""
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def variable(text: str) -> tuple[str, str]:
    """Read ``NAME=VALUE`` in an argument."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "scripts",
        nargs="+",
        metavar="SCRIPT",
        help="YAML or Python files, or directories of them",
    )
    add_connection_options(parser)
    parser.add_argument(
        "--parallel",
        type=count,
        default=PARALLEL,
        metavar="N",
        help=f"how many conversations at the same time (default: {PARALLEL})",
    )
    parser.add_argument(
        "--repeat",
        type=count,
        default=1,
        metavar="N",
        help="how often each script is played (default: 1)",
    )
    parser.add_argument(
        "--var",
        type=variable,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a variable of the scripts; can be given again",
    )
    parser.add_argument(
        "--max-p95",
        type=seconds,
        metavar="SECONDS",
        help="fail if more than 5 %% of the replies take longer",
    )
    parser.add_argument(
        "--junit", metavar="FILE", help="write a report in JUnit's XML, for CI servers"
    )
    parser.add_argument(
        "--html", metavar="FILE", help="write a report with plots as a web page"
    )
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="play on the workers of this dask cluster, such as tcp://host:8786",
    )
    parser.add_argument(
        "--check", action="store_true", help="only look for mistakes in the scripts"
    )


def run(arguments: argparse.Namespace) -> int:
    """Play the scripts; return the exit code."""
    scripts = load_scripts(*arguments.scripts, variables=dict(arguments.var))
    if arguments.check:
        print(f"{len(scripts)} conversations, no mistakes")
        return 0
    for path in filter(None, (arguments.junit, arguments.html)):
        _writable(Path(path))
    outcome, interrupted = _play(arguments, scripts)
    for path, make in (
        (arguments.junit, junit_report),
        (arguments.html, html_report),
    ):
        if path:
            Path(path).write_text(make(outcome), encoding="utf-8")
    _summarise(outcome)
    if interrupted:
        return INTERRUPTED
    return _judge(outcome, arguments.max_p95)


def _play(arguments: argparse.Namespace, scripts: list[Script]) -> tuple[Report, bool]:
    """Play everything; return the report, and whether it was interrupted."""
    target = target_of(arguments)
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = dict(target.options)
        if target.sandboxed:
            options |= stack.enter_context(built_in_sandbox())
        executor: Executor | None = None
        if arguments.dask:
            from polysync.scenarios.cluster import DaskExecutor

            cluster = DaskExecutor(arguments.dask)
            executor = stack.enter_context(cluster)
            report(f"playing on {cluster.workers} workers of {arguments.dask}")
        progress = stack.enter_context(progress_for(len(scripts) * arguments.repeat))
        try:
            done = run_scripts(
                scripts,
                options=options,
                parallel=arguments.parallel,
                repeat=arguments.repeat,
                executor=executor,
                on_outcome=progress.tell,
            )
        except KeyboardInterrupt as interrupt:
            if not (interrupt.args and isinstance(interrupt.args[0], Report)):
                raise
            return interrupt.args[0], True
    return done, False


def _writable(path: Path) -> None:
    """Find out before an hour's run, not after it, that a report cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a", encoding="utf-8").close()
    except OSError as error:
        raise CommandError(
            f"{path} cannot be written: {error.strerror}", USAGE
        ) from error


def _summarise(done: Report) -> None:
    passed = len(done.outcomes) - len(done.failures)
    missing = done.planned - len(done.outcomes)
    words = [f"{passed} passed", f"{len(done.failures)} did not"]
    if missing:
        words.append(f"{missing} were not played to their end")
    print(
        f"{', '.join(words)}: {len(done.outcomes)} conversations in "
        f"{done.seconds:.1f} s, {done.parallel} at a time ({done.rate:.1f}/s)\n"
    )
    heads = ["max" if rank == 100 else f"p{rank}" for rank in PERCENTILES]
    print(f"{'seconds':<10}{'count':>7}" + "".join(f"{head:>9}" for head in heads))
    for kind in KINDS:
        values = done.latencies(kind)
        cells = "".join(
            f"{'-' if value is None else format(value, '.3f'):>9}"
            for value in (percentile(values, rank) for rank in PERCENTILES)
        )
        print(f"{kind:<10}{len(values):>7}{cells}")
    failed = {
        name: bad
        for name, each in done.by_script().items()
        if (bad := sum(not one.passed for one in each))
    }
    if failed:
        print()
    for name, bad in failed.items():
        first = next(one for one in done.failures if one.script == name)
        if first.failure is None:
            raise AssertionError("a failure has a reason")
        print(
            f"{name}: {bad} of {len(done.by_script()[name])} did not pass; first at "
            f"{first.where}: {readable_line(first.failure.message)}"
        )


def _judge(done: Report, max_p95: float | None) -> int:
    if not done.passed:
        return FAILURE
    p95 = percentile(done.latencies("reply"), 95)
    if max_p95 is not None and (p95 is None or p95 > max_p95):
        took = "there was no reply" if p95 is None else f"p95 is {p95:.3f} s"
        report(f"replies are too slow: {took}, and {max_p95:g} s is allowed")
        return FAILURE
    return 0
