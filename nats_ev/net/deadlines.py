"""All times that a client waits for: requests, connects, back-off, pings. Knows nothing of what expires.

Theory of operation
-------------------
A watcher of libev per request would cost more than the request itself. So all deadlines of a client are
in one heap of ``(time, number)``, and one timer watcher waits for the earliest. The number counts the
deadlines that were added, and keeps those of the same time in order; a table has the deadline of each
number. Requests do not come here: all of a client's are one deadline (`client.expiry`).

To cancel a deadline takes it out of the table, so that nothing here holds it any more: what it would call
may hold megabytes. Its entry stays, because taking one from the middle of a heap would need a search.
Entries that have ended are removed when they come first, and all of them in bulk when they are more than a
third of the heap. So cancelling takes amortised constant time, and memory follows what waits, however long
and however different the times are.

Invariants:

- A deadline waits if and only if its `_number` is not 0, and then the table has it under that number. Every
  other entry in the heap has ended.
- The timer is armed for the heap's first time or earlier. It may fire with nothing due, never too late.

Callbacks may add, cancel, nest the loop, or raise. `_on_timer` therefore arms the timer *before* it
calls anything: what else is due then expires in the nested loop, or in the loop's next run. After a slice
of 10 ms it gives way to other watchers; what else is due expires in the loop's next iteration.

Times are on the monotonic clock. libev's "now" is the wall clock and may be stale, because the loop
reads it once per iteration. It is brought up to date before the timer is armed; after that only the
distance counts.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from typing import Any

from ..loops import Loop
from .refs import Refs

# Seconds of callbacks in a row, for one client, before other watchers have their turn.
CALLBACKS_SLICE = 0.01
# The heap is rebuilt without its ended entries when they are more than a third of it, and more than:
_COMPACT_ABOVE = 16
# Seconds between two calls of a timer that is stopped or set again long before the second one.
_REPEAT = 1e6


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
            self._owner.remove(number)

    def _expire(self) -> None:
        """Make the call; for subclasses to override. Runs on the loop, at most once per `add`."""
        self._callback()


class Deadlines:
    """All deadlines of one client, on one timer watcher; see the module's docstring."""

    def __init__(
        self, loop: Loop, clock: Callable[[], float] = time.monotonic, refs: Refs | None = None
    ) -> None:
        self._loop = loop
        self._refs = refs or Refs(loop)
        self.clock = clock
        self._heap: list[tuple[float, int]] = []
        self._waiting: dict[int, Deadline] = {}
        self._added = 0
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

    def remove(self, number: int) -> None:
        """Forget the deadline with this number; see `Deadline.cancel`."""
        waiting, heap = self._waiting, self._heap
        waiting.pop(number, None)
        ended = len(heap) - len(waiting)
        if ended > _COMPACT_ABOVE and ended * 3 > len(heap):
            heap[:] = [item for item in heap if item[1] in waiting]
            heapq.heapify(heap)
        else:
            while heap and heap[0][1] not in waiting:
                heapq.heappop(heap)

    def forget(self) -> None:
        """Forget all deadlines, and leave the timer alone, in the child of a fork."""
        for entry in self._waiting.values():
            entry._number = 0
        self._waiting.clear()
        self._heap.clear()

    def stop(self) -> None:
        """Forget all deadlines and stop the timer, so that it does not keep the loop running."""
        self.forget()
        self._armed = 0.0
        self._refs.stop(self._timer)

    def keep_loop(self, keep: bool) -> None:
        """Let the timer, and all other watchers of the client, keep the loop running or not."""
        self._refs.stop(self._timer)
        self._refs.keep_loop(keep)
        if self._armed:
            self._arm(self._armed)

    def _arm(self, at: float) -> None:
        self._armed = at
        self._loop.update()
        self._refs.stop(self._timer)
        repeat = _REPEAT if self._refs.counts else 0.0
        self._timer.set(max(0.0, at - self.clock()), repeat)
        self._refs.start(self._timer)

    def _on_timer(self, watcher: Any, revents: int) -> None:
        now = self.clock()
        until = now + CALLBACKS_SLICE
        # Before any callback: see "Callbacks may add" above.
        self._arm(now)
        heap = self._heap
        while heap and heap[0][0] <= now:
            _, number = heapq.heappop(heap)
            entry = self._waiting.pop(number, None)
            if entry is not None and entry._number == number:
                entry._number = 0
                entry._expire()
                if self.clock() > until:
                    return  # the timer is armed for what is left
        if heap:
            self._arm(heap[0][0])
        else:
            self._armed = 0.0
            self._refs.stop(self._timer)
