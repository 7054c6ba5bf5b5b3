"""What completion and a prompt show of a store's objects: what a user may call, and no content."""

from __future__ import annotations

from typing import Any

import pytest

from nats_ev import Download, JetStream, ObjectStore, ObjectWatch, Upload

OFFERED = {
    ObjectStore: {
        "add_bucket_link", "add_link", "bucket", "bucket_names", "buckets", "chunk_size", "create_bucket",
        "create_or_update_bucket", "delete", "delete_bucket", "get", "info", "js", "list", "list_infos",
        "put", "seal", "status", "stream", "update_bucket", "update_meta", "watch",
    },
    ObjectWatch: {"ask", "bucket", "pause", "paused", "resume", "stop", "stopped"},
    Download: {"cancel", "done", "info", "pause", "paused", "resume"},
    Upload: {"cancel", "done"},
}  # fmt: skip


@pytest.fixture
def store(connected, server, call):
    store = ObjectStore(JetStream(connected(server)), "handles", chunk_size=1000)
    assert call(store.create_bucket, {"storage": "memory"})[1] is None
    yield store
    assert call(store.delete_bucket)[1] is None


def test_objects_of_a_store_offer_what_a_user_may_call(store, run):
    results: list[Any] = []
    upload = store.put("a", b"content", lambda *result: results.append(result))
    run(lambda: results)
    download = store.get("a", lambda *result: results.append(result))
    watch = store.watch(lambda info, error: None)
    for thing in (store, upload, download, watch):
        offered = {name for name in dir(thing) if not name.startswith("_")}
        assert offered == OFFERED[type(thing)], type(thing).__name__
    watch.stop()


def test_objects_of_a_store_say_which_one_they_are(store, run):
    results: list[Any] = []

    def take(part: bytes) -> None:
        shown.append(repr(download))
        download.pause()
        shown.append(repr(download))
        store.js.nats.call_later(1, download.resume)

    upload = store.put("a", b"x" * 1500, lambda *result: results.append(result))
    shown = [repr(upload)]
    run(lambda: results)
    shown.append(repr(upload))
    assert shown == ["<Upload 'a' 0 B stored>", "<Upload 'a' done>"]
    assert upload.done

    shown = []
    download = store.get("a", take, lambda *result: results.append(result))
    assert repr(download) == "<Download 'a' at 0 B>"
    assert (download.done, download.paused, download.info) == (False, False, {})
    run(lambda: len(results) == 2)
    assert shown == [
        "<Download 'a' at 1000 B>",
        "<Download 'a' paused at 1000 B>",
        "<Download 'a' at 1500 B>",
        "<Download 'a' paused at 1500 B>",
    ]
    assert repr(download) == "<Download 'a' done>"
    assert download.info["size"] == 1500

    watch = store.watch(lambda info, error: None)
    assert repr(store) == "<ObjectStore handles>"
    assert repr(watch) == "<ObjectWatch handles>"
    watch.stop()
    assert repr(watch) == "<ObjectWatch handles stopped>"
    assert watch.bucket == "handles"
