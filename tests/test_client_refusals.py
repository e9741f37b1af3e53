"""Bad input: the right error, in words that help, before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from polysync import (
    AuthenticationError,
    Client,
    ConfigurationError,
    ConnectionLostError,
    ConnectionStatus,
    MessageTooLargeError,
)
from polysync.sandbox import EchoAgent, Sandbox
from tests.clients import client_of, talking, threads_of_polysync


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(EchoAgent) as running:
        yield running


@pytest.fixture
def talker() -> Iterator[tuple[Sandbox, Client]]:
    with talking(EchoAgent) as both:
        yield both


# Test credentials.


def test_a_wrong_connector_token(sandbox: Sandbox) -> None:
    client = client_of(sandbox, connector_token="wrong")
    with pytest.raises(AuthenticationError, match="no such connector token") as caught:
        client.connect()
    error = caught.value
    assert error.status == 401
    assert error.reason == "Connector token does not exist"
    assert error.correlation_id
    assert error.correlation_id in str(error)
    assert sandbox.sessions == {}
    # Final: not tried again.
    assert len(sandbox.received.requests) == 1


def test_an_unregistered_host(sandbox: Sandbox) -> None:
    client = client_of(sandbox, host="https://elsewhere.example")
    with pytest.raises(AuthenticationError, match="registered") as caught:
        client.connect()
    assert caught.value.reason == "Failed to validate connector"


def test_a_connector_without_a_host() -> None:
    with Sandbox(EchoAgent, registered_host=None) as sandbox:
        client = client_of(sandbox, host="https://www.example.com")
        with pytest.raises(AuthenticationError, match="no host is registered"):
            client.connect()


def test_a_made_up_access_token(sandbox: Sandbox) -> None:
    client = client_of(sandbox, access_token="made.up.token")
    with pytest.raises(AuthenticationError, match="get a fresh one") as caught:
        client.connect()
    assert "made.up.token" not in str(caught.value)
    assert sandbox.sessions == {}


def test_an_expired_access_token(sandbox: Sandbox) -> None:
    state = client_of(sandbox).connect().detach()
    sandbox.expire_tokens()
    client = client_of(sandbox, access_token=state.access_token)
    with pytest.raises(AuthenticationError):
        client.connect()


def test_no_error_shows_the_connector_token(sandbox: Sandbox) -> None:
    secret = "s3cr3t-connector-token"
    client = client_of(sandbox, connector_token=secret)
    with pytest.raises(AuthenticationError) as caught:
        client.connect()
    error: BaseException | None = caught.value
    while error is not None:
        assert secret not in f"{error} {error!r} {vars(error)}"
        error = error.__cause__ or error.__context__


def test_after_refused_credentials_connect_can_be_tried_again(
    sandbox: Sandbox,
) -> None:
    sandbox.faults.refuse_access_token(401, error="Connector token does not exist")
    client = client_of(sandbox)
    with pytest.raises(AuthenticationError):
        client.connect()
    assert client.status is ConnectionStatus.IDLE
    assert threads_of_polysync() == []
    assert client.connect().ask("one").text == "one"
    client.close()


def test_nothing_listens_there() -> None:
    with Sandbox(EchoAgent) as sandbox:
        url = sandbox.base_url
    client = Client("token", "host", environment=url, timeout=0.2)
    with pytest.raises(ConnectionLostError, match="cannot be reached") as caught:
        client.connect()
    assert "127.0.0.1" in str(caught.value)


# Test texts.


@pytest.mark.parametrize("text", ["", " ", "\n\t \u2003"])
@pytest.mark.parametrize("call", ["ask", "stream", "send_message", "submit_message"])
def test_empty_text(talker: tuple[Sandbox, Client], call: str, text: str) -> None:
    sandbox, client = talker
    with pytest.raises(ConfigurationError, match="text is empty"):
        getattr(client, call)(text)
    assert client.ask("one").text == "one"
    assert len(sandbox.received.events("USER_MESSAGE")) == 1


@pytest.mark.parametrize("text", [None, 1, b"bytes", ["one"]])
@pytest.mark.parametrize("call", ["ask", "stream", "send_message", "submit_message"])
def test_text_that_is_none(
    talker: tuple[Sandbox, Client], call: str, text: Any
) -> None:
    sandbox, client = talker
    with pytest.raises(ConfigurationError, match="text must be a str, not"):
        getattr(client, call)(text)
    assert client.ask("one").text == "one"
    assert len(sandbox.received.events("USER_MESSAGE")) == 1


@pytest.mark.parametrize("call", ["ask", "stream", "send_message", "submit_message"])
def test_oversized_text(talker: tuple[Sandbox, Client], call: str) -> None:
    sandbox, client = talker
    with pytest.raises(MessageTooLargeError, match="send it in parts") as caught:
        getattr(client, call)("x" * 131_072)
    error = caught.value
    assert isinstance(error, ValueError)
    assert error.limit == 131_072
    assert error.size > error.limit
    assert client.ask("one").text == "one"
    assert len(sandbox.received.events("USER_MESSAGE")) == 1
    assert sandbox.session.connection_total == 1


def test_the_limit_is_counted_in_bytes_over_the_whole_frame() -> None:
    with talking(EchoAgent, settings={"max_message_size_bytes": 1000}) as (_, client):
        with pytest.raises(MessageTooLargeError) as caught:
            client.ask("ä" * 500)
        overhead = caught.value.size - 1000
        fits = 1000 - overhead
        assert client.ask("x" * fits).text == "x" * fits
        with pytest.raises(MessageTooLargeError) as caught:
            client.ask("x" * (fits + 1))
        assert (caught.value.size, caught.value.limit) == (1001, 1000)


def test_a_limit_of_nought_is_none() -> None:
    with talking(EchoAgent, settings={"max_message_size_bytes": 0}) as (_, client):
        assert len(client.send_message("x" * 300_000).text) == 300_000


def test_metadata_counts_too() -> None:
    with talking(EchoAgent, settings={"max_message_size_bytes": 1000}) as (_, client):
        with pytest.raises(MessageTooLargeError):
            client.ask("short", metadata={"long": "x" * 1000})
        assert client.ask("short").text == "short"


# Test metadata.


@pytest.mark.parametrize(
    "metadata",
    [{"a": 1}, {1: "a"}, {"a": None}, {"a": {"b": "c"}}, ["a"], "a", 1],
)
@pytest.mark.parametrize("call", ["ask", "stream", "send_message", "submit_message"])
def test_metadata_that_is_not_of_strings(
    talker: tuple[Sandbox, Client], call: str, metadata: Any
) -> None:
    sandbox, client = talker
    with pytest.raises(ConfigurationError, match="metadata must be"):
        getattr(client, call)("one", metadata=metadata)
    assert client.ask("two").text == "two"
    assert [m.text for m in sandbox.session.user_messages] == ["two"]


def test_empty_metadata_is_as_good_as_none(talker: tuple[Sandbox, Client]) -> None:
    _, client = talker
    assert client.ask("one", metadata={}).text == "one"


def test_metadata_is_taken_as_it_is_at_the_call(
    talker: tuple[Sandbox, Client],
) -> None:
    sandbox, client = talker
    with sandbox.outage():
        metadata = {"a": "before"}
        future = client.submit_message("one", metadata=metadata)
        metadata["a"] = "after"
    assert future.result(10).metadata["a"] == "before"


# Test timeouts.


BAD_TIMEOUTS = [-1, -0.001, math.nan, "1", True, [], -math.inf]


@pytest.mark.parametrize("timeout", BAD_TIMEOUTS)
def test_bad_timeouts_are_refused_by_every_call(
    talker: tuple[Sandbox, Client], timeout: Any
) -> None:
    sandbox, client = talker
    for call in (
        lambda: client.connect(timeout=timeout),
        lambda: client.ask("one", timeout=timeout),
        lambda: client.stream("one", timeout=timeout),
        lambda: client.send_message("one", timeout=timeout),
        lambda: client.receive(timeout=timeout),
        lambda: client.events(timeout=timeout),
        lambda: client.wait_for(timeout=timeout),
        lambda: client.end_session(timeout=timeout),
    ):
        with pytest.raises(ConfigurationError, match="timeout must be"):
            call()
    assert client.ask("two").text == "two"
    assert [m.text for m in sandbox.session.user_messages] == ["two"]
    assert not sandbox.session.ended


@pytest.mark.parametrize("timeout", [math.inf, 1e300, 10**400, 1e9])
def test_a_timeout_of_any_size_will_do(sandbox: Sandbox, timeout: float) -> None:
    client = client_of(sandbox, timeout=timeout, reply_timeout=timeout)
    with client:
        assert client.ask("one", timeout=timeout).text == "one"
        assert client.send_message("two", timeout=timeout).text == "two"
        assert client.receive(timeout=timeout).text
        next(client.events(replay=True, timeout=timeout))


def test_no_time_at_all(talker: tuple[Sandbox, Client]) -> None:
    _, client = talker
    with pytest.raises(TimeoutError):
        client.ask("one", timeout=0)
    with pytest.raises(TimeoutError):
        client.wait_for(timeout=0)
    # The reply to the first may still come, and then be taken for one to the second.
    assert client.ask("two").text in ("one", "two")


# Test callbacks.


def test_what_is_no_callback_is_refused(sandbox: Sandbox) -> None:
    client = client_of(sandbox)
    with pytest.raises(ConfigurationError, match="is no function"):
        client.on_agent_message("print")  # type: ignore[type-var]
    with pytest.raises(ConfigurationError, match="no event class"):
        client.on(str, print)
    with pytest.raises(ConfigurationError, match="no event class"):
        client.on("SESSION_END", print)  # type: ignore[arg-type]
