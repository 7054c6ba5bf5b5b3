"""Errors of key-value buckets and object stores."""

from __future__ import annotations

from typing import Any

from ..errors import BadOptionsError, NatsError
from ..jetstream import (
    JetStreamError,
    StreamNameAlreadyInUseError,
    StreamNotFoundError,
    WrongLastSequenceError,
)

__all__ = [
    "BadBucketError",
    "BadObjectMetaError",
    "BucketExistsError",
    "BucketNotFoundError",
    "CodecError",
    "DigestMismatchError",
    "InvalidBucketNameError",
    "InvalidKeyError",
    "InvalidObjectNameError",
    "KeyDeletedError",
    "KeyExistsError",
    "KeyNotFoundError",
    "ObjectChangedError",
    "ObjectDeletedError",
    "ObjectExistsError",
    "ObjectIncompleteError",
    "ObjectLinkError",
    "ObjectNotFoundError",
    "ObjectTransferError",
]


class InvalidBucketNameError(BadOptionsError):
    """Buckets are named by letters, digits, dashes and underscores."""


class InvalidKeyError(BadOptionsError):
    """Keys consist of letters, digits and ``-/_=.``, without an empty part between dots."""


class InvalidObjectNameError(BadOptionsError):
    """Objects have a name that is not empty."""


class BucketNotFoundError(StreamNotFoundError):
    """There is no such bucket."""


class BucketExistsError(StreamNameAlreadyInUseError):
    """There is such a bucket already, with another configuration."""


class BadBucketError(JetStreamError):
    """The stream has the name of a bucket and is none."""


class KeyNotFoundError(JetStreamError):
    """The bucket has no such key, or no such revision of it."""

    text = "key not found"


class KeyDeletedError(KeyNotFoundError):
    """The revision deletes the key; `entry` is that revision."""

    text = "key was deleted"
    entry: Any = None  # a KvEntry


class KeyExistsError(WrongLastSequenceError):
    """The key to be created exists."""


class CodecError(JetStreamError):
    """A codec could not read what is stored; see the cause."""


class ObjectNotFoundError(JetStreamError):
    """The store has no such object."""

    text = "object not found"


class ObjectDeletedError(ObjectNotFoundError):
    """The object has been deleted."""

    text = "object was deleted"


class ObjectExistsError(JetStreamError):
    """The name belongs to another object."""

    text = "an object already exists with that name"


class ObjectLinkError(JetStreamError):
    """A link that can't be made or followed."""


class BadObjectMetaError(JetStreamError):
    """What the store says about the object makes no sense."""

    text = "object-store meta information invalid"


class DigestMismatchError(JetStreamError):
    """What came is not what was put."""

    text = "digest mismatch"


class ObjectIncompleteError(JetStreamError):
    """Parts of the object are missing from the store."""

    text = "object is incomplete"


class ObjectChangedError(JetStreamError):
    """The object was replaced or deleted while it was being read."""

    text = "object has changed"


class ObjectTransferError(JetStreamError):
    """Content could not be read from where it comes from, or written to where it goes; see the cause."""


def codec_error(key: str, cause: Exception) -> CodecError:
    """What a codec has raised."""
    error = CodecError(f"codec failed for {key!r}: {cause or type(cause).__name__}")
    error.__cause__ = cause
    return error


def transfer_error(what: str, cause: Exception) -> ObjectTransferError:
    """What a source or sink has raised."""
    error = ObjectTransferError(f"{what} failed: {cause or type(cause).__name__}")
    error.__cause__ = cause
    return error


def bucket_error(error: NatsError | None) -> NatsError | None:
    """The error in terms of buckets."""
    if type(error) is StreamNotFoundError:
        return recast(error, BucketNotFoundError, "bucket not found")
    if type(error) is StreamNameAlreadyInUseError:
        return recast(error, BucketExistsError, "bucket already exists with another configuration")
    return error


def recast(error: JetStreamError, kind: type[JetStreamError], text: str) -> JetStreamError:
    """A more specific error with the data of the one that caused it."""
    special = kind(text, code=error.code, err_code=error.err_code, description=text)
    special.__cause__ = error
    return special
