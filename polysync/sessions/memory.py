"""A cache in the memory of one process: `MemoryCache`."""

from __future__ import annotations

import os
import threading
import weakref

from polysync.runtime.clock import monotonic

__all__ = ["MemoryCache"]

#: So many entries may come before those that have expired are looked for.
_STRIDE = 256


class MemoryCache:
    """A cache for `CacheStore` that needs no package and no server.

    For development, tests, and servers that run one process: another process knows
    nothing of it. All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._entries: dict[str, tuple[object, float]] = {}
        self._look_at = _STRIDE
        self._lock = threading.Lock()
        _all.add(self)

    def __repr__(self) -> str:
        return f"<MemoryCache of {len(self._entries)} entries>"

    def get(self, key: str) -> object:
        """Return a value, or ``None`` if there is none (any more)."""
        with self._lock:
            value, until = self._entries.get(key, (None, 0.0))
            return value if monotonic() < until else None

    def set(self, key: str, value: object, timeout: float = 300.0) -> bool:
        """Keep a value for ``timeout`` seconds."""
        with self._lock:
            self._put(key, value, timeout)
            return True

    def add(self, key: str, value: object, timeout: float = 300.0) -> bool:
        """Keep a value unless there is one; true if it was kept."""
        with self._lock:
            _, until = self._entries.get(key, (None, 0.0))
            if monotonic() < until:
                return False
            self._put(key, value, timeout)
            return True

    def delete(self, key: str) -> bool:
        """Forget a value; true if there was one."""
        with self._lock:
            return self._entries.pop(key, None) is not None

    def _put(self, key: str, value: object, timeout: float) -> None:
        now = monotonic()
        self._entries[key] = (value, now + timeout)
        if len(self._entries) >= self._look_at:
            self._entries = {k: e for k, e in self._entries.items() if e[1] > now}
            self._look_at = 2 * len(self._entries) + _STRIDE


_all: weakref.WeakSet[MemoryCache] = weakref.WeakSet()


def _after_fork() -> None:
    for cache in list(_all):
        cache._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
