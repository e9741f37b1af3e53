"""The interpreter exits, whatever was left open."""

from __future__ import annotations

import pytest

from tests.process.scripts import run

pytestmark = pytest.mark.subprocess

BEGIN = """
    import threading
    from polysync import Client
    from polysync.sandbox import EchoAgent, Sandbox

    sandbox = Sandbox(EchoAgent()).start()
    client = Client(
        sandbox.connector_token, sandbox.host, environment=sandbox.base_url
    )
"""


def test_a_process_exits_without_close() -> None:
    """A client that is open at exit keeps no process alive and says nothing."""
    assert "x" in run(
        BEGIN
        + """
    client.on_event(lambda event: None)
    client.connect()
    print(client.ask("x").text)
    """,
        limit=20.0,
    )


def test_a_process_exits_while_the_connection_is_being_made_again() -> None:
    """Reconnecting at exit keeps no process alive."""
    run(
        BEGIN
        + """
    client.connect()
    sandbox.stop()
    """,
        limit=20.0,
    )


def test_a_process_exits_while_a_thread_waits_in_a_call() -> None:
    """A daemon thread in receive() keeps no process alive."""
    run(
        BEGIN
        + """
    client.connect()
    client.receive()
    threading.Thread(target=client.receive, daemon=True).start()
    """,
        limit=20.0,
    )


def test_a_process_exits_while_a_callback_is_busy() -> None:
    """A callback that never returns keeps no process alive."""
    run(
        BEGIN
        + """
    entered = threading.Event()

    @client.on_agent_message
    def stuck(message):
        entered.set()
        threading.Event().wait()

    client.connect()
    assert entered.wait(10)
    """,
        limit=20.0,
    )


def test_close_in_an_exit_handler_works() -> None:
    """A client can be closed, and a session ended, from atexit."""
    assert (
        run(
            BEGIN
            + """
    import atexit
    atexit.register(lambda: print(client.end_session().reason.value))
    client.connect()
    """,
            limit=20.0,
        ).strip()
        == "REASON_USER_END"
    )


def test_a_connect_at_interpreter_shutdown_gives_a_clear_error_or_works() -> None:
    """Where no thread can be started any more, the call raises and does not hang."""
    run(
        BEGIN
        + """
    import atexit
    from polysync import PolysyncError

    def late():
        try:
            client.connect(timeout=5)
        except PolysyncError as error:
            assert "thread" in str(error), error
        finally:
            client.close()

    # Registered before the threads module's own end, so it runs after it.
    atexit.register(late)
    """,
        limit=20.0,
    )


def test_importing_starts_nothing() -> None:
    """No thread, no socket and no child at import or in a constructor."""
    assert (
        run(
            """
    import threading
    from polysync import Client
    Client("token", "https://www.example.com")
    Client(environment="sandbox")
    print(threading.active_count())
    """
        )
        == "1\n"
    )
