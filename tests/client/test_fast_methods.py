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
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab import inside
from lab.fuzz_targets import outcome
from nats_ev import Headers, Nats, NoRespondersError, pyev
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
EARLY = st.sampled_from(
    [{}, *({"no_responders": early} for early in (None, False, True, 1, "yes")), {"headers": None}]
)
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
@given(SUBJECTS, PAYLOADS, CALLBACKS, TIMEOUTS, st.booleans(), st.integers(2, 5), EARLY)
def test_request(pair, subject, payload, cb, timeout, named, count, early):
    args = [subject, payload, cb, timeout, "one too many"][:count]
    same(pair, "request", args, ({"timeout_ms": timeout} if named else {}) | early)


@MANY
@given(SUBJECTS, PAYLOADS, HEADERS, EARLY, st.sampled_from([5000, 5000.0]))
def test_request_with_headers(pair, subject, payload, headers, early, timeout):
    same(pair, "request", [subject, payload, answered, timeout], {**early, "headers": headers})


def test_a_request_with_headers_is_refused_by_a_server_without(pair):
    for nats in pair:
        inside.without_headers(nats, True)
    try:
        for headers in (b"NATS/1.0\r\nA: b\r\n\r\n", {"A": "b"}, None):
            same(pair, "request", ["a", b"x", answered], {"headers": headers})
    finally:
        for nats in pair:
            inside.without_headers(nats, False)


@pytest.mark.parametrize("of_client", [False, True])
@pytest.mark.parametrize("way", ["fast", "Python", "headers"])
def test_a_request_may_override_what_no_responders_does(server, client, run, of_client, way):
    nats = client(server, no_responders=of_client)
    run(nats.is_connected)
    request: Any = nats.request
    if way == "Python":
        request = lambda *args, **kwargs: Nats.request.__wrapped__(nats, *args, **kwargs)  # noqa: E731
    more = {"headers": {"A": "b"}} if way == "headers" else {}
    ended: dict[Any, Any] = {}
    for early in (None, False, True):
        note = lambda response, error, headers, early=early: ended.update({early: error})  # noqa: E731
        request("nobody.here", b"x", note, 5000, no_responders=early, **more)
    flushed: list[Any] = []
    nats.flush(flushed.append)
    run(lambda: flushed)
    assert set(ended) == {True} | ({None} if of_client else set())
    assert {type(error) for error in ended.values()} == {NoRespondersError}
    assert inside.waiting_requests(nats) == 3 - len(ended)


@pytest.mark.parametrize("timeout", [5000, 2500.5, timedelta(seconds=3)])
def test_the_same_time_out_as_before_calls_no_python(pair, timeout):
    nats, called = pair[0], []
    nats.cancel_request(nats.request("timed", b"x", answered, timeout))
    sys.setprofile(lambda frame, event, arg: called.append(event))
    try:
        order = nats.request("timed", b"x", answered, timeout)
    finally:
        sys.setprofile(None)
    nats.cancel_request(order)
    inside.drop_unsent(nats)
    assert "call" not in called


def test_subjects_of_requests_are_noted_and_forgotten_in_both_ways(pair):
    fast, slow = pair
    python = Nats.request.__wrapped__
    for n in range(700):
        args = (f"noted.{n // 2}", b"x", answered)
        for nats, order in ((fast, fast.request(*args)), (slow, python(slow, *args))):
            if n % 10:
                nats.cancel_request(order)
    for nats in pair:
        kept = {subject for _, subject in inside.asked_subjects(nats)}
        assert kept >= {f"noted.{n // 2}" for n in range(0, 700, 10)}
        assert len([subject for subject in kept if subject.startswith("noted")]) < 300
        inside.drop_unsent(nats)


def test_a_finalizer_that_sends_requests_takes_no_number_twice(pair):
    """The collector may run while a request makes its entries, and a finalizer may send another one."""
    nats = pair[0]
    orders: list[int] = []

    class Cycle:
        def __init__(self, number: int) -> None:
            self.itself = self
            self.number = number

        def __del__(self) -> None:
            orders.append(nats.request(f"finalizer.{self.number}", b"x", answered))

    before = gc.get_threshold()
    waiting = inside.waiting_requests(nats)
    gc.set_threshold(1)
    try:
        for n in range(200):
            Cycle(n)
            orders.append(nats.request(f"other.{n}", b"x", answered, no_responders=n % 2 == 0))
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert len(set(orders)) == len(orders) == 400
    assert inside.waiting_requests(nats) - waiting == 400
    for order in orders:
        nats.cancel_request(order)
    inside.drop_unsent(nats)


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
            nats.cancel_request(nats.request(reply, payload, answered, no_responders=True))
            nats.cancel_request(nats.request(reply, payload, answered, headers=raw))
            nats.cancel_request(nats.request(reply, payload, answered, headers=mapping))
            nats.cancel_request(nats.request(subject, payload, answered, no_responders=None))
            for bad in ("", "a b"):
                with pytest.raises(ValueError):
                    nats.request(bad, payload, answered, no_responders=False)
            for bad in ("", "a b", "\ud800"):
                with pytest.raises(ValueError):
                    nats.publish(bad, payload)
            inside.drop_unsent(nats)
        inside.asked_subjects(nats).clear()  # some are kept until there are many
        gc.collect()
        return [sys.getrefcount(thing) for thing in things]

    before = calls(10)
    after = calls(2000)
    # None and small ints are shared by the whole interpreter.
    assert after[:-2] == before[:-2]
    assert all(abs(b - a) < 500 for a, b in zip(after[-2:], before[-2:], strict=True))


_testcapi = pytest.importorskip("_testcapi", reason="this Python has no _testcapi")


@pytest.mark.parametrize("name", [*FAST, "request, override", "request, headers"])
def test_out_of_memory_at_any_allocation_leaves_nothing_half_done(pair, name: str) -> None:
    nats = pair[0]
    request = name.startswith("request")
    args: dict[str, tuple[Any, ...]] = {
        "publish": ("memory.subject", b"x" * 70_000),
        "hpublish": ("memory.subject", {"A": "b" * 3000}, b"x" * 70_000),
        "request": ("memory.subject", b"x" * 70_000, answered),
        "request, override": ("memory.other", b"x" * 70_000, answered),
        "request, headers": ("memory.other", b"x" * 70_000, answered),
    }
    call = getattr(nats, name.split(",")[0])
    if "override" in name:
        call = partial(call, no_responders=True)
    if "headers" in name:
        call = partial(call, headers={"A": "b" * 3000})
    call(*args[name])
    refused = 0
    for at in range(60):
        inside.drop_unsent(nats)
        if "," in name:
            nats.request("memory.subject", b"", answered)  # so that the subject is to be noted
        noted = len(inside.asked_subjects(nats))
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
        assert inside.waiting_requests(nats) - waiting == (done and request)
        if len(inside.asked_subjects(nats)) >= noted:  # it may have been trimmed
            assert len(inside.asked_subjects(nats)) - noted == (done and "," in name)
        refused += not done
    assert refused or not request  # the others allocate nothing of Python's
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
    out.timeout, out.waiting, out.subject = 5000, wire.Waiting(), None
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
