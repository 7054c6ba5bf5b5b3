"""Requests that take many answers (ADR-47).

A `ManyRequest` is its own deadline, that of all answers together. `stalled` is a second one, which
begins again with each answer. Whatever ends the request, `fail` or the last answer removes it from
the table first, so that the final call ``callback(None, err, None)`` is made once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .. import errors
from ..headers import Headers
from ..net import Deadline, Deadlines

# Called with (payload, headers) of an answer: is it the last one?
Sentinel = Callable[[bytes, bytes | None], object]

# Called with (response, err, headers).
RequestCallback = Callable[[bytes | None, errors.NatsError | None, bytes | None], object]

NO_RESPONDERS = b"NATS/1.0 503"
_STATUS = b"NATS/1.0 "


class Owner(Protocol):
    """What a `ManyRequest` needs of the table that has it."""

    deadlines: Deadlines
    many: dict[int, ManyRequest]
    ending: dict[int, Any]
    call: Callable[..., None]
    soon: Callable[..., None]

    def failed(self, exc: BaseException) -> None:
        """Deal with what a callback raised; see `Turn.failed`."""

    def ended(self) -> None:
        """Take note that the request has left the table."""

    def end(self, order: int, error: errors.NatsError | None) -> None:
        """Make the last call of a request in `ending`, unless it has been cancelled since."""

    def withdraw(self, order: int) -> None:
        """Remove the request's unsent frame."""

    def subject_of(self, order: int) -> str:
        """Return the request's subject."""


class ManyRequest(Deadline):
    """One request with any number of answers, and the deadline for all of them."""

    __slots__ = (
        "answered",
        "callback",
        "ended",
        "left",
        "order",
        "requests",
        "sentinel",
        "stall",
        "stalled",
    )

    def __init__(self, requests: Owner, order: int, callback: RequestCallback) -> None:
        self.requests = requests
        self.order = order
        self.callback = callback
        self._number = 0
        self.left = 0  # how many answers are to come; 0: any number
        self.sentinel: Sentinel | None = None
        self.stall = 0.0  # seconds after an answer without another one; 0: no limit
        self.stalled: Deadline | None = None
        self.answered = False  # at least once
        self.ended = False  # the final call was made, or will not be made

    def answer(self, payload: bytes, headers: bytes | None) -> None:
        """Take a message that has come to the inbox."""
        requests = self.requests
        requests.deadlines.end(self.stalled)
        if headers is not None and not payload and headers.startswith(_STATUS):
            self.fail(status_error(headers, requests.subject_of(self.order)))
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
        self.answered = True
        ends = self.left == 1
        if self.left:
            self.left -= 1
        if ends:
            self._forget()
            requests.ending[self.order] = self
        elif self.stall:
            self.stalled = requests.deadlines.after(self.stall, self._silent)
        try:
            requests.call(self.callback, payload, None, headers)
        finally:
            if ends:
                requests.soon(requests.end, self.order, None)

    def _silent(self) -> None:
        self.fail(None)

    def _expire(self) -> None:
        """End the request when its time is over; with an error only if no answer has come."""
        self.requests.withdraw(self.order)
        error = errors.RequestTimeoutError("request timeout")
        error.subject = self.requests.subject_of(self.order)
        self.fail(None if self.answered else error)

    def fail(self, error: errors.NatsError | None) -> None:
        """End the request: call back with the error, or with None for an orderly end.

        Does nothing if the request has ended: a sentinel may disconnect the client, and a client that was
        disconnected may fail the request a while after it has left the table.
        """
        self.requests.deadlines.end(self.stalled)
        if self.ended:
            return
        self.ended = True
        self._forget()
        self.requests.call(self.callback, None, error, None)

    def cancelled(self) -> None:
        """End the request without a call."""
        self.ended = True
        self.requests.deadlines.end(self.stalled)
        self._forget()

    def _forget(self) -> None:
        self.requests.many.pop(self.order, None)
        self.requests.deadlines.end(self)
        self.requests.ended()


def status_error(headers: bytes, subject: str) -> errors.NatsError:
    """Return the error that a status message stands for; subject is that of the request."""
    if headers.startswith(NO_RESPONDERS):
        return errors.NoRespondersError("no responders", subject=subject)
    found = Headers.parse(headers)
    return errors.NatsError(f"{found.status} {found.description or ''}".strip())
