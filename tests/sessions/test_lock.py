"""Locks that all processes share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from polysync import CacheStore, ConfigurationError, LockTimeoutError
from polysync.sessions import lock as lock_module
from polysync.sessions.lock import cache_lock, file_lock
from polysync.sessions.memory import MemoryCache


def test_one_holder_at_a_time(cache: Any) -> None:
    """Whoever comes second waits until the first has done; other keys are free."""
    store = CacheStore(cache)
    with store.lock("k"):
        with pytest.raises(LockTimeoutError) as caught:
            store.lock("k", timeout=0.02).__enter__()
        assert caught.value.retryable
        with store.lock("other", timeout=0.0):
            pass
    with store.lock("k", timeout=0.0):
        pass


def test_nobody_is_in_there_together(cache: Any) -> None:
    """Eight threads count to the same number as one would."""
    store = CacheStore(cache)
    counter = {"value": 0, "inside": 0}

    def work() -> None:
        for _ in range(5):
            with store.lock("k", timeout=30.0):
                counter["inside"] += 1
                assert counter["inside"] == 1
                counter["value"] += 1
                counter["inside"] -= 1

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work) for _ in range(8)]:
            future.result()
    assert counter["value"] == 40


def test_an_error_inside_gives_the_lock_back(cache: Any) -> None:
    """And comes out as it is."""
    store = CacheStore(cache)
    with pytest.raises(KeyError), store.lock("k"):
        raise KeyError("k")
    with store.lock("k", timeout=0.0):
        pass


class Watched(MemoryCache):
    """A cache that tells of renewals."""

    def __init__(self) -> None:
        super().__init__()
        self.renewed = threading.Event()

    def set(self, key: str, value: object, timeout: float = 0) -> bool:
        self.renewed.set()
        return super().set(key, value, timeout)


def test_a_lock_that_gets_old_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not expire under a long turn; nothing of it remains afterwards."""
    monkeypatch.setattr(lock_module, "LIFE", 0.15)
    cache = Watched()
    with cache_lock(cache, "k", 1.0):
        for _ in range(4):
            cache.renewed.clear()
            assert cache.renewed.wait(5)
        with pytest.raises(LockTimeoutError):
            cache_lock(cache, "k", 0.0).__enter__()
    assert cache.get("k") is None


def test_a_lock_that_was_lost_is_not_taken_from_the_next(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it has expired it is another's, who keeps it."""
    cache = MemoryCache()
    with cache_lock(cache, "k", 1.0):
        cache.set("k", "another's", 10)
    assert cache.get("k") == "another's"
    cache.delete("k")
    monkeypatch.setattr(lock_module, "LIFE", 0.06)
    told = threading.Event()
    monkeypatch.setattr(lock_module.logger, "warning", lambda *_, **__: told.set())
    with cache_lock(cache, "k", 1.0):
        cache.set("k", "another's", 10)
        assert told.wait(5)
    assert cache.get("k") == "another's"


def test_a_renewal_that_fails_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A cache that is away for a moment does not end the renewing."""
    monkeypatch.setattr(lock_module, "LIFE", 0.6)

    class Flaky(Watched):
        fails = 1

        def get(self, key: str) -> object:
            if threading.current_thread().name.startswith("polysync-") and self.fails:
                self.fails -= 1
                raise OSError("redis://:secret@away")
            return super().get(key)

    cache = Flaky()
    with cache_lock(cache, "k", 1.0):
        assert cache.renewed.wait(5)
    assert "could not be renewed: the cache failed (OSError)" in caplog.text
    assert "secret" not in caplog.text


def test_an_expired_entry_that_blocks_is_removed() -> None:
    """Some caches mind the expiry only when they read."""

    class Lazy(MemoryCache):
        ghost = True

        def add(self, key: str, value: object, timeout: float = 0) -> bool:
            return False if self.ghost else super().add(key, value, timeout)

        def delete(self, key: str) -> bool:
            self.ghost = False
            return super().delete(key)

    with cache_lock(Lazy(), "k", 5.0):
        pass


def test_an_entry_that_never_expires_is_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cache may add first and set the expiry later, and its process be killed."""
    monkeypatch.setattr(lock_module, "DEAD_AFTER", 0.1)
    cache = MemoryCache()
    cache.set("k", "of a process that is no more", 1e9)
    with cache_lock(cache, "k", 5.0):
        pass
    assert cache.get("k") is None


def test_a_holder_that_lives_is_not_taken_for_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its renewals change the entry."""
    monkeypatch.setattr(lock_module, "LIFE", 0.15)
    monkeypatch.setattr(lock_module, "DEAD_AFTER", 0.3)
    cache = MemoryCache()
    with cache_lock(cache, "k", 1.0), pytest.raises(LockTimeoutError):
        cache_lock(cache, "k", 0.8).__enter__()


def test_short_turns_start_no_thread() -> None:
    """Most locks are held for milliseconds."""
    before = {thread.name for thread in threading.enumerate()}
    with cache_lock(MemoryCache(), "k", 1.0):
        new = {thread.name for thread in threading.enumerate()} - before
    assert not [name for name in new if "locks" in name]


def test_the_directory_of_locks_must_be_ones_own(tmp_path: Path) -> None:
    """Somebody else's, or a link to elsewhere, is not used."""
    from cachelib.file import FileSystemCache

    name = f"polysync-locks-{os.getuid()}"
    Path(tempfile.gettempdir(), name).symlink_to(tmp_path)
    store = CacheStore(FileSystemCache(str(tmp_path / "cache")))
    with pytest.raises(ConfigurationError, match="lock_directory"):
        store.lock("k").__enter__()


def test_lock_files_do_not_pile_up(tmp_path: Path) -> None:
    """Each goes with its holder."""
    with file_lock(tmp_path / "lock", 1.0):
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()


HOLDER = """
import sys
from cachelib.file import FileSystemCache
from polysync import CacheStore
from polysync.sessions.memory import MemoryCache
store = CacheStore(FileSystemCache(sys.argv[1]))
with store.lock("k"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.subprocess
@pytest.mark.parametrize("how", [signal.SIGKILL, None])
def test_a_file_lock_dies_with_its_process(
    tmp_path: Path, how: signal.Signals | None
) -> None:
    """Killed or ended, the next one has it at once."""
    from cachelib.file import FileSystemCache

    place = str(tmp_path / "cache")
    environment = {**os.environ, "TMPDIR": tempfile.gettempdir()}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, place],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        store = CacheStore(FileSystemCache(place))
        with pytest.raises(LockTimeoutError):
            store.lock("k", timeout=0.0).__enter__()
        if how is None:
            holder.stdin.close()
        else:
            holder.send_signal(how)
        holder.wait(10)
        with store.lock("k", timeout=0.0):
            pass


@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("files", [False, True])
def test_a_child_does_not_give_its_parents_lock_back(
    tmp_path: Path, files: bool
) -> None:
    """Leaving the block in a forked child changes nothing for the parent."""
    cache = MemoryCache()
    path = tmp_path / "lock"
    held = file_lock(path, 1.0) if files else cache_lock(cache, "k", 1.0)
    held.__enter__()
    child = os.fork()
    if child == 0:
        held.__exit__(None, None, None)
        still = path.exists() if files else cache.get("k") is not None
        os._exit(0 if still else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert path.exists() if files else cache.get("k") is not None
    held.__exit__(None, None, None)
    assert not path.exists()
    assert cache.get("k") is None
