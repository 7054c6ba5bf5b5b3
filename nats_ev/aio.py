"""`nats_ev.aio`: a client whose methods are awaited; for asyncio and uvloop.

::

    from nats_ev import aio

    async with aio.connect("nats://127.0.0.1:4222") as nc:
        print((await nc.request("svc", b"x")).payload)
        async for msg in nc.subscribe("foo.>"):
            print(msg.subject, msg.payload)

A client belongs to the event loop in which it was connected. A cancelled await gives up what it has
begun: a request is cancelled, a fetch ends. Callbacks for events (`on_error` and its like) and the handlers
of services may be coroutine functions: each call is a task.

Methods, arguments, units and errors are those of the callback API, without `cb`. What takes no `cb` there,
`publish` above all, is not awaited here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .arguments import Unpack
from .asyncio_loop import AsyncioLoop
from .faces import Connecting, ConnectOptions, Face, Msg, begin, unwrap
from .faces.on_asyncio import OnAsyncio

__all__ = ["Msg", "connect", "unwrap", "wrap"]


_face = Face(__name__, True)


def wrap(thing: Any) -> Any:
    """Return the face of an object of the callback API.

    Args:
        thing: a `Nats` on an `AsyncioLoop` of the running loop, or a `JetStream`, `KV`, `ObjectStore` or
            other object that a client has. An object that has no face is returned as it is.
    """
    return _face.wrap(thing, make=OnAsyncio)


async def _connect(servers: str | Sequence[str] | None, options: dict[str, Any]) -> Any:
    context = begin(_face, AsyncioLoop(), OnAsyncio, servers, options)
    await context.until_connected()
    return _face.wrap(context.nats, context)


def connect(servers: str | Sequence[str] | None = None, **options: Unpack[ConnectOptions]) -> Any:
    """Connect a client, and return its face when it is connected: await it, or use it by ``async with``.

    Args:
        servers: URLs, or one, or several with commas between. Default: nats://127.0.0.1:4222.
        options: of `Nats`, except loop. Also context: the name of one, a path, or a `contexts.Context`, whose
            settings count where no option is given; see `Nats.from_context`. `Context.load` returns the
            selected one, `contexts.from_environment` what the environment says.

    Raises:
        NatsError: the client has given up: at once, or with ``reconnect=True`` after max_reconnect_attempts.
    """
    return Connecting(_connect(servers, dict(options)))


def __getattr__(name: str) -> type:
    """Return a class of the face, made when it is first used."""
    return _face.public(name)
