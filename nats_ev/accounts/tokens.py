"""JWTs as text (ADR-14): base64url without padding, signed by Ed25519 with an NKey.

The JSON and the id (jti) are those of nats-io/jwt: SHA-512/256 of the standard claims without jti.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, NamedTuple

from . import crypto
from .errors import JwtError
from .keys import KeyPair, is_signed_by

MAX_TOKEN_SIZE = 1024 * 1024
_OLD_ALGORITHM, _ALGORITHM = "ed25519", "ed25519-nkey"
_HEADER = {"typ": "JWT", "alg": _ALGORITHM}
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
# In the order of the JSON text.
STANDARD = {
    "aud": str, "exp": int, "jti": str, "iat": int, "iss": str, "name": str, "nbf": int, "sub": str,
}  # fmt: skip
# Go's encoder writes these as escapes, which counts for the id.
_ESCAPES = str.maketrans(
    {char: f"\\u{ord(char):04x}" for char in ("<", ">", "&", chr(0x2028), chr(0x2029))}
)


class Token(NamedTuple):
    """A JWT that was taken apart; its signature is not checked yet.

    Attributes:
        body: the claims as they came.
        old: whether the header names the algorithm of version 1.
        parts: the three parts of the text.
        signature: the last part, decoded.
    """

    body: dict[str, Any]
    old: bool
    parts: tuple[str, str, str]
    signature: bytes

    def is_signed(self, issuer: object, old: bool) -> bool:
        """Return whether the issuer has signed this.

        Args:
            issuer: a public key; anything else has signed nothing.
            old: the claims are of version 1, whose signatures leave out the header.
        """
        header, body, _ = self.parts
        data = body if old else f"{header}.{body}"
        return is_signed_by(issuer, data.encode(), self.signature)


def to_json(value: Any) -> str:
    """Return the JSON text of a value, as nats-io/jwt writes it. Raises `JwtError`."""
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise JwtError(f"claims can't be JSON: {_reason(exc)}") from None
    return text.translate(_ESCAPES)


def _reason(error: Exception) -> str:
    return "invalid text" if isinstance(error, UnicodeError) else str(error)


def new_id(body: dict[str, Any]) -> str:
    """Return the jti of claims."""
    counted = {name: body[name] for name in STANDARD if name != "jti" and body.get(name)}
    digest = crypto.sha512_256(to_json(counted).encode())
    return base64.b32encode(digest).decode().rstrip("=")


def write(body: dict[str, Any], key: KeyPair) -> str:
    """Return the JWT of a body, signed."""
    text = f"{_encoded(to_json(_HEADER))}.{_encoded(to_json(body))}"
    return f"{text}.{_base64url(key.sign(text.encode()))}"


def _encoded(text: str) -> str:
    return _base64url(text.encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def read(token: str) -> Token:
    """Take a JWT apart. Raises `JwtError`, TypeError for what is no str."""
    if not isinstance(token, str):
        raise TypeError(f"a JWT must be str, not {type(token).__name__}")
    token = token.strip()
    if len(token) > MAX_TOKEN_SIZE:
        raise JwtError(f"a JWT of {len(token)} characters is too large")
    parts = token.split(".")
    if len(parts) != 3:
        raise JwtError("not a JWT: it has three parts, with dots between them")
    header = _object(parts[0], "header")
    kind, algorithm = header.get("typ"), header.get("alg")
    if not isinstance(kind, str) or kind.upper() != "JWT":
        raise JwtError("not a JWT: the header's typ is another one")
    if not isinstance(algorithm, str) or algorithm.lower() not in (_OLD_ALGORITHM, _ALGORITHM):
        raise JwtError(f"not a JWT of NATS: the algorithm is not {_ALGORITHM}")
    return Token(
        _object(parts[1], "claims"),
        algorithm.lower() == _OLD_ALGORITHM,
        (parts[0], parts[1], parts[2]),
        _decoded(parts[2], "signature"),
    )


def _decoded(part: str, what: str) -> bytes:
    if not _BASE64URL.fullmatch(part) or len(part) % 4 == 1:
        raise JwtError(f"not a JWT: the {what} is not base64url")
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _object(part: str, what: str) -> dict[str, Any]:
    try:
        found = json.loads(_decoded(part, what), parse_constant=_refuse)
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as exc:
        if isinstance(exc, JwtError):
            raise
        raise JwtError(f"not a JWT: the {what} is not JSON") from None
    if not isinstance(found, dict):
        raise JwtError(f"not a JWT: the {what} is not a JSON object")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(constant)
