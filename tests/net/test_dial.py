"""From a name to a socket: resolving, several addresses, time, Unix sockets, no descriptors left."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import socket
import threading
import time
from typing import Any

import pytest

from lab import inside
from lab.located import words
from lab.process import descriptors
from nats_ev import BadOptionsError, ConnectError, ConnectTimeoutError, Status
from nats_ev.net.deadlines import Deadlines
from nats_ev.net.dial import Dialer, Resolver, look_up, numeric_addresses, shuffled


@pytest.fixture
def listener() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def dial(loop):
    """dial(look_up) → (dialer, results)"""

    def make(find: Any = look_up, timeout: float = 0.0) -> tuple[Dialer, list[Any]]:
        results: list[Any] = []
        dialer = Dialer(
            loop, Resolver(loop, find), Deadlines(loop), results.append, timeout=timeout
        )
        return dialer, results

    return make


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def test_numeric_addresses_need_no_resolver():
    assert numeric_addresses("127.0.0.1", 5)[0][1][:2] == ("127.0.0.1", 5)
    assert numeric_addresses("::1", 5)[0][0] == socket.AF_INET6
    assert numeric_addresses("localhost", 5) == []
    assert numeric_addresses("a" * 70, 5) == []


def test_addresses_of_a_name_alternate_between_families(monkeypatch):
    six, four = socket.AF_INET6, socket.AF_INET
    answers = [(six, f"6.{i}") for i in range(3)] + [(four, f"4.{i}") for i in range(2)]
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *a, **k: [(f, 1, 6, "", a) for f, a in [*answers, answers[0]]]
    )
    assert [address for _, address in look_up("x", 1)] == ["6.0", "4.0", "6.1", "4.1", "6.2"]


def test_addresses_are_shuffled_within_their_families_only():
    six, four = socket.AF_INET6, socket.AF_INET
    given = [(six, "6.0"), (four, "4.0"), (six, "6.1"), (four, "4.1"), (six, "6.2")]
    seen = {tuple(shuffled(given)) for _ in range(200)}
    assert all([f for f, _ in order] == [six, four, six, four, six] for order in seen)
    assert all(sorted(order) == sorted(given) for order in seen)
    assert len(seen) == 12


def test_a_name_is_found_without_blocking_the_loop(dial, loop, run, listener):
    port = listener.getsockname()[1]
    turns = []

    def slow(host: str, port: int) -> Any:
        time.sleep(0.1)
        return [(socket.AF_INET, ("127.0.0.1", port))]

    timer = loop.timer(0.005, 0.005, lambda w, r: turns.append(1))
    timer.start()
    dialer, results = dial(slow)
    dialer.tcp("some.name", port)
    run(lambda: results)
    timer.stop()
    assert len(turns) > 3
    results[0].close()


@pytest.mark.parametrize(
    "address",
    [
        (socket.AF_INET, ()), (socket.AF_INET, ("127.0.0.1", 70_000)), (socket.AF_INET, ("127.0.0.1", -1)),
        (socket.AF_INET, None), (99, ("127.0.0.1", 1)), (socket.AF_INET6, ("::1", 1, -1, 0)),
    ],
)  # fmt: skip
def test_an_address_that_is_none_costs_that_address_only(dial, run, listener, address):
    """A module of the C library's resolver may be broken; without a time-out the attempt would never end."""
    files = []
    for _ in range(2):
        dialer, results = dial(lambda host, port: [address])
        dialer.tcp("name", 1)
        run(lambda results=results: results)
        assert isinstance(results[0], OSError)
        gc.collect()
        files.append(descriptors())
    assert files[0] == files[1]
    good = (socket.AF_INET, listener.getsockname())
    dialer, results = dial(lambda host, port: [address, good])
    dialer.tcp("name", 1)
    run(lambda: results)
    with results[0] as sock:
        assert sock.getpeername() == listener.getsockname()


def test_no_memory_for_a_socket_ends_the_attempt(dial, run, monkeypatch):
    def no_memory(family: int, keepalive: int) -> socket.socket:
        raise MemoryError

    monkeypatch.setattr("nats_ev.net.dial.open_socket", no_memory)
    dialer, results = dial()
    dialer.tcp("127.0.0.1", 1)
    run(lambda: results)
    assert "MemoryError" in str(results[0])


def test_all_addresses_are_tried_and_the_last_error_is_told(dial, run, listener):
    port = listener.getsockname()[1]
    bad = closed_port()
    good = [(socket.AF_INET, ("127.0.0.1", p)) for p in (bad, bad, port)]
    dialer, results = dial(lambda host, port: good)
    dialer.tcp("name", port)
    run(lambda: results)
    assert results[0].getpeername()[1] == port
    results[0].close()
    dialer, results = dial(lambda host, port: good[:2])
    dialer.tcp("name", port)
    run(lambda: results)
    assert results[0].errno == errno.ECONNREFUSED
    dialer, results = dial(lambda host, port: [])
    dialer.tcp("name", port)
    run(lambda: results)
    assert isinstance(results[0], OSError)


@pytest.fixture
def silent_port() -> Any:
    """A port that never answers: its listener's backlog is full and nobody accepts."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(16):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_an_address_that_does_not_answer_leaves_time_for_the_others(
    dial, run, listener, silent_port
):
    port = listener.getsockname()[1]
    addresses = [(socket.AF_INET, ("127.0.0.1", p)) for p in (silent_port, port)]
    dialer, results = dial(lambda host, port: addresses, timeout=0.6)
    dialer.tcp("name", port)
    run(lambda: results)
    assert results[0].getpeername()[1] == port
    results[0].close()


@pytest.mark.parametrize(("silent", "timeout"), [(3, 0.7), (8, 2.0), (30, 1.0), (2, 0.0)])
def test_several_silent_addresses_leave_time_for_the_one_that_answers(
    dial, run, listener, silent_port, silent, timeout
):
    port, before = listener.getsockname()[1], descriptors()
    # Another address of the same silent port each, as a name's addresses differ.
    silents = [(socket.AF_INET, ("127.0.0.1", silent_port)) for _ in range(silent)]
    live = (socket.AF_INET, ("127.0.0.1", port))
    dialer, results = dial(lambda host, port: [*silents, live], timeout=timeout)
    start = time.monotonic()
    dialer.tcp("name", port)
    run(lambda: results)
    assert time.monotonic() - start < (timeout or 2.0)
    assert results[0].getpeername()[1] == port
    results[0].close()
    assert (
        descriptors() <= before + 1
    )  # the silent ones are closed; the loop may have opened one to be woken


def test_an_address_that_answers_late_is_not_given_up(dial, run, listener, monkeypatch):
    port = listener.getsockname()[1]
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        late = busy.getsockname()
        first = [socket.create_connection(late)]
        for _ in range(3):  # its backlog is full
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(late)
            first.append(sock)
        addresses = [(socket.AF_INET, late)] * 3
        dialer, results = dial(lambda host, port: addresses, timeout=0.3)
        dialer.tcp("name", port)
        for sock in first:
            sock.close()
        accepted = []

        def answered() -> bool:
            busy.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                accepted.append(busy.accept()[0])
            return bool(results)

        run(answered)
        assert results[0].getpeername() == late
        for sock in [results[0], *accepted]:
            sock.close()


def test_a_silent_server_is_a_connect_timeout(client, run, silent_port):
    nats = client(host="127.0.0.1", port=silent_port, connect_timeout=80)
    run(lambda: nats.status() is Status.CLOSED)
    assert [words(e) for e in nats.recorder.errors] == ["connect timeout"]


def test_cancelling_while_a_name_is_looked_up_is_final(dial, loop, run):
    go = threading.Event()
    ended = []

    def blocked(host: str, port: int) -> Any:
        go.wait(5)
        ended.append(host)
        return [(socket.AF_INET, ("127.0.0.1", port))]

    dialer, results = dial(blocked)
    dialer.tcp("name", 1)
    dialer.cancel()
    loop.start()  # nothing keeps the loop alive any more
    go.set()
    deadline = time.monotonic() + 5
    while not ended and time.monotonic() < deadline:
        time.sleep(0.001)
    loop.start()
    assert results == []


def test_only_one_worker_looks_for_a_name_at_a_time(loop, run):
    go, calls = threading.Event(), []

    def blocked(host: str, port: int) -> Any:
        calls.append(host)
        go.wait(5)
        return []

    resolver, results = Resolver(loop, blocked), []
    for _ in range(20):
        resolver.resolve("slow.name", 1, results.append)
        resolver.cancel()
    resolver.resolve("slow.name", 1, results.append)
    go.set()
    run(lambda: results)
    assert calls == ["slow.name"]
    assert results == [[]]


def test_a_name_that_is_not_found_is_an_error_of_the_attempt(client, run):
    nats = client(host="no.such.host.invalid", reconnect=False)
    run(lambda: nats.status() is Status.CLOSED, timeout=30)
    (error,) = nats.recorder.errors
    assert isinstance(error, ConnectError)
    assert isinstance(error, ConnectTimeoutError) or isinstance(error.__cause__, OSError)


def test_no_thread_to_be_had_is_an_error_too(dial, run, monkeypatch):
    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    dialer, results = dial()
    dialer.tcp("some.name", 1)
    run(lambda: results)
    assert isinstance(results[0], OSError)
    assert "some.name" in str(results[0])


@pytest.mark.parametrize("error", [MemoryError, SystemExit, ValueError, RecursionError])
def test_a_look_up_that_ends_in_any_other_way_can_be_repeated(loop, run, error):
    calls = []

    def fails_once(host: str, port: int) -> Any:
        calls.append(host)
        if len(calls) == 1:
            raise error("of the test")
        return []

    resolver, results = Resolver(loop, fails_once), []
    resolver.resolve("some.name", 1, results.append)
    run(lambda: results)
    assert isinstance(results[0], OSError)
    assert "some.name" in str(results[0])
    assert "of the test" in str(results[0])
    resolver.resolve("some.name", 1, results.append)
    run(lambda: len(results) == 2)
    assert results[1] == []


def test_no_memory_for_a_thread_is_an_error_of_the_attempt(dial, run, monkeypatch):
    def refuse(self: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(2):
        dialer, results = dial()
        dialer.tcp("some.name", 1)
        run(lambda: results)  # noqa: B023
        assert isinstance(results[0], OSError)


def test_disconnect_and_connect_timeout_end_a_lookup(client, run, monkeypatch):
    go = threading.Event()

    def blocked(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("flags"):
            raise socket.gaierror("not numeric")
        go.wait(5)
        raise socket.gaierror("too late")

    monkeypatch.setattr(socket, "getaddrinfo", blocked)
    nats = client(host="blocked.name", connect_timeout=50)
    run(lambda: nats.status() is Status.CLOSED)
    assert [words(e) for e in nats.recorder.errors] == ["connect timeout"]
    other = client(host="blocked.name", connect_timeout=0)
    run(lambda: inside.is_dialling(other))
    other.disconnect()
    run(lambda: not inside.is_active(other))
    go.set()
    assert other.recorder.errors == []


def test_unix_sockets_that_are_not_there_or_not_possible(client, run, tmp_path):
    texts = {
        str(tmp_path / "none"): "No such file or directory",
        str(tmp_path): "Connection refused",
        "x" * 200: "invalid unix socket path",
    }
    for path, text in texts.items():
        nats = client(path=path)
        run(lambda n=nats: n.status() is Status.CLOSED)
        (error,) = nats.recorder.errors
        assert isinstance(error, ConnectError), path
        assert words(error) == text
    with pytest.raises(BadOptionsError):
        client(path="nul\0byte")


def test_running_out_of_descriptors_is_waited_for_without_spinning(server, client, run):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    nats = client(server, reconnect=True, reconnect_delay=20, max_reconnect_attempts=0)
    run(nats.is_connected)
    used = max(int(fd) for fd in os.listdir("/proc/self/fd")) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
    spare: list[Any] = []
    try:
        try:
            while True:
                spare.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        nats.force_reconnect()
        spare.append(os.open(os.devnull, os.O_RDONLY))  # takes the one that has become free
        run(lambda: len(nats.recorder.errors) >= 3)
        assert all("Too many open files" in str(e) for e in nats.recorder.errors)
        assert len(nats.recorder.errors) < 10
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in spare:
            os.close(fd)
    run(lambda: nats.recorder.count("connect") == 2)


def test_failed_attempts_leave_no_descriptors(client, run):
    nats = client(
        servers=[f"127.0.0.1:{closed_port()}" for _ in range(3)],
        reconnect=True, reconnect_delay=0, max_reconnect_attempts=0,
    )  # fmt: skip
    run(lambda: len(nats.recorder.errors) > 20)
    before = descriptors()
    run(lambda: len(nats.recorder.errors) > 200)
    run(lambda: descriptors() <= before)  # at times an attempt has its socket


def test_keepalive_is_set_on_tcp_sockets_only(connected, server, tmp_path):
    nats = connected(server, keepalive=7)
    sock = inside.socket_of(nats)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    if hasattr(socket, "TCP_KEEPIDLE"):
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    assert not os.get_inheritable(sock.fileno())
