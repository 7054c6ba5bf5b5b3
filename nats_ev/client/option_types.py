"""The options of a client as a typed signature: what type checkers and editors know of ``Nats(**options)``.

`options.Options` has the defaults and checks; a test compares the two, name by name and type by type.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from ..arguments import Milliseconds
from ..errors import NatsError
from ..instrumentation import Instrumentation
from ..loops import Loop

if TYPE_CHECKING:
    from ssl import SSLContext
else:
    SSLContext = Any  # a client without TLS does not load ssl

Path = str | os.PathLike[str]
# What events call.
EventCallback = Callable[[], object]
ErrorCallback = Callable[[NatsError], object]
SlowConsumerCallback = Callable[[int], object]
ServersCallback = Callable[[list[str]], object]
# Servers are as of `Nats.server_pool`; the result is one of them, its url, or (one of them, ms).
ServerChoice = Callable[[list[dict[str, Any]], "dict[str, Any] | None"], object]
ExpiringCallback = Callable[[float], object]


class ConnectOptions(TypedDict, total=False):
    """The options of a client in the types that a caller may pass, without those that each face sets itself.

    `nats_ev.Nats` explains them. A test compares them with `Options`.
    """

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
    nkey_seed: str | None
    jwt: str | None
    nkey: str | None
    creds_file: Path | None
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
    reconnect_to_cb: ServerChoice | None
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


class NatsOptions(ConnectOptions, total=False):
    """The options of `nats_ev.Nats`, in the types that a caller may pass."""

    servers: str | Sequence[str] | None
    loop: Loop | None
