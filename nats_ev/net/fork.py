"""Connections in the child of a fork. They are the parent's, and the child must not disturb them.

The child must not send, read or close anything on them, whatever it does with the objects that it has
inherited: a `close_notify` or a stray byte would end the parent's connection. So in the child the
copies of the descriptors are replaced by a dead end at once, from `os.register_at_fork`. The parent
is not affected, and no call has to check whether it runs in a child.
"""

from __future__ import annotations

import os
import socket
import weakref
from typing import Protocol

from .native import new_socket


class Forked(Protocol):
    """An object that owns descriptors."""

    def forked(self) -> None:
        """Give the descriptors up. Called in the child, before `os.fork` returns there."""


_all: weakref.WeakSet[Forked] = weakref.WeakSet()


def watch_forks(thing: Forked) -> None:
    """Call ``thing.forked()`` in the child of each future fork, as long as thing lives."""
    _all.add(thing)


def make_dead_end(fd: int) -> None:
    """Replace an open descriptor by a socket that is connected to nothing, and so ready for everything.

    A watcher of the descriptor fires in the child, and its callback can stop it. The null device would not
    do: libuv ends a process whose descriptor can't be polled.
    """
    os.close(fd)  # first: the process may have no descriptor left
    nothing = new_socket(socket.AF_UNIX).detach()
    if nothing != fd:
        os.dup2(nothing, fd, inheritable=False)
        os.close(nothing)


def _after_fork() -> None:
    failure: Exception | None = None
    for thing in list(_all):
        try:
            thing.forked()
        except Exception as exc:  # the others must be cut off all the same
            failure = exc
    if failure is not None:
        raise failure


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
