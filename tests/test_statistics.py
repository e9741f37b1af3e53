"""`Client.statistics`: what is counted, from when on, and over what."""

from __future__ import annotations

import pickle

import pytest

from polysync import Client, ClientStatistics, Latency
from polysync.protocol.latencies import Times
from polysync.sandbox import EchoAgent
from tests.clients import eventually, talking


def test_a_new_client_has_counted_nothing() -> None:
    client = Client("token", "https://www.example.com")

    assert client.statistics == ClientStatistics()
    assert client.statistics.echo == Latency(0, None, None, None)


def test_a_conversation_is_counted() -> None:
    with talking(EchoAgent) as (_, client):
        before = client.statistics
        client.ask("one")
        after = client.statistics

    assert (before.connections, before.reconnects) == (1, 0)
    assert before.echo.count == before.first_chunk.count == 0
    assert after.frames_out == before.frames_out + 1
    assert after.bytes_out > before.bytes_out + len("one")
    assert after.frames_in >= before.frames_in + 2
    assert after.bytes_in > before.bytes_in


def test_latencies_are_those_of_the_calls() -> None:
    with talking(EchoAgent) as (_, client):
        client.ask("one")
        client.ask("two")
        client.send_message("three")
        numbers = client.statistics

    echo, first = numbers.echo, numbers.first_chunk
    assert (echo.count, first.count) == (3, 2)
    for latency in (echo, first):
        assert latency.last is not None
        assert latency.mean is not None
        assert latency.max is not None
        assert 0.0 < latency.last <= latency.max
        assert latency.mean <= latency.max


def test_the_numbers_go_on_over_a_reconnect() -> None:
    with talking(EchoAgent) as (sandbox, client):
        client.ask("one")
        before = client.statistics
        sandbox.session.drop()
        eventually(lambda: client.statistics.connections == 2)
        client.ask("two")
        after = client.statistics

    assert after.reconnects == 1
    assert after.frames_in > before.frames_in
    assert after.echo.count == 2


def test_the_numbers_go_on_over_a_restart_which_is_no_reconnect() -> None:
    with talking(EchoAgent) as (_, client):
        client.ask("one")
        before = client.statistics
        client.restart()
        client.ask("two")
        after = client.statistics

    assert (after.connections, after.reconnects) == (2, 0)
    assert after.frames_out > before.frames_out
    assert after.echo.count == 2


def test_the_numbers_can_be_read_after_the_end() -> None:
    with talking(EchoAgent) as (_, client):
        client.ask("one")
        client.end_session()
        numbers = client.statistics

    assert numbers.connections == 1
    assert numbers.frames_out >= 2


def test_a_snapshot_does_not_change_and_can_be_pickled() -> None:
    with talking(EchoAgent) as (_, client):
        numbers = client.statistics
        kept = numbers.frames_out
        client.ask("one")

    assert numbers.frames_out == kept
    assert pickle.loads(pickle.dumps(numbers)) == numbers


def test_times_are_summed_up() -> None:
    times = Times()
    for seconds in (0.2, 0.4, 0.3):
        times.add(seconds)

    assert (times.count, times.last, times.longest) == (3, 0.3, 0.4)
    assert times.total == pytest.approx(0.9)
