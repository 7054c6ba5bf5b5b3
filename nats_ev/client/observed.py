"""The client whose messages pass through an `Instrumentation`: a subclass, so that all others pay nothing.

``Nats(instrumentation=…)`` is an object of such a subclass if an observer has a hook for messages. A class
that the user has derived from `Nats` gets a subclass of its own. Layers on top and faces call the same public
methods, and so pass through the observers, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..arguments import TAKES_ANSWER, TAKES_MESSAGE, Payload, check_callback
from ..headers import HeadersLike
from ..instrumentation import Observers
from ..protocol import MessageCallback


class Observed:
    """Overrides the methods of `Nats` that send, and those that take callbacks of messages."""

    _observers: Observers

    def publish(
        self,
        subject: str,
        payload: Payload = b"",
        reply_to: str | None = None,
        *,
        headers: HeadersLike | None = None,
    ) -> None:
        """See `Nats.publish`."""
        plain: Any = super()

        def send(headers: HeadersLike | None) -> None:
            if headers is None:
                plain.publish(subject, payload, reply_to)
            else:
                plain.hpublish(subject, headers, payload, reply_to)

        self._observers.publish(send, subject, payload, reply_to, headers)

    pub = publish

    def hpublish(
        self,
        subject: str,
        headers: HeadersLike,
        payload: Payload = b"",
        reply_to: str | None = None,
    ) -> None:
        """See `Nats.hpublish`."""
        plain: Any = super()

        def send(headers: HeadersLike) -> None:
            plain.hpublish(subject, headers, payload, reply_to)

        self._observers.publish(send, subject, payload, reply_to, headers)

    hpub = hpublish

    def request(
        self, subject: str, payload: Payload, cb: Callable[..., object], *args: Any, **kwargs: Any
    ) -> int:
        """See `Nats.request`."""
        return self._request(super(), "request", subject, payload, cb, args, kwargs)

    req = request

    def request_many(
        self, subject: str, payload: Payload, cb: Callable[..., object], *args: Any, **kwargs: Any
    ) -> int:
        """See `Nats.request_many`."""
        return self._request(super(), "request_many", subject, payload, cb, args, kwargs)

    def _request(
        self, plain: Any, method: str, subject: str, payload: Payload, cb: Any, args: Any, rest: Any
    ) -> int:
        check_callback(cb, "cb", TAKES_ANSWER)

        def send(headers: HeadersLike | None, cb: Callable[..., object]) -> int:
            number: int = getattr(plain, method)(
                subject, payload, cb, *args, **{**rest, "headers": headers}
            )
            return number

        return self._observers.request(send, subject, payload, rest.get("headers"), cb)

    def subscribe(self, subject: str, cb: MessageCallback, queue_group: str | None = None) -> int:
        """See `Nats.subscribe`."""
        plain: Any = super()
        check_callback(cb, "cb", TAKES_MESSAGE)
        sid: int = plain.subscribe(subject, self._observers.callback(cb, queue_group), queue_group)
        return sid

    sub = subscribe


_classes: dict[type, type] = {}


def observe(nats: Any, observers: Observers) -> None:
    """Let a new client's messages pass through observers that ask for it, and tell all of the client."""
    if observers.per_message:
        nats.__class__ = _observed(type(nats))
    observers.event("attached", nats)


def _observed(cls: type) -> type:
    """Return the subclass of a class of clients whose messages pass through observers."""
    found = _classes.get(cls)
    if found is None:
        names = {
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            "__doc__": cls.__doc__,
        }
        found = _classes[cls] = type(cls.__name__, (Observed, cls), names)
    return found
