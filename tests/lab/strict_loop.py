"""A loop that has the methods that a client uses and no others, and takes arguments by position only.

That is what a genuine pyev and an adapter offer at least.
"""

from __future__ import annotations

from typing import Any

from nats_ev import pyev


class Strict:
    """Gives access to some attributes of an object only, and to its methods by position only."""

    def __init__(self, target: Any, names: tuple[str, ...]) -> None:
        self._target = target
        self._names = names

    def __getattr__(self, name: str) -> Any:
        if name not in self._names:
            raise AttributeError(f"an adapter need not have {name!r}")
        method = getattr(self._target, name)
        return (lambda *args: wrapped(method(*args))) if callable(method) else method


WATCHER = ("start", "stop", "set", "feed", "send", "active")
LOOP = ("io", "timer", "prepare", "async", "update")


def wrapped(result: Any) -> Any:
    if not isinstance(result, pyev.Watcher):
        return result
    callback = result.callback
    watcher = Strict(result, WATCHER)
    result.callback = lambda native, revents: callback(watcher, revents)
    return watcher


def strict(loop: pyev.Loop) -> Any:
    """Return a loop of ours that shows the client no more than it may use."""
    return Strict(loop, LOOP)
