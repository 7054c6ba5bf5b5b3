"""Reading an object: its parts from an ordered consumer, checked, into a sink.

A lost connection is got over: the next consumer goes on behind the last part. What is handed over as
complete has the size, the number of parts and the digest that its info says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..arguments import Callback
from ..buckets import (
    BadObjectMetaError,
    DigestMismatchError,
    ObjectChangedError,
    ObjectIncompleteError,
    ObjectTransferError,
    bucket_error,
    call_or_report,
    transfer_error,
)
from ..errors import ConnectionLostError, NatsError, RequestTimeoutError
from ..jetstream import MessageNotFoundError
from .meta import CHUNK_SIZE, DIGEST, Info, chunk_subject, digest_matches
from .sinks import Sink

if TYPE_CHECKING:
    from ..jetstream import JsMsg, OrderedConsumer
    from .infos import Infos


Progress = Callable[[int, int], object]

# Content that is asked for at a time, in bytes, and in parts at least.
_WINDOW = 4 * 1024 * 1024
_LEAST_PARTS = 4
# So long without a part: look whether it is still there.
_LOOK_AFTER_MS = 1000.0


class Download:
    """A get that is under way. `pause` and `resume` it as what takes the content needs.

    `cancel` stops it; `done` tells whether it has ended, `paused` whether it is paused; `info` is the
    object's, as soon as it is known ({} before). The other methods are the store's.
    """

    def __init__(
        self,
        infos: Infos,
        name: str,
        sink: Sink,
        progress: Progress | None,
        callback: Callback,
    ) -> None:
        self.done = False
        self.paused = False
        self.info: Info = {}
        self._infos = infos
        self._js = infos.js
        self._name = name
        self._sink = sink
        self._progress = progress
        self._callback = callback
        self._hash = hashlib.sha256()
        self._size = 0
        self._chunks = 0
        self._seq = 0  # of the last part in the stream
        self._subject = ""
        self._consumer: OrderedConsumer | None = None
        self._looked_at = -1

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r} {'done' if self.done else self._size}>"

    def cancel(self) -> None:
        """Stop it; its callback gets `ObjectTransferError`."""
        if not self.done:
            self._js.nats.call_soon(self.fail, ObjectTransferError("get was cancelled"))

    def pause(self) -> None:
        """No more content until `resume`. May be called by what takes the content."""
        self.paused = True
        self._stop()

    def resume(self) -> None:
        """Go on after `pause`."""
        if self.paused:
            self.paused = False
            if self._subject and not self.done:
                self._consume()

    def start(self, infos: Infos, info: Info) -> None:
        """Begin to read what info tells of, in the store where it is."""
        self._infos = infos
        self._js = infos.js
        self.info = info
        self._subject = chunk_subject(infos.bucket, info["nuid"])
        digest = info.get("digest") or ""
        if (info["size"] or info["chunks"] or digest) and not digest.startswith(DIGEST):
            self.fail(BadObjectMetaError(f"{info['name']} has no SHA-256 digest"))
            return
        if info["chunks"] and not info["nuid"]:
            self.fail(BadObjectMetaError(f"{info['name']} has parts, and does not say where"))
            return
        if not info["chunks"]:
            self._complete()
        else:
            self._watch_over()
            if not self.paused:
                self._consume()

    def _consume(self) -> None:
        chunk_size = (self.info.get("options") or {}).get("max_chunk_size") or CHUNK_SIZE
        config: dict[str, Any] = {
            "filter_subject": self._subject,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._seq + 1,
            "max_messages": max(_LEAST_PARTS, _WINDOW // max(1, int(chunk_size))),
            "on_start": self._on_start,
        }
        try:
            self._consumer = self._js.ordered_consumer(self._infos.stream, config, self._on_part)
        except NatsError as exc:
            self._js.nats.call_soon(self.fail, exc)

    def _on_start(self, consumer: dict[str, Any]) -> None:
        if not self.done and consumer["num_pending"] < self.info["chunks"] - self._chunks:
            self._look()

    def _on_part(self, message: JsMsg | None, error: NatsError | None) -> None:
        if self.done or self.paused:
            return
        if message is None:
            assert error is not None
            self.fail(error)
            return
        meta = message.metadata
        data = message.data
        self._seq = meta.stream_sequence
        self._chunks += 1
        self._size += len(data)
        self._hash.update(data)
        if self._size > self.info["size"]:
            self.fail(DigestMismatchError(f"{self._name} is larger than its info says"))
            return
        try:
            self._sink.write(data)
        except Exception as exc:
            self.fail(transfer_error("what takes the object", exc))
            return
        if self._progress is not None:
            self._js.nats.call(self._progress, self._size, self.info["size"])
        if self.done:  # cancelled, or the client has ended, in one of these
            return
        if self._chunks == self.info["chunks"]:
            self._complete()
        elif not meta.num_pending:
            self._look()

    def _complete(self) -> None:
        info = self.info
        if self._size != info["size"]:
            self.fail(ObjectIncompleteError(f"{self._size} of {info['size']} bytes are there"))
        elif info.get("digest") and not digest_matches(info["digest"], self._hash):
            self.fail(DigestMismatchError("digest mismatch"))
        else:
            try:
                result = self._sink.finish()
            except Exception as exc:
                self.fail(transfer_error("what takes the object", exc))
                return
            self._end(info if result is None else result, None)

    def fail(self, error: NatsError) -> None:
        """It can't go on."""
        if not self.done:
            self._sink.abandon()
            self._end(None, bucket_error(error))

    def missing(self) -> None:
        """There is no such object."""
        self._sink.abandon()
        self._end(None, None)

    def _end(self, result: Any, error: NatsError | None) -> None:
        self.done = True
        self._stop()
        self._callback(result, error)

    def _stop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.stop()

    # Parts may have been deleted meanwhile: then they never come, and nobody says so.

    def _watch_over(self) -> None:
        self._js.nats.call_later(_LOOK_AFTER_MS, self._tick)

    def _tick(self) -> None:
        if self.done:
            return
        self._watch_over()
        if self._looked_at == self._chunks and not self.paused and self._js.nats.is_connected():
            self._look()
        self._looked_at = self._chunks

    def _look(self) -> None:
        """Is the next part there?"""
        at = self._chunks

        def found(message: Any, error: NatsError | None) -> None:
            if self.done or self._chunks != at or not isinstance(error, MessageNotFoundError):
                return
            call_or_report(
                self._explain, lambda: self._infos.last(self.info["name"], self._explain)
            )

        opts = {"next_by_subj": self._subject, "seq": self._seq + 1}
        call_or_report(found, lambda: self._js.get_msg(self._infos.stream, opts, found))

    def _explain(self, current: Info | None, error: NatsError | None) -> None:
        """The rest is not there; why?"""
        if self.done or isinstance(error, (ConnectionLostError, RequestTimeoutError)):
            return  # the next look will tell
        if error is not None:
            self.fail(error)
        elif current is None or current["nuid"] != self.info["nuid"]:
            self.fail(ObjectChangedError("object has changed while it was read"))
        else:
            count = f"{self._chunks} of {self.info['chunks']}"
            self.fail(ObjectIncompleteError(f"{count} parts are there"))
