"""Transfers of large messages: `Sending` and `Receiving`, and the inbox that all of a client's share.

The sender offers; whoever takes the offer asks for chunks, a window at a time. So the receiver sets the pace,
and all chunks go to the one member of a queue group that has got the offer. After a gap and after silence
chunks are asked for from the first missing one on; a receiver keeps only what is in order.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import ConnectionClosedError, NatsError, NoRespondersError
from ..headers import Headers, is_no_responders
from ..nuid import next_nuid
from ..steps import later_step
from .large_wire import (
    ANSWER,
    DIGEST,
    DONE,
    GONE,
    INDEX,
    OFFER,
    PULL,
    ROOM_FOR_HEADERS,
    USUAL_MAX_PAYLOAD,
    Assembler,
    LargeMessageCorruptError,
    LargeMessageError,
    LargeMessageLostError,
    LargeMessageNotTakenError,
    LargeMessageNotUnderstoodError,
    LargeMessageRefusedError,
    LargeMessageTooLargeError,
    Offer,
    digest_text,
    is_ours,
    numbers,
    offer_headers,
    offer_text,
    parsed,
)

if TYPE_CHECKING:
    from ..client import Nats
    from ..net import Deadline

# A receiver asks for so much at a time, in bytes, and for no more than this number of chunks.
_WINDOW = 2 * 1024 * 1024
_MOST_CHUNKS = 256
# Before a sender that the server does not know is asked again, in ms.
_ASK_AGAIN = 250.0

Ended = Callable[[Any, NatsError | None], object]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a `LargeMessages` was constructed with. Times in ms, sizes in bytes."""

    max_size: int
    max_in_progress: int
    max_waiting: int
    chunk_size: int
    accept_timeout: float
    idle_timeout: float


class Transfer(Protocol):
    """One end of a transfer."""

    def arrived(self, payload: bytes, reply: str | None, headers: bytes | None) -> None:
        """Take a message to its inbox."""

    def ended_by_client(self) -> None:
        """Take note of the client's end."""


class Exchange:
    """The inbox of all transfers of one `LargeMessages`."""

    def __init__(self, nats: Nats) -> None:
        self.nats = nats
        self._inbox = ""
        self._sid = 0
        self._open: dict[str, Transfer] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(self, transfer: Transfer) -> str:
        """Return a subject, whose messages the transfer gets from now on."""
        nats = self.nats
        if not self._sid or nats.subscription_info(self._sid) is None:
            self._inbox = nats.new_inbox()
            self._sid = later_step(nats.subscribe, f"{self._inbox}.*", self._arrived)
        token = next_nuid()
        self._open[token] = transfer
        if len(self._open) == 1:
            nats.await_in_drain(self._sid)
        return f"{self._inbox}.{token}"

    def close(self, subject: str) -> None:
        """Discard what comes to a subject from now on."""
        self._open.pop(subject.rpartition(".")[2], None)
        if not self._open and self._sid:
            self.nats.await_in_drain(self._sid, False)

    def end(self) -> None:
        """End all transfers, and the inbox."""
        for transfer in list(self._open.values()):
            transfer.ended_by_client()
        self._open.clear()
        if self._sid:
            self.nats.unsubscribe(self._sid)
            self._sid = 0

    def send(
        self, subject: str, headers: Headers, payload: bytes = b"", reply: str | None = None
    ) -> NatsError | None:
        """Publish a message of a transfer; return why it could not be."""
        try:
            later_step(self.nats.hpublish, subject, headers, payload, reply)
        except NatsError as exc:
            return exc
        return None

    def later(self, ms: float, cb: Callable[[], object], transfer: Transfer) -> Deadline:
        """Call cb after a while, unless the client ends before."""
        return self.nats.call_later(ms, cb, ended=transfer.ended_by_client)

    def _arrived(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        transfer = self._open.get(subject.rpartition(".")[2])
        if transfer is not None:
            transfer.arrived(payload, reply, headers)
        elif reply and is_ours(headers) and PULL in parsed(headers):
            self.send(reply, Headers({GONE: "410 the message is no longer offered"}))


class Sending:
    """A large message that is offered, until its receivers have taken it.

    Args:
        exchange: the inbox.
        settings: of the `LargeMessages`.
        subject: of the offer.
        payload: the message.
        headers: the user's, as a mapping or a raw block; or None.
        ended: ``ended(count of receivers, err)`` once.
        receivers: end after so many have taken the message; 0: as many as ask for it.
        answered: ``answered(payload, reply, headers)`` for each message that is none of the protocol's: an
            answer to a request. Without it the message is no request.
    """

    def __init__(
        self,
        exchange: Exchange,
        settings: Settings,
        subject: str,
        payload: bytes,
        headers: Any,
        ended: Ended,
        *,
        receivers: int = 0,
        answered: Callable[[bytes, str | None, bytes | None], object] | None = None,
        extra: dict[str, str] | None = None,
    ) -> None:
        self._exchange, self._settings = exchange, settings
        self._subject, self._payload = subject, payload
        self._ended, self._answered = ended, answered
        self._wanted = receivers
        limit = exchange.nats.max_payload() or USUAL_MAX_PAYLOAD
        most = limit - min(ROOM_FOR_HEADERS, limit // 2)
        self._offer = Offer(len(payload), max(1, min(settings.chunk_size, most)))
        self._headers = offer_headers(
            headers, len(payload), self._offer.chunk, wants_reply=answered is not None
        )
        self._headers.update(extra or {})
        self._hash = hashlib.sha256()
        self._hashed = 0  # chunks
        self._active: dict[str, float] = {}  # who asks for chunks, and when they did so last
        self._taken = 0
        self._refused: list[NatsError] = []
        self._odd: tuple[bytes, bytes | None] | None = None
        self._began = time.monotonic()
        self._inbox = ""
        self._timer: Deadline | None = None
        self.closed = False

    def start(self) -> None:
        """Send the offer. Raises what `Nats.publish` raises."""
        self._inbox = self._exchange.open(self)
        try:
            text = offer_text(len(self._payload))
            self._exchange.nats.hpublish(self._subject, self._headers, text, self._inbox)
        except BaseException:
            self._close()
            raise
        self._wait()

    def cancel(self) -> None:
        """End without a call; receivers learn of it."""
        if not self.closed:
            self._tell_receivers("410 the sender has cancelled the message")
            self._close()

    def _tell_receivers(self, text: str) -> None:
        for receiver in self._active:
            self._exchange.send(receiver, Headers({GONE: text}))

    def _close(self) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._exchange.close(self._inbox)
        self._payload = b""

    def finish(self, error: NatsError | None) -> None:
        """End with the number of receivers, or an error."""
        if not self.closed:
            self._close()
            self._exchange.nats.call_soon(
                self._ended, self._taken if error is None else None, error
            )

    def ended_by_client(self) -> None:
        """See `Transfer`."""
        self.finish(ConnectionClosedError("disconnected"))

    # What receivers send.

    def arrived(self, payload: bytes, reply: str | None, headers: bytes | None) -> None:
        """See `Transfer`."""
        if headers is not None and not payload and is_no_responders(headers):
            self.finish(NoRespondersError("no responders", subject=self._subject))
            return
        fields = parsed(headers) if is_ours(headers) else Headers()
        if PULL in fields and reply:
            self._pulled(fields, reply)
        elif DONE in fields and reply:
            self._done(fields[DONE], reply)
        elif self._answered is not None and (ANSWER in fields or OFFER in fields):
            self._answered(payload, reply, headers)
        else:
            self._odd = payload, headers

    def _pulled(self, fields: Headers, reply: str) -> None:
        self._active[reply] = time.monotonic()
        try:
            first, count = numbers(fields, PULL)
        except LargeMessageCorruptError:
            return
        for index in range(first, min(first + min(count, _MOST_CHUNKS), self._offer.chunks)):
            if self._exchange.send(reply, self._chunk_headers(index), self._chunk(index)):
                return  # the receiver asks again

    def _chunk(self, index: int) -> bytes:
        size = self._offer.chunk
        return self._payload[index * size : (index + 1) * size]

    def _chunk_headers(self, index: int) -> Headers:
        headers = Headers({INDEX: str(index)})
        if index == self._hashed:  # always in this order the first time
            self._hash.update(self._chunk(index))
            self._hashed += 1
        if index == self._offer.chunks - 1:
            while self._hashed <= index:  # a receiver has asked for the end first
                self._hash.update(self._chunk(self._hashed))
                self._hashed += 1
            headers[DIGEST] = digest_text(self._hash.digest())
        return headers

    def _done(self, text: str, reply: str) -> None:
        self._active.pop(reply, None)
        code, _, why = text.partition(" ")
        if code == "200":
            self._taken += 1
        else:
            self._refused.append(refusal(code, why, self._subject))
        self._look()

    # When it ends.

    def _wait(self) -> None:
        least = min(self._settings.accept_timeout, self._settings.idle_timeout / 4)
        self._timer = self._exchange.later(max(least, 10), self._tick, self)

    def _tick(self) -> None:
        silent = time.monotonic() - self._settings.idle_timeout / 1000
        for receiver in [each for each, last in self._active.items() if last < silent]:
            del self._active[receiver]
            text = "the receiver has fallen silent"
            self._refused.append(LargeMessageLostError(text, subject=self._subject))
        self._look()
        if not self.closed:
            self._wait()

    def _look(self) -> None:
        """End, if nobody is expected to take the message any more."""
        enough = self._wanted and self._taken + len(self._refused) >= self._wanted
        over = (time.monotonic() - self._began) * 1000 >= self._settings.accept_timeout
        if self._active or not (enough or over):
            return
        if self._taken and self._answered is None:
            self.finish(None)
        elif self._taken:
            pass  # the answer is to come
        elif self._refused:
            self.finish(self._refused[0])
        elif self._odd is not None:
            text = f"a receiver of {self._subject!r} does not know large messages"
            response, headers = self._odd
            self.finish(
                LargeMessageNotUnderstoodError(
                    text, subject=self._subject, response=response, headers=headers
                )
            )
        else:
            text = f"nobody has taken the message to {self._subject!r}"
            self.finish(LargeMessageNotTakenError(text, subject=self._subject))


def refusal(code: str, why: str, subject: str) -> LargeMessageError:
    """Return the error for what a receiver has refused a message with."""
    kind = LargeMessageTooLargeError if code == "413" else LargeMessageRefusedError
    number = int(code) if code.isascii() and code.isdigit() and len(code) == 3 else 0
    return kind(f"the receiver has refused the message: {why}", code=number, subject=subject)


class Receiving:
    """A large message that is being received.

    Args:
        exchange: the inbox.
        settings: of the `LargeMessages`.
        subject: of the offer, for errors.
        source: where to ask for chunks.
        offer: what was offered.
        ended: ``ended(message, err)`` once.
    """

    def __init__(
        self,
        exchange: Exchange,
        settings: Settings,
        subject: str,
        source: str,
        offer: Offer,
        ended: Ended,
    ) -> None:
        self._exchange, self._settings = exchange, settings
        self._subject, self._source = subject, source
        self._ended = ended
        self._parts = Assembler(offer)
        self._window = max(1, min(_MOST_CHUNKS, _WINDOW // offer.chunk))
        self._asked = 0  # the first chunk that was not asked for
        self._gap = False  # what is missing was asked for again
        self._heard = time.monotonic()
        self._silent = 0  # answers of the server in a row that it does not know the sender
        self._inbox = exchange.open(self)
        self._timer: Deadline | None = None
        self.waits = True  # for its turn
        self.closed = False

    @property
    def size(self) -> int:
        """The size of the message in bytes."""
        return self._parts.offer.size

    def accept(self) -> None:
        """Let the sender know that the message will be asked for later."""
        self._pull(0)
        self._wait()

    def begin(self) -> None:
        """Ask for the first chunks."""
        self.waits = False
        self._heard = time.monotonic()
        self._ask_again()
        self._wait()

    def refuse(self, code: int, text: str) -> None:
        """Let the sender know that the message is not wanted, and end without a call."""
        self._report_end(f"{code} {text}")
        self._close()

    def fail(self, error: NatsError) -> None:
        """End with an error."""
        if not self.closed:
            self._report_end(f"{getattr(error, 'code', 0) or 499} {str(error)[:200]}")
            self._finish(None, error)

    def ended_by_client(self) -> None:
        """See `Transfer`."""
        if not self.closed:
            self._finish(None, ConnectionClosedError("disconnected"))

    def _report_end(self, text: str) -> None:
        text = "".join(char if " " <= char <= "~" else "?" for char in text)
        self._exchange.send(self._source, Headers({DONE: text}), reply=self._inbox)

    def _finish(self, message: bytes | None, error: NatsError | None) -> None:
        self._close()
        self._exchange.nats.call(self._ended, message, error)

    def _close(self) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._exchange.close(self._inbox)

    def _pull(self, count: int) -> None:
        headers = Headers({PULL: f"{self._parts.next} {count}"})
        self._exchange.send(self._source, headers, reply=self._inbox)

    def _ask_again(self) -> None:
        self._asked = self._parts.next + self._window
        self._pull(self._window)

    def _ask_on(self) -> None:
        """Ask for more, if half of what was asked for has come."""
        parts = self._parts
        if self._asked < parts.offer.chunks and self._asked - parts.next <= self._window // 2:
            count = parts.next + self._window - self._asked
            headers = Headers({PULL: f"{self._asked} {count}"})
            self._asked += count
            self._exchange.send(self._source, headers, reply=self._inbox)

    # Time.

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._exchange.later(self._settings.idle_timeout / 5, self._tick, self)

    def _tick(self) -> None:
        """Ask again after silence; give up after much of it."""
        silent = (time.monotonic() - self._heard) * 1000
        if self.waits:
            self._pull(0)
        elif silent >= self._settings.idle_timeout:
            text = f"the sender of a message to {self._subject!r} has fallen silent"
            self.fail(LargeMessageLostError(text, subject=self._subject))
            return
        elif silent >= self._settings.idle_timeout / 10:
            self._ask_again()
        self._wait()

    def arrived(self, payload: bytes, reply: str | None, headers: bytes | None) -> None:
        """See `Transfer`."""
        if headers is not None and not payload and is_no_responders(headers):
            self._nobody()
            return
        fields = parsed(headers) if is_ours(headers) else Headers()
        if GONE in fields:
            text = f"the sender has given up: {fields[GONE]}"
            self._finish(None, LargeMessageLostError(text, subject=self._subject))
        elif INDEX in fields and not self.waits:
            try:
                self._take(payload, fields)
            except LargeMessageCorruptError as exc:
                self.fail(exc)

    def _nobody(self) -> None:
        """The server knows no sender: it is gone, or about to reconnect."""
        self._silent += 1
        if self._silent * _ASK_AGAIN > self._settings.idle_timeout / 2 or self._silent > 8:
            text = f"the sender of a message to {self._subject!r} is gone"
            self.fail(LargeMessageLostError(text, subject=self._subject))
        elif self._silent == 1 or not self.waits:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._exchange.later(_ASK_AGAIN, self._retry, self)

    def _retry(self) -> None:
        if self.waits:
            self._pull(0)
        else:
            self._ask_again()
        self._wait()

    def _take(self, payload: bytes, fields: Headers) -> None:
        index = numbers({INDEX: f"{fields[INDEX]} 0"}, INDEX)[0]
        self._heard = time.monotonic()
        self._silent = 0
        parts = self._parts
        if not parts.add(index, payload):
            if index > parts.next and not self._gap:
                self._gap = True
                self._ask_again()
            return
        self._gap = False
        if not parts.complete:
            self._ask_on()
            return
        message = parts.message(fields.get(DIGEST, ""))
        self._report_end("200 ok")
        self._finish(message, None)
