"""The default agent books a table and shows all that the protocol can do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from polysync.sandbox import Sandbox
from tests.sandbox.bare import Bare, text, types


@pytest.fixture
def guest() -> Iterator[Bare]:
    with Sandbox() as sandbox, Bare(sandbox) as bare:
        bare.connect()
        bare.greeting = bare.join()  # type: ignore[attr-defined]
        yield bare


def suggestions(events: list[Any]) -> list[str]:
    offered = events[-1]["payload"]["response_suggestions"]
    return [offer["message_text"] for offer in offered]


def test_it_greets_with_suggestions(guest: Bare) -> None:
    greeting = guest.greeting  # type: ignore[attr-defined]

    assert text(greeting).startswith("Hello, this is the Harbour Table.")
    assert suggestions(greeting) == [
        "Book a table",
        "See the menu",
        "Talk to a human",
    ]


def test_it_books_in_a_few_turns(guest: Bare) -> None:
    when = guest.say("Do you have a table for two tonight?")
    confirm = guest.say(suggestions(when)[0])
    booked = guest.say(suggestions(confirm)[0])

    assert text(when[1:]) == "A table for 2. When would you like to come?"
    assert text(confirm[1:]) == "A table for 2, Tonight at 7 pm. Shall I book it?"
    assert text(booked[1:]).endswith("is booked. See you then!")
    assert booked[-1]["payload"]["attachments"][0]["title"] == "How to find us"


def test_it_asks_for_what_is_missing(guest: Bare) -> None:
    people = guest.say("Book a table at 7 pm")
    confirm = guest.say("four")
    dropped = guest.say("No, thank you")

    assert text(people[1:]) == "With pleasure. For how many people?"
    assert suggestions(people) == ["2", "4", "6"]
    assert text(confirm[1:]).startswith("A table for 4, at 7 pm.")
    assert text(dropped[1:]).startswith("Alright, nothing is booked.")


def test_it_takes_all_at_once(guest: Bare) -> None:
    confirm = guest.say("A table for 6 tomorrow at 19:30, please")

    assert text(confirm[1:]).startswith("A table for 6, tomorrow at 19:30.")


def test_it_shows_the_menu_and_a_telephone_number(guest: Bare) -> None:
    menu = guest.say("Can I see the menu?")
    phone = guest.say("Can I call you?")

    assert {a["content_type"] for a in menu[-1]["payload"]["attachments"]} == {
        "ATTACHMENT_CONTENT_TYPE_URL",
        "ATTACHMENT_CONTENT_TYPE_IMAGE",
    }
    assert phone[-1]["payload"]["chat_call_actions"][0]["contact_number"]


def test_it_changes_the_language(guest: Bare) -> None:
    changed = guest.say("Can we speak Spanish?")
    people = guest.say("una mesa")

    assert "LANGUAGE_CHANGED" in types(changed)
    assert text(changed[1:]) == "De acuerdo, seguimos en español."
    assert text(people[1:]) == "Con mucho gusto. ¿Para cuántas personas?"
    assert text(guest.say("in English please")[1:]).startswith("Of course")


def test_it_says_what_it_can_do(guest: Bare) -> None:
    assert text(guest.say("What is the weather?")[1:]).startswith("I can book")


def test_it_hands_over_to_a_human_who_says_goodbye(guest: Bare) -> None:
    put_through = guest.say("Talk to a human")
    handover = guest.until("LIVE_AGENT_MESSAGE")
    answer = guest.say("I have an allergy")
    guest.send("USER_MESSAGE", {"text": "bye"})
    end = guest.until("SESSION_END")

    assert "put you through" in text(put_through[1:])
    assert types(handover)[:3] == [
        "POLY_AGENT_LEFT",
        "POLY_AGENT_TRIGGERED_HANDOFF",
        "HANDOFF_ACCEPTED",
    ]
    assert text(answer[1:]).startswith("I have noted that.")
    assert types(end)[-2:] == ["LIVE_AGENT_LEFT", "SESSION_END"]
    assert guest.close_code() == 1000


def test_the_human_leaves_for_the_assistant(guest: Bare) -> None:
    guest.say("human")
    guest.until("LIVE_AGENT_MESSAGE")
    guest.say("the robot please")
    guest.until("LIVE_AGENT_LEFT")
    guest.send("REQUEST_POLY_AGENT_JOIN")

    assert "Harbour Table" in text(guest.reply())


def test_it_says_goodbye(guest: Bare) -> None:
    guest.send("USER_MESSAGE", {"text": "goodbye"})
    end = guest.until("SESSION_END")[-1]

    assert end["payload"] == {"reason": "REASON_NATURAL_END"}
