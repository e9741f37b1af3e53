"""What can go wrong, and where: the vocabulary of the sandbox's faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeAlias

import attrs

from polysync.sandbox.wire import Event

__all__ = [
    "Action",
    "Arrange",
    "Close",
    "Cut",
    "Delay",
    "Drop",
    "Duplicate",
    "Fail",
    "Freeze",
    "Inject",
    "Moment",
    "Postpone",
    "Refuse",
    "Rewrite",
    "Swallow",
]


class Moment(Enum):
    """The steps at which the sandbox asks whether something is to go wrong.

    A moment that has to do with an event is armed for one type of event or for all.
    """

    ACCESS_TOKEN = "a request for an access token has come"
    SESSION = "a request for a session has come"
    HANDSHAKE = "a request for a WebSocket has come"
    REPLAY = "the history is about to be sent on a new connection"
    RECEIVE = "an event has come from the client, and nothing was done about it yet"
    RECORDED = "the client's event is in the history, and not yet echoed"
    SEND = "a frame is about to be sent"
    SENT = "a frame has been sent"
    JOIN = "the agent is about to join"
    REPLY = "the agent is about to reply"


@attrs.frozen
class Refuse:
    """Answer an HTTP request or a handshake with this instead.

    Args:
        status: The HTTP status.
        body: The body as it stands; by default ``{"error": <error>}``.
        error: The error's text.
        headers: More headers, for example ``Retry-After``.
        content_type: The type of the body.
    """

    status: int
    body: str | None = None
    error: str = "refused on demand"
    headers: Mapping[str, str] = attrs.field(factory=dict)
    content_type: str = "application/json"


@attrs.frozen
class Delay:
    """Wait this many seconds, then go on."""

    seconds: float


@attrs.frozen
class Drop:
    """End the TCP connection without a close frame: reset it, or just end it."""

    reset: bool = True


@attrs.frozen
class Close:
    """Close the WebSocket properly, with a code."""

    code: int = 1011
    reason: str = ""


@attrs.frozen
class Cut:
    """Send only the first half of the frame's bytes, then reset the connection."""


@attrs.frozen
class Freeze:
    """Neither read nor write from here on, and keep the TCP connection open."""


@attrs.frozen
class Swallow:
    """Act as if the frame had never been."""


@attrs.frozen
class Duplicate:
    """Send the frame this many times more."""

    copies: int = 1


@attrs.frozen
class Postpone:
    """Send the frame only after this many later ones."""

    by: int = 1


@attrs.frozen
class Inject:
    """Send something of your own first.

    Args:
        data: A string goes as a text frame, bytes as a binary frame.
        raw: Whether `data` goes onto the TCP connection as it is, without a frame.
    """

    data: str | bytes
    raw: bool = False


@attrs.frozen
class Rewrite:
    """Send what `function` makes of the event: an event, or a frame as it stands."""

    function: Callable[[Event], Event | str | bytes]


@attrs.frozen
class Arrange:
    """Send the history in the batches that `function` makes of it.

    An action in the place of a batch is done when its turn comes.
    """

    function: Callable[[list[Event]], Sequence[list[Event] | Action]]


@attrs.frozen
class Fail:
    """Say this in a system message of level error, instead of the agent."""

    message: str


Action: TypeAlias = (
    Refuse
    | Delay
    | Drop
    | Close
    | Cut
    | Freeze
    | Swallow
    | Duplicate
    | Postpone
    | Inject
    | Rewrite
    | Arrange
    | Fail
)

# Which actions mean something at which moment: a fault that could never do anything
# is a mistake in the test that arms it.
_HTTP = (Refuse, Delay, Drop, Freeze)
_LINE = (Delay, Drop, Close, Freeze, Inject)
POSSIBLE: Mapping[Moment, tuple[type[Any], ...]] = {
    Moment.ACCESS_TOKEN: _HTTP,
    Moment.SESSION: _HTTP,
    Moment.HANDSHAKE: _HTTP,
    Moment.REPLAY: (*_LINE, Arrange),
    Moment.RECEIVE: (*_LINE, Swallow),
    Moment.RECORDED: (*_LINE, Swallow),
    Moment.SEND: (*_LINE, Cut, Swallow, Duplicate, Postpone, Rewrite),
    Moment.SENT: _LINE,
    Moment.JOIN: (Delay, Fail),
    Moment.REPLY: (Delay, Fail, Swallow),
}
