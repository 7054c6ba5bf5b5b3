"""Publishing with acknowledgement: one message, or many through a window.

Acknowledgements come to the inbox that all requests of the client share. What a message asks of the
stream is in its headers (ADR-22, 43, 49, 51).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from ..arguments import (
    Callback,
    Milliseconds,
    Payload,
    check_callback,
    count,
    integer,
    milliseconds,
    payload_bytes,
)
from ..client import Nats
from ..errors import BadOptionsError, MaxPayloadError, NatsError, NoRespondersError
from ..headers import Headers, HeadersLike, encode_headers
from ..subjects import check_publish
from ..times import rfc3339
from .api import Api, Feature, Wait, decode
from .config import V2_11, V2_12
from .errors import InvalidAnswerError, TooManyStalledMsgsError

Ack = dict[str, Any]

_RETRY = (2, 250.0)  # attempts, and ms before each (ADR-22)
_NOTHING: dict[str, Feature] = {}


def message_headers(headers: HeadersLike | None, options: Mapping[str, Any]) -> bytes | None:
    """The header block for a message's headers and options; None when there are none.

    Raises TypeError for an unknown option, `BadOptionsError` for a bad value.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if not given:
        return encode_headers(headers) if headers is not None else None
    if headers is None:
        block = Headers()
    elif isinstance(headers, Mapping):
        block = Headers(headers)
    else:
        block = Headers.parse(encode_headers(headers))
    names: dict[str, str] = {}
    for name, value in given.items():
        if name not in _OPTIONS:
            raise TypeError(f"unknown option {name!r} of publish")
        header, convert = _OPTIONS[name]
        other = names.setdefault(header, name)
        if other != name:
            raise TypeError(f"{other} and {name} are the same option of publish")
        block.set(header, convert(name, value))
    return block.encode()


def option_needs(options: Mapping[str, Any]) -> dict[str, Feature]:
    """What the server must have for a message's options: an older one stores it as if without them."""
    return {
        name: _NEEDS[_OPTIONS[name][0]]
        for name, value in options.items()
        if value is not None and _OPTIONS[name][0] in _NEEDS
    }


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
    return value


def _sequence(name: str, value: Any) -> str:
    return str(count(value, name))


def _ttl(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value  # "never", or as the server reads it: "5" (seconds), "1h30m"
    ms = milliseconds(value, name)
    if ms < 1000:
        raise BadOptionsError(f"{name} must be at least 1000 ms, not {ms:g}")
    return f"{round(ms)}ms"


def _rollup(name: str, value: Any) -> str:
    if value not in ("sub", "all"):
        raise BadOptionsError(f"{name} must be 'sub' or 'all', not {value!r}")
    return str(value)


def _increment(name: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:+d}"
    return _text(name, value)


def _schedule(name: str, value: Any) -> str:
    if isinstance(value, datetime):
        return f"@at {rfc3339(value)}"
    if isinstance(value, timedelta):
        return f"@every {round(value.total_seconds() * 1000)}ms"
    return _text(name, value)


# Keyword of `publish` → header, and what makes its value.
_OPTIONS: dict[str, tuple[str, Callable[[str, Any], str]]] = {
    "msg_id": ("Nats-Msg-Id", _text),
    "expect_stream": ("Nats-Expected-Stream", _text),
    "expect_last_seq": ("Nats-Expected-Last-Sequence", _sequence),
    "expect_last_msg_id": ("Nats-Expected-Last-Msg-Id", _text),
    "expect_last_subject_seq": ("Nats-Expected-Last-Subject-Sequence", _sequence),
    "expect_last_subject_seq_subject": ("Nats-Expected-Last-Subject-Sequence-Subject", _text),
    "ttl": ("Nats-TTL", _ttl),
    "rollup": ("Nats-Rollup", _rollup),
    "incr": ("Nats-Incr", _increment),
    "schedule": ("Nats-Schedule", _schedule),
    "schedule_target": ("Nats-Schedule-Target", _text),
    "schedule_source": ("Nats-Schedule-Source", _text),
    "schedule_ttl": ("Nats-Schedule-TTL", _ttl),
    "schedule_time_zone": ("Nats-Schedule-Time-Zone", _text),
    "schedule_rollup": ("Nats-Schedule-Rollup", _text),
}
# nats.go's words for some of them.
for _name, _word in (
    ("expect_last_seq", "expect_last_sequence"),
    ("expect_last_subject_seq", "expect_last_sequence_per_subject"),
    ("ttl", "msg_ttl"),
    ("schedule", "schedule_at"),
    ("schedule", "schedule_every"),
    ("schedule", "schedule_cron"),
):
    _OPTIONS[_word] = _OPTIONS[_name]
_NEEDS: dict[str, Feature] = {
    "Nats-Expected-Last-Subject-Sequence-Subject": V2_11,
    "Nats-TTL": V2_11,
    "Nats-Incr": V2_12,
    "Nats-Schedule": V2_12,
}


class Publishing:
    """The part of `JetStream` that publishes."""

    _api: Api

    def __init__(self, *, max_ack_pending: int, stall_wait: Milliseconds) -> None:
        self._window = Window(self._api, max_ack_pending, milliseconds(stall_wait, "stall_wait"))

    def publish(
        self,
        subject: str,
        payload: Payload,
        cb: Callback,
        *,
        headers: HeadersLike | None = None,
        timeout: Milliseconds | None = None,
        retry_attempts: int = 2,
        retry_wait: Milliseconds = 250,
        **options: Any,
    ) -> None:
        """Publish a message to a stream; ``cb(ack, err)`` when it is stored.

        ack has stream, seq and duplicate, and what the server adds: domain, val (a counter's new value).

        Args:
            headers: `Headers`, a mapping, or a raw block.
            timeout: for the acknowledgement, from each attempt on; default: that of `JetStream`.
            retry_attempts, retry_wait: when nobody listens (a leader is being elected), how often more
                and after how long (ADR-22). A message that timed out may have been stored: publish it
                again with the same msg_id.
            msg_id: the server drops another message with this id within the stream's duplicate_window.
            expect_stream, expect_last_seq, expect_last_msg_id, expect_last_subject_seq,
            expect_last_subject_seq_subject: refuse the message when it is not so
                (`WrongLastSequenceError`, …). Also by nats.go's words: expect_last_sequence,
                expect_last_sequence_per_subject, msg_ttl, schedule_at, schedule_every, schedule_cron.
            ttl: ms (1000 or more), a timedelta, or the server's words such as "never".
            rollup: "sub" or "all": delete what is before it.
            incr: a counter's increment, an int or str.
            schedule: a datetime, a timedelta (repeatedly), or the server's words (ADR-51);
            schedule_target, schedule_source, schedule_ttl, schedule_time_zone, schedule_rollup.
            cb: may be a keyword.

        A server that is too old for an option would store the message as if without it: `ApiLevelError`,
        and it is not sent. Raises what `Nats.request` raises, TypeError and `BadOptionsError`.
        """
        retry = (retry_attempts, retry_wait)
        self._message(subject, payload, cb, headers, timeout, retry, options).send()

    js_publish = publish

    def publish_async(
        self,
        subject: str,
        payload: Payload,
        cb: Callback,
        *,
        headers: HeadersLike | None = None,
        timeout: Milliseconds | None = None,
        retry_attempts: int = 2,
        retry_wait: Milliseconds = 250,
        **options: Any,
    ) -> bool:
        """`publish` through a window: at most max_ack_pending messages are unacknowledged at a time.

        Those beyond it are kept, and go out in order as acknowledgements come in; when none has come for
        stall_wait they fail with `TooManyStalledMsgsError`, unsent. Returns False when the window is
        full: the time to stop until `publish_ready` or an acknowledgement says that there is room.
        """
        retry = (retry_attempts, retry_wait)
        return self._window.add(
            self._message(subject, payload, cb, headers, timeout, retry, options)
        )

    def _message(
        self,
        subject: str,
        payload: Payload,
        cb: Callback,
        headers: HeadersLike | None,
        timeout: Milliseconds | None,
        retry: tuple[int, Milliseconds],
        options: Mapping[str, Any],
    ) -> _Message:
        check_callback(cb)
        block = message_headers(headers, options) if headers is not None or options else None
        limit = self._api.timeout if timeout is None else timeout
        message = _Message(self._api, subject, payload, block, limit, cb)
        if retry != _RETRY:
            message.attempts = count(retry[0], "retry_attempts")
            message.wait = milliseconds(retry[1], "retry_wait")
        if options:
            message.needs = option_needs(options)
        return message

    def publish_async_pending(self) -> int:
        """How many messages of `publish_async` have no acknowledgement yet, kept ones included."""
        return self._window.pending + len(self._window.kept)

    def publish_ready(self, cb: Callable[[], object]) -> None:
        """``cb()`` once, as soon as `publish_async` has room to send at once."""
        check_callback(cb)
        self._window.when_ready(cb)

    def publish_complete(self, cb: Callback) -> None:
        """``cb(True, None)`` once, when no message of `publish_async` waits any more."""
        check_callback(cb)
        self._window.when_complete(cb)

    publish_async_complete = publish_complete  # nats.go's word


class _Message:
    """A message on its way, until it is acknowledged or has failed."""

    __slots__ = (
        "api", "attempts", "cb", "headers", "needs", "payload", "subject", "timeout", "wait",
    )  # fmt: skip

    def __init__(
        self,
        api: Api,
        subject: str,
        payload: Payload,
        headers: bytes | None,
        timeout: Milliseconds,
        cb: Callback,
    ) -> None:
        self.api = api
        self.subject = subject
        self.payload = payload_bytes(payload)
        self.headers = headers
        self.timeout = timeout
        self.cb = cb
        self.attempts, self.wait = _RETRY
        self.needs: Mapping[str, Feature] = _NOTHING

    def send(self) -> None:
        """Raises what `Nats.request` raises; `ApiLevelError` goes to cb."""
        if self.needs:
            self.api.refuse_if_closed()
            check_message(self.api.nats, self.subject, self.payload, self.headers)
            self.api.require(self.needs, lambda level: self._request(), self.cb)
        else:
            self._request()

    def _request(self) -> None:
        self.api.nats.request(
            self.subject,
            self.payload,
            self.answered,
            self.timeout,
            headers=self.headers,
            no_responders=True,
        )

    def answered(self, data: bytes | None, error: NatsError | None, raw: bytes | None) -> None:
        if error is not None and self.attempts > 0 and isinstance(error, NoRespondersError):
            self.attempts -= 1
            self.api.later(self.wait, self._again, lambda err: self.cb(None, err))
            return
        self.cb(*ack_of(data, error))

    def _again(self) -> None:
        try:
            self._request()
        except NatsError as exc:
            self.cb(None, exc)


def check_message(nats: Nats, subject: str, payload: bytes, headers: bytes | None) -> None:
    """Raise for a message that is kept what publishing it would raise: later its caller has gone."""
    check_publish(subject)
    limit = nats.max_payload()
    if limit and len(payload) + len(headers or b"") > limit:
        raise MaxPayloadError(f"message exceeds max_payload ({limit})", limit=limit)


def ack_of(data: bytes | None, error: NatsError | None) -> tuple[Ack | None, NatsError | None]:
    """A publish acknowledgement, or the error in it."""
    if data is None:
        return None, error
    ack, error = decode(data)
    if ack is None:
        return None, error
    if not ack.get("stream"):
        return None, InvalidAnswerError("invalid answer: not a publish acknowledgement")
    ack.setdefault("duplicate", False)
    return ack, None


class Window:
    """Messages of `publish_async`: so many in flight, the others kept until there is room."""

    def __init__(self, api: Api, limit: int, stall_wait: float) -> None:
        self._api = api
        self._limit = integer(limit, "max_ack_pending", 1)
        self._stall_wait = stall_wait
        self.pending = 0
        self.kept: deque[_Message] = deque()
        self._ready: deque[Callable[[], object]] = deque()
        self._complete: deque[Callback] = deque()
        self._moved = False  # an acknowledgement has come since the stall timer began
        self._stall: Wait = api.wait(self._check, self._fail_kept)

    def add(self, message: _Message) -> bool:
        """Send it, or keep it; False when the window is full now."""
        message.cb = self._settle(message.cb)
        if self.pending < self._limit and not self.kept:
            message.send()
            self.pending += 1
        else:
            self._api.refuse_if_closed()
            check_message(self._api.nats, message.subject, message.payload, message.headers)
            if not self.kept and self._stall_wait:
                self._moved = False
                self._stall.start(self._stall_wait)
            self.kept.append(message)
        return self.pending < self._limit

    def when_ready(self, cb: Callable[[], object]) -> None:
        """See `Publishing.publish_ready`."""
        if self.pending < self._limit and not self.kept:
            self._api.nats.call_soon(cb)
        else:
            self._ready.append(cb)

    def when_complete(self, cb: Callback) -> None:
        """See `Publishing.publish_complete`."""
        if self.pending or self.kept:
            self._complete.append(cb)
        else:
            self._api.nats.call_soon(cb, True, None)

    def _settle(self, cb: Callback) -> Callback:
        def settled(ack: Ack | None, error: NatsError | None) -> None:
            self.pending -= 1
            if self.kept:
                self._refill()
            if self._ready or self._complete:
                self._api.nats.call_soon(self._tell)
            cb(ack, error)

        return settled

    def _refill(self) -> None:
        """There is room: send what has been kept."""
        kept = self.kept
        while kept and self.pending < self._limit:
            message = kept.popleft()
            self.pending += 1
            try:
                message.send()
            except NatsError as exc:
                self._api.nats.call_soon(message.cb, None, exc)
        self._moved = True
        if not kept:
            self._stall.cancel()

    def _tell(self) -> None:
        while self._ready and self.pending < self._limit and not self.kept:
            self._api.nats.call_soon(self._ready.popleft())
        if not self.pending and not self.kept:
            while self._complete:
                self._api.nats.call_soon(self._complete.popleft(), True, None)

    def _check(self) -> None:
        if self._moved:
            self._moved = False
            self._stall.start(self._stall_wait)
        else:
            self._fail_kept(TooManyStalledMsgsError())

    def _fail_kept(self, error: NatsError) -> None:
        kept, self.kept = self.kept, deque()
        self.pending += len(kept)  # each callback takes itself out
        for message in kept:
            self._api.nats.call_soon(message.cb, None, error)
