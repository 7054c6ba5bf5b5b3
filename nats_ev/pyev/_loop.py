"""`Loop`, with the methods that make watchers, and `default_loop`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._base import BaseLoop, Callback
from ._libev import lib
from ._timers import Periodic, Scheduler, Timer
from ._watchers import Async, Check, Child, Embed, Fork, Idle, Io, Prepare, Signal


class Loop(BaseLoop):
    """An event loop, for one thread at a time.

    Any number of loops may run in any number of threads: `start` releases the interpreter lock while
    it waits. Dropping a loop stops its watchers. In the child of a fork call `reset` before the loop
    is used again, or create the loop with EVFLAG_FORKCHECK.

    The methods that return a watcher take the arguments of the watcher's class, without the loop.

    Args:
        flags: EVFLAG_* and EVBACKEND_* bits.
        callback: ``callback(loop)`` is called instead of delivering pending events, and must call
            `invoke` to deliver them. What the callback raises stops the
            loop and comes out of `start`. Not for the default loop, which other bindings may share.
        data: any object, kept as ``data``.
        io_interval: see the attribute.
        timeout_interval: see the attribute.
        debug: whether any exception in a watcher's callback stops the loop and comes out of `start`.
            Otherwise only those that are no `Exception` do (KeyboardInterrupt, SystemExit), and all
            others go to `sys.excepthook`.
    """

    def io(
        self, fd: Any, events: int, callback: Callback, data: object = None, priority: int = 0
    ) -> Io:
        """Return an `Io` of this loop."""
        return Io(fd, events, self, callback, data, priority)

    def timer(
        self,
        after: float,
        repeat: float,
        callback: Callback,
        data: object = None,
        priority: int = 0,
    ) -> Timer:
        """Return a `Timer` of this loop."""
        return Timer(after, repeat, self, callback, data, priority)

    def periodic(
        self,
        offset: float,
        interval: float,
        callback: Callback,
        data: object = None,
        priority: int = 0,
    ) -> Periodic:
        """Return a `Periodic` of this loop."""
        return Periodic(offset, interval, self, callback, data, priority)

    def scheduler(
        self,
        scheduler: Callable[[Any, float], float],
        callback: Callback,
        data: object = None,
        priority: int = 0,
    ) -> Scheduler:
        """Return a `Scheduler` of this loop."""
        return Scheduler(scheduler, self, callback, data, priority)

    def signal(
        self, signum: int, callback: Callback, data: object = None, priority: int = 0
    ) -> Signal:
        """Return a `Signal` of this loop."""
        return Signal(signum, self, callback, data, priority)

    def child(
        self, pid: int, trace: bool, callback: Callback, data: object = None, priority: int = 0
    ) -> Child:
        """Return a `Child` of this loop, which must be the default one."""
        return Child(pid, trace, self, callback, data, priority)

    def idle(self, callback: Callback, data: object = None, priority: int = 0) -> Idle:
        """Return an `Idle` of this loop."""
        return Idle(self, callback, data, priority)

    def prepare(self, callback: Callback, data: object = None, priority: int = 0) -> Prepare:
        """Return a `Prepare` of this loop."""
        return Prepare(self, callback, data, priority)

    def check(self, callback: Callback, data: object = None, priority: int = 0) -> Check:
        """Return a `Check` of this loop."""
        return Check(self, callback, data, priority)

    def embed(
        self, other: Loop, callback: Callback | None = None, data: object = None, priority: int = 0
    ) -> Embed:
        """Return an `Embed` of ``other`` in this loop."""
        return Embed(other, self, callback, data, priority)

    def fork(self, callback: Callback, data: object = None, priority: int = 0) -> Fork:
        """Return a `Fork` of this loop."""
        return Fork(self, callback, data, priority)

    def async_(self, callback: Callback, data: object = None, priority: int = 0) -> Async:
        """Return an `Async` of this loop. The method's name in pyev, ``async``, is a keyword now and
        still works with `getattr`."""
        return Async(self, callback, data, priority)


setattr(Loop, "async", Loop.async_)

_the_default: Loop | None = None


def default_loop(
    flags: int = lib.EVFLAG_AUTO,
    callback: Callback | None = None,
    data: object = None,
    io_interval: float = 0.0,
    timeout_interval: float = 0.0,
    debug: bool | None = None,
) -> Loop:
    """Return libev's one default loop. The first call creates it; of a later call only ``debug`` counts.

    The default loop belongs to the process, and bindings linked to the same libev share it: run it
    in one thread at a time. Only the default loop can watch child processes.

    Args:
        flags: EVFLAG_* and EVBACKEND_* bits.
        callback: None. The parameter exists because pyev has one.
        data: as for `Loop`.
        io_interval: as for `Loop`.
        timeout_interval: as for `Loop`.
        debug: as for `Loop`. None leaves the loop's ``debug`` in place, which is False at first.

    Raises:
        Error: a callback was given.
    """
    global _the_default
    if _the_default is None or lib.nats_ev_loop_is_gone(_the_default._c_loop):
        loop = Loop.__new__(Loop)
        loop._open(True, flags, callback, data, io_interval, timeout_interval, bool(debug))
        _the_default = loop
    elif callback is not None:
        _the_default.callback = callback  # raises
    elif debug is not None:
        _the_default.debug = debug
    return _the_default
