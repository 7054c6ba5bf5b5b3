"""The table of waiting requests does what a dict of them would, in any order and with any gaps."""

from __future__ import annotations

import gc
import random
import sys
import weakref

import pytest

from nats_ev.protocol import Waiting


@pytest.mark.parametrize("seed", range(8))
def test_it_does_what_a_dict_does(seed: int) -> None:
    rng = random.Random(seed)
    table, model, last = Waiting(), dict[int, object](), 0
    for _ in range(20_000):
        match rng.randrange(8):
            case 0 | 1 | 2:
                # Now and then a jump, so that old requests are in the way of new ones.
                last += rng.choice([1, 1, 1, 1, 2, 64, 4096, 2**33])
                table[last] = model[last] = object()
            case 3 if model:  # a callback is replaced
                number = rng.choice(list(model))
                table[number] = model[number] = object()
            case 4 | 5 | 6 if model:
                at = rng.choice([0, -1, rng.randrange(len(model))])  # the oldest, the newest, any
                number = list(model)[at]
                assert number in table
                assert table[number] is model[number]
                assert table.pop(number) is model.pop(number)
            case _:
                number = rng.randrange(last + 2)
                assert (number in table) == (number in model)
                assert table.pop(number, None) is model.pop(number, None)
        assert len(table) == len(model)
        if rng.random() < 0.0005:
            assert list(table) == sorted(model)
            assert dict(table) == model  # type: ignore[call-overload]
        if rng.random() < 0.0002:
            table.clear()
            model.clear()
    assert list(table) == table.keys() == sorted(model)


def test_many_wait_while_one_waits_for_ever() -> None:
    table = Waiting()
    table[1] = first = print
    for number in range(2, 200_000):
        table[number] = len
        if number > 50_000:
            assert table.pop(number - 40_000) is len
    assert table[1] is first
    assert len(table) == 1 + sum(number in table for number in range(2, 200_000))


def test_what_is_missing_is_a_key_error() -> None:
    table = Waiting()
    for number in (0, 1, 64, 2**64 - 1, -1, 2**64, "1", None):
        assert number not in table  # type: ignore[operator]
        assert table.pop(number, "nothing") == "nothing"  # type: ignore[arg-type]
        for refused in (table.__getitem__, table.__delitem__, table.pop):
            with pytest.raises(KeyError):
                refused(number)  # type: ignore[arg-type, operator]
    for wrong in (0, -1, 2**64):
        with pytest.raises(ValueError, match="number of a request"):
            table[wrong] = print
    with pytest.raises(TypeError):
        table.pop()  # type: ignore[call-arg]


class Callback:
    """Refers to the table, and looks into it when it is released."""

    def __init__(self, table: Waiting) -> None:
        self.table = table

    def __call__(self) -> None:
        pass

    def __del__(self) -> None:
        self.table.pop(1, None)
        self.table[7] = print


def test_no_reference_is_left_or_given_up() -> None:
    def callback() -> None:
        pass

    table = Waiting()
    before = sys.getrefcount(callback)
    for i in range(3):
        for number in (1, 65, 129, 4096 + 1, 2, 3):
            table[number] = callback
            table[number] = callback
        assert sys.getrefcount(callback) == before + 6
        del table[65], table[2]
        assert table.pop(3) is callback
        if i == 1:
            table.clear()
        else:
            for number in list(table):
                table.pop(number)
        assert sys.getrefcount(callback) == before
    table[1] = table[65] = callback
    del table
    assert sys.getrefcount(callback) == before


def test_a_callback_that_is_released_may_use_the_table() -> None:
    table = Waiting()
    for number in (1, 65, 2):
        table[number] = Callback(table)
    table[2] = print
    assert list(table) == [7, 65] or list(table) == [2, 7, 65]
    table.clear()
    assert list(table) == [7]


def test_a_cycle_through_the_table_is_collected() -> None:
    table = Waiting()

    class Cyclic:
        def __init__(self, table: Waiting) -> None:
            self.table = table

        def __call__(self) -> None:
            pass

    held = [Cyclic(table), Cyclic(table)]
    gone = [weakref.ref(one) for one in held]
    table[1], table[65] = held
    del table, held
    gc.collect()
    assert all(ref() is None for ref in gone)


def test_a_finalizer_that_enters_requests_while_an_old_one_moves_loses_nothing() -> None:
    """The garbage collector may run whenever an object is made, so none is made between look-up and entry."""
    for threshold in range(1, 12):
        table = Waiting()

        class Garbage:
            def __init__(self, table: Waiting) -> None:
                self.me, self.table = self, table

            def __del__(self) -> None:
                for number in range(100, 2000):
                    self.table[number] = print
                self.table[100 + 4096] = print

        table[1] = print
        before = gc.get_threshold()
        gc.disable()
        try:
            gc.collect()
            gc.set_threshold(threshold)
            Garbage(table)
            gc.enable()
            table[65] = print  # moves the request in its place
        finally:
            gc.set_threshold(*before)
            gc.enable()
        gc.collect()
        assert {1, 65, 100, 1999, 100 + 4096} <= set(table)
        assert len(table) == 1903
