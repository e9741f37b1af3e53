"""Events as plain dictionaries, and how a text is cut."""

from __future__ import annotations

import json
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from polysync.sandbox import wire


@given(st.text())
def test_the_pieces_of_a_text_are_the_text(text: str) -> None:
    pieces = wire.chunks(text)

    assert "".join(pieces) == text
    assert 1 <= len(pieces) <= 32


@given(st.text(st.characters(), max_size=20))
def test_any_text_can_be_encoded(text: str) -> None:
    encoded = wire.dumps({"text": text})

    assert json.loads(encoded.encode()) == {"text": text}


def test_an_event_has_an_id_and_an_aware_time() -> None:
    event = wire.build("EVENT_TYPE_X", {"a": 1}, sequence=3, custom={"k": "v"})

    assert datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")).tzinfo
    assert event["metadata"] == {"custom": {"k": "v"}}
    assert event["id"] != wire.build("EVENT_TYPE_X")["id"]


def test_names_go_with_and_without_their_prefix() -> None:
    assert wire.full_type("HEARTBEAT") == "EVENT_TYPE_HEARTBEAT"
    assert wire.full_type("EVENT_TYPE_HEARTBEAT") == "EVENT_TYPE_HEARTBEAT"
    assert wire.suffix("EVENT_TYPE_HEARTBEAT") == "HEARTBEAT"
