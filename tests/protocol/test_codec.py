"""Tests of `polysync.protocol.codec`, and of the readers and functions behind it."""

from __future__ import annotations

import copy
import json
import logging
import math
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polysync import events as ev
from polysync.events import EVENT_TYPES, Event, PolyAgentMessage, UnknownEvent
from polysync.models import (
    Agent,
    Attachment,
    AttachmentContentType,
    Capabilities,
    ChatCallAction,
    HandoffReason,
    ResponseSuggestion,
    SessionEndReason,
    SystemMessageLevel,
    TypingState,
)
from polysync.protocol import codec
from polysync.protocol.codec import converter, decode, encode
from tests.protocol.parsed import parse

LOGGER = "polysync.protocol.codec"
WHEN = datetime(2026, 8, 14, 9, 26, 53, 589000, tzinfo=timezone.utc)


def use_json(name, patch):
    if name == "orjson":
        patch.setattr(codec, "_loads", pytest.importorskip("orjson").loads)
    else:
        patch.setattr(codec, "_loads", codec._loads_plain)


@pytest.fixture(params=["json", "orjson"], autouse=True)
def _json(request, monkeypatch):
    """Run every test with each of the two JSON parsers."""
    use_json(request.param, monkeypatch)


def wire(name, payload=None, **envelope):
    """Make an event as the server sends it."""
    return {
        "id": "e1",
        "sequence": 7,
        "timestamp": "2026-08-14T09:26:53.589Z",
        "type": f"EVENT_TYPE_{name}",
        "payload": {} if payload is None else payload,
        **envelope,
    }


def batch(*elements):
    return wire("EVENT_BATCH", {"events": list(elements)}, sequence=None)


def read(data):
    return parse(data if isinstance(data, (str, bytes)) else json.dumps(data))


def one(data):
    """Read a frame that holds one event and nothing odd."""
    parsed = read(data)
    assert parsed.problems == []
    [event] = parsed.events
    return event


CARD = {
    "title": "Menu",
    "preview_image_url": "https://cdn.test/menu.png",
    "content_url": "https://x.test/menu",
    "content_type": "ATTACHMENT_CONTENT_TYPE_IMAGE",
    "call_to_action_text": "Look",
}
MESSAGE = {
    "message_id": "m1",
    "text": "Hi",
    "attachments": [CARD],
    "response_suggestions": [{"message_text": "Yes", "payload": {"a": 1}}],
    "chat_call_actions": [{"title": "Call", "contact_number": "+44"}],
    "agent_name": "Maya",
    "avatar_url": "https://x.test/maya.png",
    "end_conversation": True,
}
MESSAGE_FIELDS = {
    **MESSAGE,
    "attachments": (
        Attachment(**{**CARD, "content_type": AttachmentContentType.IMAGE}),
    ),
    "response_suggestions": (ResponseSuggestion("Yes", {"a": 1}),),
    "chat_call_actions": (ChatCallAction("Call", "+44"),),
}
CHUNK = ("message_id", "text", "attachments", "response_suggestions")

#: Type, payload on the wire, and the fields that must come of it.
TYPES = [
    ("SESSION_START", {}, {"capabilities": Capabilities(), "context_id": None}),
    (
        "SESSION_START",
        {
            "capabilities": {
                "streaming": True,
                "max_message_size_bytes": 131072,
                "max_reconnect_attempts": 5,
                "heartbeat_interval_seconds": 12.5,
            },
            "context_id": "c1",
        },
        {"capabilities": Capabilities(True, 131072, 5, 12.5), "context_id": "c1"},
    ),
    (
        "SESSION_END",
        {"reason": "REASON_USER_END"},
        {"reason": SessionEndReason.USER_END},
    ),
    ("SESSION_END", {"reason": "REASON_NEW"}, {"reason": "REASON_NEW"}),
    ("SESSION_IDLE_WARNING", {}, {}),
    ("REQUEST_POLY_AGENT_JOIN", {}, {}),
    (
        "USER_MESSAGE",
        {"text": "A", "message_id": "m"},
        {"text": "A", "message_id": "m"},
    ),
    ("USER_TYPING", {"state": "TYPING_STATE_STOPPED"}, {"state": TypingState.STOPPED}),
    ("USER_END_SESSION", {}, {}),
    ("HEARTBEAT", {}, {}),
    (
        "POLY_AGENT_JOINED",
        {"agent_name": "Maya", "agent_avatar_url": "u"},
        {"agent_name": "Maya", "agent_avatar_url": "u"},
    ),
    ("POLY_AGENT_JOINED", {"avatar_url": "u"}, {"agent_avatar_url": "u"}),
    ("POLY_AGENT_THINKING", {}, {}),
    ("POLY_AGENT_MESSAGE", MESSAGE, MESSAGE_FIELDS),
    ("POLY_AGENT_MESSAGE", {}, {"text": "", "attachments": (), "complete": True}),
    (
        "POLY_AGENT_MESSAGE_CHUNK",
        {**{k: MESSAGE[k] for k in CHUNK}, "chunk_index": 2, "is_complete": True},
        {
            **{k: MESSAGE_FIELDS[k] for k in CHUNK},
            "chunk_index": 2,
            "is_complete": True,
        },
    ),
    ("POLY_AGENT_LEFT", {"reason": "handoff"}, {"reason": "handoff"}),
    ("POLY_AGENT_TRIGGERED_HANDOFF", {}, {}),
    ("HANDOFF_ACCEPTED", {"queue_name": "q"}, {"queue_name": "q"}),
    (
        "HANDOFF_QUEUE_STATUS",
        {
            "queue_name": "q",
            "position_in_queue": 3,
            "estimated_wait_seconds": 90,
            "display_message": "Soon",
        },
        {
            "queue_name": "q",
            "position_in_queue": 3,
            "estimated_wait_seconds": 90,
            "display_message": "Soon",
        },
    ),
    ("HANDOFF_QUEUE_STATUS", {"position": 3}, {"position_in_queue": 3}),
    (
        "CLIENT_HANDOFF_REQUIRED",
        {"reason": "POLICY", "queue_name": "q", "route": "r"},
        {"reason": HandoffReason.POLICY, "queue_name": "q", "route": "r"},
    ),
    ("HANDOFF_FAILED", {"reason": "busy"}, {"reason": "busy"}),
    ("HANDOFF_TIMEOUT", {"reason": "late"}, {"reason": "late"}),
    (
        "LIVE_AGENT_JOINED",
        {"agent": {"id": "7", "name": "Leo", "avatar_url": "u"}},
        {"agent": Agent("7", "Leo", "u")},
    ),
    (
        "LIVE_AGENT_JOINED",
        {"agent_id": "7", "agent_name": "Leo", "avatar_url": "u"},
        {"agent": Agent("7", "Leo", "u")},
    ),
    ("LIVE_AGENT_JOINED", {}, {"agent": Agent()}),
    ("LIVE_AGENT_TYPING", {"agent_id": "7"}, {"state": TypingState.STARTED}),
    (
        "LIVE_AGENT_TYPING",
        {"state": "TYPING_STATE_STOPPED", "agent_name": "Leo"},
        {"state": TypingState.STOPPED, "agent_name": "Leo"},
    ),
    (
        "LIVE_AGENT_MESSAGE",
        {**MESSAGE, "agent_id": "7"},
        {**MESSAGE_FIELDS, "agent_id": "7"},
    ),
    (
        "LIVE_AGENT_LEFT",
        {"agent_id": "7", "agent_name": "Leo", "reason": "done"},
        {"agent_id": "7", "agent_name": "Leo", "reason": "done"},
    ),
    ("LANGUAGE_CHANGED", {"language_code": "en-GB"}, {"language_code": "en-GB"}),
    (
        "SYSTEM_MESSAGE",
        {"level": "SYSTEM_MESSAGE_LEVEL_ERROR", "message": "No"},
        {"level": SystemMessageLevel.ERROR, "message": "No"},
    ),
    ("USER_RECEIVED_MESSAGE", {}, {}),
    ("USER_READ_MESSAGE", {}, {}),
    ("POLY_AGENT_RECEIVED_MESSAGE", {}, {}),
    ("POLY_AGENT_READ_MESSAGE", {}, {}),
    ("LIVE_AGENT_RECEIVED_MESSAGE", {}, {}),
    ("LIVE_AGENT_READ_MESSAGE", {}, {}),
    ("SHOW_CSAT_REQUEST", {}, {}),
    ("CSAT_RESPONSE", {"score": 5}, {"extra": {"score": 5}}),
]
by_type = pytest.mark.parametrize(("name", "payload", "expected"), TYPES)


# Every type


def test_the_table_holds_every_type():
    """A type that is added to the package is added here."""
    names = {f"EVENT_TYPE_{name}" for name, _, _ in TYPES}

    assert names == EVENT_TYPES.keys() - {"EVENT_TYPE_EVENT_BATCH"}


@by_type
def test_the_envelope_and_the_payload_become_fields(name, payload, expected):
    """Each type becomes its class, with everything in it."""
    event = one(wire(name, payload, metadata={"custom": {"local_id": "x"}}))

    assert type(event) is EVENT_TYPES[f"EVENT_TYPE_{name}"]
    assert (event.id, event.sequence, event.timestamp) == ("e1", 7, WHEN)
    assert event.metadata == {"local_id": "x"}
    assert {key: getattr(event, key) for key in expected} == expected
    if "extra" not in expected:
        assert event.extra == {}


@by_type
def test_unknown_fields_are_kept(name, payload, expected):
    """What this version does not know is in `extra`, and only that."""
    event = one(wire(name, {**payload, "brand_new": [1]}))

    assert event.extra == {**expected.get("extra", {}), "brand_new": [1]}


@by_type
def test_what_was_read_can_be_written_and_read_again(name, payload, expected):
    """`encode` is the inverse for all the server sends."""
    event = one(wire(name, payload))
    again = one(converter.unstructure(event))

    assert again == event
    if event.type not in ev.CLIENT_EVENT_TYPES:
        assert one(encode(event)) == event


@by_type
def test_an_event_is_what_its_own_class_would_have_made(name, payload, expected):
    """The quick way of making events leaves no difference."""
    event = one(wire(name, payload))
    values = {f.name: getattr(event, f.name) for f in attrs.fields(type(event))}
    made = type(event)(**values)

    assert made == event
    assert repr(made) == repr(event)
    assert hash(attrs.evolve(event)) == hash(made) if "payload" not in payload else True


@by_type
def test_nulls_are_as_good_as_absent(name, payload, expected):
    """A null is a default, and no problem."""
    event = one(wire(name, dict.fromkeys(payload)))
    plain = one(wire(name, {}))

    if "extra" not in expected:
        assert event == plain


# The shape of a frame


@pytest.mark.parametrize("convert", [str, str.encode, lambda f: bytearray(f.encode())])
def test_text_and_bytes_are_read_alike(convert):
    """A binary frame that holds JSON is read."""
    frame = json.dumps(wire("USER_MESSAGE", {"text": "café 😀"}), ensure_ascii=False)

    assert one(json.loads(frame)).text == parse(convert(frame)).events[0].text


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        ("", "$: not JSON at character 0"),
        (b"", "$: not JSON at character 0"),
        ("{", "$: not JSON"),
        ('{"type":1}x', "$: not JSON"),
        (b'{"type":"\xff"}', "$: not UTF-8 at byte 9"),
        (b'{"type":"\xed\xa0\x80"}', "$: not UTF-8"),
        (b"\x00\x01", "$: not JSON"),
        ("[]", "$: expected an object, got a list"),
        ('"x"', "$: expected an object, got a string"),
        ("1", "$: expected an object, got an integer"),
        ("1.5", "$: expected an object, got a number"),
        ("true", "$: expected an object, got a boolean"),
        ("null", "$: expected an object, got null"),
        ("{}", "$.type: missing"),
        ('{"type":5}', "$.type: expected a string, got an integer"),
        ('{"type":["x"]}', "$.type: expected a string, got a list"),
        ("[" * 100_000, "$: nested too deeply"),
        ('{"a":' * 100_000, "$: nested too deeply"),
        (None, "$: expected text or bytes, got NoneType"),
        (7, "$: expected text or bytes, got int"),
    ],
)
def test_what_is_no_event_is_reported(frame, problem):
    """No frame raises; each that cannot be read is one problem."""
    parsed = parse(frame)

    assert parsed.events == []
    [found] = parsed.problems
    assert found.startswith(problem)


def test_a_byte_order_mark_is_skipped():
    """It is no part of the JSON."""
    frame = "\ufeff" + json.dumps(wire("HEARTBEAT"))

    assert one(frame) == one(frame.encode()) == one(wire("HEARTBEAT"))


def test_white_space_around_the_json_is_no_problem():
    """A server may end its frames with a newline."""
    assert one(f"\n {json.dumps(wire('HEARTBEAT'))} \r\n") == one(wire("HEARTBEAT"))


def test_unknown_types_are_kept():
    """A newer server's event still comes through, with its place in the order."""
    event = one(wire("BRAND_NEW", {"a": {"b": 1}}))

    assert event == UnknownEvent(
        "EVENT_TYPE_BRAND_NEW", {"a": {"b": 1}}, id="e1", sequence=7, timestamp=WHEN
    )
    assert one(encode(event)) == event


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("name", ["POLY_AGENT_MESSAGE", "SESSION_START", "HEARTBEAT"])
def test_the_payload_may_stand_under_a_key_named_after_the_type(name, typed, within):
    """Inside a batch and outside, with the type and without it."""
    data = wire(name, {"new": 1})
    data[name.lower()] = data.pop("payload")
    if not typed:
        del data["type"]
    event = one(batch(data) if within else data)

    assert type(event) is EVENT_TYPES[f"EVENT_TYPE_{name}"]
    assert event.extra == {"new": 1}


def test_two_keys_named_after_types_say_nothing():
    """Without a type, nobody can tell which of the two it is."""
    parsed = read({"heartbeat": {}, "user_message": {}})

    assert (parsed.events, parsed.problems) == ([], ["$.type: missing"])


def test_an_unknown_type_may_have_its_payload_under_its_key_too():
    """The form is that of all types."""
    data = wire("BRAND_NEW")
    data["brand_new"] = {"a": 1}
    data["payload"] = None

    assert one(data).payload == {"a": 1}


@pytest.mark.parametrize("missing", ["id", "sequence", "timestamp", "payload"])
def test_a_part_of_the_envelope_may_be_missing(missing):
    """The event is kept, and nothing is reported."""
    data = wire("HEARTBEAT")
    del data[missing]

    assert type(one(data)) is ev.Heartbeat


# Values that are not as they should be


@pytest.mark.parametrize(
    ("given", "expected"),
    [("a", "a"), (5, "5"), (-5, "-5"), (5.0, "5"), (2**53 + 1, str(2**53 + 1))],
)
def test_a_number_is_an_id_by_its_digits(given, expected):
    """Wherever an identifier can stand."""
    event = one(wire("LIVE_AGENT_JOINED", {"agent": {"id": given}}, id=given))

    assert (event.id, event.agent.id) == (expected, expected)
    message = one(wire("USER_MESSAGE", {"message_id": given}))
    assert message.message_id == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0, 0),
        (2**40, 2**40),
        (2**63 - 1, 2**63 - 1),
        ("12", 12),
        ("9223372036854775807", 2**63 - 1),
        ("-3", -3),
        (-3, -3),
        (12.0, 12),
    ],
)
def test_digits_are_an_integer(given, expected):
    """Protobuf writes 64-bit integers as strings."""
    event = one(
        wire("POLY_AGENT_MESSAGE_CHUNK", {"chunk_index": given}, sequence=given)
    )

    assert (event.sequence, event.chunk_index) == (expected, expected)
    assert type(event.sequence) is int


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ("x", "a string"),
        ("", "a string"),
        ("1.0", "a string"),
        ("١٢", "a string"),
        ("9" * 6000, "a string"),
        (True, "a boolean"),
        (1.5, "a number"),
        (1e300, "a number beyond 64 bits"),
        (2**64 + 1, "a number beyond 64 bits"),
        (2**63, "a number beyond 64 bits"),
        ([], "a list"),
        ({}, "an object"),
        (math.nan, "a number"),
        (math.inf, "a number beyond 64 bits"),
    ],
)
def test_what_is_no_integer_is_left_out(given, got):
    """The rest of the event stays."""
    parsed = read(wire("USER_MESSAGE", {"text": "Hi"}, sequence=given))

    assert parsed.events[0].sequence is None
    assert parsed.events[0].text == "Hi"
    assert parsed.problems == [f"$.sequence: expected an integer, got {got}"]


def test_thousands_of_digits_cost_only_their_field():
    """Python refuses to read them as an integer."""
    frame = json.dumps(wire("USER_MESSAGE", {"text": "Hi"}, sequence=1234567))
    parsed = parse(frame.replace("1234567", "9" * 5000))

    assert parsed.events[0].text == "Hi"
    assert parsed.problems == [
        "$.sequence: expected an integer, got a number beyond 64 bits"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-08-14T09:26:53Z", WHEN.replace(microsecond=0)),
        ("2026-08-14T09:26:53.5Z", WHEN.replace(microsecond=500000)),
        ("2026-08-14T09:26:53.589Z", WHEN),
        ("2026-08-14T09:26:53.589000Z", WHEN),
        ("2026-08-14T09:26:53.589000123Z", WHEN),
        ("2026-08-14T11:26:53.589+02:00", WHEN),
        ("2026-08-14T11:26:53.589+0200", WHEN),
        ("2026-08-14T11:26:53.589+02", WHEN),
        ("2026-08-14T05:56:53.589-03:30", WHEN),
        ("2026-08-14T09:26:53.589", WHEN),
        ("2026-08-14 09:26:53.589z", WHEN),
        ("2026-08-14t09:26:53,589Z", WHEN),
        ("2026-08-14T09:26Z", WHEN.replace(second=0, microsecond=0)),
    ],
)
def test_times_are_read_in_all_their_forms(text, expected):
    """With and without fraction, Z and offset; without a zone it is UTC."""
    event = one(wire("HEARTBEAT", timestamp=text))

    assert event.timestamp == expected
    assert event.timestamp.utcoffset() is not None


def test_the_offset_of_a_time_is_kept():
    """The instant is the same in either zone, but the server's may matter to people."""
    event = one(wire("HEARTBEAT", timestamp="2026-08-14T05:56:53-03:30"))

    assert event.timestamp.utcoffset() == -timedelta(hours=3, minutes=30)


@pytest.mark.parametrize(
    ("odd", "got"),
    [
        ("yesterday", " in ISO 8601, got another string"),
        ("", " in ISO 8601, got another string"),
        ("2026-02-31T00:00:00Z", " in ISO 8601, got another string"),
        ("2026-08-14T09:26:53+25:00", " in ISO 8601, got another string"),
        ("0000-08-14T09:26:53Z", " in ISO 8601, got another string"),
        # Where astimezone() fails: what Go writes for no time, and its opposite.
        ("0001-01-01T00:00:00Z", " in ISO 8601, got another string"),
        ("0001-01-01 00:00,5z", " in ISO 8601, got another string"),
        ("9999-12-31T23:59:59-12:00", " in ISO 8601, got another string"),
        ("\ud800", " in ISO 8601, got another string"),
        (1786699613, ", got an integer"),
        (True, ", got a boolean"),
        ({}, ", got an object"),
    ],
)
def test_an_odd_time_is_left_out(odd, got):
    """The event is kept."""
    parsed = read(wire("HEARTBEAT", timestamp=odd))

    assert parsed.events == [ev.Heartbeat(id="e1", sequence=7)]
    assert parsed.problems == [f"$.timestamp: expected a time{got}"]


@pytest.mark.parametrize(
    ("metadata", "expected", "problem"),
    [
        (None, {}, None),
        ({}, {}, None),
        ({"custom": None}, {}, None),
        ({"other": 1}, {}, None),
        ({"custom": {"a": "b"}}, {"a": "b"}, None),
        (
            {"custom": {"a": 1, "b": "c", "d": None}},
            {"b": "c"},
            "$.metadata.custom['a']: expected a string, got an integer",
        ),
        ({"custom": [1]}, {}, "$.metadata.custom: expected an object, got a list"),
        ("x", {}, "$.metadata: expected an object, got a string"),
    ],
)
def test_a_bad_value_in_the_metadata_costs_only_itself(metadata, expected, problem):
    """The others stay."""
    parsed = read(wire("HEARTBEAT", metadata=metadata))

    assert parsed.events[0].metadata == expected
    assert parsed.problems[:1] == ([problem] if problem else [])


@pytest.mark.parametrize(
    ("name", "field", "value", "expected", "got"),
    [
        ("USER_MESSAGE", "text", 5, "", "a string, got an integer"),
        ("USER_MESSAGE", "message_id", [], None, "a string, got a list"),
        ("USER_MESSAGE", "message_id", True, None, "a string, got a boolean"),
        ("POLY_AGENT_MESSAGE", "agent_name", 5, None, "a string, got an integer"),
        ("POLY_AGENT_MESSAGE", "attachments", {}, (), "a list, got an object"),
        ("POLY_AGENT_MESSAGE", "attachments", "x", (), "a list, got a string"),
        (
            "POLY_AGENT_MESSAGE",
            "end_conversation",
            1,
            False,
            "a boolean, got an integer",
        ),
        ("POLY_AGENT_MESSAGE_CHUNK", "is_complete", "true", False, "a boolean, got a"),
        (
            "POLY_AGENT_MESSAGE_CHUNK",
            "chunk_index",
            True,
            None,
            "an integer, got a bool",
        ),
        ("SESSION_END", "reason", 5, None, "a string, got an integer"),
        ("USER_TYPING", "state", 5, TypingState.STARTED, "a string, got an integer"),
        ("SESSION_START", "capabilities", 5, Capabilities(), "an object, got an int"),
        ("LIVE_AGENT_JOINED", "agent", "Leo", Agent(), "an object, got a string"),
        (
            "HANDOFF_QUEUE_STATUS",
            "estimated_wait_seconds",
            "x",
            None,
            "a number, got a",
        ),
    ],
)
def test_a_field_of_the_wrong_type_costs_only_itself(name, field, value, expected, got):
    """It has its default, and is reported without its content."""
    parsed = read(wire(name, {field: value}))

    assert getattr(parsed.events[0], field) == expected
    assert parsed.events[0].id == "e1"
    assert parsed.events[0].extra == {}
    [problem] = parsed.problems
    assert problem.startswith(f"$.payload.{field}: expected {got}")


@pytest.mark.parametrize(("given", "expected"), [("30", 30), ("2.5", 2.5), (-1, -1)])
def test_a_number_may_come_as_a_string(given, expected):
    """What an interval below zero means is not for the codec to say."""
    capabilities = {"heartbeat_interval_seconds": given}
    event = one(wire("SESSION_START", {"capabilities": capabilities}))

    assert event.capabilities.heartbeat_interval_seconds == expected


def test_a_bad_element_of_a_list_costs_only_itself():
    """A card keeps its other fields; a suggestion without text is of no use."""
    parsed = read(
        wire(
            "POLY_AGENT_MESSAGE",
            {
                "attachments": [CARD, 5, {"title": 5, "content_url": "u"}, None],
                "response_suggestions": [
                    {"message_text": "Yes"},
                    "No",
                    {"message_text": 5},
                    {"payload": "x"},
                    {"message_text": "Later"},
                ],
                "chat_call_actions": [{"title": "Call", "contact_number": 44}],
            },
        )
    )
    [message] = parsed.events

    assert [card.content_url for card in message.attachments] == [
        "https://x.test/menu",
        "u",
    ]
    assert [s.message_text for s in message.response_suggestions] == ["Yes", "Later"]
    assert message.chat_call_actions == (ChatCallAction("Call", "44"),)
    assert parsed.problems == [
        "$.payload.attachments[1]: expected an object, got an integer",
        "$.payload.attachments[2].title: expected a string, got an integer",
        "$.payload.attachments[3]: expected an object, got null",
        "$.payload.response_suggestions[1]: expected an object, got a string",
        "$.payload.response_suggestions[2].message_text: "
        "expected a string, got an integer",
        "$.payload.response_suggestions[3].message_text: expected a string, got null",
    ]


@pytest.mark.parametrize("payload", [[], "x", 5])
def test_an_event_without_a_sound_payload_is_kept(payload):
    """Its place in the order may still matter."""
    parsed = read(wire("USER_MESSAGE", payload))

    assert parsed.events[0].sequence == 7
    assert parsed.problems[0].startswith("$.payload: expected an object, got a")


def test_half_a_surrogate_pair_is_kept():
    """It is what the server wrote, and the text around it is sound."""
    frame = json.dumps(wire("USER_MESSAGE", {"text": "a\ud83d b"}))

    assert parse(frame).events[0].text == "a\ud83d b"
    assert parse(frame.encode()).events[0].text == "a\ud83d b"


@pytest.mark.parametrize("installed", [True, False])
def test_orjson_is_taken_if_it_is_there(installed, monkeypatch):
    """It is looked for when the first frame comes, and not missed."""
    orjson = pytest.importorskip("orjson")
    monkeypatch.setitem(sys.modules, "orjson", orjson if installed else None)
    monkeypatch.setattr(codec, "_loads", codec._loads_first)

    assert type(one(wire("HEARTBEAT"))) is ev.Heartbeat
    assert codec._loads is (orjson.loads if installed else codec._loads_plain)


# Batches


def test_a_batch_is_flattened_and_ordered():
    """By sequence, with what has none last and in its order."""
    parsed = read(
        batch(
            wire("USER_MESSAGE", id="c", sequence=9),
            wire("USER_TYPING", id="y", sequence=None),
            wire("USER_MESSAGE", id="a", sequence="1"),
            batch(wire("HEARTBEAT", id="b", sequence=5), batch()),
            wire("USER_TYPING", id="z", sequence=None),
            wire("USER_MESSAGE", id="d", sequence=9),
        )
    )

    assert [event.id for event in parsed.events] == list("abcdyz")
    assert parsed.problems == []
    assert parsed.batch is True
    assert read(wire("HEARTBEAT")).batch is False


def test_a_bad_element_of_a_batch_costs_only_itself():
    """What is wrong is said, with its place."""
    parsed = read(
        batch(
            wire("HEARTBEAT", id="a", sequence=1),
            5,
            {"type": None},
            wire("HEARTBEAT", id="b", sequence="x"),
            batch(wire("USER_MESSAGE", {"text": 1}, id="c", sequence=2), []),
            wire("HEARTBEAT", id="d", sequence=3),
        )
    )

    assert [event.id for event in parsed.events] == ["a", "c", "d", "b"]
    assert parsed.problems == [
        "$.payload.events[1]: expected an object, got an integer",
        "$.payload.events[2].type: missing",
        "$.payload.events[3].sequence: expected an integer, got a string",
        "$.payload.events[4].payload.events[0].payload.text: "
        "expected a string, got an integer",
        "$.payload.events[4].payload.events[1]: expected an object, got a list",
    ]


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (5, ["$.payload: expected an object, got an integer"]),
        ({"events": {}}, ["$.payload.events: expected a list, got an object"]),
        ({}, []),
        ({"events": None}, []),
    ],
)
def test_a_batch_may_hold_nothing(payload, problem):
    """It is still a batch."""
    parsed = read(wire("EVENT_BATCH", payload))

    assert (parsed.events, parsed.problems, parsed.batch) == ([], problem, True)


def test_batches_in_batches_end_somewhere():
    """A few are read; more is reported rather than followed."""
    data = wire("HEARTBEAT")
    for _ in range(50):
        data = batch(data)
    parsed = read(data)

    assert parsed.events == []
    assert "nested too deeply" in parsed.problems[0]


def test_a_batch_may_stand_under_its_key():
    """It is a type like the others."""
    assert type(one({"event_batch": {"events": [wire("HEARTBEAT")]}})) is ev.Heartbeat


# Logging


def test_decode_logs_problems_without_their_content(caplog):
    """A path and types, but no text that somebody wrote and no token."""
    secret = "eyJhbGciOi"
    data = batch(
        wire("USER_MESSAGE", {"text": [secret]}, timestamp=secret, id={"x": 1})
    )
    with caplog.at_level(logging.WARNING, LOGGER):
        [event] = decode(json.dumps(data))

    assert type(event) is ev.UserMessage
    assert [record.getMessage() for record in caplog.records] == [
        "$.payload.events[0].id: expected a string, got an object",
        "$.payload.events[0].timestamp: "
        "expected a time in ISO 8601, got another string",
        "$.payload.events[0].payload.text: expected a string, got a list",
    ]
    assert {(record.name, record.levelname) for record in caplog.records} == {
        (LOGGER, "WARNING")
    }


def test_one_bad_frame_does_not_fill_the_log(caplog):
    """After ten lines only the number is told."""
    decode(json.dumps(batch(*range(500))))

    assert len(caplog.records) == 11
    assert caplog.records[-1].getMessage() == "and 490 more problems"


def test_parse_logs_nothing(caplog):
    """Its callers do as they like with the problems."""
    assert parse("x").problems
    assert caplog.records == []


# Writing


@pytest.mark.parametrize(
    ("event", "frame"),
    [
        (
            ev.RequestPolyAgentJoin(),
            '{"type":"EVENT_TYPE_REQUEST_POLY_AGENT_JOIN","payload":{}}',
        ),
        (
            ev.UserMessage(
                text="café",
                message_id="m",
                id="e",
                sequence=1,
                timestamp=WHEN,
                metadata={"local_id": "x"},
                extra={"y": 1},
            ),
            '{"type":"EVENT_TYPE_USER_MESSAGE","payload":{"text":"café"},'
            '"metadata":{"custom":{"local_id":"x"}}}',
        ),
        (
            ev.UserTyping(state=TypingState.STOPPED),
            '{"type":"EVENT_TYPE_USER_TYPING","payload":{"state":"TYPING_STATE_STOPPED"}}',
        ),
        (
            ev.UserEndSession(),
            '{"type":"EVENT_TYPE_USER_END_SESSION","payload":{}}',
        ),
        (ev.Heartbeat(), '{"type":"EVENT_TYPE_HEARTBEAT","payload":{}}'),
    ],
)
def test_a_client_event_is_its_type_its_payload_and_its_metadata(event, frame):
    """And nothing else, whatever the server has added to it."""
    assert encode(event) == frame


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\ud83d", "a\ufffd"), ("\ude00b", "\ufffdb"), ("\ud83d\ude00", "😀")],
)
def test_surrogates_do_not_break_a_frame(text, expected):
    """UTF-8 cannot hold one; two halves become the character that they stand for."""
    frame = encode(ev.UserMessage(text=text))

    assert frame.encode()
    assert json.loads(frame)["payload"]["text"] == expected


def test_a_server_event_has_its_whole_envelope():
    """As the server would write it."""
    event = PolyAgentMessage(text="Hi", id="e", sequence=3, timestamp=WHEN)

    assert json.loads(encode(event)) == {
        "id": "e",
        "sequence": 3,
        "timestamp": "2026-08-14T09:26:53.589000Z",
        "type": "EVENT_TYPE_POLY_AGENT_MESSAGE",
        "payload": {
            "text": "Hi",
            "attachments": [],
            "response_suggestions": [],
            "chat_call_actions": [],
            "end_conversation": False,
        },
    }


# The converter


def test_the_converter_structures_each_class_and_any_event():
    """Users of cattrs find our classes in it."""
    data = wire("USER_MESSAGE", {"text": "Hi"})

    assert converter.structure(data, ev.UserMessage).text == "Hi"
    assert converter.structure(data, Event) == one(data)
    assert converter.structure(wire("NEW", {"a": 1}), UnknownEvent).payload == {"a": 1}
    assert converter.structure({"name": "Leo"}, Agent) == Agent(name="Leo")
    assert converter.unstructure(Agent(name="Leo")) == {"name": "Leo"}


def test_the_converter_makes_a_batch_of_a_batch():
    """Only frames are flattened."""
    data = batch(
        wire("HEARTBEAT", id="e2", sequence=2), wire("USER_MESSAGE", sequence=1)
    )
    whole = converter.structure(data, Event)

    assert whole == converter.structure(data, ev.EventBatch)
    assert [type(event) for event in whole.events] == [ev.UserMessage, ev.Heartbeat]
    assert [event.id for event in decode(encode(whole))] == ["e1", "e2"]


def test_the_converter_leaves_what_it_reads_as_it_was():
    """A frame of our own is taken apart as it is read; what users have is not."""
    data = batch(wire("USER_MESSAGE", {"text": "Hi"}), batch(wire("SESSION_START")))
    before = copy.deepcopy(data)

    converter.structure(data, Event)
    converter.structure(data, ev.EventBatch)

    assert data == before


def test_the_converter_logs_what_it_leaves_out(caplog):
    """It has no list to put problems in."""
    agent = converter.structure({"name": 5}, Agent)
    event = converter.structure(wire("LIVE_AGENT_JOINED", {"agent": {"id": []}}), Event)

    assert (agent, event.agent) == (Agent(), Agent())
    assert [record.getMessage() for record in caplog.records] == [
        "$.name: expected a string, got an integer",
        "$.payload.agent.id: expected a string, got a list",
    ]


def test_types_that_somebody_else_has_resolved_are_no_harm():
    """As a cattrs converter of the user's own does with each class that it sees."""
    script = (
        "import attrs, cattrs\n"
        "from polysync import events, models\n"
        "from polysync.protocol.codec import decode\n"
        "cattrs.Converter().unstructure(events.PolyAgentMessage(text='x'))\n"
        "for cls in vars(models).values():\n"
        "    if isinstance(cls, type) and attrs.has(cls):\n"
        "        attrs.resolve_types(cls)\n"
        "print(decode(input())[0].response_suggestions[0].message_text)\n"
    )
    suggestion = {"message_text": "yes", "display_text": "Yes"}
    frame = {
        "type": "EVENT_TYPE_POLY_AGENT_MESSAGE",
        "payload": {"text": "Hello", "response_suggestions": [suggestion]},
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(frame),
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("yes\n", "")


def test_the_converter_refuses_what_is_no_event():
    """There is nothing that it could give back."""
    with pytest.raises(ValueError, match=r"\$\.type: missing"):
        converter.structure({}, Event)


def test_structuring_leaves_the_data_as_it_was():
    """It belongs to the caller."""
    data = wire("POLY_AGENT_MESSAGE", {**MESSAGE, "new": 1})
    before = json.dumps(data)
    converter.structure(data, Event)

    assert json.dumps(data) == before


# Whatever comes

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, width=32)
    | st.text(max_size=8)
    | st.sampled_from(["2026-08-14T09:26:53Z", "12", "TYPING_STATE_STARTED"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "text",
                    "attachments",
                    "title",
                    "custom",
                    "events",
                    "type",
                    "id",
                    "agent",
                ]
            )
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
NAMES = sorted({name for name, _, _ in TYPES})
KEYS = sorted(
    {field.name for cls in EVENT_TYPES.values() for field in attrs.fields(cls)}
    | {"avatar_url", "position", "agent_id"}
)
ENVELOPES = st.fixed_dictionaries(
    {"type": st.sampled_from([f"EVENT_TYPE_{name}" for name in NAMES]) | JSON},
    optional={
        "id": JSON,
        "sequence": JSON,
        "timestamp": JSON,
        "metadata": JSON | st.fixed_dictionaries({"custom": JSON}),
        "payload": JSON | st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5),
        "poly_agent_message": JSON,
    },
)


def both(frame):
    """Parse with each parser."""
    results = []
    for name in ("json", "orjson"):
        with pytest.MonkeyPatch.context() as patch:
            use_json(name, patch)
            results.append(parse(frame))
    return results


@given(ENVELOPES | JSON)
@settings(max_examples=300, deadline=None)
def test_no_json_raises_and_both_parsers_agree(data):
    """What one parser finds the other finds, problems included."""
    plain, fast = both(json.dumps(data))

    assert repr(plain) == repr(fast)
    for event in plain.events:
        assert isinstance(event, Event)
        assert type(event.sequence) in (int, type(None))
        assert type(event.id) in (str, type(None))
        assert event.timestamp is None or event.timestamp.tzinfo is not None
        json.dumps(converter.unstructure(event))


@given(st.binary(max_size=64) | st.text(max_size=64))
@example(b"\xef\xbb\xbf")
@example('{"type":"EVENT_TYPE_HEARTBEAT","sequence":1e400}')
@example('{"type":"EVENT_TYPE_HEARTBEAT","sequence":-Infinity}')
@example('{"type":"EVENT_TYPE_HEARTBEAT","id":1,"id":2}')
@settings(max_examples=300, deadline=None)
def test_no_bytes_and_no_text_raise(frame):
    """Whatever a network brings, it is a result."""
    plain, fast = both(frame)

    assert repr(plain) == repr(fast)
    assert plain.events or plain.problems


@given(st.sampled_from(TYPES), st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_frame_does_not_raise(row, data):
    """A byte more, a byte less or another in its place."""
    frame = bytearray(json.dumps(wire(row[0], row[1])).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(frame) - 1))
        frame[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    plain, fast = both(bytes(frame))

    assert repr(plain) == repr(fast)


@given(st.lists(ENVELOPES | JSON, max_size=4), st.integers(0, 4))
@settings(max_examples=200, deadline=None)
def test_the_neighbours_of_a_bad_element_survive(elements, place):
    """A sound event comes through whatever stands around it."""
    sound = wire("POLY_AGENT_MESSAGE", MESSAGE, id="sound")
    elements.insert(place, sound)
    parsed = read(batch(*elements))

    assert one(sound) in parsed.events


def test_a_batch_holds_each_id_once():
    twice = {"id": "a", "sequence": 1, "type": "EVENT_TYPE_HEARTBEAT", "payload": {}}
    other = {**twice, "id": "b", "sequence": 2}
    nameless = {"type": "EVENT_TYPE_HEARTBEAT", "payload": {}}
    events = [twice, other, twice, nameless, nameless]
    batch = {"type": "EVENT_TYPE_EVENT_BATCH", "payload": {"events": events}}
    assert [e.id for e in decode(json.dumps(batch))] == ["a", "b", None, None]
