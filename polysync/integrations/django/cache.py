"""A Django cache as `polysync.CacheStore` needs it: usable from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.core.cache import caches
from django.db import connections

__all__ = ["SharedCache"]


class SharedCache:
    """The cache of an alias, whichever thread asks.

    Django opens a cache's connections per thread, and closes them after a request.
    polysync's own threads (the one that renews locks, those of callbacks) see no
    request, so what they open is closed at once: of the cache, and of the database,
    where `DatabaseCache` keeps its entries.
    """

    def __init__(self, alias: str) -> None:
        caches[alias]  # raises for an alias that does not exist
        self._alias = alias

    def __repr__(self) -> str:
        return f"<SharedCache {self._alias}>"

    def __getattr__(self, name: str) -> Any:
        # By a cache's further attributes, the store knows a cache of files.
        if name.startswith("__") or name == "_alias":
            raise AttributeError(name)
        return getattr(caches[self._alias], name)

    def get(self, key: str) -> Any:
        """Return a value, or ``None``."""
        return self._call(lambda cache: cache.get(key))

    def set(self, key: str, value: Any, timeout: Any = None) -> Any:
        """Keep a value for ``timeout`` seconds."""
        return self._call(lambda cache: cache.set(key, value, timeout))

    def add(self, key: str, value: Any, timeout: Any = None) -> bool:
        """Keep a value unless there is one; true if it was kept."""
        return bool(self._call(lambda cache: cache.add(key, value, timeout)))

    def delete(self, key: str) -> Any:
        """Forget a value."""
        return self._call(lambda cache: cache.delete(key))

    def _call(self, work: Callable[[Any], Any]) -> Any:
        cache = caches[self._alias]
        if not threading.current_thread().name.startswith("polysync-"):
            return work(cache)
        try:
            return work(cache)
        finally:
            cache.close()
            connections.close_all()
