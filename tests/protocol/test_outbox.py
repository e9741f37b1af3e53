"""Tests of `polysync.protocol.outbox`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysync.events import UserMessage
from polysync.protocol.outbox import GIVEN_UP, Outbox, failure
from polysync.protocol.tickets import Delivery


def delivery(name: str, *, patience: float | None = None) -> Delivery:
    return Delivery(
        id=name, text=f"text of {name}", metadata={}, frame=name, patience=patience
    )


def echo(name: str, key: str = "local_id") -> UserMessage:
    return UserMessage(text=f"text of {name}", metadata={key: name})


def filled(*names: str, resend: bool = True) -> Outbox:
    outbox = Outbox(resend)
    for name in names:
        outbox.add(delivery(name))
    return outbox


def written(outbox: Outbox, generation: int = 1, now: float = 0.0) -> list[str]:
    return [item.id for item in outbox.writable(generation, now)]


# Writing


def test_messages_go_out_in_the_order_of_the_calls_and_once():
    outbox = filled("a", "b")
    assert written(outbox) == ["a", "b"]
    assert written(outbox) == []
    outbox.add(delivery("c"))
    assert written(outbox) == ["c"]


def test_what_has_been_written_may_have_arrived():
    outbox = filled("a")
    (message,) = outbox
    assert not message.uncertain
    assert outbox.waiting
    written(outbox)
    assert message.uncertain
    assert outbox.written
    assert not outbox.waiting


# The echo


@pytest.mark.parametrize("key", ["local_id", "client_event_id"])
def test_the_echo_settles_its_message_under_either_key(key: str):
    outbox = filled("a", "b")
    written(outbox)
    settled = outbox.echoed(echo("b", key))
    assert settled is not None
    assert settled.id == "b"
    assert settled.result == echo("b", key)
    assert [item.id for item in outbox] == ["a"]


def test_identical_texts_are_told_apart_by_their_ids():
    outbox = Outbox()
    for name in "ab":
        outbox.add(Delivery(id=name, text="same", metadata={}, frame=name))
    written(outbox)
    settled = outbox.echoed(UserMessage(text="same", metadata={"local_id": "b"}))
    assert settled is not None
    assert settled.id == "b"


def test_an_echo_without_metadata_belongs_to_the_oldest_of_its_text():
    outbox = Outbox()
    for name in "abc":
        outbox.add(Delivery(id=name, text="same", metadata={}, frame=name))
    written(outbox)
    outbox.lost(1)
    outbox.settle()
    outbox.forget(next(iter(outbox)))
    written(outbox, 2)
    settled = outbox.echoed(UserMessage(text="same"))
    assert settled is not None
    assert settled.id == "b"


def test_an_echo_without_metadata_is_not_that_of_a_message_never_written():
    assert filled("a").echoed(UserMessage(text="text of a")) is None


def test_the_echo_of_somebody_elses_message_settles_nothing():
    outbox = filled("a")
    written(outbox)
    assert outbox.echoed(UserMessage(text="text of a", metadata={"x": "y"})) is None
    assert outbox.echoed(echo("another")) is None


# A lost connection


def test_what_was_on_its_way_is_in_doubt_and_nothing_overtakes_it():
    outbox = filled("a")
    written(outbox)
    outbox.lost(1)
    outbox.add(delivery("b"))
    assert outbox.doubtful
    assert written(outbox, 2) == []


def test_what_the_replay_does_not_show_is_written_again_in_order():
    outbox = filled("a", "b")
    written(outbox)
    outbox.lost(1)
    outbox.add(delivery("c"))
    assert outbox.settle() == []
    assert not outbox.doubtful
    assert written(outbox, 2) == ["a", "b", "c"]


def test_what_the_replay_shows_is_not():
    outbox = filled("a", "b")
    written(outbox)
    outbox.lost(1)
    outbox.echoed(echo("a"))
    outbox.settle()
    assert written(outbox, 2) == ["b"]


def test_without_resending_it_has_failed_and_provably_not_arrived():
    outbox = filled("a", "b", resend=False)
    written(outbox)
    outbox.lost(1)
    outbox.add(delivery("c"))
    failed = outbox.settle()
    assert [item.id for item in failed] == ["a", "b"]
    assert not any(item.uncertain for item in failed)
    assert written(outbox, 2) == ["c"]


def test_the_loss_of_a_connection_that_nothing_is_on_raises_no_doubt():
    outbox = filled("a")
    written(outbox, 2)
    outbox.lost(1)
    assert not outbox.doubtful
    assert written(outbox, 2) == []


def test_nothing_overtakes_what_is_on_a_connection_that_was_replaced():
    outbox = filled("a")
    written(outbox, 1)
    outbox.add(delivery("b"))
    assert written(outbox, 2) == []
    outbox.echoed(echo("a"))
    assert written(outbox, 2) == ["b"]


def test_a_message_can_be_lost_with_one_connection_after_the_other():
    outbox = filled("a")
    for generation in range(1, 5):
        assert written(outbox, generation) == ["a"]
        outbox.lost(generation)
        outbox.settle()
    outbox.echoed(echo("a"))
    assert list(outbox) == []


# Patience


def test_the_patience_runs_from_the_writing():
    outbox = Outbox()
    outbox.add(delivery("a", patience=10.0))
    assert outbox.deadline is None
    written(outbox, now=5.0)
    assert outbox.deadline == 15.0
    assert outbox.due(14.9) == []
    assert [item.id for item in outbox.due(15.0)] == ["a"]
    assert outbox.deadline is None


def test_it_does_not_run_while_there_is_no_connection():
    """A missing echo means something only on a connection that is there."""
    outbox = Outbox()
    outbox.add(delivery("a", patience=10.0))
    written(outbox, now=0.0)
    outbox.lost(1)
    assert outbox.deadline is None
    assert outbox.due(1e9) == []
    outbox.settle()
    written(outbox, 2, now=100.0)
    assert outbox.deadline == 110.0


def test_those_who_keep_their_own_time_are_left_alone():
    outbox = Outbox()
    outbox.add(delivery("a"))
    outbox.add(delivery("b", patience=1.0))
    outbox.add(delivery("c", patience=1.0))
    written(outbox)
    assert outbox.deadline == 1.0
    assert [item.id for item in outbox.due(1.0)] == ["b", "c"]


# Giving up


def test_what_was_given_up_before_it_was_written_never_is():
    outbox = filled("a")
    (message,) = outbox
    outbox.give_up(message)
    assert written(outbox) == []
    assert not message.uncertain
    assert list(outbox) == [message]


def test_what_was_given_up_is_not_written_again():
    outbox = filled("a")
    written(outbox)
    (message,) = outbox
    outbox.give_up(message)
    outbox.lost(1)
    assert outbox.settle() == []
    assert written(outbox, 2) == []
    assert message.uncertain


def test_its_late_echo_makes_it_a_delivered_one():
    outbox = filled("a")
    written(outbox)
    (message,) = outbox
    outbox.give_up(message)
    assert outbox.echoed(echo("a")) is message
    assert message.result == echo("a")
    assert list(outbox) == []


def test_giving_up_twice_or_what_is_settled_does_nothing():
    outbox = filled("a")
    (message,) = outbox
    outbox.give_up(message)
    outbox.give_up(message)
    assert list(outbox) == [message]
    outbox.forget(message)
    outbox.give_up(message)
    assert list(outbox) == []


def test_memory_of_what_was_given_up_is_bounded():
    outbox = Outbox()
    for number in range(2 * GIVEN_UP):
        message = delivery(str(number))
        outbox.add(message)
        outbox.give_up(message)
    assert len(list(outbox)) == GIVEN_UP


def test_everything_can_be_given_up_at_once_oldest_first():
    outbox = filled("a", "b")
    written(outbox)
    outbox.add(delivery("c"))
    assert [item.id for item in outbox.drain()] == ["a", "b", "c"]
    assert not outbox.written
    assert not outbox.waiting


def test_an_error_says_whether_the_message_may_have_arrived():
    message = delivery("a")
    error = failure(message, "it rained")
    assert not error.uncertain
    assert "was not delivered" in str(error)
    message.uncertain = True
    error = failure(message, "it rained")
    assert error.uncertain
    assert "may have been delivered" in str(error)
    assert error.text == "text of a"


# Whatever happens


class Server:
    """Takes what reaches it, and shows it to every later replay."""

    def __init__(self) -> None:
        self.taken: list[str] = []


STEPS = st.lists(
    st.one_of(
        st.just(("say",)),
        st.tuples(st.just("drop"), st.integers(0, 5), st.integers(0, 5)),
        st.just(("echo",)),
        st.tuples(st.just("give up"), st.integers(0, 5)),
    ),
    max_size=30,
)


@given(steps=STEPS, resend=st.booleans())
def test_every_message_arrives_once_in_order_or_its_sender_is_told(
    steps: list[tuple[object, ...]], resend: bool
):
    """Any interleaving of writes, losses before and after the server, and echoes."""
    outbox, server = Outbox(resend), Server()
    messages: list[Delivery] = []
    failed: list[Delivery] = []
    given_up: list[Delivery] = []
    generation = 1
    on_wire: list[str] = []  # written, and not yet at the server
    shown = 0  # how many echoes of what the server has taken have come
    for step in steps:
        match step:
            case ("say",):
                messages.append(delivery(str(len(messages))))
                outbox.add(messages[-1])
            case ("echo",):
                server.taken += on_wire
                on_wire = []
                while shown < len(server.taken):
                    outbox.echoed(echo(server.taken[shown]))
                    shown += 1
            case ("give up", int(which)) if which < len(messages):
                if messages[which].result is None:
                    outbox.give_up(messages[which])
                    given_up.append(messages[which])
            case ("drop", int(arrived), int(seen)):
                # Some frames still reach the server, and some echoes the client.
                server.taken += on_wire[:arrived]
                on_wire = []
                for name in server.taken[shown:][:seen]:
                    outbox.echoed(echo(name))
                    shown += 1
                outbox.lost(generation)
                generation += 1
                for name in server.taken[shown:]:  # the replay
                    outbox.echoed(echo(name))
                shown = len(server.taken)
                failed += outbox.settle()
        on_wire += written(outbox, generation)
    server.taken += on_wire
    for name in server.taken[shown:]:
        outbox.echoed(echo(name))

    assert len(server.taken) == len(set(server.taken))
    assert server.taken == sorted(server.taken, key=int)
    for message in messages:
        arrived = message.id in server.taken
        assert arrived is (message.result is not None)
        if not arrived:
            # Nobody was left in the belief that it may have, but those who gave up.
            assert message in failed or message in given_up
            assert resend is False or message in given_up
    for message in failed:
        assert message.result is None
