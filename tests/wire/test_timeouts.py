"""Timeouts are kept, and ^C gets through."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from polysync import (
    Client,
    ConnectTimeoutError,
    DeliveryTimeoutError,
    EndTimeoutError,
    ReceiveTimeoutError,
    ReplyTimeoutError,
)
from polysync.events import SessionEnd
from polysync.sandbox import Moment, Sandbox, SilentAgent
from tests.clients import (
    NOISE,
    PATIENCE,
    SHORT,
    Task,
    client_of,
    talking,
    threads_of_polysync,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def silent() -> Iterator[tuple[Sandbox, Client]]:
    with talking() as (sandbox, client):
        client.receive()
        yield sandbox, client


CALLS: dict[str, tuple[Callable[..., Any], type[Exception]]] = {
    "ask": (lambda c, t: c.ask("one", timeout=t), ReplyTimeoutError),
    "stream": (lambda c, t: list(c.stream("one", timeout=t)), ReplyTimeoutError),
    "message": (lambda c, t: c.stream("one", timeout=t).message, ReplyTimeoutError),
    "receive": (lambda c, t: c.receive(timeout=t), ReceiveTimeoutError),
    "wait_for": (lambda c, t: c.wait_for(SessionEnd, timeout=t), ReceiveTimeoutError),
    "events": (
        lambda c, t: next(c.events(SessionEnd, timeout=t)),
        ReceiveTimeoutError,
    ),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("timeout", [0.0, SHORT, 3 * SHORT])
def test_a_call_takes_as_long_as_its_timeout(
    silent: tuple[Sandbox, Client], name: str, timeout: float
) -> None:
    _, client = silent
    call, error = CALLS[name]
    task = Task(call, client, timeout)
    outcome = task.outcome()

    assert isinstance(outcome, (error, DeliveryTimeoutError))
    assert isinstance(outcome, TimeoutError)
    assert timeout * 0.99 <= task.took < timeout + NOISE


@pytest.mark.parametrize("name", ["ask", "send_message", "end_session"])
def test_a_half_open_connection_makes_no_call_longer(
    silent: tuple[Sandbox, Client], name: str
) -> None:
    sandbox, client = silent
    sandbox.session.freeze()
    arguments = [] if name == "end_session" else ["one"]
    task = Task(getattr(client, name), *arguments, timeout=2 * SHORT)
    assert isinstance(task.outcome(), (DeliveryTimeoutError, EndTimeoutError))
    # The goodbye to a server that does not answer takes half a second more.
    assert 2 * SHORT * 0.99 <= task.took < 2 * SHORT + 1.0 + NOISE


@pytest.mark.parametrize("name", ["ask", "send_message"])
def test_an_outage_makes_no_call_longer(
    silent: tuple[Sandbox, Client], name: str
) -> None:
    sandbox, client = silent
    with sandbox.outage():
        task = Task(getattr(client, name), "one", timeout=2 * SHORT)
        assert isinstance(task.outcome(), DeliveryTimeoutError)
        assert 2 * SHORT * 0.99 <= task.took < 2 * SHORT + NOISE


def test_a_server_that_takes_no_data_makes_no_call_longer(
    silent: tuple[Sandbox, Client],
) -> None:
    """The system's buffers fill up, and the rest has to wait."""
    sandbox, client = silent
    sandbox.session.freeze()
    submitting = Task(
        lambda: [client.submit_message("x" * 100_000) for _ in range(100)]
    )
    futures = submitting.result()
    sending = Task(client.send_message, "x" * 100_000, timeout=SHORT)
    assert isinstance(sending.outcome(), DeliveryTimeoutError)
    assert sending.took < SHORT + NOISE
    assert submitting.took < 5 * NOISE
    closing = Task(client.close)
    closing.result()
    assert closing.took < 1.0 + NOISE
    assert all(future.exception(PATIENCE) for future in futures)
    assert threads_of_polysync() == []


@pytest.mark.parametrize("moment", [Moment.ACCESS_TOKEN, Moment.SESSION])
def test_waits_between_retries_count(moment: Moment) -> None:
    """A server that keeps failing does not stretch the timeout."""
    with Sandbox(SilentAgent) as sandbox:
        sandbox.faults.refuse(moment, 503, times=None)
        client = client_of(sandbox)
        task = Task(client.connect, timeout=4 * SHORT)
        assert task.outcome() is not client
        assert task.took < 4 * SHORT + NOISE


def test_reconnecting_counts() -> None:
    with Sandbox(SilentAgent) as sandbox:
        sandbox.faults.refuse_handshake(503, times=None)
        client = client_of(sandbox, reconnect_delay=60.0, reconnect_delay_max=60.0)
        task = Task(client.connect, timeout=4 * SHORT)
        assert isinstance(task.outcome(), ConnectTimeoutError)
        assert 4 * SHORT * 0.99 <= task.took < 4 * SHORT + 1.0 + NOISE


def test_a_reply_is_returned_the_moment_it_is_there(
    silent: tuple[Sandbox, Client],
) -> None:
    sandbox, client = silent
    task = Task(client.ask, "one")
    sandbox.wait_until(lambda: sandbox.session.user_messages)
    said = time.monotonic()
    sandbox.session.say("answer")
    task.result()
    assert time.monotonic() - said < NOISE


SCRIPT = """
import sys
import threading
import time

from polysync.sandbox import Sandbox, SilentAgent
from tests.clients import client_of, threads_of_polysync

with Sandbox(SilentAgent) as sandbox:
    client = client_of(sandbox, timeout=60, reply_timeout=60)
    calls = {
        "ask": lambda: client.ask("one"),
        "stream": lambda: client.stream("one").message,
        "send_message": lambda: client.send_message("one"),
        "receive": lambda: client.receive(),
        "wait_for": lambda: client.wait_for(),
        "events": lambda: list(client.events()),
        "connect": lambda: client.connect(),
    }
    name = sys.argv[1]
    if name == "connect":
        sandbox.faults.stall(__import__("polysync.sandbox").sandbox.Moment.SESSION)
    else:
        client.connect()
        client.receive()
    if name == "send_message":
        sandbox.faults.swallow_messages()
    threading.Timer(0.2, lambda: print("ready", flush=True)).start()
    try:
        calls[name]()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    if name == "connect":
        client.connect()
        client.receive()
    sandbox.session.say("later")
    print(client.receive(timeout=10).text, client.status, flush=True)
    client.close()
    print(threads_of_polysync(), flush=True)
"""


@pytest.mark.subprocess
@pytest.mark.parametrize(
    "call",
    ["ask", "stream", "send_message", "receive", "wait_for", "events", "connect"],
)
def test_an_interrupt_gets_through_at_once_and_breaks_nothing(call: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, call],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        interrupted = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        # A connect() also gives back what it has begun.
        assert time.monotonic() - interrupted < 1.0 + NOISE
        assert process.stdout.readline() == "later open\n"
        assert process.stdout.readline() == "[]\n", process.stderr.read()
        assert process.wait(PATIENCE) == 0
