"""Every PING of a client: those of flush(), rtt() and drain(), and the keep-alive's.

PONGs carry nothing that says which PING they answer; they come in the order of the PINGs. So all PINGs of
a connection are in one queue, whoever asked for them, and each PONG takes the first one out.

Keep-alive: every ping_interval a PING is sent, and if max_pings_outstanding of them have had no PONG the
connection counts as stale. A program that was busy for long must not blame the server: before the
verdict, what lies in the socket is read (`_read_ahead`), and while received messages are yet to be
delivered there is none.

A lost connection may fail hundreds of thousands of operations, PINGs and others. So nothing is sorted or
copied when that happens: `InOrder` merges sources that are in order already, one callback at a time, while
`net.Turn` calls them in slices of time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from .. import errors
from ..net import CALLBACKS_SLICE, Deadline, Deadlines, Turn
from ..options import Options
from .link import Link

# Upper bound of the reads in `_read_ahead`: a PONG that is already in the socket's buffer lies at
# most so many reads of 64 KiB away.
_MOST_READS = 128


Completion = Callable[[errors.NatsError | None], object]
# (number of the call, how to fail it), in ascending order. The numbers are those of `Connection.next_order`.
Source = Iterator[tuple[int, Completion]]


class Owner(Protocol):
    """What the PINGs need of their connection."""

    @property
    def connected(self) -> bool:
        """Whether PONGs can come."""

    @property
    def link(self) -> Link | None:
        """The live connection, if there is one."""

    def ping(self, done: Completion | None = None) -> int:
        """Frame a PING and `Pings.add` it."""

    def trim(self) -> None:
        """Give back memory that is not in use, once per interval."""

    def failed(self, error: errors.NatsError | None) -> None:
        """End the connection: the server does not answer any more."""


class Pings:
    """The PINGs that are framed and not yet answered, and the timer of the keep-alive."""

    def __init__(self, options: Options, deadlines: Deadlines, turn: Turn, owner: Owner) -> None:
        self._options = options
        self._deadlines = deadlines
        self._turn = turn
        self._owner = owner
        # (order of the call, what to call), for each PING that is buffered or on the way.
        self.waiting: deque[tuple[int, Completion | None]] = deque()
        self.rtt = 0.0  # ms between the last PING that was answered and its PONG; 0: none was
        self._sent_at: deque[float] = deque()  # when each of `waiting` was framed
        self.unanswered = 0  # PINGs of the keep-alive since the last PONG
        self._unanswered_before = 0  # the pause of reading
        self.held = False  # the user has paused reading: a missing PONG says nothing
        self._due: Deadline | None = None
        self._judging: Deadline | None = None  # waits for the next slice of `_read_ahead`

    def add(self, order: int, done: Completion | None) -> None:
        """Queue a PING that has been framed. done gets None at its PONG."""
        self.waiting.append((order, done))
        self._sent_at.append(self._deadlines.clock())

    def answered(self) -> None:
        """Take out the PING that a PONG answers, and call its callback."""
        self.unanswered = 0
        if self.waiting:
            _, done = self.waiting.popleft()
            self.rtt = (self._deadlines.clock() - self._sent_at.popleft()) * 1000
            if done is not None:
                self._turn.soon(done, None)
                self._turn.run_soon()

    def completions(self) -> Source:
        """Take out the callbacks that no PONG will answer any more, with the order of their calls."""
        waiting, self.waiting = self.waiting, deque()
        self._sent_at.clear()
        return filter(_has_callback, waiting)  # type: ignore[arg-type]

    # Keep-alive.

    def start(self) -> None:
        """Start the keep-alive, or start it again with another interval."""
        if (
            self._due is None
        ):  # a new connection: PINGs that were framed before it are on the way now
            self._sent_at.clear()
            self._sent_at.extend([self._deadlines.clock()] * len(self.waiting))
        self.stop()
        self.unanswered = self._unanswered_before = 0
        self._plan()

    def hold(self, hold: bool) -> None:
        """Let missing PONGs not count while nothing is read; those of PINGs from that time never do."""
        if hold and not self.held:
            self._unanswered_before = self.unanswered
        elif self.held and not hold:
            self.unanswered = min(self.unanswered, self._unanswered_before)
        self.held = hold

    def stop(self) -> None:
        """Stop the keep-alive."""
        self._deadlines.end(self._due)
        self._deadlines.end(self._judging)
        self._due = self._judging = None

    def _plan(self) -> None:
        interval = self._options.ping_interval
        if interval > 0:
            self._due = self._deadlines.after(interval / 1000, self._tick)

    def _tick(self) -> None:
        self._plan()
        self._owner.trim()
        self._deadlines.end(self._judging)
        self._judge(_MOST_READS)

    def _judge(self, reads: int) -> None:
        """Send a PING, or end the connection if too many are unanswered after so many reads."""
        owner = self._owner
        if self._overdue():
            left = self._read_ahead(reads)
            if not owner.connected or (owner.link is not None and owner.link.behind):
                return  # the PONG may be in what is still to be delivered
            if self._overdue():
                if left:  # the slice is over: go on in the next iteration
                    self._judging = self._deadlines.after(0.0, lambda: self._judge(left))
                else:
                    owner.failed(errors.StaleConnectionError("stale connection"))
                return
        self.unanswered += 1
        owner.ping()

    def _overdue(self) -> bool:
        return not self.held and 0 < self._options.max_pings_outstanding <= self.unanswered

    def _read_ahead(self, reads: int) -> int:
        """Read what has arrived, for a slice of time: after a long callback a PONG may wait in the socket.

        Return how many reads are left, or 0 if the socket has no more.
        """
        link = self._owner.link
        clock = self._deadlines.clock
        until = clock() + CALLBACKS_SLICE
        while reads:
            if link is None or link is not self._owner.link or link.behind or not self._overdue():
                return 0
            if not link.read():
                return 0
            reads -= 1
            if clock() > until:
                break
        return reads


def _has_callback(waiting: tuple[int, Completion | None]) -> bool:
    return waiting[1] is not None


class InOrder:
    """An iterator over the completions of several sources, in the order of their numbers."""

    __slots__ = ("_heads",)

    def __init__(self, sources: list[Source]) -> None:
        # [number, completion, source] of the next completion of each source that has one
        self._heads: list[list[Any]] = []
        for source in sources:
            head = next(source, None)
            if head is not None:
                self._heads.append([*head, source])

    def __iter__(self) -> InOrder:
        return self

    def __next__(self) -> Completion:
        heads = self._heads
        if not heads:
            raise StopIteration
        at = 0 if len(heads) == 1 else min(range(len(heads)), key=lambda i: heads[i][0])
        # Taken out before the source is asked: that may run a signal handler, and so this again.
        first = heads.pop(at)
        try:
            head = next(first[2], None)
        except BaseException:
            heads.append(first)
            raise
        if head is not None:
            heads.append([*head, first[2]])
        done: Completion = first[1]
        return done
