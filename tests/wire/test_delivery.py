"""Exactly once, whatever the connection does to a message on its way."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from polysync import Client, ConnectionStatus, DeliveryError
from polysync.events import Event, PolyAgentMessage, PolyAgentMessageChunk, UserMessage
from polysync.protocol import inbound
from polysync.sandbox import EchoAgent, Moment, Sandbox, Turn
from tests.clients import PATIENCE, SHORT, Task, client_of, eventually, talking


@pytest.fixture(autouse=True)
def quick_to_settle(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settle a replay soon once both of its signs are there."""
    if request.node.get_closest_marker("stress") is None:
        monkeypatch.setattr(inbound, "SETTLE_WAITS", (2.0, 0.5, 0.01))


@pytest.fixture
def echoing() -> Iterator[tuple[Sandbox, Client]]:
    with talking(EchoAgent) as both:
        yield both


def said(sandbox: Sandbox) -> list[str]:
    """Return what the server has taken of the user."""
    return [message.text for message in sandbox.session.user_messages]


def sent(sandbox: Sandbox) -> list[str]:
    """Return what the client has written, as often as it has."""
    return [
        event["payload"]["text"] for event in sandbox.received.events("USER_MESSAGE")
    ]


def shown(client: Client) -> list[tuple[str, str | None]]:
    """Return the user's side of the transcript."""
    return [
        (item.text, item.delivery) for item in client.transcript if item.role == "user"
    ]


# What can happen to the connection around one message, and how often the message is
# then written: twice if the server has not taken it, and never again if it has.
ACCIDENTS: dict[str, tuple[Callable[[Sandbox], Any], int]] = {
    "lost before the receipt": (lambda s: s.faults.lose_message(), 2),
    "lost before the receipt, orderly": (
        lambda s: s.faults.lose_message(reset=False),
        2,
    ),
    "taken, and dropped before the echo": (lambda s: s.faults.lose_echo(), 1),
    "taken, and dropped before the echo, orderly": (
        lambda s: s.faults.lose_echo(reset=False),
        1,
    ),
    "echo cut in the middle of its frame": (
        lambda s: s.faults.cut_frame("USER_MESSAGE"),
        1,
    ),
    "dropped in place of the echo": (
        lambda s: s.faults.drop_before("USER_MESSAGE"),
        1,
    ),
    "dropped after the echo": (lambda s: s.faults.drop_after("USER_MESSAGE"), 1),
    "reset after the echo": (
        lambda s: s.faults.drop_after("USER_MESSAGE", reset=True),
        1,
    ),
    "dropped before the reply": (
        lambda s: s.faults.drop_before("POLY_AGENT_THINKING"),
        1,
    ),
    "dropped in the middle of the reply": (
        lambda s: s.faults.drop_after("POLY_AGENT_MESSAGE_CHUNK"),
        1,
    ),
    "chunk cut in the middle of its frame": (
        lambda s: s.faults.cut_frame("POLY_AGENT_MESSAGE_CHUNK"),
        1,
    ),
    "closed with 1011 when it comes": (
        lambda s: s.faults.close(1011, type="USER_MESSAGE"),
        2,
    ),
    "closed with 1001 when it is taken": (
        lambda s: s.faults.close(1001, moment=Moment.RECORDED, type="USER_MESSAGE"),
        1,
    ),
}


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_ask_survives(echoing: tuple[Sandbox, Client], accident: str) -> None:
    sandbox, client = echoing
    arm, written = ACCIDENTS[accident]
    fault = arm(sandbox)

    assert client.ask("one two three").text == "one two three"
    assert fault.fired == 1
    assert said(sandbox) == ["one two three"]
    assert sent(sandbox) == ["one two three"] * written
    assert shown(client) == [("one two three", "sent")]
    assert client.ask("next").text == "next"
    assert sandbox.session.connection_total == 2


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_every_event_comes_once_and_in_order(
    echoing: tuple[Sandbox, Client], accident: str
) -> None:
    sandbox, client = echoing
    events = client.events(replay=True)
    ACCIDENTS[accident][0](sandbox)
    client.ask("one two three")
    client.ask("next")
    client.end_session()
    got = [event for event in events if event.sequence is not None]
    history = [event for event in got if not getattr(event, "assembled", False)]

    assert [event.sequence for event in history] == list(range(1, len(history) + 1))
    assert [event.type for event in history] == [
        event["type"] for event in sandbox.session.events
    ]
    wholes = [e.text for e in got if isinstance(e, PolyAgentMessage)]
    assert wholes == ["one two three", "next"]


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_a_burst_survives_in_order(
    echoing: tuple[Sandbox, Client], accident: str
) -> None:
    """The accident meets the third message of ten."""
    sandbox, client = echoing
    texts = [str(number) for number in range(10)]
    fault = ACCIDENTS[accident][0](sandbox)
    fault._after = 2
    futures = [client.submit_message(text) for text in texts]

    assert [future.result(PATIENCE).text for future in futures] == texts
    if accident == "closed with 1011 when it comes":
        # A server that passes over one and takes what follows it.
        assert sorted(said(sandbox)) == texts
        return
    assert said(sandbox) == texts
    assert shown(client) == [(text, "sent") for text in texts]
    sandbox.wait_until(lambda: fault.fired == 1)


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_without_resending_a_message_fails_only_if_it_was_not_taken(
    accident: str,
) -> None:
    arm, written = ACCIDENTS[accident]
    with talking(EchoAgent, resend=False) as (sandbox, client):
        arm(sandbox)
        if written == 1:
            assert client.send_message("one", metadata={"a": "b"}).text == "one"
            return
        with pytest.raises(DeliveryError, match="was not delivered") as caught:
            client.send_message("one", metadata={"a": "b"})
        error = caught.value
        assert not error.uncertain
        assert error.text == "one"
        assert error.metadata == {"a": "b"}
        assert said(sandbox) == []
        assert shown(client) == [("one", "failed")]
        assert client.ask("two").text == "two"
        assert said(sandbox) == ["two"]


def test_identical_messages_in_a_burst_are_told_apart(
    echoing: tuple[Sandbox, Client],
) -> None:
    sandbox, client = echoing
    sandbox.faults.lose_echo(after=1)
    sandbox.faults.lose_message(after=3)
    futures = [client.submit_message("yes") for _ in range(6)]
    ids = [future.result(PATIENCE).message_id for future in futures]

    assert len(set(ids)) == 6
    assert [message.message_id for message in sandbox.session.user_messages] == ids


def test_an_echo_without_metadata_is_recognised_by_its_text() -> None:
    def forgetful(event: dict[str, Any]) -> dict[str, Any]:
        event.pop("metadata", None)
        return event

    with talking(EchoAgent) as (sandbox, client):
        sandbox.faults.rewrite("USER_MESSAGE", forgetful, times=None)
        assert client.ask("one").text == "one"
        assert client.send_message("two").text == "two"


def test_a_message_that_vanished_is_uncertain() -> None:
    """Over the rate limit, the missing echo is the only sign."""
    with talking(EchoAgent) as (sandbox, client):
        sandbox.faults.swallow_messages()
        with pytest.raises(DeliveryError) as caught:
            client.send_message("one", timeout=SHORT)
        assert caught.value.uncertain
        assert client.ask("two").text == "two"
        assert said(sandbox) == ["two"]


def test_a_message_over_the_rate_limit_is_not_confirmed() -> None:
    with talking(EchoAgent, settings={"message_rate": 5.0}, timeout=4 * SHORT) as (
        sandbox,
        client,
    ):
        futures = [client.submit_message(str(number)) for number in range(20)]
        outcomes = [future.exception(PATIENCE) for future in futures]
        delivered = [
            str(number) for number, error in enumerate(outcomes) if error is None
        ]
        assert said(sandbox) == delivered
        assert len(delivered) < 20
        for error in outcomes:
            assert error is None or (
                isinstance(error, DeliveryError) and error.uncertain
            )


def test_giving_up_before_the_truth_is_known() -> None:
    """The connection is gone for good with the message on its way."""
    with talking(EchoAgent, max_reconnects=0) as (sandbox, client):
        sandbox.faults.lose_echo()
        with pytest.raises(DeliveryError, match="may have been delivered") as caught:
            client.send_message("one")
        assert caught.value.uncertain
        assert said(sandbox) == ["one"]

        # Connecting again brings the truth.
        client.connect()
        eventually(lambda: shown(client) == [("one", "sent")])
        assert client.ask("two").text == "two"
        assert said(sandbox) == ["one", "two"]


def test_a_message_that_was_never_written_is_certain(
    echoing: tuple[Sandbox, Client],
) -> None:
    sandbox, client = echoing
    with sandbox.outage():
        eventually(lambda: client.status is ConnectionStatus.RECONNECTING)
        with pytest.raises(DeliveryError) as caught:
            client.send_message("one", timeout=SHORT)
        assert not caught.value.uncertain
    assert client.ask("two").text == "two"
    assert said(sandbox) == ["two"]


def test_a_message_is_not_sent_after_its_caller_gave_up(
    echoing: tuple[Sandbox, Client],
) -> None:
    sandbox, client = echoing
    sandbox.faults.lose_message()
    sandbox.faults.delay(Moment.HANDSHAKE, 4 * SHORT)
    with pytest.raises(DeliveryError) as caught:
        client.send_message("one", timeout=SHORT)
    assert caught.value.uncertain
    assert client.ask("two").text == "two"
    assert said(sandbox) == ["two"]


def test_many_accidents_in_a_row(echoing: tuple[Sandbox, Client]) -> None:
    sandbox, client = echoing
    sandbox.faults.lose_message(times=3)
    sandbox.faults.lose_echo(after=0, times=1)
    assert client.ask("one").text == "one"
    assert said(sandbox) == ["one"]
    assert len(sent(sandbox)) == 4


@pytest.mark.parametrize(
    "arm",
    [
        lambda s: s.faults.drop_mid_replay(0, times=2),
        lambda s: s.faults.drop_mid_replay(1, times=2),
        lambda s: s.faults.drop_mid_replay(1, reset=True, times=2),
        lambda s: s.faults.drop(Moment.REPLAY, times=2),
        lambda s: s.faults.cut_frame("EVENT_BATCH", times=2),
        lambda s: s.faults.drop_after("EVENT_BATCH", times=2),
        lambda s: s.faults.split_replay(1),
        lambda s: s.faults.shuffle_replay(7),
        lambda s: s.faults.overlap_replay(),
        lambda s: s.faults.one_key_replay(),
        lambda s: s.faults.duplicate("EVENT_BATCH", copies=3),
    ],
    ids=range(11),
)
@pytest.mark.parametrize("taken", [False, True])
def test_the_replay_that_decides_may_itself_go_wrong(
    echoing: tuple[Sandbox, Client], arm: Callable[[Sandbox], Any], taken: bool
) -> None:
    sandbox, client = echoing
    client.ask("before")
    events = client.events(UserMessage, PolyAgentMessage)
    if taken:
        sandbox.faults.lose_echo()
    else:
        sandbox.faults.lose_message()
    arm(sandbox)

    assert client.ask("one two").text == "one two"
    assert client.ask("three").text == "three"
    assert said(sandbox) == ["before", "one two", "three"]
    got = [next(events).text for _ in range(4)]
    assert got == ["one two", "one two", "three", "three"]


def test_what_the_agent_says_while_nobody_is_connected_comes_later(
    echoing: tuple[Sandbox, Client],
) -> None:
    sandbox, client = echoing
    client.receive()
    with sandbox.outage():
        for number in range(50):
            sandbox.session.say(str(number))
    assert [client.receive().text for _ in range(50)] == [str(n) for n in range(50)]


def test_the_join_survives_the_loss_of_its_request() -> None:
    for arm in (
        lambda s: s.faults.lose_message("REQUEST_POLY_AGENT_JOIN"),
        lambda s: s.faults.lose_echo("REQUEST_POLY_AGENT_JOIN"),
        lambda s: s.faults.drop_after("REQUEST_POLY_AGENT_JOIN"),
        lambda s: s.faults.drop_before("POLY_AGENT_JOINED"),
        lambda s: s.faults.drop_after("POLY_AGENT_JOINED"),
        lambda s: s.faults.drop_before("POLY_AGENT_THINKING"),
        lambda s: s.faults.drop_after("POLY_AGENT_MESSAGE_CHUNK", times=3),
    ):
        with Sandbox(EchoAgent) as sandbox:
            arm(sandbox)
            with client_of(sandbox) as client:
                assert client.greeting is not None
                assert client.greeting.text == "Hello! How can I help you today?"
                assert client.ask("one").text == "one"
            assert sandbox.session.types.count("POLY_AGENT_JOINED") == 1


def test_the_end_survives_the_loss_of_its_request() -> None:
    for arm in (
        lambda s: s.faults.lose_message("USER_END_SESSION"),
        lambda s: s.faults.lose_echo("USER_END_SESSION"),
        lambda s: s.faults.drop_after("USER_END_SESSION"),
        lambda s: s.faults.drop_before("SESSION_END"),
        lambda s: s.faults.cut_frame("SESSION_END"),
        lambda s: s.faults.drop_after("SESSION_END"),
    ):
        with talking(EchoAgent) as (sandbox, client):
            arm(sandbox)
            assert client.end_session().reason == "REASON_USER_END"
            assert sandbox.session.types.count("SESSION_END") == 1
            assert client.history[-1].type == "EVENT_TYPE_SESSION_END"


def test_a_stream_survives_drops_at_every_chunk() -> None:
    def agent(turn: Turn) -> Iterator[str]:
        for number in range(12):
            yield f"{number} "

    with talking(agent) as (sandbox, client):
        sandbox.faults.drop_after("POLY_AGENT_MESSAGE_CHUNK", times=6)
        reply = client.stream("one")
        parts = [part.text for part in reply if part.text]
        assert parts == [f"{number} " for number in range(12)]
        assert reply.message.text == "".join(parts)
        assert reply.message.complete


def test_chunks_twice_and_out_of_order() -> None:
    def agent(turn: Turn) -> Iterator[str]:
        for number in range(12):
            yield f"{number} "

    with talking(agent) as (sandbox, client):
        sandbox.faults.duplicate("POLY_AGENT_MESSAGE_CHUNK", times=None)
        sandbox.faults.reorder("POLY_AGENT_MESSAGE_CHUNK", times=3, after=2)
        events = client.events(PolyAgentMessageChunk)
        assert client.ask("one").text == "".join(f"{n} " for n in range(12))
        got = [next(events).chunk_index for _ in range(12)]
        assert got == list(range(1, 13))


def test_doubled_events_count_once(echoing: tuple[Sandbox, Client]) -> None:
    sandbox, client = echoing
    for kind in ("USER_MESSAGE", "POLY_AGENT_THINKING", "LANGUAGE_CHANGED"):
        sandbox.faults.duplicate(kind, times=None, copies=2)
    events = client.events()
    client.ask("one")
    sandbox.session.push("LANGUAGE_CHANGED", {"language_code": "fr"})
    client.end_session()
    got = [event.id for event in events if event.id is not None]
    assert len(got) == len(set(got))


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(3))
def test_a_rough_network(seed: int) -> None:
    """Twenty threads, and a network that breaks in every way, by chance."""
    chance = random.Random(seed)
    accidents = list(ACCIDENTS.values())
    with talking(EchoAgent) as (sandbox, client):
        events = client.events(replay=True)
        stop = threading.Event()

        def trouble() -> None:
            while not stop.is_set():
                fault = chance.choice(accidents)[0](sandbox)
                with contextlib.suppress(TimeoutError):
                    sandbox.wait_until(partial(getattr, fault, "fired"), 0.2)

        def talk(name: int) -> None:
            for number in range(6):
                text = f"{name}.{number}"
                if chance.random() < 0.5:
                    client.ask(text)
                else:
                    assert client.send_message(text).text == text

        troubling = Task(trouble)
        tasks = [Task(talk, name) for name in range(20)]
        for task in tasks:
            task.result(4 * PATIENCE)
        stop.set()
        troubling.result()
        sandbox.faults.clear()
        client.end_session()
        texts = said(sandbox)
        assert len(texts) == len(set(texts)) == 120
        assert sandbox.session.connection_total > 1
        got: list[Event] = [
            event
            for event in events
            if event.sequence is not None and not getattr(event, "assembled", False)
        ]
        assert [event.sequence for event in got] == list(range(1, len(got) + 1))
        assert len(got) == len(sandbox.session.events)
