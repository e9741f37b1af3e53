"""What agents answer, in whichever form, becomes the right events in order."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from polysync.sandbox import Handoff, Leave, Push, Reply, Sandbox, SilentAgent, Turn
from tests.sandbox.bare import Bare, text, types


def talk(agent: Any, said: str = "hello", *, streaming: bool = True) -> list[Any]:
    """Say one thing to an agent and return what comes after the echo."""
    with Sandbox(agent) as sandbox, Bare(sandbox, streaming=streaming) as bare:
        bare.connect()
        bare.join()
        return bare.say(said)[1:]


def test_a_function_may_return_a_string() -> None:
    assert text(talk(lambda turn: f"You said {turn.text}.")) == "You said hello."


def test_a_function_is_greeted_for() -> None:
    with Sandbox(lambda turn: "x") as sandbox, Bare(sandbox) as bare:
        bare.connect()
        assert text(bare.join()) == "Hello! How can I help you today?"


def test_strings_of_a_generator_are_the_pieces_of_one_message() -> None:
    def agent(turn: Turn) -> Iterator[str]:
        yield "One,"
        yield " two."

    chunks = [event["payload"] for event in talk(agent)[1:]]
    (_, message) = talk(agent, streaming=False)

    assert [chunk["text"] for chunk in chunks] == ["One,", " two.", ""]
    assert [chunk["is_complete"] for chunk in chunks] == [False, False, True]
    assert message["payload"]["text"] == "One, two."


def test_a_piece_is_sent_before_the_next_is_there() -> None:
    go_on = threading.Event()

    def agent(turn: Turn) -> Iterator[str]:
        yield "One,"
        assert go_on.wait(5)
        yield " two."

    with Sandbox(agent) as sandbox, Bare(sandbox, join=True) as bare:
        bare.send("USER_MESSAGE", {"text": "hello"})
        seen = bare.until("POLY_AGENT_MESSAGE_CHUNK")
        go_on.set()
        rest = bare.reply()

    assert text(seen[1:]) == "One,"
    assert text(rest) == " two."


def test_a_reply_without_text_completes_what_was_begun() -> None:
    def agent(turn: Turn) -> Iterator[str | Reply]:
        yield "Choose:"
        yield Reply(suggestions=["a", {"message_text": "b", "payload": "B"}])

    *_, last = talk(agent)
    (_, whole) = talk(agent, streaming=False)

    expected = [{"message_text": "a"}, {"message_text": "b", "payload": "B"}]
    assert last["payload"]["response_suggestions"] == expected
    assert last["payload"]["is_complete"] is True
    assert whole["payload"]["response_suggestions"] == expected
    assert whole["payload"]["text"] == "Choose:"


def test_the_last_chunk_carries_the_attachments() -> None:
    events = talk(lambda turn: Reply("Look here", attachments=[{"title": "x"}]))

    assert [e["payload"]["attachments"] for e in events[1:]] == [[], [{"title": "x"}]]


def test_telephone_numbers_come_in_a_whole_message() -> None:
    call = {"title": "Us", "contact_number": "+12025550143"}
    (_, message) = talk(lambda turn: Reply("Call us", call_actions=[call]))

    assert message["type"] == "EVENT_TYPE_POLY_AGENT_MESSAGE"
    assert message["payload"]["chat_call_actions"] == [call]


def test_several_replies_are_several_messages() -> None:
    def agent(turn: Turn) -> list[Reply]:
        return [Reply("One."), Reply("Two.")]

    with (
        Sandbox(agent) as sandbox,
        Bare(sandbox, streaming=False, join=True) as bare,
    ):
        first, second = bare.say("hello"), bare.reply()

    assert (text(first[1:]), text(second)) == ("One.", "Two.")


async def coroutine(turn: Turn) -> str:
    return "async"


async def generator(turn: Turn) -> AsyncIterator[str]:
    yield "as"
    yield "ync"


@pytest.mark.parametrize("agent", [coroutine, generator])
def test_agents_may_be_asynchronous(agent: Any) -> None:
    assert text(talk(agent)) == "async"


@pytest.mark.parametrize("streaming", [True, False])
def test_a_reply_can_end_the_conversation(streaming: bool) -> None:
    with (
        Sandbox(lambda turn: Reply("Bye", end=True)) as sandbox,
        Bare(sandbox, streaming=streaming, join=True) as bare,
    ):
        last = bare.say("hello")[-1]
        end = bare.receive()
        assert bare.close_code() == 1000

    assert end["payload"] == {"reason": "REASON_NATURAL_END"}
    assert last["payload"].get("end_conversation", True) is True


class Counter:
    """Remembers, in itself and in the turn, what was said."""

    def __init__(self) -> None:
        self.mine = 0

    def greeting(self, turn: Turn) -> str:
        return "Counting."

    def reply(self, turn: Turn) -> str:
        self.mine += 1
        theirs = turn.state["n"] = turn.state.get("n", 0) + 1
        return f"{self.mine} {theirs} {turn.number}"


def test_a_class_is_instantiated_for_each_conversation() -> None:
    with (
        Sandbox(Counter) as sandbox,
        Bare(sandbox, join=True) as one,
        Bare(sandbox, join=True) as two,
    ):
        said = [text(b.say("x")[1:]) for b in (one, two, one)]

    assert said == ["1 1 1", "1 1 1", "2 2 2"]


def test_an_instance_is_shared_and_the_state_is_not() -> None:
    with (
        Sandbox(Counter()) as sandbox,
        Bare(sandbox, join=True) as one,
        Bare(sandbox, join=True) as two,
    ):
        said = [text(b.say("x")[1:]) for b in (one, two, one)]

    assert said == ["1 1 1", "2 1 1", "3 2 2"]


def test_an_agent_that_blocks_holds_up_nobody_else() -> None:
    go_on = threading.Event()

    def agent(turn: Turn) -> str:
        if turn.text == "wait":
            assert go_on.wait(5)
        return turn.text

    with (
        Sandbox(agent) as sandbox,
        Bare(sandbox, join=True) as slow,
        Bare(sandbox, join=True) as fast,
    ):
        slow.send("USER_MESSAGE", {"text": "wait"})
        slow.send("USER_MESSAGE", {"text": "then"})
        slow.send("HEARTBEAT")
        echoes = slow.until("HEARTBEAT")
        assert text(fast.say("at once")[1:]) == "at once"
        go_on.set()
        answers = slow.reply() + slow.reply()

    assert types(echoes).count("USER_MESSAGE") == 2
    assert text(answers) == "waitthen"


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), StopIteration(4)])
def test_an_agent_that_fails_is_reported(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def agent(turn: Turn) -> str:
        if turn.text == "fail":
            raise error
        return "fine"

    with Sandbox(agent) as sandbox, Bare(sandbox, join=True) as bare:
        bare.send("USER_MESSAGE", {"text": "fail"}, {"a": "b"})
        failure = bare.until("SYSTEM_MESSAGE")[-1]
        assert text(bare.say("hello")[1:]) == "fine"

    assert failure["payload"]["message"].startswith("Sorry, I encountered an error")
    assert failure["metadata"] == {"custom": {"a": "b"}}
    assert "the agent failed" in caplog.text


def test_an_answer_of_the_wrong_kind_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Sandbox(lambda turn: [17]) as sandbox, Bare(sandbox, join=True) as bare:
        bare.send("USER_MESSAGE", {"text": "x"})
        bare.until("SYSTEM_MESSAGE")

    assert "not 17" in caplog.text


@pytest.mark.parametrize("nonsense", [17, dict])
def test_what_cannot_be_an_agent_is_refused(nonsense: Any) -> None:
    with pytest.raises(TypeError, match="an agent is a function"):
        Sandbox(nonsense)


def test_a_silent_agent_greets_and_is_silent() -> None:
    with Sandbox(SilentAgent) as sandbox, Bare(sandbox, join=True) as bare:
        bare.send("USER_MESSAGE", {"text": "hello"})
        bare.until("POLY_AGENT_THINKING")
        bare.send("HEARTBEAT")
        assert types([bare.receive()]) == ["HEARTBEAT"]
    with Sandbox(SilentAgent("")) as sandbox, Bare(sandbox) as bare:
        bare.connect()
        bare.replay()
        bare.send("REQUEST_POLY_AGENT_JOIN")
        bare.until("POLY_AGENT_THINKING")


def test_any_event_can_be_pushed_in_its_place() -> None:
    def agent(turn: Turn) -> Iterator[str | Push]:
        yield Push("LANGUAGE_CHANGED", {"language_code": "es"})
        yield "Hola"

    assert types(talk(agent))[1:3] == ["LANGUAGE_CHANGED", "POLY_AGENT_MESSAGE_CHUNK"]


def test_the_conversation_ends_while_the_agent_speaks() -> None:
    first, go_on = threading.Event(), threading.Event()

    def agent(turn: Turn) -> Iterator[str]:
        yield "One"
        first.set()
        assert go_on.wait(5)
        yield "two"

    with Sandbox(agent) as sandbox, Bare(sandbox, join=True) as bare:
        bare.send("USER_MESSAGE", {"text": "hello"})
        assert first.wait(5)
        bare.session.end()
        go_on.set()
        bare.until("SESSION_END")
        assert bare.close_code() == 1000
        assert bare.session.types[-1] == "SESSION_END"
        with pytest.raises(RuntimeError, match="has ended"):
            bare.session.say("more")


# Handing over.

HANDOVER = [
    "POLY_AGENT_LEFT",
    "POLY_AGENT_TRIGGERED_HANDOFF",
    "HANDOFF_ACCEPTED",
    "HANDOFF_QUEUE_STATUS",
    "HANDOFF_QUEUE_STATUS",
    "LIVE_AGENT_JOINED",
    "LIVE_AGENT_TYPING",
    "LIVE_AGENT_TYPING",
    "LIVE_AGENT_MESSAGE",
]


def human(turn: Turn) -> Iterator[Reply | Leave]:
    yield Reply(f"I heard: {turn.text}")
    if turn.text == "leave":
        yield Leave("done")


def test_a_human_takes_over_answers_and_leaves() -> None:
    handoff = Handoff(queue_name="Q", agent_name="Kim", reply=human)
    with Sandbox(lambda turn: handoff) as sandbox, Bare(sandbox, join=True) as bare:
        bare.send("USER_MESSAGE", {"text": "help"})
        events = bare.until("LIVE_AGENT_MESSAGE")[2:]
        live = bare.session.live_agent
        answer = bare.say("leave")
        left = bare.receive()
        bare.send("USER_MESSAGE", {"text": "anyone?"})
        nobody = bare.receive()
        bare.send("REQUEST_POLY_AGENT_JOIN")
        assert "POLY_AGENT_JOINED" in types(bare.reply())

    assert types(events) == HANDOVER
    assert events[2]["payload"] == {"queue_name": "Q"}
    assert [e["payload"]["position_in_queue"] for e in events[3:5]] == [2, 1]
    assert events[3]["sequence"] is None
    assert live is not None
    assert live["name"] == "Kim"
    assert types(answer) == [
        "USER_MESSAGE",
        "LIVE_AGENT_TYPING",
        "LIVE_AGENT_TYPING",
        "LIVE_AGENT_MESSAGE",
    ]
    assert answer[-1]["payload"]["text"] == "I heard: leave"
    assert answer[-1]["payload"]["agent_name"] == "Kim"
    assert left["type"] == "EVENT_TYPE_LIVE_AGENT_LEFT"
    assert left["payload"]["reason"] == "done"
    assert nobody["payload"]["message"] == "Error: Conversation not found"


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("failed", ["POLY_AGENT_TRIGGERED_HANDOFF", "HANDOFF_FAILED"]),
        (
            "timeout",
            ["POLY_AGENT_TRIGGERED_HANDOFF", "HANDOFF_ACCEPTED", "HANDOFF_TIMEOUT"],
        ),
        ("client", ["CLIENT_HANDOFF_REQUIRED"]),
    ],
)
def test_a_handoff_that_brings_nobody_leaves_the_agent(
    outcome: Any, expected: list[str]
) -> None:
    def agent(turn: Turn) -> Handoff | str:
        if turn.number == 1:
            return Handoff(outcome=outcome, queue=(), reason="POLICY")
        return "Still here."

    with Sandbox(agent) as sandbox, Bare(sandbox, join=True) as bare:
        bare.send("USER_MESSAGE", {"text": "help"})
        events = bare.until(expected[-1])[2:]
        assert text(bare.say("hello")[1:]) == "Still here."

    assert types(events) == expected
    assert events[-1]["payload"]["reason"] == "POLICY"


def test_messages_in_the_queue_are_answered_by_the_human() -> None:
    entered, go_on = threading.Event(), threading.Event()

    class Waiting:
        def greeting(self, turn: Turn) -> str:
            return "Hi."

        def reply(self, turn: Turn) -> Iterator[Handoff]:
            entered.set()
            assert go_on.wait(5)
            yield Handoff(reply=human, greeting="")

    with Sandbox(Waiting) as sandbox, Bare(sandbox, join=True) as bare:
        bare.send("USER_MESSAGE", {"text": "help"})
        assert entered.wait(5)
        bare.send("USER_MESSAGE", {"text": "while waiting"})
        bare.until("USER_MESSAGE")
        go_on.set()
        answer = bare.until("LIVE_AGENT_MESSAGE")[-1]

    assert answer["payload"]["text"] == "I heard: while waiting"
