"""What a turn costs, and how fast events come in: polysync beside its peers.

All contenders take turns in one process, round after round, so that a slow moment of
the machine hits them alike. Each figure is the median of the rounds; its spread is half
the distance between the quartiles. Ratios are medians of the rounds' own ratios.

    python benchmarks/turns.py [--tls] [--rounds 15] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import logging
import time
from statistics import median, quantiles

from contenders import ALL, Contender, Polysync, installed, trust
from server import Address, Server

#: Turns, and events, at a time.
TURNS = 200
EVENTS = 20_000
#: How often a round repeats that, unless it takes longer than so many seconds.
REPEATS = 5
_LONGEST = 0.5
#: How often a contender may lose its connection in one round.
TRIES = 4

Rounds = dict[str, list[float]]


def measure(
    address: Address, rounds: int, contenders: list[type[Contender]]
) -> tuple[Rounds, Rounds]:
    """Return microseconds a turn, and microseconds an event, of each round.

    Those of a round are medians too, so that a turn during which the machine did
    something else does not count.
    """
    trust(address)
    turns: Rounds = {}
    events: Rounds = {}
    left_out = {c.name for c in contenders if address.authority and not c.tls}
    for _ in range(rounds):
        for contender in contenders:
            name = contender.name
            if name in left_out:
                continue
            try:
                spent = _round(contender, address)
            except Exception as error:
                print(f"left out: {name} ({type(error).__name__}: {error})")
                left_out.add(name)
                turns.pop(name, None), events.pop(name, None)
            else:
                turns.setdefault(name, []).append(spent[0])
                events.setdefault(name, []).append(spent[1])
    return turns, events


def _round(contender: type[Contender], address: Address) -> tuple[float, float]:
    """Measure one contender once; again if it loses its connection, as some do."""
    for tried in range(1, TRIES + 1):
        # A new connection each time, so that only one has anything to do.
        connected = contender(address)
        try:
            return _turns(connected), _events(connected)
        except Exception:
            if tried == TRIES:
                raise
            print(f"measured again: {contender.name}, which lost its connection")
        finally:
            connected.close()
    raise AssertionError("a round ends or fails")


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


def summary(rounds: Rounds, floor: str) -> dict[str, dict[str, float]]:
    """Return each contender's median, spread, and ratio to the floor."""
    figures = {}
    for name, values in rounds.items():
        if len(values) < 2:
            continue
        low, _, high = quantiles(values, n=4)
        ratios = [mine / base for mine, base in zip(values, rounds[floor], strict=True)]
        figures[name] = {
            "median": median(values),
            "spread": (high - low) / 2,
            "ratio": median(ratios),
        }
    return figures


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
        turns, events = measure(address, options.rounds, chosen)
    floor = "websocket-client" if "websocket-client" in turns else Polysync.name
    for title, rounds in (("us a turn", turns), ("us an event", events)):
        print(f"{title:34}{'median':>10}{'spread':>10}{'ratio':>8}")
        for name, figure in summary(rounds, floor).items():
            print(
                f"{name:34}{figure['median']:10.1f}{figure['spread']:10.1f}"
                f"{figure['ratio']:8.2f}"
            )


if __name__ == "__main__":
    main()
