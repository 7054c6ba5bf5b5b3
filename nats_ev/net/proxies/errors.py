"""The error of proxies. Its text shows no user and no password."""

from __future__ import annotations

from ...errors import ConnectError


class ProxyError(ConnectError):
    """A proxy can't be reached, refuses the client, or can't reach the server.

    `proxy` is the proxy's URL without user and password. `code` is what the proxy has answered: a status of
    HTTP such as 407, or a reply of SOCKS5 from 1 on (RFC 1928); 0: none.

    What to do: see the text. After 407, or a refused user or password, correct these in the proxy's URL. For
    other codes ask who runs the proxy whether it lets clients connect to the server's port.
    """

    text = "proxy failed"
    proxy: str = ""
    code: int = 0
