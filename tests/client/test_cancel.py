"""`cancel_request` at every moment: the callback never comes, the frame is not sent, nothing is held."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from lab.steps import collect, flushed
from nats_ev.testing import free_port

WAYS = ["request", "request_many", "with headers", "no responders"]


def ask(nats: Any, way: str, cb: Any, subject: str = "silent", timeout: int = 60_000) -> int:
    if way == "request_many":
        return int(nats.request_many(subject, b"x", cb, timeout))
    if way == "with headers":
        return int(nats.request(subject, b"x", cb, timeout, headers={"A": "b"}))
    if way == "no responders":
        return int(nats.request(subject, b"x", cb, timeout, no_responders=True))
    return int(nats.request(subject, b"x", cb, timeout))


@pytest.fixture
def responder(connected: Any, server: Any, run: Any) -> Any:
    """responder(subject, b"1", …): another client that gives these answers."""
    other = connected(server)

    def answer(subject: str, *answers: bytes) -> None:
        def serve(_: str, payload: bytes, reply: str, headers: Any) -> None:
            for one in answers:
                other.publish(reply, one)

        other.subscribe(subject, serve)
        flushed(other, run)

    return answer


class Callback:
    """One that can be watched; a list of what it got."""

    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls

    def __call__(self, *answer: Any) -> None:
        self.calls.append(answer)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("moment", ["same turn", "in flight", "connecting", "waiting to reconnect"])
def test_the_callback_is_released_at_once(client, server, run, way, moment):
    nats, calls = client(reconnect=True, reconnect_delay=60_000), []
    if moment == "waiting to reconnect":
        nats.connect("127.0.0.1", free_port())
        run(lambda: nats.recorder.errors)
    else:
        nats.connect(server.host, server.port)
    if moment in ("same turn", "in flight"):
        run(nats.is_connected)
        nats.subscribe("silent", lambda *message: None)
        flushed(nats, run)
    callback = Callback(calls)
    gone = weakref.ref(callback)
    before = nats.stats()["accepted"]
    gc.disable()
    try:
        number = ask(nats, way, callback)
        del callback
        if moment == "in flight":
            flushed(nats, run)
        nats.cancel_request(number)
        assert gone() is None
    finally:
        gc.enable()
    nats.cancel_request(number)
    if moment == "in flight":
        assert nats.stats()["written"] > before
        return
    later: list[Any] = []
    nats.call_later(1, later.append, 1)
    run(lambda: later)
    stats = nats.stats()
    assert stats["accepted"] == stats["written"] + stats["waiting"] + stats["discarded"]
    assert (nats.waiting_count(), stats["waiting"]) == (0, 0)
    if moment == "same turn":
        assert stats["written"] == before
    assert calls == []


@pytest.mark.parametrize("way", WAYS)
def test_a_request_queued_while_connecting_is_not_sent_and_its_neighbours_are(
    client, connected, server, run, way
):
    peer, got, calls = connected(server), [], []
    peer.subscribe("queued.>", lambda subject, *rest: got.append(subject))
    flushed(peer, run)
    nats = client(server)
    nats.publish("queued.1")
    number = ask(nats, way, lambda *answer: calls.append(answer), "queued.2")
    nats.publish("queued.3")
    nats.cancel_request(number)
    run(nats.is_connected)
    flushed(nats, run)
    flushed(peer, run)
    assert got == ["queued.1", "queued.3"]
    assert calls == []


@pytest.mark.parametrize("way", WAYS)
def test_a_request_in_the_reconnect_queue_is_not_sent(proxy, connected, server, run, way):
    between = proxy(server.port)
    nats, got, calls = connected(between, reconnect=True, reconnect_delay=1), [], []
    nats.subscribe("queued.>", lambda subject, *rest: got.append(subject))
    between.cut()
    run(lambda: "disconnect" in nats.recorder.events)
    nats.publish("queued.1")
    number = ask(nats, way, lambda *answer: calls.append(answer), "queued.2")
    nats.publish("queued.3")
    later = ask(nats, way, lambda *answer: calls.append(answer), "queued.4")
    assert nats.waiting_count() == 4
    nats.cancel_request(number)
    run(nats.is_connected)
    flushed(nats, run)
    assert got == ["queued.1", "queued.3", "queued.4"]
    nats.cancel_request(later)
    assert calls == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ["disconnect", "loss", "skip_waiting", "time-out"])
def test_a_request_that_is_cancelled_while_the_others_fail(connected, proxy, server, run, way, end):
    between = proxy(server.port)
    nats, calls = connected(between, reconnect=True, reconnect_delay=60_000), []
    nats.subscribe("silent", lambda *message: None)
    numbers: list[int] = []

    def failed(*answer: Any) -> None:
        calls.append(answer)
        for number in numbers[1:4]:
            nats.cancel_request(number)

    if end == "skip_waiting":
        between.cut()
        run(lambda: "disconnect" in nats.recorder.events)
    timeout = 5 if end == "time-out" else 60_000
    numbers += [ask(nats, way, failed, timeout=timeout) for _ in range(5)]
    if end == "disconnect":
        flushed(nats, run)
        nats.disconnect()
    elif end == "loss":
        flushed(nats, run)
        between.cut()
    elif end == "skip_waiting":
        nats.skip_waiting()
    run(lambda: len(calls) == 2)
    later: list[Any] = []
    nats.call_soon(later.append, 1)
    run(lambda: later)
    assert len(calls) == 2
    assert all(response is None and error is not None for response, error, _ in calls)


def test_a_request_that_cancels_itself_or_others_in_its_callback(connected, server, run, responder):
    responder("echo", b"1")
    nats, calls = connected(server), []
    numbers: list[int] = []

    def answered(*answer: Any) -> None:
        calls.append(answer[0])
        for number in [*numbers[:1], *numbers[2:]]:
            nats.cancel_request(number)

    numbers += [nats.request("echo", b"", answered) for _ in range(4)]
    flushed(nats, run)
    flushed(nats, run)
    assert calls == [b"1", b"1"]  # those of the first and the second
    nats.cancel_request(numbers[1])


@pytest.mark.parametrize("at", [1, 2, 3])
def test_cancelling_between_the_answers_prevents_the_final_call_too(
    connected, server, run, responder, at
):
    responder("three", b"1", b"2", b"3")
    nats, calls = connected(server), []

    def answered(*answer: Any) -> None:
        calls.append(answer)
        if len(calls) == at:
            nats.cancel_request(number)

    number = nats.request_many("three", b"", answered, 60_000, max_msgs=3)
    later: list[Any] = []
    nats.call_later(80, later.append, 1)
    run(lambda: later)
    assert [answer[0] for answer in calls] == [b"1", b"2", b"3"][:at]


@pytest.mark.parametrize("way", WAYS)
def test_a_drain_ends_when_its_last_request_is_cancelled(connected, server, run, way):
    nats, calls, done = connected(server), [], []
    nats.subscribe("silent", lambda *message: None)
    numbers = [ask(nats, way, lambda *answer: calls.append(answer)) for _ in range(3)]
    flushed(nats, run)
    nats.drain(done.append)
    nats.call_later(10, lambda: [nats.cancel_request(number) for number in numbers])
    run(lambda: done)
    assert (calls, done) == ([], [None])


def test_an_answer_that_comes_later_reaches_nobody(connected, server, run):
    nats, peer, replies, calls = connected(server), connected(server), [], []
    peer.subscribe("late", lambda subject, payload, reply, headers: replies.append(reply))
    flushed(peer, run)
    number = nats.request("late", b"", lambda *answer: calls.append(answer))
    run(lambda: replies)
    nats.cancel_request(number)
    other = nats.request("late", b"", lambda *answer: calls.append(answer))
    run(lambda: len(replies) == 2)
    peer.publish(replies[0], b"old")
    peer.publish(replies[1], b"new")
    run(lambda: calls)
    assert [answer[0] for answer in calls] == [b"new"]
    nats.cancel_request(other)


def test_cancelling_very_many_takes_their_frames_out_and_keeps_the_rest_in_order(
    connected, server, run
):
    nats, got, calls = connected(server), [], []
    nats.subscribe("n", collect(got))
    numbers = []
    for index in range(20_000):
        numbers.append(nats.request("n", b"%d" % index, lambda *answer: calls.append(answer), 0))
    for index, number in enumerate(numbers):
        if index % 1000:
            nats.cancel_request(number)
    flushed(nats, run)
    assert got == [b"%d" % index for index in range(0, 20_000, 1000)]
    assert calls == []
