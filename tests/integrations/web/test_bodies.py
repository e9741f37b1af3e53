"""What a page may post, and how it hears what went wrong."""

from __future__ import annotations

import contextlib
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysync import errors
from polysync.integrations.web.bodies import (
    MAX_BODY,
    PageMessage,
    RequestError,
    error_body,
    read_message,
    read_object,
    read_start,
    read_typing,
    request_error,
)
from polysync.integrations.web.wire import CLIENT_ID_KEY
from polysync.models import TypingState

JSON = "application/json"


def test_a_message_is_read() -> None:
    """The text is trimmed; the client's id goes into the metadata."""
    body = json.dumps({"text": " Grüße\n", "client_id": "a-1"}).encode()
    assert read_message(body, "Application/JSON; charset=utf-8") == PageMessage(
        "Grüße", "a-1", {CLIENT_ID_KEY: "a-1"}
    )
    assert read_message(b'{"text": "x"}', JSON) == PageMessage("x")
    assert read_message(b'{"text": "\\ud800x\\u0000"}', JSON).text == "?x"


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"", JSON, 400, "bad_json"),
        (b"{", JSON, 400, "bad_json"),
        (b"\xff", JSON, 400, "bad_json"),
        (b"[" * 100_000, JSON, 400, "bad_json"),
        (b"[]", JSON, 400, "bad_json"),
        (b"null", JSON, 400, "bad_json"),
        (b" " * (MAX_BODY + 1), JSON, 413, "too_large"),
        (b'{"text": "x"}', None, 415, "bad_type"),
        (b'{"text": "x"}', "", 415, "bad_type"),
        (b'{"text": "x"}', "text/plain", 415, "bad_type"),
        (b"text=x", "application/x-www-form-urlencoded", 415, "bad_type"),
        (b"{}", JSON, 422, "bad_value"),
        (b'{"text": 1}', JSON, 422, "bad_value"),
        (b'{"text": ""}', JSON, 422, "empty"),
        (b'{"text": " \\n\\u0000 "}', JSON, 422, "empty"),
        (b'{"text": "x", "client_id": 1}', JSON, 422, "bad_value"),
        (b'{"text": "x", "client_id": ""}', JSON, 422, "bad_value"),
        (b'{"text": "x", "client_id": "a b"}', JSON, 422, "bad_value"),
        (b'{"text": "x", "client_id": "a\\n"}', JSON, 422, "bad_value"),
    ],
)
def test_a_bad_message_is_refused(
    body: bytes, content_type: str | None, status: int, code: str
) -> None:
    """Each fault has its own status and code."""
    with pytest.raises(RequestError) as caught:
        read_message(body, content_type)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert caught.value.body() == error_body(code, caught.value.message)


@given(st.binary(max_size=200) | st.text().map(str.encode), st.none() | st.text())
def test_any_body_is_read_or_refused(body: bytes, content_type: str | None) -> None:
    """Nothing but a RequestError comes out of a body that nobody expected."""
    for kind in (JSON, content_type):
        with contextlib.suppress(RequestError):
            assert isinstance(read_object(body, kind), dict)


def test_typing_and_start_are_read() -> None:
    """The small bodies take their values and nothing else."""
    assert read_typing(b'{"state": "started"}', JSON) is TypingState.STARTED
    assert read_typing(b'{"state": "stopped"}', JSON) is TypingState.STOPPED
    assert read_start(b"{}", JSON) is False
    assert read_start(b'{"new": true}', JSON) is True
    for read, body in ((read_typing, b"{}"), (read_start, b'{"new": 1}')):
        with pytest.raises(RequestError) as caught:
            read(body, JSON)
        assert caught.value.status == 422


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.MessageTooLargeError(size=2, limit=1), 413),
        (errors.SessionEndedError(), 409),
        (errors.SessionNotFoundError(), 410),
        (errors.SessionTokenError(), 410),
        (errors.RateLimitError(retry_after=7.2), 429),
        (errors.DeliveryTimeoutError(), 504),
        (errors.ConnectTimeoutError(), 504),
        (errors.ConnectionLostError(), 503),
        (errors.ClientClosedError(), 503),
        (errors.DeliveryError(), 502),
        (errors.AuthenticationError(), 502),
        (errors.AgentError("x"), 502),
        (errors.ServerError(), 502),
        (errors.ConfigurationError(), 502),
    ],
)
def test_a_client_s_error_becomes_an_answer(
    error: errors.PolysyncError, status: int
) -> None:
    """The status tells the page what to do; the error's own words stay inside."""
    error.args = ("token abc at host internal.example",)
    answer = request_error(error)
    assert answer.status == status
    assert "abc" not in json.dumps(answer.body())
    if status == 429:
        assert answer.headers == {"Retry-After": "7"}


def test_a_request_error_survives_a_pickle() -> None:
    """All that it carries comes back."""
    error = RequestError(429, "busy", "Wait.", {"Retry-After": "3"})
    again = pickle.loads(pickle.dumps(error))
    assert vars(again) == vars(error)
    assert str(again) == "Wait."
