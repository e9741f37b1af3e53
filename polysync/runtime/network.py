"""The way to the server: HTTP requests, and sockets for WebSockets.

Both go through urllib3's connections, so that proxies, trusted certificates and
addresses mean the same for both. Every call has a deadline that covers all of it
(names, every address, proxy, TLS, each byte of the answer), and can be cancelled
from another thread, which shuts down the very socket that it is blocked on.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from polysync.errors import (
    ConfigurationError,
    ConnectionLostError,
    ConnectTimeoutError,
    PolysyncError,
    ProtocolError,
)
from polysync.runtime import tls
from polysync.runtime.attempt import Attempt, closed, connect, here
from polysync.runtime.cancel import Cancel
from polysync.runtime.clock import Deadline
from polysync.runtime.proxy import Proxy, find_proxy
from polysync.runtime.redact import describe, redact
from polysync.version import __version__

__all__ = ["Answer", "Cancel", "Network", "close_idle", "user_agent"]

#: The longest answer that is read, in bytes.
_LONGEST = 1 << 20
#: How many servers idle connections are kept for.
_POOLS = 16


def user_agent() -> str:
    """Return what polysync calls itself in requests."""
    return f"polysync/{__version__}"


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    #: By lower-case name.
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"<Answer {self.status}, {len(self.body)} bytes>"  # it may hold tokens


class Network:
    """The way to one server.

    Args:
        base_url: ``https://host[:port][/prefix]``, or ``http://`` for a loopback one.
        proxy: See `polysync.runtime.proxy.find_proxy`.
        ca_certs: See `polysync.runtime.tls.trust`.
    """

    __slots__ = (
        "__weakref__",
        "_ca_certs",
        "_prefix",
        "_proxy",
        "base_url",
        "host",
        "port",
        "scheme",
        "secrets",
    )

    def __init__(
        self, base_url: str, *, proxy: str | None = None, ca_certs: str | None = None
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(
                f"{redact(base_url)!r} is not an address: expected https://host."
            )
        self.base_url = base_url.rstrip("/")
        self.scheme = parts.scheme
        #: Name or address of the server.
        self.host: str = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path.rstrip("/")
        self._proxy = proxy
        self._ca_certs = ca_certs
        #: What was sent to the server, which may repeat it in the text of an error.
        self.secrets: list[str] = []

    def __repr__(self) -> str:
        return f"<Network {redact(self.base_url)}>"

    def websocket_url(self, path: str, query: Mapping[str, str]) -> str:
        """Return the ``ws://`` or ``wss://`` URL of a path. May hold secrets."""
        scheme = "wss" if self.scheme == "https" else "ws"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}{self._prefix}{path}?{urlencode(query)}"

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        deadline: Deadline,
        cancel: Cancel,
    ) -> Answer:
        """Make one HTTP request: no retries, no redirects.

        Connections are kept and used again, by all clients of this process with the
        same server and settings.

        Args:
            method: Such as ``POST``.
            path: From the root of the API, such as ``/api/v1/sessions``.
            headers: What to send besides what HTTP needs.
            body: The body.
            deadline: When the whole answer must be there.
            cancel: Stops the call from another thread.

        Raises:
            ConnectTimeoutError: The deadline passed.
            ConnectionLostError: The server cannot be reached, or broke off; not
                ``retryable`` if its certificate is refused.
            ConfigurationError: The proxy or the certificates are not usable.
            ProtocolError: The answer is not HTTP or is longer than 1 MiB.
            ClientClosedError: Cancelled.
        """
        with self._attempt(deadline, cancel) as attempt:
            try:
                return self._exchange(attempt, method, path, headers, body)
            except (urllib3.exceptions.HTTPError, OSError):
                # A server may close a kept connection at the very moment of its use.
                if not attempt.reused:
                    raise
                attempt.check()
            return self._exchange(attempt, method, path, headers, body)

    def _exchange(
        self,
        attempt: Attempt,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> Answer:
        response = _pool_for(self._route()).urlopen(
            method,
            self._prefix + path,
            body=body,
            headers={"User-Agent": user_agent(), **headers},
            retries=False,
            redirect=False,
            timeout=urllib3.Timeout(total=attempt.remaining()),
            preload_content=False,
        )
        try:
            content = response.read(_LONGEST + 1, decode_content=True)
            if len(content) > _LONGEST:
                raise ProtocolError(
                    f"{self.host} answered {method} {path} with more than {_LONGEST} "
                    "bytes, which cannot be the Messaging API."
                )
            attempt.finish()
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return Answer(
            response.status,
            {name.lower(): value for name, value in response.headers.items()},
            content,
        )

    def dial(self, deadline: Deadline, cancel: Cancel) -> socket.socket:
        """Return a new connected socket, over TLS if the address says ``https``.

        Args:
            deadline: When it must be connected.
            cancel: Stops the call from another thread.

        Raises:
            PolysyncError: As `request`.
        """
        route = self._route()
        connection = route.connection()
        with self._attempt(deadline, cancel) as attempt:
            try:
                connection.connect()
                attempt.finish()
                sock: socket.socket = connection.sock
                connection.sock = None
            finally:
                connection.close()
        return sock

    def _route(self) -> _Route:
        return _Route(
            self.scheme,
            self.host,
            self.port,
            find_proxy(self._proxy, self.scheme, self.host, self.port),
            self._ca_certs if self.scheme == "https" else None,
        )

    @contextmanager
    def _attempt(self, deadline: Deadline, cancel: Cancel) -> Iterator[Attempt]:
        """Bound everything within in time, and turn what it raises into our errors."""
        attempt = Attempt(deadline, cancel)
        outer, here.attempt = here.attempt, attempt
        try:
            with cancel.attached(attempt.abort):
                attempt.check()
                yield attempt
        except PolysyncError:
            raise
        except Exception as error:
            raise self._explain(error, attempt) from _origin(error)
        finally:
            here.attempt = outer
            attempt.end()

    def _explain(self, error: Exception, attempt: Attempt) -> PolysyncError:
        """Say in a sentence what happened, to what, and what to do."""
        if attempt.cancel.cancelled:
            return closed()
        route = self._route()
        via = "" if route.proxy is None else f" through the proxy {route.proxy.address}"
        where = f"{self.host}:{self.port}{via}"
        cause = _origin(error)
        if attempt.deadline.expired or isinstance(cause, TimeoutError):
            return ConnectTimeoutError(f"{where} did not answer in time.")
        if isinstance(cause, ssl.SSLError):
            sentence, again = tls.advise(cause, self.host)
            return _lost(sentence, again)
        if isinstance(cause, socket.gaierror):
            named = self.host if route.proxy is None else route.proxy.host
            return _lost(
                f"The name {named!r} cannot be resolved ({cause.strerror}); check the "
                "network, and the name."
            )
        refused = re.match(r"Tunnel connection failed: (\d+) ?(.*)", str(cause))
        if refused and route.proxy is not None:
            return _refused(route.proxy, int(refused[1]), self.host)
        if isinstance(cause, http.client.HTTPException):
            if isinstance(
                cause, (http.client.RemoteDisconnected, http.client.IncompleteRead)
            ):
                return _lost(f"{where} closed the connection without a whole answer.")
            return ProtocolError(
                f"{where} did not answer in HTTP ({type(cause).__name__}); check the "
                "address, and whether something stands in between."
            )
        if isinstance(cause, OSError):
            if attempt.reached is not None:
                return _lost(f"The connection to {where} broke: {describe(cause)}.")
            return _lost(
                f"{where} cannot be reached: {describe(cause)}; check the network, the "
                "address, and whether a proxy is needed."
            )
        return _lost(f"The request to {where} failed: {describe(cause)}.")


def close_idle() -> None:
    """Close the connections that are kept for later requests."""
    with _pools_lock:
        pools = list(_pools.values())
        _pools.clear()
    for pool in pools:
        pool.close()


class _Route(NamedTuple):
    """Where a connection goes and how it is secured; equal ones share connections."""

    scheme: str
    host: str
    port: int
    proxy: Proxy | None
    ca_certs: str | None

    def connection(self) -> Any:
        if self.scheme == "https":
            return _HTTPSConnection(
                self.host,
                self.port,
                route=self,
                ssl_context=tls.trust(self.ca_certs),
            )
        return _HTTPConnection(self.host, self.port, route=self)

    def pool(self) -> HTTPConnectionPool:
        if self.scheme == "https":
            return _HTTPSPool(
                self.host,
                self.port,
                maxsize=8,
                route=self,
                ssl_context=tls.trust(self.ca_certs),
            )
        return _HTTPPool(self.host, self.port, maxsize=8, route=self)


class _Connecting:
    """What our connections do differently from urllib3's.

    A mixin over two unrelated classes of urllib3, one for TLS and one for clear text:
    mypy cannot see what it stands in front of, so the ignores.
    """

    def __init__(self, *args: Any, route: _Route, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._route = route

    def connect(self) -> None:
        proxy = self._route.proxy
        if proxy is not None:
            # Always a tunnel, so that a request and a WebSocket take the same way.
            headers = {}
            if proxy.authorization is not None:
                headers["Proxy-Authorization"] = proxy.authorization
            self.set_tunnel(  # type: ignore[attr-defined]
                self._route.host, self._route.port, headers
            )
        super().connect()  # type: ignore[misc]

    def request(self, *args: Any, **kwargs: Any) -> None:
        sock = self.sock  # type: ignore[attr-defined]
        attempt = here.attempt
        if sock is not None and attempt is not None:
            attempt.reached = sock
            attempt.reused = True
            attempt.hold(sock)
        super().request(*args, **kwargs)  # type: ignore[misc]

    def _new_conn(self) -> socket.socket:
        route = self._route
        attempt = here.attempt
        if attempt is None:
            raise AssertionError("a connection outside an attempt")
        proxy = route.proxy
        host, port = (
            (route.host, route.port) if proxy is None else (proxy.host, proxy.port)
        )
        sock = connect(host, port, attempt)
        sys.audit("http.client.connect", self, host, port)
        return sock


class _HTTPConnection(_Connecting, HTTPConnection):
    pass


class _HTTPSConnection(_Connecting, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


def _pool_for(route: _Route) -> HTTPConnectionPool:
    dropped = None
    with _pools_lock:
        pool = _pools.get(route)
        if pool is None:
            pool = _pools[route] = route.pool()
            if len(_pools) > _POOLS:
                dropped = _pools.popitem(last=False)[1]
        else:
            _pools.move_to_end(route)
    if dropped is not None:
        dropped.close()
    return pool


def _origin(error: BaseException) -> BaseException:
    """Return what is behind urllib3's wrappings."""
    seen = 0
    while isinstance(error, urllib3.exceptions.HTTPError) and seen < 8:
        seen += 1
        inner = [part for part in error.args if isinstance(part, BaseException)]
        if inner:
            error = inner[0]
        elif isinstance(error.__cause__, BaseException):
            error = error.__cause__
        else:
            break
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return TimeoutError("timed out")
    return error


def _lost(sentence: str, retryable: bool = True) -> ConnectionLostError:
    error = ConnectionLostError(sentence)
    error.retryable = retryable
    return error


def _refused(proxy: Proxy, status: int, host: str) -> PolysyncError:
    if status == 407:
        return ConfigurationError(
            f"The proxy {proxy.address} wants credentials, or refuses those it got "
            "(407); give them as proxy='http://user:password@host:port'."
        )
    if status in (403, 405):
        return ConfigurationError(
            f"The proxy {proxy.address} does not allow connections to {host} "
            f"({status}); ask its administrator, or give another proxy."
        )
    return _lost(
        f"The proxy {proxy.address} could not connect to {host} ({status}); try again "
        "later, or check the proxy."
    )


_pools_lock = threading.Lock()
_pools: OrderedDict[_Route, HTTPConnectionPool] = OrderedDict()


def _after_fork() -> None:
    """Give up, in a child, what belongs to the parent: no goodbyes, no locks."""
    global _pools_lock
    _pools_lock = threading.Lock()
    for pool in _pools.values():
        idle = pool.pool
        if idle is None:
            continue
        connections = [each for each in idle.queue if each is not None]
        idle.queue.clear()
        for connection in connections:
            sock, connection.sock = connection.sock, None
            if sock is not None:
                sock.close()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
