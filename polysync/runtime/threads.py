"""The threads of polysync: daemons with a name that says what they do."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from polysync.errors import ClientClosedError
from polysync.runtime.clock import Deadline

__all__ = ["join", "spawn"]

logger = logging.getLogger(__name__)

_numbers = itertools.count(1)


def spawn(role: str, target: Callable[..., object], *args: Any) -> threading.Thread:
    """Start a daemon thread that is named ``polysync-<role>-<n>``.

    Args:
        role: What the thread does, in one word.
        target: What it runs.
        *args: What ``target`` is called with.

    Returns:
        The running thread.

    Raises:
        ClientClosedError: No thread can be started, as the interpreter is shutting
            down or the process has reached its limit of threads.
    """
    name = f"polysync-{role}-{next(_numbers)}"
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        # Since 3.12: "can't create new thread at interpreter shutdown"; at any time
        # "can't start new thread".
        raise ClientClosedError(
            f"The thread {name} cannot be started: {error}. Either the interpreter is "
            "shutting down, or the process has too many threads."
        ) from error
    return thread


def join(
    threads: Iterable[threading.Thread | None], timeout: float | None = None
) -> bool:
    """Wait for threads to end, all of them within one timeout.

    The current thread and ``None`` are passed over, so that a thread may take part
    in its own end. Threads that have not stopped in time are named in a warning.

    Args:
        threads: The threads to wait for.
        timeout: Seconds for all of them together, or ``None``.

    Returns:
        Whether all of them have ended.
    """
    deadline = Deadline(timeout)
    current = threading.current_thread()
    late = []
    for thread in threads:
        if thread is None or thread is current:
            continue
        thread.join(deadline.remaining())
        if thread.is_alive():
            late.append(thread.name)
    if late:
        logger.warning(
            "These threads did not stop within %s s: %s", timeout, ", ".join(late)
        )
    return not late
