"""Which proxy the environment names for a server: ``ALL_PROXY`` and ``NO_PROXY``, as curl reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .url import Proxy, parse_proxy

# The first one that is set and not empty counts, as for curl.
ALL_PROXY = ("all_proxy", "ALL_PROXY")
NO_PROXY = ("no_proxy", "NO_PROXY")


def from_environment(
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
    return int(port) if port.isascii() and port.isdigit() else -1
