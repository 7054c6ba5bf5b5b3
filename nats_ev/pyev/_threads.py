"""The interpreter's own threads, also where gevent has put greenlets in their place.

A program may patch before this package is imported, or later, or only in part. A loop belongs to a thread of
the system and not to a greenlet, and a thread that interrupts the loop must run while the loop blocks. So
this package uses what gevent has replaced, and binds it once.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any


def _original(module: str, name: str) -> Any:
    """Return a function as it was before gevent replaced it."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(__import__(module), name)


get_ident: Callable[[], int] = _original("_thread", "get_ident")
allocate_lock: Callable[[], Any] = _original("_thread", "allocate_lock")
start_new_thread: Callable[..., int] = _original("_thread", "start_new_thread")
sleep: Callable[[float], None] = _original("time", "sleep")
_get_native_id: Callable[[], int] = getattr(threading, "get_native_id", get_ident)

# By `get_ident`; None while it is not known.
_main: int | None = None


def is_main_thread() -> bool:
    """Return whether the calling thread is the one that handles signals."""
    global _main
    me = get_ident()
    if _main is None:
        main = threading.main_thread()
        # gevent gives the main thread a greenlet's number as `ident`. `native_id` is wrong in the child of
        # a fork, for which `_after_fork` counts.
        if main.ident == me or getattr(main, "native_id", None) == _get_native_id():
            _main = me
    return me == _main


def _after_fork() -> None:
    global _main
    _main = get_ident()


is_main_thread()  # most programs import this in the main thread, and before they patch
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
