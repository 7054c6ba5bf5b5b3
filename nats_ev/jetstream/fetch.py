"""One pull request for one batch: `Fetch`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
from .pull import (
    MANY,
    PRIORITY,
    count_of,
    heartbeat_of,
    is_status,
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


class Fetch(Exchange):
    """The request for one batch and its answers; see `Consumers.fetch`.

    With `single` the result is one message, and an empty batch is an error.
    """

    def __init__(self, api: Api, subject: str, body: dict[str, Any], cb: Callback) -> None:
        super().__init__(api)
        self.single = False
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
        self.api.require(needs, lambda level: self._open(), self._cb)

    def _open(self) -> None:
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
        if not self._sent and self.api.nats.is_connected():
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
        self._messages.append(JsMsg(self.api.nats, subject, payload, reply, headers))
        if len(self._messages) >= self._batch:
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
            fits_later = isinstance(error, MaxBytesExceededError) and self._messages
            self.end(None if fits_later else error)

    def timed_out(self) -> None:
        """See `Exchange`."""
        if self._messages:
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
        if not full and not self._messages:
            self.end(error if missing else RequestTimeoutError("request timeout"))
        else:
            none = NoMessagesError("no messages", code=404)
            self.end(none if self.single and not self._messages else None)

    def finish(self, error: NatsError | None) -> None:
        """See `Exchange`."""
        self._silence.cancel()
        # This object may stay until Python collects cycles.
        messages, self._messages = self._messages, []
        if not self.single:
            self._cb(messages if messages or error is None else None, error)
        elif messages:
            self._cb(messages[0], None)
        else:
            self._cb(None, error or RequestTimeoutError("request timeout"))
