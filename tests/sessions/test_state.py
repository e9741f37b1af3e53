"""What it takes to go on elsewhere: JSON and back, and no secret in sight."""

from __future__ import annotations

import json
import pickle
from typing import Any

import attrs
import pytest

from polysync import ConfigurationError, SessionState
from polysync.sessions.state import _CHECKS

STATE = SessionState(
    session_id="0e6c6a5e-5d55-4b7e-8d0f-2f3a6a3b1c11",
    access_token="eyJhbGciOi.secret.token",
    base_url="https://messaging.us-1.poly.ai",
    cursor=2**60,
    joined=True,
    streaming=False,
    agent_name="Ana",
    agent_avatar_url="https://example.com/a.png",
    live_agent=("7", "Sam", None),
    language="pt-BR",
    context_id="context",
    heartbeat_interval=0,
    max_message_size=1000,
    max_reconnects=3,
)

LEAST = SessionState(session_id="s", access_token="t", base_url="https://a.example")


@pytest.mark.parametrize("state", [STATE, LEAST])
def test_json_and_back(state: SessionState) -> None:
    text = state.to_json()
    assert "\n" not in text
    assert SessionState.from_json(text) == state
    assert SessionState.from_json(text.encode()) == state


@pytest.mark.parametrize("state", [STATE, LEAST])
def test_pickle_and_back(state: SessionState) -> None:
    assert pickle.loads(pickle.dumps(state)) == state


def test_json_is_plain() -> None:
    data = json.loads(STATE.to_json())
    assert data["session_id"] == STATE.session_id
    assert data["live_agent"] == ["7", "Sam", None]
    assert data["version"] == 1


def test_repr_hides_the_access_token() -> None:
    for text in (repr(STATE), str(STATE), f"{STATE}", f"{STATE!r}"):
        assert "secret" not in text
        assert STATE.session_id in text


def test_every_field_is_checked() -> None:
    assert [field.name for field in attrs.fields(SessionState)] == list(_CHECKS)


def test_states_do_not_change() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        STATE.cursor = 1  # type: ignore[misc]


def test_what_a_later_version_adds_is_passed_over() -> None:
    data = {**json.loads(LEAST.to_json()), "mood": "sunny"}
    assert SessionState.from_json(json.dumps(data)) == LEAST


def test_what_an_earlier_version_lacks_has_a_default() -> None:
    data = {
        "version": 1,
        "session_id": "s",
        "access_token": "t",
        "base_url": "https://a.example",
    }
    assert SessionState.from_json(json.dumps(data)) == LEAST


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '"state"',
        "{}",
        '{"version": 2}',
        "{secret",
        b"\xff",
        "[" * 100_000,
        '{"version": 1}',
        '{"version": 1, "session_id": "s", "access_token": "secret"}',
        '{"version": 1, "session_id": 1, "access_token": "secret", "base_url": "x"}',
        '{"version": 1, "session_id": "s", "access_token": ["secret"], "base_url": ""}',
    ],
)
def test_what_is_no_state_is_refused_without_being_shown(text: str | bytes) -> None:
    with pytest.raises(ConfigurationError, match="not a session state") as caught:
        SessionState.from_json(text)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cursor", "5"),
        ("cursor", -1.5),
        ("cursor", True),
        ("joined", "yes"),
        ("streaming", None),
        ("agent_name", 5),
        ("live_agent", "Sam"),
        ("live_agent", ["7", "Sam"]),
        ("live_agent", [1, 2, 3]),
        ("heartbeat_interval", "30"),
        ("max_message_size", 1.5),
        ("max_reconnects", []),
        ("session_id", ""),
        ("base_url", 3),
    ],
)
def test_a_spoilt_state_is_refused_where_it_is_read(name: str, value: Any) -> None:
    """It comes from a store that others may write to."""
    data = {**json.loads(STATE.to_json()), name: value}
    with pytest.raises(ConfigurationError, match=name):
        SessionState.from_json(json.dumps(data))
