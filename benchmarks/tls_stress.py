"""Full speed both ways on one TLS connection: how many are lost, and how fast.

The reader thread reads and another one sends, both without a pause, against a server in
a process of its own. The same is then done with websocket-client alone, in the way
that its documentation shows (``timeout=``, one thread for each direction), which is
where a TLS connection gets lost now and then.

    python benchmarks/tls_stress.py --messages 1000000

Needs the ``trustme`` package.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import multiprocessing
import platform
import select
import socket
import ssl
import struct
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import trustme
import websocket

from polysync.protocol.loss import Loss
from polysync.runtime.network import Network
from polysync.runtime.websocket import Connection

SIZE = 300
TIMEOUT = 5.0


def serve(pipe: Pipe, certificate: str | None) -> None:
    """Send and take messages at full speed, on one thread, one connection at a time.

    A connection says with ``session_id=<sent>.<taken>`` how many messages the server
    is to send and to take.
    """
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(listener.getsockname()[1])
        while True:
            raw, _ = listener.accept()
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                sock = context.wrap_socket(raw, server_side=True) if context else raw
                with sock:
                    flood(sock)
            except (OSError, ValueError):
                pass


def flood(sock: socket.socket) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(4096)
    asked = head.split(b"session_id=")[1].split(b"&")[0]
    to_send, to_take = (int(number) for number in asked.split(b"."))
    key = head.lower().split(b"sec-websocket-key: ")[1].split(b"\r\n")[0]
    key = head[head.lower().index(key) :][: len(key)]
    accept = base64.b64encode(
        hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    )
    sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    sock.setblocking(False)
    message = struct.pack("!BBH", 0x81, 126, SIZE) + b"x" * SIZE
    echo = to_take > 0
    taken, sent, rest = 0, 0, b""
    while sent < to_send or taken < to_take * (len(message) + 4) or rest:
        if not rest:
            # As many as have come in, one at a time: the client's reader then has to
            # wait while its sender is writing, which is where the races are.
            due = min(1, taken // (len(message) + 4) - sent) if echo else 50
            due = min(due, to_send - sent)
            rest = message * due
            sent += due
        if not (isinstance(sock, ssl.SSLSocket) and sock.pending()):
            select.select([sock], [sock] if rest else [], [], TIMEOUT * 2)
        try:
            data = sock.recv(65536)
            if not data:
                return
            taken += len(data)
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        if rest:
            with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError):
                rest = rest[sock.send(rest) :]
    sock.setblocking(True)
    sock.sendall(b"\x88\x02\x03\xe8")
    while sock.recv(65536):
        pass


class Ours:
    """A polysync connection, reading and sending."""

    def __init__(self, url: str, ca: str | None) -> None:
        self.network = Network(url, ca_certs=ca)
        self.reset()

    def reset(self) -> None:
        self.taken = 0
        self.opened = threading.Event()
        self.ended = threading.Event()
        self.loss: Loss | None = None

    def connection_opened(self, connection: Connection) -> None:
        self.opened.set()

    def connection_received(self, connection: Connection, payload: bytes) -> None:
        self.taken += 1

    def connection_lost(self, connection: Connection, loss: Loss) -> None:
        self.loss = loss
        self.opened.set()
        self.ended.set()

    def run(self, count: int, send: bool) -> tuple[int, int, str]:
        self.reset()
        connection = Connection(
            self.network,
            generation=1,
            listener=self,
            open_timeout=TIMEOUT,
            send_timeout=TIMEOUT,
        )
        connection.start()
        connection.upgrade(f"{count}.{count * send:d}", "token", None)
        self.opened.wait()
        text = "x" * SIZE
        sent = 0
        while send and sent < count and not self.ended.is_set():
            connection.queue(text)
            connection.flush(True)
            sent += 1
        self.ended.wait()
        connection.join()
        assert self.loss is not None
        clean = self.loss.close_code == 1000
        return sent, self.taken, "" if clean else self.loss.reason


class Bare:
    """websocket-client alone."""

    def __init__(self, url: str, ca: str | None) -> None:
        self.url = url.replace("http", "ws", 1)
        self.ca = ca

    def run(self, count: int, send: bool) -> tuple[int, int, str]:
        ws: Any = websocket.create_connection(
            f"{self.url}/ws?session_id={count}.{count * send:d}&access_token=token",
            timeout=TIMEOUT,
            sslopt={"ca_certs": self.ca},
            skip_utf8_validation=True,
        )
        taken, why = 0, ""
        ended = threading.Event()

        def read() -> None:
            nonlocal taken, why
            try:
                while True:
                    opcode, frame = ws.recv_data_frame(True)
                    if opcode == websocket.ABNF.OPCODE_CLOSE:
                        break
                    taken += 1
            except Exception as error:
                why = why or f"{type(error).__name__}: {error}"
            ended.set()

        reader = threading.Thread(target=read)
        reader.start()
        text = "x" * SIZE
        sent = 0
        try:
            while send and sent < count and not ended.is_set():
                ws.send(text)
                sent += 1
        except Exception as error:
            why = why or f"{type(error).__name__}: {error}"
            ws.abort()
        ended.wait()
        reader.join()
        ws.shutdown()
        return sent, taken, why


def measure(name: str, peer: Any, messages: int) -> tuple[int, float]:
    """Carry so many messages each way, over as many connections as it takes."""
    left_out = left_in = messages
    lost: list[str] = []
    begin = time.perf_counter()
    while left_out > 0 or left_in > 0:
        sent, taken, why = peer.run(max(left_out, left_in, 1), True)
        left_out -= sent
        left_in -= taken
        if why:
            lost.append(why)
            if len(lost) > 1000:
                break
    seconds = time.perf_counter() - begin
    print(
        f"{name:24} {messages:>9} messages each way, {len(lost):>4} connections lost, "
        f"{messages / seconds:>8.0f} a second each way",
        flush=True,
    )
    for why in sorted(set(lost))[:3]:
        print(f"{'':24} {lost.count(why)} x {why[:100]}")
    return len(lost), seconds


def inbound(name: str, peer: Any, messages: int) -> float:
    """Only read, and say how fast."""
    begin = time.perf_counter()
    _, taken, why = peer.run(messages, False)
    rate = taken / (time.perf_counter() - begin)
    print(f"{name:24} {taken:>9} messages in, {rate:>8.0f} a second {why}", flush=True)
    return float(rate)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--plain", action="store_true", help="TCP without TLS")
    parser.add_argument("--only", choices=["polysync", "bare"])
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        certificate = ca = None
        if not options.plain:
            authority = trustme.CA()
            ca, certificate = str(Path(folder, "ca.pem")), str(Path(folder, "s.pem"))
            authority.cert_pem.write_to_path(ca)
            authority.issue_cert(
                "127.0.0.1"
            ).private_key_and_cert_chain_pem.write_to_path(certificate)
        pipe, theirs = spawn.Pipe()
        server = spawn.Process(target=serve, args=(theirs, certificate), daemon=True)
        server.start()
        url = f"http{'' if options.plain else 's'}://127.0.0.1:{pipe.recv()}"
        print(
            f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}, "
            f"{'TCP' if options.plain else 'TLS'}, {SIZE} bytes a message"
        )
        failed, ours, bare = 0, 0.0, 0.0
        if options.only != "bare":
            failed, ours = measure("polysync", Ours(url, ca), options.messages)
        if options.only != "polysync":
            _, bare = measure("websocket-client alone", Bare(url, ca), options.messages)
        if ours and bare:
            print(f"polysync is {bare / ours:.2f} times as fast")
            few = min(options.messages, 200_000)
            ours = inbound("polysync", Ours(url, ca), few)
            bare = inbound("websocket-client alone", Bare(url, ca), few)
            print(f"polysync reads {ours / bare:.2f} times as fast")
        server.terminate()
        server.join()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
