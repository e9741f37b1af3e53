"""`Client`: one conversation with an agent, for code that blocks."""

from __future__ import annotations

import inspect
import logging
import queue
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from polysync.arguments import (
    checked_metadata,
    checked_text,
    checked_typing,
)
from polysync.callbacks import CallbackMethods
from polysync.errors import ConfigurationError, PolysyncError
from polysync.events import Event, Message, SessionEnd, UserMessage
from polysync.listening import Listening
from polysync.options import Options, checked_timeout
from polysync.protocol.tickets import Delivery, ReplyTicket
from polysync.reply import Reply
from polysync.runtime.engine import Engine
from polysync.runtime.resources import finalize
from polysync.runtime.waiting import Waiter, late
from polysync.view import ConversationView

if TYPE_CHECKING:
    import concurrent.futures

    from polysync.sessions.state import SessionState

__all__ = ["Client"]

logger = logging.getLogger(__name__)

_E = TypeVar("_E", bound=Event)

#: How far `Client.connect` can be told to wait.
_WAITS = ("greeting", "agent", "session")

#: Seconds that leaving a ``with`` statement gives the server to confirm the end.
_LEAVE_TIMEOUT = 5.0


class Client(Listening, CallbackMethods, ConversationView):
    """One conversation with a PolyAI agent, blocking and thread-safe.

    ::

        with Client("CONNECTOR_TOKEN", "https://www.example.com") as client:
            print(client.greeting.text)
            print(client.ask("Do you have a table for two tonight?").text)

    Making a client checks its settings and does nothing else; `connect`, or entering a
    ``with`` statement, starts its threads and opens the conversation. All methods may
    be called from any thread and from callbacks. After a fork, the client belongs to
    the parent process: in the child it raises `ForkedError`.

    Args:
        connector_token: The secret of the connector (``X-Token``). Default:
            ``$POLYSYNC_CONNECTOR_TOKEN``.
        host: The domain or app namespace that the connector is registered for
            (``X-Host``), such as ``https://www.example.com``. Default:
            ``$POLYSYNC_HOST``.
        access_token: An access token that was minted elsewhere; no other is asked for.
        environment: ``"us-1"`` (the default), ``"uk-1"``, ``"euw-1"``, another
            cluster's name, a base URL, or ``"sandbox"`` for the built-in server.
            Default: ``$POLYSYNC_ENVIRONMENT``.
        streaming: Whether replies come in chunks.
        platform: What the user is on: ``"web"``, ``"ios"``, ``"android"``,
            ``"ios-web"``, ``"android-web"`` or ``"custom"``.
        timeout: Seconds for every call that waits for the server, `ask`, `stream` and
            `events` aside.
        reply_timeout: Seconds for `ask` and `stream`.
        heartbeat_interval: Seconds between heartbeats. ``None`` does what the server
            says, else 30; 0 sends none.
        heartbeat_timeout: Seconds without the echo of a heartbeat after which the
            connection counts as dead.
        max_reconnects: How many attempts to reconnect may fail in a row. ``None`` does
            what the server says, else 10; 0 never reconnects.
        reconnect_delay: Seconds before the first attempt; doubled each time, with a
            jitter of 20 %.
        reconnect_delay_max: The longest of these delays, in seconds.
        resend: Whether to send again what a lost connection provably did not deliver.
        proxy: URL of an HTTP proxy, with user and password if it needs them. Default:
            the environment's and system's settings.
        ca_certs: File or directory of certificates to trust. Default: the system's.
        history_limit: How many of the latest events `history` keeps; ``None`` keeps
            all.

    Raises:
        ConfigurationError: A setting is missing or wrong. Clear text (``http://``,
            ``ws://``) is refused except on a loopback address.
    """

    def __init__(
        self,
        connector_token: str | None = None,
        host: str | None = None,
        *,
        access_token: str | None = None,
        environment: str | None = None,
        streaming: bool = True,
        platform: str = "web",
        timeout: float = 30.0,
        reply_timeout: float = 60.0,
        heartbeat_interval: float | None = None,
        heartbeat_timeout: float = 10.0,
        max_reconnects: int | None = None,
        reconnect_delay: float = 1.0,
        reconnect_delay_max: float = 30.0,
        resend: bool = True,
        proxy: str | None = None,
        ca_certs: str | None = None,
        history_limit: int | None = None,
    ) -> None:
        self._set_up(
            Options.checked(
                connector_token,
                host,
                access_token=access_token,
                environment=environment,
                streaming=streaming,
                platform=platform,
                timeout=timeout,
                reply_timeout=reply_timeout,
                heartbeat_interval=heartbeat_interval,
                heartbeat_timeout=heartbeat_timeout,
                max_reconnects=max_reconnects,
                reconnect_delay=reconnect_delay,
                reconnect_delay_max=reconnect_delay_max,
                resend=resend,
                proxy=proxy,
                ca_certs=ca_certs,
                history_limit=history_limit,
            )
        )

    def _set_up(self, options: Options, access_token: str | None = None) -> None:
        self._options = options
        self._engine = engine = Engine(options, access_token)
        # The engine's resources and not the engine: a finalizer that reached the
        # callbacks' closures would keep the client alive for ever.
        self._finalizer = weakref.finalize(
            self,
            finalize,
            engine.resources,
            f"a polysync.Client ({options.environment})",
        )

    def __repr__(self) -> str:
        if not hasattr(self, "_engine"):
            return "<polysync.Client whose settings were refused>"
        return (
            f"<polysync.Client {self._options.environment} "
            f"session={self.session_id} {self.status.value}>"
        )

    def __reduce__(self) -> Any:
        raise TypeError(
            "a Client cannot be pickled: pass client.state or client.detach() to "
            "another process and call Client.resume() there"
        )

    # Life

    def connect(
        self,
        *,
        join: bool = True,
        wait: str = "greeting",
        timeout: float | None = None,
    ) -> Client:
        """Open the conversation: token, session, socket, history, agent.

        On a client that is connected already, only wait. After an error, the next call
        tries again.

        Args:
            join: Whether to ask for the agent.
            wait: How far to wait: ``"greeting"`` for the first message of the agent (on
                a resumed conversation for the agent), ``"agent"`` until it has joined,
                ``"session"`` until the session has started. With ``join=False`` there
                is nothing to wait for beyond the session.
            timeout: Seconds; default: the client's ``timeout``.

        Returns:
            The client.

        Raises:
            AuthenticationError: The server refused the credentials.
            SessionNotFoundError: A resumed session is unknown or has expired.
            ConnectTimeoutError: It took too long; the message says at which step.
            ConnectionLostError: The server cannot be reached.
            RateLimitError: There were too many calls.
            ServerError: The server failed again and again.
            ProtocolError: What answered does not speak the protocol.
            AgentError: The agent could not be started.
            SessionEndedError: The conversation is over.
            ClientClosedError: The client is closed.
        """
        if wait not in _WAITS:
            raise ConfigurationError(
                f"wait must be one of {', '.join(_WAITS)}, not {wait!r}"
            )
        seconds = checked_timeout(timeout, "timeout", self._options.timeout)
        self._engine.check()
        observer = self._engine.observer
        with nullcontext() if observer is None else observer.connecting():
            self._engine.connect(join, wait if join else "session", seconds)
        return self

    def __enter__(self) -> Client:
        return self.connect()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._engine.resources.forked:
            return
        try:
            if self._engine.read(lambda c: c.at_work):
                self.end_session(timeout=min(_LEAVE_TIMEOUT, self._options.timeout))
        except PolysyncError as failure:
            # Never over the error that the block itself is raising.
            logger.warning("the session could not be ended: %s", failure)
        finally:
            self.close()

    def end_session(self, *, timeout: float | None = None) -> SessionEnd:
        """End the conversation on the server, then close.

        On a conversation that has ended already, return how.

        Raises:
            EndTimeoutError: The server did not confirm within ``timeout`` seconds; the
                client is closed all the same.
            ConnectionLostError: The connection was lost and could not be made again.
            ClientClosedError: The client is closed, or was never connected.
        """
        seconds = checked_timeout(timeout, "timeout", self._options.timeout)
        self._engine.check()
        try:
            return self._engine.end(seconds)
        finally:
            if self._engine.conversation.begun or self.ended:
                self.close()

    def detach(self) -> SessionState:
        """Close the socket, and leave the conversation open on the server.

        The server keeps it for ten minutes; `resume` takes it up again.

        Raises:
            ClientClosedError: There is no conversation to leave.
            SessionEndedError: It is over.
        """
        self._engine.check()
        if not self._engine.read(lambda c: c.at_work):
            raise self._engine.read(lambda c: c.gone())
        self.close()
        # Only now, as what was delivered until the close must not come again.
        state = self.state
        if state is None:
            raise AssertionError("a conversation at work has a session")
        return state

    @classmethod
    def resume(
        cls, state: SessionState, *, replay: bool = False, **options: Any
    ) -> Client:
        """Make a client for a detached conversation, in this process or another.

        Args:
            state: What `detach` or `state` gave.
            replay: Whether to have the server send the whole history again, so that
                `history` and `transcript` are complete. What was delivered before is
                not delivered to callbacks and `receive` a second time either way.
            **options: Settings as for a new client; the server, the access token and
                whether replies are streamed are those of the session, whatever is
                given here.

        Raises:
            ConfigurationError: A setting is wrong.
        """
        # 1 ms that few need.
        from polysync.sessions.handover import take_up
        from polysync.sessions.state import SessionState

        if not isinstance(state, SessionState):
            raise ConfigurationError(
                f"resume() takes a SessionState, not {type(state).__name__}: use "
                "SessionState.from_json() for its JSON"
            )
        client = cls.__new__(cls)
        settings = {
            name: parameter.default
            for name, parameter in inspect.signature(cls).parameters.items()
        }
        unknown = set(options) - set(settings)
        if unknown:
            raise TypeError(f"resume() has no option {', '.join(sorted(unknown))}")
        settings.update(
            options,
            environment=state.base_url,
            access_token=state.access_token,
            streaming=state.streaming,
        )
        checked = Options.checked(resuming=True, **settings)
        if checked.connector_token and checked.host:
            # restart() can get a token of its own for its session.
            checked = attrs.evolve(checked, access_token=None)
        client._set_up(checked, state.access_token)
        client._engine.read(lambda c: take_up(c, state, replay))
        return client

    def restart(
        self,
        *,
        join: bool = True,
        wait: str = "greeting",
        timeout: float | None = None,
    ) -> Client:
        """Begin another session on this client, with the same callbacks.

        A session that is still open is ended first, as far as the server answers.
        Arguments and errors are those of `connect`.
        """
        self._engine.check()
        if self._engine.read(lambda c: c.at_work):
            try:
                self._engine.end(min(_LEAVE_TIMEOUT, self._options.timeout))
            except PolysyncError as failure:
                logger.warning("the last session could not be ended: %s", failure)
        self._engine.close()
        self._engine.start_over()
        return self.connect(join=join, wait=wait, timeout=timeout)

    def close(self) -> None:
        """Close without ending the session on the server.

        Idempotent, and possible from any thread and from a callback. Whoever waits in
        another call is told at once. Returns within a second and leaves no thread
        behind, except one that is busy in a callback of yours.
        """
        self._engine.close()

    # Talking

    def ask(
        self,
        text: str,
        *,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Message:
        """Send a message and return the agent's whole reply.

        Args:
            text: What the user says.
            timeout: Seconds until the reply must be there; default: the client's
                ``reply_timeout``.
            metadata: Custom metadata, which the server repeats in the echo.

        Raises:
            ReplyTimeoutError: The message arrived, and no whole reply came in time.
            DeliveryError: The message did not, or not certainly, arrive.
            AgentError: The server answered with an error.
            SessionEndedError: The conversation is over.
            MessageTooLargeError: The message is larger than the session allows.
            ConfigurationError: The text is empty, or the metadata is not of strings.
            ClientClosedError: The client is closed, or was never connected.
        """
        seconds = checked_timeout(timeout, "timeout", self._options.reply_timeout)
        reply, waiter = ReplyTicket(), Waiter()
        reply.wake = waiter.wake
        delivery = self._send(text, metadata, reply=reply)
        try:
            woken = waiter.wait(seconds)
        except BaseException:
            self._engine.leave(delivery, reply, False)
            raise
        if not woken and self._engine.give_up(delivery, reply):
            raise late(delivery, seconds)
        if reply.error is not None:
            raise reply.error
        if reply.result is None:
            raise AssertionError("a settled reply has a message or an error")
        return reply.result

    def stream(
        self,
        text: str,
        *,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a message and return the reply while it comes.

        ::

            for chunk in client.stream("Tell me about the terrace."):
                print(chunk.text, end="", flush=True)

        Arguments and errors are those of `ask`; those of the reply are raised while
        it is read.
        """
        seconds = checked_timeout(timeout, "timeout", self._options.reply_timeout)
        news: queue.SimpleQueue[bool] = queue.SimpleQueue()
        reply = ReplyTicket(streaming=True)
        reply.wake = lambda: news.put(reply.done)
        delivery = self._send(text, metadata, reply=reply)
        return Reply(self, self._engine, delivery, reply, news, seconds)

    def send_message(
        self,
        text: str,
        *,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> UserMessage:
        """Send a message and wait for its echo, which is the server's receipt.

        Args:
            text: What the user says.
            timeout: Seconds; default: the client's ``timeout``.
            metadata: Custom metadata, which the server repeats in the echo.

        Returns:
            The echo, with the ``message_id`` that the server gave.

        Raises:
            DeliveryError: There was no echo; ``uncertain`` says whether the message
                may have arrived all the same. After ``timeout`` seconds it is a
                `DeliveryTimeoutError`.
            PolysyncError: As `ask`.
        """
        seconds = checked_timeout(timeout, "timeout", self._options.timeout)
        waiter = Waiter()
        delivery = self._send(text, metadata, wake=lambda _: waiter.wake())
        try:
            woken = waiter.wait(seconds)
        except BaseException:
            self._engine.give_up(delivery)
            raise
        if not woken and self._engine.give_up(delivery):
            raise late(delivery, seconds)
        return _receipt(delivery)

    def submit_message(
        self, text: str, *, metadata: Mapping[str, str] | None = None
    ) -> concurrent.futures.Future[UserMessage]:
        """Send a message without waiting.

        The future gets the echo, or a `DeliveryError`: when the conversation cannot go
        on, or when the echo is missing ``timeout`` seconds after the message went out
        on a connection that is still there. Functions given to its
        ``add_done_callback`` run on the reader thread and have to be quick.

        Raises:
            PolysyncError: As `ask`, for what is wrong before anything is sent.
        """
        from concurrent.futures import Future  # 2 ms that few need

        future: concurrent.futures.Future[UserMessage] = Future()
        future.set_running_or_notify_cancel()

        def wake(delivery: Delivery) -> None:
            try:
                future.set_result(_receipt(delivery))
            except Exception as error:
                future.set_exception(error)

        self._send(text, metadata, patience=self._options.timeout, wake=wake)
        return future

    def send_typing(self, state: str = "started") -> None:
        """Show a live agent that the user types, or has stopped.

        Call it as often as keys are pressed: ``STARTED`` is sent at most every 3 s, and
        ``STOPPED`` by itself 5 s after the last call. While there is no connection,
        nothing is sent.

        Args:
            state: ``"started"`` or ``"stopped"``.

        Raises:
            ConfigurationError: It is neither.
            ClientClosedError: The client is closed, or was never connected.
            SessionEndedError: The conversation is over.
        """
        self._engine.check()
        self._engine.show_typing(checked_typing(state))

    def request_agent_join(self) -> None:
        """Ask for the agent, after ``connect(join=False)`` or when it was lost.

        Raises:
            ClientClosedError: The client is closed, or was never connected.
            SessionEndedError: The conversation is over.
        """
        self._engine.check()
        self._engine.request_join()

    # Inside

    def _send(
        self,
        text: str,
        metadata: Mapping[str, str] | None,
        *,
        patience: float | None = None,
        reply: ReplyTicket | None = None,
        wake: Callable[[Delivery], None] | None = None,
    ) -> Delivery:
        self._engine.check()
        return self._engine.send(
            checked_text(text),
            checked_metadata(metadata),
            patience=patience,
            reply=reply,
            wake=wake,
        )


def _receipt(delivery: Delivery) -> UserMessage:
    if delivery.error is not None:
        raise delivery.error
    if delivery.result is None:
        raise AssertionError("a settled delivery has an echo or an error")
    return delivery.result
