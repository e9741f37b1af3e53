"""Blocking, thread-based conversations with PolyAI agents over the Messaging API.

::

    from polysync import Client

    with Client("CONNECTOR_TOKEN", "https://www.example.com") as client:
        print(client.greeting.text)
        print(client.ask("Do you have a table for two tonight?").text)
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

# client
from polysync.client import Client

# errors
from polysync.errors import (
    AgentError,
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    ConnectionLostError,
    ConnectTimeoutError,
    DeliveryError,
    DeliveryTimeoutError,
    EndTimeoutError,
    ForkedError,
    MessageTooLargeError,
    PolysyncError,
    PolysyncTimeoutError,
    ProtocolError,
    RateLimitError,
    ReceiveTimeoutError,
    ReplyTimeoutError,
    ServerError,
    SessionEndedError,
    SessionNotFoundError,
    SessionTokenError,
)

# events
from polysync.events import Event, Message

# models
from polysync.models import (
    Agent,
    Attachment,
    AttachmentContentType,
    Capabilities,
    ChatCallAction,
    ConnectionChange,
    ConnectionStatus,
    Handoff,
    HandoffReason,
    HandoffStatus,
    ResponseSuggestion,
    SessionEndReason,
    SystemMessageLevel,
    Transcript,
    TranscriptItem,
    TypingState,
)

# protocol
from polysync.protocol.codec import decode, encode

# reply
from polysync.reply import Reply

# version
from polysync.version import __version__ as __version__

if TYPE_CHECKING:
    from polysync.context import sign_context
    from polysync.sessions.pool import ClientPool
    from polysync.sessions.state import SessionState
    from polysync.sessions.store import CacheStore, LockTimeoutError
    from polysync.statistics import ClientStatistics, Latency

__all__ = [
    "Agent",
    "AgentError",
    "Attachment",
    "AttachmentContentType",
    "AuthenticationError",
    "CacheStore",
    "Capabilities",
    "ChatCallAction",
    "Client",
    "ClientClosedError",
    "ClientPool",
    "ClientStatistics",
    "ConfigurationError",
    "ConnectTimeoutError",
    "ConnectionChange",
    "ConnectionLostError",
    "ConnectionStatus",
    "DeliveryError",
    "DeliveryTimeoutError",
    "EndTimeoutError",
    "Event",
    "ForkedError",
    "Handoff",
    "HandoffReason",
    "HandoffStatus",
    "Latency",
    "LockTimeoutError",
    "Message",
    "MessageTooLargeError",
    "PolysyncError",
    "PolysyncTimeoutError",
    "ProtocolError",
    "RateLimitError",
    "ReceiveTimeoutError",
    "Reply",
    "ReplyTimeoutError",
    "ResponseSuggestion",
    "ServerError",
    "SessionEndReason",
    "SessionEndedError",
    "SessionNotFoundError",
    "SessionState",
    "SessionTokenError",
    "SystemMessageLevel",
    "Transcript",
    "TranscriptItem",
    "TypingState",
    "decode",
    "encode",
    "sign_context",
]

# Users decide where logs go; without this, warnings would go to stderr.
logging.getLogger(__name__).addHandler(logging.NullHandler())


# What a single conversation does not need: imported with the first use of the name.
_LATER = {
    "CacheStore": "polysync.sessions.store",
    "ClientPool": "polysync.sessions.pool",
    "ClientStatistics": "polysync.statistics",
    "Latency": "polysync.statistics",
    "LockTimeoutError": "polysync.sessions.store",
    "SessionState": "polysync.sessions.state",
    "sign_context": "polysync.context",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_LATER[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
