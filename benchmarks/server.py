"""The server that all contenders talk to: in a process and on a core of its own.

It does as little as a server can: frames are made from templates, a message is searched
for the two words that matter, and one thread a connection reads and writes plain
sockets. So what is measured is the client. It speaks the Messaging API, and wraps the
same events in the envelopes that the peers' libraries expect.

Three ports: in clear, over TLS, and over TLS by way of a proxy that delays all bytes.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import os
import queue
import re
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from address import Address

#: Seconds that the delaying proxy holds each byte back, in each direction.
DELAY = 0.05

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT = re.compile(rb'\\?"text\\?": ?\\?"([^"\\]*)')
_OWN_ID = re.compile(rb'"local_id\\?": ?\\?"([^"\\]*)')
_numbers = itertools.count(1)

_EVENT = (
    b'{"id":"5f0c2b1e-7a43-4f0e-%04x-%012x","sequence":%d,'
    b'"timestamp":"2026-08-14T09:26:53.589Z","type":"EVENT_TYPE_%s","payload":%s%s}'
)
_ECHO = b'{"text":"%s","message_id":"9c3d2f60-0b0e-4c3b-8d3e-%012x"}'
_ECHO_METADATA = b',"metadata":{"custom":{"local_id":"%s","client_event_id":"%s"}}'
_REPLY = (
    b'{"message_id":"2b6e7c1a-93f5-4d0c-8a57-%012x",'
    b'"text":"We have a table at seven: %s",'
    b'"attachments":[],"response_suggestions":[]}'
)
_CHUNK = (
    b'{"message_id":"7d9f4e21-5c3a-4b8e-a1d6-%012x","text":" table for two at seven",'
    b'"attachments":[],"response_suggestions":[],"chunk_index":%d,"is_complete":%s}'
)
#: Chunks of one message in a blast.
_CHUNKS = 20


class Envelope(NamedTuple):
    """What a peer's protocol puts around each event, and says at the beginning."""

    before: bytes = b""
    after: bytes = b""
    hello: tuple[bytes, ...] = ()


_PLAIN = Envelope()
_AZURE = Envelope(
    b'{"type":"message","from":"server","dataType":"json","data":',
    b"}",
    (b'{"type":"system","event":"connected","userId":"u","connectionId":"c"}',),
)
_SLACK = Envelope(
    b'{"envelope_id":"e","type":"events_api","accepts_response_payload":false,'
    b'"payload":',
    b"}",
    (b'{"type":"hello","num_connections":1}',),
)
_SOCKET_IO = Envelope(
    b'42["message",',
    b"]",
    (
        b'0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,'
        b'"maxPayload":1000000}',
    ),
)


def frame(payload: bytes) -> bytes:
    """Return a text frame as a server sends it."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x81, 126, size) + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload


class Session:
    """One connection, first HTTP and then WebSocket, on a thread of its own."""

    def __init__(self, sock: socket.socket, port: int, secure: bool) -> None:
        self._sock = sock
        self._port = port
        self._secure = secure
        self._number = next(_numbers)
        self._sequence = 0
        self._buffer = b""
        self._envelope = _PLAIN

    def run(self) -> None:
        with contextlib.suppress(OSError, EOFError), self._sock:
            if self._http():
                self._converse()

    def _http(self) -> bool:
        """Answer REST calls until the upgrade; false if none comes."""
        while True:
            while (end := self._buffer.find(b"\r\n\r\n")) < 0:
                self._more()
            head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
            first, *lines = head.split(b"\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(b":") for line in lines)
            }
            key = headers.get(b"sec-websocket-key")
            if key is not None:
                self._upgrade(first, key, headers.get(b"sec-websocket-protocol", b""))
                return True
            self._take(int(headers.get(b"content-length", 0)))
            self._answer(first.split()[1])

    def _answer(self, path: bytes) -> None:
        if path.endswith(b"access-token"):
            body = b'{"access_token":"benchmark.access.token","expires_in":3600}'
        elif path.endswith(b"sessions"):
            body = b'{"session_id":"3c2f5a78-1d4e-4f60-9b7a-%012x"}' % self._number
        else:  # slack asks where its WebSocket is
            scheme = b"wss" if self._secure else b"ws"
            body = b'{"ok":true,"url":"%s://127.0.0.1:%d/slack"}' % (scheme, self._port)
        self._sock.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )

    def _upgrade(self, first: bytes, key: bytes, subprotocol: bytes) -> None:
        path = first.split()[1]
        if path.startswith(b"/slack"):
            self._envelope = _SLACK
        elif path.startswith(b"/socket.io"):
            self._envelope = _SOCKET_IO
        elif path.startswith(b"/azure"):
            self._envelope = _AZURE
        if subprotocol:
            subprotocol = b"Sec-WebSocket-Protocol: %s\r\n" % subprotocol
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        start = b'{"capabilities":{"streaming":true,"heartbeat_interval_seconds":30}}'
        said = self._envelope.hello or (self._event(b"SESSION_START", start),)
        self._sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\n%sSec-WebSocket-Accept: %s\r\n\r\n"
            % (subprotocol, accept)
            + b"".join(map(frame, said))
        )

    def _converse(self) -> None:
        """Answer until the client leaves."""
        while True:
            opcode, payload = self._receive()
            if opcode == 0x8:
                self._sock.sendall(b"\x88\x02\x03\xe8")
                return
            if opcode == 0x9:
                self._sock.sendall(bytes((0x8A, len(payload))) + payload)
            answer = self._reply(payload)
            if answer:
                self._sock.sendall(answer)

    def _reply(self, payload: bytes) -> bytes:
        # What is asked for most comes first.
        if b"TYPE_USER_MESSAGE" in payload:
            return self._turn(payload)
        if payload.startswith(b"40"):  # socket.io's connect
            return frame(b'40{"sid":"s"}')
        if b"AGENT_JOIN" in payload:
            return b"".join(
                self._frame(name, content)
                for name, content in (
                    (b"REQUEST_POLY_AGENT_JOIN", b"{}"),
                    (b"POLY_AGENT_JOINED", b'{"agent_name":"Maya"}'),
                    (b"POLY_AGENT_MESSAGE", _REPLY % (next(_numbers), b"Hello")),
                )
            )
        if b"TYPE_HEARTBEAT" in payload:
            return frame(b'{"type":"EVENT_TYPE_HEARTBEAT","payload":{}}')
        if b"END_SESSION" in payload:
            return self._frame(b"SESSION_END", b'{"reason":"REASON_USER_END"}')
        return b""

    def _turn(self, payload: bytes) -> bytes:
        """Return the echo and the reply, or as many chunks as are asked for."""
        text, own = _TEXT.search(payload), _OWN_ID.search(payload)
        said = text[1] if text else b""
        name = own[1] if own else b""
        number = next(_numbers)
        echo = self._frame(
            b"USER_MESSAGE", _ECHO % (said, number), _ECHO_METADATA % (name, name)
        )
        if not said.startswith(b"blast "):
            return echo + self._frame(b"POLY_AGENT_MESSAGE", _REPLY % (number, said))
        chunks = [echo]
        for index in range(int(said[6:])):
            if index % _CHUNKS == 0:
                number = next(_numbers)
            place = index % _CHUNKS + 1
            last = b"true" if place == _CHUNKS else b"false"
            chunks.append(
                self._frame(b"POLY_AGENT_MESSAGE_CHUNK", _CHUNK % (number, place, last))
            )
        return b"".join(chunks)

    def _event(self, name: bytes, payload: bytes, metadata: bytes = b"") -> bytes:
        self._sequence = sequence = self._sequence + 1
        event = _EVENT % (
            self._number & 0xFFFF,
            sequence,
            sequence,
            name,
            payload,
            metadata,
        )
        return self._envelope.before + event + self._envelope.after

    def _frame(self, name: bytes, payload: bytes, metadata: bytes = b"") -> bytes:
        return frame(self._event(name, payload, metadata))

    def _receive(self) -> tuple[int, bytes]:
        first, second = self._take(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self._take(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._take(8))
        key = self._take(4) if second & 0x80 else b"\0\0\0\0"
        data = self._take(size)
        mask = int.from_bytes((key * (size // 4 + 1))[:size], "little")
        plain = int.from_bytes(data, "little") ^ mask
        return first & 0xF, plain.to_bytes(size, "little")

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _more(self) -> None:
        data = self._sock.recv(65536)
        if not data:
            raise EOFError
        self._buffer += data


def _listen(context: ssl.SSLContext | None) -> int:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port: int = listener.getsockname()[1]

    def serve(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            try:
                sock = context.wrap_socket(sock, server_side=True)
            except OSError:
                sock.close()
                return
        Session(sock, port, context is not None).run()

    _accept(listener, serve)
    return port


def _delayed(target: int) -> int:
    """Listen in front of a port, and pass bytes on as late as `DELAY` says."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve(client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", target))
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink in ((client, server), (server, client)):
            held: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
            threading.Thread(target=_take_in, args=(source, held), daemon=True).start()
            threading.Thread(target=_pass_on, args=(held, sink), daemon=True).start()

    _accept(listener, serve)
    port: int = listener.getsockname()[1]
    return port


def _take_in(source: socket.socket, held: Any) -> None:
    data = b"more"
    while data:
        try:
            data = source.recv(65536)
        except OSError:
            data = b""
        held.put((time.monotonic() + DELAY, data))


def _pass_on(held: Any, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            due, data = held.get()
            time.sleep(max(0.0, due - time.monotonic()))
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(data)


def _accept(listener: socket.socket, serve: Any) -> None:
    def accept() -> None:
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def main(certificate: str) -> None:
    """Serve until the parent goes away."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[-1]})
    threading.stack_size(256 * 1024)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    secure = _listen(context)
    print(_listen(None), secure, _delayed(secure), flush=True)
    sys.stdin.read()


# The other side: for those who measure


class Server:
    """Runs the server in a process of its own, and keeps this one off its core."""

    def __init__(self) -> None:
        import trustme

        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        authority = trustme.CA()
        certificate = folder / "server.pem"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            str(certificate)
        )
        trusted = str(folder / "authority.pem")
        authority.cert_pem.write_to_path(trusted)
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(certificate)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        ports = [int(port) for port in self.process.stdout.readline().split()]
        self.clear = Address(ports[0])
        self.secure = Address(ports[1], trusted)
        self.delayed = Address(ports[2], trusted)
        stay_off()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self._folder.cleanup()


def stay_off() -> None:
    """Keep this process, and those it starts, off the server's core."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1:
            os.sched_setaffinity(0, set(cores[:-1]))


if __name__ == "__main__":
    main(sys.argv[1])
