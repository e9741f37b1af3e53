"""Tests of `polysync.protocol.replies`."""

from __future__ import annotations

from collections import deque

from polysync.events import (
    LiveAgentMessage,
    PolyAgentMessage,
    PolyAgentMessageChunk,
)
from polysync.protocol.replies import Replies
from polysync.protocol.tickets import Delivery, MessageTicket, ReplyTicket


def message(name: str) -> PolyAgentMessage:
    return PolyAgentMessage(id=f"event-{name}", message_id=name, text=name)


def chunk(name: str, text: str = "") -> PolyAgentMessageChunk:
    return PolyAgentMessageChunk(message_id=name, text=text)


def greeted() -> Replies:
    """Replies in a conversation whose greeting is behind."""
    replies = Replies()
    replies.message(message("greeting"))
    replies.mailbox.clear()
    return replies


def asking(replies: Replies, *, streaming: bool = False) -> ReplyTicket:
    """A call whose message has reached the server."""
    ticket = ReplyTicket(streaming=streaming)
    replies.asked(ticket)
    replies.echoed(ticket)
    return ticket


# The greeting


def test_the_first_message_is_the_greeting_and_answers_nobody():
    replies = Replies()
    assert replies.message(message("hi")) is None
    assert replies.greeting == message("hi")
    assert list(replies.mailbox) == [message("hi")]


def test_a_greeting_on_its_way_does_not_answer_an_early_question():
    replies = Replies()
    replies.thinking()
    ticket = asking(replies)
    assert replies.message(message("hi")) is None
    assert replies.greeting == message("hi")
    assert replies.message(message("answer")) is ticket


def test_an_agent_that_does_not_greet_answers_the_first_question():
    replies = Replies()
    ticket = asking(replies)
    replies.thinking()
    assert replies.message(message("answer")) is ticket
    assert replies.greeting is None


def test_a_streamed_greeting_is_whole_in_the_end():
    replies = Replies()
    replies.chunk(chunk("hi"))
    ticket = asking(replies)
    assert replies.greeting is None
    assert replies.message(message("hi")) is None
    assert replies.greeting == message("hi")
    assert not ticket.result


def test_the_greeting_may_belong_to_an_earlier_life():
    replies = Replies(greeted=True)
    replies.thinking()
    ticket = asking(replies)
    assert replies.message(message("answer")) is ticket
    assert replies.greeting is None


# Questions and answers


def test_answers_come_in_the_order_of_the_questions():
    replies = greeted()
    first, second = asking(replies), asking(replies)
    assert replies.message(message("a")) is first
    assert replies.message(message("b")) is second
    assert first.result == message("a")
    assert second.result == message("b")


def test_what_begins_before_the_question_arrives_does_not_answer_it():
    replies = greeted()
    ticket = ReplyTicket()
    replies.asked(ticket)
    replies.chunk(chunk("early"))
    replies.echoed(ticket)
    assert replies.message(message("early")) is None
    assert replies.message(message("late")) is ticket


def test_the_chunks_of_an_answer_are_collected_for_who_reads_them():
    replies = greeted()
    ticket = asking(replies, streaming=True)
    assert replies.chunk(chunk("a", "1")) is ticket
    assert replies.chunk(chunk("a", "2")) is ticket
    assert [c.text for c in ticket.chunks] == ["1", "2"]
    assert ticket.message_id == "a"


def test_who_waits_for_the_whole_is_not_woken_for_a_chunk():
    replies = greeted()
    ticket = asking(replies)
    assert replies.chunk(chunk("a", "1")) is None
    assert replies.message(message("a")) is ticket


def test_answers_that_interleave_keep_their_questions():
    replies = greeted()
    first, second = asking(replies), asking(replies)
    replies.chunk(chunk("a"))
    replies.chunk(chunk("b"))
    assert replies.message(message("b")) is second
    assert replies.message(message("a")) is first


def test_a_live_agent_answers_too():
    replies = greeted()
    ticket = asking(replies)
    assert replies.message(LiveAgentMessage(text="Bob")) is ticket


def test_chunks_without_a_message_id_and_their_whole_are_one_answer():
    replies = greeted()
    ticket = asking(replies)
    replies.chunk(PolyAgentMessageChunk(text="x"))
    whole = PolyAgentMessage(id="last-chunk", text="x", assembled=True)
    assert replies.message(whole) is ticket


def test_messages_without_a_message_id_are_told_apart_by_their_events():
    replies = greeted()
    first, second = asking(replies), asking(replies)
    assert replies.message(PolyAgentMessage(id="1")) is first
    assert replies.message(PolyAgentMessage(id="2")) is second


# Callers that leave


def test_an_answer_that_nobody_waits_for_any_more_is_for_receive():
    replies = greeted()
    ticket = asking(replies)
    replies.forget(ticket)
    ticket.done = True
    assert replies.message(message("a")) is None
    assert list(replies.mailbox) == [message("a")]


def test_so_is_one_that_was_left_in_the_middle():
    replies = greeted()
    first, second = asking(replies, streaming=True), asking(replies)
    replies.chunk(chunk("a", "1"))
    replies.forget(first)
    first.done = True
    assert replies.chunk(chunk("a", "2")) is None
    assert len(first.chunks) == 1
    assert replies.message(message("a")) is None
    assert list(replies.mailbox) == [message("a")]
    assert replies.message(message("b")) is second


def test_a_question_that_was_given_up_before_it_arrived_waits_for_no_answer():
    replies = greeted()
    ticket = ReplyTicket()
    replies.asked(ticket)
    replies.forget(ticket)
    ticket.done = True
    replies.echoed(ticket)
    assert replies.message(message("a")) is None


def test_forgetting_what_does_not_wait_does_nothing():
    replies = greeted()
    replies.forget(ReplyTicket())
    replies.forget(MessageTicket())


# The mailbox


def test_a_long_mailbox_is_taken_from_at_no_cost():
    """It is a list for as long as that is smaller, and keeps the order."""
    replies = Replies(greeted=True)
    for number in range(1_000):
        replies.message(message(str(number)))

    assert isinstance(replies.mailbox, deque)
    for number in range(1_000):
        ticket = MessageTicket()
        assert replies.receive(ticket)
        assert ticket.result == message(str(number))


def test_unclaimed_messages_are_received_in_order():
    replies = greeted()
    replies.message(message("a"))
    replies.message(message("b"))
    first, second, third = (MessageTicket() for _ in range(3))
    assert replies.receive(first)
    assert replies.receive(second)
    assert not replies.receive(third)
    assert (first.result, second.result) == (message("a"), message("b"))


def test_who_waits_gets_the_next_message_first_come_first_served():
    replies = greeted()
    first, second = MessageTicket(), MessageTicket()
    replies.receive(first)
    replies.receive(second)
    assert replies.message(message("a")) is first
    assert replies.message(message("b")) is second
    assert not replies.mailbox


def test_nothing_is_handed_to_a_receiver_that_has_left():
    replies = greeted()
    gone, forgotten, here = (MessageTicket() for _ in range(3))
    for ticket in (gone, forgotten, here):
        replies.receive(ticket)
    gone.done = True
    replies.forget(forgotten)
    assert replies.message(message("a")) is here


def test_a_message_that_was_not_taken_after_all_goes_to_who_waits():
    replies = greeted()
    ticket = MessageTicket()
    replies.receive(ticket)
    assert replies.put_back(message("a")) is ticket
    assert ticket.result == message("a")


def test_or_back_to_its_place():
    replies = greeted()
    replies.mailbox += [PolyAgentMessage(sequence=n) for n in (2, 8)]
    for sequence in (5, None, 9):
        assert replies.put_back(PolyAgentMessage(sequence=sequence)) is None
    assert [m.sequence for m in replies.mailbox] == [None, 2, 5, 8, 9]


# Errors


def test_an_error_finds_its_question_by_the_id_of_the_message():
    replies = greeted()
    first, second = asking(replies), asking(replies)
    for name, ticket in (("1", first), ("2", second)):
        ticket.delivery = Delivery(id=name, text="", metadata={}, frame="")
    assert replies.named({"local_id": "2"}) is second
    assert replies.named({"client_event_id": "1"}) is first
    assert replies.named({"local_id": "3"}) is None
    assert replies.named({}) is None


def test_one_without_an_id_is_about_the_oldest_question_that_has_arrived():
    replies = greeted()
    assert replies.failed() is None
    waiting = ReplyTicket()
    replies.asked(waiting)
    assert replies.failed() is None
    replies.echoed(waiting)
    asking(replies)
    assert replies.failed() is waiting


def test_even_when_its_answer_has_begun():
    replies = greeted()
    first = asking(replies)
    asking(replies)
    replies.chunk(chunk("a"))
    assert replies.failed() is first


def test_all_who_wait_can_be_told_at_once():
    replies = greeted()
    ticket, receiver = asking(replies), MessageTicket()
    replies.receive(receiver)
    assert replies.drain() == [ticket, receiver]
    assert replies.drain() == []
    assert replies.failed() is None


def test_what_was_claimed_does_not_pile_up():
    replies = Replies()
    for number in range(100):
        replies.chunk(chunk(str(number)))
        replies.message(message(str(number)))
        replies.receive(MessageTicket())
    assert replies._claims == {}
