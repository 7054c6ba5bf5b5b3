"""One subscription: what the server knows of it, and how its messages reach the callback.

No socket, no loop: the owner is told what concerns the table of subscriptions or the wire.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

MessageCallback = Callable[[str, bytes, str | None, bytes | None], object]
# (last token of the subject, payload, headers)
ReplyCallback = Callable[[bytes, bytes, bytes | None], object]


class Owner(Protocol):
    """What a subscription needs of its client."""

    def call(self, callback: Callable[..., object], *args: object) -> None:
        """Call a user's callback; deals with what it raises."""

    def exhausted(self, sub: Subscription) -> None:
        """It has received its max_msgs: the server has dropped it."""


class Subscription:
    """An entry of the client's table, under its sid."""

    __slots__ = (
        "_owner",
        "callback",
        "closed",
        "draining",
        "max_msgs",
        "on_reply",
        "plain",
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
        # Whoever clears it calls Session.interrupt.
        self.plain = True
        self.closed = False
        self.draining = False  # unsubscribed; what is in flight is still delivered
        # Set for the inbox shared by all requests: it gets the token behind the common prefix.
        self.on_reply: ReplyCallback | None = None
        self.prefix_len = 0

    def arrived(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        """A message for a subscription that is not plain (any more)."""
        if self.closed:
            return
        self.received += 1
        if self.received == self.max_msgs:
            # Ended before its last callback, so that whatever this one does finds it gone.
            self._owner.exhausted(self)
        self._owner.call(self.callback, subject, payload, reply, headers)
