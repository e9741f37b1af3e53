"""A site with the chat on it: the HTTP contract on the standard library alone.

Tests drive it from inside (`Site.emit`, `Site.refuse`); for a look by hand::

    python -m tests.integrations.web.demo_server
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from attrs import evolve

from polysync.events import (
    Event,
    LiveAgentTyping,
    PolyAgentJoined,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    PolyAgentThinking,
    SessionEnd,
    SessionStart,
    UserMessage,
)
from polysync.integrations.web.bodies import (
    RequestError,
    read_message,
    read_start,
    read_typing,
)
from polysync.integrations.web.embed import asset, script_tag
from polysync.integrations.web.feed import (
    Feed,
    delivered,
    last_event_id,
    snapshot,
)
from polysync.integrations.web.wire import KEEP_ALIVE, STREAM_HEADERS, page_event
from polysync.models import Capabilities, ResponseSuggestion, SessionEndReason

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types polysync"
)
CSRF_TOKEN = "demo-csrf-token"
PASSING = (LiveAgentTyping,)
STYLE = (
    "html,body{margin:0;height:100%}body{display:flex;flex-direction:column;"
    "font-family:sans-serif}h1{font-size:18px;margin:12px 16px}"
    "#chat{flex:1;min-height:0}"
)
AVATAR = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 40"><rect width="40" '
    'height="40" fill="#{ground}"/><circle cx="20" cy="16" r="7" fill="#fff"/>'
    '<path d="M6 40a14 14 0 0 1 28 0z" fill="#fff"/></svg>'
)
PICTURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 180"><rect width="320" '
    'height="180" fill="#dce7e4"/><circle cx="160" cy="96" r="56" fill="#fff"/>'
    '<circle cx="160" cy="96" r="38" fill="#e7a977"/><path d="M135 90q25-26 50 0" '
    'stroke="#7b9f5a" stroke-width="9" fill="none"/></svg>'
)


class Conversation:
    """What a polysync client would hold: the events, and a wait for the next."""

    def __init__(self, number: int) -> None:
        self.session_id = f"session-{number}"
        self.events: list[Event] = []
        self.arrived = threading.Condition()

    def emit(self, event: Event) -> Event:
        with self.arrived:
            event = evolve(event, timestamp=datetime.now(timezone.utc))
            if not isinstance(event, PASSING):
                number = len(self.history) + 1
                name = event.id or f"{self.session_id}-{number}"
                event = evolve(event, id=name, sequence=number)
            self.events.append(event)
            self.arrived.notify_all()
        return event

    @property
    def history(self) -> list[Event]:
        return [event for event in self.events if event.sequence is not None]

    @property
    def ended(self) -> bool:
        return any(isinstance(event, SessionEnd) for event in self.events)


Script = Callable[[Conversation, str], None]


class Site:
    """The server, and what a test can do to it."""

    def __init__(
        self, script: Script | None = None, *, slice_seconds: float = 25.0
    ) -> None:
        self.script = script or answer
        self.slice_seconds = slice_seconds
        self.options: dict[str, Any] = {}
        self.page_theme = ""
        self.greeting = PolyAgentMessage(
            message_id="greeting", text="Hello! **How** can I help you?"
        )
        self.requests: list[tuple[str, Any]] = []
        self.streams = 0
        self.lose_answers = False
        self.closing = False
        self._refusals: dict[str, list[tuple[int, str]]] = {}
        self._number = 0
        self.conversation: Conversation | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._server.block_on_close = True
        self._server.site = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="demo-site"
        )

    def __enter__(self) -> Site:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing = True
        self.hang_up()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def talk(self) -> Conversation:
        if self.conversation is None:
            raise AssertionError("no conversation has been started")
        return self.conversation

    def begin(self) -> Conversation:
        self._number += 1
        self.conversation = talk = Conversation(self._number)
        talk.emit(SessionStart(capabilities=Capabilities(streaming=True)))
        avatar = f"{self.url}/agent.svg"
        talk.emit(PolyAgentJoined(agent_name="Robin", agent_avatar_url=avatar))
        talk.emit(self.greeting)
        return talk

    def emit(self, event: Event) -> Event:
        return self.talk.emit(event)

    def refuse(self, path: str, *statuses: int, code: str = "unavailable") -> None:
        """Answer the next requests to this path with errors."""
        self._refusals.setdefault(path, []).extend((each, code) for each in statuses)

    def accept(self, path: str) -> None:
        """Refuse no longer."""
        self._refusals.pop(path, None)

    def refusal(self, path: str) -> tuple[int, str] | None:
        waiting = self._refusals.get(path)
        return waiting.pop(0) if waiting else None

    def hang_up(self) -> None:
        """End the streams that are open now."""
        if self.conversation is not None:
            with self.conversation.arrived:
                self.streams += 1
                self.conversation.arrived.notify_all()

    def posted(self, path: str) -> list[Any]:
        return [body for name, body in self.requests if name == path]


class Handler(BaseHTTPRequestHandler):
    server_version = "demo"

    @property
    def site(self) -> Site:
        return self.server.site  # type: ignore[attr-defined, no-any-return]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path in ("/", "/launcher"):
            self._page("#chat" if path == "/" else None)
        elif path in ("/static/chat.js", "/static/chat.css"):
            file = asset(path.removeprefix("/static/"))
            self._answer(200, file.body, file.content_type)
        elif path == "/site.css":
            self._answer(200, STYLE.encode(), "text/css")
        elif path in ("/agent.svg", "/live.svg"):
            ground = "3d6f8e" if path == "/agent.svg" else "96643c"
            picture = AVATAR.replace("{ground}", ground)
            self._answer(200, picture.encode(), "image/svg+xml")
        elif path == "/picture.svg":
            self._answer(200, PICTURE.encode(), "image/svg+xml")
        elif path == "/chat/events":
            self._stream()
        else:
            self._answer(404, b"", "text/plain")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = self.path.removeprefix("/chat/")
        try:
            self.site.requests.append((name, json.loads(body)))
            if self.headers.get("X-CSRFToken") != CSRF_TOKEN:
                raise RequestError(403, "csrf", "The CSRF token is missing.")
            if refused := self.site.refusal(name):
                raise RequestError(*refused, "Refused, as the test wants it.")
            result = getattr(self, f"_{name}")(body, self.headers.get("Content-Type"))
        except RequestError as error:
            self._json(error.status, error.body())
        else:
            self._json(200, result)

    def _start(self, body: bytes, kind: str | None) -> dict[str, Any]:
        new = read_start(body, kind)
        talk = self.site.conversation
        if talk is None or new:
            talk = self.site.begin()
        return snapshot(talk.session_id, list(talk.history))

    def _messages(self, body: bytes, kind: str | None) -> dict[str, Any]:
        message = read_message(body, kind)
        talk = self.site.talk
        if talk.ended:
            raise RequestError(409, "ended", "This conversation has ended.")
        echo: Event | None = delivered(talk.history, message.client_id)
        if echo is None:
            echo = talk.emit(UserMessage(text=message.text, metadata=message.metadata))
            self.site.script(talk, message.text)
        if self.site.lose_answers:
            raise RequestError(504, "timeout", "Delivered, but who is to know?")
        return {"event": page_event(echo)}

    def _typing(self, body: bytes, kind: str | None) -> dict[str, Any]:
        read_typing(body, kind)
        return {}

    def _end(self, body: bytes, kind: str | None) -> dict[str, Any]:
        talk = self.site.talk
        end = talk.emit(SessionEnd(reason=SessionEndReason.USER_END))
        return {"event": page_event(end)}

    def _stream(self) -> None:
        site, talk = self.site, self.site.conversation
        refused = site.refusal("events")
        if refused or talk is None:
            self._json(refused[0] if refused else 410, {})
            return
        query = dict(parse_qsl(urlsplit(self.path).query))
        position = last_event_id({**self.headers}, query)
        site.requests.append(("events", position))
        feed = Feed(talk.session_id, position)
        self.send_response(200)
        for name, value in STREAM_HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(feed.open())
            if feed.known:
                self._follow(talk, feed)
        except OSError:
            pass  # the browser has gone

    def _follow(self, talk: Conversation, feed: Feed) -> None:
        site, streams = self.site, self.site.streams
        deadline = time.monotonic() + site.slice_seconds
        # What was passing when the page was not there has passed.
        with talk.arrived:
            news, seen = talk.history, len(talk.events)
        while True:
            for event in news:
                self.wfile.write(feed.send(event))
            if not news:
                self.wfile.write(KEEP_ALIVE)
            over = time.monotonic() >= deadline or talk is not site.conversation
            if over or site.closing or site.streams != streams:
                return
            with talk.arrived:
                if len(talk.events) == seen and site.streams == streams:
                    wait = min(1.0, max(0.0, deadline - time.monotonic()))
                    talk.arrived.wait(wait)
                news = talk.events[seen:]
                seen += len(news)

    def _page(self, target: str | None) -> None:
        options = {"title": "Harbour Bistro", "csrf_token": CSRF_TOKEN}
        tag = script_tag(
            "/static/chat.js",
            "/chat",
            target=target,
            **{**options, **self.site.options},
        )
        body = '<header><h1>Harbour Bistro</h1></header><main id="chat"></main>'
        if target is None:
            body = "<main><h1>Harbour Bistro</h1><p>A page of the site.</p></main>"
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Demo'
            '</title><meta name="viewport" content="width=device-width">'
            '<link rel="stylesheet" href="/site.css">'
            '<link rel="icon" href="/agent.svg">'
            f"</head><body>{body}{tag}</body></html>"
        )
        self._answer(200, page.encode(), "text/html; charset=utf-8")

    def _json(self, status: int, value: Any) -> None:
        self._answer(status, json.dumps(value).encode(), "application/json")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", CSP)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)


def answer(talk: Conversation, text: str) -> None:
    """Answer as the demo's agent does, in chunks, with suggestions."""
    talk.emit(PolyAgentThinking())
    reply_id = f"reply-{len(talk.history)}"
    pieces = ["You said: ", f"*{text}*. ", "Anything **else**?"]
    for index, piece in enumerate(pieces, 1):
        talk.emit(
            PolyAgentMessageChunk(
                message_id=reply_id,
                text=piece,
                chunk_index=index,
                is_complete=index == len(pieces),
                response_suggestions=(
                    (ResponseSuggestion(message_text="Yes, please"),)
                    + (ResponseSuggestion(message_text="No, thank you"),)
                    if index == len(pieces)
                    else ()
                ),
            )
        )


if __name__ == "__main__":
    with Site() as site:
        print(site.url, f"{site.url}/launcher")
        threading.Event().wait()
