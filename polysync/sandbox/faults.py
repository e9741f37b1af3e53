"""Let things go wrong on demand, by a matcher that the sandbox asks at each step."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from polysync.sandbox.actions import (
    POSSIBLE,
    Action,
    Arrange,
    Close,
    Cut,
    Delay,
    Drop,
    Duplicate,
    Fail,
    Freeze,
    Inject,
    Moment,
    Postpone,
    Refuse,
    Rewrite,
    Swallow,
)
from polysync.sandbox.record import Changes
from polysync.sandbox.wire import Event, full_type, one_key_form

__all__ = ["Fault", "Faults"]


class Fault:
    """One armed fault: counts what it meets, and can be taken back.

    As a context manager it is taken back at the end of the block.

    Attributes:
        moment: When it acts.
        actions: What it does then.
        met: How often its moment has come.
        fired: How often it has acted.
    """

    def __init__(
        self,
        faults: Faults,
        moment: Moment,
        actions: tuple[Action, ...],
        *,
        type: str | None,
        times: int | None,
        after: int,
        session: str | None,
        connection: int | None,
        matching: Callable[[Mapping[str, Any]], bool] | None,
    ) -> None:
        self._faults = faults
        self.moment = moment
        self.actions = actions
        self._type = None if type is None else full_type(type)
        self._times = times
        self._after = after
        self._session = session
        self._connection = connection
        self._matching = matching
        self.met = 0
        self.fired = 0

    def __repr__(self) -> str:
        return f"<Fault: {self.moment.name}, {self.actions}, fired {self.fired}>"

    def __enter__(self) -> Fault:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()

    @property
    def exhausted(self) -> bool:
        """Whether it has acted as often as it was to."""
        return self._times is not None and self.fired >= self._times

    def cancel(self) -> None:
        """Take the fault back; what it has done stays done."""
        self._faults._remove(self)

    def _meets(
        self,
        type: str | None,
        session: str | None,
        connection: int | None,
        event: Mapping[str, Any] | None,
    ) -> bool:
        """Count the moment if it is this fault's, and say whether to act."""
        if self._type is not None and self._type != type:
            return False
        if self._session is not None and self._session != session:
            return False
        if self._connection is not None and self._connection != connection:
            return False
        if self._matching is not None and not self._matching(event or {}):
            return False
        self.met += 1
        if self.met <= self._after:
            return False
        self.fired += 1
        return True


class Faults:
    """The faults of one sandbox; arm and cancel them from any thread.

    Every method that arms takes, besides its own arguments:

    - ``times``: how often to act; `None` for always. Once, if nothing else is said.
    - ``after``: how many times to let the moment pass first.
    - ``session``: only in the session of this id.
    - ``connection``: only on the session's connection of this number, from 1.
    - ``matching``: only if this function of the event is true.

    Several faults for one moment act in the order in which they were armed.
    """

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._armed: dict[Moment, list[Fault]] = {}

    def __repr__(self) -> str:
        return f"<Faults: {sum(map(len, self._armed.values()))} armed>"

    def arm(
        self,
        moment: Moment,
        *actions: Action,
        type: str | None = None,
        times: int | None = 1,
        after: int = 0,
        session: str | None = None,
        connection: int | None = None,
        matching: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> Fault:
        """Arm any combination of moment and actions; all other methods end up here.

        Raises:
            ValueError: An action makes no sense at this moment.
        """
        for action in actions:
            if not isinstance(action, POSSIBLE[moment]):
                raise ValueError(
                    f"{action!r} cannot be done at {moment.name}; what can be done: "
                    + ", ".join(kind.__name__ for kind in POSSIBLE[moment])
                )
        fault = Fault(
            self,
            moment,
            actions,
            type=type,
            times=times,
            after=after,
            session=session,
            connection=connection,
            matching=matching,
        )
        with self._changes:
            self._armed.setdefault(moment, []).append(fault)
        return fault

    def clear(self) -> None:
        """Take back all faults."""
        with self._changes:
            self._armed.clear()

    def at(
        self,
        moment: Moment,
        type: str | None = None,
        *,
        session: str | None = None,
        connection: int | None = None,
        event: Mapping[str, Any] | None = None,
    ) -> tuple[Action, ...]:
        """Return what is to go wrong at this moment; called by the sandbox."""
        if moment not in self._armed:
            return ()
        found: list[Action] = []
        with self._changes:
            for fault in list(self._armed.get(moment, ())):
                if fault._meets(type, session, connection, event):
                    found += fault.actions
                    if fault.exhausted:
                        self._remove(fault)
        return tuple(found)

    def _remove(self, fault: Fault) -> None:
        with self._changes:
            armed = self._armed.get(fault.moment, [])
            if fault in armed:
                armed.remove(fault)
            if not armed:
                self._armed.pop(fault.moment, None)

    # HTTP and handshake.

    def refuse_access_token(self, status: int = 500, **options: Any) -> Fault:
        """Refuse requests for an access token; options as for `refuse`."""
        return self.refuse(Moment.ACCESS_TOKEN, status, **options)

    def refuse_session(self, status: int = 500, **options: Any) -> Fault:
        """Refuse requests for a session; options as for `refuse`."""
        return self.refuse(Moment.SESSION, status, **options)

    def refuse_handshake(self, status: int = 503, **options: Any) -> Fault:
        """Refuse WebSocket handshakes; options as for `refuse`."""
        return self.refuse(Moment.HANDSHAKE, status, **options)

    def refuse(
        self,
        moment: Moment,
        status: int,
        *,
        error: str = "refused on demand",
        body: str | None = None,
        html: str | None = None,
        retry_after: str | float | None = None,
        headers: Mapping[str, str] | None = None,
        **when: Any,
    ) -> Fault:
        """Answer an HTTP request with an error.

        Args:
            moment: `ACCESS_TOKEN`, `SESSION` or `HANDSHAKE`.
            status: The HTTP status.
            error: The text under ``"error"`` in the body.
            body: A body of your own instead, JSON or not.
            html: The same, sent as ``text/html``, as gateways answer.
            retry_after: The ``Retry-After`` header: seconds, or a date as text.
            headers: More headers.
            when: As for every fault.
        """
        more = dict(headers or {})
        if retry_after is not None:
            more["Retry-After"] = str(retry_after)
        if html is not None:
            answer = Refuse(status, html, error, more, "text/html")
        else:
            answer = Refuse(status, body, error, more)
        return self.arm(moment, answer, **when)

    def stall(self, moment: Moment, **when: Any) -> Fault:
        """Never answer: an HTTP request hangs, a connection becomes `half_open`."""
        return self.arm(moment, Freeze(), **when)

    def delay(self, moment: Moment, seconds: float, **when: Any) -> Fault:
        """Wait before going on."""
        return self.arm(moment, Delay(seconds), **when)

    # The connection.

    def drop(self, moment: Moment, *, reset: bool = True, **when: Any) -> Fault:
        """End the TCP connection at a moment, by a reset or by an orderly end."""
        return self.arm(moment, Drop(reset), **when)

    def drop_before(self, type: str, *, reset: bool = True, **when: Any) -> Fault:
        """End the connection in place of sending an event of this type."""
        return self.arm(Moment.SEND, Drop(reset), type=type, **when)

    def drop_after(self, type: str, *, reset: bool = False, **when: Any) -> Fault:
        """End the connection right after sending an event of this type.

        With `reset` a client may lose what it has not read yet.
        """
        return self.arm(Moment.SENT, Drop(reset), type=type, **when)

    def lose_message(
        self, type: str = "USER_MESSAGE", *, reset: bool = True, **when: Any
    ) -> Fault:
        """End the connection when an event comes, before it is recorded: it is lost."""
        return self.arm(Moment.RECEIVE, Drop(reset), type=type, **when)

    def lose_echo(
        self, type: str = "USER_MESSAGE", *, reset: bool = True, **when: Any
    ) -> Fault:
        """End the connection when an event is recorded, before its echo is sent.

        The message has arrived, the agent answers it, and the replay shows both.
        """
        return self.arm(Moment.RECORDED, Drop(reset), type=type, **when)

    def cut_frame(self, type: str, **when: Any) -> Fault:
        """Reset the connection in the middle of a frame."""
        return self.arm(Moment.SEND, Cut(), type=type, **when)

    def close(
        self,
        code: int = 1011,
        reason: str = "",
        *,
        moment: Moment = Moment.RECEIVE,
        **when: Any,
    ) -> Fault:
        """Close the WebSocket with a code when the moment comes."""
        return self.arm(moment, Close(code, reason), **when)

    def half_open(self, moment: Moment = Moment.RECEIVE, **when: Any) -> Fault:
        """Stop reading and writing at a moment, and keep the connection open."""
        return self.arm(moment, Freeze(), **when)

    def silence_heartbeats(self, *, times: int | None = None, **when: Any) -> Fault:
        """Send no echo of heartbeats; all else goes on."""
        return self.arm(Moment.SEND, Swallow(), type="HEARTBEAT", times=times, **when)

    # The events.

    def swallow_messages(self, type: str = "USER_MESSAGE", **when: Any) -> Fault:
        """Ignore what a client sends, without a word, as over the rate limit."""
        return self.arm(Moment.RECEIVE, Swallow(), type=type, **when)

    def withhold(self, type: str, **when: Any) -> Fault:
        """Do not send an event of this type; it stays in the history."""
        return self.arm(Moment.SEND, Swallow(), type=type, **when)

    def duplicate(self, type: str, *, copies: int = 1, **when: Any) -> Fault:
        """Send an event more than once."""
        return self.arm(Moment.SEND, Duplicate(copies), type=type, **when)

    def reorder(self, type: str, *, by: int = 1, **when: Any) -> Fault:
        """Send an event only after `by` later frames of its connection."""
        return self.arm(Moment.SEND, Postpone(by), type=type, **when)

    def rewrite(
        self,
        type: str,
        function: Callable[[Event], Event | str | bytes],
        **when: Any,
    ) -> Fault:
        """Send what `function` makes of an event; it gets a copy."""
        return self.arm(Moment.SEND, Rewrite(function), type=type, **when)

    def garbage(
        self,
        data: str | bytes = "not JSON {",
        *,
        raw: bool = False,
        moment: Moment = Moment.RECEIVE,
        **when: Any,
    ) -> Fault:
        """Send something meaningless: a text frame, a binary frame or raw bytes."""
        return self.arm(moment, Inject(data, raw), **when)

    # The replay.

    def split_replay(self, size: int = 1, **when: Any) -> Fault:
        """Send the history in batches of this many events."""

        def split(events: list[Event]) -> list[list[Event]]:
            return [events[i : i + size] for i in range(0, len(events), size)]

        return self.arm(Moment.REPLAY, Arrange(split), **when)

    def shuffle_replay(self, seed: int = 0, **when: Any) -> Fault:
        """Send the history as one batch in a wrong order, the same for a seed."""

        def shuffle(events: list[Event]) -> list[list[Event]]:
            shuffled = list(events)
            random.Random(seed).shuffle(shuffled)
            return [shuffled]

        return self.arm(Moment.REPLAY, Arrange(shuffle), **when)

    def drop_mid_replay(
        self, events: int = 1, *, reset: bool = False, **when: Any
    ) -> Fault:
        """Send this many events of the history, then end the connection."""

        def broken(history: list[Event]) -> list[list[Event] | Action]:
            return [history[:events], Drop(reset)]

        return self.arm(Moment.REPLAY, Arrange(broken), **when)

    def overlap_replay(self, **when: Any) -> Fault:
        """Send the history twice over, as if live events overlapped with it."""
        return self.arm(Moment.REPLAY, Arrange(lambda all: [all, all]), **when)

    def one_key_replay(self, **when: Any) -> Fault:
        """Send the history with payloads under keys named after the event types."""

        def renamed(events: list[Event]) -> list[list[Event]]:
            return [[one_key_form(event) for event in events]]

        return self.arm(Moment.REPLAY, Arrange(renamed), **when)

    # The agent.

    def fail_join(
        self,
        message: str = "Sorry, I'm unable to start a conversation right now. "
        "Please try again later.",
        **when: Any,
    ) -> Fault:
        """Let the agent not start."""
        return self.arm(Moment.JOIN, Fail(message), **when)

    def fail_reply(
        self,
        message: str = "Sorry, I'm having trouble responding right now. "
        "Please try again.",
        **when: Any,
    ) -> Fault:
        """Let a reply fail with a system message of level error."""
        return self.arm(Moment.REPLY, Fail(message), **when)

    def no_reply(self, **when: Any) -> Fault:
        """Let the agent say nothing at all to a message that was echoed."""
        return self.arm(Moment.REPLY, Swallow(), **when)
