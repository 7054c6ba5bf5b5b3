"""When bytes leave: one send per loop iteration, early above 1 MiB, and never after the loop blocked.

Sends are counted where the client makes them, and by strace at the kernel.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from lab import inside
from nats_ev import Nats, pyev

MIB = 1024 * 1024


class Sends:
    """Every send on the sockets of clients: the loop's iteration, bytes offered, bytes taken."""

    def __init__(self, loop: pyev.Loop) -> None:
        self.loop = loop
        self.calls: list[tuple[int, int, int]] = []
        self.before: Callable[[], None] = lambda: None

    def per_iteration(self) -> Counter[int]:
        return Counter(iteration for iteration, _, _ in self.calls)

    @property
    def taken(self) -> int:
        return sum(taken for _, _, taken in self.calls)


@pytest.fixture
def sends(loop: pyev.Loop, monkeypatch: pytest.MonkeyPatch) -> Sends:
    """Count the calls that hand a buffer to the kernel."""
    found = Sends(loop)

    def note(offered: int, taken: int) -> None:
        found.calls.append((loop.iteration, offered, taken))

    inside.watch_sends(monkeypatch, note)
    return found


def test_all_that_one_iteration_queues_is_one_send(loop, sends, connected, server, run):
    nats, got, turns = connected(server), [], []
    sends.calls.clear()

    def turn(watcher: Any, revents: int) -> None:
        turns.append(loop.iteration)
        nats.subscribe(f"turn.{len(turns)}", lambda *m: got.append(m))
        for i in range(100):
            nats.publish(f"turn.{len(turns)}", b"%d" % i)
            nats.hpublish("turn.other", {"A": "b"}, b"")
        nats.request("turn.nobody", b"", lambda *a: None, 60_000)
        nats.batch(lambda: nats.publish("turn.other", b"batched"))
        nats.flush(lambda error: None)
        if len(turns) == 20:
            watcher.stop()

    timer = loop.timer(0.001, 0.001, turn)
    timer.start()
    run(lambda: len(got) == 2000)
    counts = sends.per_iteration()
    assert set(turns) <= set(counts)
    assert set(counts.values()) == {1}
    assert nats.stats()["written"] == 20 * 202


def test_answers_of_a_responder_are_one_send_per_read(sends, connected, server, run):
    service, nats, answers = connected(server), connected(server), []
    service.subscribe("echo", lambda s, payload, reply, h: service.publish(reply, payload))
    done = []
    service.flush(done.append)
    run(lambda: done)
    sends.calls.clear()
    for i in range(1000):
        nats.request("echo", b"%d" % i, lambda *a: answers.append(a))
    run(lambda: len(answers) == 1000)
    # Two clients on the loop, each with at most one per iteration.
    assert max(sends.per_iteration().values()) <= 2
    assert len(sends.calls) < 200


def test_iterations_without_anything_to_say_send_nothing(loop, sends, connected, server, run):
    connected(server)
    sends.calls.clear()
    ticks = []
    timer = loop.timer(0.001, 0.001, lambda w, e: ticks.append(1))
    timer.start()
    run(lambda: len(ticks) >= 20)
    timer.stop()
    assert sends.calls == []


def test_a_mebibyte_in_one_iteration_is_written_early(loop, sends, connected, server, run):
    nats, done, inside = connected(server), [], []
    sends.calls.clear()

    def turn(watcher: Any, revents: int) -> None:
        for _ in range(3 * MIB // 1024):
            nats.publish("early", b"x" * 1024)
            inside.append(len(sends.calls))

    loop.timer(0.0, 0.0, turn).start()
    run(lambda: inside)
    below = inside[: MIB // 1100]
    assert set(below) == {0}
    assert inside[-1] == 3
    nats.flush(done.append)
    run(lambda: done)
    assert done == [None]
    assert nats.stats()["written"] == 3 * MIB // 1024


def test_a_batch_is_written_early_too(loop, sends, connected, server, run):
    nats = connected(server)
    sends.calls.clear()

    def body() -> int:
        for _ in range(2 * MIB // 1024):
            nats.publish("early", b"x" * 1024)
        return len(sends.calls)

    assert nats.batch(body) == 2
    run(lambda: nats.stats()["waiting"] == 0)


class WatchedLoop:
    """A loop that remembers its I/O watchers."""

    def __init__(self, loop: pyev.Loop) -> None:
        self._loop = loop
        self.ios: list[tuple[int, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def io(self, fd: int, events: int, *args: Any) -> Any:
        watcher = self._loop.io(fd, events, *args)
        self.ios.append((events, watcher))
        return watcher

    def writing(self) -> bool:
        return any(events & pyev.EV_WRITE and watcher.active for events, watcher in self.ios)


def test_what_the_kernel_does_not_take_waits_for_a_write_watcher(
    loop, sends, own_server, connected, run
):
    server, watched = own_server(), WatchedLoop(loop)
    other, got = connected(server), []
    other.subscribe("big", lambda s, payload, r, h: got.append(payload))
    done: list[Any] = []
    other.flush(done.append)
    run(lambda: done)
    nats = connected(server, loop=watched)
    assert not watched.writing()
    server.suspend()
    payloads = [b"%08d" % i + b"x" * 100_000 for i in range(200)]
    for payload in payloads:
        nats.publish("big", payload)
    run(watched.writing)
    assert nats.stats()["waiting"] > 0

    # Nothing can be written: the loop sleeps, it does not try again and again.
    before, calls, ticks = loop.iteration, len(sends.calls), []
    timer = loop.timer(0.1, 0.0, lambda w, e: ticks.append(1))
    timer.start()
    run(lambda: ticks)
    assert loop.iteration - before < 40  # the fixture's own timer ticks every 10 ms
    assert len(sends.calls) == calls

    # What comes later stays behind what waits, without a call of its own.
    nats.publish("big", b"last")
    loop.start(pyev.EVRUN_NOWAIT)
    assert len(sends.calls) == calls
    server.resume()
    run(lambda: len(got) == 201)
    assert got == [*payloads, b"last"]
    run(lambda: not watched.writing())
    assert nats.stats()["waiting"] == 0
    assert any(taken < offered for _, offered, taken in sends.calls)


# What is published from a watcher of any kind leaves before the loop blocks. The publisher and a receiver
# share a loop on which nothing else happens: bytes that are left behind stay there until the watchdog.


@pytest.fixture
def receives(loop: pyev.Loop, connected: Any, server: Any, run: Any) -> Callable[..., bool]:
    """receives(n): run the loop until the receiver has n messages; False when it blocked before."""
    receiver, done, got = connected(server), [], []

    def arrived(*message: Any) -> None:
        got.append(message)
        loop.stop()

    receiver.subscribe("left", arrived)
    receiver.flush(done.append)
    run(lambda: done)
    late: list[bool] = []

    def watchdog(watcher: Any, revents: int) -> None:
        late.append(True)
        loop.stop()

    def receives(count: int = 1) -> bool:
        loop.update()
        timer = loop.timer(5.0, 0.0, watchdog)
        timer.start()
        while len(got) < count and not late:
            loop.start()
        timer.stop()
        return not late

    return receives


def once(nats: Nats) -> Callable[[Any, int], None]:
    """A callback that publishes and stops its watcher."""

    def callback(watcher: Any, revents: int) -> None:
        watcher.stop()
        nats.publish("left", b"x")

    return callback


PRIORITIES = [-2, -1, 0, 1, 2]


@pytest.mark.parametrize("priority", PRIORITIES)
@pytest.mark.parametrize("order", ["before the client", "behind the client"])
def test_published_from_a_prepare_watcher(loop, connected, server, receives, order, priority):
    ready: list[Nats] = []

    def publish(watcher: Any, revents: int) -> None:
        if ready:
            watcher.stop()
            ready[0].publish("left", b"x")

    prepare = loop.prepare(publish, None, priority)
    if order == "before the client":
        prepare.start()
        nats = connected(server)
    else:
        nats = connected(server)
        prepare.start()
    ready.append(nats)
    assert receives()


@pytest.mark.parametrize("priority", PRIORITIES)
def test_published_from_a_check_watcher(loop, connected, server, receives, priority):
    loop_check = loop.check(once(connected(server)), None, priority)
    loop_check.start()
    loop.timer(0.0, 0.0, lambda w, e: None).start()  # the poll that it follows
    assert receives()


@pytest.mark.parametrize("priority", PRIORITIES)
def test_published_from_an_idle_watcher(loop, connected, server, receives, priority):
    loop.idle(once(connected(server)), None, priority).start()
    assert receives()


@pytest.mark.parametrize("priority", PRIORITIES)
def test_published_from_a_timer(loop, connected, server, receives, priority):
    loop.timer(0.0, 0.0, once(connected(server)), None, priority).start()
    assert receives()


@pytest.mark.parametrize("priority", [-2, 0, 2])
def test_published_from_a_periodic(loop, connected, server, receives, priority):
    loop.periodic(loop.now(), 0.0, once(connected(server)), None, priority).start()
    assert receives()


@pytest.mark.parametrize("priority", [-2, 0, 2])
def test_published_from_an_io_watcher(loop, connected, server, receives, priority):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.io(ours.fileno(), pyev.EV_READ, once(connected(server)), None, priority).start()
        theirs.send(b"x")
        assert receives()


@pytest.mark.parametrize("priority", [-2, 0, 2])
def test_published_from_a_signal_watcher(loop, connected, server, receives, priority):
    loop.signal(signal.SIGUSR1, once(connected(server)), None, priority).start()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert receives()


@pytest.mark.parametrize("priority", [-2, 0, 2])
def test_published_from_an_async_watcher(loop, connected, server, receives, priority):
    watcher = getattr(loop, "async")(once(connected(server)), None, priority)
    watcher.start()
    sender = threading.Timer(0.05, watcher.send)  # while the loop blocks
    sender.start()
    assert receives()
    sender.join()


@pytest.mark.parametrize("priority", [-2, 0, 2])
def test_published_from_a_fork_watcher(loop, connected, server, receives, priority):
    loop.fork(once(connected(server)), None, priority).start()
    loop.reset()  # what a child does; the loop calls them before it polls
    assert receives()


def test_published_from_a_message_callback(connected, server, receives, run):
    nats, other = connected(server), connected(server)
    nats.subscribe("go", lambda *m: nats.publish("left", b"x"))
    done: list[Any] = []
    nats.flush(done.append)
    run(lambda: done)
    other.publish("go")
    assert receives()


def test_published_from_a_completion(connected, server, receives):
    nats = connected(server)
    nats.flush(lambda error: nats.publish("left", b"x"))
    assert receives()


def test_published_before_the_loop_runs(connected, server, receives):
    connected(server).publish("left", b"x")
    assert receives()


def test_published_from_a_nested_loop(loop, connected, server, receives):
    nats = connected(server)

    def nest(watcher: Any, revents: int) -> None:
        nats.publish("left", b"x")
        loop.start(pyev.EVRUN_NOWAIT)
        nats.publish("left", b"y")

    loop.timer(0.0, 0.0, nest).start()
    assert receives(2)


SCRIPT = """
import sys
from nats_ev import Nats, pyev

loop, turns = pyev.default_loop(), []
nats = Nats(host="127.0.0.1", port=int(sys.argv[1]))

def turn(watcher, revents):
    if nats.is_connected():
        turns.append(1)
        for _ in range(500):
            nats.publish("traced", b"x" * 100)
        if len(turns) == 25:
            watcher.stop()
            nats.flush(lambda error: nats.disconnect())

timer = loop.timer(0.0, 0.001, turn)
timer.start()
loop.start()
"""


def test_the_kernel_sees_one_write_per_iteration(server, tmp_path):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    calls = "trace=write,writev,sendto,sendmsg"
    command = [strace, "-f", "-s", "16", "-e", calls, "-o", str(trace)]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    program = [*command, sys.executable, "-c", SCRIPT, str(server.port)]
    subprocess.run(program, check=True, timeout=60)
    lines = [line for line in trace.read_text().splitlines() if "PUB traced" in line]
    assert len(lines) == 25
    assert all("= " + str(500 * len("PUB traced 100\r\n\r\n" + "x" * 100)) in x for x in lines[:-1])


def test_the_loop_may_stop_in_the_iteration_that_publishes(loop, connected, server, run):
    nats, other, got = connected(server), connected(server), []
    other.subscribe("stop", lambda *m: got.append(m))
    done: list[Any] = []
    other.flush(done.append)
    run(lambda: done)

    def last(watcher: Any, revents: int) -> None:
        nats.publish("stop", b"x")
        loop.stop()

    loop.timer(0.0, 0.0, last).start()
    loop.start()
    # Left by the time of the next iteration, whoever asks for that.
    deadline = time.monotonic() + 5
    while not got and time.monotonic() < deadline:
        loop.start(pyev.EVRUN_NOWAIT)
    assert len(got) == 1
