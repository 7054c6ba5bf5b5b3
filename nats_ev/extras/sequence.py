"""Operations of several requests, written from top to bottom.

A generator yields ``(method, *arguments)``; `Sequence` calls ``method(*arguments, cb)`` and resumes the
generator with the result, or throws the error into it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from ..arguments import Callback
from ..errors import ConnectionClosedError, NatsError
from ..steps import later_step

if TYPE_CHECKING:
    from ..client import Nats

T = TypeVar("T")
Steps = Generator[tuple[Any, ...], Any, T]


class Sequence:
    """A running operation: the steps of a generator, then ``cb(result, err)`` once.

    What the first step raises, `start` raises. Later steps are accepted by a client that drains.
    """

    __slots__ = ("_cb", "_running", "_steps", "ended")

    def __init__(self, steps: Steps[Any], cb: Callback) -> None:
        self._steps = steps
        self._cb = cb
        self._running = False  # the generator, which may call what stops it
        self.ended = False

    def start(self) -> Sequence:
        """Take the first step."""
        method, *args = next(self._steps)
        method(*args, self._answered)
        return self

    def run(self) -> None:
        """Take the first step; what it raises is thrown into the generator."""
        self._go_on(self._steps.send, None)

    def stop(self) -> None:
        """Take no further step, and call nothing."""
        self.ended = True
        if not self._running:
            self._steps.close()

    def _answered(self, result: Any, error: NatsError | None) -> None:
        if self.ended:
            return
        if error is not None:
            self._go_on(self._steps.throw, error)
        else:
            self._go_on(self._steps.send, result)

    def _go_on(self, resume: Callable[[Any], tuple[Any, ...]], value: Any) -> None:
        while True:
            self._running = True
            try:
                method, *args = resume(value)
            except StopIteration as end:
                self._end(end.value, None)
                return
            except NatsError as exc:
                self._end(None, exc)
                return
            finally:
                self._running = False
            if self.ended:
                self._steps.close()
                return
            try:
                later_step(method, *args, self._answered)
                return
            except NatsError as exc:
                resume, value = self._steps.throw, exc

    def _end(self, result: Any, error: NatsError | None) -> None:
        if not self.ended:
            self.ended = True
            self._cb(result, error)


def pause(nats: Nats, ms: float, cb: Callback) -> None:
    """Call ``cb(None, None)`` after a while, or with an error when the client ends before."""
    closed = ConnectionClosedError("disconnected")
    nats.call_later(ms, cb, None, None, ended=lambda: cb(None, closed), step=True)
