"""Requests and their answers, over one wildcard inbox that all of a client's requests share.

Knows the table of what waits for an answer; the connection and the deadlines are the client's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol

from .. import errors
from ..arguments import milliseconds
from ..connection import Connection
from ..nuid import next_nuid
from ..options import Options
from .expiry import EXPIRY_SLOP, MAX_GROUPS, TimeoutGroup
from .request_many import NO_RESPONDERS, ManyRequest, RequestCallback, Sentinel
from .subscriptions import Subscriptions


class _Choosing(partial[object]):
    """The callback of a request for which "no responders" means something else than for others."""

    ends_early: bool


class Owner(Protocol):
    """What the requests need of their client."""

    def refuse_if_draining(self) -> None:
        """Raise `ConnectionDrainingError` after drain()."""


class Requests:
    """What waits for an answer, by the last token of its inbox: the number of the call."""

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
        self.waiting: dict[int, RequestCallback] = {}  # always the same dict
        self.many: dict[int, ManyRequest] = {}
        self._lines: dict[Any, TimeoutGroup] = {}  # by time-out as the caller gave it
        self._lines_max = MAX_GROUPS
        # The time-out of the last request as the caller gave it, and the first request since it was
        # another one or `_end_turn` was called, 0: none. Deadlines are counted from that call.
        self.timeout: Any = math.nan  # which no other is equal to
        self.first = 0
        self._line: TimeoutGroup | None = None
        self._ended: list[tuple[TimeoutGroup, int, int]] = []  # this turn's runs of other time-outs
        self._last_run: tuple[TimeoutGroup | None, list[Any]] = (None, [])
        self._early_503 = options.no_responders
        self._connection = connection
        self._out = connection.out
        self._prefix = b""
        self.withdrawn: list[int] = []  # whose frames are to be removed

    def __len__(self) -> int:
        return len(self.waiting) + len(self.many)

    # Sending. The hot path, from an interned subject, is in `Nats.request`.

    def choose(self, timeout_ms: Any) -> None:
        """The next requests have another time-out. Raises what a bad one deserves, and when draining."""
        self._owner.refuse_if_draining()
        try:
            line = self._lines.get(timeout_ms)
        except TypeError:  # not even hashable
            line = None
        if line is None:
            line = self._new_line(timeout_ms)
        self._end_run()
        self._line = line
        self.timeout = timeout_ms

    def refuse(self) -> None:
        """A drain has begun: every request comes to `choose`, which looks."""
        self.timeout = math.nan

    def _new_line(self, timeout_ms: Any) -> TimeoutGroup:
        line = TimeoutGroup(
            self.waiting,
            self.deadlines,
            self.expired,
            milliseconds(timeout_ms, "timeout_ms") / 1000,
        )
        if len(self._lines) >= self._lines_max:
            for old in self._lines.values():
                old.trim()
            for key in [key for key, old in self._lines.items() if not old.runs]:
                self._lines.pop(key).cancel()
            self._lines_max = max(MAX_GROUPS, 2 * len(self._lines))
            self._last_run = (None, [])
        self._lines[timeout_ms] = line
        return line

    def begin_run(self, order: int) -> None:
        """The first request of a turn, or of a time-out in it."""
        self.first = order
        if not self._ended:
            self.soon(self._end_turn)

    def _end_run(self) -> None:
        if self.first:
            assert self._line is not None
            self._ended.append((self._line, self.first, self._connection.last_order))
            self.first = 0

    def _end_turn(self) -> None:
        """From now on their time is running."""
        self._end_run()
        ended, self._ended = self._ended, []
        now = self.deadlines.clock()
        for line, first, last in ended:
            deadline = now + line.seconds
            last_line, run = self._last_run
            if not line.seconds:
                self._last_run = (None, [])
            elif line is last_line and line.waiting and deadline <= run[0]:
                run[2] = last  # no other line's are in between
            else:
                self._last_run = (line, line.add(deadline + EXPIRY_SLOP, first, last))

    def choosing(self, callback: RequestCallback, ends_early: bool) -> RequestCallback:
        """The callback of a request that "no responders" ends, or not, whatever the client's option says."""
        choosing = _Choosing(callback)
        choosing.ends_early = ends_early
        return choosing

    def send_any(
        self,
        subject: bytes,
        payload: bytes,
        callback: RequestCallback,
        headers: bytes | None,
    ) -> int:
        """To any subject, with headers. Returns the C code, errors included."""
        order, code = self._publish(subject, payload, headers)
        if code >= 0:
            self.waiting[order] = callback
            if not self.first:
                self.begin_run(order)
        return code

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
    ) -> int:
        """As `send_any`, for any number of answers."""
        order, code = self._publish(subject, payload, headers)
        if code >= 0:
            self.many[order] = many = ManyRequest(self, order, callback)
            many.stall, many.left, many.sentinel = stall, max_msgs, sentinel
            if timeout:
                self.deadlines.add(many, timeout)
        return code

    def _publish(self, subject: bytes, payload: bytes, headers: bytes | None) -> tuple[int, int]:
        """(number of the call, C code)."""
        if not self._prefix:
            self.open_inbox()
        order = self._connection.next_order()
        reply = self._prefix + b"%d" % order
        return order, self._out.publish(subject, reply, headers, payload, order)

    def expired(self, order: int) -> None:
        """Its time is over. What of it is still unsent will not be sent."""
        self.withdraw(order)
        self._fail(order, errors.RequestTimeoutError("request timeout"))

    def _fail(self, order: int, error: errors.NatsError) -> None:
        self.call(self.waiting.pop(order), None, error, None)

    def withdraw(self, order: int) -> None:
        """Its unsent frame is to be removed: at the next write, together with others."""
        if not self.withdrawn:
            self._connection.turn.soon(self.purge)
        self.withdrawn.append(order)

    def purge(self) -> None:
        """Remove the frames of withdrawn requests from the buffer."""
        if self.withdrawn:
            tags, self.withdrawn = sorted(self.withdrawn), []
            if len(self._out):
                self._out.remove(tags)

    def take_all(self) -> Iterator[tuple[int, Callable[[errors.NatsError | None], None]]]:
        """All that wait, as completions to be failed; they wait no more."""
        waiting = list(self.waiting.items())
        self.waiting.clear()
        for line in self._lines.values():
            line.runs.clear()
        self._last_run = (None, [])
        many, self.many = self.many, {}
        for order, callback in waiting:
            yield order, partial(self._tell, callback)
        for order, one in many.items():
            self.deadlines.end(one)
            yield order, one.fail

    def _tell(self, callback: RequestCallback, error: errors.NatsError | None) -> None:
        self.call(callback, None, error, None)

    def fail_all(self) -> None:
        """Those that wait for a connection will not be sent."""
        for _, fail in self.take_all():
            self._connection.turn.soon(fail, errors.ConnectionClosedError("disconnected"))

    def discarded(self, tags: list[int]) -> None:
        """The server that we have come to would not take these."""
        error = errors.MaxPayloadError("the server does not take the request: it was discarded")
        for order in tags:
            if order in self.waiting:
                self.soon(self.waiting.pop(order), None, error, None)
            elif order in self.many:
                self.soon(self.many.pop(order).fail, error)

    def inbox_refused(self, error: errors.NatsError) -> None:
        """The server does not let us listen for answers."""
        for _, fail in self.take_all():
            self.soon(fail, error)

    def inbox_closed(self) -> None:
        """The subscription of the shared inbox has ended: the next request opens another."""
        self._prefix = b""
        self._out.set_inbox(b"")

    def open_inbox(self) -> None:
        """Subscribe to what the answers to all requests come on."""
        if self._out.limits.closed:
            return  # the call is refused, and a refused call subscribes to nothing
        prefix = f"{self._options.inbox_prefix}.{next_nuid()}."
        sub = self._subscriptions.add(f"{prefix}*", _never, None)
        sub.fast = False
        sub.inbox = self
        self._prefix = prefix.encode("utf-8", "surrogateescape")
        self._out.set_inbox(self._prefix)
        sub.prefix_len = len(self._prefix)

    # As `subscription.Inbox`.

    def answer(self, order: int, payload: bytes, headers: bytes | None) -> None:
        """A message has come to the shared inbox."""
        if not order:
            order = self._only()
        if headers is not None and not payload and headers.startswith(NO_RESPONDERS):
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
            self.failed(exc)

    def answers(self, run: Iterable[tuple[int, int, int]], data: bytes) -> None:
        """`answer` for each of several without headers."""
        pop = self.waiting.pop
        for order, start, end in run:
            callback = pop(order, None)
            if callback is None:
                self.answer(order, data[start:end], None)
                continue
            try:
                callback(data[start:end], None, None)
            except BaseException as exc:
                self.failed(exc)

    def _only(self) -> int:
        """A server that maps subjects has rewritten the inbox: it can be for the only request there is."""
        return next(iter(self.waiting or self.many)) if len(self) == 1 else 0

    def _no_responders(self, order: int, headers: bytes) -> None:
        if order in self.many:
            self.many[order].answer(b"", headers)
        elif order in self.waiting:
            callback = self.waiting[order]
            if callback.ends_early if isinstance(callback, _Choosing) else self._early_503:
                self._fail(order, errors.NoRespondersError("no responders"))


def _never(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
    raise AssertionError("the shared inbox has no callback of its own")
