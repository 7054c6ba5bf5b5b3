"""What configurations, options and results of `JetStream` are made of, as TypedDicts: nats.go's names.

They are the wire's JSON. `config` has the tables that the client checks a configuration by; a test compares
them. In a configuration a duration is a timedelta or nanoseconds, in a result always nanoseconds. Times are
RFC 3339. At run time all of these are dicts, and a newer server may add fields.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypedDict

from ..errors import NatsError
from .message import JsMsg

__all__ = [
    "APIStats", "AccountInfo", "AccountLimits", "ClusterInfo", "ConsumeOptions", "ConsumerConfig",
    "ConsumerInfo", "ConsumerList", "ConsumerPauseResult", "ConsumerResetResult",
    "DirectGetBatchOptions", "Duration", "ExternalStream", "FastAck", "FastBatchOptions",
    "FetchOptions", "LostStreamData", "MsgGetOptions", "MsgGetResult", "OrderedConfig",
    "OrderedConsumerConfig", "OrderedFetchOptions", "PeerInfo", "Placement", "PriorityGroupState",
    "PubAck", "PurgeResult", "PushOptions", "RawStreamMsg", "RePublish", "SequenceInfo",
    "StreamAlternate", "StreamConfig", "StreamConsumerLimits", "StreamInfo", "StreamInfoOptions",
    "StreamList", "StreamListOptions", "StreamPurgeOptions", "StreamSource",
    "StreamSourceConsumer", "StreamSourceInfo", "StreamState", "SubjectTransformConfig",
    "Success", "Tier",
]  # fmt: skip

# A timedelta, or nanoseconds.
Duration = timedelta | int
Time = datetime | str

# Streams.


class SubjectTransformConfig(TypedDict, total=False):
    """How subjects are changed: src may have wildcards, dest may refer to them."""

    src: str
    dest: str


class ExternalStream(TypedDict, total=False):
    """Where a source in another account or domain is."""

    api: str
    deliver: str


class StreamSourceConsumer(TypedDict, total=False):
    """The consumer by which a stream reads its source."""

    name: str
    deliver_subject: str


class StreamSource(TypedDict, total=False):
    """A stream that another one copies, as mirror or source."""

    name: str
    opt_start_seq: int | None
    opt_start_time: Time | None
    filter_subject: str | None
    subject_transforms: Sequence[SubjectTransformConfig] | None
    external: ExternalStream | None
    domain: str | None
    consumer: StreamSourceConsumer | None


class Placement(TypedDict, total=False):
    """Which servers a stream should be on."""

    cluster: str
    tags: Sequence[str]
    preferred: str


class RePublish(TypedDict, total=False):
    """Where a stream publishes what it has stored."""

    src: str
    dest: str
    headers_only: bool


class StreamConsumerLimits(TypedDict, total=False):
    """What consumers of a stream may have at most."""

    inactive_threshold: Duration
    max_ack_pending: int


class _StreamName(TypedDict):
    name: str


class StreamConfig(_StreamName, total=False):
    """The configuration of a stream; the name is required."""

    description: str | None
    subjects: Sequence[str] | None
    retention: Literal["limits", "interest", "workqueue"] | None
    max_consumers: int | None
    max_msgs: int | None
    max_bytes: int | None
    max_age: Duration | None
    max_msgs_per_subject: int | None
    max_msg_size: int | None
    discard: Literal["old", "new"] | None
    storage: Literal["file", "memory"] | None
    num_replicas: int | None
    no_ack: bool | None
    duplicate_window: Duration | None
    placement: Placement | None
    mirror: StreamSource | None
    sources: Sequence[StreamSource] | None
    compression: Literal["none", "s2"] | None
    first_seq: int | None
    subject_transform: SubjectTransformConfig | None
    republish: RePublish | None
    allow_direct: bool | None
    mirror_direct: bool | None
    discard_new_per_subject: bool | None
    sealed: bool | None
    deny_delete: bool | None
    deny_purge: bool | None
    allow_rollup_hdrs: bool | None
    consumer_limits: StreamConsumerLimits | None
    allow_msg_ttl: bool | None
    subject_delete_marker_ttl: Duration | None
    allow_msg_counter: bool | None
    allow_atomic: bool | None
    allow_msg_schedules: bool | None
    allow_batched: bool | None
    persist_mode: Literal["", "default", "async"] | None
    metadata: dict[str, str] | None


class LostStreamData(TypedDict, total=False):
    """Messages that a stream's storage has lost."""

    msgs: list[int]
    bytes: int


class _StreamState(TypedDict):
    messages: int
    bytes: int
    first_seq: int
    first_ts: str
    last_seq: int
    last_ts: str
    consumer_count: int


class StreamState(_StreamState, total=False):
    """What a stream holds."""

    num_subjects: int
    subjects: dict[str, int]
    num_deleted: int
    deleted: list[int]
    lost: LostStreamData


class _PeerInfo(TypedDict):
    name: str
    current: bool
    active: int


class PeerInfo(_PeerInfo, total=False):
    """A replica: active is the time in ns since it was heard of."""

    offline: bool
    lag: int
    observer: bool
    peer: str
    pending: bool


class ClusterInfo(TypedDict, total=False):
    """Where a stream or consumer is in a cluster; desired: where it is moving to (nats-server 2.15)."""

    name: str
    leader: str
    replicas: list[PeerInfo]
    raft_group: str
    leader_since: str
    system_account: bool
    traffic_account: str
    desired: dict[str, Any]


class _StreamSourceInfo(TypedDict):
    name: str
    lag: int
    active: int


class StreamSourceInfo(_StreamSourceInfo, total=False):
    """How far a stream has copied another one: active is the time in ns since the last message, or -1."""

    external: ExternalStream
    filter_subject: str
    subject_transforms: list[SubjectTransformConfig]
    error: dict[str, Any]


class StreamAlternate(TypedDict, total=False):
    """A mirror that can be read instead."""

    name: str
    domain: str
    cluster: str


class _StreamInfo(TypedDict):
    config: StreamConfig
    created: str
    state: StreamState


class StreamInfo(_StreamInfo, total=False):
    """What a server tells of a stream."""

    type: str
    did_create: bool
    ts: str
    cluster: ClusterInfo
    mirror: StreamSourceInfo
    sources: list[StreamSourceInfo]
    alternates: list[StreamAlternate]
    total: int
    offset: int
    limit: int
    missing: list[str]


class _StreamList(TypedDict):
    streams: list[StreamInfo]
    total: int


class StreamList(_StreamList, total=False):
    """The infos of all streams; missing are those whose servers have not answered."""

    missing: list[str]


class Success(TypedDict, total=False):
    """The answer to what has no other result."""

    type: str
    success: bool


class PurgeResult(TypedDict, total=False):
    """The answer to a purge; purged is the number of messages."""

    type: str
    success: bool
    purged: int


class _RawStreamMsg(TypedDict):
    subject: str
    seq: int


class RawStreamMsg(_RawStreamMsg, total=False):
    """A stored message as the server sends it: data and hdrs in base64."""

    time: str
    data: str
    hdrs: str


class _MsgGetResult(TypedDict):
    message: RawStreamMsg


class MsgGetResult(_MsgGetResult, total=False):
    """The answer to `stream_msg_get`."""

    type: str


class StreamInfoOptions(TypedDict, total=False):
    """The options of `stream_info`."""

    deleted_details: bool | None
    subjects_filter: str | None
    offset: int | None


class StreamListOptions(TypedDict, total=False):
    """The options of `stream_list` and `stream_names`."""

    subject: str | None


class StreamPurgeOptions(TypedDict, total=False):
    """The options of `stream_purge`."""

    filter: str | None
    seq: int | None
    keep: int | None


class MsgGetOptions(TypedDict, total=False):
    """Which message `get_msg`, `stream_msg_get` and `direct_get` read."""

    seq: int
    last_by_subj: str
    next_by_subj: str
    start_time: Time


class DirectGetBatchOptions(TypedDict, total=False):
    """The options of `direct_get_batch`."""

    batch: int
    max_bytes: int
    seq: int
    start_time: Time
    next_by_subj: str
    multi_last: str | Sequence[str]
    up_to_seq: int
    up_to_time: Time


# Consumers.


class OrderedConfig(TypedDict, total=False):
    """What `ordered_fetcher` takes, and `ordered_consumer` beside the options of `consume`."""

    deliver_policy: (
        Literal["all", "last", "new", "by_start_sequence", "by_start_time", "last_per_subject"]
        | None
    )
    opt_start_seq: int | None
    opt_start_time: Time | None
    filter_subject: str | None
    filter_subjects: Sequence[str] | None
    headers_only: bool | None
    replay_policy: Literal["instant", "original"] | None
    inactive_threshold: Duration | None
    metadata: dict[str, str] | None
    description: str | None
    max_reset_attempts: int | None
    name_prefix: str | None


class ConsumerConfig(TypedDict, total=False):
    """The configuration of a consumer."""

    durable_name: str | None
    name: str | None
    description: str | None
    deliver_policy: (
        Literal["all", "last", "new", "by_start_sequence", "by_start_time", "last_per_subject"]
        | None
    )
    opt_start_seq: int | None
    opt_start_time: Time | None
    ack_policy: Literal["none", "all", "explicit", "flow_control"] | None
    ack_wait: Duration | None
    max_deliver: int | None
    backoff: Sequence[Duration] | None
    filter_subject: str | None
    filter_subjects: Sequence[str] | None
    replay_policy: Literal["instant", "original"] | None
    rate_limit_bps: int | None
    sample_freq: str | None
    max_waiting: int | None
    max_ack_pending: int | None
    flow_control: bool | None
    headers_only: bool | None
    max_batch: int | None
    max_expires: Duration | None
    max_bytes: int | None
    deliver_subject: str | None
    deliver_group: str | None
    idle_heartbeat: Duration | None
    inactive_threshold: Duration | None
    num_replicas: int | None
    mem_storage: bool | None
    direct: bool | None
    sourcing: bool | None
    metadata: dict[str, str] | None
    pause_until: Time | None
    priority_groups: Sequence[str] | None
    priority_policy: Literal["", "none", "overflow", "pinned_client", "prioritized"] | None
    priority_timeout: Duration | None


class _SequenceInfo(TypedDict):
    consumer_seq: int
    stream_seq: int


class SequenceInfo(_SequenceInfo, total=False):
    """How far a consumer is, counted by its deliveries and by the stream's sequences."""

    last_active: str


class PriorityGroupState(TypedDict, total=False):
    """Which client a priority group is pinned to."""

    group: str
    pinned_client_id: str
    pinned_ts: str


class _ConsumerInfo(TypedDict):
    stream_name: str
    name: str
    created: str
    config: ConsumerConfig
    delivered: SequenceInfo
    ack_floor: SequenceInfo
    num_ack_pending: int
    num_redelivered: int
    num_waiting: int
    num_pending: int


class ConsumerInfo(_ConsumerInfo, total=False):
    """What a server tells of a consumer."""

    type: str
    ts: str
    cluster: ClusterInfo
    push_bound: bool
    paused: bool
    pause_remaining: int
    priority_groups: list[PriorityGroupState]


class _ConsumerList(TypedDict):
    consumers: list[ConsumerInfo]
    total: int


class ConsumerList(_ConsumerList, total=False):
    """The infos of a stream's consumers; missing are those whose servers have not answered."""

    missing: list[str]


class ConsumerPauseResult(TypedDict, total=False):
    """The answer to pausing and resuming a consumer; pause_remaining in ns."""

    type: str
    paused: bool
    pause_until: str
    pause_remaining: int


class ConsumerResetResult(ConsumerInfo, total=False):
    """The answer to resetting a consumer: its info, and the sequence to deliver from."""

    reset_seq: int


class OrderedFetchOptions(TypedDict, total=False):
    """The options of `OrderedFetcher.fetch` and `OrderedFetcher.next`."""

    batch: int | None
    max_bytes: int | None
    expires: Duration | None
    no_wait: bool | None
    heartbeat: Duration
    idle_heartbeat: Duration
    on_msg: Callable[[JsMsg], object] | None


class FetchOptions(OrderedFetchOptions, total=False):
    """The options of `fetch` and `next`."""

    id: str
    group: str
    min_pending: int | None
    min_ack_pending: int | None
    priority: int | None


class ConsumeOptions(TypedDict, total=False):
    """The options of `consume`."""

    max_messages: int | None
    max_bytes: int | None
    threshold_messages: int | None
    threshold_bytes: int | None
    expires: Duration | None
    heartbeat: Duration
    idle_heartbeat: Duration
    group: str
    min_pending: int | None
    min_ack_pending: int | None
    priority: int | None
    stop_after: int | None
    on_error: Callable[[NatsError], object] | None


class FastBatchOptions(TypedDict, total=False):
    """The options of `fast_batch`."""

    flow: int | None
    max_outstanding_acks: int | None
    gap_ok: bool | None
    on_error: Callable[[NatsError], object] | None


class PushOptions(TypedDict, total=False):
    """The options of `push_subscribe`."""

    on_start: Callable[[ConsumerInfo], object] | None
    on_error: Callable[[NatsError], object] | None


class OrderedConsumerConfig(OrderedConfig, total=False):
    """What `ordered_consumer` takes."""

    max_messages: int | None
    max_bytes: int | None
    threshold_messages: int | None
    threshold_bytes: int | None
    stop_after: int | None
    expires: Duration | None
    heartbeat: Duration
    idle_heartbeat: Duration
    on_start: Callable[[ConsumerInfo], object] | None
    on_error: Callable[[NatsError], object] | None


# The account.


class AccountLimits(TypedDict, total=False):
    """What an account may use; -1: any number."""

    max_memory: int
    max_storage: int
    max_streams: int
    max_consumers: int
    max_ack_pending: int
    memory_max_stream_bytes: int
    storage_max_stream_bytes: int
    max_bytes_required: bool


class APIStats(TypedDict, total=False):
    """How often an account has called the API."""

    level: int
    total: int
    errors: int
    inflight: int


class _Tier(TypedDict):
    memory: int
    storage: int
    streams: int
    consumers: int
    limits: AccountLimits


class Tier(_Tier, total=False):
    """What an account uses."""

    reserved_memory: int
    reserved_storage: int


class _AccountInfo(Tier):
    api: APIStats


class AccountInfo(_AccountInfo, total=False):
    """What an account uses, in all and by tier."""

    type: str
    domain: str
    tiers: dict[str, Tier]


# Publishing.


class _PubAck(TypedDict):
    stream: str
    seq: int


class PubAck(_PubAck, total=False):
    """The acknowledgement of a message, or of a batch: then batch and count are there."""

    duplicate: bool
    domain: str
    val: str
    batch: str
    count: int


class FastAck(TypedDict):
    """That a message of a `FastBatch` is stored: its number in the batch, and the last one acknowledged."""

    batch_seq: int
    ack_seq: int
