"""A stream and a consumer with every field of their configurations set."""

from datetime import timedelta
from typing import Any

ALL_STREAM: dict[str, Any] = {
    "name": "ALL", "description": "all fields", "subjects": ["all.>"], "retention": "limits",
    "max_consumers": 10, "max_msgs": 1000, "max_bytes": 1 << 20, "max_age": timedelta(hours=1),
    "max_msgs_per_subject": 5, "max_msg_size": 1000, "discard": "new", "storage": "memory",
    "num_replicas": 1, "duplicate_window": timedelta(seconds=30), "allow_direct": True,
    "discard_new_per_subject": True, "allow_rollup_hdrs": True, "compression": "none",
    "republish": {"src": "all.>", "dest": "copy.>", "headers_only": True}, "metadata": {"a": "b"},
    "subject_transform": {"src": "all.>", "dest": "all.>"}, "first_seq": 100,
    "consumer_limits": {"inactive_threshold": timedelta(hours=1), "max_ack_pending": 100},
}  # fmt: skip
ALL_CONSUMER: dict[str, Any] = {
    "durable_name": "C", "name": "C", "description": "all fields", "deliver_policy": "by_start_sequence",
    "opt_start_seq": 5, "ack_policy": "explicit", "ack_wait": timedelta(seconds=5), "max_deliver": 4,
    "backoff": [timedelta(seconds=1), timedelta(seconds=2)], "filter_subjects": ["all.a", "all.b"],
    "replay_policy": "instant", "sample_freq": "10%", "max_waiting": 10, "max_ack_pending": 50,
    "headers_only": True, "max_batch": 100, "max_expires": timedelta(minutes=1), "max_bytes": 100_000,
    "inactive_threshold": timedelta(minutes=5), "num_replicas": 1, "mem_storage": True,
    "metadata": {"a": "b"},
}  # fmt: skip
