"""Agents for the sandbox: what one is, and a few that are useful in tests."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

import attrs

from polysync.sandbox.answers import Handoff, Leave, Push, Reply, Turn

__all__ = ["Actor", "Agent", "Answer", "EchoAgent", "SilentAgent"]

Answer: TypeAlias = (
    str
    | Reply
    | Handoff
    | Leave
    | Push
    | Iterable["str | Reply | Handoff | Leave | Push"]
    | None
)

GREETING = "Hello! How can I help you today?"


class Agent(Protocol):
    """An agent as a class: what it says first, and what it answers.

    Both may return an answer or be generators of answers. Strings that a generator
    yields are the pieces of one message, and are sent as chunks if the session
    streams. Coroutines and asynchronous generators will do as well.

    Four more attributes are looked at if they are there:

    - ``name`` and ``avatar_url``: how the agent introduces itself.
    - ``live_reply(turn)``: what the human answers after a handoff.
    - ``blocking``: `False` for an agent that never waits for anything. It then runs
      on the sandbox's own thread, which is faster; all others run on worker threads.
    - ``scripted``: `True` for an agent that sends every event itself, by `Push`.

    A class given to the sandbox is instantiated for each conversation; an instance is
    shared by all, and keeps what it must remember in ``turn.state``.
    """

    def greeting(self, turn: Turn) -> Answer:
        """Return what to say when the agent joins."""

    def reply(self, turn: Turn) -> Answer:
        """Return what to say to the user's message."""


class EchoAgent:
    """Says what it was told; does it fast, so it serves for load too."""

    name = "Echo"
    blocking = False

    def greeting(self, turn: Turn) -> str:
        """Say hello."""
        return GREETING

    def reply(self, turn: Turn) -> str:
        """Say the same."""
        return turn.text

    def live_reply(self, turn: Turn) -> str:
        """Say the same."""
        return turn.text


class SilentAgent:
    """Greets, and never says another word.

    Args:
        greeting: What it says when it joins; empty for nothing at all.
    """

    name = "Silent"
    blocking = False

    def __init__(self, greeting: str = GREETING) -> None:
        self._greeting = greeting

    def greeting(self, turn: Turn) -> str | None:
        """Say hello, or nothing."""
        return self._greeting or None

    def reply(self, turn: Turn) -> None:
        """Say nothing."""


def _stock_live_reply(turn: Turn) -> str:
    return "Let me look into that for you."


def _stock_greeting(turn: Turn) -> str:
    return GREETING


@attrs.frozen
class Actor:
    """An agent in the one form that the sandbox works with."""

    greeting: Callable[[Turn], Any]
    reply: Callable[[Turn], Any]
    live_reply: Callable[[Turn], Any]
    name: str
    avatar_url: str
    blocking: bool
    scripted: bool

    @staticmethod
    def check(agent: Any) -> None:
        """Raise `TypeError` for what cannot be an agent."""
        function = callable(agent) and not inspect.isclass(agent)
        if not hasattr(agent, "reply") and not function:
            raise TypeError(
                f"an agent is a function, or has greeting() and reply(), not {agent!r}"
            )

    @classmethod
    def of(cls, agent: Any) -> Actor:
        """Make one of a function, a class or an instance."""
        if inspect.isclass(agent):
            agent = agent()
        return cls(
            greeting=getattr(agent, "greeting", _stock_greeting),
            reply=getattr(agent, "reply", agent),
            live_reply=getattr(agent, "live_reply", _stock_live_reply),
            name=getattr(agent, "name", "PolyAI"),
            avatar_url=getattr(
                agent, "avatar_url", "https://example.com/avatars/agent.png"
            ),
            blocking=getattr(agent, "blocking", True),
            scripted=getattr(agent, "scripted", False),
        )
