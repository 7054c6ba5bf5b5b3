"""One client's connections, one at a time: which server, when, the handshake, keep-alive, loss.

Files: `server` and `pool` (where to connect next), `attempts` (when, and for how long), `tls_context`,
`connect` (the fields of CONNECT), `link` (when bytes are read, delivered and written), `pings`, `limits`
(sizes), `connection` (what ties them together).
"""

from .connection import Connection as Connection
from .pings import Completion as Completion

__all__: list[str] = []
