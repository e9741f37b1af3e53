"""Imports point from the face to the world to the rules, and never back."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "polysync"
LONGEST = 550

# Vocabulary: data that every layer may use, and that uses no layer.
WORDS = {"errors", "events", "models", "version"}
# Modules at the top of the package that are face.
FACE = {"__init__", "__main__", "client", "pytest_plugin"}

# What must not be imported by `import polysync`: every extra, and what is slow.
EXTRAS = (
    "aiohttp",
    "cachelib",
    "cryptography",
    "distributed",
    "django",
    "flask",
    "ipywidgets",
    "jinja2",
    "jwt",
    "markdown_it",
    "nh3",
    "opentelemetry",
    "prompt_toolkit",
    "pytest",
    "redis",
    "rich",
    "yaml",
)


def modules() -> list[str]:
    """Return the package's modules as paths relative to it."""
    return sorted(
        path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")
    )


def tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"), module)


def type_checking(node: ast.AST) -> bool:
    if not isinstance(node, ast.If):
        return False
    test = node.test
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def import_nodes(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield what is imported, wherever it stands; not what is for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif type_checking(child):
            for other in child.orelse:  # type: ignore[attr-defined]
                yield from import_nodes(other)
        else:
            yield from import_nodes(child)


def imports(module: str) -> set[str]:
    """Return the absolute dotted names that a module imports."""
    parts = ["polysync", *Path(module).with_suffix("").parts]
    package = parts[:-1]
    found = set()
    for node in import_nodes(tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
            continue
        if node.level:
            start = package[: len(package) - node.level + 1]
            origin = ".".join([*start, *([node.module] if node.module else [])])
        else:
            origin = node.module or ""
        found.add(origin)
        # `from . import x` and `from polysync.protocol import x` may name modules.
        found.update(f"{origin}.{alias.name}" for alias in node.names)
    return found


def layer(dotted: str) -> str | None:
    """Return the layer of a name in the package; None for what is outside of it."""
    parts = dotted.split(".")
    if parts[0] != "polysync":
        return None
    if len(parts) == 1:
        return "face"
    head = parts[1]
    if head in WORDS:
        return "words"
    if head in ("options", "protocol", "runtime", "sandbox"):
        return head
    if head in FACE or (PACKAGE / head).is_dir() or (PACKAGE / f"{head}.py").is_file():
        return "face"
    return None  # A name that the package itself exports.


ALLOWED = {
    "words": {"words"},
    "protocol": {"words", "protocol"},
    # What users set, turned into what the rules are told.
    "options": {"words", "protocol", "options"},
    "runtime": {"words", "protocol", "options", "runtime"},
    "sandbox": {"words", "sandbox"},
    "face": {"words", "protocol", "options", "runtime", "sandbox", "face"},
}

# Single modules that a layer may use although it may not use their layer.
EXCEPTIONS = {
    # `environment="sandbox"` starts the process's own; imported when asked for.
    ("runtime", "polysync.sandbox.embedded"),
    # The sandbox speaks the same frames.
    ("sandbox", "polysync.protocol.codec"),
}


def excepted(own: str, dotted: str) -> bool:
    return any(
        own == layer_ and (dotted == name or dotted.startswith(f"{name}."))
        for layer_, name in EXCEPTIONS
    )


@pytest.mark.parametrize("module", modules())
def test_imports_point_down(module: str) -> None:
    """A module imports from its own layer and those below, from none above."""
    name = ".".join(["polysync", *Path(module).with_suffix("").parts])
    own = layer(name.removesuffix(".__init__"))
    assert own is not None

    wrong = []
    for dotted in imports(module):
        if dotted in ("polysync", "polysync.__init__") and own != "face":
            wrong.append(dotted)
            continue
        if dotted == "polysync" or excepted(own, dotted):
            continue
        theirs = layer(dotted)
        if theirs is not None and theirs not in ALLOWED[own]:
            wrong.append(dotted)
    # `from polysync.protocol import codec` also yields the bare package.
    packages = {name.rpartition(".")[0] for layer_, name in EXCEPTIONS if layer_ == own}
    wrong = [dotted for dotted in wrong if dotted not in packages]
    assert sorted(wrong) == []


def importers(top: str) -> list[str]:
    return [
        module
        for module in modules()
        if any(dotted.split(".")[0] == top for dotted in imports(module))
        and not module.startswith(("sandbox/", "integrations/", "cli/"))
    ]


@pytest.mark.parametrize(
    ("library", "module"),
    [("websocket", "runtime/websocket.py"), ("urllib3", "runtime/network.py")],
)
def test_network_library_has_one_importer(library: str, module: str) -> None:
    """Exactly one module of the package imports each network library."""
    assert importers(library) == [module]


@pytest.mark.parametrize(
    "module", [name for name in modules() if name.startswith("protocol/")]
)
def test_rules_touch_no_world(module: str) -> None:
    """The rules import no socket, no thread, no clock and no network library."""
    forbidden = {
        "asyncio",
        "concurrent",
        "os",
        "queue",
        "select",
        "selectors",
        "socket",
        "ssl",
        "threading",
        "time",
        "urllib3",
        "websocket",
    }
    assert not {dotted.split(".")[0] for dotted in imports(module)} & forbidden


@pytest.mark.parametrize("module", modules())
def test_module_is_read_in_one_sitting(module: str) -> None:
    """No module is longer than the limit, and each says its job in its first line."""
    text = (PACKAGE / module).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "no docstring"


PROBE = """
import json, sys, threading
before = set(sys.modules)
import polysync
print(json.dumps({
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
    "own": sorted(name for name in sys.modules if name.startswith("polysync.")),
    "threads": [thread.name for thread in threading.enumerate()],
    "handlers": len(__import__("logging").getLogger().handlers),
}))
"""


@pytest.fixture(scope="module")
def after_import() -> dict[str, object]:
    """What a fresh Python holds after `import polysync` and nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=ROOT,
    )
    result: dict[str, object] = json.loads(done.stdout)
    return result


@pytest.mark.subprocess
def test_import_loads_no_extra(after_import: dict[str, object]) -> None:
    """`import polysync` works without, and does not load, any extra."""
    loaded = after_import["modules"]
    assert isinstance(loaded, list)
    assert sorted(set(EXTRAS) & set(loaded)) == []


@pytest.mark.subprocess
def test_import_loads_what_a_conversation_needs(
    after_import: dict[str, object],
) -> None:
    """Saved states, statistics and signed context wait for their first use."""
    own = after_import["own"]
    assert isinstance(own, list)
    assert "polysync.runtime.engine" in own
    later = {"sessions", "statistics", "context", "sandbox", "scenarios", "cli"}
    assert later & {name.split(".")[1] for name in own} == set()
    modules = after_import["modules"]
    assert isinstance(modules, list)
    assert "cattrs" not in modules


@pytest.mark.subprocess
def test_import_starts_nothing(after_import: dict[str, object]) -> None:
    """`import polysync` starts no thread and configures no logging."""
    assert after_import["threads"] == ["MainThread"]
    assert after_import["handlers"] == 0
