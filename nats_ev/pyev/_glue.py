"""The seam between Python and the compiled binding: event delivery, exceptions, signals.

Everything that libev calls arrives in the ``nats_ev_on_*`` functions below. No exception may
leave them for C; each is either reported by ``sys.excepthook`` or noted for the run that is on
this thread's stack, which C then unwinds (see ``_libev_build.py``) and `finish` raises.

This module knows neither loops nor watchers by name and must not import them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import weakref
from collections.abc import Callable
from itertools import count
from threading import get_ident
from types import TracebackType
from typing import Any

from . import _interrupts
from ._libev import ffi, lib

DELIVERED = 0
STOP: int = lib.NATS_EV_STOP
NOT_DELIVERED: int = lib.NATS_EV_NOT_DELIVERED
ABORTED: int = lib.NATS_EV_ABORTED
ACTIVE: int = lib.NATS_EV_ACTIVE
CAN_STOP: int = lib.NATS_EV_CAN_STOP


class Error(Exception):
    """What the loop or a watcher cannot do: wrong state, wrong loop, no backend."""


# C knows Python objects by these keys. The references are weak: what must stay alive is held by
# its loop, so a loop that nobody uses any more can go together with its watchers.
refs: dict[int, weakref.ref[Any]] = {}
_keys = count(1)

# The exception that is unwinding the run on top of each thread's stack.
_raised: dict[int, BaseException] = {}


def register(obj: object) -> int:
    """Return a new key for ``obj``; the entry goes when the object does."""
    key = next(_keys)
    refs[key] = weakref.KeyedRef(obj, _forget, key)
    return key


def _forget(ref: Any) -> None:
    refs.pop(ref.key, None)


def finish() -> BaseException:
    """Take the exception of the run that C has just unwound on this thread."""
    # Without one, an interrupt arrived while the note was being made.
    return _raised.pop(get_ident(), None) or KeyboardInterrupt()


def _trim(exc: BaseException) -> None:
    if exc.__traceback__ is not None:
        exc.__traceback__ = exc.__traceback__.tb_next  # without the frame of this module


def _note(exc: BaseException) -> int:
    _raised[get_ident()] = exc
    return STOP


def failed(stops_all: bool, exc: BaseException) -> int:
    """Decide what an exception of a user's callback means: report it, or stop the run."""
    if stops_all or not isinstance(exc, Exception):
        _trim(exc)
        return _note(exc)
    return report(exc)


def report(exc: BaseException) -> int:
    """Hand an exception to `sys.excepthook`; what an Exception of the hook's own hits is stderr."""
    _trim(exc)
    try:
        hook = getattr(sys, "excepthook", sys.__excepthook__)
        hook(type(exc), exc, exc.__traceback__)
    except Exception as hook_exc:
        sys.__excepthook__(type(hook_exc), hook_exc, hook_exc.__traceback__)
        sys.__excepthook__(type(exc), exc, exc.__traceback__)
    return DELIVERED


def _interrupted(_type: type[BaseException], exc: BaseException, traceback: TracebackType) -> int:
    """Note what a Python signal handler raised outside a user's callback.

    ``key`` is cleared in the frame below as soon as the callback has begun.
    """
    delivered = not traceback.tb_frame.f_locals.get("key")
    exc.__traceback__ = traceback.tb_next
    _note(exc)
    return STOP if delivered else NOT_DELIVERED


@ffi.def_extern(error=NOT_DELIVERED, onerror=_interrupted)
def nats_ev_on_event(key: int, revents: int, state: int) -> int:
    """Call the callback of one watcher. Python-level signal handlers run on the way in.

    When another binding runs the loop there is no `start` of ours that an exception could come
    out of: then every one goes to the hook.
    """
    watcher = refs[key]()
    if watcher is None:
        return 0
    try:
        if not state & ACTIVE:
            del watcher._held[key]
        key = 0
        watcher._callback(watcher, revents)
        result = 0
    except BaseException as exc:
        if not state & CAN_STOP:
            return report(exc)
        result = failed(watcher._loop.debug, exc)
    if result != STOP and _interrupts.waiting and state & CAN_STOP and _interrupts.is_waiting():
        return _note(KeyboardInterrupt())
    return result


_interrupts.event_code = nats_ev_on_event.__code__


@ffi.def_extern(error=NOT_DELIVERED, onerror=_interrupted)
def nats_ev_on_invoke(key: int) -> int:
    """Call the callback of a loop whose user wants to deliver the pending events himself."""
    loop = refs[key]()
    if loop is None:
        return 0
    try:
        loop._callback(loop)
        return 0
    except BaseException as exc:
        return failed(loop.debug, exc)


@ffi.def_extern(error=float("nan"))
def nats_ev_on_reschedule(key: int, now: float) -> float:
    """Ask a `Scheduler` for its next time; not a number when it failed."""
    watcher = refs[key]()
    if watcher is None:
        return float("nan")
    at: float = watcher._next(now)
    return at


@ffi.def_extern(error=STOP, onerror=_interrupted)
def nats_ev_on_wakeup() -> int:
    """Let Python run its signal handlers, and pass the wake-up bytes on to whom they belong."""
    _wakeup.forward()
    return 0


class _Wakeup:
    """The self-pipe that Python's signal handling writes to while a loop of ours may block.

    `signal.set_wakeup_fd` has one slot per process. Whoever had it before gets every byte
    passed on, and has the slot back when the outermost `run` returns.
    """

    def __init__(self) -> None:
        self._pair: tuple[socket.socket, socket.socket] | None = None
        self._owner = -1

    def run(self, run: Callable[[int], int]) -> int:
        """Call ``run(fd)`` with the descriptor to watch, or -1 where signals do not arrive."""
        if get_ident() != threading.main_thread().ident:
            return run(-1)
        reader, writer = self._open()
        ours, outer, previous = writer.fileno(), self._owner, -1
        try:
            previous = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
        except ValueError:  # a thread that only calls itself the main one: a subinterpreter
            return run(-1)
        try:
            if previous != ours:
                self._owner = previous
            return run(reader.fileno())
        finally:
            if previous != ours:
                self._restore(ours, previous)
                self._owner = outer

    def _restore(self, ours: int, previous: int) -> None:
        # The previous descriptor may have been closed meanwhile: then nobody owns the slot.
        with contextlib.suppress(ValueError, OSError):
            current = signal.set_wakeup_fd(-1)
            wanted = previous if current == ours else current
            if wanted != -1:
                signal.set_wakeup_fd(wanted, warn_on_full_buffer=False)
        self.forward()

    def forward(self) -> None:
        """Empty the pipe; never blocks."""
        if self._pair is None:
            return
        with contextlib.suppress(BlockingIOError):
            while data := self._pair[0].recv(4096):
                if self._owner != -1:
                    with contextlib.suppress(OSError):
                        os.write(self._owner, data)

    def _open(self) -> tuple[socket.socket, socket.socket]:
        if self._pair is None:
            self._pair = socket.socketpair()
            for end in self._pair:
                end.setblocking(False)
        return self._pair

    def after_fork(self) -> None:
        """Give a child process a pipe of its own, under the numbers that its loops know."""
        if self._pair is None:
            return
        fresh = socket.socketpair()
        for new, old in zip(fresh, self._pair, strict=True):
            new.setblocking(False)
            os.dup2(new.fileno(), old.fileno(), inheritable=False)
            new.close()


_wakeup = _Wakeup()
run_with_signals = _wakeup.run
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_wakeup.after_fork)
