"""Garbage from the server: the reader survives, and the next good event arrives.

Where only JSON is wrong, the connection stays; where the WebSocket layer is, it is made
again. Either way the user hears of it, and what was good comes through.
"""

from __future__ import annotations

import json
import os
import random
import select
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from polysync import Client, ConnectionStatus, ProtocolError
from polysync.events import LanguageChanged, PolyAgentMessage, UnknownEvent
from polysync.protocol import inbound
from polysync.sandbox import Moment
from tests.clients import PATIENCE, Task, eventually, talking
from tests.peers import BINARY, CLOSE, CONT, PING, PONG, TEXT, Conn, Head, frame
from tests.wire.scripted import (
    START,
    api,
    client_of_peer,
    echo,
    event,
    greet,
    replay,
)

GOOD = json.dumps(event("LANGUAGE_CHANGED", 4, language_code="fr")).encode()


@pytest.fixture(autouse=True)
def quick_to_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound, "SETTLE_WAITS", (0.5, 0.2, 0.01))
    monkeypatch.setattr(inbound, "GAP_WAIT", 0.01)


def after_greeting(*frames: bytes, good: bytes = GOOD) -> Callable[[Conn, Head], None]:
    """Return a behaviour: greet, send these bytes, then one good event."""

    def behave(conn: Conn, head: Head) -> None:
        greet(conn, head)
        for data in frames:
            conn.write(data)
        conn.write(frame(TEXT, good))
        echo(conn)

    return behave


def connected(peer: Any, recorder: Any) -> Client:
    """Return a client that is connected and tells its errors to the recorder."""
    client = client_of_peer(peer)
    client.on_error(recorder)
    return client.connect()


# Test texts that are no events.

NO_EVENTS = {
    "nothing": b"",
    "spaces": b" \n\t ",
    "no JSON": b"{not JSON",
    "half": b'{"type": "EVENT_TYPE_POLY_AGENT_MESSAGE", "payload": {"te',
    "two": b"{}{}",
    "null": b"null",
    "a number": b"42",
    "a string": b'"EVENT_TYPE_HEARTBEAT"',
    "a list": b"[1, 2, 3]",
    "an empty object": b"{}",
    "NaN": b"NaN",
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep and closed": b"[" * 5_000 + b"]" * 5_000,
    "deep inside": b'{"type": "EVENT_TYPE_POLY_AGENT_MESSAGE", "payload": {"a": '
    + b"[" * 5_000
    + b"]" * 5_000
    + b"}}",
    "a huge number": b"9" * 10_000,
    "not UTF-8": b'{"type": "\xff\xfe"}',
    "cut UTF-8": '{"type": "ä'.encode()[:-1],
    "a byte order mark": b'\xef\xbb\xbf{"type": 1}',
    "no text for a type": b'{"type": 5, "payload": {}}',
    "a list for a type": b'{"type": [], "payload": {}}',
    "a list for a payload": b'{"type": "EVENT_TYPE_POLY_AGENT_MESSAGE", "payload": []}',
    "a batch of nothing": b'{"type": "EVENT_TYPE_EVENT_BATCH", "payload": {}}',
    "a batch of a number": b'{"type": "EVENT_TYPE_EVENT_BATCH", "payload": {"events": 5}}',  # noqa: E501
    "a batch of numbers": b'{"type": "EVENT_TYPE_EVENT_BATCH", "payload": {"events": [1, null, "a", []]}}',  # noqa: E501
    "a portal": b"<!DOCTYPE html><html><body>Welcome to the hotel</body></html>",
    "zeros": b"\x00" * 100,
}


@pytest.mark.parametrize("kind", [TEXT, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("name", NO_EVENTS)
def test_what_is_no_event_is_passed_over(name: str, kind: int, recorder: Any) -> None:
    with api(after_greeting(frame(kind, NO_EVENTS[name]))) as peer:
        client = connected(peer, recorder)
        eventually(lambda: client.language == "fr")
        assert client.send_message("one").text == "one"
        assert client.status is ConnectionStatus.OPEN
        client.close()
        assert sum("/ws" in head.path for head in peer.requests) == 1
        assert all(isinstance(error, ProtocolError) for error in recorder.items)


@pytest.mark.parametrize("name", ["no JSON", "not UTF-8", "null", "deep lists"])
def test_what_is_no_event_is_reported(name: str, recorder: Any) -> None:
    with api(after_greeting(frame(TEXT, NO_EVENTS[name]))) as peer:
        client = connected(peer, recorder)
        (error,) = recorder.wait_for(1)
        assert isinstance(error, ProtocolError)
        assert "bad frame" in str(error)
        client.close()


# Test events that are odd.

ODD: list[dict[str, Any]] = [
    {"id": 5},
    {"id": None},
    {"id": {}},
    {"timestamp": "yesterday"},
    {"timestamp": 1e300},
    {"timestamp": None},
    {"metadata": []},
    {"metadata": {"custom": {"a": 1, "b": None}}},
    {"metadata": {"custom": []}},
    {"payload": {"message_id": 7, "text": "odd", "attachments": "none"}},
    {"payload": {"message_id": "m", "text": "odd", "attachments": [1, None, {}]}},
    {"payload": {"message_id": "m", "text": "odd", "response_suggestions": {}}},
    {"payload": {"message_id": "m", "text": "odd", "end_conversation": "no"}},
    {"payload": {"message_id": "m", "text": "odd", "extra": {"a": [1, {"b": 2}]}}},
]


@pytest.mark.parametrize("changes", ODD, ids=range(len(ODD)))
def test_an_odd_message_is_still_a_message(
    changes: dict[str, Any], recorder: Any
) -> None:
    plain = event("POLY_AGENT_MESSAGE", 4, message_id="m", text="odd")
    good = json.dumps(event("LANGUAGE_CHANGED", 5, language_code="fr")).encode()
    data = frame(TEXT, json.dumps({**plain, **changes}).encode())
    with api(after_greeting(data, good=good)) as peer:
        client = connected(peer, recorder)
        client.receive()
        assert client.receive().text == "odd"
        eventually(lambda: client.language == "fr")
        assert not client.ended
        client.close()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (None, ""),
        ("a\ud800b", None),
        ("\udfff", None),
        ("\x00\x1b[31m", "\x00\x1b[31m"),
        ("x" * 5_000_000, "x" * 5_000_000),
        ("😀" * 100_000, "😀" * 100_000),
    ],
    ids=["null", "surrogate", "lone", "control", "5 MB", "astral"],
)
def test_texts_of_all_kinds(text: str | None, shown: str | None) -> None:
    odd = event("POLY_AGENT_MESSAGE", 4, message_id="m", text=text)
    good = json.dumps(event("POLY_AGENT_MESSAGE", 5, message_id="n", text="next"))
    data = frame(TEXT, json.dumps(odd).encode())
    with (
        api(after_greeting(data, good=good.encode())) as peer,
        client_of_peer(peer) as client,
    ):
        client.receive()
        got = client.receive(timeout=PATIENCE).text
        if shown is not None:
            assert got == shown
        assert client.receive().text == "next"
        # And it can be shown, kept and sent again.
        assert str(client.transcript)
        assert repr(client.history)
        if got and len(got) < 1000:
            assert client.send_message(got)


@pytest.mark.parametrize(
    "sequence",
    ["5", 2**31, 2**53 + 1, 2**63 - 2, str(2**63 - 2)],
    ids=str,
)
def test_sequences_of_any_size(sequence: Any) -> None:
    data = event("LANGUAGE_CHANGED", 4, language_code="de")
    data["sequence"] = sequence
    last = event("LANGUAGE_CHANGED", 4, language_code="fr")
    last.update(id="last", sequence=int(sequence) + 1)
    with (
        api(
            after_greeting(
                frame(TEXT, json.dumps(data).encode()), good=json.dumps(last).encode()
            )
        ) as peer,
        client_of_peer(peer) as client,
    ):
        eventually(lambda: client.language == "fr")
        assert [e.sequence for e in client.history][3:5] == [
            int(sequence),
            int(sequence) + 1,
        ]


@pytest.mark.parametrize(
    "sequence",
    [
        '"five"',
        "-5",
        "1.5",
        "true",
        "[]",
        "{}",
        '""',
        "1e400",
        "NaN",
        "9223372036854775808",
        "9" * 10_000,
    ],
    ids=lambda value: value[:8],
)
def test_sequences_that_are_none(sequence: str, recorder: Any) -> None:
    data = json.dumps({**event("LANGUAGE_CHANGED", language_code="de"), "id": "odd"})
    data = data.replace('"sequence": null', f'"sequence": {sequence}')
    assert sequence in data
    with api(after_greeting(frame(TEXT, data.encode()))) as peer:
        client = connected(peer, recorder)
        eventually(lambda: client.language == "fr")
        assert client.send_message("one").text == "one"
        client.close()


def test_duplicate_keys() -> None:
    data = b'{"type": "EVENT_TYPE_SESSION_END", "type": "EVENT_TYPE_BRAND_NEW"}'
    with api(after_greeting(frame(TEXT, data))) as peer, client_of_peer(peer) as client:
        eventually(lambda: client.language == "fr")
        assert not client.ended


def test_one_bad_event_does_not_cost_the_others_of_a_batch(recorder: Any) -> None:
    batch = {
        "type": "EVENT_TYPE_EVENT_BATCH",
        "payload": {
            "events": [
                5,
                event("LANGUAGE_CHANGED", 4, language_code="de"),
                {"type": None},
                event("BRAND_NEW", 5, answer=42),
                [],
                event("LANGUAGE_CHANGED", 6, language_code="it"),
            ]
        },
    }
    good = json.dumps(event("LANGUAGE_CHANGED", 7, language_code="fr")).encode()
    data = frame(TEXT, json.dumps(batch).encode())
    with api(after_greeting(data, good=good)) as peer:
        client = client_of_peer(peer)
        client.on_error(recorder)
        events = client.events(LanguageChanged, UnknownEvent)
        client.connect()
        got = [next(events) for _ in range(4)]
        assert [event.sequence for event in got] == [4, 5, 6, 7]
        assert len(recorder.wait_for(1)) >= 1
        client.close()


def test_a_batch_in_a_batch() -> None:
    inner = {
        "type": "EVENT_TYPE_EVENT_BATCH",
        "payload": {"events": [event("LANGUAGE_CHANGED", 4, language_code="de")]},
    }
    outer = {"type": "EVENT_TYPE_EVENT_BATCH", "payload": {"events": [inner]}}
    good = json.dumps(event("LANGUAGE_CHANGED", 5, language_code="fr")).encode()
    with (
        api(after_greeting(frame(TEXT, json.dumps(outer).encode()), good=good)) as peer,
        client_of_peer(peer) as client,
    ):
        eventually(lambda: client.language == "fr")


def test_a_history_of_garbage(recorder: Any) -> None:
    """The session begins all the same, where anything of it can be read."""

    def behave(conn: Conn, head: Head) -> None:
        conn.upgrade(head)
        for data in (b"<html>", b"{", b"\xff", b"null"):
            conn.write(frame(TEXT, data))
        replay(
            conn,
            START,
            {"type": "EVENT_TYPE_POLY_AGENT_JOINED", "payload": 5},
            event("POLY_AGENT_JOINED", 2, agent_name="Ana"),
            event("POLY_AGENT_MESSAGE", 3, message_id="greeting", text="Hello!"),
        )
        echo(conn)

    with api(behave) as peer:
        client = connected(peer, recorder)
        assert client.greeting is not None
        assert client.greeting.text == "Hello!"
        assert recorder.wait_for(4)
        client.close()


def test_a_stream_of_garbage_does_not_hold_up_what_is_good(recorder: Any) -> None:
    chance = random.Random(1)
    noise = [
        frame(TEXT if chance.random() < 0.5 else BINARY, chance.randbytes(200))
        for _ in range(500)
    ]
    with api(after_greeting(*noise)) as peer:
        client = connected(peer, recorder)
        eventually(lambda: client.language == "fr")
        assert client.status is ConnectionStatus.OPEN
        client.close()


@pytest.mark.parametrize("seed", range(10))
def test_damaged_events(seed: int, recorder: Any) -> None:
    """Bytes of good events are changed, dropped and doubled by chance."""
    chance = random.Random(seed)

    def damaged(data: bytes) -> bytes:
        data = bytearray(data)  # type: ignore[assignment]
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(data))
            what = chance.random()
            if what < 0.4:
                data[at] = chance.randrange(256)  # type: ignore[index]
            elif what < 0.7:
                del data[at]  # type: ignore[attr-defined]
            else:
                data[at:at] = data[max(0, at - 20) : at]  # type: ignore[index]
        return bytes(data)

    plain = [
        json.dumps(event("POLY_AGENT_MESSAGE", None, message_id=f"m{n}", text="odd"))
        for n in range(100)
    ]
    noise = [frame(TEXT, damaged(text.encode())) for text in plain]
    with api(after_greeting(*noise)) as peer:
        client = connected(peer, recorder)
        eventually(lambda: client.language == "fr")
        assert client.send_message("one").text == "one"
        client.close()


# Test frames.


def fragments(payload: bytes, size: int, kind: int = TEXT) -> Iterator[bytes]:
    """Cut a message into frames."""
    parts = [payload[at : at + size] for at in range(0, len(payload), size)]
    for number, part in enumerate(parts):
        yield frame(CONT if number else kind, part, fin=number == len(parts) - 1)


@pytest.mark.parametrize("size", [1, 7, 50])
@pytest.mark.parametrize("kind", [TEXT, BINARY])
def test_fragments_are_put_together(size: int, kind: int) -> None:
    data = json.dumps(event("POLY_AGENT_MESSAGE", 4, message_id="m", text="äöü😀"))
    good = json.dumps(event("LANGUAGE_CHANGED", 5, language_code="fr")).encode()
    parts = list(fragments(data.encode(), size, kind))
    with (
        api(after_greeting(*parts, good=good)) as peer,
        client_of_peer(peer) as client,
    ):
        client.receive()
        assert client.receive().text == "äöü😀"
        eventually(lambda: client.language == "fr")


def test_control_frames_may_come_between_fragments() -> None:
    parts = []
    for part in fragments(GOOD, 5):
        parts += [part, frame(PING, b"are you there?"), frame(PONG, b"unasked")]
    last = json.dumps(event("LANGUAGE_CHANGED", 5, language_code="de")).encode()
    with (
        api(after_greeting(*parts[:-2], good=last)) as peer,
        client_of_peer(peer) as client,
    ):
        eventually(lambda: client.language == "de")
        assert len(client.history) == 5


def test_a_binary_frame_that_holds_json_is_read(recorder: Any) -> None:
    data = json.dumps(event("POLY_AGENT_MESSAGE", 4, message_id="m", text="binary"))
    good = json.dumps(event("LANGUAGE_CHANGED", 5, language_code="fr")).encode()
    with api(after_greeting(frame(BINARY, data.encode()), good=good)) as peer:
        client = connected(peer, recorder)
        client.receive()
        assert client.receive().text == "binary"
        client.close()
        assert recorder.items == []


def masked(payload: bytes) -> bytes:
    key = os.urandom(4)
    return (
        bytes((0x81, 0x80 | len(payload)))
        + key
        + bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    )


VIOLATIONS = {
    "compressed, which was not agreed on": b"\xc1" + frame(TEXT, b"{}")[1:],
    "reserved bit 2": b"\xa1" + frame(TEXT, b"{}")[1:],
    "reserved bit 3": b"\x91" + frame(TEXT, b"{}")[1:],
    "reserved kind": b"\x83" + frame(TEXT, b"{}")[1:],
    "reserved control": b"\x8b" + frame(TEXT, b"{}")[1:],
    "a continuation of nothing": frame(CONT, b"{}"),
    "a message in a message": frame(TEXT, b"{", fin=False) + frame(TEXT, b"{}"),
    "a fragmented ping": frame(PING, b"a", fin=False),
    "a long ping": b"\x89\x7e" + struct.pack("!H", 200) + b"x" * 200,
    "a fragmented close": frame(CLOSE, b"", fin=False),
    "a close of one byte": frame(CLOSE, b"\x03"),
    "a close with a code that is none": frame(CLOSE, struct.pack("!H", 999)),
    "a close that is not UTF-8": frame(CLOSE, struct.pack("!H", 1011) + b"\xff\xfe"),
    "all bits": b"\xff" * 64,
    "HTTP": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100,
    "a frame of 2^63 bytes": b"\x81\x7f" + struct.pack("!Q", 2**63),
    "a frame of 2^62 bytes": b"\x81\x7f" + struct.pack("!Q", 2**62),
    "a message of 65 MB": b"\x81\x7f" + struct.pack("!Q", 65 << 20) + b" " * 1000,
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_connection_that_violates_the_protocol_is_made_again(name: str) -> None:
    """None of it costs an event, and none of it is memory for what never comes."""

    def behave(conn: Conn, head: Head) -> None:
        greet(conn, head)
        conn.write(VIOLATIONS[name])
        conn.wait_closed()

    def second(conn: Conn, head: Head) -> None:
        assert "cursor=3" in head.path
        conn.upgrade(head)
        replay(conn, event("LANGUAGE_CHANGED", 4, language_code="fr"))
        echo(conn)

    with api(behave, second) as peer, client_of_peer(peer) as client:
        eventually(lambda: client.language == "fr")
        assert client.send_message("one").text == "one"
        assert client.status is ConnectionStatus.OPEN


def test_masked_frames_are_refused_or_read() -> None:
    """A server must not mask. Either way the next good event arrives."""

    def second(conn: Conn, head: Head) -> None:
        conn.upgrade(head)
        replay(conn, json.loads(GOOD))
        echo(conn)

    first = after_greeting(masked(b'{"type": "EVENT_TYPE_BRAND_NEW"}'))
    with api(first, second) as peer, client_of_peer(peer) as client:
        eventually(lambda: client.language == "fr")


def test_pings_are_answered() -> None:
    answers: list[bytes] = []

    def behave(conn: Conn, head: Head) -> None:
        greet(conn, head)
        for payload in (b"", b"one", b"x" * 125):
            conn.write_frame(PING, payload)
            while (got := conn.read_frame()).opcode != PONG:
                pass
            answers.append(got.payload)
        conn.write(frame(TEXT, GOOD))
        echo(conn)

    with api(behave) as peer, client_of_peer(peer) as client:
        eventually(lambda: client.language == "fr")
        assert answers == [b"", b"one", b"x" * 125]


def test_frames_may_come_byte_by_byte() -> None:
    def behave(conn: Conn, head: Head) -> None:
        greet(conn, head)
        for byte in frame(TEXT, GOOD):
            conn.write(bytes([byte]))
        echo(conn)

    with api(behave) as peer, client_of_peer(peer) as client:
        eventually(lambda: client.language == "fr")


def test_many_frames_may_come_at_once() -> None:
    def behave(conn: Conn, head: Head) -> None:
        greet(conn, head)
        conn.write(
            b"".join(
                frame(
                    TEXT,
                    json.dumps(
                        event("POLY_AGENT_MESSAGE", n, message_id=f"m{n}", text=str(n))
                    ).encode(),
                )
                for n in range(4, 1004)
            )
        )
        echo(conn)

    with api(behave) as peer, client_of_peer(peer) as client:
        client.receive()
        got = [client.receive().text for _ in range(1000)]
        assert got == [str(n) for n in range(4, 1004)]


def test_a_server_that_floods_does_not_keep_calls_waiting() -> None:
    stop = []

    def behave(conn: Conn, head: Head) -> None:
        greet(conn, head)
        noise = frame(TEXT, json.dumps(event("BRAND_NEW")).encode()) * 50
        while not stop:
            conn.write(noise)
            if select.select([conn.sock], [], [], 0)[0]:
                sent = json.loads(conn.read_message().payload)
                conn.write_text(json.dumps({**event("X", 4), **sent, "id": "e"}))
                stop.append(True)
        echo(conn)

    with api(behave) as peer, client_of_peer(peer) as client:
        assert client.send_message("one").text == "one"


# Test lies in what is well formed.


def test_echoes_of_what_nobody_sent() -> None:
    with talking() as (sandbox, client):
        sandbox.session.push("USER_MESSAGE", {"text": "from elsewhere"})
        assert client.send_message("one").text == "one"
        assert [i.text for i in client.transcript][1:] == ["from elsewhere", "one"]


def test_chunks_without_an_end_then_another_message() -> None:
    with talking() as (sandbox, client):
        client.receive()
        for index in (1, 2, 5, 1_000_000):
            sandbox.session.push(
                "POLY_AGENT_MESSAGE_CHUNK",
                {"message_id": "m", "text": "x", "chunk_index": index},
            )
        sandbox.session.say("whole")
        assert client.receive().text == "whole"
        client.end_session()
        partial = client.receive()
        assert isinstance(partial, PolyAgentMessage)
        assert not partial.complete


@pytest.mark.parametrize("index", [0, -1, None, "2", 1.5, 2**70])
def test_odd_chunk_indexes(index: Any) -> None:
    with talking() as (sandbox, client):
        client.receive()
        sandbox.session.push(
            "POLY_AGENT_MESSAGE_CHUNK",
            {
                "message_id": "m",
                "text": "x",
                "chunk_index": index,
                "is_complete": True,
            },
        )
        sandbox.session.say("whole")
        texts = [client.receive().text for _ in range(1)]
        if texts != ["whole"]:
            texts.append(client.receive().text)
        assert texts[-1] == "whole"


def test_a_heartbeat_nobody_sent() -> None:
    with talking() as (sandbox, client):
        for _ in range(5):
            sandbox.session.push("HEARTBEAT")
        assert client.send_message("one").text == "one"


def test_events_after_the_end_are_not_told(recorder: Any) -> None:
    def behave(conn: Conn, head: Head) -> None:
        greet(conn, head)
        conn.read_message()
        end = event("SESSION_END", 4, reason="REASON_NATURAL_END")
        late = event("POLY_AGENT_MESSAGE", 5, message_id="m", text="late")
        conn.write(b"".join(frame(TEXT, json.dumps(e).encode()) for e in (end, late)))
        conn.wait_closed()

    with api(behave) as peer:
        client = client_of_peer(peer)
        client.on_event(recorder)
        client.connect()
        client.submit_message("one")
        eventually(lambda: client.ended)
        client.close()
        assert recorder.items[-1].type == "EVENT_TYPE_SESSION_END"


def test_a_second_start_of_the_session() -> None:
    with talking() as (sandbox, client):
        sandbox.session.push("SESSION_START", {"capabilities": {"streaming": None}})
        assert client.send_message("one").text == "one"
        assert client.status is ConnectionStatus.OPEN


@pytest.mark.parametrize(
    "capabilities",
    [
        None,
        5,
        [],
        {},
        {"heartbeat_interval_seconds": "often"},
        {"heartbeat_interval_seconds": -5},
        {"heartbeat_interval_seconds": 1e300},
        {"max_message_size_bytes": -1},
        {"max_message_size_bytes": "big"},
        {"max_reconnect_attempts": -3},
        {"max_reconnect_attempts": 1.5},
    ],
    ids=str,
)
def test_odd_capabilities_are_as_good_as_none(capabilities: Any) -> None:
    def behave(conn: Conn, head: Head) -> None:
        conn.upgrade(head)
        replay(
            conn,
            {**START, "payload": {"capabilities": capabilities}},
            event("POLY_AGENT_JOINED", 2, agent_name="Ana"),
            event("POLY_AGENT_MESSAGE", 3, message_id="greeting", text="Hello!"),
        )
        echo(conn)

    with api(behave) as peer, client_of_peer(peer) as client:
        assert client.send_message("x" * 100_000).text
        with pytest.raises(ValueError, match="131,072"):
            client.send_message("x" * 140_000)


def test_garbage_while_a_call_waits(recorder: Any) -> None:
    with talking() as (sandbox, client):
        client.on_error(recorder)
        sandbox.faults.garbage("{", moment=Moment.SENT, type="USER_MESSAGE", times=1)
        task = Task(client.ask, "one")
        sandbox.wait_until(lambda: sandbox.session.user_messages)
        sandbox.session.say("answer")
        assert task.result().text == "answer"
        assert isinstance(recorder.wait_for(1)[0], ProtocolError)
