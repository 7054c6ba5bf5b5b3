"""The watchers of `nats_ev.pyev`: one class for each kind of event.

Every watcher is made as ``Kind(<what to watch>, loop, callback, data=None, priority=0)``, calls
``callback(watcher, revents)``, and is kept alive by its loop from `start` (or `feed`) until it
is neither active nor pending. ``set()`` reconfigures an inactive watcher.
"""

from __future__ import annotations

import signal as _signal
from collections.abc import Callable
from math import isfinite, isnan
from typing import TYPE_CHECKING, Any

from nats_ev._libev import ffi, lib

from ._glue import ABORTED, Error, finish, register

if TYPE_CHECKING:
    from ._loop import Loop

_IO_EVENTS: int = lib.EV_READ | lib.EV_WRITE

# What programs call per message or per time-out, without the look-up in lib.
_active = lib.ev_is_active
_pending = lib.ev_is_pending
_start = lib.nats_ev_start
_stop = lib.nats_ev_stop
_feed = lib.nats_ev_feed
_set_times = lib.nats_ev_set_times


def require_int(name: str, value: object) -> int:
    """Return ``value`` if it is an int that fits C's, else raise TypeError or ValueError."""
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not -0x80000000 <= value <= 0xFFFFFFFF:
        raise ValueError(f"{name} is out of range: {value}")
    return value


def require_seconds(name: str, value: object, minimum: float | None = 0.0) -> float:
    """Return ``value`` as a float that is a number and not below ``minimum``."""
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if isnan(value):
        raise ValueError(f"{name} is not a number")
    if minimum is not None and value < minimum:
        raise ValueError(f"{name} must not be less than {minimum:g}, got {value:g}")
    return float(value)


def embeddable_backends() -> int:
    """Return the EVBACKEND_* bits of loops that an `Embed` watcher can take."""
    # libev counts io_uring among them and then aborts: such a loop has no descriptor to watch.
    bits: int = lib.ev_embeddable_backends() & ~lib.EVBACKEND_IOURING
    return bits


def require_callable(name: str, value: Any) -> Any:
    """Return ``value`` if it can be called, else raise TypeError."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {type(value).__name__}")
    return value


class Watcher:
    """What all watchers have in common. Not for direct use.

    ``data`` is any object of the user's. `callback` may be replaced at any time.
    Methods must be called on the thread that runs the loop; only `Async.send` is an exception.
    """

    __slots__ = ("__weakref__", "_callback", "_held", "_key", "_loop", "_w", "data")

    _type: int

    def __init__(
        self, loop: Loop, callback: Callable[..., object], data: object, priority: int
    ) -> None:
        c_loop = getattr(loop, "_c", None)
        if c_loop is None:
            raise TypeError(f"loop must be a Loop, not {type(loop).__name__}")
        self._loop = loop
        self._held = loop._held
        self._callback = self._checked_callback(callback)
        self.data = data
        self._key = register(self)
        memory = lib.nats_ev_watcher_new(c_loop, self._type, self._key)
        if not memory:
            raise MemoryError("no memory for a watcher")
        self._w = ffi.gc(memory, lib.nats_ev_watcher_free)
        if priority:
            self.priority = priority

    def _checked_callback(self, callback: Any) -> Any:
        return require_callable("callback", callback)

    def start(self) -> None:
        """Begin to watch; nothing happens if it already does."""
        self._held[self._key] = self
        failure = _start(self._w)
        if failure:
            self._release()
            raise Error(self._why_not(failure))

    def _why_not(self, failure: int) -> str:
        return f"the watcher cannot be started: error {failure}"

    def stop(self) -> None:
        """Stop watching and forget a pending event; harmless on a stopped watcher."""
        _stop(self._w)
        self._held.pop(self._key, None)

    def feed(self, revents: int) -> None:
        """Make the loop deliver ``revents`` as if they had happened, active or not."""
        self._held[self._key] = self
        _feed(self._w, revents)

    def invoke(self, revents: int) -> None:
        """Call the callback now. Exceptions mean the same as in a callback of the loop."""
        # C consults "held" for an inactive watcher, as for one whose event was pending.
        self._held[self._key] = self
        result = lib.nats_ev_invoke(self._w, revents)
        if _pending(self._w):
            self._held[self._key] = self
        if result == ABORTED:
            raise finish()

    def clear(self) -> int:
        """Forget a pending event and return its bits, 0 if there was none."""
        revents: int = lib.ev_clear_pending(self._loop._ev, self._w)
        self._release()
        return revents

    def _release(self) -> None:
        if not _active(self._w) and not _pending(self._w):
            self._held.pop(self._key, None)

    def _require_inactive(self) -> None:
        if _active(self._w):
            raise Error(f"cannot reconfigure a {type(self).__name__} watcher while it is active")

    @property
    def active(self) -> bool:
        """True from `start` until `stop`, or until a one-shot timer expires."""
        return bool(_active(self._w))

    @property
    def pending(self) -> bool:
        """True while an event waits for the callback."""
        return bool(_pending(self._w))

    @property
    def loop(self) -> Loop:
        """The loop that this watcher was made for."""
        return self._loop

    @property
    def callback(self) -> Any:
        """Called as ``callback(watcher, revents)``."""
        return self._callback

    @callback.setter
    def callback(self, callback: Callable[..., object]) -> None:
        self._callback = self._checked_callback(callback)

    @property
    def priority(self) -> int:
        """EV_MINPRI to EV_MAXPRI; higher ones are called first. Settable while inactive and
        not pending."""
        value: int = lib.ev_priority(self._w)
        return value

    @priority.setter
    def priority(self, priority: int) -> None:
        if not lib.EV_MINPRI <= require_int("priority", priority) <= lib.EV_MAXPRI:
            raise ValueError(
                f"priority must be from {lib.EV_MINPRI} to {lib.EV_MAXPRI}, got {priority}"
            )
        if _active(self._w) or _pending(self._w):
            raise Error("cannot change the priority of a watcher that is active or pending")
        lib.ev_set_priority(self._w, priority)


class Io(Watcher):
    """Calls back while a descriptor is readable or writable (level-triggered)."""

    __slots__ = ("_events", "_fd")
    _type = lib.NATS_EV_TYPE_IO

    def __init__(
        self,
        fd: Any,
        events: int,
        loop: Loop,
        callback: Callable[..., object],
        data: object = None,
        priority: int = 0,
    ) -> None:
        super().__init__(loop, callback, data, priority)
        self.set(fd, events)

    def set(self, fd: Any, events: int) -> None:
        """Watch another descriptor, an int or an object with ``fileno()``, or other events."""
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
        lib.nats_ev_set_io(self._w, fd, events)

    def _why_not(self, failure: int) -> str:
        return f"descriptor {self._fd} is not open"

    @property
    def fd(self) -> int:
        """The descriptor being watched."""
        return self._fd

    @property
    def events(self) -> int:
        """EV_READ, EV_WRITE or both."""
        return self._events


class Timer(Watcher):
    """Calls back ``after`` seconds, then every ``repeat`` seconds unless that is 0.

    Counts from the loop's `Loop.now`, on the monotonic clock.
    """

    __slots__ = ()
    _type = lib.NATS_EV_TYPE_TIMER

    def __init__(
        self,
        after: float,
        repeat: float,
        loop: Loop,
        callback: Callable[..., object],
        data: object = None,
        priority: int = 0,
    ) -> None:
        super().__init__(loop, callback, data, priority)
        self.set(after, repeat)

    def set(self, after: float, repeat: float) -> None:
        """Set both times, in seconds. An ``after`` of 0 or less is due at once."""
        after = require_seconds("after", after, None)
        repeat = require_seconds("repeat", repeat)
        self._require_inactive()
        _set_times(self._w, after, repeat)

    def reset(self) -> None:
        """Start again with `repeat` as the time-out; a timer without one is stopped."""
        self._held[self._key] = self
        lib.nats_ev_again(self._w)
        self._release()

    @property
    def remaining(self) -> float:
        """Seconds until the timer is due; when inactive, its configured ``after``."""
        seconds: float = lib.ev_timer_remaining(self._loop._ev, ffi.cast("ev_timer *", self._w))
        return seconds

    @property
    def repeat(self) -> float:
        """Seconds between two calls, 0 for one call only. Used at the next expiry or `reset`."""
        seconds: float = ffi.cast("ev_timer *", self._w).repeat
        return seconds

    @repeat.setter
    def repeat(self, repeat: float) -> None:
        ffi.cast("ev_timer *", self._w).repeat = require_seconds("repeat", repeat)


class _WallClock(Watcher):
    __slots__ = ()

    def reset(self) -> None:
        """Stop and start again, with the time computed anew."""
        self._held[self._key] = self
        lib.nats_ev_again(self._w)

    @property
    def at(self) -> float:
        """Unix time of the next call; meaningful while active."""
        time: float = lib.ev_periodic_at(ffi.cast("ev_periodic *", self._w))
        return time


class Periodic(_WallClock):
    """Calls back at points of the wall clock, and follows when that is set.

    ``interval`` 0: once, at the Unix time ``offset``. Otherwise whenever the time is
    ``offset + n * interval`` for some whole n.
    """

    __slots__ = ()
    _type = lib.NATS_EV_TYPE_PERIODIC

    def __init__(
        self,
        offset: float,
        interval: float,
        loop: Loop,
        callback: Callable[..., object],
        data: object = None,
        priority: int = 0,
    ) -> None:
        super().__init__(loop, callback, data, priority)
        self.set(offset, interval)

    def set(self, offset: float, interval: float) -> None:
        """Set both times, in seconds."""
        offset = _require_finite("offset", offset, None)
        interval = _require_finite("interval", interval)
        self._require_inactive()
        _set_times(self._w, offset, interval)

    @property
    def offset(self) -> float:
        """Seconds; counts when the watcher is next started, reset or due."""
        seconds: float = ffi.cast("ev_periodic *", self._w).offset
        return seconds

    @offset.setter
    def offset(self, offset: float) -> None:
        ffi.cast("ev_periodic *", self._w).offset = _require_finite("offset", offset, None)

    @property
    def interval(self) -> float:
        """Seconds; counts when the watcher is next started, reset or due."""
        seconds: float = ffi.cast("ev_periodic *", self._w).interval
        return seconds

    @interval.setter
    def interval(self, interval: float) -> None:
        ffi.cast("ev_periodic *", self._w).interval = _require_finite("interval", interval)


def _require_finite(name: str, value: object, minimum: float | None = 0.0) -> float:
    seconds = require_seconds(name, value, minimum)
    if not isfinite(seconds):
        raise ValueError(f"{name} must be finite")
    return seconds


class Scheduler(_WallClock):
    """Calls back at the Unix times that ``scheduler(watcher, now)`` names, one after another.

    The scheduler returns a float not before ``now``, and must not touch the loop. If it raises
    or returns something else, the watcher is stopped and its error treated like one of the
    callback; out of `start` and `reset` it is raised directly.
    """

    __slots__ = ("_error", "_scheduler", "_user_callback")
    _type = lib.NATS_EV_TYPE_SCHEDULER

    def __init__(
        self,
        scheduler: Callable[[Any, float], float],
        loop: Loop,
        callback: Callable[..., object],
        data: object = None,
        priority: int = 0,
    ) -> None:
        super().__init__(loop, callback, data, priority)
        self._error: BaseException | None = None
        self._scheduler = require_callable("scheduler", scheduler)
        _set_times(self._w, 0.0, 0.0)

    def set(self, scheduler: Callable[[Any, float], float]) -> None:
        """Replace the scheduler of an inactive watcher."""
        require_callable("scheduler", scheduler)
        self._require_inactive()
        self._scheduler = scheduler

    def _checked_callback(self, callback: Any) -> Any:
        self._user_callback = require_callable("callback", callback)
        return _on_schedule

    def _next(self, now: float) -> float:
        try:
            at = require_seconds("the scheduled time", self._scheduler(self, now))
            if at < now:
                raise ValueError(f"the scheduled time {at:.6f} is before now, {now:.6f}")
            return at
        except BaseException as exc:
            self._error = exc
            return float("nan")

    def _raise_error(self) -> None:
        if self._error is not None:
            self.stop()
            error, self._error = self._error, None
            raise error

    def start(self) -> None:
        """Ask the scheduler for a time and begin to watch."""
        super().start()
        self._raise_error()

    def reset(self) -> None:
        """Ask the scheduler anew."""
        super().reset()
        self._raise_error()

    @property
    def callback(self) -> Any:
        """Called as ``callback(watcher, revents)``."""
        return self._user_callback

    @callback.setter
    def callback(self, callback: Callable[..., object]) -> None:
        self._user_callback = require_callable("callback", callback)

    @property
    def scheduler(self) -> Any:
        """Called as ``scheduler(watcher, now)``; may be replaced at any time."""
        return self._scheduler

    @scheduler.setter
    def scheduler(self, scheduler: Callable[[Any, float], float]) -> None:
        self._scheduler = require_callable("scheduler", scheduler)


def _on_schedule(watcher: Scheduler, revents: int) -> None:
    """Deliver what was due, then the scheduler's own error."""
    try:
        if watcher._error is None or revents & lib.EV_PERIODIC:
            watcher._user_callback(watcher, revents & ~lib.EV_ERROR)
    finally:
        watcher._raise_error()


class Signal(Watcher):
    """Calls back, as part of normal event delivery, after the process received a signal.

    While it is active Python's own handler for that signal does not run; `stop` of the last one
    brings it back. One signal can be watched in one loop at a time, SIGCHLD in the default loop.
    """

    __slots__ = ("_signum",)
    _type = lib.NATS_EV_TYPE_SIGNAL

    def __init__(
        self,
        signum: int,
        loop: Loop,
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
        lib.nats_ev_set_signal(self._w, signum)

    def _why_not(self, failure: int) -> str:
        return f"another loop watches signal {self._signum} already"

    @property
    def signum(self) -> int:
        """The signal being watched."""
        return self._signum


class Child(Watcher):
    """Calls back when a child process changes state. Default loop only, always EV_MAXPRI.

    ``pid`` 0 watches all children; with ``trace`` stops and continuations count too.
    """

    __slots__ = ("_pid",)
    _type = lib.NATS_EV_TYPE_CHILD

    def __init__(
        self,
        pid: int,
        trace: bool,
        loop: Loop,
        callback: Callable[..., object],
        data: object = None,
        priority: int = 0,
    ) -> None:
        super().__init__(loop, callback, data, priority)
        if not loop.default:
            raise Error("only the default loop can watch child processes")
        self.set(pid, trace)

    def set(self, pid: int, trace: bool) -> None:
        """Watch another process."""
        if not 0 <= require_int("pid", pid) <= 0x7FFFFFFF:
            raise ValueError(f"pid must not be negative: {pid}")
        self._require_inactive()
        self._pid = int(pid)
        lib.nats_ev_set_child(self._w, pid, bool(trace))

    @property
    def pid(self) -> int:
        """The process being watched, 0 for any."""
        return self._pid

    @property
    def rpid(self) -> int:
        """The process that changed state."""
        pid: int = ffi.cast("ev_child *", self._w).rpid
        return pid

    @rpid.setter
    def rpid(self, pid: int) -> None:
        ffi.cast("ev_child *", self._w).rpid = require_int("rpid", pid)

    @property
    def rstatus(self) -> int:
        """Its wait status; see `os.waitstatus_to_exitcode`."""
        status: int = ffi.cast("ev_child *", self._w).rstatus
        return status

    @rstatus.setter
    def rstatus(self, status: int) -> None:
        ffi.cast("ev_child *", self._w).rstatus = require_int("rstatus", status)


class Idle(Watcher):
    """Calls back in each iteration that has no other event of this or a higher priority.

    While one is active the loop does not block.
    """

    __slots__ = ()
    _type = lib.NATS_EV_TYPE_IDLE

    def __init__(
        self, loop: Loop, callback: Callable[..., object], data: object = None, priority: int = 0
    ) -> None:
        super().__init__(loop, callback, data, priority)


class Prepare(Watcher):
    """Calls back in each iteration just before the loop waits for events."""

    __slots__ = ()
    _type = lib.NATS_EV_TYPE_PREPARE

    def __init__(
        self, loop: Loop, callback: Callable[..., object], data: object = None, priority: int = 0
    ) -> None:
        super().__init__(loop, callback, data, priority)


class Check(Watcher):
    """Calls back in each iteration right after the loop has gathered events."""

    __slots__ = ()
    _type = lib.NATS_EV_TYPE_CHECK

    def __init__(
        self, loop: Loop, callback: Callable[..., object], data: object = None, priority: int = 0
    ) -> None:
        super().__init__(loop, callback, data, priority)


class Fork(Watcher):
    """Calls back in the child of a fork, in the first iteration after `Loop.reset`."""

    __slots__ = ()
    _type = lib.NATS_EV_TYPE_FORK

    def __init__(
        self, loop: Loop, callback: Callable[..., object], data: object = None, priority: int = 0
    ) -> None:
        super().__init__(loop, callback, data, priority)


class Async(Watcher):
    """Lets other threads wake the loop: `send` may be called from any thread."""

    __slots__ = ()
    _type = lib.NATS_EV_TYPE_ASYNC

    def __init__(
        self, loop: Loop, callback: Callable[..., object], data: object = None, priority: int = 0
    ) -> None:
        super().__init__(loop, callback, data, priority)

    def send(self) -> None:
        """Have the callback called soon, once for any number of calls until then."""
        lib.nats_ev_async_send(self._w)

    @property
    def sent(self) -> bool:
        """True from `send` until the loop has noticed it."""
        return bool(lib.nats_ev_async_sent(self._w))


class Embed(Watcher):
    """Runs another loop inside this one, for its I/O.

    Without a callback the other loop is swept as soon as it has events; a callback has to call
    `sweep`. The other loop's backend must be one of `embeddable_backends`.
    """

    __slots__ = ("_other",)
    _type = lib.NATS_EV_TYPE_EMBED

    def __init__(
        self,
        other: Loop,
        loop: Loop,
        callback: Callable[..., object] | None = None,
        data: object = None,
        priority: int = 0,
    ) -> None:
        super().__init__(loop, callback or _sweep, data, priority)
        self.set(other)

    def set(self, other: Loop) -> None:
        """Embed another loop."""
        if getattr(other, "_c", None) is None:
            raise TypeError(f"other must be a Loop, not {type(other).__name__}")
        if other is self._loop:
            raise Error("a loop cannot embed itself")
        if not other.backend & embeddable_backends():
            raise Error("the backend of the other loop is not embeddable")
        self._require_inactive()
        self._other = other
        lib.nats_ev_set_embed(self._w, other._c)

    def _checked_callback(self, callback: Any) -> Any:
        return _sweep if callback is None else require_callable("callback", callback)

    @property
    def callback(self) -> Any:
        """Called as ``callback(watcher, revents)``; None: the embedded loop is swept."""
        return None if self._callback is _sweep else self._callback

    @callback.setter
    def callback(self, callback: Callable[..., object] | None) -> None:
        self._callback = self._checked_callback(callback)

    @property
    def other(self) -> Loop:
        """The embedded loop."""
        return self._other

    def sweep(self) -> None:
        """Run the embedded loop once, without blocking."""
        if lib.nats_ev_embed_sweep(self._w) == ABORTED:
            raise finish()


def _sweep(watcher: Embed, _revents: int) -> None:
    watcher.sweep()
