"""Tests of `polysync.protocol.effects`."""

from __future__ import annotations

from polysync.protocol.effects import Effects
from polysync.protocol.tickets import EndTicket


def test_a_ticket_is_settled_once_and_keeps_its_first_outcome():
    effects, ticket = Effects(), EndTicket()
    effects.settle(ticket, ValueError("first"))
    effects.settle(ticket, ValueError("second"))
    assert ticket.done
    assert str(ticket.error) == "first"
    assert effects.settled == [ticket]


def test_a_ticket_that_was_given_up_wakes_nobody():
    effects, ticket = Effects(), EndTicket()
    ticket.done = True
    effects.settle(ticket)
    assert effects.settled == []
