"""The table of a client's subscriptions: adding, ending, pausing and draining them.

SUB and UNSUB are framed here, into what `Connection.wire` names: the client's write buffer, or the
handshake's while one is under way. Without either, the next handshake restores the table. The
connection decides when the bytes are sent. `protocol/subscription.py` explains how a subscription
leaves and enters the fast path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypedDict

from .. import errors, subjects
from ..arguments import TAKES_MESSAGE, check_callback, count, integer
from ..connection import Completion, Connection, Source
from ..net import CALLBACKS_SLICE
from ..options import Options
from ..protocol import MOST_IN_UNSUB, MessageCallback, Passes, Subscription, check_sub

# The parser's rows are int32: it could not tell messages of a later one.
_LAST_SID = 2**31 - 1


class Owner(Protocol):
    """What the subscriptions need of their client."""

    def report(self, error: errors.NatsError) -> None:
        """Give an error to on_error."""

    def inbox_closed(self) -> None:
        """Note that the subscription that all requests share has ended."""


class SubscriptionInfo(TypedDict):
    """What `Nats.subscription_info` returns."""

    sid: int
    subject: str
    queue_group: str | None
    max_msgs: int
    received: int
    delivered: int
    dropped: int
    pending_msgs: int
    pending_bytes: int
    pending_msgs_limit: int
    pending_bytes_limit: int
    paused: bool
    draining: bool


class Subscriptions:
    """The table of subscriptions by sid. Also the `Owner` of each `Subscription`."""

    def __init__(
        self,
        connection: Connection,
        options: Options,
        by_sid: dict[int, Subscription],
        owner: Owner,
    ) -> None:
        self._connection = connection
        self._options = options
        self._owner = owner
        self.by_sid = by_sid
        self._last_sid = 0
        # The sids of those that take the answers of one operation, which a drain lets end by themselves.
        self.exchanges: set[int] = set()
        # Those whose `pending` is not None, and those that have a demand. Few, however many subscriptions
        # there are.
        self._holding: dict[int, Subscription] = {}
        self._demanding: dict[int, Subscription] = {}
        # Drained ones that the server has forgotten and that still have pending messages:
        # (order of the call, callback) of each drain_subscription.
        self._emptying: dict[int, list[tuple[int, Completion | None]]] = {}

    def _find(self, sid: int) -> Subscription | None:
        """Return a subscription that the user has made, not the one that all requests share.

        Raises TypeError for a sid that is not an int.
        """
        sub = self.by_sid.get(integer(sid, "sid"))
        return sub if sub is not None and not sub.is_inbox else None

    # Adding and ending.

    def add(self, subject: str, cb: MessageCallback, queue_group: str | None) -> Subscription:
        """Make a subscription and frame its SUB. Raises TypeError and `BadSubjectError`.

        Args:
            subject: may have wildcards.
            cb: called with (subject, payload, reply, headers).
            queue_group: None and "" mean none.
        """
        subjects.check_subscribe(subject)
        check_callback(cb, "cb", TAKES_MESSAGE)
        queue = subjects.encode(queue_group) if queue_group else b""
        sid = self._last_sid + 1
        if sid > _LAST_SID:
            raise errors.NatsError("no subscription id is left")
        sub = Subscription(self, sid, subjects.encode(subject), queue, cb)
        connection = self._connection
        wire = connection.wire
        # Before anything is framed: the next handshake frames the SUB again, and must be able to.
        code = check_sub(sub.raw_subject, queue, sid, self._options.max_control_line)
        if code >= 0 and wire is not None:
            code = wire.sub(sub.raw_subject, queue, sid)
        if code < 0:
            connection.out.fail(code, subject=subject, queue=queue_group or "")
        self._last_sid = sid
        self.by_sid[sid] = sub
        if code:
            connection.queued(code)
        return sub

    def end(self, sid: int, max_msgs: int | None) -> None:
        """End a subscription at once, or when max_msgs messages in all have come since subscribe."""
        if max_msgs is not None:
            count(max_msgs, "max_msgs")
        sub = self._find(sid)
        if sub is None:
            return
        sub.fast = False
        if max_msgs and max_msgs > sub.received:
            left = max_msgs - sub.received_before
            sub.counted_by_server = left <= MOST_IN_UNSUB
            if sub.counted_by_server or sub.max_msgs:  # else the server knows of no end
                self._unsub(sid, min(left, MOST_IN_UNSUB))
            sub.max_msgs = max_msgs
        else:
            self.drop(sub)
            if not sub.finished:  # else the server has forgotten the subscription already
                self._unsub(sid)

    def drop(self, sub: Subscription) -> None:
        """Forget a subscription and its pending messages."""
        sub.closed = True
        sub.fast = False
        sub.forget_pending()
        self.by_sid.pop(sub.sid, None)
        self._holding.pop(sub.sid, None)
        self._demanding.pop(sub.sid, None)
        if sub.is_inbox:
            self._owner.inbox_closed()
        if sub.sid in self.exchanges:
            self.exchanges.discard(sub.sid)
            self._connection.need_flush()  # a drain may wait for this
        for _, done in self._emptying.pop(sub.sid, ()):
            if done is not None:
                self._connection.turn.soon(done, None)

    def await_in_drain(self, sid: int, wait: bool) -> None:
        """Let a drain wait until the subscription ends, instead of ending it; or no longer."""
        if not wait:
            self.exchanges.discard(sid)
        elif self._find(sid) is not None:
            self.exchanges.add(sid)

    def ends_with_drain(self, sub: Subscription) -> bool:
        """Return whether a drain unsubscribes: not the inbox of requests, nor that of an operation."""
        return not sub.is_inbox and sub.sid not in self.exchanges

    def drop_idle(self, sids: Iterable[int]) -> None:
        """Drop the subscriptions with these sids, except those that still have messages to deliver."""
        for sid in sids:
            sub = self.by_sid.get(sid)
            if sub is not None and sub.pending is None and self.ends_with_drain(sub):
                self.drop(sub)

    def drop_all(self) -> None:
        """Drop all subscriptions."""
        for sub in list(self.by_sid.values()):
            self.drop(sub)

    def forget_pending(self) -> None:
        """Discard the pending messages of all subscriptions."""
        for sub in list(self._holding.values()):
            sub.forget_pending()
            self._caught_up(sub)

    def completions(self) -> Source:
        """Drop the subscriptions that are being emptied. Return (order, callback) of their drains."""
        emptying, self._emptying = self._emptying, {}
        ended: list[tuple[int, Completion]] = []
        for sid, waiting in emptying.items():
            self.drop(self.by_sid[sid])
            ended += [(order, done) for order, done in waiting if done is not None]
        return iter(sorted(ended, key=lambda item: item[0]))

    def live(self) -> Iterator[Subscription]:
        """Return the subscriptions that a new connection must restore."""
        return iter(list(self.by_sid.values()))

    def _unsub(self, sid: int, max_msgs: int = 0) -> None:
        connection = self._connection
        wire = connection.wire
        if wire is not None:
            connection.queued(wire.unsub(sid, max_msgs))

    def refused(self, error: errors.PermissionsViolationError) -> Subscription | None:
        """Drop and return the subscription that an error names, by sid or by subject and queue group.

        The server handles SUBs in order, so of several equal ones the error is about the oldest.
        """
        sub = None
        if error.sid is not None:
            sub = self.by_sid.get(error.sid)
        elif error.kind == "subscription" and error.subject is not None:
            subject = error.subject.encode("utf-8", "surrogateescape")
            queue = (error.queue or "").encode("utf-8", "surrogateescape")
            sub = next(
                (
                    sub
                    for sub in self.by_sid.values()
                    if sub.raw_subject == subject and sub.raw_queue == queue and not sub.draining
                ),
                None,
            )
        if sub is not None:
            sub.fast = False
            self.drop(sub)
        return sub

    # Draining one.

    def drain(self, sid: int, cb: Completion | None) -> None:
        """Unsubscribe, deliver what is in flight and pending, then call ``cb(err)``."""
        connection = self._connection
        connection.guard.check_thread()
        sub = self._find(sid)
        if sub is None or not connection.connected:  # then nothing is in flight
            if sub is not None and not sub.draining:
                self.end(sid, None)
            if cb is not None:
                connection.turn.soon(cb, None)
            return
        if not sub.draining:
            sub.fast = False
            sub.draining = True
            self._unsub(sid)
        order = connection.next_order()
        connection.ping(lambda error: self._fenced(sub, error, order, cb))
        self.resume(sid)

    def _fenced(
        self, sub: Subscription, error: errors.NatsError | None, order: int, cb: Completion | None
    ) -> None:
        """Take the PONG after a drained subscription's UNSUB, or the error that came instead."""
        if sub.pending and not sub.closed and error is None:
            self._emptying.setdefault(sub.sid, []).append((order, cb))
            return
        self.drop(sub)
        if cb is not None:
            self._connection.turn.call(cb, error)

    # Pausing.

    def pause(self, sid: int, passes: Passes | None) -> None:
        """Keep the messages of a subscription instead of delivering them, except what passes takes."""
        self._connection.guard.check_thread()
        sub = self._find(sid)
        if sub is not None:
            self._hold(sub)
            sub.paused = True
            sub.passes = passes
            self._forget_demand(sub)

    def _hold(self, sub: Subscription) -> None:
        sub.fast = False
        if sub.pending is None:
            sub.start_pending()
            self._holding[sub.sid] = sub

    def resume(self, sid: int) -> None:
        """Deliver what is pending on the loop, then what comes."""
        self._connection.guard.check_thread()
        sub = self._find(sid)
        if sub is not None:
            self._forget_demand(sub)
            self._unpause(sub)

    def ask(self, sid: int, msgs: int) -> None:
        """Deliver so many messages more, and pause again; during a drain deliver all."""
        self._connection.guard.check_thread()
        count(msgs, "msgs")
        sub = self._find(sid)
        if sub is None:
            return
        if (self._connection.closing and self._connection.active) or sub.draining:
            self.resume(sid)
            return
        sub.fast = False
        sub.demand = (sub.demand or 0) + msgs
        self._demanding[sid] = sub
        if sub.demand:
            self._unpause(sub)
        else:
            self.satisfied(sub)

    def _unpause(self, sub: Subscription) -> None:
        if sub.paused:
            sub.paused = False
            self._connection.turn.soon(self._deliver_slice, sub)

    def _forget_demand(self, sub: Subscription) -> None:
        if self._demanding.pop(sub.sid, None) is not None:
            sub.demand = None
            self._quicken(sub)

    def _quicken(self, sub: Subscription) -> None:
        """Let a subscription enter the fast path if nothing is to be checked for its messages."""
        checked = sub.closed or sub.draining or sub.max_msgs or sub.pending is not None
        sub.fast = not checked and sub.demand is None

    def go_on(self) -> None:
        """Deliver what is pending without a deadline, after `Deadlines.stop` has discarded those in use."""
        for sub in self._holding.values():
            if sub.pending and not sub.paused:
                self._connection.turn.soon(self._deliver_slice, sub)

    def resume_all(self) -> None:
        """Resume all subscriptions that are paused, or will pause when their demand is met."""
        for sid in [*self._holding, *self._demanding]:
            self.resume(sid)

    @property
    def pending(self) -> bool:
        """Whether a subscription has messages to deliver, or will have when it is resumed."""
        return any(sub.pending for sub in self._holding.values())

    def _deliver_slice(self, sub: Subscription) -> None:
        """Deliver for one slice of time. The rest follows in later iterations, also if a callback raises."""
        connection = self._connection
        deadlines = connection.deadlines
        # Before any callback: one that raises or nests the loop must not end the delivery.
        again = deadlines.after(0.0, lambda: self._deliver_slice(sub))
        until = deadlines.clock() + CALLBACKS_SLICE
        connection.delivery_begins()
        try:
            while sub.pending and not sub.paused and not connection.guard.forked:
                if deadlines.clock() > until:
                    return
                sub.deliver_next()
        finally:
            connection.delivery_ends()
        again.cancel()
        self._caught_up(sub)

    def _caught_up(self, sub: Subscription) -> None:
        """Stop keeping messages: enter the fast path, or drop the subscription if it has ended."""
        if sub.paused or sub.closed or sub.pending is None:
            return
        sub.pending = None
        self._holding.pop(sub.sid, None)
        if sub.sid in self._emptying or (sub.finished and not sub.draining):
            self.drop(sub)
        else:
            self._quicken(sub)

    def set_limits(self, sid: int, msgs: int, size: int) -> None:
        """Set the bounds of what a paused subscription keeps; negative: unlimited."""
        integer(msgs, "msgs")
        integer(size, "size")
        sub = self._find(sid)
        if sub is not None:
            sub.msgs_limit, sub.bytes_limit = msgs, size

    def info(self, sid: int) -> SubscriptionInfo | None:
        """Return the state of a subscription; see `Nats.subscription_info`."""
        sub = self._find(sid)
        if sub is None:
            return None
        pending = len(sub.pending) if sub.pending else 0
        received = sub.received
        return {
            "sid": sid,
            "subject": subjects.decode(sub.raw_subject),
            "queue_group": subjects.decode(sub.raw_queue) or None,
            "max_msgs": sub.max_msgs,
            "received": received,
            "delivered": received - sub.dropped - pending,
            "dropped": sub.dropped,
            "pending_msgs": pending,
            "pending_bytes": sub.pending_bytes,
            "pending_msgs_limit": sub.msgs_limit,
            "pending_bytes_limit": sub.bytes_limit,
            "paused": sub.paused,
            "draining": sub.draining,
        }

    # The methods of `protocol.subscription.Owner`.

    def call(self, callback: Callable[..., object], *args: object) -> None:
        """Call a user's callback, and deal with what it raises."""
        self._connection.turn.call(callback, *args)

    def exhausted(self, sub: Subscription) -> None:
        """Drop a subscription that has received its max_msgs."""
        if not sub.counted_by_server:
            self._unsub(sub.sid)
        self.drop(sub)

    def satisfied(self, sub: Subscription) -> None:
        """Pause a subscription whose demand is met."""
        self._hold(sub)
        sub.paused = True

    def slow(self, sub: Subscription) -> None:
        """Report that a subscription has begun to discard messages."""
        subject = subjects.decode(sub.raw_subject)
        pending = len(sub.pending) if sub.pending else 0
        self._connection.journal.subscription_slow(subject, pending)
        self._owner.report(
            errors.SlowConsumerError(
                f"slow consumer, messages dropped on {subject!r}",
                subject=subject,
                sid=sub.sid,
                pending=pending,
                dropped=sub.dropped,
            )
        )

    def caught_up(self, sub: Subscription) -> None:
        """Note that a subscription that has discarded messages keeps them again."""
        subject = subjects.decode(sub.raw_subject)
        self._connection.journal.subscription_caught_up(subject, sub.dropped)
