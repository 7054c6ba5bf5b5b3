"""Connections in the child of a fork. They are the parent's, and the child must not disturb them.

The child must not send, read or close anything on them, whatever it does with the objects that it has
inherited: a `close_notify` or a stray byte would end the parent's connection. So in the child the
copies of the descriptors are replaced by a dead end at once, from `os.register_at_fork`. The parent
is not affected, and no call has to check whether it runs in a child.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """An object that owns descriptors."""

    def forked(self) -> None:
        """Give the descriptors up. Called in the child, before `os.fork` returns there."""


_all: weakref.WeakSet[Forked] = weakref.WeakSet()


def watch_forks(thing: Forked) -> None:
    """Call ``thing.forked()`` in the child of each future fork, as long as thing lives."""
    _all.add(thing)


def make_dead_end(fd: int) -> None:
    """Replace an open descriptor by one of the null device."""
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.dup2(nothing, fd, inheritable=False)
    finally:
        os.close(nothing)


def _after_fork() -> None:
    for thing in list(_all):
        thing.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
