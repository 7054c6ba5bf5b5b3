"""The usual acknowledgement of a publish is read in C, and means what its JSON means."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nats_ev.compiled import last_values, parse_ack
from nats_ev.jetstream.answers import ACK, decode
from nats_ev.jetstream.publish import ack_of

USUAL = [
    b'{"stream":"S", "seq":1}',
    b'{"stream":"S","seq":1}',
    b'{"stream":"KV_b-1", "seq":0}',
    b'{"stream":"a b!#$[]~","seq":9999999999999999999}',
]
UNUSUAL = [
    b"",
    b"{}",
    b'{"stream":"S", "seq":1, "duplicate": true}',
    b'{"stream":"S", "domain":"d", "seq":1}',
    b'{"stream":"", "seq":1}',
    b'{"stream":"\\u0041", "seq":1}',
    b'{"stream":"S\\", "seq":1}',
    b'{"stream":"\xc3\xa9", "seq":1}',
    b'{"stream":"a\tb", "seq":1}',
    b'{"stream":"\x7f", "seq":1}',
    b'{"stream":"S",  "seq":1}',
    b'{"stream":"S", "seq": 1}',
    b'{"stream":"S", "seq":01}',
    b'{"stream":"S", "seq":-1}',
    b'{"stream":"S", "seq":}',
    b'{"stream":"S", "seq":1.0}',
    b'{"stream":"S", "seq":1}x',
    b'{"stream":"S", "seq":1',
    b'{"stream":"S',
    b'{"stream":"S", "seq":18446744073709551615}',
    b'{"stream":"S", "seq":18446744073709551616}',
    b'{"error":{"code":400,"description":"x"}, "seq":1}',
    b'{"seq":1, "stream":"S"}',
]


@pytest.mark.parametrize("data", USUAL)
def test_the_usual_ones_are_read_in_c(data: bytes) -> None:
    assert parse_ack(data) == {**(decode(data, ACK)[0] or {}), "duplicate": False}


@pytest.mark.parametrize("data", UNUSUAL)
def test_what_differs_is_left_to_python(data: bytes) -> None:
    assert parse_ack(data) is None


def test_only_bytes_are_read() -> None:
    for function in (parse_ack, last_values):
        with pytest.raises(TypeError):
            function("text")  # type: ignore[arg-type]


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(USUAL + UNUSUAL), st.integers(0, 60), st.binary(max_size=3), st.booleans())
@example(USUAL[0], 0, b"", False)
def test_both_ways_mean_the_same(data: bytes, at: int, piece: bytes, replace: bool) -> None:
    data = data[:at] + piece + data[at + (len(piece) if replace else 0) :]
    fast = parse_ack(data)
    if fast is not None:
        slow, error = decode(data, ACK)
        assert error is None
        assert fast == {**(slow or {}), "duplicate": False}
    ack, error = ack_of(data, None)
    assert (ack is None) != (error is None)


CALLS: list[tuple[Any, bytes]] = [
    (parse_ack, b'{"stream":"a stream of its own", "seq":1234567}'),
    (last_values, b"NATS/1.0\r\nName-Of-Its-Own: a\r\nName-Of-Its-Own: b\r\nOther: c\r\n\r\n"),
]


@pytest.mark.parametrize(("function", "data"), CALLS)
def test_no_reference_stays(function: Any, data: bytes) -> None:
    def blocks() -> int:
        gc.collect()
        return sys.getallocatedblocks()

    for _ in range(100):
        function(data)
    before, references = blocks(), sys.getrefcount(data)
    for _ in range(10_000):
        function(data)
    assert blocks() - before < 1000
    assert sys.getrefcount(data) == references


@pytest.mark.parametrize(("function", "data"), CALLS)
def test_out_of_memory_at_any_allocation_is_a_memory_error(function: Any, data: bytes) -> None:
    testcapi = pytest.importorskip("_testcapi", reason="this Python has no _testcapi")
    expected, refused = function(data), 0
    for at in range(40):
        result = None
        testcapi.set_nomemory(at, at + 1)
        try:
            result = function(data)
        except MemoryError:
            refused += 1
        finally:
            testcapi.remove_mem_hooks()
        assert result is None or result == expected
    assert refused
