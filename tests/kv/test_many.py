"""Many keys together: read at one moment, written all or none. TTLs of single keys; `KV.touch`."""

from __future__ import annotations

import itertools
import random
import time
from datetime import timedelta
from typing import Any

import pytest

from lab.natsserver import Cluster
from lab.server_versions import line_binary
from nats_ev import (
    KV,
    ApiLevelError,
    BadBucketError,
    BadOptionsError,
    Base64Codec,
    BatchError,
    BucketNotFoundError,
    CodecError,
    InconsistentReadError,
    InvalidKeyError,
    JetStream,
    KeyNotFoundError,
    MessageTtlError,
    PathCodec,
    WrongLastSequenceError,
)

_numbers = itertools.count(1)
SECOND = timedelta(seconds=1)
WHOLE = {"allow_atomic": True, "limit_marker_ttl": SECOND, "storage": "memory"}


@pytest.fixture
def make(js, call):
    """make(config, **codecs) → a bucket of its own."""

    def make(config: Any = WHOLE, **codecs: Any) -> KV:
        kv = KV(js, f"many{next(_numbers)}", **codecs)
        assert call(kv.create_bucket, config)[1] is None
        return kv

    return make


def values(entries: Any) -> dict[str, bytes]:
    return {key: entry.value for key, entry in entries.items()}


# TTLs.


@pytest.mark.since(2, 11)
def test_keys_that_were_put_or_updated_with_a_ttl_expire(make, call, eventually):
    kv = make({"limit_marker_ttl": SECOND})
    for name in ("put", "updated", "renewed", "kept"):
        assert call(kv.put, name, b"1", ttl=1000)[1] is None
    first, _ = call(kv.put, "later", b"1")
    assert call(kv.update, "later", b"2", first, ttl=SECOND)[1] is None
    kept = call(kv.entry, "kept")[0].revision
    assert call(kv.update, "kept", b"2", kept)[1] is None
    assert call(kv.put, "renewed", b"2", ttl=60_000)[1] is None
    eventually(lambda: call(kv.keys)[0] == ["kept", "renewed"])


@pytest.mark.since(2, 11)
def test_touch_lets_a_key_live_on_with_its_ttl_or_another(make, js, call, eventually):
    kv = make({"limit_marker_ttl": SECOND})
    revision, _ = call(kv.create, "a", b"value", ttl=60_000)
    touched, error = call(kv.touch, "a")
    assert (touched, error) == (revision + 1, None)
    message, _ = call(js.get_last_msg, kv.stream, f"$KV.{kv.bucket}.a")
    assert b"Nats-TTL: 60000ms" in message.headers
    assert call(kv.get, "a") == (b"value", None)
    plain, _ = call(kv.put, "plain", b"x")
    assert call(kv.touch, "plain") == (plain + 1, None)
    assert b"TTL" not in (
        call(js.get_last_msg, kv.stream, f"$KV.{kv.bucket}.plain")[0].headers or b""
    )
    assert call(kv.touch, "a", ttl=1000)[1] is None
    eventually(lambda: call(kv.get, "a") == (None, None))
    for key in ("a", "never"):
        revision, error = call(kv.touch, key)
        assert revision is None
        assert isinstance(error, KeyNotFoundError)
        assert error.key == key
    with pytest.raises(BadOptionsError, match="ttl must be at least"):
        kv.touch("a", ttl=999)


@pytest.mark.since(2, 11)
def test_touch_keeps_what_another_writer_has_put_meanwhile(make, call, run):
    kv = make({"limit_marker_ttl": SECOND, "history": 64})
    call(kv.put, "a", b"0")
    touched: list[Any] = []
    written: list[Any] = []
    for i in range(20):
        kv.touch("a", lambda *answer: touched.append(answer))
        kv.put("a", str(i), lambda *answer: written.append(answer))
    run(lambda: len(touched) == len(written) == 20)
    assert call(kv.get, "a") == (b"19", None)
    assert all(error is None or isinstance(error, WrongLastSequenceError) for _, error in touched)


def test_ttl_in_a_bucket_without_ttls_is_an_error(make, call):
    kv = make({})
    revision, _ = call(kv.put, "a", b"1")
    for call_of in (
        lambda: call(kv.put, "a", b"2", ttl=1000),
        lambda: call(kv.update, "a", b"2", revision, ttl=1000),
        lambda: call(kv.touch, "a", ttl=1000),
        lambda: call(kv.put_many, {"a": b"2"}, ttl=1000),
    ):
        result, error = call_of()
        assert result is None
        assert isinstance(error, MessageTtlError)
        assert "limit_marker_ttl" in str(error)
    assert call(kv.get, "a") == (b"1", None)


# Reading many.


@pytest.mark.since(2, 11)
def test_get_many_gives_the_keys_that_exist(make, call):
    kv = make({"history": 5})
    for key in ("b", "a", "gone", "x.1", "x.2"):
        call(kv.put, key, key.encode())
    newest, _ = call(kv.put, "a", b"second")
    call(kv.delete, "gone")
    entries, error = call(kv.get_many, ["b", "a", "gone", "missing"])
    assert error is None
    assert list(entries) == ["a", "b"]
    assert values(entries) == {"a": b"second", "b": b"b"}
    assert entries["a"].revision == newest
    assert entries["a"].key == "a"
    assert values(call(kv.get_many, "x.*")[0]) == {"x.1": b"x.1", "x.2": b"x.2"}
    assert list(call(kv.get_many, ["x.1", "a", "x.>"])[0]) == ["a", "x.1", "x.2"]
    assert list(call(kv.get_many, None)[0]) == ["a", "b", "x.1", "x.2"]
    assert call(kv.get_many, []) == ({}, None)
    assert call(kv.get_many, "nothing.*") == ({}, None)
    assert call(kv.get_many, ["nothing"]) == ({}, None)
    with pytest.raises(InvalidKeyError):
        kv.get_many(["a b"], lambda result, err: None)
    with pytest.raises(TypeError, match="key must be str"):
        kv.get_many([1], lambda result, err: None)  # type: ignore[list-item]


@pytest.mark.since(2, 11)
def test_get_many_with_codecs(make, call, js):
    kv = make({}, key_codec=Base64Codec(), value_codec=Base64Codec())
    for key in ("grüße", "a.b c"):
        call(kv.put, key, key.encode())
    for keys in (["grüße", "a.b c", "no"], ">", ["grüße", "a.*"]):
        assert values(call(kv.get_many, keys)[0]) == {
            "a.b c": b"a.b c",
            "grüße": "grüße".encode(),
        }
    path = make({}, key_codec=PathCodec())
    call(path.put, "/a/b", b"1")
    assert values(call(path.get_many, ["/a/b"])[0]) == {"/a/b": b"1"}
    plain = KV(js, kv.bucket)
    call(plain.put, "###".replace("#", "_"), b"?")
    result, error = call(kv.get_many, ">")
    assert result is None
    assert isinstance(error, CodecError)


@pytest.mark.since(2, 12)
def test_get_many_of_more_keys_than_one_request_may_name(make, call):
    kv = make()
    for part in range(3):
        chunk = {f"k.{part}.{i}": str(i) for i in range(1000)}
        assert call(kv.put_many, chunk)[1] is None
    call(kv.delete, "k.0.0")
    names = [f"k.{part}.{i}" for part in range(3) for i in range(1000)]
    for keys in (names, "k.>", [*names, "k.1.*", "none"], ["k.0.*", "k.2.*", "k.1.>", "none.*"]):
        entries, error = call(kv.get_many, keys)
        assert error is None
        assert len(entries) == 2999
        assert entries["k.2.7"].value == b"7"
    # A part without any message: its answer tells no sequence.
    missing = [f"missing.{i}" for i in range(2000)]
    assert list(call(kv.get_many, ["k.1.1", *missing])[0]) == ["k.1.1"]
    assert call(kv.get_many, missing) == ({}, None)


@pytest.mark.since(2, 11)
def test_get_many_of_a_mirror_and_of_what_is_no_bucket(make, js, call, eventually):
    origin = make({})
    call(origin.put, "a", b"1")
    mirror = make({"mirror": {"name": origin.bucket}})
    eventually(lambda: values(call(mirror.get_many, "a")[0]) == {"a": b"1"})
    call(mirror.put, "b", b"2")
    eventually(lambda: list(call(mirror.get_many, None)[0]) == ["a", "b"])
    missing = KV(js, "no_such_bucket")
    assert isinstance(call(missing.get_many, "a")[1], BucketNotFoundError)
    assert isinstance(call(missing.put_many, {"a": b"1"})[1], BucketNotFoundError)
    slow = make({})
    info, _ = call(js.stream_info, slow.stream)
    call(js.stream_update, {**info["config"], "allow_direct": False, "mirror_direct": False})
    slow = KV(js, slow.bucket)
    result, error = call(slow.get_many, "a")
    assert result is None
    assert isinstance(error, BadBucketError)
    assert "allow_direct" in str(error)


def test_older_servers_say_that_they_are_too_old(own_server, connected, call):
    server = own_server(jetstream=True, binary=line_binary("2.10"))
    kv = KV(JetStream(connected(server)), "b")
    for field in ("allow_atomic", "allow_batched", "allow_msg_counter"):
        assert isinstance(call(kv.create_bucket, {field: True})[1], ApiLevelError)
    assert call(kv.create_bucket)[1] is None
    assert isinstance(call(kv.get_many, ["a"])[1], ApiLevelError)
    assert isinstance(call(kv.put_many, {"a": b"1"})[1], ApiLevelError)
    assert isinstance(call(kv.put_many, {"a": b"1", "b": b"1"})[1], ApiLevelError)
    assert call(kv.keys) == ([], None)
    revision, _ = call(kv.put, "a", b"1")
    assert call(kv.touch, "a") == (revision + 1, None)


# Writing many.


@pytest.mark.since(2, 12)
def test_put_many_stores_all_or_nothing(make, call):
    kv = make({**WHOLE, "history": 5})
    old, _ = call(kv.put, "old", b"1")
    revisions, error = call(
        kv.put_many,
        {"a": b"1", "b": "two", "old": None, "never": None},
        revisions={"a": 0, "old": old},
    )
    assert error is None
    assert revisions == {"a": old + 1, "b": old + 2, "old": old + 3, "never": old + 4}
    for key, revision in revisions.items():
        if key in ("a", "b"):
            assert call(kv.entry, key)[0].revision == revision
        else:
            assert call(kv.get, key) == (None, None)
    assert [entry.operation for entry in call(kv.history, "old")[0]] == ["PUT", "DEL"]
    for wrong in ({"a": 0}, {"a": old}, {"b": old + 1}, {"new": 3}):
        given = {"a": b"x", "b": b"x", "new": b"x"}
        result, error = call(kv.put_many, given, revisions=wrong)
        assert result is None
        assert isinstance(error, WrongLastSequenceError)
    assert values(call(kv.get_many, None)[0]) == {"a": b"1", "b": b"two"}
    one, error = call(kv.put_many, {"single": b"1"}, revisions={"single": 0})
    assert (list(one), error) == (["single"], None)
    assert isinstance(
        call(kv.put_many, {"single": b"1"}, revisions={"single": 0})[1], WrongLastSequenceError
    )


@pytest.mark.since(2, 12)
def test_put_many_with_a_ttl_and_a_codec(make, call, eventually):
    kv = make(key_codec=Base64Codec(), value_codec=Base64Codec())
    assert call(kv.put_many, {"ä": b"1", "ö": b"2", "ü": None}, ttl=1000)[1] is None
    assert values(call(kv.get_many, ["ä", "ö", "ü"])[0]) == {"ä": b"1", "ö": b"2"}
    eventually(lambda: call(kv.get_many, ["ä", "ö"]) == ({}, None))


@pytest.mark.since(2, 12)
def test_put_many_is_refused_where_it_can_not_be(make, js, call):
    kv = make({})
    for given in ({"a": b"1"}, {"a": b"1", "b": b"2"}):
        result, error = call(kv.put_many, given)
        assert result is None
        assert isinstance(error, BatchError)
        assert "allow_atomic" in str(error)
    assert call(kv.update_bucket, {"allow_atomic": True})[1] is None
    assert call(kv.put_many, {"a": b"1", "b": b"2"})[1] is None
    assert call(kv.status)[0]["config"]["allow_atomic"] is True
    assert isinstance(call(KV(js, kv.bucket).create_bucket)[1], Exception)  # another configuration


def test_mistakes_raise_at_the_call(make):
    kv = make({})
    paths = KV(kv.js, kv.bucket, key_codec=PathCodec())
    for given, options, text in (
        ({}, {}, "1 to 1000 keys"),
        ({str(i): b"" for i in range(1001)}, {}, "1 to 1000 keys"),
        ({"a": b""}, {"revisions": {"b": 1}}, "a revision of 'b'"),
        ({"a": b""}, {"revisions": {"a": -1}}, "revision of 'a'"),
        ({"a": b""}, {"ttl": 5}, "ttl must be at least"),
        ({"a b": b""}, {}, "invalid key"),
    ):
        with pytest.raises(ValueError, match=text):
            kv.put_many(given, **options)
    with pytest.raises(BadOptionsError, match="stored as one key"):
        paths.put_many({"a/b": b"", "a.b": b""})
    with pytest.raises(TypeError, match="values must be a mapping"):
        kv.put_many(["a"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a value must be"):
        kv.put_many({"a": 1})  # type: ignore[dict-item]


@pytest.mark.since(2, 12)
def test_values_above_what_a_message_may_have_store_nothing(make, call):
    kv = make()
    call(kv.keys)  # the bucket is known: so it raises at the call
    with pytest.raises(ValueError, match="max_payload"):
        kv.put_many({"a": b"1", "b": bytes(2_000_000)}, lambda result, err: None)
    assert call(kv.put_many, {"a": b"2", "c": b"2"})[1] is None
    assert list(call(kv.get_many, None)[0]) == ["a", "c"]


# Consistency.

ACCOUNTS = [f"account.{i}" for i in range(12)]
TOTAL = 100 * len(ACCOUNTS)


class Bank:
    """Writers that move money between accounts, and readers that count it."""

    def __init__(self, kvs: list[KV], seed: int) -> None:
        self.kvs = kvs
        self.committed: dict[int, dict[str, int]] = {}  # by first revision
        self.lost = 0
        self.seen: list[int] = []
        self.unclear = 0
        self.random = random.Random(seed)
        self.running = True
        self.busy = 0

    def write(self, kv: KV) -> None:
        """Move money between three accounts, if nobody has changed them meanwhile."""
        if not self.running:
            return
        self.busy += 1
        keys = self.random.sample(ACCOUNTS, 3)

        def read(entries: Any, error: Any) -> None:
            if error is not None:
                done(None, error)
                return
            amount = self.random.randint(-9, 9)
            change = {keys[0]: amount, keys[1]: -2 * amount, keys[2]: amount}
            after = {key: int(entries[key].value) + change[key] for key in keys}
            revisions = {key: entries[key].revision for key in keys}

            def put(result: Any, error: Any) -> None:
                if result is not None:
                    self.committed[result[keys[0]]] = after
                done(result, error)

            kv.put_many({k: str(v) for k, v in after.items()}, put, revisions=revisions)

        def done(result: Any, error: Any) -> None:
            self.busy -= 1
            self.lost += isinstance(error, WrongLastSequenceError)
            self.unclear += error is not None and not isinstance(error, WrongLastSequenceError)
            kv.js.nats.call_later(0 if error is None else 5, self.write, kv)

        kv.get_many(keys, read)

    def read(self, kv: KV, keys: Any) -> None:
        """Count the money."""
        if not self.running:
            return
        self.busy += 1

        def got(entries: Any, error: Any) -> None:
            self.busy -= 1
            if error is None:
                self.seen.append(sum(int(entries[key].value) for key in ACCOUNTS))
            kv.js.nats.call_later(1, self.read, kv, keys)

        kv.get_many(keys, got)

    def check_history(self, entries: list[Any]) -> None:
        """Replay the whole history: batches are whole, the sum is right after each, none is lost."""
        balances: dict[str, int] = {}
        batches = 0
        ordered = sorted(entries, key=lambda entry: entry.revision)
        first, rest = ordered[: len(ACCOUNTS)], ordered[len(ACCOUNTS) :]
        for entry in first:
            balances[entry.key] = int(entry.value)
        assert sum(balances.values()) == TOTAL
        assert len(rest) % 3 == 0
        for i in range(0, len(rest), 3):
            batch = rest[i : i + 3]
            assert [entry.revision - batch[0].revision for entry in batch] == [0, 1, 2]
            for entry in batch:
                balances[entry.key] = int(entry.value)
            assert sum(balances.values()) == TOTAL
            known = self.committed.pop(batch[0].revision, None)
            if known is not None:
                assert known == {entry.key: int(entry.value) for entry in batch}
            else:
                self.unclear -= 1
            batches += 1
        assert not self.committed, "acknowledged, and not in the history"
        assert self.unclear >= 0
        assert batches


def run_bank(
    kvs: list[KV], run: Any, call: Any, seconds: float, wide: int = 0
) -> tuple[Bank, list[Any]]:
    """Let writers and readers run for some seconds; wide: keys that readers read besides the accounts."""
    kv = kvs[0]
    others = [f"other.{i}" for i in range(wide)]
    for first in range(0, wide, 600):
        assert call(kv.put_many, dict.fromkeys(others[first : first + 600], b""))[1] is None
    assert call(kv.put_many, dict.fromkeys(ACCOUNTS, b"100"))[1] is None
    bank = Bank(kvs, 1)
    for each in kvs:
        bank.write(each)
    for each in kvs:
        bank.read(each, [*ACCOUNTS[:6], *others, *ACCOUNTS[6:]])
    bank.read(kv, "account.*")
    until = time.monotonic() + seconds
    run(lambda: time.monotonic() > until and len(bank.seen) > 20 and len(bank.committed) > 20)
    bank.running = False
    run(lambda: not bank.busy)
    assert set(bank.seen) == {TOTAL}
    histories = []
    for key in ACCOUNTS:
        entries, error = call(kv.history, key)
        assert error is None
        histories += entries
    return bank, histories


@pytest.mark.since(2, 12)
def test_sums_hold_under_concurrent_writers(connected, server, make, call, run):
    """Every view has the same sum."""
    name = f"bank{next(_numbers)}"
    kvs = [KV(JetStream(connected(server)), name) for _ in range(4)]
    assert call(kvs[0].create_bucket, {**WHOLE, "history": 1})[1] is None
    bank, _ = run_bank(kvs, run, call, 1.5, 1200)
    assert bank.lost > 0, "the writers have not met"


@pytest.mark.since(2, 12)
def test_history_shows_whole_transactions_only(connected, server, make, call, run):
    name = f"bank{next(_numbers)}"
    kvs = [KV(JetStream(connected(server)), name) for _ in range(3)]
    assert call(kvs[0].create_bucket, {**WHOLE, "history": 64})[1] is None
    js = kvs[0].js
    assert call(js.stream_update, {**_config(call, kvs[0]), "max_msgs_per_subject": 1_000_000})
    bank, histories = run_bank(kvs, run, call, 1.0)
    bank.check_history(histories)


def _config(call: Any, kv: KV) -> Any:
    return call(kv.js.stream_info, kv.stream)[0]["config"]


@pytest.mark.since(2, 12)
def test_views_over_several_requests_are_one_moment(connected, server, make, call, run):
    """Two keys that are always written together, and are asked for by two requests."""
    kv = make()
    name = kv.bucket
    writer = KV(JetStream(connected(server)), name)
    names = [f"k.{i}" for i in range(1500)]
    for part in (names[:1000], names[1000:]):
        assert call(kv.put_many, dict.fromkeys(part, b"0"))[1] is None
    running, written, seen, busy = True, [0], [], [2]

    def write(result: Any = None, error: Any = None) -> None:
        assert error is None
        if running:
            written[0] += 1
            text = str(written[0])
            pair = {names[0]: text, names[-1]: text}
            writer.js.nats.call_later(random.choice([0, 1, 20]), writer.put_many, pair, write)
        else:
            busy[0] -= 1

    def read(entries: Any = None, error: Any = None) -> None:
        if entries is not None:
            assert len(entries) == 1500
            seen.append((entries[names[0]].value, entries[names[-1]].value))
        elif error is not None:
            assert isinstance(error, InconsistentReadError)
        if running:
            kv.get_many(names if len(seen) % 2 else "k.*", read)
        else:
            busy[0] -= 1

    write()
    read()
    run(lambda: len(seen) > 20)
    running = False
    run(lambda: not busy[0])
    assert all(one == other for one, other in seen)
    assert len(set(seen)) > 3


@pytest.mark.since(2, 12)
@pytest.mark.slow
def test_sums_hold_on_a_cluster_whose_stream_changes_its_leader(connected, call, run, needs_server):
    with Cluster(3, jetstream=True) as cluster:
        kvs = [
            KV(JetStream(connected(cluster[i], reconnect=True), timeout=2000), "bank")
            for i in range(3)
        ]
        config = {"allow_atomic": True, "history": 64, "replicas": 3}
        assert call(kvs[0].create_bucket, config)[1] is None
        changed = {**_config(call, kvs[0]), "max_msgs_per_subject": 1_000_000}
        assert call(kvs[0].js.stream_update, changed)[1] is None
        nats = kvs[0].js.nats
        subject = f"$JS.API.STREAM.LEADER.STEPDOWN.{kvs[0].stream}"
        for after in (500, 1500, 2500):
            nats.call_later(after, nats.request, subject, b"", lambda *answer: None)
        bank, histories = run_bank(kvs, run, call, 4.0, 1200)
        bank.check_history(histories)
