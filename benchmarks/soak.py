"""Many conversations in one process, for minutes, over connections that are cut.

Each asks again and again, ends now and then and begins anew; the server, in a process
of its own, cuts connections at random. No call may get stuck, and threads, descriptors
and memory of the clients' process have to stay where they are.

    python benchmarks/soak.py [--minutes 10] [--conversations 200] [--seed 0]

Writes the curve to ``benchmarks/results/soak.png`` (needs matplotlib) and the figures
beside it as JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import random
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import linear_regression, mean
from typing import Any

from polysync import Client, PolysyncError
from polysync.runtime.network import close_idle
from polysync.sandbox import EchoAgent, Sandbox

RESULTS = Path(__file__).parent / "results"
#: Seconds between two cuts.
CUTS = 0.05
#: Seconds between two looks at what the processes hold.
SAMPLES = 5.0


class Soak:
    """The conversations, and what is counted of them."""

    def __init__(self, options: dict[str, Any], seed: int) -> None:
        self.options = options
        self.seed = seed
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.turns = 0
        self.conversations = 0
        self.wrong = 0
        self.errors: dict[str, int] = {}
        self.slowest = 0.0

    def talk(self, number: int) -> None:
        """Hold one conversation after the other until it is time to stop."""
        chance = random.Random(f"{self.seed}.{number}")
        while not self.stop.is_set():
            client = Client(
                **self.options,
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


def serve(pipe: Connection, seed: int) -> None:
    """Be the server's process: cut at random, and tell about itself when asked."""
    chance = random.Random(seed)
    cuts = 0
    with Sandbox(EchoAgent(), record_limit=1_000, session_limit=100) as sandbox:
        pipe.send(
            {
                "connector_token": sandbox.connector_token,
                "host": sandbox.host,
                "environment": sandbox.base_url,
            }
        )
        while True:
            if pipe.poll(CUTS):
                if pipe.recv() == "stop":
                    return
                pipe.send({"cuts": cuts, "server": memory()})
            live = [s for s in sandbox.sessions.values() if s.connections]
            if live:
                chance.choice(live).drop()
                cuts += 1


def memory() -> float:
    """Return what this process holds in memory, in MiB."""
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[1])
    return pages * float(os.sysconf("SC_PAGE_SIZE")) / 2**20


def measure() -> dict[str, float]:
    """What this process holds: MiB of memory, threads, descriptors, Python's blocks.

    A block is what Python has allocated for one object or for the insides of one. Some
    belong to garbage that is not collected yet.
    """
    return {
        "memory": memory(),
        "blocks": sys.getallocatedblocks(),
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def at_rest() -> dict[str, float]:
    """What this process holds between conversations, with all garbage collected."""
    close_idle()  # what it keeps for its next conversation
    gc.collect()
    return measure()


def main() -> int:
    """Soak, and print what came of it; 1 if a call got stuck or something grew."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--conversations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    pipe, theirs = spawn.Pipe()
    server = spawn.Process(target=serve, args=(theirs, options.seed), daemon=True)
    server.start()
    soak = Soak(pipe.recv(), options.seed)
    with Client(**soak.options) as client:  # loads what is loaded when it is needed
        client.ask("first")
    before = at_rest()
    samples: list[dict[str, float]] = []
    threads = [
        threading.Thread(target=soak.talk, args=(n,), name=f"soak-{n}")
        for n in range(options.conversations)
    ]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    pause = threading.Event()
    while (elapsed := time.monotonic() - started) < options.minutes * 60:
        pipe.send("sample")
        done = {"conversations": soak.conversations, "turns": soak.turns}
        samples.append({"seconds": elapsed, **measure(), **done, **pipe.recv()})
        pause.wait(SAMPLES)
    soak.stop.set()
    for thread in threads:
        thread.join(90)
    stuck = [thread.name for thread in threads if thread.is_alive()]
    after = at_rest()
    left = [t.name for t in threading.enumerate() if t.name.startswith("polysync-")]
    pipe.send("stop")
    server.join(30)
    figures = {
        "minutes": options.minutes,
        "conversations at once": options.conversations,
        "conversations in all": soak.conversations,
        "turns": soak.turns,
        "cuts": samples[-1]["cuts"],
        "answers to another question": soak.wrong,
        "errors": soak.errors,
        "slowest turn, s": round(soak.slowest, 2),
        "stuck threads": stuck,
        "threads left": left,
        "descriptors before and after": [before["descriptors"], after["descriptors"]],
        "blocks before and after": [before["blocks"], after["blocks"]],
        "MiB of the clients": trend(samples, "memory"),
        "MiB of the server": trend(samples, "server"),
    }
    options.results.mkdir(exist_ok=True, parents=True)
    (options.results / "soak.json").write_text(
        json.dumps({"figures": figures, "samples": samples}, indent=1)
    )
    plot(samples, options)
    for name, value in figures.items():
        print(f"{name}: {value}")
    grown = after["descriptors"] > before["descriptors"]
    return int(bool(stuck or left or soak.wrong or grown))


def trend(samples: list[dict[str, float]], name: str) -> dict[str, float]:
    """Say how a figure has gone: in each third of the run, and in its second half."""
    third, half = max(1, len(samples) // 3), samples[len(samples) // 2 :]
    means = [mean(s[name] for s in samples[i * third :][:third]) for i in range(3)]
    slope = 0.0
    if len(half) > 1:
        minutes = [sample["seconds"] / 60 for sample in half]
        slope = linear_regression(minutes, [sample[name] for sample in half]).slope
    return {
        "first third": round(means[0], 1),
        "second third": round(means[1], 1),
        "last third": round(means[2], 1),
        "a minute, in the second half": round(slope, 2),
    }


def plot(samples: list[dict[str, float]], options: argparse.Namespace) -> None:
    """Draw the curves, if matplotlib is there."""
    try:
        import matplotlib
    except ImportError:
        print("no matplotlib, no picture")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(4, 1, sharex=True, figsize=(8, 9))
    minutes = [sample["seconds"] / 60 for sample in samples]
    curves = {
        "memory": ("memory, MiB", "the clients' process"),
        "blocks": ("blocks of Python", "the clients' process"),
        "threads": ("threads", "the clients' process"),
        "descriptors": ("descriptors", "the clients' process"),
    }
    for axis, (name, (label, whose)) in zip(axes, curves.items(), strict=True):
        axis.plot(minutes, [sample[name] for sample in samples], label=whose)
        axis.set_ylabel(label)
    axes[0].plot(
        minutes,
        [sample["server"] for sample in samples],
        label="the server's process",
        color="0.6",
        linestyle="--",
    )
    axes[0].legend(loc="lower right")
    for axis in axes:
        axis.set_ylim(0, 1.15 * axis.get_ylim()[1])
    axes[-1].set_xlabel("minutes")
    figure.suptitle(
        f"{options.conversations} conversations over connections that are cut "
        f"{1 / CUTS:.0f} times a second"
    )
    figure.tight_layout()
    figure.savefig(options.results / "soak.png", dpi=110)


if __name__ == "__main__":
    sys.exit(main())
