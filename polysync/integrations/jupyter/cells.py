"""Which cell made which chat, so that running it again closes what it made before."""

from __future__ import annotations

import threading
from typing import Any, Protocol

import attrs

__all__ = ["leave", "take_place"]


class Closable(Protocol):
    """What has a place."""

    def close(self) -> None:
        """Give it back."""


@attrs.define
class _Place:
    name: str | None
    cell: str | None
    run: str | None


_lock = threading.Lock()
_places: dict[int, tuple[Closable, _Place]] = {}


def take_place(widget: Closable, name: str | None) -> None:
    """Close what stands in the way of a widget, and remember where it is.

    That is what the same cell made when it was run before, and what has the same name.
    """
    cell, run = _here()
    with _lock:
        replaced = [
            other
            for other, place in _places.values()
            if (name is not None and place.name == name)
            or (cell is not None and place.cell == cell and place.run != run)
        ]
        _places[id(widget)] = widget, _Place(name, cell, run)
    for other in replaced:
        other.close()


def leave(widget: Closable) -> None:
    """Forget a widget that is closed."""
    with _lock:
        _places.pop(id(widget), None)


def _here() -> tuple[str | None, str | None]:
    """Return the ids of the cell that runs and of its run, where they are known."""
    from IPython.core.getipython import get_ipython

    # Only the shell of a kernel has requests.
    parent = getattr(get_ipython(), "get_parent", None)
    request = {} if parent is None else parent()
    # JupyterLab, Notebook and VS Code say which cell an execute_request comes from.
    cell = _text(request.get("metadata"), "cellId")
    return cell, _text(request.get("header"), "msg_id")


def _text(mapping: Any, key: str) -> str | None:
    value = mapping.get(key) if isinstance(mapping, dict) else None
    return value if isinstance(value, str) else None
