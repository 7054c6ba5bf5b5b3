"""Ctrl-C while a loop runs: raised where it does no harm.

Python calls signal handlers between any two instructions. A KeyboardInterrupt out of the middle of this
package's code would lose what that code has in its hands at the moment: bytes just read, the number of
bytes just sent. So while a loop runs in the main thread, its handler looks at what it has interrupted:

- code of the user: KeyboardInterrupt at once, as ever;
- code of this package that the user's code has called: once that is at work again;
- code of this package that handles an event: as soon as the event is handled (a client delivers
  messages for 10 ms at most before that).

Another Ctrl-C half a second later is raised at once, wherever it strikes. A handler of the user's own is
left in place, and so is a watcher of the signal: it gets it instead.
"""

from __future__ import annotations

import _thread
import os
import signal
import time
from collections.abc import Callable
from dis import opmap
from threading import get_ident, main_thread
from types import CodeType, FrameType
from typing import NoReturn

from ._libev import lib

_BINDING = __name__.rpartition(".")[0]
_PACKAGE = _BINDING.partition(".")[0]
_STDLIB = os.path.dirname(os.__file__) + os.sep
_PATIENCE = 0.5
_INSTALLED = ("site-packages", "dist-packages")
# The instruction at which a call looks for signals before it does anything; before 3.11 there was none.
_RESUME = opmap.get("RESUME", -1)

# The code of what calls a watcher's callback: below its frame begins another story.
event_code: CodeType | None = None

waiting = False  # an interrupt has been put off
_since = 0.0
_own = False  # the next call of the handler is of our own making
_reminding = False  # a thread calls it until the interrupt is raised


def _on_interrupt(signum: int, frame: FrameType | None) -> None:
    global waiting, _since, _own
    own, _own = _own, False
    if own and not waiting:
        return
    if not waiting:
        _since = time.monotonic()
    elif not own and time.monotonic() - _since > _PATIENCE:
        _raise()
    inside = False  # code of this package, the binding apart, is to be left first
    while frame is not None and frame.f_code is not event_code:
        if _is_in(_PACKAGE, frame):
            inside = inside or not _is_in(_BINDING, frame)
        elif not _is_library(frame):
            break
        frame = frame.f_back
    if frame is None or frame.f_code is event_code:
        if not inside:
            _raise()
    elif not inside and not _is_about_to_begin(frame):
        _raise()
    elif not _reminding:
        waiting = True
        _thread.start_new_thread(_remind, ())
    waiting = True


def _remind() -> None:
    """Ask again every millisecond, until the user's code is at work."""
    global _reminding, _own
    _reminding = True
    while True:
        time.sleep(0.001)
        if not waiting:
            break
        _own = True
        _thread.interrupt_main()
    _reminding = False


def _raise() -> NoReturn:
    global waiting
    waiting = False
    raise KeyboardInterrupt


def _is_in(package: str, frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    return isinstance(name, str) and (name == package or name.startswith(package + "."))


def _is_library(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    if name.startswith("<frozen"):
        return True
    return name.startswith(_STDLIB) and not any(part in name for part in _INSTALLED)


def _is_about_to_begin(frame: FrameType) -> bool:
    """A callback that we have called and that has done nothing yet: what it was given would be lost."""
    caller, at = frame.f_back, frame.f_lasti
    if caller is None or not _is_in(_PACKAGE, caller):
        return False
    return at < 0 or frame.f_code.co_code[at] == _RESUME


def is_waiting() -> bool:
    """Whether an interrupt was put off that the calling thread must raise now; it is put off no more."""
    global waiting
    if not waiting or get_ident() != main_thread().ident:
        return False
    waiting = False
    return True


def _set_handler(handler: Callable[[int, FrameType | None], object]) -> None:
    """Change Python's handler only: a watcher of SIGINT has the process's, and keeps it."""
    lib.nats_ev_keep_action(signal.SIGINT)
    signal.signal(signal.SIGINT, handler)
    lib.nats_ev_restore_action(signal.SIGINT)


def shielded(run: Callable[[int], int], flags: int) -> int:
    """Call ``run(flags)``, with interrupts put off as described above."""
    if get_ident() != main_thread().ident:
        return run(flags)
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return run(flags)
    try:
        _set_handler(_on_interrupt)
    except ValueError:  # a thread that only calls itself the main one: a subinterpreter
        return run(flags)
    try:
        result = run(flags)
    finally:
        if signal.getsignal(signal.SIGINT) is _on_interrupt:
            _set_handler(signal.default_int_handler)
    if is_waiting():
        raise KeyboardInterrupt
    return result
