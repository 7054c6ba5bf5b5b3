"""How long a client lives, what it leaves behind, and what a process may do around it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from typing import Any

import pytest

from drills.soak import Sample
from lab import inside
from lab.fakeserver import silent
from lab.located import words
from lab.natsserver import wait_for
from lab.paths import ROOT
from lab.process import descriptors, resident
from nats_ev import Nats, pyev
from nats_ev.testing import free_port


@pytest.mark.parametrize("state", ["connected", "connecting", "waiting", "resolving", "idle"])
def test_a_client_lives_on_its_own_until_it_has_ended_and_then_leaves_nothing(
    loop, server, fake, run, monkeypatch, state
):
    warm = Nats(loop=loop, host=server.host, port=server.port)
    run(warm.is_connected)
    warm.disconnect()
    run(lambda: True)
    del warm
    fake_server = fake(silent)
    options: dict[str, Any] = {
        "connected": {"host": server.host, "port": server.port},
        "connecting": {"host": fake_server.host, "port": fake_server.port},
        "waiting": {"host": "127.0.0.1", "port": free_port(), "reconnect": True},
        "resolving": {"host": "no.such.name.invalid", "port": 4222},
        "idle": {},
    }[state]
    loop.start(pyev.EVRUN_NOWAIT)
    before, threads = Sample.take(), threading.active_count()
    errors: list[Any] = []
    nats = Nats(loop=loop, on_error=errors.append, **options)
    use(nats, idle=state == "idle")
    if state == "connected":
        run(nats.is_connected)
    elif state == "waiting":
        run(lambda: errors)
    elif state == "connecting":
        run(lambda: fake_server.connections)
    cid = nats.client_id()
    alive = weakref.ref(nats)
    del nats
    gc.collect()
    if state != "idle":
        client = alive()
        assert client is not None
        client.disconnect()
        del client
    loop.start()  # ends: nothing of the client keeps it running
    wait_for(lambda: threading.active_count() <= threads, what="the end of a thread")
    errors.clear()
    assert_gone(alive)
    after = Sample.take()
    assert after.files <= before.files + (state == "connecting")  # the scripted server's own end
    assert after.watchers <= before.watchers
    if state == "connected" and hasattr(server, "monitor"):
        # Only this one: other tests share the server.
        wait_for(lambda: cid not in connections(server), what="the server to see it")


def connections(server: Any) -> set[int]:
    """The ids of those that the server has."""
    return {connection["cid"] for connection in server.monitor("connz")["connections"]}


def use(nats: Nats, idle: bool) -> None:
    """Callbacks that refer to their client, as they usually do, of all kinds."""
    nats.on_disconnect(lambda: nats.stats())
    nats.subscribe("life", lambda *message: nats.stats())
    if not idle:
        nats.publish("life", b"x")
        nats.request("life", b"x", lambda *answer: nats.stats(), 60_000)
        nats.flush(lambda error: nats.stats())
        nats.call_later(60_000, lambda: nats.stats())


def assert_gone(alive: weakref.ref[Any]) -> None:
    gc.collect()
    assert alive() is None, gc.get_referrers(alive())


def test_giving_up_and_draining_end_a_client_as_disconnect_does(loop, server, run):
    for options in (
        {"host": "127.0.0.1", "port": free_port()},
        {"host": server.host, "port": server.port},
    ):
        nats = Nats(loop=loop, on_error=lambda error: None, **options)
        nats.subscribe("x", lambda *m: None)
        if options["port"] == server.port:
            nats.drain()
        alive = weakref.ref(nats)
        del nats
        loop.start()
        assert_gone(alive)


@pytest.mark.slow
def test_a_thousand_connects_and_disconnects_leave_nothing(loop, server, run):
    def cycle(number: int) -> None:
        nats = Nats(loop=loop, host=server.host, port=server.port, on_error=lambda error: None)
        nats.subscribe("life.>", lambda *message: None)
        nats.on_connect(lambda: nats.publish("life.x", b"x"))
        if number % 3 == 0:
            # A drain waits for the request's end.
            nats.request("life.y", b"", lambda *answer: None, 10_000 if number % 2 else 1)
        if number % 7:
            run(nats.is_connected)
        if number % 2:
            nats.disconnect()
        else:
            nats.drain()
        loop.start()

    # Python 3.10 allocates a cache per function at its 1,024th call, and not every cycle calls all of them.
    for number in range(100 if sys.version_info >= (3, 11) else 3500):
        cycle(number)
    before = Sample.take()
    for number in range(1000):
        cycle(number)
    after = Sample.take()
    assert after.files == before.files
    assert after.watchers <= before.watchers
    assert abs(after.objects - before.objects) < 100
    assert abs(after.blocks - before.blocks) < 200
    assert after.memory - before.memory < 4 * 1024 * 1024


def test_a_thousand_failed_connects_leave_nothing(loop, run):
    errors: list[Any] = []
    port = free_port()
    # Many, because there is a wait after each round.
    servers = [f"nats://127.0.0.{i}:{port}" for i in range(1, 51)]
    options: dict[str, Any] = {"servers": servers, "reconnect": True}
    options |= {"reconnect_delay": 0, "max_reconnect_attempts": 0}
    nats = Nats(loop=loop, on_error=errors.append, **options)
    run(lambda: len(errors) > 200)
    errors.clear()
    before = Sample.take()
    run(lambda: len(errors) > 1000)
    errors.clear()
    after = Sample.take()
    assert after.files <= before.files + 1  # an attempt may be under way
    assert after.watchers <= before.watchers + 1
    assert abs(after.blocks - before.blocks) < 200
    nats.disconnect()
    loop.start()


def refused(nats: Nats) -> None:
    with pytest.raises(ValueError):
        nats.publish("a b")


OPERATIONS = {
    "publish": lambda nats: nats.publish("life.a", b"x" * 100),
    "hpublish": lambda nats: nats.hpublish("life.a", {"A": "b"}, b"x"),
    "request": lambda nats: nats.request("life.echo", b"x", lambda *a: None),
    "request that times out": lambda nats: nats.request("life.a", b"x", lambda *a: None, 1),
    "subscribe": lambda nats: nats.unsubscribe(nats.subscribe("life.b", lambda *m: None)),
    "subscribe_max": lambda nats: (
        nats.subscribe_max("life.c", lambda *m: None, 1), nats.publish("life.c"),
    ),
    "flush": lambda nats: nats.flush(lambda error: None),
    "rtt": lambda nats: nats.rtt(lambda ms, error: None),
    "call_later": lambda nats: nats.call_later(1, lambda: None),
    "cancelled call_later": lambda nats: nats.call_later(1000, lambda: None).cancel(),
    "batch": lambda nats: nats.batch(lambda: nats.publish("life.a")),
    "a bad subject": lambda nats: refused(nats),
    "force_reconnect": lambda nats: nats.is_connected() and nats.force_reconnect(),
    "new_inbox": lambda nats: nats.new_inbox(),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_no_operation_leaves_memory_behind(connected, server, run, name):
    nats, operation = connected(server, reconnect=True, reconnect_delay=1), OPERATIONS[name]
    nats.subscribe("life.a", lambda *m: None)
    other = connected(server)
    # With headers, because of plain messages' subjects a few thousand are remembered.
    other.subscribe("life.echo", lambda s, p, reply, h: other.hpublish(reply, {"a": "b"}, p))
    nats.on_connect(None)

    def rounds(count: int) -> int:
        for _ in range(count):
            for _ in range(10):
                operation(nats)
            run(nats.is_connected)
            done: list[Any] = []
            nats.flush(done.append)
            run(lambda done=done: done)
        nats.recorder.events.clear()
        deadline = time.monotonic() + 5
        while inside.waiting_requests(nats) and time.monotonic() < deadline:
            run(lambda: not inside.waiting_requests(nats))
        gc.collect()
        return sys.getallocatedblocks()

    rounds(20)
    before = rounds(20)
    assert rounds(60) - before <= 100


def test_ever_new_subjects_do_not_pile_up(connected, server, run):
    nats = connected(server)

    def publish(first: int, count: int) -> None:
        for n in range(first, first + count):
            nats.publish(f"life.{n}.{'x' * 100}")
            if n % 1000 == 0:
                done: list[Any] = []
                nats.flush(done.append)
                run(lambda done=done: done)

    publish(0, 10_000)
    before = resident()
    publish(10_000, 100_000)
    # A few thousand of them are remembered for the case that they are used again.
    assert resident() - before < 4 * 1024 * 1024


LIVE_AT_EXIT = """
import sys
from nats_ev import Nats, pyev
how, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
loop = pyev.default_loop()
nats = Nats(host=host, port=port, reconnect=True, on_error=lambda error: None)
nats.subscribe(">", lambda *message: None)
def go():
    for n in range(1000):
        nats.publish("x", b"x" * 100)
    nats.request("x", b"", lambda *answer: None)
    nats.flush(lambda error: loop.stop() if how != "exit in a callback" else sys.exit(0))
if how == "connecting":
    loop.start(pyev.EVRUN_NOWAIT)
elif how == "waiting":
    nats.call_later(50, loop.stop)
    loop.start()
else:
    nats.on_connect(go)
    loop.start()
if how == "publishing":
    go()
if how == "no references":
    del nats
print("end")
"""


@pytest.mark.parametrize(
    "how",
    ["connected", "publishing", "connecting", "waiting", "no references", "exit in a callback"],
)
def test_the_interpreter_ends_silently_with_a_live_client(server, how):
    port = free_port() if how == "waiting" else server.port
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", LIVE_AT_EXIT, how, server.host]
    done = subprocess.run(
        [*command, str(port)], capture_output=True, text=True, timeout=30, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("" if how == "exit in a callback" else "end\n")


@pytest.mark.parametrize("busy", [False, True])
def test_an_interrupt_comes_out_of_the_loop_at_once_and_the_client_goes_on(
    connected, server, run, loop, busy
):
    nats, got, taken = connected(server), [], []
    stop = threading.Event()
    nats.subscribe("int", lambda s, p, *rest: (got.append(p), busy and nats.publish("int", p)))
    if busy:
        for _ in range(100):
            nats.publish("int", b"x" * 50)

    def interrupt() -> None:
        # Each once the loop is running again.
        while not stop.is_set():
            if running.wait(1) and not stop.is_set():
                running.clear()
                time.sleep(0.005)
                sent.append(time.monotonic())
                os.kill(os.getpid(), signal.SIGINT)

    running, sent = threading.Event(), []
    thread = threading.Thread(target=interrupt)
    thread.start()
    ticker = loop.timer(0.0, 0.001, lambda watcher, revents: None)
    try:
        for _ in range(20):
            watcher = loop.timer(0.001, 0.0, lambda watcher, revents: running.set())
            watcher.start()
            with pytest.raises(KeyboardInterrupt):
                loop.start()
            taken.append(time.monotonic() - sent[-1])
    finally:
        stop.set()
        running.set()
        thread.join()
        ticker.stop()
    assert sorted(taken)[len(taken) // 2] <= 0.1
    nats.unsubscribe(1)
    done: list[Any] = []
    nats.flush(done.append)
    run(lambda: done)
    assert done == [None]
    assert nats.recorder.errors == []


def test_a_storm_of_signals_disturbs_nothing(connected, server, run):
    nats, got, answers, signals = connected(server), [], [], []
    nats.subscribe("storm", lambda s, p, *rest: got.append(int(p)))
    nats.subscribe("storm.echo", lambda s, p, reply, h: nats.publish(reply, p))
    nats.subscribe("storm.silent", lambda *m: None)
    before = signal.signal(signal.SIGALRM, lambda number, frame: signals.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    start = time.monotonic()
    late: list[float] = []
    try:
        nats.request("storm.silent", b"", lambda *a: late.append(time.monotonic() - start), 400)
        for number in range(100):
            for n in range(number * 500, number * 500 + 500):
                nats.publish("storm", b"%d" % n)
            nats.request("storm.echo", b"%d" % number, lambda *a: answers.append(a[0]))
            done: list[Any] = []
            nats.flush(done.append)
            run(lambda done=done: done)
        run(lambda: late and len(answers) == 100)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(signals) > 100
    assert got == list(range(50_000))
    assert answers == [b"%d" % n for n in range(100)]
    assert late[0] >= 0.4
    assert nats.recorder.errors == []


def test_running_out_of_descriptors_is_survived(loop, server, run):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    errors: list[Any] = []
    options: dict[str, Any] = {"host": server.host, "port": server.port, "reconnect": True}
    options |= {"reconnect_delay": 20, "max_reconnect_delay": 20, "max_reconnect_attempts": 0}
    nats = Nats(loop=loop, on_error=errors.append, **options)
    run(nats.is_connected)
    spare: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors() + 10, hard))
    try:
        while True:
            try:
                spare.append(os.dup(0))
            except OSError:
                break
        # The connection's own descriptor is free for a moment and taken by somebody else.
        nats.force_reconnect()
        spare.append(os.dup(0))
        run(lambda: len(errors) >= 3)
        assert {words(error) for error in errors} == {"Too many open files"}
        assert nats.status() == "RECONNECTING"
    finally:
        for fd in spare:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    run(nats.is_connected)
    nats.disconnect()
    loop.start()


def test_call_later_says_when_the_client_ends_before(server, connected, run):
    nats = connected(server)
    log: list[str] = []
    due = nats.call_later(1, log.append, "due", ended=lambda: log.append("never"))
    assert due.waiting
    assert repr(due).startswith("<Deadline in ") or repr(due).startswith("<Wait in ")
    run(lambda: log == ["due"])
    assert not due.waiting

    nats.call_later(60_000, log.append, "never", ended=lambda: log.append("ended"))
    nats.call_later(60_000, log.append, "never")
    nats.call_later(60_000, log.append, "never", ended=lambda: log.append("never")).cancel()
    nats.request("nobody.answers", b"", lambda *result: log.append("request"), 60_000)
    cancelled = nats.call_later(60_000, log.append, "never", ended=lambda: log.append("never"))
    nats.on_disconnect(lambda: log.append("disconnected"))
    nats.disconnect()
    cancelled.cancel()
    run(lambda: "disconnected" in log)
    assert log == ["due", "ended", "request", "disconnected"]

    nats.call_later(0, log.append, "never", ended=lambda: log.append("ended already"))
    run(lambda: log[-1] == "ended already")
    with pytest.raises(TypeError, match="ended must be callable"):
        nats.call_later(0, print, ended=3)
