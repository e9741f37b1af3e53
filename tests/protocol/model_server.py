"""A server of the protocol in memory, and a network that may do anything to it.

`ModelServer` keeps one session as the protocol has it: the history, the cursor, the
echoes, the agent that joins and answers, the end. It has no time and no threads:
whatever is on its way waits until the test moves it.

`World` stands between it and a `Conversation`. Nothing arrives by itself; each method
is one thing that may happen. What the conversation may never do is asserted here.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import attrs

from polysync.protocol.effects import Connect, CreateSession, Disconnect, Upgrade
from polysync.protocol.states import Phase
from tests.protocol.script import Script, Wire, chunk, error

NO_CONVERSATION = error("Error: Conversation not found")


@attrs.define(eq=False)
class Link:
    """One connection, with what is on its way in both directions.

    What the server sends together comes in groups: between two groups the network may
    stall, within one it does not.
    """

    up: deque[str] = attrs.field(factory=deque)
    down: deque[list[str]] = attrs.field(factory=deque)
    #: How many groups at the front are part of the replay.
    replay: int = 0
    #: The code that the server closes with when all is sent; -1 for a cut wire.
    closing: int | None = None


class ModelServer:
    """The server's side of one session.

    Args:
        streaming: Whether the agent answers in chunks.
        batch: How many events of a replay go into a batch; 0 for single frames.
        stride: What a sequence is ahead of the one before.
        heartbeat: The interval that the session asks for, in seconds.
    """

    def __init__(
        self,
        *,
        streaming: bool = True,
        batch: int = 2,
        stride: int = 1,
        heartbeat: float | None = None,
    ) -> None:
        self.streaming = streaming
        self.batch = batch
        self.stride = stride
        self.heartbeat = heartbeat
        self.sessions = 0
        #: Whether live frames overtake a replay that is on its way.
        self.overtakes = False
        #: The ids of all messages taken in, in order, over all sessions.
        self.accepted: list[str] = []
        self.start()

    def start(self) -> str:
        """Make a session; the one before, if any, is forgotten."""
        self.sessions += 1
        self.history: list[Wire] = []
        self.links: dict[int, Link] = {}
        self.attended = False
        self.ended = False
        self.known = True
        # What the agent is about to say, event by event.
        self.agent: deque[tuple[str, Wire]] = deque()
        #: The texts of the messages that the agent has said in whole.
        self.said: dict[str, str] = {}
        capabilities = (
            {}
            if self.heartbeat is None
            else {"heartbeat_interval_seconds": self.heartbeat}
        )
        self.record("SESSION_START", {"capabilities": capabilities})
        return f"session-{self.sessions}"

    # Connections

    def attach(self, generation: int, cursor: int | None) -> None:
        """Take a connection, and send what comes after its cursor."""
        link = self.links[generation] = Link()
        missed = [e for e in self.history if cursor is None or e["sequence"] > cursor]
        size = self.batch or 1
        for at in range(0, len(missed), size):
            part = missed[at : at + size]
            frames = [batch(part)] if self.batch else [json.dumps(e) for e in part]
            link.down.append(frames)
        if not missed and self.batch:
            link.down.append([batch([])])
        link.replay = len(link.down)
        if self.ended:
            link.closing = 1000

    def take(self, generation: int, text: str) -> None:
        """Do what a frame of the client asks for."""
        frame = json.loads(text)
        name = frame["type"].removeprefix("EVENT_TYPE_")
        custom = frame.get("metadata", {}).get("custom")
        if name == "HEARTBEAT":
            self.send(self.links[generation], self.event(name, {}, None, custom))
        elif not self.open or name == "USER_TYPING":
            pass
        elif name == "USER_MESSAGE":
            if not self.attended:
                self.emit("SYSTEM_MESSAGE", NO_CONVERSATION, custom)
                return
            self.accepted.append(custom["local_id"])
            number = len(self.accepted)
            said = {**frame["payload"], "message_id": f"user-{number}"}
            self.emit(name, said, custom)
            if said["text"].startswith("ask"):
                self.agent.append(("POLY_AGENT_THINKING", {}))
                self.speak(f"answer-{number}", f"re {custom['local_id']}")
        elif name == "USER_END_SESSION":
            self.emit(name, {}, custom)
            self.end("REASON_USER_END")
        else:
            self.emit(name, {}, custom)
            if not self.attended:
                self.attended = True
                self.emit("POLY_AGENT_JOINED", {"agent_name": "Ada"})
                self.emit("POLY_AGENT_THINKING", {})
                self.speak(f"greeting-{len(self.history)}", "Hi there!")

    @property
    def open(self) -> bool:
        """Whether the session goes on."""
        return self.known and not self.ended

    # What happens on the server

    def speak(self, message_id: str, text: str) -> None:
        """Let the agent prepare a message."""
        if not self.streaming:
            payload = {"message_id": message_id, "text": text}
            self.agent.append(("POLY_AGENT_MESSAGE", payload))
            return
        words = text.split(" ")
        for index, word in enumerate(words, 1):
            last = index == len(words)
            part = chunk(message_id, index, word if last else f"{word} ", last=last)
            self.agent.append(("POLY_AGENT_MESSAGE_CHUNK", part))

    def step(self) -> None:
        """Let the agent bring out the next event of what it has prepared."""
        name, payload = self.agent.popleft()
        self.emit(name, payload)
        if name == "POLY_AGENT_MESSAGE" or payload.get("is_complete"):
            key = payload["message_id"]
            self.said[key] = "".join(
                e["payload"]["text"]
                for e in self.history
                if e["payload"].get("message_id") == key
            )

    def lose_agent(self) -> None:
        """Nobody is in the conversation any more, and nobody is told."""
        self.attended = False
        self.agent.clear()

    def end(self, reason: str | None) -> None:
        """End the conversation, with SESSION_END if there is a reason."""
        if reason is not None:
            self.emit("SESSION_END", {"reason": reason})
        self.ended = True
        self.agent.clear()
        for link in self.links.values():
            link.closing = 1000

    def forget(self) -> None:
        """Know the session no more."""
        self.known = False
        self.agent.clear()
        for link in self.links.values():
            link.closing = 4001

    def emit(self, name: str, payload: Wire, custom: Any = None) -> Wire:
        """Record an event and send it to everybody."""
        event = self.record(name, payload, custom)
        for link in self.links.values():
            self.send(link, event)
        return event

    def whisper(self, name: str, payload: Wire) -> None:
        """Send something passing to everybody."""
        for link in self.links.values():
            self.send(link, self.event(name, payload, None))

    def record(self, name: str, payload: Wire, custom: Any = None) -> Wire:
        last = self.history[-1]["sequence"] if self.history else 0
        event = self.event(name, payload, last + self.stride, custom)
        self.history.append(event)
        return event

    def event(
        self, name: str, payload: Wire, sequence: int | None, custom: Any = None
    ) -> Wire:
        event = {
            "id": None if sequence is None else f"{self.sessions}-{sequence}",
            "sequence": sequence,
            "timestamp": "2026-08-01T12:00:00Z",
            "type": f"EVENT_TYPE_{name}",
            "payload": payload,
        }
        if custom is not None:
            event["metadata"] = {"custom": custom}
        return event

    def send(self, link: Link, event: Wire) -> None:
        if link.closing is not None:
            return
        frame = json.dumps(event)
        if self.overtakes and link.replay:
            # It comes before the rest of the replay, though not long before it.
            rest = [f for _ in range(link.replay) for f in link.down.popleft()]
            link.down.appendleft([frame, *rest])
            link.replay = 1
        else:
            link.down.append([frame])


def batch(events: list[Wire]) -> str:
    payload = {"events": events}
    return json.dumps({"type": "EVENT_TYPE_EVENT_BATCH", "payload": payload})


class World(Script):
    """A conversation, a server and a network between them.

    Attributes:
        upgrades: The handshakes that the server has not answered, with their cursors.
        leaving: The connections that the conversation has left, and whose end it has
            not been told of.
    """

    def __init__(self, server: ModelServer, **settings: Any) -> None:
        super().__init__(**settings)
        self.server = server
        self.upgrades: dict[int, int | None] = {}
        self.leaving: list[int] = []
        self.links: dict[int, Link] = {}  # as the client knows them
        self.connected = 0

    # What may happen next

    def accept(self, generation: int | None = None) -> None:
        number = next(iter(self.upgrades)) if generation is None else generation
        cursor = self.upgrades.pop(number)
        if not self.server.known:
            self.drop(None, generation=number, status=404)
            return
        self.server.attach(number, cursor)
        self.links[number] = self.server.links[number]
        super().accept(number)

    def refuse(self, status: int | None = None, **loss: Any) -> None:
        number = next(iter(self.upgrades))
        del self.upgrades[number]
        self.drop(None, generation=number, status=status, **loss)

    def up(self, generation: int) -> None:
        """A frame reaches the server, if anything still does."""
        text = self.links[generation].up.popleft()
        if generation in self.server.links:
            self.server.take(generation, text)

    def down(self, generation: int) -> None:
        """A group of frames reaches the client."""
        link = self.links[generation]
        link.replay = max(0, link.replay - 1)
        for frame in link.down.popleft():
            self.frame(frame, generation)

    def cut(self, generation: int, up: int = 0, down: int = 0) -> None:
        """The wire is cut; some of what was on its way arrives all the same."""
        link = self.links[generation]
        for _ in range(min(up, len(link.up))):
            self.up(generation)
        self.server.links.pop(generation, None)
        while len(link.down) > down:
            link.down.pop()
        link.closing = -1

    def notice(self, generation: int) -> None:
        """The client reads what has arrived, and then the end of the connection."""
        link = self.links[generation]
        while link.down and generation in self.links:
            self.down(generation)
        if self.links.pop(generation, None) is None:
            return  # it has left the connection because of what it read
        self.server.links.pop(generation, None)
        code = 1006 if link.closing in (None, -1) else link.closing
        self.drop(code, generation=generation, opened=True)

    def depart(self) -> None:
        """The client is told of the end of a connection that it has left."""
        self.drop(1000, generation=self.leaving.pop(0), opened=True)

    # All of it, for as long as it takes

    def pump(self) -> None:
        """Let the network do all it has to do, without losing anything."""
        moved = True
        while moved:
            moved = bool(self.upgrades or self.leaving or self.server.agent)
            for number in list(self.upgrades):
                self.accept(number)
            while self.leaving:
                self.depart()
            for generation, link in list(self.links.items()):
                while link.up and generation in self.links:
                    self.up(generation)
                    moved = True
                while link.down and generation in self.links:
                    self.down(generation)
                    moved = True
                if link.closing is not None and generation in self.links:
                    self.notice(generation)
                    moved = True
            while self.server.agent:
                self.server.step()

    def run(self, seconds: float) -> None:
        """Let time pass on a network that works."""
        until = self.now + seconds
        self.pump()
        for _ in range(10_000):
            deadline = self.conversation.deadline
            if deadline is None or deadline > until:
                break
            self.now = max(self.now, deadline)
            self.wake()
            self.pump()
        else:
            raise AssertionError("the conversation cannot be satisfied by waking it")
        self.now = until

    # What the conversation orders

    def collect(self) -> None:
        effects = self.conversation.effects
        frames, orders = list(effects.frames), list(effects.orders)
        super().collect()
        for generation, text in frames:
            assert generation in self.links, "a frame for a connection that is not open"
            self.links[generation].up.append(text)
        for order in orders:
            match order:
                case CreateSession():
                    assert self.phase is Phase.STARTING
                case Connect(number):
                    assert not self.conversation.over, "nothing opens after the end"
                    assert number == self.connected + 1
                    self.connected = number
                case Upgrade(number, cursor):
                    assert number <= self.connected
                    self.upgrades[number] = cursor
                case Disconnect(number, _, abort):
                    self.leave(number, abort=abort)
        assert len(self.links) + len(self.upgrades) <= 2

    def leave(self, generation: int, *, abort: bool) -> None:
        """The client leaves a connection; what it has written goes out before."""
        self.upgrades.pop(generation, None)
        link = self.links.pop(generation, None)
        self.leaving.append(generation)
        if link is None:
            return
        while link.up and not abort and generation in self.server.links:
            self.server.take(generation, link.up.popleft())
        self.server.links.pop(generation, None)
