"""A JupyterLab that touches nothing at home, and a notebook in a browser."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.web.conftest import ROOT, Server

TIMEOUT = 60.0 * float(os.environ.get("POLYSYNC_TEST_UNIT", "1"))  # s

# It asks nobody for news or extensions, and keeps all cells in the page.
PAGE_CONFIG = {
    "disabledExtensions": {
        "@jupyterlab/apputils-extension:announcements": True,
        "@jupyterlab/extensionmanager-extension": True,
    }
}
SETTINGS = {"@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}}


class Lab(Server):
    """JupyterLab in a process of its own, with kernels that use this checkout.

    Args:
        home: A directory of its own; notebooks are to be put below ``notebooks``.
        environment: More variables, which its kernels see too.
    """

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self.notebooks = home / "notebooks"
        config = home / "config" / "labconfig"
        for directory in (self.notebooks, config):
            directory.mkdir(parents=True)
        (config / "page_config.json").write_text(json.dumps(PAGE_CONFIG))
        (config / "default_setting_overrides.json").write_text(json.dumps(SETTINGS))
        self.token = secrets.token_hex()
        super().__init__(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
            + ["--ip=127.0.0.1", "--port=0", f"--IdentityProvider.token={self.token}"]
            + [f"--ServerApp.root_dir={self.notebooks}"]
            + ["--LabApp.extension_manager=readonly"],
            {
                **{
                    f"JUPYTER_{name}_DIR": str(home / name.lower())
                    for name in ("CONFIG", "DATA", "RUNTIME")
                },
                "IPYTHONDIR": str(home / "ipython"),
                "PYTHONPATH": str(ROOT),
                **environment,
            },
            timeout=TIMEOUT,
        )
        self.url = self.wait_for(r"(http://127.0.0.1:\d+)/lab")[1]

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def add(self, name: str, *sources: str) -> str:
        """Write a notebook of code cells; return its name."""
        import nbformat

        book = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in sources],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(book, self.notebooks / name)
        return name


class Notebook:
    """A notebook that is open in JupyterLab, as who sits before it sees it."""

    def __init__(self, driver: Any, lab: Lab, name: str) -> None:
        self.driver = driver
        driver.get(f"{lab.url}/lab/tree/{name}?token={lab.token}")
        self.until(lambda: self.all(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell"))

    def until(self, condition: Callable[[], Any]) -> Any:
        from selenium.common.exceptions import (
            ElementClickInterceptedException,
            ElementNotInteractableException,
            StaleElementReferenceException,
        )
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(
            self.driver,
            TIMEOUT,
            poll_frequency=0.1,
            ignored_exceptions=[
                ElementClickInterceptedException,
                ElementNotInteractableException,
                StaleElementReferenceException,
            ],
        )
        return wait.until(lambda _: condition())

    def texts(self, selector: str) -> list[str]:
        """Return what all matches say, at one moment: what paints is not waited for."""
        script = (
            "return [...document.querySelectorAll(arguments[0])]"
            ".map((each) => each.textContent.trim())"
        )
        return list(self.driver.execute_script(script, selector))

    def all(self, selector: str, text: str = "", within: Any = None) -> list[Any]:
        """Return what is visible, matches and has a text in it.

        The chats and JupyterLab replace what they show at any time: outside of `until`,
        what was found may be gone when it is looked at.
        """
        found = (within or self.driver).find_elements("css selector", selector)
        return [each for each in found if each.is_displayed() and text in each.text]

    def click(self, selector: str, text: str, within: Any = None) -> None:
        """Click on what has exactly this text, as soon as that is possible."""

        def click() -> bool:
            for each in self.all(selector, text, within):
                if each.text.strip() == text:
                    each.click()
                    return True
            return False

        self.until(click)

    def run_all(self) -> None:
        """Choose *Run All Cells* from the menu, and wait until all have run."""
        # What is to be run before there is a kernel may never be.
        self.until(
            lambda: self.all('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
        )
        self.click(".lm-MenuBar-item", "Run")
        self.until(lambda: self.all(".lm-Menu-item", "Run All Cells"))
        self.until(self._choose_run_all)
        wanted = [f"[{n}]:" for n in range(1, len(self.texts(".jp-CodeCell")) + 1)]
        self.until(lambda: self.numbers == wanted)

    def _choose_run_all(self) -> bool:
        for item in self.all(".lm-Menu-item", "Run All Cells"):
            if item.text.splitlines()[0] == "Run All Cells":
                item.click()
                return True
        return False

    @property
    def numbers(self) -> list[str]:
        """What stands beside the code cells: their number once they have run."""
        return self.texts(".jp-CodeCell .jp-InputPrompt")

    @property
    def errors(self) -> list[str]:
        """Tracebacks, and what was written to standard error."""
        kind = '[data-mime-type="application/vnd.jupyter.{}"]'
        return self.texts(", ".join(map(kind.format, ("error", "stderr"))))

    def chats(self, number: int) -> list[Any]:
        """Wait for this number of chats, and return the outermost box of each."""
        box = "ancestor::*[contains(@class, 'widget-vbox')][1]"

        def find() -> list[Any] | None:
            logs = self.all("[role=log]")
            boxes = [each.find_element("xpath", box) for each in logs]
            return boxes if len(boxes) == number else None

        return list(self.until(find))

    def say(self, chat: Any, text: str) -> None:
        """Type into a chat, and press Enter."""
        from selenium.webdriver.common.keys import Keys

        field = chat.find_element("css selector", "input[type=text]")
        self.until(lambda: field.is_displayed() and field.is_enabled())
        field.send_keys(text, Keys.ENTER)

    def said(self, chat: Any, text: str) -> None:
        """Wait until something is said in a chat."""
        self.until(lambda: text in chat.text)

    def leave(self) -> None:
        """Go to another page, without being asked whether to save."""
        self.driver.execute_script("window.onbeforeunload = null")
        self.driver.get("about:blank")
