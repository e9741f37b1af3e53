"""The static files of the chat: by a view of this app, or by ``staticfiles``."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from django.templatetags.static import static
from django.urls import reverse

from polysync.integrations.django.conf import settings
from polysync.integrations.web import embed
from polysync.integrations.web.embed import Asset

__all__ = ["asset", "asset_url"]

_PAGE = "page.css"


@lru_cache(maxsize=4)
def asset(name: str) -> Asset:
    """Return ``chat.js``, ``chat.css``, or ``page.css`` of the app's own page.

    Raises:
        KeyError: There is no such file.
    """
    if name != _PAGE:
        return embed.asset(name)
    body = (Path(__file__).parent / "static" / "polysync" / _PAGE).read_bytes()
    return Asset(body, "text/css; charset=utf-8", sha256(body).hexdigest()[:16])


def asset_url(name: str) -> str:
    """Return the address of a file, which changes when the file does."""
    if settings().staticfiles:
        return static(f"polysync/{name}")
    address = reverse("polysync:static", args=[name])
    return f"{address}?v={asset(name).version}"
