"""What the chat page and a framework's views say to each other.

The page lives below one prefix (``/chat`` here) on the site's own origin. Which
conversation is meant follows from the visitor's session cookie; the page never
sees a connector token, an access token or a session id.

=====================  =========================  =====================================
request                body (JSON)                answer
=====================  =========================  =====================================
POST /chat/start       ``{}`` or                  200, a *snapshot* (`feed.snapshot`):
                       ``{"new": true}``          ``conversation``, ``cursor``,
                                                  ``events``, ``ended``,
                                                  ``end_reason``, ``language``,
                                                  ``capabilities``
POST /chat/messages    ``{"text", "client_id"}``  200 ``{"event": …}``: delivered, with
                                                  the page event of the echo; or 202
                                                  ``{"client_id"}``: taken, the echo
                                                  will come by the stream
GET /chat/events       —                          200 ``text/event-stream``: page
                                                  events; 204 after the end; 410
                                                  without a conversation
POST /chat/typing      ``{"state": "started"}``     204
                       or ``"stopped"``
POST /chat/end         ``{}``                     200 ``{"event": …}`` (the end) or 204
GET /chat/suggestions  —                          200 ``{"suggestions": [text]}``
POST /chat/context     —                          200 ``{"token"}``: what the site says
                                                  of the user, signed
=====================  =========================  =====================================

**Start** continues the visitor's conversation, or begins one if there is none;
``new`` leaves the former one, if any, and begins another. A conversation that has
ended is given back as it is, with ``ended`` true, for as long as the view knows it.

**Posts** have ``Content-Type: application/json``, same-origin credentials and the
site's CSRF token in ``X-CSRFToken``. ``client_id`` names a message (at most 64
letters, digits, ``-``, ``_``). The page posts the same one again when the visitor
clicks *Retry*, so a view puts it into the message's metadata under `CLIENT_ID_KEY`
and looks for it in the history first (`feed.delivered`): a message whose answer got
lost is then not sent twice.

**Errors** are ``{"error": {"code", "message"}}``; the module
`polysync.integrations.web.bodies` has the list. The page acts on the status: 409 and
410 end the conversation, 401 and 403 ask for a reload, all others offer another
attempt.

**The stream** is made of `sse` blocks whose data is a page event. A view closes it
after some 25 s, as a stream occupies a worker; the browser comes back at once with
``Last-Event-ID``. The page's first request says the same with ``?after=<cursor>``.
When both are there the header is the newer one. An id is ``<conversation>-<sequence>``:
the sequence says how far this page has seen everything, and the conversation (a
digest, `conversation_tag`) keeps a page that still shows an old conversation from
skipping the beginning of a new one; it is told to ``reset``. Transient events and
the pieces of an unfinished reply do not move the id, so that whatever a page could
have missed comes again, and the page drops what it knows by the events' own ids.

What is passing is not repeated, so a view begins each stream with the connection's
status unless it is open, and with `PolyAgentThinking` while the agent is typing.

**Page events** have a ``type``; an ``id`` for dropping duplicates and the server's
``sequence`` (both may be null on transient events), ``time`` (ISO 8601 or null), and:

==============  ====================================================================
type            fields
==============  ====================================================================
``message``     ``role`` (``agent``, ``live_agent``), ``message_id``, ``html`` (safe),
                ``attachments`` [``title``, ``url``, ``image``, ``action``],
                ``suggestions`` [text], ``calls`` [``title``, ``number``, ``url``],
                ``agent`` {``name``, ``avatar``}, ``complete``, ``ends``
``chunk``       ``message_id``, ``index``, ``text`` (plain), ``last``
``user``        ``text``, ``message_id``, ``client_id`` (or null)
``typing``      ``role``, ``active``, ``agent``
``joined``      ``role``, ``agent``
``left``        ``role``, ``agent``
``handoff``     ``status`` (``requested``, ``accepted``, ``queued``, ``required``,
                ``failed``, ``timeout``), ``queue``, ``position``, ``wait`` (s),
                ``text``
``notice``      ``level`` (``info``, ``warning``, ``error``), ``text``
``language``    ``language`` (BCP 47)
``idle``        — (the server is about to give the conversation up)
``end``         ``reason`` (``user_end``, ``user_abandoned``, ``natural_end``, …)
``connection``  ``status`` (``idle`` … ``failed``): polysync's own connection
``reset``       — (call start again)
``again``       — (the stream's time is over: what follows is no failure)
==============  ====================================================================

A page ignores types and fields that it does not know.
"""

from __future__ import annotations

import json
import math
from enum import Enum
from hashlib import sha256
from typing import Any, TypeAlias

from polysync.events import (
    ClientHandoffRequired,
    Event,
    HandoffAccepted,
    HandoffFailed,
    HandoffQueueStatus,
    HandoffTimeout,
    LanguageChanged,
    LiveAgentJoined,
    LiveAgentLeft,
    LiveAgentMessage,
    LiveAgentTyping,
    PolyAgentJoined,
    PolyAgentLeft,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    PolyAgentThinking,
    PolyAgentTriggeredHandoff,
    SessionEnd,
    SessionIdleWarning,
    SystemMessage,
    UserMessage,
)
from polysync.integrations.web.render import (
    WEB_SCHEMES,
    phone_url,
    render_markdown,
    safe_url,
)
from polysync.models import (
    Attachment,
    AttachmentContentType,
    ChatCallAction,
    ConnectionChange,
    TypingState,
)

__all__ = [
    "CLIENT_ID_KEY",
    "KEEP_ALIVE",
    "RETRY",
    "STREAM_HEADERS",
    "PageEvent",
    "conversation_tag",
    "page_event",
    "sse",
]

#: A page event: a JSON object.
PageEvent: TypeAlias = "dict[str, Any]"

#: Where a view puts the page's ``client_id`` in a message's metadata.
CLIENT_ID_KEY = "page_message_id"

#: A comment. It keeps proxies from closing a silent stream, and writing it is how a
#: server notices that the browser has gone.
KEEP_ALIVE = b": keep-alive\n\n"

#: The first bytes of a stream: how soon, in ms, the browser comes back for the next.
RETRY = b"retry: 300\n\n"

#: Headers of the stream. The last two keep nginx and compressing middlewares from
#: holding small pieces back.
STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    "Content-Encoding": "identity",
}


def page_event(event: Event | ConnectionChange) -> PageEvent | None:
    """Translate an event, or a change of the connection, for the page.

    Args:
        event: Anything that `polysync.Client.events` yields, or what
            `polysync.Client.on_connection_change` gives.

    Returns:
        The page event (see the table above), or ``None`` for what a page has no
        use for: heartbeats, the start of the session, unknown types.
    """
    if isinstance(event, ConnectionChange):
        return {
            "type": "connection",
            "id": None,
            "sequence": None,
            "time": None,
            "status": _word(event.status),
        }
    fields = _fields(event)
    if fields is None:
        return None
    return {
        "type": fields.pop("type"),
        "id": _event_id(event),
        "sequence": event.sequence,
        "time": event.timestamp.isoformat() if event.timestamp else None,
        **fields,
    }


def sse(event: PageEvent, last_id: str | None = None) -> bytes:
    """Frame a page event as one server-sent event.

    Args:
        event: The page event.
        last_id: What the browser sends back as ``Last-Event-ID`` when it reconnects;
            ``None`` leaves the former one as it is.
    """
    # JSON escapes line ends inside strings, so the data is one line whatever it is.
    data = json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    lines = f"data: {data}\n\n"
    if last_id is not None:
        safe_id = last_id.replace("\r", "").replace("\n", "").replace("\x00", "")
        lines = f"id: {safe_id}\n{lines}"
    return lines.encode("utf-8", "replace")


def conversation_tag(session_id: str) -> str:
    """Return a short name for a conversation that does not give its id away."""
    return sha256(session_id.encode("utf-8", "replace")).hexdigest()[:12]


def _fields(event: Event) -> PageEvent | None:
    """Return the fields of the page event, its type included."""
    match event:
        case PolyAgentMessage() | LiveAgentMessage():
            return _message(event)
        case PolyAgentMessageChunk():
            return {
                "type": "chunk",
                "message_id": event.message_id,
                "index": event.chunk_index,
                "text": event.text,
                "last": event.is_complete,
            }
        case UserMessage():
            return {
                "type": "user",
                "text": event.text,
                "message_id": event.message_id,
                "client_id": event.metadata.get(CLIENT_ID_KEY),
            }
        case PolyAgentThinking():
            return _presence("typing", "agent", None) | {"active": True}
        case LiveAgentTyping():
            agent = _agent(event.agent_name, None)
            active = event.state != TypingState.STOPPED
            return _presence("typing", "live_agent", agent) | {"active": active}
        case PolyAgentJoined():
            agent = _agent(event.agent_name, event.agent_avatar_url)
            return _presence("joined", "agent", agent)
        case LiveAgentJoined():
            agent = _agent(event.agent.name, event.agent.avatar_url)
            return _presence("joined", "live_agent", agent)
        case PolyAgentLeft():
            return _presence("left", "agent", None)
        case LiveAgentLeft():
            return _presence("left", "live_agent", _agent(event.agent_name, None))
        case LanguageChanged():
            return {"type": "language", "language": event.language_code}
        case SystemMessage():
            return {
                "type": "notice",
                "level": _word(event.level, "SYSTEM_MESSAGE_LEVEL_") or "info",
                "text": event.message,
            }
        case SessionIdleWarning():
            return {"type": "idle"}
        case SessionEnd():
            return {"type": "end", "reason": _word(event.reason, "REASON_")}
        case _:
            return _handoff(event)


def _message(event: PolyAgentMessage | LiveAgentMessage) -> PageEvent:
    return {
        "type": "message",
        "role": "live_agent" if event.is_live_agent else "agent",
        "message_id": event.message_id,
        "html": render_markdown(event.text),
        "attachments": [_attachment(each) for each in event.attachments],
        "suggestions": [
            each.message_text
            for each in event.response_suggestions
            if each.message_text.strip()
        ],
        "calls": [
            call
            for each in event.chat_call_actions
            if (call := _call(each)) is not None
        ],
        "agent": _agent(event.agent_name, event.avatar_url),
        "complete": event.complete,
        "ends": event.end_conversation,
    }


def _handoff(event: Event) -> PageEvent | None:
    """Return the fields of the events that hand the visitor to a person."""
    status: str
    queue: str | None = None
    position: int | None = None
    wait: float | None = None
    text: str | None = None
    match event:
        case PolyAgentTriggeredHandoff():
            status = "requested"
        case HandoffAccepted():
            status, queue = "accepted", event.queue_name
        case HandoffQueueStatus():
            status, queue = "queued", event.queue_name
            position, wait = event.position_in_queue, event.estimated_wait_seconds
            text = event.display_message
        case ClientHandoffRequired():
            status, queue = "required", event.queue_name
        case HandoffFailed():
            status = "failed"
        case HandoffTimeout():
            status = "timeout"
        case _:
            return None
    if wait is not None and not math.isfinite(wait):
        wait = None
    return {
        "type": "handoff",
        "status": status,
        "queue": queue or None,
        "position": position,
        "wait": wait,
        "text": text or None,
    }


def _presence(kind: str, role: str, agent: PageEvent | None) -> PageEvent:
    return {"type": kind, "role": role, "agent": agent}


def _agent(name: str | None, avatar_url: str | None) -> PageEvent | None:
    avatar = safe_url(avatar_url, schemes=WEB_SCHEMES)
    return {"name": name or None, "avatar": avatar} if name or avatar else None


def _attachment(attachment: Attachment) -> PageEvent:
    url = safe_url(attachment.content_url)
    image = safe_url(attachment.preview_image_url, schemes=WEB_SCHEMES)
    if image is None and attachment.content_type == AttachmentContentType.IMAGE:
        image = safe_url(attachment.content_url, schemes=WEB_SCHEMES)
    return {
        "title": attachment.title or None,
        "url": url,
        "image": image,
        "action": attachment.call_to_action_text or None,
    }


def _call(action: ChatCallAction) -> PageEvent | None:
    url = phone_url(action.contact_number)
    if url is None:
        return None
    return {"title": action.title or None, "number": action.contact_number, "url": url}


def _event_id(event: Event) -> str | None:
    """Return what tells the event from all others of its conversation."""
    if isinstance(event, PolyAgentMessage) and event.assembled:
        # Its id is its message's, which a later, whole version of it shares.
        return f"{event.message_id}{'' if event.complete else '~'}"
    if event.id is not None:
        return event.id
    return None if event.sequence is None else f"#{event.sequence}"


def _word(value: Enum | str | None, prefix: str = "") -> str | None:
    """Return an enumeration's word, or an unknown value as it came, in lower case."""
    if value is None:
        return None
    word = str(value.value) if isinstance(value, Enum) else value
    return word.removeprefix(prefix).lower()
