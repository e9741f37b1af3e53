"""Locks that all processes share: one holder at a time, and none that outlives it.

A lock is an entry of the cache that expires soon and is renewed while it is held, so
that it dies with its holder: a worker that is killed blocks a conversation for seconds,
not for as long as a reply may take. Caches of files have no atomic ``add``; there, a
lock is one of the operating system on a file, which dies with its holder at once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import stat
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from polysync.errors import ConfigurationError, PolysyncTimeoutError
from polysync.runtime import threads
from polysync.runtime.clock import Deadline, monotonic
from polysync.runtime.timers import Timer

__all__ = ["Cache", "LockTimeoutError", "cache_lock", "file_lock", "lock_directory"]

logger = logging.getLogger(__name__)

#: Seconds after which the lock of a holder that has died is free.
LIFE = 10

#: Seconds between two looks at a lock that another process holds: a cache can only be
#: asked. Doubled up to the maximum, with jitter.
FIRST_LOOK, LAST_LOOK = 0.01, 0.25

#: Seconds for which a waiter has to see an entry unchanged before it takes the holder
#: for dead: one that is alive changes it with each renewal. For entries that do not
#: expire, as a cache added them without and its process was killed before it could say.
DEAD_AFTER = LIFE + 1.0

#: How many looks in a row have to find an entry that can neither be read nor added:
#: one that has expired, in a cache that minds that only when it is read.
GHOSTS = 5


class Cache(Protocol):
    """What is needed of a cache; Django's and cachelib's have it."""

    def get(self, key: str) -> Any:
        """Return a value, or ``None``."""

    def set(self, key: str, value: Any, timeout: Any = ...) -> Any:
        """Keep a value for ``timeout`` seconds."""

    def add(self, key: str, value: Any, timeout: Any = ...) -> Any:
        """Keep a value unless there is one; true if it was kept."""

    def delete(self, key: str) -> Any:
        """Forget a value."""


class LockTimeoutError(PolysyncTimeoutError):
    """Another request is at work on the conversation, and did not end in time."""

    retryable = True


def busy(timeout: float) -> LockTimeoutError:
    """Return the error of who has waited for ``timeout`` seconds."""
    return LockTimeoutError(
        "another request has been at work on this conversation for more than "
        f"{timeout:.3g} s: try again in a moment",
        timeout=timeout,
    )


@contextmanager
def cache_lock(cache: Cache, key: str, timeout: float) -> Iterator[None]:
    """Hold the lock of this name, an entry of the cache.

    Args:
        cache: The shared cache.
        key: Name of the entry.
        timeout: Seconds to wait for the holder before; 0 tries once.

    Raises:
        LockTimeoutError: The holder before did not end in time.
    """
    token = uuid.uuid4().hex
    seen: str | None = None
    looks, since = 0, monotonic()

    def attempt() -> bool:
        nonlocal seen, looks, since
        if cache.add(key, token, LIFE):
            return True
        found = _text(cache.get(key))
        if found != seen or not looks:
            seen, looks, since = found, 0, monotonic()
        looks += 1
        gone = looks >= GHOSTS if found is None else monotonic() - since > DEAD_AFTER
        if gone:
            looks = 0
            cache.delete(key)
        return False

    _wait_for(attempt, timeout)
    pid = os.getpid()
    try:
        _keeper.hold(cache, key, token)
        yield
    finally:
        if os.getpid() == pid:  # in a child process, the lock is still the parent's
            _keeper.release(token)
            # Not atomic, as a cache has no compare-and-delete; what could be deleted
            # wrongly is a lock taken in between, after ours had expired.
            if _holds(cache, key, token):
                cache.delete(key)


@contextmanager
def file_lock(path: Path, timeout: float) -> Iterator[None]:
    """Hold the operating system's lock on a file that exists for nothing else.

    Args:
        path: The file; its directory exists.
        timeout: Seconds to wait for the holder before; 0 tries once.

    Raises:
        LockTimeoutError: The holder before did not end in time.
    """
    import fcntl

    descriptor = -1

    def attempt() -> bool:
        nonlocal descriptor
        # O_CLOEXEC is Python's default: a program that is started inherits no lock.
        opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before removes the file: ours must be the one of that name.
            if os.path.samestat(os.fstat(opened), os.stat(path)):
                descriptor = opened
                return True
        except (BlockingIOError, FileNotFoundError):
            pass
        finally:
            if descriptor != opened:
                os.close(opened)
        return False

    _wait_for(attempt, timeout)
    pid = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == pid:
            with suppress(OSError):
                path.unlink()
        os.close(descriptor)


def lock_directory(cache: object) -> Path | None:
    """Return where the locks for a cache of files are, or ``None`` for any other cache.

    It is a directory of this user's in the system's directory for temporary files.
    """
    # cachelib's FileSystemCache and Django's FileBasedCache, also behind a proxy.
    for place, mark in (("_path", "_fs_count_file"), ("_dir", "cache_suffix")):
        where = getattr(cache, place, None)
        if isinstance(where, (str, Path)) and hasattr(cache, mark):
            break
    else:
        return None
    digest = hashlib.sha256(os.path.abspath(where).encode("utf-8", "surrogateescape"))
    user = os.getuid() if hasattr(os, "getuid") else "all"
    name = f"polysync-locks-{user}"
    return Path(tempfile.gettempdir()) / name / digest.hexdigest()[:16]


def make_private(directory: Path) -> None:
    """Make a directory for locks, in one that must be this user's own.

    Raises:
        ConfigurationError: Somebody else has made the directory.
    """
    directory.parent.mkdir(mode=0o700, exist_ok=True)
    found = directory.parent.lstat()
    mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    if not (stat.S_ISDIR(found.st_mode) and mine):
        raise ConfigurationError(
            f"{directory.parent} belongs to somebody else: set lock_directory"
        )
    directory.mkdir(mode=0o700, exist_ok=True)


def _wait_for(attempt: Callable[[], bool], timeout: float) -> None:
    """Try until it succeeds, at growing intervals."""
    deadline = Deadline(timeout)
    pause = FIRST_LOOK
    never = threading.Event()
    while not attempt():
        left = deadline.remaining() or 0.0
        if left <= 0.0:
            raise busy(timeout)
        never.wait(min(pause * random.uniform(0.5, 1.0), left))
        pause = min(pause * 2, LAST_LOOK)


def _holds(cache: Cache, key: str, token: str) -> bool:
    return (_text(cache.get(key)) or "").startswith(token)


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return None if value is None else str(value)


class _Keeper:
    """Renews the locks that this process holds.

    Most are held for milliseconds, so a thread is started only for those that get old.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, tuple[Cache, str, threading.Lock]] = {}
        self._scheduled = False
        self._timer = Timer(self._wake)

    def hold(self, cache: Cache, key: str, token: str) -> None:
        with self._lock:
            self._held[token] = (cache, key, threading.Lock())
            if not self._scheduled:
                self._scheduled = True
                self._timer.set(monotonic() + LIFE / 3)

    def release(self, token: str) -> None:
        with self._lock:
            held = self._held.pop(token, None)
            if not self._held and self._scheduled:
                self._scheduled = False
                self._timer.cancel()
        if held is not None:
            # A renewal under way is waited for, or it would undo the release.
            with held[2]:
                pass

    def _wake(self) -> None:
        # A cache takes its time, and the timer thread serves all clients.
        threads.spawn("locks", self._renew_all)

    def _renew_all(self) -> None:
        try:
            with self._lock:
                held = dict(self._held)
            for token, (cache, key, renewing) in held.items():
                with renewing:
                    if token in self._held:
                        self._renew(cache, key, token)
        finally:
            with self._lock:
                self._scheduled = bool(self._held)
                if self._scheduled:
                    self._timer.set(monotonic() + LIFE / 3)

    def _renew(self, cache: Cache, key: str, token: str) -> None:
        try:
            if _holds(cache, key, token):
                cache.set(key, f"{token} {monotonic()}", LIFE)
            else:
                logger.warning("the lock of a conversation was lost in the cache")
                self._held.pop(token, None)
        except Exception as error:
            # Without its text: it may quote the cache's address with its password.
            logger.error(
                "a conversation's lock could not be renewed: the cache failed (%s)",
                type(error).__name__,
            )


_keeper = _Keeper()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keeper._reset)
