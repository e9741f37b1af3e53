"""Plots for the HTML report: small inline SVG, drawn by hand, coloured by the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

import attrs

__all__ = ["Point", "distribution", "scatter", "ticks"]

_WIDTH, _HEIGHT = 860, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 14, 40
#: More dots than these say nothing more, and make the page slow.
_MOST = 4000


@attrs.frozen
class Point:
    """A dot of `scatter`."""

    x: float
    y: float
    good: bool = True
    title: str = ""


def ticks(highest: float, count: int = 5) -> list[float]:
    """Return round numbers from 0 that cover a range.

    Args:
        highest: The end of the range; the last tick is not below it.
        count: About how many steps there are to be.
    """
    if not highest > 0 or not math.isfinite(highest):
        highest = 1.0
    rough = highest / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough * 0.999)
    return [round(step * i, 10) for i in range(math.ceil(highest / step - 1e-9) + 1)]


def scatter(
    points: Sequence[Point],
    *,
    x_name: str,
    y_name: str,
    lines: Mapping[str, float | None],
) -> str:
    """Draw dots, and level lines with names.

    Args:
        points: The dots, in seconds.
        x_name: What the horizontal axis is.
        y_name: What the vertical axis is.
        lines: Heights by their names; ``None`` is left out.
    """
    every = max(1, math.ceil(len(points) / _MOST))
    # What went wrong is never thinned out.
    shown = [p for i, p in enumerate(points) if not p.good or i % every == 0]
    levels = {name: at for name, at in lines.items() if at is not None}
    frame = _Frame(
        ticks(max((p.x for p in points), default=1.0)),
        ticks(max([*(p.y for p in points), *levels.values()], default=1.0)),
        x_name,
        y_name,
    )
    parts = list(frame.axes())
    # The bad ones last, on top.
    for point in sorted(shown, key=lambda p: not p.good):
        kind = "good" if point.good else "bad"
        radius = 2.4 if point.good else 4
        parts.append(
            f'<circle class="dot {kind}" cx="{frame.x(point.x):.1f}" '
            f'cy="{frame.y(point.y):.1f}" r="{radius}">'
            f"<title>{escape(point.title)}</title></circle>"
        )
    for name, at in levels.items():
        height = frame.y(at)
        parts.append(
            f'<line class="level" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" '
            f'y1="{height:.1f}" y2="{height:.1f}"/>'
            f'<text class="level" x="{_WIDTH - _RIGHT - 4}" y="{height - 4:.1f}" '
            f'text-anchor="end">{escape(name)}</text>'
        )
    return _svg(parts, f"{y_name} by {x_name}")


def distribution(series: Mapping[str, Sequence[float]], *, x_name: str) -> str:
    """Draw, for each series, which share of its values is at most so high.

    Args:
        series: Values in seconds by the series' names.
        x_name: What the values are.
    """
    filled = {name: sorted(values) for name, values in series.items() if values}
    highest = max((values[-1] for values in filled.values()), default=1.0)
    frame = _Frame(ticks(highest), [0, 25, 50, 75, 100], x_name, "percent")
    parts = list(frame.axes())
    for index, (name, values) in enumerate(filled.items()):
        every = max(1, len(values) // 400)
        last = len(values) - 1
        steps = [
            (value, 100 * (i + 1) / len(values))
            for i, value in enumerate(values)
            if i % every == 0 or i == last
        ]
        path = [f"M{frame.x(values[0]):.1f},{frame.y(0):.1f}"]
        path += [f"L{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in steps]
        parts.append(f'<path class="series s{index}" d="{" ".join(path)}"/>')
        top = _HEIGHT - _BOTTOM - 14 * (len(filled) - index)
        left = _WIDTH - _RIGHT - 130
        parts.append(
            f'<line class="series s{index}" x1="{left}" x2="{left + 24}" y1="{top}" '
            f'y2="{top}"/><text x="{left + 30}" y="{top + 4}">{escape(name)}</text>'
        )
    return _svg(parts, f"distribution of {x_name}")


@attrs.frozen
class _Frame:
    """The axes, and where values lie between them."""

    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    x_name: str
    y_name: str

    def x(self, value: float) -> float:
        return _LEFT + value / self.x_ticks[-1] * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        span = _HEIGHT - _TOP - _BOTTOM
        return _HEIGHT - _BOTTOM - value / self.y_ticks[-1] * span

    def axes(self) -> Iterator[str]:
        floor = _HEIGHT - _BOTTOM
        for value in self.y_ticks:
            at = self.y(value)
            yield (
                f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" '
                f'y1="{at:.1f}" y2="{at:.1f}"/><text x="{_LEFT - 8}" '
                f'y="{at + 4:.1f}" text-anchor="end">{value:g}</text>'
            )
        for value in self.x_ticks:
            yield (
                f'<text x="{self.x(value):.1f}" y="{floor + 16}" '
                f'text-anchor="middle">{value:g}</text>'
            )
        yield (
            f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 4}" '
            f'text-anchor="middle">{escape(self.x_name)}</text>'
        )
        middle = (_TOP + floor) / 2
        yield (
            f'<text transform="translate(13 {middle:.0f}) rotate(-90)" '
            f'text-anchor="middle">{escape(self.y_name)}</text>'
        )


def _svg(parts: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title, {chr(34): "&quot;"})}">{"".join(parts)}</svg>'
    )
