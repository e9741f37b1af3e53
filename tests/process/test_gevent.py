"""Under gevent: the same code, and the hub keeps turning."""

from __future__ import annotations

import pytest

from tests.process.scripts import run

pytestmark = [pytest.mark.subprocess, pytest.mark.gevent]
pytest.importorskip("gevent")

BEGIN = """
    from gevent import monkey
    monkey.patch_all()
    import warnings
    import gevent
    from polysync import Client, ReceiveTimeoutError
    from polysync.sandbox import EchoAgent, Sandbox

    ticks = 0

    def tick():
        global ticks
        while True:
            ticks += 1
            gevent.sleep(0.01)

    gevent.spawn(tick)
    sandbox = Sandbox(EchoAgent()).start()

    def begin(**options):
        return Client(
            sandbox.connector_token,
            sandbox.host,
            environment=sandbox.base_url,
            **options,
        )
"""


def test_a_conversation_with_callbacks_under_gevent() -> None:
    """Everything works, and other greenlets run while a call waits."""
    out = run(
        BEGIN
        + """
    seen = []
    client = begin(heartbeat_interval=0.05)
    client.on_agent_message(lambda message: seen.append(message.text))
    client.connect()
    print(client.ask("one").text)
    print("".join(chunk.text for chunk in client.stream("two")))
    print(client.send_message("three").text)
    client.receive()
    client.receive()
    before = ticks
    try:
        client.receive(timeout=0.5)
    except ReceiveTimeoutError:
        print("quiet")
    assert ticks - before > 20, (before, ticks)
    client.end_session()
    assert len(seen) == 4, seen
    sandbox.stop()
    """
    )
    assert out.split("\n")[:4] == ["one", "two", "three", "quiet"]


def test_a_hundred_greenlets_talk_at_once() -> None:
    """Many conversations in one process, each in its own greenlet."""
    out = run(
        BEGIN
        + """
    def talk(number):
        with begin() as client:
            texts = [f"{number}.{i}" for i in range(3)]
            return [client.ask(text).text for text in texts] == texts

    results = [job.get() for job in [gevent.spawn(talk, n) for n in range(100)]]
    print(all(results), len(results))
    sandbox.stop()
    """
    )
    assert out == "True 100\n"


def test_reconnecting_and_closing_under_gevent() -> None:
    """A dropped connection is made again; close() wakes a waiting greenlet."""
    out = run(
        BEGIN
        + """
    from polysync import ClientClosedError
    client = begin(reconnect_delay=0.02)
    client.connect()
    client.receive()
    sandbox.session.drop()
    print(client.ask("again").text, sandbox.session.connection_total)

    def wait():
        try:
            client.receive()
        except ClientClosedError as error:
            return type(error).__name__

    waiting = gevent.spawn(wait)
    gevent.sleep(0.05)
    client.close()
    print(waiting.get(timeout=5))
    sandbox.stop()
    """
    )
    assert out == "again 2\nClientClosedError\n"
