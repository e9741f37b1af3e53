"""The element that puts the chat into a page."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from polysync.integrations.web.embed import (
    SCRIPT,
    STATIC_DIRECTORY,
    STYLESHEET,
    asset,
    script_tag,
)


def attributes(html: str) -> dict[str, str | None]:
    found: list[dict[str, str | None]] = []

    class Reader(HTMLParser):
        def handle_starttag(
            self, tag: str, attrs: list[tuple[str, str | None]]
        ) -> None:
            assert tag == "script"
            found.append(dict(attrs))

    Reader().feed(html)
    assert len(found) == 1
    return found[0]


def test_the_shortest_tag_has_an_address_and_a_prefix() -> None:
    """All else has a default in the widget."""
    assert attributes(script_tag("/s/chat.js", "/chat")) == {
        "src": "/s/chat.js",
        "data-prefix": "/chat",
        "defer": None,
    }


def test_every_option_arrives_as_it_was_given() -> None:
    """Quotes, angle brackets and other alphabets do no harm."""
    strings = {"send": 'שלח "עכשיו" <b>'}
    found = attributes(
        script_tag(
            "/s/chat.js?a=1&b=2",
            "/chat",
            stylesheet="/s/chat.0f.css",
            target="#x > .y",
            title="O'Hara's \"Inn\" <3",
            theme="dark",
            language="he",
            strings=strings,
            csrf_token="t",
            csrf_meta="m",
            csrf_cookie="c",
            nonce="n",
        )
    )
    assert found["src"] == "/s/chat.js?a=1&b=2"
    assert found["data-title"] == "O'Hara's \"Inn\" <3"
    assert found["data-target"] == "#x > .y"
    assert json.loads(found["data-strings"] or "") == strings
    assert found["nonce"] == "n"


def test_the_static_files_are_there() -> None:
    """The widget and its sheet, with no inline code needed for either."""
    script = (STATIC_DIRECTORY / SCRIPT).read_text(encoding="utf-8")
    sheet = (STATIC_DIRECTORY / STYLESHEET).read_text(encoding="utf-8")
    assert script.count(".innerHTML") == 1
    for word in (
        "eval(",
        "new Function",
        "document.write",
        "outerHTML",
        "localStorage",
    ):
        assert word not in script
    assert "@import" not in sheet
    assert "url(" not in sheet


def test_a_view_can_give_the_files_out() -> None:
    """With their type and a version; nothing else can be read that way."""
    script, sheet = asset("chat.js"), asset("chat.css")
    assert script.body == (STATIC_DIRECTORY / SCRIPT).read_bytes()
    assert script.content_type.startswith("text/javascript")
    assert sheet.content_type.startswith("text/css")
    assert script.version != sheet.version
    for name in ("../render.py", "polysync/chat.js", ""):
        with pytest.raises(KeyError):
            asset(name)
