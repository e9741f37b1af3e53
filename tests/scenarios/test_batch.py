"""Many conversations at the same time, on threads and other executors."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from polysync import ConfigurationError
from polysync.sandbox import Sandbox, Turn
from polysync.scenarios import (
    Expect,
    Outcome,
    Report,
    Say,
    Script,
    load_scripts,
    percentile,
    run_scripts,
)
from tests.scenarios.conftest import PATIENCE

ROOT = Path(__file__).resolve().parent.parent.parent


def script(name: str, *texts: str) -> Script:
    steps = tuple(step for text in texts for step in (Say(text), Expect(text=(text,))))
    return Script(name=name, steps=steps, within=PATIENCE)


GOOD = script("good", "one ${number}", "two")
BAD = Script(
    name="bad", steps=(Say("x"), Expect(text=("zebra",), within=PATIENCE)), within=1
)


def what(report: Report) -> list[Any]:
    """Return what must be the same wherever scripts are played."""
    return [
        (each.script, each.number, each.failure, each.transcript)
        for each in report.outcomes
    ]


def test_all_are_played(options: dict[str, Any]) -> None:
    """Each script as often as asked for; the report is in the plan's order."""
    told: list[Outcome] = []

    report = run_scripts(
        [GOOD, BAD], options=options, parallel=8, repeat=10, on_outcome=told.append
    )

    assert [(each.script, each.number) for each in report.outcomes] == [
        (name, number) for number in range(1, 11) for name in ("good", "bad")
    ]
    assert len(told) == report.planned == 20
    assert len(report.failures) == 10
    assert not report.passed
    assert {each.script for each in report.failures} == {"bad"}
    assert len(report.latencies("reply")) == 30
    assert len(report.latencies("connect", report.by_script()["good"])) == 10
    assert report.rate > 0


def test_so_many_at_the_same_time(sandbox: Sandbox, options: dict[str, Any]) -> None:
    """As many conversations as asked for are under way together, and no more."""
    barrier = threading.Barrier(4)
    lock, now, most = threading.Lock(), [0], [0]

    def together(turn: Turn) -> str:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        barrier.wait(PATIENCE)
        with lock:
            now[0] -= 1
        return turn.text

    sandbox.agent = together
    report = run_scripts([script("x", "x")], options=options, parallel=4, repeat=8)
    assert report.passed, report.failures
    assert report.parallel == 4
    assert most[0] == 4


def test_results_are_the_same_on_executors(options: dict[str, Any]) -> None:
    """Own threads, somebody's thread pool and processes come to the same."""
    own = run_scripts([GOOD, BAD], options=options, repeat=2)
    with ThreadPoolExecutor(3) as pool:
        threads = run_scripts([GOOD, BAD], options=options, repeat=2, executor=pool)
        assert pool.submit(lambda: 1).result() == 1  # it is not shut down
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as processes:
        apart = run_scripts([GOOD, BAD], options=options, repeat=2, executor=processes)

    assert what(own) == what(threads) == what(apart)
    assert {each.place for each in own.outcomes}.isdisjoint(
        {each.place for each in apart.outcomes}
    )


class Broken(Executor):
    """An executor whose workers die, and that in the end takes no more."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.seen.append(repr(args))
        if len(self.seen) > 1:
            raise RuntimeError("it is broken")
        future: Future[Any] = Future()
        future.set_exception(OSError("the worker connector-secret died"))
        return future


def test_broken_executor_is_an_error() -> None:
    """What an executor loses is told as an error of the conversation."""
    broken = Broken()
    options = {"connector_token": "connector-secret"}
    report = run_scripts([GOOD, BAD], executor=broken, options=options)
    messages = [each.failure.message for each in report.failures if each.failure]
    assert messages == [
        "it could not be played: OSError: the worker *** died",
        "it could not be played: RuntimeError: it is broken",
    ]
    # Executors log what they are given.
    assert "connector-secret" not in "".join(broken.seen)


def test_interrupt_stops_the_run(options: dict[str, Any]) -> None:
    """^C ends what is under way at once, and the report so far is not lost."""
    waiting = Script(name="waits", steps=(Say("silence"), Expect()), within=600)

    def interrupt(outcome: Outcome) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        run_scripts(
            [waiting, waiting, GOOD, waiting, waiting],
            options=options,
            parallel=3,
            on_outcome=interrupt,
        )

    (report,) = caught.value.args
    assert [each.script for each in report.outcomes] == ["good"]
    assert report.planned == 5
    assert not report.passed


@pytest.mark.parametrize("wrong", [{"parallel": 0}, {"repeat": 0}])
def test_wrong_numbers_are_refused(wrong: dict[str, int]) -> None:
    """Below one of either makes no sense, nor does a run of nothing."""
    with pytest.raises(ConfigurationError, match="1 or more"):
        run_scripts([GOOD], **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no scripts"):
        run_scripts([])


def test_everything_can_be_pickled(options: dict[str, Any]) -> None:
    """Scripts and reports survive a pickle as they are."""
    report = run_scripts([GOOD, BAD], options=options)
    assert pickle.loads(pickle.dumps(report)) == report
    assert pickle.loads(pickle.dumps([GOOD, BAD])) == [GOOD, BAD]


def test_percentile_is_a_value_that_was_measured() -> None:
    """The nearest rank, not something in between."""
    values = [float(n) for n in range(100, 0, -1)]
    assert [percentile(values, rank) for rank in (1, 50, 95, 100)] == [1, 50, 95, 100]
    assert percentile([7.0], 50) == 7
    assert percentile([], 50) is None


# A cluster of processes leaves sockets and threads of its own in this one, so it has
# a Python of its own.
CLUSTER = """
import sys
from distributed import LocalCluster
from polysync.cli import main

if __name__ == "__main__":
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        code = main([*sys.argv[1:], "--dask", cluster.scheduler_address])
    sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.subprocess
def test_cluster_comes_to_the_same(
    tmp_path: Path, sandbox: Sandbox, options: dict[str, Any]
) -> None:
    """Two dask workers with a thread each hold 20 conversations at a time."""
    (tmp_path / "cluster.py").write_text(CLUSTER)
    (tmp_path / "talk.yaml").write_text(
        "steps: [{say: 'one ${number}', expect: 'one ${number}'}]\n"
        "---\nsteps: [{say: x}, {expect: {text: zebra, within: 5}}]\n"
    )
    (tmp_path / "talk.py").write_text(
        "from polysync.scenarios import conversation\n"
        "@conversation\n"
        "def python(talk):\n"
        "    talk.say('two')\n"
        "    talk.expect('two')\n"
    )
    barrier = threading.Barrier(20)

    def together(turn: Turn) -> str:
        # Each passes only when so many are there: the workers have two threads.
        barrier.wait(PATIENCE)
        return f"You said: {turn.text}"

    sandbox.agent = together
    done = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", str(tmp_path / "cluster.py"), "run"),
            *(str(tmp_path / "talk.yaml"), str(tmp_path / "talk.py")),
            *("--parallel", "20", "--repeat", "20"),
            *("--junit", str(tmp_path / "junit.xml")),
            *("--html", str(tmp_path / "report.html")),
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "POLYSYNC_ENVIRONMENT": sandbox.base_url,
            "POLYSYNC_CONNECTOR_TOKEN": sandbox.connector_token,
            "POLYSYNC_HOST": sandbox.host,
        },
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert done.returncode == 1, done.stderr
    assert "40 passed, 20 did not: 60 conversations" in done.stdout, done.stdout
    assert sandbox.connector_token not in done.stdout + done.stderr
    assert "in 2 processes" in (tmp_path / "report.html").read_text()
    # The same here, on threads.
    scripts = load_scripts(tmp_path / "talk.yaml", tmp_path / "talk.py")
    here = run_scripts(scripts, options=options, parallel=20, repeat=20)
    assert junit_cases(tmp_path / "junit.xml") == [
        (
            f"{each.script} #{each.number}",
            each.failure and each.failure.message,
            "\n".join(f"{line.role}: {line.text}" for line in each.transcript),
        )
        for outcomes in here.by_script().values()
        for each in outcomes
    ]


def junit_cases(path: Path) -> list[tuple[Any, ...]]:
    from xml.etree import ElementTree

    found = []
    for case in ElementTree.parse(path).iter("testcase"):
        failure = case.find("failure")
        message = None if failure is None else failure.get("message")
        found.append((case.get("name"), message, case.findtext("system-out")))
    return found


def test_no_scheduler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dask, what to install is said."""
    from polysync.scenarios import DaskExecutor

    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigurationError, match=r"polysync\[dask\]"):
        DaskExecutor("tcp://127.0.0.1:1")
