"""JetStream: streams, consumers, and publishing with acknowledgement (ADR-37).

Files: `jetstream` (the class), `stream`, `direct`, `consumer`, `publish`, `batch`, `advisory`,
`snapshot` (copies of streams), `admin` (clusters) (its methods);
`fetch`, `consume` on `pull`, `ordered`, `ordered_fetch`, `push` (ways to receive); `handle` (the base of what
these return); `message`, `errors` (`feature_errors`); `config` (fields), `store` (storing configurations),
`api` (requests), `answers` (how what servers send becomes values), `types` (for annotations).
"""

from ..imports import show_as_public
from . import errors, feature_errors
from .admin import Convergence
from .advisory import Advisory, decode_advisory
from .answers import attempt as attempt
from .answers import converted as converted
from .answers import later_request as later_request
from .answers import part as part
from .answers import read_json as read_json
from .api import name_of as name_of
from .batch import AtomicBatch, FastBatch
from .config import STREAM as STREAM
from .config import check_fields as check_fields
from .config import external_source as external_source
from .consume import Consume
from .direct import last_of_each as last_of_each
from .direct import stored_message as stored_message
from .direct import subject_of_last as subject_of_last
from .errors import *  # noqa: F403
from .errors import JetStreamError as JetStreamError
from .errors import is_electing as is_electing
from .errors import nobody as nobody
from .feature_errors import *  # noqa: F403
from .fetch import Fetch
from .jetstream import JetStream
from .message import JsMsg, Metadata, StoredMsg, parse_ack_reply
from .ordered_fetch import OrderedFetcher
from .ordered_handle import OrderedConsumer
from .ordered_handle import end_with_drain as end_with_drain
from .ordered_handle import finish_in_drain as finish_in_drain
from .ordered_handle import follow_snapshot as follow_snapshot
from .ordered_handle import messages_left as messages_left
from .publish import publish_checked as publish_checked
from .publish_options import PublishOptions as PublishOptions
from .publish_options import message_headers as message_headers
from .pull import MsgCallback as MsgCallback
from .push import PushSubscription
from .snapshot import Restore, Snapshot, SnapshotError
from .snapshot import StreamBackup as StreamBackup
from .types import *  # noqa: F403

__all__: list[str] = [
    "Advisory",
    "AtomicBatch",
    "Consume",
    "Convergence",
    "FastBatch",
    "Fetch",
    "JetStream",
    "JsMsg",
    "Metadata",
    "OrderedConsumer",
    "OrderedFetcher",
    "PushSubscription",
    "Restore",
    "Snapshot",
    "SnapshotError",
    "StoredMsg",
    "decode_advisory",
    "parse_ack_reply",
]
__all__ += errors.__all__
__all__ += feature_errors.__all__

show_as_public(globals(), __all__)
