"""`KeyPair`: NKeys of all kinds, which sign, verify, seal and open (nkeys, ADR-14)."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, NoReturn

from ..auth import decode_key, encode_key, wipe
from ..redact import without_traceback
from . import crypto
from .errors import DecryptError, NkeyError

if TYPE_CHECKING:
    from typing_extensions import Self

# The first byte of the binary form of a public key, which decides its first letter.
PREFIXES = {
    "operator": 14 << 3,  # O
    "account": 0,  # A
    "user": 20 << 3,  # U
    "server": 13 << 3,  # N
    "cluster": 2 << 3,  # C
    "curve": 23 << 3,  # X
}
_KINDS = {prefix: kind for kind, prefix in PREFIXES.items()}
_SEED_PREFIX, _PRIVATE_PREFIX = 18 << 3, 15 << 3  # S, P
_SEED_LENGTH, _PUBLIC_LENGTH = 58, 56
_SECRET = re.compile(r"S[A-Z][A-Z2-7]{56}|P[A-Z2-7]{55,}")
_SEALED_AS = b"xkv1"  # the version of sealed messages

Bytes = bytes | bytearray | memoryview


def kind_of(public: object) -> str | None:
    """Return the kind of a public key, as `KeyPair.kind` has it; None if it is no public key."""
    found = _decoded_public(public)
    return None if found is None else found[0]


def _decoded_public(public: object) -> tuple[str, bytes] | None:
    if not isinstance(public, str):
        return None
    raw = decode_key(public, _PUBLIC_LENGTH)
    if raw is None or (kind := _KINDS.get(raw[0])) is None:
        return None
    return kind, bytes(raw[1:])


def is_signed_by(public: object, data: bytes, signature: bytes) -> bool:
    """Return whether a signature for data is that of a public key; False for what is no such key."""
    found = _decoded_public(public)
    return found is not None and found[0] != "curve" and crypto.is_signed(found[1], data, signature)


class KeyPair:
    """An NKey: a public key and, unless it was made from that alone, the secret that belongs to it.

    The class methods `create_operator`, `create_account`, … make new ones; `from_seed` and
    `from_public_key` read them. A curve key (xkey, ``X…``) seals and opens, all others sign and verify.
    The secret shows in no repr, can't be pickled, and is overwritten by `wipe`.

    Attributes:
        kind: "operator", "account", "user", "server", "cluster" or "curve".
    """

    __slots__ = ("_public", "_secret", "_signer", "_wiped", "kind")

    kind: str
    _public: bytes
    _secret: bytearray | None
    _signer: Any
    _wiped: bool

    def __init__(self) -> None:
        raise TypeError("use KeyPair.create_user() and its like, from_seed() or from_public_key()")

    @classmethod
    def _of(cls, kind: str, secret: bytearray | None, public: bytes) -> Self:
        made = cls.__new__(cls)
        made.kind = kind
        made._secret = secret
        made._public = public
        made._signer = None
        made._wiped = False
        return made

    @classmethod
    def _of_secret(cls, kind: str, secret: bytearray) -> Self:
        if kind == "curve":
            return cls._of(kind, secret, crypto.curve_public(secret))
        signer = crypto.signer(secret)
        made = cls._of(kind, secret, signer.public_key().public_bytes_raw())
        made._signer = signer
        return made

    @classmethod
    def create_pair(cls, kind: str) -> Self:
        """Return a new key pair of a kind, from the system's random source.

        Args:
            kind: "operator", "account", "user", "server", "cluster" or "curve".

        Raises:
            NkeyError: no such kind, or the package cryptography is missing.
        """
        if kind not in PREFIXES:
            raise NkeyError(f"no such kind of key: {shown(kind)}; there are {', '.join(PREFIXES)}")
        return cls._of_secret(kind, bytearray(os.urandom(crypto.KEY_SIZE)))

    @classmethod
    def create_operator(cls) -> Self:
        """Return a new operator key (``O…``)."""
        return cls.create_pair("operator")

    @classmethod
    def create_account(cls) -> Self:
        """Return a new account key (``A…``)."""
        return cls.create_pair("account")

    @classmethod
    def create_user(cls) -> Self:
        """Return a new user key (``U…``)."""
        return cls.create_pair("user")

    @classmethod
    def create_server(cls) -> Self:
        """Return a new server key (``N…``)."""
        return cls.create_pair("server")

    @classmethod
    def create_cluster(cls) -> Self:
        """Return a new cluster key (``C…``)."""
        return cls.create_pair("cluster")

    @classmethod
    def create_curve_keys(cls) -> Self:
        """Return a new curve key (xkey, ``X…``)."""
        return cls.create_pair("curve")

    @classmethod
    @without_traceback
    def from_seed(cls, seed: str | bytes | bytearray) -> Self:
        """Return the key pair of a seed (``SU…``, ``SA…``, …); blanks around it are ignored.

        Args:
            seed: of any kind. A bytearray is the caller's to wipe; a str or bytes stay in memory.

        Raises:
            NkeyError: seed is not one.
            TypeError: seed is neither str, bytes nor bytearray.
        """
        if not isinstance(seed, (str, bytes, bytearray)):
            raise TypeError(f"seed must be str, bytes or bytearray, not {type(seed).__name__}")
        raw = decode_key(seed if isinstance(seed, bytearray) else seed.strip(), _SEED_LENGTH)
        if raw is None:
            raise NkeyError("invalid NKey seed")
        try:
            kind = _KINDS.get((raw[0] & 7) << 5 | raw[1] >> 3)
            if raw[0] & 0xF8 != _SEED_PREFIX or raw[1] & 7 or kind is None:
                raise NkeyError("invalid NKey seed")
            secret = bytearray(crypto.KEY_SIZE)
            with memoryview(raw) as view, view[2:] as body:
                secret[:] = body
        finally:
            wipe(raw)
        return cls._of_secret(kind, secret)

    @classmethod
    @without_traceback
    def from_public_key(cls, public: str) -> Self:
        """Return a key pair that has no secret: it can verify, and be named. Raises `NkeyError`."""
        found = _decoded_public(public)
        if found is None:
            raise NkeyError(f"invalid public NKey {shown(public)}")
        return cls._of(found[0], None, found[1])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kind} {self.public_key()}>"

    def __eq__(self, other: object) -> bool:
        """Whether the other one is of the same kind and has the same public key."""
        mine = self.kind, self._public
        return isinstance(other, KeyPair) and mine == (other.kind, other._public)

    def __hash__(self) -> int:
        return hash((self.kind, self._public))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a KeyPair can't be pickled or copied: pass its seed() on, if you mean to")

    def public_key(self) -> str:
        """Return the public key as text: by it others know this one."""
        return encode_key(bytes([PREFIXES[self.kind]]) + self._public)

    def seed(self) -> str:
        """Return the seed, which is the secret as text. Raises `NkeyError` if this key has none."""
        prefix = PREFIXES[self.kind]
        head = bytes([_SEED_PREFIX | prefix >> 5, (prefix & 31) << 3])
        return encode_key(head + bytes(self._need_secret("has no seed")))

    def private_key(self) -> str:
        """Return the private key in the form of nkeys (``P…``). Raises `NkeyError` if this key has none."""
        secret = bytes(self._need_secret("has no private key"))
        tail = b"" if self.kind == "curve" else self._public
        return encode_key(bytes([_PRIVATE_PREFIX]) + secret + tail)

    def sign(self, data: Bytes) -> bytes:
        """Return the signature of data, 64 bytes.

        Raises:
            NkeyError: this is a curve key, or it has no secret.
        """
        if self.kind == "curve":
            raise NkeyError("a curve key can't sign")
        self._need_secret("can't sign")
        return bytes(self._signer.sign(bytes(data)))

    def verify(self, data: Bytes, signature: Bytes) -> None:
        """Check a signature of this key.

        Args:
            data: what was signed.
            signature: 64 bytes.

        Raises:
            NkeyError: the signature is wrong, or this is a curve key.
        """
        if self.kind == "curve":
            raise NkeyError("a curve key can't verify")
        if not crypto.is_signed(self._public, bytes(data), bytes(signature)):
            raise NkeyError("invalid signature")

    def seal(self, data: Bytes, recipient: str) -> bytes:
        """Return data encrypted for another curve key, which can tell that this one has done it.

        The result is "xkv1", a random nonce and a NaCl box, as other clients have it.

        Args:
            data: what to encrypt.
            recipient: the public curve key, ``X…``.

        Raises:
            NkeyError: this is no curve key or has no secret, or recipient is no public curve key.
        """
        secret, public = self._for_curve(recipient)
        nonce = os.urandom(crypto.NONCE_SIZE)
        return _SEALED_AS + nonce + crypto.seal(bytes(data), nonce, public, secret)

    def open(self, data: Bytes, sender: str) -> bytes:
        """Return what another curve key has sealed for this one.

        Args:
            data: the result of `seal`.
            sender: the public curve key, ``X…``.

        Raises:
            DecryptError: it was not sealed by sender for this key, or was changed.
            NkeyError: this is no curve key or has no secret, or sender is no public curve key.
        """
        secret, public = self._for_curve(sender)
        data = bytes(data)
        start = len(_SEALED_AS)
        if not data.startswith(_SEALED_AS):
            raise DecryptError("could not decrypt: not a sealed message of version xkv1")
        nonce = data[start : start + crypto.NONCE_SIZE]
        if len(nonce) < crypto.NONCE_SIZE:
            raise DecryptError("could not decrypt: too short")
        return crypto.unseal(data[start + crypto.NONCE_SIZE :], nonce, public, secret)

    def wipe(self) -> None:
        """Overwrite the secret. Afterwards this is a key without one."""
        if self._secret is not None:
            wipe(self._secret)
            self._wiped = True
        self._secret = self._signer = None

    def _for_curve(self, other: str) -> tuple[bytearray, bytes]:
        if self.kind != "curve":
            raise NkeyError(f"only a curve key seals and opens, not one of kind {self.kind}")
        secret = self._need_secret("can't seal or open")
        found = _decoded_public(other)
        if found is None or found[0] != "curve":
            raise NkeyError(f"not a public curve key: {shown(other)}")
        return secret, found[1]

    def _need_secret(self, what: str) -> bytearray:
        if self._secret is None:
            why = "was wiped" if self._wiped else "is a public key only"
            raise NkeyError(f"this key {why}: it {what}")
        return self._secret


def shown(public: object) -> str:
    """Return a value that should be a public key for an error's text; not what may be a secret."""
    if not isinstance(public, str):
        return f"of type {type(public).__name__}"
    if public.strip()[:1] in ("S", "P") or len(public) > _PUBLIC_LENGTH:
        return f"({len(public)} characters)"
    return repr(public)


def is_secret(text: str) -> bool:
    """Return whether a text has the form of a seed or a private key, which nobody else may see."""
    return _SECRET.fullmatch(text.strip()) is not None
