"""Codecs for the keys and values of a `KV` (ADR-54): what is stored differs from what is asked for.

A key codec has ``encode_key(key)`` and ``decode_key(key)``, and ``encode_filter(filter)`` if it can
keep wildcards; a value codec has ``encode_value(value)`` and ``decode_value(value)``, bytes to bytes.
Any object will do; these are the official ones. No I/O.
"""

from __future__ import annotations

import base64
from typing import Any, Protocol

_ROOT = "_root_"


class KeyCodec(Protocol):
    """What `KV` needs of a key codec."""

    def encode_key(self, key: str) -> str:
        """The key as it is stored."""

    def decode_key(self, key: str) -> str:
        """The key as it is asked for."""


class ValueCodec(Protocol):
    """What `KV` needs of a value codec."""

    def encode_value(self, value: bytes) -> bytes:
        """The value as it is stored."""

    def decode_value(self, value: bytes) -> bytes:
        """The value as it was put."""


class Base64Codec:
    """Keys, token by token, and values in base64url without padding: any character in a key."""

    def encode_key(self, key: str) -> str:
        """See `KeyCodec`."""
        return ".".join(_encode(token) for token in key.split("."))

    def decode_key(self, key: str) -> str:
        """See `KeyCodec`."""
        return ".".join(_decode(token.encode()).decode() for token in key.split("."))

    def encode_filter(self, pattern: str) -> str:
        """A filter with its wildcards as they are."""
        tokens = pattern.split(".")
        return ".".join(token if token in ("*", ">") else _encode(token) for token in tokens)

    def encode_value(self, value: bytes) -> bytes:
        """See `ValueCodec`."""
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    def decode_value(self, value: bytes) -> bytes:
        """See `ValueCodec`."""
        return _decode(value)


class PathCodec:
    """Keys like paths, with slashes in place of dots. A slash at the end is lost."""

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
    """Several codecs: the first one is applied first to what is stored, and last to what is read."""

    def __init__(self, *codecs: Any) -> None:
        if not codecs:
            raise ValueError("a chain has at least one codec")
        self._codecs = codecs

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
        """A filter with its wildcards as they are; AttributeError when one of the codecs can't."""
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
