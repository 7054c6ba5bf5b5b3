"""The bucket of a `KV` as a whole: its configuration and its state (ADR-8, 48, 57)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..arguments import Callback, ResultCallback, explained
from ..buckets import (
    COMMON_FIELDS,
    Bucket,
    Config,
    KeyValueConfig,
    KeyValueStatus,
    duplicate_window,
)
from ..errors import BadOptionsError
from ..jetstream import JetStream, StreamInfo, external_source
from .stream import KvStream

MAX_HISTORY = 64


class KvBucket(Bucket[KeyValueConfig, KeyValueStatus]):
    """The part of `KV` that deals with the bucket as a whole."""

    _STREAM_PREFIX = "KV_"
    _FIELDS = {  # noqa: RUF012  annotated in the base
        **COMMON_FIELDS,
        "history": "max_msgs_per_subject",
        "max_history": "max_msgs_per_subject",
        "max_value_size": "max_msg_size",
        "republish": "republish",
        "mirror": "mirror",
        "sources": "sources",
        "limit_marker_ttl": "subject_delete_marker_ttl",
        "allow_msg_ttl": "allow_msg_ttl",
        "allow_atomic": "allow_atomic",
        "allow_batched": "allow_batched",
        "allow_msg_counter": "allow_msg_counter",
    }

    def __init__(self, js: JetStream, bucket: str) -> None:
        super().__init__(js, bucket)
        self._kv_stream = KvStream(js, self.bucket, self.stream)

    @explained(other="a configuration is one dict, as in create_bucket({'history': 5}, cb)")
    def create_bucket(
        self,
        config: KeyValueConfig | ResultCallback[StreamInfo] | None = None,
        cb: ResultCallback[StreamInfo] | None = None,
    ) -> None:
        """Create the bucket; ``cb(stream's info, err)``.

        Succeeds too when the bucket exists with the same configuration; `BucketExistsError` when the bucket
        exists with another one.

        Args:
            config: history or max_history (revisions kept per key, 1 to 64); ttl or max_age (a timedelta
                or ns, after which an entry expires); max_bytes; max_value_size; storage ("file",
                "memory"); replicas; description; placement; republish; compression (bool); metadata;
                limit_marker_ttl (a timedelta or ns, 1 s or more: keys may have a ttl, and the server keeps
                a marker of an expired key for that long; once on, it can't be switched off;
                nats-server 2.11); allow_atomic (`KV.put_many`; nats-server 2.12), allow_batched (fast
                batches of `JetStream`; 2.14), allow_msg_counter (keys are counters, and take no other
                value; 2.12; once on, it can't be switched off); mirror or sources (as of a
                stream; names of buckets get their ``KV_``, and their keys are mapped).
            cb: may be left out; errors then go to the client's on_error.
        """
        super().create_bucket(config, cb)

    def delete_bucket(self, cb: ResultCallback[bool] | None = None) -> None:
        """Delete the bucket and everything in it; ``cb(True, err)``."""
        self._kv_stream.forget()
        super().delete_bucket(cb)

    def status(self, cb: ResultCallback[KeyValueStatus]) -> None:
        """Read the bucket's state; ``cb(dict, err)``.

        The dict has: values (number of entries, history included), history, bytes, ttl and limit_marker_ttl
        (ns; 0: off), storage, replicas, compressed, description, metadata, backing_store; config, as
        `create_bucket` takes it; stream_info, the server's answer.
        """
        super().status(cb)

    @classmethod
    def _state(cls, info: Mapping[str, Any]) -> dict[str, Any]:
        config = info["config"]
        return {
            **super()._state(info),
            "values": info["state"]["messages"],
            "history": config["max_msgs_per_subject"],
            "limit_marker_ttl": config.get("subject_delete_marker_ttl") or 0,
        }

    def _change_stream(self, done: Callback, change: Callable[[Callback], object]) -> None:
        self._kv_stream.change(done, change)

    def _stream_fields(self, config: Config) -> dict[str, Any]:
        fields = super()._stream_fields(config)
        history = fields.get("max_msgs_per_subject")
        if history == 0:
            fields["max_msgs_per_subject"] = 1
        elif history is not None and not 1 <= history <= MAX_HISTORY:
            raise BadOptionsError(f"history must be 1 to {MAX_HISTORY}, not {history!r}")
        marker_ttl = fields.get("subject_delete_marker_ttl")
        if marker_ttl:
            if marker_ttl < 1_000_000_000:
                raise BadOptionsError("limit_marker_ttl must be 1 s or more (in ns)")
            fields["allow_msg_ttl"] = True
        if fields.get("mirror") and fields.get("sources"):
            raise BadOptionsError("a bucket has a mirror or sources, not both")
        if fields.get("mirror"):
            mirror = fields["mirror"] = external_source(fields["mirror"])
            mirror["name"] = _stream_name(mirror.get("name"))
            fields["mirror_direct"] = True
        if fields.get("sources"):
            fields["sources"] = [self._source(external_source(s)) for s in fields["sources"]]
        return fields

    def _source(self, source: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the stream's source for a bucket's source.

        ADR-57: a source is another bucket, unless it says by subject_transforms what else it is.
        """
        if source.get("subject_transforms"):
            return source
        name = _stream_name(source.get("name"))
        bucket = name.removeprefix("KV_")
        result = {**source, "name": name}
        if not source.get("external") or bucket != self.bucket:
            transform = {"src": f"$KV.{bucket}.>", "dest": f"$KV.{self.bucket}.>"}
            result["subject_transforms"] = [transform]
        return result

    def _stream_config(self, config: Config) -> dict[str, Any]:
        fields = self._stream_fields(config)
        stream = {
            "name": self.stream,
            "max_msgs_per_subject": 1,
            "max_bytes": -1,
            "max_age": 0,
            "max_msg_size": -1,
            "storage": "file",
            "num_replicas": 1,
            "max_msgs": -1,
            "max_consumers": -1,
            "discard": "new",
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "allow_direct": True,
            **fields,
        }
        stream["duplicate_window"] = duplicate_window(stream["max_age"])
        if "mirror" not in fields:
            stream["subjects"] = [f"$KV.{self.bucket}.>"]
        return stream


def _stream_name(name: object) -> str:
    """Return the name of a bucket's stream, given that name or the bucket's."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a mirror or source must be str, not {type(name).__name__}")
    return name if name.startswith("KV_") else f"KV_{name}"
