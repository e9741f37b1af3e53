"""One WebSocket connection against a raw server: opening, both ways, every end."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import queue
import socket
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, SupportsIndex

import pytest
import websocket

from polysync.errors import ClientClosedError
from polysync.protocol.loss import Loss
from polysync.runtime import frames, timers
from polysync.runtime.network import Network
from polysync.runtime.socket import WRITE, wait_ready
from polysync.runtime.websocket import Connection
from tests.peers import (
    BINARY,
    CLOSE,
    CONT,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    Conn,
    Peer,
    frame,
    silent,
)

numbers = itertools.count(1)


class Listener:
    """Keeps what a connection tells, and on which thread."""

    def __init__(self) -> None:
        self.told: queue.Queue[Any] = queue.Queue()
        self.threads: set[str] = set()
        self.losses = 0
        self.act: Callable[[Connection, Any], object] = lambda *_: None

    def connection_opened(self, connection: Connection) -> None:
        self.tell(connection, "opened")

    def connection_received(self, connection: Connection, payload: bytes) -> None:
        self.tell(connection, payload)

    def connection_lost(self, connection: Connection, loss: Loss) -> None:
        self.losses += 1
        self.tell(connection, loss)

    def tell(self, connection: Connection, what: Any) -> None:
        self.threads.add(threading.current_thread().name)
        self.told.put(what)
        self.act(connection, what)

    def next(self) -> Any:
        return self.told.get(timeout=PATIENCE)

    def lost(self) -> Loss:
        """Return the loss, which must be next."""
        loss = self.next()
        assert isinstance(loss, Loss), loss
        return loss


@pytest.fixture
def listener() -> Listener:
    return Listener()


Connect = Callable[..., Connection]


@pytest.fixture
def connect(listener: Listener) -> Iterator[Connect]:
    """Make a connection; at the end each must have ended and been reported once."""
    made: list[Connection] = []

    def make(
        peer: Peer | str,
        *,
        upgrade: bool = True,
        cursor: int | None = None,
        open_timeout: float = PATIENCE,
        send_timeout: float = PATIENCE,
        to: Listener | None = None,
    ) -> Connection:
        connection = Connection(
            Network(peer if isinstance(peer, str) else peer.url),
            generation=next(numbers),
            listener=to or listener,
            open_timeout=open_timeout,
            send_timeout=send_timeout,
        )
        made.append(connection)
        connection.start()
        if upgrade:
            connection.upgrade("session", "token", cursor)
        return connection

    yield make
    for connection in made:
        connection.abort()
    for connection in made:
        assert connection.join(PATIENCE)
        assert not connection.alive
    assert timers.settle(PATIENCE)


def opened(conn: Conn) -> None:
    conn.upgrade()
    conn.wait_closed()


def echo(conn: Conn) -> None:
    """Echo messages; answer a close."""
    conn.upgrade()
    while True:
        message = conn.read_message()
        if message.opcode == CLOSE:
            conn.write_close(message.code)
            return
        conn.write_frame(message.opcode, message.payload)


# Opening


def test_request_of_the_upgrade(connect: Connect, listener: Listener) -> None:
    """The upgrade asks for the session with token and cursor, quoted."""
    with Peer(opened) as peer:
        connection = connect(peer, upgrade=False)
        connection.upgrade("s/1", "to ken&x=y\r\nX-Evil: 1", 12)
        assert listener.next() == "opened"
        assert connection.opened
        assert connection.alive
    (head,) = peer.requests
    assert head.path == (
        "/ws?session_id=s%2F1&access_token=to+ken%26x%3Dy%0D%0AX-Evil%3A+1&cursor=12"
    )
    assert head.headers["user-agent"].startswith("polysync/")
    assert head.headers["host"] == f"127.0.0.1:{peer.port}"
    assert "x-evil" not in head.headers
    assert "origin" not in head.headers
    assert "cookie" not in head.headers
    assert "sec-websocket-extensions" not in head.headers


def test_no_cursor_is_left_out(connect: Connect, listener: Listener) -> None:
    """Without a cursor the server is asked for the whole history."""
    with Peer(opened) as peer:
        connect(peer, cursor=None)
        assert listener.next() == "opened"
    assert "cursor" not in peer.requests[0].path


def test_dials_before_it_knows_the_session(
    connect: Connect, listener: Listener
) -> None:
    """The connection is made at once; the upgrade follows when it can."""
    with Peer(opened) as peer:
        connection = connect(peer, upgrade=False)
        peer.wait_accepted(1)
        assert listener.told.empty()
        connection.upgrade("s", "t", 1)
        assert listener.next() == "opened"


def test_all_is_told_on_the_reader_thread(connect: Connect, listener: Listener) -> None:
    """One thread, with a name that says what it is."""

    def behave(conn: Conn) -> None:
        conn.upgrade()
        conn.write_text("x")
        conn.write_close(1000)

    with Peer(behave) as peer:
        connect(peer)
        assert [listener.next(), listener.next()] == ["opened", b"x"]
        assert listener.lost().close_code == 1000
    (name,) = listener.threads
    assert name.startswith("polysync-reader-")


def test_messages_right_behind_the_upgrade(
    connect: Connect, listener: Listener
) -> None:
    """History that comes in the same packet as the 101 is not lost."""

    def behave(conn: Conn) -> None:
        conn.upgrade(then=frame(TEXT, b"one") + frame(TEXT, b"two" * 100))
        conn.wait_closed()

    with Peer(behave) as peer:
        connect(peer)
        assert [listener.next() for _ in range(3)] == ["opened", b"one", b"two" * 100]


def test_cookies_stay_where_they_are(connect: Connect, listener: Listener) -> None:
    """A gateway's cookie is not sent with other conversations of the process."""

    def behave(conn: Conn) -> None:
        conn.upgrade(extra="Set-Cookie: sticky=1; Domain=127.0.0.1; Path=/\r\n")
        conn.wait_closed()

    with Peer(behave) as peer:
        for _ in range(2):
            connection = connect(peer)
            assert listener.next() == "opened"
            connection.abort()
            listener.lost()
    assert "cookie" not in peer.requests[1].headers
    assert websocket._handshake.CookieJar.get("127.0.0.1") == ""


def answering(status: int, body: Any = b"", **headers: str) -> Callable[[Conn], None]:
    def behave(conn: Conn) -> None:
        conn.read_head()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        conn.answer(status, body, named)

    return behave


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_refused_upgrade(connect: Connect, listener: Listener, status: int) -> None:
    """A refusal carries its status, the server's words and Retry-After."""
    behave = answering(status, {"error": "no, token is wrong"}, Retry_After="2.5")
    with Peer(behave) as peer:
        connect(peer)
        loss = listener.lost()
    assert loss.status == status
    assert loss.retry_after == 2.5
    assert loss.close_code is None
    assert not loss.opened
    # The token itself, "token" here, is taken out of the server's words.
    assert loss.reason.endswith(f"({status}): no, *** is wrong")


def test_refusal_that_breaks_off_keeps_its_status(
    connect: Connect, listener: Listener
) -> None:
    """A refusal whose body never comes is still that refusal."""

    def behave(conn: Conn) -> None:
        conn.read_head()
        conn.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 500\r\n\r\n{")

    with Peer(behave) as peer:
        connect(peer)
        assert listener.lost().status == 404


@pytest.mark.parametrize(
    ("written", "status", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", 200, "captive portal"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n", 302, "redirects"),
        (b"HTTP/1.1 302 Found\r\n\r\n", 302, "redirects"),
        (b"220 mail ESMTP\r\n\r\n", None, "not HTTP"),
        (b"\x00\xff\x00\n\n", None, "not HTTP"),
        (b"", None, "closed the connection instead"),
        (b"HTTP/1.1 101 OK\r\n\r\n", None, "not a valid WebSocket handshake"),
        (
            b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: wrong\r\n\r\n",
            None,
            "not a valid WebSocket handshake",
        ),
        (b"HTTP/1.1 101 OK\r\nX: " + b"x" * 100_000 + b"\r\n", None, "longer than"),
        (b"HTTP/1.1 500 \r\n" + b"X-A: \xe4\xff\r\n" * 9000, 500, "longer than"),
        (b"HTTP/1.1 500 Bad\r\nX-A: \xe4\xff\r\n\r\n", 500, "refused"),
        (b"HTTP/1.1 503 Bad\r\nContent-Length: many\r\n\r\n", 503, "refused"),
        (b"HTTP/1.1 503 Bad\r\nno colon here\r\n\r\n", 503, "refused"),
    ],
)
def test_strange_answers_to_the_upgrade(
    connect: Connect,
    listener: Listener,
    written: bytes,
    status: int | None,
    words: str,
) -> None:
    """Whatever answers, the connection ends with a reason that says what it was."""

    def behave(conn: Conn) -> None:
        conn.read_head()
        conn.write(written)

    with Peer(behave) as peer:
        connect(peer)
        loss = listener.lost()
    assert words in loss.reason
    assert loss.status == status
    assert not loss.opened
    assert len(peer.requests) == 1


def trickle(conn: Conn) -> None:
    conn.read_head()
    conn.write(b"HTTP/1.1 101 OK\r\n")
    while not conn.peer.released.wait(0.005):
        conn.write(b"X")


@pytest.mark.parametrize("behave", [silent, trickle])
def test_upgrade_is_bounded_in_time(
    connect: Connect, listener: Listener, behave: Any
) -> None:
    """Silence and a header that never ends are given up after open_timeout."""
    with Peer(behave) as peer:
        begin = time.monotonic()
        connect(peer, open_timeout=0.1)
        assert "in time" in listener.lost().reason
        assert time.monotonic() - begin < 5.0


def test_reset_during_the_upgrade(connect: Connect, listener: Listener) -> None:
    """A reset instead of an answer is a loss without status."""

    def behave(conn: Conn) -> None:
        conn.read_head()
        conn.reset()

    with Peer(behave) as peer:
        connect(peer)
        loss = listener.lost()
    assert loss.status is None
    assert "upgrad" in loss.reason


def test_unreachable_server(connect: Connect, listener: Listener) -> None:
    """A server that is not there is a loss, and says where it is not."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    connect(f"http://127.0.0.1:{port}")
    loss = listener.lost()
    assert f"127.0.0.1:{port} cannot be reached" in loss.reason
    assert loss == Loss(reason=loss.reason)


# Messages in


def test_payloads_come_as_bytes(connect: Connect, listener: Listener) -> None:
    """Text, binary, empty, not UTF-8: whole and undecoded, in order."""
    payloads = [
        (TEXT, b""),
        (TEXT, "größer".encode()),
        (BINARY, bytes(range(256))),
        (TEXT, b"\xff\xfe not UTF-8"),
        (TEXT, b"a" * 125),
        (TEXT, b"b" * 126),
        (TEXT, b"c" * 65535),
        (TEXT, b"d" * 65536),
        (TEXT, b"e" * 5_000_000),
        (TEXT, b"end"),
    ]

    def behave(conn: Conn) -> None:
        conn.upgrade()
        for opcode, payload in payloads:
            conn.write_frame(opcode, payload)
        conn.wait_closed()

    with Peer(behave) as peer:
        connection = connect(peer)
        assert listener.next() == "opened"
        assert [listener.next() for _ in payloads] == [each for _, each in payloads]
        assert connection.frames_in == len(payloads)
        assert connection.bytes_in == sum(len(each) for _, each in payloads)


def test_frames_that_come_in_pieces(connect: Connect, listener: Listener) -> None:
    """However the network cuts the bytes, the messages are the same."""
    messages = [bytes([65 + n % 26]) * (n * 37 % 400) for n in range(120)]
    wire = b"".join(frame(TEXT, message) for message in messages)

    def behave(conn: Conn) -> None:
        conn.upgrade()
        at, step = 0, 1
        while at < len(wire):
            conn.write(wire[at : at + step])
            at, step = at + step, step * 7 % 311 + 1
        conn.wait_closed()

    with Peer(behave) as peer:
        connect(peer)
        assert listener.next() == "opened"
        assert [listener.next() for _ in messages] == messages


def test_fragments_are_joined(connect: Connect, listener: Listener) -> None:
    """A message in fragments, with control frames between them, is one message."""

    def behave(conn: Conn) -> None:
        conn.upgrade()
        conn.write_frame(TEXT, b"", fin=False)
        conn.write_frame(CONT, b"one ", fin=False)
        conn.write_frame(PING, b"between")
        assert conn.read_frame().opcode == PONG
        conn.write_frame(PONG, b"unasked")
        conn.write_frame(CONT, b"two", fin=True)
        conn.write_text("next")
        # Many small ones: joining them must not take quadratic time.
        conn.write_frame(BINARY, b"x", fin=False)
        conn.write(b"".join(frame(CONT, b"y" * 100, fin=False) for _ in range(20_000)))
        conn.write_frame(CONT, b"z", fin=True)
        conn.wait_closed()

    with Peer(behave) as peer:
        connect(peer)
        assert listener.next() == "opened"
        assert listener.next() == b"one two"
        assert listener.next() == b"next"
        assert listener.next() == b"x" + b"y" * 2_000_000 + b"z"


def test_ping_is_answered(connect: Connect, listener: Listener) -> None:
    """A ping gets a pong with the same payload, also while nobody sends."""

    def behave(conn: Conn) -> None:
        conn.upgrade()
        for payload in (b"", b"p" * 125):
            conn.write_frame(PING, payload)
            pong = conn.read_frame()
            assert (pong.opcode, pong.payload, pong.masked) == (PONG, payload, True)
        conn.write_close(1000)

    with Peer(behave) as peer:
        connect(peer)
        assert listener.next() == "opened"
        assert listener.lost().close_code == 1000


def test_pong_reaches_a_peer_that_was_not_reading(
    connect: Connect, listener: Listener
) -> None:
    """A pong that finds the socket full goes out later, though nobody sends."""
    stuffed = threading.Event()

    def behave(conn: Conn) -> None:
        conn.upgrade()
        assert stuffed.wait(PATIENCE)
        conn.write_frame(PING, b"p")
        conn.write_text("after the ping")
        while True:
            message = conn.read_frame()
            if message.opcode == PONG:
                conn.write_text("got the pong")
                conn.wait_closed()
                return

    with Peer(behave) as peer:
        connection = connect(peer)
        assert listener.next() == "opened"
        stuff(connection)
        stuffed.set()
        assert listener.next() == b"after the ping"
        assert listener.next() == b"got the pong"


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (frame(CONT, b"x"), 1002),
        (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
        (frame(PING, b"x", fin=False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (b"\xc1\x01x", 1002),  # a reserved bit: compression was not agreed on
        (b"\x83\x01x", 1002),  # an opcode that does not exist
        (b"\x88\x01x", 1002),  # half a close code
        (b"\x81\x7f" + struct.pack("!Q", 1 << 40), 1009),
        (b"\x81\x7f" + struct.pack("!Q", (1 << 64) - 1), 1009),
    ],
)
def test_peer_that_breaks_the_protocol(
    connect: Connect, listener: Listener, wire: bytes, code: int
) -> None:
    """The connection ends, both sides are told why, and a reader never hangs."""
    answers: list[int] = []

    def behave(conn: Conn) -> None:
        conn.upgrade()
        conn.write(wire)
        answers.append(conn.read_frame().code)
        conn.wait_closed()

    with Peer(behave) as peer:
        connect(peer)
        assert listener.next() == "opened"
        loss = listener.lost()
    assert loss.close_code == code
    assert loss.opened
    assert answers == [code]


def test_fragments_without_end(
    connect: Connect, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fragments are counted together: they do not get around the limit."""
    monkeypatch.setattr(frames, "MESSAGE_MAX", 10_000)

    def behave(conn: Conn) -> None:
        conn.upgrade()
        conn.write_frame(TEXT, b"x" * 5000, fin=False)
        for _ in range(3):
            conn.write_frame(CONT, b"x" * 5000, fin=False)
        conn.wait_closed()

    with Peer(behave) as peer:
        connect(peer)
        assert listener.next() == "opened"
        assert listener.lost().close_code == 1009


# Messages out


def stuff(connection: Connection) -> int:
    """Send until the system takes no more; return the number of messages.

    Some of what it refuses now it may take in a moment, as its buffers grow and the
    peer's side makes room; so much more is offered than that can be.
    """
    count = 0
    sock = connection._socket
    assert sock is not None
    while sock.unsent < 2_000_000 or wait_ready(sock.fileno(), WRITE, 0.05):
        connection.queue("s" * 60_000)
        with connection._write_lock:
            connection._send_outgoing(sock)
        count += 1
    return count


def test_order_is_that_of_the_queue(connect: Connect, listener: Listener) -> None:
    """Messages arrive masked, whole, and in the order in which they were queued."""
    texts = ["", "ä" * 50, "x" * 125, "y" * 126, "z" * 20_000, "end"]

    with Peer(echo) as peer:
        connection = connect(peer)
        assert listener.next() == "opened"
        for text in texts:
            connection.queue(text)
        connection.flush()
        assert [listener.next().decode() for _ in texts] == texts
        assert connection.frames_out == len(texts)
        assert connection.bytes_out > sum(len(text) for text in texts)


class Moves(list[str]):
    """A list that counts the items that it has to move."""

    count = 0

    def pop(self, index: SupportsIndex = -1) -> str:
        self.count += len(self) - int(index) % len(self)
        return super().pop(index)

    def __delitem__(self, key: SupportsIndex | slice) -> None:
        self.count += len(self)
        super().__delitem__(key)


def test_a_long_queue_costs_no_more_a_message(
    connect: Connect, listener: Listener
) -> None:
    """Sending a thousand messages moves each of them a few times, not all each time."""
    with Peer(echo) as peer:
        connection = connect(peer)
        assert listener.next() == "opened"
        connection._outgoing, connection._next = Moves(), Moves()
        for number in range(1_000):
            connection.queue(str(number))
        connection.flush()

        assert connection._outgoing.count + connection._next.count <= 4_000
        assert [int(listener.next()) for _ in range(1_000)] == list(range(1_000))


def test_queued_before_it_opened(connect: Connect, listener: Listener) -> None:
    """What was queued too early goes out when the connection opens."""
    with Peer(echo) as peer:
        connection = connect(peer, upgrade=False)
        connection.queue("early")
        connection.flush(wait=True)
        connection.upgrade("s", "t", None)
        assert listener.next() == "opened"
        assert listener.next() == b"early"


@pytest.mark.parametrize("size", [32_759, 32_760, 32_761, 100_000, 131_072, 1_000_000])
def test_long_messages_are_fragmented(
    connect: Connect, listener: Listener, size: int
) -> None:
    """No frame is longer than 32 KiB, and the fragments make the same message."""
    seen: list[Any] = []
    done = threading.Event()

    def behave(conn: Conn) -> None:
        conn.upgrade()
        while not seen or not seen[-1].fin:
            seen.append(conn.read_frame())
        done.set()
        conn.wait_closed()

    text = "é" * (size // 2) + "x" * (size % 2)
    with Peer(behave) as peer:
        connection = connect(peer)
        assert listener.next() == "opened"
        connection.queue(text)
        connection.flush(wait=True)
        assert done.wait(PATIENCE)
    assert all(each.size <= 32 * 1024 for each in seen)
    assert all(each.masked for each in seen)
    assert [each.opcode for each in seen] == [TEXT] + [CONT] * (len(seen) - 1)
    assert b"".join(each.payload for each in seen).decode() == text
    assert connection.frames_out == len(seen)


def test_fragments_of_two_messages_are_not_mixed(
    connect: Connect, listener: Listener
) -> None:
    """Many threads with long messages: each arrives in one piece."""
    count, size = 12, 90_000

    with Peer(echo) as peer:
        connection = connect(peer)
        assert listener.next() == "opened"

        def send(letter: str) -> None:
            connection.queue(letter * size)
            connection.flush(wait=True)

        senders = [
            threading.Thread(target=send, args=(chr(65 + number),))
            for number in range(count)
        ]
        for sender in senders:
            sender.start()
        got = [listener.next() for _ in range(count)]
        for sender in senders:
            sender.join(PATIENCE)
    assert sorted(each[:1] for each in got) == [bytes([65 + n]) for n in range(count)]
    assert all(each == each[:1] * size for each in got)


def test_masks_differ() -> None:
    """Every frame has a mask of its own, and it is the one that is stated."""
    one, two = (frames.text_frames("same text")[0] for _ in range(2))
    assert one != two
    key, data = one[2:6], one[6:]
    assert bytes(byte ^ key[at % 4] for at, byte in enumerate(data)) == b"same text"


def test_peer_that_takes_nothing(connect: Connect, listener: Listener) -> None:
    """Sending that times out ends the connection, and the loss says why."""
    with Peer(opened_mute) as peer:
        connection = connect(peer, send_timeout=0.1)
        assert listener.next() == "opened"
        stuff(connection)
        connection.queue("one too many")
        connection.flush(wait=True)
        loss = listener.lost()
    assert "did not take" in loss.reason
    assert loss.close_code == 1006
    connection.queue("after the end")
    connection.flush(wait=True)


def opened_mute(conn: Conn) -> None:
    """Upgrade, then read nothing at all."""
    conn.upgrade()
    conn.peer.released.wait(PATIENCE)


def test_peer_that_takes_nothing_and_nobody_waits(
    connect: Connect, listener: Listener
) -> None:
    """The same is noticed when no caller waits for the sending."""
    with Peer(opened_mute) as peer:
        connection = connect(peer, send_timeout=0.1)
        assert listener.next() == "opened"
        stuff(connection)
        connection.flush(wait=False)
        assert "did not take" in listener.lost().reason


def test_rest_is_sent_when_nobody_waits(connect: Connect, listener: Listener) -> None:
    """What the system did not take at once goes out by itself later."""
    go = threading.Event()

    def behave(conn: Conn) -> None:
        conn.upgrade()
        assert go.wait(PATIENCE)
        total = 0
        while total < 60_000 * count[0]:
            total += len(conn.read_message().payload)
        conn.write_text("all of it")
        conn.wait_closed()

    count = [0]
    with Peer(behave) as peer:
        connection = connect(peer)
        assert listener.next() == "opened"
        count[0] = stuff(connection)
        connection.flush(wait=False)
        go.set()
        assert listener.next() == b"all of it"


def test_interrupted_wait_does_not_tear_a_message(
    connect: Connect, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A KeyboardInterrupt gets through, and what was half sent is sent to its end."""
    go = threading.Event()
    count = [0]

    def behave(conn: Conn) -> None:
        conn.upgrade()
        assert go.wait(PATIENCE)
        for _ in range(count[0]):
            assert len(conn.read_message().payload) == 60_000
        assert conn.read_message().text == "next"
        conn.write_text("whole")
        conn.wait_closed()

    with Peer(behave) as peer:
        connection = connect(peer)
        assert listener.next() == "opened"
        count[0] = stuff(connection)

        drain = connection._socket.drain  # type: ignore[union-attr]

        def interrupt(deadline: Any) -> None:
            if threading.current_thread() is threading.main_thread():
                raise KeyboardInterrupt
            drain(deadline)

        with monkeypatch.context() as patch:
            patch.setattr(connection._socket, "drain", interrupt)
            with pytest.raises(KeyboardInterrupt):
                connection.flush(wait=True)
        go.set()
        connection.queue("next")
        connection.flush(wait=True)
        assert listener.next() == b"whole"


def test_interrupted_framing_ends_the_connection(
    connect: Connect, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nobody can say whether a message is out, the connection is given up."""
    with Peer(opened) as peer:
        connection = connect(peer)
        assert listener.next() == "opened"

        def interrupt(text: str) -> Any:
            raise KeyboardInterrupt

        monkeypatch.setattr(frames, "text_frames", interrupt)
        connection.queue("in doubt")
        with pytest.raises(KeyboardInterrupt):
            connection.flush()
        assert "interrupted" in listener.lost().reason


def test_last_words_are_read_though_sending_fails(
    connect: Connect, listener: Listener
) -> None:
    """A peer that closes with a code while we send is heard, not only its reset."""
    closed = threading.Event()

    def behave(conn: Conn) -> None:
        conn.upgrade()
        conn.write_close(1009, "too long for me")
        closed.set()
        conn.read_frame()

    blocked = threading.Event()
    release = threading.Event()

    def act(connection: Connection, what: Any) -> None:
        if what == "opened":
            blocked.set()
            release.wait(PATIENCE)

    listener.act = act
    with Peer(behave) as peer:
        connection = connect(peer)
        assert blocked.wait(PATIENCE)
        assert closed.wait(PATIENCE)
        connection.queue("x" * 100_000)
        for _ in range(50):
            connection.queue("x" * 100_000)
            connection.flush(wait=False)
        release.set()
        assert listener.next() == "opened"
        loss = listener.lost()
    assert loss.close_code in (1009, 1006)


# Ends


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, ""), (1001, "going away"), (4001, "unknown session"), (4999, "ü")],
)
def test_close_by_the_peer(
    connect: Connect, listener: Listener, code: int, reason: str
) -> None:
    """Code and reason come through, and the close is answered with the same code."""
    answers: list[Any] = []

    def behave(conn: Conn) -> None:
        conn.upgrade()
        conn.write_close(code, reason)
        answers.append(conn.read_frame())
        conn.wait_closed()

    with Peer(behave) as peer:
        connect(peer)
        assert listener.next() == "opened"
        loss = listener.lost()
    assert loss.close_code == code
    assert loss.opened
    assert reason in loss.reason
    (answer,) = answers
    assert (answer.opcode, answer.code, answer.masked) == (CLOSE, code, True)


def test_close_without_a_code(connect: Connect, listener: Listener) -> None:
    """A close frame without a code counts as 1005."""

    def behave(conn: Conn) -> None:
        conn.upgrade()
        conn.write_close(None)
        assert conn.read_frame().code == 1000

    with Peer(behave) as peer:
        connect(peer)
        assert listener.next() == "opened"
        assert listener.lost().close_code == 1005


@pytest.mark.parametrize("how", ["end", "reset", "half a frame"])
def test_connection_that_just_ends(
    connect: Connect, listener: Listener, how: str
) -> None:
    """Without a close frame the code is 1006."""

    def behave(conn: Conn) -> None:
        conn.upgrade()
        if how == "reset":
            conn.reset()
        elif how == "half a frame":
            conn.write(frame(TEXT, b"whole") + frame(TEXT, b"x" * 100)[:50])

    with Peer(behave) as peer:
        connect(peer)
        assert listener.next() == "opened"
        if how == "half a frame":
            assert listener.next() == b"whole"
        loss = listener.lost()
    assert loss.close_code == 1006
    assert loss.opened


def test_close_of_ours(connect: Connect, listener: Listener) -> None:
    """What is in line goes out first, then the close; the peer's answer ends it."""
    seen: list[Any] = []

    def behave(conn: Conn) -> None:
        conn.upgrade()
        seen.extend(conn.read_frame() for _ in range(2))
        conn.write_text("one more for you")
        conn.write_close(seen[-1].code)
        with pytest.raises(EOFError):
            conn.read(1)

    with Peer(behave) as peer:
        connection = connect(peer)
        assert listener.next() == "opened"
        connection.queue("last words")
        assert connection.close(4000, "ü" * 100)
        assert listener.next() == b"one more for you"
        assert listener.lost().close_code == 4000
    assert [each.opcode for each in seen] == [TEXT, CLOSE]
    assert seen[1].code == 4000
    assert len(seen[1].payload) <= 125
    assert seen[1].payload[2:].decode() == "ü" * 61
    assert listener.losses == 1


def test_close_of_a_mute_peer(connect: Connect, listener: Listener) -> None:
    """A peer that does not answer the close is left after the timeout."""
    with Peer(opened) as peer:
        connection = connect(peer)
        assert listener.next() == "opened"
        begin = time.monotonic()
        assert connection.close(timeout=0.1)
        assert time.monotonic() - begin < 1.0
        assert listener.lost().close_code == 1006


def test_close_of_a_peer_that_takes_nothing(
    connect: Connect, listener: Listener
) -> None:
    """The close does not wait behind a full socket."""
    with Peer(opened_mute) as peer:
        connection = connect(peer)
        assert listener.next() == "opened"
        stuff(connection)
        begin = time.monotonic()
        assert connection.close(timeout=0.1)
        assert time.monotonic() - begin < 1.0


def test_close_without_waiting(connect: Connect, listener: Listener) -> None:
    """With wait=False the call returns while the peer still has its time."""
    go = threading.Event()

    def behave(conn: Conn) -> None:
        conn.upgrade()
        assert conn.read_frame().code == 1000
        assert go.wait(PATIENCE)
        conn.write_close(1000)

    with Peer(behave) as peer:
        connection = connect(peer)
        assert listener.next() == "opened"
        assert not connection.close(timeout=PATIENCE, wait=False)
        assert connection.alive
        go.set()
        assert listener.lost().close_code == 1000


def test_close_without_time(connect: Connect, listener: Listener) -> None:
    """With timeout=0 the goodbye is sent and nobody waits for an answer."""
    codes: list[int] = []

    def behave(conn: Conn) -> None:
        conn.upgrade()
        codes.append(conn.read_frame().code)

    with Peer(behave) as peer:
        connection = connect(peer)
        assert listener.next() == "opened"
        assert connection.close(1001, timeout=0)
        assert listener.lost().opened
    assert codes == [1001]


def test_close_twice_and_from_many_threads(
    connect: Connect, listener: Listener
) -> None:
    """However often it is closed, one close frame goes out and one loss is told."""
    closes: list[int] = []

    def behave(conn: Conn) -> None:
        conn.upgrade()
        closes.append(conn.read_frame().code)
        conn.write_close(1000)
        with pytest.raises(EOFError):
            conn.read(1)

    with Peer(behave) as peer:
        connection = connect(peer)
        assert listener.next() == "opened"
        threads = [threading.Thread(target=connection.close) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert connection.close()
        assert listener.lost().close_code == 1000
    assert closes == [1000]
    assert listener.losses == 1


def test_close_on_the_reader_thread(connect: Connect, listener: Listener) -> None:
    """A listener may close in the middle of a message; nothing waits for itself."""
    results: list[bool] = []

    def act(connection: Connection, what: Any) -> None:
        if what == b"go":
            results.append(connection.close(timeout=PATIENCE))

    def behave(conn: Conn) -> None:
        conn.upgrade()
        conn.write_text("go")
        assert conn.read_frame().opcode == CLOSE
        conn.write_close(1000)

    listener.act = act
    with Peer(behave) as peer:
        connect(peer)
        assert [listener.next(), listener.next()] == ["opened", b"go"]
        assert listener.lost().close_code == 1000
    assert results == [True]


def test_nothing_is_sent_after_the_close(connect: Connect, listener: Listener) -> None:
    """A message that comes too late does not follow the close frame."""
    seen: list[int] = []

    def behave(conn: Conn) -> None:
        conn.upgrade()
        seen.append(conn.read_frame().opcode)
        conn.write_frame(PING, b"late")
        with pytest.raises(EOFError):
            seen.append(conn.read_frame().opcode)

    with Peer(behave) as peer:
        connection = connect(peer)
        assert listener.next() == "opened"
        connection.close(timeout=0.1, wait=False)
        connection.queue("too late")
        connection.flush(wait=True)
        listener.lost()
    assert seen == [CLOSE]


@pytest.mark.parametrize("when", ["dialling", "waiting", "upgrading", "open"])
def test_abort_at_any_time(connect: Connect, listener: Listener, when: str) -> None:
    """An abort ends the thread at once, whatever it is blocked in."""
    with Peer(opened if when == "open" else silent) as peer:
        url = f"https://localhost:{peer.port}" if when == "dialling" else peer.url
        connection = connect(url, upgrade=when not in ("waiting", "dialling"))
        peer.wait_accepted(1)
        if when == "open":
            assert listener.next() == "opened"
        begin = time.monotonic()
        connection.abort()
        connection.abort()
        assert connection.join(PATIENCE)
        assert time.monotonic() - begin < 1.0
        assert listener.lost().opened is (when == "open")
    assert listener.losses == 1


def test_close_before_it_opened(connect: Connect, listener: Listener) -> None:
    """Closing a connection that is not open yet ends it without a word."""
    with Peer(silent) as peer:
        connection = connect(peer, upgrade=False)
        peer.wait_accepted(1)
        assert connection.close()
        assert not listener.lost().opened


def test_forgotten_listener_ends_the_connection(
    connect: Connect, listener: Listener
) -> None:
    """Nobody listens any more: the thread ends though nothing comes in."""
    with Peer(opened) as peer:
        other = Listener()
        connection = connect(peer, to=other)
        assert other.next() == "opened"
        gone = weakref.ref(other)
        del other
        gc.collect()
        assert gone() is None
        assert connection.join(PATIENCE)


@pytest.mark.parametrize("upgrade", [True, False])
def test_forgotten_listener_before_it_opened(connect: Connect, upgrade: bool) -> None:
    """The same while the connection is still being made."""
    with Peer(silent) as peer:
        other = Listener()
        connection = connect(peer, upgrade=upgrade, to=other)
        peer.wait_accepted(1)
        del other
        gc.collect()
        assert connection.join(PATIENCE)


def test_failing_listener_does_not_stop_the_reader(
    connect: Connect, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """What a listener raises is logged, and the messages go on."""

    def act(connection: Connection, what: Any) -> None:
        raise ValueError(f"on purpose at {what!r:.10}")

    def behave(conn: Conn) -> None:
        conn.upgrade()
        conn.write_text("one")
        conn.write_text("two")
        conn.write_close(1000)

    listener.act = act
    with Peer(behave) as peer, caplog.at_level(logging.ERROR, "polysync"):
        connection = connect(peer)
        assert [listener.next() for _ in range(3)] == ["opened", b"one", b"two"]
        assert listener.lost().close_code == 1000
        assert connection.join(PATIENCE)
    assert caplog.text.count("ValueError: on purpose") == 4


def test_unexpected_error_is_still_a_loss(
    connect: Connect,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Even a bug of ours is logged and told as a loss, not swallowed."""

    def fail(*args: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(frames, "whole_message", fail)
    with Peer(opened) as peer, caplog.at_level(logging.ERROR, "polysync"):
        connect(peer)
        assert listener.next() == "opened"
        loss = listener.lost()
    assert "ZeroDivisionError" in loss.reason
    assert loss.close_code == 1006
    assert "ZeroDivisionError" in caplog.text


def test_no_thread_can_be_started(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread starts any more, start() says so."""

    def refuse(*args: Any) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    connection = Connection(
        Network("http://127.0.0.1:1"),
        generation=1,
        listener=listener,
        open_timeout=1.0,
        send_timeout=1.0,
    )
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ClientClosedError):
            connection.start()
    assert connection.join(0.0)


def test_no_secret_in_logs_and_losses(
    connect: Connect, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """At the most talkative level, over good and bad ends, no token shows."""
    caplog.set_level(logging.DEBUG)
    secret = "eyJSECRET.SECRET.SECRET"
    behaviours: list[Any] = [
        answering(401, {"error": f"bad token {secret}"}),
        answering(500, f"<p>{secret}</p>".encode()),
        lambda conn: (conn.upgrade(), conn.write_close(4001, f"token {secret}")),
        lambda conn: conn.reset(),
        lambda conn: (conn.read_head(), conn.write(secret.encode() + b"\r\n\r\n")),
    ]
    told = []
    with Peer(*behaviours) as peer:
        for _ in behaviours:
            connection = connect(peer, upgrade=False)
            connection.upgrade("s", secret, None)
            assert connection.join(PATIENCE)
            told.append(repr(connection))
    while not listener.told.empty():
        told.append(repr(listener.next()))
    assert "SECRET" not in "".join(told)
    assert "SECRET" not in caplog.text


def in_child(run: Callable[[], object]) -> int:
    """Run something in a forked child; return its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            run()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("how", ["forget", "abort", "close", "collect"])
def test_child_of_a_fork_leaves_the_connection_alone(
    connect: Connect, how: str
) -> None:
    """Whatever a child does to its copy, the parent's connection goes on."""
    with Peer(echo) as peer:
        kept = [Listener()]
        connection = connect(peer, to=kept[0])
        assert kept[0].next() == "opened"

        def run() -> None:
            if how == "collect":
                kept.clear()
                gc.collect()
            else:
                getattr(connection, how)()
            assert not connection.alive
            connection.queue("from the child")
            connection.flush(wait=True)

        assert in_child(run) == 0
        connection.queue("from the parent")
        connection.flush(wait=True)
        assert kept[0].next() == b"from the parent"
        connection.close()
