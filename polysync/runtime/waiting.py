"""How a thread waits for the rules: woken at once, on time, and by ^C.

Nothing here polls. The waits of a lock and of a `queue.SimpleQueue` are the two that
CPython interrupts for a signal and gevent replaces by its own; both are looked up when
used, as gevent may patch them after this module was imported.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any

from polysync.errors import (
    DeliveryTimeoutError,
    PolysyncError,
    ReceiveTimeoutError,
    ReplyTimeoutError,
)
from polysync.events import Event
from polysync.protocol.tickets import Delivery

__all__ = ["BACKLOG_MARK", "Subscription", "Subscriptions", "Waiter", "late", "limited"]

#: How many events in a subscription are worth a word; again at each doubling.
BACKLOG_MARK = 1_000


def limited(timeout: float | None) -> float:
    """Return a timeout in the form that locks take: -1 for none, never too large."""
    if timeout is None or timeout > threading.TIMEOUT_MAX:
        return -1.0
    return max(0.0, timeout)


def late(delivery: Delivery, timeout: float) -> PolysyncError:
    """Return the error of a call that gave up on a delivery, or on its reply."""
    if delivery.result is not None:
        return ReplyTimeoutError(
            f"the message arrived, but no whole reply came within {timeout:g} s",
            timeout=timeout,
        )
    fate = (
        "it was sent, and may have arrived all the same"
        if delivery.uncertain
        else "it was not sent, and will not be"
    )
    return DeliveryTimeoutError(
        f"the message was not confirmed within {timeout:g} s: {fate}",
        text=delivery.text,
        metadata=delivery.metadata,
        uncertain=delivery.uncertain,
    )


class Waiter:
    """Lets one thread wait until another wakes it, once."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> None:
        """Wake the waiting thread, or the one that will wait."""
        self._lock.release()

    def wait(self, timeout: float | None) -> bool:
        """Wait; false if nobody woke this thread within ``timeout`` seconds."""
        return self._lock.acquire(timeout=limited(timeout))


class Subscription:
    """Events from the moment of subscribing on, as an iterator.

    Any number of threads may iterate; each event goes to one of them. The runtime
    holds a subscription weakly: dropping it ends it.

    Args:
        types: What to let through; empty for everything.
        timeout: Seconds to wait for the next event, or ``None`` for as long as the
            conversation lasts.
        check: Called before each event; raises where it makes no sense to ask. It is
            told whether there is an event to be had without waiting.
    """

    __slots__ = ("__weakref__", "_check", "_events", "_mark", "_timeout", "_types")

    def __init__(
        self,
        types: tuple[type[Event], ...],
        timeout: float | None,
        check: Callable[[bool], None],
    ) -> None:
        self._types = types
        self._timeout = timeout
        self._check = check
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._mark = BACKLOG_MARK

    def put(self, event: Event) -> int:
        """Hand over an event. Never blocks and runs no foreign code.

        Returns:
            How many events wait, if that is worth a word; else 0.
        """
        if self._types and not isinstance(event, self._types):
            return 0
        self._events.put(event)
        length = self._events.qsize()
        if length < self._mark:
            return 0
        self._mark *= 2
        return length

    def finish(self, error: Exception | None) -> None:
        """There will be no more; the iteration ends, or raises ``error``."""
        self._events.put(_End(error))

    def __iter__(self) -> Subscription:
        return self

    def __next__(self) -> Event:
        return self.next(self._timeout)

    def next(self, timeout: float | None) -> Event:
        """Return the next event.

        Raises:
            ReceiveTimeoutError: None came within ``timeout`` seconds.
            StopIteration: There will be no more.
        """
        self._check(not self._events.empty())
        wait = limited(timeout)
        try:
            item = self._events.get(timeout=None if wait < 0 else wait)
        except queue.Empty:
            wanted = " or ".join(t.__name__ for t in self._types) or "event"
            raise ReceiveTimeoutError(
                f"no {wanted} came within {timeout:g} s", timeout=timeout
            ) from None
        if isinstance(item, _End):
            self._events.put(item)  # for the other threads, and for the next call
            if item.error is not None:
                raise item.error
            raise StopIteration
        event: Event = item
        return event


class Subscriptions:
    """The subscriptions of one client, held weakly. Needs the client's lock."""

    __slots__ = ("_references",)

    def __init__(self) -> None:
        self._references: list[weakref.ref[Subscription]] = []

    def __bool__(self) -> bool:
        return bool(self._references)

    def add(self, subscription: Subscription) -> None:
        """Let a subscription hear of what comes from now on."""
        self._references.append(weakref.ref(subscription))

    def put(self, event: Event) -> int:
        """Hand over an event, and forget the subscriptions that are gone.

        Returns:
            How many events wait in one of them, if that is worth a word; else 0.
        """
        gone, waiting = False, 0
        for reference in self._references:
            subscription = reference()
            if subscription is None:
                gone = True
            else:
                waiting = max(waiting, subscription.put(event))
        if gone:
            self._references = [r for r in self._references if r() is not None]
        return waiting

    def finish(self, error: Exception | None) -> None:
        """Nothing comes any more: see `Subscription.finish`."""
        references, self._references = self._references, []
        for reference in references:
            subscription = reference()
            if subscription is not None:
                subscription.finish(error)


class _End:
    __slots__ = ("error",)

    def __init__(self, error: Exception | None) -> None:
        self.error = error
