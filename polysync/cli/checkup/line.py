"""The line to the server, layer by layer: names, TCP, proxy, TLS.

A client does all of this in one go. Here each layer is tried alone, so that the one
that fails is known, and how long each takes.
"""

from __future__ import annotations

import datetime
import queue
import socket
import ssl
from contextlib import suppress
from typing import Any

from polysync.cli.checkup.finding import Trouble
from polysync.runtime import threads, tls
from polysync.runtime.clock import Deadline
from polysync.runtime.network import Network
from polysync.runtime.proxy import Proxy
from polysync.runtime.redact import describe

__all__ = ["Line"]

#: The longest head of an answer to CONNECT, in bytes.
_LONGEST_HEAD = 64 * 1024

_PORTAL = "If this network has a login page (a captive portal), log in there first."


class Line:
    """The line to one server.

    Args:
        network: The way to the server, as the client goes it.
        proxy: What stands in between.
        ca_certs: What is trusted; see `polysync.Client`.
        timeout: Seconds for each layer.
    """

    def __init__(
        self,
        network: Network,
        proxy: Proxy | None,
        ca_certs: str | None,
        timeout: float,
    ) -> None:
        self._network = network
        self._proxy = proxy
        self._ca_certs = ca_certs
        self._timeout = timeout
        self._addresses: list[Any] = []
        self._socket: socket.socket | None = None

    @property
    def _next(self) -> tuple[str, int]:
        """The host and the port that the first connection goes to."""
        if self._proxy is not None:
            return self._proxy.host, self._proxy.port
        return self._network.host, self._network.port

    @property
    def _server(self) -> str:
        return f"{self._network.host}:{self._network.port}"

    def close(self) -> None:
        """Close what is open."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def resolve(self) -> str:
        """Look the name up."""
        host, port = self._next
        found: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def look() -> None:
            try:
                found.put(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))
            except Exception as error:
                found.put(error)

        # In a thread, as nothing else can stop the system's resolver.
        threads.spawn("resolver", look)
        try:
            answer = found.get(timeout=self._timeout)
        except queue.Empty:
            raise Trouble(
                f"the name {host} was not resolved within {self._timeout:g} s",
                "The DNS server does not answer: check the network connection, the "
                "VPN, and the resolver of this machine or container.",
            ) from None
        # A label that is too long is a UnicodeError, before anybody is asked.
        if isinstance(answer, OSError | UnicodeError):
            whose = "the proxy's address" if self._proxy else "the environment"
            raise Trouble(
                f"the name {host} cannot be resolved ({describe(answer)})",
                f"Check the spelling of {whose}, the network connection, and the DNS "
                "of this machine or container.",
            ) from answer
        if isinstance(answer, Exception):
            raise answer
        self._addresses = answer
        shown = list(dict.fromkeys(str(each[4][0]) for each in answer))
        whose = " (the proxy; it looks up the server)" if self._proxy else ""
        return f"{host} is {', '.join(shown)}{whose}"

    def connect(self) -> str:
        """Connect to the first address that takes a connection."""
        host, port = self._next
        failures: list[tuple[str, OSError]] = []
        deadline = Deadline(self._timeout)
        for index, (family, kind, protocol, _, address) in enumerate(self._addresses):
            left = deadline.remaining() or 0.001
            sock = socket.socket(family, kind, protocol)
            # Leave time for the other addresses.
            sock.settimeout(left / max(1, len(self._addresses) - index))
            try:
                sock.connect(address)
            except OSError as error:
                sock.close()
                failures.append((str(address[0]), error))
            else:
                self._socket = sock
                others = "".join(f"; not {at}: {describe(e)}" for at, e in failures)
                return f"connected to {address[0]} port {port}{others}"
        raise Trouble(*self._unconnected(host, port, failures))

    def _unconnected(
        self, host: str, port: int, failures: list[tuple[str, OSError]]
    ) -> tuple[str, str]:
        what = "the proxy" if self._proxy else "the server"
        each = "; ".join(
            f"{at}: {'no answer in time' if _late(e) else describe(e)}"
            for at, e in failures
        )
        detail = f"{what} {host} port {port} takes no connection ({each})"
        if all(isinstance(error, ConnectionRefusedError) for _, error in failures):
            return detail, (
                f"Something answers there and refuses port {port}: check the address "
                "and the port, whether the server runs, and the firewall."
            )
        return detail, (
            f"Let outgoing connections to {host} port {port} through the firewall, or "
            "set https_proxy if this network wants a proxy."
        )

    def tunnel(self) -> str:
        """Have the proxy connect to the server."""
        proxy, sock = self._proxy, self._socket
        if proxy is None:
            return "none is set: straight to the server"
        if sock is None:
            raise AssertionError("there is a connection before there is a tunnel")
        lines = [f"CONNECT {self._server} HTTP/1.1", f"Host: {self._server}"]
        if proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        try:
            sock.settimeout(self._timeout)
            sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
            status = self._status(sock)
        except OSError as error:
            what = (
                f"does not answer within {self._timeout:g} s"
                if _late(error)
                else f"broke the connection ({describe(error)})"
            )
            raise Trouble(
                f"the proxy {proxy.address} {what}",
                "Check that it is an HTTP proxy, and that its address is right.",
            ) from error
        if status is None:
            raise Trouble(
                f"what answers at {proxy.address} is no HTTP proxy",
                "Check the proxy's address in https_proxy, or the system's settings.",
            )
        if status != 200:
            raise Trouble(*self._refused(proxy, status))
        given = " with credentials" if proxy.authorization is not None else ""
        return f"{proxy.address} connects to {self._server}{given}"

    def _status(self, sock: socket.socket) -> int | None:
        """Read the answer to CONNECT, and no byte more."""
        head = b""
        deadline = Deadline(self._timeout)
        while not head.endswith(b"\r\n\r\n"):
            left = deadline.remaining()
            if not left:
                raise TimeoutError("out of time")
            sock.settimeout(left)
            byte = sock.recv(1)
            if not byte:
                if not head:
                    raise ConnectionResetError("closed without an answer")
                break
            head += byte
            if len(head) > _LONGEST_HEAD:
                return None
        words = head.split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/"):
            return None
        return int(words[1]) if words[1].isdigit() else None

    def _refused(self, proxy: Proxy, status: int) -> tuple[str, str]:
        detail = (
            f"the proxy {proxy.address} refuses to connect to {self._server} ({status})"
        )
        if status == 407:
            given = "refuses those it got" if proxy.authorization else "got none"
            return f"{detail}: it wants credentials, and {given}", (
                "Give them in https_proxy: http://user:password@host:port."
            )
        if status in (403, 405):
            return detail, (
                f"Have its administrator allow CONNECT to {self._server}, or list the "
                "server in no_proxy if it can be reached without the proxy."
            )
        return detail, (
            f"The proxy itself cannot reach {self._server}: check the environment's "
            "address, and ask the proxy's administrator."
        )

    def secure(self) -> str:
        """Make the TLS handshake."""
        if self._network.scheme != "https":
            return "not used on this loopback address"
        host, sock = self._network.host, self._socket
        if sock is None:
            raise AssertionError("there is a connection before there is TLS")
        context = tls.trust(self._ca_certs)
        sock.settimeout(self._timeout)
        try:
            secured = context.wrap_socket(sock, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            sentence, _ = tls.advise(error, host)
            raise Trouble(sentence, f"{_PORTAL} Never switch the check off.") from error
        except OSError as error:
            if _late(error):
                raise Trouble(
                    f"{self._server} takes the connection and then says nothing: the "
                    f"TLS handshake stalled for {self._timeout:g} s",
                    "A firewall or a proxy that inspects TLS usually does this: allow "
                    f"{self._server} there. Behind a VPN, check its MTU too.",
                ) from error
            if isinstance(error, ssl.SSLError) and not isinstance(
                error, ssl.SSLEOFError | ssl.SSLZeroReturnError
            ):
                raise Trouble(tls.advise(error, host)[0]) from error
            raise Trouble(
                f"the connection broke in the TLS handshake ({describe(error)})",
                f"A firewall may cut it off: allow TLS to {self._server}.",
            ) from error
        self._socket = secured
        return f"{secured.version()}, certificate {_validity(secured)}"


def _late(error: OSError) -> bool:
    return isinstance(error, TimeoutError)


def _validity(sock: ssl.SSLSocket) -> str:
    certificate: dict[str, Any] = sock.getpeercert() or {}
    words = []
    issuer = {
        key: value for part in certificate.get("issuer", ()) for key, value in part
    }
    name = issuer.get("organizationName") or issuer.get("commonName")
    if name:
        words.append(f"by {name}")
    with suppress(KeyError, ValueError):
        end = ssl.cert_time_to_seconds(certificate["notAfter"])
        day = datetime.datetime.fromtimestamp(end, datetime.timezone.utc).date()
        words.append(f"valid until {day}")
    return ", ".join(words) or "accepted"
