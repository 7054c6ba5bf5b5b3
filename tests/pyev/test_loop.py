"""nats_ev.pyev: the module and its loops. Watchers by kind are in test_pyev_watchers.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest

from lab.inside import needs_shared_libev
from lab.steps import ignore
from nats_ev import pyev

CONSTANTS = """
EV_UNDEF EV_NONE EV_READ EV_WRITE EV_IO EV_TIMER EV_PERIODIC EV_SIGNAL EV_CHILD EV_STAT EV_IDLE
EV_PREPARE EV_CHECK EV_EMBED EV_FORK EV_CLEANUP EV_ASYNC EV_CUSTOM EV_ERROR EV_MINPRI EV_MAXPRI
EVRUN_NOWAIT EVRUN_ONCE EVBREAK_CANCEL EVBREAK_ONE EVBREAK_ALL EVFLAG_AUTO EVFLAG_NOENV
EVFLAG_FORKCHECK EVFLAG_NOINOTIFY EVFLAG_SIGNALFD EVFLAG_NOSIGMASK EVFLAG_NOTIMERFD
EVBACKEND_SELECT EVBACKEND_POLL EVBACKEND_EPOLL EVBACKEND_KQUEUE EVBACKEND_DEVPOLL EVBACKEND_PORT
EVBACKEND_LINUXAIO EVBACKEND_IOURING EVBACKEND_ALL EVBACKEND_MASK
"""


def script(code: str, *, timeout: float = 20.0) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in an interpreter of its own, for what concerns a whole process."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.mark.parametrize("name", CONSTANTS.split())
def test_every_constant_is_an_int_and_exported(name: str) -> None:
    assert isinstance(getattr(pyev, name), int)
    assert name in pyev.__all__


def test_the_bits_that_programs_write_down_have_libevs_values() -> None:
    assert (pyev.EV_READ, pyev.EV_WRITE, pyev.EV_TIMER) == (1, 2, 0x100)
    assert (pyev.EVRUN_NOWAIT, pyev.EVRUN_ONCE) == (1, 2)
    assert (pyev.EV_MINPRI, pyev.EV_MAXPRI) == (-2, 2)


def test_the_module_tells_versions_backends_and_time() -> None:
    interface, libev = pyev.version()
    assert interface.startswith("0.9")
    assert libev == "{}.{}".format(*pyev.abi_version())
    assert pyev.recommended_backends() & pyev.supported_backends() == pyev.recommended_backends()
    assert pyev.embeddable_backends() >= 0
    assert abs(pyev.time() - time.time()) < 5.0
    with pytest.raises(ValueError):
        pyev.sleep(-1.0)


def test_sleep_lets_other_threads_run() -> None:
    ran = threading.Event()
    thread = threading.Thread(target=ran.set)
    started = time.monotonic()
    thread.start()
    pyev.sleep(0.02)
    assert time.monotonic() - started >= 0.015
    assert ran.is_set()
    thread.join()


def test_start_without_watchers_returns_false_at_once(loop: pyev.Loop) -> None:
    assert loop.start() is False


def test_start_tells_whether_watchers_remain(loop: pyev.Loop) -> None:
    timer = loop.timer(0.0, 60.0, lambda watcher, revents: loop.stop())
    timer.start()
    assert loop.start() is True
    timer.stop()
    assert loop.start() is False


def test_nowait_does_not_block_and_once_waits_for_one_event(loop: pyev.Loop) -> None:
    fired: list[int] = []
    timer = loop.timer(0.05, 0.05, lambda watcher, revents: fired.append(revents))
    timer.start()
    loop.start(pyev.EVRUN_NOWAIT)
    assert fired == []
    loop.start(pyev.EVRUN_ONCE)
    assert fired == [pyev.EV_TIMER]


def test_nested_starts_count_depth_and_stop_one_or_all(loop: pyev.Loop) -> None:
    trail: list[Any] = []

    def outer(watcher: Any, revents: int) -> None:
        trail.append(("outer", loop.depth))
        inner = loop.timer(
            0.0, 0.0, lambda w, r: (trail.append(("inner", loop.depth)), loop.stop())
        )
        inner.start()
        loop.start()
        trail.append(("back", loop.depth))
        if len(trail) > 3:
            last = loop.timer(0.0, 0.0, lambda w, r: loop.stop(pyev.EVBREAK_ALL))
            last.start()
            loop.start()
            trail.append("still in the callback")
        else:
            watcher.start()  # not one that repeats, which could also expire in a nested run

    timer = loop.timer(0.0, 0.0, outer)
    timer.start()
    loop.start()
    assert trail == [
        *[("outer", 1), ("inner", 2), ("back", 1)],
        *[("outer", 1), ("inner", 2), ("back", 1), "still in the callback"],
    ]
    assert loop.depth == 0


def test_a_loop_runs_inside_a_callback_of_another(loop: pyev.Loop) -> None:
    other = pyev.Loop()
    order: list[str] = []

    def nest(watcher: Any, revents: int) -> None:
        order.append("in")
        inner.start()
        other.start()
        order.append("out")

    inner = other.timer(0.01, 0.0, lambda watcher, revents: order.append("other"))
    # From the prepare phase, which is where the interpreter lock changes hands.
    prepare = loop.prepare(nest)
    prepare.start()
    loop.start(pyev.EVRUN_NOWAIT)
    assert order == ["in", "other", "out"]


@pytest.mark.parametrize("flags", [0, pyev.EVRUN_NOWAIT])
def test_other_threads_run_while_a_loop_nested_in_the_prepare_phase_blocks(
    loop: pyev.Loop, flags: int
) -> None:
    """The nested run may eat the event by which ours would give up the interpreter lock."""
    nested = 0

    def nest(watcher: Any, revents: int) -> None:
        nonlocal nested
        nested += 1
        if nested == 1:
            once = loop.timer(0.0, 0.0, lambda w, r: loop.stop())
            once.start()
            loop.start(flags)

    prepare = loop.prepare(nest)
    prepare.start()
    wake = getattr(loop, "async")(lambda watcher, revents: loop.stop())
    wake.start()
    # It can only send if the loop lets it run; else this test hangs, and the alarm ends it.
    signal.alarm(10)
    try:
        threading.Timer(0.05, wake.send).start()
        loop.start()
    finally:
        signal.alarm(0)
    assert nested >= 1


def test_ref_and_unref_decide_whether_a_watcher_keeps_the_loop(loop: pyev.Loop) -> None:
    timer = loop.timer(60.0, 0.0, ignore)
    timer.start()
    loop.unref()
    assert loop.start() is False
    loop.ref()
    timer.stop()


def test_stop_refuses_what_is_no_break_constant(loop: pyev.Loop) -> None:
    with pytest.raises(ValueError):
        loop.stop(17)
    with pytest.raises(TypeError):
        loop.stop("all")  # type: ignore[arg-type]


def test_stop_delivers_what_is_pending_first(loop: pyev.Loop) -> None:
    fired: list[int] = []
    for number in range(5):
        loop.timer(0.0, 0.0, lambda w, r: (fired.append(w.data), loop.stop()), number).start()
    loop.start()
    assert sorted(fired) == [0, 1, 2, 3, 4]


def test_iteration_counts_polls_and_pending_counts_waiting_events(loop: pyev.Loop) -> None:
    seen: list[int] = []
    watchers = [loop.prepare(lambda w, r: seen.append(loop.pending)) for _ in range(3)]
    for watcher in watchers:
        watcher.feed(pyev.EV_CUSTOM)
    assert loop.pending == 3
    loop.invoke()
    assert seen == [2, 1, 0]
    before = loop.iteration
    loop.start(pyev.EVRUN_NOWAIT)
    loop.start(pyev.EVRUN_NOWAIT)
    assert loop.iteration == before + 2


def test_pending_counts_the_users_events_only_while_the_loop_runs(loop: pyev.Loop) -> None:
    seen: list[int] = []
    check = loop.check(lambda w, r: seen.append(loop.pending), priority=pyev.EV_MAXPRI)
    prepare = loop.prepare(lambda w, r: seen.append(loop.pending))
    check.start()
    prepare.start()
    loop.timer(0.0, 0.0, lambda w, r: loop.stop()).start()
    loop.start()
    assert seen == [0, 1]


def test_now_stands_still_until_update(loop: pyev.Loop) -> None:
    before = loop.now()
    pyev.sleep(0.01)
    assert loop.now() == before
    loop.update()
    assert loop.now() >= before + 0.009


def test_suspend_and_resume_stop_the_timers_clock(loop: pyev.Loop) -> None:
    timer = loop.timer(0.5, 0.0, ignore)
    timer.start()
    loop.suspend()
    pyev.sleep(0.05)
    loop.resume()
    assert timer.remaining > 0.47
    timer.stop()


def test_a_backend_can_be_chosen_and_an_impossible_one_is_an_error() -> None:
    loop = pyev.Loop(pyev.EVBACKEND_SELECT | pyev.EVFLAG_NOENV)
    assert loop.backend == pyev.EVBACKEND_SELECT
    unsupported = pyev.EVBACKEND_MASK & ~pyev.supported_backends()
    with pytest.raises(pyev.Error):
        pyev.Loop(unsupported | pyev.EVFLAG_NOENV)


@pytest.mark.parametrize("make", ["Loop", "default_loop"])
def test_the_arguments_of_a_loop_have_the_order_of_pyev(make: str) -> None:
    result = script(
        f"""
        from nats_ev import pyev
        loop = pyev.{make}(pyev.EVFLAG_AUTO, None, "mine", 0.01, 0.02, True)
        print(loop.data, loop.io_interval, loop.timeout_interval, loop.debug)
        """
    )
    assert (result.stdout, result.stderr) == ("mine 0.01 0.02 True\n", "")


def test_loop_attributes_are_kept_and_checked() -> None:
    loop = pyev.Loop(data="mine", debug=True, io_interval=0.01, timeout_interval=0.02)
    assert (loop.data, loop.debug, loop.default) == ("mine", True, False)
    assert (loop.io_interval, loop.timeout_interval) == (0.01, 0.02)
    loop.io_interval = 0.0
    with pytest.raises(ValueError):
        loop.timeout_interval = -1.0
    with pytest.raises(ValueError):
        loop.io_interval = float("nan")
    with pytest.raises(TypeError):
        pyev.Loop("auto")  # type: ignore[arg-type]
    loop.verify()


def test_a_loop_callback_delivers_events_itself(loop: pyev.Loop) -> None:
    trail: list[Any] = []

    def deliver(called: pyev.Loop) -> None:
        assert called is loop
        trail.append(loop.pending)
        loop.invoke()

    loop.callback = deliver
    timer = loop.timer(0.0, 0.0, lambda watcher, revents: trail.append("timer"))
    timer.start()
    loop.start()
    assert 1 in trail
    assert "timer" in trail
    loop.callback = None
    trail.clear()
    timer.set(0.0, 0.0)
    timer.start()
    loop.start()
    assert trail == ["timer"]
    with pytest.raises(TypeError):
        loop.callback = 7


def test_a_loop_callback_that_delivers_nothing_does_not_lock_out_other_threads(
    loop: pyev.Loop,
) -> None:
    loop.callback = lambda called: loop.stop() if stopping.is_set() else None
    stopping = threading.Event()
    wake = loop.async_(ignore)
    wake.start()

    def end() -> None:
        stopping.set()
        wake.send()

    signal.alarm(10)
    try:
        threading.Timer(0.05, end).start()
        loop.start()
    finally:
        signal.alarm(0)
    assert stopping.is_set()


def test_the_default_loop_is_one_and_takes_no_callback() -> None:
    result = script(
        """
        from nats_ev import pyev
        loop = pyev.default_loop()
        assert loop.default and not loop.debug
        for debug in (True, False, True):
            assert pyev.default_loop(debug=debug) is loop and loop.debug is debug
        assert pyev.default_loop() is loop and loop.debug
        try:
            pyev.default_loop(0, print)
        except pyev.Error as err:
            print(err)
        try:
            loop.callback = lambda loop: None
        except pyev.Error as err:
            print(err)
        """
    )
    assert "default loop" in result.stdout, result.stderr


@needs_shared_libev
def test_start_refuses_a_default_loop_that_another_binding_has_claimed() -> None:
    result = script(
        """
        from cffi import FFI
        from nats_ev import pyev
        ffi = FFI()
        ffi.cdef("void ev_set_userdata(void *, void *); void *ev_default_loop(unsigned);")
        libev = ffi.dlopen(None) if hasattr(ffi.dlopen(None), "ev_default_loop") else None
        if libev is None:
            from ctypes.util import find_library
            libev = ffi.dlopen(find_library("ev"))
        loop = pyev.default_loop()
        loop.timer(0.0, 0.0, lambda w, r: print("ran")).start()
        libev.ev_set_userdata(libev.ev_default_loop(0), ffi.cast("void *", 1))
        try:
            loop.start()
        except pyev.Error as err:
            print("refused:", err)
        libev.ev_set_userdata(libev.ev_default_loop(0), ffi.NULL)
        loop.start()
        """
    )
    assert result.stderr == ""
    assert result.stdout.startswith("refused: libev's default loop belongs to another binding")
    assert result.stdout.endswith("ran\n")


FOREIGN_RUN = """
    import ctypes, ctypes.util, sys, threading
    from nats_ev import pyev
    # CDLL gives up the interpreter lock around calls, as bindings of blocking calls do.
    libev = ctypes.{kind}(ctypes.util.find_library("ev"))
    libev.ev_default_loop.restype = ctypes.c_void_p
    libev.ev_run.argtypes = [ctypes.c_void_p, ctypes.c_int]
    raw = libev.ev_default_loop(0)
    sys.excepthook = lambda kind, exc, traceback: print("hook:", repr(exc))
    loop = pyev.default_loop()
"""


@pytest.mark.parametrize("kind", ["CDLL", "PyDLL"])
@needs_shared_libev
def test_another_binding_may_run_the_default_loop(kind: str) -> None:
    code = (
        FOREIGN_RUN.format(kind=kind)
        + """
    def leave(watcher, revents):
        print("left")
        raise SystemExit(3)
    loop.timer(0.0, 0.0, lambda w, r: print("ours")).start()
    loop.timer(0.01, 0.0, leave).start()
    libev.ev_run(raw, 0)
    print("end")
    """
    )
    result = script(code)
    assert result.stderr == ""
    assert result.stdout.split("\n")[:4] == ["ours", "left", "hook: SystemExit(3)", "end"]


@pytest.mark.parametrize("kind", ["CDLL", "PyDLL"])
@pytest.mark.parametrize("phase", ["timer", "prepare", "check"])
@needs_shared_libev
def test_another_binding_may_run_the_default_loop_inside_our_callback(
    kind: str, phase: str
) -> None:
    code = (
        FOREIGN_RUN.format(kind=kind)
        + """
    order = []
    def nest(watcher, revents):
        watcher.stop()
        once = loop.timer(0.02, 0.0, lambda w, r: order.append("inner"))
        once.start()
        libev.ev_run(raw, 2)
        order.append("nested")
    watcher = {phase}
    watcher.start()
    if "{phase}" == "loop.check(nest)":
        loop.timer(0.0, 0.0, lambda w, r: None).start()  # ends the first poll
    wake = loop.async_(lambda w, r: (order.append("woken"), loop.stop()))
    wake.start()
    threading.Timer(0.2, wake.send).start()
    loop.start()
    print(order)
    """.replace(
            "{phase}", {"timer": "loop.timer(0.0, 0.0, nest)"}.get(phase, f"loop.{phase}(nest)")
        )
    )
    result = script(code)
    assert result.stderr == ""
    assert result.stdout.strip() == "['inner', 'nested', 'woken']"


def test_many_loops_run_in_threads_at_once() -> None:
    counts: dict[int, int] = {}

    def work(number: int) -> None:
        loop = pyev.Loop()
        reader, writer = os.pipe()

        def tick(watcher: Any, revents: int) -> None:
            counts[number] = counts.get(number, 0) + 1
            os.read(reader, 1)
            if counts[number] == 200:
                loop.stop()
            else:
                os.write(writer, b"x")

        io = loop.io(reader, pyev.EV_READ, tick)
        io.start()
        os.write(writer, b"x")
        loop.start()
        os.close(reader)
        os.close(writer)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)
    assert counts == dict.fromkeys(range(8), 200)


def test_a_loop_that_another_thread_runs_cannot_be_started(loop: pyev.Loop) -> None:
    running = threading.Event()
    loop.timer(0.0, 0.0, lambda watcher, revents: running.set()).start()
    wake = loop.async_(lambda watcher, revents: loop.stop())
    wake.start()
    thread = threading.Thread(target=loop.start)
    thread.start()
    assert running.wait(10.0)
    with pytest.raises(pyev.Error, match="another thread"):
        loop.start()
    wake.send()
    thread.join(10.0)
    assert not thread.is_alive()


@pytest.mark.parametrize("backend", [pyev.EVFLAG_AUTO, pyev.EVBACKEND_POLL])
def test_a_loop_works_in_the_child_of_a_fork_after_reset(backend: int) -> None:
    result = script(
        f"""
        import os
        from nats_ev import pyev
        loop = pyev.Loop({backend})
        forked = loop.fork(lambda w, r: print("fork", flush=True))
        forked.start()
        loop.unref()
        loop.timer(0.0, 0.0, lambda w, r: None).start()
        loop.start()
        reader, writer = os.pipe()
        if os.fork() == 0:
            loop.reset()
            io = loop.io(reader, pyev.EV_READ, lambda w, r: loop.stop())
            io.start()
            os.write(writer, b"x")
            loop.start()
            print("child", flush=True)
            os._exit(0)
        status = os.wait()[1]
        print("parent", status)
        """
    )
    assert result.stdout == "fork\nchild\nparent 0\n", result.stderr
