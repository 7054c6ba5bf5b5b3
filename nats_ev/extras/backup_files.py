"""The files of a backup, as the official tools have them: ``backup.json`` and ``stream.tar.s2``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import NatsError
from ..nuid import next_nuid

__all__ = ["BackupError"]

CONFIG, DATA, MANIFEST, STREAMS = "backup.json", "stream.tar.s2", "manifest.json", "streams"
# The field of backup.json with what only this package knows; other tools leave it alone.
_OWN = "nats_ev"
_FORMAT = "nats_ev.account_backup"
_SLICE = 128 * 1024
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class BackupError(NatsError):
    """Files are no backup, or are damaged; or a backup or restore of an account has failed for some streams.

    `done` lists the streams that were copied or restored, `failed` has the reason for each other one that
    was tried. What was done stays.

    What to do: look at the text and at `failed`. Restore into an account without streams of these names, or
    with ``skip_existing=True`` to go on after a restore that has failed half-way.
    """

    text = "backup failed"
    done: list[str]
    failed: dict[str, str]

    def __init__(self, text: str = "", **data: Any) -> None:
        super().__init__(text, **{"done": [], "failed": {}, **data})


def has_backup(folder: Path) -> bool:
    """Return whether a folder has the files of a stream."""
    return (folder / CONFIG).exists() or (folder / DATA).exists()


class Target:
    """Where a copy is written: files without their final names, until all of it is there.

    Args:
        folder: is created, if need be, for its owner alone.
        overwrite: replace a backup that the folder has.

    Raises:
        FileExistsError: the folder has a backup, and overwrite is false.
        OSError: the folder or the file can't be created.
    """

    def __init__(self, folder: Path, overwrite: bool) -> None:
        if has_backup(folder) and not overwrite:
            raise FileExistsError(f"{folder} has a backup already")
        self.bytes = 0
        self._sha = hashlib.sha256()
        self._folder = folder
        self._is_new = not folder.is_dir()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._part = folder / f".{DATA}.{next_nuid()}.part"
        try:
            self._file = os.fdopen(os.open(self._part, _NEW_FILE, 0o600), "wb")
        except BaseException:
            self._remove_folder()
            raise

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self._file.write(data)
        self._sha.update(data)
        self.bytes += len(data)

    def finish(self, backup: Mapping[str, Any]) -> dict[str, Any]:
        """Give the files their names. Return what is known of the copy. Raises OSError."""
        self._file.close()
        found = {"bytes": self.bytes, "sha256": self._sha.hexdigest()}
        config = self._folder / CONFIG
        # All is written before the former backup goes: a full disk leaves that one.
        part = _write_part(config, json.dumps({**backup, _OWN: found}, indent=2))
        try:
            self._part.stat()  # raises if the copy was abandoned
            # The folder has a backup as long as it has this file: it comes last.
            config.unlink(missing_ok=True)
            os.replace(self._part, self._folder / DATA)
            os.replace(part, config)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return found

    def abandon(self) -> None:
        """Remove what was written, and the folder if it was created for this."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._is_new:
            with contextlib.suppress(OSError):  # somebody else uses it
                self._folder.rmdir()


def write_json(path: Path, text: str) -> None:
    """Write a small file that has all of its content, or does not exist. Raises OSError."""
    part = _write_part(path, text)
    try:
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _write_part(path: Path, text: str) -> Path:
    """Write a file that will get the name path, for its owner alone, and return its name until then."""
    part = path.parent / f".{path.name}.{next_nuid()}.part"
    descriptor = os.open(part, _NEW_FILE, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return part


class Source:
    """The files of one stream. `backup` is what a restore needs.

    Raises:
        BackupError: the folder has no backup, or backup.json is none.
        OSError: a file can't be read.
    """

    def __init__(self, folder: Path) -> None:
        self._data = folder / DATA
        found = read_json(folder / CONFIG)
        config = found.get("config")
        if not isinstance(config, dict) or not isinstance(config.get("name"), str):
            raise BackupError(f"{folder / CONFIG} has no configuration of a stream")
        if not self._data.is_file():
            raise BackupError(f"{folder} has no {DATA}: the backup is incomplete")
        state = found.get("state")
        self.backup: dict[str, Any] = {
            "config": config,
            "state": state if isinstance(state, dict) else {},
        }
        own = found.get(_OWN)
        self._own: dict[str, Any] = own if isinstance(own, dict) else {}
        self.size = self._data.stat().st_size
        wanted = self._own.get("bytes", self.size)
        if wanted != self.size:
            raise BackupError(f"{self._data} has {self.size} bytes, and should have {wanted}")

    @property
    def name(self) -> str:
        """The stream's name."""
        return str(self.backup["config"]["name"])

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes. Raises `BackupError` at the end if they are not those that were written.

        That is before the last piece: a server that has it builds the stream.
        """
        sha = hashlib.sha256()
        last = b""
        with self._data.open("rb") as file:
            while piece := file.read(_SLICE):
                sha.update(piece)
                if last:
                    yield last
                last = piece
        wanted = self._own.get("sha256")
        if wanted is not None and sha.hexdigest() != wanted:
            raise BackupError(f"{self._data} is damaged: its SHA-256 is another one")
        if last:
            yield last


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file. Raises `BackupError`."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BackupError(f"{path.parent} is no backup: it has no {path.name}") from None
    except (ValueError, RecursionError) as exc:
        raise BackupError(f"{path} is not JSON: {exc}") from None
    if not isinstance(found, dict):
        raise BackupError(f"{path} is not a JSON object")
    return found


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """Return the content of an account's manifest."""
    return json.dumps({"type": _FORMAT, "version": 1, **manifest}, indent=2)


def sources_in(folder: Path) -> list[Source]:
    """Return the streams of an account's backup: ours, or that of the official tools.

    Raises:
        BackupError: the folder is none, or the manifest names a stream that is missing.
        OSError: a file can't be read.
    """
    if (folder / MANIFEST).exists():
        manifest = read_json(folder / MANIFEST)
        if manifest.get("type") != _FORMAT or manifest.get("version") != 1:
            raise BackupError(f"{folder / MANIFEST} is not of this version")
        listed = manifest.get("streams")
        if not isinstance(listed, list):
            raise BackupError(f"{folder / MANIFEST} lists no streams")
        names = [each.get("name") if isinstance(each, dict) else None for each in listed]
        for name in names:
            if (
                not isinstance(name, str)
                or not name
                or name in (".", "..")
                or set(name) & set("/\0")
            ):
                raise BackupError(f"{folder / MANIFEST} has a bad name: {name!r}")
        folders = [folder / STREAMS / str(name) for name in names]
    else:
        if not folder.is_dir():
            raise BackupError(f"{folder} is no folder")
        folders = sorted(each for each in folder.iterdir() if (each / CONFIG).is_file())
        if not folders:
            raise BackupError(f"{folder} has no backups of streams")
    return [Source(each) for each in folders]
