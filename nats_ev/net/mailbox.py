"""Calls that other threads, and signal handlers, hand to the loop of a client.

`call` may interrupt anything, also itself, at any bytecode: a signal handler runs in the thread of the loop.
So there is no lock. A call is appended first and looked at afterwards: if the mailbox is closed by then,
either `close` has taken the call, which will be made, or the call is taken back and refused. What is appended
and removed is one object that is equal to no other, and each step is a single operation of a deque.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from .. import errors
from ..loops import Loop, make_async
from .refs import Refs
from .turn import Turn


class Mailbox:
    """The calls from outside the loop's thread, in their order."""

    def __init__(self, loop: Loop, turn: Turn, refs: Refs) -> None:
        self._turn = turn
        self._refs = refs
        self._calls: deque[Callable[[], object]] = deque()
        self._open = False
        self._listening = False
        self._wake = make_async(loop, self._on_wake)

    def open(self) -> None:
        """Accept calls from now on.

        If the process has no descriptor left to wake the loop with, calls wait for the next `open`.
        """
        self._open = True
        try:
            self._refs.start(self._wake)
        except Exception:
            return
        self._listening = True
        if self._calls:
            self._send()

    def close(self) -> None:
        """Accept no calls any more. Those that were accepted are made at the end of this turn."""
        self._stop()
        self._take()

    def forget(self) -> None:
        """Accept no calls any more, and make none: the process ends, or is the child of a fork."""
        self._stop()
        self._calls.clear()

    def _stop(self) -> None:
        self._open = self._listening = False
        self._refs.stop(self._wake)

    def call(self, cb: Callable[..., object], args: tuple[object, ...]) -> None:
        """Let the loop call ``cb(*args)``. Any thread may do so, and any signal handler.

        Raises `NotConnectedError` if the mailbox is closed.
        """
        entry = partial(cb, *args)
        self._calls.append(entry)
        if self._open:
            self._send()
            return
        try:
            self._calls.remove(entry)
        except ValueError:
            return  # `close` has taken it
        raise errors.NotConnectedError

    def _on_wake(self, watcher: Any, revents: int) -> None:
        self._take()

    def _take(self) -> None:
        # Not for as long as there are calls: a thread may be faster than this loop.
        for _ in range(len(self._calls)):
            try:
                call = self._calls.popleft()
            except IndexError:  # `call` has taken one back
                return
            self._turn.soon_after(call)
        if self._calls:
            self._send()

    def _send(self) -> None:
        if self._listening:
            self._wake.send()
