"""JetStream: streams, consumers, and publishing with acknowledgement (ADR-37)."""

from . import errors
from .advisory import Advisory, decode_advisory
from .batch import AtomicBatch, FastBatch
from .consume import Consume
from .context import JetStream
from .errors import *  # noqa: F403
from .message import JsMsg, Metadata, StoredMsg, parse_ack_reply
from .ordered import OrderedConsumer
from .ordered_fetch import OrderedFetcher
from .push import PushSubscription

__all__ = [
    "Advisory",
    "AtomicBatch",
    "Consume",
    "FastBatch",
    "JetStream",
    "JsMsg",
    "Metadata",
    "OrderedConsumer",
    "OrderedFetcher",
    "PushSubscription",
    "StoredMsg",
    "decode_advisory",
    "parse_ack_reply",
]
__all__ += errors.__all__
