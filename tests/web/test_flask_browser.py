"""A real browser on the Flask application, behind two gunicorn workers."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from polysync.sandbox import BookingAgent, Sandbox
from tests.integrations.web.conftest import Chat, chromium
from tests.web.conftest import GunicornStarter, Visitor, kill

__all__ = ["chromium"]  # a fixture

pytestmark = [pytest.mark.browser, pytest.mark.subprocess, pytest.mark.slow]


class Agent(BookingAgent):
    """The sandbox's agent with a picture that is not fetched from far away."""

    avatar_url = "https://127.0.0.1:1/agent.png"


@pytest.fixture
def echo() -> Iterator[Sandbox]:
    """What the site talks to: here, an agent that can do everything."""
    with Sandbox(Agent, reply_delay=0.02) as sandbox:
        yield sandbox


@pytest.fixture
def chat(chromium: Any, gunicorn: GunicornStarter) -> Iterator[Chat]:
    server = gunicorn(2, "--worker-class", "gthread", "--threads", "8")
    site = SimpleNamespace(url=f"http://127.0.0.1:{server.port}", server=server)
    chat = Chat(chromium, site)  # type: ignore[arg-type]
    chat.complaints()
    yield chat
    complaints = chat.complaints()
    chromium.delete_all_cookies()
    chromium.get("about:blank")
    assert complaints == []


def test_a_whole_conversation_with_a_handoff(chat: Chat, echo: Sandbox) -> None:
    """Greeting, a suggestion, an attachment, a person; under the strict policy."""
    chat.open("/chat/")
    chat.wait_for_text(".bubble", "Would you like to book a table?")
    chat.say("Can I see the menu?")
    chat.wait_for_text(".bubble", "Here is our menu.")
    chat.say("Book a table for two")
    chat.wait_for_text(".bubble", "When would you like to come?")
    chat.wait_for_text(".suggestions button", "Tonight at 7 pm")
    next(b for b in chat.all(".suggestions button") if "Tonight" in b.text).click()
    chat.wait_for_text(".bubble", "Shall I book it?")
    chat.say("Actually, I'd like to talk to a human")
    echo.wait_until(lambda: echo.session.live_agent, timeout=10)
    chat.wait_for_text(".presence", "Online")
    echo.session.say("This is Kim. How can I help?")
    chat.wait_for_text(".bubble", "This is Kim.")
    chat.say("Just saying hello")
    echo.wait_until(lambda: echo.session.user_messages[-1].text == "Just saying hello")
    said = chat.bubbles
    assert len(said) == len(set(said))


def test_reloads_tabs_and_killed_workers_lose_nothing(
    chat: Chat, echo: Sandbox
) -> None:
    """The page shows the whole conversation whatever happens around it."""
    chat.open("/chat/")
    chat.wait_for_text(".bubble", "Would you like to book a table?")
    chat.say("Book a table")
    chat.wait_for_text(".bubble", "For how many people?")
    before = chat.bubbles
    chat.open("/chat/")
    chat.wait_for_bubbles(*before)
    driver, first = chat.driver, chat.driver.current_window_handle
    driver.switch_to.new_window("tab")
    chat.open("/chat/")
    chat.wait_for_bubbles(*before)
    chat.say("two")
    chat.wait_for_text(".bubble", "When would you like to come?")
    after = chat.bubbles
    driver.close()
    driver.switch_to.window(first)
    chat.wait_for_bubbles(*after)
    server = chat.site.server  # type: ignore[attr-defined]
    for worker in server.workers:
        kill(worker)
        server.next_worker()
    echo.session.say("Are you still there?")
    chat.wait_for_text(".bubble", "Are you still there?")
    chat.say("Tonight at 7 pm")
    chat.wait_for_text(".bubble", "Shall I book it?")
    assert len(echo.sessions) == 1
    said = chat.bubbles
    assert len(said) == len(set(said))


def test_the_end_of_a_conversation_is_shown(chat: Chat, echo: Sandbox) -> None:
    """And another can be begun."""
    chat.open("/chat/")
    chat.wait_for_text(".bubble", "Would you like to book a table?")
    chat.say("Goodbye")
    chat.wait_for_text(".bubble", "Thank you for talking to us. Goodbye!")
    chat.until(lambda: not chat.all("textarea"))
    chat.until(lambda: chat.all(".ended button, button.restart, .over button"))
    chat.all(".ended button, button.restart, .over button")[0].click()
    chat.until(lambda: len(echo.sessions) == 2)
    chat.wait_for_text(".bubble", "Would you like to book a table?")


def test_two_visitors_do_not_see_each_other(chat: Chat, echo: Sandbox) -> None:
    """One in the browser, one beside it."""
    chat.open("/chat/")
    chat.wait_for_text(".bubble", "Would you like to book a table?")
    other = Visitor(chat.site.server.port).open()  # type: ignore[attr-defined]
    other.start()
    assert other.post("messages", text="secret of the other")[0] == 200
    other.listen(lambda visitor: bool(visitor.replies))
    chat.say("secret of this one")
    chat.wait_for_text(".bubble", "I can book a table")
    assert "secret of the other" not in str(chat.bubbles)
    other.start()
    assert "secret of this one" not in str(other.events)
