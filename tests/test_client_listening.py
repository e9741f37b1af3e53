"""What a client hears: messages, events, and one event that is waited for."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterator

import pytest

from polysync import (
    Client,
    ClientClosedError,
    ConfigurationError,
    ConnectionLostError,
    ReceiveTimeoutError,
    SessionEndedError,
)
from polysync.events import (
    Event,
    LanguageChanged,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    PolyAgentThinking,
    SessionEnd,
    SessionIdleWarning,
    SessionStart,
    UnknownEvent,
    UserMessage,
)
from polysync.sandbox import EchoAgent, Sandbox
from tests.clients import (
    NOISE,
    PATIENCE,
    SHORT,
    Task,
    client_of,
    eventually,
    talking,
    waiting,
)


@pytest.fixture
def silent() -> Iterator[tuple[Sandbox, Client]]:
    with talking() as both:
        yield both


# Test receive.


def test_receive_begins_with_the_greeting(silent: tuple[Sandbox, Client]) -> None:
    _, client = silent
    assert client.receive() is client.greeting


def test_receive_gives_messages_in_order_as_they_come(
    silent: tuple[Sandbox, Client],
) -> None:
    sandbox, client = silent
    client.receive()
    for number in range(3):
        sandbox.session.say(str(number))
    assert [client.receive().text for _ in range(3)] == ["0", "1", "2"]


def test_receive_does_not_give_what_ask_returned() -> None:
    with talking(EchoAgent) as (sandbox, client):
        client.receive()
        client.ask("asked")
        sandbox.session.say("unasked")
        assert client.receive().text == "unasked"


def test_receive_waits(silent: tuple[Sandbox, Client]) -> None:
    sandbox, client = silent
    client.receive()
    task = Task(client.receive)
    eventually(waiting(client))
    sandbox.session.say("one")
    assert task.result().text == "one"


def test_receivers_share_the_messages_in_the_order_of_their_calls(
    silent: tuple[Sandbox, Client],
) -> None:
    sandbox, client = silent
    client.receive()
    tasks = []
    for count in range(1, 4):
        tasks.append(Task(client.receive))
        eventually(waiting(client, count))
    for number in range(3):
        sandbox.session.say(str(number))
    assert [task.result().text for task in tasks] == ["0", "1", "2"]


def test_receive_times_out(silent: tuple[Sandbox, Client]) -> None:
    sandbox, client = silent
    client.receive()
    task = Task(client.receive, timeout=SHORT)
    error = task.outcome()
    assert isinstance(error, ReceiveTimeoutError)
    assert error.timeout == SHORT
    assert SHORT * 0.99 <= task.took < SHORT + NOISE

    sandbox.session.say("later")
    assert client.receive().text == "later"


def test_receive_with_no_time_takes_only_what_is_there(
    silent: tuple[Sandbox, Client],
) -> None:
    _, client = silent
    assert client.receive(timeout=0) is client.greeting
    with pytest.raises(ReceiveTimeoutError):
        client.receive(timeout=0)


def test_messages_can_be_received_after_the_end(
    silent: tuple[Sandbox, Client],
) -> None:
    sandbox, client = silent
    sandbox.session.say("last words")
    sandbox.session.end()
    eventually(lambda: client.ended)
    assert client.receive() is client.greeting
    assert client.receive().text == "last words"
    with pytest.raises(SessionEndedError):
        client.receive()


def test_receive_ends_with_the_conversation(silent: tuple[Sandbox, Client]) -> None:
    sandbox, client = silent
    client.receive()
    task = Task(client.receive)
    eventually(waiting(client))
    sandbox.session.end()
    assert isinstance(task.outcome(), SessionEndedError)


def test_receive_fails_when_the_connection_is_lost_for_good() -> None:
    with talking(max_reconnects=0) as (sandbox, client):
        client.receive()
        task = Task(client.receive)
        eventually(waiting(client))
        sandbox.session.drop()
        assert isinstance(task.outcome(), ConnectionLostError)


def test_a_message_under_two_event_ids_is_one(
    silent: tuple[Sandbox, Client],
) -> None:
    sandbox, client = silent
    client.receive()
    for _ in range(2):
        sandbox.session.push("POLY_AGENT_MESSAGE", {"message_id": "m", "text": "once"})
    sandbox.session.say("next")
    assert [client.receive().text for _ in range(2)] == ["once", "next"]


# Test events.


def test_events_come_from_now_on(silent: tuple[Sandbox, Client]) -> None:
    sandbox, client = silent
    events = client.events()
    sandbox.session.push("LANGUAGE_CHANGED", {"language_code": "fr"})
    event = next(events)
    assert isinstance(event, LanguageChanged)
    assert event.language_code == "fr"


def test_events_can_begin_with_history(silent: tuple[Sandbox, Client]) -> None:
    sandbox, client = silent
    events = client.events(replay=True)
    sandbox.session.push("LANGUAGE_CHANGED", {"language_code": "fr"})
    got = [next(events) for _ in range(len(client.history))]
    assert isinstance(got[0], SessionStart)
    assert [event.sequence for event in got[:-1]] == list(range(1, len(got)))
    eventually(lambda: isinstance(client.history[-1], LanguageChanged))


def test_events_can_be_picked(silent: tuple[Sandbox, Client]) -> None:
    sandbox, client = silent
    events = client.events(LanguageChanged, SessionIdleWarning)
    sandbox.session.say("no")
    sandbox.session.push("SESSION_IDLE_WARNING")
    sandbox.session.say("no")
    sandbox.session.push("LANGUAGE_CHANGED", {"language_code": "fr"})
    assert isinstance(next(events), SessionIdleWarning)
    assert isinstance(next(events), LanguageChanged)


def test_events_end_after_the_end(silent: tuple[Sandbox, Client]) -> None:
    sandbox, client = silent
    events = client.events()
    sandbox.session.end()
    got = list(events)
    assert isinstance(got[-1], SessionEnd)
    assert list(events) == []


def test_events_of_an_ended_conversation_are_its_history() -> None:
    with talking(EchoAgent) as (_, client):
        client.end_session()
        assert list(client.events()) == []
        replayed = list(client.events(replay=True))
        assert tuple(replayed) == client.history
        assert isinstance(replayed[-1], SessionEnd)


def test_events_end_when_the_client_is_closed(silent: tuple[Sandbox, Client]) -> None:
    _, client = silent
    task = Task(lambda: list(client.events()))
    eventually(lambda: len(client._engine._subscriptions._references) == 1)
    client.close()
    assert task.result() == []


def test_events_raise_when_the_connection_is_lost_for_good() -> None:
    with talking(max_reconnects=0) as (sandbox, client):
        events = client.events()
        sandbox.session.drop()
        with pytest.raises(ConnectionLostError):
            list(events)
        with pytest.raises(ConnectionLostError):
            next(client.events())


def test_events_time_out_each(silent: tuple[Sandbox, Client]) -> None:
    sandbox, client = silent
    events = client.events(timeout=SHORT)
    with pytest.raises(ReceiveTimeoutError, match="no event came"):
        next(events)
    sandbox.session.push("SESSION_IDLE_WARNING")
    eventually(lambda: not events._events.empty())  # type: ignore[attr-defined]
    assert isinstance(next(events), SessionIdleWarning)


def test_events_keep_up_with_a_slow_reader() -> None:
    with talking(EchoAgent) as (_, client):
        events = client.events(UserMessage)
        futures = [client.submit_message(str(number)) for number in range(300)]
        futures[-1].result(PATIENCE)
        got = [event.text for event in itertools.islice(events, 300)]
        assert got == [str(number) for number in range(300)]


def test_threads_may_share_an_iterator(silent: tuple[Sandbox, Client]) -> None:
    sandbox, client = silent
    events = client.events(PolyAgentMessage)
    tasks = [Task(lambda: [event.text for event in events]) for _ in range(3)]
    for number in range(30):
        sandbox.session.say(str(number))
    sandbox.session.end()
    got = [task.result() for task in tasks]
    assert sorted(itertools.chain(*got), key=int) == [str(n) for n in range(30)]
    for part in got:
        assert part == sorted(part, key=int)


def test_a_dropped_iterator_costs_nothing_more(
    silent: tuple[Sandbox, Client],
) -> None:
    sandbox, client = silent
    for _ in range(5):
        client.events()
    sandbox.session.push("SESSION_IDLE_WARNING")
    eventually(lambda: client._engine._subscriptions._references == [])


def test_chunks_and_their_whole_are_events() -> None:
    with talking(EchoAgent) as (_, client):
        events = client.events(PolyAgentMessageChunk, PolyAgentMessage)
        client.ask("one two three")
        got: list[Event] = []
        while not isinstance(got[-1:] and got[-1], PolyAgentMessage):
            got.append(next(events))
        *chunks, whole = got
        assert isinstance(whole, PolyAgentMessage)
        assert "".join(part.text for part in chunks) == whole.text  # type: ignore[attr-defined]
        assert whole.assembled
        assert whole.sequence == chunks[-1].sequence


def test_unknown_events_are_kept(silent: tuple[Sandbox, Client]) -> None:
    sandbox, client = silent
    events = client.events(UnknownEvent)
    sandbox.session.push("EVENT_TYPE_BRAND_NEW", {"answer": [42]})
    event = next(events)
    assert event.type == "EVENT_TYPE_BRAND_NEW"
    assert event.payload == {"answer": [42]}
    assert client.history[-1] == event


# Test wait_for.


def test_wait_for_returns_the_next_of_its_types(
    silent: tuple[Sandbox, Client],
) -> None:
    sandbox, client = silent
    task = Task(client.wait_for, PolyAgentThinking, LanguageChanged)
    eventually(lambda: len(client._engine._subscriptions._references) == 1)
    sandbox.session.say("no")
    sandbox.session.push("LANGUAGE_CHANGED", {"language_code": "fr"})
    assert isinstance(task.result(), LanguageChanged)


def test_wait_for_takes_nothing_from_others(silent: tuple[Sandbox, Client]) -> None:
    sandbox, client = silent
    client.receive()
    tasks = [Task(client.wait_for, PolyAgentMessage) for _ in range(3)]
    eventually(lambda: len(client._engine._subscriptions._references) == 3)
    sandbox.session.say("one")
    assert {task.result().text for task in tasks} == {"one"}
    assert client.receive().text == "one"


def test_wait_for_times_out_and_names_what_it_waited_for(
    silent: tuple[Sandbox, Client],
) -> None:
    _, client = silent
    task = Task(client.wait_for, LanguageChanged, SessionEnd, timeout=SHORT)
    error = task.outcome()
    assert isinstance(error, ReceiveTimeoutError)
    assert "no LanguageChanged or SessionEnd came" in str(error)
    assert SHORT * 0.99 <= task.took < SHORT + NOISE


def test_wait_for_the_end_returns_it(silent: tuple[Sandbox, Client]) -> None:
    sandbox, client = silent
    task = Task(client.wait_for, SessionEnd)
    eventually(lambda: len(client._engine._subscriptions._references) == 1)
    sandbox.session.end()
    assert isinstance(task.result(), SessionEnd)


def test_wait_for_what_the_end_forestalls(silent: tuple[Sandbox, Client]) -> None:
    sandbox, client = silent
    task = Task(client.wait_for, LanguageChanged)
    eventually(lambda: len(client._engine._subscriptions._references) == 1)
    sandbox.session.end()
    assert isinstance(task.outcome(), SessionEndedError)


def test_what_is_no_event_class_is_refused(silent: tuple[Sandbox, Client]) -> None:
    _, client = silent
    for wrong in ("SESSION_END", int, SessionEnd(), None):
        for call in (client.wait_for, client.events):
            with pytest.raises(ConfigurationError, match="no event class"):
                call(wrong)  # type: ignore[call-overload]


def test_listeners_wake_at_once_when_another_thread_closes() -> None:
    with Sandbox(EchoAgent) as sandbox:
        client = client_of(sandbox).connect()
        client.receive()
        started = threading.Barrier(4)

        def wait(call: str) -> object:
            started.wait(PATIENCE)
            return getattr(client, call)()

        tasks = [Task(wait, call) for call in ("receive", "wait_for", "receive")]
        started.wait(PATIENCE)
        eventually(waiting(client, 2))
        eventually(lambda: len(client._engine._subscriptions._references) == 1)
        client.close()
        for task in tasks:
            assert isinstance(task.outcome(NOISE), ClientClosedError)


def test_what_piles_up_is_reported(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is dropped because nobody takes it; the log says that it is kept."""
    monkeypatch.setattr("polysync.protocol.replies.PILE", 4)
    monkeypatch.setattr("polysync.runtime.waiting.BACKLOG_MARK", 8)
    texts = [str(number) for number in range(10)]
    with caplog.at_level(logging.WARNING, "polysync"), talking() as (sandbox, client):
        events = client.events(PolyAgentMessage)
        for text in texts:
            sandbox.session.say(text)
        eventually(lambda: "8 events wait for a loop over events()" in caplog.text)
        eventually(lambda: "8 messages wait for receive()" in caplog.text)
        assert "4 messages wait for receive()" in caplog.text
        assert [next(events).text for _ in texts] == texts
        client.receive()  # the greeting
        assert [client.receive().text for _ in texts] == texts
