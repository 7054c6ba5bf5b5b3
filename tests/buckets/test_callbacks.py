"""What users' callbacks of bucket operations raise: it is theirs alone."""

from __future__ import annotations

from typing import Any

import pytest

from nats_ev import KV, JetStream, ObjectStore


@pytest.fixture
def kv(js: JetStream, call: Any) -> KV:
    kv = KV(js, "raises")
    call(kv.create_bucket, {"storage": "memory", "history": 5})
    call(kv.put, "k", b"1")
    return kv


def test_a_callback_that_raises_its_error_is_called_once_and_the_others_go_on(
    js, kv, run, excepthook
):
    """Operations that wait together until the bucket is known: `if err: raise err` in each of them."""
    fresh = KV(js, "raises.not".replace(".", "-"))
    calls: list[str] = []

    def raising(name: str) -> Any:
        def cb(result: Any, error: Any) -> None:
            calls.append(name)
            raise error or ValueError(name)

        return cb

    names = [
        "get",
        "entry",
        "put",
        "create",
        "update",
        "delete",
        "purge",
        "history",
        "keys",
        "status",
    ]
    for name in names:
        arguments = {"put": ["k", b"2"], "create": ["n", b"2"], "update": ["k", b"3", 1]}
        method = getattr(fresh, name)
        method(*arguments.get(name, [] if name in ("keys", "status") else ["k"]), raising(name))
    run(lambda: len(calls) >= len(names))
    assert sorted(calls) == sorted(names)
    assert len(excepthook) == len(names)
    calls.clear()
    excepthook.clear()
    for name in names[:2]:
        getattr(kv, name)("k", raising(name))
    run(lambda: len(calls) == 2)
    assert sorted(map(str, excepthook)) == ["entry", "get"]


def test_an_object_stores_callback_that_raises_is_called_once(js, call, run, excepthook):
    store, calls = ObjectStore(js, "raises-too"), []
    call(store.create_bucket, {"storage": "memory"})

    def cb(result: Any, error: Any) -> None:
        calls.append((result, error))
        raise error or ValueError("mine")

    store.put("x", b"data", cb)
    run(lambda: len(calls) == 1)
    for method, arguments in (
        (store.get, ["x"]), (store.info, ["x"]), (store.list, []), (store.status, []),
        (store.add_link, ["x", "missing"]), (store.update_meta, ["missing", {"description": "d"}]),
        (store.delete, ["missing"]),
    ):  # fmt: skip
        before = len(calls)
        method(*arguments, cb)
        run(lambda before=before: len(calls) > before)
        assert len(calls) == before + 1
    assert len(excepthook) == len(calls)
