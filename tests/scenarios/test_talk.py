"""What scripts say and expect, and what they are told when it does not come."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from polysync.sandbox import Moment, Sandbox
from polysync.scenarios import Choose, Expect, Outcome, Say
from tests.scenarios.conftest import PATIENCE

Perform = Callable[..., Outcome]
BRIEF = PATIENCE / 50


def met(outcome: Outcome) -> Outcome:
    assert outcome.failure is None, outcome.failure
    return outcome


def unmet(outcome: Outcome) -> str:
    assert outcome.failure is not None
    assert outcome.failure.kind == "failed", outcome.failure
    return outcome.failure.message


# What is met


@pytest.mark.parametrize(
    "wanted",
    [
        Expect(),
        Expect(text=("good",)),
        Expect(text=("GOOD  evening", "!")),
        Expect(pattern=r"^Good \w+!$"),
        Expect(suggestion=("menu", "A table")),
        Expect(by="agent"),
        Expect(text=("good",), pattern="even", suggestion=("menu",), by="agent"),
    ],
    ids=str,
)
def test_greeting_is_as_expected(perform: Perform, wanted: Expect) -> None:
    """All criteria of an expectation hold for the agent's first message."""
    met(perform(wanted))


def test_reply_is_to_what_was_said(perform: Perform) -> None:
    """The greeting, which nobody expected, is not taken for the reply."""
    outcome = met(perform(Say("hello"), Expect(pattern="^You said: hello$")))
    assert [(line.role, line.text) for line in outcome.transcript] == [
        ("agent", "Good evening!"),
        ("user", "hello"),
        ("agent", "You said: hello"),
    ]


def test_messages_are_expected_one_by_one(perform: Perform) -> None:
    """Several messages in answer to one are expected in their order."""
    met(perform(Say("twice"), Expect(text=("One",)), Expect(text=("Two",))))
    met(perform(Say("twice"), Expect(text=("Two",), eventually=True)))
    said = unmet(perform(Say("twice"), Expect(text=("Two",))))
    assert said == "'Two' is missing, in: 'One.'"


def test_attachments_have_titles_and_addresses(perform: Perform) -> None:
    """An attachment is known by a part of its title or address."""
    met(perform(Say("menu"), Expect(attachment=("menu", "example.com/m"))))
    said = unmet(perform(Say("menu"), Expect(attachment=("wine",))))
    assert "'wine' is not attached (there is 'Menu https://www.example.com/m')" in said


def test_suggestions_are_chosen(perform: Perform) -> None:
    """By number, by a part, and by the whole text even if another contains it."""
    met(perform(Choose(2), Expect(text=("You said: The menu",))))
    met(perform(Choose("menu"), Expect(text=("You said: The menu",))))
    met(perform(Choose("a table"), Expect(pattern="^You said: A table$")))
    said = unmet(perform(Choose("wine")))
    assert said == (
        "'wine' is not suggested: there is 'A table', 'The menu', 'A table now'"
    )
    assert "there is no suggestion 4" in unmet(perform(Choose(4)))
    assert "there is none" in unmet(perform(Say("x"), Choose(1)))


def test_patterns_set_variables(perform: Perform) -> None:
    """Named groups can be used from then on, and given ones in patterns as text."""
    met(
        perform(
            Say("order"),
            Expect(pattern=r"number (?P<order>\d+), table (?P<table>\d+)"),
            Say("Is ${order} at ${table}? It costs $${order} ${money}"),
            Expect(text=("Is 4711 at 12? It costs $${order} 1.5+",)),
            Say("${money}"),
            Expect(pattern=r"^You said: ${money}$"),
            Say("${number}"),
            Expect(text=("You said: 1",)),
            variables={"money": "1.5+"},
        )
    )


def test_handoff_is_followed(perform: Perform) -> None:
    """Each step of a handoff can be expected, and the human's messages."""
    met(
        perform(
            Say("human"),
            Expect(handoff="requested"),
            Expect(handoff="accepted"),
            Expect(handoff="joined"),
            Expect(by="live_agent", text=("Sam here",)),
            Say("hello"),
            Expect(by="live_agent", text=("Sam heard: hello",)),
        )
    )
    met(perform(Say("nobody"), Expect(handoff="failed")))
    said = unmet(perform(Say("human"), Expect(), Expect(by="agent", within=BRIEF)))
    assert "no message within" in said
    said = unmet(perform(Say("nobody"), Expect(handoff="joined", within=BRIEF)))
    assert "PolyAgentTriggeredHandoff, HandoffFailed" in said


def test_end_is_expected(perform: Perform) -> None:
    """The conversation's end, for a reason; and it ends messages and handoffs."""
    met(perform(Say("bye"), Expect(text=("Goodbye",)), Expect(end="natural")))
    met(perform(Say("bye"), Expect(end="any")))
    assert "REASON_NATURAL_END" in unmet(perform(Say("bye"), Expect(end="user")))
    assert "did not end" in unmet(perform(Say("x"), Expect(end="any", within=BRIEF)))
    said = unmet(perform(Say("bye"), Expect(), Expect()))
    assert "the conversation ended (REASON_NATURAL_END) without a message" in said
    said = unmet(perform(Say("bye"), Expect(), Expect(handoff="joined")))
    assert "the conversation ended" in said


# What is not


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Expect(text=("night",)), "'night' is missing, in: 'Good evening!'"),
        (Expect(pattern="^evening"), "the pattern '^evening' is not found"),
        (Expect(suggestion=("wine",)), "'wine' is not suggested (there is 'A table'"),
        (Expect(by="live_agent"), "by the agent, not by the live_agent"),
    ],
)
def test_difference_is_told(perform: Perform, wanted: Expect, words: str) -> None:
    """A message that is not as expected fails at once, and says how it differs."""
    outcome = perform(wanted)
    assert words in unmet(outcome)
    assert outcome.seconds < PATIENCE / 2
    assert outcome.failure is not None
    assert outcome.failure.step == str(wanted)


def test_silence_is_told(perform: Perform) -> None:
    """No message in time is a failure that says so."""
    said = unmet(perform(Say("silence"), Expect(within=BRIEF)))
    assert said == f"no message within {BRIEF:g} s"
    wanted = Expect(text=("x",), within=BRIEF, eventually=True)
    said = unmet(perform(Say("twice"), wanted))
    assert said.startswith("no more message within")
    assert "'x' is missing, in: 'Two.'" in said


def test_late_greeting_is_told(perform: Perform, sandbox: Sandbox) -> None:
    """A greeting that came, but too late, does not pass."""
    sandbox.faults.delay(Moment.JOIN, 3 * BRIEF)
    # Its callback may be a moment behind the connection.
    said = unmet(perform(Expect(within=BRIEF)))
    assert re.search(rf"(came after .* not|no message) within {BRIEF:g} s", said)


def test_servers_complaint_is_told(perform: Perform, sandbox: Sandbox) -> None:
    """What the server says instead of a reply stands in the failure."""
    sandbox.faults.fail_reply("Out of order.")
    said = unmet(perform(Say("x"), Expect(within=BRIEF)))
    assert "the server says 'Out of order.'" in said


def test_error_is_no_failure(perform: Perform, options: dict[str, Any]) -> None:
    """What could not be held is an error, with the words of polysync's exception."""
    options["connector_token"] = "wrong-token"
    outcome = perform(Say("x"))
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.step) == ("error", "connect")
    assert "no such connector token" in outcome.failure.message
    assert "wrong-token" not in repr(outcome)

    options["connector_token"] = None
    outcome = perform(Say("x"))
    assert outcome.failure is not None
    assert outcome.failure.step == "settings"


def test_lost_connection_is_an_error(
    perform: Perform, options: dict[str, Any], sandbox: Sandbox
) -> None:
    """A connection that is lost for good ends the wait at once."""
    options["max_reconnects"] = 0
    sandbox.faults.drop(Moment.SENT, type="USER_MESSAGE")
    outcome = perform(Say("x"), Expect())
    assert outcome.failure is not None
    assert outcome.failure.kind == "error"
    assert "lost" in outcome.failure.message


def test_session_is_ended(perform: Perform, sandbox: Sandbox) -> None:
    """No conversation stays open on the server, passed or not."""
    met(perform(Say("x")))
    assert sandbox.wait_until(lambda: sandbox.session.ended)


# Times


def test_times_are_taken(perform: Perform) -> None:
    """Every message has the time of its receipt, first piece and whole reply."""
    outcome = met(perform(Expect(), Say("one"), Expect(), Say("silence")))
    first, second = outcome.turns
    assert first.receipt is not None
    assert first.first is not None
    assert first.reply is not None
    assert 0 < first.first <= first.reply < PATIENCE
    assert 0 < first.receipt < PATIENCE
    assert second.reply is None
    assert outcome.connect is not None
    assert outcome.connect <= outcome.seconds
    assert outcome.session_id


def test_no_greeting_is_waited_for(perform: Perform, sandbox: Sandbox) -> None:
    """A script for an agent that does not greet says so."""
    sandbox.agent = lambda turn: "Yes?"
    sandbox.faults.withhold("POLY_AGENT_MESSAGE", times=1)
    met(perform(Say("x"), Expect(text=("Yes",)), greeting=False, streaming=False))
