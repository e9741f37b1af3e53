"""Context that a backend signs."""

from __future__ import annotations

import sys
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysync import ConfigurationError, sign_context

SECRET = "00ff" * 16


def sign(context: Any, **changes: Any) -> str:
    return sign_context(
        changes.pop("context_id", "ctx-1"),
        context,
        **{"key_id": "key-1", "secret": SECRET, **changes},
    )


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        token, SECRET, algorithms=["HS256"], options={"verify_exp": False}
    )
    return claims


def test_the_token_says_what_the_server_wants_to_know() -> None:
    """HS256 with the key's id; subject, times and context among the claims."""
    token = sign(
        {"name": "Ada", "vip": True, "age": 36, "score": 0.5, "note": None},
        now=1_000_000.9,
    )
    assert jwt.get_unverified_header(token) == {
        "alg": "HS256",
        "kid": "key-1",
        "typ": "JWT",
    }
    assert claims_of(token) == {
        "sub": "ctx-1",
        "iat": 1_000_000,
        "exp": 1_000_030,
        "ctx": {"name": "Ada", "vip": True, "age": 36, "score": 0.5, "note": None},
    }


def test_the_secret_is_used_as_the_text_that_it_is() -> None:
    """Never decoded from hexadecimal."""
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(sign({}), bytes.fromhex(SECRET), algorithms=["HS256"])


def test_the_token_is_valid_now() -> None:
    """By the system's clock, for as long as was asked."""
    claims = jwt.decode(sign({}, lifetime=5), SECRET, algorithms=["HS256"])
    assert claims["exp"] - claims["iat"] == 5


@pytest.mark.parametrize(
    "context",
    [
        {"a": {"b": 1}},
        {"a": [1]},
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": 10**9000},
        {1: "a"},
        {"a": b"bytes"},
        ["a"],
        "a",
        None,
        {"a": "x" * 8192},
        {"a": "\N{SNOWMAN}" * 3000},
    ],
)
def test_a_context_that_the_server_refuses_is_refused_here(context: Any) -> None:
    """Nested, not JSON, or too large."""
    with pytest.raises(ConfigurationError):
        sign(context)


@pytest.mark.parametrize(
    "wrong",
    [
        {"context_id": ""},
        {"context_id": None},
        {"key_id": ""},
        {"key_id": None},
        {"secret": ""},
        {"secret": None},
        {"lifetime": 0},
        {"lifetime": 0.5},
        {"lifetime": 31},
        {"lifetime": True},
        {"lifetime": float("nan")},
        {"lifetime": "30"},
        {"key_id": "k" * 20_000},
        {"secret": SECRET + "\udcff"},  # bytes of the environment that are no UTF-8
    ],
)
def test_wrong_arguments_are_refused_without_the_secret(wrong: dict[str, Any]) -> None:
    """With a configuration error that names what is wrong."""
    with pytest.raises(ConfigurationError) as caught:
        sign({}, **wrong)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_without_pyjwt_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra, by its name."""
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(ConfigurationError, match=r"polysync\[context\]"):
        sign({})


@given(
    st.dictionaries(
        st.text(max_size=20),
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=50)
        | st.floats(allow_nan=False, allow_infinity=False),
        max_size=8,
    )
)
def test_any_flat_context_comes_through(context: dict[str, Any]) -> None:
    """Or it is refused as too large; nothing else."""
    try:
        token = sign(context)
    except ConfigurationError:
        return
    assert claims_of(token)["ctx"] == context
