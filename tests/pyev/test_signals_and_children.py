"""Signals and child processes: the loop leaves both to the program, except while a watcher is active."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from lab.inside import needs_shared_libev
from lab.process import unmeasured

PRELUDE = """
import os, signal, subprocess, sys
from nats_ev import pyev
def turn(seconds=0.05):
    timer = loop.timer(seconds, 0.0, lambda w, r: loop.stop())
    timer.start()
    loop.start()
def ended(code):
    pid = os.fork()
    if pid == 0:
        os._exit(code)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid
"""


def program(code: str) -> list[str]:
    """Return the lines that a program prints; the program must succeed and say nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env=unmeasured(),  # coverage would write a file in a child without a free descriptor
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize("flags", ["0", "pyev.EVFLAG_SIGNALFD", "pyev.EVFLAG_NOSIGMASK"])
def test_without_a_child_watcher_programs_wait_for_their_children_themselves(flags: str) -> None:
    code = f"""
    import multiprocessing
    signals = []
    signal.signal(signal.SIGCHLD, lambda *args: signals.append(1))
    loop = pyev.default_loop({flags})
    popen = subprocess.Popen(["sh", "-c", "exit 3"])
    child = multiprocessing.get_context("fork").Process(target=lambda: os._exit(4))
    child.start()
    pid = ended(5)
    turn()
    print(popen.wait())
    child.join(5)
    print(child.exitcode, child.is_alive())
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    print(bool(signals), signal.pthread_sigmask(signal.SIG_BLOCK, []))
    """
    assert program(code) == ["3", "4 False", "5", "True set()"]


@pytest.mark.parametrize("flags", ["0", "pyev.EVFLAG_SIGNALFD"])
def test_a_child_watcher_takes_sigchld_and_its_stop_gives_the_signal_back(flags: str) -> None:
    code = f"""
    signals, got = [], []
    signal.signal(signal.SIGCHLD, lambda *args: signals.append(1))
    loop = pyev.default_loop({flags})
    def note(watcher, revents):
        got.append((watcher.rpid == watcher.pid, os.waitstatus_to_exitcode(watcher.rstatus)))
        watcher.stop()
        if not any(w.active for w in watchers):
            loop.stop()
    for _ in range(2):
        early = ended(6)  # has ended before anything watches
        late = os.fork()
        if late == 0:
            os._exit(7)
        watchers = [loop.child(pid, False, note) for pid in (early, late)]
        signals.clear()
        for watcher in watchers:
            watcher.start()
        assert loop.pending == 0
        loop.start()
        print(sorted(got))
        got.clear()
        pid = ended(8)
        turn()
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), bool(signals))
    """
    assert program(code) == ["[(True, 6), (True, 7)]", "8 True"] * 2


def test_an_idle_loop_with_a_stopped_child_watcher_ends_by_itself() -> None:
    code = """
    loop = pyev.default_loop()
    for _ in range(3):
        watcher = loop.child(0, False, lambda w, r: None)
        watcher.start()
        watcher.stop()
        print(loop.start())
    """
    assert program(code) == ["False"] * 3


def test_a_watcher_of_sigchld_reaps_nothing() -> None:
    code = """
    loop = pyev.default_loop()
    seen = []
    watcher = loop.signal(signal.SIGCHLD, lambda w, r: seen.append(1))
    watcher.start()
    pid = ended(9)
    turn()
    print(len(seen), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    assert program(code) == ["1 9"]


@needs_shared_libev
def test_a_default_loop_of_another_binding_keeps_its_child_watchers() -> None:
    code = """
    from ctypes import CDLL, c_void_p
    from ctypes.util import find_library
    libev = CDLL(find_library("ev"))
    libev.ev_default_loop.restype = c_void_p
    libev.ev_default_loop(0)
    loop = pyev.default_loop()
    got = []
    for _ in range(2):
        watcher = loop.child(ended(3), False, lambda w, r: (got.append(w.rpid == w.pid), w.stop()))
        watcher.start()
        turn()
    print(got, loop.start())
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        print("reaped")
    """
    assert program(code) == ["[True, True] False", "reaped"]


def test_a_handler_that_is_set_while_a_signal_is_watched_outlives_the_watcher() -> None:
    code = """
    for flags in (0, pyev.EVFLAG_SIGNALFD):
        loop = pyev.Loop(flags)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        watcher = loop.signal(signal.SIGUSR1, print)
        watcher.start()
        signal.signal(signal.SIGUSR1, lambda *args: print("handled"))
        watcher.stop()
        os.kill(os.getpid(), signal.SIGUSR1)
    """
    assert program(code) == ["handled"] * 2


def test_a_deferred_interrupt_comes_out_of_start_once_and_never_again() -> None:
    # Rounds in which the thread that repeats a deferred interrupt meets the end of `start`.
    code = """
    import time
    from nats_ev.pyev import _interrupts
    def run(flags):
        _interrupts.pending = True
        _interrupts._thread.start_new_thread(_interrupts._remind, ())
        end = time.perf_counter() + flags / 1e5
        while time.perf_counter() < end:
            pass
        _interrupts.pending = True
        return 0
    came, stray = 0, 0
    for delay in range(0, 200):
        try:
            _interrupts.run_deferring(run, delay)
        except KeyboardInterrupt:
            came += 1
        try:
            end = time.perf_counter() + 0.003
            while time.perf_counter() < end:
                pass
        except KeyboardInterrupt:
            stray += 1
    print(came, stray)
    """
    assert program(code) == ["200 0"]


def test_an_interrupt_without_a_thread_to_repeat_it_comes_at_the_end_of_the_event() -> None:
    code = """
    import nats_ev.headers
    from nats_ev.pyev import _interrupts
    def no_thread(*args):
        raise RuntimeError("can't start new thread")
    _interrupts.start_new_thread = no_thread
    loop = pyev.Loop()
    done = []
    def inside(watcher, revents):  # as if it were of the package: the interrupt must not strike there
        os.kill(os.getpid(), signal.SIGINT)
        done.append(1)
    inside = type(inside)(inside.__code__, {**globals(), "__name__": "nats_ev.client.x"}, "inside", None,
                          inside.__closure__)
    loop.timer(0.0, 0.0, inside).start()
    try:
        loop.start()
    except BaseException as exc:
        print(type(exc).__name__)
    print(done)
    """
    assert program(code) == ["KeyboardInterrupt", "[1]"]


def test_the_child_of_a_fork_has_no_part_in_the_parents_deferred_interrupt() -> None:
    code = """
    from nats_ev.pyev import _interrupts
    _interrupts.pending = _interrupts._reminding = True
    _interrupts._lock.acquire()  # as the parent's thread may at that moment
    pid = os.fork()
    if not pid:
        signal.alarm(5)
        loop = pyev.Loop()
        loop.timer(0.0, 0.0, lambda watcher, revents: print("fired", flush=True)).start()
        loop.start()
        print(_interrupts.pending, _interrupts._reminding, flush=True)
        os._exit(0)
    print(os.waitpid(pid, 0)[1])
    """
    assert program(code) == ["fired", "False False", "0"]


def test_a_child_without_a_free_descriptor_still_gets_a_wakeup_pipe_of_its_own() -> None:
    code = """
    import resource
    from nats_ev.pyev import _glue
    loop = pyev.Loop()
    loop.timer(0.0, 0.0, lambda watcher, revents: None).start()
    loop.start()
    reader, writer = (end.fileno() for end in _glue._wakeup._pair)
    before = {os.fstat(fd).st_ino for fd in (reader, writer)}
    highest = max(map(int, os.listdir("/proc/self/fd")))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, most))
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        pass
    pid = os.fork()
    if not pid:
        os.write(writer, b"x")
        print(os.read(reader, 9), before.isdisjoint({os.fstat(fd).st_ino for fd in (reader, writer)}),
              os.get_blocking(reader), os.get_inheritable(writer), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    """
    assert program(code) == ["b'x' True False False"]
