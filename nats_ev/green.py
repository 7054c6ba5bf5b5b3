"""`nats_ev.green`: a client whose calls block only the greenlet that makes them; for gevent.

::

    from nats_ev import green

    with green.connect("nats://127.0.0.1:4222") as nc:
        print(nc.request("svc", b"x").payload)
        for msg in nc.subscribe("foo.>"):
            print(msg.subject, msg.payload)

A client runs on the loop of the hub of the thread in which it was connected, monkey-patched or not. A
call may be ended by `gevent.Timeout` or by a kill, and gives up what it has begun. Callbacks for events
(`on_error` and its like) and the handlers of services run in greenlets of their own, and may block.

Methods, arguments, units and errors are those of the callback API, without `cb`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .arguments import Unpack
from .faces import ConnectOptions, Face, Msg, begin, unwrap
from .faces.on_gevent import OnGevent
from .gevent_loop import GeventLoop

__all__ = ["Msg", "connect", "unwrap", "wrap"]


_face = Face(__name__, False)


def wrap(thing: Any) -> Any:
    """Return the face of an object of the callback API.

    Args:
        thing: a `Nats` on a `GeventLoop`, or a `JetStream`, `KV`, `ObjectStore` or other object that a client
            has. An object that has no face is returned as it is.
    """
    return _face.wrap(thing, make=OnGevent)


def connect(servers: str | Sequence[str] | None = None, **options: Unpack[ConnectOptions]) -> Any:
    """Connect a client, and return its face when it is connected.

    Args:
        servers: URLs, or one, or several with commas between. Default: nats://127.0.0.1:4222.
        options: of `Nats`, except loop. Also context: the name of one, a path, or a `contexts.Context`, whose
            settings count where no option is given; see `Nats.from_context`. `Context.load` returns the
            selected one, `contexts.from_environment` what the environment says.

    Raises:
        NatsError: the client has given up: at once, or with ``reconnect=True`` after max_reconnect_attempts.
    """
    context = begin(_face, GeventLoop(), OnGevent, servers, dict(options))
    context.run(context.until_connected())
    return _face.wrap(context.nats, context)


def __getattr__(name: str) -> type:
    """Return a class of the face, made when it is first used."""
    return _face.public(name)
