"""Headers (ADR-4) without a connection: parsing what comes, refusing what can't be sent, multi-values."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_ev import BadHeadersError, Headers
from nats_ev.headers import as_headers, encode_headers, has_status, is_no_responders, status_of
from nats_ev.nuid import next_nuid
from nats_ev.subjects import decode, encode, matches


@pytest.mark.parametrize(
    ("raw", "status", "description", "pairs"),
    [
        (b"NATS/1.0\r\n\r\n", None, None, []),
        (b"NATS/1.0\r\nA: b\r\n\r\n", None, None, [("A", "b")]),
        (b"NATS/1.0\r\nA:b\r\nA:  c \r\n\r\n", None, None, [("A", "b"), ("A", "c")]),
        (b"NATS/1.0 503\r\n\r\n", 503, None, []),
        (b"NATS/1.0 503 No Responders\r\n\r\n", 503, "No Responders", []),
        (b"NATS/1.0  100   Idle Heartbeat  \r\nX: 1\r\n\r\n", 100, "Idle Heartbeat", [("X", "1")]),
        (b"NATS/1.0 50\r\n\r\n", None, None, []),
        (b"NATS/1.0 ABC\r\n\r\n", None, None, []),
        (b"NATS/1.0\r\nno colon\r\nA: b\r\n: empty\r\n\r\n", None, None, [("A", "b")]),
        (b"NATS/1.0\r\nA: b:c\r\nB:\r\n\r\n", None, None, [("A", "b:c"), ("B", "")]),
        (b"NATS/1.0\r\nA: \xff\xc3\xa9\r\n\r\n", None, None, [("A", "\udcff\xe9")]),
        (b"NATS/1.0\r\nA: b", None, None, [("A", "b")]),
    ],
)
def test_what_comes_is_parsed_and_what_is_no_header_left_out(raw, status, description, pairs):
    headers = Headers.parse(raw)
    assert (headers.status, headers.description) == (status, description)
    assert headers.pairs() == pairs


@pytest.mark.parametrize(
    ("raw", "status", "description"),
    [
        (None, None, None),
        (b"NATS/1.0\r\nStatus: 503\r\n\r\n", None, None),
        (b"NATS/1.0 503\r\n\r\n", 503, None),
        (b"NATS/1.0 503 No Responders\r\nA: b\r\n\r\n", 503, "No Responders"),
        (b"NATS/1.0 404 No Messages\r\n\r\n", 404, "No Messages"),
        (b"NATS/1.0  100   Idle Heartbeat  \r\nX: 1\r\n\r\n", 100, "Idle Heartbeat"),
        (b"NATS/1.0 ABC\r\n\r\n", None, None),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", None, None),
    ],
)
def test_a_status_is_found_without_parsing_the_block(raw, status, description):
    assert status_of(raw) == (status, description)
    if raw is not None:
        assert is_no_responders(raw) == (status == 503)
        assert has_status(raw) == raw.startswith(b"NATS/1.0 ")


def test_as_headers_copies_whatever_a_user_may_pass():
    raw = b"NATS/1.0\r\nA: b\r\nA: c\r\n\r\n"
    original = Headers({"A": ["b", "c"]})
    for block in (raw, bytearray(raw), memoryview(raw), original, {"A": ["b", "c"]}):
        copy = as_headers(block)
        assert copy == original
        copy["A"] = "d"
    assert original.get_all("A") == ["b", "c"]


def test_what_is_no_block_is_refused_and_none_is_empty():
    for raw in (b"", b"HTTP/1.1 200 OK\r\n\r\n", b"\r\n\r\n", b"nats/1.0\r\n\r\n"):
        with pytest.raises(BadHeadersError):
            Headers.parse(raw)
    assert Headers.parse(None) == Headers()


def test_names_are_case_sensitive_and_keep_their_order_and_values_apart():
    headers = Headers({"b": "1", "B": ["2", "3"]})
    headers.add("a", "4")
    headers.add("b", "5")
    assert headers.pairs() == [("b", "1"), ("b", "5"), ("B", "2"), ("B", "3"), ("a", "4")]
    assert headers["b"] == "1"
    assert headers.get("c") is None
    assert headers.get_all("B") == ["2", "3"]
    assert headers.get_all("c") == []
    assert list(headers) == ["b", "B", "a"]
    headers["B"] = "6"
    del headers["b"]
    assert dict(headers) == {"a": "4", "B": "6"}
    headers.set("a", [])
    assert "a" not in headers
    assert len(headers) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "v"), ("a b", "v"), ("a:b", "v"), ("a\r\nX", "v"), ("a\x7f", "v"),
        ("a\t", "v"), ("a", "v\r\nX: y"), ("a", "v\n"), ("a", "\r"), ("a", "nul\0"),
    ],
)  # fmt: skip
def test_what_could_become_another_line_is_refused(name, value):
    for make in (
        lambda: Headers({name: value}),
        lambda: Headers().add(name, value),
        lambda: Headers().set(name, value),
        lambda: Headers([(name, value)]),
        lambda: encode_headers({name: [value]}),
    ):
        with pytest.raises(BadHeadersError):
            make()


@pytest.mark.parametrize(
    "bad", [5, None, ["a"], {"a": 5}, {5: "a"}, {"a": [5]}, {"a": None}, object()]
)
def test_wrong_types_are_type_errors(bad: Any):
    with pytest.raises(TypeError):
        encode_headers(bad)


def test_a_value_that_is_no_text_is_named_in_the_error():
    with pytest.raises(TypeError, match="value must be str or several, not int"):
        Headers({"a": 5})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="value must be str or several, not NoneType"):
        Headers().set("a", None)  # type: ignore[arg-type]


def test_blocks_given_raw_are_looked_at_and_sent_as_they_are():
    block = b"NATS/1.0\r\nx: 1\r\nx:2\r\n\r\n"
    for form in (block, bytearray(block), memoryview(block), block.decode()):
        assert encode_headers(form) == block
    for bad in (b"", b"NATS/1.0\r\n", b"x: 1\r\n\r\n", b"NATS/1.0\r\nx: 1\r\n"):
        with pytest.raises(BadHeadersError):
            encode_headers(bad)


def test_a_status_goes_out_and_comes_back():
    headers = Headers({"A": "b"}, status=404, description="No Messages")
    assert headers.encode() == b"NATS/1.0 404 No Messages\r\nA: b\r\n\r\n"
    assert Headers.parse(headers.encode()) == headers
    assert "404" in repr(headers)
    with pytest.raises(BadHeadersError):
        Headers(status=400, description="a\r\nB: c").encode()
    with pytest.raises(BadHeadersError, match="surrogate"):
        Headers({"A": "\ud800"}).encode()


_names = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1
)
_values = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]))


@given(st.dictionaries(_names, st.lists(_values, min_size=1)))
def test_whatever_is_taken_comes_back_but_for_blanks_around_values(values):
    headers = Headers(values)
    back = Headers.parse(encode_headers(headers))
    assert back.pairs() == [
        (name, value.strip(" \t")) for name, several in values.items() for value in several
    ]


@given(st.binary(max_size=200))
def test_no_bytes_behind_the_version_break_the_parser(rest):
    headers = Headers.parse(b"NATS/1.0" + rest)
    assert all(name for name, _ in headers.pairs())


@given(st.binary(max_size=50))
def test_any_bytes_of_a_subject_survive_as_text(raw):
    assert encode(decode(raw)) == raw


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.b", "a.b", True), ("a.b", "a.c", False), ("a.*", "a.b", True), ("a.*", "a.b.c", False),
        ("a.>", "a.b.c", True), ("a.>", "a", False), (">", "a", True), ("*", "a.b", False),
        ("*.b", "a.b", True), ("a.*.c", "a.b.c", True), ("a", "a.b", False), ("a.b.c", "a.b", False),
    ],
)  # fmt: skip
def test_patterns_match_as_the_server_does(pattern, subject, expected):
    assert matches(pattern, subject) is expected


def test_nuids_are_22_characters_and_differ():
    made = {next_nuid() for _ in range(10_000)}
    assert len(made) == 10_000
    assert all(len(nuid) == 22 and nuid.isalnum() and nuid.isascii() for nuid in made)


@pytest.mark.parametrize("name", ["→", "é", "a b", "a:b", "", "\x7f", "a\tb"])
def test_names_that_other_clients_cannot_read_are_not_sent(name):
    for make in (
        lambda: Headers({name: "x"}),
        lambda: Headers().add(name, "x"),
        lambda: encode_headers({name: "x"}),
    ):
        with pytest.raises(BadHeadersError, match="invalid header name"):
            make()


def test_received_names_beyond_ascii_can_be_read_but_not_sent_on():
    received = Headers.parse("NATS/1.0\r\n→: x\r\nA: b\r\n\r\n".encode())
    assert received["→"] == "x"
    with pytest.raises(BadHeadersError, match="invalid header name '→'"):
        received.encode()
    del received["→"]
    assert received.encode() == b"NATS/1.0\r\nA: b\r\n\r\n"


@pytest.mark.parametrize("status", [99, 5, -1, 1000, 12345])
def test_a_status_has_three_digits(status):
    with pytest.raises(BadHeadersError, match="three digits"):
        Headers(status=status)


@pytest.mark.parametrize("status", ["503\r\nNats-Rollup: all", True, 503.0])
def test_a_status_is_an_int(status):
    with pytest.raises(TypeError, match="status must be an int"):
        Headers(status=status)
    headers = Headers()
    headers.status = status
    with pytest.raises(TypeError, match="status must be an int"):
        headers.encode()


@pytest.mark.parametrize(
    ("line", "status", "description"),
    [
        (b"NATS/1.0 503", 503, None),
        (b"NATS/1.0\t 404  No  Messages \t", 404, "No  Messages"),
        (b"NATS/1.0 50", None, None),
        (b"NATS/1.0 5033", None, None),
        (b"NATS/1.0 503x", None, None),
        (b"NATS/1.0503", None, None),
        (b"NATS/1.0 ", None, None),
    ],
)
def test_status_lines(line, status, description):
    headers = Headers.parse(line + b"\r\nA: b\r\n\r\n")
    assert (headers.status, headers.description) == (status, description)
    assert dict(headers) == {"A": "b"}


def test_a_megabyte_of_blanks_in_a_status_line_costs_nothing_much():
    """One that a publisher can send: it must not stop the loop. Quadratic work would take hours."""
    blanks = b" \t" * 500_000
    for line in (
        b"NATS/1.0 200 a%bb" % blanks,
        b"NATS/1.0%b" % blanks,
        b"NATS/1.0 200%bx" % blanks,
    ):
        assert Headers.parse(line + b"\r\n\r\n").status in (200, None)


BLOCK = b"NATS/1.0 503 No Responders\r\nA: b\r\nA: c\r\n\r\n"


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda h: pickle.loads(pickle.dumps(h))]
)
def test_copies_and_pickles_have_all_fields(again: Any) -> None:
    headers = Headers.parse(BLOCK)
    found = again(headers)
    assert found == headers
    assert found.get_all("A") == ["b", "c"]
    assert (found.status, found.description) == (503, "No Responders")
    assert found.encode() == BLOCK


def test_a_subclass_is_parsed_with_its_own_constructor() -> None:
    class Named(Headers):
        def __new__(cls, *args: Any) -> Named:
            self = super().__new__(cls)
            self.name = "given"
            return self

    class Wrong(Headers):
        def __new__(cls, *args: Any) -> Any:
            return 5

    found = Named.parse(BLOCK)
    assert type(found) is Named
    assert found.name == "given"
    assert found["A"] == "b"
    with pytest.raises(TypeError):
        Wrong.parse(BLOCK)
    for data in ("NATS/1.0", bytearray(BLOCK), 5):
        with pytest.raises(TypeError):
            Headers.parse(data)  # type: ignore[arg-type]


def test_parsing_keeps_no_reference() -> None:
    def parse() -> None:
        for _ in range(1000):
            Headers.parse(BLOCK)
            with pytest.raises(BadHeadersError):
                Headers.parse(b"NATS")

    parse()
    gc.collect()
    before = sys.getrefcount(Headers), len(gc.get_objects())
    parse()
    gc.collect()
    after = sys.getrefcount(Headers), len(gc.get_objects())
    assert after[0] - before[0] < 20
    assert after[1] - before[1] < 200


def test_parsing_without_memory_is_a_memory_error() -> None:
    _testcapi = pytest.importorskip("_testcapi")
    refused = 0
    tracer = sys.gettrace()
    sys.settrace(None)  # it needs memory, too
    try:
        for block in (BLOCK, b"NATS/1.0\r\nA: " + b"x" * 2000 + b"\r\nB: y\r\n\r\n"):
            for at in range(60):
                found: Headers | None = None
                _testcapi.set_nomemory(at, at + 1)
                try:
                    found = Headers.parse(block)
                except MemoryError:
                    refused += 1
                finally:
                    _testcapi.remove_mem_hooks()
                assert found is None or found["A"]
    finally:
        sys.settrace(tracer)
    assert refused > 4
