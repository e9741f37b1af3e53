"""Every event once and in order, whatever the replay overlaps, shuffles or splits.

After a socket opens, the server sends the history that lies beyond the cursor, in one
or more batches or as single frames, and live frames may overtake it. Nothing in the
protocol marks the end of that replay. So:

* An event whose sequence follows the last one is delivered at once: nothing can be
  missing before it. That is every event of a healthy conversation.
* An event beyond a gap is held back until the gap is filled or the replay has settled;
  then what is held is delivered in the order of the sequences, transient events last.
* The replay has settled when nothing has come for a while: a short one when a batch
  and the echo of the heartbeat that was sent on opening are there, longer ones when
  one or both are missing.
* A session that was created a moment ago has little history but its start: it has
  settled a few milliseconds after that, in which an agent may show that has joined by
  itself. What overtakes the start is held back too.

Once settled, a gap is held open for a moment too (frames can be swapped), until one
such wait turns out to be in vain: then this server's sequences have gaps of their own,
and nothing waits for them again, unless what was missing comes after all.

A gap that was passed over may still have held something. So the next connection asks
for what comes after the first such gap, until a whole replay has shown what is there.

Duplicates are known by their id, in a window of bounded size; what is older than the
window is known by its sequence.
"""

from __future__ import annotations

import heapq
from itertools import count, islice

from polysync.events import Event, SessionStart

__all__ = ["GAP_WAIT", "SETTLE_WAITS", "WINDOW", "Inbound"]

#: Ids that are remembered. The server's history is replayed from the cursor on, so
#: what can come twice is recent.
WINDOW = 4096

#: Seconds of quiet after which the replay has settled, by how many of its two signs
#: (a batch; the echo of the heartbeat sent on opening) have been seen.
SETTLE_WAITS = (2.0, 0.5, 0.1)

#: The last of these waits when nothing is decided by the replay: no message is in
#: doubt, no agent is to be asked for. It is what a request to a web application that
#: takes up a conversation waits for.
HASTY_WAIT = 0.01

#: Seconds of quiet after which the replay of a session that has just begun has settled,
#: if it decides whether to ask for the agent. What the server has to say comes in one
#: go, in one frame or in several; to wait for an echo would cost a round trip.
BEGINNING_WAIT = 0.005

#: The replay counts as settled after this many seconds in any case: on a busy
#: conversation it never gets quiet.
SETTLE_LIMIT = 5.0

#: Seconds that a gap between live events is held open.
GAP_WAIT = 0.1

#: How far a sequence may leap for something to be missing in between: frames that
#: change places are neighbours, and who leaps further does not count by ones.
LARGEST_GAP = 64


class Inbound:
    """Orders and deduplicates the events of all connections of one conversation.

    Args:
        cursor: Sequence up to which an earlier life of the conversation delivered.
    """

    __slots__ = (
        "_before_gap",
        "_beginning",
        "_count",
        "_floor",
        "_fresh",
        "_gap_at",
        "_gapless",
        "_hasty",
        "_held",
        "_opened_at",
        "_passing",
        "_seen",
        "_seen_limit",
        "_settle_at",
        "_started",
        "barrier_passed",
        "batch_seen",
        "cursor",
        "replaying",
    )

    def __init__(self, cursor: int | None = None) -> None:
        #: Highest sequence that was delivered.
        self.cursor = cursor
        #: Whether the replay of the latest connection has not settled yet.
        self.replaying = False
        #: Whether the echo of the heartbeat sent on opening has come.
        self.barrier_passed = False
        #: Whether a batch has come on the latest connection.
        self.batch_seen = False
        self._floor = float("-inf") if cursor is None else cursor
        self._seen: dict[str, int | None] = {}
        self._seen_limit = 2 * WINDOW
        # What is held back: a heap by sequence, and what has none.
        self._held: list[tuple[int, int, Event]] = []
        self._passing: list[Event] = []
        self._count = count()
        self._fresh = False
        self._beginning = False  # the start of a new session has come, not all of it
        self._hasty = False
        self._started = False  # whether the start of the session has been seen
        self._opened_at = 0.0
        self._settle_at: float | None = None
        self._gap_at: float | None = None
        self._gapless = True
        self._before_gap: int | None = None

    @property
    def replay_from(self) -> int | None:
        """Sequence from which the next connection is to replay."""
        return self.cursor if self._before_gap is None else self._before_gap

    @property
    def live(self) -> bool:
        """Whether what comes is not known to be a replay of what was before."""
        return self._beginning or not self.replaying

    def opened(self, now: float, *, fresh: bool, hasty: bool = False) -> None:
        """A connection is open, and its replay begins.

        Args:
            now: Monotonic time, in seconds.
            fresh: The session was created by this client and has not begun yet.
            hasty: Nothing is decided by what the replay does not show.
        """
        self._hasty = hasty
        self.replaying = True
        self._fresh = fresh
        self._opened_at = now
        self._beginning = False
        self.batch_seen = False
        self.barrier_passed = False
        self._gap_at = None
        self._settle_at = now + SETTLE_WAITS[0]

    def barrier(self, now: float) -> None:
        """The echo of the heartbeat that was sent on opening has come."""
        first, self.barrier_passed = not self.barrier_passed, True
        if first and self.replaying:
            self._postpone(now)

    def begun(self, now: float) -> None:
        """A new session has begun, if it was about to: there is no more to wait for."""
        if self._beginning:
            self.replaying = self._beginning = False
            self._settle_at = None
            # Nothing was missed before, so what is held back is a gap like any other.
            self._gap_at = now + GAP_WAIT if self._holding else None

    @property
    def deadline(self) -> float | None:
        """When `due` has something to do, in monotonic seconds."""
        return self._settle_at if self.replaying else self._gap_at

    def accept(self, events: list[Event], batch: bool, now: float) -> list[Event]:
        """Take the events of one frame and return what is to be delivered now."""
        if self.replaying:
            self.batch_seen = self.batch_seen or batch
            # What is transient, a heartbeat say, is no sign that a replay goes on.
            if batch or any(event.sequence is not None for event in events):
                self._postpone(now)
        elif len(events) == 1 and not self._holding:
            # The plain case, in a straight line: a live event that is due.
            event = events[0]
            sequence = event.sequence
            cursor = self.cursor
            if sequence is None or (cursor is not None and sequence == cursor + 1):
                if not self._first_time(event):
                    return []
                self._advance(event)
                return events
        ready: list[Event] = []
        for event in events:
            if self._first_time(event):
                self._place(event, ready, now)
        if self._holding and not self.replaying and self._gap_at is None:
            self._gap_at = now + GAP_WAIT
        return ready

    def due(self, now: float) -> list[Event]:
        """Time has passed: return what need not wait any longer."""
        deadline = self.deadline
        if deadline is None or now < deadline:
            return []
        if self._beginning:
            self.begun(now)
            return []
        if not self.replaying:
            self._gapless = False
        return self.flush()

    def flush(self) -> list[Event]:
        """Settle, and return all that is held back, in order."""
        if self.replaying and (self.batch_seen or self.barrier_passed):
            # This replay has shown all there is in the gaps before it.
            self._before_gap = None
        self.replaying = self._beginning = False
        self._settle_at = self._gap_at = None
        ready: list[Event] = []
        while self._held:
            event = heapq.heappop(self._held)[2]
            self._advance(event)
            ready.append(event)
        ready += self._passing
        self._passing.clear()
        return ready

    def lost(self) -> None:
        """The connection is gone; what is held waits for the next one's replay."""
        self.replaying = self._beginning = False
        self._settle_at = self._gap_at = None

    @property
    def _holding(self) -> bool:
        return bool(self._held or self._passing)

    def _postpone(self, now: float) -> None:
        if self._beginning:
            self._settle_at = min(now + BEGINNING_WAIT, self._opened_at + SETTLE_LIMIT)
            return
        signs = self.batch_seen + self.barrier_passed
        hasty = signs == 2 and self._hasty and not self._held
        wait = HASTY_WAIT if hasty else SETTLE_WAITS[signs]
        self._settle_at = min(now + wait, self._opened_at + SETTLE_LIMIT)

    def _place(self, event: Event, ready: list[Event], now: float) -> None:
        """Deliver the event, or hold it back."""
        starts = isinstance(event, SessionStart)
        self._started = self._started or starts
        if starts and self.replaying and self._fresh:
            self._fresh = False
            self._beginning = True
            self._postpone(now)
            if self.cursor is None and event.sequence is not None:
                self.cursor = event.sequence - 1
        sequence = event.sequence
        if sequence is None:
            if not self.live or self._holding:
                self._passing.append(event)
            else:
                ready.append(event)
            return
        if self.cursor is None:
            # Where the sequences begin is known when the start has come.
            waits = not starts and not (self.live and self._started)
        else:
            gap = sequence > self.cursor + 1
            waits = gap and (self.replaying or self._gapless)
        if waits:
            heapq.heappush(self._held, (sequence, next(self._count), event))
            return
        ready.append(event)
        self._advance(event)
        if self._holding:
            self._release(ready)

    def _release(self, ready: list[Event]) -> None:
        """Deliver what was held back and has become due."""
        held = self._held
        while held and self.cursor is not None and held[0][0] <= self.cursor + 1:
            event = heapq.heappop(held)[2]
            ready.append(event)
            self._advance(event)
        if not held and self.live:
            ready += self._passing
            self._passing.clear()
            self._gap_at = None

    def _advance(self, event: Event) -> None:
        """Move the cursor to an event that is delivered."""
        sequence, cursor = event.sequence, self.cursor
        if sequence is None:
            return
        if cursor is None:
            self.cursor = sequence
        elif sequence > cursor:
            if 1 < sequence - cursor <= LARGEST_GAP and self._before_gap is None:
                self._before_gap = cursor
            self.cursor = sequence
        elif sequence < cursor:
            # What a gap was not held open long enough for has come after all.
            self._gapless = True

    def _first_time(self, event: Event) -> bool:
        """Remember the event; false if it has been here before."""
        sequence = event.sequence
        key = event.id
        if key is None:
            if sequence is None:
                return True  # nothing to know it by
            key = f"#{sequence}"
        if key in self._seen or (sequence is not None and sequence <= self._floor):
            return False
        self._seen[key] = sequence
        if len(self._seen) >= self._seen_limit:
            self._forget()
        return True

    def _forget(self) -> None:
        """Halve the window; the sequences of what is forgotten become the floor."""
        cursor = self.cursor
        for key, sequence in list(islice(self._seen.items(), WINDOW)):
            if sequence is not None:
                if cursor is None or sequence > cursor:
                    continue  # still held back
                self._floor = max(self._floor, sequence)
            del self._seen[key]
        self._seen_limit = len(self._seen) + WINDOW
