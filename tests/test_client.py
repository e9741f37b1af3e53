"""The life of a client: connecting, leaving, closing, and what it shows of itself."""

from __future__ import annotations

import gc
import logging
import pickle
import threading
import warnings
from typing import Any

import pytest

import polysync
from polysync import (
    AgentError,
    Client,
    ClientClosedError,
    ConfigurationError,
    ConnectionStatus,
    ConnectTimeoutError,
    EndTimeoutError,
    PolysyncError,
    SessionEndedError,
    SessionEndReason,
)
from polysync.events import PolyAgentJoined, SessionEnd, SessionStart
from polysync.protocol import joining
from polysync.sandbox import EchoAgent, Moment, Sandbox, SilentAgent
from tests.clients import (
    NOISE,
    PATIENCE,
    SHORT,
    Task,
    client_of,
    eventually,
    talking,
    threads_of_polysync,
)

GREETING = "Hello! How can I help you today?"


@pytest.fixture
def sandbox() -> Any:
    with Sandbox(EchoAgent) as running:
        yield running


# Test connect.


def test_three_lines_do(capsys: pytest.CaptureFixture[str]) -> None:
    """The embedded sandbox needs no credentials."""
    with Client(environment="sandbox") as client:
        assert client.greeting is not None
        print(client.greeting.text)
        print(client.ask("A table for two, please").text)

    said = capsys.readouterr().out.splitlines()
    assert len(said) >= 2
    assert all(said)


def test_a_constructor_starts_and_sends_nothing(sandbox: Sandbox) -> None:
    client = client_of(sandbox)

    assert client.status is ConnectionStatus.IDLE
    assert threads_of_polysync() == []
    assert sandbox.received.requests == []


def test_connect_waits_for_the_greeting_and_returns_the_client(
    sandbox: Sandbox,
) -> None:
    client = client_of(sandbox)
    assert client.connect() is client

    assert client.greeting is not None
    assert client.greeting.text == GREETING
    assert client.status is ConnectionStatus.OPEN
    client.close()


def test_connect_goes_through_every_step_once(sandbox: Sandbox) -> None:
    with client_of(sandbox) as client:
        assert client.session_id == sandbox.session.id
    requests = sandbox.received.requests

    assert [request.path for request in requests] == [
        "/api/v1/access-token",
        "/api/v1/sessions",
        "/ws",
    ]
    assert requests[0].header("x-host") == sandbox.host
    assert "cursor" not in requests[2].query
    assert len(sandbox.received.events("REQUEST_POLY_AGENT_JOIN")) == 1


def test_connect_can_wait_for_the_agent_alone() -> None:
    with talking(SilentAgent(""), connect={"wait": "agent"}) as (_, client):
        assert client.agent is not None
        assert client.agent.name == "Silent"
        assert client.greeting is None


def test_connect_can_wait_for_the_session_alone() -> None:
    with Sandbox(EchoAgent) as sandbox:
        held = sandbox.faults.delay(Moment.JOIN, 60.0)
        client = client_of(sandbox).connect(wait="session")
        assert client.capabilities is not None
        assert client.agent is None
        sandbox.wait_until(lambda: held.fired == 1)
        client.close()


def test_connect_without_joining_asks_for_no_agent(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect(join=False)
    client.send_typing()
    sandbox.wait_until(lambda: sandbox.received.events("USER_TYPING"))

    assert sandbox.received.events("REQUEST_POLY_AGENT_JOIN") == []
    assert client.capabilities is not None
    assert client.context_id == sandbox.session.context_id
    client.close()


@pytest.mark.parametrize("wait", ["greeting", "agent"])
def test_connect_without_joining_waits_for_the_session_whatever_is_said(
    sandbox: Sandbox, wait: str
) -> None:
    client = client_of(sandbox).connect(join=False, wait=wait, timeout=PATIENCE)
    assert client.greeting is None
    client.close()


def test_connecting_again_only_waits(sandbox: Sandbox) -> None:
    with client_of(sandbox) as client:
        for wait in ("session", "agent", "greeting"):
            assert client.connect(wait=wait) is client

    assert len(sandbox.received.requests) == 3


def test_connecting_again_can_ask_for_the_agent(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect(join=False)
    client.connect()

    assert client.greeting is not None
    assert client.greeting.text == GREETING
    assert len(sandbox.received.requests) == 3
    client.close()


def test_twenty_threads_connect_one_client_once(sandbox: Sandbox) -> None:
    client = client_of(sandbox)
    tasks = [Task(client.connect) for _ in range(20)]
    assert all(task.result() is client for task in tasks)

    assert len(sandbox.received.requests) == 3
    client.close()


def test_a_short_connect_does_not_end_the_start_that_a_longer_one_waits_for() -> None:
    with Sandbox(EchoAgent) as sandbox:
        held = sandbox.faults.delay(Moment.JOIN, 5 * SHORT)
        client = client_of(sandbox)
        long = Task(client.connect)
        sandbox.wait_until(lambda: held.fired == 1)
        with pytest.raises(ConnectTimeoutError):
            client.connect(timeout=SHORT)

        assert long.result() is client
        assert len(sandbox.received.requests) == 3
        client.close()


def test_connect_reports_no_progress_beyond_its_timeout(sandbox: Sandbox) -> None:
    with Sandbox(SilentAgent("")) as silent:
        client = client_of(silent)
        with pytest.raises(ConnectTimeoutError, match="sent no greeting yet") as caught:
            client.connect(timeout=4 * SHORT)
        assert caught.value.timeout == 4 * SHORT
        assert isinstance(caught.value, TimeoutError)
        assert client.status is ConnectionStatus.IDLE
        assert threads_of_polysync() == []


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        (Moment.ACCESS_TOKEN, "has not created a session yet"),
        (Moment.SESSION, "has not created a session yet"),
        (Moment.HANDSHAKE, "the WebSocket is not open yet"),
        (Moment.REPLAY, "has not sent the history yet"),
        (Moment.JOIN, "the agent has not joined yet"),
    ],
)
def test_connect_says_at_which_step_time_ran_out(
    sandbox: Sandbox, moment: Moment, words: str
) -> None:
    if moment is Moment.JOIN:
        sandbox.faults.delay(moment, 60.0)
    else:
        sandbox.faults.stall(moment)
    client = client_of(sandbox)
    task = Task(client.connect, timeout=4 * SHORT)
    error = task.outcome()

    assert isinstance(error, ConnectTimeoutError)
    # At the first two steps, the step itself may be the first to notice.
    assert words in str(error) or "did not answer in time" in str(error)
    assert 3.9 * SHORT <= task.took < 4 * SHORT + 1.0 + NOISE
    assert client.status is ConnectionStatus.IDLE
    assert threads_of_polysync() == []


@pytest.mark.parametrize("moment", [Moment.SESSION, Moment.HANDSHAKE, Moment.REPLAY])
def test_the_next_connect_tries_again(sandbox: Sandbox, moment: Moment) -> None:
    sandbox.faults.stall(moment)
    client = client_of(sandbox)
    with pytest.raises(ConnectTimeoutError):
        client.connect(timeout=2 * SHORT)
    client.connect()

    assert client.ask("one").text == "one"
    client.close()


def test_connect_raises_what_the_agent_could_not_start_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(joining, "REJOIN_AFTER", 0.01)
    with Sandbox(EchoAgent) as sandbox:
        failing = sandbox.faults.fail_join(times=None)
        client = client_of(sandbox)
        with pytest.raises(AgentError, match="unable to start") as caught:
            client.connect()
        assert caught.value.transient
        assert failing.fired == 1 + joining.REJOINS
        failing.cancel()
        client.connect()
        assert client.greeting is not None
        client.close()


def test_an_agent_that_fails_to_start_once_is_asked_for_again(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "REJOIN_AFTER", 0.01)
    sandbox.faults.fail_join()
    with client_of(sandbox) as client:
        assert client.greeting is not None
        assert client.greeting.text == GREETING


def test_connect_refuses_to_wait_for_what_there_is_not(sandbox: Sandbox) -> None:
    client = client_of(sandbox)
    with pytest.raises(ConfigurationError, match="greeting, agent, session"):
        client.connect(wait="forever")
    assert sandbox.received.requests == []


# Test leaving.


def test_leaving_with_ends_the_session_and_closes(sandbox: Sandbox) -> None:
    with client_of(sandbox) as client:
        pass
    session = sandbox.session

    assert session.end_reason == "REASON_USER_END"
    assert client.ended
    assert client.end_reason is SessionEndReason.USER_END
    assert client.status is ConnectionStatus.CLOSED
    assert threads_of_polysync() == []


def test_leaving_with_an_error_ends_the_session_and_lets_the_error_through(
    sandbox: Sandbox,
) -> None:
    with pytest.raises(KeyError), client_of(sandbox):
        raise KeyError("mine")
    assert sandbox.session.ended


def test_leaving_with_a_server_that_does_not_answer_raises_nothing(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(polysync.client, "_LEAVE_TIMEOUT", SHORT)
    with caplog.at_level(logging.WARNING), client_of(sandbox):
        sandbox.faults.half_open()

    assert "could not be ended" in caplog.text
    assert threads_of_polysync() == []


def test_leaving_after_close_does_nothing_more(sandbox: Sandbox) -> None:
    with client_of(sandbox) as client:
        client.close()
    assert not sandbox.session.ended


# Test end_session.


def test_end_session_returns_the_end_and_closes(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    end = client.end_session()

    assert isinstance(end, SessionEnd)
    assert end.reason is SessionEndReason.USER_END
    assert client.status is ConnectionStatus.CLOSED
    assert client.ended
    assert threads_of_polysync() == []


def test_end_session_of_an_ended_one_tells_how_it_ended(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    sandbox.session.end("REASON_NATURAL_END")
    eventually(lambda: client.ended)

    assert client.end_session().reason is SessionEndReason.NATURAL_END
    assert client.end_session().reason is SessionEndReason.NATURAL_END
    assert sandbox.received.events("USER_END_SESSION") == []


def test_end_session_of_an_unconnected_client_is_refused(sandbox: Sandbox) -> None:
    client = client_of(sandbox)
    with pytest.raises(ClientClosedError, match=r"connect\(\)"):
        client.end_session()

    with client:
        assert client.ask("still works").text == "still works"


def test_end_session_that_is_not_confirmed_closes_all_the_same(
    sandbox: Sandbox,
) -> None:
    client = client_of(sandbox).connect()
    sandbox.faults.half_open()
    task = Task(client.end_session, timeout=SHORT)
    error = task.outcome()

    assert isinstance(error, EndTimeoutError)
    assert isinstance(error, TimeoutError)
    assert error.timeout == SHORT
    assert "ten minutes" in str(error)
    assert task.took >= 0.99 * SHORT
    assert client.status is ConnectionStatus.CLOSED
    assert threads_of_polysync() == []


def test_end_session_waits_for_messages_that_were_sent_before(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    future = client.submit_message("last words")
    client.end_session()

    assert future.result(PATIENCE).text == "last words"
    assert [m.text for m in sandbox.session.user_messages] == ["last words"]


def test_after_the_end_calls_say_that_it_is_over(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    client.end_session()
    for call in (
        lambda: client.ask("one"),
        lambda: client.stream("one"),
        lambda: client.send_message("one"),
        lambda: client.submit_message("one"),
        lambda: client.wait_for(timeout=PATIENCE),
        lambda: client.send_typing(),
        lambda: client.request_agent_join(),
        lambda: client.connect(),
        lambda: client.detach(),
    ):
        with pytest.raises(SessionEndedError, match=r"restart\(\)") as caught:
            call()
        assert caught.value.reason is SessionEndReason.USER_END
    assert list(client.events()) == []


# Test close.


def test_close_leaves_the_session_open(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    client.close()
    sandbox.wait_until(lambda: sandbox.session.connections == 0)

    assert not sandbox.session.ended
    assert not client.ended
    assert client.status is ConnectionStatus.CLOSED


def test_close_twice_is_one(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    for _ in range(3):
        client.close()
    assert threads_of_polysync() == []


def test_close_of_an_unconnected_client_closes_it(sandbox: Sandbox) -> None:
    client = client_of(sandbox)
    client.close()
    with pytest.raises(ClientClosedError, match="the client is closed"):
        client.connect()
    assert sandbox.received.requests == []


def test_after_close_calls_say_so(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    client.receive()
    client.close()
    for call in (
        lambda: client.ask("one"),
        lambda: client.stream("one"),
        lambda: client.send_message("one"),
        lambda: client.submit_message("one"),
        lambda: client.receive(),
        lambda: client.wait_for(),
        lambda: client.send_typing(),
        lambda: client.request_agent_join(),
        lambda: client.end_session(),
        lambda: client.connect(),
        lambda: client.detach(),
    ):
        with pytest.raises(ClientClosedError, match=r"closed.*restart\(\)"):
            call()
    assert list(client.events()) == []
    assert len(sandbox.received.requests) == 3


def test_calls_before_connect_say_what_to_do(sandbox: Sandbox) -> None:
    client = client_of(sandbox)
    for call in (
        lambda: client.ask("one"),
        lambda: client.stream("one"),
        lambda: client.send_message("one"),
        lambda: client.submit_message("one"),
        lambda: client.receive(),
        lambda: client.wait_for(),
        lambda: next(iter(client.events())),
        lambda: client.send_typing(),
        lambda: client.request_agent_join(),
        lambda: client.detach(),
        lambda: client.end_session(),
    ):
        with pytest.raises(ClientClosedError, match=r"not connected: call connect\(\)"):
            call()
    assert sandbox.received.requests == []

    with client:
        assert client.ask("one").text == "one"


@pytest.mark.parametrize(
    "moment", [Moment.ACCESS_TOKEN, Moment.SESSION, Moment.HANDSHAKE, Moment.REPLAY]
)
def test_close_wakes_a_connect_at_once(sandbox: Sandbox, moment: Moment) -> None:
    fault = sandbox.faults.stall(moment)
    client = client_of(sandbox)
    task = Task(client.connect)
    sandbox.wait_until(lambda: fault.fired == 1)
    closing = Task(client.close)
    closing.result()

    assert isinstance(task.outcome(NOISE), ClientClosedError)
    assert closing.took < 1.0 + NOISE
    assert threads_of_polysync() == []


def test_close_wakes_a_connect_that_waits_to_retry(sandbox: Sandbox) -> None:
    fault = sandbox.faults.refuse_access_token(500, times=None)
    client = client_of(sandbox)
    task = Task(client.connect)
    sandbox.wait_until(lambda: fault.fired == 1)
    client.close()

    assert isinstance(task.outcome(NOISE), ClientClosedError)
    assert threads_of_polysync() == []


def test_close_wakes_every_call_that_waits() -> None:
    with talking() as (_, client):
        client.receive()
        calls = [
            Task(client.ask, "one"),
            Task(lambda: client.stream("two").message),
            Task(client.receive),
            Task(client.wait_for, SessionEnd),
        ]
        events = Task(lambda: list(client.events()))
        eventually(
            lambda: client._engine.read(
                lambda c: (
                    len(c.dialogue.replies._armed) == 2
                    and len(c.dialogue.replies._receivers) == 1
                )
            )
        )
        eventually(lambda: len(client._engine._subscriptions._references) == 2)
        client.close()

        for task in calls:
            assert isinstance(task.outcome(NOISE), ClientClosedError)
        assert isinstance(events.result(), list)


def test_close_fails_a_message_on_its_way_as_uncertain() -> None:
    with talking() as (sandbox, client):
        sandbox.faults.half_open()
        future = client.submit_message("one")
        sandbox.wait_until(lambda: sandbox.received.events("USER_MESSAGE"))
        client.close()
        error = future.exception(PATIENCE)

        assert isinstance(error, polysync.DeliveryError)
        assert error.uncertain
        assert error.text == "one"


def test_close_is_quick_with_a_mute_server(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    sandbox.session.freeze()
    closing = Task(client.close)
    closing.result()

    assert closing.took < 1.0 + NOISE
    assert threads_of_polysync() == []


def test_close_while_reconnecting_ends_the_attempts(sandbox: Sandbox) -> None:
    client = client_of(sandbox, reconnect_delay=60.0, reconnect_delay_max=60.0)
    client.connect()
    sandbox.session.drop()
    eventually(lambda: client.status is ConnectionStatus.RECONNECTING)
    client.close()

    assert client.status is ConnectionStatus.CLOSED
    assert threads_of_polysync() == []


def test_no_thread_is_left_however_the_conversation_ended(sandbox: Sandbox) -> None:
    for end in ("end", "close", "drop"):
        client = client_of(sandbox, max_reconnects=0).connect()
        session = sandbox.session
        if end == "end":
            session.end()
        elif end == "close":
            session.close(1000)
        else:
            session.drop()
        eventually(
            lambda client=client: (
                client.status in (ConnectionStatus.CLOSED, ConnectionStatus.FAILED)
            )
        )
        client.close()
        assert threads_of_polysync() == []


def test_many_threads_may_close(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    tasks = [Task(client.close) for _ in range(10)]
    for task in tasks:
        task.result()
    assert threads_of_polysync() == []


# Test what is forgotten.


def test_a_forgotten_client_is_closed_with_a_warning(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del client
        gc.collect()

    assert [w.category for w in caught] == [ResourceWarning]
    assert "with statement" in str(caught[0].message)
    assert sandbox.connector_token not in str(caught[0].message)
    sandbox.wait_until(lambda: sandbox.session.connections == 0)
    eventually(lambda: threads_of_polysync() == [])


def test_a_closed_client_is_forgotten_in_silence(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    client.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del client
        gc.collect()


def test_a_client_with_callbacks_that_refer_to_it_is_still_closed(
    sandbox: Sandbox,
) -> None:
    client = client_of(sandbox)
    client.on_event(lambda event, mine=client: mine.status)
    client.connect()

    def forgotten() -> bool:
        gc.collect()  # in vain as long as a callback runs
        return sandbox.session.connections == 0

    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        del client
        eventually(forgotten)
    eventually(lambda: threads_of_polysync() == [])


def test_an_iterator_keeps_its_client(sandbox: Sandbox) -> None:
    events = client_of(sandbox).connect().events()
    gc.collect()
    sandbox.session.push("SESSION_IDLE_WARNING")
    assert next(events).type == "EVENT_TYPE_SESSION_IDLE_WARNING"
    sandbox.session.end()
    assert [type(event) for event in events] == [SessionEnd]


def test_a_reply_keeps_its_client(sandbox: Sandbox) -> None:
    reply = client_of(sandbox).connect().stream("over and out")
    gc.collect()
    assert reply.message.text == "over and out"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del reply
        gc.collect()


# Test what it shows.


def test_repr_tells_where_it_stands_and_no_secret(sandbox: Sandbox) -> None:
    client = client_of(sandbox, access_token=None)
    assert repr(client) == f"<polysync.Client {sandbox.base_url} session=None idle>"
    with client:
        shown = repr(client)
        assert client.session_id is not None
        assert client.session_id in shown
        assert "open" in shown
        state = client.state
        assert state is not None
        for text in (shown, repr(state), str(state)):
            assert sandbox.connector_token not in text
            assert state.access_token not in text
    assert "closed" in repr(client)


def test_a_client_is_not_pickled(sandbox: Sandbox) -> None:
    with pytest.raises(TypeError, match=r"client\.detach\(\)"):
        pickle.dumps(client_of(sandbox))


def test_everything_is_unset_before_there_is_a_session(sandbox: Sandbox) -> None:
    client = client_of(sandbox)
    for name in (
        "session_id",
        "state",
        "greeting",
        "agent",
        "live_agent",
        "handoff",
        "capabilities",
        "context_id",
        "language",
        "end_reason",
    ):
        assert getattr(client, name) is None
    assert not client.ended
    assert not client.agent_is_typing
    assert client.history == ()
    assert len(client.transcript) == 0


def test_status_goes_through_its_stations(sandbox: Sandbox, recorder: Any) -> None:
    client = client_of(sandbox)
    client.on_connection_change(recorder)
    with client:
        pass
    changes = recorder.wait_for(3)

    assert [change.status for change in changes] == [
        ConnectionStatus.CONNECTING,
        ConnectionStatus.OPEN,
        ConnectionStatus.CLOSED,
    ]
    assert [change.attempt for change in changes] == [0, 0, 0]
    assert "ended" in changes[-1].reason


def test_properties_show_the_session(sandbox: Sandbox) -> None:
    with client_of(sandbox) as client:
        capabilities = client.capabilities
        assert capabilities is not None
        assert capabilities.streaming is True
        assert capabilities.max_message_size_bytes == 131_072
        assert capabilities.max_reconnect_attempts == 10
        assert capabilities.heartbeat_interval_seconds == 30
        assert client.context_id == sandbox.session.context_id
        agent = client.agent
        assert agent is not None
        assert agent.name == "Echo"
        assert agent.avatar_url is not None


def test_history_is_what_the_server_sent_in_order(sandbox: Sandbox) -> None:
    with client_of(sandbox) as client:
        client.ask("one")
        history = client.history
        sent = [event["type"] for event in sandbox.session.events]

        assert [event.type for event in history] == sent
        assert [event.sequence for event in history] == list(range(1, len(sent) + 1))
        assert isinstance(history[0], SessionStart)
        assert not any(getattr(event, "assembled", False) for event in history)


def test_history_can_be_limited(sandbox: Sandbox) -> None:
    with client_of(sandbox, history_limit=3) as client:
        for number in range(10):
            client.ask(str(number))
        assert len(client.history) == 3
        assert client.history[-1].sequence == len(sandbox.session.events)


def test_transcript_is_for_people(sandbox: Sandbox) -> None:
    with client_of(sandbox) as client:
        client.ask("one")
        transcript = client.transcript

        assert [(item.role, item.text) for item in transcript] == [
            ("agent", GREETING),
            ("user", "one"),
            ("agent", "one"),
        ]
        assert [item.delivery for item in transcript] == [None, "sent", None]
        assert transcript[0].agent_name == "Echo"
        assert str(transcript) == f"Agent: {GREETING}\nUser: one\nAgent: one"


def test_transcript_shows_messages_on_their_way() -> None:
    with talking() as (sandbox, client):
        sandbox.faults.half_open()
        future = client.submit_message("one")
        assert [(i.text, i.delivery) for i in client.transcript][1:] == [
            ("one", "pending")
        ]
        client.close()
        assert future.exception(PATIENCE) is not None
        assert [(i.text, i.delivery) for i in client.transcript][1:] == [
            ("one", "failed")
        ]


def test_agent_is_typing_while_it_prepares_a_message() -> None:
    with talking() as (sandbox, client):
        assert not client.agent_is_typing
        client.send_message("one")
        eventually(lambda: client.agent_is_typing)
        sandbox.session.say("done")
        eventually(lambda: not client.agent_is_typing)


def test_language_is_the_latest() -> None:
    with talking() as (sandbox, client):
        for code in ("fr-FR", "de-DE"):
            sandbox.session.push("LANGUAGE_CHANGED", {"language_code": code})
        eventually(lambda: client.language == "de-DE")


def test_handoff_and_live_agent_follow_the_events() -> None:
    with talking() as (sandbox, client):
        push = sandbox.session.push
        push("POLY_AGENT_TRIGGERED_HANDOFF")
        push("HANDOFF_ACCEPTED", {"queue_name": "Front"})
        push("HANDOFF_QUEUE_STATUS", {"position_in_queue": 2})
        eventually(lambda: client.handoff and client.handoff.position_in_queue == 2)
        assert client.handoff is not None
        assert client.handoff.queue_name == "Front"
        assert client.live_agent is None
        push("LIVE_AGENT_JOINED", {"agent": {"id": "7", "name": "Sam"}})
        eventually(lambda: client.live_agent)
        assert client.live_agent is not None
        assert client.live_agent.name == "Sam"
        assert client.handoff.status == "connected"
        push("LIVE_AGENT_LEFT", {"agent_id": "7"})
        eventually(lambda: client.live_agent is None)
        assert not client.ended


def test_reading_properties_never_waits_for_a_slow_server(sandbox: Sandbox) -> None:
    fault = sandbox.faults.stall(Moment.SESSION)
    client = client_of(sandbox)
    task = Task(client.connect)
    sandbox.wait_until(lambda: fault.fired == 1)
    assert client.status is ConnectionStatus.CONNECTING
    assert client.history == ()
    assert client.state is None
    client.close()
    task.outcome()


def test_the_join_is_an_event_for_those_who_listened_before(sandbox: Sandbox) -> None:
    client = client_of(sandbox)
    events = client.events(SessionStart, PolyAgentJoined)
    with client:
        assert isinstance(next(events), SessionStart)
        assert isinstance(next(events), PolyAgentJoined)


def test_errors_of_the_start_have_one_base(sandbox: Sandbox) -> None:
    client = client_of(sandbox, connector_token="wrong")
    with pytest.raises(PolysyncError):
        client.connect()
    assert client.status is ConnectionStatus.IDLE
    assert threads_of_polysync() == []
    assert threading.active_count() >= 1
