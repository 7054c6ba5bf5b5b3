"""Sockets, TLS and time on an event loop. Nothing here knows NATS.

Files: `turn` (the end of a loop turn, and what callbacks raise), `deadlines` (all time-outs on one timer),
`fork` (sockets in a forked child), `dial` (from a name to a socket), `transport` (a plain socket), `tls`,
`guard` (who may call).
"""

from .deadlines import Deadline
from .deadlines import Deadlines as Deadlines
from .dial import Dialer as Dialer
from .dial import Resolver as Resolver
from .fork import make_dead_end as make_dead_end
from .fork import watch_forks as watch_forks
from .guard import Guard as Guard
from .tls import HAS_TLS
from .tls import TlsStream as TlsStream
from .tls import describe as describe
from .tls import handshake_error as handshake_error
from .tls import read_error as read_error
from .transport import BROKEN_PIPE as BROKEN_PIPE
from .transport import NO_BUFFERS as NO_BUFFERS
from .transport import Stream as Stream
from .turn import Turn as Turn

__all__ = ["HAS_TLS", "Deadline"]
