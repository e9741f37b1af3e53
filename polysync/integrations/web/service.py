"""What the views do, without a framework: the page's requests, answered from a pool.

A framework's views are a few lines each: they find out which conversation is meant
(a random key in the visitor's session), check the CSRF token, and call the method of
`ChatService` with the request's body and ``Content-Type``::

    service = ChatService(pool)

    service.start(key, body, content_type)      → dict         200
    service.send(key, body, content_type)       → dict         200
    service.events(key, last_event_id)          → EventStream  200, `STREAM_HEADERS`
                                                  or None      204
    service.typing(key, body, content_type)     → None         204
    service.end(key, body, content_type)        → dict         200, or None: 204
    service.suggestions(key)                    → dict         200
    service.sign(key, context, …)               → dict         200

A dict is the answer's JSON. All of them raise `RequestError`, with status, code,
message and headers for the answer, and nothing else that a visitor could cause. None
of them starts anything before the first call, keeps a request alive for longer than
``timeout`` seconds (25 for the stream), or needs the framework's request while it
runs: the stream may be read after the request's context is gone.

The stream is a *synchronous* iterator with a ``close()`` that has to be called, as WSGI
servers do. Under ASGI, call ``next(stream, None)`` in a thread for each piece, and
``close()`` when the browser has gone; ``close()`` wakes a step that is waiting.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from polysync.client import Client
from polysync.context import sign_context
from polysync.errors import (
    ConfigurationError,
    DeliveryError,
    MessageTooLargeError,
    PolysyncError,
    SessionEndedError,
    SessionNotFoundError,
)
from polysync.events import (
    LiveAgentMessage,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    UserMessage,
)
from polysync.integrations.web.bodies import (
    RequestError,
    read_message,
    read_object,
    read_start,
    read_typing,
    request_error,
)
from polysync.integrations.web.feed import Feed, delivered, snapshot
from polysync.integrations.web.stream import EventStream
from polysync.integrations.web.wire import page_event
from polysync.runtime.clock import Deadline
from polysync.sessions.pool import ClientPool
from polysync.sessions.store import LockTimeoutError, StoreError

__all__ = ["ChatService"]

logger = logging.getLogger(__name__)


def _answer_to(error: PolysyncError) -> tuple[RequestError, bool]:
    """Return the answer to a failure, and whether it is of a kind that is expected."""
    over = (SessionEndedError, SessionNotFoundError)
    if isinstance(error, DeliveryError) and isinstance(error.__cause__, over):
        error = error.__cause__
    if isinstance(error, StoreError) or (
        isinstance(error, DeliveryError) and not isinstance(error, TimeoutError)
    ):
        return RequestError(503, "unavailable", "The chat cannot be reached."), False
    expected = isinstance(error, (*over, MessageTooLargeError))
    return request_error(error), expected


class ChatService:
    """Answers the chat page's requests.

    Args:
        pool: The conversations.
        timeout: Seconds that a request may take in all. Keep it below the patience of
            the server in front: gunicorn kills a silent ``sync`` worker after 30 s.
        stream_seconds: How long one answer to ``GET …/events`` lasts; the browser
            comes back at once for the next. 25 at most.
        keep_alive: Seconds of silence on a stream after which a comment is sent.
        max_streams: How many streams may wait in this process at once; each occupies
            one of its threads, so leave some for the other requests. Those beyond it
            get what is there, and ask again after a second: nothing is lost, and
            nobody is turned away.
        streams_per_conversation: The same for one conversation (its open tabs).
    """

    def __init__(
        self,
        pool: ClientPool,
        *,
        timeout: float = 20.0,
        stream_seconds: float = 25.0,
        keep_alive: float = 10.0,
        max_streams: int = 16,
        streams_per_conversation: int = 4,
    ) -> None:
        if not 0 <= stream_seconds <= 25:
            raise ConfigurationError("stream_seconds must be 0 to 25")
        if not 0 < keep_alive <= 15:
            raise ConfigurationError("keep_alive must be above 0, and 15 at most")
        if timeout <= 0:
            raise ConfigurationError("timeout must be above 0")
        self.pool = pool
        self._timeout = timeout
        self._stream_seconds = stream_seconds
        self._keep_alive = keep_alive
        self._max_streams = max_streams
        self._per_conversation = streams_per_conversation
        self._streams: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._orphans: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    @property
    def streams(self) -> int:
        """How many streams wait in this process now."""
        with self._lock:
            return self._streams.total()

    def start(self, key: str, body: bytes, content_type: str | None) -> dict[str, Any]:
        """Continue the visitor's conversation, or begin one.

        Args:
            key: The conversation, a random text from the visitor's session.
            body: The request's body.
            content_type: The request's ``Content-Type``.

        Returns:
            The conversation so far, see `polysync.integrations.web.feed.snapshot`.

        Raises:
            RequestError: The request is wrong, or the conversation cannot be begun.
        """
        new = read_start(body, content_type)
        with self._conversation(key, new=new, ended=True) as client:
            return snapshot(client.session_id or "", client.history)

    def send(self, key: str, body: bytes, content_type: str | None) -> dict[str, Any]:
        """Send the visitor's message, unless it has been delivered already.

        Returns:
            The page event of its echo, under ``event``.

        Raises:
            RequestError: The request is wrong, the conversation is over (409, 410), or
                the message did not certainly arrive (503, 504): then the page may post
                it again with the same ``client_id``.
        """
        message = read_message(body, content_type)
        deadline = Deadline(self._timeout)
        with self._conversation(key, create=False) as client:
            echo = delivered(client.history, message.client_id)
            if echo is None:
                echo = client.send_message(
                    message.text,
                    metadata=message.metadata,
                    # Never quite nothing: what waited for its turn is still tried.
                    timeout=max(1.0, deadline.remaining() or 0.0),
                )
            return {"event": page_event(echo)}

    def events(
        self, key: str, last_event_id: str | None, *, patient: bool = True
    ) -> EventStream | None:
        """Open the stream of the conversation's events.

        Args:
            key: The conversation.
            last_event_id: Where the page wants to go on, see
                `polysync.integrations.web.feed.last_event_id`.
            patient: Whether to wait for news. On a server that handles one request at
                a time, a stream that waits would keep all others out: without
                patience it gives what is there, and the browser asks again after a
                second.

        Returns:
            The stream, to be sent with
            `polysync.integrations.web.wire.STREAM_HEADERS`; ``None`` if the
            conversation is over and the page has seen all of it.

        Raises:
            RequestError: There is no conversation, or it cannot be reached.
        """
        with ExitStack() as stack:
            client = stack.enter_context(
                self._conversation(key, exclusive=False, create=False, ended=True)
            )
            session_id = client.session_id or ""
            if client.ended and last_event_id is not None:
                probe = Feed(session_id, last_event_id)
                if probe.known and not any(map(probe.send, client.history)):
                    return None
            if patient:
                patient = stack.enter_context(self._place(key))
            return EventStream(
                client,
                Feed(session_id, last_event_id),
                seconds=self._stream_seconds if patient else 0.0,
                keep_alive=self._keep_alive,
                release=stack.pop_all().close,
                orphans=self._orphans,
            )

    def typing(self, key: str, body: bytes, content_type: str | None) -> None:
        """Show a live agent that the visitor is typing, or has stopped.

        Raises:
            RequestError: The request is wrong, or there is no conversation.
        """
        state = read_typing(body, content_type)
        with self._conversation(key, exclusive=False, create=False) as client:
            client.send_typing(state)

    def end(
        self, key: str, body: bytes, content_type: str | None
    ) -> dict[str, Any] | None:
        """End the conversation.

        Returns:
            The page event of the end, under ``event``; ``None`` if there is no
            conversation (any more).

        Raises:
            RequestError: The request is wrong, or the server did not confirm.
        """
        read_object(body, content_type)
        deadline = Deadline(self._timeout)
        try:
            with self._conversation(key, create=False, ended=True) as client:
                remaining = max(1.0, deadline.remaining() or 0.0)
                return {"event": page_event(client.end_session(timeout=remaining))}
        except RequestError as error:
            if error.status == 410:
                return None
            raise

    def suggestions(self, key: str) -> dict[str, Any]:
        """Return what the agent suggests that the visitor may answer now.

        Returns:
            The texts, under ``suggestions``: those of the agent's last message, none
            if the visitor has spoken since.

        Raises:
            RequestError: There is no conversation.
        """
        texts: list[str] = []
        with self._conversation(
            key, exclusive=False, create=False, ended=True
        ) as client:
            history = () if client.ended else client.history
            message_id: str | None = None
            for event in reversed(history):
                if isinstance(event, UserMessage):
                    break
                if not isinstance(
                    event, (PolyAgentMessage, LiveAgentMessage, PolyAgentMessageChunk)
                ):
                    continue
                if message_id is not None and event.message_id != message_id:
                    break
                message_id = event.message_id
                texts[:0] = [
                    each.message_text
                    for each in event.response_suggestions
                    if each.message_text.strip()
                ]
        return {"suggestions": list(dict.fromkeys(texts))}

    def sign(
        self,
        key: str,
        context: Mapping[str, str | int | float | bool | None],
        *,
        key_id: str,
        secret: str,
    ) -> dict[str, Any]:
        """Sign what the agent is to know of the user who is logged in.

        Args:
            key: The conversation.
            context: What the application, not the browser, says of the user.
            key_id: Identifier of the secret.
            secret: The shared secret.

        Returns:
            The signed token, valid for 30 s, under ``token``.

        Raises:
            RequestError: There is no conversation, or it takes no context (404
                ``no_context``).
            ConfigurationError: The context or the secret is not as it has to be.
        """
        with self._conversation(key, exclusive=False, create=False) as client:
            context_id = client.context_id
        if context_id is None:
            raise RequestError(
                404, "no_context", "This conversation takes no signed context."
            )
        return {
            "token": sign_context(context_id, context, key_id=key_id, secret=secret)
        }

    # Inside

    @contextmanager
    def _conversation(self, key: str, **how: Any) -> Iterator[Client]:
        """Give the conversation's client; failures become errors for the page."""
        self._release_orphans()
        try:
            with self.pool.conversation(key, timeout=self._timeout, **how) as client:
                yield client
        except LockTimeoutError as error:
            # Not our time is over, but somebody else is at work.
            headers = {"Retry-After": "2"}
            raise RequestError(429, "busy", "One moment, please.", headers) from error
        except PolysyncError as error:
            answer, expected = _answer_to(error)
            if not expected:
                logger.warning(
                    "a chat request fails with %d: %s: %s",
                    answer.status,
                    type(error).__name__,
                    error,
                )
            raise answer from error

    def _release_orphans(self) -> None:
        """Give back what streams held that a server has dropped without closing."""
        while not self._orphans.empty():
            try:
                release = self._orphans.get_nowait()
            except queue.Empty:
                return
            release()

    @contextmanager
    def _place(self, key: str) -> Iterator[bool]:
        """Take one of the places for streams that wait; false if there is none."""
        with self._lock:
            free = (
                self._streams.total() < self._max_streams
                and self._streams[key] < self._per_conversation
            )
            if free:
                self._streams[key] += 1
        try:
            yield free
        finally:
            if free:
                with self._lock:
                    self._streams[key] -= 1
                    self._streams += Counter()  # drops those at zero
