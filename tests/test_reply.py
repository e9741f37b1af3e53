"""A reply while it comes: its chunks, its text, its message, and leaving it."""

from __future__ import annotations

import gc
import pickle
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from polysync import (
    AgentError,
    Client,
    ClientClosedError,
    DeliveryError,
    PolysyncError,
    Reply,
    ReplyTimeoutError,
    SessionEndedError,
)
from polysync.events import PolyAgentMessageChunk
from polysync.protocol.tickets import ReplyTicket
from polysync.sandbox import EchoAgent, Handoff, Sandbox, Turn
from polysync.sandbox import Reply as Answer
from tests.clients import (
    NOISE,
    SHORT,
    Task,
    chunk,
    eventually,
    talking,
    waiting,
)


@pytest.fixture
def streaming() -> Iterator[tuple[Sandbox, Client, Reply]]:
    """A reply that is asked for and whose chunks the test sends, as message "m"."""
    with talking() as (sandbox, client):
        client.receive()
        reply = client.stream("one")
        sandbox.wait_until(lambda: sandbox.session.user_messages)
        yield sandbox, client, reply


def send(sandbox: Sandbox, *texts: str, start: int = 1, last: bool = True) -> None:
    for index, text in enumerate(texts, start):
        end = last and index == start + len(texts) - 1
        chunk(sandbox.session, "m", index, text, last=end)


class Watcher:
    """An observer that takes its time over the end of a reply."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.begun = threading.Event()
        self.reader_is_through = threading.Event()
        self.was_first: bool | None = None

    def saw(self, news: Sequence[object], settled: Sequence[Any]) -> None:
        if any(isinstance(each, ReplyTicket) and each.done for each in settled):
            self.begun.set()
            self.was_first = not self.reader_is_through.wait(self.patience)


# Test iteration.


def test_chunks_come_one_by_one(streaming: tuple[Sandbox, Client, Reply]) -> None:
    sandbox, _, reply = streaming
    for index, text in enumerate(["A ", "table", ".", ""], 1):
        task = Task(next, reply)
        chunk(sandbox.session, "m", index, text, last=index == 4)
        part = task.result()
        assert isinstance(part, PolyAgentMessageChunk)
        assert (part.text, part.chunk_index) == (text, index)
        assert part.is_complete is (index == 4)
    assert list(reply) == []
    assert reply.text == "A table."


def test_text_is_what_has_been_read(streaming: tuple[Sandbox, Client, Reply]) -> None:
    sandbox, _, reply = streaming
    assert reply.text == ""
    send(sandbox, "A ", "table", " for two")
    seen = []
    for _ in reply:
        seen.append(reply.text)
    assert seen == ["A ", "A table", "A table for two"]


def test_message_waits_for_the_whole(streaming: tuple[Sandbox, Client, Reply]) -> None:
    sandbox, client, reply = streaming
    send(sandbox, "A ", last=False)
    assert next(reply).text == "A "
    task = Task(lambda: reply.message)
    send(sandbox, "table", start=2)
    message = task.result()
    assert message.text == "A table"
    assert message.complete
    assert reply.message is message
    assert reply.text == "A table"
    assert client.history[-1].type.endswith("CHUNK")


def test_message_alone_will_do() -> None:
    with talking(EchoAgent) as (_, client):
        assert client.stream("one two three").message.text == "one two three"


def test_chunks_that_come_out_of_order_are_put_in_order(
    streaming: tuple[Sandbox, Client, Reply],
) -> None:
    sandbox, _, reply = streaming
    session = sandbox.session
    chunk(session, "m", 3, "c", last=True)
    chunk(session, "m", 2, "b")
    chunk(session, "m", 2, "b")
    chunk(session, "m", 1, "a")
    assert [part.text for part in reply] == ["a", "b", "c"]


def test_the_end_is_seen_by_the_observer_first(
    streaming: tuple[Sandbox, Client, Reply], unit: float
) -> None:
    """Who reads more slowly than the reply comes does not overtake who traces it."""
    sandbox, client, reply = streaming
    watcher = Watcher(5 * unit)
    client._engine.observer = watcher  # type: ignore[assignment]
    send(sandbox, "A ", "table.")
    assert watcher.begun.wait(20)

    assert "".join(part.text for part in reply) == "A table."
    watcher.reader_is_through.set()

    assert watcher.was_first is True


def test_a_server_that_does_not_stream_gives_one_chunk() -> None:
    for settings in ({"settings": {"streaming": False}}, {"streaming": False}):
        with talking(EchoAgent, **settings) as (_, client):  # type: ignore[arg-type]
            reply = client.stream("one two")
            parts = list(reply)
            assert [part.text for part in parts] == ["one two"]
            assert parts[0].is_complete
            assert reply.text == "one two"
            assert reply.message.text == "one two"


def test_the_only_chunk_has_all_that_goes_with_the_message() -> None:
    def agent(turn: Turn) -> Answer:
        return Answer(
            "Call.", suggestions=["Yes"], call_actions=[{"contact_number": "1"}]
        )

    with talking(agent) as (_, client):
        reply = client.stream("one")
        (part,) = reply
        assert part.response_suggestions[0].message_text == "Yes"
        assert reply.message.chat_call_actions[0].contact_number == "1"


def test_a_live_agent_gives_one_chunk() -> None:
    def agent(turn: Turn) -> Handoff:
        return Handoff(greeting="", reply=lambda turn: "Sam here")

    with talking(agent) as (_, client):
        client.send_message("a human, please")
        eventually(lambda: client.live_agent)
        reply = client.stream("one")
        assert [part.text for part in reply] == ["Sam here"]
        assert reply.message.is_live_agent


def test_a_whole_message_replaces_its_chunks(
    streaming: tuple[Sandbox, Client, Reply],
) -> None:
    sandbox, _, reply = streaming
    send(sandbox, "A ", "tabel", last=False)
    sandbox.session.push("POLY_AGENT_MESSAGE", {"message_id": "m", "text": "A table."})
    assert "".join(part.text for part in reply) == "A tabel"
    assert reply.message.text == "A table."
    assert reply.text == "A table."


def test_a_stream_goes_on_over_a_reconnection(
    streaming: tuple[Sandbox, Client, Reply],
) -> None:
    sandbox, client, reply = streaming
    send(sandbox, "one ", "two ", last=False)
    assert next(reply).text == "one "
    sandbox.session.drop()
    send(sandbox, "three ", "four", start=3)
    assert [part.text for part in reply] == ["two ", "three ", "four"]
    assert reply.message.text == "one two three four"


def test_a_stream_that_breaks_off_with_the_conversation_is_incomplete(
    streaming: tuple[Sandbox, Client, Reply],
) -> None:
    sandbox, _, reply = streaming
    send(sandbox, "A table ", last=False)
    sandbox.session.end()
    assert "".join(part.text for part in reply) == "A table "
    assert reply.message.text == "A table "
    assert not reply.message.complete


def test_a_stream_that_another_message_replaces_is_incomplete(
    streaming: tuple[Sandbox, Client, Reply], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polysync.protocol.streams.ABANDONED_AFTER", SHORT)
    sandbox, client, reply = streaming
    send(sandbox, "A table ", last=False)
    chunk(sandbox.session, "n", 1, "Sorry: ")
    assert "".join(part.text for part in reply) == "A table "
    assert not reply.message.complete
    chunk(sandbox.session, "n", 2, "none.", last=True)
    assert client.receive().text == "Sorry: none."


# Test errors.


def test_time_runs_out_before_the_first_chunk() -> None:
    with talking() as (_, client):
        reply = client.stream("one", timeout=SHORT)
        task = Task(next, reply)
        assert isinstance(task.outcome(), ReplyTimeoutError)
        assert task.took < SHORT + NOISE
        with pytest.raises(ReplyTimeoutError):
            reply.message  # noqa: B018
        assert list(reply) == []


def test_time_runs_out_in_the_middle() -> None:
    with talking() as (sandbox, client):
        client.receive()
        reply = client.stream("one", timeout=4 * SHORT)
        sandbox.wait_until(lambda: sandbox.session.user_messages)
        send(sandbox, "A ", last=False)
        assert next(reply).text == "A "
        with pytest.raises(ReplyTimeoutError, match="no whole reply came"):
            next(reply)
        assert reply.text == "A "

        # What comes too late is not lost.
        send(sandbox, "table", start=2)
        assert client.receive().text == "A table"


def test_a_message_that_was_never_confirmed() -> None:
    with talking() as (sandbox, client):
        sandbox.faults.swallow_messages()
        reply = client.stream("one", timeout=SHORT)
        with pytest.raises(DeliveryError) as caught:
            list(reply)
        assert caught.value.uncertain


def test_an_agent_that_fails_in_the_middle() -> None:
    def agent(turn: Turn) -> Iterator[str]:
        yield "A "
        raise RuntimeError("the agent is broken")

    with talking(agent) as (_, client):
        reply = client.stream("one")
        assert next(reply).text == "A "
        with pytest.raises(AgentError):
            list(reply)
        with pytest.raises(AgentError):
            reply.message  # noqa: B018


@pytest.mark.parametrize(
    ("end", "error"), [("close", ClientClosedError), ("end", SessionEndedError)]
)
def test_the_conversation_is_gone_before_the_first_chunk(
    streaming: tuple[Sandbox, Client, Reply], end: str, error: type[Exception]
) -> None:
    sandbox, client, reply = streaming
    task = Task(next, reply)
    if end == "close":
        client.close()
    else:
        sandbox.session.end()
    assert isinstance(task.outcome(NOISE), error)


# Test leaving.


def leave_by_close(reply: Reply) -> None:
    reply.close()
    reply.close()


def leave_by_with(reply: Reply) -> None:
    with reply:
        pass


@pytest.mark.parametrize("leave", [leave_by_close, leave_by_with])
def test_what_was_left_before_it_was_whole_is_for_receive(
    streaming: tuple[Sandbox, Client, Reply], leave: Any
) -> None:
    sandbox, client, reply = streaming
    send(sandbox, "A ", last=False)
    assert next(reply).text == "A "
    leave(reply)
    send(sandbox, "table", start=2)
    assert client.receive().text == "A table"
    assert list(reply) == []
    with pytest.raises(PolysyncError, match=r"receive\(\)"):
        reply.message  # noqa: B018


@pytest.mark.parametrize("leave", [leave_by_close, leave_by_with])
def test_what_was_whole_but_not_read_is_for_receive(
    streaming: tuple[Sandbox, Client, Reply], leave: Any
) -> None:
    sandbox, client, reply = streaming
    send(sandbox, "A ", "table")
    sandbox.session.say("another")
    assert next(reply).text == "A "
    eventually(lambda: client.transcript[-1].text == "another")
    leave(reply)
    assert [client.receive().text for _ in range(2)] == ["A table", "another"]


@pytest.mark.parametrize("leave", [leave_by_close, leave_by_with])
def test_what_was_read_to_its_end_is_not_for_receive(
    streaming: tuple[Sandbox, Client, Reply], leave: Any
) -> None:
    sandbox, client, reply = streaming
    send(sandbox, "A ", "table")
    for part in reply:
        if part.is_complete:
            break
    leave(reply)
    sandbox.session.say("another")
    assert client.receive().text == "another"
    assert reply.text == "A table"


def test_a_receiver_that_waits_gets_what_was_left(
    streaming: tuple[Sandbox, Client, Reply],
) -> None:
    sandbox, client, reply = streaming
    send(sandbox, "A ", "table")
    eventually(lambda: client.transcript[-1].text == "A table")
    task = Task(client.receive)
    eventually(waiting(client))
    reply.close()
    assert task.result().text == "A table"


@pytest.mark.parametrize("whole", [False, True])
def test_a_reply_that_is_dropped_is_for_receive(whole: bool) -> None:
    with talking() as (sandbox, client):
        client.receive()
        reply: Reply | None = client.stream("one")
        sandbox.wait_until(lambda: sandbox.session.user_messages)
        if whole:
            send(sandbox, "A ", "table")
            eventually(lambda: client.transcript[-1].text == "A table")
        reply = None
        gc.collect()
        assert reply is None
        if not whole:
            send(sandbox, "A ", "table")
        assert client.receive().text == "A table"


def test_asking_and_not_listening_is_fine() -> None:
    with talking(EchoAgent) as (_, client):
        client.receive()
        for number in range(5):
            client.stream(str(number))
        got = [client.receive().text for _ in range(5)]
        assert got == [str(number) for number in range(5)]


def test_a_reply_that_is_left_makes_way_for_the_next_question(
    streaming: tuple[Sandbox, Client, Reply],
) -> None:
    sandbox, client, reply = streaming
    send(sandbox, "A ", last=False)
    next(reply)
    reply.close()
    task = Task(client.ask, "two")
    sandbox.wait_until(lambda: len(sandbox.session.user_messages) == 2)
    send(sandbox, "table", start=2)
    sandbox.session.say("answer to two")
    assert task.result().text == "answer to two"
    assert client.receive().text == "A table"


# Test the rest.


def test_repr_tells_how_far_it_is(streaming: tuple[Sandbox, Client, Reply]) -> None:
    sandbox, _, reply = streaming
    assert repr(reply) == "<Reply coming, 0 characters so far>"
    send(sandbox, "A table")
    assert reply.message.text == "A table"
    assert repr(reply) == "<Reply complete, 7 characters so far>"


def test_a_reply_is_not_pickled(streaming: tuple[Sandbox, Client, Reply]) -> None:
    with pytest.raises(TypeError, match="belongs to its client"):
        pickle.dumps(streaming[2])


def test_replies_of_many_threads_do_not_mix() -> None:
    with talking(EchoAgent) as (_, client):

        def talk(name: int) -> set[str]:
            said = set()
            for number in range(5):
                text = f"{name} {number} three four five"
                reply = client.stream(text)
                joined = "".join(part.text for part in reply)
                assert joined == reply.message.text == reply.text
                said.add(joined)
            return said

        tasks = [Task(talk, name) for name in range(10)]
        said = set().union(*(task.result() for task in tasks))
        assert said == {
            f"{name} {number} three four five"
            for name in range(10)
            for number in range(5)
        }
