"""nats_ev.pyev: who keeps whom alive, that nothing is left behind, and other threads' turns."""

from __future__ import annotations

import gc
import os
import resource
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from lab.steps import ignore
from nats_ev import pyev


class Probe:
    """Something to watch the life of, as the ``data`` of a watcher or a loop."""


def test_an_active_watcher_lives_without_a_reference(loop: pyev.Loop) -> None:
    fired: list[int] = []
    loop.timer(0.01, 0.0, lambda w, r: fired.append(r)).start()
    gc.collect()
    loop.start()
    assert fired == [pyev.EV_TIMER]


def test_a_fed_watcher_lives_until_its_callback(loop: pyev.Loop) -> None:
    fired: list[int] = []
    watcher = loop.prepare(lambda w, r: fired.append(r))
    gone = weakref.ref(watcher)
    watcher.feed(pyev.EV_CUSTOM)
    del watcher
    gc.collect()
    assert gone() is not None
    loop.invoke()
    assert fired == [pyev.EV_CUSTOM]
    assert gone() is None


ENDINGS: dict[str, Callable[[Any], object]] = {
    "never started": lambda watcher: None,
    "stopped": lambda watcher: (watcher.start(), watcher.stop()),
    "fed and cleared": lambda watcher: (watcher.feed(1), watcher.clear()),
    "fed and stopped": lambda watcher: (watcher.feed(1), watcher.stop()),
    "fed and fired": lambda watcher: (watcher.feed(1), watcher.loop.invoke()),
    "invoked": lambda watcher: watcher.invoke(1),
    "started and fired": lambda watcher: (watcher.start(), watcher.loop.start()),
    "reset to nothing": lambda watcher: (watcher.start(), watcher.reset()),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_watcher_goes_with_its_last_reference_when_it_is(loop: pyev.Loop, ending: str) -> None:
    watcher = loop.timer(0.0, 0.0, ignore, Probe())
    gone, data = weakref.ref(watcher), weakref.ref(watcher.data)
    ENDINGS[ending](watcher)
    del watcher
    assert gone() is None
    assert data() is None
    loop.start()


def test_a_watcher_may_drop_itself_in_its_callback(loop: pyev.Loop) -> None:
    holder: dict[str, Any] = {}

    def drop(watcher: Any, revents: int) -> None:
        watcher.stop()
        holder.clear()

    holder["watcher"] = loop.timer(0.0, 0.001, drop)
    gone = weakref.ref(holder["watcher"])
    holder["watcher"].start()
    loop.start()
    assert gone() is None


def test_a_loop_goes_with_its_watchers_active_or_not() -> None:
    loop = pyev.Loop(data=Probe())
    gone = [weakref.ref(loop), weakref.ref(loop.data)]
    active = loop.timer(60.0, 0.0, ignore, Probe())
    active.start()
    pending = loop.prepare(ignore, Probe())
    pending.feed(pyev.EV_CUSTOM)
    gone += [weakref.ref(watcher) for watcher in (active, pending)]
    gone += [weakref.ref(active.data), weakref.ref(pending.data)]
    del loop, active, pending
    gc.collect()
    assert [ref() for ref in gone] == [None] * 6


def test_a_loop_lives_as_long_as_one_of_its_watchers_is_referred_to() -> None:
    watcher = pyev.Loop().timer(0.0, 0.0, ignore)
    gc.collect()
    watcher.start()
    assert watcher.loop.start() is False


@pytest.mark.parametrize("order", ["loop first", "watcher first"])
def test_a_cycle_of_loop_watcher_and_callback_is_collected(order: str) -> None:
    class Owner:
        def __init__(self) -> None:
            if order == "watcher first":
                self.watcher: Any = None
            self.loop = pyev.Loop(callback=self.deliver)
            self.watcher = self.loop.timer(60.0, 0.0, self.fire)
            self.watcher.start()

        def deliver(self, loop: pyev.Loop) -> None:
            loop.invoke()

        def fire(self, watcher: Any, revents: int) -> None:
            pass

    owner = Owner()
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None


def test_loops_return_their_descriptors() -> None:
    def descriptors() -> int:
        return len(os.listdir("/dev/fd"))

    pyev.Loop().start()
    gc.collect()
    before = descriptors()
    for _ in range(50):
        loop = pyev.Loop()
        wake = loop.async_(ignore)
        wake.start()
        wake.send()
        loop.start(pyev.EVRUN_ONCE)
        wake.stop()
    del loop, wake
    gc.collect()
    assert descriptors() == before


def test_an_embedded_loop_may_be_dropped_while_it_runs(loop: pyev.Loop) -> None:
    backends = pyev.embeddable_backends() & pyev.supported_backends()
    if not backends:
        pytest.skip("this libev has no embeddable backend")
    holder: dict[str, Any] = {"other": pyev.Loop(backends | pyev.EVFLAG_NOENV)}
    reader, writer = os.pipe()

    def drop(watcher: Any, revents: int) -> None:
        watcher.stop()
        holder["embed"].stop()
        holder.clear()

    holder["other"].io(reader, pyev.EV_READ, drop).start()
    holder["embed"] = loop.embed(holder["other"])
    gone = weakref.ref(holder["other"])
    holder["embed"].start()
    os.write(writer, b"x")
    loop.start()
    gc.collect()
    assert gone() is None
    os.close(reader)
    os.close(writer)


def test_memory_stays_flat_over_many_watchers_and_events(loop: pyev.Loop) -> None:
    def churn() -> None:
        for _ in range(20_000):
            watcher = loop.timer(0.0, 0.0, ignore, Probe())
            watcher.start()
            watcher.feed(pyev.EV_CUSTOM)
            loop.invoke()
            watcher.stop()

    churn()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        churn()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 1024  # KiB; 60,000 leaked watchers would be 20,000 and more


def test_garbage_collected_on_another_thread_does_not_disturb_a_running_loop(
    loop: pyev.Loop,
) -> None:
    """The finalizers of loops and watchers run wherever the collector happens to run."""
    stopping = threading.Event()
    wake = loop.async_(lambda w, r: loop.stop())
    wake.start()
    count = 0

    def tick(watcher: Any, revents: int) -> None:
        nonlocal count
        count += 1
        watcher.data = [loop.timer(1.0, 0.0, ignore), loop.prepare(ignore)]
        watcher.data.append(watcher.data)  # a cycle: left to the collector

    timer = loop.timer(0.0, 0.0001, tick)
    timer.start()

    def collect() -> None:
        started = time.monotonic()
        # On a busy machine the loop has few turns beside so much collecting.
        while (lasted := time.monotonic() - started) < 0.5 or (count <= 10 and lasted < 10):
            other = pyev.Loop()
            other.timer(60.0, 0.0, ignore).start()
            del other
            gc.collect()
        stopping.set()
        wake.send()

    thread = threading.Thread(target=collect)
    thread.start()
    loop.start()
    thread.join()
    assert stopping.is_set()
    assert count > 10


@pytest.mark.parametrize("kind", ["blocking", "idle", "prepare", "io"])
def test_other_threads_get_their_turn_while_the_loop_runs(loop: pyev.Loop, kind: str) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"x")
    watchers: dict[str, Any] = {
        "blocking": loop.timer(60.0, 0.0, ignore),
        "idle": loop.idle(ignore),
        "prepare": loop.prepare(ignore),
        "io": loop.io(reader, pyev.EV_READ, ignore),
    }
    watchers[kind].start()
    wake = loop.async_(lambda w, r: loop.stop())
    wake.start()
    steps = 0

    def work() -> None:
        nonlocal steps
        try:
            deadline = time.monotonic() + 0.1
            while time.monotonic() < deadline:
                time.sleep(0)
                steps += 1
        finally:
            wake.send()

    thread = threading.Thread(target=work)
    thread.start()
    loop.start()
    thread.join()
    watchers[kind].stop()
    os.close(reader)
    os.close(writer)
    assert steps > 100


def test_reprs_tell_the_state(loop: pyev.Loop) -> None:
    timer = loop.timer(60.0, 0.0, lambda w, r: None)
    assert repr(timer).startswith("<Timer inactive at 0x")
    timer.start()
    timer.feed(pyev.EV_CUSTOM)
    assert repr(timer).startswith("<Timer active and pending at 0x")
    timer.stop()
    assert repr(loop).startswith("<Loop own, stopped at 0x")
    states: list[str] = []
    loop.timer(0.0, 0.0, lambda w, r: states.append(repr(loop))).start()
    loop.start()
    assert states[0].startswith("<Loop own, running at 0x")
    assert repr(pyev.default_loop()).startswith("<Loop default, ")


def test_a_watcher_whose_constructor_failed_has_a_repr() -> None:
    assert repr(pyev.Timer.__new__(pyev.Timer)).startswith("<Timer inactive at 0x")
    assert repr(pyev.Loop.__new__(pyev.Loop)).startswith("<Loop own, stopped at 0x")


class RunsTheLoop:
    """What a watcher refers to, and whose end runs the loop."""

    def __init__(self, loop: pyev.Loop) -> None:
        self.loop = loop

    def __del__(self) -> None:
        self.loop.start(pyev.EVRUN_NOWAIT)


def test_a_watcher_that_is_being_freed_gets_no_event(loop: pyev.Loop) -> None:
    """As when the collector has cleared the loop's table before it comes to the watcher."""
    fired: list[int] = []
    watcher = loop.idle(lambda w, r: fired.append(r))
    watcher.data = RunsTheLoop(loop)
    watcher.start()
    loop._held.clear()
    gone = weakref.ref(watcher)
    del watcher
    assert gone() is None
    assert fired == []
    assert not loop.start(pyev.EVRUN_NOWAIT)


def test_a_class_of_watchers_may_fail_before_the_base_is_made(loop: pyev.Loop) -> None:
    class Half(pyev.Prepare):
        def __init__(self) -> None:
            """Leave out the base's constructor."""

    half = Half()
    for use in (lambda: half.feed(1), half.start, lambda: half.callback, lambda: half.active):
        with pytest.raises(AttributeError):
            use()
    for wrong in ("x", None, 1.5):
        with pytest.raises(TypeError):
            loop.prepare(ignore).feed(wrong)  # type: ignore[arg-type]
    for huge in (1 << 40, 1 << 80):
        with pytest.raises(OverflowError):
            loop.prepare(ignore).feed(huge)
    watcher = loop.prepare(ignore)
    with pytest.raises(ValueError, match="second"):
        watcher._own(1)
