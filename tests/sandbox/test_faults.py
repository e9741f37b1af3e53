"""Each fault does what it says, as often as it was told, where it was told."""

from __future__ import annotations

import json

import pytest
import urllib3
import websocket

from polysync.sandbox import (
    Close,
    Delay,
    Duplicate,
    Inject,
    Moment,
    Refuse,
    Sandbox,
    Swallow,
)
from tests.sandbox.bare import Bare, text, types

WHOLE = ["USER_MESSAGE", "POLY_AGENT_THINKING", "POLY_AGENT_MESSAGE_CHUNK"]


def said(bare: Bare) -> list[str]:
    return [message.text for message in bare.session.user_messages]


# Counting and matching.


def test_a_fault_acts_once_unless_told_otherwise(
    sandbox: Sandbox, joined: Bare
) -> None:
    fault = sandbox.faults.duplicate("HEARTBEAT")
    for _ in range(2):
        joined.send("HEARTBEAT")

    assert [joined.receive()["type"] for _ in range(3)]
    assert fault.fired == 1
    assert fault.exhausted


def test_a_fault_can_let_some_pass_first(sandbox: Sandbox, joined: Bare) -> None:
    fault = sandbox.faults.swallow_messages(after=1, times=1)
    joined.say("one")
    joined.send("USER_MESSAGE", {"text": "two"})
    joined.say("three")

    assert said(joined) == ["one", "three"]
    assert (fault.met, fault.fired) == (2, 1)


def test_a_fault_can_be_taken_back(sandbox: Sandbox, joined: Bare) -> None:
    with sandbox.faults.swallow_messages(times=None) as fault:
        joined.send("USER_MESSAGE", {"text": "one"})
        sandbox.wait_until(lambda: fault.fired == 1)
    joined.say("two")
    fault.cancel()

    assert said(joined) == ["two"]


def test_all_faults_can_be_taken_back(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.swallow_messages(times=None)
    sandbox.faults.no_reply(times=None)
    sandbox.faults.clear()

    assert types(joined.say("one")) == WHOLE


def test_a_fault_can_be_for_one_session(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.no_reply(session=joined.session_id)
    with Bare(sandbox, join=True) as other:
        assert types(other.say("one")) == WHOLE
    joined.send("USER_MESSAGE", {"text": "two"})

    assert types([joined.receive(), joined.receive()]) == WHOLE[:2]


def test_a_fault_can_be_for_one_connection(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.drop(Moment.RECEIVE, connection=2)
    joined.say("one")
    joined.connect()
    joined.send("HEARTBEAT")

    assert joined.lost()


def test_a_fault_can_be_for_what_an_event_says(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.swallow_messages(
        times=None, matching=lambda event: event["payload"]["text"] == "one"
    )
    joined.send("USER_MESSAGE", {"text": "one"})
    joined.say("two")

    assert said(joined) == ["two"]


@pytest.mark.parametrize(
    ("moment", "action"),
    [
        (Moment.ACCESS_TOKEN, Duplicate()),
        (Moment.RECEIVE, Refuse(500)),
        (Moment.JOIN, Close()),
    ],
)
def test_a_fault_that_could_do_nothing_is_an_error(
    sandbox: Sandbox, moment: Moment, action: Refuse | Duplicate | Close
) -> None:
    with pytest.raises(ValueError, match=f"cannot be done at {moment.name}"):
        sandbox.faults.arm(moment, action)


# HTTP.


def test_a_request_is_dropped(sandbox: Sandbox, bare: Bare) -> None:
    sandbox.faults.drop(Moment.ACCESS_TOKEN)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        bare.post("access-token", {})


def test_a_request_stalls(sandbox: Sandbox, bare: Bare) -> None:
    sandbox.faults.stall(Moment.SESSION)
    bare.http.connection_pool_kw["timeout"] = 0.05
    bare.http.clear()
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        bare.post("sessions", {})


def test_a_handshake_is_reset(sandbox: Sandbox, bare: Bare) -> None:
    sandbox.faults.drop(Moment.HANDSHAKE)
    with pytest.raises((OSError, websocket.WebSocketException)):
        bare.connect()


def test_a_step_is_delayed(sandbox: Sandbox, bare: Bare) -> None:
    for moment in (Moment.HANDSHAKE, Moment.REPLAY, Moment.RECEIVE, Moment.RECORDED):
        sandbox.faults.delay(moment, 0.001)
    for moment in (Moment.SEND, Moment.SENT, Moment.JOIN, Moment.REPLY):
        sandbox.faults.delay(moment, 0.001)
    bare.connect()
    bare.join()

    assert types(bare.say("one")) == WHOLE


# What is lost with a connection.


def test_a_message_is_lost_before_it_is_recorded(
    sandbox: Sandbox, joined: Bare
) -> None:
    fault = sandbox.faults.lose_message()
    joined.send("USER_MESSAGE", {"text": "one"})

    assert joined.lost()
    assert fault.fired == 1
    assert said(joined) == []
    assert sandbox.received.events("USER_MESSAGE")


def test_an_echo_is_lost_and_the_replay_has_it(sandbox: Sandbox, joined: Bare) -> None:
    cursor = joined.session.events[-1]["sequence"]
    sandbox.faults.lose_echo()
    joined.send("USER_MESSAGE", {"text": "one"})
    assert joined.lost()
    sandbox.wait_until(lambda: "one" in text(joined.session.events))
    joined.connect(cursor=cursor)

    assert types(joined.replay()) == WHOLE


def test_a_connection_is_lost_after_the_echo(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.drop_after("USER_MESSAGE")
    joined.send("USER_MESSAGE", {"text": "one"})

    assert types([joined.receive()]) == ["USER_MESSAGE"]
    assert joined.lost()


def test_a_connection_is_lost_before_an_event(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.drop_before("POLY_AGENT_THINKING", reset=False)
    joined.send("USER_MESSAGE", {"text": "one"})

    assert types([joined.receive()]) == ["USER_MESSAGE"]
    assert joined.lost()


def test_a_connection_is_lost_in_the_middle_of_a_frame(
    sandbox: Sandbox, joined: Bare
) -> None:
    sandbox.faults.cut_frame("USER_MESSAGE")
    joined.send("USER_MESSAGE", {"text": "one"})

    assert joined.lost()
    assert said(joined) == ["one"]


def test_a_connection_is_closed_with_a_code(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.close(1012, type="HEARTBEAT")
    joined.send("HEARTBEAT")

    assert joined.close_code() == 1012


def test_a_connection_is_accepted_and_dropped(sandbox: Sandbox, bare: Bare) -> None:
    sandbox.faults.drop(Moment.REPLAY, reset=False)
    bare.connect()

    assert bare.lost()


def test_a_connection_becomes_half_open(sandbox: Sandbox, joined: Bare) -> None:
    fault = sandbox.faults.half_open(type="USER_MESSAGE")
    joined.send("USER_MESSAGE", {"text": "one"})
    sandbox.wait_until(lambda: fault.fired == 1)
    joined.send("HEARTBEAT")
    joined.ws.settimeout(0.02)
    with pytest.raises(websocket.WebSocketTimeoutException):
        joined.receive()

    assert joined.session.connections == 1
    assert said(joined) == []


def test_heartbeats_go_unanswered(sandbox: Sandbox, joined: Bare) -> None:
    with sandbox.faults.silence_heartbeats() as fault:
        joined.send("HEARTBEAT")
        assert types(joined.say("one")) == WHOLE
    assert fault.fired == 1


# The order and the shape of things.


def test_an_event_is_sent_again(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.duplicate("USER_MESSAGE", copies=2)
    events = joined.say("one")

    assert types(events) == ["USER_MESSAGE", "USER_MESSAGE", *WHOLE]
    assert events[0] == events[1] == events[2]


def test_an_event_is_overtaken(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.reorder("USER_MESSAGE", by=2)
    joined.send("USER_MESSAGE", {"text": "one"})

    assert types([joined.receive() for _ in range(3)]) == [*WHOLE[1:], WHOLE[0]]


def test_live_events_overtake_the_replay(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.reorder("EVENT_BATCH")
    joined.connect()
    event = joined.session.push("LANGUAGE_CHANGED", {"language_code": "es"})

    assert joined.receive() == event
    assert types(joined.replay())[0] == "SESSION_START"


def test_an_event_is_withheld_and_in_the_history(
    sandbox: Sandbox, joined: Bare
) -> None:
    sandbox.faults.withhold("POLY_AGENT_THINKING")

    assert types(joined.say("one")) == [WHOLE[0], WHOLE[2]]
    assert joined.session.types[-3:] == WHOLE


def test_an_event_is_rewritten(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.rewrite("USER_MESSAGE", lambda event: {**event, "id": 17})
    sandbox.faults.rewrite("POLY_AGENT_THINKING", lambda event: "nonsense")
    sandbox.faults.rewrite(
        "POLY_AGENT_MESSAGE_CHUNK", lambda event: json.dumps(event).encode()
    )
    joined.send("USER_MESSAGE", {"text": "one"})

    assert joined.receive()["id"] == 17
    assert joined.ws.recv() == "nonsense"
    opcode, data = joined.ws.recv_data()
    assert opcode == websocket.ABNF.OPCODE_BINARY
    assert json.loads(data)["payload"]["text"] == "one"
    assert isinstance(joined.session.events[-3]["id"], str)


def test_a_rewriter_that_fails_costs_the_connection(
    sandbox: Sandbox, joined: Bare, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.faults.rewrite("HEARTBEAT", lambda event: event["no such key"])
    joined.send("HEARTBEAT")

    assert joined.lost()
    assert "cannot write" in caplog.text


def test_garbage_is_sent(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.garbage("{")
    sandbox.faults.garbage(b"\xff\x00")
    sandbox.faults.garbage(b"\x81\x02ok", raw=True)
    joined.send("HEARTBEAT")

    assert joined.ws.recv() == "{"
    assert joined.ws.recv_data() == (websocket.ABNF.OPCODE_BINARY, b"\xff\x00")
    assert joined.ws.recv() == "ok"
    assert types([joined.receive()]) == ["HEARTBEAT"]


def test_actions_of_one_fault_happen_in_order(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.arm(Moment.RECEIVE, Delay(0.0), Inject("last words"), Close(1001))
    joined.send("HEARTBEAT")

    assert joined.ws.recv() == "last words"
    assert joined.close_code() == 1001


def test_an_echo_is_kept_back(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.arm(Moment.RECORDED, Swallow(), type="USER_MESSAGE")

    assert types(joined.say("one")) == WHOLE[1:]
    assert said(joined) == ["one"]


# The replay.


def test_the_replay_is_split(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.split_replay(2)
    joined.connect()

    assert [len(joined.replay()), len(joined.replay())] == [2, 2]


def test_the_replay_is_shuffled(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.shuffle_replay()
    joined.connect()
    events = joined.replay()

    assert events != joined.session.events
    assert sorted(events, key=lambda e: e["sequence"]) == joined.session.events


def test_the_replay_breaks_off(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.drop_mid_replay(2)
    joined.connect()

    assert len(joined.replay()) == 2
    assert joined.lost()


def test_the_replay_comes_twice(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.overlap_replay()
    joined.connect()

    assert joined.replay() == joined.replay() == joined.session.events


def test_the_replay_has_payloads_under_other_keys(
    sandbox: Sandbox, joined: Bare
) -> None:
    sandbox.faults.one_key_replay()
    joined.connect()
    start = joined.replay()[0]

    assert "payload" not in start
    assert "capabilities" in start["session_start"]


# The agent.


def test_the_agent_does_not_start(sandbox: Sandbox, bare: Bare) -> None:
    sandbox.faults.fail_join()
    bare.connect()
    bare.replay()
    bare.send("REQUEST_POLY_AGENT_JOIN", custom={"a": "b"})
    _, failure = bare.until("SYSTEM_MESSAGE")

    assert failure["payload"]["message"].startswith("Sorry, I'm unable to start")
    assert failure["metadata"] == {"custom": {"a": "b"}}
    bare.send("REQUEST_POLY_AGENT_JOIN")
    assert "POLY_AGENT_JOINED" in types(bare.reply())


def test_a_reply_fails(sandbox: Sandbox, joined: Bare) -> None:
    sandbox.faults.fail_reply()
    joined.send("USER_MESSAGE", {"text": "one"}, {"a": "b"})
    failure = joined.until("SYSTEM_MESSAGE")[-1]

    assert failure["payload"]["message"].startswith("Sorry, I'm having trouble")
    assert failure["metadata"] == {"custom": {"a": "b"}}
    assert types(joined.say("two")) == WHOLE
