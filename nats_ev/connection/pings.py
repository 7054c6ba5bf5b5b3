"""Every PING of a client: fences, round trips and keep-alive, in the order in which they are answered.

One queue for all of them, so that no PONG is taken for another's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from .. import errors
from ..net import Deadline, Deadlines, Turn
from ..options import Options
from .link import Link

Completion = Callable[[errors.NatsError | None], object]

# What a socket can hold back, in reads: so many may come before the PONG that has arrived.
_MOST_READS = 128


class Owner(Protocol):
    """What the PINGs need of their connection."""

    @property
    def connected(self) -> bool:
        """Whether PONGs can come."""

    @property
    def link(self) -> Link | None:
        """Where they come from."""

    def ping(self, done: Completion | None = None) -> int:
        """Frame a PING and `Pings.add` it."""

    def failed(self, error: errors.NatsError | None) -> None:
        """The server does not answer any more."""


class Pings:
    """See the module's docstring."""

    def __init__(self, options: Options, deadlines: Deadlines, turn: Turn, owner: Owner) -> None:
        self._options = options
        self._deadlines = deadlines
        self._turn = turn
        self._owner = owner
        # (order of the call, what to call), for each PING that is buffered or on the way.
        self.waiting: deque[tuple[int, Completion | None]] = deque()
        self.unanswered = 0  # of the keep-alive's, since the last PONG
        self.held = False  # the user lets nothing be read: there is nothing to be missed
        self._due: Deadline | None = None

    def add(self, order: int, done: Completion | None) -> None:
        """Another PING has been framed."""
        self.waiting.append((order, done))

    def answered(self) -> None:
        """A PONG has come."""
        self.unanswered = 0
        if self.waiting:
            _, done = self.waiting.popleft()
            if done is not None:
                self._turn.soon(done, None)
                self._turn.run_soon()

    def completions(self) -> Iterator[tuple[int, Completion]]:
        """What no PONG will answer any more."""
        waiting, self.waiting = self.waiting, deque()
        return ((order, done) for order, done in waiting if done is not None)

    # Keep-alive.

    def start(self) -> None:
        """The connection is up, or the interval has changed."""
        self.stop()
        self.unanswered = 0
        self._plan()

    def stop(self) -> None:
        """No PING of the keep-alive's until `start`."""
        self._deadlines.end(self._due)
        self._due = None

    def _plan(self) -> None:
        interval = self._options.ping_interval
        if interval > 0:
            self._due = self._deadlines.after(interval / 1000, self._tick)

    def _tick(self) -> None:
        owner = self._owner
        self._plan()
        if self._overdue():
            self._read_ahead()
            if not owner.connected or (owner.link is not None and owner.link.behind):
                return  # what has arrived is still being delivered: the PONG may be in it
            if self._overdue():
                owner.failed(errors.StaleConnectionError("stale connection"))
                return
        self.unanswered += 1
        owner.ping()

    def _overdue(self) -> bool:
        return not self.held and 0 < self._options.max_pings_outstanding <= self.unanswered

    def _read_ahead(self) -> None:
        """After a callback that took long, the PONG may lie in the socket while the timer is first."""
        link = self._owner.link
        for _ in range(_MOST_READS):
            if link is None or link is not self._owner.link or link.behind or not self._overdue():
                return
            if not link.read():
                return
