"""What the parts of one running sandbox share, and the way onto its thread."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from polysync.sandbox.actions import Drop
from polysync.sandbox.faults import Faults
from polysync.sandbox.record import Changes, Received
from polysync.sandbox.settings import Settings
from polysync.sandbox.tokens import Tokens
from polysync.sandbox.workers import Workers

if TYPE_CHECKING:
    from polysync.sandbox.connection import Connection
    from polysync.sandbox.session import Session

__all__ = ["Context"]

_T = TypeVar("_T")
_CALL_TIMEOUT = 10.0


class Context:
    """The state of a sandbox. All of it changes on the sandbox's thread alone."""

    def __init__(
        self,
        settings: Settings,
        agent: Any,
        connector_token: str,
        registered_host: str | None,
    ) -> None:
        self.settings = settings
        self.agent = agent
        self.changes = Changes()
        self.faults = Faults(self.changes)
        self.received = Received(self.changes, settings.record_limit)
        self.tokens = Tokens(
            connector_token, registered_host, settings.access_token_lifetime
        )
        self.sessions: dict[str, Session] = {}
        self.connections: set[Connection] = set()  # those of forgotten sessions too
        self._ended: deque[str] = deque()
        self.workers = Workers()
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopped = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: threading.Thread | None = None

    def running_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop, or say that there is none."""
        if self.loop is None:
            raise RuntimeError("the sandbox is not running; call start() first")
        return self.loop

    def call(self, function: Callable[[], _T]) -> _T:
        """Run a function on the sandbox's thread and return what it gives.

        May be called from any thread, the sandbox's own included.
        """
        loop = self.running_loop()
        if threading.current_thread() is self.thread:
            return function()
        result: Future[_T] = Future()

        def run() -> None:
            try:
                result.set_result(function())
            except BaseException as error:
                result.set_exception(error)

        loop.call_soon_threadsafe(run)
        return result.result(_CALL_TIMEOUT)

    def retire(self, session: Session) -> None:
        """Count a session that has ended, and forget those that ended long before."""
        with self.changes:
            self._ended.append(session.id)
            while len(self._ended) > self.settings.session_limit:
                self.sessions.pop(self._ended.popleft(), None)

    def abandon(self) -> None:
        """Drop all connections at once."""
        for connection in list(self.connections):
            connection.act(Drop())

    def spawn(self, work: Any) -> asyncio.Task[None]:
        """Run a coroutine beside everything else; it is cancelled on stop()."""
        task: asyncio.Task[None] = self.running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task
