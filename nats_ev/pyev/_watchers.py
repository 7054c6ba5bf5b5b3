"""The watchers of `nats_ev.pyev` for descriptors, signals, processes, and the phases of a loop.

The watchers that wait for a time are in `_timers`.
"""

from __future__ import annotations

import os
import signal as _signal
from collections.abc import Callable
from typing import Any

from ._arguments import require_callable, require_int
from ._base import BaseLoop
from ._glue import ABORTED, Error, enter, finish
from ._libev import ffi, lib
from ._watcher import Watcher

_IO_EVENTS: int = lib.EV_READ | lib.EV_WRITE


class Io(Watcher):
    """A watcher that fires while a descriptor is readable or writable (level-triggered).

    Args:
        fd: the descriptor, an int or an object with ``fileno()``.
        events: EV_READ, EV_WRITE or both.
        loop: the loop that delivers the events.
        callback: called as ``callback(watcher, revents)``.
        data: any object, kept as ``data``.
        priority: EV_MINPRI to EV_MAXPRI; higher ones are called first.
    """

    __slots__ = ("_events", "_fd")
    _type = lib.NATS_EV_TYPE_IO

    def __init__(
        self,
        fd: Any,
        events: int,
        loop: BaseLoop,
        callback: Callable[..., object],
        data: object = None,
        priority: int = 0,
    ) -> None:
        super().__init__(loop, callback, data, priority)
        self.set(fd, events)

    def set(self, fd: Any, events: int) -> None:
        """Watch another descriptor or other events. The watcher must be inactive.

        Args:
            fd: the descriptor, an int or an object with ``fileno()``.
            events: EV_READ, EV_WRITE or both.

        Raises:
            Error: the watcher is active.
        """
        if not isinstance(fd, int):
            fileno = getattr(fd, "fileno", None)
            if fileno is None:
                raise TypeError(f"fd must be an int or have fileno(), not {type(fd).__name__}")
            fd = fileno()
        if not 0 <= require_int("fd", fd) <= 0x7FFFFFFF:
            raise ValueError(f"fd is not a valid file descriptor: {fd}")
        if require_int("events", events) & ~_IO_EVENTS or not events:
            raise ValueError(f"events must be EV_READ, EV_WRITE or both, got {events:#x}")
        self._require_inactive()
        self._fd: int = fd
        self._events: int = events
        lib.nats_ev_set_io(self._c_watcher, fd, events)

    def _why_not(self, failure: int) -> str:
        return f"descriptor {self._fd} is not open"

    @property
    def fd(self) -> int:
        """The descriptor that is watched."""
        return self._fd

    @property
    def events(self) -> int:
        """EV_READ, EV_WRITE or both."""
        return self._events


class Signal(Watcher):
    """A watcher that fires, as part of normal event delivery, after the process received a signal.

    While a watcher is active, Python's own handler for its signal does not run; `stop` of the last such
    watcher restores the handler, or leaves the one that the program has set meanwhile. A signal can be
    watched in one loop at a time, SIGCHLD only in the default loop. A watcher of SIGCHLD reaps no child.

    Args:
        signum: the number of the signal.
        loop: the loop that delivers the events.
        callback: called as ``callback(watcher, revents)``.
        data: any object, kept as ``data``.
        priority: EV_MINPRI to EV_MAXPRI; higher ones are called first.
    """

    __slots__ = ("_signum",)
    _type = lib.NATS_EV_TYPE_SIGNAL

    def __init__(
        self,
        signum: int,
        loop: BaseLoop,
        callback: Callable[..., object],
        data: object = None,
        priority: int = 0,
    ) -> None:
        super().__init__(loop, callback, data, priority)
        self.set(signum)

    def set(self, signum: int) -> None:
        """Watch another signal."""
        if not 0 < require_int("signum", signum) < lib.NATS_EV_NSIG:
            raise ValueError(f"signum is not a signal number: {signum}")
        if signum in (_signal.SIGKILL, _signal.SIGSTOP):
            raise ValueError(f"{_signal.Signals(signum).name} cannot be caught")
        if signum == _signal.SIGCHLD and not self._loop.default:
            raise Error("only the default loop can watch SIGCHLD")
        self._require_inactive()
        self._signum = int(signum)
        lib.nats_ev_set_signal(self._c_watcher, signum)

    def _why_not(self, failure: int) -> str:
        return f"another loop watches signal {self._signum} already"

    @property
    def signum(self) -> int:
        """The number of the signal that is watched."""
        return self._signum


class Child(Watcher):
    """A watcher that fires when a child process changes state. Only for the default loop.

    While any `Child` watcher is active, libev takes SIGCHLD and reaps every child of the process:
    `os.waitpid`, `subprocess` and `multiprocessing` then do not see how their children ended. Otherwise no
    loop touches the signal or a child. A child that ended before `start` is noticed, unless the program has
    reaped the child.

    Args:
        pid: the process, or 0 for all children.
        trace: whether stopping and continuing count as changes as well.
        loop: the loop that delivers the events.
        callback: called as ``callback(watcher, revents)``.
        data: any object, kept as ``data``.
        priority: accepted for symmetry; libev delivers with EV_MAXPRI.
    """

    __slots__ = ("_pid",)
    _type = lib.NATS_EV_TYPE_CHILD

    def __init__(
        self,
        pid: int,
        trace: bool,
        loop: BaseLoop,
        callback: Callable[..., object],
        data: object = None,
        priority: int = 0,
    ) -> None:
        super().__init__(loop, callback, data, priority)
        if not loop.default:
            raise Error("only the default loop can watch child processes")
        self.set(pid, trace)

    def set(self, pid: int, trace: bool) -> None:
        """Watch another process. The watcher must be inactive.

        Args:
            pid: the process, or 0 for all children.
            trace: whether stopping and continuing count as changes as well.

        Raises:
            Error: the watcher is active.
        """
        if not 0 <= require_int("pid", pid) <= 0x7FFFFFFF:
            raise ValueError(f"pid must not be negative: {pid}")
        self._require_inactive()
        self._pid = int(pid)
        lib.nats_ev_set_child(self._c_watcher, pid, bool(trace))

    @property
    def pid(self) -> int:
        """The process that is watched, 0 for all children."""
        return self._pid

    @property
    def rpid(self) -> int:
        """The process that changed state."""
        return ffi.cast("ev_child *", self._c_watcher).rpid

    @rpid.setter
    def rpid(self, pid: int) -> None:
        ffi.cast("ev_child *", self._c_watcher).rpid = require_int("rpid", pid)

    @property
    def rstatus(self) -> int:
        """The wait status of that process; see `os.waitstatus_to_exitcode`."""
        return ffi.cast("ev_child *", self._c_watcher).rstatus

    @rstatus.setter
    def rstatus(self, status: int) -> None:
        ffi.cast("ev_child *", self._c_watcher).rstatus = require_int("rstatus", status)


class Idle(Watcher):
    """A watcher that fires in each iteration without another event of this or a higher priority.

    While an idle watcher is active the loop does not block.
    """

    __slots__ = ()
    _type = lib.NATS_EV_TYPE_IDLE


class Prepare(Watcher):
    """A watcher that fires in each iteration, just before the loop waits for events."""

    __slots__ = ()
    _type = lib.NATS_EV_TYPE_PREPARE


class Check(Watcher):
    """A watcher that fires in each iteration, right after the loop has gathered events."""

    __slots__ = ()
    _type = lib.NATS_EV_TYPE_CHECK


class Fork(Watcher):
    """A watcher that fires in the child of a fork, in the first iteration after `Loop.reset`."""

    __slots__ = ()
    _type = lib.NATS_EV_TYPE_FORK


class Async(Watcher):
    """A watcher that other threads can make fire: `send` may be called from any thread."""

    __slots__ = ()
    _type = lib.NATS_EV_TYPE_ASYNC

    def start(self) -> None:
        """Begin to watch. On an active watcher the call does nothing.

        Raises `Error` if the process has no descriptor left for the loop's first watcher of this kind.
        """
        if not self._loop._wakes:
            try:
                for fd in os.pipe():
                    os.close(fd)
            except OSError as exc:  # libev would end the process
                raise Error(f"no descriptor to wake the loop with: {exc.strerror}") from exc
        super().start()
        self._loop._wakes = True

    def send(self) -> None:
        """Make the watcher fire soon. Calls until then are coalesced into one event."""
        lib.nats_ev_async_send(self._c_watcher)

    @property
    def sent(self) -> bool:
        """Whether `send` has been called and the loop has not noticed the call yet."""
        return bool(lib.nats_ev_async_sent(self._c_watcher))


def embeddable_backends() -> int:
    """Return the EVBACKEND_* bits of loops that an `Embed` watcher can take."""
    # libev counts io_uring among them, and then aborts: such a loop has no descriptor to watch.
    return lib.ev_embeddable_backends() & ~lib.EVBACKEND_IOURING


class Embed(Watcher):
    """A watcher that runs another loop inside its own loop, for the I/O of the other loop.

    Args:
        other: the loop to embed. Its backend must be one of `embeddable_backends`.
        loop: the loop that delivers the events.
        callback: called as ``callback(watcher, revents)`` when the other loop has events, and must call
            `sweep`. None sweeps without a callback.
        data: any object, kept as ``data``.
        priority: EV_MINPRI to EV_MAXPRI; higher ones are called first.
    """

    __slots__ = ("_other",)
    _type = lib.NATS_EV_TYPE_EMBED

    def __init__(
        self,
        other: BaseLoop,
        loop: BaseLoop,
        callback: Callable[..., object] | None = None,
        data: object = None,
        priority: int = 0,
    ) -> None:
        super().__init__(loop, callback or _sweep, data, priority)
        self.set(other)

    def set(self, other: BaseLoop) -> None:
        """Embed another loop."""
        if getattr(other, "_c_loop", None) is None:
            raise TypeError(f"other must be a Loop, not {type(other).__name__}")
        if other is self._loop:
            raise Error("a loop cannot embed itself")
        if not other.backend & embeddable_backends():
            raise Error("the backend of the other loop is not embeddable")
        self._require_inactive()
        self._other = other
        lib.nats_ev_set_embed(self._c_watcher, other._c_loop)

    def _checked_callback(self, callback: Any) -> Any:
        return _sweep if callback is None else require_callable("callback", callback)

    @property
    def callback(self) -> Any:
        """The callable that gets the events; None when the embedded loop is swept without one."""
        return None if self._callback is _sweep else self._callback

    @callback.setter
    def callback(self, callback: Callable[..., object] | None) -> None:
        self._callback = self._checked_callback(callback)

    @property
    def other(self) -> Any:
        """The embedded `Loop`."""
        return self._other

    def sweep(self) -> None:
        """Run the embedded loop once, without blocking."""
        if enter(lib.nats_ev_embed_sweep, self._c_watcher) == ABORTED:
            raise finish()


def _sweep(watcher: Embed, _revents: int) -> None:
    watcher.sweep()
