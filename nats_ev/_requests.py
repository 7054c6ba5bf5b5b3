"""Requests and their answers, over one wildcard inbox that all of a client's requests share.

Knows the table of what waits for an answer; the connection and the deadlines are the client's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from . import errors
from ._deadlines import Deadline
from .nuid import next_nuid

if TYPE_CHECKING:
    from .client import Nats

RequestCallback = Callable[[bytes | None, errors.NatsError | None, bytes | None], object]

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


class Requests:
    """What waits for an answer, by the last token of its inbox."""

    def __init__(self, client: Nats) -> None:
        self._client = client
        connection = client._connection
        self.deadlines = connection.deadlines
        self.call = connection.turn.call
        self.failed = connection.turn.failed
        self.waiting: dict[bytes, Request] = {}
        self.early_503 = client._options.no_responders
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

    def inbox_closed(self) -> None:
        """The subscription of the shared inbox has ended: the next request opens another."""
        self._prefix = b""

    def _open_inbox(self) -> None:
        client = self._client
        prefix = f"{client._options.inbox_prefix}.{next_nuid()}."
        sub = client._new_subscription(f"{prefix}*", _never, None)
        sub.plain = False
        sub.on_reply = self._on_reply
        self._prefix = prefix.encode("utf-8", "surrogateescape")
        sub.prefix_len = len(self._prefix)

    def _on_reply(self, token: bytes, payload: bytes, headers: bytes | None) -> None:
        request = self.waiting.get(token)
        if request is not None:
            request.answer(payload, headers)


def _never(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
    raise AssertionError("the shared inbox has no callback of its own")
