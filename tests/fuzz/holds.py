"""What holds for every frame, whatever is in it: the judge of all fuzzing."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import orjson

from polysync.events import Event, EventBatch
from polysync.protocol import codec
from polysync.protocol.codec import encode
from polysync.protocol.readers import LARGEST
from tests.protocol.parsed import Parsed, parse
from tests.protocol.script import Script

CORPUS = Path(__file__).with_name("corpus")

Frame = str | bytes


def corpus() -> dict[str, Frame]:
    """Return the frames to begin with, by their names; those in ``.bin`` as bytes."""
    return {
        path.stem: path.read_bytes()
        if path.suffix == ".bin"
        else path.read_text(encoding="utf-8")
        for path in sorted(CORPUS.iterdir())
    }


def parse_with(loads: Callable[[Any], Any], frame: Frame) -> Parsed:
    """Parse with one of the two JSON parsers."""
    before, codec._loads = codec._loads, loads
    try:
        return parse(frame)
    finally:
        codec._loads = before


def check(frame: Frame) -> Parsed:
    """Read a frame, and see that what comes of it is sound."""
    parsed = parse_with(codec._loads_plain, frame)
    fast = parse_with(orjson.loads, frame)
    assert fast.problems == parsed.problems
    assert list(map(envelope, fast.events)) == list(map(envelope, parsed.events))
    if not re.search(r"\d{19}", str(frame)):
        # What is beyond 64 bits may stay an integer in a payload or become a float.
        assert repr(fast) == repr(parsed)
    assert parsed.events or parsed.problems or parsed.batch
    for problem in parsed.problems:
        assert problem.startswith("$")
        assert len(problem) < 1_000
    numbers = [event.sequence for event in parsed.events]
    if parsed.batch:
        assert numbers == sorted(
            numbers, key=lambda n: float("inf") if n is None else n
        )
    for event in parsed.events:
        check_event(event)
    return parsed


def envelope(event: Event) -> tuple[object, ...]:
    return event.type, event.id, event.sequence, event.timestamp, event.metadata


def check_event(event: Event) -> None:
    """See that an event is of use to whoever gets it."""
    assert isinstance(event, Event)
    assert not isinstance(event, EventBatch)
    assert type(event.id) in (str, type(None))
    assert event.sequence is None or abs(event.sequence) <= LARGEST
    assert all(type(value) is str for value in event.metadata.values())
    if event.timestamp is not None:
        event.timestamp.timestamp()
        for hours in (-23, 0, 23):  # anywhere on earth
            event.timestamp.astimezone(timezone(timedelta(hours=hours)))
    repr(event)
    try:
        frame = encode(event)
        copy.deepcopy(event)
    except RecursionError:
        return  # It is as deep as the parser can go.
    frame.encode()
    json.loads(frame)
    (again,) = parse(frame).events
    assert type(again) is type(event)


def check_conversation(frame: Frame, parsed: Parsed) -> None:
    """Have it come in the middle of a conversation, twice, and in a replay."""
    script = Script()
    script.greet()
    script.ask()
    for _ in range(2):
        script.frame(frame)
        script.later(1.0)
    if not parsed.events:
        sound = script.hear("LANGUAGE_CHANGED", {"language_code": "de"})
        assert sound["id"] in [getattr(news, "id", None) for news in script.news]
    script.drop()
    script.later(60.0)
    if script.conversation.at_work:
        script.accept()
        script.frame(frame)
        script.later(60.0)
