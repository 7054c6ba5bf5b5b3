"""What `consume` asks the server for, and how priority groups share it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from nats_ev import BadOptionsError, JetStream, PinIdMismatchError

MS = 1_000_000
GROUP = {"ack_policy": "explicit", "priority_groups": ["g"]}


@pytest.fixture
def other(js: JetStream, connected: Any) -> JetStream:
    """`js` on a connection of its own."""
    host, port = js.nats.connected_url().rpartition("/")[2].rsplit(":", 1)
    return JetStream(connected(None, host=host, port=int(port)))


@pytest.fixture
def publish(js: JetStream, call: Any) -> Any:
    """publish(n): n messages more in S, numbered from 0 on."""
    call(js.stream_create, {"name": "S", "subjects": ["s"], "storage": "memory"})
    numbers = iter(range(10_000))

    def publish(count: int) -> None:
        for _ in range(count):
            js.publish_async("s", str(next(numbers)), lambda ack, err: None)
        assert call(js.publish_complete) == (True, None)

    return publish


@pytest.fixture
def start(run: Any) -> Any:
    """start(js, consumer, **opts): a running consume that acks, with `numbers` and `errors`."""
    running: list[Any] = []

    def start(js: JetStream, consumer: str, **opts: Any) -> Any:
        numbers: list[int] = []
        errors: list[Any] = []

        def on_message(msg: Any, err: Any) -> None:
            assert err is None
            numbers.append(int(msg.data))
            msg.ack()

        consume = js.consume("S", consumer, {"on_error": errors.append, **opts}, on_message)
        consume.numbers, consume.errors = numbers, errors  # type: ignore[attr-defined]
        running.append(consume)
        return consume

    yield start
    for consume in running:
        consume.stop()


def flush(js: JetStream, call: Any) -> None:
    assert call(lambda cb: js.nats.flush(lambda err: cb(None, err))) == (None, None)


def waiting(js: JetStream, call: Any, consumer: str) -> int:
    info, _ = call(js.consumer_info, "S", consumer)
    return int(info["num_waiting"])


@pytest.mark.parametrize(
    ("opts", "batches"),
    [
        # So many at first, then as many as have come, as soon as half of them has.
        ({}, [500, 250, 250, 250, 250]),
        ({"max_messages": 10, "threshold_messages": 2}, [10] + [8] * 124 + [8]),
        ({"max_messages": 100, "threshold_messages": 0}, [100] * 11),
        ({"stop_after": 1000}, [500, 250, 250]),
    ],
)
def test_consume_asks_for_the_rest_at_the_threshold(
    js, other, publish, start, call, run, opts, batches
):
    publish(1000)
    call(js.consumer_create, "S", {"name": "c", "ack_policy": "explicit"})
    asked: list[Any] = []
    subject = "$JS.API.CONSUMER.MSG.NEXT.S.c"
    other.nats.subscribe(subject, lambda subject, data, *rest: asked.append(json.loads(data)))
    flush(other, call)
    consume = start(js, "c", expires=timedelta(seconds=20), **opts)
    run(lambda: len(consume.numbers) == 1000)
    run(lambda: len(asked) >= len(batches))
    assert [request["batch"] for request in asked] == batches
    times = [(request["expires"], request["idle_heartbeat"]) for request in asked]
    # Whoever does not answer at all is noticed within the timeout: the first heartbeats are shorter.
    assert times[0] == (20_000 * MS, int(js.timeout * MS / 3))
    assert set(times[1:]) == {(20_000 * MS, 10_000 * MS)}


@pytest.mark.since(2, 12)
def test_prioritized_clients_get_messages_in_the_order_of_their_priority(
    js, other, publish, start, call, run, eventually
):
    publish(0)
    call(js.consumer_create, "S", {**GROUP, "name": "p", "priority_policy": "prioritized"})
    low = start(other, "p", group="g", priority=5, max_messages=4)
    high = start(js, "p", group="g", priority=1, max_messages=4)
    eventually(lambda: waiting(js, call, "p") == 2)
    publish(3)
    run(lambda: len(high.numbers) == 3)
    assert low.numbers == []
    # A single request, too: before those that have come earlier.
    got: list[Any] = []
    opts = {"group": "g", "expires": 5_000 * MS}
    js.fetch("S", "p", opts, lambda messages, err: got.append(messages))
    eventually(lambda: waiting(js, call, "p") == 4)  # the first one asks for more already
    publish(1)
    run(lambda: got)
    assert [m.data for m in got[0]] == [b"3"]
    assert call(got[0][0].ack_sync) == (True, None)
    high.stop()
    flush(js, call)
    publish(4)
    run(lambda: len(low.numbers) == 4)
    assert low.numbers == [4, 5, 6, 7]


@pytest.mark.since(2, 11)
def test_one_pinned_client_gets_everything_until_it_goes(
    js, other, publish, start, call, run, eventually
):
    publish(0)
    pinned = {"priority_policy": "pinned_client", "priority_timeout": timedelta(seconds=1)}
    call(js.consumer_create, "S", {**GROUP, **pinned, "name": "p"})
    first = start(js, "p", group="g", max_messages=4, expires=timedelta(seconds=2))
    eventually(lambda: waiting(js, call, "p") == 1)
    publish(1)
    run(lambda: first.numbers)
    second = start(other, "p", group="g", max_messages=4, expires=timedelta(seconds=2))
    eventually(lambda: waiting(js, call, "p") == 2)
    publish(9)
    run(lambda: len(first.numbers) == 10)
    assert second.numbers == []
    call(js.consumer_unpin, "S", "p", "g")
    publish(10)
    run(lambda: len(first.numbers) + len(second.numbers) == 20)
    assert (len(first.numbers), second.numbers) == (10, list(range(10, 20)))
    run(lambda: first.errors)
    assert {type(err) for err in first.errors} == {PinIdMismatchError}
    second.stop()  # the server notices after priority_timeout
    flush(other, call)
    publish(5)
    run(lambda: len(first.numbers) == 15)
    assert first.numbers[10:] == list(range(20, 25))
    assert not first.closed


@pytest.mark.since(2, 11)
def test_overflow_goes_to_others_only_when_there_is_enough_of_it(
    js, other, publish, start, call, run, eventually
):
    publish(0)
    call(js.consumer_create, "S", {**GROUP, "name": "o", "priority_policy": "overflow"})
    spare = start(other, "o", group="g", min_pending=50)
    eventually(lambda: waiting(js, call, "o") == 1)
    publish(20)
    assert call(js.consumer_info, "S", "o")[0]["num_pending"] == 20
    assert spare.numbers == []
    publish(60)
    run(lambda: len(spare.numbers) >= 30)
    usual = start(js, "o", group="g")
    run(lambda: len(usual.numbers) + len(spare.numbers) == 80)
    assert usual.numbers
    assert sorted(usual.numbers + spare.numbers) == list(range(80))


@pytest.mark.parametrize(
    ("opts", "error"),
    [
        ({"priority": 10}, BadOptionsError),
        ({"min_pending": -1}, BadOptionsError),
        ({"priority": "1"}, TypeError),
        ({"min_ack_pending": True}, TypeError),
        ({"group": 5}, TypeError),
    ],
)
def test_bad_priority_options_are_refused_at_the_call(js, opts, error):
    for method in (js.fetch, js.next, js.consume):
        with pytest.raises(error, match=next(iter(opts))):
            method("S", "c", opts, print)
