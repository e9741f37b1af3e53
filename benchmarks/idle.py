"""What clients cost that do nothing: memory, threads, CPU; and how fast they close.

Each contender opens its clients in a process of its own, one after the other in each
round. Memory is what the process grows by, divided by the number of clients, after ten
that pay for what is shared; stacks of threads count as far as they are touched. The
heartbeats of polysync, one in thirty seconds, do not fall into the time that is
watched; those of its peers are as they come.

    python benchmarks/idle.py [--tls] [--clients 200] [--rounds 3]
"""

from __future__ import annotations

import argparse
import gc
import logging
import threading
import time
from statistics import median

import alone
from address import Address
from contenders import ALL, Contender, Polysync, installed, named, trust
from rounds import Section, note, turns_of
from server import Server

#: Seconds over which the CPU time of idle clients is taken; below a heartbeat's 30.
WATCHED = 5.0
#: Seconds after which nothing is left to be done for a new client.
_SETTLED = 3.0
#: Clients that pay for what is shared before anything is measured.
_FIRST = 10
#: Closes that are timed; some take ten seconds.
_CLOSED = 5
#: Seconds after which a contender's threads are not waited for any longer.
_PATIENCE = 12.0
#: Seconds; a contender that takes longer, some connect for two minutes, has one round.
_LONG = 20.0


class BareThread(Contender):
    """The floor: websocket-client, and a thread that waits for its next message."""

    name, needs = "websocket-client and a thread", "websocket"

    def __init__(self, address: Address) -> None:
        self._bare = named("websocket-client")(address)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while self._bare._ws.recv():  # type: ignore[attr-defined]
                pass
        except Exception:
            pass

    def close(self) -> None:
        self._bare._ws.send_close()  # type: ignore[attr-defined]
        self._thread.join()


class PolysyncCallbacks(Polysync):
    """polysync with callbacks that have been called: one thread more."""

    name = "polysync, with callbacks"

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self.blast(1)


class PolysyncPlain(Polysync):
    """polysync as it is without callbacks."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self.client.off(self._heard)


LISTENING = {"websocket-client", "websocket-client, default", "polysync, orjson"}


def contenders() -> dict[str, type[Contender]]:
    """Return those that are installed; a bare loop gets the thread that it needs."""
    mine: dict[str, type[Contender]] = {
        each.name: each for each in (BareThread, PolysyncPlain, PolysyncCallbacks)
    }
    rest = {each.name: each for each in installed(ALL) if each.name not in LISTENING}
    return {**rest, **mine}


def resident() -> int:
    """Return the bytes of this process's own memory."""
    with open("/proc/self/smaps_rollup") as rollup:
        return sum(
            int(line.split()[1]) * 1024
            for line in rollup
            if line.startswith(("Private_Clean", "Private_Dirty"))
        )


def measure(name: str, address: Address, clients: int) -> dict[str, float]:
    """Measure one contender in this process."""
    trust(address)
    contender = contenders()[name]
    first = [contender(address) for _ in range(_FIRST)]
    gc.collect()
    time.sleep(0.5)
    before, threads = resident(), threading.active_count()
    idle = [contender(address) for _ in range(clients)]
    gc.collect()
    time.sleep(_SETTLED)
    grown, more = resident() - before, threading.active_count() - threads
    spent = time.process_time()
    time.sleep(WATCHED)
    spent = time.process_time() - spent
    mine = round(more / clients)
    times = []
    for each in idle[:_CLOSED]:
        running = set(threading.enumerate())
        start = time.perf_counter()
        each.close()
        # As many as one client has, whichever they are.
        while time.perf_counter() - start < _PATIENCE:
            gone = sum(not thread.is_alive() for thread in running)
            if gone >= mine:
                break
            time.sleep(0.0002)
        times.append(time.perf_counter() - start)
        if times[-1] > 1.0:
            break
    del first
    return {
        "KiB": grown / clients / 1024,
        "threads": more / clients,
        # All but the main thread and each client's own.
        "shared threads": threads + more - 1 - mine * (clients + _FIRST),
        "ms CPU/s": spent / WATCHED * 1e3 / clients * 200,
        "close ms": median(times) * 1e3,
    }


#: What is measured, by the name that `measure` gives it.
TITLES = {
    "KiB": "idle client, KiB",
    "threads": "idle client, threads of its own",
    "shared threads": "idle clients, threads for all",
    "ms CPU/s": "200 idle clients, ms CPU a second",
    "close ms": "close(), ms",
}


def run(
    address: Address, clients: int, rounds: int, only: list[str] | None = None
) -> dict[str, Section]:
    """Measure every contender in a process of its own."""
    sections = {
        key: Section(f"{title}, {address.where}") for key, title in TITLES.items()
    }
    chosen = [
        name
        for name, contender in contenders().items()
        if (not only or name in only) and (contender.tls or not address.authority)
    ]
    for order in turns_of(chosen, rounds):
        for name in order:
            if name not in chosen:
                continue
            start = time.perf_counter()
            try:
                figures = alone.run(
                    __file__,
                    f"--inside={name}",
                    f"--port={address.port}",
                    f"--authority={address.authority or ''}",
                    f"--clients={clients}",
                    timeout=120,
                )
            except RuntimeError as error:
                note(f"left out of idle clients, {address.where}: {name} ({error})")
                chosen.remove(name)
                for section in sections.values():
                    section.rounds.pop(name, None)
            else:
                for key, value in figures.items():
                    sections[key].add(name, value)
                spent = time.perf_counter() - start
                if spent > _LONG and rounds > 1:
                    note(f"one round of idle clients takes {spent:.0f} s: {name}")
                    chosen.remove(name)
    return sections


def main() -> None:
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of contenders")
    parser.add_argument("--inside")
    parser.add_argument("--port", type=int)
    parser.add_argument("--authority")
    options = parser.parse_args()
    if options.inside:
        address = Address(options.port, options.authority or None)
        alone.hand_over(measure(options.inside, address, options.clients))
    with Server() as server:
        address = server.secure if options.tls else server.clear
        for section in run(
            address, options.clients, options.rounds, options.only
        ).values():
            print(section)


if __name__ == "__main__":
    main()
