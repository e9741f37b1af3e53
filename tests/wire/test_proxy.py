"""Proxies: where they are found, that both ways go through them, what they refuse."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from polysync.errors import ClientClosedError, ConfigurationError, ConnectionLostError
from polysync.protocol.loss import Loss
from polysync.runtime.clock import Deadline
from polysync.runtime.network import Cancel, Network, close_idle
from polysync.runtime.proxy import Proxy, find_proxy, is_loopback
from polysync.runtime.websocket import Connection
from tests.peers import PATIENCE, Authority, Conn, Peer, proxy, silent


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(autouse=True)
def no_kept_connections() -> Iterator[None]:
    yield
    close_idle()


def serve(conn: Conn) -> None:
    while True:
        head = conn.read_head()
        if "upgrade" in head.headers:
            conn.upgrade(head)
            conn.write_text("over the tunnel")
            conn.wait_closed()
            return
        conn.answer(200, b"fine")


def post(network: Network, cancel: Cancel | None = None) -> int:
    return network.request(
        "POST",
        "/x",
        headers={},
        body=b"{}",
        deadline=Deadline(PATIENCE),
        cancel=cancel or Cancel(),
    ).status


class Told:
    def __init__(self) -> None:
        self.told: queue.Queue[Any] = queue.Queue()

    def connection_opened(self, connection: Connection) -> None:
        self.told.put("opened")

    def connection_received(self, connection: Connection, payload: bytes) -> None:
        self.told.put(payload)

    def connection_lost(self, connection: Connection, loss: Loss) -> None:
        self.told.put(loss)


def talk(network: Network, count: int = 2) -> list[Any]:
    """Open a WebSocket and return the first things that are told."""
    told = Told()
    connection = Connection(
        network,
        generation=1,
        listener=told,
        open_timeout=PATIENCE,
        send_timeout=PATIENCE,
    )
    connection.start()
    connection.upgrade("s", "t", None)
    seen = [told.told.get(timeout=PATIENCE) for _ in range(count)]
    connection.abort()
    assert connection.join(PATIENCE)
    return seen


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("password", [None, "user:pass word"])
def test_both_ways_go_through_the_proxy(
    authority: Authority, encrypted: bool, password: str | None
) -> None:
    """Requests and WebSockets tunnel through the proxy, with its credentials."""
    context = authority.server() if encrypted else None
    with Peer(serve, tls=context) as peer, proxy(password) as between:
        url = between.url
        if password:
            url = url.replace("//", "//user:pass%20word@")
        network = Network(peer.url, proxy=url, ca_certs=authority.path)
        assert post(network) == 200
        assert post(network) == 200
        assert talk(network) == ["opened", b"over the tunnel"]
        # One tunnel for the requests, one for the WebSocket.
        assert between.tunnels == [f"{peer.host}:{peer.port}"] * 2


@pytest.mark.parametrize("given", ["", "user:wrong@"])
def test_proxy_wants_credentials(given: str, caplog: pytest.LogCaptureFixture) -> None:
    """407 is a setting to correct; the password is shown nowhere."""
    caplog.set_level(logging.DEBUG)
    with Peer(serve) as peer, proxy("user:right") as between:
        network = Network(peer.url, proxy=between.url.replace("//", f"//{given}"))
        with pytest.raises(ConfigurationError, match="credentials") as caught:
            post(network)
        (loss,) = talk(network, 1)
        assert between.refused == 2
        assert peer.accepted == 0
    assert "407" in loss.reason
    assert not loss.retryable
    for text in (str(caught.value), repr(caught.value.__cause__), loss.reason):
        assert "wrong" not in text
    assert "wrong" not in caplog.text


@pytest.mark.parametrize("status", [403, 500, 502])
def test_proxy_refuses(status: int) -> None:
    """A proxy that does not tunnel is named, with its status."""
    with Peer(serve) as peer, proxy(status=status) as between:
        network = Network(peer.url, proxy=between.url)
        kind = ConfigurationError if status == 403 else ConnectionLostError
        with pytest.raises(kind, match=f"proxy 127.0.0.1.*{status}"):
            post(network)
        (loss,) = talk(network, 1)
        assert str(status) in loss.reason
        assert loss.retryable is (status != 403)


def test_proxy_that_is_not_there() -> None:
    """A proxy that cannot be reached is named."""
    with Peer(serve) as gone:
        url = gone.url
    network = Network("https://server.invalid", proxy=url)
    with pytest.raises(ConnectionLostError, match=f"proxy {url[7:]} cannot"):
        post(network)


def test_proxy_resolves_the_name() -> None:
    """The server's name is the proxy's business: it need not be known here."""
    with Peer(serve) as peer, proxy(target=peer.port) as between:
        network = Network("http://server.invalid:8080", proxy=between.url)
        assert post(network) == 200
        assert between.tunnels == ["server.invalid:8080"]


def test_unknown_name_of_a_proxy() -> None:
    """When the proxy's name does not resolve, it is that name that is shown."""
    network = Network("https://server.invalid", proxy="http://proxy.invalid:1")
    with pytest.raises(ConnectionLostError, match=r"'proxy\.invalid'"):
        post(network)


def test_cancel_wakes_a_call_that_waits_for_the_proxy() -> None:
    """A proxy that never answers CONNECT holds nobody up."""
    with Peer(silent) as mute:
        cancel = Cancel()
        raised: list[BaseException] = []

        def run() -> None:
            try:
                post(Network("https://server.invalid", proxy=mute.url), cancel)
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        mute.wait_accepted(1)
        cancel.cancel()
        thread.join(PATIENCE)
        assert isinstance(raised[0], ClientClosedError)


def test_environment_is_not_used_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox on this machine is reached directly, whatever the environment says."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:9")
    with Peer(serve) as peer:
        assert post(Network(peer.url)) == 200


def test_environment_is_used_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways go through the environment's proxy."""
    with Peer(serve) as peer, proxy(target=peer.port) as between:
        monkeypatch.setenv("http_proxy", between.url)
        network = Network("http://server.invalid")
        assert post(network) == 200
        assert talk(network) == ["opened", b"over the tunnel"]
        assert between.tunnels == ["server.invalid:80"] * 2


HOST = ("https", "messaging.example.com", 443)
P = Proxy("proxy.example", 3128)


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        ({"https_proxy": "http://proxy.example:3128"}, P),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, P),
        ({"https_proxy": "proxy.example:3128"}, P),
        ({"http_proxy": "http://proxy.example:3128"}, None),
        ({"all_proxy": "http://proxy.example:3128"}, P),
        ({"https_proxy": "http://proxy.example:3128", "no_proxy": "example.com"}, None),
        ({"https_proxy": "http://proxy.example:3128", "no_proxy": "*"}, None),
        ({"https_proxy": "http://proxy.example:3128", "no_proxy": "other.com"}, P),
        ({"https_proxy": "http://proxy.example"}, Proxy("proxy.example", 80)),
        ({"https_proxy": ""}, None),
    ],
)
def test_proxy_of_the_environment(
    environment: dict[str, str], found: Proxy | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables that everybody knows are understood."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert find_proxy(None, *HOST) == found


def test_empty_setting_is_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """proxy="" goes directly though the environment names a proxy."""
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert find_proxy("", *HOST) is None


def test_setting_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """proxy= is used for every host, no_proxy and loopback included."""
    monkeypatch.setenv("https_proxy", "http://other.example:1")
    monkeypatch.setenv("no_proxy", "*")
    assert find_proxy("http://proxy.example:3128", *HOST) == P
    assert find_proxy("http://proxy.example:3128", "http", "localhost", 80) == P


@pytest.mark.parametrize(
    "url",
    [
        "socks5://user:SECRET@proxy:1080",
        "https://user:SECRET@proxy",
        "http://user:SECRET@",
        "http://user:SECRET@proxy:port",
        "http://[user:SECRET@proxy",
    ],
)
def test_unusable_proxy_is_not_shown(url: str) -> None:
    """What cannot be used is refused, without the password."""
    with pytest.raises(ConfigurationError, match="proxy") as caught:
        find_proxy(url, *HOST)
    assert "SECRET" not in str(caught.value)


def test_password_does_not_show() -> None:
    """A proxy's repr has no credentials."""
    found = find_proxy("http://user:SECRET@proxy:1", *HOST)
    assert found is not None
    assert found.authorization is not None
    assert "SECRET" not in repr(found)
    assert found.authorization not in repr(found)
    assert found.address == "proxy:1"


@pytest.mark.parametrize(
    ("host", "result"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost.example.com", False),
        ("10.0.0.1", False),
        ("messaging.poly.ai", False),
        ("", False),
    ],
)
def test_loopback(host: str, result: bool) -> None:
    """Only this machine is this machine."""
    assert is_loopback(host) is result
