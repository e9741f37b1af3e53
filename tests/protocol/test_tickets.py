"""Tests of `polysync.protocol.tickets`."""

from __future__ import annotations

from polysync.protocol.tickets import Delivery, EndTicket, MessageTicket, ReplyTicket


def test_a_new_ticket_is_open():
    for ticket in (EndTicket(), MessageTicket(), ReplyTicket()):
        assert not ticket.done
        assert ticket.error is None
        assert ticket.result is None
        assert ticket.wake is None


def test_tickets_are_told_apart_by_who_they_are():
    assert EndTicket() != EndTicket()
    assert len({ReplyTicket(), ReplyTicket()}) == 2


def test_a_message_that_was_not_written_is_not_uncertain():
    delivery = Delivery(id="1", text="Hello", metadata={}, frame="{}")
    assert not delivery.uncertain
    assert delivery.generation is None
    assert delivery.expires_at is None


def test_the_chunks_of_a_reply_are_its_own():
    first, second = ReplyTicket(), ReplyTicket()
    assert first.chunks is not second.chunks
