"""A `GeventLoop` that tests run from the main greenlet."""

from __future__ import annotations

import sys
import weakref
from typing import Any

import gevent
import greenlet
from gevent.exceptions import LoopExit
from gevent.hub import Waiter

from lab.loops import NESTED, attribute_of_ours, unable
from nats_ev import pyev
from nats_ev.gevent_loop import GeventLoop

# Seconds: an end for what waits for an event that never comes on this loop.
LONGEST = 40.0


def _report(context: object, kind: type[BaseException], exc: BaseException, traceback: Any) -> None:
    if not isinstance(exc, (KeyboardInterrupt, SystemExit)):  # these come out of the main greenlet
        sys.excepthook(kind, exc, traceback)


class HubLoop(GeventLoop):
    """The loop of this thread's hub; `start` switches to the hub until a callback calls `stop`."""

    def __init__(self, hub: Any = None) -> None:
        super().__init__(hub)
        self._hub = hub or gevent.get_hub()
        self._waiters: list[Any] = []
        self._watchers: weakref.WeakSet[Any] = weakref.WeakSet()
        # As everywhere in the tests: what leaves a callback fails the test.
        self._hub.print_exception = _report

    def __getattr__(self, name: str) -> Any:
        raise attribute_of_ours(name)

    def _kept(self, watcher: Any) -> Any:
        self._watchers.add(watcher)
        return watcher

    def io(self, *arguments: Any) -> Any:
        return self._kept(super().io(*arguments))

    def timer(self, *arguments: Any) -> Any:
        return self._kept(super().timer(*arguments))

    def prepare(self, *arguments: Any) -> Any:
        return self._kept(super().prepare(*arguments))

    def check(self, *arguments: Any) -> Any:
        return self._kept(super().check(*arguments))

    def idle(self, *arguments: Any) -> Any:
        return self._kept(super().idle(*arguments))

    def async_(self, *arguments: Any) -> Any:
        return self._kept(super().async_(*arguments))

    def close(self) -> None:
        """Stop what a test has left active: the next one has the same hub."""
        for watcher in list(self._watchers):
            watcher.stop()

    def start(self, flags: int = 0) -> None:
        """Run the hub until `stop`, or until nothing keeps its loop running; with flags for one iteration."""
        if greenlet.getcurrent() is self._hub:
            raise unable(NESTED)
        watchers = []
        if flags:
            watchers.append(self.check(lambda watcher, revents: self.stop()))
        if flags & pyev.EVRUN_NOWAIT:
            watchers.append(self.idle(lambda watcher, revents: None))
        self._waiters.append(waiter := Waiter(self._hub))
        for watcher in watchers:
            watcher.start()
        tick = self._hub.loop.timer(0.02, 0.02, ref=False)
        if not flags:
            tick.start(self._end)
        try:
            with gevent.Timeout(LONGEST, AssertionError("the loop does not end"), ref=False):
                waiter.get()
        except LoopExit:
            pass
        finally:
            self._waiters.remove(waiter)
            tick.stop()
            tick.close()
            for watcher in watchers:
                watcher.stop()

    def stop(self, how: int = pyev.EVBREAK_ONE) -> None:
        """Let `start` return after this iteration, and what callbacks have fed in it."""
        for waiter in self._waiters[-1:]:
            self._loop.run_callback(self._loop.run_callback, self._wake, waiter)

    def _wake(self, waiter: Any) -> None:
        if waiter in self._waiters and not waiter.ready():
            waiter.switch(None)

    def _end(self) -> None:
        """Other parts of a patched program, the tests' servers for one, keep the hub's loop running."""
        if self._is_idle():
            # libuv stops all timers that have expired before it calls the first of them: look again after it.
            self._loop.run_callback(self._loop.run_callback, self._end_if_idle)

    def _end_if_idle(self) -> None:
        if self._is_idle():
            self.stop()

    def _is_idle(self) -> bool:
        return not any(watcher.active or watcher.pending for watcher in self._watchers)

    def background(self, callback: Any) -> list[Any]:
        """Return watchers that do not keep `start` from returning: after each poll, and every 10 ms."""
        loop = self._hub.loop
        return [
            Background(loop.check(ref=False), callback),
            Background(loop.timer(0.01, 0.01, ref=False), callback),
        ]

    def ref(self) -> None:
        """Do nothing: gevent counts watchers, and `start` ends when the test says so."""

    def unref(self) -> None:
        """Do nothing, see `ref`."""


class Background:
    """A watcher of gevent's own."""

    def __init__(self, native: Any, callback: Any) -> None:
        self._native = native
        self._callback = callback

    def start(self) -> None:
        self._native.start(self._callback, self, 0)

    def stop(self) -> None:
        self._native.stop()
        self._native.close()


setattr(HubLoop, "async", HubLoop.async_)


def new(name: str) -> HubLoop:
    """Return a loop on the hub of this thread, which all tests of a thread share."""
    return HubLoop()
