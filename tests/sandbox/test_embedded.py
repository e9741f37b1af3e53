"""One sandbox a process, started when it is first asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from polysync.sandbox import Sandbox, embedded


def test_there_is_one_a_process() -> None:
    found: list[Sandbox] = []
    threads = [
        threading.Thread(target=lambda: found.append(embedded())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    assert found[0].running


def test_one_that_was_stopped_is_replaced() -> None:
    first = embedded()
    first.stop()

    assert embedded() is not first
    assert embedded().running


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_the_child_of_a_fork_gets_its_own() -> None:
    mine = embedded()
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            theirs = embedded()
            good = theirs is not mine and theirs.running and theirs.port != mine.port
            theirs.stop()
            os._exit(0 if good else 2)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert embedded() is mine


@pytest.mark.subprocess
def test_it_does_not_keep_the_process_alive() -> None:
    program = "from polysync.sandbox import embedded; print(embedded().running)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
