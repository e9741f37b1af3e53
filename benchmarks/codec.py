"""What reading a frame costs, against parsing its JSON alone and against its peers.

All contenders take turns in rounds of a few milliseconds, each round in another order;
peers that are not installed are left out. In microseconds of CPU an event.

    python benchmarks/codec.py [--seconds 3]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from datetime import datetime
from types import FunctionType
from typing import Annotated, Any, Literal, Union

import attrs
import cattrs.preconf.json
from rounds import Section, turns_of

from polysync.protocol import codec


def _event(number: int, name: str, **payload: Any) -> dict[str, Any]:
    return {
        "id": f"5f0c2b1e-7a43-4f0e-9f55-{number:012d}",
        "sequence": number,
        "timestamp": "2026-08-14T09:26:53.589Z",
        "type": f"EVENT_TYPE_{name}",
        "payload": payload,
    }


def _chunk(number: int, text: str = " table for two at seven") -> dict[str, Any]:
    return _event(
        number,
        "POLY_AGENT_MESSAGE_CHUNK",
        message_id="9c3d2f60-0b0e-4c3b-8d3e-1f6a2b3c4d5e",
        text=text,
        attachments=[],
        response_suggestions=[],
        chunk_index=number,
        is_complete=False,
    )


def _message(
    number: int, text: str = "We have a table at seven. " * 4
) -> dict[str, Any]:
    return _event(
        number,
        "POLY_AGENT_MESSAGE",
        message_id="9c3d2f60-0b0e-4c3b-8d3e-1f6a2b3c4d5e",
        text=text,
        attachments=[
            {
                "title": title,
                "preview_image_url": f"https://cdn.example.com/{title}.png",
                "content_url": f"https://www.example.com/{title}",
                "content_type": "ATTACHMENT_CONTENT_TYPE_URL",
                "call_to_action_text": "Look",
            }
            for title in ("menu", "map")
        ],
        response_suggestions=[
            {"message_text": text} for text in ("Yes, please", "No", "Later")
        ],
    )


def _reply(number: int) -> dict[str, Any]:
    message = _message(number)
    message["payload"] |= {"attachments": [], "agent_name": "Maya"}
    return message


def _echo(number: int) -> dict[str, Any]:
    event = _event(number, "USER_MESSAGE", text="Tonight?", message_id=f"m{number}")
    own_id = "0d1c6f3a-5f39-4c39-a0c6-6f1c8f2f4f11"
    return event | {"metadata": {"custom": {"local_id": own_id}}}


def _batch(events: list[dict[str, Any]]) -> dict[str, Any]:
    return _event(0, "EVENT_BATCH", events=events)


#: What is read: the name, the frame, and the number of events in it.
FRAMES: dict[str, tuple[dict[str, Any], int]] = {
    "chunk": (_chunk(3), 1),
    "message": (_message(4), 1),
    "200-event batch": (
        _batch([(_echo, _chunk, _chunk, _reply)[n % 4](n) for n in range(200)]),
        200,
    ),
    "128 KB batch": (
        _batch([(_message, _chunk, _reply)[n % 3](n) for n in range(247)]),
        247,
    ),
}
FLOOR = "json.loads"

Contender = Callable[[bytes], Any]


def contenders() -> dict[str, Contender]:
    """Give the ways of reading a frame that are installed here."""
    # Of text: given bytes, json.loads() first finds out which encoding they are in.
    ours: dict[str, Contender] = {FLOOR: lambda frame: json.loads(str(frame, "utf-8"))}
    ours["polysync"] = _polysync(codec._loads_plain)
    if _installed("orjson"):
        import orjson

        ours["orjson.loads"] = orjson.loads
        ours["polysync, orjson"] = _polysync(orjson.loads)
    ours["cattrs"] = _cattrs()
    if _installed("msgspec"):
        ours["msgspec"] = _msgspec()
    if _installed("pydantic"):
        ours["pydantic"] = _pydantic()
    return ours


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _polysync(loads: Callable[[Any], Any]) -> Contender:
    # The function itself, but with a JSON parser of its own: nothing in between.
    parse = codec.parse
    names = {**vars(codec), "_loads": loads}
    return FunctionType(
        parse.__code__, names, parse.__name__, parse.__defaults__, parse.__closure__
    )


# The peers' classes, made from one table. They know four types where polysync knows 34,
# keep the envelope and the payload apart, and give up on what is not as it should be.


def _classes(make: Callable[..., Any]) -> Any:
    """Make the classes, and return that of any frame."""
    text, maybe, flag = (str, ""), (str | None, None), (bool, False)
    card = make(
        "Attachment",
        title=maybe,
        preview_image_url=maybe,
        content_url=maybe,
        content_type=maybe,
        call_to_action_text=maybe,
    )
    suggestion = make("Suggestion", message_text=text)
    lists = {
        "attachments": (list[card], ...),  # type: ignore[valid-type]
        "response_suggestions": (list[suggestion], ...),  # type: ignore[valid-type]
    }
    payloads = {
        "POLY_AGENT_MESSAGE_CHUNK": make(
            "Chunk",
            message_id=maybe,
            text=text,
            chunk_index=(int | None, None),
            is_complete=flag,
            **lists,
        ),
        "POLY_AGENT_MESSAGE": make(
            "Message",
            message_id=maybe,
            text=text,
            agent_name=maybe,
            avatar_url=maybe,
            end_conversation=flag,
            **lists,
        ),
        "USER_MESSAGE": make("UserMessage", text=text, message_id=maybe),
    }
    events = [_envelope(make, name, payload) for name, payload in payloads.items()]
    one = make.union(events)  # type: ignore[attr-defined]
    batch = make("BatchPayload", events=(list[one], ...))
    return make.union([*events, _envelope(make, "EVENT_BATCH", batch)])  # type: ignore[attr-defined]


def _envelope(make: Callable[..., Any], name: str, payload: Any) -> Any:
    return make(
        f"{name}_EVENT",
        tag=f"EVENT_TYPE_{name}",
        id=(str | None, None),
        sequence=(int | None, None),
        timestamp=(datetime | None, None),
        payload=(payload, ...),
        metadata=(dict[str, dict[str, str]] | None, None),
    )


def _pydantic() -> Contender:
    from pydantic import Field, TypeAdapter, create_model

    def make(name: str, tag: str | None = None, **fields: Any) -> Any:
        if tag is not None:
            fields["type"] = (Literal[tag], ...)
        return create_model(name, **fields)

    def union(models: list[Any]) -> Any:
        return Annotated[Union[tuple(models)], Field(discriminator="type")]  # noqa: UP007

    make.union = union  # type: ignore[attr-defined]
    contender: Contender = TypeAdapter(_classes(make)).validate_json
    return contender


def _msgspec() -> Contender:
    import msgspec

    def make(name: str, tag: str | None = None, **fields: Any) -> Any:
        required = [(n, t) for n, (t, default) in fields.items() if default is ...]
        optional = [(n, t, d) for n, (t, d) in fields.items() if d is not ...]
        tagged = {"tag_field": "type", "tag": tag} if tag else {}
        return msgspec.defstruct(name, required + optional, frozen=True, **tagged)

    def union(structs: list[Any]) -> Any:
        return Union[tuple(structs)]  # noqa: UP007

    make.union = union  # type: ignore[attr-defined]
    decoder: Any = msgspec.json.Decoder(_classes(make))
    contender: Contender = decoder.decode
    return contender


def _cattrs() -> Contender:
    converter = cattrs.preconf.json.make_converter()

    def make(name: str, tag: str | None = None, **fields: Any) -> Any:
        if tag is not None:
            fields["type"] = (Literal[tag], ...)
        members = {
            n: attrs.field(
                type=t, default=attrs.NOTHING if d is ... else d, kw_only=True
            )
            for n, (t, d) in fields.items()
        }
        made = attrs.make_class(name, members, frozen=True, slots=True)
        made.tag = tag
        return made

    def union(classes: list[Any]) -> Any:
        made = Union[tuple(classes)]  # noqa: UP007
        by_tag = {cls.__attrs_attrs__.type.type.__args__[0]: cls for cls in classes}
        converter.register_structure_hook(
            made, lambda data, _: converter.structure(data, by_tag[data["type"]])
        )
        return made

    make.union = union  # type: ignore[attr-defined]
    whole = _classes(make)
    return lambda frame: converter.structure(json.loads(frame), whole)


def measure(seconds: float) -> dict[str, Section]:
    """Read each frame for so many seconds; give microseconds an event."""
    sections: dict[str, Section] = {}
    every = contenders()
    for name, (data, events) in FRAMES.items():
        frame = json.dumps(data, separators=(",", ":")).encode()
        section = sections[name] = Section(f"decode us an event: {name}", floor=FLOOR)
        for read in every.values():
            read(frame)
        loops = max(1, 400 // events)
        end = time.perf_counter() + seconds
        for order in turns_of(every):
            for contender in order:
                read = every[contender]
                start = time.process_time()
                for _ in range(loops):
                    read(frame)
                spent = time.process_time() - start
                section.add(contender, spent / loops / events * 1e6)
            if time.perf_counter() > end:
                break
    return sections


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each frame")
    options = parser.parse_args()
    for section in measure(options.seconds).values():
        print(section)
        print(f"  {'polysync, orjson / pydantic':38}", end="")
        ratio = section.ratio("polysync, orjson", "pydantic")
        print("not measured" if ratio is None else f"{ratio:29.2f}")


if __name__ == "__main__":
    main()
