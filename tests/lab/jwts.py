"""NKeys and NATS JWTs for tests: operators, accounts and users, made without the code under test."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# First byte of an encoded public key: its role's letter, shifted.
ROLES = {"operator": 14 << 3, "account": 0, "user": 20 << 3, "server": 13 << 3, "cluster": 2 << 3}


def encode(raw: bytes) -> str:
    """Base32 with checksum, as the nkeys specification has it."""
    return (
        base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")
    )


class Key:
    """A key pair of a role."""

    def __init__(self, role: str) -> None:
        self.role = role
        self._private = Ed25519PrivateKey.generate()
        prefix = ROLES[role]
        raw = self._private.private_bytes_raw()
        self.seed = encode(bytes([18 << 3 | prefix >> 5, (prefix & 31) << 3]) + raw)
        self.public = encode(bytes([prefix]) + self._private.public_key().public_bytes_raw())

    def sign(self, data: bytes) -> bytes:
        """An Ed25519 signature."""
        return self._private.sign(data)

    def jwt(self, subject: Key, name: str, nats: dict[str, Any], **claims: Any) -> str:
        """A JWT about subject, signed by this key."""
        body: dict[str, Any] = {"iat": int(time.time()), "iss": self.public, "name": name}
        body |= {
            "sub": subject.public,
            "nats": {"type": subject.role, "version": 2} | nats,
        } | claims
        body["jti"] = base64.b32encode(hashlib.sha256(_json(body)).digest()).decode().rstrip("=")
        text = ".".join(map(_b64, [_json({"typ": "JWT", "alg": "ed25519-nkey"}), _json(body)]))
        return f"{text}.{_b64(self.sign(text.encode()))}"


class Setup:
    """An operator with one account, and the nats-server configuration for it."""

    def __init__(self) -> None:
        self.operator = Key("operator")
        self.account = Key("account")
        # Once: a server does not let its operator change.
        self._operator_jwt = self.operator.jwt(self.operator, "operator", {})
        self._revoked: dict[str, int] = {}

    def user(self, key: Key, seconds: float | None = None, **nats: Any) -> str:
        """A user's JWT, good for so long."""
        claims = {} if seconds is None else {"exp": int(time.time() + seconds)}
        limits = {"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1}
        return self.account.jwt(key, "user", limits | nats, **claims)

    def revoke(self, key: Key) -> None:
        """Revoke all that the user has been given up to now; reload the server's configuration."""
        self._revoked[key.public] = int(time.time())

    def config(self, more: str = "", **account_claims: Any) -> str:
        """Operator, account and memory resolver."""
        limits = dict.fromkeys(
            ("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1
        ) | {"wildcards": True}
        account = self.operator.jwt(
            self.account,
            "account",
            {"limits": limits, "revocations": self._revoked},
            **account_claims,
        )
        return (
            f"server_name: test\noperator: {self._operator_jwt}\nresolver: MEMORY\n"
            f"resolver_preload: {{\n  {self.account.public}: {account}\n}}\n{more}"
        )


def creds_text(jwt: str, seed: str, eol: str = "\n") -> str:
    """A .creds file."""
    lines = [
        "-----BEGIN NATS USER JWT-----", jwt, "------END NATS USER JWT------", "",
        "************************* IMPORTANT *************************",
        "NKEYs are sensitive and should be treated as secrets.", "",
        "-----BEGIN USER NKEY SEED-----", seed, "------END USER NKEY SEED------", "",
    ]  # fmt: skip
    return eol.join(lines)


def write_creds(path: Path, jwt: str, seed: str, eol: str = "\n", mode: int = 0o600) -> Path:
    """Write a .creds file that only its owner can read."""
    path.touch(mode)
    path.chmod(mode)
    path.write_bytes(creds_text(jwt, seed, eol).encode())
    return path


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
