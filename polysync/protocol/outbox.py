"""The user's messages on their way: sent once, settled by the echo or by the replay.

A message waits until it may go out (the agent has joined, nothing older is in doubt),
is written on a connection, and is done when its echo has come. When the connection is
lost before that, its fate is open until the next connection's replay has settled: an
echo in it, and the message was delivered; none, and it provably was not, so that it
may be written again. Messages go out in the order of the calls, and each at most once
on a connection.

So there are two lines, each in the order of the calls: what has been written, and
behind it what waits, first of all what is in doubt. The cost of a message does not
depend on how many others are on their way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

from polysync.errors import DeliveryError
from polysync.events import UserMessage
from polysync.protocol.tickets import Delivery

__all__ = ["ID_KEYS", "Outbox"]

#: Where a message carries its own id: one key is the SDKs', one the documentation's.
ID_KEYS = ("local_id", "client_event_id")

#: Messages given up by their callers whose late echo is still recognised.
GIVEN_UP = 1024


class Outbox:
    """Keeps the deliveries of one conversation, oldest first.

    Args:
        resend: Whether to send again what a lost connection did not deliver.
    """

    __slots__ = ("_given_up", "_resend", "_waiting", "_written")

    def __init__(self, resend: bool = True) -> None:
        self._resend = resend
        self._written: dict[str, Delivery] = {}
        self._waiting: dict[str, Delivery] = {}
        self._given_up: dict[str, Delivery] = {}

    def __iter__(self) -> Iterator[Delivery]:
        """All that is not delivered: what was given up, then what is on its way."""
        return chain(
            self._given_up.values(), self._written.values(), self._waiting.values()
        )

    @property
    def written(self) -> bool:
        """Whether messages have been written whose echo has not come."""
        return bool(self._written)

    @property
    def waiting(self) -> bool:
        """Whether messages are to be written, now or when no doubt is left."""
        return bool(self._waiting)

    @property
    def doubtful(self) -> bool:
        """Whether the fate of a message is open since its connection was lost."""
        first = next(iter(self._waiting.values()), None)
        return first is not None and first.uncertain

    def add(self, delivery: Delivery) -> None:
        """Take a new message."""
        self._waiting[delivery.id] = delivery

    def find(self, metadata: Mapping[str, str]) -> Delivery | None:
        """Return the message that custom metadata belongs to."""
        for key in ID_KEYS:
            name = metadata.get(key)
            if name is not None:
                for line in (self._written, self._waiting, self._given_up):
                    if name in line:
                        return line[name]
        return None

    def settle(self) -> list[Delivery]:
        """A replay has settled: what is still in doubt was not delivered.

        Returns:
            With ``resend`` off, the messages that have failed by that.
        """
        failed = []
        for delivery in self._waiting.values():
            if not delivery.uncertain:
                break
            delivery.uncertain = False
            failed.append(delivery)
        if self._resend:
            return []
        for delivery in failed:
            self.give_up(delivery)
        return failed

    def writable(self, generation: int, now: float) -> list[Delivery]:
        """Return what may be written on a connection now, in order, each once.

        Nothing younger overtakes a message whose fate is open.
        """
        if not self._waiting or self.doubtful:
            return []
        first = next(iter(self._written.values()), None)
        if first is not None and first.generation != generation:
            return []  # it is on its way on a connection that has been replaced
        ready, self._waiting = list(self._waiting.values()), {}
        for delivery in ready:
            delivery.generation = generation
            delivery.uncertain = True
            if delivery.patience is not None:
                delivery.expires_at = now + delivery.patience
            self._written[delivery.id] = delivery
        return ready

    @property
    def deadline(self) -> float | None:
        """When the next unconfirmed message has waited long enough.

        Whoever is patient is as patient as the others, so the oldest is the first.
        """
        for delivery in self._written.values():
            if delivery.expires_at is not None:
                return delivery.expires_at
        return None

    def due(self, now: float) -> list[Delivery]:
        """Give up on the messages whose echo has not come in time."""
        late = []
        for delivery in self._written.values():
            if delivery.expires_at is not None:
                if now < delivery.expires_at:
                    break
                late.append(delivery)
        for delivery in late:
            self.give_up(delivery)
        return late

    def lost(self, generation: int) -> None:
        """A connection is gone: the fate of what was written on it is open."""
        doubtful = {
            delivery.id: delivery
            for delivery in self._written.values()
            if delivery.generation == generation
        }
        for delivery in doubtful.values():
            delivery.generation = None
            delivery.expires_at = None
            del self._written[delivery.id]
        if doubtful:
            self._waiting = {**doubtful, **self._waiting}

    def echoed(self, echo: UserMessage) -> Delivery | None:
        """Settle the message that the echo belongs to.

        An echo that carries no metadata at all belongs to the oldest message of the
        same text that has been written.
        """
        delivery = self.find(echo.metadata)
        if delivery is None and not echo.metadata:
            lines = chain(self._written.values(), self._waiting.values())
            delivery = next(
                (d for d in lines if d.uncertain and d.text == echo.text), None
            )
        if delivery is None:
            return None
        self.forget(delivery)
        delivery.result = echo
        return delivery

    def forget(self, delivery: Delivery) -> None:
        """Strike a message off the list: its fate is known."""
        for line in (self._written, self._waiting, self._given_up):
            line.pop(delivery.id, None)

    def give_up(self, delivery: Delivery) -> None:
        """Nobody waits for the message any longer; it is not sent again.

        One that was never written never will be. A late echo of one that was turns it
        into a delivered one.
        """
        if delivery.id not in self._written and delivery.id not in self._waiting:
            return
        self.forget(delivery)
        delivery.expires_at = None
        self._given_up[delivery.id] = delivery
        if len(self._given_up) > GIVEN_UP:
            del self._given_up[next(iter(self._given_up))]

    def drain(self) -> list[Delivery]:
        """Give up on everything, oldest first."""
        pending = [*self._written.values(), *self._waiting.values()]
        for delivery in pending:
            self.give_up(delivery)
        return pending


def failure(delivery: Delivery, what: str) -> DeliveryError:
    """The error of a message that ``what`` kept from being confirmed."""
    fate = (
        "it may have been delivered all the same"
        if delivery.uncertain
        else "it was not delivered, so it can be sent again"
    )
    return DeliveryError(
        f"{what} before the message was confirmed: {fate}",
        text=delivery.text,
        metadata=delivery.metadata,
        uncertain=delivery.uncertain,
    )
