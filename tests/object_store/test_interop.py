"""Object stores shared with official clients: what one puts the other gets, both ways."""

from __future__ import annotations

import base64
import hashlib
import itertools
import random
from typing import Any

import pytest

from lab.buckets import only_nats_js
from nats_ev import KV, ObjectStore

_numbers = itertools.count(1)
CHUNK = 128 * 1024
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1]


@pytest.fixture
def store(js, call, peer):
    """A store that one of the two has made. That either's are the same is a test of its own."""
    name = f"cross{next(_numbers)}"
    store = ObjectStore(js, name)
    if peer.name == "nats-py":
        assert call(store.create_bucket, {"description": "shared"})[1] is None
    else:
        peer("obj.create_bucket", bucket=name, description="shared")
    yield store
    call(store.delete_bucket)


@pytest.fixture
def theirs(peer, store):
    """theirs("put", name=…): the official client's operation."""

    def theirs(operation: str, **arguments: Any) -> Any:
        return peer(f"obj.{operation}", bucket=store.bucket, **arguments)

    return theirs


@pytest.fixture
def file(tmp_path):
    """file(size) → path of a file of random content."""

    def file(size: int) -> Any:
        path = tmp_path / f"{size}-{next(_numbers)}"
        path.write_bytes(random.Random(size + 1).randbytes(size))
        return path

    return file


def digest(path: Any) -> str:
    return (
        "SHA-256=" + base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()
    )


@pytest.mark.parametrize("size", SIZES)
def test_put_here_get_there(store, call, theirs, file, tmp_path, size):
    path, got = file(size), tmp_path / "got"
    info, error = call(store.put, "object", path)
    assert error is None
    told = theirs("get", name="object", path=str(got))
    for field in ("name", "bucket", "nuid", "size", "chunks", "digest"):
        assert told[field] == info[field], field
    assert info["digest"] == digest(path) == digest(got)
    assert theirs("list") == ["object"]


@pytest.mark.parametrize("size", SIZES)
def test_put_there_get_here(store, call, theirs, file, tmp_path, size):
    path, got = file(size), tmp_path / "got"
    told = theirs("put", name="object", path=str(path))
    info, error = call(store.get, "object", got)
    assert error is None
    for field in ("name", "bucket", "nuid", "size", "chunks", "digest"):
        assert info[field] == told[field], field
    assert info["digest"] == digest(path) == digest(got)
    assert call(store.list) == (["object"], None)


@pytest.mark.slow
def test_64_mib_both_ways(store, call, theirs, file, tmp_path):
    path, here, there = file(64 << 20), tmp_path / "here", tmp_path / "there"
    expected = digest(path)
    assert call(store.put, "ours", path)[0]["digest"] == expected
    assert theirs("get", name="ours", path=str(there))["digest"] == expected
    assert theirs("put", name="theirs", path=str(path))["digest"] == expected
    assert call(store.get, "theirs", here)[0]["digest"] == expected
    assert digest(here) == digest(there) == expected


def test_names(store, call, theirs, file, tmp_path, peer):
    path, got = file(100), tmp_path / "got"
    names = ["a b/.>*", "../x", "a" * 500]
    if peer.name == "nats-py":  # nats.js encodes what is not ASCII unlike all others, or not at all
        names += ["ü", "日本"]
    for name in names:
        call(store.put, name, path)
        assert theirs("get", name=name, path=str(got))["name"] == name
        theirs("put", name=f"{name}2", path=str(path))
        assert call(store.get, f"{name}2") == (path.read_bytes(), None)
    assert theirs("list") == call(store.list)[0] == sorted(names + [f"{name}2" for name in names])


def test_overwrite(store, js, call, theirs, file, tmp_path):
    first, second, third = file(CHUNK + 5), file(10), file(3 * CHUNK)
    got = tmp_path / "got"

    def parts() -> int:
        opts = {"subjects_filter": f"$O.{store.bucket}.C.>"}
        return sum(
            (call(js.stream_info, store.stream, opts)[0]["state"]["subjects"] or {}).values()
        )

    call(store.put, "object", first)
    theirs("put", name="object", path=str(second))
    assert call(store.get, "object") == (second.read_bytes(), None)
    assert parts() == 1
    call(store.put, "object", third)
    theirs("get", name="object", path=str(got))
    assert digest(got) == digest(third)
    assert parts() == 3


def test_delete(store, call, theirs, file, tmp_path):
    path = file(10)
    call(store.put, "ours", path)
    theirs("put", name="theirs", path=str(path))
    assert call(store.delete, "theirs") == (True, None)
    info = theirs("info", name="theirs")
    assert info is None or info["deleted"]
    theirs("delete", name="ours")
    assert call(store.get, "ours") == call(store.info, "ours") == (None, None)
    assert call(store.info, "ours", show_deleted=True)[0]["deleted"]
    assert theirs("list") == call(store.list)[0] == []
    theirs("put", name="theirs", path=str(path))
    call(store.put, "ours", path)
    assert theirs("list") == call(store.list)[0] == ["ours", "theirs"]
    assert call(store.get, "theirs") == (path.read_bytes(), None)


def test_description_headers_and_part_size(store, call, theirs, file, tmp_path):
    path, got = file(5000), tmp_path / "got"
    call(store.put, "ours", path, description="mine", headers={"X-A": "1"}, chunk_size=1000)
    info = theirs("get", name="ours", path=str(got))
    assert (info["description"], info["chunks"]) == ("mine", 5)
    assert info["headers"] == {"X-A": ["1"]}
    theirs("put", name="theirs", path=str(path), description="yours", chunk_size=1000)
    info, _ = call(store.info, "theirs")
    assert (info["description"], info["chunks"]) == ("yours", 5)
    assert call(store.get, "theirs") == (path.read_bytes(), None)


def test_meta_update_and_rename(store, call, theirs, file, peer):
    path = file(100)
    call(store.put, "ours", path)
    call(store.put, "other", path)
    if peer.name == "nats-py":  # it can't rename
        theirs("update", name="ours", meta={"name": "ours", "description": "new"})
        assert call(store.update_meta, "ours", {"name": "renamed"})[1] is None
    else:
        theirs("update", name="ours", meta={"name": "renamed", "description": "new"})
    assert call(store.list) == (["other", "renamed"], None)
    assert call(store.info, "renamed")[0]["description"] == "new"
    assert call(store.get, "renamed") == (path.read_bytes(), None)
    assert call(store.update_meta, "other", {"name": "again", "description": "d"})[1] is None
    assert theirs("list") == ["again", "renamed"]
    assert theirs("info", name="again")["description"] == "d"


def test_links(store, call, theirs, file, tmp_path, js, peer):
    path, got = file(100), tmp_path / "got"
    other = ObjectStore(js, f"linked{next(_numbers)}")
    call(other.create_bucket)
    call(other.put, "far", path)
    call(store.put, "near", path)
    assert call(store.add_link, "ours", "near")[1] is None
    assert call(store.add_link, "ours far", "far", bucket=other.bucket)[1] is None
    assert call(store.add_bucket_link, "our store", other)[1] is None
    for name in ("ours", "ours far"):
        got.unlink(missing_ok=True)
        theirs("get", name=name, path=str(got))
        assert digest(got) == digest(path)
        link = call(store.info, name)[0]["options"]["link"]
        assert theirs("info", name=name)["options"]["link"] == link
    assert theirs("info", name="our store")["options"]["link"]["bucket"] == other.bucket
    if peer.name == "nats-py":  # it reads links, and can't make any
        return
    theirs("link", name="theirs", target="near")
    theirs("link", name="theirs far", target="far", target_bucket=other.bucket)
    for name in ("theirs", "theirs far"):
        assert call(store.get, name) == (path.read_bytes(), None)
    theirs("link_store", name="store", target_bucket=other.bucket)
    assert call(store.info, "store")[0]["options"]["link"] == {"bucket": other.bucket}


def test_watch_both_ways(store, js, call, theirs, file, peer, run):
    """Each sees what both do: puts, an overwrite, deletions."""
    path, told = file(10), KV(js, f"told{next(_numbers)}")
    assert call(told.create_bucket)[1] is None
    call(store.put, "before", path)
    seen: list[Any] = []
    store.watch(lambda info, error: seen.append(info))
    watching = peer.start("obj.watch", bucket=store.bucket, count=6, started=told.bucket)
    started: list[Any] = []
    told.watch("started", lambda entry, error: started.append(entry))
    run(lambda: any(started) and None in seen)
    call(store.put, "ours", path)
    theirs("put", name="theirs", path=str(path))
    call(store.put, "theirs", path)
    theirs("delete", name="ours")
    call(store.delete, "theirs")
    run(watching.done)
    run(lambda: len(seen) == 7)
    expected = [
        ("before", False), ("ours", False), ("theirs", False), ("theirs", False), ("ours", True),
        ("theirs", True),
    ]  # fmt: skip
    ours = [info for info in seen if info is not None]
    assert [(i["name"], i["deleted"]) for i in ours] == expected
    others = watching.result()
    assert [(i["name"], i["deleted"]) for i in others] == expected
    for one, other in zip(ours, others, strict=True):
        assert (one["nuid"], one["size"], one["chunks"]) == (
            other["nuid"], other["size"], other["chunks"],
        )  # fmt: skip
    assert seen.index(None) == 1


@only_nats_js
def test_metadata(store, call, theirs, file):
    path = file(1)
    call(store.put, "ours", path, metadata={"k": "v"})
    assert theirs("info", name="ours")["metadata"] == {"k": "v"}
    theirs("put", name="theirs", path=str(path), metadata={"a": "b"})
    assert call(store.info, "theirs")[0]["metadata"] == {"a": "b"}


def test_status_and_seal(store, call, theirs, file):
    call(store.put, "x", file(10))
    status, told = call(store.status)[0], theirs("status")
    assert told == {
        "bucket": store.bucket, "size": status["bytes"], "sealed": False, "description": "shared",
    }  # fmt: skip
    assert theirs("seal") is True
    assert call(store.status)[0]["sealed"]


def test_store_configuration_is_the_same(js, call, peer):
    name = f"same{next(_numbers)}"
    peer("obj.create_bucket", bucket=f"{name}t", description="same")
    assert call(ObjectStore(js, f"{name}o").create_bucket, {"description": "same"})[1] is None
    assert call(ObjectStore(js, f"{name}t").create_bucket, {"description": "same"})[1] is None
    streams = []
    for bucket in (f"{name}o", f"{name}t"):
        stream = call(js.stream_info, f"OBJ_{bucket}")[0]["config"]
        assert stream.pop("name") == f"OBJ_{bucket}"
        assert stream.pop("subjects") == [f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"]
        streams.append({k: v for k, v in stream.items() if v not in (-1, 0) and k != "metadata"})
    assert streams[0] == streams[1]
