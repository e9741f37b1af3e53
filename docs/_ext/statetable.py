"""The directive ``statetable``: a conversation's states, drawn from their table."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def row(*cells: nodes.Node) -> nodes.row:
    made = nodes.row()
    for cell in cells:
        made += nodes.entry("", cell)
    return made


def phrase(text: str) -> nodes.paragraph:
    return nodes.paragraph(text, text)


def name(text: str) -> nodes.paragraph:
    return nodes.paragraph("", "", nodes.literal(text, text))


class StateTable(SphinxDirective):
    """Show which phase follows from what, and the status that users see in it."""

    def run(self) -> list[nodes.Node]:
        from polysync.protocol import states

        heads = ("in phase", "status", "when", "goes to")
        table = nodes.table()
        group = nodes.tgroup(cols=len(heads))
        table += group
        for width in (2, 2, 5, 2):
            group += nodes.colspec(colwidth=width)
        head = nodes.thead()
        head += row(*map(phrase, heads))
        body = nodes.tbody()
        for phase, happenings in states.TABLE.items():
            first = True
            for happening, target in happenings.items():
                body += row(
                    name(phase.name) if first else phrase(""),
                    name(states.STATUS[phase].name) if first else phrase(""),
                    phrase(happening.value),
                    name(target.name),
                )
                first = False
            if first:
                body += row(
                    name(phase.name),
                    name(states.STATUS[phase].name),
                    phrase("nothing: it is final"),
                    phrase(""),
                )
        group += head
        group += body
        return [table]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("statetable", StateTable)
    return {"version": "1", "parallel_read_safe": True}
