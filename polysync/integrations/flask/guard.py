"""Who may post: the CSRF token and the origin of a request."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from hashlib import sha256
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from flask import current_app, request

from polysync.integrations.web.bodies import RequestError

__all__ = ["check_csrf", "check_origin", "csrf_token"]

HEADER = "X-CSRFToken"


def csrf_token(key: str) -> str:
    """Return the token that goes with a visitor's conversation key.

    The key is a secret between the visitor's cookie and the site, so what is derived
    of it can be known to the site's pages only, and has to be stored nowhere.
    """
    if _flask_wtf():
        return str(import_module("flask_wtf.csrf").generate_csrf())
    return _own_token(key)


def check_csrf(key: str | None) -> None:
    """Check the token of a request that changes something.

    Raises:
        RequestError: 403, it is missing or belongs to another session.
    """
    given = request.headers.get(HEADER, "")
    if _flask_wtf():
        try:
            import_module("flask_wtf.csrf").validate_csrf(given)
        except ValueError:  # wtforms.ValidationError
            raise _refused("csrf", "The CSRF token is missing or wrong.") from None
        return
    wanted = _own_token(key) if key else ""
    if not wanted or not hmac.compare_digest(given.encode(), wanted.encode()):
        raise _refused("csrf", "The CSRF token is missing or wrong.")


def check_origin(trusted: Collection[str]) -> None:
    """Check that a page of this site has made the request.

    Browsers say so in ``Sec-Fetch-Site``, older ones in ``Origin``; what says neither
    is no page of another site. Of ``Origin``, the host counts: behind a proxy that ends
    TLS, an application may not know its own scheme.

    Raises:
        RequestError: 403, another site has.
    """
    origin = request.headers.get("Origin")
    if origin is not None and origin in trusted:
        return
    fetched_by = request.headers.get("Sec-Fetch-Site")
    if fetched_by is not None:
        if fetched_by not in ("same-origin", "none"):
            raise _refused("origin", "The request comes from another site.")
        return
    if origin is not None and _place(origin) != _place(f"//{request.host}"):
        raise _refused("origin", "The request comes from another site.")


def _place(url: str) -> Any:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None, url
    default = {"http": 80, "https": 443}.get(parts.scheme or request.scheme)
    return parts.hostname, None if port in (default, 80, 443) else port


def _own_token(key: str) -> str:
    return hmac.new(key.encode(), b"polysync csrf token", sha256).hexdigest()


def _flask_wtf() -> bool:
    """Whether the application is protected by Flask-WTF, which has its own tokens."""
    return "csrf" in current_app.extensions


def _refused(code: str, message: str) -> RequestError:
    return RequestError(403, code, message)
