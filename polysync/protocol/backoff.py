"""The schedule of reconnections: exponential delays with jitter, and a budget."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Backoff", "USEFUL_LIFE"]

#: Spread of a delay around its nominal value, as the vendor's SDKs do: ±20 %.
JITTER = 0.2

#: The longest wait that a server may ask for (``Retry-After``), in seconds, as the
#: vendor's SDKs have it: a session does not live long without a connection.
RETRY_AFTER_MAX = 30.0

#: Seconds after which a connection has proven itself even without traffic. A server
#: that accepts and drops at once never gets there, so it cannot keep a client
#: reconnecting for ever.
USEFUL_LIFE = 5.0


class Backoff:
    """Counts attempts in a row and says how long to wait for the next.

    Args:
        delay: Nominal wait before the first attempt, in seconds; doubled each time.
        delay_max: The longest nominal wait, in seconds.
        budget: How many attempts in a row may fail; 0 means never to try again.
        random: Gives numbers in [0, 1), apart from the rest for the sake of tests.
    """

    __slots__ = ("_delay", "_delay_max", "_random", "attempt", "budget")

    def __init__(
        self,
        delay: float,
        delay_max: float,
        budget: int,
        random: Callable[[], float],
    ) -> None:
        self._delay = delay
        self._delay_max = delay_max
        self._random = random
        self.budget = budget
        #: Attempts since the last connection that was of use.
        self.attempt = 0

    def reset(self) -> None:
        """Give the whole budget back: the last connection was of use."""
        self.attempt = 0

    def next(self, at_least: float | None = None) -> float | None:
        """Count one more attempt and return the seconds to wait before it.

        Args:
            at_least: What the server asked for (``Retry-After``), in seconds.

        Returns:
            ``None`` when the budget is spent.
        """
        if self.attempt >= self.budget:
            return None
        # 2.0 ** 1100 overflows; the cap is long reached by then.
        nominal = min(self._delay * 2.0 ** min(self.attempt, 60), self._delay_max)
        self.attempt += 1
        delay = nominal * (1.0 - JITTER + 2.0 * JITTER * self._random())
        return max(delay, min(at_least or 0.0, RETRY_AFTER_MAX))
