"""The network: what is reached and how, what failures say, what stops a call."""

from __future__ import annotations

import functools
import gzip
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from polysync.errors import (
    ClientClosedError,
    ConfigurationError,
    ConnectionLostError,
    ConnectTimeoutError,
    PolysyncError,
    ProtocolError,
)
from polysync.runtime import attempt as attempt_module
from polysync.runtime import network as network_module
from polysync.runtime.clock import Deadline
from polysync.runtime.network import Answer, Cancel, Network, close_idle, user_agent
from tests.peers import PATIENCE, Conn, Peer, silent

Call = Callable[[Network, Deadline, Cancel], object]


def post(
    network: Network,
    deadline: Deadline | None = None,
    cancel: Cancel | None = None,
    path: str = "/x",
) -> Answer:
    return network.request(
        "POST",
        path,
        headers={"X-Thing": "1"},
        body=b"{}",
        deadline=deadline or Deadline(PATIENCE),
        cancel=cancel or Cancel(),
    )


def dial(
    network: Network, deadline: Deadline | None = None, cancel: Cancel | None = None
) -> None:
    network.dial(deadline or Deadline(PATIENCE), cancel or Cancel()).close()


both = pytest.mark.parametrize("call", [post, dial])


@pytest.fixture(autouse=True)
def no_kept_connections() -> Iterator[None]:
    yield
    close_idle()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def ok(conn: Conn) -> None:
    """Answer every request of a connection."""
    while True:
        head = conn.read_head()
        conn.answer(200, {"path": head.path})


# Requests


def test_request_and_answer() -> None:
    """A request carries method, path, headers and body, and the answer comes back."""

    def behave(conn: Conn) -> None:
        conn.read_head()
        conn.answer(418, b"tea", {"X-Kind": "Green", "Retry-After": "3"})

    with Peer(behave) as peer:
        answer = post(Network(peer.url), path="/api/v1/thing")
    assert (answer.status, answer.body) == (418, b"tea")
    assert answer.headers["x-kind"] == "Green"
    assert answer.headers["retry-after"] == "3"
    (head,) = peer.requests
    assert head.line == "POST /api/v1/thing HTTP/1.1"
    assert head.headers["x-thing"] == "1"
    assert head.headers["user-agent"] == user_agent()
    assert head.headers["user-agent"].startswith("polysync/")
    assert head.body == b"{}"


def test_prefix_of_the_address_is_kept() -> None:
    """An address with a path is a prefix of every path."""
    with Peer(ok) as peer:
        network = Network(peer.url + "/gateway/")
        assert b"/gateway/x" in post(network).body
        assert network.websocket_url("/ws", {"a": "b&c"}) == (
            f"ws://127.0.0.1:{peer.port}/gateway/ws?a=b%26c"
        )


def test_connections_are_shared_by_equal_settings() -> None:
    """A second conversation uses the first one's connection."""
    with Peer(ok) as peer:
        for _ in range(3):
            post(Network(peer.url))
        assert peer.accepted == 1
        close_idle()
        post(Network(peer.url))
        assert peer.accepted == 2


def test_stale_connection_is_replaced_at_once() -> None:
    """A kept connection that the server closes at the moment of use costs no error."""

    def once(conn: Conn) -> None:
        conn.read_head()
        conn.answer(200, b"first")
        conn.read_head()  # and closes instead of answering the second

    with Peer(once, ok) as peer:
        network = Network(peer.url)
        assert post(network).body == b"first"
        assert post(network).status == 200
        assert peer.accepted == 2


def test_redirects_are_not_followed() -> None:
    """A redirect is an answer like any other: the token goes nowhere else."""

    def behave(conn: Conn) -> None:
        conn.read_head()
        conn.answer(302, b"", {"Location": "http://127.0.0.1:9/elsewhere"})

    with Peer(behave) as peer:
        assert post(Network(peer.url)).status == 302


def test_compressed_answer_is_read() -> None:
    """A gateway may compress what was not asked to be."""

    def behave(conn: Conn) -> None:
        conn.read_head()
        conn.answer(200, gzip.compress(b"plain"), {"Content-Encoding": "gzip"})

    with Peer(behave) as peer:
        assert post(Network(peer.url)).body == b"plain"


def test_overlong_answer_is_refused() -> None:
    """No more than 1 MiB is read, compressed or not."""

    def behave(conn: Conn) -> None:
        conn.read_head()
        body = gzip.compress(b"x" * 50_000_000)
        conn.answer(200, body, {"Content-Encoding": "gzip"})

    with Peer(behave) as peer, pytest.raises(ProtocolError, match="more than 1048576"):
        post(Network(peer.url))


def test_garbage_is_a_protocol_error() -> None:
    """Something that does not speak HTTP is named as such."""

    def behave(conn: Conn) -> None:
        conn.read_head()
        conn.write(b"220 mail.example.com ESMTP\r\n")

    with Peer(behave) as peer, pytest.raises(ProtocolError, match="HTTP"):
        post(Network(peer.url))


@pytest.mark.parametrize(
    "written",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", b"HTTP/1.1 20"],
)
def test_broken_off_answer_is_a_lost_connection(written: bytes) -> None:
    """A server that goes away in the middle can be tried again."""

    def behave(conn: Conn) -> None:
        conn.read_head()
        conn.write(written)

    with Peer(behave) as peer, pytest.raises(PolysyncError) as caught:
        post(Network(peer.url))
    if written != b"HTTP/1.1 20":
        assert isinstance(caught.value, ConnectionLostError)
        assert caught.value.retryable


def test_reset_is_a_lost_connection() -> None:
    """A reset is told from silence."""

    def behave(conn: Conn) -> None:
        conn.read_head()
        conn.reset()

    with Peer(behave) as peer, pytest.raises(ConnectionLostError) as caught:
        post(Network(peer.url))
    assert "127.0.0.1" in str(caught.value)


# Failures of both


@both
def test_refused_connection(call: Any) -> None:
    """Nobody listens there: the error says where, and that it may be tried again."""
    port = free_port()
    with pytest.raises(ConnectionLostError, match=f"127.0.0.1:{port} cannot") as caught:
        call(Network(f"http://127.0.0.1:{port}"))
    assert caught.value.retryable


@both
def test_unknown_name(call: Any) -> None:
    """A name that does not resolve is named."""
    with pytest.raises(ConnectionLostError, match="'nowhere.invalid' cannot be"):
        call(Network("https://nowhere.invalid"))


@both
def test_name_that_never_resolves(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that hangs does not hold the call up beyond its deadline."""
    release = threading.Event()

    def hang(*args: Any, **kwargs: Any) -> Any:
        if socket.AI_NUMERICHOST in args:
            raise socket.gaierror(socket.EAI_NONAME, "not a number")
        release.wait(PATIENCE)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(attempt_module.socket, "getaddrinfo", hang)
    try:
        with pytest.raises(ConnectTimeoutError):
            call(Network("https://slow.invalid"), Deadline(0.05))
        cancel = Cancel()
        threading.Timer(0.05, cancel.cancel).start()
        with pytest.raises(ClientClosedError):
            call(Network("https://slow.invalid"), Deadline(PATIENCE), cancel)
    finally:
        release.set()


@both
def test_deadline_in_the_past(call: Any) -> None:
    """With no time left nothing is even tried."""
    with Peer(ok) as peer, pytest.raises(ConnectTimeoutError):
        call(Network(peer.url), Deadline(0.0))
    assert peer.accepted == 0


def trickle(conn: Conn) -> None:
    conn.read_head()
    conn.write(b"HTTP/1.1 200 OK\r\n")
    while not conn.peer.released.wait(0.01):
        conn.write(b"X-Endless: 1\r\nX")


@pytest.mark.parametrize("behave", [silent, trickle])
def test_deadline_covers_the_whole_answer(behave: Any) -> None:
    """Silence and a trickle of bytes alike end at the deadline."""
    with Peer(behave) as peer:
        begin = time.monotonic()
        with pytest.raises(ConnectTimeoutError):
            post(Network(peer.url), Deadline(0.1))
        assert time.monotonic() - begin < 2.0


def full_backlog() -> tuple[socket.socket, list[socket.socket]]:
    """A listener that answers no further connection attempt."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = []
    for _ in range(4):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(listener.getsockname())
        waiting.append(sock)
    return listener, waiting


@both
def test_deadline_covers_the_connecting(call: Any) -> None:
    """A host that does not even accept is given up at the deadline."""
    listener, waiting = full_backlog()
    try:
        with pytest.raises(ConnectTimeoutError):
            call(
                Network(f"http://127.0.0.1:{listener.getsockname()[1]}"), Deadline(0.1)
            )
    finally:
        for sock in (listener, *waiting):
            sock.close()


# Cancelling


def cancelled(call: Callable[[Cancel], object], ready: Callable[[], object]) -> float:
    """Cancel a call once it is blocked; return how long it took to come back."""
    cancel = Cancel()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call(cancel)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    ready()
    begin = time.monotonic()
    cancel.cancel()
    cancel.cancel()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert isinstance(raised[0], ClientClosedError), raised
    return time.monotonic() - begin


def test_cancel_wakes_a_blocked_read() -> None:
    """A request that waits for its answer comes back at once."""
    arrived = threading.Event()

    def behave(conn: Conn) -> None:
        conn.read_head()
        arrived.set()
        conn.wait_closed()

    with Peer(behave) as peer:
        call = functools.partial(post, Network(peer.url), Deadline(PATIENCE))
        assert cancelled(call, lambda: arrived.wait(PATIENCE)) < 1.0


def test_cancel_wakes_a_blocked_read_on_a_kept_connection() -> None:
    """The same on a connection that an earlier request has opened."""
    arrived = threading.Event()

    def behave(conn: Conn) -> None:
        conn.read_head()
        conn.answer(200, b"")
        conn.read_head()
        arrived.set()
        conn.wait_closed()

    with Peer(behave) as peer:
        post(Network(peer.url))
        call = functools.partial(post, Network(peer.url), Deadline(PATIENCE))
        assert cancelled(call, lambda: arrived.wait(PATIENCE)) < 1.0
        assert peer.accepted == 1


@both
def test_cancel_wakes_a_tls_handshake(call: Any) -> None:
    """A server that accepts and never says a word over TLS holds nobody up."""
    with Peer(silent) as peer:
        network = Network(f"https://localhost:{peer.port}")
        run = functools.partial(call, network, Deadline(PATIENCE))
        assert cancelled(run, lambda: peer.wait_accepted(1)) < 1.0


@both
def test_cancel_wakes_a_connection_attempt(call: Any) -> None:
    """A host that does not accept holds nobody up."""
    listener, waiting = full_backlog()
    held = threading.Event()
    original = attempt_module.Attempt.hold

    def hold(self: Any, sock: Any) -> None:
        original(self, sock)
        held.set()

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(attempt_module.Attempt, "hold", hold)
            network = Network(f"http://127.0.0.1:{listener.getsockname()[1]}")
            run = functools.partial(call, network, Deadline(PATIENCE))
            assert cancelled(run, lambda: held.wait(PATIENCE)) < 1.0
    finally:
        for sock in (listener, *waiting):
            sock.close()


@both
def test_cancelled_before_it_begins(call: Any) -> None:
    """After the cancellation nothing is tried any more."""
    cancel = Cancel()
    cancel.cancel()
    with Peer(ok) as peer, pytest.raises(ClientClosedError):
        call(Network(peer.url), None, cancel)
    assert peer.accepted == 0


def test_cancel_after_the_end_leaves_the_connection_alone() -> None:
    """A connection that went back to the pool is not shut down by a late cancel."""
    with Peer(ok) as peer:
        cancel = Cancel()
        network = Network(peer.url)
        post(network, cancel=cancel)
        sock = network.dial(Deadline(PATIENCE), cancel)
        cancel.cancel()
        assert post(network).status == 200
        peer.wait_accepted(2)
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert sock.recv(4) == b"HTTP"
        sock.close()


def test_cancel_wakes_sleepers() -> None:
    """Whoever waits between two tries wakes at once."""
    cancel = Cancel()
    assert not cancel.wait(0.0)
    threading.Timer(0.02, cancel.cancel).start()
    assert cancel.wait(PATIENCE)
    assert cancel.cancelled


def test_attached_late_is_woken_at_once() -> None:
    """What is attached after the cancellation is called there and then."""
    cancel = Cancel()
    cancel.cancel()
    woken: list[int] = []
    with cancel.attached(lambda: woken.append(1)):
        assert woken == [1]


# Dialling


def test_dialled_socket_is_ready() -> None:
    """What dial returns is connected, without delay for small packets."""
    with Peer(silent) as peer:
        sock = Network(peer.url).dial(Deadline(PATIENCE), Cancel())
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getpeername()[1] == peer.port
        sock.close()


def test_second_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the first address of a name refuses, the next one is tried."""
    dead = free_port()
    with Peer(silent) as peer:

        def resolve(host: str, port: int, attempt: Any) -> list[Any]:
            kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
            return [
                (*kind, ("127.0.0.1", dead)),
                (*kind, ("127.0.0.1", peer.port)),
            ]

        monkeypatch.setattr(attempt_module, "_resolve", resolve)
        dial(Network("http://two.invalid"))
        peer.wait_accepted(1)


def test_silent_address_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An address that swallows packets does not use up the whole deadline."""
    listener, waiting = full_backlog()
    with Peer(silent) as peer:

        def resolve(host: str, port: int, attempt: Any) -> list[Any]:
            kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
            return [(*kind, listener.getsockname()), (*kind, ("127.0.0.1", peer.port))]

        monkeypatch.setattr(attempt_module, "_resolve", resolve)
        dial(Network("http://two.invalid"), Deadline(0.5))
    for sock in (listener, *waiting):
        sock.close()


# Settings


@pytest.mark.parametrize("url", ["ftp://host", "host", "https://", "https:///path"])
def test_address_must_be_one(url: str) -> None:
    """What is not an HTTP address is refused when it is given."""
    with pytest.raises(ConfigurationError, match="not an address"):
        Network(url)


def test_repr_has_no_password() -> None:
    """The address shows, what is secret in it does not."""
    assert "SECRET" not in repr(Network("https://user:SECRET@host"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_child_of_a_fork_has_its_own_connections() -> None:
    """A child opens a connection of its own and leaves its parent's alone."""
    with Peer(ok) as peer:
        network = Network(peer.url)
        post(network)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                assert not network_module._pools
                status = 0 if post(network).status == 200 else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert peer.accepted == 2
        assert post(network).status == 200
        assert peer.accepted == 2
