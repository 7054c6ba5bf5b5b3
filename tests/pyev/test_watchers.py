"""nats_ev.pyev: what all watchers do, then each kind."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
import time
import weakref
from typing import Any

import pytest

from lab.steps import ignore
from nats_ev import pyev


def every_kind(loop: pyev.Loop) -> list[pyev.Watcher]:
    """One inactive watcher of each kind that any loop can have."""
    return [
        loop.io(0, pyev.EV_READ, ignore),
        loop.timer(60.0, 0.0, ignore),
        loop.periodic(0.0, 3600.0, ignore),
        loop.scheduler(lambda watcher, now: now + 60.0, ignore),
        loop.signal(signal.SIGUSR2, ignore),
        loop.idle(ignore),
        loop.prepare(ignore),
        loop.check(ignore),
        loop.fork(ignore),
        getattr(loop, "async")(ignore),
        loop.embed(pyev.Loop(embeddable()), ignore),
    ]


def embeddable() -> int:
    backends = pyev.embeddable_backends() & pyev.supported_backends()
    if not backends:
        pytest.skip("this libev has no embeddable backend")
    return backends | pyev.EVFLAG_NOENV


def test_start_and_stop_are_idempotent_for_every_kind(loop: pyev.Loop) -> None:
    for watcher in every_kind(loop):
        assert not watcher.active
        watcher.stop()
        for _ in range(2):
            watcher.start()
            assert watcher.active
        for _ in range(2):
            watcher.stop()
            assert not watcher.active
    assert loop.start() is False


def test_every_kind_has_the_common_attributes(loop: pyev.Loop) -> None:
    for watcher in every_kind(loop):
        assert watcher.loop is loop
        assert watcher.data is None
        assert watcher.callback is ignore
        assert (watcher.active, watcher.pending, watcher.priority) == (False, False, 0)
        watcher.data = [1]
        assert watcher.data == [1]


def test_every_class_is_made_with_its_loop_after_what_it_watches(loop: pyev.Loop) -> None:
    got: list[Any] = []

    def note(watcher: Any, revents: int) -> None:
        got.append((type(watcher), watcher.data, revents))

    makers: list[pyev.Watcher] = [
        pyev.Io(0, pyev.EV_READ, loop, note, "data", 1),
        pyev.Timer(1.0, 0.0, loop, note, "data", 1),
        pyev.Periodic(0.0, 1.0, loop, note, "data", 1),
        pyev.Scheduler(lambda w, now: now, loop, note, "data", 1),
        pyev.Signal(signal.SIGUSR2, loop, note, "data", 1),
        pyev.Idle(loop, note, "data", 1),
        pyev.Prepare(loop, note, "data", 1),
        pyev.Check(loop, note, "data", 1),
        pyev.Fork(loop, note, "data", 1),
        pyev.Async(loop, note, "data", 1),
    ]
    for watcher in makers:
        assert watcher.priority == 1
        watcher.invoke(pyev.EV_CUSTOM)
    assert got == [(type(watcher), "data", pyev.EV_CUSTOM) for watcher in makers]


def test_feed_fires_a_never_started_watcher_in_the_same_pass(loop: pyev.Loop) -> None:
    order: list[str] = []
    fed = loop.prepare(lambda watcher, revents: order.append(f"fed {revents:#x}"))
    timer = loop.timer(0.0, 0.0, lambda w, r: (order.append("timer"), fed.feed(pyev.EV_CUSTOM)))
    after = loop.prepare(lambda watcher, revents: order.append("next iteration"))
    timer.start()
    loop.timer(0.0, 0.0, lambda w, r: after.start(), priority=pyev.EV_MINPRI).start()
    loop.start(pyev.EVRUN_ONCE)
    assert order == ["timer", f"fed {pyev.EV_CUSTOM:#x}"]
    assert not fed.active
    assert not fed.pending


def test_feeds_before_the_callback_are_merged(loop: pyev.Loop) -> None:
    got: list[int] = []
    watcher = loop.prepare(lambda w, revents: got.append(revents))
    watcher.feed(pyev.EV_READ)
    watcher.feed(pyev.EV_WRITE)
    assert watcher.pending
    loop.invoke()
    assert got == [pyev.EV_READ | pyev.EV_WRITE]


def test_what_a_prepare_callback_feeds_is_delivered_before_the_loop_blocks(
    loop: pyev.Loop,
) -> None:
    order: list[Any] = []
    flush = loop.prepare(lambda w, r: order.append("flush"), priority=pyev.EV_MINPRI)

    def publish(watcher: Any, revents: int) -> None:
        watcher.stop()
        order.append(watcher.data)
        flush.feed(pyev.EV_CUSTOM)
        loop.timer(0.05, 0.0, lambda w, r: order.append("poll over")).start()

    for priority in (pyev.EV_MINPRI, 0, pyev.EV_MAXPRI):
        loop.prepare(publish, priority, priority).start()
    loop.start()
    assert order[-3:] == ["poll over"] * 3
    before_the_poll = order[:-3]
    assert before_the_poll[-1] == "flush"
    # Among equals libev calls first what was fed last: then there is one flush more.
    published = [entry for entry in before_the_poll if entry != "flush"]
    assert published == [pyev.EV_MAXPRI, 0, pyev.EV_MINPRI]


def test_clear_forgets_and_returns_the_pending_bits(loop: pyev.Loop) -> None:
    got: list[int] = []
    watcher = loop.prepare(lambda w, revents: got.append(revents))
    assert watcher.clear() == 0
    watcher.feed(pyev.EV_READ)
    assert watcher.clear() == pyev.EV_READ
    loop.invoke()
    assert got == []


def test_stop_forgets_a_pending_event(loop: pyev.Loop) -> None:
    got: list[int] = []
    watcher = loop.prepare(lambda w, revents: got.append(revents))
    watcher.feed(pyev.EV_READ)
    watcher.stop()
    assert not watcher.pending
    loop.invoke()
    assert got == []


def test_invoke_calls_back_at_once_and_leaves_a_pending_event(loop: pyev.Loop) -> None:
    got: list[int] = []
    watcher = loop.prepare(lambda w, revents: got.append(revents))
    watcher.feed(pyev.EV_READ)
    watcher.invoke(pyev.EV_WRITE)
    assert got == [pyev.EV_WRITE]
    loop.invoke()
    assert got == [pyev.EV_WRITE, pyev.EV_READ]


def test_higher_priorities_are_called_first(loop: pyev.Loop) -> None:
    order: list[int] = []
    for priority in (0, -2, 2, 1, -1):
        loop.timer(0.0, 0.0, lambda w, r: order.append(w.priority), priority=priority).start()
    loop.start()
    assert order == [2, 1, 0, -1, -2]


def test_two_prepare_watchers_are_called_by_priority_in_both_start_orders(
    loop: pyev.Loop,
) -> None:
    for first, second in ((-2, 2), (2, -2)):
        order: list[int] = []
        watchers = [
            loop.prepare(lambda w, r, order=order: order.append(w.priority), None, priority)
            for priority in (first, second)
        ]
        for watcher in watchers:
            watcher.start()
        loop.start(pyev.EVRUN_NOWAIT)
        for watcher in watchers:
            watcher.stop()
        assert order == [2, -2]


def test_priority_is_clamped_and_fixed_while_active_or_pending(loop: pyev.Loop) -> None:
    for beyond in (3, 10**20):
        assert loop.prepare(ignore, None, beyond).priority == pyev.EV_MAXPRI
        assert loop.prepare(ignore, None, -beyond).priority == pyev.EV_MINPRI
    for wrong in (0.5, None, "1"):
        with pytest.raises(TypeError):
            loop.prepare(ignore, None, wrong)  # type: ignore[arg-type]
    watcher = loop.prepare(ignore)
    watcher.start()
    with pytest.raises(pyev.Error):
        watcher.priority = 1
    watcher.stop()
    watcher.feed(pyev.EV_CUSTOM)
    with pytest.raises(pyev.Error):
        watcher.priority = 1
    watcher.clear()
    watcher.priority = 1
    assert watcher.priority == 1


def test_an_active_watcher_cannot_be_reconfigured(loop: pyev.Loop) -> None:
    settings: list[tuple[Any, tuple[Any, ...]]] = [
        (loop.io(0, pyev.EV_READ, ignore), (0, pyev.EV_WRITE)),
        (loop.timer(60.0, 0.0, ignore), (1.0, 0.0)),
        (loop.periodic(0.0, 3600.0, ignore), (1.0, 0.0)),
        (loop.scheduler(lambda w, now: now + 60.0, ignore), (lambda w, now: now,)),
        (loop.signal(signal.SIGUSR2, ignore), (signal.SIGUSR1,)),
        (loop.embed(pyev.Loop(embeddable())), (pyev.Loop(embeddable()),)),
    ]
    for watcher, arguments in settings:
        watcher.start()
        with pytest.raises(pyev.Error):
            watcher.set(*arguments)
        watcher.stop()
        watcher.set(*arguments)


def test_a_callback_can_be_replaced_and_must_be_callable(loop: pyev.Loop) -> None:
    got: list[str] = []
    watcher = loop.prepare(lambda w, r: got.append("old"))
    watcher.callback = lambda w, r: got.append("new")
    watcher.invoke(0)
    assert got == ["new"]
    with pytest.raises(TypeError):
        watcher.callback = None
    with pytest.raises(TypeError):
        loop.prepare(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        pyev.Prepare(object(), ignore)  # type: ignore[arg-type]


# Io


def test_io_tells_which_of_its_events_happened(loop: pyev.Loop) -> None:
    left, right = socket.socketpair()
    got: list[int] = []
    watcher = loop.io(left, pyev.EV_READ | pyev.EV_WRITE, lambda w, r: got.append(r))
    assert (watcher.fd, watcher.events) == (left.fileno(), pyev.EV_READ | pyev.EV_WRITE)
    watcher.start()
    loop.start(pyev.EVRUN_ONCE)
    right.send(b"x")
    loop.start(pyev.EVRUN_ONCE)
    watcher.stop()
    assert got == [pyev.EV_WRITE, pyev.EV_READ | pyev.EV_WRITE]
    watcher.set(left.fileno(), pyev.EV_READ)
    assert watcher.events == pyev.EV_READ
    left.close()
    right.close()


@pytest.mark.parametrize("fd", [-1, 1 << 31, 1 << 40])
def test_io_refuses_impossible_descriptors(loop: pyev.Loop, fd: int) -> None:
    with pytest.raises(ValueError):
        loop.io(fd, pyev.EV_READ, ignore)


def test_io_refuses_other_events_and_objects(loop: pyev.Loop) -> None:
    for events in (0, 4, pyev.EV_READ | pyev.EV_TIMER):
        with pytest.raises(ValueError):
            loop.io(0, events, ignore)
    with pytest.raises(TypeError):
        loop.io("0", pyev.EV_READ, ignore)


@pytest.mark.parametrize("fd", [None, 0x7FFFFFFF])
def test_io_on_a_descriptor_that_is_not_open_is_an_error_at_start(
    loop: pyev.Loop, fd: int | None
) -> None:
    if fd is None:
        fd, writer = os.pipe()
        os.close(fd)
        os.close(writer)
    watcher = loop.io(fd, pyev.EV_READ, ignore)
    with pytest.raises(pyev.Error, match=f"descriptor {fd} is not open"):
        watcher.start()
    assert not watcher.active
    assert loop.start() is False


# Timer


def test_a_timer_without_repeat_fires_once_and_is_inactive_in_its_callback(
    loop: pyev.Loop,
) -> None:
    got: list[Any] = []
    timer = loop.timer(0.01, 0.0, lambda w, r: got.append((w is timer, r, w.active)))
    timer.start()
    assert 0.0 < timer.remaining <= 0.011
    loop.start()
    assert got == [(True, pyev.EV_TIMER, False)]


def test_a_repeating_timer_fires_until_stopped(loop: pyev.Loop) -> None:
    count = 0

    def tick(watcher: Any, revents: int) -> None:
        nonlocal count
        count += 1
        if count == 3:
            watcher.stop()

    loop.timer(0.0, 0.005, tick).start()
    loop.start()
    assert count == 3


def test_reset_restarts_with_repeat_and_stops_without(loop: pyev.Loop) -> None:
    timer = loop.timer(0.0, 60.0, ignore)
    timer.reset()
    assert timer.active
    assert timer.remaining > 59.0
    assert timer.repeat == 60.0
    timer.repeat = 30.0
    timer.reset()
    assert timer.remaining < 31.0
    timer.repeat = 0.0
    timer.reset()
    assert not timer.active
    assert loop.start() is False


def test_timers_refuse_negative_repeats_and_what_is_no_number(loop: pyev.Loop) -> None:
    with pytest.raises(ValueError):
        loop.timer(0.0, -1.0, ignore)
    with pytest.raises(ValueError):
        loop.timer(float("nan"), 0.0, ignore)
    with pytest.raises(TypeError):
        loop.timer("1", 0.0, ignore)  # type: ignore[arg-type]
    timer = loop.timer(0.0, 1.0, ignore)
    with pytest.raises(ValueError):
        timer.repeat = -0.5
    with pytest.raises(ValueError):
        timer.set(0.0, -1.0)
    assert timer.repeat == 1.0


@pytest.mark.parametrize("huge", [10**400, -(10**400), 10**5000], ids=["400", "-400", "5000"])
def test_numbers_that_no_float_and_no_c_int_can_hold_are_value_errors(
    loop: pyev.Loop, huge: int
) -> None:
    timer = loop.timer(0.0, 1.0, ignore)
    for call in (
        lambda: loop.timer(huge, 0.0, ignore), lambda: loop.timer(0.0, huge, ignore),
        lambda: loop.periodic(huge, 0.0, ignore), lambda: timer.set(0.0, huge),
        lambda: setattr(timer, "repeat", huge), lambda: setattr(loop, "io_interval", huge),
        lambda: pyev.sleep(huge), lambda: loop.io(huge, pyev.EV_READ, ignore), lambda: pyev.Loop(huge),
        lambda: pyev.feed_signal(huge), lambda: loop.stop(huge),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="out of range"):
            call()
    assert timer.repeat == 1.0


@pytest.mark.parametrize("how", ["feed", "invoke"])
def test_a_watcher_is_not_kept_alive_by_events_that_are_no_bits(loop: pyev.Loop, how: str) -> None:
    watcher = loop.prepare(ignore)
    for events in ("x", None, 2**40):
        with pytest.raises((TypeError, OverflowError)):
            getattr(watcher, how)(events)
    gone = weakref.ref(watcher)
    del watcher
    gc.collect()
    assert gone() is None


def test_a_timer_can_be_started_again_by_its_own_callback(loop: pyev.Loop) -> None:
    times: list[float] = []

    def again(watcher: Any, revents: int) -> None:
        times.append(loop.now())
        if len(times) < 3:
            watcher.set(0.005, 0.0)
            watcher.start()

    loop.timer(0.0, 0.0, again).start()
    loop.start()
    assert len(times) == 3


# Periodic and Scheduler


def test_a_periodic_fires_at_its_time(loop: pyev.Loop) -> None:
    got: list[float] = []
    at = pyev.time() + 0.05
    watcher = loop.periodic(at, 0.0, lambda w, r: got.append((r, pyev.time() >= at - 0.01)))
    watcher.start()
    assert watcher.at == pytest.approx(at)
    loop.start()
    assert got == [(pyev.EV_PERIODIC, True)]
    assert not watcher.active


def test_a_periodic_has_an_offset_and_an_interval(loop: pyev.Loop) -> None:
    watcher = loop.periodic(10.0, 3600.0, ignore)
    assert (watcher.offset, watcher.interval) == (10.0, 3600.0)
    watcher.start()
    assert watcher.at % 3600.0 == pytest.approx(10.0)
    assert loop.now() <= watcher.at <= loop.now() + 3600.0
    watcher.offset = 20.0
    watcher.reset()
    assert watcher.at % 3600.0 == pytest.approx(20.0)
    watcher.interval = 60.0
    watcher.reset()
    assert watcher.at % 60.0 == pytest.approx(20.0)
    with pytest.raises(ValueError):
        watcher.interval = -1.0
    with pytest.raises(ValueError):
        watcher.offset = float("inf")
    with pytest.raises(ValueError):
        loop.periodic(61.0, 60.0, ignore)
    watcher.stop()


def test_a_scheduler_names_each_next_time(loop: pyev.Loop) -> None:
    asked: list[float] = []
    fired: list[int] = []

    def schedule(watcher: Any, now: float) -> float:
        asked.append(now)
        return now + 0.01

    def fire(watcher: Any, revents: int) -> None:
        fired.append(revents)
        if len(fired) == 3:
            watcher.stop()

    watcher = loop.scheduler(schedule, fire)
    assert (watcher.scheduler, watcher.callback) == (schedule, fire)
    watcher.start()
    assert watcher.at == pytest.approx(asked[0] + 0.01)
    loop.start()
    assert fired == [pyev.EV_PERIODIC] * 3


@pytest.mark.parametrize("answer", [None, float("nan"), -1.0, "soon"])
def test_a_scheduler_that_names_no_time_is_an_error_at_start(loop: pyev.Loop, answer: Any) -> None:
    watcher = loop.scheduler(lambda w, now: answer, ignore)
    with pytest.raises((TypeError, ValueError)):
        watcher.start()
    assert not watcher.active
    assert loop.start() is False


def test_a_scheduler_that_fails_later_fires_then_is_stopped(
    loop: pyev.Loop, excepthook: list[BaseException]
) -> None:
    fired: list[int] = []

    def schedule(watcher: Any, now: float) -> float:
        if fired or watcher.active:
            raise RuntimeError("no more")
        return now

    watcher = loop.scheduler(schedule, lambda w, r: fired.append(r))
    watcher.start()
    loop.start()
    assert fired == [pyev.EV_PERIODIC]
    assert [str(exc) for exc in excepthook] == ["no more"]
    assert not watcher.active


# Signal and Child


def test_a_signal_watcher_fires_as_an_event_and_gives_the_handler_back(loop: pyev.Loop) -> None:
    handled: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: handled.append(number))
    try:
        got: list[int] = []
        watcher = loop.signal(signal.SIGUSR1, lambda w, r: (got.append(r), loop.stop()))
        assert watcher.signum == signal.SIGUSR1
        watcher.start()
        os.kill(os.getpid(), signal.SIGUSR1)
        loop.start()
        assert (got, handled) == ([pyev.EV_SIGNAL], [])
        watcher.stop()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert handled == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_feed_signal_fires_signal_watchers(loop: pyev.Loop) -> None:
    got: list[int] = []
    watcher = loop.signal(signal.SIGUSR1, lambda w, r: (got.append(r), loop.stop()))
    watcher.start()
    pyev.feed_signal(signal.SIGUSR1)
    loop.start()
    watcher.stop()
    assert got == [pyev.EV_SIGNAL]
    for wrong in (0, -1, 4096):
        with pytest.raises(ValueError):
            pyev.feed_signal(wrong)


def test_a_signal_belongs_to_one_loop_at_a_time(loop: pyev.Loop) -> None:
    first = loop.signal(signal.SIGUSR1, ignore)
    first.start()
    second = pyev.Loop().signal(signal.SIGUSR1, ignore)
    with pytest.raises(pyev.Error, match="another loop"):
        second.start()
    assert not second.active
    first.stop()
    second.start()
    second.stop()


@pytest.mark.parametrize("signum", [0, -1, 4096, signal.SIGKILL, signal.SIGSTOP])
def test_signals_that_cannot_be_watched_are_refused(loop: pyev.Loop, signum: int) -> None:
    with pytest.raises(ValueError):
        loop.signal(signum, ignore)


def test_children_belong_to_the_default_loop(loop: pyev.Loop) -> None:
    with pytest.raises(pyev.Error):
        loop.child(0, False, ignore)
    with pytest.raises(pyev.Error):
        loop.signal(signal.SIGCHLD, ignore)


def test_a_child_watcher_tells_pid_and_status() -> None:
    loop = pyev.default_loop()
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    got: list[Any] = []
    watcher = loop.child(pid, False, lambda w, r: (got.append((w.rpid, w.rstatus, r)), w.stop()))
    assert watcher.pid == pid
    watcher.start()
    loop.start()
    [(rpid, rstatus, revents)] = got
    assert (rpid, revents) == (pid, pyev.EV_CHILD)
    assert os.waitstatus_to_exitcode(rstatus) == 7
    watcher.rpid, watcher.rstatus = 1, 2
    assert (watcher.rpid, watcher.rstatus) == (1, 2)
    with pytest.raises(ValueError):
        loop.child(-1, False, ignore)


# Idle, Prepare, Check, Async, Embed


def test_idle_runs_only_when_nothing_of_its_priority_is_due(loop: pyev.Loop) -> None:
    order: list[str] = []
    idle = loop.idle(lambda w, r: (order.append("idle"), loop.stop()))
    idle.start()
    loop.timer(0.0, 0.0, lambda w, r: order.append("timer")).start()
    loop.start()
    assert order == ["timer", "idle"]


def test_prepare_comes_before_the_poll_and_check_after(loop: pyev.Loop) -> None:
    order: list[tuple[str, int]] = []
    prepare = loop.prepare(lambda w, r: order.append(("prepare", loop.iteration)))
    check = loop.check(lambda w, r: order.append(("check", loop.iteration)))
    prepare.start()
    check.start()
    loop.start(pyev.EVRUN_NOWAIT)
    (first, before), (second, after) = order
    assert (first, second, after - before) == ("prepare", "check", 1)


def test_async_wakes_the_loop_from_another_thread_once_for_many_sends(loop: pyev.Loop) -> None:
    got: list[int] = []
    watcher = getattr(loop, "async")(lambda w, r: (got.append(r), loop.stop()))
    watcher.start()
    assert not watcher.sent

    def send() -> None:
        for _ in range(100):
            watcher.send()

    send()
    assert watcher.sent
    loop.start()
    assert got == [pyev.EV_ASYNC]
    started = time.monotonic()
    thread = threading.Timer(0.05, send)
    thread.start()
    loop.start()
    thread.join()
    assert time.monotonic() - started < 5.0
    assert pyev.EV_ASYNC in got[1:]


def test_embed_runs_another_loops_io(loop: pyev.Loop) -> None:
    other = pyev.Loop(embeddable())
    left, right = socket.socketpair()
    got: list[bytes] = []
    io = other.io(left, pyev.EV_READ, lambda w, r: (got.append(left.recv(9)), loop.stop()))
    io.start()
    embed = loop.embed(other)
    assert embed.other is other
    embed.start()
    right.send(b"hello")
    loop.start()
    assert got == [b"hello"]
    embed.stop()
    left.close()
    right.close()


def test_embed_with_a_callback_leaves_the_sweep_to_it(loop: pyev.Loop) -> None:
    other = pyev.Loop(embeddable())
    order: list[str] = []
    reader, writer = os.pipe()
    io = other.io(reader, pyev.EV_READ, lambda w, r: (order.append("io"), w.stop()))
    io.start()

    def sweep(watcher: Any, revents: int) -> None:
        order.append("embed")
        watcher.sweep()
        loop.stop()

    embed = loop.embed(other)
    assert embed.callback is None
    embed.callback = sweep
    assert embed.callback is sweep
    embed.start()
    loop.start(pyev.EVRUN_NOWAIT)  # libev itself runs a loop whose watchers have changed
    os.write(writer, b"x")
    loop.start()
    embed.stop()
    os.close(reader)
    os.close(writer)
    assert order == ["embed", "io"]


def test_embed_refuses_what_it_cannot_embed(loop: pyev.Loop) -> None:
    with pytest.raises(pyev.Error):
        loop.embed(loop)
    with pytest.raises(TypeError):
        loop.embed(object())  # type: ignore[arg-type]
    plain = pyev.Loop(pyev.EVBACKEND_SELECT | pyev.EVFLAG_NOENV)
    with pytest.raises(pyev.Error, match="not embeddable"):
        loop.embed(plain)


def test_a_loop_on_io_uring_is_not_embeddable(loop: pyev.Loop) -> None:
    assert not pyev.embeddable_backends() & pyev.EVBACKEND_IOURING
    try:
        other = pyev.Loop(pyev.EVBACKEND_IOURING | pyev.EVFLAG_NOENV)
    except pyev.Error:
        pytest.skip("this libev or kernel has no io_uring")
    with pytest.raises(pyev.Error, match="not embeddable"):
        loop.embed(other)


def test_a_watcher_that_a_signal_handler_feeds_while_its_event_is_delivered_gets_both(
    loop: pyev.Loop, excepthook: list[BaseException]
) -> None:
    """The handler runs where Python looks for signals first: at the beginning of the callback."""
    calls: list[int] = []
    left = [1, 1]

    def callback(watcher: Any, revents: int) -> None:
        calls.append(revents)

    def profile(frame: Any, event: str, arg: object) -> None:
        if event == "call" and frame.f_code is callback.__code__ and left:
            left.pop()
            watcher.feed(pyev.EV_CUSTOM)

    watcher = loop.prepare(callback)
    watcher.feed(pyev.EV_CUSTOM)
    sys.setprofile(profile)
    try:
        loop.start(pyev.EVRUN_NOWAIT)
    finally:
        sys.setprofile(None)
    assert calls == [pyev.EV_CUSTOM] * 3
    assert excepthook == []
