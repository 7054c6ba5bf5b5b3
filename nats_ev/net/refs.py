"""Which watchers of a client are running, and whether they keep the loop running.

A libev loop runs as long as a watcher is active, and counts them. ``keep_loop(False)`` takes all running
watchers of one client off that count, and `start` and `stop` keep it so. libev's rule is that `Loop.ref`
comes before the stop of a watcher for which `Loop.unref` was called. So no watcher started here may stop by
itself, as a timer does that fires once: `Deadlines` lets its timer repeat meanwhile.

A loop without these two methods may have watchers with an attribute `ref`, as gevent's have, which is set in
their place. Where neither exists, as in asyncio, a loop does not end for want of watchers: nothing happens
here.
"""

from __future__ import annotations

from typing import Any


class Refs:
    """The running watchers of one client."""

    __slots__ = ("_loop", "_running", "counts", "keeps_loop")

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._running: set[Any] = set()
        self.keeps_loop = True
        self.counts = False  # the loop's count is lowered: no watcher may stop by itself

    def start(self, watcher: Any) -> None:
        """Start a watcher. Does nothing if the watcher is running."""
        if watcher in self._running:
            return
        if getattr(watcher, "ref", self.keeps_loop) is not self.keeps_loop:
            watcher.ref = self.keeps_loop
        watcher.start()
        self._running.add(watcher)
        if self.counts:
            self._loop.unref()

    def stop(self, watcher: Any) -> None:
        """Stop a watcher. Of one that is not running, discard a pending event."""
        if watcher in self._running:
            self._running.remove(watcher)
            if self.counts:
                self._loop.ref()
        watcher.stop()

    def keep_loop(self, keep: bool) -> None:
        """Let the running watchers, and those that will be started, keep the loop running or not."""
        if keep is self.keeps_loop:
            return
        self.keeps_loop = keep
        if hasattr(self._loop, "unref"):
            self.counts = not keep
            for _ in self._running:
                (self._loop.ref if keep else self._loop.unref)()
            return
        for watcher in self._running:
            if hasattr(watcher, "ref"):
                watcher.ref = keep
