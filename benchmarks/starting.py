"""What it takes to begin: imports, the first greeting, and round trips on the way.

Everything is timed in processes of its own, in turns, with compiled modules at hand.
polysync and the bare loop begin as the Messaging API wants it (a token, a session, the
WebSocket, the agent's greeting); the peers open a WebSocket and have one turn.

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

from address import Address
from contenders import named
from rounds import Rounds, Section, note, tried, turns_of
from server import DELAY, Server

#: The floor of the imports, and what to import of each peer.
FLOOR = "websocket, attrs, cattrs, urllib3"
IMPORTS = {
    FLOOR: FLOOR,
    "polysync": "polysync",
    # What it does import of them.
    "websocket, attrs, urllib3": "websocket, attrs, urllib3",
    # What it loads besides for web pages.
    "polysync, pool, store and context": "polysync, polysync.sessions.pool, "
    "polysync.sessions.store, polysync.context",
    "websocket-client": "websocket",
    "websockets.sync": "websockets.sync.client",
    "slack_sdk": "slack_sdk.socket_mode",
    "python-socketio": "socketio",
    "azure-messaging-webpubsubclient": "azure.messaging.webpubsubclient",
    "pydantic": "pydantic",
    "msgspec": "msgspec",
}

_TIMED = "import time; t = time.process_time(); import {}; print(time.process_time()-t)"

_CLEAR = 'server = http.client.HTTPConnection("127.0.0.1", {port})'
_SECURE = """
import ssl
server = http.client.HTTPSConnection("127.0.0.1", {port},
    context=ssl.create_default_context(cafile={authority!r}))
"""
_BARE = """
import http.client, json, websocket
def post(path):
    server.request("POST", path, b"{{}}", {{"Content-Type": "application/json"}})
    return json.loads(server.getresponse().read())
{server}
token = post("/api/v1/access-token")["access_token"]
session = post("/api/v1/sessions")["session_id"]
ws = websocket.create_connection(
    f"{url}?session_id={{session}}&access_token={{token}}",
    sslopt={trusted!r}, skip_utf8_validation=True)
ws.send(json.dumps({{"type": "EVENT_TYPE_REQUEST_POLY_AGENT_JOIN", "payload": {{}}}}))
while json.loads(ws.recv())["type"] != "EVENT_TYPE_POLY_AGENT_MESSAGE":
    pass
"""
_OURS = """
from polysync import Client
client = Client("token", "https://www.example.com",
    environment={url!r}, ca_certs={authority!r}).connect()
client.greeting.text
"""
_PEER = """
import sys; sys.path.insert(0, {folder!r})
from contenders import named, trust; from address import Address
address = Address({port}, {authority!r})
trust(address)
named({name!r})(address).turn()
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


def imports(pythons: Pythons, rounds: int) -> Section:
    """Return the milliseconds of CPU that each import takes."""
    section = Section("import ms", floor=FLOOR)
    there = {name: modules for name, modules in IMPORTS.items() if _there(modules)}
    for modules in there.values():
        pythons.output(_TIMED.format(modules))  # compiles
    for order in turns_of(there, rounds):
        for name in order:
            seconds = float(pythons.output(_TIMED.format(there[name])))
            section.add(name, seconds * 1e3)
    return section


def _greeting_scripts(address: Address) -> dict[str, str]:
    """Return what each contender runs until its first answer."""
    port, authority = address
    server = (_SECURE if authority else _CLEAR).format(port=port, authority=authority)
    trusted = {"ca_certs": authority} if authority else {}
    bare = _BARE.format(server=server, url=address.url("ws", "/ws"), trusted=trusted)
    ours = _OURS.format(url=address.url("http"), authority=authority)
    scripts = {"websocket-client": bare, "polysync": ours}
    folder = str(Path(__file__).parent)
    for name in (
        "websockets.sync",
        "slack_sdk, built-in",
        "slack_sdk, websocket-client",
        "python-socketio",
        "azure-messaging-webpubsubclient",
    ):
        if named(name).tls or not authority:
            scripts[name] = _PEER.format(
                folder=folder, name=name, port=port, authority=authority
            )
    return {name: script + _END for name, script in scripts.items()}


def greetings(pythons: Pythons, address: Address, rounds: int) -> Section:
    """Return the milliseconds from the start of a process to its first answer."""
    scripts = _greeting_scripts(address)
    empty: Rounds = {name: [] for name in scripts}
    section = Section(f"greeting ms, {address.where}", empty, floor="websocket-client")
    for number, order in enumerate(turns_of(scripts, rounds + 1)):
        for name in order:
            if name not in scripts:
                continue
            try:
                seconds = tried(name, pythons.until_first_line, scripts[name])
            except RuntimeError as error:
                note(f"left out of {section.title}: {name} ({error})")
                del scripts[name]
                del section.rounds[name]
                continue
            if number:  # the first round compiles
                section.add(name, seconds * 1e3)
    return section


def round_trips(pythons: Pythons, address: Address, rounds: int) -> Section:
    """Return the round trips of a process's first `connect`, and of its next.

    The proxy answers TCP's handshake at once, so that is not among them.
    """
    script = _TWICE.format(url=address.url("http"), authority=address.authority)
    section = Section("round trips")
    for _ in range(rounds):
        one, two = map(float, pythons.output(script).split())
        section.add("first", one / (2 * DELAY))
        section.add("next", two / (2 * DELAY))
    return section


def measure(server: Server, rounds: int) -> list[Section]:
    """Measure everything here."""
    with tempfile.TemporaryDirectory() as cache:
        pythons = Pythons(cache)
        return [
            imports(pythons, rounds),
            greetings(pythons, server.clear, rounds),
            greetings(pythons, server.secure, rounds),
            round_trips(pythons, server.delayed, rounds),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with Server() as server:
        for section in measure(server, options.rounds):
            print(section)


if __name__ == "__main__":
    main()
