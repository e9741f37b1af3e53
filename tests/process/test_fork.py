"""Clients, forks and other processes."""

from __future__ import annotations

import os
import sys

import pytest

from tests.process.scripts import run

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()"),
]

BEGIN = """
    import os, sys, threading, warnings
    # 3.12 warns of every fork in a process with threads; that is what is tested.
    warnings.filterwarnings("ignore", "This process", DeprecationWarning)
    from polysync import Client, ForkedError
    from polysync.sandbox import EchoAgent, Sandbox

    def child(work):
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0, "the child failed"
            return
        code = 1
        try:
            work()
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)

    sandbox = Sandbox(EchoAgent()).start()
    options = dict(
        environment=sandbox.base_url,
        connector_token=sandbox.connector_token,
        host=sandbox.host,
    )
"""


def test_a_parents_client_raises_in_the_child_whatever_is_called() -> None:
    """The error has the word fork in it and comes from every call."""
    out = run(
        BEGIN
        + """
    client = Client(**options).connect()

    def work():
        calls = [
            lambda: client.ask("x"),
            lambda: client.stream("x"),
            lambda: client.send_message("x"),
            lambda: client.submit_message("x"),
            lambda: client.receive(),
            lambda: client.events(),
            lambda: client.wait_for(),
            lambda: client.send_typing(),
            lambda: client.request_agent_join(),
            lambda: client.connect(),
            lambda: client.restart(),
            lambda: client.end_session(),
            lambda: client.detach(),
            lambda: client.history,
            lambda: client.transcript,
            lambda: client.state,
            lambda: client.on_event(print),
        ]
        for call in calls:
            try:
                call()
            except ForkedError as error:
                assert "fork" in str(error)
            else:
                raise AssertionError("no error")
        client.close()
        client.close()
        print(repr(client) != "")

    child(work)
    print(client.ask("still here").text)
    print(client.status.value, sandbox.session.connection_total)
    client.end_session()
    sandbox.stop()
    """
    )
    lines = out.split("\n")
    assert lines[0] == "True"
    assert "still here" in lines[1]
    # The parent's connection was neither closed nor replaced.
    assert lines[2] == "open 1"


def test_a_with_block_that_a_child_leaves_does_not_end_the_parents_session() -> None:
    """A child that unwinds through the parent's with block leaves it alone."""
    out = run(
        BEGIN
        + """
    with Client(**options) as client:
        pid = os.fork()
        if not pid:
            try:
                client.__exit__(None, None, None)
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        print(client.ask("on we go").text, client.ended)
    sandbox.stop()
    """
    )
    assert "on we go" in out
    assert out.strip().endswith("False")


def test_new_clients_work_in_the_child_beside_the_parents() -> None:
    """Timer thread, connection pool and locks start anew in the child."""
    out = run(
        BEGIN
        + """
    client = Client(**options, heartbeat_interval=0.05).connect()
    client.on_event(lambda event: None)

    def work():
        with Client(**options, heartbeat_interval=0.05) as mine:
            mine.on_event(lambda event: None)
            print(mine.ask("from the child").text)
            mine.wait_for(timeout=10)

    for _ in range(3):
        child(work)
    print(client.ask("from the parent").text)
    client.end_session()
    sandbox.stop()
    """
    )
    assert out.count("from the child") == 3
    assert "from the parent" in out


def test_a_fork_at_any_moment_leaves_no_lock_held_in_the_child() -> None:
    """Children forked under full traffic can all open conversations of their own."""
    out = run(
        BEGIN
        + """
    client = Client(**options).connect()
    client.on_event(lambda event: None)
    stop = threading.Event()

    def talk():
        while not stop.is_set():
            client.ask("busy")

    thread = threading.Thread(target=talk)
    thread.start()

    def work():
        with Client(**options) as mine:
            mine.ask("child")

    for _ in range(10):
        child(work)
    stop.set()
    thread.join()
    client.end_session()
    sandbox.stop()
    print("done")
    """
    )
    assert out == "done\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_workers_resume_a_conversation(method: str) -> None:
    """A SessionState travels to a worker by pickle; the worker takes it up."""
    out = run(
        """
    import sys, warnings
    warnings.filterwarnings("ignore", "This process", DeprecationWarning)
    from tests.process import worker
    worker.main(sys.argv[1])
    """,
        method,
    )
    assert out == "hello from the worker|hello again\n"


def test_a_client_says_why_it_cannot_be_pickled() -> None:
    """A Client as an argument of another process is refused with advice."""
    import pickle

    from polysync import Client

    client = Client(environment="sandbox")
    with pytest.raises(TypeError, match="detach"):
        pickle.dumps(client)
    assert "polysync" in sys.modules
