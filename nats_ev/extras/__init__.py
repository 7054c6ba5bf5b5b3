"""What applications build on streams, buckets and requests, ready to use: each small, on public methods only.

Nothing here is loaded by `nats_ev` itself.
"""

from __future__ import annotations

from ..imports import show_as_public
from .backup import (
    Backup,
    Transfer,
)
from .backup_files import (
    BackupError,
)
from .coordination import (
    Acquisition,
    Contender,
    Election,
    LeaseLostError,
    Lock,
    LockClosedError,
    NotReentrantError,
    Observation,
    Semaphore,
)
from .counters import (
    CounterEntry,
    Counters,
    CountersNotEnabledError,
    OutcomeUnknownError,
)
from .dead_letters import (
    DeadLetter,
)
from .large_message import (
    LargeMsg,
)
from .large_messages import (
    LargeMessages,
    LargeRequest,
    LargeTransfer,
)
from .large_subscription import (
    LargeSubscription,
)
from .large_wire import (
    LargeMessageCorruptError,
    LargeMessageError,
    LargeMessageLostError,
    LargeMessageNotTakenError,
    LargeMessageNotUnderstoodError,
    LargeMessageRefusedError,
    LargeMessageTooLargeError,
)
from .pcgroups import (
    ConsumerGroups,
)
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
from .pcgroups_member import (
    GroupMember,
)
from .schedules import (
    Schedule,
    ScheduleDelivery,
    Schedules,
    schedule_delivery,
)
from .work_queue import (
    WorkQueue,
)
from .worker import (
    Job,
    JobRejectedError,
    JobRetryError,
    JobTimeoutError,
    Worker,
)

__all__: list[str] = [
    "Acquisition",
    "Backup",
    "BackupError",
    "ConsumerGroupChangedError",
    "ConsumerGroupConfigError",
    "ConsumerGroupDeletedError",
    "ConsumerGroupError",
    "ConsumerGroupExistsError",
    "ConsumerGroupNotFoundError",
    "ConsumerGroups",
    "Contender",
    "CounterEntry",
    "Counters",
    "CountersNotEnabledError",
    "DeadLetter",
    "ElasticConsumerGroupConfig",
    "Election",
    "GroupMember",
    "Job",
    "JobRejectedError",
    "JobRetryError",
    "JobTimeoutError",
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
    "LeaseLostError",
    "Lock",
    "LockClosedError",
    "MemberMapping",
    "NotGroupMemberError",
    "NotReentrantError",
    "Observation",
    "OutcomeUnknownError",
    "PartitioningFilter",
    "Schedule",
    "ScheduleDelivery",
    "Schedules",
    "Semaphore",
    "StaticConsumerGroupConfig",
    "Transfer",
    "WorkQueue",
    "Worker",
    "elastic_get_partition_filters",
    "generate_partition_filters",
    "schedule_delivery",
    "static_get_partition_filters",
]

show_as_public(globals(), __all__, "nats_ev.extras")
