"""Checks what is passed to calls, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping

from polysync.errors import ConfigurationError
from polysync.events import Event
from polysync.models import TypingState

__all__ = ["checked_metadata", "checked_text", "checked_types", "checked_typing"]

_TYPING = {
    "started": TypingState.STARTED,
    "stopped": TypingState.STOPPED,
    TypingState.STARTED: TypingState.STARTED,
    TypingState.STOPPED: TypingState.STOPPED,
}


def checked_text(text: str) -> str:
    if not isinstance(text, str):
        raise ConfigurationError(f"text must be a str, not {type(text).__name__}")
    if not text.strip():
        raise ConfigurationError("text is empty: the server takes no empty message")
    return text


def checked_metadata(metadata: Mapping[str, str] | None) -> Mapping[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise ConfigurationError(
            f"metadata must be a mapping of str to str, not {type(metadata).__name__}"
        )
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ConfigurationError(
                f"metadata must be str to str: {key!r} is not, make it a string"
            )
    return dict(metadata)


def checked_types(types: tuple[type[Event], ...]) -> tuple[type[Event], ...]:
    for kind in types:
        if not (isinstance(kind, type) and issubclass(kind, Event)):
            raise ConfigurationError(
                f"{kind!r} is no event class: use those of polysync.events"
            )
    return types


def checked_typing(state: str) -> TypingState:
    """Return the state that a word stands for."""
    try:
        return _TYPING[state]
    except (KeyError, TypeError):
        raise ConfigurationError(
            f"state must be 'started' or 'stopped', not {state!r}"
        ) from None
