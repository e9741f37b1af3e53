"""The pytest plugin, used by test files of other people's projects."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from importlib.metadata import entry_points

import pytest

# Here, as each run below forgets the modules that it imports.
import polysync.sandbox  # noqa: F401

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run a test file with the plugin, in this process or in one of its own."""
    # Where the package is installed, its entry point loads the plugin.
    installed = {point.name for point in entry_points(group="pytest11")}
    plugin = [] if "polysync" in installed else ["-p", "polysync.pytest_plugin"]
    strict = ["--strict-markers", "-W", "error", "-p", "no:cacheprovider"]

    def run(code: str, *options: str, apart: bool = False) -> pytest.RunResult:
        pytester.makepyfile(test_it=textwrap.dedent(code))
        call = pytester.runpytest_subprocess if apart else pytester.runpytest_inprocess
        return call(*plugin, *strict, *options)

    return run


# The fixtures.


def test_client_is_connected_and_greeted(run: Run) -> None:
    """`polysync_client` is ready to be asked, with a sandbox behind it."""
    run(
        """
        def test_it(polysync_client, polysync_sandbox):
            assert polysync_client.greeting.text
            assert polysync_client.ask("Hello?").text
            assert polysync_sandbox.session.user_messages[0].text == "Hello?"
        """
    ).assert_outcomes(passed=1)


def test_clients_are_closed_at_the_end(run: Run) -> None:
    """Whatever a test makes is closed after it, connected or not."""
    run(
        """
        import threading
        kept = []

        def test_it(polysync_client, polysync_new_client):
            kept.extend([polysync_client, polysync_new_client(streaming=False)])
            kept[1].connect(wait="session")
            kept.append(polysync_new_client())

        def test_afterwards():
            assert {c.status.value for c in kept} == {"closed"}
            assert not [t for t in threading.enumerate() if "polysync" in t.name]
        """
    ).assert_outcomes(passed=2)


def test_sandboxes_are_not_shared(run: Run) -> None:
    """No test sees the conversations of another."""
    run(
        """
        import pytest

        @pytest.mark.parametrize("number", [1, 2])
        def test_it(number, polysync_sandbox, polysync_client):
            assert len(polysync_sandbox.sessions) == 1
        """
    ).assert_outcomes(passed=2)


def test_new_client_takes_options(run: Run) -> None:
    """Options go to the client, those that lead to the sandbox too."""
    run(
        """
        import pytest
        from polysync import AuthenticationError

        def test_it(polysync_new_client):
            with pytest.raises(AuthenticationError):
                polysync_new_client(connector_token="wrong").connect()
        """
    ).assert_outcomes(passed=1)


def test_environment_leads_to_the_sandbox(run: Run) -> None:
    """An application that makes its own client finds the sandbox, during the test."""
    run(
        """
        import os, pytest
        from polysync import Client

        @pytest.mark.usefixtures("polysync_environment")
        def test_it():
            with Client() as client:
                assert client.ask("Hello?").text

        def test_variables(polysync_environment):
            assert polysync_environment.items() <= os.environ.items()

        def test_afterwards():
            assert "POLYSYNC_CONNECTOR_TOKEN" not in os.environ
        """
    ).assert_outcomes(passed=3)


# Agents, recordings, faults.


def test_marker_names_the_agent_and_settings(run: Run) -> None:
    """A marker says what the sandbox is made with, the test's own before a module's."""
    run(
        """
        import pytest

        def shout(turn):
            return turn.text.upper()

        pytestmark = pytest.mark.polysync_sandbox(agent=shout, batch_size=7)

        def test_module(polysync_client, polysync_sandbox):
            assert polysync_client.ask("hello").text == "HELLO"
            assert polysync_sandbox.settings.batch_size == 7

        @pytest.mark.polysync_sandbox(agent=lambda turn: "No.")
        def test_own(polysync_client, polysync_sandbox):
            assert polysync_client.ask("hello").text == "No."
            assert polysync_sandbox.settings.batch_size == 7
        """
    ).assert_outcomes(passed=2)


def test_agent_may_be_set_in_the_test(run: Run) -> None:
    """An agent made inside the test answers the conversations that begin then."""
    run(
        """
        import pytest

        def test_it(polysync_sandbox, polysync_new_client):
            heard = []
            polysync_sandbox.agent = lambda turn: heard.append(turn.text) or "Noted."
            assert polysync_new_client().connect().ask("hello").text == "Noted."
            assert heard == ["hello"]
            with pytest.raises(TypeError, match="an agent is"):
                polysync_sandbox.agent = "nobody"
        """
    ).assert_outcomes(passed=1)


def test_recording_is_replayed(run: Run, pytester: pytest.Pytester) -> None:
    """A recording beside the test file becomes the agent."""
    recording = {
        "version": 1,
        "events": [
            {"type": f"EVENT_TYPE_{name}", "payload": payload}
            for name, payload in (
                ("POLY_AGENT_JOINED", {"agent_name": "Ann"}),
                ("POLY_AGENT_MESSAGE", {"message_id": "1", "text": "Ann here."}),
                ("USER_MESSAGE", {"message_id": "2", "text": "Hello"}),
                ("POLY_AGENT_MESSAGE", {"message_id": "3", "text": "As recorded."}),
            )
        ],
    }
    (pytester.mkdir("talks") / "ann.json").write_text(json.dumps(recording))

    run(
        """
        import pytest

        @pytest.mark.polysync_sandbox(recording="talks/ann.json")
        def test_it(polysync_client):
            assert polysync_client.greeting.text == "Ann here."
            assert polysync_client.ask("Anything").text == "As recorded."
        """
    ).assert_outcomes(passed=1)


def test_fault_is_one_line(run: Run) -> None:
    """The sandbox's faults strike the client of the fixture."""
    run(
        """
        import pytest
        from polysync import AgentError

        def test_it(polysync_client, polysync_sandbox):
            polysync_sandbox.faults.fail_reply("Out of order.")
            with pytest.raises(AgentError, match="Out of order."):
                polysync_client.ask("Hello?")
        """
    ).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("agent=print, recording='x.json'", "an agent or a recording, not both"),
        ("'x.json'", "takes keywords only"),
        ("colour='red'", "colour"),
        ("recording='missing.json'", "missing.json"),
    ],
)
def test_wrong_marker_is_explained(run: Run, marker: str, words: str) -> None:
    """A marker that cannot be obeyed is an error that names what is wrong."""
    result = run(
        f"""
        import pytest

        @pytest.mark.polysync_sandbox({marker})
        def test_it(polysync_client):
            pass
        """
    )

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{words}*"])


# The clock.


def test_clock_brings_the_heartbeat(run: Run) -> None:
    """What is due in half a minute happens at once."""
    run(
        """
        def test_it(polysync_client, polysync_sandbox, polysync_clock):
            heard = polysync_sandbox.received
            assert not heard.events("HEARTBEAT")
            polysync_clock.advance(30)
            polysync_sandbox.wait_until(lambda: heard.events("HEARTBEAT"))
        """
    ).assert_outcomes(passed=1)


def test_clock_shortens_reconnecting(run: Run) -> None:
    """A client that would wait for an hour reconnects when told that it has passed."""
    run(
        """
        import queue
        from polysync import ConnectionStatus as Status

        def test_it(polysync_new_client, polysync_sandbox, polysync_clock):
            changes = queue.SimpleQueue()
            client = polysync_new_client(
                reconnect_delay=3600, reconnect_delay_max=3600
            ).connect()
            client.on_connection_change(changes.put)
            polysync_sandbox.session.drop()
            while (change := changes.get(timeout=5)).status is not Status.OPEN:
                polysync_clock.advance(change.delay)
            assert client.ask("Still there?").text
        """
    ).assert_outcomes(passed=1)


def test_clock_outlives_the_client(run: Run) -> None:
    """The clock is put right only when the clients are closed, whatever the order."""
    run(
        """
        import time
        from polysync.runtime import clock

        def test_it(polysync_client, polysync_clock):
            polysync_clock.advance(1000)
            assert clock.monotonic() > time.monotonic() + 900

        def test_afterwards():
            assert clock.time is time
        """,
        "--setup-show",
    ).assert_outcomes(passed=2)


def test_clock_does_not_go_back(run: Run) -> None:
    """Time that runs backwards is refused."""
    run(
        """
        import pytest

        def test_it(polysync_clock):
            with pytest.raises(ValueError, match="does not go back"):
                polysync_clock.advance(-1)
        """
    ).assert_outcomes(passed=1)


# Around the fixtures.


def test_failure_shows_the_conversation(run: Run) -> None:
    """The report of a failed test says what was said."""
    result = run(
        """
        def test_it(polysync_client):
            polysync_client.ask("A table for two")
            assert False
        """
    )

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*polysync session *",
            "session_start",
            "user_message: A table for two",
            "poly_agent_message_chunk: A table for 2. When would you like to come?",
        ]
    )


def test_plugin_loads_nothing_heavy(run: Run, pytester: pytest.Pytester) -> None:
    """Without a test that asks for it, neither the server nor its library is loaded."""
    pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            heavy = {"aiohttp", "polysync.sandbox"} & set(sys.modules)
            print("LOADED", sorted(heavy))
        """
    )

    result = run("def test_it(): pass", apart=True)

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["LOADED []*"])


def test_plugin_can_be_left_out(run: Run) -> None:
    """``-p no:polysync`` removes fixtures and marker."""
    result = run("def test_it(polysync_client): pass", "-p", "no:polysync", apart=True)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'polysync_client' not found*"])


def test_marker_and_fixtures_are_listed(run: Run) -> None:
    """``--markers`` and ``--fixtures`` explain what there is."""
    markers = run("", "--markers").stdout
    markers.fnmatch_lines(["@pytest.mark.polysync_sandbox(agent=*"])
    fixtures = run("", "--fixtures").stdout
    fixtures.fnmatch_lines_random(
        [
            "polysync_client *",
            "polysync_clock *",
            "polysync_environment *",
            "polysync_new_client *",
            "polysync_sandbox *",
        ]
    )
