"""Runs a piece of Python in a process of its own, under the strictest settings."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading

#: Seconds after which a process counts as hanging.
LIMIT = 60.0


def run(code: str, *arguments: str, limit: float = LIMIT) -> str:
    """Run the code and return what it printed; its failure is the test's."""
    done = subprocess.run(
        command(code, *arguments),
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert not done.stderr, done.stderr
    return done.stdout


def command(code: str, *arguments: str) -> list[str]:
    """Return the command that runs the code with every warning an error."""
    source = textwrap.dedent(code)
    return [sys.executable, "-W", "error", "-c", source, *arguments]


class Process:
    """A process that is spoken to by signals while it works."""

    def __init__(self, code: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            command(code, *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # Ends the process, and so the reading below, if it hangs.
        self._guard = threading.Timer(LIMIT, self._process.kill)
        self._guard.start()

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return its code and the rest of what it printed."""
        out, err = self._process.communicate()
        self._guard.cancel()
        self._guard.join()
        return self._process.returncode, out, err
