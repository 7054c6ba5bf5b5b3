"""The boundary between Python and the compiled binding: event delivery, exceptions, signals.

C calls the callback of a watcher (``csrc/py_watcher.c``), and the functions here for what is rare. No
exception may leave them for C. `sys.excepthook` reports an exception, or the exception is noted for the
run on this thread's stack: C then ends the run (see csrc/libev_glue.h), and `finish` hands the exception to
who started the run.

This module knows neither loops nor watchers by name and must not import them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import weakref
from collections.abc import Callable
from itertools import count
from types import FunctionType, MethodType, TracebackType
from typing import TYPE_CHECKING, Any

from . import _interrupts
from ._libev import ffi, lib
from ._threads import get_ident, is_main_thread

if TYPE_CHECKING:
    from ._libev import WatcherBase as WatcherBase

DELIVERED = 0
STOP: int = lib.NATS_EV_STOP
NOT_DELIVERED: int = lib.NATS_EV_NOT_DELIVERED
ABORTED: int = lib.NATS_EV_ABORTED


class Error(Exception):
    """An operation that a loop or watcher refuses: wrong state, wrong loop, no backend."""


# C names Python objects by these keys. The references are weak: a loop holds the watchers that must
# stay alive, so that an unused loop can be freed together with its watchers.
refs: dict[int, weakref.ref[Any]] = {}
_keys = count(1)

# By thread: the exception that ends the innermost run.
_raised: dict[int, BaseException] = {}
# The newest of them. Setting it takes no memory.
_newest: BaseException | None = None


def register(obj: object) -> int:
    """Return a new key for ``obj``, which is valid as long as the object."""
    key = next(_keys)
    refs[key] = weakref.KeyedRef(obj, _forget, key)
    return key


def _forget(ref: Any) -> None:
    refs.pop(ref.key, None)


def finish() -> BaseException:
    """Return the exception of the run that C has just ended on this thread, and forget it."""
    global _newest
    exc = _raised.pop(get_ident(), None) or _newest
    _newest = None
    if exc is not None:
        _interrupts.struck = False
        return exc
    # There was no memory to note it, or an interrupt arrived meanwhile.
    if _interrupts.is_likely_interrupt():
        return KeyboardInterrupt()
    return MemoryError("out of memory while a watcher's callback was being called")


def _note(exc: BaseException) -> int:
    global _newest
    _newest = exc
    _raised[get_ident()] = exc
    return STOP


def failed(stops_all: bool, exc: BaseException) -> int:
    """Report an exception of a user's callback, or note it and stop the run.

    An exception whose attribute ``ends_start`` is true stops the run as KeyboardInterrupt does: a client sets
    it on the error that ends the client for good, when nobody has set on_error.

    Args:
        stops_all: whether an `Exception` stops the run, too (``Loop.debug``).
        exc: what the callback raised.

    Returns:
        What C gets: `DELIVERED` or `STOP`.
    """
    if stops_all or not isinstance(exc, Exception) or getattr(exc, "ends_start", False):
        return _note(exc)
    return report(exc)


def report(exc: BaseException) -> int:
    """Hand an exception to `sys.excepthook`. If the hook fails, print both exceptions to stderr."""
    try:
        hook = getattr(sys, "excepthook", sys.__excepthook__)
        hook(type(exc), exc, exc.__traceback__)
    except Exception as hook_exc:
        sys.__excepthook__(type(hook_exc), hook_exc, hook_exc.__traceback__)
        sys.__excepthook__(type(exc), exc, exc.__traceback__)
    return DELIVERED


def _stop_host(loop: Any, exc: BaseException) -> int:
    """Report an exception where a host runs the loop, and stop the host's run if `failed` would."""
    stops = loop.debug or not isinstance(exc, Exception)
    if stops:
        loop.stopped_by = exc
    report(exc)
    return STOP if stops else DELIVERED


def _has_not_begun(callback: object, exc: BaseException) -> bool:
    """Return whether there was no memory for the frame of a callback written in Python.

    Of a callback written in C nobody knows how far it came.
    """
    if type(exc) is not MemoryError or not isinstance(callback, (FunctionType, MethodType)):
        return False
    return exc.__traceback__ is None


def _show_misfit(callback: object, exc: BaseException) -> None:
    """Let the TypeError of a callback that does not take its arguments say where the callback is defined."""
    if type(exc) is not TypeError or exc.__traceback__ is not None or len(exc.args) != 1:
        return
    code = getattr(getattr(callback, "__func__", callback), "__code__", None)
    if code is not None:
        exc.args = (
            f"{exc} ({code.co_filename}:{code.co_firstlineno}); the callback of a watcher is called with "
            "(watcher, revents)",
        )


def caught(watcher: Any, exc: BaseException, can_stop: bool) -> int:
    """Deal with what the callback of a watcher has raised.

    When a host or another binding runs the loop, no `start` of ours exists that could raise an exception:
    then every exception goes to the hook, and those that end a run make the host's run return.

    Args:
        watcher: the watcher.
        exc: what its callback raised.
        can_stop: whether a `start` of ours runs the loop.

    Returns:
        `DELIVERED`, `STOP` or `NOT_DELIVERED`.
    """
    if not can_stop:
        return _stop_host(watcher._loop, exc)
    _show_misfit(watcher._callback, exc)
    if _has_not_begun(watcher._callback, exc):
        watcher._held[watcher._key] = watcher
        _note(exc)
        return NOT_DELIVERED
    return failed(watcher._loop.debug, exc)


def interrupted(exc: BaseException) -> None:
    """Note what was raised outside of a callback: by a Python signal handler, or for lack of memory."""
    global _newest
    _newest = exc
    # Without memory: `finish` finds the exception in _newest.
    with contextlib.suppress(MemoryError):
        _note(exc)


def take_interrupt() -> int:
    """Note the Ctrl-C that was deferred while an event was handled. Return `STOP`, or `DELIVERED`."""
    return _note(KeyboardInterrupt()) if _interrupts.take() else DELIVERED


_handed: list[Any] = [caught, interrupted, take_interrupt, vars(_interrupts)]
if lib.nats_ev_watcher_type(ffi.cast("void *", id(_handed))):
    raise MemoryError("no memory for the type of watchers")
if not TYPE_CHECKING:
    WatcherBase = _handed.pop()


def enter(function: Callable[..., int], *args: Any) -> int:
    """Call a function of C that delivers events. `_interrupts` finds this frame on the stack."""
    return function(*args)


_interrupts.run_code = enter.__code__


def _interrupted(
    _type: type[BaseException], exc: BaseException, traceback: TracebackType | None
) -> int:
    """Note what left a function that C calls."""
    if traceback is not None:
        exc.__traceback__ = traceback.tb_next
    interrupted(exc)
    return STOP


@ffi.def_extern(error=STOP, onerror=_interrupted)
def nats_ev_on_invoke(key: int) -> int:
    """Call the callback of a loop whose user delivers the pending events (``Loop.callback``).

    Whatever it raises ends the run. The events are still pending: without an end the loop would call it
    again at once, for ever.
    """
    loop = refs[key]()
    if loop is None:
        return 0
    try:
        loop._callback(loop)
        return 0
    except BaseException as exc:
        if exc.__traceback__ is not None:
            exc.__traceback__ = exc.__traceback__.tb_next  # drops this frame
        return failed(True, exc)


@ffi.def_extern(error=float("nan"))
def nats_ev_on_reschedule(key: int, now: float) -> float:
    """Return the next time of a `Scheduler`; not a number when the scheduler failed."""
    watcher = refs[key]()
    if watcher is None:
        return float("nan")
    at: float = watcher._next(now)
    return at


@ffi.def_extern(error=STOP, onerror=_interrupted)
def nats_ev_on_wakeup() -> int:
    """Empty the wake-up pipe. Python runs its signal handlers on the way into this function."""
    _wakeup.forward()
    return 0


@ffi.def_extern(error=0)
def nats_ev_on_gone(key: int) -> int:
    """Let go of a ``struct ev_loop`` that its owner is destroying."""
    loop = refs[key]()
    if loop is not None:
        loop._ev_loop = lib.nats_ev_loop_get(loop._c_loop)
    return 0


class _Wakeup:
    """The self-pipe that Python's signal handling writes to while a loop of ours may block.

    `signal.set_wakeup_fd` has one slot per process. The descriptor that was in the slot before gets every
    byte passed on, and gets the slot back when the outermost `run` returns.
    """

    def __init__(self) -> None:
        self._pair: tuple[socket.socket, socket.socket] | None = None
        self._owner = -1

    def run(self, run: Callable[[int], int]) -> int:
        """Call ``run(fd)`` with the descriptor to watch, or -1 in a thread that gets no signals."""
        if not is_main_thread():
            return run(-1)
        reader, writer = self._open()
        ours, outer, previous = writer.fileno(), self._owner, -1
        try:
            previous = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
        except ValueError:  # a subinterpreter, in which signal.set_wakeup_fd is refused
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
        # The previous descriptor may have been closed by now: then the slot stays empty.
        with contextlib.suppress(ValueError, OSError):
            current = signal.set_wakeup_fd(-1)
            wanted = previous if current == ours else current
            if wanted != -1:
                signal.set_wakeup_fd(wanted, warn_on_full_buffer=False)
        self.forward()

    def forward(self) -> None:
        """Empty the pipe, and pass its bytes on to the slot's owner; never blocks."""
        if self._pair is None:
            return
        with contextlib.suppress(BlockingIOError):
            while data := self._pair[0].recv(4096):
                if self._owner != -1:
                    with contextlib.suppress(OSError):
                        os.write(self._owner, data)

    def _open(self) -> tuple[socket.socket, socket.socket]:
        if self._pair is None:
            pair = socket.socketpair()
            for end in pair:
                end.setblocking(False)
            self._pair = pair
        return self._pair

    def after_fork(self) -> None:
        """Give a child process its own pipe, under the descriptor numbers that its loops watch."""
        if self._pair is None:
            return
        # The old ones are closed first: the process may have no descriptor left. Which end gets which number
        # does not matter, both ends are alike.
        wanted = [end.fileno() for end in self._pair]
        for fd in wanted:
            os.close(fd)
        fresh = [end.detach() for end in socket.socketpair()]
        elsewhere = [fd for fd in fresh if fd not in wanted]
        for fd in fresh:
            os.set_blocking(fd, False)
        for fd in wanted:
            if fd not in fresh:
                new = elsewhere.pop()
                os.dup2(new, fd, inheritable=False)
                os.close(new)


_wakeup = _Wakeup()
run_with_signals = _wakeup.run
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_wakeup.after_fork)
