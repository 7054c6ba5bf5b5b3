"""`pause`, `resume` and `ask` of consumers: nothing is lost, doubled or reordered, at whatever moment."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest

from lab.broker import broker
from lab.js_servers import publish_numbers
from lab.scripted_api import ScriptedApi
from lab.steps import flushed
from nats_ev import BadOptionsError, JetStream, NatsError, NoHeartbeatError, pyev

MS = 1_000_000
KINDS = ["consume", "ordered", "push"]


class Got:
    """A callback for messages, which notes their numbers and acknowledges them."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.errors: list[Any] = []
        self.on_message: Any = lambda number: None

    def __call__(self, msg: Any, err: Any) -> None:
        if msg is None:
            self.errors.append(err)
            return
        self.numbers.append(int(msg.data))
        if msg.reply and type(msg).__name__ == "JsMsg" and hasattr(msg, "ack"):
            with contextlib.suppress(
                NatsError
            ):  # the message of an ordered consumer, or no connection
                msg.ack()
        self.on_message(self.numbers[-1])


def fill(js: JetStream, call: Any, first: int, count: int) -> None:
    if not first:
        assert call(js.stream_create, {"name": "S", "subjects": ["s.*"], "storage": "memory"})[0]
        assert call(js.consumer_create, "S", {"durable_name": "c", "ack_policy": "explicit"})[0]
    publish_numbers(js, call, first, count)


def begin(js: JetStream, kind: str, got: Got, **options: Any) -> Any:
    if kind == "consume":
        return js.consume("S", "c", {"max_messages": 20, **options}, got)
    if kind == "ordered":
        return js.ordered_consumer("S", {"max_messages": 20, **options}, got)
    config = {"name": "p", "deliver_subject": "push.here", "ack_policy": "explicit"}
    return js.push_subscribe("S", {**config, "idle_heartbeat": 500 * MS, "flow_control": True}, got)


def asked(js: JetStream, call: Any) -> int:
    """Return how many requests for messages wait on the server."""
    return int(call(js.consumer_info, "S", "c")[0]["num_waiting"])


def idle(nats: Any, run: Any, ms: int = 50) -> None:
    done: list[int] = []
    nats.call_later(ms, done.append, 1)
    run(lambda: done)


def reconnected(nats: Any, run: Any) -> None:
    before = nats.recorder.count("connect")
    nats.force_reconnect()
    run(lambda: nats.recorder.count("connect") > before)


@pytest.fixture
def own_js(js: JetStream, connected: Any, line_server: Any) -> JetStream:
    """One whose client may end: the other one cleans up."""
    return JetStream(connected(line_server("newest")))


@pytest.mark.parametrize("kind", KINDS)
def test_a_handle_may_begin_paused_and_delivers_as_many_as_are_asked_for(js, call, run, kind):
    fill(js, call, 0, 100)
    got = Got()
    handle = begin(js, kind, got)
    handle.ask(0)
    assert handle.paused
    assert kind == "ordered" or "paused" in repr(handle)
    idle(js.nats, run)
    assert got.numbers == []
    handle.ask(3)
    assert not handle.paused
    run(lambda: len(got.numbers) == 3)
    idle(js.nats, run)
    assert handle.paused
    handle.ask(30)
    handle.ask(2)
    run(lambda: len(got.numbers) == 35)
    idle(js.nats, run)
    assert got.numbers == list(range(35))
    handle.resume()
    run(lambda: len(got.numbers) == 100)
    fill(js, call, 100, 100)
    run(lambda: len(got.numbers) == 200)
    assert got.numbers == list(range(200))
    assert got.errors == []
    with pytest.raises(BadOptionsError):
        handle.ask(-1)
    handle.stop()
    handle.ask(1)
    handle.pause()
    handle.resume()
    assert not handle.paused


def test_no_more_than_was_asked_for_is_requested(js, call, run):
    fill(js, call, 0, 100)
    got = Got()
    handle = begin(js, "consume", got)
    handle.pause()
    idle(js.nats, run)
    assert asked(js, call) == 0
    handle.ask(7)
    run(lambda: len(got.numbers) == 7)
    flushed(js.nats, run)
    info = call(js.consumer_info, "S", "c")[0]
    assert (info["delivered"]["consumer_seq"], info["num_waiting"]) == (7, 0)
    handle.stop()


@pytest.mark.parametrize("options", [{}, {"max_bytes": 1000, "max_messages": None}])
@pytest.mark.parametrize("kind", ["consume", "ordered"])
def test_during_a_pause_nothing_is_requested_and_what_has_come_is_delivered_later(
    js, call, run, kind, options
):
    fill(js, call, 0, 200)
    got = Got()
    options = {name: value for name, value in {"max_messages": 20, **options}.items() if value}

    def pause_at(number: int) -> None:
        if number == 4:
            handle.pause()

    got.on_message = pause_at
    if kind == "consume":
        handle = js.consume("S", "c", options, got)
    else:
        handle = js.ordered_consumer("S", options, got)
    run(lambda: got.numbers)
    idle(js.nats, run)
    assert got.numbers == list(range(5))
    sent = call(js.consumer_info, "S", handle.name)[0]["delivered"]["consumer_seq"]
    assert 5 <= sent <= 30
    idle(js.nats, run)
    assert call(js.consumer_info, "S", handle.name)[0]["delivered"]["consumer_seq"] == sent
    handle.resume()
    run(lambda: len(got.numbers) == 200)
    assert got.numbers == list(range(200))
    if kind == "ordered":
        assert handle.resets == 0
    handle.stop()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 3, 20])
def test_asking_and_pausing_inside_the_callback(js, call, run, kind, step):
    fill(js, call, 0, 150)
    got = Got()

    def more(number: int) -> None:
        if number % step == step - 1:
            handle.ask(step)
        if number % 40 == 13:
            handle.pause()
            js.nats.call_later(1, handle.ask, step - number % step - 1 or step)

    got.on_message = more
    handle = begin(js, kind, got)
    handle.ask(step)
    run(lambda: len(got.numbers) == 150)
    assert got.numbers == list(range(150))
    handle.stop()


@pytest.mark.parametrize("kind", ["consume", "ordered"])
@pytest.mark.parametrize("ask", [False, True])
def test_a_pause_outlives_a_reconnect(js, call, run, kind, ask):
    js.nats.reconnect(True)
    fill(js, call, 0, 100)
    got = Got()
    got.on_message = lambda number: handle.pause() if number == 9 else None
    handle = begin(js, kind, got)
    run(lambda: len(got.numbers) == 10)
    idle(js.nats, run, 20)
    reconnected(js.nats, run)
    idle(js.nats, run)
    reconnected(js.nats, run)
    idle(js.nats, run)
    assert len(got.numbers) == 10
    assert handle.paused
    if ask:
        handle.ask(15)
        run(lambda: len(got.numbers) == 25)
        idle(js.nats, run, 20)
        assert len(got.numbers) == 25
    handle.resume()
    run(lambda: len(set(got.numbers)) == 100)
    # A pull consumer's messages may come again, but none of those that were kept here is lost.
    assert (
        got.numbers == list(range(100))
        if kind == "ordered"
        else got.numbers[:20] == list(range(20))
    )
    handle.stop()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["pause", "ask"])
def test_a_drain_of_the_client_delivers_what_is_kept(own_js, call, run, kind, way):
    fill(own_js, call, 0, 60)
    got, done = Got(), []
    handle = begin(own_js, kind, got)
    got.on_message = lambda number: handle.pause() if number == 4 and way == "pause" else None
    if way == "ask":
        handle.ask(5)
    run(lambda: len(got.numbers) == 5)
    if kind != "push":
        handle.ask(2) if way == "ask" else None
    idle(own_js.nats, run)
    before = len(got.numbers)
    kept = sum(
        info["pending_msgs"]
        for sid in range(1, 100)
        if (info := own_js.nats.subscription_info(sid)) is not None
    )
    own_js.nats.drain(done.append)
    run(lambda: done)
    assert done == [None]
    assert len(got.numbers) >= before + (kept if kind != "push" else 0)
    assert got.numbers == list(range(len(got.numbers)))
    if kind != "ordered" or way == "ask":
        assert len(got.errors) == 1  # the client has ended


@pytest.mark.parametrize("kind", KINDS)
def test_a_drain_of_the_handle_delivers_what_is_kept(js, call, run, kind):
    fill(js, call, 0, 60)
    got, done = Got(), []
    handle = begin(js, kind, got)
    got.on_message = lambda number: handle.pause() if number == 4 else None
    run(lambda: len(got.numbers) == 5)
    idle(js.nats, run)
    handle.drain(lambda *result: done.append(result))
    run(lambda: done)
    assert done == [(True, None)]
    assert len(got.numbers) >= (20 if kind != "push" else 60)
    assert got.numbers == list(range(len(got.numbers)))


@pytest.mark.parametrize("kind", KINDS)
def test_stopping_a_paused_handle_ends_it_without_a_call(js, call, run, kind):
    fill(js, call, 0, 60)
    got = Got()
    handle = begin(js, kind, got)
    got.on_message = lambda number: handle.pause() if number == 4 else None
    run(lambda: len(got.numbers) == 5)
    idle(js.nats, run)
    handle.stop()
    idle(js.nats, run)
    assert got.numbers == list(range(5))
    assert got.errors == []
    if kind == "ordered":
        assert handle.last_seq == 5
        again = Got()
        rest = js.ordered_consumer(
            "S", {"deliver_policy": "by_start_sequence", "opt_start_seq": 6}, again
        )
        run(lambda: len(again.numbers) == 55)
        rest.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_the_client_is_reported_to_a_paused_handle(own_js, call, run, kind):
    fill(own_js, call, 0, 60)
    got = Got()
    handle = begin(own_js, kind, got)
    got.on_message = lambda number: handle.pause() if number == 4 else None
    run(lambda: len(got.numbers) == 5)
    idle(own_js.nats, run)
    own_js.nats.disconnect()
    run(lambda: got.errors)
    assert got.numbers == list(range(5))
    assert [str(error) for error in got.errors] == ["disconnected"]
    assert handle.closed


def test_a_consumer_that_is_deleted_ends_after_what_was_kept(js, call, run):
    fill(js, call, 0, 60)
    got = Got()
    handle = begin(js, "consume", got)
    got.on_message = lambda number: handle.pause() if number == 4 else None
    run(lambda: len(got.numbers) == 5)
    idle(js.nats, run)
    call(js.consumer_delete, "S", "c")
    idle(js.nats, run)
    assert got.errors == []
    handle.resume()
    run(lambda: got.errors)
    assert got.numbers == list(range(len(got.numbers)))
    assert len(got.numbers) >= 20


class Pulls:
    """A pull consumer that the test plays: it sends what it is told to the inbox of the last request."""

    def __init__(self, nats: Any) -> None:
        self.nats = nats
        self.requests: list[dict[str, Any]] = []
        self.inbox = ""
        self.api = ScriptedApi(nats, timeout=300)
        self.api.on("CONSUMER.INFO", {"config": {}, "name": "c"})
        self.api.on("CONSUMER.MSG.NEXT", self._requested)

    def _requested(self, reply: str) -> None:
        self.requests.append(self.api.asked[-1][1])
        self.inbox = reply

    def message(self, number: int) -> None:
        reply = f"$JS.ACK.S.c.1.{number}.{number}.1700000000000000000.0"
        self.nats.publish(self.inbox, b"%d" % number, reply)

    def status(self, line: str) -> None:
        self.nats.hpublish(self.inbox, f"NATS/1.0 {line}\r\n\r\n".encode(), b"")


@pytest.fixture
def pulls(connected: Any, fake: Any) -> Pulls:
    return Pulls(connected(fake(broker)))


BEATS = {"expires": 1000 * MS, "heartbeat": 500 * MS, "max_messages": 10}


def test_missed_heartbeats_are_noticed_during_a_pause_while_a_request_is_open(pulls, run):
    got, errors = Got(), []
    handle = pulls.api.js.consume("S", "c", BEATS, got, on_error=errors.append)
    run(lambda: len(pulls.requests) == 1)
    pulls.message(0)
    run(lambda: got.numbers)
    handle.pause()
    pulls.message(1)
    run(lambda: errors)
    assert [type(error) for error in errors] == [NoHeartbeatError]
    idle(pulls.nats, run, 1200)
    assert len(errors) == 1  # no request is open any more
    assert len(pulls.requests) == 1
    assert got.numbers == [0]
    handle.resume()
    run(lambda: len(pulls.requests) == 2)
    run(lambda: got.numbers == [0, 1])
    assert pulls.requests[1]["batch"] == 10
    handle.stop()


def test_the_end_of_a_request_is_counted_during_a_pause(pulls, run):
    got, errors = Got(), []
    handle = pulls.api.js.consume("S", "c", BEATS, got, on_error=errors.append)
    run(lambda: len(pulls.requests) == 1)
    for number in range(3):
        pulls.message(number)
    run(lambda: len(got.numbers) == 3)
    handle.pause()
    for number in range(3, 5):
        pulls.message(number)
    pulls.status("408 Request Timeout\r\nNats-Pending-Messages: 5\r\nNats-Pending-Bytes: 0")
    flushed(pulls.nats, run)
    idle(pulls.nats, run, 1200)
    assert errors == []
    handle.ask(1)
    run(lambda: len(got.numbers) == 4)
    flushed(pulls.nats, run)
    assert len(pulls.requests) == 1  # the message had come already
    handle.resume()
    run(lambda: len(pulls.requests) == 2)
    run(lambda: len(got.numbers) == 5)
    assert pulls.requests[1]["batch"] in (9, 10)
    handle.stop()


def test_an_error_of_a_request_waits_for_the_messages_before_it(pulls, run):
    got, errors = Got(), []
    handle = pulls.api.js.consume("S", "c", BEATS, got, on_error=errors.append)
    run(lambda: len(pulls.requests) == 1)
    handle.pause()
    pulls.message(0)
    pulls.status("409 Leadership Change")
    flushed(pulls.nats, run)
    idle(pulls.nats, run, 1200)
    assert (errors, got.numbers) == ([], [])
    handle.resume()
    run(lambda: len(pulls.requests) == 2)
    assert got.numbers == [0]
    assert len(errors) == 1
    handle.stop()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", [*KINDS, "reconnecting"])
def test_whatever_is_called_whenever_each_message_comes_once_and_in_order(
    js, call, run, loop, kind, seed
):
    """Calls at random, in the callback and from outside, with nested loops; one kind loses connections."""
    chance = random.Random(seed)
    js.nats.reconnect(True)
    fill(js, call, 0, 400)
    got = Got()
    options = chance.choice(
        [
            {},
            {"max_messages": 1},
            {"max_bytes": 3000, "max_messages": None},
            {"threshold_messages": 20},
        ]
    )
    options = {name: value for name, value in {"max_messages": 20, **options}.items() if value}
    calls = [
        lambda: handle.pause(),
        lambda: handle.resume(),
        lambda: handle.ask(0),
        lambda: handle.ask(1),
        lambda: handle.ask(chance.randrange(30)),
    ]

    def anything() -> None:
        chance.choice(calls)()

    def on_message(number: int) -> None:
        for _ in range(chance.randrange(3)):
            if chance.random() < 0.3:
                anything()
        if chance.random() < 0.01:
            loop.start(pyev.EVRUN_NOWAIT)
        if kind == "reconnecting" and chance.random() < 0.01:
            js.nats.force_reconnect()

    def from_outside() -> None:
        anything()
        if len(got.numbers) < 400:
            js.nats.call_later(chance.choice([0, 0, 1, 3]), from_outside)

    got.on_message = on_message
    if kind in ("ordered", "reconnecting"):
        handle = js.ordered_consumer("S", options, got)
    elif kind == "consume":
        handle = js.consume("S", "c", options, got)
    else:
        handle = begin(js, kind, got)
    from_outside()
    run(lambda: len(got.numbers) >= 400, 20)
    idle(js.nats, run, 20)
    assert got.numbers == list(range(400))
    assert got.errors == []
    handle.stop()
