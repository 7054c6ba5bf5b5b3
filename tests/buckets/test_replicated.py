"""Buckets and stores of three replicas while their leaders are killed: nothing acknowledged is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from lab.natsserver import Cluster, NatsServer
from nats_ev import KV, JetStream, KeyExistsError, ObjectStore, WrongLastSequenceError


@pytest.fixture(scope="module")
def servers(needs_server):
    with Cluster(3, jetstream=True) as running:
        yield running


@pytest.fixture
def js(client, servers, run):
    nats = client(
        servers=[server.url for server in servers],
        reconnect=True,
        reconnect_delay=20,
        max_reconnect_attempts=0,
        connect_timeout=1000,
    )
    run(nats.is_connected)
    return JetStream(nats, timeout=2000)


@pytest.fixture
def create(call):
    """create(bucket, config): as soon as the cluster has a leader for that; it may just be electing one."""

    def create(bucket: KV | ObjectStore, config: dict[str, Any]) -> None:
        deadline = time.monotonic() + 30
        while (error := call(bucket.create_bucket, config)[1]) is not None:
            assert time.monotonic() < deadline, error

    return create


@pytest.fixture
def kill_leader(servers, js, call):
    """kill_leader(stream): the server that leads it is killed and comes back."""

    def kill_leader(stream: str) -> None:
        info, error = call(js.stream_info, stream)
        assert error is None
        (leader,) = [s for s in servers if s.name == info["cluster"]["leader"]]
        leader.restart()

    return kill_leader


def test_conflicts_are_seen_on_replicated_buckets(js, call, create):
    kv = KV(js, "conflicts")
    create(kv, {"replicas": 3, "history": 5})
    assert call(kv.create, "k", b"1") == (1, None)
    assert isinstance(call(kv.create, "k", b"x")[1], KeyExistsError)
    assert isinstance(call(kv.update, "k", b"x", 7)[1], WrongLastSequenceError)
    assert isinstance(call(kv.delete, "k", revision=7)[1], WrongLastSequenceError)
    assert call(kv.delete, "k") == (True, None)
    assert call(kv.create, "k", b"2") == (3, None)


@pytest.mark.slow
@pytest.mark.since(2, 11)
def test_writes_and_watch_go_on_when_the_leader_is_killed(js, call, run, create, kill_leader):
    kv, entries = KV(js, "killed"), []
    config = {"replicas": 3, "history": 64, "limit_marker_ttl": timedelta(seconds=5)}
    create(kv, config)
    kv.watch(cb=lambda entry, error: entries.append(entry))
    run(lambda: entries == [None], 30)
    acknowledged: dict[bytes, int] = {}
    for n in range(40):
        if n == 15:
            kill_leader(kv.stream)
        value = str(n).encode()
        deadline = time.monotonic() + 30
        while True:
            revision, error = call(kv.put, f"k{n % 4}", value)
            if error is None:
                acknowledged[value] = revision
                break
            assert time.monotonic() < deadline, error

    def seen() -> dict[bytes, int]:
        return {e.value: e.revision for e in entries if e is not None}

    # Its consumer may have been on the killed server: it is created again after missed heartbeats.
    run(lambda: acknowledged.keys() <= seen().keys(), 60)
    assert {value: seen()[value] for value in acknowledged} == acknowledged
    revisions = [e.revision for e in entries if e is not None]
    assert revisions == sorted(set(revisions))
    assert entries.count(None) == 1
    assert call(kv.get, "k3") == (b"39", None)


@pytest.mark.slow
def test_object_is_put_and_got_while_leaders_are_killed(js, call, run, create, servers):
    """Halfway, before anything else can happen: the stream's leader, and the server of get's consumer."""
    store, data = ObjectStore(js, "killed", chunk_size=32 * 1024), bytes(range(256)) * 80_000
    create(store, {"replicas": 3})
    killed: list[NatsServer] = []

    def kill_at_half(victims: Callable[[], list[NatsServer]]) -> Callable[[int, int], None]:
        before = len(killed)

        def progress(done: int, total: int) -> None:
            if done > total // 2 and len(killed) == before:
                assert done < total
                (victim,) = victims()
                killed.append(victim)
                victim.restart()

        return progress

    results: list[Any] = []
    info, _ = call(js.stream_info, store.stream)
    leader = [s for s in servers if s.name == info["cluster"]["leader"]]
    store.put("x", data, lambda *r: results.append(r), progress=kill_at_half(lambda: leader))
    run(lambda: results, 60)
    assert results.pop()[1] is None
    # So that the leader is killed in the middle of the get, which then begins with one.
    deadline = time.monotonic() + 30
    while (error := call(store.info, "x")[1]) is not None:
        assert time.monotonic() < deadline, error

    def holders() -> list[NatsServer]:
        return [s for s in servers if has_consumer(s, store.stream)]

    store.get("x", lambda *r: results.append(r), progress=kill_at_half(holders))
    run(lambda: results, 60)
    assert results == [(data, None)]
    assert len(killed) == 2


def has_consumer(server: NatsServer, stream: str) -> bool:
    """Whether that server runs a consumer of the stream."""
    (account,) = server.monitor("jsz?accounts=true&streams=true&consumers=true")["account_details"]
    (detail,) = [d for d in account["stream_detail"] if d["name"] == stream]
    return bool(detail.get("consumer_detail"))
