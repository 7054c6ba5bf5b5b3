"""Loops by their address: a host's loop is driven and never destroyed, and ours can be given away."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import textwrap

import pytest

from lab.inside import needs_shared_libev
from nats_ev import pyev

PRELUDE = """
import gc, os, signal, sys, threading
from ctypes import CDLL, c_int, c_uint, c_void_p
from ctypes.util import find_library
from nats_ev import Nats, pyev
libev = CDLL(find_library("ev"))
libev.ev_loop_new.restype = libev.ev_default_loop.restype = c_void_p
libev.ev_loop_new.argtypes = libev.ev_default_loop.argtypes = [c_uint]
libev.ev_run.argtypes = [c_void_p, c_int]
libev.ev_loop_destroy.argtypes = libev.ev_verify.argtypes = [c_void_p]
host = libev.ev_loop_new(0)
loop = pyev.Loop.from_address(host)
"""


def program(code: str, *args: str) -> str:
    """Return what a program prints; the program must succeed and say nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), *args],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@needs_shared_libev
def test_a_hosts_loop_is_run_by_the_host_or_by_us_and_outlives_our_object() -> None:
    code = """
    order = []
    loop.timer(0.0, 0.0, lambda w, r: order.append("host")).start()
    libev.ev_run(host, 0)
    loop.timer(0.0, 0.0, lambda w, r: order.append("start")).start()
    print(loop.start(), loop.address == host, loop.default, "borrowed" in repr(loop))
    again = pyev.Loop.from_address(host)
    again.timer(0.0, 0.0, lambda w, r: order.append("again")).start()
    loop.timer(60.0, 0.0, print).start()
    del loop, again
    gc.collect()
    libev.ev_verify(host)
    last = pyev.Loop.from_address(host)
    last.timer(0.0, 0.0, lambda w, r: order.append("last")).start()
    libev.ev_run(host, 0)
    del last
    gc.collect()
    libev.ev_loop_destroy(host)
    print(order)
    """
    assert program(code) == "False True False True\n['host', 'start', 'last']"


@needs_shared_libev
def test_the_default_loop_has_an_address_too() -> None:
    code = """
    default = pyev.default_loop()
    other = pyev.Loop.from_address(default.address)
    print(other.default, default.address == libev.ev_default_loop(0))
    got = []
    watcher = other.signal(signal.SIGUSR1, lambda w, r: got.append(r))
    watcher.start()
    second = default.signal(signal.SIGUSR1, lambda w, r: got.append(r))
    second.start()
    os.kill(os.getpid(), signal.SIGUSR1)
    default.start(pyev.EVRUN_ONCE)
    print(got == [pyev.EV_SIGNAL] * 2)
    """
    assert program(code) == "True True\nTrue"


def test_a_borrowed_loop_takes_no_callback_and_bad_addresses_are_refused() -> None:
    own = pyev.Loop()
    loop = pyev.Loop.from_address(own.address)
    with pytest.raises(pyev.Error, match="borrowed"):
        loop.callback = print
    for wrong in (0, -1, 1 << 64):
        with pytest.raises(ValueError):
            pyev.Loop.from_address(wrong)
    with pytest.raises(TypeError):
        pyev.Loop.from_address("loop")  # type: ignore[arg-type]


@needs_shared_libev
def test_a_loop_that_another_binding_has_claimed_is_not_started() -> None:
    code = """
    libev.ev_set_userdata.argtypes = [c_void_p, c_void_p]
    libev.ev_set_userdata(host, 1)
    try:
        loop.start()
    except pyev.Error as exc:
        print(exc)
    """
    expected = "the loop at that address belongs to another binding in this process: start it there"
    assert program(code) == expected


@needs_shared_libev
def test_a_client_on_a_hosts_loop_loses_nothing_in_a_storm_of_interrupts(server) -> None:
    # With Python's own handler KeyboardInterrupt strikes inside the client: the host, not our `start`,
    # runs the loop. So the guide says to watch SIGINT.
    code = """
    import time
    TOTAL = 20000
    got, interrupts = [], []
    nats = Nats(servers=[sys.argv[1]], loop=loop)
    def on_message(subject, payload, reply, headers):
        got.append(int(payload))
        if len(got) == TOTAL:
            stop.append(1)
            thread.join()
            watcher.stop()
            nats.drain()
    watcher = loop.signal(signal.SIGINT, lambda w, r: interrupts.append(r))
    watcher.start()
    nats.subscribe("storm", on_message)
    sent, stop = [0], []
    def publish(w, r):
        for number in range(sent[0], min(sent[0] + 500, TOTAL)):
            nats.publish("storm", b"%d" % number)
        sent[0] += 500
        if sent[0] >= TOTAL:
            w.stop()
    loop.timer(0.0, 0.001, publish).start()
    def blow():
        while not stop:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.0005)
    thread = threading.Thread(target=blow)
    def begin(w, r):
        thread.start()
    loop.timer(0.0, 0.0, begin).start()
    libev.ev_run(host, 0)
    print(got == list(range(TOTAL)), len(interrupts) > 10)
    """
    assert program(code, server.url) == "True True"


def test_what_is_no_loop_of_this_libev_is_refused() -> None:
    junk = ctypes.create_string_buffer(b"\xff" * 4096, 4096)
    for address in (ctypes.addressof(junk), pyev.Loop().address + 1):
        with pytest.raises(ValueError, match="no loop of this libev"):
            pyev.Loop.from_address(address)


@needs_shared_libev
def test_a_host_may_run_its_loop_inside_a_callback_of_ours() -> None:
    # ctypes releases the interpreter's lock around ev_run, and takes it back afterwards.
    code = """
    seen = []
    def in_host(w, r):
        seen.append([str(number) for number in range(100)])
    def in_ours(w, r):
        timers = [loop.timer(0.0, 0.0, in_host) for _ in range(50)]
        for timer in timers:
            timer.start()
        libev.ev_run(host, 0)
        seen.append(len(seen))
    ours = pyev.Loop()
    timer = ours.timer(0.0, 0.0, in_ours)
    timer.start()
    ours.start()
    print(seen[-1])
    """
    assert program(code) == "50"


@needs_shared_libev
def test_an_exception_that_would_come_out_of_start_ends_the_hosts_run_and_is_kept() -> None:
    code = """
    hooked = []
    sys.excepthook = lambda kind, exc, traceback: hooked.append(repr(exc))
    def fail(w, r):
        raise w.data
    def run(*errors):
        for number, error in enumerate(errors):
            loop.timer(0.01 * number ** 12, 0.0, fail, error).start()
        libev.ev_run(host, 0)
        return hooked.copy(), hooked.clear(), repr(loop.stopped_by)
    print(run(ValueError(1), SystemExit(2), ValueError(3)))
    print(run(KeyboardInterrupt()), loop.thread)
    loop.debug = True
    print(run(ValueError(4)))
    watcher = loop.timer(1.0, 0.0, fail, ZeroDivisionError())
    try:
        watcher.start(), watcher.feed(pyev.EV_TIMER), loop.start()
    except ZeroDivisionError:
        print("raised", loop.stopped_by)
    libev.ev_run(host, pyev.EVRUN_NOWAIT)
    """
    assert program(code).splitlines() == [
        "(['ValueError(1)', 'SystemExit(2)'], None, 'SystemExit(2)')",
        "(['KeyboardInterrupt()'], None, 'KeyboardInterrupt()') None",
        "(['ValueError(4)'], None, 'ValueError(4)')",
        "raised None",
    ]


@needs_shared_libev
def test_the_owner_may_destroy_the_loop_while_watchers_and_a_client_live(server) -> None:
    code = """
    nats = Nats(servers=[sys.argv[1]], loop=loop)
    ready = []
    nats.flush(lambda err: (ready.append(err), loop.stop()))
    libev.ev_run(host, 0)
    kinds = [loop.timer(9.0, 9.0, print), loop.idle(print), loop.prepare(print), loop.check(print),
             loop.io(0, pyev.EV_READ, print), loop.signal(signal.SIGUSR2, print), loop.async_(print),
             loop.periodic(0.0, 9.0, print), loop.fork(print)]
    for watcher in kinds:
        watcher.start()
    kinds[0].feed(pyev.EV_TIMER)
    thrown_away = loop.timer(9.0, 9.0, print)
    thrown_away.start()
    libev.ev_loop_destroy(host)
    print(ready, [w for w in kinds if w.active or w.pending], "destroyed" in repr(loop), loop.thread)
    print(signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL)
    for call in (loop.start, kinds[0].start, kinds[4].start, lambda: loop.address):
        try:
            call()
        except pyev.Error as exc:
            print(exc)
    kinds[6].send()
    for watcher in kinds:
        watcher.stop()
    kinds[0].reset(), kinds[7].reset(), kinds[0].feed(pyev.EV_TIMER), loop.update(), loop.now()
    loop.verify(), loop.stop(), loop.reset(), kinds[0].clear()
    nats.disconnect()
    del kinds, nats, watcher, thrown_away
    gc.collect()
    loop.verify()
    """
    gone = "the loop is gone: its owner has destroyed it"
    expected = ["[None] [] True None", "True", *[gone] * 4]
    assert program(code, server.url).splitlines() == expected


@needs_shared_libev
def test_the_default_loop_may_be_destroyed_by_its_owner_too_and_made_again() -> None:
    code = """
    default = pyev.default_loop()
    default.timer(9.0, 9.0, print).start()
    default.child(0, False, print).start()
    libev.ev_loop_destroy(default.address)
    again = pyev.default_loop()
    print(again is default, again.default)
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    again.child(pid, False, lambda w, r: (print(os.waitstatus_to_exitcode(w.rstatus)), w.stop())).start()
    again.start()
    """
    assert program(code) == "False True\n7"


@needs_shared_libev
def test_nothing_of_ours_stays_in_the_hosts_loop() -> None:
    # The struct itself is compared: user data, hooks, counts of watchers.
    code = """
    from ctypes import string_at
    libev.ev_userdata.restype = c_void_p
    libev.ev_userdata.argtypes = libev.ev_pending_count.argtypes = [c_void_p]
    other = pyev.Loop.from_address(host)
    watcher = other.timer(0.0, 0.0, lambda w, r: None)
    watcher.start()
    other.start()
    del watcher, other, loop
    gc.collect()
    print(libev.ev_userdata(host), libev.ev_pending_count(host), libev.ev_run(host, 0))
    libev.ev_loop_destroy(host)
    """
    assert program(code) == "None 0 0"


@needs_shared_libev
def test_a_client_refuses_other_threads_while_a_host_runs_its_loop(server) -> None:
    code = """
    nats = Nats(servers=[sys.argv[1]], loop=loop)
    said = []
    def elsewhere():
        for call in (nats.disconnect, loop.start):
            try:
                call()
            except (RuntimeError, pyev.Error) as exc:
                said.append(str(exc))
        wake.send()
    wake = loop.async_(lambda w, r: (nats.drain(), w.stop()))
    wake.start()
    thread = threading.Thread(target=elsewhere)
    nats.on_connect(lambda: thread.start())
    libev.ev_run(host, 0)
    thread.join()
    print(*said, sep="\\n")
    threading.Thread(target=loop.start).start()  # nobody runs the loop any more
    """
    first, second = program(code, server.url).splitlines()
    assert first.startswith("the client was called in another thread")
    assert second == "the loop is already running in another thread"


@needs_shared_libev
def test_the_child_of_a_fork_runs_the_hosts_loop_after_reset(server) -> None:
    code = """
    answerer = Nats(servers=[sys.argv[1]], loop=loop)
    def answer(subject, payload, reply, headers):
        answerer.publish(reply, payload.upper())
        answerer.drain()
    def fork(err):
        if os.fork() == 0:
            loop.reset()
            nats = Nats(servers=[sys.argv[1]], loop=loop)
            nats.request("parent", "from the child", lambda *answer: (nats.drain(), lived.append(answer[0])))
    lived = []
    answerer.subscribe("parent", answer)
    answerer.flush(fork)
    pid = os.getpid()
    libev.ev_run(host, 0)
    if os.getpid() != pid:
        os._exit(0 if lived == [b"FROM THE CHILD"] else 1)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
    """
    assert program(code, server.url) == "0"


@needs_shared_libev
def test_what_is_pending_when_the_hosts_run_ends_comes_with_the_next_run() -> None:
    code = """
    sys.excepthook = lambda kind, exc, traceback: got.append(kind.__name__)
    got, kept = [], []
    def fail(watcher, revents):
        raise KeyboardInterrupt
    def feed(watcher, revents):
        kept[:] = [loop.async_(lambda w, r, n=n: got.append(n)) for n in "abc"]
        kept.append(loop.async_(fail, priority=2))
        for one in kept[:]:
            one.feed(pyev.EV_CUSTOM)
    def run(by=lambda: libev.ev_run(host, pyev.EVRUN_NOWAIT)):
        got.clear()
        by()
        return " ".join(got)
    def interrupted():
        starter.start()
        return run()
    starter = loop.timer(0.0, 0.0, feed)
    def fed():
        feed(None, 0)
        return run()
    print(interrupted(), "|", run(), "|", run())
    print(fed(), "|", run(), "|", run())  # pending before the run
    print(interrupted(), "|", kept[1].stop(), run())
    print(interrupted(), "|", run(lambda: loop.start(pyev.EVRUN_NOWAIT)))
    print(interrupted(), "|", interrupted(), "|", run())
    interrupted()
    kept.clear()
    gc.collect()
    print(run())
    interrupted()
    libev.ev_loop_destroy(host)
    del kept, starter, loop
    gc.collect()
    """
    # libev delivers the newest event first.
    assert program(code).splitlines() == [
        "KeyboardInterrupt | c b a | ",
        "KeyboardInterrupt | c b a | ",
        "KeyboardInterrupt | None c a",
        "KeyboardInterrupt | c b a",
        "KeyboardInterrupt | c b a KeyboardInterrupt | c b a",
        "c b a",
    ]


@needs_shared_libev
def test_a_host_may_run_its_loop_in_any_thread(server) -> None:
    code = """
    from time import sleep
    nats = Nats(servers=[sys.argv[1]], loop=loop)
    nats.subscribe("a", lambda *message: (got.append(threading.get_ident()), nats.drain()))
    got, ready = [], threading.Event()
    nats.on_connect(ready.set)
    thread = threading.Thread(target=libev.ev_run, args=(host, 0))
    wake = loop.async_(lambda w, r: (nats.publish("a", "x"), w.stop()))
    wake.start()
    thread.start()
    ready.wait(10)
    print(loop.thread == thread.ident)
    try:
        nats.flush(print)
    except RuntimeError as exc:
        print(exc)
    wake.send()
    thread.join()
    print(got == [thread.ident], loop.thread)
    """
    first, refused, last = program(code, server.url).splitlines()
    assert (first, last) == ("True", "True None")
    assert refused.startswith("the client was called in another thread")
