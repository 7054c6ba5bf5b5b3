"""`call_threadsafe`: any thread and any signal handler may hand a call to the loop."""

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

from lab.steps import flushed
from nats_ev import Nats, NotConnectedError, pyev
from nats_ev.testing import free_port


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def start(*bodies: Any) -> list[threading.Thread]:
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in threads:
        thread.start()
    return threads


def test_the_calls_of_each_thread_come_in_order_and_on_the_loop(connected, server, run):
    nats, got, here = connected(server), [], threading.get_ident()

    def note(number: int, index: int) -> None:
        assert threading.get_ident() == here
        got.append((number, index))

    def work(number: int) -> None:
        for index in range(2000):
            nats.call_threadsafe(note, number, index)

    threads = start(*(lambda number=number: work(number) for number in range(4)))
    run(lambda: len(got) == 8000)
    join(threads)
    for number in range(4):
        assert [index for one, index in got if one == number] == list(range(2000))


def test_an_idle_loop_is_woken_at_once_each_time(connected, server, run):
    nats, got = connected(server), []
    flushed(nats, run)

    def work() -> None:
        for number in range(200):
            nats.call_threadsafe(got.append, number)
            deadline = time.monotonic() + 10
            while len(got) <= number and time.monotonic() < deadline:
                time.sleep(0)

    began = time.monotonic()
    threads = start(work)
    run(lambda: len(got) == 200)
    join(threads)
    assert time.monotonic() - began < 10


def test_calls_wait_for_the_first_run_of_the_loop(client, server, run):
    nats, got = client(server), []
    nats.call_threadsafe(got.append, 1)
    join(start(lambda: nats.call_threadsafe(got.append, 2)))
    assert got == []
    run(lambda: len(got) == 2)
    assert got == [1, 2]


@pytest.mark.parametrize("state", ["never connected", "disconnected", "drained", "gave up"])
def test_without_a_connection_and_none_coming_a_call_is_refused(client, server, run, state):
    nats, got = client(), []
    if state == "gave up":
        nats.connect("127.0.0.1", free_port())
        run(lambda: nats.recorder.errors)
    elif state != "never connected":
        nats.connect(server.host, server.port)
        run(nats.is_connected)
        nats.disconnect() if state == "disconnected" else nats.drain()
        run(lambda: "disconnect" in nats.recorder.events)
    with pytest.raises(NotConnectedError):
        nats.call_threadsafe(got.append, 1)
    with pytest.raises(TypeError):
        nats.call_threadsafe(None)
    nats.connect(server.host, server.port)
    nats.call_threadsafe(got.append, 2)
    run(lambda: got)
    assert got == [2]


def test_what_was_taken_before_the_end_is_called_after_on_disconnect(connected, server, run):
    nats = connected(server)
    nats.call_threadsafe(nats.recorder.events.append, "called")
    nats.disconnect()
    run(lambda: "called" in nats.recorder.events)
    assert nats.recorder.events == ["connect", "disconnect", "called"]


def test_every_call_that_was_not_refused_is_made_once_while_the_client_comes_and_goes(
    client, server, run
):
    nats, made, taken, stopped = client(server), [], [], threading.Event()

    def work(number: int) -> None:
        index = 0
        while not stopped.is_set():
            index += 1
            try:
                nats.call_threadsafe(made.append, (number, index))
            except NotConnectedError:
                time.sleep(0)
            else:
                taken.append((number, index))
            if index % 50 == 0:
                time.sleep(0.001)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = start(*(lambda number=number: work(number) for number in range(3)))
    try:
        for _ in range(60):
            run(nats.is_connected)
            nats.disconnect()
            run(lambda: not nats.is_connected() and nats.recorder.events[-1] == "disconnect")
            nats.connect(server.host, server.port)
    finally:
        stopped.set()
        sys.setswitchinterval(before)
        join(threads)
    run(lambda: len(made) >= len(taken))
    assert sorted(made) == sorted(taken)


def test_exceptions_go_to_the_excepthook_and_the_other_calls_follow(
    connected, server, run, excepthook
):
    nats, got = connected(server), []

    def fails() -> None:
        raise ValueError("mine")

    def work() -> None:
        nats.call_threadsafe(fails)
        nats.call_threadsafe(got.append, 1)

    join(start(work))
    run(lambda: got)
    assert [str(error) for error in excepthook] == ["mine"]


def test_an_interrupt_stops_the_loop_and_the_other_calls_follow_later(connected, server, run):
    nats, got = connected(server), []

    def stops() -> None:
        raise KeyboardInterrupt

    nats.call_threadsafe(stops)
    nats.call_threadsafe(got.append, 1)
    with pytest.raises(KeyboardInterrupt):
        run(lambda: got)
    run(lambda: got)
    assert got == [1]


def test_a_call_may_run_the_loop_which_makes_the_next_ones(connected, server, run):
    nats, got = connected(server), []

    def nested() -> None:
        nats.call_threadsafe(got.append, "third")
        run(lambda: len(got) == 2)
        got.append("nested ended")

    nats.call_threadsafe(nested)
    nats.call_threadsafe(got.append, "second")
    run(lambda: len(got) == 3)
    assert got == ["second", "third", "nested ended"]


def test_a_call_that_calls_again_lets_other_watchers_run(connected, server, run, loop):
    nats, ticks, count = connected(server), [], [0]

    def again() -> None:
        count[0] += 1
        if len(ticks) < 3:
            nats.call_threadsafe(again)

    nats.call_threadsafe(again)
    timer = loop.timer(0.001, 0.001, lambda *_: ticks.append(1))
    timer.start()
    run(lambda: len(ticks) >= 3)
    timer.stop()
    assert count[0] > 3


def test_a_signal_handler_may_call_while_the_loop_waits_and_while_it_works(connected, server, run):
    nats, got, sent = connected(server), [], [0]
    before = signal.signal(signal.SIGUSR1, lambda *_: nats.call_threadsafe(got.append, len(got)))

    def work() -> None:
        for _ in range(300):
            known = len(got)
            os.kill(os.getpid(), signal.SIGUSR1)
            sent[0] += 1
            deadline = time.monotonic() + 10
            while len(got) == known and time.monotonic() < deadline:
                time.sleep(0)

    try:
        threads = start(work)
        run(lambda: len(got) == 300)
        join(threads)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(got) == sent[0] == 300


def test_a_forked_child_is_refused_and_makes_none_of_the_parents_calls(server):
    """In a program of its own: the child of a fork must not run the tests' fixtures."""
    code = f"""
import os
from nats_ev import Nats, NotConnectedError, pyev
nats = Nats(host={server.host!r}, port={server.port})
loop = pyev.default_loop()
got = []
nats.call_threadsafe(lambda: (got.append(os.getpid()), nats.disconnect()))
pid = os.fork()
if not pid:
    loop.reset()
    try:
        nats.call_threadsafe(print)
    except NotConnectedError as exc:
        assert "parent" in str(exc), exc
        loop.start()
        os._exit(7 if not got else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
loop.start()
assert got == [os.getpid()]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_ended_client_is_released_and_its_loop_ends(server):
    loop = pyev.Loop()
    nats = Nats(loop=loop, host=server.host, port=server.port)
    nats.call_threadsafe(nats.disconnect)
    loop.start()  # ends: nothing of the client keeps it
    gone = weakref.ref(nats)
    del nats
    gc.collect()
    assert gone() is None


def test_without_a_descriptor_to_wake_the_loop_with_calls_wait_for_one(server):
    """libev would end the process; the client reports what it can't open, and goes on."""
    code = f"""
import encodings.idna, os, random, resource, socket, threading
from nats_ev import Nats, pyev
loop = pyev.Loop()
loop.timer(0.001, 0.0, lambda *_: None).start()
loop.start()  # opens what Python needs
pyev.Loop()
limit = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (60, limit[1]))
spare = []
while True:
    try:
        spare.append(os.dup(0))
    except OSError:
        break
errors, got = [], []
Nats(host="localhost", loop=loop, on_error=errors.append)
loop.start()
assert "no descriptor" in str(errors.pop()), errors
options = dict(reconnect=True, reconnect_delay=5, max_reconnect_attempts=0, on_error=errors.append)
nats = Nats(host={server.host!r}, port={server.port}, loop=loop, **options)
threading.Thread(target=nats.call_threadsafe, args=(got.append, 1)).start()
def give_back(watcher, revents):
    assert str(errors[0]).endswith(": Too many open files")
    assert got == []
    while spare:
        os.close(spare.pop())
loop.timer(0.05, 0.0, give_back).start()
nats.on_connect(lambda: nats.call_threadsafe(nats.drain))
loop.start()
assert got == [1], got
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
