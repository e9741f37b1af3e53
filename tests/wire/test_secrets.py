"""No secret shows anywhere, through a whole life with every failure in it."""

from __future__ import annotations

import io
import logging
import pickle
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from polysync import (
    Client,
    ClientPool,
    ConfigurationError,
    PolysyncError,
    SessionState,
)
from polysync.runtime.network import Network
from polysync.sandbox import EchoAgent, Sandbox
from polysync.sandbox.faults import Moment

CONNECTOR_TOKEN = "connector-s3cret-" + "c" * 24
PROXY_PASSWORD = "proxy-s3cret-" + "p" * 16


class Everything:
    """Collects all that a person could come to see."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.secrets = [CONNECTOR_TOKEN, PROXY_PASSWORD]
        self._log = io.StringIO()
        self.handler = logging.StreamHandler(self._log)
        self.handler.setFormatter(
            logging.Formatter("%(name)s %(levelname)s %(pathname)s %(message)s")
        )

    def show(self, *values: object) -> None:
        """Keep what repr and str make of the values."""
        for value in values:
            self.seen += [repr(value), str(value)]

    def fail(self, call: Callable[[], Any]) -> PolysyncError:
        """Make a call that fails; keep its whole traceback, variables included."""
        try:
            call()
        except PolysyncError as error:
            report = traceback.TracebackException.from_exception(
                error, capture_locals=True
            )
            ours = [
                f"{name} = {value}"
                for frame in _chain(report)
                # A test's own variables are the test's; those of the package are shown
                # by error reporters.
                if "/polysync/" in frame.filename.replace("\\", "/")
                for name, value in (frame.locals or {}).items()
                if name not in _PLAIN
            ]
            self.seen += ["".join(traceback.format_exception(error)), *ours]
            self.show(error, error.args, vars(error))
            return error
        raise AssertionError("the call did not fail")

    def check(self) -> None:
        """Look for every secret in everything."""
        self.seen.append(self._log.getvalue())
        assert len(self._log.getvalue()) > 1_000, "the log was not captured"
        for text in self.seen:
            for secret in self.secrets:
                at = text.find(secret)
                assert at < 0, text[max(0, at - 200) : at + 20]


#: Parameters that are plain strings in the package, and have to be somewhere.
_PLAIN = frozenset(
    {
        "connector_token",
        "access_token",
        "token",
        "proxy",
        "value",
        "environment",
        "text",
    }
)


def _chain(report: traceback.TracebackException | None) -> Iterator[Any]:
    while report is not None:
        yield from report.stack
        report = report.__cause__ or report.__context__


@pytest.fixture
def everything() -> Iterator[Everything]:
    """All loggers at DEBUG, whoever's they are, and all warnings."""
    found = Everything()
    root = logging.getLogger()
    level = root.level
    root.addHandler(found.handler)
    root.setLevel(logging.DEBUG)
    names = ("urllib3", "websocket", "polysync", "asyncio", "aiohttp")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield found
    root.removeHandler(found.handler)
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    found.seen += [str(warning.message) for warning in caught]
    found.check()


def options(sandbox: Sandbox, **more: Any) -> dict[str, Any]:
    """Settings of a client of the sandbox."""
    return {
        "connector_token": CONNECTOR_TOKEN,
        "host": sandbox.host,
        "environment": sandbox.base_url,
        "timeout": 5,
        "reconnect_delay": 0.01,
        "reconnect_delay_max": 0.02,
        **more,
    }


def test_a_whole_life_shows_no_secret(everything: Everything) -> None:
    """Calls, events, states, reprs and logs of a conversation from start to end."""
    with Sandbox(EchoAgent(), connector_token=CONNECTOR_TOKEN) as sandbox:
        client = Client(**options(sandbox))
        client.on_event(everything.show)
        client.on_error(everything.show)
        client.on_connection_change(everything.show)
        everything.show(client, client._engine, client._options)
        client.connect()
        state = client.state
        assert state is not None
        everything.secrets.append(state.access_token)
        everything.show(client, state, client.history, client.transcript)
        everything.show(*client._engine.resources.connections.values())
        client.ask("hello")
        sandbox.session.drop()
        client.ask("after a drop")
        state = client.detach()
        everything.show(state, pickle.loads(pickle.dumps(state)))
        client = Client.resume(SessionState.from_json(state.to_json()))
        everything.show(client, client._engine.conversation)
        with client:
            everything.show(client.ask("resumed"))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
def test_refusals_show_no_secret(everything: Everything, status: int) -> None:
    """Every step refused, by a server that repeats what it was sent."""
    with Sandbox(EchoAgent(), connector_token=CONNECTOR_TOKEN) as sandbox:
        for moment in (Moment.ACCESS_TOKEN, Moment.SESSION, Moment.HANDSHAKE):
            sandbox.faults.clear()
            sandbox.faults.refuse(
                moment,
                status,
                error=f"no: X-Token {CONNECTOR_TOKEN}",
                retry_after=60,
                times=None,
            )
            with_limit = options(sandbox, timeout=0.5, max_reconnects=1)
            client = Client(**with_limit)
            everything.fail(client.connect)
            everything.show(client)
            client.close()


def test_a_server_that_is_not_there_shows_no_secret(everything: Everything) -> None:
    """Refused, stalled and reset connections, with and without a proxy."""
    with Sandbox(EchoAgent(), connector_token=CONNECTOR_TOKEN) as sandbox:
        where = options(sandbox, timeout=0.3)
        proxied = f"http://user:{PROXY_PASSWORD}@127.0.0.1:{sandbox.port}"
        everything.show(Network(sandbox.base_url, proxy=proxied))
        for moment in (Moment.ACCESS_TOKEN, Moment.SESSION, Moment.HANDSHAKE):
            for arm in (sandbox.faults.drop, sandbox.faults.stall):
                sandbox.faults.clear()
                arm(moment, times=None)
                client = Client(**where)
                everything.fail(client.connect)
                client.close()
    for more in ({}, {"proxy": proxied}):
        client = Client(**{**where, **more})
        everything.show(client, client._options)
        everything.fail(client.connect)
        client.close()


def test_bad_settings_show_no_secret(everything: Everything) -> None:
    """A token with a slip in it, a base URL with a password."""
    logging.getLogger("polysync").debug("x" * 2_000)
    everything.fail(lambda: Client(CONNECTOR_TOKEN + "\n", "https://www.example.com"))
    everything.fail(lambda: Client(CONNECTOR_TOKEN + " é", "https://www.example.com"))
    with pytest.raises(ConfigurationError) as caught:
        Client(
            CONNECTOR_TOKEN,
            "https://www.example.com",
            environment=f"https://user:{PROXY_PASSWORD}@messaging.example",
        )
    everything.show(caught.value)
    everything.fail(
        lambda: SessionState.from_json(f'{{"access_token": "{CONNECTOR_TOKEN}')
    )
    everything.fail(lambda: Client(access_token=CONNECTOR_TOKEN + "\r\nX: y"))


def test_the_pool_and_store_show_no_secret(everything: Everything) -> None:
    """A pool, its store and a locked conversation."""
    cachelib = pytest.importorskip("cachelib")
    from polysync import CacheStore

    with Sandbox(EchoAgent(), connector_token=CONNECTOR_TOKEN) as sandbox:
        store = CacheStore(cachelib.SimpleCache())
        pool = ClientPool(store, **options(sandbox))
        with pool.conversation("k") as client:
            state = client.state
            assert state is not None
            everything.secrets.append(state.access_token)
            client.ask("x")
            everything.show(pool, store, pool.statistics)
        everything.show(store.load("k"))
        pool.close()
