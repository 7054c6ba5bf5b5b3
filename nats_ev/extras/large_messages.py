"""Messages and requests of any size: `LargeMessages`.

What fits into max_payload is sent as ever. What does not is offered, and its receiver asks for it in chunks
(`large_transfer`; the protocol is in `large_wire`). Or it is put into an object store, and a reference is
sent. `large_core` is what all of this shares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..arguments import (
    Callback,
    Milliseconds,
    Payload,
    ResultCallback,
    callable_or_none,
    check_object,
    check_result_cb,
    integer,
    milliseconds,
    payload_bytes,
)
from ..errors import (
    BadOptionsError,
    ConnectionClosedError,
    NatsError,
    NoRespondersError,
    RequestTimeoutError,
)
from ..headers import Headers, HeadersLike, is_no_responders
from ..jetstream import JetStream, PubAck
from ..nuid import next_nuid
from .large_core import Core
from .large_message import LargeMsg
from .large_subscription import LargeSubscription
from .large_transfer import Sending, Settings, refusal
from .large_wire import (
    ACCEPT,
    DEFAULT_CHUNK,
    ERROR,
    OBJECT,
    OFFER,
    ONE_HEADER,
    SIZE,
    VERSION,
    is_ours,
    parsed,
    reference_text,
)

if TYPE_CHECKING:
    from ..client import Nats
    from ..object_store import ObjectStore


class LargeTransfer:
    """A large message that `LargeMessages.publish` has offered; `cancel` gives it up."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending

    @property
    def closed(self) -> bool:
        """Whether the message is no longer offered."""
        return self._sending.closed

    def cancel(self) -> None:
        """Give the message up, without a call; receivers in the middle of it get an error."""
        self._sending.cancel()


class LargeRequest:
    """A running request of `LargeMessages.request`; `cancel` gives it up."""

    def __init__(self, core: Core, subject: str, cb: Callback) -> None:
        self._core, self._subject, self._cb = core, subject, cb
        self._ends: list[Any] = []  # what is cancelled at the end
        self._coming = False  # the answer is being received
        self.closed = False

    def cancel(self) -> None:
        """Give the request up, without a call."""
        self.closed = True
        ends, self._ends = self._ends, []
        for each in ends:
            each.cancel()

    def _end(self, msg: LargeMsg | None, error: NatsError | None) -> None:
        if not self.closed:
            self.cancel()
            self._core.nats.call(self._cb, msg, error)

    def _fail(self, error: NatsError) -> None:
        self._end(None, error)

    def _answered(self, payload: bytes, reply: str | None, headers: bytes | None) -> None:
        if self.closed or self._coming:
            return
        if headers is not None and not payload and is_no_responders(headers):
            self._fail(NoRespondersError("no responders", subject=self._subject))
            return
        fields = parsed(headers) if is_ours(headers) else Headers()
        if ERROR in fields:
            code, _, why = fields[ERROR].partition(" ")
            self._fail(refusal(code, why, self._subject))
        elif OFFER in fields or OBJECT in fields:
            self._coming = True
            self._core.take(self._subject, payload, reply, headers, self._end, self._ends.append)
        else:
            self._end(LargeMsg(self._core, self._subject, payload, None, headers, False), None)


class _Ask:
    """A small request, whose answer may be large."""

    def __init__(self, core: Core, request: LargeRequest) -> None:
        self._core, self._request = core, request
        self._inbox = ""

    def start(self, subject: str, headers: HeadersLike | None, payload: bytes) -> None:
        self._inbox = self._core.exchange.open(self)
        made = Headers.parse(headers) if isinstance(headers, bytes) else Headers(headers or {})
        made[ACCEPT] = VERSION
        try:
            self._core.nats.hpublish(subject, made, payload, self._inbox)
        except BaseException:
            self.cancel()
            raise

    def arrived(self, payload: bytes, reply: str | None, headers: bytes | None) -> None:
        self._request._answered(payload, reply, headers)

    def ended_by_client(self) -> None:
        self._request._fail(ConnectionClosedError("disconnected"))

    def cancel(self) -> None:
        self._core.exchange.close(self._inbox)


class LargeMessages:
    """Messages and requests of any size on a client, beside its ordinary ones.

    A message that fits into max_payload is an ordinary one. A larger one is offered by a small message, and
    whoever receives the offer asks for the chunks: at its own pace, resumed after a lost connection, checked
    by SHA-256. All chunks go to the member of a queue group that has got the offer. Both sides hold the
    message in memory. A receiver that does not know the protocol gets the offer, whose payload says so in
    words; the sender gets `LargeMessageNotUnderstoodError` or `LargeMessageNotTakenError`.

    An offer ends with its sender, so a stream must not store it: for streams there is `publish_reference`.

    Args:
        nats: the client.
        max_size: of a message that is received, in bytes (64 MiB); above it the sender is refused.
        max_in_progress: how many messages are received at a time (4); others wait for their turn.
        max_waiting: how many messages may wait (64).
        ordered: keep the order of each subscription's messages, small ones included; False: deliver
            each when it is complete.
        chunk_size: in bytes (128 KiB), less when max_payload is.
        accept_timeout: how long an offer waits for receivers, in ms or a timedelta (2 s).
        idle_timeout: after how much silence of the other side a message is given up (10 s).
        store: for references to objects.
        delete_loaded: delete an object after it was received.

    Raises:
        BadOptionsError, TypeError: an option is wrong.
    """

    def __init__(
        self,
        nats: Nats,
        *,
        max_size: int = 64 * 1024 * 1024,
        max_in_progress: int = 4,
        max_waiting: int = 64,
        ordered: bool = True,
        chunk_size: int = DEFAULT_CHUNK,
        accept_timeout: Milliseconds = 2000,
        idle_timeout: Milliseconds = 10_000,
        store: ObjectStore | None = None,
        delete_loaded: bool = False,
    ) -> None:
        check_object(nats, "new_inbox", "LargeMessages takes a Nats")
        self.nats = nats
        settings = Settings(
            integer(max_size, "max_size", 1),
            integer(max_in_progress, "max_in_progress", 1),
            integer(max_waiting, "max_waiting", 1),
            integer(chunk_size, "chunk_size", 1),
            _positive("accept_timeout", accept_timeout),
            _positive("idle_timeout", idle_timeout),
        )
        self._core = Core(nats, settings, ordered=ordered, store=store, delete_loaded=delete_loaded)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.nats!r}, {len(self._core.exchange)} transfers>"

    @property
    def transfers(self) -> int:
        """How many messages are being sent or received, and requests wait for an answer."""
        return len(self._core.exchange)

    def close(self) -> None:
        """End all transfers; their callbacks get an error. Subscriptions stay."""
        self._core.exchange.end()

    # Sending.

    def publish(
        self,
        subject: str,
        payload: Payload,
        cb: ResultCallback[int] | None = None,
        *,
        headers: HeadersLike | None = None,
        receivers: int = 0,
    ) -> LargeTransfer | None:
        """Publish a message of any size; ``cb(number of receivers, err)`` when they have taken it.

        Args:
            subject, payload: as for `Nats.publish`.
            cb: gets 0 for a message that fits into max_payload, which is simply published. Of a larger one
                the number of receivers that have it whole; `LargeMessageNotTakenError`,
                `LargeMessageRefusedError`, `LargeMessageLostError` when none has. Left out: errors go to
                the client's on_error.
            headers: as for `Nats.hpublish`.
            receivers: call cb after so many, 1 for a queue group; 0: after accept_timeout, when all that
                have begun until then have ended.

        Returns:
            The transfer, whose `cancel` gives the message up; None for an ordinary message.

        Raises:
            Others: as `Nats.publish`.
        """
        data, done = payload_bytes(payload), self._core.completion(cb)
        integer(receivers, "receivers", 0)
        if self._core.fits(data, headers):
            self.nats.publish(subject, data, headers=headers)
            self.nats.call_soon(done, 0, None)
            return None
        sending = Sending(
            self._core.exchange,
            self._core.settings,
            subject,
            data,
            headers,
            done,
            receivers=receivers,
        )
        sending.start()
        return LargeTransfer(sending)

    def request(
        self,
        subject: str,
        payload: Payload,
        cb: ResultCallback[LargeMsg],
        timeout: Milliseconds = 30_000,
        *,
        headers: HeadersLike | None = None,
    ) -> LargeRequest:
        """Send a request of any size, whose answer may have any size; ``cb(LargeMsg, err)``.

        The first answer counts.

        Args:
            subject, payload: as for `Nats.publish`.
            cb: gets `NoRespondersError`, `RequestTimeoutError`, the errors of `publish`, and when the answer
                is large, `LargeMessageTooLargeError`, `LargeMessageLostError`, `LargeMessageCorruptError`.
            timeout: for request and answer together, in ms or a timedelta.
            headers: as for `Nats.hpublish`.

        Returns:
            The request, whose `cancel` gives it up.
        """
        check_result_cb(cb)
        self.nats.refuse_if_draining()
        limit = _positive("timeout", timeout)
        data = payload_bytes(payload)
        request = LargeRequest(self._core, subject, cb)
        if self._core.fits(data, headers, ONE_HEADER):
            ask = _Ask(self._core, request)
            ask.start(subject, headers, data)
            request._ends.append(ask)
        else:
            sending = Sending(
                self._core.exchange,
                self._core.settings,
                subject,
                data,
                headers,
                lambda count, error: request._fail(error or ConnectionClosedError()),
                receivers=1,
                answered=request._answered,
            )
            sending.start()
            request._ends.append(sending)
        late = RequestTimeoutError("request timeout", subject=subject)
        closed = ConnectionClosedError("disconnected")
        request._ends.append(
            self.nats.call_later(limit, request._fail, late, ended=lambda: request._fail(closed))
        )
        return request

    def publish_reference(
        self,
        subject: str,
        payload: Payload,
        cb: ResultCallback[PubAck | None] | None = None,
        *,
        headers: HeadersLike | None = None,
        js: JetStream | None = None,
    ) -> None:
        """Put a message into the object store, and publish a reference to the object.

        The object lives as long as the store's bucket keeps it (its ttl), or until a receiver with
        delete_loaded has it. Receivers that subscribe by `subscribe` get the message itself; a message of
        a stream goes to `load`.

        Args:
            subject, payload: as for `Nats.publish`.
            cb: ``cb(None, None)``, with js ``cb(ack, None)``, when object and reference are published. Left
                out: errors go to the client's on_error.
            headers: as for `Nats.hpublish`.
            js: publish the reference to a stream.

        Raises:
            BadOptionsError: this `LargeMessages` has no store.
        """
        store, data, done = (
            self._core.needed_store(),
            payload_bytes(payload),
            self._core.completion(cb),
        )
        name = f"{subject}/{next_nuid()}"
        made = Headers.parse(headers) if isinstance(headers, bytes) else Headers(headers or {})
        made[OBJECT] = f"{store.bucket}/{name}"
        made[SIZE] = str(len(data))
        text = reference_text(made[OBJECT], len(data))

        def stored(info: Any, error: NatsError | None) -> None:
            if error is None:
                try:
                    if js is not None:
                        js.publish(subject, text, done, headers=made)
                    else:
                        self.nats.hpublish(subject, made, text)
                        done(None, None)
                    return
                except NatsError as exc:
                    error = exc
            done(None, error)

        store.put(name, data, stored)

    # Receiving.

    def subscribe(
        self,
        subject: str,
        cb: ResultCallback[LargeMsg],
        queue_group: str | None = None,
        *,
        on_error: Callable[[NatsError], object] | None = None,
    ) -> LargeSubscription:
        """Receive messages of any size, ordinary ones and references included.

        Args:
            subject: as for `Nats.subscribe`.
            cb: ``cb(LargeMsg, None)`` for each message; ``cb(None, err)`` once when it has ended
                with the client, or is not permitted.
            queue_group: as for `Nats.subscribe`.
            on_error: ``on_error(err)`` for each message that was offered and could not be received; left out:
                the client's on_error gets it.

        Returns:
            The subscription, with `stop`, `drain`, `pause` and `resume`.
        """
        check_result_cb(cb)
        on_error = callable_or_none(on_error, "on_error")
        return LargeSubscription(self._core, subject, cb, queue_group, on_error)

    def load(self, msg: Any, cb: ResultCallback[LargeMsg]) -> None:
        """Read what a message of a stream stands for; ``cb(LargeMsg, err)``.

        Args:
            msg: a `JsMsg` or `StoredMsg`, or another object with subject, data and headers. One that is no
                reference is given back as it is. Acknowledge it when the message was handled.
            cb: gets `LargeMessageLostError` when the object is gone, and the errors of `ObjectStore.get`.
        """
        check_result_cb(cb)
        subject, payload, headers = msg.subject, msg.data, msg.headers
        if not is_ours(headers) or not self._core.is_large(headers):
            found = LargeMsg(self._core, subject, payload, None, headers, False)
            self.nats.call_soon(cb, found, None)
            return
        done: Callback = lambda found, error: self.nats.call(cb, found, error)  # noqa: E731
        self._core.take(subject, payload, None, headers, done, lambda transfer: None)


def _positive(name: str, value: Milliseconds) -> float:
    ms = milliseconds(value, name)
    if not ms:
        raise BadOptionsError(f"{name} must be above 0")
    return ms
