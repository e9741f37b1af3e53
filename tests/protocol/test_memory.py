"""What a conversation keeps does not grow with its length, nor with garbage."""

from __future__ import annotations

import gc
import logging
import random
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from polysync.protocol import inbound, outbox, streams
from polysync.protocol.effects import Connect
from polysync.protocol.tickets import ReplyTicket
from tests.protocol.script import Script, chunk

#: Rounds until everything that has a limit has reached it, and rounds to measure.
WARM, MEASURED = 150, 300

#: Bytes; a message that was kept in each round would take several times as much.
TOLERANCE = 40_000


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the limits reached within a moment, and nothing logged, which is kept."""
    monkeypatch.setattr(inbound, "WINDOW", 64)
    monkeypatch.setattr(streams, "FINISHED", 16)
    monkeypatch.setattr(outbox, "GIVEN_UP", 16)
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def growth(script: Script, step: Callable[[int], None]) -> int:
    """Return by how many bytes the memory grows in the measured rounds."""

    def run(numbers: range) -> int:
        for number in numbers:
            step(number)
            for kept in (script.news, script.written, script.settled):
                kept.clear()
            script.conversation.effects.records.clear()
            script.orders = [o for o in script.orders if type(o) is Connect][-1:]
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = run(range(WARM))
        return run(range(WARM, WARM + MEASURED)) - before
    finally:
        tracemalloc.stop()


def test_a_long_conversation_takes_no_more_memory_than_a_short_one() -> None:
    """Questions, streamed replies, typing, heartbeats, messages given up, drops."""
    script = Script(history_limit=20)
    script.greet(streaming=True)

    def talk(number: int) -> None:
        reply = ReplyTicket(streaming=True)
        script.echo(script.say(f"question {number}", reply=reply))
        script.hear("POLY_AGENT_THINKING")
        for index in (1, 3, 2, 2):
            payload = chunk(f"m{number}", index, "x" * 500, last=index == 3)
            script.hear("POLY_AGENT_MESSAGE_CHUNK", payload)
        assert reply.done
        for name in ("LIVE_AGENT_TYPING", "HANDOFF_QUEUE_STATUS"):
            script.hear(name, {}, sequence=None, id=f"{name}-{number}")
        script.beat()
        forlorn = script.say(f"nobody waits for {number}")
        script.conversation.give_up(forlorn)
        script.later(streams.ABANDONED_AFTER + 1.0)
        # Begun, and never ended: given up in the next round.
        script.hear("POLY_AGENT_MESSAGE_CHUNK", chunk(f"half-{number}", 1, "y" * 500))
        script.receive()
        if number % 5 == 0:
            script.drop()
            script.back()

    assert growth(script, talk) < TOLERANCE


def test_garbage_is_not_kept() -> None:
    """Neither what is no JSON nor what is no event, nor what nobody knows."""
    script = Script(history_limit=20)
    script.greet()
    chance = random.Random(0)

    def disturb(number: int) -> None:
        noise = chance.randbytes(2_000)
        script.frame(noise)
        script.frame(noise.hex())
        script.frame(f'{{"type": "NEW_{number}", "payload": {{"a": "{noise.hex()}"}}}}')
        script.frame(f'{{"type": {number}, "payload": "{noise.hex()}"}}')
        script.hear("POLY_AGENT_MESSAGE", {"attachments": [noise.hex()] * 3})
        script.receive()

    assert growth(script, disturb) < TOLERANCE
