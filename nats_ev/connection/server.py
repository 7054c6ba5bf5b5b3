"""One server: its address, its secrets, and the URL that names it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from ..arguments import is_unicode
from ..errors import BadOptionsError

DEFAULT_PORT = 4222


@dataclass(slots=True, eq=False)
class Server:
    """The address of a server, the credentials of its URL, and what past connections to it left."""

    host: str = ""
    port: int = DEFAULT_PORT
    path: str | None = None
    tls: bool = False
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    # The name that the certificate must have, if the address is a discovered number.
    tls_name: str | None = None
    discovered: bool = False
    last_auth_error: str | None = None
    # What the last TLS connection left to resume: (context, verified name, session).
    tls_session: tuple[Any, str | None, Any] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The server's URL, without credentials."""
        if self.path is not None:
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'nats'}://{host}:{self.port}"

    @property
    def key(self) -> tuple[str, int, str | None]:
        """What is equal for two entries of the same server."""
        return self.host.lower(), self.port, self.path


def parse_server(url: str) -> Server:
    """Return the server of a URL: ``nats://``, ``tls://``, ``unix://``, a bare host, or host:port.

    User, password or token before an @ are percent-decoded. Raises `BadOptionsError`, whose text leaves out
    what may be secret in the URL.
    """
    text = url.strip(" ")
    if any(c < " " or c == "\x7f" for c in text):  # urlsplit would drop some of them
        raise BadOptionsError("invalid server URL: it contains a control character")
    if not is_unicode(text):
        raise BadOptionsError("invalid server URL: it contains a lone surrogate")
    if text.startswith("unix://"):
        path = text[len("unix://") :]
        if not path:
            raise BadOptionsError("invalid server URL: unix:// without a path")
        return Server(path=path)
    if "://" not in text:
        text = "nats://" + (f"[{text}]" if _is_ipv6(text) else text)
    shown = text.rpartition("@")[2].rpartition("://")[2]
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadOptionsError(f"invalid server URL: {shown!r}") from None
    if parts.scheme not in ("nats", "tls"):
        raise BadOptionsError(f"invalid server URL: {shown!r} (nats, tls or unix, please)")
    if not host or port == 0 or any(c <= " " or c == "\x7f" for c in host):
        raise BadOptionsError(f"invalid server URL: {shown!r}")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise BadOptionsError(f"invalid server URL: {shown!r} (nothing may follow the port)")
    server = Server(host=host, port=port or DEFAULT_PORT, tls=parts.scheme == "tls")
    if parts.password is not None:
        server.user = unquote(parts.username or "")
        server.password = unquote(parts.password)
    elif parts.username:
        server.token = unquote(parts.username)
    return server


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False
