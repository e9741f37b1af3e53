"""Settings of a client: what may be set, what it defaults to, what is refused."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import attrs

from polysync.errors import ConfigurationError
from polysync.protocol.settings import Settings

__all__ = ["ENVIRONMENTS", "Options", "checked_timeout"]

#: Clusters that the vendor's documentation names. Others of the same form work too.
ENVIRONMENTS = ("us-1", "uk-1", "euw-1")

#: What ``platform`` may be when a session is created.
PLATFORMS = ("web", "ios", "android", "ios-web", "android-web", "custom")

#: Seconds that stand for "for ever" in a timeout, some three years.
LONGEST_TIMEOUT = 1e8

_CLUSTER = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*-[0-9]+")
# RFC 9110 field values: visible ASCII. Anything else would split or spoil a header.
_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")


def checked_timeout(value: float | None, name: str, default: float) -> float:
    """Return ``value`` in seconds, or ``default`` for ``None``.

    Raises:
        ConfigurationError: It is no number, negative, or not a number at all.
    """
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(
            f"{name} must be a number of seconds, not {type(value).__name__}"
        )
    if not value >= 0:  # nor is NaN
        raise ConfigurationError(f"{name} must be 0 or more seconds, not {value}")
    # Beyond that, there are numbers that no clock and no socket can take.
    return float(min(value, LONGEST_TIMEOUT))


def _base_url(environment: str) -> str:
    """The https (or, on loopback, http) address that an environment stands for."""
    if _CLUSTER.fullmatch(environment):
        return f"https://messaging.{environment}.poly.ai"
    scheme, _, rest = environment.partition("://")
    secure = {"https": True, "wss": True, "http": False, "ws": False}.get(scheme)
    if secure is None or not rest:
        raise ConfigurationError(
            f"unknown environment {environment!r}: use one of "
            f"{', '.join(ENVIRONMENTS)}, another cluster's name, a base URL "
            "(https://…) or 'sandbox'"
        )
    try:
        parts = urlsplit(f"{'https' if secure else 'http'}://{rest}")
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"environment is no valid address: {error}") from error
    if not host or parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigurationError(
            "environment must be a plain base URL such as https://messaging.example: "
            "no user, password, query or fragment"
        )
    if not secure and not _is_loopback(host):
        raise ConfigurationError(
            f"{scheme}:// to {host} is refused, as tokens would travel in clear text: "
            f"use {'https' if scheme == 'http' else 'wss'}:// "
            "(clear text is for loopback addresses only)"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _header_value(value: str | None, what: str, hint: str) -> str | None:
    if value is None:
        return None
    # The value itself is never shown: it may be a secret with a slip in it.
    if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
        raise ConfigurationError(
            f"{what} is empty or has characters that a token cannot have "
            f"(spaces, line ends, accents): {hint}"
        )
    return value


def _count(value: int | None, name: str) -> int | None:
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, int) or value < 0
    ):
        raise ConfigurationError(f"{name} must be a whole number of 0 or more")
    return value


@attrs.frozen(eq=False, repr=False, weakref_slot=False, kw_only=True)
class Options(Settings):
    """The checked settings of one client; `Client` documents each."""

    environment: str
    #: ``None`` until the sandbox of this process is started.
    base_url: str | None
    connector_token: str | None = attrs.field(repr=False)
    host: str | None
    access_token: str | None = attrs.field(repr=False)
    streaming: bool
    platform: str
    reply_timeout: float
    proxy: str | None = attrs.field(repr=False)
    ca_certs: str | None

    @property
    def sandboxed(self) -> bool:
        """Whether the built-in sandbox is meant."""
        return self.environment == "sandbox"

    def for_sandbox(self, connector_token: str, host: str) -> Options:
        """Return the same settings with the credentials of the built-in sandbox."""
        return attrs.evolve(
            self,
            connector_token=self.connector_token or connector_token,
            host=self.host or host,
        )

    @classmethod
    def checked(
        cls,
        connector_token: str | None,
        host: str | None,
        *,
        access_token: str | None,
        environment: str | None,
        streaming: bool,
        platform: str,
        timeout: float,
        reply_timeout: float,
        heartbeat_interval: float | None,
        heartbeat_timeout: float,
        max_reconnects: int | None,
        reconnect_delay: float,
        reconnect_delay_max: float,
        resend: bool,
        proxy: str | None,
        ca_certs: str | None,
        history_limit: int | None,
        resuming: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> Options:
        """Check everything at once, before anything is sent.

        Raises:
            ConfigurationError: A setting is missing or wrong; the message names it.
        """
        environment = environment or environ.get("POLYSYNC_ENVIRONMENT") or "us-1"
        sandboxed = environment == "sandbox"
        base_url = None if sandboxed else _base_url(environment)
        if not sandboxed:
            connector_token = connector_token or environ.get("POLYSYNC_CONNECTOR_TOKEN")
            host = host or environ.get("POLYSYNC_HOST")
        # An empty one is a variable that is not set somewhere: missing, not wrong.
        connector_token = _header_value(
            connector_token or None,
            "the connector token",
            "copy it again from the console",
        )
        access_token = _header_value(access_token, "the access token", "mint it again")
        host = _header_value(
            host or None,
            "host",
            "it is the registered domain, e.g. https://www.example.com",
        )
        if not (sandboxed or resuming or access_token):
            if connector_token is None:
                raise ConfigurationError(
                    "no connector token: pass connector_token=, set "
                    "POLYSYNC_CONNECTOR_TOKEN, or use environment='sandbox' to try "
                    "without an account"
                )
            if host is None:
                raise ConfigurationError(
                    "no host: pass host= or set POLYSYNC_HOST to the domain or app "
                    "namespace that the connector is registered for, "
                    "e.g. https://www.example.com"
                )
        if platform not in PLATFORMS:
            raise ConfigurationError(
                f"platform must be one of {', '.join(PLATFORMS)}, not {platform!r}"
            )
        interval = (
            None
            if heartbeat_interval is None
            else checked_timeout(heartbeat_interval, "heartbeat_interval", 0.0)
        )
        if heartbeat_timeout == 0:
            raise ConfigurationError(
                "heartbeat_timeout must be more than 0 seconds, as no echo comes at "
                "once; heartbeat_interval=0 turns heartbeats off"
            )
        return cls(
            environment=environment,
            base_url=base_url,
            connector_token=connector_token,
            host=host,
            access_token=access_token,
            streaming=bool(streaming),
            platform=platform,
            timeout=checked_timeout(timeout, "timeout", 30.0),
            reply_timeout=checked_timeout(reply_timeout, "reply_timeout", 60.0),
            heartbeat_interval=interval,
            heartbeat_timeout=checked_timeout(
                heartbeat_timeout, "heartbeat_timeout", 10.0
            ),
            max_reconnects=_count(max_reconnects, "max_reconnects"),
            reconnect_delay=checked_timeout(reconnect_delay, "reconnect_delay", 1.0),
            reconnect_delay_max=checked_timeout(
                reconnect_delay_max, "reconnect_delay_max", 30.0
            ),
            resend=bool(resend),
            proxy=proxy,
            ca_certs=ca_certs,
            history_limit=_count(history_limit, "history_limit"),
        )
