"""Timers: one thread, deadlines that move, nothing that stays behind."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from polysync.errors import ClientClosedError
from polysync.runtime import timers
from polysync.runtime.timers import Timer, Timers


class Owner:
    """Somebody with a deadline."""

    def __init__(self) -> None:
        self.fired: list[float] = []
        self.called = threading.Condition()
        self.thread = ""

    def fire(self) -> None:
        with self.called:
            self.thread = threading.current_thread().name
            self.fired.append(time.monotonic())
            self.called.notify_all()

    def wait(self, count: int = 1) -> None:
        with self.called:
            assert self.called.wait_for(lambda: len(self.fired) >= count, 10.0)


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def heap() -> Iterator[Timers]:
    """A heap and thread of the test's own."""
    own = Timers()
    yield own
    assert own.settle(5.0)


def test_fires_once_at_its_time(heap: Timers) -> None:
    """The method is called once, not before its time and within a few ms of it."""
    owner = Owner()
    timer = Timer(owner.fire, heap)
    when = time.monotonic() + 0.05
    timer.set(when)
    owner.wait()
    assert heap.settle(5.0)
    assert len(owner.fired) == 1
    assert 0.0 <= owner.fired[0] - when < 0.5
    assert owner.thread.startswith("polysync-timers-")


def test_moves_later_without_waking_the_thread() -> None:
    """A deadline that is put off does not fire at the old time; the thread finds out
    when it wakes for that."""
    clock = FakeClock()
    heap = Timers(clock)
    owner = Owner()
    timer = Timer(owner.fire, heap)
    timer.set(1010.0)
    for when in range(1011, 1500):
        timer.set(float(when))
    # One deadline, one entry: nothing piles up.
    assert len(heap._heap) == 1
    clock.now = 1498.5
    marker = Owner()
    other = Timer(marker.fire, heap)
    other.set(1498.0)  # fires now, after the thread has looked at everything due
    heap.wake()
    marker.wait()
    assert owner.fired == []
    clock.now = 1499.0
    heap.wake()
    owner.wait()
    assert heap.settle(5.0)


def test_moves_earlier(heap: Timers) -> None:
    """A deadline that is moved forward wakes the thread that waits for the old one."""
    owner = Owner()
    timer = Timer(owner.fire, heap)
    timer.set(time.monotonic() + 1000.0)
    timer.set(time.monotonic())
    owner.wait()
    assert heap.settle(5.0)
    assert len(owner.fired) == 1


def test_cancelled_timer_does_not_fire() -> None:
    """After cancel nothing is called, though the time comes."""
    clock = FakeClock()
    heap = Timers(clock)
    owner, other = Owner(), Owner()
    timer, last = Timer(owner.fire, heap), Timer(other.fire, heap)
    timer.set(1001.0)
    last.set(1002.0)
    timer.cancel()
    timer.cancel()
    clock.now = 1003.0
    heap.wake()
    other.wait()
    assert heap.settle(5.0)
    assert owner.fired == []


def test_thread_ends_with_the_last_timer(heap: Timers) -> None:
    """There is a thread only while there is something to wait for."""
    owner = Owner()
    timer = Timer(owner.fire, heap)
    assert heap.thread is None
    assert heap.settle(0.0)
    timer.set(time.monotonic() + 1000.0)
    thread = heap.thread
    assert thread is not None
    assert not heap.settle(0.0)
    timer.cancel()
    assert heap.settle(5.0)
    assert heap.thread is None
    # And it comes back when it is needed again.
    timer.set(time.monotonic())
    owner.wait()


def test_forgotten_owner_ends_the_thread(heap: Timers) -> None:
    """A timer keeps nobody alive, and what is left of it does not keep the thread."""
    owner = Owner()
    gone = weakref.ref(owner)
    timer = Timer(owner.fire, heap)
    timer.set(time.monotonic() + 1000.0)
    thread = heap.thread
    assert thread is not None
    del owner
    gc.collect()
    assert gone() is None
    thread.join(5.0)
    assert not thread.is_alive()


def test_failing_callback_is_logged_and_harms_no_other(
    heap: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    """What a callback raises is logged; the next one is called all the same."""

    class Broken:
        def fire(self) -> None:
            raise ValueError("broken on purpose")

    broken, owner = Broken(), Owner()
    first, second = Timer(broken.fire, heap), Timer(owner.fire, heap)
    with caplog.at_level(logging.ERROR, "polysync"):
        now = time.monotonic()
        first.set(now)
        second.set(now + 0.001)
        owner.wait()
    assert heap.settle(5.0)
    assert "broken on purpose" in caplog.text


def test_callback_may_set_its_own_timer(heap: Timers) -> None:
    """A callback that sets the next deadline is called again."""

    class Repeating(Owner):
        def fire(self) -> None:
            if len(self.fired) < 4:
                timer.set(time.monotonic())
            super().fire()

    owner = Repeating()
    timer = Timer(owner.fire, heap)
    timer.set(time.monotonic())
    owner.wait(5)
    assert heap.settle(5.0)
    assert len(owner.fired) == 5


def test_order_of_deadlines(heap: Timers) -> None:
    """Timers fire in the order of their deadlines, whatever that of their setting."""
    order: list[int] = []
    done = threading.Event()

    class Numbered:
        def __init__(self, number: int) -> None:
            self.number = number

        def fire(self) -> None:
            order.append(self.number)
            if len(order) == 20:
                done.set()

    base = time.monotonic() + 0.05
    owners = [Numbered(number) for number in range(20)]
    all_timers = [Timer(owner.fire, heap) for owner in owners]
    for number in (
        7,
        3,
        19,
        0,
        1,
        18,
        2,
        4,
        17,
        5,
        6,
        16,
        8,
        15,
        9,
        14,
        10,
        13,
        11,
        12,
    ):
        all_timers[number].set(base + number / 1000.0)
    assert done.wait(5.0)
    assert order == list(range(20))


def test_settle_on_the_timer_thread_does_not_wait_for_itself(heap: Timers) -> None:
    """A callback that closes its client settles the timers without hanging."""
    results: list[bool] = []
    done = threading.Event()

    class Closing:
        def fire(self) -> None:
            results.append(heap.settle(5.0))
            done.set()

    owner = Closing()
    timer = Timer(owner.fire, heap)
    timer.set(time.monotonic())
    assert done.wait(5.0)
    assert results == [True]


def test_many_threads_set_and_cancel(heap: Timers) -> None:
    """Setting from many threads loses no deadline and leaves no entry behind."""
    owners = [Owner() for _ in range(20)]

    def work(owner: Owner) -> None:
        timer = Timer(owner.fire, heap)
        for _ in range(200):
            timer.set(time.monotonic() + 100.0)
            timer.cancel()
        timer.set(time.monotonic())
        owner.wait()

    workers = [threading.Thread(target=work, args=(owner,)) for owner in owners]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20.0)
        assert not worker.is_alive()
    assert heap.settle(5.0)
    assert all(len(owner.fired) == 1 for owner in owners)
    assert not heap._heap
    assert not heap._queued
    assert not heap._wanted


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_child_of_a_fork_has_working_timers() -> None:
    """The child has none of the parent's deadlines, and its own ones work."""
    parents, childs = Owner(), Owner()
    timer = Timer(parents.fire)
    timer.set(time.monotonic() + 1000.0)
    try:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                timer.set(time.monotonic())
                parents.wait()
                other = Timer(childs.fire)
                other.set(time.monotonic())
                childs.wait()
                status = 0 if timers.settle(5.0) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        timer.cancel()
    assert parents.fired == []
    assert timers.settle(5.0)


def test_failing_start_leaves_nothing(
    heap: Timers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the thread cannot be started, the error comes up and nothing is pending."""
    owner = Owner()
    timer = Timer(owner.fire, heap)

    def refuse(*args: object) -> None:
        raise RuntimeError("no threads")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ClientClosedError, match="no threads"):
            timer.set(time.monotonic())
    assert heap.settle(0.0)
    timer.set(time.monotonic())
    owner.wait()


def test_setting_later_is_cheap(heap: Timers) -> None:
    """Putting a deadline off puts nothing into the thread's queue."""
    owner = Owner()
    timer = Timer(owner.fire, heap)
    timer.set(time.monotonic() + 1000.0)
    put: Callable[[], int] = heap._wakeups.qsize
    before = put()
    for _ in range(1000):
        timer.set(time.monotonic() + 1000.0)
    assert put() <= before
    timer.cancel()
