"""Claims: what a JWT says, decoded or to be encoded (ADR-14, nats-io/jwt v2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from . import shapes, tokens, validation
from .errors import JwtError, JwtValidationError, ValidationIssue
from .keys import KeyPair, is_secret, kind_of
from .validation import Issues

if TYPE_CHECKING:
    from typing_extensions import Self

VERSION = 2
_EARLIEST = 1_000_000_000  # seconds since 1970: a smaller int was meant as a time from now
_LATEST = 253_402_300_800  # the year 10000

When = datetime | timedelta | int | None
Key = KeyPair | str


def seconds(when: When, what: str, exact: bool = False) -> int:
    """Return a point in time in seconds since 1970; 0 for None.

    Args:
        when: a datetime (a naive one is local time), a timedelta from now, or seconds since 1970.
        what: what errors call it.
        exact: take any number of seconds.

    Raises:
        JwtError: an int is so small that seconds from now were meant; or the time is out of range.
        TypeError: when is none of these.
    """
    if when is None:
        return 0
    if isinstance(when, timedelta):
        when = validation.now() + round(when.total_seconds())
    if isinstance(when, datetime):
        try:
            when = int(when.timestamp())
        except (OverflowError, OSError, ValueError):  # near the ends of the calendar
            raise JwtError(f"{what} is out of range: {when}") from None
    if isinstance(when, bool) or not isinstance(when, int):
        raise TypeError(f"{what} must be a datetime, timedelta or int, not {type(when).__name__}")
    if when >= _LATEST:
        raise JwtError(f"{what} is out of range: {when}")
    if when < 0 or (0 < when < _EARLIEST and not exact):
        raise JwtError(f"{what} is in seconds since 1970, not {when}: use a timedelta")
    return when


def public_of(key: Key, what: str = "key") -> str:
    """Return the public key of a `KeyPair`, or the text that is one. Raises TypeError.

    A seed or private key is a `JwtError`: JWTs are for all to read.
    """
    if isinstance(key, KeyPair):
        return key.public_key()
    if isinstance(key, str):
        if is_secret(key):
            raise JwtError(f"{what} is a secret key, and its public key is needed")
        return key
    raise TypeError(f"{what} must be a KeyPair or str, not {type(key).__name__}")


class Claims:
    """The claims of a JWT of any kind; `decode` returns an object of the class for its kind.

    Attributes:
        type: the kind, as the wire has it, such as "user".
        subject: whom the JWT is about, a public key (sub).
        issuer: who has signed it (iss), "" before.
        name: for people.
        audience: (aud) "" if there is none.
        expires: (exp) in seconds since 1970; 0: never.
        not_before: (nbf) in seconds since 1970; 0: from the beginning.
        issued_at: (iat) in seconds since 1970; 0 before it was signed.
        id: (jti) "" before it was signed.
        nats: all other fields, a dict with the wire's names.
    """

    type: str = "generic"
    # The kinds of keys that may sign these claims; none: all.
    signers: ClassVar[tuple[str, ...]] = ()
    subject_kind: ClassVar[str | None] = None
    shape: ClassVar[shapes.Struct] = shapes.GENERIC

    subject: str
    nats: Any

    def __init__(
        self,
        subject: Key,
        /,
        *,
        name: str = "",
        expires: When = None,
        not_before: When = None,
        audience: str = "",
        **fields: Any,
    ) -> None:
        """subject: a public key or a `KeyPair`; the rest: see the class."""
        self.subject = public_of(subject, "subject")
        for what, text in (("name", name), ("audience", audience)):
            if not isinstance(text, str):
                raise TypeError(f"{what} must be str, not {type(text).__name__}")
        self.name = name
        self.audience = audience
        self.expires = seconds(expires, "expires")
        self.not_before = seconds(not_before, "not_before")
        self.issuer = self.id = ""
        self.issued_at = 0
        self.nats = self._checked_fields(fields)

    @classmethod
    def _checked_fields(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return fields of `nats` that a caller gives. Raises `JwtError`, TypeError for unknown ones."""
        known = cls.shape.fields
        for name in fields:
            if known and (name not in known or name in ("type", "version")):
                raise TypeError(f"{cls.__name__} has no field {name!r}; it has {', '.join(known)}")
        found: dict[str, Any] = shapes.checked(fields, cls.shape, "", strict=True)
        if "tags" in found and known:
            found["tags"] = list(
                dict.fromkeys(tag.strip().lower() for tag in found["tags"] if tag.strip())
            )
        return found

    @classmethod
    def _of(cls, body: Mapping[str, Any]) -> Self:
        """Return the claims of a body that was decoded, its version migrated. Raises `JwtError`."""
        made = cls.__new__(cls)
        standard = {}
        for name, kind in tokens.STANDARD.items():
            value = body.get(name)
            standard[name] = kind() if value is None else shapes.checked(value, kind, name)
        made.subject, made.issuer, made.name = standard["sub"], standard["iss"], standard["name"]
        made.audience, made.id = standard["aud"], standard["jti"]
        made.expires, made.not_before = standard["exp"], standard["nbf"]
        made.issued_at = standard["iat"]
        nats = body.get("nats")
        made.nats = shapes.checked({} if nats is None else nats, cls.shape, "nats")
        return made

    def __repr__(self) -> str:
        named = f" {self.name!r}" if self.name else ""
        return f"<{type(self).__name__} {self.subject}{named}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # it can be changed

    def to_dict(self) -> dict[str, Any]:
        """Return the claims as on the wire, in its order. Raises `JwtError` for a field of a wrong type."""
        nats = shapes.checked(self.nats, self.shape, "nats")
        nats |= {"type": self.type, "version": VERSION}
        body: dict[str, Any] = {
            "aud": self.audience, "exp": self.expires, "jti": self.id, "iat": self.issued_at,
            "iss": self.issuer, "name": self.name, "nbf": self.not_before, "sub": self.subject,
        }  # fmt: skip
        for name, kind in tokens.STANDARD.items():
            shapes.checked(body[name], kind, name)
        body = {name: value for name, value in body.items() if value}
        body["nats"] = shapes.ordered(nats, self.shape)
        return body

    def validate(self) -> list[ValidationIssue]:
        """Return all that is wrong with the claims, as nats-io/jwt and servers see it; empty if nothing is.

        Raises `JwtError` if a field has a wrong type.
        """
        shapes.checked(self.nats, self.shape, "nats")
        issues = Issues()
        validation.check_times(issues, self.expires, self.not_before)
        self._validate(issues)
        return issues

    def _validate(self, issues: Issues) -> None:
        """Add what is wrong with the claims of this kind."""

    def encode(self, key: KeyPair, *, issued_at: When = None, check: bool = True) -> str:
        """Return the JWT of the claims, signed; issuer, issued_at and id are set.

        The result depends on nothing else if issued_at is given.

        Args:
            key: of the issuer, with its secret.
            issued_at: default: now.
            check: False: sign what `validate` calls blocking, too.

        Raises:
            JwtError: the key or the subject is of a kind that does not fit, or a field has a wrong type.
            JwtValidationError: `validate` has found something that blocks.
            NkeyError: the key can't sign.
        """
        if not isinstance(key, KeyPair):
            raise TypeError(f"key must be a KeyPair, not {type(key).__name__}")
        self._check_subject()
        if self.signers and key.kind not in self.signers:
            need = " or ".join(self.signers)
            raise JwtError(f"{self.type} claims are signed by a key of kind {need}, not {key.kind}")
        before = self.issuer, self.issued_at, self.id
        self.issuer, self.id = key.public_key(), ""
        try:
            self.issued_at = (
                validation.now() if issued_at is None else seconds(issued_at, "issued_at", True)
            )
            if check:
                blocking = [issue for issue in self.validate() if issue.blocking]
                if blocking:
                    text = "; ".join(issue.description for issue in blocking)
                    raise JwtValidationError(f"invalid claims: {text}", issues=blocking)
            self.id = tokens.new_id(self.to_dict())
            return tokens.write(self.to_dict(), key)
        except BaseException:
            self.issuer, self.issued_at, self.id = before
            raise

    def _check_subject(self) -> None:
        if not self.subject:
            raise JwtError("claims need a subject")
        if self.subject_kind is not None and kind_of(self.subject) != self.subject_kind:
            raise JwtError(
                f"the subject of {self.type} claims must be a public {self.subject_kind} key"
            )

    @classmethod
    def decode(cls, token: str) -> Self:
        """Return the claims of a JWT, its signature and the kind of its issuer checked.

        Whether the issuer is one to trust is for the caller to check, by `issuer` or
        `AccountClaims.did_sign` and its like; so are the times, by `validate`.

        Raises:
            JwtError: it is no JWT of this kind, or the signature is wrong.
        """
        found = decode(token)
        if not isinstance(found, cls):
            raise JwtError(f"not {cls.type} claims: they are of type {found.type[:60]!r}")
        return found


class GenericClaims(Claims):
    """Claims of a kind that has no class of its own. `nats` can hold anything that JSON can.

    ``GenericClaims(subject, **fields)``: the fields are those of `nats`.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return the claims as on the wire."""
        body = super().to_dict()
        body["nats"].pop("type")
        if "type" in self.nats:
            body["nats"]["type"] = self.nats["type"]
        return body


# Filled by the modules of the kinds.
_CLASSES: dict[str, type[Claims]] = {}


def register(kind: type[Claims]) -> type[Claims]:
    """Let `decode` know the class for a type of claims."""
    _CLASSES[kind.type] = kind
    return kind


def decode(token: str) -> Claims:
    """Return the claims of a JWT of any kind; see `Claims.decode`.

    Args:
        token: three parts with dots between them; blanks around it are ignored.

    Raises:
        JwtError: it is no JWT of NATS, or the signature or the kind of the issuer is wrong.
        TypeError: token is no str.
    """
    found = tokens.read(token)
    body, old = _migrated(found.body)
    nats = body["nats"]
    kind = nats.get("type")
    if kind in ("cluster", "server"):
        raise JwtError(f"claims of type {kind} are not supported")
    cls = _CLASSES.get(kind, GenericClaims) if isinstance(kind, str) else GenericClaims
    if not found.is_signed(body.get("iss"), found.old if cls is GenericClaims else old):
        raise JwtError("the JWT's signature is wrong")
    if cls.signers and kind_of(body.get("iss")) not in cls.signers:
        need = " or ".join(cls.signers)
        raise JwtError(f"the issuer of {cls.type} claims is not of kind {need}")
    claims = cls._of(body)
    if cls is GenericClaims and isinstance(kind, str):
        claims.type = kind
    return claims


def _migrated(body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return claims in the form of version 2, and whether they were of version 1."""
    nats = body.get("nats")
    nats = {} if nats is None else nats
    if not isinstance(nats, dict):
        raise JwtError("nats must be a dict")
    if not body.get("type"):
        version = nats.get("version") or 0
        shapes.checked(version, int, "nats.version")
        if version > VERSION:
            raise JwtError("the JWT is of a newer version")
        if version < VERSION and nats.get("type") in _CLASSES and not _of_callout(nats):
            raise JwtError(f"claims of version {version} are not supported")
        return {**body, "nats": nats}, version < VERSION
    kind = body["type"]
    moved = {name: body[name] for name in ("tags", "issuer_account") if body.get(name)}
    if kind == "activation" and "type" in nats:
        moved["kind"] = nats["type"]
    if kind == "user":
        moved |= {name: -1 for name in ("subs", "data", "payload") if name not in nats}
    return {**body, "nats": {**nats, **moved, "type": kind, "version": 1}}, True


def _of_callout(nats: dict[str, Any]) -> bool:
    """Return whether these claims have no version in nats-io/jwt's eyes."""
    return str(nats["type"]).startswith("authorization_")
