"""The graceful end of a client: unsubscribe, deliver what is in flight, flush, disconnect.

A fence (PING) behind the UNSUBs: its PONG comes behind every message that the server still had for us.
When callbacks of these messages have published meanwhile, another fence follows theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol

from .. import errors
from ..connection import Connection
from ..net import Deadline
from ..options import Options
from .subscriptions import Subscriptions

Done = Callable[[errors.NatsError | None], object]

# UNSUBs framed in one go: hundreds of thousands of subscriptions must not stall the loop.
_PORTION = 4096


class Owner(Protocol):
    """What a drain needs of its client."""

    def report(self, error: errors.NatsError) -> None:
        """An error for on_error."""

    def status_changed(self) -> None:
        """The client's status has a new value."""

    def drained(self) -> None:
        """The drain is over: the client may be connected again."""


class Drain:
    """One drain() and those that joined it."""

    def __init__(
        self, connection: Connection, options: Options, subscriptions: Subscriptions, owner: Owner
    ) -> None:
        self._connection = connection
        self._options = options
        self._subscriptions = subscriptions
        self._owner = owner
        self._over = False
        self._callbacks: list[tuple[int, Done]] = []
        self._sids: Iterator[int] | None = None  # to be unsubscribed before the first fence
        self._framed_at_fence = 0
        self._limit: Deadline | None = None

    def begin(self) -> None:
        """The connection may be up or still to come."""
        connection = self._connection
        connection.closing = True
        connection.pause_reading(False)  # or the confirmation would not be read
        self._subscriptions.resume_all()
        self._sids = iter(list(self._subscriptions.by_sid))
        seconds = self._options.drain_timeout / 1000
        if seconds:
            self._limit = connection.deadlines.after(seconds, self._too_slow)
        connection.need_flush()

    def join(self, cb: Done | None) -> None:
        """Call cb with the outcome, once."""
        if cb is not None:
            self._callbacks.append((self._connection.next_order(), cb))

    def before_write(self) -> None:
        """Frame UNSUBs, and behind the last one the fence. Only called while connected."""
        if self._sids is None:
            return
        connection, subs = self._connection, self._subscriptions
        sids = list(islice(self._sids, _PORTION))
        for sid in sids:
            if sid in subs.by_sid and subs.by_sid[sid].inbox is None:
                connection.out.unsub(sid)
        if len(sids) == _PORTION:
            # A fence of their own: taking all of them out of the table at the end would stall, too.
            connection.ping(lambda error: subs.drop_idle(sids))
            connection.deadlines.after(0.0, connection.flush)
            return
        self._sids = None
        self._fence()

    def _fence(self) -> None:
        self._framed_at_fence = self._connection.out.accounting().accepted
        self._connection.ping(self._fenced)
        if not self._connection.refusing:
            self._connection.refusing = True
            self._connection.set_limits()
            self._owner.status_changed()

    def _fenced(self, error: errors.NatsError | None) -> None:
        connection = self._connection
        if error is not None or self._over:
            return  # `completions` tells, or has told
        if self._subscriptions.pending:
            # Resumed subscriptions, whose callbacks may publish, too.
            connection.deadlines.after(0.0, lambda: self._fenced(None))
        elif connection.out.accounting().accepted != self._framed_at_fence:
            self._fence()
        else:
            self._finish(None)

    def _too_slow(self) -> None:
        error = errors.DrainTimeoutError()
        if not self._callbacks:
            self._owner.report(error)
        self._finish(error)

    def _finish(self, error: errors.NatsError | None) -> None:
        for _, callback in self.completions():
            self._connection.turn.soon(callback, error)
        self._connection.disconnect()

    def completions(self) -> Iterator[tuple[int, Done]]:
        """It is over: callbacks that have not been told, in order of call."""
        self._over = True
        self._owner.drained()
        self._connection.deadlines.end(self._limit)
        # What has been drained does not come back with a later connect().
        self._subscriptions.drop_all()
        callbacks, self._callbacks = self._callbacks, []
        return iter(callbacks)
