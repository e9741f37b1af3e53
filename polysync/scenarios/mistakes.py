"""Mistakes in scripts: all of them at once, each with its file and line."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from polysync.errors import ConfigurationError

__all__ = ["Mistake", "ScriptError"]


@attrs.frozen
class Mistake:
    """Something in a script that cannot be meant so.

    Attributes:
        path: The file.
        line: The line in it, from 1; 0 for the file as a whole.
        message: What is wrong, and what would be right.
    """

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else self.path
        return f"{where}: {self.message}"


class ScriptError(ConfigurationError):
    """There are mistakes in scripts; nothing was played."""

    def __init__(self, message: str = "", *, mistakes: Sequence[Mistake] = ()) -> None:
        super().__init__(message)
        #: Each `Mistake`, in the order of the files and lines.
        self.mistakes = tuple(mistakes)

    @classmethod
    def of(cls, mistakes: Sequence[Mistake]) -> ScriptError:
        """Make the error that lists these mistakes."""
        return cls("\n".join(map(str, mistakes)), mistakes=mistakes)
