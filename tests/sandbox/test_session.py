"""A conversation on the wire: history, echoes, refusals, ends."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest
import websocket

from polysync.sandbox import EchoAgent, Sandbox
from tests.sandbox.bare import Bare, text, types


def let_time_pass(sandbox: Sandbox, seconds: float) -> None:
    """Put the clock of a sandbox forward, and have it see to what is due."""
    loop = sandbox._context.running_loop()
    time = loop.time

    def jump() -> None:
        loop.time = lambda: time() + seconds  # type: ignore[method-assign]

    loop.call_soon_threadsafe(jump)


def stop_time(sandbox: Sandbox) -> None:
    """Have the clock of a sandbox stand still."""
    loop = sandbox._context.running_loop()
    now = loop.time()
    loop.time = lambda: now  # type: ignore[method-assign]


def test_the_history_begins_with_the_session(bare: Bare) -> None:
    bare.connect()
    (start,) = bare.replay()

    assert start["type"] == "EVENT_TYPE_SESSION_START"
    assert start["sequence"] == 1
    assert start["payload"] == {
        "context_id": bare.session.context_id,
        "capabilities": {
            "streaming": True,
            "max_message_size_bytes": 131072,
            "max_reconnect_attempts": 10,
            "heartbeat_interval_seconds": 30,
        },
    }


def test_capabilities_can_be_left_out() -> None:
    with Sandbox(announce_capabilities=False) as sandbox, Bare(sandbox) as bare:
        assert "capabilities" not in bare.session.events[0]["payload"]
    with Sandbox(max_reconnect_attempts=None) as sandbox, Bare(sandbox) as bare:
        capabilities = bare.session.events[0]["payload"]["capabilities"]
        assert "max_reconnect_attempts" not in capabilities


def test_joining_brings_the_agent_and_its_greeting(bare: Bare) -> None:
    bare.connect()
    bare.replay()
    bare.send("REQUEST_POLY_AGENT_JOIN", custom={"a": "b"})
    events = bare.reply()

    assert types(events)[:3] == [
        "REQUEST_POLY_AGENT_JOIN",
        "POLY_AGENT_JOINED",
        "POLY_AGENT_THINKING",
    ]
    assert events[0]["metadata"] == {"custom": {"a": "b"}}
    assert events[1]["payload"]["agent_name"] == "Echo"
    assert text(events) == "Hello! How can I help you today?"


def test_a_second_request_to_join_is_only_echoed(joined: Bare) -> None:
    joined.send("REQUEST_POLY_AGENT_JOIN")
    joined.send("HEARTBEAT")

    assert types(joined.until("HEARTBEAT")) == ["REQUEST_POLY_AGENT_JOIN", "HEARTBEAT"]


def test_an_echo_repeats_the_message_with_an_id(joined: Bare) -> None:
    echo, thinking, *chunks = joined.say("one two", {"local_id": "x"})

    assert echo["payload"]["text"] == "one two"
    assert echo["metadata"] == {"custom": {"local_id": "x"}}
    assert thinking["type"] == "EVENT_TYPE_POLY_AGENT_THINKING"
    assert text(chunks) == "one two"
    (message,) = joined.session.user_messages
    assert (message.text, message.message_id, message.metadata) == (
        "one two",
        echo["payload"]["message_id"],
        {"local_id": "x"},
    )


def test_chunks_are_numbered_from_one_and_the_last_says_so(joined: Bare) -> None:
    chunks = [event["payload"] for event in joined.say("one  two three")[2:]]

    assert [chunk["chunk_index"] for chunk in chunks] == [1, 2, 3]
    assert [chunk["is_complete"] for chunk in chunks] == [False, False, True]
    assert len({chunk["message_id"] for chunk in chunks}) == 1


def test_without_streaming_a_reply_is_one_message(sandbox: Sandbox) -> None:
    with Bare(sandbox, streaming=False, join=True) as bare:
        echo, _, message = bare.say("one two")

    assert message["type"] == "EVENT_TYPE_POLY_AGENT_MESSAGE"
    assert message["payload"]["text"] == "one two"
    assert message["payload"]["end_conversation"] is False


def test_sequences_have_no_gaps_and_transient_events_have_none(joined: Bare) -> None:
    joined.send("HEARTBEAT", custom={"n": "1"})
    heartbeat = joined.receive()
    joined.say("hello")
    sequences = [event["sequence"] for event in joined.session.events]

    assert heartbeat["sequence"] is None
    assert heartbeat["metadata"] == {"custom": {"n": "1"}}
    assert sequences == list(range(1, len(sequences) + 1))


def test_a_cursor_spares_what_was_seen(joined: Bare) -> None:
    joined.say("hello")
    last = joined.session.events[-1]["sequence"]
    joined.connect(cursor=last - 2)
    assert [event["sequence"] for event in joined.replay()] == [last - 1, last]
    joined.connect(cursor=last)
    assert joined.replay() == []


@pytest.mark.parametrize("cursor", ["x", "-1", "999", "1.5", "9" * 6000, "٣"])
def test_an_invalid_cursor_replays_everything(joined: Bare, cursor: str) -> None:
    joined.connect(cursor=cursor)

    assert joined.replay() == joined.session.events


def test_the_replay_comes_in_batches() -> None:
    with Sandbox(EchoAgent, batch_size=2) as sandbox, Bare(sandbox, join=True) as bare:
        bare.connect()
        first, second = bare.replay(), bare.replay()

    assert types(first) == ["SESSION_START", "REQUEST_POLY_AGENT_JOIN"]
    assert types(second) == ["POLY_AGENT_JOINED", "POLY_AGENT_THINKING"]


def test_the_empty_batch_can_be_left_out() -> None:
    with Sandbox(EchoAgent, empty_batch=False) as sandbox, Bare(sandbox) as bare:
        bare.connect(cursor=1)
        bare.send("HEARTBEAT")
        assert bare.receive()["type"] == "EVENT_TYPE_HEARTBEAT"


def test_every_connection_gets_every_event_but_other_heartbeats(joined: Bare) -> None:
    first = joined.ws
    second = joined.connect()
    joined.replay()
    joined.send("HEARTBEAT")
    joined.say("hello")
    joined.ws = first

    assert types(joined.reply()) == [
        "USER_MESSAGE",
        "POLY_AGENT_THINKING",
        "POLY_AGENT_MESSAGE_CHUNK",
    ]
    assert second.connected
    assert joined.session.connection_total == 2


def test_a_message_without_an_agent_finds_no_conversation(bare: Bare) -> None:
    bare.connect()
    bare.replay()
    bare.send("USER_MESSAGE", {"text": "hello"}, {"local_id": "x"})
    event = bare.receive()

    assert event["payload"] == {
        "level": "SYSTEM_MESSAGE_LEVEL_ERROR",
        "message": "Error: Conversation not found",
    }
    assert event["metadata"] == {"custom": {"local_id": "x"}}
    assert bare.session.user_messages == []


def test_an_agent_that_was_lost_can_be_asked_again(joined: Bare) -> None:
    joined.session.lose_agent()
    joined.send("USER_MESSAGE", {"text": "hello"})
    assert types([joined.receive()]) == ["SYSTEM_MESSAGE"]
    joined.send("REQUEST_POLY_AGENT_JOIN")

    assert "POLY_AGENT_JOINED" in types(joined.reply())


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ("{", "Unknown event type or invalid message format"),
        ("[1, 2]", "Unknown event type or invalid message format"),
        ("NaN", "Unknown event type or invalid message format"),
        ("[" * 100_000, "Unknown event type or invalid message format"),
        ('{"type": 1}', "Unknown event type or invalid message format"),
        (
            '{"type": "EVENT_TYPE_NEW", "payload": {}}',
            "Unknown event type or invalid message format",
        ),
        (
            '{"type": "EVENT_TYPE_USER_MESSAGE", "payload": {"text": 1}}',
            "Unknown event type or invalid message format",
        ),
        (
            '{"type": "EVENT_TYPE_USER_TYPING", "payload": {"state": "on"}}',
            "Unknown event type or invalid message format",
        ),
        (
            '{"type": "EVENT_TYPE_HEARTBEAT", "payload": {}, "id": "1"}',
            "Unknown event type or invalid message format",
        ),
        (
            '{"type": "EVENT_TYPE_HEARTBEAT", "payload": {}, '
            '"metadata": {"custom": {"a": 1}}}',
            "Unknown event type or invalid message format",
        ),
        (
            '{"type": "EVENT_TYPE_SESSION_END", "payload": {}}',
            "Event type not allowed: EVENT_TYPE_SESSION_END",
        ),
    ],
)
def test_what_a_client_must_not_send_is_refused(
    bare: Bare, frame: str, message: str
) -> None:
    bare.connect()
    bare.replay()
    # Cut, so that only its content can be refused.
    for at in range(0, len(frame), 30_000):
        bare.ws.send_frame(
            websocket.ABNF.create_frame(
                frame[at : at + 30_000],
                websocket.ABNF.OPCODE_CONT if at else websocket.ABNF.OPCODE_TEXT,
                fin=at + 30_000 >= len(frame),
            )
        )
    event = bare.receive()

    assert event["payload"]["message"] == message
    assert event["payload"]["level"] == "SYSTEM_MESSAGE_LEVEL_ERROR"
    bare.send("HEARTBEAT")
    assert types([bare.receive()]) == ["HEARTBEAT"]


def test_a_refusal_carries_the_clients_metadata(bare: Bare) -> None:
    bare.connect()
    bare.replay()
    bare.send("NONSENSE", custom={"local_id": "x"})

    assert bare.receive()["metadata"] == {"custom": {"local_id": "x"}}


def test_a_binary_frame_is_refused_and_recorded(sandbox: Sandbox, bare: Bare) -> None:
    bare.connect()
    bare.replay()
    bare.ws.send_binary(b'{"type": "EVENT_TYPE_HEARTBEAT", "payload": {}}')

    assert types([bare.receive()]) == ["SYSTEM_MESSAGE"]
    (frame,) = sandbox.received.frames
    assert isinstance(frame.data, bytes)
    assert frame.event is None


def test_half_a_surrogate_pair_survives_the_echo(joined: Bare) -> None:
    joined.ws.send(
        r'{"type": "EVENT_TYPE_USER_MESSAGE", "payload": {"text": "\ud83d ü"}}'
    )

    assert joined.receive()["payload"]["text"] == "\ud83d ü"


def test_typing_is_noted_and_not_echoed(sandbox: Sandbox, joined: Bare) -> None:
    joined.send("USER_TYPING", {"state": "TYPING_STATE_STARTED"})
    sandbox.wait_until(lambda: joined.session.user_is_typing)
    joined.send("USER_TYPING", {"state": "TYPING_STATE_STOPPED"})
    sandbox.wait_until(lambda: not joined.session.user_is_typing)
    joined.send("HEARTBEAT")

    assert types([joined.receive()]) == ["HEARTBEAT"]
    assert len(sandbox.received.events("USER_TYPING")) == 2


def test_the_user_ends_the_session(joined: Bare) -> None:
    joined.send("USER_END_SESSION", custom={"a": "b"})
    echo, end = joined.until("SESSION_END")

    assert echo["metadata"] == {"custom": {"a": "b"}}
    assert end["payload"] == {"reason": "REASON_USER_END"}
    assert joined.close_code() == 1000
    assert joined.session.ended
    assert joined.session.end_reason == "REASON_USER_END"


def test_an_ended_session_is_replayed_and_closed(joined: Bare) -> None:
    joined.session.end()
    joined.connect()

    assert types(joined.replay())[-1] == "SESSION_END"
    assert joined.close_code() == 1000


def test_a_silent_client_is_abandoned() -> None:
    with (
        Sandbox(EchoAgent, idle_timeout=3600, idle_warning=1800) as sandbox,
        Bare(sandbox) as bare,
    ):
        bare.connect()
        bare.replay()
        let_time_pass(sandbox, 1800)
        warning = bare.receive()
        let_time_pass(sandbox, 1800)
        end = bare.receive()
        assert bare.close_code() == 1000

    assert types([warning, end]) == ["SESSION_IDLE_WARNING", "SESSION_END"]
    assert warning["sequence"] is None
    assert end["payload"] == {"reason": "REASON_USER_ABANDONED"}


def test_a_session_can_be_pushed_to_from_any_thread(joined: Bare) -> None:
    pushed = []

    def push() -> None:
        pushed.append(joined.session.push("LANGUAGE_CHANGED", {"language_code": "es"}))

    thread = threading.Thread(target=push)
    thread.start()
    thread.join(5)

    assert joined.receive() == pushed[0] == joined.session.events[-1]


def test_unknown_and_transient_events_can_be_pushed(joined: Bare) -> None:
    event = joined.session.push("BRAND_NEW", {"x": 1}, transient=True)

    assert joined.receive() == event
    assert event["sequence"] is None
    assert event not in joined.session.events


def test_the_agent_can_speak_unasked(joined: Bare) -> None:
    joined.session.say("Are you still there?")

    assert text([joined.receive()]) == "Are you still there?"


@pytest.mark.parametrize("reset", [True, False])
def test_a_dropped_connection_is_not_an_ended_session(
    sandbox: Sandbox, joined: Bare, reset: bool
) -> None:
    joined.session.drop(reset=reset)

    assert joined.lost()
    sandbox.wait_until(lambda: joined.session.connections == 0)
    joined.connect()
    assert types(joined.replay())[0] == "SESSION_START"
    assert not joined.session.ended


def test_a_connection_can_be_closed_with_any_code(joined: Bare) -> None:
    joined.session.close(4003, "try again")

    assert joined.close_code() == 4003


def test_a_forgotten_session_is_closed_and_not_found(joined: Bare) -> None:
    joined.session.forget()

    assert joined.close_code() == 4001
    assert joined.refused() == (404, "session not found")


def test_a_session_whose_token_expired_cannot_be_resumed(joined: Bare) -> None:
    joined.session.expire_token()

    assert joined.refused() == (401, "authentication failed")


def test_a_frozen_connection_answers_nothing_and_stays_open(
    sandbox: Sandbox, joined: Bare
) -> None:
    joined.session.freeze()
    joined.send("HEARTBEAT")
    joined.ws.settimeout(0.05)
    with pytest.raises(websocket.WebSocketTimeoutException):
        joined.ws.recv()

    assert joined.session.connections == 1
    joined.connect()
    assert joined.replay()


def test_a_long_connection_is_closed_as_going_away() -> None:
    with Sandbox(connection_lifetime=0.01) as sandbox, Bare(sandbox) as bare:
        bare.connect()
        assert bare.close_code() == 1001


def big(size: int) -> str:
    event = {"type": "EVENT_TYPE_USER_MESSAGE", "payload": {"text": ""}}
    event["payload"] = {"text": "x" * (size - len(json.dumps(event)))}
    return json.dumps(event)


def send_in_frames(ws: websocket.WebSocket, text: str, size: int) -> None:
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    for number, piece in enumerate(pieces, start=1):
        opcode = websocket.ABNF.OPCODE_CONT if number > 1 else 1
        fin = number == len(pieces)
        ws.send_frame(websocket.ABNF.create_frame(piece, opcode, fin))


def test_a_message_of_just_the_limit_is_taken(sandbox: Sandbox, joined: Bare) -> None:
    send_in_frames(joined.ws, big(131_072), 32_768)

    assert types([joined.receive()]) == ["USER_MESSAGE"]
    assert sandbox.received.frames[-1].fragments == 4


@pytest.mark.parametrize(
    "send",
    [
        lambda ws: send_in_frames(ws, big(131_073), 32_768),
        lambda ws: ws.send(big(32_769)),
    ],
    ids=["message", "frame"],
)
def test_what_is_too_large_closes_the_connection(
    joined: Bare, send: Callable[[websocket.WebSocket], None]
) -> None:
    send(joined.ws)

    assert joined.close_code() == 1009


def test_messages_over_the_rate_vanish_silently() -> None:
    with Sandbox(EchoAgent, message_rate=2) as sandbox, Bare(sandbox) as bare:
        bare.connect()
        bare.replay()
        stop_time(sandbox)
        for number in "123":
            bare.send("HEARTBEAT", custom={"n": number})
        sandbox.wait_until(lambda: len(sandbox.received.frames) == 3)
        seen = [bare.receive()["metadata"]["custom"]["n"] for _ in range(2)]
        bare.ws.settimeout(0.05)
        with pytest.raises(websocket.WebSocketTimeoutException):
            bare.receive()

    assert seen == ["1", "2"]
