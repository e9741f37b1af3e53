"""Redis as a cache: `RedisCache`."""

from __future__ import annotations

from typing import Any

__all__ = ["RedisCache"]


class RedisCache:
    """A cache for `CacheStore` on a Redis, with every step atomic.

    cachelib's adds an entry and lets it expire in two steps; a process that is killed
    in between leaves a lock that never expires.

    Args:
        client: A ``redis.Redis``, with or without ``decode_responses``. It connects
            with the first use, and copes with forks.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def __repr__(self) -> str:
        return "<RedisCache>"  # not the client: its address may hold a password

    @classmethod
    def from_url(cls, url: str, **options: Any) -> RedisCache:
        """Make one for a ``redis://``, ``rediss://`` or ``unix://`` address.

        Args:
            url: The address.
            **options: As for ``redis.Redis.from_url``. A Redis that does not answer is
                given up after 5 s, unless ``socket_timeout`` says otherwise.

        Raises:
            ImportError: The ``redis`` package (extra ``redis``) is not there.
            ValueError: It is no such address.
        """
        from redis import Redis

        times = {"socket_timeout": 5.0, "socket_connect_timeout": 5.0}
        return cls(Redis.from_url(url, **{**times, **options}))

    def get(self, key: str) -> Any:
        """Return a value, as text or bytes, or ``None``."""
        return self._client.get(key)

    def set(self, key: str, value: str, timeout: float = 300) -> bool:
        """Keep a value for ``timeout`` seconds."""
        return bool(self._client.set(key, value, px=_milliseconds(timeout)))

    def add(self, key: str, value: str, timeout: float = 300) -> bool:
        """Keep a value unless there is one; true if it was kept."""
        return bool(self._client.set(key, value, px=_milliseconds(timeout), nx=True))

    def delete(self, key: str) -> bool:
        """Forget a value; true if there was one."""
        return bool(self._client.delete(key))


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))
