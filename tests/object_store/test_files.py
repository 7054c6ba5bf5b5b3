"""Files as sources and targets of objects: modes, owners, links, pipes, and files that take or give less."""

from __future__ import annotations

import io
import os
import stat
from typing import Any

import pytest

from nats_ev import JetStream, ObjectStore, ObjectTransferError

DATA = bytes(range(256)) * 40


@pytest.fixture
def store(js: JetStream, call: Any) -> ObjectStore:
    store = ObjectStore(js, "files", chunk_size=1000)
    call(store.create_bucket, {"storage": "memory"})
    call(store.put, "x", DATA)
    return store


def mode(path: Any) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_new_file_is_private_until_it_is_whole_and_then_has_the_umasks_mode(
    store, call, tmp_path
):
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        [partial] = tmp_path.iterdir()
        seen.append(mode(partial))

    umask = os.umask(0o027)
    try:
        assert call(store.get, "x", tmp_path / "new", progress=progress)[1] is None
    finally:
        os.umask(umask)
    assert set(seen) == {0o600}
    assert mode(tmp_path / "new") == 0o640
    assert (tmp_path / "new").read_bytes() == DATA


def test_an_existing_file_keeps_its_mode_and_owner(store, call, tmp_path):
    path = tmp_path / "old"
    path.write_bytes(b"old")
    path.chmod(0o604)
    if os.getuid() == 0:
        os.chown(path, 12345, 23456)
    before = path.stat()
    assert call(store.get, "x", path)[1] is None
    after = path.stat()
    assert path.read_bytes() == DATA
    assert (mode(path), after.st_uid, after.st_gid) == (0o604, before.st_uid, before.st_gid)


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_stays_and_what_it_leads_to_changes(store, call, tmp_path, exists):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    if exists:
        target.write_bytes(b"old")
    link.symlink_to(target)
    assert call(store.get, "x", link)[1] is None
    assert link.is_symlink()
    assert target.read_bytes() == DATA
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["target"]


def test_what_is_no_regular_file_is_neither_replaced_nor_read(store, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for use in (lambda: store.get("x", fifo, print), lambda: store.put("y", fifo)):
        with pytest.raises(OSError, match="not a regular file"):
            use()
    with pytest.raises(IsADirectoryError):
        store.put("y", tmp_path)
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["fifo"]


class Slow(io.RawIOBase):
    """A raw file that takes a few bytes at a time, and nothing when it is full."""

    def __init__(self, room: int = 10**9) -> None:
        self.data, self.room = b"", room

    def write(self, data: Any) -> int | None:
        taken = bytes(data[: min(7, self.room)])
        if not taken:
            return None
        self.room -= len(taken)
        self.data += taken
        return len(taken)


def test_a_file_that_takes_less_than_it_is_given_gets_the_rest_as_well(store, call):
    slow = Slow()
    info, error = call(store.get, "x", slow)
    assert error is None
    assert info["size"] == len(DATA)
    assert slow.data == DATA


def test_a_non_blocking_file_that_is_full_fails_the_get(store, call):
    info, error = call(store.get, "x", Slow(room=3000))
    assert info is None
    assert isinstance(error, ObjectTransferError)
    assert isinstance(error.__cause__, BlockingIOError)


class Empty(io.RawIOBase):
    """A non-blocking file that has a part, and then nothing yet."""

    def __init__(self) -> None:
        self.parts = [b"abc"]

    def read(self, size: int = -1) -> bytes | None:
        return self.parts.pop() if self.parts else None


def test_a_non_blocking_source_without_data_is_not_taken_for_its_end(store, call):
    info, error = call(store.put, "y", Empty())
    assert info is None
    assert isinstance(error, ObjectTransferError)
    assert isinstance(error.__cause__, BlockingIOError)
    assert call(store.info, "y") == (None, None)


def test_a_none_among_the_pieces_is_not_taken_for_the_end(store, call):
    info, error = call(store.put, "y", iter([b"abc", None, b"def"]))
    assert info is None
    assert isinstance(error, ObjectTransferError)
    assert call(store.info, "y") == (None, None)


def test_a_source_whose_close_raises_does_not_keep_the_put_from_ending(store, call, excepthook):
    class Pieces:
        def __iter__(self) -> Any:
            return self

        def __next__(self) -> bytes:
            raise StopIteration

        def close(self) -> None:
            raise OSError("close")

    info, error = call(store.put, "y", Pieces())
    assert error is None
    assert info["size"] == 0
    assert [str(exc) for exc in excepthook] == ["close"]
