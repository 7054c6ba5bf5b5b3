"""The Python side of host.c: a client on the loop whose address the host passes."""

from __future__ import annotations

import os
from collections.abc import Callable

import host  # made by host.c

from nats_ev import Nats, pyev

nats: Nats
loop: pyev.Loop


def start(address: int, on_message: Callable[..., object]) -> None:
    """Connect a client in the host's loop, and subscribe a callback of the host's to its ticks."""
    global nats, loop
    loop = pyev.Loop.from_address(address)
    nats = Nats(
        loop=loop,
        host=os.environ.get("NATS_HOST", "127.0.0.1"),
        port=int(os.environ.get("NATS_PORT", "4222")),
        on_error=lambda err: print("nats:", err),
    )
    nats.subscribe("ticks", on_message)


def tick(number: int) -> None:
    """Publish a tick of the host's."""
    nats.publish("ticks", str(number))


def leave() -> None:
    """End the client; `host.stop` ends the loop when that has happened. A second call joins the first."""
    nats.drain(lambda err: host.stop())


def code() -> int:
    """Return the exit status: that of a SystemExit which has ended the loop, 1 for another exception."""
    exc = loop.stopped_by
    if isinstance(exc, SystemExit):
        return exc.code if isinstance(exc.code, int) else 1
    return 0 if exc is None else 1
