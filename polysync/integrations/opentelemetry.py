"""Traces and metrics of conversations, for OpenTelemetry.

::

    client = instrument(Client())
    with client:
        client.ask("Do you have a table for two tonight?")

Needs ``opentelemetry-api``, which the ``otel`` extra brings, and an SDK that the
application sets up; without one everything here does nothing.

=====================  =============================================================
span                   from … to …
=====================  =============================================================
``polysync.connect``   the call of `Client.connect`; requests are within it
``polysync.send``      a message's call, its echo: the server has taken it
``polysync.reply``     the echo, the agent's whole message. The event ``first chunk``
                       says when it began to come
=====================  =============================================================

All are children of the span in which the call was made, and so is what callbacks do:
a callback runs in the context of the message that the event follows. The reply to a
message whose call does not wait for one (`Client.send_message`) is the agent's next
message before the user's next.

===========================================  =======================================
metric                                       what
===========================================  =======================================
``polysync.client.connect.duration``         s, until `Client.connect` returned
``polysync.client.echo.duration``            s, from the call to the echo
``polysync.client.first_chunk.duration``     s, from the call to the first chunk
``polysync.client.reply.duration``           s, from the call to the whole message
``polysync.client.reconnects``               attempts to reconnect
``polysync.client.messages.unconfirmed``     messages without an echo
===========================================  =======================================

Texts of messages are left out unless they are asked for. Spans end on the thread that
reads from the server: export with a ``BatchSpanProcessor``.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit

import attrs

try:
    from opentelemetry import context as otel_context
    from opentelemetry import metrics, trace
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "polysync.integrations.opentelemetry needs opentelemetry-api; install it "
        "with: pip install 'polysync[otel]'"
    ) from error

from polysync.client import Client
from polysync.errors import AgentError
from polysync.events import (
    LiveAgentMessage,
    Message,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    UserMessage,
)
from polysync.models import ConnectionChange, ConnectionStatus
from polysync.protocol.outbox import ID_KEYS
from polysync.protocol.tickets import Delivery, ReplyTicket, Ticket

__all__ = ["instrument", "uninstrument"]

logger = logging.getLogger(__name__)

#: Bounds of the histograms, in seconds: the SDK's own are meant for milliseconds.
_BOUNDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0]


def instrument(
    client: Client,
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
    capture_text: bool = False,
) -> Client:
    """Trace and measure what a client does from now on.

    Best called right after the client was made: callbacks for the user's own messages
    that were registered before still run in the context of the message before.

    Args:
        client: The client. One that is instrumented already stays as it is.
        tracer_provider: Default: the global one.
        meter_provider: Default: the global one.
        capture_text: Whether spans hold what user and agent say, as
            ``polysync.message.text`` and ``polysync.reply.text``.

    Returns:
        The client.
    """
    if not isinstance(client._engine.observer, _Tracing):
        tracing = _Tracing(client, tracer_provider, meter_provider, capture_text)
        tracing.attach(client)
    return client


def uninstrument(client: Client) -> Client:
    """Trace and measure the client no longer; what has begun is left out.

    Returns:
        The client.
    """
    tracing = client._engine.observer
    if isinstance(tracing, _Tracing):
        tracing.detach(client)
    return client


@attrs.define(eq=False)
class _Turn:
    """One message of the user, and the agent's answer to it."""

    delivery: Delivery
    context: otel_context.Context
    started: int = attrs.field(factory=time.time_ns)
    echoed: int | None = None
    first_chunk: int | None = None
    chunks: int = 0

    @property
    def reply(self) -> ReplyTicket | None:
        return self.delivery.reply


class _Tracing:
    """Watches one client, as its engine's observer.

    Spans are made when all is known of them, with the times that were noted: nothing of
    the SDK runs under the client's lock.
    """

    def __init__(
        self,
        client: Client,
        tracer_provider: trace.TracerProvider | None,
        meter_provider: metrics.MeterProvider | None,
        capture_text: bool,
    ) -> None:
        try:
            release = version("polysync")
        except PackageNotFoundError:  # pragma: no cover - run from a bare checkout
            release = "0"
        self._tracer = trace.get_tracer(__name__, release, tracer_provider)
        self._metrics = _Metrics(metrics.get_meter(__name__, release, meter_provider))
        self._capture_text = capture_text
        self._client = weakref.ref(client)
        self._around: Callable[[Callable[[], object]], object] | None = None
        self._attached = False
        self._lock = threading.Lock()
        self._turns: dict[str, _Turn] = {}
        # The turn of the latest echo, if no call waits for what the agent says to it.
        self._open: _Turn | None = None
        # Where callbacks run. Only the callback thread follows the conversation.
        self._place = otel_context.get_current()
        self._places: dict[str, otel_context.Context] = {}

    # On and off

    def attach(self, client: Client) -> None:
        self._around = client.around_callback
        client.around_callback = self._call
        client.on(UserMessage, self._follow)
        client._engine.observer = self
        self._attached = True

    def detach(self, client: Client) -> None:
        self._attached = False
        client._engine.observer = None
        client.off(self._follow)
        if client.around_callback == self._call:
            client.around_callback = self._around

    # Callbacks

    def _follow(self, echo: UserMessage) -> None:
        """What comes after this echo belongs to its message."""
        for name in _ids(echo):
            place = self._places.pop(name, None)
            if place is not None:
                self._place = place

    def _call(self, call: Callable[[], object]) -> object:
        if not self._attached:  # but still called by what was put around it since
            return call() if self._around is None else self._around(call)
        token = otel_context.attach(self._place)
        try:
            return call() if self._around is None else self._around(call)
        finally:
            otel_context.detach(token)

    # What the engine tells

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Trace a connect()."""
        self._place = otel_context.get_current()
        started = time.time_ns()
        with self._tracer.start_as_current_span(
            "polysync.connect",
            kind=trace.SpanKind.CLIENT,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            outcome: dict[str, str] = {}
            try:
                yield
            except BaseException as error:
                outcome = self._fail(span, error)
                raise
            finally:
                span.set_attributes(self._common())
                self._metrics.connect.record(_since(started), outcome)

    def sending(self, delivery: Delivery) -> None:
        """Note when and where a message was sent."""
        turn = _Turn(delivery, otel_context.get_current())
        with self._lock:
            self._turns[delivery.id] = turn
        self._places[delivery.id] = turn.context

    def saw(self, news: Sequence[object], settled: Sequence[Ticket]) -> None:
        """Note what has happened, and make spans of what is complete."""
        try:
            now = time.time_ns()
            for each in news:
                self._hear(each, now)
            for ticket in settled:
                if isinstance(ticket, Delivery):
                    self._sent(ticket, now)
            for ticket in settled:
                if isinstance(ticket, ReplyTicket) and ticket.done:
                    self._answered(ticket, now)
        except Exception:
            logger.exception("tracing failed")

    def _hear(self, news: object, now: int) -> None:
        match news:
            case UserMessage():
                for name in _ids(news):
                    turn = self._turns.get(name)
                    if turn is not None:
                        self._sent(turn.delivery, now)
            case PolyAgentMessageChunk():
                turn = self._asking(news.message_id) or self._open
                if turn is not None:
                    turn.chunks += 1
                    if turn.first_chunk is None:
                        turn.first_chunk = now
                        self._metrics.first_chunk.record(_seconds(turn.started, now))
            case PolyAgentMessage() | LiveAgentMessage():
                turn, message = self._open, news
                if turn is not None and self._asking(message.message_id) is None:
                    self._open = None
                    self._replied(turn, now, message, None)
            case ConnectionChange(status=ConnectionStatus.RECONNECTING):
                if news.attempt:
                    self._metrics.reconnects.add(1)

    def _asking(self, message_id: str | None) -> _Turn | None:
        """Return the turn whose call waits for this message."""
        with self._lock:
            for turn in self._turns.values():
                reply = turn.reply
                if reply is None or reply.message_id is None:
                    continue
                if reply.message_id == (message_id or ""):
                    return turn
        return None

    def _sent(self, delivery: Delivery, now: int) -> None:
        """A message has reached the server, or has not."""
        with self._lock:
            turn = self._turns.get(delivery.id)
            if turn is None or turn.echoed is not None:
                return
            if delivery.reply is None or delivery.result is None:
                del self._turns[delivery.id]
        turn.echoed = now
        attributes: dict[str, Any] = {"polysync.message.length": len(delivery.text)}
        if delivery.result is not None and delivery.result.message_id:
            attributes["polysync.message.id"] = delivery.result.message_id
        if self._capture_text:
            attributes["polysync.message.text"] = delivery.text
        span = self._begin("polysync.send", turn, turn.started, attributes)
        if delivery.result is not None:
            self._metrics.echo.record(_seconds(turn.started, now))
            self._open = turn if delivery.reply is None else None
        else:
            # Without its echo, nobody can follow to where it was sent.
            self._places.pop(delivery.id, None)
            span.set_attribute("polysync.uncertain", delivery.uncertain)
            reasons = self._fail(span, delivery.error)
            self._metrics.unconfirmed.add(1, reasons)
        span.end(now)

    def _answered(self, ticket: ReplyTicket, now: int) -> None:
        """A call has its answer, or has none."""
        if ticket.delivery is None:
            return
        with self._lock:
            turn = self._turns.get(ticket.delivery.id)
            if turn is None or turn.echoed is None:
                return
            del self._turns[ticket.delivery.id]
        self._replied(turn, now, ticket.result, ticket)

    def _replied(
        self, turn: _Turn, now: int, message: Message | None, ticket: Ticket | None
    ) -> None:
        attributes: dict[str, Any] = {"polysync.reply.chunks": turn.chunks}
        if message is not None:
            attributes["polysync.reply.length"] = len(message.text)
            attributes["polysync.reply.live_agent"] = message.is_live_agent
            attributes["polysync.reply.complete"] = message.complete
            if message.message_id:
                attributes["polysync.reply.id"] = message.message_id
            if self._capture_text:
                attributes["polysync.reply.text"] = message.text
        span = self._begin("polysync.reply", turn, turn.echoed or now, attributes)
        if turn.first_chunk is not None:
            span.add_event("first chunk", timestamp=turn.first_chunk)
        outcome = {}
        if message is None:
            outcome = self._fail(span, None if ticket is None else ticket.error)
        self._metrics.reply.record(_seconds(turn.started, now), outcome)
        span.end(now)

    # Spans

    def _begin(
        self, name: str, turn: _Turn, started: int, attributes: dict[str, Any]
    ) -> trace.Span:
        return self._tracer.start_span(
            name,
            context=turn.context,
            kind=trace.SpanKind.CLIENT,
            attributes={**self._common(), **attributes},
            start_time=started,
        )

    def _common(self) -> dict[str, Any]:
        """Return what all spans of the client say: where, and which conversation."""
        client = self._client()
        if client is None:
            return {}
        attributes: dict[str, Any] = {}
        if client.session_id is not None:
            attributes["session.id"] = client.session_id
        server = urlsplit(client._engine.base_url or "")
        if server.hostname:
            attributes["server.address"] = server.hostname
            attributes["server.port"] = server.port or (
                443 if server.scheme == "https" else 80
            )
        return attributes

    def _fail(self, span: trace.Span, error: BaseException | None) -> dict[str, str]:
        """Mark a span as failed; return the attribute that says so in metrics."""
        if error is None:
            kind, why = "given_up", "its caller waits no longer"
        else:
            kind, why = type(error).__qualname__, str(error)
            # What this error says is what the agent said.
            if isinstance(error, AgentError) and not self._capture_text:
                why = kind
        span.set_status(trace.StatusCode.ERROR, why)
        outcome = {"error.type": kind}
        span.set_attributes(outcome)
        return outcome


class _Metrics:
    """The instruments."""

    def __init__(self, meter: metrics.Meter) -> None:
        def histogram(name: str, description: str) -> metrics.Histogram:
            arguments: dict[str, Any] = {
                "name": f"polysync.client.{name}.duration",
                "unit": "s",
                "description": description,
            }
            try:
                return meter.create_histogram(
                    **arguments, explicit_bucket_boundaries_advisory=_BOUNDS
                )
            except TypeError:  # an API that does not take advice yet
                return meter.create_histogram(**arguments)

        self.connect = histogram("connect", "Until connect() has returned.")
        self.echo = histogram("echo", "From the call to the message's echo.")
        self.first_chunk = histogram(
            "first_chunk", "From the call to the first chunk of the reply."
        )
        self.reply = histogram("reply", "From the call to the whole reply.")
        self.reconnects = meter.create_counter(
            "polysync.client.reconnects", "{attempt}", "Attempts to reconnect."
        )
        self.unconfirmed = meter.create_counter(
            "polysync.client.messages.unconfirmed",
            "{message}",
            "Messages whose echo has not come.",
        )


def _ids(echo: UserMessage) -> set[str]:
    """Return the ids under which a client may have sent the message."""
    return {echo.metadata[key] for key in ID_KEYS if key in echo.metadata}


def _seconds(start: int, end: int) -> float:
    return max(0.0, (end - start) / 1e9)


def _since(start: int) -> float:
    return _seconds(start, time.time_ns())
