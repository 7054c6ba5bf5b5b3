"""Errors of WebSocket connections."""

from __future__ import annotations

from ...errors import ConnectError, ConnectionLostError, NatsError
from ..tls_errors import StreamError


class WebSocketError(ConnectError):
    """The server's answer to the request for a WebSocket connection does not grant it.

    `status` is that of the answer, such as 403; None if the answer is not HTTP, or incomplete. Values of its
    headers are not shown.

    What to do: for 401 and 403 look at ws_headers, for 404 at the URL's path or ws_proxy_path; 502 to 504
    come from a proxy whose server is down. For 400 and an answer that is not HTTP: is the port that of the
    server's websocket block, and does it want ``wss://``?
    """

    text = "WebSocket handshake failed"
    status: int | None = None


class WebSocketClosedError(ConnectionLostError):
    """The server has closed a WebSocket connection with a code that means a fault.

    `code` is that of RFC 6455, such as 1008 (policy violation) or 1011 (internal error), and `reason` the
    server's text, "" if there is none. 1000 (normal) and 1001 (going away) are no errors.

    What to do: see `reason` and the server's log; set ``reconnect=True``.
    """

    text = "WebSocket closed by the server"
    code: int = 0
    reason: str = ""


class Fault(StreamError):
    """A server that breaks the rules; code is what our close frame says."""

    def __init__(self, error: NatsError, code: int = 0) -> None:
        super().__init__(error)
        self.code = code
