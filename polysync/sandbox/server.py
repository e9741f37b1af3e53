"""The sandbox itself: a server on a thread of its own, started and stopped at will."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator, Mapping
from ipaddress import ip_address
from types import MappingProxyType, TracebackType
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.http import HttpProcessingError

from polysync.sandbox.agents import Actor
from polysync.sandbox.booking import BookingAgent
from polysync.sandbox.connection import abort
from polysync.sandbox.context import Context
from polysync.sandbox.faults import Faults
from polysync.sandbox.record import Received
from polysync.sandbox.rest import Endpoints
from polysync.sandbox.session import Session
from polysync.sandbox.settings import Settings

__all__ = ["Sandbox"]

logger = logging.getLogger("polysync.sandbox")
http_logger = logging.getLogger("polysync.sandbox.http")


def _without_request_line(record: logging.LogRecord) -> bool:
    """Keep the traceback of a malformed request out: it quotes the access token."""
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        record.exc_info = None
    return True


http_logger.addFilter(_without_request_line)

_T = TypeVar("_T")
_START_TIMEOUT = 10.0
_STOP_TIMEOUT = 3.0
_WORKERS_TIMEOUT = 1.0

# Of the loop, from a connection that is accepted to one that is known; asyncio takes
# three of them.
_TURNS = 5


async def _stop_listening(
    runner: web.AppRunner, listener: socket.socket | None
) -> None:
    """Accept nothing more, and let the runner know of all that was accepted.

    A connection takes some turns of the loop from being accepted to being known to
    the runner. A site that is stopped before that leaves its socket open.
    """
    if listener is not None and listener.fileno() >= 0:
        asyncio.get_running_loop().remove_reader(listener)
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    for site in list(runner.sites):
        await site.stop()


class Sandbox:
    """A local server that speaks the Messaging API, with an agent to talk to.

    Runs on one daemon thread, from `start` to `stop` or for the length of a ``with``
    block. May be started again after it was stopped; it then begins afresh, on the
    same port, and knows none of the earlier sessions.

    Args:
        agent: Who answers: a function of a `Turn`, an agent's class (an instance for
            each conversation) or an instance. By default a `BookingAgent`.
        address: The address to listen on. Anything but a loopback address lets others
            in, and warns.
        port: The port; 0 for any free one.
        connector_token: The connector token to accept; random by default.
        registered_host: The host that belongs to the token; `None` for a connector
            without one, which nobody can get an access token for.
        ssl_context: Serve TLS with this, as ``https://localhost:…``.
        settings: See `Settings`: every field of it is a keyword here.

    Raises:
        TypeError: There is no such setting, or the agent is none.
    """

    def __init__(
        self,
        agent: Any = None,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        connector_token: str | None = None,
        registered_host: str | None = "https://www.example.com",
        ssl_context: ssl.SSLContext | None = None,
        **settings: Any,
    ) -> None:
        self._settings = Settings(**settings)
        self._agent = BookingAgent if agent is None else agent
        Actor.check(self._agent)
        self._address = address
        self._wanted_port = port
        self._port = 0
        self._connector_token = connector_token or secrets.token_urlsafe(24)
        self._registered_host = registered_host
        self._ssl_context = ssl_context
        self._lifecycle_lock = threading.Lock()
        self._context = self._fresh_context()
        self._socket: socket.socket | None = None
        # The same as the loop sees it, which is stopped after it was taken out there.
        self._listening: socket.socket | None = None
        self._stopping: asyncio.Event | None = None
        self._runner: web.AppRunner | None = None
        self._thread: threading.Thread | None = None
        self._pid: int | None = None

    def __repr__(self) -> str:
        where = self.base_url if self.running else "not running"
        return f"<Sandbox {where}, {len(self._context.sessions)} sessions>"

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _fresh_context(self) -> Context:
        return Context(
            self._settings,
            self._agent,
            self._connector_token,
            self._registered_host,
        )

    # Life.

    @property
    def running(self) -> bool:
        """Whether it serves, in this process."""
        return self._thread is not None and self._pid == os.getpid()

    def start(self) -> Sandbox:
        """Start serving; return as soon as connections are accepted.

        Does nothing if it is running.

        Raises:
            OSError: The address or the port is not to be had.
        """
        with self._lifecycle_lock:
            if self.running:
                return self
            if self._pid is not None:
                # A fresh start, or the child of a fork, where nothing runs any more.
                self._context = self._fresh_context()
            if self._socket is not None:
                self._socket.close()
            if self._pid != os.getpid():
                self._port = self._wanted_port
            self._warn_of_strangers()
            listener = self._listen()
            ready = threading.Event()
            failure: list[BaseException] = []
            thread = threading.Thread(
                target=self._run,
                args=(listener, ready, failure),
                name="polysync-sandbox",
                daemon=True,
            )
            self._context.thread = thread
            thread.start()
            if not ready.wait(_START_TIMEOUT) or failure:
                listener.close()
                raise RuntimeError("the sandbox did not start") from (
                    failure[0] if failure else None
                )
            self._socket, self._thread, self._pid = listener, thread, os.getpid()
            self._port = listener.getsockname()[1]
            return self

    def stop(self) -> None:
        """Stop serving and drop all connections; may be called any number of times.

        Returns within a few seconds whatever the clients and the agents do. What was
        received and said can still be looked at.
        """
        with self._lifecycle_lock:
            thread, self._thread = self._thread, None
            listener, self._socket = self._socket, None
            if thread is None or listener is None:
                return
            if self._pid != os.getpid():
                # The thread stayed behind in the parent; only its socket came along.
                listener.close()
                return
            loop, stopping = self._context.loop, self._stopping
            if loop is not None and stopping is not None:
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(stopping.set)
            thread.join(_STOP_TIMEOUT)
            self._context.workers.stop(_WORKERS_TIMEOUT)
            if thread.is_alive():
                logger.warning("the sandbox's thread did not end in time")
            listener.close()

    def _warn_of_strangers(self) -> None:
        with contextlib.suppress(ValueError):
            if ip_address(self._address).is_loopback:
                return
        if self._address != "localhost":
            warnings.warn(
                f"the sandbox listens on {self._address}: others can reach it, and it "
                "is not made to withstand them",
                RuntimeWarning,
                stacklevel=4,
            )

    def _listen(self) -> socket.socket:
        family, kind, proto, _, where = socket.getaddrinfo(
            self._address, self._port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind, proto)
        try:
            if os.name == "posix":
                # On Windows the option would let two servers have the same port.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(1024)
        except OSError:
            listener.close()
            raise
        return listener

    def _run(
        self,
        listener: socket.socket,
        ready: threading.Event,
        failure: list[BaseException],
    ) -> None:
        try:
            asyncio.run(self._serve(listener, ready))
        except BaseException as error:
            if ready.is_set():
                logger.exception("the sandbox failed")
            failure.append(error)
        finally:
            self._context.loop = None
            ready.set()

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        context = self._context
        context.loop = asyncio.get_running_loop()
        self._stopping = stopping = asyncio.Event()
        self._runner = runner = web.AppRunner(
            Endpoints(context).application(),
            access_log=None,
            logger=http_logger,
            shutdown_timeout=0.2,
        )
        await runner.setup()
        try:
            await self._listen_with(runner, listener)
            ready.set()
            await stopping.wait()
        finally:
            context.abandon()
            for task in list(context.tasks):
                task.cancel()
            context.stopped.set()
            await _stop_listening(runner, self._listening)
            server = runner.server
            handlers = server.connections if server is not None else []
            transports = [handler.transport for handler in handlers]
            await runner.cleanup()
            for transport in transports:
                # Over TLS, one that is closing waits for its peer to close too.
                if transport is not None:
                    transport.abort()
                    transport.close()
            # What was aborted gives its socket back a turn of the loop later.
            await asyncio.sleep(0)

    async def _listen_with(
        self, runner: web.AppRunner, listener: socket.socket
    ) -> None:
        self._listening = listener
        site = web.SockSite(
            runner, listener, ssl_context=self._ssl_context, backlog=1024
        )
        await site.start()

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Be down for the length of a block, and know everything afterwards.

        All connections are reset, and new ones are refused by the operating system.
        """
        self._on_loop(self._go_down())
        try:
            yield
        finally:
            self._on_loop(self._come_back())

    async def _go_down(self) -> None:
        runner = self._runner
        if runner is None:
            raise AssertionError("there is a runner because the loop runs")
        await _stop_listening(runner, self._listening)
        self._context.abandon()
        # Idle keep-alive connections would still be served.
        if runner.server is not None:
            for handler in list(runner.server.connections):
                abort(handler.transport, reset=True)

    async def _come_back(self) -> None:
        if self._runner is None:
            raise AssertionError("there is a runner because the loop runs")
        self._socket = listener = self._listen()
        await self._listen_with(self._runner, listener)

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            loop = self._context.running_loop()
        except RuntimeError:
            work.close()
            raise
        asyncio.run_coroutine_threadsafe(work, loop).result(_START_TIMEOUT)

    def _after_fork(self) -> None:
        """Be usable in the child, whatever other threads did in the parent."""
        self._lifecycle_lock = threading.Lock()

    # Where it is, and what opens it.

    @property
    def port(self) -> int:
        """The port that it listens on; 0 if that is not known yet."""
        return self._port

    @property
    def base_url(self) -> str:
        """The address for ``Client(environment=…)``.

        Raises:
            RuntimeError: It is not running, so there is no address yet.
        """
        if not self._port:
            raise RuntimeError("the sandbox has no address before start()")
        if self._ssl_context is not None:
            return f"https://localhost:{self._port}"
        name = f"[{self._address}]" if ":" in self._address else self._address
        return f"http://{name}:{self._port}"

    @property
    def connector_token(self) -> str:
        """The token that it accepts as ``X-Token``."""
        return self._connector_token

    @property
    def host(self) -> str:
        """The host that it accepts as ``X-Host``."""
        return self._registered_host or ""

    def describe(self) -> list[str]:
        """Return the lines that tell a shell how to connect to it."""
        return [
            f"export POLYSYNC_ENVIRONMENT={self.base_url}",
            f"export POLYSYNC_CONNECTOR_TOKEN={self.connector_token}",
            f"export POLYSYNC_HOST={self.host}",
        ]

    # What goes on in it.

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings

    @property
    def agent(self) -> Any:
        """Who answers; another one takes the conversations that begin from now on.

        Raises:
            TypeError: What it is set to is no agent.
        """
        return self._agent

    @agent.setter
    def agent(self, agent: Any) -> None:
        Actor.check(agent)
        self._agent = self._context.agent = agent

    @property
    def sessions(self) -> Mapping[str, Session]:
        """The sessions by their ids, oldest first: a snapshot.

        Of those that have ended, the newest `Settings.session_limit`.
        """
        with self._context.changes.lock:
            return MappingProxyType(dict(self._context.sessions))

    @property
    def session(self) -> Session:
        """The newest session.

        Raises:
            LookupError: There is none yet.
        """
        with self._context.changes.lock:
            for session in reversed(self._context.sessions.values()):
                return session
        raise LookupError("the sandbox has no session yet")

    @property
    def received(self) -> Received:
        """All that was received."""
        return self._context.received

    @property
    def faults(self) -> Faults:
        """What is to go wrong."""
        return self._context.faults

    def wait_until(self, predicate: Callable[[], _T], timeout: float = 5.0) -> _T:
        """Wait until `predicate()` is true, and return what it gave.

        The predicate is tried again whenever something has changed in the sandbox. It
        runs in the caller's thread and holds up the sandbox meanwhile, so it only
        looks: at `received`, `sessions`, a `Fault`, but pushes nothing.

        Raises:
            TimeoutError: It did not come true within `timeout` seconds.
        """
        return self._context.changes.wait_until(predicate, timeout)

    def expire_tokens(self) -> None:
        """Let all access tokens have expired."""
        self._context.call(self._context.tokens.expire)
