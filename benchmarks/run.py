"""All figures in one table, beside the floor and the peers: as text, JSON and a plot.

    python benchmarks/run.py [--quick] [--rounds 11] [--results FOLDER] [--manual]

Takes about a quarter of an hour, two minutes with ``--quick``. Only the ratios mean
something: all that belongs together is measured in turns, in one run, and whatever else
the machine does hits all of it.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import codec
import idle
import scale
import starting
import turns
from contenders import installed
from server import Server

PICTURE = Path(__file__).parents[1] / "docs" / "_static" / "performance.png"

_FLOOR = "websocket-client"
_IDLE_FLOOR = "websocket-client and a thread"


@dataclass
class Figure:
    """One line of the table."""

    name: str
    value: float
    #: The most, or the least, that it should be; none where it only stands beside.
    goal: float | None
    at_least: bool = False

    @property
    def reached(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal


def measure(quick: bool, rounds: int) -> dict[str, Any]:
    """Measure everything; the result can be written as JSON."""
    rounds = min(3, rounds) if quick else rounds
    found: dict[str, Any] = {}
    # Before there is a server: what takes a second is to have both cores.
    print("decoding ...", flush=True)
    found["codec"] = codec.measure(1.0 if quick else 4.0)
    with Server() as server:
        for where, address in (("clear", server.clear), ("TLS", server.secure)):
            print(f"turns and inbound, {where} ...", flush=True)
            spent, events = turns.measure(address, rounds, installed())
            found[f"turn us, {where}"] = turns.summary(spent, _FLOOR)
            found[f"inbound us an event, {where}"] = turns.summary(events, _FLOOR)
            print(f"idle clients, {where} ...", flush=True)
            # Over TLS some of the peers hang when two hundred of them connect.
            brief = quick or where == "TLS"
            only = [_IDLE_FLOOR, "polysync"] if brief else None
            found[f"idle, {where}"] = idle.run(address, 50 if quick else 200, only)
        print("many conversations, long ones ...", flush=True)
        found["scale"] = scale.measure(server.clear, 200 if quick else 1_000)
        print("starting ...", flush=True)
        for title, figures in starting.measure(server, rounds).items():
            found[title] = {name: median(values) for name, values in figures.items()}
    return found


def figures(found: dict[str, Any]) -> list[Figure]:
    """Pick out what is to be reached, all of it as ratios or absolute limits."""
    table = []
    for where in ("clear", "TLS"):
        for name in ("polysync", "polysync, orjson"):
            turn = found[f"turn us, {where}"].get(name)
            if turn is None:
                continue
            table.append(
                Figure(f"turn / bare loop, {where}: {name}", turn["ratio"], 1.5)
            )
            rate = 1.0 / found[f"inbound us an event, {where}"][name]["ratio"]
            table.append(
                Figure(f"events/s / bare loop, {where}: {name}", rate, 0.6, True)
            )
    for frame, us in found["codec"].items():
        plain = us["polysync"] / us["json.loads"]
        table.append(Figure(f"decode / json.loads: {frame}", plain, 2.0))
        if "pydantic" in us and "polysync, orjson" in us:
            fast = us["polysync, orjson"] / us["pydantic"]
            table.append(Figure(f"decode, orjson / pydantic: {frame}", fast, 1.0))
    for where, most in (("clear", 36.0), ("TLS", None)):
        row = found[f"idle, {where}"].get("polysync")
        if row is None:
            continue
        table.append(Figure(f"idle client, KiB, {where}", row["KiB"], most))
        table.append(Figure(f"idle client, threads, {where}", row["threads"], 1.0))
        table.append(Figure(f"200 idle, ms CPU/s, {where}", row["ms CPU/s"], 0.3))
        table.append(Figure(f"close(), ms, {where}", row["close ms"], 5.0))
    imports, greeting = found["import ms"], found["greeting ms"]
    floor = imports[starting.FLOOR]
    table.append(Figure("import / its libraries", imports["polysync"] / floor, 1.25))
    table.append(
        Figure("start to greeting / bare", greeting["polysync"] / greeting[_FLOOR], 2.2)
    )
    trips = found["round trips"]
    table.append(Figure("round trips to the greeting, first", trips["first"], 5.5))
    table.append(Figure("round trips to the greeting, next", trips["next"], 4.5))
    many, growth = found["scale"]["many"], found["scale"]["growth"]
    table.append(Figure("many conversations: replies lost", many["lost"], 0.0))
    table.append(Figure("many conversations: turns/s / one", many["ratio"], 0.7, True))
    table.append(Figure("many conversations: KiB each", many["KiB"], None))
    table.append(Figure("an event after 10,000 / first", growth["ratio"], 1.1))
    return table


def text(found: dict[str, Any], table: list[Figure]) -> str:
    """Write the figures, and behind them what stands beside."""
    lines = [f"{'figure':52}{'measured':>10}{'goal':>9}"]
    for figure in table:
        goal = ""
        if figure.goal is not None:
            goal = f"{'>=' if figure.at_least else '<='} {figure.goal:g}"
        mark = {True: "", False: "  missed", None: ""}[figure.reached]
        lines.append(f"{figure.name:52}{figure.value:10.2f}{goal:>9}{mark}")
    for title, rows in found.items():
        if title in ("codec", "scale"):
            continue
        lines += ["", title]
        for name, row in rows.items():
            values = row if isinstance(row, dict) else {"": row}
            cells = (f"{value:10.2f} {key}" for key, value in values.items())
            lines.append(" ".join([f"  {name:34}", *cells]).rstrip())
    lines += ["", "decode us an event"]
    for frame, us in found["codec"].items():
        each = "  ".join(f"{name} {value:.2f}" for name, value in us.items())
        lines.append(f"  {frame:18} {each}")
    lines += ["", "many conversations, and a long one"]
    for name, row in found["scale"].items():
        each = "  ".join(f"{key} {value:.2f}" for key, value in row.items())
        lines.append(f"  {name:18} {each}")
    return "\n".join(lines) + "\n"


def plot(found: dict[str, Any], target: Path) -> None:
    """Draw turns, inbound events, memory and starts beside the peers."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {
        "a turn, / bare loop": {
            n: r["ratio"] for n, r in found["turn us, clear"].items()
        },
        "events a second, / bare loop": {
            n: 1 / r["ratio"] for n, r in found["inbound us an event, clear"].items()
        },
        "an idle client, KiB": {n: r["KiB"] for n, r in found["idle, clear"].items()},
        "process start to first answer, ms": found["greeting ms"],
    }
    drawing, axes = pyplot.subplots(2, 2, figsize=(13, 8))
    for axis, (title, values) in zip(axes.flat, panels.items(), strict=True):
        names = sorted(values, key=lambda name: values[name], reverse=True)
        colors = ["#d2452d" if n.startswith("polysync") else "#8a94a6" for n in names]
        bars = axis.barh(names, [values[name] for name in names], color=colors)
        axis.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
        axis.set_title(title)
        axis.margins(x=0.15)
    drawing.tight_layout()
    drawing.savefig(target, dpi=100)


def main() -> None:
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument(
        "--results", type=Path, default=Path(__file__).parent / "results"
    )
    parser.add_argument(
        "--manual", action="store_true", help="write the picture of the manual too"
    )
    options = parser.parse_args()
    found = measure(options.quick, options.rounds)
    table = figures(found)
    written = text(found, table)
    print(f"\n{written}")
    options.results.mkdir(parents=True, exist_ok=True)
    report = {
        "when": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "figures": [{**asdict(each), "reached": each.reached} for each in table],
        "measured": found,
    }
    name = f"{sys.implementation.name}-{platform.python_version()}"
    (options.results / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.results / f"{name}.txt").write_text(written)
    plot(found, options.results / f"{name}.png")
    if options.manual:
        shutil.copy(options.results / f"{name}.png", PICTURE)
    print(f"written: {options.results / name}.txt, .json and .png")


if __name__ == "__main__":
    main()
