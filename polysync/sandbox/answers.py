"""What an agent can answer with, and the turn it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import attrs

if TYPE_CHECKING:
    from polysync.sandbox.session import Session

__all__ = ["Handoff", "Leave", "Push", "Reply", "Turn"]


@attrs.frozen
class Turn:
    """What an agent is told: whom it talks to and what was said.

    Attributes:
        session: The conversation, to look things up in or to push events to.
        text: What the user said; empty in a greeting.
        number: The turn's number in the conversation: 0 is the greeting.
        metadata: The ``custom`` metadata that the client sent along.
        message_id: The server's id of the user's message.
        state: A dictionary of this conversation alone, for the agent to keep things in.
    """

    session: Session
    text: str
    number: int
    metadata: Mapping[str, str]
    message_id: str | None
    state: dict[str, Any]


@attrs.frozen
class Reply:
    """A message of the agent with all that can go with it.

    Yielded without a text after some strings, it completes the message that those
    strings began.

    Args:
        text: What the agent says.
        suggestions: What to offer; a string is a suggestion's ``message_text``.
        attachments: Attachments in wire form, ``{"title": …, "content_url": …}``.
        call_actions: Telephone numbers in wire form, ``{"title": …,
            "contact_number": …}``. A message with these is never sent in chunks,
            because chunks cannot carry them.
        end: Whether the conversation is over after this message.
    """

    text: str = ""
    suggestions: Sequence[str | Mapping[str, Any]] = attrs.field(
        default=(), kw_only=True
    )
    attachments: Sequence[Mapping[str, Any]] = attrs.field(default=(), kw_only=True)
    call_actions: Sequence[Mapping[str, Any]] = attrs.field(default=(), kw_only=True)
    end: bool = attrs.field(default=False, kw_only=True)


@attrs.frozen(kw_only=True)
class Handoff:
    """Hand the conversation over to a human.

    Args:
        queue_name: The queue that the user waits in.
        outcome: ``"accepted"``: a live agent joins. ``"failed"`` and ``"timeout"``:
            none does, and the agent stays. ``"client"``: the application is told to
            route the user itself.
        queue: The positions that the user is told while waiting.
        reason: Why, for the outcomes that carry a reason.
        agent_id: The live agent's id.
        agent_name: The live agent's name.
        avatar_url: The live agent's picture.
        greeting: What the live agent says first; empty for nothing.
        reply: What the live agent answers with: a function of the turn, as an agent
            is. By default the agent's own ``live_reply``, else a few stock phrases.
    """

    queue_name: str = "Front of house"
    outcome: Literal["accepted", "failed", "timeout", "client"] = "accepted"
    queue: Sequence[int] = (2, 1)
    reason: str = ""
    agent_id: str = "live-agent-1"
    agent_name: str = "Sam"
    avatar_url: str = "https://example.com/avatars/sam.png"
    greeting: str = "Hello, this is Sam. How can I help?"
    reply: Callable[[Turn], Any] | None = None


@attrs.frozen
class Leave:
    """Let whoever is talking leave: the live agent if there is one, else the agent.

    The conversation goes on without anybody, until the client asks for the agent.
    """

    reason: str = ""


@attrs.frozen
class Push:
    """Any server event at all, sent in its place among the agent's answers.

    Args:
        type: With or without the ``EVENT_TYPE_`` in front.
        payload: The event's payload.
        transient: Whether it stays out of the history. By default as the type is.
    """

    type: str
    payload: Mapping[str, Any] = attrs.field(factory=dict)
    transient: bool | None = None
