"""Signals, and the database connections around their receivers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections
from django.dispatch import Signal

from polysync import Client
from polysync.events import PolyAgentMessage, SessionEnd, UserMessage
from polysync.integrations.django import conversations, signals


@contextmanager
def connected(signal: Signal, receiver: Any) -> Iterator[None]:
    signal.connect(receiver, weak=False)
    try:
        yield
    finally:
        signal.disconnect(receiver)


def test_messages_and_the_end_are_told(visitor: Any, recorder: Any) -> None:
    """Receivers hear of what is said, in order, and of the end."""

    def receiver(**told: Any) -> None:
        recorder(told)

    with (
        connected(signals.message_received, receiver),
        connected(signals.message_sent, receiver),
        connected(signals.session_ended, receiver),
    ):
        visitor.start()
        response = visitor.say("The menu, please")
        told = recorder.wait_for(3)
        visitor.post("end")
        told = recorder.wait_for(4)
    kinds = [type(each["event"]) for each in told]
    assert kinds == [PolyAgentMessage, UserMessage, PolyAgentMessage, SessionEnd]
    assert told[2]["event"].text == "Here is our menu."
    key = conversations.conversation_key(response.wsgi_request)
    for each in told:
        assert each["sender"] is Client
        assert each["key"] == key
        assert isinstance(each["client"], Client)


def test_signal_is_sent_once_by_two_processes(site: None, recorder: Any) -> None:
    """Two clients of one conversation, as two workers have them, tell once."""

    def receiver(event: Any, client: Any, **_: Any) -> None:
        recorder((event.text, client))

    with connected(signals.message_received, receiver):
        first = conversations.service()
        conversations._service = None  # as in another process, with the same cache
        second = conversations.service()
        with first.pool.conversation("key") as one:
            pass
        with second.pool.conversation("key") as two:
            assert two is not one
            two.ask("The menu, please")
        # Both have heard it by now, or by the next message, as they tell in order.
        heard = [threading.Event(), threading.Event()]
        one.on_user_message(lambda _: heard[0].set())
        two.on_user_message(lambda _: heard[1].set())
        with second.pool.conversation("key") as two:
            two.send_message("Thank you")
        assert all(each.wait(5) for each in heard)
        first.pool.close()
    texts = [text for text, _ in recorder.items]
    assert texts.count("Here is our menu.") == 1


def test_receiver_that_raises_stops_nothing(
    visitor: Any, recorder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken receiver is logged; the others are called, and the chat goes on."""

    def broken(**_: Any) -> None:
        raise RuntimeError("a broken receiver")

    def receiver(event: Any, **_: Any) -> None:
        recorder(event.text)

    with (
        connected(signals.message_received, broken),
        connected(signals.message_received, receiver),
    ):
        visitor.start()
        assert visitor.say("The menu, please").status_code == 200
        recorder.wait_for(lambda items: "Here is our menu." in items)
    assert "a broken receiver" in caplog.text


def test_receivers_leave_no_database_connection(visitor: Any, recorder: Any) -> None:
    """A receiver's connection is closed after it: its thread sees no request end."""
    used = []

    def receiver(event: Any, **_: Any) -> None:
        connection = connections["default"]
        connection.ensure_connection()
        used.append(connection)
        recorder(connection.connection is not None)

    with connected(signals.message_received, receiver):
        visitor.start()
        assert recorder.wait_for(1) == [True]
        visitor.say("The menu, please")
        recorder.wait_for(2)
        conversations.close()  # waits for the callbacks
    assert threading.current_thread().name not in used
    assert all(connection.connection is None for connection in used)


def test_without_receivers_there_is_no_callback_thread(visitor: Any) -> None:
    """Nobody listens, so nothing runs to tell them."""
    visitor.start()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("polysync-callbacks")]
