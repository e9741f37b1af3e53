"""`polysync doctor`: each broken set-up is named, and no secret is shown."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from polysync.cli import main
from polysync.runtime.network import close_idle
from polysync.sandbox import Moment, Sandbox, SilentAgent
from tests.peers import Authority, Conn, Peer, proxy, silent

SCALE = float(os.environ.get("POLYSYNC_TEST_UNIT", "1"))
#: For steps that are to pass, and for those that are to run out of time.
LONG, BRIEF = str(10 * SCALE), str(0.3 * SCALE)
TOKEN = "connector-token-to-be-hidden"
PASSWORD = "proxy-password-to-be-hidden"
#: A name that nobody looks up, for servers behind a proxy.
BEHIND = "https://messaging.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(autouse=True)
def no_kept_connections() -> Iterator[None]:
    yield
    close_idle()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(connector_token=TOKEN) as server:
        yield server


class Doctor:
    """Runs the command, and keeps what it says."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.patch = monkeypatch
        self.capsys = capsys
        self.text = ""

    def point_at(self, where: Sandbox | str, **variables: str) -> None:
        """Set the environment's variables for a server."""
        url = where if isinstance(where, str) else where.base_url
        values = {
            "POLYSYNC_ENVIRONMENT": url,
            "POLYSYNC_CONNECTOR_TOKEN": TOKEN,
            "POLYSYNC_HOST": "https://www.example.com",
            **variables,
        }
        for name, value in values.items():
            self.patch.setenv(name, value)

    def report(self, timeout: str = LONG, *more: str) -> dict[str, Any]:
        """Examine, and return the report with what every report must fulfil."""
        code = main(["doctor", "--json", "--timeout", timeout, *more])
        self.text = self.capsys.readouterr().out
        content: dict[str, Any] = json.loads(self.text)
        assert code == (0 if content["ok"] else 1)
        assert TOKEN not in self.text
        assert PASSWORD not in self.text
        assert "eyJ" not in self.text  # how an access token begins
        return content

    def finds(self, step: str, timeout: str = LONG, *more: str) -> str:
        """Examine; assert that this step is the first to fail, return what is said."""
        checks = self.report(timeout, *more)["checks"]
        failed = [check for check in checks if check["status"] == "failed"]
        assert failed, checks
        assert failed[0]["step"] == step, failed
        before = [check["status"] for check in checks[: checks.index(failed[0])]]
        assert set(before) <= {"ok"}
        return f"{failed[0]['detail']} {failed[0]['advice']}"


@pytest.fixture
def doctor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Doctor:
    return Doctor(monkeypatch, capsys)


# All is well


def test_everything_works(doctor: Doctor, sandbox: Sandbox) -> None:
    """Twelve steps pass on a sandbox, each with its time, and the session is ended."""
    doctor.point_at(sandbox)

    report = doctor.report()

    assert [check["step"] for check in report["checks"]] == [
        "settings",
        "DNS",
        "TCP",
        "proxy",
        "TLS",
        "token",
        "session",
        "WebSocket",
        "history",
        "join",
        "greeting",
        "heartbeat",
    ]
    assert {check["status"] for check in report["checks"]} == {"ok"}
    assert all(check["seconds"] >= 0 for check in report["checks"])
    assert report["versions"]["Python"]
    assert sandbox.wait_until(lambda: sandbox.session.ended)


def test_everything_works_through_proxy_and_tls(
    doctor: Doctor, authority: Authority
) -> None:
    """With a proxy that wants a password and a private authority, all steps pass."""
    context = authority.server("messaging.example")
    password = f"user:{PASSWORD}"
    with (
        Sandbox(connector_token=TOKEN, ssl_context=context) as sandbox,
        proxy(password, target=sandbox.port) as between,
    ):
        doctor.point_at(BEHIND, https_proxy=between.url.replace("//", f"//{password}@"))
        report = doctor.report(LONG, "--ca-certs", authority.path)

    assert report["ok"], doctor.text
    details = {check["step"]: check["detail"] for check in report["checks"]}
    assert "with credentials" in details["proxy"]
    assert details["TLS"].startswith("TLSv1.3")
    assert "valid until" in details["TLS"]


def test_text_is_for_people(
    doctor: Doctor, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --json there is a line for each step, and a verdict."""
    doctor.point_at(sandbox)
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "ok      heartbeat" in printed
    assert printed.endswith("Everything works.\n")

    sandbox.faults.silence_heartbeats()
    assert main(["doctor", "--timeout", BRIEF]) == 1
    printed = capsys.readouterr().out
    assert "FAILED  heartbeat" in printed
    assert "> Clients would count the connection as dead" in printed
    assert printed.endswith("heartbeat: failed. See above for what to do.\n")
    assert TOKEN not in printed


def test_without_credentials_it_examines_the_sandbox(doctor: Doctor) -> None:
    """Who has no account can see what the command does."""
    assert doctor.report()["environment"] == "the sandbox"


# Twelve broken set-ups


def test_wrong_token(doctor: Doctor, sandbox: Sandbox) -> None:
    """A token that the server does not know is named as such."""
    doctor.point_at(sandbox, POLYSYNC_CONNECTOR_TOKEN="another-token")
    assert "there is no such connector token" in doctor.finds("token")
    assert "another-token" not in doctor.text


def test_wrong_host(doctor: Doctor, sandbox: Sandbox) -> None:
    """A host that is not registered for the connector is named as such."""
    doctor.point_at(sandbox, POLYSYNC_HOST="https://www.example.org")
    assert "the host is not the one that is registered" in doctor.finds("token")


def test_no_dns(doctor: Doctor) -> None:
    """A name that cannot be resolved fails first, and nothing after it is tried."""
    doctor.point_at("https://messaging.invalid")
    said = doctor.finds("DNS")
    assert "messaging.invalid cannot be resolved" in said
    assert "Check the spelling" in said
    statuses = [check["status"] for check in json.loads(doctor.text)["checks"]]
    assert statuses == ["ok", "failed"] + ["skipped"] * 10

    doctor.point_at(f"https://{'x' * 64}.localhost")
    assert "cannot be resolved" in doctor.finds("DNS")


def test_refused_port(doctor: Doctor) -> None:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    doctor.point_at(f"http://127.0.0.1:{port}")
    said = doctor.finds("TCP")
    assert f"port {port} takes no connection" in said
    assert "refuses port" in said


def test_bad_certificate(doctor: Doctor, authority: Authority) -> None:
    """A certificate of an unknown issuer, or for another name, is not trusted."""
    with Sandbox(ssl_context=authority.server()) as sandbox:
        doctor.point_at(sandbox)
        said = doctor.finds("TLS")
        assert "issuer that is not trusted" in said
        assert "ca_certs" in said
    with Sandbox(ssl_context=authority.server("another.example")) as sandbox:
        doctor.point_at(sandbox)
        said = doctor.finds("TLS", LONG, "--ca-certs", authority.path)
        assert "not one for localhost" in said
    with Sandbox(ssl_context=authority.server(expired=True)) as sandbox:
        doctor.point_at(sandbox)
        assert "expired" in doctor.finds("TLS", LONG, "--ca-certs", authority.path)


def login_page(conn: Conn) -> None:
    while True:
        conn.read_head()
        html = b"<html>Welcome to the hotel</html>"
        conn.answer(200, html, {"Content-Type": "text/html"})


def login_redirect(conn: Conn) -> None:
    while True:
        conn.read_head()
        conn.answer(302, b"", {"Location": "http://login.example/"})


@pytest.mark.parametrize("portal", [login_page, login_redirect])
def test_captive_portal(doctor: Doctor, portal: Any) -> None:
    """A login page, or the way to one, answers in the place of the server."""
    with Peer(portal) as peer:
        doctor.point_at(peer.url)
        assert "captive portal" in doctor.finds("token")


@pytest.mark.parametrize(
    ("status", "given", "words"),
    [
        (200, "", "wants credentials, and got none"),
        (200, f"user:{PASSWORD}@", "refuses those it got"),
        (403, "", "Have its administrator allow CONNECT"),
        (503, "", "cannot reach messaging.example:443"),
    ],
)
def test_proxy_refuses(doctor: Doctor, status: int, given: str, words: str) -> None:
    """A proxy that refuses is named, with what it wants."""
    password = "user:right" if status == 200 else None
    with proxy(password, status) as between:
        doctor.point_at(BEHIND, https_proxy=between.url.replace("//", f"//{given}"))
        assert words in doctor.finds("proxy")


def test_what_is_no_proxy(doctor: Doctor) -> None:
    """What answers is no proxy, hangs up, or says nothing at all."""

    def smtp(conn: Conn) -> None:
        conn.write(b"220 mail.example ESMTP\r\n\r\n")
        conn.wait_closed()

    for behaviour, words in (
        (smtp, "is no HTTP proxy"),
        (lambda conn: conn.read_head(), "broke the connection"),
        (silent, "does not answer within"),
    ):
        with Peer(behaviour) as peer:
            doctor.point_at(BEHIND, https_proxy=peer.url)
            assert words in doctor.finds("proxy", BRIEF)


def test_stalled_tls_handshake(doctor: Doctor, authority: Authority) -> None:
    """A server that takes the connection and never answers the TLS handshake."""
    with Peer(silent) as peer:
        doctor.point_at(f"https://127.0.0.1:{peer.port}")
        said = doctor.finds("TLS", BRIEF)
    assert "TLS handshake stalled" in said
    assert "firewall" in said


def test_stalled_websocket_handshake(doctor: Doctor, sandbox: Sandbox) -> None:
    """Requests work, and the upgrade to a WebSocket is never answered."""
    doctor.point_at(sandbox)
    sandbox.faults.stall(Moment.HANDSHAKE)
    said = doctor.finds("WebSocket", BRIEF)
    assert "no whole answer to the upgrade in time" in said
    assert "wss://" in said


def test_rate_limit(doctor: Doctor, sandbox: Sandbox) -> None:
    """429 is named, with how long the server wants to be left alone."""
    doctor.point_at(sandbox)
    sandbox.faults.refuse_access_token(429, retry_after=60)
    said = doctor.finds("token")
    assert "wants to be called less often" in said
    assert "60 s" in said


def test_no_agent(doctor: Doctor, sandbox: Sandbox) -> None:
    """An agent that cannot start, or never joins; the heartbeat is checked still."""
    doctor.point_at(sandbox)
    sandbox.faults.fail_join()
    said = doctor.finds("join")
    assert "unable to start a conversation" in said
    assert "published to this environment" in said

    sandbox.faults.withhold("POLY_AGENT_JOINED")
    assert "no agent joined within" in doctor.finds("join", BRIEF)
    statuses = [check["status"] for check in json.loads(doctor.text)["checks"]]
    assert statuses[-3:] == ["failed", "skipped", "ok"]


def test_no_greeting(doctor: Doctor, sandbox: Sandbox) -> None:
    """An agent that joins and says nothing."""
    sandbox.agent = SilentAgent("")
    doctor.point_at(sandbox)
    said = doctor.finds("greeting", BRIEF)
    assert "sent no greeting" in said
    assert "wait='agent'" in said


def test_silent_heartbeat(doctor: Doctor, sandbox: Sandbox) -> None:
    """A server that echoes no heartbeat."""
    doctor.point_at(sandbox)
    sandbox.faults.silence_heartbeats()
    assert "does not echo heartbeats" in doctor.finds("heartbeat", BRIEF)


# More that goes wrong


def test_no_history(doctor: Doctor, sandbox: Sandbox) -> None:
    """The WebSocket opens and brings nothing; or what cannot be read."""
    doctor.point_at(sandbox)
    sandbox.faults.half_open(Moment.REPLAY)
    assert "no history came" in doctor.finds("history", BRIEF)


def test_connection_lost_meanwhile(doctor: Doctor, sandbox: Sandbox) -> None:
    """A connection that breaks is said to have, at once."""
    doctor.point_at(sandbox)
    sandbox.faults.drop(Moment.RECEIVE)
    assert "the connection was lost meanwhile" in doctor.finds("join")


@pytest.mark.parametrize("status", [401, 404, 429, 503])
def test_refused_upgrade(doctor: Doctor, sandbox: Sandbox, status: int) -> None:
    """A refused upgrade is shown with its status."""
    doctor.point_at(sandbox)
    sandbox.faults.refuse_handshake(status)
    assert f"({status})" in doctor.finds("WebSocket")


def test_half_a_greeting(doctor: Doctor, sandbox: Sandbox) -> None:
    """A greeting that does not come to its end."""
    doctor.point_at(sandbox)
    sandbox.faults.withhold(
        "POLY_AGENT_MESSAGE_CHUNK",
        times=None,
        matching=lambda event: event["payload"]["is_complete"],
    )
    assert "did not end it" in doctor.finds("greeting", BRIEF)


def test_heartbeat_switched_off(doctor: Doctor) -> None:
    """Where the server wants no heartbeats, none is sent."""
    with Sandbox(connector_token=TOKEN, heartbeat_interval_seconds=0) as sandbox:
        doctor.point_at(sandbox)
        checks = doctor.report()["checks"]
    assert checks[-1]["detail"] == "switched off by the server"


def test_wrong_setting(doctor: Doctor) -> None:
    """A setting that a client would refuse is the first finding."""
    doctor.point_at("http://messaging.example")
    assert "clear text" in doctor.finds("settings")
    doctor.point_at("https://user:hunter2@messaging.example")
    assert "plain base URL" in doctor.finds("settings")
    assert "hunter2" not in doctor.text


def test_broken_tls_handshake(doctor: Doctor) -> None:
    """A server that hangs up on TLS, and one that does not speak it."""
    with Peer(lambda conn: conn.read(1)) as peer:
        doctor.point_at(f"https://127.0.0.1:{peer.port}")
        assert "broke in the TLS handshake" in doctor.finds("TLS")
    with Peer(lambda conn: conn.write(b"HTTP/1.1 400 No\r\n\r\n")) as peer:
        doctor.point_at(f"https://127.0.0.1:{peer.port}")
        assert "does not speak TLS" in doctor.finds("TLS")
