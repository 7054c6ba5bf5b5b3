"""Publishing with acknowledgement: expectations, windows, retries, batches, counters, schedules, TTL."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from lab import inside
from lab.steps import run_until
from nats_ev import (
    APIError,
    ApiLevelError,
    BadOptionsError,
    BatchClosedError,
    BatchError,
    Headers,
    JetStream,
    MessageTtlError,
    NatsError,
    NoRespondersError,
    TooManyStalledMsgsError,
    WrongLastMsgIdError,
    WrongLastSequenceError,
    WrongStreamError,
)


def stream(js: JetStream, call: Any, **fields: Any) -> None:
    config = {"name": "P", "subjects": ["p.>"], "storage": "memory", **fields}
    _, err = call(js.stream_create, config)
    assert err is None


def test_ack_has_stream_seq_and_duplicate(any_js, call):
    stream(any_js, call)
    first, err = call(any_js.publish, "p.a", b"1", msg_id="id-1")
    assert err is None
    assert (first["stream"], first["seq"], first["duplicate"]) == ("P", 1, False)
    again, err = call(any_js.publish, "p.a", b"1", msg_id="id-1")
    assert (err, again["seq"], again["duplicate"]) == (None, 1, True)
    assert call(any_js.stream_info, "P")[0]["state"]["messages"] == 1


def test_expectations_that_fail_refuse_the_message(any_js, call):
    stream(any_js, call)
    call(any_js.publish, "p.a", b"1", msg_id="one")
    call(any_js.publish, "p.b", b"2", msg_id="two")
    for options, kind in (
        ({"expect_stream": "Q"}, WrongStreamError),
        ({"expect_last_seq": 1}, WrongLastSequenceError),
        ({"expect_last_msg_id": "one"}, WrongLastMsgIdError),
        ({"expect_last_subject_seq": 2}, WrongLastSequenceError),
        ({"expect_last_subject_seq": 0}, WrongLastSequenceError),
    ):
        ack, err = call(any_js.publish, "p.a", b"x", **options)
        assert ack is None
        assert isinstance(err, kind), options
    good = {
        "expect_stream": "P", "expect_last_seq": 2, "expect_last_msg_id": "two",
        "expect_last_subject_seq": 1,
    }  # fmt: skip
    ack, err = call(any_js.publish, "p.a", b"x", **good)
    assert (err, ack["seq"]) == (None, 3)
    assert call(any_js.publish, "p.new", b"x", expect_last_subject_seq=0)[1] is None


def test_options_may_have_the_words_of_nats_go(any_js, call):
    stream(any_js, call)
    for last, word in enumerate(("expect_last_sequence", "expect_last_sequence_per_subject")):
        _, err = call(any_js.publish, "p.a", b"x", **{word: 7})
        assert isinstance(err, WrongLastSequenceError)
        assert call(any_js.publish, "p.a", b"x", **{word: last})[1] is None
    with pytest.raises(TypeError, match="expect_last_seq and expect_last_sequence are the same"):
        any_js.publish("p.a", b"", print, expect_last_seq=1, expect_last_sequence=2)
    with pytest.raises(TypeError, match="unknown option 'expect_last' of publish"):
        any_js.publish("p.a", b"", print, expect_last=1)


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({"ttl": 5000}, (2, 11)),
        ({"msg_ttl": "1m"}, (2, 11)),
        ({"expect_last_subject_seq": 0, "expect_last_subject_seq_subject": "p.b"}, (2, 11)),
        ({"incr": 1}, (2, 12)),
        ({"schedule": "@at 2100-01-01T00:00:00Z", "schedule_target": "p.b"}, (2, 12)),
        ({"schedule": timedelta(minutes=1), "schedule_target": "p.b"}, (2, 14)),
    ],
)
def test_option_that_the_server_would_ignore_is_refused_and_nothing_stored(
    connected, client, line_server, call, options, needed
):
    server = line_server("2.10")
    js = JetStream(connected(server), max_ack_pending=1)
    stream(js, call)
    early = JetStream(client(server, reconnect=True))
    for method in (early.publish, js.publish, js.publish_async):
        ack, err = call(method, "p.a", b"x", **options)
        assert ack is None
        assert isinstance(err, ApiLevelError)
        assert "nats-server {}.{} or later is required".format(*needed) in str(err)
    assert js.publish_async_pending() == 0
    assert call(js.stream_info, "P")[0]["state"]["last_seq"] == 0
    call(js.stream_delete, "P")


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": timedelta(minutes=1)},
        {"schedule": "@every 1m"},
        {"schedule_cron": "0 0 * * * *"},
        {"schedule": "@hourly"},
        {"schedule": "@at 2100-01-01T00:00:00Z", "schedule_source": "p.c"},
        {"schedule": "@at 2100-01-01T00:00:00Z", "schedule_rollup": "sub"},
        {"schedule": "@at 2100-01-01T00:00:00Z", "schedule_time_zone": "CET"},
    ],
)
def test_schedules_of_2_14_are_refused_on_2_12_and_nothing_stored(
    connected, line_server, call, options
):
    js = JetStream(connected(line_server("2.12")))
    stream(js, call, allow_msg_schedules=True)
    ack, err = call(js.publish, "p.a", b"x", schedule_target="p.b", **options)
    assert ack is None
    assert isinstance(err, ApiLevelError)
    assert "nats-server 2.14 or later is required" in str(err)
    at = {"schedule": "@at 2100-01-01T00:00:00Z", "schedule_target": "p.b"}
    assert call(js.publish, "p.a", b"x", **at)[1] is None
    assert call(js.stream_info, "P")[0]["state"]["last_seq"] == 1
    call(js.stream_delete, "P")


def test_headers_of_any_kind_go_with_options(js, call):
    stream(js, call)
    for headers in ({"A": "1"}, Headers({"A": "1"}), b"NATS/1.0\r\nA: 1\r\n\r\n"):
        call(js.publish, "p.a", b"", headers=headers, expect_stream="P")
        msg, _ = call(js.get_last_msg, "P", "p.a")
        assert (msg.header("A"), msg.header("Nats-Expected-Stream")) == ("1", "P")
        if isinstance(headers, dict):
            assert headers == {"A": "1"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ttl": 5}, "at least 1000 ms"),
        ({"expect_last_seq": -1}, "0 or more"),
        ({"rollup": "some"}, "'sub' or 'all'"),
        ({"retry_wait": -1}, "retry_wait"),
        ({"retry_attempts": -1}, "retry_attempts must be 0 or more, not -1"),
    ],
)
def test_bad_option_is_refused_at_the_call(js, options, text):
    with pytest.raises(BadOptionsError, match=text):
        js.publish("p.a", b"", print, **options)
    for options in ({"expect_last_seq": "1"}, {"msg_id": 5}, {"expect_last_subject_seq": True}):
        with pytest.raises(TypeError):
            js.publish("p.a", b"", print, **options)


def test_publish_is_tried_again_when_nobody_listens(js, call):
    started: list[Any] = []

    def create() -> None:
        js.stream_create({"name": "LATE", "subjects": ["late"]}, lambda *a: started.append(a))

    js.nats.call_later(50, create)
    acks: list[Any] = []
    options = {"retry_attempts": 20, "retry_wait": 40}
    js.publish_async("late", b"x", lambda *answer: acks.append(answer), **options)
    ack, err = call(js.publish, "late", b"x", **options)
    assert (err, {ack["seq"], acks[0][0]["seq"]}) == (None, {1, 2})
    assert isinstance(
        call(js.publish, "no.one", b"", retry_attempts=1, retry_wait=1)[1], NoRespondersError
    )


def test_retry_that_is_waited_for_ends_with_the_client(js, call):
    answers: list[Any] = []
    js.publish("no.one", b"", lambda ack, err: answers.append(err), retry_wait=60_000)
    js.nats.flush(lambda err: js.nats.call_later(20, js.nats.disconnect))
    js.nats.add_status_listener(lambda status: None)
    loop_end: list[Any] = []
    js.nats.on_disconnect(lambda: js.nats.call_soon(loop_end.append, True))
    run_until(inside.loop_of(js.nats), lambda: answers)
    assert str(answers[0]) == "disconnected"
    js.nats.connect()
    run_until(inside.loop_of(js.nats), js.nats.is_connected)


def test_window_keeps_what_is_beyond_it_and_all_are_acknowledged_in_order(js, call, run):
    stream(js, call)
    window = JetStream(js.nats, max_ack_pending=10)
    seqs: list[int] = []
    room = [
        window.publish_async("p.a", str(i), lambda ack, err: seqs.append(ack["seq"]))
        for i in range(1000)
    ]
    assert room == [True] * 9 + [False] * 991
    assert window.publish_async_pending() == 1000
    assert js.nats.subscription_count() == 1  # one inbox for all of them
    ready: list[Any] = []
    window.publish_ready(lambda: ready.append(len(seqs)))
    assert call(window.publish_complete) == (True, None)
    assert seqs == list(range(1, 1001))
    assert len(ready) == 1
    assert ready[0] > 990
    assert window.publish_async_pending() == 0
    assert call(window.publish_complete) == (True, None)


def test_window_that_does_not_move_fails_what_was_kept(js, call, run):
    window = JetStream(js.nats, max_ack_pending=2, stall_wait=50, timeout=400)
    js.nats.subscribe("silent", lambda *message: None)
    errors: list[Any] = []
    for _ in range(4):
        window.publish_async("silent", b"", lambda ack, err: errors.append(err))
    run(lambda: len(errors) == 2)
    assert [type(e) for e in errors] == [TooManyStalledMsgsError] * 2
    run(lambda: len(errors) == 4)
    assert [str(e) for e in errors[2:]] == ["request timeout"] * 2
    assert window.publish_async_pending() == 0


def test_payload_that_is_kept_is_the_one_of_the_call(js, call):
    stream(js, call)
    window = JetStream(js.nats, max_ack_pending=1)
    buffer = bytearray(b"before")
    for _ in range(2):
        window.publish_async("p.a", buffer, lambda ack, err: None)
    buffer[:] = b"after!"
    call(window.publish_complete)
    assert [call(js.get_msg, "P", n)[0].data for n in (1, 2)] == [b"before"] * 2
    for method in (js.publish, js.publish_async):
        with pytest.raises(TypeError):
            method("p.a", 5, print)


@pytest.mark.since(2, 14)
def test_message_that_can_not_be_sent_is_refused_at_the_call_also_when_it_would_be_kept(js, call):
    stream(js, call, allow_batched=True, allow_atomic=True)
    window = JetStream(js.nats, max_ack_pending=1)
    fast, atomic = js.fast_batch(), js.atomic_batch()
    window.publish_async("p.a", b"", lambda ack, err: None)
    fast.add("p.a")
    atomic.add("p.a")
    huge = b"x" * (js.nats.max_payload() + 1)
    for bad in (("p a", b""), ("p.a", huge)):
        for send in (lambda *m: window.publish_async(*m, print), fast.add, atomic.add):
            with pytest.raises(ValueError):
                send(*bad)
    assert window.publish_async_pending() == 1
    assert call(window.publish_complete) == (True, None)
    assert call(fast.close)[0]["count"] == 1
    assert call(atomic.close)[0]["count"] == 1


def test_lost_connection_fails_what_is_in_flight_and_the_rest_goes_out_later(
    connected, line_server, proxy, call, run
):
    link = proxy(line_server("newest").port)
    js = JetStream(connected(link, reconnect=True, reconnect_delay=10), max_ack_pending=5)
    stream(js, call)
    results: list[Any] = []
    link.stall("down")
    for i in range(10):
        js.publish_async("p.a", str(i), lambda ack, err: results.append(err), msg_id=str(i))
    js.nats.flush(lambda err: None)
    js.nats.call_later(50, link.cut)
    js.nats.call_later(60, link.resume)
    assert call(js.publish_complete) == (True, None)
    assert [str(e) for e in results[:5]] == ["disconnected"] * 5
    assert results[5:] == [None] * 5
    call(js.stream_delete, "P")


@pytest.mark.since(2, 11)
def test_message_lives_as_long_as_its_ttl(js, call, eventually):
    stream(js, call, allow_msg_ttl=True)
    assert call(js.publish, "p.a", b"", ttl=timedelta(seconds=1))[1] is None
    call(js.publish, "p.b", b"", ttl=2_500_000)
    call(js.publish, "p.c", b"", ttl="never")
    assert [call(js.get_msg, "P", n)[0].header("Nats-TTL") for n in (1, 2, 3)] == [
        "1000ms", "2500000ms", "never",
    ]  # fmt: skip
    assert isinstance(call(js.publish, "p.a", b"", ttl="soon")[1], MessageTtlError)
    eventually(lambda: call(js.stream_info, "P")[0]["state"]["messages"] == 2)


@pytest.mark.since(2, 11)
def test_ttl_on_a_stream_without_is_an_error(js, call):
    stream(js, call)
    assert isinstance(call(js.publish, "p.a", b"", ttl=1000)[1], MessageTtlError)


def test_rollup_deletes_what_was_before(any_js, call):
    stream(any_js, call, allow_rollup_hdrs=True)
    for subject in ("p.a", "p.b", "p.a"):
        call(any_js.publish, subject, b"")
    call(any_js.publish, "p.a", b"", rollup="sub")
    assert call(any_js.stream_info, "P")[0]["state"]["messages"] == 2
    call(any_js.publish, "p.c", b"", rollup="all")
    assert call(any_js.stream_info, "P")[0]["state"]["messages"] == 1


@pytest.mark.since(2, 12)
def test_counter_returns_its_value(js, call):
    stream(js, call, allow_msg_counter=True, allow_direct=True)
    values = [call(js.publish, "p.n", b"", incr=n)[0]["val"] for n in (5, -2, "+10")]
    assert values == ["5", "3", "13"]
    assert call(js.publish, "p.n", b"", incr=10**30)[0]["val"] == str(10**30 + 13)
    _, err = call(js.publish, "p.n", b"")
    assert err.err_code == 10169


@pytest.mark.since(2, 12)
def test_scheduled_message_is_published_later(js, call, eventually):
    stream(js, call, allow_msg_schedules=True, allow_msg_ttl=True)
    soon = datetime.now(timezone.utc) + timedelta(seconds=1)
    options = {"schedule": soon, "schedule_target": "p.target", "schedule_ttl": 60_000}
    assert call(js.publish, "p.plan", b"later", **options)[1] is None
    eventually(lambda: call(js.get_last_msg, "P", "p.target")[0] is not None)
    msg, _ = call(js.get_last_msg, "P", "p.target")
    assert (msg.data, msg.header("Nats-Scheduler")) == (b"later", "p.plan")
    assert (
        call(js.publish, "p.plan", b"", schedule="nonsense", schedule_target="p.t")[1] is not None
    )


@pytest.mark.since(2, 14)
def test_schedules_repeat_and_have_nats_gos_words_too(js, call, eventually):
    stream(js, call, allow_msg_schedules=True, allow_msg_ttl=True)
    soon = datetime.now(timezone.utc) + timedelta(milliseconds=300)
    plans = (
        {"schedule_at": soon},
        {"schedule_every": timedelta(seconds=1), "schedule_ttl": "never"},
        {"schedule_cron": "* * * * * *", "schedule_time_zone": "Europe/Vienna"},
    )
    for i, plan in enumerate(plans):
        assert call(js.publish, f"p.plan{i}", b"x", schedule_target=f"p.t{i}", **plan)[1] is None

    def counts() -> dict[str, int]:
        info, _ = call(js.stream_info, "P", {"subjects_filter": "p.*"})
        return info["state"]["subjects"]

    eventually(lambda: counts().get("p.t1", 0) > 1 and counts().get("p.t2", 0) > 1)
    assert counts()["p.t0"] == 1


@pytest.mark.since(2, 12)
def test_atomic_batch_is_stored_as_a_whole(js, call):
    stream(js, call, allow_atomic=True)
    batch = js.atomic_batch()
    for i in range(999):
        batch.add(f"p.{i}", str(i), headers={"N": str(i)})
    ack, err = call(batch.commit, "p.last", b"end")
    assert (err, ack["count"], ack["batch"], ack["seq"]) == (None, 1000, batch.id, 1000)
    assert call(js.get_msg, "P", 500)[0].header("N") == "499"
    for act in (lambda: batch.add("p.x"), lambda: batch.commit("p.x", b"", print)):
        with pytest.raises(BatchClosedError):
            act()
    one = js.atomic_batch()
    ack, err = call(one.commit, "p.one", b"")
    assert (err, ack["count"]) == (None, 1)


@pytest.mark.since(2, 12)
def test_atomic_batch_that_fails_stores_nothing(js, call):
    stream(js, call, allow_atomic=True)
    batch = js.atomic_batch()
    batch.add("p.a", b"1")
    batch.add("p.b", b"2", expect_last_subject_seq=7)
    ack, err = call(batch.commit, "p.c", b"3")
    assert ack is None
    assert isinstance(err, WrongLastSequenceError)
    left = js.atomic_batch()
    left.add("p.a", b"1")
    left.discard()
    assert call(js.stream_info, "P")[0]["state"]["messages"] == 0


@pytest.mark.since(2, 14)
def test_atomic_batch_takes_as_many_messages_as_the_server_allows(js, call):
    stream(js, call, allow_atomic=True)
    full, over = js.atomic_batch(), js.atomic_batch()
    for _ in range(1000):
        full.add("p.a")
        over.add("p.a")
    ack, err = call(full.close)
    assert (err, ack["count"]) == (None, 1000)
    ack, err = call(over.commit, "p.a", b"")
    assert isinstance(err, BatchError)
    assert "too large" in str(err)
    assert call(js.stream_info, "P")[0]["state"]["messages"] == 1000


@pytest.mark.since(2, 14)
@pytest.mark.parametrize("end", ["commit", "close"])
@pytest.mark.parametrize("gap_ok", [True, False])
def test_fast_batch_with_a_refused_message_says_what_is_stored(js, call, run, gap_ok, end):
    stream(js, call, allow_batched=True)
    batch = js.fast_batch(flow=2, gap_ok=gap_ok)
    told: dict[int, tuple[Any, Any]] = {}

    def add(number: int, **options: Any) -> None:
        batch.add("p.a", str(number), lambda *got: told.update({number: got}), **options)

    add(1)
    add(2, expect_last_seq=99)
    add(3)
    add(4)
    ack, err = call(batch.close) if end == "close" else call(batch.commit, "p.a", b"5")
    run(lambda: len(told) == 4)
    stored = call(js.stream_info, "P")[0]["state"]["messages"]
    assert isinstance(told[2][1], WrongLastSequenceError)
    if gap_ok:
        last = 4 if end == "close" else 5
        assert (err, ack["count"], ack["missing"]) == (None, last, [2])
        assert [told[n][1] for n in (1, 3, 4)] == [None] * 3
        assert stored == last - 1
    else:
        assert isinstance(err, BatchClosedError)
        assert (ack, err.ack["count"], err.ack["missing"]) == (None, 1, [])
        assert told[1][1] is None
        assert [type(told[n][1]) for n in (3, 4)] == [BatchClosedError] * 2
        assert stored == 1


@pytest.mark.since(2, 14)
@pytest.mark.parametrize("gap_ok", [True, False])
def test_fast_batch_whose_last_message_is_refused_says_so_to_its_commit(js, call, gap_ok):
    stream(js, call, allow_batched=True)
    batch = js.fast_batch(gap_ok=gap_ok)
    batch.add("p.a")
    ack, err = call(batch.commit, "p.a", b"", expect_last_seq=99)
    assert ack is None
    assert isinstance(err, WrongLastSequenceError)
    assert call(js.stream_info, "P")[0]["state"]["messages"] == 1


@pytest.mark.since(2, 12)
def test_atomic_batch_for_a_stream_without_is_refused(js, call):
    stream(js, call)
    batch = js.atomic_batch()
    batch.add("p.a")
    batch.add("p.b")
    assert isinstance(call(batch.commit, "p.c", b"")[1], BatchError)
    assert call(js.stream_info, "P")[0]["state"]["messages"] == 0


@pytest.mark.since(2, 14)
def test_atomic_batch_closed_without_a_last_message(js, call):
    stream(js, call, allow_atomic=True)
    batch = js.atomic_batch()
    for i in range(3):
        batch.add("p.a", str(i))
    ack, err = call(batch.close)
    assert (err, ack["count"]) == (None, 3)
    assert call(js.stream_info, "P")[0]["state"]["messages"] == 3
    with pytest.raises(BatchClosedError):
        js.atomic_batch().close(print)


def test_batches_on_older_servers_are_refused(connected, line_server, call):
    js = JetStream(connected(line_server("2.10")))
    stream(js, call)
    batch = js.atomic_batch()
    batch.add("p.a")
    assert isinstance(call(batch.commit, "p.b", b"")[1], ApiLevelError)
    fast = js.fast_batch()
    fast.add("p.a")
    assert isinstance(call(fast.close)[1], ApiLevelError)
    assert call(js.stream_info, "P")[0]["state"]["messages"] == 0
    call(js.stream_delete, "P")


@pytest.mark.since(2, 14)
def test_fast_batch_stores_everything_in_order(js, call, run):
    stream(js, call, allow_batched=True)
    batch = js.fast_batch({"flow": 50})
    acked: list[int] = []
    room = [
        batch.add("p.a", str(i), lambda ack, err: acked.append(ack["batch_seq"]))
        for i in range(5000)
    ]
    assert not all(room)
    ack, err = call(batch.close)
    assert (err, ack["count"]) == (None, 5000)
    run(lambda: len(acked) == 5000)
    assert acked == list(range(1, 5001))
    state = call(js.stream_info, "P")[0]["state"]
    assert state["messages"] == 5000
    assert [call(js.get_msg, "P", n)[0].data for n in (1, 2500, 5000)] == [b"0", b"2499", b"4999"]
    before = js.nats.subscription_count()
    other = js.fast_batch()
    other.add("p.b", b"1", headers={"A": "b"})
    ack, err = call(other.commit, "p.b", b"2")
    assert (err, ack["count"]) == (None, 2)
    assert js.nats.subscription_count() == before


@pytest.mark.since(2, 14)
def test_fast_batch_tells_what_was_refused(js, call, run):
    stream(js, call)
    errors: list[NatsError] = []
    batch = js.fast_batch({"on_error": errors.append})
    told: list[Any] = []
    batch.add("p.a", b"", lambda ack, err: told.append(err))
    run(lambda: told)
    assert isinstance(told[0], BatchError)
    with pytest.raises(BatchClosedError):
        batch.add("p.a")
    told.clear()
    js.fast_batch().add("no.stream", b"", lambda ack, err: told.append(err))
    run(lambda: told)
    assert isinstance(told[0], NoRespondersError)
    call(
        js.stream_update,
        {"name": "P", "subjects": ["p.>"], "storage": "memory", "allow_batched": True},
    )
    batch = js.fast_batch({"gap_ok": True, "on_error": errors.append})
    told.clear()
    for options in ({}, {"expect_last_seq": 99}, {}):
        batch.add("p.a", b"", lambda ack, err: told.append(err), **options)
    assert call(batch.close)[1] is None
    run(lambda: len(told) == 3)
    assert [type(e) for e in told] == [type(None), WrongLastSequenceError, type(None)]
    assert [type(e) for e in errors] == [WrongLastSequenceError]
    for opts in ({"flow": 0}, {"max_outstanding_acks": 5000}, {"unknown": 1}):
        with pytest.raises(BadOptionsError):
            js.fast_batch(opts)
    assert issubclass(BatchError, APIError)


@pytest.mark.parametrize("timeout", ["soon", -1, 10**400, True])
def test_a_bad_timeout_of_a_kept_message_is_refused_at_the_call(js, call, run, timeout):
    """It was noticed when the message was sent, and took all that waited along."""
    stream(js, call)
    window = JetStream(js.nats, max_ack_pending=1)
    told: list[Any] = []
    window.publish_async("p.1", b"", lambda ack, err: told.append(err))
    with pytest.raises((TypeError, BadOptionsError), match="timeout"):
        window.publish_async("p.1", b"", print, timeout=timeout)
    window.publish_async("p.1", b"", lambda ack, err: told.append(err))
    run(lambda: len(told) == 2)
    assert told == [None, None]


@pytest.mark.parametrize("past", [2**64, 2**64 + 1, 10**400])
@pytest.mark.parametrize("name", ["expect_last_seq", "expect_last_subject_seq"])
def test_an_expected_sequence_that_the_server_would_wrap_around_is_refused(js, call, name, past):
    """2**64 + 1 is taken for 1."""
    stream(js, call)
    with pytest.raises(BadOptionsError, match=r"below 2\*\*64"):
        js.publish("p.1", b"", print, **{name: past})
    assert call(js.publish, "p.1", b"", **{name: 2**64 - 1})[1] is not None
    assert call(js.publish, "p.1", b"", **{name: 0})[1] is None


@pytest.mark.parametrize(
    "name", ["msg_id", "expect_stream", "expect_last_msg_id", "ttl", "schedule", "incr"]
)
def test_an_empty_option_is_refused(js, name):
    """A server ignores the header, and stored the message without what was asked for."""
    with pytest.raises(BadOptionsError, match=f"{name} must not be empty"):
        js.publish("p.1", b"", print, **{name: ""})
    with pytest.raises(BadOptionsError, match=f"{name} must not be empty"):
        js.atomic_batch().add("p.1", b"", **{name: ""})


@pytest.mark.parametrize(
    "options",
    [
        {"schedule_target": "p.2"},
        {"schedule_ttl": 5000},
        {"schedule_source": "p.2"},
        {"schedule_rollup": "sub"},
        {"schedule_time_zone": "CET"},
    ],
)
def test_a_part_of_a_schedule_without_a_schedule_is_refused(js, options):
    with pytest.raises(BadOptionsError, match="needs a schedule"):
        js.publish("p.1", b"", print, **options)


@pytest.mark.since(2, 12)
def test_a_schedule_may_stand_in_the_headers(js, call):
    stream(js, call, allow_msg_schedules=True)
    headers = {"Nats-Schedule": "@at 2100-01-01T00:00:00Z"}
    assert call(js.publish, "p.1", b"", headers=headers, schedule_target="p.2")[1] is None
