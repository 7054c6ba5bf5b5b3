"""JetStream: streams, consumers, and publishing with acknowledgement (ADR-37)."""

from .context import JetStream
from .errors import *  # noqa: F403
from .errors import __all__ as _errors
from .message import JsMsg, Metadata, StoredMsg, parse_ack_reply
from .ordered import OrderedConsumer
from .pull import Consume

__all__ = [
    "Consume",
    "JetStream",
    "JsMsg",
    "Metadata",
    "OrderedConsumer",
    "StoredMsg",
    "parse_ack_reply",
]
__all__ += _errors
