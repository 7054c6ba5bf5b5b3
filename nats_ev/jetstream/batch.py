"""Publishing in batches (ADR-50): atomic ones, and fast ones with flow control.

A message of an atomic batch is marked by headers. The first is a request, whose answer says whether the
stream takes batches; those after it wait for that answer, are then published without one, and the last,
the commit, is a request again. A message of a fast batch is marked by its reply subject; all answers come
to one inbox, and the server says in them how many messages it acknowledges at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ..arguments import (
    Callback,
    Payload,
    ResultCallback,
    Unpack,
    callable_or_none,
    check_result_cb,
    integer,
    payload_bytes,
)  # fmt: skip
from ..errors import ConnectionDrainingError, NatsError, RequestTimeoutError
from ..headers import HeadersLike, set_in_block, status_of
from ..nuid import next_nuid
from ..status import Status
from ..steps import later_step
from .answers import api_error, attempt, read_json
from .api import Api, Timer
from .config import V2_12, V2_14, check_fields, with_keywords
from .errors import APIError, ApiLevelError, BatchClosedError, InvalidAnswerError, status_error
from .levels import Feature
from .publish import ack_of, check_message
from .publish_options import PublishOptions, message_headers, option_needs
from .types import FastAck, FastBatchOptions, PubAck

_FAST_FIELDS = {"flow": None, "max_outstanding_acks": None, "gap_ok": None, "on_error": None}
# The operations in a fast batch's reply subjects.
_START, _ADD, _COMMIT, _COMMIT_EOB, _PING = range(5)
_MOST_FLOW = 65535
# The answers while a fast batch is open; its end is a publish acknowledgement.
_ANSWER = {"type": str, "seq": int, "last_seq": int, "msgs": int}

# (subject, payload, raw headers)
Message = tuple[str, bytes, bytes]
# (batch sequence, subject, payload, raw headers, operation)
FastMessage = tuple[int, str, bytes, "bytes | None", int]


class Batches:
    """The methods of `JetStream` that publish in batches."""

    _api: Api

    def atomic_batch(self) -> AtomicBatch:
        """Return a batch that the server stores as a whole or not at all."""
        return AtomicBatch(self._api)

    def fast_batch(
        self,
        opts: FastBatchOptions | None = None,
        *,
        flow: int | None = None,
        max_outstanding_acks: int | None = None,
        gap_ok: bool | None = None,
        on_error: Callable[[NatsError], object] | None = None,
    ) -> FastBatch:
        """Return a batch of any length, with one acknowledgement for many messages.

        Args:
            opts: a dict of the options below.
            flow: how many messages the server is asked to acknowledge at a time (100).
            max_outstanding_acks: how many acknowledgements may be missing before messages are kept (2).
            gap_ok: True: a lost message does not end the batch (False).
            on_error: ``on_error(err)`` for each gap, refused message, invalid answer and failed ping, and
                for an end that no other callback gets.
        """
        given = with_keywords(
            opts,
            flow=flow,
            max_outstanding_acks=max_outstanding_acks,
            gap_ok=gap_ok,
            on_error=on_error,
        )
        return FastBatch(self._api, given)


class _Batch:
    """The parts that both kinds of batches have.

    `size` is the number of messages, `closed` whether the batch takes no more.
    """

    def __init__(self, api: Api) -> None:
        self.size = 0
        self.closed = False
        self._api = api
        self._subject = ""  # of the last message

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<{type(self).__name__} {self.size} messages {state}>"

    def close(self, cb: ResultCallback[PubAck]) -> None:
        """Commit the messages that were added; ``cb(ack, err)`` as in `commit`.

        Raises `BatchClosedError` when the batch is empty or has ended.
        """
        check_result_cb(cb)
        if not self.size:
            raise BatchClosedError("the batch is empty")
        self._close(cb)

    def _close(self, cb: Callback) -> None:
        raise NotImplementedError


class AtomicBatch(_Batch):
    """Messages that a stream with ``allow_atomic`` stores all together, or none of them.

    `add` messages, then `commit` with the last one, or `close` without one. The callback of these two gets
    all failures, also that the batch has more messages than the server allows (1000 by default; the commit's
    counts, but `close` adds none). The server abandons a batch that has had no message for 10 s. `id` is the
    batch's name on the server. nats-server 2.12 or later, for `close` 2.14.
    """

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.id = next_nuid()
        self._waiting: deque[Message] = deque()  # until the server has answered the first one
        self._started = False
        self._error: NatsError | None = None
        self._last: tuple[Message, Callback] | None = None  # a commit that waits as well
        # The features of all its messages: a server that lacks one would ignore it.
        self._needs: dict[str, Feature] = {"atomic batch": V2_12}

    def add(
        self,
        subject: str,
        payload: Payload = b"",
        *,
        headers: HeadersLike | None = None,
        **options: Unpack[PublishOptions],
    ) -> None:
        """Add a message. Raises `BatchClosedError` after commit, close or discard.

        Args:
            subject: a subject of the batch's stream.
            payload: the message's data.
            headers: as in `Publishing.publish`.
            options: those of `Publishing.publish`.
        """
        self._put(self._member(subject, payload, headers, options, None))

    def commit(
        self,
        subject: str,
        payload: Payload,
        cb: ResultCallback[PubAck],
        *,
        headers: HeadersLike | None = None,
        **options: Unpack[PublishOptions],
    ) -> None:
        """Add the last message and have the server store them all; ``cb(ack, err)``.

        Args:
            subject, payload, headers, options: as in `add`.
            cb: ack has stream, seq (of the last message), batch and count.
        """
        check_result_cb(cb)
        message = self._member(subject, payload, headers, options, "1")
        self._finish(message, cb)

    def _close(self, cb: Callback) -> None:
        message = self._member(self._subject, b"", None, {}, "eob")
        self.closed = True
        needs = {**self._needs, "batch commit without a message": V2_14}
        self._api.require(needs, lambda level: self._finish(message, cb), cb)

    def discard(self) -> None:
        """End the batch without storing anything. The server abandons it by itself."""
        self.closed = True
        self._waiting.clear()

    def _member(
        self,
        subject: str,
        payload: Payload,
        headers: HeadersLike | None,
        options: Mapping[str, Any],
        commit: str | None,
    ) -> Message:
        if self.closed:
            raise BatchClosedError
        marks = {"Nats-Batch-Id": self.id, "Nats-Batch-Sequence": str(self.size + 1)}
        if commit is not None:
            marks["Nats-Batch-Commit"] = commit
        block = set_in_block(message_headers(headers, options), marks)
        message = (subject, payload_bytes(payload), block)
        check_message(self._api.nats, *message)
        self._needs.update(option_needs(options))
        return message

    def _put(self, message: Message) -> None:
        if not self.size:
            self._begin(message)
        elif self._started and not self._error:
            self._send(message)
        elif not self._error:
            self._waiting.append(message)
        self.size += 1
        self._subject = message[0]

    def _begin(self, message: Message) -> None:
        """Send the first message as a request: its answer says whether the stream takes batches."""
        subject, payload, headers = message
        api = self._api
        api.require(
            self._needs,
            lambda level: api.ask(subject, payload, self._begun, api.timeout, headers, True),
            lambda result, error: self._begun(None, error, None),
        )

    def _begun(self, data: bytes | None, error: NatsError | None, raw: bytes | None) -> None:
        if data:
            ack, error = ack_of(data, None)
            if ack is not None:  # a server that knows batches says nothing yet
                error = ApiLevelError.lacking({"atomic batch": V2_12}, ack)
        self._started = True
        if error is not None:
            self._fail(error)
            return
        try:
            while self._waiting and self._error is None:
                self._send(self._waiting.popleft())
        except NatsError as exc:
            self._fail(exc)
            return
        if self._last is not None:
            self._commit(*self._last)

    def _fail(self, error: NatsError) -> None:
        self._error = error
        self._waiting.clear()
        if self._last is not None:
            (_, cb), self._last = self._last, None
            cb(None, error)

    def _send(self, message: Message) -> None:
        subject, payload, headers = message
        self._api.nats.hpublish(subject, headers, payload)

    def _finish(self, message: Message, cb: Callback) -> None:
        if not self.size:  # a batch of one message
            self._started = True
        if not self.closed:  # `close` adds no message
            self.size += 1
        self.closed = True
        if self._error is not None:
            self._api.nats.call_soon(cb, None, self._error)
        elif self._started:
            self._request(message, cb)
        else:
            self._last = (message, cb)

    def _commit(self, message: Message, cb: Callback) -> None:
        self._last = None
        try:
            later_step(self._request, message, cb)
        except NatsError as exc:
            cb(None, exc)

    def _request(self, message: Message, cb: Callback) -> None:
        self._api.require(self._needs, lambda level: self._ask(message, cb), cb)

    def _ask(self, message: Message, cb: Callback) -> None:
        subject, payload, headers = message
        api = self._api

        def answered(data: bytes | None, error: NatsError | None, raw: bytes | None) -> None:
            ack, error = ack_of(data, error)
            if ack is not None and "batch" not in ack:
                ack, error = None, ApiLevelError.lacking({"atomic batch": V2_12}, ack)
            elif ack is not None and ack["batch"] != self.id:
                ack, error = None, InvalidAnswerError("invalid answer: not this batch's")
            if ack is None:
                cb(None, error)
            else:
                api.levels.confirm(ack, self._needs, cb)

        api.ask(subject, payload, answered, api.timeout, headers, stores=True)


class FastBatch(_Batch):
    """Any number of messages for a stream with ``allow_batched``, with one acknowledgement for many.

    The server says how many messages it acknowledges at a time. While it is slow, messages are kept and
    `add` returns False. The server stores them one by one, not atomically, but in order and, unless gap_ok,
    without a gap. End the batch with `commit` or `close`. `sent` is the batch sequence of the last message
    sent, `acked` that of the last one acknowledged. nats-server 2.14 or later.
    """

    def __init__(self, api: Api, opts: Mapping[str, Any]) -> None:
        """opts: those of `Batches.fast_batch`."""
        check_fields("fast batch options", opts, _FAST_FIELDS)
        super().__init__(api)
        self.sent = 0
        self.acked = 0
        self._flow = _whole(opts, "flow", 100, _MOST_FLOW)
        self._acks = _whole(opts, "max_outstanding_acks", 2, 1000)
        self._on_error = callable_or_none(opts.get("on_error"), "on_error")
        self._gap_ok = bool(opts.get("gap_ok"))
        self._inbox = api.nats.new_inbox()
        gap = "ok" if self._gap_ok else "fail"
        self._prefix = f"{self._inbox}.{self._flow}.{gap}."
        self._sid = 0
        self._begun = False  # the server has answered the first message
        self._over = False
        self._kept: deque[FastMessage] = deque()
        self._callbacks: deque[tuple[int, Callback]] = deque()
        # Batch sequence → error of a message that the server has refused or not received. The server says
        # so before it acknowledges a later message.
        self._failed: dict[int, NatsError] = {}
        self._final: Callback | None = None  # that of commit or close
        self._ack: dict[str, Any] | None = None  # the server's, when it has ended the batch
        self._first = ""  # the subject of the first message, which the server accepts
        self._refusal: NatsError | None = None  # the user may not publish the last message
        self._draining = False
        self._last = 0  # the batch sequence of the last message, once the batch is closed
        self._silence_ms = api.timeout or 5000.0
        self._pings = 0
        self._silence: Timer = api.timer(self._on_silence, self._end_with)

    def add(
        self,
        subject: str,
        payload: Payload = b"",
        cb: ResultCallback[FastAck] | None = None,
        *,
        headers: HeadersLike | None = None,
        **options: Unpack[PublishOptions],
    ) -> bool:
        """Add a message. Raises `BatchClosedError` after the batch has ended.

        Args:
            subject: a subject of the batch's stream.
            payload: the message's data.
            cb: ``cb({"batch_seq", "ack_seq"}, err)`` when the server has acknowledged or refused it. After a
                time-out, or when a restarted server no longer knows the batch (`BatchError`), a message with
                an err may have been stored.
            headers: as in `Publishing.publish`.
            options: those of `Publishing.publish`.

        Returns:
            False when there is no room to send the message now: it is kept; stop adding for a while.
        """
        if cb is not None:
            check_result_cb(cb)
        self._put(subject, payload, headers, options, _ADD if self.size else _START, cb)
        return not self._kept

    def commit(
        self,
        subject: str,
        payload: Payload,
        cb: ResultCallback[PubAck],
        *,
        headers: HeadersLike | None = None,
        **options: Unpack[PublishOptions],
    ) -> None:
        """Add the last message and end the batch; ``cb(ack, err)``.

        Args:
            subject, payload, headers, options: as in `add`.
            cb: ack has stream, seq, batch, count (the batch sequence of the last message that the server
                has taken), and missing: the batch sequences up to there that are not stored, which only
                a batch with gap_ok can have. When the server has ended the batch before its last message,
                err is a `BatchClosedError` with this ack; when it refuses the last message, err says why.
        """
        check_result_cb(cb)
        self._put(subject, payload, headers, options, _COMMIT, None)
        self._end_after(cb)

    def _close(self, cb: Callback) -> None:
        self._put(self._subject, b"", None, {}, _COMMIT_EOB, None)
        self.size -= 1  # the end itself is no message
        self._end_after(cb)

    def _end_after(self, cb: Callback) -> None:
        self.closed = True
        self._final = cb
        self._last = self.size
        if self._begun:
            self._api.waiting[self] = self._subject, 0, self._forbidden

    def _put(
        self,
        subject: str,
        payload: Payload,
        headers: HeadersLike | None,
        options: Mapping[str, Any],
        operation: int,
        cb: Callback | None,
    ) -> None:
        if self.closed:
            raise BatchClosedError(ack=self._ack)
        block = message_headers(headers, options) if headers is not None or options else None
        entry = (self.size + 1, subject, payload_bytes(payload), block, operation)
        if not self.size:
            self._api.refuse()
            self._api.require({"fast batch": V2_14}, lambda level: self._open(entry), self._refused)
        elif self._begun and not self._kept and self._has_room():
            self._send(entry)
        else:
            check_message(self._api.nats, subject, entry[2], block)
            self._kept.append(entry)
        self.size += 1
        self._subject = subject
        if cb is not None:
            self._callbacks.append((self.size, cb))

    def _refused(self, result: Any, error: NatsError | None) -> None:
        assert error is not None
        self._end_with(error)

    def _open(self, entry: FastMessage) -> None:
        nats = self._api.nats
        self._sid = nats.subscribe(f"{self._inbox}.>", self._on_answer)
        try:
            self._send(entry)
        except BaseException:
            nats.unsubscribe(self._sid)
            raise
        self._first = entry[1]
        self._api.waiting[self] = self._first, 0, self._forbidden
        # A drain waits for what is under way, and `_on_status` ends a batch of which nothing is.
        nats.await_in_drain(self._sid)
        nats.add_status_listener(self._on_status)
        self._silence.start(self._silence_ms / 3)

    def _on_status(self, status: Status) -> None:
        if status is Status.DRAINING_SUBS:
            self._draining = True
            self._end_in_drain()

    def _end_in_drain(self) -> None:
        """In a drain: end an open batch of which nothing is under way, and let go of one that is open."""
        if not self._draining or self.closed or self._kept:
            return
        if self.acked >= self.sent:
            self._end_with(ConnectionDrainingError())
        elif self.sent - self.acked < self._flow:  # too few for another acknowledgement
            self._api.nats.await_in_drain(self._sid, False)

    def _forbidden(self, data: object, error: NatsError | None, raw: object) -> None:
        """Take that the user may not publish the first message, or the last one."""
        assert error is not None
        self._api.waiting.pop(self, None)
        if self._begun:
            # Which of the messages before are stored, the server says at the end.
            self._refusal = error
            self._failed[self._last] = error
            self._tell(self._last, _COMMIT_EOB)
        else:
            self._end_with(error)

    def _tell(self, number: int, operation: int) -> None:
        """Send an operation without a message. The server accepts the subject of the first one."""
        subject, reply = self._first, f"{self._prefix}{number}.{operation}.$FI"
        try:
            self._api.nats.publish(subject, b"", reply)
        except NatsError as exc:
            self._report(exc)

    def _has_room(self) -> bool:
        return self.sent < self.acked + self._flow * self._acks

    def _send(self, entry: FastMessage) -> None:
        number, subject, payload, headers, operation = entry
        reply = f"{self._prefix}{number}.{operation}.$FI"
        if headers is None:
            self._api.nats.publish(subject, payload, reply)
        else:
            self._api.nats.hpublish(subject, headers, payload, reply)
        self.sent = number

    def _on_answer(self, subject: str, data: bytes, reply: str | None, raw: bytes | None) -> None:
        if not data and status_of(raw)[0] == 503:
            self._end_with(status_error(503, None))
            return
        answer, error = attempt(self._read, data)
        if answer is None:
            assert error is not None
            self._report(error)
            return
        self._pings = 0
        kind, numbers, refused = answer
        if kind == "ack":
            self._start()
            number, self._flow = numbers
            self._acknowledged(number)
            self._drain_kept()
            self._end_in_drain()
        elif kind == "gap":
            self._lost(*numbers)
        elif refused is not None:
            self._failed[numbers[0]] = refused
            self._report(refused)
        else:
            self._finished(data)

    def _read(self, data: bytes) -> tuple[object, tuple[int, ...], APIError | None]:
        """Return the kind of an answer, its numbers, and the error in it. Changes nothing."""
        answer = read_json(data, _ANSWER)
        kind = answer.get("type")
        if kind == "ack":
            if answer["seq"] > self.size:
                raise InvalidAnswerError(f"invalid answer: {answer['seq']} of {self.size} messages")
            flow = answer.get("msgs", self._flow)
            return kind, (answer["seq"], min(max(1, flow), _MOST_FLOW)), None
        if kind == "gap":
            return kind, (answer["last_seq"], answer["seq"]), None
        if kind == "err":
            error = api_error(answer.get("error") or "unknown error")
            return kind, (answer.get("seq") or 0,), error
        return kind, (), None

    def _start(self) -> None:
        """Take that the server has the first message."""
        if not self._begun:
            self._begun = True
            if self._final is None:
                self._api.waiting.pop(self, None)
            else:
                self._api.waiting[self] = self._subject, 0, self._forbidden

    def _lost(self, first: int, last: int) -> None:
        """Take that the messages from first on have not come, up to the one before last."""
        error = BatchClosedError(f"gap in the batch: {first} to {last}", lost=(first, last))
        for number in range(max(first, self.acked + 1), min(last, self.size + 1)):
            self._failed.setdefault(number, error)
        self._report(error)

    def _acknowledged(self, number: int) -> None:
        if number <= self.acked:
            return
        self.acked = number
        while self._callbacks and self._callbacks[0][0] <= number:
            seq, cb = self._callbacks.popleft()
            error = self._failed.get(seq)
            result = None if error else {"batch_seq": seq, "ack_seq": number}
            self._api.nats.call_soon(cb, result, error)

    def _drain_kept(self) -> None:
        try:
            while self._kept and self._has_room():
                self._send(self._kept.popleft())
        except NatsError as exc:
            self._end_with(exc)

    def _finished(self, data: bytes) -> None:
        """Take the final acknowledgement, which also comes when the server ends the batch by itself."""
        ack, error = ack_of(data, None)
        if ack is None:
            self._end_with(error or InvalidAnswerError("invalid answer"))
            return
        if "batch" not in ack:  # a server that does not know batches has stored the message
            self._end_with(ApiLevelError.lacking({"fast batch": V2_14}, ack))
            return
        count = ack.get("count", self.sent)
        if count is None or count > self.size:
            wrong = f"invalid answer: {count} of {self.size} messages"
            self._end_with(InvalidAnswerError(wrong))
            return
        self._acknowledged(count)
        ack["missing"] = sorted(number for number in self._failed if number <= count)
        self._ack = ack
        text = f"the server has ended the batch; it has no message after {count}"
        ended = BatchClosedError(text, ack=ack)
        final, error = self._final, self._failed.get(self._last)
        complete = final is not None and not self._kept and count >= self._last
        if error is not None or not complete:
            self._end_with(ended, final_error=self._refusal or error)
            return
        self._final = None
        self._end_with(ended, failed=False)
        assert final is not None
        self._api.nats.call_soon(final, ack, None)  # after those of the messages

    def _on_silence(self) -> None:
        """Ping the server after a third of the timeout without an answer: answers may have been lost."""
        self._silence.start(self._silence_ms / 3)
        if self._refusal is not None:
            self._end_with(self._refusal)
            return
        if self.sent <= self.acked and not self._final:
            return
        self._pings += 1
        if self._pings > 3:
            self._end_with(RequestTimeoutError("request timeout"))
            return
        if self._api.nats.is_connected():
            self._tell(self.sent, _PING)

    def _end_with(
        self, error: NatsError, failed: bool = True, final_error: NatsError | None = None
    ) -> None:
        """End the batch. Every callback that has not been called gets its message's own error, or error.

        Args:
            error: why the batch has ended.
            failed: whether the error is reported if no callback gets it.
            final_error: another error for the callback of commit or close.
        """
        if self._over:
            return
        self._over = self.closed = True
        self._silence.cancel()
        self._api.waiting.pop(self, None)
        self._api.nats.remove_status_listener(self._on_status)
        self._api.nats.unsubscribe(self._sid)
        self._kept.clear()
        callbacks, self._callbacks = self._callbacks, deque()
        for number, cb in callbacks:
            self._api.nats.call_soon(cb, None, self._failed.get(number, error))
        final, self._final = self._final, None
        if final is not None:
            self._api.nats.call_soon(final, None, final_error or error)
        elif failed and not callbacks:
            self._report(error)

    def _report(self, error: NatsError) -> None:
        if self._on_error is not None:
            self._api.nats.call_soon(self._on_error, error)


def _whole(opts: Mapping[str, Any], name: str, default: int, most: int) -> int:
    return integer(opts.get(name, default), name, 1, most)
