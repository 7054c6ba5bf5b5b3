"""Snapshots of streams, as bytes: `JetStream.stream_snapshot` and `JetStream.stream_restore`.

The server sends a snapshot as chunks to an inbox, and waits when so many bytes are unacknowledged: each full
chunk names a subject on which an empty message acknowledges it. An empty message without such a subject is
the end, and its status says whether that is a good one. A restore is the reverse: the client sends chunks as
requests, and an empty one as the end, whose answer is the stream. The content is the server's own
(a tar file in S2, from nats-server 2.15 on another archive in S2): the client neither reads nor changes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypedDict

from ..arguments import (
    Callback,
    Milliseconds,
    ResultCallback,
    callable_or_none,
    check_result_cb,
    integer,
    milliseconds,
)
from ..errors import (
    NatsError,
    NoRespondersError,
    PermissionsViolationError,
    RequestTimeoutError,
)
from ..headers import received
from ..steps import later_step
from ..times import to_wire
from .answers import CONFIG, STORED, decode, part, whole
from .api import NO_LIMIT, Api, Exchange, name_of
from .errors import APIError, InvalidAnswerError, JetStreamError, about
from .types import StreamConfig, StreamInfo, StreamState

__all__ = ["Restore", "Snapshot", "SnapshotError", "StreamBackup"]

# What the server keeps to, and what it takes by default.
_LEAST, _CHUNK, _MOST_CHUNK = 1024, 128 * 1024, 1024 * 1024
_WINDOW, _MOST_WINDOW = 8 * 1024 * 1024, 32 * 1024 * 1024
# Chunks of a restore that the server has not acknowledged. One at a time would cost a round trip each.
_AHEAD = 8
# For how long, in ms, the server may build the stream after the last chunk.
_BUILDS_WITHIN = 3_600_000.0
# After these errors the server has not built the stream.
_CERTAIN = (APIError, InvalidAnswerError, NoRespondersError, PermissionsViolationError)
_SHAPE = {"config!": CONFIG, "state!": {"messages": int, "bytes": int}}

# Called as progress(bytes so far, bytes in all or None).
SnapshotProgress = Callable[[int, "int | None"], object]


class SnapshotError(JetStreamError):
    """A snapshot or a restore has failed, or was cancelled; code is the server's status, 0 without one.

    `__cause__` is what the target or the source of the bytes has raised, if that is the reason. The bytes
    that were written until then are no backup. After a restore that has failed the stream does not exist:
    the server discards what it has received. If it failed after all bytes were sent, the text says that this
    is not certain.

    What to do: look at the text. Code 408 means that the acknowledgements came too late: take a smaller
    ``window_size``, or a faster target. Then begin again from the start.
    """

    text = "snapshot failed"


class StreamBackup(TypedDict):
    """What a restore needs besides the bytes; also the content of the official tools' backup.json."""

    config: StreamConfig
    state: StreamState


class Readable(Protocol):
    """A file to read from."""

    def read(self, size: int, /) -> bytes:
        """Return up to size bytes, b"" at the end."""


class Writable(Protocol):
    """A file to write to."""

    def write(self, data: bytes, /) -> object:
        """Take all bytes."""


class Snapshot(Exchange):
    """A snapshot that is under way.

    Attributes: `stream`, its name; `bytes` and `chunks`, how much has come; `ended`.
    """

    def __init__(
        self,
        api: Api,
        stream: str,
        write: Callable[[bytes], object],
        progress: SnapshotProgress | None,
        timeout: float,
        cb: Callback,
    ) -> None:
        super().__init__(api)
        self.stream = stream
        self.bytes = 0
        self.chunks = 0
        self._write: Callable[[bytes], object] | None = write
        self._progress = progress
        self._timeout = timeout
        self._cb = cb
        self._answer: dict[str, Any] | None = None
        self._complete = False

    def __repr__(self) -> str:
        state = "ended" if self.ended else "running"
        return f"<{type(self).__name__} {self.stream} {self.bytes} B {state}>"

    def cancel(self) -> None:
        """Stop the snapshot; its callback gets `SnapshotError`, on the loop. Does nothing at the end."""
        if not self.ended:
            self._abort(self._error("the snapshot was cancelled"))

    def _abort(self, error: NatsError) -> None:
        """Take no more chunks, and end on the loop's next turn."""
        self._write = None
        self.api.nats.call_soon(self.end, error)

    def begin(self, body: Mapping[str, Any]) -> None:
        """Ask for the snapshot. Raises what a request raises, and then nothing has begun."""
        self.open()
        verb = f"STREAM.SNAPSHOT.{self.stream}"
        self.api.waiting[self] = self.inbox, self.sid, lambda data, error, raw: self.end(error)
        try:
            self.api.request(
                verb,
                {"deliver_subject": self.inbox, **body},
                self._answered,
                timeout=self._timeout,
                shape=_SHAPE,
            )
        except BaseException:
            self._leave()
            raise
        self._wait()

    def on_message(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        """Take a chunk, or the end."""
        if self.ended or self._complete or self._write is None:
            return
        if reply:
            # At once: the server waits a few seconds for it, and the bytes are here already.
            try:
                later_step(self.api.nats.publish, reply, b"")
            except NatsError as error:
                self.end(error)
                return
        elif not payload:
            self._end_of_data(headers)
            return
        self.chunks += 1
        number = whole(reply.rpartition(".")[2]) if reply else None
        if number is not None and number != self.chunks:
            self.end(self._error(f"chunk {self.chunks} is missing: a message was lost"))
            return
        self.bytes += len(payload)
        failure = None
        try:
            self._write(payload)
            if self._progress is not None:
                self._progress(self.bytes, part(self._answer or {}, "state").get("bytes"))
        except Exception as exc:
            failure = self._error("the target of the snapshot failed", cause=exc)
        except BaseException as exc:  # an interrupt of the program: this chunk may be missing
            self._abort(self._error("the target of the snapshot failed", cause=exc))
            raise
        if failure is not None:
            self.end(failure)
        else:
            self._wait()

    def timed_out(self) -> None:
        """See `Exchange`."""
        text = f"request timeout: the server has sent nothing for {self._timeout:g} ms"
        self.end(about(RequestTimeoutError(text), f"STREAM.SNAPSHOT.{self.stream}"))

    def finish(self, error: NatsError | None) -> None:
        """See `Exchange`."""
        answer, self._answer, self._write, self._progress = self._answer, None, None, None
        cb, self._cb = self._cb, _nothing
        if error is not None or answer is None:
            cb(None, error)
        else:
            cb({"config": answer["config"], "state": answer["state"]}, None)

    def _wait(self) -> None:
        if not self.ended:
            # Also without a limit: the timer tells of the client's end.
            self.late.start(self._timeout or NO_LIMIT)

    def _answered(self, answer: dict[str, Any] | None, error: NatsError | None) -> None:
        if self.ended:
            return
        if answer is None:
            self.end(error)
            return
        self._answer = answer
        if self._complete:  # the two come on two subjects, in any order
            self.end(None)

    def _end_of_data(self, headers: bytes | None) -> None:
        found = received(headers)
        status = found.status if headers else None
        if status is not None and status != 204:
            text = found.description or "failed"
            self.end(self._error(f"the server has ended the snapshot: {text} ({status})", status))
            return
        self._complete = True
        if self._answer is not None:
            self.end(None)

    def _error(self, text: str, code: int = 0, cause: BaseException | None = None) -> SnapshotError:
        return _failed(self.stream, text, code, cause)


class Restore:
    """A restore that is under way.

    Attributes: `stream`, its name; `bytes`, how much the server has taken; `ended`.
    """

    def __init__(
        self,
        api: Api,
        stream: str,
        chunks: Iterator[bytes],
        progress: SnapshotProgress | None,
        total: int | None,
        timeouts: tuple[float, float],
        cb: Callback,
    ) -> None:
        self.stream = stream
        self.bytes = 0
        self.ended = False
        self._api = api
        self._chunks = chunks
        self._progress = progress
        self._total = total
        self._timeout, self._builds_within = timeouts
        self._cb = cb
        self._subject = ""
        self._sent = 0
        self._asked: deque[int] = deque()  # the numbers of the requests that wait
        self._all_sent = False  # all chunks, not yet the end
        self._aborted = False  # nothing more is sent, above all not the end
        self._finishing = False  # the end was sent

    def __repr__(self) -> str:
        state = "ended" if self.ended else "running"
        return f"<{type(self).__name__} {self.stream} {self.bytes} B {state}>"

    def cancel(self) -> None:
        """Stop the restore; its callback gets `SnapshotError`, on the loop.

        The server discards what it has received, unless all bytes were sent: then the stream may exist, and
        the error's text says so. Does nothing when the server has acknowledged all of them.
        """
        if not self.ended and not self._finishing:
            self._abort(_failed(self.stream, "the restore was cancelled"))

    def _abort(self, error: NatsError) -> None:
        """Send nothing more, and end on the loop's next turn."""
        self._aborted = True
        self._api.nats.call_soon(self._end, None, error)

    def begin(self, body: Mapping[str, Any]) -> None:
        """Ask for the restore. Raises what a request raises."""
        shape = {"deliver_subject!": str}
        verb = f"STREAM.RESTORE.{self.stream}"
        self._api.request(verb, body, self._answered, timeout=self._timeout, shape=shape)

    def _answered(self, answer: dict[str, Any] | None, error: NatsError | None) -> None:
        if answer is None:
            self._end(None, error)
        elif not self.ended:
            self._subject = answer["deliver_subject"]
            self._pump()

    def _pump(self) -> None:
        """Send as many chunks as may be unacknowledged, and after all acknowledgements the end."""
        while len(self._asked) < _AHEAD and not self._all_sent and not self._aborted:
            failure = chunk = None
            try:
                chunk = next(self._chunks, None)
            except Exception as exc:
                failure = _failed(self.stream, "the source of the snapshot failed", cause=exc)
            except BaseException as exc:  # an interrupt of the program: the source has no more
                self._abort(_failed(self.stream, "the source of the snapshot failed", cause=exc))
                raise
            if failure is not None:
                self._end(None, failure)
                return
            if chunk is None:
                self._all_sent = True
            else:
                size = len(chunk)
                if not self._send(chunk, lambda d, e, h, size=size: self._taken(size, d, e)):
                    return
        if not self._asked and not self._finishing and not self._aborted:
            self._finishing = self._send(b"", lambda d, e, h: self._built(d, e))

    def _send(self, chunk: bytes, cb: Callable[..., object]) -> bool:
        timeout = self._timeout if chunk else self._builds_within
        try:
            number = later_step(
                self._api.nats.request, self._subject, chunk, cb, timeout, no_responders=True
            )
        except NatsError as error:
            self._end(None, error)
            return False
        self._asked.append(number)
        self._sent += len(chunk)
        return True

    def _taken(self, size: int, answer: bytes | None, error: NatsError | None) -> None:
        """Take the acknowledgement of a chunk."""
        if self.ended or self._aborted:
            return
        self._asked.popleft()
        if answer:
            _, error = decode(answer, {})
            error = error or InvalidAnswerError("invalid answer: a chunk is not an object")
        if error is not None:
            self._end(None, error)
            return
        self.bytes += size
        failure = None
        try:
            if self._progress is not None:
                self._progress(self.bytes, self._total)
        except Exception as exc:
            failure = _failed(self.stream, "progress failed", cause=exc)
        except BaseException as exc:  # an interrupt of the program
            self._abort(_failed(self.stream, "progress failed", cause=exc))
            raise
        if failure is not None:
            self._end(None, failure)
        elif not self.ended:
            self._pump()

    def _built(self, answer: bytes | None, error: NatsError | None) -> None:
        """Take the answer to the end: the stream."""
        info: dict[str, Any] | None = None
        if answer is not None:
            info, error = decode(answer, STORED)
        self._asked.clear()
        self._end(info, error)

    def _end(self, info: Any, error: NatsError | None) -> None:
        if self.ended:
            return
        self.ended = True
        has_all = self._all_sent or (self._total is not None and self._sent >= self._total)
        if has_all and error is not None and not isinstance(error, _CERTAIN):
            # Servers build the stream when they have read its last byte; they need no end for that.
            unsure = "the server had all bytes, so the stream may exist now"
            error = _failed(self.stream, unsure, cause=error)
        for number in self._asked:
            self._api.nats.cancel_request(number)
        self._asked.clear()
        chunks, self._chunks, self._progress = self._chunks, iter(()), None
        close = getattr(chunks, "close", None)
        if close is not None:
            self._api.nats.call(close)
        cb, self._cb = self._cb, _nothing
        if isinstance(error, APIError):
            error = about(error, f"STREAM.RESTORE.{self.stream}")
        cb(info, error)


class Snapshots:
    """The methods of `JetStream` that copy whole streams."""

    _api: Api

    def stream_snapshot(
        self,
        stream: str,
        into: Writable | Callable[[bytes], object],
        cb: ResultCallback[StreamBackup],
        *,
        consumers: bool = True,
        check: bool = False,
        chunk_size: int = _CHUNK,
        window_size: int = _WINDOW,
        timeout: Milliseconds = 30_000,
        progress: SnapshotProgress | None = None,
    ) -> Snapshot:
        """Copy a stream as bytes, which `stream_restore` takes; ``cb({"config", "state"}, err)``.

        The copy has all messages up to ``state["last_seq"]`` of the result, also when others publish
        meanwhile. Servers before 2.15 can't copy a stream in memory. The callback comes after the last
        byte was written; the file is not closed. `nats_ev.extras.Backup` keeps copies in folders.

        Args:
            stream: the stream's name.
            into: a file, or ``into(data)``, which gets pieces of at most chunk_size bytes. What it raises
                ends the snapshot.
            cb: gets `SnapshotError`, also after `Snapshot.cancel`; ``disconnected``: the connection was lost,
                and the copy is incomplete.
            consumers: whether the copy has the consumers with their positions.
            check: let the server check all messages before.
            chunk_size: bytes in a message, 1 KiB to 1 MiB.
            window_size: bytes that may be on their way, up to 32 MiB.
            timeout: for the answer, and for each chunk, in ms or a timedelta; 0: no limit.
            progress: ``progress(bytes, about)``, called after each piece; about is the size of the stream's
                messages, which differs from that of the copy, or None.

        Returns:
            A `Snapshot`, which can be cancelled.

        Raises:
            BadOptionsError: the stream's name or a size is invalid.
            NatsError: what `Nats.request` raises.
        """
        check_result_cb(cb)
        body = {
            "no_consumers": not consumers,
            "jsck": bool(check),
            "chunk_size": integer(chunk_size, "chunk_size", _LEAST, _MOST_CHUNK),
            "window_size": integer(window_size, "window_size", _LEAST, _MOST_WINDOW),
        }
        snapshot = Snapshot(
            self._api,
            name_of("stream", stream),
            _writer(into),
            callable_or_none(progress, "progress"),
            milliseconds(timeout, "timeout"),
            cb,
        )
        snapshot.begin(body)
        return snapshot

    def stream_restore(
        self,
        backup: StreamBackup,
        data: bytes | Readable | Iterable[bytes],
        cb: ResultCallback[StreamInfo],
        *,
        chunk_size: int = _CHUNK,
        timeout: Milliseconds = 30_000,
        build_timeout: Milliseconds = _BUILDS_WITHIN,
        progress: SnapshotProgress | None = None,
        total: int | None = None,
    ) -> Restore:
        """Create a stream from what `stream_snapshot` has copied; ``cb(info, err)``.

        The stream must not exist, and keeps its name. The server takes the copies of older lines; those of
        2.15 can't be read by older servers.

        Args:
            backup: the result of `stream_snapshot`. Its config may be changed before, such as num_replicas
                and placement, but not the name.
            data: the bytes: as such, as a file, or as an iterable of pieces. What it raises ends the restore.
            cb: gets `SnapshotError`, an `APIError`, or ``disconnected``; the stream does not exist then,
                unless a `SnapshotError` says that it may.
            chunk_size: bytes in a message, 1 KiB to 1 MiB, and at most the server's max_payload.
            timeout: for each answer, in ms or a timedelta; 0: no limit. The server gives up when no chunk
                has come for five seconds.
            build_timeout: for the server's work after the last chunk.
            progress: ``progress(bytes, total)``, called for each chunk that the server has taken.
            total: how many bytes there are, for progress.

        Returns:
            A `Restore`, which can be cancelled.

        Raises:
            TypeError: backup is not a dict, or data can't be read.
            BadOptionsError: the stream's name or chunk_size is invalid.
            NatsError: what `Nats.request` raises.
        """
        check_result_cb(cb)
        if not isinstance(backup, Mapping) or not isinstance(backup.get("config"), Mapping):
            raise TypeError("backup must be a dict with config and state, as of stream_snapshot")
        config = backup["config"]
        stream = name_of("stream", config.get("name"))
        size = integer(chunk_size, "chunk_size", _LEAST, _MOST_CHUNK)
        limits = (milliseconds(timeout, "timeout"), milliseconds(build_timeout, "build_timeout"))
        most = min(size, self._api.nats.max_payload() or size)
        restore = Restore(
            self._api,
            stream,
            _pieces(data, most),
            callable_or_none(progress, "progress"),
            len(data) if isinstance(data, (bytes, bytearray)) else total,
            limits,
            cb,
        )
        restore.begin({"config": to_wire(dict(config)), "state": dict(backup.get("state") or {})})
        return restore


def _nothing(result: Any, error: NatsError | None) -> None:
    """Stand in for the callback of what has ended."""


def _failed(
    stream: str, text: str, code: int = 0, cause: BaseException | None = None
) -> SnapshotError:
    """Return the error of a snapshot or restore; cause is what something else has raised."""
    if cause is not None:
        name = type(cause).__name__
        text += f": {name}: {cause}" if str(cause) else f": {name}"
    error = SnapshotError(f"{text} (stream {stream!r})", code=code, stream=stream)
    error.__cause__ = cause
    return error


def _writer(into: Any) -> Callable[[bytes], object]:
    """Return what takes the pieces. Raises TypeError."""
    write = getattr(into, "write", None)
    if callable(write):

        def write_all(data: bytes) -> None:
            left = memoryview(data)
            while left:
                taken = write(left)
                if taken is None:
                    return  # a writer that does not count takes all
                if not 0 < taken <= len(left):
                    raise OSError(f"write() took {taken} of {len(left)} bytes")
                left = left[taken:]

        return write_all
    if not callable(into):
        hint = ": open it, or use nats_ev.extras.Backup" if isinstance(into, str) else ""
        raise TypeError(f"a snapshot can't go into {type(into).__name__}{hint}")
    return into  # type: ignore[no-any-return]


def _pieces(data: Any, size: int) -> Iterator[bytes]:
    """Return the pieces of what is to be restored, of at most size bytes each. Raises TypeError."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        view = memoryview(data).cast("B")
        return (bytes(view[at : at + size]) for at in range(0, len(view), size))
    if callable(getattr(data, "read", None)):
        return _read(data, size)
    if isinstance(data, str) or not isinstance(data, Iterable):
        hint = ": open it, or use nats_ev.extras.Backup" if isinstance(data, str) else ""
        raise TypeError(f"a snapshot can't come from {type(data).__name__}{hint}")
    return _cut(iter(data), size)


def _read(file: Readable, size: int) -> Iterator[bytes]:
    while piece := file.read(size):
        yield piece
    if piece is None:  # not the end
        raise BlockingIOError("a non-blocking file has nothing to read now")


def _cut(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    for piece in pieces:
        view = memoryview(piece).cast("B")
        for at in range(0, len(view), size):
            yield bytes(view[at : at + size])
