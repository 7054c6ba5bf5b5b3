"""Sources: where an uploaded object's content comes from. One class for each kind of data that `put` takes.

An `ObjectWriter` calls `next` when it has room for another part, then `close` once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, cast

from ..arguments import payload_bytes
from ..errors import BadOptionsError

Data = (
    bytes | bytearray | memoryview | str | os.PathLike[Any] | BinaryIO | Iterable[bytes]
    | Callable[[], bytes | None] | None
)  # fmt: skip


_END: Any = object()
# Bytes of a state file that are read: a name may have a megabyte.
_MOST_STATE = 4 * 1024 * 1024
# How a text begins that may have been meant as a file's name.
_PATHS = ("/", "./", "../")


class Source:
    """Gives the content of one object in parts of chunk_size bytes; only the last one may be shorter."""

    total: int | None = None  # bytes, where known

    def __init__(self, chunk_size: int) -> None:
        self.chunk_size = chunk_size

    def next(self) -> bytes:
        """Return the next part, b"" at the end. Whatever this raises ends the put."""
        raise NotImplementedError

    def close(self) -> None:
        """Release what the source holds: no part is wanted any more."""

    def stat(self) -> list[int]:
        """Return what shows whether a file has changed."""
        return []


class BytesSource(Source):
    """Reads from memory."""

    def __init__(self, data: bytes, chunk_size: int) -> None:
        super().__init__(chunk_size)
        self._view = memoryview(data)
        self._at = 0
        self.total = len(data)

    def next(self) -> bytes:
        """See `Source`."""
        start, self._at = self._at, self._at + self.chunk_size
        return bytes(self._view[start : self._at])

    def close(self) -> None:
        """See `Source`."""
        self._view = memoryview(b"")


class FileSource(Source):
    """Reads a binary file from its present position to its end."""

    def __init__(self, file: BinaryIO, chunk_size: int, *, owned: bool) -> None:
        super().__init__(chunk_size)
        self._file = file
        self._owned = owned
        try:
            self.total = max(0, os.fstat(file.fileno()).st_size - file.tell())
        except (OSError, AttributeError, ValueError):  # not a file of the system, or a pipe
            self.total = None

    def next(self) -> bytes:
        """See `Source`."""
        pieces: list[bytes] = []
        missing = self.chunk_size
        while missing:
            piece = self._file.read(missing)
            if piece is None:  # not the end: taking it for that would store a part as the whole
                raise BlockingIOError(errno.EAGAIN, "a non-blocking file has nothing to read now")
            if not piece:
                break
            if not isinstance(piece, bytes):
                raise TypeError(f"read() gave {type(piece).__name__}, not bytes")
            if len(piece) > missing:
                raise ValueError(f"read({missing}) gave {len(piece)} bytes")
            pieces.append(piece)
            missing -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """See `Source`."""
        if self._owned:
            self._file.close()

    def stat(self) -> list[int]:
        """See `Source`."""
        found = os.fstat(self._file.fileno())
        return [found.st_size, found.st_mtime_ns, found.st_ino]


class IterableSource(Source):
    """Reads pieces of any size, one after the other."""

    def __init__(self, pieces: Iterator[bytes], chunk_size: int) -> None:
        super().__init__(chunk_size)
        self._pieces = pieces
        self._rest = memoryview(b"")

    def next(self) -> bytes:
        """See `Source`."""
        chunk = bytearray()  # no list: of pieces of one byte it would take 50 MB
        while (missing := self.chunk_size - len(chunk)) > 0:
            if not self._rest:
                piece = next(self._pieces, _END)
                if piece is _END:
                    break
                self._rest = memoryview(piece).cast("B")
            chunk += self._rest[:missing]
            self._rest = self._rest[missing:]
        return bytes(chunk)

    def close(self) -> None:
        """See `Source`."""
        pieces, self._pieces = self._pieces, iter(())
        self._rest = memoryview(b"")
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


class UploadState:
    """The file that lets a later put, of any process, go on with an upload: which one, and of which file.

    Its first line is JSON. A lock keeps two puts with one state file apart; the system removes the lock with
    its process.
    """

    def __init__(self, path: os.PathLike[Any], **upload: Any) -> None:
        """Open the file, or create it.

        Args:
            path: the file's.
            upload: what the state must be of: bucket and name.

        Raises:
            OSError: the file can't be opened or created, or another put has it.
            BadOptionsError: the file is something else, or the state of another upload.
        """
        self._path = os.path.abspath(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.fdopen(os.open(self._path, flags, 0o600), "r+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            line = self._file.read(_MOST_STATE).partition(b"\n")[0]
            self.fields = _state_of(line, upload, self._path)
        except BlockingIOError:
            self._file.close()
            raise BlockingIOError(
                errno.EWOULDBLOCK, "another put uses this file", self._path
            ) from None
        except BaseException:
            self._file.close()
            raise

    def write(self, **fields: Any) -> None:
        """Change the state. A process that is killed meanwhile leaves the former one or this one."""
        self.fields.update(fields)
        os.pwrite(self._file.fileno(), json.dumps(self.fields).encode() + b"\n", 0)

    def keep(self) -> None:
        """Close the file, for a later put."""
        self._file.close()

    def remove(self) -> None:
        """Remove the file: the upload has ended."""
        if not self._file.closed:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            self._file.close()


def _state_of(line: bytes, upload: Mapping[str, Any], path: str) -> dict[str, Any]:
    if not line:
        return dict(upload)
    try:
        fields = json.loads(line)
        known = {name: fields[name] for name in upload}
        fields["nuid"], fields["chunk_size"], fields["file"]
    except (ValueError, TypeError, KeyError):
        raise BadOptionsError(f"{path} is not the state of an upload") from None
    if known != upload:
        raise BadOptionsError(f"{path} is the state of another upload: {known}")
    found: dict[str, Any] = fields
    return found


def source_of(data: Data, chunk_size: int) -> Source:
    """Return the source for the argument data of a put.

    Raises TypeError for what can't be content, and OSError for a file that can't be opened.
    """
    if isinstance(data, str) and data.startswith(_PATHS) and _is_file(data):
        text = (
            f"the text {data!r} is stored, not the file of that name: give pathlib.Path({data!r})"
        )
        warnings.warn(text, stacklevel=3)
    if data is None or isinstance(data, (bytes, bytearray, memoryview, str)):
        return BytesSource(payload_bytes(data), chunk_size)
    if isinstance(data, os.PathLike):
        return FileSource(_open(data), chunk_size, owned=True)
    if hasattr(data, "read"):
        return FileSource(cast(BinaryIO, data), chunk_size, owned=False)
    if isinstance(data, Iterable):
        return IterableSource(iter(data), chunk_size)
    if callable(data):
        return IterableSource(_called(data), chunk_size)
    raise TypeError(f"an object's content can't come from {type(data).__name__}")


def _is_file(text: str) -> bool:
    """Return whether a text names a file."""
    try:
        return os.path.isfile(text)
    except ValueError:  # it has a NUL
        return False


def _open(path: os.PathLike[Any]) -> BinaryIO:
    """Open a regular file. Opening a FIFO would stop the loop until there is a writer."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    mode = os.fstat(file).st_mode
    if not stat.S_ISREG(mode):
        os.close(file)
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        why = os.strerror(code) if stat.S_ISDIR(mode) else "not a regular file"
        raise OSError(code, why, os.fspath(path))
    return os.fdopen(file, "rb")


def _called(source: Callable[[], bytes | None]) -> Iterator[bytes]:
    while piece := source():
        yield piece
