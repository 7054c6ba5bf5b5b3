"""`pause`, `resume` and `ask` of watches, of keys and of objects."""

from __future__ import annotations

from typing import Any

import pytest

from lab.steps import flushed
from nats_ev import KV, BadOptionsError, JetStream, ObjectStore


class Watched:
    """What a watch has delivered: names, and None for the end of the initial data."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.errors: list[Any] = []
        self.then: Any = lambda name: None

    def __call__(self, entry: Any, err: Any) -> None:
        if err is not None:
            self.errors.append(err)
            return
        name = None if entry is None else getattr(entry, "key", None) or entry["name"]
        self.seen.append(name)
        self.then(name)


class Keys:
    """A bucket of keys."""

    def __init__(self, js: JetStream, call: Any) -> None:
        self.store, self.call = KV(js, "paused"), call
        assert call(self.store.create_bucket, {"storage": "memory", "history": 5})[1] is None

    def write(self, *names: str) -> None:
        for name in names:
            assert self.call(self.store.put, name, b"x")[1] is None

    def delete(self, name: str) -> None:
        assert self.call(self.store.delete, name)[1] is None

    def watch(self, cb: Any, **options: Any) -> Any:
        return self.store.watch(">", cb, **options)


class Objects(Keys):
    """A store of objects."""

    def __init__(self, js: JetStream, call: Any) -> None:
        self.store, self.call = ObjectStore(js, "paused"), call
        assert call(self.store.create_bucket, {"storage": "memory"})[1] is None

    def watch(self, cb: Any, **options: Any) -> Any:
        return self.store.watch(cb, **options)


@pytest.fixture(params=[Keys, Objects])
def bucket(request: pytest.FixtureRequest, js: JetStream, call: Any) -> Any:
    return request.param(js, call)


def names(first: int, end: int) -> list[str]:
    return [f"k{number}" for number in range(first, end)]


def idle(nats: Any, run: Any, ms: int = 60) -> None:
    done: list[int] = []
    nats.call_later(ms, done.append, 1)
    run(lambda: done)


def test_entries_come_as_they_are_asked_for_and_the_mark_after_the_last_one(js, bucket, run):
    bucket.write(*names(0, 10))
    got = Watched()
    watch = bucket.watch(got)
    watch.ask(0)
    assert watch.paused
    idle(js.nats, run)
    assert got.seen == []
    watch.ask(3)
    run(lambda: len(got.seen) == 3)
    idle(js.nats, run)
    assert watch.paused
    watch.ask(7)
    run(lambda: None in got.seen)
    assert got.seen == [*names(0, 10), None]
    bucket.write(*names(10, 13))
    idle(js.nats, run)
    assert len(got.seen) == 11
    watch.ask(2)
    run(lambda: len(got.seen) == 13)
    watch.resume()
    run(lambda: len(got.seen) == 14)
    assert got.seen[11:] == names(10, 13)
    with pytest.raises(BadOptionsError):
        watch.ask(-1)
    watch.stop()
    watch.ask(1)
    assert not watch.paused


def test_pausing_in_the_callback_of_any_entry(js, bucket, run):
    bucket.write(*names(0, 30))
    got = Watched()

    def pause(name: str | None) -> None:
        if name is not None:
            watch.pause()
            js.nats.call_later(1, watch.resume)

    got.then = pause
    watch = bucket.watch(got)
    run(lambda: None in got.seen)
    assert got.seen == [*names(0, 30), None]
    watch.stop()


def test_an_empty_bucket_has_its_mark_without_being_asked(js, bucket, run):
    got = Watched()
    watch = bucket.watch(got)
    watch.ask(0)
    run(lambda: got.seen == [None])
    bucket.write("k0")
    idle(js.nats, run)
    assert got.seen == [None]
    watch.ask(1)
    run(lambda: got.seen == [None, "k0"])
    watch.stop()


def test_an_entry_that_is_left_out_does_not_count(js, bucket, run):
    bucket.write(*names(0, 6))
    for name in names(1, 5):
        bucket.delete(name)
    bucket.write("k6")
    got = Watched()
    watch = bucket.watch(got, ignore_deletes=True)
    watch.ask(3)
    run(lambda: None in got.seen)
    assert got.seen == ["k0", "k5", "k6", None]
    watch.stop()


def test_a_paused_watch_outlives_a_reconnect(js, bucket, run):
    js.nats.reconnect(True)
    bucket.write(*names(0, 20))
    got = Watched()
    got.then = lambda name: watch.pause() if name == "k4" else None
    watch = bucket.watch(got)
    run(lambda: len(got.seen) == 5)
    for expected in (2, 3):
        js.nats.force_reconnect()
        run(lambda expected=expected: js.nats.recorder.count("connect") == expected)
        idle(js.nats, run)
        assert got.seen == names(0, 5)
    watch.ask(4)
    run(lambda: len(got.seen) == 9)
    idle(js.nats, run)
    watch.resume()
    run(lambda: None in got.seen)
    bucket.write("k99")
    run(lambda: got.seen[-1] == "k99")
    assert got.seen == [*names(0, 20), None, "k99"]
    watch.stop()


def test_a_drain_delivers_the_initial_data_of_a_paused_watch(
    js, bucket, run, connected, line_server
):
    bucket.write(*names(0, 40))
    own = JetStream(connected(line_server("newest")))
    other = KV(own, "paused") if isinstance(bucket.store, KV) else ObjectStore(own, "paused")
    got, done = Watched(), []
    got.then = lambda name: watch.pause() if name == "k4" else None
    watch = other.watch(">", got) if isinstance(other, KV) else other.watch(got)
    run(lambda: len(got.seen) == 5)
    own.nats.drain(done.append)
    run(lambda: done)
    assert done == [None]
    assert got.seen == [*names(0, 40), None]


def test_stopping_and_disconnecting_a_paused_watch(js, bucket, run, connected, line_server):
    bucket.write(*names(0, 40))
    got = Watched()
    got.then = lambda name: watch.pause() if name == "k4" else None
    watch = bucket.watch(got)
    run(lambda: len(got.seen) == 5)
    watch.stop()
    idle(js.nats, run)
    assert (got.seen, got.errors) == (names(0, 5), [])
    own = JetStream(connected(line_server("newest")))
    other = KV(own, "paused") if isinstance(bucket.store, KV) else ObjectStore(own, "paused")
    got = Watched()
    got.then = lambda name: watch.pause() if name == "k4" else None
    watch = other.watch(">", got) if isinstance(other, KV) else other.watch(got)
    run(lambda: len(got.seen) == 5)
    own.nats.disconnect()
    run(lambda: got.errors)
    assert got.seen == names(0, 5)
    assert watch.stopped


def test_a_pause_before_the_bucket_is_known(js, bucket, run):
    bucket.write("k0")
    got = Watched()
    fresh = type(bucket.store)(js, "paused")
    watch = fresh.watch(">", got) if isinstance(fresh, KV) else fresh.watch(got)
    watch.pause()
    flushed(js.nats, run)
    idle(js.nats, run)
    assert (got.seen, watch.paused) == ([], True)
    watch.ask(1)
    run(lambda: None in got.seen)
    assert got.seen == ["k0", None]
    watch.stop()


def test_a_list_of_keys_comes_at_its_takers_pace(js, call, run):
    bucket = Keys(js, call)
    bucket.write(*names(0, 10))
    seen: list[Any] = []
    listing = bucket.store.list_keys(lambda key, err: seen.append(key))
    listing.ask(4)
    run(lambda: len(seen) == 4)
    idle(js.nats, run)
    assert len(seen) == 4
    listing.ask(6)
    run(lambda: None in seen)
    assert seen == [*names(0, 10), None]
