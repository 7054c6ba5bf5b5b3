"""`Handle`: the base of what `consume`, `ordered_consumer` and `push_subscribe` return.

A handle has only what a user may call. It holds its engine, which does the work and stays hidden.
"""

from __future__ import annotations

from typing import Any, Protocol

from ..arguments import Callback


class Engine(Protocol):
    """What a `Handle` needs of its engine."""

    stream: str
    closed: bool

    @property
    def name(self) -> str:
        """The name of the consumer on the server."""

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
        state = "closed" if self.closed else "running"
        return f"<{type(self).__name__} {self.stream} {self.name} {state}>"

    @property
    def closed(self) -> bool:
        """Whether the delivery has ended: no callback follows."""
        return bool(self._engine.closed)

    @property
    def name(self) -> str:
        """The name of the consumer on the server."""
        return str(self._engine.name)

    def stop(self) -> None:
        """End the delivery at once: no callback follows."""
        self._engine.stop()

    def drain(self, cb: Callback | None = None) -> None:
        """End the delivery after the messages that are on their way.

        Then ``cb(True, None)``, or ``cb(None, err)`` if the connection was lost before. What was on its way
        then comes again to a later consumer of the same name; of an ordered consumer, `last_seq` says where
        to go on.
        """
        self._engine.drain(cb)
