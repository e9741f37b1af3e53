"""The connections of one conversation: opened, kept alive, lost, renewed, given up.

One connection speaks at a time. Each has a number, its generation, and what comes from
one that speaks no longer is stale. This module decides when to open which, when one
counts as dead, and which losses are final; what is said on them is not its business.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable

from polysync.errors import (
    AuthenticationError,
    ConnectionLostError,
    PolysyncError,
    ProtocolError,
    SessionNotFoundError,
    SessionTokenError,
)
from polysync.events import Heartbeat as HeartbeatEvent
from polysync.models import Capabilities, ConnectionChange, ConnectionStatus
from polysync.protocol.backoff import USEFUL_LIFE, Backoff
from polysync.protocol.codec import encode
from polysync.protocol.effects import Connect, Disconnect, Effects, Upgrade
from polysync.protocol.heartbeat import Heartbeat
from polysync.protocol.loss import Loss
from polysync.protocol.settings import (
    DEFAULT_HEARTBEAT_INTERVAL,
    DEFAULT_MAX_RECONNECTS,
    Settings,
)
from polysync.protocol.states import STATUS, Happening, Phase, advance

__all__ = ["CONNECTION_LIFE", "Fate", "Lifeline"]

#: Seconds after which a connection is renewed. The vendor's front door behaves like a
#: gateway that cuts a connection after two hours; ten minutes remain for trying.
CONNECTION_LIFE = 6_600.0

#: Seconds until the next try when a renewal failed.
RENEW_AGAIN = 60.0

#: Seconds that a renewal waits at most for messages that are on their way.
RENEW_PATIENCE = 5.0

#: Seconds between heartbeats that a server may ask for; what is below is a mistake.
SHORTEST_HINT = 0.05

HEARTBEAT = encode(HeartbeatEvent())


class Fate(enum.Enum):
    """What the loss of a connection means for the conversation."""

    NOTHING = "it was not the one that speaks, or nothing is spoken any more"
    RETIRED = "a renewal has replaced it before"
    REPLACED = "its successor was at hand and takes over"
    RETRYING = "another one is tried after a while"
    OVER = "the server has closed for good"
    FAILED = "there is no use in trying again; `Lifeline.failure` says why"


class Lifeline:
    """Keeps one conversation connected; times in monotonic seconds.

    Args:
        settings: What the user has set.
        effects: Where orders, frames and changes of the status go.
        random: Gives numbers in [0, 1), for jitter.
        generation: The number of the last connection that was made before.
    """

    __slots__ = (
        "_backoff",
        "_effects",
        "_hand_over_at",
        "_heartbeat",
        "_opened_at",
        "_random",
        "_renew_at",
        "_retry_at",
        "_settings",
        "_successor_open",
        "_was_open",
        "failure",
        "generation",
        "has_echoed",
        "last_loss",
        "numbers",
        "phase",
        "resumed",
        "session_id",
        "status",
        "successor",
        "useful",
    )

    def __init__(
        self,
        settings: Settings,
        effects: Effects,
        random: Callable[[], float],
        generation: int,
    ) -> None:
        self._settings = settings
        self._effects = effects
        self._random = random
        self.phase = Phase.IDLE
        self.status = ConnectionStatus.IDLE
        self.session_id: str | None = None
        #: Whether the session is one of an earlier life.
        self.resumed = False
        self.failure: PolysyncError | None = None
        #: Why the last connection ended, for people.
        self.last_loss = ""
        #: The number of the last connection that was asked for.
        self.numbers = generation
        #: The connection that speaks, or is to speak when it is open.
        self.generation: int | None = None
        #: The one that is to take over from it.
        self.successor: int | None = None
        #: Whether the echo of any heartbeat has ever come.
        self.has_echoed = False
        #: Whether anything worth while has come on the connection.
        self.useful = False
        self._successor_open = False
        self._was_open = False
        self._opened_at: float | None = None
        self._retry_at: float | None = None
        self._renew_at: float | None = None
        self._hand_over_at: float | None = None
        self._heartbeat = Heartbeat(
            self._heartbeat_interval(None), settings.heartbeat_timeout
        )
        self._backoff = Backoff(
            settings.reconnect_delay,
            settings.reconnect_delay_max,
            self._max_reconnects(None),
            random,
        )

    @property
    def deadline(self) -> float | None:
        """When `wake` has something to do."""
        if self.phase is Phase.LOST:
            return self._retry_at
        deadline = self._heartbeat.deadline
        for at in (self._renew_at, self._hand_over_at):
            if at is not None and (deadline is None or at < deadline):
                deadline = at
        return deadline

    def configure(self, asked: Capabilities, now: float) -> None:
        """Follow what the server asks for, where the user has not said otherwise."""
        self._heartbeat.set_interval(
            self._heartbeat_interval(asked.heartbeat_interval_seconds), now
        )
        self._backoff.budget = self._max_reconnects(asked.max_reconnect_attempts)

    def move(
        self,
        happening: Happening,
        reason: str = "",
        attempt: int = 0,
        delay: float = 0.0,
    ) -> None:
        """Go to the phase that follows, and tell users if they see a difference."""
        self.phase = advance(self.phase, happening)
        self._was_open = self._was_open or self.phase is Phase.OPEN
        status = STATUS[self.phase]
        if self._was_open and status is ConnectionStatus.CONNECTING:
            status = ConnectionStatus.RECONNECTING
        if status is not self.status or attempt:
            self.status = status
            self._effects.news.append(ConnectionChange(status, attempt, delay, reason))
            self._effects.log(
                logging.WARNING if attempt else logging.INFO,
                "session %s: %s %s",
                self.session_id,
                status.value,
                reason,
            )

    # Opening

    def dial(self) -> None:
        """Order a connection; it waits for its upgrade."""
        self.numbers += 1
        self.generation = self.numbers
        self._effects.orders.append(Connect(self.numbers))

    def upgrade(self, happening: Happening, cursor: int | None) -> None:
        """Let the ordered connection take up the session."""
        if self.generation is None:
            self.dial()
        if self.generation is None:
            raise AssertionError("dial() gives a generation")
        self.move(happening)
        self._effects.orders.append(Upgrade(self.generation, cursor))

    def begin(self) -> None:
        """Forget what went wrong before: somebody wants to try again."""
        self.failure = None
        self._backoff.reset()

    def opened(self, generation: int, now: float, *, fresh: bool) -> bool:
        """A connection has opened; true if it is the one that speaks from now on.

        Args:
            generation: Its number.
            now: The time.
            fresh: The session has no history yet.
        """
        if generation == self.successor:
            self._successor_open = True
            if self._heartbeat.on:
                # Its echo proves that the new connection works both ways.
                self._effects.frames.append((generation, HEARTBEAT))
            else:
                self._hand_over_at = now + RENEW_PATIENCE
            return False
        if generation != self.generation or self.phase is not Phase.CONNECTING:
            return False
        self._speak(generation, now, fresh=fresh)
        return True

    def _speak(self, generation: int, now: float, *, fresh: bool) -> None:
        self.move(Happening.SOCKET_OPENED)
        self.generation = generation
        self._opened_at = now
        self._schedule_renewal(now)
        # On a session with a history, the echo of this heartbeat is a sign that the
        # replay has ended; a new session has no need of it.
        if self._heartbeat.start(now, at_once=not fresh):
            self._effects.frames.append((generation, HEARTBEAT))

    # Life

    def heard(self, generation: int) -> bool:
        """A frame has come; false if it is stale."""
        return generation in (self.generation, self.successor)

    def heartbeat_echoed(self, generation: int, now: float) -> bool:
        """A connection lives; true if it is the one that speaks."""
        if generation == self.generation:
            self._heartbeat.echoed()
            self.has_echoed = True
            return True
        if self._hand_over_at is None:
            self._hand_over_at = now + RENEW_PATIENCE
        return False

    def probe(self, now: float) -> bool:
        """Ask for an echo; false if heartbeats are off, so that none can be had."""
        if self.generation is not None and self._heartbeat.probe(now):
            self._effects.frames.append((self.generation, HEARTBEAT))
        return self._heartbeat.on

    @property
    def echoes(self) -> bool:
        """Whether an echo can be expected of a connection that has opened."""
        return self._heartbeat.on

    def dead(self, now: float) -> bool:
        """Whether the echo of a heartbeat is overdue."""
        return self._heartbeat.overdue(now)

    def wake(self, now: float, cursor: int | None) -> None:
        """Time has passed: retry, send a heartbeat, or renew."""
        if self.phase is Phase.LOST:
            if self._retry_at is not None and now >= self._retry_at:
                self._retry_at = None
                self.dial()
                self.upgrade(Happening.RETRY, cursor)
            return
        if self.generation is not None and self._heartbeat.due(now):
            self._effects.frames.append((self.generation, HEARTBEAT))
        if self._renew_at is not None and now >= self._renew_at:
            self._renew(now, cursor)

    def _renew(self, now: float, cursor: int | None) -> None:
        """Open the successor of a connection that grows old, before it is cut."""
        self._renew_at = None
        if self.successor is None and self.phase is Phase.OPEN:
            self.numbers += 1
            self.successor = self.numbers
            self._effects.orders.append(Connect(self.numbers))
            self._effects.orders.append(Upgrade(self.numbers, cursor))
        else:
            self._renew_at = now + RENEW_AGAIN

    def hand_over(self, now: float, *, busy: bool) -> None:
        """Let a successor that is ready speak, and close the old connection.

        Args:
            now: The time.
            busy: Messages are on their way on the old one; their echoes are waited
                for, though not for long.
        """
        if self._hand_over_at is None or (busy and now < self._hand_over_at):
            return
        old, self.generation = self.generation, self._take_successor()
        self._hand_over_at = None
        self._opened_at = now
        self._schedule_renewal(now)
        self._heartbeat.start(now, at_once=False)
        if old is not None:
            # 4000: replaced by the client itself.
            self._effects.orders.append(Disconnect(old, 4000))

    def _schedule_renewal(self, now: float) -> None:
        # Spread, so that many clients that began together do not renew together.
        self._renew_at = now + CONNECTION_LIFE * (1.0 - 0.05 * self._random())

    # Ending

    def disconnect(self, *, abort: bool = False) -> None:
        """Leave the connections there are, and expect nothing of them."""
        for generation in (self.generation, self.successor):
            if generation is not None:
                self._effects.orders.append(Disconnect(generation, abort=abort))
        self.generation = None
        self._take_successor()
        self._suspend()

    def _take_successor(self) -> int | None:
        successor, self.successor = self.successor, None
        self._successor_open = False
        return successor

    def bury(self, now: float) -> Loss:
        """Leave a connection that counts as dead; return it as a loss."""
        if self.generation is not None:
            self._effects.orders.append(Disconnect(self.generation, abort=True))
        return Loss(
            close_code=1006,
            reason="no echo of the heartbeat, so the connection counts as dead",
            opened=True,
        )

    def lost(self, generation: int, loss: Loss, now: float, *, fresh: bool) -> Fate:
        """A connection is gone: decide what that means."""
        if generation == self.successor:
            self._take_successor()
            self._hand_over_at = None
            self._renew_at = now + RENEW_AGAIN
            return Fate.NOTHING
        if generation != self.generation:
            return Fate.RETIRED
        self.generation = None
        self.last_loss = loss.reason
        if self.phase not in (
            Phase.CONNECTING,
            Phase.REPLAYING,
            Phase.OPEN,
        ):
            return Fate.NOTHING
        opened_at, self._opened_at = self._opened_at, None
        if self.useful or (opened_at is not None and now - opened_at >= USEFUL_LIFE):
            self._backoff.reset()
        self.useful = False
        is_open = self.phase is not Phase.CONNECTING
        if loss.close_code == 1000 and is_open and not self._successor_open:
            return Fate.OVER
        self.failure = self._refusal(loss)
        if self.failure is not None:
            self.fail(Happening.REFUSED, self.failure)
            return Fate.FAILED
        self._suspend()
        if self.successor is not None:
            is_open, successor = self._successor_open, self._take_successor()
            self.generation = successor
            self.move(Happening.SOCKET_LOST, loss.reason)
            self.move(Happening.RETRY, loss.reason)
            if successor is None or not is_open:
                return Fate.RETRYING  # its handshake is under way
            self._speak(successor, now, fresh=fresh)
            return Fate.REPLACED
        return self._retry(loss, now)

    def disown(self) -> None:
        """The server has said that it does not know the session any more."""
        error = SessionNotFoundError(
            f"the server does not know session {self.session_id} any more: start a new "
            "conversation",
            session_id=self.session_id,
        )
        self.fail(Happening.REFUSED, error)

    def fail(self, happening: Happening, error: PolysyncError) -> None:
        """The conversation cannot go on, though the server has not ended it."""
        self.failure = error
        if happening is Happening.REFUSED and not (self.resumed or self._was_open):
            self.session_id = None  # the next start makes a better one
        self.disconnect()
        self.move(happening, str(error))
        self._effects.news.append(error)

    def _retry(self, loss: Loss, now: float) -> Fate:
        # What has worked before may work again, whatever is in its way now.
        retryable = loss.retryable or self._was_open
        delay = self._backoff.next(loss.retry_after) if retryable else None
        if delay is not None:
            self._retry_at = now + delay
            self.move(Happening.SOCKET_LOST, loss.reason, self._backoff.attempt, delay)
            return Fate.RETRYING
        attempts = self._backoff.attempt
        if not retryable:
            what = "trying again cannot help"
        elif attempts:
            noun = "attempt" if attempts == 1 else "attempts"
            what = f"{attempts} {noun} to reconnect failed"
        else:
            what = "reconnecting is switched off (max_reconnects=0)"
        self.fail(
            Happening.BUDGET_SPENT,
            ConnectionLostError(
                f"the connection failed and {what}: {loss.reason}; call connect() to "
                "go on with the same session",
                attempts=attempts,
                close_code=loss.close_code,
            ),
        )
        return Fate.FAILED

    def _refusal(self, loss: Loss) -> PolysyncError | None:
        """The error of a loss that is final, or ``None`` for all others."""
        session = self.session_id
        if loss.status == 401 and not (self.resumed or self._was_open):
            return AuthenticationError(
                "the server refused the access token at the WebSocket handshake "
                f"(401: {loss.reason}): mint a new one",
                status=401,
                reason=loss.reason,
            )
        if loss.status == 401:
            return SessionTokenError(
                f"session {session} cannot be resumed: the server refused its access "
                f"token (401: {loss.reason}); start a new conversation",
                status=401,
                reason=loss.reason,
                session_id=session,
            )
        if loss.status == 404 or loss.close_code == 4001:
            return SessionNotFoundError(
                f"session {session} cannot be resumed: the server does not know it "
                "(any more); start a new conversation",
                session_id=session,
            )
        if loss.status == 400:
            return ProtocolError(
                "the server refused the parameters of the WebSocket handshake (400: "
                f"{loss.reason}), which is a bug of polysync: please report it"
            )
        return None

    def _suspend(self) -> None:
        """Nothing is due until there is a connection again."""
        self._heartbeat.stop()
        self._retry_at = self._renew_at = self._hand_over_at = None

    def _heartbeat_interval(self, asked: float | None) -> float:
        if self._settings.heartbeat_interval is not None:
            return self._settings.heartbeat_interval
        if asked is None or not (asked == 0 or SHORTEST_HINT <= asked < 86_400):
            return DEFAULT_HEARTBEAT_INTERVAL
        return float(asked)

    def _max_reconnects(self, asked: int | None) -> int:
        if self._settings.max_reconnects is not None:
            return self._settings.max_reconnects
        return DEFAULT_MAX_RECONNECTS if asked is None or asked < 0 else asked
