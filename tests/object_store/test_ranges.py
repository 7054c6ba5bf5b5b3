"""Gets of a range of an object: which parts are read, also of objects whose parts are not alike."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import random
from typing import Any

import pytest

from nats_ev import (
    BadOptionsError,
    JetStream,
    ObjectChangedError,
    ObjectIncompleteError,
    ObjectStore,
    aio,
    blocking,
)

PART = 1000
CONTENT = random.Random(3).randbytes(40 * PART + 17)
SPANS = [
    (0, 10), (0, 1), (5, 0), (0, PART), (PART, PART), (PART - 1, 2), (1, None), (0, None), (40 * PART, None),
    (40 * PART + 16, 5), (40 * PART + 17, 1), (99 * PART, 3), (12_345, 20_000), (39 * PART + 1, PART),
]  # fmt: skip
_numbers = itertools.count(1)


@pytest.fixture
def store(js, call):
    store = ObjectStore(js, f"ranges{next(_numbers)}", chunk_size=PART)
    assert call(store.create_bucket, {"storage": "memory"})[1] is None
    yield store
    call(store.delete_bucket)


def expected(span: tuple[int, int | None]) -> bytes:
    offset, length = span
    return CONTENT[offset:] if length is None else CONTENT[offset : offset + length]


def put_oddly(js: JetStream, store: ObjectStore, call: Any, sizes: list[int], most: int) -> None:
    """Store the content in parts of these sizes, as another client may."""
    at = 0
    for size in sizes:
        call(js.publish, f"$O.{store.bucket}.C.odd", CONTENT[at : at + size])
        at += size
    assert at == len(CONTENT)
    digest = base64.urlsafe_b64encode(hashlib.sha256(CONTENT).digest()).decode()
    info = {
        "name": "o", "bucket": store.bucket, "nuid": "odd", "size": at, "chunks": len(sizes),
        "digest": f"SHA-256={digest}", "options": {"max_chunk_size": most},
    }  # fmt: skip
    subject = f"$O.{store.bucket}.M.{base64.urlsafe_b64encode(b'o').decode()}"
    assert call(js.publish, subject, json.dumps(info))[1] is None


@pytest.mark.parametrize("span", SPANS)
def test_a_range_of_an_object(store, call, span):
    call(store.put, "o", CONTENT)
    offset, length = span
    assert call(store.get, "o", offset=offset, length=length) == (expected(span), None)


def test_ranges_of_an_object_between_others(store, js, run, call):
    """The parts of three objects lie between each other: no sequence can be computed."""
    told: list[Any] = []
    for name in "opq":
        store.put(name, CONTENT, lambda *result: told.append(result), chunk_size=PART // 2)
    run(lambda: len(told) == 3)
    for span, name in zip(SPANS * 3, "opq" * len(SPANS), strict=False):
        assert call(store.get, name, offset=span[0], length=span[1]) == (expected(span), None)


@pytest.mark.parametrize(
    ("sizes", "most"),
    [
        ([17, *[PART] * 40], PART),  # as few as possible, and the short one is the first
        ([PART] * 20 + [17] + [PART] * 20, PART),
        ([1] * 17 + [500] * 80, PART),
        ([40 * PART + 17], PART),  # longer than it may be
        ([PART] * 40 + [0, 17], PART),
        ([20 * PART, 20 * PART + 17], 0),
    ],
)
def test_parts_that_are_not_alike(store, js, call, sizes, most):
    put_oddly(js, store, call, sizes, most)
    for span in SPANS:
        assert call(store.get, "o", offset=span[0], length=span[1]) == (expected(span), None)
    assert call(store.get, "o") == (CONTENT, None)


def test_only_the_parts_that_are_needed_are_read(store, run, call):
    call(store.put, "o", CONTENT)
    seen: list[int] = []
    nats = store.js.nats
    before = nats.stats()["bytes_in"]
    told: list[Any] = []
    store.get("o", seen.append, lambda *result: told.append(result), offset=20_500, length=1000)
    run(lambda: told)
    assert b"".join(seen) == CONTENT[20_500:21_500]  # type: ignore[arg-type]
    assert nats.stats()["bytes_in"] - before < 10 * PART


def test_into_a_file_and_how_far_it_is(store, call, tmp_path):
    call(store.put, "o", CONTENT)
    call(store.add_link, "link", "o")
    told: list[Any] = []
    path = tmp_path / "o"
    info, error = call(
        store.get, "link", path, offset=1500, length=2000, progress=lambda *n: told.append(n)
    )
    assert (info["name"], error) == ("o", None)
    assert path.read_bytes() == CONTENT[1500:3500]
    assert told == [(500, 2000), (1500, 2000), (2000, 2000)]


def test_a_pause_while_the_first_part_is_searched_for(store, run, call):
    call(store.put, "o", CONTENT)
    told: list[Any] = []
    download = store.get("o", lambda *result: told.append(result), offset=20_000)
    download.pause()
    store.js.nats.call_later(20, download.resume)
    store.js.nats.call_later(21, download.pause)
    store.js.nats.call_later(60, download.resume)
    run(lambda: told)
    assert told == [(CONTENT[20_000:], None)]


@pytest.mark.parametrize("sizes", [[PART] * 40 + [17], [17] + [PART] * 40])
@pytest.mark.parametrize("lost", [1, 20, 40, 41])
def test_parts_that_are_missing(store, js, call, sizes, lost):
    put_oddly(js, store, call, sizes, PART)
    assert call(js.stream_msg_delete, store.stream, lost)[1] is None
    result, error = call(store.get, "o", offset=20_500, length=15_000)
    assert (result, type(error)) == (None, ObjectIncompleteError)


def test_an_object_that_is_replaced_while_a_range_is_searched_for(store, run, call):
    call(store.put, "o", CONTENT)
    info = call(store.info, "o")[0]
    told: list[Any] = []
    store.get("o", lambda *result: told.append(result), offset=30_000)
    # Purged as by another client that replaces it; the info comes later.
    store.js.stream_purge(store.stream, {"filter": f"$O.{store.bucket}.C.{info['nuid']}"}, print)
    store.put("o", CONTENT, lambda *result: None)
    run(lambda: told)
    assert told[0] == (CONTENT[30_000:], None) or isinstance(
        told[0][1], (ObjectChangedError, ObjectIncompleteError)
    )


def test_wrong_ranges(store):
    for wrong in ({"offset": -1}, {"length": -1}, {"offset": 1, "resume": True}, {"resume": True}):
        with pytest.raises((BadOptionsError, ValueError)):
            store.get("o", lambda *result: None, **wrong)
    with pytest.raises(TypeError):
        store.get("o", lambda *result: None, offset="1")


def test_ranges_in_the_faces(store, server, call):
    call(store.put, "o", CONTENT)
    with blocking.connect(server.url) as nc:
        theirs = nc.jetstream().object_store(store.bucket)
        assert theirs.get("o", offset=1234, length=5000) == CONTENT[1234:6234]

    async def main() -> bytes:
        async with await aio.connect(server.url) as nc:
            store_there = nc.jetstream().object_store(store.bucket)
            return bytes(await store_there.get("o", offset=1234, length=5000))

    assert asyncio.run(main()) == CONTENT[1234:6234]
