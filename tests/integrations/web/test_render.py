"""The agent's text as HTML: it looks as it was meant, and does nothing else."""

from __future__ import annotations

import re
import threading
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysync.integrations.web.render import (
    WEB_SCHEMES,
    phone_url,
    render_markdown,
    safe_url,
)
from tests.integrations.web.corpus import ATTACKS

ALLOWED = {
    *["a", "b", "blockquote", "br", "code", "del", "em", "hr", "i", "li", "ol", "p"],
    *["pre", "s", "strong", "sub", "sup", "u", "ul"],
    *["table", "tbody", "td", "th", "thead", "tr"],
}
ATTRIBUTES = {"a": {"href", "title", "rel", "target"}, "ol": {"start"}}


class Parsed(HTMLParser):
    """What a piece of HTML holds."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.other: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.other.append(data)

    def handle_decl(self, decl: str) -> None:
        self.other.append(decl)

    def handle_pi(self, data: str) -> None:
        self.other.append(data)

    def unknown_decl(self, data: str) -> None:
        self.other.append(data)


def assert_harmless(html: str) -> None:
    parsed = Parsed(html)
    assert not parsed.other
    for tag, attributes in parsed.elements:
        assert tag in ALLOWED
        assert set(attributes) <= ATTRIBUTES.get(tag, set())
        if tag == "a":
            assert attributes["rel"] == "noopener noreferrer nofollow"
            assert attributes["target"] == "_blank"
            href = attributes.get("href")
            assert href is None or re.match(r"(https?://|mailto:|tel:)[^\s@]", href)
        if tag == "ol":
            assert (attributes.get("start") or "1").isdecimal()


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_leaves_nothing_but_allowed_elements(attack: str) -> None:
    """Only listed elements and attributes, and links to listed schemes, stay."""
    assert_harmless(render_markdown(attack))
    assert_harmless(render_markdown(f"Hello **you** {attack} and\n\n- {attack}"))


PIECES = st.sampled_from(
    [
        *ATTACKS,
        "<",
        ">",
        '"',
        "'",
        "&",
        "`",
        "**",
        "[",
        "](",
        ")",
        "\n",
        "\n\n",
        " ",
        "|",
    ]
    + ["<a href=", "javascript:", "https://", "<b>", "</b>", "<!--", "-->", "&#x3c;"]
)


@given(st.lists(PIECES | st.text(max_size=8), max_size=12).map("".join))
def test_no_mixture_gets_through(text: str) -> None:
    """Attacks cut up and put together otherwise are as harmless."""
    assert_harmless(render_markdown(text))


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("Hi **there**", "<p>Hi <strong>there</strong></p>"),
        ("one<br>two<br/>three", "<p>one<br>two<br>three</p>"),
        ("one\ntwo", "<p>one<br>\ntwo</p>"),
        ("<br>\n**Bold** after", "<p><strong>Bold</strong> after</p>"),
        ("<b>a</b> <i>b</i> <u>c</u>", "<p><b>a</b> <i>b</i> <u>c</u></p>"),
        ("- a\n- b", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>"),
        ("<ul><li>a</li></ul>", "<ul><li>a</li></ul>"),
        ("2. a", '<ol start="2">\n<li>a</li>\n</ol>'),
        ("Fish &amp; chips &lt;3 &copy;", "<p>Fish &amp; chips &lt;3 ©</p>"),
        ("# Title", "<p><strong>Title</strong></p>"),
        ("<h1>Title</h1>", "Title"),
        ("Sum\n---\nrest", "<p>Sum</p>\n<hr>\n<p>rest</p>"),
        ("    four spaces", "<p>four spaces</p>"),
        ("5 < 6 > 4", "<p>5 &lt; 6 &gt; 4</p>"),
        ("~~old~~", "<p><s>old</s></p>"),
        ("<blink>x</blink>", "<p>x</p>"),
        ("", ""),
        ("  \n ", ""),
        ("\ud800!", "<p>?!</p>"),
    ],
)
def test_text_looks_as_it_was_meant(text: str, html: str) -> None:
    """Markdown, simple HTML and mixtures of both come out as HTML."""
    assert render_markdown(text) == html


def links(html: str) -> list[str | None]:
    return [a.get("href") for tag, a in Parsed(html).elements if tag == "a"]


@pytest.mark.parametrize(
    ("text", "hrefs"),
    [
        ("[x](https://a.example/?b=1&c=2)", ["https://a.example/?b=1&c=2"]),
        ('<a href="mailto:a@b.example">x</a>', ["mailto:a@b.example"]),
        ("[x](tel:+441234)", ["tel:+441234"]),
        ("<https://a.example>", ["https://a.example"]),
        ("See https://a.example/b, or (http://c.example).",
         ["https://a.example/b", "http://c.example"]),
        ("[https://a.example](https://a.example)", ["https://a.example"]),
        ('<a href="https://a.example">https://a.example</a>', ["https://a.example"]),
        ("`https://a.example`", []),
        ("![Menu](https://a.example/m.png)", ["https://a.example/m.png"]),
        ("[x](/relative)", [None]),
        ("ftp://a.example", []),
    ],
)  # fmt: skip
def test_links_lead_where_they_say(text: str, hrefs: list[str | None]) -> None:
    """Links keep allowed addresses; bare web addresses become links."""
    assert links(render_markdown(text)) == hrefs


def test_a_text_that_is_all_markup_is_shown_as_typed() -> None:
    """An empty bubble would hide that something was said."""
    assert Parsed(render_markdown("<script>x</script>")).text == "<script>x</script>"
    assert Parsed(render_markdown("[a]: b")).text == "[a]: b"


@pytest.mark.parametrize("unit", ["[", "*a ", "`", "<b>", "<", "> ", "![[]()", "_a", "<!--", "|a", "https://a*b*"])  # fmt: skip  # noqa: E501
def test_no_text_takes_long(unit: str) -> None:
    """A message of the largest size is rendered in well under a second or two."""
    began = time.monotonic()
    render_markdown((unit * 20_000)[:20_000])
    render_markdown((unit * 131_072)[:131_072])
    assert time.monotonic() - began < 4


def test_threads_can_render_at_once() -> None:
    """The renderer is built once and read by all threads."""
    wrong: list[str] = []

    def render() -> None:
        for number in range(100):
            if render_markdown(f"**{number}**") != f"<p><strong>{number}</strong></p>":
                wrong.append(str(number))

    threads = [threading.Thread(target=render) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example/b?c#d",
        "http://a.example:8080",
        "HTTPS://A.example",
        "https://[::1]/x",
        "mailto:a@b.example",
        "tel:+44-20",
    ],
)
def test_good_addresses_stay(url: str) -> None:
    """Web, mail and phone addresses are kept as they are."""
    assert safe_url(f" {url} ") == url


@pytest.mark.parametrize(
    "url",
    [
        *[None, "", " ", "x", "/x", "//a.example", "https:", "https://", "https:///x"],
        *["javascript:x", "data:x", "vbscript:x", "file:///x", "blob:x", "ftp://a.b"],
        *["https://u:p@a.example", "https://u@a.example", "https://a.example:99999"],
        *["https://a b", "https://a\tb", "ht\ntps://a.b", "https:\\\\a.b", "http://[x"],
        *['https://a.b/"x', "https://a.b/<x>", "https://a.b/\u202e", "mailto://a.b"],
        *["tel:", "mailto:", "https://\u200ba.b"],
    ],
)
def test_bad_addresses_go(url: str | None) -> None:
    """Other schemes, relative, disguised and broken addresses are refused."""
    assert safe_url(url) is None


def test_images_come_from_the_web_only() -> None:
    """The schemes can be narrowed."""
    assert safe_url("mailto:a@b.example", schemes=WEB_SCHEMES) is None
    assert safe_url("https://a.example/x.png", schemes=WEB_SCHEMES) is not None


@given(st.text())
def test_safe_url_never_raises(url: str) -> None:
    """Any text is an address or is none."""
    safe_url(url)
    safe_url(f"https://{url}")


@pytest.mark.parametrize(
    ("number", "url"),
    [
        ("+44 (0)20 7946-0000", "tel:+442079460000"),
        ("tel:+442079460000", "tel:+442079460000"),
        ("0800 123", "tel:0800123"),
        ("(020) 123", "tel:020123"),
        ("*100#", "tel:*100#"),
        ("none", None),
        ("javascript:1", None),
        ("", None),
        (None, None),
    ],
)
def test_phone_numbers_become_addresses(number: str | None, url: str | None) -> None:
    """Numbers as people write them can be called."""
    assert phone_url(number) == url
