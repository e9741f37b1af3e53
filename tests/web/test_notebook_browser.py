"""Notebooks in a real JupyterLab and a real browser."""

from __future__ import annotations

import importlib.util
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polysync.sandbox import Reply, Sandbox, Turn
from tests.integrations.web import conftest as widget
from tests.web.conftest import ROOT
from tests.web.lab import Lab, Notebook

pytestmark = [
    pytest.mark.browser,
    pytest.mark.subprocess,
    pytest.mark.slow,
    # JupyterLab, a kernel and a browser, each of which takes seconds to start.
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        importlib.util.find_spec("jupyterlab") is None,
        reason="needs JupyterLab: the extra 'lab'",
    ),
]

chromium = widget.chromium


class Patient:
    """Says half of its reply, and the rest once it is allowed to."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def greeting(self, turn: Turn) -> str:
        return "Ask me."

    def reply(self, turn: Turn) -> Iterator[Any]:
        yield "One moment,"
        assert self.go_on.wait(60)
        yield " please."
        yield Reply("And?", suggestions=["Thanks"])


@pytest.fixture
def screen(chromium: Any) -> Iterator[Any]:
    """The browser, on a screen that is high enough for all cells."""
    chromium.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 1200, "height": 4000, "deviceScaleFactor": 1, "mobile": False},
    )
    yield chromium
    chromium.get("about:blank")
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JupyterLab's own directory."""
    return tmp_path_factory.mktemp("lab")


def test_example(screen: Any, home: Path) -> None:
    """All cells of the example run, and the two chats that it leaves open are
    conversations apart."""
    name = "conversation.ipynb"
    with Lab(home, {}) as lab:
        shutil.copy(ROOT / "examples" / "notebook" / name, lab.notebooks)
        notebook = Notebook(screen, lab, name)

        notebook.run_all()

        assert notebook.errors == []
        left, right = notebook.chats(2)  # its last cell has closed the third
        for chat in (left, right):
            notebook.said(chat, "Would you like to book a table?")
        notebook.say(left, "A table for two, please")
        notebook.said(left, "When would you like to come?")
        notebook.click("button", "Tomorrow at 8 pm", within=left)
        notebook.said(left, "Shall I book it?")
        notebook.until(lambda: notebook.all("button", "Yes, please", within=left))
        notebook.until(lambda: notebook.all("button", "See the menu", within=right))
        assert "A table for two" not in right.text
        notebook.leave()


GROW = """\
from polysync.integrations.jupyter import ChatWidget
ChatWidget()
"""


def test_reply_grows(screen: Any, home: Path) -> None:
    """A reply is shown while it comes, and a suggestion of it can be picked."""
    agent = Patient()
    with Sandbox(agent) as sandbox:
        variables = {
            "POLYSYNC_ENVIRONMENT": sandbox.base_url,
            "POLYSYNC_CONNECTOR_TOKEN": sandbox.connector_token,
            "POLYSYNC_HOST": sandbox.host,
        }
        try:
            with Lab(home, variables) as lab:
                notebook = Notebook(screen, lab, lab.add("grow.ipynb", GROW))
                notebook.run_all()
                (chat,) = notebook.chats(1)
                notebook.said(chat, "Ask me.")

                notebook.say(chat, "Anything")
                notebook.said(chat, "One moment,")
                assert "please" not in chat.text
                agent.go_on.set()

                notebook.said(chat, "One moment, please.")
                notebook.click("button", "Thanks", within=chat)
                notebook.until(lambda: chat.text.count("One moment, please.") == 2)
                notebook.leave()
        finally:
            agent.go_on.set()
