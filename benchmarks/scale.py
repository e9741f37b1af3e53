"""Many conversations in one process, and one conversation that becomes long.

python benchmarks/scale.py [--conversations 1000]
"""

from __future__ import annotations

import argparse
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

from contenders import Polysync
from idle import resident
from server import Address, Server

from polysync import Client

#: Threads that talk, and turns of each conversation.
THREADS = 8
TURNS = 3
#: Events of one measurement, and of the history before the last ones.
_EVENTS = 1_000
_HISTORY = 10_000


def conversations(address: Address, count: int) -> dict[str, float]:
    """Hold ``count`` conversations at once, and talk in all of them."""
    one = Polysync(address)
    for _ in range(200):
        one.turn()
    start = time.perf_counter()
    for _ in range(500):
        one.turn()
    alone = 500 / (time.perf_counter() - start)
    before = resident()
    lost = 0
    lock = threading.Lock()

    def talk(client: Client) -> None:
        nonlocal lost
        for turn in range(TURNS):
            reply = client.ask(f"turn {turn}")
            if not reply.text:
                with lock:
                    lost += 1

    clients = [
        Client("token", "https://www.example.com", environment=address.url("http"))
        for _ in range(count)
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        start = time.perf_counter()
        list(pool.map(Client.connect, clients))
        connected = time.perf_counter() - start
        memory = resident() - before
        start = time.perf_counter()
        list(pool.map(talk, clients))
        spent = time.perf_counter() - start
        start = time.perf_counter()
        for client in clients:
            client.close()
        closed = time.perf_counter() - start
    one.close()
    rate = count * TURNS / spent
    return {
        "conversations": count,
        "lost": lost,
        "connected a second": count / connected,
        "turns a second": rate,
        "turns a second, one client": alone,
        "ratio": rate / alone,
        "KiB": memory / count / 1024,
        "close ms": closed / count * 1e3,
    }


def _cost(client: Polysync) -> float:
    """Return the microseconds of CPU that an event takes, on all threads."""
    start = time.process_time()
    client.blast(_EVENTS)
    return (time.process_time() - start) / _EVENTS * 1e6


def growth(address: Address) -> dict[str, float]:
    """Compare the first events of a conversation with those after a long history."""
    ratios, early, late = [], [], []
    for _ in range(5):
        client = Polysync(address)
        client.blast(_EVENTS)
        first = median(_cost(client) for _ in range(3))
        while len(client.client.history) < _HISTORY:
            client.blast(_EVENTS)
        last = median(_cost(client) for _ in range(3))
        client.close()
        early.append(first)
        late.append(last)
        ratios.append(last / first)
    return {
        "us an event, first": median(early),
        "us an event, after 10,000": median(late),
        "ratio": median(ratios),
    }


def measure(address: Address, count: int) -> dict[str, Any]:
    """Measure everything here."""
    return {"many": conversations(address, count), "growth": growth(address)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=1_000)
    options = parser.parse_args()
    with Server() as server:
        for figures in measure(server.clear, options.conversations).values():
            for name, value in figures.items():
                print(f"{name:34}{value:12.2f}")


if __name__ == "__main__":
    main()
