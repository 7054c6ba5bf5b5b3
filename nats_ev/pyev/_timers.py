"""The watchers of `nats_ev.pyev` that wait for a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._arguments import require_callable, require_finite, require_seconds
from ._base import BaseLoop
from ._glue import register
from ._libev import ffi, lib
from ._watcher import Watcher

# Called per time-out: saves the look-up in lib.
_set_times = lib.nats_ev_set_times


class Timer(Watcher):
    """A watcher that fires after some seconds, once or repeatedly.

    The time counts from `Loop.now`, on the monotonic clock.

    Args:
        after: seconds until the first call; 0 or less is due at once.
        repeat: seconds between later calls; 0 for one call only.
        loop: the loop that delivers the events.
        callback: called as ``callback(watcher, revents)``.
        data: any object, kept as ``data``.
        priority: EV_MINPRI to EV_MAXPRI; higher ones are called first.
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
        """Set both times of an inactive timer.

        Args:
            after: seconds until the first call; 0 or less is due at once.
            repeat: seconds between later calls; 0 for one call only.

        Raises:
            Error: the timer is active.
        """
        after = require_seconds("after", after, None)
        repeat = require_seconds("repeat", repeat)
        self._require_inactive()
        _set_times(self._c_watcher, after, repeat)

    def reset(self) -> None:
        """Start again, with `repeat` as the time-out. A timer whose `repeat` is 0 is stopped."""
        self._held[self._key] = self
        lib.nats_ev_again(self._c_watcher)
        self._release()

    @property
    def remaining(self) -> float:
        """Seconds until the timer is due; when inactive, its configured ``after``."""
        return lib.ev_timer_remaining(self._loop._ev_loop, ffi.cast("ev_timer *", self._c_watcher))

    @property
    def repeat(self) -> float:
        """Seconds between two calls, 0 for one call only. A change counts from the next expiry or
        `reset` on."""
        return ffi.cast("ev_timer *", self._c_watcher).repeat

    @repeat.setter
    def repeat(self, repeat: float) -> None:
        ffi.cast("ev_timer *", self._c_watcher).repeat = require_seconds("repeat", repeat)


class _WallClock(Watcher):
    """The common part of the watchers that follow the wall clock."""

    __slots__ = ()

    def reset(self) -> None:
        """Stop and start again: the time of the next call is computed again."""
        self._held[self._key] = self
        lib.nats_ev_again(self._c_watcher)

    @property
    def at(self) -> float:
        """Unix time of the next call; meaningful while active."""
        return lib.ev_periodic_at(ffi.cast("ev_periodic *", self._c_watcher))


class Periodic(_WallClock):
    """A watcher that fires at times of the wall clock, and adapts when the clock is set.

    Args:
        offset: Unix time of the one call, if ``interval`` is 0.
        interval: if not 0, the watcher fires at every time ``offset + n * interval``, n whole.
        loop: the loop that delivers the events.
        callback: called as ``callback(watcher, revents)``.
        data: any object, kept as ``data``.
        priority: EV_MINPRI to EV_MAXPRI; higher ones are called first.
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
        """Set both times of an inactive watcher.

        Args:
            offset: Unix time in seconds; not more than ``interval``, unless that is 0.
            interval: seconds.

        Raises:
            Error: the watcher is active.
            ValueError: ``offset`` is more than an ``interval`` that is not 0.
        """
        offset = require_finite("offset", offset, None)
        interval = require_finite("interval", interval)
        if 0.0 < interval < offset:
            raise ValueError(f"offset {offset:g} must not be more than interval {interval:g}")
        self._require_inactive()
        _set_times(self._c_watcher, offset, interval)

    @property
    def offset(self) -> float:
        """Seconds. A change counts when the watcher is next started, reset or due."""
        return ffi.cast("ev_periodic *", self._c_watcher).offset

    @offset.setter
    def offset(self, offset: float) -> None:
        ffi.cast("ev_periodic *", self._c_watcher).offset = require_finite("offset", offset, None)

    @property
    def interval(self) -> float:
        """Seconds. A change counts when the watcher is next started, reset or due."""
        return ffi.cast("ev_periodic *", self._c_watcher).interval

    @interval.setter
    def interval(self, interval: float) -> None:
        ffi.cast("ev_periodic *", self._c_watcher).interval = require_finite("interval", interval)


class Scheduler(_WallClock):
    """A watcher that fires at the Unix times that a scheduler returns, one after another.

    The scheduler returns a float not before ``now``, and must not touch the loop. If the scheduler
    raises or returns something else, the watcher is stopped, and the error is treated like an
    exception of the callback; `start` and `reset` raise it directly.

    Args:
        scheduler: called as ``scheduler(watcher, now)``, with ``now`` in seconds.
        loop: the loop that delivers the events.
        callback: called as ``callback(watcher, revents)``.
        data: any object, kept as ``data``.
        priority: EV_MINPRI to EV_MAXPRI; higher ones are called first.
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
        _set_times(self._c_watcher, 0.0, 0.0)

    def set(self, scheduler: Callable[[Any, float], float]) -> None:
        """Replace the scheduler of an inactive watcher."""
        require_callable("scheduler", scheduler)
        self._require_inactive()
        self._scheduler = scheduler

    def _make_key(self) -> int:
        return register(self)

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
        """Ask the scheduler again."""
        super().reset()
        self._raise_error()

    @property
    def callback(self) -> Any:
        """The callable that gets the events, as ``callback(watcher, revents)``."""
        return self._user_callback

    @callback.setter
    def callback(self, callback: Callable[..., object]) -> None:
        self._user_callback = require_callable("callback", callback)

    @property
    def scheduler(self) -> Any:
        """The callable ``scheduler(watcher, now)``; may be replaced at any time."""
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
