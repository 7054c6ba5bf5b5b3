"""What a `KV` asks of its stream for many keys: one view of them all, and one write of them all (ADR-31, 50).

Theory of operation: a view of more keys than one request may name
-------------------------------------------------------------------

A server reads the last messages of up to 1024 subjects at one moment, and says which sequence the stream had
reached: its answer is true there. Several such answers come from several moments, and perhaps from several
replicas. So another request follows, for all messages after the smallest of these sequences. The stream has
the last message of each key that has changed since, and the server reads them at one moment, too: put over
the answers they make the view of that moment. If they are more than one request gives, the next request goes
on after the last of them. A key that changes meanwhile comes again, so that the view is that of the moment of
the last request.

That moment must not be before those of the answers: a replica may lag. What it gives has to reach up to the
newest revision that is known, else all is asked again.

An answer without a message says no sequence. Then the requests are repeated, and each names a key that
exists besides its own.

Filters that match more than 1024 keys are refused by the server. Then the names come from a list. It has all
keys up to the newest revision in it; keys that are newer come with the messages after that revision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ..arguments import Callback, Milliseconds, Payload, ResultCallback, integer
from ..buckets import (
    BadBucketError,
    InconsistentReadError,
    bucket_error,
    call_or_report,
    completion,
    guarded,
    recast,
)
from ..errors import BadOptionsError, ConnectionClosedError, NatsError
from ..jetstream import (
    APIError,
    BatchError,
    DirectGetBatchOptions,
    JetStream,
    StoredMsg,
    last_of_each,
    message_headers,
)
from ..subjects import matches
from .bucket import KvBucket
from .encoding import Encoding, Keys
from .entry import KvEntry
from .messages import fail, no_ttl
from .stream import KvStream

# Subjects of one request: the server takes 1024 results.
_MOST_SUBJECTS = 1000
# Bytes of the subjects of one request; a server's default for a whole message is 1 MiB.
_MOST_BYTES = 256 * 1024
# The default of a server for one atomic batch.
_MOST_WRITES = 1000
# For how long a view is tried if the `JetStream` has no timeout, in seconds.
_TRY_FOR = 5.0
_AGAIN_MS = 5.0

# What a server has answered: messages, and the sequence that the stream had reached (0: not said).
Answer = tuple[list[StoredMsg], int]
# collect(filters, cb, **options) lists the entries of keys, as `KV._collect` does.
Collect = Callable[..., object]


class ManyKeys(KvBucket):
    """The part of `KV` that reads and writes many keys together."""

    _encoding: Encoding

    def get_many(self, keys: Keys, cb: ResultCallback[dict[str, KvEntry]]) -> None:
        """Read many keys as they were at one moment; ``cb({key: KvEntry}, err)``.

        Keys that are missing or deleted are left out; the dict is sorted by key. All values are those of one
        revision of the bucket, and all or none of a `put_many` is among them. Any replica answers, and of a
        mirror the mirror, so the moment may be a little ago. More than 1000 keys take several requests, and
        one more for what has changed meanwhile.

        Args:
            keys: keys and filters such as "a.*" or "a.>", or one of them. None means all; an empty list none.
            cb: gets `ApiLevelError` from a server before 2.11, `InconsistentReadError` when several requests
                show no common moment until the timeout has passed, or have more bytes than the server sends.
        """
        cb = guarded(self.js, cb)
        GetMany(self.js, self._kv_stream, self._encoding, keys, self._collect, cb).start()

    def put_many(
        self,
        values: Mapping[str, Payload],
        cb: ResultCallback[dict[str, int]] | None = None,
        *,
        revisions: Mapping[str, int] | None = None,
        ttl: Milliseconds | None = None,
    ) -> None:
        """Set and delete many keys together or not at all; ``cb({key: new revision}, err)``.

        The server stores all of them as one atomic batch: no reader sees a part, and no other writer comes
        between them. The bucket needs allow_atomic (nats-server 2.12). After an error that is no refusal,
        such as a time-out, all may have been stored, or none.

        Args:
            values: the value of each key, at most 1000; None deletes the key and keeps its history.
            cb: gets `WrongLastSequenceError` when a key's latest revision is another one than revisions
                says, `BatchError` when the server has refused the batch, `ApiLevelError` from a server
                before 2.12.
            revisions: what the latest revision of some of the keys must be, deletions counted; 0: the
                bucket must have no revision of the key.
            ttl: as in `create`, for all values that are set.

        Raises:
            BadOptionsError: no keys or more than 1000, a revision of a key that is not in values, or two keys
                that a codec stores as one.
        """
        done = completion(self.js, cb)
        PutMany(
            self.js, self._kv_stream, self._encoding, values, revisions or {}, ttl, done
        ).start()

    def _collect(self, filters: list[str], cb: Callback, **options: Any) -> None:
        """Make a list of a watch's initial entries; ``cb([entry, …], err)``."""
        raise NotImplementedError


class GetMany:
    """Reads many keys at one moment; ``cb({key: KvEntry}, err)``. See this module's theory of operation.

    Args:
        js: sends the requests.
        stream: what is known of the bucket's stream.
        encoding: the bucket's codecs.
        keys: keys and filters.
        collect: lists the entries of keys.
        cb: called once.
    """

    def __init__(
        self,
        js: JetStream,
        stream: KvStream,
        encoding: Encoding,
        keys: Keys,
        collect: Collect,
        cb: Callback,
    ) -> None:
        self._js = js
        self._stream = stream
        self._encoding = encoding
        self._collect = collect
        self._cb = cb
        given = [] if keys is None else [keys] if isinstance(keys, str) else list(keys)
        self._nothing = keys is not None and not given
        self._filters = encoding.filters(given or None)
        # The programs' names of keys, by the stored ones: a codec may decode to another name.
        self._names = {encoding.filters([key])[0]: key for key in given if not _is_wild(key)}
        self._wild = [each for each in self._filters if each not in self._names]
        # When the names come from a list: the newest revision in it.
        self._listed: int | None = None
        self._until = 0.0
        self._answers: list[Answer] = []
        self._left = 0  # answers to come
        self._error: NatsError | None = None
        self._newest = ""  # the subject of the newest message so far

    def start(self) -> None:
        """Send the requests as soon as the stream is known. Raises what a request raises."""
        js = self._js
        self._until = time.monotonic() + (js.timeout / 1000 or _TRY_FOR)
        if self._nothing:
            js.nats.call_soon(self._cb, {}, None)
        else:
            self._stream.when_known(self._begin, self._cb)

    def _begin(self) -> None:
        stream = self._stream
        if not stream.direct_prefix:
            text = f"bucket {stream.bucket} can't be read at one moment: its stream has no allow_direct"
            error = BadBucketError(text, bucket=stream.bucket, stream=stream.name)
            self._js.nats.call_soon(self._cb, None, error)
        elif self._wild and len(self._filters) > _MOST_SUBJECTS:
            self._list()
        else:
            self._ask(self._filters)

    def _ask(self, keys: list[str]) -> None:
        """Read these keys, which are as subjects have them, with as many requests as it takes."""
        js, stream = self._js, self._stream
        chunks = _chunks([stream.read_prefix + key for key in keys])
        self._answers, self._error, self._left = [], None, len(chunks)

        def answered(answer: Answer | None, error: NatsError | None) -> None:
            self._left -= 1
            if answer is not None:
                self._answers.append(answer)
            else:
                self._error = self._error or error
            if not self._left:
                call_or_report(self._cb, lambda: self._compare(keys))

        for chunk in chunks:
            if len(chunks) > 1 and self._newest and self._newest not in chunk:
                chunk.append(self._newest)
            try:
                last_of_each(js, stream.name, chunk, 0, answered)
            except NatsError as exc:
                if len(chunks) == 1:
                    raise
                js.nats.call_soon(answered, None, exc)

    def _compare(self, keys: list[str]) -> None:
        error = self._error
        if error is not None:
            too_many = isinstance(error, APIError) and error.code == 413
            if too_many and self._wild and self._listed is None:
                self._list()
            else:
                fail(self._stream, error, self._cb)
            return
        answers, self._answers = self._answers, []
        messages = {each.subject: each for found, _ in answers for each in found}
        whole = all(not found or not found[-1].num_pending for found, _ in answers)
        newest = max(messages.values(), key=_seq, default=None)
        moment = min(up_to for _, up_to in answers)
        if not whole:
            text = f"bucket {self._stream.bucket}: the keys have more bytes than the server sends at once"
            self._cb(None, InconsistentReadError(text, bucket=self._stream.bucket))
        elif newest is None or (len(answers) == 1 and self._listed is None):
            self._finish(messages)
        elif not moment:
            self._newest = newest.subject
            self._later(lambda: self._ask(keys))
        else:
            listed = moment if self._listed is None else self._listed
            self._follow(messages, set(keys), min(moment, listed), max(newest.seq, listed))

    def _follow(
        self, messages: dict[str, StoredMsg], keys: set[str], moment: int, needed: int
    ) -> None:
        """Put what has changed after a moment over the messages, and finish.

        Args:
            messages: by subject; each is the last one of its subject at that moment or later.
            keys: those that were asked for.
            moment: a sequence.
            needed: a revision that the server must have.
        """
        stream = self._stream
        cut = len(stream.read_prefix)
        filters = self._filters if self._listed is not None and len(self._filters) == 1 else [">"]

        def changed(found: list[StoredMsg] | None, error: NatsError | None) -> None:
            if found is None:
                fail(stream, error, self._cb)
                return
            for each in found:
                key = each.subject[cut:]
                if key in keys or any(matches(pattern, key) for pattern in self._wild):
                    messages[each.subject] = each
            last = found[-1].seq if found else moment
            if found and found[-1].num_pending:
                self._later(lambda: self._follow(messages, keys, last, needed), 0)
            elif last >= needed:
                self._finish(messages)
            else:
                self._later(lambda: self._ask(sorted(keys)))

        options: DirectGetBatchOptions = {
            "seq": moment + 1,
            "next_by_subj": stream.read_prefix + filters[0],
            "batch": _MOST_SUBJECTS,
        }
        self._js.direct_get_batch(stream.name, options, changed)

    def _later(self, again: Callable[[], object], wait: float = _AGAIN_MS) -> None:
        """Take another step after some ms, unless the time is over."""
        if time.monotonic() >= self._until:
            bucket = self._stream.bucket
            text = f"bucket {bucket} changes faster than its keys can be read"
            self._cb(None, InconsistentReadError(text, bucket=bucket))
            return
        error = ConnectionClosedError("disconnected")
        self._js.nats.call_later(
            wait,
            call_or_report,
            self._cb,
            again,
            ended=lambda: self._cb(None, error),
            step=True,
        )

    def _list(self) -> None:
        """List the stored keys that the filters match, and read these."""

        def listed(entries: Any, error: NatsError | None) -> None:
            if error is not None:
                self._cb(None, bucket_error(error))
                return
            keys = {entry.key for entry in entries} | set(self._names)
            self._listed = max((entry.revision for entry in entries), default=0)
            if keys:
                call_or_report(self._cb, lambda: self._ask(sorted(keys)))
            else:
                self._cb({}, None)

        # Keys as they are stored, deleted ones, too: they may be set again before the view.
        plain = Encoding(self._stream.bucket, None, None)
        self._collect(self._wild, listed, meta_only=True, encoding=plain)

    def _finish(self, messages: Mapping[str, StoredMsg]) -> None:
        result: dict[str, KvEntry] = {}
        cut = len(self._stream.read_prefix)
        for subject, message in messages.items():
            stored = subject[cut:]
            entry, error = self._encoding.named_entry(stored, self._names.get(stored), message)
            if entry is None:
                self._cb(None, error)
                return
            if not entry.deleted:
                result[entry.key] = entry
        self._cb(dict(sorted(result.items())), None)


class PutMany:
    """Writes many keys as one atomic batch; ``cb({key: revision}, err)``.

    Args:
        js: sends the batch.
        stream: what is known of the bucket's stream.
        encoding: the bucket's codecs.
        values: a value for each key; None: delete the key.
        revisions: the expected latest revision of some of the keys.
        ttl: of the values.
        cb: called once.
    """

    def __init__(
        self,
        js: JetStream,
        stream: KvStream,
        encoding: Encoding,
        values: Mapping[str, Payload],
        revisions: Mapping[str, int],
        ttl: Milliseconds | None,
        cb: Callback,
    ) -> None:
        self._js = js
        self._stream = stream
        self._cb = cb
        self._ttl = ttl is not None
        for name, given in (("values", values), ("revisions", revisions)):
            if not isinstance(given, Mapping):
                raise TypeError(f"{name} must be a mapping, not {type(given).__name__}")
        if not 1 <= len(values) <= _MOST_WRITES:
            raise BadOptionsError(
                f"1 to {_MOST_WRITES} keys can be put together, not {len(values)}"
            )
        unknown = sorted(map(str, revisions.keys() - values.keys()))
        if unknown:
            raise BadOptionsError(f"a revision of {unknown[0]!r}, which is not in values")
        self._keys = list(values)
        self._messages: list[tuple[str, bytes, bytes | None]] = []
        stored_keys: dict[str, str] = {}
        for key, value in values.items():
            stored = encoding.key(key)
            if stored in stored_keys:
                raise BadOptionsError(f"{stored_keys[stored]!r} and {key!r} are stored as one key")
            stored_keys[stored] = key
            options: dict[str, Any] = {}
            if key in revisions:
                expected = integer(revisions[key], f"the revision of {key!r}", 0)
                options["expect_last_subject_seq"] = expected
            if value is None:
                block = message_headers({"KV-Operation": "DEL"}, options)
                self._messages.append((stored, b"", block))
            else:
                if ttl is not None:
                    options["ttl"] = ttl
                block = message_headers(None, options)
                self._messages.append((stored, encoding.value(value), block))

    def start(self) -> None:
        """Send the batch as soon as the stream is known. Raises what a publish raises."""
        if self._ttl and not self._stream.has_ttl:
            self._stream.forget()  # TTLs may have been allowed since
        self._stream.when_known(self._write, self._cb)

    def _write(self) -> None:
        stream = self._stream
        if self._ttl and not stream.has_ttl:
            self._js.nats.call_soon(self._cb, None, no_ttl(stream.bucket))
            return
        batch = self._js.atomic_batch()
        *members, last = self._messages
        try:
            for key, data, block in members:
                batch.add(stream.write_prefix + key, data, headers=block)
            key, data, block = last
            batch.commit(stream.write_prefix + key, data, self._stored, headers=block)
        except BaseException:
            batch.discard()
            raise

    def _stored(self, ack: Any, error: NatsError | None) -> None:
        if error is None:
            first = ack["seq"] - len(self._keys) + 1
            self._cb({key: first + i for i, key in enumerate(self._keys)}, None)
            return
        if isinstance(error, BatchError) and error.err_code == _NO_BATCHES:
            bucket = self._stream.bucket
            text = f"bucket {bucket} takes no atomic writes: it needs allow_atomic"
            error = recast(error, BatchError, text)
        fail(self._stream, error, self._cb)


# The stream has no allow_atomic.
_NO_BATCHES = 10174


def _seq(message: StoredMsg) -> int:
    return message.seq


def _is_wild(key: object) -> bool:
    return isinstance(key, str) and ("*" in key or ">" in key)


def _chunks(subjects: list[str]) -> list[list[str]]:
    """Return the subjects in parts, each of which one request can name."""
    chunks: list[list[str]] = [[]]
    size = 0
    for subject in subjects:
        if len(chunks[-1]) >= _MOST_SUBJECTS or size > _MOST_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(subject)
        size += len(subject) + 3  # quotes and a comma
    return chunks
