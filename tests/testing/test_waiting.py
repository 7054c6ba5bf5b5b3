"""`run_until`, `until` and `wait_for`: they end in time, and say what has not come."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from nats_ev import pyev
from nats_ev.asyncio_loop import AsyncioLoop
from nats_ev.testing import ConditionError, run_until, until, wait_for

KINDS = ["pyev", "asyncio", "raw asyncio", "gevent"]


@pytest.fixture(params=KINDS)
def any_loop(request: pytest.FixtureRequest) -> Any:
    """A loop of each kind."""
    if request.param == "pyev":
        yield pyev.Loop()
    elif request.param == "gevent":
        pytest.importorskip("gevent")
        from nats_ev.gevent_loop import GeventLoop

        yield GeventLoop()
    else:
        own = asyncio.new_event_loop()
        yield own if request.param == "raw asyncio" else AsyncioLoop(own)
        own.close()


def test_it_returns_what_the_condition_returns(any_loop: Any) -> None:
    began = time.monotonic()
    ends = began + 0.05
    watcher = getattr(any_loop, "timer", None)
    if watcher is not None:  # something keeps the loop running
        watcher = watcher(0.01, 0.01, lambda watcher, revents: None)
        watcher.start()
    assert run_until(any_loop, lambda: time.monotonic() > ends and "there") == "there"
    assert run_until(any_loop, lambda: [1]) == [1]
    if watcher is not None:
        watcher.stop()


def test_at_the_deadline_it_says_which_condition(any_loop: Any) -> None:
    watcher = getattr(any_loop, "timer", None)
    if watcher is not None:
        watcher = watcher(0.01, 0.01, lambda watcher, revents: None)
        watcher.start()
    got: list[int] = []
    with pytest.raises(ConditionError) as info:
        run_until(any_loop, lambda: len(got) == 7, 30, state=lambda: f"got {got}")
    text = str(info.value)
    assert text.startswith("waited 0.03 s for the condition at test_waiting.py:")
    assert "len(got) == 7" in text
    assert text.endswith("; got []")
    assert isinstance(info.value, AssertionError)
    assert isinstance(info.value, TimeoutError)
    if watcher is not None:
        watcher.stop()


def test_an_exception_of_the_condition_comes_out(any_loop: Any) -> None:
    calls: list[int] = []

    def condition() -> bool:
        calls.append(1)
        if len(calls) > 1:
            raise KeyError("x")
        return False

    watcher = getattr(any_loop, "timer", None)
    if watcher is not None:
        watcher = watcher(0.01, 0.01, lambda watcher, revents: None)
        watcher.start()
    with pytest.raises(KeyError):
        run_until(any_loop, condition)
    if watcher is not None:
        watcher.stop()


def test_a_loop_that_ends_before_is_an_error_at_once() -> None:
    loop = pyev.Loop()
    began = time.monotonic()
    with pytest.raises(
        ConditionError, match="the loop has ended, or was stopped, before the answer"
    ):
        run_until(loop, lambda: False, 60_000, what="the answer")
    assert time.monotonic() - began < 30
    assert run_until(loop, None) is None


def test_the_last_callback_of_a_loop_makes_it_true() -> None:
    loop, seen = pyev.Loop(), []
    loop.timer(0.01, 0.0, lambda watcher, revents: seen.append(1)).start()
    assert run_until(loop, lambda: seen) == [1]


def test_it_runs_inside_a_callback_of_the_same_loop() -> None:
    loop, seen = pyev.Loop(), []

    def outer(watcher: Any, revents: int) -> None:
        loop.timer(0.01, 0.0, lambda watcher, revents: seen.append("inner")).start()
        run_until(loop, lambda: seen)
        seen.append("outer")

    loop.timer(0.0, 0.0, outer).start()
    run_until(loop, lambda: len(seen) == 2)
    assert seen == ["inner", "outer"]


def test_a_run_inside_a_callback_does_not_keep_the_outer_one_from_ending() -> None:
    loop, seen = pyev.Loop(), []

    def inner(watcher: Any, revents: int) -> None:
        seen.append("inner")
        seen.append("outer")  # both conditions come true in the same iteration

    def outer(watcher: Any, revents: int) -> None:
        loop.timer(0.01, 0.0, inner).start()
        run_until(loop, lambda: "inner" in seen)

    keep = loop.timer(60.0, 0.0, lambda watcher, revents: None)
    keep.start()
    loop.timer(0.0, 0.0, outer).start()
    run_until(loop, lambda: "outer" in seen)
    keep.stop()


def test_an_outer_run_does_not_end_the_one_inside_a_callback() -> None:
    loop, seen = pyev.Loop(), []

    def outer(watcher: Any, revents: int) -> None:
        seen.append("outer")  # its condition is true from now on
        loop.timer(0.05, 0.0, lambda watcher, revents: seen.append("inner")).start()
        run_until(loop, lambda: "inner" in seen)

    keep = loop.timer(60.0, 0.0, lambda watcher, revents: None)
    keep.start()
    loop.timer(0.0, 0.0, outer).start()
    run_until(loop, lambda: "outer" in seen)
    assert seen == ["outer", "inner"]
    keep.stop()


def test_without_a_condition_it_runs_until_nothing_keeps_the_loop() -> None:
    loop, seen = pyev.Loop(), []
    loop.timer(0.02, 0.0, lambda watcher, revents: seen.append(1)).start()
    run_until(loop, None)
    assert seen == [1]
    forever = loop.timer(0.01, 0.01, lambda watcher, revents: None)
    forever.start()
    with pytest.raises(ConditionError, match=r"waited 0.03 s for the loop to end"):
        run_until(loop, None, timedelta(milliseconds=30))
    forever.stop()
    loop = asyncio.new_event_loop()
    with pytest.raises(TypeError, match="a condition is needed"):
        run_until(loop, None)
    loop.close()


def test_a_running_loop_of_asyncio_awaits() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"await nats_ev.testing.until"):
            run_until(AsyncioLoop(), lambda: True)
        ends = time.monotonic() + 0.02
        assert await until(lambda: time.monotonic() > ends and 5) == 5
        with pytest.raises(ConditionError, match=r"waited 0.02 s for a miracle"):
            await until(lambda: False, 20, "a miracle")

    asyncio.run(main())


def test_what_is_no_loop_is_refused() -> None:
    with pytest.raises(TypeError, match="does not know how to run 5"):
        run_until(5, lambda: False)


def test_without_a_loop() -> None:
    ends = time.monotonic() + 0.02
    assert wait_for(lambda: time.monotonic() > ends) is True
    with pytest.raises(ConditionError, match=r"waited 0.02 s for paint to dry; wet"):
        wait_for(lambda: False, 20, "paint to dry", lambda: "wet")

    class Condition:
        def __call__(self) -> bool:
            return False

        def __repr__(self) -> str:
            return "<a condition>"

    with pytest.raises(ConditionError, match="for <a condition>"):
        wait_for(Condition(), 1)

    def named() -> bool:
        return False

    with pytest.raises(ConditionError, match=r"named \(test_waiting.py:\d+\)"):
        wait_for(named, 1)
