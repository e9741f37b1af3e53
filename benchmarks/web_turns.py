"""What a turn through the Flask application takes, by where its client comes from.

Run ``python benchmarks/web_turns.py [turns]``. A turn is ``POST …/messages`` from the
request to the echo, which is the server's receipt, through the application's WSGI
interface; a sandbox in a process of its own answers. "pooled" finds the live client in
this process, "resumed" takes the conversation up from the store, as after a request
that reached another process, and "new" begins a conversation first. The bare client's
`send_message`, in the same run, is what everything is compared with.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles

from flask import Flask

from polysync import Client
from polysync.integrations.flask import PolySync

SANDBOX = """
import sys
from polysync.sandbox import EchoAgent, Sandbox
with Sandbox(EchoAgent) as sandbox:
    print(sandbox.base_url, sandbox.connector_token, sandbox.host, flush=True)
    sys.stdin.read()
"""


def main() -> None:
    """Measure, and print a table."""
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with ExitStack() as stack:
        account = stack.enter_context(sandbox())
        places = {"memory": "memory"}
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        places["files"] = f"file://{directory}/store"
        if shutil.which("redis-server"):
            places["Redis"] = stack.enter_context(redis_server(directory))
        bare = measure_bare(account, turns)
        print(f"bare client, send_message: {median(bare):.1f} ms, of {turns} turns\n")
        print(f"{'store':<8}{'client':<9}{'median':>9}{'95 %':>9}{'to bare':>9}")
        for store, address in places.items():
            for kind in ("pooled", "resumed", "new"):
                times = measure(account, address, kind, turns)
                ratio = median(times) / median(bare)
                high = quantiles(times, n=20)[-1]
                print(
                    f"{store:<8}{kind:<9}{median(times):>6.1f} ms{high:>6.1f} ms"
                    f"{ratio:>9.1f}"
                )


def measure_bare(account: dict[str, str], turns: int) -> list[float]:
    """Return the milliseconds of turns on a client alone."""
    with Client(**account) as client:
        return [timed(lambda: client.send_message("Hello")) for _ in range(turns)]


def measure(account: dict[str, str], store: str, kind: str, turns: int) -> list[float]:
    """Return the milliseconds of turns through the application."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY="benchmark", POLYSYNC_STORE=store)
    app.config.update({f"POLYSYNC_{n.upper()}": v for n, v in account.items()})
    app.config["POLYSYNC_MAX_CLIENTS"] = 0 if kind == "resumed" else 4
    polysync = PolySync(app)
    browser = app.test_client()
    page = browser.get("/chat/").get_data(as_text=True)
    found = re.search(r'data-csrf-token="([^"]+)"', page)
    if found is None:
        raise AssertionError("the page has a token")
    headers = {"X-CSRFToken": found[1]}

    def post(view: str, **body: object) -> None:
        answer = browser.post(f"/chat/{view}", json=body, headers=headers)
        if answer.status_code != 200:
            raise AssertionError(answer.get_data(as_text=True))

    def turn() -> None:
        if kind == "new":
            post("start", new=True)
        post("messages", text="Hello")

    post("start")
    try:
        turn()
        return [timed(turn) for _ in range(turns if kind == "pooled" else turns // 4)]
    finally:
        with app.app_context():
            polysync.pool.close()


def timed(turn: Callable[[], object]) -> float:
    """Return the milliseconds that a call takes."""
    began = time.perf_counter()
    turn()
    return (time.perf_counter() - began) * 1000


@contextmanager
def sandbox() -> Iterator[dict[str, str]]:
    """Run a sandbox in another process; give the settings of clients."""
    with subprocess.Popen(
        [sys.executable, "-c", SANDBOX],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdout is None:
            raise AssertionError("there is a pipe")
        names = ("environment", "connector_token", "host")
        yield dict(zip(names, process.stdout.readline().split(), strict=True))
        process.communicate()


@contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    """Run a Redis that keeps nothing on disk; give its address."""
    path = directory / "redis.sock"
    with subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", ""],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        if server.stdout is None:
            raise AssertionError("there is a pipe")
        for line in server.stdout:
            if "eady to accept connections" in line:
                break
        yield f"unix://{path}"
        server.terminate()
        server.communicate()


if __name__ == "__main__":
    main()
