"""The pool: whose client a request gets, and what becomes of it afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from polysync import (
    CacheStore,
    Client,
    ClientPool,
    ConfigurationError,
    ConnectionStatus,
    LockTimeoutError,
    SessionEndedError,
    SessionNotFoundError,
)
from polysync.errors import AuthenticationError
from polysync.events import PolyAgentMessage, UserMessage
from polysync.sandbox import EchoAgent, Sandbox
from polysync.sessions import pool as pool_module
from polysync.sessions.memory import MemoryCache
from polysync.sessions.store import StoreError


@pytest.fixture
def echo() -> Iterator[Sandbox]:
    with Sandbox(EchoAgent) as sandbox:
        yield sandbox


@pytest.fixture
def store() -> CacheStore:
    return CacheStore(MemoryCache())


PoolMaker = Callable[..., ClientPool]


@pytest.fixture
def make_pool(echo: Sandbox, store: CacheStore) -> Iterator[PoolMaker]:
    """Make pools on the sandbox that share a store, as processes do."""
    made: list[ClientPool] = []

    def make(**options: Any) -> ClientPool:
        settings = {
            "environment": echo.base_url,
            "connector_token": echo.connector_token,
            "host": echo.host,
            **options,
        }
        made.append(ClientPool(settings.pop("store", store), **settings))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


# --- whose client ------------------------------------------------------------------


def test_the_first_request_begins_a_conversation(
    make_pool: PoolMaker, echo: Sandbox
) -> None:
    """And it has the greeting."""
    pool = make_pool()
    with pool.conversation("k") as client:
        assert client.greeting is not None
        assert client.session_id == echo.session.id
        assert pool.statistics.in_use == 1
    assert (pool.statistics.created, pool.statistics.live) == (1, 1)
    assert pool.statistics.in_use == 0


def test_the_next_request_here_has_the_same_client(make_pool: PoolMaker) -> None:
    """It is still connected."""
    pool = make_pool()
    with pool.conversation("k") as first:
        pass
    with pool.conversation("k") as second:
        assert second is first
        assert second.status is ConnectionStatus.OPEN
    assert pool.statistics.hits == 1


def test_a_request_elsewhere_takes_the_conversation_up(
    make_pool: PoolMaker, echo: Sandbox
) -> None:
    """With its history, and with what arrived while nobody was connected."""
    here, there = make_pool(max_clients=0), make_pool()
    with here.conversation("k") as client:
        client.ask("one")
        session = client.session_id
    echo.wait_until(lambda: not echo.session.connections)
    echo.session.say("While you were away")
    with there.conversation("k") as client:
        assert client.session_id == session
        texts = [item.text for item in client.transcript]
        assert texts[-3:] == ["one", "one", "While you were away"]
        assert client.receive(timeout=5).text == "While you were away"
    assert there.statistics.resumed == 1


def test_two_live_clients_of_a_conversation_both_know_all(
    make_pool: PoolMaker,
) -> None:
    """Turns may alternate between processes without anything being taken up anew."""
    pools = [make_pool(), make_pool()]
    for number in range(6):
        with pools[number % 2].conversation("k") as client:
            assert client.ask(f"turn {number}").text == f"turn {number}"
    assert sum(pool.statistics.created for pool in pools) == 1
    assert sum(pool.statistics.resumed for pool in pools) == 1
    for pool in pools:
        with pool.conversation("k", exclusive=False) as client:
            # The last echo may still be on its way to the one that did not ask.
            echoes = client.events(UserMessage, timeout=10, replay=True)
            said = [next(echoes).text for _ in range(6)]
            assert said == [f"turn {number}" for number in range(6)]


def test_keys_do_not_meet(make_pool: PoolMaker) -> None:
    """Each has a conversation of its own."""
    pool = make_pool()
    with pool.conversation("a") as a, pool.conversation("b") as b:
        assert a.session_id != b.session_id


def test_what_may_not_be_created_is_not(make_pool: PoolMaker, echo: Sandbox) -> None:
    """There is none, and none is begun; listening or not."""
    pool = make_pool()
    for exclusive in (True, False):
        with (
            pytest.raises(SessionNotFoundError),
            pool.conversation("k", create=False, exclusive=exclusive),
        ):
            pass
    assert not echo.sessions
    assert pool.statistics.live == 0


@pytest.mark.parametrize("key", ["", None, 7])
def test_a_key_is_a_text(make_pool: PoolMaker, key: Any) -> None:
    """An empty one would be shared by all who have none."""
    with pytest.raises(ConfigurationError), make_pool().conversation(key):
        pass


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5"])
def test_a_timeout_is_a_number_of_seconds(make_pool: PoolMaker, timeout: Any) -> None:
    """Anything else is refused rather than taken for no time at all."""
    with (
        pytest.raises(ConfigurationError),
        make_pool().conversation("k", timeout=timeout),
    ):
        pass


def test_a_live_client_takes_no_time(make_pool: PoolMaker) -> None:
    """With no time at all, only what is there already will do."""
    pool = make_pool()
    with pool.conversation("k"):
        pass
    with pool.conversation("k", timeout=0.0) as client:
        assert client.status is ConnectionStatus.OPEN
    with pytest.raises(TimeoutError), make_pool().conversation("k", timeout=0.0):
        pass


def test_wrong_settings_are_refused_at_once(make_pool: PoolMaker) -> None:
    """And not with the first request."""
    for wrong in (
        {"max_clients": -1},
        {"idle_timeout": -1},
        {"wait": "forever"},
        {"reconnect_delay": -1},
    ):
        with pytest.raises(ConfigurationError):
            make_pool(**wrong)


def test_a_new_conversation_takes_the_place_of_the_old(
    make_pool: PoolMaker, echo: Sandbox
) -> None:
    """In every process; the old one stays as it is on the server."""
    here, there = make_pool(), make_pool()
    with here.conversation("k") as client:
        old = client.session_id
    with there.conversation("k", exclusive=False):
        pass
    with here.conversation("k", new=True) as client:
        new = client.session_id
    assert new != old
    with there.conversation("k", exclusive=False) as client:
        assert client.session_id == new
    assert not any(session.ended for session in echo.sessions.values())
    with (
        pytest.raises(ConfigurationError),
        here.conversation("k", new=True, exclusive=False),
    ):
        pass


# --- the end -----------------------------------------------------------------------


@pytest.mark.parametrize("elsewhere", [False, True])
def test_after_the_end_comes_another_conversation(
    make_pool: PoolMaker, elsewhere: bool
) -> None:
    """Unless none may be created: then it is said that it is over."""
    pool = make_pool()
    with pool.conversation("k") as client:
        ended = client.session_id
        client.end_session()
    if elsewhere:
        pool = make_pool()
    for exclusive in (True, False):
        with (
            pytest.raises(SessionEndedError),
            pool.conversation("k", create=False, exclusive=exclusive),
        ):
            pass
    with pool.conversation("k") as client:
        assert client.session_id != ended


@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_ended_conversation_still_has_its_last_words(
    make_pool: PoolMaker, echo: Sandbox, elsewhere: bool
) -> None:
    """For those who ask for it: what was said while nobody listened is there."""
    pool = make_pool(max_clients=0)
    with pool.conversation("k"):
        pass
    echo.wait_until(lambda: not echo.session.connections)
    echo.session.say("Goodbye")
    echo.session.end()
    if elsewhere:
        pool = make_pool()
    for _ in range(2):
        with pool.conversation("k", exclusive=False, create=False, ended=True) as c:
            assert c.ended
            assert list(c.transcript)[-1].text == "Goodbye"


def test_a_session_that_the_server_has_forgotten_is_replaced(
    make_pool: PoolMaker, echo: Sandbox, store: CacheStore
) -> None:
    """A listener leaves the store alone, as somebody may be replacing it already."""
    pool = make_pool(max_clients=0)
    with pool.conversation("k") as client:
        before = client.session_id
    echo.session.forget()
    with (
        pytest.raises(SessionNotFoundError),
        pool.conversation("k", exclusive=False, create=False),
    ):
        pass
    assert store.load("k") is not None
    with pytest.raises(SessionNotFoundError), pool.conversation("k", create=False):
        pass
    assert store.load("k") is None
    with pool.conversation("k", exclusive=False) as client:
        assert client.session_id != before


# --- taking turns ------------------------------------------------------------------


@pytest.mark.parametrize("elsewhere", [False, True])
def test_one_request_at_a_time(make_pool: PoolMaker, elsewhere: bool) -> None:
    """In this process and in others; who waits too long is told."""
    pool = make_pool()
    other = make_pool() if elsewhere else pool
    with pool.conversation("k"):
        with pytest.raises(LockTimeoutError), other.conversation("k", timeout=0.05):
            pass
        with other.conversation("k", exclusive=False) as listener:
            assert listener.status is ConnectionStatus.OPEN
        with other.conversation("other", timeout=5):
            pass
    with other.conversation("k", timeout=5):
        pass


def test_turns_of_many_requests_do_not_mix(make_pool: PoolMaker) -> None:
    """Each has the reply to its own question, whichever process it reached."""
    pools = [make_pool(), make_pool()]

    def turn(number: int) -> None:
        with pools[number % 2].conversation(f"k{number % 5}", timeout=30) as client:
            assert client.ask(f"question {number}").text == f"question {number}"

    with ThreadPoolExecutor(20) as threads:
        for future in [threads.submit(turn, number) for number in range(60)]:
            future.result()
    assert sum(pool.statistics.created for pool in pools) == 5


def test_many_first_requests_begin_one_conversation(
    make_pool: PoolMaker, echo: Sandbox
) -> None:
    """Listening and talking, in two processes at once."""
    pools = [make_pool(), make_pool()]
    start = threading.Barrier(8)

    def request(number: int) -> str | None:
        start.wait()
        exclusive = number % 4 < 2
        with pools[number % 2].conversation("k", exclusive=exclusive) as client:
            return client.session_id

    with ThreadPoolExecutor(8) as threads:
        sessions = set(threads.map(request, range(8)))
    assert len(sessions) == len(echo.sessions) == 1


def test_an_error_in_the_block_frees_the_conversation(make_pool: PoolMaker) -> None:
    """And it is kept for the next request."""
    pool = make_pool()
    sessions: list[str | None] = []

    def fail() -> None:
        with pool.conversation("k") as client:
            sessions.append(client.session_id)
            raise KeyError("oops")

    with pytest.raises(KeyError):
        fail()
    with pool.conversation("k", timeout=1) as client:
        assert [client.session_id] == sessions


def test_a_listener_does_not_wait_for_a_reconnection(
    make_pool: PoolMaker, echo: Sandbox, recorder: Any
) -> None:
    """It has the status to tell; who wants to talk waits."""
    pool = make_pool(reconnect_delay=0.05)
    with pool.conversation("k") as client:
        client.on_connection_change(recorder)
    with echo.outage():
        recorder.wait_for(1)
        with pool.conversation("k", exclusive=False, timeout=0.2) as listener:
            assert listener is client
    with pool.conversation("k", timeout=10) as talker:
        assert talker.ask("still here?").text == "still here?"


# --- keeping and letting go --------------------------------------------------------


def test_the_longest_unused_client_makes_room(make_pool: PoolMaker) -> None:
    """There are never more than the pool may keep; their conversations go on."""
    pool = make_pool(max_clients=2, wait="session")
    sessions = {}
    for key in ("a", "b", "a", "c"):
        with pool.conversation(key) as client:
            sessions[key] = client.session_id
            assert pool.statistics.live <= 2
    assert (pool.statistics.live, pool.statistics.detached) == (2, 1)
    with pool.conversation("a"):
        pass
    assert pool.statistics.hits == 2
    with pool.conversation("b") as client:
        assert client.session_id == sessions["b"]
    assert pool.statistics.resumed == 1


def test_a_client_in_use_is_not_taken_away(make_pool: PoolMaker) -> None:
    """Rather there is one too many until it is free."""
    pool = make_pool(max_clients=1, wait="session")
    with pool.conversation("a") as a, pool.conversation("b") as b:
        assert a.status is b.status is ConnectionStatus.OPEN
        assert pool.statistics.live == 2
    assert pool.statistics.live == 1


def test_nothing_is_kept_when_nothing_may_be(make_pool: PoolMaker) -> None:
    """With room for none, each request takes the conversation up."""
    pool = make_pool(max_clients=0)
    for number in range(3):
        with pool.conversation("k") as client:
            client.ask(f"turn {number}")
        assert pool.statistics.live == 0
    assert pool.statistics.resumed == 2


def test_an_idle_client_is_detached(make_pool: PoolMaker, echo: Sandbox) -> None:
    """After its time, and its conversation stays open."""
    pool = make_pool(idle_timeout=0.05)
    with pool.conversation("k"):
        pass
    echo.wait_until(lambda: echo.session.connections == 0)
    assert pool.statistics.live == 0
    assert pool.statistics.detached == 1
    assert not echo.session.ended


def test_being_listened_to_is_use(make_pool: PoolMaker, echo: Sandbox) -> None:
    """A client is not idle while somebody has its stream open."""
    pool = make_pool(idle_timeout=0.05)
    with pool.conversation("a"):
        pass
    with pool.conversation("a", exclusive=False) as client:
        session = echo.session
        with pool.conversation("b"):
            pass
        other = echo.session
        echo.wait_until(lambda: other.connections == 0)
        assert client.status is ConnectionStatus.OPEN
        assert session.connections == 1


def test_how_far_it_was_is_saved_when_it_is_detached(
    make_pool: PoolMaker, echo: Sandbox
) -> None:
    """So that callbacks elsewhere are not told again what they were told here."""
    told: list[str] = []

    def configure(client: Client, key: str) -> None:
        client.on_agent_message(lambda message: told.append(message.text))

    pool = make_pool(configure=configure)
    with pool.conversation("k") as client:
        events = client.events(PolyAgentMessage, timeout=5)
    echo.session.say("Later")
    next(events)
    pool.close()
    with make_pool(configure=configure).conversation("k"):
        pass
    assert told.count("Later") == 1


def test_a_conversation_that_is_only_listened_to_does_not_expire(
    make_pool: PoolMaker, store: CacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state is saved again now and then, unless somebody has the turn."""
    pool = make_pool()
    with pool.conversation("k"):
        pass
    saved: list[str] = []
    monkeypatch.setattr(pool_module, "REFRESH", 0.0)
    monkeypatch.setattr(store, "save", lambda key, state: saved.append(key))
    with pool.conversation("k", exclusive=False):
        pass
    assert saved == ["k"]
    with store.lock("k"), pool.conversation("k", exclusive=False):
        pass
    with pool.conversation("k"), pool.conversation("k", exclusive=False):
        pass
    assert saved == ["k", "k"]


def test_a_forgotten_conversation_stays_forgotten(
    make_pool: PoolMaker, store: CacheStore
) -> None:
    """Also by other processes that have a client of it, and if forgotten in use."""
    here, there = make_pool(), make_pool()
    with here.conversation("k") as client:
        old = client.session_id
    with there.conversation("k", exclusive=False):
        pass
    with here.conversation("k"):
        here.forget("k")
    assert store.load("k") is None
    with there.conversation("k") as client:
        assert client.session_id != old
    here.forget("never was")


def test_a_late_turn_does_not_overwrite_a_newer_conversation(
    make_pool: PoolMaker, store: CacheStore
) -> None:
    """A process that was stopped for so long that its lock expired, for one."""
    pool = make_pool()
    with pool.conversation("k"):
        with make_pool(store=CacheStore(MemoryCache())).conversation("x") as client:
            newer = client.state
        assert newer is not None
        store.save("k", newer)
    assert store.load("k") == newer


def test_a_failing_store_costs_no_turn(
    make_pool: PoolMaker, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """What was said was said; only a conversation that nobody could find is closed."""
    cache = MemoryCache()
    pool = make_pool(store=CacheStore(cache))
    with pool.conversation("k") as client:
        assert client.ask("one").text == "one"
        monkeypatch.setattr(cache, "set", lambda *_: False)
    assert "was not saved" in caplog.text
    with pytest.raises(StoreError), pool.conversation("other"):
        pass
    assert pool.statistics.live == 1


def test_closing_detaches_all_and_the_pool_goes_on(
    make_pool: PoolMaker, echo: Sandbox
) -> None:
    """The conversations stay open, and are taken up when they are wanted."""
    pool = make_pool()
    with pool.conversation("k") as client:
        pass
    pool.close()
    assert client.status is ConnectionStatus.CLOSED
    assert pool.statistics.live == 0
    with pool.conversation("k") as again:
        assert again.session_id == client.session_id
    assert "1 live" in repr(pool)


def test_a_client_that_its_user_has_closed_is_replaced(make_pool: PoolMaker) -> None:
    """It is the pool's to close, but no harm is done."""
    pool = make_pool()
    with pool.conversation("k") as client:
        session = client.session_id
        client.close()
    with pool.conversation("k") as client:
        assert client.session_id == session
        assert client.ask("Hi").text == "Hi"


def test_what_fails_leaves_nothing_behind(make_pool: PoolMaker) -> None:
    """No client, no entry, no lock."""
    pool = make_pool(connector_token="wrong")
    for _ in range(2):
        with pytest.raises(AuthenticationError), pool.conversation("k", timeout=5):
            pass
    assert pool.statistics == pool_module.PoolStatistics()
    assert not pool._entries


def test_nothing_begins_before_the_first_use(
    make_pool: PoolMaker, echo: Sandbox
) -> None:
    """No thread and no connection, whatever is asked of the pool."""
    before = threading.active_count()
    pool = make_pool()
    assert pool.statistics.live == 0
    pool.close()
    assert threading.active_count() == before
    assert not echo.received.requests


# --- processes ---------------------------------------------------------------------

WORKER = """
import os, sys
from polysync import CacheStore, ClientPool
from cachelib.file import FileSystemCache
how, where, url, token, host = sys.argv[1:]
store = CacheStore(FileSystemCache(where))
pool = ClientPool(store, environment=url, connector_token=token, host=host)
def talk(text):
    with pool.conversation("k") as client:
        print(client.session_id, client.ask(text).text, flush=True)
talk("parent")
if how == "fork":
    child = os.fork()
    if child == 0:
        talk("child")
        assert pool.statistics.created == 0
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    talk("parent again")
    assert pool.statistics.hits == 1
elif how == "killed":
    os.kill(os.getpid(), 9)
"""


def run_worker(echo: Sandbox, how: str, where: Any) -> subprocess.CompletedProcess[str]:
    arguments = [how, str(where), echo.base_url, echo.connector_token, echo.host]
    # 3.12 warns of every fork in a process with threads; that is what is tested.
    warnings = ("-W", "error::ResourceWarning", "-W", "ignore::DeprecationWarning")
    return subprocess.run(
        [sys.executable, *warnings, "-c", WORKER, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.subprocess
def test_a_child_process_has_clients_of_its_own(echo: Sandbox, tmp_path: Any) -> None:
    """It takes up what the parent has begun, and leaves the parent's client alone."""
    result = run_worker(echo, "fork", tmp_path / "cache")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    lines = [line.split(" ", 1) for line in result.stdout.splitlines()]
    assert [text for _, text in lines] == ["parent", "child", "parent again"]
    assert len({session for session, _ in lines}) == 1


@pytest.mark.subprocess
@pytest.mark.parametrize("how", ["exit", "killed"])
def test_a_conversation_outlives_its_process(
    echo: Sandbox, tmp_path: Any, how: str
) -> None:
    """Ended or killed, the next one goes on with it."""
    first = run_worker(echo, how, tmp_path / "cache")
    assert first.stderr == ""
    session = first.stdout.split()[0]
    echo.wait_until(lambda: echo.session.connections == 0)
    assert not echo.session.ended
    second = run_worker(echo, "exit", tmp_path / "cache")
    assert second.stdout.split()[0] == session
    assert len(echo.session.user_messages) == 2


def test_leaving_the_process_takes_no_longer_than_it_may(
    make_pool: PoolMaker, echo: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a time, what is not closed by then is dropped."""
    pool = make_pool(wait="session")
    clients: list[Client] = []
    with ExitStack() as stack:
        for number in range(3):
            clients.append(stack.enter_context(pool.conversation(f"k{number}")))
    pool.close(timeout=0.0)
    assert pool.statistics.live == 0
    for client in clients:
        client.close()
