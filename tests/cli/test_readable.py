"""What reaches the terminal of what the agent wrote."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysync.cli.readable import readable, readable_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a < b, 2 <3, <sam@example.com>", "a < b, 2 <3, <sam@example.com>"),
        ("one<br>two<br/>three", "one\ntwo\nthree"),
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("<p>one</p>\n<p>two</p>", "one\n\ntwo"),
        ("<P>Hi <b>you</b> &amp; me</P>", "Hi you & me"),
        ("these:<ul><li>a</li><li>b</li></ul>end", "these:\n- a\n- b\nend"),
        ('<a href="https://x.example">us</a>', "us (https://x.example)"),
        ("<a href='https://x.example'>https://x.example</a>", "https://x.example"),
        ("<a href=https://x.example>us</a>", "us (https://x.example)"),
        ('<img src="x" alt="a boat">', "a boat"),
        ("<tr><td>a</td><td>b</td></tr>", "a b "),
        ("x<script>alert(1)</script>y", "xy"),
        ("x<style>b{}</style>y<!-- no -->z", "xyz"),
        ("x<!-- open", "x"),
        ("x<script>open", "x"),
        ("&lt;b&gt; is text", "<b> is text"),
        ("a\r\nb\rc\td", "a\nb\nc    d"),
        ("\x1b[31mred\x1b[0m \x9b1mbold", "red bold"),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b\x1b]8;;\x1b\\", "ab"),
        ("\x1bPq#\x1b\\\x1b(B\x1bcx", "x"),
        ("&#27;[2J", "[2J"),
        ("a\x00b\x08c\x7fd\x90e", "abcd"),
        ("\u202eevil\u2066", "evil"),
        ("\ud800", "\ufffd"),
        ("line\u2028line", "line\nline"),
        ("**bold** [red]x[/red]", "**bold** [red]x[/red]"),
        ("日本語 👍🏽 שלום", "日本語 👍🏽 שלום"),
    ],
)
def test_text_is_made_legible(text: str, shown: str) -> None:
    """Markup becomes text, text stays text, and nothing commands the terminal."""
    assert readable(text) == shown


@given(
    st.text(
        st.one_of(
            st.sampled_from("\x1b\x9b\x9c\x90[]<>/&#;apbrli27 \n\r\t\x07"),
            st.characters(),
        ),
        max_size=60,
    )
)
def test_nothing_commands_the_terminal(text: str) -> None:
    """Whatever comes: no control character but the line feed, and all of it encodes."""
    shown = readable(text)

    assert {c for c in shown if unicodedata.category(c) == "Cc"} <= {"\n"}
    shown.encode()
    assert "\n" not in readable_line(text)


@pytest.mark.parametrize(
    "text", ["<a ", "\x1b]", "<!--", "<script>", "<p>", "&#x1b", "<li><br>", "\x1b[0"]
)
def test_hostile_text_costs_no_more_than_its_length(text: str) -> None:
    """128 KB of the worst take no time to speak of."""
    started = time.perf_counter()
    readable(text * (131_072 // len(text)))
    assert time.perf_counter() - started < 3


def test_names_are_one_line() -> None:
    """A name with line ends cannot pose as another message."""
    assert readable_line(" Sam\nYou: yes\x1b[2J ") == "Sam You: yes"
    assert readable_line(None) == ""
