"""The way to a connection: when an attempt begins, its socket, and how long it may take in all.

Which server comes next, and after what delay, is `pool`' matter; what becomes of the socket, and of
a failure, the connection's.
"""

from __future__ import annotations

import socket
from typing import Any, Protocol

from .. import errors
from ..net import Deadline, Deadlines, Dialer, Resolver
from ..options import Options
from .pool import ServerPool

# So many portions of subscriptions (some 40,000 of them) may take the server one connect_timeout more.
_PORTIONS_PER_LIMIT = 16
# Into so many parts the time of an attempt is divided.
_SHARES = 8


class Owner(Protocol):
    """What attempts need of their connection."""

    def dialed(self, sock: socket.socket) -> None:
        """The server has taken the call; the handshake is next, within the attempt's time."""

    def failed(self, error: errors.NatsError) -> None:
        """It could not be called, or has not completed the handshake in time."""


class Attempts:
    """One attempt at a time to reach the pool's current server."""

    def __init__(
        self, loop: Any, options: Options, deadlines: Deadlines, pool: ServerPool, owner: Owner
    ) -> None:
        self._loop = loop
        self._options = options
        self._deadlines = deadlines
        self._pool = pool
        self._owner = owner
        self._resolver = Resolver(loop)
        self._dialer: Dialer | None = None
        self._due: Deadline | None = None
        self._limit: Deadline | None = None
        self._portions = 0  # of the handshake: there are several when there are many subscriptions

    @property
    def waiting(self) -> bool:
        """The next one has not begun."""
        return self._due is not None

    def plan(self, delay: float) -> None:
        """Begin in so many ms, never in this call."""
        self._due = self._deadlines.after(delay / 1000, self._begin)

    def progress(self) -> None:
        """Another portion of the handshake has gone out: many subscriptions take their time, which is
        not the server's fault."""
        self._portions += 1
        self._set_limit()

    def reached(self) -> None:
        """The handshake is complete."""
        self._deadlines.end(self._limit)
        self._limit = None

    def abandon(self) -> None:
        """Forget the one that waits or is under way."""
        self._deadlines.end(self._due)
        self._due = None
        self.reached()
        if self._dialer is not None:
            self._dialer.cancel()
            self._dialer = None

    def forked(self) -> None:
        """In the child of a fork: the loop and its watchers may be shared, they are left alone."""
        dialer, self._dialer = self._dialer, None
        if dialer is not None:
            dialer.forked()

    def _begin(self) -> None:
        self._due = None
        self._portions = 0
        server = self._pool.current
        assert server is not None
        self._set_limit()
        self._dialer = dialer = Dialer(
            self._loop,
            self._resolver,
            self._deadlines,
            self._dialed,
            keepalive=self._options.keepalive,
            priority=self._options.priority,
            timeout=self._options.connect_timeout / 1000,
            shuffle=self._options.randomize_servers,
        )
        if server.path is not None:
            dialer.unix(server.path)
        else:
            dialer.tcp(server.host, server.port)

    def _set_limit(self) -> None:
        self._deadlines.end(self._limit)
        # Portions are out long before the server has worked them off: it gets time for those, too.
        timeout = self._options.connect_timeout / 1000 * (1 + self._portions // _PORTIONS_PER_LIMIT)
        if timeout:
            self._count_down(timeout / _SHARES, _SHARES)

    def _count_down(self, share: float, left: int) -> None:
        """In shares: while a callback holds up the loop only one of them passes, not the server's time."""
        if left:
            self._limit = self._deadlines.after(share, lambda: self._count_down(share, left - 1))
        else:
            self._owner.failed(errors.ConnectTimeoutError("connect timeout"))

    def _dialed(self, result: socket.socket | OSError) -> None:
        self._dialer = None
        if isinstance(result, OSError):
            error = errors.ConnectError(result.strerror or str(result))
            error.__cause__ = result
            self._owner.failed(error)
        else:
            self._owner.dialed(result)
