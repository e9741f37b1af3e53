"""A conversation's first words, one at a time: WebSocket, history, agent, heartbeat."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from polysync.cli.checkup.finding import Trouble
from polysync.events import (
    Event,
    Heartbeat,
    PolyAgentJoined,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    RequestPolyAgentJoin,
    SessionEnd,
    SessionStart,
    SystemMessage,
    UserEndSession,
)
from polysync.models import SystemMessageLevel
from polysync.protocol.codec import encode, parse
from polysync.protocol.loss import Loss
from polysync.runtime.clock import Deadline, monotonic
from polysync.runtime.network import Network
from polysync.runtime.websocket import Connection

__all__ = ["Talk"]

_T = TypeVar("_T")

#: How long the end of the session may take, in seconds.
_PATIENCE = 2.0

_SUPPORT = "Give the vendor's support this report; the session's id is in it."


class Talk:
    """One session's connection; a listener of `Connection`.

    Args:
        network: The way to the server.
        timeout: Seconds for each step.
    """

    def __init__(self, network: Network, timeout: float) -> None:
        self._timeout = timeout
        self._changed = threading.Condition()
        self._opened = False
        self._loss: Loss | None = None
        self._events: list[tuple[float, Event]] = []
        self._problems: list[str] = []
        self._asked = 0.0
        self._connection = Connection(
            network,
            generation=1,
            listener=self,
            open_timeout=timeout,
            send_timeout=timeout,
        )

    # What the connection tells, on its thread

    def connection_opened(self, connection: Connection) -> None:
        with self._changed:
            self._opened = True
            self._changed.notify_all()

    def connection_received(self, connection: Connection, payload: bytes) -> None:
        events, problems, _ = parse(payload)
        now = monotonic()
        with self._changed:
            self._events += [(now, event) for event in events]
            self._problems += problems
            self._changed.notify_all()

    def connection_lost(self, connection: Connection, loss: Loss) -> None:
        with self._changed:
            self._loss = loss
            self._changed.notify_all()

    # The steps

    def open(self, session_id: str, access_token: str) -> str:
        """Open the WebSocket."""
        self._connection.start()
        self._connection.upgrade(session_id, access_token, None)
        with self._changed:
            # Dialling and upgrading may take as long each, and tell of it themselves.
            self._changed.wait_for(
                lambda: self._opened or self._loss, 2 * self._timeout + 1
            )
            opened, loss = self._opened, self._loss
        if opened:
            return "the server has upgraded the connection"
        if loss is None:
            raise Trouble("the WebSocket handshake stalled", _BLOCKED)
        raise Trouble(loss.reason, _upgrade_advice(loss))

    def read_history(self) -> str:
        """Wait for the start of the history."""
        start = self._await(_first(SessionStart))
        if start is None:
            odd = f"; what came cannot be read: {'; '.join(self._problems[:3])}"
            raise Trouble(
                "the connection is open, but no history came within "
                f"{self._timeout:g} s{odd if self._problems else ''}",
                "Something in between may hold WebSocket messages back: try without "
                f"the proxy, or from another network. {_SUPPORT}",
            )
        facts = start.capabilities
        words = []
        if facts.streaming is not None:
            words.append(f"streaming {'on' if facts.streaming else 'off'}")
        if facts.heartbeat_interval_seconds is not None:
            words.append(f"heartbeat every {facts.heartbeat_interval_seconds} s")
        if facts.max_message_size_bytes is not None:
            words.append(f"messages up to {facts.max_message_size_bytes} bytes")
        return ", ".join(words) or "the session has started"

    def join(self) -> str:
        """Ask for the agent."""
        self._asked = monotonic()
        self._send(RequestPolyAgentJoin())

        def settled(events: list[tuple[float, Event]]) -> Event | None:
            for _, event in events:
                if isinstance(event, PolyAgentJoined) or _is_error(event):
                    return event
            return None

        event = self._await(settled)
        if isinstance(event, SystemMessage):
            raise Trouble(
                f"the agent did not join: the server says {event.message!r}",
                "Check in Agent Studio that the connector has an agent that is "
                "published to this environment; then try again in a minute.",
            )
        if not isinstance(event, PolyAgentJoined):
            raise Trouble(
                f"no agent joined within {self._timeout:g} s",
                "Check in Agent Studio that the connector has an agent that is "
                "published to this environment.",
            )
        return f"{event.agent_name or 'the agent'} has joined"

    def greet(self) -> str:
        """Wait for the agent's first message."""

        def whole(events: list[tuple[float, Event]]) -> tuple[float, Event] | None:
            for at, event in events:
                if isinstance(event, PolyAgentMessage) or (
                    isinstance(event, PolyAgentMessageChunk) and event.is_complete
                ):
                    return at, event
            return None

        found = self._await(whole)
        if found is None:
            with self._changed:
                begun = any(
                    isinstance(event, PolyAgentMessageChunk)
                    for _, event in self._events
                )
                errors = [e.message for _, e in self._events if _is_error(e)]  # type: ignore[attr-defined]
            if begun:
                raise Trouble(
                    "the agent began its greeting and did not end it within "
                    f"{self._timeout:g} s",
                    f"A slow agent needs a longer --timeout. {_SUPPORT}",
                )
            said = f"; the server says {errors[-1]!r}" if errors else ""
            raise Trouble(
                f"the agent has joined, but sent no greeting within {self._timeout:g} "
                f"s{said}",
                "Check the agent's greeting in Agent Studio. An agent that has none "
                "works too: connect(wait='agent') does not wait for it.",
            )
        return f"complete {found[0] - self._asked:.2f} s after the agent was asked for"

    def heartbeat(self) -> str:
        """Send a sign of life and wait for its echo."""
        start = self._await(_first(SessionStart))
        if start is not None and start.capabilities.heartbeat_interval_seconds == 0:
            return "switched off by the server"
        self._send(Heartbeat())
        if self._await(_first(Heartbeat)) is None:
            raise Trouble(
                f"the server does not echo heartbeats (waited {self._timeout:g} s)",
                "Clients would count the connection as dead again and again. Something "
                "in between may hold messages back; if nothing does, use "
                f"heartbeat_interval=0 meanwhile. {_SUPPORT}",
            )
        return "echoed"

    def leave(self) -> None:
        """End the session, and close."""
        if self._opened and self._loss is None:
            with suppress(Trouble):
                self._send(UserEndSession())
                self._await(_first(SessionEnd), min(_PATIENCE, self._timeout))
        if self._opened:
            self._connection.close(timeout=1.0)
        else:
            self._connection.abort()
            self._connection.join(1.0)

    # Inside

    def _send(self, event: Event) -> None:
        self._connection.queue(encode(event))
        self._connection.flush()

    def _await(
        self,
        found: Callable[[list[tuple[float, Event]]], _T | None],
        timeout: float | None = None,
    ) -> _T | None:
        """Wait until something is among the events; nothing if it is not in time."""
        deadline = Deadline(self._timeout if timeout is None else timeout)
        with self._changed:
            while (value := found(self._events)) is None:
                if self._loss is not None:
                    raise Trouble(
                        f"the connection was lost meanwhile: {self._loss.reason}",
                        "If it happens again, try without the proxy or from another "
                        f"network. {_SUPPORT}",
                    )
                left = deadline.remaining()
                if not left:
                    return None
                self._changed.wait(left)
            return value


_BLOCKED = (
    "The server or something in between does not answer WebSocket upgrades, while "
    "ordinary requests work: have wss:// allowed in the firewall or proxy."
)


def _upgrade_advice(loss: Loss) -> str:
    if loss.status == 429:
        return "There are too many connections or calls: wait a minute, try again."
    if loss.status in (401, 404):
        return (
            "The server does not know the session that it has just made: try again. "
            f"{_SUPPORT}"
        )
    if loss.status is not None and loss.status >= 500:
        return f"The server has trouble: try again later. {_SUPPORT}"
    return _BLOCKED


def _first(kind: type[_T]) -> Callable[[list[tuple[float, Event]]], _T | None]:
    def find(events: list[tuple[float, Any]]) -> _T | None:
        return next((event for _, event in events if isinstance(event, kind)), None)

    return find


def _is_error(event: Event) -> bool:
    return isinstance(event, SystemMessage) and event.level == SystemMessageLevel.ERROR
