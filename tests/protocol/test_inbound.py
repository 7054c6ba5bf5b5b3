"""What C does with received messages beyond `test_session.py`: sockets, slices, large messages, memory."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import random
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.session_host import HANDSHAKE, Host, encoded, expected_events
from nats_ev import Headers
from nats_ev.headers import encode_headers
from nats_ev.protocol import wire


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()


def message(sid: int, payload: bytes, subject: bytes = b"x", reply: bytes = b"") -> bytes:
    return b"MSG %b %d %b%d\r\n%b\r\n" % (
        subject, sid, reply + b" " if reply else b"", len(payload), payload
    )  # fmt: skip


def test_a_read_delivers_and_says_what_it_found(host: Host) -> None:
    host.subscribe(1)
    assert host.read() == wire.NOTHING
    host.server.send(message(1, b"a") + message(1, b"b", reply=b"r"))
    assert host.read() == wire.DRAINED
    assert host.got == [("x", b"a", None, None), ("x", b"b", "r", None)]
    assert host.scheduled == 1 + 1  # before any callback, once for each delivery
    host.server.close()
    assert host.read() == wire.END
    assert host.read() == wire.END


def test_a_socket_that_fails_gives_its_errno(host: Host) -> None:
    assert host.session.read(host.ours.fileno() + 1000, 1.0) == -errno.EBADF


def test_a_slice_that_is_over_leaves_the_rest_for_later(host: Host) -> None:
    host.subscribe(1, lambda *args: (host.got.append(args), time.sleep(0.002)))
    host.server.send(b"".join(message(1, b"%d" % i) for i in range(50)))
    assert host.read(0.005) == wire.GAVE_WAY
    some = len(host.got)
    assert 1 <= some < 50
    assert not host.session.drained
    host.server.send(message(1, b"later"))
    assert host.read(0.0) == wire.GAVE_WAY  # a read delivers the rest before it reads
    assert some < len(host.got) < 50
    while not host.session.deliver(1.0):
        pass
    host.read_all()
    assert [payload for _, payload, *_ in host.got] == [b"%d" % i for i in range(50)] + [b"later"]


def test_a_callback_that_becomes_slow_ends_the_slice_soon(host: Host) -> None:
    def callback(*args: object) -> None:
        host.got.append(args)
        if len(host.got) > 1000:
            time.sleep(0.001)

    host.subscribe(1, callback)
    host.server.send(b"".join(message(1, b"") for _ in range(2000)))
    assert host.read(0.01) == wire.GAVE_WAY
    assert len(host.got) < 1100


def test_closing_in_a_callback_ends_the_read(host: Host) -> None:
    host.subscribe(1, lambda *args: (host.got.append(args), host.session.close()))
    host.server.send(message(1, b"a") * 3 + message(1, b"b", b"y"))
    host.read()
    assert len(host.got) == 1
    assert host.read() == wire.NOTHING


def test_a_read_in_a_callback_goes_on_in_order(host: Host) -> None:
    def callback(subject: str, payload: bytes, *rest: object) -> None:
        host.got.append(payload)  # type: ignore[arg-type]
        if payload in (b"3", b"40"):
            host.server.send(b"".join(message(1, b"%d" % (1000 + i)) for i in range(5)))
            host.read_all()

    host.subscribe(1, callback)
    host.server.send(b"".join(message(1, b"%d" % i, b"s%d" % (i // 4)) for i in range(60)))
    host.read_all()
    assert host.got == [b"%d" % i for i in range(60)] + [b"%d" % (1000 + i) for i in range(5)] * 2


SIZES = [32 * 1024, 70_000, 256 * 1024, 300_001, 1 << 20, (1 << 20) + 1, 5_000_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("headers", [b"", b"NATS/1.0\r\nA: b\r\n\r\n"])
def test_large_messages_arrive_whole_between_small_ones(
    host: Host, size: int, headers: bytes
) -> None:
    host.subscribe(1)
    payload = bytes(range(251)) * (size // 251) + b"z" * (size % 251)
    if headers:
        line = b"HMSG big 1 r %d %d\r\n%b" % (len(headers), len(headers) + size, headers)
    else:
        line = b"MSG big 1 r %d\r\n" % size
    stream = message(1, b"before") + line + payload + b"\r\n" + message(1, b"after") + b"PING\r\n"
    host.server.setblocking(False)
    at, step = 0, 0
    while at < len(stream):
        step = step * 7 % 50_021 + 1
        with contextlib.suppress(BlockingIOError):
            at += host.server.send(stream[at : at + step * 3])
        host.read()
    host.read_all()
    assert host.got == [
        ("x", b"before", None, None), ("big", payload, "r", headers or None), ("x", b"after", None, None),
        ("ping", 1),
    ]  # fmt: skip
    assert host.session.counts == (3, len(b"beforeafter") + size + len(headers))


def test_a_large_message_with_a_wrong_end_is_an_error_at_its_begin(host: Host) -> None:
    host.subscribe(1)
    stream = (
        message(1, b"ok") + b"MSG big 1 400000\r\n" + b"x" * 400_000 + b"??" + message(1, b"no")
    )
    host.server.setblocking(False)
    while stream:
        with contextlib.suppress(BlockingIOError):
            stream = stream[host.server.send(stream[:30_000]) :]
        host.read()
    host.read_all()
    assert host.got == [
        ("x", b"ok", None, None),
        ("failed", len(HANDSHAKE) + len(message(1, b"ok"))),
    ]


def test_a_large_message_that_nobody_takes_is_let_go(host: Host) -> None:
    host.server.setblocking(False)
    host.subscribe(1)
    stream = message(7, b"x" * 500_000) + message(1, b"y")
    while stream:
        with contextlib.suppress(BlockingIOError):
            stream = stream[host.server.send(stream[:60_000]) :]
        host.read()
    host.read_all()
    assert host.got == [("x", b"y", None, None)]


def test_memory_follows_what_has_come_not_what_is_announced(host: Host) -> None:
    host.subscribe(1)
    tracemalloc.start()
    try:
        host.server.send(b"MSG big 1 200000000\r\n" + b"x" * 1000)
        host.read()
        host.read()
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_closing_within_a_large_message_frees_it(host: Host) -> None:
    host.subscribe(1)
    host.server.setblocking(False)
    tracemalloc.start()
    try:
        host.server.send(b"MSG big 1 600000\r\n")
        left = 400_000
        while left:
            with contextlib.suppress(BlockingIOError):
                left -= host.server.send(b"x" * min(left, 60_000))
            host.read()
        host.read_all()
        assert tracemalloc.get_traced_memory()[0] > 500_000
        host.session.close()
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


KINDS = {
    "run": message(1, b"payload") * 4,
    "replies": message(1, b"payload", reply=b"reply.to") * 4,
    "messages": message(1, b"payload", b"s.1") + message(2, b"payload", b"s.2"),
    "headers": b"HMSG h 1 r 12 19\r\nNATS/1.0\r\n\r\npayload\r\n",
    "nobody": message(9, b"payload") * 3 + message(8, b"payload"),
    "slow": message(3, b"payload") * 3 + message(3, b"payload", b"other"),
    "control": b"PING\r\nPONG\r\nPONG\r\n-ERR 'x'\r\n+OK\r\n",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_row_leaves_no_reference(host: Host, kind: str) -> None:
    def callback(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
        if fails[0]:
            raise ValueError

    fails = [False]
    subs = [host.subscribe(sid, callback) for sid in (1, 2, 3)]
    subs[2].fast = False
    things = [callback, *subs, host.subs, host.waiting, host.session, None]

    def deliver(times: int) -> list[int]:
        for i in range(times):
            fails[0] = i % 3 == 0
            host.session.receive(KINDS[kind])
            host.session.deliver(1.0) if kind != "slow" or not fails[0] else swallow(host)
        host.got.clear()
        host.raised.clear()
        gc.collect()
        return [sys.getrefcount(thing) for thing in things]

    before, blocks = deliver(30), sys.getallocatedblocks()
    after = deliver(3000)
    assert after[:-1] == before[:-1]
    assert abs(after[-1] - before[-1]) < 500
    assert sys.getallocatedblocks() - blocks < 500


def swallow(host: Host) -> None:
    """Deliver all, although `Host.call` lets exceptions pass."""
    while not host.session.drained:
        with contextlib.suppress(ValueError):
            host.session.deliver(1.0)


def test_answers_leave_no_reference_and_no_entry(host: Host) -> None:
    def callback(response: bytes, error: object, headers: bytes | None) -> None:
        host.got.append((response, headers))

    class Inbox:
        def answer(self, number: int, payload: bytes, headers: bytes | None) -> None:
            host.got.append((number, payload, headers))

    inbox = host.subscribe(5)
    inbox.fast = False
    inbox.prefix_len = 3
    inbox.inbox = Inbox()
    host.session.receive(message(5, b"first", b"in.1"))
    host.session.deliver(1.0)
    assert host.got == [(1, b"first", None)]

    def answers(first: int, times: int) -> int:
        for number in range(first, first + times * 4, 4):
            host.got.clear()
            for i in range(4):
                host.waiting[number + i] = callback
            host.session.receive(
                message(5, b"a", b"in.%d" % number)
                + message(5, b"b", b"in.%d" % (number + 1))
                + b"HMSG in.%d 5 12 13\r\nNATS/1.0\r\n\r\nc\r\n" % (number + 2)
                + b"HMSG in.%d 5 16 16\r\nNATS/1.0 503\r\n\r\n\r\n" % (number + 3)
                + message(5, b"late", b"in.%d" % number)
            )
            host.session.deliver(1.0)
            assert host.got == [
                (b"a", None), (b"b", None), (b"c", b"NATS/1.0\r\n\r\n"),
                (number + 3, b"", b"NATS/1.0 503\r\n\r\n"), (number, b"late", None),
            ]  # fmt: skip
            del host.waiting[number + 3]
        host.got.clear()
        gc.collect()
        return sys.getrefcount(callback)

    before = answers(10, 10)
    assert answers(1000, 2000) == before
    assert not list(host.waiting)


def test_sessions_are_freed_with_all_that_they_hold() -> None:
    def life() -> None:
        host = Host()
        host.subscribe(1, lambda *args: host)
        host.session.receive(message(1, b"a") + b"MSG x 1 500000\r\n" + b"y" * 300_000)
        host.session.deliver(1.0)
        host.server.close()
        host.ours.close()

    for _ in range(20):
        life()
    gc.collect()
    blocks = sys.getallocatedblocks()
    for _ in range(200):
        life()
    gc.collect()
    assert sys.getallocatedblocks() - blocks < 300


def random_frame(rng: random.Random) -> bytes:
    """Return a frame of a server: small, large, with headers or without, or no message."""
    sid = rng.choice([1, 1, 1, 2, 3, 9])
    subject = rng.choice([b"a", b"a", b"b.c", b"\xff.x", b"s" * 300])
    reply = rng.choice([b"", b"", b"re.ply "])
    size = rng.choice([0, 1, 5, 5, 100, 5000, 70_000])
    if rng.random() < 0.08:
        size = rng.choice(SIZES[:2]) + rng.randrange(3)
    payload = rng.randbytes(size)
    kind = rng.random()
    if kind < 0.1:
        return rng.choice([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'x'\r\n"])
    if kind < 0.3:
        headers = rng.choice(
            [b"", b"NATS/1.0\r\n\r\n", b"NATS/1.0\r\nA: " + b"b" * 3000 + b"\r\n\r\n"]
        )
        sizes = b"%d %d" % (len(headers), len(headers) + size)
        return b"HMSG %b %d %b%b\r\n%b%b\r\n" % (subject, sid, reply, sizes, headers, payload)
    return (
        b"MSG %b %d %b%d\r\n%b\r\n" % (subject, sid, reply, size, payload) * rng.choice([1, 1, 3])
    )


@pytest.mark.parametrize("way", ["read", "receive"])
@pytest.mark.parametrize("seed", range(int(os.environ.get("NATS_EV_EXAMPLES", "1000")) // 50))
def test_random_streams_mean_the_same_as_to_the_reference(host: Host, way: str, seed: int) -> None:
    rng = random.Random(seed)
    stream = b"".join(random_frame(rng) for _ in range(rng.choice([5, 40])))
    if rng.random() < 0.3:
        stream += rng.choice([b"what\r\n", b"MSG a 1 300000\r\n" + b"x" * 300_000 + b"xx"])
    nested = [0]

    def callback(*args: Any) -> None:
        host.got.append(args)
        if rng.random() < 0.05 and nested[0] < 3:
            nested[0] += 1
            host.read(0.0) if way == "read" else host.session.deliver(0.0)
            nested[0] -= 1
        if rng.random() < 0.05:
            raise ValueError

    for sid in (1, 2, 3):
        host.subscribe(sid, callback)
    host.subs[3].fast = False
    host.call = lambda call, *args: call_safely(call, *args)  # type: ignore[method-assign]
    host.server.setblocking(False)
    most = rng.choice([7, 3000, 200_000])
    if len(stream) > 100_000:
        most = max(most, 3000)
    at = 0
    while at < len(stream):
        piece = stream[at : at + rng.randrange(1, most)]
        if way == "read":
            with contextlib.suppress(BlockingIOError):
                at += host.server.send(piece)
            host.read(rng.choice([0.0, 1.0]))
        else:
            host.session.receive(piece)
            at += len(piece)
            host.session.deliver(rng.choice([0.0, 1.0]))
    while not host.session.drained:
        host.session.deliver(1.0)
    host.read_all()
    got = [one for event in host.got for one in encoded(event)]
    assert got == expected_events(stream)


def call_safely(call: Callable[..., object], *args: object) -> None:
    with contextlib.suppress(ValueError):
        call(*args)


@contextlib.contextmanager
def reading(host: Host) -> Iterator[list[object]]:
    """Let another thread wait in the kernel for bytes; give the list that gets its result."""
    result: list[object] = []
    host.ours.setblocking(True)
    thread = threading.Thread(target=lambda: result.append(host.read()))
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while True:
            assert time.monotonic() < deadline
            try:
                host.session.receive(b"")
            except RuntimeError:
                break
        yield result
    finally:
        with contextlib.suppress(OSError):
            host.server.send(b"\r\n")  # ends the read of a test that has failed
        thread.join(20)
        host.ours.setblocking(False)


def test_nothing_is_taken_while_another_thread_reads(host: Host) -> None:
    host.subscribe(1)
    with reading(host) as result:
        with pytest.raises(RuntimeError, match="another thread"):
            host.session.receive(message(1, b"lost"))
        with pytest.raises(RuntimeError, match="another thread"):
            host.read()
        assert host.session.deliver(1.0)
        host.server.send(message(1, b"a"))
        wait_for(result)
    assert result == [wire.DRAINED]
    assert host.got == [("x", b"a", None, None)]


def test_a_delivery_that_ends_leaves_the_memory_that_another_thread_receives_into(
    host: Host,
) -> None:
    with contextlib.ExitStack() as stack:
        results = []

        def callback(*args: object) -> None:
            if not results:
                results.append(stack.enter_context(reading(host)))
            host.got.append(args)

        host.subscribe(1, callback)
        host.session.receive(message(1, b"first"))
        host.session.deliver(1.0)
        others = [Host() for _ in range(8)]  # they take the free memory, if there is any
        for other in others:
            other.session.receive(b"MSG x 1 70000\r\n" + b"y" * 60_000)
            other.session.deliver(1.0)
        host.server.send(message(1, b"second") * 2)
        wait_for(results[0])
        for other in others:
            other.close()
    assert results == [[wire.DRAINED]]
    assert [args[1] for args in host.got] == [b"first", b"second", b"second"]


@pytest.mark.parametrize("large", [False, True])
def test_closing_while_another_thread_reads_discards_what_comes(host: Host, large: bool) -> None:
    host.subscribe(1)
    if large:
        host.server.setblocking(False)
        left = 200_000
        host.server.send(b"MSG big 1 600000\r\n")
        while left:
            with contextlib.suppress(BlockingIOError):
                left -= host.server.send(b"x" * min(left, 60_000))
            host.read()
        host.read_all()
        host.server.setblocking(True)
    with reading(host) as result:
        host.session.close()
        host.session.receive(b"ignored")
        host.server.send(message(1, b"a"))
        wait_for(result)
    assert result == [wire.NOTHING]
    assert host.got == []


def test_threads_with_connections_of_their_own_share_the_memory_pool() -> None:
    wrong: list[object] = []

    def life(seed: int) -> None:
        host = Host()
        host.subscribe(1)
        sent = [b"%d %d" % (seed, i) * (1 + i % 50) for i in range(2000)]
        for payload in sent:
            block = encode_headers({"Seed": str(seed), "Size": ["a" * (len(payload) % 7), "b"]})
            args = len(block), len(block) + len(payload), block, payload
            host.server.send(b"HMSG x 1 %d %d\r\n%b%b\r\n" % args)
            host.read(0.0)
            if Headers.parse(block).get("Seed") != str(seed):
                wrong.append(block)
        host.read_all()
        if [args[1] for args in host.got] != sent:
            wrong.append(seed)
        host.close()

    threads = [threading.Thread(target=life, args=(seed,)) for seed in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


def wait_for(result: list[object]) -> None:
    deadline = time.monotonic() + 20
    while not result:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_slice_that_is_no_time_is_none(host: Host) -> None:
    host.subscribe(1)
    for seconds in (float("nan"), -1e300, -1.0, 0.0, float("inf"), 1e300):
        host.session.receive(message(1, b"a"))
        while not host.session.deliver(seconds):
            pass
    assert len(host.got) == 6
    with pytest.raises(TypeError):
        host.session.deliver(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="negative"):
        host.session.set_inbox(1, -1)


def test_only_bytes_are_received(host: Host) -> None:
    class Odd(bytes):
        pass

    for data in (Odd(b"PING\r\n"), bytearray(b"PING\r\n"), "PING\r\n", None):
        with pytest.raises(TypeError):
            host.session.receive(data)  # type: ignore[arg-type]


def test_a_subscription_that_ends_between_two_subjects_gets_nothing_more(host: Host) -> None:
    def callback(subject: str, *rest: object) -> None:
        host.got.append((subject,))
        if subject == "s.1":
            sub.fast = False
            sub.closed = True
            del host.subs[1]

    sub = host.subscribe(1, callback)
    host.session.receive(b"".join(message(1, b"x", b"s.%d" % i) for i in range(5)))
    host.session.deliver(1.0)
    assert host.got == [("s.0",), ("s.1",)]


def test_a_finalizer_that_delivers_keeps_the_order(host: Host) -> None:
    class Last:
        def __call__(self, subject: str, payload: bytes, *rest: object) -> None:
            host.got.append((payload,))
            sub = host.subs.pop(1, None)
            if sub is not None:
                sub.fast = False
                sub.closed = True

        def __del__(self) -> None:
            host.got.append(("freed",))
            host.session.deliver(0.0)

    host.subscribe(1, Last())
    host.subscribe(2, lambda subject, payload, *rest: host.got.append((payload,)))
    host.session.receive(
        message(1, b"1") + message(2, b"2") + message(2, b"3", b"y") + message(2, b"4", b"y")
    )
    while not host.session.deliver(1.0):
        pass
    assert [args[0] for args in host.got if args != ("freed",)] == [b"1", b"2", b"3", b"4"]
    assert ("freed",) in host.got


_testcapi = pytest.importorskip("_testcapi", reason="this Python has no _testcapi")


def test_out_of_memory_between_chunks_delivers_none_twice(host: Host) -> None:
    numbers: list[int] = []
    host.subscribe(1, lambda subject, payload, *rest: numbers.append(int(payload)))
    for at in range(60):
        numbers.clear()
        host.raised.clear()
        for i in range(20):
            host.session.receive(message(1, b"%d" % i))
        _testcapi.set_nomemory(at, at + 1)
        try:
            host.session.deliver(1.0)
        except MemoryError:
            pass
        finally:
            _testcapi.remove_mem_hooks()
        while not host.session.drained:
            host.session.deliver(1.0)
        assert numbers == sorted(set(numbers)), at
        assert len(numbers) + len(host.raised) == 20, at


def test_out_of_memory_at_any_allocation_loses_no_message(host: Host) -> None:
    numbers: list[int] = []

    def callback(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
        numbers.append(int(payload))

    def answer(response: bytes, error: object, headers: object) -> None:
        numbers.append(int(response))

    class Inbox:
        def answer(self, number: int, payload: bytes, headers: bytes | None) -> None:
            numbers.append(int(payload))

    host.subscribe(1, callback)
    inbox = host.subscribe(5)
    inbox.fast = False
    inbox.prefix_len = 3
    inbox.inbox = Inbox()
    host.session.set_inbox(5, 3)
    host.session._inbox = inbox.inbox
    for at in range(80):
        numbers.clear()
        host.waiting[1] = host.waiting[2] = answer
        host.session.receive(
            message(1, b"1") + message(1, b"2") + message(1, b"3", b"other.subject", b"reply")
            + b"HMSG h 1 12 13\r\nNATS/1.0\r\n\r\n4\r\n" + message(5, b"5", b"in.1")
            + message(5, b"6", b"in.2")
            + message(1, b"7", reply=b"r") + message(1, b"8", reply=b"rr")
        )  # fmt: skip
        _testcapi.set_nomemory(at, at + 1)
        try:
            host.session.deliver(1.0)
        except MemoryError:
            pass
        finally:
            _testcapi.remove_mem_hooks()
        while not host.session.drained:
            host.session.deliver(1.0)
        # What raised inside a callback, for lack of memory for its frame, was delivered.
        missing = set(range(1, 9)) - set(numbers)
        assert len(missing) == sum(isinstance(e, MemoryError) for e in host.raised), (at, numbers)
        assert numbers == sorted(set(numbers))
        host.raised.clear()
        host.waiting.clear()
