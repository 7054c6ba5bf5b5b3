"""The one structure for everything that waits for a time: requests, connects, back-off, pings.

Deadlines of equal length are a FIFO each, so that adding and ending one costs no more than a
list operation; one for a given time has a FIFO of its own. The FIFOs' first deadlines form a heap,
and one timer watcher waits for the first.
Knows nothing of what expires.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable
from typing import Any

# A queue is rebuilt without its ended entries when they are more than half of it, and more than:
_COMPACT_FROM = 64


class Deadline:
    """A call that will be made at some time unless it is cancelled: what `Nats.call_later` returns."""

    __slots__ = ("_at", "_callback", "_fifo")

    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback = callback
        self._at = 0.0
        self._fifo: _Fifo | None = None  # None: not waiting

    def __repr__(self) -> str:
        if self._fifo is None:
            return f"<{type(self).__name__} not waiting>"
        return f"<{type(self).__name__} in {max(0.0, self._at - time.monotonic()) * 1000:.0f} ms>"

    @property
    def waiting(self) -> bool:
        """Whether the call is still to be made."""
        return self._fifo is not None

    def cancel(self) -> None:
        """Do not make the call. Does nothing if it was made or cancelled before."""
        fifo = self._fifo
        if fifo is not None:
            self._fifo = None
            fifo.ended()

    def _expire(self) -> None:
        """Make the call: at most once per `Deadlines.add`, on the loop. Subclasses override this."""
        self._callback()


class _Fifo:
    """Deadlines of one length, or for one time, in order. May hold ended ones, never as its first entry."""

    __slots__ = ("dead", "entries")

    def __init__(self) -> None:
        self.entries: deque[Deadline] = deque()
        self.dead = 0  # ended entries still in the queue

    def ended(self) -> None:
        """An entry has ended: forget it now if it is first, later in bulk if it is not."""
        self.dead += 1
        self._trim()
        if self.dead > _COMPACT_FROM and self.dead * 2 > len(self.entries):
            self.entries = deque(entry for entry in self.entries if entry._fifo is self)
            self.dead = 0

    def pop(self) -> Deadline:
        """Take the first entry out."""
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
    """All deadlines of one client, on one timer watcher.

    Times are on the monotonic clock. libev's own "now" is the wall clock and may be stale, so it is
    brought up to date before the timer is armed; after that only the distance counts.
    """

    def __init__(self, loop: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self.clock = clock
        self._fifos: dict[float, _Fifo] = {}
        # (not later than the FIFO's first deadline, its length): each FIFO exactly once. The time is
        # brought up to date when it comes, so a FIFO that empties and fills again costs nothing here.
        self._heap: list[tuple[float, float]] = []
        self._armed = 0.0  # 0: the timer is not running
        self._timer = loop.timer(0.0, 0.0, self._on_timer)

    def add(self, entry: Deadline, seconds: float) -> None:
        """Let entry expire in so many seconds, never in this call. It must not be waiting already."""
        self._add(entry, seconds, self.clock() + (seconds or 1e-6))

    def add_at(self, entry: Deadline, at: float) -> None:
        """`add`, for a time on `clock`; one that is over is that of the loop's next iteration."""
        self._add(entry, -at, at)  # a FIFO of its own

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
        """`add` a plain callback; returns the entry for `end`."""
        entry = Deadline(callback)
        self.add(entry, seconds)
        return entry

    def end(self, entry: Deadline | None) -> None:
        """It is not waited for any more. Anything but a waiting entry is ignored."""
        if entry is not None:
            entry.cancel()

    def stop(self) -> None:
        """Forget all of them, and let the loop end as far as this object is concerned."""
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
        # Armed while callbacks run: the rest expires in a loop that they nest, or in the next run
        # when one of them raises what stops this one.
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
