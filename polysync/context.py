"""Verified context: a backend vouches for who the user is."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping

from polysync.errors import ConfigurationError

__all__ = ["sign_context"]

#: Largest context as JSON, and largest token, in bytes (vendor's documentation).
MAX_CONTEXT, MAX_TOKEN = 8 * 1024, 16 * 1024

#: The longest that a token may be valid, in seconds (vendor's documentation).
MAX_LIFE = 30

Value = str | int | float | bool | None


def sign_context(
    context_id: str,
    context: Mapping[str, Value],
    *,
    key_id: str,
    secret: str,
    lifetime: int = MAX_LIFE,
    now: float | None = None,
) -> str:
    """Sign what the agent is to know of the user, for one conversation.

    The web widget submits the result before the agent joins. Sign for the user who is
    logged in, never for what a browser asks for.

    Args:
        context_id: `Client.context_id`, which the server gives at the session's start.
        context: A flat mapping of names to strings, numbers, booleans or ``None``.
        key_id: Identifier of the secret.
        secret: The shared secret; used as it is, never decoded from hexadecimal.
        lifetime: Seconds that the token is valid; 30 at most.
        now: Seconds since the epoch; default: the system's clock.

    Returns:
        A JSON Web Token (HS256), for use at once.

    Raises:
        ConfigurationError: The context is not flat or too large, the lifetime is too
            long, something is missing, or PyJWT (extra ``context``) is.
    """
    for name, value in (
        ("context_id", context_id),
        ("key_id", key_id),
        ("secret", secret),
    ):
        if not isinstance(value, str) or not value:
            raise ConfigurationError(f"{name} must be a text that is not empty")
    whole = isinstance(lifetime, int) and not isinstance(lifetime, bool)
    if not whole or not 0 < lifetime <= MAX_LIFE:
        raise ConfigurationError(f"lifetime must be 1 to {MAX_LIFE} whole seconds")
    try:
        key = secret.encode()
    except UnicodeEncodeError:  # it would quote the secret
        raise ConfigurationError("secret holds what UTF-8 cannot") from None
    _check(context)
    try:
        import jwt
    except ImportError as error:
        raise ConfigurationError(
            "signing needs the PyJWT package: pip install polysync[context]"
        ) from error
    issued = int(time.time() if now is None else now)
    token = jwt.encode(
        {
            "sub": context_id,
            "iat": issued,
            "exp": issued + lifetime,
            "ctx": dict(context),
        },
        key,
        algorithm="HS256",
        headers={"kid": key_id},
    )
    if len(token) > MAX_TOKEN:
        raise ConfigurationError(
            f"the signed context takes {len(token):,} bytes; {MAX_TOKEN:,} are allowed"
        )
    return token


def _check(context: Mapping[str, Value]) -> None:
    if not isinstance(context, Mapping):
        raise ConfigurationError("context must be a mapping of names to values")
    for key, value in context.items():
        if not isinstance(key, str):
            raise ConfigurationError(f"context has a name that is no text: {key!r}")
        if value is not None and not isinstance(value, (str, int, float, bool)):
            raise ConfigurationError(
                f"context must be flat: {key!r} is a {type(value).__name__}, and only "
                "strings, numbers, booleans and None are allowed"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigurationError(f"context cannot hold {value} ({key!r})")
    try:
        # Escaped, as in the token: whoever writes it again, it takes no more than this.
        size = len(json.dumps(dict(context)))
    except ValueError as error:  # a whole number of thousands of digits
        raise ConfigurationError(f"context cannot be written: {error}") from error
    if size > MAX_CONTEXT:
        raise ConfigurationError(
            f"the context takes {size:,} bytes as JSON; {MAX_CONTEXT:,} are allowed"
        )
