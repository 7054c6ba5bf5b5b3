"""The options of a client: names, units, defaults and permitted values.

`Options` holds what ``Nats(**options)`` was given. Each field names its own check, which raises TypeError or
`BadOptionsError`, or returns the value to store; `Options.set` applies the check, and the accessors of `Nats`
set the same fields the same way. Checks that several fields share are in `arguments`; those below are for
one option or for a kind of option. Rules about several options at once are in `Options.from_kwargs`.
`NatsOptions`, at the end, has the same names with the types that a caller may pass, for type checkers.

Times are numbers of milliseconds (`keepalive`: seconds) or `datetime.timedelta`; sizes are bytes. No secret
shows in a repr or in an error's text. The only I/O is that of `creds_file`, whose check reads the file so
that a bad one is refused at the call.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from .arguments import (
    OF_NATS_PY,
    Hook,
    Milliseconds,
    count,
    hook_of,
    integer,
    is_unicode,
    milliseconds,
)
from .auth import (
    check_creds,
    check_creds_text,
    check_public,
    check_seed,
    check_seed_file,
    undecorated,
)
from .errors import BadOptionsError, BadSubjectError, NatsError
from .imports import SSLContext
from .instrumentation import Instrumentation, observers
from .loops import Loop
from .status import ServerState
from .subjects import check_subscribe

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(kind: type) -> type:
        """Return a class as it is: only editors take `Options` for a dataclass."""
        return kind


# The C parser counts a frame's bytes in 31 bits. Of these, 8 MiB are left for the frame's control line.
MAX_MESSAGE_SIZE = 2**31 - 1 - 8 * 1024 * 1024

# (value, name of the option) -> the value to store. Raises TypeError or `BadOptionsError`.
Check = Callable[[Any, str], Any]


class _Option(NamedTuple):
    default: Any
    check: Check
    secret: bool


def _option(default: Any, check: Check, secret: bool = False) -> Any:
    """Return the declaration of an option: its default and its check; the repr leaves out a secret."""
    return _Option(default, check, secret)


def _text(value: Any, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
    if value and not is_unicode(value):
        raise BadOptionsError(f"{name} must not have lone surrogates")
    return value


def _nkey_seed(value: Any, name: str) -> str | None:
    seed = _bare(_decoded(value, name), name)
    if seed is not None:
        check_seed(seed)
    return seed


def _bare(value: Any, name: str) -> str | None:
    """Accept a text with what surrounds it in a file: line breaks, or the lines of a creds file's block."""
    text = _text(value, name)
    return (undecorated(text) or None) if text else None


def _decoded(value: Any, name: str) -> Any:
    """Return the text of bytes; anything else is returned as it is. The error shows nothing of a secret."""
    if not isinstance(value, (bytes, bytearray)):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadOptionsError(f"{name} must be UTF-8") from None


def _nkey(value: Any, name: str) -> str | None:
    key = (_text(value, name) or "").strip()
    if key:
        check_public(key)
    return key or None


def _creds_file(value: Any, name: str) -> str | tuple[str, ...] | None:
    """Accept one path, or several."""
    if isinstance(value, (list, tuple)):
        paths = tuple(path for each in value if (path := _path(each, name)) is not None)
        for path in paths:
            check_creds(path)
        return paths[0] if len(paths) == 1 else paths or None
    single = _path(value, name)
    if single is not None:
        check_creds(single)
    return single


def _creds_bytes(value: Any, name: str) -> tuple[bytes, ...] | None:
    """Accept the content of one creds file, or of several, as bytes or text."""
    contents = value if isinstance(value, (list, tuple)) else [value]
    found = tuple(pem for each in contents if (pem := _content(each, name)) is not None)
    for each in found:
        check_creds_text(each, name)
    return found or None


def _content(value: Any, name: str) -> bytes | None:
    """Accept the content of a file, as bytes or text; None if it is empty."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value) or None
    text = _text(value, name)
    return text.encode() if text else None


def _pem(value: Any, name: str) -> bytes | None:
    pem = _content(value, name)
    if pem is not None and b"-----BEGIN " not in pem:
        raise BadOptionsError(f"{name} must be PEM, the content of a file")
    return pem


def _seed_file(value: Any, name: str) -> str | None:
    path = _path(value, name)
    if path is not None:
        check_seed_file(path)
    return path


def _tls_context(value: Any, name: str) -> Any:
    # Duck-typed, so that a Python without ssl can import this module.
    if value is not None and not callable(getattr(value, "wrap_bio", None)):
        raise TypeError(f"{name} must be an ssl.SSLContext, not {type(value).__name__}")
    if value is not None and value.protocol.name == "PROTOCOL_TLS_SERVER":
        raise BadOptionsError(f"{name} must be a client's context")
    return value


def _host(value: Any, name: str) -> str | None:
    host = _text(value, name)
    if host is None:
        return None
    host = host.strip()
    # A host with one of @ and : in it may be a URL with a password: no text shows it.
    if not host:
        raise BadOptionsError(f"{name} must not be empty")
    if "@" in host and "://" not in host:
        raise BadOptionsError(f"{name} has an @: a URL begins with nats://")
    if any(c <= " " or c == "\x7f" for c in host):
        shown = "" if "@" in host or ":" in host else f": {host!r}"
        raise BadOptionsError(f"{name} has a blank or control character{shown}")
    if "," in host and "@" not in host:
        raise BadOptionsError(f"{name} is one server: give several as servers=")
    return host


def _socket_path(value: Any, name: str) -> str | None:
    if isinstance(value, os.PathLike):
        value = os.fsdecode(value)
    path = _text(value, name)
    if path == "":
        raise BadOptionsError(f"{name} must not be empty")
    if path is not None:
        path = os.path.expanduser(path)
    if path is not None and "\0" in path[1:]:  # a first NUL means an abstract name
        raise BadOptionsError(f"{name} has a NUL in it: {path!r}")
    return path


def _tls_hostname(value: Any, name: str) -> str | None:
    hostname = (_text(value, name) or "").strip()
    if any(c <= " " or c == "\x7f" for c in hostname):
        raise BadOptionsError(f"{name} has a blank or control character: {hostname!r}")
    return hostname or None


def _path(value: Any, name: str) -> str | None:
    # "" means no file, as undef does in Perl, the language of EV::Nats.
    if value is None or value == "":
        return None
    try:
        path: str = os.path.expanduser(os.fspath(value))
    except TypeError:
        raise TypeError(f"{name} must be a path, not {type(value).__name__}") from None
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError:
        raise BadOptionsError(f"{name} has a lone surrogate in it: {path!r}") from None
    if b"\0" in raw:
        raise BadOptionsError(f"{name} has a NUL in it: {path!r}")
    return path


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
    return integer(value, name, 0, 32767)  # Linux refuses a larger TCP_KEEPIDLE


def _loop(value: Any, name: str) -> Any:
    """Accept any object with the methods of pyev's loops that a client uses."""
    for method in ("io", "timer", "prepare", "async", "update"):
        if value is not None and not callable(getattr(value, method, None)):
            hint = ""
            if hasattr(value, "add_reader"):
                hint = "; nats_ev.asyncio_loop.AsyncioLoop is the adapter to loops of asyncio"
            raise TypeError(
                f"{name} must be a loop of pyev or an adapter to one, not {type(value).__name__}: "
                f"it has no {method}(){hint}"
            )
    return value


def _urls(value: Any, name: str) -> list[str] | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = value.split(",")
    urls = list(value)
    for url in urls:
        if not isinstance(url, str):
            raise TypeError(f"{name} must hold str, not {type(url).__name__}")
    # Lists come from files and environments: blanks, line breaks and commas too many mean nothing.
    urls = [stripped for url in urls if (stripped := url.strip())]
    if not urls:
        raise BadOptionsError(f"{name} must name at least one server")
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


# An option, and those that contradict it.
_SIGNERS = ("nkey_seed", "nkey_seed_file", "signature_cb", "nkey")
_CREDS = ("creds_file", "user_credential_bytes", "creds_cb")
_EXCLUSIVE = {
    "tls_context": (
        *("tls_ca_file", "tls_ca", "root_cas_cb", "tls_skip_verify"),
        *("tls_cert_file", "tls_key_file", "tls_cert", "tls_key", "tls_cert_cb"),
    ),
    "tls_ca": ("tls_ca_file",),
    "root_cas_cb": ("tls_ca_file", "tls_ca"),
    "tls_cert": ("tls_cert_file", "tls_key_file"),
    "tls_cert_cb": ("tls_cert_file", "tls_key_file", "tls_cert", "tls_key"),
    "creds_file": (*_SIGNERS, "jwt", "jwt_cb", "user_credential_bytes", "creds_cb"),
    "user_credential_bytes": (*_SIGNERS, "jwt", "jwt_cb", "creds_cb"),
    "creds_cb": (*_SIGNERS, "jwt", "jwt_cb"),
    "nkey_seed": ("nkey_seed_file", "signature_cb", "nkey"),
    "nkey_seed_file": ("signature_cb", "nkey"),
}


# A dataclass for editors that do not know Unpack, such as those with jedi: ``Options(**options)`` in the body
# of a function, though under TYPE_CHECKING, tells them the names. The real one loads inspect and ast, 8 ms.
@dataclass
class Options:
    """All options with their defaults; each group in the order of the manual.

    An option that has not been set is an attribute of the class.
    """

    # Where to connect to. With host, path or servers given, connecting starts at once. host and servers are
    # URLs or may be, and URLs may hold a password.
    host: str | None = _option(None, _host, secret=True)
    port: int = _option(4222, _between(1, 65535))
    path: str | os.PathLike[str] | None = _option(None, _socket_path)  # Unix-domain socket
    servers: Sequence[str] | None = _option(None, _urls, secret=True)  # see connection.server
    randomize_servers: bool = _option(True, _flag)
    ignore_discovered_servers: bool = _option(False, _flag)

    # The connection.
    loop: Any = _option(None, _loop)  # None: nats_ev.pyev.default_loop()
    connect_timeout: float = _option(2000, milliseconds)  # ms from name resolution to PONG; 0: none
    keepalive: int = _option(0, _seconds)  # seconds of idleness before TCP probes; 0: off
    priority: int = _option(0, _between(-2, 2))  # of the socket's watchers, -2 to 2
    name: str | None = _option(None, _text)  # shown in the server's monitoring

    # Credentials. The callbacks are called at each attempt to connect. The repr of a callback may show the
    # arguments that are bound to it.
    user: str | None = _option(None, _text)
    password: str | None = _option(None, _text, secret=True)
    token: str | None = _option(None, _text, secret=True)
    nkey_seed: str | None = _option(None, _nkey_seed, secret=True)
    jwt: str | None = _option(None, _bare, secret=True)
    nkey_seed_file: str | os.PathLike[str] | None = _option(None, _seed_file)
    nkey: str | None = _option(None, _nkey)  # public ("U…"), for signature_cb without a JWT
    # Several are tried in turn: a server that refuses one is asked with the next one.
    creds_file: Any = _option(None, _creds_file)  # a path or several
    user_credential_bytes: Any = _option(None, _creds_bytes, secret=True)  # content of creds files
    creds_cb: Hook = _option(None, hook_of(), secret=True)  # () -> content of a creds file
    user_cb: Hook = _option(None, hook_of(), secret=True)  # () -> (user, password)
    token_cb: Hook = _option(None, hook_of(), secret=True)  # () -> token
    jwt_cb: Hook = _option(None, hook_of(), secret=True)  # () -> jwt
    # (nonce: bytes) -> signature: bytes
    signature_cb: Hook = _option(None, hook_of("nonce"), secret=True)

    # TLS. Any of these requires TLS of every server, unless tls is False.
    tls: bool | None = _option(None, _optional_flag)
    tls_ca_file: str | os.PathLike[str] | None = _option(None, _path)
    tls_skip_verify: bool = _option(False, _flag)
    tls_hostname: str | None = _option(None, _tls_hostname)
    tls_handshake_first: bool = _option(False, _flag)
    tls_cert_file: str | os.PathLike[str] | None = _option(None, _path)
    tls_key_file: str | os.PathLike[str] | None = _option(None, _path)
    tls_ca: bytes | str | None = _option(None, _pem)  # PEM, in place of the files
    tls_cert: bytes | str | None = _option(
        None, _pem, secret=True
    )  # with the key, or tls_key has it
    tls_key: bytes | str | None = _option(None, _pem, secret=True)
    # Called at each TLS handshake, for PEM.
    root_cas_cb: Hook = _option(None, hook_of(), secret=True)  # () -> authorities
    tls_cert_cb: Hook = _option(None, hook_of(), secret=True)  # () -> certificate and key, or both
    tls_context: Any = _option(None, _tls_context)  # an ssl.SSLContext; replaces all of these

    # The protocol.
    verbose: bool = _option(False, _flag)
    pedantic: bool = _option(False, _flag)
    echo: bool = _option(True, _flag)  # receive what this client publishes itself
    no_responders: bool = _option(False, _flag)  # requests fail at once when nobody subscribes
    ping_interval: float = _option(120_000, milliseconds)  # ms; 0: no keep-alive PINGs
    max_pings_outstanding: int = _option(2, count)  # unanswered PINGs; 0: any number
    inbox_prefix: str = _option("_INBOX", _inbox_prefix)
    strict_subjects: bool = _option(False, _flag)  # refuse to publish to wildcards and empty tokens

    # Reconnecting.
    reconnect: bool = _option(False, _flag)
    reconnect_delay: float = _option(2000, milliseconds)  # ms
    max_reconnect_delay: float = _option(30_000, milliseconds)  # ms
    max_reconnect_attempts: int = _option(60, count)  # consecutive failures; 0: unlimited
    retry_on_failed_connect: bool | None = _option(None, _optional_flag)  # None: as reconnect
    ignore_auth_error_abort: bool = _option(False, _flag)  # try servers again that refused twice
    # Where one of these returns None, or what is wrong (on_error gets that), the client's own choice counts.
    # (attempt: int) -> ms before another round over the servers, numbered from 1
    reconnect_delay_cb: Hook = _option(None, hook_of("attempt"))
    # (servers: as of `Nats.server_pool`, info: the last INFO as a dict, or None) -> a server, or (server, ms)
    reconnect_to_cb: Hook = _option(None, hook_of("servers", "info"))
    write_timeout: float = _option(
        60_000, milliseconds
    )  # ms in which no byte is taken; 0: any time
    drain_timeout: float = _option(30_000, milliseconds)  # ms that a drain may take; 0: any time

    # Limits in bytes.
    # Framed bytes that are queued while not connected. 0: none, -1: unlimited
    reconnect_buffer_size: int = _option(8 * 1024 * 1024, _between(-1, sys.maxsize))
    # Framed bytes that are unsent while connected. 0: unlimited
    max_pending_bytes: int = _option(256 * 1024 * 1024, _between(0, sys.maxsize))
    # Headers and payload of an outbound message; the server's own limit counts as well. 0: that one only
    max_payload: int = _option(0, _between(0, sys.maxsize))
    # An outbound control line without its CRLF; 4096 is the server's default.
    max_control_line: int = _option(4096, _between(64, sys.maxsize))
    # Headers and payload of an inbound message. 0: max(64 MiB, 2 x the server's max_payload)
    max_message_size: int = _option(0, _between(0, MAX_MESSAGE_SIZE))
    # Unsent bytes from which on on_slow_consumer is called. 0: never
    slow_consumer_bytes: int = _option(0, _between(0, sys.maxsize))

    # Observers, for metrics and spans. None or a list of them is accepted, too.
    instrumentation: Sequence[Instrumentation] | None = _option(None, observers)

    # Callbacks.
    on_connect: Hook = _option(None, hook_of())
    on_disconnect: Hook = _option(None, hook_of())
    on_reconnect: Hook = _option(None, hook_of())
    on_error: Hook = _option(None, hook_of("err"))
    on_lame_duck: Hook = _option(None, hook_of())
    on_slow_consumer: Hook = _option(None, hook_of("pending_bytes"))
    on_discovered_servers: Hook = _option(None, hook_of("urls"))
    on_auth_expiring: Hook = _option(None, hook_of("seconds"))
    auth_expiring_before: float = _option(60_000, milliseconds)  # ms from that call to the expiry

    def __init__(self, **values: Any) -> None:
        """Make options with values that are not checked."""
        self.__dict__.update(values)

    def __repr__(self) -> str:
        shown = (f"{n}={getattr(self, n)!r}" for n, o in _OPTIONS.items() if not o.secret)
        return f"Options({', '.join(shown)})"

    @classmethod
    def from_kwargs(cls, kwargs: Mapping[str, Any]) -> Options:
        """Return checked options. Raises TypeError (unknown name, wrong type) or `BadOptionsError`."""
        options = cls()
        for name, value in kwargs.items():
            options.set(name, value)
        where = [n for n in ("host", "path", "servers") if getattr(options, n) is not None]
        if len(where) > 1:
            raise BadOptionsError(f"{' and '.join(where)} exclude each other")
        for name in _EXCLUSIVE:
            options._check_alone(name, {})
        if options.tls_key_file is not None and options.tls_cert_file is None:
            raise BadOptionsError("tls_key_file needs tls_cert_file")
        if options.tls_key is not None and options.tls_cert is None:
            raise BadOptionsError("tls_key needs tls_cert")
        return options

    def _check_alone(self, name: str, changes: Mapping[str, Any]) -> None:
        """Raise `BadOptionsError` if an option and another one, as changes leave them, exclude each other."""
        if changes.get(name, getattr(self, name)) is not None:
            for other in _EXCLUSIVE.get(name, ()):
                if changes.get(other, getattr(self, other)):
                    raise BadOptionsError(f"{name} and {other} exclude each other")

    def set(self, name: str, value: Any) -> None:
        """Check and set one option; on an error the option keeps its value.

        Raises TypeError for an unknown name or a wrong type, `BadOptionsError` for a wrong value.
        """
        check = _CHECKS.get(name)
        if check is None:
            hint = OF_NATS_PY.get(name)
            import difflib

            close = [hint] if hint else difflib.get_close_matches(name, _CHECKS, 1)
            raise TypeError(
                f"unknown option {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")
            )
        setattr(self, name, check(value, name))

    def set_all(self, values: Mapping[str, Any]) -> None:
        """Check and set several options, whose names exist; on an error none is changed.

        Raises `BadOptionsError` also if one of them contradicts an option that is set.
        """
        checked = {name: _CHECKS[name](value, name) for name, value in values.items()}
        for name in checked:
            self._check_alone(name, checked)
        for name, value in checked.items():
            setattr(self, name, value)

    @staticmethod
    def checked_address(host: Any, port: Any) -> tuple[str, int]:
        """Return the checked arguments of connect()."""
        return _host(host, "host") or "", _CHECKS["port"](port, "port")

    @staticmethod
    def checked_path(path: Any) -> str:
        """Return the checked argument of connect_unix()."""
        found = _socket_path(path, "path")
        if found is None:
            raise TypeError("path must be str or a path, not None")
        return found

    @staticmethod
    def checked_servers(servers: Any) -> list[str]:
        """Return the checked argument of set_server_pool()."""
        found = _urls(servers, "servers")
        if found is None:
            raise TypeError("servers must be a list of URLs, not None")
        return found

    @property
    def connects_at_once(self) -> bool:
        """Whether a client with these options connects as soon as it is created."""
        return self.host is not None or self.path is not None or self.servers is not None

    @property
    def creds(self) -> tuple[str, ...] | tuple[bytes, ...]:
        """Where credentials are, to be tried in turn: paths, or contents."""
        if self.user_credential_bytes is not None:
            return self.user_credential_bytes  # type: ignore[no-any-return]
        paths = self.creds_file
        return paths if isinstance(paths, tuple) else (paths,) if paths is not None else ()

    @property
    def wants_tls(self) -> bool:
        """Whether the client refuses to talk to a server without TLS."""
        if self.tls is not None:
            return self.tls
        return bool(
            self.tls_ca_file is not None
            or self.tls_skip_verify
            or self.tls_hostname
            or self.tls_handshake_first
            or self.tls_cert_file is not None
            or self.tls_key_file is not None
            or self.tls_ca is not None
            or self.tls_cert is not None
            or self.root_cas_cb is not None
            or self.tls_cert_cb is not None
            or self.tls_context is not None
        )


_OPTIONS: dict[str, _Option] = {n: o for n, o in vars(Options).items() if isinstance(o, _Option)}
for _name, _declared in _OPTIONS.items():
    setattr(Options, _name, _declared.default)
NAMES = tuple(_OPTIONS)
_CHECKS: dict[str, Check] = {name: option.check for name, option in _OPTIONS.items()}


Path = str | os.PathLike[str]
# What events call.
EventCallback = Callable[[], object]
ErrorCallback = Callable[[NatsError], object]
SlowConsumerCallback = Callable[[int], object]
ServersCallback = Callable[[list[str]], object]
ExpiringCallback = Callable[[float], object]
# One of the servers, or its URL, or that with the ms before the attempt; None: as without the callback.
NextServer = ServerState | str | tuple[ServerState | str | None, Milliseconds | None] | None
# What is in a file.
Content = bytes | bytearray | memoryview | str


class CommonOptions(TypedDict, total=False):
    """What `Nats` and all faces take. `nats_ev.Nats` explains them; a test compares them with `Options`."""

    host: str | None
    port: int
    path: Path | None
    randomize_servers: bool
    ignore_discovered_servers: bool

    connect_timeout: Milliseconds
    keepalive: int | timedelta
    priority: int
    name: str | None

    user: str | None
    password: str | None
    token: str | None
    nkey_seed: str | bytes | None
    jwt: str | None
    nkey_seed_file: Path | None
    nkey: str | None
    creds_file: Path | Sequence[Path] | None
    user_credential_bytes: Content | Sequence[Content] | None
    creds_cb: Callable[[], bytes | bytearray | str] | None
    user_cb: Callable[[], tuple[str, str]] | None
    token_cb: Callable[[], str] | None
    jwt_cb: Callable[[], str] | None
    signature_cb: Callable[[bytes], bytes] | None

    tls: bool | None
    tls_ca_file: Path | None
    tls_skip_verify: bool
    tls_hostname: str | None
    tls_handshake_first: bool
    tls_cert_file: Path | None
    tls_key_file: Path | None
    tls_ca: Content | None
    tls_cert: Content | None
    tls_key: Content | None
    root_cas_cb: Callable[[], Content] | None
    tls_cert_cb: Callable[[], Content | tuple[Content, Content]] | None
    tls_context: SSLContext | None

    verbose: bool
    pedantic: bool
    echo: bool
    no_responders: bool
    ping_interval: Milliseconds
    max_pings_outstanding: int
    inbox_prefix: str
    strict_subjects: bool

    reconnect: bool
    reconnect_delay: Milliseconds
    max_reconnect_delay: Milliseconds
    max_reconnect_attempts: int
    retry_on_failed_connect: bool | None
    ignore_auth_error_abort: bool
    reconnect_delay_cb: Callable[[int], Milliseconds | None] | None
    reconnect_to_cb: Callable[[list[ServerState], dict[str, Any] | None], NextServer] | None
    write_timeout: Milliseconds
    drain_timeout: Milliseconds

    reconnect_buffer_size: int
    max_pending_bytes: int
    max_payload: int
    max_control_line: int
    max_message_size: int
    slow_consumer_bytes: int

    instrumentation: Instrumentation | Sequence[Instrumentation] | None

    on_connect: EventCallback | None
    on_disconnect: EventCallback | None
    on_reconnect: EventCallback | None
    on_error: ErrorCallback | None
    on_lame_duck: EventCallback | None
    on_slow_consumer: SlowConsumerCallback | None
    on_discovered_servers: ServersCallback | None
    on_auth_expiring: ExpiringCallback | None
    auth_expiring_before: Milliseconds


class NatsOptions(CommonOptions, total=False):
    """The options of `nats_ev.Nats`, in the types that a caller may pass."""

    servers: str | Sequence[str] | None
    loop: Loop | None
