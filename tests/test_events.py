"""Tests of `polysync.events`."""

from __future__ import annotations

import pickle
from datetime import datetime, timezone
from typing import get_args

import attrs
import pytest

from polysync import events
from polysync.events import (
    CLIENT_EVENT_TYPES,
    EVENT_TYPES,
    Event,
    Heartbeat,
    LiveAgentMessage,
    Message,
    PolyAgentMessage,
    UnknownEvent,
    UserEndSession,
    UserMessage,
)

CLASSES = [*EVENT_TYPES.values(), UnknownEvent]
by_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_a_class_is_named_after_its_type(event_type):
    """The name on the wire, without its prefix and in CamelCase."""
    words = event_type.removeprefix("EVENT_TYPE_").split("_")

    assert EVENT_TYPES[event_type].__name__ == "".join(w.capitalize() for w in words)
    assert EVENT_TYPES[event_type].type == event_type
    assert EVENT_TYPES[event_type].__name__ in events.__all__


def test_there_is_a_class_for_each_type_of_the_protocol():
    """Five of the client, twenty-one of the server alone, eight reserved."""
    assert len(EVENT_TYPES) == 34
    assert set(CLIENT_EVENT_TYPES) == {
        "EVENT_TYPE_REQUEST_POLY_AGENT_JOIN",
        "EVENT_TYPE_USER_MESSAGE",
        "EVENT_TYPE_USER_TYPING",
        "EVENT_TYPE_USER_END_SESSION",
        "EVENT_TYPE_HEARTBEAT",
    }


@by_class
def test_an_event_is_frozen_and_slotted(cls):
    """Nothing can be assigned, neither a field nor anything else."""
    event = cls()

    for name in ("id", "another"):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(event, name, None)
    assert attrs.has(cls)
    assert not hasattr(event, "__dict__")


@by_class
def test_an_event_survives_pickling_and_has_an_equal_hash(cls):
    """What goes through a pickle is equal, of the same class, and hashes alike."""
    event = cls(
        id="a",
        sequence=2**40,
        timestamp=datetime(2026, 8, 14, tzinfo=timezone.utc),
        metadata={"local_id": "x"},
        extra={"new": [1]},
    )
    copy = pickle.loads(pickle.dumps(event))

    assert copy == event
    assert type(copy) is cls
    assert hash(copy) == hash(event)
    assert event != cls()


def test_events_of_different_classes_are_not_equal():
    """Two events without fields are still two things."""
    assert Heartbeat() == Heartbeat()
    assert Heartbeat() != UserEndSession()


def test_a_repr_shows_the_payload_first_and_no_defaults():
    """People look for the payload."""
    event = PolyAgentMessage(text="Hi", sequence=4)

    assert repr(event) == "PolyAgentMessage(text='Hi', sequence=4)"
    assert repr(Heartbeat()) == "Heartbeat()"
    assert "complete=False" in repr(PolyAgentMessage(complete=False))


@pytest.mark.parametrize(
    ("cls", "live"), [(PolyAgentMessage, False), (LiveAgentMessage, True)]
)
def test_both_kinds_of_message_are_alike_in_use(cls, live):
    """Code that gets a message need not ask which it is."""
    message = cls(text="Hi", agent_name="Maya")

    assert isinstance(message, get_args(Message))
    assert message.text == "Hi"
    assert message.attachments == ()
    assert message.response_suggestions == ()
    assert message.chat_call_actions == ()
    assert message.agent_name == "Maya"
    assert message.is_live_agent is live
    assert message.complete is True
    assert message.assembled is False


def test_an_unknown_event_has_a_type_of_its_own():
    """The type is a field there."""
    event = UnknownEvent("EVENT_TYPE_NEW", {"a": 1})

    assert event.type == "EVENT_TYPE_NEW"
    assert event.payload == {"a": 1}
    assert event != UnknownEvent("EVENT_TYPE_OTHER", {"a": 1})


def test_defaults_are_not_shared_between_events():
    """A mapping that somebody changes is that of one event alone."""
    assert Event().metadata is not Event().metadata


def test_an_event_can_be_changed_into_another():
    """`attrs.evolve` works, and leaves the first as it was."""
    first = UserMessage(text="Hi")
    second = attrs.evolve(first, message_id="m1")

    assert first.message_id is None
    assert (second.text, second.message_id) == ("Hi", "m1")
