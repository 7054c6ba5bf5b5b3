"""`AsyncioLoop`: the client on a loop of asyncio or uvloop, in the thread of that loop. libev is not loaded.

::

    async def main():
        nats = Nats(host="127.0.0.1", loop=AsyncioLoop())

Callbacks are plain functions that the loop calls. They must not block; a callback that has to wait starts
a task. Each callback runs in a copy of the context (`contextvars`) in which the adapter was made, so it
does not see the variables of the task that happened to publish.

*Exceptions.* What a callback of the client raises goes to `sys.excepthook`, as on every loop. What leaves a
watcher's callback goes to the loop's exception handler (``loop.call_exception_handler``): an error of a
client without on_error, and, if the adapter's `debug` is True, what a callback of the client raises.
KeyboardInterrupt and SystemExit come out of ``run_forever``. In each case the client goes on with the rest
when the loop goes on. asyncio's own debug mode is another thing and changes nothing here; it logs a callback
that takes more than ``loop.slow_callback_duration``.

*The end.* When the loop is closed (``loop.close()``, the end of `asyncio.run`), the sockets of its clients
are closed, too, and no callback comes any more. So a program drains or disconnects first. On a loop that has
been stopped, clients wait until it runs again. The child of a fork needs a new loop and a new client.

asyncio has one callback for a descriptor's readability and one for its writability. So each descriptor may
have one watcher for each of the two, and a regular file none (PermissionError). There are no priorities.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import os
import select
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

_CLOSED = "the loop of this AsyncioLoop has been closed"
_DAY = 86400.0

EV_READ, EV_WRITE, EV_TIMER, EV_ASYNC = 1, 2, 0x100, 0x80000

WatcherCallback = Callable[[Any, int], object]


class _Watcher:
    """What all watchers have: an event can be fed, and is discarded by `stop`."""

    __slots__ = ("__weakref__", "_callback", "_context", "_fed", "_loop", "_owner", "data")

    def __init__(self, owner: AsyncioLoop, callback: WatcherCallback, data: object) -> None:
        self._owner = owner
        self._loop = owner.loop
        self._context = owner.context
        self._callback = callback
        self.data = data
        self._fed: asyncio.Handle | None = None

    def feed(self, revents: int) -> None:
        """Let the loop call the callback, once, before it blocks. Does nothing if it is about to."""
        if self._fed is not None:
            return
        try:
            self._fed = self._loop.call_soon(self._call_fed, revents, context=self._context.copy())
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _call(self, revents: int) -> None:
        try:
            self._callback(self, revents)
        except (KeyboardInterrupt, SystemExit):
            self._owner._interrupt()
            raise

    def _call_fed(self, revents: int) -> None:
        self._fed = None
        if self._owner._interrupted:
            self.feed(revents)
        else:
            self._call(revents)

    def stop(self) -> None:
        """Stop the watcher and discard a pending event."""
        if self._fed is not None:
            self._fed.cancel()
            self._fed = None

    @property
    def pending(self) -> bool:
        """Whether an event has been fed for which the callback is still to be called."""
        return self._fed is not None


class _Io(_Watcher):
    __slots__ = ("_active", "_events", "_fd")

    def __init__(
        self, owner: AsyncioLoop, fd: int, events: int, callback: WatcherCallback, data: object
    ) -> None:
        super().__init__(owner, callback, data)
        self._fd = fd
        self._events = events
        self._active = False

    @property
    def active(self) -> bool:
        """Whether the watcher is started and not yet stopped."""
        return self._active

    def start(self) -> None:
        """Start the watcher. Does nothing if the watcher is active."""
        if self._active:
            return
        # asyncio takes a copy of the current context.
        run = self._context.copy().run
        if self._events & EV_READ:
            run(self._loop.add_reader, self._fd, self._on_ready, EV_READ)
        if self._events & EV_WRITE:
            run(self._loop.add_writer, self._fd, self._on_ready, EV_WRITE)
        self._active = True

    def _on_ready(self, revents: int) -> None:
        if not self._owner._interrupted:  # else the loop will call again
            self._call(revents)

    def stop(self) -> None:
        """Stop the watcher and discard a pending event."""
        super().stop()
        self._remove()

    def _remove(self) -> None:
        if self._active:
            self._active = False
            if self._events & EV_READ:
                self._loop.remove_reader(self._fd)
            if self._events & EV_WRITE:
                self._loop.remove_writer(self._fd)


class _UvloopIo(_Io):
    """The same on uvloop, which stops watching a descriptor that has an error after one more call.

    But there may be more to read than one call reads: the last bytes and then the error, for one.
    """

    __slots__ = ("_errors",)

    def start(self) -> None:
        """Start the watcher. Does nothing if the watcher is active."""
        if not self._active:
            super().start()
            self._errors = select.poll()
            self._errors.register(self._fd, 0)  # 0: errors only

    def _on_ready(self, revents: int) -> None:
        super()._on_ready(revents)
        if self._active and self._errors.poll(0):
            self._remove()
            self.start()


class _Timer(_Watcher):
    __slots__ = ("_after", "_handle", "_repeat")

    def __init__(
        self,
        owner: AsyncioLoop,
        after: float,
        repeat: float,
        callback: WatcherCallback,
        data: object,
    ) -> None:
        super().__init__(owner, callback, data)
        self.set(after, repeat)
        self._handle: asyncio.Handle | None = None

    def set(self, after: float, repeat: float) -> None:
        """Set the times of a stopped timer, in seconds.

        Args:
            after: until the first call.
            repeat: between later calls; 0: none.
        """
        self._after = after
        self._repeat = repeat

    @property
    def active(self) -> bool:
        """Whether the timer is started and not yet stopped. One that does not repeat stops as it fires."""
        return self._handle is not None

    def start(self) -> None:
        """Start the timer. Does nothing if the timer is active."""
        if self._handle is None:
            self._arm(self._after)

    def _arm(self, seconds: float) -> None:
        # Whole milliseconds, upwards: uvloop rounds to the nearest, and would often be early.
        self._handle = self._loop.call_later(
            math.ceil(seconds * 1000) / 1000, self._fire, context=self._context.copy()
        )

    def stop(self) -> None:
        """Stop the timer and discard a pending event."""
        super().stop()
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.cancel()

    def _fire(self) -> None:
        if self._owner._interrupted:
            self._handle = self._loop.call_soon(self._fire, context=self._context.copy())
            return
        self._handle = None
        if self._repeat > 0:
            self._arm(self._repeat)
        self._call(EV_TIMER)


class _Async(_Watcher):
    """A watcher for other threads."""

    __slots__ = ("_active", "_sent")

    def __init__(self, owner: AsyncioLoop, callback: WatcherCallback, data: object) -> None:
        super().__init__(owner, callback, data)
        self._active = False
        self._sent = False

    @property
    def active(self) -> bool:
        """Whether the watcher is started and not yet stopped."""
        return self._active

    def start(self) -> None:
        """Start the watcher. Does nothing if the watcher is active."""
        if not self._active:
            self._active = True
            self._sent = False

    def stop(self) -> None:
        """Stop the watcher and discard a pending event."""
        super().stop()
        self._active = self._sent = False

    def send(self) -> None:
        """Wake the loop, so that it calls the callback. Any thread may do so, and any signal handler.

        Does nothing if the watcher is stopped or the loop closed.
        """
        if self._active and not self._sent:
            self._sent = True
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._wake, context=self._context.copy())

    def _wake(self) -> None:
        if not self._sent:
            return
        if self._owner._interrupted:
            self._loop.call_soon(self._wake, context=self._context.copy())
        else:
            self._sent = False
            self._call(EV_ASYNC)


class _WeakMethod(weakref.ref[Any]):
    """A method whose object may go. `weakref.WeakMethod` fails when the interpreter ends."""

    __slots__ = ("function",)
    __eq__ = object.__eq__
    __hash__ = object.__hash__
    function: Callable[[Any], object]


class _Closing:
    """What is called when a loop has been closed.

    asyncio tells nobody of it. But a closed loop drops the timers that it has. So a timer that is far away
    holds a `_Sentinel`, and nothing else does. There is one for each loop that has, or had, a client.
    """

    __slots__ = ("_loop", "callbacks")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self.callbacks: set[_WeakMethod] = set()
        self._watch(loop)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        # Thread-safe, because any thread may make a client of a loop that does not run yet.
        loop.call_soon_threadsafe(_park, _Sentinel(self), context=contextvars.Context())

    def add(self, callback: Any) -> None:
        method = _WeakMethod(callback.__self__, self.callbacks.discard)
        method.function = callback.__func__
        self.callbacks.add(method)

    def dropped(self) -> None:
        """Call all callbacks if the loop is closed."""
        loop = self._loop()
        if loop is not None and not loop.is_closed():
            self._watch(loop)  # a program has cancelled all timers
            return
        while self.callbacks:
            method = self.callbacks.pop()
            thing = method()
            try:
                if thing is not None:
                    method.function(thing)
            except Exception as exc:  # the others must still be called
                sys.excepthook(type(exc), exc, exc.__traceback__)


class _Sentinel:
    """Calls `_Closing.dropped` when the timer is dropped that holds it."""

    __slots__ = ("_closing",)

    def __init__(self, closing: _Closing) -> None:
        self._closing = closing

    def __del__(self) -> None:
        self._closing.dropped()


def _park(sentinel: _Sentinel) -> None:
    loop = asyncio.get_running_loop()
    loop.call_later(_DAY, _park, sentinel, context=contextvars.Context())


_closings: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Closing] = (
    weakref.WeakKeyDictionary()
)


class AsyncioLoop:
    """A loop of asyncio or uvloop, with those of pyev's factory methods that a client uses.

    Each factory takes callback, data and priority as pyev's do: ``callback(watcher, revents)`` is called on
    the loop, data is kept as the watcher's `data`, and priority has no effect.

    Attributes:
        loop: the loop that was given or found.
        context: the context of which callbacks get copies.
        debug: let exceptions of the client's callbacks go to the loop's exception handler. Default: False.

    Args:
        loop: a loop of asyncio's interface. Default: the running one.

    Raises:
        RuntimeError: no loop was given, and none is running; or the loop has been closed.
        TypeError: what was given is no loop of asyncio's.
    """

    __slots__ = (
        "__weakref__", "_interrupted", "_is_uvloop", "_process", "context", "debug", "loop",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        if loop is None:
            loop = asyncio.get_running_loop()
        elif not isinstance(loop, asyncio.AbstractEventLoop):
            raise TypeError(f"loop must be a loop of asyncio, not {loop!r}")
        if loop.is_closed():
            raise RuntimeError(_CLOSED)
        self.loop = loop
        self.context = contextvars.copy_context()
        self.debug = False
        # An exception of a callback is about to end the run of the loop: no watcher is called before that.
        self._interrupted = False
        self._process = os.getpid()
        self._is_uvloop = type(loop).__module__.startswith("uvloop")

    @property
    def thread(self) -> int | None:
        """The thread that runs the loop; None: no thread does.

        It is this thread's number in the loop's own thread, and -1 in any other one.
        """
        try:
            if asyncio.get_running_loop() is self.loop:
                return threading.get_ident()
        except RuntimeError:  # none runs in this thread
            pass
        # In the child of a fork the copy of a running loop calls itself running.
        return -1 if self.loop.is_running() and self._process == os.getpid() else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self.loop!r}>"

    def _interrupt(self) -> None:
        """Call no watcher in the rest of this run, which KeyboardInterrupt or SystemExit is about to end.

        asyncio ends at once, but uvloop first makes all calls that are due. What these put off with call_soon
        is left for the next run.
        """
        if not self._interrupted:
            self._interrupted = True
            self.loop.call_soon(self.loop.call_soon, self._go_on)

    def _go_on(self) -> None:
        self._interrupted = False

    def at_close(self, callback: Callable[[], object]) -> None:
        """Call ``callback()``, a method, when the loop has been closed.

        The method's object is held weakly. Raises RuntimeError if the loop is closed already.
        """
        if self.loop.is_closed():
            raise RuntimeError(_CLOSED)
        closing = _closings.get(self.loop)
        if closing is None:
            closing = _closings[self.loop] = _Closing(self.loop)
        closing.add(callback)

    def update(self) -> None:
        """Do nothing: the loop reads the clock whenever a timer is started."""

    def now(self) -> float:
        """Return the loop's time, in seconds since some moment in the past."""
        return self.loop.time()

    def io(
        self,
        fd: int,
        events: int,
        callback: WatcherCallback,
        data: object = None,
        priority: int = 0,
    ) -> _Io:
        """Return a watcher of a descriptor, not yet started; events are EV_READ | EV_WRITE."""
        kind = _UvloopIo if self._is_uvloop else _Io
        return kind(self, fd, events, callback, data)

    def timer(
        self,
        after: float,
        repeat: float,
        callback: WatcherCallback,
        data: object = None,
        priority: int = 0,
    ) -> _Timer:
        """Return a timer, not yet started; after and repeat (0: once) are seconds."""
        return _Timer(self, after, repeat, callback, data)

    def prepare(
        self, callback: WatcherCallback, data: object = None, priority: int = 0
    ) -> _Watcher:
        """Return a watcher that is called, before the loop blocks, if it was fed. It can't be started."""
        return _Watcher(self, callback, data)

    def async_(self, callback: WatcherCallback, data: object = None, priority: int = 0) -> _Async:
        """Return a watcher, not yet started, whose `send` wakes the loop from any thread.

        ``getattr(loop, "async")`` is pyev's name of this method, which Python has made a keyword since.
        """
        return _Async(self, callback, data)


setattr(AsyncioLoop, "async", AsyncioLoop.async_)
