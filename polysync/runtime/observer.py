"""What an engine tells of its work, so that it can be traced and measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

from polysync.protocol.effects import Effects
from polysync.protocol.tickets import Delivery, Ticket

__all__ = ["Observer", "observation"]


class Observer(Protocol):
    """Sees calls begin and end, at the moment and on the thread where they do.

    Callbacks wait for one another, so the time at which one runs says little. None of
    the methods may raise or block.
    """

    def connecting(self) -> AbstractContextManager[object]:
        """Return what to do around a connect(), on the caller's thread."""

    def sending(self, delivery: Delivery) -> None:
        """A message is about to go out. On the caller's thread, under the lock."""

    def saw(self, news: Sequence[object], settled: Sequence[Ticket]) -> None:
        """Something has happened. On any thread, without the lock.

        Args:
            news: The events, changes and errors that are told to callbacks.
            settled: What is done, before its callers know it. A ticket without result
                and error has been given up by its caller.
        """


def observation(observer: Observer, effects: Effects) -> Callable[[], None] | None:
    """Return what tells the observer of one step's effects, if there is anything."""
    if not (effects.news or effects.settled):
        return None
    return partial(observer.saw, tuple(effects.news), tuple(effects.settled))
