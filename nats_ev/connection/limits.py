"""The limits of a connection, by the client's options, by what the server says and by what is going on."""

from __future__ import annotations

from typing import Any

from ..options import Options
from ..protocol import ServerInfo

_LEAST_MESSAGE_LIMIT = 64 * 1024 * 1024
# The options that `set_buffer` looks at.
OF_THE_BUFFER = frozenset(
    {"max_pending_bytes", "reconnect_buffer_size", "slow_consumer_bytes", "max_control_line"}
)


def set_buffer(
    limits: Any, options: Options, *, connected: bool, active: bool, refusing: bool
) -> None:
    """What the write buffer takes: connected; active: or on the way there; refusing: no message at all."""
    limits.held = not connected
    limits.closed = not active or refusing
    limits.slow_mark = options.slow_consumer_bytes
    limits.max_control_line = options.max_control_line
    if connected or not active:
        limits.max_pending = options.max_pending_bytes
    else:
        size = options.reconnect_buffer_size
        # C's 0 is "unlimited", the option's 0 is "nothing": no frame fits in one byte.
        limits.max_pending = 0 if size < 0 else max(1, size)


def max_payload(options: Options, info: ServerInfo | None) -> int:
    """Bytes of headers and payload that may be published in one message; 0: any number."""
    server = info.max_payload if info is not None else None
    return min([n for n in (options.max_payload, server) if n], default=0)


def max_message(options: Options, info: ServerInfo | None) -> int:
    """Bytes of headers and payload that a message may have that comes."""
    if options.max_message_size:
        return options.max_message_size
    return max(_LEAST_MESSAGE_LIMIT, 2 * info.max_payload if info is not None else 0)
