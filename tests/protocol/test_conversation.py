"""Tests of `polysync.protocol.conversation`, one line after the other."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysync.errors import (
    AgentError,
    AuthenticationError,
    ClientClosedError,
    ConnectionLostError,
    DeliveryError,
    MessageTooLargeError,
    ProtocolError,
    SessionEndedError,
    SessionNotFoundError,
)
from polysync.events import (
    EVENT_TYPES,
    LanguageChanged,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    SessionEnd,
    UnknownEvent,
    UserMessage,
)
from polysync.models import Agent, SessionEndReason, TypingState
from polysync.protocol.conversation import UNPROVEN_WAIT
from polysync.protocol.effects import Connect, CreateSession, Upgrade
from polysync.protocol.inbound import (
    BEGINNING_WAIT,
    GAP_WAIT,
    SETTLE_LIMIT,
    SETTLE_WAITS,
)
from polysync.protocol.joining import REJOIN_AFTER
from polysync.protocol.lifeline import CONNECTION_LIFE, RENEW_PATIENCE
from polysync.protocol.states import Phase
from tests.protocol.script import Pen, Script, chunk, error

NO_CONVERSATION = error("Error: Conversation not found")
NOT_STARTED = error("Sorry, I'm unable to start a conversation right now.")


def is_open(**settings: object) -> Script:
    """A conversation whose agent has greeted."""
    script = Script(**settings)
    script.greet()
    return script


def renewing() -> Script:
    """A conversation whose connection 2 has opened to replace connection 1."""
    script = Script(heartbeat_interval=1e6)
    script.greet()
    script.later(CONNECTION_LIFE)
    assert script.generation == 2
    script.accept(2)
    return script


# Connecting


def test_a_conversation_begins_with_a_session_a_connection_its_start_and_the_agent():
    script = Script()
    ticket = script.connect("greeting")
    assert script.orders == [Connect(1), CreateSession()]
    script.create("session-1")
    assert script.orders[2:] == [Upgrade(1, None)]
    script.accept()
    script.begin()
    assert script.written == [
        (1, "REQUEST_POLY_AGENT_JOIN", script.sent("REQUEST_POLY_AGENT_JOIN")[0])
    ]
    script.hear("REQUEST_POLY_AGENT_JOIN")
    script.hear("POLY_AGENT_JOINED", {"agent_name": "Ada"})
    script.hear("POLY_AGENT_THINKING")
    assert not ticket.done
    script.answer("Hi!")
    assert ticket.done
    assert ticket.error is None
    assert script.conversation.dialogue.replies.greeting.text == "Hi!"
    assert script.conversation.situation.agent == Agent(name="Ada")
    assert script.statuses == ["connecting", "open"]
    assert script.sequences == [1, 2, 3, 4, 5]


def test_a_call_that_connects_again_only_waits():
    script = is_open()
    orders = len(script.orders)
    assert script.connect("greeting").done
    assert script.connect("session").done
    assert len(script.orders) == orders


def test_a_call_may_come_while_another_one_connects():
    script = Script()
    first, second = script.connect("session"), script.connect("agent")
    script.create()
    script.accept()
    script.begin()
    assert (first.done, second.done) == (True, False)
    assert script.sessions == 1


@pytest.mark.parametrize("as_batch", [True, False])
def test_an_agent_in_a_later_frame_of_the_history_is_not_asked_for(as_batch: bool):
    """The history may come in several batches, or as single frames."""
    script = Script()
    ticket = script.connect("agent")
    script.create()
    script.accept()
    script.batch(script.start())
    script.later(BEGINNING_WAIT * 0.9)
    assert not ticket.done
    send = script.batch if as_batch else script.get
    send(script.write("POLY_AGENT_JOINED", {"agent_name": "Ada"}))
    assert ticket.done
    assert script.phase is Phase.OPEN
    script.later(10 * BEGINNING_WAIT)
    assert script.sent("REQUEST_POLY_AGENT_JOIN") == []


def test_nobody_is_asked_for_whom_the_caller_does_not_want():
    script = Script()
    script.open(join=False)
    assert script.sent("REQUEST_POLY_AGENT_JOIN") == []
    script.conversation.request_join(script.now)
    script.collect()
    assert len(script.sent("REQUEST_POLY_AGENT_JOIN")) == 1


def test_nothing_is_due_while_a_connection_is_being_made():
    script = Script()
    script.connect()
    script.create()
    assert script.conversation.deadline is None
    script.now += 1000.0
    script.wake()
    assert script.phase is Phase.CONNECTING
    assert script.written == []


def test_a_later_call_may_want_the_agent_after_all():
    script = Script()
    script.open(join=False)
    ticket = script.connect("agent")
    assert len(script.sent("REQUEST_POLY_AGENT_JOIN")) == 1
    script.connect("agent")
    assert len(script.sent("REQUEST_POLY_AGENT_JOIN")) == 1
    script.hear("POLY_AGENT_JOINED")
    assert ticket.done


def test_a_caller_that_leaves_is_told_nothing():
    script = Script()
    ticket = script.connect()
    script.conversation.forget_connect(ticket)
    script.create()
    script.accept()
    script.close()
    assert not ticket.done


def test_a_session_that_comes_when_nobody_wants_it_any_more_is_left_alone():
    script = Script()
    script.connect()
    script.conversation.abandon_start(TimeoutError("too slow"))
    script.create()
    assert script.phase is Phase.IDLE
    assert script.cursors == []


def test_an_error_at_the_start_is_not_remembered():
    script = Script()
    first = script.connect()
    script.conversation.abandon_start(ServerTrouble("500"))
    script.collect()
    assert isinstance(first.error, ServerTrouble)
    assert script.disconnected == [(1, 1000, True)]
    ticket = script.connect("session")
    script.create()
    script.accept()
    script.begin()
    assert ticket.done
    assert ticket.error is None
    assert script.sessions == 2


class ServerTrouble(Exception):
    """What the world may say of a failed start."""


def test_a_start_that_was_refused_begins_with_another_session():
    """The session and its token are made again, together."""
    script = Script()
    ticket = script.connect()
    script.create("session-1")
    script.refuse(401, reason="authentication failed")
    assert isinstance(ticket.error, AuthenticationError)
    assert script.conversation.failed
    assert isinstance(script.conversation.gone(), AuthenticationError)
    script.connect("session")
    assert script.sessions == 2
    script.create("session-2")
    script.accept()
    script.begin()
    assert script.phase is Phase.OPEN
    assert script.conversation.lifeline.session_id == "session-2"


def test_nothing_of_a_refused_session_reaches_the_next_one():
    script = Script()
    script.connect()
    script.create("session-1")
    script.accept()
    script.hear("LANGUAGE_CHANGED", {"language_code": "xx"}, sequence=7)
    script.drop(4001)
    script.connect()
    script.create("session-2")
    script.accept()
    script.write = Pen()
    script.begin()
    script.later(1.0)
    assert script.sequences == [1]
    assert script.phase is Phase.OPEN


def test_a_start_given_up_in_the_middle_goes_on_with_its_session():
    script = Script()
    script.open()
    script.conversation.abandon_start(TimeoutError("no greeting"))
    script.collect()
    assert script.phase is Phase.IDLE
    ticket = script.connect("agent")
    assert script.sessions == 1
    assert script.cursors == [None, 1]
    script.accept()
    script.batch(script.write("POLY_AGENT_JOINED"))
    assert not script.sent("REQUEST_POLY_AGENT_JOIN", 2)
    script.later(SETTLE_LIMIT)
    assert ticket.done
    assert not script.sent("REQUEST_POLY_AGENT_JOIN", 2)


def test_a_start_without_an_agent_is_not_bound_to_one_before():
    script = Script()
    script.open()
    script.conversation.abandon_start(TimeoutError("no greeting"))
    ticket = script.connect("session", join=False)
    script.back()
    assert ticket.done
    assert not script.sent("REQUEST_POLY_AGENT_JOIN", 2)


def test_an_unreachable_server_fails_the_start_when_the_budget_is_spent():
    script = Script(max_reconnects=2)
    ticket = script.connect()
    script.create()
    for _ in range(3):
        script.refuse(None, reason="refused")
        script.later(5.0)
    assert isinstance(ticket.error, ConnectionLostError)
    assert script.statuses == [
        "connecting",
        *["reconnecting", "connecting"] * 2,
        "failed",
    ]


def test_a_session_that_says_nothing_at_all_is_taken_to_be_open():
    script = Script()
    ticket = script.connect("session")
    script.create()
    script.accept()
    script.later(SETTLE_WAITS[0])
    assert script.phase is Phase.OPEN
    assert len(script.sent("REQUEST_POLY_AGENT_JOIN")) == 1
    assert not ticket.done


# Joining


def test_an_agent_that_is_there_already_is_not_asked_for():
    script = Script()
    script.connect()
    script.create()
    script.accept()
    script.batch(script.start(), script.write("POLY_AGENT_JOINED"))
    script.later(SETTLE_LIMIT)
    assert script.sent("REQUEST_POLY_AGENT_JOIN") == []


@pytest.mark.parametrize("single", [True, False])
def test_whether_to_ask_is_decided_after_the_whole_replay(single: bool):
    """In several batches, or in single frames, with pauses between."""
    script = Script()
    script.resume(cursor=None, joined=False)
    script.connect("agent")
    script.accept()
    events = [script.start(), *(script.write("LANGUAGE_CHANGED") for _ in range(3))]
    events.append(script.write("POLY_AGENT_JOINED"))
    for event in events:
        if single:
            script.get(event)
        else:
            script.batch(event)
        script.later(0.4)
    script.later(SETTLE_LIMIT)
    assert script.sent("REQUEST_POLY_AGENT_JOIN") == []
    assert script.phase is Phase.OPEN


def test_without_one_in_the_replay_it_is_asked_for():
    script = Script()
    script.resume(cursor=3, joined=False)
    ticket = script.connect("agent")
    script.accept()
    script.batch()
    assert script.sent("REQUEST_POLY_AGENT_JOIN") == []
    script.later(SETTLE_WAITS[1])
    assert len(script.sent("REQUEST_POLY_AGENT_JOIN")) == 1
    script.hear("POLY_AGENT_JOINED")
    assert ticket.done


def test_an_agent_of_an_earlier_life_is_remembered():
    script = Script()
    script.resume(joined=True, agent=Agent(name="Ada"))
    ticket = script.connect("greeting")
    script.back()
    assert ticket.done
    assert script.sent("REQUEST_POLY_AGENT_JOIN") == []
    script.hear("POLY_AGENT_MESSAGE_CHUNK", chunk("m", 1, "Hi!", last=True))
    assert script.told(PolyAgentMessage)[0].agent_name == "Ada"


def test_a_request_that_was_lost_is_made_again():
    script = Script()
    script.open()
    script.drop()
    script.back()
    assert len(script.sent("REQUEST_POLY_AGENT_JOIN", 1)) == 1
    assert len(script.sent("REQUEST_POLY_AGENT_JOIN", 2)) == 1


def test_one_that_was_only_seemingly_lost_is_not():
    """Any event of an agent counts."""
    for name in ("POLY_AGENT_JOINED", "POLY_AGENT_THINKING", "LIVE_AGENT_JOINED"):
        script = Script()
        script.open()
        script.drop()
        script.back(script.write("REQUEST_POLY_AGENT_JOIN"), script.write(name))
        assert not script.sent("REQUEST_POLY_AGENT_JOIN", 2)


def test_a_session_that_was_open_has_a_history_even_if_it_never_showed_its_start():
    script = Script()
    script.connect()
    script.create()
    script.accept()
    script.later(SETTLE_WAITS[0])
    assert len(script.sent("REQUEST_POLY_AGENT_JOIN", 1)) == 1
    script.drop()
    script.later(2.0)
    script.accept()
    script.begin()
    script.batch(
        script.write("REQUEST_POLY_AGENT_JOIN"), script.write("POLY_AGENT_JOINED")
    )
    script.beat()
    script.later(SETTLE_LIMIT)
    assert not script.sent("REQUEST_POLY_AGENT_JOIN", 2)


def test_one_more_agent_may_be_asked_for_and_only_an_agent_answers_that():
    script = is_open()
    script.conversation.request_join(script.now)
    script.collect()
    script.hear("LANGUAGE_CHANGED")
    script.drop()
    script.back()
    assert len(script.sent("REQUEST_POLY_AGENT_JOIN", 2)) == 1
    script.hear("POLY_AGENT_THINKING")
    script.drop()
    script.back()
    assert not script.sent("REQUEST_POLY_AGENT_JOIN", 3)


def test_its_echo_alone_is_no_agent():
    script = Script()
    script.open()
    script.drop()
    script.back(script.write("REQUEST_POLY_AGENT_JOIN"))
    assert len(script.sent("REQUEST_POLY_AGENT_JOIN", 2)) == 1


def test_an_agent_that_got_lost_is_asked_for_again_in_a_while():
    script = is_open()
    script.hear("SYSTEM_MESSAGE", NO_CONVERSATION)
    script.beat()
    script.later(REJOIN_AFTER - 0.1)
    assert len(script.sent("REQUEST_POLY_AGENT_JOIN")) == 1
    script.later(0.1)
    assert len(script.sent("REQUEST_POLY_AGENT_JOIN")) == 2
    script.hear("REQUEST_POLY_AGENT_JOIN")
    script.drop()
    script.back()
    assert len(script.sent("REQUEST_POLY_AGENT_JOIN", 2)) == 1
    script.hear("POLY_AGENT_JOINED")
    script.drop()
    script.back()
    assert not script.sent("REQUEST_POLY_AGENT_JOIN", 3)


def test_messages_wait_for_it():
    script = is_open()
    script.hear("SYSTEM_MESSAGE", NO_CONVERSATION)
    script.say("Still there?")
    assert script.texts == []
    script.later(REJOIN_AFTER)
    script.hear("POLY_AGENT_JOINED")
    assert script.texts == ["Still there?"]


def test_an_error_that_is_replayed_asks_for_nobody():
    script = is_open()
    script.drop()
    script.back(script.write("SYSTEM_MESSAGE", NO_CONVERSATION))
    script.later(60.0)
    assert not script.sent("REQUEST_POLY_AGENT_JOIN", 2)


def test_one_that_had_to_wait_for_a_gap_is_live_all_the_same():
    script = is_open()
    script.hear("SYSTEM_MESSAGE", NO_CONVERSATION, sequence=script.write.sequence + 2)
    script.later(GAP_WAIT + REJOIN_AFTER)
    assert len(script.sent("REQUEST_POLY_AGENT_JOIN")) == 2


def test_a_start_fails_when_the_agent_does_not_come_after_all():
    """Asked for three times in all, seconds apart."""
    script = Script()
    ticket = script.open()
    begun = script.now
    times = []
    for _ in range(10):
        if ticket.done:
            break
        times.append(script.now)
        script.hear("SYSTEM_MESSAGE", NOT_STARTED)
        script.later(REJOIN_AFTER)
    assert isinstance(ticket.error, AgentError)
    assert times == [begun, begun + REJOIN_AFTER, begun + 2 * REJOIN_AFTER]
    assert len(script.sent("REQUEST_POLY_AGENT_JOIN")) == 3
    # The next call tries again.
    again = script.connect("agent")
    assert not again.done
    assert len(script.sent("REQUEST_POLY_AGENT_JOIN")) == 4
    script.hear("POLY_AGENT_JOINED")
    assert again.error is None


# Frames


def test_bad_frames_are_reported_and_cost_nothing_else():
    script = is_open()
    for frame in (b"\x00\xff", "not JSON", b"[]", '{"type": 5}'):
        script.frame(frame)
    problems = [n for n in script.errors() if isinstance(n, ProtocolError)]
    assert len(problems) == 4
    assert all(problem.path.startswith("$") for problem in problems)
    script.answer("Still here.")
    assert script.told(PolyAgentMessage)[-1].text == "Still here."


def test_a_binary_frame_that_holds_json_is_read():
    script = is_open()
    event = script.write("LANGUAGE_CHANGED", {"language_code": "de"})
    script.frame(json.dumps(event).encode())
    assert script.conversation.situation.language == "de"


def test_unknown_events_are_told_and_counted():
    script = is_open()
    event = script.hear("SOMETHING_NEW", {"a": 1}, sequence=2**33)
    script.later(GAP_WAIT)
    assert script.told(UnknownEvent)[0].payload == {"a": 1}
    assert script.conversation.cursor == event["sequence"]


def test_the_one_key_form_is_read_outside_a_batch_too():
    script = is_open()
    event = script.write("LANGUAGE_CHANGED")
    event["language_changed"] = {"language_code": "fr"}
    del event["payload"]
    script.get(event)
    assert script.conversation.situation.language == "fr"


def test_odd_envelopes_keep_their_events():
    script = is_open()
    number = script.write.sequence
    first = script.write("LANGUAGE_CHANGED", id=17)
    second = script.write("LANGUAGE_CHANGED")
    second["sequence"] = str(second["sequence"])
    third = script.write("LANGUAGE_CHANGED", id=None)
    third["timestamp"] = "yesterday"
    script.get(first, second, third)
    told = script.told(LanguageChanged)
    assert [event.id for event in told] == ["17", second["id"], None]
    assert [event.sequence for event in told] == [number + n for n in (1, 2, 3)]


def test_what_comes_before_and_after_the_end_of_a_replay_is_in_order():
    script = is_open()
    script.drop()
    missed = [script.write("LANGUAGE_CHANGED") for _ in range(4)]
    script.later(60.0)
    script.accept()
    script.get(missed[3])  # live, and earlier than the replay
    script.batch(missed[0], missed[1])
    script.batch(missed[2], missed[3])
    script.beat()
    script.later(1.0)
    assert script.sequences == list(range(1, missed[3]["sequence"] + 1))


def test_a_replay_that_repeats_everything_tells_nothing_twice():
    """An invalid cursor makes the server replay everything."""
    script = is_open()
    events = [script.hear("LANGUAGE_CHANGED") for _ in range(3)]
    script.drop()
    script.back(*events, script.write("LANGUAGE_CHANGED"))
    assert script.sequences == sorted(set(script.sequences))
    assert script.cursors[-1] == events[-1]["sequence"]


def test_the_cost_of_an_event_does_not_grow_with_the_conversation():
    script = is_open()

    def measured() -> float:
        frames = [json.dumps(script.write("LANGUAGE_CHANGED")) for _ in range(500)]
        begin = time.perf_counter()
        for frame in frames:
            script.conversation.received(1, frame, script.now)
            assert script.conversation.deadline is not None
        return time.perf_counter() - begin

    early = min(measured() for _ in range(3))
    for _ in range(20):
        measured()
    late = min(measured() for _ in range(3))
    assert late < 5 * early


def test_nor_that_of_a_message_with_those_on_their_way():
    script = is_open()

    def measured(number: int) -> float:
        begin = time.perf_counter()
        for _ in range(number):
            script.conversation.send(
                f"m{len(sent)}", "x", {}, patience=9.0, reply=None, now=script.now
            )
            sent.append(1)
            assert script.conversation.deadline is not None
        return time.perf_counter() - begin

    sent: list[int] = []
    early = min(measured(300) for _ in range(3))
    measured(4000)
    assert min(measured(300) for _ in range(3)) < 5 * early


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("text", "reason", "custom", "x")), inner)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from((*EVENT_TYPES, "EVENT_TYPE_EVENT_BATCH", "EVENT_TYPE_NEW"))
PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        "message_id": st.sampled_from(("a", "b", "", None, 7)),
        "chunk_index": st.sampled_from((0, 1, 2, 3, "2", None, -1)),
        "is_complete": st.booleans(),
        "text": st.sampled_from(("", "x", None, 5)),
        "level": st.just("SYSTEM_MESSAGE_LEVEL_ERROR"),
        "message": st.sampled_from(("Error: Conversation not found", "x", None)),
        "end_conversation": st.sampled_from((False, False, False, True)),
        "capabilities": ANYTHING,
        "state": ANYTHING,
        "agent": ANYTHING,
    },
)
EVENTS = st.fixed_dictionaries(
    {"type": NAMES, "payload": PAYLOADS | ANYTHING},
    optional={
        "id": st.integers(0, 9) | st.sampled_from(("0", "1", None)),
        "sequence": st.none() | st.integers(-2, 12) | st.just("7"),
        "timestamp": ANYTHING,
        "metadata": st.just({"custom": {"local_id": "local-1"}}) | ANYTHING,
    },
)


@given(
    st.lists(
        st.tuples(
            st.lists(EVENTS | ANYTHING, min_size=1, max_size=4),
            st.booleans(),
            st.sampled_from((0.0, 0.05, 1.0, 7.0)),
            st.sampled_from(("", "", "", "say", "drop", "end")),
        ),
        max_size=12,
    )
)
def test_no_frames_whatsoever_raise_or_leave_the_rules_without_rest(
    steps: list[tuple[list[Any], bool, float, str]],
):
    script = Script()
    script.open()
    for frames, batched, seconds, act in steps:
        if act == "say" and script.conversation.at_work:
            script.say()
        elif act == "drop":
            script.drop()
        elif act == "end":
            script.end()
        if script.phase is Phase.CONNECTING:
            script.accept()
        if batched:
            script.batch(*frames)
        else:
            script.get(*frames)
        script.later(seconds)
        deadline = script.conversation.deadline
        assert deadline is None or deadline > script.now
    script.close()
    assert script.conversation.over


# Delivery


def test_a_message_is_written_once_and_settled_by_its_echo():
    script = is_open()
    delivery = script.say("Hello")
    assert script.texts == ["Hello"]
    script.echo(delivery)
    assert delivery.result.message_id == f"server-{delivery.id}"
    assert delivery in script.settled


def test_an_echo_lost_with_its_connection_is_found_in_the_replay():
    script = is_open()
    delivery = script.say("Hello")
    echo = script.write("USER_MESSAGE", **script.receipt(delivery))
    script.drop()
    assert not delivery.done
    script.back(echo)
    assert delivery.result is not None
    assert script.texts == ["Hello"]


def test_a_message_that_the_replay_does_not_show_is_sent_again():
    script = is_open()
    delivery = script.say("Hello")
    script.drop()
    script.back()
    assert script.texts == ["Hello", "Hello"]
    assert len(script.sent("USER_MESSAGE", 2)) == 1
    script.echo(delivery)
    assert delivery.done
    script.later(60.0)
    assert len(script.texts) == 2


def test_identical_messages_are_told_apart():
    script = is_open()
    first, second, third = (script.say("Yes") for _ in range(3))
    echo = script.write("USER_MESSAGE", **script.receipt(second))
    script.drop()
    script.back(echo)
    assert [d.done for d in (first, second, third)] == [False, True, False]
    names = [
        frame["metadata"]["custom"]["local_id"]
        for frame in script.sent("USER_MESSAGE", 2)
    ]
    assert names == [first.id, third.id]


def test_messages_said_while_there_is_no_connection_follow_those_in_doubt():
    script = is_open()
    script.say("first")
    script.drop()
    script.say("second")
    script.later(2.0)
    script.say("third")
    script.back()
    assert script.texts == ["first", "first", "second", "third"]


def test_nothing_is_sent_again_that_may_have_arrived():
    """A replay that stalls looks like one that is over; the echo tells them apart."""
    script = is_open()
    delivery = script.say("Hello")
    echo = script.write("USER_MESSAGE", **script.receipt(delivery))
    script.drop()
    script.later(2.0)
    script.accept()
    script.batch()
    script.later(SETTLE_LIMIT)  # the network stalls
    assert script.phase is Phase.OPEN
    later = script.say("And?")
    assert script.texts == ["Hello"]
    script.batch(echo)
    script.beat()
    script.later(SETTLE_WAITS[1])
    assert delivery.result is not None
    assert script.texts == ["Hello", "And?"]
    assert not later.done


def test_once_the_echo_has_come_a_moment_is_enough():
    script = is_open()
    script.say("Hello")
    script.drop()
    script.later(2.0)
    script.accept()
    script.later(SETTLE_LIMIT)
    assert script.phase is Phase.OPEN
    script.beat()
    assert script.texts == ["Hello"]
    script.later(SETTLE_WAITS[1])
    assert script.texts == ["Hello", "Hello"]


def test_a_server_that_never_echoes_a_heartbeat_settles_it_by_a_longer_quiet():
    script = is_open()
    delivery = script.say("Hello")
    script.drop()
    script.later(2.0)
    script.accept()
    script.batch()
    script.later(SETTLE_WAITS[1] + 0.9 * UNPROVEN_WAIT)
    assert script.texts == ["Hello"]
    script.later(0.1 * UNPROVEN_WAIT)
    assert script.texts == ["Hello", "Hello"]
    script.get(script.echo(delivery))
    assert delivery.result is not None


def test_a_server_that_has_echoed_before_is_waited_for():
    script = is_open()
    script.later(31.0)
    script.beat()
    script.say("Hello")
    script.drop()
    script.later(2.0)
    script.accept()
    script.batch()
    script.later(SETTLE_WAITS[1] + 1.5 * UNPROVEN_WAIT)
    assert script.texts == ["Hello"]
    script.beat()
    script.later(SETTLE_WAITS[1])
    assert script.texts == ["Hello", "Hello"]


def test_an_echo_that_comes_late_of_a_server_that_never_echoes_heartbeats_counts():
    script = is_open()
    delivery = script.say("Hello")
    echo = script.write("USER_MESSAGE", **script.receipt(delivery))
    script.drop()
    script.later(2.0)
    script.accept()
    script.batch()
    script.later(SETTLE_WAITS[1] + 0.5 * UNPROVEN_WAIT)
    script.get(echo)
    script.later(2 * UNPROVEN_WAIT)
    assert script.texts == ["Hello"]
    assert delivery.result is not None


def test_without_heartbeats_the_quiet_has_to_do():
    script = is_open(heartbeat_interval=0.0)
    script.say("Hello")
    script.drop()
    script.later(2.0)
    script.accept()
    script.batch()
    script.later(SETTLE_WAITS[1])
    assert script.texts == ["Hello", "Hello"]


def test_without_resending_the_caller_is_told_the_truth():
    script = is_open(resend=False)
    first = script.say("lost")
    second = script.say("kept")
    echo = script.write("USER_MESSAGE", **script.receipt(second))
    script.drop()
    third = script.say("new")
    script.back(echo)
    assert isinstance(first.error, DeliveryError)
    assert not first.error.uncertain
    assert second.result is not None
    assert not third.done
    assert script.texts == ["lost", "kept", "new"]


def test_a_message_given_up_is_not_sent_again_and_its_echo_still_counts():
    script = is_open()
    delivery = script.say("Hello")
    script.conversation.give_up(delivery)
    assert delivery.uncertain
    echo = script.write("USER_MESSAGE", **script.receipt(delivery))
    script.drop()
    script.back()
    assert script.texts == ["Hello"]
    assert list(script.conversation.dialogue.outbox) == [delivery]
    script.get(echo)
    assert list(script.conversation.dialogue.outbox) == []
    assert script.told(UserMessage)[0].text == "Hello"
    assert delivery.result is not None
    script.conversation.give_up(delivery)
    script.collect()
    assert script.settled.count(delivery) <= 1


def test_an_answer_given_up_is_for_who_receives():
    script = is_open()
    script.receive()
    reply = script.ask()
    script.echo(reply.delivery)
    script.conversation.give_up(reply.delivery, reply)
    script.answer("Too late.")
    ticket = script.receive()
    assert ticket.result.text == "Too late."


def test_the_echo_may_be_missing_on_a_connection_that_is_there():
    script = is_open()
    delivery = script.say("Hello", patience=10.0)
    script.later(9.9)
    assert not delivery.done
    script.later(0.1)
    assert isinstance(delivery.error, DeliveryError)
    assert delivery.error.uncertain
    assert script.phase is Phase.OPEN


def test_a_message_that_is_too_large_is_not_sent():
    script = Script()
    script.greet(max_message_size_bytes=500)
    with pytest.raises(MessageTooLargeError):
        script.say("x" * 500)
    assert script.texts == []


def test_a_message_needs_a_session():
    script = Script()
    with pytest.raises(ClientClosedError, match="connect"):
        script.say()
    script = is_open()
    script.hear("SESSION_END")
    with pytest.raises(SessionEndedError):
        script.say()


def test_a_question_asked_over_a_bad_line_gets_its_answer():
    script = is_open()
    reply = script.ask("Well?")
    script.drop()
    script.back()
    script.echo(reply.delivery)
    script.hear("POLY_AGENT_MESSAGE_CHUNK", chunk("m", 1, "Cer"))
    script.drop()
    script.back(
        script.write("POLY_AGENT_MESSAGE_CHUNK", chunk("m", 2, "tainly.", last=True))
    )
    assert reply.result.text == "Certainly."


def test_receive_gives_what_nobody_has_claimed_also_after_the_end():
    script = is_open()
    assert script.receive().result.text == "Hi!"
    waiting = script.receive()
    script.answer("One more thing.")
    assert waiting.result.text == "One more thing."
    script.answer("And bye.")
    script.hear("SESSION_END")
    assert script.receive().result.text == "And bye."
    assert isinstance(script.receive().error, SessionEndedError)


def test_a_message_not_taken_after_all_can_be_put_back():
    script = is_open()
    message = script.receive().result
    script.conversation.put_back(message)
    ticket = script.receive()
    assert ticket.result is message
    waiting = script.receive()
    script.conversation.put_back(message)
    script.collect()
    assert waiting.result is message
    assert waiting in script.settled


# Heartbeats


def test_a_long_silence_is_not_the_end():
    """An hour in a queue."""
    script = is_open()
    for _ in range(120):
        script.later(30.0)
        script.beat()
    assert script.phase is Phase.OPEN
    assert len(script.sent("HEARTBEAT")) == 120


def test_a_connection_without_an_echo_is_left_and_made_again():
    script = is_open()
    script.later(30.0)
    script.later(9.9)
    assert script.phase is Phase.OPEN
    script.later(0.1)
    assert script.phase is Phase.LOST
    assert script.disconnected == [(1, 1000, True)]
    script.drop(generation=1)  # the world notices, too
    assert script.phase is Phase.LOST
    script.back()
    assert script.phase is Phase.OPEN


def test_an_echo_in_a_history_says_nothing_of_the_connection():
    script = is_open()
    script.drop()
    script.later(2.0)
    script.accept()
    script.batch(script.write("HEARTBEAT"))
    script.later(10.0)
    assert script.phase is Phase.LOST


def test_an_echo_in_a_batch_is_one_if_it_is_of_no_history():
    script = is_open()
    script.later(30.0)
    script.batch(script.write("HEARTBEAT", sequence=None))
    script.later(20.0)
    assert script.phase is Phase.OPEN


def test_a_jump_of_the_clock_is_no_more_than_a_dead_connection():
    """A machine that slept finds its connection dead, and makes another."""
    script = is_open()
    script.later(30.0)
    script.now += 1e6
    script.wake()
    script.back()
    assert script.phase is Phase.OPEN


# The budget


def test_a_server_that_accepts_and_drops_at_once_does_not_loop_for_ever():
    """Nor one that says the usual things first."""
    script = is_open(max_reconnects=5)
    script.drop()
    for _ in range(100):
        if script.phase is Phase.FAILED:
            break
        script.later(60.0)
        script.accept()
        script.batch()
        script.beat()
        script.hear("SYSTEM_MESSAGE", error("Our system is experiencing high load."))
        script.drop()
    assert script.generation == 6
    assert isinstance(script.conversation.gone(), ConnectionLostError)
    # Whoever wants to can try again with the same session.
    ticket = script.connect("session")
    script.back()
    assert ticket.done
    assert ticket.error is None
    assert script.sessions == 1


def test_one_that_gets_somewhere_may_drop_as_often_as_it_likes():
    script = is_open(max_reconnects=1)
    for _ in range(20):
        script.drop()
        script.back(script.write("LANGUAGE_CHANGED"))
    assert script.phase is Phase.OPEN


# Renewal


def test_a_renewal_goes_unnoticed():
    script = renewing()
    news, first = len(script.news), script.say("on the old one")
    assert [g for g, name, _ in script.written if name == "USER_MESSAGE"] == [1]
    script.beat(2)
    assert script.conversation.lifeline.generation == 1
    echo = script.echo(first, generation=1)
    assert script.conversation.lifeline.generation == 2
    script.get(echo, generation=2)
    script.say("on the new one")
    assert [g for g, name, _ in script.written if name == "USER_MESSAGE"] == [1, 2]
    assert script.disconnected == [(1, 4000, False)]
    script.drop(4000, generation=1)
    assert script.phase is Phase.OPEN
    assert [type(n).__name__ for n in script.news[news:]] == [
        "Heartbeat",
        "UserMessage",
    ]


def test_a_renewal_that_fails_goes_unnoticed_too():
    script = Script(heartbeat_interval=1e6)
    script.greet()
    script.later(CONNECTION_LIFE)
    news = len(script.news)
    delivery = script.say()
    script.refuse(503)
    script.later(1.0)
    assert script.phase is Phase.OPEN
    script.echo(delivery, generation=1)
    assert delivery.done
    assert script.texts == ["Hello"]
    assert [type(n) for n in script.news[news:]] == [UserMessage]


def test_what_the_new_connection_brings_is_told_once():
    script = renewing()
    event = script.write("LANGUAGE_CHANGED")
    script.get(event, generation=1)
    script.get(event, generation=2)
    script.beat(2)
    script.get(event, generation=1)  # stale by now
    assert script.sequences.count(event["sequence"]) == 1


def test_a_message_on_its_way_when_patience_ends_is_settled_by_the_new_connection():
    script = renewing()
    first = script.say("first")
    script.beat(2)
    script.later(RENEW_PATIENCE)
    assert script.conversation.lifeline.generation == 2
    second = script.say("second")
    assert script.texts == ["first"]  # nothing overtakes it
    script.drop(4000, generation=1)
    assert len(script.sent("HEARTBEAT", 2)) == 2
    script.echo(first, generation=2)
    assert first.done
    assert script.texts == ["first", "second"]
    script.echo(second, generation=2)


def test_one_that_it_does_not_show_is_sent_again():
    script = renewing()
    script.say("first")
    script.beat(2)
    script.later(RENEW_PATIENCE)
    script.say("second")
    script.drop(1006, generation=1)
    script.later(1.0)
    assert script.texts == ["first"]
    script.beat(2)
    script.later(SETTLE_WAITS[1])
    assert script.texts == ["first", "first", "second"]


def test_without_heartbeats_a_while_of_quiet_has_to_do():
    script = Script(heartbeat_interval=0.0)
    script.greet()
    script.later(CONNECTION_LIFE)
    script.accept(2)
    script.say("first")
    script.later(RENEW_PATIENCE)
    script.drop(1006, generation=1)
    script.later(SETTLE_WAITS[0] - 0.1)
    assert script.texts == ["first"]
    script.later(0.1)
    assert script.texts == ["first", "first"]


def test_an_old_connection_that_goes_late_decides_nothing_for_a_newer_one():
    script = renewing()
    script.say("first")
    script.beat(2)
    script.later(RENEW_PATIENCE)
    script.drop(1006, generation=2)
    script.drop(1006, generation=1)  # after the one that has replaced it
    assert script.phase is Phase.LOST
    script.later(60.0)
    script.accept()
    script.later(SETTLE_WAITS[0] + 1.0)
    assert script.texts == ["first"]
    script.beat()
    script.later(1.0)
    assert script.texts == ["first", "first"]


def test_the_new_connection_takes_over_when_the_old_one_is_lost():
    script = renewing()
    delivery = script.say("Hello")
    echo = script.write("USER_MESSAGE", **script.receipt(delivery))
    script.drop(1006, generation=1)
    assert script.phase is Phase.REPLAYING
    script.get(echo, generation=2)
    script.beat(2)
    script.later(1.0)
    assert script.phase is Phase.OPEN
    assert delivery.done
    assert script.texts == ["Hello"]
    assert script.statuses[-2:] == ["reconnecting", "open"]


def test_not_before_it_has_opened_though():
    """Else its silence would be taken for a replay that shows nothing."""
    script = Script(heartbeat_interval=1e6)
    script.greet()
    script.later(CONNECTION_LIFE)
    delivery = script.say("Hello")
    echo = script.write("USER_MESSAGE", **script.receipt(delivery))
    script.drop(1006, generation=1)
    script.later(SETTLE_LIMIT)
    assert script.phase is Phase.CONNECTING
    script.accept(2)
    script.batch(echo)
    script.beat()
    script.later(1.0)
    assert delivery.done
    assert script.texts == ["Hello"]


def test_a_request_to_join_or_to_end_that_goes_with_an_old_connection_is_made_again():
    script = renewing()
    script.hear("SYSTEM_MESSAGE", NO_CONVERSATION, generation=1)
    script.later(REJOIN_AFTER)
    assert len(script.sent("REQUEST_POLY_AGENT_JOIN", 1)) == 2
    script.beat(2)
    assert script.conversation.lifeline.generation == 1  # it waits for the agent
    script.later(RENEW_PATIENCE)
    assert script.conversation.lifeline.generation == 2
    script.drop(generation=1)
    assert len(script.sent("REQUEST_POLY_AGENT_JOIN", 2)) == 1

    script = renewing()
    script.end()
    assert len(script.sent("USER_END_SESSION", 1)) == 1
    script.beat(2)
    script.later(RENEW_PATIENCE)
    script.drop(generation=1)
    assert len(script.sent("USER_END_SESSION", 2)) == 1


# Ending


def test_the_user_ends_the_session():
    script = is_open()
    ticket = script.end()
    assert len(script.sent("USER_END_SESSION")) == 1
    script.hear("USER_END_SESSION")
    assert not ticket.done
    script.hear("SESSION_END", {"reason": "REASON_USER_END"})
    assert ticket.result.reason is SessionEndReason.USER_END
    assert script.disconnected == [(1, 1000, False)]
    assert script.conversation.over
    assert script.statuses[-1] == "closed"
    script.drop(1000, generation=1)
    script.later(1e6)
    assert script.generation == 1
    assert script.end().result is ticket.result
    assert isinstance(script.connect().error, SessionEndedError)


def test_a_message_may_end_the_conversation():
    script = is_open()
    reply = script.ask()
    script.echo(reply.delivery)
    script.answer("Bye.", end_conversation=True)
    assert reply.result.text == "Bye."
    assert script.conversation.end.reason is SessionEndReason.NATURAL_END
    assert [type(n) for n in script.events[-2:]] == [PolyAgentMessage, SessionEnd]
    script.drop(1000, generation=1)
    assert script.generation == 1


def test_a_clean_close_is_the_end_and_what_has_come_is_told_before_it():
    script = is_open()
    reply = script.ask()
    script.echo(reply.delivery)
    script.hear("POLY_AGENT_MESSAGE_CHUNK", chunk("m", 1, "Cer"))
    script.hear("LANGUAGE_CHANGED", sequence=script.write.sequence + 5)  # held back
    script.drop(1000)
    assert (reply.result.text, reply.result.complete) == ("Cer", False)
    assert [type(n) for n in script.events[-4:]] == [
        PolyAgentMessageChunk,
        LanguageChanged,
        PolyAgentMessage,
        SessionEnd,
    ]
    assert script.conversation.end.reason is None
    assert "the server closed it" in str(script.conversation.gone())
    script.later(1e6)
    assert script.generation == 1


def test_a_clean_close_before_the_history_is_complete_is_one_too():
    script = is_open()
    script.drop()
    script.later(2.0)
    script.accept()
    script.hear("SESSION_END", {"reason": "REASON_NATURAL_END"}, sequence=99)
    assert script.phase is Phase.REPLAYING
    script.drop(1000)
    assert script.conversation.end.reason is SessionEndReason.NATURAL_END
    assert len(script.told(SessionEnd)) == 1


def test_a_clean_close_after_the_echo_is_the_users_end():
    script = is_open()
    ticket = script.end()
    script.hear("USER_END_SESSION")
    script.drop(1000)
    assert ticket.result.reason is SessionEndReason.USER_END


def test_all_who_wait_are_told_of_the_end():
    script = is_open()
    script.receive()
    reply, delivery, receiver = script.ask(), script.say(), script.receive()
    script.hear("SESSION_END")
    assert isinstance(reply.error, SessionEndedError)
    assert isinstance(receiver.error, SessionEndedError)
    assert isinstance(delivery.error, DeliveryError)
    assert delivery.error.uncertain


def test_what_was_said_before_the_end_goes_out_before_it():
    script = is_open()
    script.say("first")
    script.drop()
    script.say("second")
    script.end()
    script.later(2.0)
    script.accept()
    script.batch()
    script.later(SETTLE_LIMIT)
    assert not script.sent("USER_END_SESSION")
    script.beat()
    script.later(SETTLE_WAITS[1])
    names = [name for g, name, _ in script.written if g == 2 and name != "HEARTBEAT"]
    assert names == ["USER_MESSAGE", "USER_MESSAGE", "USER_END_SESSION"]
    # And what is said after it would be said to nobody.
    late = script.say("third")
    assert len(script.sent("USER_MESSAGE", 2)) == 2
    script.hear("SESSION_END")
    assert not late.error.uncertain


def test_what_waits_for_an_agent_does_not_hold_up_the_end():
    script = Script()
    script.open()
    delivery = script.say("Anybody?")
    script.end()
    assert len(script.sent("USER_END_SESSION")) == 1
    script.hear("SESSION_END")
    assert isinstance(delivery.error, DeliveryError)
    assert not delivery.error.uncertain


def test_the_agent_is_not_asked_for_when_the_end_is_wanted():
    script = Script()
    script.connect()
    script.create()
    script.end()
    script.accept()
    script.begin()
    assert script.sent("REQUEST_POLY_AGENT_JOIN") == []
    assert len(script.sent("USER_END_SESSION")) == 1


def test_a_wish_to_end_that_was_lost_with_its_connection_is_repeated():
    script = is_open()
    ticket = script.end()
    script.drop()
    script.back()
    assert len(script.sent("USER_END_SESSION", 2)) == 1
    assert not ticket.done


def test_one_that_arrived_is_not():
    script = is_open()
    ticket = script.end()
    script.drop()
    script.later(2.0)
    script.accept()
    script.batch(
        script.write("USER_END_SESSION"),
        script.write("SESSION_END", {"reason": "REASON_USER_END"}),
    )
    assert ticket.result.reason is SessionEndReason.USER_END
    assert not script.sent("USER_END_SESSION", 2)


def test_ending_what_cannot_be_ended_says_so():
    script = Script()
    assert isinstance(script.end().error, ClientClosedError)
    script.connect()
    ticket = script.end()
    script.close()
    assert isinstance(ticket.error, ClientClosedError)
    assert isinstance(script.end().error, ClientClosedError)


def test_nothing_follows_the_end():
    script = is_open()
    script.batch(script.write("SESSION_END"), script.write("LANGUAGE_CHANGED"))
    assert type(script.events[-1]) is SessionEnd


# A session that the server does not know


def test_a_session_that_is_gone_fails_the_conversation_and_all_who_wait():
    script = is_open()
    delivery = script.say()
    script.hear("SYSTEM_MESSAGE", error("Error: Session not found"))
    assert script.conversation.failed
    assert isinstance(script.conversation.gone(), SessionNotFoundError)
    assert isinstance(delivery.error, DeliveryError)
    assert any(isinstance(n, SessionNotFoundError) for n in script.errors())
    assert script.disconnected == [(1, 1000, False)]


def test_what_came_with_that_is_told_all_the_same():
    script = is_open()
    number = script.write.sequence
    late = script.write("SYSTEM_MESSAGE", error("Error: Session not found"))
    script.hear("LANGUAGE_CHANGED")
    assert script.sequences[-1] == number
    script.get(late)
    assert script.sequences[-2:] == [number + 1, number + 2]
    assert script.conversation.failed


def test_that_is_not_remembered_either():
    script = is_open()
    script.hear("SYSTEM_MESSAGE", error("Error: Session not found"))
    ticket = script.connect("agent")
    script.back(script.write("LANGUAGE_CHANGED"))
    assert script.phase is Phase.OPEN
    assert ticket.error is None


def test_an_end_that_came_with_it_is_the_end():
    script = is_open()
    late = script.write("SYSTEM_MESSAGE", error("Error: Session not found"))
    script.hear("SESSION_END")
    script.get(late)
    assert script.conversation.end is not None


@pytest.mark.parametrize("status", [401, 404])
def test_a_session_that_cannot_be_resumed_fails_all_who_wait(status: int):
    script = is_open()
    delivery, ticket = script.say(), script.receive() and script.receive()
    script.drop()
    script.later(2.0)
    script.refuse(status, reason="no")
    assert isinstance(ticket.error, SessionNotFoundError)
    assert isinstance(delivery.error, DeliveryError)
    assert script.statuses[-1] == "failed"
    assert script.conversation.deadline is None


# Closing


def test_closing_leaves_the_session_and_tells_all_who_wait():
    script = is_open()
    script.receive()
    reply, receiver = script.ask(), script.receive()
    script.close()
    assert isinstance(reply.error, ClientClosedError)
    assert isinstance(receiver.error, ClientClosedError)
    assert script.disconnected == [(1, 1000, False)]
    assert not script.sent("USER_END_SESSION")
    assert "restart" in str(script.conversation.gone())
    assert isinstance(script.connect().error, ClientClosedError)
    assert script.conversation.deadline is None


def test_a_connection_closed_while_another_takes_over_leaves_neither():
    script = renewing()
    script.close()
    assert script.disconnected == [(1, 1000, False), (2, 1000, False)]


# Typing


def test_typing_is_shown_throttled_and_taken_back():
    script = is_open()
    for _ in range(4):
        script.conversation.show_typing(TypingState.STARTED, script.now)
        script.collect()
        script.later(1.0)
    script.later(10.0)
    states = [frame["payload"]["state"] for frame in script.sent("USER_TYPING")]
    assert states == [
        "TYPING_STATE_STARTED",
        "TYPING_STATE_STARTED",
        "TYPING_STATE_STOPPED",
    ]


def test_typing_is_shown_to_nobody_while_there_is_no_connection():
    script = is_open()
    script.conversation.show_typing(TypingState.STARTED, script.now)
    script.collect()
    script.drop()
    script.conversation.show_typing(TypingState.STARTED, script.now)
    script.later(1.0)
    script.accept()
    script.conversation.show_typing(TypingState.STARTED, script.now)
    script.collect()
    script.later(20.0)
    assert len(script.sent("USER_TYPING")) == 1


# Earlier lives


def test_a_resumed_session_is_connected_to_with_its_cursor():
    script = Script()
    script.resume(cursor=42)
    ticket = script.connect()
    assert script.sessions == 0
    assert script.cursors == [42]
    script.back(script.write("LANGUAGE_CHANGED"))
    assert ticket.done
    assert script.sequences == [43]


def test_what_it_asked_for_is_remembered():
    """Heartbeats that were off stay off in the next life."""
    script = Script()
    script.resume(heartbeat_interval_seconds=0, max_message_size_bytes=500)
    script.connect()
    script.accept()
    script.later(SETTLE_LIMIT)
    script.later(1000.0)
    assert script.sent("HEARTBEAT") == []
    with pytest.raises(MessageTooLargeError):
        script.say("x" * 500)


def test_with_its_history_it_knows_everything_and_tells_what_is_new():
    script = Script()
    script.resume(cursor=3, replay=True)
    script.connect()
    assert script.cursors == [None]
    script.write = Pen()
    script.accept()
    script.batch(
        script.start(),
        script.write("POLY_AGENT_JOINED", {"agent_name": "Ada"}),
        script.write("POLY_AGENT_MESSAGE", {"text": "Hi!"}),
        script.write("POLY_AGENT_MESSAGE", {"text": "Anything else?"}),
    )
    script.later(SETTLE_LIMIT)
    assert script.sequences == [4]
    history = script.conversation.dialogue.history.events()
    assert [event.sequence for event in history] == [1, 2, 3, 4]
    assert script.receive().result.text == "Anything else?"


def test_a_session_that_was_never_greeted_has_its_greeting_still_to_come():
    script = Script()
    script.resume(cursor=1, joined=False)
    ticket = script.connect("agent")
    script.back()
    script.hear("POLY_AGENT_JOINED")
    script.hear("POLY_AGENT_THINKING")
    assert ticket.done
    reply = script.ask("Well?")
    script.echo(reply.delivery)
    script.answer("Hi!")
    assert not reply.done
    script.answer("Well enough.")
    assert reply.result.text == "Well enough."
    assert script.conversation.dialogue.replies.greeting.text == "Hi!"


def test_the_cursor_for_an_heir_lies_before_what_is_not_whole():
    script = is_open()
    number = script.write.sequence
    script.hear("LANGUAGE_CHANGED")
    assert script.conversation.cursor == number + 1
    script.hear("POLY_AGENT_MESSAGE_CHUNK", chunk("m", 1, "Cer"))
    script.hear("LANGUAGE_CHANGED")
    assert script.conversation.cursor == number + 1
    script.hear("POLY_AGENT_MESSAGE_CHUNK", chunk("m", 2, "tainly", last=True))
    assert script.conversation.cursor == number + 4


def test_a_conversation_that_has_not_begun_has_none():
    assert Script().conversation.cursor is None


def test_an_heir_takes_up_a_stream_in_the_middle():
    script = is_open()
    script.hear("POLY_AGENT_MESSAGE_CHUNK", chunk("m", 1, "Cer"))
    rest = script.write("POLY_AGENT_MESSAGE_CHUNK", chunk("m", 2, "tainly", last=True))
    first = script.write(
        "POLY_AGENT_MESSAGE_CHUNK",
        chunk("m", 1, "Cer"),
        sequence=rest["sequence"] - 1,
    )
    heir = Script()
    heir.resume(cursor=script.conversation.cursor)
    heir.connect()
    heir.back(first, rest)
    assert heir.receive().result.text == "Certainly"
