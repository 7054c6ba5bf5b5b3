"""The options of a client: names, units, defaults and what is allowed. No I/O, but that `creds_file` is read
to see whether it can be used.

`Options` is what `Nats(**options)` takes; the accessors of `Nats` set the same fields with the same
checks. Numbers of time are milliseconds (`keepalive`: seconds), sizes are bytes; a
`datetime.timedelta` is taken for any time. Secrets never show in a repr or in an error's text.
"""

from __future__ import annotations

import difflib
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

from .arguments import Hook, callable_or_none, count, integer, is_unicode, milliseconds
from .auth import check_creds, check_public, check_seed
from .errors import BadOptionsError, BadSubjectError
from .subjects import check_subscribe

# The parser counts a frame's bytes in 31 bits, and its line may have some megabytes.
MAX_MESSAGE_SIZE = 2**31 - 1 - 8 * 1024 * 1024


def _secret(default: Any = None) -> Any:
    return field(default=default, repr=False)


@dataclass(slots=True)
class Options:
    """All options with their defaults; each group in the order of the manual."""

    # Where to. host or path or servers given: connecting starts at once.
    # A URL may hold a password.
    host: str | None = _secret()
    port: int = 4222
    path: str | None = None  # Unix-domain socket
    servers: Sequence[str] | None = _secret()  # URLs, see connection.server.parse_server
    randomize_servers: bool = True
    ignore_discovered_servers: bool = False

    # The connection.
    loop: Any = None  # default: nats_ev.pyev.default_loop()
    connect_timeout: float = 2000  # ms from name resolution to PONG; 0: none
    keepalive: int = 0  # seconds of idleness before TCP probes; 0: off
    priority: int = 0  # of the socket's watchers, -2 to 2
    name: str | None = None

    # Who we are. The callbacks are asked at every connect.
    user: str | None = None
    password: str | None = _secret()
    token: str | None = _secret()
    nkey_seed: str | None = _secret()
    jwt: str | None = _secret()
    nkey: str | None = None  # public key ("U…") that signature_cb signs for, without a JWT
    creds_file: str | os.PathLike[str] | None = None
    user_cb: Hook = None  # () -> (user, password)
    token_cb: Hook = None  # () -> token
    jwt_cb: Hook = None  # () -> jwt
    signature_cb: Hook = None  # (nonce: bytes) -> signature: bytes

    # TLS. Any of these asks for it, from every server, unless tls is False.
    tls: bool | None = None
    tls_ca_file: str | os.PathLike[str] | None = None
    tls_skip_verify: bool = False
    tls_hostname: str | None = None
    tls_handshake_first: bool = False
    tls_cert_file: str | os.PathLike[str] | None = None
    tls_key_file: str | os.PathLike[str] | None = None
    tls_context: Any = None  # an ssl.SSLContext; replaces the files

    # The protocol.
    verbose: bool = False
    pedantic: bool = False
    echo: bool = True  # receive what this client publishes itself
    no_responders: bool = False  # requests fail at once when nobody listens
    ping_interval: float = 120_000  # ms; 0: no keep-alive PINGs
    max_pings_outstanding: int = 2  # 0: any number
    inbox_prefix: str = "_INBOX"

    # Reconnecting.
    reconnect: bool = False
    reconnect_delay: float = 2000  # ms
    max_reconnect_delay: float = 30_000  # ms
    max_reconnect_attempts: int = 60  # consecutive failures; 0: unlimited
    retry_on_failed_connect: bool | None = None  # None: as reconnect
    ignore_auth_error_abort: bool = False  # ask a server again that has refused us twice
    drain_timeout: float = 30_000  # ms that a drain may take; 0: any time

    # Limits in bytes.
    reconnect_buffer_size: int = 8 * 1024 * 1024  # 0: nothing is queued, -1: unlimited
    max_pending_bytes: int = 256 * 1024 * 1024  # unsent while connected; 0: unlimited
    max_payload: int = 0  # own cap besides the server's; 0: none
    max_control_line: int = 4096  # of what is sent, CRLF excluded; the server's default
    max_message_size: int = 0  # inbound, < 2 GiB; 0: max(64 MiB, 2 x the server's max_payload)
    slow_consumer_bytes: int = 0  # 0: off

    # Callbacks.
    on_connect: Hook = None
    on_disconnect: Hook = None
    on_reconnect: Hook = None
    on_error: Hook = None
    on_lame_duck: Hook = None
    on_slow_consumer: Hook = None
    on_discovered_servers: Hook = None

    @classmethod
    def from_kwargs(cls, kwargs: Mapping[str, Any]) -> Options:
        """Checked options. Raises TypeError (unknown name, wrong type) or `BadOptionsError`."""
        options = cls()
        for name, value in kwargs.items():
            options.set(name, value)
        where = [n for n in ("host", "path", "servers") if getattr(options, n) is not None]
        if len(where) > 1:
            raise BadOptionsError(f"{' and '.join(where)} exclude each other")
        for name, others in _EXCLUSIVE.items():
            clash = [other for other in others if getattr(options, other)]
            if getattr(options, name) is not None and clash:
                raise BadOptionsError(f"{name} and {clash[0]} exclude each other")
        if options.tls_key_file is not None and options.tls_cert_file is None:
            raise BadOptionsError("tls_key_file needs tls_cert_file")
        return options

    def set(self, name: str, value: Any) -> None:
        """Set one option, checked; on an error it keeps its value."""
        check = _CHECKS.get(name)
        if check is None:
            hint = "password" if name == "pass_" else None
            close = [hint] if hint else difflib.get_close_matches(name, _CHECKS, 1)
            raise TypeError(
                f"unknown option {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")
            )
        setattr(self, name, check(value, name))

    def set_all(self, values: Mapping[str, Any]) -> None:
        """Set several, which exist, or on an error none of them."""
        checked = {name: _CHECKS[name](value, name) for name, value in values.items()}
        for name, value in checked.items():
            setattr(self, name, value)

    @staticmethod
    def checked_address(host: Any, port: Any) -> tuple[str, int]:
        """The arguments of connect()."""
        return _host(host, "host") or "", _CHECKS["port"](port, "port")

    @staticmethod
    def checked_path(path: Any) -> str:
        """The argument of connect_unix()."""
        found = _socket_path(path, "path")
        if found is None:
            raise TypeError("path must be str, not None")
        return found

    @staticmethod
    def checked_servers(servers: Any) -> list[str]:
        """The argument of set_server_pool()."""
        found = _urls(servers, "servers")
        if found is None:
            raise TypeError("servers must be a list of URLs, not None")
        return found

    @property
    def connects_at_once(self) -> bool:
        """Whether the options say where to connect to."""
        return self.host is not None or self.path is not None or self.servers is not None

    @property
    def wants_tls(self) -> bool:
        """Whether no server may be spoken to without TLS."""
        if self.tls is not None:
            return self.tls
        return bool(
            self.tls_ca_file is not None
            or self.tls_skip_verify
            or self.tls_hostname
            or self.tls_handshake_first
            or self.tls_cert_file is not None
            or self.tls_key_file is not None
            or self.tls_context is not None
        )


def _text(value: Any, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
    if value and not is_unicode(value):
        raise BadOptionsError(f"{name} must not have lone surrogates")
    return value


def _nkey_seed(value: Any, name: str) -> str | None:
    if _text(value, name):
        check_seed(value)
    return value or None


def _nkey(value: Any, name: str) -> str | None:
    if _text(value, name):
        check_public(value)
    return value or None


def _creds_file(value: Any, name: str) -> str | None:
    path = _path(value, name)
    if path is not None:
        check_creds(path)
    return path


def _tls_context(value: Any, name: str) -> Any:
    # By its looks: nothing down here needs ssl.
    if value is not None and not callable(getattr(value, "wrap_bio", None)):
        raise TypeError(f"{name} must be an ssl.SSLContext, not {type(value).__name__}")
    if value is not None and value.protocol.name == "PROTOCOL_TLS_SERVER":
        raise BadOptionsError(f"{name} must be a client's context")
    return value


def _host(value: Any, name: str) -> str | None:
    host = _text(value, name)
    if host == "":
        raise BadOptionsError(f"{name} must not be empty")
    if host is not None and "@" in host and "://" not in host:  # not shown: there may be a password
        raise BadOptionsError(f"{name} has an @: a URL begins with nats://")
    if host is not None and any(c <= " " or c == "\x7f" for c in host):
        raise BadOptionsError(f"{name} has a blank or control character: {host!r}")
    return host


def _socket_path(value: Any, name: str) -> str | None:
    path = _text(value, name)
    if path == "":
        raise BadOptionsError(f"{name} must not be empty")
    if path is not None and "\0" in path[1:]:  # the kernel would stop there; first, it is abstract
        raise BadOptionsError(f"{name} has a NUL in it: {path!r}")
    return path


def _path(value: Any, name: str) -> str | None:
    # "" for a file means none, as undef does in the manual's language.
    if value is None or value == "":
        return None
    try:
        return os.fspath(value)  # type: ignore[no-any-return]
    except TypeError:
        raise TypeError(f"{name} must be a path, not {type(value).__name__}") from None


def _flag(value: Any, name: str) -> bool:
    if isinstance(value, (bool, int)):
        return bool(value)
    raise TypeError(f"{name} must be a bool, not {type(value).__name__}")


def _optional_flag(value: Any, name: str) -> bool | None:
    return None if value is None else _flag(value, name)


def _between(least: int, most: int) -> Callable[[Any, str], int]:
    return lambda value, name: integer(value, name, least, most)


def _seconds(value: Any, name: str) -> int:
    if isinstance(value, timedelta):
        value = math.ceil(value.total_seconds())
    return integer(value, name, 0, 32767)  # the kernel's bound


def _loop(value: Any, name: str) -> Any:
    """Any binding's: what counts is what a client uses of it."""
    for method in ("io", "timer", "prepare", "async", "update"):
        if value is not None and not callable(getattr(value, method, None)):
            raise TypeError(
                f"{name} must be a loop of pyev or an adapter to one, not {type(value).__name__}: "
                f"it has no {method}()"
            )
    return value


def _urls(value: Any, name: str) -> list[str] | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = value.split(",")
    urls = list(value)
    if not urls:
        raise BadOptionsError(f"{name} must name at least one server")
    for url in urls:
        if not isinstance(url, str):
            raise TypeError(f"{name} must hold str, not {type(url).__name__}")
    return urls


def _inbox_prefix(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
    try:
        check_subscribe(value)
    except BadSubjectError as exc:
        raise BadOptionsError(f"{name}: {exc}") from None
    if "*" in value or ">" in value:
        raise BadOptionsError(f"{name} must not have wildcards: {value!r}")
    return value


# What can't both be meant.
_EXCLUSIVE = {
    "tls_context": ("tls_ca_file", "tls_skip_verify", "tls_cert_file", "tls_key_file"),
    "creds_file": ("nkey_seed", "jwt", "jwt_cb", "signature_cb", "nkey"),
    "nkey_seed": ("signature_cb", "nkey"),
}

_EXPLICIT: dict[str, Callable[[Any, str], Any]] = {
    "host": _host,
    "path": _socket_path,
    "port": _between(1, 65535),
    "servers": _urls,
    "loop": _loop,
    "tls_context": _tls_context,
    "nkey_seed": _nkey_seed,
    "nkey": _nkey,
    "creds_file": _creds_file,
    "keepalive": _seconds,
    "tls": _optional_flag,
    "priority": _between(-2, 2),
    "max_pings_outstanding": count,
    "max_reconnect_attempts": count,
    "retry_on_failed_connect": _optional_flag,
    "reconnect_buffer_size": _between(-1, sys.maxsize),
    "max_pending_bytes": _between(0, sys.maxsize),
    "max_payload": _between(0, sys.maxsize),
    "max_control_line": _between(64, sys.maxsize),
    "max_message_size": _between(0, MAX_MESSAGE_SIZE),
    "slow_consumer_bytes": _between(0, sys.maxsize),
    "inbox_prefix": _inbox_prefix,
}


def _checks() -> dict[str, Callable[[Any, str], Any]]:
    by_default: dict[str, Callable[[Any, str], Any]] = {
        "str | None": _text,
        "bool": _flag,
        "float": milliseconds,
        "Hook": callable_or_none,
        "str | os.PathLike[str] | None": _path,
    }
    return {f.name: _EXPLICIT.get(f.name) or by_default[str(f.type)] for f in fields(Options)}


_CHECKS = _checks()
