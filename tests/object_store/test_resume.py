"""Gets that go on where an earlier one, of another process, has stopped."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from nats_ev import DigestMismatchError, JetStream, ObjectStore, ObjectTransferError, aio, blocking

PART = 10_000
CONTENT = random.Random(5).randbytes(60 * PART + 123)
_numbers = itertools.count(1)

# Gets an object into a file as slowly as a part in 20 ms, and says so for each part.
GET = """
import sys, time, pathlib
from nats_ev import blocking
url, bucket, path = sys.argv[1:]
def tell(got, of):
    print(got, flush=True)
    time.sleep(0.02)
with blocking.connect(url) as nc:
    store = nc.jetstream().object_store(bucket)
    store.get("o", pathlib.Path(path), resume=True, progress=tell)
print("done", flush=True)
"""


@pytest.fixture
def store(js, call):
    store = ObjectStore(js, f"resume{next(_numbers)}", chunk_size=PART)
    assert call(store.create_bucket, {"storage": "memory"})[1] is None
    assert call(store.put, "o", CONTENT)[1] is None
    yield store
    call(store.delete_bucket)


def hidden(folder: Any) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".")]


def stop_get(store: ObjectStore, run: Any, path: Any, parts: int) -> None:
    """Get a part of the object into a file, then cancel."""
    told: list[Any] = []

    def progress(got: int, of: int) -> None:
        if got >= parts * PART:
            download.cancel()

    download = store.get(
        "o", path, lambda *result: told.append(result), resume=True, progress=progress
    )
    run(lambda: told)
    assert isinstance(told[0][1], ObjectTransferError)


def count_reads(store: ObjectStore, call: Any, path: Any) -> tuple[Any, Any, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    result, error = call(
        store.get, "o", path, resume=True, progress=lambda *numbers: told.append(numbers)
    )
    return result, error, told


@pytest.mark.parametrize("parts", [1, 30, 60])
def test_what_has_come_is_not_read_again(store, run, call, tmp_path, parts):
    path = tmp_path / "o"
    stop_get(store, run, path, parts)
    assert not path.exists()
    assert len(hidden(tmp_path)) == 1
    info, error, told = count_reads(store, call, path)
    assert (info["name"], error) == ("o", None)
    assert path.read_bytes() == CONTENT
    assert hidden(tmp_path) == []
    assert told[0][0] == min((parts + 1) * PART, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("there", [0, 1, PART - 1, PART + 1, len(CONTENT), len(CONTENT) + 5])
def test_any_length_may_be_there(store, run, call, tmp_path, there):
    """A process that was killed may have written half a part."""
    path = tmp_path / "o"
    stop_get(store, run, path, 3)
    (name,) = hidden(tmp_path)
    (tmp_path / name).write_bytes((CONTENT + b"12345")[:there])
    info, error, _ = count_reads(store, call, path)
    assert (info["name"], error) == ("o", None)
    assert path.read_bytes() == CONTENT


def test_a_get_that_was_killed_goes_on(store, server, call, tmp_path):
    path = tmp_path / "o"
    command = [sys.executable, "-c", GET, server.url, store.bucket, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 10 * PART:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert not path.exists()
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout
    assert int(told.split()[0]) > 10 * PART
    assert path.read_bytes() == CONTENT
    assert hidden(tmp_path) == []


def test_what_is_wrong_in_the_file_is_found_and_begins_again(store, run, call, tmp_path):
    path = tmp_path / "o"
    stop_get(store, run, path, 30)
    (name,) = hidden(tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[5] ^= 1
    (tmp_path / name).write_bytes(data)
    result, error, told = count_reads(store, call, path)
    assert (result, type(error)) == (None, DigestMismatchError)
    assert hidden(tmp_path) == []
    assert not path.exists()
    _, error, told = count_reads(store, call, path)
    assert (error, told[0][0]) == (None, PART)
    assert path.read_bytes() == CONTENT


def test_an_object_that_was_replaced_meanwhile_begins_again(store, run, call, tmp_path):
    path = tmp_path / "o"
    stop_get(store, run, path, 30)
    call(store.put, "o", CONTENT[::-1])
    _, error, told = count_reads(store, call, path)
    assert (error, told[0][0]) == (None, PART)
    assert path.read_bytes() == CONTENT[::-1]
    assert hidden(tmp_path) == []


def test_an_object_that_is_replaced_while_it_is_read_leaves_nothing(store, call, tmp_path):
    path = tmp_path / "o"
    path.write_bytes(b"former")
    replaced: list[Any] = []

    def progress(got: int, of: int) -> None:
        if not replaced:
            download.pause()
            replaced.append(None)
            store.put("o", b"other", lambda *result: download.resume())

    told: list[Any] = []
    download = store.get("o", path, lambda *r: told.append(r), resume=True, progress=progress)
    deadline = time.monotonic() + 30
    while not told and time.monotonic() < deadline:
        call(store.info, "o")
    assert type(told[0][1]).__name__ == "ObjectChangedError"
    assert hidden(tmp_path) == []
    assert path.read_bytes() == b"former"


def test_two_gets_of_one_file_keep_out_of_each_others_way(store, run, call, tmp_path):
    path = tmp_path / "o"
    told: list[Any] = []
    first = store.get("o", path, lambda *r: told.append(r), resume=True)
    first.pause()
    run(lambda: hidden(tmp_path))
    result, error = call(store.get, "o", path, resume=True)
    assert (result, type(error)) == (None, ObjectTransferError)
    assert isinstance(error.__cause__, BlockingIOError)
    first.resume()
    run(lambda: told)
    assert told[0][1] is None
    assert path.read_bytes() == CONTENT


def test_modes_links_and_empty_objects(store, call, tmp_path):
    target, path = tmp_path / "target", tmp_path / "o"
    target.write_bytes(b"former")
    target.chmod(0o640)
    path.symlink_to(target)
    assert call(store.get, "o", path, resume=True)[1] is None
    assert path.is_symlink()
    assert target.read_bytes() == CONTENT
    assert target.stat().st_mode & 0o777 == 0o640
    call(store.put, "empty", b"")
    assert call(store.get, "empty", tmp_path / "e", resume=True)[1] is None
    assert (tmp_path / "e").read_bytes() == b""
    assert call(store.get, "missing", tmp_path / "m", resume=True) == (None, None)
    assert hidden(tmp_path) == []


def test_a_lost_connection(store, proxy, server, connected, call, tmp_path):
    path = tmp_path / "o"
    through = proxy(server.port)
    nats = connected(through, reconnect=True, reconnect_delay=10)
    theirs = ObjectStore(JetStream(nats), store.bucket)

    def cut(got: int, of: int) -> None:
        if got == 20 * PART:
            through.cut()

    assert call(theirs.get, "o", path, resume=True, progress=cut)[1] is None
    assert path.read_bytes() == CONTENT


def test_the_faces(store, server, tmp_path):
    path = tmp_path / "o"
    with blocking.connect(server.url) as nc:
        theirs = nc.jetstream().object_store(store.bucket)
        assert theirs.get("o", path, resume=True)["name"] == "o"
    assert path.read_bytes() == CONTENT

    async def main() -> Any:
        async with await aio.connect(server.url) as nc:
            store_there = nc.jetstream().object_store(store.bucket)
            return await store_there.get("o", path, resume=True)

    assert asyncio.run(main())["name"] == "o"
    assert path.read_bytes() == CONTENT
