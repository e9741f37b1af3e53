"""Plays many scripts at the same time, on threads or on any executor."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import attrs

from polysync.errors import ConfigurationError
from polysync.runtime.clock import monotonic
from polysync.runtime.redact import Secret, redact
from polysync.scenarios.outcome import Failure, Outcome
from polysync.scenarios.player import play
from polysync.scenarios.report import Report
from polysync.scenarios.script import Script
from polysync.scenarios.talk import Talk

__all__ = ["run_scripts"]

#: How many conversations are held at the same time unless something else is said.
PARALLEL = 10

_SECRETS = ("connector_token", "access_token", "proxy")


def run_scripts(
    scripts: Sequence[Script],
    *,
    options: Mapping[str, Any] | None = None,
    parallel: int = PARALLEL,
    repeat: int = 1,
    executor: Executor | None = None,
    on_outcome: Callable[[Outcome], object] | None = None,
) -> Report:
    """Play scripts, many at the same time.

    Args:
        scripts: What `load_scripts` gave, or made by hand.
        options: Keywords for each conversation's `polysync.Client`.
        parallel: How many conversations are under way at any time.
        repeat: How often each script is played.
        executor: Where they are played: any `concurrent.futures.Executor`. It is not
            shut down. Default: threads of this process. One that sends work elsewhere
            sends the options along, and the connector token is among them.
        on_outcome: Called in this thread with each outcome, as it is there.

    Returns:
        The outcomes in the order of the repetitions and scripts, whatever order they
        came in. An interrupt (^C) stops the run and is raised as
        `KeyboardInterrupt`, with the report so far as its argument.

    Raises:
        ConfigurationError: ``parallel`` or ``repeat`` is below 1, or there are no
            scripts.
    """
    if parallel < 1 or repeat < 1:
        raise ConfigurationError("parallel and repeat must be 1 or more")
    if not scripts:
        raise ConfigurationError("there are no scripts to play")
    plan = [(script, n) for n in range(1, repeat + 1) for script in scripts]
    parallel = min(parallel, len(plan))
    run = _Run(plan, _hidden(options or {}), on_outcome)
    if executor is not None:
        return run.on(executor, parallel, play)
    live = _Live()
    pool = ThreadPoolExecutor(parallel, thread_name_prefix="polysync-run")
    try:
        return run.on(pool, parallel, live.play)
    except BaseException:
        live.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class _Run:
    """One run: what is to be played, and what has come of it."""

    def __init__(
        self,
        plan: Sequence[tuple[Script, int]],
        options: dict[str, Any],
        on_outcome: Callable[[Outcome], object] | None,
    ) -> None:
        self._plan = plan
        self._options = options
        self._on_outcome = on_outcome
        self._outcomes: dict[int, Outcome] = {}

    def on(
        self, executor: Executor, parallel: int, work: Callable[..., Outcome]
    ) -> Report:
        started, clock = time.time(), monotonic()
        done: queue.SimpleQueue[tuple[int, Future[Outcome]]] = queue.SimpleQueue()
        places = iter(range(len(self._plan)))
        pending: dict[int, Future[Outcome]] = {}

        def report() -> Report:
            return Report(
                outcomes=tuple(self._outcomes[i] for i in sorted(self._outcomes)),
                planned=len(self._plan),
                started=started,
                seconds=monotonic() - clock,
                parallel=parallel,
            )

        try:
            while len(self._outcomes) < len(self._plan):
                for place in _some(places, parallel - len(pending)):
                    script, number = self._plan[place]
                    future = _submitted(executor, work, script, self._options, number)
                    pending[place] = future
                    future.add_done_callback(_put(done, place))
                place, future = done.get()
                del pending[place]
                self._settle(place, future)
        except KeyboardInterrupt:
            for future in pending.values():
                future.cancel()
            raise KeyboardInterrupt(report()) from None
        return report()

    def _settle(self, place: int, future: Future[Outcome]) -> None:
        script, number = self._plan[place]
        try:
            outcome = future.result()
        except Exception as error:
            # The executor failed, not the conversation: a worker died, say.
            words = f"it could not be played: {type(error).__name__}: {error}"
            secret = self._options.get("connector_token")
            outcome = Outcome(
                script=script.name,
                path=script.path,
                number=number,
                failure=Failure(kind="error", message=redact(words, secret)),
                started=time.time(),
            )
        self._outcomes[place] = outcome
        if self._on_outcome is not None:
            self._on_outcome(outcome)


def _submitted(
    executor: Executor, work: Callable[..., Outcome], *args: Any
) -> Future[Outcome]:
    try:
        return executor.submit(work, *args)
    except Exception as error:
        # It is broken; what it still holds shall be waited for all the same.
        future: Future[Outcome] = Future()
        future.set_exception(error)
        return future


def _hidden(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options so that no executor's log shows the secrets in them."""
    return {
        name: Secret(value) if name in _SECRETS and isinstance(value, str) else value
        for name, value in options.items()
    }


def _some(places: Iterator[int], count: int) -> Iterator[int]:
    for _ in range(count):
        place = next(places, None)
        if place is None:
            return
        yield place


def _put(
    done: queue.SimpleQueue[tuple[int, Future[Outcome]]], place: int
) -> Callable[[Future[Outcome]], None]:
    return lambda future: done.put((place, future))


@attrs.define(eq=False)
class _Live:
    """The conversations that are under way in this process, to be stopped at once."""

    _lock: threading.Lock = attrs.field(factory=threading.Lock)
    _talks: set[Talk] = attrs.field(factory=set)
    _stopped: bool = False

    def play(self, script: Script, options: Mapping[str, Any], number: int) -> Outcome:
        mine: list[Talk] = []

        def begun(talk: Talk) -> None:
            mine.append(talk)
            with self._lock:
                self._talks.add(talk)
                stopped = self._stopped
            if stopped:
                talk.stop()

        try:
            return play(script, options, number, begun=begun)
        finally:
            with self._lock:
                self._talks.difference_update(mine)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            talks = list(self._talks)
        for talk in talks:
            talk.stop()
