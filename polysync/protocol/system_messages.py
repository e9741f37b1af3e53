"""What the server's error-level system messages mean, by their text.

The protocol gives them no code, so the text is all there is to go by. A text that is
not listed means no more than it says.
"""

from __future__ import annotations

import enum

__all__ = ["Trouble", "trouble"]


class Trouble(enum.Enum):
    """What an error-level system message is about."""

    MISTAKE = "the client sent something that is not allowed"
    BUSY = "the server is under load"
    NOT_STARTED = "the agent did not start"
    NO_REPLY = "the reply failed"
    SESSION_GONE = "the session is gone"
    UNAVAILABLE = "the session could not be read"
    MISCONFIGURED = "the connector is gone"
    NO_CONVERSATION = "no agent is in the conversation"
    HANDOFF = "the handoff failed"
    OTHER = "something else"

    @property
    def transient(self) -> bool:
        """Whether sending again in a few seconds may succeed."""
        return self in _TRANSIENT


_TRANSIENT = frozenset(
    {
        Trouble.BUSY,
        Trouble.NOT_STARTED,
        Trouble.NO_REPLY,
        Trouble.UNAVAILABLE,
        Trouble.NO_CONVERSATION,
        Trouble.HANDOFF,
    }
)

# Beginnings of the texts, in lower case, without the "Error: " that some carry.
_BEGINNINGS = (
    ("unknown event type", Trouble.MISTAKE),
    ("event type not allowed", Trouble.MISTAKE),
    ("our system is experiencing high load", Trouble.BUSY),
    ("sorry, i'm unable to start a conversation", Trouble.NOT_STARTED),
    ("sorry, i'm having trouble responding", Trouble.NO_REPLY),
    ("sorry, i encountered an error", Trouble.NO_REPLY),
    ("session not found", Trouble.SESSION_GONE),
    ("unable to retrieve session", Trouble.UNAVAILABLE),
    ("connector not found", Trouble.MISCONFIGURED),
    ("conversation not found", Trouble.NO_CONVERSATION),
    ("conversation id not found in session", Trouble.NO_CONVERSATION),
    ("sorry, we could not connect you to an agent", Trouble.HANDOFF),
    ("failed to forward message to live agent", Trouble.HANDOFF),
    ("sorry, handoff could not be initiated", Trouble.HANDOFF),
)


def trouble(message: str) -> Trouble:
    """Return what the text of an error-level system message is about."""
    text = message.strip().lower().replace("\u2019", "'").removeprefix("error: ")
    for beginning, kind in _BEGINNINGS:
        if text.startswith(beginning):
            return kind
    return Trouble.OTHER
