"""Scripts in Python: functions that are given a `Talk`."""

from __future__ import annotations

import functools
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, TypeVar, overload

import attrs

from polysync.scenarios.mistakes import Mistake
from polysync.scenarios.script import WITHIN, Script
from polysync.scenarios.talk import Talk

__all__ = ["PythonScript", "conversation", "read_python"]

_F = TypeVar("_F", bound=Callable[[Talk], object])

_MARK = "__polysync_conversation__"


@attrs.frozen(kw_only=True)
class PythonScript(Script):
    """A conversation as a function.

    It carries its source along, so that it can be played where the file is not.

    Attributes:
        function: The function's name in the file.
        source: The whole file.
    """

    function: str
    source: str = attrs.field(repr=False)

    def perform(self, talk: Talk) -> None:
        """Call the function."""
        getattr(_module(self.path, self.source), self.function)(talk)


@overload
def conversation(name: _F) -> _F: ...
@overload
def conversation(
    name: str | None = None,
    *,
    within: float = WITHIN,
    variables: Mapping[str, object] | None = None,
    greeting: bool = True,
    streaming: bool = True,
) -> Callable[[_F], _F]: ...
def conversation(
    name: str | Callable[[Talk], object] | None = None,
    *,
    within: float = WITHIN,
    variables: Mapping[str, object] | None = None,
    greeting: bool = True,
    streaming: bool = True,
) -> Any:
    """Make a function a script, for ``polysync run`` and `load_scripts` to find.

    ::

        @conversation("Book a table", within=5)
        def book(talk):
            talk.expect("book a table")
            talk.say("A table for two, please")

    Args:
        name: What it is called in reports; default: the function's name.
        within: How long expectations wait, in seconds.
        variables: What ``${name}`` stands for; ``--var`` replaces them.
        greeting: Whether the agent speaks first.
        streaming: Whether replies come in chunks.
    """

    def mark(function: Any) -> Any:
        title = name if isinstance(name, str) else function.__name__
        settings = {
            "name": title,
            "within": float(within),
            "variables": {k: str(v) for k, v in (variables or {}).items()},
            "greeting": greeting,
            "streaming": streaming,
        }
        setattr(function, _MARK, settings)
        return function

    return mark(name) if callable(name) else mark


def read_python(
    path: str, source: str, variables: Mapping[str, str], mistakes: list[Mistake]
) -> list[Script]:
    """Find the conversations in a Python file.

    Args:
        path: The file's name, for messages.
        source: What is in it.
        variables: Those of the command line, which replace the scripts' own.
        mistakes: Where mistakes are put.
    """
    try:
        module = _module(path, source)
    except SyntaxError as error:
        mistakes.append(Mistake(path, error.lineno or 0, f"{error.msg}"))
        return []
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [each.lineno or 0 for each in frames if each.filename == path]
        words = f"{type(error).__name__}: {error}"
        mistakes.append(Mistake(path, lines[-1] if lines else 0, words))
        return []
    found: list[Script] = []
    for attribute, function in vars(module).items():
        settings = getattr(function, _MARK, None)
        if not isinstance(settings, dict):
            continue
        own = dict(settings)
        own["variables"] = {**own["variables"], **variables}
        line = function.__code__.co_firstlineno
        found.append(
            PythonScript(path=path, line=line, function=attribute, source=source, **own)
        )
    if not found:
        mistakes.append(
            Mistake(path, 0, "there is no function with @conversation in it")
        )
    return found


@functools.lru_cache(maxsize=256)
def _module(path: str, source: str) -> types.ModuleType:
    """Execute a file, once in a process."""
    code = compile(source, path, "exec", dont_inherit=True)
    digest = sha256(f"{path}\0{source}".encode()).hexdigest()[:12]
    module = types.ModuleType(f"polysync_script_{digest}")
    module.__file__ = path
    # Where dataclasses and pickle look for it.
    sys.modules[module.__name__] = module
    try:
        exec(code, vars(module))
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module
