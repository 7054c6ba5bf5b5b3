"""Push consumers: `PushSubscription`, and its engine.

The server sends a push consumer's messages to a subject by itself. With flow control it waits at times
for an answer, which the engine sends. With an idle heartbeat the engine notices a silent server, and
messages that were lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..arguments import Callback, callable_or_none
from ..errors import (
    BadOptionsError,
    ConnectionClosedError,
    ConnectionLostError,
    NatsError,
    PermissionsViolationError,
    RequestTimeoutError,
)
from ..headers import Headers
from ..nuid import next_nuid
from ..status import Status
from ..times import MILLISECOND
from .answers import STORED, attempt, whole
from .api import Api, Timer, name_of
from .config import check_fields, consumer_config
from .errors import (
    ConsumerIsPullError,
    ConsumerNotFoundError,
    NoHeartbeatError,
    SequenceMismatchError,
    StreamNotFoundError,
)
from .handle import Handle
from .levels import Feature
from .message import JsMsg, parse_ack_reply
from .pull import DRAINING, MsgCallback, is_status
from .store import store_consumer

# How often the server must not know the consumer after a reconnect, and the ms between.
_MISSING_AT_MOST, _ASK_AGAIN_MS = 3, 1000.0
_FIELDS = {"on_error": None, "on_start": None}


class PushSubscription(Handle):
    """The handle of a running `JetStream.push_subscribe`: `stop` and `drain` end it.

    `stream` and `name` are those of the consumer. A consumer that was created without a name is deleted at
    the end.
    """


class PushEngine:
    """The machine of a `PushSubscription`: it creates the consumer if it must, and answers the server."""

    def __init__(
        self,
        api: Api,
        stream: str,
        consumer: str | Mapping[str, Any],
        opts: Mapping[str, Any],
        cb: MsgCallback,
    ) -> None:
        check_fields("push options", opts, _FIELDS)
        for name in _FIELDS:
            callable_or_none(opts.get(name), name)
        self.api = api
        self.stream = name_of("stream", stream)
        self.closed = False
        self._cb = cb
        self._user_cb = cb  # what `_cb` is, unless deliveries are counted
        self.left: int | None = None  # messages until the next pause; None: any number
        self._on_error: Callable[[NatsError], object] | None = opts.get("on_error")
        self._on_start: Callable[[Any], object] | None = opts.get("on_start")
        self._config: dict[str, Any] | None = None
        self._ours = False  # created here and without a name: deleted at the end
        self._needs: dict[str, Feature] = {}
        if isinstance(consumer, Mapping):
            self._config, self._needs = consumer_config(consumer)
            check_push_config(self._config)
            named = self._config.get("durable_name") or self._config.get("name")
            self._ours = not named
            self.name = name_of("consumer", named or next_nuid())
            if not self._config.get("deliver_subject"):
                self._config["deliver_subject"] = api.nats.new_inbox()
            if not self._config.get("durable_name"):
                self._config["name"] = self.name
        else:
            self.name = name_of("consumer", consumer)
        self._creating = False  # the server has not answered yet
        self._sid = 0
        self._last: str | None = None  # the last message's reply subject
        self._beats = 0.0  # the heartbeat's interval in ms; 0: no heartbeats
        self._seen = False
        self._subject = ""  # the consumer's deliver_subject, once it is subscribed
        self._lost = False  # the connection was lost; the consumer may be gone with it
        self._missing = 0  # how often in a row the server did not know the consumer
        self._heard = False  # anything has come
        self._mute = 0  # how often heartbeats were missed before anything had come
        self._silent = 0
        self._ticks: Timer = api.timer(self._tick, self._ended)

    def start(self) -> None:
        """Create the consumer, or ask for its configuration. Raises what `Nats.request` raises."""
        self.api.refuse()
        if self._config is None:
            verb = f"CONSUMER.INFO.{self.stream}.{self.name}"
            self.api.request(verb, None, self._answered, shape=STORED)
            return
        # Subscribed before the consumer exists, because it begins to send at once.
        self._subscribe(self._config)
        body = {"stream_name": self.stream, "config": self._config, "action": "create"}
        verb = f"CONSUMER.CREATE.{self.stream}.{self.name}"
        self._creating = True
        try:
            store_consumer(
                self.api, self.stream, self.name, verb, body, self._needs, self._answered
            )
        except NatsError:
            self._leave()
            self.api.nats.unsubscribe(self._sid)
            raise

    def stop(self) -> None:
        """See `Handle.stop`."""
        if not self.closed:
            self._leave()
            self.api.nats.unsubscribe(self._sid)
            self._forget()

    def drain(self, cb: Callback | None) -> None:
        """See `Handle.drain`."""

        def done(error: NatsError | None) -> None:
            if not self.closed:
                self._leave()
                self._forget()
            if cb is not None:
                cb(True if error is None else None, error)

        if self.closed:
            self.api.nats.call_soon(done, None)
        else:
            self._ticks.cancel()
            self.resume()
            self.api.nats.drain_subscription(self._sid, done)

    # Pauses.

    def pause(self) -> None:
        """See `Handle.pause`."""
        self.left = 0
        self.api.nats.pause(self._sid, self._passes)

    def resume(self) -> None:
        """See `Handle.resume`."""
        self.left = None
        self._cb = self._user_cb
        self.api.nats.resume(self._sid)

    def ask(self, msgs: int) -> None:
        """See `Handle.ask`."""
        if self.api.nats.status() in DRAINING:
            self.resume()
            return
        self.left = (self.left or 0) + msgs
        self._cb = self._count
        if self.left:
            self.api.nats.resume(self._sid)
        else:
            self.pause()

    def _count(self, msg: JsMsg | None, error: NatsError | None) -> None:
        """Deliver a message that was asked for."""
        if msg is not None and self.left is not None:
            self.left = max(0, self.left - 1)
            if self.api.nats.status() in DRAINING:
                self.resume()
            elif not self.left:
                self.pause()
        self._user_cb(msg, error)

    def _passes(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> bool:
        """Note that something has come during a pause, and return whether it was a heartbeat.

        A question of the flow control is kept: its answer says that the messages before it were delivered.
        So the server waits with what comes after it.
        """
        self._seen = self._heard = True
        return reply is None and headers is not None and is_status(payload, reply, headers)

    def _answered(self, info: Any, error: NatsError | None) -> None:
        self._creating = False
        if self.closed:
            self._forget()
        elif error is not None:
            self._fail(error)
            if isinstance(error, (ConnectionLostError, RequestTimeoutError)):
                self._forget()  # the consumer may exist
        else:
            try:
                error = attempt(self._begin, info["config"])[1]
            except NatsError as exc:  # the client drains
                error = exc
            if error is not None:
                self._fail(error)
            elif self._on_start is not None:
                self._on_start(info)

    def _begin(self, config: Mapping[str, Any]) -> None:
        """Receive what the consumer sends. Raises `ConsumerIsPullError`, and for a subject that can't be."""
        if not config.get("deliver_subject"):
            raise ConsumerIsPullError
        if not self._sid:
            self._subscribe(config)
        # The server sends a group's heartbeats to one of its members only.
        if config.get("idle_heartbeat") and not config.get("deliver_group"):
            self._beats = config["idle_heartbeat"] / MILLISECOND
            self._ticks.start(self._beats)

    def _subscribe(self, config: Mapping[str, Any]) -> None:
        nats = self.api.nats
        group = config.get("deliver_group") or None
        self._subject = config["deliver_subject"]
        self._sid = nats.subscribe(self._subject, self._on_message, group)
        if self.left == 0:
            self.pause()
        nats.add_status_listener(self._on_status)
        nats.add_error_listener(self._on_server_error)

    def _on_message(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        self._seen = self._heard = True
        if headers is not None and is_status(payload, reply, headers):
            self._on_status_message(reply, Headers.parse(headers))
            return
        self._last = reply
        self._cb(JsMsg(self.api.nats, subject, payload, reply, headers), None)

    def _on_status_message(self, reply: str | None, status: Headers) -> None:
        if status.status != 100:
            return
        # The messages before this status have been handled: their callbacks ran as they were read.
        go_on = reply or status.get("Nats-Consumer-Stalled")
        if go_on:
            try:
                self.api.nats.publish(go_on)
            except NatsError as exc:
                # The write buffer is full. The next heartbeat says again that the server waits.
                self._report(exc)
        expected = whole(status.get("Nats-Last-Consumer"))
        meta = parse_ack_reply(self._last)
        if expected is not None and meta is not None:
            missed = expected - meta.consumer_sequence
            if missed > 0 and self._beats:
                self._last = None  # so that it is reported once
                self._report(SequenceMismatchError(f"{missed} messages have not arrived"))

    def _tick(self) -> None:
        self._ticks.start(self._beats)
        # In a drain the subscription has ended; the status is another one than CONNECTED.
        if self._seen or self.api.nats.status() is not Status.CONNECTED:
            self._seen = False
            self._silent = 0
            return
        self._silent += 1
        if self._silent >= 2:
            self._silent = 0
            self._mute += not self._heard
            self._ask_for_consumer(self._still_there)
            self._report(NoHeartbeatError())

    def _ask_for_consumer(self, cb: Callback) -> None:
        if not self.closed:
            verb = f"CONSUMER.INFO.{self.stream}.{self.name}"
            self.api.request_or_report(verb, None, cb)

    def _still_there(self, info: Any, error: NatsError | None) -> None:
        if isinstance(error, (ConsumerNotFoundError, StreamNotFoundError)) and not self.closed:
            self._ours = False
            self._fail(error)
        elif self._mute >= 2 and not self._heard:  # what the server sends does not arrive
            self._give_up(NoHeartbeatError())

    def _after_reconnect(self, info: Any, error: NatsError | None) -> None:
        """Take whether the consumer has survived: without heartbeats nothing else would tell."""
        if not isinstance(error, (ConsumerNotFoundError, StreamNotFoundError)) or self.closed:
            return
        self._missing += 1
        if (
            self._missing < _MISSING_AT_MOST
        ):  # a server that has just started may not have loaded it
            again = partial(self._ask_for_consumer, self._after_reconnect)
            self.api.start_timer(_ASK_AGAIN_MS, again, lambda error: None)
        else:
            self._still_there(info, error)

    def _on_status(self, status: Status) -> None:
        if status is Status.DRAINING_SUBS and self.left is not None:
            self.resume()
        if status is Status.CLOSED:
            self._ended(ConnectionClosedError("disconnected"))
        elif status is Status.RECONNECTING:
            self._lost = True
        elif status is Status.CONNECTED and self._lost and not self._creating:
            self._lost, self._missing = False, 0
            self._ask_for_consumer(self._after_reconnect)

    def _on_server_error(self, error: NatsError) -> None:
        """End the subscription if the user may not receive what the server sends."""
        if isinstance(error, PermissionsViolationError) and not self.closed:
            same_subject = error.kind == "subscription" and error.subject == self._subject
            if same_subject or (self._sid and error.sid == self._sid):
                self._give_up(error)

    def _ended(self, error: NatsError) -> None:
        if not self.closed:
            self._fail(error)

    def _give_up(self, error: NatsError) -> None:
        if not self.closed:
            self._forget()
            self._fail(error)

    def _fail(self, error: NatsError) -> None:
        self._leave()
        self.api.nats.unsubscribe(self._sid)
        self._cb(None, error)

    def _leave(self) -> None:
        self.closed = True
        self._ticks.cancel()
        self.api.nats.remove_status_listener(self._on_status)
        self.api.nats.remove_error_listener(self._on_server_error)

    def _forget(self) -> None:
        # The server may handle a DELETE before a CREATE that was sent earlier: the answer calls this again.
        if self._ours and not self._creating:
            self._ours = False
            verb = f"CONSUMER.DELETE.{self.stream}.{self.name}"
            self.api.request_or_report(verb, None, lambda result, error: None)

    def _report(self, error: NatsError) -> None:
        if self._on_error is not None:
            self.api.nats.call_soon(self._on_error, error)


def check_push_config(config: Mapping[str, Any]) -> None:
    """Raise `BadOptionsError` if a push consumer can't have this configuration."""
    if config.get("flow_control") and not config.get("idle_heartbeat"):
        raise BadOptionsError("flow_control needs an idle_heartbeat")
    if config.get("deliver_group") and (config.get("flow_control") or config.get("idle_heartbeat")):
        raise BadOptionsError("a deliver_group goes with neither flow_control nor idle_heartbeat")
