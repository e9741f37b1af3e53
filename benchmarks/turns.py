"""What a turn costs, and how fast events come in: polysync beside its peers.

All contenders take turns in one process, each round in another order.

    python benchmarks/turns.py [--tls] [--rounds 15] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from statistics import median

from address import Address
from contenders import ALL, Contender, installed, trust
from rounds import Section, note, tried, turns_of
from server import Server

#: Turns, and events, at a time.
TURNS = 200
EVENTS = 20_000
#: How often a round repeats that, unless it takes longer than so many seconds.
REPEATS = 5
_LONGEST = 0.5


def measure(
    address: Address, rounds: int, contenders: list[type[Contender]]
) -> list[Section]:
    """Return the microseconds a turn, and the microseconds an event.

    Those of a round are medians too, so that a turn during which the machine did
    something else does not count.
    """
    trust(address)
    floor = contenders[0].name
    every = [
        (Section(f"turn us, {address.where}", floor=floor), _turns),
        (Section(f"inbound us an event, {address.where}", floor=floor), _events),
    ]
    for contender in contenders:
        if address.authority and not contender.tls:
            note(f"not measured over TLS: {contender.name}")
    able = [c for c in contenders if c.tls or not address.authority]
    out: set[tuple[str, str]] = set()
    for order in turns_of(able, rounds):
        for contender in order:
            for section, task in every:
                if (section.title, contender.name) in out:
                    continue
                try:
                    took = tried(contender.name, _once, contender, address, task)
                except Exception as error:
                    note(
                        f"left out of {section.title}: {contender.name} "
                        f"({type(error).__name__}: {error})"
                    )
                    out.add((section.title, contender.name))
                    section.rounds.pop(contender.name, None)
                else:
                    section.add(contender.name, took)
    return [section for section, _ in every]


def _once(
    contender: type[Contender], address: Address, task: Callable[[Contender], float]
) -> float:
    # A new connection each time, so that only one has anything to do.
    connected = contender(address)
    try:
        return task(connected)
    finally:
        connected.close()


def _turns(connected: Contender) -> float:
    for _ in range(20):
        connected.turn()
    times = []
    end = time.perf_counter() + _LONGEST
    while len(times) < TURNS * REPEATS and time.perf_counter() < end:
        start = time.perf_counter()
        connected.turn()
        times.append(time.perf_counter() - start)
    return median(times) * 1e6


def _events(connected: Contender) -> float:
    # Many, for the clock of those that listen starts with their first event, and by
    # then their reader may be 5 ms ahead (`sys.getswitchinterval`).
    times = []
    trial = min(1_000, connected.burst)
    count = trial
    if trial < connected.burst:
        pace = connected.blast(trial) / trial
        count = min(EVENTS, max(trial, int(_LONGEST / pace)))
    end = time.perf_counter() + _LONGEST
    while len(times) < REPEATS and (len(times) < 2 or time.perf_counter() < end):
        times.append(connected.blast(count) / count)
    return median(times) * 1e6


def main() -> None:
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="*", help="names of contenders")
    options = parser.parse_args()
    chosen = installed(
        tuple(c for c in ALL if not options.only or c.name in options.only)
    )
    with Server() as server:
        address = server.secure if options.tls else server.clear
        for section in measure(address, options.rounds, chosen):
            print(section)


if __name__ == "__main__":
    main()
