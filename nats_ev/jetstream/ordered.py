"""The ordered consumer (ADR-17): a stream's messages, each exactly once and in order, come what may.

It is a consumer in memory, without acknowledgements, that is made anew behind the last message
whenever one is missing: a gap, a missed heartbeat, a lost connection, a deleted consumer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..arguments import Callback, check_callback
from ..errors import (
    BadOptionsError,
    ConnectionClosedError,
    ConnectionLostError,
    NatsError,
    RequestTimeoutError,
)
from ..nuid import next_nuid
from ..status import Status
from ..times import SECOND
from .api import Api, Wait, name_of
from .config import consumer_config
from .errors import APIError, JetStreamError, StreamNotFoundError
from .message import JsMsg, parse_ack_reply
from .pull import MsgCallback, Puller, PullOptions, consume_opts, is_status, size_of

CONFIG_FIELDS = (
    "deliver_policy", "opt_start_seq", "opt_start_time", "filter_subject", "filter_subjects",
    "headers_only", "replay_policy", "inactive_threshold", "metadata", "description",
)  # fmt: skip
_OWN = ("on_start", "max_reset_attempts", "name_prefix")
_FIRST_BACK_OFF, _LAST_BACK_OFF = 250.0, 10_000.0


def ordered_config(
    given: Mapping[str, Any],
) -> tuple[dict[str, Any], PullOptions, dict[str, Any]]:
    """The consumer's configuration, the options of its requests, and what is the ordered one's own."""
    config = {name: value for name, value in given.items() if name in CONFIG_FIELDS}
    own = {name: given[name] for name in _OWN if given.get(name) is not None}
    rest = {name: value for name, value in given.items() if name not in (*CONFIG_FIELDS, *_OWN)}
    for name in ("group", "min_pending", "min_ack_pending", "priority"):
        if name in rest:
            raise BadOptionsError(f"an ordered consumer has no {name}")
    rest.setdefault("heartbeat", rest.pop("idle_heartbeat", 5 * SECOND))
    if not rest.get("max_bytes"):
        rest.setdefault("max_messages", 1000)
    options = consume_opts(rest)
    if "filter_subject" in config and "filter_subjects" in config:
        raise BadOptionsError("filter_subject and filter_subjects exclude each other")
    filters = config.get("filter_subjects")
    if isinstance(filters, (list, tuple)) and len(filters) == 1:
        # What every server can do.
        config["filter_subject"] = filters[0]
    if not filters or "filter_subject" in config:
        config.pop("filter_subjects", None)
    if "on_start" in own:
        check_callback(own["on_start"], "on_start")
    name_of("consumer", own.get("name_prefix", "x"))
    config.update(
        ack_policy="none",
        max_deliver=1,
        mem_storage=True,
        num_replicas=1,
        inactive_threshold=config.get("inactive_threshold") or 300 * SECOND,
    )
    config.setdefault("deliver_policy", "all")
    config.setdefault("replay_policy", "instant")
    if config["deliver_policy"] == "last_per_subject" and "filter_subjects" not in config:
        config.setdefault("filter_subject", ">")  # the server wants one
    return config, options, own


class OrderedConsumer:
    """A running ordered consumer; `Consumers.ordered_consumer` makes them.

    `stop` and `drain` end it, `closed` tells whether it has ended; `last_seq` and `resets` (how often it was
    made anew) tell how far it is. The other methods are its machinery.
    """

    def __init__(
        self,
        api: Api,
        stream: str,
        config: dict[str, Any],
        options: PullOptions,
        own: Mapping[str, Any],
        cb: MsgCallback,
    ) -> None:
        self.api = api
        self.stream = stream
        self.closed = False
        self._started_at: int | None = None  # sequence before the first one; None: not known yet
        self._last_reply: str | None = (
            None  # of the last message delivered before the present consumer
        )
        self.resets = 0  # times that it had to be made anew
        self._config, self._needs = consumer_config(config)
        self._options = options
        self._to_come = options.stop_after
        self.callback = self._limited(cb) if options.stop_after else cb
        self._on_start: Callable[[Any], object] | None = own.get("on_start")
        self._max_resets = int(own.get("max_reset_attempts", -1))
        self._prefix = own.get("name_prefix") or next_nuid()
        self._made = 0
        self._incarnation: _Incarnation | None = None
        self._attempts = 0  # failed ones in a row
        self._asking = False
        self._again: Wait = api.wait(self._make, self._ended)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"at {self.last_seq}"
        return f"<{type(self).__name__} {self.stream} {state}>"

    @property
    def last_seq(self) -> int:
        """Stream sequence of the last message delivered, or the one before the first to come."""
        return self.position or 0

    @property
    def position(self) -> int | None:
        """`last_seq`; None as long as the server has not said where it begins."""
        incarnation = self._incarnation
        reply = (incarnation and incarnation.last_reply) or self._last_reply
        meta = parse_ack_reply(reply)
        return meta.stream_sequence if meta is not None else self._started_at

    @property
    def name(self) -> str:
        """The present consumer's name on the server."""
        return f"{self._prefix}_{self._made}"

    def start(self) -> None:
        """Make the first consumer. Raises what `Nats.request` raises."""
        self.api.refuse_if_closed()
        self.api.nats.add_status_listener(self._on_status)
        self._again.start(0)

    def stop(self) -> None:
        """No callback any more; the server forgets the consumer."""
        if not self.closed:
            self._close()

    def drain(self, cb: Callback | None = None) -> None:
        """Deliver what is on its way, then stop and call ``cb(True, None)``."""

        def done(error: NatsError | None) -> None:
            self.stop()
            if cb is not None:
                cb(True, None)

        incarnation = self._incarnation
        if self.closed or incarnation is None:
            self.stop()
            if cb is not None:
                self.api.nats.call_soon(cb, True, None)
        else:
            incarnation.close_after(done)

    def _limited(self, cb: MsgCallback) -> MsgCallback:
        """cb that stops it with the last of stop_after messages."""

        def deliver(msg: JsMsg | None, error: NatsError | None) -> None:
            if msg is not None:
                self._to_come -= 1
                if not self._to_come:
                    self.stop()
            cb(msg, error)

        return deliver

    # Making the consumer.

    def _make(self) -> None:
        if self.closed or self._asking or not self.api.nats.is_connected():
            return
        self._made += 1
        config = {**self._config, "name": self.name}
        if (position := self.position) is not None:
            config.pop("opt_start_time", None)
            config["deliver_policy"] = "by_start_sequence"
            config["opt_start_seq"] = position + 1
        body = {"stream_name": self.stream, "config": config, "action": "create"}
        self._asking = True
        made = self._made
        self.api.require(
            self._needs,
            lambda level: self.api.again(
                f"CONSUMER.CREATE.{self.stream}.{self.name}",
                body,
                lambda info, error: self._answered(made, info, error),
            ),
            lambda info, error: self._answered(made, info, error),
        )

    def _answered(self, made: int, info: Any, error: NatsError | None) -> None:
        self._asking = False
        unclear = isinstance(error, (ConnectionLostError, RequestTimeoutError))
        if unclear or (self.closed and error is None):
            self._forget(f"{self._prefix}_{made}")
        if self.closed:
            return
        if error is not None:
            self._failed(error)
            return
        self._attempts = 0
        if self._started_at is None and self._config["deliver_policy"] != "last_per_subject":
            # Where this one begins: should it be lost before its first message, the next begins there.
            self._started_at = info.get("delivered", {}).get("stream_seq", 0)
        options = replace(self._options, stop_after=self._to_come)
        self._incarnation = _Incarnation(self, self.name, options)
        try:
            self._incarnation.start()
        except NatsError:
            self._incarnation = None
            return  # the client has ended; _ended follows
        on_start, self._on_start = self._on_start, None
        if on_start is not None:
            on_start(info)

    def _failed(self, error: NatsError) -> None:
        """The consumer could not be made: try again later, unless it never will."""
        self._attempts += 1
        final = isinstance(error, APIError) and error.code < 500 and self.resets == 0
        # A server that has just started may not have read all of its streams yet.
        final = final or (isinstance(error, StreamNotFoundError) and self._attempts >= 3)
        if final or 0 <= self._max_resets < self._attempts:
            self._close()
            self.callback(None, error)
            return
        delay = min(_FIRST_BACK_OFF * 2 ** min(self._attempts - 1, 10), _LAST_BACK_OFF)
        self._again.start(delay)
        self._tell(error)

    def reset(self, error: NatsError | None) -> None:
        """Something is missing: go on behind the last message, with another consumer."""
        incarnation, self._incarnation = self._incarnation, None
        if self.closed or incarnation is None:
            return
        self.resets += 1
        self._last_reply = incarnation.last_reply or self._last_reply
        incarnation.close()
        self._forget(incarnation.name)
        # Not at once for ever, should each new one fail before its first message.
        self._again.start(0 if incarnation.last_reply is not None else _FIRST_BACK_OFF)
        if error is not None:
            self._tell(error)

    def _forget(self, name: str) -> None:
        """Delete a consumer, if it is there; one that can't be told of ends by its inactive_threshold."""

        def done(result: Any, error: NatsError | None) -> None:
            if isinstance(error, ConnectionLostError):  # the request may have been lost as well
                self._forget(name)

        self.api.again(f"CONSUMER.DELETE.{self.stream}.{name}", None, done)

    def _close(self) -> None:
        self.closed = True
        self._again.cancel()
        self.api.nats.remove_status_listener(self._on_status)
        incarnation, self._incarnation = self._incarnation, None
        if incarnation is not None:
            self._last_reply = incarnation.last_reply or self._last_reply
            incarnation.close()
            self._forget(incarnation.name)

    def _on_status(self, status: Status) -> None:
        if status is Status.CONNECTED:
            if self._incarnation is not None:
                self.reset(None)
            self._again.start(0)
        elif status is Status.CLOSED:
            self._ended(ConnectionClosedError("disconnected"))

    def _ended(self, error: NatsError) -> None:
        if not self.closed:
            self._close()
            self.callback(None, error)

    def _tell(self, error: NatsError) -> None:
        if self._options.on_error is not None:
            self.api.nats.call_soon(self._options.on_error, error)


class _Message(JsMsg):
    """``JsMsg(None, …)``, made in half the time: filled in where it is made."""

    __slots__ = ()
    _nats = None
    _acked = False
    __init__ = object.__init__


class _Incarnation(Puller):
    """One consumer, as long as nothing is missing."""

    def __init__(self, ordered: OrderedConsumer, name: str, options: PullOptions) -> None:
        super().__init__(ordered.api, ordered.stream, name, options)
        self.name = name
        self.last_reply: str | None = None
        self._ordered = ordered
        self._callback = ordered.callback
        # Where in a reply its consumer sequence was the last time, with the dots around it.
        self._where = slice(0, 0)

    def _on_message(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        """All of it in one place, for speed: a consumer's messages are numbered without a gap.

        A number of another length is found where it was not before. As the stream sequence before it
        never gets shorter, what lies between dots at the old place is the number.
        """
        if headers is not None and self._headers(subject, payload, reply, headers):
            return
        self._received = received = self._received + 1
        if reply is None or reply[self._where] != f".{received}.":
            error = self._look_again(reply, received)
            if error is not None:
                self._ordered.reset(error)
                return
        self.last_reply = reply
        if received >= self._mark:
            self._refill()
        msg = _Message()
        msg.subject = subject
        msg.data = payload
        msg.reply = reply
        msg.headers = headers
        self._callback(msg, None)

    def _look_again(self, reply: str | None, expected: int) -> NatsError | None:
        """Find the consumer sequence; the error if it is none, or not the one expected."""
        meta = parse_ack_reply(reply)
        if reply is None or meta is None:
            return JetStreamError(f"no metadata in reply subject {reply!r}")
        if meta.consumer_sequence != expected:
            return JetStreamError("gap in the sequence of messages")
        tokens = reply.split(".")
        before = 6 if len(tokens) == 9 else 8
        start = len(".".join(tokens[:before]))
        self._where = slice(start, start + len(tokens[before]) + 2)
        return None

    def _on_sized_message(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        if headers is None or not is_status(payload, reply, headers):
            self._pending_bytes -= size_of(subject, payload, reply, headers)
            if self._below():
                self._refill()
        self._on_message(subject, payload, reply, headers)

    def failed(self, error: NatsError) -> None:
        """See `Puller`."""
        self._ordered.reset(error)

    def connection_lost(self) -> None:
        """See `Puller`."""
        self._ordered.reset(None)

    def ended(self, error: NatsError) -> None:
        """See `Puller`."""
        self._ordered._ended(error)
