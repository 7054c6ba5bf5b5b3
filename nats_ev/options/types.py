"""The names of the options with the types that a caller may pass, for annotations."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol, TypedDict

from ..arguments import Milliseconds
from ..errors import NatsError
from ..imports import SSLContext
from ..instrumentation import Instrumentation
from ..loops import Loop
from ..status import ServerState

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


class DialDone(Protocol):
    """What the option dial gets as its last argument, and calls once."""

    def __call__(self, sock: Any = None, err: BaseException | str | None = None) -> None:
        """Hand over a connected socket, or why there is none."""


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
    proxy: str | bool | None
    dial: Callable[[str, int, DialDone], object] | None
    local_address: str | tuple[str, int] | None
    ip_resolution_order: int
    tcp_user_timeout: Milliseconds

    ws_headers: Mapping[str, str | Sequence[str]] | None
    ws_headers_cb: Callable[[], Mapping[str, str | Sequence[str]] | None] | None
    ws_compression: bool
    ws_proxy_path: str | None

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
