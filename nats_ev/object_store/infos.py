"""The infos of a store's objects: reading, replacing and changing them (ADR-20).

An object's info is the last message on a subject of the object's name. Every writer publishes an info on
the condition that the last one is still the one that the writer has read, so the stream itself
decides between writers. `Infos.change` is the loop that follows from this: read, change, publish, and start
again when another writer was faster. When the answer to a publish is lost, `Infos.replace` reads the last
info, which tells whether the publish was stored; the condition makes it safe to publish again.

The content belongs to an info by its nuid: who replaces or deletes an info removes that content.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ..arguments import Callback
from ..buckets import (
    Reader,
    Watch,
    bucket_error,
    call_or_report,
    check_bucket,
)
from ..errors import (
    ConnectionClosedError,
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
    StreamPurgeOptions,
    WrongLastSequenceError,
    attempt,
    is_electing,
)
from ..times import rfc3339
from .meta import Info, chunk_subject, encode, meta_subject, name_token, parse, stream_name

if TYPE_CHECKING:
    from ..jetstream import JsMsg, Metadata

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
# Before the state is looked up again after a lost answer.
_LOOK_WAIT_MS = 250.0
_REMOVAL_WAIT_MS = 1000.0
_REMOVAL_ATTEMPTS = 600


class Infos:
    """The infos of one store. Callbacks are ``cb(info or None, err or None)``."""

    def __init__(self, js: JetStream, bucket: str) -> None:
        self.js = js
        self.bucket = bucket
        self.stream = stream_name(bucket)
        self.batched: bool | None = None  # whether the stream takes fast batches; None: not known

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
            key, data = name_token(name), message.data
            cb(*attempt(parse, self.bucket, key, data, message.time, message.seq))

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
        _Changing(self, name, change, cb).start()

    def replace(self, info: Info, old: Info | None, cb: Callback, patience: float = 0.0) -> None:
        """Call `publish`; when its answer is lost, find out whether the info was stored.

        Args:
            info, old, cb: as in `publish`.
            patience: seconds for which to look again, and to publish again what was not stored. 0: look once.
        """
        _Replacing(self, info, old, patience, cb).publish()

    def remove_content(self, nuid: str, done: Callable[[], object]) -> None:
        """Delete an object's content; ``done()`` after the first attempt, whether it succeeded or not.

        Nobody else would ever delete that content. So after an error that may pass, further attempts follow
        as long as the client lives, ten minutes at most.
        """
        if nuid:
            self._purge({"filter": chunk_subject(self.bucket, nuid)}, lambda error: done())
        else:
            self.js.nats.call_soon(done)

    def remove(self, name: str, seq: int, done: Callable[[NatsError | None], object]) -> None:
        """Delete the infos of a name up to a sequence; ``done(err)`` after the first attempt.

        What another writer has put under the name since then stays. Further attempts follow as in
        `remove_content`.
        """
        self._purge({"filter": meta_subject(self.bucket, name), "seq": seq + 1}, done)

    def _purge(self, opts: StreamPurgeOptions, done: Callable[[NatsError | None], object]) -> None:
        _Purging(self, opts, done).purge()


# Each operation of several steps is an object with methods: closures that call each other would hold the
# user's callback until the garbage collector comes.


class _Changing:
    """A change under way; see `Infos.change`."""

    def __init__(self, infos: Infos, name: str, change: Change, cb: Callback) -> None:
        self._infos = infos
        self._name = name
        self._change = change
        self._cb = cb
        self._attempts = 0

    def start(self) -> None:
        """Read the name's info. Raises what a request raises."""
        self._infos.last(self._name, self._found)

    def _found(self, info: Info | None, error: NatsError | None) -> None:
        changed = error if error is not None else self._change(info)
        if isinstance(changed, NatsError):
            self._cb(None, changed)
        else:
            call_or_report(self._cb, lambda: self._infos.replace(changed, info, self._stored))

    def _stored(self, info: Info | None, error: NatsError | None) -> None:
        self._attempts += 1
        if isinstance(error, WrongLastSequenceError) and self._attempts < _MAX_ATTEMPTS:
            call_or_report(self._cb, self.start)
        else:
            self._cb(info, error)


class _Purging:
    """A purge that is repeated after an error that may pass; see `Infos.remove_content`."""

    def __init__(
        self, infos: Infos, opts: StreamPurgeOptions, done: Callable[[NatsError | None], object]
    ) -> None:
        self._infos = infos
        self._opts = opts
        self._done: Callable[[NatsError | None], object] | None = done
        self._attempts = 0

    def purge(self) -> None:
        """Purge. What that raises counts as an answer."""
        infos = self._infos
        call_or_report(
            self._purged, lambda: infos.js.stream_purge(infos.stream, self._opts, self._purged)
        )

    def _purged(self, result: Any, error: NatsError | None) -> None:
        self._attempts += 1
        if is_transient(error) and self._attempts < _REMOVAL_ATTEMPTS:
            self._infos.js.nats.call_later(_REMOVAL_WAIT_MS, self.purge)
        done, self._done = self._done, None
        if done is not None:
            done(bucket_error(error))


class _Replacing:
    """An info that is being stored in the place of another one; see `Infos.replace`."""

    def __init__(
        self, infos: Infos, info: Info, old: Info | None, patience: float, cb: Callback
    ) -> None:
        self._infos = infos
        self._info = info
        self._old = old
        self._until = time.monotonic() + patience
        self._cb = cb
        self._lost: NatsError | None = None  # what came in place of the first answer that was lost

    def publish(self) -> None:
        """Publish the info. Raises what a request raises."""
        self._infos.publish(self._info, self._old, self._stored)

    def _stored(self, info: Info | None, error: NatsError | None) -> None:
        if is_transient(error):
            self._lost = self._lost or error
        if self._lost is None or error is None:
            self._cb(info, error)
        else:
            self._look()

    def _look(self) -> None:
        call_or_report(self._found, lambda: self._infos.last(self._info["name"], self._found))

    def _found(self, current: Info | None, error: NatsError | None) -> None:
        late = time.monotonic() > self._until
        if error is not None:
            if is_transient(error) and not late:
                self._later(self._look)
            else:
                self._cb(None, self._lost)
        elif current is not None and _content(current) == _content(self._info):
            self._cb(current, None)
        elif _seq(current) != _seq(self._old):
            self._cb(None, _wrong_last(_seq(current)))
        elif late:
            self._cb(None, self._lost)
        else:
            self._later(lambda: call_or_report(self._stored, self.publish))

    def _later(self, step: Callable[[], object]) -> None:
        def ended() -> None:
            self._cb(None, ConnectionClosedError("disconnected"))

        self._infos.js.nats.call_later(_LOOK_WAIT_MS, step, ended=ended, step=True)


def _content(info: Info) -> Any:
    """Return an info as a reader gets it."""
    return json.loads(encode(info))


def _seq(info: Info | None) -> int:
    seq: int = info["seq"] if info is not None else 0
    return seq


def _wrong_last(seq: int) -> WrongLastSequenceError:
    text = f"wrong last sequence: {seq}"
    return WrongLastSequenceError(text, code=400, err_code=10071, description=text)


class ObjectWatch(Watch):
    """A running watch of objects: what `ObjectStore.watch` returns.

    `stop` ends the watch, `stopped` tells whether the watch has ended, `bucket` is the store's name.
    """


def info_reader(bucket: str) -> Reader:
    """Return the reader for a watch of this store: it makes an info of a message."""

    def read(key: str, message: JsMsg, meta: Metadata) -> tuple[Info, bool]:
        info = parse(bucket, key, message.data, rfc3339(meta.timestamp), meta.stream_sequence)
        return info, info["deleted"]

    return read
