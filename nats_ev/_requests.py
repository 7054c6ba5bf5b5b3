"""Requests and their answers, over one wildcard inbox that all of a client's requests share.

Knows the table of what waits for an answer; the connection and the deadlines are the client's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from . import errors
from ._deadlines import NEVER, Deadline
from ._wire import request
from .headers import Headers
from .nuid import next_nuid
from .options import milliseconds

if TYPE_CHECKING:
    from ._core import Core

RequestCallback = Callable[[bytes | None, errors.NatsError | None, bytes | None], object]
# (payload, headers) of an answer -> whether it says that no more will come.
Sentinel = Callable[[bytes, bytes | None], object]

_STATUS = b"NATS/1.0 "
_NO_RESPONDERS = b"NATS/1.0 503"
# Time-outs that are remembered; those that nothing waits for are forgotten when there are more.
_LINES_MAX = 256


# (callback, where its deadline is, whether "no responders" ends it; None: as the client's option says)
Waiting = tuple[RequestCallback, "Line", bool | None]


class Line(Deadline):
    """Requests of one time-out, in the order of their deadlines, as one deadline: that of the first."""

    __slots__ = ("_requests", "seconds", "times")

    def __init__(self, requests: Requests, seconds: float) -> None:
        self._requests = requests
        self.seconds = seconds or math.inf
        self.times: dict[int, float] = {}  # by order of call
        # None makes the next request arm it; without a time-out nothing ever has to.
        self.fifo = None if seconds else NEVER

    def arm(self) -> None:
        """Wait for the first deadline."""
        deadlines = self._requests.deadlines
        first = next(iter(self.times.values()))
        deadlines.add(self, max(0.0, first - deadlines.clock()))

    def expire(self) -> None:
        """The first deadline is over, or was when it was waited for: it may have been answered."""
        times, now = self.times, self._requests.deadlines.clock()
        due = list(takewhile(lambda order: times[order] <= now, times))
        if times:
            self.arm()  # before any callback: in a loop that it nests the rest expires, too
        for order in due:
            if order in times:
                self._requests.expired(order)


class ManyRequest(Deadline):
    """One request with any number of answers (ADR-47)."""

    __slots__ = ("callback", "left", "order", "requests", "sentinel", "stall", "stalled", "told")

    def __init__(self, requests: Requests, order: int, callback: RequestCallback) -> None:
        self.requests = requests
        self.order = order
        self.callback = callback
        self.fifo = None
        self.left = 0  # answers that are still wanted; 0: any number
        self.sentinel: Sentinel | None = None
        self.stall = 0.0  # seconds of silence behind an answer that end it; 0: any time
        self.stalled: Deadline | None = None
        self.told = False  # at least one answer has come

    def answer(self, payload: bytes, headers: bytes | None) -> None:
        """A message has come to its inbox."""
        requests = self.requests
        requests.deadlines.end(self.stalled)
        if headers is not None and not payload and headers.startswith(_STATUS):
            self.fail(_status_error(headers))
            return
        if self.sentinel is not None:
            try:
                last = self.sentinel(payload, headers)
            except BaseException as exc:
                self.fail(None)
                requests.failed(exc)
                return
            if last:
                self.fail(None)
                return
        self.told = True
        ends = self.left == 1
        if self.left:
            self.left -= 1
        if ends:
            self._forget()
        elif self.stall:
            self.stalled = requests.deadlines.after(self.stall, self._silent)
        try:
            requests.call(self.callback, payload, None, headers)
        finally:
            if ends:
                requests.soon(self.callback, None, None, None)

    def _silent(self) -> None:
        self.fail(None)

    def expire(self) -> None:
        """Its time is over: an error only when nobody has answered."""
        self.requests.withdraw(self.order)
        self.fail(None if self.told else errors.RequestTimeoutError("request timeout"))

    def fail(self, error: errors.NatsError | None) -> None:
        """End it, with an error or in order."""
        self.requests.deadlines.end(self.stalled)
        self._forget()
        self.requests.call(self.callback, None, error, None)

    def _forget(self) -> None:
        self.requests.many.pop(self.order, None)
        self.requests.deadlines.end(self)


def _status_error(headers: bytes) -> errors.NatsError:
    if headers.startswith(_NO_RESPONDERS):
        return errors.NoRespondersError("no responders")
    found = Headers.parse(headers)
    return errors.NatsError(f"{found.status} {found.description or ''}".strip())


class Requests:
    """What waits for an answer, by the last token of its inbox: the number of the call."""

    def __init__(self, core: Core) -> None:
        self._core = core
        connection = core.connection
        self.deadlines = connection.deadlines
        self.call = connection.turn.call
        self.soon = connection.turn.soon
        self.failed = connection.turn.failed
        self.waiting: dict[int, Waiting] = {}
        self.many: dict[int, ManyRequest] = {}
        self.lines: dict[Any, Line] = {}  # by time-out as the caller gave it
        self._early_503 = core.options.no_responders
        self._connection = connection
        self._out = connection.out
        self._wbuf = connection.out.c
        self._clock = connection.deadlines.clock
        self._prefix = b""
        self._withdrawn: list[int] = []

    def __len__(self) -> int:
        return len(self.waiting) + len(self.many)

    def line(self, timeout_ms: Any) -> Line:
        """The line of a time-out that `lines` does not have yet. Raises what a bad one deserves."""
        seconds = milliseconds(timeout_ms, "timeout_ms") / 1000
        if len(self.lines) >= _LINES_MAX:
            self.lines = {key: line for key, line in self.lines.items() if line.times}
        self.lines[timeout_ms] = line = Line(self, seconds)
        return line

    def send(
        self,
        index: int,
        payload: bytes,
        callback: RequestCallback,
        line: Line,
        early_503: bool | None,
    ) -> int:
        """The hot path: to an interned subject. Returns the C code, errors included."""
        if not self._prefix:
            self._open_inbox()
        connection = self._connection
        connection.last_order = order = connection.last_order + 1
        code = request(self._wbuf, index, payload, len(payload), order)
        if code >= 0:
            self.waiting[order] = (callback, line, early_503)
            line.times[order] = self._clock() + line.seconds
            if line.fifo is None:
                line.arm()
        return code  # type: ignore[no-any-return]

    def send_any(
        self,
        subject: bytes,
        payload: bytes,
        callback: RequestCallback,
        line: Line,
        early_503: bool | None,
        headers: bytes | None,
    ) -> int:
        """`send` to any subject, with headers."""
        order, code = self._publish(subject, payload, headers)
        if code >= 0:
            self.waiting[order] = (callback, line, early_503)
            line.times[order] = self._clock() + line.seconds
            if line.fifo is None:
                line.arm()
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
            self._open_inbox()
        order = self._connection.next_order()
        reply = self._prefix + b"%d" % order
        return order, self._out.publish(subject, reply, headers, payload, order)

    def expired(self, order: int) -> None:
        """Its time is over. What of it is still unsent will not be sent."""
        self.withdraw(order)
        self._fail(order, errors.RequestTimeoutError("request timeout"))

    def _fail(self, order: int, error: errors.NatsError) -> None:
        callback, line, _ = self.waiting.pop(order)
        del line.times[order]
        self.call(callback, None, error, None)

    def withdraw(self, order: int) -> None:
        """Its unsent frame is to be removed: at the next write, together with others."""
        if not self._withdrawn:
            self._connection.turn.soon(self.purge)
        self._withdrawn.append(order)

    def purge(self) -> None:
        """Remove the frames of withdrawn requests from the buffer."""
        if self._withdrawn:
            tags, self._withdrawn = sorted(self._withdrawn), []
            if len(self._out):
                self._out.remove(tags)

    def take_all(self) -> Iterator[tuple[int, Callable[[errors.NatsError | None], None]]]:
        """All that wait, as completions to be failed; they wait no more."""
        waiting, self.waiting = self.waiting, {}
        many, self.many = self.many, {}
        for order, (callback, line, _) in waiting.items():
            del line.times[order]
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
                callback, line, _ = self.waiting.pop(order)
                del line.times[order]
                self.soon(callback, None, error, None)
            elif order in self.many:
                self.soon(self.many.pop(order).fail, error)

    def inbox_refused(self, error: errors.NatsError) -> None:
        """The server does not let us listen for answers."""
        for _, fail in self.take_all():
            self.soon(fail, error)

    def inbox_closed(self) -> None:
        """The subscription of the shared inbox has ended: the next request opens another."""
        self._prefix = b""

    def _open_inbox(self) -> None:
        if self._out.limits.closed:
            return  # the call is refused, and a refused call subscribes to nothing
        prefix = f"{self._core.options.inbox_prefix}.{next_nuid()}."
        sub = self._core.subscriptions.add(f"{prefix}*", _never, None)
        sub.plain = False
        sub.inbox = self
        self._prefix = prefix.encode("utf-8", "surrogateescape")
        self._out.set_inbox(self._prefix)
        sub.prefix_len = len(self._prefix)

    # As `subscription.Inbox`.

    def answer(self, order: int, payload: bytes, headers: bytes | None) -> None:
        """A message has come to the shared inbox."""
        if not order:
            order = self._only()
        if headers is not None and not payload and headers.startswith(_NO_RESPONDERS):
            self._no_responders(order, headers)
            return
        waiting = self.waiting.pop(order, None)
        if waiting is None:
            if order in self.many:
                self.many[order].answer(payload, headers)
            return
        callback, line, _ = waiting
        del line.times[order]
        try:
            callback(payload, None, headers)
        except BaseException as exc:
            self.failed(exc)

    def answers(self, run: Iterable[tuple[int, int, int]], data: bytes) -> None:
        """`answer` for each of several without headers."""
        for order, start, end in run:
            # Looked up each time: a callback may have made all others fail.
            waiting = self.waiting.pop(order, None)
            if waiting is None:
                self.answer(order, data[start:end], None)
                continue
            callback, line, _ = waiting
            del line.times[order]
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
            early = self.waiting[order][2]
            if self._early_503 if early is None else early:
                self._fail(order, errors.NoRespondersError("no responders"))


def _never(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
    raise AssertionError("the shared inbox has no callback of its own")
