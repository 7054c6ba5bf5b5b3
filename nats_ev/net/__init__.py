"""Sockets, TLS and time on an event loop. Nothing here knows NATS.

Files: `turn` (the end of a loop turn, and what happens to callbacks' exceptions), `deadlines` (all
time-outs on one timer), `refs` (whether a client's watchers keep the loop running), `mailbox` (calls from
other threads), `fork` (descriptors in a forked child), `transport` (a plain socket), `dial` (from a name to a
connected socket), `proxies` (what is said to one; loaded when it is used), `tls` (a socket under TLS; loaded
when it is used), `tls_errors`, `websocket` (frames over one of these; loaded when it is used), `guard` (which
process and thread may call), `native` (the interpreter's functions, patched by gevent or not).
"""

from typing import TYPE_CHECKING

from .deadlines import CALLBACKS_SLICE as CALLBACKS_SLICE
from .deadlines import Deadline
from .deadlines import Deadlines as Deadlines
from .dial import Dialer as Dialer
from .dial import Resolver as Resolver
from .dial import shuffle as shuffle
from .fork import make_dead_end as make_dead_end
from .fork import watch_forks as watch_forks
from .guard import Guard as Guard
from .mailbox import Mailbox as Mailbox
from .proxies import ProxyError as ProxyError
from .refs import Refs as Refs
from .tls_errors import HAS_TLS
from .tls_errors import describe as describe
from .tls_errors import handshake_error as handshake_error
from .tls_errors import is_tls_error as is_tls_error
from .tls_errors import read_error as read_error
from .transport import EV_READ as EV_READ
from .transport import EV_WRITE as EV_WRITE
from .transport import NO_BUFFERS as NO_BUFFERS
from .transport import Stream as Stream
from .transport import adopt as adopt
from .transport import os_error as os_error
from .turn import Turn as Turn
from .websocket import WebSocketClosedError as WebSocketClosedError
from .websocket import WebSocketError as WebSocketError

if TYPE_CHECKING:
    from .proxies.tunnel import Tunnel as Tunnel
    from .proxies.tunnel import handshake_of as handshake_of
    from .tls import TlsStream as TlsStream
    from .websocket.stream import Upgrade as Upgrade
    from .websocket.stream import WsStream as WsStream

__all__ = ["HAS_TLS", "Deadline", "ProxyError", "WebSocketClosedError", "WebSocketError"]


def __getattr__(name: str) -> object:
    """Load `tls`, and with it the module ssl, when `TlsStream` is first used; the others in the same way."""
    if name == "TlsStream":
        from .tls import TlsStream

        return TlsStream
    if name in ("Upgrade", "WsStream"):
        from .websocket import stream

        return getattr(stream, name)
    if name in ("Tunnel", "handshake_of"):
        from .proxies import tunnel

        return getattr(tunnel, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
