"""One pull request for one batch: `Fetch`, the handle, and its engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..arguments import Callback
from ..errors import BadOptionsError, NatsError, RequestTimeoutError
from ..headers import status_of
from ..status import Status
from ..times import MILLISECOND, SECOND, to_wire
from .api import Api, Exchange, Timer, encode
from .config import DURATION, check_fields
from .errors import (
    ConsumerNotFoundError,
    MaxBytesExceededError,
    NoHeartbeatError,
    NoMessagesError,
    StreamNotFoundError,
    status_error,
)
from .message import JsMsg
from .pull import is_status
from .pull_options import (
    MANY,
    PRIORITY,
    count_of,
    heartbeat_of,
    priority_fields,
    priority_needs,
)

# How much later than `expires` the end of a request may arrive.
_SLACK_MS = 1000.0
# A request that waits longer than this has heartbeats, so that a lost one is noticed. In ns.
_LONG, _LONG_BEATS = 30 * SECOND, 15 * SECOND
_FETCH_FIELDS = {
    **dict.fromkeys(["batch", "no_wait", "max_bytes", "id", *PRIORITY]),
    **dict.fromkeys(["expires", "heartbeat", "idle_heartbeat"], DURATION),
}


def fetch_opts(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a request for one batch. Raises TypeError and `BadOptionsError`."""
    check_fields("fetch options", given, _FETCH_FIELDS)
    opts = to_wire(given)
    max_bytes = count_of(opts, "max_bytes")
    body: dict[str, Any] = {"batch": count_of(opts, "batch", MANY if max_bytes else 1)}
    no_wait = bool(opts.get("no_wait"))
    expires = count_of(opts, "expires", 0 if no_wait else 5 * SECOND)
    if expires:
        body["expires"] = expires
    if no_wait:
        body["no_wait"] = True
    if max_bytes:
        body["max_bytes"] = max_bytes
    beats = heartbeat_of(opts)
    if not beats and expires > _LONG:  # ADR-37
        beats = _LONG_BEATS
    if beats:
        if not expires or beats * 2 > expires:
            raise BadOptionsError("heartbeat must be at most half of expires")
        body["idle_heartbeat"] = beats
    return {**body, **priority_fields(opts)}


class Engine(Protocol):
    """What a `Fetch` needs of its engine."""

    ended: bool

    def stop(self) -> None:
        """See `Fetch.stop`."""


class Fetch:
    """The handle of a running `fetch` or `next` of a `JetStream` or an `OrderedFetcher`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'ended' if self.ended else 'running'}>"

    @property
    def ended(self) -> bool:
        """Whether the fetch has come to its end: its callback has been called, or is being called."""
        return self._engine.ended

    def stop(self) -> None:
        """End the fetch early. Its callback is called once, on the loop, with what has come.

        No message is lost: those that the server has sent already are still delivered, so that the
        callback comes after one round trip, and the server sends no others. err is None, for `next` without
        a message `NoMessagesError`. A connection that is lost meanwhile is reported as without `stop`.
        Does nothing if the fetch has ended.
        """
        self._engine.stop()


class FetchEngine(Exchange):
    """The request for one batch and its answers; see `Consumers.fetch`.

    With `single` the result is one message, and an empty batch is an error. With on_msg the result is the
    number of messages, each of which has been given to on_msg.
    """

    def __init__(
        self,
        api: Api,
        subject: str,
        body: dict[str, Any],
        cb: Callback,
        on_msg: Callable[[JsMsg], object] | None = None,
    ) -> None:
        super().__init__(api)
        self.single = False
        self._on_msg = on_msg
        self._received = 0
        self._stopping = False
        self._subject = subject
        self._body = body
        self._batch: int = body["batch"]
        self._cb = cb
        self._messages: list[JsMsg] = []
        self._sent = False
        self._no_wait = bool(body.get("no_wait")) and not body.get("expires")
        self._looked = False  # whether the consumer waits for acknowledgements
        self._beats = body.get("idle_heartbeat", 0) / MILLISECOND
        self._silence: Timer = api.timer(lambda: self.end(NoHeartbeatError()), self.end)

    def start(self) -> None:
        """Send the request as soon as the client is connected; the time until then counts towards expires."""
        needs = priority_needs(self._body)
        self.api.refuse()
        self.api.require(needs, lambda level: self._open(), lambda result, error: self.end(error))

    def stop(self) -> None:
        """See `Fetch.stop`."""
        if self.ended or self._stopping:
            return
        self._stopping = True
        if self._sent:
            self.api.nats.drain_subscription(self.sid, self._stopped)
        else:
            self.api.nats.call_soon(self._stopped, None)

    def _stopped(self, error: NatsError | None) -> None:
        if error is None and self.single:
            error = NoMessagesError("no messages", code=404)
        self.end(error)

    def _open(self) -> None:
        if self._stopping:
            return
        self.open()
        expires = self._body.get("expires", 0) / MILLISECOND
        self.late.start((expires or self.api.timeout or 5000) + _SLACK_MS)
        if self.api.nats.is_connected():
            self._send()

    def _send(self) -> None:
        self._sent = True
        self.publish(self._subject, encode(self._body))
        if self._no_wait:
            self.late.start(min(_SLACK_MS, self.api.timeout or _SLACK_MS))
        if self._beats:
            self._silence.start(self._beats * 2 + 100)

    def _on_status(self, status: Status) -> None:
        # In a drain the status is another one than CONNECTED.
        if not self._sent and self.api.nats.is_connected() and not self._stopping:
            try:
                self._send()
            except NatsError as exc:
                self.ended = True
                self.finish(exc)
        elif self._sent:
            super()._on_status(status)

    def on_message(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        """See `Exchange`."""
        if self._beats:
            self._silence.start(self._beats * 2 + 100)
        if headers is not None and is_status(payload, reply, headers):
            self._on_status_message(*status_of(headers))
            return
        msg = JsMsg(self.api.nats, subject, payload, reply, headers)
        self._received += 1
        try:
            if self._on_msg is not None:
                self.api.nats.call(self._on_msg, msg)
            else:
                self._messages.append(msg)
        finally:
            if self._received >= self._batch:
                self.end(None)

    def _on_status_message(self, code: int | None, text: str | None) -> None:
        code = code or 0
        if code == 100:
            return
        if code in (404, 408) or (text or "").startswith("Batch Completed"):
            none = (
                status_error(code, text, self._subject)
                if code == 404
                else NoMessagesError("no messages", code=404)
            )
            self.end(none if self.single and (code == 404 or self._no_wait) else None)
        else:
            error = status_error(code, text, self._subject)
            # As the first message it fits in no such request. After others it only ends this one.
            fits_later = isinstance(error, MaxBytesExceededError) and self._received
            self.end(None if fits_later else error)

    def timed_out(self) -> None:
        """See `Exchange`."""
        if self._received:
            self.end(None)
        elif self._no_wait and self._sent and not self._looked:
            self._looked = True
            consumer = self._subject.removeprefix(f"{self.api.prefix}.CONSUMER.MSG.NEXT.")
            self.api.request_or_report(f"CONSUMER.INFO.{consumer}", None, self._take_info)
        else:
            self.end(RequestTimeoutError("request timeout"))

    def _take_info(self, info: Any, error: NatsError | None) -> None:
        """End without messages if the consumer may send none before it gets acknowledgements.

        The server does not answer a request with no_wait then, but keeps it.
        """
        try:
            most = info["config"]["max_ack_pending"] if error is None else 0
            full = 0 < most <= info["num_ack_pending"]
        except (LookupError, TypeError):
            full = False
        missing = isinstance(error, (ConsumerNotFoundError, StreamNotFoundError))
        if not full and not self._received:
            self.end(error if missing else RequestTimeoutError("request timeout"))
        else:
            none = NoMessagesError("no messages", code=404)
            self.end(none if self.single and not self._received else None)

    def finish(self, error: NatsError | None) -> None:
        """See `Exchange`."""
        self._silence.cancel()
        # This object may stay until Python collects cycles.
        messages, self._messages = self._messages, []
        on_msg, self._on_msg = self._on_msg, None
        cb, self._cb = self._cb, _over
        if on_msg is not None:
            cb(self._received, error)
        elif not self.single:
            cb(messages if messages or error is None else None, error)
        elif messages:
            cb(messages[0], None)
        else:
            cb(None, error or RequestTimeoutError("request timeout"))


def _over(result: object, error: NatsError | None) -> None:
    """Stand in for the callback of a fetch that has ended."""
