"""The end of a loop turn: what a nested run of the loop and a broken excepthook may not strand."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from lab.process import unmeasured
from nats_ev import pyev
from nats_ev.net import Turn


def nest(loop: pyev.Loop) -> None:
    """Run the loop until it stops; the test fails if nobody stops it."""
    timer = loop.timer(5.0, 0.0, lambda watcher, revents: loop.stop())
    timer.start()
    loop.start()
    assert timer.active, "the nested run was not woken"
    timer.stop()


@pytest.mark.parametrize("depth", [1, 3])
def test_what_was_put_off_and_the_write_happen_in_a_nested_run(loop: pyev.Loop, depth: int) -> None:
    turn, order = Turn(loop), []

    def flush() -> None:
        order.append("flush")
        if order.count("flush") == 1:
            loop.stop(pyev.EVBREAK_ALL)

    def run_nested(number: int) -> None:
        order.append(f"begin {number}")
        nest(loop)
        order.append(f"end {number}")

    turn.attach(lambda: None, flush)
    for number in range(depth):
        turn.soon(run_nested, number)
    loop.start()
    begun = [f"begin {number}" for number in range(depth)]
    assert order[: depth + 1] == [*begun, "flush"]
    ended = [entry for entry in order[depth:] if entry != "flush"]
    assert ended == [f"end {number}" for number in reversed(range(depth))]


def test_a_call_after_a_nested_run_may_nest_again(loop: pyev.Loop) -> None:
    turn, order = Turn(loop), []

    def first() -> None:
        nest(loop)
        for number in range(3):
            order.append("returned")
            turn.soon(order.append, number)
            turn.soon(loop.stop)
            nest(loop)

    turn.soon(first)
    turn.soon(loop.stop)
    turn.soon(order.append, "last")
    turn.soon(loop.stop)
    loop.start()
    assert order == ["last", "returned", 0, "returned", 1, "returned", 2]


def test_what_finishes_a_turn_comes_before_its_write_and_costs_no_second_round(
    loop: pyev.Loop,
) -> None:
    turn, order = Turn(loop), []
    turn.finish = lambda: order.append("finish")
    turn.attach(lambda: order.append("deliver"), lambda: order.append("flush"))
    turn.finish_soon()
    turn.finish_soon()
    loop.start(pyev.EVRUN_NOWAIT)
    assert order == ["deliver", "finish", "flush"]
    turn.soon(turn.finish_soon)
    loop.start(pyev.EVRUN_NOWAIT)
    assert order[3:6] == ["deliver", "finish", "flush"]
    assert order.count("finish") == 2


@pytest.mark.parametrize("error", [RuntimeError("hook"), SystemExit(2)])
def test_an_excepthook_that_raises_strands_nothing(
    loop: pyev.Loop, monkeypatch: Any, capsys: Any, error: BaseException
) -> None:
    turn, order = Turn(loop), []

    def hook(*args: Any) -> None:
        raise error

    monkeypatch.setattr(sys, "excepthook", hook)
    turn.soon(lambda: 1 / 0)
    turn.soon(order.append, "after")
    if isinstance(error, SystemExit):
        with pytest.raises(SystemExit):
            loop.start()
        assert order == []
    loop.start()
    assert order == ["after"]
    assert ("ZeroDivisionError" in capsys.readouterr().err) is isinstance(error, RuntimeError)


OUT_OF_MEMORY = """

import sys
import _testcapi
from nats_ev import pyev
from nats_ev.net import Turn
wrong = []
sys.unraisablehook = lambda args: None
for first in range(60):
    for last in (first + 1, first + 2):
        loop = pyev.Loop()
        turn, got, reported = Turn(loop), [0] * 3, []
        sys.excepthook = lambda kind, exc, traceback: reported.append(kind)
        def note(number):
            got[number] += 1  # needs no memory
        for number in range(3):
            turn.soon(note, number)
        _testcapi.set_nomemory(first, last)
        try:
            loop.start(pyev.EVRUN_NOWAIT)
        except MemoryError:
            pass
        _testcapi.remove_mem_hooks()
        loop.start(pyev.EVRUN_NOWAIT)
        if got != [1] * 3:
            wrong.append((first, last, got, reported))
print(wrong)
"""


def test_no_memory_for_a_call_that_was_put_off_loses_no_call() -> None:
    pytest.importorskip("_testcapi", reason="this Python cannot simulate a lack of memory")
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY],
        capture_output=True,
        text=True,
        timeout=100,
        env=unmeasured(),
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
