"""Calls for later whose owner must know of the client's end.

A `Wait` ends in exactly one of three ways: it is due, it is cancelled, or the client ends. In the
last case the client calls `ended` for it, in the order of the calls, among the other completions that
fail then.
"""

from __future__ import annotations

from collections.abc import Callable

from ..connection import Connection, Source
from ..errors import NatsError
from ..net import Deadline


class Wait(Deadline):
    """A deadline that calls `ended` if the client ends before it is due."""

    __slots__ = ("_ended", "_over", "_waits", "order", "step")

    def __init__(
        self,
        waits: Waits,
        order: int,
        due: Callable[[], object],
        ended: Callable[[], object],
        step: bool = False,
    ) -> None:
        super().__init__(due)
        self._waits = waits
        self._ended = ended
        self._over = False  # due, cancelled, or ended
        self.order = order
        self.step = step  # of an operation that a drain waits for

    def cancel(self) -> None:
        """Cancel both calls. Does nothing if one was made or this was cancelled before."""
        self._over = True
        self._waits.forget(self)
        super().cancel()

    def stop(self) -> None:
        """Stop waiting for the time; `end` follows."""
        super().cancel()

    def end(self, error: NatsError | None) -> None:
        """Call `ended`, unless this was cancelled. error, which a completion gets, does not matter here."""
        if not self._over:
            self._over = True
            self._waits.call(self._ended)

    def _expire(self) -> None:
        self._over = True
        self._waits.forget(self)
        super()._expire()


class Waits:
    """The waits of one client."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.call = connection.turn.call
        self._waiting: dict[Wait, None] = {}
        self.steps = 0  # how many of them a drain waits for

    def add(
        self,
        seconds: float,
        due: Callable[[], object],
        ended: Callable[[], object],
        step: bool = False,
    ) -> Deadline:
        """Call due in so many seconds, or ended if the client ends before or has ended already.

        Args:
            seconds: 0 or more.
            due: called on the loop; must deal with exceptions itself.
            ended: called on the loop.
            step: due is a later step of an operation: a drain waits for it.
        """
        connection = self._connection
        wait = Wait(self, connection.next_order(), due, ended, step)
        if connection.active:
            self._waiting[wait] = None
            self.steps += step
            connection.deadlines.add(wait, seconds)
        else:
            connection.turn.soon(wait.end, None)
        return wait

    def hold(self, ended: Callable[[], object]) -> Deadline:
        """Let a drain wait until the returned `Wait` is cancelled.

        Args:
            ended: called on the loop if the client ends before, or has ended already.
        """
        wait = Wait(self, self._connection.next_order(), ended, ended, True)
        if self._connection.active:
            self._waiting[wait] = None
            self.steps += 1
        else:
            self._connection.turn.soon(wait.end, None)
        return wait

    def forget(self, wait: Wait) -> None:
        """Remove a wait that the client's end does not concern any more."""
        if wait in self._waiting:
            del self._waiting[wait]
            if wait.step:
                self.steps -= 1
                self._connection.need_flush()  # a drain may wait for this

    def take_all(self) -> Source:
        """Forget all waits. Return (order of the call, completion) for each."""
        waiting, self._waiting = self._waiting, {}
        for wait in waiting:
            wait.stop()
        self.steps = 0
        return iter([(wait.order, wait.end) for wait in waiting])
