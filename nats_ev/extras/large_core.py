"""What the parts of `LargeMessages` share: its transfers, and how messages become what they stand for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..arguments import Callback, check_result_cb
from ..errors import BadOptionsError, NatsError
from ..headers import Headers, HeadersLike, encode_headers
from .large_message import LargeMsg, Question
from .large_transfer import Exchange, Receiving, Sending, Settings, refusal
from .large_wire import (
    ANSWER,
    DONE,
    ERROR,
    OBJECT,
    OFFER,
    ONE_HEADER,
    SERVICE_ERROR,
    SERVICE_ERROR_CODE,
    SIZE,
    USUAL_MAX_PAYLOAD,
    VERSION,
    LargeMessageCorruptError,
    LargeMessageError,
    LargeMessageLostError,
    LargeMessageTooLargeError,
    Offer,
    number,
    parsed,
)

if TYPE_CHECKING:
    from ..client import Nats
    from ..object_store import ObjectStore


class Core:
    """See the head of this file.

    Args:
        nats: the client.
        settings: of the `LargeMessages`.
        ordered, store, delete_loaded: as for `LargeMessages`.
    """

    def __init__(
        self,
        nats: Nats,
        settings: Settings,
        *,
        ordered: bool,
        store: ObjectStore | None,
        delete_loaded: bool,
    ) -> None:
        self.nats, self.settings, self.ordered, self.store = nats, settings, ordered, store
        self._delete_loaded = delete_loaded
        self.exchange = Exchange(nats)
        self._receiving: set[Receiving] = set()
        self._waiting: deque[Receiving] = deque()

    def completion(self, cb: Callback | None) -> Callback:
        """Return what to call at the end; without a cb errors go to the client's on_error."""
        if cb is not None:
            check_result_cb(cb)
            given = cb
            return lambda result, error: self.nats.call(given, result, error)
        return lambda result, error: self.nats.report(error) if error is not None else None

    def needed_store(self) -> ObjectStore:
        """Return the store. Raises `BadOptionsError`."""
        if self.store is None:
            raise BadOptionsError("references need a store: LargeMessages(nats, store=…)")
        return self.store

    def fits(self, data: bytes, headers: HeadersLike | None, more: int = 0) -> bool:
        """Return whether a message can be an ordinary one.

        Args:
            data, headers: the message.
            more: bytes of further headers.
        """
        size = len(data) + (len(encode_headers(headers)) if headers is not None else 0) + more
        limit = self.nats.max_payload()
        if self.nats.server_info() is None:  # the server's limit is not known yet
            limit = min(limit or USUAL_MAX_PAYLOAD, USUAL_MAX_PAYLOAD)
        return not limit or size <= limit

    def is_large(self, headers: bytes | None) -> bool:
        """Return whether a message stands for a large one."""
        fields = parsed(headers)
        return OFFER in fields or OBJECT in fields

    def respond(
        self, question: Question, data: bytes, headers: HeadersLike | None, cb: Callback | None
    ) -> None:
        """See `Responder`."""
        done = self.completion(cb)
        answer = {ANSWER: VERSION} if question.offered else {}
        if self.fits(data, headers, ONE_HEADER if answer else 0):
            if answer:
                made = (
                    Headers.parse(headers) if isinstance(headers, bytes) else Headers(headers or {})
                )
                made.update(answer)
                headers = made
            self.nats.publish(question.reply, data, headers=headers)
            self.nats.call_soon(done, 0, None)
        elif question.takes_large:
            Sending(
                self.exchange,
                self.settings,
                question.reply,
                data,
                headers,
                done,
                receivers=1,
                extra={ANSWER: VERSION},
            ).start()
        else:
            why = f"the answer has {len(data)} bytes, and the requester takes no large ones"
            refused = {ERROR: f"406 {why}", SERVICE_ERROR_CODE: "406", SERVICE_ERROR: why}
            self.nats.hpublish(question.reply, refused)
            self.nats.call_soon(done, None, refusal("406", why, question.subject))

    def take(
        self,
        subject: str,
        payload: bytes,
        reply: str | None,
        headers: bytes | None,
        done: Callback,
        began: Callable[[Any], object],
    ) -> None:
        """Receive what an offer or a reference stands for; ``done(LargeMsg, err)`` once.

        Args:
            subject, payload, reply, headers: the message.
            done: may be called at once.
            began: gets what has a `cancel`.
        """
        fields = parsed(headers)
        if OBJECT in fields:
            self._load(subject, fields, headers, done)
            return
        try:
            offer = Offer.parse(fields)
            if not reply:
                text = "an offer without a reply subject: its sender can't be asked"
                raise LargeMessageCorruptError(text)
            if offer.size > self.settings.max_size:
                text = f"{offer.size} bytes are more than max_size {self.settings.max_size}"
                raise LargeMessageTooLargeError(text)
        except LargeMessageError as exc:
            exc.subject = subject
            if reply:
                self.exchange.send(reply, Headers({DONE: f"{exc.code} {exc}"}), reply=reply)
            done(None, exc)
            return

        def ended(data: bytes | None, error: NatsError | None) -> None:
            self._left(receiving)
            if data is None:
                done(None, error)
            else:
                done(LargeMsg(self, subject, data, reply, headers, True), None)

        receiving = Receiving(self.exchange, self.settings, subject, reply, offer, ended)
        if len(self._receiving) < self.settings.max_in_progress:
            self._receiving.add(receiving)
            receiving.begin()
        elif len(self._waiting) < self.settings.max_waiting:
            self._waiting.append(receiving)
            receiving.accept()
        else:
            text = f"{len(self._waiting)} messages wait to be received"
            receiving.refuse(429, text)
            done(None, refusal("429", text, subject))
            return
        began(_Stop(receiving, self._left))

    def _left(self, receiving: Receiving) -> None:
        """Let the next one begin after the end of one."""
        self._receiving.discard(receiving)
        if receiving in self._waiting:
            self._waiting.remove(receiving)
        while self._waiting and len(self._receiving) < self.settings.max_in_progress:
            following = self._waiting.popleft()
            if not following.closed:
                self._receiving.add(following)
                following.begin()

    def _load(self, subject: str, fields: Headers, headers: bytes | None, done: Callback) -> None:
        bucket, _, name = fields[OBJECT].partition("/")
        try:
            size = number(fields, SIZE)
            if self.store is None or self.store.bucket != bucket:
                raise LargeMessageError(f"a reference to bucket {bucket!r}, which is not the store")
            if size > self.settings.max_size:
                text = f"{size} bytes are more than max_size {self.settings.max_size}"
                raise LargeMessageTooLargeError(text)
        except LargeMessageError as exc:
            exc.subject = subject
            done(None, exc)
            return
        store = self.store

        def got(data: bytes | None, error: NatsError | None) -> None:
            if error is None and data is None:
                text = f"the object {name!r} of a message to {subject!r} is gone"
                error = LargeMessageLostError(text, subject=subject)
            elif error is None and len(data or b"") != size:
                error = LargeMessageCorruptError(f"the object {name!r} has another size")
            if error is not None:
                done(None, error)
                return
            if self._delete_loaded:
                store.delete(name)
            done(LargeMsg(self, subject, data or b"", None, headers, False), None)

        try:
            store.get(name, got)
        except NatsError as exc:
            done(None, exc)


class _Stop:
    """What cancels the receiving of a message."""

    def __init__(self, receiving: Receiving, left: Callable[[Receiving], object]) -> None:
        self._receiving, self._left = receiving, left

    def cancel(self) -> None:
        if not self._receiving.closed:
            self._receiving.refuse(499, "the receiver has given up")
            self._left(self._receiving)
