"""`KV`: a key-value bucket in a stream (ADR-8, 48, 57).

A bucket ``b`` is the stream ``KV_b`` on the subjects ``$KV.b.>``; the revision of an entry is its
message's sequence. What the stream is like (a mirror, without direct get, with TTLs) is asked once,
before the first operation; all others follow in order. Only public methods of `JetStream` are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

from ..arguments import (
    Callback,
    Milliseconds,
    Payload,
    age_ms,
    check_callback,
    integer,
    payload_bytes,
)
from ..buckets import (
    BucketNotFoundError,
    InvalidKeyError,
    KeyDeletedError,
    KeyExistsError,
    KeyNotFoundError,
    bucket_error,
    call_or_report,
    codec_error,
    collect,
    completion,
    recast,
)
from ..errors import BadOptionsError, NatsError, NoRespondersError
from ..jetstream import (
    JetStream,
    MessageNotFoundError,
    MessageTtlError,
    StoredMsg,
    WrongLastSequenceError,
    message_headers,
)
from .bucket import KvBucket
from .codecs import KeyCodec, ValueCodec
from .entry import KvEntry, check_filters, check_key, stored_entry
from .watch import KvWatch

Keys = str | Iterable[str] | None
WatchCallback = Callable[[KvEntry | None, NatsError | None], object]

_DELETE_MARKERS_OLDER_THAN = 30 * 60 * 1000


class KV(KvBucket):
    """The bucket of a name. Making one asks nothing of the server: see `create_bucket`.

    Callbacks are ``cb(result, err)``, the last argument or a keyword. Where one may be left out, errors
    go to the client's on_error. Operations on a bucket that does not exist get `BucketNotFoundError`; all
    may get the errors of `JetStream`. A key is of letters, digits and ``-/_=.``, else `InvalidKeyError` is
    raised; a value is what `Nats.publish` takes, and comes back as bytes. Revisions are ints, counted over
    the whole bucket.

    Args:
        timeout: for each answer, in ms or a timedelta, in place of that of js.
        key_codec, value_codec: see `kv_codecs`; all that use the bucket must have the same.

    Raises `InvalidBucketNameError`.
    """

    def __init__(
        self,
        js: JetStream,
        bucket: str,
        timeout: Milliseconds | None = None,
        *,
        key_codec: KeyCodec | None = None,
        value_codec: ValueCodec | None = None,
    ) -> None:
        super().__init__(js if timeout is None else JetStream(js.nats, js.prefix, timeout), bucket)
        self._key_codec = key_codec
        self._value_codec = value_codec

    # Reading.

    def get(self, key: str, cb: Callback) -> None:
        """A key's value as bytes; ``cb(None, None)`` when it is missing or deleted.

        Any replica answers, so it may be one behind; `entry` tells the revision, too.
        """

        def found(entry: KvEntry | None, error: NatsError | None) -> None:
            cb(entry.value if entry is not None and not entry.deleted else None, error)

        check_callback(cb)
        self._last(key, found)

    def entry(self, key: str, cb: Callback) -> None:
        """A key's latest `KvEntry`; ``cb(None, None)`` when it is missing or deleted."""

        def found(entry: KvEntry | None, error: NatsError | None) -> None:
            cb(entry if entry is not None and not entry.deleted else None, error)

        check_callback(cb)
        self._last(key, found)

    def get_revision(self, key: str, revision: int, cb: Callback) -> None:
        """A key's `KvEntry` of a revision, 1 or more.

        `KeyNotFoundError` when the bucket has no such revision of this key any more, `KeyDeletedError`
        when it deletes the key.
        """
        check_callback(cb)
        stored_key = self._stored_key(key)
        if not integer(revision, "a revision", 0):
            raise BadOptionsError("a revision to read must be 1 or more")

        def found(message: StoredMsg | None, error: NatsError | None) -> None:
            if message is None:
                self._fail(_missing_key(error, key), cb)
            elif message.subject != self._read_prefix + stored_key:
                cb(None, KeyNotFoundError(f"key not found: {key} has no revision {revision}"))
            else:
                entry, error = self._entry(key, message)
                if entry is not None and entry.deleted:
                    cb(None, KeyDeletedError(f"key was deleted: {key}", entry=entry))
                else:
                    cb(entry, error)

        def go() -> None:
            read = self.js.direct_get if self._direct else self.js.get_msg
            read(self.stream, revision, found)

        self._when_bound(go, cb)

    def history(
        self, key: str, cb: Callback, *, ignore_deletes: bool = False, meta_only: bool = False
    ) -> None:
        """All revisions that the bucket has of a key, oldest first, deletions included.

        `KeyNotFoundError` when it has none. ignore_deletes, meta_only: as in `watch`.
        """
        check_callback(cb)

        def listed(entries: Any, error: NatsError | None) -> None:
            if error is None and not entries:
                cb(None, KeyNotFoundError(f"key not found: {key}"))
            else:
                cb(entries, error)

        self._stored_key(key)  # no wildcards
        only = {"ignore_deletes": ignore_deletes, "meta_only": meta_only}
        self._collect(key, listed, include_history=True, **only)

    def keys(self, keys: Keys | Callback = None, cb: Callback | None = None) -> None:
        """The names of all keys that are not deleted, sorted.

        keys: a filter such as "a.*" or "a.>", or several (nats-server 2.10 or later).
        """
        keys, cb = _middle(keys, cb)
        check_callback(cb)

        def listed(entries: Any, error: NatsError | None) -> None:
            cb(None if error is not None else sorted({entry.key for entry in entries}), error)

        self._collect(keys, listed, ignore_deletes=True, meta_only=True)

    def list_keys(self, keys: Keys | Callback = None, cb: Callback | None = None) -> KvWatch:
        """`keys` one by one: ``cb(key, None)`` for each, in the end ``cb(None, None)`` or an error.

        For buckets whose keys are too many for a list. A key that changes meanwhile may come twice.
        """
        keys, cb = _middle(keys, cb)
        check_callback(cb)

        def next_one(entry: KvEntry | None, error: NatsError | None) -> None:
            if entry is None:
                watch.stop()
            cb(entry.key if entry is not None else None, error)

        watch = self.watch(keys, next_one, ignore_deletes=True, meta_only=True)
        return watch

    def watch(
        self,
        keys: Keys | WatchCallback = None,
        cb: WatchCallback | None = None,
        *,
        include_history: bool = False,
        ignore_deletes: bool = False,
        meta_only: bool = False,
        updates_only: bool = False,
        resume_from_revision: int | None = None,
    ) -> KvWatch:
        """Every change of keys, from now until `KvWatch.stop`, after what they are now.

        ``cb(entry, None)`` for the latest entry of each key, deleted ones included; ``cb(None, None)``
        once when that was all; then an entry per change, in order, none lost while the connection is.
        ``cb(None, err)`` once when it can't go on.

        Args:
            keys: a key or filter such as "a.>", or several (nats-server 2.10 or later); default: all.
            include_history: first all revisions that the bucket has, not only the latest.
            ignore_deletes: only entries with a value.
            meta_only: entries without their values.
            updates_only: no entries of before; the ``cb(None, None)`` comes at once.
            resume_from_revision: first all entries from this revision on; 0 is none.
        """
        keys, done = _middle(keys, cb)
        check_callback(done)
        filters = self._stored_filters(keys)
        start = (
            None if resume_from_revision is None else integer(resume_from_revision, "a revision", 0)
        )
        if updates_only and (include_history or start):
            raise BadOptionsError("updates_only excludes include_history and resume_from_revision")
        options: dict[str, Any] = {"deliver_policy": "last_per_subject"}
        if include_history:
            options["deliver_policy"] = "all"
        if updates_only:
            options["deliver_policy"] = "new"
        if start:
            options["deliver_policy"] = "by_start_sequence"
            options["opt_start_seq"] = start
        if meta_only:
            options["headers_only"] = True
        watch = KvWatch(self.js, self.bucket, done, ignore_deletes=ignore_deletes)
        watch.key_codec = self._key_codec
        watch.value_codec = None if meta_only else self._value_codec
        self._when_bound(
            lambda: watch.start(self.stream, self._read_prefix, filters, options),
            lambda result, error: watch.fail(error) if error is not None else None,
        )
        return watch

    # Writing.

    def put(self, key: str, value: Payload, cb: Callback | None = None) -> None:
        """Set a key; ``cb(revision, err)``, the new revision of the key."""
        self._write(key, value, completion(self.js, cb))

    def create(
        self,
        key: str,
        value: Payload,
        cb: Callback | None = None,
        *,
        ttl: Milliseconds | None = None,
    ) -> None:
        """Set a key that is missing or deleted; ``cb(revision, err)``, else `KeyExistsError`.

        ttl: milliseconds, 1000 or more, after which it ends by itself; the bucket needs
        limit_marker_ttl.
        """
        done = completion(self.js, cb)
        value = payload_bytes(value, "a value")

        def write(revision: int, cb: Callback) -> None:
            self._write(key, value, cb, ttl=ttl, expect_last_subject_seq=revision)

        def created(revision: int | None, error: NatsError | None) -> None:
            if isinstance(error, WrongLastSequenceError):
                # Perhaps only by a deletion's marker: the stream's leader knows for sure.
                call_or_report(done, lambda: self._last(key, existing, leader=True))
            else:
                done(revision, error)

        def existing(entry: KvEntry | None, error: NatsError | None) -> None:
            if error is not None:
                done(None, error)
            elif entry is not None and not entry.deleted:
                done(None, _exists(key))
            else:
                revision = entry.revision if entry is not None else 0
                call_or_report(done, lambda: write(revision, again))

        def again(revision: int | None, error: NatsError | None) -> None:
            lost = isinstance(error, WrongLastSequenceError)  # to somebody who was faster
            done(revision, _exists(key) if lost else error)

        write(0, created)

    def update(self, key: str, value: Payload, revision: int, cb: Callback | None = None) -> None:
        """Set a key whose latest revision is this one; ``cb(revision, err)``.

        `WrongLastSequenceError` when it is another one; 0: the key must not have any.
        """
        revision = integer(revision, "a revision", 0)
        self._write(key, value, completion(self.js, cb), expect_last_subject_seq=revision)

    def delete(self, key: str, cb: Callback | None = None, *, revision: int | None = None) -> None:
        """Delete a key and keep its history; ``cb(True, err)`` when the server has stored that.

        revision: only if this is the latest one, else `WrongLastSequenceError`.
        """
        self._end(key, cb, {"KV-Operation": "DEL"}, revision)

    def purge(
        self,
        key: str,
        cb: Callback | None = None,
        *,
        revision: int | None = None,
        ttl: Milliseconds | None = None,
    ) -> None:
        """Delete a key and its history; ``cb(True, err)``.

        revision: as in `delete`. ttl: milliseconds, 1000 or more, after which the marker that tells of
        the deletion ends as well; the bucket needs limit_marker_ttl, and the server makes it as long
        as that at least.
        """
        headers = {"KV-Operation": "PURGE", "Nats-Rollup": "sub"}
        self._end(key, cb, headers, revision, ttl)

    def purge_deletes(
        self, older_than: Milliseconds | Callback | None = None, cb: Callback | None = None
    ) -> None:
        """Remove what deletions have left; ``cb(count of keys, err)``.

        older_than: milliseconds, 30 minutes by default; of younger deletions the marker itself is kept.
        A key that is set again meanwhile is not touched.
        """
        if cb is None and callable(older_than):
            older_than, cb = None, older_than
        done = completion(self.js, cb)
        age = _DELETE_MARKERS_OLDER_THAN if older_than is None else age_ms(older_than)
        limit = datetime.now(timezone.utc) - timedelta(milliseconds=age)
        markers: list[KvEntry] = []
        counted: list[int] = []

        def listed(entries: Any, error: NatsError | None) -> None:
            if error is not None:
                done(None, error)
                return
            markers.extend(entry for entry in reversed(entries) if entry.deleted)
            counted.append(len(markers))
            purge_next()

        def purge_next() -> None:
            if not markers:
                done(counted[0], None)
                return
            marker = markers.pop()
            # By sequence: whatever has been put behind the marker stays.
            seq = marker.revision + (age <= 0 or marker.created <= limit)
            opts = {"filter": self._read_prefix + self._stored_key(marker.key), "seq": seq}
            call_or_report(done, lambda: self.js.stream_purge(self.stream, opts, purged))

        def purged(result: Any, error: NatsError | None) -> None:
            if error is not None:
                done(None, bucket_error(error))
            else:
                purge_next()

        self._collect(None, listed, meta_only=True)

    # Messages.

    def _last(self, key: str, cb: Callback, *, leader: bool = False) -> None:
        """A key's latest entry, deleted or not; (None, None) when there is none."""
        stored_key = self._stored_key(key)

        def found(message: StoredMsg | None, error: NatsError | None) -> None:
            if message is not None:
                cb(*self._entry(key, message))
            elif isinstance(error, MessageNotFoundError):
                cb(None, None)
            else:
                self._fail(error, cb)

        def go() -> None:
            subject = self._read_prefix + stored_key
            if self._direct and not leader:
                self.js.direct_get_last(self.stream, subject, found)
            else:
                self.js.get_last_msg(self.stream, subject, found)

        self._when_bound(go, cb)

    def _entry(self, key: str, message: StoredMsg) -> tuple[KvEntry | None, NatsError | None]:
        entry = stored_entry(self.bucket, key, message)
        if self._value_codec is None or entry.deleted:
            return entry, None
        try:
            return entry._replace(value=self._value_codec.decode_value(entry.value)), None
        except Exception as exc:
            return None, codec_error(key, exc)

    def _stored_key(self, key: str) -> str:
        """The key in subjects; raises `InvalidKeyError`."""
        if self._key_codec is None:
            return check_key(key)
        if not isinstance(key, str) or not key:
            raise InvalidKeyError(f"invalid key {key!r}")
        return check_key(self._key_codec.encode_key(key))

    def _stored_filters(self, keys: Keys) -> list[str]:
        if self._key_codec is None or not keys:
            return check_filters(keys)
        codec = self._key_codec
        wanted = [keys] if isinstance(keys, str) else list(keys)
        encoded = []
        for key in wanted:
            if "*" not in key and ">" not in key:
                encoded.append(codec.encode_key(key))
            elif hasattr(codec, "encode_filter"):
                encoded.append(codec.encode_filter(key))
            else:
                raise InvalidKeyError(f"invalid key {key!r}: the codec can't keep wildcards")
        return check_filters(encoded)

    def _write(
        self,
        key: str,
        value: Payload,
        cb: Callback,
        *,
        headers: dict[str, str] | None = None,
        ttl: Milliseconds | None = None,
        **options: Any,
    ) -> None:
        """Publish an entry; ``cb(revision, err)``. Bad arguments raise here, whenever it is published."""
        stored_key = self._stored_key(key)
        data = payload_bytes(value, "a value")
        if self._value_codec is not None and (headers is None or "KV-Operation" not in headers):
            data = self._value_codec.encode_value(data)
        block = message_headers(headers, {"ttl": ttl, **options})

        def stored(ack: Any, error: NatsError | None) -> None:
            if error is None:
                cb(ack["seq"], None)
            else:
                self._fail(error, cb)

        def go() -> None:
            if ttl is not None and not self._has_ttl:
                cb(None, _no_ttl(self.bucket))
            else:
                self.js.publish(self._write_prefix + stored_key, data, stored, headers=block)

        if ttl is not None and not self._has_ttl:
            self._bound = False  # it may have been given to the bucket since
        self._when_bound(go, cb)

    def _end(
        self,
        key: str,
        cb: Callback | None,
        headers: dict[str, str],
        revision: int | None,
        ttl: Milliseconds | None = None,
    ) -> None:
        done = completion(self.js, cb)

        def stored(revision: int | None, error: NatsError | None) -> None:
            done(True if error is None else None, error)

        expected = None if revision is None else integer(revision, "a revision", 0)
        self._write(key, b"", stored, headers=headers, ttl=ttl, expect_last_subject_seq=expected)

    def _collect(self, keys: Keys, cb: Callback, **options: Any) -> None:
        """The initial entries of a watch, as a list."""
        collect(self.js, lambda next_one: self.watch(keys, next_one, **options), cb)

    def _fail(self, error: NatsError | None, cb: Callback) -> None:
        """Tell the error of a read or write; when nobody listens, whether there is no such bucket."""
        error = bucket_error(error)
        if isinstance(error, (NoRespondersError, BucketNotFoundError)):
            self._bound = False  # it may be gone, or made anew
        if isinstance(error, NoRespondersError):
            call_or_report(cb, lambda: self._when_bound(lambda: cb(None, error), cb))
        else:
            cb(None, error)


def _exists(key: str) -> KeyExistsError:
    text = f"key exists: {key}"
    return KeyExistsError(text, code=400, err_code=10071, description=text)


def _missing_key(error: NatsError | None, key: str) -> NatsError | None:
    if isinstance(error, MessageNotFoundError):
        return recast(error, KeyNotFoundError, f"key not found: {key}")
    return error


def _no_ttl(bucket: str) -> MessageTtlError:
    text = f"bucket {bucket} has no TTL for keys: it needs limit_marker_ttl"
    return MessageTtlError(text, code=400, err_code=10166, description=text)


def _middle(keys: Any, cb: Any) -> tuple[Keys, Callback]:
    """``(keys, cb)`` of a call that may have left out keys."""
    return (None, keys) if cb is None and callable(keys) else (keys, cb)
