"""Proxies: their URLs, what the environment says about them, and what is said to one before a tunnel stands.

No socket and no loop here: a `Handshake` turns what a proxy sends into what is sent to it, and `net.Tunnel`
carries the bytes. A program without a proxy loads nothing of this.

Files: `url` (a proxy's URL), `environment` (``ALL_PROXY`` and ``NO_PROXY``), `handshake` (what both kinds
have in common), `http` (CONNECT), `socks` (SOCKS5), `errors`.
"""

from ..imports import show_as_public
from .environment import ALL_PROXY as ALL_PROXY
from .environment import from_environment as from_environment
from .errors import ProxyError
from .handshake import Handshake as Handshake
from .http import HttpConnect as HttpConnect
from .socks import Socks5 as Socks5
from .url import Proxy as Proxy
from .url import parse_proxy as parse_proxy

__all__ = ["ProxyError"]

show_as_public(globals(), __all__)


def handshake_of(proxy: Proxy, host: str, port: int) -> Handshake:
    """Return the handshake that asks a proxy for a tunnel to a server. Raises `ProxyError`."""
    return (HttpConnect if proxy.scheme == "http" else Socks5)(proxy, host, port)
