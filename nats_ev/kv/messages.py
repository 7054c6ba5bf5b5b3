"""What a `KV` asks of its stream for one key: to read a message, to publish one, or both (ADR-8, 31, 48).

Each is an object, and its steps are methods. Closures that call each other would hold what an operation has,
a value of a megabyte and the user's callback, until the garbage collector comes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..arguments import Callback, Milliseconds
from ..buckets import BucketNotFoundError, KeyNotFoundError, bucket_error, call_or_report
from ..errors import NatsError, NoRespondersError
from ..headers import received
from ..jetstream import (
    JetStream,
    MessageNotFoundError,
    MessageTtlError,
    StoredMsg,
    WrongLastSequenceError,
    message_headers,
    nobody,
    publish_checked,
    stored_message,
)
from .entry import PUT, operation
from .stream import KvStream

# How often `Touch` reads again because another writer was faster.
_TOUCHES = 20


class Read:
    """Reads one message: the last one of a key, or the one with a sequence; ``cb(StoredMsg, err)``.

    Args:
        js: sends the requests.
        stream: what is known of the bucket's stream.
        of: a key as subjects have it, or a sequence.
        cb: called once.
        leader: ask the stream's leader, who has the latest for sure, instead of any replica.
    """

    __slots__ = ("_cb", "_js", "_leader", "_of", "_stream")

    def __init__(
        self, js: JetStream, stream: KvStream, of: str | int, cb: Callback, *, leader: bool = False
    ) -> None:
        self._js = js
        self._stream = stream
        self._of = of
        self._cb = cb
        self._leader = leader

    def start(self) -> None:
        """Send the request as soon as the stream is known. Raises what a request raises."""
        if self._stream.known:
            self._read()
        else:
            self._stream.when_known(self._read, self._cb)

    def _read(self) -> None:
        js, stream, of = self._js, self._stream, self._of
        direct = "" if self._leader else stream.direct_prefix
        if isinstance(of, int):
            (js.direct_get if direct else js.get_msg)(stream.name, of, self._answered)
        elif direct:
            # With as few calls as there can be: a key has been checked.
            js.nats.request(direct + of, b"", self._got, js.timeout, no_responders=True)
        else:
            js.get_last_msg(stream.name, stream.read_prefix + of, self._answered)

    def _got(self, data: bytes | None, error: NatsError | None, raw: bytes | None) -> None:
        message = None
        if data is not None:
            message, error = stored_message(data, raw)
        elif type(error) is NoRespondersError:
            error = nobody(f"{self._stream.direct_prefix}{self._of}")
        if message is not None:
            self._cb(message, None)
        else:
            self._answered(None, error)

    def _answered(self, message: Any, error: NatsError | None) -> None:
        if message is not None:
            self._cb(message, None)
        else:
            fail(self._stream, error, self._cb, None if self._leader else self._read)


class Write:
    """Publishes a key's next message; ``cb(revision, err)``.

    Args:
        js: sends the message.
        stream: what is known of the bucket's stream.
        key: as subjects have it.
        data: the payload.
        headers: the raw block, or None.
        cb: called once.
        ttl: the headers have a TTL.
    """

    __slots__ = ("_cb", "_data", "_headers", "_js", "_key", "_stream", "_ttl")

    def __init__(
        self,
        js: JetStream,
        stream: KvStream,
        key: str,
        data: bytes,
        headers: bytes | None,
        cb: Callback,
        *,
        ttl: bool,
    ) -> None:
        self._js = js
        self._stream = stream
        self._key = key
        self._data = data
        self._headers = headers
        self._cb = cb
        self._ttl = ttl

    def start(self) -> None:
        """Send the message as soon as the stream is known. Raises what a request raises."""
        if self._ttl and not self._stream.has_ttl:
            self._stream.forget()  # TTLs may have been allowed since
        if self._stream.known:
            self._write()
        else:
            self._stream.when_known(self._write, self._cb)

    def _write(self) -> None:
        if self._ttl and not self._stream.has_ttl:
            self._js.nats.call_soon(self._cb, None, no_ttl(self._stream.bucket))
        else:
            subject = self._stream.write_prefix + self._key
            publish_checked(self._js, subject, self._data, self._headers, self._stored)

    def _stored(self, ack: Any, error: NatsError | None) -> None:
        if error is None:
            self._cb(ack["seq"], None)
        else:
            # Only "no responders" can lead to another write: then nothing was stored.
            fail(self._stream, error, self._cb, self._write)


class Touch:
    """Stores a key's latest message again, as it is stored; ``cb(revision, err)``.

    Args:
        js: sends the requests.
        stream: what is known of the bucket's stream.
        key: the key.
        stored_key: as subjects have it.
        ttl: a timedelta or ms; None: that of the message.
        cb: called once.
    """

    __slots__ = ("_cb", "_header", "_js", "_key", "_stored_key", "_stream", "_tries")

    def __init__(
        self,
        js: JetStream,
        stream: KvStream,
        key: str,
        stored_key: str,
        ttl: Milliseconds | None,
        cb: Callback,
    ) -> None:
        self._js = js
        self._stream = stream
        self._key = key
        self._stored_key = stored_key
        # Bad options raise at the call.
        self._header = None if ttl is None else message_headers(None, {"ttl": ttl})
        self._cb = cb
        self._tries = 0

    def start(self) -> None:
        """Send the first request as soon as the stream is known. Raises what a request raises."""
        Read(self._js, self._stream, self._stored_key, self._read, leader=True).start()

    def _read(self, message: StoredMsg | None, error: NatsError | None) -> None:
        if message is not None and operation(message.headers) == PUT:
            call_or_report(self._cb, lambda: self._write(message))
        elif message is not None or isinstance(error, MessageNotFoundError):
            bucket, key = self._stream.bucket, self._key
            self._cb(None, KeyNotFoundError(f"key not found: {key}", bucket=bucket, key=key))
        else:
            self._cb(None, error)

    def _write(self, message: StoredMsg) -> None:
        ttl: str | None = None
        if self._header is None and message.headers is not None:
            ttl = received(message.headers).get("Nats-TTL")
        block = message_headers(self._header, {"ttl": ttl, "expect_last_subject_seq": message.seq})
        Write(
            self._js,
            self._stream,
            self._stored_key,
            message.data,
            block,
            self._stored,
            ttl=self._header is not None or ttl is not None,
        ).start()

    def _stored(self, revision: int | None, error: NatsError | None) -> None:
        if isinstance(error, WrongLastSequenceError) and self._tries < _TOUCHES:
            self._tries += 1
            call_or_report(self._cb, self.start)
        else:
            self._cb(revision, error)


def fail(
    stream: KvStream,
    error: NatsError | None,
    cb: Callback,
    again: Callable[[], object] | None = None,
) -> None:
    """Give the error of a read or write to cb.

    "No responders" says little to a user of a bucket: then find out first what the bucket is like. If it
    was created again in another way, without direct get or as a mirror, again() tries in that way.
    """
    error = bucket_error(error)
    if isinstance(error, (NoRespondersError, BucketNotFoundError)):
        stream.forget()  # it may be gone, or another one by now
    if isinstance(error, NoRespondersError):
        before = stream.ways

        def known() -> None:
            if again is not None and stream.ways != before:
                again()
            else:
                stream.js.nats.call_soon(cb, None, error)

        call_or_report(cb, lambda: stream.when_known(known, cb))
    else:
        cb(None, error)


def no_ttl(bucket: str) -> MessageTtlError:
    """Return the error for a ttl in a bucket that has none for keys."""
    text = f"bucket {bucket} has no TTL for keys: it needs limit_marker_ttl"
    return MessageTtlError(text, code=400, err_code=10166, description=text)
