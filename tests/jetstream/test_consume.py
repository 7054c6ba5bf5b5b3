"""`consume`, push and ordered consumers: they go on whatever happens, and end cleanly."""

from __future__ import annotations

import gc
import random
import weakref
from datetime import timedelta
from typing import Any

import pytest

from lab import inside
from lab.js_servers import publish_numbers
from nats_ev import (
    BadOptionsError,
    ConsumerDeletedError,
    ConsumerIsPullError,
    ConsumerIsPushError,
    ConsumerNotFoundError,
    JetStream,
    JsMsg,
    MaxBytesExceededError,
    MaxRequestExceededError,
    MsgNotAckableError,
    NoHeartbeatError,
    NoRespondersError,
    StreamNotFoundError,
)

MS = 1_000_000


class Got:
    """What a consumer's callback has been given."""

    def __init__(self, ack: bool = False) -> None:
        self.messages: list[JsMsg] = []
        self.errors: list[Any] = []
        self.ack = ack

    def __call__(self, msg: JsMsg | None, err: Any) -> None:
        if msg is None:
            self.errors.append(err)
            return
        assert err is None
        self.messages.append(msg)
        if self.ack:
            msg.ack()

    def __len__(self) -> int:
        return len(self.messages)

    @property
    def numbers(self) -> list[int]:
        return [int(m.data) for m in self.messages]


@pytest.fixture
def got() -> Got:
    return Got(ack=True)


def fill(js: JetStream, call: Any, count: int, *, create: bool = True, **fields: Any) -> None:
    """A stream S, and so many messages 0, 1, 2… more in it."""
    if create:
        call(js.stream_create, {"name": "S", "subjects": ["s.*"], "storage": "file", **fields})
        call(js.consumer_create, "S", {"durable_name": "c", "ack_policy": "explicit"})
    last = call(js.stream_info, "S")[0]["state"]["last_seq"]
    publish_numbers(js, call, last, count)


# Continuous pulling.


@pytest.mark.parametrize(
    "opts",
    [
        {}, {"max_messages": 1}, {"max_messages": 7, "threshold_messages": 0},
        {"max_bytes": 400}, {"max_bytes": 2000, "threshold_bytes": 100, "expires": 2_000 * MS},
    ],
)  # fmt: skip
def test_consume_gives_every_message_once_in_order(any_js, call, run, got, opts):
    fill(any_js, call, 100)
    consume = any_js.consume("S", "c", opts, got)
    run(lambda: len(got) == 100)
    fill(any_js, call, 20, create=False)
    run(lambda: len(got) == 120)
    assert got.numbers == list(range(120))
    consume.stop()
    consume.stop()
    assert got.errors == []


@pytest.mark.parametrize("opts", [{}, {"max_messages": 4}, {"max_bytes": 300}])
def test_consume_stops_after_so_many_and_takes_no_more(any_js, call, run, got, opts):
    fill(any_js, call, 30)
    consume = any_js.consume("S", "c", {"stop_after": 10, **opts}, got)
    run(lambda: consume.closed)
    assert call(lambda cb: any_js.nats.flush(lambda err: cb(None, err))) == (None, None)
    assert got.numbers == list(range(10))
    assert got.errors == []
    assert call(any_js.consumer_info, "S", "c")[0]["delivered"]["consumer_seq"] == 10
    with pytest.raises(BadOptionsError, match="stop_after must be 1 or more"):
        any_js.consume("S", "c", {"stop_after": 0}, got)


def test_message_that_fits_in_no_request_is_told_and_what_fits_is_not(js, call, run, got):
    fill(js, call, 40)
    errors: list[Any] = []
    # Each request ends with a message that does not fit in its rest, which is no error.
    consume = js.consume("S", "c", {"max_bytes": 200, "on_error": errors.append}, got)
    run(lambda: len(got) == 40)
    assert errors == []
    call(js.publish, "s.0", b"x" * 300)
    run(lambda: len(errors) == 2)
    assert {type(e) for e in errors} == {MaxBytesExceededError}
    consume.stop()


def test_consume_goes_on_after_a_request_has_expired(js, call, run, got):
    fill(js, call, 1)
    errors: list[Any] = []
    opts = {"expires": 1_000 * MS, "heartbeat": 500 * MS, "on_error": errors.append}
    consume = js.consume("S", "c", opts, got)
    js.nats.call_later(1300, js.publish, "s.0", b"1", lambda ack, err: None)
    run(lambda: len(got) == 2)
    assert errors == []
    consume.stop()


def test_consume_survives_cuts_and_a_restart_of_the_server(
    own_server, proxy, connected, call, run, got
):
    server = own_server(jetstream=True)
    link = proxy(server.port)
    js = JetStream(connected(link, reconnect=True, reconnect_delay=20, max_reconnect_delay=100))
    fill(js, call, 300)
    soon = {"durable_name": "c", "ack_policy": "explicit", "ack_wait": 500 * MS}
    call(js.consumer_update, "S", soon)  # what is lost on the way comes again soon
    consume = js.consume("S", "c", {"max_messages": 20}, got)
    run(lambda: len(got) > 50)
    link.cut()
    run(lambda: len(got) > 150)
    server.stop()
    server.start()
    run(lambda: len(set(got.numbers)) == 300)
    assert got.errors == []
    consume.stop()


def test_consumer_deleted_ends_consume_with_the_error(any_js, call, run, got):
    fill(any_js, call, 3)
    consume = any_js.consume("S", "c", got)
    run(lambda: len(got) == 3)
    call(any_js.consumer_delete, "S", "c")
    run(lambda: got.errors)
    assert [type(e) for e in got.errors] == [ConsumerDeletedError]
    assert consume.closed


def test_missing_consumer_and_push_consumer_end_consume(js, call, run, got):
    fill(js, call, 0)
    warnings: list[Any] = []
    js.consume("S", "nobody", {"on_error": warnings.append}, got)
    run(lambda: got.errors)
    assert isinstance(got.errors[0], ConsumerNotFoundError)
    assert isinstance(warnings[0], NoRespondersError)
    call(js.consumer_create, "S", {"name": "p", "deliver_subject": "d", "ack_policy": "none"})
    js.consume("S", "p", got)
    run(lambda: len(got.errors) == 2)
    assert isinstance(got.errors[1], ConsumerIsPushError)
    call(js.consumer_create, "S", {"name": "l", "ack_policy": "explicit", "max_batch": 5})
    got.errors.clear()
    js.consume("S", "l", got)
    run(lambda: got.errors)
    assert isinstance(got.errors[0], MaxRequestExceededError)


def test_consumer_that_comes_later_is_found(js, call, run, got):
    """As on a server that has just started and has not read all of it yet."""
    fill(js, call, 5)
    js.nats.call_later(
        100, js.consumer_create, "S", {"name": "late", "ack_policy": "explicit"}, lambda i, e: None
    )
    consume = js.consume("S", "late", got)
    run(lambda: len(got) == 5)
    assert got.errors == []
    consume.stop()


def test_missed_heartbeats_begin_anew(js, call, run):
    got, requests, warnings = Got(), [], []
    fake = JetStream(js.nats, prefix="FAKE")
    js.nats.subscribe(
        "FAKE.CONSUMER.MSG.NEXT.>", lambda s, p, reply, h: requests.append((p, reply))
    )
    opts = {"expires": 1_000 * MS, "heartbeat": 500 * MS, "on_error": warnings.append}
    consume = fake.consume("S", "c", opts, got)
    run(lambda: len(requests) == 3)
    assert [type(w) for w in warnings] == [NoHeartbeatError] * 2
    # The end of a request that does not count any more changes nothing.
    old, new = requests[0][1], requests[-1][1]
    assert old != new
    js.nats.hpublish(old, b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 500\r\n\r\n")
    js.nats.publish(new, b"0")
    run(lambda: len(got) == 1)
    assert len(requests) in (3, 4)
    consume.stop()


def test_silent_server_is_asked_whether_there_is_such_a_consumer(js, call, run, got):
    """As nats-server 2.9 is."""
    fake = JetStream(js.nats, prefix="FAKE")
    missing = b'{"error":{"code":404,"err_code":10014,"description":"consumer not found"}}'
    js.nats.subscribe("FAKE.CONSUMER.MSG.NEXT.>", lambda *message: None)
    js.nats.subscribe(
        "FAKE.CONSUMER.INFO.>", lambda s, p, reply, h: js.nats.publish(reply, missing)
    )
    opts = {"expires": 1_000 * MS, "heartbeat": 500 * MS}
    consume = fake.consume("S", "c", opts, got)
    run(lambda: got.errors)
    assert [type(err) for err in got.errors] == [ConsumerNotFoundError]
    assert consume.closed


def test_stop_and_raise_inside_a_callback(js, call, run, excepthook):
    fill(js, call, 50)
    seen: list[Any] = []

    def on_message(msg: Any, err: Any) -> None:
        seen.append(msg)
        if len(seen) == 5:
            consume.stop()
        raise ValueError("user's own")

    consume = js.consume("S", "c", on_message)
    run(lambda: len(seen) == 5)
    call(js.account_info)
    assert len(seen) == 5
    assert len(excepthook) == 5


def test_drain_delivers_what_is_on_its_way(js, call, run, got):
    fill(js, call, 1000)
    done: list[Any] = []
    consume = js.consume("S", "c", {"max_messages": 1000}, got)
    run(lambda: len(got) > 0)
    consume.drain(lambda *a: done.append((a, len(got))))
    run(lambda: done)
    assert done == [((True, None), len(got))]
    info, _ = call(js.consumer_info, "S", "c")
    # What the server still had in its queues for us comes again after ack_wait.
    assert len(got) <= info["delivered"]["stream_seq"]
    assert got.numbers == list(range(len(got)))
    assert consume.closed
    assert call(consume.drain) == (True, None)


@pytest.mark.parametrize("stop", [False, True])
def test_every_drain_is_answered_also_when_it_is_stopped_meanwhile(js, call, run, stop):
    fill(js, call, 500)
    running = (
        js.consume("S", "c", {"max_messages": 100}, lambda msg, err: None),
        js.ordered_consumer("S", lambda msg, err: None),
        js.push_subscribe("S", {"ack_policy": "none"}, lambda msg, err: None),
    )
    run(lambda: running[1].last_seq > 10)
    done: list[Any] = []
    for each in running:
        each.drain(lambda *answer: done.append(answer))
        each.drain()
        each.drain(lambda *answer: done.append(answer))
        if stop:
            each.stop()
    run(lambda: len(done) == 6)
    assert done == [(True, None)] * 6
    assert [each.closed for each in running] == [True] * 3


def test_disconnect_ends_consume_and_the_others(connected, line_server, call, run):
    js = JetStream(connected(line_server("newest")))
    fill(js, call, 1)
    call(js.consumer_create, "S", {"name": "p", "deliver_subject": "d", "ack_policy": "none"})
    ends = [Got(), Got(), Got()]
    js.consume("S", "c", ends[0])
    js.ordered_consumer("S", ends[1])
    js.push_subscribe("S", "p", ends[2])
    run(lambda: all(len(end) == 1 for end in ends))
    js.nats.disconnect()
    run(lambda: all(end.errors for end in ends))
    assert [[str(e) for e in end.errors] for end in ends] == [["disconnected"]] * 3
    js.nats.connect()
    run(js.nats.is_connected)
    call(js.stream_delete, "S")


@pytest.mark.parametrize(
    "opts",
    [
        {"max_messages": 0}, {"expires": 5}, {"heartbeat": 20_000 * MS}, {"batch": 1},
        {"threshold_messages": 501}, {"max_bytes": 5, "threshold_bytes": 6},
        {"max_messages": 5, "max_bytes": 5}, {"heartbeat": 499 * MS},
        {"expires": 90_000 * MS, "heartbeat": 31_000 * MS},
    ],
)  # fmt: skip
def test_bad_consume_options_are_refused_at_the_call(js, opts):
    with pytest.raises(BadOptionsError):
        js.consume("S", "c", opts, print)


def test_two_consumers_share_the_messages(js, call, run):
    fill(js, call, 200)
    first, second = Got(ack=True), Got(ack=True)
    running = [js.consume("S", "c", {"max_messages": 10}, g) for g in (first, second)]
    run(lambda: len(first) + len(second) == 200)
    assert sorted(first.numbers + second.numbers) == list(range(200))
    assert len(first) > 0
    assert len(second) > 0
    for consume in running:
        consume.stop()


# The ordered consumer.


def test_ordered_consumer_starts_where_it_is_told(any_js, call, run):
    fill(any_js, call, 20)
    for config, expected in (
        ({"deliver_policy": "by_start_sequence", "opt_start_seq": 16}, [15, 16, 17, 18, 19]),
        ({"deliver_policy": "last"}, [19]),
        ({"max_bytes": 300}, list(range(20))),
        ({"deliver_policy": "last_per_subject"}, [18, 19]),
        ({"filter_subjects": ["s.1"], "deliver_policy": "last"}, [19]),
        (
            {"filter_subject": "s.0", "opt_start_seq": 14, "deliver_policy": "by_start_sequence"},
            [14, 16, 18],
        ),
    ):
        got = Got()
        ordered = any_js.ordered_consumer("S", config, got)
        run(lambda got=got, expected=expected: got.errors or len(got) == len(expected))
        assert got.errors == []
        assert got.numbers == expected
        assert got.messages[-1].metadata.num_pending == 0
        with pytest.raises(MsgNotAckableError):
            got.messages[0].ack()
        ordered.stop()


def test_ordered_consumer_stops_after_so_many_also_when_it_is_made_anew(js, call, run, eventually):
    fill(js, call, 5)
    seen: list[int] = []

    def go_on(result: Any, err: Any) -> None:
        for i in range(20):
            js.publish_async("s.x", str(i), lambda ack, err: None)

    def on_message(msg: Any, err: Any) -> None:
        assert err is None, err
        seen.append(msg.seq)
        if msg.seq == 5:
            js.consumer_delete("S", ordered.name, go_on)

    opts = {"stop_after": 12, "max_messages": 2, "heartbeat": 500 * MS}
    ordered = js.ordered_consumer("S", opts, on_message)
    run(lambda: ordered.closed)
    assert seen == list(range(1, 13))
    assert ordered.last_seq == 12
    assert ordered.resets >= 1
    eventually(lambda: call(js.consumer_names, "S") == (["c"], None))
    assert seen == list(range(1, 13))


def test_ordered_consumer_with_headers_only_and_two_filters(js, call, run):
    fill(js, call, 10)
    got, infos = Got(), []
    opts = {"filter_subjects": ["s.0", "s.1"], "headers_only": True, "on_start": infos.append}
    ordered = js.ordered_consumer("S", opts, got)
    run(lambda: len(got) == 10)
    assert {m.data for m in got.messages} == {b""}
    assert got.messages[0].header("Nats-Msg-Size") == "1"
    assert infos[0]["num_pending"] == 10
    assert infos[0]["config"]["ack_policy"] == "none"
    assert infos[0]["config"]["mem_storage"]
    ordered.stop()


def test_ordered_consumer_of_an_empty_stream_says_so(js, call, run):
    fill(js, call, 0)
    infos: list[Any] = []
    ordered = js.ordered_consumer("S", {"on_start": infos.append}, Got())
    run(lambda: infos)
    assert infos[0]["num_pending"] == 0
    ordered.stop()
    got = Got()
    js.ordered_consumer("NONE", got)
    run(lambda: got.errors)
    assert isinstance(got.errors[0], StreamNotFoundError)


def test_ordered_consumer_is_exact_through_cuts_deletions_and_gaps(
    own_server, proxy, connected, call, run, eventually
):
    server = own_server(jetstream=True)
    link = proxy(server.port)
    js = JetStream(connected(link, reconnect=True, reconnect_delay=10, max_reconnect_delay=50))
    count = 20_000
    fill(js, call, count)
    got = Got()
    chance = random.Random(5)

    def harm() -> None:
        if len(got) < count - 1000:
            # Every third time the consumer is gone, or a message goes missing, while the link is up.
            kind = chance.randrange(3)
            if kind == 0:
                link.cut()
            elif kind == 1:
                js.consumer_delete("S", ordered.name, lambda result, err: None)
            else:
                inside.skip_a_message(ordered)
            js.nats.call_later(30, harm)

    ordered = js.ordered_consumer("S", {"max_messages": 100}, got)
    js.nats.call_later(30, harm)
    run(lambda: len(got) >= count, 60)
    assert got.numbers == list(range(count))
    assert got.errors == []
    assert ordered.resets > 2
    ordered.stop()
    run(js.nats.is_connected)
    eventually(lambda: call(js.consumer_names, "S") == (["c"], None))


def test_ordered_consumer_outlives_a_restart_and_new_messages_are_not_lost(
    own_server, connected, call, run
):
    server = own_server(jetstream=True)
    js = JetStream(connected(server, reconnect=True, reconnect_delay=10, max_reconnect_delay=50))
    fill(js, call, 10)
    got = Got()
    started: list[Any] = []
    ordered = js.ordered_consumer("S", {"deliver_policy": "new", "on_start": started.append}, got)
    run(lambda: started)
    fill(js, call, 1, create=False)  # before it has got anything: where it began is known
    run(lambda: len(got) == 1)
    server.stop()
    server.start()
    run(lambda: js.nats.recorder.count("connect") == 2)
    fill(js, call, 5, create=False)
    run(lambda: len(got) == 6)
    assert got.numbers == list(range(10, 16))
    ordered.stop()


def test_ordered_consumer_that_is_new_and_lost_before_its_first_message(
    own_server, connected, call, run
):
    server = own_server(jetstream=True)
    js = JetStream(connected(server, reconnect=True, reconnect_delay=10, max_reconnect_delay=50))
    fill(js, call, 10)
    got, started = Got(), []
    # A pull that crosses the deletion gets no answer: then two missed heartbeats tell.
    config = {"deliver_policy": "new", "on_start": started.append, "heartbeat": 500_000_000}
    ordered = js.ordered_consumer("S", config, got)
    run(lambda: started)
    call(js.consumer_delete, "S", ordered.name)
    fill(js, call, 3, create=False)
    run(lambda: len(got) == 3)
    assert got.numbers == [10, 11, 12]
    assert len(started) == 1
    ordered.stop()


def test_stopping_an_ordered_consumer_before_it_is_made_leaves_nothing(js, call, eventually):
    fill(js, call, 1)
    got = Got()
    ordered = js.ordered_consumer("S", got)
    ordered.stop()
    js.ordered_consumer("S", got).drain()
    for delay in (1, 2, 5):
        other = js.ordered_consumer("S", got)
        js.nats.call_later(delay, other.stop)
    eventually(lambda: call(js.consumer_names, "S") == (["c"], None))
    for bad in (
        {"ack_policy": "all"},
        {"group": "g"},
        {"filter_subject": "a", "filter_subjects": ["b", "c"]},
    ):
        with pytest.raises(BadOptionsError):
            js.ordered_consumer("S", bad, print)


# Push consumers.


def test_push_with_flow_control_and_heartbeats(any_js, call, run, eventually, got):
    fill(any_js, call, 3000)
    config = {
        "ack_policy": "explicit", "flow_control": True, "idle_heartbeat": 100 * MS,
        "max_ack_pending": 5000,
    }  # fmt: skip
    infos, warnings = [], []
    opts = {"on_start": infos.append, "on_error": warnings.append}
    push = any_js.push_subscribe("S", config, opts, got)
    run(lambda: len(got) == 3000)
    assert got.numbers == list(range(3000))
    seen: list[Any] = []
    any_js.nats.call_later(400, seen.append, True)  # heartbeats come meanwhile
    run(lambda: seen)
    assert warnings == []
    assert infos[0]["config"]["deliver_subject"]
    push.stop()
    eventually(lambda: call(any_js.consumer_names, "S") == (["c"], None))


def test_push_to_a_queue_group_is_shared_and_the_durable_stays(js, call, run):
    fill(js, call, 0)
    config = {
        "durable_name": "q", "ack_policy": "explicit", "deliver_subject": "to.q", "deliver_group": "g",
    }  # fmt: skip
    call(js.consumer_create, "S", config)
    members = [Got(ack=True), Got(ack=True)]
    running = [js.push_subscribe("S", "q", member) for member in members]
    run(lambda: js.nats.subscription_count() >= 3)
    fill(js, call, 100, create=False)
    run(lambda: sum(map(len, members)) == 100)
    assert all(len(member) for member in members)
    assert call(running[0].drain) == (True, None)
    running[1].stop()
    assert sorted(call(js.consumer_names, "S")[0]) == ["c", "q"]


def test_push_that_can_not_be_or_falls_silent_is_told(js, call, run):
    fill(js, call, 1)
    for consumer, kind in (("nobody", ConsumerNotFoundError), ("c", ConsumerIsPullError)):
        got = Got()
        push = js.push_subscribe("S", consumer, got)
        run(lambda got=got: got.errors)
        assert isinstance(got.errors[0], kind)
        assert push.closed
    for bad in ({"flow_control": True}, {"deliver_group": "g", "idle_heartbeat": 100 * MS}):
        with pytest.raises(BadOptionsError):
            js.push_subscribe("S", bad, print)
    got, warnings = Got(), []
    config = {"ack_policy": "none", "idle_heartbeat": timedelta(milliseconds=100)}
    push = js.push_subscribe("S", config, {"on_error": warnings.append}, got)
    run(lambda: len(got) == 1)
    call(js.consumer_delete, "S", push.name)
    run(lambda: got.errors)
    assert isinstance(got.errors[0], ConsumerNotFoundError)
    assert isinstance(warnings[0], NoHeartbeatError)


# What is left.


@pytest.mark.parametrize("lost", ["creation", "its answer", "deletion", "its answer, after stop"])
def test_what_a_lost_connection_swallows_leaves_no_ordered_consumer_behind(
    own_server, connected, proxy, call, run, eventually, lost
):
    server = own_server(jetstream=True)
    direct, cut = JetStream(connected(server)), proxy(server.port)
    fill(direct, call, 3)
    js = JetStream(connected(cut, reconnect=True, reconnect_delay=10, max_reconnect_delay=50))
    call(js.account_info)

    def consumers() -> int:
        return len(set(call(direct.consumer_names, "S")[0]) - {"c"})

    got = Got()
    if lost == "deletion":
        ordered = js.ordered_consumer("S", got)
        run(lambda: len(got) == 3)
        cut.stall("up")
        ordered.stop()
    else:
        cut.stall("up" if lost == "creation" else "down")
        ordered = js.ordered_consumer("S", got)
        if lost != "creation":
            eventually(lambda: consumers() == 1)
        if lost.endswith("stop"):
            ordered.stop()
    done: list[Any] = []
    direct.nats.flush(done.append)  # what is stalled has left the client by then
    run(lambda: done)
    cut.cut()
    cut.resume()
    if not ordered.closed:
        run(lambda: len(got) == 3)
        eventually(lambda: consumers() == 1)
        ordered.stop()
    eventually(lambda: consumers() == 0)


def test_nothing_is_left_behind_when_all_has_ended(connected, line_server, call, run, eventually):
    nats = connected(line_server("newest"))
    js = JetStream(nats)
    fill(js, call, 50)
    call(js.account_info)
    before = nats.subscription_count()
    got = [Got(ack=True), Got(), Got()]
    running: list[Any] = [
        js.consume("S", "c", got[0]),
        js.ordered_consumer("S", got[1]),
        js.push_subscribe("S", {"ack_policy": "none", "idle_heartbeat": 200 * MS}, got[2]),
    ]
    call(js.fetch, "S", "c", {"expires": 20 * MS})
    call(js.direct_get_batch, "S", {"batch": 5})
    run(lambda: all(map(len, got)))
    for each in running:
        each.stop()
    call(js.publish, "nobody", b"", retry_attempts=1, retry_wait=1)
    eventually(lambda: call(js.consumer_names, "S") == (["c"], None))
    assert nats.subscription_count() == before
    assert inside.waiting_calls(js) == 0
    assert inside.listeners_of(nats) == []
    call(js.stream_delete, "S")
    gone = [weakref.ref(each) for each in running]
    running.clear()
    del each
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3


# What servers tell.


def test_advisories_are_decoded_by_type(js, call, run):
    events: list[Any] = []
    sid = js.advisories(lambda advisory, err: events.append(advisory))
    metrics: list[Any] = []
    js.advisories(lambda advisory, err: metrics.append(advisory), events="METRIC.>")
    fill(js, call, 2)
    config = {"name": "m", "ack_policy": "explicit", "max_deliver": 1, "sample_freq": "100%"}
    call(js.consumer_create, "S", config)
    (one, two), _ = call(js.fetch, "S", "m", {"batch": 2})
    two.term("broken")
    assert call(one.ack_sync) == (True, None)
    call(js.consumer_delete, "S", "m")
    run(lambda: {"stream_action", "consumer_action", "terminated"} <= {e.kind for e in events if e})
    run(lambda: metrics)
    ended = next(e for e in events if e.kind == "terminated")
    assert (ended.stream, ended.consumer, ended.data["stream_seq"]) == ("S", "m", 2)
    assert ended.data["reason"] == "broken"
    assert ended.type == "io.nats.jetstream.advisory.v1.terminated"
    assert ended.time.year >= 2024
    assert metrics[0].kind == "consumer_ack"
    actions = [
        e.data["action"] for e in events if e.kind == "consumer_action" and e.consumer == "m"
    ]
    assert actions == ["create", "delete"]
    js.nats.unsubscribe(sid)
    bad: list[Any] = []
    js.advisories(lambda advisory, err: bad.append(err))
    js.nats.publish("$JS.EVENT.ADVISORY.X", b"{}")
    run(lambda: bad)
    assert "not an advisory" in str(bad[0])
