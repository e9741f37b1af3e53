"""One thread per process that wakes what is due.

A client has one deadline at a time, and it mostly moves later: every message that
comes in puts off the next heartbeat. So moving a deadline later costs a dictionary
entry and wakes nobody; the thread finds out when it wakes for the old one. The
thread starts with the first deadline and ends when there is none left.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import queue
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from polysync.runtime import threads
from polysync.runtime.clock import Clock, monotonic

__all__ = ["Timer", "Timers", "settle", "wake"]

logger = logging.getLogger(__name__)


#: Entries of the heap that may be stale, besides a quarter of those that are not.
_STALE = 32


class Timers:
    """A heap of deadlines and the thread that waits for the first of them.

    Args:
        clock: What tells the time, in seconds. After a clock of a test has jumped,
            call `wake`.
    """

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        # Reentrant: the collector may run in here and finalise a client, which then
        # cancels its timer. Every step below leaves the tables usable for that.
        self._lock = threading.RLock()
        self._wanted: dict[Timer, float] = {}
        #: The earliest entry of a timer in the heap; later ones of it are stale.
        self._queued: dict[Timer, float] = {}
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        # A SimpleQueue is the one thing that may be put into from a weakref callback.
        self._wakeups: queue.SimpleQueue[Timer | None] = queue.SimpleQueue()
        self._wakes_at: float | None = None
        self._thread: threading.Thread | None = None
        self._last: threading.Thread | None = None

    def set(self, timer: Timer, when: float | None) -> None:
        """Have ``timer`` fire at ``when`` instead of at any other time."""
        with self._lock:
            if when is None:
                if self._wanted.pop(timer, None) is not None:
                    if not self._wanted:
                        self._wakeups.put(None)
                    elif len(self._heap) > 1.25 * len(self._wanted) + _STALE:
                        self._tidy()
                return
            self._wanted[timer] = when
            queued = self._queued.get(timer)
            if queued is None or when < queued:
                self._queued[timer] = when
                heapq.heappush(self._heap, (when, next(self._order), timer))
                if self._wakes_at is None or when < self._wakes_at:
                    self._wakeups.put(None)
            if self._thread is None:
                try:
                    self._thread = self._last = threads.spawn("timers", self._run)
                except Exception:
                    self._wanted.pop(timer, None)
                    raise

    def _tidy(self) -> None:
        """Take out what is stale, which costs memory and wakes the thread for nothing.

        Needs the lock.
        """
        self._queued = dict(self._wanted)
        self._heap = [
            (at, next(self._order), timer) for timer, at in self._wanted.items()
        ]
        heapq.heapify(self._heap)

    def discard(self, timer: Timer) -> None:
        """Forget a timer whose owner is gone; safe in a weakref callback."""
        self._wakeups.put(timer)

    def wake(self) -> None:
        """Have the thread look at the clock again."""
        self._wakeups.put(None)

    @property
    def thread(self) -> threading.Thread | None:
        """The thread while it runs."""
        return self._thread

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until the thread has ended, which it does when nothing is scheduled.

        Args:
            timeout: Seconds.

        Returns:
            Whether it has ended. Always true at once on the thread itself.
        """
        with self._lock:
            last = self._last
            if self._wanted:
                return False
        return threads.join([last], timeout)

    def _run(self) -> None:
        while True:
            with self._lock:
                due = self._due()
                if not due and not self._wanted:
                    # Whoever sets a timer from now on starts a new thread.
                    self._heap.clear()
                    self._queued.clear()
                    self._thread = None
                    self._wakes_at = None
                    return
                self._wakes_at = self._heap[0][0] if self._heap else None
                if due:
                    # Callbacks may take a while; a timer that is set meanwhile is
                    # looked at right after them, without being told.
                    self._wakes_at = float("-inf")
            if due:
                for timer in due:
                    timer.fire()
                del due, timer
                continue
            self._sleep()

    def _due(self) -> list[Timer]:
        """Take out the timers whose time has come. Needs the lock."""
        now = self._clock()
        due = []
        while self._heap and self._heap[0][0] <= now:
            at, _, timer = heapq.heappop(self._heap)
            if self._queued.get(timer) != at:
                continue
            del self._queued[timer]
            when = self._wanted.get(timer)
            if when is None:
                continue
            if when <= now:
                del self._wanted[timer]
                due.append(timer)
            else:
                self._queued[timer] = when
                heapq.heappush(self._heap, (when, next(self._order), timer))
        return due

    def _sleep(self) -> None:
        at = self._wakes_at
        # Outside the lock, so `at` may be old by now; then a wake-up is in the queue.
        timeout = None if at is None else max(0.0, at - self._clock())
        try:
            gone = self._wakeups.get(timeout=timeout)
            while True:
                if gone is not None:
                    with self._lock:
                        self._wanted.pop(gone, None)
                gone = self._wakeups.get_nowait()
        except queue.Empty:
            pass


class Timer:
    """Calls a method at a time that can be moved.

    The method's object is held weakly: a timer keeps nobody alive. The method is
    called on the timer thread with no lock held; it must not block, and what it
    raises is logged.

    Args:
        callback: A bound method.
        timers: The heap and thread to use; by default the process's own.
    """

    __slots__ = ("__weakref__", "_method", "_owner", "_timers")

    def __init__(
        self, callback: Callable[[], Any], timers: Timers | None = None
    ) -> None:
        self._timers = _default if timers is None else timers
        # What weakref.WeakMethod does, in a third of its 900 bytes. No type says "a
        # bound method", so mypy misses its parts.
        self._method: Any = callback.__func__  # type: ignore[attr-defined]
        self._owner: weakref.ref[Any] = weakref.ref(
            callback.__self__,  # type: ignore[attr-defined]
            partial(_discard, weakref.ref(self)),
        )

    def set(self, when: float | None) -> None:
        """Fire at ``when``, an instant on the clock, and at no other time.

        Args:
            when: Seconds on the monotonic clock; ``None`` is the same as `cancel`.
        """
        self._timers.set(self, when)

    def cancel(self) -> None:
        """Fire no more. A call that is under way is not waited for."""
        self._timers.set(self, None)

    def discard(self) -> None:
        """Fire never again. Takes no lock, so that the collector may call it."""
        self._timers.discard(self)

    def fire(self) -> None:
        """Call the method, if its object is still there."""
        owner = self._owner()
        if owner is None:
            return
        try:
            self._method(owner)
        except Exception:
            logger.exception("A timer's callback failed")


def _discard(mine: weakref.ref[Timer], _: object) -> None:
    """The owner of a timer is gone."""
    timer = mine()
    if timer is not None:
        timer._timers.discard(timer)


def settle(timeout: float | None = None) -> bool:
    """Wait until the process's timer thread has ended; see `Timers.settle`."""
    return _default.settle(timeout)


def wake() -> None:
    """Have the process's timer thread look at the clock; see `Timers.wake`."""
    _default.wake()


def _after_fork() -> None:
    # The thread is not in the child, and the lock may be held by one that is not.
    for timers in list(_all):
        timers._reset()


_all: weakref.WeakSet[Timers] = weakref.WeakSet()
_default = Timers()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
