"""`Backup`: streams and whole accounts, copied into folders and created again from them.

A folder has what the official tools write and read (``nats stream backup``, ``nats account restore``), so
either can restore what the other has copied.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict

from ..arguments import (
    Callback,
    Milliseconds,
    ResultCallback,
    callable_or_none,
    check_object,
    check_result_cb,
    milliseconds,
)
from ..errors import BadOptionsError, ConnectionClosedError, ConnectionLostError, NatsError
from ..jetstream import (
    APIError,
    JetStream,
    SnapshotError,
    StreamBackup,
    StreamNotFoundError,
    name_of,
)
from ..steps import later_step
from .backup_files import (
    MANIFEST,
    STREAMS,
    BackupError,
    Source,
    Target,
    manifest_text,
    sources_in,
    write_json,
)

__all__ = ["Backup", "BackupError", "Transfer"]

Folder = str | os.PathLike[str]
BackupProgress = Callable[[int, "int | None"], object]
# Called as progress(stream, bytes, bytes in all or None).
AccountProgress = Callable[[str, int, "int | None"], object]


class StreamCopy(StreamBackup):
    """The result of `Backup.backup_stream`."""

    bytes: int
    sha256: str


class CopiedStream(TypedDict):
    """A stream in a manifest."""

    name: str
    bytes: int
    sha256: str
    messages: int
    last_seq: int


class Manifest(TypedDict):
    """What an account's backup has: skipped has the reasons, by stream."""

    streams: list[CopiedStream]
    skipped: dict[str, str]
    failed: dict[str, str]


class Restored(TypedDict):
    """The result of `Backup.restore_account`, names of streams."""

    restored: list[str]
    skipped: list[str]


class Transfer:
    """A backup or restore that is under way.

    Attributes: `stream`, the name of the stream that is copied now; `done`, whether it has ended.
    """

    def __init__(self, stream: str = "") -> None:
        self.stream = stream
        self.done = False
        self._running: Any = None  # what `JetStream` has returned
        self._cancelled = False
        self._abandon: Callable[[], object] = _nothing

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.stream} {'done' if self.done else 'running'}>"

    def cancel(self) -> None:
        """Stop; the callback gets `SnapshotError`, or `BackupError` for an account, on the loop.

        A backup removes the files of the stream that was under way. A restore leaves what it has restored;
        the server discards the rest. Does nothing at the end.
        """
        if not self.done:
            self._cancelled = True
            if self._running is not None:
                self._running.cancel()
            self._abandon()  # now: the loop of a program that is interrupted may never run again


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _nothing() -> None:
    """Do nothing: there is no file to abandon."""


class Backup:
    """Copies streams into folders, and creates them again: one stream, or all of an account.

    A folder for one stream has ``backup.json`` and ``stream.tar.s2``. A folder for an account has
    ``manifest.json``, and in ``streams`` a folder for each stream; ``nats account restore`` takes that one.
    Files appear when their content is complete. They hold all messages: they are created for their owner
    alone, and nothing in them is encrypted.

    Args:
        js: the JetStream; with its domain or prefix.

    Raises:
        TypeError: js is not a `JetStream`.
    """

    def __init__(self, js: JetStream) -> None:
        check_object(js, "stream_info", "js must be a JetStream")
        self.js = js

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.js!r}>"

    def backup_stream(
        self,
        stream: str,
        folder: Folder,
        cb: ResultCallback[StreamCopy],
        *,
        consumers: bool = True,
        check: bool = False,
        overwrite: bool = False,
        timeout: Milliseconds = 30_000,
        progress: BackupProgress | None = None,
    ) -> Transfer:
        """Copy a stream into a folder; ``cb({"config", "state", "bytes", "sha256"}, err)``.

        Args:
            stream: the stream's name.
            folder: is created if it does not exist.
            cb: gets an error as of `JetStream.stream_snapshot`, a `SnapshotError` for one of the file. The
                folder is as before, then.
            consumers: copy the consumers, too.
            check: let the server check all messages before.
            overwrite: replace a backup that the folder has, when the new one is complete.
            timeout: for each step, in ms or a timedelta; 0: no limit.
            progress: ``progress(bytes, about)``, as in `JetStream.stream_snapshot`.

        Returns:
            A `Transfer`, which can be cancelled.

        Raises:
            FileExistsError: the folder has a backup, and overwrite is false.
            OSError: the file can't be created.
            NatsError: what `JetStream.stream_snapshot` raises.
        """
        check_result_cb(cb)
        name_of("stream", stream)  # before it creates anything
        transfer = Transfer(stream)
        target = Target(Path(folder), overwrite)
        transfer._abandon = target.abandon

        def copied(backup: Any, error: NatsError | None) -> None:
            transfer.done = True
            found: Any = None
            if backup is not None:
                try:
                    found = {**backup, **target.finish(backup)}
                except OSError as exc:
                    error = SnapshotError(f"the backup can't be completed: {exc}", stream=stream)
                    error.__cause__ = exc
            if found is None:
                target.abandon()
            cb(found, error)

        try:
            transfer._running = self.js.stream_snapshot(
                stream, target, copied, consumers=consumers, check=check, timeout=timeout,
                progress=progress,
            )  # fmt: skip
        except BaseException:
            target.abandon()
            raise
        return transfer

    def restore_stream(
        self,
        folder: Folder,
        cb: ResultCallback[Any],
        *,
        config: Mapping[str, Any] | None = None,
        timeout: Milliseconds = 30_000,
        progress: BackupProgress | None = None,
    ) -> Transfer:
        """Create a stream from a folder; ``cb(info, err)``.

        The server may be of a newer line than the one that has made the copy. Servers before 2.15 can't read
        copies of 2.15 and later.

        Args:
            folder: that of `backup_stream`, or of the official tools.
            cb: gets an error as of `JetStream.stream_restore`. The stream does not exist, then, unless it
                existed before; nothing is deleted.
            config: fields that replace those of the copy, such as ``{"num_replicas": 1}``; not the name.
            timeout: for each step, in ms or a timedelta; 0: no limit.
            progress: ``progress(bytes, total)``.

        Returns:
            A `Transfer`, which can be cancelled.

        Raises:
            BackupError: the folder has no backup, or a damaged one.
            BadOptionsError: config has another name.
            OSError: a file can't be read.
            NatsError: what `JetStream.stream_restore` raises.
        """
        check_result_cb(cb)
        source = Source(Path(folder))
        transfer = Transfer(source.name)

        def restored(info: Any, error: NatsError | None) -> None:
            transfer.done = True
            cb(info, error)

        transfer._running = self._restore(source, config, timeout, progress, restored)
        return transfer

    def _restore(
        self, source: Source, config: Any, timeout: Any, progress: Any, cb: Callback
    ) -> Any:
        whole = {**source.backup["config"], **(config or {})}
        if whole["name"] != source.name:
            raise BadOptionsError("a restored stream keeps its name")
        backup: Any = {**source.backup, "config": whole}
        return self.js.stream_restore(
            backup, source.pieces(), cb, timeout=timeout, progress=progress, total=source.size
        )

    def backup_account(
        self,
        folder: Folder,
        cb: ResultCallback[Manifest],
        *,
        consumers: bool = True,
        check: bool = False,
        timeout: Milliseconds = 30_000,
        progress: AccountProgress | None = None,
    ) -> Transfer:
        """Copy all streams of the account, one after the other; ``cb(manifest, err)``.

        Each stream is copied at a moment of its own. Buckets and object stores are streams. Streams in
        memory that the server can't copy are skipped, and so are streams that are deleted meanwhile.

        Args:
            folder: must not have a backup.
            cb: manifest has streams, skipped and failed. err: `BackupError` if a stream could not be copied;
                the copies of the others stay, and the manifest in the folder names those that are missing.
            consumers, check, timeout: as in `backup_stream`.
            progress: ``progress(stream, bytes, about)``.

        Returns:
            A `Transfer`, which can be cancelled.

        Raises:
            FileExistsError: the folder has the backup of an account.
            OSError: the folder can't be created.
            NatsError: what `JetStream.stream_list` raises.
        """
        check_result_cb(cb)
        options = {"consumers": consumers, "check": check, "timeout": timeout}
        milliseconds(timeout, "timeout")
        path = Path(folder)
        if (path / MANIFEST).exists() or (path / STREAMS).exists():
            raise FileExistsError(f"{path} has a backup already")
        call = callable_or_none(progress, "progress")
        is_new = not path.is_dir()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

        def listed(found: Any, error: NatsError | None) -> None:
            if found is None and is_new:
                _remove_empty(path)
            job.begin(found, error)

        job = _AccountBackup(self, path, options, call, cb)
        try:
            self.js.stream_list(cb=listed)
        except BaseException:
            if is_new:
                _remove_empty(path)
            raise
        return job

    def restore_account(
        self,
        folder: Folder,
        cb: ResultCallback[Restored],
        *,
        config: Mapping[str, Any] | None = None,
        skip_existing: bool = False,
        timeout: Milliseconds = 30_000,
        progress: AccountProgress | None = None,
    ) -> Transfer:
        """Create all streams of an account's backup, one after the other; ``cb({"restored", …}, err)``.

        Nothing begins if one of the streams exists, or if a file is missing. The first failure ends the
        restore; the streams that were restored before stay.

        Args:
            folder: that of `backup_account`, or of ``nats account backup``.
            cb: err: `BackupError`, whose `done` and `failed` say what has happened; or as for `stream_names`.
            config: fields that replace those of each stream, such as ``{"num_replicas": 1}``.
            skip_existing: leave streams alone that exist.
            timeout: for each step, in ms or a timedelta; 0: no limit.
            progress: ``progress(stream, bytes, total)``.

        Returns:
            A `Transfer`, which can be cancelled.

        Raises:
            BackupError: the folder has no backup, or an incomplete one.
            BadOptionsError: config has a name.
            OSError: a file can't be read.
            NatsError: what `JetStream.stream_names` raises.
        """
        check_result_cb(cb)
        if config and "name" in config:
            raise BadOptionsError("restored streams keep their names")
        milliseconds(timeout, "timeout")
        sources = sources_in(Path(folder))
        call = callable_or_none(progress, "progress")
        job = _AccountRestore(self, sources, config, skip_existing, timeout, call, cb)
        self.js.stream_names(cb=job.begin)
        return job


class _Account(Transfer):
    """What the two jobs with several streams share: one after the other."""

    def __init__(self, backup: Backup, progress: AccountProgress | None, cb: Callback) -> None:
        super().__init__()
        self._backup = backup
        self._progress = progress
        self._cb = cb
        self._left: list[Any] = []
        self._failed: dict[str, str] = {}
        self._cause: NatsError | None = None

    def _next(self) -> None:
        """Begin with the next stream, or end."""
        self._running = None
        if self._cancelled and self._left:
            self._left.clear()
            self._failed.setdefault("", "it was cancelled")
        if not self._left:
            self.done = True
            self._finish()
            return
        try:
            self._running = later_step(self._begin_one, self._left.pop(0))
        except Exception as exc:  # an odd name or configuration, too: the callback must come
            error = exc if isinstance(exc, NatsError) else BackupError(str(exc))
            self._backup.js.nats.call_soon(self._ended, None, error)

    def _begin_one(self, item: Any) -> Any:
        raise NotImplementedError

    def _ended(self, result: Any, error: NatsError | None) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        raise NotImplementedError

    def _shown(self, count: int, total: int | None) -> None:
        if self._progress is not None:
            self._progress(self.stream, count, total)

    def _fail(self, error: NatsError) -> None:
        self._failed[self.stream] = str(error)
        self._cause = self._cause or error

    def _error(self, what: str, done: list[str]) -> BackupError:
        reasons = "; ".join(
            f"{name}: {reason}" if name else reason for name, reason in self._failed.items()
        )
        text = f"{what}: {reasons} ({len(done)} streams were done, and stay)"
        error = BackupError(text, done=done, failed=self._failed)
        error.__cause__ = self._cause
        return error


class _AccountBackup(_Account):
    """A backup of all streams."""

    def __init__(
        self,
        backup: Backup,
        folder: Path,
        options: dict[str, Any],
        progress: AccountProgress | None,
        cb: Callback,
    ) -> None:
        super().__init__(backup, progress, cb)
        self._folder = folder
        self._options = options
        self._streams: list[CopiedStream] = []
        self._skipped: dict[str, str] = {}
        self._in_memory: set[str] = set()

    def begin(self, listed: Any, error: NatsError | None) -> None:
        """Take the list of streams."""
        if listed is None:
            self.done = True
            self._cb(None, error)
            return
        for name in listed.get("missing", ()):
            self._failed[str(name)] = "its servers have not answered"
        for info in listed["streams"]:
            name = info["config"].get("name", "")
            self._left.append(name)
            if info["config"].get("storage") == "memory":
                self._in_memory.add(name)
        self._next()

    def _begin_one(self, item: str) -> Any:
        self.stream = item
        name_of("stream", item)  # it becomes that of a folder, and comes from elsewhere
        return self._backup.backup_stream(
            item, self._folder / STREAMS / item, self._ended, progress=self._shown, **self._options
        )

    def _ended(self, result: Any, error: NatsError | None) -> None:
        if isinstance(error, StreamNotFoundError):
            self._skipped[self.stream] = "it was deleted meanwhile"
        elif isinstance(error, APIError) and self.stream in self._in_memory:
            self._skipped[self.stream] = f"it is in memory: {error.description}"
        elif error is not None:
            self._fail(error)
            if isinstance(error, (ConnectionLostError, ConnectionClosedError)):
                self._failed.update(dict.fromkeys(self._left, str(error)))
                self._left.clear()
        else:
            state = result["state"]
            self._streams.append(
                {
                    "name": self.stream,
                    "bytes": result["bytes"],
                    "sha256": result["sha256"],
                    "messages": state.get("messages", 0),
                    "last_seq": state.get("last_seq", 0),
                }
            )
        self._next()

    def _finish(self) -> None:
        manifest: Manifest = {
            "streams": self._streams,
            "skipped": self._skipped,
            "failed": self._failed,
        }
        try:
            write_json(self._folder / MANIFEST, manifest_text(manifest))
        except OSError as exc:
            self._failed[""] = f"the manifest can't be written: {exc}"
        if self._failed:
            done = [each["name"] for each in self._streams]
            self._cb(None, self._error("the backup is incomplete", done))
        else:
            self._cb(manifest, None)


class _AccountRestore(_Account):
    """A restore of all streams."""

    def __init__(
        self,
        backup: Backup,
        sources: list[Source],
        config: Mapping[str, Any] | None,
        skip_existing: bool,
        timeout: Milliseconds,
        progress: AccountProgress | None,
        cb: Callback,
    ) -> None:
        super().__init__(backup, progress, cb)
        self._left = sources
        self._config = config
        self._skip = skip_existing
        self._timeout = timeout
        self._restored: list[str] = []
        self._skipped: list[str] = []

    def begin(self, names: Any, error: NatsError | None) -> None:
        """Take the names of the streams that exist."""
        if names is None:
            self.done = True
            self._cb(None, error)
            return
        taken = set(names)
        self._skipped = [each.name for each in self._left if each.name in taken]
        if self._skipped and not self._skip:
            self._failed = dict.fromkeys(self._skipped, "the stream exists already")
            self._left.clear()
        self._left = [each for each in self._left if each.name not in taken]
        self._next()

    def _begin_one(self, item: Source) -> Any:
        self.stream = item.name
        return self._backup._restore(item, self._config, self._timeout, self._shown, self._ended)

    def _ended(self, result: Any, error: NatsError | None) -> None:
        if error is not None:
            self._fail(error)
            self._left.clear()
        else:
            self._restored.append(self.stream)
        self._next()

    def _finish(self) -> None:
        if self._failed:
            self._cb(None, self._error("the account is not restored", self._restored))
        else:
            self._cb({"restored": self._restored, "skipped": self._skipped}, None)
