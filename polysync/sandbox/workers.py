"""Daemon threads for agents that may block.

`concurrent.futures` would join its threads when the interpreter exits, so that one
agent stuck in a test would keep the process alive for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

__all__ = ["Workers"]

_T = TypeVar("_T")
_MOST_THREADS = 32


class Workers:
    """A few threads, started when there is work and none is idle."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0

    async def run(self, function: Callable[..., _T], *args: Any) -> _T:
        """Run a function on a worker; called on the loop."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()

        def settle(finish: Callable[[], None]) -> None:
            self._busy -= 1
            if not done.cancelled():
                finish()

        def job() -> None:
            try:
                finish = partial(done.set_result, function(*args))
            except BaseException as error:
                failure = error
                if not isinstance(error, Exception) or isinstance(error, StopIteration):
                    # A future takes the one not at all, and the other would end the
                    # sandbox's thread.
                    failure = RuntimeError(f"the agent raised {error!r}")
                finish = partial(done.set_exception, failure)
            # If the sandbox was stopped meanwhile, nobody waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, finish)

        self._busy += 1
        if self._busy > len(self._threads) < _MOST_THREADS:
            self._start()
        self._jobs.put(job)
        return await done

    def stop(self, timeout: float) -> None:
        """End the threads; one that is stuck in an agent is left behind."""
        deadline = time.monotonic() + timeout
        threads, self._threads = self._threads, []
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _start(self) -> None:
        thread = threading.Thread(
            target=self._work,
            name=f"polysync-sandbox-agent-{len(self._threads) + 1}",
            daemon=True,
        )
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
