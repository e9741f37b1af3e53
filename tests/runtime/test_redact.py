"""Secrets: none gets through."""

from __future__ import annotations

import io
import logging
import pickle

import pytest

from polysync.runtime.redact import RedactingFilter, Secret, describe, redact

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "text",
    [
        "wss://host/ws?session_id=1&access_token=SECRET&cursor=2",
        "wss://host/ws?access_token=SECRET",
        "access_token%3DSECRET",
        '{"access_token": "SECRET", "expires_in": 1}',
        "{'access_token': 'SECRET'}",
        "connector_token='SECRET'",
        "X-Token: SECRET\r\nX-Host: https://a.example",
        "{'X-Token': 'SECRET', 'X-Host': 'a'}",
        "('x-token', 'SECRET')",
        "Authorization: Bearer SECRETSECRET",
        "{'Authorization': 'Bearer SECRETSECRET'}",
        "Proxy-Authorization: Basic SECRET==",
        "http://user:SECRET@proxy:3128",
        "https://SECRET@proxy",
        "the token is bearer SECRETSECRET, sorry",
    ],
)
def test_secrets_are_taken_out(text: str) -> None:
    """Wherever tokens and passwords usually stand, they do not show."""
    clean = redact(text)
    assert "SECRET" not in clean
    assert "***" in clean


def test_tokens_are_known_by_their_shape() -> None:
    """A JSON Web Token is taken out wherever it stands."""
    assert redact(f"got {JWT} from somewhere") == "got *** from somewhere"


def test_named_secrets_are_taken_out_anywhere() -> None:
    """A secret that is given is taken out though nothing marks it."""
    assert redact("plain hunter2 here", "hunter2", None, "") == "plain *** here"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://messaging.poly.ai/ws?session_id=1&cursor=2",
        "the access token was refused",
        "X-Host: https://www.example.com",
        "mail me at someone@example.com",
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    """What is no secret stays readable."""
    assert redact(text) == text


def test_redaction_is_idempotent() -> None:
    """Redacting twice is redacting once."""
    once = redact(
        f"http://u:p@h/?access_token={JWT} X-Token: a Authorization: Bearer b"
    )
    assert redact(once) == once


def test_secret_does_not_show_in_a_repr() -> None:
    """A secret is a string like any other, save for its repr."""
    secret = Secret("hunter2")
    assert secret == "hunter2"
    assert f"{secret}" == "hunter2"
    assert "hunter2" not in repr(secret)
    assert "hunter2" not in repr({"token": secret})
    assert pickle.loads(pickle.dumps(secret)) == secret


def test_describe_is_for_sentences() -> None:
    """An error's words come without number, full stop or secret."""
    assert describe(OSError(111, "Connection refused")) == "Connection refused"
    assert describe(ValueError("bad access_token=abc.")) == "bad access_token=***"
    assert describe(ValueError()) == "ValueError"


def test_filter_cleans_records_of_any_logger() -> None:
    """A handler with the filter writes no secret, in messages and in tracebacks."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.addFilter(RedactingFilter())
    logger = logging.Logger("some.library")
    logger.addHandler(handler)
    logger.warning("GET %s", "/ws?access_token=SECRET")
    logger.warning("nothing to hide: %s", 7)
    try:
        raise ValueError("X-Token: SECRET")
    except ValueError:
        logger.exception("failed")
    assert "SECRET" not in written.getvalue()
    assert "nothing to hide: 7" in written.getvalue()
    assert "ValueError" in written.getvalue()


def test_filter_lets_a_wrong_format_pass() -> None:
    """A record that cannot be formatted is left for logging to complain about."""
    record = logging.LogRecord("x", 30, "f", 1, "%d", ("text",), None)
    assert RedactingFilter().filter(record)
