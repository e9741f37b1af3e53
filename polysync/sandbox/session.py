"""One conversation as the server knows it: its history and who is connected to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import attrs

from polysync.sandbox.actions import Action, Close, Delay, Drop, Freeze, Moment, Swallow
from polysync.sandbox.connection import Connection
from polysync.sandbox.conversation import Conversation
from polysync.sandbox.wire import (
    PREFIX,
    TRANSIENT_TYPES,
    Event,
    batch,
    build,
    dumps,
    full_type,
)

if TYPE_CHECKING:
    from polysync.sandbox.context import Context

__all__ = ["Session", "UserMessage"]

NO_CONVERSATION = "Error: Conversation not found"


@attrs.frozen
class UserMessage:
    """A message of the user as the server took it."""

    text: str
    message_id: str
    metadata: Mapping[str, str]


class Session:
    """One conversation on the sandbox.

    What it shows may be read, and its methods called, from any thread.

    Attributes:
        id: The session id.
        context_id: The id that verified context is signed for.
        platform: What the client said that it is.
        streaming: Whether replies come in chunks.
        state: Room for the agent's memory of this conversation.
        joined: Whether the agent takes part.
        live_agent: The human who has taken over, or `None`.
        ended: Whether the conversation is over.
        end_reason: Why, as on the wire; `None` before.
        user_is_typing: The last word of the client about that.
        connection_total: How many connections it has had.
    """

    def __init__(
        self, context: Context, token: str, *, streaming: bool, platform: str
    ) -> None:
        self._context = context
        self._changes = context.changes
        self._access_token = token
        self._history: list[Event] = []
        self._user_messages: list[UserMessage] = []
        self._admitted: set[Connection] = set()
        self._connections: dict[int, Connection] = {}
        self.id = str(uuid4())
        self.context_id = str(uuid4())
        self.platform = platform
        self.streaming = streaming
        self.state: dict[str, Any] = {}
        self.joined = False
        self.live_agent: Mapping[str, Any] | None = None
        self.ended = False
        self.end_reason: str | None = None
        self.user_is_typing = False
        self.connection_total = 0
        self._heard_at = context.running_loop().time()
        self._conversation = Conversation(self, context)
        self._idle_timer: asyncio.TimerHandle | None = None
        self._watch_idleness()

    def __repr__(self) -> str:
        state = "ended" if self.ended else "joined" if self.joined else "open"
        return f"<Session {self.id}: {state}, {len(self._history)} events>"

    # To look at, from any thread.

    @property
    def events(self) -> list[Event]:
        """The permanent history so far, in order, as it is on the wire."""
        with self._changes.lock:
            return list(self._history)

    @property
    def types(self) -> list[str]:
        """The types of `events`, without the ``EVENT_TYPE_`` in front."""
        return [event["type"].removeprefix(PREFIX) for event in self.events]

    @property
    def user_messages(self) -> list[UserMessage]:
        """What the user has said so far, in order."""
        with self._changes.lock:
            return list(self._user_messages)

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._admitted)

    @property
    def recording(self) -> dict[str, Any]:
        """The history as a recording that `RecordedAgent` plays."""
        return {"version": 1, "events": self.events}

    def owned_by(self, access_token: str) -> bool:
        """Say whether this is the token that the session was created with."""
        return access_token == self._access_token

    # To make things happen, from any thread.

    def push(
        self,
        type: str,
        payload: Mapping[str, Any] | None = None,
        *,
        transient: bool | None = None,
        custom: Mapping[str, str] | None = None,
    ) -> Event:
        """Send an event to everyone connected, and return it as it was sent.

        Args:
            type: With or without the ``EVENT_TYPE_`` in front; need not exist.
            payload: Its payload.
            transient: Whether it stays out of the history and has no sequence. By
                default that depends on the type: heartbeats, typing, the queue's
                status and the idle warning are transient.
            custom: Metadata to go under ``custom``.

        Not inside the predicate of `Sandbox.wait_until`, which holds up the sandbox.
        """
        return self._context.call(
            lambda: self.emit(full_type(type), payload, transient, custom)
        )

    def say(self, text: str) -> Event:
        """Let the agent say something unasked, or the live agent if there is one."""

        return self._context.call(lambda: self._conversation.say(text))

    def end(self, reason: str = "REASON_NATURAL_END") -> None:
        """End the conversation: ``SESSION_END``, then close 1000."""
        self._context.call(
            lambda: self.emit(PREFIX + "SESSION_END", {"reason": reason})
        )

    def drop(self, *, reset: bool = True) -> None:
        """End the TCP connections without a close frame; the session goes on."""
        self._to_all(Drop(reset))

    def close(self, code: int = 1011, reason: str = "") -> None:
        """Close the WebSockets properly; the session goes on."""
        self._to_all(Close(code, reason))

    def freeze(self) -> None:
        """Neither read nor write on the connections of now, and keep them open."""
        self._to_all(Freeze())

    def lose_agent(self) -> None:
        """Let the agent be gone without a word: the next message finds nobody."""

        def lose() -> None:
            with self._changes:
                self.joined = False
                self.live_agent = None

        self._context.call(lose)

    def forget(self) -> None:
        """Let the server not know the session any more: 404, and close 4001."""

        def forget() -> None:
            with self._changes:
                self._context.sessions.pop(self.id, None)
            self._to_all(Close(4001, "session not found"))

        self._context.call(forget)

    def expire_token(self) -> None:
        """Let the session's access token have expired."""
        self._context.call(lambda: self._context.tokens.expire(self._access_token))

    def _to_all(self, action: Action) -> None:
        def act() -> None:
            for connection in list(self._connections.values()):
                connection.act(action)

        self._context.call(act)

    # What follows runs on the sandbox's thread alone.

    @property
    def attended(self) -> bool:
        """Whether there is anybody to answer, or about to be."""
        return (
            self.joined
            or self.live_agent is not None
            or self._conversation.handing_over
        )

    def emit(
        self,
        type: str,
        payload: Mapping[str, Any] | None = None,
        transient: bool | None = None,
        custom: Mapping[str, str] | None = None,
    ) -> Event:
        """Record an event, if it is permanent, and send it to everyone."""
        event = self._record(type, payload, transient, custom)
        self._broadcast(event)
        return event

    def attach(self, connection: Connection, cursor: str | None) -> None:
        """Send a new connection the history from its cursor on, then all that comes."""
        missed = self._history[self._seen(cursor) :]
        size = self._context.settings.batch_size
        batches: list[list[Event] | Action] = [
            missed[i : i + size] for i in range(0, len(missed), size)
        ]
        if not batches and self._context.settings.empty_batch:
            batches = [[]]
        for part in connection.replay(missed, batches):
            if isinstance(part, list):
                connection.send(batch(part))
            else:
                connection.act(part, in_turn=True)
        if self.ended:
            connection.act(Close(1000), in_turn=True)
        with self._changes:
            self._connections[connection.number] = connection

    @contextmanager
    def admitting(self, connection: Connection) -> Iterator[None]:
        """Count a connection from its handshake to its end."""
        with self._changes:
            self._admitted.add(connection)
            self._context.connections.add(connection)
        try:
            yield
        finally:
            self.detach(connection)

    def detach(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        with self._changes:
            self._admitted.discard(connection)
            self._context.connections.discard(connection)
            self._connections.pop(connection.number, None)

    def count_connection(self) -> int:
        """Return the number for a new connection."""
        with self._changes:
            self.connection_total += 1
            return self.connection_total

    def touch(self) -> None:
        """Note that the client has said something, whatever it was."""
        self._heard_at = self._context.running_loop().time()

    def take_in_agent(self) -> None:
        """Let the agent take part without a word of it in the history."""
        with self._changes:
            self.joined = True

    def start(self) -> None:
        """Begin the history."""
        settings = self._context.settings
        payload: dict[str, Any] = {"context_id": self.context_id}
        if settings.announce_capabilities:
            capabilities = {
                "streaming": self.streaming,
                "max_message_size_bytes": settings.max_message_size_bytes,
                "max_reconnect_attempts": settings.max_reconnect_attempts,
                "heartbeat_interval_seconds": settings.heartbeat_interval_seconds,
            }
            payload["capabilities"] = {
                name: value for name, value in capabilities.items() if value is not None
            }
        self.emit(PREFIX + "SESSION_START", payload)

    def refuse(self, message: str, custom: Mapping[str, str] | None) -> Event:
        """Tell the client in a system message what is wrong."""
        return self.emit(
            PREFIX + "SYSTEM_MESSAGE",
            {"level": "SYSTEM_MESSAGE_LEVEL_ERROR", "message": message},
            None,
            custom,
        )

    async def receive(
        self, connection: Connection, event: Event, custom: Mapping[str, str] | None
    ) -> None:
        """Do what a valid client event asks for."""
        type, payload = event["type"], event["payload"]
        if type == PREFIX + "HEARTBEAT":
            connection.send(build(type, custom=custom))
        elif self.ended:
            return
        elif type == PREFIX + "USER_TYPING":
            with self._changes:
                self.user_is_typing = payload["state"] == "TYPING_STATE_STARTED"
        elif type == PREFIX + "USER_MESSAGE":
            if not self.attended:
                self.refuse(NO_CONVERSATION, custom)
                return
            message_id = str(uuid4())
            said = {"text": payload["text"], "message_id": message_id}
            echo = await self._echo(connection, type, said, custom)
            self._conversation.answer(echo)
        elif type == PREFIX + "USER_END_SESSION":
            await self._echo(connection, type, {}, custom)
            self.emit(PREFIX + "SESSION_END", {"reason": "REASON_USER_END"})
        else:
            attended = self.attended
            await self._echo(connection, type, {}, custom)
            if not attended:
                self._conversation.greet(custom)

    async def _echo(
        self,
        connection: Connection,
        type: str,
        payload: Mapping[str, Any],
        custom: Mapping[str, str] | None,
    ) -> Event:
        """Record a client's event and send it back, unless something goes wrong."""
        event = self._record(type, payload, None, custom)
        silent = False
        for action in self._context.faults.at(
            Moment.RECORDED,
            type,
            session=self.id,
            connection=connection.number,
            event=event,
        ):
            if isinstance(action, Delay):
                await asyncio.sleep(action.seconds)
            elif isinstance(action, Swallow):
                silent = True
            else:
                connection.act(action)
        if not silent:
            self._broadcast(event)
        return event

    def _record(
        self,
        type: str,
        payload: Mapping[str, Any] | None,
        transient: bool | None,
        custom: Mapping[str, str] | None,
    ) -> Event:
        if transient is None:
            transient = type in TRANSIENT_TYPES
        if transient:
            return build(type, payload, custom=custom)
        with self._changes:
            event = build(type, payload, sequence=len(self._history) + 1, custom=custom)
            self._history.append(event)
            self._take_effect(event)
        return event

    def _take_effect(self, event: Event) -> None:
        """Let the session be what its history says; called with the lock held."""
        type, payload = event["type"], event["payload"]
        if type == PREFIX + "USER_MESSAGE":
            custom = event.get("metadata", {}).get("custom", {})
            self._user_messages.append(
                UserMessage(
                    payload.get("text", ""), payload.get("message_id", ""), custom
                )
            )
        elif type == PREFIX + "POLY_AGENT_JOINED":
            self.joined = True
        elif type == PREFIX + "POLY_AGENT_LEFT":
            self.joined = False
        elif type == PREFIX + "LIVE_AGENT_JOINED":
            self.live_agent = payload.get("agent", payload)
        elif type == PREFIX + "LIVE_AGENT_LEFT":
            self.live_agent = None
        elif type == PREFIX + "SESSION_END":
            if not self.ended:
                self._context.retire(self)
            self.ended = True
            self.end_reason = payload.get("reason")
            if self._idle_timer is not None:
                # It would keep a forgotten session in memory until it is due.
                self._idle_timer.cancel()

    def _broadcast(self, event: Event) -> None:
        text = dumps(event)
        for connection in self._connections.values():
            connection.send(event, text)
        if event["type"] == PREFIX + "SESSION_END":
            for connection in list(self._connections.values()):
                connection.act(Close(1000), in_turn=True)

    def _seen(self, cursor: str | None) -> int:
        """Return how much of the history the cursor covers; an invalid one nothing."""
        if cursor is None or not (cursor.isascii() and cursor.isdigit()):
            return 0
        # Bounded before it is read: a number of many digits takes its time.
        seen = int(cursor) if len(cursor) < 20 else len(self._history) + 1
        return seen if seen <= len(self._history) else 0

    def _watch_idleness(self, warned: bool = False) -> None:
        """Wake when the client may have been silent for too long, and look again."""
        if self.ended:
            return
        loop, settings = self._context.running_loop(), self._context.settings
        silent = loop.time() - self._heard_at
        if silent >= settings.idle_timeout:
            self.emit(PREFIX + "SESSION_END", {"reason": "REASON_USER_ABANDONED"})
            return
        wait = settings.idle_timeout - silent
        if settings.idle_warning is not None:
            until_warning = settings.idle_warning - silent
            if until_warning > 0:
                wait, warned = min(wait, until_warning), False
            elif not warned:
                warned = True
                self.emit(PREFIX + "SESSION_IDLE_WARNING", {})
        self._idle_timer = loop.call_later(wait, self._watch_idleness, warned)
