"""Connections that break: noticed, made again, renewed, given up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from polysync import (
    Client,
    ConnectionChange,
    ConnectionLostError,
    ConnectionStatus,
    DeliveryError,
    SessionEndedError,
    SessionNotFoundError,
    SessionTokenError,
)
from polysync.events import PolyAgentMessage, UserMessage
from polysync.protocol import backoff, lifeline
from polysync.sandbox import EchoAgent, Moment, Sandbox, Turn
from tests.clients import (
    NOISE,
    PATIENCE,
    SHORT,
    Task,
    client_of,
    eventually,
    talking,
    threads_of_polysync,
    waiting,
)
from tests.peers import Conn, Head
from tests.wire.scripted import api, client_of_peer, echo, gone, greet, serve

OPEN = ConnectionStatus.OPEN
RECONNECTING = ConnectionStatus.RECONNECTING
FAILED = ConnectionStatus.FAILED
CLOSED = ConnectionStatus.CLOSED


@pytest.fixture
def echoing() -> Iterator[tuple[Sandbox, Client]]:
    with talking(EchoAgent) as both:
        yield both


def of(status: ConnectionStatus) -> Callable[[list[ConnectionChange]], bool]:
    return lambda changes: bool(changes) and changes[-1].status is status


# Test what happens.


@pytest.mark.parametrize(
    "accident",
    [
        lambda session: session.drop(),
        lambda session: session.drop(reset=False),
        *(
            lambda session, code=code: session.close(code)
            for code in (1001, 1008, 1009, 1011, 1012, 1013, 1014, 4000, 4002, 4003)
        ),
    ],
)
def test_a_lost_connection_is_made_again_to_the_same_session(
    echoing: tuple[Sandbox, Client], accident: Callable[[Any], None]
) -> None:
    sandbox, client = echoing
    client.ask("one")
    state = client.state
    assert state is not None
    accident(sandbox.session)
    sandbox.wait_until(lambda: sandbox.session.connection_total == 2)

    assert client.ask("two").text == "two"
    handshakes = sandbox.received.requests_to("/ws")
    assert len(handshakes) == 2
    assert handshakes[1].query["session_id"] == client.session_id
    assert handshakes[1].query["cursor"] == str(state.cursor)
    assert len(sandbox.sessions) == 1
    assert len(sandbox.received.requests_to("/api/v1/access-token")) == 1
    assert client.state is not None
    assert client.state.access_token == state.access_token


def test_a_close_without_a_code_is_a_loss() -> None:
    def closing(conn: Conn, head: Head) -> None:
        greet(conn, head)
        conn.write_close(None)

    with api(closing, serve) as peer, client_of_peer(peer) as client:
        eventually(lambda: len([h for h in peer.requests if "/ws" in h.path]) == 2)
        assert client.send_message("one").text == "one"


def test_changes_tell_what_happens(
    echoing: tuple[Sandbox, Client], recorder: Any
) -> None:
    sandbox, client = echoing
    client.on_connection_change(recorder)
    sandbox.session.close(1011, "oops")
    first, second = recorder.wait_for(of(OPEN))[:2]

    assert first.status is RECONNECTING
    assert first.attempt == 1
    assert 0.004 <= first.delay <= 0.006
    assert "1011" in first.reason
    assert "oops" in first.reason
    assert second.status is OPEN
    assert second.attempt == 0


def test_attempts_are_counted_and_their_delays_doubled(recorder: Any) -> None:
    with talking(EchoAgent, reconnect_delay=0.01, reconnect_delay_max=0.05) as (
        sandbox,
        client,
    ):
        client.on_connection_change(recorder)
        sandbox.faults.refuse_handshake(503, times=5)
        sandbox.session.drop()
        changes = recorder.wait_for(of(OPEN))[:-1]

        assert [change.status for change in changes] == [RECONNECTING] * 6
        assert [change.attempt for change in changes] == [1, 2, 3, 4, 5, 6]
        for change, nominal in zip(
            changes, (0.01, 0.02, 0.04, 0.05, 0.05, 0.05), strict=True
        ):
            assert 0.79 * nominal <= change.delay <= 1.21 * nominal
        assert all("503" in change.reason for change in changes[1:])
        # The next trouble begins at one again.
        client.ask("useful")
        sandbox.session.drop()
        assert recorder.wait_for(lambda c: len(c) >= 8)[7].attempt == 1


def test_status_is_open_again_only_when_messages_go(
    echoing: tuple[Sandbox, Client],
) -> None:
    sandbox, client = echoing
    with sandbox.outage():
        eventually(lambda: client.status is RECONNECTING)
        assert client.session_id is not None
        assert not client.ended
    eventually(lambda: client.status is OPEN)
    assert client.ask("one").text == "one"


def test_calls_that_wait_go_on_waiting() -> None:
    with talking() as (sandbox, client):
        client.receive()
        asking = Task(client.ask, "one")
        receiving = Task(client.receive)
        eventually(waiting(client))
        sandbox.wait_until(lambda: sandbox.session.user_messages)
        with sandbox.outage():
            eventually(lambda: client.status is RECONNECTING)
            sandbox.session.say("answer")
            sandbox.session.say("more")
        assert asking.result().text == "answer"
        assert receiving.result().text == "more"


def test_a_connection_lost_during_its_replay_is_made_again(
    echoing: tuple[Sandbox, Client],
) -> None:
    sandbox, client = echoing
    client.ask("one")
    sandbox.faults.drop_mid_replay(0, times=3)
    sandbox.session.drop()
    sandbox.wait_until(lambda: sandbox.session.connection_total >= 5)
    assert client.ask("two").text == "two"


def test_a_resumed_conversation_survives_a_drop_too(
    echoing: tuple[Sandbox, Client],
) -> None:
    sandbox, client = echoing
    client.ask("one")
    other = Client.resume(client.detach(), reconnect_delay=0.005)
    with other:
        sandbox.session.drop()
        assert other.ask("two").text == "two"
    assert sandbox.session.connection_total == 3


# Test ends that are final.


def test_a_clean_close_by_the_server_is_the_end(
    echoing: tuple[Sandbox, Client], recorder: Any
) -> None:
    sandbox, client = echoing
    client.on_session_end(recorder)
    sandbox.session.close(1000)
    (end,) = recorder.wait_for(1)

    assert end.reason is None
    assert client.ended
    assert client.status is CLOSED
    with pytest.raises(SessionEndedError):
        client.ask("one")
    assert sandbox.session.connection_total == 1


def test_after_the_end_nothing_opens_a_connection_by_itself(
    echoing: tuple[Sandbox, Client],
) -> None:
    sandbox, client = echoing
    sandbox.session.end()
    eventually(lambda: client.ended)
    eventually(lambda: threads_of_polysync() == [])
    assert sandbox.session.connection_total == 1


@pytest.mark.parametrize(
    ("lose", "error"),
    [
        (lambda session: session.forget(), SessionNotFoundError),
        (lambda session: session.close(4001), SessionNotFoundError),
        (
            lambda session: (session.expire_token(), session.drop()),
            SessionTokenError,
        ),
    ],
)
def test_a_session_that_is_gone_is_given_up_at_once(
    echoing: tuple[Sandbox, Client],
    recorder: Any,
    lose: Callable[[Any], None],
    error: type[Exception],
) -> None:
    sandbox, client = echoing
    client.receive()
    client.on_error(recorder)
    task = Task(client.receive)
    eventually(waiting(client))
    lose(sandbox.session)

    assert isinstance(task.outcome(), error)
    assert isinstance(recorder.wait_for(1)[0], error)
    assert client.status is FAILED
    with pytest.raises(error):
        client.ask("one")
    client.restart()
    assert client.ask("one").text == "one"


def test_an_error_that_says_that_the_session_is_gone(
    echoing: tuple[Sandbox, Client],
) -> None:
    sandbox, client = echoing
    sandbox.session.push(
        "SYSTEM_MESSAGE",
        {
            "level": "SYSTEM_MESSAGE_LEVEL_ERROR",
            "message": "Error: Session not found",
        },
    )
    eventually(lambda: client.status is FAILED)
    with pytest.raises(SessionNotFoundError):
        client.ask("one")


# Test the budget.


def test_without_reconnects_the_first_loss_is_the_last(recorder: Any) -> None:
    with talking(EchoAgent, max_reconnects=0) as (sandbox, client):
        client.on_error(recorder)
        sandbox.session.drop()
        (error,) = recorder.wait_for(1)
        assert isinstance(error, ConnectionLostError)
        assert "max_reconnects=0" in str(error)
        assert error.attempts == 0
        assert error.close_code == 1006
        assert client.status is FAILED
        assert sandbox.session.connection_total == 1


def test_after_the_budget_is_spent_the_client_gives_up(recorder: Any) -> None:
    with talking(EchoAgent, max_reconnects=3) as (sandbox, client):
        client.receive()
        client.on_connection_change(recorder)
        refusing = sandbox.faults.refuse_handshake(503, times=None)
        task = Task(client.receive)
        eventually(waiting(client))
        sandbox.session.drop()
        error = task.outcome()

        assert isinstance(error, ConnectionLostError)
        assert error.attempts == 3
        assert error.retryable
        assert "3 attempts" in str(error)
        assert "connect()" in str(error)
        assert refusing.fired == 3
        changes = recorder.wait_for(of(FAILED))
        assert [change.status for change in changes] == [RECONNECTING] * 3 + [FAILED]
        for call in (lambda: client.ask("x"), lambda: client.receive()):
            with pytest.raises(ConnectionLostError):
                call()

        # connect() goes on with the same session.
        refusing.cancel()
        client.connect()
        assert client.ask("one").text == "one"
        assert len(sandbox.sessions) == 1


def test_the_server_s_hint_is_the_budget() -> None:
    with talking(EchoAgent, settings={"max_reconnect_attempts": 2}) as (
        sandbox,
        client,
    ):
        refusing = sandbox.faults.refuse_handshake(503, times=None)
        sandbox.session.drop()
        eventually(lambda: client.status is FAILED)
        assert refusing.fired == 2


@pytest.mark.parametrize("reset", [True, False])
def test_a_server_that_accepts_and_drops_does_not_loop_for_ever(
    recorder: Any, reset: bool
) -> None:
    with talking(EchoAgent, max_reconnects=4) as (sandbox, client):
        client.on_error(recorder)
        fault = sandbox.faults.drop(Moment.REPLAY, times=None, reset=reset)
        sandbox.session.drop()
        (error,) = recorder.wait_for(1)
        assert isinstance(error, ConnectionLostError)
        assert fault.fired == 4
        assert client.status is FAILED


def test_a_server_that_sends_the_history_and_drops_does_not_loop_for_ever(
    recorder: Any,
) -> None:
    with talking(EchoAgent, max_reconnects=4) as (sandbox, client):
        client.on_error(recorder)
        sandbox.faults.drop_after("EVENT_BATCH", times=None, reset=False)
        sandbox.session.drop()
        (error,) = recorder.wait_for(1)
        assert isinstance(error, ConnectionLostError)
        assert sandbox.session.connection_total <= 6


def test_a_useful_connection_gives_the_budget_back() -> None:
    with talking(EchoAgent, max_reconnects=2) as (sandbox, client):
        for number in range(6):
            sandbox.session.drop()
            assert client.ask(str(number)).text == str(number)
        assert sandbox.session.connection_total == 7


def test_a_quiet_connection_proves_itself_by_its_age(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lifeline, "USEFUL_LIFE", SHORT)
    assert backoff.USEFUL_LIFE > 1
    with talking(EchoAgent, max_reconnects=1) as (sandbox, client):
        for total in (2, 3, 4):
            eventually(lambda: client.status is OPEN)
            opened = time.monotonic()
            eventually(lambda opened=opened: time.monotonic() > opened + 1.5 * SHORT)
            sandbox.session.drop()
            sandbox.wait_until(
                lambda total=total: sandbox.session.connection_total == total
            )
        assert client.ask("one").text == "one"


def test_the_wait_that_a_server_asks_for_is_kept(recorder: Any) -> None:
    with talking(EchoAgent) as (sandbox, client):
        client.on_connection_change(recorder)
        sandbox.faults.refuse(Moment.HANDSHAKE, 429, retry_after=3 * SHORT)
        sandbox.session.drop()
        task = Task(client.ask, "one")
        assert task.result().text == "one"
        assert 3 * SHORT * 0.99 <= task.took < 3 * SHORT + NOISE
        changes = recorder.wait_for(of(OPEN))
        assert changes[1].delay == pytest.approx(3 * SHORT)
        assert "429" in changes[1].reason


def test_ten_connections_at_once_are_waited_out() -> None:
    with talking(EchoAgent, settings={"max_connections": 2}) as (sandbox, client):
        state = client.state
        assert state is not None
        others = [Client.resume(state, reconnect_delay=0.005).connect()]
        third = Client.resume(
            state, reconnect_delay=0.01, reconnect_delay_max=0.01, max_reconnects=1000
        )
        task = Task(third.connect)
        sandbox.wait_until(lambda: len(sandbox.received.requests_to("/ws")) >= 4)
        for other in others:
            other.close()
        assert task.result().ask("one").text == "one"
        third.close()


# Test the heartbeat.


def test_a_half_open_connection_is_noticed_within_interval_and_timeout(
    recorder: Any,
) -> None:
    interval, timeout = 4 * SHORT, 10 * SHORT
    with talking(EchoAgent, heartbeat_interval=interval, heartbeat_timeout=timeout) as (
        sandbox,
        client,
    ):
        client.on_connection_change(recorder)
        client.ask("one")
        started = time.monotonic()
        sandbox.session.freeze()
        change = recorder.wait_for(1)[0]
        took = time.monotonic() - started

        assert change.status is RECONNECTING
        assert "heartbeat" in change.reason
        assert timeout * 0.9 <= took < interval + timeout + NOISE
        assert client.ask("two").text == "two"


def test_silent_heartbeats_are_noticed_though_events_come() -> None:
    with talking(heartbeat_interval=SHORT, heartbeat_timeout=2 * SHORT) as (
        sandbox,
        client,
    ):
        sandbox.faults.silence_heartbeats(connection=1)
        total = lambda: sandbox.session.connection_total  # noqa: E731
        while total() == 1:
            sandbox.session.push("SESSION_IDLE_WARNING")
        assert client.send_message("one").text == "one"


def test_a_message_into_a_half_open_connection_arrives_once() -> None:
    with talking(EchoAgent, heartbeat_interval=SHORT, heartbeat_timeout=4 * SHORT) as (
        sandbox,
        client,
    ):
        sandbox.faults.half_open()
        assert client.ask("one").text == "one"
        assert [m.text for m in sandbox.session.user_messages] == ["one"]


def test_heartbeats_follow_the_server() -> None:
    with talking(settings={"heartbeat_interval_seconds": 1}) as (_, client):
        assert client.capabilities is not None
        assert client.capabilities.heartbeat_interval_seconds == 1
        assert client._engine.conversation.lifeline._heartbeat._interval == 1


def test_heartbeats_can_be_switched_off_and_stay_off() -> None:
    for settings, options in (
        ({"heartbeat_interval_seconds": 0}, {}),
        ({}, {"heartbeat_interval": 0}),
    ):
        with talking(EchoAgent, settings=settings, **options) as (  # type: ignore[arg-type]
            sandbox,
            client,
        ):
            sandbox.session.drop()
            assert client.ask("one").text == "one"
            assert sandbox.received.events("HEARTBEAT") == []


def test_heartbeats_keep_a_session_alive() -> None:
    with talking(settings={"idle_timeout": 20 * SHORT}, heartbeat_interval=SHORT) as (
        sandbox,
        client,
    ):
        sandbox.wait_until(
            lambda: len(sandbox.received.events("HEARTBEAT")) >= 30, PATIENCE
        )
        assert not client.ended


def test_a_slow_callback_does_not_cost_the_connection(recorder: Any) -> None:
    import threading

    release = threading.Event()
    with talking(EchoAgent, heartbeat_interval=SHORT, heartbeat_timeout=20 * SHORT) as (
        sandbox,
        client,
    ):
        client.on_event(lambda event: release.wait(PATIENCE))
        client.ask("one")
        beats = len(sandbox.received.events("HEARTBEAT"))
        sandbox.wait_until(
            lambda: len(sandbox.received.events("HEARTBEAT")) >= beats + 30, PATIENCE
        )
        assert sandbox.session.connection_total == 1
        release.set()


# Test renewal.


@pytest.fixture
def short_life(monkeypatch: pytest.MonkeyPatch) -> float:
    life = 3 * SHORT
    monkeypatch.setattr(lifeline, "CONNECTION_LIFE", life)
    monkeypatch.setattr(lifeline, "RENEW_AGAIN", SHORT)
    return life


def test_a_connection_is_renewed_and_nobody_notices(
    short_life: float, recorder: Any
) -> None:
    with talking(EchoAgent) as (sandbox, client):
        client.on_connection_change(recorder)
        events = client.events(UserMessage, PolyAgentMessage)
        number = 0
        while sandbox.session.connection_total < 5:
            assert client.ask(str(number)).text == str(number)
            number += 1
        assert [m.text for m in sandbox.session.user_messages] == [
            str(n) for n in range(number)
        ]
        got = [next(events).text for _ in range(2 * number)]
        assert got == [str(n // 2) for n in range(2 * number)]
        assert recorder.items == []
        assert client.status is OPEN
        # At least one at any time, and two for a moment only.
        eventually(lambda: sandbox.session.connections == 1)


def test_a_quiet_connection_is_renewed_too(short_life: float) -> None:
    with talking() as (sandbox, client):
        sandbox.wait_until(lambda: sandbox.session.connection_total >= 4, PATIENCE)
        assert client.status is OPEN
        assert client.send_message("one").text == "one"


def test_a_stream_goes_over_a_renewal(short_life: float) -> None:
    def agent(turn: Turn) -> Iterator[str]:
        total = turn.session.connection_total
        number = 0
        pause = __import__("threading").Event()
        while turn.session.connection_total < total + 3:
            pause.wait(0.005)
            yield f"{number} "
            number += 1

    with talking(agent) as (sandbox, client):
        reply = client.stream("one")
        parts = [part.text for part in reply if part.text]
        assert parts == [f"{number} " for number in range(len(parts))]
        assert reply.message.complete


def test_callers_in_many_threads_do_not_notice_a_renewal(short_life: float) -> None:
    with talking(EchoAgent) as (sandbox, client):

        def talk(name: int) -> list[str]:
            texts = []
            while sandbox.session.connection_total < 4:
                text = f"{name}.{len(texts)}"
                assert client.send_message(text).text == text
                texts.append(text)
            return texts

        tasks = [Task(talk, name) for name in range(8)]
        texts = [text for task in tasks for text in task.result()]
        said = [message.text for message in sandbox.session.user_messages]
        assert sorted(said) == sorted(texts)


def test_a_renewal_that_fails_is_tried_again(short_life: float, recorder: Any) -> None:
    with talking(EchoAgent) as (sandbox, client):
        client.on_connection_change(recorder)
        refusing = sandbox.faults.refuse_handshake(503, times=2)
        sandbox.wait_until(lambda: sandbox.session.connection_total >= 2, PATIENCE)
        assert refusing.fired == 2
        assert client.ask("one").text == "one"
        assert recorder.items == []


def test_a_connection_that_breaks_while_it_is_renewed(short_life: float) -> None:
    with talking(EchoAgent) as (sandbox, client):
        sandbox.faults.delay(Moment.HANDSHAKE, 2 * SHORT)
        sandbox.wait_until(
            lambda: len(sandbox.received.requests_to("/ws")) >= 2, PATIENCE
        )
        sandbox.session.drop()
        assert client.ask("one").text == "one"
        assert client.ask("two").text == "two"
        assert [m.text for m in sandbox.session.user_messages] == ["one", "two"]


def test_a_server_that_ends_connections_of_its_own_is_no_trouble() -> None:
    with talking(EchoAgent, settings={"connection_lifetime": 6 * SHORT}) as (
        sandbox,
        client,
    ):
        number = 0
        while sandbox.session.connection_total < 4:
            assert client.ask(str(number)).text == str(number)
            number += 1
        said = [message.text for message in sandbox.session.user_messages]
        assert said == [str(n) for n in range(number)]


def test_a_late_close_of_an_old_connection_does_not_touch_the_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The old one ignores the close frame of the renewal, and is cut much later."""
    monkeypatch.setattr(lifeline, "CONNECTION_LIFE", 2 * SHORT)

    def lingering(conn: Conn, head: Head) -> None:
        greet(conn, head)
        import json

        while True:
            frame = conn.read_frame()
            if frame.opcode == 0x8:
                monkeypatch.setattr(lifeline, "CONNECTION_LIFE", 3600.0)
                conn.wait_closed()
                gone()
            if frame.opcode == 0x1 and "HEARTBEAT" in frame.text:
                conn.write_text(json.dumps({**json.loads(frame.text), "id": None}))

    with api(lingering, serve) as peer, client_of_peer(peer) as client:
        eventually(lambda: len([h for h in peer.requests if "/ws" in h.path]) == 2)
        eventually(lambda: client._engine.conversation.lifeline.successor is None)
        assert client.send_message("one").text == "one"
        assert client.status is OPEN


# Test the starts.


def test_a_handshake_refused_at_the_start_is_tried_again() -> None:
    for status in (429, 500, 503):
        with Sandbox(EchoAgent) as sandbox:
            sandbox.faults.refuse_handshake(status, times=2)
            with client_of(sandbox) as client:
                assert client.ask("one").text == "one"
            assert len(sandbox.sessions) == 1


def test_an_outage_at_the_start_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polysync.runtime.rest.BASE_DELAY", 0.01)
    with Sandbox(EchoAgent) as sandbox:
        client = client_of(sandbox)
        with sandbox.outage():
            task = Task(client.connect)
            eventually(lambda: threads_of_polysync())
        assert task.result().ask("one").text == "one"
        client.close()


def test_messages_that_a_dead_connection_took_are_uncertain_at_the_end() -> None:
    with talking(EchoAgent, max_reconnects=1) as (sandbox, client):
        sandbox.faults.half_open()
        future = client.submit_message("one")
        sandbox.wait_until(lambda: sandbox.received.events("USER_MESSAGE"))
        sandbox.faults.refuse_handshake(503, times=None)
        sandbox.session.drop()
        error = future.exception(PATIENCE)
        assert isinstance(error, DeliveryError)
        assert error.uncertain
        assert echo is not None
