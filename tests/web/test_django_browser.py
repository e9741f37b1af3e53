"""The example site in a real browser: Django, two gunicorn workers, Redis."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.integrations.web import conftest as widget
from tests.integrations.web.conftest import Chat
from tests.web.conftest import ROOT, TIMEOUT, Server

pytestmark = [pytest.mark.browser, pytest.mark.subprocess, pytest.mark.slow]

RUN = [sys.executable, "examples/django_site/run.py"]
SERVERS = {
    "gunicorn, files": ([], r"Listening at: (http://127.0.0.1:\d+)"),
    "gunicorn, Redis": (["--redis"], r"Listening at: (http://127.0.0.1:\d+)"),
    "uvicorn, files": (["--asgi"], r"running on (http://127.0.0.1:\d+)"),
}

chromium = widget.chromium


def wait_until_it_answers(address: str) -> None:
    """uvicorn tells its address before its workers listen there."""
    deadline = time.monotonic() + TIMEOUT
    pause = threading.Event()
    while True:
        try:
            urllib.request.urlopen(address, timeout=TIMEOUT).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            pause.wait(0.02)


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.redis] if "Redis" in name else [])
        for name in SERVERS
    ]
)
def chat(
    request: pytest.FixtureRequest, servers: list[Server], chromium: Any
) -> Iterator[Chat]:
    """The chat of the example, as one command starts it."""
    options, pattern = SERVERS[request.param]
    server = Server(
        [*RUN, *options, "--port", "0", "--pace", "0.03"], {"PYTHONPATH": str(ROOT)}
    )
    servers.append(server)
    address = server.wait_for(pattern)[1]
    wait_until_it_answers(address)
    chat = Chat(chromium, SimpleNamespace(url=address))  # type: ignore[arg-type]
    chat.complaints()
    yield chat
    complaints = chat.complaints()
    chat.run("sessionStorage.clear()")
    chromium.delete_all_cookies()
    chromium.get("about:blank")
    # The sandbox's pictures are at example.com, which no test may reach.
    assert [text for text in complaints if "example.com" not in text] == []


def said(chat: Chat, text: str) -> None:
    chat.until(lambda: any(text in bubble for bubble in chat.bubbles))


def test_whole_conversation(chat: Chat) -> None:
    """Booking, a human, the page loaded again, somebody else, and the end."""
    chat.open("/", ready=False)
    chat.find(".launcher").click()
    said(chat, "Would you like to book a table?")

    chat.until(lambda: "Book a table" in chat.texts(".suggestions button"))
    chat.say("A table for two, please")
    said(chat, "A table for 2. When would you like to come?")
    chat.say("Tonight at 7 pm")
    said(chat, "Shall I book it?")
    chat.say("Yes, please")
    said(chat, "is booked. See you then!")

    chat.say("I want to talk to a human")
    said(chat, "Hello, this is Sam. How can I help?")
    chat.say("Is there a high chair?")
    said(chat, "I have noted that.")
    before = chat.bubbles

    chat.open("/chat/", ready=False)  # another page: the conversation is still there
    chat.wait_for_bubbles(*before)

    chat.driver.delete_all_cookies()  # another visitor sees nothing of it
    chat.run("sessionStorage.clear()")
    chat.open("/chat/", ready=False)
    said(chat, "Would you like to book a table?")
    assert chat.bubbles == before[:1]

    chat.say("Goodbye")
    said(chat, "Thank you for talking to us.")
    chat.until(lambda: not chat.all(".composer"))


@pytest.mark.parametrize(
    "command",
    [["check", "--tag", "polysync"], ["polysync_check"], ["--port", "1", "check"]],
    ids=" ".join,
)
def test_commands_of_the_example(command: list[str]) -> None:
    """The example's settings are sound; a command's own options are its own."""
    done = subprocess.run(
        [*RUN, *command],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert re.search("no issues|The chat is ready", done.stdout)
