"""The locked socket: reading ahead, writing without blocking, waking on abort."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from polysync.runtime.clock import Deadline
from polysync.runtime.socket import LockedSocket
from tests.peers import PATIENCE, Authority

Pair = tuple[LockedSocket, socket.socket]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname(), PATIENCE)
        far, _ = listener.accept()
    far.settimeout(PATIENCE)
    return near, far


def encrypted(
    authority: Authority, version: ssl.TLSVersion
) -> tuple[socket.socket, socket.socket]:
    near, far = connected()
    result: list[socket.socket] = []
    context = authority.server(version=version)

    def accept() -> None:
        result.append(context.wrap_socket(far, server_side=True))

    thread = threading.Thread(target=accept)
    thread.start()
    near = authority.client().wrap_socket(near, server_hostname="localhost")
    thread.join(PATIENCE)
    return near, result[0]


@pytest.fixture(params=["tcp", "tls1.2", "tls1.3"])
def pair(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Pair]:
    """A locked socket and the plain blocking one at the other end."""
    if request.param == "tcp":
        near, far = connected()
    else:
        version = {
            "tls1.2": ssl.TLSVersion.TLSv1_2,
            "tls1.3": ssl.TLSVersion.TLSv1_3,
        }[request.param]
        near, far = encrypted(authority, version)
    locked = LockedSocket(near)
    yield locked, far
    locked.close()
    far.close()


def read_exactly(sock: LockedSocket | socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, "the end came early"
        data += piece
    return data


@contextlib.contextmanager
def running(target: Callable[[], object]) -> Iterator[threading.Thread]:
    """Run something in a thread; afterwards it must have ended by itself."""
    thread = threading.Thread(target=target)
    thread.start()
    yield thread
    thread.join(PATIENCE)
    assert not thread.is_alive()


def fill(sock: LockedSocket) -> int:
    """Send until the system takes no more; return how much was handed over.

    That is far more than it refuses at first, as its buffers grow for a while.
    """
    total = 0
    while sock.unsent < 2_000_000:
        total += sock.send(b"f" * 65536)
    return total


def test_reads_as_much_as_asked_from_what_was_read_ahead(pair: Pair) -> None:
    """Small reads give the bytes in order and never more than asked for."""
    near, far = pair
    data = bytes(range(256)) * 40
    far.sendall(data)
    assert (
        b"".join(read_exactly(near, size) for size in (1, 2, 3, 250, 1000))
        == (data[:1256])
    )
    assert read_exactly(near, len(data) - 1256) == data[1256:]


def test_peek_and_skip_share_what_was_read_ahead(pair: Pair) -> None:
    """What is skipped is not read again, what was only looked at is."""
    near, far = pair
    far.sendall(b"abcdefgh")
    assert near.recv(1) == b"a"
    ahead, at = near.peek()
    assert ahead[at : at + 2] == b"bc"
    near.skip(at + 2)
    assert near.recv(2) == b"de"


def test_waits_for_data_without_a_timeout(pair: Pair) -> None:
    """A read blocks until something comes."""
    near, far = pair
    got: list[bytes] = []
    with running(lambda: got.append(near.recv(5))):
        far.sendall(b"hello")
    assert got == [b"hello"]


def test_end_is_the_end(pair: Pair) -> None:
    """When the peer has ended there is b"", again and again, after all data."""
    near, far = pair
    far.sendall(b"last")
    far.shutdown(socket.SHUT_RDWR)
    assert read_exactly(near, 4) == b"last"
    assert near.recv(1) == b""
    assert near.recv(1) == b""


def test_reset_is_an_error_or_the_end(pair: Pair) -> None:
    """A reset connection is never "no data": the reader does not go on waiting."""
    near, far = pair
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    with contextlib.suppress(OSError):
        assert near.recv(1) == b""


def test_read_deadline_passes(pair: Pair) -> None:
    """With a deadline a read that finds nothing gives up, and loses nothing."""
    near, far = pair
    near.settimeout(0.02)
    with pytest.raises(TimeoutError):
        near.recv(1)
    near.settimeout(None)
    far.sendall(b"x")
    assert near.recv(1) == b"x"
    assert near.gettimeout() == 0.0


def test_deadline_in_the_past_reads_what_is_there(pair: Pair) -> None:
    """What was read ahead is given out though the deadline has passed."""
    near, far = pair
    far.sendall(b"xy")
    assert near.recv(1) == b"x"
    near.settimeout(0.0)
    assert near.recv(1) == b"y"
    with pytest.raises(TimeoutError):
        near.recv(1)


def test_send_never_blocks(pair: Pair) -> None:
    """Sending to a peer that does not read returns at once, with all of it taken."""
    near, far = pair
    total = fill(near)
    total += near.send(b"g" * 1_000_000)
    assert near.unsent >= 1_000_000
    received: list[int] = []
    with running(lambda: received.append(len(read_exactly(far, total)))):
        near.drain(Deadline(PATIENCE))
    assert near.unsent == 0
    assert received == [total]


def test_much_that_is_unsent_waits_in_a_deque(pair: Pair) -> None:
    """Taking the first of a long list would move all the others, each time."""
    near, far = pair
    total = fill(near)
    for number in range(1_000):
        total += near.send(f"{number:04}".encode())
    assert isinstance(near._out, deque)

    received: list[bytes] = []
    with running(lambda: received.append(read_exactly(far, total))):
        near.drain(Deadline(PATIENCE))
    numbers = received[0][-4_000:].decode()
    assert numbers == "".join(f"{number:04}" for number in range(1_000))


def test_drain_times_out(pair: Pair) -> None:
    """A peer that reads nothing makes drain give up in time."""
    near, _ = pair
    fill(near)
    with pytest.raises(TimeoutError):
        near.drain(Deadline(0.02))
    assert near.unsent > 0


def test_drain_waits_only_for_what_was_there_before(pair: Pair) -> None:
    """Others that keep sending do not hold a drain back for ever."""
    near, far = pair
    first = fill(near)
    drained = threading.Event()

    def drain() -> None:
        near.drain(Deadline(PATIENCE))
        drained.set()

    with running(drain):
        total = first
        read = 0
        while not drained.is_set():
            # Always more on its way out than has been read.
            total += near.send(b"m" * 65536)
            read += len(far.recv(65536))
    with running(lambda: near.drain(Deadline(PATIENCE))):
        read_exactly(far, total - read)
    assert near.unsent == 0


def test_messages_of_many_threads_are_never_mixed(pair: Pair) -> None:
    """What is handed over in one call stays in one piece, whoever else sends."""
    near, far = pair
    senders, rounds, size = 8, 40, 5000

    def send(letter: bytes) -> None:
        for _ in range(rounds):
            near.send(letter * size)
            near.drain(Deadline(PATIENCE))

    threads = [
        threading.Thread(target=send, args=(bytes([65 + number]),))
        for number in range(senders)
    ]
    for thread in threads:
        thread.start()
    for _ in range(senders * rounds):
        piece = read_exactly(far, size)
        assert len(set(piece)) == 1
    for thread in threads:
        thread.join(PATIENCE)


def test_both_directions_at_full_speed(pair: Pair) -> None:
    """A reader and a sender at once lose no byte."""
    near, far = pair
    size = 4_000_000
    sent_back: list[bytes] = []

    def echo() -> None:
        left = size
        while left:
            data = far.recv(65536)
            left -= len(data)
            far.sendall(data)

    with running(echo), running(lambda: sent_back.append(read_exactly(near, size))):
        for number in range(size // 1000):
            near.send(bytes([number % 251]) * 1000)
            near.drain(Deadline(PATIENCE))
    assert sent_back[0] == b"".join(
        bytes([number % 251]) * 1000 for number in range(size // 1000)
    )


def test_abort_wakes_the_reader(pair: Pair) -> None:
    """A blocked read ends at once when another thread aborts."""
    near, _ = pair
    got: list[object] = []

    def read() -> None:
        try:
            got.append(near.recv(1))
        except OSError as error:
            got.append(error)

    with running(read):
        near.abort()
    assert got[0] == b"" or isinstance(got[0], OSError)
    assert near.recv(1) == b""


def test_abort_wakes_those_who_drain(pair: Pair) -> None:
    """A blocked drain ends at once when another thread aborts."""
    near, _ = pair
    fill(near)
    failed: list[OSError] = []

    def drain() -> None:
        try:
            near.drain(Deadline(None))
        except OSError as error:
            failed.append(error)

    with running(drain):
        near.abort()
        near.abort()
    assert len(failed) == 1
    with pytest.raises(ConnectionAbortedError):
        near.send(b"x")


def test_close_leaves_the_descriptor_to_the_last_who_waits(pair: Pair) -> None:
    """A descriptor is not given up while another thread looks at it."""
    near, _ = pair
    fill(near)
    entered = threading.Event()
    leave = threading.Event()
    number = near.fileno()

    class Poller:
        def register(self, *args: object) -> None:
            pass

        def poll(self, *args: object) -> list[object]:
            entered.set()
            assert leave.wait(PATIENCE)
            return []

    errors: list[OSError] = []

    def drain() -> None:
        try:
            near.drain(Deadline(None))
        except OSError as error:
            errors.append(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "poll", Poller)
        with running(drain):
            assert entered.wait(PATIENCE)
            near.close()
            assert near.fileno() == number
            leave.set()
    assert near.fileno() == -1
    assert len(errors) == 1


def test_close_is_idempotent(pair: Pair) -> None:
    """Closing twice is closing once."""
    near, far = pair
    near.close()
    near.close()
    near.abort()
    assert near.fileno() == -1
    assert near.recv(1) == b""
    with contextlib.suppress(ssl.SSLError):  # no goodbye of TLS, only its end
        assert far.recv(1) == b""


def test_forget_says_nothing_to_the_peer(pair: Pair) -> None:
    """The descriptor goes, the connection that others share stays up."""
    near, far = pair
    other = socket.socket(fileno=socket.dup(near.fileno()))
    near.forget()
    assert near.fileno() == -1
    other.setblocking(True)
    other.settimeout(PATIENCE)
    if not isinstance(far, ssl.SSLSocket):
        other.sendall(b"still here")
        assert read_exactly(far, 10) == b"still here"
    other.close()


def test_interrupted_write_ends_the_connection(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nobody can say how much was written, nothing more is."""
    near, _ = pair

    class Interrupting:
        def __getattr__(self, name: str) -> object:
            return getattr(inner, name)

        def send(self, data: bytes) -> int:
            inner.send(data)
            raise KeyboardInterrupt

    inner = near._sock
    monkeypatch.setattr(near, "_sock", Interrupting())
    with pytest.raises(KeyboardInterrupt):
        near.send(b"half of it may be out")
    monkeypatch.setattr(near, "_sock", inner)
    with pytest.raises(ConnectionAbortedError, match="interrupted"):
        near.send(b"more")


def test_interrupted_drain_loses_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A KeyboardInterrupt while waiting leaves the rest for the next who drains."""
    near, far = pair
    total = fill(near)

    class Poller:
        def register(self, *args: object) -> None:
            pass

        def poll(self, *args: object) -> list[object]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(select, "poll", Poller)
        with pytest.raises(KeyboardInterrupt):
            near.drain(Deadline(PATIENCE))
    received: list[int] = []
    with running(lambda: received.append(len(read_exactly(far, total)))):
        near.drain(Deadline(PATIENCE))
    assert received == [total]


def test_read_takes_only_the_room_of_what_came(pair: Pair) -> None:
    """Else the memory of a process with many connections ends up in pieces."""
    near, far = pair
    far.sendall(b"first")
    assert read_exactly(near, 5) == b"first"  # type: ignore[arg-type]
    tracemalloc.start()
    try:
        for _ in range(10):
            far.sendall(b"x" * 100)
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            assert len(read_exactly(near, 100)) == 100  # type: ignore[arg-type]
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < 16_384
    finally:
        tracemalloc.stop()


def test_works_without_poll(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no poll, select does."""
    near, far = pair
    monkeypatch.delattr(select, "poll")
    got: list[bytes] = []
    with running(lambda: got.append(near.recv(5))):
        far.sendall(b"hello")
    assert got == [b"hello"]
    near.settimeout(0.02)
    with pytest.raises(TimeoutError):
        near.recv(1)
    total = fill(near)
    received: list[int] = []
    with running(lambda: received.append(len(read_exactly(far, total)))):
        near.drain(Deadline(PATIENCE))
    assert received == [total]


class Wanting:
    """A TLS socket that wants to do the opposite first, as with a key update."""

    def __init__(self, inner: socket.socket) -> None:
        self.inner = inner
        self.reads = 1
        self.writes = 1

    def recv_into(self, room: memoryview) -> int:
        if self.reads:
            self.reads -= 1
            raise ssl.SSLWantWriteError
        return self.inner.recv_into(room)

    def send(self, data: bytes) -> int:
        if self.writes:
            self.writes -= 1
            raise ssl.SSLWantReadError
        return self.inner.send(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


def test_read_that_has_to_write_first(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS may have to write before it can read on; the read waits for that."""
    near, far = pair
    monkeypatch.setattr(near, "_sock", Wanting(near._sock))
    far.sendall(b"data")
    assert near.recv(4) == b"data"
    monkeypatch.undo()


def test_write_that_has_to_read_first(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS may have to read before it can write on; the drain waits for that."""
    near, far = pair
    monkeypatch.setattr(near, "_sock", Wanting(near._sock))
    near.send(b"data")
    assert near.unsent == 4
    far.sendall(b"x")
    near.drain(Deadline(PATIENCE))
    assert read_exactly(far, 4) == b"data"
    monkeypatch.undo()


def test_large_records_are_read_whole(pair: Pair) -> None:
    """What TLS has taken in beyond one read is not waited for."""
    near, far = pair
    data = b"r" * 300_000
    with running(lambda: far.sendall(data)):
        assert read_exactly(near, len(data)) == data


def test_write_of_nothing_is_a_full_socket(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gevent's TLS sockets return 0 where the standard library's raise."""
    near, far = pair

    class Zero:
        calls = 0

        def send(self, data: bytes) -> int:
            self.calls += 1
            return inner.send(data) if self.calls > 1 else 0

        def __getattr__(self, name: str) -> object:
            return getattr(inner, name)

    inner = near._sock
    monkeypatch.setattr(near, "_sock", Zero())
    near.send(b"data")
    assert near.unsent == 4
    near.drain(Deadline(PATIENCE))
    assert read_exactly(far, 4) == b"data"
    monkeypatch.undo()
