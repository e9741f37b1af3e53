"""The stream under ASGI: sent as it comes, and closed when the browser leaves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.asgi import get_asgi_application
from django.http import StreamingHttpResponse
from django.test import AsyncRequestFactory, RequestFactory

from polysync.integrations.django import conversations
from polysync.integrations.django.streaming import (
    AsyncStream,
    can_wait,
    stream_response,
)
from tests.integrations.django.conftest import Visitor

TIMEOUT = 10.0


class Stream:
    """An event stream whose pieces the test puts in."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._arrived = threading.Condition()
        self._pieces: list[bytes | Exception] = list(pieces)
        self.closed = False
        self.threads: set[str] = set()

    def put(self, piece: bytes) -> None:
        with self._arrived:
            self._pieces.append(piece)
            self._arrived.notify_all()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> bytes:
        self.threads.add(threading.current_thread().name)
        with self._arrived:
            assert self._arrived.wait_for(lambda: self._pieces or self.closed, TIMEOUT)
            if self.closed:
                raise StopIteration
            piece = self._pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self) -> None:
        with self._arrived:
            self.closed = True
            self._arrived.notify_all()

    def wait_until_closed(self) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: self.closed, TIMEOUT)


def response(stream: Any, *, asgi: bool) -> StreamingHttpResponse:
    factory: Any = AsyncRequestFactory() if asgi else RequestFactory()
    return stream_response(factory.get("/chat/events"), stream)


def test_wsgi_gets_an_iterator() -> None:
    """Under WSGI the worker's own thread reads the stream."""
    stream = Stream(b"a", b"b")
    answer = response(stream, asgi=False)
    assert not answer.is_async
    assert next(iter(answer.streaming_content)) == b"a"
    assert stream.threads == {threading.current_thread().name}
    answer.close()
    assert stream.closed


def test_asgi_gets_an_asynchronous_one() -> None:
    """Under ASGI pieces are sent as they come; the loop's own thread never waits."""

    async def read() -> None:
        stream = Stream(b"a")
        answer = response(stream, asgi=True)
        assert answer.is_async
        pieces = aiter(answer)
        assert await anext(pieces) == b"a"
        ticks = 0
        waiting = asyncio.ensure_future(anext(pieces))
        for _ in range(10):
            await asyncio.sleep(0)
            ticks += 1
        assert not waiting.done()
        stream.put(b"b")
        assert await waiting == b"b"
        answer.close()
        await asyncio.to_thread(stream.wait_until_closed)
        assert ticks == 10
        assert all(name.startswith("polysync-stream") for name in stream.threads)

    asyncio.run(asyncio.wait_for(read(), TIMEOUT))


def test_asgi_stream_ends_with_the_iterator() -> None:
    """The end of the iterator is the end of the answer, and closes it."""

    class Short(Stream):
        def __next__(self) -> bytes:
            if not self._pieces:
                raise StopIteration
            return super().__next__()

    async def read() -> list[bytes]:
        return [piece async for piece in AsyncStream(stream)]  # type: ignore[arg-type]

    stream = Short(b"a", b"b")
    assert asyncio.run(asyncio.wait_for(read(), TIMEOUT)) == [b"a", b"b"]
    assert stream.closed


def test_asgi_stream_raises_what_the_iterator_raises() -> None:
    """An error in the stream is not swallowed."""

    async def read() -> None:
        async for _ in AsyncStream(stream):  # type: ignore[arg-type]
            pass

    stream = Stream(ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        asyncio.run(asyncio.wait_for(read(), TIMEOUT))
    assert stream.closed


def test_cancelled_reader_closes_the_stream() -> None:
    """A browser that leaves cancels the reader; the waiting thread is woken."""

    async def read() -> None:
        async for _ in AsyncStream(stream):  # type: ignore[arg-type]
            pass

    async def leave() -> None:
        reader = asyncio.ensure_future(read())
        while not stream.threads:
            await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await asyncio.to_thread(stream.wait_until_closed)

    stream = Stream()
    asyncio.run(asyncio.wait_for(leave(), TIMEOUT))


def test_many_streams_do_not_wait_for_each_other() -> None:
    """More streams than the loop's executor has threads are all served."""

    async def read() -> list[bytes]:
        streams = [Stream() for _ in range(60)]
        readers = [aiter(AsyncStream(each)) for each in streams]  # type: ignore[arg-type]
        firsts = [asyncio.ensure_future(anext(each)) for each in readers]
        await asyncio.sleep(0)
        for each in reversed(streams):
            each.put(b"a")
        pieces = await asyncio.gather(*firsts)
        for reader in readers:
            await reader.aclose()
        return list(pieces)

    assert asyncio.run(asyncio.wait_for(read(), TIMEOUT)) == [b"a"] * 60


@pytest.mark.parametrize("threads", [True, False])
def test_server_without_threads_is_not_kept(threads: bool) -> None:
    """A sync worker gets short answers; everything else may wait."""
    request = RequestFactory().get("/", **{"wsgi.multithread": threads})
    assert can_wait(request) is threads
    assert can_wait(AsyncRequestFactory().get("/"))


class Browser:
    """An ASGI connection: it reads, and leaves when told."""

    def __init__(self, visitor: Visitor, path: str) -> None:
        cookies = visitor.client.cookies.output(header="", sep=";").strip()
        self.scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "path": path,
            "query_string": b"",
            "headers": [
                (b"host", b"testserver"),
                (b"cookie", cookies.encode()),
                (b"accept-encoding", b"gzip"),
            ],
        }
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.leave = asyncio.Event()
        self._asked = False

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def until(self, found: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while True:
            message = await self.sent.get()
            if found(message):
                return message


@pytest.mark.parametrize("news", [True, False], ids=["reading", "at once"])
def test_browser_that_leaves_an_asgi_server(
    visitor: Visitor, sandbox: Any, news: bool
) -> None:
    """Messages come as they are said; whoever leaves is forgotten at once."""

    async def visit() -> None:
        browser = Browser(visitor, "/chat/events")
        application = get_asgi_application()
        serving = asyncio.ensure_future(
            application(browser.scope, browser.receive, browser.sent.put)
        )
        start = await browser.until(lambda m: m["type"] == "http.response.start")
        assert start["status"] == 200
        assert (b"content-encoding", b"identity") in [
            (name.lower(), value) for name, value in start["headers"]
        ]
        if news:
            await browser.until(lambda m: b"Harbour Table" in m.get("body", b""))
            sandbox.session.push(
                "SYSTEM_MESSAGE", {"level": "INFO", "message": "Hear, hear"}
            )
            await browser.until(lambda m: b"Hear, hear" in m.get("body", b""))
            assert conversations.service().streams == 1
        browser.leave.set()
        await serving

    visitor.start()
    asyncio.run(asyncio.wait_for(visit(), TIMEOUT))
    for thread in threading.enumerate():
        if thread.name.startswith("polysync-stream"):
            thread.join(TIMEOUT)
    assert conversations.service().streams == 0
    assert visitor.say("Hello?").status_code == 200
