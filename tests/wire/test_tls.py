"""TLS: who is trusted, what refusals say, and both directions at once."""

from __future__ import annotations

import queue
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polysync.errors import (
    ConfigurationError,
    ConnectionLostError,
    ConnectTimeoutError,
)
from polysync.protocol.loss import Loss
from polysync.runtime import rest, tls
from polysync.runtime.clock import Deadline
from polysync.runtime.network import Cancel, Network, close_idle
from polysync.runtime.websocket import Connection
from tests.peers import CLOSE, PATIENCE, Authority, Conn, Peer


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody here trusts."""
    return Authority(tmp_path_factory.mktemp("other"))


@pytest.fixture(autouse=True)
def no_kept_connections() -> Iterator[None]:
    yield
    close_idle()


class Told:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.told: queue.Queue[Any] = queue.Queue()

    def connection_opened(self, connection: Connection) -> None:
        self.told.put("opened")

    def connection_received(self, connection: Connection, payload: bytes) -> None:
        self.told.put(payload)

    def connection_lost(self, connection: Connection, loss: Loss) -> None:
        self.told.put(loss)

    def next(self) -> Any:
        return self.told.get(timeout=PATIENCE)


def serve(conn: Conn) -> None:
    """Answer the REST calls and echo what comes over the WebSocket."""
    while True:
        head = conn.read_head()
        if "upgrade" not in head.headers:
            conn.answer(200, {"access_token": "a.token", "session_id": "s-1"})
            continue
        conn.upgrade(head)
        while True:
            message = conn.read_message()
            if message.opcode == CLOSE:
                conn.write_close(message.code)
                return
            conn.write_frame(message.opcode, message.payload)


def get_token(network: Network, timeout: float = PATIENCE) -> rest.AccessToken:
    return rest.access_token(
        network,
        "connector",
        "https://host.example",
        deadline=Deadline(timeout),
        cancel=Cancel(),
        random=lambda: 0.0,
    )


def open_websocket(network: Network) -> tuple[Connection, Told]:
    told = Told()
    connection = Connection(
        network,
        generation=1,
        listener=told,
        open_timeout=PATIENCE,
        send_timeout=PATIENCE,
    )
    connection.start()
    connection.upgrade("s-1", "a.token", None)
    return connection, told


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_own_authority_is_trusted(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    """With ca_certs a private authority does, for requests and WebSockets alike."""
    with Peer(serve, tls=authority.server(version=version)) as peer:
        network = Network(peer.url, ca_certs=authority.path)
        assert get_token(network).token == "a.token"
        connection, told = open_websocket(network)
        assert told.next() == "opened"
        for text in ("hello", "x" * 200_000):
            connection.queue(text)
            connection.flush(wait=True)
            assert told.next() == text.encode()
        assert connection.close()
        assert told.next().close_code == 1000
        assert peer.refusals == 0


def test_second_conversation_uses_the_same_connection(authority: Authority) -> None:
    """The TLS handshake of the REST calls is made once for many conversations."""
    with Peer(serve, tls=authority.server()) as peer:
        for _ in range(3):
            get_token(Network(peer.url, ca_certs=authority.path))
        assert peer.accepted == 1


def test_address_by_number(authority: Authority) -> None:
    """A certificate for an IP address is good for that address."""
    with Peer(serve, tls=authority.server("127.0.0.1")) as peer:
        url = f"https://127.0.0.1:{peer.port}"
        assert get_token(Network(url, ca_certs=authority.path)).token == "a.token"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_directory_of_certificates(authority: Authority, tmp_path: Path) -> None:
    """ca_certs may be a directory that `openssl rehash` has prepared."""
    shutil.copy(authority.path, tmp_path / "ca.pem")
    subprocess.run(["openssl", "rehash", str(tmp_path)], check=True)
    with Peer(serve, tls=authority.server()) as peer:
        assert get_token(Network(peer.url, ca_certs=str(tmp_path))).token == "a.token"


def test_ssl_cert_file_of_the_environment(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ca_certs the system's store counts, which SSL_CERT_FILE replaces, also
    when it is set after the first connection of the process."""
    before = tls.trust(None)
    monkeypatch.setenv("SSL_CERT_FILE", authority.path)
    assert tls.trust(None) is not before
    with Peer(serve, tls=authority.server()) as peer:
        assert get_token(Network(peer.url)).token == "a.token"


REFUSED = {
    "wrong name": "not one for localhost",
    "expired": "expired",
    "unknown issuer": "ca_certs",
}


@pytest.mark.parametrize("why", REFUSED)
def test_certificate_that_must_be_refused(
    authority: Authority, stranger: Authority, why: str
) -> None:
    """A wrong name, a stranger's or an expired certificate is refused on both ways,
    with advice, and is not tried again."""
    context = {
        "wrong name": lambda: authority.server("elsewhere.example"),
        "expired": lambda: authority.server(expired=True),
        "unknown issuer": stranger.server,
    }[why]()
    with Peer(serve, tls=context) as peer:
        network = Network(peer.url, ca_certs=authority.path)
        with pytest.raises(ConnectionLostError, match=REFUSED[why]) as caught:
            get_token(network)
        assert not caught.value.retryable
        assert peer.accepted == 1

        connection, told = open_websocket(network)
        loss = told.next()
        assert REFUSED[why] in loss.reason
        assert not loss.retryable
        assert not loss.opened
        assert connection.join(PATIENCE)
        assert peer.requests == []


def test_system_store_does_not_trust_a_stranger(stranger: Authority) -> None:
    """By default a private authority is refused."""
    with (
        Peer(serve, tls=stranger.server()) as peer,
        pytest.raises(ConnectionLostError, match="not trusted"),
    ):
        get_token(Network(peer.url))


def test_server_without_tls(authority: Authority) -> None:
    """A server that does not speak TLS is named as such."""

    def greet(conn: Conn) -> None:
        conn.write(b"HTTP/1.1 400 This is plain HTTP\r\n\r\n")
        conn.wait_closed()

    with Peer(greet) as peer:
        network = Network(f"https://localhost:{peer.port}", ca_certs=authority.path)
        with pytest.raises(ConnectionLostError, match="does not speak TLS"):
            get_token(network)


def test_connection_that_ends_in_the_handshake(authority: Authority) -> None:
    """An end in the middle of the handshake is a lost connection, tried again."""
    with Peer(lambda conn: conn.read(1)) as peer:
        network = Network(f"https://localhost:{peer.port}", ca_certs=authority.path)
        with pytest.raises((ConnectionLostError, ConnectTimeoutError)):
            get_token(network, timeout=0.5)
        assert peer.accepted > 1


@pytest.mark.parametrize("content", [None, "", "not a certificate"])
def test_unusable_ca_certs(tmp_path: Path, content: str | None) -> None:
    """A path without certificates is a setting to correct."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    network = Network("https://localhost:1", ca_certs=str(path))
    with pytest.raises(ConfigurationError, match="ca_certs"):
        get_token(network)


def test_end_without_goodbye_is_the_end(authority: Authority) -> None:
    """A TLS connection that is cut off is lost, not taken for silence."""

    def cut(conn: Conn) -> None:
        conn.upgrade()
        socket.socket.shutdown(conn.sock, socket.SHUT_RDWR)

    with Peer(cut, tls=authority.server()) as peer:
        connection, told = open_websocket(Network(peer.url, ca_certs=authority.path))
        assert told.next() == "opened"
        loss = told.next()
        assert loss.close_code == 1006
        assert loss.retryable
        assert connection.join(PATIENCE)


def test_abort_over_tls_wakes_the_reader(authority: Authority) -> None:
    """An abort ends a blocked reader at once over TLS too."""
    with Peer(serve, tls=authority.server()) as peer:
        connection, told = open_websocket(Network(peer.url, ca_certs=authority.path))
        assert told.next() == "opened"
        connection.abort()
        assert told.next().close_code == 1006
        assert connection.join(PATIENCE)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_reader_and_senders_at_once(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    """Several senders and the reader on one TLS connection lose and mix nothing."""
    senders, count = 4, 500

    with Peer(serve, tls=authority.server(version=version)) as peer:
        connection, told = open_websocket(Network(peer.url, ca_certs=authority.path))
        assert told.next() == "opened"

        def send(number: int) -> None:
            for at in range(count):
                connection.queue(f"{number} {at} " + "x" * (at % 300))
                connection.flush(wait=True)

        threads = [
            threading.Thread(target=send, args=(number,)) for number in range(senders)
        ]
        for thread in threads:
            thread.start()
        seen: dict[int, list[int]] = {number: [] for number in range(senders)}
        for _ in range(senders * count):
            message = told.next()
            assert isinstance(message, bytes), message
            number, at, filling = message.decode().split(" ")
            assert filling == "x" * (int(at) % 300)
            seen[int(number)].append(int(at))
        for thread in threads:
            thread.join(PATIENCE)
        assert all(each == list(range(count)) for each in seen.values())
        assert connection.close()
