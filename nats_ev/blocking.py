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

from collections.abc import Sequence
from typing import Any

from . import pyev
from .arguments import Unpack
from .faces import ConnectOptions, Face, Msg, begin, unwrap
from .faces.on_pyev import InThread, OnPyev

__all__ = ["Msg", "connect", "unwrap", "wrap"]


_face = Face(__name__, False)


def wrap(thing: Any, loop: Any = None) -> Any:
    """Return the face of an object of the callback API.

    Args:
        thing: a `Nats`, or a `JetStream`, `KV`, `ObjectStore` or other object that a client has. An object
            that has no face is returned as it is.
        loop: the client's, which this face's calls run; None: the default loop of `nats_ev.pyev`.
    """
    return _face.wrap(thing, make=lambda nats: OnPyev(nats, loop or pyev.default_loop()))


def connect(
    servers: str | Sequence[str] | None = None,
    *,
    background: bool = False,
    **options: Unpack[ConnectOptions],
) -> Any:
    """Connect a client, and return its face when it is connected.

    Args:
        servers: URLs, or one, or several with commas between. Default: nats://127.0.0.1:4222.
        background: run the loop in a thread of its own, so that messages are received and PINGs answered
            between calls, and any thread may call. Each call then waits for that thread, which takes
            up to 0.1 ms; callbacks and handlers run in it.
        options: of `Nats`, except loop. Also context: the name of one, a path, or a `contexts.Context`, whose
            settings count where no option is given; see `Nats.from_context`. `Context.load` returns the
            selected one, `contexts.from_environment` what the environment says.

    Raises:
        NatsError: the client has given up: at once, or with ``reconnect=True`` after max_reconnect_attempts.
    """
    loop = pyev.Loop()
    kind = InThread if background else OnPyev
    context = begin(_face, loop, lambda nats: kind(nats, loop), servers, dict(options))
    if isinstance(context, InThread):
        context.start()
    context.run(context.until_connected())
    return _face.wrap(context.nats, context)


def __getattr__(name: str) -> type:
    """Return a class of the face, made when it is first used."""
    return _face.public(name)
