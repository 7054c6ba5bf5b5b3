"""Sinks: where a downloaded object's content goes. One class for each kind of target that `get` takes.

An `ObjectReader` calls `write` for each part, then either `finish` or `abandon`, once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, BinaryIO, Union

Into = Union["os.PathLike[Any]", BinaryIO, Callable[[bytes], object], None]


class Sink:
    """Takes the content of one object."""

    def write(self, data: bytes) -> None:
        """Take the next part. Whatever this raises ends the get."""
        raise NotImplementedError

    def finish(self) -> Any:
        """End: the content is complete and checked. Return the get's result; None means the object's info."""
        return None

    def abandon(self) -> None:
        """End without the object: the get has failed. Must not raise."""


class BytesSink(Sink):
    """Keeps the content in memory; the get's result is bytes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """See `Sink`."""
        self._parts.append(data)

    def finish(self) -> bytes:
        """Return the content."""
        return b"".join(self._parts)

    def abandon(self) -> None:
        """See `Sink`."""
        self._parts.clear()


class WriterSink(Sink):
    """Passes the parts to a file that the user has opened, or to a callback."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def write(self, data: bytes) -> None:
        """See `Sink`."""
        self._write(data)


class FileSink(Sink):
    """Writes a file. Until the object is complete the file has its former content, or does not exist.

    The parts go into a hidden file of the same folder, which `finish` renames.
    """

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
    """Return the sink for the argument into of a get.

    Raises TypeError for what can't take content, and OSError for a file that can't be created.
    """
    if into is None:
        return BytesSink()
    if isinstance(into, os.PathLike):
        return FileSink(into)
    write = getattr(into, "write", into)
    if not callable(write):
        raise TypeError(f"an object's content can't go into {type(into).__name__}")
    return WriterSink(write)
