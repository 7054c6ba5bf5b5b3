"""Ctrl-C while a loop runs: raise KeyboardInterrupt where it does no harm.

Theory of operation
-------------------

The problem. Python calls signal handlers between any two instructions of the main thread, and the default
handler of SIGINT raises KeyboardInterrupt on the spot. In the middle of this package's code that loses what
the code has in its hands at the moment: bytes just read from a socket and not yet parsed, the number of
bytes just sent, an event that libev has already marked as delivered. The connection would go on with a
torn stream. Tests interrupt a client at random moments of 30,000 messages and compare every byte.

Why the obvious ways fail. Blocking the signal while the loop runs makes a callback that never returns
uninterruptible. Setting a flag and looking at the flag between events has the same fault. Protecting each
critical section by hand leaves a gap before the first instruction of every ``try``, and would put a cost
on the paths that run per message.

What happens instead. While `Loop.start` runs in the main thread and SIGINT has Python's default handler,
the handler is `_on_interrupt`. It walks the stack from the interrupted frame outwards and decides by the
first frame that is not the standard library's:

- Code of the user is at work: raise at once, as without this module.
- Code of this package is at work, called by the user's code: defer. A thread sends the process's main
  thread the interrupt again every millisecond, until the user's code is at work again.
- Code of this package is at work, called by the loop: defer. `_glue` looks at the flag after each event
  and ends the run; a client delivers messages for 10 ms at most before that.
- A callback of the user has been called but has not executed its first instruction: defer, because the
  message that the callback was given would be lost. Such a frame stands at its RESUME instruction.

A second Ctrl-C half a second later is raised at once, wherever it strikes, so that no mistake here can
keep a program from being stopped. A handler of the user's own stays in place. A `Signal` watcher of SIGINT
gets the signal instead of Python.

The invariant: once an event has been handled, no interrupt is deferred any more. A deferred interrupt comes
out of the `start` that it arrived in, and never out of a later one.

The cost is one test of a global per event. The handler runs only on Ctrl-C.

The fallback. The walk relies on how CPython names frames and where it checks for signals; an interpreter or
a tracing tool may differ. With the environment variable NATS_EV_DEFER_INTERRUPTS=0, read when this module
is imported, SIGINT keeps the handler that it has, and KeyboardInterrupt strikes anywhere.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import time
from collections.abc import Callable
from opcode import opmap
from types import CodeType, FrameType
from typing import Any, NoReturn

from ._libev import lib
from ._threads import allocate_lock, is_main_thread, sleep, start_new_thread

# The C functions behind those of `signal`, which make enums of what they return: without memory they raise
# SystemError.
getsignal: Callable[[int], object] = signal.getsignal
setsignal: Callable[[int, Any], object] = signal.signal
with contextlib.suppress(ImportError):
    from _signal import getsignal  # type: ignore[import-not-found, no-redef]
    from _signal import signal as setsignal  # type: ignore[no-redef]

_SIGINT = int(signal.SIGINT)
_DEFERS = os.environ.get("NATS_EV_DEFER_INTERRUPTS") != "0"
_BINDING = __name__.rpartition(".")[0]
_PACKAGE = _BINDING.partition(".")[0]
_STDLIB = os.path.dirname(os.__file__) + os.sep
_INSTALLED = ("site-packages", "dist-packages")
# Seconds after which a second Ctrl-C is raised at once.
_PATIENCE = 0.5
# A call checks for signals at this instruction, before it does anything. Python 3.10 has none.
_RESUME = opmap.get("RESUME", -1)

# The code that lets C deliver events. Frames outside of it do not belong to the current event. Set by
# `_glue`, which imports this module.
run_code: CodeType | None = None

# Whether an interrupt is deferred. C tests this after each event, before it lets `take` be called.
pending = False
# Whether the handler has raised KeyboardInterrupt since `_glue` last cleared this.
struck = False
_since = 0.0
# Whether the next call of the handler comes from `_remind`, not from the user.
_is_reminder = False
# Whether `run_deferring` takes the handler back: then nothing may be raised.
_is_leaving = False
# Whether a thread runs `_remind`.
_reminding = False
# Held while `_remind` interrupts, and while the handler is taken back: a reminder must never reach Python's
# own handler, which would raise a second KeyboardInterrupt.
_lock = allocate_lock()
# A `with` would need memory.
_acquire = _lock.acquire
_release = _lock.release


def _on_interrupt(signum: int, frame: FrameType | None) -> None:
    """Handle SIGINT: raise KeyboardInterrupt at once, or defer it."""
    global pending, _since, _is_reminder
    is_reminder, _is_reminder = _is_reminder, False
    if is_reminder and not pending:
        return
    if _is_leaving:
        pending = True
        return
    if not pending:
        _since = time.monotonic()
    elif not is_reminder and time.monotonic() - _since > _PATIENCE:
        _raise()
    inside = False  # whether code of this package, the binding apart, must return first
    while frame is not None and frame.f_code is not run_code:
        if _is_in(_PACKAGE, frame):
            inside = inside or not _is_in(_BINDING, frame)
        elif not _is_library(frame):
            break
        frame = frame.f_back
    if frame is None or frame.f_code is run_code:
        # No code of the user is between the loop and the interrupted frame.
        if not inside:
            _raise()
    elif not inside and not _is_about_to_begin(frame):
        _raise()
    else:
        pending = True
        _start_reminding()
    pending = True


def _start_reminding() -> None:
    """Start the thread that runs `_remind`, unless it runs."""
    if not _reminding:
        # Without a thread the interrupt is raised when the event has been handled.
        with contextlib.suppress(RuntimeError, MemoryError):
            start_new_thread(_remind, ())


def _remind() -> None:
    """Interrupt the main thread again every millisecond until the deferred interrupt is raised."""
    global _reminding, _is_reminder
    _reminding = True
    while True:
        sleep(0.001)
        with _lock:
            if not pending:
                break
            _is_reminder = True
            _thread.interrupt_main()
    _reminding = False


def _raise() -> NoReturn:
    global pending, struck
    pending = False
    struck = True
    raise KeyboardInterrupt


def _is_in(package: str, frame: FrameType) -> bool:
    """Return whether a frame runs code of the package."""
    name = frame.f_globals.get("__name__")
    return isinstance(name, str) and (name == package or name.startswith(package + "."))


def _is_library(frame: FrameType) -> bool:
    """Return whether a frame runs code of the standard library."""
    name = frame.f_code.co_filename
    if name.startswith("<frozen"):
        return True
    return name.startswith(_STDLIB) and not any(part in name for part in _INSTALLED)


def _is_about_to_begin(frame: FrameType) -> bool:
    """Return whether a frame is a callback that this package has called and that has done nothing yet."""
    caller, at = frame.f_back, frame.f_lasti
    if caller is None or not _is_in(_PACKAGE, caller):
        return False
    return at < 0 or frame.f_code.co_code[at] == _RESUME


def take() -> bool:
    """Return whether the calling thread must raise a deferred interrupt now, and clear the flag if so."""
    global pending
    if not pending or not is_main_thread():
        return False
    pending = False
    return True


def _set_handler(handler: Callable[[int, FrameType | None], object]) -> None:
    """Set Python's handler of SIGINT and keep the process's action, which watchers of SIGINT own."""
    lib.nats_ev_keep_action(_SIGINT)
    try:
        setsignal(_SIGINT, handler)
    finally:
        lib.nats_ev_restore_action(_SIGINT)


def run_deferring(run: Callable[[int], int], flags: int) -> int:
    """Call ``run(flags)`` with interrupts deferred as described above.

    Args:
        run: the function that runs the loop.
        flags: its argument.

    Returns:
        What ``run`` returns.

    Raises:
        KeyboardInterrupt: an interrupt was deferred until ``run`` had returned.
    """
    global pending, _is_leaving
    if not _DEFERS or not is_main_thread():
        return run(flags)
    if getsignal(_SIGINT) is not signal.default_int_handler:
        return run(flags)
    failure: BaseException | None = None
    result = 0
    try:
        try:
            _set_handler(_on_interrupt)
        except ValueError:  # a subinterpreter, in which signal.signal is refused
            return run(flags)
        result = run(flags)
    except BaseException as exc:
        failure = exc
    # In one piece and without a call that needs memory: the handler must be taken back whatever fails.
    _is_leaving = True
    _acquire()
    try:
        deferred, pending = pending, False
        # `signal.signal` first runs the handler for what has been sent before.
        if getsignal(_SIGINT) is _on_interrupt:
            _set_handler(signal.default_int_handler)
        deferred, pending = deferred or pending, False
    finally:
        _is_leaving = False
        _release()
    if failure is not None:
        # One interrupt is enough; another exception must not take its place.
        if deferred and not isinstance(failure, KeyboardInterrupt):
            _thread.interrupt_main()
        raise failure
    if deferred:
        raise KeyboardInterrupt
    return result


def is_likely_interrupt() -> bool:
    """Return whether an exception that was lost on its way was KeyboardInterrupt, as far as is known."""
    global struck
    likely = struck or not _DEFERS
    struck = False
    return likely


def _after_fork() -> None:
    """Forget the parent's interrupt and its thread, in the child of a fork, which has neither."""
    global pending, _is_reminder, _reminding, _acquire, _release, _lock
    pending = _is_reminder = _reminding = False
    _lock = allocate_lock()  # the parent's thread may have held it
    _acquire, _release = _lock.acquire, _lock.release


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
