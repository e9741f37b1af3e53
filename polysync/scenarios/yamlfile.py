"""Scripts in YAML: read by their nodes, so that every mistake has its line."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from polysync.errors import ConfigurationError
from polysync.scenarios.mistakes import Mistake
from polysync.scenarios.script import WITHIN, Script
from polysync.scenarios.steps import (
    ENDS,
    HANDOFFS,
    SPEAKERS,
    Choose,
    Expect,
    Say,
    Step,
)
from polysync.scenarios.variables import BUILT_IN, names_in

__all__ = ["read_yaml"]

_TOP = ("name", "variables", "cases", "within", "greeting", "streaming", "steps")
_STEP = ("say", "choose", "expect")
_EXPECT = (
    "text",
    "pattern",
    "suggestion",
    "attachment",
    "by",
    "handoff",
    "end",
    "within",
    "eventually",
)
_ABOUT_MESSAGES = ("text", "pattern", "suggestion", "attachment", "by", "eventually")


def read_yaml(
    path: str, source: str, variables: Mapping[str, str], mistakes: list[Mistake]
) -> list[Script]:
    """Read the conversations in a YAML file, one in each document.

    Args:
        path: The file's name, for messages and reports.
        source: What is in it.
        variables: Those of the command line, which replace the scripts' own.
        mistakes: Where mistakes are put.
    """
    try:
        import yaml
    except ImportError as error:
        raise ConfigurationError(
            "scripts in YAML need PyYAML; install it with: pip install 'polysync[run]'"
        ) from error
    try:
        documents = list(yaml.compose_all(source, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        mistakes.append(Mistake(path, line, f"is no YAML: {error.problem}"))
        return []
    except (yaml.YAMLError, RecursionError) as error:
        mistakes.append(Mistake(path, 0, f"is no YAML: {error}"))
        return []
    scripts: list[Script] = []
    for node in documents:
        if node is not None and not _is_null(node):
            scripts += _Reader(path, variables, mistakes).conversation(
                node, several=len(documents) > 1
            )
    if not scripts and not mistakes:
        mistakes.append(Mistake(path, 0, "is empty: it needs steps"))
    return scripts


def _is_null(node: Any) -> bool:
    return bool(node.tag.endswith(":null"))


class _Reader:
    """Reads one document."""

    def __init__(
        self, path: str, variables: Mapping[str, str], mistakes: list[Mistake]
    ) -> None:
        self._path = path
        self._given = variables
        self._mistakes = mistakes

    def conversation(self, node: Any, several: bool) -> list[Script]:
        before = len(self._mistakes)
        keys = self._mapping(node, _TOP, "a conversation")
        if keys is None:
            return []
        stem = re.sub(r"\.ya?ml$", "", self._path.replace("\\", "/").rpartition("/")[2])
        line = node.start_mark.line + 1
        name = f"{stem}:{line}" if several else stem
        if "name" in keys:
            name = self._text(keys["name"], "name") or name
        variables = self._variables(keys.get("variables"))
        cases = self._cases(keys.get("cases"))
        settings: dict[str, Any] = {"within": WITHIN}
        if "within" in keys:
            settings["within"] = self._seconds(keys["within"])
        for flag in ("greeting", "streaming"):
            if flag in keys:
                settings[flag] = self._flag(keys[flag], flag)
        steps: tuple[Step, ...] = ()
        if "steps" not in keys:
            self._mistake(node, "there are no steps")
        else:
            steps = tuple(self._steps(keys["steps"]))
            known = {*BUILT_IN, *variables, *self._given}
            known |= set.intersection(*map(set, cases)) if cases else set()
            self._check_variables(steps, known)
        if len(self._mistakes) > before:
            return []
        scripts = []
        for case in cases or [{}]:
            more = ", ".join(f"{key}={value}" for key, value in case.items())
            scripts.append(
                Script(
                    name=f"{name} [{more}]" if more else name,
                    path=self._path,
                    line=line,
                    steps=steps,
                    variables={**variables, **case, **self._given},
                    **settings,
                )
            )
        return scripts

    # Steps

    def _steps(self, node: Any) -> Iterator[Step]:
        items = self._sequence(node, "steps")
        if items == []:
            self._mistake(node, "there are no steps")
        for item in items or ():
            if item.id == "mapping":
                yield from self._step(item)
            else:
                self._mistake(item, f"a step is one of {_either(_STEP)}, with a colon")

    def _step(self, node: Any) -> Iterator[Step]:
        keys = self._mapping(node, _STEP, "a step")
        if keys is None:
            return
        if not node.value:
            self._mistake(node, f"a step is one of {_either(_STEP)}")
        if "say" in keys and "choose" in keys:
            self._mistake(keys["choose"], "a step has either say or choose, not both")
        if "say" in keys:
            text = self._text(keys["say"], "say")
            if text is not None and not text.strip():
                self._mistake(keys["say"], "say needs a text: an empty one is not sent")
            elif text is not None:
                yield Say(text, _line(keys["say"]))
        elif "choose" in keys:
            choice = keys["choose"]
            text = self._text(choice, "choose")
            if text is not None and choice.tag.endswith(":int"):
                if text.isdecimal() and int(text) >= 1:
                    yield Choose(int(text), _line(choice))
                else:
                    self._mistake(choice, "suggestions are numbered from 1")
            elif text is not None:
                yield Choose(text, _line(choice))
        if "expect" in keys:
            wanted = self._expect(keys["expect"])
            if wanted is not None:
                yield wanted

    def _expect(self, node: Any) -> Expect | None:
        if node.id in ("scalar", "sequence"):
            texts = self._texts(node, "expect")
            return Expect(text=texts, line=_line(node)) if texts else None
        keys = self._mapping(node, _EXPECT, "expect")
        if keys is None:
            return None
        facts: dict[str, Any] = {"line": _line(node)}
        for name in ("text", "suggestion", "attachment"):
            if name in keys:
                facts[name] = self._texts(keys[name], name)
        if "pattern" in keys:
            facts["pattern"] = self._pattern(keys["pattern"])
        if "by" in keys:
            facts["by"] = self._word(keys["by"], "by", SPEAKERS)
        if "handoff" in keys:
            facts["handoff"] = self._word(
                keys["handoff"], "handoff", HANDOFFS, "requested"
            )
        if "end" in keys:
            facts["end"] = self._word(keys["end"], "end", ENDS, "any")
        if "within" in keys:
            facts["within"] = self._seconds(keys["within"])
        if "eventually" in keys:
            facts["eventually"] = self._flag(keys["eventually"], "eventually")
        for apart in ("handoff", "end"):
            others = [key for key in keys if key not in (apart, "within")]
            if apart in keys and others:
                self._mistake(
                    keys[others[0]],
                    f"{apart} is no message: expect {others[0]} in a step of its own",
                )
                break
        return Expect(**facts)

    def _pattern(self, node: Any) -> str | None:
        text = self._text(node, "pattern")
        if text is not None:
            plain = text
            for name in set(names_in(text)):
                plain = plain.replace("${" + name + "}", "x")
            try:
                re.compile(plain)
            except re.error as error:
                self._mistake(node, f"pattern is no regular expression: {error}")
                return None
        return text

    def _check_variables(self, steps: Sequence[Step], known: set[str]) -> None:
        for step in steps:
            for text in step.texts():
                for name in names_in(text):
                    if name not in known:
                        self._mistakes.append(
                            Mistake(self._path, step.line, self._unknown(name, known))
                        )
            if isinstance(step, Expect):
                known |= step.captures()

    def _unknown(self, name: str, known: set[str]) -> str:
        return (
            f"there is no variable {name!r}{_alike(name, known)}: give it under "
            f"variables, or with --var {name}=…"
        )

    # Values

    def _variables(self, node: Any) -> dict[str, str]:
        if node is None:
            return {}
        if node.id != "mapping":
            self._mistake(node, "variables are names with values")
            return {}
        found = {}
        for name, value in self._pairs(node):
            if not name.isidentifier():
                self._mistake(value, f"{name!r} is no name: letters, digits and _")
                continue
            text = self._text(value, f"variable {name}")
            if text is not None:
                found[name] = text
        return found

    def _cases(self, node: Any) -> list[dict[str, str]]:
        if node is None:
            return []
        items = self._sequence(node, "cases")
        if items == []:
            self._mistake(node, "cases are empty")
        return [self._variables(item) for item in items or ()]

    def _texts(self, node: Any, what: str) -> tuple[str, ...]:
        nodes = node.value if node.id == "sequence" else [node]
        if not nodes:
            self._mistake(node, f"{what} is empty")
        texts = []
        for each in nodes:
            text = self._text(each, what)
            if text is not None and not text.strip():
                self._mistake(each, f"{what} is empty")
            elif text is not None:
                texts.append(text)
        return tuple(texts)

    def _text(self, node: Any, what: str) -> str | None:
        if node.id != "scalar" or _is_null(node):
            self._mistake(node, f"{what} needs a text")
            return None
        return str(node.value)

    def _word(
        self, node: Any, what: str, known: Sequence[str], true: str | None = None
    ) -> str | None:
        text = self._text(node, what)
        if text is None or text in known:
            return text
        if true is not None and node.tag.endswith(":bool"):
            if text.lower() in ("true", "yes", "on"):
                return true
            self._mistake(node, f"{what} cannot be expected not to be: leave it out")
            return None
        self._mistake(
            node,
            f"{what} is one of {_either(known)}, not {text!r}{_alike(text, known)}",
        )
        return None

    def _seconds(self, node: Any) -> float:
        try:
            value = float(node.value)
        except (TypeError, ValueError):
            value = math.nan
        if not 0 < value < math.inf:
            self._mistake(node, "within is a number of seconds above 0")
            return 1.0
        return value

    def _flag(self, node: Any, what: str) -> bool:
        if node.id == "scalar" and node.tag.endswith(":bool"):
            return str(node.value).lower() in ("true", "yes", "on")
        self._mistake(node, f"{what} is true or false")
        return True

    # Nodes

    def _mapping(
        self, node: Any, known: Sequence[str], what: str
    ) -> dict[str, Any] | None:
        if node.id != "mapping":
            self._mistake(node, f"{what} has {_either(known, 'and')}, with colons")
            return None
        found: dict[str, Any] = {}
        for name, value in self._pairs(node):
            if name not in known:
                self._mistake(
                    value,
                    f"{what} has no {name!r}{_alike(name, known)}; there is "
                    f"{_either(known, 'and')}",
                    line=self._line_of_key,
                )
            else:
                found[name] = value
        return found

    def _pairs(self, node: Any) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for key, value in node.value:
            self._line_of_key = _line(key)
            if key.id != "scalar":
                self._mistake(key, "a name is expected here")
            elif key.value in seen:
                self._mistake(key, f"{key.value!r} is here twice")
            else:
                seen.add(key.value)
                yield key.value, value

    def _sequence(self, node: Any, what: str) -> list[Any] | None:
        if node.id != "sequence":
            self._mistake(node, f"{what} is a list: put a dash before each")
            return None
        items: list[Any] = node.value
        return items

    def _mistake(self, node: Any, message: str, *, line: int = 0) -> None:
        self._mistakes.append(Mistake(self._path, line or _line(node), message))


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _either(words: Sequence[str], joint: str = "or") -> str:
    return f"{', '.join(words[:-1])} {joint} {words[-1]}"


def _alike(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
