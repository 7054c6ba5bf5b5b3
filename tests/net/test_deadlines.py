"""Deadlines on a virtual clock: order, cancelling, memory, and one timer for all of them."""

from __future__ import annotations

import random
import weakref

import pytest

from lab import inside
from lab.fakeloop import FakeLoop
from nats_ev.net.deadlines import Deadline, Deadlines


@pytest.fixture
def fake_loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def deadlines(fake_loop: FakeLoop) -> Deadlines:
    return Deadlines(fake_loop, fake_loop.clock)


def test_each_expires_once_at_its_time_and_in_order(fake_loop, deadlines):
    seen = []
    for seconds in (3.0, 1.0, 2.0, 1.0):
        deadlines.after(seconds, lambda s=seconds: seen.append((s, fake_loop.now - 1000)))
    fake_loop.advance(10)
    assert [s for s, _ in seen] == [1.0, 1.0, 2.0, 3.0]
    assert all(at == pytest.approx(s) for s, at in seen)
    assert not any(timer.active for timer in fake_loop.timers)


def test_one_for_a_time_expires_then_and_one_for_the_past_at_once(fake_loop, deadlines):
    seen = []
    for at in (1.5, 0.5, 1.5, -1.0):
        entry = Deadline(lambda at=at: seen.append((at, fake_loop.now - 1000)))
        deadlines.add_at(entry, 1000 + at)
    deadlines.after(1.0, lambda: seen.append((1.0, fake_loop.now - 1000)))
    assert not seen
    fake_loop.advance(5)
    assert [at for at, _ in seen] == [-1.0, 0.5, 1.0, 1.5, 1.5]
    assert all(now == pytest.approx(max(at, 0), abs=1e-5) for at, now in seen)
    assert not inside.kept_deadlines(deadlines)


def test_one_that_is_cancelled_releases_its_callback_also_among_others(deadlines):
    first = deadlines.after(1.0, print)
    content = type("Content", (), {})()
    held = weakref.ref(content)
    deadlines.after(2.0, lambda content=content: None).cancel()
    del content
    assert held() is None
    assert first.waiting


def test_a_random_mix_of_adding_and_cancelling_expires_exactly_the_rest(fake_loop, deadlines):
    rng = random.Random(7)
    waiting: dict[int, tuple[float, Deadline]] = {}
    expired: list[int] = []

    def add(number: int) -> None:
        seconds = rng.choice([0.0, 0.05, 0.5, 2.0, rng.random()])
        due = fake_loop.now + seconds
        waiting[number] = (due, deadlines.after(seconds, lambda: expire(number)))

    def expire(number: int) -> None:
        due, _ = waiting.pop(number)
        assert due - 1e-6 <= fake_loop.now <= due + 1e-5
        expired.append(number)

    cancelled = 0
    for number in range(3000):
        add(number)
        if rng.random() < 0.5 and waiting:
            deadlines.end(waiting.pop(rng.choice(list(waiting)))[1])
            cancelled += 1
        if rng.random() < 0.3:
            fake_loop.advance(rng.random() / 50)
    fake_loop.advance(5)
    assert not waiting
    assert len(expired) + cancelled == 3000


def test_a_deadline_added_by_one_that_expires_waits_for_the_next_iteration(fake_loop, deadlines):
    rounds = []

    def again() -> None:
        rounds.append(fake_loop.now)
        if len(rounds) < 5:
            deadlines.after(0.0, again)

    deadlines.after(0.0, again)
    fake_loop.advance(0.0000015)  # one firing of the timer
    assert len(rounds) == 1
    fake_loop.advance(1)
    assert len(rounds) == 5


def test_cancelling_twice_or_after_expiry_is_harmless(fake_loop, deadlines):
    entry = deadlines.after(1, lambda: None)
    deadlines.end(entry)
    deadlines.end(entry)
    other = deadlines.after(1, lambda: None)
    fake_loop.advance(2)
    other.cancel()
    deadlines.end(None)


def test_the_timer_is_armed_from_the_present_and_not_from_a_stale_now(fake_loop, deadlines):
    before = fake_loop.updates
    deadlines.after(0.5, lambda: None)
    assert fake_loop.updates == before + 1


def test_cancelled_ones_behind_a_long_lived_first_do_not_pile_up(fake_loop, deadlines):
    deadlines.after(5.0, lambda: None)
    for _ in range(10_000):
        deadlines.end(deadlines.after(5.0, lambda: None))
    assert inside.kept_deadlines(deadlines) < 300


def test_cancelled_ones_of_ever_other_lengths_leave_nothing(fake_loop, deadlines):
    for i in range(100_000):
        deadlines.after(3600 + i / 1000, print).cancel()
        assert inside.kept_deadlines(deadlines) <= 100


def test_a_cancelled_one_is_released_at_once_however_few_wait(fake_loop, deadlines):
    """What it would have called may hold megabytes."""

    class Content:
        def look(self) -> None:
            """Never called."""

    first = deadlines.after(1.0, print)
    content = Content()
    released = weakref.ref(content)
    deadline = deadlines.after(3600.0, content.look)
    deadline.cancel()
    del content, deadline
    assert released() is None
    assert first.waiting


def test_different_lengths_that_are_over_leave_nothing(fake_loop, deadlines):
    for i in range(1000):
        deadlines.after(0.001 * (i + 1), lambda: None)
    fake_loop.advance(2)
    assert not inside.kept_deadlines(deadlines)


def test_an_expiry_that_raises_does_not_stop_the_others(fake_loop, deadlines):
    seen = []

    def bad() -> None:
        raise RuntimeError("mine")

    deadlines.after(1, bad)
    deadlines.after(1, lambda: seen.append(1))
    with pytest.raises(RuntimeError):
        fake_loop.advance(2)
    fake_loop.advance(2)
    assert seen == [1]


def test_stop_forgets_all(fake_loop, deadlines):
    seen = []
    entry = deadlines.after(1, lambda: seen.append(1))
    deadlines.stop()
    entry.cancel()
    fake_loop.advance(5)
    assert seen == []
    deadlines.after(1, lambda: seen.append(2))
    fake_loop.advance(5)
    assert seen == [2]
