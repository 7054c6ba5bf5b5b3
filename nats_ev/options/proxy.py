"""The URL of a proxy, and what the environment says: ``ALL_PROXY`` and ``NO_PROXY``, as curl reads them.

No error shows what may be a user or a password.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from ..arguments import is_unicode
from ..errors import BadOptionsError

# The first one that is set and not empty counts, as for curl.
ALL_PROXY = ("all_proxy", "ALL_PROXY")
NO_PROXY = ("no_proxy", "NO_PROXY")

_PORTS = {"http": 80, "socks5": 1080, "socks5h": 1080}
# The length of a user and of a password has one byte in SOCKS5.
_MOST_BYTES = 255
# Of a port. Python raises ValueError for a number of thousands of digits.
_MOST_DIGITS = 5


class Proxy(NamedTuple):
    """A proxy: its address, and the user that it knows."""

    scheme: str  # http, socks5 or socks5h
    host: str
    port: int
    user: str | None = None
    password: str = ""

    @property
    def url(self) -> str:
        """The URL, without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"


def parse_proxy(text: str, name: str = "proxy", default: str = "") -> Proxy:
    """Return the proxy of a URL: ``http://``, ``socks5://`` or ``socks5h://``, perhaps ``user:password@``.

    Args:
        text: the URL. User and password are percent-decoded.
        name: of the option or variable, for errors.
        default: the scheme of a text without one; "": it must have one.

    Raises:
        BadOptionsError: the URL is malformed, or its kind of proxy is not supported.
    """
    text = text.strip()
    if any(c <= " " or c == "\x7f" for c in text) or not is_unicode(text):
        raise BadOptionsError(f"{name}: a proxy's URL has no blanks and control characters")
    if default and "://" not in text:
        text = f"{default}://{text}"
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme not in _PORTS:
        raise BadOptionsError(f"{name}: {_of_another_kind(scheme)}")
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0:
        raise BadOptionsError(f"{name} must be {scheme}://host:port")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        # What is cut off here may be a part of a password.
        raise BadOptionsError(
            f"{name}: nothing may follow a proxy's port (in a password / is %2F, ? is %3F, # is %23)"
        )
    user = None if parts.username is None else _unquoted(parts.username, name)
    password = _unquoted(parts.password or "", name)
    _check_user(scheme, user, password, name)
    return Proxy(scheme, host, port or _PORTS[scheme], user, password)


def _of_another_kind(scheme: str) -> str:
    """Return what is wrong with a URL of this scheme."""
    known = "http://, socks5:// or socks5h://"
    if scheme == "https":
        return f"TLS to a proxy (https://) is not supported: it must be {known}"
    if scheme in ("socks", "socks4", "socks4a"):
        return f"{scheme}:// is not supported: it must be {known}"
    return f"a proxy's URL must begin with {known}"


def _unquoted(text: str, name: str) -> str:
    from urllib.parse import unquote

    found = unquote(text, errors="surrogateescape")
    if not is_unicode(found):
        raise BadOptionsError(f"{name}: % escapes in a user or password must be UTF-8")
    return found


def _check_user(scheme: str, user: str | None, password: str, name: str) -> None:
    if user is None:
        return
    if scheme == "http":
        if ":" in user:
            raise BadOptionsError(f"{name}: a user of an HTTP proxy can't have a colon in it")
    elif not 0 < len(user.encode()) <= _MOST_BYTES or len(password.encode()) > _MOST_BYTES:
        raise BadOptionsError(
            f"{name}: a user of SOCKS5 has 1 to {_MOST_BYTES} bytes, a password no more than these"
        )


def proxy_of_environment(
    host: str, port: int, environ: Mapping[str, str] | None = None
) -> Proxy | None:
    """Return the proxy of the environment for a server; None: the client connects directly.

    NO_PROXY is a list with commas or blanks between its entries: a name (``example.org`` and ``.example.org``
    are that host and all below it), an address, a network (``10.0.0.0/8``), each perhaps with ``:port``; or
    ``*``, all. Names are not resolved. No server is excepted that NO_PROXY does not name, localhost neither.

    Args:
        host: the server's name or address.
        port: the server's.
        environ: None: that of the process.

    Raises:
        BadOptionsError: the variable is no proxy's URL. The text names the variable.
    """
    environ = os.environ if environ is None else environ
    variable, text = _first(ALL_PROXY, environ)
    if not text or _excepted(host, port, _first(NO_PROXY, environ)[1]):
        return None
    return parse_proxy(text, variable, default="http")


def _first(names: tuple[str, ...], environ: Mapping[str, str]) -> tuple[str, str]:
    for name in names:
        text = environ.get(name, "").strip()
        if text:
            return name, text
    return names[0], ""


def _excepted(host: str, port: int, exceptions: str) -> bool:
    entries = exceptions.replace(",", " ").split()
    name = host.lower().rstrip(".")
    return any(_matches(name, port, entry.lower()) for entry in entries)


def _matches(host: str, port: int, entry: str) -> bool:
    """Return whether an entry of NO_PROXY is about a server."""
    from ipaddress import ip_address, ip_network

    if entry == "*":
        return True
    entry, own_port = _split_port(entry)
    if own_port is not None and own_port != port:
        return False
    try:
        number = ip_address(host.partition("%")[0])
    except ValueError:  # a name
        domain = entry.removeprefix("*").strip(".")
        return bool(domain) and (host == domain or host.endswith("." + domain))
    try:
        return number in ip_network(entry, strict=False)
    except ValueError:
        return False


def _split_port(entry: str) -> tuple[str, int | None]:
    """Return an entry without its port, and that port. An address of IPv6 with a port has brackets."""
    if entry.startswith("["):
        address, _, rest = entry[1:].partition("]")
        mask, _, port = rest.partition(":")
        return address + mask, _number(port)
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return name, _number(port)
    return entry, None


def _number(port: str) -> int | None:
    """Return a port; -1, which no server has, for a text that is none."""
    if not port:
        return None
    known = port.isascii() and port.isdigit() and len(port) <= _MOST_DIGITS
    return int(port) if known else -1
