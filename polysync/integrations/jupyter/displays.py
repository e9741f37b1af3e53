"""Messages, transcripts, clients and statistics as small pieces of safe HTML.

The pieces bring their own style sheet, follow the notebook's theme where it has one,
and load nothing: pictures of attachments are links.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from html import escape
from typing import Any

import attrs

from polysync.client import Client
from polysync.events import LiveAgentMessage, PolyAgentMessage, UserMessage
from polysync.integrations.web.render import phone_url, render_markdown, safe_url
from polysync.models import SystemMessageLevel, Transcript, TranscriptItem
from polysync.sessions.pool import PoolStatistics
from polysync.statistics import ClientStatistics, Latency

__all__ = [
    "LONGEST",
    "STYLE",
    "bubble",
    "client_html",
    "lines",
    "message_html",
    "register",
    "statistics_html",
    "transcript_html",
    "unregister",
]

#: How many messages of a transcript are shown: the latest.
LONGEST = 200

STYLE = """<style>
.polysync { max-width: 46em; font-size: 14px; line-height: 1.45;
  color: var(--jp-ui-font-color1, inherit) }
.polysync .line { display: flex; flex-direction: column; align-items: flex-start;
  margin: 0 0 .6em }
.polysync .line.user { align-items: flex-end }
.polysync .line.system { align-items: center }
.polysync .who { font-size: 12px; opacity: .75; margin: 0 .2em .1em }
.polysync .text { max-width: 85%; padding: .45em .8em; border-radius: .9em;
  overflow-wrap: anywhere; background: var(--jp-layout-color2, rgba(128,128,128,.16)) }
.polysync .user .text { background: var(--jp-brand-color1, #1565c0);
  color: var(--jp-ui-inverse-font-color1, #fff); white-space: pre-wrap }
.polysync .system .text { background: none; font-style: italic; padding: 0 }
.polysync .text > :first-child { margin-top: 0 }
.polysync .text > :last-child { margin-bottom: 0 }
.polysync .text p, .polysync .text ul, .polysync .text ol { margin: .4em 0 }
.polysync .extra { display: flex; flex-wrap: wrap; gap: .4em; margin-top: .35em }
.polysync .extra > * { border: 1px solid currentColor; border-radius: 1em;
  padding: .1em .7em; font-size: 13px }
.polysync .extra span { border-style: dashed; opacity: .8 }
.polysync table { border-collapse: collapse }
.polysync table th { text-align: left; font-weight: 600; padding: .1em 1.2em .1em 0 }
.polysync table td { text-align: left; padding: .1em 0; overflow-wrap: anywhere }
</style>"""

_NAMES = {"user": "You", "agent": "Agent", "live_agent": "Live agent", "system": ""}
_DELIVERY = {"pending": "sending …", "failed": "not delivered"}

Message = PolyAgentMessage | LiveAgentMessage


def message_html(message: Message | UserMessage | TranscriptItem) -> str:
    """Return one message as HTML."""
    return _page(bubble(_item(message)))


def transcript_html(transcript: Sequence[TranscriptItem]) -> str:
    """Return a conversation as HTML, the latest `LONGEST` messages of it."""
    if not transcript:
        return _page("<em>Nothing has been said yet.</em>")
    return _page(lines(transcript))


def lines(items: Sequence[TranscriptItem], *, suggestions: bool = True) -> str:
    """Return the latest messages, without page and style.

    Args:
        items: The messages.
        suggestions: Whether to show what the agent proposes to answer.
    """
    left_out = len(items) - LONGEST
    note = f"<p><em>{left_out:,} earlier messages</em></p>" if left_out > 0 else ""
    return note + "".join(bubble(item, suggestions) for item in items[-LONGEST:])


def client_html(client: Client) -> str:
    """Return where a client's conversation stands, without any secret."""
    agent, live_agent = client.agent, client.live_agent
    transcript = client.transcript
    reason = str(client.end_reason or "").removeprefix("REASON_")
    facts = {
        "Status": client.status.value,
        "Environment": client._options.environment,
        "Session": client.session_id,
        "Agent": agent.name if agent else None,
        "Live agent": live_agent.name or "yes" if live_agent else None,
        "Handoff": client.handoff.status.value if client.handoff else None,
        "Language": client.language,
        "Ended": _words(reason) or "yes" if client.ended else None,
        "Messages": len(transcript),
    }
    return _page("<strong>polysync.Client</strong>" + _table(facts.items()))


def statistics_html(statistics: Any) -> str:
    """Return the counters of an attrs class as a table."""
    facts = []
    for field in attrs.fields(type(statistics)):
        value = getattr(statistics, field.name)
        if isinstance(value, Latency):
            value = _latency(value)
        elif isinstance(value, int):
            value = f"{value:,}"
        facts.append((_words(field.name).capitalize(), value))
    name = escape(type(statistics).__name__)
    return _page(f"<strong>{name}</strong>" + _table(facts))


@lru_cache(maxsize=1024)
def bubble(item: TranscriptItem, suggestions: bool = True) -> str:
    """Return the HTML of one message of a transcript; see `lines`."""
    who = item.agent_name or _NAMES.get(item.role, item.role)
    notes = [who, _clock(item.timestamp), _DELIVERY.get(item.delivery or "", "")]
    if item.role == "system" and item.level not in (None, SystemMessageLevel.INFO):
        notes.append(str(item.level).rpartition("_")[2].lower())
    if not item.complete:
        notes.append("incomplete")
    head = escape(" · ".join(filter(None, notes)))
    theirs = item.role in ("agent", "live_agent")
    text = render_markdown(item.text) if theirs else escape(item.text)
    role = item.role if item.role in _NAMES else "system"
    return (
        f'<div class="line {role}"><div class="who">{head}</div>'
        f'<div class="text">{text}</div>{_extras(item, suggestions)}</div>'
    )


def _extras(item: TranscriptItem, suggestions: bool) -> str:
    """Return attachments, telephone numbers and suggestions."""
    pieces = []
    for card in item.attachments:
        address = safe_url(card.content_url) or safe_url(card.preview_image_url)
        label = card.title or card.call_to_action_text or address or "attachment"
        pieces.append(_link(address, label))
    for action in item.chat_call_actions:
        label = ": ".join(filter(None, (action.title, action.contact_number)))
        pieces.append(_link(phone_url(action.contact_number), label))
    if suggestions:
        pieces += [
            f"<span>{escape(suggestion.message_text)}</span>"
            for suggestion in item.response_suggestions
        ]
    return f'<div class="extra">{"".join(pieces)}</div>' if pieces else ""


def _link(address: str | None, label: str) -> str:
    if address is None:
        return f"<span>{escape(label)}</span>"
    return (
        f'<a href="{escape(address)}" target="_blank" '
        f'rel="noopener noreferrer nofollow">{escape(label)}</a>'
    )


def _item(message: Message | UserMessage | TranscriptItem) -> TranscriptItem:
    if isinstance(message, TranscriptItem):
        return message
    if isinstance(message, UserMessage):
        return TranscriptItem("user", message.text, message.timestamp)
    return TranscriptItem(
        role="live_agent" if message.is_live_agent else "agent",
        text=message.text,
        timestamp=message.timestamp,
        agent_name=message.agent_name,
        attachments=message.attachments,
        response_suggestions=message.response_suggestions,
        chat_call_actions=message.chat_call_actions,
        complete=message.complete,
    )


def _latency(latency: Latency) -> str:
    times = {"mean": latency.mean, "longest": latency.max, "last": latency.last}
    shown = [f"{name} {s * 1000:,.1f} ms" for name, s in times.items() if s is not None]
    return ", ".join([f"{latency.count:,} times", *shown])


def _words(name: str) -> str:
    return name.replace("_", " ").lower()


def _clock(timestamp: datetime | None) -> str:
    return "" if timestamp is None else f"{timestamp.astimezone():%H:%M}"


def _table(facts: Iterable[tuple[str, Any]]) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in facts
        if value is not None
    )
    return f"<table>{rows}</table>"


def _page(body: str) -> str:
    return f'{STYLE}<div class="polysync">{body}</div>'


# In IPython.

_DISPLAYS: dict[type, Callable[[Any], str]] = {
    Client: client_html,
    ClientStatistics: statistics_html,
    LiveAgentMessage: message_html,
    PolyAgentMessage: message_html,
    PoolStatistics: statistics_html,
    Transcript: transcript_html,
    TranscriptItem: message_html,
    UserMessage: message_html,
}


def _plain(transcript: Transcript, printer: Any, cycle: bool) -> None:
    printer.text(str(transcript))


def register(shell: Any) -> None:
    """Let an IPython shell show the classes above as HTML, beside their plain text."""
    formatters = shell.display_formatter.formatters
    for kind, render in _DISPLAYS.items():
        formatters["text/html"].for_type(kind, render)
    # Where there is no HTML, lines are easier to read than a list of objects.
    formatters["text/plain"].for_type(Transcript, _plain)


def unregister(shell: Any) -> None:
    """Undo `register`."""
    formatters = shell.display_formatter.formatters
    for kind in _DISPLAYS:
        formatters["text/html"].pop(kind, None)
    formatters["text/plain"].pop(Transcript, None)
