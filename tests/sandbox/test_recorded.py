"""A recording is played turn by turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polysync.sandbox import BookingAgent, RecordedAgent, Sandbox
from tests.sandbox.bare import Bare, text, types


def event(name: str, payload: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": f"EVENT_TYPE_{name}", "payload": payload or {}, **more}


RECORDING = {
    "version": 1,
    "events": [
        event(
            "EVENT_BATCH",
            {"events": [event("SESSION_START"), event("REQUEST_POLY_AGENT_JOIN")]},
        ),
        event("POLY_AGENT_JOINED", {"agent_name": "Old"}),
        event("POLY_AGENT_MESSAGE", {"message_id": "m1", "text": "Hello"}),
        event("USER_MESSAGE", {"text": "a"}),
        event("LIVE_AGENT_TYPING", {}, sequence=None),
        event("POLY_AGENT_MESSAGE", {"message_id": "m2", "text": "B"}),
    ],
}


def test_a_recording_is_played_turn_by_turn(tmp_path: Path) -> None:
    path = tmp_path / "conversation.json"
    path.write_text(json.dumps(RECORDING), encoding="utf-8")
    with Sandbox(RecordedAgent(path)) as sandbox, Bare(sandbox) as bare:
        bare.connect()
        greeting = bare.join()
        first = bare.say("whatever")
        bare.send("USER_MESSAGE", {"text": "more"})
        bare.send("HEARTBEAT")
        silence = bare.until("HEARTBEAT")

    assert types(greeting) == [
        "REQUEST_POLY_AGENT_JOIN",
        "POLY_AGENT_JOINED",
        "POLY_AGENT_MESSAGE",
    ]
    assert types(first) == ["USER_MESSAGE", "LIVE_AGENT_TYPING", "POLY_AGENT_MESSAGE"]
    assert first[1]["sequence"] is None
    assert first[2]["payload"] == {"message_id": "m2", "text": "B"}
    assert types(silence) == ["USER_MESSAGE", "HEARTBEAT"]


def test_a_session_can_be_recorded_and_played_again() -> None:
    with Sandbox(BookingAgent) as sandbox, Bare(sandbox, join=True) as bare:
        bare.say("a table for two")
        bare.say("talk to a human")
        bare.until("LIVE_AGENT_MESSAGE")
        bare.send("USER_MESSAGE", {"text": "bye"})
        bare.until("SESSION_END")
        recording = bare.session.recording
    with Sandbox(RecordedAgent(recording)) as sandbox, Bare(sandbox, join=True) as bare:
        again = text(bare.say("x")[1:])
        bare.say("y")
        bare.until("LIVE_AGENT_MESSAGE")
        bare.send("USER_MESSAGE", {"text": "z"})
        bare.until("SESSION_END")
        assert bare.close_code() == 1000
        played = bare.session.types

    assert again == "A table for 2. When would you like to come?"
    assert played == [
        e["type"].removeprefix("EVENT_TYPE_") for e in recording["events"]
    ]


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        ({}, "a recording is"),
        ({"version": 2, "events": []}, "version 2 cannot be played"),
        ({"version": 1, "events": [{"payload": {}}]}, "no event"),
    ],
)
def test_what_is_no_recording_is_refused(recording: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecordedAgent(recording)
