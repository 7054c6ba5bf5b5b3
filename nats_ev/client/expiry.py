"""The time-outs of requests.

Theory of operation
-------------------
Every request has a time-out, almost all of them the same one, and almost every request is answered
long before. A libev timer costs more than a request, and even a list entry per request would have to
be made, found again and removed. So nothing is kept per request but its entry in the dict of
callbacks, and an answer does nothing here.

*Runs.* Each request has a number; the numbers of a client increase. The requests of one loop turn
with the same time-out share one deadline and become one `Run`: that deadline, the first number and
the last one. A run covers every number between the two, some of which are not requests (a flush takes
a number, too). Only `Requests.waiting`, the dict of callbacks by number, says which of them still
wait. An answer removes its callback from that dict. When a run is due, the numbers that are still in
the dict have timed out.

*The deadline is set at the end of the turn* (`Requests._end_turn`). That takes one look at the clock
per turn instead of one per request, and a turn that takes long to make its requests does not use up
their time.

*Coalescing.* If a turn's deadline is at most `EXPIRY_SLOP` after that of the newest run, the turn
extends that run instead of making another one. To be able to, each run is made to expire
`EXPIRY_SLOP` late. So a request never expires early, and at most 1 ms late. Only the newest run of a
client may be extended, because between older runs there are numbers of other time-outs.

*Groups.* A `TimeoutGroup` has the runs of one time-out. Their deadlines increase, so the group needs
one deadline, that of its first run. It is the deadline of the whole group in `net.Deadlines`.

*Trimming.* While answered runs are not removed by an answer, an hour's time-out could collect a
million of them. A group with twice as many runs as after the last trim (`_COMPACT_ABOVE` at least)
drops those that have no waiting request and moves `first` of the others forward: amortised constant
time per run.

*Callbacks* of expired requests may answer, fail or make other requests, nest the loop, or raise.
`_expire` therefore arms the next deadline before the first callback, moves the run's `first` forward
before each one, and looks into the dict again after each one. A callback that raises leaves the rest of
the runs in place, and so does the end of a slice of 10 ms, after which other watchers have their turn. The
deadline that was armed is due at once, and finds what has not expired yet.

*Many different time-outs.* A group that has no waiting request is forgotten when as many groups have been
made as were in use (`Requests._new_group`), and beyond 256 groups a sweep looks once a second. So memory
follows what waits, also when every request has a time-out of its own.

Measured: 300,000 requests in flight cost no more each than a few.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container

from ..net import CALLBACKS_SLICE, Deadline, Deadlines

# How many groups are kept before those without a waiting request are forgotten.
MAX_GROUPS = 256
# Seconds that a run expires late, so that the turns of that time can join it.
EXPIRY_SLOP = 0.001
# A group with no more runs than this is not trimmed.
_COMPACT_ABOVE = 16


class Run:
    """The requests from number first to number last, both included, which expire at deadline."""

    __slots__ = ("deadline", "first", "last")

    def __init__(self, deadline: float, first: int, last: int) -> None:
        self.deadline = deadline
        self.first = first
        self.last = last


# The newest run where there is none: no deadline is early enough to extend it.
NO_RUN = Run(0.0, 0, 0)


class TimeoutGroup(Deadline):
    """All runs of one time-out, oldest first, as one deadline: that of the first run."""

    __slots__ = ("_deadlines", "_expired", "_trim_at", "_waiting", "runs", "seconds")

    def __init__(
        self,
        waiting: Container[int],
        deadlines: Deadlines,
        expired: Callable[[int], object],
        seconds: float,
    ) -> None:
        """Make a group without runs.

        Args:
            waiting: the numbers of all requests that wait for an answer.
            deadlines: the client's.
            expired: called with the number of each request that has timed out.
            seconds: the time-out; 0: never, and then `add` is not called.
        """
        self._waiting = waiting
        self._deadlines = deadlines
        self._expired = expired
        self._trim_at = _COMPACT_ABOVE
        self.seconds = seconds
        self.runs: deque[Run] = deque()
        self._number = 0

    def add(self, deadline: float, first: int, last: int) -> Run:
        """Append a run, wait for it, and return it."""
        if len(self.runs) >= self._trim_at:
            self.trim()
        run = Run(deadline, first, last)
        self.runs.append(run)
        if not self._number:
            self._arm()
        return run

    def trim(self) -> None:
        """Forget the runs that have no waiting request, and the answered requests that others begin with."""
        is_waiting = self._waiting.__contains__
        kept: deque[Run] = deque()
        for run in self.runs:
            oldest = next(filter(is_waiting, range(run.first, run.last + 1)), None)
            if oldest is not None:
                run.first = oldest
                kept.append(run)
        self.runs = kept
        self._trim_at = max(_COMPACT_ABOVE, 2 * len(kept))

    def _arm(self) -> None:
        self._deadlines.add_at(self, self.runs[0].deadline)

    def _expire(self) -> None:
        """Expire the runs that are due. The deadline may be that of a run that was trimmed since."""
        waiting, clock = self._waiting, self._deadlines.clock
        now = clock()
        until = now + CALLBACKS_SLICE
        if self.runs:
            self._arm()  # before any callback: see "Callbacks" above
        # A callback may replace or empty the deque.
        while self.runs and self.runs[0].deadline <= now:
            run = self.runs[0]
            for order in filter(waiting.__contains__, range(run.first, run.last + 1)):
                run.first = order + 1
                self._expired(order)
                if clock() > until:
                    return
            if self.runs and self.runs[0] is run:
                self.runs.popleft()
