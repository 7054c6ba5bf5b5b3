"""Files as sources and targets of objects: modes, owners, links, pipes, and files that take or give less."""

from __future__ import annotations

import errno
import io
import os
import resource
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


def parts_of(store: ObjectStore, call: Any) -> int:
    opts = {"subjects_filter": f"$O.{store.bucket}.C.>"}
    return len(call(store.js.stream_info, store.stream, opts)[0]["state"]["subjects"])


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("after", [0, 3, 20])
def test_an_interrupted_source_is_not_taken_for_its_end(store, run, call, kind, after):
    def pieces() -> Any:
        for _ in range(after):
            yield bytes(1000)
        raise kind

    ended: list[Any] = []
    before = parts_of(store, call)
    store.put("interrupted", pieces(), lambda info, error: ended.append((info, error)))
    with pytest.raises(kind):
        run(lambda: ended)
    run(lambda: ended)
    assert ended[0][0] is None
    assert isinstance(ended[0][1], ObjectTransferError)
    assert call(store.info, "interrupted") == (None, None)
    assert parts_of(store, call) == before


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("at", [0, 3])
def test_an_interrupted_target_fails_the_get(store, run, kind, at):
    """What was not written would be missing from the file, and the digest would be right."""
    taken: list[bytes] = []

    def take(part: bytes) -> None:
        if len(taken) == at:
            taken.append(b"")
            raise kind
        taken.append(part)

    ended: list[Any] = []
    store.get("x", take, lambda info, error: ended.append((info, error)))
    with pytest.raises(kind):
        run(lambda: ended)
    run(lambda: ended)
    assert ended[0][0] is None
    assert isinstance(ended[0][1], ObjectTransferError)
    assert len(taken) == at + 1


def test_a_source_that_cancels_its_put_leaves_nothing(store, run, call):
    before = parts_of(store, call)
    uploads: list[Any] = []

    def pieces() -> Any:
        for number in range(20):
            if number == 10:
                uploads[0].cancel()
            yield bytes(1000)

    ended: list[Any] = []
    uploads.append(
        store.put("cancelled", pieces(), lambda info, error: ended.append((info, error)))
    )
    run(lambda: ended)
    assert isinstance(ended[0][1], ObjectTransferError)
    assert call(store.info, "cancelled") == (None, None)
    assert parts_of(store, call) == before


def test_a_source_that_runs_the_loop_keeps_its_order(store, js, run, call):
    """Acknowledgements come in that loop, and make room for more."""

    class Looping:
        def __init__(self) -> None:
            self.file = io.BytesIO(DATA * 10)

        def read(self, size: int) -> bytes:
            data = self.file.read(min(size, 700))
            fence: list[Any] = []
            js.nats.flush(fence.append)
            run(lambda: fence)
            return data

    assert call(store.put, "y", Looping())[1] is None
    assert call(store.get, "y") == (DATA * 10, None)


def test_a_source_may_use_its_buffer_again(store, call):
    """As `readinto` does: what a piece has is copied before the next one is asked for."""

    def pieces() -> Any:
        buffer = bytearray(300)
        for number in range(20):
            buffer[:] = bytes([number]) * 300
            yield buffer

    assert call(store.put, "y", pieces())[1] is None
    assert call(store.get, "y") == (b"".join(bytes([n]) * 300 for n in range(20)), None)


def test_a_read_that_gives_more_than_was_asked_for_fails_the_put(store, call):
    class All:
        def read(self, size: int) -> bytes:
            return DATA

    info, error = call(store.put, "y", All())
    assert info is None
    assert isinstance(error.__cause__, ValueError)


@pytest.mark.parametrize("answer", [None, True])
def test_a_writer_that_does_not_count_takes_all(store, call, answer):
    class Writer:
        data = b""

        def write(self, part: Any) -> Any:
            self.data += part
            return answer

    writer = Writer()
    assert call(store.get, "x", writer)[1] is None
    assert writer.data == DATA


@pytest.mark.parametrize("answer", [0, False, -1, 1001, "all", 1.5])
def test_a_write_whose_answer_makes_no_sense_fails_the_get(store, call, answer):
    class Writer:
        def write(self, part: Any) -> Any:
            return answer

    info, error = call(store.get, "x", Writer())
    assert info is None
    assert isinstance(error, ObjectTransferError)


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127])
def test_a_file_may_have_the_longest_name_there_is(store, call, tmp_path, name):
    assert call(store.get, "x", tmp_path / name)[1] is None
    assert (tmp_path / name).read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("limit", [100, 5000])
def test_a_full_disk_fails_the_get_and_leaves_nothing(store, call, tmp_path, limit):
    """A limit of this process's file sizes stands for the disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        info, error = call(store.get, "x", tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert info is None
    assert isinstance(error.__cause__, OSError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EXDEV, errno.EPERM, errno.EBUSY])
def test_a_file_that_cannot_be_renamed_fails_the_get_and_leaves_the_former_one(
    store, call, tmp_path, monkeypatch, code
):
    def replace(source: Any, target: Any) -> None:
        raise OSError(code, os.strerror(code), source, None, target)

    path = tmp_path / "x"
    path.write_bytes(b"former")
    monkeypatch.setattr(os, "replace", replace)
    info, error = call(store.get, "x", path)
    assert info is None
    assert error.__cause__.errno == code
    assert path.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [path]


def test_a_call_that_raises_leaves_no_file_open_and_none_behind(store, tmp_path):
    """Whatever it raises: RuntimeError, for example, in another thread than the loop's."""
    closed: list[int] = []

    class Pieces:
        def __iter__(self) -> Any:
            return self

        def __next__(self) -> bytes:
            raise StopIteration

        def close(self) -> None:
            closed.append(1)

    class Refusing(JetStream):
        def get_msg(self, stream: str, opts: Any, cb: Any) -> None:
            raise RuntimeError("not here")

    refused = ObjectStore(Refusing(store.js.nats), store.bucket)
    with pytest.raises(RuntimeError):
        refused.get("x", tmp_path / "x", print)
    with pytest.raises(RuntimeError):
        refused.put("raises", Pieces())
    assert list(tmp_path.iterdir()) == []
    assert closed == [1]
