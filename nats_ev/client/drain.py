"""The graceful end of a client: unsubscribe, let what has begun come to its end, flush, disconnect.

Theory of operation
-------------------
The server answers commands in order. So a PING after the UNSUBs is a *fence*: when its PONG comes,
every message that the server still had for the client has come before it, and so has every error
about what was published before. The steps:

1. `begin`: from now on the user's subscribe and request are refused, paused subscriptions are resumed,
   and reading goes on if it was paused, because the PONG must be read.
2. `before_write` frames an UNSUB for each subscription. It runs when the connection writes, so that,
   before a connection is up, the UNSUBs come after the queued messages. Hundreds of thousands of
   UNSUBs would block the loop, so they are framed in portions of 4096, one per iteration. Each full
   portion has a fence of its own, at which those subscriptions are forgotten: forgetting all of them
   at the end would block the loop, too.
3. `_advance` waits until nothing is under way: requests, and the operations of upper layers
   (`Waits.steps`, `Subscriptions.exchanges`), whose later steps may still send requests
   (`steps.later_step`).
   It looks at the end of each turn in which something arrived, expired or was released; whoever ends
   something outside of a delivery asks for that turn.
4. `_fence`: the PING. From now on publish is refused (`Connection.refusing`), except while messages are
   delivered: their callbacks may still answer. What such a callback has published needs a fence of its
   own. So at the PONG the count of accepted messages is compared with that at the PING: if it has
   grown, another fence follows. Another one follows, too, while PONGs are missing: such a callback
   may have called flush or drain_subscription. Messages that a subscription has kept are delivered
   before that, also those of one that is paused again, and a callback that runs a nested loop
   returns first.
5. `_finish`: the callbacks, then the end of the connection.

A drain ends once, in one of three ways: `_finish(None)`, `_finish(DrainTimeoutError)` after the
option drain_timeout, or, when the connection is lost or closed, `completions`, which the client calls
to fail all that waits. The subscription that all requests share is not unsubscribed by step 2; it
ends with the connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Protocol

from .. import errors
from ..connection import Completion, Connection, Source
from ..net import Deadline
from ..options import Options
from .subscriptions import Subscriptions

# How many UNSUBs are framed in one iteration of the loop.
_PORTION = 4096


class Owner(Protocol):
    """What a drain needs of its client."""

    def report(self, error: errors.NatsError) -> None:
        """Give an error to on_error."""

    def status_changed(self) -> None:
        """Report that the client's status has changed."""

    def drain_is(self, drain: Drain) -> bool:
        """Return whether drain is the one under way."""

    def under_way(self) -> bool:
        """Return whether a request or an operation of several steps has not ended."""

    def drained(self) -> None:
        """Forget the drain, which is over: the client may connect again."""


class Drain:
    """One call of `Nats.drain`, and the calls that have joined it."""

    def __init__(
        self, connection: Connection, options: Options, subscriptions: Subscriptions, owner: Owner
    ) -> None:
        self._connection = connection
        self._options = options
        self._subscriptions = subscriptions
        self._owner = owner
        self._over = False
        self._callbacks: list[tuple[int, Completion]] = []
        self._sids: Iterator[int] | None = None  # to be unsubscribed before the first fence
        self._accepted_at_fence = 0  # messages that had been accepted for sending at the last fence
        self._fencing = False  # the PING is framed
        self._confirmed = False  # and its PONG has come
        self._finished = False  # by `_finish`, with this outcome:
        self._outcome: errors.NatsError | None = None
        self._limit: Deadline | None = None

    def begin(self) -> None:
        """Start the drain, of a connection that is up or on its way."""
        connection = self._connection
        connection.closing = True
        connection.pause_reading(False)  # else the PONG would not be read
        self._subscriptions.resume_all()
        self._sids = iter(list(self._subscriptions.by_sid))
        seconds = self._options.drain_timeout / 1000
        if seconds:
            self._limit = connection.deadlines.after(seconds, self._too_slow)
        connection.need_flush()

    def join(self, cb: Completion | None) -> None:
        """Call cb with the outcome when the drain is over, once."""
        if cb is not None:
            self._callbacks.append((self._connection.next_order(), cb))

    def before_write(self) -> None:
        """Frame a portion of UNSUBs, or look whether the next step is due. Called only while connected."""
        if self._sids is None:
            self._advance(0)
            return
        connection, subs = self._connection, self._subscriptions
        sids = list(islice(self._sids, _PORTION))
        for sid in sids:
            if sid in subs.by_sid and subs.ends_with_drain(subs.by_sid[sid]):
                connection.out.unsub(sid)
        if len(sids) == _PORTION:
            connection.ping(lambda error: subs.drop_idle(sids))
            connection.deadlines.after(0.0, connection.flush)
            return
        self._sids = None
        self._advance(0)

    def end_subscription(self, sid: int) -> None:
        """End a subscription that the drain has waited for; its last messages are still delivered."""
        if self._connection.connected and sid in self._subscriptions.by_sid:
            self._connection.queued(self._connection.out.unsub(sid))
        self._connection.need_flush()

    def _advance(self, deliveries: int) -> None:
        """Take the next step if it is due.

        Args:
            deliveries: how many deliveries of messages are on the stack and wait for nobody: the one that has
                brought the PONG.
        """
        connection = self._connection
        if self._over or self._sids is not None or connection.delivering > deliveries:
            return
        if self._owner.under_way():
            return
        if not self._fencing:
            self._fence()
        elif self._confirmed and not self._subscriptions.pending:
            more = connection.out.accounting().accepted != self._accepted_at_fence
            if more or connection.pings.waiting:
                self._fence()
            else:
                self._over = True  # decided, and `before_write` may be called again before the end
                connection.turn.soon(self._finish, None)

    def _fence(self) -> None:
        self._fencing, self._confirmed = True, False
        self._accepted_at_fence = self._connection.out.accounting().accepted
        self._connection.ping(self._fenced)
        if not self._connection.refusing:
            self._connection.refusing = True
            self._connection.set_limits()
            self._owner.status_changed()

    def _fenced(self, error: errors.NatsError | None) -> None:
        if error is None:  # else `completions` calls the callbacks, or has called them
            self._confirmed = True
            self._advance(1)

    def _too_slow(self) -> None:
        error = errors.DrainTimeoutError()
        if not self._callbacks:
            self._owner.report(error)
        self._finish(error)

    def _finish(self, error: errors.NatsError | None) -> None:
        if self._owner.drain_is(self):  # else the connection has ended meanwhile
            self._outcome = error
            self._finished = True
            self._connection.disconnect()

    def completions(self) -> Source:
        """End the drain. Return (order of the call, callback) for each callback that has not been called."""
        self._over = True
        self._owner.drained()
        self._connection.deadlines.end(self._limit)
        # A later connect() must not restore them.
        self._subscriptions.drop_all()
        callbacks, self._callbacks = self._callbacks, []
        if self._finished:
            outcome = self._outcome
            return iter([(order, partial(_ignoring, cb, outcome)) for order, cb in callbacks])
        return iter(callbacks)


def _ignoring(
    cb: Completion, outcome: errors.NatsError | None, error: errors.NatsError | None
) -> None:
    """Call cb with the drain's outcome, whatever has ended the connection."""
    cb(outcome)
