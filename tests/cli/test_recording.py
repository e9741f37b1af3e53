"""Recordings of conversations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from polysync import decode, events
from polysync.cli.recording import Recording, in_wire_form, is_assembled
from polysync.cli.reporting import CommandError
from polysync.sandbox import RecordedAgent, Sandbox
from tests.cli.conftest import Run


def said(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith("Harbour")]


def test_chat_is_recorded_and_played_again(
    run: Run, tmp_path: Path, credentials: Callable[[Sandbox], None]
) -> None:
    """What was recorded from one agent is said by another, word for word."""
    file = tmp_path / "talk.json"
    questions = "Book a table\n4\nthe menu\nTalk to a human\n"
    first = run("chat", "--record", str(file), stdin=questions)
    recording = json.loads(file.read_text(encoding="utf-8"))

    assert first.code == 0
    assert f"{len(recording['events'])} events are in {file}" in first.err
    with Sandbox(RecordedAgent(recording)) as sandbox:
        credentials(sandbox)
        second = run("chat", stdin="a\nb\nc\nd\n")
    assert len(said(first.out)) > 4
    assert said(second.out) == said(first.out)


def test_events_are_as_they_were_on_the_wire() -> None:
    """An event that is read and written again is the same JSON."""
    frame = {
        "id": "1",
        "sequence": 7,
        "timestamp": "2026-01-01T00:00:00Z",
        "type": "EVENT_TYPE_POLY_AGENT_MESSAGE_CHUNK",
        "payload": {
            "message_id": "m",
            "text": "Hi",
            "attachments": [{"title": "t"}],
            "response_suggestions": [{"message_text": "s"}],
            "chunk_index": 1,
            "is_complete": True,
            "brand_new": 1,
        },
        "metadata": {"custom": {"a": "b"}},
    }
    [event] = decode(json.dumps(frame))
    assert in_wire_form(event) == frame


def test_assembled_messages_are_left_out(tmp_path: Path) -> None:
    """The server did not send them: their chunks are there."""
    recording = Recording(str(tmp_path / "r.json"))
    chunk = events.PolyAgentMessageChunk(id="1", text="Hi")
    whole = events.PolyAgentMessage(id="m", text="Hi", assembled=True)
    recording.add(chunk)
    recording.add(whole)
    assert is_assembled(whole)
    assert recording.save() == 1


def test_history_comes_first(tmp_path: Path) -> None:
    """A resumed conversation's beginning is in the recording, and once."""
    file = tmp_path / "r.json"
    recording = Recording(str(file))
    old, new = (events.UserMessage(id=str(n), sequence=n) for n in (1, 2))
    recording.add(new)
    assert recording.save([old, new]) == 2
    ids = [event["id"] for event in json.loads(file.read_text())["events"]]
    assert ids == ["1", "2"]


def test_nothing_is_written_of_nothing(tmp_path: Path) -> None:
    """A conversation that never began leaves an older recording alone."""
    file = tmp_path / "r.json"
    file.write_text("old")
    assert Recording(str(file)).save() == 0
    assert file.read_text() == "old"


@pytest.mark.parametrize("name", ["no/such/directory.json", "."])
def test_file_that_cannot_be_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mistake is told before the conversation, not after it."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError, match="--record") as caught:
        Recording(name)
    assert caught.value.code == 2


def test_disk_that_fails_at_the_end(tmp_path: Path) -> None:
    """What goes wrong at the end is one sentence."""
    directory = tmp_path / "d"
    directory.mkdir()
    recording = Recording(str(directory / "r.json"))
    directory.rmdir()
    recording.add(events.Heartbeat(id="1"))
    with pytest.raises(CommandError, match="could not be written"):
        recording.save()
