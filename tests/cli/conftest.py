"""What the tests of the command line need: ends of terminals, and the command run."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from polysync.cli import main

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT = 20.0 * float(os.environ.get("POLYSYNC_TEST_UNIT", "1"))


@attrs.frozen
class Outcome:
    """How a command went."""

    code: int
    out: str
    err: str


class Run:
    """Runs the command in this process, with the given text as standard input."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        path: Path,
    ) -> None:
        self._monkeypatch, self._capsys, self._path = monkeypatch, capsys, path

    def __call__(self, *arguments: str, stdin: str = "") -> Outcome:
        file = self._path / "stdin.txt"
        file.write_text(stdin, encoding="utf-8")
        with file.open(encoding="utf-8") as stream:
            self._monkeypatch.setattr(sys, "stdin", stream)
            try:
                code = main(arguments)
            except SystemExit as end:
                code = int(end.code or 0)
        captured = self._capsys.readouterr()
        return Outcome(code, captured.out, captured.err)


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Run:
    """Run the command in this process: ``run("chat", "--json", stdin="Hello")``."""
    return Run(monkeypatch, capsys, tmp_path)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Put the credentials of a sandbox into the environment."""

    def put(sandbox: Any) -> None:
        monkeypatch.setenv("POLYSYNC_ENVIRONMENT", sandbox.base_url)
        monkeypatch.setenv("POLYSYNC_CONNECTOR_TOKEN", sandbox.connector_token)
        monkeypatch.setenv("POLYSYNC_HOST", sandbox.host)

    return put


class Written(io.StringIO):
    """A stream that another thread can wait on for a text to be written."""

    def __init__(self, terminal: bool = False) -> None:
        super().__init__()
        self._arrived = threading.Condition()
        self._terminal = terminal
        self._seen = 0

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str) -> int:
        with self._arrived:
            super().write(text)
            self._arrived.notify_all()
        return len(text)

    def wait_for(self, text: str, timeout: float = TIMEOUT) -> str:
        """Wait for a text after what was waited for last; return all up to it."""

        def found() -> bool:
            return text in self.getvalue()[self._seen :]

        with self._arrived:
            if not self._arrived.wait_for(found, timeout):
                pytest.fail(f"no {text!r} in {self.getvalue()[self._seen :]!r}")
            everything = self.getvalue()
            end = everything.index(text, self._seen) + len(text)
            part, self._seen = everything[self._seen : end], end
            return part


_CONTROL = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")


def seen(written: str) -> list[str]:
    """Return the lines that a terminal shows of what was written to it.

    It is as high as need be, and never wraps.
    """
    rows = [""]
    row = column = 0
    for match in _CONTROL.finditer(written):
        text, number = match[0], int((match[1] or "").split(";")[0].strip("?") or "0")
        if text == "\r":
            column = 0
        elif text == "\n":
            # The line discipline of a terminal makes both out of it.
            row, column = row + 1, 0
            rows += [""] * (row + 1 - len(rows))
        elif match[2] in ("A", "B"):
            row = max(0, row + max(1, number) * (-1 if match[2] == "A" else 1))
            rows += [""] * (row + 1 - len(rows))
        elif match[2] in ("C", "D"):
            column = max(0, column + max(1, number) * (-1 if match[2] == "D" else 1))
        elif match[2] == "J" and number == 0:
            rows[row:] = [rows[row][:column]]
        elif match[2] == "K":
            rows[row] = "" if number == 2 else rows[row][:column]
        elif not match[2]:
            line = rows[row].ljust(column)
            rows[row] = line[:column] + text + line[column + len(text) :]
            column += len(text)
    return [line.rstrip().replace("\u00a0", " ") for line in rows]


# Keys such as ^C reach a process only from the terminal that controls it.
_AT_A_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from polysync.cli import main
sys.exit(main())
"""


class Pseudoterminal:
    """The command in a process of its own, at a terminal."""

    def __init__(self, arguments: tuple[str, ...], environ: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        size = struct.pack("HHHH", 30, 100, 0, 0)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _AT_A_TERMINAL, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env={
                **os.environ,
                "PROMPT_TOOLKIT_NO_CPR": "1",
                "TERM": "xterm",
                **environ,
            },
            start_new_session=True,
        )
        self.settings = termios.tcgetattr(slave)
        self._slave = slave
        self._closed = False
        self.tidy = False
        self.output = Written()
        self._reader = threading.Thread(target=self._read, name="terminal")
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65_536)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                return
            if not data:
                return
            self.output.write(data.decode(errors="replace"))

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, text: str) -> str:
        return self.output.wait_for(text)

    def ends(self, timeout: float = TIMEOUT) -> int:
        """Wait for the process to end; return its exit code."""
        return self.process.wait(timeout)

    def close(self) -> None:
        """Kill what still runs; note whether the terminal is as it was before."""
        if self._closed:
            return
        self._closed = True
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.tidy = termios.tcgetattr(self._slave) == self.settings
        os.close(self._slave)
        self._reader.join()
        os.close(self._master)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Pseudoterminal]]:
    """Start the command at a terminal: ``terminal("chat", POLYSYNC_HOST=…)``."""
    opened: list[Pseudoterminal] = []

    def start(*arguments: str, **environ: str) -> Pseudoterminal:
        opened.append(Pseudoterminal(arguments, environ))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command in a process of its own, with pipes."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "polysync", *arguments],
            cwd=ROOT,
            text=True,
            **{
                "stdin": subprocess.PIPE,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **options,
            },
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        with process:
            pass
