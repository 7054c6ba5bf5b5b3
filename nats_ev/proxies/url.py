"""The URL of a proxy. No error shows what may be a user or a password."""

from __future__ import annotations

from typing import NamedTuple

from ..arguments import is_unicode
from ..errors import BadOptionsError

_PORTS = {"http": 80, "socks5": 1080, "socks5h": 1080}
# The length of a user and of a password has one byte in SOCKS5.
_MOST_BYTES = 255


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
