"""Caches of all kinds, and a redis-server."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polysync.sessions.memory import MemoryCache
from polysync.sessions.redis import RedisCache
from polysync.sessions.state import SessionState

CACHES = ("memory", "redis", "redis-text", "simple", "files", "cachelib-redis")
CACHES += ("locmem", "django-files")


@pytest.fixture(params=CACHES)
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Each kind of cache that people give to a store."""
    kind = request.param
    if kind == "memory":
        yield MemoryCache()
    elif kind == "simple":
        from cachelib.simple import SimpleCache

        yield SimpleCache()
    elif kind == "files":
        from cachelib.file import FileSystemCache

        yield FileSystemCache(str(tmp_path / "cache"))
    elif kind in ("redis", "redis-text"):
        import fakeredis

        yield RedisCache(fakeredis.FakeRedis(decode_responses=kind == "redis-text"))
    elif kind == "cachelib-redis":
        import fakeredis
        from cachelib.redis import RedisCache as CachelibRedis

        yield CachelibRedis(fakeredis.FakeRedis())
    elif kind == "locmem":
        from django.core.cache.backends.locmem import LocMemCache

        yield LocMemCache(str(tmp_path), {})
    else:
        from django.core.cache.backends.filebased import FileBasedCache

        yield FileBasedCache(str(tmp_path / "cache"), {})


@pytest.fixture(autouse=True)
def own_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep lock files of tests away from those of anybody else."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def state() -> SessionState:
    return SessionState(
        session_id="11111111-2222-3333-4444-555555555555",
        access_token="an-access-token",
        base_url="http://127.0.0.1:1",
        cursor=7,
        live_agent=("1", "Kim", None),
    )


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A redis-server on a socket of its own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = f"{directory}/redis.sock"
        server = subprocess.Popen(
            [str(shutil.which("redis-server")), "--port", "0", "--unixsocket", path]
            + ["--save", "", "--appendonly", "no"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if "eady to accept connections" in line:
                    break
            yield f"unix://{path}"
        finally:
            server.terminate()
            server.communicate(timeout=10)
