"""The stream of a conversation, as WSGI and as ASGI want it.

Under WSGI an iterator is read by the worker's thread, and Django closes it when the
answer is over or the browser has gone. Under ASGI the same iterator would be drained
into a list before the first byte is sent, so there it has to be an asynchronous one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

from polysync.integrations.web.stream import EventStream
from polysync.integrations.web.wire import STREAM_HEADERS
from polysync.runtime import threads

__all__ = ["AsyncStream", "can_wait", "stream_response"]


def can_wait(request: HttpRequest) -> bool:
    """Whether the server answers others while it waits for this request.

    gunicorn's ``sync`` workers do not: a stream must not keep them.
    """
    if isinstance(request, ASGIRequest):
        return True
    return bool(request.META.get("wsgi.multithread", True))


def stream_response(request: HttpRequest, stream: EventStream) -> StreamingHttpResponse:
    """Return the answer that sends a stream, and closes it at its end."""
    content = AsyncStream(stream) if isinstance(request, ASGIRequest) else stream
    return StreamingHttpResponse(content, headers=STREAM_HEADERS)


class AsyncStream:
    """Reads a stream in a thread of its own, for an event loop.

    Not in the loop's executor: a few streams would take all of its threads and keep
    everything else waiting.

    Args:
        stream: The stream; it is closed at the end, when the reader is cancelled, and
            by `close`.
    """

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._read()

    def close(self) -> None:
        """Close the stream; wakes the thread that waits for it."""
        self._stream.close()

    async def _read(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()

        def put(piece: bytes | BaseException | None) -> None:
            # The loop is closed when the server goes down with a stream open.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        def pump() -> None:
            try:
                for piece in self._stream:
                    put(piece)
            except BaseException as error:
                put(error)
            finally:
                self._stream.close()
                put(None)

        thread = threads.spawn("stream", pump)
        try:
            while (piece := await pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            if thread.is_alive():
                # The browser has gone: closing takes a lock or two, so not here.
                threads.spawn("stream-end", self._stream.close)
