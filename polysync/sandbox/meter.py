"""Measure WebSocket frames as they come in, below aiohttp, which joins them first.

The real server's gateway takes messages of 128 KB but frames of 32 KB, so a client
has to cut its messages; only the frames themselves show whether it does.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from aiohttp import WebSocketError, WSCloseCode, web

__all__ = ["FrameMeter"]

_FIN = 0x80
_MASKED = 0x80
_LENGTH = 0x7F
_CONTROL = 0x08


class FrameMeter:
    """Stands in front of aiohttp's parser and looks at each frame's header.

    Attributes:
        fragments: Of each message that is in, in how many frames it came.
    """

    def __init__(self, ws: web.WebSocketResponse, parser: Any, limit: int) -> None:
        self.fragments: deque[int] = deque()
        self._ws = ws
        self._parser = parser
        self._limit = limit
        self._header = bytearray()
        self._skip = 0
        self._frames = 0

    @classmethod
    def install(
        cls, request: web.Request, ws: web.WebSocketResponse, limit: int
    ) -> FrameMeter | None:
        """Put one into an accepted connection.

        There is no public place for it, so with an aiohttp that has changed there
        is none, and only the limit on frames is missing.
        """
        protocol: Any = request.protocol
        parser = getattr(protocol, "_payload_parser", None)
        if parser is None or getattr(ws, "_reader", None) is None:
            return None
        meter = cls(ws, parser, limit)
        protocol._payload_parser = meter
        return meter

    def feed_eof(self) -> None:
        """Pass on the end of the connection."""
        self._parser.feed_eof()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Look at what came, and pass it on unless a frame in it is too large."""
        if self._too_large(data):
            queue: Any = self._ws._reader
            queue.set_exception(
                WebSocketError(WSCloseCode.MESSAGE_TOO_BIG, "frame too large")
            )
            return True, b""
        passed: tuple[bool, bytes] = self._parser.feed_data(data)
        return passed

    def _too_large(self, data: bytes) -> bool:
        at, end = 0, len(data)
        while at < end:
            if self._skip:
                step = min(self._skip, end - at)
                self._skip -= step
                at += step
                continue
            self._header.append(data[at])
            at += 1
            size = self._size()
            if size is None:
                continue
            first = self._header[0]
            self._header.clear()
            self._skip = size
            if first & _CONTROL:
                continue
            if self._limit and size > self._limit:
                return True
            self._frames += 1
            if first & _FIN:
                self.fragments.append(self._frames)
                self._frames = 0
        return False

    def _size(self) -> int | None:
        """Return the payload's size once the header is whole."""
        header = self._header
        if len(header) < 2:
            return None
        short = header[1] & _LENGTH
        extra = {126: 2, 127: 8}.get(short, 0)
        if len(header) < 2 + extra + (4 if header[1] & _MASKED else 0):
            return None
        return int.from_bytes(header[2 : 2 + extra], "big") if extra else short
