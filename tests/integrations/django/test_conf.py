"""The setting POLYSYNC."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from polysync.integrations.django import conf, conversations


def test_defaults() -> None:
    """Nothing has to be set."""
    settings = conf.read({})
    assert settings.cache == "default"
    assert settings.client_options() == {}


def test_given_values_count() -> None:
    """What is set wins over the defaults, and over the client's own options."""
    settings = conf.read(
        {"HOST": "https://a.example", "CLIENT": {"timeout": 5, "host": "x"}}
    )
    assert settings.client_options() == {"host": "https://a.example", "timeout": 5}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "must be a dictionary, not list"),
        ({"CONECTOR_TOKEN": "a"}, "did you mean 'CONNECTOR_TOKEN'"),
        ({"host": "a"}, "did you mean 'HOST'"),
        ({7: "a"}, "has no key 7"),
        ({"HOST": 7}, "POLYSYNC['HOST'] must be a text, not int"),
        ({"CONNECTOR_TOKEN": ["hunter2"]}, "must be a text, not list"),
        ({"MAX_STREAMS": True}, "must be a whole number, 0 or more"),
        ({"MAX_CLIENTS": -1}, "must be a whole number, 0 or more"),
        ({"MAX_BODY": 0.5}, "must be a whole number above 0"),
        ({"STREAM_SECONDS": 0}, "must be a number above 0"),
        ({"STREAM_SECONDS": 26}, "25 at most"),
        ({"KEEP_ALIVE": 16}, "15 at most"),
        ({"REQUEST_TIMEOUT": float("inf")}, "must be a number above 0"),
        ({"CACHE_TIMEOUT": "hunter2"}, "must be a number, 1 or more"),
        ({"CACHE_TIMEOUT": 0.5}, "must be a number, 1 or more"),
        ({"CACHE_PREFIX": "the chat:"}, "characters without spaces"),
        ({"CACHE_PREFIX": "p" * 101}, "at most 100 characters"),
        ({"CONTEXT": 7}, "must be a function or its dotted path, not int"),
        ({"LOGIN_REQUIRED": 1}, "must be True or False"),
        ({"ENCRYPTION_KEYS": "hunter2"}, "must be a list of keys"),
        ({"CLIENT": ["hunter2"]}, "must be a dictionary"),
    ],
)
def test_mistakes(given: Any, words: str) -> None:
    """A mistake is said in words, without what may be a secret."""
    with pytest.raises(ImproperlyConfigured) as caught:
        conf.read(given)
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_whatever_is_accepted_serves(site: None) -> None:
    """No limit is left for the first visitor to run into."""
    widest = {
        "CACHE_TIMEOUT": 1,
        "CACHE_PREFIX": "",
        "MAX_CLIENTS": 0,
        "MAX_STREAMS": 0,
        "STREAM_SECONDS": 25,
        "KEEP_ALIVE": 15,
    }
    with override_settings(POLYSYNC={**django_settings.POLYSYNC, **widest}):
        assert conversations.service().streams == 0


def test_repr_shows_no_secret() -> None:
    """Debug pages show settings: no token, no key."""
    settings = conf.read(
        {
            "CONNECTOR_TOKEN": "hunter2",
            "ENCRYPTION_KEYS": ["hunter2"],
            "CONTEXT_SECRET": "hunter2",
            "CLIENT": {"proxy": "http://user:hunter2@proxy"},
        }
    )
    assert "hunter2" not in repr(settings)


def test_settings_follow_a_change() -> None:
    """A test that overrides the setting gets what it has set."""
    with override_settings(POLYSYNC={"HOST": "https://a.example"}):
        assert conf.settings().host == "https://a.example"
        with override_settings(POLYSYNC={"HOST": "https://b.example"}):
            assert conf.settings().host == "https://b.example"
        assert conf.settings().host == "https://a.example"


def test_pool_follows_a_change(site: None, polysync_settings: dict[str, Any]) -> None:
    """Another setting makes another pool, and closes the clients of the former."""
    former = conversations.pool()
    with former.conversation("key") as client:
        assert former.statistics.live == 1
    with override_settings(POLYSYNC={**polysync_settings, "MAX_CLIENTS": 3}):
        assert conversations.pool() is not former
        assert former.statistics.live == 0
        # The conversation itself goes on: it is in the store.
        with conversations.pool().conversation("key", create=False) as resumed:
            assert resumed.session_id == client.session_id


def test_store_keeps_text_without_the_key(
    site: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the cache keeps is JSON, under names that do not give the key away."""
    from polysync.integrations.django.cache import SharedCache

    kept: dict[str, Any] = {}
    real = SharedCache.set

    def spy(self: Any, key: str, value: Any, timeout: Any = None) -> Any:
        kept[key] = value
        return real(self, key, value, timeout)

    monkeypatch.setattr(SharedCache, "set", spy)
    with conversations.pool().conversation("the-visitors-key"):
        pass
    states = [value for value in kept.values() if isinstance(value, str)]
    assert any("session_id" in json.loads(value) for value in states)
    assert all(key.startswith("polysync:") for key in kept)
    assert "the-visitors-key" not in "".join(kept)
    assert pickle.loads(pickle.dumps(states)) == states
