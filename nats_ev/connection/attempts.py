"""Attempts at a connection: when one begins, its socket, and how long it may take in all.

The pool chooses the server and the delay before it; the connection makes a handshake of the socket, and
decides what a failure means. One connect_timeout covers everything from the name's look-up to the
handshake's PONG.

An attempt begins after the calls that a loss has put off, on_disconnect included, which may take many
iterations of the loop: see `Turn`. If some are left when its time has come, it joins the end of their queue.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from .. import errors
from ..instrumentation import Journal
from ..loops import Loop
from ..net import Deadline, Deadlines, Guard, Refs, Resolver, Turn
from ..options import Options
from ..protocol import ServerInfo
from ..redact import drop_frames
from .pool import ServerPool
from .route import Route
from .server import Server

# Each 16 portions of the handshake (about 40,000 SUBs) extend the attempt by one connect_timeout.
_PORTIONS_PER_LIMIT = 16
# The timeout runs as 8 timers, one after the other, so that a callback that blocks the loop for
# long costs an attempt at most one of them: it is not the server's fault.
_SHARES = 8


class Owner(Protocol):
    """What attempts need of their connection."""

    guard: Guard
    journal: Journal

    def dialed(self, sock: socket.socket) -> None:
        """Begin the handshake on a connected socket, within the attempt's time."""

    def failed(self, error: errors.NatsError) -> None:
        """End the attempt: no socket could be connected."""

    def timed_out(self) -> None:
        """End the attempt, which takes too long."""


class Attempts:
    """Makes one attempt at a time to reach the pool's current server."""

    def __init__(
        self,
        loop: Loop,
        options: Options,
        deadlines: Deadlines,
        turn: Turn,
        pool: ServerPool,
        owner: Owner,
        refs: Refs,
    ) -> None:
        self._loop = loop
        self._refs = refs
        self._options = options
        self._deadlines = deadlines
        self._turn = turn
        self._pool = pool
        self._owner = owner
        self._resolver = Resolver(loop, refs=refs)
        self._route: Route | None = None
        self._tried: list[str] = []  # by the route that has come to its end
        self._due: Deadline | None = None
        self._question: Any = None  # the arguments of `ask`, while its callbacks are to be called
        self.asking = False  # these are running
        self.hurried = False  # and one of them has asked for an attempt at once
        self._limit: Deadline | None = None
        self._portions = 0  # of the handshake: there are several when there are many subscriptions
        self._began_at = float("-inf")  # when the last attempt began

    @property
    def waiting(self) -> bool:
        """Whether an attempt is planned and has not begun."""
        return self._due is not None

    @property
    def tried(self) -> list[str]:
        """What this attempt has begun with: numeric addresses, or the proxy."""
        return self._tried if self._route is None else self._route.tried

    @property
    def began(self) -> bool:
        """Whether an attempt has ever begun."""
        return self._began_at > float("-inf")

    def ask(
        self,
        info: ServerInfo | None,
        report: Callable[[errors.NatsError], None],
        plan: Callable[[Server | None, float | None], None],
    ) -> None:
        """Let the user choose the next server and the delay, as soon as an attempt could begin.

        Until then an attempt counts as planned.

        Args:
            info: of the last server.
            report: takes the error for a bad choice.
            plan: called with the choice of `ServerPool.ask`, unless the user's callbacks have planned
                something else, or have ended the client.
        """
        self.plan(0.0)
        self._question = info, report, plan

    def plan(self, delay: float, least: float = 0.0) -> None:
        """Begin an attempt in so many ms, never in this call.

        Args:
            delay: ms from now.
            least: ms that must have passed since the last attempt began; 0: none.
        """
        self._question = None
        since = (self._deadlines.clock() - self._began_at) * 1000
        self._due = self._deadlines.after(max(delay, least - since) / 1000, self._begin)

    def progress(self) -> None:
        """Give the server more time: another portion of a handshake with many subscriptions has gone out."""
        self._portions += 1
        self._set_limit()

    def reached(self) -> None:
        """Stop the attempt's timer: the handshake is complete."""
        self._deadlines.end(self._limit)
        self._limit = None

    def abandon(self) -> None:
        """Give up the attempt that is planned or under way, if there is one."""
        self._deadlines.end(self._due)
        self._due = None
        self.reached()
        if self._route is not None:
            self._route.cancel()
            self._route = None

    def forked(self) -> None:
        """Cut the dialled socket off from the parent's, in the child of a fork; the loop may be shared."""
        route, self._route = self._route, None
        if route is not None:
            route.forked()

    def _begin(self) -> None:
        if self._turn.busy:
            self._turn.soon(self._begin_now, self._due)
        else:
            self._begin_now(self._due)

    def _begin_now(self, planned: Deadline | None) -> None:
        """Begin the attempt, unless it has been given up, or planned again, since it was put off."""
        if planned is None or planned is not self._due:
            return
        if self._question is not None:
            self._put_question(planned, *self._question)
            return
        self._due = None
        self._portions = 0
        self._tried = []
        self._began_at = self._deadlines.clock()
        server = self._pool.current
        assert server is not None
        self._owner.journal.attempt(server.url)
        self._set_limit()
        self._route = route = Route(
            self._loop, self._options, self._deadlines, self._turn, self._owner.guard,
            self._resolver, self._refs, self._dialed,
        )  # fmt: skip
        route.begin(server)

    def _put_question(
        self,
        planned: Deadline,
        info: ServerInfo | None,
        report: Callable[[errors.NatsError], None],
        plan: Callable[[Server | None, float | None], None],
    ) -> None:
        chosen: tuple[Server | None, float | None] = (None, None)
        self.asking, self.hurried = True, False
        try:
            chosen = self._pool.ask(info)
        except errors.BadOptionsError as exc:
            drop_frames(exc)
            report(exc)
        except BaseException as exc:
            self._turn.failed(exc)
        finally:  # also if it stops the loop
            self.asking = False
            if planned is self._due:
                plan(*chosen)
            self.hurried = False

    def _set_limit(self) -> None:
        self._deadlines.end(self._limit)
        # Portions are written long before the server has worked them off.
        timeout = self._options.connect_timeout / 1000 * (1 + self._portions // _PORTIONS_PER_LIMIT)
        if timeout:
            self._count_down(timeout / _SHARES, _SHARES)

    def _count_down(self, share: float, left: int) -> None:
        """Wait for one share of the timeout, then for the next; after the last one the attempt fails."""
        if left:
            self._limit = self._deadlines.after(share, lambda: self._count_down(share, left - 1))
        elif self._route is not None and self._route.waits_for:
            why = f"{self._route.waits_for}: {errors.ConnectTimeoutError.text}"
            self._owner.failed(errors.ConnectTimeoutError(why))
        else:
            self._owner.timed_out()

    def _dialed(self, result: socket.socket | errors.NatsError) -> None:
        if self._route is not None:
            self._tried = self._route.tried
        self._route = None
        if isinstance(result, errors.NatsError):
            self._owner.failed(result)
        else:
            self._owner.dialed(result)
