"""What signing and sealing need of `cryptography`, and the part of NaCl's box that it lacks.

A box is X25519, HSalsa20, XSalsa20 and Poly1305 (cr.yp.to, "Cryptography in NaCl"). `cryptography` has the
first and the last. Salsa20 is computed here, on Python's integers: each of the sixteen words of a block is
one integer with a lane of 64 bits per block, so that one addition or rotation serves all blocks of a message.
A message of 2 KiB takes a fraction of a millisecond.

Nothing here depends on the values of secrets but through the integers' arithmetic, whose time depends on
lengths alone to a good approximation; tags are compared in constant time.
"""

from __future__ import annotations

import hmac
import struct
from typing import TYPE_CHECKING

from .errors import DecryptError, NkeyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_SIZE = 32
NONCE_SIZE = 24
TAG_SIZE = 16
_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_WORD = 0xFFFFFFFF
# The words that each quarter round reads and writes: columns, then rows.
_COLUMNS = ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11))
_ROWS = ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14))
_ROUND = _COLUMNS + _ROWS
_BLOCK = 64
_LANES = 256  # blocks that are computed together: 16 KiB

_MISSING = "account tools need the package cryptography"


def signer(secret: bytearray) -> Ed25519PrivateKey:
    """Return the signing key of 32 secret bytes. Raises `NkeyError` if cryptography is missing."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as exc:
        raise NkeyError(_MISSING) from exc
    return Ed25519PrivateKey.from_private_bytes(secret)


def is_signed(public: bytes, data: bytes, signature: bytes) -> bool:
    """Return whether a signature is that of a public Ed25519 key for data."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as exc:
        raise NkeyError(_MISSING) from exc
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def curve_public(secret: bytearray) -> bytes:
    """Return the public X25519 key of 32 secret bytes."""
    try:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    except ImportError as exc:
        raise NkeyError(_MISSING) from exc
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def sha512_256(data: bytes) -> bytes:
    """Return the SHA-512/256 of data, which not every build of hashlib has."""
    try:
        from cryptography.hazmat.primitives import hashes
    except ImportError as exc:
        raise NkeyError(_MISSING) from exc
    digest = hashes.Hash(hashes.SHA512_256())
    digest.update(data)
    return digest.finalize()


def seal(data: bytes, nonce: bytes, public: bytes, secret: bytearray) -> bytes:
    """Return a box: tag and encrypted data.

    Args:
        data: what to seal.
        nonce: 24 bytes that were never used between these two keys.
        public: of the recipient.
        secret: of the sender.
    """
    key = _shared_key(public, secret)
    padded = _xored(bytes(KEY_SIZE) + data, nonce, key)
    box = padded[KEY_SIZE:]
    return _tag(padded[:KEY_SIZE], box) + box


def unseal(box: bytes, nonce: bytes, public: bytes, secret: bytearray) -> bytes:
    """Return the content of a box. Raises `DecryptError`.

    Args:
        box: as `seal` returns it.
        nonce: that of the sender.
        public: of the sender.
        secret: of the recipient.
    """
    if len(box) < TAG_SIZE:
        raise DecryptError("could not decrypt: too short")
    tag, encrypted = box[:TAG_SIZE], box[TAG_SIZE:]
    # The first bytes of the key stream are the tag's key.
    opened = _xored(bytes(KEY_SIZE) + encrypted, nonce, _shared_key(public, secret))
    if not hmac.compare_digest(tag, _tag(opened[:KEY_SIZE], encrypted)):
        raise DecryptError("could not decrypt: sealed for or by another key, or changed")
    return opened[KEY_SIZE:]


def _shared_key(public: bytes, secret: bytearray) -> bytes:
    try:
        from cryptography.hazmat.primitives.asymmetric.x25519 import (
            X25519PrivateKey,
            X25519PublicKey,
        )
    except ImportError as exc:
        raise NkeyError(_MISSING) from exc
    try:
        shared = X25519PrivateKey.from_private_bytes(secret).exchange(
            X25519PublicKey.from_public_bytes(public)
        )
    except ValueError:  # a point of small order: the secret would not count
        raise DecryptError("could not decrypt: the public curve key is unusable") from None
    return hsalsa20(shared, bytes(16))


def _tag(key: bytes, data: bytes) -> bytes:
    from cryptography.hazmat.primitives.poly1305 import Poly1305

    return Poly1305.generate_tag(key, data)


def hsalsa20(key: bytes, nonce: bytes) -> bytes:
    """Return the key that HSalsa20 derives from 32 bytes of key and 16 of nonce."""
    words = list(_state(key, struct.unpack("<4I", nonce)))
    _twenty_rounds(words, _WORD)
    return struct.pack("<8I", *(words[i] for i in (0, 5, 10, 15, 6, 7, 8, 9)))


def _state(key: bytes, nonce: tuple[int, ...]) -> tuple[int, ...]:
    k = struct.unpack("<8I", key)
    return (
        _SIGMA[0], *k[:4], _SIGMA[1], *nonce, _SIGMA[2], *k[4:], _SIGMA[3],
    )  # fmt: skip


def _xored(data: bytes, nonce: bytes, key: bytes) -> bytes:
    """Return data with the key stream of XSalsa20 XORed into it."""
    subkey = hsalsa20(key, nonce[:16])
    tail = struct.unpack("<2I", nonce[16:])
    parts = []
    for start in range(0, len(data), _BLOCK * _LANES):
        part = data[start : start + _BLOCK * _LANES]
        stream = _key_stream(subkey, tail, start // _BLOCK, -(-len(part) // _BLOCK))[: len(part)]
        mixed = int.from_bytes(part, "little") ^ int.from_bytes(stream, "little")
        parts.append(mixed.to_bytes(len(part), "little"))
    return b"".join(parts)


def _key_stream(key: bytes, tail: tuple[int, ...], first: int, count: int) -> bytes:
    """Return count blocks of Salsa20's key stream, from block number first on."""
    ones = sum(1 << 64 * lane for lane in range(count))  # 1 in each lane
    mask = ones * _WORD
    numbers = range(first, first + count)
    low = sum((number & _WORD) << 64 * lane for lane, number in enumerate(numbers))
    high = sum((number >> 32) << 64 * lane for lane, number in enumerate(numbers))
    start = [word * ones for word in _state(key, (*tail, 0, 0))]
    start[8], start[9] = low, high
    words = list(start)
    _twenty_rounds(words, mask)
    lanes = [
        struct.unpack(f"<{2 * count}I", ((word + origin) & mask).to_bytes(8 * count, "little"))[::2]
        for word, origin in zip(words, start, strict=True)
    ]
    return struct.pack(
        f"<{16 * count}I", *(word for block in zip(*lanes, strict=True) for word in block)
    )


def _twenty_rounds(x: list[int], mask: int) -> None:
    """Apply Salsa20's rounds to sixteen words, in all lanes at once."""
    for _ in range(10):
        for a, b, c, d in _ROUND:
            total = (x[a] + x[d]) & mask
            x[b] ^= (total << 7 | total >> 25) & mask
            total = (x[b] + x[a]) & mask
            x[c] ^= (total << 9 | total >> 23) & mask
            total = (x[c] + x[b]) & mask
            x[d] ^= (total << 13 | total >> 19) & mask
            total = (x[d] + x[c]) & mask
            x[a] ^= (total << 18 | total >> 14) & mask
