"""`Inquiries`: the methods of `Nats` that ask servers about the client and its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, cast

from ..arguments import Milliseconds, Payload, ResultCallback, check_result_cb, milliseconds
from ..connection import Connection
from ..errors import NotConnectedError, UnsupportedError
from ..headers import HeadersLike
from ..options import Options
from .report import Trace

if TYPE_CHECKING:
    from .asker import Asker
    from .expiry import Expiry
    from .trace import Tracing
else:
    Expiry = Tracing = Any  # loaded when they are needed

# The first nats-server that traces. An older one would deliver the message.
_TRACES = (2, 11)


class SubjectPermissions(TypedDict, total=False):
    """Which subjects a user may publish or subscribe to."""

    allow: list[str]
    deny: list[str]


class UserPermissions(TypedDict, total=False):
    """What a user may do."""

    publish: SubjectPermissions
    subscribe: SubjectPermissions
    responses: dict[str, int]


class UserInfo(TypedDict, total=False):
    """What `Nats.user_info` tells; expires in ns."""

    user: str
    account: str
    account_name: str
    user_name: str
    permissions: UserPermissions
    expires: int


class Inquiries:
    """Methods of the class `Nats`."""

    _options: Options
    _connection: Connection
    _expiry: Expiry | None = None

    def user_info(self, cb: ResultCallback[UserInfo], timeout_ms: Milliseconds = 5000) -> None:
        """Ask the server who this client is and what it may do.

        Args:
            cb: ``cb(result, err)``. result is the server's JSON: user, account, account_name; if they are
                restricted, permissions (publish and subscribe, each with allow and deny); if it ends,
                expires, the ns that are left. err: as for `request`; `PermissionsViolationError` if
                the client may not publish to ``$SYS.REQ.USER.INFO``.
            timeout_ms: in ms or a timedelta; 0: no limit.

        Raises what `request` raises.
        """
        from .user import ask_user  # here and below: few programs need these modules

        ask_user(cast("Asker", self), cb, timeout_ms)

    def trace(
        self,
        subject: str,
        payload: Payload,
        cb: ResultCallback[Trace],
        timeout_ms: Milliseconds = 5000,
        *,
        headers: HeadersLike | None = None,
        deliver: bool = False,
    ) -> Tracing | None:
        """Publish a message of which each server on its way reports what it does with it (ADR-41).

        The message is delivered to nobody and into no stream, unless deliver is true. Needs nats-server
        2.11. Accounts on the way report only if their exports and imports allow it. A report from across a
        gateway is lost while that has not learnt of this client's inbox: then trace again.

        Args:
            subject, payload, headers: as for `publish`.
            cb: ``cb(result, err)``. result is a `Trace`: a dict, and by ``str`` the tree as text; its
                ``complete`` is false if some report has not come in time. err: `RequestTimeoutError` if
                none has; `UnsupportedError`, and then nothing was sent; ``disconnected``.
            timeout_ms: for all reports, in ms or a timedelta; 0: no limit.
            deliver: also deliver the message.

        Returns:
            An object whose ``cancel()`` stops the collecting without a callback; None if nothing was sent.

        Raises:
            NotConnectedError: there is no connection at the moment.
            Others: as `publish`.
        """
        check_result_cb(cb)
        limit = milliseconds(timeout_ms, "timeout_ms")
        info = self._connection.info
        asker = cast("Asker", self)
        if info is None or not asker.is_connected():
            raise NotConnectedError("not connected")
        if _version_of(info.version) < _TRACES:
            text = f"tracing needs nats-server 2.11, and this one is {info.version}: not sent"
            asker.call_soon(cb, None, UnsupportedError(text))
            return None
        from .trace import Tracing

        tracing = Tracing(asker, cb, limit)
        tracing.begin(subject, payload, headers, deliver)
        return tracing

    def _watch_expiry(self) -> None:
        """Let `on_auth_expiring` be called for this connection and all that follow."""
        if self._expiry is not None:
            self._expiry.again()
            return
        from .expiry import Expiry

        self._expiry = Expiry(
            cast("Asker", self),
            lambda: self._options.on_auth_expiring,
            lambda: self._options.auth_expiring_before,
            self._expiry_of_jwt,
        )

    def _expiry_of_jwt(self) -> tuple[bool, float | None]:
        server: Any = self._connection.pool.current
        return (False, None) if server is None else (server.sent_jwt, server.auth_expires)


def _version_of(text: str) -> tuple[int, ...]:
    """Return the first two numbers of a version; for what is none, a newer one than any."""
    numbers = text.removeprefix("v").split(".")[:2]
    if len(numbers) < 2 or not all(each.isascii() and each.isdigit() for each in numbers):
        return (1 << 30,)
    return tuple(int(each[:9]) for each in numbers)
