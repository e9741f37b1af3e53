"""Receivers of the chat's signals; a real site would keep what they hear."""

from __future__ import annotations

import logging
from typing import Any

from django.dispatch import receiver

from polysync.events import Message, SessionEnd, UserMessage
from polysync.integrations.django.signals import (
    message_received,
    message_sent,
    session_ended,
)

logger = logging.getLogger("bistro")


@receiver(message_received)
def agent_said(event: Message, **_: Any) -> None:
    """Log what the agent, or the human who took over, has said."""
    logger.info("%s: %s", event.agent_name or "Agent", event.text)


@receiver(message_sent)
def visitor_said(event: UserMessage, **_: Any) -> None:
    """Log what the visitor has said."""
    logger.info("Visitor: %s", event.text)


@receiver(session_ended)
def conversation_ended(event: SessionEnd, **_: Any) -> None:
    """Log how the conversation ended."""
    logger.info("A conversation is over: %s", event.reason)
