"""All times that a client waits for: requests, connects, back-off, pings. Knows nothing of what expires.

Theory of operation
-------------------
A watcher of libev per request would cost more than the request itself, and a heap entry per request
costs its logarithm. But a client uses few different lengths (5000 ms for almost all requests), and of
deadlines with equal length the one that was added first is due first. So:

- Deadlines of equal length form a FIFO (`_Fifo`). To add one is an append.
- To cancel one marks it as ended. The mark is removed when the entry is first in its FIFO, or in bulk
  when more than half of the FIFO has ended: amortised constant time, and memory in proportion to what
  waits.
- The first deadlines of the FIFOs form a heap, and one timer watcher waits for the earliest.

Invariants:

- A FIFO has exactly one heap entry, at a time that is *not later* than its first deadline. A FIFO
  that empties and fills again does not touch the heap: when the entry's time comes, the entry moves
  to the time of the first deadline, or the FIFO is discarded if it is empty.
- The first entry of a FIFO has not ended, so its time is known without a search.
- The timer is armed for the heap's first time or earlier. It may fire with nothing due, never too late.

`add_at` serves deadlines that are bound to a time and not to a length (`TimeoutGroup` has one for
thousands of requests). Each has a FIFO of its own, whose key is the negative time, so that no length
is equal to it.

The price of this: many different lengths. With 5,000 different time-outs a request costs 14.4 µs,
with one 2.3 µs.

Callbacks may add, cancel, nest the loop, or raise. `_on_timer` therefore arms the timer *before* it
calls anything: what else is due then expires in the nested loop, or in the loop's next run.

Times are on the monotonic clock. libev's "now" is the wall clock and may be stale, because the loop
reads it once per iteration. It is brought up to date before the timer is armed; after that only the
distance counts.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable
from typing import Any

# A FIFO is rebuilt without its ended entries when they are more than half of it, and more than:
_COMPACT_ABOVE = 64


class Deadline:
    """A call that is made at some time unless it is cancelled. `Nats.call_later` returns one."""

    __slots__ = ("_at", "_callback", "_fifo")

    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback = callback
        self._at = 0.0
        self._fifo: _Fifo | None = None  # where it waits; None: it does not

    def __repr__(self) -> str:
        if self._fifo is None:
            return f"<{type(self).__name__} not waiting>"
        return f"<{type(self).__name__} in {max(0.0, self._at - time.monotonic()) * 1000:.0f} ms>"

    @property
    def waiting(self) -> bool:
        """Whether the call is still to be made."""
        return self._fifo is not None

    def cancel(self) -> None:
        """Cancel the call. Does nothing if the call was made or cancelled before."""
        fifo = self._fifo
        if fifo is not None:
            self._fifo = None
            fifo.ended()

    def _expire(self) -> None:
        """Make the call; for subclasses to override. Runs on the loop, at most once per `add`."""
        self._callback()


class _Fifo:
    """Deadlines of one length, or for one time, in order. The first entry has not ended; others may have."""

    __slots__ = ("dead", "entries")

    def __init__(self) -> None:
        self.entries: deque[Deadline] = deque()
        self.dead = 0  # how many of the entries have ended

    def ended(self) -> None:
        """Note that an entry has ended. Forget the first entry at once, others later in bulk."""
        self.dead += 1
        self._trim()
        if self.dead > _COMPACT_ABOVE and self.dead * 2 > len(self.entries):
            self.entries = deque(entry for entry in self.entries if entry._fifo is self)
            self.dead = 0

    def pop(self) -> Deadline:
        """Remove the first entry, and return it."""
        entry = self.entries.popleft()
        entry._fifo = None
        self._trim()
        return entry

    def _trim(self) -> None:
        entries = self.entries
        while entries and entries[0]._fifo is not self:
            entries.popleft()
            self.dead -= 1


class Deadlines:
    """All deadlines of one client, on one timer watcher; see the module's docstring."""

    def __init__(self, loop: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self.clock = clock
        self._fifos: dict[float, _Fifo] = {}
        # (a time not later than the FIFO's first deadline, the FIFO's key), once for each FIFO.
        self._heap: list[tuple[float, float]] = []
        self._armed = 0.0  # 0: the timer is not running
        self._timer = loop.timer(0.0, 0.0, self._on_timer)

    def add(self, entry: Deadline, seconds: float) -> None:
        """Let entry expire in so many seconds, never in this call.

        Args:
            entry: must not be waiting.
            seconds: 0 or more; 0 is the loop's next iteration.
        """
        self._add(entry, seconds, self.clock() + (seconds or 1e-6))

    def add_at(self, entry: Deadline, at: float) -> None:
        """Let entry expire at a time on `clock`, or, if it is over, in the loop's next iteration."""
        self._add(entry, -at, at)  # the negative key: a FIFO for this time only

    def _add(self, entry: Deadline, length: float, at: float) -> None:
        entry._at = at
        fifo = self._fifos.get(length)
        if fifo is None:
            fifo = self._fifos[length] = _Fifo()
            heapq.heappush(self._heap, (at, length))
            if not self._armed or at < self._armed:
                self._arm(at)
        entry._fifo = fifo
        fifo.entries.append(entry)

    def after(self, seconds: float, callback: Callable[[], object]) -> Deadline:
        """Call callback in so many seconds. Return the deadline, for `end`."""
        entry = Deadline(callback)
        self.add(entry, seconds)
        return entry

    def end(self, entry: Deadline | None) -> None:
        """Cancel entry. Does nothing if it is None or does not wait."""
        if entry is not None:
            entry.cancel()

    def stop(self) -> None:
        """Forget all deadlines and stop the timer, so that it does not keep the loop running."""
        for fifo in self._fifos.values():
            for entry in fifo.entries:
                entry._fifo = None
        self._fifos.clear()
        self._heap.clear()
        self._armed = 0.0
        self._timer.stop()

    def _arm(self, at: float) -> None:
        self._armed = at
        self._loop.update()
        self._timer.stop()
        self._timer.set(max(0.0, at - self.clock()), 0.0)
        self._timer.start()

    def _on_timer(self, watcher: Any, revents: int) -> None:
        now = self.clock()
        # Before any callback: see "Callbacks may add" above.
        self._arm(now)
        heap = self._heap
        while heap and heap[0][0] <= now:
            length = heap[0][1]
            fifo = self._fifos[length]
            if not fifo.entries:
                heapq.heappop(heap)
                del self._fifos[length]
            elif (at := fifo.entries[0]._at) > now:
                heapq.heapreplace(heap, (at, length))
            else:
                fifo.pop()._expire()
        if heap:
            self._arm(heap[0][0])
        else:
            self._armed = 0.0
            self._timer.stop()
