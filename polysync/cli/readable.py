"""What the agent wrote, made safe and legible for a terminal.

A message may hold HTML, escape sequences that would move the cursor or retitle the
window, and characters that reverse the direction of what follows. None of it
reaches the terminal.
"""

from __future__ import annotations

import html
import re

__all__ = ["readable", "readable_line"]

# CSI, OSC and the like (title, clipboard, links), then the short ones. Each part
# stops at the next escape, so that hostile text costs no more than its length.
_ESCAPES = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"
    "|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x9c|\x1b\\\\)?"
    "|\x1b[ -/]*[0-~]?"
)

# Only these are taken for tags: "a < b", "<3" and "<sam@example.com>" are text.
_TAG = re.compile(
    r"<(/?)(a|abbr|article|b|big|blockquote|br|center|code|dd|del|div|dl|dt|em|font"
    r"|h[1-6]|header|footer|hr|i|img|ins|label|li|mark|main|nav|ol|p|pre|s|script"
    r"|section|small|span|strike|strong|style|sub|sup|table|tbody|td|th|thead|title"
    r"|tr|tt|u|ul|video|audio|iframe|button|input)\b([^<>]*)>|<!--",
    re.IGNORECASE,
)
_ATTRIBUTE = re.compile(r"""\b(href|alt)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
_INVISIBLE = ("script", "style", "title", "iframe")
_BLOCKS = re.compile(
    "article|blockquote|center|dd|div|d[lt]|h[1-6]|header|footer|hr|main|nav|[ou]l|p"
    "|pre|section|table|tbody|thead|tr"
)

_TABLE: dict[int, str | None] = {
    # C0 and C1 controls, but for the line feed.
    **{code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if code != 0x0A},
    # Overrides and isolates of direction, which make text look like other text.
    **dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), None),
    # Halves of pairs, which no encoding can hold.
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),
    0x09: "    ",
    0x85: "\n",
    0x2028: "\n",
    0x2029: "\n",
}


def readable(text: str) -> str:
    """Return the text without HTML, escape sequences and control characters.

    Args:
        text: What came from the server; Markdown in it stays as it is.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "<" in text and _TAG.search(text):
        text = _without_tags(text).strip("\n")
    if "&" in text:
        text = html.unescape(text)
    # Last, as an entity may stand for an escape.
    return _ESCAPES.sub("", text).translate(_TABLE)


def readable_line(text: str | None) -> str:
    """Return a name, a title or an address in one line."""
    return " ".join(readable(text or "").split())


class _Plain:
    """Text that is put together from the pieces between tags."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._feeds = 2  # line ends at the end so far; a text needs none before it

    def add(self, text: str) -> None:
        if text:
            self._parts.append(text)
            text = text.rstrip(" ")
            feeds = len(text) - len(text.rstrip("\n"))
            self._feeds = feeds if feeds < len(text) else self._feeds + feeds

    def end_lines(self, wanted: int) -> None:
        if self._feeds < wanted:
            self._parts.append("\n" * (wanted - self._feeds))
            self._feeds = wanted

    def ends_with(self, text: str) -> bool:
        return bool(self._parts) and self._parts[-1].strip() == text

    def __str__(self) -> str:
        return "".join(self._parts)


def _without_tags(text: str) -> str:
    plain = _Plain()
    position, hidden, target = 0, "", ""
    while match := _TAG.search(text, position):
        if not hidden:
            plain.add(text[position : match.start()])
        position = match.end()
        if match[2] is None:
            end = text.find("-->", position)
            position = len(text) if end < 0 else end + 3
            continue
        closing, name = bool(match[1]), match[2].lower()
        if hidden:
            if closing and name == hidden:
                hidden = ""
        elif name in _INVISIBLE and not closing:
            hidden = name
        elif name == "a":
            if closing and target and not plain.ends_with(target):
                plain.add(f" ({target})")
            target = "" if closing else _attribute(match[3], "href")
        else:
            _render(name, closing, match[3], plain)
    if not hidden:
        plain.add(text[position:])
    return str(plain)


def _render(name: str, closing: bool, attributes: str, plain: _Plain) -> None:
    if name == "br":
        plain.add("\n")
    elif name == "img":
        plain.add(_attribute(attributes, "alt"))
    elif name in ("td", "th"):
        plain.add(" " if closing else "")
    elif name == "p" and not closing:
        plain.end_lines(2)
    elif name == "li":
        plain.end_lines(1)
        plain.add("" if closing else "- ")
    elif _BLOCKS.fullmatch(name):
        plain.end_lines(1)


def _attribute(attributes: str, wanted: str) -> str:
    for name, *values in _ATTRIBUTE.findall(attributes):
        if name.lower() == wanted:
            return "".join(values)
    return ""
