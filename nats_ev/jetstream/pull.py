"""Pull requests: one batch (`Fetch`), or one after the other for ever (`Puller`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..arguments import Callback, callable_or_none, integer
from ..errors import (
    BadOptionsError,
    NatsError,
    NoRespondersError,
    RequestTimeoutError,
)
from ..headers import Headers
from ..status import Status
from ..times import MILLISECOND, SECOND, to_wire
from .api import Api, Exchange, Feature, Wait, encode
from .config import V2_11, V2_12, check_fields
from .errors import (
    MaxBytesExceededError,
    NoHeartbeatError,
    PinIdMismatchError,
    status_error,
)
from .message import JsMsg

MsgCallback = Callable[["JsMsg | None", "NatsError | None"], object]

# How long the server may be late with the end of a request.
_SLACK_MS = 1000.0
# Asked for when only max_bytes limits a request.
_MANY = 1_000_000
_FIRST_BACK_OFF, _LAST_BACK_OFF = 250.0, 5000.0
_NEVER = 1 << 62

_PRIORITY: dict[str, Feature] = {
    "group": V2_11,
    "min_pending": V2_11,
    "min_ack_pending": V2_11,
    "priority": V2_12,
}
_FETCH_FIELDS = dict.fromkeys(
    ["batch", "expires", "no_wait", "max_bytes", "heartbeat", "idle_heartbeat", "id", *_PRIORITY]
)
_CONSUME_FIELDS = dict.fromkeys(
    [
        "max_messages", "max_bytes", "threshold_messages", "threshold_bytes", "expires", "heartbeat",
        "idle_heartbeat", "stop_after", "on_error", *_PRIORITY,
    ]
)  # fmt: skip


def is_status(payload: bytes, reply: str | None, headers: bytes) -> bool:
    """Whether a delivery is a status. A stored message that looks like one has an ack reply."""
    return (
        headers[8:9] == b" " and not payload and (reply is None or not reply.startswith("$JS.ACK."))
    )


def size_of(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> int:
    """What a message counts towards max_bytes: all parts of it, as the server counts."""
    return len(subject) + len(payload) + len(reply or "") + len(headers or b"")


def priority_needs(body: Mapping[str, Any]) -> dict[str, Feature]:
    """What the server must have for a request's priority fields."""
    return {name: feature for name, feature in _PRIORITY.items() if body.get(name)}


def _count(opts: Mapping[str, Any], name: str, default: int = 0, least: int = 1) -> int:
    value = opts.get(name)
    if value is None:
        return default
    return integer(value, name, least)


def _priority_fields(opts: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in ("group", "id"):
        if not isinstance(opts.get(name, ""), str):
            raise TypeError(f"{name} must be str, not {type(opts[name]).__name__}")
        fields[name] = opts.get(name)
    for name in ("min_pending", "min_ack_pending", "priority"):
        fields[name] = _count(opts, name, least=0)
    if fields["priority"] > 9:
        raise BadOptionsError(f"priority must be 0 to 9, not {fields['priority']}")
    return {name: value for name, value in fields.items() if value}


def _beats(opts: Mapping[str, Any]) -> int:
    if "heartbeat" in opts and "idle_heartbeat" in opts:
        raise BadOptionsError("heartbeat and idle_heartbeat are the same")
    name = "heartbeat" if "heartbeat" in opts else "idle_heartbeat"
    return _count(opts, name, least=0)


def fetch_opts(given: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a request for one batch. Raises TypeError and `BadOptionsError`."""
    check_fields("fetch options", given, _FETCH_FIELDS)
    opts = to_wire(given)
    max_bytes = _count(opts, "max_bytes")
    body: dict[str, Any] = {"batch": _count(opts, "batch", _MANY if max_bytes else 1)}
    no_wait = bool(opts.get("no_wait"))
    expires = _count(opts, "expires", 0 if no_wait else 5 * SECOND)
    if expires:
        body["expires"] = expires
    if no_wait:
        body["no_wait"] = True
    if max_bytes:
        body["max_bytes"] = max_bytes
    if beats := _beats(opts):
        if not expires or beats * 2 > expires:
            raise BadOptionsError("heartbeat must be at most half of expires")
        body["idle_heartbeat"] = beats
    return {**body, **_priority_fields(opts)}


class Fetch(Exchange):
    """One batch; see `Consumers.fetch`."""

    def __init__(self, api: Api, subject: str, body: dict[str, Any], cb: Callback) -> None:
        super().__init__(api)
        self.single = False  # the result is a message, and none is an error
        self._subject = subject
        self._body = body
        self._batch: int = body["batch"]
        self._cb = cb
        self._messages: list[JsMsg] = []
        self._sent = False
        self._beats = body.get("idle_heartbeat", 0) / MILLISECOND
        self._silence: Wait = api.wait(lambda: self.end(NoHeartbeatError()), self.end)

    def start(self) -> None:
        """Send the request, once there is a connection; that time counts towards expires, too."""
        needs = priority_needs(self._body)
        self.api.refuse_if_closed()
        self.api.require(needs, lambda level: self._open(), self._cb)

    def _open(self) -> None:
        self.open()
        if self.api.nats.is_connected():
            self._send()
        expires = self._body.get("expires", 0) / MILLISECOND
        self.late.start((expires or self.api.timeout or 5000) + _SLACK_MS)

    def _send(self) -> None:
        self._sent = True
        self.publish(self._subject, encode(self._body))
        if self._beats:
            self._silence.start(self._beats * 2 + 100)

    def _on_status(self, status: Status) -> None:
        if status is Status.CONNECTED and not self._sent:
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
            self._on_status_message(Headers.parse(headers))
            return
        self._messages.append(JsMsg(self.api.nats, subject, payload, reply, headers))
        if len(self._messages) >= self._batch:
            self.end(None)

    def _on_status_message(self, status: Headers) -> None:
        code, text = status.status or 0, status.description
        if code == 100:
            return
        if code == 503:
            self.end(NoRespondersError("no responders"))
        elif code in (404, 408) or (text or "").startswith("Batch Completed"):
            self.end(status_error(code, text) if self.single and code == 404 else None)
        else:
            error = status_error(code, text)
            # It fits in no request like this one; behind other messages it only ends this one.
            fits_later = isinstance(error, MaxBytesExceededError) and self._messages
            self.end(None if fits_later else error)

    def timed_out(self) -> None:
        """See `Exchange`."""
        self.end(None if self._messages else RequestTimeoutError("request timeout"))

    def finish(self, error: NatsError | None) -> None:
        """See `Exchange`."""
        self._silence.cancel()
        messages = self._messages
        if not self.single:
            self._cb(messages if messages or error is None else None, error)
        elif messages:
            self._cb(messages[0], None)
        else:
            self._cb(None, error or RequestTimeoutError("request timeout"))


@dataclass(slots=True)
class PullOptions:
    """How a `Puller` asks. Times in ns."""

    max_messages: int
    max_bytes: int
    threshold_messages: int
    threshold_bytes: int
    expires: int
    heartbeat: int
    on_error: Callable[[NatsError], object] | None
    stop_after: int = 0  # 0: never
    priority: dict[str, Any] = field(default_factory=dict)


def consume_opts(given: Mapping[str, Any]) -> PullOptions:
    """The options of `Consumers.consume`, with defaults. Raises TypeError and `BadOptionsError`."""
    check_fields("consume options", given, _CONSUME_FIELDS)
    opts = to_wire({name: value for name, value in given.items() if name != "on_error"})
    on_error = callable_or_none(given.get("on_error"), "on_error")
    max_bytes = _count(opts, "max_bytes")
    max_messages = _count(opts, "max_messages", _MANY if max_bytes else 500)
    expires = _count(opts, "expires", 30 * SECOND, SECOND)
    heartbeat = _beats(opts) or min(expires // 2, 30 * SECOND)
    if heartbeat * 2 > expires:
        raise BadOptionsError("heartbeat must be at most half of expires")
    threshold = _count(opts, "threshold_messages", (max_messages + 1) // 2, 0)
    threshold_bytes = _count(opts, "threshold_bytes", (max_bytes + 1) // 2, 0)
    if threshold > max_messages or threshold_bytes > max_bytes:
        raise BadOptionsError("a threshold must not be above what is asked for")
    return PullOptions(
        max_messages,
        max_bytes,
        threshold,
        threshold_bytes,
        expires,
        heartbeat,
        on_error,
        _count(opts, "stop_after"),
        _priority_fields(opts),
    )


class Puller:
    """Keeps requests with the server such that messages never stop coming (ADR-37).

    Counts what has been asked for and has not come yet; below the threshold it asks for the rest. What
    ends a request is taken off; two missed heartbeats, or a lost connection, and it begins anew. It
    goes on until `close`. A subclass has `deliver` and `failed`.
    """

    def __init__(self, api: Api, stream: str, consumer: str, options: PullOptions) -> None:
        self.api = api
        self.options = options
        self.closed = False
        self._next = f"{api.prefix}.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        fixed = {
            "expires": options.expires,
            "idle_heartbeat": options.heartbeat,
            **options.priority,
        }
        self._request = encode(fixed)[:-1]  # what is the same in all of them
        self._inbox = ""
        self._sid = 0
        self._round = 0  # requests of an earlier one do not count any more
        # Counted since the beginning: what has come, and what has been asked for by then. At the mark
        # it is time to ask for more.
        self._received = 0
        self._asked = 0
        self._mark = 0
        self._pending_bytes = 0
        self._asked_for_all = False  # the last request had max_bytes in full
        self._looked_at = 0  # `_received` when it was: whether anything has come since
        self._pinned = bool(options.priority.get("group"))
        self._pin_id = ""
        self._seen = False  # a status has come since the last tick, or a round has begun
        self._silent = 0
        self._ticks: Wait = api.wait(self._tick, self._client_ended)
        self._pause: Wait = api.wait(self._resume, self._client_ended)
        self._back_off = 0.0

    # For the subclass.

    def deliver(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        """A message has come."""
        raise NotImplementedError

    def failed(self, error: NatsError) -> None:
        """A request has ended with an error, or heartbeats are missing. May close the puller.

        Otherwise it goes on: at once, or after a growing pause when nothing has come since the last time.
        """
        raise NotImplementedError

    def ended(self, error: NatsError) -> None:
        """The client has ended; the puller is closed."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin, as soon as there is a connection. Raises `NotConnectedError`."""
        nats = self.api.nats
        self.api.refuse_if_closed()
        self._inbox = nats.new_inbox()
        arrived = self._on_sized_message if self.options.max_bytes else self._on_message
        self._sid = nats.subscribe(f"{self._inbox}.*", arrived)
        nats.add_status_listener(self._on_status)
        self._ticks.start(self.options.heartbeat / MILLISECOND)
        if nats.is_connected():
            self._begin_round()

    def close(self) -> None:
        """Ask for nothing more, and deliver nothing more."""
        if not self.closed:
            self._leave()
            self.api.nats.unsubscribe(self._sid)

    def close_after(self, cb: Callable[[NatsError | None], object]) -> None:
        """Ask for nothing more, deliver what the server has sent already, then call cb."""
        self._stop_asking()
        self.api.nats.drain_subscription(self._sid, lambda error: self._drained(cb, error))

    def _drained(self, cb: Callable[[NatsError | None], object], error: NatsError | None) -> None:
        if not self.closed:
            self._leave()
        cb(error)

    def _leave(self) -> None:
        self.closed = True
        self._stop_asking()

    def _stop_asking(self) -> None:
        self._mark = _NEVER
        self._ticks.cancel()
        self._pause.cancel()
        self.api.nats.remove_status_listener(self._on_status)

    # Asking.

    def _begin_round(self) -> None:
        """What was asked for before does not count any more."""
        self._round += 1
        self._asked = self._received
        self._pending_bytes = 0
        self._silent = 0
        self._pin_id = ""
        self._ask()

    def _ask(self) -> None:
        """Ask for what is missing to the maximum."""
        options = self.options
        # More may have come than was asked for: what an earlier round has asked for.
        self._asked = max(self._asked, self._received)
        batch = options.max_messages - (self._asked - self._received)
        if options.stop_after:
            batch = min(batch, options.stop_after - self._asked)
            if batch <= 0:
                return
        body = b'%b,"batch":%d' % (self._request, batch)
        if options.max_bytes:
            size = options.max_bytes - max(0, self._pending_bytes)
            self._asked_for_all = size == options.max_bytes
            body += b',"max_bytes":%d' % size
        if self._pin_id:
            body += b',"id":%b' % json.dumps(self._pin_id).encode()
        try:
            self.api.nats.publish(self._next, body + b"}", f"{self._inbox}.{self._round}")
        except NatsError as exc:
            self._trouble(exc)
            return
        self._seen = True
        self._looked_at = self._received
        self._now_asked(batch)
        if options.max_bytes:
            self._pending_bytes = max(0, self._pending_bytes) + size

    def _now_asked(self, more: int) -> None:
        """So many more are to come, or fewer."""
        self._asked += more
        if self._mark != _NEVER:
            self._mark = self._asked - self.options.threshold_messages

    def _refill(self) -> None:
        if not self._pause.waiting and self.api.nats.is_connected():
            self._ask()

    def _resume(self) -> None:
        if self.api.nats.is_connected():
            self._begin_round()

    def _trouble(self, error: NatsError) -> None:
        """Tell of it; then go on after a pause, which grows while nothing comes."""
        if self._received != self._looked_at:
            self._back_off = 0.0
            self._looked_at = self._received
        if not self._pause.waiting and self._mark != _NEVER:
            self._back_off = min(max(self._back_off * 2, _FIRST_BACK_OFF), _LAST_BACK_OFF)
            self._pause.start(self._back_off)
        self.failed(error)

    def _tick(self) -> None:
        """A heartbeat's time has passed. Goes on whatever happens to requests."""
        self._ticks.start(self.options.heartbeat / MILLISECOND)
        come = self._seen or self._received != self._looked_at
        if come or self._pause.waiting or not self.api.nats.is_connected():
            self._seen = False
            self._looked_at = self._received
            self._silent = 0
            return
        self._silent += 1
        if self._silent >= 2:
            self._begin_round()
            self.failed(NoHeartbeatError())

    def _on_status(self, status: Status) -> None:
        if status is Status.CONNECTED:
            self._pause.cancel()
            self._begin_round()
        elif status is Status.RECONNECTING:
            self.connection_lost()

    def connection_lost(self) -> None:
        """Requests have gone with the connection; the next one begins a new round."""

    def _client_ended(self, error: NatsError) -> None:
        if not self.closed:
            self.close()
            self.ended(error)

    # Receiving.

    def _on_message(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        if headers is not None and self._headers(subject, payload, reply, headers):
            return
        self._received = received = self._received + 1
        if received >= self._mark:
            self._refill()
        self.deliver(subject, payload, reply, headers)

    def _on_sized_message(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        """`_on_message` when max_bytes counts."""
        if headers is not None and self._headers(subject, payload, reply, headers):
            return
        self._received += 1
        self._pending_bytes -= size_of(subject, payload, reply, headers)
        if self._below():
            self._refill()
        self.deliver(subject, payload, reply, headers)

    def _headers(self, subject: str, payload: bytes, reply: str | None, headers: bytes) -> bool:
        """True for a status, which has been dealt with then."""
        if is_status(payload, reply, headers):
            self._seen = True
            self._on_status_message(subject, Headers.parse(headers))
            return True
        if self._pinned:
            self._pin_id = Headers.parse(headers).get("Nats-Pin-Id", self._pin_id)
        return False

    def _on_status_message(self, subject: str, status: Headers) -> None:
        code = status.status or 0
        if code == 100:
            return
        current = subject == f"{self._inbox}.{self._round}"
        if not current and code in (404, 408, 503):
            return  # the end of a request that does not count any more
        if current:
            self._now_asked(-_number(status, "Nats-Pending-Messages"))
            self._pending_bytes -= _number(status, "Nats-Pending-Bytes")
        if code in (404, 408) or (status.description or "").startswith("Batch Completed"):
            if self._below():
                self._refill()
        elif code == 503:
            self._trouble(NoRespondersError("no responders"))
        else:
            error = status_error(code, status.description)
            if isinstance(error, MaxBytesExceededError) and not self._too_large():
                if self._below():
                    self._refill()
            elif isinstance(error, PinIdMismatchError):
                self._pin_id = ""
                if self._below():
                    self._refill()
                self.failed(error)
            else:
                self._trouble(error)

    def _too_large(self) -> bool:
        """Whether the next message would fit in no request, not just not in the rest of this one."""
        return self._asked_for_all and self._received == self._looked_at

    def _below(self) -> bool:
        if self._mark != _NEVER and self.options.max_bytes:
            return self._pending_bytes <= self.options.threshold_bytes
        return self._received >= self._mark


def _number(status: Headers, name: str) -> int:
    text = status.get(name, "0")
    return int(text) if text.isdecimal() else 0
