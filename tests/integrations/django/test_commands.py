"""``manage.py polysync_check`` and ``polysync_chat``."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from polysync.integrations.django.cache import SharedCache


def run(command: str, *arguments: str, **options: Any) -> str:
    out = io.StringIO()
    call_command(command, *arguments, stdout=out, stderr=out, **options)
    return out.getvalue()


def test_check_tries_all_of_it(site: None, sandbox: Any) -> None:
    """Settings, cache and server are tried, and the conversation is ended after."""
    printed = run("polysync_check")
    assert "keeps what it gets" in printed
    assert "Harbour Table has greeted" in printed
    assert "The chat is ready." in printed
    assert sandbox.session.ended
    assert sandbox.session.user_messages == []


def test_check_offline(site: None, sandbox: Any) -> None:
    """Without the network, the rest can still be tried."""
    assert "ready" in run("polysync_check", "--offline")
    assert not sandbox.sessions


def test_checks_at_the_same_time_do_not_meet(
    site: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has an entry of its own, as long as the store's, and removes it."""
    kept: list[str] = []
    gone: list[str] = []
    real_set, real_delete = SharedCache.set, SharedCache.delete

    def spy_set(self: SharedCache, key: str, *rest: Any) -> Any:
        kept.append(key)
        return real_set(self, key, *rest)

    def spy_delete(self: SharedCache, key: str) -> Any:
        gone.append(key)
        return real_delete(self, key)

    monkeypatch.setattr(SharedCache, "set", spy_set)
    monkeypatch.setattr(SharedCache, "delete", spy_delete)
    for _ in range(2):
        run("polysync_check", "--offline")
    assert len(set(kept)) == 2
    assert gone == kept
    assert min(map(len, kept)) >= len("polysync:1:state:" + 40 * "0")


def test_check_shows_mistakes(site: None) -> None:
    """An error of the system checks ends it."""
    with (
        override_settings(POLYSYNC={}),
        pytest.raises(CommandError, match=r"1 error"),
    ):
        run("polysync_check")


def test_check_finds_a_cache_that_keeps_nothing(site: None) -> None:
    """A dummy cache is no store."""
    dummy = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    with (
        override_settings(CACHES=dummy),
        pytest.raises(CommandError, match="does not keep"),
    ):
        run("polysync_check", "--offline")


def test_check_finds_a_cache_that_is_down(site: None) -> None:
    """The backend's own words are shown."""
    redis = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": "redis://127.0.0.1:1",
        }
    }
    with (
        override_settings(CACHES=redis),
        pytest.raises(CommandError, match="does not work: ConnectionError"),
    ):
        run("polysync_check", "--offline")


def test_check_finds_a_wrong_token(
    site: None, polysync_settings: dict[str, Any]
) -> None:
    """The server's refusal is told, and the token is not."""
    wrong = {**polysync_settings, "CONNECTOR_TOKEN": "hunter2"}
    with override_settings(POLYSYNC=wrong), pytest.raises(CommandError) as caught:
        run("polysync_check", "--timeout", "5")
    assert "AuthenticationError" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_chat_with_messages(site: None, sandbox: Any) -> None:
    """Messages on the command line are said one after the other."""
    printed = run("polysync_chat", "-m", "The menu, please", "-m", "Goodbye")
    assert "Harbour Table: Hello, this is the Harbour Table." in printed
    assert "> The menu, please\nHarbour Table: Here is our menu." in printed
    assert "[Menu] https://www.example.com/menu" in printed
    assert "The conversation is over." in printed
    assert [m.text for m in sandbox.session.user_messages] == [
        "The menu, please",
        "Goodbye",
    ]


def test_chat_reads_lines(site: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them, each line of standard input is a message, until its end."""
    monkeypatch.setattr("sys.stdin", io.StringIO("Can I call you?\nThe menu\n"))
    printed = run("polysync_chat")
    assert "[Harbour Table] +12025550143" in printed
    assert "Here is our menu." in printed


def test_chat_without_standard_input(
    site: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is closed, as supervisors do, there is nothing to read."""
    monkeypatch.setattr("sys.stdin", None)
    assert "The conversation is over." in run("polysync_chat")


def test_chat_with_a_human(site: None, sandbox: Any) -> None:
    """After a handoff, the human's messages are shown as they come."""
    from polysync.sandbox import Handoff

    sandbox._agent = lambda turn: Handoff(queue=())
    printed = run("polysync_chat", "-m", "A human, please")
    assert "handoff" in printed.lower() or "Sam" in printed


def test_chat_that_cannot_be(site: None, polysync_settings: dict[str, Any]) -> None:
    """A failure is one line, not a traceback."""
    wrong = {**polysync_settings, "CONNECTOR_TOKEN": "hunter2"}
    with override_settings(POLYSYNC=wrong), pytest.raises(CommandError) as caught:
        run("polysync_chat", "-m", "Hello?")
    assert "hunter2" not in str(caught.value)
