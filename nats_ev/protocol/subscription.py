"""One subscription: what the server knows of it, and how its messages reach the callback.

No socket, no loop: what concerns the table of subscriptions or the wire is reported to the `Owner`.

Theory of operation
-------------------
Almost every subscription has nothing to check when a message comes: no limit, not paused, not
draining. A Python call per message to find that out would cost as much as the rest of the delivery. So a
subscription has two ways in:

- *The fast path*, while `fast` is true. `Inbound`, in C, adds one to `received` and calls `callback`.
  Nothing in this file runs.
- `arrived`, while `fast` is false. It checks the limit, counts the message, and gives it to the
  callback or keeps it in `pending`.

`fast` is true exactly when all of these hold: the subscription is open, `max_msgs` is 0, `pending` is
None, `demand` is None, `draining` is false, and `inbox` is None (the inbox of requests passes its messages
to `Requests`). It is read before each message, and so may be changed at any time.

The life of `pending`: None, until a pause makes it a deque (`start_pending`). After `resume` the
owner empties it with `deliver_next` in slices of time. Messages that arrive meanwhile are appended,
so that the order stays. When it is empty, the owner sets it to None again and the subscription enters
the fast path.

With a `demand` each message that is delivered takes one off. At 0 the subscription is paused, before the
callback of that message, which may ask for more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from .wire import SubscriptionBase

_T = TypeVar("_T")
MessageCallback = Callable[[str, bytes, str | None, bytes | None], object]
Message = tuple[str, bytes, str | None, bytes | None]
# Called with a message that would be kept: true if the message was dealt with, and is not to be kept.
Passes = Callable[[str, bytes, "str | None", "bytes | None"], bool]

# The largest number of messages that a server takes in an UNSUB; more digits mean no end to it.
MOST_IN_UNSUB = 999_999_999

# The most that a paused subscription keeps by default; nats.go's figures.
PENDING_MSGS_LIMIT = 500_000
PENDING_BYTES_LIMIT = 64 * 1024 * 1024


class Owner(Protocol):
    """What a subscription needs of its owner, the table of subscriptions."""

    def call(self, callback: Callable[..., object], *args: object) -> None:
        """Call a user's callback, and deal with what it raises."""

    def exhausted(self, sub: Subscription) -> None:
        """Forget a subscription that has received its max_msgs: the server has forgotten it, too."""

    def satisfied(self, sub: Subscription) -> None:
        """Pause a subscription whose demand is met by the message that is about to be delivered."""

    def slow(self, sub: Subscription) -> None:
        """Report that a subscription has begun to discard messages, because too many are pending."""

    def caught_up(self, sub: Subscription) -> None:
        """Note that a subscription that has discarded messages keeps them again."""


class Inbox(Protocol):
    """The taker of answers to requests. The last token of an answer's subject is the request's number."""

    def answer(self, number: int, payload: bytes, headers: bytes | None) -> None:
        """Take one answer. number is 0 if the subject ends with no number."""


class _State:
    """What few subscriptions have: a limit, a pause, a queue of messages, the answers to requests."""

    __slots__ = (
        "bytes_limit",
        "counted_by_server",
        "demand",
        "dropped",
        "inbox",
        "max_msgs",
        "msgs_limit",
        "passes",
        "paused",
        "pending",
        "pending_bytes",
        "prefix_len",
        "slow",
    )

    def __init__(self) -> None:
        self.max_msgs = 0  # messages in all since subscribe; 0: no end
        self.counted_by_server = True  # it has been sent max_msgs; False: more than it understands
        self.inbox: Inbox | None = None
        self.prefix_len = 0  # of the inbox's subject, up to the number of the request
        self.pending: deque[Message] | None = None
        self.pending_bytes = 0
        self.paused = False
        self.passes: Passes | None = None  # what is not kept during a pause
        self.demand: int | None = None  # messages until the next pause; None: any number
        self.dropped = 0
        self.msgs_limit = PENDING_MSGS_LIMIT  # negative: unlimited, here and below
        self.bytes_limit = PENDING_BYTES_LIMIT
        self.slow = False  # messages are being discarded, and the owner knows


# The state of all subscriptions that have nothing of it. Never changed.
_PLAIN = _State()


class _InState(Generic[_T]):
    """An attribute of a subscription that is kept in its state, which setting creates."""

    __slots__ = ("_name",)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, sub: Subscription, owner: type | None = None) -> _T:
        return getattr(sub._state, self._name)  # type: ignore[no-any-return]

    def __set__(self, sub: Subscription, value: _T) -> None:
        setattr(sub.own_state(), self._name, value)


class Subscription(SubscriptionBase):
    """The client's state of one subscription, and the bounds of what it keeps while paused.

    Programs have hundreds of thousands of them. So an attribute that most never need is kept in `_state`.
    """

    __slots__ = ("_owner", "_state", "raw_queue", "raw_subject", "sid")

    max_msgs = _InState[int]()
    counted_by_server = _InState[bool]()
    prefix_len = _InState[int]()
    pending = _InState["deque[Message] | None"]()
    pending_bytes = _InState[int]()
    paused = _InState[bool]()
    passes = _InState["Passes | None"]()
    demand = _InState["int | None"]()
    dropped = _InState[int]()
    msgs_limit = _InState[int]()
    bytes_limit = _InState[int]()

    def __init__(
        self,
        owner: Owner,
        sid: int,
        subject: bytes,
        queue: bytes,
        callback: MessageCallback,
    ) -> None:
        self._owner = owner
        self._state = _PLAIN
        self.sid = sid
        self.raw_subject = subject
        self.raw_queue = queue
        self.callback = callback
        self.fast = True  # see "Theory of operation"

    def own_state(self) -> _State:
        """Return the state of this subscription alone, to change it."""
        if self._state is _PLAIN:
            self._state = _State()
        return self._state

    @property
    def inbox(self) -> Inbox | None:
        """The taker of the messages; set for the subscription that all requests share."""
        return self._state.inbox

    @inbox.setter
    def inbox(self, inbox: Inbox | None) -> None:
        self.own_state().inbox = inbox
        self.is_inbox = inbox is not None

    @property
    def finished(self) -> bool:
        """Whether the server has sent all that was asked for, so that no connection subscribes again."""
        return self.draining or 0 < self._state.max_msgs <= self.received

    def arrived(
        self, subject: str, payload: bytes, reply: str | None, headers: bytes | None
    ) -> None:
        """Take a message while the subscription is not on the fast path."""
        # The server learns of a new max_msgs later than the client: discard what it sends above that.
        state = self._state
        if self.closed or 0 < state.max_msgs <= self.received:
            return
        self.received += 1
        if state.pending is not None:
            if state.passes is None or not state.passes(subject, payload, reply, headers):
                self._keep(state, state.pending, (subject, payload, reply, headers))
            return
        if state.demand is not None:
            self._use_demand(state, state.demand)
        if self.received == state.max_msgs:
            # Before the last callback, so that the subscription is gone for whatever the callback does.
            self._owner.exhausted(self)
        self._owner.call(self.callback, subject, payload, reply, headers)

    def _use_demand(self, state: _State, demand: int) -> None:
        state.demand = demand - 1
        if demand <= 1:
            self._owner.satisfied(self)

    def _keep(self, state: _State, pending: deque[Message], message: Message) -> None:
        size = message_size(message)
        too_many = 0 <= state.msgs_limit <= len(pending)
        if too_many or 0 <= state.bytes_limit < state.pending_bytes + size:
            state.dropped += 1
            if not state.slow:
                state.slow = True
                self._owner.slow(self)
            return
        pending.append(message)
        state.pending_bytes += size

    def start_pending(self) -> None:
        """Keep messages from now on, instead of delivering them."""
        self.pending = deque()

    def deliver_next(self) -> None:
        """Give the oldest pending message to the callback. There must be one."""
        state = self._state
        pending = state.pending
        assert pending is not None
        message = pending.popleft()
        state.pending_bytes -= message_size(message)
        if state.slow and _half_empty(state, len(pending)):
            state.slow = False  # the next message that is discarded is reported again
            self._owner.caught_up(self)
        if state.demand is not None:
            self._use_demand(state, state.demand)
        if not pending and self.finished and not self.draining:
            self._owner.exhausted(self)
        self._owner.call(self.callback, *message)

    def forget_pending(self) -> None:
        """Discard all pending messages. They count as dropped."""
        state = self._state
        if state.pending:
            state.dropped += len(state.pending)
            state.pending.clear()
            state.pending_bytes = 0


def _half_empty(state: _State, msgs: int) -> bool:
    return (state.msgs_limit < 0 or msgs * 2 <= state.msgs_limit) and (
        state.bytes_limit < 0 or state.pending_bytes * 2 <= state.bytes_limit
    )


def message_size(message: Message) -> int:
    """Return the bytes of a message that count towards a limit: headers and payload."""
    headers = message[3]
    return len(message[1]) + (len(headers) if headers is not None else 0)
