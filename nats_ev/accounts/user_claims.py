"""What accounts sign: claims of users and activation tokens; and the .creds files of users."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import tempfile
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..arguments import Unpack
from ..redact import without_traceback
from . import shapes, validation
from .claims import Claims, Key, When, decode, public_of, register
from .errors import JwtError
from .keys import KeyPair, kind_of
from .types import ActivationFields, Duration, UserFields
from .validation import Issues

if TYPE_CHECKING:
    from typing_extensions import Self

NO_LIMIT = -1
_NOTICE = """\
************************* IMPORTANT *************************
NKEY Seed printed below can be used to sign and prove identity.
NKEYs are sensitive and should be treated as secrets.

"""
_END = "*************************************************************\n"


@register
class UserClaims(Claims):
    """A user of an account: what it may do, and until when.

    ::

        claims = UserClaims(user, name="worker", expires=timedelta(days=30))
        claims.allow_pub("jobs.>").allow_sub("jobs.>", "_INBOX.>")
        jwt = claims.encode(account)

    Args:
        subject: the user's public key or `KeyPair`.
        name: for people; with some servers' logs it is all that they show.
        expires, not_before: a datetime, a timedelta from now, or seconds since 1970.
        audience: in answers to an auth callout without operator: the account's name.
        scoped: the user has the permissions and limits of the signing key that will sign it, and none of
            its own.
        fields: see `types.UserFields`; pub, sub, resp, subs, data, payload, src, times, times_location,
            bearer_token, proxy_required, allowed_connection_types, issuer_account, tags. Without pub and
            sub everything is allowed.

    Raises:
        JwtError: a field has a wrong type.
        TypeError: no such field, or an argument of a wrong type.
    """

    type = "user"
    signers = ("account",)
    subject_kind = "user"
    shape = shapes.USER

    nats: UserFields
    """All fields of this kind, with the wire\'s names: a `types.UserFields`."""

    def __init__(
        self,
        subject: Key,
        /,
        *,
        name: str = "",
        expires: When = None,
        not_before: When = None,
        audience: str = "",
        scoped: bool = False,
        **fields: Unpack[UserFields],
    ) -> None:
        super().__init__(
            subject,
            name=name,
            expires=expires,
            not_before=not_before,
            audience=audience,
            **fields,
        )
        if scoped:
            if not self.has_empty_permissions():
                raise JwtError("a scoped user has no permissions or limits of its own")
        else:
            self.nats = {"subs": NO_LIMIT, "data": NO_LIMIT, "payload": NO_LIMIT, **self.nats}

    def has_empty_permissions(self) -> bool:
        """Return whether the user has no permissions and limits of its own, as a scoped one must."""
        own = {"issuer_account", "tags", "type", "version"}
        return not any(
            any(value.values()) if isinstance(value, dict) else value
            for name, value in self.nats.items()
            if name not in own
        )

    def allow_pub(self, *subjects: str) -> Self:
        """Let the user publish to these subjects, and to no others that are not allowed too.

        At least one is needed: an empty list would allow everything. ``deny_pub(">")`` allows nothing.
        """
        return self._add("pub", "allow", subjects)

    def deny_pub(self, *subjects: str) -> Self:
        """Forbid the user to publish to these subjects."""
        return self._add("pub", "deny", subjects)

    def allow_sub(self, *subjects: str) -> Self:
        """Let the user subscribe to these subjects, and to no others that are not allowed too.

        A subject may have a queue group after a blank: then only that one is allowed. At least one subject
        is needed: an empty list would allow everything.
        """
        return self._add("sub", "allow", subjects)

    def deny_sub(self, *subjects: str) -> Self:
        """Forbid the user to subscribe to these subjects."""
        return self._add("sub", "deny", subjects)

    def allow_responses(self, max: int = 1, ttl: Duration = timedelta(0)) -> Self:
        """Let the user answer requests that it has received, whatever else it may publish to.

        Args:
            max: answers for each request; -1: no limit.
            ttl: how long after the request; 0: as the server has it, 2 minutes.
        """
        self.nats |= self._checked_fields({"resp": {"max": max, "ttl": ttl}})  # type: ignore[typeddict-item]
        return self

    def _add(self, way: str, list_name: str, subjects: tuple[str, ...]) -> Self:
        if not subjects:
            raise JwtError(f"{list_name}_{way} needs at least one subject")
        found: Any = self.nats
        listed = found.setdefault(way, {}).setdefault(list_name, [])
        for subject in subjects:
            if not isinstance(subject, str):
                raise TypeError(f"a subject must be str, not {type(subject).__name__}")
            if subject not in listed:
                listed.append(subject)
        return self

    def _validate(self, issues: Issues) -> None:
        validation.check_user(issues, self.nats)  # type: ignore[arg-type]


@register
class ActivationClaims(Claims):
    """An activation token: the right of another account to import what this one exports.

    Args:
        subject: the public key or `KeyPair` of the account that may import.
        name, expires, not_before, audience: as for `UserClaims`.
        fields: subject, the exported subject or a part of it; kind, "stream" or "service";
            issuer_account, if a signing key signs; tags.

    Raises:
        JwtError: a field has a wrong type.
        TypeError: no such field, or an argument of a wrong type.
    """

    type = "activation"
    signers = ("account", "operator")
    subject_kind = "account"
    shape = shapes.ACTIVATION

    nats: ActivationFields
    """All fields of this kind, with the wire\'s names: a `types.ActivationFields`."""

    def __init__(
        self,
        subject: Key,
        /,
        *,
        name: str = "",
        expires: When = None,
        not_before: When = None,
        audience: str = "",
        **fields: Unpack[ActivationFields],
    ) -> None:
        super().__init__(
            subject,
            name=name,
            expires=expires,
            not_before=not_before,
            audience=audience,
            **fields,
        )

    def hash_id(self) -> str:
        """Return what identifies issuer, importer and subject without wildcards. Raises `JwtError`."""
        subject = self.nats.get("subject", "")
        if not (self.issuer and self.subject and subject):
            raise JwtError("not enough data in the activation claims to create a hash")
        parts = subject.split(".")
        cut = next((i for i, token in enumerate(parts) if token in ("*", ">")), len(parts))
        text = f"{self.issuer}.{self.subject}.{'.'.join(parts[:cut]) or '_'}"
        return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()

    def _validate(self, issues: Issues) -> None:
        validation.check_activation(issues, self.nats)  # type: ignore[arg-type]


def issue_user_jwt(
    signing_key: KeyPair,
    account: Key,
    user: Key,
    *,
    name: str = "",
    expires: datetime | timedelta | int | None = None,
    tags: tuple[str, ...] | list[str] = (),
    issued_at: When = None,
) -> str:
    """Return the JWT of a user with the permissions of a scoped signing key (ADR-14).

    Args:
        signing_key: the account's signing key, for which the account has a scope.
        account: the account's public key or `KeyPair`.
        user: the user's public key or `KeyPair`.
        name: default: the user's public key.
        expires: as for `UserClaims`; default: never.
        tags: of the user, which the scope's template may use.
        issued_at: default: now.

    Raises:
        JwtError: account or user is a key of another kind.
    """
    public, owner = public_of(user, "user"), public_of(account, "account")
    if kind_of(owner) != "account":
        raise JwtError("account must be a public account key")
    claims = UserClaims(
        public,
        name=name or public,
        expires=expires,
        scoped=True,
        issuer_account=owner,
        tags=list(tags),
    )
    return claims.encode(signing_key, issued_at=issued_at)


# Credentials files.


def decorate_jwt(jwt: str) -> str:
    """Return a JWT between the lines that tell its kind. Raises `JwtError`."""
    return _block(f"NATS {decode(jwt).type.upper()} JWT", jwt.strip())


def decorate_seed(key: KeyPair) -> str:
    """Return the seed of an operator, account or user between the lines that tell its kind.

    Raises `NkeyError` if the key has no seed, `JwtError` if it is of another kind.
    """
    if key.kind not in ("operator", "account", "user"):
        raise JwtError(
            f"only seeds of operators, accounts and users are decorated, not of kind {key.kind}"
        )
    return _NOTICE + _block(f"{key.kind.upper()} NKEY SEED", key.seed()) + _END


@without_traceback
def format_user_config(jwt: str, user: KeyPair) -> str:
    """Return the text of a .creds file.

    Args:
        jwt: of the user.
        user: the key that it was issued for, with its secret.

    Raises:
        JwtError: jwt is no user's, or another user's.
        NkeyError: the key has no seed.
    """
    claims = decode(jwt)
    if claims.type != "user":
        raise JwtError(f"a creds file has a user's JWT, not one of type {claims.type[:60]!r}")
    if claims.subject != user.public_key():
        raise JwtError("the JWT is that of another user")
    return decorate_jwt(jwt) + decorate_seed(user)


def parse_decorated_jwt(text: str) -> str:
    """Return the first JWT in a text such as that of a .creds file. Raises `JwtError` if it has none."""
    found = re.search(r"(?<![\w.-])eyJ[\w-]+\.[\w-]+\.[\w-]+(?![\w.-])", text, re.ASCII)
    if found is None:
        raise JwtError("no JWT in this text")
    return found[0]


@without_traceback
def parse_decorated_nkey(text: str) -> KeyPair:
    """Return the key of the first seed in a text such as that of a .creds file.

    Raises `NkeyError` if the text has none.
    """
    found = re.search(r"(?<![A-Z0-9])S[A-Z][A-Z2-7]{56}(?![A-Z0-9])", text)
    return KeyPair.from_seed(found[0] if found is not None else "")


@without_traceback
def write_creds(path: str | os.PathLike[str], jwt: str, user: KeyPair) -> None:
    """Write a .creds file that only its owner can read; one that exists is replaced at once.

    Args:
        path: the file.
        jwt: of the user.
        user: the key that it was issued for, with its secret.

    Raises:
        JwtError, NkeyError: as `format_user_config`.
        OSError: the file can't be written.
    """
    text = format_user_config(jwt, user)
    folder, name = os.path.split(os.path.abspath(os.fspath(path)))
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)  # mode 0600
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, os.path.join(folder, name))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _block(label: str, content: str) -> str:
    return f"-----BEGIN {label}-----\n{content}\n------END {label}------\n\n"
