"""`GeventLoop`: the client on the libev loop of a gevent hub.

::

    nats = Nats(host="127.0.0.1", loop=GeventLoop())

Callbacks run in the hub's greenlet and must not block: a callback spawns a greenlet for work that does. A
client's error goes to the hub's `handle_error` if no on_error is set; KeyboardInterrupt and SystemExit are
raised in the main greenlet.

gevent has watchers of its own on the same libev. This adapter gives them the interface of pyev's watchers,
which a client uses: the callback is given at creation and called with (watcher, revents), where gevent's
watchers take any callback at `start`. Only the kinds of watchers that a client needs are offered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

WatcherCallback = Callable[[Any, int], object]


class _Watcher:
    """A watcher of gevent under pyev's interface. gevent's takes its callback at `start`, pyev's earlier."""

    def __init__(self, native: Any, callback: WatcherCallback, data: object) -> None:
        self._native = native
        self._callback = callback
        self.data = data

    def _call(self, revents: int = 0) -> None:
        self._callback(self, revents)

    def start(self) -> None:
        """Start the watcher. Does nothing if the watcher is active."""
        if not self._native.active:
            self._native.start(self._call)

    def stop(self) -> None:
        """Stop the watcher and discard a pending event."""
        self._native.stop()

    def feed(self, revents: int) -> None:
        """Let the loop call the callback as if the events in revents had happened."""
        self._native.feed(revents, self._call, revents)

    @property
    def active(self) -> bool:
        """Whether the watcher is started and not yet stopped."""
        return bool(self._native.active)

    @property
    def pending(self) -> bool:
        """Whether an event has happened for which the callback is still to be called."""
        return bool(self._native.pending)


class _Io(_Watcher):
    def start(self) -> None:
        """Start to watch the descriptor. Does nothing if the watcher is active."""
        if not self._native.active:
            self._native.start(self._call, pass_events=True)


class _Timer(_Watcher):
    def __init__(
        self, loop: Any, after: float, repeat: float, callback: WatcherCallback, data: object
    ) -> None:
        self._loop = loop
        super().__init__(loop.timer(after, repeat), callback, data)

    def set(self, after: float, repeat: float) -> None:
        """Set the times of a stopped timer, in seconds.

        Args:
            after: until the first call.
            repeat: between later calls; 0: none.
        """
        # gevent's times can't be changed: another timer takes the place of the old one.
        self._native.close()
        self._native = self._loop.timer(after, repeat)


class _Async(_Watcher):
    def send(self) -> None:
        """Wake the loop, so that it calls the callback. Any thread may do so."""
        self._native.send()


class GeventLoop:
    """The loop of a gevent hub, with pyev's factory methods for watchers.

    Each factory takes callback, data and priority as pyev's do: ``callback(watcher, revents)`` is called on
    the loop, data is kept as the watcher's `data`, and watchers of higher priority (-2 to 2) come first.

    Args:
        hub: a gevent hub. Default: this thread's.

    Raises:
        TypeError: gevent does not run on libev (see gevent's ``GEVENT_LOOP``).
    """

    debug = False

    def __init__(self, hub: Any = None) -> None:
        if hub is None:
            import gevent  # type: ignore[import-untyped]

            hub = gevent.get_hub()
        self._loop = hub.loop
        if "libev" not in type(self._loop).__module__:
            raise TypeError(f"gevent must run on libev, not on {type(self._loop).__module__}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._loop!r}>"

    def update(self) -> None:
        """Set the loop's time to the current time. Without it timers count from the last poll."""
        self._loop.update_now()

    def now(self) -> float:
        """Return the Unix time at which the loop began to handle the current events."""
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
        return _Io(self._loop.io(fd, events, True, priority), callback, data)

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
        return _Timer(self._loop, after, repeat, callback, data)

    def prepare(
        self, callback: WatcherCallback, data: object = None, priority: int = 0
    ) -> _Watcher:
        """Return a watcher, not yet started, that is called before the loop blocks."""
        return _Watcher(self._loop.prepare(True, priority), callback, data)

    def check(self, callback: WatcherCallback, data: object = None, priority: int = 0) -> _Watcher:
        """Return a watcher, not yet started, that is called when the loop has polled."""
        return _Watcher(self._loop.check(True, priority), callback, data)

    def idle(self, callback: WatcherCallback, data: object = None, priority: int = 0) -> _Watcher:
        """Return a watcher, not yet started, that is called when no other event is pending."""
        return _Watcher(self._loop.idle(True, priority), callback, data)

    def async_(self, callback: WatcherCallback, data: object = None, priority: int = 0) -> _Async:
        """Return a watcher, not yet started, whose `send` wakes the loop from any thread.

        ``getattr(loop, "async")`` is pyev's name of this method, which Python has made a keyword since.
        """
        return _Async(self._loop.async_(True, priority), callback, data)


setattr(GeventLoop, "async", GeventLoop.async_)
