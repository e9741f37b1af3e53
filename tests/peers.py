"""Raw servers for tests: their behaviour is a function that is given a socket.

A peer listens on a free port of 127.0.0.1 from the moment that it is entered, and runs
its function on a thread of its own for each connection::

    def behave(conn):
        request = conn.read_head()
        conn.upgrade(request)
        conn.write_text('{"type": "EVENT_TYPE_HEARTBEAT"}')
        assert conn.read_frame().text == "hello"
        conn.write_close(1000)

    with Peer(behave) as peer:
        ...  # connect to peer.url
    # on exit everything is closed; what a function raised fails the test

With `tls=` (an `ssl.SSLContext`) the peer speaks TLS, and `Authority` makes such
contexts. `proxy()` gives a peer that is an HTTP proxy with CONNECT tunnels.

A function that only waits does so with `conn.wait_closed()` (until the client is gone)
or `conn.peer.released` (an event that is set when the peer is left), never by sleeping.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import trustme

TEXT, BINARY, CONT, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA

#: Nothing in a test takes longer than this, unless it hangs.
PATIENCE = 10.0


@dataclass
class Head:
    """The first line and the headers of an HTTP request."""

    line: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def method(self) -> str:
        return self.line.split(" ")[0]

    @property
    def path(self) -> str:
        return self.line.split(" ")[1]


@dataclass
class Frame:
    """A WebSocket frame, unmasked."""

    opcode: int
    payload: bytes
    fin: bool = True
    masked: bool = False
    #: Bytes on the wire, header included.
    size: int = 0

    @property
    def text(self) -> str:
        return self.payload.decode()

    @property
    def code(self) -> int:
        """The code of a close frame."""
        return int(struct.unpack("!H", self.payload[:2])[0])


class Conn:
    """One accepted connection, with what a scripted server needs."""

    def __init__(self, sock: socket.socket, peer: Peer, number: int) -> None:
        self.sock = sock
        self.peer = peer
        #: 0 for the peer's first connection, 1 for the next.
        self.number = number
        self._ahead = b""

    # Bytes

    def read(self, size: int) -> bytes:
        """Return exactly ``size`` bytes; `EOFError` if the client leaves before."""
        while len(self._ahead) < size:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError("the client has gone")
            self._ahead += data
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data

    def read_until(self, end: bytes) -> bytes:
        """Return everything up to and including ``end``."""
        while end not in self._ahead:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError("the client has gone")
            self._ahead += data
        at = self._ahead.index(end) + len(end)
        data, self._ahead = self._ahead[:at], self._ahead[at:]
        return data

    def write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def wait_closed(self) -> None:
        """Read and drop until the client has gone."""
        with contextlib.suppress(OSError):
            while self.sock.recv(65536):
                pass

    def reset(self) -> None:
        """Close with a TCP reset instead of a regular end."""
        self.sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.close()

    def close(self) -> None:
        self.sock.close()

    # HTTP

    def read_head(self) -> Head:
        """Read a request, with its body if it names a length."""
        lines = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            if name:
                headers[name.lower()] = value.strip()
        head = Head(lines[0], headers)
        head.body = self.read(int(headers.get("content-length", "0")))
        self.peer.requests.append(head)
        return head

    def answer(
        self,
        status: int,
        body: Any = b"",
        headers: dict[str, str] | None = None,
        *,
        keep: bool = True,
    ) -> None:
        """Answer a request; a ``body`` that is not bytes is sent as JSON."""
        lines = {"Content-Type": "text/plain"}
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            lines["Content-Type"] = "application/json"
        lines["Content-Length"] = str(len(body))
        if not keep:
            lines["Connection"] = "close"
        lines.update(headers or {})
        head = f"HTTP/1.1 {status} Whatever\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in lines.items()
        )
        self.write(head.encode("latin-1") + b"\r\n" + body)

    # WebSocket

    def upgrade(
        self, head: Head | None = None, extra: str = "", then: bytes = b""
    ) -> Head:
        """Answer an upgrade request with 101 (reading it first if not given).

        Args:
            head: The request.
            extra: More header lines, each with its line end.
            then: Bytes that go out in the same write, right behind the answer.
        """
        head = head or self.read_head()
        key = head.headers["sec-websocket-key"]
        digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode())
        accept = base64.b64encode(digest.digest()).decode()
        self.write(
            (
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{extra}\r\n"
            ).encode()
            + then
        )
        return head

    def read_frame(self) -> Frame:
        """Read one frame, of whatever kind."""
        first, second = self.read(2)
        size, length = 2, second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self.read(2))
            size += 2
        elif length == 127:
            (length,) = struct.unpack("!Q", self.read(8))
            size += 8
        masked = bool(second & 0x80)
        key = self.read(4) if masked else b""
        size += len(key) + length
        data = self.read(length)
        if masked:
            data = unmask(key, data)
        return Frame(first & 0x0F, data, bool(first & 0x80), masked, size)

    def read_message(self) -> Frame:
        """Read a whole message, joining fragments; control frames are passed over."""
        whole: Frame | None = None
        while True:
            frame = self.read_frame()
            if frame.opcode >= CLOSE:
                if frame.opcode == CLOSE:
                    return frame
                continue
            if whole is None:
                whole = frame
            else:
                whole.payload += frame.payload
            if frame.fin:
                return whole

    def write_frame(
        self, opcode: int, payload: bytes = b"", *, fin: bool = True
    ) -> None:
        self.write(frame(opcode, payload, fin=fin))

    def write_text(self, text: str) -> None:
        self.write(frame(TEXT, text.encode()))

    def write_close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a close frame; with no code at all for ``None``."""
        payload = b"" if code is None else struct.pack("!H", code) + reason.encode()
        self.write(frame(CLOSE, payload))


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Return an unmasked frame, as servers send it."""
    first = (0x80 if fin else 0) | opcode
    if len(payload) < 126:
        head = bytes((first, len(payload)))
    elif len(payload) < 65536:
        head = struct.pack("!BBH", first, 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, 127, len(payload))
    return head + payload


def unmask(key: bytes, data: bytes) -> bytes:
    mask = (key * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "little") ^ int.from_bytes(mask, "little")).to_bytes(
        len(data), "little"
    )


Behaviour = Callable[[Conn], object]


class Peer:
    """A server whose behaviour is a function, called for each connection.

    Args:
        *behaviours: One for each connection in turn; the last serves all the others.
        tls: With it, the peer speaks TLS. A client that breaks off the handshake is
            counted in `refusals` and not an error.
        backlog: 0 leaves connections in the queue, unanswered, once it is full.
    """

    def __init__(
        self, *behaviours: Behaviour, tls: ssl.SSLContext | None = None
    ) -> None:
        self._behaviours = behaviours
        self._tls = tls
        self.requests: list[Head] = []
        #: How many connections were accepted, and how many TLS handshakes failed.
        self.accepted = 0
        self.refusals = 0
        #: What behaviours raised, client departures aside.
        self.errors: list[BaseException] = []
        #: Set when the peer is left.
        self.released = threading.Event()
        self._arrived = threading.Condition()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Peer:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._start(self._accept)
        return self

    @property
    def url(self) -> str:
        """The base URL, ``http`` or ``https``."""
        return f"http{'s' if self._tls else ''}://{self.host}:{self.port}"

    @property
    def host(self) -> str:
        return "localhost" if self._tls else "127.0.0.1"

    def wait_accepted(self, count: int) -> None:
        """Wait until so many connections have been accepted in all."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: self.accepted >= count, PATIENCE)

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        self.released.set()
        self._wake.send(b"x")
        with self._arrived:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"{thread.name} hangs"
        self._listener.close()
        self._wake.close()
        self._woken.close()
        if kind is None and self.errors:
            raise self.errors[0]

    def _start(self, target: Callable[..., object], *args: object) -> None:
        thread = threading.Thread(
            target=target, args=args, name=f"peer-{len(self._threads)}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.released.is_set():
            select.select([self._listener, self._woken], [], [])
            if self.released.is_set():
                return
            sock, _ = self._listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._arrived:
                number = self.accepted
                self.accepted += 1
                self._open.add(sock)
                self._arrived.notify_all()
            self._start(self._serve, sock, number)

    def _serve(self, sock: socket.socket, number: int) -> None:
        raw = sock
        try:
            if self._tls is not None:
                with self._arrived:
                    self._open.discard(raw)
                try:
                    sock = self._tls.wrap_socket(
                        raw, server_side=True, do_handshake_on_connect=False
                    )
                    with self._arrived:
                        self._open.add(sock)
                    if self.released.is_set():
                        return
                    sock.do_handshake()
                except OSError:
                    with self._arrived:
                        self.refusals += 1
                    return
            behave = self._behaviours[min(number, len(self._behaviours) - 1)]
            behave(Conn(sock, self, number))
        except (EOFError, ConnectionError, ssl.SSLError):
            pass  # the client left, which is its right
        except BaseException as error:
            if not self.released.is_set():
                self.errors.append(error)
        finally:
            with self._arrived:
                self._open.discard(sock)
                self._open.discard(raw)
            sock.close()


def silent(conn: Conn) -> None:
    """A behaviour: accept, read, and never say a word."""
    conn.wait_closed()


def rest(conn: Conn, token: str = "access.token", session: str = "session-1") -> None:
    """A behaviour: answer the two REST calls, again and again."""
    while True:
        head = conn.read_head()
        if head.path.endswith("/access-token"):
            conn.answer(200, {"access_token": token, "expires_in": 86400})
        else:
            conn.answer(200, {"session_id": session})


@dataclass
class Proxy:
    """What a CONNECT proxy has seen."""

    peer: Peer
    #: The targets of the tunnels, as ``host:port``.
    tunnels: list[str] = field(default_factory=list)
    refused: int = 0

    @property
    def url(self) -> str:
        return self.peer.url


@contextlib.contextmanager
def proxy(
    password: str | None = None, status: int = 200, target: int | None = None
) -> Iterator[Proxy]:
    """Run an HTTP proxy that only tunnels.

    Args:
        password: ``user:password`` that it wants, or ``None``.
        status: What it answers to CONNECT; a tunnel is made for 200 alone.
        target: Port on 127.0.0.1 that all tunnels lead to, whatever was asked for.
    """
    wanted = password and "Basic " + base64.b64encode(password.encode()).decode()

    def behave(conn: Conn) -> None:
        head = conn.read_head()
        assert head.method == "CONNECT", head.line
        if wanted and head.headers.get("proxy-authorization") != wanted:
            seen.refused += 1
            conn.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return
        if status != 200:
            seen.refused += 1
            conn.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
            return
        seen.tunnels.append(head.path)
        host, _, port = head.path.rpartition(":")
        address = ("127.0.0.1", target) if target else (host, int(port))
        with socket.create_connection(address, PATIENCE) as onward:
            conn.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            _pipe(conn.sock, onward)

    with Peer(behave) as peer:
        seen = Proxy(peer)
        yield seen


def _pipe(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until one side has gone."""
    while True:
        ready, _, _ = select.select([one, other], [], [])
        for source in ready:
            data = source.recv(65536)
            if not data:
                return
            (other if source is one else one).sendall(data)


class Authority:
    """A private certificate authority and the server contexts that it vouches for.

    Args:
        folder: Where its certificate is put, as `path` (for ``ca_certs=``).
    """

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.path = str(folder / f"ca-{os.urandom(4).hex()}.pem")
        self._ca.cert_pem.write_to_path(self.path)

    def server(
        self, *names: str, expired: bool = False, version: Any = None
    ) -> ssl.SSLContext:
        """Return a server's context with a certificate for ``names``.

        Args:
            *names: By default ``localhost`` and ``127.0.0.1``.
            expired: Whether the certificate is past its time.
            version: The one TLS version to speak.
        """
        kwargs: dict[str, Any] = {}
        if expired:
            now = datetime.now(timezone.utc)
            kwargs["not_before"] = now - timedelta(days=9)
            kwargs["not_after"] = now - timedelta(days=2)
        issued = self._ca.issue_cert(*(names or ("localhost", "127.0.0.1")), **kwargs)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(context)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context

    def client(self) -> ssl.SSLContext:
        """Return a client's context that trusts this authority alone."""
        return ssl.create_default_context(cafile=self.path)
