"""Puts that go on where an earlier one, of another process, has stopped."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
from typing import Any

import pytest

from nats_ev import BadOptionsError, JetStream, ObjectStore, ObjectTransferError, aio, blocking

PART = 20_000
CONTENT = random.Random(6).randbytes(400 * PART + 123)
_numbers = itertools.count(1)

# Puts a file, and says how far it is.
PUT = """
import sys, time, pathlib
from nats_ev import blocking
url, bucket, path, state = sys.argv[1:]
def tell(stored, of):
    print(stored, flush=True)
    time.sleep(0.005)
with blocking.connect(url) as nc:
    store = nc.jetstream().object_store(bucket, chunk_size=20_000)
    store.put("o", pathlib.Path(path), resume=pathlib.Path(state), progress=tell)
print("done", flush=True)
"""


@pytest.fixture(params=["parts", "batch"])
def store(request, js, call, since):
    batch = request.param == "batch"
    if batch and not since(2, 14):
        pytest.skip("nats-server 2.14 or later")
    store = ObjectStore(js, f"resumeput{next(_numbers)}", chunk_size=PART)
    assert call(store.create_bucket, {"storage": "memory", "allow_batched": batch})[1] is None
    yield store
    call(store.delete_bucket)


@pytest.fixture
def paths(tmp_path):
    """The file with the content, and the path of its state."""
    (tmp_path / "file").write_bytes(CONTENT)
    return tmp_path / "file", tmp_path / "state"


@pytest.fixture
def subjects(call, store):
    """subjects() → how many parts there are, per nuid."""

    def subjects() -> dict[str, int]:
        opts = {"subjects_filter": f"$O.{store.bucket}.C.>"}
        info = call(store.js.stream_info, store.stream, opts)[0]
        found = info["state"].get("subjects") or {}
        return {name.rpartition(".")[2]: count for name, count in found.items()}

    return subjects


@pytest.fixture
def stopped(store, server, connected, run, paths, call, subjects):
    """stopped(parts): a put that has stored so many parts, and whose client has ended."""

    def stopped(parts: int) -> None:
        nats = connected(server)
        theirs = ObjectStore(JetStream(nats), store.bucket, chunk_size=PART)
        told: list[Any] = []

        def progress(stored: int, of: int | None) -> None:
            if stored >= parts * PART:
                nats.disconnect()

        file, state = paths
        theirs.put("o", file, lambda *r: told.append(r), resume=state, progress=progress)
        run(lambda: told)
        assert type(told[0][1]).__name__ in ("ConnectionClosedError", "ConnectionLostError")
        assert state.exists()
        assert sum(subjects().values()) >= parts

    return stopped


def check(store: ObjectStore, call: Any, subjects: Any, info: Any) -> None:
    assert subjects() == {info["nuid"]: 401}
    assert (info["size"], info["chunks"]) == (len(CONTENT), 401)
    assert call(store.get, "o") == (CONTENT, None)


@pytest.mark.parametrize("parts", [1, 100, 300])
def test_what_is_stored_is_not_sent_again(store, call, paths, stopped, subjects, parts):
    file, state = paths
    stopped(parts)
    sent = store.js.nats.stats()["bytes_out"]
    info, error = call(store.put, "o", file, resume=state)
    assert error is None
    assert store.js.nats.stats()["bytes_out"] - sent < len(CONTENT) - (parts - 1) * PART + 1_000_000
    assert not state.exists()
    check(store, call, subjects, info)


def test_a_put_that_was_killed_goes_on(store, server, call, paths, subjects):
    file, state = paths
    command = [sys.executable, "-c", PUT, server.url, store.bucket, str(file), str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _line in process.stdout:
            process.send_signal(signal.SIGKILL)
            break
    assert process.returncode == -signal.SIGKILL
    (nuid,) = subjects()
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout
    assert told.split()[-1] == "done"
    info, _ = call(store.info, "o")
    assert info["nuid"] == nuid
    check(store, call, subjects, info)
    assert not state.exists()


def test_an_object_that_exists_is_replaced_in_the_end(store, call, paths, stopped, subjects):
    call(store.put, "o", b"former")
    stopped(100)
    assert call(store.get, "o") == (b"former", None)
    info, error = call(store.put, "o", paths[0], resume=paths[1])
    assert error is None
    check(store, call, subjects, info)


def test_a_put_that_was_killed_after_its_end_removes_what_it_has_replaced(
    store, call, paths, subjects
):
    file, state = paths
    former, _ = call(store.put, "o", b"former")
    call(store.put, "p", b"former")
    info, _ = call(store.put, "o", file)
    # As it was before the removal.
    call(store.js.publish, f"$O.{store.bucket}.C.{former['nuid']}", b"former")
    found = os.stat(file)
    fields = {
        "bucket": store.bucket, "name": "o", "nuid": info["nuid"], "chunk_size": PART,
        "file": [found.st_size, found.st_mtime_ns, found.st_ino], "replaces": former["nuid"],
    }  # fmt: skip
    state.write_text(json.dumps(fields) + "\nold")
    again, error = call(store.put, "o", file, resume=state)
    assert (again["nuid"], error) == (info["nuid"], None)
    assert former["nuid"] not in subjects()
    assert not state.exists()


def test_an_object_that_was_deleted_before_its_put_went_on(store, call, paths, subjects):
    file, state = paths
    info, _ = call(store.put, "o", file)
    found = os.stat(file)
    fields = {
        "bucket": store.bucket, "name": "o", "nuid": info["nuid"], "chunk_size": PART,
        "file": [found.st_size, found.st_mtime_ns, found.st_ino], "replaces": "",
    }  # fmt: skip
    state.write_text(json.dumps(fields))
    call(store.delete, "o")
    again, error = call(store.put, "o", file, resume=state)
    assert error is None
    check(store, call, subjects, again)


def test_a_file_that_has_changed_is_an_error_and_begins_again(
    store, call, paths, stopped, subjects
):
    file, state = paths
    stopped(100)
    file.write_bytes(CONTENT[::-1])
    result, error = call(store.put, "o", file, resume=state)
    assert (result, type(error)) == (None, ObjectTransferError)
    assert "changed" in str(error)
    assert not state.exists()
    assert subjects() == {}
    assert call(store.put, "o", file, resume=state)[1] is None
    assert call(store.get, "o") == (CONTENT[::-1], None)


def test_a_file_that_changes_meanwhile_is_an_error(store, call, paths, subjects):
    file, state = paths

    def progress(stored: int, of: int | None) -> None:
        os.utime(file, ns=(1, stored))

    result, error = call(store.put, "o", file, resume=state, progress=progress)
    assert (result, type(error)) == (None, ObjectTransferError)
    assert (state.exists(), subjects()) == (False, {})


@pytest.mark.parametrize("lost", [1, 50, None])
def test_parts_that_were_lost_meanwhile(store, call, paths, stopped, subjects, lost):
    """Those in the middle: all are sent again. All of them: too."""
    file, state = paths
    stopped(100)
    (nuid,) = subjects()
    if lost:
        assert call(store.js.stream_msg_delete, store.stream, lost)[1] is None
    else:
        call(store.js.stream_purge, store.stream)
    info, error = call(store.put, "o", file, resume=state)
    assert error is None
    assert info["nuid"] != nuid
    check(store, call, subjects, info)


def test_cancelled_and_failed_puts_leave_nothing(store, run, paths, subjects):
    file, state = paths
    told: list[Any] = []

    def progress(stored: int, of: int | None) -> None:
        upload.cancel()

    upload = store.put("o", file, lambda *r: told.append(r), resume=state, progress=progress)
    run(lambda: told)
    assert type(told[0][1]) is ObjectTransferError
    assert (state.exists(), subjects()) == (False, {})


def test_wrong_states(store, call, paths, tmp_path, run):
    file, state = paths
    state.write_text("my diary")
    with pytest.raises(BadOptionsError, match="not the state"):
        store.put("o", file, print, resume=state)
    state.write_text("")
    told: list[Any] = []
    store.put("o", file, lambda *r: told.append(r), resume=state)
    with pytest.raises(BlockingIOError):
        store.put("o", file, print, resume=state)
    run(lambda: told)
    assert told[0][1] is None
    state.write_text(
        json.dumps({"bucket": "x", "name": "o", "nuid": "", "chunk_size": 1, "file": []})
    )
    with pytest.raises(BadOptionsError, match="another upload"):
        store.put("o", file, print, resume=state)
    with pytest.raises(BadOptionsError, match="path"):
        store.put("o", b"content", print, resume=state)
    with pytest.raises(TypeError):
        store.put("o", file, print, resume="state")
    with pytest.raises(FileNotFoundError):
        store.put("o", tmp_path / "missing", print, resume=tmp_path / "other")


def test_the_faces(store, server, paths, call, subjects):
    file, state = paths
    with blocking.connect(server.url) as nc:
        theirs = nc.jetstream().object_store(store.bucket, chunk_size=PART)
        check(store, call, subjects, theirs.put("o", file, resume=state))

    async def main() -> Any:
        async with await aio.connect(server.url) as nc:
            store_there = nc.jetstream().object_store(store.bucket, chunk_size=PART)
            return await store_there.put("o", file, resume=state)

    check(store, call, subjects, asyncio.run(main()))
