"""The client on a loop that treats exceptions as a genuine pyev does in debug mode.

A genuine pyev then breaks the loop, but delivers all events that are pending, and those fed meanwhile,
before `start` returns; it calls them while the exception is set, so that each of these calls fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nats_ev import pyev

Callback = Callable[[Any, int], object]


class Genuine:
    """A loop of ours behind the factories and the debug mode of a genuine pyev."""

    debug = True

    def __init__(self, loop: pyev.Loop) -> None:
        self._loop = loop
        self._error: BaseException | None = None
        self.called_with_the_error_set = 0
        self.update = loop.update

    def _guarded(self, callback: Callback) -> Callback:
        def call(watcher: Any, revents: int) -> None:
            if self._error is not None:
                self.called_with_the_error_set += 1
                return
            try:
                callback(watcher, revents)
            except BaseException as exc:
                self._error = exc
                self._loop.stop(pyev.EVBREAK_ALL)

        return call

    def io(self, fd: int, events: int, callback: Callback, *more: Any) -> Any:
        return self._loop.io(fd, events, self._guarded(callback), *more)

    def timer(self, after: float, repeat: float, callback: Callback, *more: Any) -> Any:
        return self._loop.timer(after, repeat, self._guarded(callback), *more)

    def prepare(self, callback: Callback, *more: Any) -> Any:
        return self._loop.prepare(self._guarded(callback), *more)

    def async_(self, callback: Callback, *more: Any) -> Any:
        return self._loop.async_(self._guarded(callback), *more)

    def start(self, flags: int = 0) -> None:
        self._error = None
        self._loop.start(flags)
        if self._error is not None:
            raise self._error


setattr(Genuine, "async", Genuine.async_)


@pytest.fixture
def genuine(loop: pyev.Loop) -> Genuine:
    return Genuine(loop)


def test_an_exception_comes_out_of_start_and_the_rest_of_the_messages_follows(
    genuine, client, server
):
    got: list[bytes] = []

    def on_message(subject: str, payload: bytes, reply: str, headers: bytes) -> None:
        got.append(payload)
        if payload in (b"2", b"5"):
            raise ZeroDivisionError(payload)
        if len(got) == 10:
            genuine._loop.stop()

    nats = client(server, loop=genuine)
    nats.subscribe("genuine", on_message)
    nats.batch(lambda: [nats.publish("genuine", b"%d" % number) for number in range(10)])
    for number in (2, 5):
        with pytest.raises(ZeroDivisionError, match=str(number)):
            genuine.start()
        assert got[-1] == b"%d" % number
    genuine.start()
    assert got == [b"%d" % number for number in range(10)]
    assert genuine.called_with_the_error_set == 0


def test_completions_that_raise_come_out_one_by_one(genuine, client, server):
    nats = client(server, loop=genuine)
    for number in range(3):
        nats.flush(lambda err, number=number: 1 / 0 if number < 2 else genuine._loop.stop())
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            genuine.start()
    genuine.start()
    assert genuine.called_with_the_error_set == 0
