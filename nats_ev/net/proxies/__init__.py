"""The handshakes with proxies, and what carries them on a socket.

A program without a proxy loads `errors` alone. Files: `handshake` (what both kinds have in common), `http`
(CONNECT), `socks` (SOCKS5): bytes in, bytes out. `tunnel` reads and writes them on a connected socket, and
hands that on.
"""

from .errors import ProxyError as ProxyError
