"""`KV`: a key-value bucket in a stream (ADR-8, 48, 57).

A bucket ``b`` is the stream ``KV_b`` on the subjects ``$KV.b.>``. An entry is a message there, and its
revision is the message's sequence. A deletion is a message too, a marker: without a value, with a header
that says so.

What is in other files: `bucket` creates and describes the stream; `stream` finds out how its keys are read
and written; `messages` reads and writes one, `many` several together; `encoding` applies codecs and makes a
`KvEntry` of a message. Here are the other operations. A read asks for one message by subject or sequence. A
write is a publish whose headers say which revision of the key must be the latest. Of `jetstream` only what
that package offers to other layers is used.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any, cast

from ..arguments import (
    Callback,
    Milliseconds,
    Payload,
    ResultCallback,
    age_ms,
    explained,
    integer,
)
from ..buckets import (
    CodecError,
    KeyDeletedError,
    KeyExistsError,
    KeyNotFoundError,
    WatchEngine,
    bucket_error,
    call_or_report,
    collect,
    completion,
    guarded,
    optional_before_cb,
    recast,
)
from ..errors import BadOptionsError, ConnectionLostError, NatsError
from ..jetstream import (
    JetStream,
    MessageNotFoundError,
    StoredMsg,
    WrongLastSequenceError,
    is_electing,
    message_headers,
)
from .codecs import KeyCodec, ValueCodec
from .encoding import Encoding, Keys
from .entry import KvEntry
from .many import ManyKeys
from .messages import Read, Touch, Write
from .watch import KvWatch

WatchCallback = ResultCallback[KvEntry]

_DELETE_MARKERS_OLDER_THAN = 30 * 60 * 1000  # ms; the default of `KV.purge_deletes`
# After a connection was lost, before a watch that had just begun asks for its bucket again.
_RETRY_WAIT_MS = 50.0


class KV(ManyKeys):
    """A key-value bucket, by its name. To construct one asks nothing of the server: see `create_bucket`.

    Callbacks are ``cb(result, err)``, the last argument or a keyword. Where one may be left out, errors
    go to the client's on_error. Operations on a bucket that does not exist get `BucketNotFoundError`; all
    may get the errors of `JetStream`. A key consists of letters, digits and ``-/_=.``, else `InvalidKeyError`
    is raised; a value is what `Nats.publish` takes, and comes back as bytes. Revisions are ints, counted over
    the whole bucket.

    Args:
        js: the `JetStream` whose client, prefix and timeout all calls use.
        bucket: letters, digits, dashes and underscores.
        timeout: for each answer, a timedelta or ms, in place of that of js.
        key_codec: encodes and decodes keys, such as `Base64Codec`; see `KeyCodec`. All programs that use
            the bucket must have the same.
        value_codec: encodes and decodes values; see `ValueCodec`.

    Attributes:
        bucket: the bucket's name.
        stream: the name of the bucket's stream, for calls of `JetStream` that `KV` has no word for.
        js: the `JetStream` that all calls go through, with this bucket's timeout.

    Raises:
        InvalidBucketNameError: a bucket can't have this name.
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
        self._check_js(js, bucket)
        super().__init__(js if timeout is None else JetStream(js.nats, js.prefix, timeout), bucket)
        self._encoding = Encoding(self.bucket, key_codec, value_codec)

    # Reading.

    def get(self, key: str, cb: ResultCallback[bytes]) -> None:
        """Read a key's value; ``cb(bytes, err)``, ``cb(None, None)`` when the key is missing or deleted.

        Any replica answers, so the value may be one revision old. `entry` tells the revision, too.
        """

        def found(message: StoredMsg | None, error: NatsError | None) -> None:
            if message is not None:
                cb(*self._encoding.stored_value(key, message))
            else:
                cb(None, None if isinstance(error, MessageNotFoundError) else error)

        cb = guarded(self.js, cb)
        Read(self.js, self._kv_stream, self._encoding.key(key), found).start()

    def entry(self, key: str, cb: ResultCallback[KvEntry]) -> None:
        """Read a key's latest `KvEntry`; ``cb(None, None)`` when the key is missing or deleted."""

        def found(entry: KvEntry | None, error: NatsError | None) -> None:
            cb(entry if entry is not None and not entry.deleted else None, error)

        cb = guarded(self.js, cb)
        self._last(key, found)

    def get_revision(self, key: str, revision: int, cb: ResultCallback[KvEntry]) -> None:
        """Read a key's `KvEntry` of a revision; ``cb(entry, err)``.

        Args:
            key: the key that the revision must belong to.
            revision: 1 or more.
            cb: gets `KeyNotFoundError` when the bucket has no such revision of this key (any more),
                `KeyDeletedError` when that revision deletes the key.
        """
        cb = guarded(self.js, cb)
        stored_key = self._encoding.key(key)
        if not integer(revision, "a revision", 0):
            raise BadOptionsError("a revision to read must be 1 or more")

        def found(message: StoredMsg | None, error: NatsError | None) -> None:
            if message is None:
                cb(None, _missing_key(error, self.bucket, key))
            elif message.subject != self._kv_stream.read_prefix + stored_key:
                text = f"key not found: {key} has no revision {revision}"
                cb(None, KeyNotFoundError(text, bucket=self.bucket, key=key))
            else:
                entry, error = self._encoding.entry(key, message)
                if entry is not None and entry.deleted:
                    names = {"bucket": self.bucket, "key": key}
                    cb(None, KeyDeletedError(f"key was deleted: {key}", entry=entry, **names))
                else:
                    cb(entry, error)

        Read(self.js, self._kv_stream, revision, found).start()

    def history(
        self,
        key: str,
        cb: ResultCallback[list[KvEntry]],
        *,
        ignore_deletes: bool = False,
        meta_only: bool = False,
    ) -> None:
        """List all revisions that the bucket has of a key, oldest first; ``cb([entry, …], err)``.

        Args:
            key: the key.
            cb: gets `KeyNotFoundError` when the bucket has no revision of the key.
            ignore_deletes: only entries with a value, no deletions.
            meta_only: entries without their values.
        """
        cb = guarded(self.js, cb)

        def listed(entries: Any, error: NatsError | None) -> None:
            if error is None and not entries:
                text = f"key not found: {key}"
                cb(None, KeyNotFoundError(text, bucket=self.bucket, key=key))
            else:
                cb(entries, error)

        only = {"ignore_deletes": ignore_deletes, "meta_only": meta_only}
        # One key, also if it has a "*" that its codec encodes: in a filter that would be a wildcard.
        self._collect([self._encoding.key(key)], listed, include_history=True, **only)

    def keys(
        self,
        keys: Keys | ResultCallback[list[str]] = None,
        cb: ResultCallback[list[str]] | None = None,
    ) -> None:
        """List the names of all keys that are not deleted, sorted; ``cb([key, …], err)``.

        Args:
            keys: a filter such as "a.*" or "a.>", or several (nats-server 2.10 or later). None, the default,
                and an empty list mean all, as in nats.go.
            cb: see above.
        """
        keys, cb = optional_before_cb(keys, cb)
        listed = guarded(self.js, cast(Callback, cb))

        def collected(entries: Any, error: NatsError | None) -> None:
            names = sorted({entry.key for entry in entries}) if error is None else None
            listed(names, error)

        filters = self._encoding.filters(cast(Keys, keys))
        self._collect(filters, collected, ignore_deletes=True, meta_only=True)

    def list_keys(
        self, keys: Keys | ResultCallback[str] = None, cb: ResultCallback[str] | None = None
    ) -> KvWatch:
        """List the names of all keys one by one, for buckets whose keys are too many for a list.

        ``cb(key, None)`` for each key that is not deleted, then once ``cb(None, None)`` or ``cb(None, err)``.
        A key that changes meanwhile may come twice.

        Args:
            keys: as in `keys`.
            cb: see above.

        Returns:
            The `KvWatch`; to stop it ends the list early, without a further call.
        """
        keys, cb = optional_before_cb(keys, cb)
        next_key = guarded(self.js, cast(Callback, cb))

        def next_entry(entry: KvEntry | None, error: NatsError | None) -> None:
            if entry is None:
                watch.stop()
            next_key(entry.key if entry is not None else None, error)

        watch = self.watch(cast(Keys, keys), next_entry, ignore_deletes=True, meta_only=True)
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
        """Watch keys: first what they are now, then every change until `KvWatch.stop`.

        ``cb(entry, None)`` for the latest entry of each key, deleted ones included; ``cb(None, None)``
        once at the end of these; then an entry per change, in order. The watch survives a lost connection
        and loses no change. ``cb(None, err)`` once when the watch can't go on.

        Args:
            keys: a key or a filter such as "a.>", or several (nats-server 2.10 or later). None, the default,
                and an empty list mean all, as in nats.go. A token "*" or a ">" at the end is a wildcard,
                also with a codec that encodes such characters.
            cb: see above.
            include_history: first all revisions that the bucket has, not only the latest.
            ignore_deletes: only entries with a value, no deletions.
            meta_only: entries without their values.
            updates_only: no entries from before the call; the ``cb(None, None)`` comes at once.
            resume_from_revision: first all entries from this revision on; 0 means as without it.

        Returns:
            The `KvWatch`, which can be stopped.

        Raises:
            BadOptionsError: updates_only with include_history or resume_from_revision.
            InvalidKeyError: a key or filter that can't be.
        """
        keys, cb = optional_before_cb(keys, cb)
        cb = guarded(self.js, cb)
        engine = self._start_watch(
            self._encoding.filters(cast(Keys, keys)),
            cast(WatchCallback, cb),
            include_history=include_history,
            ignore_deletes=ignore_deletes,
            meta_only=meta_only,
            updates_only=updates_only,
            resume_from_revision=resume_from_revision,
        )
        return KvWatch(engine)

    def _start_watch(
        self,
        filters: list[str],
        cb: WatchCallback,
        *,
        encoding: Encoding | None = None,
        include_history: bool = False,
        ignore_deletes: bool = False,
        meta_only: bool = False,
        updates_only: bool = False,
        resume_from_revision: int | None = None,
    ) -> WatchEngine:
        """Start a watch; see `watch` for the arguments.

        Args:
            filters: as subjects have them.
            encoding: in place of that of the bucket.
        """
        start = 0
        if resume_from_revision is not None:
            start = integer(resume_from_revision, "a revision", 0)
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
        read = (encoding or self._encoding).reader(meta_only=meta_only)
        engine = WatchEngine(self.js, self.bucket, read, cb, ignore_deletes=ignore_deletes)

        def begin() -> None:
            self._kv_stream.when_known(
                lambda: engine.start(self.stream, self._kv_stream.read_prefix, filters, options),
                failed,
            )

        began_at = time.monotonic()

        def failed(result: object, error: NatsError | None) -> None:
            # A watch that has just begun survives a lost connection as a later one does, and a cluster
            # without a leader as long as a request does.
            waited = (time.monotonic() - began_at) * 1000
            electing = is_electing(error) and waited < (self.js.timeout or waited + 1)
            if (electing or isinstance(error, ConnectionLostError)) and not engine.stopped:
                assert error is not None
                self.js.nats.call_later(
                    _RETRY_WAIT_MS,
                    call_or_report,
                    failed,
                    begin,
                    ended=lambda: engine.fail(error),
                )
            elif error is not None:
                engine.fail(error)

        begin()
        return engine

    # Writing.

    def put(
        self,
        key: str,
        value: Payload,
        cb: ResultCallback[int] | None = None,
        *,
        ttl: Milliseconds | None = None,
    ) -> None:
        """Set a key to a value; ``cb(revision, err)``, the new revision of the key.

        Args:
            key: the key.
            value: the value.
            cb: gets `MessageTtlError` when ttl is given and the bucket has no limit_marker_ttl.
            ttl: as in `create`; None: the key expires with the bucket's ttl, if that has one.
        """
        done = completion(self.js, cb)
        self._publish(self._encoding.key(key), self._encoding.value(value), done, ttl=ttl)

    def create(
        self,
        key: str,
        value: Payload,
        cb: ResultCallback[int] | None = None,
        *,
        ttl: Milliseconds | None = None,
    ) -> None:
        """Set a key that is missing or deleted; ``cb(revision, err)``.

        Args:
            key: the key.
            value: the value.
            cb: gets `KeyExistsError` when the key has a value.
            ttl: a timedelta or ms, 1 s or more, after which the key expires unless a later revision
                replaces this one; the server cuts it to whole seconds. The bucket needs limit_marker_ttl. If
                it has a history, an older revision that lives longer shows up again then.
        """
        done = completion(self.js, cb)
        stored_key, data = self._encoding.key(key), self._encoding.value(value)

        def write(revision: int, cb: Callback) -> None:
            self._publish(stored_key, data, cb, ttl=ttl, expect_last_subject_seq=revision)

        def created(revision: int | None, error: NatsError | None) -> None:
            if isinstance(error, WrongLastSequenceError):
                # There is a message of this key. It may be a marker of a deletion: the stream's leader knows.
                call_or_report(done, lambda: self._last(key, existing, leader=True))
            else:
                done(revision, error)

        def existing(entry: KvEntry | None, error: NatsError | None) -> None:
            if isinstance(error, CodecError) or (entry is not None and not entry.deleted):
                done(None, _exists(self.bucket, key))  # also with a value that can't be decoded
            elif error is not None:
                done(None, error)
            else:
                revision = entry.revision if entry is not None else 0
                call_or_report(done, lambda: write(revision, over_marker))

        def over_marker(revision: int | None, error: NatsError | None) -> None:
            lost = isinstance(error, WrongLastSequenceError)  # to another writer, who was faster
            done(revision, _exists(self.bucket, key) if lost else error)

        write(0, created)

    @explained(last="the parameter is revision")
    def update(
        self,
        key: str,
        value: Payload,
        revision: int,
        cb: ResultCallback[int] | None = None,
        *,
        ttl: Milliseconds | None = None,
    ) -> None:
        """Set a key whose latest revision is the given one; ``cb(new revision, err)``.

        Args:
            key: the key.
            value: the value.
            revision: the latest one, deletions counted; 0: the bucket must have no revision of the key.
            cb: gets `WrongLastSequenceError` when the latest revision is another one, `MessageTtlError`
                when ttl is given and the bucket has no limit_marker_ttl.
            ttl: as in `create`. The ttl of the latest revision does not count any more: without another one
                the key expires with the bucket's ttl, if that has one.
        """
        done = completion(self.js, cb)
        expected = integer(revision, "a revision", 0)
        stored_key, data = self._encoding.key(key), self._encoding.value(value)
        self._publish(stored_key, data, done, ttl=ttl, expect_last_subject_seq=expected)

    def touch(
        self,
        key: str,
        cb: ResultCallback[int] | None = None,
        *,
        ttl: Milliseconds | None = None,
    ) -> None:
        """Let a key live on: store its value again as a new revision; ``cb(revision, err)``.

        The time until the key expires begins again. Reads the latest revision from the stream's leader, and
        updates that one; if another writer is faster, reads again.

        Args:
            key: the key.
            cb: gets `KeyNotFoundError` when the key is missing or deleted, `MessageTtlError` when ttl is
                given and the bucket has no limit_marker_ttl.
            ttl: as in `create`; None: that of the latest revision.
        """
        Touch(
            self.js, self._kv_stream, key, self._encoding.key(key), ttl, completion(self.js, cb)
        ).start()

    def delete(
        self, key: str, cb: ResultCallback[bool] | None = None, *, revision: int | None = None
    ) -> None:
        """Delete a key and keep its history; ``cb(True, err)`` when the server has stored the deletion.

        Args:
            key: the key.
            cb: gets `WrongLastSequenceError` when the latest revision is not the given one.
            revision: delete only if this is the latest revision.
        """
        self._mark(key, cb, {"KV-Operation": "DEL"}, revision)

    def purge(
        self,
        key: str,
        cb: ResultCallback[bool] | None = None,
        *,
        revision: int | None = None,
        ttl: Milliseconds | None = None,
    ) -> None:
        """Delete a key and its history; ``cb(True, err)`` when the server has done so.

        Args:
            key: the key.
            cb: gets `WrongLastSequenceError` when the latest revision is not the given one.
            revision: purge only if this is the latest revision.
            ttl: a timedelta or ms, 1 s or more, after which the marker of the deletion expires too. The
                bucket needs limit_marker_ttl; a marker lives at least that long.
        """
        headers = {"KV-Operation": "PURGE", "Nats-Rollup": "sub"}
        self._mark(key, cb, headers, revision, ttl)

    def purge_deletes(
        self,
        older_than: Milliseconds | ResultCallback[int] | None = None,
        cb: ResultCallback[int] | None = None,
    ) -> None:
        """Remove the history of deleted keys, and the markers of their deletion; ``cb(count of keys, err)``.

        A key that is set again meanwhile keeps its new value.

        Args:
            older_than: a timedelta or ms, default 30 minutes; of younger deletions the marker stays.
            cb: see above.
        """
        older_than, cb = optional_before_cb(older_than, cb)
        done = completion(self.js, cb)
        age = _DELETE_MARKERS_OLDER_THAN if older_than is None else age_ms(older_than)
        try:
            newest = datetime.now(timezone.utc) - timedelta(milliseconds=age)
        except OverflowError:  # before the first day that Python knows
            newest = datetime.min.replace(tzinfo=timezone.utc)
        if age <= 0:  # all; the clocks of server and client may differ
            newest = datetime.max.replace(tzinfo=timezone.utc)

        def listed(entries: Any, error: NatsError | None) -> None:
            if error is not None:
                done(None, error)
            else:
                markers = [entry for entry in entries if entry.deleted]
                self._purge_markers(markers, 0, newest, done)

        # Keys as they are stored: one that the codec can't decode, or decodes to another key's name, has
        # markers, too.
        self._collect([">"], listed, meta_only=True, encoding=Encoding(self.bucket, None, None))

    def _purge_markers(
        self, markers: list[KvEntry], at: int, newest: datetime, done: Callback
    ) -> None:
        """Purge what is before each of the markers from at on, and the markers themselves up to newest."""
        if at == len(markers):
            done(at, None)
            return
        marker = markers[at]
        # By sequence: what has been put after the marker stays.
        seq = marker.revision + (marker.created <= newest)

        def purged(result: Any, error: NatsError | None) -> None:
            if error is not None:
                done(None, bucket_error(error))
            else:
                self._purge_markers(markers, at + 1, newest, done)

        def purge() -> None:
            subject = self._kv_stream.read_prefix + marker.key
            self.js.stream_purge(self.stream, {"filter": subject, "seq": seq}, purged)

        call_or_report(done, purge)

    # Messages.

    def _last(self, key: str, cb: Callback, *, leader: bool = False) -> None:
        """Read a key's latest entry, deleted or not; ``cb(None, None)`` when the bucket has none.

        leader: ask the stream's leader, who has the latest for sure, instead of any replica.
        """

        def found(message: StoredMsg | None, error: NatsError | None) -> None:
            if message is not None:
                cb(*self._encoding.entry(key, message))
            else:
                cb(None, None if isinstance(error, MessageNotFoundError) else error)

        Read(self.js, self._kv_stream, self._encoding.key(key), found, leader=leader).start()

    def _publish(
        self,
        stored_key: str,
        data: bytes,
        cb: Callback,
        *,
        headers: dict[str, str] | None = None,
        ttl: Milliseconds | None = None,
        **options: Any,
    ) -> None:
        """Publish a key's next message; ``cb(revision, err)``.

        Bad headers and options raise here, also when the message has to wait until the stream is known.
        """
        block = None
        if headers is not None or ttl is not None or options:
            block = message_headers(headers, {"ttl": ttl, **options})
        write = Write(self.js, self._kv_stream, stored_key, data, block, cb, ttl=ttl is not None)
        write.start()

    def _mark(
        self,
        key: str,
        cb: Callback | None,
        headers: dict[str, str],
        revision: int | None,
        ttl: Milliseconds | None = None,
    ) -> None:
        """Publish a marker of a deletion; ``cb(True, err)``."""
        done = completion(self.js, cb)

        def stored(revision: int | None, error: NatsError | None) -> None:
            done(True if error is None else None, error)

        expected = None if revision is None else integer(revision, "a revision", 0)
        self._publish(
            self._encoding.key(key),
            b"",
            stored,
            headers=headers,
            ttl=ttl,
            expect_last_subject_seq=expected,
        )

    def _collect(self, filters: list[str], cb: Callback, **options: Any) -> None:
        """Make a list of a watch's initial entries; ``cb([entry, …], err)``."""
        collect(self.js, lambda next_one: self._start_watch(filters, next_one, **options), cb)


def entry_of_leader(kv: KV, key: str, cb: Callback) -> None:
    """Read a key's latest entry, deleted or not, from the stream's leader; ``cb(None, None)`` without one."""
    kv._last(key, cb, leader=True)


def _exists(bucket: str, key: str) -> KeyExistsError:
    text = f"key exists: {key}"
    return KeyExistsError(text, code=400, err_code=10071, description=text, bucket=bucket, key=key)


def _missing_key(error: NatsError | None, bucket: str, key: str) -> NatsError | None:
    if isinstance(error, MessageNotFoundError):
        return recast(error, KeyNotFoundError, f"key not found: {key}", bucket=bucket, key=key)
    return error
