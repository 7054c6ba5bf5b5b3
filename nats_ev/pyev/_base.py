"""The part of a loop that knows no watcher types: running, stopping, settings.

The watchers need a loop of this class only. `_loop` adds the methods that make watchers, and so stands
above the modules of the watchers.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import Any

from ._arguments import require_callable, require_int, require_seconds
from ._glue import ABORTED, Error, finish, register, run_with_signals
from ._interrupts import shielded
from ._libev import ffi, lib

Callback = Callable[..., object]


class BaseLoop:
    """What a `Loop` is without the methods that make watchers. Use `Loop`."""

    def __init__(
        self,
        flags: int = lib.EVFLAG_AUTO,
        callback: Callback | None = None,
        data: object = None,
        debug: bool = False,
        io_interval: float = 0.0,
        timeout_interval: float = 0.0,
    ) -> None:
        self._open(False, flags, callback, data, debug, io_interval, timeout_interval)

    def _open(
        self,
        default: bool,
        flags: int,
        callback: Callback | None,
        data: object,
        debug: bool,
        io_interval: float,
        timeout_interval: float,
    ) -> None:
        flags = require_int("flags", flags) & 0xFFFFFFFF
        self._default = default
        self._callback: Any = None
        # The watchers that must live on without a reference of the user's, by key.
        self._held: dict[int, object] = {}
        self._key = register(self)
        # The thread that runs it, by `threading.get_ident`; None: nobody does.
        self.thread: int | None = None
        self.data = data
        self.debug = debug
        self._io_interval = require_seconds("io_interval", io_interval)
        self._timeout_interval = require_seconds("timeout_interval", timeout_interval)
        if callback is not None:
            self._check_callback(callback)
        memory = lib.nats_ev_loop_new(flags, default)
        if not memory:
            raise Error("libev could not make a loop: no backend that the flags allow works here")
        self._c = ffi.gc(memory, lib.nats_ev_loop_free)
        self._ev = lib.nats_ev_loop_get(memory)
        if callback is not None:
            self.callback = callback
        if io_interval or timeout_interval:
            self._set_intervals()

    def start(self, flags: int = 0) -> bool:
        """Run until `stop`, or until no watcher keeps the loop alive.

        Args:
            flags: 0, EVRUN_NOWAIT (one iteration, does not block) or EVRUN_ONCE (one iteration).

        Returns:
            Whether watchers that keep the loop alive remain.

        Raises:
            Error: another thread runs the loop, or another binding owns the default loop.
            BaseException: what a callback (see ``debug``) or a Python signal handler raised.
                Events that were pending then are delivered by the next `start`.
        """
        flags = require_int("flags", flags)
        me, outer = get_ident(), self.thread
        if outer is not None and outer != me:
            raise Error("the loop is already running in another thread")
        if self._default and lib.nats_ev_loop_is_claimed(self._c):
            raise Error(
                "libev's default loop belongs to another binding in this process: start it there"
            )
        self.thread = me
        try:
            result = shielded(self._run, flags)
        finally:
            self.thread = outer
        if result == ABORTED:
            raise finish()
        return bool(result)

    def _run(self, flags: int) -> int:
        run = lib.nats_ev_loop_run
        if flags & lib.EVRUN_NOWAIT:  # does not block, so no signal has to wait
            return run(self._c, flags, -1)
        return run_with_signals(lambda wake_fd: run(self._c, flags, wake_fd))

    def stop(self, how: int = lib.EVBREAK_ONE) -> None:
        """Make the innermost `start` return (EVBREAK_ALL: every one) after pending events."""
        if require_int("how", how) not in (lib.EVBREAK_CANCEL, lib.EVBREAK_ONE, lib.EVBREAK_ALL):
            raise ValueError(f"how must be one of the EVBREAK_ constants, got {how}")
        lib.ev_break(self._ev, how)

    def invoke(self) -> None:
        """Deliver all pending events now."""
        if lib.nats_ev_loop_invoke(self._c) == ABORTED:
            raise finish()

    def reset(self) -> None:
        """Tell the loop that the process has forked; for the child, before `start`."""
        lib.ev_loop_fork(self._ev)

    def now(self) -> float:
        """Unix time at which the loop began to handle the current events, in seconds."""
        return lib.ev_now(self._ev)

    def update(self) -> None:
        """Bring `now` up to date, as after a callback that took long."""
        lib.ev_now_update(self._ev)

    def suspend(self) -> None:
        """Before a pause of the process: time does not pass for the timers until `resume`."""
        lib.ev_suspend(self._ev)

    def resume(self) -> None:
        """End what `suspend` began."""
        lib.ev_resume(self._ev)

    def ref(self) -> None:
        """Count one more watcher that keeps `start` from returning."""
        lib.ev_ref(self._ev)

    def unref(self) -> None:
        """Count one watcher less; undo it with `ref` before that watcher is stopped."""
        lib.ev_unref(self._ev)

    def verify(self) -> None:
        """Check libev's data; ends the process if they are corrupt."""
        lib.ev_verify(self._ev)

    @property
    def default(self) -> bool:
        """Whether this is libev's default loop."""
        return self._default

    @property
    def backend(self) -> int:
        """The EVBACKEND_* in use."""
        return lib.ev_backend(self._ev)

    @property
    def depth(self) -> int:
        """How many calls of `start` are running, 0 outside."""
        return lib.ev_depth(self._ev)

    @property
    def iteration(self) -> int:
        """How often the loop has polled for events."""
        return lib.ev_iteration(self._ev)

    @property
    def pending(self) -> int:
        """How many events wait for their callbacks."""
        return lib.nats_ev_loop_pending(self._c)

    def _check_callback(self, callback: Any) -> None:
        require_callable("callback", callback)
        if self._default:
            raise Error("the default loop may be shared and takes no callback: use Loop()")

    @property
    def callback(self) -> Any:
        """What delivers pending events instead of the loop, or None."""
        return self._callback

    @callback.setter
    def callback(self, callback: Callback | None) -> None:
        if callback is None:
            if self._callback is not None:
                lib.nats_ev_loop_set_hook(self._c, 0)
        else:
            self._check_callback(callback)
            lib.nats_ev_loop_set_hook(self._c, self._key)
        self._callback = callback

    @property
    def io_interval(self) -> float:
        """Seconds to gather I/O events before delivering them, 0 for at once."""
        return self._io_interval

    @io_interval.setter
    def io_interval(self, seconds: float) -> None:
        self._io_interval = require_seconds("io_interval", seconds)
        self._set_intervals()

    @property
    def timeout_interval(self) -> float:
        """Seconds by which timers may be late so that more of them are handled together."""
        return self._timeout_interval

    @timeout_interval.setter
    def timeout_interval(self, seconds: float) -> None:
        self._timeout_interval = require_seconds("timeout_interval", seconds)
        self._set_intervals()

    def _set_intervals(self) -> None:
        lib.ev_set_io_collect_interval(self._ev, self._io_interval)
        lib.ev_set_timeout_collect_interval(self._ev, self._timeout_interval)
