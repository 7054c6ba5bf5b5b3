"""Object stores on a real server: content of all sizes and sources, faults on the way, links, watching."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import os
import random
import time
from datetime import timedelta
from typing import Any

import pytest

from lab import inside
from lab.server_versions import line_binary
from nats_ev import (
    APIError,
    BadBucketError,
    BadObjectMetaError,
    BadOptionsError,
    BucketExistsError,
    BucketNotFoundError,
    DigestMismatchError,
    InvalidBucketNameError,
    InvalidObjectNameError,
    JetStream,
    MaxPayloadError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectIncompleteError,
    ObjectLinkError,
    ObjectNotFoundError,
    ObjectStore,
    ObjectTransferError,
)

_numbers = itertools.count(1)
KIB = 1024
CHUNK = 128 * KIB


@pytest.fixture
def make(js, call):
    """make(config, name, chunk_size) → a store of its own."""

    def make(config: Any = None, name: str | None = None, **options: Any) -> ObjectStore:
        store = ObjectStore(js, name or f"o{next(_numbers)}", **options)
        info, error = call(store.create_bucket, config or {})
        assert error is None
        assert info["config"]["name"] == store.stream
        return store

    return make


@pytest.fixture
def parts(js, call):
    """parts(store) → {subject: number of messages}, of the whole stream."""

    def parts(store: ObjectStore, kind: str = "C") -> dict[str, int]:
        opts = {"subjects_filter": f"$O.{store.bucket}.{kind}.>"}
        info, error = call(js.stream_info, store.stream, opts)
        assert error is None
        return info["state"].get("subjects") or {}

    return parts


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed or size).randbytes(size)


def digest(data: bytes) -> str:
    return "SHA-256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()


def test_put_get_list_info_status_and_delete(make, call, parts):
    """xt/13: the reference's own test, in the official format."""
    store = make(chunk_size=32)
    data = content(100)
    info, error = call(store.put, "report.bin", data)
    assert error is None
    assert (info["name"], info["size"], info["chunks"]) == ("report.bin", 100, 4)
    assert call(store.get, "report.bin") == (data, None)
    assert call(store.list) == (["report.bin"], None)
    told, _ = call(store.info, "report.bin")
    assert {k: told[k] for k in told if k != "mtime"} == {k: info[k] for k in info if k != "mtime"}
    assert told["mtime"][:16] == info["mtime"][:16]
    status, _ = call(store.status)
    assert (status["bucket"], status["sealed"]) == (store.bucket, False)
    assert status["bytes"] > 100
    assert call(store.delete, "report.bin") == (True, None)
    assert call(store.get, "report.bin") == (None, None)
    assert call(store.info, "report.bin") == (None, None)
    assert call(store.list) == ([], None)
    assert call(store.list, show_deleted=True) == (["report.bin"], None)
    deleted, _ = call(store.info, "report.bin", show_deleted=True)
    assert deleted["deleted"]
    assert parts(store) == {}


@pytest.mark.parametrize(
    ("size", "chunks"),
    [(0, 0), (1, 1), (CHUNK - 1, 1), (CHUNK, 1), (CHUNK + 1, 2), (5 * CHUNK + 7, 6)],
)
def test_content_of_every_size_comes_back(make, call, parts, size, chunks):
    store, data = make(), content(size)
    info, error = call(store.put, "x", data)
    assert error is None
    assert (info["size"], info["chunks"], info["digest"]) == (size, chunks, digest(data))
    assert call(store.get, "x") == (data, None)
    assert sum(parts(store).values()) == chunks


class Pieces:
    """A callable source, and an iterable of pieces of odd sizes."""

    def __init__(self, data: bytes) -> None:
        self._pieces = iter([data[i : i + 1000] for i in range(0, len(data), 1000)])

    def __call__(self) -> bytes:
        return next(self._pieces, b"")


def test_content_comes_from_anything(make, call, tmp_path):
    store, data = make(chunk_size=4096), content(50_000)
    path = tmp_path / "in"
    path.write_bytes(data)
    with open(path, "rb") as file, open(path, "rb", buffering=0) as raw:
        sources = {
            "bytes": data, "bytearray": bytearray(data), "memoryview": memoryview(data),
            "path": path, "file": file, "raw file": raw, "BytesIO": io.BytesIO(data),
            "list": [data[:1], b"", data[1:20_000], memoryview(data)[20_000:]],
            "generator": (data[i : i + 7000] for i in range(0, 50_000, 7000)),
            "function": Pieces(data),
        }  # fmt: skip
        for name, source in sources.items():
            info, error = call(store.put, name, source)
            assert error is None, name
            assert (info["size"], info["digest"]) == (50_000, digest(data)), name
            assert call(store.get, name) == (data, None), name
    assert call(store.put, "text", "zwölf")[0]["size"] == 6
    assert call(store.get, "text") == ("zwölf".encode(), None)
    assert call(store.put, "none", None)[0]["size"] == 0
    with pytest.raises(TypeError):
        store.put("x", 5)
    with pytest.raises(OSError):
        store.put("x", tmp_path / "missing")


def test_content_goes_into_anything(make, call, tmp_path):
    store, data = make(chunk_size=4096), content(50_000)
    call(store.put, "x", data)
    pieces: list[bytes] = []
    into = io.BytesIO()
    path = tmp_path / "out"
    path.write_bytes(b"former content")
    for target in (pieces.append, into, path):
        info, error = call(store.get, "x", target)
        assert error is None
        assert (info["name"], info["size"]) == ("x", 50_000)
    assert b"".join(pieces) == into.getvalue() == path.read_bytes() == data
    assert max(map(len, pieces)) == 4096
    assert os.listdir(tmp_path) == ["out"]
    assert call(store.get, "missing", path) == (None, None)
    assert path.read_bytes() == data
    assert os.listdir(tmp_path) == ["out"]
    with pytest.raises(TypeError):
        store.get("x", 5, lambda *result: None)
    with pytest.raises(OSError):
        store.get("x", tmp_path / "no" / "folder", lambda *result: None)


@pytest.mark.parametrize("option", ["put", "get"])
def test_progress_must_be_callable(js, option):
    method = getattr(ObjectStore(js, "any"), option)
    arguments = ("x", b"") if option == "put" else ("x", print)
    with pytest.raises(TypeError, match="progress"):
        method(*arguments, progress=1)


def test_progress_is_told(make, call):
    store, data, up, down = make(chunk_size=1000), content(10_500), [], []
    call(store.put, "x", data, progress=lambda done, total: up.append((done, total)))
    call(store.get, "x", progress=lambda done, total: down.append((done, total)))
    assert up[-1] == down[-1] == (10_500, 10_500)
    assert down == [(min(n, 10_500), 10_500) for n in range(1000, 11_001, 1000)]
    assert up == sorted(up)
    up.clear()
    call(store.put, "y", iter([data]), progress=lambda done, total: up.append((done, total)))
    assert up[-1] == (10_500, None)


def test_description_headers_and_metadata_are_kept(make, js, call):
    store = make()
    info, error = call(
        store.put, "x", b"data", description="what it is", headers={"X-A": ["1", "2"], "B": "3"},
        metadata={"k": "v"}, chunk_size=1000,
    )  # fmt: skip
    assert error is None
    expected = {
        "name": "x", "description": "what it is", "headers": {"X-A": ["1", "2"], "B": ["3"]},
        "metadata": {"k": "v"}, "options": {"max_chunk_size": 1000}, "bucket": store.bucket,
        "nuid": info["nuid"], "size": 4, "chunks": 1, "digest": digest(b"data"),
    }  # fmt: skip
    message, _ = call(js.get_last_msg, store.stream, f"$O.{store.bucket}.M.eA==")
    assert json.loads(message.data) == expected
    assert message.header("Nats-Rollup") == "sub"
    told, _ = call(store.info, "x")
    assert told == {**expected, "mtime": message.time, "seq": message.seq, "deleted": False}


def test_meta_is_updated_and_objects_are_renamed(make, call, parts):
    store = make()
    call(store.put, "old", b"data", description="first", metadata={"k": "v"})
    call(store.put, "other", b"x")
    info, error = call(store.update_meta, "old", {"description": "second", "headers": {"H": "1"}})
    assert error is None
    assert (info["description"], info["metadata"], info["size"]) == ("second", {"k": "v"}, 4)
    assert call(store.get, "old") == (b"data", None)
    info, error = call(store.update_meta, "old", {"name": "new"})
    assert error is None
    assert info["name"] == "new"
    assert call(store.list) == (["new", "other"], None)
    assert call(store.get, "new") == (b"data", None)
    assert call(store.info, "old", show_deleted=True) == (None, None)
    assert call(store.info, "new")[0]["description"] == "second"
    assert isinstance(call(store.update_meta, "new", {"name": "other"})[1], ObjectExistsError)
    assert isinstance(call(store.update_meta, "old", {})[1], ObjectNotFoundError)
    assert isinstance(call(store.update_meta, "old", {"name": "z"})[1], ObjectNotFoundError)
    call(store.delete, "other")
    assert isinstance(call(store.update_meta, "other", {})[1], ObjectNotFoundError)
    assert call(store.update_meta, "new", {"name": "other"})[1] is None  # over a deleted one
    assert call(store.get, "other") == (b"data", None)
    assert call(store.list) == (["other"], None)
    with pytest.raises(BadOptionsError):
        store.update_meta("other", {"size": 5})


def test_c9_overwriting_removes_the_old_parts(make, call, parts):
    store = make(chunk_size=1000)
    for n in range(3):
        info, error = call(store.put, "x", content(4000, n + 1))
        assert error is None
    assert parts(store) == {f"$O.{store.bucket}.C.{info['nuid']}": 4}
    assert sum(parts(store, "M").values()) == 1
    assert call(store.get, "x") == (content(4000, 3), None)


def test_c9_failed_put_leaves_nothing_and_the_old_object(make, call, parts):
    store = make(chunk_size=1000)
    call(store.put, "x", b"old")

    def pieces() -> Any:
        yield content(5500)
        raise OSError("disk on fire")

    result, error = call(store.put, "x", pieces())
    assert result is None
    assert isinstance(error, ObjectTransferError)
    assert isinstance(error.__cause__, OSError)
    assert "disk on fire" in str(error)
    assert sum(parts(store).values()) == 1
    assert call(store.get, "x") == (b"old", None)


def test_c9_put_beyond_the_stores_size_leaves_nothing(make, call, parts):
    store = make({"max_bytes": 300_000}, chunk_size=10_000)
    result, error = call(store.put, "x", content(1_000_000))
    assert result is None
    assert isinstance(error, APIError)
    assert parts(store) == {}
    assert call(store.put, "x", content(100_000))[1] is None
    result, error = call(store.put, "y", content(10_000), chunk_size=10 << 20)
    assert error is None  # a small object is one small part, whatever the size of parts may be
    assert isinstance(
        call(store.put, "z", content(2 << 20), chunk_size=2 << 20)[1], MaxPayloadError
    )


@pytest.mark.parametrize(
    "name", ["a", "a b/ü.>*", "../x", "\n", "a" * 1000, "日本", "\x00", "a.b.c", "$O.x"]
)
def test_c12_any_name_can_be_used(make, js, call, name):
    store = make()
    assert call(store.put, name, b"data")[1] is None
    assert call(store.get, name) == (b"data", None)
    assert call(store.list) == ([name], None)
    encoded = base64.urlsafe_b64encode(name.encode()).decode()
    assert call(js.get_last_msg, store.stream, f"$O.{store.bucket}.M.{encoded}")[1] is None
    assert call(store.delete, name) == (True, None)


def test_c12_missing_object_is_none_and_bad_names_are_refused(make, js, call):
    store = make()
    assert call(store.get, "missing") == (None, None)
    assert call(store.info, "missing") == (None, None)
    assert isinstance(call(store.delete, "missing")[1], ObjectNotFoundError)
    for method, arguments in (
        ("put", ("", b"x")), ("get", ("", print)), ("info", ("", print)), ("delete", ("",)),
        ("put", ("\ud800", b"x")), ("update_meta", ("a", {"name": ""})), ("add_link", ("", "a")),
    ):  # fmt: skip
        with pytest.raises(InvalidObjectNameError):
            getattr(store, method)(*arguments)
    for bucket in ("", "a b", "a.b", "é"):
        with pytest.raises(InvalidBucketNameError):
            ObjectStore(js, bucket)
    with pytest.raises(BadOptionsError):
        ObjectStore(js, "x", chunk_size=0)


def test_c10_objects_are_stored_as_adr_20_says(make, js, call, parts):
    """Digest and name in base64url, no part for no content, deletion told by the info."""
    store = make()
    call(store.put, "a?b", b"data")
    subject = f"$O.{store.bucket}.M.YT9i"
    info = json.loads(call(js.get_last_msg, store.stream, subject)[0].data)
    assert info["digest"] == digest(b"data")
    assert "deleted" not in info
    assert "mtime" not in info
    assert parts(store) == {f"$O.{store.bucket}.C.{info['nuid']}": 1}
    call(store.put, "a?b", b"")
    empty = json.loads(call(js.get_last_msg, store.stream, subject)[0].data)
    assert (empty["size"], empty["chunks"], empty["digest"]) == (0, 0, digest(b""))
    assert parts(store) == {}
    call(store.delete, "a?b")
    message, _ = call(js.get_last_msg, store.stream, subject)
    deleted = json.loads(message.data)
    assert (deleted["deleted"], deleted["size"], deleted["chunks"]) == (True, 0, 0)
    assert "digest" not in deleted
    assert message.header("Nats-Rollup") == "sub"


def test_c11_put_keeps_a_bounded_window_and_get_asks_for_one(make, call, run, js):
    """Content is read as the server takes it, and no more of it is asked for than a few parts."""
    store, taken = make({"storage": "memory"}), []

    def pieces() -> Any:
        for _ in range(400):  # 50 MiB
            taken.append(CHUNK)
            yield bytes(CHUNK)

    stored: list[Any] = []
    most = 0

    def progress(done: int, total: Any) -> None:
        nonlocal most
        most = max(most, sum(taken) - done)

    store.put("x", pieces(), lambda *result: stored.append(result), progress=progress)
    run(lambda: stored)
    assert stored[0][1] is None
    assert most <= 5 << 20
    got = 0

    def piece(data: bytes) -> None:
        nonlocal got
        got += len(data)

    assert call(store.get, "x", piece)[1] is None
    assert got == 400 * CHUNK


def test_digest_mismatch_missing_and_surplus_parts_are_errors(make, js, call, tmp_path):
    store = make(chunk_size=1000)
    data = content(5000)
    path = tmp_path / "out"

    def spoil(what: str) -> Any:
        info, _ = call(store.put, "x", data)
        subject = f"$O.{store.bucket}.C.{info['nuid']}"
        first = info["seq"] - 5
        if what == "changed":
            call(js.stream_purge, store.stream, {"filter": subject, "keep": 4})
            call(js.publish, subject, b"y" * 1000)
        elif what == "missing first":
            call(js.stream_purge, store.stream, {"filter": subject, "seq": first + 1})
        elif what == "missing last":
            assert call(js.stream_msg_delete, store.stream, first + 4)[1] is None
        elif what == "missing all":
            call(js.stream_purge, store.stream, {"filter": subject})
        elif what == "surplus":
            info["chunks"], info["size"] = 4, 4000
            call(inside.store_info, store, info, info)
        elif what == "no digest":
            del info["digest"]
            call(inside.store_info, store, info, info)
        result, error = call(store.get, "x", path)
        assert result is None
        assert os.listdir(tmp_path) == [], what
        return error

    assert isinstance(spoil("changed"), DigestMismatchError)
    assert isinstance(spoil("missing first"), ObjectIncompleteError)
    assert isinstance(spoil("missing last"), ObjectIncompleteError)
    assert isinstance(spoil("missing all"), ObjectIncompleteError)
    assert isinstance(spoil("surplus"), DigestMismatchError)
    assert isinstance(spoil("no digest"), BadObjectMetaError)
    call(js.publish, f"$O.{store.bucket}.M.eA==", b"no json", rollup="sub")
    assert isinstance(call(store.get, "x")[1], BadObjectMetaError)


@pytest.mark.parametrize("how", ["replaced", "deleted", "deleted and purged", "renamed"])
@pytest.mark.parametrize("moment", [1, 2, 4])
def test_an_object_that_goes_while_it_is_read_says_how(make, js, call, run, how, moment):
    store, parts, results = make(chunk_size=1000), [], []
    call(store.put, "x", content(5000))

    def resume(*result: Any) -> None:
        download.resume()

    def take(part: bytes) -> None:
        parts.append(part)
        if len(parts) == moment:
            download.pause()
            if how == "replaced":
                store.put("x", b"other", resume)
            elif how == "renamed":
                store.update_meta("x", {"name": "y"}, resume)
            elif how == "deleted":
                store.delete("x", resume)
            else:
                opts = {"filter": f"$O.{store.bucket}.M.>"}
                store.delete("x", lambda *_: js.stream_purge(store.stream, opts, resume))

    download = store.get("x", take, lambda *result: results.append(result))
    run(lambda: results)
    info, error = results[0]
    if how == "renamed":  # the content is still there
        assert (info["size"], error) == (5000, None)
    else:
        assert info is None
        assert type(error) is ObjectChangedError
        assert str(error) == f"object was {how.split()[0]} while it was read: x"


def test_object_that_changes_while_it_is_read_is_an_error(make, js, call, run):
    store, parts, results = make(chunk_size=1000), [], []
    call(store.put, "x", content(5000))

    def take(part: bytes) -> None:
        parts.append(part)
        if len(parts) == 2:
            download.pause()
            store.put("x", b"other", lambda *result: download.resume())

    download = store.get("x", take, lambda *result: results.append(result))
    run(lambda: results)
    assert results[0][0] is None
    assert isinstance(results[0][1], ObjectChangedError)
    assert call(store.get, "x") == (b"other", None)


def test_get_can_be_paused_and_cancelled(make, js, call, run, tmp_path):
    store, data, parts, results = make(chunk_size=1000), content(20_500), [], []
    call(store.put, "x", data)

    def take(part: bytes) -> None:
        parts.append(part)
        if len(parts) % 5 == 0:
            download.pause()
            js.nats.call_later(20, download.resume)

    download = store.get("x", take, lambda *result: results.append(result))
    run(lambda: results)
    assert results[0][1] is None
    assert b"".join(parts) == data
    download.pause()
    download.resume()  # too late to mean anything
    results.clear()
    path = tmp_path / "out"
    download = store.get("x", path, lambda *result: results.append(result))
    download.cancel()
    download.cancel()
    run(lambda: results)
    assert isinstance(results[0][1], ObjectTransferError)
    assert os.listdir(tmp_path) == []
    done: list[Any] = []
    js.nats.flush(done.append)
    run(lambda: done)
    assert len(results) == 1


def test_sink_that_fails_ends_the_get(make, call, tmp_path):
    store = make(chunk_size=1000)
    call(store.put, "x", content(5000))

    def full(part: bytes) -> None:
        raise OSError("no space left")

    result, error = call(store.get, "x", full)
    assert result is None
    assert isinstance(error, ObjectTransferError)
    assert str(error.__cause__) == "no space left"


def test_put_can_be_cancelled(make, js, call, run, parts):
    store, results = make(chunk_size=1000), []

    def progress(done: int, total: Any) -> None:
        if done >= 3000:
            upload.cancel()

    upload = store.put(
        "x",
        iter(lambda: b"x" * 500, b""),
        lambda *result: results.append(result),
        progress=progress,
    )
    run(lambda: results)
    assert isinstance(results[0][1], ObjectTransferError)
    assert parts(store) == {}
    assert call(store.info, "x") == (None, None)
    upload.cancel()
    early = store.put("y", b"data", lambda *result: results.append(result))
    early.cancel()
    run(lambda: len(results) == 2)
    assert isinstance(results[1][1], ObjectTransferError)
    assert parts(store) == {}


def test_writers_of_one_name_leave_one_object_and_no_other_parts(make, js, call, run, parts):
    store, results = make(chunk_size=100), []
    for n in range(8):
        store.put("x", content(1000, n + 1), lambda *result: results.append(result))
    run(lambda: len(results) == 8)
    assert all(error is None for _, error in results)
    last = max((info for info, _ in results), key=lambda info: info["seq"])
    assert parts(store) == {f"$O.{store.bucket}.C.{last['nuid']}": 10}
    assert digest(call(store.get, "x")[0]) == last["digest"]


def test_links_lead_to_objects_here_and_elsewhere(make, call):
    here, there = make(), make()
    call(here.put, "x", b"here")
    call(there.put, "y", b"there")
    info, error = call(here.add_link, "l", "x")
    assert error is None
    assert info["options"] == {"link": {"bucket": here.bucket, "name": "x"}}
    assert call(here.add_link, "far", "y", bucket=there.bucket)[1] is None
    assert call(here.add_link, "byinfo", call(there.info, "y")[0])[1] is None
    assert call(here.get, "l") == (b"here", None)
    assert call(here.get, "far") == call(here.get, "byinfo") == (b"there", None)
    call(here.put, "x", b"changed")
    assert call(here.get, "l") == (b"changed", None)
    assert call(here.add_link, "l", "y", bucket=there.bucket)[1] is None  # links can be replaced
    assert call(here.get, "l") == (b"there", None)
    call(there.delete, "y")
    assert call(here.get, "l") == (None, None)
    assert call(here.add_bucket_link, "store", there)[1] is None
    assert call(here.info, "store")[0]["options"] == {"link": {"bucket": there.bucket}}
    assert isinstance(call(here.get, "store")[1], ObjectLinkError)
    assert isinstance(call(here.add_link, "x", "x")[1], ObjectExistsError)
    assert isinstance(call(here.add_bucket_link, "x", there.bucket)[1], ObjectExistsError)
    assert isinstance(call(here.add_link, "m", "l")[1], ObjectLinkError)
    assert isinstance(call(here.add_link, "m", "missing")[1], ObjectNotFoundError)
    assert isinstance(call(here.add_link, "m", "y", bucket=there.bucket)[1], ObjectNotFoundError)
    assert call(here.list) == (["byinfo", "far", "l", "store", "x"], None)
    assert call(here.delete, "l") == (True, None)
    assert call(here.put, "store", b"an object now")[1] is None


def test_info_that_names_the_content_of_others_is_refused(make, js, call, parts):
    store = make()
    call(store.put, "good", b"data")
    for nuid in (">", "*", "a.b", 5):
        info = {"name": "x", "nuid": nuid, "bucket": store.bucket, "size": 4, "chunks": 1}
        call(js.publish, f"$O.{store.bucket}.M.eA==", json.dumps(info).encode(), rollup="sub")
        for method, arguments in (("get", ("x",)), ("delete", ("x",)), ("put", ("x", b"new"))):
            assert isinstance(call(getattr(store, method), *arguments)[1], BadObjectMetaError)
    assert call(store.get, "good") == (b"data", None)
    assert sum(parts(store).values()) == 1


def test_mirror_of_a_store_is_read_like_any_other(make, js, call, run):
    """Made as nats.go's users do: a stream that maps what the store has."""
    store = make()
    call(store.put, "x", b"abc" * 100_000)
    name = f"{store.bucket}mirror"
    transform = {"src": f"$O.{store.bucket}.>", "dest": f"$O.{name}.>"}
    mirror = {"name": store.stream, "subject_transforms": [transform]}
    config = {"name": f"OBJ_{name}", "mirror": mirror, "allow_rollup_hdrs": True}
    assert call(js.stream_create, config)[1] is None
    copy, seen = ObjectStore(js, name), []
    copy.watch(lambda info, error: seen.append(info))
    run(lambda: any(seen))
    assert call(copy.get, "x") == (b"abc" * 100_000, None)
    assert call(copy.list) == (["x"], None)
    assert call(copy.info, "x")[0]["bucket"] == name
    assert name in call(ObjectStore.bucket_names, js)[0]
    call(store.delete, "x")
    run(lambda: seen[-1] is not None and seen[-1]["deleted"])
    assert call(copy.get, "x") == (None, None)


def test_links_in_a_circle_are_an_error(make, js, call):
    store = make()
    for name, target in (("a", "b"), ("b", "a")):
        link = {"bucket": store.bucket, "name": target}
        info = {
            "name": name, "options": {"link": link}, "bucket": store.bucket, "nuid": name,
            "size": 0, "chunks": 0,
        }  # fmt: skip
        assert call(inside.store_info, store, info, None)[1] is None
    assert isinstance(call(store.get, "a")[1], ObjectLinkError)


@pytest.mark.parametrize(
    "link",
    [{"bucket": "a.b", "name": "x"}, {"bucket": 5, "name": "x"}, {"name": 5}, {"name": "\ud800"}],
)
def test_links_that_lead_nowhere_are_an_error(make, call, link):
    """Another client may store anything as a link; the get must end all the same."""
    store = make()
    info = {"name": "a", "options": {"link": link}, "nuid": "n", "size": 0, "chunks": 0}
    assert call(inside.store_info, store, info, None)[1] is None
    result, error = call(store.get, "a")
    assert result is None
    assert isinstance(error, ObjectLinkError)
    assert str(error).startswith("a is a malformed link: ")


def test_watch_tells_what_there_is_then_changes(make, call, run):
    store = make()
    empty: list[Any] = []
    store.watch(lambda *change: empty.append(change))
    run(lambda: empty)
    assert empty == [(None, None)]
    call(store.put, "a", b"1")
    call(store.put, "b", b"22")
    call(store.delete, "a")
    seen: dict[str, list[Any]] = {"all": [], "no deletes": [], "updates": []}
    watches = [
        store.watch(lambda *change: seen["all"].append(change)),
        store.watch(lambda *change: seen["no deletes"].append(change), ignore_deletes=True),
        store.watch(lambda *change: seen["updates"].append(change), updates_only=True),
    ]
    run(lambda: all((None, None) in changes for changes in seen.values()))
    call(store.put, "c", b"333")
    run(lambda: all(changes[-1][0] is not None for changes in seen.values()))
    short = {
        name: [info and (info["name"], info["size"], info["deleted"]) for info, _ in changes]
        for name, changes in seen.items()
    }
    assert short == {
        "all": [("b", 2, False), ("a", 0, True), None, ("c", 3, False)],
        "no deletes": [("b", 2, False), None, ("c", 3, False)],
        "updates": [None, ("c", 3, False)],
    }
    assert seen["all"][0][0]["seq"] == call(store.info, "b")[0]["seq"]
    for watch in watches:
        watch.stop()
    infos, _ = call(store.list_infos)
    assert [info["name"] for info in infos] == ["b", "c"]
    infos, _ = call(store.list_infos, show_deleted=True)
    assert [info["name"] for info in infos] == ["b", "a", "c"]


def test_store_is_made_as_adr_20_says_and_managed(make, js, call):
    config = {
        "description": "all of it", "ttl": timedelta(hours=1), "max_bytes": 1 << 20,
        "storage": "memory", "replicas": 1, "compression": True, "metadata": {"team": "a"},
    }  # fmt: skip
    store = make(config)
    stream = call(js.stream_info, store.stream)[0]["config"]
    expected = {
        "name": store.stream, "subjects": [f"$O.{store.bucket}.C.>", f"$O.{store.bucket}.M.>"],
        "description": "all of it", "max_age": 3600 * 10**9, "max_bytes": 1 << 20,
        "storage": "memory", "num_replicas": 1, "compression": "s2", "discard": "new",
        "allow_rollup_hdrs": True, "allow_direct": True, "retention": "limits",
    }  # fmt: skip
    assert {name: stream.get(name) for name in expected} == expected
    status, _ = call(store.status)
    del status["stream_info"]
    assert status.pop("metadata")["team"] == "a"
    told = status.pop("config")
    assert (told["ttl"], told["compression"], told["replicas"]) == (3600 * 10**9, "s2", 1)
    assert call(store.create_bucket, told)[1] is None
    assert status == {
        "bucket": store.bucket, "bytes": 0, "sealed": False, "ttl": 3600 * 10**9,
        "storage": "memory", "replicas": 1, "compressed": True, "description": "all of it",
        "backing_store": "JetStream",
    }  # fmt: skip
    assert call(store.create_bucket, config)[1] is None
    assert isinstance(call(store.create_bucket, {})[1], BucketExistsError)
    info, error = call(store.update_bucket, {"description": "changed"})
    assert error is None
    assert info["config"]["max_bytes"] == 1 << 20
    assert call(store.create_or_update_bucket, {"max_bytes": 2 << 20})[1] is None
    fresh = ObjectStore(js, f"fresh{next(_numbers)}")
    assert isinstance(call(fresh.update_bucket, {"description": "x"})[1], BucketNotFoundError)
    assert call(fresh.create_or_update_bucket, {"storage": "memory"})[1] is None
    assert {store.bucket, fresh.bucket} <= set(call(ObjectStore.bucket_names, js)[0])
    assert {store.bucket, fresh.bucket} <= {s["bucket"] for s in call(ObjectStore.buckets, js)[0]}
    assert call(fresh.delete_bucket) == (True, None)
    for method, arguments in (
        ("delete_bucket", ()), ("status", ()), ("get", ("x",)), ("put", ("x", b"data")),
        ("list", ()), ("info", ("x",)), ("delete", ("x",)), ("seal", ()),
    ):  # fmt: skip
        result, error = call(getattr(fresh, method), *arguments)
        assert result is None
        assert isinstance(error, BucketNotFoundError), method
    with pytest.raises(BadOptionsError):
        store.create_bucket({"history": 5})


def test_sealed_store_is_read_only(make, call):
    store = make()
    call(store.put, "x", b"data")
    assert call(store.seal) == (True, None)
    assert call(store.status)[0]["sealed"]
    for method, arguments in (
        ("put", ("y", b"data")), ("delete", ("x",)), ("update_meta", ("x", {"description": "d"})),
    ):  # fmt: skip
        result, error = call(getattr(store, method), *arguments)
        assert result is None
        assert isinstance(error, APIError), method
    assert call(store.get, "x") == (b"data", None)


def test_operations_called_at_once_without_waiting(client, server, run):
    store, got = ObjectStore(JetStream(client(server)), f"atonce{next(_numbers)}"), []
    note = lambda result, error: got.append((result, error))  # noqa: E731
    store.create_bucket({"storage": "memory"}, lambda info, error: store.put("x", b"1", note))
    assert got == []
    run(lambda: got)
    assert got[0][1] is None


def test_without_a_callback_errors_go_to_on_error(js, run):
    store = ObjectStore(js, "nobody")
    store.put("x", b"data")
    store.delete("x")
    errors = js.nats.recorder.errors
    run(lambda: len(errors) == 2)
    assert all(isinstance(error, BucketNotFoundError) for error in errors)


# Faults on the way.


@pytest.fixture
def through(connected, server, proxy):
    """through(**options) → a store reached through a proxy, and the proxy."""

    def through(store: ObjectStore, **options: Any) -> Any:
        link = proxy(server.port)
        nats = connected(link, reconnect_delay=10, **options)
        return ObjectStore(JetStream(nats), store.bucket, chunk_size=16 * KIB), link

    return through


def cutting(link: Any) -> Any:
    """A callback for progress that cuts the link three times on the way."""
    positions = [500_000, 6_000_000, 12_000_000]

    def progress(done: int, total: Any) -> None:
        if positions and done > positions[0]:
            positions.pop(0)
            link.cut(reset=True)

    return progress


def test_cut_link_is_got_over_by_put(make, through, call, run, parts):
    store, data, results = make({"storage": "memory"}), content(20_000_000), []
    far, link = through(store, reconnect=True)
    far.put("x", data, lambda *result: results.append(result), progress=cutting(link))
    run(lambda: results, 20)
    info, error = results[0]
    assert error is None
    assert link.connections >= 4
    assert info["digest"] == digest(data)
    assert parts(store) == {f"$O.{store.bucket}.C.{info['nuid']}": info["chunks"]}
    assert call(store.get, "x") == (data, None)


@pytest.mark.parametrize("operation", ["put", "get"])
def test_link_cut_before_the_first_answer_is_got_over(make, through, call, run, operation):
    store, results = make({"storage": "memory"}), []
    call(store.put, "x", b"before")
    far, link = through(store, reconnect=True)
    link.stall()
    note = lambda *result: results.append(result)  # noqa: E731
    arguments = ("x", b"after", note) if operation == "put" else ("x", note)
    getattr(far, operation)(*arguments)

    def lose() -> None:
        link.cut()
        link.resume()

    far.js.nats.call_later(50, lose)
    run(lambda: results)
    assert results[0][1] is None
    assert link.connections == 2
    assert call(store.get, "x") == (b"after" if operation == "put" else b"before", None)


@pytest.mark.parametrize("operation", ["put", "get"])
def test_connection_lost_for_good_before_the_first_answer_is_told(make, through, run, operation):
    far, link = through(make(), reconnect=False)
    results: list[Any] = []
    link.stall()
    note = lambda *result: results.append(result)  # noqa: E731
    arguments = ("x", b"after", note) if operation == "put" else ("x", note)
    getattr(far, operation)(*arguments)
    far.js.nats.call_later(50, link.cut)
    run(lambda: results)
    assert str(results[0][1]) == "disconnected"
    assert len(results) == 1


def test_cut_link_is_got_over_by_get(make, through, call, run):
    store, data, results = make({"storage": "memory"}), content(20_000_000), []
    call(store.put, "x", data)
    far, link = through(store, reconnect=True)
    far.get("x", lambda *result: results.append(result), progress=cutting(link))
    run(lambda: results, 20)
    assert results == [(data, None)]
    assert link.connections >= 4


@pytest.mark.slow
def test_cuts_at_any_moment_make_no_wrong_object_and_leave_no_parts(
    make, through, call, run, parts
):
    store, rnd = make(), random.Random(5)
    far, link = through(store, reconnect=True, max_reconnect_delay=100)
    for number in range(20):
        name, data = f"o{number % 3}", content(rnd.choice([0, 1, 5000, 100_000, 1_000_000]))
        for operation in ("put", "get"):
            results: list[Any] = []
            note = lambda *result, to=results: to.append(result)  # noqa: E731
            getattr(far, operation)(*((name, data, note) if operation == "put" else (name, note)))
            for _ in range(rnd.randint(0, 3)):
                far.js.nats.call_later(rnd.uniform(0, 60), link.cut, rnd.random() < 0.5)
            run(lambda to=results: to, 30)
            assert results[0][1] is None
            assert len(results) == 1
        assert results[0][0] == data
    infos, _ = call(store.list_infos)
    wanted = {f"$O.{store.bucket}.C.{i['nuid']}": i["chunks"] for i in infos if i["chunks"]}
    deadline = time.monotonic() + 10  # a removal that a cut has hit is tried again
    while parts(store) != wanted:
        assert time.monotonic() < deadline, (parts(store), wanted)
    assert link.connections > 5


def test_lost_connection_is_reported_by_put_and_get_without_reconnect(
    make, through, call, run, tmp_path, parts
):
    store, data = make({"storage": "memory"}), content(20_000_000)
    call(store.put, "x", data)
    for operation in ("put", "get"):
        far, link = through(store)
        results: list[Any] = []

        def cut(done: int, total: Any, link: Any = link) -> None:
            if done > 500_000:
                link.cut()

        arguments = ("y", data) if operation == "put" else ("x", tmp_path / "out")
        getattr(far, operation)(*arguments, lambda *r, to=results: to.append(r), progress=cut)
        run(lambda to=results: to)
        assert results[0][0] is None
        assert "disconnected" in str(results[0][1])
    assert os.listdir(tmp_path) == []
    assert call(store.info, "y") == (None, None)
    assert call(store.get, "x") == (data, None)


def test_server_that_restarts_is_got_over(own_server, connected, call, run):
    server = own_server(jetstream=True)
    nats = connected(server, reconnect=True, reconnect_delay=10)
    store = ObjectStore(JetStream(nats, timeout=1000), "restarted", chunk_size=16 * KIB)
    data = content(2_000_000)
    call(store.create_bucket)
    for operation in ("put", "get"):
        results: list[Any] = []
        restarts = iter([True])

        def restart(done: int, total: Any, restarts: Any = restarts) -> None:
            if done > 1_000_000 and next(restarts, False):
                server.restart()

        arguments = ("x", data) if operation == "put" else ("x",)
        getattr(store, operation)(*arguments, lambda *r, to=results: to.append(r), progress=restart)
        run(lambda to=results: to, 30)
        assert results[0][1] is None
    assert results[0][0] == data


def test_put_without_a_connection_ends_with_an_error(make, js, run):
    store, results = make(), []
    store.put("x", content(100_000), lambda *result: results.append(result))
    store.get("x", lambda *result: results.append(result))
    js.nats.disconnect()
    run(lambda: len(results) == 2)
    assert all(result is None and error is not None for result, error in results)
    with pytest.raises(ConnectionError):
        store.put("x", b"data")


def test_stream_that_is_no_store(js, call):
    call(js.stream_create, {"name": "OBJ_nostore", "subjects": ["nostore.object"]})
    store = ObjectStore(js, "nostore")
    assert call(store.get, "x") == (None, None)
    result, error = call(store.put, "x", b"data")
    assert result is None
    assert error is not None
    assert not isinstance(error, BadBucketError)


@pytest.mark.parametrize("line", ["2.10", "2.12"])
def test_older_servers(line, own_server, connected, call, tmp_path):
    binary = line_binary(line)
    store = ObjectStore(JetStream(connected(own_server(jetstream=True, binary=binary))), "older")
    data, out = content(300_000), tmp_path / "out"
    assert call(store.create_bucket, {"compression": True, "metadata": {"a": "b"}})[1] is None
    assert call(store.put, "x", data)[1] is None
    assert call(store.put, "x", data, chunk_size=10_000)[0]["chunks"] == 30
    assert call(store.add_link, "l", "x")[1] is None
    assert call(store.get, "l", out)[1] is None
    assert out.read_bytes() == data
    assert call(store.update_meta, "x", {"name": "y"})[1] is None
    assert call(store.delete, "y") == (True, None)
    assert call(store.list) == (["l"], None)


def test_domain_is_used(own_server, connected, call):
    server = own_server(jetstream=True, config="jetstream { domain: hub }")
    store = ObjectStore(JetStream(connected(server), domain="hub"), "indomain")
    assert call(store.create_bucket)[1] is None
    assert call(store.put, "x", content(300_000))[1] is None
    assert call(store.get, "x") == (content(300_000), None)
    assert call(store.list) == (["x"], None)
