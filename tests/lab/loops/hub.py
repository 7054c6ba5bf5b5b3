"""A `GeventLoop` that tests run from the main greenlet."""

from __future__ import annotations

import sys
from typing import Any

import gevent
from gevent.exceptions import LoopExit
from gevent.hub import Waiter

from nats_ev import pyev
from nats_ev.gevent_loop import GeventLoop


class HubLoop(GeventLoop):
    """The loop of this thread's hub; `start` switches to the hub until a callback calls `stop`."""

    def __init__(self, hub: Any = None) -> None:
        super().__init__(hub)
        self._hub = hub or gevent.get_hub()
        self._waiters: list[Any] = []
        # As everywhere in the tests: what leaves a callback fails the test.
        self._hub.print_exception = lambda context, *exc: sys.excepthook(*exc)

    def start(self, flags: int = 0) -> None:
        """Run the hub until `stop`, or until nothing keeps its loop running; with flags for one iteration."""
        watchers = []
        if flags:
            watchers.append(self.check(lambda watcher, revents: self.stop()))
        if flags & pyev.EVRUN_NOWAIT:
            watchers.append(self.idle(lambda watcher, revents: None))
        self._waiters.append(waiter := Waiter(self._hub))
        for watcher in watchers:
            watcher.start()
        try:
            waiter.get()
        except LoopExit:
            pass
        finally:
            self._waiters.remove(waiter)
            for watcher in watchers:
                watcher.stop()

    def stop(self, how: int = pyev.EVBREAK_ONE) -> None:
        """Let `start` return after this iteration, and what callbacks have fed in it."""
        for waiter in self._waiters[-1:]:
            self._loop.run_callback(self._loop.run_callback, self._wake, waiter)

    def _wake(self, waiter: Any) -> None:
        if waiter in self._waiters and not waiter.ready():
            waiter.switch(None)

    def ref(self) -> None:
        """Do nothing: gevent counts watchers, and `start` ends when the test says so."""

    def unref(self) -> None:
        """Do nothing, see `ref`."""


def new(name: str) -> HubLoop:
    """Return a loop on the hub of this thread, which all tests of a thread share."""
    return HubLoop()
