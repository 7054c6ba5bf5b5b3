"""Who we are: credentials for CONNECT, .creds files, NKeys (Ed25519).

Reads a .creds file when asked to; else no I/O. No secret ever shows in an error's text, and what is
decoded of a seed is overwritten after use.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import stat
import warnings
from binascii import crc_hqx
from typing import TYPE_CHECKING, Any

from .arguments import is_unicode
from .errors import BadOptionsError

if TYPE_CHECKING:
    from ._servers import Server
    from .options import Options


try:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    HAS_NKEY = True
except ImportError:  # pragma: no cover - a broken installation: everything but NKeys still works
    HAS_NKEY = False

# The 5-bit letters of the nkeys specification, shifted to the top of their byte. Curve keys ("X")
# are no Ed25519 keys and sign nothing.
_SEED = 18 << 3
_USER = 20 << 3
_PUBLIC_PREFIXES = {_USER, 0, 14 << 3, 13 << 3, 2 << 3}  # user, account, operator, server, cluster
_SEED_LENGTH = 58
_PUBLIC_LENGTH = 56
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
# Both for text and for bytes: a seed is never converted, which would leave a copy behind.
_DIGITS: dict[str | int, int] = {c: i for i, c in enumerate(_ALPHABET)}
_DIGITS.update({ord(c): i for i, c in enumerate(_ALPHABET)})

_MAX_CREDS = 1024 * 1024
_MAX_NONCE = 256
_BLOCK = rb"-{3,}\s*BEGIN %b\s*-{3,}\s*(\S+)\s+-{3,}\s*END %b\s*-{3,}"
_JWT_BLOCK = re.compile(_BLOCK % (b"NATS USER JWT", b"NATS USER JWT"))
_SEED_BLOCK = re.compile(_BLOCK % (b"USER NKEY SEED", b"USER NKEY SEED"))
_warned: set[str] = set()  # paths of files that others can read


class _UnreadableError(BadOptionsError, OSError):
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
        _wipe(self.seed)


def _wipe(secret: bytearray) -> None:
    secret[:] = bytes(len(secret))


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
        text = _read(path)
    except OSError as exc:
        error = _UnreadableError(f"cannot open creds file {shown}: {exc.strerror}")
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
        _wipe(text)


def _read(path: str | os.PathLike[str]) -> bytearray:
    """A file's content in memory that can be overwritten. Raises OSError, `BadOptionsError`."""
    # Non-blocking: opening a FIFO would wait for somebody to write to it.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise BadOptionsError(f"{os.fspath(path)}: not a regular file")
        if found.st_size > _MAX_CREDS:
            raise BadOptionsError(f"{os.fspath(path)}: too large for a creds file")
        _warn_of_others(path, stat.S_IMODE(found.st_mode))
        text = bytearray(found.st_size)
        with memoryview(text) as view:
            size = 0
            while size < len(text) and (n := os.readv(fd, [view[size:]])):
                size += n
        return text
    finally:
        os.close(fd)


def _warn_of_others(path: str | os.PathLike[str], mode: int) -> None:
    key = os.path.abspath(path)
    if mode & 0o077 and key not in _warned:
        _warned.add(key)
        warnings.warn(f"{os.fspath(path)}: others may read it (mode {mode:04o})", stacklevel=2)


def _encode_key(raw: bytes) -> str:
    checked = raw + crc_hqx(raw, 0).to_bytes(2, "little")  # CRC-16/XMODEM
    return base64.b32encode(checked).decode().rstrip("=")


def _decode_key(text: str | bytes | bytearray, length: int) -> bytearray | None:
    """The bytes of an encoded key without their checksum; None for what is no key of that length."""
    if len(text) != length:
        return None
    raw = bytearray(length * 5 // 8)  # never grown: that would leave copies behind
    pending = bits = done = 0
    for char in text:
        digit = _DIGITS.get(char)
        if digit is None:
            return None
        pending = (pending << 5 | digit) & 0xFFF
        bits += 5
        if bits >= 8:
            bits -= 8
            raw[done] = pending >> bits & 0xFF
            done += 1
    checksum = int.from_bytes(raw[-2:], "little")
    del raw[-2:]
    if pending & ((1 << bits) - 1) or crc_hqx(raw, 0) != checksum:
        _wipe(raw)
        return None
    return raw


def _private_key(seed: str | bytes | bytearray) -> tuple[int, Ed25519PrivateKey]:
    """(public prefix byte, key) of an encoded seed; raises `BadOptionsError`."""
    _require_nkey()
    raw = _decode_key(seed, _SEED_LENGTH)
    if raw is None:
        raise BadOptionsError("invalid NKey seed")
    try:
        prefix = (raw[0] & 7) << 5 | raw[1] >> 3
        if raw[0] & 0xF8 != _SEED or raw[1] & 7 or prefix not in _PUBLIC_PREFIXES:
            raise BadOptionsError("invalid NKey seed")
        with memoryview(raw) as view, view[2:] as body:
            return prefix, Ed25519PrivateKey.from_private_bytes(body)
    finally:
        _wipe(raw)


def _require_nkey() -> None:
    if not HAS_NKEY:
        raise BadOptionsError("NKeys need the package cryptography")


def check_seed(seed: str | bytes | bytearray) -> None:
    """Raises `BadOptionsError` for what is no seed."""
    _private_key(seed)


def check_public(key: str) -> None:
    """Raises `BadOptionsError` for what is no user's public key."""
    raw = _decode_key(key, _PUBLIC_LENGTH)
    if raw is None or raw[0] != _USER:
        raise BadOptionsError("invalid public NKey")


def nkey_generate_user_seed() -> str:
    """A fresh user seed ("SU…"), from the system's random source."""
    _require_nkey()
    head = bytes([_SEED | _USER >> 5, (_USER & 31) << 3])
    return _encode_key(head + secrets.token_bytes(32))


def nkey_public_from_seed(seed: str) -> str:
    """The public key ("U…" for a user) of a seed. Raises `BadOptionsError` (a ValueError)."""
    if not isinstance(seed, str):
        raise TypeError(f"seed must be str, not {type(seed).__name__}")
    return _public(*_private_key(seed))


def _public(prefix: int, key: Ed25519PrivateKey) -> str:
    return _encode_key(
        bytes([prefix]) + key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    )


def connect_fields(options: Options, nonce: str | None, server: Server) -> dict[str, Any]:
    """The fields of CONNECT that say who we are. Callbacks are asked anew for each connection.

    Credentials in the server's URL win over the options. Raises what a callback or reading a file
    raises, and `BadOptionsError` for what a callback must not return.
    """
    fields: dict[str, Any] = {}
    user, password, token = options.user, options.password, options.token
    if options.user_cb is not None:
        pair = options.user_cb()
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise BadOptionsError("user_cb must return (user, password)")
        user, password = (_text(part, "user_cb", "two str") for part in pair)
    if options.token_cb is not None:
        token = _text(options.token_cb(), "token_cb")
    if server.user is not None or server.token is not None:
        user, password, token = server.user, server.password, server.token
    if user is not None:
        fields["user"] = user
        fields["pass"] = password or ""
    if token is not None:
        fields["auth_token"] = token
    fields.update(_nkey_fields(options, nonce))
    return fields


def _text(value: object, name: str, what: str = "str") -> str:
    """What a callback has returned. Never shown: it is a secret."""
    if not isinstance(value, str):
        raise BadOptionsError(f"{name} must return {what}")
    if not is_unicode(value):
        raise BadOptionsError(f"{name} must return text without lone surrogates")
    return value


def _nkey_fields(options: Options, nonce: str | None) -> dict[str, str]:
    credentials = read_creds(options.creds_file) if options.creds_file is not None else None
    try:
        jwt, seed = options.jwt, options.nkey_seed
        if jwt is None and credentials is not None:
            jwt = credentials.jwt
        if options.jwt_cb is not None:
            jwt = _text(options.jwt_cb(), "jwt_cb")
        fields = {"jwt": jwt} if jwt is not None else {}
        if nonce is not None:  # else the server asks for no signature; it decides about the rest
            own = seed if seed is not None or credentials is None else credentials.seed
            fields.update(_signed(options, nonce, own, jwt is None))
        return fields
    finally:
        if credentials is not None:
            credentials.wipe()


def _signed(
    options: Options, nonce: str, seed: str | bytearray | None, with_key: bool
) -> dict[str, str]:
    """The signature, and with it the public key if no JWT tells it."""
    if not 0 < len(nonce) <= _MAX_NONCE:
        raise BadOptionsError(f"the server's nonce has {len(nonce)} characters")
    public = options.nkey
    if options.signature_cb is not None:
        signature = options.signature_cb(nonce.encode())
        if not isinstance(signature, bytes):
            raise BadOptionsError("signature_cb must return bytes")
    elif seed is not None:
        prefix, key = _private_key(seed)
        signature = key.sign(nonce.encode())
        public = _public(prefix, key)
    else:
        return {}
    fields = {"sig": base64.urlsafe_b64encode(signature).decode().rstrip("=")}
    if with_key and public is not None:
        fields["nkey"] = public
    return fields
