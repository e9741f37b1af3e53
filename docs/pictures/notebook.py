"""Take the pictures of the example notebook, in JupyterLab.

``python -m docs.pictures.notebook`` takes those of the manual; with a directory, it
takes them there, to be looked at. Needs chromium and chromedriver on PATH.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from docs.pictures.browser import chromium, look, take
from docs.pictures.waiting import ROOT, directory
from tests.web.lab import Lab, Notebook

EXAMPLE = ROOT / "examples" / "notebook" / "conversation.ipynb"
# The heading after which the example closes what it has shown.
END = "## The end"


def without_end(path: Path) -> str:
    """Return the notebook up to where it ends its conversations."""
    book = json.loads(path.read_text(encoding="utf-8"))
    sources = ["".join(cell["source"]) for cell in book["cells"]]
    del book["cells"][sources.index(END) :]
    return json.dumps(book)


def scroll_to(driver: Any, element: Any) -> None:
    """Bring an element to the top of the notebook."""
    driver.execute_script("arguments[0].scrollIntoView({block: 'start'})", element)


def take_notebook(driver: Any, lab: Lab, place: Path) -> None:
    """Run the example, then talk in its chat."""
    (lab.notebooks / EXAMPLE.name).write_text(without_end(EXAMPLE), encoding="utf-8")
    look(driver, 1100, 900)
    notebook = Notebook(driver, lab, EXAMPLE.name)
    notebook.click(".jp-SideBar .lm-TabBar-tab[title^='File Browser']", "")
    notebook.run_all()
    chat, *_ = notebook.chats(3)
    notebook.say(chat, "Can I call you?")
    notebook.said(chat, "You can reach us by telephone")
    notebook.say(chat, "A table for three, please")
    notebook.said(chat, "When would you like to come?")
    cells = driver.find_elements("css selector", ".jp-Cell")
    scroll_to(driver, cells[0])
    take(driver, place / "notebook-displays.png")
    scroll_to(driver, cells[7])
    take(driver, place / "notebook-chat.png")
    notebook.leave()


def main() -> None:
    """Take them."""
    place = directory()
    with (
        tempfile.TemporaryDirectory(prefix="polysync-pictures-") as home,
        chromium() as driver,
        Lab(Path(home), {}) as lab,
    ):
        take_notebook(driver, lab, place)


if __name__ == "__main__":
    main()
