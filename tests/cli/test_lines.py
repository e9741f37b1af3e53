"""Lines of standard input."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from typing import TextIO

import pytest

from polysync.cli.lines import Lines
from tests.cli.conftest import TIMEOUT


@pytest.fixture
def pipe() -> Iterator[tuple[TextIO, int]]:
    """The reading end as a stream, the writing end as a descriptor."""
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as stream:
        yield stream, writing


def everything(stream: TextIO) -> list[str]:
    with Lines(stream) as lines:
        return list(iter(lines.next, None))


def test_lines_of_a_pipe(pipe: tuple[TextIO, int]) -> None:
    """Whole lines, the last of them with or without its end."""
    stream, writing = pipe
    os.write(writing, "eins\r\nzwei: ü\n\nlast".encode())
    os.close(writing)
    assert everything(stream) == ["eins", "zwei: ü", "", "last"]


def test_bytes_that_are_no_text(pipe: tuple[TextIO, int]) -> None:
    """Invalid bytes become U+FFFD instead of an error."""
    stream, writing = pipe
    os.write(writing, b"a\xff\n\xc3")
    os.close(writing)
    assert everything(stream) == ["a\ufffd", "\ufffd"]


def test_stream_without_a_descriptor() -> None:
    """A stream in memory will do."""
    assert everything(io.StringIO("one\ntwo")) == ["one", "two"]


def test_stop_ends_the_wait(pipe: tuple[TextIO, int]) -> None:
    """Another thread ends the wait for a line that does not come."""
    stream, writing = pipe
    got: list[str | None] = []
    with Lines(stream) as lines:
        thread = threading.Thread(target=lambda: got.append(lines.next()))
        thread.start()
        lines.stop()
        thread.join(TIMEOUT)
        assert got == [None]
        assert lines.next() is None
    lines.stop()
    os.close(writing)


def test_stop_comes_before_lines(pipe: tuple[TextIO, int]) -> None:
    """Lines that have come already are not given out after the end."""
    stream, writing = pipe
    os.write(writing, b"one\ntwo\n")
    with Lines(stream) as lines:
        assert lines.next() == "one"
        lines.stop()
        assert lines.next() is None
    os.close(writing)
