"""One conversation: frames and calls go in; events, frames and orders come out.

This package knows the protocol's rules and no socket, thread or clock: every method
takes the time as ``now``, in monotonic seconds. What is to happen outside is left in
`Conversation.effects`, which the runtime empties after each call and carries out in
order. `Conversation.deadline` says when `Conversation.wake` is to be called next.

A frame takes one way through the house: the codec reads it, `Inbound` puts its events
in order, `Dialogue` understands them. `Lifeline` keeps the connections. This module
joins the four and knows what none of them knows alone: when to speak, and when it is
all over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from polysync.errors import (
    ClientClosedError,
    PolysyncError,
    ProtocolError,
    SessionEndedError,
)
from polysync.events import (
    Event,
    Heartbeat,
    Message,
    RequestPolyAgentJoin,
    SessionEnd,
    SessionStart,
    SystemMessage,
    UserEndSession,
    UserTyping,
)
from polysync.models import Agent, Capabilities, SessionEndReason, TypingState
from polysync.protocol.codec import encode, parse
from polysync.protocol.dialogue import Dialogue
from polysync.protocol.effects import CreateSession, Effects
from polysync.protocol.inbound import SETTLE_WAITS, Inbound
from polysync.protocol.lifeline import Fate, Lifeline
from polysync.protocol.loss import Loss
from polysync.protocol.milestones import Milestones
from polysync.protocol.replies import Replies
from polysync.protocol.settings import Settings
from polysync.protocol.situation import Situation
from polysync.protocol.states import Happening, Phase
from polysync.protocol.tickets import (
    ConnectTicket,
    Delivery,
    EndTicket,
    MessageTicket,
    ReplyTicket,
)
from polysync.protocol.typing_indicator import TypingIndicator

__all__ = ["Conversation"]

_JOIN = encode(RequestPolyAgentJoin())
_END = encode(UserEndSession())

_AT_WORK = frozenset({Phase.CONNECTING, Phase.REPLAYING, Phase.OPEN, Phase.LOST})
_CONNECTED = frozenset({Phase.REPLAYING, Phase.OPEN})
_OVER = frozenset({Phase.ENDED, Phase.CLOSED})

#: Seconds after a batch in which a server that has never echoed a heartbeat, and maybe
#: never will, may still show what seems to be missing.
UNPROVEN_WAIT = 5.0

# What a server may send on every connection without getting anywhere.
_IDLE_TALK = frozenset(
    {Heartbeat, RequestPolyAgentJoin, SessionStart, SystemMessage, UserEndSession}
)


class Conversation:
    """The rules of one conversation with one session.

    Args:
        settings: What the user has set.
        random: Gives numbers in [0, 1), for jitter.
        generation: The number of the last connection that was made before.
    """

    def __init__(
        self,
        settings: Settings,
        random: Callable[[], float],
        generation: int = 0,
    ) -> None:
        self.effects = Effects()
        self.lifeline = Lifeline(settings, self.effects, random, generation)
        self.dialogue = Dialogue(settings, self.effects)
        #: How the conversation ended, once it has.
        self.end: SessionEnd | None = None
        self._inbound = Inbound()
        self._typing = TypingIndicator()
        self._fresh = True  # the session has no history that is not known here
        self._milestones = Milestones(self.effects)
        self._ends: list[EndTicket] = []
        self._end_wanted = False
        self._end_asked_on: int | None = None

    # What is there to see

    @property
    def phase(self) -> Phase:
        """Where the conversation is in its life."""
        return self.lifeline.phase

    @property
    def over(self) -> bool:
        """Whether the conversation has ended or been closed."""
        return self.phase in _OVER

    @property
    def failed(self) -> bool:
        """Whether the conversation cannot go on unless somebody tries again."""
        return self.phase is Phase.FAILED

    @property
    def at_work(self) -> bool:
        """Whether there is a session that messages can go to, now or in a while."""
        return self.phase in _AT_WORK

    @property
    def begun(self) -> bool:
        """Whether a session is there or being asked for."""
        return self.phase in _AT_WORK or self.phase is Phase.STARTING

    @property
    def situation(self) -> Situation:
        """What the events so far add up to."""
        return self.dialogue.situation

    @property
    def cursor(self) -> int | None:
        """Sequence from which an heir of this conversation is to go on.

        It lies before the chunks of a message that is not whole yet, as an heir
        cannot assemble it from the rest.
        """
        earliest, cursor = self.dialogue.streams.earliest, self._inbound.cursor
        if earliest is None or cursor is None:
            return cursor
        return min(cursor, earliest - 1)

    @property
    def deadline(self) -> float | None:
        """When `wake` has something to do."""
        if self.phase not in _CONNECTED:
            return self.lifeline.deadline if self.phase is Phase.LOST else None
        deadline = self.lifeline.deadline
        for at in (
            self._inbound.deadline,
            self.dialogue.deadline,
            self._typing.deadline,
        ):
            if at is not None and (deadline is None or at < deadline):
                deadline = at
        return deadline

    def gone(self) -> PolysyncError:
        """The error for a call on a conversation that cannot go on."""
        if self.failed and self.lifeline.failure is not None:
            return self.lifeline.failure
        if self.over:
            return self._why_over()
        return ClientClosedError(
            "the client is not connected: call connect() first, or use it in a with "
            "statement"
        )

    # Beginning

    def resume(
        self,
        session_id: str,
        *,
        cursor: int | None,
        agent: Agent | None,
        joined: bool,
        asked: Capabilities,
        replay: bool,
    ) -> None:
        """Take up a session of an earlier life, before `connect`.

        Args:
            session_id: The session.
            cursor: Sequence up to which its events were delivered.
            agent: Who speaks.
            joined: Whether the agent has joined.
            asked: What the server asked for at the start of the session.
            replay: Whether to have the whole history sent again; what lies up to the
                cursor then goes into the history alone.
        """
        self.lifeline.session_id = session_id
        self.lifeline.resumed = True
        self.lifeline.configure(asked, 0.0)
        self._fresh = False
        self._inbound = Inbound(None if replay else cursor)
        dialogue = self.dialogue
        dialogue.delivered_before = cursor
        dialogue.replies = Replies(greeted=joined)
        dialogue.set_size_limit(asked.max_message_size_bytes)
        dialogue.situation.joined = joined
        dialogue.situation.agent = dialogue.streams.agent = agent

    def connect(self, ticket: ConnectTicket, join: bool, now: float) -> None:
        """Begin, or try again after a failure; settle the ticket when it is done."""
        if self.over:
            self.effects.settle(ticket, self._why_over())
            return
        self._milestones.add(ticket)
        self.dialogue.agentless = None
        joining, wanted = self.dialogue.joining, join and not self.situation.joined
        if self.phase in (Phase.IDLE, Phase.FAILED):
            joining.begin(wanted)
            self.lifeline.begin()
            self.lifeline.dial()
            if self.lifeline.session_id is None:
                self._inbound, self._fresh = Inbound(), True
                self.lifeline.move(Happening.START)
                self.effects.orders.append(CreateSession())
            else:
                self.lifeline.upgrade(Happening.RESUME, self._inbound.replay_from)
        elif wanted and not joining.wanted:
            joining.ask()
        self._progress(now)

    def session_created(self, session_id: str) -> None:
        """There is a session to connect to."""
        if self.phase is Phase.STARTING:
            self.lifeline.session_id = session_id
            self.lifeline.upgrade(Happening.RESUME, None)

    def forget_connect(self, ticket: ConnectTicket) -> None:
        """The caller of `connect` waits no longer."""
        self._milestones.forget(ticket)

    def abandon_start(self, error: Exception) -> None:
        """The start failed or took too long: undo it, so that it can be tried again."""
        if self.begun:
            self.lifeline.disconnect(abort=True)
            self.lifeline.move(Happening.START_FAILED, str(error))
            self._outage()
            self._fail_waiting(error)

    # What comes from the connections

    def opened(self, generation: int, now: float) -> None:
        """A connection has taken up the session, and its replay begins."""
        if self.lifeline.opened(generation, now, fresh=self._fresh):
            self._replay(now)

    def received(self, generation: int, frame: str | bytes, now: float) -> None:
        """A frame has come."""
        if not self.lifeline.heard(generation):
            return
        events, problems, batch = parse(frame)
        if problems:
            self._report(problems)
        inbound = self._inbound
        for event in events:
            # One that is part of a history says nothing of this connection.
            live = event.sequence is None or not batch
            if type(event) is Heartbeat and live:
                self._heartbeat_echoed(generation, now)
        live = not batch and (self._fresh or inbound.live)
        for event in inbound.accept(events, batch, now):
            self._deliver(event, now, live)
        self._progress(now)

    def lost(self, generation: int, loss: Loss, now: float) -> None:
        """A connection is gone."""
        fate = self.lifeline.lost(generation, loss, now, fresh=self._fresh)
        if fate is Fate.NOTHING:
            return
        self.dialogue.outbox.lost(generation)
        if fate is Fate.RETIRED:
            self._retired(generation, now)
            return
        self._outage()
        if fate is Fate.REPLACED:
            self._replay(now)
        elif fate is Fate.FAILED:
            self._fail_waiting(self.gone())
        elif fate is Fate.OVER:
            for event in self._inbound.flush():
                self._deliver(event, now, live=False)
            if self.end is None:
                echoed = self.dialogue.end_echoed
                self._end(
                    SessionEnd(reason=SessionEndReason.USER_END if echoed else None)
                )

    def _replay(self, now: float) -> None:
        talk = self.dialogue
        decides = talk.outbox.doubtful or talk.joining.wanted or self._end_wanted
        self._inbound.opened(now, fresh=self._fresh, hasty=not decides)

    def _heartbeat_echoed(self, generation: int, now: float) -> None:
        if self.lifeline.heartbeat_echoed(generation, now):
            self._inbound.barrier(now)
            if self.phase is Phase.OPEN and self.dialogue.outbox.doubtful:
                self.dialogue.doubts_end_at = now + SETTLE_WAITS[1]

    def _retired(self, generation: int, now: float) -> None:
        """A connection that a renewal has replaced is gone.

        Its last echoes come on the one that has replaced it, or never.
        """
        self.dialogue.joining.lost(generation)
        if self._end_asked_on == generation:
            self._end_asked_on = None
        if self.phase is Phase.OPEN:
            if self.dialogue.outbox.doubtful and not self.lifeline.probe(now):
                self.dialogue.doubts_end_at = now + SETTLE_WAITS[0]
            self._progress(now)

    def wake(self, now: float) -> None:
        """Time has passed."""
        generation = self.lifeline.generation
        if self.phase is Phase.LOST:
            self.lifeline.wake(now, self._inbound.replay_from)
        if self.phase not in _CONNECTED or generation is None:
            return
        if self.lifeline.dead(now):
            self.lost(generation, self.lifeline.bury(now), now)
            return
        self.lifeline.wake(now, self._inbound.replay_from)
        if self._typing.due(now):
            self._send_typing(TypingState.STOPPED)
        live = self._inbound.live
        for event in self._inbound.due(now):
            self._deliver(event, now, live)
        self.dialogue.wake(now)
        self._progress(now)

    # What comes from the user

    def send(
        self,
        local_id: str,
        text: str,
        metadata: Mapping[str, str],
        *,
        patience: float | None,
        reply: ReplyTicket | None,
        now: float,
    ) -> Delivery:
        """Send a message of the user.

        Args:
            local_id: A new UUID, under which the message finds its echo again.
            text: The text.
            metadata: The user's own custom metadata.
            patience: Seconds that the echo may take, if nobody else keeps the time.
            reply: What waits for the agent's answer, if anything does.
            now: The time.

        Raises:
            MessageTooLargeError: The frame exceeds what the session takes.
            PolysyncError: There is no session to send it to.
        """
        if not self.at_work:
            raise self.gone()
        delivery = self.dialogue.send(local_id, text, metadata, patience, reply)
        delivery.asked_at = now
        self._write(now)
        return delivery

    def give_up(self, delivery: Delivery, reply: ReplyTicket | None = None) -> None:
        """The caller waits no longer."""
        if not delivery.done:
            self.dialogue.outbox.give_up(delivery)
            self.effects.settle(delivery)
        if reply is not None:
            self.dialogue.replies.forget(reply)
            self.effects.settle(reply)

    def receive(self, ticket: MessageTicket) -> None:
        """Settle the ticket with the next message that nobody has claimed."""
        replies = self.dialogue.replies
        if replies.receive(ticket):
            self.effects.settle(ticket)
        elif not self.begun:
            replies.forget(ticket)
            self.effects.settle(ticket, self.gone())

    def put_back(self, message: Message) -> None:
        """A call has not taken the message that it was given: it is unclaimed."""
        ticket = self.dialogue.replies.put_back(message)
        if ticket is not None:
            self.effects.settle(ticket)

    def show_typing(self, state: TypingState, now: float) -> None:
        """The user types or has stopped."""
        if self.phase is Phase.OPEN:
            news = self._typing.typed(state, now)
            if news is not None:
                self._send_typing(news)

    def request_join(self, now: float) -> None:
        """Ask for the agent."""
        self.dialogue.joining.ask()
        self._progress(now)

    def request_end(self, ticket: EndTicket, now: float) -> None:
        """End the session on the server; settle the ticket when that is done."""
        if self.end is not None:
            ticket.result = self.end
            self.effects.settle(ticket)
            return
        if not self.begun:
            self.effects.settle(ticket, self.gone())
            return
        self._ends.append(ticket)
        self._end_wanted = True
        self._progress(now)

    def close(self) -> None:
        """Close without ending the session; whoever waits is told."""
        if self.over:
            return
        self.lifeline.disconnect()
        self.lifeline.move(Happening.CLOSE, "closed by the user")
        self._outage()
        self._fail_waiting(
            ClientClosedError("the client was closed: the call waits in vain")
        )

    # Going on

    def _progress(self, now: float) -> None:
        """Do what has become possible."""
        dialogue = self.dialogue
        if dialogue.disowned and self.phase in _CONNECTED:
            dialogue.disowned = False
            self.lifeline.disown()
            self._outage()
            self._fail_waiting(self.gone())
        if not dialogue.joining.wanted:
            self._inbound.begun(now)
        if self.phase is Phase.REPLAYING and not self._inbound.replaying:
            self.lifeline.move(Happening.REPLAY_SETTLED)
            self._fresh = False
            # A replay may be slow and seem to be over; what comes after it may not.
            if self._inbound.barrier_passed or not self.lifeline.echoes:
                dialogue.settle_doubts()
            elif self._inbound.batch_seen and not self.lifeline.has_echoed:
                dialogue.doubts_end_at = now + UNPROVEN_WAIT
        if self.phase is Phase.OPEN:
            if self.lifeline.successor is not None:
                busy = dialogue.busy or self._end_asked_on is not None
                self.lifeline.hand_over(now, busy=busy)
            generation = self.lifeline.generation
            if generation is None:
                raise AssertionError("an open conversation has a connection")
            if not self._end_wanted and dialogue.joining.due(generation):
                self.effects.frames.append((generation, _JOIN))
            self._write(now)
            # What was said before the end goes out before it.
            if self._end_wanted and self._end_asked_on is None and not dialogue.unsent:
                self._end_asked_on = generation
                self.effects.frames.append((generation, _END))
            if self._milestones:
                self._milestones.check(dialogue, resumed=self.lifeline.resumed)

    def _write(self, now: float) -> None:
        generation = self.lifeline.generation
        if self.phase is not Phase.OPEN or generation is None:
            return
        if self._end_asked_on is None:  # else the server would take no notice
            self.dialogue.write(generation, now)

    def _deliver(self, event: Event, now: float, live: bool) -> None:
        """Take the next event of the conversation, in order and for the first time."""
        if self.end is not None:
            return
        dialogue = self.dialogue
        if type(event) is SessionStart:
            self._fresh = False
            self.lifeline.configure(event.capabilities, now)
        if event.sequence is not None and type(event) not in _IDLE_TALK:
            self.lifeline.useful = True
        dialogue.take(event, now, live=live)
        if dialogue.finished is not None:
            self._end(dialogue.finished)

    # Ending

    def _end(self, event: SessionEnd) -> None:
        """The conversation is over, by whatever sign."""
        self.dialogue.finish()
        self.end = event
        self.effects.news.append(event)
        self.lifeline.disconnect()
        self.lifeline.move(Happening.SESSION_ENDED, "the conversation has ended")
        self._outage()
        for ticket in self._ends:
            ticket.result = event
            self.effects.settle(ticket)
        self._ends.clear()
        self._fail_waiting(self._why_over())

    def _outage(self) -> None:
        """Nothing can be sent or expected until there is a connection again."""
        self._inbound.lost()
        self._typing.reset()
        self._end_asked_on = None
        self.dialogue.doubts_end_at = None
        self.dialogue.streams.lost()
        self.dialogue.joining.lost()

    def _fail_waiting(self, error: Exception) -> None:
        """Tell all that wait that it was in vain."""
        self.dialogue.fail_waiting(error)
        self._milestones.fail(error)
        for ticket in self._ends:
            self.effects.settle(ticket, error)
        self._ends.clear()
        self._end_wanted = False

    def _why_over(self) -> PolysyncError:
        if self.end is None:
            return ClientClosedError(
                "the client is closed: call restart() for a new conversation, or make "
                "another client"
            )
        reason = self.end.reason
        return SessionEndedError(
            f"the conversation has ended ({reason or 'the server closed it'}): call "
            "restart() for a new one",
            reason=reason,
        )

    def _report(self, problems: list[str]) -> None:
        for problem in problems:
            self.effects.log(
                logging.WARNING, "left out a bad part of a frame: %s", problem
            )
            self.effects.news.append(
                ProtocolError(f"the server sent a bad frame: {problem}", path=problem)
            )

    def _send_typing(self, state: TypingState) -> None:
        if self.lifeline.generation is not None:
            frame = encode(UserTyping(state=state))
            self.effects.frames.append((self.lifeline.generation, frame))
