"""Scripts in Python."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from polysync.scenarios import PythonScript, Script, conversation, play

Load = Callable[..., list[Script]]

SOURCE = """
from dataclasses import dataclass
from polysync.scenarios import Talk, conversation

@dataclass
class Order:
    number: int

@conversation("Order", within=7, variables={"what": "order", "more": 1})
def order(talk: Talk) -> None:
    talk.expect("good", suggestion="menu")
    talk.say("${what}")
    message = talk.expect(pattern=r"(?P<order>\\d+)", by="agent")
    assert Order(int(talk.variables["order"])).number == 4711
    talk.say("human")
    assert talk.expect(handoff="joined").agent.name == "Sam"

@conversation
def fails(talk):
    talk.say("hello")
    talk.expect("nobody says this")

@conversation(greeting=False)
def asserts(talk):
    talk.say("hello")
    assert "x" in talk.expect().text, "no x"

@conversation()
def errs(talk):
    talk.say("hello")
    {}["nothing"]
"""


def test_functions_are_scripts(loaded: Load) -> None:
    """Marked functions are found in their order, with their settings."""
    scripts = loaded(SOURCE, "talks.py", more="2")

    assert [each.name for each in scripts] == ["Order", "fails", "asserts", "errs"]
    assert scripts[0].within == 7
    assert scripts[0].variables == {"what": "order", "more": "2"}
    assert [each.greeting for each in scripts] == [True, True, False, True]
    assert all(isinstance(each, PythonScript) for each in scripts)
    assert scripts[0].line == 9


def test_function_is_performed(loaded: Load, options: dict[str, Any]) -> None:
    """A function talks, with a copy that was pickled as well; the source suffices."""
    script = pickle.loads(pickle.dumps(loaded(SOURCE, "talks.py")[0]))

    outcome = play(script, options)

    assert outcome.failure is None, outcome.failure
    assert len(outcome.turns) == 2


def test_failures_have_their_lines(loaded: Load, options: dict[str, Any]) -> None:
    """Where a function failed is told by its line in the file."""
    _, fails, asserts, errs = (
        play(script, options).failure for script in loaded(SOURCE, "talks.py")
    )
    assert fails is not None
    assert (fails.kind, fails.line) == ("failed", 21)
    assert "'nobody says this' is missing" in fails.message
    assert asserts is not None
    assert (asserts.kind, asserts.line) == ("failed", 26)
    assert asserts.message.startswith("no x")
    assert errs is not None
    assert (errs.kind, errs.line) == ("error", 31)
    assert errs.message == "KeyError: 'nothing'"


def test_wrong_words_are_refused(options: dict[str, Any], loaded: Load) -> None:
    """A step of a handoff that there is not is an error of the script."""
    (script,) = loaded(
        "from polysync.scenarios import conversation\n"
        "@conversation\n"
        "def x(talk):\n"
        "    talk.expect(handoff='never')\n",
        "x.py",
    )
    failure = play(script, options).failure
    assert failure is not None
    assert "handoff must be one of requested" in failure.message


def test_mark_leaves_the_function_alone() -> None:
    """A marked function can still be called."""

    @conversation("x")
    def function(talk: Any) -> str:
        return f"called with {talk}"

    assert function(1) == "called with 1"  # type: ignore[arg-type]
