"""Take the pictures of the chat in the Flask example, in a headless Chromium.

Run ``python docs/make_pictures_web.py`` for those of the manual, or with a directory
for all of them, to be looked at. Needs chromium and chromedriver on PATH, and selenium.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys
from werkzeug.serving import make_server

from polysync.sandbox import BookingAgent, Sandbox

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "docs" / "_static"
MANUAL = {"flask-home-light.png", "flask-desktop-dark.png", "flask-handoff-phone.png"}
SIZES = {"desktop": (1100, 760), "phone": (390, 780)}


class Agent(BookingAgent):
    """The sandbox's agent, with a picture that the site itself has."""

    avatar_url = ""


class Page:
    """A page with the chat on it."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        self.url = url

    def show(self, path: str, size: str, scheme: str) -> None:
        """Open a page as a visitor with this screen and taste would."""
        width, height = SIZES[size]
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        self.driver.get(self.url + path)

    def close_chat(self) -> None:
        """Begin as a visitor who has not opened the chat; it is remembered open."""
        self.driver.execute_script("sessionStorage.clear()")
        self.driver.refresh()

    def find(self, selector: str) -> list[Any]:
        root = self.driver.execute_script(
            "return document.querySelector('polysync-chat').shadowRoot"
        )
        found = root.find_elements("css selector", selector)
        return [element for element in found if element.is_displayed()]

    def wait_for(self, selector: str, text: str = "") -> Any:
        return until(
            lambda: next((e for e in self.find(selector) if text in e.text), None)
        )

    def say(self, text: str, answer: str) -> None:
        self.wait_for("textarea").send_keys(text, Keys.ENTER)
        self.wait_for(".bubble", answer)

    def take(self, path: Path) -> None:
        if path.parent == STATIC and path.name not in MANUAL:
            return
        self.driver.execute_script("document.activeElement?.blur()")
        # Let what is moving come to rest.
        self.driver.execute_async_script("setTimeout(arguments[0], 700)")
        self.driver.save_screenshot(str(path))
        print(path)


def until(condition: Callable[[], Any]) -> Any:
    """Return the first true value that a condition gives within 10 s."""
    from selenium.common.exceptions import JavascriptException, WebDriverException

    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if value := condition():
                return value
        except (JavascriptException, WebDriverException, AttributeError):
            continue
    raise TimeoutError("the page does not show what it should")


def take_all(page: Page, sandbox: Sandbox, directory: Path) -> None:
    """Have a conversation, and take its pictures."""
    page.show("/chat/", "desktop", "light")
    page.wait_for(".bubble", "Would you like to book a table?")
    page.say("Can I call you?", "You can reach us by telephone")
    page.say("Book a table for two, please", "When would you like to come?")
    for size in SIZES:
        for scheme in ("light", "dark"):
            page.show("/chat/", size, scheme)
            page.wait_for(".bubble", "When would you like to come?")
            page.take(directory / f"flask-{size}-{scheme}.png")
    for scheme in ("light", "dark"):
        page.show("/", "desktop", scheme)
        page.close_chat()
        page.wait_for(".launcher").click()
        page.wait_for(".bubble", "When would you like to come?")
        page.take(directory / f"flask-home-{scheme}.png")
    page.show("/chat/", "phone", "light")
    page.say("I'd like to talk to a human", "I will put you through")
    sandbox.wait_until(lambda: sandbox.session.live_agent, timeout=10)
    page.say("We need a high chair", "I have noted that.")
    page.take(directory / "flask-handoff-phone.png")
    page.show("/", "phone", "light")
    page.take(directory / "flask-home-phone.png")


@contextmanager
def site(sandbox: Sandbox) -> Iterator[str]:
    """Serve the example on threads of this process; give its address."""
    sys.path.insert(0, str(ROOT / "examples" / "flask_app"))
    import app as example

    os.environ["FLASK_SECRET_KEY"] = "pictures"
    application = example.create_app()
    application.config.update(
        POLYSYNC_ENVIRONMENT=sandbox.base_url,
        POLYSYNC_CONNECTOR_TOKEN=sandbox.connector_token,
        POLYSYNC_HOST=sandbox.host,
    )
    server = make_server("127.0.0.1", 0, application, threaded=True)
    Agent.avatar_url = f"http://127.0.0.1:{server.server_port}/static/agent.svg"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    with application.app_context():
        example.polysync.pool.close()


def main() -> None:
    """Take the pictures."""
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else STATIC)
    directory.mkdir(parents=True, exist_ok=True)
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for switch in ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(switch)
    driver = webdriver.Chrome(options, Service(str(shutil.which("chromedriver"))))
    try:
        with Sandbox(Agent, reply_delay=0.1) as sandbox, site(sandbox) as url:
            take_all(Page(driver, url), sandbox, directory)
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
