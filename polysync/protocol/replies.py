"""Which message answers which call, and who gets the ones that answer none.

The protocol does not say what a reply replies to. What can be known: the agent answers
in order, and it cannot answer what the server has not taken. So a call's reply is the
first message that *begins* after the echo of the call's own message and that no earlier
call is waiting for. The greeting, which may still be on its way, answers nobody.

What no call has claimed waits in the mailbox for `receive`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from polysync.events import LiveAgentMessage, PolyAgentMessage, PolyAgentMessageChunk
from polysync.protocol.outbox import ID_KEYS
from polysync.protocol.tickets import MessageTicket, ReplyTicket

__all__ = ["PILE", "Replies"]

#: How many messages in the mailbox are worth a word; again at each doubling.
PILE = 1_000

#: Messages in the mailbox, from which on a list is slow to take the first.
_MANY = 64


class Replies:
    """Matches the agent's messages to the calls that wait for them.

    Args:
        greeted: The greeting belongs to an earlier life of the conversation.
    """

    __slots__ = (
        "_armed",
        "_asked",
        "_claims",
        "_greeting_begun",
        "_greeting_due",
        "_greeting_key",
        "_pile",
        "_receivers",
        "begun",
        "greeting",
        "mailbox",
    )

    def __init__(self, greeted: bool = False) -> None:
        self._asked: list[ReplyTicket] = []
        # Lists, as they are short: one for each call that waits.
        self._armed: list[ReplyTicket] = []
        self._claims: dict[str, ReplyTicket | None] = {}
        self._receivers: list[MessageTicket] = []
        #: Whole messages that nobody has claimed, oldest first. A deque once there are
        #: many, of which a list is slow to take the first; an empty one is 760 bytes.
        self.mailbox: (
            list[PolyAgentMessage | LiveAgentMessage]
            | deque[PolyAgentMessage | LiveAgentMessage]
        ) = []
        self._pile = PILE
        self.greeting: PolyAgentMessage | LiveAgentMessage | None = None
        #: The call whose answer has begun, until somebody has taken notice.
        self.begun: ReplyTicket | None = None
        self._greeting_begun = greeted
        self._greeting_due = False
        self._greeting_key: str | None = None

    def asked(self, ticket: ReplyTicket) -> None:
        """A call waits for an answer."""
        self._asked.append(ticket)

    def echoed(self, ticket: ReplyTicket) -> None:
        """The call's message has reached the server: an answer may come."""
        if not ticket.done:
            self._armed.append(ticket)

    def thinking(self) -> None:
        """The agent prepares a message."""
        # Before any message and any question, it can only be the greeting.
        if not self._greeting_begun and not self._armed:
            self._greeting_due = True

    def chunk(self, chunk: PolyAgentMessageChunk) -> ReplyTicket | None:
        """Return the call that a chunk belongs to, if it is to be woken for it."""
        key = chunk.message_id or ""
        if key not in self._claims:
            self._begin(key)
        ticket = self._claims[key]
        if ticket is None or ticket.done:
            return None
        ticket.chunks.append(chunk)
        return ticket if ticket.streaming else None

    def message(
        self, message: PolyAgentMessage | LiveAgentMessage
    ) -> ReplyTicket | MessageTicket | None:
        """Return the call that a whole message settles; else it is in the mailbox."""
        # Chunks without a message_id have begun their message under no name either.
        nameless = isinstance(message, PolyAgentMessage) and message.assembled
        key = message.message_id or ("" if nameless else message.id or "")
        if key not in self._claims:
            self._begin(key)
        if key == self._greeting_key:
            self.greeting = message
        ticket = self._claims.pop(key)
        if ticket is not None and not ticket.done:
            ticket.result = message
            self.forget(ticket)
            return ticket
        receiver = self._receiver(message)
        if receiver is None:
            self.mailbox.append(message)
            if len(self.mailbox) >= _MANY and isinstance(self.mailbox, list):
                self.mailbox = deque(self.mailbox)
        return receiver

    def put_back(
        self, message: PolyAgentMessage | LiveAgentMessage
    ) -> MessageTicket | None:
        """A claimed message was not taken after all; return who gets it instead."""
        receiver = self._receiver(message)
        if receiver is None:
            sequence = message.sequence or 0
            later = (m for m in self.mailbox if (m.sequence or 0) > sequence)
            at = next((self.mailbox.index(m) for m in later), len(self.mailbox))
            self.mailbox.insert(at, message)
        return receiver

    def receive(self, ticket: MessageTicket) -> bool:
        """Give the ticket the oldest unclaimed message, or let it wait for one."""
        if self.mailbox:
            ticket.result = self.mailbox[0]
            del self.mailbox[0]
            return True
        self._receivers.append(ticket)
        return False

    def piled_up(self) -> bool:
        """Say whether the mailbox has grown to where it is worth a word."""
        if len(self.mailbox) < self._pile:
            return False
        self._pile *= 2
        return True

    def forget(self, ticket: ReplyTicket | MessageTicket) -> None:
        """The caller waits no longer; what would have been its answer is unclaimed."""
        if isinstance(ticket, MessageTicket):
            if ticket in self._receivers:
                self._receivers.remove(ticket)
            return
        if ticket in self._asked:
            self._asked.remove(ticket)
        if ticket in self._armed:
            self._armed.remove(ticket)

    def named(self, metadata: Mapping[str, str]) -> ReplyTicket | None:
        """Return the call whose message carries one of these ids."""
        ids = {metadata.get(key) for key in ID_KEYS}
        for ticket in self._asked:
            if ticket.delivery is not None and ticket.delivery.id in ids:
                return ticket
        return None

    def failed(self) -> ReplyTicket | None:
        """An error that names no message: return the call that it answers.

        The agent answers in order, so it is the oldest, if its message has arrived.
        """
        first = self._asked[0] if self._asked else None
        if first is None or first.message_id is not None or first in self._armed:
            return first
        return None

    def drain(self) -> list[ReplyTicket | MessageTicket]:
        """Return all that wait, and wait for nothing more."""
        waiting: list[ReplyTicket | MessageTicket] = [*self._asked, *self._receivers]
        self._asked.clear()
        self._armed.clear()
        self._receivers.clear()
        return waiting

    def _receiver(
        self, message: PolyAgentMessage | LiveAgentMessage
    ) -> MessageTicket | None:
        """Give a message to whoever waits for one."""
        while self._receivers:
            receiver = self._receivers.pop(0)
            if not receiver.done:
                receiver.result = message
                return receiver
        return None

    def _begin(self, key: str) -> None:
        """A new message begins: settle whom it answers."""
        ticket: ReplyTicket | None = None
        if not self._greeting_begun and (self._greeting_due or not self._armed):
            self._greeting_key = key
        elif self._armed:
            ticket = self._armed.pop(0)
            ticket.message_id = key
            self.begun = ticket
        self._greeting_begun = True
        self._claims[key] = ticket
