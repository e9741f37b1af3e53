"""A store from a setting: the cache that an address names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from polysync.errors import ConfigurationError
from polysync.sessions.memory import MemoryCache
from polysync.sessions.redis import RedisCache
from polysync.sessions.store import CacheStore

__all__ = ["store_from"]

#: How many files cachelib keeps before it removes the oldest; its own default of 500
#: would lose conversations.
_FILES = 100_000


def store_from(
    setting: Any,
    *,
    prefix: str = "polysync:",
    timeout: float = 600.0,
    encryption_keys: Sequence[str | bytes] = (),
) -> CacheStore:
    """Make the store that a setting means.

    Args:
        setting: ``"memory"``, for one process; ``"redis://host:6379/0"`` (also
            ``rediss://``, ``unix://``; needs the ``redis`` extra);
            ``"file:///var/cache/chat"`` (needs ``cachelib``); a cache with ``get``,
            ``set``, ``add`` and ``delete``; or a `CacheStore`, to which the other
            arguments do not apply.
        prefix: See `CacheStore`.
        timeout: See `CacheStore`.
        encryption_keys: See `CacheStore`.

    Raises:
        ConfigurationError: It means none, or a package is missing.
    """
    if isinstance(setting, CacheStore):
        return setting
    return CacheStore(
        _cache(setting) if isinstance(setting, str) else setting,
        prefix=prefix,
        timeout=timeout,
        encryption_keys=encryption_keys,
    )


def _cache(address: str) -> Any:
    # Never in an error: the address may hold a password.
    scheme = urlsplit(address).scheme
    if address == "memory":
        return MemoryCache()
    try:
        if scheme in ("redis", "rediss", "unix"):
            return RedisCache.from_url(address)
        if scheme == "file":
            from cachelib.file import FileSystemCache

            path = unquote(urlsplit(address).path)
            return FileSystemCache(path, threshold=_FILES, mode=0o600)
    except ImportError as error:
        raise ConfigurationError(
            f"a {scheme} store needs the package {error.name}: pip install "
            "polysync[redis]"
        ) from error
    except (ValueError, OSError) as error:
        raise ConfigurationError(
            f"the {scheme} store cannot be used: {type(error).__name__}"
        ) from error
    raise ConfigurationError(
        'a store is "memory", a redis:// or file:// address, a cache, or a CacheStore'
    )
