"""How the commands report: errors in a sentence, and with ``--debug`` all there is."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator

from polysync.runtime.redact import RedactingFilter, redact

__all__ = [
    "CommandError",
    "FAILURE",
    "INTERRUPTED",
    "USAGE",
    "debug_log",
    "hush_stdout",
    "lenient_streams",
    "report",
    "report_traceback",
]

#: Exit codes, beside 0.
FAILURE, USAGE, INTERRUPTED = 1, 2, 130


class CommandError(Exception):
    """Ends a command with a sentence and an exit code."""

    def __init__(self, message: str, code: int = FAILURE) -> None:
        super().__init__(message)
        self.code = code


def report(message: object) -> None:
    """Say what went wrong, or what is to be known, on standard error."""
    text = redact(str(message)).strip()
    with contextlib.suppress(OSError, ValueError):
        print(f"polysync: {text}", file=sys.stderr, flush=True)


def report_traceback() -> None:
    """Show the traceback of the error at hand, without secrets."""
    with contextlib.suppress(OSError, ValueError):
        print(redact(traceback.format_exc()), file=sys.stderr, end="", flush=True)


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]  # 3.10: no generic
    """Writes to what standard error is now: a prompt puts its own in place."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


@contextlib.contextmanager
def debug_log(wanted: bool) -> Iterator[None]:
    """Log everything to standard error for the length of a block."""
    if not wanted:
        yield
        return
    logger = logging.getLogger("polysync")
    handler = _Handler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(threadName)s %(levelname)s %(message)s")
    )
    handler.addFilter(RedactingFilter())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextlib.contextmanager
def lenient_streams() -> Iterator[None]:
    """Write a ``?`` for what the encoding cannot hold, instead of failing."""
    changed = []
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and getattr(stream, "errors", "") == "strict":
            reconfigure(errors="replace")
            changed.append(reconfigure)
    try:
        yield
    finally:
        for reconfigure in changed:
            with contextlib.suppress(OSError, ValueError):
                reconfigure(errors="strict")


def hush_stdout() -> None:
    """Nobody reads the output any more: let the interpreter's last flush go nowhere."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
