"""What a chat says besides messages: who is there, what is going on, what failed."""

from __future__ import annotations

from html import escape

from polysync.client import Client
from polysync.models import ConnectionStatus, Handoff, HandoffStatus

__all__ = ["heading", "notice"]

_STATUS = {
    ConnectionStatus.IDLE: "not connected",
    ConnectionStatus.CONNECTING: "connecting …",
    ConnectionStatus.OPEN: "online",
    ConnectionStatus.RECONNECTING: "reconnecting …",
    ConnectionStatus.CLOSED: "closed",
    ConnectionStatus.FAILED: "disconnected",
}
_HANDOFF = {
    HandoffStatus.REQUESTED: "You are being put through to a person.",
    HandoffStatus.QUEUED: "You are waiting for a person.",
    HandoffStatus.ACCEPTED: "A person will be with you.",
    HandoffStatus.CLIENT_REQUIRED: "The agent asks you to route this to a person.",
    HandoffStatus.FAILED: "No person could be reached.",
    HandoffStatus.TIMED_OUT: "No person was free.",
}


def heading(client: Client) -> str:
    """Return, as HTML, who is there and how the connection is."""
    live_agent = client.live_agent
    who = live_agent or client.agent
    name = (who.name if who else None) or ("Live agent" if live_agent else "Agent")
    status = "ended" if client.ended else _STATUS[client.status]
    return f"<strong>{escape(name)}</strong> · {status}"


def notice(client: Client, error: str | None) -> str:
    """Return, as HTML, what is going on, one thing a line; empty for nothing."""
    said = []
    if client.handoff is not None and not client.ended:
        said.append(_handoff(client.handoff))
    if client.agent_is_typing and not client.ended:
        said.append("typing …")
    if client.ended:
        said.append("The conversation is over.")
    parts = [f"<div><em>{escape(text)}</em></div>" for text in said if text]
    if error:
        parts.append(f'<div role="alert"><strong>{escape(error)}</strong></div>')
    return "".join(parts)


def _handoff(handoff: Handoff) -> str:
    text = handoff.display_message or _HANDOFF.get(handoff.status, "")
    if handoff.status is HandoffStatus.QUEUED:
        if handoff.position_in_queue:
            text += f" Position in the queue: {handoff.position_in_queue}."
        if handoff.estimated_wait_seconds:
            minutes = max(1, round(handoff.estimated_wait_seconds / 60))
            text += f" About {minutes} min."
    return text
