import queue

import pytest

from polysync import AgentError, ConnectionStatus


def closed(turn):
    return "We are closed." if turn.number else "Good evening."


@pytest.mark.polysync_sandbox(agent=closed, chunk_delay=0.01)
def test_closing_time(polysync_client):
    assert polysync_client.ask("A table for two?").text == "We are closed."


def test_agent_of_the_test(polysync_sandbox, polysync_new_client):
    heard = []
    polysync_sandbox.agent = lambda turn: heard.append(turn.text) or "Noted."

    polysync_new_client(streaming=False).connect().ask("Table 5 wants the bill.")

    assert heard == ["Table 5 wants the bill."]


def test_agent_fails(polysync_client, polysync_sandbox):
    polysync_sandbox.faults.fail_reply("Out of order.")

    with pytest.raises(AgentError, match="Out of order."):
        polysync_client.ask("Hello?")


def test_reconnecting(polysync_client, polysync_sandbox, polysync_clock):
    changes = queue.SimpleQueue()
    polysync_client.on_connection_change(changes.put)

    polysync_sandbox.session.drop()

    # Seconds of waiting, at once.
    while (change := changes.get(timeout=5)).status is not ConnectionStatus.OPEN:
        polysync_clock.advance(change.delay)
    assert polysync_client.ask("Still there?").text
