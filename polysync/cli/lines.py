"""Lines of standard input, read so that another thread can end the wait."""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import socket
import sys
from collections import deque
from types import TracebackType
from typing import TextIO

__all__ = ["Lines"]

_BLOCK = 65_536


class Lines:
    """Gives the lines of a stream, until its end or until `stop`.

    A thread blocked in ``readline`` cannot be woken, and would keep the lock of
    standard input at the interpreter's exit. So this waits for the descriptor and for
    `stop` together, where the system can (Windows cannot: there, `stop` is noticed
    with the next line).

    Args:
        stream: Normally ``sys.stdin``.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        try:
            self._descriptor = stream.fileno()
        except (OSError, ValueError, AttributeError):
            self._descriptor = -1
        encoding = getattr(stream, "encoding", None) or "utf-8"
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._rest = ""
        self._lines: deque[str] = deque()
        self._ended = False
        self._stopped = False
        self._bell, self._button = socket.socketpair()

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._bell.close()
        self._button.close()

    def stop(self) -> None:
        """Let there be no more lines; may be called from any thread, more than once."""
        self._stopped = True
        with contextlib.suppress(OSError):
            self._button.send(b"\0")

    @property
    def left(self) -> int:
        """How many lines have come and were not asked for."""
        return len(self._lines)

    def next(self) -> str | None:
        """Return the next line without its end, or ``None`` when there is none."""
        while not self._stopped:
            if self._lines:
                return self._lines.popleft()
            if self._ended:
                return None
            if self._descriptor < 0:
                line = self._stream.readline()
                return line.rstrip("\r\n") if line else None
            self._read()
        return None

    def _read(self) -> None:
        if sys.platform != "win32":
            ready, _, _ = select.select([self._descriptor, self._bell.fileno()], [], [])
            if self._bell.fileno() in ready:
                return
        data = os.read(self._descriptor, _BLOCK)
        self._ended = not data
        self._rest += self._decoder.decode(data, final=self._ended)
        *whole, self._rest = self._rest.split("\n")
        if self._ended and self._rest:
            whole.append(self._rest)
        self._lines.extend(line.rstrip("\r") for line in whole)
