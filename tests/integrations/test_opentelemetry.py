"""Spans and metrics of conversations, as an SDK's exporters see them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from polysync import (
    AgentError,
    AuthenticationError,
    Client,
    DeliveryError,
    ReplyTimeoutError,
)
from polysync.integrations.opentelemetry import instrument, uninstrument
from polysync.sandbox import EchoAgent, Moment, Sandbox

SECRET = "My card number is 4111"


class Telemetry:
    """An SDK of the test's own, and what it was given."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.tracer = self.tracers.get_tracer("the application")

    def instrument(self, client: Client, **options: Any) -> Client:
        return instrument(
            client,
            tracer_provider=self.tracers,
            meter_provider=self.meters,
            **options,
        )

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    def measured(self) -> dict[str, list[Any]]:
        """Return the data points of all metrics; collects them, so call it once."""
        data = self.reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str) -> list[Any]:
        """Return the data points of the one metric that is looked at."""
        return self.measured().get(name, [])


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    yield telemetry
    telemetry.tracers.shutdown()
    telemetry.meters.shutdown()


@pytest.fixture
def client(
    polysync_sandbox: Sandbox,
    polysync_new_client: Callable[..., Client],
    telemetry: Telemetry,
) -> Client:
    """A connected, instrumented client; the span of connecting is forgotten."""
    polysync_sandbox.agent = EchoAgent
    client = telemetry.instrument(polysync_new_client()).connect()
    telemetry.exporter.clear()
    return client


# Spans.


def test_connect_is_a_span(
    polysync_new_client: Callable[..., Client], telemetry: Telemetry
) -> None:
    """connect() gives one span that says where and which session."""
    client = telemetry.instrument(polysync_new_client()).connect()

    span = telemetry.one("polysync.connect")
    assert span.kind is trace.SpanKind.CLIENT
    assert span.attributes["session.id"] == client.session_id
    assert span.attributes["server.address"] == "127.0.0.1"
    assert span.status.is_ok
    assert telemetry.points("polysync.client.connect.duration")[0].count == 1


def test_requests_are_made_within_connect(
    polysync_new_client: Callable[..., Client],
    telemetry: Telemetry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever traces the two requests finds the span of connect() around them."""
    from polysync.runtime import rest

    around = []
    create_session = rest.create_session

    def traced(*args: Any, **kwargs: Any) -> Any:
        around.append(trace.get_current_span().name)  # type: ignore[attr-defined]
        return create_session(*args, **kwargs)

    monkeypatch.setattr(rest, "create_session", traced)
    telemetry.instrument(polysync_new_client()).connect()

    assert around == ["polysync.connect"]


def test_refused_connect_is_an_error(
    polysync_new_client: Callable[..., Client], telemetry: Telemetry
) -> None:
    """A connect() that fails says so, and gives the token away nowhere."""
    client = telemetry.instrument(polysync_new_client(connector_token="wrong-token"))

    with pytest.raises(AuthenticationError):
        client.connect()

    span = telemetry.one("polysync.connect")
    assert not span.status.is_ok
    assert span.attributes["error.type"] == "AuthenticationError"
    assert "wrong-token" not in span.to_json()


def test_ask_is_a_send_and_a_reply(client: Client, telemetry: Telemetry) -> None:
    """The echo ends one span and begins the other; both are there after ask()."""
    with telemetry.tracer.start_as_current_span("request") as request:
        message = client.ask("one two three")

    send, reply = telemetry.one("polysync.send"), telemetry.one("polysync.reply")
    assert send.start_time <= send.end_time == reply.start_time <= reply.end_time
    for span in (send, reply):
        assert span.parent.span_id == request.get_span_context().span_id
        assert span.attributes["session.id"] == client.session_id
        assert span.status.is_ok
    assert send.attributes["polysync.message.length"] == len("one two three")
    assert reply.attributes["polysync.reply.length"] == len(message.text)
    assert reply.attributes["polysync.reply.id"] == message.message_id
    assert reply.attributes["polysync.reply.live_agent"] is False


def test_first_chunk_is_an_event(client: Client, telemetry: Telemetry) -> None:
    """A streamed reply says when its first chunk came, between echo and end."""
    chunks = list(client.stream("one two three four five"))

    span = telemetry.one("polysync.reply")
    (event,) = span.events
    assert event.name == "first chunk"
    assert span.start_time <= event.timestamp <= span.end_time
    assert span.attributes["polysync.reply.chunks"] == len(chunks) > 1


def test_message_alone_has_a_reply_too(client: Client, telemetry: Telemetry) -> None:
    """The agent's next message answers a message that nobody waited with."""
    client.receive()  # the greeting, which answers nothing
    with telemetry.tracer.start_as_current_span("request") as request:
        client.send_message("hello")
    client.receive()

    reply = telemetry.one("polysync.reply")
    assert reply.parent.span_id == request.get_span_context().span_id


def test_unasked_message_is_no_reply(
    client: Client, polysync_sandbox: Sandbox, telemetry: Telemetry
) -> None:
    """What the agent says by itself belongs to no call."""
    client.ask("hello")
    polysync_sandbox.session.say("Are you still there?")
    client.receive()
    client.receive()

    assert len(telemetry.named("polysync.reply")) == 1


def test_submitted_messages_keep_their_own_contexts(
    client: Client, telemetry: Telemetry
) -> None:
    """Messages on their way at the same time do not mix up their parents."""
    parents, futures = {}, []
    for number in range(20):
        with telemetry.tracer.start_as_current_span("request") as request:
            text = "x" * (number + 1)
            parents[len(text)] = request.get_span_context().span_id
            futures.append(client.submit_message(text))
    for future in futures:
        future.result(timeout=10)

    sent = {
        span.attributes["polysync.message.length"]: span.parent.span_id
        for span in telemetry.named("polysync.send")
    }
    assert sent == parents


def test_asking_threads_do_not_mix(client: Client, telemetry: Telemetry) -> None:
    """Each of many threads finds its spans below its own."""

    def ask(number: int) -> None:
        with telemetry.tracer.start_as_current_span("request"):
            client.ask("x" * number)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    sends = {s.context.trace_id: s for s in telemetry.named("polysync.send")}
    replies = {s.context.trace_id: s for s in telemetry.named("polysync.reply")}
    requests = {s.context.trace_id for s in telemetry.named("request")}
    assert sends.keys() == replies.keys() == requests
    assert len(requests) == 8


# What goes wrong.


def test_lost_message_is_an_error(
    client: Client, polysync_sandbox: Sandbox, telemetry: Telemetry
) -> None:
    """A message without an echo ends its span as an error and is counted."""
    polysync_sandbox.faults.swallow_messages()

    with pytest.raises(DeliveryError):
        client.send_message("hello", timeout=0.05)

    span = telemetry.one("polysync.send")
    assert not span.status.is_ok
    assert span.attributes["error.type"] == "given_up"
    assert span.attributes["polysync.uncertain"] is True
    assert telemetry.named("polysync.reply") == []
    (point,) = telemetry.points("polysync.client.messages.unconfirmed")
    assert point.value == 1


def test_closing_settles_the_spans(
    client: Client, polysync_sandbox: Sandbox, telemetry: Telemetry
) -> None:
    """What is on its way when the client is closed ends with the client's error."""
    polysync_sandbox.faults.swallow_messages()
    future = client.submit_message("hello")
    client.close()

    with pytest.raises(DeliveryError):
        future.result(timeout=5)
    span = telemetry.one("polysync.send")
    assert span.attributes["error.type"] == "DeliveryError"


def test_missing_reply_is_an_error(
    client: Client, polysync_sandbox: Sandbox, telemetry: Telemetry
) -> None:
    """A caller that gives up waiting ends the span of the reply."""
    polysync_sandbox.faults.no_reply()

    with pytest.raises(ReplyTimeoutError):
        client.ask("hello", timeout=0.05)

    assert telemetry.one("polysync.send").status.is_ok
    assert telemetry.one("polysync.reply").attributes["error.type"] == "given_up"


def test_left_reply_ends(client: Client, telemetry: Telemetry) -> None:
    """A reply that is dropped in the middle leaves no span behind for ever."""
    reply = client.stream("one two three")
    next(reply)
    reply.close()
    client.ask("again")

    assert len(telemetry.named("polysync.reply")) == 2


def test_error_of_the_agent_keeps_its_words(
    client: Client, polysync_sandbox: Sandbox, telemetry: Telemetry
) -> None:
    """What the agent says instead of a reply is not in the span."""
    polysync_sandbox.faults.fail_reply(SECRET)

    with pytest.raises(AgentError):
        client.ask("hello")

    span = telemetry.one("polysync.reply")
    assert span.attributes["error.type"] == "AgentError"
    assert SECRET not in span.to_json()


# What is said.


def test_text_is_left_out(client: Client, telemetry: Telemetry) -> None:
    """No span holds what was said, unless that is wanted."""
    client.ask(SECRET)

    assert not [span for span in telemetry.spans if SECRET in span.to_json()]


def test_text_is_captured_when_wanted(
    polysync_new_client: Callable[..., Client],
    polysync_sandbox: Sandbox,
    telemetry: Telemetry,
) -> None:
    """`capture_text` puts the texts into the spans."""
    polysync_sandbox.agent = EchoAgent
    client = telemetry.instrument(polysync_new_client(), capture_text=True)
    client.connect().ask("Hello there")

    send, reply = telemetry.one("polysync.send"), telemetry.one("polysync.reply")
    assert send.attributes["polysync.message.text"] == "Hello there"
    assert reply.attributes["polysync.reply.text"] == "Hello there"


# Metrics.


def test_latencies_are_measured(client: Client, telemetry: Telemetry) -> None:
    """Each stage of a reply has a histogram in seconds; the stages follow in order."""
    client.ask("one two three")

    measured = telemetry.measured()
    echo, first, whole = (
        measured[f"polysync.client.{name}.duration"][0]
        for name in ("echo", "first_chunk", "reply")
    )
    assert echo.count == first.count == whole.count == 1
    assert 0 < echo.sum <= first.sum <= whole.sum < 5
    # Older versions of the API take no advice about the bounds.
    if len(signature(Meter.create_histogram).parameters) > 4:
        assert max(echo.explicit_bounds) == 60.0


def test_reconnects_are_counted(
    client: Client, polysync_sandbox: Sandbox, telemetry: Telemetry, recorder: Any
) -> None:
    """Each attempt to reconnect counts."""
    client.on_connection_change(recorder)
    polysync_sandbox.faults.drop(Moment.RECEIVE, type="USER_MESSAGE")
    client.ask("hello", timeout=20)

    attempts = [change for change in recorder.items if change.attempt]
    (point,) = telemetry.points("polysync.client.reconnects")
    assert point.value == len(attempts) >= 1


# Callbacks.


def test_callback_runs_in_the_context_of_the_call(
    client: Client, telemetry: Telemetry, recorder: Any
) -> None:
    """Spans that a callback makes belong to the request that caused the event."""

    @client.on_agent_message
    def store(message: object) -> None:
        with telemetry.tracer.start_as_current_span("store"):
            recorder(message)

    with telemetry.tracer.start_as_current_span("first") as first:
        client.ask("hello")
    with telemetry.tracer.start_as_current_span("second") as second:
        client.submit_message("hello")
    recorder.wait_for(2)
    client.close()  # by then the callbacks have returned

    parents = [span.parent.span_id for span in telemetry.named("store")]
    assert parents == [
        request.get_span_context().span_id for request in (first, second)
    ]


def test_greeting_belongs_to_connect(
    polysync_new_client: Callable[..., Client], telemetry: Telemetry, recorder: Any
) -> None:
    """Before the first message, callbacks run where connect() was called."""
    client = telemetry.instrument(polysync_new_client())
    client.on_agent_message(
        lambda _: recorder(trace.get_current_span().get_span_context().span_id)
    )

    with telemetry.tracer.start_as_current_span("request") as request:
        client.connect()

    assert recorder.wait_for(1) == [request.get_span_context().span_id]


def test_around_callback_of_others_is_kept(
    polysync_new_client: Callable[..., Client], telemetry: Telemetry, recorder: Any
) -> None:
    """What a framework has put around callbacks still is, and is back afterwards."""

    def around(call: Callable[[], object]) -> None:
        recorder("around")
        call()

    client = polysync_new_client()
    client.around_callback = around
    telemetry.instrument(client)
    client.on_agent_message(lambda _: recorder("called"))
    client.connect()

    assert recorder.wait_for(2) == ["around", "called"]
    uninstrument(client)
    assert client.around_callback is around


# On and off.


def test_instrumenting_twice_is_instrumenting_once(
    client: Client, telemetry: Telemetry
) -> None:
    """A client that is instrumented again gives no span twice."""
    assert telemetry.instrument(client) is client
    client.ask("hello")

    assert len(telemetry.named("polysync.send")) == 1


def test_uninstrument_ends_it(client: Client, telemetry: Telemetry) -> None:
    """Nothing is told of a client any more, not even of what has begun."""
    reply = client.stream("hello")
    assert uninstrument(client) is client
    assert reply.message.text
    telemetry.exporter.clear()

    client.ask("hello")
    uninstrument(client)

    assert telemetry.spans == []


def test_uninstrument_under_another_wrapper(
    client: Client, telemetry: Telemetry, recorder: Any
) -> None:
    """What was put around our own wrapper since is left in its place."""
    inner = client.around_callback
    client.around_callback = lambda call: inner(call)  # type: ignore[misc]
    wrapper = client.around_callback
    uninstrument(client)
    client.on_agent_message(recorder)
    client.ask("hello")

    assert client.around_callback is wrapper
    assert recorder.wait_for(1)


PROGRAM = """
import sys
from polysync import Client
from polysync.integrations.opentelemetry import instrument
with instrument(Client(environment="sandbox")) as client:
    assert client.ask("hello").text
assert not any(name.startswith("opentelemetry.sdk") for name in sys.modules)
print("done")
"""


@pytest.mark.subprocess
def test_without_an_sdk_nothing_happens() -> None:
    """An application that has set up no SDK works as before, and loads none."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert done.stdout == "done\n", done.stderr
    assert done.stderr == ""
