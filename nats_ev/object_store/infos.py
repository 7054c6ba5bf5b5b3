"""The infos of a store's objects: reading, replacing and changing them (ADR-20).

An object's info is the last message on a subject of the object's name. Every writer publishes an info on
the condition that the last one is still the one that the writer has read, so the stream itself
decides between writers. `Infos.change` is the loop that follows from this: read, change, publish, and start
again when another writer was faster.

The content belongs to an info by its nuid: who replaces or deletes an info removes that content.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from ..arguments import Callback
from ..buckets import (
    BadObjectMetaError,
    ObjectExistsError,
    bucket_error,
    call_or_report,
    check_bucket,
)
from ..errors import (
    ConnectionLostError,
    NatsError,
    NoRespondersError,
    OutboundBufferLimitError,
    RequestTimeoutError,
)
from ..jetstream import (
    JetStream,
    MessageNotFoundError,
    StoredMsg,
    WrongLastSequenceError,
    is_electing,
)
from ..times import rfc3339
from .meta import Info, chunk_subject, encode, meta_subject, parse, stream_name

# Makes the new info of the old one, or of None; or says why that is impossible.
Change = Callable[["Info | None"], "Info | NatsError"]

# Errors of the network, or of a cluster that elects a leader: the same request may succeed a little later.
_TRANSIENT = (ConnectionLostError, RequestTimeoutError, NoRespondersError, OutboundBufferLimitError)


def is_transient(error: NatsError | None) -> bool:
    """Return whether the same request may succeed a little later."""
    return isinstance(error, _TRANSIENT) or is_electing(error)


def may_pass(error: NatsError | None, js: JetStream) -> bool:
    """Return whether to repeat the request that begins a transfer: the stream may have no leader just now.

    A time-out without a connection is the end: the transfer has waited for as long as any request.
    """
    if isinstance(error, RequestTimeoutError):
        return js.nats.is_connected()
    return is_transient(error)


# Seconds for which a transfer repeats what such an error has ended; with nobody listening from the beginning
# there is probably no such store.
RETRY_FOR, FIRST_RETRY_FOR = 30.0, 1.0

# How often `change` starts again because another writer was faster.
_MAX_ATTEMPTS = 20
_REMOVAL_WAIT_MS = 1000.0
_REMOVAL_ATTEMPTS = 600


class Infos:
    """The infos of one store. Callbacks are ``cb(info or None, err or None)``."""

    def __init__(self, js: JetStream, bucket: str) -> None:
        self.js = js
        self.bucket = bucket
        self.stream = stream_name(bucket)

    def of_bucket(self, bucket: str) -> Infos:
        """Return the infos of the store with that name. Raises `InvalidBucketNameError`."""
        return self if bucket == self.bucket else Infos(self.js, check_bucket(bucket))

    def last(self, name: str, cb: Callback) -> None:
        """Read the info of a name, deleted or not; ``cb(None, None)`` when the store has none.

        The stream's leader answers, because what follows depends on it. Raises what a request raises.
        """

        def found(message: StoredMsg | None, error: NatsError | None) -> None:
            if message is None:
                cb(None, None if isinstance(error, MessageNotFoundError) else bucket_error(error))
                return
            try:
                info = parse(self.bucket, message.data, message.time, message.seq)
            except BadObjectMetaError as exc:
                cb(None, exc)
                return
            cb(info, None)

        self.js.get_msg(self.stream, {"last_by_subj": meta_subject(self.bucket, name)}, found)

    def publish(self, info: Info, old: Info | None, cb: Callback) -> None:
        """Store an info in the place of old, which `last` has given.

        cb gets the info as it is stored, or `WrongLastSequenceError` when the last one is not old any
        more. Raises what a request raises.
        """

        def stored(ack: Any, error: NatsError | None) -> None:
            if error is not None:
                cb(None, bucket_error(error))
                return
            # The server's own time differs by the answer's way; asking for it would cost a request.
            now = rfc3339(datetime.now(timezone.utc))
            deleted = info.get("deleted", False)
            cb({**info, "mtime": now, "seq": ack["seq"], "deleted": deleted}, None)

        self.js.publish(
            meta_subject(self.bucket, info["name"]),
            encode(info),
            stored,
            rollup="sub",
            expect_last_subject_seq=old["seq"] if old is not None else 0,
        )

    def change(self, name: str, change: Change, cb: Callback) -> None:
        """Store what change makes of a name's info. When another writer is faster, change is called again."""
        attempts = 0

        def found(info: Info | None, error: NatsError | None) -> None:
            changed = error if error is not None else change(info)
            if isinstance(changed, NatsError):
                cb(None, changed)
            else:
                call_or_report(cb, lambda: self.publish(changed, info, stored))

        def stored(info: Info | None, error: NatsError | None) -> None:
            nonlocal attempts
            attempts += 1
            if isinstance(error, WrongLastSequenceError) and attempts < _MAX_ATTEMPTS:
                call_or_report(cb, lambda: self.last(name, found))
            else:
                cb(info, error)

        self.last(name, found)

    def rename(self, name: str, new_name: str, change: Change, cb: Callback) -> None:
        """Move a name's info, changed by change, to new_name.

        cb gets `ObjectExistsError` when new_name belongs to an object.
        """
        _Renaming(self, name, new_name, change, cb).start()

    def remove_content(self, nuid: str, done: Callable[[], object]) -> None:
        """Delete an object's content; ``done()`` after the first attempt, whether it succeeded or not.

        Nobody else would ever delete that content. So after an error that may pass, further attempts follow
        as long as the client lives, ten minutes at most.
        """
        js, attempts = self.js, 0
        if not nuid:
            js.nats.call_soon(done)
            return
        opts = {"filter": chunk_subject(self.bucket, nuid)}

        def purge() -> None:
            call_or_report(purged, lambda: js.stream_purge(self.stream, opts, purged))

        def purged(result: Any, error: NatsError | None) -> None:
            nonlocal attempts
            attempts += 1
            if is_transient(error) and attempts < _REMOVAL_ATTEMPTS:
                js.nats.call_later(_REMOVAL_WAIT_MS, purge)
            if attempts == 1:
                done()

        purge()


class _Renaming:
    """A rename in three steps: read the old name's info, take the new name, purge the old name's info.

    In between an object has two names, never none.
    """

    def __init__(
        self, infos: Infos, name: str, new_name: str, change: Change, cb: Callback
    ) -> None:
        self._infos = infos
        self._name = name
        self._new_name = new_name
        self._change = change
        self._cb = cb
        self._old_seq = 0
        self._renamed: Info = {}

    def start(self) -> None:
        self._infos.last(self._name, self._found)

    def _found(self, info: Info | None, error: NatsError | None) -> None:
        renamed = error if error is not None else self._change(info)
        if isinstance(renamed, NatsError):
            self._cb(None, renamed)
            return
        assert info is not None
        self._old_seq = info["seq"]
        self._renamed = renamed
        call_or_report(
            self._cb, lambda: self._infos.change(self._new_name, self._take, self._taken)
        )

    def _take(self, holder: Info | None) -> Info | NatsError:
        if holder is not None and not holder["deleted"]:
            return ObjectExistsError(f"an object already exists with that name: {self._new_name}")
        return self._renamed

    def _taken(self, info: Info | None, error: NatsError | None) -> None:
        if info is None:
            self._cb(None, error)
            return
        infos = self._infos
        # By sequence: an info that another writer has put under the old name since then stays.
        opts = {"filter": meta_subject(infos.bucket, self._name), "seq": self._old_seq + 1}

        def purged(result: Any, error: NatsError | None) -> None:
            self._cb(info if error is None else None, bucket_error(error))

        call_or_report(self._cb, lambda: infos.js.stream_purge(infos.stream, opts, purged))
