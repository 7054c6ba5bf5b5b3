"""Ordered consumers whose consumer is lost: in a snapshot, on a lagging replica, on another stream."""

from __future__ import annotations

from typing import Any

import pytest

from lab.broker import broker
from lab.scripted_api import ScriptedApi, ack_reply
from nats_ev import (
    KV,
    ConnectionLostError,
    JetStream,
    JetStreamError,
    JetStreamNotEnabledForAccountError,
    NoRespondersError,
    ObjectStore,
    StreamRecreatedError,
)

MS = 1_000_000
KEYS = [f"k{n:03}" for n in range(300)]
PASS = {"expires": 2_000 * MS, "heartbeat": 500 * MS}


def fill(bucket: KV, run: Any) -> None:
    """Each key three times, so that old revisions lie between and after the newest ones."""
    left = []
    for round_ in range(3):
        for key in KEYS if round_ % 2 else reversed(KEYS):
            left.append(key)
            bucket.put(key, f"{key}={round_}", lambda rev, err: left.pop())
    run(lambda: not left)


@pytest.fixture
def kv(js, call, run):
    js.nats.reconnect(True)
    bucket = KV(js, "b")
    assert call(bucket.create_bucket, {"history": 5, "storage": "memory"})[1] is None
    fill(bucket, run)
    return bucket


@pytest.mark.parametrize("at", [{1}, {100}, {299}, {50, 120, 121, 250}])
def test_a_watch_whose_consumer_is_lost_gives_each_key_once_and_then_the_marker(kv, js, run, at):
    got: list[Any] = []

    def entry(one: Any, err: Any) -> None:
        assert err is None
        got.append(one and (one.key, one.value))
        if len(got) in at:
            js.nats.force_reconnect()

    watch = kv.watch(">", entry)
    run(lambda: None in got)
    watch.stop()
    assert got[-1] is None
    assert sorted(got[:-1]) == [(key, f"{key}=2".encode()) for key in KEYS]


def test_a_list_keeps_the_newest_entry_of_a_key_that_changes_meanwhile(kv, js, run):
    keys: list[Any] = []
    kv.keys(lambda *result: keys.append(result))
    js.nats.call_later(1, js.nats.force_reconnect)
    js.nats.call_later(2, kv.put, KEYS[0], b"again", lambda rev, err: None)
    run(lambda: keys)
    assert keys[0][1] is None
    assert sorted(keys[0][0]) == KEYS


def test_objects_are_listed_once_when_the_connection_is_lost(js, call, run):
    js.nats.reconnect(True)
    store = ObjectStore(js, "o")
    call(store.create_bucket, {"storage": "memory"})
    for name in ("a", "b", "c"):
        assert call(store.put, name, b"x")[1] is None
    got: list[Any] = []

    def info(one: Any, err: Any) -> None:
        got.append(one and one["name"])
        if len(got) == 1:
            js.nats.force_reconnect()

    watch = store.watch(info)
    run(lambda: None in got)
    watch.stop()
    assert got == ["a", "b", "c", None]


def test_fetches_of_the_last_per_subject_give_each_subject_once(kv, js, call):
    fetcher = js.ordered_fetcher(kv.stream, {"deliver_policy": "last_per_subject"})
    got: list[Any] = []
    while batch := call(fetcher.fetch, {"batch": 70, "no_wait": True})[0]:
        got += [(msg.subject.rpartition(".")[2], msg.data) for msg in batch]
    assert sorted(got) == [(key, f"{key}=2".encode()) for key in KEYS]
    # The snapshot is over: from now on each message counts.
    for value in (b"x", b"y"):
        assert call(kv.put, KEYS[0], value)[1] is None
    batch, err = call(fetcher.fetch, {"batch": 5, "no_wait": True})
    assert (err, [msg.data for msg in batch]) == (None, [b"x", b"y"])


@pytest.mark.parametrize("refilled", [0, 2000])
def test_a_stream_that_was_created_again_ends_its_readers(kv, js, call, run, refilled):
    got: list[Any] = []
    ended: list[Any] = []
    watch = kv.watch(">", lambda entry, err: (ended if err else got).append(err or entry))
    ordered = js.ordered_consumer(kv.stream, dict(PASS), lambda m, err: err and ended.append(err))
    run(lambda: None in got and ordered.last_seq == 900)
    config = call(js.stream_info, kv.stream)[0]["config"]
    assert call(js.stream_delete, kv.stream)[1] is None
    assert call(js.stream_create, config)[1] is None
    count = []
    for n in range(refilled):
        js.publish(f"$KV.b.{n}", b"", lambda ack, err: count.append(err))
    run(lambda: len(count) == refilled and len(ended) == 2)
    assert [type(err) for err in ended] == [StreamRecreatedError] * 2
    assert watch.stopped
    assert ordered.closed
    assert [entry for entry in got if entry][300:] == []


# With a scripted API.


@pytest.fixture
def api(connected, fake):
    api = ScriptedApi(connected(fake(broker)), timeout=500)
    api.on("CONSUMER.DELETE", {"success": True})
    return api


def test_a_lagging_replica_does_not_lead_back(api, run):
    requests: list[str] = []
    api.on("CONSUMER.MSG.NEXT", requests.append)
    created = {"created": "2026-01-02T00:00:00Z", "num_pending": 9}
    api.on("CONSUMER.CREATE", {**created, "delivered": {"stream_seq": 0}})
    api.on("STREAM.INFO", {"created": "2026-01-01T00:00:00Z", "state": {"last_seq": 9}})
    got: list[Any] = []
    handle = api.js.ordered_consumer("S", dict(PASS), lambda m, err: got.append(err or m.seq))
    run(lambda: requests)
    for n in range(1, 6):
        api.nats.publish(requests[0], b"", ack_reply(stream_seq=n, consumer_seq=n))
    run(lambda: len(got) == 5)
    api.nats.hpublish(requests[0], b"NATS/1.0 409 Consumer Deleted\r\n\r\n", b"")
    run(lambda: len(requests) > 1)
    for n in range(1, 6):
        api.nats.publish(requests[1], b"", ack_reply(stream_seq=n + 2, consumer_seq=n))
    run(lambda: 7 in got)
    assert got == [1, 2, 3, 4, 5, 6, 7]
    handle.stop()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"error": {"code": 503, "err_code": 10039}}, JetStreamNotEnabledForAccountError),
        (None, JetStreamError),
    ],
)
def test_what_can_never_begin_ends_within_the_timeout(api, run, answer, kind):
    def nobody(reply):
        api.nats.hpublish(reply, b"NATS/1.0 503\r\n\r\n", b"")

    api.on("CONSUMER.CREATE", nobody if answer is None else answer)
    got: list[Any] = []
    api.js.ordered_consumer("S", lambda msg, err: got.append(err))
    run(lambda: got, 3)
    assert isinstance(got[0], NoRespondersError if answer is None else kind)


def test_a_consumer_whose_deletion_is_not_answered_is_deleted_later(api, run):
    busy = {"error": {"code": 503, "err_code": 10008}}
    api.on("CONSUMER.DELETE", busy, busy, {"success": True})
    api.on("CONSUMER.CREATE", {"delivered": {"stream_seq": 0}, "num_pending": 0})
    api.on("CONSUMER.MSG.NEXT", None)
    handle = api.js.ordered_consumer("S", dict(PASS), lambda msg, err: None)
    run(lambda: api.count("CONSUMER.MSG.NEXT"))
    handle.stop()
    run(lambda: api.count("CONSUMER.DELETE") == 3)


def test_a_stream_in_memory_that_a_restart_has_emptied_ends_its_readers(
    client, own_server, call, run
):
    server = own_server(jetstream=True)
    nats = client(server, reconnect=True, reconnect_delay=20, max_reconnect_attempts=0)
    run(nats.is_connected)
    js = JetStream(nats)
    bucket = KV(js, "m")
    for _ in range(2):
        assert call(bucket.create_bucket, {"storage": "memory"})[1] is None
        call(bucket.put, "k", b"v")
        got: list[Any] = []
        bucket.watch(">", lambda entry, err, got=got: got.append(err or entry))
        run(lambda got=got: None in got)
        server.restart()
        run(lambda: not nats.is_connected())
        run(nats.is_connected)
        assert call(bucket.create_bucket, {"storage": "memory"})[1] is None
        run(lambda got=got: isinstance(got[-1], StreamRecreatedError))
        call(bucket.delete_bucket)


def test_a_drain_after_the_connection_was_lost_says_so(js, call, run):
    js.nats.reconnect(True)
    call(js.stream_create, {"name": "D", "subjects": ["d"]})
    ordered = js.ordered_consumer(
        "D", lambda msg, err: None, on_start=lambda info: began.append(info)
    )
    began: list[Any] = []
    run(lambda: began)
    js.nats.force_reconnect()
    run(lambda: ordered.resets)
    answer = call(ordered.drain)
    assert answer[0] is None
    assert isinstance(answer[1], ConnectionLostError)


BUSY = {"error": {"code": 503, "err_code": 10008, "description": "temporarily unavailable"}}
UNKNOWN = {"error": {"code": 404, "err_code": 10014, "description": "consumer not found"}}


def begun(**fields: Any) -> dict[str, Any]:
    """Return the answer to the creation of a consumer."""
    created = {"created": "2026-01-02T00:00:00Z", "num_pending": 9}
    return {**created, "delivered": {"stream_seq": 0}, **fields}


def test_a_consumer_that_may_appear_after_an_error_is_deleted_when_it_does(api, run):
    api.on("CONSUMER.CREATE", BUSY, begun())
    api.on("CONSUMER.DELETE", UNKNOWN, UNKNOWN, {"success": True})
    api.on("CONSUMER.MSG.NEXT", None)
    got: list[Any] = []
    handle = api.js.ordered_consumer("S", {**PASS, "name_prefix": "x"}, got.append)
    run(lambda: api.count("CONSUMER.DELETE.S.x_1") == 3)
    assert handle.name == "x_2"
    handle.stop()


def test_a_start_that_was_asked_for_is_kept_on_a_lagging_replica(api, run):
    requests: list[str] = []
    api.on("CONSUMER.MSG.NEXT", requests.append)
    api.on("CONSUMER.CREATE", begun(delivered={"stream_seq": 3}))
    got: list[Any] = []
    config = {**PASS, "deliver_policy": "by_start_sequence", "opt_start_seq": 6}
    handle = api.js.ordered_consumer("S", config, lambda m, err: got.append(err or m.seq))
    run(lambda: requests)
    assert handle.last_seq == 5
    for n in range(1, 5):
        api.nats.publish(requests[0], b"", ack_reply(stream_seq=n + 3, consumer_seq=n))
    run(lambda: 7 in got)
    assert got == [6, 7]
    handle.stop()


def test_fetches_do_not_go_back_on_a_lagging_replica(api, run):
    """The second fetch begins too early and gets nothing; the third begins after the first one's end."""
    requests: list[str] = []
    api.on("CONSUMER.MSG.NEXT", requests.append)
    api.on("CONSUMER.CREATE", begun(), begun(delivered={"stream_seq": 3}))
    fetcher = api.js.ordered_fetcher("S", {})
    got: list[Any] = []

    def fetched(messages: Any, error: Any) -> None:
        got.append([m.seq for m in messages])

    fetcher.fetch({"batch": 5, "expires": 300 * MS}, fetched)
    run(lambda: requests)
    for n in range(1, 6):
        api.nats.publish(requests[0], b"", ack_reply(stream_seq=n, consumer_seq=n))
    run(lambda: got == [[1, 2, 3, 4, 5]])
    fetcher.fetch({"batch": 5, "expires": 300 * MS}, fetched)
    run(lambda: len(got) == 2)
    assert got[1] == []
    assert fetcher.last_seq == 5
    fetcher.fetch({"batch": 1, "expires": 300 * MS}, fetched)
    run(lambda: len(got) == 3)
    created = [body["config"] for verb, body in api.asked if verb.startswith("CONSUMER.CREATE")]
    assert created[-1]["opt_start_seq"] == 6


def test_another_stream_is_noticed_when_the_first_question_about_it_fails(api, run):
    api.on("CONSUMER.MSG.NEXT", lambda reply: requests.append(reply))
    api.on("CONSUMER.CREATE", begun())
    api.on("STREAM.INFO", None, BUSY, {"created": "2026-01-03T00:00:00Z", "state": {"last_seq": 9}})
    requests: list[str] = []
    got: list[Any] = []
    api.js.ordered_consumer("S", dict(PASS), lambda m, err: got.append(err or m.seq))
    run(lambda: requests)
    api.nats.publish(requests[0], b"", ack_reply(stream_seq=1, consumer_seq=1))
    run(lambda: got)
    api.nats.hpublish(requests[0], b"NATS/1.0 409 Consumer Deleted\r\n\r\n", b"")
    run(lambda: len(got) == 2)
    assert isinstance(got[1], StreamRecreatedError)
    assert api.count("STREAM.INFO") == 3
    assert len(requests) == 1  # nothing was received from the other stream
