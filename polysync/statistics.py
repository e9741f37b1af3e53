"""What a client has done so far, in numbers: `Client.statistics`."""

from __future__ import annotations

from attrs import frozen

from polysync.models import Value
from polysync.protocol.latencies import Times
from polysync.runtime.engine import Engine

__all__ = ["ClientStatistics", "Latency", "snapshot"]


@frozen(eq=False, repr=False, weakref_slot=False)
class Latency(Value):
    """How long something took, in seconds.

    Attributes:
        count: How often it was measured.
        last: The latest time; ``None`` before the first.
        mean: The mean of all.
        max: The longest.
    """

    count: int = 0
    last: float | None = None
    mean: float | None = None
    max: float | None = None


@frozen(eq=False, repr=False, weakref_slot=False)
class ClientStatistics(Value):
    """A client's counters at one moment, over all its connections and sessions.

    Attributes:
        connections: WebSocket connections that were opened.
        reconnects: Those among them that took up a session again: after a loss, or to
            replace a connection that grew old.
        frames_in: WebSocket messages received; each is one event or a batch.
        frames_out: WebSocket frames sent.
        bytes_in: Bytes of the messages received, without the frames' headers.
        bytes_out: Bytes of the frames sent.
        echo: From the call that sends a message to its echo, the server's receipt.
        first_chunk: From `Client.ask` or `Client.stream` to the first chunk of the
            reply, or to the whole reply where it does not come in chunks.
    """

    connections: int = 0
    reconnects: int = 0
    frames_in: int = 0
    frames_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    echo: Latency = Latency()
    first_chunk: Latency = Latency()


def snapshot(engine: Engine) -> ClientStatistics:
    """Read a client's counters, all at the same moment."""
    return engine.read(
        lambda conversation: ClientStatistics(
            engine.meters.connections,
            engine.meters.reconnects,
            *engine.meters.traffic(),
            echo=_latency(conversation.dialogue.latencies.echo),
            first_chunk=_latency(conversation.dialogue.latencies.first_chunk),
        )
    )


def _latency(times: Times) -> Latency:
    if not times.count:
        return Latency()
    mean = times.total / times.count
    return Latency(times.count, times.last, mean, times.longest)
