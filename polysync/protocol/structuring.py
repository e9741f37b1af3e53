"""Structures parsed JSON into events and models: one straight-line function a class.

The attrs fields of a class are the only description of what it looks like on the wire.
From them `build_hook` writes the source of a function and compiles it, once, when the
first object of the class comes. This is what becomes of one field::

    def structure(data, cls, problems=None):
        ...  # the fields before
        value = payload.get("text")
        if value is None:
            found -= 1
            new.text = ""
        elif type(value) is str:
            new.text = value
        else:
            new.text = read_text(value, ".payload.text", problems)

The functions trust what has exactly the right type; all else goes to a reader. The
metadata of an attrs field may say more: ``alias`` (another name on the wire), ``flat``
(an object whose fields may stand in the payload itself), ``required`` (without it, an
element of a list is of no use) and ``local`` (never on the wire).

Measured by ``benchmarks/codec.py`` on CPython 3.11, parsing with orjson included: 1.8
us a chunk and 4.3 us a message with two cards and three suggestions. The functions that
cattrs generates take 8.1 and 15.2 us, pydantic's compiled ones 2.3 and 5.5 us.
"""

from __future__ import annotations

import functools
import linecache
import sys
import textwrap
from datetime import timezone
from enum import Enum
from types import CodeType
from typing import Any, Protocol, get_args, get_origin

import attrs

from polysync.events import Event
from polysync.protocol.readers import (
    LoggedProblems,
    Problems,
    Reader,
    kind_of,
    parse_time,
    read_extra,
    read_id,
    read_integer,
    read_metadata,
    read_number,
    read_payload,
    read_timestamp,
    reader_of,
)

__all__ = ["Hook", "build_hook", "payload_key"]


class Hook(Protocol):
    """Structures a JSON object; see `build_hook`."""

    def __call__(
        self, data: dict[str, Any], cls: Any, problems: Problems | None = None, /
    ) -> Any: ...


def payload_key(event_type: str) -> str:
    """Name the key that may carry the payload in place of ``payload``."""
    return event_type.removeprefix("EVENT_TYPE_").lower()


def _object_reader(cls: Any, default: object) -> Reader:
    def read_object(value: Any, path: str, problems: Problems) -> Any:
        if type(value) is not dict:
            problems.append(f"{path}: expected an object, got {kind_of(value)}")
            return default
        found: Problems = []
        result = build_hook(cls)(value, cls, found)
        problems.extend(path + problem for problem in found)
        return result

    return read_object


def _list_reader(cls: Any, name: str, scope: dict[str, Any]) -> Reader:
    """Make a reader of lists that, with the first, puts a quicker one in its place."""

    def read_first(value: list[Any], path: str, problems: Problems) -> Any:
        scope[name] = _build_for_lists(cls)
        return scope[name](value, path, problems)

    return read_first


def _one_by_one(
    cls: Any, value: list[Any], path: str, problems: Problems
) -> tuple[Any, ...]:
    """Read a list in which not all is as it should be."""
    structure, items = build_hook(cls), []
    required = [f.name for f in attrs.fields(cls) if f.metadata.get("required")]
    for index, item in enumerate(value):
        found: Problems = []
        if type(item) is dict:
            result = structure(item, cls, found)
            # Without what is required, which was reported, it is of no use.
            if not found or all(getattr(result, name) for name in required):
                items.append(result)
        else:
            found.append(f": expected an object, got {kind_of(item)}")
        problems.extend(f"{path}[{index}]{problem}" for problem in found)
    return tuple(items)


# Generation. Why not attrs' __init__: on a frozen class it calls object.__setattr__ for
# each field, which is 1.6 us for the 15 fields of a message against 0.25 us this way
# (CPython 3.11).


def _draft_of(cls: Any) -> type:
    """Make a twin of a frozen class that can be assigned to.

    It has the same slots, so a draft that is filled in becomes an instance of the class
    by assigning its ``__class__``.
    """
    body = {
        "__slots__": cls.__slots__,
        "__init__": object.__init__,
        # Both, as they share a slot of the type: one that is inherited from a frozen
        # class would make all assignments slow.
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,
    }
    return type(f"{cls.__name__}Draft", cls.__bases__, body)


_HEAD = """\
def structure(data, cls, problems=None):
    if problems is None:
        problems = LoggedProblems()
"""

# A list is gone through in one call: with two more for each list and one for each
# element, a message with five cards and suggestions takes 0.5 us more.
_LIST_HEAD = """\
def structure(items, path, outer):
    problems, done = [], []
    try:
        for data in items:
"""

_LIST_TAIL = """\
            done.append(new)
    except AttributeError:  # It has no get(): not all of them are objects.
        return one_by_one(Class, items, path, outer)
    return one_by_one(Class, items, path, outer) if problems else tuple(done)
"""

_START = """\
    new = Draft()
"""

# The envelope is the same for all events, so it is written out. Integers below 2**30
# are compared in one step; whether others fit is for the reader to say.
_ENVELOPE = """\
    value = data.get("id")
    new.id = (
        value if type(value) is str or value is None
        else read_id(value, ".id", problems)
    )
    value = data.get("sequence")
    new.sequence = (
        value if value is None or type(value) is int and 0 <= value < 0x40000000
        else read_integer(value, ".sequence", problems)
    )
    value = data.get("timestamp")
    if value is not None:
        try:
            when = parse_time(value)
        except (AttributeError, TypeError, ValueError):
            value = read_timestamp(value, ".timestamp", problems)
        else:
            if 1 < when.year < 9999:
                value = when if when.tzinfo else when.replace(tzinfo=utc)
            else:
                value = read_timestamp(value, ".timestamp", problems)
    new.timestamp = value
    value = data.get("metadata")
    new.metadata = read_metadata(value, ".metadata", problems) if value else {}
    payload = data.get("payload")
    if type(payload) is not dict:
        payload = read_payload(data, key, problems)
"""

# Absent, plainly right, or odd. A bound ``get`` in a variable would be slower than
# the method, which the interpreter (since 3.11) calls without making one.
_FIELD = """\
    value = {source}.get("{name}"){other_name}
    if value is None:{absent}
        new.{name} = {default}
    elif {test}:
        new.{name} = {result}
    else:
        new.{name} = read_{name}(value, "{path}", problems)
"""

# What is required is never absent, only wrong.
_REQUIRED = """\
    value = {source}.get("{name}")
    new.{name} = {result} if {test} else read_{name}(value, "{path}", problems)
"""

_ALIAS = """
    if value is None:
        value = {source}.get("{alias}")"""

_FLAT = """
    if not value and not flat.keys().isdisjoint(payload):
        value = {ours: payload.get(theirs) for theirs, ours in flat.items()}
        found = -1"""

_COUNT = """\
    found = {count}
"""

_ABSENT = """
        found -= 1"""

# Counting what was found is the quickest way to see that there is nothing else. It may
# see too much (a null is as good as absent), and then `read_extra` finds none.
_EXTRA = """\
    new.extra = {} if len(payload) == found else read_extra(payload, known)
"""

_END = """\
    new.__class__ = Class
"""


def _plan(field: Any, kind: Any, path: str) -> tuple[str, str, Reader]:
    """Say how to read a field: the test, the result if it holds, the reader if not."""
    main = (get_args(kind) or (kind,))[0]
    if get_origin(kind) is tuple:
        many = f"list_{field.name}(value, {path!r}, problems) if value else ()"
        return "type(value) is list", many, reader_of("a list", ())
    if kind is Any:
        return "True", "value", reader_of("a value", None)
    if attrs.has(main):
        one = f"read_{field.name}(value, {path!r}, problems)"
        return "type(value) is dict", one, _object_reader(main, field.default)
    if issubclass(main, Enum):
        words = f"words_{field.name}.get(value, value)"
        return "type(value) is str", words, reader_of("a string", field.default)
    if main is str:
        is_id = field.name == "id" or field.name.endswith(("_id", "_number"))
        reader = read_id if is_id else reader_of("a string", field.default)
        return "type(value) is str", "value", reader
    if main is bool:
        reader = reader_of("a boolean", field.default)
        return "value is True or value is False", "value", reader
    if main in (int, float):
        whole = "type(value) is int and 0 <= value < 0x40000000"
        return whole, "value", read_integer if main is int else read_number
    raise AssertionError(f"no rule for {field.name}, as no field was of its type")


def build_hook(cls: Any) -> Hook:
    """Write and compile the function that structures a class; again, give the same one.

    Args:
        cls: An event class or a model.

    Returns:
        A function of the JSON object, the class, and a list that the problems are
        added to; without it they are logged. It changes neither the object nor
        anything in it.
    """
    hook = _built.get(cls)
    if hook is None:
        hook = _built[cls] = _build(cls)
    return hook


_built: dict[type, Hook] = {}


# What the sources of all functions refer to.
_SCOPE: dict[str, Any] = {
    "LoggedProblems": LoggedProblems,
    "one_by_one": _one_by_one,
    "parse_time": parse_time,
    "read_extra": read_extra,
    "read_id": read_id,
    "read_integer": read_integer,
    "read_metadata": read_metadata,
    "read_payload": read_payload,
    "read_timestamp": read_timestamp,
    "utc": timezone.utc,
}


def _build(cls: Any) -> Hook:
    body, scope = _body_of(cls)
    hook: Hook = _compile(cls, f"{_HEAD}{body}    return new\n", scope)
    return hook


def _build_for_lists(cls: Any) -> Reader:
    """Do as `build_hook`, for all the objects of a list at once."""
    body, scope = _body_of(cls)
    source = f"{_LIST_HEAD}{textwrap.indent(body, ' ' * 8)}{_LIST_TAIL}"
    reader: Reader = _compile(cls, source, scope)
    return reader


def _compile(cls: type, source: str, scope: dict[str, Any]) -> Any:
    code = _codes.get(source)
    if code is None:
        filename = f"<polysync: structure {cls.__name__}>"
        code = _codes[source] = compile(source, filename, "exec")
        # A traceback, should there ever be one, then shows the line.
        lines = source.splitlines(keepends=True)
        linecache.cache[filename] = (len(source), None, lines, filename)
    exec(code, scope)
    return scope["structure"]


# By their source: many events have no payload, and differ in nothing else.
_codes: dict[str, CodeType] = {}


def _body_of(cls: Any) -> tuple[str, dict[str, Any]]:
    """Write what is done with one object, and collect what that refers to."""
    scope = _SCOPE | {"Class": cls, "Draft": _draft_of(cls)}
    fields = list(attrs.fields(cls))
    is_event = issubclass(cls, Event)
    if is_event:
        fields = fields[len(attrs.fields(Event)) :]
        scope["key"] = payload_key(cls.type)
    sent = [field for field in fields if not field.metadata.get("local")]
    scope["known"] = {name for field in sent for name in _names_of(field)}
    source = [_START]
    if is_event:
        source += [_ENVELOPE, _COUNT.format(count=len(sent))]
    for field in fields:
        if field in sent:
            source.append(_source_of(cls, field, scope))
        else:
            source.append(f"    new.{field.name} = {field.default!r}\n")
    if is_event:
        source.append(_EXTRA)
    return "".join([*source, _END]), scope


def _source_of(cls: Any, field: Any, scope: dict[str, Any]) -> str:
    """Write the lines that read a field, and put what they refer to into the scope."""
    is_event = issubclass(cls, Event)
    name = field.name
    path = f".payload.{name}" if is_event else f".{name}"
    source = "payload" if is_event else "data"
    kind = _type_of(field.type, cls.__module__)
    test, result, scope[f"read_{name}"] = _plan(field, kind, path)
    if get_origin(kind) is tuple:
        every = f"list_{name}"
        scope[every] = _list_reader(get_args(kind)[0], every, scope)
    scope[f"words_{name}"] = _words_of(kind)
    scope[f"default_{name}"] = field.default
    # What can be written as a constant is quicker than the name of one.
    plain = field.default in (None, False, "", ())
    default = repr(field.default) if plain else f"default_{name}"
    other_name = ""
    if "alias" in field.metadata:
        other_name = _ALIAS.format(source=source, alias=field.metadata["alias"])
    elif "flat" in field.metadata:
        scope["flat"] = field.metadata["flat"]
        other_name = _FLAT
    template = _REQUIRED if field.metadata.get("required") else _FIELD
    return template.format(
        name=name,
        source=source,
        other_name=other_name,
        absent=_ABSENT if is_event else "",
        default=default,
        test=test,
        result=result,
        path=path,
    )


@functools.cache
def _type_of(annotation: Any, module: str) -> Any:
    """Evaluate an annotation; attrs would do it again for all inherited fields."""
    if not isinstance(annotation, str):
        return annotation  # Somebody else's cattrs has resolved the types of the class.
    return eval(annotation, vars(sys.modules[module]))


def _names_of(field: Any) -> list[str]:
    """Give the names that a field may have on the wire."""
    alias = field.metadata.get("alias", field.name)
    return [field.name, alias, *field.metadata.get("flat", ())]


def _words_of(annotation: Any) -> dict[str, Enum]:
    """Give the enumeration's members by their word on the wire, if it is one."""
    words = (get_args(annotation) or (annotation,))[0]
    is_enum = isinstance(words, type) and issubclass(words, Enum)
    return {str(member.value): member for member in words} if is_enum else {}
