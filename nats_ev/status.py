"""`Status`: what a client is doing; `ServerState`: what it knows of a server.

A module of its own, because the connection sets the status, the client shows it, and upper layers listen to
its changes by `Nats.add_status_listener`.
"""

from __future__ import annotations

from enum import Enum
from typing import TypedDict

from .errors import NatsError

__all__ = ["Status"]


class Status(str, Enum):
    """What a client is doing; the words are nats.go's."""

    DISCONNECTED = "DISCONNECTED"  # connect() has not been called yet
    CONNECTING = "CONNECTING"  # connect() was called, and the first attempts run
    CONNECTED = "CONNECTED"  # the handshake is done
    RECONNECTING = (
        "RECONNECTING"  # after a loss or failed attempts, another attempt runs or is planned
    )
    DRAINING_SUBS = "DRAINING_SUBS"  # drain(): subscriptions end, requests in flight are awaited
    DRAINING_PUBS = "DRAINING_PUBS"  # drain(): the rest is being sent
    CLOSED = "CLOSED"  # disconnected, drained or given up; connect() is possible again


class ServerState(TypedDict):
    """What `Nats.server_pool` tells of a server."""

    url: str
    connected: bool
    attempts: int
    last_error: NatsError | None
    discovered: bool
    lame_duck: bool
