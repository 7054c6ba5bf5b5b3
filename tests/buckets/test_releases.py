"""What an operation holds, the user's callback and the content, is released at its end."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nats_ev import KV, ObjectStore

PART = b"x" * 300_000


class Ending:
    """A callback that counts its calls, and that can be watched by a weak reference."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self.calls = calls

    def __call__(self, *result: Any) -> None:
        self.calls.append(result)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only reference counts: what refers to itself stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def kv(js, call):
    kv = KV(js, "released")
    config = {"history": 5, "storage": "memory"}
    assert call(kv.create_or_update_bucket, config)[1] is None
    for key in ("k", "dead"):
        call(kv.put, key, b"v")
    call(kv.delete, "dead")
    return kv


@pytest.fixture
def store(js, call):
    store = ObjectStore(js, "released")
    assert call(store.create_or_update_bucket, {"storage": "memory"})[1] is None
    for name in ("o", "old", "gone"):
        assert call(store.put, name, PART)[1] is None
    assert call(store.add_link, "link", "o")[1] is None
    return store


KV_OPERATIONS: dict[str, Callable[[KV, Any], object]] = {
    "get": lambda kv, cb: kv.get("k", cb),
    "get of a missing key": lambda kv, cb: kv.get("missing", cb),
    "entry": lambda kv, cb: kv.entry("k", cb),
    "get_revision": lambda kv, cb: kv.get_revision("k", 1, cb),
    "put": lambda kv, cb: kv.put("p", PART, cb),
    "create": lambda kv, cb: kv.create("c", PART, cb),
    "create over a deletion": lambda kv, cb: kv.create("dead", PART, cb),
    "create of a key that exists": lambda kv, cb: kv.create("k", PART, cb),
    "update": lambda kv, cb: kv.update("k", PART, 1, cb),
    "delete": lambda kv, cb: kv.delete("k", cb),
    "purge": lambda kv, cb: kv.purge("k", cb),
    "history": lambda kv, cb: kv.history("k", cb),
    "keys": lambda kv, cb: kv.keys(cb),
    "purge_deletes": lambda kv, cb: kv.purge_deletes(0, cb),
    "status": lambda kv, cb: kv.status(cb),
    "create_bucket": lambda kv, cb: kv.create_bucket({"history": 5, "storage": "memory"}, cb),
    "update_bucket": lambda kv, cb: kv.update_bucket({"history": 5}, cb),
    "list_keys": lambda kv, cb: kv.list_keys(cb),
}
OBJECT_OPERATIONS: dict[str, Callable[[ObjectStore, Any], object]] = {
    "get": lambda store, cb: store.get("o", cb),
    "get by a link": lambda store, cb: store.get("link", cb),
    "get into a callback": lambda store, cb: store.get("o", bytes, cb),
    "get that is cancelled": lambda store, cb: store.get("o", cb).cancel(),
    "put": lambda store, cb: store.put("new", PART, cb),
    "put over an object": lambda store, cb: store.put("old", PART, cb),
    "put that is cancelled": lambda store, cb: store.put("new", PART * 40, cb).cancel(),
    "info": lambda store, cb: store.info("o", cb),
    "list": lambda store, cb: store.list(cb),
    "list_infos": lambda store, cb: store.list_infos(cb),
    "delete": lambda store, cb: store.delete("gone", cb),
    "update_meta": lambda store, cb: store.update_meta("o", {"description": "d"}, cb),
    "rename": lambda store, cb: store.update_meta("old", {"name": "renamed"}, cb),
    "add_link": lambda store, cb: store.add_link("link", "o", cb),
    "status": lambda store, cb: store.status(cb),
}


def released(bucket: Any, begin: Callable[[Any, Any], object], run: Any) -> None:
    calls: list[tuple[Any, ...]] = []

    def start() -> weakref.ref[Ending]:
        ending = Ending(calls)
        begin(bucket, ending)
        return weakref.ref(ending)

    watched = start()
    several = begin is KV_OPERATIONS["list_keys"]
    run(lambda: (None, None) in calls if several else calls)
    later: list[int] = []
    bucket.js.nats.call_later(20, later.append, 1)
    run(lambda: later)  # far less than any time-out of an operation
    assert watched() is None


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("operation", KV_OPERATIONS)
def test_an_operation_on_a_bucket_releases_its_callback(kv, run, operation):
    released(kv, KV_OPERATIONS[operation], run)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("operation", OBJECT_OPERATIONS)
def test_an_operation_on_a_store_releases_its_callback(store, run, operation):
    released(store, OBJECT_OPERATIONS[operation], run)


@pytest.mark.usefixtures("no_collector")
def test_finished_transfers_hold_no_content_also_while_their_handles_live(store, call, run):
    size = 4 << 20
    assert call(store.put, "big", b"x" * size)[1] is None
    handles: list[Any] = []
    ended: list[int] = []

    def transfer() -> None:
        handles.append(store.get("big", lambda data, error: ended.append(len(data))))
        run(lambda: len(ended) % 2)
        cb = lambda info, error: ended.append(info["size"])  # noqa: E731
        handles.append(store.put("again", b"y" * size, cb))
        run(lambda: len(ended) % 2 == 0)

    transfer()
    tracemalloc.start()
    try:
        for _ in range(5):
            transfer()
        held, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert set(ended) == {size}
    assert all(handle.done for handle in handles)
    assert held < size // 2
