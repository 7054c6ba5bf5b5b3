"""Back-pressure both ways: bounds of what is unsent, pausing, and nobody starved by a flood."""

from __future__ import annotations

import time
from typing import Any

import pytest

from lab import inside
from lab.steps import collect, flushed
from nats_ev import OutboundBufferLimitError, SlowConsumerError, pyev

# Outbound.


def test_slow_consumer_is_told_once_per_crossing_and_on_the_loop(proxy, server, connected, run):
    between = proxy(server.port)
    nats, told = connected(between), []
    nats.slow_consumer(1000, told.append)
    for _ in range(5):
        nats.publish("x", b"y" * 500)
    assert told == []
    run(lambda: told)
    assert len(told) == 1
    flushed(nats, run)
    for _ in range(5):
        nats.publish("x", b"y" * 500)
    run(lambda: len(told) == 2)
    nats.slow_consumer(0)
    nats.publish("x", b"y" * 5000)
    flushed(nats, run)
    assert len(told) == 2


def fill(nats: Any, loop: Any) -> int:
    """Publish until the kernel takes nothing any more; returns the bytes that are unsent."""
    while not inside.unsent_bytes(nats):
        nats.publish("x", b"y" * 65536)
        for _ in range(3):
            loop.start(pyev.EVRUN_NOWAIT)
    return inside.unsent_bytes(nats)


def test_slow_consumer_is_told_once_while_the_server_reads_nothing(
    proxy, server, connected, loop, run
):
    between = proxy(server.port)
    nats, told = connected(between), []
    between.stall()
    nats.slow_consumer(fill(nats, loop) + (1 << 20), told.append)
    for _ in range(160):
        nats.publish("x", b"y" * 65536)
        loop.start(pyev.EVRUN_NOWAIT)
    assert len(told) == 1
    assert told[0] > 1 << 20
    between.resume()
    flushed(nats, run)
    between.stall()
    nats.slow_consumer(fill(nats, loop) + (1 << 20), told.append)
    for _ in range(160):
        nats.publish("x", b"y" * 65536)
    run(lambda: len(told) == 2)


def test_publish_raises_beyond_max_pending_bytes_and_works_again_below(
    proxy, server, connected, loop, run
):
    between = proxy(server.port)
    nats = connected(between, max_pending_bytes=4 << 20)
    between.stall()
    sent = 0
    with pytest.raises(
        OutboundBufferLimitError, match=r"outbound buffer is full \(4194304 bytes\)"
    ):
        for sent in range(100_000):
            nats.publish("x", b"y" * 65536)
            if sent % 16 == 0:
                loop.start(pyev.EVRUN_NOWAIT)
    stats = nats.stats()
    assert stats["accepted"] == sent
    assert stats["waiting"] * 65536 <= 4 << 20
    sid = nats.subscribe("control.frames.fit", print)
    nats.unsubscribe(sid)
    between.resume()
    flushed(nats, run)
    nats.publish("x", b"y")
    flushed(nats, run)
    assert nats.stats()["written"] == sent + 1


# Inbound.


def test_a_flood_of_slow_callbacks_does_not_starve_a_timer(server, connected, loop, run):
    nats, other, got, late = connected(server), connected(server), [], []

    def slow(*message: Any) -> None:
        got.append(message)
        until = time.perf_counter() + 0.0002
        while time.perf_counter() < until:
            pass

    nats.subscribe("flood", slow)
    flushed(nats, run)
    for _ in range(3000):
        other.publish("flood", b"x")
    last = time.monotonic()

    def tick(watcher: Any, revents: int) -> None:
        nonlocal last
        late.append(time.monotonic() - last)
        last = time.monotonic()

    timer = loop.timer(0.001, 0.001, tick)
    timer.start()
    run(lambda: len(got) == 3000)
    timer.stop()
    # A run without giving way would be 0.6 s long and let the timer fire a few times at best.
    assert len(late) >= 15


def test_messages_and_fences_keep_their_order_when_dispatch_gives_way(server, connected, run):
    nats, other, seen = connected(server), connected(server), []

    def slow(subject: str, payload: bytes, *rest: Any) -> None:
        seen.append(payload)
        if len(seen) % 50 == 0:
            time.sleep(0.002)

    nats.subscribe("order.*", slow)
    flushed(nats, run)
    for i in range(4000):
        other.publish(f"order.{i % 3}", b"%d" % i)
    flushed(other, run)
    nats.flush(lambda error: seen.append("fence"))
    run(lambda: "fence" in seen)
    assert seen == [b"%d" % i for i in range(4000)] + ["fence"]


def test_paused_messages_come_later_in_order_and_none_is_lost(server, connected, run):
    nats, got, live = connected(server), [], []
    sid = nats.subscribe("p", collect(got))
    nats.subscribe("live", collect(live))
    for i in range(10):
        nats.publish("p", b"%d" % i)
    flushed(nats, run)
    nats.pause(sid)
    nats.pause(sid)
    for i in range(10, 1000):
        nats.publish("p", b"%d" % i)
    nats.publish("live", b"x")
    flushed(nats, run)
    assert len(got) == 10
    assert live == [b"x"]
    info = nats.subscription_info(sid)
    assert info == {
        "sid": sid, "subject": "p", "queue_group": None, "max_msgs": 0, "received": 1000,
        "delivered": 10, "dropped": 0, "pending_msgs": 990, "pending_bytes": sum(
            len(b"%d" % i) for i in range(10, 1000)
        ), "pending_msgs_limit": 500_000, "pending_bytes_limit": 64 << 20, "paused": True,
        "draining": False,
    }  # fmt: skip
    nats.resume(sid)
    assert len(got) == 10  # nothing inside the call
    nats.publish("p", b"1000")
    run(lambda: len(got) == 1001)
    assert got == [b"%d" % i for i in range(1001)]
    for i in range(1001, 1100):
        nats.publish("p", b"%d" % i)
    flushed(nats, run)
    assert got == [b"%d" % i for i in range(1100)]
    info = nats.subscription_info(sid)
    assert (info["received"], info["delivered"], info["paused"]) == (1100, 1100, False)


def test_pausing_inside_the_callback_stops_at_once_and_resuming_goes_on(server, connected, run):
    nats, got = connected(server), []

    def one_at_a_time(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        nats.pause(sid)
        nats.call_later(0, nats.resume, sid)

    sid = nats.subscribe("one", one_at_a_time)
    for i in range(50):
        nats.publish("one", b"%d" % i)
    flushed(nats, run)
    assert len(got) < 50
    run(lambda: len(got) == 50)
    assert got == [b"%d" % i for i in range(50)]
    assert nats.subscription_info(sid)["received"] == 50


def test_beyond_its_limit_messages_are_dropped_counted_and_told_once_per_episode(
    server, connected, run
):
    nats, got = connected(server), []
    sid = nats.subscribe("s", collect(got))
    nats.set_pending_limits(sid, 10)
    nats.pause(sid)
    for i in range(25):
        nats.publish("s", b"%d" % i)
    flushed(nats, run)
    (error,) = nats.recorder.errors
    assert isinstance(error, SlowConsumerError)
    assert (error.sid, error.subject, error.pending, error.dropped) == (sid, "s", 10, 1)
    assert nats.subscription_info(sid)["dropped"] == 15
    nats.resume(sid)
    run(lambda: len(got) == 10)
    assert got == [b"%d" % i for i in range(10)]
    nats.publish("s", b"after")
    run(lambda: got[-1] == b"after")
    nats.pause(sid)
    for i in range(11):
        nats.publish("s", b"%d" % i)
    flushed(nats, run)
    assert len(nats.recorder.errors) == 2
    assert nats.subscription_info(sid)["dropped"] == 16


def test_the_limit_in_bytes_counts_headers_and_payload(server, connected, run):
    nats, got = connected(server), []
    sid = nats.subscribe("b", collect(got))
    nats.set_pending_limits(sid, -1, 100)
    nats.pause(sid)
    block = b"NATS/1.0\r\nA: 1\r\n\r\n"
    for _ in range(5):
        nats.hpublish("b", block, b"x" * (40 - len(block)))
    flushed(nats, run)
    info = nats.subscription_info(sid)
    assert (info["pending_msgs"], info["pending_bytes"], info["dropped"]) == (2, 80, 3)
    nats.set_pending_limits(sid, -1, -1)
    for _ in range(100):
        nats.publish("b", b"y" * 100)
    flushed(nats, run)
    assert nats.subscription_info(sid)["pending_msgs"] == 102


def test_unsubscribing_or_disconnecting_drops_what_is_pending(server, connected, run):
    nats, got = connected(server), []
    first, second = nats.subscribe("x", collect(got)), nats.subscribe("x", collect(got))
    for sid in (first, second):
        nats.pause(sid)
    for _ in range(10):
        nats.publish("x")
    flushed(nats, run)
    nats.unsubscribe(first)
    nats.resume(first)
    nats.resume(second)
    nats.disconnect()
    run(lambda: "disconnect" in nats.recorder.events)
    assert got == []
    assert nats.subscription_info(first) is None


def test_max_msgs_counts_what_is_pending_and_ends_with_the_last_delivered(server, connected, run):
    nats, got = connected(server), []
    sid = nats.subscribe_max("m", collect(got), 5)
    nats.pause(sid)
    for i in range(9):
        nats.publish("m", b"%d" % i)
    flushed(nats, run)
    assert nats.subscription_info(sid)["pending_msgs"] == 5
    nats.resume(sid)
    run(lambda: len(got) == 5)
    assert nats.subscription_count() == 0
    nats.publish("m")
    flushed(nats, run)
    assert got == [b"%d" % i for i in range(5)]


def test_draining_delivers_what_is_pending_too(server, connected, run):
    nats, got, events = connected(server), [], []
    sid = nats.subscribe("d", collect(got))
    nats.pause(sid)
    for i in range(20):
        nats.publish("d", b"%d" % i)
    flushed(nats, run)
    nats.drain_subscription(sid, lambda error: events.append((error, len(got))))
    run(lambda: events)
    assert events == [(None, 20)]
    assert nats.subscription_count() == 0
    other = nats.subscribe("e", collect(got))
    nats.pause(other)
    for i in range(20):
        nats.publish("e", b"%d" % i)
    flushed(nats, run)
    nats.drain(lambda error: events.append((error, len(got))))
    run(lambda: "disconnect" in nats.recorder.events)
    assert events[1] == (None, 40)


def test_a_loss_keeps_what_is_pending_and_the_subscription_comes_back(
    proxy, server, connected, run
):
    between = proxy(server.port)
    nats, got = connected(between, reconnect=True, reconnect_delay=1), []
    sid = nats.subscribe("k", collect(got))
    nats.pause(sid)
    nats.publish("k", b"1")
    flushed(nats, run)
    between.cut()
    run(lambda: nats.recorder.count("connect") == 2)
    nats.publish("k", b"2")
    flushed(nats, run)
    nats.resume(sid)
    run(lambda: len(got) == 2)
    assert got == [b"1", b"2"]


def test_an_exception_that_stops_the_loop_leaves_the_rest_pending(server, connected, run, loop):
    nats, got = connected(server), []

    def stops(subject: str, payload: bytes, *rest: Any) -> None:
        got.append(payload)
        if payload == b"3":
            raise KeyboardInterrupt

    sid = nats.subscribe("s", stops)
    nats.pause(sid)
    for i in range(10):
        nats.publish("s", b"%d" % i)
    flushed(nats, run)
    nats.resume(sid)
    with pytest.raises(KeyboardInterrupt):
        run(lambda: len(got) == 10)
    assert len(got) == 4
    run(lambda: len(got) == 10)
    assert got == [b"%d" % i for i in range(10)]


def test_nothing_is_read_while_reading_is_paused(server, connected, run):
    nats, other, got = connected(server, ping_interval=20), connected(server), []
    nats.subscribe("r", collect(got))
    flushed(nats, run)
    nats.pause_reading()
    for i in range(100):
        other.publish("r", b"%d" % i)
    flushed(other, run)
    waited: list[int] = []
    other.call_later(200, waited.append, 1)  # many ping intervals: their PONGs are not missed
    run(lambda: waited)
    assert got == []
    assert nats.is_connected()
    nats.resume_reading()
    run(lambda: len(got) == 100)
    assert nats.recorder.errors == []


def test_paused_reading_survives_a_reconnect(proxy, server, connected, run):
    between = proxy(server.port)
    nats = connected(between, reconnect=True, reconnect_delay=1)
    other, got, done = connected(server), [], []
    nats.subscribe("r", collect(got))
    flushed(nats, run)
    nats.pause_reading()
    nats.force_reconnect()
    run(lambda: nats.recorder.count("connect") == 2)
    other.publish("r", b"x")
    flushed(other, run)
    other.call_later(50, done.append, 1)
    run(lambda: done)
    assert got == []
    nats.resume_reading()
    run(lambda: got == [b"x"])


def test_unknown_sids_are_ignored_and_the_shared_inbox_is_out_of_reach(server, connected, run):
    nats, answers = connected(server), []
    nats.request("nobody.listens", b"", lambda *a: answers.append(a), 50)
    for sid in (1, 77):
        nats.pause(sid)
        nats.resume(sid)
        nats.set_pending_limits(sid)
        nats.unsubscribe(sid)
        nats.drain_subscription(sid)
        assert nats.subscription_info(sid) is None
    assert nats.subscription_count() == 1
    run(lambda: answers)


@pytest.mark.parametrize("kind", ["plain", "reply", "headers", "changing"])
def test_what_was_delivered_is_exact_at_each_moment(kind, connected, server, run, loop, excepthook):
    nats, seen = connected(server), []

    def check(extra: int = 0) -> dict[str, Any]:
        info = nats.subscription_info(sid)
        assert info["delivered"] == len(seen) - extra
        assert info["received"] == info["delivered"] + info["dropped"] + info["pending_msgs"]
        return info

    def arrived(*message: Any) -> None:
        seen.append(message)
        number = len(seen)
        if number % 3 or number > 600:
            check()
        if number == 100:
            raise ValueError("swallowed")
        if number == 200:  # the nested run takes what follows
            run(lambda: len(seen) >= 300)
        if number == 400:
            nats.pause(sid)
            check()
            nats.resume(sid)
            check()

    sid = nats.subscribe("d.*", arrived)
    for number in range(1000):
        subject = f"d.{number}" if kind == "changing" else "d.1"
        if kind == "headers":
            nats.hpublish(subject, {"a": "b"}, b"%d" % number)
        else:
            nats.publish(subject, b"%d" % number, f"r.{number}" if kind == "reply" else None)
    run(lambda: len(seen) == 1000)
    assert check()["pending_msgs"] == 0
    assert [message[1] for message in seen] == [b"%d" % number for number in range(1000)]
    assert [str(error) for error in excepthook] == ["swallowed"]


@pytest.mark.parametrize("paused", [False, True])
def test_what_a_disconnect_discards_was_not_delivered(paused, connected, server, run):
    nats, seen = connected(server), []

    def arrived(*message: Any) -> None:
        seen.append(message)
        if len(seen) == 10:
            if paused:
                nats.pause(sid)
                nats.flush(lambda err: nats.disconnect())
            else:
                nats.disconnect()

    sid = nats.subscribe("d", arrived)
    for _ in range(500):
        nats.publish("d", b"x")
    run(lambda: "disconnect" in nats.recorder.events)
    info = nats.subscription_info(sid)
    assert (info["delivered"], info["pending_msgs"]) == (10, 0)
    assert info["received"] == info["delivered"] + info["dropped"]
    assert info["dropped"] == (490 if paused else 0)
