"""How far a conversation has come, for the calls that wait for it to get somewhere."""

from __future__ import annotations

from polysync.protocol.dialogue import Dialogue
from polysync.protocol.effects import Effects
from polysync.protocol.tickets import ConnectTicket

__all__ = ["Milestones"]


class Milestones:
    """Keeps the tickets of the calls that connect, each with its own milestone.

    Args:
        effects: Where settled tickets go.
    """

    __slots__ = ("_effects", "_tickets")

    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self._tickets: list[ConnectTicket] = []

    def __bool__(self) -> bool:
        return bool(self._tickets)

    def add(self, ticket: ConnectTicket) -> None:
        """Let a call wait."""
        self._tickets.append(ticket)

    def forget(self, ticket: ConnectTicket) -> None:
        """The call waits no longer."""
        if ticket in self._tickets:
            self._tickets.remove(ticket)

    def check(self, dialogue: Dialogue, *, resumed: bool) -> None:
        """Settle the calls whose milestone is behind, or out of reach.

        Args:
            dialogue: What has been said so far.
            resumed: The session is one of an earlier life, and so is its greeting.
        """
        situation, error = dialogue.situation, dialogue.agentless
        for ticket in list(self._tickets):
            if ticket.wait == "session":
                reached = resumed or situation.capabilities is not None
            elif ticket.wait == "agent" or resumed:
                reached = situation.joined
            else:
                reached = dialogue.replies.greeting is not None
            if reached or error is not None:
                self._tickets.remove(ticket)
                self._effects.settle(ticket, None if reached else error)
        dialogue.agentless = None

    def fail(self, error: Exception) -> None:
        """The conversation cannot go on."""
        tickets, self._tickets = self._tickets, []
        for ticket in tickets:
            self._effects.settle(ticket, error)
