"""Calls for later whose owner must know of the client's end: due, cancelled, or ended with the client."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..connection import Completion, Connection
from ..errors import NatsError
from ..net import Deadline


class Wait(Deadline):
    """A deadline that calls `ended` when the client ends before it is due."""

    __slots__ = ("_ended", "_over", "_waits", "order")

    def __init__(
        self, waits: Waits, order: int, due: Callable[[], object], ended: Callable[[], object]
    ) -> None:
        super().__init__(due)
        self._waits = waits
        self._ended = ended
        self._over = False
        self.order = order

    def cancel(self) -> None:
        """Call neither. Does nothing if one was called or this was cancelled before."""
        self._over = True
        self._waits.forget(self)
        super().cancel()

    def end(self, error: NatsError | None) -> None:
        """Call `ended`, unless this was cancelled meanwhile."""
        if not self._over:
            self._over = True
            self._waits.call(self._ended)

    def _expire(self) -> None:
        self._over = True
        self._waits.forget(self)
        super()._expire()


class Waits:
    """All waits of a client, in the order of the calls."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.call = connection.turn.call
        self._waiting: dict[Wait, None] = {}

    def add(
        self, seconds: float, due: Callable[[], object], ended: Callable[[], object]
    ) -> Deadline:
        """Call due in so many seconds, or ended when the client has ended or ends before."""
        connection = self._connection
        wait = Wait(self, connection.next_order(), due, ended)
        if connection.active:
            self._waiting[wait] = None
            connection.deadlines.add(wait, seconds)
        else:
            connection.turn.soon(wait.end, None)
        return wait

    def forget(self, wait: Wait) -> None:
        """Take a wait out of the table."""
        self._waiting.pop(wait, None)

    def take_all(self) -> Iterator[tuple[int, Completion]]:
        """Return all waits as completions to be called, and forget them."""
        waiting, self._waiting = self._waiting, {}
        return iter([(wait.order, wait.end) for wait in waiting])
