"""The handshake of one attempt: from a connected socket to CONNECT, with TLS on the way.

The server speaks first, in one of three orders:

    plain       INFO                     →  CONNECT, PING  →  PONG
    TLS         INFO  →  TLS handshake   →  CONNECT, PING  →  PONG
    TLS first   TLS handshake  →  INFO   →  CONNECT, PING  →  PONG

With WebSocket an HTTP request and its answer come before INFO. ``wss`` is TLS before that request, and
nothing inside is ever secured again: INFO describes the listener for WebSocket.

TLS comes if an option, a URL or an earlier connection asks for it, or if INFO does. An INFO that came
before TLS may have been written by anybody on the way. Therefore nothing may follow it, and what it says
about the cluster is not believed; what it says about the server decides only how to go on.

`Connection` makes a `Handshake` for each socket and passes it what the session and the link report. The
PONG is the connection's: with it the handshake is over. `Attempts` bounds the time of it all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from .. import errors
from ..arguments import http_headers
from ..auth import expiry_of
from ..options import Options
from ..protocol import ServerInfo, Subscription
from ..redact import hide_frames
from .connect import capabilities, identity
from .link import Link
from .pool import ServerPool
from .server import Server
from .tls_context import TlsContext


class Owner(Protocol):
    """What a handshake needs of its connection."""

    def failed(self, error: errors.NatsError) -> None:
        """End the attempt with this error."""

    def server_described(self, info: ServerInfo) -> None:
        """Take note of what a server that we go on with says about itself."""

    def live_subscriptions(self) -> Iterator[Subscription]:
        """Return the subscriptions that follow CONNECT."""

    def need_flush(self) -> None:
        """Write what is framed at the end of this turn."""


class Handshake:
    """What one attempt has come to know, and what it does next."""

    def __init__(
        self,
        link: Link,
        server: Server,
        options: Options,
        pool: ServerPool,
        tls: TlsContext,
        owner: Owner,
    ) -> None:
        self._link = link
        self._server = server
        self._options = options
        self._pool = pool
        self._tls = tls
        self._owner = owner
        self._greeting: ServerInfo | None = None  # the INFO that came before TLS
        self.heard_info = False  # the peer has shown that it is a NATS server

    def begin(self) -> None:
        """Start TLS if it comes first, or WebSocket; else the server's INFO is next."""
        first = self._options.tls_handshake_first or self._server.ws
        if self._pool.secure and first:
            self._start_tls()
        elif self._server.ws:
            self._start_websocket()

    def greeted(self, info: ServerInfo) -> None:
        """Go on from the first INFO: to TLS, to CONNECT, or to the attempt's end."""
        self.heard_info = True
        if (
            self._link.websocket
            or self._link.secure
            or not (self._pool.secure or info.tls_required)
        ):
            self._send_connect(info)
        elif not (info.tls_required or info.tls_available):
            self._owner.failed(
                errors.SecureConnectionRequiredError("secure connection not available")
            )
        elif not self._link.session.greeted_alone:
            self._owner.failed(
                errors.ProtocolError("protocol error: bytes between INFO and the TLS handshake")
            )
        else:
            self._greeting = info.without_topology()
            self._start_tls()

    def secured(self) -> None:
        """Go on after the handshake of TLS or WebSocket: to that, to CONNECT, or to the server's INFO."""
        if self._link.websocket:
            return
        self._pool.secured()
        if self._server.ws:
            self._start_websocket()
            return
        greeting, self._greeting = self._greeting, None
        if greeting is not None:
            self._send_connect(greeting)

    def _start_tls(self) -> None:
        try:
            self._link.start_tls(self._tls, self._server)
        except BaseException as exc:  # of a callback for certificates: also an interrupt
            hide_frames(exc)
            if not self._link.closed:
                error = errors.TlsError("SSL setup failed: interrupted")
                self._owner.failed(exc if isinstance(exc, errors.TlsError) else error)
            if not isinstance(exc, errors.TlsError):
                raise

    def _start_websocket(self) -> None:
        from ..net import Upgrade

        options, server = self._options, self._server
        try:
            upgrade = Upgrade(
                server.authority(self._link.secure),
                options.ws_proxy_path or server.target,
                self._http_headers(),
                options.ws_compression,
            )
        except BaseException as exc:  # of the callback: also an interrupt
            hide_frames(exc)
            error = errors.ConnectError(f"ws_headers_cb: {str(exc) or type(exc).__name__}")
            error.__cause__ = exc
            if not self._link.closed:  # else the callback has disconnected
                self._owner.failed(error)
            if not isinstance(exc, Exception):
                raise exc
            return
        if not self._link.closed:
            self._link.start_websocket(upgrade)

    def _http_headers(self) -> list[tuple[str, str]]:
        """Return the user's headers for the HTTP request."""
        own = self._options.ws_headers or ()
        if self._options.ws_headers_cb is None:
            return list(own)
        more = http_headers(self._options.ws_headers_cb(), "the result")
        replaced = {name.lower() for name, _ in more}
        return [*(line for line in own if line[0].lower() not in replaced), *more]

    def _send_connect(self, info: ServerInfo) -> None:
        """Frame CONNECT, the subscriptions and a PING."""
        owner, link = self._owner, self._link
        owner.server_described(info)
        fields = capabilities(self._options, info, link.secure)
        try:
            fields.update(identity(self._options, info.nonce, self._server, self._pool.credential))
            jwt = fields.get("jwt")
            self._server.sent_jwt = jwt is not None
            self._server.auth_expires = expiry_of(jwt) if jwt is not None else None
        except BaseException as exc:
            hide_frames(exc)
            # Not an AuthorizationError: the server has refused nothing, and may accept us next
            # time.
            error = errors.ConnectError(f"no credentials: {str(exc) or type(exc).__name__}")
            error.__cause__ = exc
            if not link.closed:  # else the callback for credentials has disconnected
                owner.failed(error)
            if not isinstance(exc, Exception):
                raise exc
            return
        if not link.closed:
            link.session.connect(fields, owner.live_subscriptions())
            owner.need_flush()
