"""What goes over the wire of JetStream, as tables: for checking traffic against something else than the
client's own lists.

Facts of the published JSON schemas (`io.nats.jetstream.*`), written down anew, except where every
server differs from them: a pull request's batch may be above 256; in events consumer_seq is a number,
replicas are a list, a pinned client's has no server, and a backup's neither blocks nor block_size.

A field is ``name:type``, or ``name!:type`` when it must be there. Types: str, int, uint, bool, time
(RFC 3339), any, words ``a|b``, a list ``[type]``, a map ``{type}``, another table ``@name``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

TABLES = {
    # Configurations.
    "stream_config": """
        name:str description:str subjects:[str] subject_transform:@transform
        retention!:limits|interest|workqueue max_consumers!:int max_msgs!:int max_msgs_per_subject:int
        max_bytes!:int max_age!:uint max_msg_size:int storage!:file|memory compression:none|s2
        first_seq:uint num_replicas!:uint no_ack:bool discard:old|new duplicate_window:uint
        placement:@placement mirror:@source sources:[@source] sealed:bool deny_delete:bool
        deny_purge:bool allow_rollup_hdrs:bool allow_direct:bool allow_atomic:bool
        allow_msg_counter:bool allow_msg_schedules:bool mirror_direct:bool republish:@republish
        discard_new_per_subject:bool metadata:{str} consumer_limits:@limits allow_msg_ttl:bool
        subject_delete_marker_ttl:uint persist_mode:default|async allow_batched:bool""",
    "transform": "src:str dest!:str",
    "placement": "cluster:str tags:[str] preferred:str",
    "source": """
        name!:str opt_start_seq:uint opt_start_time:time filter_subject:str
        subject_transforms:[@transform] external:@external consumer:@consumer_source""",
    "external": "api!:str deliver:str",
    "consumer_source": "name!:str deliver_subject!:str",
    "republish": "src!:str dest!:str headers_only:bool",
    "limits": "inactive_threshold:uint max_ack_pending:int",
    "consumer_config": """
        deliver_policy!:all|last|new|by_start_sequence|by_start_time|last_per_subject
        opt_start_seq:uint opt_start_time:time deliver_group:str deliver_subject:str durable_name:str
        name:str description:str ack_policy!:none|all|explicit|flow_control ack_wait:uint
        max_deliver:int filter_subject:str filter_subjects:[str] replay_policy!:instant|original
        sample_freq:str rate_limit_bps:uint max_ack_pending:int idle_heartbeat:uint flow_control:bool
        max_waiting:int direct:bool headers_only:bool max_batch:int max_expires:uint max_bytes:int
        inactive_threshold:uint backoff:[uint] num_replicas:uint mem_storage:bool metadata:{str}
        pause_until:time priority_groups:[str] priority_timeout:uint
        priority_policy:none|overflow|pinned_client|prioritized""",
    # Requests; a verb that is not here has no body.
    "STREAM.CREATE": "@stream_config",
    "STREAM.UPDATE": "@stream_config",
    "STREAM.INFO": "deleted_details:bool subjects_filter:str offset:uint",
    "STREAM.LIST": "offset!:uint subject:str",
    "STREAM.NAMES": "offset:uint subject:str",
    "STREAM.PURGE": "filter:str seq:uint keep:uint",
    "STREAM.MSG.GET": "seq:uint last_by_subj:str next_by_subj:str start_time:time",
    "STREAM.MSG.DELETE": "seq!:uint no_erase:bool",
    "CONSUMER.CREATE": "stream_name!:str config!:@consumer_config action:create|update|",
    "CONSUMER.LIST": "offset!:uint",
    "CONSUMER.NAMES": "offset!:uint",
    "CONSUMER.PAUSE": "pause_until:time",
    "CONSUMER.UNPIN": "group!:str",
    "CONSUMER.RESET": "seq:uint",
    "CONSUMER.MSG.NEXT": """
        expires:uint batch:uint max_bytes:uint no_wait:bool idle_heartbeat:uint group:str
        min_pending:uint min_ack_pending:uint id:str priority:0|1|2|3|4|5|6|7|8|9""",
    "DIRECT.GET": """
        seq:uint last_by_subj:str next_by_subj:str batch:uint max_bytes:uint start_time:time
        multi_last:[str] up_to_seq:uint up_to_time:time""",
    # Answers.
    "error": "code!:int err_code:uint description:str",
    "account_info_response": """
        memory!:int storage!:int reserved_memory:uint reserved_storage:uint streams!:int
        consumers!:int domain:str limits!:@account_limits tiers:{any} api!:@api_stats""",
    "account_limits": """
        max_memory!:int max_storage!:int max_streams!:int max_consumers!:int max_ack_pending:int
        memory_max_stream_bytes:int storage_max_stream_bytes:int max_bytes_required:bool""",
    "api_stats": "level:uint total!:uint errors!:uint inflight:uint",
    "stream_info": """
        config!:@stream_config state!:@stream_state created!:time ts:time cluster:@cluster
        mirror:@source_info sources:[@source_info] alternates:[any] domain:str""",
    "stream_state": """
        messages!:uint bytes!:uint first_seq!:uint first_ts:time last_seq!:uint last_ts:time
        deleted:[uint] subjects:{uint} num_subjects:uint num_deleted:uint consumer_count!:uint""",
    "cluster": """
        name:str leader:str raft_group:str leader_since:time system_account:bool traffic_account:str
        replicas:[@peer]""",
    "peer": "name!:str current!:bool active!:int offline:bool observer:bool lag:uint",
    "source_info": "name!:str external:@external lag!:uint active!:int filter_subject:str",
    "stream_create_response": "@stream_info did_create:bool",
    "stream_update_response": "@stream_info",
    "stream_info_response": "@stream_info total:uint offset:uint limit:uint",
    "stream_delete_response": "success!:bool",
    "stream_purge_response": "success!:bool purged!:uint",
    "stream_list_response": "total!:uint offset!:uint limit!:uint streams!:[@stream_info]",
    "stream_names_response": "total!:uint offset!:uint limit!:uint streams!:[str]",
    "stream_msg_get_response": "message!:@stored",
    "stored": "subject!:str seq!:uint data:str hdrs:str time!:time",
    "stream_msg_delete_response": "success!:bool",
    "consumer_info": """
        stream_name!:str name!:str ts:time config:@consumer_config created!:time
        delivered!:@sequences ack_floor!:@sequences num_ack_pending!:uint num_redelivered!:uint
        num_waiting!:uint num_pending!:uint cluster:@cluster push_bound:bool paused:bool
        pause_remaining:uint priority_groups:[@group]""",
    "sequences": "consumer_seq!:uint stream_seq!:uint last_active:time",
    "group": "group!:str pinned_client_id:str pinned_ts:time",
    "consumer_create_response": "@consumer_info",
    "consumer_info_response": "@consumer_info",
    "consumer_delete_response": "success!:bool",
    "consumer_list_response": "total!:uint offset!:uint limit!:uint consumers!:[@consumer_info]",
    "consumer_names_response": "total!:uint offset!:uint limit!:uint consumers!:[str]",
    "consumer_pause_response": "paused:bool pause_until:time pause_remaining:uint",
    "consumer_unpin_response": "",
    "consumer_reset_response": "@consumer_info reset_seq!:uint",
    "pub_ack": """
        stream!:str seq!:uint duplicate:bool domain:str batch:str count:uint val:str""",
    # What servers tell by themselves.
    "event": "type!:str id!:str timestamp!:time domain:str account:str",
    "api_audit": """
        server!:str client!:@client subject!:str request:str response!:str""",
    "client": """
        acc:str svc:str user:str name:str lang:str ver:str rtt:int server:str host:str id:uint
        start:time kind:str client_type:str""",
    "stream_action": "stream!:str action!:create|delete|modify template:str",
    "consumer_action": "stream!:str consumer!:str action!:create|delete",
    "consumer_pause": "stream!:str consumer!:str paused!:bool pause_until:time",
    "max_deliver": "stream!:str consumer!:str stream_seq!:uint deliveries!:uint",
    "nak": "stream!:str consumer!:str consumer_seq!:uint stream_seq!:uint deliveries!:uint",
    "terminated": "@nak reason:str",
    "consumer_ack": "@nak ack_time!:uint",
    "consumer_group_pinned": "stream!:str consumer!:str group!:str pinned_id!:str",
    "consumer_group_unpinned": "stream!:str consumer!:str group!:str reason!:str",
    "stream_batch_abandoned": "stream!:str batch!:str reason!:str",
    "stream_leader_elected": "stream!:str leader!:str replicas!:[@peer]",
    "stream_quorum_lost": "stream!:str replicas!:[@peer]",
    "consumer_leader_elected": "stream!:str consumer!:str leader!:str replicas!:[@peer]",
    "consumer_quorum_lost": "stream!:str consumer!:str replicas!:[@peer]",
    "domain_leader_elected": "leader!:str replicas!:[@peer] cluster!:str",
    "snapshot_create": "stream!:str client!:@client",
    "snapshot_complete": "stream!:str start!:time end!:time client!:@client",
    "restore_create": "stream!:str client!:@client",
    "restore_complete": "stream!:str start!:time end!:time bytes!:uint client!:@client",
    "server_out_of_space": "server!:str server_id!:str stream:str cluster:str",
    "server_removed": "server!:str server_id!:str cluster!:str",
    "api_limit_reached": "server!:str dropped!:uint",
}  # fmt: skip

EVENTS = [name for name in TABLES][list(TABLES).index("event") + 1 :]
EVENTS.remove("client")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@lru_cache
def table(name: str) -> dict[str, tuple[bool, str]]:
    """The fields of a table: name → (required, type)."""
    fields: dict[str, tuple[bool, str]] = {}
    for word in TABLES[name].split():
        if word.startswith("@"):
            fields.update(table(word[1:]))
        else:
            field, _, kind = word.partition(":")
            fields[field.removesuffix("!")] = (field.endswith("!"), kind)
    return fields


def problems(value: object, kind: str, strict: bool = False, at: str = "") -> Iterator[str]:
    """How a value differs from its type. strict: fields that are in no table are a problem, too."""
    ok = True
    if kind.startswith("@"):
        yield from _differences(value, table(kind[1:]), strict, at)
    elif kind.startswith("["):
        ok = isinstance(value, list)
        for i, item in enumerate(value if isinstance(value, list) else ()):
            yield from problems(item, kind[1:-1], strict, f"{at}[{i}]")
    elif kind.startswith("{"):
        ok = isinstance(value, dict)
        for key, item in value.items() if isinstance(value, dict) else ():
            yield from problems(item, kind[1:-1], strict, f"{at}.{key}")
    elif kind in ("int", "uint"):
        ok = type(value) is int and (kind == "int" or value >= 0)
    elif kind == "bool":
        ok = isinstance(value, bool)
    elif kind == "str":
        ok = isinstance(value, str)
    elif kind == "time":
        ok = isinstance(value, str) and _TIME.fullmatch(value) is not None
    elif kind != "any":
        ok = str(value) in kind.split("|")
    if not ok:
        yield f"{at}: {value!r} is not {kind}"


def _differences(
    value: object, fields: Mapping[str, tuple[bool, str]], strict: bool, at: str
) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{at}: {value!r} is not an object"
        return
    for name, (required, _) in fields.items():
        if required and name not in value:
            yield f"{at}.{name} is missing"
    for name, item in value.items():
        if name in fields:
            yield from problems(item, fields[name][1], strict, f"{at}.{name}")
        elif strict:
            yield f"{at}.{name} is unknown"


def answer_problems(kind: str, value: Any) -> Iterator[str]:
    """How an answer of the API differs from what it must be: of its type, and a result or an error."""
    if value.get("type") != f"io.nats.jetstream.api.v1.{kind}":
        yield f"{kind}: type {value.get('type')!r}"
    yield from problems(value.get("error", value), "@error" if "error" in value else f"@{kind}")
