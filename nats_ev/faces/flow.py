"""Iterators over messages: what is between a callback on the loop and a task that asks for the next item.

Theory of operation
-------------------
The callback puts items into a `Buffer`; a task takes them out by a `Flow`. The callback belongs to the client
and keeps the buffer alive. The user holds the flow: when nobody does any more, the flow ends what it
receives, as if it had been closed.

*Back-pressure.* An item has a weight, and a buffer has room for so much. A buffer without room pauses its
source; it resumes the source when half of the room is free again. What a paused subscription does with
further messages is the client's affair (`Nats.set_pending_limits`); consumers and watches request no more.

*The end.* `finish` is called once. The items that the buffer has by then are still handed out, then the
iteration ends, or raises the error. `close` discards them.

*Giving way.* A task that finds an item at once does not wait, and no other task runs. So an iteration
yields to the others once in 10 ms, as the client does when it delivers messages.

A flow's asynchronous methods are written once. In a face that blocks, `build` makes of each of them a method
that runs it to its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, ClassVar, Protocol
from weakref import ref

from ..arguments import Milliseconds, Payload, milliseconds
from ..client import Nats
from ..errors import ConnectionClosedError, MsgIteratorClosedError, NatsError, RequestTimeoutError
from ..headers import HeadersLike
from ..status import Status
from .message import Msg
from .rules import OWN

# What a buffer keeps before it pauses its source: bytes. A message weighs so many more than its payload.
ROOM = 8 * 1024 * 1024
WEIGHT = 512
# An iteration that has run for so long lets others run. In seconds.
_SLICE = 0.01


def _nothing() -> None:
    """Do nothing."""


def _ignore(*answer: object) -> None:
    """Take an answer that nobody waits for."""


class Owner(Protocol):
    """What flows need of their client's context; see `context.Context`."""

    nats: Nats
    drained: bool
    buffers: set[Buffer]
    by_sid: dict[int, Buffer]
    message: Callable[[Any], Any]

    def waiter(self) -> Any:
        """Return what a task awaits."""

    def expire(self, timeout: float, waiter: Any, error: NatsError) -> Any:
        """Give an error to a waiter after some ms."""

    def current(self) -> Any:
        """Return the current task."""

    def is_other(self, task: Any) -> bool:
        """Return whether a task is alive and not the current one."""

    async def give_way(self) -> None:
        """Let other tasks and the loop run."""

    async def answer(self, method: Callable[..., object], *args: Any) -> Any:
        """Call ``method(*args, cb)``, and wait for the answer."""

    def on_loop(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a function of the callback API in the thread of the loop."""

    def finished(self, buffer: Buffer) -> None:
        """Forget a flow that has ended."""

    def abandon(self, buffer: Buffer) -> None:
        """End a flow that nobody holds any more."""

    def unsubscribe(self, sid: int, max_msgs: int | None = None) -> None:
        """Unsubscribe, and let the iterator of the subscription know."""

    def publish_answer(self, subject: str, payload: Payload, headers: HeadersLike | None) -> None:
        """Publish the answer to a `Msg`."""


class Buffer:
    """The items of one flow, from the loop's side. See the module's theory of operation."""

    __slots__ = (
        "__weakref__",
        "consumer",
        "context",
        "drain_source",
        "ended",
        "error",
        "items",
        "iterated",
        "left",
        "pause",
        "paused",
        "resume",
        "room",
        "seen_end",
        "sid",
        "size",
        "stop",
        "waiters",
    )

    def __init__(self, context: Owner, room: int) -> None:
        self.context = context
        self.items: deque[Any] = deque()
        self.waiters: deque[Any] = deque()
        self.size = self.room = room
        self.left = 0  # items until the end; 0: no such end
        self.ended = False
        self.error: NatsError | None = None
        self.seen_end = False  # the consumer knows of the end
        self.paused = False
        self.iterated = False  # the consumer has not asked by `next`, but by its loop
        self.consumer: ref[Any] | None = None  # the task that has asked last; it may hold the flow
        self.pause: Callable[[], object] = _nothing
        self.resume: Callable[[], object] = _nothing
        self.stop: Callable[[], object] = _nothing
        # Ends the source gracefully, and calls cb(err) or cb(result, err).
        self.drain_source: Callable[[Callable[..., object]], object] | None = None
        self.sid = 0  # of the subscription, if the source is one
        context.buffers.add(self)

    def put(self, item: Any, weight: int = 1) -> None:
        """Take an item from the source."""
        if self.ended:
            return
        self.items.append(item)
        self.room -= weight
        if self.room < 0 and not self.paused:
            self.hold()
        if self.waiters:
            self.wake()
        if self.left:
            self.left -= 1
            if not self.left:
                self.finish(None)

    def hold(self) -> None:
        """Pause the source: there is no room."""
        self.paused = True
        self.pause()

    def go_on(self) -> None:
        """Resume the source if half of the room is free."""
        if self.room * 2 >= self.size and not self.ended:
            self.paused = False
            self.context.on_loop(self.resume)

    def wake(self) -> None:
        """Let one task that waits look for an item."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def finish(self, error: NatsError | None) -> None:
        """End the flow after the items that it has; with an error, raise it then."""
        if self.ended:
            return
        if isinstance(error, ConnectionClosedError) and self.context.drained:
            error = None
        self.ended = True
        self.error = error
        self.pause = self.resume = self.stop = _nothing
        self.drain_source = None
        self.context.finished(self)
        while self.waiters:
            self.wake()

    def close(self) -> None:
        """End the flow and its source at once, without the items that it has."""
        stop = self.stop
        self.finish(None)
        self.error = None
        self.items.clear()
        stop()

    def drain(self, cb: Callable[..., object] = _ignore) -> None:
        """End the source gracefully, and the flow after what still comes."""

        def drained(*answer: Any) -> None:
            self.finish(answer[-1])
            cb(*answer)

        if self.drain_source is not None:
            self.drain_source(drained)
        else:
            stop = self.stop
            self.finish(None)
            stop()
            cb(None)

    @property
    def busy(self) -> bool:
        """Whether another task, still alive, may take items or use the last one, and knows of no end."""
        consumer = self.consumer() if self.consumer is not None else None
        return consumer is not None and not self.seen_end and self.context.is_other(consumer)

    @property
    def idle(self) -> bool:
        """Whether nothing shows that a task will come back: it has taken all, and need not iterate."""
        return self.ended and not self.items and not self.iterated


class Flow:
    """An iterator over messages or other items, as they come.

    Several tasks may share one: each item goes to one of them. The source is paused while the iterator
    has many items that nobody takes. A flow that is closed, or that nobody holds any more, ends its source.
    """

    _room: ClassVar[int] = ROOM
    _context: Owner
    _what: str = "the iterator"

    def __init__(self, context: Owner) -> None:
        self._context = context
        self._buffer = Buffer(context, self._room)
        self._items = self._buffer.items
        self._until = 0.0
        self._it: Any = None

    def __repr__(self) -> str:
        state = "closed" if self._buffer.ended else "open"
        return f"<{type(self).__name__} {self._what} {state}, {len(self._items)} pending>"

    def __del__(self) -> None:
        buffer: Buffer | None = getattr(self, "_buffer", None)
        if buffer is not None and not buffer.ended:
            buffer.context.abandon(buffer)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the handle of the callback API."""
        if name.startswith("_") or name in OWN:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._it, name)

    def _weigh(self, item: Any) -> int:
        """Return the weight with which an item was put."""
        return 1

    def _look(self) -> None:
        """End the iterator if its source has ended without a word."""

    def _begin(self, handle: Any) -> None:
        """Take what the method of the callback API has returned."""
        self._it = handle
        buffer = self._buffer
        buffer.stop = handle.stop
        if hasattr(handle, "pause"):
            buffer.pause, buffer.resume = handle.pause, handle.resume

    def _callback(self) -> Callable[..., None]:
        """Return the callback for the method of the callback API."""
        buffer = self._buffer

        def take(item: Any, error: NatsError | None) -> None:
            if error is not None:
                buffer.finish(error)
            else:
                buffer.put(item)

        return take

    @property
    def pending(self) -> int:
        """The number of items that the iterator has and nobody has taken."""
        return len(self._items)

    def _take(self) -> Any:
        # Another thread than the loop's may do this: Python switches no threads within `room +=`.
        item = self._items.popleft()
        buffer = self._buffer
        weight = self._weigh(item)
        buffer.room += weight
        if buffer.paused:
            buffer.go_on()
        return item

    def _may_go_on(self) -> bool:
        """Return whether this iteration need not yet give way."""
        return monotonic() < self._until

    async def _following(self) -> Any:
        """Return the next item. Raises StopAsyncIteration at the end."""
        if self._items and monotonic() < self._until:
            return self._take()
        self._buffer.iterated = True
        return await self._next(None)

    async def _next(self, timeout: float | None) -> Any:
        buffer, context = self._buffer, self._context
        buffer.consumer = ref(context.current())
        if self._items:
            if monotonic() >= self._until:
                if self._until:
                    await context.give_way()
                self._until = monotonic() + _SLICE
            if self._items:  # another task may have taken it meanwhile
                return self._take()
        while not self._items:
            self._look()
            if buffer.ended:
                buffer.seen_end = True
                if buffer.error is not None:
                    raise buffer.error
                raise StopAsyncIteration
            await self._wait(timeout)
        self._until = monotonic() + _SLICE
        item = self._take()
        if self._items and buffer.waiters:
            buffer.wake()
        return item

    async def _wait(self, timeout: float | None) -> None:
        """Wait for an item or the end. Raises `RequestTimeoutError`, ``disconnected`` if nothing can come."""
        buffer, context = self._buffer, self._context
        if context.nats.status() is Status.CLOSED and not context.drained:
            raise ConnectionClosedError("disconnected")
        waiter = context.waiter()
        buffer.waiters.append(waiter)
        deadline = None
        if timeout is not None:
            error = RequestTimeoutError(
                f"request timeout: {self._what} had nothing in {timeout:g} ms"
            )
            deadline = context.expire(timeout, waiter, error)
        try:
            await waiter
        except BaseException:
            if waiter in buffer.waiters:
                buffer.waiters.remove(waiter)
            elif self._items:  # woken for an item that another task may take now
                buffer.wake()
            raise
        finally:
            if deadline is not None:
                deadline.cancel()

    async def next(self, timeout: Milliseconds | None = None) -> Any:
        """Return the next item.

        Args:
            timeout: in ms or a timedelta; None: no limit.

        Raises:
            RequestTimeoutError: nothing has come in time.
            MsgIteratorClosedError: the iterator has ended.
            NatsError: what has ended it, such as `PermissionsViolationError` or ``disconnected``.
        """
        limit = None if timeout is None else milliseconds(timeout, "timeout")
        self._buffer.iterated = False
        try:
            return await self._next(limit)
        except StopAsyncIteration:
            raise MsgIteratorClosedError(f"{self._what} has ended") from None

    def close(self) -> None:
        """End the iterator and its source at once. What the iterator has is discarded."""
        self._context.on_loop(self._buffer.close)

    async def _enter(self) -> Any:
        return self

    async def _leave(self, *exc_info: object) -> None:
        self.close()


class Drained(Flow):
    """A flow whose source can end gracefully."""

    async def drain(self) -> None:
        """End the delivery; return when all that was on its way is here. The iterator still has it."""
        if not self._buffer.ended:
            await self._context.answer(self._buffer.drain)


class Subscription(Drained):
    """The messages of a subscription, as `Msg`. Ends by `unsubscribe`, `drain`, or with its client.

    Attributes:
        sid: the number of the subscription in its client.
        subject: as given to `subscribe`.
    """

    subject = ""
    sid = 0

    def _weigh(self, item: Any) -> int:
        return len(item.payload) + WEIGHT

    def _callback(self) -> Callable[..., None]:
        buffer = self._buffer
        context = buffer.context
        append, waiters = buffer.items.append, buffer.waiters

        def take(subject: str, payload: bytes, reply: str | None, headers: bytes | None) -> None:
            append(Msg(context, subject, payload, reply, headers))
            weight = len(payload) + WEIGHT
            buffer.room -= weight  # without a call between reading and writing: see `Flow._take`
            if buffer.room < 0 and not buffer.paused:
                buffer.hold()
            if waiters:
                buffer.wake()
            if buffer.left:
                buffer.left -= 1
                if not buffer.left:
                    buffer.finish(None)

        return take

    def _begin(self, handle: Any) -> None:
        self.sid = sid = handle
        nats, buffer = self._context.nats, self._buffer
        buffer.sid = sid
        info = nats.subscription_info(sid)
        self.subject = info["subject"] if info is not None else ""
        self._what = repr(self.subject)
        self._context.by_sid[sid] = buffer
        buffer.left = info["max_msgs"] if info is not None else 0
        buffer.stop = lambda: nats.unsubscribe(sid)
        buffer.drain_source = lambda cb: nats.drain_subscription(sid, cb)
        buffer.pause = lambda: nats.pause(sid)
        buffer.resume = lambda: nats.resume(sid)

    def unsubscribe(self, max_msgs: int | None = None) -> None:
        """End the subscription, at once or after a number of messages.

        At once: what the iterator has is discarded.

        Args:
            max_msgs: messages in all since subscribe; see `Nats.unsubscribe`. None and 0: at once.
        """
        if max_msgs:
            self._context.on_loop(self._context.unsubscribe, self.sid, max_msgs)
        else:
            self.close()


class Advisories(Subscription):
    """The servers' events, as `Advisory`. A message that is none is reported to on_error."""

    def _weigh(self, item: Any) -> int:
        return WEIGHT

    def _callback(self) -> Callable[..., None]:
        buffer = self._buffer

        def take(item: Any, error: NatsError | None) -> None:
            if error is not None:
                buffer.context.nats.report(error)
            else:
                buffer.put(item, WEIGHT)

        return take


class Answers(Flow):
    """The answers to a `request_many`, as `Msg`. Ends with the last of them."""

    def _callback(self) -> Callable[..., None]:
        buffer = self._buffer
        context = buffer.context

        def take(response: bytes | None, error: NatsError | None, headers: bytes | None) -> None:
            if response is None:
                buffer.finish(error)
            else:
                buffer.put(Msg(context, "", response, None, headers))

        return take

    def _begin(self, handle: Any) -> None:
        self._it = handle
        nats = self._context.nats
        self._what = f"request {handle}"
        self._buffer.stop = lambda: nats.cancel_request(handle)


class Messages(Drained):
    """The messages of a consumer, as `JsMsg`: acknowledge each."""

    _room = 256

    def _callback(self) -> Callable[..., None]:
        buffer = self._buffer
        convert = buffer.context.message

        def take(msg: Any, error: NatsError | None) -> None:
            if error is not None:
                buffer.finish(error)
            else:
                buffer.put(convert(msg))

        return take

    def _begin(self, handle: Any) -> None:
        super()._begin(handle)
        self._buffer.drain_source = handle.drain
        self._what = f"consumer {handle.name!r} of {handle.stream!r}"

    def _look(self) -> None:
        if self._it.closed:  # after stop_after messages
            self._buffer.finish(None)

    def stop(self) -> None:
        """End the iterator and the delivery at once: the same as `close`."""
        self.close()


class Larges(Drained):
    """Messages of any size, as `LargeMsg`."""

    def _weigh(self, item: Any) -> int:
        return len(item.payload) + WEIGHT

    def _callback(self) -> Callable[..., None]:
        buffer = self._buffer

        def take(msg: Any, error: NatsError | None) -> None:
            if error is not None:
                buffer.finish(error)
            else:
                buffer.put(msg, len(msg.payload) + WEIGHT)

        return take

    def _begin(self, handle: Any) -> None:
        super()._begin(handle)
        self._buffer.drain_source = handle.drain
        self._what = repr(handle.subject)

    def stop(self) -> None:
        """End the iterator and the subscription at once: the same as `close`."""
        self.close()


class Watched(Flow):
    """The entries of a watch. None marks the end of the initial data, once."""

    _room = 1024

    def _begin(self, handle: Any) -> None:
        super()._begin(handle)
        self._what = f"watch of {handle.bucket!r}"

    def stop(self) -> None:
        """End the iterator and the watch at once: the same as `close`."""
        self.close()


class Listed(Watched):
    """The keys of a list that comes one by one. Ends after the last key."""

    def _callback(self) -> Callable[..., None]:
        buffer = self._buffer

        def take(key: Any, error: NatsError | None) -> None:
            if error is not None or key is None:
                buffer.finish(error)
            else:
                buffer.put(key)

        return take


class Leaders(Watched):
    """Who leads, now and after each change; None: nobody does."""

    _room = 64

    def _begin(self, handle: Any) -> None:
        super()._begin(handle)
        self._what = f"observation of {handle.name!r}"


# The iterator for each name in `rules.FLOWS`.
BASES: dict[str, type[Flow]] = {
    "Subscription": Subscription,
    "Answers": Answers,
    "Advisories": Advisories,
    "Consume": Messages,
    "OrderedConsumer": Messages,
    "PushSubscription": Messages,
    "KvWatch": Watched,
    "KvKeys": Listed,
    "ObjectWatch": Watched,
    "SystemEvents": Advisories,
    "Leaders": Leaders,
    "GroupMember": Messages,
    "LargeSubscription": Larges,
}
