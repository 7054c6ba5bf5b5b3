"""`Consume`: the handle of a continuous `consume`, and its engine."""

from __future__ import annotations

from typing import Any

from ..arguments import Callback
from ..errors import (
    ConnectionClosedError,
    NatsError,
    NoRespondersError,
    PermissionsViolationError,
    RequestTimeoutError,
)
from ..status import Status
from .answers import part
from .api import Api, Timer
from .errors import (
    ApiLevelError,
    ConsumerIsPushError,
    ConsumerNotFoundError,
    JetStreamNotEnabledError,
    JetStreamNotEnabledForAccountError,
    NoHeartbeatError,
    PullStatusError,
    StreamNotFoundError,
    nobody_answered,
)
from .handle import Handle
from .message import JsMsg
from .pull import MsgCallback, Puller, StopAfter
from .pull_options import PullOptions, priority_needs

# After this the server is asked again for a consumer that it did not know. In ms.
_ASK_AGAIN_MS = 500.0


class Consume(Handle):
    """The handle of a running `JetStream.consume`: `stop` and `drain` end it.

    `stream` and `name` are those of the consumer. After `stop` the server delivers messages that were on
    their way again later.
    """


class ConsumeEngine(Puller):
    """The `Puller` of a `Consume`: it passes messages to the user, and decides which errors are final."""

    def __init__(
        self, api: Api, stream: str, consumer: str, options: PullOptions, cb: MsgCallback
    ) -> None:
        super().__init__(api, stream, consumer, options)
        self.stream = stream
        self.name = consumer
        if options.stop_after:
            cb = StopAfter(options.stop_after, cb, self.close).deliver
        self._cb = cb
        self._nats = api.nats
        self._give(cb, JsMsg, JsMsg, api.nats)
        # Until the server has shown that it knows the consumer: how long to wait, and the last error.
        self._begun = False
        self._last_error: NatsError = NoHeartbeatError()
        self._patience: Timer = api.timer(self._give_up, lambda error: None)
        self._may_look = True  # whether the consumer is there
        self._mute = 0  # how often heartbeats were missed before anything had come
        self._missing = 0  # how often in a row the server did not know the consumer
        self._again: Timer = api.timer(self._ask_for_consumer, lambda error: None)
        self._asking = False

    def start(self) -> None:
        """See `Puller`; refused at once when the server lacks priority groups."""
        if not priority_needs(self.options.priority) or self.api.nats.is_connected():
            self._require()
            return
        # What the server can do is known when there is one, however long that takes.
        self.api.refuse()
        self.api.nats.add_status_listener(self._on_first_status)

    def _on_first_status(self, status: Status) -> None:
        if self.closed or status in (Status.CONNECTED, Status.CLOSED, Status.DISCONNECTED):
            self.api.nats.remove_status_listener(self._on_first_status)
        if self.closed:
            return
        if status is Status.CONNECTED:
            try:
                self._require()
            except NatsError as exc:
                self._refused(None, exc)
        elif status in (Status.CLOSED, Status.DISCONNECTED):
            self._refused(None, ConnectionClosedError("disconnected"))

    def _require(self) -> None:
        needs = priority_needs(self.options.priority)
        self.api.require(needs, lambda level: self._start(), self._refused)

    def _refused(self, result: object, error: NatsError | None) -> None:
        if not self.closed:
            self.closed = True
            self._cb(None, error)

    def _start(self) -> None:
        if not self.closed:
            super().start()
            if self.api.nats.is_connected():
                self._be_patient()

    def begin(self) -> None:
        """See `Puller`; later in this turn of the loop, so that its caller may pause the new handle."""
        self.api.nats.call_soon(super().begin)

    def _be_patient(self) -> None:
        if not self.heard and self.api.timeout:
            self._patience.start(self.api.timeout)

    def _give_up(self) -> None:
        """End a consume whose requests nobody has taken within the timeout."""
        if self.closed or self._begun or self.heard or not self.api.nats.is_connected():
            return
        if isinstance(self._last_error, NoRespondersError):
            self._client_ended(self._last_error)

    def _stop_asking(self) -> None:
        super()._stop_asking()
        self._patience.cancel()
        self._again.cancel()

    def _on_status(self, status: Status) -> None:
        super()._on_status(status)
        if status is Status.CONNECTED:
            self._be_patient()
        elif status is Status.RECONNECTING:
            self._patience.cancel()

    def stop(self) -> None:
        """See `Handle.stop`."""
        self.close()

    def drain(self, cb: Callback | None) -> None:
        """See `Handle.drain`."""
        if self.closed:
            if cb is not None:
                self.api.nats.call_soon(cb, True, None)
            return

        def done(error: NatsError | None) -> None:
            if cb is not None:
                cb(True if error is None else None, error)

        self.close_after(done)

    def deliver(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        """See `Puller`."""
        self._cb(JsMsg(self._nats, subject, payload, reply, headers), None)

    def failed(self, error: NatsError) -> None:
        """See `Puller`."""
        final = isinstance(error, PullStatusError) and error.terminal
        if final or isinstance(error, ApiLevelError):
            self.close()
            self._cb(None, error)
            return
        # nats-server 2.9 does not answer a request to a consumer that does not exist.
        self._last_error = error
        if isinstance(error, (NoRespondersError, NoHeartbeatError)):
            self._mute += isinstance(error, NoHeartbeatError) and not self.heard
            self._ask_for_consumer()
            if self._mute >= 2 and not self._may_look and not self.heard:
                self._client_ended(error)
        self._report(error)

    def ended(self, error: NatsError) -> None:
        """See `Puller`."""
        self._cb(None, error)

    def _report(self, error: NatsError) -> None:
        if self.options.on_error is not None:
            self.api.nats.call_soon(self.options.on_error, error)

    def _ask_for_consumer(self) -> None:
        """Find out whether the consumer is gone, or just not there yet, as after a server's restart."""
        if self._may_look and not self._asking and not self.closed:
            self._asking = True
            verb = f"CONSUMER.INFO.{self.stream}.{self.name}"
            limit = self.api.timeout
            if self._mute and not self.heard:  # two thirds of the timeout are over
                limit /= 3
            self.api.request_or_report(verb, None, self._consumer_answered, timeout=limit)

    def _consumer_answered(self, info: Any, error: NatsError | None) -> None:
        self._asking = False
        if info and part(info, "config").get("deliver_subject") and not self.closed:
            self.close()
            self._cb(None, ConsumerIsPushError("consumer is push based", code=409))
            return
        self._begun = self._begun or error is None
        # Who may consume need not have the right to ask.
        self._may_look = not isinstance(error, PermissionsViolationError)
        # A server that is just starting answers these, too, but not to a consumer that has received.
        hopeless = isinstance(
            error,
            (JetStreamNotEnabledError, JetStreamNotEnabledForAccountError, RequestTimeoutError),
        )
        hopeless = hopeless and not nobody_answered(error)
        if hopeless and not self._begun and not self.heard and not self.closed:
            assert error is not None
            self._client_ended(error)
            return
        if error is None and self._mute >= 2 and not self.heard and not self.closed:
            # The consumer is there, but what it sends does not arrive.
            self._client_ended(NoHeartbeatError())
            return
        if not isinstance(error, (ConsumerNotFoundError, StreamNotFoundError)):
            self._missing = 0
            return
        self._missing += 1
        # Once is not enough: a server that has just started may not have loaded all consumers yet.
        if self._missing >= 2 and not self.closed:
            self.close()
            self._cb(None, error)
        elif not self.closed and not self.heard:
            self._again.start(_ASK_AGAIN_MS)
