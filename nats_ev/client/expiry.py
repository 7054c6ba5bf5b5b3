"""Time-outs of requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container
from typing import Any

from ..net import Deadline, Deadlines

# Time-outs that are remembered; those that nothing waits for are forgotten when there are more.
MAX_GROUPS = 256
# Seconds: requests whose deadlines are no farther apart may expire together, with the last of them.
EXPIRY_SLOP = 0.001
# A line forgets its answered runs when it has twice as many as after the last time, and more than:
_COMPACT_ABOVE = 16


class TimeoutGroup(Deadline):
    """Requests of one time-out, in the order of their deadlines, as one deadline: that of the first.

    Kept as runs ``[deadline, first, last]`` of calls' numbers; those in between that do not wait (any more)
    have been answered or were no requests. So an answer has nothing to do here.
    """

    __slots__ = ("_deadlines", "_expired", "_trim_at", "_waiting", "runs", "seconds")

    def __init__(
        self,
        waiting: Container[int],
        deadlines: Deadlines,
        expired: Callable[[int], object],
        seconds: float,
    ) -> None:
        self._waiting = waiting
        self._deadlines = deadlines
        self._expired = expired
        self._trim_at = _COMPACT_ABOVE
        self.seconds = seconds  # 0: they never expire
        self.runs: deque[list[Any]] = deque()
        self._fifo = None

    def add(self, deadline: float, first: int, last: int) -> list[Any]:
        """Append a run, and wait for it."""
        if len(self.runs) >= self._trim_at:
            self.trim()
        run = [deadline, first, last]
        self.runs.append(run)
        if self._fifo is None:
            self._arm()
        return run

    def trim(self) -> None:
        """Forget the runs of which nothing waits."""
        waiting = self._waiting
        for run in self.runs:
            run[1] = next(filter(waiting.__contains__, range(run[1], run[2] + 1)), 0)
        self.runs = deque(run for run in self.runs if run[1])
        self._trim_at = max(_COMPACT_ABOVE, 2 * len(self.runs))

    def _arm(self) -> None:
        self._deadlines.add_at(self, self.runs[0][0])

    def _expire(self) -> None:
        """The first deadline is over, or was when it was waited for: it may have been answered."""
        runs, waiting, now = self.runs, self._waiting, self._deadlines.clock()
        due: list[int] = []
        for deadline, first, last in runs:
            if deadline > now:
                break
            due.extend(filter(waiting.__contains__, range(first, last + 1)))
        if runs:
            self._arm()  # before any callback: in a loop that it nests the rest expires, too
        for order in due:
            if order in waiting:
                self._expired(order)
        while runs and runs[0][0] <= now:
            runs.popleft()
