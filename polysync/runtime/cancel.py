"""A way to tell blocking network calls in other threads to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Cancel"]


class Cancel:
    """Stops, at once and for good, the calls that were given it.

    A call attaches what wakes it (the shutdown of its socket, say) for as long as
    it may block. All methods may be called from any thread.
    """

    __slots__ = ("_cancelled", "_lock", "_wakers")

    def __init__(self) -> None:
        # Reentrant: a client that is collected cancels from wherever the collector
        # happens to run, which may be in here.
        self._lock = threading.RLock()
        self._cancelled = False
        self._wakers: list[Callable[[], object]] = []

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Stop what is under way, and everything that comes later. Idempotent."""
        with self._lock:
            if self._cancelled:
                return
            self._cancelled = True
            for wake in list(self._wakers):
                wake()

    def wait(self, timeout: float | None) -> bool:
        """Sleep, unless cancelled.

        Args:
            timeout: Seconds, or ``None`` to wait for the cancellation.

        Returns:
            Whether it was cancelled.
        """
        woken = threading.Event()
        with self.attached(woken.set):
            return woken.wait(timeout)

    @contextmanager
    def attached(self, wake: Callable[[], object]) -> Iterator[None]:
        """Have ``wake`` called if the cancellation comes within this context.

        It is called at once if it has come already, and never after the context.
        It must not block.
        """
        with self._lock:
            self._wakers.append(wake)
            if self._cancelled:
                wake()
        try:
            yield
        finally:
            with self._lock:
                self._wakers.remove(wake)
