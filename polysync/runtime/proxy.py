"""Which proxy, if any, stands between us and a server."""

from __future__ import annotations

import base64
import ipaddress
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from polysync.errors import ConfigurationError

__all__ = ["Proxy", "find_proxy", "is_loopback"]


class Proxy(NamedTuple):
    """An HTTP proxy that tunnels with ``CONNECT``."""

    host: str
    port: int
    #: The value of ``Proxy-Authorization``, a secret.
    authorization: str | None = None

    def __repr__(self) -> str:
        return f"<Proxy {self.address}>"

    @property
    def address(self) -> str:
        """Host and port for messages; without the password."""
        return f"{self.host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Return whether the host is this very machine, judged by its name alone."""
    if host.rstrip(".").lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def find_proxy(setting: str | None, scheme: str, host: str, port: int) -> Proxy | None:
    """Return the proxy for a server.

    Args:
        setting: A proxy URL, which is then used whatever the host; an empty string
            for no proxy at all; ``None`` for what the environment says
            (``https_proxy``, ``all_proxy``, ``no_proxy``, and the system's settings
            on macOS and Windows). The environment never puts a proxy before a
            loopback address.
        scheme: ``https`` or ``http``.
        host: Name or address of the server.
        port: Its port.

    Raises:
        ConfigurationError: The proxy's URL cannot be used. It is not shown, as it may
            hold a password.
    """
    if setting is not None:
        return _parse(setting, "proxy=") if setting.strip() else None
    if is_loopback(host):
        return None
    import urllib.request  # 2 ms, and not needed to get here

    proxies = urllib.request.getproxies()
    url = proxies.get(scheme) or proxies.get("all")
    if not url:
        return None
    if urllib.request.proxy_bypass(f"{host}:{port}") or urllib.request.proxy_bypass(
        host
    ):
        return None
    return _parse(url, f"the environment ({scheme}_proxy or all_proxy)")


def _parse(url: str, origin: str) -> Proxy:
    url = url.strip()
    if "://" not in url:
        url = "http://" + url
    parts: SplitResult | None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = None, None
    if parts is None or not parts.hostname:
        raise ConfigurationError(
            f"The proxy that {origin} names is not a usable URL; write it as "
            "http://user:password@host:port."
        )
    if parts.scheme != "http":
        raise ConfigurationError(
            f"The proxy that {origin} names has the scheme {parts.scheme!r}, which is "
            "not supported: give an HTTP proxy, http://host:port. What goes through it "
            "to the server is encrypted all the same."
        )
    authorization = None
    if parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
        credentials = f"{user}:{password}".encode()
        authorization = "Basic " + base64.b64encode(credentials).decode("ascii")
    return Proxy(parts.hostname, port or 80, authorization)
