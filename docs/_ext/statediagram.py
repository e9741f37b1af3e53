"""The directive ``statediagram``: a conversation's states as a picture of their table.

Where things stand is decided here; what leads where comes from the table, and a step of
the table that has no arrow here, or an arrow that has no step, stops the build.
"""

from __future__ import annotations

from collections import defaultdict
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

WIDTH, HEIGHT = 790, 306
BOX = 112, 40

#: The middle of each phase's box.
PLACES = {
    "IDLE": (62, 95),
    "STARTING": (218, 95),
    "CONNECTING": (388, 95),
    "REPLAYING": (538, 95),
    "OPEN": (688, 95),
    "FAILED": (218, 280),
    "LOST": (440, 280),
    "ENDED": (668, 280),
}
#: A frame around several phases: what leads out of it leads out of each of them.
FRAME = ("CONNECTING", "REPLAYING", "OPEN")
FRAME_PLACE = (318, 55, 436, 80)  # x, y, width, height

#: Each arrow: from, to, its path, where its label stands and how it is aligned there.
#: One without a label says the same as the one before it.
ARROWS: tuple[tuple[str, str, str, tuple[int, int] | None, str], ...] = (
    ("IDLE", "STARTING", "M118 95 H160", (140, 86), "middle"),
    ("STARTING", "CONNECTING", "M274 95 H330", (296, 86), "middle"),
    ("IDLE", "CONNECTING", "M62 75 C62 5 388 5 388 73", (218, 16), "middle"),
    ("CONNECTING", "REPLAYING", "M444 95 H480", (462, 128), "middle"),
    ("REPLAYING", "OPEN", "M594 95 H630", (612, 128), "middle"),
    ("FRAME", "LOST", "M470 135 V258", (478, 200), "start"),
    ("LOST", "CONNECTING", "M418 260 C416 215 408 165 402 117", (406, 190), "end"),
    ("FRAME", "FAILED", "M334 135 C334 225 322 280 276 280", (336, 222), "start"),
    ("FAILED", "STARTING", "M203 260 V117", (195, 194), "end"),
    ("FAILED", "CONNECTING", "M243 260 C250 190 320 175 358 118", (272, 188), "end"),
    ("OPEN", "ENDED", "M692 115 V258", (700, 200), "start"),
    ("REPLAYING", "ENDED", "M556 115 C570 190 600 230 626 258", None, ""),
)
#: Where steps lead that come from so many phases that they are told below.
TOLD = ("IDLE", "CLOSED")

STYLE = """
.states { max-width: 790px; width: 100%; height: auto; margin: .5em 0 1em }
.states rect, .states path { fill: none; stroke: currentColor; stroke-width: 1.3 }
.states .frame { stroke-dasharray: 5 4; opacity: .6 }
.states text { fill: currentColor; font: 11px var(--font-stack, sans-serif) }
.states .name { font-weight: 600; font-size: 13px; text-anchor: middle }
.states .status { text-anchor: middle; opacity: .75 }
.states marker path { fill: currentColor; stroke: none }
"""


def steps() -> dict[tuple[str, str], list[str]]:
    """Return what leads from where to where, by the table."""
    from polysync.protocol import states

    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for phase, happenings in states.TABLE.items():
        for happening, target in happenings.items():
            word = happening.name.lower().replace("_", " ")
            found[phase.name, target.name].append(word)
    return dict(found)


def arrows() -> tuple[list[tuple[Any, ...]], dict[tuple[str, str], list[str]]]:
    """Return the arrows with their words, and the steps that are left over."""
    left = steps()
    drawn = []
    for source, target, path, place, anchor in ARROWS:
        sources = FRAME if source == "FRAME" else (source,)
        words = [left.pop((each, target), None) for each in sources]
        if words[0] is None or any(each != words[0] for each in words):
            raise ExtensionError(f"statediagram: no such step, {source} to {target}")
        drawn.append((path, place, anchor, words[0]))
    wrong = [pair for pair in left if pair[1] not in TOLD]
    if wrong:
        raise ExtensionError(f"statediagram: no arrow for {wrong}")
    return drawn, left


def label(words: list[str], place: tuple[int, int] | None, anchor: str) -> str:
    if place is None:
        return ""
    x, y = place
    return "".join(
        f'<text x="{x}" y="{y + 13 * row}" text-anchor="{anchor}">{escape(word)}</text>'
        for row, word in enumerate(words)
    )


def svg() -> str:
    """Return the picture."""
    from polysync.protocol import states

    width, height = BOX
    parts = [
        f'<svg class="states" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="The phases of a conversation and what leads from one to another; '
        'the table below has the same">'
        f"<style>{STYLE}</style>"
        '<defs><marker id="states-tip" viewBox="0 0 10 10" refX="9" refY="5" '
        'markerWidth="8" markerHeight="8" orient="auto-start-reverse">'
        '<path d="M0 1 L10 5 L0 9 z"/></marker></defs>'
    ]
    x, y, wide, high = FRAME_PLACE
    parts.append(
        f'<rect class="frame" x="{x}" y="{y}" width="{wide}" height="{high}" rx="14"/>'
    )
    for name, (x, y) in PLACES.items():
        status = states.STATUS[states.Phase[name]].name
        parts.append(
            f'<rect x="{x - width / 2}" y="{y - height / 2}" width="{width}" '
            f'height="{height}" rx="8"/>'
            f'<text class="name" x="{x}" y="{y - 1}">{name}</text>'
            f'<text class="status" x="{x}" y="{y + 13}">{status}</text>'
        )
    for path, place, anchor, words in arrows()[0]:
        parts.append(f'<path d="{path}" marker-end="url(#states-tip)"/>')
        parts.append(label(words, place, anchor))
    return "".join([*parts, "</svg>"])


def told() -> nodes.paragraph:
    """Return the sentences about what the picture leaves out."""
    sources: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (source, target), words in arrows()[1].items():
        for word in words:
            sources[word, target].append(source)
    paragraph = nodes.paragraph()
    for (word, target), names in sources.items():
        paragraph += nodes.emphasis("", word.capitalize())
        paragraph += nodes.Text(" leads to ")
        paragraph += nodes.literal("", target)
        paragraph += nodes.Text(" from ")
        for place, name in enumerate(names):
            if place:
                paragraph += nodes.Text(" and " if place == len(names) - 1 else ", ")
            paragraph += nodes.literal("", name)
        paragraph += nodes.Text(". ")
    return paragraph


class StateDiagram(SphinxDirective):
    """Draw the phases, with the status that users see in each below its name."""

    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", svg(), format="html"), told()]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("statediagram", StateDiagram)
    return {"version": "1", "parallel_read_safe": True}
