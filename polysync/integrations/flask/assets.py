"""The files that the blueprint gives out: the widget's, and the page's style sheet."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from polysync.integrations.web import embed
from polysync.integrations.web.embed import Asset

__all__ = ["asset"]

PAGE_STYLE = "page.css"


def asset(name: str) -> Asset:
    """Return a file by its name.

    Raises:
        KeyError: There is no such file.
    """
    return _page_style() if name == PAGE_STYLE else embed.asset(name)


@lru_cache(maxsize=1)
def _page_style() -> Asset:
    body = (Path(__file__).parent / "static" / PAGE_STYLE).read_bytes()
    return Asset(body, "text/css; charset=utf-8", sha256(body).hexdigest()[:16])
