"""Who we are: credentials for CONNECT, .creds files, NKeys (Ed25519).

Reads a .creds file when asked to; else no I/O. No secret ever shows in an error's text.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import AuthorizationError, BadOptionsError

try:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    HAS_NKEY = True
except ImportError:  # pragma: no cover - a broken installation: everything but NKeys still works
    HAS_NKEY = False

if TYPE_CHECKING:
    from ._servers import Server
    from .options import Options

# The 5-bit letters of the nkeys specification, shifted to the top of their byte.
_SEED = 18 << 3
_PUBLIC_PREFIXES = {
    20 << 3: "user",
    0: "account",
    14 << 3: "operator",
    13 << 3: "server",
    2 << 3: "cluster",
    23 << 3: "curve",
}
_USER = 20 << 3
_SEED_LENGTH = 58

_JWT_BLOCK = re.compile(
    r"-{3,}\s*BEGIN NATS USER JWT\s*-{3,}\s*(\S+)\s*-{3,}\s*END NATS USER JWT\s*-{3,}"
)
_SEED_BLOCK = re.compile(
    r"-{3,}\s*BEGIN USER NKEY SEED\s*-{3,}\s*(\S+)\s*-{3,}\s*END USER NKEY SEED\s*-{3,}"
)


class Credentials(NamedTuple):
    """What a .creds file holds."""

    jwt: str
    seed: str

    def __repr__(self) -> str:
        return "Credentials(…)"


def read_creds(path: str | os.PathLike[str]) -> Credentials:
    """Read a .creds file. Raises OSError, or `BadOptionsError` when a block is missing."""
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    jwt, seed = _JWT_BLOCK.search(text), _SEED_BLOCK.search(text)
    if jwt is None:
        raise BadOptionsError(f"{os.fspath(path)}: missing NATS USER JWT block")
    if seed is None:
        raise BadOptionsError(f"{os.fspath(path)}: missing USER NKEY SEED block")
    return Credentials(jwt[1], seed[1])


def _crc16(data: bytes) -> int:
    """CRC-16/XMODEM, the checksum of encoded NKeys."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def _encode_key(raw: bytes) -> str:
    checked = raw + _crc16(raw).to_bytes(2, "little")
    return base64.b32encode(checked).decode().rstrip("=")


def _decode_seed(seed: str) -> tuple[int, bytes]:
    """(public prefix byte, 32 raw bytes) of an encoded seed; raises `BadOptionsError`."""
    _require_nkey()
    if not isinstance(seed, str) or len(seed) != _SEED_LENGTH:
        raise BadOptionsError("invalid NKey seed")
    try:
        raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except (binascii.Error, ValueError):
        raise BadOptionsError("invalid NKey seed") from None
    body, checksum = raw[:-2], raw[-2:]
    prefix = (body[0] & 7) << 5 | body[1] >> 3
    if (
        body[0] & 0xF8 != _SEED
        or _crc16(body).to_bytes(2, "little") != checksum
        or prefix not in _PUBLIC_PREFIXES
        or len(body) != 34
    ):
        raise BadOptionsError("invalid NKey seed")
    return prefix, body[2:]


def _require_nkey() -> None:
    if not HAS_NKEY:
        raise BadOptionsError("NKeys need the package cryptography")


def nkey_generate_user_seed() -> str:
    """A fresh user seed ("SU…"), from the system's random source."""
    _require_nkey()
    head = bytes([_SEED | _USER >> 5, (_USER & 31) << 3])
    return _encode_key(head + secrets.token_bytes(32))


def nkey_public_from_seed(seed: str) -> str:
    """The public key ("U…" for a user) of a seed. Raises `BadOptionsError` (a ValueError)."""
    prefix, raw = _decode_seed(seed)
    public = Ed25519PrivateKey.from_private_bytes(raw).public_key()
    return _encode_key(bytes([prefix]) + public.public_bytes(Encoding.Raw, PublicFormat.Raw))


def sign(seed: str, nonce: bytes) -> bytes:
    """The Ed25519 signature of a server's nonce. Raises `BadOptionsError`."""
    _, raw = _decode_seed(seed)
    return Ed25519PrivateKey.from_private_bytes(raw).sign(nonce)


def connect_fields(options: Options, nonce: str | None, server: Server) -> dict[str, Any]:
    """The fields of CONNECT that say who we are. Callbacks are asked anew for each connection.

    Credentials in the server's URL win over the options. Raises what a callback raises, and
    `AuthorizationError` when the server wants a signature and nothing can make it.
    """
    fields: dict[str, Any] = {}
    user, password, token = options.user, options.password, options.token
    if options.user_cb is not None:
        user, password = options.user_cb()  # type: ignore[misc]
    if options.token_cb is not None:
        token = options.token_cb()  # type: ignore[assignment]
    if server.user is not None or server.token is not None:
        user, password, token = server.user, server.password, server.token
    if user is not None:
        fields["user"] = user
        fields["pass"] = password or ""
    if token is not None:
        fields["auth_token"] = token
    fields.update(_nkey_fields(options, nonce))
    return fields


def _nkey_fields(options: Options, nonce: str | None) -> dict[str, str]:
    jwt, seed = options.jwt, options.nkey_seed
    if options.creds_file is not None:
        jwt, seed = read_creds(options.creds_file)
    if options.jwt_cb is not None:
        jwt = options.jwt_cb()  # type: ignore[assignment]
    fields: dict[str, str] = {}
    if jwt is not None:
        fields["jwt"] = jwt
    if seed is None and options.signature_cb is None:
        return fields
    if nonce is None:
        # An own seed is of no use to a server that does not ask; it decides about the rest.
        return fields
    if options.signature_cb is not None:
        signature = options.signature_cb(nonce.encode())
        if not isinstance(signature, bytes):
            raise AuthorizationError("signature_cb must return bytes")
    else:
        assert seed is not None
        signature = sign(seed, nonce.encode())
    fields["sig"] = base64.urlsafe_b64encode(signature).decode().rstrip("=")
    if jwt is None and seed is not None:
        fields["nkey"] = nkey_public_from_seed(seed)
    return fields
