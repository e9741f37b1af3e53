"""Runs a conversation: gives it frames, calls and time, and carries out what it says.

Every step has the same form. Under the client's one lock the rules are called, what
they decided is taken out of them, events are put into queues and frames in line; then
the lock is released, and only then is anything sent, started, closed or woken. So the
rules are never entered twice, the order on the wire is the order of the calls, and
nobody waits for anything while holding the lock.
"""

from __future__ import annotations

import logging
import random
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from polysync.errors import (
    ClientClosedError,
    EndTimeoutError,
    ForkedError,
    PolysyncError,
    ReceiveTimeoutError,
)
from polysync.events import Event, Message, SessionEnd
from polysync.models import TypingState
from polysync.options import Options
from polysync.protocol.conversation import Conversation
from polysync.protocol.loss import Loss
from polysync.protocol.states import Phase
from polysync.protocol.tickets import (
    ConnectTicket,
    Delivery,
    EndTicket,
    MessageTicket,
    ReplyTicket,
    Ticket,
)
from polysync.runtime.act import Act
from polysync.runtime.callbacks import Callbacks
from polysync.runtime.cancel import Cancel
from polysync.runtime.clock import Deadline, monotonic
from polysync.runtime.meters import Meters
from polysync.runtime.network import Network
from polysync.runtime.observer import Observer, observation
from polysync.runtime.orders import take
from polysync.runtime.redact import summary
from polysync.runtime.resources import CLOSE_TIMEOUT, Resources
from polysync.runtime.starting import out_of_time
from polysync.runtime.surroundings import check_surroundings
from polysync.runtime.timers import Timer
from polysync.runtime.waiting import Subscription, Subscriptions, Waiter
from polysync.runtime.websocket import Connection

__all__ = ["Engine"]

logger = logging.getLogger(__name__)

_R = TypeVar("_R")

_SLOW_CALLBACK = "%d events wait for the callbacks: one of them is slow, or blocked"
_SLOW_LOOP = "%d events wait for a loop over events(): it is slow, or stuck"


class Engine:
    """The one owner of a conversation's rules, connections and queues.

    Threads hold it weakly. All methods may be called from any thread, except where
    they say otherwise.
    """

    def __init__(self, options: Options, access_token: str | None = None) -> None:
        self.options = options
        self.resources = Resources()
        self.callbacks = Callbacks(self.resources.line)
        self.meters = Meters()
        #: The token of the session that there is.
        self.access_token = access_token or options.access_token
        self.base_url = options.base_url
        self.conversation = Conversation(options, random.random)
        self._lock = threading.Lock()
        #: The way to the server, once a start has needed it.
        self.network: Network | None = None
        self._subscriptions = Subscriptions()
        self._scheduled: float | None = None
        #: When the start that is under way must have a session.
        self.deadline = Deadline(None)
        # The calls of connect() that wait, and whether none has seen the start that is
        # under way succeed yet.
        self._connecting: list[ConnectTicket] = []
        self._unproven = False
        # Replies that were forgotten before they were read.
        self._dropped: list[tuple[Delivery, ReplyTicket, bool]] = []
        self.observer: Observer | None = None
        self._timer = self.resources.timer = Timer(self._wake)

    # Calls

    def check(self) -> None:
        """Refuse to work in a process that did not make this client.

        Raises:
            ForkedError: This is a child process.
        """
        if self.resources.forked:
            raise ForkedError(
                "this client was made before the process was forked, and the session "
                "belongs to the parent process: make a new client here, or resume the "
                "conversation from a saved SessionState"
            )

    def connect(self, join: bool, wait: str, timeout: float) -> None:
        """Connect, and wait until the conversation is as far as ``wait`` says."""
        ticket, waiter = ConnectTicket(wait), Waiter()
        ticket.wake = waiter.wake
        self._prepare()

        def step(now: float) -> None:
            self._connecting.append(ticket)
            if self.conversation.phase in (Phase.IDLE, Phase.FAILED):
                self._unproven = True
                self.deadline = Deadline(timeout)
            self.conversation.connect(ticket, join, now)

        try:
            self._step(step)
            waiter.wait(timeout)
        except BaseException:
            self._leave_connect(ticket, ClientClosedError("connect() was interrupted"))
            raise
        self.resources.tidy()
        error = self._leave_connect(ticket, out_of_time(self.conversation, timeout))
        if error is not None:
            raise error

    def _leave_connect(
        self, ticket: ConnectTicket, late: PolysyncError
    ) -> Exception | None:
        """A connect() waits no longer; return its error, which is ``late`` for lack
        of another. The last one that fails leaves nothing behind of the start."""

        def step(now: float) -> Cancel | None:
            if ticket in self._connecting:
                self._connecting.remove(ticket)
            if not ticket.done:
                ticket.done, ticket.error = True, late
                self.conversation.forget_connect(ticket)
            if ticket.error is None:
                self._unproven = False
            if self._connecting or not self._unproven or self.conversation.over:
                return None
            self._unproven = False
            self.conversation.abandon_start(ticket.error or late)
            cancel, self.resources.cancel = self.resources.cancel, Cancel()
            return cancel

        cancel = self._step(step)
        if cancel is not None:
            cancel.cancel()
            self.resources.line.finish()
        if ticket.error is not None:
            self.resources.join(CLOSE_TIMEOUT, callbacks=False)
        return ticket.error

    def send(
        self,
        text: str,
        metadata: Mapping[str, str],
        *,
        patience: float | None,
        reply: ReplyTicket | None = None,
        wake: Callable[[Delivery], None] | None = None,
    ) -> Delivery:
        """Send a message; the delivery is settled later."""

        def step(now: float) -> Delivery:
            conversation = self.conversation
            if not conversation.at_work:
                raise conversation.gone()
            delivery = conversation.send(
                str(uuid.uuid4()),
                text,
                metadata,
                patience=patience,
                reply=reply,
                now=now,
            )
            if wake is not None:
                delivery.wake = lambda: wake(delivery)
            if self.observer is not None:
                self.observer.sending(delivery)
            return delivery

        return self._step(step)

    def give_up(self, delivery: Delivery, reply: ReplyTicket | None = None) -> bool:
        """Wait no longer for a delivery or reply; false if it is settled after all."""

        def step(now: float) -> bool:
            awaited: Ticket = delivery if reply is None else reply
            if awaited.done:
                return False
            self.conversation.give_up(delivery, reply)
            return True

        return self._step(step)

    def leave(self, delivery: Delivery, reply: ReplyTicket, begun: bool) -> None:
        """Read a reply no further: unless all of it was read, it is for `receive`.

        Args:
            delivery: The message that it answers.
            reply: The reply.
            begun: Whether any of it was read.
        """
        self._step(lambda now: self._leave(delivery, reply, begun))

    def drop(self, delivery: Delivery, reply: ReplyTicket, begun: bool) -> None:
        """Do the same soon; for the collector, which must not take the lock."""
        self._dropped.append((delivery, reply, begun))

    def _leave(self, delivery: Delivery, reply: ReplyTicket, begun: bool) -> None:
        if not reply.done:
            self.conversation.give_up(delivery, reply)
        elif reply.chunks or not begun:
            self._put_back(reply)

    def _put_back(self, ticket: ReplyTicket | MessageTicket) -> None:
        """Give back a message that its call has not taken. Needs the lock."""
        message, ticket.result = ticket.result, None
        if message is not None:
            self.conversation.put_back(message)

    def receive(self, timeout: float) -> Message:
        """Return the next message that no call has claimed."""
        ticket, waiter = MessageTicket(), Waiter()
        ticket.wake = waiter.wake
        late = False

        def leave(now: float) -> None:
            nonlocal late
            late = not ticket.done
            if late:
                ticket.done = True
                self.conversation.dialogue.replies.forget(ticket)

        try:
            self._step(lambda now: self.conversation.receive(ticket))
            waiter.wait(timeout)
            self._step(leave)
        except BaseException:
            # Interrupted, maybe with a message in hand.
            self._step(leave)
            self._step(lambda now: self._put_back(ticket))
            raise
        if late:
            raise ReceiveTimeoutError(
                f"no message came within {timeout:g} s", timeout=timeout
            )
        if ticket.error is not None:
            raise ticket.error
        if ticket.result is None:
            raise AssertionError("a settled ticket has a result or an error")
        return ticket.result

    def subscribe(
        self,
        types: tuple[type[Event], ...],
        timeout: float | None,
        replay: bool,
        check: Callable[[bool], None],
    ) -> Subscription:
        """Return an iterator over the events from now on; see `Subscription`."""
        subscription = Subscription(types, timeout, check)
        with self._lock:
            conversation = self.conversation
            if replay:
                for event in conversation.dialogue.history.events():
                    subscription.put(event)
            if conversation.over or conversation.failed:
                subscription.finish(conversation.lifeline.failure)
            else:
                self._subscriptions.add(subscription)
        return subscription

    def show_typing(self, state: TypingState) -> None:
        """Tell the server that the user types or has stopped."""
        self._step(lambda now: self._alive().show_typing(state, now))

    def request_join(self) -> None:
        """Ask for the agent."""
        self._step(lambda now: self._alive().request_join(now))

    def end(self, timeout: float) -> SessionEnd:
        """End the session on the server."""
        ticket, waiter = EndTicket(), Waiter()
        ticket.wake = waiter.wake

        def step(now: float) -> None:
            if self.conversation.end is None:
                self._alive()
            self.conversation.request_end(ticket, now)

        self._step(step)
        if not waiter.wait(timeout) and not ticket.done:
            raise EndTimeoutError(
                f"the server did not confirm the end within {timeout:g} s; the session "
                "ends by itself after ten minutes without a message",
                timeout=timeout,
            )
        if ticket.error is not None:
            raise ticket.error
        if ticket.result is None:
            raise AssertionError("a settled ticket has a result or an error")
        return ticket.result

    def close(self) -> None:
        """Close for good, without ending the session. Idempotent and bounded."""
        if self.resources.forked:
            self.resources.forget()
            return
        self._shut()
        self.resources.join(CLOSE_TIMEOUT)

    def start_over(self) -> None:
        """Close what there is and make room for another conversation."""
        self._shut()
        with self._lock:
            last = self.conversation
            self.conversation = Conversation(
                self.options, random.random, last.lifeline.numbers
            )
            self.conversation.dialogue.latencies = last.dialogue.latencies
            self.access_token = self.options.access_token
            self.resources.cancel = Cancel()

    def on(self, kind: type, callback: Callable[[Any], object]) -> None:
        """Call ``callback`` for everything of a kind."""
        with self._lock:
            self.callbacks.add(kind, callback)

    def off(self, callback: Callable[[Any], object]) -> int:
        """Forget a callback."""
        with self._lock:
            return self.callbacks.remove(callback)

    def read(self, step: Callable[[Conversation], _R]) -> _R:
        """Look at the conversation under the lock."""
        with self._lock:
            return step(self.conversation)

    def started(self, connection: Connection) -> None:
        """A connection has a thread. It may have been let go before it had one."""
        with self._lock:
            resources = self.resources
            if resources.connections.get(connection.generation) is not connection:
                resources.let_go(connection)

    # Connections: on their reader's thread

    def connection_opened(self, connection: Connection) -> None:
        """The server has taken the session."""

        def step(now: float) -> None:
            self.meters.opened(self.conversation.lifeline.session_id)
            self.conversation.opened(connection.generation, now)

        self._step(step)

    def connection_received(self, connection: Connection, payload: bytes) -> None:
        """A message has come."""
        if logger.isEnabledFor(logging.DEBUG):
            words = summary(payload)
            logger.debug("connection %d receives %s", connection.generation, words)
        with self._lock:
            if self._dropped:
                self._forget_dropped()
            conversation = self.conversation
            conversation.received(connection.generation, payload, monotonic())
            act = self._collect(conversation)
        if act is not None:
            act.perform()

    def connection_lost(self, connection: Connection, loss: Loss) -> None:
        """The connection is gone."""
        generation = connection.generation

        def step(now: float) -> None:
            resources = self.resources
            gone = resources.connections.pop(generation, None)
            if gone is not None:
                resources.let_go(gone)
            self.meters.lost(connection)
            self.conversation.lost(generation, loss, now)

        self._step(step)

    # Inside

    def _step(self, step: Callable[..., _R], *args: Any) -> _R:
        """Call the rules under the lock, then carry out what they say outside it."""
        with self._lock:
            if self._dropped:
                self._forget_dropped()
            conversation = self.conversation
            try:
                result = step(*args, monotonic())
            finally:
                act = self._collect(conversation)
        if act is not None:
            act.perform()
        return result

    def _forget_dropped(self) -> None:
        """See to the replies that were dropped. Needs the lock."""
        while self._dropped:
            self._leave(*self._dropped.pop(0))

    def _collect(self, conversation: Conversation) -> Act | None:
        """Take out what the rules have decided. Needs the lock."""
        effects = conversation.effects
        seen = None if self.observer is None else observation(self.observer, effects)
        if effects.news:
            self._tell(conversation)
        deadline = conversation.deadline
        if deadline != self._scheduled:
            self._scheduled = deadline
            self._timer.set(deadline)
        if logger.isEnabledFor(logging.DEBUG):
            for generation, text in effects.frames:
                words = summary(text.encode("utf-8", "replace"))
                effects.log(logging.DEBUG, "connection %d sends %s", generation, words)
        if not (
            effects.frames
            or effects.orders
            or effects.settled
            or effects.records
            or seen
        ):
            return None
        act = Act(seen)
        for generation, text in effects.frames:
            connection = self.resources.connections.get(generation)
            if connection is not None:
                connection.queue(text)
                if connection not in act.connections:
                    act.connections.append(connection)
        for order in effects.orders:
            take(self, order, act)
        act.settled, effects.settled = effects.settled, []
        act.records, effects.records = effects.records, []
        effects.frames.clear()
        effects.orders.clear()
        return act

    def _tell(self, conversation: Conversation) -> None:
        """Hand the news to callbacks and subscriptions. Needs the lock."""
        log = conversation.effects.log
        for news in conversation.effects.news:
            if waiting := self.callbacks.tell(news):
                log(logging.WARNING, _SLOW_CALLBACK, waiting)
            if not self._subscriptions or not isinstance(news, Event):
                continue
            if waiting := self._subscriptions.put(news):
                log(logging.WARNING, _SLOW_LOOP, waiting)
        conversation.effects.news.clear()
        if conversation.over or conversation.failed:
            self._subscriptions.finish(conversation.lifeline.failure)
        if conversation.over:
            self.resources.line.finish()

    def session_created(
        self, conversation: Conversation, access_token: str, session_id: str
    ) -> None:
        """The server has made a session. Called on the thread that asked for it."""

        def step(now: float) -> None:
            if conversation is self.conversation:
                self.access_token = access_token
                conversation.session_created(session_id)

        self._step(step)

    def start_failed(self, conversation: Conversation, error: Exception) -> None:
        """There is no session. Called on the thread that asked for it."""

        def step(now: float) -> None:
            if (
                conversation is self.conversation
                and conversation.phase is Phase.STARTING
            ):
                conversation.abandon_start(error)

        self._step(step)

    def _prepare(self) -> None:
        """Get what a start needs of the process."""
        check_surroundings()
        options = self.options
        if self.base_url is None:
            from polysync.sandbox import embedded

            sandbox = embedded()
            self.options = options = options.for_sandbox(
                sandbox.connector_token, sandbox.host
            )
            self.base_url = sandbox.base_url
        if self.network is None:
            self.network = Network(
                self.base_url, proxy=options.proxy, ca_certs=options.ca_certs
            )

    def _alive(self) -> Conversation:
        """The conversation, if it takes anything. Needs the lock."""
        if not self.conversation.at_work:
            raise self.conversation.gone()
        return self.conversation

    def _shut(self) -> None:
        """Close the conversation and let go of everything, without waiting."""
        self.resources.cancel.cancel()

        def step(now: float) -> None:
            self.conversation.close()
            self.resources.line.finish()

        self._step(step)
        self._timer.cancel()

    def _wake(self) -> None:
        """Something is due. Runs on the timer thread."""
        with self._lock:
            # Since it fired it may have been set again, by a step of another thread.
            self._timer.cancel()
            self._scheduled = None
        self._step(lambda now: self.conversation.wake(now))
