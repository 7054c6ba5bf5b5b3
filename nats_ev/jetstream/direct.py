"""Direct gets (ADR-31): messages read from any replica of a stream that has ``allow_direct``.

The answer to a direct get is the message itself, with ``Nats-…`` headers that say where it is stored, or
an empty message with a status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..arguments import Callback, ResultCallback, check_result_cb
from ..compiled import last_values
from ..errors import BadOptionsError, NatsError
from ..headers import appended, status_of
from ..subjects import check_publish, check_tokens
from ..times import to_wire
from .answers import attempt, whole
from .api import Api, Exchange, encode, name_of
from .config import V2_11, check_fields
from .errors import APIError, ApiLevelError, InvalidAnswerError, about, status_error
from .message import StoredMsg
from .types import DirectGetBatchOptions, MsgGetOptions

_GET_FIELDS = {"seq": None, "last_by_subj": None, "next_by_subj": None, "start_time": None}
_BATCH_FIELDS = {
    "batch": None,
    "max_bytes": None,
    "seq": None,
    "start_time": None,
    "next_by_subj": None,
    "multi_last": None,
    "up_to_seq": None,
    "up_to_time": None,
}


class DirectGets:
    """The methods of `JetStream` that read without the stream's leader."""

    _api: Api

    def direct_get(
        self, stream: str, opts: MsgGetOptions | int, cb: ResultCallback[StoredMsg]
    ) -> None:
        """Read one message from any replica; ``cb(StoredMsg, err)``.

        A replica may lag, so its answer may be older than the leader's.

        Args:
            stream: the stream's name.
            opts: a sequence, or a dict as in `stream_msg_get`.
            cb: gets `MessageNotFoundError` when the message does not exist, `NoRespondersError` when
                the stream does not exist or has no ``allow_direct`` (nats-server 2.9 does not answer then:
                `RequestTimeoutError`).
        """
        check_result_cb(cb)
        name = name_of("stream", stream)
        body = get_opts({"seq": opts} if isinstance(opts, int) else opts)
        subject = body.get("last_by_subj")
        if subject is not None:
            check_tokens(subject)
            self._ask_directly(f"{name}.{subject}", b"", cb)
        else:
            self._ask_directly(name, encode(body), cb)

    def direct_get_last(self, stream: str, subject: str, cb: ResultCallback[StoredMsg]) -> None:
        """Read the last message of a subject from any replica; see `direct_get`."""
        check_result_cb(cb)
        check_tokens(subject)
        self._ask_directly(f"{name_of('stream', stream)}.{subject}", b"", cb)

    def _ask_directly(self, what: str, payload: bytes, cb: Callback) -> None:
        def answered(data: bytes | None, error: NatsError | None, raw: bytes | None) -> None:
            if data is None:
                cb(None, error)
            else:
                message, error = stored_message(data, raw)
                cb(message, about(error, subject) if error is not None else None)

        api = self._api
        subject = f"{api.prefix}.DIRECT.GET.{what}"
        api.ask(subject, payload, answered, api.timeout)

    def direct_get_batch(
        self, stream: str, opts: DirectGetBatchOptions, cb: ResultCallback[list[StoredMsg]]
    ) -> None:
        """Read several messages with one request; ``cb([StoredMsg, …], err)``, in order.

        When the list was cut at batch or max_bytes, the last message's ``num_pending`` is above 0: go on
        from its seq + 1.

        Args:
            stream: the stream's name.
            opts: either batch (the most messages) or max_bytes, with seq or start_time (where to begin) and
                next_by_subj (only this subject, which may have wildcards). Or multi_last (subjects, which
                may have wildcards: the last message of each, at most 1024), with up_to_seq or up_to_time
                for a consistent view, and batch.
            cb: gets `ApiLevelError` from a server before 2.11, `NoRespondersError` as in `direct_get`.
        """
        check_result_cb(cb)
        if not isinstance(opts, Mapping):
            raise TypeError(f"options must be a mapping, not {type(opts).__name__}")
        check_fields("batch options", opts, _BATCH_FIELDS)
        body = to_wire(opts)
        if "multi_last" in body:
            subjects = body["multi_last"]
            body["multi_last"] = [subjects] if isinstance(subjects, str) else subjects
        elif not body.get("batch") and not body.get("max_bytes"):
            raise BadOptionsError("one of batch, max_bytes and multi_last is required")
        elif not {"seq", "start_time", "next_by_subj"} & set(body):
            body["seq"] = 1
        subject = f"{self._api.prefix}.DIRECT.GET.{name_of('stream', stream)}"
        self._api.require(
            {"direct_get_batch": V2_11},
            lambda level: _Batch(self._api, cb).start(subject, encode(body)),
            cb,
        )


def subject_of_last(js: DirectGets, stream: str) -> str:
    """Return what a subject follows in the request for its last message; see `stored_message`."""
    return f"{js._api.prefix}.DIRECT.GET.{name_of('stream', stream)}."


def last_of_each(
    js: DirectGets, stream: str, subjects: list[str], up_to_seq: int, cb: Callback
) -> None:
    """Read the last message of each subject with one request; ``cb(([StoredMsg, …], up to), err)``.

    The server reads them all at one moment, and no atomic batch is half stored then: "up to" is the stream's
    last sequence at that moment, or up_to_seq; 0: the subjects have no messages, and nothing tells it.

    Args:
        js: sends the request.
        stream: the stream's name.
        subjects: which may have wildcards.
        up_to_seq: no later messages; 0: the present.
        cb: gets `ApiLevelError` from a server before 2.11, an `APIError` with code 413 for more than 1024.
    """
    api = js._api
    body: dict[str, Any] = {"multi_last": subjects}
    if up_to_seq:
        body["up_to_seq"] = up_to_seq
    subject = f"{api.prefix}.DIRECT.GET.{name_of('stream', stream)}"

    def begin(level: int | None) -> None:
        batch = _Batch(api, lambda messages, error: finished(batch, messages, error))
        batch.start(subject, encode(body))

    def finished(batch: _Batch, messages: Any, error: NatsError | None) -> None:
        cb((messages, batch.up_to) if error is None else None, error)

    api.require({"direct_get_batch": V2_11}, begin, cb)


def get_opts(opts: object) -> dict[str, Any]:
    """Return the options that select a message, checked and as they are sent."""
    if not isinstance(opts, Mapping):
        raise TypeError(f"options must be a mapping, not {type(opts).__name__}")
    check_fields("get options", opts, _GET_FIELDS)
    if not opts:
        raise BadOptionsError("one of seq, last_by_subj and next_by_subj is required")
    if "last_by_subj" in opts and len(opts) > 1:
        raise BadOptionsError("last_by_subj goes with nothing else")
    for name in ("last_by_subj", "next_by_subj"):
        if name in opts:
            check_publish(opts[name])
    result: dict[str, Any] = to_wire(opts)
    return result


class _Batch(Exchange):
    """The answers to one batch request. The timeout runs from one answer to the next."""

    def __init__(self, api: Api, cb: Callback) -> None:
        super().__init__(api)
        self._cb = cb
        self._messages: list[StoredMsg] = []
        self._subject = ""
        self.up_to = 0  # the sequence at which multi_last has looked; 0: the server has not said

    def start(self, subject: str, payload: bytes) -> None:
        self._subject = subject
        self.open()
        self.publish(subject, payload)
        self.late.start(self.api.timeout or 5000)

    def on_message(self, subject: str, data: bytes, reply: str | None, raw: bytes | None) -> None:
        self.late.start(self.api.timeout or 5000)
        status = status_of(raw)[0]
        # A publisher may have stored a message with a status line: the server's own headers tell it apart.
        if not data and status is not None and "Nats-Stream" not in appended(raw):
            # 204 ends the batch.
            nothing = status == 404 and not self._messages
            if raw is not None:
                self.up_to = whole(last_values(raw).get("Nats-UpTo-Sequence")) or 0
            self.end(None if nothing or status == 204 else _error_of(raw, self._subject))
            return
        message, error = stored_message(data, raw, batch=True)
        if message is None:
            self.end(error)
            return
        self._messages.append(message)
        if "Nats-Num-Pending" not in appended(raw):  # an old server, which answers once
            self.end(ApiLevelError("batch get is not supported (code 412)", code=412))

    def finish(self, error: NatsError | None) -> None:
        # This object may stay until Python collects cycles.
        messages, self._messages = self._messages, []
        self._cb(messages if error is None else None, error)


def stored_message(
    data: bytes, raw: bytes | None, batch: bool = False
) -> tuple[StoredMsg, None] | tuple[None, NatsError]:
    """Return an answer's message, or the error that its status stands for.

    Args:
        data, raw: the answer.
        batch: the server tells how many messages follow.
    """
    return attempt(_message, data, raw, batch)


def _message(data: bytes, raw: bytes | None, batch: bool) -> StoredMsg:
    """Return an answer's message. Raises the error that its status stands for, or `InvalidAnswerError`."""
    headers = last_values(raw) if raw is not None else {}
    if "Nats-Stream" not in headers and status_of(raw)[0] is not None:
        raise _error_of(raw)
    # Without a batch the server does not append this one: it would be the publisher's.
    pending = whole(headers.get("Nats-Num-Pending", "0")) if batch else 0
    seq = whole(headers["Nats-Sequence"])
    if seq is None or pending is None:
        raise InvalidAnswerError(
            f"invalid answer: Nats-Sequence is {headers['Nats-Sequence']!r:.80}"
        )
    return StoredMsg(
        headers["Nats-Stream"],
        headers["Nats-Subject"],
        seq,
        headers.get("Nats-Time-Stamp", ""),
        data,
        raw,
        pending,
    )


def _error_of(raw: bytes | None, subject: str = "") -> NatsError:
    code, text = status_of(raw)
    code = code or 0
    if code == 404:
        return APIError.of({"code": 404, "err_code": 10037, "description": "no message found"})
    if code in (412, 503):
        return status_error(code, text, subject)
    return APIError.of({"code": code, "description": text or f"status {code}"})
