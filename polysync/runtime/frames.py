"""WebSocket frames as a client sends them, and messages out of those that come."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any

from polysync.runtime.socket import LockedSocket

__all__ = [
    "BINARY",
    "CLOSE",
    "CONT",
    "FRAME_MAX",
    "MESSAGE_MAX",
    "PING",
    "PONG",
    "TEXT",
    "Incoming",
    "ViolationError",
    "check_length",
    "close_payload",
    "control_frame",
    "text_frames",
    "whole_message",
]

CONT, TEXT, BINARY = 0x0, 0x1, 0x2
CLOSE, PING, PONG = 0x8, 0x9, 0xA
_FIN = 0x80
_WHOLE_TEXT, _WHOLE_BINARY = _FIN | TEXT, _FIN | BINARY

#: The longest frame that goes out, header included, in bytes: gateways refuse more.
FRAME_MAX = 32 * 1024
#: The longest message that is read, in bytes.
MESSAGE_MAX = 64 << 20
# The header of a frame of this size takes 2 bytes, 2 of length and 4 of mask.
_PAYLOAD_MAX = FRAME_MAX - 8


def text_frames(text: str) -> tuple[bytes, int]:
    """Return a text message as it goes over the wire, and in how many frames.

    A message that is longer than `FRAME_MAX` is cut into frames that are not.
    """
    data = text.encode("utf-8", "replace")
    if len(data) <= _PAYLOAD_MAX:
        return _frame(_WHOLE_TEXT, data), 1
    frames = []
    first = TEXT
    for start in range(0, len(data), _PAYLOAD_MAX):
        end = start + _PAYLOAD_MAX
        if end >= len(data):
            first |= _FIN
        frames.append(_frame(first, data[start:end]))
        first = CONT
    return b"".join(frames), len(frames)


def control_frame(opcode: int, payload: bytes) -> bytes:
    """Return a ping, pong or close frame as it goes over the wire."""
    return _frame(_FIN | opcode, payload)


def close_payload(code: int, reason: str) -> bytes:
    """Return what a close frame carries; a reason that is too long is cut off."""
    words = reason.encode("utf-8", "replace")[:123].decode("utf-8", "ignore")
    return struct.pack("!H", code) + words.encode()


def _frame(first: int, payload: bytes) -> bytes:
    """Return a masked frame. ``first`` is the FIN bit and the opcode."""
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    else:  # no frame of ours needs the eight-byte length
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    key = os.urandom(4)
    # One exclusive-or of two large integers instead of one for each byte.
    mask = (key * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little")
    return head + key + masked.to_bytes(size, "little")


def whole_message(sock: LockedSocket) -> bytes | None:
    """Take the next message if it is one unmasked frame that is wholly read ahead.

    This is nearly every message. All else is left for websocket-client to parse, byte
    for byte. Waits until anything is there: to let websocket-client do so, which asks
    for two bytes first and starts over for each wait, costs 10 us more.
    """
    if sock.empty:
        sock.fill()
    ahead, at = sock.peek()
    have = len(ahead) - at
    if have < 2 or ahead[at] not in (_WHOLE_TEXT, _WHOLE_BINARY):
        return None
    length = ahead[at + 1]
    start = at + 2
    if length >= 126:
        if length > 126 or have < 4:
            return None
        length = ahead[start] << 8 | ahead[start + 1]
        start += 2
    end = start + length
    if end > len(ahead):
        return None
    sock.skip(end)
    return ahead[start:end]


class ViolationError(Exception):
    """The peer sent what the WebSocket protocol, or our limit, does not allow."""

    def __init__(self, message: str, code: int = 1002) -> None:
        super().__init__(message)
        #: The close code that says so.
        self.code = code


def check_length(length: int) -> None:
    """Refuse a message that is too long, before it is read.

    Raises:
        ViolationError: It is.
    """
    if length > MESSAGE_MAX:
        raise ViolationError(f"a message of more than {MESSAGE_MAX} bytes", 1009)


class Incoming:
    """Whole messages and control frames, out of the frames that come.

    Args:
        sock: Where they come from.
        recv_frame: Parses the next frame from there, whatever it is.
    """

    __slots__ = ("_parts", "_recv_frame", "_size", "_sock")

    def __init__(self, sock: LockedSocket, recv_frame: Callable[[], Any]) -> None:
        self._sock = sock
        self._recv_frame = recv_frame
        # The fragments so far; joined at the end, not one by one.
        self._parts: list[bytes] = []
        self._size = 0

    def next(self) -> tuple[int, bytes]:
        """Return `TEXT` and a whole message, text or binary, or a control frame.

        Raises:
            ViolationError: The peer broke the protocol.
        """
        while True:
            if not self._parts:
                payload = whole_message(self._sock)
                if payload is not None:
                    return TEXT, payload
            frame = self._recv_frame()
            opcode, data = frame.opcode, frame.data
            if opcode >= CLOSE:
                if opcode == PING and (not frame.fin or len(data) > 125):
                    raise ViolationError("a ping that is too long or in fragments")
                return opcode, data
            payload = self._add(opcode, data, frame.fin)
            if payload is not None:
                return TEXT, payload

    def _add(self, opcode: int, data: bytes, last: int) -> bytes | None:
        """Add a data frame; return the message if it is the last of one."""
        if (opcode == CONT) is not bool(self._parts):
            raise ViolationError(
                "a fragment without its beginning"
                if opcode == CONT
                else "a message inside another"
            )
        self._size += len(data)
        check_length(self._size)
        self._parts.append(data)
        if not last:
            return None
        message = b"".join(self._parts) if len(self._parts) > 1 else data
        self._parts, self._size = [], 0
        return message
