"""One client's connections, one at a time: which server, when, the handshake, keep-alive, loss.

Files: `server` and `pool` (where to connect next), `attempts` (when, and for how long), `tls_context`,
`connect` (the fields of CONNECT), `link` (when bytes are read, delivered and written), `pings`
(PINGs, and what fails together in order), `limits` (sizes), `connection` (what ties them together).
"""

from .connection import Connection as Connection
from .link import Link as Link
from .pings import Completion as Completion
from .pings import InOrder as InOrder
from .pings import Source as Source
from .server import parse_server as parse_server

__all__: list[str] = []
