"""The parts of claims as TypedDicts, with the wire's names (nats-io/jwt v2). At run time these are dicts.

Durations are ns on the wire. Where claims are written, a `datetime.timedelta` is taken as well; an int from 1
to 999,999 is refused there, because it was meant in another unit. In limits -1 means: no limit.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, TypedDict

__all__ = [
    "AccountFields",
    "ActivationFields",
    "ClientInformation",
    "ClientTLS",
    "ConnectOptions",
    "Export",
    "ExternalAuthorization",
    "Import",
    "JetStreamLimits",
    "MsgTrace",
    "OperatorFields",
    "OperatorLimits",
    "Permission",
    "Permissions",
    "ResponsePermission",
    "ServerID",
    "ServiceLatency",
    "TimeRange",
    "UserFields",
    "UserPermissionLimits",
    "UserScope",
    "WeightedMapping",
]

Duration = int | timedelta
ExportType = Literal["stream", "service"]


class Permission(TypedDict, total=False):
    """Subjects, wildcards included. A subject to subscribe to may have a queue group after a blank."""

    allow: list[str]
    deny: list[str]


class ResponsePermission(TypedDict, total=False):
    """Permission to answer requests: how many times (-1: no limit), and for how long (ns; 0: 2 minutes)."""

    max: int
    ttl: Duration


class Permissions(TypedDict, total=False):
    """What a user may publish to, subscribe to and answer."""

    pub: Permission
    sub: Permission
    resp: ResponsePermission


class TimeRange(TypedDict):
    """From when to when of each day, as "HH:MM:SS"."""

    start: str
    end: str


class UserPermissionLimits(Permissions, total=False):
    """Permissions and limits of a user, or of the scope of a signing key.

    subs, data and payload limit the subscriptions, the bytes and the size of a payload; src are networks
    ("10.0.0.0/8"), times with times_location (an IANA zone) the hours in which to connect. Connection types
    are STANDARD, WEBSOCKET, LEAFNODE, LEAFNODE_WS, MQTT, MQTT_WS and IN_PROCESS.
    """

    subs: int
    data: int
    payload: int
    src: list[str]
    times: list[TimeRange]
    times_location: str
    bearer_token: bool
    proxy_required: bool
    allowed_connection_types: list[str]


class UserFields(UserPermissionLimits, total=False):
    """The fields of `UserClaims.nats`."""

    issuer_account: str
    tags: list[str]


class ServiceLatency(TypedDict):
    """Where latencies of an exported service are reported, and for how many of 100 requests."""

    sampling: int | Literal["headers"]
    results: str


class Export(TypedDict, total=False):
    """What an account offers to others; token_req: only to those with an activation token."""

    name: str
    subject: str
    type: ExportType
    token_req: bool
    revocations: dict[str, int]
    response_type: Literal["Singleton", "Stream", "Chunked"]
    response_threshold: Duration
    service_latency: ServiceLatency
    account_token_position: int
    advertise: bool
    allow_trace: bool
    description: str
    info_url: str


class Import(TypedDict, total=False):
    """What an account takes from another one; local_subject is its own name for it."""

    name: str
    subject: str
    account: str
    token: str
    to: str
    local_subject: str
    type: ExportType
    share: bool
    allow_trace: bool


class JetStreamLimits(TypedDict, total=False):
    """JetStream of an account; 0 of both storages: none. max_bytes_required: streams need a max_bytes."""

    mem_storage: int
    disk_storage: int
    streams: int
    consumer: int
    max_ack_pending: int
    mem_max_stream_bytes: int
    disk_max_stream_bytes: int
    max_bytes_required: bool


class OperatorLimits(JetStreamLimits, total=False):
    """What the operator allows an account; tiered_limits, by "R1", "R3", stand for those of JetStream."""

    subs: int
    data: int
    payload: int
    imports: int
    exports: int
    wildcards: bool
    disallow_bearer: bool
    conn: int
    leaf: int
    tiered_limits: dict[str, JetStreamLimits]


class WeightedMapping(TypedDict, total=False):
    """Where a mapping leads: weight is a percentage (0: 100), cluster restricts it to one."""

    subject: str
    weight: int
    cluster: str


class UserScope(TypedDict, total=False):
    """A scoped signing key: users that it signs have the template's permissions and limits."""

    kind: Literal["user_scope"]
    key: str
    role: str
    template: UserPermissionLimits
    description: str


class ExternalAuthorization(TypedDict, total=False):
    """The auth callout of an account (ADR-26): its own users, and where it may put others ("*": anywhere)."""

    auth_users: list[str]
    allowed_accounts: list[str]
    xkey: str


class MsgTrace(TypedDict, total=False):
    """Where messages with a sampled traceparent are traced to."""

    dest: str
    sampling: int


class AccountFields(TypedDict, total=False):
    """The fields of `AccountClaims.nats`."""

    imports: list[Import]
    exports: list[Export]
    limits: OperatorLimits
    signing_keys: list[str | UserScope]
    revocations: dict[str, int]
    default_permissions: Permissions
    mappings: dict[str, list[WeightedMapping]]
    authorization: ExternalAuthorization
    trace: MsgTrace
    cluster_traffic: Literal["", "system", "owner"]
    description: str
    info_url: str
    tags: list[str]


class OperatorFields(TypedDict, total=False):
    """The fields of `OperatorClaims.nats`."""

    signing_keys: list[str]
    account_server_url: str
    operator_service_urls: list[str]
    system_account: str
    assert_server_version: str
    strict_signing_key_usage: bool
    tags: list[str]


class ActivationFields(TypedDict, total=False):
    """The fields of `ActivationClaims.nats`: the exported subject, or a part of it, and what kind it is."""

    subject: str
    kind: ExportType
    issuer_account: str
    tags: list[str]


class ServerID(TypedDict, total=False):
    """The server that asks for an authorization; id is its public key."""

    name: str
    host: str
    id: str
    version: str
    cluster: str
    tags: list[str]
    xkey: str


class ClientInformation(TypedDict, total=False):
    """What a server knows about a client that wants to connect."""

    host: str
    id: int
    user: str
    name: str
    tags: list[str]
    name_tag: str
    kind: str
    type: str
    mqtt_id: str
    nonce: str


# By a call, because "pass" is a keyword.
ConnectOptions = TypedDict(
    "ConnectOptions",
    {
        "jwt": str,
        "nkey": str,
        "sig": str,
        "auth_token": str,
        "user": str,
        "pass": str,
        "name": str,
        "lang": str,
        "version": str,
        "protocol": int,
    },
    total=False,
)
ConnectOptions.__doc__ = "What a client has sent in CONNECT, secrets included."


class ClientTLS(TypedDict, total=False):
    """TLS of a client: version and cipher, its certificates as PEM, verified or not."""

    version: str
    cipher: str
    certs: list[str]
    verified_chains: list[list[str]]
