"""The life of a conversation as a table: which phase follows from what happens.

Two rules. Everything that decides whether a conversation may connect, speak or come
back is in `TABLE`; and this module knows nothing of frames, sockets or time.

Theory. A conversation begins IDLE. START asks for an access token and a session
(STARTING); with a session there is something to connect to (CONNECTING). An open
socket first brings the history (REPLAYING); when that has settled, the conversation
is OPEN. Losing the socket is an accident of the network and never ends a session: it
leads to LOST, and a RETRY from there to CONNECTING with the same session, token and
cursor. While it is LOST nothing comes, so nothing can end it but the user. Only three
things end it for good: the server says so (ENDED), the server
refuses the session or the attempts are used up (FAILED), or the user closes (CLOSED).

An error at the start is not remembered: START_FAILED leads back to IDLE, and FAILED
takes a START or a RESUME, so that the next call may try again. ENDED and CLOSED are
final, and closing again is no step: another session is another conversation.

Whoever adds a phase gives it a row, a public status in `STATUS`, and a line in the
topic page on states, which is drawn from this table.
"""

from __future__ import annotations

import enum

from polysync.models import ConnectionStatus

__all__ = ["STATUS", "TABLE", "Happening", "Phase", "advance"]


class Phase(enum.Enum):
    """Where a conversation is in its life."""

    IDLE = "idle"
    STARTING = "starting"
    CONNECTING = "connecting"
    REPLAYING = "replaying"
    OPEN = "open"
    LOST = "lost"
    ENDED = "ended"
    FAILED = "failed"
    CLOSED = "closed"

    # Enum's own hash is a Python function; the identity is as good, and phases are
    # looked up for every frame.
    __hash__ = object.__hash__


class Happening(enum.Enum):
    """What moves a conversation from phase to phase."""

    START = "a new session is asked for"
    RESUME = "a known session is to be connected to"
    START_FAILED = "no access token or no session"
    SOCKET_OPENED = "the handshake succeeded"
    REPLAY_SETTLED = "the history is complete"
    SOCKET_LOST = "the connection is gone"
    RETRY = "the backoff is over"
    REFUSED = "the server does not take the session"
    BUDGET_SPENT = "too many attempts in a row failed"
    SESSION_ENDED = "the conversation is over"
    CLOSE = "the user closes"

    __hash__ = object.__hash__


P, H = Phase, Happening

TABLE: dict[Phase, dict[Happening, Phase]] = {
    P.IDLE: {
        H.START: P.STARTING,
        H.RESUME: P.CONNECTING,
        H.CLOSE: P.CLOSED,
    },
    P.STARTING: {
        H.RESUME: P.CONNECTING,
        H.START_FAILED: P.IDLE,
        H.CLOSE: P.CLOSED,
    },
    P.CONNECTING: {
        H.SOCKET_OPENED: P.REPLAYING,
        H.SOCKET_LOST: P.LOST,
        H.START_FAILED: P.IDLE,
        H.REFUSED: P.FAILED,
        H.BUDGET_SPENT: P.FAILED,
        H.CLOSE: P.CLOSED,
    },
    P.REPLAYING: {
        H.REPLAY_SETTLED: P.OPEN,
        H.SOCKET_LOST: P.LOST,
        H.START_FAILED: P.IDLE,
        H.REFUSED: P.FAILED,
        H.BUDGET_SPENT: P.FAILED,
        H.SESSION_ENDED: P.ENDED,
        H.CLOSE: P.CLOSED,
    },
    P.OPEN: {
        H.SOCKET_LOST: P.LOST,
        H.START_FAILED: P.IDLE,
        H.REFUSED: P.FAILED,
        H.BUDGET_SPENT: P.FAILED,
        H.SESSION_ENDED: P.ENDED,
        H.CLOSE: P.CLOSED,
    },
    P.LOST: {
        H.RETRY: P.CONNECTING,
        H.START_FAILED: P.IDLE,
        H.CLOSE: P.CLOSED,
    },
    P.ENDED: {},
    P.FAILED: {
        H.START: P.STARTING,
        H.RESUME: P.CONNECTING,
        H.CLOSE: P.CLOSED,
    },
    P.CLOSED: {},
}

#: What users see of a phase. A conversation that was open before shows RECONNECTING
#: instead of CONNECTING until it is open again.
STATUS: dict[Phase, ConnectionStatus] = {
    P.IDLE: ConnectionStatus.IDLE,
    P.STARTING: ConnectionStatus.CONNECTING,
    P.CONNECTING: ConnectionStatus.CONNECTING,
    P.REPLAYING: ConnectionStatus.CONNECTING,
    P.OPEN: ConnectionStatus.OPEN,
    P.LOST: ConnectionStatus.RECONNECTING,
    P.ENDED: ConnectionStatus.CLOSED,
    P.FAILED: ConnectionStatus.FAILED,
    P.CLOSED: ConnectionStatus.CLOSED,
}


def advance(phase: Phase, happening: Happening) -> Phase:
    """Return the phase that follows.

    Raises:
        AssertionError: The table has no such step, which is a bug of polysync.
    """
    try:
        return TABLE[phase][happening]
    except KeyError:
        raise AssertionError(
            f"no step for {happening.name} in {phase.name}: the conversation asks only "
            "for what its phase allows"
        ) from None
