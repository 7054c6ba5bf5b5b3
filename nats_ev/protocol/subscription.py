"""One subscription: what the server knows of it, and how its messages reach the callback.

No socket, no loop: the owner is told what concerns the table of subscriptions or the wire.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

MessageCallback = Callable[[str, bytes, str | None, bytes | None], object]
Message = tuple[str, bytes, str | None, bytes | None]

# What a paused subscription keeps unless told otherwise; nats.go's figures.
PENDING_MSGS_LIMIT = 500_000
PENDING_BYTES_LIMIT = 64 * 1024 * 1024


class Owner(Protocol):
    """What a subscription needs of its client."""

    def call(self, callback: Callable[..., object], *args: object) -> None:
        """Call a user's callback; deals with what it raises."""

    def exhausted(self, sub: Subscription) -> None:
        """It has received its max_msgs: the server has dropped it."""

    def slow(self, sub: Subscription) -> None:
        """It has begun to drop messages: too many are pending."""


class Inbox(Protocol):
    """Takes the answers to requests, by the number that is the last token of their subject."""

    def answer(self, number: int, payload: bytes, headers: bytes | None) -> None:
        """One; 0 is no number."""

    def answers(self, run: Iterable[tuple[int, int, int]], data: bytes) -> None:
        """Several without headers: number, and where in data the payload begins and ends."""


class Subscription:
    """An entry of the client's table, under its sid."""

    __slots__ = (
        "_owner",
        "_slow",
        "bytes_limit",
        "callback",
        "closed",
        "draining",
        "dropped",
        "fast",
        "inbox",
        "max_msgs",
        "msgs_limit",
        "paused",
        "pending",
        "pending_bytes",
        "prefix_len",
        "raw_queue",
        "raw_subject",
        "received",
        "received_before",
        "sid",
    )

    def __init__(
        self,
        owner: Owner,
        sid: int,
        subject: bytes,
        queue: bytes,
        callback: MessageCallback,
    ) -> None:
        self._owner = owner
        self.sid = sid
        self.raw_subject = subject
        self.raw_queue = queue
        self.callback = callback
        self.received = 0
        self.received_before = 0  # this connection, whose server counts from 0
        self.max_msgs = 0  # messages in all since subscribe; 0: no end
        # Plain: nothing to be looked at per message, so that the session may deliver by itself.
        # Whoever clears it calls Session.interrupt, whoever sets it again Session.settle.
        self.fast = True
        self.closed = False
        self.draining = False  # unsubscribed; what is in flight is still delivered
        self.inbox: Inbox | None = None  # set for the one that all requests share
        self.prefix_len = 0
        # Messages that wait: None when none do and the next one goes straight to the callback.
        self.pending: deque[Message] | None = None
        self.pending_bytes = 0
        self.paused = False
        self.dropped = 0
        self.msgs_limit = PENDING_MSGS_LIMIT  # negative: none
        self.bytes_limit = PENDING_BYTES_LIMIT
        self._slow = False

    @property
    def finished(self) -> bool:
        """The server has sent all that was asked for: it is not subscribed again."""
        return self.draining or 0 < self.max_msgs <= self.received

    def arrived(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        """A message for a subscription that is not plain (any more)."""
        # The server learns of a new max_msgs later than we: what it sends above that is not wanted.
        if self.closed or 0 < self.max_msgs <= self.received:
            return
        self.received += 1
        if self.pending is not None:
            self._keep(self.pending, (subject, payload, reply, headers))
            return
        if self.received == self.max_msgs:
            # Ended before its last callback, so that whatever this one does finds it gone.
            self._owner.exhausted(self)
        self._owner.call(self.callback, subject, payload, reply, headers)

    def _keep(self, pending: deque[Message], message: Message) -> None:
        size = message_size(message)
        too_many = 0 <= self.msgs_limit <= len(pending)
        if too_many or 0 <= self.bytes_limit < self.pending_bytes + size:
            self.dropped += 1
            if not self._slow:
                self._slow = True
                self._owner.slow(self)
            return
        pending.append(message)
        self.pending_bytes += size

    def start_pending(self) -> None:
        """Keep from now on what arrives."""
        self.pending = deque()

    def deliver_next(self) -> None:
        """Give the oldest pending message to the callback; there must be one."""
        pending = self.pending
        assert pending is not None
        message = pending.popleft()
        self.pending_bytes -= message_size(message)
        if self._slow and self._half_empty(len(pending)):
            self._slow = False  # what is dropped from now on is news again
        if not pending and self.finished and not self.draining:
            self._owner.exhausted(self)
        self._owner.call(self.callback, *message)

    def _half_empty(self, msgs: int) -> bool:
        return (self.msgs_limit < 0 or msgs * 2 <= self.msgs_limit) and (
            self.bytes_limit < 0 or self.pending_bytes * 2 <= self.bytes_limit
        )

    def forget_pending(self) -> None:
        """Drop what waits."""
        if self.pending:
            self.pending.clear()
        self.pending_bytes = 0


def message_size(message: Message) -> int:
    """Bytes that count towards a limit: headers and payload."""
    headers = message[3]
    return len(message[1]) + (len(headers) if headers is not None else 0)
