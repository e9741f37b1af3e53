"""Many conversations in one process, for minutes, over connections that are cut.

Each asks again and again, ends now and then and begins anew; the server cuts
connections at random. No call may get stuck, and threads, descriptors and memory have
to stay where they are. The server runs in this process too and is part of its memory,
so it forgets ended sessions' records as it goes.

    python benchmarks/soak.py [--minutes 10] [--conversations 200]

Writes the curve to ``benchmarks/results/soak.png`` (needs matplotlib) and the figures
beside it as JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import sys
import threading
import time
from pathlib import Path

from polysync import Client, PolysyncError
from polysync.runtime.network import close_idle
from polysync.sandbox import EchoAgent, Sandbox

RESULTS = Path(__file__).parent / "results"


class Soak:
    """The conversations, and what is counted of them."""

    def __init__(self, sandbox: Sandbox, stop: threading.Event) -> None:
        self.sandbox = sandbox
        self.stop = stop
        self.lock = threading.Lock()
        self.turns = 0
        self.conversations = 0
        self.wrong = 0
        self.errors: dict[str, int] = {}
        self.slowest = 0.0

    def talk(self, number: int) -> None:
        """Hold one conversation after the other until it is time to stop."""
        chance = random.Random(number)
        while not self.stop.is_set():
            client = Client(
                self.sandbox.connector_token,
                self.sandbox.host,
                environment=self.sandbox.base_url,
                reconnect_delay=0.05,
                reconnect_delay_max=0.5,
                max_reconnects=50,
                history_limit=100,
            )
            try:
                with client:
                    for turn in range(chance.randrange(5, 40)):
                        self.ask(client, f"{number}.{turn}")
                        # Not to synchronise: people take their time.
                        if self.stop.wait(chance.random() * 2.0):
                            break
            except PolysyncError as error:
                name = type(error).__name__
                with self.lock:
                    self.errors[name] = self.errors.get(name, 0) + 1
            with self.lock:
                self.conversations += 1

    def ask(self, client: Client, text: str) -> None:
        """One turn, whose answer has to be the one to its question."""
        started = time.perf_counter()
        answer = client.ask(text, timeout=60).text
        took = time.perf_counter() - started
        with self.lock:
            self.turns += 1
            self.wrong += answer != text
            self.slowest = max(self.slowest, took)

    def cut(self, chance: random.Random) -> None:
        """Cut the connections of some session."""
        sessions = [s for s in self.sandbox.sessions.values() if not s.ended]
        if sessions:
            chance.choice(sessions).drop()


def measure() -> dict[str, float]:
    """What this process holds: MiB of memory, threads, descriptors."""
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[1])
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def main() -> int:
    """Soak, and print what came of it; 1 if a call got stuck or something grew."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--conversations", type=int, default=200)
    options = parser.parse_args()
    stop = threading.Event()
    samples: list[dict[str, float]] = []
    before = measure()
    with Sandbox(EchoAgent(), record_limit=1_000, idle_timeout=30) as sandbox:
        soak = Soak(sandbox, stop)
        threads = [
            threading.Thread(target=soak.talk, args=(n,), name=f"soak-{n}")
            for n in range(options.conversations)
        ]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        chance = random.Random(1)
        pause = threading.Event()
        cuts = 0
        while (elapsed := time.monotonic() - started) < options.minutes * 60:
            pause.wait(0.05)
            soak.cut(chance)
            cuts += 1
            if not samples or elapsed - samples[-1]["seconds"] >= 5.0:
                for session in sandbox.sessions.values():
                    if session.ended and not session.connections:
                        session.forget()
                samples.append({"seconds": elapsed, **measure()})
        stop.set()
        for thread in threads:
            thread.join(90)
        stuck = [thread.name for thread in threads if thread.is_alive()]
    close_idle()  # what the process keeps for its next conversation
    gc.collect()
    after = measure()
    left = [t.name for t in threading.enumerate() if t.name.startswith("polysync-")]
    half = len(samples) // 2
    figures = {
        "minutes": options.minutes,
        "conversations at once": options.conversations,
        "conversations in all": soak.conversations,
        "turns": soak.turns,
        "cuts": cuts,
        "answers to another question": soak.wrong,
        "errors": soak.errors,
        "slowest turn, s": round(soak.slowest, 2),
        "stuck threads": stuck,
        "threads left": left,
        "descriptors before and after": [before["descriptors"], after["descriptors"]],
        "MiB in the middle and at the end": [
            round(samples[half]["memory"], 1),
            round(samples[-1]["memory"], 1),
        ],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "soak.json").write_text(
        json.dumps({"figures": figures, "samples": samples}, indent=1)
    )
    plot(samples)
    for name, value in figures.items():
        print(f"{name}: {value}")
    return int(bool(stuck or left or soak.wrong))


def plot(samples: list[dict[str, float]]) -> None:
    """Draw the curves, if matplotlib is there."""
    try:
        import matplotlib
    except ImportError:
        print("no matplotlib, no picture")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 1, sharex=True, figsize=(8, 7))
    minutes = [sample["seconds"] / 60 for sample in samples]
    units = {
        "memory": "memory, MiB",
        "threads": "threads",
        "descriptors": "descriptors",
    }
    for axis, (name, label) in zip(axes, units.items(), strict=True):
        axis.plot(minutes, [sample[name] for sample in samples])
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
    axes[-1].set_xlabel("minutes")
    figure.suptitle("200 conversations over connections that are cut 20 times a second")
    figure.tight_layout()
    figure.savefig(RESULTS / "soak.png", dpi=110)


if __name__ == "__main__":
    sys.exit(main())
