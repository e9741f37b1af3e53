"""What is not finished yet."""

from __future__ import annotations

import pytest

from polysync import events
from polysync.cli.growing import Growing
from polysync.models import TypingState


@pytest.fixture
def growing() -> Growing:
    """A chat in which nothing is unfinished."""
    return Growing()


def test_reply_grows_until_it_is_whole(growing: Growing) -> None:
    """Chunks add up; the whole message takes their place."""
    growing.event(events.PolyAgentThinking())
    assert growing.typing
    for text in ("Hel", "lo"):
        growing.event(events.PolyAgentMessageChunk(text=text))
    assert growing.reply == "Hello"
    growing.event(events.PolyAgentMessage(text="Hello"))
    assert (growing.reply, growing.typing) == ("", False)


def test_human_types_and_stops(growing: Growing) -> None:
    """A live agent's typing goes on and off."""
    growing.event(events.LiveAgentTyping())
    assert growing.typing
    growing.event(events.LiveAgentTyping(state=TypingState.STOPPED))
    assert not growing.typing


def test_error_ends_the_typing(growing: Growing) -> None:
    """After an error nobody is typing an answer any more."""
    growing.event(events.PolyAgentThinking())
    growing.event(events.SystemMessage(message="Sorry"))
    assert not growing.typing


def test_message_is_on_its_way_until_its_echo(growing: Growing) -> None:
    """Two messages of the same text are two."""
    growing.sending += ["hi", "hi"]
    growing.event(events.UserMessage(text="hi"))
    assert growing.sending == ["hi"]
    growing.event(events.UserMessage(text="from elsewhere"))
    assert growing.sending == ["hi"]
