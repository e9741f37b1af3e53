"""Scripts in YAML, and the mistakes in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from polysync.scenarios import (
    Choose,
    Expect,
    Mistake,
    Say,
    Script,
    ScriptError,
    load_scripts,
)

Load = Callable[..., list[Script]]

WHOLE = r"""
name: Book a table
within: 8
greeting: false
streaming: false
variables: {people: 2}
steps:
  - expect: book a table
  - say: For ${people}
    expect:
      text: [a table, for]
      pattern: 'number (?P<order>\d+)'
      suggestion: Tonight
      attachment: Menu
      by: agent
      within: 2.5
      eventually: yes
  - choose: Tonight
  - choose: 2
  - say: About ${order} in ${number}
  - expect: {handoff: true}
  - expect: {handoff: joined}
  - expect: {end: true}
  - expect: {end: natural, within: 3}
"""


def test_whole_script(loaded: Load) -> None:
    """Everything that a script can say is read, with the lines of the steps."""
    (script,) = loaded(WHOLE)

    assert (script.name, script.within) == ("Book a table", 8)
    assert (script.greeting, script.streaming) == (False, False)
    assert script.variables == {"people": "2"}
    assert script.steps == (
        Expect(text=("book a table",)),
        Say("For ${people}"),
        Expect(
            text=("a table", "for"),
            pattern=r"number (?P<order>\d+)",
            suggestion=("Tonight",),
            attachment=("Menu",),
            by="agent",
            within=2.5,
            eventually=True,
        ),
        Choose("Tonight"),
        Choose(2),
        Say("About ${order} in ${number}"),
        Expect(handoff="requested"),
        Expect(handoff="joined"),
        Expect(end="any"),
        Expect(end="natural", within=3),
    )
    assert [step.line for step in script.steps[:2]] == [8, 9]


def test_cases_and_documents_are_conversations(loaded: Load) -> None:
    """Each document of a file is one, and each case of it; names tell them apart."""
    scripts = loaded(
        "cases: [{a: 1}, {a: 2}]\nsteps: [{say: '${a}'}]\n---\nsteps: [{say: b}]\n"
    )
    names = [script.name for script in scripts]
    assert names == ["talk:1 [a=1]", "talk:1 [a=2]", "talk:4"]
    assert scripts[1].variables == {"a": "2"}
    assert loaded("steps: [{say: x}]")[0].name == "talk"


def test_given_variables_win(loaded: Load) -> None:
    """A variable of the command line replaces the script's own, or is the only one."""
    (script,) = loaded("variables: {a: 1}\nsteps: [{say: '${a}${b}'}]", a="9", b="8")
    assert script.variables == {"a": "9", "b": "8"}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 0, "is empty"),
        ("- say: x", 1, "a conversation has name, variables, cases,"),
        ("a: [", 1, "is no YAML"),
        ("x: 1\nsteps: [{say: y}]", 1, "a conversation has no 'x'"),
        ("name: x", 1, "there are no steps"),
        ("steps: []", 1, "there are no steps"),
        ("steps: {say: x}", 1, "steps is a list: put a dash"),
        ("steps:\n  - hello", 2, "a step is one of say, choose or expect"),
        ("steps:\n  - {}", 2, "a step is one of say, choose or expect"),
        ("steps:\n  - expct: x", 2, "did you mean 'expect'?"),
        ("steps:\n  - say:", 2, "say needs a text"),
        ("steps:\n  - say: '  '", 2, "an empty one is not sent"),
        ("steps:\n  - say: [x]", 2, "say needs a text"),
        ("steps:\n  - say: x\n    choose: y", 3, "either say or choose"),
        ("steps:\n  - choose: 0", 2, "numbered from 1"),
        ("steps:\n  - say: x\n    say: y", 3, "'say' is here twice"),
        ("steps:\n  - expect: {txt: x}", 2, "did you mean 'text'?"),
        ("steps:\n  - expect: {pattern: '('}", 2, "no regular expression: missing"),
        ("steps:\n  - expect: {within: soon}", 2, "a number of seconds above 0"),
        ("steps:\n  - expect: {within: -1}", 2, "a number of seconds above 0"),
        ("steps:\n  - expect: {by: bot}", 2, "agent or live_agent, not 'bot'"),
        ("steps:\n  - expect: {handoff: acepted}", 2, "did you mean 'accepted'?"),
        ("steps:\n  - expect: {end: false}", 2, "leave it out"),
        ("steps:\n  - expect: {end: true,\n     text: x}", 3, "end is no message"),
        ("steps:\n  - expect: {eventually: 3}", 2, "eventually is true or false"),
        ("steps:\n  - expect: []", 2, "expect is empty"),
        ("steps:\n  - expect: ['']", 2, "expect is empty"),
        ("steps:\n  - say: x\n  - say: ${who}", 3, "no variable 'who'"),
        ("variables: {whom: 1}\nsteps: [{say: '${who}'}]", 2, "did you mean 'whom'?"),
        ("variables: [a]\nsteps: [{say: x}]", 1, "names with values"),
        ("variables: {a-b: 1}\nsteps: [{say: x}]", 1, "'a-b' is no name"),
        ("cases: []\nsteps: [{say: x}]", 1, "cases are empty"),
        ("cases: [{a: 1}, {b: 1}]\nsteps:\n - say: ${a}", 3, "no variable 'a'"),
        ("within: 0\nsteps: [{say: x}]", 1, "a number of seconds above 0"),
        ("greeting: maybe\nsteps: [{say: x}]", 1, "greeting is true or false"),
        ("? [a]\n: b\nsteps: [{say: x}]", 1, "a name is expected"),
    ],
)
def test_mistake_has_its_line(loaded: Load, text: str, line: int, words: str) -> None:
    """Each mistake is told with the line where it stands."""
    with pytest.raises(ScriptError) as caught:
        loaded(text)
    (mistake,) = caught.value.mistakes
    assert words in mistake.message
    assert mistake.line == line
    assert mistake.path.endswith("talk.yaml")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Those of all files, as file:line: message."""
    (tmp_path / "a.yaml").write_text("steps:\n  - sya: x\n  - expect: {by: x}\n")
    (tmp_path / "b.yml").write_text("name: x\n")
    (tmp_path / "c.py").write_text("def broken(:\n")
    (tmp_path / "d.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "e.py").write_text("x = 1\n")
    (tmp_path / "f.yaml").write_bytes(b"name: \xff\xfe\n")

    with pytest.raises(ScriptError) as caught:
        load_scripts(tmp_path, tmp_path / "no.yaml", __file__ + "x")

    told = [
        str(mistake).replace(f"{tmp_path}/", "") for mistake in caught.value.mistakes
    ]
    assert [line.split(" ")[0] for line in told] == [
        f"{tmp_path / 'no.yaml'}:".replace(f"{tmp_path}/", ""),
        f"{__file__}x:",
        "a.yaml:2:",
        "a.yaml:3:",
        "b.yml:1:",
        "c.py:1:",
        "d.py:1:",
        "e.py:",
        "f.yaml:",
    ]
    assert str(caught.value).count("\n") == 8


def test_what_is_found(tmp_path: Path) -> None:
    """Directories are searched, patterns expanded, and each file is read once."""
    (tmp_path / "in").mkdir()
    for name in ("in/b.yml", "a.yaml"):
        (tmp_path / name).write_text("steps: [{say: x}]")
    (tmp_path / "notes.txt").write_text("no script")

    names = [each.name for each in load_scripts(tmp_path, tmp_path / "*.yaml")]
    assert names == ["a", "b"]
    with pytest.raises(ScriptError, match="is no script"):
        load_scripts(tmp_path / "notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScriptError, match="has no scripts"):
        load_scripts(tmp_path / "empty")


def test_mistake_reads_as_compilers_write() -> None:
    """Editors and CI servers know the form."""
    assert str(Mistake("a.yaml", 3, "x")) == "a.yaml:3: x"
    assert str(Mistake("a.yaml", 0, "x")) == "a.yaml: x"
