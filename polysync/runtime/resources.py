"""What a client holds of the process, and how it is given back.

Kept apart from the engine so that the finalizer of a forgotten client has something to
clean up with that does not keep the client alive.
"""

from __future__ import annotations

import os
import threading
import warnings

from polysync.runtime import threads, timers
from polysync.runtime.callbacks import Line
from polysync.runtime.cancel import Cancel
from polysync.runtime.timers import Timer
from polysync.runtime.websocket import Connection

__all__ = ["CLOSE_TIMEOUT", "GOODBYE_TIMEOUT", "Resources"]

#: Seconds in which `Client.close` has ended every thread, or leaves it to itself.
CLOSE_TIMEOUT = 0.9

#: Seconds that the server has to answer a close frame.
GOODBYE_TIMEOUT = 0.5


class Resources:
    """The connections, threads and timer of one client."""

    __slots__ = (
        "__weakref__",
        "cancel",
        "connections",
        "leaving",
        "line",
        "pid",
        "starter",
        "timer",
    )

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.connections: dict[int, Connection] = {}
        self.leaving: list[Connection] = []
        self.cancel = Cancel()
        self.starter: threading.Thread | None = None
        self.timer: Timer | None = None
        self.line = Line()

    @property
    def forked(self) -> bool:
        """Whether this process is a child of the one that made the client."""
        return os.getpid() != self.pid

    @property
    def live(self) -> bool:
        """Whether anything is left to give back."""
        return bool(self.connections) or (
            self.starter is not None and self.starter.is_alive()
        )

    def let_go(self, connection: Connection) -> None:
        """Keep a connection that is at its end only until its threads have ended.

        Needs the client's lock.
        """
        self.leaving = [
            each
            for each in (*self.leaving, connection)
            if each.alive or any(thread.is_alive() for thread in each.threads)
        ]

    def tidy(self) -> None:
        """Forget the thread of a start that is over: it keeps 2 KiB for nothing."""
        if self.starter is not None and not self.starter.is_alive():
            self.starter = None

    def join(self, timeout: float, *, callbacks: bool = True) -> bool:
        """Wait until all threads have ended, save the one that asks.

        Args:
            timeout: Seconds.
            callbacks: Whether to wait for the callbacks too.
        """
        leaving, self.leaving = self.leaving, []
        running: list[threading.Thread | None] = [self.starter]
        for connection in leaving:
            running += connection.threads
        if callbacks:
            running.append(self.line.thread)
        ended = threads.join(running, timeout)
        timers.settle(0.1)
        return ended

    def forget(self) -> None:
        """In a child process: let go of what is the parent's, without a word to it."""
        for connection in (*self.connections.values(), *self.leaving):
            connection.forget()
        self.connections.clear()
        self.leaving.clear()

    def abandon(self) -> None:
        """The client is garbage, or the interpreter exits: end everything at once."""
        if self.forked:
            self.forget()
            return
        # The collector may run in a thread that is just starting, while the one that
        # starts it waits for it with the timers' lock held.
        if self.timer is not None:
            self.timer.discard()
        self.cancel.cancel()
        self.line.finish()
        connections = list(self.connections.values())
        self.connections.clear()
        self.leaving += connections
        for connection in connections:
            connection.abort()


def finalize(resources: Resources, description: str) -> None:
    """Clean up after a client that was never closed."""
    live = resources.live and not resources.forked
    resources.abandon()
    if not live:
        return
    if _exiting():
        # Soon daemon threads are stopped wherever they are, with whatever they hold;
        # what runs after that must not find a lock of theirs taken.
        resources.join(CLOSE_TIMEOUT)
    else:
        warnings.warn(
            f"{description} was forgotten while it was open: close() it, or use it in "
            "a with statement",
            ResourceWarning,
            stacklevel=2,
        )


def _exiting() -> bool:
    return not threading.main_thread().is_alive()
