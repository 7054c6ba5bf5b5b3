"""Sinks: where a downloaded object's content goes. One class for each kind of target that `get` takes.

An `ObjectReader` calls `begin` when it knows the object, `write` for each part, then `finish`, `abandon` or
`reject`, once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import re
import stat
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, cast

from ..errors import BadOptionsError

Destination = os.PathLike[Any] | BinaryIO | Callable[[bytes], object]
Into = Destination | None


# How the name of a file ends that a later get goes on with; before that is the content's nuid.
_RESUMABLE = b".resume"
_NUID = re.compile(rb"[A-Za-z0-9_-]+")
# Bytes of a file's name in the name of the hidden file beside it.
_NAME_SHOWN = 100


class Sink:
    """Takes the content of one object."""

    def begin(self, info: Mapping[str, Any]) -> int:
        """Begin; return how many bytes of this object an earlier get has left. May raise, as `write`."""
        return 0

    def read(self, at: int, most: int) -> bytes:
        """Return bytes that `begin` has counted; fewer than most only if there are no more."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Take the next part. Whatever this raises ends the get."""
        raise NotImplementedError

    def finish(self) -> Any:
        """End: the content is complete and checked. Return the get's result; None means the object's info."""
        return None

    def abandon(self) -> None:
        """End without the object: the get has failed. Must not raise."""

    def reject(self) -> None:
        """End without the object: what has come is not its content. Must not raise."""
        self.abandon()


class BytesSink(Sink):
    """Keeps the content in memory; the get's result is bytes.

    A `BytesIO` grows in place and gives its bytes away without a copy. A list of parts to join would need the
    memory twice, and the kernel would have to clear all of it.
    """

    def __init__(self) -> None:
        self._buffer = io.BytesIO()

    def write(self, data: bytes) -> None:
        """See `Sink`."""
        self._buffer.write(data)

    def finish(self) -> bytes:
        """Return the content, and keep nothing of it: it may have gigabytes."""
        buffer, self._buffer = self._buffer, io.BytesIO()
        return buffer.getvalue()

    def abandon(self) -> None:
        """See `Sink`."""
        self._buffer = io.BytesIO()


class CallbackSink(Sink):
    """Passes the parts to a callback."""

    def __init__(self, callback: Callable[[bytes], object]) -> None:
        self._callback = callback

    def write(self, data: bytes) -> None:
        """See `Sink`."""
        self._callback(data)


class WriterSink(Sink):
    """Writes the parts to a file that the user has opened."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes) -> None:
        """See `Sink`. A raw file may take less than it is given: the rest is written after that."""
        left = memoryview(data)
        while left:
            taken: Any = self._file.write(left)
            if taken is True or (taken is None and not isinstance(self._file, io.RawIOBase)):
                return  # a writer that does not count takes all
            if not taken:
                raise BlockingIOError(errno.EAGAIN, "a non-blocking file takes nothing now")
            if not 0 < taken <= len(left):
                raise ValueError(f"write() took {taken} of {len(left)} bytes")
            left = left[taken:]


class FileSink(Sink):
    """Writes a file. Until the object is complete the file has its former content, or does not exist.

    The parts go into a hidden file of the same folder, which `finish` renames. Nobody else may read that one.
    The file keeps the mode that it has, and its owner if the process may set that; a new file has the mode
    that the umask leaves. A symbolic link stays, and the file that it leads to changes. What is not a
    regular file is never replaced.
    """

    def __init__(self, path: os.PathLike[Any]) -> None:
        self._path = os.path.realpath(path)
        self._former = _stat_regular(self._path)
        self._partial = self._hidden(b"%d-%x.part" % (os.getpid(), id(self)))
        # Made with the umask's mode, which can't be asked for otherwise without changing it.
        file = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._mode = stat.S_IMODE((self._former or os.fstat(file)).st_mode)
        os.fchmod(file, 0o600)
        self._file = os.fdopen(file, "wb")

    def _hidden(self, ending: bytes) -> bytes:
        """Return the path of a hidden file beside the file."""
        folder, name = os.path.split(os.fsencode(self._path))
        # Shortened: the file's own name may be as long as names can be.
        return os.path.join(folder, b".%b.%b" % (name[:_NAME_SHOWN], ending))

    def write(self, data: bytes) -> None:
        """See `Sink`."""
        self._file.write(data)

    def finish(self) -> None:
        """See `Sink`."""
        if self._former is not None:
            with contextlib.suppress(OSError):  # only root may give a file away
                os.fchown(self._file.fileno(), self._former.st_uid, self._former.st_gid)
        os.fchmod(self._file.fileno(), self._mode)
        self._file.close()
        _stat_regular(self._path)  # also not one that has come meanwhile
        os.replace(self._partial, self._path)

    def abandon(self) -> None:
        """See `Sink`."""
        self._close()
        with contextlib.suppress(OSError):
            os.unlink(self._partial)

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()  # writes what is left: on a full disk that fails, too


class ResumingFileSink(FileSink):
    """Writes a file, and goes on where an earlier get, in this process or another one, has stopped.

    The hidden file stays after a failure. Its name has the nuid of the object's content, so it is never taken
    for a part of another content; hidden files of other contents are removed. A lock keeps two gets of the
    same content and file apart; the system removes the lock with its process.
    """

    def __init__(self, path: os.PathLike[Any]) -> None:
        super().__init__(path)  # shows whether the file can be created, and with which mode
        super().abandon()

    def begin(self, info: Mapping[str, Any]) -> int:
        """See `Sink`."""
        ending = b"%b%b" % (os.fsencode(info["nuid"]), _RESUMABLE)
        self._partial = self._hidden(ending)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(self._partial, flags, 0o600)
        self._file = os.fdopen(file, "wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise BlockingIOError(
                errno.EWOULDBLOCK, "another get writes this file", os.fsdecode(self._partial)
            ) from None
        self._remove_others(os.path.basename(self._partial), len(ending))
        size = os.fstat(file).st_size
        if size > info["size"]:
            size = 0
            os.ftruncate(file, 0)
        os.lseek(file, size, os.SEEK_SET)
        return size

    def _remove_others(self, own: bytes, length: int) -> None:
        """Remove what there is of other contents, and what no process has locked."""
        folder = os.path.dirname(self._partial)
        for name in os.listdir(folder):
            if (
                name != own
                and name[: len(own) - length] == own[: len(own) - length]
                and name.endswith(_RESUMABLE)
                and _NUID.fullmatch(name[len(own) - length : -len(_RESUMABLE)])
            ):
                with contextlib.suppress(OSError):
                    file = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_CLOEXEC)
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        os.unlink(os.path.join(folder, name))
                    finally:
                        os.close(file)

    def read(self, at: int, most: int) -> bytes:
        """See `Sink`."""
        return os.pread(self._file.fileno(), most, at)

    def abandon(self) -> None:
        """See `Sink`. What has come stays, for the next get."""
        self._close()

    def reject(self) -> None:
        """See `Sink`."""
        super().abandon()


def sink_of(into: Into, resume: bool = False) -> Sink:
    """Return the sink for the arguments into and resume of a get.

    Raises TypeError for what can't take content, OSError for a file that can't be created, and
    `BadOptionsError` for resume without a file's path.
    """
    if resume and not isinstance(into, os.PathLike):
        raise BadOptionsError("resume needs the path of a file, as a pathlib.Path")
    if into is None:
        return BytesSink()
    if isinstance(into, os.PathLike):
        return ResumingFileSink(into) if resume else FileSink(into)
    if callable(getattr(into, "write", None)):
        return WriterSink(cast(BinaryIO, into))
    if not callable(into):
        hint = ": name a file by a pathlib.Path" if isinstance(into, str) else ""
        raise TypeError(f"an object's content can't go into {type(into).__name__}{hint}")
    return CallbackSink(into)


def _stat_regular(path: Any) -> os.stat_result | None:
    """Return what is known of a file, None if it does not exist. Raises OSError if it is not regular."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)
    return found
