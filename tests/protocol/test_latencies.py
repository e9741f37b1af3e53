"""Tests of `polysync.protocol.latencies`."""

from __future__ import annotations

import pytest

from polysync.protocol.latencies import Latencies, Times
from tests.protocol.script import Script, chunk


def test_times_are_summed_up():
    times = Times()
    for seconds in (0.2, 0.5, 0.1):
        times.add(seconds)
    assert (times.count, times.last, times.longest) == (3, 0.1, 0.5)
    assert times.total == pytest.approx(0.8)


def measured(script: Script) -> Latencies:
    return script.conversation.dialogue.latencies


def test_the_echo_and_the_beginning_of_the_answer_are_timed_from_the_call():
    script = Script()
    script.greet()
    reply = script.ask()
    script.later(0.25)
    script.echo(reply.delivery)
    script.later(0.5)
    script.hear("POLY_AGENT_MESSAGE_CHUNK", chunk("m", 1, "Cer"))
    script.later(1.0)
    script.hear("POLY_AGENT_MESSAGE_CHUNK", chunk("m", 2, "tainly", last=True))
    assert measured(script).echo.last == 0.25
    assert measured(script).first_chunk.last == 0.75
    assert measured(script).first_chunk.count == 1


def test_what_nobody_asked_for_is_not_timed():
    script = Script()
    script.greet()
    script.answer("By the way")
    script.echo(script.say())
    script.answer("Thank you")
    assert measured(script).echo.count == 1
    assert measured(script).first_chunk.count == 0
