"""A loop with a clock that only the test moves: timers, fed Prepare watchers, nothing else.

For what depends on time alone. What needs sockets is tested on a real loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Callback = Callable[[Any, int], None]


class Watcher:
    """The part of pyev's watcher interface that the client uses."""

    def __init__(self, loop: FakeLoop, callback: Callback, after: float = 0.0) -> None:
        self.loop, self.callback, self.after = loop, callback, after
        self.active = False
        self.due = 0.0

    def set(self, after: float, repeat: float = 0.0) -> None:
        assert not self.active, "set() needs a stopped watcher"
        assert repeat == 0.0
        self.after = after

    def start(self) -> None:
        self.active = True
        self.due = self.loop.now + self.after

    def stop(self) -> None:
        self.active = False

    def feed(self, revents: int) -> None:
        if self not in self.loop.fed:
            self.loop.fed.append(self)


class FakeLoop:
    """Give `clock` to what asks for one."""

    debug = False

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Watcher] = []
        self.fed: list[Watcher] = []
        self.updates = 0

    def clock(self) -> float:
        return self.now

    def update(self) -> None:
        self.updates += 1

    def timer(self, after: float, repeat: float, callback: Callback, *rest: Any) -> Watcher:
        watcher = Watcher(self, callback, after)
        self.timers.append(watcher)
        return watcher

    def prepare(self, callback: Callback, *rest: Any) -> Watcher:
        return Watcher(self, callback)

    def turn(self) -> None:
        """The end of an iteration: what has been fed."""
        while self.fed:
            watcher = self.fed.pop(0)
            watcher.callback(watcher, 0)

    def advance(self, seconds: float) -> None:
        """Let time pass; timers fire in order, each at its time."""
        end = self.now + seconds
        while True:
            due = [w for w in self.timers if w.active and w.due <= end]
            if not due:
                break
            first = min(due, key=lambda w: w.due)
            self.now = max(self.now, first.due)
            first.active = False
            first.callback(first, 0)
            self.turn()
        self.now = end
