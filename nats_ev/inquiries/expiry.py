"""A warning before credentials expire: `Nats.on_auth_expiring`.

A JWT says itself when it expires. A client without one asks its server after each connect, because an auth
callout may have given it a user that expires.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..arguments import Hook
from ..errors import NatsError
from ..net import Deadline
from ..status import Status
from ..times import SECOND
from .asker import Asker
from .user import ask_user


class Expiry:
    """Calls the callback of a client in time, once per connection.

    Args:
        nats: the client.
        hook: returns the callback as it is set now.
        before: returns how many ms before the expiry to call it.
        of_jwt: returns when the JWT of the connection expires, in seconds since 1970; None: unknown or never.
    """

    def __init__(
        self,
        nats: Asker,
        hook: Callable[[], Hook],
        before: Callable[[], float],
        of_jwt: Callable[[], tuple[bool, float | None]],
    ) -> None:
        self._nats = nats
        self._hook = hook
        self._before = before
        self._of_jwt = of_jwt
        self._due: Deadline | None = None
        self._connection = 0  # counts them, so that a late answer is known as one
        nats.add_status_listener(self._changed)
        if nats.is_connected():
            self._connected()

    def again(self) -> None:
        """Begin again after the callback was set, for the connection that exists."""
        self._cancel()
        if self._nats.is_connected():
            self._connected()

    def _changed(self, status: Status) -> None:
        if status is Status.CONNECTED:
            self._cancel()
            self._connected()
        elif status not in (Status.DRAINING_SUBS, Status.DRAINING_PUBS):
            self._cancel()

    def _cancel(self) -> None:
        self._connection += 1
        due, self._due = self._due, None
        if due is not None:
            due.cancel()

    def _connected(self) -> None:
        if self._hook() is None:
            return
        has_jwt, expires = self._of_jwt()
        if expires is not None:
            self._arm(expires - time.time())
        elif not has_jwt:
            self._nats.call_soon(self._ask, self._connection)

    def _ask(self, connection: int) -> None:
        def answered(data: dict[str, Any] | None, err: NatsError | None) -> None:
            if connection == self._connection and data is not None and data.get("expires"):
                self._arm(data["expires"] / SECOND)

        if connection == self._connection and self._nats.is_connected():
            try:
                ask_user(self._nats, answered, 5000)
            except NatsError:  # a drain has begun: no answer, and none is needed
                return

    def _arm(self, left: float) -> None:
        end = time.monotonic() + left
        # Halfway at the earliest: a callback that reconnects at once with credentials that live shorter than
        # the warning would do so without a pause.
        delay = max(left * 1000 - self._before(), left * 500, 0.0)
        self._due = self._nats.call_later(delay, self._call, end)

    def _call(self, end: float) -> None:
        self._due = None
        hook = self._hook()
        if hook is not None:
            hook(max(end - time.monotonic(), 0.0))
