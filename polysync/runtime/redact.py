"""Takes secrets out of text before anybody sees it."""

from __future__ import annotations

import logging
import re

__all__ = ["RedactingFilter", "Secret", "describe", "redact", "summary"]

# Texts, which `re` compiles when they are first used: that takes 2 ms.
_RULES = (
    # access_token=…, "access_token": "…", connector_token='…'
    (
        r"(?i)((?:access|connector)_?token[\"']?\s*(?:=|:|%3D)\s*[\"']?)"
        r"[^\s&\"',;#})\]]+",
        r"\1***",
    ),
    # X-Token: …, Authorization: Bearer …, Proxy-Authorization: Basic …
    (
        r"(?i)((?:x-token|(?:proxy-)?authorization)[\"']?\s*[:=,]\s*"
        r"(?:b(?=[\"']))?[\"']?(?:(?:bearer|basic)\s+)?)[^\s\"',;})\]]+",
        r"\1***",
    ),
    (r"(?i)\b(bearer\s+)[\w.~+/=-]{8,}", r"\1***"),
    # https://user:password@host
    (r"(://)[^\s/@]+@", r"\1***@"),
    # A JSON Web Token, wherever it stands
    (r"\beyJ[\w-]{6,}\.[\w-]+(?:\.[\w-]*)?", "***"),
)


def redact(text: str, *secrets: str | None) -> str:
    """Return the text with tokens and passwords replaced by ``***``.

    Args:
        text: A URL, headers, a message, a traceback.
        *secrets: Values that must not show, whatever they look like.
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    for pattern, replacement in _RULES:
        text = re.sub(pattern, replacement, text)
    return text


def describe(error: BaseException) -> str:
    """Return what an error says, for the middle of a sentence, without secrets."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return redact(str(words)).strip().rstrip(".")


def summary(frame: bytes) -> str:
    """Return what a frame is, for the log: its types and size, and none of its text."""
    types = _TYPES.findall(frame[:_LOOK_AT])
    more = ", …" if len(frame) > _LOOK_AT else ""
    words = ", ".join(word.decode() for word in types) or "no event"
    return f"{words}{more} ({len(frame):,} bytes)"


_TYPES = re.compile(rb'"type": ?"EVENT_TYPE_([A-Z_]+)"')

#: Bytes of a frame that a summary is made of: a batch may be long.
_LOOK_AT = 4096


class Secret(str):
    """A string that is itself but does not show in a ``repr``.

    Debuggers and error reporters show the ``repr`` of local variables.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class RedactingFilter(logging.Filter):
    """Takes the secrets out of log records, for handlers of any logger.

    polysync's own records hold none. Add it to a handler that also gets the records
    of ``urllib3`` or ``websocket``, or those of your own code::

        handler.addFilter(RedactingFilter())
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record's message and traceback in place, and let it pass."""
        try:
            message = record.getMessage()
        except Exception:
            return True  # logging reports a bad format string better than we can
        clean = redact(message)
        if clean != message:
            record.msg, record.args = clean, ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        return True
