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

**Last per subject.** Such a consumer begins with a snapshot: the last message of each subject, in the order
of the stream. An incarnation that is lost before its snapshot is over can't be followed by one that begins
at a sequence: that one would deliver old revisions, and not the subjects whose last message lies before. So
the next one takes a new snapshot, and the messages up to the position are skipped: a subject whose last
message lies there has been delivered with it. The snapshot is over when the incarnation has delivered as
many messages as its info has announced, or one with nothing pending.

**Never back.** A lagging replica begins earlier than requested (nats-server 2.9, 2.10). Messages at or below
the position are skipped, whatever the incarnation.

**Another stream.** Sequences mean nothing in a stream that was deleted and created again, or that has lost
its messages. Before an incarnation that replaces a lost one begins, the engine asks for the stream's info: a
stream that is younger than the first incarnation, or that ends before the position, is another one, and
ends the engine with `StreamRecreatedError`.

**One comparison per message.** Parsing a reply subject takes 1.5 µs, more than the rest of the delivery. The
consumer sequence comes after the stream sequence, whose length changes rarely and never shrinks. So
`_Incarnation` remembers where in the reply the sequence began the last time (`_where`), and C compares the
number that stands there, between two dots, with the one that must come (``csrc/py_taker.c``). Only if they
differ does Python parse the subject (`_look_again`), which finds either the number's new place or a gap.

**Drain.** The user's ordered consumer has no end, so a drain ends it: it delivers what comes, and creates no
further incarnation. One that reads for an operation with an end (a listing, an object, a batch) holds the
drain until it is closed, or until `end_with_drain` says that the operation is over.

**Several things at once.** A create request may be on its way when the user stops or the connection is lost.
Only one is in flight (`_asking`), and every attempt is made by the timer `_retry`. Each incarnation has a
name of its own, ``<prefix>_<number>``: if the outcome of a create request is unclear, or it comes too late,
that consumer is deleted by its name, whatever the engine does meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..arguments import Callback
from ..errors import (
    ConnectionClosedError,
    ConnectionLostError,
    NatsError,
    NoRespondersError,
    PermissionsViolationError,
    RequestTimeoutError,
)
from ..nuid import next_nuid
from ..status import Status
from ..steps import later_step
from ..times import MILLISECOND, parse_time
from .answers import CREATED, MALFORMED, part
from .api import Api, Timer
from .config import consumer_config
from .errors import (
    APIError,
    ConsumerNotFoundError,
    InvalidAnswerError,
    JetStreamError,
    JetStreamNotEnabledError,
    JetStreamNotEnabledForAccountError,
    NoHeartbeatError,
    StreamNotFoundError,
    StreamRecreatedError,
    nobody_answered,
)
from .message import JsMsg, Metadata, OrderedJsMsg, parse_ack_reply
from .pull import DRAINING, MsgCallback, Puller, StopAfter, is_status, size_of
from .pull_options import PullOptions

if TYPE_CHECKING:
    from ..net import Deadline

# The shortest and the longest pause before the next incarnation, in ms.
_FIRST_BACK_OFF, _LAST_BACK_OFF = 250.0, 10_000.0
# After so many consumers from which nothing has come: more than one may be lost with its server.
_MOST_MUTE = 3
# How long after a reset a stream may be missing: who creates it again needs a moment. In ms.
_MISSING_MS = 2000.0
# How long a consumer may still appear on the servers after an unclear answer to its creation. In ms.
_UNCLEAR_MS = 15_000.0
# How many questions about the stream in a row may be without an answer.
_UNANSWERED = 3
# Errors that waiting does not mend.
_FINAL = (
    PermissionsViolationError, JetStreamNotEnabledError, JetStreamNotEnabledForAccountError,
)  # fmt: skip


def _is_passing(error: NatsError | None) -> bool:
    """Return whether a server has answered with an error that may pass, as while a leader is elected."""
    return isinstance(error, APIError) and error.code >= 500 and not isinstance(error, _FINAL)


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
        # Nothing at or below is delivered: a lagging replica begins earlier than the user has asked for.
        self._floor = 0
        if config["deliver_policy"] == "by_start_sequence":
            self._floor = int(config.get("opt_start_seq") or 1) - 1
        # The reply subject of the last message from earlier incarnations.
        self._last_reply: str | None = None
        self._config, self._needs = consumer_config(config)
        self._options = options
        self._on_start: Callable[[Any], object] | None = own.get("on_start")
        self._max_resets = int(own.get("max_reset_attempts", -1))
        self._prefix = own.get("name_prefix") or next_nuid()
        self._number = 0  # of the present incarnation
        self._incarnation: _Incarnation | None = None
        self._left: int | None = (
            None  # while there is none: messages until a pause; None: any number
        )
        self._attempts = 0  # that failed in a row
        self._asking = False  # a create request is in flight
        self._retry: Timer = api.timer(self._create, self.client_ended)
        # Until the first incarnation exists: the error of the last attempt, and how long to try.
        self._hold: Deadline | None = None  # lets a drain wait
        self._connected = False  # when the status was last looked at
        self._heard = False  # an earlier incarnation has received something
        self._mute = 0  # how many in a row have not
        self._last_error: NatsError = RequestTimeoutError("request timeout")
        self._patience: Timer = api.timer(self._give_up, lambda error: None)
        self._missing_ms = 0.0  # how long the stream has been missing
        self._created = ""  # when the first incarnation was created, by the server's clock
        self._may_differ = False  # the stream may be another one
        self._behind = False  # the stream ended before the position when it was looked at
        # The snapshot of last_per_subject is not over.
        self.snapshot = self._config["deliver_policy"] == "last_per_subject"
        # For a watch: restarted(info) when a snapshot begins again, skipped(meta) for each message of
        # it that was delivered before.
        self.restarted: Callable[[Any], object] | None = None
        self.skipped: Callable[[Metadata], object] | None = None

    @property
    def position(self) -> int | None:
        """The stream sequence after which to go on; None until the server has said where it begins."""
        incarnation = self._incarnation
        reply = (incarnation and incarnation.last_reply) or self._last_reply
        meta = parse_ack_reply(reply)
        if meta is not None:
            return meta.stream_sequence
        return None if self._started_at is None else max(self._started_at, self._floor)

    @property
    def heard(self) -> bool:
        """Whether anything has come on a request for messages."""
        return self._heard or (self._incarnation is not None and self._incarnation.heard)

    @property
    def name(self) -> str:
        """The name of the present consumer on the server."""
        return f"{self._prefix}_{self._number}"

    def start(self) -> None:
        """Create the first incarnation. Raises what `Nats.request` raises."""
        self.api.refuse()
        self._connected = self.api.nats.is_connected()
        self.api.nats.add_status_listener(self._on_status)
        self._retry.start(0)

    def hold_drain(self) -> None:
        """Let drains wait until the engine is closed, or until `end_with_drain`."""
        if not self.closed and self._hold is None:
            self._hold = self.api.nats.hold_drain(
                lambda: None
            )  # `_retry` and the status tell of the end

    def end_with_drain(self) -> None:
        """Let drains end the engine from now on."""
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.cancel()
            if self._incarnation is not None:
                self._incarnation.end_with_drain()

    def _may_go_on(self) -> bool:
        """Return whether to create an incarnation. While the client drains the status is not CONNECTED."""
        nats = self.api.nats
        return nats.is_connected() and (self._hold is not None or nats.status() is Status.CONNECTED)

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
        if not self.closed and incarnation is not None and self.api.nats.is_connected():
            incarnation.close_after(done)
            return
        # Between two incarnations: what was on its way to the lost one has not arrived.
        lost = not self.closed and (incarnation is not None or self.resets > 0)
        self.stop()
        if cb is not None:
            error = ConnectionLostError("disconnected") if lost else None
            self.api.nats.call_soon(cb, None if lost else True, error)

    # Pauses.

    @property
    def left(self) -> int | None:
        """How many messages are to be delivered before the next pause; None: any number."""
        return self._left if self._incarnation is None else self._incarnation.left

    def pause(self) -> None:
        """See `Handle.pause`."""
        self._left = 0
        if self._incarnation is not None:
            self._incarnation.pause()

    def resume(self) -> None:
        """See `Handle.resume`."""
        self._left = None
        if self._incarnation is not None:
            self._incarnation.resume()

    def ask(self, msgs: int) -> None:
        """See `Handle.ask`."""
        if self._incarnation is not None:
            self._incarnation.ask(msgs)
        elif self.api.nats.status() not in DRAINING:
            self._left = (self._left or 0) + msgs

    # Incarnations.

    def _create(self) -> None:
        if self.closed or self._asking or not self._may_go_on():
            return
        if not self.heard and self.api.timeout and not self._patience.running:
            self._last_error = RequestTimeoutError("request timeout")
            self._patience.start(self.api.timeout)
        self._number += 1
        config = {**self._config, "name": self.name}
        if (position := self.position) is not None and not self.snapshot:
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
                shape=CREATED,
            ),
            lambda info, error: self._answered(number, info, error),
        )

    def _answered(self, number: int, info: Any, error: NatsError | None) -> None:
        self._asking = False
        # A cluster that has just lost its leader answers 503, and may create the consumer all the same.
        unclear = isinstance(error, (ConnectionLostError, RequestTimeoutError)) or _is_passing(
            error
        )
        if unclear or (self.closed and error is None):
            self._forget(f"{self._prefix}_{number}", unclear=unclear)
        if self.closed:
            return
        if error is not None:
            self._failed(error)
            return
        first, self._created = not self._created, self._created or info.get("created") or "-"
        if first or not self._may_differ:
            self._run(info)
            return
        self._asking = True
        self.api.request_or_report(
            f"STREAM.INFO.{self.stream}",
            None,
            lambda stream, error: self._looked(number, info, stream, error),
        )

    def _looked(self, number: int, info: Any, stream: Any, error: NatsError | None) -> None:
        """Go on with an incarnation, unless the stream is another one."""
        self._asking = False
        name = f"{self._prefix}_{number}"
        again = isinstance(error, (ConnectionLostError, StreamNotFoundError)) or _is_passing(error)
        if isinstance(error, RequestTimeoutError):
            again = self._attempts < _UNANSWERED
        if self.closed or again:
            self._forget(name)
            if not self.closed and error is not None:
                self._failed(error)
            return
        # Without an answer, for example without the right to ask, the engine must go on unsure.
        if error is None and (reason := self._differs(stream)):
            self._forget(name)
            if "created" not in reason and not self._behind:
                # A replica that has just begun to lead may not have seen all messages yet.
                self._behind = True
                self._failed(JetStreamError(reason))
                return
            self._end(StreamRecreatedError(reason))
            return
        self._may_differ = self._behind = False
        self._run(info)

    def _differs(self, stream: Any) -> str:
        """Return why the stream can't be the one that the engine has read so far; "": it is the same."""
        last = part(stream, "state").get("last_seq")
        try:
            if parse_time(stream["created"]) > parse_time(self._created):
                return f"stream {self.stream} was created again"
        except MALFORMED:
            pass  # a server without these fields
        # A user may have asked for a start beyond the stream's end.
        position = (self._started_at if self._last_reply is None else self.position) or 0
        if last is not None and last < position:
            return f"stream {self.stream} ends at {last}, before {position}"
        return ""

    def _run(self, info: Any) -> None:
        """Begin to receive from the consumer that was created."""
        self._attempts = 0
        self._missing_ms = 0.0
        position = self.position or 0
        snapshot, pending = self.snapshot, info["num_pending"]
        if not pending:
            self.snapshot = False
        if self._started_at is None and not self.snapshot:
            # If this incarnation is lost before its first message, the next one begins at the same place.
            self._started_at = part(info, "delivered").get("stream_seq") or 0
        left = self._limit.left if self._limit is not None else 0
        if self.snapshot and position:
            left = 0  # nobody knows how many messages will be skipped; `_limit` stops
        options = replace(self._options, stop_after=left)
        self._incarnation = _Incarnation(self, self.name, options)
        self._incarnation.skip_to = max(position, self._floor)
        self._incarnation.snapshot = pending
        self._incarnation.awaited = self._hold is not None
        if self._left is not None:
            self._incarnation.ask(self._left)
        try:
            if self._hold is not None:
                later_step(self._incarnation.start)
            else:
                self._incarnation.start()
        except NatsError:
            self._incarnation = None
            self._forget(self.name)
            return  # the client has ended, or drains; `client_ended` follows
        on_start, self._on_start = self._on_start, None
        if on_start is not None:
            on_start(info)
        elif snapshot and self.restarted is not None:
            self.restarted(info)

    def begin_after(self, position: int) -> None:
        """Begin after a position, in the middle of a snapshot."""
        self._started_at = position

    def _failed(self, error: NatsError) -> None:
        """Try again later to create the consumer, unless the error is final."""
        self._attempts += 1
        self._last_error = error
        final = isinstance(error, APIError) and error.code < 500 and self.resets == 0
        missing = isinstance(error, StreamNotFoundError)
        # A server that has just started may not have loaded all of its streams yet.
        patience = _MISSING_MS if self.resets else 0.0
        final = final or (missing and self._attempts >= 3 and self._missing_ms >= patience)
        if not nobody_answered(error):
            final = final or isinstance(error, _FINAL[:1] if self._created else _FINAL)
        if not self._created and isinstance(error, (RequestTimeoutError, InvalidAnswerError)):
            final = True
        if final or 0 <= self._max_resets < self._attempts:
            self._end(error)
            return
        delay = min(_FIRST_BACK_OFF * 2 ** min(self._attempts - 1, 10), _LAST_BACK_OFF)
        if missing:
            self._missing_ms += delay
        self._retry.start(delay)
        self._report(error)

    def _give_up(self) -> None:
        """End an engine that could not begin within the timeout of its JetStream."""
        if self.closed or self.heard or not self.api.nats.is_connected():
            return
        if not self._created or nobody_answered(self._last_error):
            self._end(self._last_error)

    def _end(self, error: NatsError) -> None:
        self._close()
        self.callback(None, error)

    def reset(self, error: NatsError | None, *, gap: bool = False) -> None:
        """Replace the incarnation by one that begins after the last delivered message.

        Args:
            error: for on_error.
            gap: the consumer is there, just a message is missing: it is still the same stream.
        """
        incarnation = self._incarnation
        if self.closed or incarnation is None:
            return
        self._heard = self.heard
        self._last_error = error or self._last_error
        self._mute += isinstance(error, NoHeartbeatError)
        if self._mute >= _MOST_MUTE and not self._heard and error is not None:
            self._end(error)  # the server creates consumers, but what they send does not arrive
            return
        self._left = incarnation.left
        self._incarnation = None
        self.resets += 1
        self._may_differ = self._may_differ or not gap
        self._last_reply = incarnation.last_reply or self._last_reply
        self.snapshot = self.snapshot and not incarnation.past_snapshot()
        incarnation.close()
        self._forget(incarnation.name)
        # Without a pause this would be a busy loop if each incarnation failed before its first message.
        self._retry.start(0 if incarnation.last_reply is not None else _FIRST_BACK_OFF)
        if error is not None:
            self._report(error)

    def _forget(
        self,
        name: str,
        delay: float = _FIRST_BACK_OFF,
        waited: float = 0.0,
        unclear: bool = False,
    ) -> None:
        """Delete a consumer from the server, if it exists.

        Without an answer, as while the cluster elects a leader, the request is repeated until the server
        deletes the consumer by itself, after inactive_threshold.

        Args:
            name: the consumer's.
            delay, waited: the next pause and the sum of all pauses so far, in ms.
            unclear: its creation may be on its way yet, so a server that does not know the consumer is asked
                again for some time.
        """

        def done(result: Any, error: NatsError | None) -> None:
            patience = 0.0
            if isinstance(error, (RequestTimeoutError, NoRespondersError)) or _is_passing(error):
                patience = self._config["inactive_threshold"] / MILLISECOND
            elif unclear and isinstance(error, ConsumerNotFoundError):
                patience = _UNCLEAR_MS
            if isinstance(error, ConnectionLostError):  # the request may have been lost as well
                self._forget(name, delay, waited, unclear)
            elif waited < patience:
                longer = min(delay * 2, _LAST_BACK_OFF)
                self.api.nats.call_later(delay, self._forget, name, longer, waited + delay, unclear)

        self.api.request_or_report(f"CONSUMER.DELETE.{self.stream}.{name}", None, done)

    def _close(self) -> None:
        self.closed = True
        self._retry.cancel()
        self._patience.cancel()
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.cancel()
        self.api.nats.remove_status_listener(self._on_status)
        incarnation, self._incarnation = self._incarnation, None
        if incarnation is not None:
            self._last_reply = incarnation.last_reply or self._last_reply
            self.snapshot = self.snapshot and not incarnation.past_snapshot()
            incarnation.close()
            self._forget(incarnation.name)

    def _on_status(self, status: Status) -> None:
        # In a drain the status of a new connection is another one than CONNECTED.
        before, self._connected = self._connected, self.api.nats.is_connected()
        if self._connected and not before:
            if self._incarnation is not None:
                self.reset(None)
            self._retry.start(0)
        elif status is Status.RECONNECTING:
            self._patience.cancel()
        elif status is Status.DRAINING_SUBS:
            self._left = None
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
        self._engine = engine
        self._callback = engine.callback
        self._give(engine.callback, OrderedJsMsg, JsMsg, None)
        self.skip_to = 0  # messages up to this stream sequence were delivered before
        self.snapshot = 0  # the number of messages that were pending when it was created

    def past_snapshot(self) -> bool:
        """Return whether all that was pending in the beginning has come."""
        meta = parse_ack_reply(self.last_reply)
        return self._received >= self.snapshot or (meta is not None and not meta.num_pending)

    def _on_message(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        """Check a message's number, and deliver the message; see `Puller`."""
        if headers is not None and self._take_status(subject, payload, reply, headers):
            return
        self._received = received = self._received + 1
        if not self._look_again(reply, received):
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

    def _look_again(self, reply: str | None, expected: int) -> bool:
        """Remember where the consumer sequence is, and return whether the message is to be delivered."""
        meta = parse_ack_reply(reply)
        if reply is None or meta is None:
            error = JetStreamError(f"no metadata in reply subject {reply!r}")
            self._engine.reset(error, gap=True)
            return False
        if meta.consumer_sequence != expected:
            self._engine.reset(JetStreamError("gap in the sequence of messages"), gap=True)
            return False
        if meta.stream_sequence <= self.skip_to:
            self._skip(meta)
            return False
        tokens = reply.split(".")
        before = 6 if len(tokens) == 9 else 8
        self._where = len(".".join(tokens[:before]))
        return True

    def _skip(self, meta: Metadata) -> None:
        """Leave out a message that an earlier incarnation has delivered."""
        if self.left is not None:
            self._want(self._received + self.left + 1)
        if self.options.stop_after:  # its requests count all messages
            self._engine.reset(JetStreamError("the consumer began too early"))
            return
        if self._received >= self._mark:
            self._refill()
        if self._engine.skipped is not None and self._engine.snapshot:
            self._engine.skipped(meta)

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
