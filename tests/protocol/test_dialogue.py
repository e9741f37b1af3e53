"""Tests of `polysync.protocol.dialogue`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from polysync.errors import (
    AgentError,
    ClientClosedError,
    ConnectionLostError,
    DeliveryError,
    MessageTooLargeError,
    SessionEndedError,
)
from polysync.events import (
    Event,
    Heartbeat,
    LanguageChanged,
    LiveAgentMessage,
    LiveAgentTyping,
    PolyAgentJoined,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    PolyAgentThinking,
    SessionEnd,
    SessionStart,
    SystemMessage,
    UserEndSession,
    UserMessage,
)
from polysync.models import Agent, Capabilities, SessionEndReason, SystemMessageLevel
from polysync.protocol.dialogue import Dialogue
from polysync.protocol.effects import Effects
from polysync.protocol.joining import REJOIN_AFTER, REJOINS
from polysync.protocol.settings import Settings
from polysync.protocol.tickets import Delivery, MessageTicket, ReplyTicket

NO_CONVERSATION = "Error: Conversation not found"
NOT_STARTED = "Sorry, I'm unable to start a conversation right now."
NO_REPLY = "Sorry, I encountered an error. Please try again."
BUSY = "Our system is experiencing high load. Please try again in a moment."


def chunk(index: int, text: str = "", *, last: bool = False) -> PolyAgentMessageChunk:
    return PolyAgentMessageChunk(
        sequence=100 + index,
        message_id="m",
        chunk_index=index,
        text=text,
        is_complete=last,
    )


class Talk:
    """A dialogue on connection 1, whose agent has greeted."""

    def __init__(self, *, greeted: bool = True, **settings: Any) -> None:
        self.effects = Effects()
        self.dialogue = Dialogue(Settings(**settings), self.effects)
        self.now = 0.0
        self.names = 0
        if greeted:
            self.take(PolyAgentJoined(agent_name="Ada"), PolyAgentMessage(text="Hi!"))
            self.dialogue.replies.mailbox.clear()
            self.effects.news.clear()

    def take(self, *events: Event, live: bool = True) -> None:
        for event in events:
            self.dialogue.take(event, self.now, live=live)

    def say(self, text: str = "Hello", **more: Any) -> Delivery:
        self.names += 1
        delivery = self.dialogue.send(
            str(self.names),
            text,
            more.get("metadata", {}),
            more.get("patience"),
            more.get("reply"),
        )
        self.dialogue.write(1, self.now)
        return delivery

    def ask(self, *, streaming: bool = False) -> ReplyTicket:
        reply = ReplyTicket(streaming=streaming)
        self.say(reply=reply)
        return reply

    def echo(self, delivery: Delivery | None) -> None:
        assert delivery is not None
        self.take(UserMessage(text=delivery.text, metadata={"local_id": delivery.id}))

    def error(
        self,
        message: str,
        *,
        live: bool = True,
        custom: Mapping[str, str] | None = None,
    ) -> None:
        self.take(
            SystemMessage(
                level=SystemMessageLevel.ERROR, message=message, metadata=custom or {}
            ),
            live=live,
        )

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(text) for _, text in self.effects.frames]

    @property
    def news(self) -> list[type]:
        return [type(item) for item in self.effects.news]


# The user speaks


def test_a_message_carries_the_users_metadata_and_its_own_id_under_both_keys():
    talk = Talk()
    talk.say("Grüezi", metadata={"page": "home"})
    (frame,) = talk.frames
    assert frame == {
        "type": "EVENT_TYPE_USER_MESSAGE",
        "payload": {"text": "Grüezi"},
        "metadata": {
            "custom": {"page": "home", "local_id": "1", "client_event_id": "1"}
        },
    }


def test_its_echo_is_the_receipt():
    talk = Talk()
    delivery = talk.say()
    talk.echo(delivery)
    assert delivery.done
    assert delivery.error is None
    assert delivery.result == UserMessage(text="Hello", metadata={"local_id": "1"})
    assert talk.effects.settled == [delivery]
    assert talk.news == [UserMessage]


def test_the_limit_counts_the_bytes_of_the_whole_frame():
    talk = Talk()
    size = len(talk.say("é" * 50).frame.encode())
    talk.dialogue.set_size_limit(size)
    talk.say("é" * 50)
    with pytest.raises(MessageTooLargeError) as caught:
        talk.say("é" * 50 + "!")
    assert (caught.value.size, caught.value.limit) == (size + 1, size)
    assert len(talk.frames) == 2


@pytest.mark.parametrize("asked", [None, -1])
def test_without_a_sensible_limit_it_is_128_kib(asked: int | None):
    talk = Talk()
    talk.dialogue.set_size_limit(asked)
    talk.say("x" * 130_000)
    with pytest.raises(MessageTooLargeError):
        talk.say("x" * 131_072)


def test_0_means_no_limit():
    talk = Talk()
    talk.take(SessionStart(capabilities=Capabilities(max_message_size_bytes=0)))
    talk.say("x" * 1_000_000)
    assert len(talk.frames) == 1


def test_a_message_waits_for_the_agent_it_is_meant_for():
    talk = Talk(greeted=False)
    talk.dialogue.joining.begin(True)
    talk.say()
    assert talk.frames == []
    assert not talk.dialogue.unsent
    talk.take(PolyAgentJoined())
    assert talk.dialogue.unsent
    talk.dialogue.write(1, 0.0)
    assert len(talk.frames) == 1
    assert not talk.dialogue.unsent
    assert talk.dialogue.busy


def test_a_message_whose_echo_is_missing_fails_in_time():
    talk = Talk()
    delivery = talk.say(patience=10.0)
    assert talk.dialogue.deadline == 10.0
    talk.dialogue.wake(10.0)
    assert isinstance(delivery.error, DeliveryError)
    assert delivery.error.uncertain
    assert "did not come in time" in str(delivery.error)
    assert talk.dialogue.deadline is None


def test_what_a_replay_does_not_show_fails_without_resending():
    talk = Talk(resend=False)
    reply = talk.ask()
    talk.dialogue.outbox.lost(1)
    talk.dialogue.settle_doubts()
    assert isinstance(reply.error, DeliveryError)
    assert not reply.error.uncertain
    assert reply.delivery is not None
    assert reply.delivery.error is reply.error
    talk.take(PolyAgentMessage(text="For nobody"))
    assert len(talk.dialogue.replies.mailbox) == 1


# The agent speaks


def test_what_comes_is_told_in_order_and_kept_in_the_history():
    talk = Talk()
    talk.take(
        LanguageChanged(sequence=5, language_code="en"),
        Heartbeat(),
        PolyAgentThinking(sequence=6),
    )
    assert talk.news == [LanguageChanged, Heartbeat, PolyAgentThinking]
    assert [e.sequence for e in talk.dialogue.history.events()] == [5, 6]


def test_a_streamed_answer_is_told_chunk_by_chunk_and_then_as_a_whole():
    talk = Talk()
    reply = talk.ask(streaming=True)
    talk.echo(reply.delivery)
    talk.effects.news.clear()
    talk.effects.settled.clear()
    talk.take(chunk(1, "Cer"), chunk(2, "tainly.", last=True))
    assert talk.news == [PolyAgentMessageChunk] * 2 + [PolyAgentMessage]
    assert talk.effects.settled == [reply] * 3  # woken to read on, then settled
    assert reply.result is not None
    assert reply.result.text == "Certainly."
    assert reply.result.agent_name == "Ada"


def test_a_message_that_comes_again_under_another_event_id_is_told_once():
    talk = Talk()
    for number in (1, 2):
        talk.take(PolyAgentMessage(id=str(number), sequence=number, message_id="m"))
    assert talk.news == [PolyAgentMessage]
    assert len(talk.dialogue.history.events()) == 2


def test_a_whole_message_after_its_chunks_is_not_told_again():
    talk = Talk()
    talk.take(chunk(1, "a", last=True), PolyAgentMessage(message_id="m", text="a"))
    assert talk.news == [PolyAgentMessageChunk, PolyAgentMessage]


def test_a_whole_message_amid_its_chunks_ends_the_answer():
    talk = Talk()
    reply = talk.ask()
    talk.echo(reply.delivery)
    talk.take(chunk(1, "a"), PolyAgentMessage(message_id="m", text="abc"))
    assert reply.result is not None
    assert reply.result.text == "abc"
    talk.take(chunk(2, "b"), chunk(3, "c", last=True))
    assert not talk.dialogue.replies.mailbox


def test_an_answer_that_another_one_interrupts_for_good_is_told_as_far_as_it_came():
    talk = Talk()
    reply = talk.ask()
    talk.echo(reply.delivery)
    talk.take(chunk(1, "a"), chunk(3, "c"))
    talk.take(PolyAgentMessageChunk(message_id="other", chunk_index=1, text="x"))
    assert talk.dialogue.deadline == 5.0
    talk.dialogue.wake(5.0)
    assert reply.result is not None
    assert (reply.result.text, reply.result.complete) == ("ac", False)


def test_what_nobody_has_asked_for_goes_to_who_receives():
    talk = Talk()
    ticket = MessageTicket()
    talk.dialogue.replies.receive(ticket)
    talk.take(LiveAgentMessage(text="Bob here"))
    assert ticket.result == LiveAgentMessage(text="Bob here")


def test_an_early_question_does_not_get_the_greeting():
    talk = Talk(greeted=False)
    talk.take(PolyAgentJoined(), PolyAgentThinking())
    reply = talk.ask()
    talk.echo(reply.delivery)
    talk.take(PolyAgentMessage(text="Hi!"))
    assert not reply.done
    talk.take(PolyAgentMessage(text="Yes."))
    assert reply.result == PolyAgentMessage(text="Yes.")


# Joining


@pytest.mark.parametrize(
    "event", [PolyAgentJoined(), PolyAgentThinking(), chunk(1), PolyAgentMessage()]
)
def test_an_agent_that_shows_itself_in_any_way_has_joined(event: Event):
    talk = Talk(greeted=False)
    talk.dialogue.joining.begin(True)
    talk.take(event)
    assert talk.dialogue.situation.joined
    assert not talk.dialogue.joining.wanted


def test_a_live_agent_is_an_agent():
    talk = Talk(greeted=False)
    talk.dialogue.joining.begin(True)
    talk.take(LiveAgentTyping())
    assert not talk.dialogue.joining.wanted


@pytest.mark.parametrize("message", [NO_CONVERSATION, NOT_STARTED])
def test_an_agent_that_is_not_there_is_asked_for_again_in_a_while(message: str):
    talk = Talk()
    talk.error(message)
    assert not talk.dialogue.situation.joined
    assert not talk.dialogue.joining.due(1)
    assert talk.dialogue.deadline == REJOIN_AFTER
    talk.dialogue.wake(REJOIN_AFTER)
    assert talk.dialogue.joining.due(1)
    assert talk.dialogue.agentless is None


def test_what_comes_meanwhile_does_not_make_that_unnecessary():
    """Only an agent does, not what was there before."""
    talk = Talk()
    talk.error(NO_CONVERSATION)
    talk.take(Heartbeat(), LanguageChanged(), UserMessage(text="x"))
    talk.dialogue.wake(REJOIN_AFTER)
    assert talk.dialogue.joining.due(1)


def test_an_error_of_the_past_has_been_dealt_with_then():
    talk = Talk()
    talk.error(NO_CONVERSATION, live=False)
    talk.error("Error: Session not found", live=False)
    assert talk.dialogue.situation.joined
    assert not talk.dialogue.joining.wanted
    assert not talk.dialogue.disowned


def test_in_the_end_those_who_wait_are_told_that_there_is_no_agent():
    """It is asked for again twice at most."""
    talk = Talk(greeted=False)
    talk.dialogue.joining.begin(True)
    for _ in range(REJOINS):
        talk.error(NOT_STARTED)
        assert talk.dialogue.agentless is None
        talk.now += REJOIN_AFTER
        talk.dialogue.wake(talk.now)
    talk.error(NOT_STARTED)
    assert isinstance(talk.dialogue.agentless, AgentError)
    assert talk.dialogue.agentless.transient


def test_a_busy_server_has_not_taken_the_request():
    talk = Talk(greeted=False)
    talk.dialogue.joining.begin(True)
    talk.dialogue.joining.due(1)
    talk.error(BUSY)
    assert talk.dialogue.deadline == REJOIN_AFTER
    assert talk.dialogue.agentless is None


def test_where_nobody_was_asked_for_a_busy_server_means_nothing_to_the_joining():
    talk = Talk()
    talk.error(BUSY)
    assert talk.dialogue.situation.joined
    assert talk.dialogue.deadline is None


def test_a_connector_that_is_gone_will_not_come_back():
    talk = Talk(greeted=False)
    talk.dialogue.joining.begin(True)
    talk.dialogue.joining.due(1)
    talk.error("Error: Connector not found")
    assert isinstance(talk.dialogue.agentless, AgentError)
    assert not talk.dialogue.agentless.transient
    assert not talk.dialogue.joining.wanted


def test_a_greeting_that_failed_is_not_waited_for():
    talk = Talk(greeted=False)
    talk.take(PolyAgentJoined(), PolyAgentThinking())
    talk.error(NO_REPLY)
    assert isinstance(talk.dialogue.agentless, AgentError)


# Errors


def test_an_error_that_names_a_message_is_the_answer_to_it():
    talk = Talk()
    first, second = talk.ask(), talk.ask()
    talk.error(BUSY, custom={"local_id": "2"})
    assert isinstance(second.error, AgentError)
    assert second.error.transient
    assert second.delivery is not None
    assert second.delivery.error is second.error
    assert not first.done
    assert talk.news == [SystemMessage]


def test_also_when_the_message_has_arrived():
    talk = Talk()
    first, second = talk.ask(), talk.ask()
    talk.echo(first.delivery)
    talk.echo(second.delivery)
    talk.error(NO_REPLY, custom={"client_event_id": "2"})
    assert isinstance(second.error, AgentError)
    assert not first.done
    talk.take(PolyAgentMessage(text="Yes."))
    assert first.result == PolyAgentMessage(text="Yes.")


def test_an_error_that_names_none_is_the_answer_to_the_oldest_question():
    talk = Talk()
    first, second = talk.ask(), talk.ask()
    talk.echo(first.delivery)
    talk.echo(second.delivery)
    talk.error(NO_REPLY)
    assert isinstance(first.error, AgentError)
    assert not second.done


def test_even_in_the_middle_of_its_answer():
    talk = Talk()
    reply = talk.ask()
    talk.echo(reply.delivery)
    talk.take(chunk(1, "Well"))
    talk.error(NO_REPLY)
    assert isinstance(reply.error, AgentError)


def test_a_mistake_of_the_client_is_nobodys_answer():
    talk = Talk()
    reply = talk.ask()
    talk.echo(reply.delivery)
    talk.error("Event type not allowed: EVENT_TYPE_X")
    assert not reply.done
    assert talk.news == [UserMessage, SystemMessage]


def test_a_warning_is_no_error():
    talk = Talk()
    reply = talk.ask()
    talk.echo(reply.delivery)
    talk.take(SystemMessage(level=SystemMessageLevel.WARNING, message=NO_CONVERSATION))
    assert not reply.done
    assert not talk.dialogue.joining.wanted


def test_an_error_about_a_plain_message_settles_it():
    talk = Talk()
    delivery = talk.say()
    talk.error(NO_CONVERSATION, custom={"local_id": "1"})
    assert isinstance(delivery.error, AgentError)
    assert talk.dialogue.joining.wanted


def test_a_session_that_is_gone_is_noticed():
    talk = Talk()
    talk.error("Error: Session not found")
    assert talk.dialogue.disowned


# Ending


def test_each_of_the_three_signs_ends_the_conversation():
    talk = Talk()
    talk.take(SessionEnd(reason=SessionEndReason.USER_ABANDONED))
    assert talk.dialogue.finished == SessionEnd(reason=SessionEndReason.USER_ABANDONED)
    talk = Talk()
    talk.take(PolyAgentMessage(text="Bye", end_conversation=True))
    assert talk.dialogue.finished == SessionEnd(reason=SessionEndReason.NATURAL_END)
    assert talk.news == [PolyAgentMessage]
    talk = Talk()
    talk.take(UserEndSession())
    assert talk.dialogue.end_echoed
    assert talk.dialogue.finished is None


def test_what_has_come_of_an_answer_is_told_at_the_end():
    talk = Talk()
    talk.take(PolyAgentThinking(), chunk(1, "Cer"))
    talk.dialogue.finish()
    assert talk.news[-1] is PolyAgentMessage
    assert talk.effects.news[-1].text == "Cer"
    assert not talk.effects.news[-1].complete
    assert not talk.dialogue.situation.typing


def test_all_who_wait_are_told_why():
    talk = Talk()
    written, reply = talk.say(), talk.ask()
    talk.dialogue.outbox.lost(1)
    unwritten = talk.say()
    receiver = MessageTicket()
    talk.dialogue.replies.receive(receiver)
    cause = ConnectionLostError("the wire was cut: mend it")
    talk.dialogue.fail_waiting(cause)
    for delivery, uncertain in ((written, True), (unwritten, False)):
        assert isinstance(delivery.error, DeliveryError)
        assert delivery.error.uncertain is uncertain
        assert delivery.error.__cause__ is cause
        assert str(delivery.error).startswith("the wire was cut before")
    assert isinstance(reply.error, DeliveryError)
    assert receiver.error is cause


@pytest.mark.parametrize("kind", [ClientClosedError, SessionEndedError])
def test_who_waits_for_an_answer_is_told_that_it_is_over(kind: type[Exception]):
    talk = Talk()
    unconfirmed, confirmed = talk.ask(), talk.ask()
    talk.echo(confirmed.delivery)
    cause = kind("over")
    talk.dialogue.fail_waiting(cause)
    assert unconfirmed.error is confirmed.error is cause


# An earlier life


def test_what_an_earlier_life_has_delivered_is_only_remembered():
    talk = Talk(greeted=False)
    talk.dialogue.delivered_before = 9
    talk.dialogue.joining.begin(True)
    talk.take(
        SessionStart(sequence=1, capabilities=Capabilities(max_message_size_bytes=0)),
        PolyAgentJoined(sequence=2, agent_name="Ada"),
        PolyAgentMessage(sequence=3, message_id="hi"),
        LanguageChanged(sequence=4, language_code="de"),
        PolyAgentMessageChunk(sequence=9, message_id="m", chunk_index=1, text="Cer"),
        live=False,
    )
    dialogue = talk.dialogue
    assert talk.news == []
    assert len(dialogue.history.events()) == 5
    assert dialogue.situation.language == "de"
    assert dialogue.situation.joined
    assert not dialogue.joining.wanted
    assert not dialogue.replies.mailbox
    assert dialogue.streams.agent == Agent(name="Ada")
    talk.say("x" * 1_000_000)
    # What it had begun is finished here, and the greeting is not told again.
    talk.take(
        PolyAgentMessageChunk(
            sequence=10, message_id="m", chunk_index=2, text="tainly", is_complete=True
        ),
        PolyAgentMessage(sequence=11, message_id="hi"),
        live=False,
    )
    assert talk.news == [PolyAgentMessageChunk, PolyAgentMessage]
    assert talk.effects.news[-1].text == "Certainly"


def test_an_end_that_it_has_seen_is_the_end():
    talk = Talk()
    talk.dialogue.delivered_before = 9
    end = SessionEnd(sequence=9, reason=SessionEndReason.NATURAL_END)
    talk.take(end, live=False)
    assert talk.dialogue.finished is end


def test_the_latest_of_a_long_history_can_be_kept_alone():
    talk = Talk(history_limit=3)
    talk.take(*(LanguageChanged(sequence=n) for n in range(1, 100)))
    assert [e.sequence for e in talk.dialogue.history.events()] == [97, 98, 99]
