"""What the classes of all faces are based on: an object of the callback API and the context of its client.

`Client` and its like have what a face has beyond the callback API, or in another way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from ..arguments import Milliseconds, milliseconds
from ..client import Nats
from ..errors import NatsError, RequestTimeoutError
from .context import Awaited, Context, context_of, settle

if TYPE_CHECKING:
    from typing_extensions import Self


def unwrap(thing: Any) -> Any:
    """Return the object of the callback API of a face's object; anything else is returned as it is."""
    return thing._it if isinstance(thing, Facing) else thing


class Facing:
    """An object of a face: `_it` does the work."""

    _context: Context
    _it: Any
    _callee: Any
    # Of the classes that `build` makes: the class of `_it`, and the context for what an object is made from.
    _original: ClassVar[type]
    _context_for: ClassVar[Callable[[Any], Context]]
    # Gives the callbacks of a new object to the face: ``_adapt(context, args, options)`` returns args.
    _adapt: ClassVar[Callable[..., tuple[Any, ...]]]

    def __init__(self, owner: Any, /, *args: Any, **options: Any) -> None:
        """owner: what the class of the callback API takes first, of this face or of that API."""
        context = type(self)._context_for(owner)
        args = type(self)._adapt(context, args, options)
        options = {name: unwrap(value) for name, value in options.items()}
        self._set(context.on_loop(self._original, unwrap(owner), *args, **options), context)

    @classmethod
    def _of(cls, it: Any, context: Context) -> Self:
        """Return the face of an object that exists."""
        made = cls.__new__(cls)
        made._set(it, context)
        return made

    def _set(self, it: Any, context: Context) -> None:
        self._it = self._callee = it
        self._context = context

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} of {self._it!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Facing) and other._it is self._it

    def __hash__(self) -> int:
        return hash(id(self._it))

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the object of the callback API; that of one with a face as such."""
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = getattr(self._it, name)
        return value if name == "nats" else self._context.face.wrap(value, self._context)


class MessageFace:
    """The base of the face of `JsMsg`, which is a subclass of that."""

    __slots__ = ()
    _nats: Any

    @property
    def _context(self) -> Context | None:
        return context_of(self._nats) if self._nats is not None else None

    @property
    def _callee(self) -> Any:
        return super()


class Later:
    """A result that will come, in a face that blocks. It is the cb of the callback API's method."""

    __slots__ = ("_answer", "_context", "_waiters")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._answer: tuple[Any, NatsError | None] | None = None
        self._waiters: list[Awaited] = []

    def __call__(self, result: Any, error: NatsError | None) -> None:
        """Take the result."""
        self._answer = result, error
        for waiter in self._waiters:
            settle(waiter, None, None)

    def __repr__(self) -> str:
        return f"<Later {'done' if self.done() else 'pending'}>"

    def done(self) -> bool:
        """Return whether there is a result or an error."""
        return self._answer is not None

    def result(self, timeout: Milliseconds | None = None) -> Any:
        """Wait for the result and return it, or raise the error.

        Args:
            timeout: in ms or a timedelta; None: no limit.

        Raises:
            RequestTimeoutError: nothing has come in time; the result may be asked for again.
        """
        limit = None if timeout is None else milliseconds(timeout, "timeout")
        if self._answer is None:
            self._context.run(self._wait(limit))
        assert self._answer is not None
        result, error = self._answer
        if error is not None:
            raise error.with_traceback(None)
        return result

    async def _wait(self, timeout: float | None) -> None:
        if self._answer is not None:
            return
        waiter = self._context.waiter()
        self._waiters.append(waiter)
        deadline = None
        if timeout is not None:
            error = RequestTimeoutError(f"request timeout: no result in {timeout:g} ms")
            deadline = self._context.expire(timeout, waiter, error)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)
            if deadline is not None:
                deadline.cancel()


class Client(Facing):
    """The base of a face's `Nats`.

    As a context manager it ends with `drain`; at once when an exception like KeyboardInterrupt or a
    cancellation leaves the block.
    """

    def _set(self, it: Any, context: Context) -> None:
        super()._set(it, context)
        if context.direct:  # the methods in C, without a call of Python before each
            self.publish = self.pub = it.publish
            self.hpublish = self.hpub = it.hpublish

    @property
    def nats(self) -> Nats:
        """The object of the callback API."""
        return self._it  # type: ignore[no-any-return]

    def unsubscribe(self, sid: int, max_msgs: int | None = None) -> None:
        """End a subscription, at once or after a number of messages; its iterator ends, too.

        Args:
            sid: an unknown one is ignored.
            max_msgs: messages in all since subscribe; see `Subscription.unsubscribe`.
        """
        self._context.on_loop(self._context.unsubscribe, sid, max_msgs)

    unsub = unsubscribe

    async def drain_subscription(self, sid: int) -> None:
        """End a subscription gracefully; return when all that the server has sent for it is here.

        Args:
            sid: for an unknown one this returns at once.

        Raises:
            NatsError: the connection was lost before.
        """
        buffer = self._context.by_sid.get(sid)
        if buffer is not None:
            await self._context.answer(buffer.drain)
        else:
            await self._context.answer(self._it.drain_subscription, sid)

    async def drain(self) -> None:
        """End the client gracefully; return when that is done.

        First the iterators that other tasks wait for end, when these tasks have taken all messages. Then
        the client is drained; see `Nats.drain` of the callback API. Raises `DrainTimeoutError`,
        `NotConnectedError`.
        """
        await self._context.drain()

    async def _enter(self) -> Any:
        return self

    async def _leave(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        await self._context.leave(error)


class Streams(Facing):
    """The base of a face's `JetStream`."""


class Handlers(Facing):
    """The base of a face's `Service` and `AuthCallout`. As a context manager it ends with `stop`."""

    async def stop(self) -> bool:
        """Stop answering; return True when all requests that the server has sent are handled.

        Handlers that are tasks of their own have ended by then. The client stays connected. Raises what
        has ended the connection before.
        """
        result: bool = await self._context.answer(self._it.stop)
        await self._context.until_idle()
        return result

    async def _enter(self) -> Any:
        return self

    async def _leave(self, *exc_info: object) -> None:
        await Handlers.stop(self)


class Claiming(Facing):
    """The base of what waits for a turn and has it."""

    async def _claim(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call ``method(*args, cb)`` and wait for the turn. Who stops waiting does not keep a turn either."""
        waiter = self._context.waiter()
        claim = method(*args, lambda token, error: settle(waiter, token, error), **options)
        try:
            return await waiter
        except BaseException:
            claim.stop()
            self._give_back()
            raise

    def _give_back(self) -> None:
        """Release what has been acquired while the task was being cancelled."""


class Holding(Claiming):
    """The base of a face's `Lock` and `Semaphore`. As a context manager it acquires, and releases at the end.

    The end of the block raises `LeaseLostError`, or what else has taken the lock away, if no other
    exception leaves the block.
    """

    def _give_back(self) -> None:
        self._it.release()

    async def acquire(self, *, timeout: Milliseconds | None = None) -> int:
        """Wait until it is this object's turn; return the fencing token.

        A cancelled call gives up its place in the queue, or releases what it has got by then.

        Args:
            timeout: in ms or a timedelta; None: no limit.

        Raises:
            RequestTimeoutError: the timeout has passed.
            NotReentrantError: this object holds already, or waits.
            NatsError: the client has ended, the object was closed, or the bucket refuses the ticket.
        """
        token: int = await self._claim(self._it.acquire, timeout=timeout)
        return token

    async def try_acquire(self) -> int | None:
        """Acquire if nobody holds or waits for all places; return the fencing token, else None.

        Raises as `acquire`.
        """
        token: int | None = await self._claim(self._it.try_acquire)
        return token

    async def _enter(self) -> Any:
        await Holding.acquire(self)
        return self

    async def _leave(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        lost: NatsError | None = self._it.lost
        with contextlib.suppress(NatsError):  # else the lease ends by itself
            await self._context.answer(self._it.release)
        if error is None and lost is not None:
            raise lost


class Standing(Claiming):
    """The base of a face's `Election`. As a context manager it ends with `resign`."""

    async def campaign(self) -> int:
        """Stand for election until `resign`; return the fencing token at the first victory.

        A cancelled call resigns.

        Raises:
            NotReentrantError: it stands or leads already.
            NatsError: as of `Lock.acquire`.
        """
        token: int = await self._claim(self._it.campaign)
        return token

    async def _enter(self) -> Any:
        return self

    async def _leave(self, *exc_info: object) -> None:
        with contextlib.suppress(NatsError):
            await self._context.answer(self._it.resign)


# Methods that construct an object: its class takes this object first, then the method's arguments.
FACTORIES = {
    "Nats": {"jetstream": "JetStream", "service": "Service"},
    "JetStream": {"key_value": "KV", "object_store": "ObjectStore"},
}
# The base for each name in `rules.HOMES` that has one.
BASES: dict[str, type[Facing]] = {
    "Nats": Client,
    "JetStream": Streams,
    "Service": Handlers,
    "AuthCallout": Handlers,
    "Lock": Holding,
    "Semaphore": Holding,
    "Election": Standing,
}
