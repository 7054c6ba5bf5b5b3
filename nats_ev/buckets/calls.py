"""What key-value buckets and object stores share: names, errors, completions.

::

    NatsError
    ├── InvalidBucketNameError(BadOptionsError)   raised at the call, as are the next two
    ├── InvalidKeyError(BadOptionsError)
    ├── InvalidObjectNameError(BadOptionsError)
    └── JetStreamError
        ├── StreamNotFoundError ─ BucketNotFoundError
        ├── StreamNameAlreadyInUseError ─ BucketExistsError
        ├── BadBucketError                        a stream of the name that is no bucket
        ├── KeyNotFoundError ─ KeyDeletedError
        ├── WrongLastSequenceError ─ KeyExistsError
        ├── CodecError
        ├── ObjectNotFoundError ─ ObjectDeletedError
        ├── ObjectExistsError · ObjectLinkError · BadObjectMetaError
        ├── DigestMismatchError · ObjectIncompleteError · ObjectChangedError
        └── ObjectTransferError
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..arguments import Callback, check_callback
from ..errors import NatsError

if TYPE_CHECKING:
    from ..jetstream import JetStream


Config = Mapping[str, Any]


def completion(js: JetStream, cb: Callback | None) -> Callback:
    """The callback to use: without one, an error goes to the client's on_error."""
    if cb is None:
        nats = js.nats

        def report(result: Any, error: NatsError | None) -> None:
            if error is not None:
                nats.report(error)

        return report
    check_callback(cb)
    return cb


def call_or_report(cb: Callback, go: Callable[[], object]) -> None:
    """Call go for a later step of an operation: what it raises is no longer its caller's mistake."""
    try:
        go()
    except NatsError as exc:
        cb(None, exc)
