"""Which watchers of a client are running, and whether they keep the loop running.

A libev loop runs as long as a watcher is active, and counts them. ``keep_loop(False)`` takes all running
watchers of one client off that count, and `start` and `stop` keep it so. libev's rule is that `Loop.ref`
comes before the stop of a watcher for which `Loop.unref` was called. So no watcher started here may stop by itself,
as a timer does that fires once: `Deadlines` lets its timer repeat meanwhile.

The watchers of some adapters have an attribute `ref` of their own, as gevent's have, which is set in place of
that count. A loop that has neither never ends for want of watchers, as asyncio's: then nothing happens here.
"""

from __future__ import annotations

from typing import Any


class Refs:
    """The running watchers of one client."""

    __slots__ = ("_loop", "_running", "keeps_loop")

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._running: set[Any] = set()
        self.keeps_loop = True

    def start(self, watcher: Any) -> None:
        """Start a watcher. Does nothing if the watcher is running."""
        if watcher not in self._running:
            watcher.start()
            self._running.add(watcher)
            if not self.keeps_loop:
                self._set(watcher, False)

    def stop(self, watcher: Any) -> None:
        """Stop a watcher. Of one that is not running, discard a pending event."""
        if watcher in self._running:
            self._running.remove(watcher)
            if not self.keeps_loop:
                self._set(watcher, True)
        watcher.stop()

    def keep_loop(self, keep: bool) -> None:
        """Let the running watchers, and those that will be started, keep the loop running or not."""
        if keep is not self.keeps_loop:
            self.keeps_loop = keep
            for watcher in self._running:
                self._set(watcher, keep)

    def _set(self, watcher: Any, keep: bool) -> None:
        if hasattr(watcher, "ref"):
            watcher.ref = keep
        elif keep:
            getattr(self._loop, "ref", _nothing)()
        else:
            getattr(self._loop, "unref", _nothing)()


def _nothing() -> None:
    pass
