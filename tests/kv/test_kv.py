"""Key-value buckets on a real server: every operation, its conflicts, watching, TTLs, mirrors."""

from __future__ import annotations

import itertools
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from lab import inside
from lab.server_versions import line_binary
from lab.steps import run_until
from nats_ev import (
    KV,
    ApiLevelError,
    BadBucketError,
    BadOptionsError,
    Base64Codec,
    BucketExistsError,
    BucketNotFoundError,
    ChainCodec,
    CodecError,
    InvalidBucketNameError,
    InvalidKeyError,
    JetStream,
    KeyDeletedError,
    KeyExistsError,
    KeyNotFoundError,
    KvEntry,
    MessageTtlError,
    Nats,
    NotConnectedError,
    PathCodec,
    RequestTimeoutError,
    WrongLastSequenceError,
    pyev,
)
from nats_ev.testing import free_port

_numbers = itertools.count(1)
HOUR = timedelta(hours=1)


@pytest.fixture
def make(js, call):
    """make(config, name) → a bucket of its own."""

    def make(config: Any = None, name: str | None = None) -> KV:
        kv = KV(js, name or f"b{next(_numbers)}")
        info, error = call(kv.create_bucket, config or {})
        assert error is None
        assert info["config"]["name"] == kv.stream
        return kv

    return make


@pytest.fixture
def until(call):
    """until(accept, method, *args): ask again and again until accept(result, err)."""

    def until(accept: Any, method: Any, *args: Any) -> None:
        deadline = time.monotonic() + 10
        while not accept(*call(method, *args)):
            assert time.monotonic() < deadline, f"still {call(method, *args)}"

    return until


class Seen:
    """What a watch has told: entries, and where the end of the initial data was."""

    def __init__(self) -> None:
        self.entries: list[KvEntry] = []
        self.initial: list[int] = []
        self.errors: list[Any] = []

    def __call__(self, entry: KvEntry | None, error: Any) -> None:
        if error is not None:
            self.errors.append(error)
        elif entry is None:
            self.initial.append(len(self.entries))
        else:
            self.entries.append(entry)

    def short(self) -> list[tuple[str, bytes, str]]:
        return [(e.key, e.value, e.operation) for e in self.entries]


def test_put_get_missing_keys_create_and_conflict(make, call):
    """xt/12: the reference's own test."""
    kv = make({"max_history": 5})
    revision, error = call(kv.put, "name", b"alice")
    assert (revision, error) == (1, None)
    assert call(kv.get, "name") == (b"alice", None)
    assert call(kv.get, "missing") == (None, None)
    call(kv.put, "city", "Wien")
    assert call(kv.keys) == (["city", "name"], None)
    assert call(kv.create, "fresh", b"1") == (3, None)
    revision, error = call(kv.create, "fresh", b"2")
    assert revision is None
    assert isinstance(error, KeyExistsError)
    assert isinstance(error, WrongLastSequenceError)
    assert "fresh" in str(error)
    status, error = call(kv.status)
    assert (status["bucket"], status["values"], status["history"]) == (kv.bucket, 3, 5)
    assert status["bytes"] > 0


def test_watch_sees_four_changes(make, call, run):
    """xt/16: the reference's own test, with what it could not promise: each exactly once, in order."""
    kv, seen = make({"history": 5}), Seen()
    kv.watch(cb=seen)
    run(lambda: seen.initial)
    for name, value in (("a", b"1"), ("b", b"2"), ("a", b"3")):
        kv.put(name, value)
    kv.delete("b")
    run(lambda: len(seen.entries) == 4)
    assert seen.initial == [0]
    assert seen.short() == [
        ("a", b"1", "PUT"), ("b", b"2", "PUT"), ("a", b"3", "PUT"), ("b", b"", "DEL"),
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["delete", "purge"])
def test_c1_key_can_be_created_again_after_delete_and_after_purge(make, call, end):
    kv = make({"history": 3})
    call(kv.put, "lock", b"1")
    for n in range(3):
        assert call(getattr(kv, end), "lock") == (True, None)
        assert call(kv.get, "lock") == (None, None)
        revision, error = call(kv.create, "lock", str(n))
        assert error is None
        assert call(kv.entry, "lock")[0].revision == revision
        assert isinstance(call(kv.create, "lock", b"x")[1], KeyExistsError)


def test_c2_watch_has_initial_values_history_and_revisions(make, call, run):
    kv = make({"history": 5})
    for value in (b"1", b"2", b"3"):
        call(kv.put, "k", value)
    call(kv.put, "other", b"x")
    latest, history = Seen(), Seen()
    kv.watch("k", latest)
    kv.watch("k", history, include_history=True)
    run(lambda: latest.initial and history.initial)
    assert [(e.value, e.revision, e.delta) for e in latest.entries] == [(b"3", 3, 0)]
    assert [(e.value, e.revision, e.delta) for e in history.entries] == [
        (b"1", 1, 2), (b"2", 2, 1), (b"3", 3, 0),
    ]  # fmt: skip
    call(kv.put, "k", b"4")
    run(lambda: len(latest.entries) == 2 and len(history.entries) == 4)
    assert latest.entries[-1] == history.entries[-1]
    assert latest.initial == [1]
    assert history.initial == [3]


def test_c2_watch_misses_nothing_while_the_link_is_down(connected, server, run, proxy, call):
    link = proxy(server.port)
    watching = connected(link, reconnect=True, reconnect_delay=10)
    writer = KV(JetStream(connected(server)), "c2link")
    call(writer.create_bucket, {"history": 64})
    seen = Seen()
    KV(JetStream(watching), "c2link").watch(cb=seen)
    run(lambda: seen.initial)
    for n in range(30):
        if n in (5, 15, 16):
            link.cut()
        call(writer.put, f"k{n % 7}", str(n))
    run(lambda: len(seen.entries) >= 30)
    assert [e.value for e in seen.entries] == [str(n).encode() for n in range(30)]
    assert [e.revision for e in seen.entries] == list(range(1, 31))
    assert seen.initial == [0]


def test_c3_delete_and_purge_are_acknowledged_by_the_stream(connected, server, call, run):
    js = JetStream(connected(server))
    for method in ("put", "create", "delete", "purge"):
        kv = KV(js, "c3missing")
        arguments = ("k", b"v") if method in ("put", "create") else ("k",)
        result, error = call(getattr(kv, method), *arguments)
        assert result is None
        assert isinstance(error, BucketNotFoundError), method


def test_c3_operations_wait_for_the_connection(client, server, call, run):
    js = JetStream(client(server))
    kv, got = KV(js, f"c3wait{next(_numbers)}"), []
    kv.create_bucket()
    kv.put("k", b"1")
    kv.delete("k")
    kv.put("k", b"2", lambda *result: got.append(result))
    run(lambda: got)
    assert got == [(3, None)]


@pytest.mark.parametrize(
    "key", ["", "a b", ".a", "a.", "a..b", "a*", ">", "a\r\nb", "é", "a\0", "a:b", "$a", "a,b"]
)
def test_c4_keys_are_checked_before_the_wire(make, call, key):
    kv = make()
    nothing = lambda result, error: None  # noqa: E731
    for method, arguments in (
        ("get", (key, nothing)), ("entry", (key, nothing)), ("put", (key, b"v")),
        ("create", (key, b"v")), ("update", (key, b"v", 1)), ("delete", (key,)), ("purge", (key,)),
        ("history", (key, nothing)), ("get_revision", (key, 1, nothing)),
    ):  # fmt: skip
        with pytest.raises(InvalidKeyError) as caught:
            getattr(kv, method)(*arguments)
        assert repr(key) in str(caught.value)
        assert isinstance(caught.value, ValueError)
    assert call(kv.keys) == ([], None)


@pytest.mark.parametrize("key", ["a", "A-Z_0/9=.x", "a.b.c", "-", "=", "/", "x" * 200])
def test_c4_all_valid_keys_can_be_used(make, call, key):
    kv = make()
    assert call(kv.put, key, b"v") == (1, None)
    assert call(kv.get, key) == (b"v", None)
    assert call(kv.keys) == ([key], None)


def test_c5_keys_leave_out_what_is_deleted_and_take_filters(make, call, run):
    kv = make({"history": 5})
    for key in ("a.1", "a.2", "b.1", "b.2", "c"):
        call(kv.put, key, b"1")
        call(kv.put, key, b"2")
    call(kv.delete, "a.2")
    call(kv.purge, "b.2")
    assert call(kv.keys) == (["a.1", "b.1", "c"], None)
    assert call(kv.keys, "a.*") == (["a.1"], None)
    assert call(kv.keys, ["b.>", "c"]) == (["b.1", "c"], None)
    assert call(kv.keys, "none") == ([], None)
    one_by_one = []
    kv.list_keys(["a.>", "b.>"], lambda key, error: one_by_one.append((key, error)))
    run(lambda: (None, None) in one_by_one)
    assert sorted(one_by_one[:-1]) == [("a.1", None), ("b.1", None)]
    assert one_by_one[-1] == (None, None)


def test_c5_more_keys_than_fit_into_one_answer(make, call, run):
    kv = make({"storage": "memory"})
    names = sorted(f"a-rather-long-name-of-a-key.{n:05}" for n in range(5000))
    stored = []
    for name in names:
        kv.put(name, b"", lambda *result: stored.append(result))
    run(lambda: len(stored) == len(names))
    assert call(kv.keys) == (names, None)


@pytest.mark.usefixtures("needs_ttl")
def test_c6_bucket_is_made_as_adr_8_says(make, js, call):
    config = {
        "description": "all of it", "history": 7, "ttl": HOUR, "max_bytes": 1 << 20,
        "max_value_size": 1000, "storage": "memory", "replicas": 1, "compression": True,
        "metadata": {"team": "a"}, "limit_marker_ttl": timedelta(seconds=5),
        "republish": {"src": ">", "dest": "c6.republished.>"},
    }  # fmt: skip
    kv = make(config)
    stream = call(js.stream_info, kv.stream)[0]["config"]
    expected = {
        "name": kv.stream, "subjects": [f"$KV.{kv.bucket}.>"], "description": "all of it",
        "max_msgs_per_subject": 7, "max_age": 3600 * 10**9, "max_bytes": 1 << 20,
        "max_msg_size": 1000, "storage": "memory", "num_replicas": 1, "compression": "s2",
        "discard": "new", "allow_rollup_hdrs": True, "deny_delete": True, "allow_direct": True,
        "duplicate_window": 120 * 10**9, "allow_msg_ttl": True, "max_msgs": -1,
        "subject_delete_marker_ttl": 5 * 10**9, "retention": "limits",
    }  # fmt: skip
    assert {name: stream.get(name) for name in expected} == expected
    assert stream["metadata"]["team"] == "a"
    assert stream["republish"]["dest"] == "c6.republished.>"
    status, _ = call(kv.status)
    info = status.pop("stream_info")
    metadata = status.pop("metadata")
    assert metadata["team"] == "a"
    told = status.pop("config")
    assert told.items() >= {
        "description": "all of it", "history": 7, "ttl": 3600 * 10**9, "max_bytes": 1 << 20,
        "max_value_size": 1000, "storage": "memory", "replicas": 1, "compression": "s2",
        "limit_marker_ttl": 5 * 10**9,
    }.items()  # fmt: skip
    assert told["republish"] == {"src": ">", "dest": "c6.republished.>"}
    assert status == {
        "bucket": kv.bucket, "values": 0, "history": 7, "bytes": 0, "ttl": 3600 * 10**9,
        "limit_marker_ttl": 5 * 10**9, "storage": "memory", "replicas": 1, "compressed": True,
        "description": "all of it", "backing_store": "JetStream",
    }  # fmt: skip
    assert info["config"] == stream
    for same in (config, told):
        assert call(kv.create_bucket, same)[1] is None
    assert isinstance(call(kv.create_bucket, {"history": 8})[1], BucketExistsError)


@pytest.mark.parametrize(
    ("max_age", "window"), [(timedelta(seconds=30), 30), (timedelta(hours=2), 120), (0, 120)]
)
def test_c6_short_lived_bucket_gets_a_short_duplicate_window(make, js, call, max_age, window):
    kv = make({"max_age": max_age})
    config = call(js.stream_info, kv.stream)[0]["config"]
    assert config["duplicate_window"] == window * 10**9


@pytest.mark.parametrize(
    "config",
    [
        {"history": 65}, {"history": -1}, {"history": "5"}, {"histroy": 5}, {"rollup_hdrs": True},
        {"history": 2, "max_history": 3}, {"limit_marker_ttl": timedelta(milliseconds=500)},
        {"mirror": {"name": "x"}, "sources": [{"name": "y"}]}, {"ttl": "5s"}, {"replicas": True},
        {"limit_marker_ttl": 2.5e9}, {"storage": "tape"}, {"compression": "zip"},
        {"mirror": {"name": "x", "sources": []}}, {"placement": {"clusters": "a"}},
        {"mirror": {"name": "x", "domain": "d", "external": {"api": "$JS.e.API"}}},
    ],
)  # fmt: skip
def test_c6_bad_configuration_is_refused_at_the_call(js, config):
    kv = KV(js, "refused")
    for method in (kv.create_bucket, kv.update_bucket, kv.create_or_update_bucket):
        with pytest.raises(BadOptionsError) as caught:
            method(config)
        assert next(iter(config)) in str(caught.value) or "mirror" in config


@pytest.mark.parametrize(
    "config",
    [
        {"mirror": "x"}, {"mirror": {"name": 5}}, {"sources": {"name": "x"}}, {"sources": ["x"]},
        {"metadata": "x"}, {"republish": [1]}, "history=5",
    ],
)  # fmt: skip
def test_configuration_of_the_wrong_types_is_refused_at_the_call(js, config):
    with pytest.raises(TypeError, match=r"mirror|sources|metadata|republish|configuration"):
        KV(js, "refused").create_bucket(config)


def test_entry_tells_value_revision_time_and_operation(make, call):
    kv = make()
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    call(kv.put, "k", b"v")
    entry, error = call(kv.entry, "k")
    assert error is None
    assert entry == KvEntry(kv.bucket, "k", b"v", 1, entry.created, 0, "PUT")
    assert before < entry.created < datetime.now(timezone.utc) + timedelta(seconds=1)
    assert not entry.deleted
    call(kv.delete, "k")
    assert call(kv.entry, "k") == (None, None)
    assert call(kv.entry, "missing") == (None, None)


def test_revisions_can_be_read_while_they_are_kept(make, call):
    kv = make({"history": 2})
    for value in (b"1", b"2", b"3"):
        call(kv.put, "k", value)
    call(kv.put, "other", b"x")
    assert call(kv.get_revision, "k", 3)[0].value == b"3"
    assert call(kv.get_revision, "k", 2)[0].value == b"2"
    for revision in (1, 4, 99):  # gone, another key's, none
        result, error = call(kv.get_revision, "k", revision)
        assert result is None
        assert isinstance(error, KeyNotFoundError)
    call(kv.delete, "k")
    error = call(kv.get_revision, "k", 5)[1]
    assert isinstance(error, KeyDeletedError)
    assert (error.entry.operation, error.entry.revision) == ("DEL", 5)
    with pytest.raises(BadOptionsError):
        kv.get_revision("k", 0, lambda *result: None)
    with pytest.raises(TypeError):
        kv.get_revision("k", "1", lambda *result: None)


def test_history_has_all_operations_in_order(make, call, run):
    kv = make({"history": 10})
    call(kv.put, "k", b"1")
    call(kv.put, "noise", b"n")
    call(kv.delete, "k")
    call(kv.put, "k", b"2")
    entries, error = call(kv.history, "k")
    assert error is None
    assert [(e.value, e.operation, e.revision, e.delta) for e in entries] == [
        (b"1", "PUT", 1, 2), (b"", "DEL", 3, 1), (b"2", "PUT", 4, 0),
    ]  # fmt: skip
    got: list[Any] = []
    kv.history("k", lambda *r: got.append(r), ignore_deletes=True, meta_only=True)
    run(lambda: got)
    assert [(e.value, e.revision) for e in got[0][0]] == [(b"", 1), (b"", 4)]
    call(kv.purge, "k")
    assert [e.operation for e in call(kv.history, "k")[0]] == ["PURGE"]
    assert isinstance(call(kv.history, "missing")[1], KeyNotFoundError)


def test_update_and_conditional_delete_need_the_latest_revision(make, call):
    kv = make()
    assert call(kv.update, "k", b"first", 0) == (1, None)
    assert call(kv.update, "k", b"second", 1) == (2, None)
    for method, arguments in (("update", ("k", b"x", 1)), ("update", ("k", b"x", 0))):
        result, error = call(getattr(kv, method), *arguments)
        assert result is None
        assert isinstance(error, WrongLastSequenceError)
    assert isinstance(call(kv.delete, "k", revision=1)[1], WrongLastSequenceError)
    assert isinstance(call(kv.purge, "k", revision=1)[1], WrongLastSequenceError)
    assert call(kv.get, "k") == (b"second", None)
    assert call(kv.delete, "k", revision=2) == (True, None)
    assert call(kv.purge, "k", revision=3) == (True, None)
    assert isinstance(call(kv.update, "k", b"x", 3)[1], WrongLastSequenceError)
    assert call(kv.update, "k", b"x", 4) == (5, None)
    with pytest.raises(TypeError):
        kv.update("k", b"x", None)
    with pytest.raises(BadOptionsError):
        kv.delete("k", revision=-1)


def test_only_one_of_many_creates_and_updates_wins(make, js, call, run):
    kv = make()
    others = [KV(JetStream(js.nats), kv.bucket) for _ in range(5)]
    results: list[Any] = []
    for other in others:
        other.create("k", b"v", lambda *result: results.append(result))
    run(lambda: len(results) == 5)
    assert sorted(error is None for _, error in results) == [False] * 4 + [True]
    call(kv.delete, "k")
    results.clear()
    for other in others:
        other.create("k", b"v", lambda *result: results.append(result))
    run(lambda: len(results) == 5)
    assert sorted(error is None for _, error in results) == [False] * 4 + [True]
    assert all(isinstance(error, KeyExistsError) for _, error in results if error is not None)


def test_purge_deletes_removes_markers_and_nothing_newer(make, js, call):
    kv = make({"history": 5})
    for key in ("kept", "deleted", "purged", "again"):
        call(kv.put, key, b"1")
        call(kv.put, key, b"2")
    for key in ("deleted", "again"):
        call(kv.delete, key)
    call(kv.purge, "purged")
    call(kv.create, "again", b"3")
    assert call(kv.purge_deletes) == (2, None)  # young markers stay, what is behind them goes
    assert [e.operation for e in call(kv.history, "deleted")[0]] == ["DEL"]
    assert len(call(kv.history, "again")[0]) == 4
    assert call(kv.purge_deletes, 0) == (2, None)
    assert isinstance(call(kv.history, "deleted")[1], KeyNotFoundError)
    assert isinstance(call(kv.history, "purged")[1], KeyNotFoundError)
    assert [e.value for e in call(kv.history, "kept")[0]] == [b"1", b"2"]
    assert call(kv.purge_deletes, HOUR) == (0, None)
    for bad, error in (("1h", TypeError), (True, TypeError), (float("nan"), BadOptionsError)):
        with pytest.raises(error, match="age"):
            kv.purge_deletes(bad, print)


def test_watch_tells_the_end_of_no_initial_data(make, run):
    kv = make()
    seen = [Seen() for _ in range(4)]
    watches = [
        kv.watch(seen[0]),
        kv.watch("a.*", seen[1], include_history=True),
        kv.watch(["a", "b.>"], seen[2]),
        kv.watch(cb=seen[3], updates_only=True),
    ]
    run(lambda: all(s.initial for s in seen))
    kv.put("a", b"1")
    run(lambda: seen[0].entries and seen[2].entries and seen[3].entries)
    assert [s.initial for s in seen] == [[0]] * 4
    assert seen[1].entries == []
    assert not any(watch.stopped for watch in watches)


def test_watch_options(make, call, run):
    kv = make({"history": 5})
    for key, value in (("a", b"1"), ("b", b"2"), ("a", b"3"), ("c", b"4")):
        call(kv.put, key, value)
    call(kv.delete, "b")
    seen = {name: Seen() for name in ("deletes", "no deletes", "meta", "resumed", "updates")}
    kv.watch(seen["deletes"])
    kv.watch(seen["no deletes"], ignore_deletes=True)
    kv.watch(seen["meta"], meta_only=True)
    kv.watch(seen["resumed"], resume_from_revision=3)
    kv.watch(seen["updates"], updates_only=True, resume_from_revision=0)
    run(lambda: all(s.initial for s in seen.values()))
    assert seen["deletes"].short() == [("a", b"3", "PUT"), ("c", b"4", "PUT"), ("b", b"", "DEL")]
    assert seen["no deletes"].short() == [("a", b"3", "PUT"), ("c", b"4", "PUT")]
    assert seen["meta"].short() == [("a", b"", "PUT"), ("c", b"", "PUT"), ("b", b"", "DEL")]
    assert seen["resumed"].short() == seen["deletes"].short()
    assert seen["updates"].entries == []
    call(kv.put, "d", b"5")
    run(lambda: all(s.entries and s.entries[-1].key == "d" for s in seen.values()))
    with pytest.raises(BadOptionsError):
        kv.watch(seen["meta"], updates_only=True, include_history=True)
    with pytest.raises(InvalidKeyError):
        kv.watch("a..b", seen["meta"])
    for keys in (5, b"a", [b"a"]):
        with pytest.raises(TypeError, match="key"):
            kv.watch(keys, seen["meta"])
    with pytest.raises(TypeError):
        kv.watch("a")


def test_stopped_watch_is_silent_and_leaves_nothing(make, js, call, run, until):
    kv, seen = make(), Seen()
    before = js.nats.subscription_count()
    for n in range(20):
        call(kv.put, f"k{n}", b"v")

    def three(entry: Any, error: Any) -> None:
        seen(entry, error)
        if len(seen.entries) == 3:
            watch.stop()

    watch = kv.watch(three)
    run(lambda: len(seen.entries) == 3)
    call(kv.put, "late", b"v")
    assert (len(seen.entries), seen.initial) == (3, [])
    watch.stop()
    early = kv.watch(Seen())
    early.stop()
    until(lambda names, error: names == [], js.consumer_names, kv.stream)
    assert js.nats.subscription_count() <= before + 1  # requests share one


def test_watch_on_no_bucket_and_at_the_end_of_the_client_tells_so_once(make, js, run):
    lost, ended = Seen(), Seen()
    KV(js, "nosuch").watch(lost)
    run(lambda: lost.errors)
    assert isinstance(lost.errors[0], BucketNotFoundError)
    kv = make()
    kv.watch(ended)
    run(lambda: ended.initial)
    js.nats.disconnect()
    run(lambda: ended.errors)
    assert str(ended.errors[0]) == "disconnected"
    assert len(ended.errors) == len(lost.errors) == 1
    with pytest.raises(NotConnectedError):
        kv.get("k", lambda *result: None)


def test_raising_watch_callback_misses_nothing(make, call, run, excepthook):
    kv, seen = make({"history": 5}), Seen()

    def raising(entry: Any, error: Any) -> None:
        seen(entry, error)
        raise ValueError("watch callback")

    call(kv.put, "a", b"1")
    call(kv.put, "b", b"2")
    kv.watch(raising, include_history=True)
    run(lambda: seen.initial)
    kv.put("c", b"3")
    run(lambda: len(seen.entries) == 3)
    assert seen.initial == [2]
    assert len(excepthook) == 4


@pytest.mark.usefixtures("needs_ttl")
def test_key_with_ttl_ends_and_tells_its_watchers(make, call, run, until):
    kv, seen = make({"history": 3, "limit_marker_ttl": timedelta(seconds=1)}), Seen()
    kv.watch(seen)
    run(lambda: seen.initial)
    assert call(kv.create, "short", b"v", ttl=1000) == (1, None)
    assert call(kv.get, "short") == (b"v", None)
    run(lambda: len(seen.entries) == 2)
    assert seen.short() == [("short", b"v", "PUT"), ("short", b"", "PURGE")]  # by the server
    assert call(kv.get, "short") == (None, None)
    assert call(kv.create, "short", b"again", ttl=timedelta(seconds=60))[1] is None
    call(kv.purge, "short", ttl=1000)
    assert call(kv.history, "short")[0][-1].operation == "PURGE"
    # In the end the marker is gone as well.
    until(lambda entries, error: isinstance(error, KeyNotFoundError), kv.history, "short")


def wait_until_empty(server: Any, stream: str) -> None:
    """Block this thread until the server has expired all messages of a stream."""
    loop, counts = pyev.Loop(), []
    nats = Nats(loop=loop, host=server.host, port=server.port)

    def ask() -> None:
        JetStream(nats).stream_info(stream, note)

    def note(info: Any, error: Any) -> None:
        assert error is None
        counts.append(info["state"]["messages"])
        nats.call_later(20, ask)

    ask()
    run_until(loop, lambda: counts and counts[-1] == 0)
    nats.disconnect()
    loop.start()


def test_initial_data_ends_also_when_it_has_expired_on_the_way(connected, server, call):
    class Slow(JetStream):
        """Between the making of the consumer and its first message, all messages expire."""

        def ordered_consumer(self, stream: str, config: Any = None, cb: Any = None) -> Any:
            started = config["on_start"]

            def on_start(info: Any) -> None:
                wait_until_empty(server, stream)
                started(info)

            return super().ordered_consumer(stream, {**config, "on_start": on_start}, cb)

    kv = KV(Slow(connected(server)), f"slow{next(_numbers)}")
    call(kv.create_bucket, {"ttl": timedelta(seconds=1)})
    call(kv.put, "k", b"v")
    assert call(kv.keys) == ([], None)


@pytest.mark.usefixtures("needs_ttl")
def test_ttl_is_refused_where_it_would_be_ignored(make, call):
    kv = make()
    result, error = call(kv.create, "k", b"v", ttl=1000)
    assert result is None
    assert isinstance(error, MessageTtlError)
    assert kv.bucket in str(error)
    assert call(kv.get, "k") == (None, None)
    with pytest.raises(BadOptionsError):
        kv.create("k", b"v", ttl=10)
    other = KV(kv.js, kv.bucket)  # somebody else turns it on
    assert call(other.update_bucket, {"limit_marker_ttl": timedelta(seconds=2)})[1] is None
    assert call(kv.create, "k", b"v", ttl=5000) == (1, None)


def test_bucket_can_be_updated_created_or_updated_listed_and_deleted(make, js, call):
    kv = make({"history": 2, "ttl": HOUR, "description": "before"})
    call(kv.put, "k", b"v")
    info, error = call(kv.update_bucket, {"history": 4, "description": "after"})
    assert error is None
    config = info["config"]
    assert (config["max_msgs_per_subject"], config["description"]) == (4, "after")
    assert config["max_age"] == 3600 * 10**9  # what was not named stays
    fresh = KV(js, f"fresh{next(_numbers)}")
    assert isinstance(call(fresh.update_bucket, {"history": 2})[1], BucketNotFoundError)
    assert call(fresh.create_or_update_bucket, {"history": 3})[1] is None
    assert call(fresh.create_or_update_bucket, {"ttl": timedelta(seconds=20)})[1] is None
    status, _ = call(fresh.status)
    assert (status["history"], status["ttl"]) == (3, 20 * 10**9)
    assert status["stream_info"]["config"]["duplicate_window"] == 20 * 10**9
    names, _ = call(KV.bucket_names, js)
    assert {kv.bucket, fresh.bucket} <= set(names)
    assert {kv.bucket, fresh.bucket} <= {s["bucket"] for s in call(KV.buckets, js)[0]}
    assert call(fresh.delete_bucket) == (True, None)
    assert fresh.bucket not in call(KV.bucket_names, js)[0]
    other = KV(js, kv.bucket)
    assert call(other.put, "k", b"v")[1] is None
    assert call(kv.delete_bucket) == (True, None)
    for gone in (call(other.put, "k", b"v"), call(other.get, "k"), call(other.keys)):
        assert isinstance(gone[1], BucketNotFoundError)  # though it had been there
    for result, error in (call(fresh.delete_bucket), call(fresh.status), call(fresh.get, "k")):
        assert result is None
        assert isinstance(error, BucketNotFoundError)
    assert call(fresh.create_bucket)[1] is None
    assert call(fresh.put, "k", b"v") == (1, None)


def test_operations_called_at_once_follow_the_creation_of_the_bucket(js, run):
    kv, got = KV(js, f"atonce{next(_numbers)}"), []
    note = lambda result, error: got.append((result, error))  # noqa: E731
    kv.create_bucket({"history": 5}, lambda info, error: note(info["config"]["name"], error))
    value = bytearray(b"one")
    kv.put("k", value, note)
    value[:] = b"two"  # copied before the call returned
    kv.update("k", b"2", 1, note)
    kv.get("k", note)
    kv.delete("k", note)
    kv.create("k", b"3", note)
    kv.get("k", note)
    run(lambda: len(got) == 7)
    assert got[0] == (kv.stream, None)
    assert [error for _, error in got] == [None] * 7
    written = [result for result, _ in got[1:] if type(result) is int or result is True]
    assert written == [1, 2, True, 4]
    read = [result for result, _ in got[1:] if type(result) is bytes or result is None]
    assert len(read) == 2  # of what was there on their way: reading does not wait for writing
    assert set(read) <= {None, b"one", b"2", b"3"}


def test_operations_before_and_behind_a_creation_find_the_bucket(js, run):
    kv, got = KV(js, f"late{next(_numbers)}"), []
    note = lambda result, error: got.append((result, error))  # noqa: E731
    kv.get("k", note)  # asks what the bucket is like: there is none yet
    kv.create_bucket()
    kv.put("k", b"v", note)
    kv.update_bucket({"history": 3})
    kv.put("k", b"w", note)
    run(lambda: len(got) == 3)
    assert [error for _, error in got] == [None] * 3
    assert {result for result, _ in got} in ({None, 1, 2}, {b"v", 1, 2}, {b"w", 1, 2})


def test_stream_that_is_no_bucket_is_refused(js, call):
    call(js.stream_create, {"name": "KV_notone", "subjects": ["notone.>"]})
    result, error = call(KV(js, "notone").get, "k")
    assert result is None
    assert isinstance(error, BadBucketError)


@pytest.mark.parametrize("bucket", ["", "a b", "a.b", "a*", "a\n", "é", "a/b"])
def test_bucket_names_are_checked(js, bucket):
    with pytest.raises(InvalidBucketNameError):
        KV(js, bucket)
    with pytest.raises(TypeError):
        KV(js, None)


def test_bucket_of_an_old_client_is_read_and_brought_up_to_date(js, call):
    """Before 2.9 buckets had no allow_direct, and discarded what was old."""
    kv = KV(js, f"old{next(_numbers)}")
    old = {**inside.stream_config(kv, {"history": 2}), "allow_direct": False, "discard": "old"}
    assert call(js.stream_create, old)[1] is None
    call(kv.put, "k", b"v")
    assert call(kv.get, "k") == (b"v", None)
    assert call(kv.entry, "missing") == (None, None)
    info, error = call(kv.create_bucket, {"history": 2})
    assert error is None
    assert (info["config"]["allow_direct"], info["config"]["discard"]) == (True, "new")
    assert call(kv.get, "k") == (b"v", None)


def test_mirror_is_read_here_and_written_at_its_origin(make, js, call, run, until):
    origin = make({"history": 3})
    call(origin.put, "k", b"1")
    mirror = make({"mirror": {"name": origin.bucket}})
    assert mirror.bucket in call(KV.bucket_names, js)[0]
    (status,) = (s for s in call(KV.buckets, js)[0] if s["bucket"] == mirror.bucket)
    assert status["config"]["mirror"] == {"name": origin.stream}
    until(lambda value, error: value == b"1", mirror.get, "k")
    assert call(mirror.put, "k", b"2") == (2, None)
    until(lambda value, error: value == b"2", mirror.get, "k")
    assert call(origin.get, "k") == (b"2", None)
    assert call(mirror.keys) == (["k"], None)
    seen = Seen()
    mirror.watch(seen)
    run(lambda: seen.initial)
    assert [(e.bucket, e.key, e.value) for e in seen.entries] == [(mirror.bucket, "k", b"2")]


def test_sources_are_mapped_into_the_bucket(make, js, call, run, until):
    one, two = make(), make()
    call(one.put, "from.one", b"1")
    call(two.put, "from.two", b"2")
    call(js.stream_create, {"name": "EVENTS", "subjects": ["events.>"]})
    call(js.publish, "events.x", b"3")
    both = make(
        {
            "sources": [
                {"name": one.bucket},
                {"name": two.stream},
                {
                    "name": "EVENTS",
                    "subject_transforms": [{"src": "events.>", "dest": "$KV.sourced.event.>"}],
                },
            ]
        },
        name="sourced",
    )
    until(lambda keys, error: keys == ["event.x", "from.one", "from.two"], both.keys)
    assert call(both.get, "from.two") == (b"2", None)
    assert call(both.put, "own", b"4")[1] is None


def test_other_prefix_is_used_for_everything(own_server, connected, call, run):
    """An account that has imported another one's bucket under a prefix (ADR-19)."""
    server = own_server(
        jetstream=True,
        config="""
accounts {
  HUB { jetstream: enabled, users: [{user: hub, password: p}]
        exports: [{service: "$JS.API.>", response_type: stream}, {service: "$KV.>"}] }
  APP { users: [{user: app, password: p}]
        imports: [{service: {account: HUB, subject: "$JS.API.>"}, to: "from.hub.>"}
                  {service: {account: HUB, subject: "$KV.>"}, to: "from.hub.$KV.>"}] }
}
""",
    )
    hub = KV(JetStream(connected(server, user="hub", password="p")), "shared")
    assert call(hub.create_bucket)[1] is None
    app = KV(JetStream(connected(server, user="app", password="p"), prefix="from.hub"), "shared")
    assert call(app.put, "k", b"from app") == (1, None)
    assert call(hub.get, "k") == (b"from app", None)
    assert call(app.get, "k") == (b"from app", None)
    assert call(app.keys) == (["k"], None)
    seen = Seen()
    app.watch(seen)
    run(lambda: seen.initial)
    call(hub.put, "k", b"from hub")
    run(lambda: len(seen.entries) == 2)
    mirror = KV(app.js, "copy")
    assert call(mirror.create_bucket, {"mirror": {"name": "shared"}})[1] is None
    assert call(mirror.put, "k", b"through") == (3, None)
    assert call(hub.get, "k") == (b"through", None)


def test_domain_is_used_for_everything(own_server, connected, call):
    server = own_server(jetstream=True, config="jetstream { domain: hub }")
    kv = KV(JetStream(connected(server), domain="hub"), "indomain")
    assert call(kv.create_bucket)[1] is None
    assert call(kv.put, "k", b"v") == (1, None)
    assert call(kv.get, "k") == (b"v", None)
    assert call(kv.keys) == (["k"], None)


def test_mirror_in_another_domain_is_read_there_and_written_at_its_origin(
    own_server, connected, call, run, until
):
    port = free_port()
    hub = own_server(
        jetstream=True,
        name="hub",
        config=f'jetstream {{ domain: HUB }}\nleafnodes {{ listen: "127.0.0.1:{port}" }}',
    )
    leaf = own_server(
        jetstream=True,
        name="leaf",
        config='jetstream { domain: LEAF }\nleafnodes { remotes = [ { url: "nats-leaf://127.0.0.1:'
        f'{port}" }} ] }}',
    )
    origin = KV(JetStream(connected(hub)), "origin")
    assert call(origin.create_bucket, {"history": 3})[1] is None
    call(origin.put, "k", b"1")
    nats = connected(leaf)
    far = KV(JetStream(nats, domain="HUB", timeout=500), "origin")  # the same from afar
    until(lambda value, error: value == b"1", far.get, "k")
    assert call(far.put, "far", b"f") == (2, None)
    mirror = KV(JetStream(nats), "mirror")
    config = {"mirror": {"name": "origin", "domain": "HUB"}}
    info, error = call(mirror.create_bucket, config)
    assert error is None
    assert info["config"]["mirror"]["external"]["api"] == "$JS.HUB.API"
    until(lambda value, error: value == b"1", mirror.get, "k")
    seen = Seen()
    mirror.watch(seen)
    run(lambda: seen.initial)
    for n, kv in enumerate((mirror, KV(JetStream(nats), "mirror")), 3):
        assert call(kv.put, "k", str(n)) == (n, None)
    assert isinstance(call(mirror.create, "k", b"x")[1], KeyExistsError)
    assert call(mirror.delete, "k", revision=4) == (True, None)
    run(lambda: len(seen.entries) == seen.initial[0] + 3)
    assert seen.short()[-3:] == [("k", b"3", "PUT"), ("k", b"4", "PUT"), ("k", b"", "DEL")]
    assert call(origin.get, "k") == (None, None)
    assert call(origin.keys) == (["far"], None)
    until(lambda keys, error: keys == ["far"], mirror.keys)
    both = KV(JetStream(nats), "both")
    assert call(both.create_bucket, {"sources": [{"name": "origin", "domain": "HUB"}]})[1] is None
    until(lambda keys, error: keys == ["far"], both.keys)
    assert call(both.put, "near", b"n")[1] is None
    assert call(origin.keys) == (["far"], None)


def test_codecs_change_what_is_stored_and_nothing_else(make, js, call, run):
    plain = make({"history": 5})
    kv = KV(js, plain.bucket, key_codec=Base64Codec(), value_codec=Base64Codec())
    key = "Acme Inc.contact/ü"
    assert call(kv.put, key, b"info@acme") == (1, None)
    assert call(kv.update, key, b"sales@acme", 1) == (2, None)
    assert call(plain.get, "QWNtZSBJbmM.Y29udGFjdC_DvA") == (b"c2FsZXNAYWNtZQ", None)
    assert call(kv.get, key) == (b"sales@acme", None)
    assert call(kv.entry, key)[0].key == key
    assert call(kv.get_revision, key, 1)[0].value == b"info@acme"
    assert [(e.key, e.value) for e in call(kv.history, key)[0]] == [
        (key, b"info@acme"), (key, b"sales@acme"),
    ]  # fmt: skip
    call(kv.put, "other.contact", b"")
    assert call(kv.keys) == ([key, "other.contact"], None)
    assert call(kv.keys, "Acme Inc.*") == ([key], None)
    assert call(kv.keys, ["other.>"]) == (["other.contact"], None)
    seen = Seen()
    kv.watch("Acme Inc.>", seen)
    run(lambda: seen.initial)
    assert call(kv.delete, key) == (True, None)
    assert call(kv.create, key, b"again") == (5, None)
    run(lambda: len(seen.entries) == 3)
    assert seen.short() == [
        (key, b"sales@acme", "PUT"), (key, b"", "DEL"), (key, b"again", "PUT"),
    ]  # fmt: skip
    call(kv.purge, key)
    assert call(kv.purge_deletes, 0) == (1, None)
    assert call(plain.keys)[0] == ["b3RoZXI.Y29udGFjdA"]
    call(plain.put, "b3RoZXI.Y29udGFjdA", b"!")
    assert isinstance(call(kv.get, "other.contact")[1], CodecError)
    call(plain.put, "not-base64.!".replace("!", "x"), b"")
    assert call(kv.keys)[0] == ["other.contact"]  # what can't be read is left out and reported
    assert isinstance(js.nats.recorder.errors[-1], CodecError)
    with pytest.raises(InvalidKeyError):
        kv.put("", b"x")
    with pytest.raises(InvalidKeyError):
        kv.get("a..b", print)

    class NoFilter:
        encode_key = decode_key = staticmethod(lambda key: key)

    with pytest.raises(InvalidKeyError):
        KV(js, plain.bucket, key_codec=NoFilter()).keys("a.*", print)


@pytest.mark.parametrize(
    ("codec", "key", "stored", "back"),
    [
        # The official vectors.
        (Base64Codec(), "test.key.with.special.chars!@#$%^&*()",
         "dGVzdA.a2V5.d2l0aA.c3BlY2lhbA.Y2hhcnMhQCMkJV4mKigp", None),
        (PathCodec(), "/foo/bar", "_root_.foo.bar", None),
        (PathCodec(), "foo/bar", "foo.bar", None),
        (PathCodec(), "/foo", "_root_.foo", None),
        (PathCodec(), "foo/bar/", "foo.bar", "foo/bar"),
        (PathCodec(), "/", "_root_", None),
        (PathCodec(), "/foo/bar/", "_root_.foo.bar", "/foo/bar"),
        (ChainCodec(PathCodec(), Base64Codec()), "/a b/c", "X3Jvb3Rf.YSBi.Yw", None),
    ],
)  # fmt: skip
def test_official_codecs(codec, key, stored, back):
    assert codec.encode_key(key) == stored
    assert codec.decode_key(stored) == (back or key)
    assert ChainCodec(codec).encode_filter("a.*.>").endswith(".*.>")
    values = ChainCodec(Base64Codec(), Base64Codec())
    assert values.decode_value(values.encode_value(b"\0value")) == b"\0value"
    with pytest.raises(ValueError):
        ChainCodec()


def test_timeout_of_its_own(connected, fake, call):
    """A server without JetStream that says nothing: the bucket's own timeout counts."""
    silent = fake(lambda link: link.handshake() or link.wait_closed())
    kv = KV(JetStream(connected(silent), timeout=60_000), "b", 200)
    assert isinstance(
        call(kv.get, "k")[1], RequestTimeoutError
    )  # `call` waits for less than a minute


def test_without_a_callback_errors_go_to_on_error(js, run):
    kv = KV(js, "nobody")
    kv.put("k", b"v")
    kv.delete("k")
    errors = js.nats.recorder.errors
    run(lambda: len(errors) == 2)
    assert all(isinstance(error, BucketNotFoundError) for error in errors)


def test_callback_is_last_or_a_keyword_and_never_called_inside(make, run):
    kv, got = make(), []
    kv.put("k", b"v", lambda *result: got.append(result))
    kv.put(key="k", value="v", cb=lambda *result: got.append(result))
    kv.keys(lambda *result: got.append(result))
    kv.keys(">", cb=lambda *result: got.append(result))
    kv.purge_deletes(lambda *result: got.append(result))
    assert got == []
    run(lambda: len(got) == 5)
    with pytest.raises(TypeError):
        kv.get("k", None)
    with pytest.raises(TypeError):
        kv.put("k", b"v", "no callback")
    with pytest.raises(TypeError):
        kv.put("k", 5)


@pytest.mark.since(2, 11)
def test_limit_markers_that_are_on_cannot_be_switched_off(make, call):
    kv = make({"limit_marker_ttl": timedelta(seconds=5)})
    for change in (kv.update_bucket, kv.create_or_update_bucket):
        for off in (0, timedelta(0)):
            info, err = call(change, {"limit_marker_ttl": off})
            assert info is None
            assert isinstance(err, BadOptionsError)
            assert "limit_marker_ttl" in str(err)
    assert call(kv.update_bucket, {"description": "kept"})[1] is None
    assert call(kv.status)[0]["limit_marker_ttl"] == 5 * 10**9
    without = make({})
    assert call(without.update_bucket, {"limit_marker_ttl": 0})[1] is None


@pytest.mark.parametrize("line", ["2.10", "2.12"])
def test_older_servers(line, own_server, connected, call, run):

    binary = line_binary(line)
    js = JetStream(connected(own_server(jetstream=True, binary=binary)))
    kv, seen = KV(js, "older"), Seen()
    config = {"history": 3, "limit_marker_ttl": timedelta(seconds=5)}
    if line == "2.10":
        assert isinstance(call(kv.create_bucket, config)[1], ApiLevelError)
        del config["limit_marker_ttl"]
    assert call(kv.create_bucket, config)[1] is None
    kv.watch(["a", "b"], seen)
    run(lambda: seen.initial)
    assert call(kv.create, "a", b"1") == (1, None)
    assert isinstance(call(kv.update, "a", b"x", 5)[1], WrongLastSequenceError)
    assert call(kv.delete, "a") == (True, None)
    assert call(kv.create, "a", b"2") == (3, None)
    run(lambda: len(seen.entries) == 3)
    if line == "2.10":
        assert isinstance(call(kv.create, "b", b"1", ttl=1000)[1], MessageTtlError)
    assert call(kv.keys) == (["a"], None)


def test_deletions_older_than_time_itself_keep_their_markers(make, call):
    kv = make()
    call(kv.put, "k", b"1")
    call(kv.delete, "k")
    assert call(kv.purge_deletes, 1e15)[1] is None
    assert call(kv.history, "k")[1] is None


def test_a_bucket_that_another_program_creates_again_in_another_way_serves_the_next_call(
    make, js, call, run
):
    """Direct get off: the first get succeeds. A mirror in its place: the first put goes to the origin."""
    kv, other = make(), JetStream(js.nats)
    assert call(kv.put, "k", b"1") == (1, None)
    assert call(kv.get, "k") == (b"1", None)
    stream = {**inside.stream_config(kv, {}), "allow_direct": False}
    assert call(other.stream_delete, kv.stream)[1] is None
    assert call(other.stream_create, stream)[1] is None
    assert call(other.publish, f"$KV.{kv.bucket}.k", b"2")[1] is None
    assert call(kv.get, "k") == (b"2", None)
    origin = make()
    assert call(other.stream_delete, kv.stream)[1] is None
    assert call(KV(other, kv.bucket).create_bucket, {"mirror": {"name": origin.bucket}})[1] is None
    assert call(kv.put, "k", b"3") == (1, None)
    assert call(origin.get, "k") == (b"3", None)
