"""Errors of key-value buckets and object stores.

An error that a server's answer has caused keeps that answer's code and err_code (`recast`). The attributes
`bucket`, `key` and `name` (of an object) say what an error is about::

    NatsError
    ├── BadOptionsError                           raised at the call
    │   ├── InvalidBucketNameError
    │   ├── InvalidKeyError
    │   └── InvalidObjectNameError
    └── JetStreamError                            given to the callback
        ├── StreamNotFoundError ─ BucketNotFoundError
        ├── StreamNameAlreadyInUseError ─ BucketExistsError
        ├── BadBucketError
        ├── KeyNotFoundError ─ KeyDeletedError
        ├── WrongLastSequenceError ─ KeyExistsError
        ├── CodecError
        ├── ObjectNotFoundError ─ ObjectDeletedError
        ├── ObjectExistsError · ObjectLinkError · BadObjectMetaError
        ├── DigestMismatchError · ObjectIncompleteError · ObjectChangedError
        └── ObjectTransferError
"""

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
    """A bucket's name must consist of letters, digits, dashes and underscores."""

    bucket: str = ""


class InvalidKeyError(BadOptionsError):
    """A key must consist of letters, digits and ``-/_=.``, without an empty token between dots."""

    key: str = ""


class InvalidObjectNameError(BadOptionsError):
    """An object's name must be text that UTF-8 can express, and not empty."""


class BucketNotFoundError(StreamNotFoundError):
    """The server has no bucket of this name."""

    bucket: str = ""


class BucketExistsError(StreamNameAlreadyInUseError):
    """A bucket of this name exists, with another configuration."""

    bucket: str = ""


class BadBucketError(JetStreamError):
    """A stream has the name of a bucket's stream, and not the configuration of one."""

    bucket: str = ""


class KeyNotFoundError(JetStreamError):
    """The bucket has no such key, or no such revision of the key."""

    bucket: str = ""
    key: str = ""
    text = "key not found"


class KeyDeletedError(KeyNotFoundError):
    """The revision is a deletion of the key; `entry` is that revision."""

    text = "key was deleted"
    entry: Any = None  # a KvEntry


class KeyExistsError(WrongLastSequenceError):
    """`KV.create` was called for a key that exists."""

    bucket: str = ""
    key: str = ""


class CodecError(JetStreamError):
    """A codec has failed to decode a stored key or value; ``__cause__`` is the codec's exception."""

    key: str = ""


class ObjectNotFoundError(JetStreamError):
    """The store has no object of this name."""

    bucket: str = ""
    name: str = ""
    text = "object not found"


class ObjectDeletedError(ObjectNotFoundError):
    """The object has been deleted."""

    text = "object was deleted"


class ObjectExistsError(JetStreamError):
    """The new name belongs to another object."""

    bucket: str = ""
    name: str = ""
    text = "an object already exists with that name"


class ObjectLinkError(JetStreamError):
    """A link can't be made or followed."""


class BadObjectMetaError(JetStreamError):
    """The stored info of an object is malformed.

    The text tells the message's sequence; `JetStream.stream_msg_delete` removes it. Of a list, `readable` has
    all that could be read.
    """

    text = "object-store meta information invalid"
    readable: Any = ()


class DigestMismatchError(JetStreamError):
    """The content that was read differs from the digest or size in the object's info."""

    text = "digest mismatch"


class ObjectIncompleteError(JetStreamError):
    """Parts of the object's content are missing from the store."""

    text = "object is incomplete"


class ObjectChangedError(JetStreamError):
    """The object was replaced or deleted while it was being read."""

    text = "object has changed"


class ObjectTransferError(JetStreamError):
    """A transfer was cancelled, or its source or target has failed; or a rename ended half done.

    After a failure ``__cause__`` is the exception of the source or target, or what has ended the rename.
    """


def codec_error(key: str, cause: Exception) -> CodecError:
    """Return the error for what a codec has raised."""
    error = CodecError(f"codec failed for {key!r}: {cause or type(cause).__name__}", key=key)
    error.__cause__ = cause
    return error


def transfer_error(what: str, cause: BaseException) -> ObjectTransferError:
    """Return the error for what a source or sink has raised."""
    error = ObjectTransferError(f"{what} failed: {cause or type(cause).__name__}")
    error.__cause__ = cause
    return error


def bucket_error(error: NatsError | None) -> NatsError | None:
    """Return the error in terms of buckets: an error about the stream becomes one about the bucket."""
    if type(error) is StreamNotFoundError:
        return _of_bucket(error, BucketNotFoundError, "bucket not found")
    if type(error) is StreamNameAlreadyInUseError:
        text = "bucket already exists with another configuration"
        return _of_bucket(error, BucketExistsError, text)
    return error


def _of_bucket(error: JetStreamError, kind: type[JetStreamError], text: str) -> JetStreamError:
    """Return the error of the bucket whose stream an error is about."""
    bucket = error.stream.partition("_")[2]
    if not bucket:
        return recast(error, kind, text)
    return recast(error, kind, f"{text}: {bucket!r}", bucket=bucket, stream=error.stream)


def recast(
    error: JetStreamError, kind: type[JetStreamError], text: str, **data: str
) -> JetStreamError:
    """Return a more specific error with the code, err_code and cause of the given one."""
    special = kind(text, code=error.code, err_code=error.err_code, description=text, **data)
    special.__cause__ = error
    return special
