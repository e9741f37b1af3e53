"""The chat in plain lines: for files, pipes and terminals without any abilities."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from polysync.cli.notices import notice
from polysync.cli.readable import readable, readable_line
from polysync.cli.typed import numbered
from polysync.cli.view import LineView
from polysync.events import Event, LiveAgentMessage, PolyAgentMessage, UserMessage
from polysync.models import (
    Attachment,
    ChatCallAction,
    ResponseSuggestion,
)

__all__ = ["PlainView"]


class PlainView(LineView):
    """Writes each message when it is whole; news of the connection go to stderr."""

    def __init__(self) -> None:
        super().__init__()
        # Where both ends are a terminal, what was typed stands there already.
        self._echoing = not (self._typed and sys.stdout.isatty())

    def opened(self, name: str) -> None:
        if self._typed:
            self.say(f"connected to {name}; type a message, or /help")

    def event(self, event: Event) -> None:
        if isinstance(event, (PolyAgentMessage, LiveAgentMessage)):
            self.write(self._message(event))
        elif isinstance(event, UserMessage):
            if self._echoing:
                self.write(_said("You", event.text))
        else:
            shown = notice(event)
            if shown is not None:
                word = "" if shown.level == "info" else f"{shown.level}: "
                kind = "system: " if shown.kind == "system" else ""
                self.write(_said("*", f"{kind}{word}{shown.text}", mark=" "))

    def tell_history(self) -> None:
        lines = ["* The conversation so far:"]
        for item in self.conversation.client.transcript:
            name = {
                "user": "You",
                "agent": readable_line(item.agent_name) or "Agent",
                "live_agent": readable_line(item.agent_name) or "Live agent",
            }.get(item.role, "* system")
            note = "" if item.complete else " (broke off)"
            note += {"pending": " (sending)", "failed": " (not sent)"}.get(
                item.delivery or "", ""
            )
            lines.append(_said(name, item.text + note))
            lines += _cards(item.attachments, item.chat_call_actions)
        lines.append("* That was it.")
        self.write("\n".join(lines))

    def _message(self, message: PolyAgentMessage | LiveAgentMessage) -> str:
        note = "" if message.complete else " (broke off)"
        lines = [_said(self.conversation.speaker(message), message.text + note)]
        lines += _cards(message.attachments, message.chat_call_actions)
        lines += suggestion_lines(message.response_suggestions)
        return "\n".join(lines)


def suggestion_lines(suggestions: Iterable[ResponseSuggestion]) -> list[str]:
    """Return the lines that offer suggestions, with the numbers that pick them."""
    texts = [suggestion.message_text for suggestion in suggestions]
    if not texts:
        return []
    shown = [readable_line(text) for text in texts]
    if not numbered(texts):
        return ["  (" + " | ".join(shown) + ")"]
    return [f"  {number}) {text}" for number, text in enumerate(shown, start=1)]


def _said(name: str, text: str, mark: str = ": ") -> str:
    first, *rest = readable(text).strip().split("\n")
    return "\n".join([f"{name}{mark}{first}", *(f"  {line}".rstrip() for line in rest)])


def _cards(
    attachments: Iterable[Attachment], calls: Iterable[ChatCallAction]
) -> list[str]:
    pairs = [
        (card.title or card.call_to_action_text, card.content_url)
        for card in attachments
    ]
    pairs += [(call.title, call.contact_number) for call in calls]
    return [
        "  - " + ": ".join(filter(None, map(readable_line, pair)))
        for pair in pairs
        if any(pair)
    ]
