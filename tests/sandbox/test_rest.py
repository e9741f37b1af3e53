"""The two REST calls and the handshake, with every refusal that they know."""

from __future__ import annotations

import base64
import json

import pytest

from polysync.sandbox import Moment, Sandbox
from tests.sandbox.bare import Bare

TOKEN_PATH = "/api/v1/access-token"


def test_an_access_token_looks_like_a_jwt(bare: Bare) -> None:
    header, claims, signature = bare.token.split(".")

    assert json.loads(base64.urlsafe_b64decode(header + "=="))["alg"] == "HS256"
    assert "exp" in json.loads(base64.urlsafe_b64decode(claims + "=="))
    assert signature


def test_an_access_token_comes_with_its_lifetime(sandbox: Sandbox, bare: Bare) -> None:
    answer = bare.post(
        "access-token", {"X-Token": sandbox.connector_token, "X-Host": sandbox.host}
    )

    assert answer.json()["expires_in"] == 86400
    assert answer.json()["token_type"] == "Bearer"


@pytest.mark.parametrize(
    ("token", "host", "error"),
    [
        (None, "https://www.example.com", "Missing authentication headers"),
        ("right", None, "Missing authentication headers"),
        ("wrong", "https://www.example.com", "Connector token does not exist"),
        ("right", "https://www.example.org", "Failed to validate connector"),
        ("right", "https://evilwww.example.com", "Failed to validate connector"),
    ],
)
def test_credentials_are_refused(
    sandbox: Sandbox, bare: Bare, token: str | None, host: str | None, error: str
) -> None:
    headers = {}
    if token is not None:
        headers["X-Token"] = sandbox.connector_token if token == "right" else token
    if host is not None:
        headers["X-Host"] = host
    answer = bare.post("access-token", headers)

    assert (answer.status, answer.json()) == (401, {"error": error})


@pytest.mark.parametrize(
    "host",
    ["https://eu.www.example.com", "www.example.com", "https://WWW.example.com:8443/x"],
)
def test_subdomains_and_other_spellings_of_the_host_match(
    sandbox: Sandbox, bare: Bare, host: str
) -> None:
    headers = {"X-Token": sandbox.connector_token, "X-Host": host}

    assert bare.post("access-token", headers).status == 200


def test_a_connector_without_a_host_is_refused() -> None:
    with (
        Sandbox() as first,
        Bare(first) as bare,
        Sandbox(registered_host=None) as other,
    ):
        bare.sandbox = other
        headers = {"X-Token": other.connector_token, "X-Host": "https://x.example"}
        answer = bare.post("access-token", headers)

    assert answer.json() == {"error": "Connector missing host domain"}


@pytest.mark.parametrize(
    ("authorization", "status", "error"),
    [
        (None, 400, "Missing access token"),
        ("Basic abc", 401, "Missing authentication headers"),
        ("Bearer ", 401, "Missing authentication headers"),
        ("Bearer a.b.c", 401, "Invalid access token"),
    ],
)
def test_sessions_are_refused(
    bare: Bare, authorization: str | None, status: int, error: str
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = bare.post("sessions", headers)

    assert (answer.status, answer.json()["error"]) == (status, error)


@pytest.mark.parametrize(
    "body",
    [b"{", b"[1]", b'{"platform": "fridge"}', b'{"streaming_enabled": "yes"}'],
)
def test_a_body_that_cannot_be_parsed_is_refused(bare: Bare, body: bytes) -> None:
    answer = bare.post("sessions", {"Authorization": f"Bearer {bare.token}"}, body)

    assert (answer.status, answer.json()["error"]) == (400, "Error parsing request")


def test_the_body_of_a_session_is_optional(sandbox: Sandbox, bare: Bare) -> None:
    answer = bare.post("sessions", {"Authorization": f"Bearer {bare.token}"}, b"")
    session = sandbox.sessions[answer.json()["session_id"]]

    assert session.streaming is False
    assert session.platform == "web"


def test_the_correlation_id_comes_back(bare: Bare) -> None:
    answer = bare.post("access-token", {"X-Polyai-Correlation-Id": "abc"})

    assert answer.headers["X-Polyai-Correlation-Id"] == "abc"


def test_an_unknown_path_gets_an_error_in_the_usual_form(bare: Bare) -> None:
    answer = bare.post("nothing", {})

    assert (answer.status, answer.json()) == (404, {"error": "Not Found"})


def test_a_handshake_without_parameters_is_a_bad_request(bare: Bare) -> None:
    expected = (400, "invalid connection parameters")

    assert bare.refused(access_token=None) == expected
    assert bare.refused(session_id=None) == expected


def test_a_plain_request_for_the_socket_is_a_bad_request(bare: Bare) -> None:
    url = f"{bare.sandbox.base_url}/ws?session_id={bare.session_id}"
    answer = bare.http.request("GET", f"{url}&access_token={bare.token}")

    assert answer.status == 400
    assert bare.session.connections == 0


def test_a_session_takes_only_the_token_it_was_created_with(
    sandbox: Sandbox, bare: Bare
) -> None:
    with Bare(sandbox) as other:
        status = bare.refused(access_token=other.token)

    assert status == (401, "authentication failed")
    assert bare.refused(access_token="x.y.z") == (401, "authentication failed")


def test_an_expired_token_is_refused_everywhere(sandbox: Sandbox, bare: Bare) -> None:
    sandbox.expire_tokens()

    assert bare.refused() == (401, "authentication failed")
    answer = bare.post("sessions", {"Authorization": f"Bearer {bare.token}"})
    assert answer.json() == {"error": "Invalid access token"}


def test_a_lifetime_of_nothing_is_over_at_once() -> None:
    with Sandbox() as usual, Bare(usual) as bare, Sandbox(access_token_lifetime=0) as s:
        bare.sandbox = s
        headers = {"X-Token": s.connector_token, "X-Host": s.host}
        minted = bare.post("access-token", headers).json()
        answer = bare.post(
            "sessions", {"Authorization": f"Bearer {minted['access_token']}"}
        )

    assert minted["expires_in"] == 0
    assert answer.status == 401


def test_an_unknown_session_is_not_found(bare: Bare) -> None:
    assert bare.refused(session_id="nothing") == (404, "session not found")


def test_a_session_has_ten_connections_at_once(sandbox: Sandbox, bare: Bare) -> None:
    for _ in range(10):
        bare.connect()

    assert bare.refused() == (429, "connection limit exceeded for session")
    bare.sockets[0].close()
    sandbox.wait_until(lambda: bare.session.connections == 9)
    bare.connect()


def test_requests_are_recorded_without_secrets(sandbox: Sandbox, bare: Bare) -> None:
    bare.connect()
    token, session, handshake = sandbox.received.requests

    assert token.path == TOKEN_PATH
    assert token.header("X-Token") == "[redacted]"
    assert token.header("X-Host") == sandbox.host
    assert session.header("authorization") == "[redacted]"
    assert json.loads(session.body) == {"streaming_enabled": True}
    assert handshake.path == "/ws"
    assert handshake.query["access_token"] == "[redacted]"
    everything = repr([sandbox.received.requests, bare.session, sandbox])
    assert bare.token not in everything
    assert sandbox.connector_token not in everything


@pytest.mark.parametrize("moment", [Moment.ACCESS_TOKEN, Moment.SESSION])
def test_rest_is_refused_on_demand(
    sandbox: Sandbox, bare: Bare, moment: Moment
) -> None:
    sandbox.faults.refuse(moment, 429, retry_after=7, error="slow down")
    path = "access-token" if moment is Moment.ACCESS_TOKEN else "sessions"
    answer = bare.post(path, {})

    assert answer.status == 429
    assert answer.headers["Retry-After"] == "7"
    assert answer.json() == {"error": "slow down"}
    assert bare.post(path, {}).status in (400, 401)


def test_a_gateway_answers_in_html(sandbox: Sandbox, bare: Bare) -> None:
    sandbox.faults.refuse_access_token(502, html="<h1>Bad gateway</h1>")
    answer = bare.post("access-token", {})

    assert answer.status == 502
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.data == b"<h1>Bad gateway</h1>"


def test_a_handshake_is_refused_on_demand(sandbox: Sandbox, bare: Bare) -> None:
    sandbox.faults.refuse_handshake(503, times=2)

    assert [bare.refused()[0], bare.refused()[0]] == [503, 503]
    bare.connect()
