"""Many conversations in one process, and one conversation that becomes long.

Both are measured in a process of its own, whose memory holds nothing from before.

    python benchmarks/scale.py [--tls] [--conversations 1000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import gc
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import alone
from address import Address
from contenders import Polysync
from idle import resident
from rounds import Section
from server import Server

from polysync import Client, PolysyncError

#: Threads that talk.
THREADS = 8
#: Turns of the one client that talks alone, in each round.
_ALONE = 500
#: Clients that pay for what is shared before anything is measured.
_FIRST = 10
#: Seconds after which nothing is left to be done for a new client.
_SETTLED = 3.0
#: Events of one measurement, and of the history before the last ones.
_EVENTS = 1_000
_HISTORY = 10_000
#: Long conversations in each round: one takes a fifth of a second, and differs from
#: the next by more than what is looked for.
_LONG = 5

ONE, MANY = "one client", f"all, on {THREADS} threads"
EARLY, LATE = "the first", "after 10,000"


def _client(address: Address) -> Client:
    return Client(
        "token",
        "https://www.example.com",
        environment=address.url("http"),
        ca_certs=address.authority,
    )


def _lost(client: Client, text: str) -> int:
    """Have one turn; return 1 unless the reply is the one to this very text."""
    try:
        reply = client.ask(text)
    except PolysyncError:
        return 1
    return int(not reply.text.endswith(f": {text}"))


def conversations(address: Address, count: int, rounds: int) -> dict[str, Any]:
    """Hold ``count`` conversations at once, and talk in all of them."""
    first = [_client(address).connect() for _ in range(_FIRST)]
    alone = first[0]
    lost = 0
    turns: dict[str, list[float]] = {ONE: [], MANY: []}
    with ThreadPoolExecutor(THREADS) as pool:
        lost += sum(pool.map(_lost, first, map(str, range(_FIRST))))
        gc.collect()
        time.sleep(_SETTLED)
        before = resident()
        clients = [_client(address) for _ in range(count)]
        start = time.perf_counter()
        list(pool.map(Client.connect, clients))
        connected = time.perf_counter() - start
        gc.collect()
        time.sleep(_SETTLED)
        memory = resident() - before
        for turn in range(rounds):
            start = time.perf_counter()
            lost += sum(_lost(alone, f"{turn} {n}") for n in range(_ALONE))
            turns[ONE].append((time.perf_counter() - start) / _ALONE * 1e6)
            texts = [f"{turn} of {number}" for number in range(count)]
            start = time.perf_counter()
            lost += sum(pool.map(_lost, clients, texts))
            turns[MANY].append((time.perf_counter() - start) / count * 1e6)
    start = time.perf_counter()
    for client in clients:
        client.close()
    closed = time.perf_counter() - start
    for client in first:
        client.close()
    return {
        "turns": turns,
        "lost": lost,
        "KiB": memory / count / 1024,
        "connected a second": count / connected,
        "close ms": closed / count * 1e3,
    }


def _cost(client: Polysync) -> float:
    """Return the microseconds of CPU that an event takes, on all threads."""
    start = time.process_time()
    client.blast(_EVENTS)
    return (time.process_time() - start) / _EVENTS * 1e6


def growth(address: Address, rounds: int) -> dict[str, list[float]]:
    """Compare the first events of a conversation with those after a long history."""
    times: dict[str, list[float]] = {EARLY: [], LATE: []}
    for _ in range(rounds):
        client = Polysync(address)
        client.blast(_EVENTS)
        times[EARLY].append(median(_cost(client) for _ in range(3)))
        while len(client.client.history) < _HISTORY:
            client.blast(_EVENTS)
        times[LATE].append(median(_cost(client) for _ in range(3)))
        client.close()
    return times


def measure(address: Address, count: int, rounds: int) -> dict[str, Section]:
    """Measure everything here, in a new process."""
    found = alone.run(
        __file__,
        "--inside",
        f"--port={address.port}",
        f"--authority={address.authority or ''}",
        f"--conversations={count}",
        f"--rounds={rounds}",
        timeout=600,
    )
    many, growth = found["many"], found["growth"]
    turns = many.pop("turns")
    all_of_them = f"{count} conversations"
    return {
        "turns": Section(f"{all_of_them}, us a turn, {address.where}", turns, ONE),
        "many": Section(
            f"{all_of_them}, {address.where}",
            {name: [value] for name, value in many.items()},
        ),
        "growth": Section(
            f"growth, us of CPU an event, {address.where}", growth, EARLY
        ),
    }


def main() -> None:
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--conversations", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inside", action="store_true")
    parser.add_argument("--port", type=int)
    parser.add_argument("--authority")
    options = parser.parse_args()
    count, rounds = options.conversations, options.rounds
    if options.inside:
        address = Address(options.port, options.authority or None)
        found = {"many": conversations(address, count, rounds)}
        found["growth"] = growth(address, _LONG * rounds)
        alone.hand_over(found)
    with Server() as server:
        address = server.secure if options.tls else server.clear
        for section in measure(address, count, rounds).values():
            print(section)


if __name__ == "__main__":
    main()
