"""All figures in one table, beside the floor and the peers: as text, JSON and a plot.

    python benchmarks/run.py [--quick] [--rounds 11] [--results FOLDER] [--manual]

Takes about twenty minutes, under five with ``--quick``. Only the ratios mean
something: all that belongs together is measured in turns, in one run, and whatever else
the machine does hits all of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import codec
import idle
import scale
import starting
import turns
from contenders import installed
from rounds import NOTES, Section
from server import Server

PICTURE = Path(__file__).parents[1] / "docs" / "_static" / "performance.png"
PEERS = Path(__file__).with_name("requirements.txt")

_FLOOR = "websocket-client"
_IDLE_FLOOR = "websocket-client and a thread"
_CALLBACKS = "polysync, with callbacks"


@dataclass
class Figure:
    """One line of the table."""

    name: str
    #: None if it could not be measured.
    value: float | None
    #: The most, or the least, that it should be; none where it only stands beside.
    goal: float | None
    at_least: bool = False

    @property
    def reached(self) -> bool | None:
        if self.goal is None:
            return None
        if self.value is None:
            return False
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def __str__(self) -> str:
        value = "not there" if self.value is None else f"{self.value:.2f}"
        goal = ""
        if self.goal is not None:
            goal = f"{'>=' if self.at_least else '<='} {self.goal:g}"
        mark = {True: "", False: "  missed", None: ""}[self.reached]
        return f"{self.name:52}{value:>10}{goal:>9}{mark}"


@dataclass
class Scope:
    """How much is measured."""

    rounds: int = 11
    #: Of what takes longest: processes full of idle clients.
    idle_rounds: int = 3
    idle_clients: int = 200
    conversations: int = 1_000
    #: Seconds for each kind of frame.
    decoding: float = 4.0


QUICK = Scope(3, 1, 50, 200, 1.0)


def measure(scope: Scope) -> dict[str, Section]:
    """Measure everything; the sections by their titles."""
    found: list[Section] = []
    # Before there is a server: what takes a second is to have both cores.
    print("decoding ...", flush=True)
    found += codec.measure(scope.decoding).values()
    with Server() as server:
        for address in (server.clear, server.secure):
            where = address.where
            print(f"turns and inbound, {where} ...", flush=True)
            found += turns.measure(address, scope.rounds, installed())
            print(f"idle clients, {where} ...", flush=True)
            # Over TLS some of the peers hang when two hundred of them connect.
            brief = scope is QUICK or where == "TLS"
            only = [_IDLE_FLOOR, "polysync", _CALLBACKS] if brief else None
            found += idle.run(
                address, scope.idle_clients, scope.idle_rounds, only
            ).values()
            print(f"many conversations, long ones, {where} ...", flush=True)
            found += scale.measure(address, scope.conversations, 5).values()
        print("starting ...", flush=True)
        found += starting.measure(server, scope.rounds)
    return {section.title: section for section in found}


def figures(found: dict[str, Section], scope: Scope) -> list[Figure]:
    """Pick out what is to be reached, all of it as ratios or absolute limits."""

    def value(title: str, name: str) -> float | None:
        return found[title].median(name)

    table = []
    for where in ("clear", "TLS"):
        for name in ("polysync", "polysync, orjson"):
            turn = found[f"turn us, {where}"].ratio(name)
            table.append(Figure(f"turn / bare loop, {where}: {name}", turn, 1.5))
            # Seconds an event the other way round are events a second.
            rate = found[f"inbound us an event, {where}"].ratio(_FLOOR, name)
            table.append(
                Figure(f"events/s / bare loop, {where}: {name}", rate, 0.6, True)
            )
    for frame in codec.FRAMES:
        section = found[f"decode us an event: {frame}"]
        plain = section.ratio("polysync")
        table.append(Figure(f"decode / json.loads: {frame}", plain, 2.0))
        fast = section.ratio("polysync, orjson", "pydantic")
        table.append(Figure(f"decode, orjson / pydantic: {frame}", fast, 1.0))
    for where, most in (("clear", 36.0), ("TLS", None)):
        for title, goal in (
            ("idle client, KiB", most),
            ("idle client, threads of its own", 1.0),
            ("idle clients, threads for all", 1.0),
            ("200 idle clients, ms CPU a second", 0.3),
            ("close(), ms", 5.0),
        ):
            row = f"{title}, {where}"
            table.append(Figure(row, value(row, "polysync"), goal))
    threads = value("idle client, threads of its own, clear", _CALLBACKS)
    table.append(Figure("the same with callbacks, clear", threads, 2.0))
    imports = found["import ms"].ratio("polysync")
    table.append(Figure("import / its libraries", imports, 1.25))
    for where in ("clear", "TLS"):
        greeting = found[f"greeting ms, {where}"].ratio("polysync")
        table.append(Figure(f"start to greeting / bare, {where}", greeting, 2.2))
    for which, most in (("first", 5.5), ("next", 4.5)):
        trips = value("round trips", which)
        table.append(Figure(f"round trips to the greeting, {which}", trips, most))
    many = f"{scope.conversations} conversations"
    for where, most in (("clear", 36.0), ("TLS", None)):
        lost = value(f"{many}, {where}", "lost")
        table.append(Figure(f"{many}, {where}: replies lost", lost, 0.0))
        rate = found[f"{many}, us a turn, {where}"].ratio(scale.ONE, scale.MANY)
        table.append(Figure(f"{many}, {where}: turns/s / one's", rate, 0.7, True))
        each = value(f"{many}, {where}", "KiB")
        table.append(Figure(f"{many}, {where}: KiB each", each, most))
        growth = found[f"growth, us of CPU an event, {where}"].ratio(scale.LATE)
        table.append(Figure(f"an event after 10,000 / first, {where}", growth, 1.1))
    return table


def circumstances(scope: Scope) -> dict[str, Any]:
    """Say where and how it was measured."""
    peers = [line.split(">=")[0] for line in PEERS.read_text().splitlines()]
    packages = ["polysync", "websocket-client", "attrs", "cattrs", "urllib3"]
    packages += [peer.split("[")[0] for peer in peers if peer[:1].isalpha()]
    return {
        "when": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "scope": asdict(scope),
        "versions": dict(_versions(packages)),
    }


def _versions(packages: list[str]) -> Iterator[tuple[str, str]]:
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            yield name, version(name)


def text(about: dict[str, Any], table: list[Figure], found: dict[str, Section]) -> str:
    """Write the figures, and behind them what stands beside."""
    of = about["scope"]
    lines = [
        f"CPython {about['python']}, {about['machine']}, {about['cores']} cores, "
        f"{about['when']}; {of['rounds']} rounds, {of['idle_rounds']} of "
        f"{of['idle_clients']} idle clients",
        ", ".join(f"{name} {number}" for name, number in about["versions"].items()),
        "",
        f"{'figure':52}{'measured':>10}{'goal':>9}",
        *map(str, table),
    ]
    for section in found.values():
        lines += ["", str(section)]
    if NOTES:
        lines += ["", "notes", *(f"  {each}" for each in dict.fromkeys(NOTES))]
    return "\n".join(lines) + "\n"


def plot(found: dict[str, Section], target: Path) -> None:
    """Draw turns, inbound events, memory and starts beside the peers."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    turn = found["turn us, clear"]
    inbound = found["inbound us an event, clear"]
    memory, greeting = found["idle client, KiB, clear"], found["greeting ms, clear"]
    panels = {
        "a turn, / bare loop": {n: turn.ratio(n) for n in turn.rounds},
        "events a second, / bare loop": {
            f"{n} *" if n == "slack_sdk, built-in" else n: inbound.ratio(_FLOOR, n)
            for n in inbound.rounds
        },
        "an idle client, KiB": {n: memory.median(n) for n in memory.rounds},
        "process start to first answer, ms": {
            n: greeting.median(n) for n in greeting.rounds
        },
    }
    drawing, axes = pyplot.subplots(2, 2, figsize=(13, 8))
    for axis, (title, each) in zip(axes.flat, panels.items(), strict=True):
        values = {name: value for name, value in each.items() if value is not None}
        names = sorted(values, key=lambda name: values[name], reverse=True)
        colors = ["#d2452d" if n.startswith("polysync") else "#8a94a6" for n in names]
        bars = axis.barh(names, [values[name] for name in names], color=colors)
        axis.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
        axis.set_title(title)
        axis.margins(x=0.15)
    axes.flat[1].set_xlabel("* 200 at a time, which flatters it", fontsize=8)
    drawing.tight_layout()
    drawing.savefig(target, dpi=100)


def main() -> None:
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds, clients and peers"
    )
    parser.add_argument("--rounds", type=int, default=Scope.rounds)
    parser.add_argument(
        "--results", type=Path, default=Path(__file__).parent / "results"
    )
    parser.add_argument(
        "--manual", action="store_true", help="write the picture of the manual too"
    )
    options = parser.parse_args()
    scope = QUICK if options.quick else Scope(options.rounds)
    found = measure(scope)
    table = figures(found, scope)
    about = circumstances(scope)
    written = text(about, table, found)
    print(f"\n{written}")
    options.results.mkdir(parents=True, exist_ok=True)
    report = {
        **about,
        "figures": [{**asdict(each), "reached": each.reached} for each in table],
        "measured": {title: section.rows() for title, section in found.items()},
        "notes": list(dict.fromkeys(NOTES)),
    }
    name = f"{sys.implementation.name}-{platform.python_version()}"
    if options.quick:
        name += "-quick"
    (options.results / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.results / f"{name}.txt").write_text(written)
    plot(found, options.results / f"{name}.png")
    if options.manual:
        shutil.copy(options.results / f"{name}.png", PICTURE)
    print(f"written: {options.results / name}.txt, .json and .png")


if __name__ == "__main__":
    main()
