"""A loop that offers what a genuine pyev does: by position only, and nothing that only ours has."""

from __future__ import annotations

from typing import Any

from nats_ev import pyev

WATCHER = (
    "start", "stop", "set", "reset", "invoke", "feed", "clear", "send",
    "active", "pending", "priority", "callback", "data", "loop",
)  # fmt: skip
LOOP = (
    "io", "timer", "prepare", "check", "idle", "async", "signal", "periodic", "scheduler", "child",
    "fork", "embed", "start", "stop", "now", "update", "ref", "unref", "reset", "suspend", "resume",
    "verify", "invoke",
    "depth", "iteration", "pending", "default", "backend", "data", "debug", "io_interval", "timeout_interval",
)  # fmt: skip


class Strict:
    """Gives access to some attributes of an object only, and to its methods by position only."""

    def __init__(self, target: Any, names: tuple[str, ...]) -> None:
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "_names", names)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._target, name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in self._names:
            raise AttributeError(f"an adapter need not have {name!r}")
        value = getattr(self._target, name)
        return (lambda *args: wrapped(value(*args))) if callable(value) else value


def wrapped(result: Any, names: tuple[str, ...] = WATCHER) -> Any:
    """Return a watcher with these attributes only, which its callback gets too; anything else unchanged."""
    if not isinstance(result, pyev.Watcher):
        return result
    callback = result.callback
    watcher = Strict(result, names)
    result.callback = lambda native, revents: callback(watcher, revents)
    return watcher


def new(name: str) -> Strict:
    """Return a loop of its own."""
    return Strict(pyev.Loop(), LOOP)
