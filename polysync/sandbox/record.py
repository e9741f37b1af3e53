"""Remember what the sandbox was sent, and tell those who wait that it has changed."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from polysync.sandbox.wire import full_type

__all__ = ["Changes", "Frame", "Received", "Request"]

_T = TypeVar("_T")

_SECRET_HEADERS = frozenset({"x-token", "authorization", "cookie"})
_REDACTED = "[redacted]"


class Changes:
    """One lock over all that a sandbox lets others look at, and word of each change.

    ``with changes:`` changes something and announces it; ``with changes.lock:`` only
    looks. A waiter evaluates its predicate under the same lock, so it never sees half
    a change. Looking must not announce: two waiters would wake each other for ever.
    """

    __slots__ = ("_arrived", "lock")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._arrived = threading.Condition(self.lock)

    def __enter__(self) -> None:
        self._arrived.acquire()

    def __exit__(self, *exc: object) -> None:
        # No change can forget to announce itself; without waiters it costs nothing.
        self._arrived.notify_all()
        self._arrived.release()

    def wait_until(self, predicate: Callable[[], _T], timeout: float) -> _T:
        """Wait until `predicate()` is true and return what it gave."""
        deadline = time.monotonic() + timeout
        with self.lock:
            while not (value := predicate()):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(
                        f"the sandbox did not get there within {timeout:g} s; "
                        f"the condition still gives {value!r}"
                    )
                self._arrived.wait(left)
            return value


@attrs.frozen
class Request:
    """One HTTP request, with its secrets taken out.

    The handshake of a WebSocket is one too, with path ``/ws``.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: str
    at: float

    def header(self, name: str) -> str | None:
        """Return a header by its name in any case."""
        return self.headers.get(name.lower())


@attrs.frozen
class Frame:
    """One WebSocket message from a client.

    Attributes:
        session_id: The conversation it came for.
        connection: The number of the session's connection, from 1.
        data: The message as it came; `bytes` if it was a binary one.
        event: The JSON object in it, or `None` if it holds none.
        fragments: In how many WebSocket frames the message came.
        at: When, by `time.monotonic`.
    """

    session_id: str
    connection: int
    data: str | bytes
    event: Mapping[str, Any] | None
    fragments: int
    at: float

    @property
    def type(self) -> str | None:
        """The wire name of the event's type, if there is one."""
        kind = self.event.get("type") if self.event is not None else None
        return kind if isinstance(kind, str) else None


class Received:
    """All that a sandbox has received, oldest first; may be read from any thread.

    The newest `record_limit` entries of each kind are kept.
    """

    def __init__(self, changes: Changes, limit: int) -> None:
        self._changes = changes
        self._requests: deque[Request] = deque(maxlen=limit)
        self._frames: deque[Frame] = deque(maxlen=limit)

    def __repr__(self) -> str:
        return f"<Received: {len(self._requests)} requests, {len(self._frames)} frames>"

    @property
    def requests(self) -> list[Request]:
        """The HTTP requests, handshakes among them."""
        with self._changes.lock:
            return list(self._requests)

    @property
    def frames(self) -> list[Frame]:
        """The WebSocket messages."""
        with self._changes.lock:
            return list(self._frames)

    def requests_to(self, path: str) -> list[Request]:
        """Return the requests for one path, for example ``/api/v1/sessions``."""
        return [request for request in self.requests if request.path == path]

    def events(
        self, *types: str, session_id: str | None = None
    ) -> list[Mapping[str, Any]]:
        """Return the client events of these types; of all, if none is named.

        Args:
            types: With or without the ``EVENT_TYPE_`` in front.
            session_id: Only those of this session.
        """
        wanted = {full_type(name) for name in types}
        return [
            frame.event
            for frame in self.frames
            if frame.event is not None
            and (not wanted or frame.type in wanted)
            and (session_id is None or frame.session_id == session_id)
        ]

    def clear(self) -> None:
        """Forget everything so far."""
        with self._changes:
            self._requests.clear()
            self._frames.clear()

    def add_request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        body: str,
    ) -> None:
        """Record a request without its secrets."""
        kept = {
            name.lower(): _REDACTED if name.lower() in _SECRET_HEADERS else value
            for name, value in headers.items()
        }
        asked = {
            name: _REDACTED if name == "access_token" else value
            for name, value in query.items()
        }
        with self._changes:
            self._requests.append(
                Request(method, path, kept, asked, body, time.monotonic())
            )

    def add_frame(self, frame: Frame) -> None:
        """Record a WebSocket message."""
        with self._changes:
            self._frames.append(frame)
