"""Callbacks on a thread of their own, one after the other, in the order of the events.

A thread pool would run them side by side and so out of order; the reader's thread would
let a slow one delay the heartbeat. One thread and one queue do neither.
"""

from __future__ import annotations

import logging
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any

from polysync.errors import PolysyncError
from polysync.events import Event
from polysync.runtime import threads

__all__ = ["BACKLOG_MARK", "Callback", "Callbacks", "Line"]

logger = logging.getLogger(__name__)

Callback = Callable[[Any], object]

#: Length of the queue at which a slow callback is reported; again at each doubling.
BACKLOG_MARK = 1_000


class Line:
    """What is to be told to callbacks, in order, and the thread that tells it.

    The thread starts with the first thing to tell and ends with `finish`. There is
    never a second one: what is to be told after `finish`, of another session or from a
    callback that is still busy, is told by the same thread if it has not ended yet.

    Knows no callback but those in line, so that who holds it does not hold, by way of
    a callback, the client.
    """

    __slots__ = (
        "__weakref__",
        "_mark",
        "_queue",
        "_running",
        "_running_lock",
        "thread",
    )

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        #: Made with the first thing to tell: most clients have no callbacks.
        self._queue: queue.SimpleQueue[Any] | None = None
        # Whether the thread takes what is queued. Guarded by a lock of its own, as the
        # thread decides to end without the client's.
        self._running = False
        self._running_lock = threading.Lock()
        self._mark = BACKLOG_MARK

    def put(self, owner: Callbacks, targets: tuple[Callback, ...], news: object) -> int:
        """Call ``targets`` with ``news`` when all before it has been told.

        Returns:
            How many wait to be told, if that is worth a word; else 0.
        """
        with self._running_lock:
            line = self._queue
            if line is None:
                line = self._queue = queue.SimpleQueue()
            line.put((targets, news))
            if not self._running:
                self._start(owner, line)
        length = line.qsize()
        if length < self._mark:
            return 0
        self._mark *= 2
        return length

    def finish(self) -> None:
        """Let the thread end once it has told what is queued."""
        # No lock: the collector calls this too, at any place of any thread.
        line = self._queue
        if self._running and line is not None:
            line.put(None)
            self._mark = BACKLOG_MARK

    def _start(self, owner: Callbacks, line: queue.SimpleQueue[Any]) -> None:
        try:
            self.thread = threads.spawn(
                "callbacks", self._run, weakref.ref(owner), line
            )
        except PolysyncError as error:
            logger.error("callbacks cannot be called: %s", error)
        else:
            self._running = True

    def _run(self, owner: weakref.ref[Callbacks], line: queue.SimpleQueue[Any]) -> None:
        """The callback thread."""
        try:
            while True:
                item = line.get()
                if item is None:
                    if self._ends(line):
                        return
                    continue
                targets, news = item
                for callback in targets:
                    _call(owner(), callback, news)
                # Nothing of the last event may be kept while waiting for the next.
                del item, targets, news, callback
        except BaseException:
            # Killed, by gevent for one. The next thing to tell starts another.
            with self._running_lock:
                self._running = False
            raise

    def _ends(self, line: queue.SimpleQueue[Any]) -> bool:
        with self._running_lock:
            self._running = not line.empty()
            return not self._running


class Callbacks:
    """The callbacks of one client.

    Args:
        line: Where they wait for their turn. Its thread holds this object weakly, so a
            client that is forgotten can be collected.
    """

    __slots__ = ("__weakref__", "_line", "_registered", "_targets", "around")

    def __init__(self, line: Line) -> None:
        #: Called with each callback's call instead of making it directly, for
        #: frameworks that have something to do around foreign threads.
        self.around: Callable[[Callable[[], object]], object] | None = None
        self._line = line
        self._registered: list[tuple[type, Callback]] = []
        self._targets: dict[type, tuple[Callback, ...]] = {}

    def add(self, kind: type, callback: Callback) -> None:
        """Call ``callback`` for everything of this kind. Needs the client's lock."""
        self._registered = [*self._registered, (kind, callback)]
        self._targets = {}

    def remove(self, callback: Callback) -> int:
        """Forget a callback; return how often it was there. Needs the lock."""
        # Equality, not identity: a bound method is another object each time.
        kept = [pair for pair in self._registered if pair[1] != callback]
        removed = len(self._registered) - len(kept)
        self._registered = kept
        self._targets = {}
        return removed

    def tell(self, news: Any) -> int:
        """Queue the callbacks for an event, a change or an error. Needs the lock.

        Returns:
            How much is queued, if that is worth a word; else 0.
        """
        kind = type(news)
        targets = self._targets.get(kind)
        if targets is None:
            targets = self._targets[kind] = self._for(kind)
        return self._line.put(self, targets, news) if targets else 0

    def _for(self, kind: type) -> tuple[Callback, ...]:
        exact = [
            c for k, c in self._registered if issubclass(kind, k) and k is not Event
        ]
        every = [c for k, c in self._registered if k is Event and issubclass(kind, k)]
        return (*exact, *every)

    def _failed(self, callback: Callback, error: BaseException, news: Any) -> None:
        """A callback has raised: say so, and go on. Runs on the callback thread."""
        logger.error("callback %r failed", callback, exc_info=error)
        if news is error or isinstance(news, Exception):
            return  # an error callback that fails is not told of its own failure
        # SystemExit is an error here too, though Python's tree has it elsewhere.
        kind = type(error) if isinstance(error, Exception) else Exception
        for target in self._for(kind):
            _call(self, target, error)


def _call(owner: Callbacks | None, callback: Callback, news: Any) -> None:
    try:
        if owner is not None and owner.around is not None:
            owner.around(lambda: callback(news))
        else:
            callback(news)
    except (Exception, SystemExit) as error:
        # sys.exit() in a callback ends neither the process nor the callbacks.
        if owner is None:
            logger.exception("callback %r failed", callback)
        else:
            owner._failed(callback, error, news)
