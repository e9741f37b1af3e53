"""The sandbox starts, stops, fails to, and tells where it is."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import ssl
import threading
import time

import pytest
import trustme
import urllib3
import websocket

from polysync.sandbox import EchoAgent, Sandbox, SilentAgent, Turn
from tests.sandbox.bare import Bare


def names() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("polysync-")]


def test_nothing_runs_before_start() -> None:
    sandbox = Sandbox()

    assert names() == []
    assert not sandbox.running
    with pytest.raises(RuntimeError, match="before start"):
        _ = sandbox.base_url
    with pytest.raises(LookupError):
        _ = sandbox.session


def test_it_runs_on_one_daemon_thread() -> None:
    with Sandbox() as sandbox:
        assert names() == ["polysync-sandbox"]
        assert sandbox.base_url == f"http://127.0.0.1:{sandbox.port}"
        assert sandbox.start() is sandbox
        assert names() == ["polysync-sandbox"]
    sandbox.stop()

    assert names() == []


def test_each_has_a_token_of_its_own() -> None:
    assert Sandbox().connector_token != Sandbox().connector_token
    assert Sandbox(connector_token="mine").connector_token == "mine"


def test_it_says_how_to_connect() -> None:
    with Sandbox() as sandbox:
        assert sandbox.describe() == [
            f"export POLYSYNC_ENVIRONMENT={sandbox.base_url}",
            f"export POLYSYNC_CONNECTOR_TOKEN={sandbox.connector_token}",
            "export POLYSYNC_HOST=https://www.example.com",
        ]


def test_it_starts_again_on_the_same_port_and_knows_nothing() -> None:
    sandbox = Sandbox(EchoAgent)
    with sandbox, Bare(sandbox, join=True):
        port = sandbox.port
    assert len(sandbox.sessions) == 1
    with sandbox:
        assert sandbox.port == port
        assert len(sandbox.sessions) == 0


def test_a_taken_port_is_an_error() -> None:
    with Sandbox() as sandbox, pytest.raises(OSError, match="in use"):
        Sandbox(port=sandbox.port).start()


def test_an_unknown_setting_is_an_error() -> None:
    with pytest.raises(TypeError):
        Sandbox(heartbeat=3)


def test_it_stops_in_time_whatever_goes_on() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def agent(turn: Turn) -> str:
        entered.set()
        go_on.wait(10)
        return ""

    sandbox = Sandbox(agent)
    with sandbox, Bare(sandbox, join=True) as one, Bare(sandbox, join=True) as two:
        two.session.freeze()
        one.send("USER_MESSAGE", {"text": "x"})
        assert entered.wait(5)
        before = time.monotonic()
        sandbox.stop()
        took = time.monotonic() - before
        go_on.set()
        assert one.lost()

    assert took < 4


def test_an_outage_refuses_connections_and_forgets_nothing() -> None:
    with Sandbox(EchoAgent) as sandbox, Bare(sandbox, join=True) as bare:
        with sandbox.outage():
            assert bare.lost()
            with pytest.raises(ConnectionRefusedError):
                bare.connect()
            with pytest.raises(urllib3.exceptions.HTTPError):
                bare.post("access-token", {})
        bare.connect()
        assert bare.replay() == bare.session.events


def test_it_serves_tls() -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    with Sandbox(EchoAgent, ssl_context=server) as sandbox:
        assert sandbox.base_url == f"https://localhost:{sandbox.port}"
        # Python 3.10 warns of a kept-alive TLS connection that its client ends.
        once = {"Connection": "close"}
        with urllib3.PoolManager(ssl_context=client) as http:
            token = http.request(
                "POST",
                f"{sandbox.base_url}/api/v1/access-token",
                headers={
                    "X-Token": sandbox.connector_token,
                    "X-Host": sandbox.host,
                    **once,
                },
            ).json()["access_token"]
            session = http.request(
                "POST",
                f"{sandbox.base_url}/api/v1/sessions",
                headers={"Authorization": f"Bearer {token}", **once},
            ).json()["session_id"]
        ws = websocket.create_connection(
            f"wss://localhost:{sandbox.port}/ws"
            f"?session_id={session}&access_token={token}",
            sslopt={"context": client},
            timeout=5,
        )
        try:
            assert "EVENT_BATCH" in json.loads(ws.recv())["type"]
            sandbox.session.drop()
            with pytest.raises((OSError, websocket.WebSocketException)):
                ws.recv()
        finally:
            ws.shutdown()


def test_other_addresses_are_warned_of() -> None:
    sandbox = Sandbox(address="0.0.0.0")
    with pytest.warns(RuntimeWarning, match="others can reach it"):
        sandbox.start()
    sandbox.stop()


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_an_ipv6_address_is_written_in_brackets() -> None:
    with Sandbox(address="::1") as sandbox:
        assert sandbox.base_url == f"http://[::1]:{sandbox.port}"


def test_waiting_ends_at_the_deadline() -> None:
    with Sandbox() as sandbox, pytest.raises(TimeoutError, match="within 0.01 s"):
        sandbox.wait_until(lambda: sandbox.sessions, timeout=0.01)


def test_waiting_is_woken_by_each_change() -> None:
    with Sandbox(SilentAgent) as sandbox, Bare(sandbox, join=True) as bare:
        seen: list[str] = []

        def watch() -> None:
            sandbox.wait_until(lambda: bare.session.user_messages)
            seen.append(bare.session.user_messages[0].text)

        watchers = [threading.Thread(target=watch) for _ in range(3)]
        for thread in watchers:
            thread.start()
        bare.send("USER_MESSAGE", {"text": "hello"})
        for thread in watchers:
            thread.join(5)

    assert seen == ["hello"] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_the_child_of_a_fork_can_stop_and_start_its_own() -> None:
    with Sandbox() as sandbox:
        child = os.fork()
        if child == 0:  # pragma: no cover
            try:
                assert not sandbox.running
                sandbox.stop()
                sandbox.start()
                assert sandbox.running
                sandbox.stop()
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)

        assert os.waitstatus_to_exitcode(status) == 0
        assert sandbox.running
        with Bare(sandbox):
            pass


def test_a_malformed_request_is_logged_without_its_token(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        Sandbox() as sandbox,
        socket.create_connection(("127.0.0.1", sandbox.port), 5) as sock,
    ):
        sock.sendall(b"GET /ws?access_token=secret&x=\xff HTTP/1.1\r\n\r\n")
        assert b" 400 " in sock.recv(65536).split(b"\r\n")[0]

    assert "secret" not in caplog.text
    assert "secret" not in repr(sandbox.received.requests)


def test_connections_that_come_as_it_stops_are_closed() -> None:
    """Accepted by the loop or not yet, they leave no socket of the server open."""
    for _ in range(20):
        with contextlib.ExitStack() as clients:
            with Sandbox() as sandbox:
                address = ("127.0.0.1", sandbox.port)
                for _ in range(5):
                    clients.enter_context(socket.create_connection(address))
            gc.collect()
