"""What is said: the user's messages, the agent's replies, and what events add up to.

Events come here once and in order. Each is remembered, told, and given to whoever
waits for it: an echo to its message, a reply to its question, an error to its cause.
What is said does not depend on connections: a dialogue outlives any number of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from polysync.errors import (
    AgentError,
    ClientClosedError,
    MessageTooLargeError,
    SessionEndedError,
)
from polysync.events import (
    Event,
    LiveAgentMessage,
    PolyAgentJoined,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    PolyAgentThinking,
    SessionEnd,
    SessionStart,
    SystemMessage,
    UserEndSession,
    UserMessage,
)
from polysync.models import SessionEndReason, SystemMessageLevel
from polysync.protocol.codec import encode
from polysync.protocol.effects import Effects
from polysync.protocol.history import History
from polysync.protocol.joining import Joining
from polysync.protocol.latencies import Latencies
from polysync.protocol.outbox import ID_KEYS, Outbox, failure
from polysync.protocol.replies import Replies
from polysync.protocol.settings import DEFAULT_MAX_MESSAGE_SIZE, Settings
from polysync.protocol.situation import AGENT_EVENTS, Situation
from polysync.protocol.streams import Streams
from polysync.protocol.system_messages import Trouble, trouble
from polysync.protocol.tickets import Delivery, ReplyTicket

__all__ = ["Dialogue"]


class Dialogue:
    """The messages of one conversation, in both directions.

    Args:
        settings: What the user has set.
        effects: Where news, frames and settled tickets go.
    """

    __slots__ = (
        "_effects",
        "_size_limit",
        "agentless",
        "delivered_before",
        "disowned",
        "doubts_end_at",
        "end_echoed",
        "finished",
        "history",
        "joining",
        "latencies",
        "outbox",
        "replies",
        "situation",
        "streams",
    )

    def __init__(self, settings: Settings, effects: Effects) -> None:
        self._effects = effects
        self.history = History(settings.history_limit)
        self.situation = Situation()
        self.streams = Streams()
        self.replies = Replies()
        self.outbox = Outbox(settings.resend)
        self.joining = Joining()
        self.latencies = Latencies()
        #: Sequence up to which an earlier life has delivered.
        self.delivered_before: int | None = None
        #: Set by the event that ends the conversation, whatever its type.
        self.finished: SessionEnd | None = None
        #: Whether the server has confirmed that the user wants to end.
        self.end_echoed = False
        #: The error that says that no agent will come.
        self.agentless: AgentError | None = None
        #: Whether the server has said that it does not know the session any more.
        self.disowned = False
        #: When what is in doubt counts as not delivered, if nothing shows that it was.
        self.doubts_end_at: float | None = None
        self._size_limit = DEFAULT_MAX_MESSAGE_SIZE

    def set_size_limit(self, asked: int | None) -> None:
        """Follow the session's limit, in bytes of a frame; 0 means none."""
        self._size_limit = (
            DEFAULT_MAX_MESSAGE_SIZE if asked is None or asked < 0 else asked
        )

    # The user speaks

    def send(
        self,
        local_id: str,
        text: str,
        metadata: Mapping[str, str],
        patience: float | None,
        reply: ReplyTicket | None,
    ) -> Delivery:
        """Put a message of the user in line; see `Conversation.send`."""
        custom = {**metadata, **dict.fromkeys(ID_KEYS, local_id)}
        frame = encode(UserMessage(text=text, metadata=custom))
        size = len(frame.encode("utf-8", "surrogatepass"))
        if self._size_limit and size > self._size_limit:
            raise MessageTooLargeError(
                f"the message takes {size:,} bytes as a frame, and the session allows "
                f"{self._size_limit:,}: send it in parts",
                size=size,
                limit=self._size_limit,
            )
        delivery = Delivery(
            id=local_id,
            text=text,
            metadata=metadata,
            frame=frame,
            patience=patience,
            reply=reply,
        )
        self.outbox.add(delivery)
        if reply is not None:
            reply.delivery = delivery
            self.replies.asked(reply)
        return delivery

    def write(self, generation: int, now: float) -> None:
        """Send what of the user's messages may go out on a connection."""
        if self.joining.wanted:
            return  # the server has nobody to give them to
        for delivery in self.outbox.writable(generation, now):
            self._effects.frames.append((generation, delivery.frame))

    def settle_doubts(self) -> None:
        """A replay has settled: what it does not show was not delivered."""
        self.doubts_end_at = None
        for delivery in self.outbox.settle():
            self.undelivered(delivery, "the connection was lost")

    def undelivered(
        self, delivery: Delivery, what: str, cause: Exception | None = None
    ) -> None:
        """A message failed, and with it the answer that was hoped for."""
        error = failure(delivery, what)
        error.__cause__ = cause
        self._effects.settle(delivery, error)
        reply = delivery.reply
        if reply is not None and not reply.done:
            self.replies.forget(reply)
            over = isinstance(cause, (ClientClosedError, SessionEndedError))
            self._effects.settle(reply, cause if over else error)

    def fail_waiting(self, error: Exception) -> None:
        """The conversation cannot go on: tell all that wait for something of it."""
        # The first clause of the error begins those of the messages.
        what = str(error).split(":", 1)[0]
        for delivery in self.outbox.drain():
            self.undelivered(delivery, what, error)
        for ticket in self.replies.drain():
            self._effects.settle(ticket, error)

    # The server speaks

    def take(self, event: Event, now: float, *, live: bool) -> None:
        """Take the next event, in order and for the first time.

        Args:
            event: The event.
            now: The time.
            live: It is not part of a replay.
        """
        sequence = event.sequence
        if sequence is not None:
            self.history.add(event)
            before = self.delivered_before
            if before is not None and sequence <= before:
                self._recall(event, now)
                return
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event, now, live)
            begun = self.replies.begun
            if begun is not None:
                self.replies.begun = None
                if begun.delivery is not None:
                    self.latencies.first_chunk.add(now - begun.delivery.asked_at)
            return
        self.situation.follow(event)
        if self.joining.wanted and type(event) in AGENT_EVENTS:
            self.joining.seen()
        self._effects.news.append(event)

    def wake(self, now: float) -> None:
        """Time has passed: give up on what has taken too long."""
        if self.doubts_end_at is not None and now >= self.doubts_end_at:
            self.settle_doubts()
        self.joining.wake(now)
        for chunks, message in self.streams.due(now):
            self._partial(chunks, message)
        for delivery in self.outbox.due(now):
            self.undelivered(delivery, "the server's receipt did not come in time")

    @property
    def busy(self) -> bool:
        """Whether an answer of the server is due on the connection that speaks."""
        return self.outbox.written or self.joining.pending

    @property
    def unsent(self) -> bool:
        """Whether messages are still to go out that do not wait for an agent."""
        return self.outbox.waiting and not self.joining.wanted

    @property
    def deadline(self) -> float | None:
        """When `wake` has something to do."""
        deadline = self.outbox.deadline
        for at in (self.streams.deadline, self.joining.deadline, self.doubts_end_at):
            if at is not None and (deadline is None or at < deadline):
                deadline = at
        return deadline

    def finish(self) -> None:
        """Nothing more will come: deliver what has come of unfinished replies."""
        for chunks, message in self.streams.finish():
            self._partial(chunks, message)
        self.situation.typing = False

    def _recall(self, event: Event, now: float) -> None:
        """An event that an earlier life has delivered: only remember what it says."""
        self.situation.follow(event)
        if isinstance(event, (PolyAgentMessage, LiveAgentMessage)):
            self.streams.supersede(event.message_id)
        elif isinstance(event, PolyAgentMessageChunk):
            self.streams.add(event, now)
        elif isinstance(event, PolyAgentJoined):
            self.streams.agent = self.situation.agent
        elif isinstance(event, SessionStart):
            self.set_size_limit(event.capabilities.max_message_size_bytes)
        elif isinstance(event, SessionEnd):
            self.finished = event
        if type(event) in AGENT_EVENTS:
            self.joining.seen()

    def _on_session_start(self, event: SessionStart, now: float, live: bool) -> None:
        self.situation.follow(event)
        self.set_size_limit(event.capabilities.max_message_size_bytes)
        self._effects.news.append(event)

    def _on_session_end(self, event: SessionEnd, now: float, live: bool) -> None:
        self.finished = event

    def _on_end_echo(self, event: UserEndSession, now: float, live: bool) -> None:
        self.end_echoed = True
        self._effects.news.append(event)

    def _on_joined(self, event: PolyAgentJoined, now: float, live: bool) -> None:
        self.situation.follow(event)
        self.streams.agent = self.situation.agent
        self.joining.seen()
        self._effects.news.append(event)

    def _on_thinking(self, event: PolyAgentThinking, now: float, live: bool) -> None:
        self.situation.follow(event)
        self.joining.seen()
        self.replies.thinking()
        self._effects.news.append(event)

    def _on_chunk(self, chunk: PolyAgentMessageChunk, now: float, live: bool) -> None:
        self.situation.joined = True
        if self.joining.wanted:
            self.joining.seen()
        due, whole = self.streams.add(chunk, now)
        for part in due:
            self._chunk(part)
        if whole is not None:
            self._whole(whole)

    def _on_message(
        self, message: PolyAgentMessage | LiveAgentMessage, now: float, live: bool
    ) -> None:
        self.joining.seen()
        if not self.streams.supersede(message.message_id):
            return  # the same message under another event id
        self._whole(message)
        if message.end_conversation:
            self.finished = SessionEnd(reason=SessionEndReason.NATURAL_END)

    def _on_user_message(self, echo: UserMessage, now: float, live: bool) -> None:
        delivery = self.outbox.echoed(echo)
        self._effects.news.append(echo)
        if delivery is not None:
            self.latencies.echo.add(now - delivery.asked_at)
            if delivery.reply is not None:
                self.replies.echoed(delivery.reply)
            self._effects.settle(delivery)

    def _on_system_message(self, event: SystemMessage, now: float, live: bool) -> None:
        self.situation.follow(event)
        self._effects.news.append(event)
        if event.level != SystemMessageLevel.ERROR:
            return
        kind = trouble(event.message)
        error = AgentError(event.message, transient=kind.transient)
        answers = self._blame(event.metadata, kind, error)
        if not live:
            return  # what went wrong in the past has been dealt with then
        joining = self.joining
        if kind is Trouble.SESSION_GONE:
            self.disowned = True
        elif kind in _NO_AGENT or (joining.pending and kind in _NOT_NOW):
            self.situation.joined = False
            if not joining.failed(now):
                self.agentless = error
        elif joining.pending and kind is Trouble.MISCONFIGURED:
            joining.wanted = False
            self.agentless = error
        elif kind is Trouble.NO_REPLY and not answers and not self.replies.greeting:
            self.agentless = error  # it is the greeting that failed

    def _blame(
        self, metadata: Mapping[str, str], kind: Trouble, error: AgentError
    ) -> bool:
        """Settle the call that an error answers with it; false if there is none."""
        delivery = self.outbox.find(metadata)
        if delivery is not None:
            self.outbox.forget(delivery)
            self._effects.settle(delivery, error)
            reply = delivery.reply
        else:
            reply = self.replies.named(metadata)
            if reply is None and kind is not Trouble.MISTAKE:
                reply = self.replies.failed()
        if reply is not None:
            self.replies.forget(reply)
            self._effects.settle(reply, error)
        return delivery is not None or reply is not None

    def _chunk(self, chunk: PolyAgentMessageChunk) -> None:
        self._effects.news.append(chunk)
        reply = self.replies.chunk(chunk)
        if reply is not None:
            self._effects.settled.append(reply)  # not done, but there is more to read

    def _whole(self, message: PolyAgentMessage | LiveAgentMessage) -> None:
        self.situation.follow(message)
        self._effects.news.append(message)
        ticket = self.replies.message(message)
        if ticket is not None:
            self._effects.settle(ticket)
        elif self.replies.piled_up():
            self._effects.log(
                logging.WARNING,
                "%d messages wait for receive(), and are kept until it is called",
                len(self.replies.mailbox),
            )

    def _partial(
        self, chunks: list[PolyAgentMessageChunk], message: PolyAgentMessage
    ) -> None:
        for chunk in chunks:
            self._chunk(chunk)
        self._whole(message)


# There is no agent, and it is to be asked for again.
_NO_AGENT = (Trouble.NO_CONVERSATION, Trouble.NOT_STARTED)
# Said while the agent is asked for: the request was not taken.
_NOT_NOW = (Trouble.BUSY, Trouble.UNAVAILABLE)

_HANDLERS: dict[type[Event], Callable[[Dialogue, Any, float, bool], None]] = {
    SessionStart: Dialogue._on_session_start,
    SessionEnd: Dialogue._on_session_end,
    UserMessage: Dialogue._on_user_message,
    UserEndSession: Dialogue._on_end_echo,
    PolyAgentJoined: Dialogue._on_joined,
    PolyAgentThinking: Dialogue._on_thinking,
    PolyAgentMessage: Dialogue._on_message,
    PolyAgentMessageChunk: Dialogue._on_chunk,
    LiveAgentMessage: Dialogue._on_message,
    SystemMessage: Dialogue._on_system_message,
}
