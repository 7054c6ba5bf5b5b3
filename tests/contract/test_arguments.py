"""Wrong arguments raise at the call, name what is wrong, and send nothing."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from lab.broker import broker
from lab.scripted_api import ScriptedApi
from nats_ev import (
    KV,
    BadOptionsError,
    BadSubjectError,
    InvalidKeyError,
    JetStream,
    JsMsg,
    Nats,
    NatsError,
    NotConnectedError,
    ObjectStore,
    Service,
)
from nats_ev.headers import Headers
from nats_ev.service import ServiceError


def ignore(*result: Any) -> None:
    """Take whatever a callback gets."""


@pytest.fixture
def api(connected, fake):
    return ScriptedApi(connected(fake(broker)))


@pytest.fixture
def js(api):
    return api.js


JETSTREAM = {
    "a stream's name": (lambda js: js.stream_info(5, ignore), TypeError, "stream"),
    "a stream's name with a dot": (lambda js: js.stream_info("a.b", ignore), NatsError, "a.b"),
    "no callback": (lambda js: js.stream_delete("S", 5), TypeError, "callable"),
    "an unknown option of purge": (
        lambda js: js.stream_purge("S", {"until": 1}, ignore), BadOptionsError, "until",
    ),
    "seq and keep of purge": (
        lambda js: js.stream_purge("S", {"seq": 1, "keep": 1}, ignore), BadOptionsError, "exclude",
    ),
    "options of a get that are no mapping": (
        lambda js: js.get_msg("S", "1", ignore), TypeError, "mapping",
    ),
    "a get of nothing": (lambda js: js.get_msg("S", {}, ignore), BadOptionsError, "required"),
    "a last message from a sequence on": (
        lambda js: js.get_msg("S", {"last_by_subj": "a", "seq": 1}, ignore),
        BadOptionsError, "last_by_subj",
    ),
    "a get by an impossible subject": (
        lambda js: js.get_msg("S", {"next_by_subj": "a b"}, ignore), BadSubjectError, "a b",
    ),
    "options of a batch that are no mapping": (
        lambda js: js.direct_get_batch("S", 5, ignore), TypeError, "mapping",
    ),
    "a batch without a size": (
        lambda js: js.direct_get_batch("S", {"seq": 1}, ignore), BadOptionsError, "batch",
    ),
    "an unknown option of a batch": (
        lambda js: js.direct_get_batch("S", {"batch": 1, "to": 2}, ignore), BadOptionsError, "to",
    ),
    "a consumer without a name to update": (
        lambda js: js.consumer_update("S", {"ack_policy": "none"}, ignore),
        BadOptionsError, "name required",
    ),
    "two names of a consumer": (
        lambda js: js.consumer_create("S", {"name": "a", "durable_name": "b"}, ignore),
        BadOptionsError, "the same",
    ),
    "a sequence to reset to": (
        lambda js: js.consumer_reset("S", "c", "5", ignore), TypeError, "seq",
    ),
    "a truth value as a sequence": (
        lambda js: js.consumer_reset("S", "c", True, ignore), TypeError, "seq",
    ),
    "consume's on_error": (
        lambda js: js.consume("S", "c", {"on_error": 1}, ignore), TypeError, "on_error",
    ),
    "consume's heartbeat": (
        lambda js: js.consume("S", "c", {"expires": 10**9, "heartbeat": 10**9}, ignore),
        BadOptionsError, "heartbeat",
    ),
    "consume's threshold": (
        lambda js: js.consume("S", "c", {"max_messages": 1, "threshold_messages": 2}, ignore),
        BadOptionsError, "threshold",
    ),
    "an ordered consumer's on_start": (
        lambda js: js.ordered_consumer("S", {"on_start": 1}, ignore), TypeError, "on_start",
    ),
    "an ordered consumer's group": (
        lambda js: js.ordered_consumer("S", {"group": "g"}, ignore), BadOptionsError, "group",
    ),
    "two kinds of filters": (
        lambda js: js.ordered_consumer(
            "S", {"filter_subject": "a", "filter_subjects": ["b", "c"]}, ignore
        ),
        BadOptionsError, "filter_subject",
    ),
    "push's on_error": (
        lambda js: js.push_subscribe("S", "c", {"on_error": 1}, ignore), TypeError, "on_error",
    ),
    "push's on_start": (
        lambda js: js.push_subscribe("S", "c", {"on_start": 1}, ignore), TypeError, "on_start",
    ),
    "push's flow control without heartbeats": (
        lambda js: js.push_subscribe("S", {"flow_control": True}, {}, ignore),
        BadOptionsError, "idle_heartbeat",
    ),
    "push's group with heartbeats": (
        lambda js: js.push_subscribe(
            "S", {"deliver_group": "g", "idle_heartbeat": 10**9}, {}, ignore
        ),
        BadOptionsError, "deliver_group",
    ),
    "a prefix with wildcards": (
        lambda js: JetStream(js.nats, prefix="a.*"), BadOptionsError, "wildcards",
    ),
    "a prefix and a domain": (
        lambda js: JetStream(js.nats, prefix="a", domain="b"), BadOptionsError, "exclude",
    ),
    "a prefix that is no text": (lambda js: JetStream(js.nats, prefix=5), TypeError, "prefix"),
}  # fmt: skip


@pytest.mark.parametrize("what", JETSTREAM)
def test_jetstream_refuses(js, api, what):
    call, error, text = JETSTREAM[what]
    with pytest.raises(error, match=text):
        call(js)
    assert api.asked == []


def test_a_message_refuses_a_callback_and_a_reason_of_the_wrong_kind(api):
    sent = []
    api.nats.subscribe("$JS.ACK.>", lambda *message: sent.append(message))
    message = JsMsg(api.nats, "a", b"", "$JS.ACK.S.C.1.1.1.1.0", None)
    with pytest.raises(TypeError, match="cb must be callable"):
        message.ack_sync(5)
    with pytest.raises(TypeError, match="reason must be str"):
        message.term(5)
    message.ack()  # nothing of that has answered it


BUCKETS = {
    "history": ({"history": 65}, BadOptionsError, "history"),
    "history that is no number": ({"history": 1.5}, BadOptionsError, "whole number"),
    "the life of markers": ({"limit_marker_ttl": 1}, BadOptionsError, "1 s"),
    "a mirror and sources": (
        {"mirror": {"name": "a"}, "sources": [{"name": "b"}]}, BadOptionsError, "not both",
    ),
    "the name of a mirror": ({"mirror": {"name": 5}}, TypeError, "must be str"),
    "metadata": ({"metadata": "m"}, TypeError, "metadata"),
    "two words for the same": ({"replicas": 1, "num_replicas": 3}, BadOptionsError, "the same"),
    "an unknown word": ({"colour": "red"}, BadOptionsError, "colour"),
    "no mapping": ([], TypeError, "mapping"),
}  # fmt: skip


@pytest.mark.parametrize("what", BUCKETS)
def test_a_bucket_refuses(js, api, what):
    config, error, text = BUCKETS[what]
    kv = KV(js, "b")
    for change in (kv.create_bucket, kv.update_bucket, kv.create_or_update_bucket):
        with pytest.raises(error, match=text):
            change(config, ignore)
    assert api.asked == []


KEYS = {
    "a key": (lambda kv: kv.get(5, ignore), TypeError, "key"),
    "an empty key": (lambda kv: kv.put("", b"", ignore), InvalidKeyError, "key"),
    "wildcards in a key": (lambda kv: kv.history("a.*", ignore), InvalidKeyError, "a"),
    "a revision": (lambda kv: kv.update("a", b"", "1", ignore), TypeError, "revision"),
    "a revision below 0": (lambda kv: kv.update("a", b"", -1, ignore), BadOptionsError, "0 or more"),
    "a value": (lambda kv: kv.put("a", 5, ignore), TypeError, "int"),
    "updates only and a history": (
        lambda kv: kv.watch("a", ignore, updates_only=True, include_history=True),
        BadOptionsError, "excludes",
    ),
    "updates only and a start": (
        lambda kv: kv.watch("a", ignore, updates_only=True, resume_from_revision=3),
        BadOptionsError, "excludes",
    ),
    "no callback": (lambda kv: kv.watch("a", 5), TypeError, "callable"),
}  # fmt: skip


@pytest.mark.parametrize("what", KEYS)
def test_a_key_value_store_refuses(js, api, what):
    call, error, text = KEYS[what]
    with pytest.raises(error, match=text):
        call(KV(js, "b"))
    assert api.asked == []


OPTIONS = {
    "servers": ({"servers": [5]}, TypeError, "servers"),
    "no servers": ({"servers": []}, BadOptionsError, "at least one"),
    "an empty host": ({"host": ""}, BadOptionsError, "empty"),
    "a host with a user": ({"host": "me@there"}, BadOptionsError, "@"),
    "a host with a blank": ({"host": "a b"}, BadOptionsError, "blank"),
    "an empty path": ({"path": ""}, BadOptionsError, "empty"),
    "a path with a NUL": ({"path": "/a\0b"}, BadOptionsError, "NUL"),
    "a name": ({"name": 5}, TypeError, "name"),
    "a name with half a character": ({"name": "\ud800"}, BadOptionsError, "surrogates"),
    "a context of a server": ({"tls_context": 5}, TypeError, "SSLContext"),
    "an inbox prefix": ({"inbox_prefix": 5}, TypeError, "inbox_prefix"),
    "an inbox prefix with wildcards": ({"inbox_prefix": "a.>"}, BadOptionsError, "wildcards"),
    "a file": ({"creds_file": 5}, TypeError, "creds_file"),
    "a time": ({"connect_timeout": float("nan")}, BadOptionsError, "connect_timeout"),
    "a hook": ({"on_error": 5}, TypeError, "on_error"),
}  # fmt: skip


@pytest.mark.parametrize("what", OPTIONS)
def test_a_client_refuses(loop, what):
    options, error, text = OPTIONS[what]
    with pytest.raises(error, match=text):
        Nats(loop=loop, **options)


def test_a_client_takes_servers_as_one_text(fake, connected, loop, run):
    first = fake(broker)
    nats = Nats(loop=loop, servers=f"{first.url},{first.url}/")
    run(nats.is_connected)
    nats.disconnect()


def test_a_client_refuses_missing_places(loop):
    nats = Nats(loop=loop)
    with pytest.raises(TypeError, match="servers"):
        nats.set_server_pool(None)
    with pytest.raises(TypeError, match="path"):
        nats.connect_unix(None)


def test_empty_texts_for_secrets_mean_that_there_are_no_secrets(loop):
    nats = Nats(loop=loop, creds_file="", nkey_seed="", nkey="")
    with pytest.raises(NotConnectedError):
        nats.publish("a", b"")


def test_a_service_refuses_metadata_that_is_no_text(api):
    for metadata in (5, {"a": 1}, {1: "a"}):
        with pytest.raises(TypeError, match="metadata"):
            Service(api.nats, "s", "1.0.0", metadata=metadata)


def test_errors_of_a_service_are_found_in_all_kinds_of_headers():
    block = b"NATS/1.0\r\nNats-Service-Error: no\r\nNats-Service-Error-Code: 400\r\n\r\n"
    for headers in (block, bytearray(block), Headers.parse(block), dict(Headers.parse(block))):
        error = ServiceError.from_headers(headers)
        assert (error.code, error.description) == ("400", "no")
    assert ServiceError.from_headers(None) is None
    assert ServiceError.from_headers({"other": "1"}) is None


def test_a_pause_of_a_consumer_takes_a_time_with_or_without_a_zone(js, api, call):
    api.on("CONSUMER.PAUSE", {"paused": True})
    for until in (datetime(2030, 1, 2, tzinfo=timezone.utc), datetime(2030, 1, 2)):
        assert call(js.consumer_pause, "S", "c", until)[1] is None
    assert api.asked[0][1]["pause_until"].startswith("2030-01-02T00:00:00")


def test_a_reset_of_a_consumer_may_name_a_sequence(js, api, run):
    api.on("CONSUMER.RESET", {"config": {}})
    told = []
    js.consumer_reset("S", "c", lambda result, error: told.append(error))
    js.consumer_reset("S", "c", 7, lambda result, error: told.append(error))
    run(lambda: len(told) == 2)
    assert told == [None, None]
    assert [body for _, body in api.asked] == [{}, {"seq": 7}]


def test_an_object_store_refuses_a_chunk_size_of_nothing(js):
    with pytest.raises(BadOptionsError, match="chunk_size"):
        ObjectStore(js, "b", chunk_size=0)
