"""A conversation that outlives its client: detach, resume, restart."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from polysync import (
    AuthenticationError,
    Client,
    ClientClosedError,
    ConfigurationError,
    DeliveryError,
    SessionEndedError,
    SessionEndReason,
    SessionNotFoundError,
    SessionState,
    SessionTokenError,
)
from polysync.events import PolyAgentMessage, PolyAgentMessageChunk, SessionEnd
from polysync.models import ConnectionStatus
from polysync.sandbox import EchoAgent, Sandbox, Turn
from tests.clients import (
    PATIENCE,
    QUICK,
    SHORT,
    Task,
    chunk,
    client_of,
    eventually,
    talking,
    threads_of_polysync,
)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(EchoAgent) as running:
        yield running


def resumed(state: SessionState, **options: Any) -> Client:
    return Client.resume(state, **{**QUICK, **options})


# Test detach.


def test_detach_leaves_the_conversation_open(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    state = client.detach()
    sandbox.wait_until(lambda: sandbox.session.connections == 0)

    assert isinstance(state, SessionState)
    assert state.session_id == sandbox.session.id
    assert state.base_url == sandbox.base_url
    assert not sandbox.session.ended
    assert client.status is ConnectionStatus.CLOSED
    assert threads_of_polysync() == []


def test_a_detached_client_is_closed(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    client.detach()
    with pytest.raises(ClientClosedError):
        client.ask("one")
    with pytest.raises(ClientClosedError):
        client.detach()


def test_detach_of_an_ended_conversation_is_refused(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    client.end_session()
    with pytest.raises(SessionEndedError):
        client.detach()


def test_detach_fails_a_message_whose_fate_is_open() -> None:
    with talking() as (sandbox, client):
        sandbox.faults.half_open()
        future = client.submit_message("one")
        sandbox.wait_until(lambda: sandbox.received.events("USER_MESSAGE"))
        client.detach()
        error = future.exception(PATIENCE)
        assert isinstance(error, DeliveryError)
        assert error.uncertain


def test_a_conversation_can_be_detached_while_it_reconnects(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    with sandbox.outage():
        eventually(lambda: client.status is ConnectionStatus.RECONNECTING)
        state = client.detach()
    with resumed(state) as other:
        assert other.ask("one").text == "one"


def test_the_state_of_a_live_client_can_be_taken(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    state = client.state
    assert state is not None
    client.ask("one")
    later = client.state
    assert later is not None
    assert later.session_id == state.session_id
    assert state.cursor is not None
    assert later.cursor is not None
    assert later.cursor > state.cursor
    client.close()


# Test resume.


def through_json(state: SessionState) -> SessionState:
    return SessionState.from_json(state.to_json())


def through_pickle(state: SessionState) -> SessionState:
    copy: SessionState = pickle.loads(pickle.dumps(state))
    return copy


@pytest.mark.parametrize("way", [lambda state: state, through_json, through_pickle])
def test_a_conversation_goes_on(sandbox: Sandbox, way: Any) -> None:
    client = client_of(sandbox).connect()
    client.ask("one")
    with resumed(way(client.detach())) as other:
        assert other.session_id == client.session_id
        assert other.agent == client.agent
        assert other.context_id == client.context_id
        assert other.capabilities == client.capabilities
        assert other.ask("two").text == "two"

    assert [m.text for m in sandbox.session.user_messages] == ["one", "two"]
    assert sandbox.session.end_reason == "REASON_USER_END"
    assert len(sandbox.received.requests_to("/api/v1/sessions")) == 1
    assert len(sandbox.received.events("REQUEST_POLY_AGENT_JOIN")) == 1


def test_resuming_needs_no_credentials_and_does_nothing_by_itself(
    sandbox: Sandbox,
) -> None:
    state = client_of(sandbox).connect().detach()
    requests = len(sandbox.received.requests)
    client = Client.resume(state)
    assert client.status is ConnectionStatus.IDLE
    assert client.session_id == state.session_id
    assert len(sandbox.received.requests) == requests


def test_a_resumed_client_connects_with_the_cursor(sandbox: Sandbox) -> None:
    state = client_of(sandbox).connect().detach()
    client = resumed(state).connect()
    handshake = sandbox.received.requests_to("/ws")[-1]
    assert handshake.query["cursor"] == str(state.cursor)
    client.close()


def test_what_happened_in_between_is_delivered(sandbox: Sandbox, recorder: Any) -> None:
    client = client_of(sandbox).connect()
    state = client.detach()
    sandbox.session.say("are you there?")
    other = resumed(state)
    other.on_agent_message(recorder)
    with other:
        assert other.receive().text == "are you there?"
        assert [m.text for m in recorder.wait_for(1)] == ["are you there?"]
        assert other.greeting is None


def test_nothing_is_delivered_a_second_time(sandbox: Sandbox, recorder: Any) -> None:
    client = client_of(sandbox).connect()
    client.ask("one")
    other = resumed(client.detach(), replay=True)
    other.on_event(recorder)
    with other:
        assert other.ask("two").text == "two"
        texts = [
            event.text
            for event in recorder.wait_for(
                lambda items: any(isinstance(i, PolyAgentMessage) for i in items)
            )
            if isinstance(event, PolyAgentMessage)
        ]
        assert texts == ["two"]


def test_replay_brings_the_whole_history(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    client.ask("one")
    before = client.history
    with resumed(client.detach(), replay=True) as other:
        assert other.history[: len(before)] == before
        assert [(i.role, i.text) for i in other.transcript] == [
            ("agent", "Hello! How can I help you today?"),
            ("user", "one"),
            ("agent", "one"),
        ]
        handshake = sandbox.received.requests_to("/ws")[-1]
        assert "cursor" not in handshake.query


def test_without_replay_the_history_begins_anew(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    client.ask("one")
    with resumed(client.detach()) as other:
        assert other.history == ()
        other.ask("two")
        assert [i.text for i in other.transcript] == ["two", "two"]


def test_an_agent_that_joined_in_an_earlier_life_is_not_asked_for_again(
    sandbox: Sandbox,
) -> None:
    with resumed(client_of(sandbox).connect().detach()) as client:
        assert client.agent is not None
        client.ask("one")
    assert len(sandbox.received.events("REQUEST_POLY_AGENT_JOIN")) == 1


def test_a_conversation_without_agent_gets_one_when_it_is_resumed(
    sandbox: Sandbox,
) -> None:
    state = client_of(sandbox).connect(join=False).detach()
    assert not state.joined
    with resumed(state) as client:
        assert client.receive().text == "Hello! How can I help you today?"
        assert client.ask("one").text == "one"


def test_a_message_that_was_half_streamed_is_whole_after_resuming() -> None:
    with talking() as (sandbox, client):
        client.receive()
        chunk(sandbox.session, "m", 1, "first ")
        eventually(lambda: isinstance(client.history[-1], PolyAgentMessageChunk))
        state = client.detach()
        chunk(sandbox.session, "m", 2, "last", last=True)
        with resumed(state) as other:
            assert other.receive().text == "first last"


def test_a_live_agent_is_remembered() -> None:
    with talking() as (sandbox, client):
        sandbox.session.push("LIVE_AGENT_JOINED", {"agent": {"id": "7", "name": "Sam"}})
        eventually(lambda: client.live_agent)
        state = through_json(client.detach())
        with resumed(state) as other:
            assert other.live_agent is not None
            assert other.live_agent.name == "Sam"
            assert other.live_agent.id == "7"


def test_a_language_is_remembered() -> None:
    with talking() as (sandbox, client):
        sandbox.session.push("LANGUAGE_CHANGED", {"language_code": "fr-FR"})
        eventually(lambda: client.language)
        with resumed(through_json(client.detach())) as other:
            assert other.language == "fr-FR"


def test_a_resumed_client_keeps_to_the_limits_of_the_session() -> None:
    with (
        talking(EchoAgent, settings={"max_message_size_bytes": 500}) as (_, client),
        resumed(client.detach()) as other,
    ):
        with pytest.raises(ValueError, match="the session allows 500"):
            other.ask("x" * 500)
        assert other.ask("short").text == "short"


def test_a_resumed_conversation_can_be_detached_again(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    for number in range(3):
        state = client.detach()
        client = resumed(state).connect()
        assert client.ask(str(number)).text == str(number)
    client.end_session()
    assert sandbox.session.connection_total == 4


def test_two_clients_may_have_one_conversation(sandbox: Sandbox) -> None:
    one = client_of(sandbox).connect()
    state = one.state
    assert state is not None
    two = resumed(state).connect()
    assert two.ask("from two").text == "from two"
    eventually(lambda: [i.text for i in one.transcript][1:] == ["from two"] * 2)
    one.close()
    two.close()


def test_a_forgotten_session_cannot_be_resumed(sandbox: Sandbox) -> None:
    state = client_of(sandbox).connect().detach()
    sandbox.session.forget()
    client = resumed(state)
    task = Task(client.connect)
    error = task.outcome()
    assert isinstance(error, SessionNotFoundError)
    assert error.session_id == state.session_id
    assert "start a new conversation" in str(error)
    assert task.took < 5.0
    assert client.status is ConnectionStatus.FAILED
    with pytest.raises(SessionNotFoundError):
        client.ask("one")
    client.close()


def test_an_expired_token_cannot_resume(sandbox: Sandbox) -> None:
    state = client_of(sandbox).connect().detach()
    sandbox.session.expire_token()
    client = resumed(state)
    with pytest.raises(SessionTokenError) as caught:
        client.connect()
    assert isinstance(caught.value, AuthenticationError)
    assert isinstance(caught.value, SessionNotFoundError)
    assert state.access_token not in str(caught.value)
    client.close()


def test_a_token_of_another_session_cannot_resume(sandbox: Sandbox) -> None:
    state = client_of(sandbox).connect().detach()
    other = client_of(sandbox).connect().detach()
    mixed = SessionState(
        session_id=state.session_id,
        access_token=other.access_token,
        base_url=state.base_url,
    )
    client = resumed(mixed)
    with pytest.raises(SessionTokenError):
        client.connect()
    client.close()


def test_a_conversation_that_ended_meanwhile_tells_its_end(
    sandbox: Sandbox, recorder: Any
) -> None:
    state = client_of(sandbox).connect().detach()
    sandbox.session.end("REASON_USER_ABANDONED")
    client = resumed(state)
    client.on_session_end(recorder)
    with pytest.raises(SessionEndedError) as caught:
        client.connect()
    assert caught.value.reason is SessionEndReason.USER_ABANDONED
    assert client.ended
    assert len(recorder.wait_for(1)) == 1
    client.close()


def test_resume_takes_states_alone(sandbox: Sandbox) -> None:
    state = client_of(sandbox).connect().detach()
    for wrong in (state.to_json(), None, {}):
        with pytest.raises(ConfigurationError, match="SessionState"):
            Client.resume(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no option colour"):
        Client.resume(state, colour="red")
    with pytest.raises(ConfigurationError, match="timeout"):
        Client.resume(state, timeout=-1)


# Test restart.


def test_restart_begins_another_session_with_the_same_callbacks(
    sandbox: Sandbox, recorder: Any
) -> None:
    client = client_of(sandbox)
    client.on_agent_message(recorder)
    with client:
        first = client.session_id
        client.ask("one")
        assert client.restart() is client
        assert client.session_id != first
        assert client.greeting is not None
        assert client.ask("two").text == "two"
        assert [i.text for i in client.transcript][1:] == ["two", "two"]
    texts = [message.text for message in recorder.wait_for(4)]
    assert texts[1::2] == ["one", "two"]
    sessions = list(sandbox.sessions.values())
    assert [s.end_reason for s in sessions] == ["REASON_USER_END"] * 2


def test_restart_after_the_end(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    client.end_session()
    client.restart()
    assert not client.ended
    assert client.ask("one").text == "one"
    client.end_session()


def test_restart_after_close(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    client.close()
    client.restart()
    assert client.ask("one").text == "one"
    client.close()


def test_restart_of_an_unconnected_client_is_a_connect(sandbox: Sandbox) -> None:
    client = client_of(sandbox).restart(wait="session", join=False)
    assert client.capabilities is not None
    assert len(sandbox.sessions) == 1
    client.close()


def test_restart_with_a_server_that_does_not_end_the_last_session(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polysync.client._LEAVE_TIMEOUT", SHORT)
    client = client_of(sandbox).connect()
    sandbox.session.freeze()
    client.restart()
    assert client.ask("one").text == "one"
    assert len(sandbox.sessions) == 2
    client.close()
    assert threads_of_polysync() == []


def test_restart_gives_waiting_calls_an_error() -> None:
    with talking() as (sandbox, client):
        task = Task(client.ask, "one")
        sandbox.wait_until(lambda: sandbox.session.user_messages)
        client.restart()
        assert isinstance(task.outcome(), SessionEndedError)


def test_restart_from_a_callback(sandbox: Sandbox, recorder: Any) -> None:
    client = client_of(sandbox)
    client.on_agent_message(recorder)

    @client.on_session_end
    def again(event: SessionEnd) -> None:
        if len(sandbox.sessions) == 1:
            client.restart()

    client.connect()
    sandbox.session.end()
    messages = recorder.wait_for(2)
    assert len(messages) == 2
    assert len(sandbox.sessions) == 2
    assert client.ask("one").text == "one"
    client.close()
    assert threads_of_polysync() == []


def test_restart_of_a_resumed_client_mints_a_token_if_it_can(
    sandbox: Sandbox,
) -> None:
    state = client_of(sandbox).connect().detach()
    client = resumed(
        state, connector_token=sandbox.connector_token, host=sandbox.host
    ).connect()
    assert client.state is not None
    assert client.state.access_token == state.access_token
    for count in (2, 3):
        client.restart()
        assert client.state.access_token != state.access_token
        assert len(sandbox.received.requests_to("/api/v1/access-token")) == count
    client.close()


def test_restart_of_a_resumed_client_makes_do_with_the_token_it_has(
    sandbox: Sandbox,
) -> None:
    client = resumed(client_of(sandbox).connect().detach()).connect()
    client.restart()
    assert client.ask("one").text == "one"
    assert len(sandbox.received.requests_to("/api/v1/access-token")) == 1
    client.close()


def test_each_session_gets_a_token_of_its_own(sandbox: Sandbox) -> None:
    with client_of(sandbox) as client:
        first = client.state
        client.restart()
        second = client.state
        assert first is not None
        assert second is not None
        assert first.access_token != second.access_token


def test_a_token_minted_elsewhere_is_used(sandbox: Sandbox) -> None:
    state = client_of(sandbox).connect().detach()
    sandbox.received.clear()
    client = client_of(
        sandbox, connector_token=None, host=None, access_token=state.access_token
    )
    with client:
        assert client.ask("one").text == "one"
    assert sandbox.received.requests_to("/api/v1/access-token") == []


def test_agents_know_conversations_apart() -> None:
    def agent(turn: Turn) -> str:
        return f"turn {turn.number}"

    with talking(agent) as (_, client):
        assert [client.ask("x").text for _ in range(2)] == ["turn 1", "turn 2"]
        client.restart()
        assert client.ask("x").text == "turn 1"
