"""What it takes to begin: imports, the first greeting, and round trips on the way.

Everything is timed in processes of its own, in turns, with compiled modules at hand.

    python benchmarks/starting.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from server import DELAY, Address, Server

#: The floor of the imports, and what to import of each peer.
FLOOR = "websocket, attrs, cattrs, urllib3"
IMPORTS = {
    FLOOR: FLOOR,
    "polysync": "polysync",
    "websocket-client": "websocket",
    "websockets.sync": "websockets.sync.client",
    "slack_sdk": "slack_sdk.socket_mode",
    "python-socketio": "socketio",
    "azure-messaging-webpubsubclient": "azure.messaging.webpubsubclient",
    "pydantic": "pydantic",
    "msgspec": "msgspec",
}

_TIMED = "import time; t = time.process_time(); import {}; print(time.process_time()-t)"

_BARE = """
import http.client, json, websocket
def post(path):
    server.request("POST", path, b"{{}}", {{"Content-Type": "application/json"}})
    return json.loads(server.getresponse().read())
server = http.client.HTTPConnection("127.0.0.1", {port})
token = post("/api/v1/access-token")["access_token"]
session = post("/api/v1/sessions")["session_id"]
ws = websocket.create_connection(
    f"ws://127.0.0.1:{port}/ws?session_id={{session}}&access_token={{token}}",
    skip_utf8_validation=True)
ws.send(json.dumps({{"type": "EVENT_TYPE_REQUEST_POLY_AGENT_JOIN", "payload": {{}}}}))
while json.loads(ws.recv())["type"] != "EVENT_TYPE_POLY_AGENT_MESSAGE":
    pass
"""
_OURS = """
from polysync import Client
client = Client("token", "https://www.example.com",
    environment="http://127.0.0.1:{port}").connect()
client.greeting.text
"""
_PEER = """
import sys; sys.path.insert(0, {folder!r})
from contenders import named; from server import Address
named({name!r})(Address({port})).turn()
"""
_END = "\nimport os; print(flush=True); os._exit(0)\n"

_TWICE = """
import time
from polysync import Client
for _ in range(2):
    client = Client("token", "https://www.example.com",
        environment={url!r}, ca_certs={authority!r})
    start = time.perf_counter()
    client.connect()
    print(time.perf_counter() - start, flush=True)
    client.close()
"""


class Pythons:
    """Runs scripts with compiled modules, as an installed package has them."""

    def __init__(self, cache: str) -> None:
        self._environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def output(self, script: str) -> str:
        """Return what a script prints."""
        return subprocess.run(
            [sys.executable, "-c", script],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    def until_first_line(self, script: str) -> float:
        """Return the seconds from the start of the process to its first line."""
        start = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-c", script],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            spent = time.perf_counter() - start
        if not line:
            raise RuntimeError("the script failed")
        return spent


def _there(modules: str) -> bool:
    try:
        return all(importlib.util.find_spec(name) for name in modules.split(", "))
    except ModuleNotFoundError:
        return False


def imports(pythons: Pythons, rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of CPU that each import takes."""
    times: dict[str, list[float]] = {n: [] for n, m in IMPORTS.items() if _there(m)}
    for number in range(rounds + 1):
        for name, spent in times.items():
            seconds = float(pythons.output(_TIMED.format(IMPORTS[name])))
            if number:
                spent.append(seconds * 1e3)
    return times


def greetings(
    pythons: Pythons, address: Address, rounds: int
) -> dict[str, list[float]]:
    """Return the milliseconds from the start of a process to its first answer."""
    folder = str(Path(__file__).parent)
    scripts = {
        "websocket-client": _BARE.format(port=address.port),
        "polysync": _OURS.format(port=address.port),
    }
    for name in (
        "websockets.sync",
        "slack_sdk, built-in",
        "slack_sdk, websocket-client",
        "python-socketio",
        "azure-messaging-webpubsubclient",
    ):
        scripts[name] = _PEER.format(folder=folder, name=name, port=address.port)
    times: dict[str, list[float]] = {name: [] for name in scripts}
    for number in range(rounds + 1):
        for name, script in scripts.items():
            if name not in times:
                continue
            try:
                seconds = pythons.until_first_line(script + _END)
            except RuntimeError:
                del times[name]  # its library is not installed
                continue
            if number:
                times[name].append(seconds * 1e3)
    return times


def round_trips(pythons: Pythons, address: Address, rounds: int) -> Any:
    """Return the round trips of a process's first `connect`, and of its next."""
    script = _TWICE.format(url=address.url("http"), authority=address.authority)
    first, following = [], []
    for _ in range(rounds):
        one, two = map(float, pythons.output(script).split())
        first.append(one / (2 * DELAY))
        following.append(two / (2 * DELAY))
    return {"first": first, "next": following}


def measure(server: Server, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Measure everything here."""
    with tempfile.TemporaryDirectory() as cache:
        pythons = Pythons(cache)
        return {
            "import ms": imports(pythons, rounds),
            "greeting ms": greetings(pythons, server.clear, rounds),
            "round trips": round_trips(pythons, server.delayed, max(3, rounds // 3)),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with Server() as server:
        for title, figures in measure(server, options.rounds).items():
            floor = median(next(iter(figures.values())))
            print(f"{title:34}{'median':>10}{'ratio':>8}")
            for name, values in figures.items():
                print(f"{name:34}{median(values):10.2f}{median(values) / floor:8.2f}")


if __name__ == "__main__":
    main()
