"""The callback methods: who is called with what, in which order, on which thread."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from polysync import (
    AuthenticationError,
    Client,
    ClientClosedError,
    ConnectionChange,
    ConnectionLostError,
    PolysyncError,
    ProtocolError,
)
from polysync import events as event_classes
from polysync.events import (
    Event,
    LiveAgentMessage,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    SessionEnd,
    UserMessage,
)
from polysync.sandbox import EchoAgent, Handoff, Sandbox, Turn
from tests.clients import (
    NOISE,
    PATIENCE,
    Task,
    client_of,
    eventually,
    talking,
    threads_of_polysync,
)

METHODS = [
    "on_agent_message",
    "on_session_end",
    "on_message_chunk",
    "on_agent_joined",
    "on_agent_thinking",
    "on_user_message",
    "on_live_agent_joined",
    "on_live_agent_typing",
    "on_live_agent_left",
    "on_handoff",
    "on_system_message",
    "on_language_changed",
    "on_connection_change",
    "on_error",
    "on_event",
]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(EchoAgent) as running:
        yield running


# Test registering.


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_a_decorator(sandbox: Sandbox, name: str) -> None:
    client = client_of(sandbox)

    def callback(event: object) -> None:
        pass

    assert getattr(client, name)(callback) is callback
    assert client.off(callback) is True
    assert client.off(callback) is False


def test_on_returns_the_function_too(sandbox: Sandbox) -> None:
    client = client_of(sandbox)
    assert client.on(SessionEnd, print) is print


def test_off_takes_it_back_wherever_it_was(sandbox: Sandbox, recorder: Any) -> None:
    client = client_of(sandbox)
    others: list[Event] = []
    client.on_event(recorder)
    client.on_agent_message(recorder)
    client.on(UserMessage, recorder)
    client.on_event(others.append)
    assert client.off(recorder)
    with client:
        client.ask("one")
    assert recorder.items == []
    assert others


def test_a_bound_method_is_taken_back(sandbox: Sandbox) -> None:
    class Listener:
        def hear(self, event: object) -> None:
            raise AssertionError("taken back")

    listener = Listener()
    client = client_of(sandbox)
    client.on_event(listener.hear)
    assert client.off(listener.hear)


def test_callbacks_can_be_registered_while_connected(
    sandbox: Sandbox, recorder: Any
) -> None:
    with client_of(sandbox) as client:
        client.ask("one")
        client.on_agent_message(recorder)
        client.ask("two")
        assert [m.text for m in recorder.wait_for(1)] == ["two"]


def test_without_callbacks_there_is_no_thread_for_them(sandbox: Sandbox) -> None:
    with client_of(sandbox) as client:
        client.ask("one")
        assert not any("callbacks" in name for name in threads_of_polysync())


def test_the_thread_has_a_name(sandbox: Sandbox, recorder: Any) -> None:
    client = client_of(sandbox)
    client.on_agent_message(lambda m: recorder(threading.current_thread()))
    with client:
        (thread,) = recorder.wait_for(1)
        assert thread.name.startswith("polysync-callbacks-")
        assert thread.daemon


# Test what each method hears.


def test_each_method_hears_its_events() -> None:
    with talking() as (sandbox, client):
        heard: dict[str, list[Any]] = {name: [] for name in METHODS}
        done = threading.Event()
        for name in METHODS:
            getattr(client, name)(heard[name].append)
        client.on_session_end(lambda event: done.set())
        push = sandbox.session.push
        human = {"agent": {"id": "7", "name": "Sam"}}
        push(
            "POLY_AGENT_MESSAGE_CHUNK",
            {"message_id": "m", "text": "a", "chunk_index": 1, "is_complete": True},
        )
        push("LANGUAGE_CHANGED", {"language_code": "fr"})
        push("SYSTEM_MESSAGE", {"level": "SYSTEM_MESSAGE_LEVEL_INFO", "message": "i"})
        push("POLY_AGENT_TRIGGERED_HANDOFF")
        push("HANDOFF_ACCEPTED", {"queue_name": "q"})
        push("HANDOFF_QUEUE_STATUS", {"position_in_queue": 1})
        push("CLIENT_HANDOFF_REQUIRED", {"reason": "POLICY"})
        push("HANDOFF_FAILED")
        push("HANDOFF_TIMEOUT")
        push("LIVE_AGENT_JOINED", human)
        push("LIVE_AGENT_TYPING", {"state": "TYPING_STATE_STARTED"})
        push("LIVE_AGENT_MESSAGE", {"message_id": "n", "text": "b"})
        push("LIVE_AGENT_LEFT")
        push("POLY_AGENT_JOINED", {"agent_name": "Ana"})
        client.send_message("hello")
        # The second: the first was before the greeting.
        sandbox.wait_until(lambda: sandbox.session.types[-1] == "POLY_AGENT_THINKING")
        sandbox.session.push("BRAND_NEW", {})
        sandbox.session.end()
        assert done.wait(PATIENCE)
        client.close()

    types = {
        name: [type(event).__name__ for event in events]
        for name, events in heard.items()
    }
    assert types["on_agent_message"] == ["PolyAgentMessage", "LiveAgentMessage"]
    assert types["on_session_end"] == ["SessionEnd"]
    assert types["on_message_chunk"] == ["PolyAgentMessageChunk"]
    assert types["on_agent_joined"] == ["PolyAgentJoined"]
    assert types["on_agent_thinking"] == ["PolyAgentThinking"]
    assert types["on_user_message"] == ["UserMessage"]
    assert types["on_live_agent_joined"] == ["LiveAgentJoined"]
    assert types["on_live_agent_typing"] == ["LiveAgentTyping"]
    assert types["on_live_agent_left"] == ["LiveAgentLeft"]
    assert types["on_handoff"] == [
        "PolyAgentTriggeredHandoff",
        "HandoffAccepted",
        "HandoffQueueStatus",
        "ClientHandoffRequired",
        "HandoffFailed",
        "HandoffTimeout",
    ]
    assert types["on_system_message"] == ["SystemMessage"]
    assert types["on_language_changed"] == ["LanguageChanged"]
    assert types["on_connection_change"] == ["ConnectionChange"]
    assert types["on_error"] == []
    assert len(types["on_event"]) == 19
    assert types["on_event"][-2:] == ["UnknownEvent", "SessionEnd"]


def test_chunks_then_their_whole_then_what_follows(
    sandbox: Sandbox, recorder: Any
) -> None:
    client = client_of(sandbox)
    client.on_event(recorder)
    with client:
        client.ask("one two three")
        got = recorder.wait_for(
            lambda items: any(getattr(i, "text", "") == "one two three" for i in items)
        )
        whole = next(
            i for i, e in enumerate(got) if getattr(e, "text", "") == "one two three"
        )
        # The echo of the question has the same words and comes first.
        assert isinstance(got[whole], UserMessage)
        rest = recorder.wait_for(
            lambda items: (
                isinstance(items[-1], PolyAgentMessage)
                and items[-1].text == "one two three"
            )
        )[whole + 1 :]
        kinds = [type(event) for event in rest]
        assert kinds[-1] is PolyAgentMessage
        assert set(kinds[1:-1]) == {PolyAgentMessageChunk}


def test_a_class_hears_its_subclasses(sandbox: Sandbox, recorder: Any) -> None:
    client = client_of(sandbox)
    client.on(Event, recorder)
    with client:
        client.ask("one")
    types = {type(event) for event in recorder.wait_for(lambda i: _ended(i))}
    assert {UserMessage, PolyAgentMessage, SessionEnd} <= types
    assert all(issubclass(kind, Event) for kind in types)


def _ended(items: list[Any]) -> bool:
    return any(isinstance(item, SessionEnd) for item in items)


def test_on_event_comes_after_those_for_the_type(
    sandbox: Sandbox, recorder: Any
) -> None:
    client = client_of(sandbox)
    client.on_event(lambda event: recorder(("every", event)))
    client.on_session_end(lambda event: recorder(("exact", event)))
    with client:
        pass
    got = recorder.wait_for(lambda items: items and items[-1][0] == "every")
    ends = [kind for kind, event in got if isinstance(event, SessionEnd)]
    assert ends == ["exact", "every"]


def test_live_agents_are_heard_as_agents(recorder: Any) -> None:
    def agent(turn: Turn) -> Handoff:
        return Handoff(greeting="Sam here")

    with talking(agent) as (_, client):
        client.on_agent_message(recorder)
        client.send_message("a human, please")
        (message,) = recorder.wait_for(1)
        assert isinstance(message, LiveAgentMessage)


def test_a_connection_that_is_given_up_is_told_to_on_error(recorder: Any) -> None:
    with talking(max_reconnects=0) as (sandbox, client):
        client.on_error(recorder)
        sandbox.session.drop()
        (error,) = recorder.wait_for(1)
        assert isinstance(error, ConnectionLostError)


def test_a_bad_frame_is_told_to_on_error(recorder: Any) -> None:
    with talking() as (sandbox, client):
        client.on_error(recorder)
        sandbox.faults.garbage()
        client.send_typing()
        (error,) = recorder.wait_for(1)
        assert isinstance(error, ProtocolError)
        assert client.status == "open"


# Test order.


def test_two_hundred_events_in_order_with_a_slow_callback_while_asks_go_on(
    sandbox: Sandbox,
) -> None:
    heard: list[int] = []
    done = threading.Event()
    pause = threading.Event()
    client = client_of(sandbox, heartbeat_interval=0.05, heartbeat_timeout=PATIENCE)

    @client.on_language_changed
    def slow(event: Any) -> None:
        pause.wait(0.001)
        heard.append(int(event.language_code))
        if len(heard) == 200:
            done.set()

    with client:
        for number in range(200):
            sandbox.session.push("LANGUAGE_CHANGED", {"language_code": str(number)})
            if number % 20 == 0:
                assert client.ask(f"question {number}").text == f"question {number}"
        assert done.wait(PATIENCE)
    assert heard == list(range(200))


def test_a_blocked_callback_holds_up_nothing_else(sandbox: Sandbox) -> None:
    release = threading.Event()
    entered = threading.Event()
    client = client_of(sandbox, heartbeat_interval=0.02, heartbeat_timeout=PATIENCE)

    @client.on_agent_message
    def block(message: object) -> None:
        entered.set()
        release.wait(PATIENCE)

    with client:
        assert entered.wait(PATIENCE)
        beats = len(sandbox.received.events("HEARTBEAT"))
        assert client.ask("one").text == "one"
        assert client.send_message("two").text == "two"
        sandbox.wait_until(
            lambda: len(sandbox.received.events("HEARTBEAT")) >= beats + 3
        )
        release.set()


def test_callbacks_never_run_two_at_a_time(sandbox: Sandbox) -> None:
    """Not even those of the end, of a close, and of the next session."""
    running = threading.Lock()
    overlaps = []
    pause = threading.Event()
    client = client_of(sandbox)

    def slow(news: object) -> None:
        if not running.acquire(blocking=False):
            overlaps.append(news)
            return
        pause.wait(0.002)
        running.release()

    client.on_event(slow)
    client.on_connection_change(slow)
    client.on_error(slow)
    for _ in range(5):
        client.restart()
        client.submit_message("one")
        client.close()
    eventually(lambda: not any("callbacks" in n for n in threads_of_polysync()))
    assert overlaps == []


def test_a_backlog_is_reported(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polysync.runtime.callbacks.BACKLOG_MARK", 10)
    release = threading.Event()
    client = client_of(sandbox)
    client.on_event(lambda event: release.wait(PATIENCE))
    with caplog.at_level(logging.WARNING), client:
        for number in range(30):
            client.ask(str(number))
        release.set()
    assert "wait for the callbacks" in caplog.text


def test_the_log_is_written_outside_the_lock(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler may wait for another thread that asks the client something."""
    monkeypatch.setattr("polysync.runtime.callbacks.BACKLOG_MARK", 2)
    release = threading.Event()
    client = client_of(sandbox)
    client.on_event(lambda event: release.wait(PATIENCE))
    told: list[object] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "wait for the callbacks" in record.getMessage():
                told.append(Task(lambda: client.history).result())

    handler = Handler(logging.WARNING)
    logging.getLogger("polysync").addHandler(handler)
    try:
        with client:
            client.ask("one two")
            release.set()
    finally:
        logging.getLogger("polysync").removeHandler(handler)
    assert told


# Test exceptions.


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3)])
def test_an_exception_in_a_callback_is_logged_and_stops_nothing(
    sandbox: Sandbox,
    recorder: Any,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
) -> None:
    client = client_of(sandbox)

    @client.on_agent_message
    def fail(message: object) -> None:
        raise error

    client.on_agent_message(recorder)
    with caplog.at_level(logging.ERROR, "polysync"), client:
        client.ask("one")
        assert [m.text for m in recorder.wait_for(2)][1:] == ["one"]
    records = [r for r in caplog.records if "callback" in r.getMessage()]
    assert len(records) == 2
    assert records[0].exc_info is not None
    assert records[0].exc_info[1] is error
    assert "fail" in records[0].getMessage()


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3)])
def test_an_exception_in_a_callback_is_handed_to_on_error(
    sandbox: Sandbox, recorder: Any, error: BaseException
) -> None:
    client = client_of(sandbox)
    client.on_error(recorder)

    @client.on_agent_message
    def fail(message: object) -> None:
        raise error

    with client:
        client.ask("one")
        assert recorder.wait_for(2) == [error, error]


def test_on_can_pick_errors_by_class(sandbox: Sandbox, recorder: Any) -> None:
    client = client_of(sandbox)
    client.on(ZeroDivisionError, recorder)

    @client.on_agent_message
    def fail(message: Any) -> None:
        if message.text == "one":
            raise ValueError("not this")
        1 / 0  # noqa: B018

    with client:
        client.ask("one")
        client.ask("two")
        recorder.wait_for(2)
    assert {type(error) for error in recorder.items} == {ZeroDivisionError}


def test_an_error_callback_that_fails_is_not_told_of_its_own_failure(
    sandbox: Sandbox, recorder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(sandbox)

    @client.on_error
    def fail(error: object) -> None:
        recorder(error)
        raise RuntimeError("worse")

    client.on_agent_message(lambda message: 1 / 0)
    with caplog.at_level(logging.ERROR), client:
        client.ask("one")
        errors = recorder.wait_for(2)
    assert {type(error) for error in errors} == {ZeroDivisionError}
    assert "worse" in caplog.text


# Test calls from callbacks.


def test_a_callback_may_call_every_method(sandbox: Sandbox, recorder: Any) -> None:
    client = client_of(sandbox)

    @client.on_session_end
    def ended(event: SessionEnd) -> None:
        recorder(client.end_reason)

    @client.on_agent_joined
    def joined(event: object) -> None:
        recorder(client.connect(wait="agent") is client)
        recorder(client.receive().text)
        recorder(client.ask("asked").text)
        recorder(client.send_message("sent").text)
        recorder(client.stream("streamed").message.text in ("sent", "streamed"))
        recorder(client.submit_message("submitted").result(PATIENCE).text)
        client.send_typing()
        client.request_agent_join()
        recorder(client.state is not None)
        recorder(len(client.history) > 0)
        client.off(joined)
        recorder(client.end_session().reason)

    client.connect(wait="session")
    got = recorder.wait_for(10)
    assert got == [
        True,
        "Hello! How can I help you today?",
        "asked",
        "sent",
        True,
        "submitted",
        True,
        True,
        "REASON_USER_END",
        "REASON_USER_END",
    ]
    client.close()


def test_close_from_a_callback(sandbox: Sandbox) -> None:
    client = client_of(sandbox)
    closed = threading.Event()

    @client.on_agent_message
    def leave(message: object) -> None:
        client.close()
        client.close()
        closed.set()

    task = Task(client.connect)
    assert closed.wait(PATIENCE)
    task.outcome()
    assert client.status == "closed"
    eventually(lambda: threads_of_polysync() == [])


@pytest.mark.parametrize("method", METHODS)
def test_close_from_any_callback(sandbox: Sandbox, method: str) -> None:
    """At the first that it hears, in the middle of whatever is going on."""
    client = client_of(sandbox)
    closed = threading.Event()

    def close(_: object) -> None:
        client.close()
        closed.set()

    getattr(client, method)(close)
    with contextlib.suppress(PolysyncError):
        client.connect()
        client.ask("one two")
    if not closed.is_set() and sandbox.sessions:
        session = sandbox.session
        sandbox.faults.rewrite("SESSION_IDLE_WARNING", lambda event: "no JSON")
        for name, payload in {
            "POLY_AGENT_TRIGGERED_HANDOFF": {},
            "HANDOFF_ACCEPTED": {},
            "LIVE_AGENT_JOINED": {"agent": {"id": "7", "name": "Leo"}},
            "LIVE_AGENT_TYPING": {},
            "LIVE_AGENT_LEFT": {},
            "SYSTEM_MESSAGE": {"level": "SYSTEM_MESSAGE_LEVEL_INFO", "message": "Hm"},
            "LANGUAGE_CHANGED": {"language_code": "fr"},
            "SESSION_IDLE_WARNING": {},
        }.items():
            session.push(name, payload)
        session.end()
    assert closed.wait(PATIENCE)
    eventually(lambda: threads_of_polysync() == [])
    assert client.status == "closed"


def test_close_from_a_callback_wakes_calls_in_other_threads() -> None:
    with talking() as (sandbox, client):
        client.receive()
        client.on(event_classes.LanguageChanged, lambda event: client.close())
        tasks = [Task(client.receive), Task(client.ask, "one")]
        sandbox.wait_until(lambda: sandbox.session.user_messages)
        sandbox.session.push("LANGUAGE_CHANGED", {"language_code": "fr"})
        for task in tasks:
            assert isinstance(task.outcome(NOISE), ClientClosedError)


def test_close_does_not_wait_for_a_callback_for_long(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(sandbox)
    entered, release = threading.Event(), threading.Event()

    @client.on_agent_message
    def block(message: object) -> None:
        entered.set()
        release.wait(PATIENCE)

    client.connect()
    assert entered.wait(PATIENCE)
    with caplog.at_level(logging.WARNING):
        task = Task(client.close)
        task.result()
    assert task.took < 1.0 + NOISE
    assert "polysync-callbacks" in caplog.text
    release.set()
    eventually(lambda: threads_of_polysync() == [])


def test_what_was_told_before_the_close_is_still_heard(
    sandbox: Sandbox, recorder: Any
) -> None:
    client = client_of(sandbox)
    client.on_connection_change(recorder)
    client.on_event(recorder)
    client.connect()
    client.close()
    last = recorder.items[-1]
    assert isinstance(last, ConnectionChange)
    assert last.status == "closed"


# Test around_callback.


def test_every_call_can_be_wrapped(sandbox: Sandbox, recorder: Any) -> None:
    client = client_of(sandbox)

    def around(call: Any) -> None:
        recorder("before")
        call()
        recorder("after")

    assert client.around_callback is None
    client.around_callback = around
    assert client.around_callback is around
    client.on_agent_message(lambda message: recorder(message.text))
    with client:
        client.ask("one")
        assert recorder.wait_for(6)[3:] == ["before", "one", "after"]


def test_what_a_wrapper_raises_is_the_callback_s_failure(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    client: Client = client_of(sandbox)

    def around(call: Any) -> None:
        raise RuntimeError("no database")

    client.around_callback = around
    client.on_agent_message(print)
    with caplog.at_level(logging.ERROR), client:
        assert client.ask("one").text == "one"
    assert "no database" in caplog.text


def test_a_connect_that_fails_does_not_wait_for_callbacks(
    sandbox: Sandbox, recorder: Any
) -> None:
    client = client_of(sandbox, connector_token="wrong")
    entered, release = threading.Event(), threading.Event()

    @client.on_connection_change
    def block(change: ConnectionChange) -> None:
        recorder(change)
        entered.set()
        release.wait(PATIENCE)

    task = Task(client.connect)
    assert isinstance(task.outcome(), AuthenticationError)
    assert task.took < 0.5 * PATIENCE
    assert entered.wait(PATIENCE)
    release.set()
    eventually(lambda: threads_of_polysync() == [])
    assert [change.status for change in recorder.items] == ["connecting", "idle"]

    # The same thread's successor goes on where it has left off.
    sandbox.faults.refuse_access_token(401)
    with pytest.raises(AuthenticationError):
        client.connect()
    assert len(recorder.wait_for(4)) == 4
