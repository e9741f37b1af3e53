"""The cache in one process's memory."""

from __future__ import annotations

import threading

import pytest

from polysync.sessions import memory
from polysync.sessions.memory import MemoryCache


def test_values_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has expired is not given, and may be added again."""
    now = 100.0
    monkeypatch.setattr(memory, "monotonic", lambda: now)
    cache = MemoryCache()
    assert cache.add("a", 1, 10)
    assert not cache.add("a", 2, 10)
    assert cache.get("a") == 1
    now = 110.0
    assert cache.get("a") is None
    assert cache.add("a", 2, 10)
    assert cache.get("a") == 2
    assert cache.delete("a")
    assert not cache.delete("a")


def test_expired_values_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are dropped as others come."""
    now = 0.0
    monkeypatch.setattr(memory, "monotonic", lambda: now)
    cache = MemoryCache()
    for number in range(5000):
        now = float(number)
        cache.set(str(number), number, 10)
    assert len(cache._entries) < 600
    assert "entries" in repr(cache)


def test_one_of_many_threads_adds() -> None:
    """Adding is atomic."""
    cache = MemoryCache()
    added: list[bool] = []
    start = threading.Barrier(8)

    def add() -> None:
        start.wait()
        added.append(cache.add("lock", 1, 10))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert added.count(True) == 1
