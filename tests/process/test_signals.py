"""Signals reach the main thread in the middle of every blocking call."""

from __future__ import annotations

import signal

import pytest

from tests.process.scripts import Process

pytestmark = pytest.mark.subprocess

CALLS = {
    "ask": "client.ask('x')",
    "stream": "list(client.stream('x'))",
    "send_message": "client.send_message('x')",
    "receive": "client.receive()",
    "wait_for": "client.wait_for()",
    "events": "list(client.events())",
    "end_session": "client.end_session()",
    "connect": "Client(**options).connect()",
    "restart": "client.restart()",
}

SCRIPT = """
    import signal, sys, threading
    from polysync import Client
    from polysync.sandbox import EchoAgent, Sandbox
    from polysync.sandbox.faults import Moment

    if sys.argv[2] == "SIGTERM":
        def stop(number, frame):
            raise SystemExit(3)
        signal.signal(signal.SIGTERM, stop)

    sandbox = Sandbox(EchoAgent()).start()
    options = dict(
        environment=sandbox.base_url,
        connector_token=sandbox.connector_token,
        host=sandbox.host,
        timeout=50,
        reply_timeout=50,
    )
    client = Client(**options).connect()
    client.receive()
    sandbox.faults.half_open()
    sandbox.faults.stall(Moment.HANDSHAKE)
    try:
        # Only now, and from another thread, so that the call below is under way or
        # about to be: either way the signal has to end it.
        threading.Timer(0.2, print, ("ready",), {"flush": True}).start()
        eval(sys.argv[1])
    except BaseException as error:
        client.close()
        sandbox.stop()
        left = [t.name for t in threading.enumerate() if t.name.startswith("polysync-")]
        print(type(error).__name__, left)
        raise
"""


@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c_ends_a_blocking_call(name: str) -> None:
    """KeyboardInterrupt gets through, and close() leaves nothing behind."""
    process = Process(SCRIPT, CALLS[name], "SIGINT")
    assert process.line() == "ready"
    process.signal(signal.SIGINT)
    code, out, err = process.end()
    assert out.strip() == "KeyboardInterrupt []"
    assert code in (130, -signal.SIGINT), err


@pytest.mark.parametrize("name", CALLS)
def test_a_sigterm_handler_ends_a_blocking_call(name: str) -> None:
    """An exception that a signal handler raises gets through too."""
    process = Process(SCRIPT, CALLS[name], "SIGTERM")
    assert process.line() == "ready"
    process.signal(signal.SIGTERM)
    code, out, err = process.end()
    assert out.strip() == "SystemExit []"
    assert code == 3, err
