"""Variables in scripts: ``${name}``, and ``$${`` for a plain ``${``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

__all__ = ["BUILT_IN", "fill", "names_in"]

#: Variables that every conversation has: the repetition's number, from 1.
BUILT_IN = ("number",)

_PLACE = re.compile(r"\$(\$)?\{([A-Za-z_]\w*)\}")


def names_in(text: str) -> Iterator[str]:
    """Yield the names of the variables in a text."""
    for found in _PLACE.finditer(text):
        if not found[1]:
            yield found[2]


def fill(
    text: str,
    variables: Mapping[str, object],
    quote: Callable[[str], str] = str,
) -> str:
    """Put the variables' values in their places.

    Args:
        text: The text.
        variables: The values by name.
        quote: Applied to each value, `re.escape` for one.

    Raises:
        KeyError: There is no such variable.
    """

    def value(found: re.Match[str]) -> str:
        if found[1]:
            return found[0][1:]
        return quote(str(variables[found[2]]))

    return _PLACE.sub(value, text)
