"""Notebooks in a real kernel: the example, and a chat that a front end clicks on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Drive = Callable[..., str]

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]

ROOT = Path(__file__).resolve().parent.parent.parent
NOTEBOOKS = sorted((ROOT / "examples" / "notebook").glob("*.ipynb"))


@pytest.fixture
def drive(tmp_path: Path) -> Drive:
    """Run the driver on kernels that use this checkout and touch nothing at home."""
    places = {
        f"JUPYTER_{name}_DIR": str(tmp_path / name.lower())
        for name in ("CONFIG", "DATA", "RUNTIME")
    }
    environment = {
        **os.environ,
        **places,
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "PYTHONPATH": str(ROOT),
    }

    def drive(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests/integrations/kernel_driver.py")]
            + list(arguments),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return drive


def test_there_is_a_notebook() -> None:
    """The examples hold at least one, saved without outputs."""
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert not [cell for cell in cells if cell.get("outputs")]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, drive: Drive) -> None:
    """Each cell runs without an error or a warning, and shows what it should."""
    outputs = json.loads(drive("execute", str(path)))

    assert not [output for output in outputs if output.get("name") == "stderr"]
    shown = [set(output["data"]) for output in outputs if "data" in output]
    assert {"text/plain", "text/html"} in shown
    assert {"text/plain", "application/vnd.jupyter.widget-view+json"} in shown


def test_chat_lives_beside_the_cells(drive: Drive) -> None:
    """A click is answered, the chat moves on while a cell blocks the kernel, and a
    cell that is run again closes the chat that it made."""
    assert drive("chat") == "ended: True\nchats: 1\n"
