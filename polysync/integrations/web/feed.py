"""One page's stream: what it has seen, and where it goes on after a break.

A view builds a `Feed` for each ``GET …/events`` and hands it every event; what
comes out is ready to be written::

    def stream(client, last_event_id, seconds=25.0):
        feed = Feed(client.session_id, last_event_id)
        yield feed.open()
        events = client.events(replay=True, timeout=5)  # the history, then what comes
        deadline = time.monotonic() + seconds
        while feed.known and time.monotonic() < deadline:
            try:
                event = next(events)
            except StopIteration:
                return
            except ReceiveTimeoutError:
                yield KEEP_ALIVE
            else:
                yield feed.send(event)  # may be empty

It does not matter where the events come from, whether some come twice, or whether
the history holds a reply's chunks only: the feed leaves out what the page has and
puts whole replies together itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from polysync.events import (
    Event,
    LanguageChanged,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    SessionEnd,
    SessionStart,
    UserMessage,
)
from polysync.integrations.web.wire import (
    CLIENT_ID_KEY,
    RETRY,
    PageEvent,
    conversation_tag,
    page_event,
    sse,
)
from polysync.models import Capabilities, ConnectionChange

__all__ = ["Feed", "delivered", "last_event_id", "snapshot"]


class Feed:
    """Turns a conversation's events into one page's stream of bytes.

    Used by one thread, for one request.
    """

    def __init__(self, session_id: str, last_event_id: str | None = None) -> None:
        """Go on where the page stopped.

        Args:
            session_id: The conversation's session id; it does not reach the page.
            last_event_id: What the browser sent, see `last_event_id`. Anything that
                is no id of this conversation is answered with a ``reset``; ``None``
                begins at the beginning.
        """
        self._tag = conversation_tag(session_id)
        self._after, self.known = 0, True
        if last_event_id is not None:
            tag, _, number = last_event_id.rpartition("-")
            self.known = tag == self._tag and number.isdecimal() and len(number) < 20
            self._after = int(number) if self.known else 0
        self._progress = _Progress(self._after)
        self._sent: set[str] = set()

    @property
    def cursor(self) -> str:
        """The id up to which the page has everything."""
        return f"{self._tag}-{self._progress.cursor}"

    def open(self) -> bytes:
        """Return the stream's first bytes.

        After a ``reset`` (`known` is false) there is nothing more to send: the page
        calls ``start`` and comes again.
        """
        if self.known:
            return RETRY
        return RETRY + sse({"type": "reset", "id": None, "sequence": None})

    def send(self, event: Event | ConnectionChange) -> bytes:
        """Return the bytes for an event; none if the page has it or needs it not."""
        if isinstance(event, ConnectionChange):
            page = page_event(event)
            return b"" if page is None else sse(page)
        before = self._progress.cursor
        pages = [
            page
            for each in self._progress.take(event)
            if (page := self._news(each)) is not None
        ]
        # Only the last block moves the id: half of them do not count as seen.
        moved = self._progress.cursor > before
        return b"".join(
            sse(page, self.cursor if moved and page is pages[-1] else None)
            for page in pages
        )

    def _news(self, event: Event) -> PageEvent | None:
        """Return the page event, unless the page has had it."""
        if event.sequence is not None and event.sequence <= self._after:
            return None
        page = page_event(event)
        if page is None or page["id"] in self._sent:
            return None
        if page["id"] is not None:
            self._sent.add(page["id"])
        return page


def snapshot(session_id: str, history: Iterable[Event]) -> PageEvent:
    """Return the answer to ``POST …/start``: the conversation so far.

    Args:
        session_id: The conversation's session id; it does not reach the page.
        history: All events so far, as `polysync.Client.history` gives them. The
            cursor in the answer belongs to exactly these.
    """
    progress = _Progress(0)
    events = [each for event in history for each in progress.take(event)]
    # Of a reply that is there as a whole, the pieces are not needed.
    whole = {e.message_id for e in events if isinstance(e, PolyAgentMessage)}
    pages: dict[str, PageEvent] = {}
    language: str | None = None
    capabilities = Capabilities()
    for event in events:
        if isinstance(event, SessionStart):
            capabilities = event.capabilities
        elif isinstance(event, LanguageChanged):
            language = event.language_code
        elif isinstance(event, PolyAgentMessageChunk) and event.message_id in whole:
            continue
        page = page_event(event)
        if page is not None:
            pages.setdefault(page["id"] or f"?{len(pages)}", page)
    # Who was typing has typed, unless it is the last that is known.
    every = list(pages.values())
    shown = [p for p in every if p["type"] != "typing" or p is every[-1]]
    ends = [page for page in shown if page["type"] == "end"]
    tag = conversation_tag(session_id)
    return {
        "conversation": tag,
        "cursor": f"{tag}-{progress.cursor}",
        "events": shown,
        "ended": bool(ends) or any(page.get("ends") for page in shown),
        "end_reason": ends[0]["reason"] if ends else None,
        "language": language,
        "capabilities": {
            "streaming": bool(capabilities.streaming),
            "max_message_size_bytes": capabilities.max_message_size_bytes,
        },
    }


def delivered(history: Iterable[Event], client_id: str | None) -> UserMessage | None:
    """Return the echo of the page's message with this ``client_id``, if it is there.

    Ask before sending: the page posts a message again when the answer to its first
    attempt was lost.
    """
    if client_id is None:
        return None
    for event in history:
        if isinstance(event, UserMessage) and (
            event.metadata.get(CLIENT_ID_KEY) == client_id
        ):
            return event
    return None


def last_event_id(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """Return where a page wants to go on: by header, or else by ``?after=``.

    A browser repeats the address with its ``?after=`` on each reconnection, but only
    the header moves on. So the header counts where both are there.

    Args:
        headers: The request's headers; the framework's mapping ignores case.
        query: The request's query parameters.
    """
    return headers.get("Last-Event-ID") or query.get("after") or None


class _Progress:
    """How far a page is: the replies under way, and what it has seen in full."""

    def __init__(self, after: int) -> None:
        self._after = after
        self._highest = after
        self._replies: dict[str, _Reply] = {}
        self._whole: set[str] = set()

    @property
    def cursor(self) -> int:
        """The highest sequence up to which nothing is missing or unfinished.

        A reply that has begun holds it back: whoever comes back before its end gets
        all of it again.
        """
        held = (reply.first for reply in self._replies.values() if not reply.cut)
        return min(
            (first - 1 for first in held if first > self._after), default=self._highest
        )

    def take(self, event: Event) -> list[Event]:
        """Return the event, and the replies that are whole, or cut off, by now."""
        if event.sequence is not None:
            self._highest = max(self._highest, event.sequence)
        match event:
            case PolyAgentMessageChunk(message_id=str(key)) if key not in self._whole:
                reply = self._replies.setdefault(key, _Reply(self._highest))
                if reply.add(event):
                    return [event, *self._finish(key), reply.message(complete=True)]
            case PolyAgentMessage(message_id=str(key)) if event.complete:
                return [*self._finish(key), event]
            case PolyAgentMessage(message_id=str(key)) if key in self._replies:
                self._replies[key].cut = True
            case UserMessage():
                for reply in self._replies.values():
                    reply.answered = True
            case SessionEnd():
                return [*self._cut(list(self._replies.values())), event]
        return [event]

    def _finish(self, key: str) -> list[Event]:
        """Settle a reply, and give up those that the conversation has left behind."""
        self._whole.add(key)
        self._replies.pop(key, None)
        return self._cut([each for each in self._replies.values() if each.answered])

    def _cut(self, replies: list[_Reply]) -> list[Event]:
        # They stay, should the rest come after all; they hold up nothing any more.
        fresh = [reply for reply in replies if not reply.cut]
        for reply in fresh:
            reply.cut = True
        return [reply.message(complete=False) for reply in fresh]


class _Reply:
    """A reply that comes in chunks, in any order."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.answered = False
        self.cut = False
        self._chunks: dict[int, PolyAgentMessageChunk] = {}

    def add(self, chunk: PolyAgentMessageChunk) -> bool:
        """Take a chunk in; return whether all are there."""
        index = chunk.chunk_index
        if index is None:
            index = len(self._chunks) + 1
        self._chunks.setdefault(index, chunk)
        last = max(self._chunks)
        return self._chunks[last].is_complete and len(self._chunks) == last

    def message(self, *, complete: bool) -> PolyAgentMessage:
        """Return what has come, as one message."""
        chunks = [self._chunks[index] for index in sorted(self._chunks)]
        sequences = [each.sequence for each in chunks if each.sequence is not None]
        return PolyAgentMessage(
            id=chunks[0].message_id,
            sequence=max(sequences, default=None),
            timestamp=chunks[-1].timestamp,
            message_id=chunks[0].message_id,
            text="".join(each.text for each in chunks),
            attachments=tuple(a for each in chunks for a in each.attachments),
            response_suggestions=tuple(
                s for each in chunks for s in each.response_suggestions
            ),
            assembled=True,
            complete=complete,
        )
