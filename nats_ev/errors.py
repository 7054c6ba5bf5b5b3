"""Every exception of the client, and the class that each -ERR of a server becomes.

::

    NatsError
    ├── BadOptionsError(ValueError)        an option or argument that makes no sense
    │   └── UnreadableFileError(OSError)   a creds file that can't be opened
    │   └── ServerNotInPoolError           reconnect_to_cb has chosen a server that is not known
    ├── BadSubjectError(ValueError)        a subject, reply or queue group that the protocol can't carry
    ├── BadHeadersError(ValueError)
    ├── MaxPayloadError(ValueError)
    ├── OutboundBufferLimitError
    ├── NotConnectedError(ConnectionError)
    ├── AlreadyConnectedError
    ├── ConnectionDrainingError
    ├── ConnectionClosedError
    ├── DrainTimeoutError(TimeoutError)
    ├── ConnectError                       an attempt to connect failed
    │   ├── ConnectTimeoutError(TimeoutError)
    │   ├── NoServersError
    │   ├── SecureConnectionRequiredError
    │   └── TlsError
    ├── ConnectionLostError
    │   ├── StaleConnectionError
    │   ├── UnexpectedEOFError
    │   └── WriteTimeoutError(TimeoutError)
    ├── ProtocolError                      the server broke the protocol
    ├── ServerError                        -ERR
    │   ├── AuthorizationError             also a ConnectError
    │   │   └── AuthExpiredError
    │   ├── PermissionsViolationError
    │   ├── MaxConnectionsExceededError    also a ConnectError
    │   ├── MaxSubscriptionsExceededError
    │   └── InvalidSubjectError
    ├── RequestTimeoutError(TimeoutError)
    ├── NoRespondersError
    ├── MsgIteratorClosedError
    ├── UnsupportedError                   the server is too old
    └── SlowConsumerError

The first eight are raised by the call that can't be carried out. The others arrive in callbacks: in the one
that waits for a result, or in on_error. Errors of JetStream, buckets and services are in their own packages,
below `NatsError` too.

``str(err)`` is a text for people. An attribute that a class declares holds the data: branch on classes and
attributes, never on texts.
"""

from __future__ import annotations

import re
import sys
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
    "MsgIteratorClosedError",
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
    "ServerNotInPoolError",
    "SlowConsumerError",
    "StaleConnectionError",
    "TlsError",
    "UnexpectedEOFError",
    "UnsupportedError",
    "WriteTimeoutError",
]


class NatsError(Exception):
    """Base of all errors of this package. ``str(err)`` is the text, attributes are the data.

    A subclass declares its data by annotations in its body. Any other keyword is a TypeError, so that a
    misspelt one can't be lost in silence.

    What to do: catch it where any error of this package is handled the same way; else catch the subclass.

    Args:
        text: what happened; the default is the class's own `text`.
        data: values of attributes that the class or one of its bases declares.
    """

    text = "nats error"

    def __init__(self, text: str = "", **data: Any) -> None:
        super().__init__(text or self.text)
        for name in data:
            if not any(name in getattr(base, "__annotations__", ()) for base in type(self).__mro__):
                raise TypeError(f"{type(self).__name__} declares no attribute {name!r}")
        self.__dict__.update(data)


class BadOptionsError(NatsError, ValueError):
    """An option or argument has a value that makes no sense.

    What to do: correct the call; the text names the option and what it accepts.
    """

    text = "bad option"


class ServerNotInPoolError(BadOptionsError):
    """The option reconnect_to_cb has returned a server that the client does not know: `server`, its URL.

    The client has taken the next server of its own order.

    What to do: return one of the servers that the callback gets, its ``url``, or None.
    """

    text = "the server is not in the pool"
    server: str = ""


class BadSubjectError(NatsError, ValueError):
    """The protocol can't carry a subject, reply subject or queue group, which is in `subject`.

    What to do: correct the call. A subject has no blanks and no control characters and is not empty; one
    that is subscribed to has no empty token between dots, and a wildcard is a token of its own.
    """

    text = "invalid subject"
    subject: str = ""


class BadHeadersError(NatsError, ValueError):
    """Headers, or a raw header block, can't be sent or read.

    What to do: correct the name or value in the text. A line break in a value is the usual reason.
    """

    text = "invalid headers"


class MaxPayloadError(NatsError, ValueError):
    """A message's headers and payload together exceed max_payload; `limit` is that, in bytes.

    `size` is theirs and `subject` the message's; 0 and "" if several were discarded.

    When messages
    were queued for a connection and the server that answers refuses their size or headers, the client
    discards them and on_error gets this error; `discarded` is their number.

    What to do: send less, or raise the server's max_payload; an `ObjectStore` takes content of any size.
    """

    text = "payload exceeds max_payload"
    limit: int = 0
    size: int = 0
    subject: str = ""
    discarded: int = 0


class OutboundBufferLimitError(NatsError):
    """The unsent bytes have reached an option's limit; `limit` is that, in bytes.

    The option is max_pending_bytes while connected, else reconnect_buffer_size. Nothing of the message
    was queued.

    What to do: wait, for example for a `flush`, and publish it again; or raise the option.
    """

    text = "outbound buffer is full"
    limit: int = 0


class NotConnectedError(NatsError, ConnectionError):
    """The call needs a connection; there is no connection, and none is coming.

    What to do: call `Nats.connect` first, or give host or servers to `Nats`; after a drain a client
    connects only if it is asked to.
    """

    text = "not connected"


class AlreadyConnectedError(NatsError):
    """connect() was called while connected or connecting.

    What to do: call `Nats.disconnect` first, or use `Nats.force_reconnect`.
    """

    text = "already connected"


class ConnectionDrainingError(NatsError):
    """drain() was called before, so that a new subscription or request is refused.

    What to do: begin nothing new after `Nats.drain`; `connect` again when its callback has come.
    """

    text = "connection is draining"


class ConnectionClosedError(NatsError):
    """disconnect(), the end of a drain, or giving up ended the operation before its result came.

    What to do: nothing, if the program ends the client; else look at what on_error got before.
    """

    text = "disconnected"


class DrainTimeoutError(NatsError, TimeoutError):
    """A drain was not done within drain_timeout, and the connection was closed all the same.

    What to do: raise drain_timeout, or find the callback or acknowledgement that takes so long.
    """

    text = "drain timeout"


class ConnectError(NatsError):
    """An attempt to connect failed; where an exception is the cause, ``__cause__`` is that exception.

    With the option reconnect, other attempts follow. `address` is the server's, as "host:port" or the path of
    a Unix socket; `server` is the server's URL without credentials. Both are "" in an error that the client
    did not get from a server. A name's numeric addresses that were tried are in the text.

    What to do: see the text and ``__cause__``; is the server running, and is the address right?
    """

    text = "connection failed"
    address: str = ""
    server: str = ""


class ConnectTimeoutError(ConnectError, TimeoutError):
    """Name resolution, connecting and the handshake together took longer than connect_timeout.

    What to do: is the address right, and does a firewall drop packets? For a slow network raise
    connect_timeout.
    """

    text = "connect timeout"


class NoServersError(ConnectError):
    """The client gives up: all attempts are used up, or no server is left to try.

    `address` and `server` name all known servers, separated by ", "; ``__cause__`` is the error of the last
    attempt, or None.

    What to do: correct what ``__cause__`` says; a program that must wait for its server sets
    ``reconnect=True`` and ``max_reconnect_attempts=0``.
    """

    text = "no servers available for connection"


class SecureConnectionRequiredError(ConnectError):
    """One side requires TLS and the other does not offer TLS.

    What to do: set tls and its options, or configure TLS in the server.
    """

    text = "secure connection required"


class TlsError(ConnectError):
    """The TLS handshake failed, or a certificate, key or CA file could not be used; see the text.

    What to do: if the authority is unknown set tls_ca_file, if the name differs tls_hostname; if a file
    is named, correct it.
    """

    text = "TLS error"


class ConnectionLostError(NatsError):
    """A connection that was up has ended. With the option reconnect, the client connects again.

    `address` and `server` are as in `ConnectError`; both are "" in the error of an operation that the loss
    has ended.

    What to do: set ``reconnect=True``; repeat what was in flight if that is safe.
    """

    text = "disconnected"
    address: str = ""
    server: str = ""


class StaleConnectionError(ConnectionLostError):
    """max_pings_outstanding PINGs went unanswered, or the server reports the same of the client.

    What to do: look for a host that is down or a callback that blocks the loop; set ``reconnect=True``.
    """

    text = "stale connection"


class WriteTimeoutError(ConnectionLostError, TimeoutError):
    """The kernel has taken no byte for write_timeout: the server does not read, or the network is gone.

    What was not taken is sent after the reconnect. `pending` is how many bytes were unsent.

    What to do: nothing if the option reconnect is on; look at the server and the network if it happens
    again. The option write_timeout says how long the client waits.
    """

    text = "write timeout"
    pending: int = 0


class UnexpectedEOFError(ConnectionLostError):
    """The server closed the connection right after something that the client had sent.

    `command` is the last protocol command that was sent, such as "PUB"; "" when unknown. A cause may be
    a frame that the server refuses; its log says more.

    What to do: look into the server's log; if `command` was refused, correct the call that sent it.
    """

    text = "unexpected EOF"
    command: str = ""


class ProtocolError(NatsError):
    """The server sent bytes that are not NATS; the connection is closed.

    `offset` is the position of the bad frame in the connection's inbound stream, in bytes, or None;
    `snippet` is the bytes that the frame begins with. `address` and `server` are as in `ConnectError`.

    What to do: look at `snippet`: is the port that of a NATS server (4222 by default), and does it speak
    TLS first?
    """

    text = "protocol error"
    address: str = ""
    server: str = ""
    offset: int | None = None
    snippet: bytes = b""


class Action(Enum):
    """What the server does after an -ERR; the client acts accordingly."""

    KEEP = "the server keeps the connection"
    RECONNECT = "the server closes the connection; another attempt may succeed"
    FATAL = "every server would refuse this client"


class ServerError(NatsError):
    """The server sent -ERR; ``str(err)`` is the server's text, without quotes.

    Whether the connection stays is the server's decision: an error of a single publish or subscribe
    leaves it open, most others end it. `address` and `server` are as in `ConnectError`; a note below the
    traceback has the address (Python 3.11 and later).

    What to do: see the text, which is the server's, and the server's log.
    """

    address: str = ""
    server: str = ""
    action: Action = Action.KEEP

    @property
    def is_auth(self) -> bool:
        """Whether the server refused the credentials."""
        return isinstance(self, AuthorizationError)


class AuthorizationError(ServerError, ConnectError):
    """The server refused the credentials.

    A server that refuses them twice in a row is not tried again, unless ignore_auth_error_abort is set.

    What to do: correct user, password, token, seed or creds_file, or the server's configuration.
    """

    action = Action.RECONNECT
    text = "authorization violation"


class AuthExpiredError(AuthorizationError):
    """Credentials that were good at first have expired or were revoked.

    What to do: provide new credentials; a creds_file and the callbacks are read again at each attempt.
    """


class PermissionsViolationError(ServerError):
    """The user may not publish, or not subscribe, to a subject. The connection stays.

    `kind` is "publish" or "subscription". `subject`, `queue` and `sid` are those that the server named,
    or None. A subscription that is refused has ended.

    What to do: allow the subject in the user's permissions, or use another one. Answers need the right to
    subscribe to "_INBOX.>", or to what inbox_prefix says.
    """

    kind: str = ""
    subject: str | None = None
    queue: str | None = None
    sid: int | None = None


class MaxConnectionsExceededError(ServerError, ConnectError):
    """The server, or the account, has reached its limit of connections.

    What to do: try later, or raise max_connections of the server or the account's limit.
    """

    action = Action.RECONNECT


class MaxSubscriptionsExceededError(ServerError):
    """The account has reached its limit of subscriptions; the server refused the last subscription.

    What to do: unsubscribe what is not needed, use wildcards, or raise the account's limit.
    """


class InvalidSubjectError(ServerError):
    """The server refused a subject as invalid. The connection stays.

    What to do: correct the subject.
    """


class RequestTimeoutError(NatsError, TimeoutError):
    """No answer came within the request's timeout. Whether the request was received is unknown.

    `subject` is that of the request, or "" where the client does not know it any more.

    What to do: does the service run, and is its subject the same? Raise the timeout if the work takes
    longer; repeat the request only if that is safe.
    """

    text = "request timeout"
    subject: str = ""


class NoRespondersError(NatsError):
    """Nobody subscribes to the subject of a request (status 503); nothing received the request.

    `subject` is that of the request.

    What to do: start the service, or correct the subject.
    """

    text = "no responders"
    subject: str = ""


class UnsupportedError(NatsError):
    """The server is too old for what was asked, and has not been asked. What to do: use a newer one."""

    text = "not supported by the server"


class MsgIteratorClosedError(NatsError):
    """An iterator of a face (`nats_ev.aio`, `green`, `blocking`) has ended, and `next` was called.

    What to do: end the loop that calls `next`; a ``for`` ends by itself.
    """

    text = "message iterator closed"


class SlowConsumerError(NatsError):
    """A subscription has reached its limit of pending messages, and messages are being discarded.

    `subject` and `sid` name the subscription, `pending` is how many messages wait, `dropped` how many
    were discarded so far.

    What to do: handle messages faster, spread them with a queue group, or raise the limits by
    `Nats.set_pending_limits`.
    """

    text = "slow consumer, messages dropped"
    subject: str = ""
    sid: int = 0
    pending: int = 0
    dropped: int = 0


# These differ from public classes only in `action` or `is_auth`. Users catch the public base, whose name is
# shown.


class _Variant(ServerError):
    def __init_subclass__(cls, shown_as: type[NatsError]) -> None:
        cls.__module__, cls.__name__ = "nats_ev", shown_as.__name__
        cls.__qualname__ = cls.__name__

    def __reduce__(
        self,
    ) -> tuple[Any, ...]:  # pickled by its text: its name is that of another class
        return server_error, (str(self),), self.__dict__


class _ServerStale(_Variant, StaleConnectionError, shown_as=StaleConnectionError):
    action = Action.RECONNECT


class _AuthTimeout(_Variant, AuthorizationError, shown_as=AuthorizationError):
    """The server timed out waiting for CONNECT, or for its own check. Says nothing about the credentials."""

    @property
    def is_auth(self) -> bool:
        return False


class _ServerReconnects(_Variant, shown_as=ServerError):
    action = Action.RECONNECT


class _ServerRefuses(_Variant, shown_as=ServerError):
    action = Action.FATAL


class _TlsRequired(_Variant, SecureConnectionRequiredError, shown_as=SecureConnectionRequiredError):
    action = Action.RECONNECT


# How an -ERR's text begins, in lower case, and its class. The texts are those of nats-server's client, auth
# and server errors. There are no codes: the text is all that the protocol gives.
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
# How Go's %q writes a character that can't be shown.
_ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|.)", re.DOTALL)
_MOST_DIGITS = 20  # of a sid
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def _unquote(text: str | None) -> str | None:
    """Return the subject that the server has quoted, by Go's rules, for the error's text."""

    def character(found: re.Match[str]) -> str:
        code = found[1]
        if code[0] == "x" and len(code) == 3:
            value = int(code[1:], 16)  # a byte that is not UTF-8: what surrogateescape makes of it
            return chr(value if value < 0x80 else 0xDC00 + value)
        if code[0] in "uU" and len(code) > 1:
            number = int(code[1:], 16)
            return chr(number) if number <= sys.maxunicode else found[0]
        return _LETTERS.get(code, code)

    return None if text is None else _ESCAPE.sub(character, text)


def server_error(text: str) -> ServerError:
    """Return the exception for an -ERR's argument, with or without its quotes.

    An unknown text becomes a plain `ServerError`, whose action is to keep the connection: a server that
    means to close the connection will do so itself.
    """
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == "'":
        text = text[1:-1]
    folded = text.lower()
    kind = next((kind for start, kind in _BY_TEXT if folded.startswith(start)), None)
    if kind is None:
        return ServerError(text or "server error without a text")
    if kind is PermissionsViolationError and (found := _PERMISSION.match(text)):
        sid = found["sid"] or ""
        return kind(
            text,
            kind=found["kind"].lower(),
            subject=_unquote(found["subject"]),
            queue=_unquote(found["queue"]),
            # A longer one is none that a client has ever sent, and Python refuses to read very long ones.
            sid=int(sid) if 0 < len(sid) <= _MOST_DIGITS else None,
        )
    return kind(text)


def show_misfit(error: BaseException, callback: object, frames: int = 0) -> None:
    """Let the TypeError of a callback that does not take its arguments say where the callback is defined.

    Python names the function only. Nothing happens if the callback has begun: then the error is its own.

    Args:
        error: what the call has raised.
        callback: what was called.
        frames: how many frames of the caller the traceback begins with.
    """
    if type(error) is not TypeError or len(error.args) != 1:
        return
    trace = error.__traceback__
    for _ in range(frames):
        trace = trace.tb_next if trace is not None else None
    code = getattr(getattr(callback, "__func__", callback), "__code__", None)
    if trace is None and code is not None:
        error.args = (
            f"{error} ({code.co_filename}:{code.co_firstlineno}); the callback of a message is called with "
            "(subject, payload, reply, headers), of a request (response, err, headers), else (result, err)",
        )
