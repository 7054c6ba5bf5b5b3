"""What a service tells of itself (ADR-32), as TypedDicts. At run time all of these are dicts."""

from __future__ import annotations

from typing import Any, TypedDict

__all__ = ["EndpointInfo", "EndpointStats", "ServiceIdentity", "ServiceInfo", "ServiceStats"]


class EndpointInfo(TypedDict):
    """An endpoint in the answer to INFO."""

    name: str
    subject: str
    queue_group: str
    metadata: dict[str, str]


class _EndpointStats(TypedDict):
    name: str
    subject: str
    queue_group: str
    num_requests: int
    num_errors: int
    last_error: str
    processing_time: int
    average_processing_time: int


class EndpointStats(_EndpointStats, total=False):
    """An endpoint in the answer to STATS: times in ns; data is what the stats_handler has returned."""

    data: Any


class ServiceIdentity(TypedDict):
    """The answer to PING."""

    type: str
    name: str
    id: str
    version: str
    metadata: dict[str, str]


class ServiceInfo(ServiceIdentity):
    """The answer to INFO."""

    description: str
    endpoints: list[EndpointInfo]


class ServiceStats(ServiceIdentity):
    """The answer to STATS; started is a time in RFC 3339."""

    started: str
    endpoints: list[EndpointStats]
