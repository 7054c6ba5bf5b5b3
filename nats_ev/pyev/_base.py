"""The part of a loop that knows no watcher types: running, stopping, settings.

The watchers need a loop of this class only. `_loop` adds the methods that make watchers, and so stands
above the modules of the watchers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ._arguments import require_callable, require_int, require_seconds
from ._glue import ABORTED, Error, enter, finish, register, run_with_signals
from ._interrupts import run_deferring
from ._libev import ffi, lib
from ._threads import get_ident

if TYPE_CHECKING:
    from ._libev import Loop as CLoop

Callback = Callable[..., object]
_Loop = TypeVar("_Loop", bound="BaseLoop")


class _ForeignThread:
    """`BaseLoop.thread` while `start` does not run. No property: `start` stores the attribute itself, so that
    clients read it without a call."""

    def __get__(self, loop: BaseLoop | None, owner: object = None) -> int | None:
        if loop is None:
            return None
        return lib.nats_ev_loop_foreign_thread(loop._c_loop) or None


class BaseLoop:
    """What a `Loop` is without the methods that make watchers. Use `Loop`."""

    #: The thread that runs the loop, or None. Its number is that of `threading.get_ident`, as if gevent had
    #: not replaced that. Where a host runs the loop, the thread is known from its first event on.
    thread = _ForeignThread()

    def __init__(
        self,
        flags: int = lib.EVFLAG_AUTO,
        callback: Callback | None = None,
        data: object = None,
        io_interval: float = 0.0,
        timeout_interval: float = 0.0,
        debug: bool = False,
    ) -> None:
        self._open(False, flags, callback, data, io_interval, timeout_interval, debug)

    def _open(
        self,
        default: bool,
        flags: int,
        callback: Callback | None,
        data: object,
        io_interval: float,
        timeout_interval: float,
        debug: bool,
    ) -> None:
        flags = require_int("flags", flags) & 0xFFFFFFFF
        self._default = default
        self._set_up(data, debug)
        self._io_interval = require_seconds("io_interval", io_interval)
        self._timeout_interval = require_seconds("timeout_interval", timeout_interval)
        if callback is not None:
            self._check_callback(callback)
        memory = lib.nats_ev_loop_new(flags, default)
        if not memory:
            raise Error("libev could not make a loop: no backend that the flags allow works here")
        self._own(memory)
        if callback is not None:
            self.callback = callback
        if io_interval or timeout_interval:
            self._set_intervals()

    def _set_up(self, data: object, debug: bool) -> None:
        self._borrowed = False
        self._wakes = False  # an Async has been started: libev has opened a descriptor for them
        self._callback: Any = None
        # By key: the watchers that must stay alive although the user holds no reference.
        self._held: dict[int, object] = {}
        self._key = register(self)
        self._runs = 0  # calls of `start` on the stack
        #: The exception because of which a host's run of this loop last returned, or None.
        self.stopped_by: BaseException | None = None
        self.data = data
        self.debug = debug
        self._io_interval = self._timeout_interval = 0.0

    def _own(self, memory: CLoop) -> None:
        self._c_loop = ffi.gc(memory, lib.nats_ev_loop_free)
        self._ev_loop = lib.nats_ev_loop_get(memory)
        if self._borrowed or self._default:
            lib.nats_ev_loop_watch_owner(memory, self._key)

    @classmethod
    def from_address(
        cls: type[_Loop], address: int, data: object = None, debug: bool = False
    ) -> _Loop:
        """Return a loop around a ``struct ev_loop`` that a host owns, and never destroy it.

        The owner may run the loop, or `start` may. While the owner runs it, no exception can be raised to
        the owner: each goes to `sys.excepthook`. KeyboardInterrupt and SystemExit, and with ``debug`` every
        exception, also make the owner's ``ev_run`` return and are kept as ``stopped_by``. When the owner
        destroys the loop, its watchers here are stopped for good. See docs/embedding.md.

        Args:
            address: of the ``struct ev_loop``, made by the same libev that this module is linked to.
            data: as for the class.
            debug: as for the class.

        Raises:
            TypeError: the address is not an int.
            ValueError: the address is 0 or less, what is there is no loop, or it is one of another libev.
        """
        if not isinstance(address, int):
            raise TypeError(f"address must be an int, not {type(address).__name__}")
        if not 0 < address < 1 << 64:
            raise ValueError(f"address is not that of a loop: {address}")
        what = lib.nats_ev_is_loop(address)
        if what == lib.NATS_EV_OTHER_COPY:
            raise ValueError(
                f"the loop at {address:#x} is of another copy of libev than nats_ev is linked to: link its "
                "owner to the same shared library, or export the owner's copy to it (-rdynamic). A wheel "
                "has a libev of its own: build nats_ev from source (pip install --no-binary nats_ev nats_ev)"
            )
        if what != lib.NATS_EV_IS_LOOP:
            raise ValueError(f"there is no loop of this libev at that address: {address:#x}")
        memory = lib.nats_ev_loop_borrow(address)
        if not memory:
            raise MemoryError("no memory for a loop")
        self = cls.__new__(cls)
        self._default = bool(lib.nats_ev_loop_is_default(memory))
        self._set_up(data, debug)
        self._borrowed = True
        self._own(memory)
        return self

    @property
    def address(self) -> int:
        """The address of libev's ``struct ev_loop``, for other code that uses the same libev.

        It is valid as long as this object or a watcher of this loop lives, or the loop's owner keeps it.

        Raises:
            Error: the loop's owner has destroyed it.
        """
        self._check_owned()
        return lib.nats_ev_loop_address(self._c_loop)

    def _check_owned(self) -> None:
        if lib.nats_ev_loop_is_gone(self._c_loop):
            raise Error("the loop is gone: its owner has destroyed it")

    def __repr__(self) -> str:
        kind = "default" if getattr(self, "_default", False) else "own"
        if getattr(self, "_borrowed", False):
            kind = "borrowed"
        if not hasattr(self, "_c_loop"):  # the constructor has failed
            state = "stopped"
        elif lib.nats_ev_loop_is_gone(self._c_loop):
            state = "destroyed"
        else:
            state = "stopped" if self.thread is None else "running"
        return f"<{type(self).__name__} {kind}, {state} at {id(self):#x}>"

    def start(self, flags: int = 0) -> bool:
        """Run until `stop`, or until no watcher keeps the loop alive.

        Args:
            flags: 0, EVRUN_NOWAIT (one iteration, does not block) or EVRUN_ONCE (one iteration).

        Returns:
            Whether watchers that keep the loop alive remain.

        Raises:
            Error: another thread runs the loop, its owner has destroyed it, or another binding owns the
                default loop.
            BaseException: what a callback (see ``debug``) or a Python signal handler raised.
                Events that were pending then are delivered by the next `start`.
        """
        flags = require_int("flags", flags)
        me, runs = get_ident(), self.thread
        if runs is not None and runs != me:
            raise Error("the loop is already running in another thread")
        self._check_owned()
        if lib.nats_ev_loop_is_claimed(self._c_loop):
            which = "libev's default loop" if self._default else "the loop at that address"
            raise Error(f"{which} belongs to another binding in this process: start it there")
        self._runs += 1
        self.thread = me
        self.stopped_by = None
        try:
            result = run_deferring(self._run, flags)
        finally:
            self._runs -= 1
            if not self._runs:
                del self.thread
        if result == ABORTED:
            raise finish()
        return bool(result)

    @property
    def run(self) -> NoReturn:
        """Does not exist: the word of other loops, of which Python would make ``_run``."""
        raise AttributeError("a Loop has no run(): start() runs it", name="run", obj=None)

    def _run(self, flags: int) -> int:
        run = lib.nats_ev_loop_run
        if flags & lib.EVRUN_NOWAIT:  # does not block, so signals need no wake-up
            return enter(run, self._c_loop, flags, -1)
        # No function is made here: CPython 3.12 and 3.13.0 crash when there is no memory for one.
        return run_with_signals(partial(enter, run, self._c_loop, flags))

    def stop(self, how: int = lib.EVBREAK_ONE) -> None:
        """Make `start` return after the pending events have been delivered.

        Args:
            how: EVBREAK_ONE for the innermost `start`, EVBREAK_ALL for all that are nested,
                EVBREAK_CANCEL to undo an earlier call.
        """
        if require_int("how", how) not in (lib.EVBREAK_CANCEL, lib.EVBREAK_ONE, lib.EVBREAK_ALL):
            raise ValueError(f"how must be one of the EVBREAK_ constants, got {how}")
        lib.ev_break(self._ev_loop, how)

    def invoke(self) -> None:
        """Deliver all pending events now."""
        if enter(lib.nats_ev_loop_invoke, self._c_loop) == ABORTED:
            raise finish()

    def reset(self) -> None:
        """Adapt the loop to the child of a fork. Call in the child, before `start`."""
        lib.ev_loop_fork(self._ev_loop)

    def now(self) -> float:
        """Return the Unix time at which the loop began to handle the current events, in seconds."""
        return lib.ev_now(self._ev_loop)

    def update(self) -> None:
        """Bring `now` up to date, for example after a callback that took long."""
        lib.ev_now_update(self._ev_loop)

    def suspend(self) -> None:
        """Stop the time of the timers until `resume`. Call before a pause of the process."""
        lib.ev_suspend(self._ev_loop)

    def resume(self) -> None:
        """Let the time of the timers pass again after `suspend`."""
        lib.ev_resume(self._ev_loop)

    def ref(self) -> None:
        """Count one more watcher that keeps `start` from returning."""
        lib.ev_ref(self._ev_loop)

    def unref(self) -> None:
        """Count one watcher less. Call `ref` before that watcher is stopped."""
        lib.ev_unref(self._ev_loop)

    def verify(self) -> None:
        """Check libev's data structures. The process ends if they are corrupt."""
        lib.ev_verify(self._ev_loop)

    @property
    def default(self) -> bool:
        """Whether this is libev's default loop."""
        return self._default

    @property
    def backend(self) -> int:
        """The EVBACKEND_* bit of the backend in use."""
        return lib.ev_backend(self._ev_loop)

    @property
    def depth(self) -> int:
        """Number of calls of `start` that are running, 0 outside."""
        return lib.ev_depth(self._ev_loop)

    @property
    def iteration(self) -> int:
        """Number of times that the loop has polled for events."""
        return lib.ev_iteration(self._ev_loop)

    @property
    def pending(self) -> int:
        """Number of events whose callbacks have not been called yet."""
        return lib.nats_ev_loop_pending(self._c_loop)

    def _check_callback(self, callback: Any) -> None:
        require_callable("callback", callback)
        if self._default or self._borrowed:
            kind = "default" if self._default else "borrowed"
            raise Error(f"the {kind} loop may be shared and takes no callback: use Loop()")

    @property
    def callback(self) -> Any:
        """The callable that delivers pending events instead of the loop, or None."""
        return self._callback

    @callback.setter
    def callback(self, callback: Callback | None) -> None:
        if callback is None:
            if self._callback is not None:
                lib.nats_ev_loop_set_hook(self._c_loop, 0)
        else:
            self._check_callback(callback)
            lib.nats_ev_loop_set_hook(self._c_loop, self._key)
        self._callback = callback

    @property
    def io_interval(self) -> float:
        """Seconds for which I/O events are gathered before they are delivered; 0 delivers at once."""
        return self._io_interval

    @io_interval.setter
    def io_interval(self, seconds: float) -> None:
        self._io_interval = require_seconds("io_interval", seconds)
        self._set_intervals()

    @property
    def timeout_interval(self) -> float:
        """Seconds by which timers may be late, so that more of them expire together."""
        return self._timeout_interval

    @timeout_interval.setter
    def timeout_interval(self, seconds: float) -> None:
        self._timeout_interval = require_seconds("timeout_interval", seconds)
        self._set_intervals()

    def _set_intervals(self) -> None:
        lib.ev_set_io_collect_interval(self._ev_loop, self._io_interval)
        lib.ev_set_timeout_collect_interval(self._ev_loop, self._timeout_interval)
