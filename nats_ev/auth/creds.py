"""Credentials files (.creds): a user's JWT and the NKey seed that signs for it.

A file has two blocks between lines of dashes, in any order and with any text around them. Their labels are
"NATS USER JWT" and "USER NKEY SEED". As with the official clients, other labels are accepted too: the JWT is
then the first block that has a dot in it, and the seed the first one without. No secret shows in an error's
text.
"""

from __future__ import annotations

import os
import re
import stat
import warnings

from ..errors import BadOptionsError
from .nkeys import check_seed, wipe

# Real files have some 1 KiB. A larger one is a mistake, which must not fill the memory.
_MAX_CREDS = 1024 * 1024

# The label of a block, and its content. Each repetition can end at one place only: the time is linear,
# whatever the file holds.
_BLOCK = (
    r"---[ \t]*BEGIN[ \t]((?:[^\n-]|-(?!--)){0,100})-{3,}(?!-)"
    r"\s*(?!\s)(\S+)(?!\S)\s+(?!\s)-{3,}(?!-)[ \t]*END[ \t]"
)
_BLOCKS = re.compile(_BLOCK.encode())
_TEXT_BLOCK = re.compile(_BLOCK)
_WORD = re.compile(rb"\S+")
_LATEST = 2**40  # seconds since 1970: no clock of ours goes further
_JWT_LABEL, _SEED_LABEL = b"NATS USER JWT", b"USER NKEY SEED"
_warned: set[str] = set()  # absolute paths of files for which the warning has been given


class UnreadableFileError(BadOptionsError, OSError):
    """A file can't be opened; `errno` says why. The caller's mistake, and so also a `BadOptionsError`.

    What to do: correct the path, or let the user of the process read the file.
    """


class Credentials:
    """The content of a .creds file. Call `wipe` as soon as the seed is not needed any more."""

    __slots__ = ("jwt", "seed")

    def __init__(self, jwt: str, seed: bytearray) -> None:
        self.jwt = jwt
        self.seed = seed

    def __repr__(self) -> str:
        return "Credentials(…)"

    def wipe(self) -> None:
        """Overwrite the seed."""
        wipe(self.seed)


def undecorated(text: str) -> str:
    """Return the JWT or seed in a text that may have blanks, line breaks or a block's lines around it."""
    block = _TEXT_BLOCK.search(text)
    return block[2] if block is not None else text.strip()


def _find_blocks(text: bytearray) -> tuple[slice | None, slice | None]:
    """Return where the JWT and where the seed is; None for one that is missing."""
    jwt = seed = None
    others: list[slice] = []
    for block in _BLOCKS.finditer(text):
        label, place = block[1].strip(), slice(*block.span(2))
        if label == _JWT_LABEL:
            jwt = jwt or place
        elif label == _SEED_LABEL:
            seed = seed or place
        else:
            others.append(place)
    for place in others:
        if text.find(b".", place.start, place.stop) >= 0:
            jwt = jwt or place
        else:
            seed = seed or place
    return jwt, seed


def check_creds(path: str | os.PathLike[str]) -> None:
    """Check that a .creds file is complete and its seed valid. Raises and warns as `read_creds` does."""
    credentials = read_creds(path)
    try:
        check_seed(credentials.seed)
    except BadOptionsError:
        raise BadOptionsError(f"{os.fspath(path)}: invalid NKey seed") from None
    finally:
        credentials.wipe()


def check_creds_text(content: bytes, shown: str) -> None:
    """Check the content of a .creds file. Raises `BadOptionsError`.

    Args:
        content: of the file.
        shown: what errors call it.
    """
    credentials = parse_creds(bytearray(content), shown)
    try:
        check_seed(credentials.seed)
    except BadOptionsError:
        raise BadOptionsError(f"{shown}: invalid NKey seed") from None
    finally:
        credentials.wipe()


def read_seed(path: str | os.PathLike[str]) -> bytearray:
    """Read an NKey seed from a file, alone in it or in a block as in a .creds file; to be wiped.

    Warns and raises as `read_creds` does.
    """
    text = _opened(path, "NKey seed")
    try:
        _, seed = _find_blocks(text)
        if seed is not None:
            return text[seed]
        found = _WORD.search(text)
        return text[found.start() : found.end()] if found is not None else bytearray()
    finally:
        wipe(text)


def check_seed_file(path: str | os.PathLike[str]) -> None:
    """Check that a file holds an NKey seed. Raises and warns as `read_seed` does."""
    seed = read_seed(path)
    try:
        check_seed(seed)
    except BadOptionsError:
        raise BadOptionsError(f"{os.fspath(path)}: invalid NKey seed") from None
    finally:
        wipe(seed)


def expiry_of(jwt: str) -> float | None:
    """Return when a JWT expires, in seconds since 1970; None: never, or it is not known."""
    import base64
    import json

    body = jwt.split(".")[1:2]
    try:
        claims = json.loads(base64.urlsafe_b64decode(body[0] + "=" * (-len(body[0]) % 4)))
        expires = claims.get("exp")
    except (ValueError, AttributeError, IndexError, RecursionError):
        return None
    usable = isinstance(expires, (int, float)) and not isinstance(expires, bool)
    return float(expires) if usable and 0 < expires < _LATEST else None


def read_creds(path: str | os.PathLike[str]) -> Credentials:
    """Read a .creds file, and warn, once per path, if its mode lets other users read the file.

    Raises `BadOptionsError` when a block is missing, or the file is not a regular one of at most 1 MiB;
    `UnreadableFileError`, which is an OSError too, when the file can't be opened.
    """
    return parse_creds(_opened(path, "creds"), os.fspath(path))


def _opened(path: str | os.PathLike[str], what: str) -> bytearray:
    try:
        return _read_file(path)
    except OSError as exc:
        shown = os.fspath(path)
        error = UnreadableFileError(f"cannot open {what} file {shown}: {exc.strerror}")
        error.errno = exc.errno
        raise error from exc


def parse_creds(text: bytearray, shown: str) -> Credentials:
    """Return the content of a .creds file, and overwrite the text.

    Args:
        text: the whole content.
        shown: what errors call it.

    Raises:
        BadOptionsError: a block is missing.
    """
    try:
        jwt, seed = _find_blocks(text)
        if jwt is None:
            raise BadOptionsError(f"{shown}: missing NATS USER JWT block")
        if seed is None:
            raise BadOptionsError(f"{shown}: missing USER NKEY SEED block")
        with memoryview(text) as view:  # unlike those of a bytearray, its slices are no copies
            return Credentials(
                str(view[jwt], "ascii", "replace"),
                bytearray(view[seed]),
            )
    finally:
        wipe(text)


def _read_file(path: str | os.PathLike[str]) -> bytearray:
    """Return a file's content as a bytearray that can be wiped. Raises OSError, `BadOptionsError`."""
    # Non-blocking: opening a FIFO would wait for a writer.
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
