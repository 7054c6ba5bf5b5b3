"""The options of a client: names, units, defaults and permitted values.

`Options` holds what ``Nats(**options)`` was given. Each field names its own check, which raises TypeError or
`BadOptionsError`, or returns the value to store; `Options.set` applies the check, and the accessors of `Nats`
set the same fields the same way. Checks that several fields share are in `arguments`, the others in `checks`.
Rules about several options at once are in `Options.from_kwargs`. `NatsOptions` in `types` has the same names.

Times are numbers of milliseconds (`keepalive`: seconds) or `datetime.timedelta`; sizes are bytes. No secret
shows in a repr or in an error's text. The only I/O is that of `creds_file`, whose check reads the file so
that a bad one is refused at the call.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..arguments import OF_NATS_PY, Hook, count, hook_of, milliseconds
from ..errors import BadOptionsError
from ..instrumentation import Instrumentation, observers
from . import checks
from .checks import Check

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(kind: type) -> type:
        """Return a class as it is: only editors take `Options` for a dataclass."""
        return kind


# The C parser counts a frame's bytes in 31 bits. Of these, 8 MiB are left for the frame's control line.
MAX_MESSAGE_SIZE = 2**31 - 1 - 8 * 1024 * 1024


class _Option(NamedTuple):
    default: Any
    check: Check
    secret: bool


def _option(default: Any, check: Check, secret: bool = False) -> Any:
    """Return the declaration of an option: its default and its check; the repr leaves out a secret."""
    return _Option(default, check, secret)


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
    "dial": ("proxy",),
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
    host: str | None = _option(None, checks.as_host, secret=True)
    port: int = _option(4222, checks.between(1, 65535))
    path: str | os.PathLike[str] | None = _option(None, checks.as_socket_path)  # Unix-domain socket
    servers: Sequence[str] | None = _option(
        None, checks.as_urls, secret=True
    )  # see connection.server
    randomize_servers: bool = _option(True, checks.as_flag)
    ignore_discovered_servers: bool = _option(False, checks.as_flag)

    # The connection.
    loop: Any = _option(None, checks.as_loop)  # None: nats_ev.pyev.default_loop()
    connect_timeout: float = _option(2000, milliseconds)  # ms from name resolution to PONG; 0: none
    keepalive: int = _option(0, checks.as_seconds)  # seconds of idleness before TCP probes; 0: off
    priority: int = _option(0, checks.between(-2, 2))  # of the socket's watchers, -2 to 2
    name: str | None = _option(None, checks.as_text)  # shown in the server's monitoring
    # A URL. None: the environment decides (ALL_PROXY, NO_PROXY). "" or False: no proxy
    proxy: str | None = _option(None, checks.as_proxy, secret=True)
    # (host, port, done) calls done(socket) or done(None, err), once, at any time
    dial: Hook = _option(None, hook_of("host", "port", "done"))
    local_address: Any = _option(None, checks.as_local_address)  # an address, or (address, port)
    # Families of addresses, in digits, the preferred one first; 0: as the system's resolver says
    ip_resolution_order: int = _option(0, checks.as_resolution_order)
    tcp_user_timeout: int = _option(0, checks.as_user_timeout)  # ms (Linux); 0: the system's

    # WebSocket: for servers with ws:// or wss://.
    ws_headers: Any = _option(None, checks.as_ws_headers, secret=True)  # of the HTTP request
    ws_headers_cb: Hook = _option(None, hook_of(), secret=True)  # () -> more of them, per attempt
    ws_compression: bool = _option(False, checks.as_flag)  # if the server agrees
    # In place of all URLs' paths. Its query may be a secret.
    ws_proxy_path: str | None = _option(None, checks.as_ws_path, secret=True)

    # Credentials. The callbacks are called at each attempt to connect. The repr of a callback may show the
    # arguments that are bound to it.
    user: str | None = _option(None, checks.as_text)
    password: str | None = _option(None, checks.as_text, secret=True)
    token: str | None = _option(None, checks.as_text, secret=True)
    nkey_seed: str | None = _option(None, checks.as_nkey_seed, secret=True)
    jwt: str | None = _option(None, checks.as_bare, secret=True)
    nkey_seed_file: str | os.PathLike[str] | None = _option(None, checks.as_seed_file)
    nkey: str | None = _option(
        None, checks.as_nkey
    )  # public ("U…"), for signature_cb without a JWT
    # Several are tried in turn: a server that refuses one is asked with the next one.
    creds_file: Any = _option(None, checks.as_creds_file)  # a path or several
    user_credential_bytes: Any = _option(
        None, checks.as_creds_bytes, secret=True
    )  # content of creds files
    creds_cb: Hook = _option(None, hook_of(), secret=True)  # () -> content of a creds file
    user_cb: Hook = _option(None, hook_of(), secret=True)  # () -> (user, password)
    token_cb: Hook = _option(None, hook_of(), secret=True)  # () -> token
    jwt_cb: Hook = _option(None, hook_of(), secret=True)  # () -> jwt
    # (nonce: bytes) -> signature: bytes
    signature_cb: Hook = _option(None, hook_of("nonce"), secret=True)

    # TLS. Any of these requires TLS of every server, unless tls is False.
    tls: bool | None = _option(None, checks.as_optional_flag)
    tls_ca_file: str | os.PathLike[str] | None = _option(None, checks.as_path)
    tls_skip_verify: bool = _option(False, checks.as_flag)
    tls_hostname: str | None = _option(None, checks.as_tls_hostname)
    tls_handshake_first: bool = _option(False, checks.as_flag)
    tls_cert_file: str | os.PathLike[str] | None = _option(None, checks.as_path)
    tls_key_file: str | os.PathLike[str] | None = _option(None, checks.as_path)
    tls_ca: bytes | str | None = _option(None, checks.as_pem)  # PEM, in place of the files
    tls_cert: bytes | str | None = _option(
        None, checks.as_pem, secret=True
    )  # with the key, or tls_key has it
    tls_key: bytes | str | None = _option(None, checks.as_pem, secret=True)
    # Called at each TLS handshake, for PEM.
    root_cas_cb: Hook = _option(None, hook_of(), secret=True)  # () -> authorities
    tls_cert_cb: Hook = _option(None, hook_of(), secret=True)  # () -> certificate and key, or both
    tls_context: Any = _option(
        None, checks.as_tls_context
    )  # an ssl.SSLContext; replaces all of these

    # The protocol.
    verbose: bool = _option(False, checks.as_flag)
    pedantic: bool = _option(False, checks.as_flag)
    echo: bool = _option(True, checks.as_flag)  # receive what this client publishes itself
    no_responders: bool = _option(
        False, checks.as_flag
    )  # requests fail at once when nobody subscribes
    ping_interval: float = _option(120_000, milliseconds)  # ms; 0: no keep-alive PINGs
    max_pings_outstanding: int = _option(2, count)  # unanswered PINGs; 0: any number
    inbox_prefix: str = _option("_INBOX", checks.as_inbox_prefix)
    strict_subjects: bool = _option(
        False, checks.as_flag
    )  # refuse to publish to wildcards and empty tokens

    # Reconnecting.
    reconnect: bool = _option(False, checks.as_flag)
    reconnect_delay: float = _option(2000, milliseconds)  # ms
    max_reconnect_delay: float = _option(30_000, milliseconds)  # ms
    max_reconnect_attempts: int = _option(60, count)  # consecutive failures; 0: unlimited
    retry_on_failed_connect: bool | None = _option(
        None, checks.as_optional_flag
    )  # None: as reconnect
    ignore_auth_error_abort: bool = _option(
        False, checks.as_flag
    )  # try servers again that refused twice
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
    reconnect_buffer_size: int = _option(8 * 1024 * 1024, checks.between(-1, sys.maxsize))
    # Framed bytes that are unsent while connected. 0: unlimited
    max_pending_bytes: int = _option(256 * 1024 * 1024, checks.between(0, sys.maxsize))
    # Headers and payload of an outbound message; the server's own limit counts as well. 0: that one only
    max_payload: int = _option(0, checks.between(0, sys.maxsize))
    # An outbound control line without its CRLF; 4096 is the server's default.
    max_control_line: int = _option(4096, checks.between(64, sys.maxsize))
    # Headers and payload of an inbound message. 0: max(64 MiB, 2 x the server's max_payload)
    max_message_size: int = _option(0, checks.between(0, MAX_MESSAGE_SIZE))
    # Unsent bytes from which on on_slow_consumer is called. 0: never
    slow_consumer_bytes: int = _option(0, checks.between(0, sys.maxsize))

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
        return checks.as_host(host, "host") or "", _CHECKS["port"](port, "port")

    @staticmethod
    def checked_path(path: Any) -> str:
        """Return the checked argument of connect_unix()."""
        found = checks.as_socket_path(path, "path")
        if found is None:
            raise TypeError("path must be str or a path, not None")
        return found

    @staticmethod
    def checked_servers(servers: Any) -> list[str]:
        """Return the checked argument of set_server_pool()."""
        found = checks.as_urls(servers, "servers")
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
