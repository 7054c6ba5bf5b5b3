"""The watchers of `nats_ev.pyev` that wait for a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._arguments import require_callable, require_finite, require_seconds
from ._base import BaseLoop
from ._libev import ffi, lib
from ._watcher import Watcher

# Called per time-out, without the look-up in lib.
_set_times = lib.nats_ev_set_times


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
        loop: BaseLoop,
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
        return lib.ev_timer_remaining(self._loop._ev, ffi.cast("ev_timer *", self._w))

    @property
    def repeat(self) -> float:
        """Seconds between two calls, 0 for one call only. Used at the next expiry or `reset`."""
        return ffi.cast("ev_timer *", self._w).repeat

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
        return lib.ev_periodic_at(ffi.cast("ev_periodic *", self._w))


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
        loop: BaseLoop,
        callback: Callable[..., object],
        data: object = None,
        priority: int = 0,
    ) -> None:
        super().__init__(loop, callback, data, priority)
        self.set(offset, interval)

    def set(self, offset: float, interval: float) -> None:
        """Set both times, in seconds."""
        offset = require_finite("offset", offset, None)
        interval = require_finite("interval", interval)
        self._require_inactive()
        _set_times(self._w, offset, interval)

    @property
    def offset(self) -> float:
        """Seconds; counts when the watcher is next started, reset or due."""
        return ffi.cast("ev_periodic *", self._w).offset

    @offset.setter
    def offset(self, offset: float) -> None:
        ffi.cast("ev_periodic *", self._w).offset = require_finite("offset", offset, None)

    @property
    def interval(self) -> float:
        """Seconds; counts when the watcher is next started, reset or due."""
        return ffi.cast("ev_periodic *", self._w).interval

    @interval.setter
    def interval(self, interval: float) -> None:
        ffi.cast("ev_periodic *", self._w).interval = require_finite("interval", interval)


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
        loop: BaseLoop,
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
