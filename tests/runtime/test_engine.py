"""The engine: one lock, one order on the wire, and nobody left waiting."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from polysync import (
    AuthenticationError,
    Client,
    ClientClosedError,
    ConnectionLostError,
    ConnectionStatus,
    ConnectTimeoutError,
    ForkedError,
    PolysyncError,
)
from polysync.events import UserMessage
from polysync.protocol.states import Phase
from polysync.runtime import threads, timers
from polysync.sandbox import EchoAgent, Moment, Sandbox
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


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(EchoAgent) as running:
        yield running


# Test the lock.


def test_the_lock_is_free_while_user_code_runs(sandbox: Sandbox) -> None:
    """Callbacks, functions of futures, and whoever is woken."""
    client = client_of(sandbox)
    free: list[bool] = []
    lock = client._engine._lock

    def note(news: object = None) -> None:
        # Others may hold it for a moment, so this waits for one.
        if lock.acquire(timeout=PATIENCE):
            lock.release()
            free.append(True)

    client.on_event(note)
    client.on_connection_change(note)
    with client:
        done = threading.Event()
        client.submit_message("one").add_done_callback(lambda f: (note(), done.set()))
        assert done.wait(PATIENCE)
    assert len(free) > 5


def test_the_lock_is_free_during_every_wait(sandbox: Sandbox) -> None:
    with talking() as (_, client):
        client.receive()
        tasks = [Task(client.receive), Task(client.ask, "one")]
        eventually(waiting(client))
        lock = client._engine._lock
        assert lock.acquire(timeout=PATIENCE)
        lock.release()
        client.close()
        for task in tasks:
            task.outcome()


# Test the order on the wire.


def test_the_order_on_the_wire_is_the_order_of_the_calls(sandbox: Sandbox) -> None:
    """Of each thread, and of all of them together as the engine took them."""
    with client_of(sandbox) as client:
        taken: list[str] = []
        gate = threading.Lock()

        def talk(name: int) -> None:
            for number in range(50):
                text = f"{name}.{number}"
                with gate:
                    taken.append(text)
                    client.submit_message(text)

        tasks = [Task(talk, name) for name in range(8)]
        for task in tasks:
            task.result()
        client.send_message("last")
        said = [message.text for message in sandbox.session.user_messages]
        assert said == [*taken, "last"]


def test_events_reach_all_listeners_in_one_order(sandbox: Sandbox) -> None:
    client = client_of(sandbox)
    called: list[str] = []
    client.on_user_message(lambda event: called.append(event.text))
    events = client.events(UserMessage)
    with client:
        tasks = [
            Task(lambda n: [client.send_message(f"{n}.{i}") for i in range(20)], name)
            for name in range(8)
        ]
        for task in tasks:
            task.result()
        said = [message.text for message in sandbox.session.user_messages]
        iterated = [next(events).text for _ in said]
        eventually(lambda: len(called) == len(said))
    history = [e.text for e in client.history if isinstance(e, UserMessage)]
    assert said == iterated == called == history


# Test starts.


def test_a_start_that_cannot_have_a_thread_fails_and_can_be_tried_again(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(sandbox)
    spawn = threads.spawn

    for role in ("session", "reader"):

        def refuse(wanted: str, *args: Any, refused: str = role) -> threading.Thread:
            if wanted == refused:
                raise ClientClosedError("the process has too many threads")
            return spawn(wanted, *args)

        with monkeypatch.context() as patch:
            patch.setattr(threads, "spawn", refuse)
            error = Task(client.connect).outcome()
        assert isinstance(error, (ClientClosedError, ConnectionLostError))
        assert "too many threads" in str(error)
        assert threads_of_polysync() == []
    assert client.connect().ask("one").text == "one"
    client.close()


def test_a_connect_that_comes_late_to_a_failing_start_fails_with_it(
    sandbox: Sandbox,
) -> None:
    held = sandbox.faults.delay(Moment.SESSION, 2 * SHORT)
    sandbox.faults.refuse_session(401, error="Invalid access token")
    client = client_of(sandbox)
    tasks = [Task(client.connect)]
    sandbox.wait_until(lambda: held.fired == 1)
    tasks += [Task(client.connect) for _ in range(4)]
    eventually(lambda: len(client._engine._connecting) == 5)
    outcomes = [task.outcome() for task in tasks]
    assert {type(outcome).__name__ for outcome in outcomes} == {"AuthenticationError"}
    assert client._engine.conversation.phase is Phase.IDLE
    assert len(sandbox.received.requests_to("/api/v1/sessions")) == 1


def test_a_new_session_never_gets_the_token_of_one_that_failed(
    sandbox: Sandbox,
) -> None:
    sandbox.faults.refuse_handshake(401, error="authentication failed")
    client = client_of(sandbox)
    assert isinstance(Task(client.connect).outcome(), AuthenticationError)
    with client:
        assert client.ask("one").text == "one"
    for path in ("/api/v1/access-token", "/api/v1/sessions", "/ws"):
        assert len(sandbox.received.requests_to(path)) == 2


def test_of_many_connects_each_keeps_its_own_timeout(sandbox: Sandbox) -> None:
    held = sandbox.faults.delay(Moment.JOIN, 12 * SHORT)
    client = client_of(sandbox)
    long = Task(client.connect)
    sandbox.wait_until(lambda: held.fired == 1)
    short = [Task(client.connect, timeout=SHORT * n) for n in (1, 2, 3)]
    for number, task in enumerate(short, 1):
        assert isinstance(task.outcome(), ConnectTimeoutError)
        assert number * SHORT * 0.99 <= task.took < number * SHORT + NOISE
    assert long.result() is client
    client.close()


def test_a_start_that_all_have_left_is_given_up(sandbox: Sandbox) -> None:
    sandbox.faults.stall(Moment.SESSION)
    client = client_of(sandbox)
    tasks = [Task(client.connect, timeout=SHORT * n) for n in (1, 2, 3)]
    for task in tasks:
        assert isinstance(task.outcome(), ConnectTimeoutError)
    assert client.status is ConnectionStatus.IDLE
    assert threads_of_polysync() == []


def test_connect_and_close_at_once(sandbox: Sandbox) -> None:
    """Whichever wins, nobody waits for long and nothing is left."""
    for _ in range(20):
        client = client_of(sandbox)
        connecting, closing = Task(client.connect), Task(client.close)
        closing.result()
        outcome = connecting.outcome()
        assert outcome is client or isinstance(outcome, ClientClosedError)
        assert client.status is ConnectionStatus.CLOSED
        assert threads_of_polysync() == []


def test_everything_at_once(sandbox: Sandbox) -> None:
    """Calls of all kinds while the client is closed and restarted."""
    client = client_of(sandbox, timeout=1.0, reply_timeout=1.0).connect()
    stop = threading.Event()
    calls = [
        lambda: client.ask("one"),
        lambda: client.send_message("two"),
        lambda: client.submit_message("three"),
        lambda: client.stream("four").message,
        lambda: client.receive(timeout=0.01),
        lambda: client.wait_for(timeout=0.01),
        lambda: client.send_typing(),
        lambda: (client.history, client.transcript, client.state, client.status),
        lambda: list(client.events(timeout=0.01)),
    ]
    surprises: list[BaseException] = []

    def keep(call: Any) -> None:
        while not stop.wait(0.002):
            try:
                call()
            except PolysyncError:
                pass
            except BaseException as error:
                surprises.append(error)
                return

    tasks = [Task(keep, call) for call in calls]
    for number in range(12):
        if number % 3 == 0:
            client.close()
        elif number % 3 == 1:
            sandbox.session.drop()
        client.restart(timeout=PATIENCE)
        assert client.ask("alive", timeout=PATIENCE)
    stop.set()
    client.close()
    for task in tasks:
        task.outcome()
    assert surprises == []
    eventually(lambda: threads_of_polysync() == [])


# Test ends.


def test_threads_hold_the_engine_weakly(sandbox: Sandbox) -> None:
    client = client_of(sandbox).connect()
    reference = weakref.ref(client._engine)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del client

    def collected() -> bool:
        gc.collect()
        return reference() is None

    eventually(collected)
    eventually(lambda: threads_of_polysync() == [])


def test_a_closed_engine_is_collected_without_the_collector(sandbox: Sandbox) -> None:
    """Nothing of a closed client is in a cycle that would wait for it."""
    gc.collect()
    gc.disable()
    try:
        client = client_of(sandbox).connect()
        client.ask("one")
        client.close()
        reference = weakref.ref(client._engine)
        del client
        eventually(lambda: reference() is None)
    finally:
        gc.enable()


def test_in_a_forked_child_every_call_is_refused(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(sandbox).connect()
    events = client.events()
    monkeypatch.setattr(client._engine.resources, "pid", -1)
    for call in (
        lambda: client.connect(),
        lambda: client.ask("one"),
        lambda: client.stream("one"),
        lambda: client.send_message("one"),
        lambda: client.submit_message("one"),
        lambda: client.receive(),
        lambda: client.events(),
        lambda: next(events),
        lambda: client.wait_for(),
        lambda: client.send_typing(),
        lambda: client.request_agent_join(),
        lambda: client.end_session(),
        lambda: client.detach(),
        lambda: client.restart(),
        lambda: client.on_event(print),
        lambda: client.off(print),
        lambda: client.state,
        lambda: client.history,
        lambda: client.transcript,
    ):
        with pytest.raises(ForkedError, match="fork"):
            call()
    assert isinstance(client.status, ConnectionStatus)
    monkeypatch.undo()
    assert client.ask("one").text == "one"
    client.close()


# Test numbers.


@pytest.mark.stress
def test_many_clients_at_once(sandbox: Sandbox) -> None:
    clients = [client_of(sandbox) for _ in range(40)]

    def talk(client: Client) -> None:
        with client:
            for number in range(5):
                assert client.ask(str(number)).text == str(number)

    tasks = [Task(talk, client) for client in clients]
    for task in tasks:
        task.result(4 * PATIENCE)
    assert len(sandbox.sessions) == 40
    assert threads_of_polysync() == []


def test_idle_clients_share_one_timer_thread(sandbox: Sandbox) -> None:
    clients = [client_of(sandbox).connect() for _ in range(5)]
    names = threads_of_polysync()
    assert sum("timers" in name for name in names) == 1
    assert sum("reader" in name for name in names) == 5
    assert len(names) == 6
    for client in clients:
        client.close()
    assert threads_of_polysync() == []


def test_a_wake_takes_back_a_deadline_that_was_set_since_the_timer_fired(
    sandbox: Sandbox,
) -> None:
    """Else it would keep the timer thread for a conversation that is over."""
    client = client_of(sandbox)
    engine = client._engine
    deadline = timers.monotonic() + PATIENCE
    engine._scheduled = deadline
    engine._timer.set(deadline)  # another step's, between the firing and the wake
    engine._wake()
    assert timers.settle(PATIENCE)
    assert threads_of_polysync() == []
