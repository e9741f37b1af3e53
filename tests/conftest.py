"""What every test runs under: no network but loopback, and nothing left behind.

A test fails when it leaves one of the package's threads alive or a socket open, and
when it tries to reach another machine. Under continuous integration a test that
would be skipped fails as well, so that "all green" means that all of it ran.
"""

from __future__ import annotations

import gc
import ipaddress
import os
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

CI = bool(os.environ.get("POLYSYNC_CI"))

# One unit of time for tests that let real time pass. A slow machine scales it:
# POLYSYNC_TEST_UNIT=5 makes every wait and every deadline five times as long.
UNIT = 0.02 * float(os.environ.get("POLYSYNC_TEST_UNIT", "1"))

# What a thread or a socket may take to go away after the call that ends it returned.
GRACE = 2.0 * float(os.environ.get("POLYSYNC_TEST_UNIT", "1"))

settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("default", deadline=None)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if CI else "default")
)


def pytest_configure() -> None:
    # A shell that runs the tests in the background has them ignore ^C, and all that
    # they start with them.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# --- programs that some tests need -------------------------------------------------

NEEDS = {
    "browser": ("chromium", "chromedriver"),
    "redis": ("redis-server",),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, programs in NEEDS.items():
        if item.get_closest_marker(marker) is None:
            continue
        missing = [name for name in programs if shutil.which(name) is None]
        if missing:
            pytest.skip(f"needs {' and '.join(missing)} on PATH")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[Any]:
    report = yield
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[Any]:
    report = yield
    if CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report


# --- no network --------------------------------------------------------------------


class OutsideWorldError(AssertionError):
    """A test tried to reach something that is not this machine."""


def is_local(host: object) -> bool:
    """Tell whether a host is this machine, without asking a resolver."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in (None, "", "localhost", "localhost.localdomain", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(str(host).split("%")[0])
    except ValueError:
        return str(host).endswith(".localhost")
    return address.is_loopback or address.is_unspecified


@pytest.fixture(scope="session", autouse=True)
def loopback_only() -> Iterator[None]:
    """Refuse every connection and every name that is not this machine's."""
    connect = socket.socket.connect
    connect_ex = socket.socket.connect_ex
    getaddrinfo = socket.getaddrinfo

    def check(sock: socket.socket, address: Any) -> None:
        inet = sock.family in (socket.AF_INET, socket.AF_INET6)
        if inet and not is_local(address[0]):
            raise OutsideWorldError(f"a test connects to {address!r}")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        check(self, address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        check(self, address)
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(host, str) and host.endswith(".invalid"):
            # Reserved for names that never resolve (RFC 6761): answered here, as a
            # resolver would.
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if not is_local(host):
            raise OutsideWorldError(f"a test looks up {host!r}")
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        patch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
        yield


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the machine's proxies and polysync settings from the test."""
    for name in list(os.environ):
        proxy = name.lower().endswith("_proxy")
        ours = name.startswith("POLYSYNC_") and name not in KEPT_VARIABLES
        if proxy or ours:
            monkeypatch.delenv(name)


KEPT_VARIABLES = ("POLYSYNC_CI", "POLYSYNC_TEST_UNIT")


# --- nothing left behind -----------------------------------------------------------


def own_threads() -> set[threading.Thread]:
    """Return the package's living threads."""
    return {
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("polysync-")
    }


def left_threads(before: set[threading.Thread]) -> set[threading.Thread]:
    """Return the threads that were started since and are not a wider fixture's.

    A sandbox that was there before may start workers for its agent at any time.
    """
    left = own_threads() - before
    if any(thread.name.startswith("polysync-sandbox") for thread in before):
        left = {
            thread
            for thread in left
            if not thread.name.startswith("polysync-sandbox-agent")
        }
    return left


def stop_embedded_sandbox() -> None:
    """Stop the sandbox of the process, which the next one to need it starts again."""
    module = sys.modules.get("polysync.sandbox.embedded")
    stop = getattr(module, "_stop", None)
    if stop is not None:
        stop()


def open_sockets() -> dict[str, int]:
    """Return this process's open sockets, by inode, with their descriptors."""
    found = {}
    directory = Path("/proc/self/fd")
    if not directory.is_dir():
        return found
    for name in os.listdir(directory):
        try:
            target = os.readlink(directory / name)
        except OSError:
            continue  # The descriptor of the listing itself, for one.
        if target.startswith("socket:"):
            found[target] = int(name)
    return found


def describe_socket(descriptor: int) -> str:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            if sock.family == socket.AF_UNIX:
                return f"fd {descriptor}: a unix socket or socketpair"
            ends = [str(sock.getsockname())]
            try:
                ends.append(str(sock.getpeername()))
            except OSError:
                ends.append("nobody")
            return f"fd {descriptor}: {' to '.join(ends)}"
    except OSError as error:
        return f"fd {descriptor}: {error}"


def describe_thread(thread: threading.Thread) -> str:
    """Say where a thread is, and what the timer thread waits for."""
    frame = sys._current_frames().get(thread.ident or 0)
    stack = "".join(traceback.format_stack(frame)) if frame else "not running\n"
    timers = sys.modules["polysync.runtime.timers"]._default
    wanted = [
        f"to wake {timer._owner()!r} in {when - time.monotonic():.3f} s\n"
        for timer, when in list(timers._wanted.items())
    ]
    return f"{thread.name}:\n{stack}{''.join(wanted)}"


def close_idle_connections() -> None:
    """Close the kept-alive connections of the process-wide REST pool, if any."""
    network = sys.modules.get("polysync.runtime.network")
    close_idle = getattr(network, "close_idle", None)
    if close_idle is not None:
        close_idle()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail the test that leaves a thread of the package or a socket behind.

    Fixtures of a wider scope are made before this one, so that their threads and
    sockets are known before the test.
    """
    threads_before = own_threads()
    sockets_before = open_sockets()
    yield
    stop_embedded_sandbox()
    deadline = time.monotonic() + GRACE
    # Looks again, as a thread may start another on its way out: a connection's goodbye
    # is timed, and the timer thread may just have ended for want of work.
    while (left := left_threads(threads_before)) and time.monotonic() < deadline:
        for thread in left:
            # One that is listed may be starting still, and cannot be joined yet.
            thread._started.wait(max(0.0, deadline - time.monotonic()))  # type: ignore[attr-defined]
            thread.join(max(0.0, deadline - time.monotonic()))
    if left:
        where = "\n".join(map(describe_thread, left))
        pytest.fail(f"the test left threads behind:\n{where}")

    if not open_sockets().keys() - sockets_before.keys():
        return
    close_idle_connections()
    # The kernel tells nobody that a descriptor was closed by another thread (a
    # server that outlives the test sees our end go a moment later), so this looks
    # again.
    pause = threading.Event()
    while leaked := open_sockets().keys() - sockets_before.keys():
        gc.collect()
        if time.monotonic() > deadline:
            now = open_sockets()
            ends = "; ".join(
                describe_socket(now[inode]) for inode in leaked if inode in now
            )
            pytest.fail(f"the test left sockets open: {ends}")
        pause.wait(0.01)


# --- what tests ask for ------------------------------------------------------------


@pytest.fixture(scope="session")
def unit() -> float:
    """One unit of real time, in seconds; scaled by POLYSYNC_TEST_UNIT."""
    return UNIT


class Recorder:
    """A list that other threads append to by calling it, and that can be waited on.

    It serves as a callback: ``client.on_agent_message(recorder)`` and then
    ``recorder.wait_for(3)``.
    """

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        self._items: list[Any] = []

    def __call__(self, item: Any = None) -> None:
        with self._arrived:
            self._items.append(item)
            self._arrived.notify_all()

    @property
    def items(self) -> list[Any]:
        with self._arrived:
            return list(self._items)

    def wait_for(
        self, wanted: int | Callable[[list[Any]], bool], timeout: float = 10.0
    ) -> list[Any]:
        """Wait for a number of items, or until a predicate on all of them holds."""
        enough = (
            (lambda items: len(items) >= wanted) if isinstance(wanted, int) else wanted
        )
        with self._arrived:
            if not self._arrived.wait_for(lambda: enough(self._items), timeout):
                pytest.fail(f"not within {timeout:g} s; so far: {self._items!r}")
            return list(self._items)


@pytest.fixture
def recorder() -> Recorder:
    """A callable that keeps what it is given and can be waited on."""
    return Recorder()


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Wait on a condition until a predicate holds, or fail the test.

    ``wait_until(condition, predicate, timeout=10.0)``.
    """

    def wait(
        condition: threading.Condition,
        predicate: Callable[[], object],
        timeout: float = 10.0,
    ) -> None:
        with condition:
            if not condition.wait_for(predicate, timeout):
                pytest.fail(f"{predicate!r} did not hold within {timeout:g} s")

    return wait


@pytest.fixture
def sandbox() -> Iterator[Any]:
    """A sandbox of the test's own, stopped at its end."""
    from polysync.sandbox import Sandbox

    with Sandbox() as server:
        yield server
