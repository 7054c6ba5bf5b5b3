"""nats_ev.pyev: what leaves a callback as an exception, and how signals reach Python."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.steps import ignore
from nats_ev import pyev

PROMPT = (
    10.0  # seconds on a busy machine; the timers that would end the loop otherwise take a minute
)


def raiser(exc: BaseException) -> Callable[[Any, int], None]:
    def callback(watcher: Any, revents: int) -> None:
        raise exc

    return callback


@pytest.fixture
def handler() -> Iterator[None]:
    """Python's own handler of SIGINT, which a test runner may have replaced."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=["main thread", "other thread"])
def interrupt_soon(request: pytest.FixtureRequest, handler: None) -> Iterator[Callable[[], None]]:
    """Has SIGINT delivered shortly, to the main thread or to one that does not run the loop."""
    threads: list[threading.Thread] = []
    sent: list[float] = []

    def send() -> None:
        target = threading.main_thread() if request.param == "main thread" else None
        ident = (target or threading.current_thread()).ident
        assert ident is not None
        sent.append(time.monotonic())
        signal.pthread_kill(ident, signal.SIGINT)

    def soon() -> None:
        thread = threading.Timer(0.1, send)
        threads.append(thread)
        thread.start()

    yield soon
    for thread in threads:
        thread.join()
    assert time.monotonic() - sent[0] < 5.0


def interrupted_after(run: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of time and of CPU until run() raised KeyboardInterrupt."""
    started, cpu = time.monotonic(), time.process_time()
    with pytest.raises(KeyboardInterrupt):
        run()
    return time.monotonic() - started, time.process_time() - cpu


def test_an_ordinary_exception_goes_to_the_hook_and_the_loop_goes_on(
    loop: pyev.Loop, excepthook: list[BaseException]
) -> None:
    error = ValueError("mine")
    fired: list[int] = []
    loop.timer(0.0, 0.0, raiser(error)).start()
    loop.timer(0.01, 0.0, lambda w, r: fired.append(r)).start()
    assert loop.start() is False
    assert excepthook == [error]
    assert fired == [pyev.EV_TIMER]


def test_the_traceback_begins_with_the_users_frame(
    loop: pyev.Loop, excepthook: list[BaseException]
) -> None:
    loop.timer(0.0, 0.0, raiser(ValueError())).start()
    loop.start()
    traceback = excepthook[0].__traceback__
    assert traceback is not None
    assert traceback.tb_frame.f_code.co_filename == __file__


@pytest.mark.parametrize("hook_error", [RuntimeError("hook"), None])
def test_a_broken_excepthook_harms_nobody(
    loop: pyev.Loop,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    hook_error: Exception | None,
) -> None:
    def hook(kind: Any, exc: Any, traceback: Any) -> None:
        raise hook_error or KeyboardInterrupt

    monkeypatch.setattr(sys, "excepthook", hook)
    loop.timer(0.0, 0.0, raiser(ValueError("first"))).start()
    if hook_error is None:
        with pytest.raises(KeyboardInterrupt):
            loop.start()
    else:
        loop.start()
        shown = capsys.readouterr().err
        assert "RuntimeError: hook" in shown
        assert "ValueError: first" in shown


def test_with_debug_any_exception_comes_out_of_start(loop: pyev.Loop) -> None:
    error = ValueError("mine")
    loop.debug = True
    timer = loop.timer(0.0, 60.0, raiser(error))
    timer.start()
    with pytest.raises(ValueError, match="mine") as caught:
        loop.start()
    assert caught.value is error
    assert timer.active
    timer.stop()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_other_than_exceptions_always_come_out_of_start(
    loop: pyev.Loop, kind: type[BaseException]
) -> None:
    error = kind()
    loop.timer(0.0, 0.0, raiser(error)).start()
    with pytest.raises(kind) as caught:
        loop.start()
    assert caught.value is error
    assert loop.depth == 0


def test_after_a_stop_no_callback_runs_and_the_next_start_delivers_the_rest_in_order(
    loop: pyev.Loop,
) -> None:
    order: list[Any] = []

    def call(watcher: Any, revents: int) -> None:
        order.append((watcher.data, revents))
        if watcher.data == 2:
            raise SystemExit

    watchers = [loop.prepare(call, number, 0) for number in range(5)]
    for watcher in reversed(watchers):
        watcher.feed(pyev.EV_CUSTOM)
    last = loop.prepare(call, 9, pyev.EV_MINPRI)
    last.feed(pyev.EV_READ)
    with pytest.raises(SystemExit):
        loop.start()
    assert order == [(number, pyev.EV_CUSTOM) for number in range(3)]
    assert watchers[3].pending
    assert loop.pending == 3
    loop.start(pyev.EVRUN_NOWAIT)
    assert order[3:] == [(3, pyev.EV_CUSTOM), (4, pyev.EV_CUSTOM), (9, pyev.EV_READ)]


def test_one_shot_events_kept_over_a_stop_need_no_reference(loop: pyev.Loop) -> None:
    fired: list[int] = []
    loop.timer(0.0, 0.0, raiser(SystemExit()), priority=pyev.EV_MAXPRI).start()
    for number in range(3):
        loop.timer(0.0, 0.0, lambda w, r: fired.append(w.data), number).start()
    pyev.sleep(0.001)
    with pytest.raises(SystemExit):
        loop.start()
    assert fired == []
    loop.start()
    assert sorted(fired) == [0, 1, 2]


def test_what_is_stopped_after_a_stop_is_not_delivered(loop: pyev.Loop) -> None:
    fired: list[int] = []
    first = loop.prepare(raiser(SystemExit()), None, 1)
    second = loop.prepare(lambda w, r: fired.append(r))
    first.feed(pyev.EV_CUSTOM)
    second.feed(pyev.EV_CUSTOM)
    with pytest.raises(SystemExit):
        loop.start()
    second.stop()
    loop.start()
    assert fired == []


def test_an_exception_unwinds_nested_starts_one_by_one(loop: pyev.Loop) -> None:
    trail: list[str] = []

    def outer(watcher: Any, revents: int) -> None:
        loop.timer(0.0, 0.0, raiser(KeyboardInterrupt())).start()
        try:
            loop.start()
        except KeyboardInterrupt:
            trail.append("inner")
            raise

    loop.timer(0.0, 60.0, outer).start()
    with pytest.raises(KeyboardInterrupt):
        loop.start()
    assert trail == ["inner"]
    assert loop.depth == 0


def test_a_callback_may_catch_what_a_nested_start_raises(loop: pyev.Loop) -> None:
    trail: list[str] = []

    def outer(watcher: Any, revents: int) -> None:
        loop.timer(0.0, 0.0, raiser(SystemExit())).start()
        with pytest.raises(SystemExit):
            loop.start()
        trail.append("caught")

    loop.timer(0.0, 0.0, outer).start()
    loop.timer(0.02, 0.0, lambda w, r: trail.append("went on")).start()
    assert loop.start() is False
    assert trail == ["caught", "went on"]


@pytest.mark.parametrize("how", ["loop.invoke", "watcher.invoke", "sweep"])
def test_explicit_delivery_raises_to_its_caller(loop: pyev.Loop, how: str) -> None:
    watcher = loop.prepare(raiser(SystemExit()), None, 1)
    kept = loop.prepare(ignore)
    if how == "loop.invoke":
        watcher.feed(pyev.EV_CUSTOM)
        kept.feed(pyev.EV_CUSTOM)
        run: Callable[[], Any] = loop.invoke
    elif how == "watcher.invoke":
        kept.feed(pyev.EV_CUSTOM)

        def run() -> None:
            watcher.invoke(pyev.EV_CUSTOM)
    else:
        if not pyev.embeddable_backends() & pyev.supported_backends():
            pytest.skip("this libev has no embeddable backend")
        other = pyev.Loop(pyev.embeddable_backends())
        idle = other.timer(0.0, 0.0, raiser(SystemExit()))
        idle.start()
        pyev.sleep(0.001)
        kept.feed(pyev.EV_CUSTOM)
        run = loop.embed(other, ignore).sweep
    with pytest.raises(SystemExit):
        run()
    assert kept.pending
    loop.invoke()


@pytest.mark.parametrize("error", [ValueError("raised"), SystemExit(1)])
def test_what_a_loop_callback_raises_comes_out_of_start_and_no_event_is_lost(
    loop: pyev.Loop, excepthook: list[BaseException], error: BaseException
) -> None:
    calls: list[int] = []
    got: list[int] = []

    def deliver(called: pyev.Loop) -> None:
        calls.append(loop.pending)
        if len(calls) == 1:
            raise error
        loop.invoke()

    loop.callback = deliver
    for _ in range(3):
        loop.timer(0.0, 0.0, lambda w, r: got.append(r)).start()
    with pytest.raises(type(error)):
        loop.start()
    assert (len(calls), got, excepthook) == (1, [], [])
    loop.start()
    assert got == [pyev.EV_TIMER] * 3
    loop.callback = None


def test_a_scheduler_that_raises_a_keyboard_interrupt_stops_the_loop(loop: pyev.Loop) -> None:
    asked = 0

    def schedule(watcher: Any, now: float) -> float:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise KeyboardInterrupt
        return now

    loop.scheduler(schedule, ignore).start()
    with pytest.raises(KeyboardInterrupt):
        loop.start()


# Ctrl-C and other signals


def test_ctrl_c_interrupts_an_idle_loop_that_burns_no_time(
    loop: pyev.Loop, interrupt_soon: Callable[[], None]
) -> None:
    timer = loop.timer(60.0, 0.0, ignore)
    timer.start()
    interrupt_soon()
    before = loop.iteration
    elapsed, cpu = interrupted_after(loop.start)
    assert elapsed < PROMPT
    assert cpu < 1.0
    assert loop.iteration - before <= 3
    timer.stop()


def test_ctrl_c_interrupts_a_loop_that_code_of_this_package_runs(
    loop: pyev.Loop, interrupt_soon: Callable[[], None]
) -> None:
    """As `nats_ev.blocking` does: nothing of that code is at work while the loop blocks."""
    space: dict[str, Any] = {"__name__": "nats_ev.face", "loop": loop}
    exec("def run(): loop.start()", space)
    timer = loop.timer(60.0, 0.0, ignore)
    timer.start()
    interrupt_soon()
    elapsed, _ = interrupted_after(space["run"])
    assert elapsed < PROMPT
    timer.stop()


def test_ctrl_c_interrupts_a_nested_start(
    loop: pyev.Loop, interrupt_soon: Callable[[], None]
) -> None:
    timer = loop.timer(60.0, 0.0, ignore)
    timer.start()
    loop.timer(0.0, 0.0, lambda w, r: loop.start()).start()
    interrupt_soon()
    elapsed, _ = interrupted_after(loop.start)
    assert elapsed < PROMPT
    timer.stop()


def test_ctrl_c_interrupts_a_loop_nested_in_another(
    loop: pyev.Loop, interrupt_soon: Callable[[], None]
) -> None:
    other = pyev.Loop()
    timer = other.timer(60.0, 0.0, ignore)
    timer.start()
    loop.timer(0.0, 0.0, lambda w, r: other.start()).start()
    interrupt_soon()
    elapsed, _ = interrupted_after(loop.start)
    assert elapsed < PROMPT


def test_ctrl_c_interrupts_a_busy_loop_and_loses_no_event(
    loop: pyev.Loop, interrupt_soon: Callable[[], None]
) -> None:
    def work(watcher: Any, revents: int) -> None:
        watcher.feed(pyev.EV_CUSTOM)

    watcher = loop.prepare(work)
    watcher.feed(pyev.EV_CUSTOM)
    interrupt_soon()
    with pytest.raises(KeyboardInterrupt) as caught:
        loop.start()
    interrupted_work = any(entry.name == "work" for entry in caught.traceback)
    assert watcher.pending or interrupted_work
    watcher.clear()


def test_a_signal_raised_in_a_callback_interrupts(loop: pyev.Loop, handler: None) -> None:
    loop.timer(0.0, 0.0, lambda w, r: signal.raise_signal(signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        loop.start()


def test_a_watcher_of_ctrl_c_gets_it_in_this_start_and_the_next(
    loop: pyev.Loop, handler: None
) -> None:
    got: list[int] = []
    watcher = loop.signal(signal.SIGINT, lambda w, r: (got.append(w.signum), loop.stop()))
    strike = loop.timer(0.0, 0.0, lambda w, r: os.kill(os.getpid(), signal.SIGINT))
    watcher.start()  # before the loop runs
    strike.start()
    loop.start()
    assert got == [signal.SIGINT]
    watcher.stop()
    loop.timer(0.0, 0.0, lambda w, r: (watcher.start(), loop.stop())).start()
    loop.start()  # while it runs
    strike.start()
    loop.start()
    assert got == [signal.SIGINT] * 2
    watcher.stop()
    strike.start()
    with pytest.raises(KeyboardInterrupt):
        loop.start()


def test_a_python_signal_handler_runs_promptly_and_its_exception_comes_out(
    loop: pyev.Loop,
) -> None:
    class TimeIsUp(Exception):
        pass

    def on_alarm(number: int, frame: Any) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, on_alarm)
    try:
        timer = loop.timer(60.0, 0.0, ignore)
        timer.start()
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        started = time.monotonic()
        with pytest.raises(TimeIsUp):
            loop.start()
        assert time.monotonic() - started < PROMPT
        timer.stop()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_handler_that_returns_does_not_end_the_loop(loop: pyev.Loop) -> None:
    order: list[str] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: order.append("handler"))
    try:
        loop.timer(0.15, 0.0, lambda w, r: order.append("timer")).start()
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        loop.start()
        assert order == ["handler", "timer"]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_the_users_wakeup_descriptor_still_gets_every_signal_and_is_given_back(
    loop: pyev.Loop,
) -> None:
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    before = signal.signal(signal.SIGALRM, lambda number, frame: loop.stop())
    previous = signal.set_wakeup_fd(writer.fileno())
    try:
        loop.timer(60.0, 0.0, ignore).start()
        for _ in range(2):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            loop.start()
            assert reader.recv(10) == bytes([signal.SIGALRM])
    finally:
        assert signal.set_wakeup_fd(previous) == writer.fileno()
        signal.signal(signal.SIGALRM, before)
        reader.close()
        writer.close()


def test_a_wakeup_descriptor_set_by_a_callback_is_left_in_place(
    loop: pyev.Loop, handler: None
) -> None:
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    try:
        loop.timer(0.0, 0.0, lambda w, r: signal.set_wakeup_fd(writer.fileno())).start()
        # Now the signal wakes the poll only by interrupting it.
        main = threading.main_thread().ident
        assert main is not None
        kill = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))
        kill.start()
        loop.timer(60.0, 0.0, ignore).start()
        elapsed, _ = interrupted_after(loop.start)
        assert elapsed < PROMPT
    finally:
        assert signal.set_wakeup_fd(-1) == writer.fileno()
        reader.close()
        writer.close()


def test_no_wakeup_descriptor_stays_behind(loop: pyev.Loop) -> None:
    loop.timer(0.0, 0.0, ignore).start()
    loop.start()
    assert signal.set_wakeup_fd(-1) == -1


def test_a_loop_in_another_thread_leaves_signals_to_the_main_thread(loop: pyev.Loop) -> None:
    wake = loop.async_(lambda w, r: loop.stop())
    wake.start()
    thread = threading.Thread(target=loop.start)
    thread.start()
    assert signal.set_wakeup_fd(-1) == -1
    wake.send()
    thread.join(10.0)
    assert not thread.is_alive()


def test_ctrl_c_ends_a_script_with_a_traceback_and_the_usual_status() -> None:
    code = """
        from nats_ev import pyev
        loop = pyev.default_loop()
        loop.timer(0.0, 60.0, lambda w, r: print("ready", flush=True)).start()
        loop.start()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    sent = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=10.0)
    assert time.monotonic() - sent < PROMPT
    assert process.returncode == -signal.SIGINT
    assert stderr.rstrip().endswith("KeyboardInterrupt")


DEFERRING = """
    import signal, sys
    from nats_ev import pyev

    loop = pyev.Loop()
    seen = []

    def look(watcher, revents):
        seen.append(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        signal.raise_signal(signal.SIGINT)

    loop.timer(0.0, 0.0, look).start()
    try:
        loop.start()
    except KeyboardInterrupt:
        print("default handler" if seen == [True] else "deferring handler", "interrupted")
"""


@pytest.mark.parametrize(
    ("setting", "handler"),
    [("0", "default handler"), ("1", "deferring handler"), (None, "deferring handler")],
)
def test_deferring_interrupts_can_be_turned_off_by_the_environment(
    setting: str | None, handler: str
) -> None:
    environ = {k: v for k, v in os.environ.items() if k != "NATS_EV_DEFER_INTERRUPTS"}
    if setting is not None:
        environ["NATS_EV_DEFER_INTERRUPTS"] = setting
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DEFERRING)],
        env=environ, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.stdout == f"{handler} interrupted\n", done.stderr
