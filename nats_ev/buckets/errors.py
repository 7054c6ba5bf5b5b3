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
    "InconsistentReadError",
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
    """A bucket's name must consist of letters, digits, dashes and underscores.

    What to do: choose another name.
    """

    bucket: str = ""


class InvalidKeyError(BadOptionsError):
    """A key must consist of letters, digits and ``-/_=.``, without an empty token between dots.

    What to do: choose another key, or give the `KV` a codec (`Base64Codec`).
    """

    key: str = ""


class InvalidObjectNameError(BadOptionsError):
    """An object's name must be text that UTF-8 can express, and not empty.

    What to do: choose another name.
    """


class BucketNotFoundError(StreamNotFoundError):
    """The server has no bucket of this name.

    What to do: call `create_bucket`, or correct the name; `bucket_names` lists all.
    """

    bucket: str = ""


class BucketExistsError(StreamNameAlreadyInUseError):
    """A bucket of this name exists, with another configuration.

    What to do: use `create_or_update_bucket`, or another name.
    """

    bucket: str = ""


class BadBucketError(JetStreamError):
    """A stream has the name of a bucket's stream, and not the configuration of one.

    What to do: choose another name, or delete the stream in the text if nobody needs it.
    """

    bucket: str = ""


class KeyNotFoundError(JetStreamError):
    """The bucket has no such key, or no such revision of the key.

    What to do: `KV.get` gives None in place of this error; a revision may have left the bucket's history.
    """

    bucket: str = ""
    key: str = ""
    text = "key not found"


class KeyDeletedError(KeyNotFoundError):
    """The revision is a deletion of the key; `entry` is that revision.

    What to do: put the key again, or treat it as missing.
    """

    text = "key was deleted"
    entry: Any = None  # a KvEntry


class KeyExistsError(WrongLastSequenceError):
    """`KV.create` was called for a key that exists.

    What to do: use `KV.put` to overwrite, or `KV.update` with the revision that was read.
    """

    bucket: str = ""
    key: str = ""


class CodecError(JetStreamError):
    """A codec has failed to decode a stored key or value; ``__cause__`` is the codec's exception.

    What to do: use the codec that the value was written with, or none.
    """

    key: str = ""


class InconsistentReadError(JetStreamError):
    """The requests of a `KV.get_many` have not shown all keys at one moment until the timeout had passed.

    Writers change more than the client can read, a replica lags for long, or the keys have more bytes than
    the server sends for one request (64 MiB by default).

    What to do: ask for fewer keys; at most 1000 of them take one request, which needs no second look.
    """

    bucket: str = ""


class ObjectNotFoundError(JetStreamError):
    """The store has no object of this name.

    What to do: correct the name; `ObjectStore.list` has all.
    """

    bucket: str = ""
    name: str = ""
    text = "object not found"


class ObjectDeletedError(ObjectNotFoundError):
    """The object has been deleted.

    What to do: put the object again, or treat it as missing.
    """

    text = "object was deleted"


class ObjectExistsError(JetStreamError):
    """The new name belongs to another object.

    What to do: choose another name, or delete that object first.
    """

    bucket: str = ""
    name: str = ""
    text = "an object already exists with that name"


class ObjectLinkError(JetStreamError):
    """A link can't be made or followed.

    What to do: see the text: a link leads to an object that exists, and not to another link.
    """


class BadObjectMetaError(JetStreamError):
    """The stored info of an object is malformed.

    The text tells the message's sequence. Of a list, `readable` has all that could be read.

    What to do: delete the message in the text by `JetStream.stream_msg_delete`, and put the object again.
    """

    text = "object-store meta information invalid"
    readable: Any = ()


class DigestMismatchError(JetStreamError):
    """The content that was read differs from the digest or size in the object's info.

    What to do: discard what was received, and put the object again.
    """

    text = "digest mismatch"


class ObjectIncompleteError(JetStreamError):
    """Parts of the object's content are missing from the store.

    What to do: put the object again; the bucket may have reached its max_bytes or ttl.
    """

    text = "object is incomplete"


class ObjectChangedError(JetStreamError):
    """The object was replaced or deleted while it was being read.

    What to do: get it again.
    """

    text = "object has changed"


class ObjectTransferError(JetStreamError):
    """A transfer was cancelled, or its source or target has failed; or a rename ended half done.

    After a failure ``__cause__`` is the exception of the source or target, or what has ended the rename.

    What to do: correct what ``__cause__`` says and repeat; nothing, if the program has cancelled it.
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
