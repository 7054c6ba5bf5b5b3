"""The time-outs of requests.

Theory of operation
-------------------
Every request has a time-out, most of them the same one, and almost every request is answered long before. A
libev timer costs more than a request, and even a list entry per request would have to be made, found again
and removed. So nothing is kept per request but its entry in the dict of callbacks, and an answer does nothing
here. `ExpiryBase` (``csrc/py_expiry.c``) has what happens per request and per turn.

*Runs.* Each request has a number; the numbers of a client increase. The requests of one loop turn that follow
each other with the same time-out become one run: a deadline, the first number and the last one. A run covers
every number between the two, some of which are not requests (a flush takes a number, too). Only
`Requests.waiting`, the dict of callbacks by number, says which of them still wait. An answer removes its
callback from that dict. When a run is due, the numbers that are still in the dict have timed out.

*The deadline is set at the end of the turn* (`end_turn`). That takes one look at the clock per turn instead
of one per request, and a turn that takes long to make its requests does not use up their time.

*Coalescing.* Each run expires `EXPIRY_SLOP` late. A run whose deadline is not before that of the newest run's
last request, and at most `EXPIRY_SLOP` after that of its first one, extends the newest run, whatever the
time-outs are. So a request never expires early, and at most 1 ms late. Only the newest run may be extended,
because between older runs there are numbers of other time-outs.

*The heap.* All runs of a client are in one heap by deadline, the newest one beside it, and one deadline waits
for the earliest. Where all time-outs are equal each run comes after those before it, so its place is found
at once. A different time-out for each request costs a place in the heap, 24 bytes, and no object.

*Trimming.* While answered runs are not removed by an answer, an hour's time-out could collect a million of
them. A heap with twice as many runs as after the last trim (16 at least) drops those that have no waiting
request and moves the first number of the others forward: amortised constant time per run. Beyond 256 runs a
sweep does so once a second, too. So memory follows what waits.

*Callbacks* of expired requests may answer, fail or make other requests, nest the loop, or raise. `_expire`
therefore waits for the next deadline before the first callback, `take_expired` moves the run's first number
forward before each one, and looks into the dict again after each one. A callback that raises leaves the rest
of the runs in place, and so does the end of a slice of 10 ms, after which other watchers have their turn.
What
`_expire` waits for is due at once then, and finds what has not expired yet.

Measured: 300,000 requests in flight cost no more each than a few.
"""

from __future__ import annotations

from collections.abc import Callable

from ..net import CALLBACKS_SLICE, Deadline, Deadlines, Turn
from ..protocol import ExpiryBase, Outbound

# Seconds that a run expires late, so that the turns of that time can join it.
EXPIRY_SLOP = 0.001
# Seconds between two sweeps, while there are many runs, and how many are not many.
_SWEEP_AFTER = 1.0
_MANY = 256


class Expiry(ExpiryBase):
    """All time-outs of one client's requests."""

    def __init__(
        self, out: Outbound, turn: Turn, deadlines: Deadlines, expired: Callable[[int], object]
    ) -> None:
        """Make one without runs.

        Args:
            out: has the number of the last request, and the dict of those that wait.
            turn: at its end `end_turn` is called.
            deadlines: the client's.
            expired: called with the number of each request that has timed out.
        """
        self._deadlines = deadlines
        self._expired = expired
        self._alarm = Deadline(self._expire)
        self._sweeping: Deadline | None = None
        self._attach(out, turn, deadlines.clock, self._alarm, EXPIRY_SLOP)

    def stop(self) -> None:
        """Forget all runs, and wait for nothing."""
        self.forget()
        self._alarm.cancel()
        self._deadlines.end(self._sweeping)
        self.sweeping = False

    def _wait(self, at: float) -> None:
        """Wait for a time, that of the earliest run; 0: for nothing."""
        self._alarm.cancel()
        if at:
            self.armed = at
            self._deadlines.add_at(self._alarm, at)

    def _attend(self) -> None:
        """Wait for the earliest run, and let a sweep look at them if they are many. Called by `end_turn`."""
        at = self.next_at
        if not self._alarm.waiting or self.armed > at:
            self._wait(at)
        if self.runs > _MANY and not self.sweeping:
            self.sweeping = True
            self._sweeping = self._deadlines.after(_SWEEP_AFTER, self._sweep)

    def _sweep(self) -> None:
        self.sweeping = False
        self.trim()
        self._attend()

    def _expire(self) -> None:
        """Expire the runs that are due. The deadline may be that of a run that was trimmed since."""
        clock = self._deadlines.clock
        now = clock()
        until = now + CALLBACKS_SLICE
        while order := self.take_expired(now):
            if not self._alarm.waiting:  # before any callback: see "Callbacks" above
                self._wait(now)
            self._expired(order)
            if clock() > until:
                return
        self._wait(self.next_at)
