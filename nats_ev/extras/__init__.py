"""What applications build on streams, buckets and requests, ready to use: each small, on public methods only.

Nothing here is loaded by `nats_ev` itself.
"""

from __future__ import annotations

from ..imports import show_as_public
from .large_message import LargeMsg
from .large_messages import LargeMessages, LargeRequest, LargeTransfer
from .large_subscription import LargeSubscription
from .large_wire import (
    LargeMessageCorruptError,
    LargeMessageError,
    LargeMessageLostError,
    LargeMessageNotTakenError,
    LargeMessageNotUnderstoodError,
    LargeMessageRefusedError,
    LargeMessageTooLargeError,
)
from .pcgroups import ConsumerGroups
from .pcgroups_config import (
    ConsumerGroupChangedError,
    ConsumerGroupConfigError,
    ConsumerGroupDeletedError,
    ConsumerGroupError,
    ConsumerGroupExistsError,
    ConsumerGroupNotFoundError,
    ElasticConsumerGroupConfig,
    MemberMapping,
    NotGroupMemberError,
    PartitioningFilter,
    StaticConsumerGroupConfig,
    elastic_get_partition_filters,
    generate_partition_filters,
    static_get_partition_filters,
)
from .pcgroups_member import GroupMember

__all__: list[str] = [
    "ConsumerGroupChangedError",
    "ConsumerGroupConfigError",
    "ConsumerGroupDeletedError",
    "ConsumerGroupError",
    "ConsumerGroupExistsError",
    "ConsumerGroupNotFoundError",
    "ConsumerGroups",
    "ElasticConsumerGroupConfig",
    "GroupMember",
    "LargeMessageCorruptError",
    "LargeMessageError",
    "LargeMessageLostError",
    "LargeMessageNotTakenError",
    "LargeMessageNotUnderstoodError",
    "LargeMessageRefusedError",
    "LargeMessageTooLargeError",
    "LargeMessages",
    "LargeMsg",
    "LargeRequest",
    "LargeSubscription",
    "LargeTransfer",
    "MemberMapping",
    "NotGroupMemberError",
    "PartitioningFilter",
    "StaticConsumerGroupConfig",
    "elastic_get_partition_filters",
    "generate_partition_filters",
    "static_get_partition_filters",
]

show_as_public(globals(), __all__, "nats_ev.extras")
