"""Loops that offer chosen attributes only, and take arguments by position only.

`strict` has the methods that a client uses: the least that an adapter offers. `loops.pyev_like` has what a
genuine pyev offers.
"""

from __future__ import annotations

from typing import Any

from nats_ev import pyev

WATCHER = ("start", "stop", "set", "feed", "send", "active")
LOOP = ("io", "timer", "prepare", "async", "update")


class Strict:
    """Gives access to some attributes of an object only, and to its methods by position only.

    Args:
        target: the object.
        names: of the attributes that it shows.
        watcher: the names of the attributes that its watchers show.
    """

    def __init__(self, target: Any, names: tuple[str, ...], watcher: tuple[str, ...]) -> None:
        for name, value in (("_target", target), ("_names", names), ("_watcher", watcher)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._target, name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in self._names:
            raise AttributeError(f"an adapter need not have {name!r}")
        value = getattr(self._target, name)
        return (lambda *args: self._wrapped(value(*args))) if callable(value) else value

    def _wrapped(self, result: Any) -> Any:
        """Return a watcher that shows no more than it should, also to its callback; others unchanged."""
        if not isinstance(result, pyev.Watcher):
            return result
        callback = result.callback
        watcher = Strict(result, self._watcher, self._watcher)
        result.callback = lambda native, revents: callback(watcher, revents)
        return watcher


def strict(loop: pyev.Loop) -> Any:
    """Return a loop of ours that shows the client no more than it may use."""
    return Strict(loop, LOOP, WATCHER)
