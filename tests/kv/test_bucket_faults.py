"""Key-value buckets whose API refuses, is slow, or tells of a stream that is no bucket."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.broker import broker
from lab.scripted_api import OVERLOADED, ScriptedApi, ack_reply, failure
from nats_ev import (
    KV,
    BadBucketError,
    BucketNotFoundError,
    ConnectionClosedError,
    JetStream,
    KeyExistsError,
    ObjectStore,
    RequestTimeoutError,
)

NO_STREAM = failure(404, 10059, "stream not found")
NO_MESSAGE = failure(404, 10037, "no message found")
WRONG_LAST = {"error": {"code": 400, "err_code": 10071, "description": "wrong last sequence: 1"}}


def info(**config: Any) -> dict[str, Any]:
    fields = {"name": "KV_b", "max_msgs_per_subject": 1, "allow_direct": False, **config}
    return {"config": fields, "state": {"messages": 0, "bytes": 0}}


@pytest.fixture
def api(connected, fake):
    api = ScriptedApi(connected(fake(broker)), timeout=400)
    api.on("STREAM.INFO", info())
    api.on("CONSUMER.DELETE", {"success": True})
    return api


@pytest.fixture
def kv(api):
    return KV(api.js, "b")


class Keys:
    """The stream's side of writing: subjects that have come, each answered with the next of answers."""

    def __init__(self, api: ScriptedApi) -> None:
        self.nats = api.nats
        self.subjects: list[str] = []
        self.answers: list[Any] = []  # then: stored
        api.nats.subscribe(f"{api.prefix}.$KV.b.>", self._on_put)

    def _on_put(self, subject: str, payload: bytes, reply: str, headers: Any) -> None:
        self.subjects.append(subject)
        stored = {"stream": "KV_b", "seq": len(self.subjects)}
        self.nats.publish(reply, json.dumps(self.answers.pop(0) if self.answers else stored))


@pytest.fixture
def keys(api):
    return Keys(api)


# What the stream is like.


def test_a_stream_that_keeps_no_history_of_a_subject_is_no_bucket(kv, api, call):
    api.on("STREAM.INFO", info(max_msgs_per_subject=-1))
    value, error = call(kv.get, "a")
    assert value is None
    assert isinstance(error, BadBucketError)


def test_what_waits_for_the_stream_gets_its_error_each(kv, api, run):
    api.on("STREAM.INFO", NO_STREAM)
    told: list[Any] = []
    for key in "abc":
        kv.get(key, lambda value, error: told.append(error))
    run(lambda: len(told) == 3)
    assert {type(error) for error in told} == {BucketNotFoundError}
    assert api.count("STREAM.INFO") == 1


def test_operations_during_a_change_wait_for_its_end(kv, api, run):
    replies: list[str] = []
    api.on("STREAM.CREATE", replies.append)
    api.on("STREAM.MSG.GET", NO_MESSAGE)
    told: list[Any] = []
    kv.create_bucket(lambda result, error: told.append(("created", error)))
    kv.get("a", lambda value, error: told.append(("got", error)))
    run(lambda: replies)
    assert told == []
    api.nats.publish(replies[0], '{"config":{"name":"KV_b","max_msgs_per_subject":1}}')
    run(lambda: len(told) == 2)
    assert sorted(told) == [("created", None), ("got", None)]
    assert api.count("STREAM.INFO") == 0


def test_operations_during_a_failed_change_ask_what_there_is(kv, api, run):
    replies: list[str] = []
    api.on("STREAM.CREATE", replies.append)
    api.on("STREAM.MSG.GET", NO_MESSAGE)
    told: list[Any] = []
    kv.create_bucket(lambda result, error: told.append(error))
    kv.get("a", lambda value, error: told.append(error))
    run(lambda: replies)
    api.nats.publish(replies[0], '{"error":{"code":503,"err_code":10008,"description":"no"}}')
    run(lambda: len(told) == 2)
    assert sorted(getattr(error, "code", 0) for error in told) == [0, 503]
    assert api.count("STREAM.INFO") == 1


def test_a_list_of_buckets_that_fails_is_the_callers(api, call):
    api.on("STREAM.LIST", OVERLOADED)
    api.on("STREAM.NAMES", OVERLOADED)
    for kind in (KV, ObjectStore):
        for method in (kind.buckets, kind.bucket_names):
            result, error = call(method, api.js)
            assert (result, error.code) == (None, 503)


def test_a_status_that_fails_is_the_callers(kv, api, call):
    api.on("STREAM.INFO", OVERLOADED)
    state, error = call(kv.status)
    assert (state, error.code) == (None, 503)


def test_a_bucket_that_exists_and_cannot_be_looked_at_is_an_error(kv, api, call):
    api.on("STREAM.CREATE", failure(400, 10058, "stream name already in use"))
    api.on("STREAM.INFO", OVERLOADED)
    result, error = call(kv.create_bucket)
    assert (result, error.code) == (None, 503)


def test_none_and_zero_in_a_configuration_are_the_defaults(kv, api, call):
    api.on("STREAM.CREATE", info())
    config = {"history": 0, "replicas": 0, "max_bytes": 0, "max_value_size": 0, "description": None}
    assert call(kv.create_bucket, config)[1] is None
    body = api.asked[0][1]
    assert (body["max_msgs_per_subject"], body["num_replicas"]) == (1, 1)
    assert (body["max_bytes"], body["max_msg_size"]) == (-1, -1)
    assert "description" not in body


# Writing.


def test_a_created_key_that_exists_is_refused(kv, api, keys, call):
    keys.answers += [WRONG_LAST]
    message = {"subject": "$KV.b.a", "seq": 1, "time": "2026-01-02T03:04:05Z", "data": "eA=="}
    api.on("STREAM.MSG.GET", {"message": message})
    revision, error = call(kv.create, "a", b"x")
    assert revision is None
    assert isinstance(error, KeyExistsError)


def test_a_created_key_that_cannot_be_looked_at_is_an_error(kv, api, keys, call):
    keys.answers += [WRONG_LAST]
    api.on("STREAM.MSG.GET", OVERLOADED)
    revision, error = call(kv.create, "a", b"x")
    assert (revision, error.code) == (None, 503)


def test_a_created_key_may_lose_to_another_writer_after_a_deletion(kv, api, keys, call):
    keys.answers += [WRONG_LAST, WRONG_LAST]
    api.on("STREAM.MSG.GET", NO_MESSAGE)
    revision, error = call(kv.create, "a", b"x")
    assert revision is None
    assert isinstance(error, KeyExistsError)
    assert len(keys.subjects) == 2


# Watching.


def watching(api: ScriptedApi, pending: int = 1, **config: Any) -> None:
    """Let consumers be created, with so many messages of the initial data."""
    fields = {"name": "C", "num_pending": pending, "delivered": {"stream_seq": 0}}
    api.on("CONSUMER.CREATE", {**fields, "config": config})


def test_a_list_whose_entries_do_not_come_times_out(kv, api, call):
    watching(api)
    api.on("CONSUMER.MSG.NEXT", None)
    api.on("CONSUMER.INFO", None)
    keys, error = call(kv.keys)
    assert keys is None
    assert isinstance(error, RequestTimeoutError)


def test_entries_that_expired_before_they_came_end_the_initial_data(kv, api, run):
    watching(api)
    heartbeat = b"NATS/1.0 100 Idle Heartbeat\r\n\r\n"
    api.on("CONSUMER.MSG.NEXT", lambda reply: api.nats.hpublish(reply, heartbeat, b""))
    gone = {"name": "other", "num_pending": 0, "delivered": {"consumer_seq": 0}}
    waits = {**gone, "num_pending": 1}
    api.on("CONSUMER.INFO", waits, OVERLOADED, gone)
    told: list[Any] = []
    watch = kv.watch(">", lambda entry, error: told.append((entry, error)))
    run(lambda: told)
    assert told == [(None, None)]
    assert api.count("CONSUMER.INFO") == 3
    watch.stop()


def test_a_watch_stopped_before_it_has_begun_tells_nothing(kv, api, run):
    replies: list[str] = []
    api.on("STREAM.INFO", replies.append)
    api.on("STREAM.MSG.GET", NO_MESSAGE)
    told: list[Any] = []
    watch = kv.watch(">", lambda entry, error: told.append(error))
    kv.get("a", lambda value, error: told.append("got"))
    run(lambda: replies)
    watch.stop()
    api.nats.publish(replies[0], '{"config":{"name":"KV_b","max_msgs_per_subject":1}}')
    run(lambda: told)
    assert told == ["got"]
    assert api.count("CONSUMER.CREATE") == 0


def test_a_watch_that_is_refused_tells_once(kv, api, run):
    api.on("CONSUMER.CREATE", failure(400, 10094, "filtered consumer not unique"))
    told: list[Any] = []
    watch = kv.watch(">", lambda entry, error: told.append(error))
    run(lambda: told)
    assert told[0].err_code == 10094
    assert watch.stopped


def test_a_watch_and_a_list_survive_a_connection_that_is_lost_at_once(
    client, own_server, call, run
):
    server = own_server(jetstream=True)
    nats = client(server, reconnect=True, reconnect_delay=20)
    run(nats.is_connected)
    js = JetStream(nats)
    call(KV(js, "b").create_bucket)
    call(KV(js, "b").put, "k", b"v")
    told: list[Any] = []
    listed: list[Any] = []
    KV(js, "b").watch(cb=lambda entry, error: told.append(error or (entry and entry.value)))
    KV(js, "b").keys(lambda *result: listed.append(result))
    nats.force_reconnect()
    run(lambda: len(told) == 2 and listed)
    assert told == [b"v", None]
    assert listed == [(["k"], None)]


def test_a_watch_begins_when_the_cluster_has_a_leader_again(kv, api, run):
    watching(api, 0)
    api.on("CONSUMER.MSG.NEXT", None)
    api.on("STREAM.INFO", OVERLOADED, info())
    told = watched(kv)
    run(lambda: told)
    assert told == [None]
    api.on("STREAM.INFO", OVERLOADED)
    told = watched(KV(api.js, "c"))
    run(lambda: told)
    assert told[0].err_code == 10008


def test_the_end_of_the_client_ends_a_watch_that_has_not_begun(kv, api, run):
    api.on("STREAM.INFO", None)
    told: list[Any] = []
    kv.watch(">", lambda entry, error: told.append(error))
    run(lambda: api.count("STREAM.INFO"))
    api.nats.disconnect()
    run(lambda: told)
    assert str(told[0]) == "disconnected"


def test_the_end_of_the_client_ends_a_watch(kv, api, run):
    watching(api, 0)
    api.on("CONSUMER.MSG.NEXT", None)
    told: list[Any] = []
    kv.watch(">", lambda entry, error: told.append((entry, error)))
    run(lambda: told)
    api.nats.disconnect()
    run(lambda: len(told) == 2)
    assert told[0] == (None, None)
    assert isinstance(told[1][1], ConnectionClosedError)


def test_purging_deletions_whose_list_fails_purges_nothing(kv, api, call):
    api.on("CONSUMER.CREATE", failure(400, 10094, "filtered consumer not unique"))
    count, error = call(kv.purge_deletes)
    assert (count, error.err_code) == (None, 10094)
    assert api.count("STREAM.PURGE") == 0


# A consumer on a replica that lags.

CLUSTER = {"cluster": {"name": "c", "leader": "n"}}


def lagging(api: ScriptedApi, pending: int) -> list[str]:
    """Let consumers of a cluster announce so many messages; return the inboxes that have asked for some."""
    inboxes: list[str] = []
    fields = {"name": "C", "num_pending": pending, "delivered": {"stream_seq": 0}, **CLUSTER}
    api.on("CONSUMER.CREATE", {**fields, "config": {}})

    def asked(inbox: str) -> None:
        inboxes.append(inbox)
        api.nats.hpublish(inbox, b"NATS/1.0 100 Idle Heartbeat\r\n\r\n", b"")

    api.on("CONSUMER.MSG.NEXT", asked)
    state = {"delivered": {"consumer_seq": pending}, "num_pending": 0, "name": "C"}
    api.on("CONSUMER.INFO", state)
    return inboxes


def stored(last_seq: int) -> dict[str, Any]:
    return info() | {"state": {"messages": 1, "bytes": 1, "last_seq": last_seq}}


def last_message(seq: int) -> dict[str, Any]:
    time = "2026-01-01T00:00:00Z"
    return {"message": {"subject": "$KV.b.k", "seq": seq, "data": "", "time": time}}


def watched(kv: KV, keys: str = ">") -> list[Any]:
    """Return what a watch tells: sequences, errors, and None for the end of the initial data."""
    told: list[Any] = []
    kv.watch(keys, lambda entry, error: told.append(error or (entry and entry.revision)))
    return told


@pytest.mark.parametrize("announced", [0, 1])
def test_a_watch_waits_for_what_a_lagging_replica_has_not_announced(kv, api, run, announced):
    inboxes = lagging(api, announced)
    api.on("STREAM.INFO", info(), OVERLOADED, stored(3))
    api.on("STREAM.MSG.GET", last_message(3))
    told = watched(kv)
    run(lambda: inboxes)
    for seq in range(1, 4):
        if seq > announced:
            run(lambda: api.count("STREAM.INFO") == 3)
        assert None not in told
        api.nats.publish(inboxes[0], b"", ack_reply(seq))
    run(lambda: None in told)
    assert told == [1, 2, 3, None]


@pytest.mark.parametrize("left", [NO_MESSAGE, 1, failure(400, 10003, "bad request")])
def test_a_watch_does_not_wait_for_a_last_message_that_was_deleted(kv, api, run, left):
    inboxes = lagging(api, 1)
    api.on("STREAM.INFO", info(), stored(3))
    api.on("STREAM.MSG.GET", last_message(1) if left == 1 else left)
    told = watched(kv)
    run(lambda: inboxes)
    api.nats.publish(inboxes[0], b"", ack_reply(1))
    run(lambda: None in told)
    assert told == [1, None]
    assert api.count("STREAM.MSG.GET") == 1


def test_a_watch_of_an_empty_bucket_or_a_part_asks_no_more_than_it_needs(kv, api, run):
    lagging(api, 0)
    api.on("STREAM.INFO", info(), {**stored(3), "state": {"messages": 0, "last_seq": 3}})
    told = watched(kv)
    run(lambda: told == [None])
    told = watched(kv, "a.*")
    run(lambda: told == [None])
    assert api.count("STREAM.INFO") == 2
    assert api.count("STREAM.MSG.GET") == 0


def test_a_watch_does_not_wait_for_ever_for_a_replica(kv, api, run, monkeypatch):
    monkeypatch.setattr("nats_ev.buckets.watch._LAG_LIMIT", 1.0)
    inboxes = lagging(api, 1)
    api.on("STREAM.INFO", info(), stored(3))
    api.on("STREAM.MSG.GET", last_message(3))
    told = watched(kv)
    run(lambda: inboxes)
    api.nats.publish(inboxes[0], b"", ack_reply(1))
    run(lambda: None in told)
    assert told == [1, None]
