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

The order in `_on_prepare` (``csrc/py_turn.c``, as every turn has one) is fixed:

1. `deliver`, if messages have been received and not delivered, because a callback nested the loop or raised.
   They came before everything that follows.
2. The calls that `soon` has put off, in order: completions, on_* callbacks, listeners. They may publish.
3. `finish`, if somebody has set `unfinished`: what must be done just before the write.
4. `flush`: one write for all of it.
5. At most one exception of `throw` is raised, when all state is settled and the calls that had been put
   off with it are made. If more are waiting, the watcher is fed again.

A callback of step 2 may run the loop. The rest of the steps must then happen in that nested run, so the
watcher is fed before the first callback, and again if a nested run has used up the event.

Step 2 lasts for one slice of 10 ms at most: a lost connection may put off hundreds of thousands of calls. The
rest waits for the loop's next iteration (`_rest`), so that other watchers run in between. So does what a
callback of step 2 puts off with `soon_after`: a callback that puts off itself must not run for ever in one
iteration. Feeding the watcher would be no way to wait, because libev handles what is fed before it looks at
any other watcher. A timer of 0 seconds is. The calls stay in one queue, so their order is that of the calls
of `soon` and `soon_after` in any case.

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
from collections.abc import Callable, Iterator
from time import monotonic
from types import FunctionType, MethodType
from typing import Any, Protocol

from ..compiled import TurnBase
from ..errors import show_misfit
from ..loops import Loop, Timer
from .deadlines import CALLBACKS_SLICE

# From libev's ev.h, whose numbers are its ABI. Written here so that no binding of libev is imported.
EV_MINPRI = -2
EV_CUSTOM = 0x01000000
# A place that no call has.
_NOWHERE = sys.maxsize


class Received(Protocol):
    """What a connection has received."""

    @property
    def drained(self) -> bool:
        """Whether all of it has been delivered."""


class _NothingReceived:
    drained = True


_NOTHING_RECEIVED = _NothingReceived()


class Turn(TurnBase):
    """The end of each turn of one client's loop. The watcher's callback, `_on_prepare`, is C."""

    __slots__ = (
        "_cut_at",
        "_feed",
        "_later",
        "_loop",
        "_made",
        "_prepare",
        "_raise_at",
        "_running",
    )

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._soon = deque()
        # A call's place is the number of calls that were put off before it, ever. So the first one in `_soon`
        # has the place `_made`: the number of calls that were made.
        self._made = 0
        self._running = 0  # how many runs of the calls are on the stack
        self._cut_at = _NOWHERE  # the place of the first call that waits for the next iteration
        self._resting = False  # the calls wait for the timer `_later`
        self._unhandled = deque()
        self._raise_at = _NOWHERE  # the place of the first call that may come after the exception
        self._prepare = loop.prepare(self._on_prepare, None, EV_MINPRI)
        self._feed = self._prepare.feed
        self._attach_watcher(self._prepare, getattr(self._prepare, "_feed_address", 0))
        # Whether `run_soon` has fed the watcher, and it has not been called since.
        self._fed = False
        self._later: Timer | None = None
        # Who sets it calls `schedule`, too: then `finish` is called at the end of this turn.
        self.unfinished = False
        # Called before the write of a turn that is `unfinished`. Must not call the user's code.
        self.finish = _nothing
        self.detach()

    def attach(
        self, deliver: Callable[[], None], flush: Callable[[], None], received: Received
    ) -> None:
        """Set what a connection does at the end of each scheduled turn.

        Args:
            deliver: called before the calls that were put off, if something is yet to be delivered.
            flush: called after them.
            received: tells whether something is.
        """
        self.deliver = deliver
        self.flush = flush
        self._received = received

    def detach(self) -> None:
        """Undo `attach`."""
        self.attach(_nothing, _nothing, _NOTHING_RECEIVED)

    def soon(self, callback: Callable[..., object], *args: object) -> None:
        """Call ``callback(*args)`` at the end of this turn; if the loop does not run, when it is started."""
        self._soon.append((callback, args))
        self._feed(EV_CUSTOM)

    def soon_after(self, callback: Callable[..., object], *args: object) -> None:
        """Do what `soon` does; but if a call that was put off does this, wait for the next iteration."""
        if self._running and self._cut_at == _NOWHERE:
            self._cut_at = self._made + len(self._soon)
        self.soon(callback, *args)

    def soon_each(self, callbacks: Iterator[Callable[..., object]], *args: object) -> None:
        """Call each of many callbacks with args, as `soon` does. The iterator is asked for one at a time.

        So hundreds of thousands of them need no time and memory now.
        """
        self.soon(_EACH, callbacks, args)

    def _expand(self, entry: tuple[Callable[..., object], tuple[Any, ...]]) -> None:
        """Put the next callback of a `soon_each` before the rest of it, at the beginning of the queue.

        `next` may run a signal handler or a ``__del__``, which may run the loop, and that this queue.
        """
        soon = self._soon
        callbacks, args = entry[1]
        soon.appendleft(entry)
        self._made -= 1
        callback = next(callbacks, None)
        is_first = bool(soon) and soon[0] is entry
        if callback is not None:
            if not is_first:
                soon.appendleft(entry)  # if it is there twice, the second one finds nothing
                self._made -= 1
            soon.appendleft((callback, args))
            self._made -= 1
        elif is_first:
            soon.popleft()
            self._made += 1

    @property
    def busy(self) -> bool:
        """Whether calls that were put off are still to be made."""
        return bool(self._soon)

    def run_soon(self) -> None:
        """Make the calls that `soon` has put off now, so that what the caller does next comes after them.

        What takes longer than a slice, and what waits for the next iteration, is left for the turn's end.
        """
        soon = self._soon
        until = monotonic() + CALLBACKS_SLICE
        self._cut_at = _NOWHERE
        self._running += 1
        try:
            while soon and self._made < self._cut_at:
                if not self._fed:
                    self._feed(EV_CUSTOM)
                    self._fed = True
                try:
                    callback, args = entry = soon.popleft()
                except IndexError:  # a signal handler has run the loop
                    break
                self._made += 1
                if callback is _EACH:
                    self._expand(entry)
                    continue
                try:
                    callback(*args)
                except BaseException as exc:
                    show_misfit(exc, callback, 1)
                    if _has_not_begun(callback, exc):
                        soon.appendleft((callback, args))
                        self._made -= 1
                        self._go_on_later()
                        raise
                    self.failed(exc)
                if soon and monotonic() > until:
                    break
        finally:
            self._running -= 1

    def call(self, callback: Callable[..., object], *args: object) -> None:
        """Call a user's callback now. `failed` deals with what it raises."""
        try:
            callback(*args)
        except BaseException as exc:
            show_misfit(exc, callback, 1)
            self.failed(exc)

    def failed(self, exc: BaseException) -> None:
        """Deal with the exception of a user's callback.

        An Exception goes to `sys.excepthook`, and the caller goes on. Anything else
        (KeyboardInterrupt, SystemExit) is raised again, and so is an Exception under ``loop.debug``:
        it stops the loop. The rest of the turn then stays pending for the next start of the loop. So does an
        error that ends a client and has left a nested `start` (see `throw`).
        """
        if (
            isinstance(exc, Exception)
            and not getattr(self._loop, "debug", False)
            and not getattr(exc, "ends_start", False)
        ):
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
        self._rest()

    def _rest(self) -> None:
        """Let the rest of the turn wait for the loop's next iteration."""
        self._resting = True
        if self._later is None:
            self._later = self._loop.timer(0.0, 0.0, self._on_later, None, EV_MINPRI)
        self._later.start()

    def forget(self) -> None:
        """Discard all that was put off, and all that will be, in the child of a fork."""
        self._soon.clear()  # `run_soon` may be at work on it
        self._soon = deque(maxlen=0)
        self._unhandled = deque(maxlen=0)
        self.unfinished = False

    def throw(self, error: BaseException, ends_start: bool = False) -> None:
        """Raise error out of the watcher's callback at the end of this turn, after everything else.

        Args:
            error: for the loop, which reports it.
            ends_start: set the attribute of that name, by which `nats_ev.pyev` knows an error that must end
                the loop's `start`.
        """
        self._unhandled.append((error, ends_start))
        self._feed(EV_CUSTOM)

    def _on_later(self, watcher: Any, revents: int) -> None:
        self._resting = False
        self._on_prepare(watcher, revents)

    def _run_put_off(self) -> None:
        """Make the calls that were put off, or as many as one slice has time for."""
        self.run_soon()
        if self._soon:
            self._rest()

    def _raise(self) -> None:
        """Raise the first exception of `throw` when the calls that had been put off with it are made."""
        if self._raise_at == _NOWHERE:
            self._raise_at = self._made + len(self._soon)
        if self._made < self._raise_at:
            return
        self._raise_at = _NOWHERE
        error, ends_start = self._unhandled.popleft()
        if self._unhandled:
            self._go_on_later()
        if ends_start:
            error.ends_start = True  # type: ignore[attr-defined]
        raise error


def _has_not_begun(callback: object, exc: BaseException) -> bool:
    """Return whether there was no memory for the frame of a callback written in Python."""
    if type(exc) is not MemoryError or not isinstance(callback, (FunctionType, MethodType)):
        return False
    return exc.__traceback__ is None or exc.__traceback__.tb_next is None


def _nothing() -> None:
    pass


def _EACH() -> None:
    """Stand for the callbacks of one `soon_each` in the queue."""
