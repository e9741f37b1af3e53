"""Finds script files and reads them, telling all mistakes at once."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from polysync.scenarios.mistakes import Mistake, ScriptError
from polysync.scenarios.pythonfile import read_python
from polysync.scenarios.script import Script
from polysync.scenarios.yamlfile import read_yaml

__all__ = ["load_scripts"]

_YAML = (".yaml", ".yml")


def load_scripts(
    *paths: str | os.PathLike[str], variables: Mapping[str, object] | None = None
) -> list[Script]:
    """Read scripts.

    Args:
        *paths: Files ending in ``.yaml``, ``.yml`` or ``.py``, patterns such as
            ``scripts/*.yaml``, and directories, in which such files are looked for.
        variables: Values that replace those that the scripts give.

    Raises:
        ScriptError: There are mistakes; it lists all of them, with file and line.
    """
    given = {name: str(value) for name, value in (variables or {}).items()}
    mistakes: list[Mistake] = []
    scripts: list[Script] = []
    for path in _files(paths, mistakes):
        try:
            source = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            mistakes.append(Mistake(str(path), 0, f"is not in UTF-8: {error.reason}"))
            continue
        except OSError as error:
            mistakes.append(Mistake(str(path), 0, f"cannot be read: {error.strerror}"))
            continue
        read = read_yaml if path.suffix in _YAML else read_python
        inside: list[Mistake] = []
        scripts += read(str(path), source, given, inside)
        mistakes += sorted(inside, key=lambda mistake: mistake.line)
    if mistakes:
        raise ScriptError.of(mistakes)
    return scripts


def _files(
    paths: Iterable[str | os.PathLike[str]], mistakes: list[Mistake]
) -> list[Path]:
    found: dict[Path, None] = {}
    for each in paths:
        path = Path(each)
        if path.is_dir():
            inside = sorted(
                one
                for one in path.rglob("*")
                if one.suffix in (*_YAML, ".py") and one.is_file()
            )
            if not inside:
                mistakes.append(Mistake(str(each), 0, "has no scripts in it"))
            found.update(dict.fromkeys(inside))
        elif path.is_file():
            if path.suffix in (*_YAML, ".py"):
                found[path] = None
            else:
                mistakes.append(
                    Mistake(str(each), 0, "is no script: .yaml, .yml or .py")
                )
        else:
            matches = sorted(glob.glob(str(each), recursive=True))
            if not matches:
                mistakes.append(Mistake(str(each), 0, "there is no such file"))
            found.update((Path(match), None) for match in matches)
    return list(found)
