"""`Status`: what a client is doing."""

from __future__ import annotations

from enum import Enum

__all__ = ["Status"]


class Status(str, Enum):
    """What a client is doing; the words are nats.go's."""

    DISCONNECTED = "DISCONNECTED"
    CONNECTING = "CONNECTING"
    CONNECTED = "CONNECTED"
    RECONNECTING = "RECONNECTING"
    DRAINING_SUBS = "DRAINING_SUBS"
    DRAINING_PUBS = "DRAINING_PUBS"
    CLOSED = "CLOSED"
