"""`Backup`: folders of streams and accounts, as the official tools have them; nothing half-done."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from nats_ev import (
    BadOptionsError,
    JetStream,
    NatsError,
    NoRespondersError,
    NotConnectedError,
    SnapshotError,
    StreamNotFoundError,
    aio,
    blocking,
)
from nats_ev.extras import Backup, BackupError
from nats_ev.extras.backup_files import Source, Target


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def streams(js: Any, call: Any) -> JetStream:
    """A, B and M (in memory), with some messages."""
    for name in "ABM":
        storage = "memory" if name == "M" else "file"
        config = {"name": name, "subjects": [f"{name}.>"], "storage": storage}
        assert call(js.stream_create, config)[1] is None
        for number in range(30):
            js.publish_async(f"{name}.{number}", b"%d" % number, lambda ack, err: None)
    assert call(js.publish_complete) == (True, None)
    assert call(js.consumer_create, "B", {"durable_name": "d"})[1] is None
    return js  # type: ignore[no-any-return]


def test_a_stream_in_a_folder(streams: JetStream, call: Any, tmp_path: Path) -> None:
    backup, folder, seen = Backup(streams), tmp_path / "new" / "b", []
    found, err = call(backup.backup_stream, "B", folder, progress=lambda *a: seen.append(a))
    assert err is None
    assert files(folder) == ["backup.json", "stream.tar.s2"]
    assert found["bytes"] == (folder / "stream.tar.s2").stat().st_size == seen[-1][0]
    # What the official tools read: config and state, and no field of theirs means anything else.
    content = json.loads((folder / "backup.json").read_text())
    assert content["config"]["name"] == "B"
    assert content["state"]["messages"] == 30
    assert folder.stat().st_mode & 0o077 == 0
    call(streams.stream_delete, "B")
    info, err = call(backup.restore_stream, folder, config={"description": "restored"})
    assert err is None
    assert info["config"]["description"] == "restored"
    assert call(streams.consumer_names, "B") == (["d"], None)


def test_the_files_of_the_official_tools(streams: JetStream, call: Any, tmp_path: Path) -> None:
    """Theirs have no field of ours."""
    backup = Backup(streams)
    assert call(backup.backup_stream, "A", tmp_path / "A")[1] is None
    path = tmp_path / "A" / "backup.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({"config": content["config"], "state": content["state"]}))
    call(streams.stream_delete, "A")
    assert call(backup.restore_account, tmp_path) == ({"restored": ["A"], "skipped": []}, None)


def test_a_folder_that_has_a_backup(streams: JetStream, call: Any, tmp_path: Path) -> None:
    backup = Backup(streams)
    first, _ = call(backup.backup_stream, "A", tmp_path)
    with pytest.raises(FileExistsError):
        backup.backup_stream("B", tmp_path, lambda *answer: None)
    assert isinstance(
        call(backup.backup_stream, "NO", tmp_path, overwrite=True)[1], StreamNotFoundError
    )
    assert json.loads((tmp_path / "backup.json").read_text())["config"]["name"] == "A"
    second, err = call(backup.backup_stream, "B", tmp_path, overwrite=True)
    assert err is None
    assert first["sha256"] != second["sha256"]
    assert json.loads((tmp_path / "backup.json").read_text())["config"]["name"] == "B"
    assert len(files(tmp_path)) == 2


def test_a_failed_one_leaves_nothing(
    streams: JetStream, call: Any, run: Any, tmp_path: Path
) -> None:
    backup = Backup(streams)
    assert isinstance(call(backup.backup_stream, "NO", tmp_path / "x")[1], StreamNotFoundError)
    with pytest.raises(BadOptionsError):
        backup.backup_stream("a.b", tmp_path / "x", lambda *answer: None)
    got: list[Any] = []
    transfer = backup.backup_stream("A", tmp_path / "x", lambda *answer: got.append(answer))
    assert len(list((tmp_path / "x").iterdir())) == 1
    transfer.cancel()
    assert list(tmp_path.iterdir()) == [], "at once: the loop may never run again"
    run(lambda: got)
    transfer.cancel()
    assert isinstance(got[0][1], SnapshotError)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        backup.backup_stream("A", tmp_path / "file" / "x", lambda *answer: None)


def test_a_full_disk_leaves_the_former_backup(tmp_path: Path) -> None:
    """Also when only backup.json does not fit any more."""
    resource = pytest.importorskip("resource")
    former = {}
    for limit in (None, 5000, 50):
        target = Target(tmp_path, overwrite=True)
        target.write(bytes(100))
        backup = {"config": {"name": "S", "description": "x" * 10_000}, "state": {}}
        if limit is None:
            target.finish(backup)
            former = {path: path.read_bytes() for path in tmp_path.iterdir()}
            continue
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                target.finish(backup)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        target.abandon()
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == former
    abandoned = Target(tmp_path, overwrite=True)
    abandoned.abandon()
    with pytest.raises(FileNotFoundError):
        abandoned.finish({"config": {"name": "S"}, "state": {}})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == former


def test_files_are_for_their_owner_alone(streams: JetStream, call: Any, tmp_path: Path) -> None:
    """Also in a folder that others can read."""
    tmp_path.chmod(0o755)
    assert call(Backup(streams).backup_account, tmp_path)[1] is None
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(paths) >= 5
    assert [path for path in paths if path.stat().st_mode & 0o077] == []


def test_files_that_are_no_backup(streams: JetStream, call: Any, tmp_path: Path) -> None:
    backup = Backup(streams)

    def cb(result: Any, err: Any) -> None:
        raise AssertionError

    with pytest.raises(BackupError, match=r"no backup"):
        backup.restore_stream(tmp_path, cb)
    for text in ("", "[]", "{}", '{"config": {"name": 1}}', "[" * 100_000):
        (tmp_path / "backup.json").write_text(text)
        with pytest.raises(BackupError):
            backup.restore_stream(tmp_path, cb)
    assert call(backup.backup_stream, "A", tmp_path, overwrite=True)[1] is None
    with pytest.raises(BadOptionsError):
        backup.restore_stream(tmp_path, cb, config={"name": "B"})
    (tmp_path / "stream.tar.s2").write_bytes(b"x")
    with pytest.raises(BackupError, match="bytes"):
        backup.restore_stream(tmp_path, cb)
    (tmp_path / "stream.tar.s2").unlink()
    with pytest.raises(BackupError, match="incomplete"):
        backup.restore_stream(tmp_path, cb)


@pytest.mark.parametrize("name", ["../../../out", "{tmp}/out/x", "", "a\0b", "a/b", None])
def test_names_from_elsewhere_are_no_paths(
    js: Any, connected: Any, line_server: Any, call: Any, tmp_path: Path, name: str | None
) -> None:
    """A server may say anything: nothing appears outside of the folder, and the callback comes."""
    there = connected(line_server("newest"))
    config = {} if name is None else {"name": name.format(tmp=tmp_path)}
    listed = {"total": 1, "offset": 0, "limit": 256, "streams": [{"config": config, "state": {}}]}
    there.subscribe("odd.>", lambda s, p, reply, h: there.publish(reply, json.dumps(listed)))
    assert call(lambda cb: there.flush(lambda err: cb(None, err)))[1] is None
    folder = tmp_path / "a" / "b" / "c"
    _, err = call(Backup(JetStream(js.nats, prefix="odd")).backup_account, folder)
    assert isinstance(err, NatsError)
    assert {path.relative_to(folder).parts for path in folder.rglob("*")} <= {("manifest.json",)}
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
    with pytest.raises(BadOptionsError):
        Backup(js).backup_stream(name or "", tmp_path / "x", lambda *answer: None)
    assert not (tmp_path / "x").exists()


def test_a_damaged_byte_is_found(streams: JetStream, call: Any, tmp_path: Path) -> None:
    backup = Backup(streams)
    assert call(backup.backup_stream, "A", tmp_path)[1] is None
    path = tmp_path / "stream.tar.s2"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    call(streams.stream_delete, "A")
    _, err = call(backup.restore_stream, tmp_path)
    assert err is not None
    assert isinstance(call(streams.stream_info, "A")[1], StreamNotFoundError)


def test_a_damaged_copy_is_found_before_the_server_has_all(
    streams: JetStream, call: Any, tmp_path: Path
) -> None:
    """A server builds the stream when it has the last byte."""
    assert call(Backup(streams).backup_stream, "A", tmp_path)[1] is None
    path = tmp_path / "backup.json"
    content = json.loads(path.read_text())
    content["nats_ev"]["sha256"] = "0" * 64
    path.write_text(json.dumps(content))
    source = Source(tmp_path)
    pieces: list[bytes] = []
    with pytest.raises(BackupError, match="damaged"):
        pieces.extend(source.pieces())
    assert len(b"".join(pieces)) < source.size
    call(streams.stream_delete, "A")
    _, err = call(Backup(streams).restore_stream, tmp_path)
    assert isinstance(err, SnapshotError)
    assert isinstance(err.__cause__, BackupError)
    assert isinstance(call(streams.stream_info, "A")[1], StreamNotFoundError)


def test_an_account(streams: JetStream, call: Any, tmp_path: Path) -> None:
    backup, folder, seen = Backup(streams), tmp_path / "all", []
    manifest, err = call(backup.backup_account, folder, progress=lambda *a: seen.append(a[0]))
    assert err is None
    names = [each["name"] for each in manifest["streams"]]
    assert sorted([*names, *manifest["skipped"]]) == ["A", "B", "M"]
    assert set(seen) == set(names)
    assert json.loads((folder / "manifest.json").read_text())["streams"] == manifest["streams"]
    assert files(folder / "streams")[0] == "A/backup.json"
    with pytest.raises(FileExistsError):
        backup.backup_account(folder, lambda *answer: None)

    _, err = call(backup.restore_account, folder)
    assert isinstance(err, BackupError)
    assert (err.done, sorted(err.failed)) == ([], names)
    call(streams.stream_delete, "A")
    found, err = call(backup.restore_account, folder, skip_existing=True)
    assert (found["restored"], err) == (["A"], None)
    for name in names:
        call(streams.stream_delete, name)
    found, err = call(backup.restore_account, folder, config={"description": "again"})
    assert (found, err) == ({"restored": names, "skipped": []}, None)
    assert call(streams.stream_info, "B")[0]["config"]["description"] == "again"


def test_an_account_with_a_failure(streams: JetStream, call: Any, tmp_path: Path) -> None:
    """What was copied stays, what failed is named, and a restore stops and says so."""
    backup, folder = Backup(streams), tmp_path / "all"
    (tmp_path / "all").mkdir()

    # In the way of one stream's folder, when it is the turn of that.
    def block(stream: str, *args: Any) -> None:
        if stream == "A":
            (folder / "streams" / "B").write_text("")

    _, err = call(backup.backup_account, folder, progress=block)
    assert isinstance(err, BackupError)
    assert list(err.failed) == ["B"]
    assert err.done[0] == "A"
    assert list(json.loads((folder / "manifest.json").read_text())["failed"]) == ["B"]
    (folder / "streams" / "A" / "stream.tar.s2").unlink()
    with pytest.raises(BackupError, match="incomplete"):
        backup.restore_account(folder, lambda *answer: None)


def test_an_account_that_cannot_be_listed(
    js: Any, connected: Any, line_server: Any, call: Any, tmp_path: Path
) -> None:
    other = JetStream(connected(line_server("newest")), prefix="nobody")
    _, err = call(Backup(other).backup_account, tmp_path / "new")
    assert isinstance(err, NoRespondersError)
    other.nats.disconnect()
    with pytest.raises(NotConnectedError):
        Backup(other).backup_account(tmp_path / "new", lambda *answer: None)
    assert list(tmp_path.iterdir()) == []


def test_an_account_is_cancelled(streams: JetStream, call: Any, run: Any, tmp_path: Path) -> None:
    got: list[Any] = []
    transfer = Backup(streams).backup_account(
        tmp_path, lambda *answer: got.append(answer), progress=lambda *args: transfer.cancel()
    )
    run(lambda: got)
    [(manifest, err)] = got
    assert manifest is None
    assert isinstance(err, BackupError)
    assert err.done == []
    assert files(tmp_path) == ["manifest.json"]


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '{"type": "nats_ev.account_backup", "version": 2, "streams": []}',
        '{"type": "nats_ev.account_backup", "version": 1}',
        '{"type": "nats_ev.account_backup", "version": 1, "streams": [1]}',
        '{"type": "nats_ev.account_backup", "version": 1, "streams": [{"name": "../x"}]}',
        '{"type": "nats_ev.account_backup", "version": 1, "streams": [{"name": ".."}]}',
        '{"type": "nats_ev.account_backup", "version": 1, "streams": [{"name": "a\\u0000"}]}',
        '{"type": "nats_ev.account_backup", "version": 1, "streams": [{"name": "gone"}]}',
    ],
)
def test_odd_manifests(js: Any, tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(BackupError):
        Backup(js).restore_account(tmp_path, lambda *answer: None)


def test_mistakes_are_raised(js: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        Backup(js.nats)
    with pytest.raises(TypeError):
        Backup(js).backup_account(tmp_path, None)  # type: ignore[arg-type]
    with pytest.raises(BackupError):
        Backup(js).restore_account(tmp_path, lambda *answer: None)
    with pytest.raises(BadOptionsError):
        Backup(js).restore_account(tmp_path, lambda *answer: None, config={"name": "A"})
    with pytest.raises(BadOptionsError):
        Backup(js).backup_account(tmp_path / "new", lambda *answer: None, timeout=-1)
    assert list(tmp_path.iterdir()) == []


def test_in_the_faces(streams: JetStream, line_server: Any, tmp_path: Path) -> None:
    url = line_server("newest").url
    with blocking.connect(url) as nc:
        backup = blocking.Backup(nc.jetstream())
        assert backup.backup_stream("A", tmp_path / "one")["state"]["messages"] == 30
        with pytest.raises(StreamNotFoundError):
            backup.backup_stream("NO", tmp_path / "two")

    async def ask() -> Any:
        async with aio.connect(url) as nc:
            js = nc.jetstream()
            await js.stream_delete("A")
            task = asyncio.ensure_future(aio.Backup(js).backup_stream("B", tmp_path / "no"))
            await asyncio.sleep(0)
            assert (tmp_path / "no").exists()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not (tmp_path / "no").exists()
            return await aio.Backup(js).restore_stream(tmp_path / "one")

    assert asyncio.run(ask())["state"]["messages"] == 30
