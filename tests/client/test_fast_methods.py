"""`publish`, `hpublish` and `request` run in C when they can: nobody but a clock may notice.

The same call is made twice, once as a user makes it and once through the Python function that C stands in
for; both clients wait for a connection, so that what each has queued can be compared byte by byte.
"""

from __future__ import annotations

import gc
import inspect
import pickle
import sys
import threading
import unittest.mock
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab import inside
from nats_ev import Headers, Nats, pyev
from nats_ev.protocol import wire

FAST = ["publish", "hpublish", "request"]


class Text(str):
    """A str whose own methods must not count for what is sent."""


class Odd(bytes):
    """Bytes that lie about their length."""

    def __len__(self) -> int:
        return 1000


def answered(*args: Any) -> None:
    """Do nothing: the callback of all requests here."""


SUBJECTS = st.sampled_from(
    [
        "a",
        "a.b.c",
        "é.\U0001f600",
        "caf\udce9",
        "\ud800",
        "",
        "a b",
        "a\n",
        "s" * 5000,
        Text("x"),
        None,
        5,
        b"a",
    ]
)
PAYLOADS = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        ["text", "é", "\ud800", "", None, bytearray(b"array"), memoryview(b"view"), memoryview(b"abcd")[::2],
         Odd(b"odd"), Text("y"), 5, b"x" * 1100000, [b"a"]]
    ),
)  # fmt: skip
REPLIES = st.sampled_from([None, "", "r.1", "_INBOX.\udcff", "r r", 5, Text("r")])
HEADERS = st.sampled_from(
    [b"NATS/1.0\r\nA: b\r\n\r\n", b"", b"NATS/1.0\r\nA: b\r\n", {"A": "b"}, {"A": ["b", "c"]}, {}, {"A": []},
     {"A": ("b", "c")}, {"A b": "c"}, {"A": "b\r\nc"}, {"A": "\0"}, {"é": "x"}, {"A": "é\udcff"},
     {"A": "\ud800"}, {"A:": "b"}, {"": "b"}, {"A": 5}, {5: "A"}, Headers({"X": "y"}),
     Headers({"X": "y"}, status=503), None, 5]
)  # fmt: skip
TIMEOUTS = st.sampled_from([5000, 5000.0, 0, 1, True, None, -1, "5", 10**30, 10**400, 2.5])
CALLBACKS = st.sampled_from([answered, print, None, 5])


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Nats, Nats]]:
    """Two clients that wait for a connection, and queue what is published meanwhile."""
    loop = pyev.Loop()
    made = [
        Nats(
            loop=loop, host="127.0.0.1", port=1, on_error=answered, inbox_prefix="_I",
            reconnect_buffer_size=4 << 20,
        )
        for _ in range(2)
    ]  # fmt: skip
    yield made[0], made[1]
    for nats in made:
        nats.disconnect()


def outcome(call: Callable[..., Any], nats: Nats, args: Any, kwargs: Any) -> tuple[Any, ...]:
    """Return what a call has done: its result or error, and the bytes that it has queued."""
    inside.drop_unsent(nats)
    before = nats.stats()
    try:
        result: Any = call(*args, **kwargs)
    except Exception as exc:
        result = type(exc), str(exc)
    after = nats.stats()
    queued = inside.unsent(nats)
    return result, inside.without_inbox(nats, queued), after["accepted"] - before["accepted"]


def same(pair: tuple[Nats, Nats], name: str, args: Any, kwargs: Any) -> None:
    """Check that both ways of a call do the same."""
    fast, slow = pair
    python = getattr(Nats, name).__wrapped__

    def slowly(*args: Any, **kwargs: Any) -> Any:
        try:
            return python(slow, *args, **kwargs)
        except TypeError as exc:
            # C adds a hint to what Python says of arguments that do not fit.
            if exc.__traceback__ is not None and exc.__traceback__.tb_next is None:
                getattr(python, "explain", answered)(exc)
            raise

    ways = [
        outcome(getattr(fast, name), fast, args, kwargs),
        outcome(slowly, slow, args, kwargs),
    ]
    assert ways[0] == ways[1]
    assert inside.waiting_requests(fast) == inside.waiting_requests(slow)


MANY = settings(
    max_examples=400, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@MANY
@given(SUBJECTS, PAYLOADS, REPLIES, st.integers(0, 3), st.booleans())
def test_publish(pair, subject, payload, reply, by_position, unknown):
    names = ["subject", "payload", "reply_to"]
    args = [subject, payload, reply][:by_position]
    kwargs = dict(zip(names[by_position:], [subject, payload, reply][by_position:], strict=True))
    if unknown:
        kwargs["retain"] = True
    same(pair, "publish", args, kwargs)


@MANY
@given(SUBJECTS, HEADERS, PAYLOADS, REPLIES, st.integers(0, 5))
def test_hpublish(pair, subject, headers, payload, reply, count):
    same(pair, "hpublish", [subject, headers, payload, reply, "one too many"][:count], {})


@MANY
@given(SUBJECTS, HEADERS, PAYLOADS)
def test_publish_with_headers(pair, subject, headers, payload):
    same(pair, "publish", [subject, payload], {"headers": headers})


@MANY
@given(SUBJECTS, PAYLOADS, CALLBACKS, TIMEOUTS, st.booleans(), st.integers(2, 4))
def test_request(pair, subject, payload, cb, timeout, named, count):
    args = [subject, payload, cb, timeout][:count]
    same(pair, "request", args, {"timeout_ms": timeout} if named else {})


@pytest.mark.parametrize("name", FAST)
def test_the_method_looks_like_its_function(name: str) -> None:
    method = getattr(Nats, name)
    function = method.__wrapped__
    assert inspect.isfunction(function)
    assert inspect.signature(method) == inspect.signature(function)
    assert inspect.getsource(method) == inspect.getsource(function)
    for attribute in ("__doc__", "__name__", "__qualname__", "__module__", "__annotations__"):
        assert getattr(method, attribute) == getattr(function, attribute)
    bound = getattr(Nats(), name)
    assert (
        list(inspect.signature(bound).parameters)
        == list(inspect.signature(function).parameters)[1:]
    )
    assert inspect.ismethod(bound)
    assert pickle.loads(pickle.dumps(method)) is method
    assert inspect.isroutine(method)
    assert name in dir(Nats)


def test_the_short_names_are_the_same_methods() -> None:
    assert Nats.pub is Nats.publish
    assert Nats.hpub is Nats.hpublish
    assert Nats.req is Nats.request


def test_a_subclass_may_replace_and_extend_the_methods(pair) -> None:
    calls = []

    class Loud(Nats):
        def publish(self, subject, payload=b"", reply_to=None, *, headers=None):
            calls.append(subject)
            super().publish(subject + ".loud", payload, reply_to, headers=headers)

    nats = Loud(loop=pyev.Loop(), host="127.0.0.1", port=1, on_error=answered)
    nats.publish("a", b"x")
    Nats.publish(nats, "b", b"y")
    assert calls == ["a"]
    assert inside.unsent(nats) == b"PUB a.loud 1\r\nx\r\nPUB b 1\r\ny\r\n"
    nats.disconnect()


def test_the_methods_can_be_patched_and_specified(pair, monkeypatch) -> None:
    nats, got = pair[0], []
    with unittest.mock.patch.object(Nats, "publish", lambda self, *args: got.append(args)):
        nats.publish("a", b"x")
    monkeypatch.setattr(nats, "publish", lambda *args: got.append(args))
    nats.publish("b")
    assert got == [("a", b"x"), ("b",)]
    mock = unittest.mock.create_autospec(Nats, instance=True)
    mock.publish("a", b"x")
    mock.publish.assert_called_once_with("a", b"x")


def test_a_client_that_has_not_been_made_has_no_fast_path() -> None:
    blank = Nats.__new__(Nats)
    with pytest.raises(AttributeError):
        blank.publish("a", b"x")
    with pytest.raises(TypeError):
        Nats.publish()
    with pytest.raises(AttributeError):
        Nats.publish("no client", "a")


def test_calls_hold_no_reference_to_what_they_are_given(pair) -> None:
    nats = pair[0]
    subject, payload, reply = "subject.of.refs", b"payload of refs", "reply.of.refs"
    raw, mapping = b"NATS/1.0\r\nA: b\r\n\r\n", {"A": "value of refs", "B": ["c", "d"]}
    things = [subject, payload, reply, raw, mapping, mapping["A"], answered, None, 5000]
    nats.request(subject, payload, answered)

    def calls(times: int) -> list[int]:
        for _ in range(times):
            nats.publish(subject, payload)
            nats.publish(subject, payload, reply)
            nats.publish(subject, payload=payload, reply_to=reply)
            nats.hpublish(subject, raw, payload)
            nats.hpublish(subject, mapping, payload, reply)
            nats.cancel_request(nats.request(subject, payload, answered, 5000))
            for bad in ("", "a b", "\ud800"):
                with pytest.raises(ValueError):
                    nats.publish(bad, payload)
            inside.drop_unsent(nats)
        gc.collect()
        return [sys.getrefcount(thing) for thing in things]

    before = calls(10)
    after = calls(2000)
    # None and small ints are shared by the whole interpreter.
    assert after[:-2] == before[:-2]
    assert all(abs(b - a) < 500 for a, b in zip(after[-2:], before[-2:], strict=True))


_testcapi = pytest.importorskip("_testcapi", reason="this Python has no _testcapi")


@pytest.mark.parametrize("name", FAST)
def test_out_of_memory_at_any_allocation_leaves_nothing_half_done(pair, name: str) -> None:
    nats = pair[0]
    args: dict[str, tuple[Any, ...]] = {
        "publish": ("memory.subject", b"x" * 70_000),
        "hpublish": ("memory.subject", {"A": "b" * 3000}, b"x" * 70_000),
        "request": ("memory.subject", b"x" * 70_000, answered),
    }
    call = getattr(nats, name)
    call(*args[name])
    refused = 0
    for at in range(60):
        inside.drop_unsent(nats)
        waiting, before = inside.waiting_requests(nats), nats.stats()
        _testcapi.set_nomemory(at, at + 1)
        try:
            call(*args[name])
        except MemoryError:
            done = False
        else:
            done = True
        finally:
            _testcapi.remove_mem_hooks()
        after = nats.stats()
        assert after["accepted"] - before["accepted"] == done
        assert inside.waiting_requests(nats) - waiting == (done and name == "request")
        refused += not done
    assert refused or name != "request"  # the others allocate nothing of Python's
    call(*args[name])


def test_another_thread_cannot_change_the_buffer_while_the_kernel_reads_it(pair) -> None:
    nats, errors = pair[0], []
    inside.lock_unsent(nats, True)
    try:
        thread = threading.Thread(target=lambda: errors.append(raised(nats.publish, "a", b"x")))
        thread.start()
        thread.join()
        assert isinstance(raised(nats.request, "a", b"x", answered), RuntimeError)
    finally:
        inside.lock_unsent(nats, False)
    assert isinstance(errors[0], RuntimeError)
    assert "another thread" in str(errors[0])


def test_nothing_leaves_the_buffer_while_the_kernel_reads_it(pair) -> None:
    nats = pair[0]
    inside.drop_unsent(nats)
    nats.publish("a", b"x")
    inside.lock_unsent(nats, True)
    assert inside.drop_unsent(nats) == 0
    inside.lock_unsent(nats, False)
    assert inside.unsent(nats) == b"PUB a 1\r\nx\r\n"
    assert inside.drop_unsent(nats) == 1


def test_an_interrupted_request_is_still_written(pair) -> None:
    nats = pair[0]
    nats.request("interrupted", b"", answered)
    inside.drop_unsent(nats)
    inside.hold_unsent(nats, False)
    bits = inside.note_queued(nats)
    inside.interrupt_next_run(nats)
    try:
        assert isinstance(raised(nats.request, "interrupted", b"", answered), KeyboardInterrupt)
        assert bits[0] & wire.FIRST
    finally:
        inside.stop_noting(nats)
        inside.hold_unsent(nats, True)


def test_a_second_import_gets_the_same_types() -> None:
    assert inside.types_again() == inside.types_again()
    assert wire.OutboundBase in inside.types_again()
    assert issubclass(Nats, inside.types_again()[2])  # type: ignore[arg-type]


def test_half_made_objects_are_refused(pair) -> None:
    class Half(wire.Client):
        request = Nats.request
        publish = Nats.publish

    half = Half()
    for no_buffer in (wire.OutboundBase(), wire.Outbound.__new__(wire.Outbound), None, 5):
        with pytest.raises(TypeError):
            half._attach(no_buffer)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no buffer"):
        wire.OutboundBase().send(0)
    out = wire.Outbound()
    half._attach(out)
    half.publish("a", b"x")
    with pytest.raises(AttributeError):  # of the Python function: no table for requests
        half.request("a", b"x", answered)
    out.timeout = 5000
    with pytest.raises(AttributeError):
        half.request("a", b"x", answered)
    with pytest.raises(ValueError, match="no buffer"):
        out._attach(0, out)


def test_the_buffer_in_use_outlives_its_replacement() -> None:
    class Swapping(wire.Client):
        request = Nats.request

    def begin(order: int) -> None:
        out = wire.Outbound()
        client._attach(out)

    client = Swapping()
    out = wire.Outbound()
    out.set_inbox(b"in.")
    out.timeout, out.waiting, out.subject = 5000, {}, None
    out.begin_run, out.begin_subject, out.queued = begin, print_nothing, print_nothing
    client._attach(out)
    del out
    assert client.request("a", b"x", answered) == 1


def print_nothing(*args: object) -> None:
    """Take what C reports."""


def raised(call: Callable[..., object], *args: object) -> BaseException | None:
    """Return what a call raises."""
    try:
        call(*args)
    except BaseException as exc:
        return exc
    return None
