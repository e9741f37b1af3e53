"""`polysync.protocol.codec.parse` with names for what it returns."""

from __future__ import annotations

from typing import NamedTuple

from polysync.events import Event
from polysync.protocol import codec


class Parsed(NamedTuple):
    events: list[Event]
    problems: list[str]
    batch: bool


def parse(frame: str | bytes) -> Parsed:
    return Parsed(*codec.parse(frame))
