"""Clients that are forgotten."""

from __future__ import annotations

import pytest

from tests.process.scripts import run

pytestmark = pytest.mark.subprocess

SCRIPT = """
    import gc, threading, warnings, weakref
    from polysync import Client
    from polysync.sandbox import EchoAgent, Sandbox

    sandbox = Sandbox(EchoAgent()).start()

    def begin():
        client = Client(
            sandbox.connector_token, sandbox.host, environment=sandbox.base_url
        )
        # A callback that refers to its client makes a cycle, as real ones do.
        client.on_event(lambda event: client.status)
        return client.connect()
"""


def test_a_forgotten_client_is_collected_with_its_threads_and_a_warning() -> None:
    """No thread keeps the client alive; a ResourceWarning says what happened."""
    out = run(
        SCRIPT
        + """
    client = begin()
    client.ask("x")
    trace = weakref.ref(client)
    threads = [
        t for t in threading.enumerate()
        if t.name.startswith("polysync-") and "sandbox" not in t.name
    ]
    assert len(threads) == 3, threads
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del client
        # The reader may be telling of the last event just now, and holds the client
        # while it does; whoever collects after that has to collect again.
        for _ in range(100):
            gc.collect()
            for thread in threads:
                thread.join(0.1)
            if trace() is None:
                break
    assert trace() is None
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads), threads
    assert [w.category for w in caught] == [ResourceWarning], caught
    print("token" not in str(caught[0].message), "close()" in str(caught[0].message))
    sandbox.stop()
    """
    )
    assert out == "True True\n"


def test_a_closed_client_is_collected_in_silence() -> None:
    """After close() there is nothing to warn of."""
    run(
        SCRIPT
        + """
    client = begin()
    trace = weakref.ref(client)
    client.close()
    del client
    gc.collect()
    assert trace() is None
    sandbox.stop()
    """
    )


def test_a_client_that_was_never_connected_is_collected_in_silence() -> None:
    """A constructor holds nothing that would have to be given back."""
    run(
        SCRIPT
        + """
    client = Client("token", "https://www.example.com")
    client.on_event(lambda event: client.status)
    trace = weakref.ref(client)
    del client
    gc.collect()
    assert trace() is None
    sandbox.stop()
    """
    )
