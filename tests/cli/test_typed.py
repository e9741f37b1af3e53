"""What a typed line means."""

from __future__ import annotations

import pytest

from polysync.cli.typed import Misunderstood, Order, Say, numbered, understand

OFFERED = ("Book a table", "See the menu")


@pytest.mark.parametrize("line", ["", "   ", "\t"])
def test_empty_line_means_nothing(line: str) -> None:
    """An empty line is neither a message nor a mistake."""
    assert understand(line, OFFERED) is None


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("Hello", "Hello"),
        ("  Hello  ", "Hello"),
        ("1", "Book a table"),
        ("2", "See the menu"),
        ("/2", "See the menu"),
        ("3", "3"),
        ("0", "0"),
        ("12345", "12345"),
        ("1 please", "1 please"),
        ("//etc/hosts", "/etc/hosts"),
        ("²", "²"),
    ],
)
def test_line_becomes_message(line: str, text: str) -> None:
    """A number picks what was offered under it; all other text is itself."""
    assert understand(line, OFFERED) == Say(text)


def test_number_is_itself_where_numbers_are_offered() -> None:
    """To "for how many?", 2 means two, and /2 still picks the second."""
    offered = ("2", "4", "6")
    assert not numbered(offered)
    assert understand("2", offered) == Say("2")
    assert understand("/2", offered) == Say("4")


def test_number_is_itself_where_none_is_shown() -> None:
    """A program's lines are not reinterpreted."""
    assert understand("1", OFFERED, bare_numbers=False) == Say("1")


@pytest.mark.parametrize(
    ("line", "order"),
    [
        ("/help", Order("help")),
        ("/HISTORY", Order("history")),
        (" /end ", Order("end")),
        ("/quit", Order("quit")),
        ("/detach my file", Order("detach", "my file")),
    ],
)
def test_command(line: str, order: Order) -> None:
    """A slash begins a command."""
    assert understand(line) == order


@pytest.mark.parametrize("line", ["/", "/nope", "/3", "/99999", "/detach", "/²"])
def test_no_command(line: str) -> None:
    """What looks like a command is never sent by mistake."""
    assert isinstance(understand(line, OFFERED), Misunderstood)
