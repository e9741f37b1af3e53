"""Conversations in a web application: `ClientPool`.

Each request may reach another process. The pool gives it the live client of its own
process if there is one, else one resumed from the store, else a new conversation; and
it sees to it that one request at a time works on a conversation, wherever it runs.

What is live is kept in an entry per conversation. Three locks are taken in this order:
the entry's ``turn`` and then the store's lock by whoever wants a conversation for
itself; the entry's ``opening`` by whoever needs its client; the pool's own for a
moment, by everybody, never while anything is waited for.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from polysync.client import Client
from polysync.errors import (
    ClientClosedError,
    ConfigurationError,
    ConnectionLostError,
    PolysyncError,
    SessionEndedError,
    SessionNotFoundError,
)
from polysync.models import ConnectionStatus
from polysync.options import checked_timeout
from polysync.runtime import threads
from polysync.runtime.clock import Deadline, monotonic
from polysync.runtime.timers import Timer
from polysync.runtime.waiting import limited
from polysync.sessions.entry import Entry, PoolStatistics, Wish
from polysync.sessions.lock import busy
from polysync.sessions.state import SessionState
from polysync.sessions.store import CacheStore, LockTimeoutError

__all__ = ["ClientPool", "PoolStatistics"]

logger = logging.getLogger(__name__)

#: Seconds after which the state of a conversation that is only listened to is saved
#: again, so that it does not expire in the store while somebody waits in a queue.
REFRESH = 30.0

#: Seconds that leaving the process may take.
EXIT_TIMEOUT = 2.0

#: Settings that a saved state decides.
_OF_THE_STATE = frozenset({"environment", "access_token", "streaming"})

_DEAD = frozenset({ConnectionStatus.CLOSED, ConnectionStatus.FAILED})


class ClientPool:
    """Gives each request the client of its conversation.

    ::

        pool = ClientPool(CacheStore(cache), connector_token=…, host=…)

        with pool.conversation(request.session["chat"]) as client:
            reply = client.ask(text)

    Making a pool starts nothing. It may be made before a fork: each process has its
    own clients. At exit they are closed, and the conversations stay open on the server.

    Args:
        store: Where states are kept between requests.
        max_clients: How many live clients to keep in this process. Beyond that the
            one that was used least recently is detached; those in use are not, so
            there may be more while more are in use. 0 detaches each after use.
        idle_timeout: Seconds without use after which a client is detached. A session
            takes ten connections at once: with more processes than that, choose this
            short, or send each visitor to the same process.
        wait: How far `Client.connect` waits in a new conversation.
        configure: Called with each new client and its key before it connects; a place
            to register callbacks.
        **options: Settings of the clients, as for `Client`.

    Raises:
        ConfigurationError: A setting is wrong.
    """

    def __init__(
        self,
        store: CacheStore,
        *,
        max_clients: int = 100,
        idle_timeout: float = 60.0,
        wait: str = "greeting",
        configure: Callable[[Client, str], object] | None = None,
        **options: Any,
    ) -> None:
        if max_clients < 0 or idle_timeout < 0:
            raise ConfigurationError("max_clients and idle_timeout cannot be negative")
        if wait not in ("greeting", "agent", "session"):
            raise ConfigurationError(
                f"wait must be one of greeting, agent, session, not {wait!r}"
            )
        Client(**options)  # checks the settings, and starts nothing
        self._store = store
        self._max_clients = max_clients
        self._idle_timeout = idle_timeout
        self._wait = wait
        self._configure = configure
        self._options = options
        self._timer = Timer(self._idle)
        self._reset()
        _pools.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._statistics = PoolStatistics()

    def __repr__(self) -> str:
        return f"<ClientPool of {self.statistics.live} live clients, {self._store!r}>"

    @property
    def store(self) -> CacheStore:
        """Where states are kept between requests."""
        return self._store

    @property
    def statistics(self) -> PoolStatistics:
        """A copy of the counters of this process."""
        with self._lock:
            entries = self._entries.values()
            return attrs.evolve(
                self._statistics,
                live=sum(entry.client is not None for entry in entries),
                in_use=sum(entry.users for entry in entries),
            )

    @contextmanager
    def conversation(
        self,
        key: str,
        *,
        exclusive: bool = True,
        create: bool = True,
        new: bool = False,
        ended: bool = False,
        timeout: float = 30.0,
    ) -> Iterator[Client]:
        """Give the connected client of a conversation.

        The client is the pool's: leave it open. What arrived while no process was
        connected is in its `Client.history`, which is complete.

        Args:
            key: Names the conversation; whoever knows it has the conversation, so use
                something that cannot be guessed, such as a random id in the user's
                server-side or signed session.
            exclusive: Whether to keep all others out meanwhile. Turn it off to listen
                (a stream of events to a browser) while others talk.
            create: Whether to begin a conversation if there is none (any more).
            new: Whether to leave the conversation that there is and begin another.
            ended: Whether a conversation that has ended will do: its client is not
                connected, but has the history as far as the server still knows it.
            timeout: Seconds until the client must be there: for another request on the
                same conversation, and for connecting.

        Raises:
            LockTimeoutError: Another request did not end in time.
            SessionNotFoundError: There is no conversation (any more), and none may be
                created.
            SessionEndedError: The conversation is over, and none may be created.
            StoreError: The store failed.
            PolysyncError: As `Client.connect`.
        """
        if not isinstance(key, str) or not key:
            raise ConfigurationError("key must be a text that is not empty")
        if new and not (exclusive and create):
            raise ConfigurationError("a new conversation is exclusive, and created")
        seconds = checked_timeout(timeout, "timeout", 30.0)
        wish = Wish(exclusive, create, new, ended, Deadline(seconds))
        entry = self._enter(key)
        try:
            if exclusive:
                with self._turn(entry, wish):
                    client = self._open(entry, wish)
                    try:
                        yield client
                    finally:
                        self._save(entry, client)
            else:
                client = self._listen(entry, wish)
                try:
                    yield client
                finally:
                    if monotonic() - entry.saved_at > self._refresh:
                        self._save_between(entry, client)
        finally:
            self._leave(entry)

    def forget(self, key: str) -> None:
        """Drop a conversation: the next request begins another.

        The session is not ended on the server; call `Client.end_session` for that.

        Raises:
            StoreError: The store failed.
        """
        self._store.delete(key)
        with self._lock:
            entry = self._entries.get(key)
            client = None
            if entry is not None:
                client, entry.client = entry.client, None
                self._tidy(entry)
        if client is not None:
            client.close()

    def close(self, *, timeout: float | None = None) -> None:
        """Detach all clients of this process. The pool can be used again after.

        Args:
            timeout: Seconds after which the rest are dropped without a goodbye.
        """
        deadline = Deadline(timeout)
        with self._lock:
            self._timer.cancel()
            live = [(e, e.client) for e in self._entries.values() if e.client]
            for entry, _ in live:
                entry.client = None
                self._tidy(entry)
        for entry, client in live:
            if deadline.expired:
                break
            self._detach(entry, client)

    # Taking turns

    def _enter(self, key: str) -> Entry:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = Entry(key)
            self._entries.move_to_end(key)
            entry.users += 1
            return entry

    @contextmanager
    def _turn(self, entry: Entry, wish: Wish) -> Iterator[None]:
        """Keep others out: this process's threads first, then other processes."""
        left = wish.left
        if not entry.turn.acquire(timeout=limited(left)):
            raise busy(left)
        try:
            with self._store.lock(entry.key, timeout=wish.left):
                yield
        finally:
            entry.turn.release()

    def _listen(self, entry: Entry, wish: Wish) -> Client:
        """Return a client to listen with, which does not disturb a turn elsewhere."""
        try:
            return self._open(entry, attrs.evolve(wish, create=False))
        except (SessionNotFoundError, SessionEndedError):
            if not wish.create:
                raise
        # Beginning a conversation is a turn: two listeners must not begin two.
        with self._turn(entry, wish):
            return self._open(entry, attrs.evolve(wish, exclusive=True))

    # Finding a client

    def _open(self, entry: Entry, wish: Wish) -> Client:
        """Return a client that is connected, or one that has ended if that will do."""
        left = wish.left
        if not entry.opening.acquire(timeout=limited(left)):
            raise busy(left)
        try:
            state = None if wish.new else self._store.load(entry.key)
            try:
                client = self._live(entry, state, wish)
                if client is None and state is not None:
                    client = self._resume(entry, state, wish)
            except SessionEndedError:
                if not wish.create:
                    raise
                client = None
            if client is not None:
                return client
            if wish.create:
                return self._create(entry, wish)
            raise SessionNotFoundError(
                "there is no such conversation (any more): begin another"
            )
        finally:
            entry.opening.release()

    def _live(
        self, entry: Entry, state: SessionState | None, wish: Wish
    ) -> Client | None:
        """Return the client of this process, if it is of use."""
        client = entry.client
        if client is None:
            return None
        if state is not None and state.session_id == client.session_id:
            if client.ended:
                return self._after_the_end(client, wish)
            try:
                # A listener waits for no reconnection: it has the status to tell.
                if wish.exclusive or client.status in _DEAD:
                    client.connect(wait="session", timeout=wish.left)
            except SessionEndedError:
                return self._after_the_end(client, wish)
            except (ClientClosedError, ConnectionLostError, SessionNotFoundError):
                pass  # a fresh client may fare better
            else:
                self._count("hits")
                return client
        # Another process has begun another conversation, or this one is lost.
        self._put(entry, None)
        client.close()
        return None

    def _resume(self, entry: Entry, state: SessionState, wish: Wish) -> Client | None:
        """Take up the conversation of a saved state, if it is still there."""
        options = {k: v for k, v in self._options.items() if k not in _OF_THE_STATE}
        client = Client.resume(state, replay=True, **options)
        try:
            self._connect(entry, client, "session", wish)
        except SessionEndedError:
            if wish.ended:
                self._put(entry, client)
            else:
                client.close()
            return self._after_the_end(client, wish)
        except SessionNotFoundError:
            client.close()
            if wish.exclusive:  # else another process may be about to replace it
                self._store.delete(entry.key)
            return None
        except BaseException:
            client.close()
            raise
        self._put(entry, client)
        self._count("resumed")
        return client

    def _after_the_end(self, client: Client, wish: Wish) -> Client:
        if wish.ended:
            return client
        raise SessionEndedError(
            "this conversation is over: begin another", reason=client.end_reason
        )

    def _create(self, entry: Entry, wish: Wish) -> Client:
        """Begin a conversation, in the place of the one that there was, if any."""
        before = entry.client
        self._put(entry, None)
        if before is not None:
            before.close()
        client = Client(**self._options)
        try:
            self._connect(entry, client, self._wait, wish)
            state = client.state
            if state is None:
                raise AssertionError("a connected client has a state")
            self._store.save(entry.key, state)
        except BaseException:
            client.close()
            raise
        entry.saved_at = monotonic()
        self._put(entry, client)
        self._count("created")
        return client

    def _connect(self, entry: Entry, client: Client, wait: str, wish: Wish) -> None:
        self._close_all(self._make_room(1))
        if self._configure is not None:
            self._configure(client, entry.key)
        client.connect(wait=wait, timeout=wish.left)

    def _put(self, entry: Entry, client: Client | None) -> None:
        with self._lock:
            entry.client = client

    # Keeping its state

    @property
    def _refresh(self) -> float:
        return min(REFRESH, self._store.timeout / 4)

    def _save(self, entry: Entry, client: Client) -> None:
        """Save how far the conversation is. Needs the turn.

        Also after the end, so that other processes can tell the end from a
        conversation that never was.
        """
        try:
            state, saved = client.state, self._store.load(entry.key)
            # Forgotten meanwhile, or begun anew by somebody after our lock was lost?
            if state and saved and saved.session_id == state.session_id:
                self._store.save(entry.key, state)
                entry.saved_at = monotonic()
        except PolysyncError as error:
            # The conversation is in the store already, only not quite as far.
            logger.warning("the state of a conversation was not saved: %s", error)

    def _save_between(self, entry: Entry, client: Client) -> None:
        """Save, unless somebody has the turn, who will."""
        if not entry.turn.acquire(blocking=False):
            return
        try:
            with self._store.lock(entry.key, timeout=0.0):
                self._save(entry, client)
        except LockTimeoutError:
            pass
        except PolysyncError as error:
            logger.warning("the state of a conversation was not saved: %s", error)
        finally:
            entry.turn.release()

    # Letting go

    def _leave(self, entry: Entry) -> None:
        with self._lock:
            entry.users -= 1
            entry.used_at = monotonic()
            self._tidy(entry)
        self._close_all(self._make_room(0))
        with self._lock:
            self._schedule()

    def _make_room(self, wanted: int) -> list[tuple[Entry, Client]]:
        """Take out the clients that are too many, the longest unused first."""
        with self._lock:
            live = [e for e in self._entries.values() if e.client is not None]
            surplus = max(0, len(live) + wanted - max(wanted, self._max_clients))
            return [
                (entry, self._take_out(entry))
                for entry in [e for e in live if not e.users][:surplus]
            ]

    def _take_out(self, entry: Entry) -> Client:
        """Take a client out of the pool. Needs the lock."""
        client, entry.client = entry.client, None
        if client is None:
            raise AssertionError("only entries with a client are taken out")
        self._statistics.detached += 1
        self._tidy(entry)
        return client

    def _tidy(self, entry: Entry) -> None:
        """Drop an entry that nobody needs. Needs the lock."""
        idle = entry.client is None and not entry.users
        if idle and self._entries.get(entry.key) is entry:
            del self._entries[entry.key]

    def _close_all(self, surplus: list[tuple[Entry, Client]]) -> None:
        for entry, client in surplus:
            self._detach(entry, client)

    def _detach(self, entry: Entry, client: Client) -> None:
        # How far its callbacks have come counts, not where the last turn ended.
        if not client.ended:
            self._save_between(entry, client)
        client.close()

    def _schedule(self) -> None:
        """Wake when the next client has been idle for long enough. Needs the lock."""
        idle = [e.used_at for e in self._entries.values() if e.client and not e.users]
        self._timer.set(min(idle) + self._idle_timeout if idle else None)

    def _idle(self) -> None:
        # Closing takes a moment, and the timer thread serves all clients.
        threads.spawn("pool", self._sweep)

    def _sweep(self) -> None:
        due = monotonic() - self._idle_timeout
        with self._lock:
            surplus = [
                (entry, self._take_out(entry))
                for entry in list(self._entries.values())
                if entry.client and not entry.users and entry.used_at <= due
            ]
            self._schedule()
        self._close_all(surplus)

    def _count(self, what: str) -> None:
        with self._lock:
            setattr(self._statistics, what, getattr(self._statistics, what) + 1)


_pools: weakref.WeakSet[ClientPool] = weakref.WeakSet()


def _at_exit() -> None:
    deadline = Deadline(EXIT_TIMEOUT)
    for pool in list(_pools):
        pool.close(timeout=deadline.remaining())


def _after_fork() -> None:
    # The parent's clients are the parent's, and its locks may be held for ever.
    for pool in list(_pools):
        pool._reset()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
