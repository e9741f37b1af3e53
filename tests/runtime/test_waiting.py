"""How threads wait: woken at once, on time, and each event for one of them."""

from __future__ import annotations

import gc
import itertools
import math
import threading
import time
import weakref

import pytest

from polysync.errors import (
    ClientClosedError,
    ConnectionLostError,
    DeliveryTimeoutError,
    ReceiveTimeoutError,
    ReplyTimeoutError,
)
from polysync.events import Event, LanguageChanged, SessionEnd, UserMessage
from polysync.protocol.tickets import Delivery
from polysync.runtime.waiting import (
    Subscription,
    Subscriptions,
    Waiter,
    late,
    limited,
)
from tests.clients import NOISE, PATIENCE, SHORT, Task


def anything(at_hand: bool) -> None:
    """A check that finds nothing wrong."""


def subscription(*types: type[Event], timeout: float | None = SHORT) -> Subscription:
    return Subscription(types, timeout, anything)


# Test limited.


@pytest.mark.parametrize("timeout", [None, math.inf, threading.TIMEOUT_MAX * 2])
def test_what_no_lock_can_take_is_for_ever(timeout: float | None) -> None:
    assert limited(timeout) == -1.0


@pytest.mark.parametrize("timeout", [0.0, 1.5, 1e6])
def test_the_rest_is_what_it_is(timeout: float) -> None:
    assert limited(timeout) == timeout


def test_what_is_over_is_no_time() -> None:
    assert limited(-0.5) == 0.0


# Test Waiter.


def test_a_waiter_is_woken_at_once() -> None:
    waiter = Waiter()
    task = Task(waiter.wait, PATIENCE)
    waiter.wake()
    assert task.result() is True
    assert task.took < NOISE


def test_a_wake_that_comes_first_is_not_lost() -> None:
    waiter = Waiter()
    waiter.wake()
    assert waiter.wait(0) is True


@pytest.mark.parametrize("timeout", [0.0, SHORT])
def test_a_waiter_gives_up_in_time(timeout: float) -> None:
    started = time.monotonic()
    assert Waiter().wait(timeout) is False
    assert timeout * 0.99 <= time.monotonic() - started < timeout + NOISE


# Test late.


def delivery(**facts: object) -> Delivery:
    one = Delivery(id="1", text="one", metadata={"a": "b"}, frame="{}")
    for name, value in facts.items():
        setattr(one, name, value)
    return one


def test_a_message_that_arrived_lacks_its_reply() -> None:
    error = late(delivery(result=UserMessage(text="one")), 1.5)
    assert isinstance(error, ReplyTimeoutError)
    assert "the message arrived" in str(error)
    assert "1.5 s" in str(error)
    assert error.timeout == 1.5


@pytest.mark.parametrize(
    ("uncertain", "words"), [(True, "may have arrived"), (False, "was not sent")]
)
def test_a_message_that_was_not_confirmed(uncertain: bool, words: str) -> None:
    error = late(delivery(uncertain=uncertain), 1.5)
    assert isinstance(error, DeliveryTimeoutError)
    assert error.uncertain is uncertain
    assert error.text == "one"
    assert error.metadata == {"a": "b"}
    assert words in str(error)


# Test Subscription.


def test_events_are_let_through_by_type() -> None:
    events = subscription(LanguageChanged)
    wanted = LanguageChanged(language_code="fr")
    for event in (SessionEnd(), wanted, UserMessage(text="no")):
        events.put(event)
    assert next(events) is wanted
    with pytest.raises(ReceiveTimeoutError, match="no LanguageChanged came"):
        next(events)


def test_without_types_all_are_let_through() -> None:
    events = subscription()
    put = [SessionEnd(), LanguageChanged()]
    for event in put:
        events.put(event)
    assert [next(events), next(events)] == put


def test_a_subscription_is_its_own_iterator() -> None:
    events = subscription()
    assert iter(events) is events


def test_time_runs_out() -> None:
    events = subscription(timeout=None)
    task = Task(events.next, SHORT)
    error = task.outcome()
    assert isinstance(error, ReceiveTimeoutError)
    assert error.timeout == SHORT
    assert SHORT * 0.99 <= task.took < SHORT + NOISE


def test_the_end_comes_after_what_was_put_before() -> None:
    events = subscription()
    events.put(SessionEnd())
    events.finish(None)
    assert [type(event) for event in events] == [SessionEnd]
    assert list(events) == []


def test_an_error_comes_after_what_was_put_before_again_and_again() -> None:
    events = subscription()
    events.put(SessionEnd())
    events.finish(ConnectionLostError("gone"))
    assert isinstance(next(events), SessionEnd)
    for _ in range(3):
        with pytest.raises(ConnectionLostError):
            next(events)


def test_all_that_wait_learn_of_the_end() -> None:
    events = subscription(timeout=None)
    tasks = [Task(list, events) for _ in range(5)]
    events.put(SessionEnd())
    events.finish(None)
    got = list(itertools.chain(*(task.result() for task in tasks)))
    assert len(got) == 1


def test_each_event_goes_to_one_thread() -> None:
    events = subscription(timeout=None)
    tasks = [Task(list, events) for _ in range(5)]
    put = [UserMessage(text=str(number)) for number in range(200)]
    for event in put:
        events.put(event)
    events.finish(None)
    got = [event.text for task in tasks for event in task.result()]
    assert sorted(got, key=int) == [event.text for event in put]


def test_the_check_is_asked_before_each_event_and_told_whether_there_is_one() -> None:
    asked: list[bool] = []

    def check(at_hand: bool) -> None:
        asked.append(at_hand)
        if not at_hand:
            raise ClientClosedError("nothing can come")

    events = Subscription((), None, check)
    events.put(SessionEnd())
    assert isinstance(next(events), SessionEnd)
    with pytest.raises(ClientClosedError):
        next(events)
    assert asked == [True, False]


# Test Subscriptions.


def test_an_event_goes_to_all() -> None:
    all_of_them = Subscriptions()
    assert not all_of_them
    one, two = subscription(), subscription(SessionEnd)
    all_of_them.add(one)
    all_of_them.add(two)
    assert all_of_them
    event = SessionEnd()
    all_of_them.put(event)
    assert next(one) is event
    assert next(two) is event


def test_what_nobody_holds_is_forgotten() -> None:
    all_of_them = Subscriptions()
    kept, dropped = subscription(), subscription()
    all_of_them.add(kept)
    all_of_them.add(dropped)
    reference = weakref.ref(dropped)
    del dropped
    gc.collect()
    assert reference() is None
    all_of_them.put(SessionEnd())
    assert len(all_of_them._references) == 1
    assert isinstance(next(kept), SessionEnd)


def test_an_end_is_an_end_for_all_and_begins_anew() -> None:
    all_of_them = Subscriptions()
    one = subscription()
    all_of_them.add(one)
    all_of_them.add(subscription())
    all_of_them.finish(None)
    assert list(one) == []
    assert not all_of_them
    another = subscription()
    all_of_them.add(another)
    all_of_them.put(SessionEnd())
    assert isinstance(next(another), SessionEnd)
