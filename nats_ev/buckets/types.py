"""Configurations and states of buckets, and infos of objects, as TypedDicts with nats.go's names.

At run time all of these are dicts. A test compares them with the tables that the client checks by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from ..headers import HeadersLike
from ..jetstream import Duration, Placement, RePublish, StreamInfo, StreamSource

__all__ = [
    "KeyValueConfig",
    "KeyValueStatus",
    "ObjectInfo",
    "ObjectLink",
    "ObjectMeta",
    "ObjectMetaOptions",
    "ObjectStoreConfig",
    "ObjectStoreStatus",
]


class BucketConfig(TypedDict, total=False):
    """What the configurations of both kinds of buckets have."""

    description: str | None
    ttl: Duration | None
    max_age: Duration | None
    max_bytes: int | None
    storage: Literal["file", "memory"] | None
    replicas: int | None
    num_replicas: int | None
    placement: Placement | None
    compression: bool | Literal["none", "s2"] | None
    metadata: dict[str, str] | None


class ObjectStoreConfig(BucketConfig, total=False):
    """The configuration of an object store. `ObjectStore.create_bucket` explains it."""

    allow_batched: bool | None


class KeyValueConfig(BucketConfig, total=False):
    """The configuration of a key-value bucket. `KV.create_bucket` explains it."""

    history: int | None
    max_history: int | None
    max_value_size: int | None
    republish: RePublish | None
    mirror: StreamSource | None
    sources: Sequence[StreamSource] | None
    limit_marker_ttl: Duration | None
    allow_msg_ttl: bool | None
    allow_atomic: bool | None
    allow_batched: bool | None
    allow_msg_counter: bool | None


class _BucketStatus(TypedDict):
    bucket: str
    bytes: int
    ttl: int
    storage: str
    replicas: int
    compressed: bool
    description: str
    metadata: dict[str, str]
    backing_store: str
    stream_info: StreamInfo


class KeyValueStatus(_BucketStatus):
    """The state of a key-value bucket; ttl and limit_marker_ttl in ns."""

    config: KeyValueConfig
    values: int
    history: int
    limit_marker_ttl: int


class ObjectStoreStatus(_BucketStatus):
    """The state of an object store; ttl in ns."""

    config: ObjectStoreConfig
    sealed: bool


class ObjectLink(TypedDict, total=False):
    """Where a link leads: to an object, or without name to a whole store."""

    bucket: str
    name: str


class ObjectMetaOptions(TypedDict, total=False):
    """What an object is stored with."""

    link: ObjectLink
    max_chunk_size: int


class _ObjectInfo(TypedDict):
    name: str
    bucket: str
    nuid: str
    size: int
    chunks: int
    deleted: bool
    mtime: str
    seq: int


class ObjectInfo(_ObjectInfo, total=False):
    """What a store knows of an object; digest is missing of links and deleted objects."""

    digest: str
    description: str
    headers: dict[str, list[str]]
    metadata: dict[str, str]
    options: ObjectMetaOptions


class ObjectMeta(TypedDict, total=False):
    """What `ObjectStore.update_meta` changes."""

    name: str
    description: str | None
    headers: HeadersLike | None
    metadata: dict[str, str] | None
