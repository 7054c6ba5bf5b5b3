"""An operator with a system account and others, for servers in operator mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nats_ev.accounts import AccountClaims, KeyPair, OperatorClaims, UserClaims


class Operator:
    """Keys and JWTs of an operator; `config` is the server's configuration."""

    def __init__(self, **fields: Any) -> None:
        self.key = KeyPair.create_operator()
        self.system = KeyPair.create_account()
        self.claims = OperatorClaims(
            self.key, name="acme", system_account=self.system.public_key(), **fields
        )
        self.jwt = self.claims.encode(self.key)
        self.accounts = {
            self.system.public_key(): self.sign(AccountClaims(self.system, name="SYS"))
        }

    def sign(self, claims: AccountClaims) -> str:
        """An account's JWT."""
        return claims.encode(self.key)

    def add(self, claims: AccountClaims) -> str:
        """Sign an account, and let servers that are configured from now on know it."""
        jwt = self.accounts[claims.subject] = self.sign(claims)
        return jwt

    def account(self, name: str = "APP") -> KeyPair:
        """A new account without limits."""
        key = KeyPair.create_account()
        self.add(AccountClaims(key, name=name))
        return key

    def system_user(self) -> dict[str, str]:
        """Options of a client that is a user of the system account."""
        return credentials(self.system)

    def config(self, more: str = "", folder: Path | None = None) -> str:
        """The configuration: accounts in memory, or a resolver of type full with a folder."""
        resolver = "resolver: MEMORY"
        if folder is not None:
            resolver = f'resolver {{ type: full, dir: "{folder}", allow_delete: true }}'
        preload = "\n".join(f"  {key}: {jwt}" for key, jwt in self.accounts.items())
        return (
            f"server_name: test\noperator: {self.jwt}\n"
            f"system_account: {self.system.public_key()}\n"
            f"{resolver}\nresolver_preload: {{\n{preload}\n}}\n{more}"
        )


def credentials(
    signer: KeyPair, claims: UserClaims | None = None, user: KeyPair | None = None, **options: Any
) -> dict[str, str]:
    """Options of a client that is a user of an account.

    Args:
        signer: the account's key.
        claims: of the user; default: all rights.
        user: the user's key.
        options: of `UserClaims`.
    """
    user = user or KeyPair.create_user()
    claims = claims or UserClaims(user, name="user", **options)
    return {"jwt": claims.encode(signer), "nkey_seed": user.seed()}
