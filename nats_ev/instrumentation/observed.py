"""The client whose messages pass through an `Instrumentation`: a subclass, so that all others pay nothing.

``Nats(instrumentation=…)`` is an object of such a subclass if an observer has a hook for messages. A class
that the user has derived from `Nats` gets a subclass of its own, in which the user's methods come first: what
they pass on to `Nats` passes through the observers. Layers on top and faces call the same public
methods, and so pass through the observers, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .hook import Observers

# What callbacks are called with: as in `arguments`, which is no layer below this one.
_TAKES_MESSAGE = "subject, payload, reply, headers", 4
_TAKES_ANSWER = "response, err, headers", 3


class Observed:
    """Overrides the methods of `Nats` that send, and those that take callbacks of messages."""

    _observers: Observers
    _passing = False  # an observed publish is under way

    def publish(
        self,
        subject: str,
        payload: Any = b"",
        reply_to: str | None = None,
        *,
        headers: Any = None,
    ) -> None:
        """See `Nats.publish`."""
        plain: Any = super()

        def send(headers: Any) -> None:
            if headers is None:
                plain.publish(subject, payload, reply_to)
                return
            self._passing = True  # publish calls hpublish
            try:
                plain.publish(subject, payload, reply_to, headers=headers)
            finally:
                self._passing = False

        self._observers.publish(send, subject, payload, reply_to, headers)

    pub = publish

    def hpublish(
        self,
        subject: str,
        headers: Any,
        payload: Any = b"",
        reply_to: str | None = None,
    ) -> None:
        """See `Nats.hpublish`."""
        plain: Any = super()

        def send(headers: Any) -> None:
            plain.hpublish(subject, headers, payload, reply_to)

        if self._passing:
            send(headers)
            return
        self._observers.publish(send, subject, payload, reply_to, headers)

    hpub = hpublish

    def request(
        self, subject: str, payload: Any, cb: Callable[..., object], *args: Any, **kwargs: Any
    ) -> int:
        """See `Nats.request`."""
        return self._request(super(), "request", subject, payload, cb, args, kwargs)

    req = request

    def request_many(
        self, subject: str, payload: Any, cb: Callable[..., object], *args: Any, **kwargs: Any
    ) -> int:
        """See `Nats.request_many`."""
        return self._request(super(), "request_many", subject, payload, cb, args, kwargs)

    def _request(
        self, plain: Any, method: str, subject: str, payload: Any, cb: Any, args: Any, rest: Any
    ) -> int:
        self._observers.check(cb, "cb", _TAKES_ANSWER)

        def send(headers: Any, cb: Callable[..., object]) -> int:
            number: int = getattr(plain, method)(
                subject, payload, cb, *args, **{**rest, "headers": headers}
            )
            return number

        return self._observers.request(
            send, subject, payload, rest.get("headers"), cb, method == "request_many"
        )

    def subscribe(
        self, subject: str, cb: Callable[..., object], queue_group: str | None = None
    ) -> int:
        """See `Nats.subscribe`."""
        plain: Any = super()
        self._observers.check(cb, "cb", _TAKES_MESSAGE)
        sid: int = plain.subscribe(
            subject, self._observers.callback(cb, subject, queue_group), queue_group
        )
        return sid

    sub = subscribe


class _Unannounced:
    """Keeps the user's `__init_subclass__` from a class that the user has not written."""

    def __init_subclass__(cls) -> None:
        pass


_classes: dict[type, type] = {}


def observe(nats: Any, base: type) -> None:
    """Let the messages of a new client pass through its observers; base: `Nats`."""
    nats.__class__ = _observed(type(nats), base)


def _observed(cls: type, base: type) -> type:
    """Return the subclass of a class of clients whose messages pass through observers."""
    found = _classes.get(cls)
    if found is None:
        bases = (Observed, cls) if cls is base else (_Unannounced, cls, _observed(base, base))
        names = {
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            "__doc__": cls.__doc__,
        }
        found = _classes[cls] = type(cls.__name__, bases, names)
    return found
