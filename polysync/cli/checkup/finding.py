"""What a check found."""

from __future__ import annotations

from enum import Enum
from typing import Any

import attrs

__all__ = ["Finding", "Status", "Trouble"]


class Status(str, Enum):
    """How a check went."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@attrs.frozen(kw_only=True)
class Finding:
    """The outcome of one check.

    Attributes:
        step: What was checked.
        status: How it went.
        seconds: How long it took.
        detail: What was found.
        advice: What to do about it, if there is something to do.
    """

    step: str
    status: Status
    seconds: float = 0.0
    detail: str = ""
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON holds it."""
        content = attrs.asdict(self)
        content["status"] = self.status.value
        content["seconds"] = round(self.seconds, 4)
        return content


class Trouble(Exception):
    """Something is wrong, and there is something to do about it."""

    def __init__(self, detail: str, advice: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.advice = advice
