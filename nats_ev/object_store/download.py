"""Reading an object: its parts come from an ordered consumer, are checked, and go into a sink.

A user holds a `Download`, which can be paused and cancelled. An `ObjectReader` does the work;
`links.Search` gives it the info of the object.

Theory of operation
-------------------

The parts of an object are the messages of one subject, and an ordered consumer delivers these in order, each
once, also over a lost connection. Three things are left to do.

*Flow.* The consumer asks for about 4 MiB at a time, four to 1024 parts, so memory does not depend on the
object's size. To pause means to stop the consumer; to resume, to start another one after the last part
that the sink has taken. No part is kept in between, whatever the length of the pause.

*Part of an object.* A get of a range, and one that a file has a part of already, begin with a later part,
which `ranges` finds. What the file has is hashed again, so that the digest can be compared in the end. The
digest of a range is not known.

*The end.* The info says how many parts there are, and the last one completes the object. Only then are size
and digest compared, and only then does the sink show its result (a file gets its name). A sink gets either
`finish` or `abandon`, once.

*Parts that never come.* Another client may replace or delete the object meanwhile, which purges its parts.
The consumer then waits for ever: a missing part looks like a slow one. So the reader looks for the next
part itself, by a request to the stream, whenever the consumer says that it has nothing more, and when no
part has come for a second. If there is no next part, the object's info tells why: a deletion or another nuid
means that the object has changed, the same nuid that the store has lost parts. Answers that are late are
ignored: each look remembers how many parts there were.

*A cluster without a leader.* The consumer survives a lost leader, but one that has just been requested ends
after the time-out of its JetStream. Then another one is requested. The same happens when some looks in a row
find the next part and the consumer does not send it: its replica lags, or is stuck. The reader gives up when
there is a connection and no part has come for 30 seconds.
"""

from __future__ import annotations

import hashlib
import time
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
from ..errors import ConnectionClosedError, NatsError, RequestTimeoutError
from ..jetstream import (
    InvalidAnswerError,
    MessageNotFoundError,
    MsgGetOptions,
    StreamInfoOptions,
    finish_in_drain,
    parse_ack_reply,
    part,
)
from ..steps import later_step
from .infos import RETRY_FOR, Infos, is_transient
from .meta import CHUNK_SIZE, DIGEST, Info, chunk_subject, digest_matches
from .ranges import Locator, Span, bounds
from .sinks import Sink

if TYPE_CHECKING:
    from ..jetstream import JsMsg, OrderedConsumer
    from ..net import Deadline

# Called as progress(bytes so far, bytes in all).
Progress = Callable[[int, int], object]

# The content is not the object's: nothing of it is worth keeping.
_WRONG = (DigestMismatchError, ObjectChangedError, ObjectIncompleteError)
# Content that the consumer asks for at a time: in bytes, and in parts at least and at most. Each costs a
# kilobyte beside its content.
_WINDOW = 4 * 1024 * 1024
_LEAST_PARTS, _MOST_PARTS = 4, 1024
# After this long without a part: look whether the next one is still there.
_LOOK_AFTER_MS = 1000.0
# So many looks in a row may find the next part before another consumer is requested.
_IDLE_LOOKS = 5
# After a consumer could not begin, before another one is requested.
_RETRY_WAIT_MS = 250.0


class Download:
    """A running `ObjectStore.get`, which can be paused, resumed and cancelled.

    `done` tells whether it has ended, `paused` whether it is paused; `info` is the object's.
    """

    def __init__(self, reader: ObjectReader) -> None:
        self._reader = reader

    def __repr__(self) -> str:
        reader = self._reader
        state = "done" if self.done else f"{'paused ' if self.paused else ''}at {reader.size} B"
        return f"<{type(self).__name__} {reader.name!r} {state}>"

    @property
    def done(self) -> bool:
        """True when the callback has been called, or is about to be in this turn of the loop."""
        return self._reader.done

    @property
    def paused(self) -> bool:
        """True from `pause` to `resume`."""
        return self._reader.paused

    @property
    def info(self) -> Info:
        """The object's info as soon as it is known, {} before."""
        return self._reader.info

    def cancel(self) -> None:
        """Stop the download: no part follows, and its callback gets `ObjectTransferError`, on the loop."""
        self._reader.cancel()

    def pause(self) -> None:
        """Stop the flow of content until `resume`. May be called by what takes the content."""
        self._reader.pause()

    def resume(self) -> None:
        """Let the content flow again after `pause`. Does nothing if the download is not paused."""
        self._reader.resume()


class ObjectReader:
    """Reads one object into a sink; see this module's theory of operation."""

    def __init__(
        self,
        infos: Infos,
        name: str,
        sink: Sink,
        progress: Progress | None,
        callback: Callback,
        span: Span | None = None,
    ) -> None:
        """span: the bytes to read; None: all, and the digest is compared."""
        self.name = name
        self.done = False
        self.paused = False
        self.info: Info = {}
        self.size = 0  # bytes so far, as the sink has them
        self._infos = infos
        self._js = infos.js
        self._sink = sink
        self._progress = progress
        self._callback = callback
        self._hash = hashlib.sha256()
        self._span = span
        self._begin = self._stop = 0  # the bytes to read, as offsets in the object
        self._position = 0  # the offset of the next part
        self._locator: Locator | None = None  # searches for the first part
        self._chunks = 0  # parts before the next one
        self._seq = 0  # of the last part in the stream
        self._subject = ""  # of the parts; "": the info is not known yet
        self._consumer: OrderedConsumer | None = None
        self._chunks_at_tick = -1
        self._idle_looks = 0  # looks since the last part that have found the next one
        self._moved_at = time.monotonic()  # the last part, or the last time that none could come
        self._trouble: NatsError | None = None  # what has befallen the consumer since then
        self._next_tick: Deadline | None = None
        self._ready = False  # the sink has begun, and what it has is hashed
        self._cancelled = False  # `fail` follows in this turn, and no part before that
        self._hold: Deadline | None = None  # lets a drain wait, also while no consumer runs

    def start(self, infos: Infos, info: Info) -> None:
        """Begin to read the object that info describes, in the store of infos."""
        self._infos = infos
        self._js = infos.js
        self.info = info
        self._moved_at = time.monotonic()
        self._subject = chunk_subject(infos.bucket, info["nuid"])
        digest = info.get("digest") or ""
        if (info["size"] or info["chunks"] or digest) and not digest.startswith(DIGEST):
            self.fail(BadObjectMetaError(f"{info['name']} has no SHA-256 digest"))
            return
        if info["chunks"] and not info["nuid"]:
            self.fail(BadObjectMetaError(f"{info['name']} has parts, and does not say where"))
            return
        self._begin, self._stop = bounds(self._span, info["size"])
        self._hold = self._js.nats.hold_drain(self._client_ended)
        self._tick_later()
        if not self._use_sink(self._take_up):
            return
        if self._begin:
            self._locator = Locator(
                infos, info, self._subject, self._located, self._count, self._ended_early
            )
        self._hash_former(0)

    def _take_up(self, sink: Sink) -> None:
        """Let the sink begin; what it has of the object from an earlier get need not be read again."""
        has = sink.begin(self.info)
        if has:
            self._begin = self.size = has

    def _hash_former(self, at: int) -> None:
        """Hash what the sink has already, a piece per turn of the loop; then read the rest."""
        if self.done or self._cancelled:
            return
        if self._span is None and at < self._begin:
            data = b""

            def read(sink: Sink) -> None:
                nonlocal data
                data = sink.read(at, min(_WINDOW, self._begin - at))
                if not data:
                    raise EOFError("the file has become shorter")

            if self._use_sink(read):
                self._hash.update(data)
                self._moved_at = time.monotonic()
                self._js.nats.call_later(
                    0, self._hash_former, at + len(data), ended=self._client_ended, step=True
                )
            return
        self._ready = True
        if not self.info["chunks"] or (self._begin >= self._stop and (self._span or self._begin)):
            self._complete()
        elif not self.paused:
            self._consume()

    def _located(self, seq: int, index: int, position: int) -> None:
        """Begin with the part after seq."""
        self._locator = None
        self._seq, self._chunks, self._position = seq, index, position
        self._moved_at = time.monotonic()
        self._consume()

    def _count(self) -> None:
        """Ask the stream's leader whether parts are missing, as a replica says that may lag."""

        def counted(info: Any, error: NatsError | None) -> None:
            if self.done:
                return
            count = part(part(info, "state"), "subjects").get(self._subject, 0) if info else 0
            if error is not None or count == self.info["chunks"]:
                self._ended_early(error or RequestTimeoutError("request timeout"))
            else:
                self._find_reason()

        opts: StreamInfoOptions = {"subjects_filter": self._subject}
        call_or_report(counted, lambda: self._js.stream_info(self._infos.stream, opts, counted))

    def _client_ended(self) -> None:
        self.fail(ConnectionClosedError("disconnected"))

    def cancel(self) -> None:
        """See `Download.cancel`."""
        if not self.done and not self._cancelled:
            self._cancelled = True
            self._stop_consumer()
            self._js.nats.call_soon(self.fail, ObjectTransferError("get was cancelled"))

    def pause(self) -> None:
        """See `Download.pause`."""
        self.paused = True
        self._stop_consumer()

    def resume(self) -> None:
        """See `Download.resume`."""
        if self.paused:
            self.paused = False
            if self._ready and not self.done and not self._cancelled:
                self._consume()

    def fail(self, error: NatsError) -> None:
        """Stop, and give the error to the callback."""
        if not self.done:
            if isinstance(error, _WRONG):
                self._sink.reject()
            else:
                self._sink.abandon()
            self._end(None, bucket_error(error))

    def missing(self) -> None:
        """Stop because there is no such object; ``callback(None, None)``."""
        self._sink.abandon()
        self._end(None, None)

    # Parts.

    def _consume(self) -> None:
        """Start a consumer after the last part, or search for the first one."""
        if self._locator is not None:
            self._locator.start(self._begin)
            return
        chunk_size = (self.info.get("options") or {}).get("max_chunk_size") or CHUNK_SIZE
        # Whatever that says, parts are on average of this size.
        average = self.info["size"] // self.info["chunks"]
        parts = max(_LEAST_PARTS, _WINDOW // max(1, average, int(chunk_size)))
        if self._span is not None:  # not many more than the range needs
            parts = min(parts, (self._stop - self._position) // max(1, average) + 2)
        config: dict[str, Any] = {
            "filter_subject": self._subject,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._seq + 1,
            "max_messages": min(parts, _MOST_PARTS),
            "on_start": self._on_start,
            "on_error": self._note,
        }
        try:
            self._consumer = later_step(
                self._js.ordered_consumer, self._infos.stream, config, self._on_part
            )
            finish_in_drain(self._consumer)
        except NatsError as exc:
            self._js.nats.call_soon(self.fail, exc)

    def _note(self, error: NatsError) -> None:
        """Remember the last error that the consumer has survived, until the next part."""
        self._trouble = error

    def _consume_again(self) -> None:
        if not self.done and not self.paused and self._consumer is None and self._ready:
            self._consume()

    def _silent(self) -> bool:
        """Return whether no part has come for too long."""
        return time.monotonic() - self._moved_at > RETRY_FOR

    def _stop_consumer(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.stop()
        if self._locator is not None:
            self._locator.stop()

    def _on_start(self, consumer: dict[str, Any]) -> None:
        if not self.done and consumer["num_pending"] < self.info["chunks"] - self._chunks:
            self._look()

    def _on_part(self, message: JsMsg | None, error: NatsError | None) -> None:
        if self.done or self.paused or self._cancelled:
            return
        if message is None:
            assert error is not None
            self._consumer = None
            self._ended_early(error)
            return
        meta = parse_ack_reply(message.reply)
        if meta is None:
            self.fail(InvalidAnswerError(f"no metadata in {message.reply!r:.200}"))
            return
        data = message.data
        self._moved_at, self._trouble = time.monotonic(), None
        self._seq = meta.stream_sequence
        self._chunks += 1
        self._idle_looks = 0
        start = self._position
        self._position += len(data)
        if self._position > self.info["size"]:
            self.fail(DigestMismatchError(f"{self.name} is larger than its info says"))
            return
        if start < self._begin or self._position > self._stop:
            data = data[max(0, self._begin - start) : self._stop - start]
        if self._span is None:
            self._hash.update(data)
        self.size += len(data)
        if not self._use_sink(lambda sink: sink.write(data)):
            return
        if self._progress is not None:
            total = self._stop - (0 if self._span is None else self._begin)
            self._js.nats.call(self._progress, self.size, total)
        if self.done or self._cancelled:  # by the sink or the progress callback
            return
        if self._chunks == self.info["chunks"] or (self._span and self._position >= self._stop):
            self._complete()
        elif not meta.num_pending:
            self._look()

    def _ended_early(self, error: NatsError) -> None:
        """Go on with another consumer a little later, after an error that may pass."""
        if is_transient(error) and not self._silent():
            self._js.nats.call_later(
                _RETRY_WAIT_MS, self._consume_again, ended=lambda: self.fail(error)
            )
        else:
            self.fail(error)

    # Missing parts.

    def _tick_later(self) -> None:
        self._next_tick = self._js.nats.call_later(_LOOK_AFTER_MS, self._tick)

    def _tick(self) -> None:
        """Look for the next part if none has come since the last tick."""
        if self.done:
            return
        self._tick_later()
        stuck = self._chunks_at_tick == self._chunks and not self.paused
        self._chunks_at_tick = self._chunks
        if not stuck or not self._js.nats.is_connected():
            self._moved_at = time.monotonic()
        elif self._silent():
            self.fail(self._trouble or RequestTimeoutError("request timeout"))
        else:
            self._look()

    def _look(self) -> None:
        """Ask the stream whether it has the next part; find out why if it has not."""
        chunks_before = self._chunks

        def found(message: Any, error: NatsError | None) -> None:
            if self.done or self._chunks != chunks_before:
                return
            if isinstance(error, InvalidAnswerError):
                self.fail(error)
            elif error is None:
                self._there()
            if isinstance(error, MessageNotFoundError):
                self._find_reason()

        opts: MsgGetOptions = {"next_by_subj": self._subject, "seq": self._seq + 1}
        call_or_report(found, lambda: self._js.get_msg(self._infos.stream, opts, found))

    def _find_reason(self) -> None:
        call_or_report(self._explain, lambda: self._infos.last(self.info["name"], self._explain))

    def _there(self) -> None:
        """Note that the stream has the next part; replace a consumer that does not send it.

        The answer has come after all that the server had sent before, so no part is on its way.
        """
        self._idle_looks += 1
        if self._idle_looks >= _IDLE_LOOKS and self._ready and not self.paused:
            self._idle_looks = 0
            self._stop_consumer()
            self._consume()

    def _explain(self, current: Info | None, error: NatsError | None) -> None:
        """Fail with the reason why the next part is missing, which the object's present info tells."""
        if self.done or is_transient(error):
            return  # the next look will tell
        if error is not None:
            self.fail(error)
        elif current is None or current["deleted"]:
            self.fail(ObjectChangedError(f"object was deleted while it was read: {self.name}"))
        elif current["nuid"] != self.info["nuid"]:
            self.fail(ObjectChangedError(f"object was replaced while it was read: {self.name}"))
        else:
            count = f"{self._chunks} of {self.info['chunks']}"
            self.fail(ObjectIncompleteError(f"{count} parts are there"))

    # The end.

    def _complete(self) -> None:
        """Check the content as a whole, and give the sink's result to the callback."""
        info = self.info
        wanted = self._stop - (0 if self._span is None else self._begin)
        if self.size != wanted:
            self.fail(ObjectIncompleteError(f"{self.size} of {wanted} bytes are there"))
        elif (
            self._span is None
            and info.get("digest")
            and not digest_matches(info["digest"], self._hash)
        ):
            self.fail(DigestMismatchError("digest mismatch"))
        else:
            self._use_sink(self._finish)

    def _finish(self, sink: Sink) -> None:
        result = sink.finish()
        self._end(self.info if result is None else result, None)

    def _use_sink(self, use: Callable[[Sink], object]) -> bool:
        """Call use(sink). Return whether that has succeeded; if not, the get fails.

        After KeyboardInterrupt, too: nobody knows how much of a part was written.
        """
        try:
            use(self._sink)
        except Exception as exc:
            self.fail(transfer_error("what takes the object", exc))
        except BaseException as exc:
            self.fail(transfer_error("what takes the object", exc))
            raise
        else:
            return True
        return False

    def _end(self, result: Any, error: NatsError | None) -> None:
        self.done = True
        self._stop_consumer()
        if self._hold is not None:
            self._hold.cancel()
        tick, self._next_tick = self._next_tick, None
        if tick is not None:
            tick.cancel()
        # What is left of the get, a handle or an answer under way, must not keep the content.
        callback, self._callback = self._callback, _nothing
        self._sink, self._progress = Sink(), None
        callback(result, error)


def _nothing(result: Any, error: NatsError | None) -> None:
    """Stand in for the callback of a get that has ended."""
