"""``nats-ev auth``: keys, users, JWTs, accounts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.operators import Operator
from nats_ev.accounts import AccountClaims, KeyPair, UserClaims, write_creds
from nats_ev.cli.accounts import _write_seed

from .conftest import Run


def test_keys(offline: Run, tmp_path: Path) -> None:
    for kind in ("operator", "account", "user", "server", "cluster", "curve"):
        seed, public = offline("auth", "key", kind).out.split()
        assert KeyPair.from_seed(seed).public_key() == public
        assert offline("auth", "public", "-", stdin=seed.encode()).out == f"{public}\n"
    path = tmp_path / "account.nk"
    public = offline("auth", "key", "account", "--output", str(path)).out.strip()
    assert path.stat().st_mode & 0o777 == 0o600
    assert offline("auth", "public", str(path)).out.strip() == public
    again = offline("auth", "key", "account", "-o", str(path))
    assert again.status == 1
    assert "File exists" in again.err
    assert offline("auth", "key", "prince").status == 2
    assert offline("auth", "public", str(tmp_path / "missing")).err.endswith(
        "No such file or directory\n"
    )
    assert "invalid NKey seed" in offline("auth", "public", "-", stdin=b"SU").err


def test_users_and_what_their_jwts_say(offline: Run, tmp_path: Path) -> None:
    seed, creds = tmp_path / "account.nk", tmp_path / "worker.creds"
    account = offline("auth", "key", "account", "--output", str(seed)).out.strip()
    user = offline(
        "auth", "user", "worker", "--key", str(seed), "--expires", "8h", "--allow-pub", "jobs.>",
        "--allow-pub", "more", "--deny-sub", "secret", "--tag", "x:1", "--output", str(creds),
    ).out.strip()  # fmt: skip
    assert creds.stat().st_mode & 0o777 == 0o600
    shown = offline("auth", "show", str(creds), "--json").json
    assert (shown["iss"], shown["sub"], shown["name"]) == (account, user, "worker")
    assert shown["nats"]["pub"] == {"allow": ["jobs.>", "more"]}
    assert shown["nats"]["sub"] == {"deny": ["secret"]}
    assert shown["exp"] - shown["iat"] == 8 * 3600
    assert shown["issues"] == []
    text = offline("auth", "show", str(creds)).out
    assert text.startswith("JWT of type user\n")
    assert "name: worker" in text
    assert "SU" not in text
    printed = offline("auth", "user", "bob", "--key", str(seed), "--bearer")
    assert "-----BEGIN USER NKEY SEED-----" in printed.out
    assert offline("auth", "show", "-", "--json", stdin=printed.out.encode()).json["nats"][
        "bearer_token"
    ]
    scoped = ("auth", "user", "bob", "--key", str(seed), "--scoped", "--account")
    assert offline(*scoped, account).status == 0
    both = offline(*scoped, account, "--allow-pub", "x")
    assert (both.status, both.out) == (2, "")
    assert "those of the signing key" in both.err
    for wrong in (
        offline(*scoped, "A"),
        offline(*scoped, account, "--bearer"),
        offline("auth", "user", "bob", "--key", str(creds)),
        offline("auth", "user", "bob", "--key", str(seed), "--allow-pub", "a..b"),
        offline("auth", "user", "bob", "--key", str(seed), "-o", str(tmp_path / "no" / "x")),
        offline("auth", "show", "-", stdin=b"no JWT"),
    ):
        assert wrong.status == 1
        assert wrong.err.startswith("nats-ev: ")


def test_what_is_wrong_with_a_jwt_is_told(offline: Run) -> None:
    jwt = UserClaims(KeyPair.create_user(), expires=1_700_000_000, src=["x"]).encode(
        KeyPair.create_account(), check=False
    )
    shown = offline("auth", "show", "-", stdin=jwt.encode())
    assert shown.status == 0
    assert shown.err == "warning: claim is expired\nerror: invalid cidr 'x' in user src limits\n"
    assert "2023-11-14 22:13:20 UTC" in shown.out
    claims = UserClaims(KeyPair.create_user())
    claims.not_before = 1 << 61
    odd = claims.encode(KeyPair.create_account())
    assert str(1 << 61) in offline("auth", "show", "-", stdin=odd.encode()).out


@pytest.mark.server
def test_accounts_of_a_server(offline: Run, own_server: Any, tmp_path: Path) -> None:
    operator, account, user = Operator(), KeyPair.create_account(), KeyPair.create_user()
    server = own_server(config=operator.config(folder=tmp_path / "jwts"))
    creds, file = tmp_path / "system.creds", tmp_path / "account.jwt"
    write_creds(creds, UserClaims(user).encode(operator.system), user)
    file.write_text(operator.sign(AccountClaims(account, name="NEW")) + "\n")
    connect = ("--server", server.url, "--creds", str(creds))
    assert offline("auth", "push", str(file), *connect).out == f"{account.public_key()}\n"
    assert account.public_key() in offline("auth", "ls", *connect).out.split()
    assert len(offline("auth", "ls", "--json", *connect).json) == 2
    assert offline("auth", "get", account.public_key(), *connect).out == file.read_text()
    missing = offline("auth", "get", KeyPair.create_account().public_key(), *connect)
    assert (missing.status, missing.err) == (1, "nats-ev: no such account\n")
    assert offline("auth", "get", "x", *connect).status == 1


def test_a_full_disk_leaves_no_part_of_a_key(offline: Run, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "account.nk"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            _write_seed(str(path), KeyPair.create_account())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not path.exists()
    assert offline("auth", "key", "account", "-o", str(path)).status == 0
