"""Claims of accounts and operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..arguments import Unpack
from . import shapes, validation
from .claims import Claims, Key, When, public_of, register, seconds
from .errors import JwtError
from .keys import kind_of
from .types import (
    AccountFields,
    Export,
    ExportType,
    Import,
    JetStreamLimits,
    OperatorFields,
    OperatorLimits,
    UserPermissionLimits,
    WeightedMapping,
)
from .user_claims import NO_LIMIT, ActivationClaims, UserClaims
from .validation import ANY, Issues, check_account

if TYPE_CHECKING:
    from typing_extensions import Self

_NO_LIMITS: OperatorLimits = {
    "subs": NO_LIMIT,
    "data": NO_LIMIT,
    "payload": NO_LIMIT,
    "imports": NO_LIMIT,
    "exports": NO_LIMIT,
    "wildcards": True,
    "conn": NO_LIMIT,
    "leaf": NO_LIMIT,
}


@register
class AccountClaims(Claims):
    """An account: its limits, what it exports and imports, and who signs for it.

    ::

        claims = AccountClaims(account, name="APP").enable_jetstream(disk_storage=10 << 30)
        claims.add_export("orders.>", "stream")
        jwt = claims.encode(operator)

    Args:
        subject: the account's public key or `KeyPair`.
        name, expires, not_before, audience: as for `UserClaims`.
        fields: see `types.AccountFields`. In limits what is left out is without limit, but JetStream,
            which is off.

    Raises:
        JwtError: a field has a wrong type.
        TypeError: no such field, or an argument of a wrong type.
    """

    type = "account"
    signers = ("account", "operator")
    subject_kind = "account"
    shape = shapes.ACCOUNT

    nats: AccountFields
    """All fields of this kind, with the wire\'s names: a `types.AccountFields`."""

    def __init__(
        self,
        subject: Key,
        /,
        *,
        name: str = "",
        expires: When = None,
        not_before: When = None,
        audience: str = "",
        **fields: Unpack[AccountFields],
    ) -> None:
        super().__init__(
            subject,
            name=name,
            expires=expires,
            not_before=not_before,
            audience=audience,
            **fields,
        )
        self.nats["limits"] = {**_NO_LIMITS, **self.nats.get("limits", {})}

    def set_limits(self, **limits: Unpack[OperatorLimits]) -> Self:
        """Set limits; -1: no limit. Those that are left out stay. Raises `JwtError`."""
        self.nats.setdefault("limits", {}).update(
            self._checked_fields({"limits": limits})["limits"]
        )
        return self

    def enable_jetstream(
        self, *, tier: str | None = None, **limits: Unpack[JetStreamLimits]
    ) -> Self:
        """Let the account use JetStream.

        Args:
            tier: "R1", "R3": these limits count for streams of so many replicas. None: for all; an
                account has one or the other.
            limits: see `types.JetStreamLimits`; those that are left out are without limit.

        Raises:
            JwtError: a limit is no int.
        """
        given: Any = {
            "mem_storage": NO_LIMIT,
            "disk_storage": NO_LIMIT,
            "streams": NO_LIMIT,
            "consumer": NO_LIMIT,
            **limits,
        }
        wanted = {"tiered_limits": {tier: given}} if tier is not None else given
        found = self._checked_fields({"limits": wanted})["limits"]
        mine: Any = self.nats.setdefault("limits", {})
        if tier is not None:
            mine.setdefault("tiered_limits", {}).update(found["tiered_limits"])
        else:
            mine |= found
        return self

    def add_export(self, subject: str, type: ExportType, /, **fields: Unpack[Export]) -> Self:
        """Offer a subject to other accounts.

        Args:
            subject: may have wildcards.
            type: "stream" or "service".
            fields: see `types.Export`.

        Raises:
            JwtError: a field is unknown or has a wrong type.
        """
        export = {"subject": subject, "type": type, **fields}
        self.nats.setdefault("exports", []).extend(
            self._checked_fields({"exports": [export]})["exports"]
        )
        return self

    def add_import(
        self, subject: str, account: Key, type: ExportType, /, **fields: Unpack[Import]
    ) -> Self:
        """Take what another account exports.

        Args:
            subject: as the exporting account has it.
            account: that account's public key or `KeyPair`.
            type: "stream" or "service".
            fields: see `types.Import`; token is an activation token.

        Raises:
            JwtError: a field is unknown or has a wrong type.
        """
        each = {
            "subject": subject,
            "account": public_of(account, "account"),
            "type": type,
            **fields,
        }
        self.nats.setdefault("imports", []).extend(
            self._checked_fields({"imports": [each]})["imports"]
        )
        return self

    def add_signing_key(
        self,
        key: Key,
        *,
        role: str | None = None,
        template: UserPermissionLimits | None = None,
        description: str = "",
    ) -> Self:
        """Let another key sign for the account. A key that it has already is replaced.

        Args:
            key: a public account key or a `KeyPair` of kind account.
            role: a name for the scope. With role or template the key is scoped: its users have the
                template's permissions and limits, and none of their own.
            template: see `types.UserPermissionLimits`; subjects may have ``{{name()}}``,
                ``{{subject()}}``, ``{{tag(x)}}``, ``{{account-name()}}``, ``{{account-subject()}}`` and
                ``{{account-tag(x)}}``. Limits that are left out are without limit.
            description: for people.

        Raises:
            JwtError: a field of the template is unknown or has a wrong type.
        """
        public = public_of(key)
        entry: Any = public
        if role is not None or template is not None:
            entry = {
                "kind": "user_scope",
                "key": public,
                "role": role or "",
                "template": {
                    "subs": NO_LIMIT,
                    "data": NO_LIMIT,
                    "payload": NO_LIMIT,
                    **(template or {}),
                },
                "description": description,
            }
        (entry,) = self._checked_fields({"signing_keys": [entry]})["signing_keys"]
        self.remove_signing_key(public)
        self.nats.setdefault("signing_keys", []).append(entry)
        return self

    def remove_signing_key(self, key: Key) -> Self:
        """Take the right to sign for the account from a key; an unknown one is ignored."""
        public = public_of(key)
        kept = [each for each in self.nats.get("signing_keys", []) if _key_of(each) != public]
        if "signing_keys" in self.nats:
            self.nats["signing_keys"] = kept
        return self

    def revoke(self, user: Key = ANY, at: When = None) -> Self:
        """Revoke the JWTs of a user that were issued up to a time.

        Args:
            user: the public key or `KeyPair`; "*": all users.
            at: default: now. A later revocation that exists is kept.
        """
        public = public_of(user, "user")
        if public != ANY and kind_of(public) is None:
            raise JwtError("user must be a public key or '*'")
        when = seconds(at if at is not None else validation.now(), "at", exact=True)
        revocations = self.nats.setdefault("revocations", {})
        revocations[public] = max(when, revocations.get(public, 0))
        return self

    def clear_revocation(self, user: Key = ANY) -> Self:
        """Remove the revocation of a user, or that of all (``*``)."""
        self.nats.get("revocations", {}).pop(public_of(user, "user"), None)
        return self

    def is_claim_revoked(self, claims: UserClaims) -> bool:
        """Return whether the account has revoked a user's claims."""
        if not claims.issued_at or not claims.subject:
            return True
        revocations = self.nats.get("revocations", {})
        return any(revocations.get(key, -1) >= claims.issued_at for key in (ANY, claims.subject))

    def add_mapping(self, subject: str, *targets: str | WeightedMapping) -> Self:
        """Let what is published to a subject go to others; replaces the subject's mapping.

        Args:
            subject: may have wildcards.
            targets: subjects, or dicts with subject, weight (a percentage) and cluster.

        Raises:
            JwtError: a field is unknown or has a wrong type.
        """
        listed = [{"subject": each} if isinstance(each, str) else each for each in targets]
        checked = self._checked_fields({"mappings": {subject: listed}})["mappings"]
        self.nats.setdefault("mappings", {}).update(checked)
        return self

    def enable_external_authorization(
        self,
        *auth_users: Key,
        allowed_accounts: Sequence[Key] = (),
        xkey: Key = "",
    ) -> Self:
        """Let an auth callout decide about this account's users (ADR-26).

        Args:
            auth_users: users that connect without it: the callout's own.
            allowed_accounts: accounts that the callout may put users into; "*": all.
            xkey: the callout's public curve key: requests are encrypted for it.
        """
        callout: dict[str, Any] = {
            "auth_users": [public_of(user, "auth_users") for user in auth_users],
            "allowed_accounts": [public_of(each, "allowed_accounts") for each in allowed_accounts],
        }
        if xkey:
            callout["xkey"] = public_of(xkey, "xkey")
        self.nats["authorization"] = self._checked_fields({"authorization": callout})[
            "authorization"
        ]
        return self

    def did_sign(self, claims: Claims) -> bool:
        """Return whether the account, or a signing key of it, has signed claims of a user or activation."""
        if claims.issuer == self.subject:
            return True
        if not isinstance(claims, (UserClaims, ActivationClaims)):
            return False
        if claims.nats.get("issuer_account") != self.subject:
            return False
        return claims.issuer in map(_key_of, self.nats.get("signing_keys", []))

    def _validate(self, issues: Issues) -> None:
        nats: Any = self.nats
        check_account(issues, nats, self.subject, kind_of(self.issuer), _read_activation)

    def to_dict(self) -> dict[str, Any]:
        """Return the claims as on the wire, in its order; see `Claims.to_dict`."""
        body = super().to_dict()
        for name in ("imports", "exports"):
            if name in body["nats"]:
                body["nats"][name].sort(key=lambda each: each.get("subject", ""))
        if "signing_keys" in body["nats"]:
            body["nats"]["signing_keys"].sort(key=_key_of)
        return body


def _key_of(entry: Any) -> str:
    """Return the public key of an entry of signing_keys."""
    return entry if isinstance(entry, str) else entry.get("key", "")


def _read_activation(token: str) -> tuple[str, str, dict[str, Any]] | None:
    try:
        found = ActivationClaims.decode(token)
    except JwtError:
        return None
    nats: Any = found.nats
    return found.issuer, found.subject, nats


@register
class OperatorClaims(Claims):
    """An operator: whom servers trust to sign accounts.

    Args:
        subject: the operator's public key or `KeyPair`.
        name, expires, not_before, audience: as for `UserClaims`.
        fields: see `types.OperatorFields`.

    Raises:
        JwtError: a field has a wrong type.
        TypeError: no such field, or an argument of a wrong type.
    """

    type = "operator"
    signers = ("operator",)
    subject_kind = "operator"
    shape = shapes.OPERATOR

    nats: OperatorFields
    """All fields of this kind, with the wire\'s names: a `types.OperatorFields`."""

    def __init__(
        self,
        subject: Key,
        /,
        *,
        name: str = "",
        expires: When = None,
        not_before: When = None,
        audience: str = "",
        **fields: Unpack[OperatorFields],
    ) -> None:
        super().__init__(
            subject,
            name=name,
            expires=expires,
            not_before=not_before,
            audience=audience,
            **fields,
        )

    def add_signing_key(self, key: Key) -> Self:
        """Let another operator key sign accounts."""
        keys = self.nats.setdefault("signing_keys", [])
        public = public_of(key)
        if public not in keys:
            keys.append(public)
        return self

    def did_sign(self, claims: Claims) -> bool:
        """Return whether the operator, or a signing key of it, has signed claims."""
        if claims.issuer == self.subject:
            return not self.nats.get("strict_signing_key_usage") or claims.subject == self.subject
        return claims.issuer in self.nats.get("signing_keys", [])

    def _validate(self, issues: Issues) -> None:
        validation.check_operator(issues, self.nats)  # type: ignore[arg-type]
