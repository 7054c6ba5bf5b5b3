"""Puts whose parts go in fast batches (ADR-50), and what becomes of them when a batch ends early."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from lab.natsserver import Cluster
from nats_ev import JetStream, ObjectStore, ObjectTransferError

pytestmark = pytest.mark.since(2, 14)

PART = 16 * 1024
CONTENT = random.Random(7).randbytes(300 * PART + 5)
_numbers = itertools.count(1)


@pytest.fixture
def make_store(call):
    """make_store(js, **config) → a store that takes batches."""

    def make_store(js: JetStream, **config: Any) -> ObjectStore:
        store = ObjectStore(js, f"fast{next(_numbers)}", chunk_size=PART)
        assert call(store.create_bucket, {"allow_batched": True, **config})[1] is None
        return store

    return make_store


@pytest.fixture
def store(js, make_store, call):
    store = make_store(js)
    yield store
    call(store.delete_bucket)


@pytest.fixture
def parts(call):
    """parts(store) → how many parts the store's stream has, per object."""

    def parts(store: ObjectStore) -> dict[str, int]:
        opts = {"subjects_filter": f"$O.{store.bucket}.C.>"}
        return call(store.js.stream_info, store.stream, opts)[0]["state"].get("subjects") or {}

    return parts


@pytest.fixture
def replies(run):
    """replies(store) → a list that gets the reply subject of each part that comes."""

    def replies(store: ObjectStore) -> list[str]:
        got: list[str] = []
        nats = store.js.nats
        nats.subscribe(f"$O.{store.bucket}.C.*", lambda s, d, reply, h: got.append(reply))
        flushed: list[Any] = []
        nats.flush(flushed.append)
        run(lambda: flushed)
        return got

    return replies


def pieces():
    """Give the content in pieces of a length that is no part's."""
    for at in range(0, len(CONTENT), 5000):
        yield CONTENT[at : at + 5000]


def in_batch(replies: list[str]) -> int:
    return sum(reply.endswith((".0.$FI", ".1.$FI")) for reply in replies)


def check(store: ObjectStore, call: Any, parts: Any, info: Any) -> None:
    """The object is there, with as many parts as it says, and nothing else."""
    assert info["size"] == len(CONTENT)
    assert info["chunks"] == 301
    assert parts(store) == {f"$O.{store.bucket}.C.{info['nuid']}": 301}
    assert call(store.get, info["name"]) == (CONTENT, None)


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_a_large_object_goes_in_a_batch(store, call, parts, replies, kind):
    got = replies(store)
    info, error = call(store.put, "o", CONTENT if kind == "bytes" else pieces())
    assert error is None
    check(store, call, parts, info)
    # Of unknown length: the first parts are published one by one.
    assert in_batch(got) == (301 if kind == "bytes" else 301 - 32)
    info, error = call(store.put, "o", CONTENT)  # replaces it
    check(store, call, parts, info)


def test_small_objects_and_other_stores_do_without(js, store, call, replies):
    got = replies(store)
    assert call(store.put, "small", CONTENT[:PART])[1] is None
    assert in_batch(got) == 0
    plain = ObjectStore(js, f"plain{next(_numbers)}", chunk_size=PART)
    call(plain.create_bucket)
    got = replies(plain)
    assert call(plain.put, "o", CONTENT)[1] is None
    assert (in_batch(got), len(got)) == (0, 301)
    call(plain.delete_bucket)


def test_a_store_that_exists_is_told_to_take_batches_and_else_left(js, store, call, replies):
    def batched() -> Any:
        return call(store.status)[0]["config"].get("allow_batched")

    assert call(store.create_bucket)[1] is None
    assert batched() is True
    plain = ObjectStore(js, f"plain{next(_numbers)}", chunk_size=PART)
    call(plain.create_bucket)
    call(plain.put, "o", CONTENT)
    assert call(plain.create_bucket, {"allow_batched": True})[1] is None
    got = replies(plain)
    assert call(plain.put, "o", CONTENT)[1] is None
    assert in_batch(got) == 301
    # Switched off meanwhile, by somebody else.
    assert call(ObjectStore(js, plain.bucket).update_bucket, {"allow_batched": False})[1] is None
    assert call(plain.put, "o", CONTENT)[1] is None
    assert call(plain.get, "o") == (CONTENT, None)
    call(plain.delete_bucket)


@pytest.mark.parametrize("after", [0, 1, 20, 250])
def test_a_cancelled_put_leaves_nothing(store, run, parts, after):
    told: list[Any] = []
    upload: Any = None

    def source():
        for at in range(0, len(CONTENT), PART):
            if at == after * PART and after:
                upload.cancel()
            yield CONTENT[at : at + PART]

    upload = store.put("o", source(), lambda *result: told.append(result))
    if not after:
        upload.cancel()
    run(lambda: told)
    assert isinstance(told[0][1], ObjectTransferError)
    assert parts(store) == {}
    assert len(told) == 1


@pytest.mark.parametrize("after", [1, 100])
def test_a_source_that_fails_leaves_nothing(store, call, parts, after):
    def source():
        yield CONTENT[: after * PART]
        raise OSError("no more")

    result, error = call(store.put, "o", source())
    assert (result, type(error)) == (None, ObjectTransferError)
    assert parts(store) == {}


def test_a_drain_waits_for_the_put(store, run, server, connected, call, parts):
    told: list[Any] = []
    nats = connected(server)
    mine = ObjectStore(JetStream(nats), store.bucket, chunk_size=PART)

    def source():
        for number, piece in enumerate(pieces()):
            if number == 400:
                nats.drain(lambda *args: told.append("drained"))
            yield piece

    mine.put("o", source(), lambda *result: told.append(result))
    run(lambda: len(told) == 2)
    assert told[1] == "drained"
    assert told[0][1] is None
    check(store, call, parts, told[0][0])


@pytest.mark.parametrize("known", [True, False])
def test_a_drain_that_begins_before_the_batch(store, run, server, connected, call, parts, known):
    told: list[Any] = []
    nats = connected(server)
    mine = ObjectStore(JetStream(nats), store.bucket, chunk_size=PART)
    if known:  # that the store takes batches
        call(mine.put, "before", CONTENT)
        call(mine.delete, "before")
    mine.put("o", CONTENT, lambda *result: told.append(result))
    nats.drain(lambda *args: told.append("drained"))
    run(lambda: len(told) == 2)
    assert told[1] == "drained"
    assert told[0][1] is None
    check(store, call, parts, told[0][0])


@pytest.mark.parametrize("at", [2, 60, 290])
def test_a_lost_connection_is_survived(store, proxy, server, connected, run, call, parts, at):
    """After it the batch goes on if nothing was lost, and else its parts are published one by one."""
    told: list[Any] = []
    through = proxy(server.port)
    nats = connected(through, reconnect=True, reconnect_delay=10)
    mine = ObjectStore(JetStream(nats), store.bucket, chunk_size=PART)

    def source():
        for number, start in enumerate(range(0, len(CONTENT), PART)):
            if number == at:
                through.cut()
            yield CONTENT[start : start + PART]

    mine.put("o", source(), lambda *result: told.append(result))
    run(lambda: told)
    assert told[0][1] is None
    check(store, call, parts, told[0][0])


def test_a_killed_server_is_survived(own_server, make_store, connected, run, call, parts):
    server = own_server(jetstream=True)
    js = JetStream(connected(server, reconnect=True, reconnect_delay=10))
    store = make_store(js)
    told: list[Any] = []

    def source():
        for number, start in enumerate(range(0, len(CONTENT), PART)):
            if number == 200:
                server.kill()
                server.start()
            yield CONTENT[start : start + PART]

    store.put("o", source(), lambda *result: told.append(result))
    run(lambda: told)
    assert told[0][1] is None
    check(store, call, parts, told[0][0])


@pytest.mark.slow
def test_another_leader_is_survived(needs_server, make_store, connected, run, call, parts):
    with Cluster(3, jetstream=True) as cluster:
        js = JetStream(connected(cluster[0]))
        told: list[Any] = []
        store = None
        while store is None:
            try:
                store = make_store(js, replicas=3)
            except AssertionError:  # no meta leader yet
                continue
        assert store is not None

        def source():
            for number, start in enumerate(range(0, len(CONTENT), PART)):
                if number in (50, 150, 250):
                    nats = store.js.nats
                    nats.publish(f"$JS.API.STREAM.LEADER.STEPDOWN.{store.stream}")
                yield CONTENT[start : start + PART]

        store.put("o", source(), lambda *result: told.append(result))
        run(lambda: told)
        assert told[0][1] is None
        check(store, call, parts, told[0][0])


def test_official_clients_read_it(store, peer, call, tmp_path):
    got = tmp_path / "got"
    call(store.put, "o", CONTENT)
    peer("obj.get", bucket=store.bucket, name="o", path=str(got))
    assert got.read_bytes() == CONTENT
