"""A conversation under test: says, chooses, expects, and takes the time."""

from __future__ import annotations

import queue
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs

from polysync.client import Client
from polysync.errors import ConfigurationError, ConnectionLostError
from polysync.events import (
    ClientHandoffRequired,
    Event,
    HandoffAccepted,
    HandoffFailed,
    HandoffTimeout,
    LiveAgentJoined,
    LiveAgentMessage,
    Message,
    PolyAgentMessage,
    PolyAgentMessageChunk,
    PolyAgentTriggeredHandoff,
    SessionEnd,
    SystemMessage,
)
from polysync.models import ConnectionChange, ConnectionStatus, SystemMessageLevel
from polysync.runtime.clock import Deadline, monotonic
from polysync.scenarios.outcome import Turn
from polysync.scenarios.steps import ENDS, HANDOFFS, SPEAKERS, Expect
from polysync.scenarios.variables import fill

__all__ = ["Talk", "Unmet"]

_T = TypeVar("_T")

_HANDOFFS: dict[str, type[Event]] = {
    "requested": PolyAgentTriggeredHandoff,
    "accepted": HandoffAccepted,
    "joined": LiveAgentJoined,
    "failed": HandoffFailed,
    "timeout": HandoffTimeout,
    "required": ClientHandoffRequired,
}
_HANDOFF_EVENTS: tuple[type[Event], ...] = tuple(_HANDOFFS.values())
_ENDS = {
    "natural": "REASON_NATURAL_END",
    "user": "REASON_USER_END",
    "abandoned": "REASON_USER_ABANDONED",
}


class Unmet(AssertionError):
    """An expectation is not met; the message says what came instead."""


class Talk:
    """A conversation under test, given to scripts in Python.

    Args:
        client: The client that holds it; `listen` is called before it connects.
        within: How long expectations wait, in seconds.
        variables: What ``${name}`` stands for in texts.
        wall: Tells the time in seconds since the epoch.
    """

    def __init__(
        self,
        client: Client,
        *,
        within: float,
        variables: dict[str, str] | None = None,
        wall: Callable[[], float],
    ) -> None:
        #: The client itself, for what has no method here.
        self.client = client
        #: The variables; patterns with named groups add to them.
        self.variables: dict[str, str] = dict(variables or {})
        #: The user's messages so far, with their times.
        self.turns: list[Turn] = []
        #: Where the script is, for reports; 0 if nowhere.
        self.line = 0
        #: The step that the script is at, in words.
        self.step = ""
        self._within = within
        self._wall = wall
        self._news: queue.SimpleQueue[tuple[float, Any]] = queue.SimpleQueue()
        self._messages: deque[tuple[float, Message]] = deque()
        self._handoffs: list[Event] = []
        self._last: Message | None = None
        self._end: SessionEnd | None = None
        self._lost: str | None = None
        self._complaint = ""
        self._since = monotonic()
        self._sent_at = 0.0
        # What comes up to this place in the history was not said in answer.
        self._heard: int = -1

    def listen(self) -> None:
        """Hear of everything from now on."""

        def hear(news: object) -> None:
            self._news.put((monotonic(), news))

        self.client.on_event(hear)
        self.client.on_connection_change(hear)
        self._since = monotonic()

    def stop(self) -> None:
        """Let the step at hand fail at once. From any thread."""
        lost = ConnectionChange(ConnectionStatus.FAILED, reason="the run was stopped")
        self._news.put((monotonic(), lost))
        self.client.close()

    # What a script does

    def say(self, text: str) -> None:
        """Send a message, and wait for the server's receipt.

        What the agent has said so far can no longer be expected.

        Args:
            text: With variables as ``${name}``.

        Raises:
            PolysyncError: It cannot be delivered, or the conversation is over.
        """
        text = fill(text, self.variables)
        self.step = f"say {text!r}"
        self._take_all()
        self._messages.clear()
        self._handoffs.clear()
        self._last = None
        self._complaint = ""
        self._since = self._sent_at = monotonic()
        self.turns.append(Turn(at=self._wall()))
        echo = self.client.send_message(text)
        self._note(receipt=monotonic() - self._sent_at)
        if echo.sequence is not None:
            self._heard = echo.sequence
            # A message from before may have come while this one was on its way.
            self._messages = deque(
                each for each in self._messages if not self._is_old(each[1])
            )

    def choose(self, suggestion: str | int) -> None:
        """Send one of the suggestions that the agent has offered last.

        Waits for a message if none came since the user's last.

        Args:
            suggestion: Its text or a part of it, or its number, from 1.

        Raises:
            Unmet: It is not offered.
            PolysyncError: As `say`.
        """
        self.step = f"choose {suggestion!r}"
        if self._last is None:
            self._next_message(self._within)
        offers = [each.message_text or "" for each in self._offered()]
        if isinstance(suggestion, int):
            if not 1 <= suggestion <= len(offers):
                raise Unmet(f"there is no suggestion {suggestion}: {_listed(offers)}")
            chosen = offers[suggestion - 1]
        else:
            wanted = fill(suggestion, self.variables)
            exact = [each for each in offers if _plain(each) == _plain(wanted)]
            alike = [each for each in offers if _plain(wanted) in _plain(each)]
            if not alike:
                raise Unmet(f"{wanted!r} is not suggested: {_listed(offers)}")
            chosen = (exact or alike)[0]
        self.say(chosen.replace("${", "$${"))

    def expect(
        self,
        text: str | Sequence[str] = (),
        *,
        pattern: str | None = None,
        suggestion: str | Sequence[str] = (),
        attachment: str | Sequence[str] = (),
        by: str | None = None,
        handoff: str | None = None,
        end: str | bool | None = None,
        within: float | None = None,
        eventually: bool = False,
    ) -> Any:
        """Wait for what the agent is to do, and compare; see `Expect` for each.

        Returns:
            The message, or the event of the handoff or the end.

        Raises:
            Unmet: It did not come in time, or is not as expected.
            ConnectionLostError: The connection was lost for good.
        """
        for name, value, known in (
            ("by", by, SPEAKERS),
            ("handoff", handoff, HANDOFFS),
            ("end", None if isinstance(end, bool) else end, ENDS),
        ):
            if value is not None and value not in known:
                raise ConfigurationError(
                    f"{name} must be one of {', '.join(known)}, not {value!r}"
                )
        return self.check(
            Expect(
                text=_several(text),
                pattern=pattern,
                suggestion=_several(suggestion),
                attachment=_several(attachment),
                by=by,
                handoff=handoff,
                end="any" if end is True else end or None,
                within=within,
                eventually=eventually,
                line=self.line,
            )
        )

    def check(self, wanted: Expect) -> Any:
        """Do as `expect` with everything in one object."""
        self.step = str(wanted)
        within = self._within if wanted.within is None else wanted.within
        if wanted.end is not None:
            found: Any = self._expect_end(wanted.end, within)
        elif wanted.handoff is not None:
            found = self._expect_handoff(wanted.handoff, within)
        else:
            found = self._expect_message(wanted, within)
        self._since = monotonic()
        return found

    # Expectations

    def _expect_message(self, wanted: Expect, within: float) -> Message:
        passed: list[str] = []
        while True:
            message = self._next_message(within, passed)
            reason = self._differs(message, wanted)
            if reason is None:
                return message
            if not wanted.eventually:
                raise Unmet(f"{reason}, in: {_quoted(message.text)}")
            passed.append(f"{reason}, in: {_quoted(message.text)}")

    def _next_message(self, within: float, passed: Sequence[str] = ()) -> Message:
        if not self._wait(lambda: self._messages or self._end, within):
            but = f"; {passed[-1]}" if passed else ""
            raise Unmet(
                f"no {'more ' if passed else ''}message within {within:g} s"
                f"{self._complaint}{but}"
            )
        if not self._messages:
            but = f"; {passed[-1]}" if passed else ""
            raise Unmet(
                f"the conversation ended ({_reason(self._end)}) without "
                f"{'another' if passed else 'a'} message{self._complaint}{but}"
            )
        at, message = self._messages.popleft()
        self._last = message
        if at - self._since > within:
            raise Unmet(
                f"the message came after {at - self._since:.2f} s, not within "
                f"{within:g} s"
            )
        return message

    def _differs(self, message: Message, wanted: Expect) -> str | None:
        """Say how the message is not as wanted; keep what its pattern captures."""
        said = _plain(message.text)
        for text in wanted.text:
            filled = fill(text, self.variables)
            if _plain(filled) not in said:
                return f"{filled!r} is missing"
        if wanted.pattern is not None:
            pattern = fill(wanted.pattern, self.variables, re.escape)
            found = re.search(pattern, message.text)
            if found is None:
                return f"the pattern {pattern!r} is not found"
            self.variables.update(
                (name, value)
                for name, value in found.groupdict().items()
                if value is not None
            )
        if wanted.by is not None:
            by = "live_agent" if message.is_live_agent else "agent"
            if by != wanted.by:
                return f"the message is by the {by}, not by the {wanted.by}"
        offers = [each.message_text or "" for each in message.response_suggestions]
        for text in wanted.suggestion:
            filled = fill(text, self.variables)
            if not any(_plain(filled) in _plain(offer) for offer in offers):
                return f"{filled!r} is not suggested ({_listed(offers)})"
        cards = [
            f"{card.title or ''} {card.content_url or ''}".strip()
            for card in message.attachments
        ]
        for text in wanted.attachment:
            filled = fill(text, self.variables)
            if not any(_plain(filled) in _plain(card) for card in cards):
                return f"{filled!r} is not attached ({_listed(cards)})"
        return None

    def _expect_handoff(self, wanted: str, within: float) -> Event:
        kind = _HANDOFFS[wanted]

        def seen() -> Event | None:
            return next((e for e in self._handoffs if isinstance(e, kind)), None)

        event = self._wait(lambda: seen() or self._end, within)
        if event is not None and isinstance(event, kind):
            return event
        steps = ", ".join(type(each).__name__ for each in self._handoffs) or "none"
        ended = f"; the conversation ended ({_reason(self._end)})" if self._end else ""
        raise Unmet(
            f"no handoff {wanted!r} within {within:g} s{ended}{self._complaint}; steps "
            f"of a handoff so far: {steps}"
        )

    def _expect_end(self, wanted: str, within: float) -> SessionEnd:
        end = self._wait(lambda: self._end, within)
        if end is None:
            raise Unmet(f"the conversation did not end within {within:g} s")
        if wanted != "any" and end.reason != _ENDS[wanted]:
            raise Unmet(f"the conversation ended ({_reason(end)}), not by {wanted!r}")
        return end

    # What comes in

    def _wait(self, found: Callable[[], _T | None], within: float) -> _T | None:
        """Take in what comes until there is something, at most so long."""
        deadline = Deadline(self._since + within - monotonic())
        while not (value := found()):
            if self._lost is not None:
                raise ConnectionLostError(f"the connection was lost: {self._lost}")
            left = deadline.remaining()
            try:
                # What has come already counts, however late it is looked at.
                self._take(*self._news.get(block=bool(left), timeout=left or None))
            except queue.Empty:
                return None
        return value

    def _take_all(self) -> None:
        while not self._news.empty():
            self._take(*self._news.get())

    def _take(self, at: float, news: object) -> None:
        if isinstance(news, ConnectionChange):
            if news.status is ConnectionStatus.FAILED:
                self._lost = news.reason or "for good"
            elif news.status is ConnectionStatus.CLOSED and self.client.ended:
                self._end = self._end or SessionEnd(reason=self.client.end_reason)
        elif isinstance(news, PolyAgentMessageChunk):
            if not self._is_old(news):
                self._note(first=at - self._sent_at)
        elif isinstance(news, PolyAgentMessage | LiveAgentMessage):
            if not self._is_old(news):
                self._messages.append((at, news))
                self._note(first=at - self._sent_at, reply=at - self._sent_at)
        elif isinstance(news, SessionEnd):
            self._end = news
        elif isinstance(news, SystemMessage):
            if news.level == SystemMessageLevel.ERROR:
                self._complaint = f"; the server says {news.message!r}"
        elif isinstance(news, _HANDOFF_EVENTS):
            self._handoffs.append(news)

    def _is_old(self, event: Event) -> bool:
        return event.sequence is not None and event.sequence <= self._heard

    def _note(self, **times: float) -> None:
        """Add to the turn at hand what it has not got yet."""
        if self.turns:
            turn = self.turns[-1]
            new = {k: v for k, v in times.items() if getattr(turn, k) is None}
            self.turns[-1] = attrs.evolve(turn, **new)

    def _offered(self) -> Sequence[Any]:
        return () if self._last is None else self._last.response_suggestions


def _several(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _listed(texts: Sequence[str]) -> str:
    return "there is " + (", ".join(map(repr, texts)) or "none")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 300 else text[:300] + "…")


def _reason(end: SessionEnd | None) -> str:
    reason = None if end is None else end.reason
    return str(reason or "for no reason given")
