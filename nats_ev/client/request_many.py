"""Requests with many answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .. import errors
from ..headers import Headers
from ..net import Deadline, Deadlines

# (payload, headers) of an answer -> whether it says that no more will come.
Sentinel = Callable[[bytes, bytes | None], object]

# (response, err, headers)
RequestCallback = Callable[[bytes | None, errors.NatsError | None, bytes | None], object]

NO_RESPONDERS = b"NATS/1.0 503"
_STATUS = b"NATS/1.0 "


class Owner(Protocol):
    """What a request with many answers needs of the table that it is in."""

    deadlines: Deadlines
    many: dict[int, ManyRequest]
    call: Callable[..., None]
    soon: Callable[..., None]

    def failed(self, exc: BaseException) -> None:
        """Deal with what a callback raised."""

    def withdraw(self, order: int) -> None:
        """Remove the request's unsent frame."""


class ManyRequest(Deadline):
    """One request with any number of answers (ADR-47)."""

    __slots__ = ("callback", "left", "order", "requests", "sentinel", "stall", "stalled", "told")

    def __init__(self, requests: Owner, order: int, callback: RequestCallback) -> None:
        self.requests = requests
        self.order = order
        self.callback = callback
        self._fifo = None
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
            self.fail(status_error(headers))
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

    def _expire(self) -> None:
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


def status_error(headers: bytes) -> errors.NatsError:
    """Return the error that a status message stands for."""
    if headers.startswith(NO_RESPONDERS):
        return errors.NoRespondersError("no responders")
    found = Headers.parse(headers)
    return errors.NatsError(f"{found.status} {found.description or ''}".strip())
