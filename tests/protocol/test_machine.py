"""A conversation with a model server, under everything that a network may do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from polysync.errors import DeliveryError
from polysync.events import PolyAgentMessage, SessionEnd
from polysync.models import TypingState
from polysync.protocol.inbound import WINDOW
from polysync.protocol.lifeline import CONNECTION_LIFE, RENEW_PATIENCE
from polysync.protocol.outbox import GIVEN_UP
from polysync.protocol.states import Phase
from polysync.protocol.streams import FINISHED
from polysync.protocol.tickets import Delivery, ReplyTicket, Ticket
from tests.protocol.model_server import ModelServer, World
from tests.protocol.script import error

#: Seconds in which everything that can be put right is.
LONG = 400.0

BUSY = "Our system is experiencing high load. Please try again in a moment."

CALAMITIES = (
    "the user ends",
    "the user closes",
    "the start takes too long",
    "the server ends",
    "the server closes",
    "the server disowns",
    "the server forgets",
    "the token expires",
    "the machine sleeps",
)


class ConversationMachine(RuleBasedStateMachine):
    """Each rule is one thing that may happen; the invariants hold after each."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World
        self.server: ModelServer

    @initialize(
        resend=st.booleans(),
        streaming=st.booleans(),
        batch=st.sampled_from((0, 1, 2, 50)),
        stride=st.sampled_from((1, 1, 1, 3)),
        heartbeat=st.sampled_from((None, None, 5.0, 0.0)),
        reconnects=st.sampled_from((None, 2, 0)),
        random=st.floats(0, 1, exclude_max=True),
        begun=st.sampled_from((True, True, True, False)),
        overtakes=st.booleans(),
    )
    def begin(
        self,
        resend: bool,
        streaming: bool,
        batch: int,
        stride: int,
        heartbeat: float | None,
        reconnects: int | None,
        random: float,
        begun: bool,
        overtakes: bool,
    ) -> None:
        self.resend = resend
        self.server = ModelServer(
            streaming=streaming, batch=batch, stride=stride, heartbeat=heartbeat
        )
        # Without echoes there is only silence to go by, which a stall may be too.
        self.blind = heartbeat == 0.0
        self.world = World(
            self.server, random=random, resend=resend, max_reconnects=reconnects
        )
        self.deliveries: list[Delivery] = []
        self.given_up: dict[Delivery, bool] = {}
        self.tickets: list[Ticket] = []
        self.asked: list[tuple[Delivery, ReplyTicket]] = []
        # Answers can be told apart as long as no question was left unanswered.
        self.answered_in_order = True
        self.passed_over = False  # a gap, so that the order could not be kept
        self.stalled = False
        self.interrupted = False  # so that those who waited were told to wait no more
        self.cursors: list[int] = []
        self.news = 0  # where the news of this session begin
        self.server.overtakes = overtakes
        if begun:
            self.tickets.append(self.world.connect())
            self.world.create()
            self.world.run(1.0)

    # What the caller does

    @rule(wait=st.sampled_from(("greeting", "agent", "session")), join=st.booleans())
    def connect(self, wait: str, join: bool) -> None:
        if self.world.phase in (Phase.IDLE, Phase.FAILED) and (
            self.world.conversation.lifeline.session_id is None
        ):
            self.what_is_said_of_a_delivery_is_true()
            self.news = len(self.world.news)
            self.cursors.clear()
        self.tickets.append(self.world.connect(wait, join=join))

    @precondition(lambda self: self.world.phase is Phase.STARTING)
    @rule(works=st.sampled_from((True, True, False)))
    def create(self, works: bool) -> None:
        if works:
            session = self.server.start() if self.world.cursors else "session-1"
            self.world.create(session)
        else:
            self.world.conversation.abandon_start(OSError("no route"))
            self.world.collect()

    @precondition(lambda self: self.world.conversation.at_work)
    @rule(
        number=st.integers(1, 3),
        question=st.booleans(),
        patience=st.sampled_from((None, None, 20.0)),
    )
    def say(self, number: int, question: bool, patience: float | None) -> None:
        for _ in range(number):
            self.say_one(question, patience)

    def say_one(self, question: bool, patience: float | None) -> None:
        reply = ReplyTicket(streaming=True) if question else None
        number = len(self.deliveries)
        text = f"ask {number}" if question else f"say {number}"
        delivery = self.world.say(text, patience=patience, reply=reply)
        self.deliveries.append(delivery)
        if reply is not None:
            self.tickets.append(reply)
            self.asked.append((delivery, reply))

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        delivery = data.draw(st.sampled_from(self.deliveries))
        reply = delivery.reply
        if delivery.done and (reply is None or reply.done):
            return
        if not delivery.done:
            self.given_up[delivery] = delivery.uncertain
        self.world.conversation.give_up(delivery, reply)
        self.world.collect()
        self.answered_in_order = self.answered_in_order and reply is None

    @rule(what=st.sampled_from(("receive", "type", "join")))
    def call(self, what: str) -> None:
        world = self.world
        if what == "receive":
            self.tickets.append(world.receive())
        elif what == "type":
            world.conversation.show_typing(TypingState.STARTED, world.now)
        elif world.conversation.at_work:
            world.conversation.request_join(world.now)
        world.collect()

    # What the network does

    @precondition(lambda self: self.world.upgrades)
    @rule()
    def accept(self) -> None:
        self.world.accept()

    @precondition(lambda self: self.world.upgrades)
    @rule(
        status=st.sampled_from((None, 429, 500, 503)),
        retryable=st.sampled_from((True, True, True, False)),
    )
    def refuse(self, status: int | None, retryable: bool) -> None:
        self.world.refuse(status, retryable=retryable)

    @precondition(lambda self: any(k.up for k in self.world.links.values()))
    @rule(data=st.data(), all_of_it=st.booleans())
    def up(self, data: st.DataObject, all_of_it: bool) -> None:
        links = self.world.links
        generation = data.draw(st.sampled_from([g for g in links if links[g].up]))
        self.world.up(generation)
        while all_of_it and links[generation].up:
            self.world.up(generation)

    @precondition(lambda self: any(k.down for k in self.world.links.values()))
    @rule(data=st.data(), all_of_it=st.booleans())
    def down(self, data: st.DataObject, all_of_it: bool) -> None:
        links = self.world.links
        generation = data.draw(st.sampled_from([g for g in links if links[g].down]))
        self.world.down(generation)
        while all_of_it and generation in links and links[generation].down:
            self.world.down(generation)

    @precondition(lambda self: self.world.links)
    @rule(
        data=st.data(),
        up=st.integers(0, 3),
        down=st.integers(0, 3),
        noticed=st.booleans(),
    )
    def cut(self, data: st.DataObject, up: int, down: int, noticed: bool) -> None:
        generation = data.draw(st.sampled_from(list(self.world.links)))
        self.world.cut(generation, up, down)
        if noticed:
            self.world.notice(generation)

    @precondition(lambda self: self.world.links)
    @rule(
        up=st.integers(0, 3),
        down=st.sampled_from((0, 0, 1, 3)),
        beaten=st.booleans(),
    )
    def reconnect(self, up: int, down: int, beaten: bool) -> None:
        """Every connection is lost, and another is made; its replay is on its way."""
        world = self.world
        for generation in list(world.links):
            world.cut(generation, up, down)
        for generation in list(world.links):
            if generation in world.links:
                world.notice(generation)
        world.later(40.0 if world.phase is Phase.LOST else 0.0)
        if world.upgrades:
            world.accept()
        if beaten and world.links:
            generation = max(world.links)
            while generation in world.links and world.links[generation].up:
                world.up(generation)

    @precondition(
        lambda self: any(k.closing is not None for k in self.world.links.values())
    )
    @rule(data=st.data())
    def notice(self, data: st.DataObject) -> None:
        links = self.world.links
        ends = [g for g in links if links[g].closing is not None]
        self.world.notice(data.draw(st.sampled_from(ends)))

    @precondition(lambda self: self.world.leaving)
    @rule()
    def depart(self) -> None:
        self.world.depart()

    @rule(seconds=st.sampled_from((0.05, 0.3, 1.0, 2.5, 5.0, 12.0, 700.0)))
    def later(self, seconds: float) -> None:
        """Time passes while the network stands still."""
        self.stalled = self.stalled or any(
            link.down or link.up for link in self.world.links.values()
        )
        self.world.later(seconds)

    @rule(seconds=st.sampled_from((0.3, 3.0, 60.0)))
    def run(self, seconds: float) -> None:
        """Time passes while the network works."""
        self.world.run(seconds)

    @precondition(lambda self: self.world.phase is Phase.OPEN)
    @rule(stuck=st.booleans(), steps=st.integers(0, 3))
    def renew(self, stuck: bool, steps: int) -> None:
        """It is time for another connection; the old one may be dead by now."""
        world, lifeline = self.world, self.world.conversation.lifeline
        if stuck and lifeline.generation in world.links:
            world.cut(lifeline.generation)
            self.say_one(False, None)
        if lifeline._renew_at is None:
            return
        lifeline._renew_at = world.now
        world.wake()
        if steps > 0 and world.upgrades:
            world.accept()
            number = max(world.links)
            links = world.links
            while steps > 1 and number in links and links[number].up:
                world.up(number)
            while steps > 1 and number in links and links[number].down:
                world.down(number)
            if steps > 2:
                world.later(RENEW_PATIENCE)

    # What the server does

    @precondition(lambda self: self.server.agent)
    @rule(times=st.integers(1, 4))
    def agent(self, times: int) -> None:
        for _ in range(min(times, len(self.server.agent))):
            self.server.step()

    @precondition(lambda self: self.server.open)
    @rule(what=st.sampled_from(("event", "whisper", "event", "busy", "no agent")))
    def something(self, what: str) -> None:
        match what:
            case "event":
                self.server.emit("LANGUAGE_CHANGED", {"language_code": "en"})
            case "whisper":
                self.server.whisper("LIVE_AGENT_TYPING", {})
            case "busy":
                self.server.emit("SYSTEM_MESSAGE", error(BUSY))
                self.answered_in_order = False
            case "no agent":
                self.server.lose_agent()
                self.answered_in_order = False

    # What happens once in a conversation, or not at all

    @rule(what=st.sampled_from((*CALAMITIES, *["nothing"] * len(CALAMITIES))))
    def calamity(self, what: str) -> None:
        world, server = self.world, self.server
        match what:
            case "the user ends":
                self.tickets.append(world.end())
            case "the user closes":
                world.close()
            case "the start takes too long":
                world.conversation.abandon_start(TimeoutError("too slow"))
                world.collect()
            case "the server ends" if server.open:
                server.end("REASON_NATURAL_END")
            case "the server closes" if server.open:
                server.end(None)
            case "the server disowns" if server.open:
                server.emit("SYSTEM_MESSAGE", error("Error: Session not found"))
                self.answered_in_order = False
            case "the server forgets":
                server.forget()
            case "the token expires" if world.upgrades:
                world.refuse(401)
            case "the machine sleeps":
                world.now += CONNECTION_LIFE
                world.wake()

    # What always holds

    @invariant()
    def holds(self) -> None:
        self.nothing_is_told_twice()
        self.the_order_is_the_servers()
        self.the_cursor_never_goes_back()
        self.no_message_is_taken_twice_and_they_keep_their_order()
        self.nobody_waits_in_vain()
        self.what_is_due_is_not_overdue()
        self.memory_is_bounded()
        self.what_is_said_of_a_delivery_is_true()

    def nothing_is_told_twice(self) -> None:
        told = self.sequences()
        assert len(told) == len(set(told))
        names = [
            item.message_id
            for item in self.world.news[self.news :]
            if isinstance(item, PolyAgentMessage) and item.complete
        ]
        assert len(names) == len(set(names))
        assert len(self.world.told(SessionEnd)) <= 1

    def the_order_is_the_servers(self) -> None:
        inbound = self.world.conversation._inbound
        self.passed_over |= inbound.replay_from != inbound.cursor
        if not self.passed_over:
            told = self.sequences()
            assert told == sorted(told)

    def the_cursor_never_goes_back(self) -> None:
        cursor = self.world.conversation._inbound.cursor
        if cursor is not None:
            self.cursors.append(cursor)
            assert self.cursors == sorted(self.cursors[-2:]) or (
                self.cursors[-2:] == sorted(self.cursors[-2:])
            )

    def no_message_is_taken_twice_and_they_keep_their_order(self) -> None:
        accepted = self.server.accepted
        if self.blind and self.stalled:
            return
        assert len(accepted) == len(set(accepted))
        numbers = [int(name.removeprefix("local-")) for name in accepted]
        assert numbers == sorted(numbers)

    def nobody_waits_in_vain(self) -> None:
        conversation = self.world.conversation
        if not conversation.begun:
            self.interrupted = True
            waiting = [t for t in (*self.tickets, *self.deliveries) if not t.done]
            assert waiting == []

    def what_is_due_is_not_overdue(self) -> None:
        deadline = self.world.conversation.deadline
        if not self.world.conversation.begun:
            assert deadline is None

    def memory_is_bounded(self) -> None:
        conversation = self.world.conversation
        inbound, dialogue = conversation._inbound, conversation.dialogue
        assert len(inbound._seen) <= 2 * WINDOW + len(inbound._held)
        assert len(dialogue.outbox._given_up) <= GIVEN_UP
        assert len(dialogue.streams._finished) <= FINISHED
        assert len(dialogue.replies._claims) <= 1 + len(dialogue.streams._streams)

    def sequences(self) -> list[int]:
        return [
            item.sequence
            for item in self.world.news[self.news :]
            if getattr(item, "sequence", None) is not None
            and not getattr(item, "assembled", False)
        ]

    def what_is_said_of_a_delivery_is_true(self) -> None:
        accepted = set(self.server.accepted)
        certain = [
            delivery
            for delivery in self.deliveries
            if isinstance(delivery.error, DeliveryError)
            and not delivery.error.uncertain
        ]
        certain += [d for d, uncertain in self.given_up.items() if not uncertain]
        for delivery in self.deliveries:
            assert delivery.result is None or delivery.id in accepted
        if not (self.blind and self.stalled):
            assert not [delivery for delivery in certain if delivery.id in accepted]

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.server.overtakes = False
        world, conversation = self.world, self.world.conversation
        if world.phase is Phase.STARTING:
            world.create("session-1")
        world.run(LONG)
        self.holds()
        if conversation.at_work or conversation.end is not None:
            self.check_that_all_is_told()
        if conversation.at_work:
            assert conversation.phase is Phase.OPEN
            deadline = conversation.deadline
            assert deadline is None or deadline >= world.now
            self.check_that_all_is_delivered()

    def check_that_all_is_told(self) -> None:
        history = [event["sequence"] for event in self.server.history]
        told = self.sequences()
        if self.world.conversation.end is not None:
            # Nothing follows the end, which may come without a word.
            assert set(told) <= set(history)
            if self.server.history[-1]["type"] == "EVENT_TYPE_SESSION_END":
                assert sorted(told) == history
        else:
            assert sorted(told) == history
            messages = {
                item.message_id: item.text
                for item in self.world.news[self.news :]
                if isinstance(item, PolyAgentMessage) and item.complete
            }
            assert messages == self.server.said

    def check_that_all_is_delivered(self) -> None:
        joining = self.world.conversation.dialogue.joining
        for delivery in self.deliveries:
            assert delivery.done or joining.wanted
            # Who keeps no time of his own is not told that a message has failed, but
            # for an error of the server's, as long as the conversation goes on.
            if self.resend and not self.interrupted and delivery.patience is None:
                assert not isinstance(delivery.error, DeliveryError)
        if self.answered_in_order and not any(r.error for _, r in self.asked):
            for delivery, reply in self.asked:
                if reply.result is not None:
                    assert reply.result.text == f"re {delivery.id}"


ConversationMachine.TestCase.settings = settings(
    max_examples=400,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
# To make a failure short takes minutes.
TestConversation: Any = pytest.mark.timeout(900)(ConversationMachine.TestCase)
