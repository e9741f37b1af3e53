"""Keeps a conversation's events in the form that the sandbox can play again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from polysync.cli.reporting import CommandError
from polysync.events import Event
from polysync.protocol.codec import converter

__all__ = ["Recording", "in_wire_form", "is_assembled"]


def is_assembled(event: Event) -> bool:
    """Whether the client put it together from chunks, which came as well."""
    return bool(getattr(event, "assembled", False))


def in_wire_form(event: Event) -> dict[str, Any]:
    """Return an event as the JSON object that the server sent."""
    data: dict[str, Any] = converter.unstructure(event)
    return data


class Recording:
    """The server's events of one conversation, written to a file at its end.

    Args:
        path: The file, which is replaced.

    Raises:
        CommandError: It could not be written.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._events: list[Event] = []
        # Before the conversation: afterwards would be too late to choose another.
        place = self._path if self._path.exists() else self._path.absolute().parent
        if self._path.is_dir() or not place.exists() or not os.access(place, os.W_OK):
            raise CommandError(
                f"{self._path} cannot be written: choose another file for --record", 2
            )

    def add(self, event: Event) -> None:
        """Keep an event, in the order in which they come."""
        if not is_assembled(event):
            self._events.append(event)

    def save(self, history: Iterable[Event] = ()) -> int:
        """Write the file; return how many events are in it.

        Args:
            history: The permanent history, whose beginning a resumed conversation
                has not been told again.

        Raises:
            CommandError: The file cannot be written.
        """
        ids = {event.id for event in self._events}
        earlier = [event for event in history if event.id not in ids]
        events = [in_wire_form(event) for event in (*earlier, *self._events)]
        if not events:
            return 0
        text = json.dumps({"version": 1, "events": events}, indent=1) + "\n"
        try:
            self._path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(
                f"the recording could not be written to {self._path}: {error.strerror}"
            ) from error
        return len(events)
