"""Scripts in Python, for what a list of steps cannot say."""

from __future__ import annotations

from polysync.events import LanguageChanged
from polysync.scenarios import Talk, conversation


@conversation("Change the language", within=10)
def change_language(talk: Talk) -> None:
    """The agent goes on in the language that it is asked for."""
    talk.expect("book a table")
    talk.say("Do you speak Spanish?")
    talk.expect("español")
    assert talk.client.language == "es-ES"
    assert any(isinstance(event, LanguageChanged) for event in talk.client.history)


@conversation("Numbers of people", within=10, variables={"most": 6})
def numbers(talk: Talk) -> None:
    """Whatever the number of people, the agent understands it."""
    talk.say("I want to book a table")
    message = talk.expect(suggestion=["2", "4", "6"])
    for suggestion in message.response_suggestions:
        assert int(suggestion.message_text) <= int(talk.variables["most"])
    talk.choose("4")
    talk.expect("A table for 4")
