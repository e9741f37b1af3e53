"""How the parts of a chat look in a terminal, drawn with rich.

Only the terminal's own colours are used, so that they suit its theme, and nothing that
the server sent is taken for markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from polysync.cli.notices import Notice
from polysync.cli.readable import readable, readable_line
from polysync.cli.typed import numbered
from polysync.events import Message
from polysync.models import Attachment, ChatCallAction, TranscriptItem

__all__ = [
    "AGENT",
    "HUMAN",
    "USER",
    "draw_item",
    "draw_message",
    "draw_notice",
    "draw_said",
]

USER, AGENT, HUMAN = "bold green", "bold cyan", "bold magenta"

_LONGEST_NAME = 24

# The Markdown that agents write in a chat. Whatever else there is stays as it is.
_MARKDOWN = re.compile(
    r"\*\*(?P<bold>[^*\n]+)\*\*"
    r"|`(?P<code>[^`\n]+)`"
    r"|\[(?P<label>[^\]\n]+)\]\((?P<target>[^)\s]+)\)"
    r"|^#{1,6} +(?P<heading>.+)$",
    re.MULTILINE,
)


def draw_said(
    name: str, style: str, text: str, *extras: RenderableType, dim: bool = False
) -> RenderableType:
    """Draw what somebody says: the name, and beside it the text and what belongs to it.

    Args:
        name: Who.
        style: Of the name.
        text: What; HTML and simple Markdown are rendered, the rest stays as it is.
        *extras: What is shown below the text.
        dim: Whether it is not certain yet.
    """
    if len(name) > _LONGEST_NAME:
        name = name[: _LONGEST_NAME - 1] + "…"
    body = _marked(readable(text).strip())
    if dim:
        body.stylize("dim")
    grid = Table.grid(padding=0)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1, overflow="fold")
    grid.add_row(Text(f"{name} › ", style), Group(body, *extras))
    return grid


def _marked(text: str) -> Text:
    marked, position = Text(), 0
    for match in _MARKDOWN.finditer(text):
        marked.append(text[position : match.start()])
        position = match.end()
        if match["bold"] or match["heading"]:
            marked.append(match["bold"] or match["heading"], "bold")
        elif match["code"]:
            marked.append(match["code"], "cyan")
        else:
            # The address is in sight: a link must not lead elsewhere than it says.
            marked.append(match["label"], "underline")
            marked.append(f" ({match['target']})", "dim")
    marked.append(text[position:])
    return marked


def draw_message(message: Message, name: str) -> RenderableType:
    """Draw a message of the agent or of a human, with all that it offers."""
    extras = [*_cards(message.attachments, message.chat_call_actions)]
    texts = [each.message_text for each in message.response_suggestions]
    if texts:
        extras.append(_suggestions(texts))
    if not message.complete:
        extras.append(Text("(the reply broke off here)", "yellow"))
    style = HUMAN if message.is_live_agent else AGENT
    return draw_said(name, style, message.text, *extras)


def _suggestions(texts: Sequence[str]) -> Text:
    line = Text()
    if not numbered(texts):
        line.append(" · ".join(map(readable_line, texts)), "bold")
        return line
    for number, text in enumerate(texts, start=1):
        if line:
            line.append("   ")
        line.append(f" {number} ", "reverse")
        # A break between number and text would part what belongs together.
        line.append(f"\u00a0{readable_line(text)}".replace(" ", "\u00a0"), "bold")
    return line


def _cards(
    attachments: Iterable[Attachment], calls: Iterable[ChatCallAction]
) -> list[Text]:
    lines = [
        _card("▪", card.title or card.call_to_action_text, address)
        for card in attachments
        if (address := card.content_url or card.preview_image_url) or card.title
    ]
    lines += [_card("☎", call.title, call.contact_number) for call in calls]
    return lines


def _card(mark: str, title: str | None, address: str | None) -> Text:
    line = Text.assemble((f"{mark} ", "cyan"), readable_line(title))
    if address:
        line.append("  " if title else "")
        line.append(readable_line(address), "blue underline")
    return line


_SYSTEM = {
    "info": ("System", "bold blue"),
    "warning": ("Warning", "bold yellow"),
    "error": ("Error", "bold red"),
}


def draw_notice(notice: Notice) -> RenderableType:
    """Draw a notice: a handoff, a word of the system, or a change of the session."""
    if notice.kind == "handoff":
        color = "yellow" if notice.level == "warning" else "magenta"
        return Text.assemble(("⇄ ", f"bold {color}"), (notice.text, color))
    if notice.kind == "system":
        name, style = _SYSTEM[notice.level]
        return Text.assemble(
            (f"▌{name}  ", style), (notice.text, style.removeprefix("bold "))
        )
    style = "yellow" if notice.level == "warning" else "dim"
    return Text(f"· {notice.text}", "bold" if notice.kind == "end" else style)


_ROLES = {"user": USER, "agent": AGENT, "live_agent": HUMAN}


def draw_item(item: TranscriptItem) -> RenderableType:
    """Draw one message of the conversation so far, with its time."""
    when = item.timestamp.astimezone().strftime("%H:%M") if item.timestamp else "     "
    names = {"user": "You", "agent": "Agent", "live_agent": "Live agent"}
    name = names.get(item.role, "System")
    if item.role in ("agent", "live_agent"):
        name = readable_line(item.agent_name) or name
    notes = [Text("(the reply broke off here)", "yellow")] if not item.complete else []
    if item.delivery in ("pending", "failed"):
        note = "(sending)" if item.delivery == "pending" else "(not sent)"
        notes.append(Text(note, "yellow"))
    said = draw_said(
        name,
        _ROLES.get(item.role, "bold blue"),
        item.text,
        *_cards(item.attachments, item.chat_call_actions),
        *notes,
    )
    grid = Table.grid(padding=0)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_row(Text(f"{when}  ", "dim"), said)
    return Padding(grid, (0, 0, 0, 2))
