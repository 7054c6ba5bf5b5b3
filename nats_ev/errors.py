"""Every exception of the package, and what each -ERR of a server means.

::

    NatsError
    ├── BadOptionsError(ValueError)        an option or argument that makes no sense
    ├── BadSubjectError(ValueError)        subject, reply or queue group that can't go on the wire
    ├── BadHeadersError(ValueError)
    ├── MaxPayloadError(ValueError)
    ├── OutboundBufferLimitError
    ├── NotConnectedError(ConnectionError)
    ├── AlreadyConnectedError
    ├── ConnectionClosedError
    ├── ConnectionDrainingError
    ├── DrainTimeoutError(TimeoutError)
    ├── ConnectError                       one attempt to connect
    │   ├── ConnectTimeoutError(TimeoutError)
    │   ├── NoServersError
    │   ├── SecureConnectionRequiredError
    │   └── TlsError
    ├── ConnectionLostError
    │   ├── StaleConnectionError
    │   └── UnexpectedEOFError
    ├── ProtocolError                      the server broke the wire contract
    ├── ServerError                        -ERR
    │   ├── AuthorizationError
    │   │   └── AuthExpiredError
    │   ├── PermissionsViolationError
    │   ├── MaxConnectionsExceededError
    │   ├── MaxSubscriptionsExceededError
    │   └── InvalidSubjectError
    ├── RequestTimeoutError(TimeoutError)
    ├── NoRespondersError
    └── SlowConsumerError

The first seven are raised at the call; the others arrive in callbacks. No I/O, no clock.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

__all__ = [
    "AlreadyConnectedError",
    "AuthExpiredError",
    "AuthorizationError",
    "BadHeadersError",
    "BadOptionsError",
    "BadSubjectError",
    "ConnectError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "ConnectionDrainingError",
    "ConnectionLostError",
    "DrainTimeoutError",
    "InvalidSubjectError",
    "MaxConnectionsExceededError",
    "MaxPayloadError",
    "MaxSubscriptionsExceededError",
    "NatsError",
    "NoRespondersError",
    "NoServersError",
    "NotConnectedError",
    "OutboundBufferLimitError",
    "PermissionsViolationError",
    "ProtocolError",
    "RequestTimeoutError",
    "SecureConnectionRequiredError",
    "ServerError",
    "SlowConsumerError",
    "StaleConnectionError",
    "TlsError",
    "UnexpectedEOFError",
]


class NatsError(Exception):
    """Base of all errors of this package. ``str(err)`` is the text, attributes are the data."""

    text = "nats error"

    def __init__(self, text: str = "", **data: Any) -> None:
        super().__init__(text or self.text)
        self.__dict__.update(data)


class BadOptionsError(NatsError, ValueError):
    """An option or argument that makes no sense."""

    text = "bad option"


class BadSubjectError(NatsError, ValueError):
    """A subject, reply subject or queue group that can't be sent; `subject` is it."""

    text = "invalid subject"
    subject: str = ""


class BadHeadersError(NatsError, ValueError):
    """Headers that can't be sent."""

    text = "invalid headers"


class MaxPayloadError(NatsError, ValueError):
    """A message above max_payload; `limit` in bytes."""

    text = "payload exceeds max_payload"
    limit: int = 0


class OutboundBufferLimitError(NatsError):
    """No room for the message below max_pending_bytes or reconnect_buffer_size (`limit`, bytes)."""

    text = "outbound buffer is full"
    limit: int = 0


class NotConnectedError(NatsError, ConnectionError):
    """There is no connection and none is coming."""

    text = "not connected"


class AlreadyConnectedError(NatsError):
    """connect() while connected or connecting."""

    text = "already connected"


class ConnectionClosedError(NatsError):
    """disconnect() ended what was waited for."""

    text = "disconnected"


class ConnectionDrainingError(NatsError):
    """The call is not possible any more: drain() has been called."""

    text = "connection is draining"


class DrainTimeoutError(NatsError, TimeoutError):
    """The server did not confirm a drain in time."""

    text = "drain timeout"


class ConnectError(NatsError):
    """An attempt to connect failed; the cause, where there is one, is in ``__cause__``."""

    text = "connection failed"


class ConnectTimeoutError(ConnectError, TimeoutError):
    """connect_timeout was over before the handshake was."""

    text = "connect timeout"


class NoServersError(ConnectError):
    """No server is left to be tried."""

    text = "no servers available for connection"


class SecureConnectionRequiredError(ConnectError):
    """One side wants TLS and the other does not."""

    text = "secure connection required"


class TlsError(ConnectError):
    """The TLS handshake failed, or TLS could not be set up."""

    text = "TLS error"


class ConnectionLostError(NatsError):
    """A connection that was up has ended."""

    text = "disconnected"


class StaleConnectionError(ConnectionLostError):
    """The server did not answer max_pings_outstanding PINGs."""

    text = "stale connection"


class UnexpectedEOFError(ConnectionLostError):
    """The server closed the connection right after something that we sent."""

    text = "unexpected EOF"


class ProtocolError(NatsError):
    """The server sent what no server sends.

    `offset` is that of the bad frame in the stream, `snippet` the bytes that it begins with.
    """

    text = "protocol error"
    offset: int | None = None
    snippet: bytes = b""


class Action(Enum):
    """What the server does after an -ERR, and the client therefore."""

    KEEP = "the connection stays"
    RECONNECT = "the server closes the connection; another may follow"
    FATAL = "no server would take us"


class ServerError(NatsError):
    """-ERR; the text is the server's, without quotes."""

    action: Action = Action.KEEP

    @property
    def is_auth(self) -> bool:
        """Whether the server refused who we are."""
        return isinstance(self, AuthorizationError)


class AuthorizationError(ServerError, ConnectError):
    """The server does not take the credentials."""

    action = Action.RECONNECT
    text = "authorization violation"


class AuthExpiredError(AuthorizationError):
    """Credentials that were good once have expired or were revoked."""


class PermissionsViolationError(ServerError):
    """Publishing to, or subscribing to, a subject is not allowed.

    `kind` is "publish" or "subscription"; `subject`, `queue` and `sid` are what the server named,
    or None.
    """

    kind: str = ""
    subject: str | None = None
    queue: str | None = None
    sid: int | None = None


class MaxConnectionsExceededError(ServerError, ConnectError):
    """The server, or the account, has as many connections as it wants."""

    action = Action.RECONNECT


class MaxSubscriptionsExceededError(ServerError):
    """The account has as many subscriptions as it may; the last one was refused."""


class InvalidSubjectError(ServerError):
    """The server did not take a subject."""


class RequestTimeoutError(NatsError, TimeoutError):
    """No answer came in time."""

    text = "request timeout"


class NoRespondersError(NatsError):
    """Nobody listens to the subject of a request (status 503)."""

    text = "no responders"


class SlowConsumerError(NatsError):
    """Messages of a subscription were dropped because too many are pending.

    `subject`, `sid`, `pending` (messages waiting), `dropped` (so far).
    """

    text = "slow consumer, messages dropped"


class _ServerStale(ServerError, StaleConnectionError):
    action = Action.RECONNECT


class _AuthTimeout(AuthorizationError):
    """Who we are did not come in time, or was not looked at: no verdict about it."""

    @property
    def is_auth(self) -> bool:
        return False


class _ServerReconnects(ServerError):
    action = Action.RECONNECT


class _ServerRefuses(ServerError):
    action = Action.FATAL


class _TlsRequired(ServerError, SecureConnectionRequiredError):
    action = Action.RECONNECT


# Beginning of the text in lower case → class. From nats-server's client, auth and server errors.
_BY_TEXT: tuple[tuple[str, type[ServerError]], ...] = (
    ("user authentication expired", AuthExpiredError),
    ("user authentication revoked", AuthExpiredError),
    ("account authentication expired", AuthExpiredError),
    ("authorization violation", AuthorizationError),
    ("authentication timeout", _AuthTimeout),
    ("failed account registration", _ServerReconnects),
    ("maximum connections exceeded", MaxConnectionsExceededError),
    ("maximum account active connections exceeded", MaxConnectionsExceededError),
    ("connection throttling is active", MaxConnectionsExceededError),
    ("maximum subscriptions exceeded", MaxSubscriptionsExceededError),
    ("permissions violation", PermissionsViolationError),
    ("invalid subject", InvalidSubjectError),
    ("invalid publish subject", InvalidSubjectError),
    ("stale connection", _ServerStale),
    ("unknown protocol operation", _ServerReconnects),
    ("maximum control line exceeded", _ServerReconnects),
    ("maximum payload violation", _ServerReconnects),
    ("secure connection - tls required", _TlsRequired),
    ("invalid client protocol", _ServerRefuses),
    ("no responders requires headers support", _ServerRefuses),
)
_PERMISSION = re.compile(
    r"permissions violation for (?P<kind>publish|subscription)(?: with reply of)?(?: to)? "
    r'"(?P<subject>(?:[^"\\]|\\.)*)"'
    r'(?: using queue "(?P<queue>(?:[^"\\]|\\.)*)")?(?: \(sid "(?P<sid>\d+)"\))?',
    re.IGNORECASE | re.DOTALL,
)
# What Go's %q makes of a character that can't be shown.
_ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|.)", re.DOTALL)
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def _unquote(text: str | None) -> str | None:
    """A subject as it was before the server quoted it for the error's text."""

    def character(found: re.Match[str]) -> str:
        code = found[1]
        if code[0] == "x" and len(code) == 3:
            value = int(code[1:], 16)  # a byte that is no UTF-8: as surrogateescape has it
            return chr(value if value < 0x80 else 0xDC00 + value)
        if code[0] in "uU" and len(code) > 1:
            return chr(int(code[1:], 16))
        return _LETTERS.get(code, code)

    return None if text is None else _ESCAPE.sub(character, text)


def server_error(text: str) -> ServerError:
    """The exception for an -ERR's argument, with or without its quotes.

    What no server is known to send is a plain `ServerError`, and the connection is kept: if the
    server means to close it, it will.
    """
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == "'":
        text = text[1:-1]
    folded = text.lower()
    kind = next((kind for start, kind in _BY_TEXT if folded.startswith(start)), None)
    if kind is None:
        return ServerError(text or "server error without a text")
    if kind is PermissionsViolationError and (found := _PERMISSION.match(text)):
        sid = found["sid"]
        return kind(
            text,
            kind=found["kind"].lower(),
            subject=_unquote(found["subject"]),
            queue=_unquote(found["queue"]),
            sid=int(sid) if sid else None,
        )
    return kind(text)
