"""Tests of `polysync.models`."""

from __future__ import annotations

import pickle
from datetime import datetime, timezone

import attrs
import pytest

from polysync import models
from polysync.models import (
    Agent,
    Attachment,
    AttachmentContentType,
    Capabilities,
    ChatCallAction,
    ConnectionChange,
    ConnectionStatus,
    Handoff,
    HandoffStatus,
    ResponseSuggestion,
    SessionEndReason,
    Transcript,
    TranscriptItem,
    TypingState,
)

VALUES = [
    Attachment(title="Menu", content_type=AttachmentContentType.URL),
    ResponseSuggestion(message_text="Yes", payload={"any": ["json"]}),
    ChatCallAction(title="Call", contact_number="+44"),
    Agent(id="7", name="Maya"),
    Capabilities(streaming=True, heartbeat_interval_seconds=30),
    Handoff(status=HandoffStatus.QUEUED, position_in_queue=2),
    ConnectionChange(status=ConnectionStatus.RECONNECTING, attempt=1, delay=0.5),
    TranscriptItem(role="agent", text="Hi"),
]
by_class = pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)


@by_class
def test_a_value_survives_pickling_and_has_an_equal_hash(value):
    """What goes through a pickle is equal, of the same class, and hashes alike."""
    copy = pickle.loads(pickle.dumps(value))

    assert copy == value
    assert type(copy) is type(value)
    assert hash(copy) == hash(value)


@by_class
def test_a_value_is_frozen_and_slotted(value):
    """Nothing can be assigned, neither a field nor anything else."""
    for name in (attrs.fields(type(value))[0].name, "another"):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, name, None)
    assert not hasattr(value, "__dict__")


def test_values_of_different_classes_are_not_equal():
    """Classes count as well as fields."""
    assert Agent() != Attachment()
    assert Agent(name="Maya") != Agent(name="Leo")
    assert Agent() != "Agent()"


def test_a_repr_shows_what_is_not_at_its_default():
    """Empty fields would only hide the others."""
    assert repr(Agent(name="Maya")) == "Agent(name='Maya')"
    assert repr(Agent()) == "Agent()"


WORDS = [
    word
    for words in vars(models).values()
    if isinstance(words, type) and issubclass(words, models._Word)
    for word in words
]


@pytest.mark.parametrize("word", WORDS, ids=str)
def test_a_word_equals_and_prints_as_what_is_on_the_wire(word):
    """Members are strings on every Python version."""
    assert word == word.value
    assert str(word) == f"{word}" == "%s" % word == word.value  # noqa: UP031
    assert pickle.loads(pickle.dumps(word)) is word


def test_words_have_the_values_of_the_wire():
    """The short names stand for the long ones."""
    assert SessionEndReason.USER_END == "REASON_USER_END"
    assert TypingState("TYPING_STATE_STOPPED") is TypingState.STOPPED


@pytest.fixture
def transcript():
    return Transcript(
        [
            TranscriptItem(role="agent", text="Hi"),
            TranscriptItem(role="user", text="A table", delivery="sent"),
            TranscriptItem(
                role="live_agent",
                text="Here",
                timestamp=datetime(2026, 8, 14, tzinfo=timezone.utc),
                attachments=(Attachment(title="Menu", content_url="https://x.test"),),
                chat_call_actions=(ChatCallAction(contact_number="+44 20"),),
            ),
            TranscriptItem(role="user", text="Thanks", delivery="failed"),
            TranscriptItem(role="user", text="Bye", delivery="pending"),
            TranscriptItem(role="agent", text="Goodb", complete=False),
            TranscriptItem(role="system", text="Busy"),
        ]
    )


def test_a_transcript_reads_as_plain_text(transcript):
    """One message a line, cards and numbers below it, and what is amiss noted."""
    assert str(transcript).splitlines() == [
        "Agent: Hi",
        "User: A table",
        "Live agent: Here",
        "  Menu: https://x.test",
        "  +44 20",
        "User: Thanks (not sent)",
        "User: Bye (sending)",
        "Agent: Goodb (incomplete)",
        "System: Busy",
    ]


def test_a_transcript_is_an_immutable_sequence(transcript):
    """It can be indexed, sliced, iterated over, compared and pickled."""
    assert len(transcript) == 7
    assert transcript[-1].text == "Busy"
    assert [item.text for item in transcript[:2]] == ["Hi", "A table"]
    assert isinstance(transcript[:2], Transcript)
    assert transcript == Transcript(list(transcript))
    assert hash(transcript) == hash(Transcript(transcript))
    assert transcript != list(transcript)
    assert pickle.loads(pickle.dumps(transcript)) == transcript
    assert repr(Transcript()) == "Transcript([])"
    with pytest.raises(TypeError):
        transcript[0] = transcript[1]
