"""Buckets that another client has made: to create one again with the same settings succeeds.

The streams are written as these clients send them; what they leave out the server fills in.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from nats_ev import KV, BucketExistsError, ObjectStore

_numbers = itertools.count(1)
MINUTES = 60 * 10**9

_KV = {"max_msgs_per_subject": 4, "allow_rollup_hdrs": True, "num_replicas": 1}
KV_STREAMS: dict[str, dict[str, Any]] = {
    "nats.go": {
        **_KV, "max_bytes": -1, "max_msg_size": -1, "max_msgs": -1, "max_consumers": -1,
        "deny_delete": True, "allow_direct": True, "discard": "new", "storage": "file",
        "duplicate_window": 2 * MINUTES, "retention": "limits", "compression": "none",
    },
    "nats.go before 1.20": {
        **_KV, "max_bytes": -1, "max_msg_size": -1, "max_msgs": -1, "max_consumers": -1,
        "deny_delete": True, "discard": "old", "storage": "file", "duplicate_window": 2 * MINUTES,
    },
    "nats.js": {
        **_KV, "retention": "limits", "max_bytes": -1, "max_msg_size": -1, "storage": "file",
        "discard": "new", "max_age": 0, "allow_direct": True,
    },
    "nats-py": {
        **_KV, "allow_direct": False, "deny_delete": True, "discard": "new", "max_consumers": -1,
        "duplicate_window": 2 * MINUTES, "max_age": 0, "max_bytes": -1, "max_msgs": -1,
        "storage": "file",
    },
    "nats.c": {
        **_KV, "max_bytes": -1, "max_msg_size": -1, "deny_delete": True, "allow_direct": True,
        "discard": "new", "storage": "file", "duplicate_window": 2 * MINUTES,
    },
    "nats.rs": {
        **_KV, "max_bytes": 0, "max_msgs": 0, "max_msg_size": 0, "deny_delete": True,
        "deny_purge": False, "allow_direct": True, "discard": "new", "mirror_direct": False,
        "duplicate_window": 0, "storage": "file", "max_consumers": 0, "sealed": False,
    },
    "NATS .NET": {
        **_KV, "max_bytes": -1, "max_msg_size": -1, "max_msgs": -1, "max_consumers": -1,
        "deny_delete": True, "deny_purge": False, "allow_direct": True, "discard": "new",
        "duplicate_window": 2 * MINUTES, "retention": "limits", "storage": "file", "sealed": False,
    },
    "by hand, without rollups": {
        **_KV, "allow_rollup_hdrs": False, "discard": "new", "storage": "file",
    },
}  # fmt: skip

_OBJ = {"allow_rollup_hdrs": True, "num_replicas": 1, "storage": "file"}
OBJ_STREAMS: dict[str, dict[str, Any]] = {
    "nats.go": {**_OBJ, "max_bytes": -1, "allow_direct": True, "discard": "new"},
    "nats.go before 1.20": {**_OBJ, "max_bytes": -1, "discard": "new"},
    "nats.js": {**_OBJ, "max_age": 0, "discard": "new", "allow_direct": True, "retention": "limits"},
    "nats-py": {
        **_OBJ, "max_age": 0, "max_bytes": -1, "discard": "new", "max_msgs": -1,
        "max_consumers": -1, "max_msg_size": -1, "max_msgs_per_subject": -1,
    },
    "nats.rs": {
        **_OBJ, "max_bytes": 0, "max_msgs": 0, "discard": "new", "allow_direct": True,
        "max_msgs_per_subject": 0, "duplicate_window": 0, "max_age": 0,
    },
    "subjects the other way round": {**_OBJ, "discard": "new", "allow_direct": True},
}  # fmt: skip

# Settings that the bucket and the one that creates it again may have both.
SETTINGS: list[dict[str, Any]] = [
    {},
    {"description": "d", "metadata": {"team": "a"}, "compression": "s2", "max_bytes": 1 << 20},
]


def served(result: Any) -> dict[str, Any]:
    info, error = result
    assert error is None
    config = info["config"]
    assert config["allow_direct"] is True
    assert config["allow_rollup_hdrs"] is True
    assert config["discard"] == "new"
    return config


@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "more"])
@pytest.mark.parametrize("maker", KV_STREAMS)
def test_a_key_value_bucket_of_another_client(js, call, maker, settings):
    kv = KV(js, f"theirs{next(_numbers)}")
    stream = {"name": kv.stream, "subjects": [f"$KV.{kv.bucket}.>"], **KV_STREAMS[maker]}
    made, error = call(js.stream_create, {**stream, **settings})
    assert error is None
    config = served(call(kv.create_bucket, {"history": 4, **settings}))
    assert config["deny_delete"] == made["config"]["deny_delete"]  # nobody could undo the change
    served(call(kv.create_bucket, {"history": 4, **settings}))
    assert call(kv.put, "k", b"1") == (1, None)
    assert call(kv.purge, "k") == (True, None)
    assert call(kv.get, "k") == (None, None)


@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "more"])
@pytest.mark.parametrize("maker", OBJ_STREAMS)
def test_an_object_store_of_another_client(js, call, maker, settings):
    store = ObjectStore(js, f"theirs{next(_numbers)}")
    subjects = [f"$O.{store.bucket}.C.>", f"$O.{store.bucket}.M.>"]
    if maker.startswith("subjects"):
        subjects.reverse()
    stream = {"name": store.stream, "subjects": subjects, **OBJ_STREAMS[maker]}
    assert call(js.stream_create, {**stream, **settings})[1] is None
    served(call(store.create_bucket, settings))
    served(call(store.create_bucket, settings))
    assert call(store.put, "o", b"content")[1] is None
    assert call(store.get, "o") == (b"content", None)


def test_mirrors_and_sources_of_another_client(js, call):
    assert call(KV(js, "origin").create_bucket)[1] is None
    mirror = {
        **_KV, "mirror": {"name": "KV_origin"}, "mirror_direct": False, "discard": "new",
        "deny_delete": True, "name": "KV_mirrored",
    }  # fmt: skip
    assert call(js.stream_create, mirror)[1] is None
    again: dict[str, Any] = {"history": 4, "mirror": {"name": "origin"}}
    assert call(KV(js, "mirrored").create_bucket, again)[1] is None
    transform = {"src": "$KV.origin.>", "dest": "$KV.sourced.>"}
    sources = {
        **_KV, "subjects": ["$KV.sourced.>"], "discard": "new", "name": "KV_sourced",
        "sources": [{"name": "KV_origin", "subject_transforms": [transform]}],
    }  # fmt: skip
    assert call(js.stream_create, sources)[1] is None
    again = {"history": 4, "sources": [{"name": "origin"}]}
    served(call(KV(js, "sourced").create_bucket, again))
    for other in ({"history": 4}, {"history": 4, "sources": [{"name": "mirrored"}]}):
        result, error = call(KV(js, "sourced").create_bucket, other)
        assert result is None
        assert type(error) is BucketExistsError


@pytest.mark.parametrize(
    "other",
    [
        {"history": 5},
        {"description": "another"},
        {"compression": "s2"},
        {"metadata": {"team": "a"}},
        {"max_bytes": 1 << 20},
        {"max_value_size": 100},
        {"ttl": 10 * MINUTES},
        {"storage": "memory"},
        {"republish": {"src": ">", "dest": "again.>"}},
        {"limit_marker_ttl": MINUTES},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_bucket_with_other_settings_is_refused_in_both_directions(js, call, other):
    """Also one whose stream would be repaired otherwise, whichever of the two has the setting."""
    config = {"history": 4, **other}
    plain, special = KV(js, f"plain{next(_numbers)}"), KV(js, f"special{next(_numbers)}")
    stream = {"name": plain.stream, "subjects": [f"$KV.{plain.bucket}.>"], **KV_STREAMS["nats.js"]}
    assert call(js.stream_create, stream)[1] is None
    assert call(special.create_bucket, config)[1] is None
    for kv, wanted in ((plain, config), (special, {"history": 4})):
        result, error = call(kv.create_bucket, wanted)
        assert result is None
        assert type(error) is BucketExistsError
