"""The bucket of a `KV` as a whole: its stream (ADR-8, 48, 57), and what it is like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..arguments import Callback
from ..buckets import (
    COMMON_FIELDS,
    BadBucketError,
    Bucket,
    Config,
    bucket_error,
    call_or_report,
    duplicate_window,
)
from ..errors import BadOptionsError, NatsError
from ..jetstream import JetStream, external_source

MAX_HISTORY = 64

# An operation that waits until the stream is known: what to do, and whom to tell that it can't be.
Waiting = tuple[Callable[[], object], Callback]


class KvBucket(Bucket):
    """The part of `KV` that deals with the bucket, and that knows what its stream is like."""

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
    }

    def __init__(self, js: JetStream, bucket: str) -> None:
        super().__init__(js, bucket)
        self._bound = False
        self._changes = 0  # of the stream, under way
        self._waiting: list[Waiting] = []
        self._read_prefix = self._write_prefix = f"$KV.{bucket}."
        self._direct = True
        self._has_ttl = False

    def create_bucket(
        self, config: Config | Callback | None = None, cb: Callback | None = None
    ) -> None:
        """Create the bucket; ``cb(stream's info, err)``. With the same configuration it succeeds again.

        config: history or max_history (revisions kept per key, 1 to 64), ttl or max_age (ns or a
        timedelta), max_bytes, max_value_size, storage ("file", "memory"), replicas, description,
        placement, republish, compression (bool), metadata, limit_marker_ttl (ns or a timedelta, 1 s or
        more: keys may have a ttl, and markers tell of keys that have ended by it; nats-server 2.11),
        mirror or sources (as of a stream; bucket names get their ``KV_``, keys are mapped).
        `BucketExistsError` when it exists with another configuration.
        """
        super().create_bucket(config, cb)

    def delete_bucket(self, cb: Callback | None = None) -> None:
        """Delete the bucket and all that is in it; ``cb(True, err)``."""
        self._bound = False
        super().delete_bucket(cb)

    def status(self, cb: Callback) -> None:
        """The bucket's state: ``cb(dict, err)``.

        values (entries, history included), history, bytes, ttl and limit_marker_ttl (ns, 0: none),
        storage, replicas, compressed, description, metadata, backing_store; config, as
        `create_bucket` takes it; stream_info, as the server tells it.
        """
        super().status(cb)

    @classmethod
    def _state(cls, info: Mapping[str, Any]) -> dict[str, Any]:
        config = info["config"]
        return {
            **super()._state(info),
            "values": info["state"]["messages"],
            "history": config["max_msgs_per_subject"],
            "limit_marker_ttl": config.get("subject_delete_marker_ttl", 0),
        }

    # What the stream is like.

    def _when_bound(self, go: Callable[[], object], cb: Callback) -> None:
        """Call go, now or as soon as the stream is known; what goes wrong until then goes to cb."""
        if self._bound:
            go()
            return
        self._waiting.append((go, cb))
        if len(self._waiting) == 1 and not self._changes:
            try:
                self.js.stream_info(self.stream, cb=self._asked)
            except BaseException:
                self._waiting.pop()
                raise

    def _change_stream(self, done: Callback, change: Callable[[Callback], object]) -> None:
        """Change the stream; operations that are called meanwhile wait for that."""

        def changed(info: Any, error: NatsError | None) -> None:
            self._changes -= 1
            if not self._changes and error is None:
                self._bind(info, None)
            elif not self._changes and self._waiting:  # there may be a bucket all the same
                call_or_report(self._bind, lambda: self.js.stream_info(self.stream, cb=self._asked))
            done(info, error)

        self._changes += 1
        try:
            change(changed)
        except BaseException:
            self._changes -= 1
            raise
        self._bound = False

    def _asked(self, info: Any, error: NatsError | None) -> None:
        if not self._changes:  # else the end of the change knows better
            self._bind(info, error)

    def _bind(self, info: Any, error: NatsError | None) -> None:
        waiting, self._waiting = self._waiting, []
        error = bucket_error(error)
        if error is None and info["config"].get("max_msgs_per_subject", 0) < 1:
            error = BadBucketError(f"stream {self.stream} is not a key-value bucket")
        if error is None:
            self._take(info["config"])
        for go, cb in waiting:
            if error is not None:
                self.js.nats.call(cb, None, error)
                continue
            call_or_report(cb, go)

    def _take(self, config: Mapping[str, Any]) -> None:
        self._bound = True
        self._direct = bool(config.get("allow_direct"))
        self._has_ttl = bool(config.get("allow_msg_ttl"))
        mirror = config.get("mirror")
        # A mirror has the subjects of its origin, and only the origin can be written to.
        bucket = mirror["name"].removeprefix("KV_") if mirror else self.bucket
        self._read_prefix = f"$KV.{bucket}."
        # ADR-19: with another prefix or a domain, the server or the account maps what begins with it.
        external = mirror and (mirror.get("external") or {}).get("api")
        api = external or self.js.prefix
        in_api = "" if api == "$JS.API" else f"{api}."
        self._write_prefix = in_api + self._read_prefix

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
        """ADR-57: a source is a bucket, unless subject_transforms say what it is."""
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
    """A stream's name for a bucket's or a stream's."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a mirror or source must be str, not {type(name).__name__}")
    return name if name.startswith("KV_") else f"KV_{name}"
