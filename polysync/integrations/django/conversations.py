"""The conversations of this process, and which of them is a visitor's."""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from django.core.signals import setting_changed
from django.db import close_old_connections, connections
from django.dispatch import Signal
from django.http import HttpRequest

from polysync.client import Client
from polysync.events import Event, SessionEnd
from polysync.integrations.django.cache import SharedCache
from polysync.integrations.django.conf import Settings, settings
from polysync.integrations.django.signals import (
    message_received,
    message_sent,
    session_ended,
)
from polysync.integrations.web.service import ChatService
from polysync.sessions.lock import lock_directory
from polysync.sessions.pool import ClientPool
from polysync.sessions.store import CacheStore

__all__ = ["around_callback", "close", "conversation_key", "pool", "service"]

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_service: ChatService | None = None


def service() -> ChatService:
    """Return what answers the page in this process; made by the first call.

    Making it starts nothing, so that may happen before a fork.

    Raises:
        ImproperlyConfigured: The setting ``POLYSYNC`` is wrong.
        ConfigurationError: An option of the client is wrong.
    """
    global _service
    with _lock:
        if _service is None:
            _service = _make()
        return _service


def pool() -> ClientPool:
    """Return the pool of this process.

    ::

        key = conversation_key(request)
        with pool().conversation(key) as client:
            client.send_message("…")
    """
    return service().pool


def close() -> None:
    """Close this process's clients. The conversations stay open on the server."""
    global _service
    with _lock:
        former, _service = _service, None
    if former is not None:
        former.pool.close()


def conversation_key(request: HttpRequest, *, create: bool = False) -> str | None:
    """Return the name of the visitor's conversation, from their session.

    It is random and nothing else: neither the session's own key, which changes at the
    login, nor any token.

    Args:
        request: The request, with a session.
        create: Whether to give the visitor one if there is none.

    Returns:
        The name; ``None`` if there is none, and none was to be made.
    """
    name = settings().session_key
    key = request.session.get(name)
    if isinstance(key, str) and key:
        return key
    if not create:
        return None
    request.session[name] = key = secrets.token_urlsafe(32)
    return key


def around_callback(call: Callable[[], object]) -> object:
    """Make a callback's call as Django makes a view's: with fresh connections.

    Callbacks run in threads that see no request, at whose end Django would close the
    database's connections; so all of this thread's are closed, persistent ones too.
    """
    close_old_connections()
    try:
        return call()
    finally:
        connections.close_all()


def _make() -> ChatService:
    chosen = settings()
    cache = SharedCache(chosen.cache)
    store = CacheStore(
        cache,
        prefix=chosen.cache_prefix,
        timeout=chosen.cache_timeout,
        encryption_keys=chosen.encryption_keys,
    )
    tell = _Teller(cache, store, chosen)
    return ChatService(
        ClientPool(
            store,
            max_clients=chosen.max_clients,
            idle_timeout=chosen.idle_timeout,
            configure=tell.configure,
            **chosen.client_options(),
        ),
        timeout=chosen.request_timeout,
        stream_seconds=chosen.stream_seconds,
        keep_alive=chosen.keep_alive,
        max_streams=chosen.max_streams,
    )


class _Teller:
    """Sends the signals, once for each event over all processes."""

    def __init__(self, cache: SharedCache, store: CacheStore, chosen: Settings) -> None:
        self._cache = cache
        self._prefix, self._timeout = chosen.cache_prefix, int(chosen.cache_timeout)
        # Caches of files add an entry in two steps, so there it takes a lock.
        self._store = store if lock_directory(cache) is not None else None

    def configure(self, client: Client, key: str) -> None:
        """Register the callbacks of a new client."""
        client.around_callback = around_callback
        # Weakly: a client that holds itself by its callbacks would not be collected.
        owner = weakref.ref(client)

        def sender(signal: Signal) -> Callable[[Any], None]:
            return lambda event: self._tell(signal, event, key, owner)

        # Without receivers there is nothing to tell, and no thread to do it.
        if message_received.receivers:
            client.on_agent_message(sender(message_received))
        if message_sent.receivers:
            client.on_user_message(sender(message_sent))
        if session_ended.receivers:
            client.on(SessionEnd, sender(session_ended))

    def _tell(
        self, signal: Signal, event: Event, key: str, owner: weakref.ref[Client]
    ) -> None:
        client = owner()
        if client is None or not self._first(client, event):
            return
        signal.send_robust(sender=Client, event=event, key=key, client=client)

    def _first(self, client: Client, event: Event) -> bool:
        """Whether no other process has told of this event."""
        if event.id is None:
            return True
        told = f"{client.session_id} {event.type} {event.id}"
        digest = hashlib.sha256(told.encode()).hexdigest()[:40]
        store = self._store
        try:
            with nullcontext() if store is None else store.lock(told, timeout=5.0):
                name = f"{self._prefix}1:told:{digest}"
                return self._cache.add(name, 1, self._timeout)
        except Exception as error:
            # Rather twice than never. Its text may quote the cache's password.
            logger.error(
                "whether a signal was sent is not known: the cache failed (%s)",
                type(error).__name__,
            )
            return True


def _forget(*, setting: str, **_: Any) -> None:
    if setting in ("POLYSYNC", "CACHES"):
        close()


setting_changed.connect(_forget, dispatch_uid="polysync.conversations")
