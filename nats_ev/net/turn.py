"""The end of a loop turn: what has been put off for it, then one flush.

One Prepare watcher at the lowest priority that is never started, only fed. libev runs fed events in
the phase in which they are fed, after all that have a higher priority: whatever a watcher of any
kind publishes leaves before the loop blocks, and a turn without work costs nothing.
The only place that calls user callbacks outside message dispatch, and that decides what their
exceptions do.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

# From libev's ev.h; the numbers are its ABI. Taken from here so that no binding needs to be imported.
EV_MINPRI = -2
EV_CUSTOM = 0x01000000


class Turn:
    """Puts things off to the end of the loop's turn, in order."""

    __slots__ = ("_feed", "_loop", "_prepare", "_soon", "_unhandled", "after", "before", "need")

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._soon: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._unhandled: deque[BaseException] = deque()
        self._prepare = loop.prepare(self._on_prepare, None, EV_MINPRI)
        self._feed = self._prepare.feed
        # See to it that this turn's end comes here.
        self.need = partial(self._feed, EV_CUSTOM)
        self.release()

    def hold(self, before: Callable[[], None], after: Callable[[], None]) -> None:
        """What is to be done at the end of each turn: before what was put off, and after it."""
        self.before = before
        self.after = after

    def release(self) -> None:
        """Undo `hold`."""
        self.hold(_nothing, _nothing)

    def soon(self, callback: Callable[..., object], *args: object) -> None:
        """Call it at the end of this turn, or of the next one when the loop does not run."""
        self._soon.append((callback, args))
        self._feed(EV_CUSTOM)

    def run_soon(self) -> None:
        """Call now what was put off: for watcher callbacks in which order matters."""
        soon = self._soon
        while soon:
            callback, args = soon.popleft()
            try:
                callback(*args)
            except BaseException as exc:
                self.failed(exc)

    def call(self, callback: Callable[..., object], *args: object) -> None:
        """Call a user's callback; see `failed`."""
        try:
            callback(*args)
        except BaseException as exc:
            self.failed(exc)

    def failed(self, exc: BaseException) -> None:
        """A callback raised: report it and go on, or, when it must stop the loop, pass it on.

        What is left of this turn then stays pending for the loop's next run.
        """
        if isinstance(exc, Exception) and not getattr(self._loop, "debug", False):
            sys.excepthook(type(exc), exc, exc.__traceback__)
            return
        self._feed(EV_CUSTOM)
        raise exc

    def throw(self, error: BaseException) -> None:
        """Raise error out of this turn's watcher callback, when all else is settled."""
        self._unhandled.append(error)
        self._feed(EV_CUSTOM)

    def _on_prepare(self, watcher: Any, revents: int) -> None:
        self.before()
        if self._soon:
            self.run_soon()
        self.after()
        if self._unhandled:
            error = self._unhandled.popleft()
            if self._unhandled:
                self._feed(EV_CUSTOM)
            raise error


def _nothing() -> None:
    pass
