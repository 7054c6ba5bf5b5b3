"""What the faces' classes have beyond those of the callback API, or in another way."""

from __future__ import annotations

from typing import Any

from ..client import Nats
from .context import Context
from .objects import Facing


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
    """The base of a face's `Service`. As a context manager it ends with `stop`."""

    async def stop(self) -> bool:
        """Stop the service; return True when all requests that the server has sent are handled.

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


# Methods that construct an object: its class takes this object first, then the method's arguments.
FACTORIES = {
    "Nats": {"jetstream": "JetStream", "service": "Service"},
    "JetStream": {"key_value": "KV", "object_store": "ObjectStore"},
}
# The base for each name in `rules.HOMES` that has one.
BASES: dict[str, type[Facing]] = {"Nats": Client, "JetStream": Streams, "Service": Handlers}
