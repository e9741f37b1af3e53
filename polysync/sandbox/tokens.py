"""The sandbox's credentials: connector token, host and access tokens."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from itertools import takewhile
from uuid import uuid4

__all__ = ["Tokens"]


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _host_name(host: str) -> str:
    """Return the bare name in a URL, a host with a port or an app's namespace."""
    bare = host.strip().lower()
    bare = bare.partition("://")[2] or bare
    bare = bare.partition("/")[0]
    return bare.rpartition(":")[0] if bare.rpartition(":")[2].isdigit() else bare


class Tokens:
    """Mint access tokens, and judge whatever claims to be one.

    An access token looks like a JWT; it counts because it is remembered here, so a
    tampered one is simply unknown.
    """

    def __init__(
        self, connector_token: str, registered_host: str | None, lifetime: float
    ) -> None:
        self.connector_token = connector_token
        self.registered_host = registered_host
        self.lifetime = lifetime
        self._deadlines: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Tokens: {len(self._deadlines)} access tokens>"

    def refusal(self, connector_token: str | None, host: str | None) -> str | None:
        """Return why these credentials earn no access token, or `None`."""
        if not connector_token or not host:
            return "Missing authentication headers"
        if not hmac.compare_digest(
            connector_token.encode(), self.connector_token.encode()
        ):
            return "Connector token does not exist"
        if self.registered_host is None:
            return "Connector missing host domain"
        registered, name = _host_name(self.registered_host), _host_name(host)
        if name != registered and not name.endswith("." + registered):
            return "Failed to validate connector"
        return None

    def mint(self) -> str:
        """Return a fresh access token for a new end user."""
        now = time.time()
        header = {"alg": "HS256", "typ": "JWT"}
        claims = {
            "sub": str(uuid4()),
            "iat": int(now),
            "exp": int(now + self.lifetime),
        }
        self._forget_expired()
        token = ".".join(
            (
                _encoded(json.dumps(header).encode()),
                _encoded(json.dumps(claims).encode()),
                _encoded(secrets.token_bytes(32)),
            )
        )
        self._deadlines[token] = time.monotonic() + self.lifetime
        return token

    def _forget_expired(self) -> None:
        """Forget the tokens that no longer count; the oldest stand first."""
        now = time.monotonic()
        expired = takewhile(lambda entry: entry[1] <= now, self._deadlines.items())
        for token, _ in list(expired):
            del self._deadlines[token]

    def valid(self, token: str) -> bool:
        """Say whether the token was minted here and has not expired."""
        deadline = self._deadlines.get(token)
        return deadline is not None and time.monotonic() < deadline

    def expire(self, token: str | None = None) -> None:
        """Let one token, or all of them, have expired."""
        if token is None:
            self._deadlines.clear()
        else:
            self._deadlines.pop(token, None)
