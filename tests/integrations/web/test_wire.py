"""Events as the page gets them."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysync import events
from polysync.events import Event, UserMessage
from polysync.integrations.web.wire import (
    CLIENT_ID_KEY,
    KEEP_ALIVE,
    STREAM_HEADERS,
    conversation_tag,
    page_event,
    sse,
)
from polysync.models import (
    Agent,
    Attachment,
    ChatCallAction,
    ConnectionChange,
    ConnectionStatus,
    ResponseSuggestion,
    SessionEndReason,
    SystemMessageLevel,
    TypingState,
)

AGENT = {"name": "Robin", "avatar": "https://a.example/r.png"}
HANDOFF = {"queue": None, "position": None, "wait": None, "text": None}


@pytest.mark.parametrize(
    ("event", "page"),
    [
        (
            UserMessage(text="<b>", message_id="m", metadata={CLIENT_ID_KEY: "c"}),
            {"type": "user", "text": "<b>", "message_id": "m", "client_id": "c"},
        ),
        (
            events.PolyAgentMessageChunk(message_id="m", text=" x", chunk_index=2),
            {"type": "chunk", "message_id": "m", "index": 2, "text": " x",
             "last": False},
        ),
        (
            events.PolyAgentThinking(),
            {"type": "typing", "role": "agent", "active": True, "agent": None},
        ),
        (
            events.LiveAgentTyping(state=TypingState.STOPPED, agent_name="Robin"),
            {"type": "typing", "role": "live_agent", "active": False,
             "agent": {"name": "Robin", "avatar": None}},
        ),
        (
            events.PolyAgentJoined(
                agent_name="Robin", agent_avatar_url=AGENT["avatar"]
            ),
            {"type": "joined", "role": "agent", "agent": AGENT},
        ),
        (
            events.PolyAgentJoined(agent_avatar_url="javascript:x"),
            {"type": "joined", "role": "agent", "agent": None},
        ),
        (
            events.LiveAgentJoined(
                agent=Agent(id="7", name="Robin", avatar_url=AGENT["avatar"])
            ),
            {"type": "joined", "role": "live_agent", "agent": AGENT},
        ),
        (
            events.PolyAgentLeft(),
            {"type": "left", "role": "agent", "agent": None},
        ),
        (
            events.LiveAgentLeft(agent_name="Robin"),
            {"type": "left", "role": "live_agent",
             "agent": {"name": "Robin", "avatar": None}},
        ),
        (
            events.PolyAgentTriggeredHandoff(),
            {"type": "handoff", "status": "requested", **HANDOFF},
        ),
        (
            events.HandoffAccepted(queue_name="q"),
            {"type": "handoff", "status": "accepted", **HANDOFF, "queue": "q"},
        ),
        (
            events.HandoffQueueStatus(
                position_in_queue=2,
                estimated_wait_seconds=float("nan"),
                display_message="Soon",
            ),
            {"type": "handoff", "status": "queued", **HANDOFF, "position": 2,
             "text": "Soon"},
        ),
        (
            events.ClientHandoffRequired(queue_name="q", route="secret-route"),
            {"type": "handoff", "status": "required", **HANDOFF, "queue": "q"},
        ),
        (events.HandoffFailed(), {"type": "handoff", "status": "failed", **HANDOFF}),
        (events.HandoffTimeout(), {"type": "handoff", "status": "timeout", **HANDOFF}),
        (
            events.LanguageChanged(language_code="he-IL"),
            {"type": "language", "language": "he-IL"},
        ),
        (
            events.SystemMessage(level=SystemMessageLevel.ERROR, message="Sorry"),
            {"type": "notice", "level": "error", "text": "Sorry"},
        ),
        (
            events.SystemMessage(level="SHOUTING", message="x"),
            {"type": "notice", "level": "shouting", "text": "x"},
        ),
        (
            events.SystemMessage(message="x"),
            {"type": "notice", "level": "info", "text": "x"},
        ),
        (events.SessionIdleWarning(), {"type": "idle"}),
        (
            events.SessionEnd(reason=SessionEndReason.USER_END),
            {"type": "end", "reason": "user_end"},
        ),
        (events.SessionEnd(), {"type": "end", "reason": None}),
        (
            ConnectionChange(ConnectionStatus.RECONNECTING, reason="internal"),
            {"type": "connection", "status": "reconnecting"},
        ),
    ],
)  # fmt: skip
def test_what_the_page_is_told(
    event: Event | ConnectionChange, page: dict[str, object]
) -> None:
    """Each event becomes the fields that the contract names, and no others."""
    envelope = {"id": None, "sequence": None, "time": None}
    assert page_event(event) == {**envelope, **page}


def test_a_message_has_everything_that_is_shown() -> None:
    """HTML, cards, suggestions, phone numbers; unsafe addresses are left out."""
    event = events.LiveAgentMessage(
        id="e",
        sequence=9,
        timestamp=datetime(2026, 8, 1, 12, tzinfo=timezone.utc),
        message_id="m",
        text="**Hi**",
        agent_name="Robin",
        avatar_url="https://a.example/r.png",
        attachments=(
            Attachment(title="A", content_url="javascript:x", preview_image_url="//x"),
            Attachment(
                content_url="https://a.example/p.png",
                content_type="ATTACHMENT_CONTENT_TYPE_IMAGE",
                call_to_action_text="See",
            ),
        ),
        response_suggestions=(
            ResponseSuggestion(message_text="Yes"),
            ResponseSuggestion(message_text="  "),
        ),
        chat_call_actions=(
            ChatCallAction(title="Call", contact_number="+44 20"),
            ChatCallAction(title="No number"),
        ),
        end_conversation=True,
    )
    assert page_event(event) == {
        "type": "message",
        "id": "e",
        "sequence": 9,
        "time": "2026-08-01T12:00:00+00:00",
        "role": "live_agent",
        "message_id": "m",
        "html": "<p><strong>Hi</strong></p>",
        "attachments": [
            {"title": "A", "url": None, "image": None, "action": None},
            {
                "title": None,
                "url": "https://a.example/p.png",
                "image": "https://a.example/p.png",
                "action": "See",
            },
        ],
        "suggestions": ["Yes"],
        "calls": [{"title": "Call", "number": "+44 20", "url": "tel:+4420"}],
        "agent": AGENT,
        "complete": True,
        "ends": True,
    }


def test_the_ids_tell_events_apart() -> None:
    """A server's id, else the sequence; an assembled reply differs from its part."""

    def name(event: Event) -> object:
        page = page_event(event)
        assert page is not None
        return page["id"]

    whole = events.PolyAgentMessage(message_id="m", id="m", assembled=True)
    part = events.PolyAgentMessage(
        message_id="m", id="m", assembled=True, complete=False
    )
    assert name(UserMessage(id="e", sequence=4)) == "e"
    assert name(UserMessage(sequence=4)) == "#4"
    assert name(UserMessage()) is None
    assert name(whole) != name(part)


@pytest.mark.parametrize("kind", sorted(events.EVENT_TYPES))
def test_every_event_class_is_translated_or_left_out(kind: str) -> None:
    """No class raises with its defaults, and what comes out is JSON."""
    page = page_event(events.EVENT_TYPES[kind]())
    assert page is None or json.loads(json.dumps(page)) == page


def test_what_the_page_has_no_use_for_is_left_out() -> None:
    """Heartbeats, joins and unknown types."""
    for event in (
        events.Heartbeat(),
        events.SessionStart(),
        events.RequestPolyAgentJoin(),
        events.UnknownEvent(type="EVENT_TYPE_NEW", payload={"x": 1}),
    ):
        assert page_event(event) is None


def parse(block: bytes) -> tuple[str | None, str]:
    """Read one block as the specification of server-sent events says."""
    name, data = None, []
    lines = block.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert lines[-2:] == ["", ""]
    for line in lines[:-2]:
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if key == "id":
            name = value
        else:
            assert key == "data"
            data.append(value)
    return name, "\n".join(data)


@given(st.text(), st.none() | st.text())
def test_any_text_stays_in_its_block(text: str, name: str | None) -> None:
    """Line ends, NULs and half characters in texts and ids break no framing."""
    event = {"type": "user", "id": "x", "sequence": 1, "text": text}
    parsed_name, data = parse(sse(event, name))
    expected = text.encode("utf-8", "replace").decode()
    assert json.loads(data)["text"] == expected
    assert (parsed_name is None) == (name is None)


def test_a_block_looks_like_one() -> None:
    """The id stands before the data; without one the former id stays."""
    assert sse({"a": "é\n"}, "t-1") == 'id: t-1\ndata: {"a":"é\\n"}\n\n'.encode()
    assert sse({}) == b"data: {}\n\n"
    assert KEEP_ALIVE.startswith(b":")
    assert KEEP_ALIVE.endswith(b"\n\n")


def test_the_headers_keep_the_stream_flowing() -> None:
    """Nothing between server and browser may hold the stream back or keep it."""
    assert STREAM_HEADERS["Content-Type"].startswith("text/event-stream")
    assert STREAM_HEADERS["Cache-Control"] == "no-cache, no-transform"
    assert STREAM_HEADERS["X-Accel-Buffering"] == "no"


def test_a_conversation_s_tag_does_not_give_its_id_away() -> None:
    """The page sees a digest."""
    assert "session" not in conversation_tag("session-1")
    assert conversation_tag("session-1") == conversation_tag("session-1")
    assert conversation_tag("session-1") != conversation_tag("session-2")
