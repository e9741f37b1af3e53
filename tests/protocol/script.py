"""Plays the server, the clock and the caller to a `Conversation`, line by line.

::

    script = Script()
    script.open()                      # session, socket, SESSION_START
    script.hear("POLY_AGENT_JOINED", {"agent_name": "Ada"})
    reply = script.ask("Hello?")
    script.drop()
    script.later(1.0)

Frames are plain JSON, as the server writes them. Time passes only when a line says so,
and then the conversation is woken whenever it asked to be.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from polysync.events import Event
from polysync.models import Agent, Capabilities, ConnectionChange
from polysync.protocol.conversation import Conversation
from polysync.protocol.effects import Connect, CreateSession, Disconnect, Order, Upgrade
from polysync.protocol.inbound import BEGINNING_WAIT
from polysync.protocol.loss import Loss
from polysync.protocol.settings import Settings
from polysync.protocol.states import Phase
from polysync.protocol.tickets import (
    ConnectTicket,
    Delivery,
    EndTicket,
    MessageTicket,
    ReplyTicket,
    Ticket,
)

Wire = dict[str, Any]

NEXT = object()

#: No test of a rule needs the conversation to be woken this often in a row.
MOST_WAKES = 10_000


def error(message: str) -> Wire:
    """The payload of a system message at level error."""
    return {"level": "SYSTEM_MESSAGE_LEVEL_ERROR", "message": message}


def chunk(message_id: str | None, index: int | None, text: str, **more: Any) -> Wire:
    """The payload of a chunk; ``last=True`` marks the last one."""
    payload = {"text": text, "is_complete": more.pop("last", False), **more}
    if message_id is not None:
        payload["message_id"] = message_id
    if index is not None:
        payload["chunk_index"] = index
    return payload


class Pen:
    """Writes events as the server does, numbered one after the other."""

    def __init__(self) -> None:
        self.sequence = 0

    def __call__(
        self,
        name: str,
        payload: Wire | None = None,
        *,
        sequence: Any = NEXT,
        id: Any = NEXT,
        custom: dict[str, str] | None = None,
    ) -> Wire:
        if sequence is NEXT:
            self.sequence += 1
            sequence = self.sequence
        elif sequence is not None:
            self.sequence = max(self.sequence, sequence)
        event: Wire = {
            "id": f"event-{name}-{sequence}" if id is NEXT else id,
            "sequence": sequence,
            "timestamp": "2026-08-01T12:00:00Z",
            "type": f"EVENT_TYPE_{name}",
            "payload": payload or {},
        }
        if sequence is None and id is NEXT:
            event["id"] = None
        if custom is not None:
            event["metadata"] = {"custom": custom}
        return event


class Script:
    """One conversation with everything around it played by the test.

    Attributes:
        now: The time, in seconds.
        news: What the user was told so far: events, changes, errors.
        written: What was written so far, each as (generation, name, frame).
        orders: The orders so far.
        settled: The tickets that were settled so far.
    """

    def __init__(self, *, random: float = 0.5, **settings: Any) -> None:
        self.now = 1000.0
        self.conversation = Conversation(Settings(**settings), lambda: random)
        self.write = Pen()
        self.news: list[Any] = []
        self.written: list[tuple[int, str, Wire]] = []
        self.orders: list[Order] = []
        self.settled: list[Ticket] = []
        self.deliveries = 0

    # What the caller does

    def connect(self, wait: str = "greeting", *, join: bool = True) -> ConnectTicket:
        ticket = ConnectTicket(wait)
        self.conversation.connect(ticket, join, self.now)
        self.collect()
        return ticket

    def say(self, text: str = "Hello", **more: Any) -> Delivery:
        self.deliveries += 1
        delivery = self.conversation.send(
            f"local-{self.deliveries}",
            text,
            more.pop("metadata", {}),
            patience=more.pop("patience", None),
            reply=more.pop("reply", None),
            now=self.now,
        )
        assert not more
        self.collect()
        return delivery

    def ask(self, text: str = "Hello?", *, streaming: bool = False) -> ReplyTicket:
        reply = ReplyTicket(streaming=streaming)
        self.say(text, reply=reply)
        return reply

    def receive(self) -> MessageTicket:
        ticket = MessageTicket()
        self.conversation.receive(ticket)
        self.collect()
        return ticket

    def end(self) -> EndTicket:
        ticket = EndTicket()
        self.conversation.request_end(ticket, self.now)
        self.collect()
        return ticket

    def close(self) -> None:
        self.conversation.close()
        self.collect()

    # What the world does

    def create(self, session_id: str = "session-1") -> None:
        """There is a session."""
        self.conversation.session_created(session_id)
        self.collect()

    def accept(self, generation: int | None = None) -> None:
        """The server takes a connection; by default the latest that was asked for."""
        number = self.generation if generation is None else generation
        self.conversation.opened(number, self.now)
        self.collect()

    def frame(self, frame: str | bytes, generation: int | None = None) -> None:
        """A frame comes, by default on the latest connection."""
        number = self.generation if generation is None else generation
        self.conversation.received(number, frame, self.now)
        self.collect()

    def hear(
        self,
        name: str,
        payload: Wire | None = None,
        *,
        generation: int | None = None,
        **more: Any,
    ) -> Wire:
        """An event comes in a frame of its own; it is returned."""
        event = self.write(name, payload, **more)
        self.get(event, generation=generation)
        return event

    def get(self, *events: Wire, generation: int | None = None) -> None:
        """Events come, each in a frame of its own."""
        for event in events:
            self.frame(json.dumps(event), generation)

    def batch(self, *events: Wire, generation: int | None = None) -> None:
        """Events come in one batch."""
        payload = {"events": list(events)}
        frame = {"type": "EVENT_TYPE_EVENT_BATCH", "payload": payload}
        self.frame(json.dumps(frame), generation)

    def beat(self, generation: int | None = None) -> None:
        """The echo of a heartbeat comes."""
        self.hear("HEARTBEAT", sequence=None, generation=generation)

    def echo(self, delivery: Delivery, **more: Any) -> Wire:
        """The server takes a message and says so."""
        event = self.write("USER_MESSAGE", **self.receipt(delivery))
        self.get(event, **more)
        return event

    @staticmethod
    def receipt(delivery: Delivery) -> Wire:
        """What the echo of a message says."""
        sent = json.loads(delivery.frame)
        payload = {**sent["payload"], "message_id": f"server-{delivery.id}"}
        return {"payload": payload, "custom": sent["metadata"]["custom"]}

    def answer(self, text: str = "Certainly.", **more: Any) -> Wire:
        """The agent says something, whole."""
        number = self.write.sequence + 1
        payload = {"message_id": f"message-{number}", "text": text, **more}
        return self.hear("POLY_AGENT_MESSAGE", payload)

    def drop(
        self,
        close_code: int | None = 1006,
        *,
        generation: int | None = None,
        **loss: Any,
    ) -> None:
        """A connection is lost, by default the latest."""
        number = self.generation if generation is None else generation
        reason = loss.pop("reason", "cut off")
        self.conversation.lost(
            number, Loss(close_code=close_code, reason=reason, **loss), self.now
        )
        self.collect()

    def refuse(self, status: int | None = None, **loss: Any) -> None:
        """The latest connection does not come about."""
        self.drop(None, status=status, **loss)

    def later(self, seconds: float) -> None:
        """Time passes, and the conversation is woken whenever it asked to be."""
        until = self.now + seconds
        for _ in range(MOST_WAKES):
            deadline = self.conversation.deadline
            if deadline is None or deadline > until:
                break
            self.now = max(self.now, deadline)
            self.wake()
        else:
            raise AssertionError("the conversation cannot be satisfied by waking it")
        self.now = until

    def wake(self) -> None:
        """The conversation is woken now."""
        self.conversation.wake(self.now)
        self.collect()

    # Long stretches in one line

    def open(self, *, join: bool = True, **capabilities: Any) -> ConnectTicket:
        """A new session begins: connect, create, open, SESSION_START."""
        ticket = self.connect(join=join, wait="greeting" if join else "session")
        self.create()
        self.accept()
        self.begin(**capabilities)
        return ticket

    def begin(self, **capabilities: Any) -> None:
        """All that the history of a new session holds: its start."""
        self.batch(self.start(**capabilities))
        self.later(BEGINNING_WAIT)

    def start(self, **capabilities: Any) -> Wire:
        return self.write("SESSION_START", {"capabilities": capabilities})

    def greet(self, **capabilities: Any) -> ConnectTicket:
        """A new session begins, the agent joins and says hello."""
        ticket = self.open(**capabilities)
        self.hear("REQUEST_POLY_AGENT_JOIN")
        self.hear("POLY_AGENT_JOINED", {"agent_name": "Ada"})
        self.hear("POLY_AGENT_THINKING")
        self.answer("Hi!")
        return ticket

    def resume(
        self,
        *,
        cursor: int | None = 10,
        joined: bool = True,
        replay: bool = False,
        agent: Agent | None = None,
        **asked: Any,
    ) -> None:
        """A session of an earlier life is taken up."""
        self.write.sequence = cursor or 0
        self.conversation.resume(
            "session-1",
            cursor=cursor,
            agent=agent,
            joined=joined,
            asked=Capabilities(**asked),
            replay=replay,
        )

    def back(self, *missed: Wire) -> None:
        """After a loss: the next connection opens and replays what was missed."""
        self.later(60.0 if self.conversation.phase is Phase.LOST else 0.0)
        self.accept()
        self.batch(*missed)
        self.beat()
        self.later(0.2)

    # What came of it

    def collect(self) -> None:
        """Take over what the last step has led to."""
        effects = self.conversation.effects
        self.news += effects.news
        self.orders += effects.orders
        self.settled += effects.settled
        for generation, text in effects.frames:
            frame = json.loads(text)
            name = frame["type"].removeprefix("EVENT_TYPE_")
            self.written.append((generation, name, frame))
        for part in (effects.news, effects.orders, effects.settled, effects.frames):
            part.clear()

    @property
    def phase(self) -> Phase:
        return self.conversation.phase

    @property
    def generation(self) -> int:
        """The latest connection that was asked for."""
        return next(o.generation for o in reversed(self.orders) if type(o) is Connect)

    @property
    def cursors(self) -> list[int | None]:
        """The cursors of all upgrades so far."""
        return [order.cursor for order in self.orders if isinstance(order, Upgrade)]

    @property
    def sessions(self) -> int:
        """How often a session was asked for."""
        return sum(isinstance(order, CreateSession) for order in self.orders)

    @property
    def disconnected(self) -> list[tuple[int, int, bool]]:
        """All disconnections so far: generation, code, whether aborted."""
        return [
            (order.generation, order.code, order.abort)
            for order in self.orders
            if isinstance(order, Disconnect)
        ]

    def sent(self, name: str, generation: int | None = None) -> list[Wire]:
        """All frames of a type that were written, on all connections or on one."""
        return [
            frame
            for number, kind, frame in self.written
            if kind == name and generation in (None, number)
        ]

    @property
    def texts(self) -> list[str]:
        """The user's messages that were written so far."""
        return [frame["payload"]["text"] for frame in self.sent("USER_MESSAGE")]

    @property
    def events(self) -> list[Event]:
        """The events that the user was told, without heartbeats."""
        return [
            item
            for item in self.news
            if isinstance(item, Event) and item.type != "EVENT_TYPE_HEARTBEAT"
        ]

    def told(self, kind: type[Event]) -> list[Any]:
        """The events of a type that the user was told."""
        return [item for item in self.news if type(item) is kind]

    @property
    def sequences(self) -> list[int]:
        """The sequences of the events that the user was told, as the server sent."""
        return [
            event.sequence
            for event in self.events
            if event.sequence is not None and not getattr(event, "assembled", False)
        ]

    @property
    def statuses(self) -> list[str]:
        return [item.status.value for item in self.changes]

    @property
    def changes(self) -> list[ConnectionChange]:
        return [item for item in self.news if isinstance(item, ConnectionChange)]

    def errors(self) -> Iterator[Exception]:
        return (item for item in self.news if isinstance(item, Exception))
