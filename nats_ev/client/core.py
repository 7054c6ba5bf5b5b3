"""The parts behind `Nats` and their wiring.

`Nats` checks arguments and calls the parts; a part reports to `Core`, which knows all of them:

- `Connection` (in `connection/`) reports what happens on the wire, through the protocol
  `connection.Client`;
- `Subscriptions`, `Requests`, `Waits` and `Drain` have what the client keeps over connections. Each
  knows the connection and the parts that it uses, and `Core` only by a small protocol of its own
  (`Owner`).

`Core` also keeps a client alive while it is connected, or may be again, though its user has dropped it.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable, Iterator
from typing import Any

from .. import errors
from ..connection import Completion, Connection, Source
from ..instrumentation import Observers
from ..options import Options
from ..protocol import Outbound, Subscription
from ..status import Status
from ..steps import in_later_step
from .drain import Drain
from .requests import Requests
from .subscriptions import Subscriptions
from .waits import Waits

# The clients that are connected, connecting or waiting to reconnect. An entry keeps its client alive.
_live: set[Any] = set()


@atexit.register
def _at_exit() -> None:
    """Close all sockets and call nobody: the interpreter warns of sockets that are open at its end."""
    for nats in list(_live):
        try:
            nats._core.tell_what_never_ran()
            nats._core.connection.abandon()
        except Exception as exc:  # its loop is broken: the others must still be closed
            sys.excepthook(type(exc), exc, exc.__traceback__)


class Core:
    """The parts of one client. Also the `connection.Client` of its connection."""

    def __init__(self, options: Options, nats: object, observers: Observers | None = None) -> None:
        self.options = options
        self.out = Outbound()
        self.status_listeners: list[Callable[[Status], object]] = []
        self.error_listeners: list[Callable[[errors.NatsError], object]] = []
        self.drain: Drain | None = None
        by_sid: dict[int, Subscription] = {}
        self.connection = Connection(options.loop, options, self.out, by_sid, self, observers)
        self.subscriptions = Subscriptions(self.connection, options, by_sid, self)
        self.waits = Waits(self.connection)
        self.requests = Requests(self.connection, options, self.subscriptions, self)
        self._nats = nats
        at_close = getattr(options.loop, "at_close", None)
        if at_close is not None:
            at_close(self.loop_closed)

    @property
    def status(self) -> Status:
        """The client's status: that of the connection, or of a drain."""
        if self.drain is None or not self.connection.active:
            return self.connection.status
        return Status.DRAINING_PUBS if self.connection.refusing else Status.DRAINING_SUBS

    def tell_what_never_ran(self) -> None:
        """Say on stderr at the program's end that messages wait for a loop that nobody has run."""
        connection = self.connection
        unsent = self.out.accounting().waiting
        if unsent and not connection.ever_tried and not connection.guard.forked and sys.stderr:
            what = "1 message was" if unsent == 1 else f"{unsent} messages were"
            sys.stderr.write(f"nats_ev: {what} never sent: the loop has not run\n")

    def open(self) -> None:
        """Start connecting."""
        self.connection.guard.check()
        _live.add(self._nats)
        self.connection.open()
        if self.drain is not None:  # it waits for this connection, and ends with it
            self.connection.closing = True

    def loop_closed(self) -> None:
        """End at once, and call nobody: the loop has been closed."""
        self.connection.loop_closed()
        _live.discard(self._nats)

    def start_drain(self, cb: Completion | None) -> None:
        """Start a drain, or join the one that is under way."""
        drain = self.drain
        if drain is not None:
            drain.join(cb)
            return
        self.drain = drain = Drain(self.connection, self.options, self.subscriptions, self)
        self.connection.out.wants_notice = True
        self.requests.drain_began()
        drain.join(cb)
        drain.begin()
        self.status_changed()

    def drained(self) -> None:
        """Forget the drain, which is over."""
        self.drain = None
        self.requests.draining = False

    def drain_is(self, drain: Drain) -> bool:
        """Return whether drain is the one under way."""
        return self.drain is drain

    def under_way(self) -> bool:
        """Return whether a request or an operation of several steps has not ended."""
        return bool(len(self.requests) or self.waits.steps or self.subscriptions.exchanges)

    def inbox_closed(self) -> None:
        """Let the next request subscribe again: the subscription that all requests share has ended."""
        self.requests.inbox_closed()

    def refuse_if_draining(self) -> None:
        """Raise `ConnectionDrainingError` after `Nats.drain`, except in a later step of an operation."""
        if self.drain is not None and not in_later_step():
            raise errors.ConnectionDrainingError("connection is draining")

    # The methods of `connection.Client`.

    def report(self, error: errors.NatsError, ends: bool = False) -> None:
        """Give an error to the listeners and to on_error; without on_error, raise it out of the loop.

        Args:
            error: what has happened.
            ends: whether it ends the client for good: without on_error it comes out of `pyev.Loop.start`.
        """
        self.connection.journal.error(error)
        soon = self.connection.turn.soon
        for listener in self.error_listeners:
            soon(_tell, self.error_listeners, listener, error)
        if self.options.on_error is not None:
            soon(self._call_on_error, error, ends)
        else:
            self.connection.turn.throw(error, ends)

    def _call_on_error(self, error: errors.NatsError, ends: bool) -> None:
        """Give an error to the on_error of now; if it has been cleared meanwhile, raise the error."""
        if self.options.on_error is not None:
            self.options.on_error(error)
        else:
            self.connection.turn.throw(error, ends)

    def server_error(self, error: errors.ServerError) -> None:
        """Report an -ERR that leaves the connection open, and end the subscription that it names."""
        if isinstance(error, errors.PermissionsViolationError):
            sub = self.subscriptions.refused(error)
            if error.kind == "publish":
                self.requests.denied(error)
            if sub is not None:
                error.sid = sub.sid
                if sub.inbox is not None:
                    self.requests.inbox_refused(error)
        self.report(error)

    def live_subscriptions(self) -> Iterator[Subscription]:
        """Return the subscriptions that a new connection must restore.

        A drain needs them, too: queued messages go out before its UNSUBs, and may be for them.
        """
        return self.subscriptions.live()

    def waiting_requests(self) -> int:
        """Return how many requests wait for an answer."""
        return len(self.requests)

    def discarded(self, tags: list[int]) -> None:
        """Fail the requests with these tags: they will not be sent."""
        self.requests.discarded(tags)

    def completions(self) -> list[Source]:
        """Return (order of the call, completion) for all that can no longer succeed, except PINGs."""
        sources = self.requests.take_all()
        if not self.connection.active:
            # Before the drain's: it drops all subscriptions, which ends their own drains as successful.
            sources.append(self.subscriptions.completions())
            sources.append(self.waits.take_all())
        if self.drain is not None:
            sources.append(self.drain.completions())
        return sources

    def status_changed(self) -> None:
        """Call the status listeners, before the on_* callbacks."""
        status = self.status
        for listener in self.status_listeners:
            self.connection.turn.soon(_tell, self.status_listeners, listener, status)

    def before_write(self) -> None:
        """Change what is about to be written: remove requests that timed out, frame a drain's UNSUBs."""
        self.connection.out.wants_notice = self.drain is not None
        if self.requests.withdrawn:
            self.requests.purge()
        if self.drain is not None and self.connection.connected:
            self.drain.before_write()

    def ended(self) -> None:
        """Let go of the client, which has no connection and will have none.

        What waits for its time ends here, before the last callbacks: they may call call_later.
        """
        self.connection.deadlines.stop()
        self.connection.mailbox.close()
        self.connection.turn.soon(self._release)

    def _release(self) -> None:
        # A callback that ran before may have called connect().
        if not self.connection.active:
            self.subscriptions.go_on()
            _live.discard(self._nats)


def _tell(
    listeners: list[Callable[[Any], object]], listener: Callable[[Any], object], news: Any
) -> None:
    """Call a listener, unless it has been removed since the event."""
    if listener in listeners:
        listener(news)
