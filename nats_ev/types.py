"""Types for annotations: options, configurations and results as TypedDicts, and those of callbacks.

::

    from nats_ev.types import NatsOptions, Unpack

    def client_of(app: str, **options: Unpack[NatsOptions]) -> Nats:
        return Nats(name=app, **options)

A TypedDict is a dict at run time: nothing is checked or converted by it.
"""

from __future__ import annotations

from .arguments import Milliseconds, Payload, ResultCallback, Unpack
from .client import (
    ConnectOptions,
    ErrorCallback,
    EventCallback,
    NatsOptions,
    RequestCallback,
    ServersCallback,
    SlowConsumerCallback,
    Statistics,
    SubscriptionInfo,
)
from .headers import HeadersLike
from .protocol import MessageCallback

__all__ = [
    "ConnectOptions",
    "ErrorCallback",
    "EventCallback",
    "HeadersLike",
    "MessageCallback",
    "Milliseconds",
    "NatsOptions",
    "Payload",
    "RequestCallback",
    "ResultCallback",
    "ServersCallback",
    "SlowConsumerCallback",
    "Statistics",
    "SubscriptionInfo",
    "Unpack",
]
