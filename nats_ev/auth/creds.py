"""Credentials files (.creds): a JWT and an NKey seed.

No secret shows in an error's text."""

from __future__ import annotations

import os
import re
import stat
import warnings

from ..errors import BadOptionsError
from .nkeys import check_seed, wipe

_MAX_CREDS = 1024 * 1024

_BLOCK = rb"-{3,}\s*BEGIN %b\s*-{3,}\s*(\S+)\s+-{3,}\s*END %b\s*-{3,}"
_JWT_BLOCK = re.compile(_BLOCK % (b"NATS USER JWT", b"NATS USER JWT"))
_SEED_BLOCK = re.compile(_BLOCK % (b"USER NKEY SEED", b"USER NKEY SEED"))
_warned: set[str] = set()  # paths of files that others can read


class UnreadableFileError(BadOptionsError, OSError):
    """A file that can't be opened: the caller's mistake, and still an OSError."""


class Credentials:
    """What a .creds file holds. Call `wipe` when it is not needed any more."""

    __slots__ = ("jwt", "seed")

    def __init__(self, jwt: str, seed: bytearray) -> None:
        self.jwt = jwt
        self.seed = seed

    def __repr__(self) -> str:
        return "Credentials(…)"

    def wipe(self) -> None:
        """Overwrite the seed."""
        wipe(self.seed)


def check_creds(path: str | os.PathLike[str]) -> None:
    """Whether a .creds file could be used now. Raises and warns as `read_creds` does."""
    credentials = read_creds(path)
    try:
        check_seed(credentials.seed)
    except BadOptionsError:
        raise BadOptionsError(f"{os.fspath(path)}: invalid NKey seed") from None
    finally:
        credentials.wipe()


def read_creds(path: str | os.PathLike[str]) -> Credentials:
    """Read a .creds file; warns, once per path, if others can read it, too.

    Raises `BadOptionsError` when a block is missing, or when it is no regular file of a sensible size;
    when it can't be opened the error is an OSError, too.
    """
    shown = os.fspath(path)
    try:
        text = _read_file(path)
    except OSError as exc:
        error = UnreadableFileError(f"cannot open creds file {shown}: {exc.strerror}")
        error.errno = exc.errno
        raise error from exc
    try:
        jwt, seed = _JWT_BLOCK.search(text), _SEED_BLOCK.search(text)
        if jwt is None:
            raise BadOptionsError(f"{shown}: missing NATS USER JWT block")
        if seed is None:
            raise BadOptionsError(f"{shown}: missing USER NKEY SEED block")
        with memoryview(text) as view:  # its slices are no copies that nobody could overwrite
            return Credentials(
                str(view[slice(*jwt.span(1))], "ascii", "replace"),
                bytearray(view[slice(*seed.span(1))]),
            )
    finally:
        wipe(text)


def _read_file(path: str | os.PathLike[str]) -> bytearray:
    """A file's content in memory that can be overwritten. Raises OSError, `BadOptionsError`."""
    # Non-blocking: opening a FIFO would wait for somebody to write to it.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise BadOptionsError(f"{os.fspath(path)}: not a regular file")
        if found.st_size > _MAX_CREDS:
            raise BadOptionsError(f"{os.fspath(path)}: too large for a creds file")
        _warn_if_others_can_read(path, stat.S_IMODE(found.st_mode))
        text = bytearray(found.st_size)
        with memoryview(text) as view:
            size = 0
            while size < len(text) and (n := os.readv(fd, [view[size:]])):
                size += n
        return text
    finally:
        os.close(fd)


def _warn_if_others_can_read(path: str | os.PathLike[str], mode: int) -> None:
    key = os.path.abspath(path)
    if mode & 0o077 and key not in _warned:
        _warned.add(key)
        warnings.warn(f"{os.fspath(path)}: others may read it (mode {mode:04o})", stacklevel=2)
