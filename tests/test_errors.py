"""The error tree: one base, sentences, attributes, and a life in other processes."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest

import polysync
from polysync import errors

CLASSES = [getattr(errors, name) for name in errors.__all__]

FACTS: dict[str, dict[str, Any]] = {
    "MessageTooLargeError": {"size": 5, "limit": 4},
    "AuthenticationError": {"status": 401, "reason": "no", "correlation_id": "c"},
    "RateLimitError": {"retry_after": 2.5, "status": 429},
    "ServerError": {"status": 503, "reason": "down"},
    "ConnectionLostError": {"attempts": 3, "close_code": 1006},
    "SessionNotFoundError": {"session_id": "s"},
    "SessionTokenError": {"session_id": "s", "status": 401},
    "SessionEndedError": {"reason": "REASON_USER_END"},
    "DeliveryError": {"text": "t", "metadata": {"a": "b"}, "uncertain": True},
    "DeliveryTimeoutError": {"text": "t", "metadata": {"a": "b"}, "uncertain": True},
    "AgentError": {"transient": True},
    "ProtocolError": {"path": "$.payload"},
    "ConnectTimeoutError": {"timeout": 1.5},
    "ReplyTimeoutError": {"timeout": 1.5},
    "ReceiveTimeoutError": {"timeout": 1.5},
    "EndTimeoutError": {"timeout": 1.5},
}


def make(kind: type[errors.PolysyncError]) -> errors.PolysyncError:
    return kind("what happened: what to do", **FACTS.get(kind.__name__, {}))


@pytest.mark.parametrize("kind", CLASSES)
def test_all_have_one_base(kind: type[errors.PolysyncError]) -> None:
    assert issubclass(kind, errors.PolysyncError)


@pytest.mark.parametrize("kind", CLASSES)
def test_all_are_exported_at_the_top(kind: type[errors.PolysyncError]) -> None:
    assert getattr(polysync, kind.__name__) is kind


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_all_survive_a_pickle(kind: type[errors.PolysyncError], protocol: int) -> None:
    error = make(kind)
    other = pickle.loads(pickle.dumps(error, protocol))

    assert type(other) is kind
    assert str(other) == str(error)
    assert vars(other) == vars(error)
    for name, value in FACTS.get(kind.__name__, {}).items():
        assert getattr(other, name) == value


@pytest.mark.parametrize("kind", CLASSES)
def test_all_survive_a_copy(kind: type[errors.PolysyncError]) -> None:
    other = copy.deepcopy(make(kind))
    assert type(other) is kind
    assert vars(other) == vars(make(kind))


@pytest.mark.parametrize("kind", CLASSES)
def test_all_can_be_made_with_a_message_alone(
    kind: type[errors.PolysyncError],
) -> None:
    """Others raise them too, in tests for one."""
    assert "message" in str(kind("message"))
    assert isinstance(str(kind()), str)


@pytest.mark.parametrize("kind", CLASSES)
def test_all_say_what_they_are(kind: type[errors.PolysyncError]) -> None:
    doc = inspect.getdoc(kind)
    assert doc
    assert doc.splitlines()[0].endswith(".")


def test_the_tree_in_the_docstring_names_every_class() -> None:
    doc = errors.__doc__ or ""
    assert [name for name in errors.__all__ if name not in doc] == []


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        (errors.ConfigurationError, ValueError),
        (errors.MessageTooLargeError, ValueError),
        (errors.MessageTooLargeError, errors.ConfigurationError),
        (errors.ConnectTimeoutError, TimeoutError),
        (errors.ReplyTimeoutError, TimeoutError),
        (errors.ReceiveTimeoutError, TimeoutError),
        (errors.EndTimeoutError, TimeoutError),
        (errors.DeliveryTimeoutError, TimeoutError),
        (errors.DeliveryTimeoutError, errors.DeliveryError),
        (errors.SessionTokenError, errors.AuthenticationError),
        (errors.SessionTokenError, errors.SessionNotFoundError),
        (errors.ForkedError, errors.ClientClosedError),
    ],
)
def test_errors_are_also_what_a_caller_would_expect(
    kind: type[Exception], other: type[Exception]
) -> None:
    assert issubclass(kind, other)


def test_an_agent_error_says_whether_to_try_again() -> None:
    busy = errors.AgentError("Busy.", transient=True)
    assert str(busy) == (
        "the server answered with an error: Busy.; sending again in a few seconds "
        "may help"
    )
    assert busy.retryable
    final = errors.AgentError("Gone.")
    assert str(final) == "the server answered with an error: Gone."
    assert not final.retryable


def test_what_may_be_tried_again_says_so() -> None:
    retryable = {kind.__name__ for kind in CLASSES if kind("x").retryable}
    assert retryable == {
        "ConnectTimeoutError",
        "ConnectionLostError",
        "DeliveryError",
        "DeliveryTimeoutError",
        "EndTimeoutError",
        "PolysyncTimeoutError",
        "RateLimitError",
        "ReceiveTimeoutError",
        "ReplyTimeoutError",
        "ServerError",
    }


def test_the_metadata_of_a_failed_delivery_is_a_copy() -> None:
    given = {"a": "b"}
    error = errors.DeliveryError("x", metadata=given)
    given["a"] = "c"
    assert error.metadata == {"a": "b"}
    assert errors.DeliveryError("x").metadata == {}
