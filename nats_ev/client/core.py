"""What a `Nats` is made of, out of its user's sight: the parts, and what they tell each other."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from typing import Any

from .. import errors
from ..connection import Completion, Connection
from ..options import Options
from ..protocol import Outbound, Subscription
from ..status import Status
from .drain import Drain
from .requests import Requests
from .subscriptions import Subscriptions
from .waits import Waits

# A client that is connected, or on the way there, lives on when its user has dropped it.
_live: set[Any] = set()


@atexit.register
def _at_exit() -> None:
    """Close what is open, without a word to anybody: the interpreter would warn of it."""
    for nats in list(_live):
        nats._core.connection.abandon()


class Core:
    """See the module's docstring. Also the `connection.Client` of the connection."""

    def __init__(self, options: Options, nats: object) -> None:
        self.options = options
        self.out = Outbound()
        self.listeners: list[Callable[[Status], object]] = []
        self.error_listeners: list[Callable[[errors.NatsError], object]] = []
        self.drain: Drain | None = None
        by_sid: dict[int, Subscription] = {}
        self.connection = Connection(options.loop, options, self.out, by_sid, self)
        self.subscriptions = Subscriptions(self.connection, options, by_sid, self)
        self.waits = Waits(self.connection)
        self.requests = Requests(self.connection, options, self.subscriptions, self)
        self._nats = nats

    @property
    def status(self) -> Status:
        """What the client is doing."""
        if self.drain is None:
            return self.connection.status
        return Status.DRAINING_PUBS if self.connection.refusing else Status.DRAINING_SUBS

    def open(self) -> None:
        """Start connecting."""
        _live.add(self._nats)
        self.connection.open()

    def start_drain(self, cb: Completion | None) -> None:
        """Begin a drain, or join it."""
        drain = self.drain
        if drain is not None:
            drain.join(cb)
            return
        self.drain = drain = Drain(self.connection, self.options, self.subscriptions, self)
        self.requests.refuse()
        drain.join(cb)
        drain.begin()
        self.status_changed()

    def drained(self) -> None:
        """The drain is over."""
        self.drain = None

    def inbox_closed(self) -> None:
        """The subscription that all requests share has ended."""
        self.requests.inbox_closed()

    def refuse_if_draining(self) -> None:
        """For what cannot be done any more."""
        if self.drain is not None:
            raise errors.ConnectionDrainingError("connection is draining")

    # What the connection tells; see `connection.Client`.

    def report(self, error: errors.NatsError) -> None:
        """An error for on_error; without one it comes out of the loop callback."""
        for listener in self.error_listeners:
            self.connection.turn.soon(listener, error)
        if self.options.on_error is not None:
            self.connection.turn.soon(self.options.on_error, error)
        else:
            self.connection.turn.throw(error)

    def server_error(self, error: errors.ServerError) -> None:
        """An -ERR that leaves the connection open: end the subscription that it names."""
        if isinstance(error, errors.PermissionsViolationError):
            sub = self.subscriptions.refused(error)
            if sub is not None:
                error.sid = sub.sid
                if sub.inbox is not None:
                    self.requests.inbox_refused(error)
        self.report(error)

    def live_subscriptions(self) -> Iterator[Subscription]:
        """What a new connection must restore.

        For a drain, too: it follows the queue, whose messages some of them may be waiting for.
        """
        return self.subscriptions.live()

    def waiting_requests(self) -> int:
        """How many requests wait for an answer."""
        return len(self.requests)

    def discarded(self, tags: list[int]) -> None:
        """These requests will not be sent."""
        self.requests.discarded(tags)

    def completions(self) -> Iterator[tuple[int, Completion]]:
        """What can no longer succeed, other than fences."""
        yield from self.requests.take_all()
        if self.drain is not None:
            yield from self.drain.completions()
        if not self.connection.active:
            yield from self.subscriptions.completions()
            yield from self.waits.take_all()

    def status_changed(self) -> None:
        """Tell the listeners, before the on_* callbacks."""
        status = self.status
        for listener in self.listeners:
            self.connection.turn.soon(listener, status)

    def before_write(self) -> None:
        """The last moment to change what is about to be written."""
        if self.requests.withdrawn:
            self.requests.purge()
        if self.drain is not None and self.connection.connected:
            self.drain.before_write()

    def ended(self) -> None:
        """No connection and none coming."""
        self.connection.turn.soon(self._release)

    def _release(self) -> None:
        if not self.connection.active:
            self.connection.deadlines.stop()
            self.subscriptions.go_on()
            _live.discard(self._nats)
