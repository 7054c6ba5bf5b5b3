"""The handle of an ordered consumer, and what the buckets ask of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .handle import Handle
from .message import Metadata


class OrderedConsumer(Handle):
    """The handle of a running `JetStream.ordered_consumer`: `stop` and `drain` end it.

    `stream` is the stream's name, `name` that of the present consumer on the server, which is deleted at the
    end.
    """

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"at {self.last_seq}"
        return f"<{type(self).__name__} {self.stream} {state}>"

    @property
    def last_seq(self) -> int:
        """The stream sequence of the last message delivered, or the one before the first to come."""
        return self._engine.position or 0

    @property
    def resets(self) -> int:
        """How often the consumer on the server was replaced."""
        return int(self._engine.resets)


def finish_in_drain(consumer: OrderedConsumer) -> None:
    """Let drains wait for the end of a consumer that has just been begun; see `end_with_drain`."""
    consumer._engine.hold_drain()


def end_with_drain(consumer: OrderedConsumer) -> None:
    """Let drains end a consumer from now on, in spite of `finish_in_drain`."""
    consumer._engine.end_with_drain()


def messages_left(consumer: OrderedConsumer) -> int | None:
    """Return how many messages are to be delivered before the next pause; None: any number."""
    left: int | None = consumer._engine.left
    return left


def follow_snapshot(
    consumer: OrderedConsumer,
    restarted: Callable[[Any], object],
    skipped: Callable[[Metadata], object],
) -> None:
    """Tell how the snapshot of a last_per_subject consumer goes on when its consumer is replaced.

    Args:
        consumer: one that has just been begun.
        restarted: ``restarted(info)`` when a new snapshot takes the place of one that was not over.
        skipped: ``skipped(metadata)`` for each message of it that is not delivered a second time.
    """
    engine = consumer._engine
    engine.restarted, engine.skipped = restarted, skipped
