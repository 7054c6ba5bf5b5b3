"""The bucket of an `ObjectStore` as a whole: its stream (ADR-20) and its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..arguments import Callback
from ..buckets import COMMON_FIELDS, Bucket, Config, completion
from ..errors import NatsError
from .meta import STREAM_PREFIX


class ObjectBucket(Bucket):
    """The part of `ObjectStore` that deals with the bucket."""

    _STREAM_PREFIX = STREAM_PREFIX
    _FIELDS = COMMON_FIELDS

    def create_bucket(
        self, config: Config | Callback | None = None, cb: Callback | None = None
    ) -> None:
        """Create the store; ``cb(stream's info, err)``. With the same configuration it succeeds again.

        config: description, ttl or max_age (ns or a timedelta), max_bytes, storage ("file", "memory"),
        replicas, placement, compression (bool), metadata. `BucketExistsError` when it exists with
        another configuration.
        """
        super().create_bucket(config, cb)

    def seal(self, cb: Callback | None = None) -> None:
        """Let nothing be changed any more, for ever; ``cb(True, err)``."""
        done = completion(self.js, cb)

        def sealed(info: Any, error: NatsError | None) -> None:
            done(True if error is None else None, error)

        self._update_stream({"sealed": True}, sealed)

    def status(self, cb: Callback) -> None:
        """The store's state: ``cb(dict, err)``.

        bytes, sealed, ttl (ns, 0: none), storage, replicas, compressed, description, metadata,
        backing_store; config, as `create_bucket` takes it; stream_info, as the server tells it.
        """
        super().status(cb)

    @classmethod
    def _state(cls, info: Mapping[str, Any]) -> dict[str, Any]:
        return {**super()._state(info), "sealed": bool(info["config"].get("sealed"))}

    def _stream_config(self, config: Config) -> dict[str, Any]:
        return {
            "name": self.stream,
            "subjects": [f"$O.{self.bucket}.C.>", f"$O.{self.bucket}.M.>"],
            "max_age": 0,
            "max_bytes": -1,
            "storage": "file",
            "num_replicas": 1,
            "discard": "new",
            "allow_rollup_hdrs": True,
            "allow_direct": True,
            **self._stream_fields(config),
        }
