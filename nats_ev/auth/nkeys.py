"""Who we are: credentials for CONNECT, .creds files, NKeys (Ed25519).

Reads a .creds file when asked to; else no I/O. No secret ever shows in an error's text, and what is
decoded of a seed is overwritten after use.
"""

from __future__ import annotations

import base64
import secrets
from binascii import crc_hqx

from ..errors import BadOptionsError

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


def wipe(secret: bytearray) -> None:
    """Overwrite a secret with zeros."""
    secret[:] = bytes(len(secret))


def _encode_key(raw: bytes) -> str:
    checked = raw + crc_hqx(raw, 0).to_bytes(2, "little")  # CRC-16/XMODEM
    return base64.b32encode(checked).decode().rstrip("=")


def decode_key(text: str | bytes | bytearray, length: int) -> bytearray | None:
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
        wipe(raw)
        return None
    return raw


def private_key(seed: str | bytes | bytearray) -> tuple[int, Ed25519PrivateKey]:
    """(public prefix byte, key) of an encoded seed; raises `BadOptionsError`."""
    require_nkey()
    raw = decode_key(seed, _SEED_LENGTH)
    if raw is None:
        raise BadOptionsError("invalid NKey seed")
    try:
        prefix = (raw[0] & 7) << 5 | raw[1] >> 3
        if raw[0] & 0xF8 != _SEED or raw[1] & 7 or prefix not in _PUBLIC_PREFIXES:
            raise BadOptionsError("invalid NKey seed")
        with memoryview(raw) as view, view[2:] as body:
            return prefix, Ed25519PrivateKey.from_private_bytes(body)
    finally:
        wipe(raw)


def require_nkey() -> None:
    """Raise `BadOptionsError` if there is no cryptography package."""
    if not HAS_NKEY:
        raise BadOptionsError("NKeys need the package cryptography")


def check_seed(seed: str | bytes | bytearray) -> None:
    """Raises `BadOptionsError` for what is no seed."""
    private_key(seed)


def check_public(key: str) -> None:
    """Raises `BadOptionsError` for what is no user's public key."""
    raw = decode_key(key, _PUBLIC_LENGTH)
    if raw is None or raw[0] != _USER:
        raise BadOptionsError("invalid public NKey")


def nkey_generate_user_seed() -> str:
    """A fresh user seed ("SU…"), from the system's random source."""
    require_nkey()
    head = bytes([_SEED | _USER >> 5, (_USER & 31) << 3])
    return _encode_key(head + secrets.token_bytes(32))


def nkey_public_from_seed(seed: str) -> str:
    """The public key ("U…" for a user) of a seed. Raises `BadOptionsError` (a ValueError)."""
    if not isinstance(seed, str):
        raise TypeError(f"seed must be str, not {type(seed).__name__}")
    return public_key(*private_key(seed))


def public_key(prefix: int, key: Ed25519PrivateKey) -> str:
    """Return the encoded public key of a private one."""
    return _encode_key(
        bytes([prefix]) + key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    )
