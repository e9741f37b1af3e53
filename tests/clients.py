"""Clients for tests: connected to a sandbox, quick to reconnect, watched from outside.

::

    with talking() as (sandbox, client):
        client.ask("hello")

The default agent is `SilentAgent`, which greets and then says only what the test
pushes, so that the test decides what comes when.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from polysync import Client
from polysync.sandbox import Sandbox, SilentAgent
from polysync.sandbox.session import Session

T = TypeVar("T")

#: Scales all times of tests, as in tests/conftest.py.
SCALE = float(os.environ.get("POLYSYNC_TEST_UNIT", "1"))

#: Nothing in a test takes longer than this, unless it hangs.
PATIENCE = 10.0 * SCALE

#: A timeout that is meant to pass.
SHORT = 0.05 * SCALE

#: What a busy machine may add to a timeout.
NOISE = 1.0 * SCALE

QUICK: dict[str, Any] = {
    "timeout": PATIENCE,
    "reply_timeout": PATIENCE,
    "reconnect_delay": 0.005,
    "reconnect_delay_max": 0.02,
}


def client_of(sandbox: Sandbox, **options: Any) -> Client:
    """Return a client of a sandbox, not connected."""
    settings = {
        **QUICK,
        "environment": sandbox.base_url,
        "connector_token": sandbox.connector_token,
        "host": sandbox.host,
        **options,
    }
    return Client(**settings)


@contextlib.contextmanager
def talking(
    agent: Any = SilentAgent,
    *,
    settings: dict[str, Any] | None = None,
    connect: dict[str, Any] | None = None,
    **options: Any,
) -> Iterator[tuple[Sandbox, Client]]:
    """Run a sandbox and a connected client, and close both in the end."""
    with Sandbox(agent, **(settings or {})) as sandbox:
        client = client_of(sandbox, **options)
        try:
            client.connect(**(connect or {}))
            yield sandbox, client
        finally:
            client.close()


def chunk(
    session: Session, message_id: str, index: int, text: str, last: bool = False
) -> None:
    """Let the agent send a chunk of a reply."""
    session.push(
        "POLY_AGENT_MESSAGE_CHUNK",
        {
            "message_id": message_id,
            "text": text,
            "chunk_index": index,
            "is_complete": last,
        },
    )


class Task(threading.Thread, Generic[T]):
    """A call in a thread of its own: ``Task(client.ask, "hello").result()``."""

    def __init__(
        self, call: Callable[..., T], *args: Any, around: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(name=f"task-{getattr(call, '__name__', 'call')}", daemon=True)
        self._call = lambda: call(*args, **kwargs)
        self._result: T | None = None
        self._error: BaseException | None = None
        #: How long the call took, in seconds, once it has ended.
        self.took = 0.0
        self.start()

    def run(self) -> None:
        started = time.monotonic()
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error
        self.took = time.monotonic() - started

    def outcome(self, timeout: float = PATIENCE) -> T | BaseException | None:
        """Wait for the end; return what the call returned or raised."""
        self.join(timeout)
        assert not self.is_alive(), f"{self.name} still waits after {timeout:g} s"
        return self._result if self._error is None else self._error

    def result(self, timeout: float = PATIENCE) -> T:
        """Wait for the end; return what the call returned, raise what it raised."""
        self.outcome(timeout)
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


def threads_of_polysync() -> list[str]:
    """Return the names of the package's living threads, the sandbox's aside."""
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("polysync-")
        and not thread.name.startswith("polysync-sandbox")
    ]


def waiting(client: Client, count: int = 1) -> Callable[[], bool]:
    """Return a predicate: so many calls of `receive` wait on the client."""
    return lambda: client._engine.read(
        lambda c: len(c.dialogue.replies._receivers) >= count
    )


def eventually(predicate: Callable[[], T], timeout: float = PATIENCE) -> T:
    """Look again and again until a predicate is true.

    Only for what nothing announces, such as that a thread has begun to wait.
    """
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s"
        pause.wait(0.002)
    return value
