"""An `AsyncioLoop` that tests run as they run a loop of ours."""

from __future__ import annotations

import asyncio
import sys
import weakref
from typing import Any

from lab.loops import NESTED, attribute_of_ours, unable
from nats_ev import pyev
from nats_ev.asyncio_loop import AsyncioLoop

# Seconds: an end for what waits for an event that never comes on this loop.
LONGEST = 40.0


class TaskLoop(AsyncioLoop):
    """`start` runs the loop of asyncio until a callback calls `stop`, or until no watcher is active."""

    __slots__ = ("_calls", "_checks", "_late", "_starts", "_watchers")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._watchers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._checks: list[Check] = []
        self._calls = 0  # of watchers' callbacks
        self._starts = 0
        self._late = False
        loop.set_exception_handler(_report)

    def __getattr__(self, name: str) -> Any:
        raise attribute_of_ours(name)

    def _noted(self, callback: Any) -> Any:
        def call(watcher: Any, revents: int) -> None:
            self._calls += 1
            try:
                callback(watcher, revents)
            finally:
                for check in self._checks:
                    self.loop.call_soon(check.call)

        return call

    def _kept(self, watcher: Any) -> Any:
        self._watchers.add(watcher)
        return watcher

    def io(self, fd: int, events: int, callback: Any, *more: Any) -> Any:
        return self._kept(super().io(fd, events, self._noted(callback), *more))

    def timer(self, after: float, repeat: float, callback: Any, *more: Any) -> Any:
        return self._kept(super().timer(after, repeat, self._noted(callback), *more))

    def prepare(self, callback: Any, *more: Any) -> Any:
        return self._kept(super().prepare(self._noted(callback), *more))

    def async_(self, callback: Any, *more: Any) -> Any:
        return self._kept(super().async_(self._noted(callback), *more))

    def check(self, callback: Any, *more: Any) -> Check:
        """Return a watcher that is called after the callbacks of other watchers."""
        return Check(self, callback)

    def start(self, flags: int = 0) -> None:
        """Run the loop until `stop`, or until no watcher is active; with flags for one iteration."""
        if self.loop.is_running():
            raise unable(NESTED)
        self._late = False
        self._starts += 1
        if flags & pyev.EVRUN_NOWAIT:
            self._hop(4, self._starts)
            self.loop.run_forever()
            return
        before = self._calls if flags else -1
        ends = self.loop.time() + LONGEST
        # Kept here, because a timer of the loop itself would be a watcher.
        handle = self.loop.call_later(0.0, self._tick, before, ends, self._starts)
        try:
            self.loop.run_forever()
        finally:
            handle.cancel()
            self._starts += 1
        assert not self._late, "the loop does not end"

    def _tick(self, before: int, ends: float, start: int) -> None:
        if start != self._starts:
            return
        self._late = self.loop.time() > ends
        happened = 0 <= before < self._calls
        if self._late or happened or not any(map(_is_busy, self._watchers)):
            self.stop()
        else:
            self.loop.call_later(0.001 if before >= 0 else 0.02, self._tick, before, ends, start)

    def _hop(self, times: int, start: int) -> None:
        if times:
            self.loop.call_soon(self._hop, times - 1, start)
        elif start == self._starts:
            self._starts += 1  # uvloop would let a second `stop` end the next run, too
            self.loop.stop()

    def stop(self, how: int = pyev.EVBREAK_ONE) -> None:
        """Let `start` return after this iteration, and what callbacks have fed in it."""
        if self.loop.is_running():
            self._hop(2, self._starts)

    def background(self, callback: Any) -> list[Any]:
        """Return watchers that do not keep `start` from returning: after callbacks, and every 10 ms."""
        return [Check(self, callback), Repeated(self, callback)]

    def ref(self) -> None:
        """Do nothing: `start` ends when the test says so."""

    def unref(self) -> None:
        """Do nothing, see `ref`."""

    def close(self) -> None:
        """Close the loop of asyncio."""
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


setattr(TaskLoop, "async", TaskLoop.async_)


def _is_busy(watcher: Any) -> bool:
    """Return whether a watcher is active, or has been fed: a Prepare watcher is never active."""
    return bool(getattr(watcher, "active", False) or watcher.pending)


class Check:
    """Stands for libev's Check watcher."""

    def __init__(self, loop: TaskLoop, callback: Any) -> None:
        self._loop = loop
        self._callback = callback

    def start(self) -> None:
        self._loop._checks.append(self)

    def stop(self) -> None:
        if self in self._loop._checks:
            self._loop._checks.remove(self)

    def call(self) -> None:
        if self in self._loop._checks:
            self._callback(self, 0)


class Repeated(Check):
    """Calls every 10 ms, by asyncio's own timer."""

    def start(self) -> None:
        self._handle = self._loop.loop.call_later(0.01, self.call)

    def stop(self) -> None:
        self._handle.cancel()

    def call(self) -> None:
        self.start()
        self._callback(self, 0)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    exc = context.get("exception") or RuntimeError(context.get("message"))
    sys.excepthook(type(exc), exc, exc.__traceback__)


def new(name: str) -> TaskLoop:
    """Return a loop of asyncio or uvloop of its own."""
    if name == "uvloop":
        import uvloop

        return TaskLoop(uvloop.new_event_loop())
    return TaskLoop(asyncio.new_event_loop())
