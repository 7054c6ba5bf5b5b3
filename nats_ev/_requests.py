"""Requests and their answers, over one wildcard inbox that all of a client's requests share.

Knows the table of what waits for an answer; the connection and the deadlines are the client's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from . import errors
from ._deadlines import Deadline
from .headers import Headers
from .nuid import next_nuid

if TYPE_CHECKING:
    from ._core import Core

RequestCallback = Callable[[bytes | None, errors.NatsError | None, bytes | None], object]
# (payload, headers) of an answer -> whether it says that no more will come.
Sentinel = Callable[[bytes, bytes | None], object]

_STATUS = b"NATS/1.0 "
_NO_RESPONDERS = b"NATS/1.0 503"


class Request(Deadline):
    """One request in flight."""

    __slots__ = ("callback", "early_503", "order", "requests", "token")

    def __init__(
        self,
        requests: Requests,
        token: bytes,
        order: int,
        callback: RequestCallback,
        early_503: bool,
    ) -> None:
        self.requests = requests
        self.token = token
        self.order = order
        self.callback = callback
        self.early_503 = early_503
        self.fifo = None

    def answer(self, payload: bytes, headers: bytes | None) -> None:
        """A message has come to its inbox."""
        requests = self.requests
        if headers is not None and not payload and headers.startswith(_NO_RESPONDERS):
            if self.early_503:
                self.fail(errors.NoRespondersError("no responders"))
            return
        del requests.waiting[self.token]
        requests.deadlines.end(self)
        try:
            self.callback(payload, None, headers)
        except BaseException as exc:
            requests.failed(exc)

    def expire(self) -> None:
        """Its time is over. What of it is still unsent will not be sent."""
        self.requests.withdraw(self)
        self.fail(errors.RequestTimeoutError("request timeout"))

    def fail(self, error: errors.NatsError | None) -> None:
        """End it with an error."""
        requests = self.requests
        requests.waiting.pop(self.token, None)
        requests.deadlines.end(self)
        requests.call(self.callback, None, error, None)


class ManyRequest(Request):
    """One request with any number of answers (ADR-47)."""

    __slots__ = ("left", "sentinel", "stall", "stalled", "told")

    def __init__(
        self, requests: Requests, token: bytes, order: int, callback: RequestCallback
    ) -> None:
        super().__init__(requests, token, order, callback, True)
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
        if self.told:
            self.fail(None)
        else:
            super().expire()

    def fail(self, error: errors.NatsError | None) -> None:
        """End it, with an error or in order."""
        self.requests.deadlines.end(self.stalled)
        super().fail(error)

    def _forget(self) -> None:
        self.requests.waiting.pop(self.token, None)
        self.requests.deadlines.end(self)


def _status_error(headers: bytes) -> errors.NatsError:
    if headers.startswith(_NO_RESPONDERS):
        return errors.NoRespondersError("no responders")
    found = Headers.parse(headers)
    return errors.NatsError(f"{found.status} {found.description or ''}".strip())


class Requests:
    """What waits for an answer, by the last token of its inbox."""

    def __init__(self, core: Core) -> None:
        self._core = core
        connection = core.connection
        self.deadlines = connection.deadlines
        self.call = connection.turn.call
        self.soon = connection.turn.soon
        self.failed = connection.turn.failed
        self.waiting: dict[bytes, Request] = {}
        self.early_503 = core.options.no_responders
        self._connection = connection
        self._out = connection.out
        self._prefix = b""
        self._withdrawn: list[int] = []

    def send(
        self,
        subject: bytes,
        payload: bytes,
        callback: RequestCallback,
        timeout: float,
        headers: bytes | None,
        early_503: bool | None = None,
    ) -> int:
        """Publish with a reply subject of its own; returns the C code, errors included."""
        if not self._prefix:
            self._open_inbox()
        order = self._connection.next_order()
        token = b"%d" % order
        code = self._out.publish(subject, self._prefix + token, headers, payload, order)
        if code >= 0:
            if early_503 is None:
                early_503 = self.early_503
            self.waiting[token] = request = Request(self, token, order, callback, early_503)
            if timeout:
                self.deadlines.add(request, timeout)
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
        """As `send`, for any number of answers."""
        if not self._prefix:
            self._open_inbox()
        order = self._connection.next_order()
        token = b"%d" % order
        code = self._out.publish(subject, self._prefix + token, headers, payload, order)
        if code >= 0:
            self.waiting[token] = request = ManyRequest(self, token, order, callback)
            request.stall, request.left, request.sentinel = stall, max_msgs, sentinel
            if timeout:
                self.deadlines.add(request, timeout)
        return code

    def withdraw(self, request: Request) -> None:
        """Its unsent frame is to be removed: at the next write, together with others."""
        if not self._withdrawn:
            self._connection.turn.soon(self.purge)
        self._withdrawn.append(request.order)

    def purge(self) -> None:
        """Remove the frames of withdrawn requests from the buffer."""
        if self._withdrawn:
            tags, self._withdrawn = sorted(self._withdrawn), []
            if len(self._out):
                self._out.remove(tags)

    def take_all(self) -> Iterator[tuple[int, Callable[[errors.NatsError | None], None]]]:
        """All that wait, as completions to be failed; they wait no more."""
        waiting, self.waiting = self.waiting, {}
        for request in waiting.values():
            self.deadlines.end(request)
            yield request.order, request.fail

    def fail_all(self) -> None:
        """Those that wait for a connection will not be sent."""
        for _, fail in self.take_all():
            self._connection.turn.soon(fail, errors.ConnectionClosedError("disconnected"))

    def discarded(self, tags: list[int]) -> None:
        """The server that we have come to would not take these."""
        error = errors.MaxPayloadError("the server does not take the request: it was discarded")
        for tag in tags:
            request = self.waiting.pop(b"%d" % tag, None)
            if request is not None:
                self.soon(request.fail, error)

    def inbox_refused(self, error: errors.NatsError) -> None:
        """The server does not let us listen for answers."""
        for _, fail in self.take_all():
            self.soon(fail, error)

    def inbox_closed(self) -> None:
        """The subscription of the shared inbox has ended: the next request opens another."""
        self._prefix = b""

    def _open_inbox(self) -> None:
        prefix = f"{self._core.options.inbox_prefix}.{next_nuid()}."
        sub = self._core.subscriptions.add(f"{prefix}*", _never, None)
        sub.plain = False
        sub.on_reply = self._on_reply
        self._prefix = prefix.encode("utf-8", "surrogateescape")
        sub.prefix_len = len(self._prefix)

    def _on_reply(self, token: bytes, payload: bytes, headers: bytes | None) -> None:
        request = self.waiting.get(token)
        if request is not None:
            request.answer(payload, headers)
        elif len(self.waiting) == 1 and not token.isdigit():
            # A server that maps subjects has rewritten the inbox: there is only one that it can be for.
            (request,) = self.waiting.values()
            request.answer(payload, headers)


def _never(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
    raise AssertionError("the shared inbox has no callback of its own")
