"""Take the pictures of the chat on the example sites, Flask and Django.

``python -m docs.pictures.web`` takes those of the manual; with a directory, it takes
them there, to be looked at. Needs chromium and chromedriver on PATH.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from werkzeug.serving import make_server

from docs.pictures.browser import chromium, look, take
from docs.pictures.waiting import ROOT, directory
from polysync.sandbox import BookingAgent, Sandbox
from tests.integrations.web.conftest import Chat
from tests.web.conftest import Server

DESKTOP = (1180, 760)
PHONE = (390, 780)


class Agent(BookingAgent):
    """The sandbox's agent, with a portrait that the site itself has."""

    avatar_url = ""


def answered(chat: Chat, text: str, answer: str) -> None:
    """Say something, and wait for the answer."""
    chat.say(text)
    chat.until(lambda: any(answer in bubble for bubble in chat.bubbles))


def be_put_through(chat: Chat) -> None:
    """Talk to a human."""
    answered(chat, "I'd like to talk to a human", "this is Sam")
    answered(chat, "We need a high chair", "I have noted that")


def open_corner(chat: Chat) -> None:
    """Open the home page's chat, as somebody who has not seen it yet."""
    chat.run("sessionStorage.clear()")
    chat.open("/", ready=False)
    chat.find(".launcher").click()
    chat.wait_for_text(".presence", "Online")


@contextmanager
def flask_site() -> Iterator[str]:
    """Serve the example on threads of this process; give its address."""
    sys.path.insert(0, str(ROOT / "examples" / "flask_app"))
    import app as example

    os.environ["FLASK_SECRET_KEY"] = "pictures"
    application = example.create_app()
    with Sandbox(Agent, reply_delay=0.1) as sandbox:
        application.config.update(
            POLYSYNC_ENVIRONMENT=sandbox.base_url,
            POLYSYNC_CONNECTOR_TOKEN=sandbox.connector_token,
            POLYSYNC_HOST=sandbox.host,
        )
        server = make_server("127.0.0.1", 0, application, threaded=True)
        url = f"http://127.0.0.1:{server.server_port}"
        Agent.avatar_url = f"{url}/static/agent.svg"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield url
        server.shutdown()
        with application.app_context():
            example.polysync.pool.close()


def take_flask(driver: Any, place: Path) -> None:
    """Ask for the telephone number and a table, then for a human."""
    with flask_site() as url:
        chat = Chat(driver, SimpleNamespace(url=url))  # type: ignore[arg-type]
        look(driver, *DESKTOP, "dark")
        chat.open("/chat/")
        answered(chat, "Can I call you?", "You can reach us by telephone")
        answered(chat, "Book a table for two, please", "When would you like to come?")
        take(driver, place / "flask-desktop-dark.png")
        look(driver, *DESKTOP)
        open_corner(chat)
        take(driver, place / "flask-home-light.png")
        look(driver, *PHONE)
        chat.open("/chat/")
        be_put_through(chat)
        take(driver, place / "flask-handoff-phone.png")
        driver.get("about:blank")


def take_django(driver: Any, place: Path) -> None:
    """Look at the menu, book a table, then ask for a human."""
    server = Server(
        [sys.executable, "examples/django_site/run.py", "--port=0", "--pace=0.1"], {}
    )
    try:
        url = server.wait_for(r"Listening at: (http://127.0.0.1:\d+)")[1]
        chat = Chat(driver, SimpleNamespace(url=url))  # type: ignore[arg-type]
        look(driver, *PHONE, "dark")
        chat.open("/chat/")
        answered(chat, "May I see the menu?", "Here is our menu")
        answered(chat, "Book a table for two, please", "When would you like to come?")
        take(driver, place / "django-page-phone-dark.png")
        look(driver, *DESKTOP)
        open_corner(chat)
        be_put_through(chat)
        take(driver, place / "django-launcher-handoff-light.png")
        driver.get("about:blank")
    finally:
        server.stop()


def main() -> None:
    """Take them."""
    place = directory()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    with chromium() as driver:
        take_flask(driver, place)
        take_django(driver, place)


if __name__ == "__main__":
    main()
