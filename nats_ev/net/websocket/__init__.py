"""WebSocket: a stream of bytes in frames, over a plain socket or TLS.

Files: `frames` (the frames, without a socket), `upgrade` (the HTTP request and its answer), `stream` (the
stream; loaded when it is used), `errors`.
"""

from .errors import WebSocketClosedError as WebSocketClosedError
from .errors import WebSocketError as WebSocketError
