"""The end of a loop turn: what a nested run of the loop and a broken excepthook may not strand."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from lab.process import unmeasured
from nats_ev import pyev
from nats_ev.connection import InOrder
from nats_ev.net import Turn


class Received:
    """What a connection has received: something is always left."""

    drained = False


RECEIVED = Received()


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

    turn.attach(lambda: None, flush, RECEIVED)
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

    def finish_soon() -> None:
        turn.unfinished = True
        turn.schedule()

    turn.attach(lambda: order.append("deliver"), lambda: order.append("flush"), RECEIVED)
    finish_soon()
    finish_soon()
    loop.start(pyev.EVRUN_NOWAIT)
    assert order == ["deliver", "finish", "flush"]
    turn.soon(finish_soon)
    loop.start(pyev.EVRUN_NOWAIT)
    assert order[3:6] == ["deliver", "finish", "flush"]
    assert order.count("finish") == 2


class Reentrant:
    """Callbacks one by one; asking for a chosen one makes the calls that are put off, as nested loops do."""

    def __init__(self, turn: Turn, done: list[int], count: int, at: int) -> None:
        self.turn, self.done, self.left, self.at = turn, done, list(range(count)), at

    def __iter__(self) -> Reentrant:
        return self

    def __next__(self) -> Any:
        if len(self.left) == self.at:
            self.at = -1
            self.turn.run_soon()
        if not self.left:
            raise StopIteration
        number = self.left.pop(0)
        return lambda: self.done.append(number)


@pytest.mark.parametrize("at", range(6))
def test_callbacks_that_are_asked_for_in_a_nested_run_are_called_once(
    loop: pyev.Loop, at: int
) -> None:
    turn, done = Turn(loop), []
    turn.soon_each(Reentrant(turn, done, 5, at))
    turn.soon(done.append, 5)
    loop.start()
    assert sorted(done) == list(range(6))
    assert not turn.busy


class Source:
    """Numbers as completions; before a chosen one comes, something happens once."""

    def __init__(self, numbers: list[int], at: int) -> None:
        self.numbers, self.at = numbers, at
        self.happens: Any = lambda: None

    def __iter__(self) -> Source:
        return self

    def __next__(self) -> tuple[int, Any]:
        if self.numbers and self.numbers[0] == self.at:
            self.at = -1
            self.happens()
        if not self.numbers:
            raise StopIteration
        number = self.numbers.pop(0)
        return number, number


@pytest.mark.parametrize("at", [2, 3, 4, 6, 7, 8, 9])
@pytest.mark.parametrize("memory", [False, True])
def test_completions_in_order_survive_a_nested_look_and_a_lack_of_memory(
    at: int, memory: bool
) -> None:
    done: list[Any] = []
    sources = [Source(numbers, at) for numbers in ([0, 3, 4, 7], [1, 2, 8, 9], [5, 6])]
    merged: Any = InOrder(sources)  # type: ignore[arg-type]

    def happens() -> None:
        if memory:
            raise MemoryError
        done.extend(merged)

    for source in sources:
        source.happens = happens
    while len(done) < 10:
        try:
            done.append(next(merged))
        except MemoryError:
            assert memory
    assert sorted(done) == list(range(10))
    assert next(merged, None) is None
    if memory:
        assert done == list(range(10))


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
from nats_ev.connection import InOrder
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
