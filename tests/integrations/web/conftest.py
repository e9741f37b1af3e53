"""A Chromium for the whole session, and a site for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integrations.web.demo_server import Site

# Where axe-core is; read before the tests hide the machine's settings.
AXE_CORE = os.environ.get("AXE_CORE")
TIMEOUT = 10.0 * float(os.environ.get("POLYSYNC_TEST_UNIT", "1"))  # s

SWITCHES = [
    *["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"],
    *["--no-first-run", "--disable-background-networking", "--disable-sync"],
    *["--disable-component-update", "--disable-dev-shm-usage"],
    "--window-size=1000,800",
]


class Chat:
    """The widget on an open page, as its visitor and as a test see it."""

    def __init__(self, driver: Any, site: Site) -> None:
        self.driver = driver
        self.site = site

    def open(self, path: str = "/", *, ready: bool = True) -> Chat:
        self.driver.get(f"{self.site.url}{path}")
        if ready:
            if path == "/launcher":
                self.find(".launcher").click()
            self.wait_for_text(".presence", "Online")
        return self

    @property
    def root(self) -> Any:
        return self.driver.execute_script(
            "return document.querySelector('polysync-chat').shadowRoot"
        )

    def find(self, selector: str) -> Any:
        """Return the first visible match, as soon as there is one."""
        return self.until(lambda: next(iter(self.all(selector)), None))

    def all(self, selector: str) -> list[Any]:
        found = self.root.find_elements("css selector", selector)
        return [element for element in found if element.is_displayed()]

    def texts(self, selector: str) -> list[str]:
        return list(
            self.run(
                "return [...root.querySelectorAll(arguments[0])]"
                ".filter((each) => each.checkVisibility())"
                ".map((each) => each.textContent.trim())",
                selector,
            )
        )

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in which `root` is the widget's shadow root."""
        prelude = "const root = document.querySelector('polysync-chat')?.shadowRoot;"
        return self.driver.execute_script(prelude + script, *arguments)

    def until(self, condition: Callable[[], Any], timeout: float = TIMEOUT) -> Any:
        from selenium.common.exceptions import (
            NoSuchShadowRootException,
            StaleElementReferenceException,
        )
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(
            self.driver,
            timeout,
            poll_frequency=0.03,
            ignored_exceptions=[
                StaleElementReferenceException,
                NoSuchShadowRootException,
            ],
        )
        return wait.until(lambda _: condition())

    def wait_for_text(self, selector: str, text: str) -> None:
        self.until(lambda: any(text in each for each in self.texts(selector)))

    @property
    def bubbles(self) -> list[str]:
        """What has been said, in the order of the page."""
        return self.texts(".item:not(.typing) .bubble")

    def wait_for_bubbles(self, *texts: str) -> None:
        try:
            self.until(lambda: self.bubbles == list(texts))
        except Exception:
            assert self.bubbles == list(texts)
            raise

    def say(self, text: str) -> None:
        from selenium.webdriver.common.keys import Keys

        self.find("textarea").send_keys(text, Keys.ENTER)

    @property
    def focused(self) -> str:
        """Text, label or name of what has the focus."""
        return str(
            self.run(
                "const at = root.activeElement ?? document.activeElement;"
                "return at.getAttribute('aria-label') || at.textContent || at.tagName;"
            )
        )

    def emulate(self, **media: str) -> None:
        features = [
            {"name": name.replace("_", "-"), "value": value}
            for name, value in media.items()
        ]
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": features}
        )

    def resize(self, width: int, height: int) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def complaints(self) -> list[str]:
        """What the browser has logged, but for refusals that a test asked for."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if "Failed to load resource" not in entry["message"]
        ]


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium with a profile of its own."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for switch in SWITCHES:
        options.add_argument(switch)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(str(shutil.which("chromedriver"))))
    driver.set_script_timeout(TIMEOUT)
    yield driver
    driver.quit()


@pytest.fixture
def site() -> Iterator[Site]:
    """A site with the chat on it."""
    with Site() as site:
        yield site


@pytest.fixture
def chat(site: Site, chromium: Any) -> Iterator[Chat]:
    """The chat of that site, opened by the test; its log must be empty at the end."""
    chat = Chat(chromium, site)
    chat.complaints()
    yield chat
    complaints = chat.complaints()
    chat.run("sessionStorage.clear()")
    chromium.get("about:blank")
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert complaints == []


@pytest.fixture(scope="session")
def axe(pytestconfig: pytest.Config) -> str:
    """The source of axe-core: from $AXE_CORE, or installed by npm and kept."""
    if AXE_CORE:
        return Path(AXE_CORE).read_text(encoding="utf-8")
    cache = pytestconfig.cache
    npm = shutil.which("npm")
    if cache is None or npm is None:
        pytest.skip("needs axe-core: set AXE_CORE to its axe.min.js, or install npm")
    place = cache.mkdir("axe-core")
    source = place / "node_modules" / "axe-core" / "axe.min.js"
    if not source.exists():
        install = [npm, "install", "--prefix", str(place), "--no-audit", "--no-fund"]
        try:
            subprocess.run(
                [*install, "axe-core@4"], check=True, capture_output=True, timeout=50
            )
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"needs axe-core, which npm could not install: {error}")
    return source.read_text(encoding="utf-8")
