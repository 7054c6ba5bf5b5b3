"""What all watchers of `nats_ev.pyev` have in common: the base class, and checks of arguments.

Every watcher is made as ``Kind(<what to watch>, loop, callback, data=None, priority=0)``, calls
``callback(watcher, revents)``, and is kept alive by its loop from `start` (or `feed`) until it
is neither active nor pending. ``set()`` reconfigures an inactive watcher.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._arguments import require_callable, require_int
from ._base import BaseLoop
from ._glue import ABORTED, Error, finish, register
from ._libev import ffi, lib

# What programs call per message or per time-out, without the look-up in lib.
_active = lib.ev_is_active
_pending = lib.ev_is_pending
_start = lib.nats_ev_start
_stop = lib.nats_ev_stop
_feed = lib.nats_ev_feed


class Watcher:
    """What all watchers have in common. Not for direct use.

    ``data`` is any object of the user's. `callback` may be replaced at any time.
    Methods must be called on the thread that runs the loop; only `Async.send` is an exception.
    """

    __slots__ = ("__weakref__", "_callback", "_held", "_key", "_loop", "_w", "data")

    _type: int

    def __init__(
        self,
        loop: BaseLoop,
        callback: Callable[..., object],
        data: object = None,
        priority: int = 0,
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
    def loop(self) -> Any:
        """The `Loop` that this watcher was made for."""
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
        return lib.ev_priority(self._w)

    @priority.setter
    def priority(self, priority: int) -> None:
        if not lib.EV_MINPRI <= require_int("priority", priority) <= lib.EV_MAXPRI:
            raise ValueError(
                f"priority must be from {lib.EV_MINPRI} to {lib.EV_MAXPRI}, got {priority}"
            )
        if _active(self._w) or _pending(self._w):
            raise Error("cannot change the priority of a watcher that is active or pending")
        lib.ev_set_priority(self._w, priority)
