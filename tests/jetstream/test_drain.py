"""A drain lets operations of JetStream and of buckets come to their ends, whatever they still have to ask."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from lab.scripted_api import ScriptedApi
from nats_ev import (
    KV,
    ConnectionClosedError,
    ConnectionDrainingError,
    DrainTimeoutError,
    JetStream,
    Nats,
    ObjectStore,
)

Done = Callable[[Any, Any], object]
SHORT = timedelta(milliseconds=200)


def atomic_batch(js: JetStream, cb: Done) -> None:
    batch = js.atomic_batch()
    for _ in range(4):
        batch.add("a.1", b"x")
    batch.commit("a.1", b"last", cb)


def fast_batch(js: JetStream, cb: Done) -> None:
    batch = js.fast_batch(flow=10)
    for _ in range(40):
        batch.add("a.1", b"x")
    batch.close(cb)


def publish_async(js: JetStream, cb: Done) -> None:
    for _ in range(300):
        js.publish_async("e.1", b"x", lambda ack, error: None)
    js.publish_complete(cb)


# What begins before a drain and has an end.
WAYS: dict[str, Callable[[JetStream, Done], object]] = {
    "publish": lambda js, cb: js.publish("e.1", b"x", cb),
    "publish_async": publish_async,
    "atomic batch": atomic_batch,
    "fast batch": fast_batch,
    "kv put": lambda js, cb: KV(js, "b").put("new", b"v", cb),
    "kv get": lambda js, cb: KV(js, "b").get("k0", cb),
    "kv create": lambda js, cb: KV(js, "b").create("deleted", b"v", cb),
    "kv keys": lambda js, cb: KV(js, "b").keys(cb),
    "kv history": lambda js, cb: KV(js, "b").history("k1", cb),
    "kv purge_deletes": lambda js, cb: KV(js, "b").purge_deletes(cb),
    "create bucket": lambda js, cb: KV(js, "other").create_bucket({"storage": "memory"}, cb),
    "stream names": lambda js, cb: js.stream_names(cb),
    "direct_get_batch": lambda js, cb: js.direct_get_batch("KV_b", {"batch": 5}, cb),
    "fetch": lambda js, cb: js.fetch("E", "c", {"batch": 5, "expires": SHORT}, cb),
    "fetch in order": lambda js, cb: js.ordered_fetcher("E").fetch({"batch": 9, "expires": SHORT}, cb),
    "next in order": lambda js, cb: js.ordered_fetcher("E").next(cb=cb),
    "object put": lambda js, cb: ObjectStore(js, "o").put("n", io.BytesIO(bytes(400_000)), cb),
    "object get": lambda js, cb: ObjectStore(js, "o").get("big", cb),
    "object get of a link": lambda js, cb: ObjectStore(js, "o").get("link", cb),
    "object list": lambda js, cb: ObjectStore(js, "o").list(cb),
    "object delete": lambda js, cb: ObjectStore(js, "o").delete("small", cb),
    "object rename": lambda js, cb: ObjectStore(js, "o").update_meta("small", {"name": "x"}, cb),
}  # fmt: skip

CHANGES = ("kv create", "object delete", "object rename")
MAY_BE_EMPTY = ("fetch", "kv purge_deletes")

# Of these the first part has an end: the initial data. With the number of entries in it.
WATCHES: dict[str, tuple[Callable[[JetStream, Done], object], int]] = {
    "kv watch": (lambda js, cb: KV(js, "b").watch(">", cb), 7),
    "kv history": (lambda js, cb: KV(js, "b").watch("k1", cb, include_history=True), 2),
    "object watch": (lambda js, cb: ObjectStore(js, "o").watch(cb), 3),
}

# These have no end of their own.
ENDLESS: dict[str, Callable[[JetStream, Done], object]] = {
    "consume": lambda js, cb: js.consume("E", "c", cb),
    "ordered_consumer": lambda js, cb: js.ordered_consumer("E", cb),
    "push_subscribe": lambda js, cb: js.push_subscribe("E", {"ack_policy": "none"}, cb),
    "push_subscribe to one that exists": lambda js, cb: js.push_subscribe("E", "pushed", cb),
}


@pytest.fixture
def stores(js: JetStream, call: Any) -> JetStream:
    batches = {"allow_atomic": True, "allow_batched": True, "storage": "memory"}
    call(js.stream_create, {"name": "A", "subjects": ["a.>"], **batches})
    call(js.stream_create, {"name": "E", "subjects": ["e.>"], "storage": "memory"})
    call(js.consumer_create, "E", {"durable_name": "c"})
    call(js.consumer_create, "E", {"durable_name": "pushed", "deliver_subject": "pushed.to"})
    for i in range(9):
        call(js.publish, f"e.{i}", b"0")
    kv = KV(js, "b")
    call(kv.create_bucket, {"storage": "memory", "history": 5})
    for i in range(12):
        call(kv.put, f"k{i % 6}", b"v")
    store = ObjectStore(js, "o", chunk_size=40_000)
    call(store.create_bucket, {"storage": "memory"})
    call(store.put, "big", bytes(400_000))
    call(store.add_link, "link", "big")
    restore(js, call)
    return js


def restore(js: JetStream, call: Any) -> None:
    """Restore what some of the ways change."""
    call(KV(js, "b").put, "deleted", b"v")
    call(KV(js, "b").delete, "deleted")
    call(ObjectStore(js, "o").delete, "x")
    call(ObjectStore(js, "o").put, "small", b"x")


class Moment:
    """A client that began something and drained, and what came of it."""

    def __init__(self, nats: Nats) -> None:
        self.nats = nats
        self.got: list[tuple[Any, Any]] = []
        self.drained: list[Any] = []


@pytest.fixture
def moments(stores: JetStream, client: Any, run: Any, call: Any) -> Any:
    """Begin something in many clients, and drain: at once, and after each message that comes for it."""
    server = stores.nats.connected_url()

    def moments(
        begin: Callable[[JetStream, Done], object],
        is_over: Callable[[Any], Any],
        changes: bool = False,
    ) -> Iterator[Moment]:
        for messages in range(-1, 40):
            if changes:
                restore(stores, call)
            moment = Moment(client(servers=[server], on_error=print))
            nats, got, drained = moment.nats, moment.got, moment.drained
            if messages >= 0:  # else drained before the connection is up
                run(nats.is_connected)
            before = nats.stats()["msgs_in"]
            begin(JetStream(nats), lambda *result, got=got: got.append(result))
            if messages > 0:
                enough = before + messages
                run(lambda n=nats, e=enough, g=got: n.stats()["msgs_in"] >= e or is_over(g))
            over = is_over(got)
            nats.drain(drained.append)
            run(lambda drained=drained: drained)
            yield moment
            nats.disconnect()
            if over:
                return

    return moments


@pytest.mark.parametrize("way", WAYS)
def test_what_has_begun_succeeds_whenever_the_drain_begins(moments, stores, call, way):
    for moment in moments(WAYS[way], len, way in CHANGES):
        assert moment.drained == [None]
        assert [error for _, error in moment.got] == [None]
        assert moment.got[0][0] or way in MAY_BE_EMPTY
    for stream in ("E", "KV_b", "OBJ_o"):
        names, _ = call(stores.consumer_names, stream)
        assert set(names) <= {"c", "pushed"}  # nothing is left behind


@pytest.mark.parametrize("way", WATCHES)
def test_the_initial_data_of_a_watch_is_complete_and_then_it_ends(moments, way):
    begin, entries = WATCHES[way]
    for moment in moments(begin, lambda got: (None, None) in got):
        assert moment.drained == [None]
        *data, marker, end = moment.got
        assert len(data) == entries
        assert all(entry is not None and error is None for entry, error in data)
        assert marker == (None, None)
        assert isinstance(end[1], ConnectionClosedError)


@pytest.mark.parametrize("way", ENDLESS)
def test_what_has_no_end_ends_with_the_drain(moments, stores, call, way):
    for n, moment in enumerate(moments(ENDLESS[way], lambda got: len(got) == 9)):
        assert moment.drained == [None]
        *data, end = moment.got
        seqs = [message.metadata.stream_sequence for message, _ in data]
        assert seqs == list(range(1, len(seqs) + 1)) or way == "consume"
        assert end[0] is None
        assert isinstance(end[1], (ConnectionClosedError, ConnectionDrainingError))
        assert n < 20


@pytest.mark.parametrize("way", [*WAYS, *WATCHES, *ENDLESS])
def test_what_begins_in_a_drain_is_refused(stores, client, run, way):
    nats: Nats = client(servers=[stores.nats.connected_url()])
    run(nats.is_connected)
    drained: list[Any] = []
    js = JetStream(nats)
    nats.request("nobody.answers", b"", print, 0, no_responders=False)
    nats.drain(drained.append)
    begin = {**WAYS, **ENDLESS, **{name: one for name, (one, _) in WATCHES.items()}}[way]
    with pytest.raises(ConnectionDrainingError):
        begin(js, print)
    nats.disconnect()


def test_what_waits_for_a_request_of_another_is_refused_as_well(stores, client, run):
    nats: Nats = client(servers=[stores.nats.connected_url()])
    run(nats.is_connected)
    kv, out = KV(JetStream(nats), "b"), []
    kv.get("k0", lambda *result: out.append(result))  # asks what the bucket is like
    nats.drain(out.append)
    for begin in (kv.keys, lambda cb: kv.get("k0", cb), lambda cb: kv.watch(">", cb)):
        with pytest.raises(ConnectionDrainingError):
            begin(print)
    run(lambda: len(out) == 2)
    assert out == [(b"v", None), None]


def test_a_paused_get_may_go_on_in_a_drain(stores, client, run):
    nats: Nats = client(servers=[stores.nats.connected_url()])
    run(nats.is_connected)
    out: list[Any] = []
    store = ObjectStore(JetStream(nats), "o")

    def part(data: bytes) -> None:
        out.append(len(data))
        get.pause()
        nats.call_later(5, get.resume)

    get = store.get("big", part, lambda info, error: out.append(error))
    run(lambda: len(out) == 3)
    nats.drain(out.append)
    run(lambda: out[-2:] == [None, None])
    assert out == [*[40_000] * 10, None, None]


@pytest.mark.parametrize("way", ["drain", "disconnect"])
def test_a_get_that_stays_paused_ends_with_its_client(stores, client, run, way):
    nats: Nats = client(servers=[stores.nats.connected_url()], drain_timeout=100)
    run(nats.is_connected)
    out: list[Any] = []
    get = ObjectStore(JetStream(nats), "o").get(
        "big", lambda part: get.pause(), lambda info, error: out.append(error)
    )
    run(lambda: get.paused)
    if way == "drain":
        nats.drain(out.append)
    else:
        nats.disconnect()
    run(lambda: len(out) == (2 if way == "drain" else 1))
    expected = [ConnectionClosedError, DrainTimeoutError]
    assert [type(error) for error in out] == expected[: len(out)]
    assert str(out[0]) == "disconnected"


SILENT = {
    "CONSUMER.CREATE": None,
    "CONSUMER.MSG.NEXT": None,
    "CONSUMER.DELETE": {"success": True},
    "STREAM.INFO": {"config": {"max_msgs_per_subject": 1}},
}
INFO = {"name": "c", "config": {}, "num_pending": 3, "created": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize("answered", [0, 1])
@pytest.mark.parametrize("way", ["kv keys", "kv watch", "object list", "next in order"])
def test_what_does_not_end_within_drain_timeout_fails_first(
    client, connected, server, run, way, answered
):
    """The server answers nothing, or just the creation of the consumer."""
    api = ScriptedApi(connected(server))
    for verb, answer in SILENT.items():
        api.on(verb, answer)
    if answered:
        api.on("CONSUMER.CREATE", INFO)
    run(api.nats.is_connected)
    nats: Nats = client(server, drain_timeout=300, on_error=print)
    run(nats.is_connected)
    out: list[Any] = []
    begin = WATCHES[way][0] if way in WATCHES else WAYS[way]
    begin(JetStream(nats, prefix=api.prefix), lambda *result: out.append(result))
    run(lambda: api.count("CONSUMER.MSG.NEXT" if answered else "CONSUMER.CREATE"))
    nats.drain(out.append)
    run(lambda: len(out) == 2)
    assert isinstance(out[0][1], ConnectionClosedError)
    assert isinstance(out[1], DrainTimeoutError)


def test_no_requests_are_made_for_what_the_drain_ends(client, connected, server, run):
    api = ScriptedApi(connected(server))
    for verb, answer in SILENT.items():
        api.on(verb, answer)
    api.on("CONSUMER.CREATE", INFO)
    api.on("CONSUMER.INFO", None)
    nats: Nats = client(server)
    run(nats.is_connected)
    js, out = JetStream(nats, prefix=api.prefix), []
    short = {"expires": timedelta(seconds=1), "heartbeat": timedelta(milliseconds=500)}
    js.consume("S", "c", short, lambda *result: out.append(result))
    js.ordered_consumer(
        "S", {**short, "heartbeat": timedelta(milliseconds=50)}, lambda *r: out.append(r)
    )
    run(lambda: api.count("CONSUMER.MSG.NEXT") == 2)
    asked = len(api.asked)
    nats.request("silent", b"", lambda *result: out.append("over"), 1500, no_responders=False)
    nats.drain(out.append)
    run(lambda: len(out) == 4)
    assert out[:2] == ["over", None] or out[0] == "over"
    assert len(api.asked) == asked


def test_the_drain_of_a_handle_in_a_drain_deletes_its_consumer(stores, client, run, call):
    nats: Nats = client(servers=[stores.nats.connected_url()])
    run(nats.is_connected)
    out: list[Any] = []

    def third(message: Any, error: Any) -> None:
        if message is not None and message.metadata.stream_sequence == 3:
            nats.drain(out.append)
            handle.drain(lambda *result: out.append(result))

    handle = JetStream(nats).ordered_consumer("E", third)
    run(lambda: len(out) == 2)
    assert out == [(True, None), None]
    assert set(call(stores.consumer_names, "E")[0]) == {"c", "pushed"}


def test_an_open_batch_holds_no_drain(stores, client, run):
    nats: Nats = client(servers=[stores.nats.connected_url()])
    run(nats.is_connected)
    out: list[Any] = []
    batch = JetStream(nats).fast_batch(flow=10)
    batch.add("a.1", b"x")
    batch.add("a.1", b"x", lambda *result: out.append(result))
    nats.drain(out.append)
    run(lambda: len(out) == 2)
    assert out[0] is None or isinstance(out[0][1], ConnectionClosedError)
    assert None in out
