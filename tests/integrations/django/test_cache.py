"""A Django cache on polysync's threads."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.core.cache import InvalidCacheBackendError, caches
from django.db import connections
from django.test import override_settings

from polysync import CacheStore
from polysync.integrations.django.cache import SharedCache
from polysync.runtime import threads
from polysync.sessions.lock import lock_directory

pytestmark = pytest.mark.usefixtures("site")


def test_cache_that_does_not_exist() -> None:
    """An alias that is not there is told at once."""
    with pytest.raises(InvalidCacheBackendError):
        SharedCache("elsewhere")


def test_cache_keeps_and_adds() -> None:
    """The four calls do what the store needs."""
    cache = SharedCache("default")
    cache.set("a", "1", 60)
    assert cache.get("a") == "1"
    assert cache.add("a", "2", 60) is False
    assert cache.add("b", "2", 60) is True
    cache.delete("a")
    assert cache.get("a") is None


def test_cache_of_files_has_locks_in_files() -> None:
    """The store knows a cache of files behind this one, as it has no atomic add."""
    assert lock_directory(SharedCache("default")) is not None
    with CacheStore(SharedCache("default")).lock("key", timeout=1):
        pass


class Closing:
    """A cache backend that counts how often it is closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    def get(self, key: str) -> Any:
        connections["default"].ensure_connection()
        return key

    def close(self, **_: Any) -> None:
        self.closed.append(threading.current_thread().name)


@pytest.mark.parametrize("ours", [True, False])
def test_connections_of_our_threads_are_closed(
    ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request ends on our threads, so what they open is closed after each call."""
    backend = Closing()
    monkeypatch.setattr(type(caches), "__getitem__", lambda self, alias: backend)
    cache = SharedCache("default")
    left = []

    def work() -> None:
        cache.get("a")
        left.append(connections["default"].connection is not None)
        connections.close_all()

    thread = threads.spawn("test", work) if ours else threading.Thread(target=work)
    if not ours:
        thread.start()
    thread.join(5)
    assert left == [not ours]
    assert len(backend.closed) == (1 if ours else 0)


def test_database_cache_serves_as_a_store(django_database: None) -> None:
    """A cache in the database works, from threads that are not a request's too."""
    from django.core.management import call_command

    backend = "django.core.cache.backends.db.DatabaseCache"
    with override_settings(
        CACHES={"default": {"BACKEND": backend, "LOCATION": "cache_table"}}
    ):
        call_command("createcachetable", verbosity=0)
        cache = SharedCache("default")
        store = CacheStore(cache)
        seen = []
        with store.lock("key", timeout=1):
            cache.set("a", "1", 60)
            thread = threads.spawn("test", lambda: seen.append(cache.get("a")))
            thread.join(5)
        assert seen == ["1"]
        connections.close_all()
