"""Every fault at every moment of a conversation, and what comes of it.

One conversation goes through all the moments: a token, a session, the handshake, the
replay, the join, the greeting, a question, its echo, a reply in chunks, a handoff to a
human, the end. `MATRIX` says for each fault and moment what the user sees of it; a row
is a fault, a column a moment, and a cell one of

========= =============================================================================
ok        nothing: the conversation runs to its end, each message and event once
Auth      `AuthenticationError`
Config    `ConfigurationError`
Protocol  `ProtocolError`
NotFound  `SessionNotFoundError`
Ended     `SessionEndedError`
Late      `ConnectTimeoutError`
Unsure    `DeliveryError` that says that the message may have arrived
Partial   the reply is there as far as it came, and says that it is incomplete
NoReply   `ReplyTimeoutError`
NoEnd     `EndTimeoutError`
--        the fault is none at this moment
========= =============================================================================
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from polysync import (
    AuthenticationError,
    Client,
    ConfigurationError,
    ConnectTimeoutError,
    DeliveryError,
    EndTimeoutError,
    PolysyncError,
    ProtocolError,
    ReplyTimeoutError,
    SessionEndedError,
    SessionNotFoundError,
)
from polysync.events import LiveAgentMessage
from polysync.protocol import inbound
from polysync.runtime import orders, rest
from polysync.sandbox import (
    Action,
    Close,
    Cut,
    Delay,
    Drop,
    Duplicate,
    Fault,
    Freeze,
    Handoff,
    Inject,
    Moment,
    Postpone,
    Refuse,
    Sandbox,
    Swallow,
    Turn,
)
from tests.clients import PATIENCE, SHORT, client_of, threads_of_polysync

MATRIX = """
fault        token    session  handshake replay   join     greeting send     echo     stream   handoff  end
reset        ok       ok       ok        ok       ok       ok       ok       ok       ok       ok       ok
end          ok       ok       ok        ok       ok       ok       ok       ok       ok       ok       ok
stall        ok       ok       ok        ok       ok       ok       ok       ok       ok       ok       ok
delay        ok       ok       ok        ok       ok       ok       ok       ok       ok       ok       ok
twice        ok       ok       ok        ok       ok       ok       ok       ok       ok       ok       ok
400          Protocol Protocol Protocol  --       --       --       --       --       --       --       --
401          Auth     Auth     Auth      --       --       --       --       --       --       --       --
403          Auth     Auth     ok        --       --       --       --       --       --       --       --
404          Config   Config   NotFound  --       --       --       --       --       --       --       --
429          ok       ok       ok        --       --       --       --       --       --       --       --
500          ok       ok       ok        --       --       --       --       --       --       --       --
503          ok       ok       ok        --       --       --       --       --       --       --       --
portal       Protocol Protocol ok        --       --       --       --       --       --       --       --
portal 503   ok       ok       ok        --       --       --       --       --       --       --       --
cut          --       --       --        ok       --       ok       --       ok       ok       ok       --
late         --       --       --        --       --       ok       --       ok       ok       ok       --
doubled      --       --       --        ok       --       ok       --       ok       ok       ok       --
close 1001   --       --       --        ok       ok       ok       ok       ok       ok       ok       ok
close 1011   --       --       --        ok       ok       ok       ok       ok       ok       ok       ok
close 4003   --       --       --        ok       ok       ok       ok       ok       ok       ok       ok
close 1000   --       --       --        Ended    Ended    Ended    Ended    Ended    Partial  Ended    ok
close 4001   --       --       --        NotFound NotFound NotFound Unsure   Unsure   NotFound NotFound NotFound
no JSON      --       --       --        ok       ok       ok       ok       ok       ok       ok       ok
binary       --       --       --        ok       ok       ok       ok       ok       ok       ok       ok
no frame     --       --       --        ok       ok       ok       ok       ok       ok       ok       ok
swallowed    --       --       --        ok       Late     Late     Unsure   Unsure   NoReply  ok       NoEnd
"""  # noqa: E501

PORTAL = "<!DOCTYPE html><title>Welcome to the hotel</title>"

FAULTS: dict[str, Action] = {
    "reset": Drop(),
    "end": Drop(reset=False),
    "stall": Freeze(),
    "delay": Delay(SHORT),
    "400": Refuse(400),
    "401": Refuse(401),
    "403": Refuse(403),
    "404": Refuse(404),
    "429": Refuse(429, headers={"Retry-After": "0.01"}),
    "500": Refuse(500),
    "503": Refuse(503),
    "portal": Refuse(200, PORTAL, content_type="text/html"),
    "portal 503": Refuse(503, PORTAL, content_type="text/html"),
    "cut": Cut(),
    "late": Postpone(),
    "doubled": Duplicate(),
    "close 1001": Close(1001),
    "close 1011": Close(1011),
    "close 4003": Close(4003),
    "close 1000": Close(1000),
    "close 4001": Close(4001),
    "no JSON": Inject("{not JSON"),
    "binary": Inject(b"\x00\xff"),
    "no frame": Inject(b"\xff\xff\xff\xff", raw=True),
    "swallowed": Swallow(),
}

HTTP = {
    "token": Moment.ACCESS_TOKEN,
    "session": Moment.SESSION,
    "handshake": Moment.HANDSHAKE,
}


def second_chunk(event: Any) -> bool:
    return bool(event["payload"]["text"].startswith("two"))


#: Where each moment is on the wire, and what of the actions can be done there.
PLACES: dict[str, dict[str, Any]] = {
    "replay": {"moment": Moment.SEND, "type": "EVENT_BATCH"},
    "join": {"moment": Moment.RECEIVE, "type": "REQUEST_POLY_AGENT_JOIN"},
    "greeting": {"moment": Moment.SEND, "type": "POLY_AGENT_MESSAGE_CHUNK"},
    "send": {
        "moment": Moment.RECEIVE,
        "type": "USER_MESSAGE",
        "matching": lambda event: event["payload"]["text"].startswith("one"),
    },
    "echo": {
        "moment": Moment.SEND,
        "type": "USER_MESSAGE",
        "matching": lambda event: event["payload"]["text"].startswith("one"),
    },
    "stream": {
        "moment": Moment.SEND,
        "type": "POLY_AGENT_MESSAGE_CHUNK",
        "matching": second_chunk,
    },
    "handoff": {"moment": Moment.SEND, "type": "LIVE_AGENT_JOINED"},
    "end": {"moment": Moment.RECEIVE, "type": "USER_END_SESSION"},
}

#: The step of the conversation that each moment belongs to.
STEPS = {
    **dict.fromkeys(["token", "session", "handshake", "replay"], "connect"),
    **dict.fromkeys(["join", "greeting"], "connect"),
    **dict.fromkeys(["send", "echo", "stream"], "ask"),
    "handoff": "handoff",
    "end": "end",
}

ERRORS: dict[str, type[PolysyncError]] = {
    "Auth": AuthenticationError,
    "Config": ConfigurationError,
    "Protocol": ProtocolError,
    "NotFound": SessionNotFoundError,
    "Ended": SessionEndedError,
    "Late": ConnectTimeoutError,
    "Unsure": DeliveryError,
    "NoReply": ReplyTimeoutError,
    "NoEnd": EndTimeoutError,
}

GREETING = "Hello there."
SAID = ["one two three", "a human, please", "hello, Sam"]
HEARD = [GREETING, "one two three ", "Sam here.", "hello to you"]


def cells() -> Iterator[Any]:
    """Read the matrix."""
    head, *rows = MATRIX.strip().splitlines()
    moments = head.split()[1:]
    starts = [head.index(moment) for moment in moments]
    for row in rows:
        fault = row[: starts[0]].strip()
        for moment, cell in zip(moments, row[starts[0] :].split(), strict=True):
            if cell != "--":
                yield pytest.param(fault, moment, cell, id=f"{fault}-{moment}")


class Host:
    """Greets, answers in three chunks, and hands over when a human is asked for."""

    blocking = False
    name = "Host"

    def greeting(self, turn: Turn) -> str:
        return GREETING

    def reply(self, turn: Turn) -> Any:
        if "human" in turn.text:
            return Handoff(
                queue=(1,), greeting="Sam here.", reply=lambda turn: "hello to you"
            )
        return [f"{word} " for word in turn.text.split()]


class Conversation:
    """The conversation of all cells: runs it, and keeps where it failed."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.step = "connect"
        self.heard: list[str] = []
        self.told: list[Any] = []
        self.ended = threading.Event()
        client.on_agent_message(lambda message: self.heard.append(message.text))
        client.on_event(self.told.append)
        client.on_session_end(lambda event: self.ended.set())

    def run(self) -> str:
        """Go through all the steps; return a word of the matrix."""
        client = self.client
        client.connect()
        assert client.receive().text == GREETING
        self.step = "ask"
        reply = client.stream(SAID[0])
        parts = [part.text for part in reply]
        if not reply.message.complete:
            assert parts == ["one "]
            return "Partial"
        assert "".join(parts) == HEARD[1]
        self.step = "handoff"
        client.send_message(SAID[1])
        message = client.receive()
        assert isinstance(message, LiveAgentMessage)
        assert message.text == HEARD[2]
        assert client.live_agent is not None
        assert client.live_agent.id == "live-agent-1"
        assert client.ask(SAID[2]).text == HEARD[3]
        self.step = "end"
        client.end_session()
        return "ok"


def arm(sandbox: Sandbox, fault: str, moment: str) -> Fault:
    """Arm a fault for a moment; "twice" is a reset of the first two attempts."""
    times = 2 if fault == "twice" else 1
    action = FAULTS["reset" if fault == "twice" else fault]
    if moment in HTTP:
        return sandbox.faults.arm(HTTP[moment], action, times=times)
    place = dict(PLACES[moment])
    where = place.pop("moment")
    return sandbox.faults.arm(where, action, times=times, **place)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing wait for long: the figures are not what is tested here."""
    monkeypatch.setattr(inbound, "SETTLE_WAITS", (6 * SHORT, 2 * SHORT, 0.01))
    monkeypatch.setattr(rest, "BASE_DELAY", 0.005)
    monkeypatch.setattr(rest, "ATTEMPT_TIMEOUT", 4 * SHORT)
    monkeypatch.setattr(orders, "OPEN_TIMEOUT", 4 * SHORT)


def options_for(fault: str) -> dict[str, float]:
    """Return what it takes to see a fault that makes no noise."""
    if fault == "stall":
        return {"heartbeat_interval": SHORT, "heartbeat_timeout": 2 * SHORT}
    if fault == "swallowed":
        return {"timeout": 12 * SHORT, "reply_timeout": 12 * SHORT}
    return {}


def check_all(conversation: Conversation, sandbox: Sandbox) -> None:
    """See that everything was said, heard and told once, and in order."""
    client, session = conversation.client, sandbox.session
    assert [message.text for message in session.user_messages] == SAID
    assert conversation.ended.wait(PATIENCE)
    client.close()
    assert conversation.heard == HEARD
    permanent = [
        event.id
        for event in conversation.told
        if event.sequence is not None and not getattr(event, "assembled", False)
    ]
    assert permanent == [event.id for event in client.history]
    sequences = [event.sequence for event in client.history]
    assert sequences == sorted(set(sequences))
    deliveries = [i.delivery for i in client.transcript if i.role == "user"]
    assert deliveries == ["sent"] * len(SAID)


@pytest.mark.parametrize(("fault", "moment", "expected"), list(cells()))
def test_cell(fault: str, moment: str, expected: str) -> None:
    with Sandbox(Host) as sandbox:
        client = client_of(sandbox, **options_for(fault))
        conversation = Conversation(client)
        armed = arm(sandbox, fault, moment)
        try:
            if expected in ERRORS:
                with pytest.raises(ERRORS[expected]) as caught:
                    conversation.run()
                assert conversation.step == STEPS[moment]
                if expected == "Unsure":
                    assert getattr(caught.value, "uncertain", None) is True
            else:
                assert conversation.run() == expected
            assert armed.fired >= 1
            if expected == "ok":
                check_all(conversation, sandbox)
                if fault != "swallowed":
                    # What was withheld for good is in no history of the client.
                    assert [event.id for event in client.history] == [
                        event["id"] for event in sandbox.session.events
                    ]
        finally:
            client.close()
        assert threads_of_polysync() == []


def test_the_matrix_is_whole() -> None:
    """Each fault that an action can do at a moment has a cell."""
    head, *rows = MATRIX.strip().splitlines()
    assert head.split()[1:] == [*HTTP, *PLACES] == list(STEPS)
    assert {row[: head.index("token")].strip() for row in rows} == {
        "twice",
        *FAULTS,
    }
    stated = {tuple(cell.values[:2]) for cell in cells()}
    for name in FAULTS:
        for moment in STEPS:
            # A history that comes only when the client has stopped waiting for one
            # and said something: no order can be kept then, and no server does it.
            possible = can_be_done(name, moment) and (name, moment) != LATE_REPLAY
            assert ((name, moment) in stated) is possible, (name, moment)


LATE_REPLAY = ("late", "replay")


def can_be_done(fault: str, moment: str) -> bool:
    try:
        arm(Sandbox(Host), fault, moment)
    except ValueError:
        return False
    return True
