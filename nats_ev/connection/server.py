"""One server: its address, its secrets, the URL that names it, and the errors that are about it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Sequence

from .. import errors
from ..arguments import URL_CHARACTERS, is_unicode
from ..errors import BadOptionsError
from ..protocol import State

DEFAULT_PORT = 4222
# Of WebSocket URLs.
_WS_PORT, _WSS_PORT = 80, 443
_MOST_PORT = 65535
_SCHEMES = ("nats", "tls", "ws", "wss")
# Addresses of one name, and servers, that a text shows; the others are counted.
_MOST_SHOWN = 3
# Bytes of what something else than a NATS server has sent.
_MOST_BYTES = 40

_OF_A_SERVER = (
    errors.ConnectError,
    errors.ConnectionLostError,
    errors.ProtocolError,
    errors.ServerError,
)

# A URL, or host:port, of which nothing is encoded. The others are left to urllib.parse.
_PLAIN = re.compile(r"(?:(nats|tls)://)?([A-Za-z0-9._-]+)(?::([0-9]{1,5}))?/?")


class Server:
    """The address of a server, the credentials of its URL, and what past connections to it left."""

    def __init__(
        self, host: str = "", port: int = DEFAULT_PORT, path: str | None = None, tls: bool = False
    ) -> None:
        self.host = host
        self.port = port
        self.path = path
        self.tls = tls
        # WebSocket: whether it is spoken, and the path and query of the HTTP request.
        self.ws = False
        self.target = "/"
        self.user: str | None = None
        self.password: str | None = None
        self.token: str | None = None
        # The name that the certificate must have, if the address is a discovered number.
        self.tls_name: str | None = None
        self.discovered = False
        # What each of our .creds files was refused with the last time, by its place among them.
        self.refusals: dict[int, str] = {}
        self.sent_jwt = False  # in the last attempt
        # When it expires, in seconds since 1970; None: never, or unknown.
        self.auth_expires: float | None = None
        # For `ServerPool.snapshot`.
        self.attempts = 0  # that have failed since the last connection to it
        self.last_error: errors.NatsError | None = None
        self.lame_duck = False  # it has announced its shutdown

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    @property
    def url(self) -> str:
        """The server's URL, without credentials; one of WebSocket without its query, too."""
        if self.path is not None:
            return f"unix://{self.path}"
        if self.ws:
            return f"{'wss' if self.tls else 'ws'}://{self.address}{self._route or ''}"
        return f"{'tls' if self.tls else 'nats'}://{self.address}"

    @property
    def address(self) -> str:
        """Host and port as errors show them, or the path of a Unix socket."""
        if self.path is not None:
            return self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def key(self) -> tuple[str, int, str | None]:
        """What is equal for two entries of the same server."""
        return self.host.lower(), self.port, self._route if self.ws else self.path

    @property
    def _route(self) -> str | None:
        """The path of a WebSocket URL; None without one."""
        path = self.target.partition("?")[0]
        return path if path != "/" else None

    def authority(self, secure: bool) -> str:
        """Return what the header Host names in the request for a WebSocket connection."""
        host = self.host.partition("%")[0]  # an IPv6 zone is local to this machine
        if not host.isascii():
            with contextlib.suppress(UnicodeError):  # a name that only a proxy or `dial` knows
                host = host.encode("idna").decode()
        host = f"[{host}]" if ":" in host else host
        return host if self.port == (_WSS_PORT if secure else _WS_PORT) else f"{host}:{self.port}"


def parse_server(url: str, port: int | None = None) -> Server:
    """Return the server of a URL, a bare host, or host:port.

    Schemes are ``nats://``, ``tls://``, ``unix://``, ``ws://`` and ``wss://``.
    User, password or token before an @ are percent-decoded. Raises `BadOptionsError`, whose text leaves out
    what may be secret in the URL.

    Args:
        url: blanks and line breaks around it are ignored.
        port: of a URL that names no port; None: 4222, with WebSocket 80 or 443.
    """
    text = url.strip()
    if any(c < " " or c == "\x7f" for c in text):  # urlsplit would drop some of them
        raise BadOptionsError("invalid server URL: it contains a control character")
    if not is_unicode(text):
        raise BadOptionsError("invalid server URL: it contains a lone surrogate")
    if text[:7].lower() == "unix://":
        path = text[len("unix://") :]
        if not path:
            raise BadOptionsError("invalid server URL: unix:// without a path")
        return Server(path=os.path.expanduser(path))
    plain = _PLAIN.fullmatch(text)
    if plain is not None and 0 < (own := int(plain[3] or port or DEFAULT_PORT)) <= _MOST_PORT:
        return Server(host=plain[2].lower(), port=own, tls=plain[1] == "tls")
    return _parse_url(text, port)


def _parse_url(text: str, port: int | None) -> Server:
    """Return the server of a URL that may have credentials and an IPv6 address."""
    # With ipaddress 3 ms, which most programs do not need.
    from urllib.parse import urlsplit

    if "://" not in text:
        text = "nats://" + (f"[{text}]" if _is_ipv6(text) else text)
    try:
        parts = urlsplit(text)
        host, own_port = parts.hostname, parts.port
    except ValueError:
        raise _invalid(text) from None
    if parts.scheme not in _SCHEMES:
        raise _invalid(text, "nats, tls, ws, wss or unix, please")
    ws = parts.scheme in ("ws", "wss")
    if not host or own_port == 0 or any(c <= " " or c == "\x7f" for c in host):
        raise _invalid(text)
    if parts.fragment or (not ws and (parts.path not in ("", "/") or parts.query)):
        raise _invalid(text, "no # may follow" if ws else "nothing may follow the port")
    if ":" in host:
        host = _with_plain_zone(host)
    secure = parts.scheme in ("tls", "wss")
    default = (_WSS_PORT if secure else _WS_PORT) if ws else DEFAULT_PORT
    server = Server(host=host, port=own_port or port or default, tls=secure)
    if ws:
        server.ws = True
        server.target = _target(parts.path, parts.query)
    if parts.password is not None:
        server.user = _unquoted(parts.username or "")
        server.password = _unquoted(parts.password)
    elif parts.username:
        server.token = _unquoted(parts.username)
    return server


def server_at(host: str, port: int) -> Server:
    """Return the server of the arguments host and port: a name, an address, or a URL.

    Raises `BadOptionsError`, also if host names another port than port does, unless that is the default.
    """
    if "://" not in host:
        bare = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host
        if ":" in bare and not _is_ipv6(
            bare
        ):  # not shown: what follows the colon may be a password
            raise BadOptionsError(
                "host has a port in it: give it as port=, or host:port as servers="
            )
        if any(c in bare for c in "/?#"):
            raise BadOptionsError(
                "host must be a name, an address, or a URL that begins with nats:// or ws://: "
                f"{bare.partition('?')[0].partition('#')[0]!r}"
            )
        return Server(host=_with_plain_zone(bare) if ":" in bare else bare, port=port)
    ws = host.lower().startswith(("ws://", "wss://"))
    server = parse_server(host, None if ws and port == DEFAULT_PORT else port)
    if server.path is None and port not in (server.port, DEFAULT_PORT):
        raise BadOptionsError(
            f"host names port {server.port}, and port is {port}: give one of them"
        )
    return server


def _target(path: str, query: str) -> str:
    """Return path and query of a URL as an HTTP request has them."""
    from urllib.parse import quote

    return quote((path or "/") + (f"?{query}" if query else ""), safe=URL_CHARACTERS)


def _with_plain_zone(address: str) -> str:
    """Return an IPv6 address whose zone follows a plain %; RFC 6874 writes that as %25."""
    number, _, zone = address.partition("%25")
    return f"{number}%{zone}" if zone else address  # %25 alone is the interface with the number 25


def _unquoted(secret: str) -> str:
    """Return the text of a URL's user, password or token. The error shows nothing of it."""
    from urllib.parse import unquote

    text = unquote(secret, errors="surrogateescape")
    if not is_unicode(text):  # else another password than the given one would be sent
        raise BadOptionsError(
            "invalid server URL: % escapes in a user, password or token must be UTF-8"
        )
    return text


def _invalid(text: str, why: str = "") -> BadOptionsError:
    """Return the error for a URL. What may belong to a user or a password is not shown."""
    scheme, _, rest = text.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in rest[len(authority) :] or (
        "@" in rest and re.search(r"[][]", rest.rpartition("@")[0])
    ):
        hint = "write / as %2F, ? as %3F, # as %23, [ as %5B, ] as %5D in a user, password or token"
        before, _, shown = rest.rpartition("@")
        # After a ? the @ may be one of a query, which may hold a token.
        shown = "…" if "?" in before else shown.partition("?")[0].partition("#")[0]
        return BadOptionsError(f"invalid server URL: {shown!r} ({hint})")
    host = authority.rpartition("@")[2]
    # What follows a colon and is not a number may be a password, if the host is missing or a comma is in it.
    name, colon, port = host.rpartition(":") if host.startswith("[") else host.partition(":")
    if port.isascii() and port.isdigit():
        why = why or ("" if 0 < int(port[:6]) <= _MOST_PORT else f"a port is 1 to {_MOST_PORT}")
    elif colon and not port.endswith("]"):
        host = f"{name}:…"
        why = why or "the port is not a number; a comma in a password is %2C"
    shown = host + rest[len(authority) :] if "@" not in rest else host
    # A query may hold a token, also where the scheme is missing or a wrong one.
    shown = shown.partition("?")[0].partition("#")[0]
    if scheme.lower() not in ("nats", "tls"):
        shown = f"{scheme}://{shown}"
    return BadOptionsError(f"invalid server URL: {shown!r}" + (f" ({why})" if why else ""))


def is_ip(text: str) -> bool:
    """Return whether text is a numeric address; one of IPv6 may have a zone."""
    return _is_address(socket.AF_INET, text) or _is_ipv6(text)


def _is_ipv6(text: str) -> bool:
    address, percent, zone = text.partition("%")
    return (not percent or bool(zone)) and "%" not in zone and _is_address(socket.AF_INET6, address)


def _is_address(family: int, text: str) -> bool:
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True


def locate(error: errors.NatsError, server: Server | None, tried: Sequence[str] = ()) -> None:
    """Let an error of an attempt or a connection name its server, once.

    The text of an -ERR stays as the server has written it; a note below the traceback has the address.

    Args:
        error: gets the attributes `server` and `address`.
        server: None if it is unknown.
        tried: the numeric addresses that its name has led to.
    """
    if server is None or not isinstance(error, _OF_A_SERVER) or error.address:
        return
    error.server, error.address = server.url, server.address
    if isinstance(error, errors.ServerError):
        error.__dict__["__notes__"] = [f"The server is {server.address}."]
        return
    where = server.address
    numbers = [number for number in tried if number != server.host]
    if numbers:
        where += f" ({shown(numbers)})"
    error.args = (f"{where}: {error}",)


def gave_up(
    exhausted: bool, servers: Sequence[Server], last: errors.NatsError | None
) -> errors.NatsError:
    """Return the error for the end of all attempts, with the last attempt's error as its cause.

    Args:
        exhausted: there were max_reconnect_attempts failures; False: no server is left.
        servers: that are known.
        last: None: there was no attempt.
    """
    text = "max reconnect attempts reached" if exhausted else "no servers available for connection"
    addresses = [server.address for server in servers]
    error = errors.NoServersError(
        f"{shown(addresses)}: {text}" if addresses else text,
        address=", ".join(addresses),
        server=", ".join(server.url for server in servers),
    )
    error.__cause__ = last
    return error


def closed_by(error: errors.NatsError) -> errors.NatsError:
    """Return the error of an operation that ends because another error has ended the client."""
    closed = errors.ConnectionClosedError("disconnected")
    closed.__cause__ = error
    return closed


def closed_by_server(state: State | None) -> errors.NatsError:
    """Return the error of an attempt that the server has ended without a word; state: of the session."""
    when = ""
    if state is not None:
        when = " before INFO" if state is State.GREETING else " after CONNECT"
    return errors.ConnectError(f"connection closed by the server{when}")


def timed_out(mute: bool, ws: bool = False) -> errors.NatsError:
    """Return the error of an attempt that takes too long.

    Args:
        mute: the peer has said nothing of NATS.
        ws: by WebSocket.
    """
    speaker = "a server with WebSocket" if ws else "a NATS server"
    hint = f"the peer sends no INFO (is it {speaker}?): " if mute else ""
    return errors.ConnectTimeoutError(f"{hint}connect timeout")


def no_nats(error: errors.ProtocolError) -> None:
    """Let the error of a first line that is no INFO show what the peer has sent."""
    if error.snippet:
        sent = error.snippet.partition(b"\r\n")[0][:_MOST_BYTES]
        error.args = (f"{error}: the peer sent {sent!r}; is it a NATS server?",)


def shown(names: Sequence[str]) -> str:
    """Return a list of names as a text shows it."""
    more = len(names) - _MOST_SHOWN
    return ", ".join(names[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
