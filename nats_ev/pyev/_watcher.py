"""`Watcher`, the base class of all watchers of `nats_ev.pyev`.

Every watcher is created as ``Kind(<what to watch>, loop, callback, data=None, priority=0)`` and calls
``callback(watcher, revents)``. Its loop keeps the watcher alive from `start` (or `feed`) until the watcher is
neither active nor pending. ``set()`` reconfigures an inactive watcher.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._arguments import require_callable
from ._base import BaseLoop
from ._glue import ABORTED, Error, WatcherBase, enter, finish
from ._libev import ffi, lib

# Called per message or per time-out: saves the look-up in lib.
_active = lib.ev_is_active
_pending = lib.ev_is_pending
_start = lib.nats_ev_start
_stop = lib.nats_ev_stop


class Watcher(WatcherBase):
    """The common part of all watchers. Not for direct use.

    ``data`` is any object of the user's. `callback` may be replaced at any time. Methods must be called
    on the thread that runs the loop; `Async.send` is the one exception.

    Args:
        loop: the loop that delivers the events.
        callback: called as ``callback(watcher, revents)``.
        data: any object, kept as ``data``.
        priority: EV_MINPRI to EV_MAXPRI; higher ones are called first.
    """

    __slots__ = ("__weakref__", "_c_watcher", "data")

    _type: int

    def __init__(
        self,
        loop: BaseLoop,
        callback: Callable[..., object],
        data: object = None,
        priority: int = 0,
    ) -> None:
        c_loop = getattr(loop, "_c_loop", None)
        if c_loop is None:
            raise TypeError(f"loop must be a Loop, not {type(loop).__name__}")
        self._loop = loop
        self._held = loop._held
        self._callback = self._checked_callback(callback)
        self.data = data
        self._key = self._make_key()
        memory = lib.nats_ev_watcher_new(c_loop, self._type, self._key)
        if not memory:
            raise MemoryError("no memory for a watcher")
        self._own(int(ffi.cast("uintptr_t", memory)))
        self._c_watcher = memory
        if priority != 0:
            self.priority = priority

    def __repr__(self) -> str:
        states = []
        if hasattr(self, "_c_watcher"):  # not when the constructor has failed
            states = [state for state in ("active", "pending") if getattr(self, state)]
        return f"<{type(self).__name__} {' and '.join(states) or 'inactive'} at {id(self):#x}>"

    def _make_key(self) -> int:
        return id(self)

    def _checked_callback(self, callback: Any) -> Any:
        return require_callable("callback", callback)

    def start(self) -> None:
        """Begin to watch. On an active watcher the call does nothing."""
        self._held[self._key] = self
        failure = _start(self._c_watcher)
        if failure:
            self._release()
            self._loop._check_owned()
            raise Error(self._why_not(failure))

    def _why_not(self, failure: int) -> str:
        return f"the watcher cannot be started: error {failure}"

    def stop(self) -> None:
        """Stop watching, and drop a pending event. On a stopped watcher the call does nothing."""
        _stop(self._c_watcher)
        self._held.pop(self._key, None)

    def invoke(self, revents: int) -> None:
        """Call the callback now. Its exceptions mean the same as if the loop had called it."""
        # C takes an inactive watcher out of the table, as after a pending event.
        self._held[self._key] = self
        try:
            result = enter(lib.nats_ev_invoke, self._c_watcher, revents)
        except BaseException:  # C has refused the number
            self._release()
            raise
        if _pending(self._c_watcher):
            self._held[self._key] = self
        if result == ABORTED:
            raise finish()

    def clear(self) -> int:
        """Drop a pending event and return its bits; 0 without a pending event."""
        revents: int = lib.ev_clear_pending(self._loop._ev_loop, self._c_watcher)
        self._release()
        return revents

    def _release(self) -> None:
        if not _active(self._c_watcher) and not _pending(self._c_watcher):
            self._held.pop(self._key, None)

    def _require_inactive(self) -> None:
        if _active(self._c_watcher):
            raise Error(f"cannot reconfigure a {type(self).__name__} watcher while it is active")

    @property
    def active(self) -> bool:
        """Whether the watcher is active: from `start` until `stop`, or until a one-shot timer expires."""
        return bool(_active(self._c_watcher))

    @property
    def pending(self) -> bool:
        """Whether an event has been noticed whose callback has not been called yet."""
        return bool(_pending(self._c_watcher))

    @property
    def loop(self) -> Any:
        """The `Loop` that delivers the events of this watcher."""
        return self._loop

    @property
    def callback(self) -> Any:
        """The callable that gets the events, as ``callback(watcher, revents)``."""
        return self._callback

    @callback.setter
    def callback(self, callback: Callable[..., object]) -> None:
        self._callback = self._checked_callback(callback)

    @property
    def priority(self) -> int:
        """EV_MINPRI to EV_MAXPRI; higher ones are called first. A number beyond these is clamped. Can be
        set while the watcher is neither active nor pending."""
        return lib.ev_priority(self._c_watcher)

    @priority.setter
    def priority(self, priority: int) -> None:
        if not isinstance(priority, int):
            raise TypeError(f"priority must be an int, not {type(priority).__name__}")
        if _active(self._c_watcher) or _pending(self._c_watcher):
            raise Error("cannot change the priority of a watcher that is active or pending")
        lib.ev_set_priority(self._c_watcher, max(lib.EV_MINPRI, min(priority, lib.EV_MAXPRI)))
