"""What becomes of connections in the child of a fork: they are the parent's, and stay so.

The child must not send, read or close anything on them, whatever it does with the objects that it has
inherited. So its copies of the descriptors are replaced by a dead end, at once; the parent notices
nothing, and no call in the child costs anything for it.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """What has something to lose in a fork."""

    def forked(self) -> None:
        """Called in the child."""


_all: weakref.WeakSet[Forked] = weakref.WeakSet()


def watch_forks(thing: Forked) -> None:
    """Call ``thing.forked()`` in the child of each fork to come, as long as thing lives."""
    _all.add(thing)


def make_dead_end(fd: int) -> None:
    """Let the descriptor refer to nothing that anybody else has."""
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
