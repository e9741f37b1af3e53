"""An agent that plays a recorded conversation."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from polysync.sandbox.answers import Push, Turn
from polysync.sandbox.wire import PREFIX, TRANSIENT_TYPES

__all__ = ["RecordedAgent"]

_VERSION = 1
# What the client did and the server repeats: whoever replays it does it itself.
_NOT_THE_AGENTS = frozenset(
    PREFIX + name
    for name in (
        "SESSION_START",
        "REQUEST_POLY_AGENT_JOIN",
        "USER_TYPING",
        "USER_END_SESSION",
        "HEARTBEAT",
    )
)


class RecordedAgent:
    """Says what the agent of a recording said, turn by turn.

    A recording is JSON, ``{"version": 1, "events": [event, …]}``: the server events of
    one conversation as they were on the wire, in order, the echoes of the user's
    messages among them. ``EVENT_BATCH`` events are opened. What stands before the
    first ``USER_MESSAGE`` is played when the agent is asked to join; what stands
    after the n-th, in answer to the n-th message, whatever that says. When the
    recording is over the agent is silent.

    Ids, sequences and times are made anew; payloads are sent as they were recorded.
    `Session.recording` is such a recording.

    Args:
        recording: The recording, or the path of a file that holds it.

    Raises:
        ValueError: That is no recording, or one of a later version.
    """

    scripted = True
    blocking = False

    def __init__(self, recording: Mapping[str, Any] | str | os.PathLike[str]) -> None:
        if isinstance(recording, (str, os.PathLike)):
            recording = json.loads(Path(recording).read_text(encoding="utf-8"))
        if not isinstance(recording, Mapping) or not isinstance(
            recording.get("events"), (list, tuple)
        ):
            raise ValueError('a recording is {"version": 1, "events": [event, …]}')
        if recording.get("version") != _VERSION:
            raise ValueError(
                f"recordings of version {recording.get('version')!r} cannot be played; "
                f"this is version {_VERSION}"
            )
        self._turns: list[list[Push]] = [[]]
        for event in _flat(recording["events"]):
            if event["type"] == PREFIX + "USER_MESSAGE":
                self._turns.append([])
            elif event["type"] not in _NOT_THE_AGENTS:
                self._turns[-1].append(_push(event))

    def __repr__(self) -> str:
        return f"<RecordedAgent: {len(self._turns)} turns>"

    def greeting(self, turn: Turn) -> list[Push]:
        """Play what came before the first message."""
        return self._turns[0]

    def reply(self, turn: Turn) -> list[Push]:
        """Play what came after this message."""
        return self._turns[turn.number] if turn.number < len(self._turns) else []

    live_reply = reply


def _push(event: Mapping[str, Any]) -> Push:
    # An event without a sequence was transient, whatever its type.
    transient = event.get("sequence") is None if "sequence" in event else None
    if event["type"] in TRANSIENT_TYPES:
        transient = True
    return Push(event["type"], event.get("payload", {}), transient)


def _flat(events: Any) -> Iterator[Mapping[str, Any]]:
    for event in events:
        if not isinstance(event, Mapping) or not isinstance(event.get("type"), str):
            raise ValueError(
                f"there is something in the recording that is no event: {event!r}"
            )
        if event["type"] == PREFIX + "EVENT_BATCH":
            yield from _flat(event["payload"]["events"])
        else:
            yield event
