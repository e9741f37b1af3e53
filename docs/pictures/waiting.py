"""Where pictures go, and waiting for what is to be on them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent.parent
STATIC = ROOT / "docs" / "_static"


def directory() -> Path:
    """Return the directory that the command line names, else the manual's."""
    place = Path(sys.argv[1] if len(sys.argv) > 1 else STATIC)
    place.mkdir(parents=True, exist_ok=True)
    return place


def until(condition: Callable[[], T | None], seconds: float = 30.0) -> T:
    """Return the first true value of a condition."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while time.monotonic() < deadline:
        if value := condition():
            return value
        pause.wait(0.05)
    raise TimeoutError("what the picture is to show has not appeared")
