"""Session states in a cache that all processes share: `CacheStore`."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from polysync.errors import ConfigurationError, PolysyncError
from polysync.sessions.lock import (
    Cache,
    LockTimeoutError,
    cache_lock,
    file_lock,
    lock_directory,
    make_private,
)
from polysync.sessions.state import SessionState

__all__ = ["CacheStore", "LockTimeoutError", "StoreError"]

logger = logging.getLogger(__name__)

#: Seconds that the server keeps a session to which nobody sends a message.
SESSION_LIFE = 600.0


class StoreError(PolysyncError):
    """The cache that keeps the conversations failed; the cause says how."""

    retryable = True


class CacheStore:
    """Keeps the session states of conversations in a cache, with a lock for each.

    Any cache with ``get``, ``set``, ``add`` and ``delete`` will do, such as Django's
    ``caches["default"]`` and cachelib's ``RedisCache`` or ``FileSystemCache``. All
    processes that serve a conversation have to share it: a cache in the memory of one
    process loses conversations as soon as there are two. It is used by several threads
    at once; of Django's take ``django.core.cache.cache`` or a ``ConnectionProxy``, as
    ``caches["name"]`` itself belongs to one thread. Give a cache of files, or in a
    database, room: Django's remove conversations that go on as soon as they hold more
    than ``MAX_ENTRIES`` (300), cachelib's more than ``threshold`` (500). cachelib's
    ``RedisCache`` needs a client without ``decode_responses``.

    Everything is kept as JSON text under names that begin with ``prefix``. A lock is an
    entry of its own that expires 10 s after its holder has died. Caches of files cannot
    add an entry atomically; for cachelib's and Django's the locks are files that the
    operating system locks, in ``lock_directory``.

    A state holds the session's access token, which is a secret. With
    ``encryption_keys`` it is encrypted at rest (Fernet, of the ``cryptography``
    package; extra ``encryption``).

    Args:
        cache: The cache.
        prefix: Begins the key of every entry.
        timeout: Seconds that a state is kept after it was last saved.
        encryption_keys: Fernet keys. The first one encrypts, all of them decrypt, so
            that keys can be rotated: put a new one in front, drop the old one when
            ``timeout`` has passed.
        lock_directory: Where locks are files. By default a directory of the user's
            own among the system's temporary files for a cache of files; for any other
            cache, locks are entries of the cache.

    Raises:
        ConfigurationError: The cache lacks a method, or a key is none.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        prefix: str = "polysync:",
        timeout: float = SESSION_LIFE,
        encryption_keys: Sequence[str | bytes] = (),
        lock_directory: str | os.PathLike[str] | None = None,
    ) -> None:
        for method in ("get", "set", "add", "delete"):
            if not callable(getattr(cache, method, None)):
                raise ConfigurationError(
                    f"a {type(cache).__name__} is no cache: it has no {method}()"
                )
        if not timeout >= 1:
            raise ConfigurationError("timeout must be 1 s at least")
        self._cache = cache
        self._prefix = prefix
        self._timeout = timeout
        self._fernet = _fernet(encryption_keys)
        self._own_locks = lock_directory is not None
        self._locks = _locks_of(cache) if lock_directory is None else lock_directory

    def __repr__(self) -> str:
        sealed = "encrypted" if self._fernet else "in plain"
        return f"<CacheStore {self._prefix} in {type(self._cache).__name__}, {sealed}>"

    @property
    def cache(self) -> Cache:
        """The cache that it was made with."""
        return self._cache

    @property
    def timeout(self) -> float:
        """Seconds that a state is kept after it was last saved."""
        return self._timeout

    def load(self, key: str) -> SessionState | None:
        """Return the state of a conversation, or ``None`` if there is none (any more).

        What cannot be read, because it was written by another version or with a key
        that is gone, counts as none and is logged.

        Raises:
            StoreError: The cache failed.
        """
        with _working():
            stored = self._cache.get(self._name("state", key))
        if stored is None:
            return None
        try:
            return SessionState.from_json(self._open(stored))
        except (ConfigurationError, TypeError, ValueError) as error:
            logger.warning(
                "a saved conversation cannot be read: %s",
                error if isinstance(error, ConfigurationError) else "it is damaged",
            )
            return None

    def save(self, key: str, state: SessionState) -> None:
        """Keep the state of a conversation for ``timeout`` seconds.

        Raises:
            StoreError: The cache failed.
        """
        text = state.to_json()
        value = self._fernet.encrypt(text.encode()).decode() if self._fernet else text
        with _working():
            kept = self._cache.set(self._name("state", key), value, int(self._timeout))
        if kept is False:  # cachelib's way to fail; Django's caches return None
            raise StoreError("the cache did not keep a conversation")

    def delete(self, key: str) -> None:
        """Forget a conversation.

        Raises:
            StoreError: The cache failed.
        """
        with _working():
            self._cache.delete(self._name("state", key))

    @contextmanager
    def lock(self, key: str, *, timeout: float = 30.0) -> Iterator[None]:
        """Hold a conversation for oneself, over all processes that share the cache.

        Args:
            key: The conversation.
            timeout: Seconds to wait for the holder before; 0 tries once.

        Raises:
            LockTimeoutError: The holder before did not end in time.
            StoreError: The cache failed.
        """
        name = self._name("lock", key)
        held: AbstractContextManager[None]
        with _working():
            if self._locks is None:
                held = cache_lock(self._cache, name, timeout)
            else:
                place = Path(self._locks)
                if self._own_locks:
                    place.mkdir(parents=True, exist_ok=True)
                else:
                    make_private(place)
                held = file_lock(
                    place / hashlib.sha256(name.encode()).hexdigest(), timeout
                )
            held.__enter__()
        try:
            yield
        finally:
            try:
                held.__exit__(None, None, None)
            except Exception as error:
                # It expires by itself, and what was done is done. Without its text:
                # it may quote the address of the cache with its password.
                logger.warning(
                    "a lock could not be given back: the cache failed (%s)",
                    type(error).__name__,
                )

    def _name(self, kind: str, key: str) -> str:
        # Hashed: memcached takes no long keys and no odd characters, and a key may be
        # something that should not be found in a cache, such as a session's.
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self._prefix}1:{kind}:{digest[:40]}"

    def _open(self, stored: Any) -> str:
        if not isinstance(stored, (str, bytes)):
            raise ConfigurationError("it is no text")
        if self._fernet is None:
            return stored.decode() if isinstance(stored, bytes) else stored
        from cryptography.fernet import InvalidToken

        try:
            data: bytes = self._fernet.decrypt(stored)
        except InvalidToken:
            raise ConfigurationError("no key fits") from None
        return data.decode()


def _locks_of(cache: Cache) -> Path | None:
    # Where the operating system has no flock(), the cache has to do.
    return lock_directory(cache) if os.name == "posix" else None


@contextmanager
def _working() -> Iterator[None]:
    """Turn what a cache raises, of whatever library, into one error."""
    try:
        yield
    except PolysyncError:
        raise
    except Exception as error:
        # Without its text: it may quote the address of the cache with its password.
        raise StoreError(
            f"the cache of conversations failed ({type(error).__name__})"
        ) from error


def _fernet(keys: Sequence[str | bytes]) -> Any:
    if not keys:
        return None
    if isinstance(keys, (str, bytes)):
        raise ConfigurationError("encryption_keys is a list of keys, not a single one")
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ImportError as error:
        raise ConfigurationError(
            "encryption needs the cryptography package: pip install "
            "polysync[encryption]"
        ) from error
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except (ValueError, TypeError):
        # Without the cause: it could show a part of the key.
        raise ConfigurationError(
            "an encryption key is no Fernet key: make one with Fernet.generate_key()"
        ) from None
