"""The graceful end of a client: unsubscribe, deliver what is in flight, flush, disconnect.

A fence (PING) behind the UNSUBs: its PONG comes behind every message that the server still had for us.
When callbacks of these messages have published meanwhile, another fence follows theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from . import errors
from .net.deadlines import Deadline

if TYPE_CHECKING:
    from ._core import Core

Done = Callable[[errors.NatsError | None], object]

# UNSUBs framed in one go: hundreds of thousands of subscriptions must not stall the loop.
_PORTION = 4096


class Drain:
    """One drain() and those that joined it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._callbacks: list[tuple[int, Done]] = []
        self._sids: Iterator[int] | None = None  # to be unsubscribed before the first fence
        self._framed_at_fence = 0
        self._limit: Deadline | None = None

    def begin(self) -> None:
        """The connection may be up or still to come."""
        core, connection = self._core, self._core.connection
        connection.closing = True
        connection.pause_reading(False)  # or the confirmation would not be read
        core.subscriptions.resume_all()
        self._sids = iter(list(core.subscriptions.by_sid))
        seconds = core.options.drain_timeout / 1000
        if seconds:
            self._limit = connection.deadlines.after(seconds, self._too_slow)
        connection.need_flush()

    def join(self, cb: Done | None) -> None:
        """Call cb with the outcome, once."""
        if cb is not None:
            self._callbacks.append((self._core.connection.next_order(), cb))

    def before_write(self) -> None:
        """Frame UNSUBs, and behind the last one the fence. Only called while connected."""
        if self._sids is None:
            return
        core, connection = self._core, self._core.connection
        subs = core.subscriptions
        sids = list(islice(self._sids, _PORTION))
        for sid in sids:
            if sid in subs.by_sid and subs.by_sid[sid].inbox is None:
                core.out.unsub(sid)
        if len(sids) == _PORTION:
            # A fence of their own: taking all of them out of the table at the end would stall, too.
            connection.ping(lambda error: subs.drop_idle(sids))
            connection.deadlines.after(0.0, connection.flush)
            return
        self._sids = None
        self._fence()

    def _fence(self) -> None:
        self._framed_at_fence = self._core.out.accounting().accepted
        self._core.connection.ping(self._fenced)
        if not self._core.connection.refusing:
            self._core.connection.refusing = True
            self._core.connection.set_limits()
            self._core.status_changed()

    def _fenced(self, error: errors.NatsError | None) -> None:
        core = self._core
        if error is not None or core.drain is not self:
            return  # `completions` tells, or has told
        if core.subscriptions.pending:
            # Resumed subscriptions, whose callbacks may publish, too.
            core.connection.deadlines.after(0.0, lambda: self._fenced(None))
        elif core.out.accounting().accepted != self._framed_at_fence:
            self._fence()
        else:
            self._finish(None)

    def _too_slow(self) -> None:
        error = errors.DrainTimeoutError()
        if not self._callbacks:
            self._core.report(error)
        self._finish(error)

    def _finish(self, error: errors.NatsError | None) -> None:
        core = self._core
        for _, callback in self.completions():
            core.connection.turn.soon(callback, error)
        core.connection.finish()

    def completions(self) -> Iterator[tuple[int, Done]]:
        """It is over: callbacks that have not been told, in order of call."""
        core = self._core
        core.drain = None
        core.connection.deadlines.end(self._limit)
        # What has been drained does not come back with a later connect().
        core.subscriptions.drop_all()
        callbacks, self._callbacks = self._callbacks, []
        return iter(callbacks)
