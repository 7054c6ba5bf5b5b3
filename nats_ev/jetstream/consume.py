"""`Consume`: all messages of a pull consumer, without a pause, until it is stopped."""

from __future__ import annotations

from typing import Any

from ..arguments import Callback
from ..errors import NatsError, NoRespondersError
from .api import Api
from .errors import (
    ApiLevelError,
    ConsumerIsPushError,
    ConsumerNotFoundError,
    NoHeartbeatError,
    PullStatusError,
    StreamNotFoundError,
)
from .message import JsMsg
from .pull import MsgCallback, Puller, PullOptions, priority_needs


class Consume(Puller):
    """A running `Consumers.consume`: `stop` and `drain` end it, `closed` tells whether it has ended.

    The other methods are its machinery.
    """

    def __init__(
        self, api: Api, stream: str, consumer: str, options: PullOptions, cb: MsgCallback
    ) -> None:
        super().__init__(api, stream, consumer, options)
        self._stream = stream
        self._consumer = consumer
        self._cb = self._limited(cb) if options.stop_after else cb
        self._nats = api.nats
        self._missing = 0  # times in a row that the server did not know the consumer
        self._asking = False

    def __repr__(self) -> str:
        state = "closed" if self.closed else "running"
        return f"<{type(self).__name__} {self._stream} {self._consumer} {state}>"

    def start(self) -> None:
        """See `Puller`; refused at once when the server lacks priority groups."""
        needs = priority_needs(self.options.priority)
        self.api.require(needs, lambda level: self._start(), self._cb)

    def _start(self) -> None:
        if not self.closed:
            super().start()

    def _limited(self, cb: MsgCallback) -> MsgCallback:
        """cb that stops it with the last of stop_after messages."""

        def deliver(msg: JsMsg | None, error: NatsError | None) -> None:
            if self._received >= self.options.stop_after:
                self.close()
            cb(msg, error)

        return deliver

    def stop(self) -> None:
        """No callback any more, also not for messages that are on their way: they come again later."""
        self.close()

    def drain(self, cb: Callback | None = None) -> None:
        """Deliver what is on its way, then ``cb(True, None)``, or err if the connection was lost before."""
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
        # nats-server 2.9 is silent about a consumer that does not exist.
        silent = isinstance(error, (NoRespondersError, NoHeartbeatError))
        if silent and not self._asking:
            self._ask_for_consumer()
        self._tell(error)

    def ended(self, error: NatsError) -> None:
        """See `Puller`."""
        self._cb(None, error)

    def _tell(self, error: NatsError) -> None:
        if self.options.on_error is not None:
            self.api.nats.call_soon(self.options.on_error, error)

    def _ask_for_consumer(self) -> None:
        """Nobody answers: is it gone, or just not there yet, as after a restart?"""
        self._asking = True
        self.api.again(
            f"CONSUMER.INFO.{self._stream}.{self._consumer}", None, self._consumer_answered
        )

    def _consumer_answered(self, info: Any, error: NatsError | None) -> None:
        self._asking = False
        if info and info["config"].get("deliver_subject") and not self.closed:
            self.close()
            self._cb(None, ConsumerIsPushError("consumer is push based", code=409))
            return
        if not isinstance(error, (ConsumerNotFoundError, StreamNotFoundError)):
            self._missing = 0
            return
        self._missing += 1
        # Twice, because a server that has just started may not have read all of it yet.
        if self._missing >= 2 and not self.closed:
            self.close()
            self._cb(None, error)
