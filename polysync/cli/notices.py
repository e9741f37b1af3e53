"""What an event that is no message means, in a sentence for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from polysync import events
from polysync.cli.readable import readable, readable_line
from polysync.models import (
    ConnectionChange,
    ConnectionStatus,
    HandoffReason,
    SessionEndReason,
    SystemMessageLevel,
)

__all__ = ["Notice", "connection_notice", "notice"]


@attrs.frozen
class Notice:
    """A sentence, and what it is about.

    Attributes:
        kind: ``"handoff"``, ``"system"``, ``"session"`` or ``"end"``.
        text: The sentence, safe for a terminal.
        level: ``"info"``, ``"warning"`` or ``"error"``.
    """

    kind: str
    text: str
    level: str = "info"


def notice(event: events.Event) -> Notice | None:
    """Return what to show for an event, or nothing for what needs no words."""
    make = _NOTICES.get(type(event))
    return None if make is None else make(event)


def connection_notice(change: ConnectionChange, lost: bool) -> Notice | None:
    """Return what to show for a change of the connection.

    Args:
        change: The change.
        lost: Whether the connection was lost before.
    """
    if change.status is ConnectionStatus.RECONNECTING:
        why = readable_line(change.reason).rstrip(".") or "no reason was given"
        again = f"attempt {change.attempt} in {change.delay:.1f} s"
        return Notice("session", f"Connection lost ({why}); {again}.", "warning")
    if change.status is ConnectionStatus.OPEN and lost:
        return Notice("session", "Connected again.")
    return None


def _because(reason: object) -> str:
    words = readable_line(str(reason)) if reason else ""
    return f": {words}" if words else ""


def _joined(event: events.PolyAgentJoined) -> Notice:
    name = readable_line(event.agent_name) or "The agent"
    return Notice("session", f"{name} has joined.")


def _left(event: events.PolyAgentLeft) -> Notice:
    return Notice("session", f"The agent has left{_because(event.reason)}.")


def _accepted(event: events.HandoffAccepted) -> Notice:
    queue = readable_line(event.queue_name)
    where = f" (queue: {queue})" if queue else ""
    return Notice("handoff", f"A human will take over{where}.")


def _queued(event: events.HandoffQueueStatus) -> Notice:
    facts = [readable_line(event.display_message) or "Waiting for a human"]
    facts[0] = facts[0].rstrip(".")
    if event.position_in_queue is not None and not event.display_message:
        facts.append(f"position {event.position_in_queue}")
    if event.estimated_wait_seconds and not event.display_message:
        facts.append(f"about {_duration(event.estimated_wait_seconds)}")
    return Notice("handoff", ", ".join(facts) + ".")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


_ROUTES: dict[str, str] = {
    HandoffReason.COMPLEX_QUERY: "the question is too complex",
    HandoffReason.AGENT_DECISION: "the agent decided so",
    HandoffReason.POLICY: "the rules say so",
}


def _to_be_routed(event: events.ClientHandoffRequired) -> Notice:
    reason = _ROUTES.get(event.reason or "", event.reason)
    parts = [f"This application is to route you to a human{_because(reason)}"]
    if event.queue_name:
        parts.append(f"queue {readable_line(event.queue_name)}")
    if event.route:
        parts.append(f"route {readable_line(event.route)}")
    return Notice("handoff", ", ".join(parts) + ".", "warning")


def _human(event: events.LiveAgentJoined) -> Notice:
    name = readable_line(event.agent.name) or "Somebody"
    return Notice("handoff", f"{name}, a human, has joined.")


def _human_left(event: events.LiveAgentLeft) -> Notice:
    name = readable_line(event.agent_name) or "The human"
    return Notice("handoff", f"{name} has left{_because(event.reason)}.")


_LEVELS: dict[str, str] = {
    SystemMessageLevel.WARNING: "warning",
    SystemMessageLevel.ERROR: "error",
}


def _system(event: events.SystemMessage) -> Notice:
    level = _LEVELS.get(event.level or "", "info")
    return Notice("system", readable(event.message).strip(), level)


_ENDS: dict[str, str] = {
    SessionEndReason.USER_END: "you ended it",
    SessionEndReason.USER_ABANDONED: "nobody wrote for too long",
    SessionEndReason.NATURAL_END: "the agent ended it",
}


def _ended(event: events.SessionEnd) -> Notice:
    reason = _ENDS.get(event.reason or "", event.reason)
    return Notice("end", f"The conversation has ended{_because(reason)}.")


def _language(event: events.LanguageChanged) -> Notice:
    code = readable_line(event.language_code) or "another language"
    return Notice("session", f"The conversation goes on in {code}.")


_NOTICES: dict[type[events.Event], Callable[[Any], Notice]] = {
    events.PolyAgentJoined: _joined,
    events.PolyAgentLeft: _left,
    events.PolyAgentTriggeredHandoff: lambda _: Notice(
        "handoff", "The agent asks a human to take over."
    ),
    events.HandoffAccepted: _accepted,
    events.HandoffQueueStatus: _queued,
    events.ClientHandoffRequired: _to_be_routed,
    events.HandoffFailed: lambda event: Notice(
        "handoff", f"No human could be reached{_because(event.reason)}.", "warning"
    ),
    events.HandoffTimeout: lambda event: Notice(
        "handoff", f"No human answered in time{_because(event.reason)}.", "warning"
    ),
    events.LiveAgentJoined: _human,
    events.LiveAgentLeft: _human_left,
    events.LanguageChanged: _language,
    events.SystemMessage: _system,
    events.SessionIdleWarning: lambda _: Notice(
        "system", "The conversation will end soon unless you write.", "warning"
    ),
    events.SessionEnd: _ended,
}
