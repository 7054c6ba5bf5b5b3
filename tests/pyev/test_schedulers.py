"""`Scheduler` and other watchers whose time, callback or scheduler is changed or wrong."""

from __future__ import annotations

from typing import Any

import pytest

from nats_ev import pyev


def ignore(watcher: Any, revents: int) -> None:
    """Take an event."""


def test_a_time_before_now_is_an_error_at_start(loop):
    watcher = loop.scheduler(lambda watcher, now: now - 1.0, ignore)
    with pytest.raises(ValueError, match="is before now"):
        watcher.start()
    assert not watcher.active


def test_a_reset_asks_the_scheduler_again(loop):
    times = [60.0, 0.0]
    fired: list[int] = []

    def fire(watcher: Any, revents: int) -> None:
        fired.append(revents)
        watcher.stop()

    watcher = loop.scheduler(lambda watcher, now: now + times.pop(0), fire)
    watcher.start()
    times.insert(0, 0.0)
    watcher.reset()
    times.append(60.0)
    loop.start()
    assert fired == [pyev.EV_PERIODIC]


def test_a_reset_raises_what_the_scheduler_raises(loop):
    watcher = loop.scheduler(lambda watcher, now: now + 60.0, ignore)
    watcher.start()
    watcher.scheduler = lambda watcher, now: now - 1.0
    with pytest.raises(ValueError, match="is before now"):
        watcher.reset()
    assert not watcher.active


def test_callback_and_scheduler_can_be_replaced_by_callables_only(loop):
    watcher = loop.scheduler(lambda watcher, now: now, ignore)
    for name in ("callback", "scheduler"):
        with pytest.raises(TypeError, match=name):
            setattr(watcher, name, 5)
    fired: list[int] = []

    def fire(watcher: Any, revents: int) -> None:
        fired.append(revents)
        watcher.stop()

    watcher.callback = fire
    assert watcher.callback is fire
    watcher.start()
    loop.start()
    assert fired == [pyev.EV_PERIODIC]


def test_a_failed_schedule_leaves_no_error_for_the_next_start(loop):
    times = [-1.0, 0.0, 60.0]
    fired: list[int] = []

    def fire(watcher: Any, revents: int) -> None:
        fired.append(revents)
        watcher.stop()

    watcher = loop.scheduler(lambda watcher, now: now + times.pop(0), fire)
    with pytest.raises(ValueError, match="is before now"):
        watcher.start()
    watcher.start()
    loop.start()
    assert fired == [pyev.EV_PERIODIC]


def test_a_loops_callback_can_be_read_and_taken_away(loop):
    fired: list[int] = []
    invoked: list[Any] = []

    def deliver(loop: Any) -> None:
        invoked.append(loop)
        loop.invoke()

    timer = loop.timer(0.0, 0.0, lambda watcher, revents: fired.append(revents))
    assert loop.callback is None
    loop.callback = None
    loop.callback = deliver
    assert loop.callback is deliver
    timer.start()
    loop.start()
    assert (fired, set(invoked)) == ([pyev.EV_TIMER], {loop})
    loop.callback = None
    assert loop.callback is None
    invoked.clear()
    timer.set(0.0, 0.0)
    timer.start()
    loop.start()
    assert (fired, invoked) == ([pyev.EV_TIMER] * 2, [])


@pytest.mark.parametrize("name", ["io_interval", "timeout_interval"])
def test_the_intervals_of_a_loop_can_be_set(loop, name):
    setattr(loop, name, 0.001)
    assert getattr(loop, name) == 0.001
    fired: list[int] = []
    loop.timer(0.0, 0.0, lambda watcher, revents: fired.append(revents)).start()
    loop.start()
    assert fired == [pyev.EV_TIMER]
    for value in (-1.0, "1", float("nan")):
        with pytest.raises((TypeError, ValueError)):
            setattr(loop, name, value)
    assert getattr(loop, name) == 0.001


def test_an_embedded_loop_can_be_swept_by_hand(loop):
    backends = pyev.embeddable_backends() & pyev.supported_backends()
    if not backends:
        pytest.skip("this libev has no embeddable backend")
    inner = pyev.Loop(backends | pyev.EVFLAG_NOENV)
    fired: list[int] = []

    def sweep(watcher: Any, revents: int) -> None:
        watcher.sweep()

    embed = loop.embed(inner, sweep)
    idle = inner.prepare(lambda watcher, revents: fired.append(revents))
    idle.start()
    embed.start()
    embed.sweep()
    assert fired == [pyev.EV_PREPARE]
    embed.stop()
