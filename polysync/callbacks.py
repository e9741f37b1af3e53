"""The callback methods of `Client`, one for each thing that people want to hear of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from polysync import events
from polysync.errors import ConfigurationError
from polysync.models import ConnectionChange

if TYPE_CHECKING:
    from polysync.runtime.engine import Engine

__all__ = ["CallbackMethods"]

_F = TypeVar("_F", bound=Callable[[Any], object])
_E = TypeVar("_E")

_HANDOFFS = (
    events.PolyAgentTriggeredHandoff,
    events.HandoffAccepted,
    events.HandoffQueueStatus,
    events.ClientHandoffRequired,
    events.HandoffFailed,
    events.HandoffTimeout,
)


class CallbackMethods:
    """Registers callbacks.

    Each method takes a function of one argument, can be used as a decorator, and
    returns the function. Callbacks run one after the other, in the order of the
    events, on a thread of their own: a slow one delays no heartbeat and no other call,
    and each may call every method of the client. An exception in one is logged, handed
    to `on_error`, and stops nothing.
    """

    _engine: Engine

    def on(self, kind: type[_E], callback: Callable[[_E], object]) -> Any:
        """Call ``callback`` for every event of a class, `Event` meaning all.

        Args:
            kind: An event class, `ConnectionChange`, or an exception class.
            callback: A function of one argument.

        Raises:
            ConfigurationError: One of them is not what it should be.
        """
        known = (events.Event, ConnectionChange, Exception)
        if not (isinstance(kind, type) and issubclass(kind, known)):
            raise ConfigurationError(
                f"{kind!r} is no event class: use those of polysync.events"
            )
        if not callable(callback):
            raise ConfigurationError(f"{callback!r} is no function")
        self._engine.check()
        self._engine.on(kind, callback)
        return callback

    def off(self, callback: Callable[[Any], object]) -> bool:
        """Forget a callback, for whatever it was registered; false if it was not."""
        self._engine.check()
        return self._engine.off(callback) > 0

    def on_agent_message(self, callback: _F) -> _F:
        """Whole messages of the agent and of the live agent."""
        self.on(events.PolyAgentMessage, callback)
        self.on(events.LiveAgentMessage, callback)
        return callback

    def on_session_end(self, callback: _F) -> _F:
        """The end of the conversation: a `SessionEnd`."""
        self.on(events.SessionEnd, callback)
        return callback

    def on_message_chunk(self, callback: _F) -> _F:
        """Chunks of a reply as they come, in order."""
        self.on(events.PolyAgentMessageChunk, callback)
        return callback

    def on_agent_joined(self, callback: _F) -> _F:
        """The agent has joined."""
        self.on(events.PolyAgentJoined, callback)
        return callback

    def on_agent_thinking(self, callback: _F) -> _F:
        """The agent prepares a message: show a typing indicator until it comes."""
        self.on(events.PolyAgentThinking, callback)
        return callback

    def on_user_message(self, callback: _F) -> _F:
        """Echoes of the user's messages, those sent from elsewhere too."""
        self.on(events.UserMessage, callback)
        return callback

    def on_live_agent_joined(self, callback: _F) -> _F:
        """A human has taken over."""
        self.on(events.LiveAgentJoined, callback)
        return callback

    def on_live_agent_typing(self, callback: _F) -> _F:
        """The human types, or has stopped."""
        self.on(events.LiveAgentTyping, callback)
        return callback

    def on_live_agent_left(self, callback: _F) -> _F:
        """The human has left."""
        self.on(events.LiveAgentLeft, callback)
        return callback

    def on_handoff(self, callback: _F) -> _F:
        """Every step of a handoff to a human, from the request to its outcome."""
        for kind in _HANDOFFS:
            self.on(kind, callback)
        return callback

    def on_system_message(self, callback: _F) -> _F:
        """Messages of the server itself; see their ``level``."""
        self.on(events.SystemMessage, callback)
        return callback

    def on_language_changed(self, callback: _F) -> _F:
        """The conversation goes on in another language."""
        self.on(events.LanguageChanged, callback)
        return callback

    def on_connection_change(self, callback: _F) -> _F:
        """Every change of the connection: a `ConnectionChange`."""
        self.on(ConnectionChange, callback)
        return callback

    def on_error(self, callback: _F) -> _F:
        """Errors that no call raises: of callbacks, bad frames, a connection lost."""
        self.on(Exception, callback)
        return callback

    def on_event(self, callback: _F) -> _F:
        """Every event, after the callbacks for its own type."""
        self.on(events.Event, callback)
        return callback

    @property
    def around_callback(self) -> Callable[[Callable[[], object]], object] | None:
        """A function that makes each callback's call, which it is given.

        For frameworks that have something to do around work on foreign threads, such
        as closing database connections. ``None`` makes the call directly.
        """
        return self._engine.callbacks.around

    @around_callback.setter
    def around_callback(
        self, around: Callable[[Callable[[], object]], object] | None
    ) -> None:
        self._engine.callbacks.around = around
