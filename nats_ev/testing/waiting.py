"""Run a loop until a condition holds, or wait for what no loop announces; the time is always limited."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

Condition = Callable[[], Any]
State = Callable[[], object]

DEADLINE = 10_000  # milliseconds
_PAUSE = 0.01  # seconds between two looks at a condition that no event announces


# Those who run a loop now, by its id; the last one is the innermost.
_runs: dict[int, list[Any]] = {}


class ConditionError(AssertionError, TimeoutError):
    """A condition that has not come true: within its time, or before its loop has ended.

    Attributes:
        condition: the function that was asked.
    """

    def __init__(self, text: str, condition: Condition | None) -> None:
        super().__init__(text)
        self.condition = condition


def seconds(timeout: float | timedelta) -> float:
    """Return the seconds of a time in milliseconds, or of a timedelta."""
    return timeout.total_seconds() if isinstance(timeout, timedelta) else timeout / 1000


def described(condition: Condition | None) -> str:
    """Return what a condition is for a reader: its source if that is one line, and where it stands."""
    if condition is None:
        return "the loop to end"
    code = getattr(condition, "__code__", None)
    if code is None:
        return repr(condition)
    name = getattr(condition, "__qualname__", "")
    where = f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}"
    if name.endswith("<lambda>"):
        try:
            lines, _ = inspect.getsourcelines(condition)
        except (OSError, TypeError):
            lines = []
        return f"the condition at {where}" + (
            f": {' '.join(map(str.strip, lines))}" if lines else ""
        )
    return f"{name} ({where})"


def _failed(
    text: str, condition: Condition | None, what: str, state: State | None
) -> ConditionError:
    shown = f"; {state()}" if state is not None else ""
    return ConditionError(f"{text} {what or described(condition)}{shown}", condition)


def _late(
    timeout: float | timedelta, condition: Condition | None, what: str, state: State | None
) -> ConditionError:
    return _failed(f"waited {seconds(timeout):g} s for", condition, what, state)


def wait_for(
    condition: Condition,
    timeout: float | timedelta = 2 * DEADLINE,
    what: str = "",
    state: State | None = None,
) -> Any:
    """Ask again and again until condition() is true, and return its result; no loop runs meanwhile.

    Args:
        condition: asked every 10 ms.
        timeout: milliseconds, or a timedelta.
        what: names the condition in the error; default: its source.
        state: what the error shows besides.

    Raises:
        ConditionError: the time is over. It is an AssertionError and a TimeoutError.
    """
    deadline = time.monotonic() + seconds(timeout)
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise _late(timeout, condition, what, state)
        time.sleep(_PAUSE)


async def until(
    condition: Condition,
    timeout: float | timedelta = DEADLINE,
    what: str = "",
    state: State | None = None,
) -> Any:
    """Let the running loop of asyncio go on until condition() is true, and return its result.

    Args:
        condition: asked every 10 ms.
        timeout: milliseconds, or a timedelta.
        what: names the condition in the error; default: its source.
        state: what the error shows besides.

    Raises:
        ConditionError: the time is over. It is an AssertionError and a TimeoutError.
    """
    deadline = time.monotonic() + seconds(timeout)
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise _late(timeout, condition, what, state)
        await asyncio.sleep(_PAUSE)
    return result


def run_until(
    loop: Any,
    condition: Condition | None,
    timeout: float | timedelta = DEADLINE,
    what: str = "",
    state: State | None = None,
) -> Any:
    """Run a loop until condition() is true, and return its result.

    Args:
        loop: of `nats_ev.pyev`, of a genuine pyev, an `AsyncioLoop`, a loop of asyncio or uvloop, or a
            `GeventLoop`, for which the calling greenlet waits. A loop of libev may run already.
        condition: asked after each iteration, at least every 10 ms. Its exceptions are raised here.
            None: until nothing keeps the loop running; for loops of libev only.
        timeout: milliseconds, or a timedelta.
        what: names the condition in the error; default: its source.
        state: what the error shows besides.

    Raises:
        ConditionError: the time is over, or the loop has ended before. It is an AssertionError and a
            TimeoutError.
        RuntimeError: a loop of asyncio runs already: ``await until(condition)``.
    """
    if hasattr(loop, "start"):
        return _run_watched(loop, condition, timeout, what, state)
    if condition is None:
        raise TypeError("only a loop of libev ends by itself: a condition is needed")
    own = getattr(loop, "loop", loop)  # that of an AsyncioLoop
    if isinstance(own, asyncio.AbstractEventLoop):
        if own.is_running():
            raise RuntimeError("the loop runs already: await nats_ev.testing.until(condition)")
        return own.run_until_complete(until(condition, timeout, what, state))
    module = sys.modules.get("nats_ev.gevent_loop")
    if module is None or not isinstance(loop, module.GeventLoop):
        raise TypeError(f"run_until does not know how to run {loop!r}")
    return _wait_green(condition, timeout, what, state)


def _wait_green(
    condition: Condition, timeout: float | timedelta, what: str, state: State | None
) -> Any:
    gevent = importlib.import_module("gevent")

    deadline = time.monotonic() + seconds(timeout)
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise _late(timeout, condition, what, state)
        gevent.sleep(_PAUSE)
    return result


class _Unreferenced:
    """A watcher that does not keep its loop running."""

    def __init__(self, loop: Any, watcher: Any) -> None:
        self._loop = loop
        self._watcher = watcher

    def start(self) -> None:
        self._watcher.start()
        self._loop.unref()

    def stop(self) -> None:
        self._loop.ref()
        self._watcher.stop()


def _background(loop: Any, callback: Callable[[Any, int], object]) -> Iterable[Any]:
    """Return watchers, not yet started, that don't keep a loop running: after each poll, and every 10 ms.

    A loop may have a method of this name that returns them.
    """
    if hasattr(loop, "background"):
        return list(loop.background(callback))
    return [
        _Unreferenced(loop, loop.check(callback)),
        _Unreferenced(loop, loop.timer(_PAUSE, _PAUSE, callback)),
    ]


def _run_watched(
    loop: Any,
    condition: Condition | None,
    timeout: float | timedelta,
    what: str,
    state: State | None,
) -> Any:
    """Run a loop that has `start` and `stop`."""
    met: list[Any] = []  # what other callbacks of that turn make of it does not matter
    late: list[bool] = []
    failed: list[BaseException] = []
    this_run = object()  # not `check` itself: a cycle would keep what the condition refers to

    def look() -> bool:
        """Return whether the run is over."""
        if met or failed or late:
            return True
        try:
            result = condition() if condition is not None else None
        except BaseException as exc:
            failed.append(exc)
            return True
        if result:
            met.append(result)
        elif time.monotonic() > deadline:
            late.append(True)
        return bool(met or late)

    def check(watcher: Any, revents: int) -> None:
        # What stops the loop ends the innermost run, which a callback of this one may have begun.
        if look() and runs[-1] is this_run:
            loop.stop()

    if condition is not None and (result := condition()):
        return result
    deadline = time.monotonic() + seconds(timeout)
    # Both: a condition that a callback makes true is seen at once, and the deadline anyway.
    watchers = _background(loop, check)
    for watcher in watchers:
        watcher.start()
    runs = _runs.setdefault(id(loop), [])
    runs.append(this_run)
    try:
        loop.start()
    finally:
        runs.pop()
        if not runs:
            del _runs[id(loop)]
        for watcher in watchers:
            watcher.stop()
    if failed:
        raise failed[0]
    if not met and not late and condition is not None and (result := condition()):
        return result  # the last callback has made it true
    if late:
        raise _late(timeout, condition, what, state)
    if condition is not None and not met:
        raise _failed("the loop has ended, or was stopped, before", condition, what, state)
    return met[0] if met else None
