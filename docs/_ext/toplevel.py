"""Links to names where they are exported find them where they are documented.

Users write ``polysync.DeliveryError``; the reference documents it with its module, as
``polysync.errors.DeliveryError``. Annotations have it either way.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def home(target: str, known: Any) -> str | None:
    """Return the one documented object that a name can mean."""
    # The part from the class on: modules are in lower case.
    match = re.search(r"(?:^|\.)([A-Z]\w*(?:\.\w+)?)$", target)
    if match is None or not (target.startswith("polysync.") or "." not in target):
        return None
    ending = f".{match[1]}"
    found = [name for name in known if name.endswith(ending)]
    return found[0] if len(found) == 1 else None


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    if node.get("refdomain") != "py":
        return None
    domain = env.get_domain("py")
    target = home(node["reftarget"], domain.objects)  # type: ignore[attr-defined]
    if target is None:
        return None
    return domain.resolve_xref(
        env, node["refdoc"], app.builder, "obj", target, node, content
    )


def keep_colons(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Keep napoleon from reading "Seconds: at most 30" as a type and a text.

    Types are in the annotations, and only there.
    """
    if what in ("attribute", "data", "property"):
        # An empty comment: it shows nothing, and has no colon.
        lines[:0] = ["..", ""]
    for number, line in enumerate(lines[:-1]):
        if line.strip() in ("Returns:", "Yields:"):
            first = lines[number + 1]
            body = first.lstrip()
            # What is before the first colon is the type: nothing.
            lines[number + 1] = f"{first[: len(first) - len(body)]}: {body}"


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
    return {"version": "1", "parallel_read_safe": True}
