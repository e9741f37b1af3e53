"""The HTML that puts the chat into a page, and the files that it needs.

The widget is two static files, ``chat.js`` and ``chat.css``. A framework serves them
from `STATIC_DIRECTORY` as it serves static files, or a view gives them out by
`asset`, which needs no settings. Nothing has to be built, and a page with it can
have a strict content security policy; what it needs is::

    script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' https:

(``img-src`` for avatars and previews, which come from elsewhere.) A site that sets
``require-trusted-types-for 'script'`` allows ``trusted-types polysync``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "SCRIPT",
    "STATIC_DIRECTORY",
    "STYLESHEET",
    "Asset",
    "asset",
    "script_tag",
]

#: The directory to serve: Flask's ``static_folder``, an entry of Django's
#: ``STATICFILES_DIRS``.
STATIC_DIRECTORY = Path(__file__).resolve().parent / "static"

#: The widget, relative to `STATIC_DIRECTORY`.
SCRIPT = "polysync/chat.js"

#: Its style sheet. It belongs to the widget: the page itself does not link it.
STYLESHEET = "polysync/chat.css"


class Asset(NamedTuple):
    """A static file of the widget, as a view answers with it."""

    #: The file.
    body: bytes
    #: Its media type, for ``Content-Type``.
    content_type: str
    #: A digest of the body, to be put into an ``ETag`` or an address.
    version: str


_ASSETS = {
    "chat.js": (SCRIPT, "text/javascript; charset=utf-8"),
    "chat.css": (STYLESHEET, "text/css; charset=utf-8"),
}


@lru_cache(maxsize=len(_ASSETS))
def asset(name: str) -> Asset:
    """Return ``chat.js`` or ``chat.css``.

    Raises:
        KeyError: The widget has no such file.
    """
    path, content_type = _ASSETS[name]
    body = (STATIC_DIRECTORY / path).read_bytes()
    return Asset(body, content_type, sha256(body).hexdigest()[:16])


def script_tag(
    src: str,
    prefix: str,
    *,
    stylesheet: str | None = None,
    target: str | None = None,
    title: str | None = None,
    theme: str | None = None,
    language: str | None = None,
    strings: Mapping[str, str] | None = None,
    csrf_token: str | None = None,
    csrf_meta: str | None = None,
    csrf_cookie: str | None = None,
    nonce: str | None = None,
) -> str:
    """Return the ``<script>`` element that shows the chat.

    Args:
        src: The address of ``chat.js``.
        prefix: Where the views are: ``"/chat"`` for ``/chat/start`` and the others.
        stylesheet: The address of ``chat.css``; needed where static files have names
            with a hash. By default it is looked for beside the script.
        target: A CSS selector: the chat fills this element. By default a button
            floats in the corner and opens it.
        title: The name of the chat.
        theme: ``"light"`` or ``"dark"``; by default what the visitor's system says.
        language: The language of the strings, as in BCP 47; also sets the direction.
        strings: Translations, by the names in ``STRINGS`` in ``chat.js``, and
            ``error_<code>`` for the codes of error answers.
        csrf_token: The CSRF token. Without it the page looks for a ``<meta>`` named
            `csrf_meta` (``"csrf-token"``), then for a cookie named `csrf_cookie`
            (``"csrftoken"``), each time that it posts.
        nonce: The nonce of the page's content security policy.

    Returns:
        HTML, safe to be put into a page as it is.
    """
    attributes = {
        "src": src,
        "nonce": nonce,
        "data-prefix": prefix,
        "data-css": stylesheet,
        "data-target": target,
        "data-title": title,
        "data-theme": theme,
        "data-lang": language,
        "data-strings": json.dumps(dict(strings)) if strings else None,
        "data-csrf-token": csrf_token,
        "data-csrf-meta": csrf_meta,
        "data-csrf-cookie": csrf_cookie,
    }
    written = "".join(
        f' {name}="{escape(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    return f"<script{written} defer></script>"
