"""Replies that come in chunks: in order, each chunk once, and the whole at the end.

Each message has a buffer of its own, so two may interleave. Chunks leave the buffer in
the order of their index and are joined as they are, since a chunk carries its own
spaces. A message is whole when the chunk marked as the last and all before it are
there. One that stops while others go on is given up after a while, and what has come
of it is delivered, marked as incomplete.
"""

from __future__ import annotations

from collections.abc import Iterator

from polysync.events import PolyAgentMessage, PolyAgentMessageChunk
from polysync.models import Agent

__all__ = ["ABANDONED_AFTER", "Streams"]

#: Seconds without a chunk after which a message counts as abandoned, once a chunk of
#: another message has come.
ABANDONED_AFTER = 5.0

#: Finished messages whose late chunks are still known.
FINISHED = 1024


class _Stream:
    __slots__ = ("abandoned_at", "from_zero", "last", "taken", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[int, PolyAgentMessageChunk] = {}
        self.taken: list[PolyAgentMessageChunk] = []
        self.last: int | None = None
        self.abandoned_at: float | None = None
        self.from_zero = False


class Streams:
    """Assembles the chunked messages of one conversation."""

    __slots__ = ("_finished", "_streams", "agent")

    def __init__(self) -> None:
        #: Who speaks: chunks do not say, so their message gets it from the join.
        self.agent: Agent | None = None
        self._streams: dict[str, _Stream] = {}
        self._finished: dict[str, bool] = {}

    def add(
        self, chunk: PolyAgentMessageChunk, now: float
    ) -> tuple[list[PolyAgentMessageChunk], PolyAgentMessage | None]:
        """Take a chunk; return the chunks that are due and the message if now whole."""
        key = chunk.message_id or ""
        if key in self._finished:
            return [], None
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = _Stream()
        stream.abandoned_at = None
        if len(self._streams) > 1:
            self._mark_abandoned(key, now)
        index = chunk.chunk_index
        expected = len(stream.taken) + 1
        if index == 0 and not stream.taken:
            stream.from_zero = (
                True  # not what the protocol says, but no reason to lose it
            )
        if index is not None and stream.from_zero:
            index += 1
        if index is None or index < 1:  # it does not say where it belongs
            index = expected
        if chunk.is_complete:
            stream.last = index
        if index == expected and not stream.waiting:
            stream.taken.append(chunk)
            due = [chunk]
        else:
            if index >= expected:
                stream.waiting.setdefault(index, chunk)
            due = list(_in_order(stream))
        if stream.last is not None and len(stream.taken) >= stream.last:
            return due, self._finish(key, complete=True)
        return due, None

    def supersede(self, message_id: str | None) -> bool:
        """A whole message has come; false if it was already delivered whole."""
        key = message_id or ""
        if not key:
            return True
        self._streams.pop(key, None)
        if self._finished.get(key):
            return False
        self._remember(key, complete=True)
        return True

    @property
    def earliest(self) -> int | None:
        """The lowest sequence of a chunk whose message is not whole yet."""
        return min(
            (
                chunk.sequence
                for stream in self._streams.values()
                for chunk in (*stream.taken, *stream.waiting.values())
                if chunk.sequence is not None
            ),
            default=None,
        )

    @property
    def deadline(self) -> float | None:
        """When the next message counts as abandoned."""
        if len(self._streams) < 2:
            # The usual number is none or one.
            only = next(iter(self._streams.values()), None)
            return only.abandoned_at if only else None
        times = (stream.abandoned_at for stream in self._streams.values())
        return min((at for at in times if at is not None), default=None)

    def due(
        self, now: float
    ) -> list[tuple[list[PolyAgentMessageChunk], PolyAgentMessage]]:
        """Give up on what has been abandoned for too long."""
        keys = [
            key
            for key, stream in self._streams.items()
            if stream.abandoned_at is not None and now >= stream.abandoned_at
        ]
        return [self._give_up(key) for key in keys]

    def lost(self) -> None:
        """The connection is gone: the silence is not the agent's."""
        for stream in self._streams.values():
            stream.abandoned_at = None

    def finish(self) -> list[tuple[list[PolyAgentMessageChunk], PolyAgentMessage]]:
        """The conversation is over: deliver all that has come, as incomplete."""
        return [self._give_up(key) for key in list(self._streams)]

    def _mark_abandoned(self, current: str, now: float) -> None:
        for key, stream in self._streams.items():
            if key != current and stream.abandoned_at is None:
                stream.abandoned_at = now + ABANDONED_AFTER

    def _give_up(
        self, key: str
    ) -> tuple[list[PolyAgentMessageChunk], PolyAgentMessage]:
        stream = self._streams[key]
        rest = [stream.waiting[index] for index in sorted(stream.waiting)]
        stream.waiting.clear()
        stream.taken.extend(rest)
        return rest, self._finish(key, complete=False)

    def _finish(self, key: str, *, complete: bool) -> PolyAgentMessage:
        stream = self._streams.pop(key)
        self._remember(key, complete=complete)
        last = stream.taken[-1]
        agent = self.agent or Agent()
        return PolyAgentMessage(
            id=key or last.id,
            sequence=last.sequence,
            timestamp=last.timestamp,
            metadata=last.metadata,
            message_id=key or None,
            text="".join([chunk.text for chunk in stream.taken]),
            attachments=tuple(a for c in stream.taken for a in c.attachments),
            response_suggestions=tuple(
                s for c in stream.taken for s in c.response_suggestions
            ),
            agent_name=agent.name,
            avatar_url=agent.avatar_url,
            assembled=True,
            complete=complete,
        )

    def _remember(self, key: str, *, complete: bool) -> None:
        if not key:
            return
        self._finished[key] = complete
        if len(self._finished) > FINISHED:
            del self._finished[next(iter(self._finished))]


def _in_order(stream: _Stream) -> Iterator[PolyAgentMessageChunk]:
    """Move the chunks that have become due from ``waiting`` to ``taken``."""
    while (chunk := stream.waiting.pop(len(stream.taken) + 1, None)) is not None:
        stream.taken.append(chunk)
        yield chunk
