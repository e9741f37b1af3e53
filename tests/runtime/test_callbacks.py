"""The callback thread: one, in order, started when needed, ended when told."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from polysync.errors import ClientClosedError
from polysync.events import Event, LanguageChanged, SessionEnd, UserMessage
from polysync.models import ConnectionChange, ConnectionStatus
from polysync.runtime import callbacks as module
from polysync.runtime import threads
from polysync.runtime.callbacks import Callbacks, Line
from tests.clients import PATIENCE, eventually, threads_of_polysync


@pytest.fixture
def line() -> Iterator[Line]:
    one = Line()
    yield one
    one.finish()
    if one.thread is not None:
        one.thread.join(PATIENCE)


@pytest.fixture
def callbacks(line: Line) -> Callbacks:
    return Callbacks(line)


def message(text: str) -> UserMessage:
    return UserMessage(text=text)


# Test who is called.


def test_callbacks_hear_their_kind(callbacks: Callbacks, recorder: Any) -> None:
    callbacks.add(UserMessage, recorder)
    callbacks.tell(SessionEnd())
    callbacks.tell(message("one"))
    assert [event.text for event in recorder.wait_for(1)] == ["one"]


def test_those_for_all_events_come_last(callbacks: Callbacks, recorder: Any) -> None:
    callbacks.add(Event, lambda event: recorder("all"))
    callbacks.add(UserMessage, lambda event: recorder("first"))
    callbacks.add(UserMessage, lambda event: recorder("second"))
    callbacks.tell(message("one"))
    assert recorder.wait_for(3) == ["first", "second", "all"]


def test_all_events_does_not_mean_changes_and_errors(
    callbacks: Callbacks, recorder: Any
) -> None:
    callbacks.add(Event, recorder)
    callbacks.tell(ConnectionChange(ConnectionStatus.OPEN))
    callbacks.tell(ValueError("no event"))
    callbacks.tell(message("one"))
    assert len(recorder.wait_for(1)) == 1


def test_one_that_is_registered_twice_is_called_twice(
    callbacks: Callbacks, recorder: Any
) -> None:
    callbacks.add(UserMessage, recorder)
    callbacks.add(UserMessage, recorder)
    callbacks.tell(message("one"))
    assert len(recorder.wait_for(2)) == 2
    assert callbacks.remove(recorder) == 2
    assert callbacks.remove(recorder) == 0


def test_what_is_registered_later_hears_what_comes_later(
    callbacks: Callbacks, recorder: Any
) -> None:
    callbacks.tell(message("before"))
    callbacks.add(UserMessage, recorder)
    callbacks.tell(message("after"))
    assert [event.text for event in recorder.wait_for(1)] == ["after"]


def test_what_is_taken_back_still_hears_what_was_told_before(
    callbacks: Callbacks, recorder: Any
) -> None:
    release = threading.Event()
    callbacks.add(LanguageChanged, lambda event: release.wait(PATIENCE))
    callbacks.add(UserMessage, recorder)
    callbacks.tell(LanguageChanged())
    callbacks.tell(message("told"))
    callbacks.remove(recorder)
    callbacks.tell(message("not told"))
    release.set()
    assert [event.text for event in recorder.wait_for(1)] == ["told"]


# Test the thread.


def test_there_is_no_thread_before_there_is_something_to_tell(
    line: Line, callbacks: Callbacks, recorder: Any
) -> None:
    assert line.thread is None
    callbacks.add(UserMessage, recorder)
    callbacks.tell(SessionEnd())
    assert line.thread is None
    callbacks.tell(message("one"))
    assert line.thread is not None


def test_what_is_told_before_the_end_is_heard(
    line: Line, callbacks: Callbacks, recorder: Any
) -> None:
    callbacks.add(UserMessage, recorder)
    for number in range(100):
        callbacks.tell(message(str(number)))
    line.finish()
    assert line.thread is not None
    line.thread.join(PATIENCE)
    assert not line.thread.is_alive()
    assert [event.text for event in recorder.items] == [str(n) for n in range(100)]


def test_finishing_twice_or_before_the_start_is_harmless(
    line: Line, callbacks: Callbacks, recorder: Any
) -> None:
    line.finish()
    line.finish()
    callbacks.add(UserMessage, recorder)
    callbacks.tell(message("one"))
    line.finish()
    line.finish()
    assert line.thread is not None
    line.thread.join(PATIENCE)
    assert len(recorder.items) == 1


def test_a_busy_thread_goes_on_with_what_comes_after_the_end(
    line: Line, callbacks: Callbacks, recorder: Any
) -> None:
    entered, release = threading.Event(), threading.Event()

    def block(event: object) -> None:
        entered.set()
        release.wait(PATIENCE)

    callbacks.add(LanguageChanged, block)
    callbacks.add(UserMessage, lambda event: recorder(threading.current_thread()))
    callbacks.tell(LanguageChanged())
    assert entered.wait(PATIENCE)
    thread = line.thread
    line.finish()
    line.finish()
    callbacks.tell(message("after"))
    assert line.thread is thread
    assert recorder.items == []
    release.set()
    assert recorder.wait_for(1) == [thread]
    line.finish()
    eventually(lambda: not any("callbacks" in n for n in threads_of_polysync()))


def test_after_an_end_another_thread_starts(
    line: Line, callbacks: Callbacks, recorder: Any
) -> None:
    callbacks.add(UserMessage, recorder)
    for number in range(5):
        callbacks.tell(message(str(number)))
        line.finish()
        assert line.thread is not None
        line.thread.join(PATIENCE)
    assert [event.text for event in recorder.items] == ["0", "1", "2", "3", "4"]


def test_no_two_threads_run_side_by_side(line: Line, callbacks: Callbacks) -> None:
    """However the ends fall between what is told."""
    order: list[int] = []
    running = threading.Lock()

    def note(event: UserMessage) -> None:
        assert running.acquire(blocking=False)
        order.append(int(event.text))
        running.release()

    callbacks.add(UserMessage, note)
    for number in range(2000):
        callbacks.tell(message(str(number)))
        if number % 3:
            line.finish()
    eventually(lambda: len(order) == 2000)
    assert order == list(range(2000))


def test_a_thread_that_cannot_be_started_loses_nothing(
    line: Line,
    callbacks: Callbacks,
    recorder: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    callbacks.add(UserMessage, recorder)

    def fail(*args: object) -> threading.Thread:
        raise ClientClosedError("too many threads")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(threads, "spawn", fail)
        callbacks.tell(message("one"))
    assert "too many threads" in caplog.text
    callbacks.tell(message("two"))
    assert [event.text for event in recorder.wait_for(2)] == ["one", "two"]


class Killed(BaseException):
    """What gevent raises in a greenlet that it kills is no Exception either."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_is_killed_has_a_successor(
    line: Line, callbacks: Callbacks, recorder: Any
) -> None:
    def die(event: UserMessage) -> None:
        if event.text == "die":
            raise Killed

    callbacks.add(UserMessage, die)
    callbacks.add(UserMessage, recorder)
    callbacks.tell(message("die"))
    assert line.thread is not None
    line.thread.join(PATIENCE)
    callbacks.tell(message("live"))
    assert [event.text for event in recorder.wait_for(1)] == ["live"]


# Test what is kept.


def test_what_was_told_is_not_kept(callbacks: Callbacks, recorder: Any) -> None:
    class Big(Event):
        pass

    done = threading.Event()
    callbacks.add(Event, lambda event: None)
    callbacks.add(UserMessage, lambda event: done.set())
    event = Big()
    callbacks.tell(ValueError())
    reference = weakref.ref(recorder)
    callbacks.add(Big, recorder)
    callbacks.tell(event)
    callbacks.tell(message("last"))
    assert done.wait(PATIENCE)
    assert recorder.wait_for(1) == [event]
    assert reference() is recorder


def test_a_waiting_thread_keeps_its_owner_alive_no_longer(line: Line) -> None:
    owner = Callbacks(line)
    heard = threading.Event()
    owner.add(UserMessage, lambda event, mine=owner: heard.set())
    owner.tell(message("one"))
    assert heard.wait(PATIENCE)
    reference = weakref.ref(owner)
    del owner

    def collected() -> bool:
        gc.collect()
        return reference() is None

    eventually(collected)
    assert line.thread is not None
    assert line.thread.is_alive()


# Test failures.


def test_a_failure_is_told_to_those_who_listen_for_it(
    callbacks: Callbacks, recorder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    error = ZeroDivisionError("mine")

    def fail(event: object) -> None:
        raise error

    callbacks.add(UserMessage, fail)
    callbacks.add(ArithmeticError, recorder)
    callbacks.add(KeyError, recorder)
    with caplog.at_level(logging.ERROR, module.__name__):
        callbacks.tell(message("one"))
        assert recorder.wait_for(1) == [error]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert "one" not in record.getMessage()


def test_a_failure_of_an_error_callback_is_only_logged(
    callbacks: Callbacks, recorder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(error: Exception) -> None:
        raise RuntimeError("worse")

    callbacks.add(Exception, fail)
    callbacks.add(Exception, recorder)
    with caplog.at_level(logging.ERROR):
        callbacks.tell(ValueError("first"))
        callbacks.tell(ValueError("second"))
        errors = recorder.wait_for(2)
    assert [str(error) for error in errors] == ["first", "second"]
    assert caplog.text.count("worse") >= 2


def test_the_wrapper_is_given_each_call(callbacks: Callbacks, recorder: Any) -> None:
    def around(call: Any) -> None:
        recorder("before")
        try:
            call()
        finally:
            recorder("after")

    callbacks.around = around
    callbacks.add(UserMessage, lambda event: recorder(event.text))
    callbacks.add(UserMessage, lambda event: 1 / 0)
    callbacks.tell(message("one"))
    assert recorder.wait_for(5) == ["before", "one", "after", "before", "after"]


# Test the backlog.


def test_a_backlog_is_reported_at_each_doubling(
    callbacks: Callbacks,
) -> None:
    callbacks._line._mark = 10
    release = threading.Event()
    callbacks.add(UserMessage, lambda event: release.wait(PATIENCE))
    told = [callbacks.tell(message(str(number))) for number in range(100)]
    release.set()
    assert len([length for length in told if length]) == 4  # at 10, 20, 40 and 80
