"""`nats_ev.blocking`: a client whose calls return when they are done, for scripts, notebooks and tests.

::

    from nats_ev import blocking

    with blocking.connect("nats://127.0.0.1:4222") as nc:
        print(nc.request("svc", b"x").payload)
        for msg in nc.subscribe("foo.>"):
            print(msg.subject, msg.payload)

A client has a loop of its own, which runs inside its calls only: between them it neither receives nor
answers the server's PINGs. A server disconnects a client that is silent for some minutes (by default about
six); with ``reconnect=True`` the next call connects it again. With ``background=True`` the loop runs in a
thread, and any thread may call.

Methods, arguments, units and errors are those of the callback API, without `cb`. Ctrl-C ends a call at once.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from . import pyev
from .errors import ConnectionClosedError
from .faces import Context, Face, Msg, Waiter, begin, unwrap

__all__ = ["Msg", "connect", "unwrap", "wrap"]


class _Context(Context):
    """A client on a loop that runs while a call waits."""

    def __init__(self, nats: Any, loop: Any) -> None:
        super().__init__(nats)
        self._loop = loop
        self._waiting: list[Waiter] = []  # the waiters of nested calls

    def waiter(self) -> Waiter:
        """See `Context`."""
        return Waiter(self._loop.stop)

    def run(self, steps: Coroutine[Any, Any, Any]) -> Any:
        """See `Context`."""
        try:
            waiter = steps.send(None)
            while True:
                try:
                    self._run_until(waiter)
                except BaseException as exc:
                    waiter = steps.throw(exc)
                else:
                    waiter = steps.send(None)
        except StopIteration as stop:
            return stop.value

    def _run_until(self, waiter: Waiter) -> None:
        waiting = self._waiting
        waiting.append(waiter)
        try:
            while not waiter.done():
                if not self._loop.start() and not waiter.done():
                    raise ConnectionClosedError(
                        "disconnected: nothing keeps the client's loop alive"
                    )
        finally:
            waiting.pop()
            if waiting and waiting[-1].done():  # a call in whose callback this one was made
                self._loop.stop()

    async def give_way(self) -> None:
        """See `Context`: receive, and answer the server."""
        self._loop.start(pyev.EVRUN_NOWAIT)


_face = Face(__name__, False)


def wrap(thing: Any, loop: Any = None) -> Any:
    """Return the face of an object of the callback API.

    Args:
        thing: a `Nats`, or a `JetStream`, `KV`, `ObjectStore` or other object that a client has. An object
            that has no face is returned as it is.
        loop: the client's, which this face's calls run; None: the default loop of `nats_ev.pyev`.
    """
    return _face.wrap(thing, make=lambda nats: _Context(nats, loop or pyev.default_loop()))


def connect(servers: str | Sequence[str] | None = None, **options: Any) -> Any:
    """Connect a client, and return its face when it is connected.

    Args:
        servers: URLs, or one, or several with commas between. Default: nats://127.0.0.1:4222.
        options: of `Nats`, except loop.

    Raises:
        NatsError: the client has given up: at once, or with ``reconnect=True`` after max_reconnect_attempts.
    """
    loop = pyev.Loop()
    context = begin(_face, loop, lambda nats: _Context(nats, loop), servers, options)
    context.run(context.until_connected())
    return _face.wrap(context.nats, context)


def __getattr__(name: str) -> type:
    """Return a class of the face, made when it is first used."""
    return _face.public(name)
