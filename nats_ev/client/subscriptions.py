"""The table of a client's subscriptions: making, ending, pausing and draining them.

What the wire needs of a change is framed here; when it is sent is the connection's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from .. import errors, subjects
from ..arguments import check_callback, count, integer
from ..connection import Connection
from ..options import Options
from ..protocol import MessageCallback, Outbound, Subscription

Done = Callable[[errors.NatsError | None], object]

# Seconds of callbacks in a row that a resumed subscription may take before others have their turn.
_SLICE = 0.01


class Owner(Protocol):
    """What the subscriptions need of their client."""

    def report(self, error: errors.NatsError) -> None:
        """An error for on_error."""

    def inbox_closed(self) -> None:
        """The subscription that all requests share has ended."""


class Subscriptions:
    """See the module's docstring. Also what each `Subscription` calls its owner."""

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
        # Refuses what the wire would refuse, for subscriptions that no connection needs yet.
        self._probe: Outbound | None = None
        self._last_sid = 0
        # Those that keep messages, or have just been paused: few, however many there are in all.
        self._holding: dict[int, Subscription] = {}
        # Drained ones that have only their pending messages left: (order of the call, callback) each.
        self._emptying: dict[int, list[tuple[int, Done | None]]] = {}

    def _users(self, sid: int) -> Subscription | None:
        """A subscription of the user's; the one that all requests share is none. Raises TypeError."""
        sub = self.by_sid.get(integer(sid, "sid"))
        return sub if sub is not None and sub.inbox is None else None

    # Making and ending.

    def add(self, subject: str, cb: MessageCallback, queue_group: str | None) -> Subscription:
        """A new subscription, SUB included. Raises TypeError and `BadSubjectError`."""
        subjects.check_subscribe(subject)
        check_callback(cb)
        queue = subjects.encode(queue_group) if queue_group else b""
        sid = self._last_sid + 1
        sub = Subscription(self, sid, subjects.encode(subject), queue, cb)
        connection = self._connection
        wire = connection.wire
        if wire is None and self._probe is None:
            self._probe = Outbound()
        out = self._probe if wire is None else wire
        assert out is not None
        out.limits.max_control_line = self._options.max_control_line
        code = out.sub(sub.raw_subject, sub.raw_queue, sid)
        if code < 0:
            out.fail(code, subject=subject, queue=queue_group or "")
        self._last_sid = sid
        self.by_sid[sid] = sub
        if wire is not None:
            connection.queued(code)
        else:  # the next handshake brings it
            out.sent(len(out))
        return sub

    def end(self, sid: int, max_msgs: int | None) -> None:
        """unsubscribe(): now, or when max_msgs messages in all have come."""
        if max_msgs is not None:
            count(max_msgs, "max_msgs")
        sub = self._users(sid)
        if sub is None:
            return
        self._leave_fast_path(sub)
        if max_msgs and max_msgs > sub.received:
            sub.max_msgs = max_msgs
            self._unsub(sid, max_msgs - sub.received_before)
        else:
            self.drop(sub)
            if not sub.finished:
                self._unsub(sid)

    def drop(self, sub: Subscription) -> None:
        """It is not there any more; what it has pending is not delivered."""
        sub.closed = True
        sub.forget_pending()
        self.by_sid.pop(sub.sid, None)
        self._holding.pop(sub.sid, None)
        if sub.inbox is not None:
            self._owner.inbox_closed()
        for _, done in self._emptying.pop(sub.sid, ()):
            if done is not None:
                self._connection.turn.soon(done, None)

    def drop_idle(self, sids: Iterable[int]) -> None:
        """Drop those of a drain that the server has confirmed, but for what is yet to be delivered."""
        for sid in sids:
            sub = self.by_sid.get(sid)
            if sub is not None and sub.pending is None and sub.inbox is None:
                self.drop(sub)

    def drop_all(self) -> None:
        """The end of a drain."""
        for sub in list(self.by_sid.values()):
            self.drop(sub)

    def forget_pending(self) -> None:
        """disconnect(): nothing that waits is delivered any more."""
        for sub in list(self._holding.values()):
            sub.forget_pending()
            self._caught_up(sub)

    def completions(self) -> Iterator[tuple[int, Done]]:
        """Callbacks of drains that will not come to their end."""
        emptying, self._emptying = self._emptying, {}
        for sid, waiting in emptying.items():
            self.drop(self.by_sid[sid])
            yield from ((order, done) for order, done in waiting if done is not None)

    def live(self) -> Iterator[Subscription]:
        """What a new connection must restore."""
        return iter(list(self.by_sid.values()))

    def _unsub(self, sid: int, max_msgs: int = 0) -> None:
        connection = self._connection
        wire = connection.wire
        if wire is not None:
            connection.queued(wire.unsub(sid, max_msgs))

    def _leave_fast_path(self, sub: Subscription) -> None:
        if sub.fast:
            self._connection.leave_fast_path(sub)
            sub.fast = False

    def refused(self, error: errors.PermissionsViolationError) -> Subscription | None:
        """End the subscription that an error names, by sid or by subject and queue group.

        The server works through SUBs in order, so of several alike the oldest is meant.
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
            self._leave_fast_path(sub)
            self.drop(sub)
        return sub

    # Draining one.

    def drain(self, sid: int, cb: Done | None) -> None:
        """Unsubscribe, deliver what is in flight and pending, then ``cb(err)``."""
        connection = self._connection
        sub = self._users(sid)
        if sub is None or not connection.connected:  # nothing can be in flight
            if sub is not None and not sub.draining:
                self.end(sid, None)
            if cb is not None:
                connection.turn.soon(cb, None)
            return
        if not sub.draining:
            self._leave_fast_path(sub)
            sub.draining = True
            self._unsub(sid)
        order = connection.next_order()
        connection.ping(lambda error: self._fenced(sub, error, order, cb))
        if sub.paused:
            self.resume(sid)

    def _fenced(
        self, sub: Subscription, error: errors.NatsError | None, order: int, cb: Done | None
    ) -> None:
        if sub.pending and not sub.closed and error is None:
            self._emptying.setdefault(sub.sid, []).append((order, cb))
            return
        self.drop(sub)
        if cb is not None:
            self._connection.turn.call(cb, error)

    # Pausing.

    def pause(self, sid: int) -> None:
        """Keep the messages of a subscription instead of delivering them."""
        sub = self._users(sid)
        if sub is not None:
            self._hold(sub)
            sub.paused = True

    def _hold(self, sub: Subscription) -> None:
        self._leave_fast_path(sub)
        if sub.pending is None:
            sub.start_pending()
            self._holding[sub.sid] = sub

    def resume(self, sid: int) -> None:
        """Deliver what is pending, then what comes."""
        sub = self._users(sid)
        if sub is not None and sub.paused:
            sub.paused = False
            self._connection.turn.soon(self._deliver_pending, sub)

    def go_on(self) -> None:
        """All deadlines have been stopped: what waits for one to be delivered must not stay behind."""
        for sub in self._holding.values():
            if sub.pending and not sub.paused:
                self._connection.turn.soon(self._deliver_pending, sub)

    def resume_all(self) -> None:
        """For a drain: nothing is to be left behind."""
        for sid in list(self._holding):
            self.resume(sid)

    @property
    def pending(self) -> bool:
        """Whether there are messages of a subscription that is not paused, yet to be delivered."""
        return any(sub.pending for sub in self._holding.values() if not sub.paused)

    def _deliver_pending(self, sub: Subscription) -> None:
        """For a while; the rest in the loop's next iterations, also when a callback raises."""
        deadlines = self._connection.deadlines
        again = deadlines.after(0.0, lambda: self._deliver_pending(sub))
        until = deadlines.clock() + _SLICE
        while sub.pending and not sub.paused:
            if deadlines.clock() > until:
                return
            sub.deliver_next()
        again.cancel()
        self._caught_up(sub)

    def _caught_up(self, sub: Subscription) -> None:
        """Nothing is pending any more: what comes goes straight to the callback again."""
        if sub.paused or sub.closed or sub.pending is None:
            return
        sub.pending = None
        self._holding.pop(sub.sid, None)
        if sub.sid in self._emptying or (sub.finished and not sub.draining):
            self.drop(sub)
        elif not sub.draining and not sub.max_msgs:
            sub.fast = True
            self._connection.enter_fast_path(sub)

    def set_limits(self, sid: int, msgs: int, size: int) -> None:
        """Bounds of what is pending; negative: none."""
        integer(msgs, "msgs")
        integer(size, "size")
        sub = self._users(sid)
        if sub is not None:
            sub.msgs_limit, sub.bytes_limit = msgs, size

    def info(self, sid: int) -> dict[str, Any] | None:
        """See `Nats.subscription_info`."""
        sub = self._users(sid)
        if sub is None:
            return None
        pending = len(sub.pending) if sub.pending else 0
        return {
            "sid": sid,
            "subject": subjects.decode(sub.raw_subject),
            "queue_group": subjects.decode(sub.raw_queue) or None,
            "max_msgs": sub.max_msgs,
            "received": sub.received,
            "delivered": sub.received - sub.dropped - pending,
            "dropped": sub.dropped,
            "pending_msgs": pending,
            "pending_bytes": sub.pending_bytes,
            "pending_msgs_limit": sub.msgs_limit,
            "pending_bytes_limit": sub.bytes_limit,
            "paused": sub.paused,
            "draining": sub.draining,
        }

    # What a subscription tells; see `subscription.Owner`.

    def call(self, callback: Callable[..., object], *args: object) -> None:
        """Call a user's callback; deals with what it raises."""
        self._connection.turn.call(callback, *args)

    def exhausted(self, sub: Subscription) -> None:
        """The server has sent all that was asked for, and dropped it."""
        self.drop(sub)

    def slow(self, sub: Subscription) -> None:
        """It has begun to drop messages."""
        subject = subjects.decode(sub.raw_subject)
        pending = len(sub.pending) if sub.pending else 0
        self._owner.report(
            errors.SlowConsumerError(
                f"slow consumer, messages dropped on {subject!r}",
                subject=subject,
                sid=sub.sid,
                pending=pending,
                dropped=sub.dropped,
            )
        )
