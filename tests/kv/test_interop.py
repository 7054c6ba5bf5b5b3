"""Key-value buckets shared with official clients: what one does the other sees, both ways."""

from __future__ import annotations

import itertools
import time
from datetime import datetime, timedelta
from typing import Any

import pytest

from lab.buckets import only_nats_js
from lab.peers import PeerError
from nats_ev import KV, BucketNotFoundError, KeyExistsError, WrongLastSequenceError

_numbers = itertools.count(1)


@pytest.fixture
def kv(js, call, peer, since):
    """A bucket with history that one of the two has made, and allows TTLs where the server does.

    That buckets made by either are the same is a test of its own.
    """
    name = f"cross{next(_numbers)}"
    kv = KV(js, name)
    ttl = 1000 if since(2, 11) else 0
    if peer.name == "nats-py":
        assert call(kv.create_bucket, {"history": 5, "limit_marker_ttl": ttl * 10**6})[1] is None
    else:
        peer("kv.create_bucket", bucket=name, history=5, marker_ttl_ms=ttl)
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


def test_purge(kv, js, call, theirs):
    for _ in range(3):
        call(kv.put, "ours", b"1")
        theirs("put", key="theirs", value="1")
    assert call(kv.purge, "theirs") == (True, None)
    theirs("purge", key="ours")
    for key in ("ours", "theirs"):
        assert call(kv.get, key) == (None, None)
        assert gone(theirs("get", key=key))
    assert theirs("keys") == call(kv.keys)[0] == []
    opts = {"subjects_filter": ">"}
    subjects = call(js.stream_info, kv.stream, opts)[0]["state"]["subjects"]
    assert subjects == {f"$KV.{kv.bucket}.ours": 1, f"$KV.{kv.bucket}.theirs": 1}  # rolled up


@pytest.mark.parametrize("purger", ["here", "there"])
def test_purge_deletes(kv, js, call, theirs, purger):
    call(kv.put, "kept", b"1")
    for key in ("ours", "theirs"):
        call(kv.put, key, b"1")
    call(kv.delete, "ours")
    theirs("delete", key="theirs")
    call(kv.purge, "purged")
    if purger == "here":
        assert call(kv.purge_deletes, -1) == (3, None)
    else:
        theirs("purge_deletes")
    assert call(js.stream_info, kv.stream)[0]["state"]["messages"] == 1
    assert call(kv.keys)[0] == ["kept"]
    # On a busy machine the other client's first list may end before its entry has come.
    until = time.monotonic() + 30
    while (keys := theirs("keys")) != ["kept"]:
        assert time.monotonic() < until, keys


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


@pytest.mark.usefixtures("needs_ttl")
def test_key_with_a_ttl_made_here_ends_there(kv, call, theirs, run):
    assert call(kv.create, "k", b"short", ttl=1000)[1] is None
    assert theirs("get", key="k")["value"] == "short"
    entries: list[Any] = []
    kv.watch("k", lambda entry, error: entries.append(entry))
    run(lambda: any(e is not None and e.operation == "PURGE" for e in entries))
    assert gone(theirs("get", key="k"))


@pytest.mark.usefixtures("needs_ttl")
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


@pytest.mark.usefixtures("needs_ttl")
def test_purge_with_a_ttl_leaves_nothing_in_the_end(kv, js, call, theirs, run):
    call(kv.put, "ours", b"1")
    call(kv.put, "theirs", b"1")
    assert call(kv.purge, "theirs", ttl=1000) == (True, None)
    assert [e["operation"] for e in theirs("history", key="theirs")] == ["PURGE"]
    theirs("purge", key="ours", ttl_s=1)
    assert [e.operation for e in call(kv.history, "ours")[0]] == ["PURGE"]
    deadline = time.monotonic() + 10
    while call(js.stream_info, kv.stream)[0]["state"]["messages"]:
        assert time.monotonic() < deadline


@pytest.mark.usefixtures("needs_ttl")
@pytest.mark.parametrize("maker", ["here", "there"])
def test_bucket_with_a_ttl(js, call, peer, run, maker):
    """Whatever either puts ends by the bucket's TTL, and is told to watchers by a marker."""
    name = f"aging{next(_numbers)}"
    kv = KV(js, name)
    if maker == "here":
        config = {"ttl": timedelta(seconds=1), "limit_marker_ttl": timedelta(seconds=5)}
        assert call(kv.create_bucket, config)[1] is None
    else:
        peer("kv.create_bucket", bucket=name, ttl_ms=1000, marker_ttl_ms=5000)
    seen: list[Any] = []
    kv.watch(cb=lambda entry, error: seen.append(entry))
    watching = peer.start("kv.watch", bucket=name, count=4, started="started")
    run(lambda: any(e is not None and e.key == "started" for e in seen))
    call(kv.put, "ours", b"1")
    peer("kv.put", bucket=name, key="theirs", value="1")
    run(watching.done)
    told = [(e["key"], e["value"]) for e in watching.result()]
    assert told == [("ours", "1"), ("theirs", "1"), ("ours", ""), ("theirs", "")]
    for key in ("ours", "theirs"):
        run(lambda key=key: any(e and (e.key, e.operation) == (key, "PURGE") for e in seen))
        assert call(kv.get, key) == (None, None)
        assert gone(peer("kv.get", bucket=name, key=key))
    assert call(kv.keys) == ([], None)


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


def test_watch_options_there_of_what_is_done_here(kv, call, theirs):
    for key, value in (("a", b"1"), ("a", b"2"), ("b", b"3")):
        call(kv.put, key, value)
    call(kv.delete, "b")
    assert [e["value"] for e in theirs("watch", count=2, key="a", include_history=True)] == [
        "1",
        "2",
    ]
    (entry,) = theirs("watch", count=1, ignore_deletes=True)
    assert (entry["key"], entry["value"], entry["revision"]) == ("a", "2", 2)
    assert [e["value"] for e in theirs("watch", count=2, meta_only=True)] == ["", ""]


def test_watch_options_here_of_what_is_done_there(kv, theirs, run):
    for key, value in (("a", "1"), ("a", "2"), ("b", "3")):
        theirs("put", key=key, value=value)
    theirs("delete", key="b")
    seen: dict[str, list[Any]] = {}

    def watch(name: str, *keys: Any, **options: Any) -> None:
        entries = seen.setdefault(name, [])
        kv.watch(
            *keys, lambda e, err: entries.append(e and (e.key, e.value, e.operation)), **options
        )

    watch("history", "a", include_history=True)
    watch("no deletes", ignore_deletes=True)
    watch("meta", meta_only=True)
    watch("resumed", resume_from_revision=3)
    watch("updates", updates_only=True)
    watch("two", ["b", "c"])
    run(lambda: all(None in entries for entries in seen.values()))
    theirs("put", key="c", value="5")
    run(lambda: seen["updates"][1:] and seen["two"][2:])
    assert seen["history"] == [("a", b"1", "PUT"), ("a", b"2", "PUT"), None]
    assert seen["no deletes"][:2] == [("a", b"2", "PUT"), None]
    assert seen["meta"][:3] == [("a", b"", "PUT"), ("b", b"", "DEL"), None]
    assert seen["resumed"][:3] == [("b", b"3", "PUT"), ("b", b"", "DEL"), None]
    assert seen["updates"] == [None, ("c", b"5", "PUT")]
    assert seen["two"] == [("b", b"", "DEL"), None, ("c", b"5", "PUT")]


def test_entries_are_equal_in_all_they_tell(kv, call, theirs):
    call(kv.put, "k", b"1")
    theirs("put", key="k", value="2")
    call(kv.delete, "k")
    for ours, other in zip(call(kv.history, "k")[0], theirs("history", key="k"), strict=True):
        told = datetime.fromisoformat(other.pop("created").replace("Z", "+00:00"))
        assert abs((told - ours.created).total_seconds()) < 0.002  # they have milliseconds
        assert other == {
            "key": ours.key, "value": ours.value.decode(), "revision": ours.revision,
            "operation": ours.operation, "delta": ours.delta,
        }  # fmt: skip


def test_value_of_any_bytes_and_size(kv, call, theirs):
    """Text, as the protocol of the peers is JSON: all of Unicode, up to close to max_payload."""
    for n, text in enumerate(("\0\r\n", "ü€😀", "x" * 1_000_000)):
        call(kv.put, f"o{n}", text)
        assert theirs("get", key=f"o{n}")["value"] == text
        theirs("put", key=f"t{n}", value=text)
        assert call(kv.get, f"t{n}") == (text.encode(), None)


@only_nats_js
def test_mirror_and_sources_made_by_either(kv, js, call, peer, theirs):
    n = next(_numbers)
    origin = {"name": kv.bucket}
    copies = [KV(js, f"{kind}{maker}{n}") for kind in ("m", "s") for maker in "ot"]
    ours_m, theirs_m, ours_s, theirs_s = copies
    assert call(ours_m.create_bucket, {"mirror": origin})[1] is None
    peer("kv.create_bucket", bucket=theirs_m.bucket, mirror=origin)
    assert call(ours_s.create_bucket, {"sources": [origin]})[1] is None
    peer("kv.create_bucket", bucket=theirs_s.bucket, sources=[origin])
    configs = [call(js.stream_info, copy.stream)[0]["config"] for copy in copies]
    for field in ("mirror", "mirror_direct"):
        assert configs[0].get(field) == configs[1].get(field)
    for config, copy in zip(configs[2:], copies[2:], strict=True):
        (source,) = config["sources"]
        (transform,) = source.pop("subject_transforms")
        assert source == {"name": kv.stream}
        assert transform == {"src": f"$KV.{kv.bucket}.>", "dest": f"$KV.{copy.bucket}.>"}
    call(kv.put, "ours", b"1")
    theirs("put", key="theirs", value="2")
    deadline = time.monotonic() + 10
    for copy in copies:
        while call(copy.keys)[0] != ["ours", "theirs"]:
            assert time.monotonic() < deadline, copy
        assert call(copy.get, "theirs") == (b"2", None)
    for copy in (
        ours_s,
        theirs_s,
    ):  # of a mirror in its own account nats.js reads and writes nothing
        assert peer("kv.get", bucket=copy.bucket, key="ours")["value"] == "1"
    for n, mirror in enumerate((ours_m, theirs_m), 3):
        assert call(mirror.put, "through", str(n)) == (n, None)
        assert theirs("get", key="through")["value"] == str(n)
    names = {copy.bucket for copy in copies}
    assert names <= set(peer("kv.list")) == set(call(KV.bucket_names, js)[0])


def test_bucket_deleted_by_the_other(kv, js, call, peer):
    call(kv.put, "k", b"1")
    peer("kv.delete_bucket", bucket=kv.bucket)
    assert isinstance(call(kv.get, "k")[1], BucketNotFoundError)
    assert call(kv.create_bucket)[1] is None
    peer("kv.put", bucket=kv.bucket, key="k", value="2")
    assert call(kv.delete_bucket) == (True, None)
    with pytest.raises(PeerError):
        peer("kv.put", bucket=kv.bucket, key="k", value="2")


def test_status(kv, call, theirs):
    call(kv.put, "k", b"1")
    status, told = call(kv.status)[0], theirs("status")
    assert told == {
        "bucket": status["bucket"], "values": status["values"], "history": status["history"],
        "ttl_ms": status["ttl"] / 1e6, "marker_ttl_ms": status["limit_marker_ttl"] / 1e6,
    }  # fmt: skip


@pytest.mark.usefixtures("needs_ttl")
def test_bucket_configuration_is_the_same(js, call, peer):
    """One bucket with equal options by each: the streams differ in nothing but their names."""
    name = f"same{next(_numbers)}"
    options = {
        "history": 4, "description": "same", "max_value_size": 1000, "max_bytes": 1 << 20,
        "storage": "memory", "republish": {"src": ">", "dest": f"{name}.>"},
    }  # fmt: skip
    if peer.name == "nats.js":  # nats-py lacks these
        options |= {"compression": True, "metadata": {"team": "a"}}
    peer("kv.create_bucket", bucket=f"{name}t", ttl_ms=60_000, marker_ttl_ms=2000, **options)
    config = {**options, "ttl": timedelta(minutes=1), "limit_marker_ttl": timedelta(seconds=2)}
    assert call(KV(js, f"{name}o").create_bucket, config)[1] is None
    assert call(KV(js, f"{name}t").create_bucket, config)[1] is None  # again, by another client
    streams = []
    for bucket in (f"{name}o", f"{name}t"):
        stream = call(js.stream_info, f"KV_{bucket}")[0]["config"]
        assert stream.pop("name") == f"KV_{bucket}"
        assert stream.pop("subjects") == [f"$KV.{bucket}.>"]
        stream["metadata"] = {k: v for k, v in stream["metadata"].items() if k[0] != "_"}
        # Unlimited is -1 or left out.
        streams.append({k: v for k, v in stream.items() if v not in (-1, 0)})
    if peer.name == "nats.js":  # unlike ADR-8 and all others
        assert streams[0].pop("deny_delete") is True
    assert streams[0] == streams[1]
