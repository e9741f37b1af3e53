"""Turns what an agent writes into HTML that is safe to show.

Agents write Markdown, some HTML (``<br>``, ``<b>``, ``<a>``, lists, entities), or
both at once. The text is untrusted all the same: a language model can be talked
into repeating what a stranger gave it. So whatever Markdown makes of it goes
through a sanitiser with a short list of what may stay, and every address through
`safe_url`.
"""

from __future__ import annotations

import html
import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from markdown_it.token import Token

__all__ = ["LINK_SCHEMES", "WEB_SCHEMES", "phone_url", "render_markdown", "safe_url"]

#: What a link may lead to.
LINK_SCHEMES = frozenset({"http", "https", "mailto", "tel"})
#: What an image may be fetched from.
WEB_SCHEMES = frozenset({"http", "https"})

# No images (attachments are cards of their own), no headings (they would disturb
# the outline of the page around the chat), nothing that loads, runs or styles.
_TAGS = frozenset(
    ["a", "b", "blockquote", "br", "code", "del", "em", "hr", "i", "li", "ol", "p"]
    + ["pre", "s", "strong", "sub", "sup", "u", "ul"]
    + ["table", "tbody", "td", "th", "thead", "tr"]
)
_ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
# Elements that go with all they hold; of any other, the text stays.
_SWALLOWED = frozenset(
    ["script", "style", "template", "noscript", "iframe", "object", "embed"]
    + ["svg", "math"]
)

# Beyond this many characters the text is shown as it is: an answer that long is no
# answer, and the time that Markdown takes must not depend on who is writing.
_MARKDOWN_LIMIT = 20_000

# A line of nothing but <br> would begin a CommonMark "HTML block", in which the
# Markdown of the next lines is not read.
_LONE_BREAKS = re.compile(r"^[ \t]*(?:<br[ \t]*/?>[ \t]*)+$", re.IGNORECASE | re.M)
# Browsers drop some of these from addresses, and nobody means any of them there.
_FORBIDDEN_IN_URL = re.compile(
    '[\x00-\x20\x7f-\xa0\\\\<>"`\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]'
)
_PHONE_NUMBER = re.compile(r"\+?[0-9*#][0-9*#,;]{0,31}")
_BARE_ADDRESS = re.compile(r"https?://[^\s<>\"']*[^\s<>\"'.,;:!?)\]}*_~]")
_TAG = re.compile(r"<[^>]*>")
_LIST_START = re.compile(r"[0-9]{1,9}")


def render_markdown(text: str) -> str:
    """Render an agent's text, Markdown and simple HTML, as safe HTML.

    Line breaks are kept. Links open in a new tab and lead to ``http``, ``https``,
    ``mailto`` or ``tel`` addresses only; an element that may not stay leaves its
    text behind, scripts and embedded documents leave nothing.

    Args:
        text: The text as the agent sent it, of any length.

    Returns:
        HTML without ``style``, ``class``, ``id`` or event attributes. Never raises.
    """
    text = text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    if len(text) > _MARKDOWN_LIMIT:
        return _plain(text)
    safe = _sanitiser()(_markdown()(_LONE_BREAKS.sub("", text))).strip()
    # What is all markup ("<script>…", "[a]: b") is shown as typed: better than
    # an empty bubble.
    return safe if _TAG.sub("", safe).strip() else _plain(text)


def safe_url(url: str | None, *, schemes: Collection[str] = LINK_SCHEMES) -> str | None:
    """Return the address if it is one that a page may link to, else ``None``.

    Args:
        url: An absolute address, as the server or the agent gave it.
        schemes: What it may begin with; `WEB_SCHEMES` for images.

    Returns:
        The address without surrounding space. ``None`` for a relative address,
        another scheme, a web address without a host or with a user name in it
        (``https://bank.example@elsewhere.example``), or one with control
        characters, spaces, backslashes, quotes or angle brackets.
    """
    if url is None:
        return None
    url = url.strip()
    if not url or _FORBIDDEN_IN_URL.search(url):
        return None
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a bad port raises
    except ValueError:
        return None
    if parts.scheme not in schemes:
        return None
    if parts.scheme in WEB_SCHEMES:
        # "https:example.com" is an address with a host to browsers alone.
        return url if host and "@" not in parts.netloc else None
    return url if parts.path and not parts.netloc else None


def phone_url(number: str | None) -> str | None:
    """Return the ``tel:`` address of a phone number as people write it, or ``None``.

    Args:
        number: ``"+44 (0)20 7946 0000"``, ``"tel:+442079460000"``, …
    """
    if number is None:
        return None
    digits = re.sub(r"^tel:|\(0\)(?=.*\d)|[\s()./\u2010-\u2015-]", "", number.strip())
    return f"tel:{digits}" if _PHONE_NUMBER.fullmatch(digits) else None


def _plain(text: str) -> str:
    text = html.escape(text.strip()).replace("\n", "<br>")
    return f"<p>{text}</p>" if text else ""


@lru_cache(maxsize=1)
def _markdown() -> Callable[[str], str]:
    """Return the Markdown parser; built once, then only read."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": True, "breaks": True})
    # Four spaces are no code and a line of dashes makes no heading: agents do not
    # mean these. An image becomes a link to it.
    parser.enable(["table", "strikethrough"]).disable(["code", "lheading"])
    # The protocol of renderers lacks the rules that the one in use has.
    rules = parser.renderer.rules  # type: ignore[attr-defined]
    rules["heading_open"] = lambda *_: "<p><strong>"
    rules["heading_close"] = lambda *_: "</strong></p>\n"
    rules["image"] = _image_link
    rules["text"] = _text_with_links

    def render(text: str) -> str:
        return str(parser.render(text))

    return render


def _text_with_links(tokens: Sequence[Token], index: int, *_: object) -> str:
    """Render plain text, with the web addresses in it as links."""
    text = tokens[index].content
    if "://" not in text or _inside_link(tokens, index):
        return html.escape(text)
    pieces: list[str] = []
    end = 0
    for match in _BARE_ADDRESS.finditer(text):
        address = html.escape(match[0])
        pieces += html.escape(text[end : match.start()]), _link(address, address)
        end = match.end()
    return "".join(pieces) + html.escape(text[end:])


def _inside_link(tokens: Sequence[Token], index: int) -> bool:
    for token in reversed(tokens[:index]):
        content = token.content.lower()
        html_tag = token.type == "html_inline"
        if token.type == "link_close" or (html_tag and content.startswith("</a")):
            return False
        if token.type == "link_open" or (html_tag and content.startswith("<a")):
            return True
    return False


def _link(address: str, text: str) -> str:
    return f'<a href="{address}">{text}</a>'


def _image_link(tokens: Sequence[Token], index: int, *_: object) -> str:
    token = tokens[index]
    source = str(token.attrs.get("src", ""))
    return _link(html.escape(source), html.escape(token.content or source))


@lru_cache(maxsize=1)
def _sanitiser() -> Callable[[str], str]:
    """Return the sanitiser; built once, then only read."""
    import nh3

    tags, swallowed, schemes = set(_TAGS), set(_SWALLOWED), set(LINK_SCHEMES)

    def attribute(tag: str, name: str, value: str) -> str | None:
        if name == "href":
            return safe_url(value)
        if name == "start":
            return value if _LIST_START.fullmatch(value) else None
        return value

    def clean(text: str) -> str:
        return nh3.clean(
            text,
            tags=tags,
            clean_content_tags=swallowed,
            attributes=_ATTRIBUTES,
            attribute_filter=attribute,
            link_rel="noopener noreferrer nofollow",
            set_tag_attribute_values={"a": {"target": "_blank"}},
            url_schemes=schemes,
        )

    return clean
