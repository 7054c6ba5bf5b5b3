"""Requests and their answers.

All requests of a client share one subscription, to ``<inbox_prefix>.<unguessable>.*``. Each request
has a number, taken from the connection's counter, which is the last token of its reply subject. So an
answer leads to its callback by one look into a table, and a number that has been used comes from the
past: no other request can get a late answer.

Who does what: C sends most requests (`nats_py_request` in ``csrc/py_outbound.c``), and gives most answers
to their callbacks (`give_answer` in ``csrc/py_inbound.c``). `Requests` has the tables, the other ways of
sending, and the answers that no single request waits for; `expiry` has the time-outs; `request_many` the
requests that take many answers.

A request leaves the tables in exactly one of these ways, before its callback is called: an answer
(in C, or `answer`), a 503 (`_no_responders`), its time-out (`expired`), the end of the connection
(`take_all`), or a server that does not take it (`discarded`, `inbox_refused`, `denied`). If the frame of a
request that has timed out is still in the write buffer, the next write removes it (`withdraw`,
`purge`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from itertools import repeat
from operator import itemgetter
from typing import Any, Protocol

from .. import errors, subjects
from ..arguments import milliseconds
from ..connection import Completion, Connection, InOrder, Source
from ..headers import is_no_responders
from ..nuid import next_nuid
from ..options import Options
from ..protocol import Outbound, Waiting
from .expiry import Expiry
from .request_many import ManyRequest, RequestCallback, Sentinel
from .subscriptions import Subscriptions

# The types of a time-out whose equality is known.
_TIMES = frozenset({int, float, timedelta})
# No time-out is this one.
_NO_TIMEOUT = object()
# Of a run (number of the first request, subject); no call of Python, as there are many of them.
_first = itemgetter(0)
# So many subjects are kept before those of requests that have ended are looked for.
_KEPT_SUBJECTS = 256


class _NoRespondersOverride(partial[object]):
    """The callback of a request that overrides the client's option no_responders.

    A partial, because the call of a partial adds no Python call, and C makes one of this class without any.
    """

    __slots__ = ()
    ends_early = False


class _EndsEarly(_NoRespondersOverride):
    """The callback of a request that a 503 ends."""

    __slots__ = ()
    ends_early = True


# By no_responders.
_OVERRIDES = (_NoRespondersOverride, _EndsEarly)


class _AskedSubjects:
    """The subjects of waiting requests, for the case that the server refuses one (`Requests.denied`).

    Most requests have the subject of the request before. So what is kept is a list of (number of the first
    request, subject), and a request to the same subject as the last one changes nothing here. C appends to
    the list, `subjects` of the write buffer, while it is shorter than `most_subjects`.
    """

    def __init__(self, waiting: Waiting, many: dict[int, Any], out: Outbound) -> None:
        """waiting and many have the numbers of the requests that wait, out that of the last one."""
        self._waiting = waiting
        self._many = many
        self._out = out
        out.subjects = []
        out.most_subjects = _KEPT_SUBJECTS
        # Made of these when it is needed: the numbers by subject, up to a number.
        self._by_subject: dict[str, list[int]] = {}
        self._up_to = 0

    def begin(self, order: int, subject: str) -> None:
        """Note that this request and those after it have another subject than those before."""
        out = self._out
        if len(out.subjects) >= out.most_subjects:
            out.subjects = [run for run, _ in self._waiting_runs()]
            out.most_subjects = max(_KEPT_SUBJECTS, 2 * len(out.subjects))
        out.subjects.append((order, subject))

    def subject_of(self, order: int) -> str:
        """Return the subject of a request that waits."""
        runs = self._out.subjects
        at = bisect_right(runs, order, key=_first)
        return runs[at - 1][1] if at else ""

    def _waiting_runs(self) -> Iterator[tuple[tuple[int, str], list[int]]]:
        """Return each run that has waiting requests, with their numbers."""
        runs = self._out.subjects
        orders = sorted([*self._waiting, *self._many])
        at = bisect_left(orders, runs[0][0]) if runs else len(orders)
        while at < len(orders):
            next_run = bisect_right(runs, orders[at], key=_first)
            end = len(orders)
            if next_run < len(runs):
                end = bisect_left(orders, runs[next_run][0], at)
            yield runs[next_run - 1], orders[at:end]
            at = end

    def take(self, subject: str) -> list[int]:
        """Take out the requests to a subject, in order; some may have ended since the last violation."""
        if self._up_to != self._out.last_order:  # once, however many violations follow
            self._up_to = self._out.last_order
            by_subject: dict[str, list[int]] = {}
            for (_, asked), orders in self._waiting_runs():
                by_subject.setdefault(asked, []).extend(orders)
            self._by_subject = by_subject
        return self._by_subject.pop(subject, [])


class Owner(Protocol):
    """What the requests need of their client."""

    def refuse_if_draining(self) -> None:
        """Raise `ConnectionDrainingError` after `Nats.drain`."""


class Requests:
    """The requests that wait for an answer, by number. Also the `Inbox` of their subscription."""

    def __init__(
        self, connection: Connection, options: Options, subscriptions: Subscriptions, owner: Owner
    ) -> None:
        self._owner = owner
        self._options = options
        self._subscriptions = subscriptions
        self.deadlines = connection.deadlines
        self.call = connection.turn.call
        self.soon = connection.turn.soon
        self.failed = connection.turn.failed
        # The callbacks by number. `waiting` is always the same table.
        self._out = connection.out
        self.waiting = Waiting()
        self._out.waiting = self.waiting
        # `timeout` of the write buffer is that of the last request, as the caller gave it, or _NO_TIMEOUT, so
        # that the next request calls `use_timeout`; `run_start` is the number of the first request of the run
        # that is being made, 0: no run has begun. `times` is there if C may choose another time-out.
        self.times = Expiry(self._out, connection.turn, connection.deadlines, self.expired)
        connection.turn.finish = self.times.end_turn
        self._out.times = self.times
        self._out.timeout = _NO_TIMEOUT
        self._out.run_start = 0
        self.begin_run = self._out.begin_run = self.times.begin_run
        self.many: dict[int, ManyRequest] = {}
        # Those that have left the tables and whose last call is put off: they can still be cancelled.
        self.ending: dict[int, RequestCallback | ManyRequest] = {}
        # `use_timeout` must refuse or accept each request on its own.
        self.draining = False
        self._early_503 = options.no_responders
        self._connection = connection
        self._prefix = b""  # of the shared inbox; empty: no subscription yet
        self.withdrawn: list[int] = []  # the numbers of requests whose frames are to be removed
        self._asked = _AskedSubjects(self.waiting, self.many, self._out)
        self._out.subject = None  # of the last request
        self._out.begin_subject = self.begin_subject
        self._out.overrides = _OVERRIDES

    def __len__(self) -> int:
        return len(self.waiting) + len(self.many)

    # Sending. C has the hot path (``csrc/py_outbound.c``).

    def use_timeout(self, timeout_ms: Any) -> None:
        """Choose the time-out of the next requests.

        Raises TypeError and `BadOptionsError` for what is no time, `ConnectionDrainingError` after
        `Nats.drain`.
        """
        self._owner.refuse_if_draining()
        self.times.choose(milliseconds(timeout_ms, "timeout_ms") / 1000)
        # What is equal to a time and has another type, such as True, may be no time. What is a time, of a
        # subclass, may have an equality of its own.
        is_known = type(timeout_ms) in _TIMES and not self.draining
        self._out.timeout = timeout_ms if is_known else _NO_TIMEOUT
        self._out.times = None if self.draining else self.times

    def drain_began(self) -> None:
        """Let each request call `use_timeout`, which may refuse it."""
        self.draining = True
        self._out.timeout = _NO_TIMEOUT
        self._out.times = None

    def ended(self) -> None:
        """Let a drain look whether it can go on, after the end of a request that no message has brought."""
        if self.draining:
            self._connection.need_flush()

    def begin_subject(self, order: int, subject: str) -> None:
        """Note the first request to another subject than the last one."""
        self._out.subject = subject
        self._asked.begin(order, subject)

    def _note_subject(self, order: int, raw: bytes) -> None:
        subject = subjects.decode(raw)
        if subject != self._out.subject:
            self.begin_subject(order, subject)

    def override_no_responders(
        self, callback: RequestCallback, ends_early: bool
    ) -> RequestCallback:
        """Return a callback for a request that a 503 ends, or not, whatever the client's option says."""
        return _OVERRIDES[bool(ends_early)](callback)

    def send(
        self,
        subject: bytes,
        payload: bytes,
        callback: RequestCallback,
        headers: bytes | None,
        timeout_ms: Any,
    ) -> tuple[int, int]:
        """Send a request that is not for C: with headers, or with arguments that it does not know.

        timeout_ms is what `use_timeout` has accepted.

        Returns:
            The request's number, and the C code of the framing call, errors included.
        """
        had_begun = self._out.run_start
        order, code = self._publish(subject, payload, headers)
        if code >= 0:
            self._note_subject(order, subject)
            self.waiting[order] = callback
            begun_at = self._out.run_start
            if not begun_at:
                self.begin_run(order)
            elif not had_begun and begun_at > order:  # by a signal handler's request, meanwhile
                seconds = milliseconds(timeout_ms, "timeout_ms") / 1000
                if seconds:
                    self.deadlines.after(seconds, partial(self._expire_alone, order))
        return order, code

    def _expire_alone(self, order: int) -> None:
        """Fail a request that is in no run, unless it has ended."""
        if order in self.waiting:
            self.expired(order)

    def send_many(
        self,
        subject: bytes,
        payload: bytes,
        callback: RequestCallback,
        timeout: float,
        headers: bytes | None,
        stall: float,
        max_msgs: int,
        sentinel: Sentinel | None,
    ) -> tuple[int, int]:
        """Send a request that takes many answers; see `Nats.request_many`.

        Args:
            subject, payload, callback, headers: as for `send`.
            timeout: seconds for all answers together; 0: no limit.
            stall: seconds without an answer, after the first one, that end the request; 0: no limit.
            max_msgs: the number of answers that end it; 0: any number.
            sentinel: tells the last answer; None: no answer is special.

        Returns:
            The request's number, and the C code of the framing call, errors included.
        """
        self._connection.guard.check_thread()
        order, code = self._publish(subject, payload, headers)
        if code >= 0:
            self._note_subject(order, subject)
            self.many[order] = many = ManyRequest(self, order, callback)
            many.stall, many.left, many.sentinel = stall, max_msgs, sentinel
            if timeout:
                self.deadlines.add(many, timeout)
        return order, code

    def _publish(self, subject: bytes, payload: bytes, headers: bytes | None) -> tuple[int, int]:
        """Frame a request. Return its number and the C code."""
        if not self._prefix:
            self.open_inbox()
        order = self._connection.next_order()
        reply = self._prefix + b"%d" % order
        return order, self._out.publish(subject, reply, headers, payload, order)

    def expired(self, order: int) -> None:
        """Fail a request that has timed out. Its frame is not sent if it is still in the buffer."""
        if self._connection.guard.forked:
            return  # a callback has forked: the others are called in the parent
        self.withdraw(order)
        error = errors.RequestTimeoutError("request timeout")
        error.subject = self._asked.subject_of(order)
        self._fail(order, error)

    def _fail(self, order: int, error: errors.NatsError) -> None:
        self.call(self.waiting.pop(order), None, error, None)

    def cancel(self, order: int) -> None:
        """Forget a request without a call. Does nothing if it has ended."""
        many = self.many.get(order)
        if many is not None:
            many.cancelled()
        elif self.waiting.pop(order, None) is None:
            self.ending.pop(order, None)
            return
        self.withdraw(order)

    def withdraw(self, order: int) -> None:
        """Remove the unsent frame of a request, before the next write and together with others."""
        if not self.withdrawn:
            self._connection.turn.soon(self.purge)
            self._out.wants_notice = True
        self.withdrawn.append(order)

    def purge(self) -> None:
        """Remove the frames of withdrawn requests from the buffer."""
        if self.withdrawn:
            tags, self.withdrawn = sorted(self.withdrawn), []
            if len(self._out):
                self._out.remove(tags)

    def take_all(self) -> list[Source]:
        """Empty the tables. Return (number, a function that fails the request) for each request.

        Meanwhile a finalizer or a signal handler may send or cancel requests. So each request leaves its
        table alone, and one that is sent meanwhile stays.
        """
        self.times.stop()  # no deadline for what has failed
        waiting, many = list(self.waiting), list(self.many)
        # In C, and each step at once: None for one that was cancelled meanwhile.
        taken = map(self.waiting.pop, waiting, repeat(None))
        self.ending.update(zip(waiting, taken, strict=True))
        for order in many:
            one = self.many.pop(order, None)
            if one is not None:
                self.ending[order] = one
                self.deadlines.end(one)
                self.deadlines.end(one.stalled)
        return [map(self._ending, waiting), map(self._ending, many)]

    def _ending(self, order: int) -> tuple[int, Completion]:
        return order, partial(self.end, order)

    def end(self, order: int, error: errors.NatsError | None) -> None:
        """Make the last call of a request in `ending`, unless it has been cancelled since."""
        last = self.ending.pop(order, None)
        if isinstance(last, ManyRequest):
            last.fail(error)
        elif last is not None:
            self.call(last, None, error, None)

    def fail_all(self) -> None:
        """Fail all requests, which wait for a connection, with ``disconnected``."""
        failing = InOrder(self.take_all())
        self._connection.turn.soon_each(failing, errors.ConnectionClosedError("disconnected"))

    def discarded(self, tags: list[int]) -> None:
        """Fail the requests with these numbers: the new server does not take them."""
        error = errors.MaxPayloadError("the server does not take the request: it was discarded")
        for order in tags:
            self.soon(self._fail_waiting, order, error)

    def subject_of(self, order: int) -> str:
        """Return the subject of a request that waits, for an error."""
        return self._asked.subject_of(order)

    def denied(self, error: errors.PermissionsViolationError) -> None:
        """Fail the requests to the subject that the user may not publish to."""
        if error.subject is None:
            return
        for order in self._asked.take(error.subject):
            if order in self.waiting or order in self.many:
                self.withdraw(order)
                self.soon(self._fail_waiting, order, error)

    def inbox_refused(self, error: errors.NatsError) -> None:
        """Fail all requests: the server refuses the subscription to their answers."""
        orders = [*self.waiting, *self.many]
        failing = map(lambda order: partial(self._fail_waiting, order), orders)
        self._connection.turn.soon_each(failing, error)

    def _fail_waiting(self, order: int, error: errors.NatsError) -> None:
        """Fail a request, unless it has ended since; a callback before it may have cancelled it."""
        if order in self.waiting:
            self._fail(order, error)
        elif order in self.many:
            self.many[order].fail(error)
        self.ended()

    def inbox_closed(self) -> None:
        """Forget the shared inbox, whose subscription has ended. The next request opens another."""
        self._prefix = b""
        self._out.set_inbox(b"")

    def open_inbox(self) -> None:
        """Subscribe to the answers of all requests."""
        if self._out.limits.closed:
            return  # the request will be refused, and a refused call must not subscribe
        prefix = f"{self._options.inbox_prefix}.{next_nuid()}."
        sub = self._subscriptions.add(f"{prefix}*", _unused_callback, None)
        sub.fast = False
        sub.inbox = self
        self._prefix = prefix.encode("utf-8", "surrogateescape")
        self._out.set_inbox(self._prefix)
        sub.prefix_len = len(self._prefix)

    # The methods of `protocol.subscription.Inbox`.

    def answer(self, order: int, payload: bytes, headers: bytes | None) -> None:
        """Give an answer to its request. Ignore it if no request waits under its number."""
        if not order:
            order = self._only_request()
        if headers is not None and not payload and is_no_responders(headers):
            self._no_responders(order, headers)
            return
        callback = self.waiting.pop(order, None)
        if callback is None:
            if order in self.many:
                self.many[order].answer(payload, headers)
            return
        try:
            callback(payload, None, headers)
        except BaseException as exc:
            errors.show_misfit(exc, callback, 1)
            self.failed(exc)

    def _only_request(self) -> int:
        """Return the number of the only request, or 0 if there are more or none.

        A server that maps subjects may rewrite the inbox. An answer without a number is for the only
        request then.
        """
        return next(iter([*self.waiting, *self.many])) if len(self) == 1 else 0

    def _no_responders(self, order: int, headers: bytes) -> None:
        if order in self.many:
            self.many[order].answer(b"", headers)
        elif order in self.waiting:
            callback = self.waiting[order]
            if (
                callback.ends_early
                if isinstance(callback, _NoRespondersOverride)
                else self._early_503
            ):
                error = errors.NoRespondersError("no responders")
                error.subject = self._asked.subject_of(order)
                self._fail(order, error)


def _unused_callback(
    subject: str, payload: bytes, reply: str | None, headers: bytes | None
) -> None:
    raise AssertionError("the shared inbox has no callback of its own")
