"""System checks: each finds what it is for, and a sound site gives none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core import checks
from django.core.checks import CheckMessage
from django.test import override_settings

from polysync.integrations.django import conf

REDIS = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": "redis://127.0.0.1:1",
    },
    "memory": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "nothing": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
    "files": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": "/nowhere",
    },
    "database": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "kept",
        "OPTIONS": {"MAX_ENTRIES": 9_999},
    },
    "roomy": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": "/nowhere",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    },
}
SOUND = {"CONNECTOR_TOKEN": "token", "HOST": "https://www.example.com"}
KEYS = {"CONTEXT_KEY_ID": "key", "CONTEXT_SECRET": "hunter2"}
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
CSRF = "django.middleware.csrf.CsrfViewMiddleware"


def found(polysync: Any = None, **others: Any) -> list[CheckMessage]:
    others = {"CACHES": REDIS, "MIDDLEWARE": [SESSIONS, CSRF], **others}
    with override_settings(POLYSYNC=SOUND if polysync is None else polysync, **others):
        return checks.run_checks(tags=["polysync"])


def ids(messages: list[CheckMessage]) -> list[str]:
    return sorted(str(message.id).removeprefix("polysync.") for message in messages)


def test_sound_site() -> None:
    """Nothing is found where nothing is wrong."""
    assert found() == []


def test_app_registers_the_checks() -> None:
    """The checks have a tag of their own."""
    assert checks.tag_exists("polysync")


def test_missing_token() -> None:
    """Without a token there is no chat, except with the sandbox."""
    (message,) = found({})
    assert message.id == "polysync.E001"
    assert message.is_serious()
    assert "POLYSYNC['CONNECTOR_TOKEN']" in str(message.hint)
    assert found({"ENVIRONMENT": "sandbox"}) == []


def test_token_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token may come from the client's own environment variables."""
    monkeypatch.setenv("POLYSYNC_CONNECTOR_TOKEN", "token")
    monkeypatch.setenv("POLYSYNC_HOST", "https://www.example.com")
    assert found({}) == []


def test_sandbox_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """So may the sandbox."""
    monkeypatch.setenv("POLYSYNC_ENVIRONMENT", "sandbox")
    assert found({}) == []


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {**SOUND, "ENCRYPTION_KEY": "hunter2"},
        {**SOUND, "ENCRYPTION_KEYS": ["hunter2"]},
        {**SOUND, "ENVIRONMENT": "http://elsewhere.example"},
        {**SOUND, "CLIENT": {"timeout": -1}},
        {**SOUND, "CLIENT": {"tiemout": 1}},
        {**SOUND, "CONTEXT": "a.b"},
        {**SOUND, "CONTEXT": "no_such.thing", **KEYS},
        {**SOUND, "CONTEXT": "os.no_such", **KEYS},
        {**SOUND, "STREAM_SECONDS": 60},
        {"CONNECTOR_TOKEN": "token"},
    ],
    ids=lambda wrong: str(list(wrong)),
)
def test_wrong_setting(wrong: Any) -> None:
    """A wrong setting is found before the first visitor does."""
    messages = found(wrong)
    assert ids(messages) == ["E002"]
    assert messages[0].hint
    assert "hunter2" not in str(messages)


def test_unknown_cache() -> None:
    """The alias has to exist."""
    assert ids(found({**SOUND, "CACHE": "elsewhere"})) == ["E003"]


@pytest.mark.parametrize("alias", ["memory", "nothing"])
def test_cache_that_is_not_shared(alias: str) -> None:
    """A cache in the memory of one process loses conversations."""
    (message,) = found({**SOUND, "CACHE": alias})
    assert message.id == "polysync.W002"
    assert not message.is_serious()
    assert "Redis" in str(message.hint)


@pytest.mark.parametrize(("alias", "room"), [("files", "300"), ("database", "9,999")])
def test_cache_that_throws_conversations_out(alias: str, room: str) -> None:
    """Django's own limit of entries is for pages that can be made again."""
    (message,) = found({**SOUND, "CACHE": alias})
    assert message.id == "polysync.W005"
    assert f"keeps {room} entries at most" in message.msg
    assert "MAX_ENTRIES" in str(message.hint)
    assert found({**SOUND, "CACHE": "roomy"}) == []


def test_no_sessions() -> None:
    """Visitors are told apart by their sessions."""
    assert ids(found(MIDDLEWARE=[CSRF])) == ["E004"]


@pytest.mark.parametrize(
    "middleware",
    [
        "django.middleware.gzip.GZipMiddleware",
        "compression_middleware.middleware.CompressionMiddleware",
    ],
)
def test_compression(middleware: str) -> None:
    """A compressing middleware may hold the stream back."""
    (message,) = found(MIDDLEWARE=[middleware, SESSIONS, CSRF])
    assert message.id == "polysync.W003"


def test_csrf_header() -> None:
    """The page sends the header of Django's default."""
    assert ids(found(CSRF_HEADER_NAME="HTTP_X_XSRF_TOKEN")) == ["W004"]


@pytest.fixture
def settings_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The source of a site's settings, as `$DJANGO_SETTINGS_MODULE` names it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "settings_of_a_site")
    yield tmp_path / "settings_of_a_site.py"
    sys.modules.pop("settings_of_a_site", None)


def test_token_in_the_source(settings_module: Path) -> None:
    """A token in the code is one that everybody has; fine while developing."""
    settings_module.write_text('POLYSYNC = {"CONNECTOR_TOKEN": "hunter2"}\n')
    polysync = {**SOUND, "CONNECTOR_TOKEN": "hunter2"}
    (message,) = found(polysync, DEBUG=False)
    assert message.id == "polysync.W001"
    assert "hunter2" not in str(message)
    assert found(polysync, DEBUG=True) == []


def test_token_from_elsewhere(settings_module: Path) -> None:
    """A token that the source does not hold is no matter."""
    settings_module.write_text('import os\nTOKEN = os.environ.get("TOKEN")\n')
    assert found({**SOUND, "CONNECTOR_TOKEN": "hunter2"}, DEBUG=False) == []


def test_checks_start_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks run for every command: no pool is made."""
    from polysync.integrations.django import conversations

    conversations.close()
    found()
    assert conversations._service is None
    conf.settings.cache_clear()
