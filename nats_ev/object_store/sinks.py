"""Where a downloaded object's content goes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, BinaryIO, Union

Into = Union["os.PathLike[Any]", BinaryIO, Callable[[bytes], object], None]


class Sink:
    """Where content goes."""

    def write(self, data: bytes) -> None:
        """The next part. May raise anything."""
        raise NotImplementedError

    def finish(self) -> Any:
        """All is there, and right. Returns what is the get's result, None: the object's info."""
        return None

    def abandon(self) -> None:
        """There will be no more, and what is there is not the object. Must not raise."""


class BytesSink(Sink):
    """Into memory."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """See `Sink`."""
        self._parts.append(data)

    def finish(self) -> bytes:
        """The content."""
        return b"".join(self._parts)

    def abandon(self) -> None:
        """See `Sink`."""
        self._parts.clear()


class WriterSink(Sink):
    """Into a file that the user has opened, or a callback per part."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def write(self, data: bytes) -> None:
        """See `Sink`."""
        self._write(data)


class FileSink(Sink):
    """Into a file of that name, which has its former content, if any, until all is there."""

    def __init__(self, path: os.PathLike[Any]) -> None:
        self._path = os.fspath(path)
        folder, name = os.path.split(self._path)
        self._partial = os.path.join(folder, f".{name}.{os.getpid()}-{id(self):x}.part")
        self._file = open(self._partial, "xb")  # noqa: SIM115  closed by finish or abandon

    def write(self, data: bytes) -> None:
        """See `Sink`."""
        self._file.write(data)

    def finish(self) -> None:
        """See `Sink`."""
        self._file.close()
        os.replace(self._partial, self._path)

    def abandon(self) -> None:
        """See `Sink`."""
        with contextlib.suppress(OSError):
            self._file.close()
            os.unlink(self._partial)


def sink_of(into: Into) -> Sink:
    """The sink for what a user may pass to take content.

    Raises TypeError for anything else, and OSError for a file that can't be made.
    """
    if into is None:
        return BytesSink()
    if isinstance(into, os.PathLike):
        return FileSink(into)
    write = getattr(into, "write", into)
    if not callable(write):
        raise TypeError(f"an object's content can't go into {type(into).__name__}")
    return WriterSink(write)
