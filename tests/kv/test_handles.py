"""What completion and a prompt show of a bucket's objects: what a user may call, and no stored value."""

from __future__ import annotations

from typing import Any

import pytest

from nats_ev import KV, Base64Codec, ChainCodec, JetStream, KvEntry, KvWatch, PathCodec

CODEC = {"decode_key", "decode_value", "encode_filter", "encode_key", "encode_value"}
WATCH = {"ask", "bucket", "pause", "paused", "resume", "stop", "stopped"}
OFFERED = {
    KV: {
        "bucket", "bucket_names", "buckets", "create", "create_bucket", "create_or_update_bucket", "delete",
        "delete_bucket", "entry", "get", "get_many", "get_revision", "history", "js", "keys", "list_keys",
        "purge", "purge_deletes", "put", "put_many", "status", "stream", "touch", "update", "update_bucket",
        "watch",
    },
    KvEntry: {
        "bucket", "count", "created", "deleted", "delta", "index", "key", "operation", "revision", "value",
    },
    KvWatch: WATCH,
    Base64Codec: CODEC,
    ChainCodec: CODEC,
    PathCodec: CODEC - {"decode_value", "encode_value"},
}  # fmt: skip


class Sealed:
    """A user's codec, whose repr would show its key."""

    def __init__(self) -> None:
        self.secret = "s3cret"

    def __repr__(self) -> str:
        return f"Sealed({self.secret})"


@pytest.fixture
def kv(connected, server, call):
    kv = KV(JetStream(connected(server)), "handles")
    assert call(kv.create_bucket, {"storage": "memory"})[1] is None
    yield kv
    assert call(kv.delete_bucket)[1] is None


def test_objects_of_a_bucket_offer_what_a_user_may_call(kv, call):
    call(kv.put, "a", b"value")
    watch = kv.watch(lambda entry, error: None)
    things: list[Any] = [
        kv, call(kv.entry, "a")[0], watch, Base64Codec(), PathCodec(), ChainCodec(PathCodec()),
    ]  # fmt: skip
    for thing in things:
        offered = {name for name in dir(thing) if not name.startswith("_")}
        assert offered == OFFERED[type(thing)], type(thing).__name__
    assert type(kv.list_keys(lambda key, error: None)) is KvWatch
    watch.stop()


def test_objects_of_a_bucket_say_which_one_they_are(kv, call):
    call(kv.put, "a.b", b"s3cret")
    entry = call(kv.entry, "a.b")[0]
    assert repr(kv) == "<KV handles>"
    shown = (
        f"KvEntry(bucket='handles', key='a.b', value={entry.value!r}, revision={entry.revision}, "
    )
    assert repr(entry).startswith(shown)
    long = entry._replace(value=b"x" * 1000)
    assert f"value={b'x' * 64 + b'...'!r}, " in repr(long)
    call(kv.delete, "a.b")
    [deleted] = call(kv.history, "a.b")[0]
    assert "operation='DEL'" in repr(deleted)
    watch = kv.watch(lambda entry, error: None)
    assert repr(watch) == "<KvWatch handles>"
    watch.stop()
    assert repr(watch) == "<KvWatch handles stopped>"


def test_codecs_show_of_what_kind_they_are_and_no_key_of_theirs():
    assert repr(Base64Codec()) == "Base64Codec()"
    assert repr(PathCodec()) == "PathCodec()"
    assert repr(ChainCodec(PathCodec(), Base64Codec())) == "ChainCodec(PathCodec, Base64Codec)"
    assert repr(ChainCodec(Sealed())) == "ChainCodec(Sealed)"
