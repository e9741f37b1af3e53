"""What it takes to go on with a conversation elsewhere: `SessionState`."""

from __future__ import annotations

import json
from collections.abc import Callable

import attrs

from polysync.errors import ConfigurationError
from polysync.models import Value

__all__ = ["SessionState"]

_VERSION = 1


@attrs.frozen(eq=False, repr=False, kw_only=True)
class SessionState(Value):
    """A conversation as `Client.resume` takes it up again, in any process.

    It holds the access token that the session is bound to, which is a secret: keep it
    in a server-side store, never in a cookie, a page or a log. ``repr`` leaves the
    token out; `to_json` and ``pickle`` keep it.
    """

    #: The session, a UUID.
    session_id: str
    #: The very access token that the session was created with.
    access_token: str = attrs.field(repr=False)
    #: Address of the server, such as ``https://messaging.us-1.poly.ai``.
    base_url: str
    #: Highest sequence that was delivered; what comes after it is replayed.
    cursor: int | None = None
    #: Whether the agent has joined, in this or an earlier life of the session.
    joined: bool = False
    #: Whether the session was created with streaming.
    streaming: bool = True
    agent_name: str | None = None
    agent_avatar_url: str | None = None
    #: Id, name and portrait of the human who has taken over, if one has.
    live_agent: tuple[str | None, str | None, str | None] | None = None
    language: str | None = None
    context_id: str | None = None
    #: Seconds between heartbeats, as the server asked for.
    heartbeat_interval: float | None = None
    #: Largest frame in bytes, as the server asked for.
    max_message_size: int | None = None
    #: Reconnection attempts, as the server asked for.
    max_reconnects: int | None = None

    def to_json(self) -> str:
        """Return the state as a JSON object of one line, the access token included."""
        return json.dumps({"version": _VERSION, **attrs.asdict(self)})

    @classmethod
    def from_json(cls, text: str | bytes) -> SessionState:
        """Read what `to_json` wrote.

        Raises:
            ConfigurationError: It is not a session state, or one of a newer version.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            # Nothing of the text goes into the error: it may hold the token.
            raise ConfigurationError("not a session state: no JSON") from None
        if not isinstance(data, dict) or data.get("version") != _VERSION:
            raise ConfigurationError(
                f"not a session state of version {_VERSION}: it was written by "
                "another version of polysync, or is something else"
            )
        values = {name: data[name] for name in _CHECKS if name in data}
        for name in ("session_id", "access_token", "base_url"):
            if not values.get(name):
                raise ConfigurationError(f"not a session state: {name} is missing")
        for name, value in values.items():
            if not _CHECKS[name](value):
                raise ConfigurationError(f"not a session state: {name} is spoilt")
        if values.get("live_agent") is not None:
            values["live_agent"] = tuple(values["live_agent"])
        return cls(**values)


def _text(value: object) -> bool:
    return isinstance(value, str)


def _text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _count_or_none(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _number_or_none(value: object) -> bool:
    return isinstance(value, float) or _count_or_none(value)


def _agent_or_none(value: object) -> bool:
    return value is None or (
        isinstance(value, list) and len(value) == 3 and all(map(_text_or_none, value))
    )


# A store may be written to by others, and an odd value would only show much later.
_CHECKS: dict[str, Callable[[object], bool]] = {
    "session_id": _text,
    "access_token": _text,
    "base_url": _text,
    "cursor": _count_or_none,
    "joined": _flag,
    "streaming": _flag,
    "agent_name": _text_or_none,
    "agent_avatar_url": _text_or_none,
    "live_agent": _agent_or_none,
    "language": _text_or_none,
    "context_id": _text_or_none,
    "heartbeat_interval": _number_or_none,
    "max_message_size": _count_or_none,
    "max_reconnects": _count_or_none,
}
