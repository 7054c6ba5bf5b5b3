"""What a client needs of its loop: types for those who write an adapter. docs/loops.md shows how.

A client calls five methods of its loop, by position: `Loop.io`, `Loop.timer`, `Loop.prepare`, `Loop.update`,
and a fifth one that is named ``async``. Types can't express that name, which is a keyword: an adapter defines
``async_`` and adds ``setattr(MyLoop, "async", MyLoop.async_)``. The signature is
``(callback, data=None, priority=0) -> Async``.

More attributes are optional. The client asks for them with `getattr`:

- ``thread``: the number (`threading.get_ident`) of the thread that runs the loop now, or None if no thread
  does. A client refuses calls from other threads with RuntimeError. Without the attribute nothing is checked.
  An adapter that has it keeps what was fed when an exception leaves a callback (see `Prepare.feed`).
- ``debug``: if true, an Exception that a callback of the client raises leaves the watcher's callback. If
  false or missing, the client gives it to `sys.excepthook` and goes on.
- ``at_close(callback)``: the loop calls ``callback()``, a method that it holds weakly, when it has been
  closed and will call no watcher any more. The client then closes its socket and refuses calls. Without the
  attribute a program calls `Nats.disconnect` before it closes the loop.
- ``ref()`` and ``unref()``: one more, or one fewer, watcher keeps the loop running, as in libev. In their
  place the watchers may have an attribute ``ref``, set at any time: whether the watcher keeps the loop
  running. With neither, `Nats.unref` does nothing, which is right for a loop that does not end for want of
  watchers.

What every watcher promises:

- ``callback(watcher, revents)`` is called in the thread that runs the loop, and never inside a call of the
  client's that made, started or fed the watcher. The client ignores revents.
- `stop` discards an event that is pending: after it returns the callback is not called. It may be called
  inside the callback, for a watcher that is not active, and after the loop has been closed.
- `start` does nothing if the watcher is active. It may be called inside the callback.
- An active watcher stays active if its callback raises, whatever it raises. (A timer has stopped before.)
  KeyboardInterrupt and SystemExit must come out of what runs the loop; any other exception the loop reports.
- The loop keeps an active watcher alive.
- Watchers of higher priority come first, if the loop knows priorities. They are -2 to 2.

`nats_ev.testing.loop_conformance` has a suite of tests that checks these promises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

# The bits of `Loop.io`. These and all other numbers are those of libev.
EV_READ = 1
EV_WRITE = 2

WatcherCallback = Callable[[Any, int], object]


class Watcher(Protocol):
    """What all watchers that can be started have in common."""

    def start(self) -> None:
        """Start watching. Does nothing if the watcher is active."""

    def stop(self) -> None:
        """Stop watching, and discard a pending event. Does nothing if there is nothing to stop."""


class Io(Watcher, Protocol):
    """A watcher of a descriptor, level-triggered: its callback is called as long as the descriptor is ready.

    A client may have two for one descriptor, one for each event. It stops them before it closes the
    descriptor, whose number may then be that of another file. Only in the child of a fork is the descriptor
    of an active watcher replaced by another one.
    """

    @property
    def active(self) -> bool:
        """Whether the watcher is started and not stopped."""


class Timer(Watcher, Protocol):
    """A timer that fires once after each start; by then it has stopped, unless its repeat is not 0.

    A timer of 0 seconds fires in the loop's next iteration, after the loop has looked at descriptors: so a
    client gives way to others. A timer may be early by a few milliseconds; the client then starts it again.
    It must not be late by more than what the loop is busy with.
    """

    def set(self, after: float, repeat: float, /) -> None:
        """Set the times of a stopped timer, in seconds: until it fires, and between its later calls.

        repeat 0.0 means that it fires once. The client's repeat is 0.0, except on a loop that has ``unref``.
        """


class Prepare(Protocol):
    """A watcher that a client only feeds."""

    def feed(self, revents: int, /) -> None:
        """Let the loop call the callback once, after the callbacks that are due now and before it blocks.

        Feeding again before that has no effect. Feeding inside the callback leads to another call, also
        before the loop blocks. What is fed while the loop does not run waits until it runs. What a callback
        feeds stays pending if an exception comes out of that callback, also one that stops the loop.
        """

    def stop(self) -> None:
        """Discard what has been fed."""


class Async(Watcher, Protocol):
    """A watcher for other threads. It need not keep a loop running that ends when it has nothing to do."""

    def send(self) -> None:
        """Let the loop call the callback soon, at least once after this. Wakes a loop that blocks.

        Any thread and any signal handler may call this. It does nothing when the watcher has been stopped, or
        the loop closed, also at the same moment.
        """


class Loop(Protocol):
    """The methods of a loop that a client calls, but for ``async``: see the module's docstring.

    All arguments are passed by position. data is always None, and need not be kept.
    """

    def io(
        self,
        fd: int,
        events: int,
        callback: WatcherCallback,
        data: object = None,
        priority: int = 0,
        /,
    ) -> Io:
        """Return a watcher of a descriptor, not started; events is EV_READ or EV_WRITE."""

    def timer(
        self,
        after: float,
        repeat: float,
        callback: WatcherCallback,
        data: object = None,
        priority: int = 0,
        /,
    ) -> Timer:
        """Return a timer, not started; after is in seconds, and repeat 0.0."""

    def prepare(
        self, callback: WatcherCallback, data: object = None, priority: int = 0, /
    ) -> Prepare:
        """Return a watcher that will be fed, and never started."""

    def update(self) -> object:
        """Bring the loop's time up to date, from which timers count, if it can be stale."""


def make_async(loop: Loop, callback: WatcherCallback) -> Async:
    """Return an Async watcher of a loop, not started. The factory's name is a keyword of the language."""
    watcher: Async = getattr(loop, "async")(callback)
    return watcher
