"""What the interpreter offers, also where gevent has replaced it (``monkey.patch_all()``).

The client's code runs in gevent's hub. What gevent puts in place of blocking functions switches to the hub,
and fails there: `getaddrinfo`, and the start of a `threading.Thread`, which waits for the thread. A socket of
gevent's would work, but is closed only in a later turn of the hub.

A program may patch before this module is imported, later, only in part, or never. So each call here asks
gevent at that moment. What gevent has not replaced is used as it stands in its module.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from typing import Any


def _before_gevent(module: str, name: str) -> Any:
    """Return what gevent has replaced, or None if gevent has not replaced that name."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_object_patched(module, name):
        return None
    return monkey.get_original(module, name)


def _get_ident() -> Callable[[], int]:
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None:
        return threading.get_ident
    original: Callable[[], int] = monkey.get_original("_thread", "get_ident")
    return original


# Return the number of the calling thread. gevent's tells greenlets apart, and all of a thread may call.
get_ident = _get_ident()


def getaddrinfo(*args: Any, **options: Any) -> list[tuple[Any, ...]]:
    """Do the same as `socket.getaddrinfo`."""
    function = _before_gevent("socket", "getaddrinfo") or socket.getaddrinfo
    found: list[tuple[Any, ...]] = function(*args, **options)
    return found


def new_socket(family: int) -> socket.socket:
    """Return a new stream socket."""
    kind = _before_gevent("socket", "socket") or socket.socket
    sock: socket.socket = kind(family, socket.SOCK_STREAM)
    return sock


def socket_of(fd: int) -> socket.socket:
    """Return the socket that an open descriptor is. Raises OSError if it is another kind of file."""
    kind = _before_gevent("socket", "socket") or socket.socket
    sock: socket.socket = kind(fileno=fd)
    return sock


def start_thread(function: Callable[..., object], *args: object) -> None:
    """Call ``function(*args)`` in a daemon thread. Raises RuntimeError if there are too many threads."""
    start = _before_gevent("_thread", "start_new_thread")
    if start is None:
        name = "nats_ev-resolver"
        threading.Thread(target=function, args=args, name=name, daemon=True).start()
    else:
        start(function, args)
