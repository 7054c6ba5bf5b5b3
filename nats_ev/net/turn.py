"""The end of a loop turn: calls that were put off, then one write.

Theory of operation
-------------------
A client coalesces all that one iteration of the loop publishes into one `write`.
It needs a moment that comes after every callback of the iteration and before the loop blocks. libev
has the Prepare watcher for that, but a started one has two faults:

- libev queues all started Prepare watchers together. What the Prepare of another part of the program
  publishes after ours has run stays in the buffer until the next event, which may be hours away.
- It runs in every iteration, also when there is nothing to do, and it keeps the loop running.

So the one Prepare watcher here has the lowest priority and is never started. `schedule` *feeds* it:
libev puts it among the pending events. libev handles those by priority, highest first, and before it
blocks it goes on until none is left, those included that were fed meanwhile. The invariant: **bytes
that a watcher of any type and priority publishes, in any phase of the iteration, leave before the
loop blocks.** An iteration that publishes nothing does not run this file. Feeding a watcher that is
pending already has no effect, and what is fed while the loop does not run waits for the loop's next
start. Only factory methods of the loop are used, so this works with every binding that has pyev's
interface.

The order in `_on_prepare` is fixed:

1. `deliver`: messages that have been received and not delivered, because a callback nested the loop
   or raised. They came before everything that follows.
2. The calls that `soon` has put off, in order: completions, on_* callbacks, listeners. They may publish.
3. `flush`: one write for all of it.
4. At most one exception of `throw` is raised, when all state is settled. If more are waiting, the
   watcher is fed again.

A callback of step 2 may run the loop. The rest of the steps must then happen in that nested run, so the
watcher is fed before the first such callback, and again if a nested run has used up the event. A call
that cannot run the loop (`cannot_nest`) saves the event.

After an exception that stops the loop the rest of the turn waits for the loop's next start. Our own
binding and the adapters keep a fed event until then. A genuine pyev with ``debug`` does not: it delivers
all pending events before its `start` returns, while the exception is set. There a timer takes the place
of the event, because a timer is not looked at before the next start.

Apart from the delivery of messages and the credential callbacks this is the only file that calls the
user's callbacks, and the only one that decides what happens to their exceptions: see `Turn.failed`.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType
from typing import Any

# From libev's ev.h, whose numbers are its ABI. Written here so that no binding of libev is imported.
EV_MINPRI = -2
EV_CUSTOM = 0x01000000
# Seconds of callbacks in a row, for one client, before other watchers have their turn.
CALLBACKS_SLICE = 0.01


class Turn:
    """The end of each turn of one client's loop."""

    __slots__ = (
        "_fed",
        "_feed",
        "_later",
        "_loop",
        "_prepare",
        "_soon",
        "_unhandled",
        "cannot_nest",
        "deliver",
        "flush",
        "schedule",
    )

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._soon: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._unhandled: deque[BaseException] = deque()
        self._prepare = loop.prepare(self._on_prepare, None, EV_MINPRI)
        self._feed = self._prepare.feed
        # Whether `run_soon` has fed the watcher, and it has not been called since.
        self._fed = False
        self._later: Any = None
        # A call among those of `soon` that runs neither the loop nor code of the user's.
        self.cannot_nest: Callable[[], None] = _nothing
        # Ask libev to call `_on_prepare` before it blocks. A partial, because a method would be one
        # call more.
        self.schedule = partial(self._feed, EV_CUSTOM)
        self.detach()

    def attach(self, deliver: Callable[[], None], flush: Callable[[], None]) -> None:
        """Set what a connection does at the end of each scheduled turn.

        Args:
            deliver: called before the calls that were put off.
            flush: called after them.
        """
        self.deliver = deliver
        self.flush = flush

    def detach(self) -> None:
        """Undo `attach`."""
        self.attach(_nothing, _nothing)

    def soon(self, callback: Callable[..., object], *args: object) -> None:
        """Call ``callback(*args)`` at the end of this turn; if the loop does not run, when it is started."""
        self._soon.append((callback, args))
        self._feed(EV_CUSTOM)

    def run_soon(self) -> None:
        """Make the calls that `soon` has put off now, so that what the caller does next comes after them."""
        soon = self._soon
        while soon:
            callback, args = soon[0]
            if not self._fed and callback != self.cannot_nest:
                self._feed(EV_CUSTOM)
                self._fed = True
            soon.popleft()
            try:
                callback(*args)
            except BaseException as exc:
                if _has_not_begun(callback, exc):
                    soon.appendleft((callback, args))
                    self._go_on_later()
                    raise
                self.failed(exc)

    def call(self, callback: Callable[..., object], *args: object) -> None:
        """Call a user's callback now. `failed` deals with what it raises."""
        try:
            callback(*args)
        except BaseException as exc:
            self.failed(exc)

    def failed(self, exc: BaseException) -> None:
        """Deal with the exception of a user's callback.

        An Exception goes to `sys.excepthook`, and the caller goes on. Anything else
        (KeyboardInterrupt, SystemExit) is raised again, and so is an Exception under ``loop.debug``:
        it stops the loop. The rest of the turn then stays pending for the next start of the loop.
        """
        if isinstance(exc, Exception) and not getattr(self._loop, "debug", False):
            self._report(exc)
            return
        self._go_on_later()
        raise exc

    def _report(self, exc: BaseException) -> None:
        """Hand an exception to `sys.excepthook`. If the hook fails, print both exceptions to stderr."""
        try:
            sys.excepthook(type(exc), exc, exc.__traceback__)
        except Exception as hook_exc:
            sys.__excepthook__(type(hook_exc), hook_exc, hook_exc.__traceback__)
            sys.__excepthook__(type(exc), exc, exc.__traceback__)
        except BaseException:
            self._go_on_later()
            raise

    def _go_on_later(self) -> None:
        """Let the rest of the turn come in the next iteration, or in the loop's next start."""
        loop = self._loop
        if not getattr(loop, "debug", False) or hasattr(loop, "thread"):
            self._feed(EV_CUSTOM)
            return
        self._prepare.stop()  # discards the event that is pending
        self._fed = False
        if self._later is None:
            self._later = loop.timer(0.0, 0.0, self._on_prepare, None, EV_MINPRI)
        self._later.start()

    def forget(self) -> None:
        """Discard all that was put off, in the child of a fork."""
        self._soon.clear()
        self._unhandled.clear()

    def throw(self, error: BaseException) -> None:
        """Raise error out of the watcher's callback at the end of this turn, after everything else."""
        self._unhandled.append(error)
        self._feed(EV_CUSTOM)

    def _on_prepare(self, watcher: Any, revents: int) -> None:
        self._fed = False
        self.deliver()
        if self._soon:
            self.run_soon()
        self.flush()
        if self._unhandled:
            error = self._unhandled.popleft()
            if self._unhandled:
                self._go_on_later()
            raise error


def _has_not_begun(callback: object, exc: BaseException) -> bool:
    """Return whether there was no memory for the frame of a callback written in Python."""
    if type(exc) is not MemoryError or not isinstance(callback, (FunctionType, MethodType)):
        return False
    return exc.__traceback__ is None or exc.__traceback__.tb_next is None


def _nothing() -> None:
    pass
