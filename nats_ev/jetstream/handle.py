"""`Handle`: the base of what `consume`, `ordered_consumer` and `push_subscribe` return.

A handle has only what a user may call. It holds its engine, which does the work and stays hidden.
"""

from __future__ import annotations

from typing import Any, Protocol

from ..arguments import Callback, ResultCallback, count


class Engine(Protocol):
    """What a `Handle` needs of its engine."""

    stream: str
    closed: bool

    @property
    def name(self) -> str:
        """The name of the consumer on the server."""

    @property
    def left(self) -> int | None:
        """How many messages are to be delivered before the next pause; None: any number."""

    def pause(self) -> None:
        """See `Handle.pause`."""

    def resume(self) -> None:
        """See `Handle.resume`."""

    def ask(self, msgs: int) -> None:
        """See `Handle.ask`."""

    def stop(self) -> None:
        """See `Handle.stop`."""

    def drain(self, cb: Callback | None) -> None:
        """See `Handle.drain`."""


class Handle:
    """A running delivery of a consumer's messages.

    `stream` is the stream's name.
    """

    def __init__(self, engine: Engine) -> None:
        self.stream = engine.stream
        self._engine: Any = engine

    def __repr__(self) -> str:
        state = "closed" if self.closed else "paused" if self.paused else "running"
        return f"<{type(self).__name__} {self.stream} {self.name} {state}>"

    @property
    def closed(self) -> bool:
        """Whether the delivery has ended: no callback follows."""
        return bool(self._engine.closed)

    @property
    def name(self) -> str:
        """The name of the consumer on the server."""
        return str(self._engine.name)

    @property
    def paused(self) -> bool:
        """Whether the delivery waits for `resume` or `ask`."""
        return self._engine.left == 0 and not self.closed

    def pause(self) -> None:
        """Deliver no message until `resume` or `ask`, not even one that has been received already.

        Messages that come meanwhile are kept, and delivered later in their order. The server's time to wait
        for their acknowledgements (ack_wait) runs on: what is kept for longer comes again. Nothing more is
        requested from the server. Lost connections and missed heartbeats are noticed as ever. An error that
        ends the delivery is still reported; one that the server has sent, after the messages that were kept
        before it. `stop`, the end of the client, and a consumer that is found missing discard what is kept;
        the server delivers that again if it can. `drain` and the client's drain deliver it. What was left of
        an `ask` is forgotten.
        """
        if not self.closed:
            self._engine.pause()

    def resume(self) -> None:
        """Deliver what was kept, in order and on the loop, then what comes; ends `pause` and `ask`."""
        if not self.closed:
            self._engine.resume()

    def ask(self, msgs: int) -> None:
        """Deliver a number of messages, then pause. Several calls add up.

        A program that takes messages at its own pace calls this on the new handle before the loop goes on,
        and again in the callback or later: then no more than was asked for is requested from a pull consumer
        at any time. During a drain all messages are delivered.

        Args:
            msgs: how many more; 0: none, so that the delivery begins paused.

        Raises:
            BadOptionsError: msgs is negative.
        """
        count(msgs, "msgs")
        if not self.closed:
            self._engine.ask(msgs)

    def stop(self) -> None:
        """End the delivery at once: no callback follows."""
        self._engine.stop()

    def drain(self, cb: ResultCallback[bool] | None = None) -> None:
        """End the delivery after the messages that are on their way.

        Then ``cb(True, None)``, or ``cb(None, err)`` if the connection was lost before. What was on its way
        then comes again to a later consumer of the same name; of an ordered consumer, `last_seq` says where
        to go on.
        """
        self._engine.drain(cb)
