"""Turns frames into events and events into frames.

Reading never raises. A part that makes no sense is left out and reported, with where it
was and what was expected there; everything around it survives. Writing is strict: what
a client sends is made here and nowhere else.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from datetime import datetime
from json.encoder import encode_basestring
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from attrs import fields, has

from polysync.events import (
    CLIENT_EVENT_TYPES,
    EVENT_TYPES,
    Event,
    EventBatch,
    UnknownEvent,
)
from polysync.models import Value
from polysync.protocol.readers import LoggedProblems, Problems, kind_of, log_problems
from polysync.protocol.structuring import Hook, build_hook, payload_key

if TYPE_CHECKING:
    from cattrs import Converter

    #: Structures and unstructures every event and model. It is our own: hooks
    #: registered on it are seen by nobody else.
    converter: Converter

__all__ = ["converter", "decode", "encode", "parse"]

# A batch in a batch is odd, in eight of them an attack.
_DEEPEST_BATCH = 8

# What a frame holds, as parse() returns it. A named tuple would cost 0.2 us more, a
# tenth of what a chunk does.
_Parsed = tuple[list[Event], list[str], bool]


def decode(frame: str | bytes) -> list[Event]:
    """Read the events in a frame.

    Args:
        frame: The text of a WebSocket message, or its bytes in UTF-8.

    Returns:
        The events: those of a batch flattened, each id once, ordered by `sequence`,
        and last those without one. Whatever cannot be read is left out and logged as
        a warning on the logger ``polysync.protocol.codec``; nothing is ever raised.
    """
    events, problems, batch = parse(frame)
    if problems:
        log_problems(problems)
    return _once(events) if batch else events


def _once(events: list[Event]) -> list[Event]:
    """Leave out what is there a second time."""
    seen: set[str | None] = {None}
    first = []
    for event in events:
        if event.id not in seen:
            seen.add(event.id)
        elif event.id is not None:
            continue
        first.append(event)
    return first


def parse(frame: str | bytes) -> _Parsed:
    """Read the events in a frame, and say what could not be read instead of logging it.

    Args:
        frame: The text of a WebSocket message, or its bytes in UTF-8.

    Returns:
        The events, those of a batch flattened and in order; what was left out, a line
        each (``$.payload.events[3].sequence: expected an integer, got a string``),
        with no value in it; and whether the frame was a batch. Never raises.
    """
    problems: Problems = []
    try:
        data = _loads(frame)
    except (ValueError, TypeError, RecursionError):
        # orjson refuses what the standard library reads: NaN, lone surrogates.
        data = _load_odd(frame, problems)
    events: list[Event]
    batch = False
    try:  # This nearly always finds it, and spares the call: a tenth of the whole.
        hook = _hooks[data["type"]]
    except (LookupError, TypeError):
        events = []
        if type(data) is dict:
            batch = _read(data, events, problems, 0, ours=True)
        elif not problems:
            problems.append(f": expected an object, got {kind_of(data)}")
    else:
        events = [hook(data, Event, problems)]
    if problems:
        problems = [f"${problem}" for problem in problems]
    return events, problems, batch


# From JSON to events


def _read(
    data: dict[str, Any],
    events: list[Event],
    problems: Problems,
    depth: int,
    *,
    ours: bool,
) -> bool:
    """Add the event, or the events of the batch, and say whether it was a batch.

    Args:
        data: The object.
        events: Where the events go.
        problems: Where the problems go.
        depth: How many batches the object is in.
        ours: Whether nobody else has the object, so that it may be taken apart.
    """
    event_type = data.get("type")
    if type(event_type) is not str:
        event_type = _infer_type(data, problems)
        if event_type is None:
            return False
    if event_type != EventBatch.type:
        events.append(_structure(data, event_type, problems))
        return False
    if depth == _DEEPEST_BATCH:
        problems.append(": a batch nested too deeply")
    else:
        events += _read_batch(data, problems, depth + 1, ours=ours)
    return True


def _read_batch(
    data: dict[str, Any], problems: Problems, depth: int, *, ours: bool
) -> list[Event]:
    payload, key = data.get("payload"), "payload"
    if payload is None:
        payload, key = data.get("event_batch"), "event_batch"
    if type(payload) is not dict:
        problems.append(f".{key}: expected an object, got {kind_of(payload)}")
        return []
    elements = payload.get("events")
    if type(elements) is not list:
        if elements is not None:
            problems.append(f".{key}.events: expected a list, got {kind_of(elements)}")
        return []
    events: list[Event] = []
    found: Problems = []
    for index, element in enumerate(elements):
        try:  # As parse() does.
            hook = _hooks[element["type"]]
        except (LookupError, TypeError):
            if type(element) is dict:
                _read(element, events, found, depth, ours=ours)
            else:
                found.append(f": expected an object, got {kind_of(element)}")
        else:
            events.append(hook(element, Event, found))
        if ours:
            # What is let go at once makes room for the next event, in memory that the
            # processor still has at hand: 4.04 us an event instead of 4.35.
            elements[index] = None
        if found:
            problems.extend(f".{key}.events[{index}]{problem}" for problem in found)
            found.clear()
    try:
        return sorted(events, key=attrgetter("sequence"))
    except TypeError:  # Passing events have no sequence.
        return sorted(events, key=_sequence_or_last)


def _sequence_or_last(event: Event) -> float:
    return float("inf") if event.sequence is None else event.sequence


# The payload of a frame may stand under a key named after the type.
_TYPES_BY_KEY = {payload_key(event_type): event_type for event_type in EVENT_TYPES}


def _infer_type(data: dict[str, Any], problems: Problems) -> str | None:
    """Find the type of an object that does not say it plainly."""
    value = data.get("type")
    if value is not None:
        problems.append(f".type: expected a string, got {kind_of(value)}")
        return None
    keys = _TYPES_BY_KEY.keys() & data.keys()
    if len(keys) == 1:
        return _TYPES_BY_KEY[keys.pop()]
    problems.append(".type: missing")
    return None


def _structure(data: dict[str, Any], event_type: str, problems: Problems) -> Event:
    hook = _hooks.get(event_type)
    if hook is None:
        cls = EVENT_TYPES.get(event_type, UnknownEvent)
        hook = _hook_of(cls)
        if cls is not UnknownEvent:  # There is no end of unknown types.
            _hooks[event_type] = hook
    event: Event = hook(data, Event, problems)
    return event


#: The hooks of the types that have come so far.
_hooks: dict[str, Hook] = {}


# From events to JSON

# A client event's payload is these fields and nothing else.
_SENT = {"EVENT_TYPE_USER_MESSAGE": ("text",), "EVENT_TYPE_USER_TYPING": ("state",)}


def encode(event: Event) -> str:
    """Write the frame of an event.

    The five events that a client may send become ``type``, ``payload`` and, if there is
    any, ``metadata``: what the server adds to its echoes is left out. Other events get
    the whole envelope, as the server writes it. A surrogate without its other half,
    which UTF-8 cannot hold, becomes U+FFFD.

    Args:
        event: The event to send.

    Returns:
        Compact JSON.
    """
    if event.type in CLIENT_EVENT_TYPES:
        frame = _client_frame(event)
    else:
        frame = _dump(_unstructure_event(event))
    if frame.isascii():
        return frame
    try:
        frame.encode()
    except UnicodeEncodeError:
        # By way of UTF-16, where the two halves of a pair find each other again.
        frame = frame.encode("utf-16-le", "surrogatepass").decode(
            "utf-16-le", "replace"
        )
    return frame


def _client_frame(event: Event) -> str:
    """Write what a client sends: objects of strings, and nothing else.

    A message with its two ids takes 2 us this way, and 10 us by way of the converter
    and `json.dumps` (CPython 3.11).
    """
    names = _SENT.get(event.type, ())
    sent = ",".join([f'"{name}":{_dump(getattr(event, name))}' for name in names])
    frame = f'{{"type":"{event.type}","payload":{{{sent}}}'
    if not event.metadata:
        return frame + "}"
    pairs = [f"{_dump(k)}:{_dump(v)}" for k, v in event.metadata.items()]
    return f'{frame},"metadata":{{"custom":{{{",".join(pairs)}}}}}}}'


def _dump(value: Any) -> str:
    if type(value) is str:
        return encode_basestring(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _unstructure(value: Any) -> Any:
    if isinstance(value, Event):
        return _unstructure_event(value)
    cls = type(value)
    if has(cls):
        return _unstructure_fields(value, fields(cls))
    if isinstance(value, tuple):
        return [_unstructure(item) for item in value]
    return value


def _unstructure_event(event: Event) -> dict[str, Any]:
    if isinstance(event, UnknownEvent):
        payload = dict(event.payload)
    else:
        own = fields(type(event))[len(fields(Event)) :]
        payload = {**event.extra, **_unstructure_fields(event, own)}
    data: dict[str, Any] = {
        "id": event.id,
        "sequence": event.sequence,
        "timestamp": _unstructure_time(event.timestamp),
        "type": event.type,
        "payload": payload,
    }
    if event.metadata:
        data["metadata"] = {"custom": dict(event.metadata)}
    return data


def _unstructure_fields(instance: object, attributes: Any) -> dict[str, Any]:
    values = {
        a.name: _unstructure(getattr(instance, a.name))
        for a in attributes
        if not a.metadata.get("local")
    }
    return {name: value for name, value in values.items() if value is not None}


def _unstructure_time(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat().replace("+00:00", "Z")


# The converter


def _structure_event(
    data: dict[str, Any], cls: type[Event], problems: Problems | None = None
) -> Event:
    """Structure an object whose type says which event it is."""
    heard = LoggedProblems() if problems is None else problems
    found: Problems = []
    events: list[Event] = []
    if _read(data, events, found, 0, ours=False):
        return _structure_batch(data, cls, heard)
    if not events:
        raise ValueError(f"no event: ${found[-1]}")
    heard.extend(found)
    return events[0]


def _structure_batch(
    data: dict[str, Any], cls: type[Event], problems: Problems | None = None
) -> EventBatch:
    found = LoggedProblems() if problems is None else problems
    envelope = build_hook(Event)(data, Event, found)
    events = tuple(_read_batch(data, found, 1, ours=False))
    return EventBatch(events, **_envelope_of(envelope))


def _structure_unknown(
    data: dict[str, Any], cls: type[Event], problems: Problems | None = None
) -> UnknownEvent:
    event_type = str(data.get("type"))
    if data.get("payload") is None:
        data = {**data, "payload": data.get(payload_key(event_type))}
    found = LoggedProblems() if problems is None else problems
    envelope = build_hook(Event)(data, Event, found)
    return UnknownEvent(event_type, envelope.extra, **_envelope_of(envelope))


def _envelope_of(event: Event) -> dict[str, Any]:
    names = ("id", "sequence", "timestamp", "metadata")
    return {name: getattr(event, name) for name in names}


def _is_ours(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, Value)


_BY_HAND: dict[type, Hook] = {
    Event: _structure_event,
    EventBatch: _structure_batch,
    UnknownEvent: _structure_unknown,
}


def _hook_of(cls: type) -> Hook:
    return _BY_HAND.get(cls) or build_hook(cls)


@functools.cache
def _make_converter() -> Converter:
    # Frames are read and written by the very functions that are registered here; who
    # does nothing else is spared the import, a tenth of that of all libraries.
    from cattrs import Converter

    made = Converter()
    made.register_structure_hook_factory(_is_ours, _hook_of)
    made.register_unstructure_hook_func(_is_ours, _unstructure)
    return made


def __getattr__(name: str) -> Any:
    if name == "converter":
        return _make_converter()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# JSON


def _loads_first(frame: str | bytes) -> Any:
    """Parse the first frame; from then on with orjson, if it is there."""
    global _loads
    try:
        from orjson import loads
    except ImportError:
        _loads = _loads_plain
    else:
        _loads = loads
    return _loads(frame)


_loads: Callable[[Any], Any] = _loads_first


def _loads_plain(frame: str | bytes) -> Any:
    text = frame if isinstance(frame, str) else str(frame, "utf-8")
    # raw_decode() spares the two searches for white space that loads() makes.
    value, end = _decoder.raw_decode(text)
    return value if end == len(text) else json.loads(text)


_decoder = json.JSONDecoder()


def _load_odd(frame: str | bytes, problems: Problems) -> Any:
    """Parse what the fast way has refused, or report why it cannot be read."""
    try:
        text = frame if isinstance(frame, str) else str(frame, "utf-8")
        return json.loads(text.removeprefix("\ufeff"), parse_int=_parse_int)
    except UnicodeDecodeError as error:
        problems.append(f": not UTF-8 at byte {error.start}")
    except json.JSONDecodeError as error:
        problems.append(f": not JSON at character {error.pos}: {error.msg}")
    except RecursionError:
        problems.append(": nested too deeply")
    except TypeError:
        problems.append(f": expected text or bytes, got {type(frame).__name__}")
    return None


def _parse_int(digits: str) -> float:
    # As orjson does; and int() refuses more than some thousands of digits.
    return int(digits) if len(digits.lstrip("-")) < 20 else float(digits)
