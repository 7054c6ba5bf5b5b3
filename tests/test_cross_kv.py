"""Key-value buckets shared with official clients: what one does the other sees, both ways."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest

from nats_ev import KV, JetStream, KeyExistsError, WrongLastSequenceError

_numbers = itertools.count(1)


@pytest.fixture
def js(connected, server):
    return JetStream(connected(server))


@pytest.fixture
def kv(js, call, peer):
    """A bucket with history that one of the two has made, and allows TTLs.

    That buckets made by either are the same is a test of its own.
    """
    name = f"cross{next(_numbers)}"
    kv = KV(js, name)
    if peer.name == "nats-py":
        assert call(kv.create_bucket, {"history": 5, "limit_marker_ttl": 10**9})[1] is None
    else:
        peer("kv.create_bucket", bucket=name, history=5, marker_ttl_ms=1000)
    return kv


@pytest.fixture
def theirs(peer, kv, run):
    """theirs("put", key=…): the official client's operation, while the loop runs."""

    def theirs(operation: str, **arguments: Any) -> Any:
        return peer(f"kv.{operation}", bucket=kv.bucket, **arguments)

    return theirs


def test_put_and_get(kv, call, theirs):
    assert call(kv.put, "ours", b"from here") == (1, None)
    found = theirs("get", key="ours")
    assert (found["value"], found["revision"], found["operation"]) == ("from here", 1, "PUT")
    assert theirs("put", key="a.b/c=d_e-F", value="from there") == 2
    assert call(kv.get, "a.b/c=d_e-F") == (b"from there", None)
    assert call(kv.entry, "a.b/c=d_e-F")[0].revision == 2
    assert theirs("keys") == call(kv.keys)[0] == ["a.b/c=d_e-F", "ours"]
    assert theirs("get", key="missing") is None


def test_empty_value(kv, call, theirs):
    call(kv.put, "ours", b"")
    assert theirs("get", key="ours")["value"] == ""
    theirs("put", key="theirs", value="")
    assert call(kv.get, "theirs") == (b"", None)


def test_update_conflict(kv, call, theirs):
    call(kv.put, "k", b"1")
    assert theirs("update", key="k", value="2", revision=1) == 2
    assert isinstance(call(kv.update, "k", b"x", 1)[1], WrongLastSequenceError)
    assert call(kv.update, "k", b"3", 2) == (3, None)
    with pytest.raises(Exception, match="wrong last sequence") as caught:
        theirs("update", key="k", value="x", revision=2)
    assert caught.value.code in (10071, None)  # nats-py has only the text
    assert call(kv.get, "k") == (b"3", None)


def test_create_conflict_and_create_after_delete_and_purge(kv, call, theirs):
    assert theirs("create", key="k", value="1") == 1
    assert isinstance(call(kv.create, "k", b"x")[1], KeyExistsError)
    call(kv.delete, "k")
    assert theirs("create", key="k", value="2") == 3
    with pytest.raises(Exception, match=r"(?i)wrong last sequence"):
        theirs("create", key="k", value="x")
    theirs("delete", key="k")
    assert call(kv.create, "k", b"3") == (5, None)
    theirs("purge", key="k")
    assert call(kv.create, "k", b"4") == (7, None)
    call(kv.purge, "k")
    assert theirs("create", key="k", value="5") == 9
    assert call(kv.get, "k") == (b"5", None)


def gone(found: Any) -> bool:
    """nats.js gives a deleted key's entry, nats-py none, or one without a value when a TTL has ended it."""
    return found is None or found["operation"] != "PUT" or found["value"] == ""


def test_delete(kv, call, theirs):
    call(kv.put, "ours", b"1")
    call(kv.put, "theirs", b"1")
    assert call(kv.delete, "ours") == (True, None)
    assert gone(theirs("get", key="ours"))
    theirs("delete", key="theirs")
    assert call(kv.get, "theirs") == (None, None)
    assert theirs("keys") == call(kv.keys)[0] == []


def test_conditional_delete(kv, call, theirs):
    call(kv.put, "k", b"1")
    with pytest.raises(Exception, match="wrong last sequence"):
        theirs("delete", key="k", revision=7)
    theirs("delete", key="k", revision=1)
    assert call(kv.get, "k") == (None, None)
    theirs("put", key="k", value="2")
    assert isinstance(call(kv.delete, "k", revision=1)[1], WrongLastSequenceError)
    assert call(kv.delete, "k", revision=3) == (True, None)
    assert gone(theirs("get", key="k"))


def test_history_after_delete_and_purge(kv, call, theirs):
    call(kv.put, "k", b"1")
    theirs("put", key="k", value="2")
    call(kv.delete, "k")
    theirs("put", key="k", value="3")
    expected = [(1, "PUT", "1"), (2, "PUT", "2"), (3, "DEL", ""), (4, "PUT", "3")]

    def ours() -> Any:
        return [(e.revision, e.operation, e.value.decode()) for e in call(kv.history, "k")[0]]

    def other() -> Any:
        return [(e["revision"], e["operation"], e["value"]) for e in theirs("history", key="k")]

    assert ours() == other() == expected
    theirs("purge", key="k")
    assert ours() == other() == [(5, "PURGE", "")]
    call(kv.put, "k", b"4")
    call(kv.purge, "k")
    assert ours() == other() == [(7, "PURGE", "")]


def test_revision(kv, call, theirs):
    call(kv.put, "k", b"1")
    theirs("put", key="k", value="2")
    assert call(kv.get_revision, "k", 1)[0].value == b"1"
    assert theirs("get", key="k", revision=1)["value"] == "1"


def test_key_with_a_ttl_made_here_ends_there(kv, call, theirs, run):
    assert call(kv.create, "k", b"short", ttl=1000)[1] is None
    assert theirs("get", key="k")["value"] == "short"
    entries: list[Any] = []
    kv.watch("k", lambda entry, error: entries.append(entry))
    run(lambda: any(e is not None and e.operation == "PURGE" for e in entries))
    assert gone(theirs("get", key="k"))


def test_key_with_a_ttl_made_there_ends_here(kv, call, theirs, run):
    theirs("create", key="k", value="short", ttl_s=1)
    entries: list[Any] = []
    kv.watch("k", lambda entry, error: entries.append(entry))
    run(lambda: any(e is not None and e.operation == "PURGE" for e in entries))
    assert [e and e.operation for e in entries] == ["PUT", None, "PURGE"]
    assert call(kv.get, "k") == (None, None)
    theirs("put", key="p", value="x")
    theirs("purge", key="p", ttl_s=1)
    assert call(kv.history, "p")[0][0].operation == "PURGE"


def test_watch_here_of_what_is_done_there(kv, call, theirs, run):
    theirs("put", key="before", value="0")
    entries: list[Any] = []
    kv.watch(cb=lambda entry, error: entries.append(entry))
    run(lambda: None in entries)
    theirs("put", key="a", value="1")
    theirs("delete", key="a")
    theirs("put", key="a", value="2")
    theirs("purge", key="a")
    run(lambda: len(entries) == 6)
    assert [e and (e.key, e.value, e.operation) for e in entries] == [
        ("before", b"0", "PUT"), None, ("a", b"1", "PUT"), ("a", b"", "DEL"), ("a", b"2", "PUT"),
        ("a", b"", "PURGE"),
    ]  # fmt: skip


def test_watch_there_of_what_is_done_here(kv, peer, call, run):
    call(kv.put, "before", b"0")
    started: list[Any] = []
    kv.watch("started", lambda entry, error: started.append(entry))
    watching = peer.start("kv.watch", bucket=kv.bucket, count=5, started="started")
    run(lambda: any(started))
    call(kv.put, "a", b"1")
    call(kv.delete, "a")
    call(kv.put, "a", b"2")
    call(kv.purge, "a")
    run(watching.done)
    assert [(e["key"], e["value"], e["operation"]) for e in watching.result()] == [
        ("before", "0", "PUT"), ("a", "1", "PUT"), ("a", "", "DEL"), ("a", "2", "PUT"),
        ("a", "", "PURGE"),
    ]  # fmt: skip


def test_status(kv, call, theirs):
    call(kv.put, "k", b"1")
    status, told = call(kv.status)[0], theirs("status")
    assert told == {
        "bucket": status["bucket"], "values": status["values"], "history": status["history"],
        "ttl_ms": status["ttl"] / 1e6, "marker_ttl_ms": status["limit_marker_ttl"] / 1e6,
    }  # fmt: skip


def test_bucket_configuration_is_the_same(js, call, peer):
    """One bucket with equal options by each: the streams differ in nothing but their names."""
    name = f"same{next(_numbers)}"
    options = {"history": 4, "description": "same", "max_value_size": 1000}
    peer("kv.create_bucket", bucket=f"{name}t", ttl_ms=60_000, marker_ttl_ms=2000, **options)
    config = {**options, "ttl": timedelta(minutes=1), "limit_marker_ttl": timedelta(seconds=2)}
    assert call(KV(js, f"{name}o").create_bucket, config)[1] is None
    streams = []
    for bucket in (f"{name}o", f"{name}t"):
        stream = call(js.stream_info, f"KV_{bucket}")[0]["config"]
        assert stream.pop("name") == f"KV_{bucket}"
        assert stream.pop("subjects") == [f"$KV.{bucket}.>"]
        # Unlimited is -1 or left out.
        streams.append({k: v for k, v in stream.items() if v not in (-1, 0) and k != "metadata"})
    if peer.name == "nats.js":  # unlike ADR-8 and all others
        assert streams[0].pop("deny_delete") is True
    assert streams[0] == streams[1]
