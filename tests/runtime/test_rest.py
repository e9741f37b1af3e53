"""The two REST calls: what is sent, what is tried again, what errors say."""

from __future__ import annotations

import json
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from polysync.errors import (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    ConnectionLostError,
    ConnectTimeoutError,
    PolysyncError,
    ProtocolError,
    RateLimitError,
    ServerError,
)
from polysync.runtime import rest
from polysync.runtime.clock import Deadline
from polysync.runtime.network import Answer, Cancel, Network, close_idle
from tests.peers import PATIENCE, Peer
from tests.peers import rest as serve_rest

TOKEN = "connector-SECRET"
HOST = "https://www.example.com"


@pytest.fixture(autouse=True)
def no_kept_connections() -> Iterator[None]:
    yield
    close_idle()


class Script(Network):
    """A network whose answers are written down, and that keeps what was asked."""

    def __init__(self, *answers: Answer | PolysyncError) -> None:
        super().__init__("https://messaging.example.com")
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def request(self, method: str, path: str, **kwargs: Any) -> Answer:
        self.asked.append({"method": method, "path": path, **kwargs})
        answer = self.answers.pop(0)
        if isinstance(answer, PolysyncError):
            raise answer
        return answer


class Sleepless(Cancel):
    """A cancel that does not wait but writes down how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None) -> bool:
        self.waits.append(timeout or 0.0)
        return self.cancelled


def answer(status: int, body: Any = b"", **headers: str) -> Answer:
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, body)


GOOD_TOKEN = answer(200, {"access_token": "jwt-SECRET", "expires_in": 86400})
GOOD_SESSION = answer(200, {"session_id": "s-1"})


def get_token(
    network: Network,
    cancel: Cancel | None = None,
    timeout: float | None = 60.0,
    token: str = TOKEN,
    host: str = HOST,
) -> rest.AccessToken:
    return rest.access_token(
        network,
        token,
        host,
        deadline=Deadline(timeout),
        cancel=cancel or Sleepless(),
        random=lambda: 0.5,
    )


def get_session(
    network: Network,
    cancel: Cancel | None = None,
    timeout: float | None = 60.0,
    token: str = "jwt-SECRET",
) -> str:
    return rest.create_session(
        network,
        token,
        streaming=True,
        platform="web",
        deadline=Deadline(timeout),
        cancel=cancel or Sleepless(),
        random=lambda: 0.5,
    )


def test_both_calls_on_the_wire() -> None:
    """Over a real connection: the documented headers and bodies, one connection."""
    with Peer(serve_rest) as peer:
        network = Network(peer.url)
        cancel = Cancel()
        token = get_token(network, cancel)
        assert token == rest.AccessToken("access.token", 86400.0)
        assert get_session(network, cancel, token=token.token) == "session-1"
        assert peer.accepted == 1
    first, second = peer.requests
    assert first.line.startswith("POST /api/v1/access-token ")
    assert first.headers["x-token"] == TOKEN
    assert first.headers["x-host"] == HOST
    assert first.headers["content-type"] == "application/json"
    assert first.headers["accept"] == "application/json"
    assert first.headers["user-agent"].startswith("polysync/")
    assert json.loads(first.body) == {}
    assert "authorization" not in first.headers
    assert second.line.startswith("POST /api/v1/sessions ")
    assert second.headers["authorization"] == "Bearer access.token"
    assert "x-host" not in second.headers
    assert "x-token" not in second.headers
    assert json.loads(second.body) == {"streaming_enabled": True, "platform": "web"}
    ids = {head.headers["x-polyai-correlation-id"] for head in peer.requests}
    assert len(ids) == 2


def test_token_does_not_show() -> None:
    """An access token is not in its repr."""
    assert "SECRET" not in repr(rest.AccessToken("SECRET", 1.0))


@pytest.mark.parametrize("life", [None, "1", True, -5, 0, [], float("nan")])
def test_odd_life_is_the_default(life: Any) -> None:
    """A missing or odd expires_in means an hour."""
    content = {"access_token": "a", "expires_in": life}
    assert get_token(Script(answer(200, content))).expires_in == 3600.0


# What is tried again


@pytest.mark.parametrize(
    "trouble",
    [
        answer(500, {"error": "Failed to create access token"}),
        answer(503),
        answer(599, b"<html>"),
        ConnectionLostError("gone"),
        ConnectTimeoutError("late"),
    ],
)
def test_trouble_is_tried_again(trouble: Any) -> None:
    """5xx and network trouble are tried three times more, each later than the last."""
    cancel = Sleepless()
    network = Script(trouble, trouble, trouble, GOOD_TOKEN)
    assert get_token(network, cancel).token == "jwt-SECRET"
    assert cancel.waits == [0.5, 1.0, 2.0]
    ids = {asked["headers"]["X-Polyai-Correlation-Id"] for asked in network.asked}
    assert len(ids) == 4


def test_trouble_without_end_is_an_error() -> None:
    """After the third retry the last trouble is the error."""
    network = Script(*[answer(502, {"message": "bad day"})] * 4)
    with pytest.raises(ServerError, match=r"502, 'bad day'") as caught:
        get_token(network)
    error = caught.value
    assert (error.status, error.reason) == (502, "bad day")
    assert error.correlation_id in str(error)
    last = network.asked[-1]["headers"]["X-Polyai-Correlation-Id"]
    assert error.correlation_id == last
    assert error.retryable
    assert pickle.loads(pickle.dumps(error)).correlation_id == error.correlation_id


def test_refused_certificate_is_not_tried_again() -> None:
    """What trying again cannot help is raised at once."""
    error = ConnectionLostError("certificate")
    error.retryable = False
    network = Script(error)
    with pytest.raises(ConnectionLostError, match="certificate"):
        get_token(network)
    assert len(network.asked) == 1


def test_retries_have_jitter() -> None:
    """Two clients with different luck do not come back together."""
    waits = []
    for luck in (0.0, 0.999):
        cancel = Sleepless()
        rest.create_session(
            Script(answer(500), GOOD_SESSION),
            "jwt",
            streaming=False,
            platform="web",
            deadline=Deadline(60.0),
            cancel=cancel,
            random=lambda luck=luck: luck,  # type: ignore[misc]
        )
        waits.append(cancel.waits[0])
    assert waits[0] == pytest.approx(0.25)
    assert waits[1] == pytest.approx(0.75, abs=0.01)


def test_retries_respect_the_deadline() -> None:
    """When there is no time for another try, the error comes at once."""
    cancel = Sleepless()
    with pytest.raises(ServerError):
        get_token(Script(answer(500)), cancel, timeout=0.1)
    assert cancel.waits == []


def test_mute_server_leaves_time_for_another_try() -> None:
    """One attempt does not use up the deadline, save for the last one."""
    network = Script(*[ConnectTimeoutError("late")] * 3, GOOD_TOKEN)
    get_token(network, timeout=100.0)
    left = [asked["deadline"].remaining() for asked in network.asked]
    assert all(seconds <= rest.ATTEMPT_TIMEOUT for seconds in left[:3])
    assert left[3] > 50.0


@pytest.mark.parametrize(
    ("header", "delay"),
    [("7", 7.0), ("0.25", 0.25), (None, 5.0), ("soon", 5.0), ("3600", 30.0)],
)
def test_rate_limit_waits_as_long_as_asked(header: str | None, delay: float) -> None:
    """429 waits for Retry-After: 5 s when there is none, 30 s at most."""
    cancel = Sleepless()
    named = {} if header is None else {"retry_after": header}
    network = Script(answer(429, **named), GOOD_SESSION)
    assert get_session(network, cancel) == "s-1"
    assert cancel.waits == [delay]


def test_rate_limit_beyond_the_deadline_is_raised_at_once() -> None:
    """A wait that would pass the deadline is not even begun."""
    cancel = Sleepless()
    with pytest.raises(RateLimitError) as caught:
        get_session(Script(answer(429, retry_after="12")), cancel, timeout=10.0)
    assert caught.value.retry_after == 12.0
    assert caught.value.status == 429
    assert cancel.waits == []


def test_rate_limit_without_end_is_an_error() -> None:
    """After three waits 429 is an error."""
    with pytest.raises(RateLimitError):
        get_session(Script(*[answer(429, retry_after="0")] * 4))


def test_cancel_interrupts_the_wait() -> None:
    """close() wakes a call that waits for its next try."""
    with Peer(lambda conn: [conn.read_head(), conn.answer(429, b"")]) as peer:
        cancel = Cancel()
        raised: list[BaseException] = []

        def run() -> None:
            try:
                get_session(Network(peer.url), cancel)
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        peer.wait_accepted(1)
        begin = time.monotonic()
        cancel.cancel()
        thread.join(PATIENCE)
        assert isinstance(raised[0], ClientClosedError)
        assert time.monotonic() - begin < 2.0


# What is final


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("Missing authentication headers", "check that both are set"),
        ("Connector token does not exist", "no such connector token"),
        ("Failed to validate connector", "not the one that is registered"),
        ("Connector missing host domain", "no host is registered"),
        ("Something new", "check the connector token"),
        ("", "check the connector token"),
    ],
)
def test_refused_credentials_say_what_to_do(said: str, advice: str) -> None:
    """Every documented refusal has its own advice, and is not tried again."""
    network = Script(answer(401, {"error": said}))
    with pytest.raises(AuthenticationError, match=advice) as caught:
        get_token(network)
    error = caught.value
    assert (error.status, error.reason) == (401, said or None)
    assert error.correlation_id
    assert error.correlation_id in str(error)
    assert said in str(error)
    assert TOKEN not in str(error)


def test_refused_access_token() -> None:
    """A session is refused with advice on the access token."""
    network = Script(answer(401, {"message": "Invalid access token"}))
    with pytest.raises(AuthenticationError, match="get a fresh one"):
        get_session(network)


@pytest.mark.parametrize(
    ("status", "kind", "word"),
    [
        (400, ProtocolError, "bug"),
        (422, ProtocolError, "bug"),
        (403, AuthenticationError, "credentials"),
        (404, ConfigurationError, "environment"),
        (407, ConfigurationError, "proxy"),
        (302, ProtocolError, "captive portal"),
    ],
)
def test_other_answers_are_final(
    status: int, kind: type[PolysyncError], word: str
) -> None:
    """No other answer is tried again, and each says what it may mean."""
    network = Script(answer(status, {"error": "no"}))
    with pytest.raises(kind, match=word):
        get_session(network)
    assert len(network.asked) == 1


def test_server_that_repeats_the_token_does_not_leak_it() -> None:
    """A secret in the server's own words is taken out of the error."""
    network = Script(answer(401, {"error": f"unknown token {TOKEN}"}))
    with pytest.raises(AuthenticationError) as caught:
        get_token(network)
    assert TOKEN not in str(caught.value)
    assert TOKEN not in repr(vars(caught.value))


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Welcome to our Wi-Fi</html>",
        b"",
        b"[]",
        b'"text"',
        b"{}",
        b'{"session_id": null, "access_token": null}',
        b'{"session_id": "", "access_token": ""}',
        b'{"session_id": 7, "access_token": 7}',
        b'{"session_id": ["x"], "access_token": {"x": 1}}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("call", [get_token, get_session])
def test_strange_success_is_a_protocol_error(
    body: bytes, call: Callable[[Network], object]
) -> None:
    """A 200 that is not the API's answer says that something may stand in between."""
    with pytest.raises(ProtocolError, match="captive"):
        call(Script(answer(200, body, content_type="text/html")))


@pytest.mark.parametrize(
    "bad", ["SECRET\n", "SECRET\r\nX: y", "SECRET word", "SÉCRET", ""]
)
def test_unsendable_secrets_are_refused_without_showing_them(bad: str) -> None:
    """A token with a stray line end never gets near the network."""
    network = Script()
    for call in (
        lambda: get_token(network, token=bad),
        lambda: get_token(network, host=bad),
        lambda: get_session(network, token=bad),
    ):
        with pytest.raises(ConfigurationError) as caught:
            call()
        assert "SECRET" not in str(caught.value)
        assert "SÉCRET" not in str(caught.value)
    assert network.asked == []


def test_unsendable_token_from_the_server() -> None:
    """A token that cannot stand in a header is the server's fault."""
    with pytest.raises(ProtocolError):
        get_token(Script(answer(200, {"access_token": "a\nb"})))


# Retry-After


NOW = datetime(2026, 8, 1, 12, 0, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("5", 5.0),
        (" 5 ", 5.0),
        ("1.5", 1.5),
        ("0", 0.0),
        ("-1", None),
        ("1e9", None),
        ("nan", None),
        ("99999999999", None),
        ("Sat, 01 Aug 2026 12:00:30 GMT", 30.0),
        ("Sat, 01 Aug 2026 11:00:00 GMT", 0.0),
        ("Saturday, 01-Aug-26 12:00:30 GMT", 30.0),
        ("Sat, 99 Aug 2026 12:00:30 GMT", None),
        ("tomorrow", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """Seconds, a fraction and a date are understood; nonsense is nothing."""
    assert rest.parse_retry_after(value, NOW) == seconds


def test_retry_after_in_our_own_time() -> None:
    """A date is compared with the wall clock."""
    assert rest.parse_retry_after("Sat, 01 Aug 2020 12:00:30 GMT") == 0.0
