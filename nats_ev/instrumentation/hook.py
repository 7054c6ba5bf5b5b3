"""`Instrumentation`: the one hook for metrics and spans, and how a client calls it.

A client without the option ``instrumentation`` has no `Observers`, and pays nothing. With it, each event of
a connection costs one call. The hooks of a turn and those of a message are called only if an observer's
class overrides them: a client whose observers have no hook for messages keeps its fast path.

No observer can harm the traffic: a message is sent and delivered exactly once, also if a hook raises or
forgets to pass it on. What a hook raises goes to ``sys.excepthook``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ..errors import NatsError

# (headers in any form that is sent, more headers) -> all of them
Merge = Callable[[Any, dict[str, str]], Any]

_TURN = ("wrote", "received")
_MESSAGE = ("publish", "request", "deliver")


class Instrumentation:
    """The base class of observers: override what you want to see.

    Give an object, or a list of them, as option ``instrumentation`` of `Nats`. One object may observe several
    clients; `attach` tells them apart. All methods are called in the thread of the loop.

    *Events* are called at the end of the loop's turn, before the callback of the user for the same event
    or after it. They may call any method of the client.

    *Turns*: `wrote` and `received` are called at most once each time that the loop finds the socket
    ready. Only an overridden one is called.

    *Messages*: `publish`, `request` and `deliver` are called for each message. Overriding one of them takes
    the client's fast path in C for these calls: a message then costs about a microsecond more. Each
    gets a function that passes the message on, and must call it once.
    """

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    # Events.

    def attach(self, nats: Any) -> Instrumentation:
        """Return the observer of a new client, which has not connected yet: this object, or another one.

        What it keeps of nats should be a weak reference: a client keeps its observers.
        """
        return self

    def connected(self, url: str, reconnected: bool) -> None:
        """Note the end of a handshake; reconnected: the connection replaces a lost one."""

    def disconnected(self, url: str, reason: NatsError) -> None:
        """Note the end of a connection, lost or closed by the program."""

    def attempt_failed(self, url: str, error: NatsError, delay_ms: float | None) -> None:
        """Note that an attempt has failed; delay_ms: until the next one, None if there will be none."""

    def closed(self, reason: NatsError) -> None:
        """Note that the client has ended: no connection, and none is coming."""

    def error(self, error: NatsError) -> None:
        """Note an error that on_error gets, too."""

    def discovered(self, urls: list[str]) -> None:
        """Note servers of the cluster that were not known before."""

    def lame_duck(self, url: str) -> None:
        """Note that the server has announced its shutdown."""

    def slow_consumer(self, subject: str | None, pending: int) -> None:
        """Note that messages pile up.

        Args:
            subject: of the subscription that now discards messages; None: the server does not read fast
                enough.
            pending: messages that wait for the subscription's callback, or bytes that are unsent.
        """

    def caught_up(self, subject: str | None) -> None:
        """Note the end of what `slow_consumer` has reported."""

    # Turns.

    def wrote(self, size: int) -> None:
        """Note that the kernel has taken so many bytes of the protocol."""

    def received(self, msgs: int, size: int) -> None:
        """Note that messages were received: how many, and their header and payload bytes."""

    # Messages.

    def publish(
        self,
        send: Callable[..., object],
        subject: str,
        payload: Any,
        reply_to: str | None,
        headers: Any,
    ) -> None:
        """Pass on a message that the program publishes.

        Args:
            send: ``send(headers)`` publishes it, and raises what `Nats.publish` raises.
                ``send(headers, {"name": "value"})`` sets more headers, whatever form headers have.
            subject, payload, reply_to, headers: what the program has given; headers may be None.
        """
        send(headers)

    def request(
        self,
        send: Callable[..., int],
        subject: str,
        payload: Any,
        headers: Any,
        answered: Callable[..., object],
        many: bool,
    ) -> None:
        """Pass on a request, of `Nats.request` or `Nats.request_many`.

        Args:
            send: ``send(headers, answered)`` sends it, and raises what `Nats.request` raises. A third
                argument is a dict of more headers, as for `publish`.
            subject, payload, headers: what the program has given; headers may be None.
            answered: the program's callback, which gets ``(response, err, headers)``. Another callback,
                which calls it, may take its place. It is never called after `Nats.cancel_request`.
            many: of `request_many`: answered is called for each answer, at last with ``(None, err, None)``.
        """
        send(headers, answered)

    def deliver(
        self,
        call: Callable[[], object],
        subject: str,
        payload: bytes,
        reply: str | None,
        headers: bytes | None,
        subscription: tuple[str, str | None],
    ) -> None:
        """Pass on a message to the callback of its subscription.

        Args:
            call: ``call()`` calls the callback; what the callback raises comes out of it.
            subject, payload, reply, headers: as the callback gets them.
            subscription: what was subscribed to: a subject, perhaps with wildcards, and the queue group.
        """
        call()


class _Once:
    """Passes something on at most once, and keeps the outcome."""

    __slots__ = ("_function", "called", "error", "result")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.called = False
        self.error: BaseException | None = None
        self.result: Any = None

    def __call__(self, *args: Any) -> Any:
        if not self.called:
            self.called = True
            try:
                self.result = self._function(*args)
            except BaseException as exc:
                self.error = exc
                raise
        return self.result


def _passed_on(
    hook: Callable[..., object], once: _Once, rest: tuple[Any, ...], default: Any
) -> Any:
    """Call a hook that must pass something on, which happens whatever the hook does.

    Args:
        hook: of an observer.
        once: passes it on.
        rest: the other arguments of the hook.
        default: what once is called with if the hook has not called it.
    """
    try:
        hook(once, *rest)
    except BaseException as exc:
        if once.error is exc or not isinstance(exc, Exception):
            raise
        sys.excepthook(type(exc), exc, exc.__traceback__)
    if not once.called:
        once(*default)
    elif once.error is not None:  # a hook must not hide it
        raise once.error
    return once.result


class Observers:
    """The observers of one client."""

    def __init__(
        self,
        objects: list[Instrumentation],
        nats: Any,
        merge: Merge,
        check: Callable[[Any, str, tuple[str, int]], None],
    ) -> None:
        """Make the observers of a client that is about to be made.

        Args:
            objects: the value of the option.
            nats: the client.
            merge: adds headers to headers.
            check: `arguments.check_callback`.
        """
        self._merge = merge
        self.check = check
        self._objects = objects = [_attached(each, nats) for each in objects]
        self._by_hook = {
            name: [
                o for o in objects if getattr(type(o), name) is not getattr(Instrumentation, name)
            ]
            for name in (*_TURN, *_MESSAGE)
        }

    @property
    def per_turn(self) -> bool:
        """Whether anyone wants to know of turns."""
        return any(self._by_hook[name] for name in _TURN)

    @property
    def per_message(self) -> bool:
        """Whether anyone wants to know of messages."""
        return any(self._by_hook[name] for name in _MESSAGE)

    def event(self, name: str, *args: object) -> None:
        """Tell an event, or the hook of a turn, to all observers that have it."""
        for each in self._by_hook.get(name, self._objects):
            try:
                getattr(each, name)(*args)
            except Exception as exc:
                sys.excepthook(type(exc), exc, exc.__traceback__)

    def publish(
        self, send: Callable[[Any], Any], subject: str, payload: Any, reply_to: Any, headers: Any
    ) -> None:
        """Let the observers pass on a message that is published."""
        for each in self._by_hook["publish"]:
            send = partial(self._publish_by, each, send, subject, payload, reply_to)
        send(headers)

    def request(
        self,
        send: Callable[..., int],
        subject: str,
        payload: Any,
        headers: Any,
        cb: Any,
        many: bool,
    ) -> int:
        """Let the observers pass on a request; return its number."""
        for each in self._by_hook["request"]:
            send = partial(self._request_by, each, send, subject, payload, many)
        return send(headers, cb)

    def _publish_by(
        self,
        observer: Instrumentation,
        send: Any,
        subject: str,
        payload: Any,
        reply_to: Any,
        headers: Any,
    ) -> None:
        def merged(headers: Any, more: dict[str, str] | None = None) -> None:
            send(self._merge(headers, more) if more else headers)

        rest = (subject, payload, reply_to, headers)
        _passed_on(observer.publish, _Once(merged), rest, (headers,))

    def _request_by(
        self,
        observer: Instrumentation,
        send: Any,
        subject: str,
        payload: Any,
        many: bool,
        headers: Any,
        cb: Any,
    ) -> Any:
        def merged(headers: Any, cb: Any, more: dict[str, str] | None = None) -> Any:
            return send(self._merge(headers, more) if more else headers, cb)

        rest = (subject, payload, headers, cb, many)
        return _passed_on(observer.request, _Once(merged), rest, (headers, cb))

    def callback(
        self, cb: Callable[..., object], subject: str, queue_group: str | None
    ) -> Callable[..., object]:
        """Return what takes the place of the callback of a subscription."""
        for each in self._by_hook["deliver"]:
            cb = partial(_deliver_by, each, cb, (subject, queue_group))
        return cb


def new_observers(
    nats: Any,
    objects: Iterable[Instrumentation] | None,
    merge: Merge,
    check: Callable[[Any, str, tuple[str, int]], None],
) -> Observers | None:
    """Return the observers of a client, or None if it has none; see `Observers`."""
    return None if objects is None else Observers(list(objects), nats, merge, check)


def _attached(observer: Instrumentation, nats: Any) -> Instrumentation:
    try:
        found = observer.attach(nats)
    except Exception as exc:
        sys.excepthook(type(exc), exc, exc.__traceback__)
        return observer
    return found if isinstance(found, Instrumentation) else observer


def _deliver_by(
    observer: Instrumentation,
    cb: Callable[..., object],
    subscription: tuple[str, str | None],
    subject: str,
    payload: bytes,
    reply: str | None,
    headers: bytes | None,
) -> None:
    once = _Once(partial(cb, subject, payload, reply, headers))
    _passed_on(observer.deliver, once, (subject, payload, reply, headers, subscription), ())


def observers(value: Any, name: str = "instrumentation") -> list[Instrumentation] | None:
    """Return the checked value of the option: an observer, several, or none. Raises TypeError."""
    if value is None:
        return None
    many = [value] if isinstance(value, Instrumentation) else value
    if not isinstance(many, Iterable) or isinstance(many, (str, bytes)):
        raise TypeError(f"{name} must be an Instrumentation, not {type(value).__name__}")
    many = list(many)
    for each in many:
        if not isinstance(each, Instrumentation):
            raise TypeError(f"{name} must be an Instrumentation, not {type(each).__name__}")
    return many or None
