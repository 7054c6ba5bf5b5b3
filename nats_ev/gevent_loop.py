"""`GeventLoop`: the client on the loop of a gevent hub, libev or libuv, monkey-patched or not.

::

    nats = Nats(host="127.0.0.1", loop=GeventLoop())

Callbacks run in the hub's greenlet and must not block: a callback spawns a greenlet for work that does. A
client's error goes to the hub's `handle_error` if no on_error is set; KeyboardInterrupt and SystemExit are
raised in the main greenlet.

gevent has watchers of its own. This adapter gives them the interface of pyev's watchers, which a client
uses. Where the two differ:

- pyev's watchers take the callback at creation, and call it with (watcher, revents).
- gevent's libuv must be told when a watcher is no longer needed. So gevent's watcher lives from `start` to
  `stop` only.
- Not every loop of gevent can feed a watcher. `feed` uses the hub's `run_callback`: what it calls runs
  before the loop blocks, whatever loop that is.
- gevent stops an I/O watcher whose callback has raised, and the client would never read again. So no
  exception leaves a callback; the adapter calls the hub's `handle_error` itself.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

EV_READ, EV_WRITE = 1, 2
_DESTROYED = "the hub of this GeventLoop has been destroyed, and its loop, too"

WatcherCallback = Callable[[Any, int], object]


class _Watcher:
    """A watcher of gevent under pyev's interface; `make` returns gevent's watcher."""

    __slots__ = ("__weakref__", "_callback", "_fed", "_loop", "_make", "_native", "_ref", "data")
    # Whether gevent calls the callback with the events.
    _passes_events = False

    def __init__(
        self, loop: Any, make: Callable[[], Any], callback: WatcherCallback, data: object
    ) -> None:
        self._loop = loop
        self._make = make
        self._callback = callback
        self.data = data
        self._native: Any = None
        self._fed: Any = None
        self._ref = True

    def _call(self, revents: int = 0) -> None:
        try:
            self._callback(self, revents)
        except BaseException:
            self._loop.handle_error(self, *sys.exc_info())

    def _call_fed(self, revents: int) -> None:
        self._fed = None
        self._call(revents)

    def start(self) -> None:
        """Start the watcher. Does nothing if the watcher is active."""
        if self.active:
            return
        if not self._loop.ptr:
            raise RuntimeError(_DESTROYED)
        self._close()
        self._native = self._make()
        if not self._ref:
            self._apply_ref()
        if self._passes_events:
            self._native.start(self._call, pass_events=True)
        else:
            self._native.start(self._call)

    def stop(self) -> None:
        """Stop the watcher and discard a pending event."""
        if self._fed is not None:
            self._fed.stop()
            self._fed = None
        self._close()

    def _close(self) -> None:
        native, self._native = self._native, None
        if native is not None and self._loop.ptr:
            native.stop()
            native.close()

    def feed(self, revents: int) -> None:
        """Let the loop call the callback as if the events in revents had happened."""
        if self._fed is None and self._loop.ptr:
            self._fed = self._loop.run_callback(self._call_fed, revents)

    @property
    def ref(self) -> bool:
        """Whether the watcher keeps the loop running while it is active. May be set at any time."""
        return self._ref

    @ref.setter
    def ref(self, ref: bool) -> None:
        self._ref = ref
        if self._native is not None and self._loop.ptr:
            self._apply_ref()

    def _apply_ref(self) -> None:
        # On libuv all watchers of a descriptor share one, and the attribute of each does nothing.
        shared = getattr(self._native, "_watcher_ref", None)
        (self._native if shared is None else shared).ref = self._ref

    @property
    def active(self) -> bool:
        """Whether the watcher is started and not yet stopped."""
        return self._native is not None and bool(self._loop.ptr and self._native.active)

    @property
    def pending(self) -> bool:
        """Whether an event has happened for which the callback is still to be called."""
        return self._fed is not None or bool(self._native is not None and self._native.pending)


class _Io(_Watcher):
    __slots__ = ()
    _passes_events = True

    def _call(self, revents: int = 0) -> None:
        if revents >= 0:
            super()._call(revents)
            return
        # libuv gives a code in place of the events when the descriptor has an error, and has stopped watching
        # it. But there may be more to read than the callback reads now.
        native = self._native
        super()._call(EV_READ | EV_WRITE)
        if native is not None and native is self._native and self._loop.ptr:
            native.stop()
            native.start(self._call, pass_events=True)

    @property
    def pending(self) -> bool:
        """Whether an event has been fed for which the callback is still to be called."""
        return self._fed is not None


class _Timer(_Watcher):
    __slots__ = ("_new",)

    def __init__(
        self,
        loop: Any,
        new: Callable[[float, float], Any],
        times: tuple[float, float],
        callback: WatcherCallback,
        data: object,
    ) -> None:
        super().__init__(loop, lambda: new(*times), callback, data)
        self._new = new

    def set(self, after: float, repeat: float) -> None:
        """Set the times of a stopped timer, in seconds.

        Args:
            after: until the first call.
            repeat: between later calls; 0: none.
        """
        new = self._new
        self._make = lambda: new(after, repeat)


class _Async(_Watcher):
    """A watcher for other threads. gevent's own watcher only keeps the loop alive.

    A thread may call `send` at the moment at which the loop's thread stops the watcher: what `send` uses
    belongs to the loop and outlives all watchers.
    """

    __slots__ = ("_sent",)

    def __init__(
        self, loop: Any, make: Callable[[], Any], callback: WatcherCallback, data: object
    ) -> None:
        super().__init__(loop, make, callback, data)
        self._sent = False

    def send(self) -> None:
        """Wake the loop, so that it calls the callback. Any thread may do so, and any signal handler."""
        # The loop may make the call before `run_callback_threadsafe` returns: its result would come too late.
        if self.active and not self._sent:
            self._sent = True
            self._loop.run_callback_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._sent:
            self._sent = False
            self._call(0)

    def stop(self) -> None:
        """Stop the watcher and discard a pending event."""
        super().stop()
        self._sent = False

    @property
    def pending(self) -> bool:
        """Whether `send` was called and the callback is still to be called."""
        return self._sent or self._fed is not None

    @property
    def active(self) -> bool:
        """Whether the watcher is started and not yet stopped."""
        return self._native is not None and bool(self._loop.ptr)


class _WeakMethod(weakref.ref[Any]):
    """A method whose object may go. `weakref.WeakMethod` fails when the interpreter ends."""

    __slots__ = ("function",)
    __eq__ = object.__eq__
    __hash__ = object.__hash__
    function: Callable[[Any], object]


class _Destroy:
    """The method `destroy` of a hub that has, or had, a client: it ends the clients first.

    gevent tells nobody that it destroys a hub, so this object, an attribute of the hub, takes the place of
    the method. The clients end before the loop is destroyed, not after: gevent's libuv never comes back from
    destroying a loop that watches a descriptor.
    """

    __slots__ = ("_hub", "methods")

    def __init__(self, hub: Any) -> None:
        self._hub = weakref.ref(hub)
        self.methods: set[_WeakMethod] = set()

    def __call__(self, destroy_loop: bool | None = None) -> None:
        hub = self._hub()
        if hub is None:
            return
        if destroy_loop or (destroy_loop is None and hub.loop is not None and not hub.loop.default):
            self._tell()
        type(hub).destroy(hub, destroy_loop)

    def _tell(self) -> None:
        while self.methods:
            method = self.methods.pop()
            thing = method()
            try:
                if thing is not None:
                    method.function(thing)
            except Exception as exc:  # the others must still be called
                sys.excepthook(type(exc), exc, exc.__traceback__)


class GeventLoop:
    """The loop of a gevent hub, with pyev's factory methods for watchers.

    Each factory takes callback, data and priority as pyev's do: ``callback(watcher, revents)`` is called on
    the loop, data is kept as the watcher's `data`, and watchers of higher priority (-2 to 2) come first.
    libuv has no priorities, and rounds times to milliseconds.

    When a hub is destroyed together with its loop, ``hub.destroy(destroy_loop=True)``, its clients end first:
    their sockets are closed, and they refuse calls. On a loop that has been destroyed nothing is called any
    more, `stop` does nothing, and `start` raises RuntimeError.

    Args:
        hub: a gevent hub. Default: this thread's.

    Raises:
        TypeError: what was given has no loop of gevent.
    """

    debug = False

    def __init__(self, hub: Any = None) -> None:
        import gevent.monkey  # type: ignore[import-untyped]

        if hub is None:
            hub = gevent.get_hub()
        loop = getattr(hub, "loop", None)
        if not hasattr(loop, "run_callback_threadsafe") or not hasattr(loop, "ptr"):
            raise TypeError(f"hub must be a gevent hub (gevent 20.9 or later), not {hub!r}")
        self._loop: Any = loop
        self._hub_ref = weakref.ref(hub)
        self._is_libuv = "libuv" in type(loop).__module__
        self._thread: int | None = hub.thread_ident
        self._get_ident = gevent.monkey.get_original("_thread", "get_ident")

    @property
    def thread(self) -> int | None:
        """The thread of the hub, for a caller in another thread; None in the hub's own thread.

        So comparing with `get_ident` answers right, also where gevent has patched that function to tell
        greenlets apart.
        """
        return None if self._get_ident() == self._thread else self._thread

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._loop!r}>"

    def at_close(self, callback: Callable[[], object]) -> None:
        """Call ``callback()``, a method, when the hub's `destroy` is called and destroys the loop, too.

        The method's object is held weakly. Raises RuntimeError if the loop is destroyed already.
        """
        hub = self._hub_ref()
        if hub is None or not self._loop.ptr:
            raise RuntimeError(_DESTROYED)
        destroy = hub.__dict__.get("destroy")
        if not isinstance(destroy, _Destroy):
            destroy = hub.destroy = _Destroy(hub)
        methods = destroy.methods
        method = _WeakMethod(callback.__self__, methods.discard)  # type: ignore[attr-defined]
        method.function = callback.__func__  # type: ignore[attr-defined]
        methods.add(method)

    def update(self) -> None:
        """Set the loop's time to the current time. Without it timers count from the last poll."""
        if self._loop.ptr:
            self._loop.update_now()

    def now(self) -> float:
        """Return the time at which the loop began to handle the current events, in seconds.

        On libev this is Unix time, on libuv the time since some moment in the past.
        """
        return float(self._loop.now())

    def io(
        self,
        fd: int,
        events: int,
        callback: WatcherCallback,
        data: object = None,
        priority: int = 0,
    ) -> _Io:
        """Return a watcher of a descriptor, not yet started; events are EV_READ | EV_WRITE."""
        loop = self._loop
        return _Io(loop, lambda: loop.io(fd, events, True, priority), callback, data)

    def timer(
        self,
        after: float,
        repeat: float,
        callback: WatcherCallback,
        data: object = None,
        priority: int = 0,
    ) -> _Timer:
        """Return a timer, not yet started; after and repeat (0: once) are seconds.

        priority is there for pyev's sake and has no effect.
        """
        return _Timer(self._loop, self._new_timer, (after, repeat), callback, data)

    def _new_timer(self, after: float, repeat: float) -> Any:
        if self._is_libuv:  # warns of a time that is less than its millisecond
            after, repeat = (max(t, 0.001) if t > 0 else 0.0 for t in (after, repeat))
        return self._loop.timer(after, repeat)

    def prepare(
        self, callback: WatcherCallback, data: object = None, priority: int = 0
    ) -> _Watcher:
        """Return a watcher, not yet started, that is called before the loop blocks.

        With libuv it can be fed, as the client does, and `start` raises gevent's TypeError.
        """
        loop = self._loop
        return _Watcher(loop, lambda: loop.prepare(True, priority), callback, data)

    def check(self, callback: WatcherCallback, data: object = None, priority: int = 0) -> _Watcher:
        """Return a watcher, not yet started, that is called when the loop has polled."""
        loop = self._loop
        return _Watcher(loop, lambda: loop.check(True, priority), callback, data)

    def idle(self, callback: WatcherCallback, data: object = None, priority: int = 0) -> _Watcher:
        """Return a watcher, not yet started, that is called when no other event is pending."""
        loop = self._loop
        return _Watcher(loop, lambda: loop.idle(True, priority), callback, data)

    def async_(self, callback: WatcherCallback, data: object = None, priority: int = 0) -> _Async:
        """Return a watcher, not yet started, whose `send` wakes the loop from any thread.

        ``getattr(loop, "async")`` is pyev's name of this method, which Python has made a keyword since.
        """
        loop = self._loop
        return _Async(loop, lambda: loop.async_(True, priority), callback, data)


setattr(GeventLoop, "async", GeventLoop.async_)
