"""What a client says: messages, questions, typing, and asking for the agent."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from polysync import (
    AgentError,
    Client,
    DeliveryError,
    DeliveryTimeoutError,
    ReplyTimeoutError,
    SessionEndedError,
)
from polysync.events import (
    LiveAgentMessage,
    PolyAgentMessage,
    SystemMessage,
    UserMessage,
)
from polysync.models import Attachment, ChatCallAction, ResponseSuggestion
from polysync.sandbox import EchoAgent, Handoff, Moment, Reply, Sandbox, Turn
from tests.clients import (
    NOISE,
    PATIENCE,
    SHORT,
    Task,
    chunk,
    client_of,
    eventually,
    talking,
)


@pytest.fixture
def echoing() -> Iterator[tuple[Sandbox, Client]]:
    with talking(EchoAgent) as both:
        yield both


# Test ask.


def test_ask_returns_the_reply(echoing: tuple[Sandbox, Client]) -> None:
    _, client = echoing
    message = client.ask("one")

    assert isinstance(message, PolyAgentMessage)
    assert message.text == "one"
    assert message.complete
    assert not message.is_live_agent
    assert message.agent_name == "Echo"


def test_ask_puts_chunks_together() -> None:
    def agent(turn: Turn) -> Iterator[str]:
        yield from ("A table", " for ", "two.")

    with talking(agent) as (_, client):
        message = client.ask("one")
        assert message.text == "A table for two."
        assert isinstance(message, PolyAgentMessage)
        assert message.assembled
        assert message.id == message.message_id


def test_ask_returns_all_that_goes_with_a_message() -> None:
    def agent(turn: Turn) -> Reply:
        return Reply(
            "Call us.",
            suggestions=["Yes", {"message_text": "No", "payload": 1}],
            attachments=[{"title": "Menu", "content_url": "https://example.com/m"}],
            call_actions=[{"title": "Call", "contact_number": "+44 1"}],
        )

    with talking(agent) as (_, client):
        message = client.ask("one")
        assert message.attachments == (
            Attachment(title="Menu", content_url="https://example.com/m"),
        )
        assert message.response_suggestions == (
            ResponseSuggestion(message_text="Yes"),
            ResponseSuggestion(message_text="No", payload=1),
        )
        assert message.chat_call_actions == (
            ChatCallAction(title="Call", contact_number="+44 1"),
        )


def test_ask_without_streaming() -> None:
    with talking(EchoAgent, streaming=False) as (sandbox, client):
        message = client.ask("one")
        assert message.text == "one"
        assert isinstance(message, PolyAgentMessage)
        assert not message.assembled
        assert "POLY_AGENT_MESSAGE_CHUNK" not in sandbox.session.types


def test_ask_is_answered_by_a_live_agent() -> None:
    def agent(turn: Turn) -> Handoff:
        return Handoff(greeting="", reply=lambda turn: f"Sam heard {turn.text}")

    with talking(agent) as (_, client):
        client.send_message("a human, please")
        eventually(lambda: client.live_agent)
        message = client.ask("one")
        assert isinstance(message, LiveAgentMessage)
        assert message.is_live_agent
        assert message.text == "Sam heard one"
        assert message.agent_name == "Sam"
        assert client.transcript[-1].role == "live_agent"


def test_the_greeting_answers_no_question() -> None:
    with Sandbox(EchoAgent) as sandbox:
        sandbox.faults.delay(Moment.JOIN, SHORT)
        client = client_of(sandbox).connect(wait="session")
        assert client.ask("one").text == "one"
        assert client.greeting is not None
        assert client.receive().text == client.greeting.text
        client.close()


def test_ask_times_out_when_the_agent_says_nothing() -> None:
    with talking() as (sandbox, client):
        task = Task(client.ask, "one", timeout=SHORT)
        error = task.outcome()
        assert isinstance(error, ReplyTimeoutError)
        assert isinstance(error, TimeoutError)
        assert error.timeout == SHORT
        assert "the message arrived" in str(error)
        assert SHORT * 0.99 <= task.took < SHORT + NOISE

        # What comes too late is for receive(), and the next question is answered.
        client.receive()
        sandbox.session.say("late")
        assert client.receive().text == "late"


def test_ask_uses_the_timeout_of_the_client() -> None:
    with talking(reply_timeout=SHORT) as (_, client):
        task = Task(client.ask, "one")
        assert isinstance(task.outcome(), ReplyTimeoutError)
        assert SHORT * 0.99 <= task.took < SHORT + NOISE


def test_ask_that_was_not_even_confirmed_is_a_delivery_error() -> None:
    with talking() as (sandbox, client):
        sandbox.faults.swallow_messages()
        with pytest.raises(DeliveryTimeoutError) as caught:
            client.ask("one", timeout=SHORT, metadata={"a": "b"})
        error = caught.value
        assert isinstance(error, TimeoutError)
        assert error.uncertain
        assert error.text == "one"
        assert error.metadata == {"a": "b"}
        assert "may have arrived" in str(error)


def test_ask_that_was_never_sent_is_certainly_not_delivered() -> None:
    with Sandbox(EchoAgent) as sandbox:
        sandbox.faults.delay(Moment.JOIN, 60.0)
        client = client_of(sandbox).connect(wait="session")
        with pytest.raises(DeliveryTimeoutError) as caught:
            client.ask("one", timeout=SHORT)
        assert not caught.value.uncertain
        assert "was not sent" in str(caught.value)
        assert sandbox.received.events("USER_MESSAGE") == []
        client.close()


def test_ask_raises_what_the_agent_could_not_do(
    echoing: tuple[Sandbox, Client],
) -> None:
    sandbox, client = echoing
    sandbox.faults.fail_reply()
    with pytest.raises(AgentError, match="having trouble responding") as caught:
        client.ask("one")
    assert caught.value.transient
    assert caught.value.retryable
    assert caught.value.message.startswith("Sorry")

    assert client.ask("two").text == "two"


def test_an_error_answers_the_question_that_it_names() -> None:
    with talking() as (sandbox, client):
        tasks = {}
        for text in ("one", "two"):
            tasks[text] = Task(client.ask, text)
            sandbox.wait_until(
                lambda text=text: (
                    sandbox.session.user_messages[-1:]
                    and sandbox.session.user_messages[-1].text == text
                )
            )
        custom = sandbox.session.user_messages[1].metadata
        sandbox.session.push(
            "SYSTEM_MESSAGE",
            {
                "level": "SYSTEM_MESSAGE_LEVEL_ERROR",
                "message": "Sorry, I encountered an error. Please try again.",
            },
            custom=custom,
        )
        assert isinstance(tasks["two"].outcome(), AgentError)
        sandbox.session.say("answer")
        assert tasks["one"].result().text == "answer"


def test_ask_of_a_conversation_that_ends_raises_the_end() -> None:
    with talking() as (sandbox, client):
        task = Task(client.ask, "one")
        sandbox.wait_until(lambda: sandbox.session.user_messages)
        sandbox.session.end("REASON_USER_ABANDONED")
        error = task.outcome()
        assert isinstance(error, SessionEndedError)
        assert error.reason == "REASON_USER_ABANDONED"


def test_the_last_reply_is_returned_before_the_end_shows() -> None:
    with talking(lambda turn: Reply("Goodbye.", end=True)) as (_, client):
        assert client.ask("bye").text == "Goodbye."
        eventually(lambda: client.ended)
        assert client.end_reason == "REASON_NATURAL_END"


def test_questions_of_many_threads_are_all_answered(
    echoing: tuple[Sandbox, Client],
) -> None:
    sandbox, client = echoing
    tasks = [Task(client.ask, f"question {number}") for number in range(20)]
    replies = sorted(task.result().text for task in tasks)

    assert replies == sorted(f"question {number}" for number in range(20))
    said = [message.text for message in sandbox.session.user_messages]
    assert sorted(said) == replies


def test_many_threads_send_and_ask_at_once(echoing: tuple[Sandbox, Client]) -> None:
    sandbox, client = echoing
    texts: list[str] = []
    lock = threading.Lock()

    def talk(name: int) -> None:
        for number in range(5):
            text = f"{name}.{number}"
            with lock:
                texts.append(text)
            if number % 2:
                assert client.send_message(text).text == text
            else:
                client.ask(text)

    tasks = [Task(talk, name) for name in range(20)]
    for task in tasks:
        task.result()
    said = [message.text for message in sandbox.session.user_messages]
    assert sorted(said) == sorted(texts)
    for name in range(20):
        mine = [text for text in said if text.startswith(f"{name}.")]
        assert mine == sorted(mine)


# Test send_message.


def test_send_message_returns_the_receipt(echoing: tuple[Sandbox, Client]) -> None:
    sandbox, client = echoing
    echo = client.send_message("one", metadata={"page": "/menu"})

    assert isinstance(echo, UserMessage)
    assert echo.text == "one"
    assert echo.message_id == sandbox.session.user_messages[0].message_id
    assert echo.metadata["page"] == "/menu"
    assert echo.sequence is not None


def test_messages_carry_an_id_of_their_own_under_both_names(
    echoing: tuple[Sandbox, Client],
) -> None:
    sandbox, client = echoing
    client.send_message("one")
    client.send_message("one")
    customs = [
        event["metadata"]["custom"] for event in sandbox.received.events("USER_MESSAGE")
    ]

    assert len({custom["local_id"] for custom in customs}) == 2
    for custom in customs:
        assert custom["local_id"] == custom["client_event_id"]


def test_send_message_does_not_wait_for_the_reply() -> None:
    with talking() as (_, client):
        assert client.send_message("one", timeout=PATIENCE).text == "one"


def test_a_reply_to_send_message_is_for_receive(
    echoing: tuple[Sandbox, Client],
) -> None:
    _, client = echoing
    client.receive()
    client.send_message("one")
    assert client.receive().text == "one"


def test_send_message_without_receipt_times_out() -> None:
    with talking() as (sandbox, client):
        sandbox.faults.swallow_messages()
        task = Task(client.send_message, "one", timeout=SHORT)
        error = task.outcome()
        assert isinstance(error, DeliveryTimeoutError)
        assert error.uncertain
        assert SHORT * 0.99 <= task.took < SHORT + NOISE


def test_a_receipt_that_comes_too_late_still_counts() -> None:
    with talking() as (sandbox, client):
        sandbox.faults.delay(Moment.RECORDED, 3 * SHORT, type="USER_MESSAGE")
        with pytest.raises(DeliveryTimeoutError):
            client.send_message("one", timeout=SHORT)
        assert client.transcript[-1].delivery == "failed"
        eventually(lambda: client.transcript[-1].delivery == "sent")
        assert [item.text for item in client.transcript][1:] == ["one"]


def test_send_message_that_the_server_refuses(
    echoing: tuple[Sandbox, Client],
) -> None:
    sandbox, client = echoing
    sandbox.session.lose_agent()
    with pytest.raises(AgentError, match="Conversation not found"):
        client.send_message("one")


def test_texts_arrive_as_they_are(echoing: tuple[Sandbox, Client]) -> None:
    sandbox, client = echoing
    for text in (
        " spaces stay ",
        "línea\nnueva\t\u2028",
        '"quotes" \\ and / and {}',
        "😀 مرحبا 你好",
        "\x00\x1f control",
        "x" * 100_000,
    ):
        assert client.send_message(text).text == text
        assert sandbox.session.user_messages[-1].text == text


def test_a_long_message_goes_out_in_fragments(
    echoing: tuple[Sandbox, Client],
) -> None:
    """Gateways cut connections that send frames above 32 KiB."""
    sandbox, client = echoing
    client.send_message("x" * 100_000)
    frame = next(f for f in sandbox.received.frames if "USER_MESSAGE" in (f.type or ""))
    assert frame.fragments == 4


def test_a_lone_surrogate_spoils_only_itself(
    echoing: tuple[Sandbox, Client],
) -> None:
    _, client = echoing
    assert client.send_message("a\ud800b").text[::2] == "ab"
    assert client.ask("two").text.endswith("two")


# Test submit_message.


def test_submit_message_gives_a_future_of_the_receipt(
    echoing: tuple[Sandbox, Client],
) -> None:
    _, client = echoing
    future = client.submit_message("one", metadata={"a": "b"})

    assert isinstance(future, concurrent.futures.Future)
    assert not future.cancel()
    echo = future.result(PATIENCE)
    assert echo.text == "one"
    assert echo.metadata["a"] == "b"


def test_submitted_messages_arrive_in_the_order_of_the_calls(
    echoing: tuple[Sandbox, Client],
) -> None:
    sandbox, client = echoing
    futures = [client.submit_message(str(number)) for number in range(100)]
    concurrent.futures.wait(futures, PATIENCE)

    assert [f.result(0).text for f in futures] == [str(n) for n in range(100)]
    said = [message.text for message in sandbox.session.user_messages]
    assert said == [str(number) for number in range(100)]


def test_a_submitted_message_without_receipt_fails_in_time() -> None:
    with talking(timeout=SHORT, connect={"timeout": PATIENCE}) as (sandbox, client):
        sandbox.faults.swallow_messages()
        error = client.submit_message("one").exception(PATIENCE)
        assert isinstance(error, DeliveryError)
        assert error.uncertain
        assert "receipt did not come in time" in str(error)


def test_submitting_while_disconnected_sends_later(
    echoing: tuple[Sandbox, Client],
) -> None:
    sandbox, client = echoing
    with sandbox.outage():
        eventually(lambda: client.status == "reconnecting")
        futures = [client.submit_message(text) for text in ("one", "two")]
        assert not any(future.done() for future in futures)
    assert [future.result(PATIENCE).text for future in futures] == ["one", "two"]
    said = [message.text for message in sandbox.session.user_messages]
    assert said == ["one", "two"]


def test_a_function_of_the_future_may_close_the_client(
    echoing: tuple[Sandbox, Client],
) -> None:
    _, client = echoing
    closed = threading.Event()

    def done(future: Any) -> None:
        client.close()
        closed.set()

    client.submit_message("one").add_done_callback(done)
    assert closed.wait(PATIENCE)
    assert client.status == "closed"


# Test send_typing.


def test_typing_is_shown_and_taken_back() -> None:
    with talking() as (sandbox, client):
        for _ in range(10):
            client.send_typing()
        sandbox.wait_until(lambda: sandbox.session.user_is_typing)
        client.send_typing("stopped")
        sandbox.wait_until(lambda: not sandbox.session.user_is_typing)
        states = [
            event["payload"]["state"]
            for event in sandbox.received.events("USER_TYPING")
        ]
        assert states == ["TYPING_STATE_STARTED", "TYPING_STATE_STOPPED"]


def test_typing_stops_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polysync.protocol.typing_indicator.STOPPED_AFTER", SHORT)
    with talking() as (sandbox, client):
        client.send_typing("started")
        sandbox.wait_until(lambda: len(sandbox.received.events("USER_TYPING")) == 2)
        assert not sandbox.session.user_is_typing


def test_typing_is_refused_in_other_words() -> None:
    with talking() as (sandbox, client):
        for state in ("typing", "", None, 1):
            with pytest.raises(ValueError, match="'started' or 'stopped'"):
                client.send_typing(state)  # type: ignore[arg-type]
        assert sandbox.received.events("USER_TYPING") == []


def test_typing_while_disconnected_sends_nothing_and_raises_nothing() -> None:
    with talking() as (sandbox, client):
        with sandbox.outage():
            eventually(lambda: client.status == "reconnecting")
            client.send_typing()
        eventually(lambda: client.status == "open")
        client.send_message("one")
        assert sandbox.received.events("USER_TYPING") == []


# Test request_agent_join.


def test_the_agent_can_be_asked_for_later() -> None:
    with talking(EchoAgent, connect={"join": False}) as (_, client):
        assert client.agent is None
        client.request_agent_join()
        assert client.receive().text == "Hello! How can I help you today?"
        assert client.agent is not None
        assert client.ask("one").text == "one"


def test_a_lost_agent_is_asked_for_again(
    echoing: tuple[Sandbox, Client],
) -> None:
    sandbox, client = echoing
    client.receive()
    sandbox.session.lose_agent()
    client.request_agent_join()
    assert client.receive().text == "Hello! How can I help you today?"
    assert client.ask("one").text == "one"


def test_a_lost_agent_comes_back_by_itself(
    echoing: tuple[Sandbox, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server says "Conversation not found" to the next message."""
    monkeypatch.setattr("polysync.protocol.joining.REJOIN_AFTER", 0.01)
    sandbox, client = echoing
    client.receive()
    sandbox.session.lose_agent()
    with pytest.raises(AgentError):
        client.ask("one")
    assert client.receive().text == "Hello! How can I help you today?"
    assert client.ask("two").text == "two"


# Test what comes unasked.


def test_system_messages_at_other_levels_fail_nothing() -> None:
    with talking() as (sandbox, client):
        task = Task(client.ask, "one")
        sandbox.wait_until(lambda: sandbox.session.user_messages)
        events = client.events(SystemMessage)
        for level in ("INFO", "WARNING"):
            sandbox.session.push(
                "SYSTEM_MESSAGE",
                {"level": f"SYSTEM_MESSAGE_LEVEL_{level}", "message": "Just so."},
            )
        assert [next(events).level[-4:] for _ in range(2)] == ["INFO", "NING"]
        sandbox.session.say("answer")
        assert task.result().text == "answer"


def test_interleaved_messages_are_told_apart() -> None:
    with talking() as (sandbox, client):
        client.receive()
        task = Task(client.ask, "one")
        sandbox.wait_until(lambda: sandbox.session.user_messages)
        session = sandbox.session
        chunk(session, "a", 1, "first ")
        chunk(session, "b", 1, "second ")
        chunk(session, "a", 2, "whole", last=True)
        chunk(session, "b", 2, "whole", last=True)
        assert task.result().text == "first whole"
        assert client.receive().text == "second whole"
