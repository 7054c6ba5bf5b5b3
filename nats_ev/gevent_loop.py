"""`GeventLoop`: the client on the libev loop of a gevent hub.

::

    nats = Nats(host="127.0.0.1", loop=GeventLoop())

Callbacks run in the hub's greenlet: they must not block, and spawn a greenlet for what does. An
error of the client's without an on_error goes to the hub's `handle_error`; KeyboardInterrupt and SystemExit
are raised in the main greenlet. Offers of pyev's interface what a client needs, positionally as pyev does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

WatcherCallback = Callable[[Any, int], object]


class _Watcher:
    """What the watchers have in common: gevent's own takes its callback when it is started."""

    def __init__(self, native: Any, callback: WatcherCallback, data: object) -> None:
        self._native = native
        self._callback = callback
        self.data = data

    def _call(self, revents: int = 0) -> None:
        self._callback(self, revents)

    def start(self) -> None:
        """Begin to watch; nothing happens if it already does."""
        if not self._native.active:
            self._native.start(self._call)

    def stop(self) -> None:
        """Stop watching and forget a pending event."""
        self._native.stop()

    def feed(self, revents: int) -> None:
        """Make the loop call back as if revents had happened."""
        self._native.feed(revents, self._call, revents)

    @property
    def active(self) -> bool:
        """From `start` to `stop`."""
        return bool(self._native.active)

    @property
    def pending(self) -> bool:
        """An event waits for the callback."""
        return bool(self._native.pending)


class _Io(_Watcher):
    def start(self) -> None:
        """Begin to watch the descriptor."""
        if not self._native.active:
            self._native.start(self._call, pass_events=True)


class _Timer(_Watcher):
    def __init__(
        self, loop: Any, after: float, repeat: float, callback: WatcherCallback, data: object
    ) -> None:
        self._loop = loop
        super().__init__(loop.timer(after, repeat), callback, data)

    def set(self, after: float, repeat: float) -> None:
        """Set both times, in seconds, of a stopped timer. gevent's own can't be changed."""
        self._native.close()
        self._native = self._loop.timer(after, repeat)


class _Async(_Watcher):
    def send(self) -> None:
        """Wake the loop, from any thread."""
        self._native.send()


class GeventLoop:
    """The loop of a gevent hub (default: this thread's) with pyev's factory methods.

    Raises TypeError when gevent does not run on libev (see gevent's ``GEVENT_LOOP``).
    """

    debug = False

    def __init__(self, hub: Any = None) -> None:
        if hub is None:
            import gevent  # type: ignore[import-untyped]

            hub = gevent.get_hub()
        self._loop = hub.loop
        if "libev" not in type(self._loop).__module__:
            raise TypeError(f"gevent must run on libev, not on {type(self._loop).__module__}")

    def update(self) -> None:
        """Bring the loop's time up to date."""
        self._loop.update_now()

    def now(self) -> float:
        """Unix time at which the loop began to handle the current events."""
        return float(self._loop.now())

    def io(
        self,
        fd: int,
        events: int,
        callback: WatcherCallback,
        data: object = None,
        priority: int = 0,
    ) -> _Io:
        """A watcher of a descriptor."""
        return _Io(self._loop.io(fd, events, True, priority), callback, data)

    def timer(
        self,
        after: float,
        repeat: float,
        callback: WatcherCallback,
        data: object = None,
        priority: int = 0,
    ) -> _Timer:
        """A timer, in seconds."""
        return _Timer(self._loop, after, repeat, callback, data)

    def prepare(
        self, callback: WatcherCallback, data: object = None, priority: int = 0
    ) -> _Watcher:
        """Called before the loop blocks."""
        return _Watcher(self._loop.prepare(True, priority), callback, data)

    def check(self, callback: WatcherCallback, data: object = None, priority: int = 0) -> _Watcher:
        """Called when the loop has polled."""
        return _Watcher(self._loop.check(True, priority), callback, data)

    def idle(self, callback: WatcherCallback, data: object = None, priority: int = 0) -> _Watcher:
        """Called when there is nothing else to do."""
        return _Watcher(self._loop.idle(True, priority), callback, data)

    def async_(self, callback: WatcherCallback, data: object = None, priority: int = 0) -> _Async:
        """What other threads can wake; pyev's name for it, ``async``, works with getattr."""
        return _Async(self._loop.async_(True, priority), callback, data)


setattr(GeventLoop, "async", GeventLoop.async_)
