"""Commands for keys, JWTs and the accounts of servers: ``auth``."""

from __future__ import annotations

import os
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .client import Settings
from .command import Group, with_settings
from .output import details, note, write, write_json
from .values import DURATION

if TYPE_CHECKING:
    from nats_ev.accounts import Claims, KeyPair

_JSON = click.option("--json", "as_json", is_flag=True, help="print JSON")
_KINDS = ("operator", "account", "user", "server", "cluster", "curve")
_OUTPUT = click.option("--output", "-o", type=click.Path(), help="write a file of mode 0600")


@click.group(cls=Group)
def auth() -> None:
    """Make keys and users, read JWTs, and manage the accounts of servers."""


def _text_of(path: str) -> str:
    """Return the content of a file, or of standard input for "-"."""
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _key_of(path: str) -> KeyPair:
    from nats_ev.accounts import parse_decorated_nkey

    return parse_decorated_nkey(_text_of(path))


@auth.command(
    "key",
    connects=False,
    examples="""
        auth key user
        auth key account --output account.nk
    """,
)
@click.argument("kind", type=click.Choice(_KINDS))
@_OUTPUT
def key(kind: str, output: str | None) -> None:
    """Make an NKey: print its seed and its public key.

    With --output the seed goes into a new file, and the public key alone is printed.
    """
    from nats_ev.accounts import KeyPair

    pair = KeyPair.create_pair(kind)
    if output is None:
        write(pair.seed())
    else:
        try:
            _write_seed(output, pair)
        except OSError as error:
            raise click.ClickException(f"{output}: {error.strerror}") from None
    write(pair.public_key())


def _write_seed(path: str, pair: KeyPair) -> None:
    """Write a seed into a new file, which does not exist if it can't have all of it. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w") as file:
            file.write(pair.seed() + "\n")
    except BaseException:
        os.unlink(path)
        raise


@auth.command(
    "public",
    connects=False,
    examples="""
        auth public account.nk
        auth public worker.creds
    """,
)
@click.argument("file")
def public(file: str) -> None:
    """Print the public key of the seed in a file.

    The file may be a .creds file, or - for standard input.
    """
    write(_key_of(file).public_key())


@auth.command(
    "show",
    aliases=("info",),
    connects=False,
    examples="""
        auth show worker.creds
        auth get ACCOUNT | nats-ev auth show -
    """,
)
@click.argument("file")
@_JSON
def show(file: str, as_json: bool) -> None:
    """Check the signature of a JWT in a file, and show it.

    The file may be a .creds file, or - for standard input.
    """
    from nats_ev.accounts import decode, parse_decorated_jwt

    claims = decode(parse_decorated_jwt(_text_of(file)))
    issues = claims.validate()
    if as_json:
        found = [
            {"description": text, "blocking": blocking, "time_check": time_check}
            for text, blocking, time_check in issues
        ]
        write_json({**claims.to_dict(), "issues": found})
    else:
        _show(claims)
    for issue in issues:
        note(f"{'error' if issue.blocking else 'warning'}: {issue.description}")


def _show(claims: Claims) -> None:
    times = {
        "issued at": claims.issued_at,
        "not before": claims.not_before,
        "expires": claims.expires,
    }
    fields = [
        ("name", claims.name),
        ("subject", claims.subject),
        ("issuer", claims.issuer),
        ("audience", claims.audience),
        *((label, _time(moment)) for label, moment in times.items()),
        *(
            (name.replace("_", " "), value)
            for name, value in claims.to_dict()["nats"].items()
            if name not in ("type", "version")
        ),
    ]
    shown = [(label, value) for label, value in fields if value not in ("", None, {}, [])]
    details(f"JWT of type {claims.type}", ("", shown))


def _time(seconds: int) -> str:
    if not seconds:
        return ""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):
        return str(seconds)


_SUBJECTS: Any = {"multiple": True, "metavar": "SUBJECT"}


@auth.command(
    "user",
    connects=False,
    examples="""
        auth user worker --key account.nk --output worker.creds
        auth user till --key account.nk --expires 8h --allow-pub 'sales.>' --allow-sub '_INBOX.>'
        auth user bob --key signing.nk --account ACCOUNT --scoped --tag team:blue
    """,
)
@click.argument("name")
@click.option("--key", "signer", required=True, help="file with the seed of the account")
@click.option("--account", help="the account's public key, if the seed is that of a signing key")
@click.option("--scoped", is_flag=True, help="rights are those of the signing key")
@click.option("--expires", type=DURATION, help="how long the user is valid")
@click.option("--allow-pub", **_SUBJECTS, help="may publish to it; may be repeated")
@click.option("--deny-pub", **_SUBJECTS, help="may not publish to it")
@click.option("--allow-sub", **_SUBJECTS, help="may subscribe to it")
@click.option("--deny-sub", **_SUBJECTS, help="may not subscribe to it")
@click.option("--bearer", is_flag=True, help="the JWT alone is enough to connect")
@click.option("--tag", multiple=True, help="a tag; may be repeated")
@_OUTPUT
def user(
    name: str,
    signer: str,
    account: str | None,
    scoped: bool,
    expires: timedelta | None,
    bearer: bool,
    tag: tuple[str, ...],
    output: str | None,
    **subjects: tuple[str, ...],
) -> None:
    """Issue a user: print or write a .creds file."""
    from nats_ev.accounts import KeyPair, UserClaims, format_user_config, write_creds

    pair = KeyPair.create_user()
    fields: Any = {"tags": list(tag)}
    if account:
        fields["issuer_account"] = account
    if bearer:
        fields["bearer_token"] = True
    claims = UserClaims(pair, name=name, expires=expires, scoped=scoped, **fields)
    for method, given in subjects.items():
        if given:
            getattr(claims, method)(*given)
    if scoped and not claims.has_empty_permissions():
        raise click.UsageError("--scoped: the rights are those of the signing key, and no others")
    jwt = claims.encode(_key_of(signer))
    if output is None:
        write(format_user_config(jwt, pair))
        return
    try:
        write_creds(output, jwt, pair)
    except OSError as error:
        raise click.ClickException(f"{output}: {error.strerror}") from None
    write(pair.public_key())


@auth.command("push", examples="auth push account.jwt --creds system.creds")
@click.argument("file")
@with_settings
def push(settings: Settings, file: str) -> None:
    """Store an account's JWT in servers.

    The connection must be that of a user of the system account.
    """
    from nats_ev.accounts import parse_decorated_jwt

    jwt = parse_decorated_jwt(_text_of(file))
    with settings.connect() as nc:
        write(_resolver(nc, settings).push(jwt))


@auth.command("ls", aliases=("list",), examples="auth ls --creds system.creds")
@_JSON
@with_settings
def ls(settings: Settings, as_json: bool) -> None:
    """List the accounts that servers keep."""
    with settings.connect() as nc:
        found = sorted(_resolver(nc, settings).list_accounts())
    if as_json:
        write_json(found)
    else:
        for each in found:
            write(each)


@auth.command("get", examples="auth get ACCOUNT --creds system.creds > account.jwt")
@click.argument("account")
@with_settings
def get(settings: Settings, account: str) -> None:
    """Print the JWT of an account that servers keep."""
    with settings.connect() as nc:
        write(_resolver(nc, settings).lookup(account))


def _resolver(nc: Any, settings: Settings) -> Any:
    from nats_ev.blocking import AccountResolver

    return AccountResolver(nc, settings.wait)


COMMANDS = (auth,)
