"""The calls of `Client` that wait for what comes: messages and events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar, overload

from polysync.arguments import checked_types
from polysync.events import Event, Message
from polysync.options import Options, checked_timeout
from polysync.protocol.states import Phase
from polysync.runtime.engine import Engine

__all__ = ["Listening"]

_E = TypeVar("_E", bound=Event)


class Listening:
    """Gives messages and events to those who ask for them, where callbacks push."""

    _engine: Engine
    _options: Options

    def receive(self, *, timeout: float | None = None) -> Message:
        """Return the next whole message that no `ask` or `stream` has returned.

        The greeting is the first of them. Messages wait here in their order.

        Args:
            timeout: Seconds; default: the client's ``timeout``.

        Raises:
            ReceiveTimeoutError: None came in time.
            SessionEndedError: The conversation is over.
            ConnectionLostError: The connection was lost for good.
            ClientClosedError: The client is closed, or was never connected.
        """
        self._engine.check()
        return self._engine.receive(
            checked_timeout(timeout, "timeout", self._options.timeout)
        )

    @overload
    def events(
        self, *, timeout: float | None = None, replay: bool = False
    ) -> Iterator[Event]: ...
    @overload
    def events(
        self, *types: type[_E], timeout: float | None = None, replay: bool = False
    ) -> Iterator[_E]: ...
    def events(
        self,
        *types: type[Event],
        timeout: float | None = None,
        replay: bool = False,
    ) -> Iterator[Any]:
        """Return an iterator over every event from this call on.

        It ends after `SessionEnd`, and when the client is closed.

        Args:
            *types: Event classes to be given; none for all.
            timeout: Seconds to wait for each event; ``None`` waits as long as the
                conversation lasts.
            replay: Whether to begin with `history`.

        Raises:
            ReceiveTimeoutError: While iterating, no event came in time.
            ConnectionLostError: While iterating, the connection was lost for good.
            ClientClosedError: While iterating, the client is not connected yet.
        """
        self._engine.check()
        seconds = None if timeout is None else checked_timeout(timeout, "timeout", 0.0)
        return self._engine.subscribe(
            checked_types(types), seconds, replay, self._check_waiting
        )

    @overload
    def wait_for(self, *, timeout: float | None = None) -> Event: ...
    @overload
    def wait_for(self, *types: type[_E], timeout: float | None = None) -> _E: ...
    def wait_for(self, *types: type[Event], timeout: float | None = None) -> Any:
        """Return the next event of these types (of any, without types).

        Args:
            *types: Event classes.
            timeout: Seconds; default: the client's ``timeout``.

        Raises:
            ReceiveTimeoutError: None came in time.
            SessionEndedError: The conversation ended before.
            ClientClosedError: The client is closed, or was never connected.
        """
        self._engine.check()
        seconds = checked_timeout(timeout, "timeout", self._options.timeout)
        waiting = self._engine.subscribe(
            checked_types(types), seconds, False, self._check_waiting
        )
        try:
            return waiting.next(seconds)
        except StopIteration:
            raise self._engine.read(lambda c: c.gone()) from None

    def _check_waiting(self, at_hand: bool) -> None:
        """Refuse to wait for an event where none can come.

        A method of the client, so that an iterator keeps its client alive.
        """
        self._engine.check()
        if not at_hand and self._engine.conversation.phase is Phase.IDLE:
            raise self._engine.read(lambda c: c.gone())
