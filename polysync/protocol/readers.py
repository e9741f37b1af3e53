"""Reads the values that are not plainly right: saves what can be, reports the rest.

A reader gets a value, its path and the list of problems, and returns what stands in the
event. A problem is a line like ``.sequence: expected an integer, got a string``: it
names the type of a value and holds nothing of the value itself, as that may be the text
of a message.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from types import NoneType
from typing import Any

__all__ = [
    "LARGEST",
    "LoggedProblems",
    "Problems",
    "Reader",
    "kind_of",
    "log_problems",
    "parse_time",
    "read_extra",
    "read_id",
    "read_integer",
    "read_metadata",
    "read_number",
    "read_payload",
    "read_timestamp",
    "reader_of",
]

# The codec's logger: where a problem is noticed is no concern of the log's reader.
_logger = logging.getLogger("polysync.protocol.codec")
# One bad frame must not fill the log.
_MOST_LOGGED = 10

Problems = list[str]
Reader = Callable[[Any, str, Problems], Any]

# Protobuf's 64-bit integers. What is beyond comes as an int from one JSON parser and as
# a float, with digits lost, from another, so it is no use as a number to anybody.
LARGEST = 2**63 - 1
# Up to here every integral float stands for one integer only.
_LARGEST_EXACT = 2**53


def kind_of(value: object) -> str:
    """Name the JSON type of a value, and nothing of the value itself."""
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int):
        return "an integer" if abs(value) <= LARGEST else "a number beyond 64 bits"
    if isinstance(value, float):
        inside = value != value or abs(value) <= LARGEST
        return "a number" if inside else "a number beyond 64 bits"
    names = {str: "a string", list: "a list", dict: "an object", NoneType: "null"}
    return names.get(type(value), type(value).__name__)


def log_problems(problems: Problems) -> None:
    """Log problems as warnings, but no more than a few."""
    for problem in problems[:_MOST_LOGGED]:
        _logger.warning("%s", problem)
    if len(problems) > _MOST_LOGGED:
        _logger.warning("and %d more problems", len(problems) - _MOST_LOGGED)


class LoggedProblems(Problems):
    """Takes problems when no caller has given a list for them, and logs them."""

    def append(self, problem: str) -> None:
        log_problems([f"${problem}"])

    def extend(self, problems: Iterable[str]) -> None:
        log_problems([f"${problem}" for problem in problems])


def reader_of(expected: str, default: object) -> Reader:
    """Make a reader that saves nothing."""

    def read(value: Any, path: str, problems: Problems) -> object:
        problems.append(f"{path}: expected {expected}, got {kind_of(value)}")
        return default

    return read


def read_id(value: Any, path: str, problems: Problems) -> str | None:
    number = _whole(value)
    if number is None:
        problems.append(f"{path}: expected a string, got {kind_of(value)}")
    return None if number is None else str(number)


def read_integer(value: Any, path: str, problems: Problems) -> int | None:
    # The length is checked first: int() is slow on, and refuses, thousands of digits.
    if type(value) is str and len(value) <= 20 and re.fullmatch(r"-?[0-9]+", value):
        number = _whole(int(value))
    else:
        number = _whole(value)
    if number is None:
        problems.append(f"{path}: expected an integer, got {kind_of(value)}")
    return number


def _whole(value: Any) -> int | None:
    if type(value) is int and abs(value) <= LARGEST:
        return value
    if type(value) is float and abs(value) <= _LARGEST_EXACT and value.is_integer():
        return int(value)
    return None


def read_number(value: Any, path: str, problems: Problems) -> float | None:
    number: float | None = None
    if type(value) in (int, float) and abs(value) <= LARGEST:
        number = value
    elif type(value) is str and re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", value):
        number = float(value) if "." in value else int(value)
    if number is None:
        problems.append(f"{path}: expected a number, got {kind_of(value)}")
    return number


_ISO_8601 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d)?(?:[.,](\d+))?"
    r"(?:([Zz])|([+-])(\d\d):?(\d\d)?)?",
    re.ASCII,
)


def read_timestamp(value: Any, path: str, problems: Problems) -> datetime | None:
    if type(value) is not str:
        problems.append(f"{path}: expected a time, got {kind_of(value)}")
        return None
    parts = _ISO_8601.fullmatch(value)
    if parts is not None:
        date, minute, second, fraction, _, sign, hours, minutes = parts.groups()
        micros = ((fraction or "") + "000000")[:6]
        try:
            when = datetime.fromisoformat(f"{date}T{minute}{second or ':00'}.{micros}")
            zone = timezone.utc
            if sign:
                offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
                zone = timezone(-offset if sign == "-" else offset)
            # In the first and the last year astimezone() may fail. The first day of all
            # is what some programs write for no time.
            if 1 < when.year < 9999:
                return when.replace(tzinfo=zone)
        except ValueError:
            pass  # It looks like a time and is none: the 31st of February.
    problems.append(f"{path}: expected a time in ISO 8601, got another string")
    return None


if sys.version_info >= (3, 11):
    parse_time = datetime.fromisoformat
else:

    def parse_time(text: str) -> datetime:
        # Python 3.10 knows neither Z nor fractions but of three and of six digits.
        return datetime.fromisoformat(text.replace("Z", "+00:00"))


def read_metadata(value: Any, path: str, problems: Problems) -> dict[str, str]:
    if type(value) is not dict:
        problems.append(f"{path}: expected an object, got {kind_of(value)}")
        return {}
    custom = value.get("custom")
    if custom is None:
        return {}
    if type(custom) is not dict:
        problems.append(f"{path}.custom: expected an object, got {kind_of(custom)}")
        return {}
    for item in custom.values():
        if type(item) is not str:
            break
    else:
        return custom
    kept = {}
    for key, item in custom.items():
        if type(item) is str:
            kept[key] = item
        else:
            where = f"{path}.custom[{key[:40]!a}]"
            problems.append(f"{where}: expected a string, got {kind_of(item)}")
    return kept


def read_extra(payload: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """Keep the fields that the class does not have."""
    return {name: value for name, value in payload.items() if name not in known}


def read_payload(data: dict[str, Any], key: str, problems: Problems) -> dict[str, Any]:
    """Find the payload where it is not a plain object under ``payload``."""
    value = data.get("payload")
    name = "payload"
    if value is None:
        value, name = data.get(key), key
    if type(value) is dict:
        return value
    if value is not None:
        problems.append(f".{name}: expected an object, got {kind_of(value)}")
    return {}
