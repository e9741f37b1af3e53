"""The chat in a real browser, under a strict content security policy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polysync.events import (
    HandoffFailed,
    HandoffQueueStatus,
    LanguageChanged,
    LiveAgentJoined,
    LiveAgentLeft,
    LiveAgentMessage,
    LiveAgentTyping,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    PolyAgentThinking,
    PolyAgentTriggeredHandoff,
    SystemMessage,
    UserMessage,
)
from polysync.models import (
    Agent,
    Attachment,
    ChatCallAction,
    ResponseSuggestion,
    SystemMessageLevel,
    TypingState,
)
from tests.integrations.web.conftest import Chat
from tests.integrations.web.corpus import ATTACKS
from tests.integrations.web.demo_server import Conversation, Site

pytestmark = pytest.mark.browser

GREETING = "Hello! How can I help you?"


def silent(talk: Conversation, text: str) -> None:
    """Answer nothing."""


def say(text: str, message_id: str = "m", **fields: Any) -> PolyAgentMessage:
    return PolyAgentMessage(message_id=message_id, text=text, **fields)


def suggestions(*texts: str) -> tuple[ResponseSuggestion, ...]:
    return tuple(ResponseSuggestion(message_text=text) for text in texts)


def press(chat: Chat, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    actions = ActionChains(chat.driver)
    for held in keys[:-1]:
        actions.key_down(held)
    actions.send_keys(keys[-1])
    for held in keys[:-1]:
        actions.key_up(held)
    actions.perform()


# --- a conversation ----------------------------------------------------------------


def test_a_conversation(chat: Chat) -> None:
    """Greeting, a message, the streamed reply as formatted text, another message."""
    chat.open()
    chat.wait_for_bubbles(GREETING)
    assert chat.texts("header .name") == ["Robin"]
    chat.say("A table for two?")
    chat.wait_for_bubbles(
        GREETING, "A table for two?", "You said: A table for two?. Anything else?"
    )
    bubble = chat.all(".agent .bubble")[-1]
    assert bubble.find_element("tag name", "strong").text == "else"
    assert bubble.find_element("tag name", "em").text == "A table for two?"
    chat.wait_for_text(".state", "Sent")
    chat.say("Thanks")
    chat.until(lambda: len(chat.bubbles) == 5)
    chat.until(lambda: chat.texts(".state") == ["Sent"])
    assert chat.run("return root.querySelector('textarea').value") == ""


def test_a_reload_shows_the_conversation_so_far(chat: Chat, site: Site) -> None:
    """Nothing is kept in the page; everything comes back from the server, once."""
    chat.open()
    chat.say("One")
    chat.until(lambda: len(chat.bubbles) == 3)
    before = chat.bubbles
    chat.open()
    chat.wait_for_bubbles(*before)
    site.emit(say("News"))
    chat.wait_for_bubbles(*before, "News")


def test_what_the_visitor_writes_is_text(chat: Chat, site: Site) -> None:
    """HTML typed by the visitor, or anywhere but in a message, stays text."""
    site.script = silent
    chat.open()
    attack = "<img src=x onerror=window.pwned=1> & <b>bold</b>"
    chat.say(attack)
    chat.wait_for_bubbles(GREETING, attack)
    chat.until(lambda: chat.texts(".state") == ["Sent"])
    site.emit(SystemMessage(message=attack))
    site.emit(LiveAgentJoined(agent=Agent(name=attack)))
    site.emit(say("x", response_suggestions=suggestions(attack)))
    site.emit(say("x", "n", attachments=(Attachment(title=attack),)))
    chat.until(lambda: chat.texts(".card-title") == [attack])
    assert chat.run("return window.pwned ?? 0") == 0
    assert chat.run("return root.querySelectorAll('img[src=x], .items b').length") == 0


def test_attacks_run_nothing_in_a_browser(chat: Chat, site: Site) -> None:
    """All known attacks at once: only harmless elements come to be."""
    chat.open()
    for number, attack in enumerate(ATTACKS):
        site.emit(say(attack, f"m{number}"))
    site.emit(say("The last one", "last"))
    chat.until(lambda: chat.bubbles[-1:] == ["The last one"])
    assert chat.run("return window.pwned ?? 0") == 0
    strange = chat.run(
        "const known = new Set('A B BLOCKQUOTE BR CODE DEL EM HR I LI OL P PRE S "
        "STRONG SUB SUP TABLE TBODY TD TH THEAD TR U UL'.split(' '));"
        "const known_attributes = new Set(['href', 'rel', 'target', 'title', 'start']);"
        "return [...root.querySelectorAll('.bubble :not(.wide)')].filter((each) => "
        "!each.closest('.typing') && (!known.has(each.tagName) || "
        "[...each.attributes].some(({name}) => !known_attributes.has(name)) || "
        "each.tagName === 'A' && each.hasAttribute('href') && "
        "!/^(https?|mailto|tel):$/.test(each.protocol))).map((each) => each.outerHTML)"
    )
    assert strange == []


def test_no_secret_reaches_the_page(chat: Chat, site: Site) -> None:
    """The session's id is in no request, no answer and nowhere on the page."""
    chat.open()
    chat.say("Hi")
    chat.until(lambda: len(chat.bubbles) == 3)
    secret = site.talk.session_id
    page = chat.run("return document.documentElement.outerHTML + root.innerHTML")
    assert secret not in page.replace(f"{secret}-", "")
    assert secret not in json.dumps(site.requests)
    stored = chat.run("return JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert json.loads(stored) == [{}, {}]


# --- what the agent sends ----------------------------------------------------------


def test_suggestions_are_chosen_with_the_keyboard(chat: Chat, site: Site) -> None:
    """Tab to the first, arrows among them, Enter sends; then they are spent."""
    from selenium.webdriver.common.keys import Keys

    site.script = silent
    chat.open()
    site.emit(say("When?", response_suggestions=suggestions("18:30", "20:00", "Never")))
    chat.until(lambda: len(chat.all(".suggestions button")) == 3)
    chat.find("textarea").click()
    press(chat, Keys.SHIFT, Keys.TAB)
    chat.until(lambda: chat.focused == "Never")
    press(chat, Keys.ARROW_LEFT)
    assert chat.focused == "20:00"
    press(chat, Keys.ENTER)
    chat.wait_for_bubbles(GREETING, "When?", "20:00")
    assert [body["text"] for body in site.posted("messages")] == ["20:00"]
    buttons = chat.all(".suggestions button")
    assert [button.is_enabled() for button in buttons] == [False] * 3
    assert chat.texts(".suggestions .chosen") == ["20:00"]
    assert chat.focused == "TEXTAREA"


def test_only_the_newest_suggestions_can_be_chosen(chat: Chat, site: Site) -> None:
    """Those of an earlier message are spent, also after a reload."""
    chat.open()
    site.emit(say("1", "a", response_suggestions=suggestions("Old")))
    site.emit(say("2", "b", response_suggestions=suggestions("New")))
    for _ in range(2):
        chat.until(lambda: len(chat.all(".suggestions button")) == 2)
        enabled = [each.is_enabled() for each in chat.all(".suggestions button")]
        assert enabled == [False, True]
        chat.open()


def test_a_streamed_reply_grows(chat: Chat, site: Site) -> None:
    """Pieces are shown as they come, in their order; the whole takes their place."""

    def piece(index: int, text: str, *, last: bool = False) -> None:
        site.emit(
            PolyAgentMessageChunk(
                message_id="m", text=text, chunk_index=index, is_complete=last
            )
        )

    chat.open()
    site.emit(PolyAgentThinking())
    chat.find(".typing")
    assert "Robin is typing…" in chat.texts("[role=status]")
    chat.open()
    chat.find(".typing")
    piece(1, "We have **tw")
    chat.wait_for_bubbles(GREETING, "We have tw")
    assert chat.all(".typing") == []
    assert len(chat.all(".streaming")) == 1
    piece(3, "left.<br>See")
    piece(2, "o** tables ")
    chat.wait_for_bubbles(GREETING, "We have two tables left.\nSee")
    piece(4, " you", last=True)
    chat.until(lambda: not chat.all(".streaming"))
    bubble = chat.all(".agent .bubble")[-1]
    assert bubble.text == "We have two tables left.\nSee you"
    assert bubble.find_element("tag name", "strong").text == "two"
    assert len(chat.bubbles) == 2


def test_cards_and_phone_numbers(chat: Chat, site: Site) -> None:
    """An attachment is a card with its picture; a call action can be called."""
    chat.open()
    site.emit(
        say(
            "See",
            attachments=(
                Attachment(
                    title="Menu",
                    content_url="https://a.example/menu",
                    preview_image_url=f"{site.url}/picture.svg",
                    call_to_action_text="Open it",
                ),
                Attachment(title="Bad", content_url="javascript:window.pwned=1"),
                Attachment(content_url="javascript:window.pwned=1"),
                Attachment(title="Wines", content_url="https://b.example/wines"),
            ),
            chat_call_actions=(
                ChatCallAction(title="Call us", contact_number="+44 (0)20 79"),
            ),
        )
    )
    card = chat.find("a.card")
    assert card.get_attribute("href") == "https://a.example/menu"
    assert card.get_attribute("target") == "_blank"
    assert card.get_attribute("rel") == "noopener noreferrer nofollow"
    assert "Menu" in card.text
    assert "Open it" in card.text
    picture = card.find_element("tag name", "img")
    chat.until(lambda: picture.get_property("naturalWidth") > 0)
    assert chat.texts("div.card") == ["Bad"]
    assert chat.texts("a.card") == ["MenuOpen it", "Winesb.example"]
    call = chat.find("a.call")
    assert call.get_attribute("href") == "tel:+442079"
    assert "+44 (0)20 79" in call.text


def test_a_handoff(chat: Chat, site: Site) -> None:
    """One line tells the place in the queue; the person has a name and a face."""
    chat.open()
    site.emit(PolyAgentTriggeredHandoff())
    chat.wait_for_text(".notice", "Handing you over")
    assert chat.texts(".presence") == ["Waiting for an agent"]
    site.emit(HandoffQueueStatus(position_in_queue=2, estimated_wait_seconds=130))
    queue = "You are number 2 in the queue. Estimated wait: about 3 min."
    chat.until(lambda: chat.texts(".notice") == [queue])
    site.emit(HandoffQueueStatus(position_in_queue=1, display_message="You are next."))
    chat.until(lambda: chat.texts(".notice") == ["You are next."])
    maria = Agent(name="Maria", avatar_url=f"{site.url}/live.svg")
    site.emit(LiveAgentJoined(agent=maria))
    chat.until(lambda: chat.texts(".notice") == ["Maria has joined the conversation."])
    assert chat.texts("header .name") == ["Maria"]
    site.emit(LiveAgentTyping())
    chat.find(".typing")
    assert "Maria is typing…" in chat.texts("[role=status]")
    site.emit(LiveAgentTyping(state=TypingState.STOPPED))
    chat.until(lambda: not chat.all(".typing"))
    site.emit(LiveAgentMessage(message_id="l", text="Hi, Maria here."))
    chat.wait_for_bubbles(GREETING, "Hi, Maria here.")
    faces = chat.run(
        "return [...root.querySelectorAll('.item .avatar img')]"
        ".map((each) => new URL(each.src).pathname)"
    )
    assert faces == ["/agent.svg", "/live.svg"]
    site.emit(LiveAgentLeft())
    chat.wait_for_text(".notice", "Maria has left the conversation.")
    assert chat.texts("header .name") == ["Robin"]


def test_a_handoff_that_fails(chat: Chat, site: Site) -> None:
    """The visitor is told, and can go on."""
    chat.open()
    site.emit(PolyAgentTriggeredHandoff())
    site.emit(HandoffFailed())
    chat.wait_for_text(".notice[data-level=warning]", "Nobody could be reached.")
    assert chat.texts(".presence") == ["Online"]
    site.emit(SystemMessage(level=SystemMessageLevel.ERROR, message="Please repeat."))
    chat.wait_for_text(".notice[data-level=error]", "Please repeat.")


def test_typing_is_told_to_a_person_only(chat: Chat, site: Site) -> None:
    """The agent that is no person does not wait for the visitor's keys."""
    chat.open()
    chat.find("textarea").send_keys("Hel")
    site.emit(LiveAgentJoined(agent=Agent(name="Maria")))
    chat.wait_for_text(".notice", "Maria has joined")
    assert site.posted("typing") == []
    chat.find("textarea").send_keys("lo again")
    chat.until(lambda: site.posted("typing"))
    assert site.posted("typing") == [{"state": "started"}]


def test_enter_within_a_composition_sends_nothing(chat: Chat, site: Site) -> None:
    """It chooses characters, which Safari tells by the key's code alone."""
    chat.open()
    chat.find("textarea").send_keys("かな")
    for how in ({"isComposing": True}, {"keyCode": 229}):
        chat.run(
            "root.querySelector('textarea').dispatchEvent(new KeyboardEvent("
            "'keydown', {key: 'Enter', bubbles: true, ...arguments[0]}))",
            how,
        )
    assert chat.run("return root.querySelector('textarea').value") == "かな"
    assert site.posted("messages") == []


# --- when things go wrong ----------------------------------------------------------


def test_a_message_that_fails_can_be_sent_again(chat: Chat, site: Site) -> None:
    """Retry posts the same message under the same id; there is one bubble."""
    site.script = silent
    site.refuse("messages", 503, 502)
    chat.open()
    chat.say("Hello?")
    chat.wait_for_text(".state", "Not sent.")
    chat.find(".state button").click()
    chat.until(lambda: len(site.posted("messages")) == 2)
    chat.wait_for_text(".state", "Not sent.")
    chat.find(".state button").click()
    chat.until(lambda: chat.texts(".state") == ["Sent"])
    chat.wait_for_bubbles(GREETING, "Hello?")
    assert len({body["client_id"] for body in site.posted("messages")}) == 1


def test_a_message_whose_answer_was_lost_is_sent_once(chat: Chat, site: Site) -> None:
    """The echo settles it, whatever the answer to the request said."""
    site.script = silent
    chat.open()
    site.lose_answers = True
    chat.say("Hello?")
    chat.until(lambda: chat.texts(".state") == ["Sent"])
    chat.wait_for_bubbles(GREETING, "Hello?")
    assert sum(isinstance(each, UserMessage) for each in site.talk.events) == 1


def test_a_message_that_is_too_long_cannot_be_sent_again(
    chat: Chat, site: Site
) -> None:
    """The page says why, and offers no second attempt."""
    site.refuse("messages", 413, code="too_large")
    site.options["strings"] = {"error_too_large": "Too long, sorry."}
    chat.open()
    chat.say("Hello?")
    chat.until(lambda: chat.texts(".state") == ["Not sent. Too long, sorry."])
    assert chat.all(".state button") == []


def test_messages_arrive_in_the_order_of_writing(chat: Chat, site: Site) -> None:
    """They are posted one after the other, however fast they are written."""
    site.script = silent
    chat.open()
    for word in ("one", "two", "three", "four"):
        chat.say(word)
    chat.until(lambda: len(site.posted("messages")) == 4)
    posted = [body["text"] for body in site.posted("messages")]
    assert posted == ["one", "two", "three", "four"]
    chat.wait_for_bubbles(GREETING, *posted)


def test_the_end_of_a_stream_is_not_noticed(chat: Chat, site: Site) -> None:
    """Streams last for a moment; nothing is lost or doubled, and no notice flickers."""
    site.slice_seconds = 0.6
    chat.open()
    chat.run(
        "window.flickers = 0; new MutationObserver(() => window.flickers++)"
        ".observe(root.querySelector('.banner'), {childList: true});"
    )
    expected = [GREETING]
    for number in range(3):
        site.emit(say(f"Message {number}", f"m{number}"))
        expected.append(f"Message {number}")
        before = len(site.posted("events"))
        chat.until(lambda: len(site.posted("events")) > before)  # noqa: B023
    chat.wait_for_bubbles(*expected)
    assert chat.run("return window.flickers") == 0
    positions = [int(each.rpartition("-")[2]) for each in site.posted("events")]
    assert positions == sorted(positions)
    assert positions[-1] > positions[0]


def test_a_real_failure_is_told_and_survived(chat: Chat, site: Site) -> None:
    """The notice comes after the second failure and goes with the connection back."""
    chat.open()
    site.refuse("events", *[503] * 4)
    site.hang_up()
    chat.wait_for_text(".banner", "The connection is lost.")
    assert chat.texts(".presence") == ["Connecting…"]
    site.emit(say("While you were away"))
    chat.find(".banner button").click()
    site.accept("events")
    chat.wait_for_bubbles(GREETING, "While you were away")
    chat.wait_for_text(".presence", "Online")
    assert "".join(chat.texts(".banner")) == ""


def test_a_stream_that_hangs_is_left(chat: Chat, site: Site) -> None:
    """Half a connection tells nothing; the page notices by itself."""
    chat.open()
    site.emit(say("By the stream", "s"))
    chat.wait_for_bubbles(GREETING, "By the stream")  # it is open, then
    chat.run(
        "const real = window.setTimeout; let impatient = 1;"
        "window.setTimeout = (f, ms) =>"
        " real(f, ms === 60000 && impatient-- > 0 ? 50 : ms)"
    )
    opened = len(site.posted("events"))
    site.emit(say("The last news"))
    chat.until(lambda: len(site.posted("events")) > opened)
    site.emit(say("Newer", "n"))
    chat.wait_for_bubbles(GREETING, "By the stream", "The last news", "Newer")
    assert chat.texts(".banner") == [""]


def test_a_hidden_page_leaves_the_connections_to_others(chat: Chat, site: Site) -> None:
    """A browser has six for a site; who comes back sees what was missed."""
    hide = (
        "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    resting = "return document.querySelector('polysync-chat').source === null"
    chat.open()
    chat.run(hide % "true")
    chat.until(lambda: chat.run(resting))
    site.emit(say("Meanwhile"))
    assert chat.texts(".banner") == [""]
    chat.run(hide % "false")
    chat.wait_for_bubbles(GREETING, "Meanwhile")
    site.emit(PolyAgentTriggeredHandoff())
    chat.wait_for_text(".notice", "Handing you over")
    chat.run(hide % "true")
    site.emit(LiveAgentJoined(agent=Agent(name="Maria")))
    chat.wait_for_text(".notice", "Maria has joined")
    assert not chat.run(resting)


def test_a_start_without_a_network_is_tried_with_one(chat: Chat, site: Site) -> None:
    """Nobody has to click when the network comes."""
    site.refuse("start", 503)
    chat.open(ready=False)
    chat.wait_for_text(".banner", "cannot be reached")
    chat.run("window.dispatchEvent(new Event('online'))")
    chat.wait_for_bubbles(GREETING)
    assert chat.texts(".banner") == [""]


def test_a_start_that_fails_can_be_tried_again(chat: Chat, site: Site) -> None:
    """What was written meanwhile is sent then."""
    site.script = silent
    site.refuse("start", 503, 503)
    chat.open(ready=False)
    chat.wait_for_text(".banner", "The chat cannot be reached right now.")
    chat.say("Anybody there?")
    chat.wait_for_text(".state", "Not sent.")
    chat.find(".state button").click()
    chat.until(lambda: chat.texts(".state") == ["Sent"])
    chat.wait_for_bubbles(GREETING, "Anybody there?")


def test_an_expired_sign_in_asks_for_a_reload(chat: Chat, site: Site) -> None:
    """A wrong CSRF token cannot be cured by trying again."""
    site.options["csrf_token"] = "stale"
    chat.open(ready=False)
    chat.wait_for_text(".banner", "Please reload the page")


def test_the_csrf_token_can_be_in_a_cookie(chat: Chat, site: Site) -> None:
    """As Django has it, under a name of the site's choice."""
    site.options |= {"csrf_token": None, "csrf_cookie": "xsrf"}
    chat.driver.get(f"{site.url}/site.css")
    chat.driver.add_cookie({"name": "xsrf", "value": "demo-csrf-token"})
    try:
        chat.open()
    finally:
        chat.driver.delete_all_cookies()


def test_an_event_that_comes_twice_is_shown_once(chat: Chat, site: Site) -> None:
    """The page knows events by their ids, and messages by theirs."""
    chat.open()
    site.emit(say("One", "a", id="same"))
    site.emit(say("Twin", "b", id="same"))
    site.emit(say("One again", "a"))
    site.emit(say("Two", "c"))
    chat.wait_for_bubbles(GREETING, "One again", "Two")


def test_another_conversation_takes_the_place_of_the_old_one(
    chat: Chat, site: Site
) -> None:
    """A page left open in a second tab starts again, with nothing of the old one."""
    chat.open()
    chat.say("Old")
    chat.until(lambda: len(chat.bubbles) == 3)
    site.greeting = say("A new beginning", "g")
    old = site.talk
    site.begin()
    with old.arrived:
        old.arrived.notify_all()
    chat.wait_for_bubbles("A new beginning")


# --- the end -----------------------------------------------------------------------


def test_the_visitor_ends_and_starts_anew(chat: Chat, site: Site) -> None:
    """After a question, by keyboard; the new conversation begins on an empty page."""
    from selenium.webdriver.common.keys import Keys

    chat.open()
    chat.say("Hi")
    chat.until(lambda: len(chat.bubbles) == 3)
    chat.find("header .tool").click()
    chat.until(lambda: chat.focused == "Keep chatting")
    chat.find(".strip .plain").click()
    assert chat.focused == "TEXTAREA"
    chat.find("header .tool").click()
    chat.until(lambda: chat.focused == "Keep chatting")
    press(chat, Keys.TAB)
    press(chat, Keys.ENTER)
    chat.wait_for_text(".ended", "This conversation has ended.")
    assert chat.focused == "Start a new conversation"
    assert site.posted("end") == [{}]
    assert chat.all("textarea") == []
    assert not any(each.is_enabled() for each in chat.all(".suggestions button"))
    site.greeting = say("Welcome back!", "g")
    chat.run("const [b] = root.querySelectorAll('.ended button'); b.click(); b.click()")
    chat.wait_for_bubbles("Welcome back!")
    assert site.posted("start") == [{}, {"new": True}]
    chat.until(lambda: chat.focused == "TEXTAREA")
    chat.say("Again")
    chat.until(lambda: len(chat.bubbles) == 3)


def test_an_end_that_fails_can_be_tried_again(chat: Chat, site: Site) -> None:
    """The conversation goes on meanwhile; the keyboard is never without a place."""
    site.refuse("end", 503)
    chat.open()
    chat.find("header .tool").click()
    chat.find(".strip .strong").click()
    chat.wait_for_text(".banner", "cannot be reached")
    assert chat.focused == "TEXTAREA"
    chat.find(".banner button").click()
    chat.wait_for_text(".ended", "This conversation has ended.")
    assert chat.focused == "Start a new conversation"


def test_the_agent_ends_it(chat: Chat, site: Site) -> None:
    """A last message can be the end, also for those who come later."""
    chat.open()
    chat.find("textarea").send_keys("but")
    site.emit(say("Goodbye!", end_conversation=True))
    chat.wait_for_text(".ended", "This conversation has ended.")
    assert chat.bubbles == [GREETING, "Goodbye!"]
    assert chat.focused == "Start a new conversation"
    chat.open(ready=False)
    chat.wait_for_text(".ended", "This conversation has ended.")


def test_a_message_to_an_ended_conversation(chat: Chat, site: Site) -> None:
    """The answer 409 tells the page what it has missed."""
    site.refuse("messages", 409, code="ended")
    chat.open()
    chat.say("Too late")
    chat.wait_for_text(".ended", "This conversation has ended.")
    assert chat.all(".state button") == []


# --- how it looks ------------------------------------------------------------------


def test_the_launcher(chat: Chat, site: Site) -> None:
    """Nothing starts before it is opened; Escape closes it and gives the focus back."""
    from selenium.webdriver.common.keys import Keys

    chat.open("/launcher", ready=False)
    launcher = chat.find(".launcher")
    assert launcher.get_attribute("aria-expanded") == "false"
    assert site.requests == []
    launcher.click()
    chat.wait_for_bubbles(GREETING)
    assert launcher.get_attribute("aria-expanded") == "true"
    assert chat.focused == "TEXTAREA"
    press(chat, Keys.ESCAPE)
    assert chat.all(".chat") == []
    assert chat.focused == "Open the chat"
    site.emit(say("Psst"))
    chat.until(lambda: chat.texts(".badge") == ["1"])
    assert chat.find(".launcher").get_attribute("aria-label").endswith("(1 new)")
    press(chat, Keys.ENTER)
    chat.wait_for_bubbles(GREETING, "Psst")
    assert chat.all(".badge") == []
    chat.driver.refresh()  # the next page of the site
    chat.wait_for_bubbles(GREETING, "Psst")


def test_right_to_left(chat: Chat, site: Site) -> None:
    """The layout turns with the language; each bubble has its own direction."""
    site.script = silent
    site.options["strings"] = {"sent": "נשלח", "online": "Online"}
    chat.open()
    site.emit(LanguageChanged(language_code="he-IL"))
    chat.say("Hello")
    chat.until(lambda: chat.texts(".state") == ["נשלח"])
    site.emit(say("שלום, מה שלומך?"))
    chat.wait_for_bubbles(GREETING, "Hello", "שלום, מה שלומך?")
    directions = chat.run(
        "return [...root.querySelectorAll('.root, .items .bubble')]"
        ".map((each) => getComputedStyle(each).direction)"
    )
    assert directions == ["rtl", "ltr", "ltr", "rtl"]
    languages = chat.run(
        "return [...root.querySelectorAll('.root, .items')].map((each) => each.lang)"
    )
    assert languages == ["en", "he-IL"]  # the strings are still those of the site
    left, right = chat.run(
        "return ['.user .bubble', '.items .agent .bubble']"
        ".map((each) => root.querySelector(each).getBoundingClientRect().left)"
    )
    assert left < right


def test_a_phone(chat: Chat, site: Site) -> None:
    """The panel fills the screen, and nothing is wider than it."""
    chat.resize(360, 640)
    chat.open("/launcher")
    site.emit(say("W" * 300 + "\n\n| a | b |\n|---|---|\n| " + "x" * 200 + " | y |"))
    site.emit(
        say("`" + "c" * 200 + "`", "n", response_suggestions=suggestions("s" * 99))
    )
    chat.until(lambda: len(chat.bubbles) == 3)
    box = chat.run(
        "return root.querySelector('.chat').getBoundingClientRect().toJSON()"
    )
    assert (box["x"], box["y"], box["width"], box["height"]) == (0, 0, 360, 640)
    wide = chat.run(
        "return [...root.querySelectorAll('.chat *')].filter((each) => "
        "each.checkVisibility() && !each.closest('table')"
        " && each.getBoundingClientRect().right > 361)"
        ".map((each) => each.className)"
    )
    assert wide == []
    assert chat.run("return document.documentElement.scrollWidth") <= 360


def test_a_screen_of_little_height(chat: Chat) -> None:
    """A phone on its side, or a page at 200 %: the panel is a modal dialog there."""
    from selenium.webdriver.common.keys import Keys

    chat.resize(640, 360)
    chat.open("/launcher")
    box = chat.run(
        "return root.querySelector('.chat').getBoundingClientRect().toJSON()"
    )
    assert (box["width"], box["height"]) == (640, 360)
    assert chat.find(".chat").get_attribute("aria-modal") == "true"
    press(chat, Keys.TAB)
    assert chat.focused == "Send"
    press(chat, Keys.TAB)  # the page below cannot be seen
    assert chat.focused == "End conversation"
    press(chat, Keys.SHIFT, Keys.TAB)
    assert chat.focused == "Send"


def test_a_wide_table_is_scrolled(chat: Chat, site: Site) -> None:
    """No word or price is broken in two; the keyboard gets there."""
    chat.resize(320, 568)
    chat.open()
    cells = ["Carbonara", "12.50", "Vegetarian", "Allergens", "Portion", "Calories"]
    row = "|" + "|".join(cells) + "|\n"
    site.emit(say(row + "|---" * 6 + "|\n" + row + "\n|a|\n|---|\n|b|"))
    chat.until(lambda: len(chat.all(".wide")) == 2)
    stops = chat.run(
        "return [...root.querySelectorAll('.wide')].map((e) => e.tabIndex)"
    )
    assert stops == [0, -1]
    heights = chat.run(
        "return [...root.querySelectorAll('td')].map((each) => each.offsetHeight)"
    )
    assert max(heights) < 2 * 21  # px, one line
    assert chat.run("return document.documentElement.scrollWidth") <= 320


def test_forced_colors(chat: Chat, site: Site) -> None:
    """The field's focus and the dots are there without colours of our own."""
    chat.emulate(forced_colors="active")
    chat.open()
    site.emit(PolyAgentThinking())
    chat.find(".typing")
    chat.find("textarea").click()
    outline, dot, ground = chat.run(
        "return [getComputedStyle(root.querySelector('.composer')).outlineStyle,"
        "...['.typing span', '.chat'].map((each) =>"
        " getComputedStyle(root.querySelector(each)).backgroundColor)]"
    )
    assert outline == "solid"
    assert dot != ground


@pytest.mark.parametrize("how", ["system", "option"])
def test_dark(chat: Chat, site: Site, how: str) -> None:
    """By the visitor's system, or because the site says so."""
    if how == "system":
        chat.emulate(prefers_color_scheme="dark")
    else:
        site.options["theme"] = "dark"
    chat.open()
    ground = chat.run(
        "return getComputedStyle(root.querySelector('.chat')).backgroundColor"
    )
    assert ground == "rgb(21, 24, 30)"


def test_reduced_motion(chat: Chat, site: Site) -> None:
    """Who wants no motion gets none."""
    chat.emulate(prefers_reduced_motion="reduce")
    chat.open()
    site.emit(PolyAgentThinking())
    chat.find(".typing")
    assert chat.run("return root.getAnimations().length") == 0


def test_translations(chat: Chat, site: Site) -> None:
    """All words can be the site's own; the title can be anything."""
    site.options |= {
        "title": "Hafenbistro",
        "language": "de",
        "strings": {"online": "Online!", "placeholder": "Schreiben Sie …"},
    }
    chat.open()
    assert chat.texts(".presence") == ["Online!"]
    assert chat.find("textarea").get_attribute("placeholder") == "Schreiben Sie …"
    assert chat.find(".chat").get_attribute("aria-label") == "Hafenbistro"
    assert chat.run("return root.querySelector('.root').lang") == "de"


def test_a_thousand_messages(chat: Chat, site: Site) -> None:
    """They are there within moments, at their end, and one more takes no time."""
    chat.open()
    for number in range(500):
        site.emit(UserMessage(text=f"Question {number}", message_id=f"u{number}"))
        site.emit(say(f"**Answer** {number}\n\n- one\n- two", f"a{number}"))
    chat.until(lambda: "Answer 499" in chat.bubbles[-1])
    chat.open(ready=False)
    chat.until(lambda: len(chat.run("return root.querySelectorAll('.item')")) > 1000)
    chat.wait_for_text(".presence", "Online")
    gap = (
        "const log = root.querySelector('.log');"
        "return log.scrollHeight - log.scrollTop - log.clientHeight"
    )
    chat.until(lambda: chat.run(gap) < 2)
    took = chat.driver.execute_async_script(
        "const done = arguments[0];"
        "const chat = document.querySelector('polysync-chat');"
        "const began = performance.now();"
        "for (let n = 0; n < 20; n++) chat.receive({type: 'message', id: `x${n}`,"
        "message_id: `x${n}`, html: `<p>More ${n}</p>`, role: 'agent', attachments: [],"
        "suggestions: [], calls: [], agent: null, complete: true, ends: false});"
        "requestAnimationFrame(() =>"
        " setTimeout(() => done(performance.now() - began)));"
    )
    assert took < 500  # ms, for twenty


def test_who_reads_above_is_not_pulled_down(chat: Chat, site: Site) -> None:
    """A button tells of what has come below, and leads there."""
    chat.open()
    for number in range(40):
        site.emit(say(f"Line {number}", f"m{number}"))
    chat.until(lambda: len(chat.bubbles) == 41)
    chat.run("root.querySelector('.log').scrollTop = 0")
    chat.until(
        lambda: (
            chat.run("return document.querySelector('polysync-chat').follow") is False
        )
    )
    site.emit(say("Below", "below"))
    button = chat.find(".newest")
    assert chat.run("return root.querySelector('.log').scrollTop") < 200
    button.click()
    chat.until(lambda: not chat.all(".newest"))


def test_the_name_is_a_heading(chat: Chat) -> None:
    """The page's own if the page has no other."""
    chat.open()
    assert chat.find("[role=heading]").get_attribute("aria-level") == "2"
    chat.run(
        "document.querySelector('h1').remove();"
        "const old = document.querySelector('polysync-chat');"
        "const chat = document.createElement('polysync-chat');"
        "Object.assign(chat.dataset, old.dataset); old.replaceWith(chat)"
    )
    chat.wait_for_text("[role=heading]", "Robin")
    assert chat.find("[role=heading]").get_attribute("aria-level") == "1"


def test_what_was_said_before_is_not_read_out(chat: Chat, site: Site) -> None:
    """A screen reader hears the greeting and the news, not the whole conversation."""
    live = (
        "const log = root.querySelector('.log'), seen = [];"
        "new MutationObserver(() => seen.push(log.ariaLive))"
        ".observe(log, {attributeFilter: ['aria-live']}); window.seen = seen"
    )
    chat.open("/launcher", ready=False)
    chat.run(live)
    chat.find(".launcher").click()
    chat.wait_for_bubbles(GREETING)
    chat.say("Hi")
    chat.until(lambda: len(chat.bubbles) == 3)
    assert chat.run("return window.seen") == []
    chat.run("sessionStorage.clear()")
    chat.open("/launcher", ready=False)
    chat.run(live)
    chat.find(".launcher").click()
    chat.until(lambda: chat.run("return window.seen") == ["off", "polite"])
    assert len(chat.bubbles) == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/launcher"])
def test_axe_finds_nothing(
    chat: Chat, site: Site, axe: str, scheme: str, path: str
) -> None:
    """With everything on the page that can be there."""
    chat.emulate(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    site.script = silent
    chat.open(path)
    chat.say("Hello")
    chat.until(lambda: chat.texts(".state") == ["Sent"])
    site.emit(SystemMessage(level=SystemMessageLevel.ERROR, message="An error"))
    site.emit(PolyAgentTriggeredHandoff())
    site.emit(LiveAgentJoined(agent=Agent(name="Maria")))
    site.refuse("messages", 503)
    chat.say("Fails")
    chat.wait_for_text(".state", "Not sent.")
    site.emit(
        say(
            "A [link](https://a.example), `code`\n\n> quote\n\n| a |\n|---|\n| b |",
            attachments=(
                Attachment(
                    title="Menu",
                    content_url="https://a.example",
                    preview_image_url=f"{site.url}/picture.svg",
                ),
            ),
            chat_call_actions=(ChatCallAction(title="Call", contact_number="+44"),),
            response_suggestions=suggestions("Yes", "No"),
        )
    )
    site.emit(LiveAgentTyping())
    chat.find(".typing")
    chat.run("document.querySelector('polysync-chat').warn('offline', () => {})")
    assert axe_violations(chat, axe) == []
    chat.run("document.querySelector('polysync-chat').finish()")
    chat.find(".ended button")
    assert axe_violations(chat, axe) == []


def axe_violations(chat: Chat, axe: str) -> list[str]:
    assert chat.complaints() == []
    chat.driver.execute_script("if (!window.axe) {" + axe + "}")
    result = chat.driver.execute_async_script(
        "const done = arguments[0];"
        "axe.run({resultTypes: ['violations']}).then(done, (e) => done(String(e)))"
    )
    chat.complaints()  # axe tries inline styles, which the site's policy refuses
    return [
        f"{rule['id']}: {node['html'][:120]} {node['failureSummary']}"
        for rule in result["violations"]
        for node in rule["nodes"]
    ]
