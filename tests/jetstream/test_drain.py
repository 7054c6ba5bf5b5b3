"""A drain lets operations of JetStream and of buckets come to their ends, whatever they still have to ask."""

from __future__ import annotations

import io
from typing import Any

import pytest

from nats_ev import KV, ConnectionDrainingError, JetStream, Nats, ObjectStore

WAYS = {
    "publish": lambda js, cb: js.publish("e.1", b"x", cb),
    "kv put": lambda js, cb: KV(js, "b").put("new", b"v", cb),
    "kv get": lambda js, cb: KV(js, "b").get("k", cb),
    "kv create": lambda js, cb: KV(js, "b").create("made", b"v", cb),
    "create bucket": lambda js, cb: KV(js, "other").create_bucket({"storage": "memory"}, cb),
    "stream names": lambda js, cb: js.stream_names(cb),
    "fetch": lambda js, cb: js.fetch("E", "c", {"batch": 5, "expires": 200_000_000}, cb),
    "object put": lambda js, cb: ObjectStore(js, "o").put("n", io.BytesIO(bytes(400_000)), cb),
}


@pytest.fixture
def stores(js: JetStream, call: Any) -> JetStream:
    call(js.stream_create, {"name": "E", "subjects": ["e.>"], "storage": "memory"})
    call(js.consumer_create, "E", {"durable_name": "c"})
    call(js.publish, "e.0", b"0")
    call(KV(js, "b").create_bucket, {"storage": "memory"})
    call(KV(js, "b").put, "k", b"v")
    call(ObjectStore(js, "o").create_bucket, {"storage": "memory"})
    return js


@pytest.mark.parametrize("connected_before", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_what_has_begun_succeeds(stores, client, run, way, connected_before):
    server = stores.nats.connected_url()
    nats: Nats = client(servers=[server])
    if connected_before:
        run(nats.is_connected)
    out: list[Any] = []
    WAYS[way](JetStream(nats), lambda result, error: out.append(error))
    nats.drain(lambda error: out.append(error))
    with pytest.raises(ConnectionDrainingError):
        JetStream(nats).publish("e.1", b"late", print)
    run(lambda: len(out) == 2)
    assert out == [None, None]
