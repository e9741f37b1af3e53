"""One answer to ``GET …/events``: the news of a conversation for some seconds."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import cast

from polysync.client import Client
from polysync.errors import PolysyncError, ReceiveTimeoutError
from polysync.events import LiveAgentTyping, PolyAgentThinking
from polysync.integrations.web.feed import Feed
from polysync.integrations.web.wire import KEEP_ALIVE, sse
from polysync.models import ConnectionChange, ConnectionStatus
from polysync.runtime.clock import Deadline
from polysync.runtime.waiting import Subscription

__all__ = ["EventStream"]

#: What a stream that does not wait begins with: ask again in a second.
_ASK_AGAIN = b"retry: 1000\n\n"

#: The last words of a stream that ends because its time is over.
_AGAIN = sse({"type": "again", "id": None, "sequence": None, "time": None})

_PASSING = frozenset(
    {
        ConnectionStatus.CONNECTING,
        ConnectionStatus.RECONNECTING,
        ConnectionStatus.FAILED,
    }
)


class EventStream:
    """An iterator of bytes that has to be closed, as servers do with what they send.

    Each step returns within ``keep_alive`` seconds: a server learns that the browser
    has gone by writing to it. `close` may be called from any thread and wakes a step
    that waits.

    Args:
        client: The conversation's client, connected or ended.
        feed: What the page has seen.
        seconds: How long the stream lasts; 0 gives what is there, and waits for
            nothing.
        keep_alive: Seconds of silence after which a comment is sent.
        release: Called once, at the end.
        orphans: Where the release goes if the stream is dropped without being closed.
            The collector, which notices that, runs at any place of any thread, so
            nothing more than that can be done there.
    """

    def __init__(
        self,
        client: Client,
        feed: Feed,
        *,
        seconds: float,
        keep_alive: float,
        release: Callable[[], object],
        orphans: queue.SimpleQueue[Callable[[], object]],
    ) -> None:
        self._client = client
        self._feed = feed
        self._keep_alive = keep_alive
        self._patient = seconds > 0
        self._deadline = Deadline(seconds)
        stack = ExitStack()
        stack.callback(release)
        try:
            # Both kinds of news in one line, so that one wait serves for both.
            self._news = cast("Subscription", client.events(replay=True))
            put = cast("Callable[[object], None]", self._news.put)
            client.on_connection_change(put)
            stack.callback(client.off, put)
            stack.callback(self._news.finish, None)
        except BaseException:
            stack.close()
            raise
        self._blocks = self._run()
        self._stack = stack
        self._closing = threading.Lock()
        self._finalizer = weakref.finalize(self, orphans.put, stack.close)
        self._finalizer.atexit = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._finalizer.alive:
            raise StopIteration
        return next(self._blocks)

    def close(self) -> None:
        """Give the client back. Idempotent."""
        with self._closing:
            self._finalizer.detach()
            self._stack.close()

    def _run(self) -> Iterator[bytes]:
        feed, client = self._feed, self._client
        opening = feed.open() + (b"" if self._patient else _ASK_AGAIN)
        if not feed.known:
            yield opening
            return
        news, over = self._at_hand()
        yield opening + news + self._passing()
        while not over:
            left = self._deadline.remaining() or 0.0
            if left <= 0.0:
                yield _AGAIN
                return
            try:
                event = self._news.next(min(left, self._keep_alive))
            except ReceiveTimeoutError:
                yield KEEP_ALIVE
                continue
            except (StopIteration, PolysyncError):
                break
            first = feed.send(event)
            news, over = self._at_hand()
            if first or news:
                yield first + news
        if client.status is ConnectionStatus.FAILED:
            yield self._status()

    def _at_hand(self) -> tuple[bytes, bool]:
        """Return the news that is there already, and whether there will be no more."""
        pieces: list[bytes] = []
        try:
            while True:
                pieces.append(self._feed.send(self._news.next(0.0)))
        except ReceiveTimeoutError:
            return b"".join(pieces), False
        except (StopIteration, PolysyncError):
            return b"".join(pieces), True

    def _passing(self) -> bytes:
        """Return what is the case now and was told to those who were there."""
        client = self._client
        passing = self._status() if client.status in _PASSING else b""
        if client.agent_is_typing:
            human = client.live_agent
            passing += self._feed.send(
                PolyAgentThinking()
                if human is None
                else LiveAgentTyping(agent_id=human.id, agent_name=human.name)
            )
        return passing

    def _status(self) -> bytes:
        return self._feed.send(ConnectionChange(status=self._client.status))
