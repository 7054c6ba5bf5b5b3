"""What an operation has handed to its callback is not kept by the client.

Python's collector of cycles must not be needed: it looks at the number of objects, not at their size. A few
finished downloads of 20 MB each filled hundreds of MB before it ran.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nats_ev import KV, JetStream, ObjectStore

SIZE = 200_000
TIMES = 5


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


@pytest.fixture
def done(run: Any) -> Callable[..., None]:
    """done(method, *args): run until its callback has come, and forget the result."""

    def done(method: Callable[..., object], *args: Any, **options: Any) -> None:
        errors: list[Any] = []
        method(*args, **options, cb=lambda result, err: errors.append(err))
        run(lambda: errors)
        assert errors == [None]

    return done


@pytest.fixture
def operations(js: JetStream, done: Any, run: Any) -> dict[str, Callable[[], None]]:
    nats = js.nats
    kv, objects = KV(js, "B"), ObjectStore(js, "B")
    done(
        js.stream_create,
        {"name": "S", "subjects": ["s"], "storage": "memory", "allow_direct": True},
    )
    done(kv.create_bucket, {"storage": "memory", "history": 10})
    done(objects.create_bucket, {"storage": "memory"})
    for _ in range(5):
        done(js.publish, "s", bytes(SIZE))
        done(kv.put, "k", bytes(SIZE))
    done(objects.put, "x", bytes(5 * SIZE))
    nats.subscribe("echo", lambda subject, payload, reply, headers: nats.publish(reply, payload))

    def request() -> None:
        answers: list[Any] = []
        nats.request("echo", bytes(SIZE), lambda response, err, headers: answers.append(err))
        run(lambda: answers)

    def fetch() -> None:
        done(js.consumer_create, "S", {"durable_name": "c", "ack_policy": "none"})
        done(js.fetch, "S", "c", {"batch": 5})
        done(js.consumer_delete, "S", "c")

    def ordered_fetch() -> None:
        done(js.ordered_fetcher("S").fetch, {"batch": 5, "no_wait": True})

    def watch() -> None:
        entries: list[Any] = []
        handle = kv.watch("k", lambda entry, err: entries.append(entry))
        run(lambda: entries and entries[-1] is None)
        handle.stop()

    return {
        "request": request,
        "stream_msg_get": lambda: done(js.stream_msg_get, "S", {"seq": 1}),
        "direct_get": lambda: done(js.direct_get, "S", 1),
        "direct_get_batch": lambda: done(js.direct_get_batch, "S", {"seq": 1, "batch": 5}),
        "fetch": fetch,
        "ordered_fetch": ordered_fetch,
        "kv get": lambda: done(kv.get, "k"),
        "kv history": lambda: done(kv.history, "k"),
        "kv put": lambda: done(kv.put, "l", bytes(SIZE)),
        "watch": watch,
        "get": lambda: done(objects.get, "x"),
        "put": lambda: done(objects.put, "y", bytes(5 * SIZE)),
        "put pieces": lambda: done(objects.put, "z", iter([bytes(5 * SIZE)])),
    }


@pytest.mark.since(2, 11)
def test_content_is_released_when_it_has_been_handed_over(no_collector, operations, js, run):
    kept = {}
    for name, operation in operations.items():
        operation()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(TIMES):
            operation()
        flushed: list[Any] = []
        js.nats.flush(flushed.append)
        run(lambda flushed=flushed: flushed)
        grown = tracemalloc.get_traced_memory()[0] - before
        if grown > SIZE / 2:
            kept[name] = grown
    assert kept == {}
