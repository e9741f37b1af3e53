"""What was received can be looked up, and does not grow for ever."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest
import websocket

from polysync.sandbox import EchoAgent, Sandbox
from polysync.sandbox.tokens import Tokens
from tests.sandbox.bare import Bare


def test_frames_know_where_they_came_from(sandbox: Sandbox, joined: Bare) -> None:
    joined.connect()
    joined.send("USER_TYPING", {"state": "TYPING_STATE_STARTED"})
    sandbox.wait_until(lambda: len(sandbox.received.frames) == 2)
    join, typing = sandbox.received.frames

    assert (join.session_id, join.connection) == (joined.session_id, 1)
    assert (typing.type, typing.connection) == ("EVENT_TYPE_USER_TYPING", 2)
    assert typing.at >= join.at


def test_events_are_found_by_type_and_session(sandbox: Sandbox, joined: Bare) -> None:
    joined.say("one")
    received = sandbox.received

    assert len(received.events()) == 2
    assert received.events("USER_MESSAGE")[0]["payload"] == {"text": "one"}
    assert received.events("EVENT_TYPE_USER_MESSAGE", session_id="other") == []
    assert len(received.requests_to("/ws")) == 1
    received.clear()
    assert (received.frames, received.requests) == ([], [])
    assert repr(received) == "<Received: 0 requests, 0 frames>"


def test_only_so_much_is_kept() -> None:
    with Sandbox(EchoAgent, record_limit=2) as sandbox, Bare(sandbox, join=True) as b:
        for number in "123":
            b.say(number)
        kept = [event["payload"]["text"] for event in sandbox.received.events()]

    assert kept == ["2", "3"]


def test_only_so_many_ended_sessions_are_kept() -> None:
    """The first to end is as unknown as one that never was, and out of memory."""
    with Sandbox(EchoAgent, session_limit=2) as sandbox:
        talks = [Bare(sandbox, join=True) for _ in range(4)]
        for talk in talks[1:]:
            talk.session.end()
            assert talk.close_code() == 1000
        first, gone, *kept = talks
        assert list(sandbox.sessions) == [talk.session_id for talk in (first, *kept)]
        with pytest.raises(websocket.WebSocketBadStatusException, match="404"):
            gone.connect()
        forgotten = weakref.ref(gone.session)
        for talk in talks:
            with talk:
                del talk.session
        deadline = time.monotonic() + 20
        while forgotten() is not None:
            # Until its connection has ended on the server's side too.
            assert time.monotonic() < deadline
            threading.Event().wait(0.01)
            gc.collect()


def test_expired_tokens_are_forgotten() -> None:
    """A token that no longer counts takes no room once another is minted."""
    tokens = Tokens("connector", "example.com", lifetime=0.0)
    minted = [tokens.mint() for _ in range(3)]
    assert not any(map(tokens.valid, minted))
    assert repr(tokens) == "<Tokens: 1 access tokens>"
