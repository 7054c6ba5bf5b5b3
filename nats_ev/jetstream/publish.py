"""Publishing with acknowledgement: one message, or many through a window.

Theory of operation
-------------------

`publish` is a request: its acknowledgement comes to the inbox that all requests of the client share, so a
message needs no subscription of its own. The conditions and features of a message (`msg_id`, `ttl`, …) are
headers (ADR-22, 43, 49, 51). `message_headers` makes one raw block of them and of the user's headers; from
there on only bytes are passed. A server that is too old for a header ignores it and stores the message as
if it had none, so `send` asks `Api.require` first whether the server knows it.

One `publish` at a time waits a round trip for each message. Any number at a time has no bound: when the
stream stores more slowly than the client publishes, acknowledgements come ever later, requests time out
although their messages get stored, and the client's memory grows. `publish_async` therefore has a window: at
most `max_ack_pending` messages are in flight.

- `Window.add` sends a message if there is room and no other is kept, else it keeps the message. A kept
  message was checked as sending would check it, because later there is no caller to raise an error to.
- Each acknowledgement, good or bad, takes one off `pending`; then `_refill` sends kept messages in their
  order. The invariant: a message counts either in `pending` (sent) or in `kept`, and as long as one is kept,
  none overtakes it. Only a message that is tried again after "no responders" can come later.
- If no acknowledgement comes for `stall_wait` while messages are kept, the kept ones fail unsent. The stall
  timer is started once and looks at `_moved` when it expires: one flag per acknowledgement is cheaper than
  starting a timer again for each.
- `_notify` runs after the acknowledgement's own callback (`call_soon`) and looks whether there is still
  room: that callback may have filled the window again. Only then are those of `publish_ready` and
  `publish_complete` called.

A window that is larger than the server can use only costs memory: with 50,000 in flight a message took 40 %
more CPU than with 256.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ..arguments import (
    Callback,
    Milliseconds,
    Payload,
    ResultCallback,
    Unpack,
    check_callback,
    count,
    integer,
    milliseconds,
    payload_bytes,
)
from ..client import Nats
from ..compiled import parse_ack
from ..errors import (
    MaxPayloadError,
    NatsError,
    NoRespondersError,
    RequestTimeoutError,
    show_misfit,
)
from ..headers import HeadersLike
from ..steps import later_step
from ..subjects import check_publish
from .answers import ACK, decode
from .api import NO_LIMIT, Api, Timer
from .errors import APIError, ApiLevelError, InvalidAnswerError, TooManyStalledMsgsError, nobody
from .levels import Feature
from .publish_options import OPTION_NEEDS, PublishOptions, message_headers, option_needs
from .types import PubAck

Ack = dict[str, Any]

# Attempts after the first, and ms before each (ADR-22).
_RETRY = (2, 250.0)
_NOTHING: dict[str, Feature] = {}


class Publishing:
    """The methods of `JetStream` that publish."""

    _api: Api

    def __init__(self, *, max_ack_pending: int, stall_wait: Milliseconds) -> None:
        self._window = Window(self._api, max_ack_pending, milliseconds(stall_wait, "stall_wait"))
        self._queue = _Queue(self._api)

    def publish(
        self,
        subject: str,
        payload: Payload,
        cb: ResultCallback[PubAck],
        *,
        headers: HeadersLike | None = None,
        timeout: Milliseconds | None = None,
        retry_attempts: int = 2,
        retry_wait: Milliseconds = 250,
        **options: Unpack[PublishOptions],
    ) -> None:
        """Publish a message to a stream; ``cb(ack, err)`` when it is stored.

        ack has stream, seq and duplicate, and fields that the server adds: domain, val (a counter's new
        value; a duplicate's ack has none). A message that timed out may have been stored: publish it again
        with the same msg_id.

        Args:
            subject: a subject that a stream stores.
            payload: the message's data.
            cb: called once; may be a keyword.
            headers: `Headers`, a mapping, or a raw block.
            timeout: for the acknowledgement, from each attempt on; default: that of `JetStream`.
            retry_attempts: how often to try again when nobody listens, as while the stream elects a
                leader (ADR-22).
            retry_wait: how long to wait before each of these.
            msg_id: the server drops another message with this id within the stream's duplicate_window.
            expect_stream: refuse the message if another stream stores the subject.
            expect_last_seq: refuse it if this is not the stream's last sequence (also
                expect_last_sequence): `WrongLastSequenceError`.
            expect_last_msg_id: refuse it if the stream's last message has another msg_id.
            expect_last_subject_seq: expect_last_seq for the subject (also
                expect_last_sequence_per_subject).
            expect_last_subject_seq_subject: the subject, with wildcards, that this is about.
            ttl: how long to keep the message: ms (1000 or more), a timedelta, or the server's notation
                such as "never" (also msg_ttl).
            rollup: "sub" or "all": delete the messages of the subject, or of the stream, before this one.
            incr: a counter's increment, an int or str.
            schedule: publish the message at a datetime, or repeatedly after a timedelta, or by the server's
                notation (ADR-51; also schedule_at, schedule_every, schedule_cron). All but a datetime and
                "@at" need nats-server 2.14.
            schedule_target, schedule_ttl: see ADR-51.
            schedule_source, schedule_time_zone, schedule_rollup: see ADR-51; nats-server 2.14.

        Raises:
            ValueError, NatsError: what `Nats.request` raises.
            TypeError, BadOptionsError: an argument is wrong.

        A server that is too old for an option would store the message as if it had none. The client does
        not send the message then; cb gets `ApiLevelError`. While the client is connecting, or does not know
        yet which API level answers, a message with such an option waits for its own timeout at most. So do
        the messages that this `JetStream` publishes after it: their order stays. Across a leaf node a stream
        of another domain may store the message; when that one is too old, the `ApiLevelError` has the
        acknowledgement.
        """
        retry = (retry_attempts, retry_wait)
        self._message(subject, payload, cb, headers, timeout, retry, options).send()

    def publish_async(
        self,
        subject: str,
        payload: Payload,
        cb: ResultCallback[PubAck],
        *,
        headers: HeadersLike | None = None,
        timeout: Milliseconds | None = None,
        retry_attempts: int = 2,
        retry_wait: Milliseconds = 250,
        **options: Unpack[PublishOptions],
    ) -> bool:
        """Publish a message windowed: at most max_ack_pending messages are unacknowledged at a time.

        Messages beyond the window are kept, and sent in order as acknowledgements come in. When no
        acknowledgement has come for stall_wait, the kept messages fail with `TooManyStalledMsgsError`,
        unsent.

        Args:
            subject, payload, cb, headers, timeout, retry_attempts, retry_wait, options: as in `publish`.

        Returns:
            False when the window is full: stop publishing until `publish_ready` or an acknowledgement
            says that there is room.
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
        if not callable(cb):
            check_callback(cb)
        block = message_headers(headers, options) if headers is not None or options else None
        # Checked here: a message of `publish_async` may be sent when its caller has returned.
        limit = self._api.timeout if timeout is None else milliseconds(timeout, "timeout")
        message = _Message(self._api, self._queue, subject, payload, block, limit, cb)
        if retry != _RETRY:
            message.attempts = count(retry[0], "retry_attempts")
            message.retry_wait = milliseconds(retry[1], "retry_wait")
        if options and not OPTION_NEEDS.keys().isdisjoint(options):
            message.needs = option_needs(options)
        return message

    def publish_async_pending(self) -> int:
        """Return how many messages of `publish_async` are unacknowledged, kept ones included."""
        return self._window.pending + len(self._window.kept)

    def publish_ready(self, cb: Callable[[], object]) -> None:
        """Call ``cb()`` once, as soon as `publish_async` would send a message at once."""
        check_callback(cb)
        self._window.when_ready(cb)

    def publish_complete(self, cb: ResultCallback[bool]) -> None:
        """Call ``cb(True, None)`` once, as soon as no message of `publish_async` is unacknowledged."""
        check_callback(cb)
        self._window.when_complete(cb)


class _Message:
    """A message that is being published, until it is acknowledged or has failed."""

    __slots__ = (
        "api", "attempts", "cb", "headers", "needs", "payload", "queue", "retry_wait", "subject", "timeout",
        "window",
    )  # fmt: skip

    def __init__(
        self,
        api: Api,
        queue: _Queue,
        subject: str,
        payload: Payload,
        headers: bytes | None,
        timeout: float,
        cb: Callback,
    ) -> None:
        self.api = api
        self.queue = queue
        self.subject = subject
        self.payload = payload if type(payload) is bytes else payload_bytes(payload)
        self.headers = headers
        self.timeout = timeout
        self.cb = cb
        self.attempts, self.retry_wait = _RETRY
        self.needs: Mapping[str, Feature] = _NOTHING
        self.window: Window | None = None

    def done(self, ack: Ack | None, error: NatsError | None) -> None:
        """End the message: tell its window, then call its callback."""
        if self.window is not None:
            self.window.settled()
        self.cb(ack, error)

    def send(self) -> None:
        """Send the message. Raises what `Nats.request` raises; `ApiLevelError` goes to cb."""
        if self.queue.waiting or (self.needs and not self.api.knows(self.needs)):
            self.queue.add(self)
        elif self.needs:
            self.api.require(self.needs, lambda level: self._request(), self.done)
        else:
            self._request()

    def release(self) -> None:
        """Send the message after it has waited; what is wrong goes to cb."""
        error = self.api.lacking(self.needs) if self.needs else None
        if error is None:
            try:
                later_step(self._request)
            except NatsError as exc:
                error = exc
        if error is not None:
            self.api.nats.call_soon(self.done, None, error)

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
        """Take the acknowledgement, or try again if nobody listens."""
        if error is not None and self.attempts > 0 and isinstance(error, NoRespondersError):
            self.attempts -= 1
            wait, closed = self.retry_wait, lambda err: self.done(None, err)
            self.api.start_timer(wait, self._again, closed, step=True)
            return
        ack, error = ack_of(data, error)
        if ack is None:
            self.done(None, self._named(error))
        elif not self.needs:
            if self.window is not None:  # as `done`
                self.window.settled()
            try:
                self.cb(ack, error)
            except TypeError as exc:
                show_misfit(exc, self.cb, 1)
                raise
        elif "incr" in self.needs and "val" not in ack and not ack.get("duplicate"):
            # It did not count. A duplicate has counted before, and its acknowledgement has no value.
            self.done(None, ApiLevelError.lacking({"incr": self.needs["incr"]}, ack))
        else:
            self.api.levels.confirm(ack, self.needs, self.done)

    def _named(self, error: NatsError | None) -> NatsError | None:
        """Return an error that says which subject it is about."""
        if type(error) is NoRespondersError:
            return nobody(self.subject, stores=True)
        if isinstance(error, APIError) and not error.subject:
            error.subject = self.subject
            error.args = (f"{error}: subject {self.subject!r}",)
        return error

    def _again(self) -> None:
        try:
            self._request()
        except NatsError as exc:
            self.done(None, exc)


def publish_checked(
    js: Publishing, subject: str, payload: bytes, headers: bytes | None, cb: Callback
) -> None:
    """Publish a message as `Publishing.publish` does, with nothing left to check or to convert."""
    api = js._api
    _Message(api, js._queue, subject, payload, headers, api.timeout, cb).send()


class _Queue:
    """The messages that wait because one needs a feature, and nobody knows yet whether it is there.

    All messages that the same `JetStream` publishes meanwhile wait as well, so that their order stays.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self.waiting: dict[_Message, Timer] = {}
        self._asking = False

    def add(self, message: _Message) -> None:
        """Keep a message. Raises what publishing it would raise."""
        api = self._api
        api.refuse()
        check_message(api.nats, message.subject, message.payload, message.headers)
        limit = milliseconds(message.timeout, "timeout") or NO_LIMIT
        error = RequestTimeoutError("request timeout")
        self.waiting[message] = api.start_timer(
            limit, lambda: self._end(message, error), lambda exc: self._end(message, exc), step=True
        )
        if not self._asking:
            self._asking = True
            api.when_known(message.needs, self._release, self._ended)

    def _end(self, message: _Message, error: NatsError) -> None:
        if self.waiting.pop(message, None) is not None:
            message.done(None, error)

    def _ended(self, error: NatsError) -> None:
        self._asking = False  # each message's timer ends the message

    def _release(self) -> None:
        """Send all that wait, in order."""
        self._asking = False
        while self.waiting:
            message = next(iter(self.waiting))
            self.waiting.pop(message).cancel()
            message.release()


def check_message(nats: Nats, subject: str, payload: bytes, headers: bytes | None) -> None:
    """Raise what publishing the message would raise.

    For a message that is kept: when it is sent, the caller who could handle the error has returned.
    """
    check_publish(subject)
    limit = nats.max_payload()
    if limit and len(payload) + len(headers or b"") > limit:
        raise MaxPayloadError(f"message exceeds max_payload ({limit})", limit=limit)


def ack_of(data: bytes | None, error: NatsError | None) -> tuple[Ack | None, NatsError | None]:
    """Return a publish acknowledgement as ``(ack, err)``."""
    if data is None:
        return None, error
    ack = parse_ack(data)
    if ack is not None:
        return ack, None
    ack, error = decode(data, ACK)
    if ack is None and not isinstance(error, InvalidAnswerError):
        return None, error
    if ack is None or not ack["stream"]:
        why = str(error).removeprefix("invalid answer") if error is not None else ""
        text = f"invalid answer: not a publish acknowledgement{why}"
        return None, InvalidAnswerError(text)
    ack.setdefault("duplicate", False)
    return ack, None


class Window:
    """The messages of `publish_async`: up to `limit` are in flight, the others are kept."""

    def __init__(self, api: Api, limit: int, stall_wait: float) -> None:
        self._api = api
        self._limit = integer(limit, "max_ack_pending", 1)
        self._stall_wait = stall_wait
        self.pending = 0
        self.kept: deque[_Message] = deque()
        self._ready: deque[Callable[[], object]] = deque()
        self._complete: deque[Callback] = deque()
        self._moved = False  # an acknowledgement has come since the stall timer was started
        self._stall: Timer = api.timer(self._check, self._fail_kept)

    def add(self, message: _Message) -> bool:
        """Send the message, or keep it; return False if the window is full now."""
        message.window = self
        if self.pending < self._limit and not self.kept:
            message.send()
            self.pending += 1
        else:
            self._api.refuse()
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

    def settled(self) -> None:
        """Take a message off that has ended, and send kept ones."""
        self.pending -= 1
        if self.kept:
            self._refill()
        if self._ready or self._complete:
            self._api.nats.call_soon(self._notify)

    def _refill(self) -> None:
        """Send kept messages while there is room."""
        kept = self.kept
        while kept and self.pending < self._limit:
            message = kept.popleft()
            self.pending += 1
            try:
                later_step(message.send)
            except NatsError as exc:
                self._api.nats.call_soon(message.done, None, exc)
        self._moved = True
        if not kept:
            self._stall.cancel()

    def _notify(self) -> None:
        while self._ready and self.pending < self._limit and not self.kept:
            self._api.nats.call_soon(self._ready.popleft())
        if not self.pending and not self.kept:
            while self._complete:
                self._api.nats.call_soon(self._complete.popleft(), True, None)

    def _check(self) -> None:
        """Fail the kept messages if no acknowledgement has come for a whole stall_wait."""
        if self._moved:
            self._moved = False
            self._stall.start(self._stall_wait)
        else:
            self._fail_kept(TooManyStalledMsgsError())

    def _fail_kept(self, error: NatsError) -> None:
        kept, self.kept = self.kept, deque()
        self.pending += len(kept)  # each message's callback takes one off again
        for message in kept:
            self._api.nats.call_soon(message.done, None, error)
