"""Session states in caches of all kinds."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from cryptography.fernet import Fernet

from polysync import CacheStore, ConfigurationError, LockTimeoutError, SessionState
from polysync.sessions.memory import MemoryCache
from polysync.sessions.redis import RedisCache
from polysync.sessions.store import StoreError


class Peek(MemoryCache):
    """A cache that shows what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, Any, Any]] = []

    def set(self, key: str, value: object, timeout: float = 0) -> bool:
        self.calls.append((key, value, timeout))
        return super().set(key, value, timeout)


def test_a_state_comes_back_as_it_was(cache: Any, state: SessionState) -> None:
    """In every kind of cache; and is gone when it is deleted."""
    store = CacheStore(cache)
    assert store.load("k") is None
    store.save("k", state)
    assert store.load("k") == state
    assert store.load("other") is None
    store.save("k", evolve(state, cursor=8))
    assert store.load("k") == evolve(state, cursor=8)
    store.delete("k")
    assert store.load("k") is None
    store.delete("k")


@pytest.mark.redis
def test_a_real_redis_keeps_states(redis_url: str, state: SessionState) -> None:
    """With their expiry, and locks of their own that leave nothing behind."""
    from redis import Redis

    with Redis.from_url(redis_url) as client:
        store = CacheStore(RedisCache(client))
        store.save("k", state)
        assert store.load("k") == state
        (name,) = client.keys("*")
        assert 0 < client.ttl(name) <= 600
        with store.lock("k"), pytest.raises(LockTimeoutError):
            store.lock("k", timeout=0.0).__enter__()
        with store.lock("k", timeout=0.0):
            pass
        assert len(client.keys("*")) == 1


def test_names_are_in_a_space_of_their_own(state: SessionState) -> None:
    """Prefixed, versioned, short, and without the key itself; text, with an expiry."""
    cache = Peek()
    store = CacheStore(cache, prefix="chat:", timeout=99.5)
    for key in ("k", "k" * 10_000, "\N{SNOWMAN} \n\ud800"):
        store.save(key, state)
    assert len({name for name, _, _ in cache.calls}) == 3
    for name, value, timeout in cache.calls:
        assert name.startswith("chat:1:state:")
        assert len(name) < 100
        assert name.isascii()
        assert name.isprintable()
        assert isinstance(value, str)
        assert timeout == 99
    assert store.timeout == 99.5
    assert store.cache is cache


def test_two_prefixes_do_not_meet(state: SessionState) -> None:
    """Two sites may share a cache."""
    cache = MemoryCache()
    CacheStore(cache, prefix="a:").save("k", state)
    assert CacheStore(cache, prefix="b:").load("k") is None


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", '{"version": 99}', '{"version": 1}', 17, b"\xff", None, "x" * 9999],
)
def test_what_cannot_be_read_counts_as_none(
    state: SessionState, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """And is logged, without its content."""
    cache = Peek()
    store = CacheStore(cache)
    store.save("k", state)
    cache.set(cache.calls[0][0], damage, 10)
    assert store.load("k") is None
    assert state.access_token not in caplog.text


def test_an_encrypted_state_shows_nothing(state: SessionState) -> None:
    """Neither token nor session; and it takes the key to read it."""
    cache = Peek()
    key = Fernet.generate_key()
    store = CacheStore(cache, encryption_keys=[key])
    store.save("k", state)
    stored = str(cache.calls[0][1])
    assert state.access_token not in stored
    assert state.session_id not in stored
    assert store.load("k") == state
    assert CacheStore(cache).load("k") is None
    assert CacheStore(cache, encryption_keys=[Fernet.generate_key()]).load("k") is None
    assert "encrypted" in repr(store)
    assert key.decode() not in repr(store)


def test_keys_can_be_rotated(state: SessionState) -> None:
    """The first encrypts, all decrypt; what is in plain is not taken for it."""
    cache = Peek()
    old, new = Fernet.generate_key(), Fernet.generate_key().decode()
    CacheStore(cache, encryption_keys=[old]).save("k", state)
    both = CacheStore(cache, encryption_keys=[new, old])
    assert both.load("k") == state
    both.save("k", state)
    assert CacheStore(cache, encryption_keys=[new]).load("k") == state
    CacheStore(cache).save("k", state)
    assert both.load("k") is None


@pytest.mark.parametrize("keys", [["short"], [b"\xff" * 32], "a-single-key", [17]])
def test_a_wrong_key_is_refused_without_showing_it(keys: Any) -> None:
    """At once, and not when the first conversation is saved."""
    with pytest.raises(ConfigurationError) as caught:
        CacheStore(MemoryCache(), encryption_keys=keys)
    assert "short" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_what_is_no_cache_is_refused() -> None:
    """With the name of what it lacks."""
    with pytest.raises(ConfigurationError, match=r"no set\(\)"):
        CacheStore({"get": 1})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="1 s"):
        CacheStore(MemoryCache(), timeout=0)


def test_a_failing_cache_is_one_kind_of_error(state: SessionState) -> None:
    """Whatever it raises; its words may hold a password and are left out."""

    class Down(MemoryCache):
        def get(self, key: str) -> object:
            raise OSError("redis://:password@host")

        set = add = delete = get  # type: ignore[assignment]

    store = CacheStore(Down())
    calls = [
        lambda: store.load("k"),
        lambda: store.save("k", state),
        lambda: store.delete("k"),
        lambda: store.lock("k").__enter__(),
    ]
    for call in calls:
        with pytest.raises(StoreError) as caught:
            call()
        assert "password" not in str(caught.value)
        assert caught.value.retryable


def test_a_cache_that_keeps_nothing_is_an_error(state: SessionState) -> None:
    """cachelib says so by returning false."""

    class Full(MemoryCache):
        def set(self, key: str, value: object, timeout: float = 0) -> bool:
            return False

    with pytest.raises(StoreError):
        CacheStore(Full()).save("k", state)


def test_a_lock_that_cannot_be_given_back_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was done under it is done; it expires by itself."""

    class Lost(MemoryCache):
        def delete(self, key: str) -> bool:
            raise OSError("redis://:secret@gone")

    with caplog.at_level(logging.WARNING), CacheStore(Lost()).lock("k"):
        pass
    assert "given back: the cache failed (OSError)" in caplog.text
    assert "secret" not in caplog.text  # nor in a traceback


def test_locks_of_ones_own_directory(tmp_path: Path) -> None:
    """Any cache may have its locks as files, for those that share the directory."""
    place = tmp_path / "deep" / "locks"
    stores = [CacheStore(MemoryCache(), lock_directory=place) for _ in range(2)]
    with stores[0].lock("k"):
        with pytest.raises(LockTimeoutError):
            stores[1].lock("k", timeout=0.0).__enter__()
        assert len(list(place.iterdir())) == 1
    assert list(place.iterdir()) == []
