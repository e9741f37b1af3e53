"""Threads: names, one deadline for all, clear errors."""

from __future__ import annotations

import logging
import threading

import pytest

from polysync.errors import ClientClosedError
from polysync.runtime import threads


def test_spawned_thread_is_a_named_daemon() -> None:
    """A thread is a daemon and its name says what it does."""
    seen: list[object] = []
    thread = threads.spawn("tester", lambda *args: seen.extend(args), 1, 2)
    assert threads.join([thread], 5.0)
    assert thread.name.startswith("polysync-tester-")
    assert thread.daemon
    assert seen == [1, 2]


def test_names_are_never_used_twice() -> None:
    """Two threads of one role have different names."""
    both = [threads.spawn("tester", lambda: None) for _ in range(2)]
    assert threads.join(both, 5.0)
    assert both[0].name != both[1].name


def test_spawn_at_shutdown_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python starts no thread any more, the error says so."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ClientClosedError, match="interpreter is shutting down"):
        threads.spawn("tester", lambda: None)


def test_join_names_those_that_did_not_stop(caplog: pytest.LogCaptureFixture) -> None:
    """A thread that is late is named in a warning, and join says false."""
    release = threading.Event()
    late = threads.spawn("late", release.wait)
    try:
        with caplog.at_level(logging.WARNING, "polysync"):
            assert not threads.join([late], 0.01)
        assert late.name in caplog.text
    finally:
        release.set()
    assert threads.join([late], 5.0)


def test_join_passes_over_the_current_thread_and_none() -> None:
    """A thread that takes part in its own end does not wait for itself."""
    assert threads.join([threading.current_thread(), None], 0.0)


def test_join_has_one_deadline_for_all() -> None:
    """Three late threads cost one timeout, not three."""
    release = threading.Event()
    late = [threads.spawn("late", release.wait) for _ in range(3)]
    done = threading.Event()

    def joiner() -> None:
        threads.join(late, 0.05)
        done.set()

    waiter = threads.spawn("joiner", joiner)
    try:
        assert done.wait(5.0)
    finally:
        release.set()
    assert threads.join([waiter, *late], 5.0)
