"""NKeys and NATS JWTs for tests, made by `nats_ev.accounts`: operators, accounts and users."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

from nats_ev.accounts import AccountClaims, Claims, KeyPair, OperatorClaims, UserClaims
from nats_ev.auth import encode_key as encode  # noqa: F401

ROLES = ("operator", "account", "user", "server", "cluster")


class Key:
    """A key pair of a role."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.pair = KeyPair.create_pair(role)
        self.seed = self.pair.seed()
        self.public = self.pair.public_key()

    def sign(self, data: bytes) -> bytes:
        """An Ed25519 signature."""
        return self.pair.sign(data)

    def jwt(self, claims: Claims) -> str:
        """Claims, signed by this key."""
        return claims.encode(self.pair)

    def odd_jwt(self, **claims: Any) -> str:
        """A JWT with any claims, which need not make sense."""
        parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, {"iss": self.public, **claims}]
        text = ".".join(_b64(json.dumps(part).encode()) for part in parts)
        return f"{text}.{_b64(self.sign(text.encode()))}"


class Setup:
    """An operator with one account, and the nats-server configuration for it."""

    def __init__(self) -> None:
        self.operator = Key("operator")
        self.account = Key("account")
        # Once: a server does not let its operator change.
        self._operator_jwt = self.operator.jwt(OperatorClaims(self.operator.pair, name="operator"))
        self._account = AccountClaims(self.account.pair, name="account")

    def user(self, key: Key, seconds: float | None = None, **fields: Any) -> str:
        """A user's JWT, good for so long."""
        expires = None if seconds is None else int(time.time() + seconds)
        return self.account.jwt(UserClaims(key.pair, name="user", expires=expires, **fields))

    def revoke(self, key: Key) -> None:
        """Revoke all that the user has been given up to now; reload the server's configuration."""
        self._account.revoke(key.pair)

    def config(self, more: str = "", expires: int | None = None) -> str:
        """Operator, account and memory resolver."""
        self._account.expires = expires or 0
        account = self.operator.jwt(self._account)
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


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
