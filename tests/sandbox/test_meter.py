"""Frames are measured whichever way their bytes come in."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from websocket import ABNF

from polysync.sandbox.meter import FrameMeter


class Sink:
    """In the place of aiohttp's parser and of its queue."""

    def __init__(self) -> None:
        self.data = b""
        self.error: Exception | None = None

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        self.data += b"EOF"

    def set_exception(self, error: Exception) -> None:
        self.error = error


def meter(sink: Sink, limit: int) -> FrameMeter:
    response: Any = type("Response", (), {"_reader": sink})
    return FrameMeter(response, sink, limit)


messages = st.lists(
    st.lists(st.sampled_from([0, 1, 125, 126, 300, 70_000]), min_size=1, max_size=3),
    min_size=1,
    max_size=3,
)


@given(messages, st.lists(st.integers(1, 100_000), max_size=8))
def test_the_frames_of_each_message_are_counted(
    sizes: list[list[int]], cuts: list[int]
) -> None:
    data = b""
    for message in sizes:
        for number, size in enumerate(message, start=1):
            opcode = ABNF.OPCODE_BINARY if number == 1 else ABNF.OPCODE_CONT
            frame = ABNF.create_frame(b"x" * size, opcode, number == len(message))
            data += frame.format()
            data += ABNF.create_frame(b"!", ABNF.OPCODE_PING).format()
    sink = Sink()
    measured = meter(sink, 70_000)
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for start, end in zip(edges, edges[1:], strict=False):
        measured.feed_data(data[start:end])
    measured.feed_eof()

    assert list(measured.fragments) == [len(message) for message in sizes]
    assert sink.data == data + b"EOF"


def test_a_frame_over_the_limit_stops_everything() -> None:
    sink = Sink()
    data = ABNF.create_frame(b"x" * 11, ABNF.OPCODE_BINARY).format()

    assert meter(sink, 10).feed_data(data) == (True, b"")
    assert sink.error is not None
    assert sink.data == b""
