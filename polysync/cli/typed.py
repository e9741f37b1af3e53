"""What a typed line means: a message, a suggestion's number, or a command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import attrs

__all__ = [
    "COMMANDS",
    "Misunderstood",
    "Order",
    "Say",
    "Typed",
    "numbered",
    "understand",
]

#: The commands, with their argument and what they do.
COMMANDS = (
    ("/help", "list the commands"),
    ("/history", "show the conversation so far"),
    ("/1, /2, …", "send a suggestion; its number alone does the same"),
    ("/detach FILE", "leave, and keep the conversation for chat --resume FILE"),
    ("/end, /quit", "end the conversation and leave (as ^C and ^D do)"),
    ("//text", "send a message that begins with a slash"),
)
_NAMES = frozenset({"help", "history", "detach", "end", "quit"})


@attrs.frozen
class Say:
    """A message to send."""

    text: str


@attrs.frozen
class Order:
    """A command, and the rest of its line."""

    name: str
    argument: str = ""


@attrs.frozen
class Misunderstood:
    """A command that is none, and what to do instead."""

    reason: str


Typed: TypeAlias = Say | Order | Misunderstood


def numbered(suggestions: Sequence[str]) -> bool:
    """Whether suggestions can be picked by a bare number.

    Not when one of them is a number itself: to "for how many?", ``2`` means two.
    """
    return not any(text.strip().isdecimal() for text in suggestions)


def understand(
    line: str, suggestions: Sequence[str] = (), *, bare_numbers: bool = True
) -> Typed | None:
    """Return what a line means; nothing for an empty one.

    Args:
        line: What was typed.
        suggestions: The texts that the agent has offered last.
        bare_numbers: Whether a number without a slash picks a suggestion.
    """
    text = line.strip()
    if not text:
        return None
    if text.startswith("//"):
        return Say(text[1:])
    if text.startswith("/"):
        return _command(text[1:], suggestions)
    if bare_numbers and text.isdecimal() and numbered(suggestions):
        index = int(text) if len(text) < 4 else 0
        if 1 <= index <= len(suggestions):
            return Say(suggestions[index - 1])
    return Say(text)


def _command(text: str, suggestions: Sequence[str]) -> Typed:
    name, _, argument = text.partition(" ")
    argument = argument.strip()
    if name.isdecimal() and not argument:
        index = int(name) if len(name) < 4 else 0
        if 1 <= index <= len(suggestions):
            return Say(suggestions[index - 1])
        return Misunderstood(f"There is no suggestion {name} to pick.")
    if name.lower() not in _NAMES:
        return Misunderstood(
            f"There is no command /{name}. /help lists them; to send this as a "
            "message, put another slash in front."
        )
    if name.lower() == "detach" and not argument:
        return Misunderstood("/detach needs a file to keep the conversation in.")
    return Order(name.lower(), argument)
