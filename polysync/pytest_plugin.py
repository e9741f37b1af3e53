"""Fixtures for tests of code that talks to an agent: a sandbox, clients, a clock.

pytest loads this module by itself where polysync is installed (``-p no:polysync``
leaves it out). The server is only imported when a test asks for a fixture.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from polysync.client import Client
    from polysync.sandbox import Sandbox

__all__ = [
    "FakeClock",
    "polysync_client",
    "polysync_clock",
    "polysync_environment",
    "polysync_new_client",
    "polysync_sandbox",
]

_MARKER = "polysync_sandbox"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, for ``--markers`` and ``--strict-markers``."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(agent=…, recording=…, **settings): what the polysync_sandbox "
        "fixture is made with: an agent, or the path of a recording to replay (from "
        "the test's directory), and any setting of polysync.sandbox.Sandbox.",
    )


@pytest.fixture
def polysync_sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A running Sandbox of the test's own, made as the polysync_sandbox marker says.

    It starts in a millisecond, so no two tests share one.
    """
    from polysync.sandbox import RecordedAgent, Sandbox

    options = _marked(request.node)
    recording = options.pop("recording", None)
    if recording is not None:
        if "agent" in options:
            raise pytest.UsageError(
                f"{_MARKER}: a sandbox has an agent or a recording, not both"
            )
        options["agent"] = RecordedAgent(request.path.parent / recording)
    # The clock must be put right again after everything that it drives has stopped.
    if "polysync_clock" in request.fixturenames:
        request.getfixturevalue("polysync_clock")
    with Sandbox(**options) as sandbox:
        yield sandbox


@pytest.fixture
def polysync_new_client(polysync_sandbox: Sandbox) -> Iterator[Callable[..., Client]]:
    """A function that makes Clients for the sandbox, closed at the test's end.

    It takes the options of Client and does not connect: polysync_new_client(
    streaming=False).connect() does.
    """
    from polysync.client import Client

    clients: list[Client] = []

    def new_client(**options: Any) -> Client:
        settings = {
            "environment": polysync_sandbox.base_url,
            "connector_token": polysync_sandbox.connector_token,
            "host": polysync_sandbox.host,
        }
        client = Client(**{**settings, **options})
        clients.append(client)
        return client

    yield new_client
    for client in clients:
        client.close()


@pytest.fixture
def polysync_client(polysync_new_client: Callable[..., Client]) -> Client:
    """A Client that is connected to the sandbox and was greeted, closed at the end."""
    return polysync_new_client().connect()


@pytest.fixture
def polysync_environment(
    polysync_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The variables that let a Client() without arguments find the sandbox, set."""
    variables = {
        "POLYSYNC_ENVIRONMENT": polysync_sandbox.base_url,
        "POLYSYNC_CONNECTOR_TOKEN": polysync_sandbox.connector_token,
        "POLYSYNC_HOST": polysync_sandbox.host,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def polysync_clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The clock of the process's clients, which advance(seconds) puts forward."""
    from polysync.runtime import clock

    fake = FakeClock()
    # Every clock of the package is this module's, which asks its `time`.
    monkeypatch.setattr(clock, "time", fake)
    return fake


class FakeClock:
    """Real time, and how far it was put forward.

    What a client does at a certain time happens at once when the time is jumped over:
    heartbeats, attempts to reconnect, giving up on a silent connection, the end of
    typing. The sandbox, and calls that wait with a timeout, live in real time.
    """

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        """Return the time, in seconds."""
        return time.monotonic() + self._ahead

    def advance(self, seconds: float) -> None:
        """Put the clock forward, and let happen what is due by then.

        Args:
            seconds: How far; never back.
        """
        from polysync.runtime import timers

        if not seconds >= 0:
            raise ValueError(f"a clock does not go back: {seconds!r}")
        self._ahead += seconds
        timers.wake()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what was said in the sandbox, if the test fails."""
    report = yield
    sandbox = getattr(item, "funcargs", {}).get("polysync_sandbox")
    if report.failed and sandbox is not None:
        for session in sandbox.sessions.values():
            report.sections.append((f"polysync session {session.id}", _said(session)))
    return report


def _said(session: Any) -> str:
    lines: list[list[str]] = []
    for kind, event in zip(session.types, session.events, strict=False):
        payload = event.get("payload") or {}
        said = payload.get("text") or payload.get("message") or ""
        if kind.endswith("_CHUNK") and lines and lines[-1][0] == kind:
            lines[-1][1] += said
        else:
            lines.append([kind, said])
    return "\n".join(f"{kind.lower()}: {said}".rstrip(": ") for kind, said in lines)


def _marked(node: pytest.Item) -> dict[str, Any]:
    """Return the marker's keywords, those of the test over those of its module."""
    options: dict[str, Any] = {}
    for mark in reversed(list(node.iter_markers(_MARKER))):
        if mark.args:
            raise pytest.UsageError(f"{_MARKER} takes keywords only: agent=…")
        options.update(mark.kwargs)
    return options
