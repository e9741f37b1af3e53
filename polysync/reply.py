"""A reply while it comes: what `Client.stream` returns."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from polysync.errors import PolysyncError
from polysync.events import Message, PolyAgentMessageChunk
from polysync.protocol.tickets import Delivery, ReplyTicket
from polysync.runtime.clock import Deadline
from polysync.runtime.engine import Engine
from polysync.runtime.waiting import late, limited

__all__ = ["Reply"]


class Reply:
    """The agent's reply to one message, chunk by chunk.

    Iterate to get the chunks as they come, each a `PolyAgentMessageChunk` whose
    ``text`` continues the one before. A reply that does not come in chunks (streaming
    is off, or a human answers) gives a single one. For one thread at a time.

    Leaving off in the middle is no loss: the whole message then goes to
    `Client.receive`. ``close()``, or a ``with`` statement, says so at once.
    """

    _finished = True  # until it is set up

    def __init__(
        self,
        client: object,
        engine: Engine,
        delivery: Delivery,
        ticket: ReplyTicket,
        news: queue.SimpleQueue[bool],
        timeout: float,
    ) -> None:
        self._client = client  # which must live for as long as its reply is read
        self._engine = engine
        self._delivery = delivery
        self._ticket = ticket
        self._news = news
        self._timeout = timeout
        self._deadline = Deadline(timeout)
        self._text: list[str] = []
        self._error: Exception | None = None
        # Whether it was told that the ticket is settled. Only then does the reply end:
        # the ticket itself shows it sooner, before the observer has seen it.
        self._settled = False
        self._finished = False

    def __repr__(self) -> str:
        state = "complete" if self._ticket.result is not None else "coming"
        return f"<Reply {state}, {len(self.text)} characters so far>"

    @property
    def text(self) -> str:
        """What has been read of the reply so far."""
        return "".join(self._text)

    @property
    def message(self) -> Message:
        """The whole message; waits for the rest of it.

        Raises:
            ReplyTimeoutError: It did not come within the timeout of the call.
            PolysyncError: As `Client.ask`.
        """
        for _ in self:
            pass
        if self._error is not None:
            raise self._error
        if self._ticket.result is None:
            raise PolysyncError(
                "the reply was closed before all of it was read: its message goes to "
                "receive()"
            )
        return self._ticket.result

    def __iter__(self) -> Iterator[PolyAgentMessageChunk]:
        return self

    def __next__(self) -> PolyAgentMessageChunk:
        ticket = self._ticket
        while not self._finished:
            if ticket.chunks:
                chunk = ticket.chunks.popleft()
                self._text.append(chunk.text)
                return chunk
            if self._settled:
                return self._last()
            self._wait()
        raise StopIteration

    def _last(self) -> PolyAgentMessageChunk:
        """The reply is settled: give what has not been read of it, or the error."""
        self._finished = True
        if self._ticket.error is not None:
            self._error = self._ticket.error
            raise self._error
        message = self._ticket.result
        if message is None or self._text:
            # A whole message that replaced its chunks may say more than they did.
            if message is not None:
                self._text = [message.text]
            raise StopIteration
        self._text.append(message.text)
        return PolyAgentMessageChunk(
            id=message.id,
            sequence=message.sequence,
            timestamp=message.timestamp,
            metadata=message.metadata,
            message_id=message.message_id,
            text=message.text,
            attachments=message.attachments,
            response_suggestions=message.response_suggestions,
            chunk_index=1,
            is_complete=True,
        )

    def _wait(self) -> None:
        wait = limited(self._deadline.remaining())
        try:
            self._settled = self._news.get(timeout=None if wait < 0 else wait)
        except queue.Empty:
            self._settled = True  # by itself after all, or by giving up
        except BaseException:
            self.close()
            raise
        else:
            return
        if self._engine.give_up(self._delivery, self._ticket):
            self._finished = True
            self._error = late(self._delivery, self._timeout)
            raise self._error

    def close(self) -> None:
        """Read no further; the message goes to `Client.receive` when it is whole.

        Does nothing to a reply that was read to its end.
        """
        if not self._finished:
            self._finished = True
            self._engine.leave(self._delivery, self._ticket, bool(self._text))

    def __del__(self) -> None:
        if not self._finished:
            self._engine.drop(self._delivery, self._ticket, bool(self._text))

    def __enter__(self) -> Reply:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("a Reply belongs to its client and cannot be pickled")
