"""The JSON that the sandbox puts on the wire, as plain dictionaries.

The sandbox must be able to lie, so nothing here goes through the library's own
event classes: an event is a dictionary, and whatever a test wants to see in it may
stand in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, TypeAlias
from uuid import uuid4

__all__ = [
    "CLIENT_TYPES",
    "PREFIX",
    "SERVER_TYPES",
    "TRANSIENT_TYPES",
    "Event",
    "batch",
    "build",
    "chunks",
    "dumps",
    "full_type",
    "one_key_form",
    "suffix",
    "timestamp",
]

Event: TypeAlias = dict[str, Any]

PREFIX = "EVENT_TYPE_"

# The five types that a client may send, and all others that the protocol names: the
# server words its refusal differently for what it knows and what it does not.
CLIENT_TYPES = frozenset(
    PREFIX + name
    for name in (
        "REQUEST_POLY_AGENT_JOIN",
        "USER_MESSAGE",
        "USER_TYPING",
        "USER_END_SESSION",
        "HEARTBEAT",
    )
)
_SERVER_NAMES = """
SESSION_START SESSION_END SESSION_IDLE_WARNING EVENT_BATCH POLY_AGENT_JOINED
POLY_AGENT_THINKING POLY_AGENT_MESSAGE POLY_AGENT_MESSAGE_CHUNK POLY_AGENT_LEFT
POLY_AGENT_TRIGGERED_HANDOFF HANDOFF_ACCEPTED HANDOFF_QUEUE_STATUS
HANDOFF_FAILED HANDOFF_TIMEOUT CLIENT_HANDOFF_REQUIRED LIVE_AGENT_JOINED
LIVE_AGENT_TYPING LIVE_AGENT_MESSAGE LIVE_AGENT_LEFT LANGUAGE_CHANGED
SYSTEM_MESSAGE USER_RECEIVED_MESSAGE USER_READ_MESSAGE
POLY_AGENT_RECEIVED_MESSAGE POLY_AGENT_READ_MESSAGE LIVE_AGENT_RECEIVED_MESSAGE
LIVE_AGENT_READ_MESSAGE SHOW_CSAT_REQUEST CSAT_RESPONSE
"""
SERVER_TYPES = frozenset(PREFIX + name for name in _SERVER_NAMES.split())

# Never in the history: they have no sequence and no replay shows them.
TRANSIENT_TYPES = frozenset(
    PREFIX + name
    for name in (
        "HEARTBEAT",
        "LIVE_AGENT_TYPING",
        "HANDOFF_QUEUE_STATUS",
        "SESSION_IDLE_WARNING",
    )
)

_WORDS = re.compile(r"\s*\S+|\s+$")
_MOST_CHUNKS = 32

# One encoder for all: json.dumps() with arguments makes a new one on each call.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(separators=(",", ":")).encode


def full_type(name: str) -> str:
    """Return the wire name of an event type given with or without its prefix."""
    return name if name.startswith(PREFIX) else PREFIX + name


def suffix(name: str) -> str:
    """Return the wire name of an event type without its prefix."""
    return name.removeprefix(PREFIX)


def timestamp() -> str:
    """Return the time as the server writes it, with milliseconds and ``Z``."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    return now[:-6] + "Z"


def build(
    type: str,
    payload: Mapping[str, Any] | None = None,
    *,
    sequence: int | None = None,
    custom: Mapping[str, str] | None = None,
) -> Event:
    """Build a server event with a fresh id and the time of now."""
    event: Event = {
        "id": str(uuid4()),
        "sequence": sequence,
        "timestamp": timestamp(),
        "type": type,
        "payload": {} if payload is None else payload,
    }
    if custom:
        event["metadata"] = {"custom": custom}
    return event


def batch(events: Iterable[Event]) -> Event:
    """Wrap events as one ``EVENT_BATCH``."""
    return build(PREFIX + "EVENT_BATCH", {"events": list(events)})


def dumps(event: object) -> str:
    """Encode as JSON, in UTF-8 where that is possible.

    A client may have sent half of a surrogate pair as an escape; its echo can only
    be written as an escape again.
    """
    text = _encode(event)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return _encode_ascii(event)
    return text


def one_key_form(event: Event) -> Event:
    """Return the event with its payload under a key named after its type.

    That is how events inside a batch may come: ``"poly_agent_message": {…}``.
    """
    changed = {key: value for key, value in event.items() if key != "payload"}
    changed[suffix(event["type"]).lower()] = event["payload"]
    return changed


def chunks(text: str) -> Sequence[str]:
    """Cut a text into the pieces it is streamed in: words, but at most 32 pieces.

    Joined without anything in between, the pieces are the text.
    """
    words = _WORDS.findall(text)
    if len(words) <= _MOST_CHUNKS:
        return words or [text]
    size = -(-len(words) // _MOST_CHUNKS)
    return ["".join(words[i : i + size]) for i in range(0, len(words), size)]
