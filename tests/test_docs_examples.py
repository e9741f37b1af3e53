"""Every example of the manual runs, against a sandbox."""

from __future__ import annotations

import logging
import os
import re
import runpy
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"

# Scripts, and something that each of them prints.
SCRIPTS = {
    "background.py": "5 messages on the screen",
    "callbacks.py": "(the conversation is over:",
    "chat_screen.py": "user: May I see the menu? ✓",
    "errors.py": "",
    "first_conversation.py": "",
    "log_setup.py": "DEBUG",
    "pool.py": "",
    "reply_parts.py": "user: What can you do for me?",
    "resuming.py": "messages so far",
    "sandbox_server.py": None,
    "rough_network.py": None,
    "scripted_agent.py": "Sam: Sam here.",
    "streaming.py": "",
    "three_lines.py": "",
    "tracing.py": "",
}
# Modules, which have a test of their own below.
MODULES = {
    "celery_task.py",
    "corporate_network.py",
    "gevent_conversations.py",
    "test_with_fixtures.py",
    "test_with_marker.py",
    "wsgi_app.py",
}


def names() -> set[str]:
    return {path.name for path in EXAMPLES.glob("*.py")}


@pytest.fixture
def as_configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Point clients without arguments at a sandbox, by the environment.

    It takes the token that the quickstart has in its code.
    """
    from polysync.sandbox import Sandbox

    with Sandbox(connector_token="CONNECTOR_TOKEN") as sandbox:
        yield point_at(sandbox, monkeypatch)


def point_at(sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    variables = {
        "POLYSYNC_ENVIRONMENT": sandbox.base_url,
        "POLYSYNC_CONNECTOR_TOKEN": sandbox.connector_token,
        "POLYSYNC_HOST": sandbox.host,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@contextmanager
def fresh_logging() -> Iterator[None]:
    """Let an example find the root logger as a program does, and undo what it does."""
    root, ours = logging.getLogger(), logging.getLogger("polysync")
    handlers, level = list(root.handlers), root.level
    root.handlers.clear()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        ours.setLevel(logging.NOTSET)


def test_every_example_is_run() -> None:
    """No example lies about that no test here knows."""
    assert names() == SCRIPTS.keys() | MODULES


def test_every_example_is_shown() -> None:
    """Each example is included by a page, and each inclusion has its file."""
    shown = set()
    for page in DOCS.rglob("*.rst"):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"literalinclude:: (\S+)", text):
            assert (page.parent / target).is_file(), f"{page.name}: {target}"
            shown.add(Path(target).name)
    assert shown >= names()


def test_every_picture_is_shown_and_made() -> None:
    """A page shows each picture, a script makes each again, and none is large."""
    shown = set()
    for page in DOCS.rglob("*.rst"):
        for target in re.findall(
            r"(?:image|figure):: (\S+)", page.read_text(encoding="utf-8")
        ):
            assert (page.parent / target).is_file(), f"{page.name}: {target}"
            shown.add(Path(target).name)
    scripts = "".join(
        path.read_text(encoding="utf-8")
        for directory in (DOCS / "pictures", ROOT / "benchmarks")
        for path in directory.glob("*.py")
    )
    pictures = list((DOCS / "_static").iterdir())

    assert {path.name for path in pictures} == shown
    assert [path for path in pictures if path.stat().st_size > 200_000] == []
    assert [path for path in pictures if path.name not in scripts] == []


@pytest.mark.parametrize("name", sorted(SCRIPTS))
@pytest.mark.usefixtures("as_configured")
def test_script_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A script of the manual runs to its end and prints what the page says."""
    with fresh_logging():
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    printed = capsys.readouterr().out
    if SCRIPTS[name] is not None:
        assert printed.strip()
        assert SCRIPTS[name] in printed


def test_readme_shows_the_three_lines() -> None:
    """The README begins with the same lines as the manual."""
    script = (EXAMPLES / "three_lines.py").read_text(encoding="utf-8")
    readme = (ROOT / "README.rst").read_text(encoding="utf-8")
    indented = "".join(
        f"    {line}" if line.strip() else line for line in script.splitlines(True)
    )
    assert indented in readme


@pytest.mark.usefixtures("as_configured")
def test_wsgi_app_answers() -> None:
    """The application for gunicorn answers a request, and only in that request."""
    app = runpy.run_path(str(EXAMPLES / "wsgi_app.py"))["app"]
    started = []

    body = app(
        {"QUERY_STRING": "question=Are+you+open%3F"},
        lambda status, headers: started.append(status),
    )

    assert started == ["200 OK"]
    assert b"".join(body).strip()


@pytest.mark.usefixtures("as_configured")
def test_wsgi_app_says_when_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused token is not the visitor's fault, and nothing of it is shown."""
    monkeypatch.setenv("POLYSYNC_CONNECTOR_TOKEN", "wrong-token")
    app = runpy.run_path(str(EXAMPLES / "wsgi_app.py"))["app"]
    started = []

    body = app(
        {"QUERY_STRING": "question=Are+you+open%3F"},
        lambda status, headers: started.append(status),
    )

    assert started == ["502 Bad Gateway"]
    assert b"wrong-token" not in b"".join(body)


@pytest.mark.usefixtures("as_configured")
def test_celery_task_answers() -> None:
    """The task asks the agent; run here at once, as with task_always_eager."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of Celery's and its dependencies'.
        module = runpy.run_path(str(EXAMPLES / "celery_task.py"))
        outcome = module["ask_agent"].apply(args=["Are you open on Sundays?"])

    assert outcome.get().strip()


def test_client_behind_a_proxy_is_made(
    as_configured: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The options of the page on networks are taken, and the password is not shown."""
    monkeypatch.setenv("COMPANY_PROXY", "http://user:hunter2@proxy.invalid:3128")
    module = runpy.run_path(str(EXAMPLES / "corporate_network.py"))

    client = module["client_behind_proxy"]()

    assert "hunter2" not in repr(client)


@pytest.mark.gevent
@pytest.mark.subprocess
def test_gevent_script_runs(as_configured: dict[str, str]) -> None:
    """Three conversations run at the same time under gevent's patches."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "gevent_conversations.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT), **as_configured},
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip().splitlines()) >= 3


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("name", "passed"), [("test_with_fixtures.py", 3), ("test_with_marker.py", 4)]
)
def test_fixtures_work_as_shown(name: str, passed: int, tmp_path: Path) -> None:
    """The examples for users of pytest pass in a project that is not this one."""
    example = tmp_path / name
    example.write_bytes((EXAMPLES / name).read_bytes())
    # Where the package is installed, its entry point has loaded the plugin already.
    installed = {point.name for point in entry_points(group="pytest11")}
    plugin = [] if "polysync" in installed else ["-p", "polysync.pytest_plugin"]

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugin, str(example)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{passed} passed" in done.stdout
