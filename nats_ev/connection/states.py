"""The states of a connection, what leads from one to the next, and what a connection tells its client.

`TRANSITIONS` is the whole machine; `Connection` changes its status in no other way than by an event of
it, and docs/contributing.md draws it. A pair that is missing is a fault of ours: `next_status` raises.

While a client drains it shows DRAINING_SUBS and DRAINING_PUBS instead; below them the connection is
CONNECTED, CONNECTING or RECONNECTING as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Protocol

from .. import errors
from ..protocol import Subscription
from ..status import Status
from .pings import Source


class Event(Enum):
    """What happens to a connection."""

    OPEN = "connect() was called"
    WAIT = "the next attempt is made after a delay"
    READY = "the handshake is complete"
    LOST = "the connection broke, and another one is wanted"
    END = "no connection, and none is coming: disconnect(), the end of drain(), refused, gave up"
    ABANDON = "the process exits or has forked, or its loop was closed: nothing is reported"


_ACTIVE = (Status.CONNECTING, Status.CONNECTED, Status.RECONNECTING)

TRANSITIONS: dict[tuple[Status, Event], Status] = {
    (Status.DISCONNECTED, Event.OPEN): Status.CONNECTING,
    (Status.CLOSED, Event.OPEN): Status.CONNECTING,
    (Status.RECONNECTING, Event.OPEN): Status.CONNECTING,
    (Status.CONNECTING, Event.WAIT): Status.RECONNECTING,
    (Status.RECONNECTING, Event.WAIT): Status.RECONNECTING,
    (Status.CONNECTING, Event.READY): Status.CONNECTED,
    (Status.RECONNECTING, Event.READY): Status.CONNECTED,
    (Status.CONNECTED, Event.LOST): Status.RECONNECTING,
    **{(status, Event.END): Status.CLOSED for status in _ACTIVE},
    **{(status, Event.ABANDON): Status.CLOSED for status in (*_ACTIVE, Status.DISCONNECTED)},
    (Status.CLOSED, Event.ABANDON): Status.CLOSED,
}


def next_status(status: Status, event: Event) -> Status:
    """Return the status that follows. Raises RuntimeError for an event that can't happen in this status."""
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise RuntimeError(f"{event.name} cannot happen to a {status.value} connection") from None


class Client(Protocol):
    """What a connection needs of its client."""

    def report(self, error: errors.NatsError, ends: bool = False) -> None:
        """Give an error to on_error; ends: no connection is coming after it."""

    def server_error(self, error: errors.ServerError) -> None:
        """Deal with an -ERR that leaves the connection open."""

    def live_subscriptions(self) -> Iterator[Subscription]:
        """Return what a new connection must restore."""

    def waiting_requests(self) -> int:
        """Return how many requests wait for an answer."""

    def discarded(self, tags: list[int]) -> None:
        """Fail the requests with these tags: the server would not accept them."""

    def completions(self) -> list[Source]:
        """Take out the callbacks of what can no longer succeed."""

    def status_changed(self) -> None:
        """Take note that `Connection.status` has a new value."""

    def before_write(self) -> None:
        """Change what is about to be written, if it must be: this is the last moment."""

    def ended(self) -> None:
        """Take note that no connection is coming; all completions have been put off before this."""
