"""The ordered consumer (ADR-17): a stream's messages, each exactly once and in order.

Theory of operation
-------------------

Exactly once and in order, over lost connections, restarted servers and lost messages, is more than a
consumer on a server promises: a message that gets lost on the way is missed, unless the client acknowledges
each, and with acknowledgements the server redelivers out of order. The ordered consumer acknowledges
nothing. Its consumer on the server is disposable: in memory, one replica, `max_deliver` 1. As soon as
anything could be missing, the client deletes it and creates the next one, which begins after the last message
that was delivered to the user. Each of these consumers is an *incarnation*; `resets` counts how often there
was another one.

**Gap detection.** The server numbers an incarnation's messages 1, 2, 3, … in the reply subject, beside the
stream sequence. The invariant: the n-th message that arrives has consumer sequence n. If not, a message is
missing, and the incarnation is replaced before the message reaches the user. Stream sequences can't show a
gap: deleted messages and filters leave holes in them. Missed heartbeats, errors of a pull request and a
lost connection replace the incarnation as well, without looking whether anything is missing.

**Position.** The next incarnation begins at the stream sequence of the last delivered message plus one. To
know it, the engine keeps that message's reply subject and parses it only when it is needed (`position`).
Before the first message the position is what the first incarnation's info says, so that a policy like "new"
or "last" is applied once, and messages stored during a reset are not skipped.

**One comparison per message.** Parsing a reply subject takes 1.5 µs, more than the rest of the delivery. The
consumer sequence comes after the stream sequence, whose length changes rarely and never shrinks. So
`_Incarnation` remembers where in the reply it found the sequence the last time (`_where`) and compares
that slice with ``.<n>.``, which takes 0.15 µs. Only if they differ does it parse the subject
(`_look_again`), which finds either the number's new place or a gap. The slice includes both dots, so it
can't match a part of a number.

**Several things at once.** A create request may be on its way when the user stops or the connection is lost.
Only one is in flight (`_asking`), and every attempt is made by the timer `_retry`. Each incarnation has a
name of its own, ``<prefix>_<number>``: if the outcome of a create request is unclear, or it comes too late,
that consumer is deleted by its name, whatever the engine does meanwhile.
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
from .api import Api, Timer, name_of
from .config import consumer_config
from .errors import APIError, JetStreamError, StreamNotFoundError
from .handle import Handle
from .message import OrderedJsMsg, parse_ack_reply
from .pull import (
    MsgCallback,
    Puller,
    PullOptions,
    StopAfter,
    consume_opts,
    is_status,
    size_of,
)

CONFIG_FIELDS = (
    "deliver_policy", "opt_start_seq", "opt_start_time", "filter_subject", "filter_subjects",
    "headers_only", "replay_policy", "inactive_threshold", "metadata", "description",
)  # fmt: skip
# Options of the client that are neither the consumer's nor the requests'.
_OWN = ("on_start", "max_reset_attempts", "name_prefix")
# The shortest and the longest pause before the next incarnation, in ms.
_FIRST_BACK_OFF, _LAST_BACK_OFF = 250.0, 10_000.0


def ordered_config(
    given: Mapping[str, Any],
) -> tuple[dict[str, Any], PullOptions, dict[str, Any]]:
    """Split what a user has given for an ordered consumer, and check it.

    Returns:
        The configuration for the server, the options of the requests, and the client's own options.
    """
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
        # A single filter is understood by every server.
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
        config.setdefault("filter_subject", ">")  # the server requires one
    return config, options, own


class OrderedConsumer(Handle):
    """The handle of a running `JetStream.ordered_consumer`: `stop` and `drain` end it.

    `stream` is the stream's name, `name` that of the present consumer on the server, which is deleted at the
    end.
    """

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"at {self.last_seq}"
        return f"<{type(self).__name__} {self.stream} {state}>"

    @property
    def last_seq(self) -> int:
        """The stream sequence of the last message delivered, or the one before the first to come."""
        return self._engine.position or 0

    @property
    def resets(self) -> int:
        """How often the consumer on the server was replaced."""
        return int(self._engine.resets)


class OrderedEngine:
    """The machine of an `OrderedConsumer`: it creates incarnations, one after the other."""

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
        self.resets = 0
        self._limit: StopAfter | None = None
        if options.stop_after:
            self._limit = StopAfter(options.stop_after, cb, self.stop)
            cb = self._limit.deliver
        self.callback = cb
        # The sequence before the first message; None: not known yet.
        self._started_at: int | None = None
        # The reply subject of the last message from earlier incarnations.
        self._last_reply: str | None = None
        self._config, self._needs = consumer_config(config)
        self._options = options
        self._on_start: Callable[[Any], object] | None = own.get("on_start")
        self._max_resets = int(own.get("max_reset_attempts", -1))
        self._prefix = own.get("name_prefix") or next_nuid()
        self._number = 0  # of the present incarnation
        self._incarnation: _Incarnation | None = None
        self._attempts = 0  # that failed in a row
        self._asking = False  # a create request is in flight
        self._retry: Timer = api.timer(self._create, self.client_ended)

    @property
    def position(self) -> int | None:
        """The stream sequence after which to go on; None until the server has said where it begins."""
        incarnation = self._incarnation
        reply = (incarnation and incarnation.last_reply) or self._last_reply
        meta = parse_ack_reply(reply)
        return meta.stream_sequence if meta is not None else self._started_at

    @property
    def name(self) -> str:
        """The name of the present consumer on the server."""
        return f"{self._prefix}_{self._number}"

    def start(self) -> None:
        """Create the first incarnation. Raises what `Nats.request` raises."""
        self.api.refuse_if_closed()
        self.api.nats.add_status_listener(self._on_status)
        self._retry.start(0)

    def stop(self) -> None:
        """See `Handle.stop`."""
        if not self.closed:
            self._close()

    def drain(self, cb: Callback | None) -> None:
        """See `Handle.drain`."""

        def done(error: NatsError | None) -> None:
            self.stop()
            if cb is not None:
                cb(True if error is None else None, error)

        incarnation = self._incarnation
        if self.closed or incarnation is None:
            self.stop()
            if cb is not None:
                self.api.nats.call_soon(cb, True, None)
        else:
            incarnation.close_after(done)

    # Incarnations.

    def _create(self) -> None:
        if self.closed or self._asking or not self.api.nats.is_connected():
            return
        self._number += 1
        config = {**self._config, "name": self.name}
        if (position := self.position) is not None:
            config.pop("opt_start_time", None)
            config["deliver_policy"] = "by_start_sequence"
            config["opt_start_seq"] = position + 1
        body = {"stream_name": self.stream, "config": config, "action": "create"}
        self._asking = True
        number = self._number
        self.api.require(
            self._needs,
            lambda level: self.api.request_or_report(
                f"CONSUMER.CREATE.{self.stream}.{self.name}",
                body,
                lambda info, error: self._answered(number, info, error),
            ),
            lambda info, error: self._answered(number, info, error),
        )

    def _answered(self, number: int, info: Any, error: NatsError | None) -> None:
        self._asking = False
        unclear = isinstance(error, (ConnectionLostError, RequestTimeoutError))
        if unclear or (self.closed and error is None):
            self._forget(f"{self._prefix}_{number}")
        if self.closed:
            return
        if error is not None:
            self._failed(error)
            return
        self._attempts = 0
        if self._started_at is None and self._config["deliver_policy"] != "last_per_subject":
            # If this incarnation is lost before its first message, the next one begins at the same place.
            self._started_at = info.get("delivered", {}).get("stream_seq", 0)
        left = self._limit.left if self._limit is not None else 0
        options = replace(self._options, stop_after=left)
        self._incarnation = _Incarnation(self, self.name, options)
        try:
            self._incarnation.start()
        except NatsError:
            self._incarnation = None
            return  # the client has ended; `client_ended` follows
        on_start, self._on_start = self._on_start, None
        if on_start is not None:
            on_start(info)

    def _failed(self, error: NatsError) -> None:
        """Try again later to create the consumer, unless the error is final."""
        self._attempts += 1
        final = isinstance(error, APIError) and error.code < 500 and self.resets == 0
        # A server that has just started may not have loaded all of its streams yet.
        final = final or (isinstance(error, StreamNotFoundError) and self._attempts >= 3)
        if final or 0 <= self._max_resets < self._attempts:
            self._close()
            self.callback(None, error)
            return
        delay = min(_FIRST_BACK_OFF * 2 ** min(self._attempts - 1, 10), _LAST_BACK_OFF)
        self._retry.start(delay)
        self._report(error)

    def reset(self, error: NatsError | None) -> None:
        """Replace the incarnation by one that begins after the last delivered message."""
        incarnation, self._incarnation = self._incarnation, None
        if self.closed or incarnation is None:
            return
        self.resets += 1
        self._last_reply = incarnation.last_reply or self._last_reply
        incarnation.close()
        self._forget(incarnation.name)
        # Without a pause this would be a busy loop if each incarnation failed before its first message.
        self._retry.start(0 if incarnation.last_reply is not None else _FIRST_BACK_OFF)
        if error is not None:
            self._report(error)

    def _forget(self, name: str) -> None:
        """Delete a consumer from the server, if it exists.

        If the server can't be reached, it deletes the consumer by itself after inactive_threshold.
        """

        def done(result: Any, error: NatsError | None) -> None:
            if isinstance(error, ConnectionLostError):  # the request may have been lost as well
                self._forget(name)

        self.api.request_or_report(f"CONSUMER.DELETE.{self.stream}.{name}", None, done)

    def _close(self) -> None:
        self.closed = True
        self._retry.cancel()
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
            self._retry.start(0)
        elif status is Status.CLOSED:
            self.client_ended(ConnectionClosedError("disconnected"))

    def client_ended(self, error: NatsError) -> None:
        """End the consumer with the error of the client's end."""
        if not self.closed:
            self._close()
            self.callback(None, error)

    def _report(self, error: NatsError) -> None:
        if self._options.on_error is not None:
            self.api.nats.call_soon(self._options.on_error, error)


class _Incarnation(Puller):
    """The `Puller` of one consumer on the server, which lives as long as nothing is missing."""

    def __init__(self, engine: OrderedEngine, name: str, options: PullOptions) -> None:
        super().__init__(engine.api, engine.stream, name, options)
        self.name = name
        self.last_reply: str | None = None
        self._engine = engine
        self._callback = engine.callback
        # Where in the last reply the consumer sequence was, with the dots around it.
        self._where = slice(0, 0)

    def _on_message(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        """Check a message's number, and deliver the message; all in one function, for speed."""
        if headers is not None and self._take_status(subject, payload, reply, headers):
            return
        self._received = received = self._received + 1
        if reply is None or reply[self._where] != f".{received}.":
            error = self._look_again(reply, received)
            if error is not None:
                self._engine.reset(error)
                return
        self.last_reply = reply
        if received >= self._mark:
            self._refill()
        msg = OrderedJsMsg()
        msg.subject = subject
        msg.data = payload
        msg.reply = reply
        msg.headers = headers
        self._callback(msg, None)

    def _look_again(self, reply: str | None, expected: int) -> NatsError | None:
        """Remember where the consumer sequence is, or return an error if it is not the expected one."""
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
        self._engine.reset(error)

    def connection_lost(self) -> None:
        """See `Puller`."""
        self._engine.reset(None)

    def ended(self, error: NatsError) -> None:
        """See `Puller`."""
        self._engine.client_ended(error)
