"""All times that a client waits for: requests, connects, back-off, pings. Knows nothing of what expires.

Theory of operation
-------------------
A watcher of libev per request would cost more than the request itself. So all deadlines of a client are
in one heap of ``(time, number)`` and a table from numbers to deadlines, and one timer watcher waits for the
earliest. The number counts the deadlines that were added, and keeps those of the same time in order.
Requests do not come here one by one: a `TimeoutGroup` is one deadline for thousands.

To cancel a deadline takes it out of the table, and with it whatever its callback holds, such as the content
of a download. The entry in the heap stays: taking it from the middle would need a search. Such entries are
removed when they come first, and all of them in bulk when they are more than a third of the heap. So
cancelling takes amortised constant time, and memory follows what waits, however long and however different
the times are.

Invariants:

- A deadline waits if and only if its `_number` is not 0; then the table has it under that number, and the
  heap an entry with it. Every other entry has ended.
- The timer is armed for the heap's first time or earlier. It may fire with nothing due, never too late.

Callbacks may add, cancel, nest the loop, or raise. `_on_timer` therefore arms the timer *before* it
calls anything: what else is due then expires in the nested loop, or in the loop's next run.

Times are on the monotonic clock. libev's "now" is the wall clock and may be stale, because the loop
reads it once per iteration. It is brought up to date before the timer is armed; after that only the
distance counts.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from typing import Any

# The heap is rebuilt without its ended entries when they are more than a third of it, and more than:
_COMPACT_ABOVE = 16


class Deadline:
    """A call that is made at some time unless it is cancelled. `Nats.call_later` returns one."""

    __slots__ = ("_at", "_callback", "_number", "_owner")

    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback = callback
        self._at = 0.0
        self._number = 0  # of its entry in the owner's heap; 0: it does not wait
        self._owner: Deadlines | None = None

    def __repr__(self) -> str:
        if not self._number:
            return f"<{type(self).__name__} not waiting>"
        return f"<{type(self).__name__} in {max(0.0, self._at - time.monotonic()) * 1000:.0f} ms>"

    @property
    def waiting(self) -> bool:
        """Whether the call is still to be made."""
        return self._number != 0

    def cancel(self) -> None:
        """Cancel the call. Does nothing if the call was made or cancelled before."""
        number, self._number = self._number, 0
        if number:
            assert self._owner is not None
            self._owner.ended(number)

    def _expire(self) -> None:
        """Make the call; for subclasses to override. Runs on the loop, at most once per `add`."""
        self._callback()


class Deadlines:
    """All deadlines of one client, on one timer watcher; see the module's docstring."""

    def __init__(self, loop: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self.clock = clock
        self._heap: list[tuple[float, int]] = []
        self._waiting: dict[int, Deadline] = {}  # by number
        self._added = 0
        self._dead = 0  # how many of the entries have ended
        self._armed = 0.0  # 0: the timer is not running
        self._timer = loop.timer(0.0, 0.0, self._on_timer)

    def add(self, entry: Deadline, seconds: float) -> None:
        """Let entry expire in so many seconds, never in this call.

        Args:
            entry: must not be waiting.
            seconds: 0 or more; 0 is the loop's next iteration.
        """
        self.add_at(entry, self.clock() + (seconds or 1e-6))

    def add_at(self, entry: Deadline, at: float) -> None:
        """Let entry expire at a time on `clock`, or, if it is over, in the loop's next iteration."""
        self._added = number = self._added + 1
        entry._at = at
        entry._number = number
        entry._owner = self
        self._waiting[number] = entry
        heapq.heappush(self._heap, (at, number))
        if not self._armed or at < self._armed:
            self._arm(at)

    def after(self, seconds: float, callback: Callable[[], object]) -> Deadline:
        """Call callback in so many seconds. Return the deadline, for `end`."""
        entry = Deadline(callback)
        self.add(entry, seconds)
        return entry

    def end(self, entry: Deadline | None) -> None:
        """Cancel entry. Does nothing if it is None or does not wait."""
        if entry is not None:
            entry.cancel()

    def ended(self, number: int) -> None:
        """Note that a deadline has ended. Drop the first entries at once, others later in bulk."""
        del self._waiting[number]
        self._dead += 1
        heap = self._heap
        if self._dead > _COMPACT_ABOVE and self._dead * 3 > len(heap):
            heap[:] = [item for item in heap if item[1] in self._waiting]
            heapq.heapify(heap)
            self._dead = 0
        else:
            self._trim()

    def _trim(self) -> None:
        heap, waiting = self._heap, self._waiting
        while heap and heap[0][1] not in waiting:
            heapq.heappop(heap)
            self._dead -= 1

    def forget(self) -> None:
        """Forget all deadlines, and leave the timer alone, in the child of a fork."""
        for entry in self._waiting.values():
            entry._number = 0
        self._waiting.clear()
        self._heap.clear()
        self._dead = 0

    def stop(self) -> None:
        """Forget all deadlines and stop the timer, so that it does not keep the loop running."""
        self.forget()
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
            _, number = heapq.heappop(heap)
            entry = self._waiting.pop(number, None)
            if entry is None:
                self._dead -= 1
            else:
                entry._number = 0
                entry._expire()
        if heap:
            self._arm(heap[0][0])
        else:
            self._armed = 0.0
            self._timer.stop()
