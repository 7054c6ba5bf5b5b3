"""NKeys: Ed25519 keys as base-32 text with a type and a checksum. No I/O.

A seed ("SU…") is the private key of a user, a public key ("U…") the name by which servers know the user. The
text is base 32 of one or two bytes for the type, 32 bytes of key, and a CRC-16. Base 32 is decoded here and
not by `base64`, which would leave copies of a seed in memory that nothing overwrites.

No secret shows in an error's text, and the decoded bytes of a seed are overwritten after use.
"""

from __future__ import annotations

import os
from binascii import crc_hqx
from typing import TYPE_CHECKING

from ..errors import BadOptionsError
from ..imports import is_installed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# False in an installation without the package: all but NKeys works. The package itself is loaded with the
# first seed.
HAS_NKEY = is_installed("cryptography")

# The types of the nkeys specification: the value of the text's first letter, shifted to the top of its byte.
# Curve keys ("X") are left out: they are not Ed25519 keys and can't sign.
_SEED = 18 << 3
_USER = 20 << 3
_PUBLIC_PREFIXES = {_USER, 0, 14 << 3, 13 << 3, 2 << 3}  # user, account, operator, server, cluster
_SEED_LENGTH = 58
_PUBLIC_LENGTH = 56
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
# For characters of a str and for ints of a bytearray: converting a seed would leave a copy in memory.
_DIGITS: dict[str | int, int] = {c: i for i, c in enumerate(_ALPHABET)}
_DIGITS.update({ord(c): i for i, c in enumerate(_ALPHABET)})


def wipe(secret: bytearray) -> None:
    """Overwrite a secret with zeros."""
    secret[:] = bytes(len(secret))


def encode_key(raw: bytes) -> str:
    """Return a key, type bytes first, as base 32 with its checksum."""
    import base64

    checked = raw + crc_hqx(raw, 0).to_bytes(2, "little")  # CRC-16/XMODEM
    return base64.b32encode(checked).decode().rstrip("=")


def decode_key(text: str | bytes | bytearray, length: int) -> bytearray | None:
    """Return the bytes of an encoded key without its checksum; None if text is not a key of that length.

    Args:
        text: the key, in base 32 without padding.
        length: the number of characters that text must have.
    """
    if len(text) != length:
        return None
    raw = bytearray(length * 5 // 8)  # of full size: growing would leave copies in memory
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
        wipe(raw)
        return None
    return raw


def private_key(seed: str | bytes | bytearray) -> tuple[int, Ed25519PrivateKey]:
    """Return (prefix byte of the public key, private key) of an encoded seed. Raises `BadOptionsError`."""
    kind = _key_type()
    raw = decode_key(seed, _SEED_LENGTH)
    if raw is None:
        raise BadOptionsError(f"invalid NKey seed{_likely(seed)}")
    try:
        prefix = (raw[0] & 7) << 5 | raw[1] >> 3
        if raw[0] & 0xF8 != _SEED or raw[1] & 7 or prefix not in _PUBLIC_PREFIXES:
            raise BadOptionsError("invalid NKey seed")
        with memoryview(raw) as view, view[2:] as body:
            return prefix, kind.from_private_bytes(body)
    finally:
        wipe(raw)


def _likely(text: str | bytes | bytearray) -> str:
    """Return what a text that is no seed seems to be, without a part of the text."""
    if decode_key(text, _PUBLIC_LENGTH) is not None:
        return ": it is a public key, and a seed begins with S"
    dot, slash = (".", "/") if isinstance(text, str) else (b".", b"/")
    if (dot in text or slash in text) and len(text) < 200:  # type: ignore[operator]
        return ": it seems to be a file's name; give the file's content"
    return ""


def _key_type() -> type[Ed25519PrivateKey]:
    """Return the class of private keys. Raises `BadOptionsError` if the package cryptography is missing."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as exc:
        raise BadOptionsError("NKeys need the package cryptography") from exc
    return Ed25519PrivateKey


def check_seed(seed: str | bytes | bytearray) -> None:
    """Raise `BadOptionsError` if seed is not a valid seed."""
    private_key(seed)


def check_public(key: str) -> None:
    """Raise `BadOptionsError` if key is not the public key of a user."""
    raw = decode_key(key, _PUBLIC_LENGTH)
    if raw is None or raw[0] != _USER:
        raise BadOptionsError("invalid public NKey")


def nkey_generate_user_seed() -> str:
    """Return a fresh user seed ("SU…") from the system's random source.

    Raises `BadOptionsError` if the package cryptography is missing.
    """
    _key_type()
    head = bytes([_SEED | _USER >> 5, (_USER & 31) << 3])
    return encode_key(head + os.urandom(32))


def nkey_public_from_seed(seed: str) -> str:
    """Return the public key ("U…" for a user) of a seed.

    Blanks and line breaks around the seed are ignored. Raises TypeError if seed is not str,
    `BadOptionsError` (a ValueError) if seed is invalid.
    """
    if not isinstance(seed, str):
        raise TypeError(f"seed must be str, not {type(seed).__name__}")
    return public_key(*private_key(seed.strip()))


def public_key(prefix: int, key: Ed25519PrivateKey) -> str:
    """Return the encoded public key that belongs to a private one.

    Args:
        prefix: the type byte, as `private_key` returns it.
        key: the private key.
    """
    return encode_key(bytes([prefix]) + key.public_key().public_bytes_raw())
