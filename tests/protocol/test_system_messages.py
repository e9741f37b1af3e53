"""Tests of `polysync.protocol.system_messages`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysync.protocol.system_messages import Trouble, trouble

KNOWN = {
    "Unknown event type or invalid message format": Trouble.MISTAKE,
    "Event type not allowed: EVENT_TYPE_SESSION_END": Trouble.MISTAKE,
    "Our system is experiencing high load. Please try again in a moment.": Trouble.BUSY,
    "Sorry, I'm unable to start a conversation right now. Please try again later.": (
        Trouble.NOT_STARTED
    ),
    "Sorry, I'm having trouble responding right now. Please try again.": (
        Trouble.NO_REPLY
    ),
    "Sorry, I encountered an error. Please try again.": Trouble.NO_REPLY,
    "Error: Session not found": Trouble.SESSION_GONE,
    "Error: Unable to retrieve session": Trouble.UNAVAILABLE,
    "Error: Connector not found": Trouble.MISCONFIGURED,
    "Error: Conversation not found": Trouble.NO_CONVERSATION,
    "Error: Conversation ID not found in session": Trouble.NO_CONVERSATION,
    "Sorry, we could not connect you to an agent. Please try again.": Trouble.HANDOFF,
    "Failed to forward message to live agent": Trouble.HANDOFF,
    "Sorry, handoff could not be initiated.": Trouble.HANDOFF,
}


@pytest.mark.parametrize("text", KNOWN)
def test_every_message_of_the_protocol_has_its_meaning(text: str):
    assert trouble(text) is KNOWN[text]


@pytest.mark.parametrize("text", KNOWN)
def test_case_spaces_and_typographic_apostrophes_make_no_difference(text: str):
    assert trouble(f" {text.upper()}\n") is KNOWN[text]
    assert trouble(text.replace("'", "\u2019")) is KNOWN[text]


@pytest.mark.parametrize("text", ["", "Error: ", "Something else", "session"])
def test_another_text_means_no_more_than_it_says(text: str):
    assert trouble(text) is Trouble.OTHER


@given(st.text())
def test_any_text_has_a_meaning(text: str):
    assert isinstance(trouble(text), Trouble)


def test_only_what_may_go_away_by_itself_is_transient():
    final = {
        Trouble.MISTAKE,
        Trouble.SESSION_GONE,
        Trouble.MISCONFIGURED,
        Trouble.OTHER,
    }
    assert {kind for kind in Trouble if not kind.transient} == final
