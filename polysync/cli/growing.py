"""What is not finished in a chat: a growing reply, who types, what is on its way."""

from __future__ import annotations

from polysync import events
from polysync.models import TypingState

__all__ = ["Growing"]


class Growing:
    """The unfinished part of a chat. Not thread-safe: whoever shares it has a lock.

    Attributes:
        reply: What has come so far of a reply in chunks.
        typing: Whether somebody at the other end is preparing a message.
        sending: The user's messages without a receipt.
    """

    def __init__(self) -> None:
        self.reply = ""
        self.typing = False
        self.sending: list[str] = []

    def event(self, event: events.Event) -> None:
        """Take note of what has come."""
        if isinstance(event, events.PolyAgentMessageChunk):
            self.reply += event.text
            self.typing = True
        elif isinstance(event, events.PolyAgentThinking):
            self.typing = True
        elif isinstance(event, events.LiveAgentTyping):
            self.typing = event.state != TypingState.STOPPED
        elif isinstance(event, events.UserMessage):
            self.forget(event.text)
        elif isinstance(event, _SILENCING):
            self.reply, self.typing = "", False

    def forget(self, text: str) -> None:
        """A message is on its way no more."""
        if text in self.sending:
            self.sending.remove(text)


_SILENCING = (
    events.PolyAgentMessage,
    events.LiveAgentMessage,
    events.PolyAgentLeft,
    events.LiveAgentLeft,
    events.SystemMessage,
    events.SessionEnd,
)
