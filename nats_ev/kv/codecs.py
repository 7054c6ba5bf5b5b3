"""Codecs for the keys and values of a `KV` (ADR-54): the bucket stores another form than programs use.

A key codec has ``encode_key(key)`` and ``decode_key(key)``, and ``encode_filter(filter)`` if it can
keep wildcards; a value codec has ``encode_value(value)`` and ``decode_value(value)``, bytes to bytes.
Any object with these methods is a codec; the classes here are those of ADR-54. No I/O.
"""

from __future__ import annotations

import base64
from typing import Any, Protocol

_ROOT = "_root_"


class KeyCodec(Protocol):
    """The methods of a key codec. One that can keep wildcards also has ``encode_filter(filter)``."""

    def encode_key(self, key: str) -> str:
        """Return the key to store for a program's key."""

    def decode_key(self, key: str) -> str:
        """Return the program's key for a stored one."""


class ValueCodec(Protocol):
    """The methods of a value codec."""

    def encode_value(self, value: bytes) -> bytes:
        """Return the value to store for a program's value."""

    def decode_value(self, value: bytes) -> bytes:
        """Return the program's value for a stored one."""


class Base64Codec:
    """Keys and values in base64url without padding. A key may have any character.

    Keys are encoded token by token, so filters with wildcards still work.
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def encode_key(self, key: str) -> str:
        """See `KeyCodec`."""
        return ".".join(_encode(token) for token in key.split("."))

    def decode_key(self, key: str) -> str:
        """See `KeyCodec`."""
        return ".".join(_decode(token.encode()).decode() for token in key.split("."))

    def encode_filter(self, pattern: str) -> str:
        """Return the filter to use for a program's filter; wildcards stay."""
        tokens = pattern.split(".")
        return ".".join(token if token in ("*", ">") else _encode(token) for token in tokens)

    def encode_value(self, value: bytes) -> bytes:
        """See `ValueCodec`."""
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    def decode_value(self, value: bytes) -> bytes:
        """See `ValueCodec`."""
        return _decode(value)


class PathCodec:
    """Keys like paths: they are stored with dots in place of slashes.

    As in other clients a slash at the end is lost, and a dot within a key comes back as a slash: "a.b" and
    "a/b" are one key.
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def encode_key(self, key: str) -> str:
        """See `KeyCodec`."""
        if key == "/":
            return _ROOT
        if key.startswith("/"):
            key = f"{_ROOT}.{key[1:]}"
        return key.removesuffix("/").replace("/", ".")

    def decode_key(self, key: str) -> str:
        """See `KeyCodec`."""
        if key == _ROOT:
            return "/"
        if key.startswith(f"{_ROOT}."):
            key = key[len(_ROOT) :]
        return key.replace(".", "/")

    encode_filter = encode_key


class ChainCodec:
    """Several codecs, one after the other. The first one encodes first and decodes last."""

    def __init__(self, *codecs: Any) -> None:
        if not codecs:
            raise ValueError("a chain has at least one codec")
        self._codecs = codecs

    def __repr__(self) -> str:
        # Only of what kind they are: a codec that encrypts may show its key.
        return f"{type(self).__name__}({', '.join(type(codec).__name__ for codec in self._codecs)})"

    def encode_key(self, key: str) -> str:
        """See `KeyCodec`."""
        for codec in self._codecs:
            key = codec.encode_key(key)
        return key

    def decode_key(self, key: str) -> str:
        """See `KeyCodec`."""
        for codec in reversed(self._codecs):
            key = codec.decode_key(key)
        return key

    def encode_filter(self, pattern: str) -> str:
        """Return the filter to use for a program's filter; wildcards stay.

        Raises AttributeError when one of the codecs can't keep wildcards.
        """
        for codec in self._codecs:
            pattern = codec.encode_filter(pattern)
        return pattern

    def encode_value(self, value: bytes) -> bytes:
        """See `ValueCodec`."""
        for codec in self._codecs:
            value = codec.encode_value(value)
        return value

    def decode_value(self, value: bytes) -> bytes:
        """See `ValueCodec`."""
        for codec in reversed(self._codecs):
            value = codec.decode_value(value)
        return value


def _encode(token: str) -> str:
    return base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode()


def _decode(token: bytes) -> bytes:
    padded = token + b"=" * (-len(token) % 4)
    return base64.b64decode(padded, altchars=b"-_", validate=True)
